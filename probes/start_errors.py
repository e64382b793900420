"""Who executes a program, and in which words it says that this went wrong: runc, a shell, coreutils, an init.

The texts were taken down from runc 1.1, dash 0.5.11 and 0.5.12, bash 5.1 and 5.2, coreutils 8.32, 9.1 and 9.7 and
tini 0.19. ``start_command`` follows a start with them.
"""

import os
import re

from . import executables
from .executables import EACCES, ENOENT, ENOEXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional, Tuple

    from .common import Place


class Speaker:
    """Executes a program by name and says what went wrong. This one stands for programs whose words are not known."""

    by_shell = False  # whether a file without a first line is handed to /bin/sh (execvp(3))
    tells_directories = False

    def find(self, place: "Place", name: "str", path: "str", directory: "str") -> "Tuple[Optional[str], Optional[str]]":
        """``(path, error)``: the file that a name leads to."""
        if "/" in name:
            full = executables.absolute(name, directory)
            return full, executables.access(place, full)
        full_or_none, refused = executables.search(place, name, path)
        if full_or_none is not None:
            return full_or_none, None
        return refused, EACCES if refused is not None else ENOENT

    def missing(self, name: "str", path: "Optional[str]", error: "str") -> "Tuple[str, bool]":
        """``(text, exact)`` where no such program can be executed."""
        del path
        return "%s: %s" % (name, error), False

    def failed(self, name: "str", execution: "executables.Execution", error: "str") -> "Tuple[str, bool]":
        """``(text, exact)`` where the file is there and the kernel refuses it."""
        del execution
        return "%s: %s" % (name, error), False


class Engine(Speaker):
    """runc: looks the program up itself and executes it without a shell."""

    def __init__(self, place: "Place") -> "None":
        self._place = place

    def find(self, place: "Place", name: "str", path: "str", directory: "str") -> "Tuple[Optional[str], Optional[str]]":
        if "/" in name:
            full = executables.absolute(name, directory)
            return full, executables.access(place, full)
        found, _ = executables.search(place, name, path)
        return found, None if found is not None else ENOENT

    def missing(self, name: "str", path: "Optional[str]", error: "str") -> "Tuple[str, bool]":
        if "/" not in name:
            return 'exec: "%s": executable file not found in $PATH' % name, True
        if error == ENOENT:
            return 'exec: "%s": stat %s: no such file or directory' % (name, name), True
        # Newer ones say "is a directory".
        return 'exec: "%s": permission denied' % name, path is None or not self._place.is_dir(path)

    def failed(self, name: "str", execution: "executables.Execution", error: "str") -> "Tuple[str, bool]":
        path = execution.scripts[0] if execution.scripts else execution.path
        return "exec %s: %s" % (name if "/" in name else path, _small(error)), True


class Coreutils(Speaker):
    """env, nice, nohup, timeout, stdbuf: ``env: 'gunicorn': No such file or directory``."""

    by_shell = True

    def __init__(self, place: "Place", program: "str", called: "str", environ: "Dict[str, Optional[str]]") -> "None":
        self._base = program.rpartition("/")[2]
        # The name that it was called by, until coreutils 9.5 or so cut it down to the last part.
        self._called = called
        self._old = True
        if "/" in called:
            # "(GNU coreutils) 9.1": the version stands alone in the file.
            data = executables.head_of(place, program, 1 << 20) or b""
            version = re.search(rb"\0(\d+)\.(\d+)(?:[.-]\d+)*\0", data)
            number = tuple(int(part) for part in version.groups()) if version and b"GNU coreutils" in data else None
            self._old = number is not None and number < (9, 2)
            self._known = number is not None and (self._old or number >= (9, 7))
        else:
            self._known = b"GNU coreutils" in (executables.head_of(place, program, 1 << 20) or b"")
        self._quotes = ("\u2018", "\u2019") if _speaks_utf8(place, environ) else ("'", "'")

    def missing(self, name: "str", path: "Optional[str]", error: "str") -> "Tuple[str, bool]":
        del path
        shown = "%s%s%s" % (self._quotes[0], name.replace("\r", "\\r").replace("\t", "\\t"), self._quotes[1])
        prefix = self._called if self._old else self._base
        if self._base in ("env", "nice"):
            return "%s: %s: %s" % (prefix, shown, error), self._known
        return "%s: failed to run command %s: %s" % (prefix, shown, error), self._known

    def failed(self, name: "str", execution: "executables.Execution", error: "str") -> "Tuple[str, bool]":
        return self.missing(name, execution.path, error)


