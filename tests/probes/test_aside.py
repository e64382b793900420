"""A part of the measurement in a process of its own: the same answer, whatever becomes of that process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from driftcheck.probes import aside

from driftcheck.collect import Interpreter, Request, SubprocessChannel, collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.snapshot import Section

# Only Linux tells on how many processors a process may run.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a Linux system")

HERE = os.getpid()


def test_the_work_is_done_in_another_process_which_is_gone_afterwards() -> None:
    assert aside.Aside(os.getpid).result() != HERE
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_value_that_no_pipe_holds_at_once() -> None:
    value = {"a": ["\udcff", None, 1.5] * 100_000}
    assert aside.Aside(lambda: value).result() == value


def test_what_the_work_prints_is_no_part_of_our_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert aside.Aside(lambda: os.write(1, b"out") + os.write(2, b"errors")).result() == 9
    assert capfd.readouterr() == ("", "")


def killed() -> int:
    if os.getpid() != HERE:
        os.kill(os.getpid(), signal.SIGKILL)
    return HERE


def refused() -> int:
    if os.getpid() != HERE:
        raise MemoryError
    return HERE


@pytest.mark.parametrize("work", [killed, refused])
def test_a_process_without_an_answer_is_made_up_for(work: Callable[[], int]) -> None:
    assert aside.Aside(work).result() == HERE


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_where_no_process_is_to_be_had(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse() -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = open_files()
    monkeypatch.setattr(os, call, refuse)
    assert aside.Aside(os.getpid).result() == HERE
    assert open_files() == before


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_one_processor_or_start_up_files_with_threads_forbid_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert not aside.possible()  # pytest imports threading
    monkeypatch.delitem(sys.modules, "threading")
    assert aside.possible()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert not aside.possible()
    monkeypatch.delattr(os, "sched_getaffinity")
    assert not aside.possible()


def test_the_facts_are_those_of_one_process() -> None:
    allowed = os.sched_getaffinity(0)
    together = sections()
    os.sched_setaffinity(0, {min(allowed)})
    try:
        alone = sections()
    finally:
        os.sched_setaffinity(0, allowed)
    # How many processors there are is itself a fact.
    assert alone.pop("limits") is not together.pop("limits")
    assert alone == together


def sections() -> dict[str, Section]:
    request = Request("python:test")
    return dict(collect(SubprocessChannel(), Interpreter(sys.executable, "the test names it"), request).sections)
