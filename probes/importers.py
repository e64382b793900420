"""Who imports an extension module that cannot be loaded, by the Python sources beside it; nothing is imported.

A module that does not load says little while nobody knows who asks for it. Numba tries its layers of threads one by
one and goes on without those that fail; a package whose ``__init__.py`` begins with such a module cannot be imported
at all. Which of them it is stands in the sources. Part of the probe ``libraries``.

Only modules with a failure are asked about, so an environment in order costs nothing. The sources of the package are
searched for the name of the module, and what has it is parsed (``import_statements``). Then what the ``__init__.py`` of
the package surely runs is followed, until it comes to one of the sources that import the module, or to an end.
"""

if __name__ == "__main__":
    raise SystemExit("importers.py is part of the probe libraries.py and measures nothing by itself")

import os
import re

from . import common, import_statements, library_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple  # noqa: F401

    from .common import Place
    from .library_files import Environment, File
    from .import_statements import Statement

# Where nothing fits the machine, hundreds of modules fail for one reason: these many are asked about.
MODULE_LIMIT = 60
# Of one package: its files, and how deep they lie.
FILE_LIMIT = 20000
DEPTH_LIMIT = 20
# Where so few sources import a module, it is asked who imports them.
GUARDS_LIMIT = 4
# Of all packages together: the bytes of sources that are searched, and the weight of those that are parsed.
READ_LIMIT = 192 << 20
PARSE_LIMIT = 1000000
# What was copied from elsewhere is nearly always all that there is.
ABSENT_LIMIT = 4 * PARSE_LIMIT
# Of the statements that import a module these many are listed.
EXAMPLES = 8
# A larger source is not even searched.
TEXT_LIMIT = 4 << 20
# A name counts where the word "import" stands this many bytes before it at the most, or right behind it.
_BEFORE, _BEHIND = 4000, 300

# Written for those who work on the package; no service imports them.
_ASIDE = frozenset(["__pycache__", "test", "tests"])
_STEPS_BACK = re.compile(rb"sys\.modules\.pop\([\"']\w+[\"']\)\s+\w+ = importlib\.import_module\(")


class _File:
    """One source. ``path`` inside the root; ``real`` what is opened; ``sure``: an import of ``module`` runs it."""

    __slots__ = ("is_package", "key", "module", "path", "real", "sure")

    def __init__(self, key: "str", path: "str", real: "Optional[str]", sure: "bool") -> "None":
        self.key = key
        self.path = path
        self.real = real
        self.sure = sure
        self.is_package = key.endswith("/__init__.py")
        self.module = (key[:-12] if self.is_package else key[:-3]).replace("/", ".")


# A statement, the source in which it stands, and whether it surely imports what was asked for.
if TYPE_CHECKING:
    Import = Tuple[_File, Statement, str]


def module_of(relative: "str") -> "str":
    """``a/b/_c.cpython-311-x86_64-linux-gnu.so`` is imported as ``a.b._c``."""
    folder, slash, name = relative.rpartition("/")
    return (folder + slash).replace("/", ".") + name.split(".", 1)[0]


