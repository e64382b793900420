"""``container:NAME``: a running container, asked through an exec of its engine.

The probes run as the container's own user in its working directory, and with the variables of the service process
where that user may read them. A stopped container is read from its files, as an image would be that cannot run.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftcheck import progress
from driftcheck.collect import SIZE_LIMIT, TIME_LIMIT, Output, Service, collect
from driftcheck.environments import Options, conversation, inside
from driftcheck.environments.engine import Engine, configuration, connect, described, image_header, table, text, value
from driftcheck.environments.export import measure_files
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.errors import InputError
from driftcheck.interrupts import held_back
from driftcheck.snapshot import Snapshot

# What cannot be asked now, with the way out.
_WAIT = {
    "paused": ("paused", "docker unpause {name}"),
    "restarting": ("restarting again and again", "Measure its image, or read: docker logs {name}"),
    "removing": ("being removed", ""),
}

# Marks our processes in the container, so that none is left and no other is ended.
MARK = "DRIFTCHECK_RUN"


def measure(found: Reference, options: Options) -> Snapshot:
    """Ask it.

    Raises:
        InputError: when there is no such container, it is paused, or it ends while it is asked.
    """
    engine = connect(found.text)
    attributes = _inspect(engine, found)
    name = str(attributes["Id"])
    state = table(attributes, "State")
    config = configuration(value(attributes, "Config"))
    with engine.errors(found.text):
        header = {"image": image_header(_image(engine, text(attributes, "Image")))}
    request = request_for(found, options, image_config=config, header=header)
    status = text(state, "Status")
    if value(state, "Paused") is True:
        status = "paused"
    if status in _WAIT:
        problem, hint = _WAIT[status]
        raise InputError(found.text, f"the container is {problem}", hint.format(name=found.name))
    if status != "running":
        progress.step(f"Reading the files of {found.text}, which is not running")
        return measure_files(engine, name, request, options)
    with engine.errors(found.text):
        asked = inside.interpreter(engine, name, config, options.python)
    if asked is None:
        progress.step(f"Reading the files of {found.text}: no Python interpreter was found in it")
        return measure_files(engine, name, request, options)
    service = Service(choose=options.python is None, config=config, pid=_service_pid(attributes))
    return collect(ExecChannel(engine, name, found.text), asked, request, service)


def _inspect(engine: Engine, found: Reference) -> dict[str, Any]:
    from docker.errors import NotFound  # noqa: PLC0415

    with engine.errors(found.text):
        try:
            attributes = engine.api.inspect_container(found.name)
        except NotFound as error:
            hint = "docker ps -a lists what there is; an image is image:NAME"
            raise InputError(found.text, f"the engine at {engine.where} has no such container", hint) from error
    return described(attributes, engine, found.text)


def _image(engine: Engine, name: str) -> Any:
    """The image that a container was made from; it may be gone."""
    from docker.errors import APIError  # noqa: PLC0415

    with contextlib.suppress(APIError):
        return engine.api.inspect_image(name) if name else {}  # type: ignore[no-untyped-call]
    return {"Id": name}


def _service_pid(attributes: Mapping[str, Any]) -> int | None:
    """The service's first process, as the processes of the container count it."""
    mode = text(table(attributes, "HostConfig"), "PidMode")
    if mode in {"", "private"}:
        return 1
    pid = value(table(attributes, "State"), "Pid")
    return pid if mode == "host" and isinstance(pid, int) and pid > 0 else None


