"""RECORD (PEP 376, 627): which files an installer wrote, and whether they are still those files.

A RECORD line is ``path,hash,size``. The files themselves are not read: their presence and size are compared,
which costs one system call a file.
"""

import hashlib
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Set, Tuple

    from .common import Place

# Written by installers, not by the wheel; they differ between pip and uv and say nothing of the build.
_INSTALLERS_OWN = re.compile(r"\.dist-info/(?:INSTALLER|REQUESTED|RECORD|direct_url\.json|uv_\w+\.json|WHEEL\.bak)$")

# A hostile RECORD cannot make us ask for more files than this.
FILE_LIMIT = 500000


class Files:
    """The files of one install.

    ``hashes``      path -> recorded hash, for what the wheel brought (no bytecode, nothing of the installer)
    ``missing``     recorded and not there
    ``altered``     path -> (recorded size, found size)
    ``top_level``   first components of the paths (a path outside of the location stands for itself)
    ``digest``      over the hashes: equal for the same wheel, whoever installed it
    """

    def __init__(self) -> "None":
        self.hashes = {}  # type: Dict[str, str]
        self.missing = []  # type: List[str]
        self.altered = {}  # type: Dict[str, Tuple[int, int]]
        self.top_level = set()  # type: Set[str]
        self.digest = ""

    @property
    def count(self) -> "int":
        return len(self.hashes)

    @property
    def contradictions(self) -> "int":
        return len(self.missing) + len(self.altered)

    def modules(self) -> "List[str]":
        """Top-level names that can be imported."""
        names = set()
        for name in self.top_level:
            stem, dot, rest = name.partition(".")
            if stem.isidentifier() and (not dot or rest == "py" or rest.endswith(("so", "pyd"))):
                names.add(stem)
        return sorted(names - {"__pycache__", "bin", "Scripts"})


def read(place: "Place", location: "str", folder: "str") -> "Optional[Files]":
    """The files of the install whose metadata directory is ``location/folder``; None without any RECORD.

    Old setuptools wrote ``installed-files.txt`` instead, relative to the metadata directory and without
    sizes; Debian removes both.
    """
    path = location + "/" + folder + "/RECORD"
    text = place.read_text(path)
    if text is None:
        return None
    files = Files()
    base = place.real(location) + "/"
    stat = os.stat
    hashes = files.hashes
    heads = {}  # type: Dict[str, Tuple[bool, bool]]  # "numpy/" -> is it the metadata, does it lead outside
    lines = []
    # Forty thousand turns of this loop are what a snapshot of a large environment costs: the common case, a plain
    # line with a hash and a size inside the location, takes the fewest steps.
    for line in text.splitlines():
        if line.endswith(".pyc,,"):
            continue
        row = line.rsplit(",", 2) if line[:1] != '"' else _quoted(line)
        if len(row) != 3 or not row[0]:
            if line.strip():
                place.problem(path, "a line that is not 'path,hash,size': %.80r" % line)
            continue
        name, value, size = row
        if not size and name.endswith(".pyc"):
            continue
        head = name[: name.find("/") + 1]
        known = heads.get(head)
        if known is None or not head:
            known = (name.startswith(folder), _leads_outside(name))
        if known[0] and _INSTALLERS_OWN.search(name):
            continue
        heads[head] = known
        outside = known[1] or ".." in name
        if outside:
            real = _outside(place, location, name)
        else:
            real = base + name
            lines.append(line)
        if not head or name[:2] == "..":
            files.top_level.add(name)
        hashes[name] = value
        try:
            found = stat(real).st_size
        except (OSError, ValueError):
            files.missing.append(name)
            continue
        # Console scripts are rewritten by installers and when an environment moves: their size says nothing.
        if size and not outside and str(found) != size:
            try:
                files.altered[name] = (int(size), found)
            except ValueError:
                place.problem(path, "a size that is no number: %.80r" % line)
        if len(hashes) >= FILE_LIMIT:
            place.problem(path, "more than %d files; the rest was not compared" % FILE_LIMIT)
            break
    lines.sort()
    files.digest = "sha256:" + hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    files.top_level.update([head[:-1] for head in heads if head and head[:2] != ".."])
    files.top_level.discard(folder)
    return files


def _leads_outside(name: "str") -> "bool":
    """Whether a path of a RECORD is none below its location, by its beginning.

    Scripts: ``../../../bin/tool`` in an environment, ``bin/tool`` in a directory of ``pip install --target``.
    """
    return name[0] in "./\\" or name[1:2] == ":" or name.startswith(("bin/", "Scripts/"))


def _outside(place: "Place", location: "str", name: "str") -> "str":
    """``../../../bin/tool`` relative to the location, resolved inside the root."""
    return place.real(name if name.startswith("/") else location + "/" + name)


def _quoted(line: "str") -> "List[str]":
    """A line in which the path is quoted, because it holds a comma or a quote."""
    import csv

    for row in csv.reader([line]):
        return row
    return []