class Importers:
    """Answers for one environment. ``is_module(file name)`` says whether this interpreter looks for such a file.

    ``absent``: the modules that are asked about are not found, where others are found and refused by the loader.
    """

    def __init__(
        self, place: "Place", environment: "Environment", is_module: "Callable[[str], bool]", absent: "bool" = False
    ) -> "None":
        self.absent = absent
        self.place = place
        self.environment = environment
        self.is_module = is_module
        self.entries = library_files.entries_of(place)
        self.left = MODULE_LIMIT
        self.read_left = READ_LIMIT
        self.parse_left = ABSENT_LIMIT if absent else PARSE_LIMIT
        self._files = {}  # type: Dict[Tuple[str, str], List[_File]]
        self.parsed = {}  # type: Dict[str, Optional[import_statements.Source]]
        self._extensions = {}  # type: Dict[str, Set[str]]

    def of(self, file: "File") -> "Optional[Dict[str, Any]]":
        """Who imports the module that this file is; None where nothing can be told.

        See ``importers`` in ``schemas/sections/libraries.json`` for the facts.
        """
        folder, _, name = file.relative.rpartition("/")
        module = module_of(file.relative)
        if self.left <= 0 or not all(part.isidentifier() for part in module.split(".")):
            return None
        self.left -= 1
        sources = self.around(file)
        by_itself = not folder and not name.startswith("_")
        if not sources and not by_itself:
            return None
        finds = self._finds(file, module)
        search = Search(self, sources, module, file.entry)
        search.run(finds)
        facts = search.facts()
        if by_itself and finds:
            facts["start"] = {"package": module, "chain": [], "reworded": False}
        return facts

    # Sources

    def around(self, file: "File") -> "List[_File]":
        """The sources that may import the module that a file is."""
        tops = [file.relative.split("/", 1)[0]] if "/" in file.relative else self._around(file)
        return [source for top in tops for source in self._sources(file.entry, top)]

    def _around(self, file: "File") -> "List[str]":
        """The packages that may import a module at the top level: its distribution's, and those that require it."""
        keys = [file.owner] if file.owner else []
        for key, known in sorted(self.environment.distributions.items()):
            if known.requires.get(file.owner or "") and known.entry == file.entry:
                keys.append(key)
        tops = []  # type: List[str]
        for key in keys:
            tops += [top for top in self._recorded_tops(file.entry, key) if top not in tops]
        return tops

    def _recorded_tops(self, entry: "str", key: "str") -> "List[str]":
        """The packages and modules at the top of a distribution, as its RECORD lists their sources."""
        for folder in self.place.list_dir(entry):
            if not folder.endswith(".dist-info"):
                continue
            if re.sub(r"[-_.]+", "-", folder[:-10].split("-")[0]).lower() == key:
                record = self.place.read_bytes(entry + "/" + folder + "/RECORD") or b""
                found = set(re.findall(rb"^(?:([A-Za-z_]\w*)/[^\n,]*\.py|([A-Za-z_]\w*\.py)),", record, re.MULTILINE))
                return sorted({(package or module).decode("ascii", "replace") for package, module in found})
        return []

    def _sources(self, entry: "str", top: "str") -> "List[_File]":
        """The sources of one package, the nearest to its top first."""
        found = self._files.get((entry, top))
        if found is None:
            found = self._files[entry, top] = []
            if top.endswith(".py"):
                if self.place.exists(entry + "/" + top):
                    found.append(_File(top, entry + "/" + top, None, True))
            else:
                self._walk(entry, top, found)
            found.sort(key=lambda one: (one.key.count("/"), not one.is_package, one.key))
        return found

    def _walk(self, entry: "str", top: "str", found: "List[_File]") -> "None":
        left = FILE_LIMIT
        waiting = [(top, 0)]
        while waiting:
            prefix, depth = waiting.pop()
            folder = entry.rstrip("/") + "/" + prefix
            real = self.place.real(folder)
            try:
                with os.scandir(real) as listing:
                    items = sorted(listing, key=lambda item: item.name)
            except (OSError, ValueError):
                continue
            left -= len(items)
            if left <= 0:
                return
            folders = set()
            names = [item.name for item in items]
            for item in items:
                if "." not in item.name and item.name not in _ASIDE and _is_folder(item):
                    folders.add(item.name)
                    if depth < DEPTH_LIMIT:
                        waiting.append((prefix + "/" + item.name, depth + 1))
            compiled = {name.split(".", 1)[0] for name in names if ".so" in name and self.is_module(name)}
            for item in items:
                name = item.name
                if name.endswith(".py") and name[:-3].isidentifier():
                    # Extension modules and packages come before sources of the same name.
                    sure = name[:-3] not in compiled and name[:-3] not in folders
                    # A link may lead out of the root: Place resolves it when it is read.
                    path = None if _is_link(item) else item.path
                    found.append(_File(prefix + "/" + name, folder + "/" + name, path, sure))

    def imports_of(self, source: "_File", data: "Optional[bytes]" = None) -> "Optional[import_statements.Source]":
        """The imports of a source, whose ``data`` may be known; None where it was not, or cannot be, parsed."""
        if source.path not in self.parsed:
            data = self.text(source) if data is None else data
            parsed = None
            weight = import_statements.weight(data) if data is not None else 0
            if data is not None and weight <= self.parse_left:
                parsed = import_statements.read(data, source.module, source.is_package)
                self.parse_left -= weight
            self.parsed[source.path] = parsed
        return self.parsed[source.path]

    def text(self, source: "_File") -> "Optional[bytes]":
        """A source as it is; None where it cannot be read, or is too large."""
        if self.read_left <= 0:
            return None
        try:
            real = source.real if source.real is not None else self.place.real(source.path)
            data = common.read_regular(real, TEXT_LIMIT + 1)
        except (OSError, ValueError):
            return None
        self.read_left -= len(data)
        return data if len(data) <= TEXT_LIMIT else None

    # What an import finds

    def _finds(self, file: "File", module: "str") -> "bool":
        """Whether an import of this name comes to this very file, and to no other on the search path."""
        folder, _, own = file.path.rpartition("/")
        last = module.rpartition(".")[2]
        rivals = [name for name in self.place.list_dir(folder) if name.split(".", 1)[0] == last and name != own]
        if any(self.is_module(name) for name in rivals) or self.place.exists("%s/%s/__init__.py" % (folder, last)):
            return False
        return self.is_first(file.entry, module)

    def is_first(self, entry: "str", module: "str") -> "bool":
        """Whether no earlier entry of the search path has a module or a package of this name at its top."""
        top = module.split(".", 1)[0]
        for other in self.entries:
            if other == entry:
                return True
            if any(name.split(".", 1)[0] == top for name in self.place.list_dir(other)):
                return False
        return False

    def extensions(self, entry: "str") -> "Set[str]":
        """The modules of one entry of the search path that are shared libraries."""
        found = self._extensions.get(entry)
        if found is None:
            found = self._extensions[entry] = set()
            for file in self.environment.files:
                if file.entry == entry and self.is_module(file.relative.rsplit("/", 1)[-1]):
                    found.add(module_of(file.relative))
        return found


