"""What the kernel does with a file that is to be executed, worked out from the file: execve(2).

A program is found, may be executed, and is machine code or a script whose first line names the next program.
Nothing is run. Sources: execve(2), elf(5); ``fs/binfmt_script.c`` and ``fs/exec.c`` of Linux for the first line
(256 bytes, one argument) and for how often a script may name a script.
"""

import os
import stat

from . import common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Tuple  # noqa: F401

    from .common import Place

# Words of strerror(3) in glibc; other programs write them with a small letter.
ENOENT = "No such file or directory"
EACCES = "Permission denied"
ENOEXEC = "Exec format error"
ELOOP = "Too many levels of symbolic links"
EISDIR = "Is a directory"

# What an engine gives to an image without a PATH of its own.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SHEBANG_BYTES = 256
_SCRIPTS_IN_A_ROW = 5

# 64-bit machines run what was built for their 32-bit ancestor, where the kernel was built so.
_RELATED = {62: frozenset([3]), 183: frozenset([40])}

# Programs that tell for which machine a root was made.
_TELLTALES = ("/bin/sh", "/usr/bin/env", "/bin/ls", "/sbin/ldconfig", "/lib64/ld-linux-x86-64.so.2",
              "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1")  # fmt: skip


class Execution:
    """What comes of executing a file.

    ``error``    what the kernel says, in the words of strerror(3); None where it starts
    ``path``     the program that runs in the end, or the file that is at fault
    ``argv``     its arguments, those that scripts add among them
    ``scripts``  the scripts on the way, the first one first
    ``asked``    what the last script asked for, where that is at fault: a name that may end in a carriage return
    ``foreign``  the program was built for another machine
    """

    def __init__(self, path: "str", argv: "List[str]") -> "None":
        self.error = None  # type: Optional[str]
        self.path = path
        self.argv = argv
        self.scripts = []  # type: List[str]
        self.asked = None  # type: Optional[str]
        self.foreign = False


def execute(place: "Place", path: "str", argv: "List[str]", directory: "str") -> "Execution":
    """Follow one file, by an absolute path, to the program that runs. ``directory`` is the working directory."""
    result = Execution(path, list(argv))
    while True:
        result.error = access(place, result.path)
        if result.error is not None:
            return result
        head = head_of(place, result.path)
        if head is None:
            return result  # it may be executed and not be read
        if head.startswith(b"\x7fELF"):
            result.error = _elf_problem(place, head)
            result.foreign = result.error == ENOEXEC
            return result
        line = shebang(head)
        if line is None:
            result.error = ENOEXEC
            return result
        if len(result.scripts) >= _SCRIPTS_IN_A_ROW:
            result.error = ELOOP
            return result
        name, argument = line
        result.scripts.append(result.path)
        result.asked = name
        result.argv = [name] + ([argument] if argument is not None else []) + [result.path] + result.argv[1:]
        result.path = absolute(name, directory)


def absolute(name: "str", directory: "str") -> "str":
    """A path as the kernel reads it from a working directory, without ``.`` and doubled slashes."""
    path = name if name.startswith("/") else directory.rstrip("/") + "/" + name
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)


def access(place: "Place", path: "str") -> "Optional[str]":
    """Why a file cannot be executed, by its modes; None where it can.

    Whose bit it is does not count: modes are those for the account that will run, which may be another one.
    """
    try:
        status = os.stat(place.real(path))
    except PermissionError:
        return EACCES
    except OSError as error:
        return error.strerror if error.strerror == ELOOP else ENOENT
    except ValueError:
        return ENOENT
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return EACCES
    return None


def search(place: "Place", name: "str", path: "str") -> "Tuple[Optional[str], Optional[str]]":
    """``(executable, file that is not executable)`` of this name in the directories of a ``PATH``."""
    refused = None
    for folder in path.split(":"):
        if not folder.startswith("/"):
            continue  # relative to wherever it runs
        full = absolute(name, folder)
        error = access(place, full)
        if error is None:
            return full, refused
        if error == EACCES and refused is None and not place.is_dir(full):
            refused = full
    return None, refused


def head_of(place: "Place", path: "str", limit: "int" = 4096) -> "Optional[bytes]":
    """The beginning of a file; None where it cannot be read."""
    try:
        return common.read_regular(place.real(path), limit)
    except (OSError, ValueError):
        return None


def shebang(head: "bytes") -> "Optional[Tuple[str, Optional[str]]]":
    r"""``(interpreter, argument)`` of a first line; None where the kernel sees no script.

    The rest of the line is one argument; only blanks and tabs are taken off its ends, a carriage return stays:
    ``b"#!/usr/bin/env python3\r\n"`` is ``("/usr/bin/env", "python3\r")``.
    """
    if not head.startswith(b"#!"):
        return None
    line, newline, _ = head[:_SHEBANG_BYTES].partition(b"\n")
    text = line[2:].strip(b" \t")
    words = text.replace(b"\t", b" ").split(b" ", 1)
    if not words[0] or (not newline and len(head) >= _SHEBANG_BYTES and len(words) == 1):
        return None  # nothing named, or a name that was cut
    argument = words[1].strip(b" \t") if len(words) > 1 else b""
    return words[0].decode("utf-8", "replace"), argument.decode("utf-8", "replace") or None


def real_name(place: "Place", path: "str") -> "str":
    """The path of a file in the root, its symbolic links followed."""
    return os.path.realpath(path) if place.root == os.path.abspath(os.sep) else place.inside(place.real(path))


def _elf_problem(place: "Place", head: "bytes") -> "Optional[str]":
    machine = _machine(head)
    expected = None
    for path in _TELLTALES:
        expected = _machine(head_of(place, path) or b"")
        if expected is not None:
            break
    if machine is not None and expected is not None and machine != expected:
        if machine not in _RELATED.get(expected, ()):
            return ENOEXEC
        return None
    loader = elf_interpreter(head)
    if loader is not None and not os.path.exists(place.real(loader)):
        return ENOENT
    return None


def _machine(head: "bytes") -> "Optional[int]":
    if not head.startswith(b"\x7fELF") or len(head) < 20:
        return None
    return int.from_bytes(head[18:20], "big" if head[5] == 2 else "little")


def elf_interpreter(head: "bytes") -> "Optional[str]":
    """The dynamic loader that a program asks for (PT_INTERP), where the first 4 KB hold it; None for a static one."""
    if len(head) < 64:
        return None
    wide, order = head[4] == 2, ("big" if head[5] == 2 else "little")  # type: Tuple[bool, str]

    def number(offset: "int", size: "int") -> "int":
        return int.from_bytes(head[offset : offset + size], "big" if order == "big" else "little")

    table, size, count = (number(32, 8), 56, number(56, 2)) if wide else (number(28, 4), 32, number(44, 2))
    for index in range(min(count, 64)):
        entry = table + index * size
        if entry + size > len(head):
            return None
        if number(entry, 4) == 3:
            offset = number(entry + (8 if wide else 4), 8 if wide else 4)
            length = number(entry + (32 if wide else 16), 8 if wide else 4)
            text = head[offset : offset + length].split(b"\0", 1)[0]
            return text.decode("utf-8", "replace") or None
    return None