class Plain(Speaker):
    """Programs with a form of their own: ``setsid: failed to execute nosuch: No such file or directory``."""

    by_shell = True

    def __init__(self, form: "str", exact: "bool") -> "None":
        self._form = form
        self._exact = exact

    def missing(self, name: "str", path: "Optional[str]", error: "str") -> "Tuple[str, bool]":
        del path
        return self._form % {"name": name, "error": error}, self._exact

    def failed(self, name: "str", execution: "executables.Execution", error: "str") -> "Tuple[str, bool]":
        return self.missing(name, execution.path, error)


class Shell(Speaker):
    """dash, bash and busybox, at one line of a script.

    ``prefix``  what the shell calls itself there: the script, or the shell's own name
    ``replace`` the command stands behind ``exec``
    ``exact``   whether it is known that the line is reached
    """

    by_shell = True

    def __init__(
        self, kind: "str", prefix: "str", line: "int", replace: "bool", directory: "str", exact: "bool"
    ) -> "None":
        self._kind = kind
        self._prefix = prefix
        self._line = line
        self._replace = replace
        self._directory = directory
        self._exact = exact
        self.tells_directories = kind.startswith("bash")

    def missing(self, name: "str", path: "Optional[str]", error: "str") -> "Tuple[str, bool]":
        known = self._kind in ("dash", "bash-5.1", "bash-5.2")
        where = self._place()
        shown = self._shown(name)
        if self._kind.startswith("bash"):
            if "/" not in name:
                if path is not None:
                    return "%s: %s: %s" % (where, path, error), self._exact and known
                if self._replace:
                    return "%s: exec: %s: not found" % (where, name), self._exact and known
                return "%s: %s: command not found" % (where, name), self._exact and known
            return "%s: %s: %s" % (where, shown, error), self._exact and known
        words = {ENOENT: "not found", EACCES: "Permission denied"}.get(error, error)
        return "%s: %s%s: %s" % (where, "exec: " if self._replace else "", name, words), self._exact and known

    def failed(self, name: "str", execution: "executables.Execution", error: "str") -> "Tuple[str, bool]":
        if not self._kind.startswith("bash"):
            return self.missing(name, execution.path, error)
        known = self._exact and self._kind in ("bash-5.1", "bash-5.2")
        shown = self._shown(name) if "/" in name else (execution.scripts or [execution.path])[0]
        if error == ENOEXEC:
            return "%s: %s: cannot execute binary file: Exec format error" % (self._place(), shown), known
        if error == ENOENT and self._kind == "bash-5.1":
            if execution.asked is not None:
                text = "%s: %s: %s: bad interpreter: %s"
                return text % (self._prefix, shown, execution.asked.replace("\r", "^M"), error), known
            return "%s: %s: %s" % (self._place(), shown, error), known
        if error == ENOENT:
            return "%s: %s: cannot execute: required file not found" % (self._place(), shown), known
        return "%s: %s: %s" % (self._place(), shown, error), False

    def _place(self) -> "str":
        return "%s: %s%d" % (self._prefix, "line " if self._kind != "dash" else "", self._line)

    def _shown(self, name: "str") -> "str":
        return executables.absolute(name, self._directory) if self._replace else name


def _small(error: "str") -> "str":
    """As Go writes it."""
    return error[:1].lower() + error[1:]


def _speaks_utf8(place: "Place", environ: "Dict[str, Optional[str]]") -> "bool":
    """Whether messages are written with the quotation marks of Unicode: a UTF-8 locale is set, and it is there."""
    name = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or ""
    stem, _, encoding = name.partition(".")
    if encoding.lower().replace("-", "") != "utf8":
        return False
    folder = "/usr/lib/locale"
    if any(place.exists("%s/%s" % (folder, stem + end)) for end in (".utf8", ".UTF-8")):
        return True
    return place.exists(folder + "/locale-archive") and stem != "C"


def kind_of_shell(place: "Place", program: "str") -> "str":
    """``dash``, ``bash-5.1``, ``bash-5.2`` (and newer), ``bash``, ``busybox`` or another name: who words the errors."""
    real = executables.real_name(place, program)
    base = os.path.basename(real)
    if base in ("bash", "rbash"):
        data = executables.head_of(place, real, 4 << 20) or b""
        found = re.search(rb"@\(#\)Bash version (\d+)\.(\d+)", data)
        if found is None:
            return "bash"
        version = (int(found.group(1)), int(found.group(2)))
        return "bash-5.2" if version >= (5, 2) else "bash-5.1" if version >= (5, 0) else "bash"
    return base
