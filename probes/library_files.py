"""Finds the shared libraries of an environment, and which distribution each of them belongs to.

The directories of the search path are walked, so that files that no installer recorded are found too. Owners
come from RECORD (PEP 376), else from ``top_level.txt`` or the name of the directory. Part of the probe
``libraries``.
"""

if __name__ == "__main__":
    raise SystemExit("library_files.py is part of the probe libraries.py and measures nothing by itself")

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterator, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place

# A project directory on the search path can hold anything (data sets, other environments).
ENTRY_LIMIT = 600000
DEPTH_LIMIT = 40
LIBRARY_LIMIT = 20000
METADATA_LIMIT = 1 << 20
RECORD_LIMIT = 64 << 20

# Distribution key for the interpreter and its standard library.
PYTHON = "python"

_SHARED = re.compile(r"\.so(?:\.\d[\w.]*)?$")
_SKIPPED = frozenset(
    ["__pycache__", ".git", ".hg", ".svn", ".tox", ".nox", ".venv", "node_modules", ".mypy_cache", ".cache"]
)
_REQUIRES = re.compile(rb"^Requires-Dist:[ \t]*([A-Za-z0-9][A-Za-z0-9._-]*)([^\n]*)", re.MULTILINE | re.IGNORECASE)


class File:
    """One shared library. ``path`` inside the root; ``key`` how facts name it: relative to its entry of the
    search path, absolute where an earlier entry has the same relative name (then it is ``shadowed``: nothing
    imports it); ``owner`` a distribution's key.
    """

    __slots__ = ("entry", "key", "owner", "path", "relative", "shadowed")

    def __init__(self, entry: "str", relative: "str") -> "None":
        self.entry = entry
        self.relative = relative
        self.path = entry.rstrip("/") + "/" + relative
        self.key = relative
        self.shadowed = False
        self.owner = None  # type: Optional[str]


class Distribution:
    """``requires`` other distributions by key: True where a plain install needs them, False for extras."""

    __slots__ = ("entry", "key", "requires", "top_levels")

    def __init__(self, key: "str", entry: "str") -> "None":
        self.key = key
        self.entry = entry
        self.requires = {}  # type: Dict[str, bool]
        self.top_levels = set()  # type: Set[str]


class Environment:
    """What was found: ``files`` sorted by key, ``distributions`` by key (the first on the path of each)."""

    def __init__(self) -> "None":
        self.files = []  # type: List[File]
        self.distributions = {}  # type: Dict[str, Distribution]
        self._closures = {}  # type: Dict[str, List[str]]

    def closure(self, key: "Optional[str]") -> "List[str]":
        """The distributions that this one requires, directly or not, nearest first, those for extras last."""
        if key is None:
            return []
        if key not in self._closures:
            seen = [key]
            # First along plain requirements alone, then along those of extras too.
            for plain in (True, False):
                for name in seen:
                    known = self.distributions.get(name)
                    requires = known.requires if known is not None else {}
                    for other in sorted(requires):
                        if other in self.distributions and other not in seen and requires[other] >= plain:
                            seen.append(other)
            self._closures[key] = seen[1:]
        return self._closures[key]


def find(place: "Place") -> "Environment":
    """Every shared library below the search path; looked for once, for the sections libraries and cuda both."""
    environment = place.found.get("library_files")  # type: Optional[Environment]
    if environment is None:
        environment = place.found["library_files"] = _find(place)
    return environment


def _find(place: "Place") -> "Environment":
    environment = Environment()
    entries = entries_of(place)
    seen_keys = set()  # type: Set[str]
    budget = [ENTRY_LIMIT]
    visited = set()  # type: Set[Tuple[int, int]]
    for entry in entries:
        files, metadata = _walk(place, entry, entries, budget, visited)
        owners, by_top_level = _owners(place, environment, entry, metadata, bool(files))
        for file in sorted(files, key=lambda one: one.relative):
            file.owner = owners.get(file.relative) or _guess(file, by_top_level)
            first = environment.distributions.get(file.owner or "")
            file.shadowed = file.key in seen_keys or (first is not None and first.entry != entry)
            if file.key in seen_keys:
                file.key = file.path
            seen_keys.add(file.key)
            environment.files.append(file)
        if budget[0] <= 0:
            place.problem(entry, "more than %d files; the rest was not looked at" % ENTRY_LIMIT)
            break
    if len(environment.files) > LIBRARY_LIMIT:
        place.problem("sys.path", "%d libraries; %d were read" % (len(environment.files), LIBRARY_LIMIT))
    environment.files.sort(key=lambda one: one.key)
    del environment.files[LIBRARY_LIMIT:]
    return environment


def entries_of(place: "Place") -> "List[str]":
    """The directories of the search path, each once."""
    entries = []  # type: List[str]
    for entry in place.search_path:
        name = entry if entry.startswith("/") else os.path.join(os.getcwd() if place.live else "/", entry)
        name = os.path.normpath(name)
        if name not in entries and place.is_dir(name):
            entries.append(name)
    return entries


