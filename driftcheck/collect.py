"""Runs the payload in an interpreter and takes its answer: one snapshot, or one clear error.

The interpreter and everything that it prints are hostile: the answer stands between random cookies that the
interpreter reads from standard input, its size and its time are bounded, and it is validated like any file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from driftcheck import payload, validation
from driftcheck.errors import InputError
from driftcheck.interrupts import held_back
from driftcheck.probes.redaction import Redactor, redact_secrets
from driftcheck.snapshot import Snapshot, parse

# Far above the largest honest answer (0.5 MB) and the slowest honest disk.
SIZE_LIMIT = 64 << 20
TIME_LIMIT = 120.0

# Where the variables of a container's measurement may come from.
ENVIRONMENT_SOURCES = frozenset({"service process", "image", "exec"})

# How much of standard error is kept, to quote its last line when there is no answer.
_ERRORS_KEPT = 1 << 16


@dataclass(frozen=True)
class Interpreter:
    """An interpreter to ask, as the channel's other end names it, and why this one."""

    path: str
    reason: str


@dataclass(frozen=True)
class Request:
    """What the payload is told: how the user named the environment, and what is measured only when asked for.

    ``image_config``  what an image or a container says of its start (``probes/service.py``)
    ``header``        what is known of the environment from outside, for the header of the snapshot
    ``try_imports``   modules that are really imported over there (``probes/imports.py``)
    ``artifacts``     model files to read over there (``probes/artifacts.py``)
    """

    reference: str
    label: str | None = None
    variables: Sequence[str] = ()
    image_config: Mapping[str, Any] | None = None
    header: Mapping[str, Any] = field(default_factory=dict)
    try_imports: Sequence[str] = ()
    artifacts: Sequence[str] = ()


@dataclass(frozen=True)
class Service:
    """What is known of the service in a container, for ``probes/scout.py``, which runs before the payload does.

    ``choose``  whether it looks for the service's interpreter; else it keeps the one it runs in
    ``config``  the image configuration: entry point, command, working directory
    ``pid``     the service's first process as its container numbers it, where it runs and can be seen
    """

    choose: bool
    config: Mapping[str, Any]
    pid: int | None = None


@dataclass(frozen=True)
class Output:
    """What came back from one run of a program: at most ``SIZE_LIMIT`` bytes, and how it ended."""

    stdout: bytes
    stderr: bytes
    returncode: int
    cut: str | None = None  # why it was ended early


class Channel(Protocol):
    """Carries a program to an interpreter and its answer back: a subprocess, an engine's exec, ssh."""

    @property
    def name(self) -> str: ...

    def run(self, argv: Sequence[str], stdin: bytes) -> Output:
        """Run ``argv`` over there with ``stdin``, within the limits of this module.

        Raises:
            InputError: when it cannot be started.
        """
        ...


def collect(channel: Channel, interpreter: Interpreter, request: Request, service: Service | None = None) -> Snapshot:
    """Measure the environment of ``interpreter``.

    With ``service`` the scout runs first, in ``interpreter``: it hands over to the interpreter of the service, with
    the environment of the service's process where that may be read.

    Raises:
        InputError: when the interpreter does not start, does not answer in time, or answers with something else
            than a snapshot. The message names the interpreter.
    """
    cookies = (secrets.token_hex(16), secrets.token_hex(16))
    local = isinstance(channel, SubprocessChannel)
    program = payload.channel_payload(
        {
            "cookies": cookies,
            "reference": redact_secrets(request.reference),
            "label": request.label,
            "variables": list(request.variables),
            "channel": channel.name,
            "interpreter_reason": interpreter.reason,
            "image_config": request.image_config,
            "try_imports": list(request.try_imports),
            "artifacts": list(request.artifacts),
            # Elsewhere processes may be counted (a container's pids.max), and one that outlives us is not ended.
            "beside": local,
        },
        compiled=local,
    )
    boot = payload.boot(program, TIME_LIMIT)
    threading.Thread(target=validation.prepare, args=("snapshot",)).start()  # while the answer is awaited
    if service is None:
        output = channel.run([interpreter.path, "-c", boot], program)
        where = interpreter.path if local else f"{request.reference}: {interpreter.path}"
        return _snapshot(output, cookies, where, request.header)
    marks = (secrets.token_hex(16), secrets.token_hex(16))
    scout = payload.scout_payload(
        {
            "cookies": marks,
            "boot": boot,
            "choose": service.choose,
            "config": dict(service.config),
            "pid": service.pid,
            "path": interpreter.path,
            "reason": interpreter.reason,
        }
    )
    output = channel.run([interpreter.path, "-c", payload.boot(scout, TIME_LIMIT)], scout + program)
    chosen = _choice(_between(output.stdout, marks), interpreter)
    where = f"{request.reference}: {chosen['path']}"
    snapshot = _snapshot(output, cookies, where, {**request.header, **chosen["header"]})
    reason = {"interpreter": {**snapshot.header["interpreter"], "reason": chosen["reason"]}}
    return dataclasses.replace(snapshot, header={**snapshot.header, **reason})


def _snapshot(output: Output, cookies: tuple[str, str], interpreter: str, header: Mapping[str, Any]) -> Snapshot:
    answer = _between(output.stdout, cookies)
    if answer is None:
        raise InputError(interpreter, _why_no_answer(output), _hint(output))
    return with_header(parse(answer, interpreter), header)


