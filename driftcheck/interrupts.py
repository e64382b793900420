"""Ending in order: what we started elsewhere (a container, a process in one) ends when we are told to."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Those that end a program from outside. SIGHUP comes when a terminal is closed; Windows has none.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_ALL = (signal.SIGINT, *_ENDING)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP run ``finally`` blocks as SIGINT does, and exit with 128 and their number.

    A signal that somebody else handles or ignores (nohup) is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals that come inside take effect at the end: for the moment between making a thing and knowing its name.

    The second one of them does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _ALL}

    def hold(number: int, frame: FrameType | None) -> None:
        if came:
            _deliver(before[number], number, frame)
        came.append((number, frame))

    for number, handler in before.items():
        if handler is not None and handler != signal.SIG_IGN:
            signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        if came:
            number, frame = came[0]
            _deliver(before[number], number, frame)


def _deliver(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        raise SystemExit(128 + number)
