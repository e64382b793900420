"""Says on standard error what takes longer than a second.

On a terminal one line, with the seconds, which goes away at the end; elsewhere (a CI log) one plain line a step.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

# Nothing is said of what ends before this, in seconds.
PATIENCE = 1.0


class _Line:
    def __init__(self) -> None:
        self.text = ""
        self.detail = ""
        self.since = time.monotonic()
        self.said = ""
        self.shown = False
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(max(0.2, PATIENCE - (time.monotonic() - self.since))):
            with contextlib.suppress(OSError, ValueError):
                self.show()

    def show(self) -> None:
        seconds = time.monotonic() - self.since
        text = self.text
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}{self.detail} ({seconds:.0f} s)")
            self.shown = True
        elif text != self.said:
            sys.stderr.write(f"{text} ...\n")
            self.said = text
        sys.stderr.flush()

    def clear(self) -> None:
        if self.shown:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()


_current: _Line | None = None


@contextlib.contextmanager
def during(text: str) -> Iterator[None]:
    """Say ``text`` if the block takes longer than ``PATIENCE``."""
    global _current  # noqa: PLW0603 - there is one standard error
    line = _Line()
    line.text = _printable(text)
    before, _current = _current, line
    thread = threading.Thread(target=line.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        _current = before
        line.ended.set()
        thread.join(1)
        line.clear()


def step(text: str, detail: str = "") -> None:
    """What goes on now, inside of ``during``; it is said if it is still going on when the line is next written.

    ``detail`` is how far it is, for a terminal: a log would fill up with it.
    """
    if _current is not None:
        _current.text = _printable(text)
        _current.detail = f": {_printable(detail)}" if detail else ""


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)[:200]
