"""What becomes of a distribution whose extension modules this Python does not look for; nothing is imported.

``import`` knows one ending for what is compiled: ``_a.cpython-311-x86_64-linux-gnu.so`` is no module to Python 3.9, nor
to a musl, nor to an ARM. Site-packages that were copied from elsewhere are full of such files. PyYAML goes on without
them, charset-normalizer has the same module in Python beside each, and NumPy cannot be imported. Which of them it is
stands in the sources. Part of the probe ``libraries``.

An import of the package is followed in the order in which it runs, until it comes to a module that is not there. What
Python then prints depends on what it came to first; wherever something before may fail too, no text is told.
"""

if __name__ == "__main__":
    raise SystemExit("unseen_modules.py is part of the probe libraries.py and measures nothing by itself")

import sys

from . import import_statements, importers, library_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional, Set, Tuple  # noqa: F401

    from .importers import Importers, Search, _File
    from .import_statements import Statement
    from .library_files import File

# Answers that are listed of one distribution.
EXAMPLES = 8
# How deep imports are followed; below Python's own limit for calls.
DEPTH_LIMIT = 150
# What compilers of whole packages put beside their modules; only these import it.
_GROUP = "__mypyc"
_CONTINUES = (import_statements.GUARDED, import_statements.FUNCTION)


def of_distributions(
    asked: "Importers", files: "Iterable[File]", python: "Optional[Tuple[int, int]]"
) -> "Dict[str, Dict[str, Any]]":
    """By distribution: ``unseen_modules`` in ``schemas/sections/libraries.json``.

    ``files``   the extension modules under an ending that is not looked for
    ``python``  the version of the interpreter, by which its words differ; None: no words are told
    """
    owned = {}  # type: Dict[str, List[File]]
    for file in sorted(files, key=lambda one: (one.key.count("/"), one.key)):
        if file.owner and file.owner != library_files.PYTHON:
            owned.setdefault(file.owner, []).append(file)
    unseen = {owner: _Unseen(asked, owner, found) for owner, found in owned.items()}
    unseen = {owner: one for owner, one in unseen.items() if one.modules or one.twins}
    others = {name.split(".", 1)[0]: owner for owner, one in unseen.items() for name in one.modules}
    for owner, one in unseen.items():
        # What a requirement that fails first prints is not known here.
        shaky = bool((_required(asked, owner) - {owner}) & set(others.values()))
        one.look(python, set(others) - one.tops, shaky)
    return {owner: one.facts() for owner, one in unseen.items()}


def _required(asked: "Importers", owner: "str") -> "Set[str]":
    """The installed distributions that a plain install of this one needs, directly or not."""
    distributions = asked.environment.distributions
    found = [owner]
    for name in found:
        known = distributions.get(name)
        plain = [other for other, needed in known.requires.items() if needed] if known is not None else []
        found += [other for other in plain if other in distributions and other not in found]
    return set(found)