def _walk(
    place: "Place", entry: "str", entries: "List[str]", budget: "List[int]", visited: "Set[Tuple[int, int]]"
) -> "Tuple[List[File], List[str]]":
    """The libraries below one entry, and the names of its metadata directories."""
    files = []  # type: List[File]
    metadata = []  # type: List[str]
    others = frozenset(entries) - {entry}
    top = place.real(entry)
    home = os.path.realpath(top)
    stack = [(top, "", 0)]
    while stack:
        real, prefix, depth = stack.pop()
        try:
            with os.scandir(real) as listing:
                found = list(listing)
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                place.problem(entry + "/" + prefix, getattr(error, "strerror", None) or str(error))
            continue
        budget[0] -= len(found)
        if budget[0] <= 0:
            return files, metadata
        below = []  # type: List[Tuple[str, str, int]]
        for item in found:
            name = item.name
            if ".so" in name and _SHARED.search(name):
                files.append(File(entry, prefix + name))
            elif "." in name and not depth and name.endswith((".dist-info", ".egg-info")):
                metadata.append(name)
            elif name == "pyvenv.cfg" and depth:
                below = []  # another environment inside this one
                break
            elif name not in _SKIPPED and not name.endswith((".py", ".pyc", ".pyi", ".h", ".txt")):
                kind = _directory(place, item, entry + "/" + prefix + name, home, visited)
                if kind is not None:
                    below.append((kind, prefix + name + "/", depth + 1))
        if not depth and any(item.name == "os.py" for item in found):
            # The standard library: only its own modules; what is installed below it has an entry of its own.
            below = [one for one in below if one[1] == "lib-dynload/"]
        if depth < DEPTH_LIMIT:
            root = entry.rstrip("/") + "/"
            stack.extend(one for one in below if root + one[1].rstrip("/") not in others)
    return files, metadata


def _directory(
    place: "Place", item: "os.DirEntry[str]", name: "str", top: "str", visited: "Set[Tuple[int, int]]"
) -> "Optional[str]":
    """The real path of a directory that is to be walked; a linked one only once, so that loops end."""
    try:
        if item.is_dir(follow_symlinks=False):
            return item.path
        if not item.is_symlink():
            return None
        real = os.path.realpath(name) if place.root == os.path.abspath(os.sep) else place.real(name)
        # A link to where the walk is anyway, or to above it.
        if (real + "/").startswith(top + "/") or (top + "/").startswith(real + "/"):
            return None
        status = os.stat(real)
        if not os.path.isdir(real) or (status.st_dev, status.st_ino) in visited:
            return None
    except (OSError, ValueError):
        return None
    visited.add((status.st_dev, status.st_ino))
    return real


def _owners(
    place: "Place", environment: "Environment", entry: "str", metadata: "List[str]", wanted: "bool"
) -> "Tuple[Dict[str, str], Dict[str, str]]":
    """``(relative path -> distribution, top-level name -> distribution)`` of one entry."""
    owners = {}  # type: Dict[str, str]
    by_top_level = {}  # type: Dict[str, str]
    for folder in sorted(metadata):
        key = re.sub(r"[-_.]+", "-", folder.rsplit(".", 1)[0].split("-")[0]).lower()
        if not key or folder[0] in "~-":
            continue
        base = entry + "/" + folder
        distribution = Distribution(key, entry)
        name = "/METADATA" if folder.endswith(".dist-info") else "/PKG-INFO"
        headers = place.read_bytes(base + name, METADATA_LIMIT)
        if headers:
            headers = headers.replace(b"\r\n", b"\n").split(b"\n\n", 1)[0]
            for other, rest in _REQUIRES.findall(headers):
                required = re.sub(r"[-_.]+", "-", other.decode("ascii")).lower()
                plain = re.search(rb"\bextra\s*==", rest) is None
                distribution.requires[required] = plain or distribution.requires.get(required, False)
        environment.distributions.setdefault(key, distribution)
        if not wanted:
            continue
        record = place.read_bytes(base + "/RECORD", RECORD_LIMIT)
        if record is None:
            names = (place.read_text(base + "/top_level.txt", 1 << 16) or key.replace("-", "_")).split()
        else:
            names = []
            for name in _recorded(record):
                owners.setdefault(name, key)
                distribution.top_levels.add(name.split("/", 1)[0])
        by_top_level.update((name, key) for name in names)
        distribution.top_levels.update(names)
    return owners, by_top_level


def _recorded(record: "bytes") -> "Iterator[str]":
    """The names of shared libraries in a RECORD."""
    position = record.find(b".so")
    while position >= 0:
        start = record.rfind(b"\n", 0, position) + 1
        end = record.find(b"\n", position)
        line = record[start : end if end >= 0 else len(record)]
        name = line.split(b",", 1)[0]
        if line[:1] == b'"':
            name = line[1:].split(b'",', 1)[0].replace(b'""', b'"')
        text = name.decode("utf-8", "surrogateescape")
        if _SHARED.search(text):
            yield text
        position = record.find(b".so", end) if end >= 0 else -1


def _guess(file: "File", by_top_level: "Dict[str, str]") -> "Optional[str]":
    first = file.relative.split("/", 1)[0]
    if os.path.basename(file.entry) == "lib-dynload" or first == "lib-dynload":
        return PYTHON
    stem = first.split(".", 1)[0]
    return by_top_level.get(first) or by_top_level.get(stem)


def preloads(place: "Place", distribution: "Distribution") -> "bool":
    """Whether the start of its packages loads libraries by hand (ctypes.CDLL and the like): the text of the
    Python files right inside them says so.
    """
    for top in sorted(distribution.top_levels):
        folder = distribution.entry + "/" + top
        if not place.is_dir(folder):
            continue
        names = [name for name in place.list_dir(folder) if name.endswith(".py")]
        # __init__.py first: it is where nearly all do it.
        for name in sorted(names, key=lambda one: (one != "__init__.py", one))[:100]:
            data = place.read_bytes(folder + "/" + name, 1 << 20) or b""
            if _LOADS.search(data):
                return True
    return False


_LOADS = re.compile(rb"\bCDLL\(|\bPyDLL\(|cdll\.LoadLibrary\(|RTLD_GLOBAL|\bdlopen\(|load_library\(")