def with_header(snapshot: Snapshot, header: Mapping[str, Any]) -> Snapshot:
    """The snapshot with more in its header, redacted (an image's labels are anybody's text)."""
    return dataclasses.replace(snapshot, header={**snapshot.header, **Redactor().document(dict(header))})


def _choice(answer: bytes | None, asked: Interpreter) -> dict[str, Any]:
    """What the scout said, as hostile as every answer: ``{path, reason, header}``."""
    said: dict[str, Any] = {}
    if answer is not None:
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(answer)
            said = value if isinstance(value, dict) else {}
    others = said.get("others")
    others = others if isinstance(others, dict) else {}
    header: dict[str, Any] = {
        "other_interpreters": {
            str(path)[:1000]: redact_secrets(str(reason))[:300] for path, reason in sorted(others.items())[:100]
        }
    }
    if said.get("environment") in ENVIRONMENT_SOURCES:
        header["environment_variables_from"] = said["environment"]
    return {
        "path": str(said.get("path") or asked.path)[:1000],
        "reason": redact_secrets(str(said.get("reason") or asked.reason))[:1000],
        "header": header,
    }


def _between(stdout: bytes, cookies: tuple[str, str]) -> bytes | None:
    first, last = (cookie.encode("ascii") for cookie in cookies)
    if stdout.count(first) != 1 or stdout.count(last) != 1:
        return None
    start = stdout.index(first) + len(first)
    end = stdout.index(last)
    return stdout[start:end] if start <= end else None


def _why_no_answer(output: Output) -> str:
    last = _last_line(output.stderr)
    if output.cut:
        return output.cut
    if last.startswith("driftcheck needs Python"):
        return last
    if output.returncode < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-output.returncode).name
            memory = ", as a kernel does when memory runs out," if name == "SIGKILL" else ""
            return f"the interpreter was ended by {name}{memory} before it answered" + (f" ({last})" if last else "")
    said = last or _last_line(output.stdout)
    return f"no answer from this interpreter, exit code {output.returncode}" + (f": {said.rstrip('.')}" if said else "")


def _hint(output: Output) -> str:
    if output.cut or _last_line(output.stderr).startswith("driftcheck needs Python"):
        return "Name another interpreter with --python"
    return "Is it a Python interpreter? Try it with: -c 'print(1)'"


def _last_line(data: bytes) -> str:
    """The last line that says something, printable, redacted and short."""
    for line in reversed(data[-_ERRORS_KEPT:].decode("utf-8", "replace").splitlines()):
        text = printable(line.strip())
        if text:
            return text
    return ""


def printable(said: str) -> str:
    """What a program said, fit for one line of ours: no control signs, no secrets, not long."""
    text = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in said)
    return str(redact_secrets(text))[:300]


@dataclass(frozen=True)
class SubprocessChannel:
    """Runs a program on this machine, as a rule in a session of its own, which is ended with all its children."""

    name: str = "subprocess"
    environ: dict[str, str] | None = None
    own_session: bool = True  # without: it can ask for a password on our terminal, and its children are not ended
    time_limit: float = TIME_LIMIT
    size_limit: int = SIZE_LIMIT

    def run(self, argv: Sequence[str], stdin: bytes) -> Output:
        process = None
        try:
            # A signal between the start and the knowledge of the process would leave it behind.
            with held_back():
                process = self._start(argv)
            stdout = _Reader(_pipe(process.stdout), self.size_limit)
            stderr = _Reader(_pipe(process.stderr), _ERRORS_KEPT, keep_reading=True)
            # A child that never reads must not block us: its answer, or its silence, counts.
            threading.Thread(target=_feed, args=(_pipe(process.stdin), stdin), daemon=True).start()
            finished = stdout.done.wait(self.time_limit)
            cut = None
            if stdout.overflow:
                cut = f"printed more than {self.size_limit >> 20} MB and was ended"
            elif not finished:
                cut = f"did not answer within {self.time_limit:.0f} s and was ended"
            elif not _ends(process):
                cut = "closed its output but did not end, and was ended"
        finally:
            if process is not None:
                _end(process, session=self._has_session)
        stderr.done.wait(1)
        return Output(bytes(stdout.data), bytes(stderr.data), process.returncode, cut)

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environ,
                start_new_session=self._has_session,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(argv[0], f"cannot be started: {reason}", "Name an interpreter with --python") from error

    @property
    def _has_session(self) -> bool:
        return self.own_session and os.name == "posix"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("a process without pipes")
    return pipe


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes], *, session: bool) -> None:
    """End the process and whatever it started; children that still hold our pipes are in its session.

    Without a session of its own it is asked first, so that it can end what it started.
    """
    if session:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.terminate()
        if not _ends(process):
            process.kill()
    process.wait()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(data)
    with contextlib.suppress(OSError, ValueError):
        pipe.close()


@dataclass
class _Reader:
    """Reads a pipe in a thread until its end or its limit."""

    pipe: IO[bytes]
    limit: int
    keep_reading: bool = False
    data: bytearray = field(default_factory=bytearray)
    overflow: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while piece := os.read(self.pipe.fileno(), 1 << 16):
                self.data += piece
                if len(self.data) <= self.limit:
                    continue
                if not self.keep_reading:
                    self.overflow = True
                    return
                del self.data[: -self.limit]
        except (OSError, ValueError):
            pass
        finally:
            self.pipe.close()
            self.done.set()
