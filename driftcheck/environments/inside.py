"""What containers and images share: which Python inside is asked first, and how a program's end is told."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck import collect
from driftcheck.collect import Interpreter, Output
from driftcheck.environments.conversation import Frames
from driftcheck.environments.engine import Engine
from driftcheck.errors import InputError

# Where interpreters stand that neither PATH nor a variable leads to.
_USUAL = (
    "/usr/local/bin/python3",
    "/usr/bin/python3",
    "/opt/venv/bin/python",
    "/venv/bin/python",
    "/app/.venv/bin/python",
    "/opt/conda/bin/python",
)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")

# What Docker's runc and Podman's crun say when there is nothing to execute.
_NOT_STARTED = re.compile(
    r"OCI runtime|exec failed|executable file.* not found|unable to start container process"
    r"|^exec \S+: (?:no such file|exec format error|permission denied)",
    re.IGNORECASE,
)


class NoSuchProgramError(InputError):
    """What should be started is not there; something else may be."""


class ForeignProgramError(InputError):
    """The interpreter is a program for another processor than the engine's."""


def is_missing(said: str) -> bool:
    """Whether an engine says that the program to start is not there."""
    return bool(re.search(r"executable file.* not found|exec: .*no such file or directory", said))


def interpreter(engine: Engine, container: str, config: Mapping[str, Any], python: str | None) -> Interpreter | None:
    """The Python to ask first; None where the container has none that can be found.

    Raises:
        InputError: when ``python``, which the user names, is not there.
    """
    if python is not None:
        path = _named(engine, container, config, python)
        if path is None:
            raise InputError(python, "no such interpreter in the container", "--python takes a path inside of it")
        return Interpreter(path, "--python names it")
    for path, reason in _candidates(config):
        if engine.is_program(container, path):
            return Interpreter(path, reason)
    return None


def _named(engine: Engine, container: str, config: Mapping[str, Any], python: str) -> str | None:
    if "/" not in python:
        paths = [posixpath.join(folder, python) for folder in _folders(config)]
    else:
        absolute = posixpath.normpath(posixpath.join(config["working_dir"] or "/", python))
        paths = [absolute, f"{absolute}/bin/python", f"{absolute}/bin/python3"]
    return next((path for path in paths if engine.is_program(container, path)), None)


def _candidates(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("python3", "python"):
        for folder in _folders(config):
            yield posixpath.join(folder, name), f"{name} on PATH"
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = config["env"].get(name, "")
        if prefix.startswith("/"):
            yield posixpath.join(prefix, "bin/python"), f"${name} names its environment"
    for word in (*config["entrypoint"], *config["cmd"]):
        if word.startswith("/") and _PYTHON.fullmatch(posixpath.basename(word)):
            yield word, "the start command names it"
    for path in _USUAL:
        yield path, "a usual place"


def _folders(config: Mapping[str, Any]) -> list[str]:
    path = config["env"].get("PATH") or _DEFAULT_PATH
    return [folder for folder in path.split(":")[:100] if folder.startswith("/")]


def output(subject: str, program: str, frames: Frames, code: int, cut: str | None) -> Output:
    """What a program in a container printed; a shell's 128 + signal becomes Python's minus signal.

    Raises:
        InputError: when the engine could not start it at all.
    """
    said = " ".join((frames.stderr or frames.stdout)[-2000:].decode("utf-8", "replace").split())
    if code in {1, 126, 127, 255} and _NOT_STARTED.search(said):
        problem = f"cannot be started in the container: {collect.printable(said)}"
        kind = ForeignProgramError if "exec format error" in said else InputError
        raise kind(f"{subject}: {program}", problem, "Name an interpreter with --python")
    return Output(bytes(frames.stdout), bytes(frames.stderr), 128 - code if 128 < code < 160 else code, cut)