class Search:
    """Who imports a module, and whether the start of its package comes to one of them."""

    def __init__(self, asked: "Importers", sources: "List[_File]", module: "str", entry: "str") -> "None":
        self.asked = asked
        self.sources = sources
        self.module = module
        self.entry = entry
        self.known = {}  # type: Dict[str, _File]
        for source in sources:
            if source.sure:
                self.known.setdefault(source.module, source)
        self.complete = True
        self.imports = []  # type: List[Import]
        self.above = {}  # type: Dict[str, List[Import]]
        self.package = None  # type: Optional[str]
        self.chain = []  # type: List[Import]

    def run(self, finds: "bool") -> "None":
        """``finds``: an import of the module comes to the file that was asked about, so a chain proves something."""
        self.imports = self._importing([self.module])[self.module]
        if finds:
            self._follow()
        if self.package is None:
            open_ways = import_statements.WAYS[:3]
            names = {source.module for source, _, way in self.imports if way in open_ways}
            if names and len(names) <= GUARDS_LIMIT and not names & set(self.starts()):
                self.above = self._importing(sorted(names))

    def starts(self) -> "List[str]":
        """What a user of the distribution imports: its packages and modules that lie nearest to the top."""
        depth = min([name.count(".") for name in self.known] or [0])
        names = [name for name in self.known if name.count(".") == depth and not name.startswith("_")]
        if depth == 0 or any(self.known[name].is_package for name in names):
            return [name for name in names if self.asked.is_first(self.entry, name)]
        return []

    def _follow(self) -> "None":
        """What surely runs when a package is imported, breadth first, until something imports the module."""
        last = {}  # type: Dict[str, Import]
        for one in self.imports:
            if one[2] in import_statements.CERTAIN and self.known.get(one[0].module) is one[0]:
                last.setdefault(one[0].module, one)
        if not last:
            return
        for start in self.starts():
            came = {start: None}  # type: Dict[str, Optional[Import]]
            waiting = [start]
            for name in waiting:
                if name in last:
                    self.package = start
                    self.chain = [last[name]]
                    above = came[name]
                    while above is not None:
                        self.chain.insert(0, above)
                        above = came[above[0].module]
                    return
                source = self.known[name]
                parsed = self.asked.imports_of(source)
                for statement in parsed.imports if parsed is not None else ():
                    if statement.way in import_statements.CERTAIN:
                        for other in self._surely(statement):
                            if other not in came:
                                came[other] = (source, statement, statement.way)
                                waiting.append(other)

    def _surely(self, statement: "Statement") -> "List[str]":
        """The sources that a statement runs if it is executed: those of all packages on the way first."""
        found = []  # type: List[str]
        for name in statement.names():
            if name != statement.module and not self.is_no_name(statement.module, statement.attribute or "", name):
                continue
            parts = name.split(".")
            found += [".".join(parts[: end + 1]) for end in range(len(parts))]
        return [name for name in found if name in self.known]

    def _importing(self, modules: "List[str]") -> "Dict[str, List[Import]]":
        """The statements that import each of these modules, or something inside of a package among them."""
        found = {module: [] for module in modules}  # type: Dict[str, List[Import]]
        needles = {module.rpartition(".")[2].encode("ascii", "replace") for module in modules}
        for source in self.sources:
            data = None
            if source.path not in self.asked.parsed:
                data = self.asked.text(source)
                if data is None:
                    self.complete = False
                    continue
                if not _names_near_import(data, needles):
                    continue
            parsed = self.asked.imports_of(source, data)
            if parsed is None:
                self.complete = False
                continue
            for statement in parsed.imports:
                for module in modules:
                    # What lies inside of a package runs after its start, and does not lead to it.
                    if source.module != module and not source.module.startswith(module + "."):
                        way = self._imports(source, statement, module)
                        if way:
                            found[module].append((source, statement, way))
        return found

    def _imports(self, source: "_File", statement: "Statement", module: "str") -> "Optional[str]":
        """By which way a statement imports a module; None where it does not."""
        itself = source.is_package and statement.module == source.module and self._replaces_itself(source, module)
        if itself or (statement.module + ".").startswith(module + "."):
            sure = True
            way = statement.absent if self.asked.absent else statement.way
        elif statement.attribute is not None and statement.module + "." + statement.attribute == module:
            sure = self.is_no_name(statement.module, statement.attribute, module)
            way = statement.way
        else:
            return None
        return way if sure and source.sure else import_statements.perhaps(way)

    def is_no_name(self, package: "str", name: "str", module: "str") -> "bool":
        """Whether ``from package import name`` has to import the module: the package binds nothing of that name."""
        start = self.known.get(package)
        if start is None:
            return True
        parsed = self.asked.imports_of(start)
        if parsed is None or name in parsed.names or (parsed.stars and not name.startswith("_")):
            return False
        bound = [one for one in parsed.imports if one.bound == name and one.way != import_statements.FUNCTION]
        return all(module in one.names() for one in bound)

    def _replaces_itself(self, source: "_File", module: "str") -> "bool":
        """OpenCV's loader: ``cv2/__init__.py`` takes itself out of sys.modules and imports ``cv2`` anew, which then is
        the ``cv2/cv2.abi3.so`` beside it.
        """
        if module != source.module + "." + source.module.rpartition(".")[2]:
            return False
        return _STEPS_BACK.search(self.asked.text(source) or b"") is not None

    # Facts

    def facts(self) -> "Dict[str, Any]":
        by = {}  # type: Dict[str, Dict[str, Any]]
        ways = import_statements.WAYS
        for source, statement, way in self.imports:
            record = {"way": way}  # type: Dict[str, Any]
            guard = self._guard_of(source) if way in ways[:3] else None
            if guard is not None:
                record = {"way": import_statements.GUARDED, "through": guard}
            elif way == import_statements.GUARDED or (self.asked.absent and way == import_statements.CONDITIONAL):
                instead = self._instead(source, statement)
                if instead:
                    record["instead"] = instead
                if self.asked.absent and way == import_statements.CONDITIONAL and statement.caught:
                    record["caught"] = True
            where = _where(source, statement)
            if where not in by or ways.index(record["way"]) < ways.index(by[where]["way"]):
                by[where] = record
        kept = sorted(by, key=lambda where: (ways.index(by[where]["way"]), where))[:EXAMPLES]
        facts = {"by": {where: by[where] for where in kept}, "complete": self.complete}  # type: Dict[str, Any]
        if self.package is not None:
            facts["start"] = {
                "package": self.package,
                "chain": [_where(source, statement) for source, statement, _ in self.chain],
                "reworded": any(way == import_statements.REWORDED for _, _, way in self.chain),
            }
        return facts

    def _guard_of(self, source: "_File") -> "Optional[str]":
        """Where the source is imported, if every statement that does it is guarded."""
        above = self.above.get(source.module)
        if not above or not self.complete or any(way != import_statements.GUARDED for _, _, way in above):
            return None
        return _where(above[0][0], above[0][1])

    def _instead(self, source: "_File", statement: "Statement") -> "Dict[str, bool]":
        """The other extension modules from which the same name is taken in the same place.

        Of a module that is not found: the sources too, as a part is often written in Python and compiled both.
        """
        parsed = self.asked.imports_of(source)
        known = self.asked.extensions(self.entry)
        if self.asked.absent:
            known = known | set(self.known)
        found = {}  # type: Dict[str, bool]
        for other in parsed.imports if parsed is not None else ():
            if other.scope == statement.scope and other.bound == statement.bound and other.line != statement.line:
                for name in other.names():
                    if name in known and name != self.module and len(found) < EXAMPLES:
                        found[name] = True
        return found


def _where(source: "_File", statement: "Statement") -> "str":
    return "%s:%d" % (source.key, statement.line)


def _names_near_import(data: "bytes", needles: "Set[bytes]") -> "bool":
    """Whether one of the names stands in what may be an import: most sources need not be parsed."""
    return any(_is_near_import(data, needle) for needle in needles)


def _is_near_import(data: "bytes", needle: "bytes") -> "bool":
    position = data.find(needle)
    while position >= 0:
        if b"import" in data[max(0, position - _BEFORE) : position + _BEHIND]:
            return True
        word = data.find(b"import", position)
        position = data.find(needle, max(position + 1, word - _BEHIND)) if word >= 0 else -1
    return False


def _is_folder(item: "os.DirEntry[str]") -> "bool":
    try:
        return item.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_link(item: "os.DirEntry[str]") -> "bool":
    try:
        return item.is_symlink()
    except OSError:
        return True
