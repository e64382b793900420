"""The files that results go to: refused before anything is measured, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from driftcheck.errors import InputError

_ELSEWHERE = "Name another file"


def refuse(outputs: Iterable[str], inputs: Iterable[str | None]) -> None:
    """Refuse outputs that cannot be written, that are read by the same command, or that are one file.

    ``outputs``  paths, ``-`` for standard output
    ``inputs``   paths of what is read; None and ``-`` for nothing

    Raises:
        InputError: naming the first such output.
    """
    read: dict[object, str] = {identity: path for path in inputs if path and (identity := _identity(path))}
    taken: dict[object, str] = {}
    for path in outputs:
        if path != "-":
            _refuse_unwritable(path)
            if _is_special(path):
                continue
        where: object = path if path == "-" else _identity(path) or os.path.realpath(path)
        if where in read:
            raise InputError(path, f"this command reads that file ({read[where]})", _ELSEWHERE)
        if where in taken:
            what = "to standard output" if path == "-" else f"to that file ({taken[where]})"
            raise InputError(path, f"two outputs would be written {what}", _ELSEWHERE)
        taken[where] = path


def files_of(*references: str) -> list[str]:
    """The files of this machine that references read.

    Raises:
        InputError: for what is no reference.
    """
    from driftcheck.environments import reference  # noqa: PLC0415

    found = []
    for text in references:
        parsed = reference.parse(text)
        if parsed.kind in {"file", "archive", "python"}:
            found += [parsed.name, parsed.name.rpartition("#")[0]] if parsed.kind == "archive" else [parsed.name]
    return found


def write(path: str, text: str) -> None:
    """Write a result to a file, or to standard output for ``-``. A file is there whole, or as it was before.

    Raises:
        InputError: when the file cannot be written.
    """
    data = text.encode("utf-8")
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        if not (_can_be_replaced(path) and _replace(Path(os.path.realpath(path)), data)):
            Path(path).write_bytes(data)
    except OSError as error:
        raise InputError(path, f"cannot be written: {error.strerror or error}") from error


def _refuse_unwritable(path: str) -> None:
    target = Path(path)
    folder = Path(os.path.realpath(path)).parent
    try:
        if target.is_dir():
            raise InputError(path, "cannot be written: a directory", "Name a file in it")
        there = target.exists()
        if not there and not folder.is_dir():
            raise InputError(
                path, f"cannot be written: there is no directory {folder}", "Make it first, or name another"
            )
        if not os.access(target if there else folder, os.W_OK):
            raise InputError(path, "cannot be written: no permission, or a read-only file system", _ELSEWHERE)
    except OSError as error:
        raise InputError(path, f"cannot be written: {error.strerror or error}") from error


def _identity(path: str) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is no file."""
    try:
        found = Path(path).expanduser().stat()
    except (OSError, ValueError, RuntimeError):
        return None
    return found.st_dev, found.st_ino


def _is_special(path: str) -> bool:
    """A terminal, a pipe, /dev/null: what takes any number of outputs."""
    return Path(path).exists() and not Path(path).is_file()


def _can_be_replaced(path: str) -> bool:
    """Whether another file may take its name: not that of a device, and not where someone would lose by it."""
    try:
        there = os.stat(path)  # noqa: PTH116 - as given: what /dev/stdout leads to need not have a name
    except FileNotFoundError:
        return True
    owner = getattr(os, "geteuid", lambda: there.st_uid)()
    alone = stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and there.st_uid == owner
    target = os.path.realpath(path)
    named = os.path.exists(target) and os.path.samestat(there, os.stat(target))  # noqa: PTH110, PTH116
    return alone and named and os.access(target, os.W_OK) and os.access(Path(target).parent, os.W_OK)


def _replace(target: Path, data: bytes) -> bool:
    """Write beside the file, and then give that its name: a full disk or an interruption leaves what was there.

    False for a file that is mounted where it stands, as into a container: its name cannot be given away.
    """
    beside = target.with_name(f".driftcheck-{os.urandom(8).hex()}")
    try:
        with beside.open("xb") as file:
            file.write(data)
        if target.exists():
            beside.chmod(stat.S_IMODE(target.stat().st_mode))
        beside.replace(target)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    finally:
        beside.unlink(missing_ok=True)
    return True
