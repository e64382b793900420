"""Signals and progress: what is said, and that things end in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from driftcheck import interrupts, progress

PROGRAM = """
import sys, time
from driftcheck import interrupts
try:
    with interrupts.as_exceptions():
        print('ready', flush=True)
        {body}
finally:
    print('cleaned', flush=True)
"""


def run(body: list[str], *numbers: signal.Signals, pause: float = 0.3) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body="\n        ".join(body))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    for number in numbers:
        time.sleep(pause)
        process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_runs_what_stands_in_finally(number: signal.Signals, code: int) -> None:
    assert run(["time.sleep(60)"], number) == (code, "cleaned\n")


def test_a_signal_waits_for_the_end_of_what_must_not_be_torn() -> None:
    body = ["with interrupts.held_back():", "    time.sleep(1.5)", "    print('whole')", "print('never')"]
    assert run(body, signal.SIGTERM) == (143, "whole\ncleaned\n")
    assert run(body, signal.SIGINT)[1] == "whole\ncleaned\n"


def test_the_second_signal_does_not_wait() -> None:
    body = ["with interrupts.held_back():", "    time.sleep(60)", "    print('whole')"]
    code, out = run(body, signal.SIGTERM, signal.SIGTERM)
    assert (code, out) == (143, "cleaned\n")


def test_a_handler_of_somebody_else_stays() -> None:
    mine = lambda *_: None  # noqa: E731
    before = signal.signal(signal.SIGTERM, mine)
    try:
        with interrupts.as_exceptions():
            assert signal.getsignal(signal.SIGTERM) is mine
        with interrupts.held_back():
            pass
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


# --- progress


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.during("Measuring"):
        progress.step("Reading", "1 of 2")
    assert capsys.readouterr().err == ""


def test_a_log_gets_one_line_a_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.1)
    with progress.during("Measuring \x1b[31m"):
        time.sleep(0.5)
        for number in range(8):
            progress.step("Taking out", f"{number} MB")
            time.sleep(0.1)
    assert capsys.readouterr().err == "Measuring \N{REPLACEMENT CHARACTER}[31m ...\nTaking out ...\n"


def test_a_terminal_gets_one_line_that_goes_away(tmp_path: Path) -> None:
    import os  # noqa: PLC0415
    import pty  # noqa: PLC0415

    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom driftcheck import progress\n"
        "with progress.during('Measuring'):\n    progress.step('Taking out', '5 MB')\n    time.sleep(1.6)\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, str(script)], stderr=theirs) as process:
        os.close(theirs)
        process.wait(30)
        said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "Taking out: 5 MB (1 s)" in said
    assert said.endswith("\r\x1b[K")
    assert "\n" not in said
