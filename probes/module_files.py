"""Where a module would be imported from, by its files on the search path; nothing is imported.

A name is missing where a package is there as a directory and holds neither a directory nor a file of that name, or
where no entry of the search path does. What only an import hook knows (editable installs), what a package puts into
``sys.modules`` itself (``six.moves``) and what lies in an archive is not seen.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional, Sequence, Set

    from .common import Place

# Modules that are compiled into the interpreter itself have no file (sys.builtin_module_names of CPython 3.6 to 3.14 on
# Linux, those that a pickle can name).
BUILT_IN = frozenset(
    [
        "__main__",
        "_abc",
        "_ast",
        "_bisect",
        "_blake2",
        "_codecs",
        "_collections",
        "_datetime",
        "_elementtree",
        "_functools",
        "_heapq",
        "_imp",
        "_io",
        "_locale",
        "_operator",
        "_pickle",
        "_posixsubprocess",
        "_random",
        "_signal",
        "_sre",
        "_stat",
        "_statistics",
        "_string",
        "_struct",
        "_symtable",
        "_thread",
        "_tracemalloc",
        "_typing",
        "_warnings",
        "_weakref",
        "array",
        "atexit",
        "binascii",
        "builtins",
        "cmath",
        "errno",
        "faulthandler",
        "fcntl",
        "gc",
        "grp",
        "itertools",
        "marshal",
        "math",
        "nt",
        "posix",
        "pwd",
        "select",
        "sys",
        "syslog",
        "time",
        "unicodedata",
        "winreg",
        "zlib",
    ]
)


class ModuleFiles:
    """Answers for one search path; a directory is listed once."""

    def __init__(self, place: "Place", directories: "Iterable[str]") -> "None":
        self._place = place
        self._directories = list(directories)
        self._listings = {}  # type: Dict[str, Set[str]]

    def missing(self, module: "str") -> "Optional[str]":
        """The first part of ``a.b.c`` that has no file: ``a``, ``a.b`` or ``a.b.c``; None where all have."""
        parts = module.split(".")
        if parts[0] in BUILT_IN or not all(part.isidentifier() for part in parts):
            return None
        folders = self._directories
        for index, part in enumerate(parts):
            packages = []  # type: List[str]
            file = False
            for folder in folders:
                names = self._names(folder)
                if names is None:
                    return None  # an archive or a directory that cannot be read
                inside = folder.rstrip("/") + "/" + part
                if part in names and self._place.is_dir(inside):
                    packages.append(inside)
                elif any(name.startswith(part + ".") and _is_module(name[len(part) :]) for name in names):
                    file = True
                if file or (packages and self._is_package(packages[-1])):
                    break
            if not packages:
                return None if file else ".".join(parts[: index + 1])
            if file and not self._is_package(packages[-1]):
                return None
            folders = packages
        return None

    def _is_package(self, folder: "str") -> "bool":
        names = self._names(folder) or set()
        return any(name.startswith("__init__.") and _is_module(name[8:]) for name in names)

    def _names(self, folder: "str") -> "Optional[Set[str]]":
        if folder not in self._listings:
            if not self._place.exists(folder):
                self._listings[folder] = set()
            elif not self._place.is_dir(folder):
                return None
            else:
                try:
                    self._listings[folder] = set(os.listdir(self._place.real(folder)))
                except OSError:
                    return None
        return self._listings[folder]


def _is_module(ending: "str") -> "bool":
    """Whether a file with this ending can be imported: ``.py``, ``.cpython-311-x86_64-linux-gnu.so``."""
    return ending in (".py", ".pyc", ".so", ".pyd") or (
        ending.endswith((".so", ".pyd"))
        and ending.count(".") == 2
        and ("cpython" in ending or "abi3" in ending or "pypy" in ending or ".cp" in ending)
    )
