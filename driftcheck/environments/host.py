"""``host``: the interpreter that the user's project runs on this machine.

In this order, the first that there is; the header of the snapshot says which, and why:

1. ``--python``
2. ``$VIRTUAL_ENV``
3. ``$CONDA_PREFIX``, unless it is conda's base
4. driftcheck's own environment, where that holds more than driftcheck and its dependencies (so not under pipx)
5. ``.venv`` in the working directory
6. conda's base
7. ``python3`` (or ``python``) on ``PATH``
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from driftcheck.collect import Interpreter
from driftcheck.environments import Options
from driftcheck.environments.interpreter import ask, environment_python, executable
from driftcheck.environments.reference import Reference
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot

# What every virtual environment may hold without anybody having asked for it.
_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv", "distribute", "pkg-resources"})


def measure(found: Reference, options: Options) -> Snapshot:
    """Choose the interpreter and ask it."""
    return ask(choose(options.python, os.environ, Path.cwd()), found, options)


def choose(python: str | None, environ: Mapping[str, str], directory: Path) -> Interpreter:
    """The interpreter of ``host``, and why.

    Raises:
        InputError: when there is none, or ``--python`` names none.
    """
    if python:
        return Interpreter(executable(python), "--python names it")
    for prefix, reason in _prefixes(environ, directory):
        path = environment_python(prefix)
        if path is not None:
            return Interpreter(path, reason)
    for name in ("python3", "python"):
        path = shutil.which(name, path=_path_without_ours(environ))
        if path is not None:
            return Interpreter(path, f"{name} on PATH")
    raise InputError("host", "no Python interpreter on PATH", "Name one with --python")


def _prefixes(environ: Mapping[str, str], directory: Path) -> Iterator[tuple[str, str]]:
    conda = environ.get("CONDA_PREFIX", "")
    if environ.get("VIRTUAL_ENV"):
        yield environ["VIRTUAL_ENV"], "$VIRTUAL_ENV names its environment"
    if conda and not _is_conda_base(conda, environ):
        yield conda, "$CONDA_PREFIX names its environment"
    if holds_more_than_driftcheck():
        yield sys.prefix, "driftcheck is installed in its environment"
    local = directory / ".venv"
    if local.is_dir() and local.resolve() != Path(sys.prefix).resolve():
        yield str(local), ".venv in the working directory"
    if conda:
        yield conda, "$CONDA_PREFIX names its environment (conda's base)"


def _path_without_ours(environ: Mapping[str, str]) -> str:
    """``PATH`` without driftcheck's own environment: its python3 runs driftcheck, not the user's project."""
    own = Path(sys.prefix).resolve()
    if sys.prefix == sys.base_prefix:
        return environ.get("PATH", os.defpath)
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if entry and Path(entry).resolve().parent != own)


def _is_conda_base(prefix: str, environ: Mapping[str, str]) -> bool:
    return environ.get("CONDA_DEFAULT_ENV") == "base" or os.path.isdir(os.path.join(prefix, "condabin"))  # noqa: PTH112, PTH118


def holds_more_than_driftcheck() -> bool:
    """Whether the environment that runs driftcheck holds anything that driftcheck did not bring.

    A system interpreter counts as one that does: whoever installed driftcheck there has no other.
    """
    if sys.prefix == sys.base_prefix:
        return True
    import importlib_metadata  # noqa: PLC0415 - 0.04 s, and only where no environment is active

    site = [entry for entry in sys.path if os.path.basename(entry) == "site-packages"]  # noqa: PTH119
    needs: dict[str, set[str]] = {}
    for distribution in importlib_metadata.distributions(path=site):
        name = distribution.metadata["Name"]
        if name:
            # What an extra brings was asked for: driftcheck[test] is a development environment.
            needs[_key(name)] = {_key(need) for need in distribution.requires or () if "extra ==" not in need}
    own, waiting = {"driftcheck"}, ["driftcheck"]
    while waiting:
        for name in needs.get(waiting.pop(), set()) - own:
            own.add(name)
            waiting.append(name)
    return bool(needs.keys() - own - _INSTALLERS)


def _key(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""