@dataclass(frozen=True)
class ExecChannel:
    """Runs a program in a running container (``docker exec -i``), and sees that it ends."""

    engine: Engine
    container: str
    subject: str
    name: str = "exec"
    time_limit: float = TIME_LIMIT
    size_limit: int = SIZE_LIMIT

    def run(self, argv: Sequence[str], stdin: bytes) -> Output:
        mark = secrets.token_hex(16)
        finished = False
        execution = ""
        with self.engine.errors(self.subject):
            try:
                with held_back():
                    execution = self._create(argv, mark)
                result = self._run(execution, argv[0], stdin)
                finished = result.cut is None
                if not finished and not self._end(execution, mark, argv[0]):
                    problem = f"{result.cut}, but a process of ours may still run in the container"
                    result = Output(result.stdout, result.stderr, result.returncode, problem)
                finished = True
                if result.returncode:
                    self._check_container()
                return result
            finally:
                if execution and not finished:
                    with held_back():
                        self._end(execution, mark, argv[0])

    def _create(self, argv: Sequence[str], mark: str) -> str:
        created = self.engine.api.exec_create(
            self.container, list(argv), stdin=True, stdout=True, stderr=True, environment={MARK: mark}
        )
        return str(created["Id"])

    def _run(self, execution: str, program: str, stdin: bytes) -> Output:
        frames = conversation.Frames(self.size_limit)
        connection = self.engine.api.exec_start(execution, socket=True)
        try:
            why = conversation.converse(connection, stdin, frames, time.monotonic() + self.time_limit)
        finally:
            conversation.close(connection)
        code = None if why else self._exit_code(execution)
        cut = cut_text(why, self.size_limit, self.time_limit)
        if code is None and cut is None:
            self._check_container()
            cut = "closed its output but did not end, and was ended"
        return inside.output(self.subject, program, frames, -9 if code is None else code, cut)

    def _exit_code(self, execution: str) -> int | None:
        """The output may end a moment before the process does."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            state = self.engine.api.exec_inspect(execution)
            code = value(state, "ExitCode")
            if value(state, "Running") is not True and isinstance(code, int):
                return code
            time.sleep(0.02)
        return None

    def _check_container(self) -> None:
        """Raise InputError when the container itself is the reason for a program that ended badly."""
        state = table(self.engine.api.inspect_container(self.container), "State")
        memory = ", out of memory" if value(state, "OOMKilled") is True else ""
        if value(state, "Paused") is True:
            raise InputError(self.subject, "the container was paused while it was measured")
        if value(state, "Running") is not True:
            raise InputError(self.subject, f"the container ended while it was measured{memory}")
        if memory:
            raise InputError(self.subject, "a process of the container was ended: out of memory", "Raise its limit")

    # An engine cannot end an exec: it is ended from outside where its process is ours to see, else from inside.

    def _end(self, execution: str, mark: str, python: str) -> bool:
        """End what we started there; whether that is certain."""
        for _ in range(20):
            if value(self.engine.api.exec_inspect(execution), "Running") is not True:
                return True
            if not (self.engine.local and end_marked(self.container, mark)):
                self._end_from_inside(mark, python)
            time.sleep(0.1)
        return False

    def _end_from_inside(self, mark: str, python: str) -> None:
        """The same interpreter, without start-up files: they may be what hangs."""
        created = self.engine.api.exec_create(
            self.container, [python, "-I", "-S", "-c", _ENDER, f"{MARK}={mark}"], stdout=True, stderr=True
        )
        connection = self.engine.api.exec_start(created["Id"], socket=True)
        try:
            with contextlib.suppress(OSError):
                conversation.converse(connection, b"", conversation.Frames(1 << 16), time.monotonic() + 5)
        finally:
            conversation.close(connection)


_ENDER = """\
import os, sys
mark = sys.argv[1].encode()
for name in os.listdir('/proc'):
    if name.isdigit() and int(name) != os.getpid():
        try:
            with open('/proc/%s/environ' % name, 'rb') as file:
                if mark in file.read().split(b'\\0'):
                    os.kill(int(name), 9)
        except OSError:
            pass
"""


def end_marked(container: str, mark: str) -> bool:
    """End the processes of a container that carry our mark, from this machine; whether there was one.

    A process number that an engine names may be one of another machine (a desktop's); so only what says itself, to
    the kernel of this machine, that it belongs to the container and to us is ended.
    """
    wanted = f"{MARK}={mark}".encode()
    ended = False
    for entry in Path("/proc").iterdir() if Path("/proc/self/cgroup").exists() else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if container not in (entry / "cgroup").read_text():
                continue
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), 9)
                ended = True
    return ended


def cut_text(why: str | None, size_limit: int, time_limit: float) -> str | None:
    """Why a conversation was ended early, in the words of ``collect``."""
    return {
        None: None,
        "overflow": f"printed more than {size_limit >> 20} MB and was ended",
        "time": f"did not answer within {time_limit:.0f} s and was ended",
        "broken": "the engine's stream is not in its format, and was closed",
    }[why]
