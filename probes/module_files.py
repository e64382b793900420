"""Where a module would be imported from, by its files on the search path; nothing is imported.

A name is missing where a package is there as a directory and holds neither a directory nor a file of that name, or
where no entry of the search path does. What only an import hook knows (editable installs), what a package puts into
``sys.modules`` itself (``six.moves``) and what lies in an archive is not seen.
"""

import os
import re

from .common import read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

    from .common import Place

# Larger modules are not searched for names.
FILE_LIMIT = 64 << 20

# What a source says that gives its module names which do not stand in it.
MAKES_NAMES = re.compile(rb"import \*|__getattr__|globals\(|setattr\(|exec\(|vars\(|sys\.modules|__dict__|locals\(")

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
        return self._find(module)[0]

    def lacks(self, module: "str", names: "Iterable[str]") -> "Dict[str, str]":
        """Those names that the file of an installed module does not even contain as text, each with the kind of the
        file: ``source`` or ``binary``. Nothing is said of the standard library, nor of a source that makes names.
        """
        path = self._find(module)[1]
        if path is None or not any("/%s/" % folder in path for folder in ("site-packages", "dist-packages")):
            return {}
        wanted = {name: name.split(".", 1)[0].encode("utf-8", "replace") for name in names}
        try:
            data = read_regular(self._place.real(path), FILE_LIMIT + 1)
        except (OSError, ValueError):
            return {}
        source = path.endswith(".py")
        if len(data) > FILE_LIMIT or (source and MAKES_NAMES.search(data)):
            return {}
        kind = "source" if source else "binary"
        return {name: kind for name, text in wanted.items() if text not in data}

    def _find(self, module: "str") -> "Tuple[Optional[str], Optional[str]]":
        """``(the first part without a file, the file)`` of a module; neither where nothing can be told."""
        parts = module.split(".")
        if parts[0] in BUILT_IN or not all(part.isidentifier() for part in parts):
            return None, None
        folders = self._directories
        for index, part in enumerate(parts):
            packages = []  # type: List[str]
            file = None  # type: Optional[str]
            for folder in folders:
                names = self._names(folder)
                if names is None:
                    return None, None  # an archive or a directory that cannot be read
                inside = folder.rstrip("/") + "/" + part
                if part in names and self._place.is_dir(inside):
                    packages.append(inside)
                file = self._module(folder, part)
                if file or (packages and self._module(packages[-1], "__init__")):
                    break
            package = self._module(packages[-1], "__init__") if packages else None
            if index == len(parts) - 1 and (package or file):
                return None, package or file
            if not packages:
                return (None if file else ".".join(parts[: index + 1])), None
            if file and package is None:
                return None, None
            folders = packages
        return None, None

    def _module(self, folder: "str", name: "str") -> "Optional[str]":
        """The file of a module in a directory, as Python chooses it: extension modules come first."""
        found = [entry for entry in self._names(folder) or () if entry.startswith(name + ".")]
        known = sorted(entry for entry in found if _is_module(entry[len(name) :]))
        binary = [entry for entry in known if entry.endswith((".so", ".pyd"))]
        best = (binary or [entry for entry in known if entry.endswith(".py")] or known)[:1]
        return folder.rstrip("/") + "/" + best[0] if best else None

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