class _Unseen:
    """The modules of one distribution that no file answers, and the sources that stand in for some (``twins``)."""

    def __init__(self, asked: "Importers", owner: "str", files: "List[File]") -> "None":
        self.asked = asked
        self.owner = owner
        self.modules = {}  # type: Dict[str, File]
        self.twins = {}  # type: Dict[str, bool]
        self.complete = True
        self.start = None  # type: Optional[Dict[str, Any]]
        self.importers = {}  # type: Dict[str, Any]
        for file in files:
            module = importers.module_of(file.relative)
            if all(part.isidentifier() for part in module.split(".")):
                self._sort(file, module)
        self.tops = {name.split(".", 1)[0] for name in self.modules}

    def _sort(self, file: "File", module: "str") -> "None":
        folder, last = file.path.rpartition("/")[0], module.rpartition(".")[2]
        beside = [name for name in self.asked.place.list_dir(folder) if name.split(".", 1)[0] == last]
        if any(name.endswith(".so") and self.asked.is_module(name) for name in beside):
            return
        prefix = file.relative.rpartition("/")[0]
        for name in (last + ".py", last + ".pyc", last + "/__init__.py"):
            if self.asked.place.exists(folder + "/" + name):
                self.twins[(prefix + "/" if prefix else "") + name] = True
                return
        if last in beside:
            self.complete = False  # a directory is a package too, an empty one
        elif module not in self.modules:
            self.modules[module] = file

    def look(self, python: "Optional[Tuple[int, int]]", others: "Set[str]", shaky: "bool") -> "None":
        """``others`` top-level modules that lack such modules too, ``shaky`` where a requirement is among them."""
        for module, file in self.modules.items():
            by_itself = "." not in module and not module.startswith("_") and not module.endswith(_GROUP)
            if by_itself and self.asked.is_first(file.entry, module):
                self.start = {"package": module, "chain": [], "reworded": False, "module": module}
                self.start["error"] = not_found(module)
                return
        entries = {file.entry for file in self.modules.values()}
        if len(entries) == 1:
            self._follow(entries.pop(), python, others, shaky)
        if self.start is None:
            self._ask()

    def _follow(self, entry: "str", python: "Optional[Tuple[int, int]]", others: "Set[str]", shaky: "bool") -> "None":
        tops = {}  # type: Dict[str, File]
        for module, file in self.modules.items():
            tops.setdefault(module.split(".", 1)[0] if "." in module else "", file)
        for _, file in sorted(tops.items()):
            search = importers.Search(self.asked, self.asked.around(file), importers.module_of(file.relative), entry)
            for package in search.starts():
                run = _Run(self.asked, search, set(self.modules), others, shaky)
                if run.start(package):
                    self.start = run.facts(package, python)
                    return

    def _ask(self) -> "None":
        """Who imports each of them, until one is needed for certain, and no answer mends it."""
        for module, file in self.modules.items():
            if module.endswith(_GROUP):
                continue
            found = self.asked.of(file)
            if found is None:
                self.complete = False
                return
            self.importers[module] = found["by"]
            self.complete &= found["complete"]
            if any(entry["way"] in import_statements.CERTAIN for entry in found["by"].values()):
                return  # the others make it no better

    def facts(self) -> "Dict[str, Any]":
        facts = {"count": len(self.modules), "complete": self.complete}  # type: Dict[str, Any]
        if self.twins:
            facts["twins"] = dict.fromkeys(sorted(self.twins)[:EXAMPLES], True)
        if self.start is not None:
            facts["start"] = self.start
        elif self.importers:
            facts["importers"] = self.importers
        return facts


