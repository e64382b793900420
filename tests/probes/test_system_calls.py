"""What clone3 is answered. The answer of an old filter is in tests/environments/test_start_commands.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from driftcheck.probes import system_calls


@pytest.mark.parametrize(
    ("libc", "asked"), [("glibc 2.36", True), ("glibc 2.34", True), ("glibc 2.31", False), ("", False), ("x y", False)]
)
def test_only_a_c_library_that_uses_it_is_asked_about(monkeypatch: pytest.MonkeyPatch, libc: str, asked: bool) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: libc)
    answer = system_calls.clone3()
    assert (answer is not None) == (asked and sys.platform == "linux")


def test_the_answer_is_one_of_three_and_nothing_is_started() -> None:
    before = {task.name for task in Path("/proc/self/task").iterdir()}
    assert system_calls.clone3() in {"allowed", "EPERM", "ENOSYS", None}
    assert {task.name for task in Path("/proc/self/task").iterdir()} == before
