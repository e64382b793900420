"""The exit codes, as the README lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftcheck.report.model import Report

CLEAN = 0
FOUND = 1
WRONG = 2
INCOMPLETE = 3
FAULT = 4
INTERRUPTED = 130


def exit_code(report: Report) -> int:
    """What a report comes to. A rule that failed may have hidden anything, so it is said first of all."""
    if report.faults():
        return FAULT
    if report.failing():
        return FOUND
    if report.incomplete():
        return INCOMPLETE
    return CLEAN