class _Run:
    """One import of a package, statement by statement, as far as the sources tell what runs."""

    def __init__(
        self, asked: "Importers", search: "Search", unseen: "Set[str]", others: "Set[str]", shaky: "bool"
    ) -> "None":
        self.asked = asked
        self.search = search
        self.unseen = unseen
        self.others = others
        self.tops = {name.split(".", 1)[0] for name in unseen}
        self.doubt = shaky
        self.called = set()  # type: Set[str]
        self.done = set()  # type: Set[str]
        self.running = []  # type: List[str]
        self.chain = []  # type: List[Tuple[_File, Statement]]
        self.missed = ""
        self.of_package = False
        self.reworded = False
        self._reach = {}  # type: Dict[str, bool]

    def start(self, package: "str") -> "bool":
        """Whether the import of this package surely ends at a module that is not seen."""
        source = self.search.known.get(package)
        return source is not None and self._run(source)

    def _run(self, source: "_File") -> "bool":
        self.done.add(source.module)
        parsed = self.asked.imports_of(source) if len(self.running) < DEPTH_LIMIT else None
        if parsed is None:
            self.doubt = True
            return False
        self.running.append(source.module)
        for statement in parsed.imports:
            if self._fails(source, statement):
                self.chain.insert(0, (source, statement))
                return True
        self.running.pop()
        return False

    def _fails(self, source: "_File", statement: "Statement") -> "bool":
        certain = statement.way in import_statements.CERTAIN and statement.absent in import_statements.CERTAIN
        if source.module in self.unseen:
            return False
        for name, by_attribute in self._names(statement):
            way = statement.way if by_attribute else statement.absent
            if name in self.unseen:
                if way in import_statements.CERTAIN:
                    return self._ends(name, by_attribute, way)
                if way == import_statements.FUNCTION:
                    self.called.add(name)  # perhaps called before the package is imported
                else:
                    self.doubt |= way != import_statements.GUARDED
                return False
            other = self.search.known.get(name)
            if other is None:
                self._pass(name, statement, by_attribute)
            elif name not in self.done:
                if certain:
                    if self._run(other):
                        self.reworded |= import_statements.REWORDED in (statement.way, statement.absent)
                        return True
                elif not (statement.way in _CONTINUES and statement.absent in _CONTINUES):
                    self.doubt |= self._may_fail(name)
        return False

    def _names(self, statement: "Statement") -> "List[Tuple[str, bool]]":
        """What a statement imports, in that order: the packages on the way, the module, and what is taken from it."""
        parts = statement.module.split(".")
        names = [(".".join(parts[: end + 1]), False) for end in range(len(parts))]
        if statement.attribute not in (None, "*"):
            name = "%s.%s" % (statement.module, statement.attribute)
            if name in self.unseen or name in self.search.known:
                if self.search.is_no_name(statement.module, statement.attribute or "", name):
                    names.append((name, True))
                else:
                    self.doubt |= name in self.unseen or self._may_fail(name)
        return names

    def _ends(self, name: "str", by_attribute: "bool", way: "str") -> "bool":
        self.missed, self.of_package = name, by_attribute
        self.reworded |= way == import_statements.REWORDED
        return True

    def _pass(self, name: "str", statement: "Statement", by_attribute: "bool") -> "None":
        """A module that is not among the sources: compiled, of another distribution, or not there."""
        if statement.way in _CONTINUES and statement.absent in _CONTINUES:
            return
        if name.split(".", 1)[0] in self.tops:
            folder = "%s/%s" % (self.search.entry, name.replace(".", "/"))
            self.doubt |= not by_attribute and not self.asked.place.is_dir(folder)
        elif "." not in name:
            self.doubt |= name in self.others or not self._is_there(name)

    def _is_there(self, top: "str") -> "bool":
        if top in sys.builtin_module_names:
            return True
        for entry in self.asked.entries:
            for name in self.asked.place.list_dir(entry):
                if name == top or name == top + ".py" or (name.startswith(top + ".") and self.asked.is_module(name)):
                    return True
        return False

    def _may_fail(self, module: "str") -> "bool":
        """Whether anything that may run with a module comes to one that is not seen."""
        if module in self._reach:
            return self._reach[module]
        seen = {module}
        waiting = [module]
        for name in waiting:
            if name in self.unseen:
                self._reach[module] = True
                return True
            source = self.search.known.get(name)
            parsed = self.asked.imports_of(source) if source is not None and name not in self.done else None
            for statement in parsed.imports if parsed is not None else ():
                if not (statement.way in _CONTINUES and statement.absent in _CONTINUES):
                    for other in statement.names():
                        if other not in seen:
                            seen.add(other)
                            waiting.append(other)
        self._reach[module] = False
        return False

    def facts(self, package: "str", python: "Optional[Tuple[int, int]]") -> "Dict[str, Any]":
        facts = {
            "package": package,
            "chain": ["%s:%d" % (source.key, statement.line) for source, statement in self.chain],
            "reworded": self.reworded,
            "module": self.missed,
        }  # type: Dict[str, Any]
        text = None if self.doubt or self.reworded or self.called - {self.missed} else self._text(python)
        if text is not None:
            facts["error"] = text
        return facts

    def _text(self, python: "Optional[Tuple[int, int]]") -> "Optional[str]":
        """As Python prints it (Python/ceval.c, import_from; since 3.8 it tells a package that is being imported)."""
        if not self.of_package:
            return not_found(self.missed)
        package, _, name = self.missed.rpartition(".")
        source = self.search.known.get(package)
        if python is None or python < (3, 8) or source is None or not source.is_package:
            return None
        if package in self.running:
            words = "partially initialized module '%s' (most likely due to a circular import)" % package
        else:
            words = "'%s'" % package
        return "ImportError: cannot import name '%s' from %s (%s)" % (name, words, source.path)


def not_found(module: "str") -> "str":
    return "ModuleNotFoundError: No module named '%s'" % module
