"""Runs a part of the measurement in a fork of this process, while this one goes on with the rest.

A fork and no thread: what is measured is Python code and small system calls, which threads would do in turn.
"""

import json
import os
import signal
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

# The fork ends by then (seconds), whatever it meets; the watchdog of the boot text is a thread and stays behind.
TIME_LIMIT = 120


def possible() -> "bool":
    """Whether there is a second processor for it, and a fork does no harm.

    Start-up files of the environment that brought ``threading`` may hold locks, or have registered code of theirs
    that a fork would run; neither Python's own start nor the probes import it.
    """
    try:
        return len(os.sched_getaffinity(0)) > 1 and "threading" not in sys.modules  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):
        return False  # no Linux, or not allowed to ask


class Aside:
    """The JSON value of ``work()``, made meanwhile in a fork; in this process where there is no fork to be had."""

    def __init__(self, work: "Callable[[], Any]") -> "None":
        self._work = work
        self._child = None  # type: Optional[int]
        try:
            self._answer, back = os.pipe()
        except OSError:
            return
        try:
            with warnings.catch_warnings():
                # Python 3.12 warns of a second thread: the watchdog of the boot text, which holds no lock.
                warnings.simplefilter("ignore")
                self._child = os.fork()
        except OSError:  # as many processes as are allowed
            os.close(self._answer)
        if self._child == 0:
            self._measure(back)
        os.close(back)

    def _measure(self, back: "int") -> "None":
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(TIME_LIMIT)
            # Who waits for the end of our output does not wait for this process.
            nothing = os.open(os.devnull, os.O_RDWR)
            for handle in (0, 1, 2):
                os.dup2(nothing, handle)
            data = json.dumps(self._work()).encode("ascii")
            while data:
                data = data[os.write(back, data) :]
        finally:
            os._exit(0)  # what the environment wants to do at the end is for the other process

    def result(self) -> "Any":
        """What ``work()`` returned, there or, where that process gave no whole answer, here."""
        if self._child is None:
            return self._work()
        with os.fdopen(self._answer, "rb") as answer:
            text = answer.read().decode("ascii")
        try:
            os.waitpid(self._child, 0)
        except OSError:
            pass  # SIGCHLD is ignored here, and the system has waited
        try:
            return json.loads(text)
        except ValueError:
            return self._work()
