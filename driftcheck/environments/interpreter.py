"""``python:PATH``: the environment of one interpreter on this machine."""

from __future__ import annotations

import os
import shutil

from driftcheck.collect import Interpreter, SubprocessChannel, collect
from driftcheck.environments import Options
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot


def measure(found: Reference, options: Options) -> Snapshot:
    """Ask that interpreter."""
    path = found.name
    if options.python:
        raise InputError(found.text, "--python and python:PATH both name an interpreter", "Give one of them")
    return ask(Interpreter(executable(path), "python:PATH names it"), found, options)


def ask(interpreter: Interpreter, found: Reference, options: Options) -> Snapshot:
    """Measure the environment of an interpreter of this machine."""
    return collect(SubprocessChannel(), interpreter, request_for(found, options))


def executable(path: str) -> str:
    """The program that a user names: a path, a name on ``PATH``, or the directory of a virtual environment.

    Raises:
        InputError: when there is none.
    """
    expanded = os.path.expanduser(path)  # noqa: PTH111 - a leading ./ must stay
    if os.path.isdir(expanded):  # noqa: PTH112
        inside = environment_python(expanded)
        if inside is None:
            raise InputError(path, "a directory without a Python interpreter", "Name the interpreter inside it")
        return inside
    if os.path.dirname(expanded):  # noqa: PTH120
        if not os.path.exists(expanded):  # noqa: PTH110
            broken = os.path.islink(expanded)  # noqa: PTH114
            what = "a link to an interpreter that is not there" if broken else "no such interpreter"
            raise InputError(path, what)
        return os.path.abspath(expanded)  # noqa: PTH100 - a link to python must stay a link
    on_path = shutil.which(expanded)
    if on_path is None:
        hint = f"For the file here: python:./{path}" if os.path.exists(expanded) else ""  # noqa: PTH110
        raise InputError(path, "no such program on PATH", hint)
    return on_path


def environment_python(prefix: str) -> str | None:
    """The interpreter of a virtual or conda environment, by its prefix."""
    for inside in ("bin/python", "bin/python3", "Scripts/python.exe", "python.exe"):
        path = os.path.join(prefix, inside)  # noqa: PTH118
        if os.path.isfile(path):  # noqa: PTH113
            return os.path.abspath(path)  # noqa: PTH100
    return None
