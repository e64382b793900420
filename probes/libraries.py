"""Section ``libraries``: what the dynamic loader would do for each extension module and each shared library.

Every ELF file states what it needs (``DT_NEEDED``, symbol versions, undefined symbols) and what it offers.
This probe does the loader's search again from these statements, without loading anything. It records what is
unresolved or remarkable of each file, what each distribution needs from outside, and which file answers.

What Python itself adds is taken into account: a need that the search does not answer, and that a distribution
in the requirements of the file's own has loaded by then, is answered by ``dependency``. Either importing it
maps the library (``linked``), or a package on the way loads libraries by hand (``preload``).
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES

from . import common, elf, elf_symbols, importers, library_answers, library_files, library_symbols, loader
from . import unseen_modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place
    from .library_files import File
    from .loader import Answer, Library, Mapped, Walk

LAYER = "image"

# The lowest Linux that ordinary libraries state (glibc's own, since 2.26); only a later one is remarkable.
USUAL_KERNEL = (3, 2, 0)

# What the driver's absent libraries define: cuInit, nvmlInit_v2, NvOptixInit.
_DRIVER_SYMBOL = re.compile(rb"^(?:cu[A-Z]|nvml|cuvid|nvcuvid|NvEncode)")


# A broken environment has some hundred files with something to say; what is more is cut, and counted.
RECORD_LIMIT = 1000

# Of the undefined symbols of one file this many are named; all are counted.
SYMBOL_EXAMPLES = 10

# The C API of NumPy, by the name under which an extension imports it (numpy/_core/code_generators/
# generate_numpy_api.py): before NumPy 2 only the first; since 2.0 the second, then the first.
_NUMPY_1 = b"numpy.core._multiarray_umath"
_NUMPY_2 = b"numpy._core"
# The macro import_array() raises with this text; code that calls _import_array() by hand may go on without.
_NUMPY_RAISES = b"numpy.core.multiarray failed to import"
# Cython compares sizes before it calls import_array() (Cython/Utility/ImportExport.c), and numpy.dtype's changed.
_CYTHON_COMPARES = b"size changed, may indicate binary incompatibility"
# Its modules turn the error into one of their own, print it, and are imported all the same (onnxruntime 1.15).
_PYBIND = b"pybind11"
_NUMPY_NAMES = [_NUMPY_1, _NUMPY_2]
_NUMPY_WAYS = [_NUMPY_RAISES, _CYTHON_COMPARES, _PYBIND]

# Two of one kind in one process compete: for threads (OpenMP), for the meaning of a call (BLAS).
_RUNTIMES = {
    "openmp": re.compile(r"^lib(?:gomp|iomp5|omp)(?:[-.]|$)"),
    "blas": re.compile(r"^lib(?:(?:scipy_)?openblas|mkl_(?:rt|core)|blis|flexiblas|armpl|[ts]?atlas|cblas|blas)"),
}

# A file that was cut is mapped beyond its end, and the first touch there kills the process (SIGBUS, mmap(2)).
_CRASH = "Bus error"

# Files that are looked at by their own name (modules) or not at all.
_ASIDE = ("module", "foreign", "shadowed")

_TAGGED = re.compile(
    r"^(?P<stem>.+?)"
    r"(?:\.(?P<tag>cpython-\d+[a-z]*(?:-[A-Za-z0-9_-]+)?|abi3t?(?:-[A-Za-z0-9_-]+)?|pypy\d+-\w[\w-]*))?\.so$"
)


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts of the shared libraries; see ``schemas/sections/libraries.json`` for each.

    Raises:
        Absent: on a platform whose libraries are no ELF files.
    """
    if place.live and not sys.platform.startswith("linux"):
        raise common.Absent("the shared libraries of %s are not ELF files" % sys.platform)
    return Measurement(place).facts()


def interpreter_of(place: "Place") -> "Optional[str]":
    """The path of the interpreter inside the root, links resolved; None where nothing tells.

    ``place.options["executable"]`` says it; a live one knows itself; in an unpacked root it stands in ``bin``
    beside the ``lib/pythonX.Y`` of the search path.
    """
    stated = place.options.get("executable") or (sys.executable if place.live else None)
    names = [str(stated)] if stated else []
    for entry in place.search_path:
        match = re.match(r"^(.*)/lib(?:64)?/(python\d+\.\d+)t?(?:/|$)", entry)
        if match and not stated:
            names += ["%s/bin/%s" % (match.group(1), name) for name in (match.group(2), "python3", "python")]
    for name in names:
        real = os.path.realpath(name) if place.root == os.path.abspath(os.sep) else place.real(name)
        if os.path.isfile(real):
            return place.inside(real)
    return None


def extension_name(
    file_name: "str", tag: "Optional[str]", machine: "Optional[str]" = None, libc: "Optional[str]" = None
) -> "Tuple[Optional[str], bool]":
    """``(module name, whether this interpreter looks for it)``; ``(None, False)`` for no module.

    ``tag`` is the start of the interpreter's own suffix (``cpython-311``); None accepts any. So do ``machine``
    (``x86_64``) and ``libc``, which stand at its end: ``import`` knows its own ending alone, and what is there under
    another one is a module that nobody finds, whatever the loader would say of it.
    """
    match = _TAGGED.match(file_name)
    if match is None or not match.group("stem").isidentifier():
        return None, False
    own = match.group("tag")
    if own is None or own.startswith("abi3") or tag is None:
        return match.group("stem"), True
    # The marks m and d (pymalloc, debug) belong to the same version; t (free-threaded) is another ABI.
    same = re.match(re.escape(tag) + r"[md]*(?:-|$)", own) is not None
    return match.group("stem"), same and not _names_other_platform(own, machine, libc)


def _names_other_platform(own: "str", machine: "Optional[str]", libc: "Optional[str]") -> "bool":
    """Whether a tag (``cpython-311-aarch64-linux-musl``) ends with a processor or a C library that is not here.

    A Python for musl may have been built before there was an ending for it; the other way round there is none.
    """
    match = re.search(r"-(x86_64|aarch64)-linux-(gnu|musl)$", own)
    if match is None:
        return False
    other_machine = machine in ("x86_64", "aarch64") and match.group(1) != machine
    return other_machine or (libc == "glibc" and match.group(2) == "musl")


class Measurement:
    def __init__(self, place: "Place") -> "None":
        self.place = place
        self.executable = interpreter_of(place)
        if self.executable is None:
            place.problem("interpreter", "nothing says where it is; its own libraries and symbols are unknown")
        self.loader = loader.Loader(place, self.executable)
        self.start = self.loader.start()
        self.environment = library_files.find(place)
        self.symbols = library_symbols.SymbolTable(place, self.loader.libc == "musl")
        program = self.loader.program.elf if self.loader.program is not None else None
        self.suffix = (_tag_of(place), program.machine_name if program is not None else None, self.loader.libc)
        self.keys = {}  # type: Dict[str, str]
        self.libraries = {}  # type: Dict[str, Library]
        self.owners = {}  # type: Dict[Tuple[int, int], Optional[str]]
        self.roles = {}  # type: Dict[str, str]
        self.records = {}  # type: Dict[str, Dict[str, Any]]
        self.walks = {}  # type: Dict[str, Walk]
        self.reached = {}  # type: Dict[Tuple[int, int], str]
        self.linked = {}  # type: Dict[str, Dict[str, Library]]
        self.lent = {}  # type: Dict[str, Dict[str, Dict[str, str]]]
        self._preloading = {}  # type: Dict[str, bool]
        self._by_name = None  # type: Optional[Dict[str, Dict[str, Library]]]
        self._unanswered = {}  # type: Dict[Tuple[int, int], AbstractSet[bytes]]
        self.unseen = {}  # type: Dict[str, Dict[str, Any]]

    def facts(self) -> "Dict[str, Any]":
        self._read_files()
        self._walk_modules()
        self._walk_others()
        self._check_versions()
        self._check_symbols()
        self._numpy()
        self._ask_importers()
        self._look_for_unseen()
        answers = library_answers.Answers(self)
        return {
            "interpreter": self._interpreter(),
            "search": {
                "ld_library_path": list(self.loader.library_path),
                "ld_preload": self.loader.preloads(),
                "default": list(self.loader.defaults()),
            },
            "files": self._remarkable(),
            "distributions": answers.distributions,
            "libraries": answers.libraries(),
            "runtimes": self._runtimes(),
        }

    def _remarkable(self) -> "Dict[str, Any]":
        """The records that say something; of a flood of them the modules' come first."""
        keys = [key for key, record in self.records.items() if len(record) > 2]
        if len(keys) > RECORD_LIMIT:
            self.place.problem("files", "%d have something to say; %d are listed" % (len(keys), RECORD_LIMIT))
            keys = sorted(keys, key=lambda key: (self.roles[key] != "module", key))[:RECORD_LIMIT]
        return {key: self.records[key] for key in keys}

    # Files

    def record(self, file: "File") -> "Dict[str, Any]":
        """The record of a file, made when there is something to say of it (more than role and owner)."""
        made = self.records.get(file.key)
        if made is None:
            made = self.records[file.key] = {"role": self.roles[file.key], "distribution": file.owner}
        return made

    def name(self, path: "str") -> "str":
        """How facts name a path: by its key where it is a file of the environment."""
        tidy = loader.tidy(path)
        return self.keys.get(tidy, tidy)

    def _read_files(self) -> "None":
        for file in self.environment.files:
            library = self.loader.library(file.path)
            if library is None:
                continue  # a dangling link, or gone since the directory was read
            self.libraries[file.key] = library
            self.keys[loader.tidy(file.path)] = file.key
            self.owners.setdefault(library.identity, file.owner)
            if file.shadowed:
                self.roles[file.key] = "shadowed"
                continue
            module, own = extension_name(file.relative.rsplit("/", 1)[-1], *self.suffix)
            self.roles[file.key] = "unused" if module is None or own else "foreign"
            if library.elf is None:
                if module is None or own:
                    self.roles[file.key] = "module" if module and not module.startswith("lib") else "unused"
                    self.record(file)["error"] = library.error
                    if self.roles[file.key] == "module":
                        self._refused(file)
                continue
            self._remark(file, library.elf)
            if not self.loader.suits(library):
                self.roles[file.key] = "foreign" if self.roles[file.key] == "foreign" else "unused"
                if self.roles[file.key] != "foreign" and module and self._initialises(library, module):
                    self.roles[file.key] = "module"
                    self.record(file)["role"] = "module"
                if self.roles[file.key] == "module":
                    self.record(file)["machine"] = "%s, %d bit" % (library.elf.machine_name, library.elf.bits)
                    self._refused(file)
                continue
            definition = b"PyInit_" + module.encode("ascii", "replace") if module and own else None
            if self.symbols.read(library, definition):
                self.roles[file.key] = "module"
        for mapped in self.start.mapped:
            self.symbols.read(mapped.library, None)
        for key, made in self.records.items():
            made["role"] = self.roles[key]

    def _refused(self, file: "File") -> "None":
        """A module that the loader does not even map."""
        walk = self.loader.open(file.path, self.start)
        if walk.failed:
            text = self._in_words(*walk.failed[0])
            self._first(file, text, "crash" if text == _CRASH else "library")

    def _initialises(self, library: "Library", module: "str") -> "bool":
        try:
            return (
                library.elf is not None
                and elf_symbols.needs(library.elf, b"PyInit_" + module.encode("ascii", "replace")).defines
            )
        except elf.ElfError as error:
            self.place.problem(library.path, error.reason)
            return False

    def _remark(self, file: "File", library: "elf.Elf") -> "None":
        if self.roles[file.key] == "foreign":
            return
        if _wants_executable_stack(library):
            self.record(file)["executable_stack"] = True
        if library.static_tls and library.tls_bytes:
            self.record(file)["static_tls_bytes"] = library.tls_bytes
        if library.text_relocations:
            self.record(file)["text_relocations"] = True
        if library.cut_bytes:
            self.record(file)["cut_bytes"] = library.cut_bytes
        if library.kernel is not None and tuple(map(int, library.kernel.split("."))) > USUAL_KERNEL:
            self.record(file)["kernel"] = library.kernel
        if library.isa is not None:
            self.record(file)["x86_64_level"] = library.isa

    # Walks

    def _walk_modules(self) -> "None":
        modules = [file for file in self.environment.files if self.roles.get(file.key) == "module"]
        modules = [file for file in modules if self.libraries[file.key].elf is not None]
        for file in modules:
            if self.loader.suits(self.libraries[file.key]):
                self._walked(file, self.loader.open(file.path, self.start))
        # Each round can only map what the round before has not: a dependency that was answered by its own.
        for _ in range(5):
            changed = False
            for file in modules:
                walk = self.walks.get(file.key)
                if walk is not None and walk.failed:
                    changed |= self._walk_again(file, len(walk.failed))
            if not changed:
                break

    def _walked(self, file: "File", walk: "Walk") -> "None":
        self.walks[file.key] = walk
        for mapped in walk.mapped:
            if _wants_executable_stack(mapped.elf):
                self.record(file)["maps_executable_stack"] = _as_printed(mapped, walk)
                break
        linked = self.linked.setdefault(file.owner or "", {})
        for mapped in walk.mapped[1:]:
            self.reached.setdefault(mapped.library.identity, file.key)
            # What the system answers is found by everybody's own search.
            if self.owners.get(mapped.library.identity) is not None:
                for name in (mapped.elf.soname, mapped.answer.name.rsplit("/", 1)[-1]):
                    if name:
                        linked.setdefault(name, mapped.library)

    def _walk_again(self, file: "File", before: "int") -> "bool":
        lent = {}  # type: Dict[str, Dict[str, str]]
        around = [file.owner] if file.owner else []
        around += self.environment.closure(file.owner)

        def answer(need: "str") -> "Optional[Answer]":
            for how in ("linked", "preload"):
                for owner in around:
                    library = (
                        self._lender(owner, need, around) if how == "preload" else self.linked.get(owner, {}).get(need)
                    )
                    if library is not None and library.elf is not None:
                        lent[need] = {"distribution": owner, "how": how, "file": self.name(library.path)}
                        return loader.Answer(library.path, library, "dependency")
            if self.roles[file.key] != "module":
                # Nobody opens it first: what lies beside it in one wheel is there by then.
                library = self._names().get(file.owner or "", {}).get(need)
                if library is not None:
                    return loader.Answer(library.path, library, "dependency")
            return None

        walk = self.loader.open(file.path, self.start, answer)
        if len(walk.failed) >= before and not lent:
            return False
        if self.roles[file.key] == "module":
            self.lent[file.key] = lent
            self._walked(file, walk)
        self.walks[file.key] = walk
        return len(walk.failed) < before

    def _names(self) -> "Dict[str, Dict[str, Library]]":
        """Libraries by distribution and by name or soname."""
        if self._by_name is None:
            self._by_name = {}
            for file in self.environment.files:
                library = self.libraries.get(file.key)
                if library is not None and library.elf is not None and self.roles[file.key] not in _ASIDE:
                    table = self._by_name.setdefault(file.owner or "", {})
                    for name in (library.elf.soname, file.relative.rsplit("/", 1)[-1]):
                        if name:
                            table.setdefault(name, library)
        return self._by_name

    def _lender(self, owner: "str", need: "str", around: "List[str]") -> "Optional[Library]":
        """A library of ``owner`` with this name, if a package that needs ``owner`` loads some by hand."""
        library = self._names().get(owner, {}).get(need)
        if library is None:
            return None
        for user in around:
            if (user == owner or owner in self.environment.closure(user)) and self._preloads(user):
                return library
        return None

    def _preloads(self, owner: "str") -> "bool":
        if owner not in self._preloading:
            known = self.environment.distributions.get(owner)
            self._preloading[owner] = known is not None and library_files.preloads(self.place, known)
        return self._preloading[owner]

    def _walk_others(self) -> "None":
        """Libraries that no module reaches: bundled all the same, plugins, or of no use."""
        for file in self.environment.files:
            library = self.libraries.get(file.key)
            if library is None or self.roles[file.key] in _ASIDE:
                continue
            if library.identity in self.reached or library.identity in self.start.files:
                self._set_role(file, "bundled")
            elif library.elf is not None and self.loader.suits(library):
                walk = self.loader.open(file.path, self.start)
                self.walks[file.key] = walk
                if walk.failed:
                    self._walk_again(file, len(walk.failed))
                if self.walks[file.key].failed:
                    self._judge(file)
        for file in self.environment.files:
            failed = self.walks[file.key].failed if file.key in self.walks else []
            lent = self.lent.get(file.key)
            if lent:
                self.record(file)["lent"] = lent
            if failed:
                self.record(file)["missing"] = self._failures(failed)
                text = self._in_words(*failed[0])
                self._first(file, text, "crash" if text == _CRASH else "library")

    def _set_role(self, file: "File", role: "str") -> "None":
        self.roles[file.key] = role
        if file.key in self.records:
            self.records[file.key]["role"] = role

    def _failures(self, failed: "List[Tuple[Mapped, str, Answer]]") -> "Dict[str, Any]":
        missing = {}
        for who, need, answer in failed:
            name = self.name(need) if "/" in need else need
            if name not in missing:
                # The interpreter at the start of every chain says nothing.
                chain = [self.name(step.answer.name) for step in who.chain() if step.library is not self.loader.program]
                missing[name] = {"error": answer.error, "chain": chain}
                if "/" in answer.name and answer.name != need:
                    missing[name]["file"] = self.name(answer.name)
                inside = self._elsewhere(need)
                if inside is not None:
                    missing[name]["elsewhere"] = inside
        return missing

    def _elsewhere(self, need: "str") -> "Optional[str]":
        """A file of the environment with this name or soname, where the loader does not look."""
        for _, names in sorted(self._names().items(), key=lambda pair: pair[0]):
            library = names.get(need)
            if library is not None:
                return self.name(library.path)
        return None

    def _named_by(self, file: "File") -> "Optional[str]":
        """A file near it that names it, so that somebody may open it by name: Python code, else a library."""
        name = file.relative.rsplit("/", 1)[-1].encode("utf-8", "surrogateescape")
        stem = name.split(b".", 1)[0]
        # In code also without the suffix: torchvision has its own loaded as "_C".
        wanted = (name, b'"' + stem + b'"', b"'" + stem + b"'")
        folder, _, _ = file.path.rpartition("/")
        below = [folder + "/" + one for one in self.place.list_dir(folder) if "." not in one and one[0] != "_"]
        for directory in [folder, folder.rpartition("/")[0], *below[:50]]:
            for code in [code for code in self.place.list_dir(directory) if code.endswith(".py")][:200]:
                text = self.place.read_bytes(directory + "/" + code, 1 << 20) or b""
                if any(one in text for one in wanted):
                    entry = file.entry.rstrip("/") + "/"
                    path = directory + "/" + code
                    return path[len(entry) :] if path.startswith(entry) else path
        for other in self.environment.files:
            library = self.libraries.get(other.key)
            if other is file or library is None or library.elf is None or other.owner != file.owner:
                continue
            beside = other.path.rpartition("/")[0] == folder
            if self.roles[other.key] in ("module", "bundled") and beside and self._holds(other, library.elf, name):
                return other.key
        return None

    def _judge(self, file: "File") -> "None":
        """A file that nothing needs and that cannot be loaded: does anything name it?"""
        if self.roles[file.key] == "unused":
            named_by = self._named_by(file)
            if named_by is not None:
                self._set_role(file, "plugin")
                self.record(file)["named_by"] = named_by

    def _first(self, file: "File", text: "str", kind: "str") -> "None":
        """The first thing at which the loader would stop, in its own words."""
        self.record(file).setdefault("first_failure", {"kind": kind, "text": text})

    def _in_words(self, who: "Mapped", need: "str", answer: "Answer") -> "str":
        if "beyond the end of the file" in (answer.error or ""):
            return _CRASH
        if self.loader.libc == "musl":
            # ldso/dynlink.c, load_deps; what it cannot map is ENOEXEC to it.
            reason = "No such file or directory" if answer.error == loader.MISSING else "Exec format error"
            return "Error loading shared library %s: %s (needed by %s)" % (need, reason, who.answer.name)
        return "%s: %s" % (answer.name, answer.error)

    # Versions of symbols

    def _check_versions(self) -> "None":
        if self.loader.libc == "musl":
            return  # it looks at no version
        for file in self.environment.files:
            walk = self.walks.get(file.key)
            if walk is None:
                continue
            for mapped, provider, soname, version in _lacking_versions(walk):
                self._lacks_version(file, mapped, provider, soname, version)

    def _lacks_version(
        self, file: "File", mapped: "Mapped", provider: "Mapped", soname: "str", version: "str"
    ) -> "None":
        lacking = self.record(file).setdefault("missing_versions", {})
        self._add_version(lacking, mapped, provider, soname, version)
        text = "%s: version `%s' not found (required by %s)"
        self._first(file, text % (provider.answer.name, version, mapped.answer.name), "version")

    def _add_version(
        self, lacking: "Dict[str, Any]", mapped: "Mapped", provider: "Mapped", soname: "str", version: "str"
    ) -> "None":
        chain = [self.name(step.answer.name) for step in mapped.chain()]
        if mapped.chain()[0].library is self.loader.program and len(chain) > 1:
            del chain[0]
        record = {"provider": self.name(provider.answer.name), "chain": chain}
        lacking.setdefault(soname, {}).setdefault(version, record)

    # Undefined symbols

    def _check_symbols(self) -> "None":
        program = self.start.mapped
        if not program:
            return
        for walk in self.walks.values():
            for mapped in walk.mapped:
                if mapped.library.identity not in self.symbols.needs:
                    self.symbols.read(mapped.library, None)
        everywhere = [mapped.library for mapped in program]
        self.symbols.close(everywhere)
        for file in self.environment.files:
            opened = self.walks.get(file.key)
            if opened is None or opened.failed:
                continue
            walk = opened
            lacking = {}  # type: Dict[str, Any]
            total = 0
            # Relocation begins with what was mapped last (glibc elf/dl-open.c, dl_open_worker_begin).
            for mapped in reversed(walk.mapped):
                keys = self._own_missing(mapped, walk)
                if keys:
                    scope = [one.library for one in walk.mapped]
                    keys = self.symbols.missing(keys, scope)
                    keys = self.symbols.missing_in_any_version(keys, everywhere + scope)
                    keys = self._without_missing_versions(file, keys)
                    keys = self._without_driver(mapped, walk, keys)
                if keys:
                    total += self._name_symbols(file, mapped, keys, lacking)
            if lacking:
                self._judge(file)
                self.record(file)["undefined"] = lacking
                self.record(file)["undefined_count"] = total

    def _own_missing(self, mapped: "Mapped", walk: "Walk") -> "AbstractSet[bytes]":
        """What a library needs and neither the program nor its own needs offer: the same in every walk."""
        identity = mapped.library.identity
        if identity not in self._unanswered:
            keys = self.symbols.beyond_program(mapped.library)
            if keys:
                scope = {}  # type: Dict[Tuple[int, int], Library]
                waiting = [mapped]
                for one in waiting:
                    if one.library.identity not in scope:
                        scope[one.library.identity] = one.library
                        for _, answer in one.edges:
                            if answer.library is not None and answer.library.identity in walk.files:
                                waiting.append(walk.files[answer.library.identity])
                # What it has not, it does not define itself.
                del scope[identity]
                keys = self.symbols.missing(keys, scope.values())
            self._unanswered[identity] = keys
        return self._unanswered[identity]

    def _without_missing_versions(self, file: "File", keys: "AbstractSet[bytes]") -> "AbstractSet[bytes]":
        lacking = self.records.get(file.key, {}).get("missing_versions")
        if not lacking:
            return keys
        versions = {version.encode("utf-8") for table in lacking.values() for version in table}
        return frozenset(key for key in keys if key.partition(b"@")[2] not in versions)

    def _without_driver(self, mapped: "Mapped", walk: "Walk", keys: "AbstractSet[bytes]") -> "AbstractSet[bytes]":
        """What a library of the driver may define, that is not here: unknown, so not missing."""
        if any(answer.library is None and answer.reason == "driver" for _, answer in mapped.edges):
            return frozenset()
        if any(answer.reason == "driver" for one in walk.mapped for _, answer in one.edges):
            return frozenset(key for key in keys if not _DRIVER_SYMBOL.match(key))
        return keys

    def _name_symbols(
        self, file: "File", mapped: "Mapped", keys: "AbstractSet[bytes]", lacking: "Dict[str, Any]"
    ) -> "int":
        if self.symbols.musl:
            ordered = sorted(keys)
        else:
            try:
                ordered = elf_symbols.referenced(mapped.elf, keys)
            except elf.ElfError as error:
                self.place.problem(mapped.library.path, error.reason)
                return 0
        by = self.name(mapped.answer.name)
        for key in ordered:
            name, _, version = key.decode("utf-8", "backslashreplace").partition("@")
            text = "%s: undefined symbol: %s%s" % (
                mapped.answer.name,
                name,
                ", version " + version if version else "",
            )
            if self.symbols.musl:
                text = "Error relocating %s: %s: symbol not found" % (mapped.answer.name, name)
            self._first(file, text, "symbol")
            if len(lacking) < SYMBOL_EXAMPLES:
                lacking.setdefault(
                    name,
                    {"version": version or None, "by": by, "elsewhere": self._definer(key, mapped.library)},
                )
        return len(ordered)

    def _definer(self, key: "bytes", but: "Library") -> "Optional[str]":
        """A library of the environment that defines it, out of the scope in which it is needed."""
        for file in self.environment.files:
            library = self.libraries.get(file.key)
            if (
                library is None
                or file.shadowed
                or library is but
                or library.elf is None
                or not self.loader.suits(library)
            ):
                continue
            offered = self.symbols.offers(library)
            if key in offered.offers or key.split(b"@", 1)[0] in offered.base:
                return file.key
        return None

    # NumPy, OpenMP, BLAS

    def _numpy(self) -> "None":
        for file in self.environment.files:
            library = self.libraries.get(file.key)
            role = self.roles.get(file.key)
            if role not in ("module", "bundled") or library is None or library.elf is None:
                continue
            # Whoever takes NumPy's table of functions opens the capsule that holds it.
            if file.owner == "numpy" or b"PyCapsule_GetPointer" not in self.symbols.needs.get(library.identity, ()):
                continue
            try:
                if elf.find_in_constants(library.elf, _NUMPY_NAMES) != {_NUMPY_1}:
                    continue
                found = elf.find_in_constants(library.elf, _NUMPY_WAYS)
            except elf.ElfError as error:
                self.place.problem(file.path, error.reason)
                continue
            raises = None
            if role == "module" and _NUMPY_RAISES in found and _PYBIND not in found:
                raises = "ValueError" if _CYTHON_COMPARES in found else "ImportError"
            self.record(file)["numpy_c_api"] = {"generation": 1, "raises": raises}

    def _ask_importers(self) -> "None":
        """Who imports the modules that cannot be loaded, the nearest to the top of their packages first."""
        failing = [
            file
            for file in self.environment.files
            if "first_failure" in self.records.get(file.key, ()) and self.roles[file.key] == "module"
        ]
        failing = [file for file in failing if file.owner != library_files.PYTHON]
        if not failing:
            return
        asked = importers.Importers(self.place, self.environment, self._is_module)
        for file in sorted(failing, key=lambda file: (file.key.count("/"), file.key)):
            found = asked.of(file)
            if found is not None:
                self.record(file)["importers"] = found
                other = self._named_in(file) if not found["by"] else None
                if other is not None:
                    found["named_in"] = other

    def _is_module(self, file_name: "str") -> "bool":
        return extension_name(file_name, *self.suffix)[1]

    def _look_for_unseen(self) -> "None":
        """What becomes of the distributions of which this interpreter sees no module of its own."""
        files = [file for file in self.environment.files if self.roles.get(file.key) == "foreign"]
        if not files:
            return
        own = {file.owner for file in self.environment.files if self.roles.get(file.key) == "module"}
        files = [file for file in files if file.owner not in own]
        asked = importers.Importers(self.place, self.environment, self._is_module, absent=True)
        version = re.match(r"cpython-(\d)(\d+)", self.suffix[0] or "")
        python = (int(version.group(1)), int(version.group(2))) if version else None
        self.unseen = unseen_modules.of_distributions(asked, files, python)

    def _named_in(self, file: "File") -> "Optional[str]":
        """Another module of its distribution that holds the name of this one, as Cython's do of those they import."""
        name = importers.module_of(file.relative).encode("utf-8", "surrogateescape")
        for other in self.environment.files:
            library = self.libraries.get(other.key)
            if library is None or library.elf is None or self.roles[other.key] != "module" or other.owner != file.owner:
                continue
            if "first_failure" in self.records.get(other.key, ()):
                continue  # the file itself, and what is not loaded either
            if self._holds(other, library.elf, name):
                return other.key
        return None

    def _holds(self, file: "File", read: "elf.Elf", name: "bytes") -> "bool":
        """Whether this name stands among the constants of a file."""
        try:
            return bool(elf.find_in_constants(read, [name]))
        except elf.ElfError as error:
            self.place.problem(file.path, error.reason)
            return False

    def _runtimes(self) -> "Dict[str, Any]":
        """Which OpenMP runtimes and BLAS libraries the modules would map, and for which distributions."""
        found = {kind: {} for kind in _RUNTIMES}  # type: Dict[str, Dict[str, Any]]
        for file in self.environment.files:
            walk = self.walks.get(file.key)
            if walk is None or self.roles[file.key] != "module":
                continue
            for mapped in walk.mapped[1:]:
                name = mapped.answer.name.rsplit("/", 1)[-1]
                for kind, pattern in _RUNTIMES.items():
                    if pattern.match(name):
                        users = found[kind].setdefault(self.name(mapped.answer.name), {"used_by": {}})["used_by"]
                        users[file.owner or ""] = True
        return found

    def _interpreter(self) -> "Dict[str, Any]":
        program = self.loader.program
        file = program.elf if program is not None else None
        lacking = {}  # type: Dict[str, Any]
        if self.loader.libc != "musl":
            for mapped, provider, soname, version in _lacking_versions(self.start):
                self._add_version(lacking, mapped, provider, soname, version)
        facts = {
            "path": self.executable,
            "libc": self.loader.libc if file is not None else None,
            "loader": self.loader.interpreter,
            "machine": file.machine_name if file is not None else None,
            "bits": file.bits if file is not None else None,
            "missing": self._failures(self.start.failed),
            "missing_versions": lacking,
        }
        levels = [(mapped.elf.isa, -number) for number, mapped in enumerate(self.start.mapped) if mapped.elf.isa]
        if levels:
            level, number = max(levels)
            facts["x86_64_level"] = {"level": level, "file": self.name(self.start.mapped[-number].answer.name)}
        return facts


def _wants_executable_stack(file: "elf.Elf") -> "bool":
    """A file that says nothing asks for one on x86 (glibc sysdeps/x86/stackinfo.h, DEFAULT_STACK_PERMS)."""
    if file.executable_stack is None:
        return file.machine in (3, 62)
    return file.executable_stack


def _as_printed(mapped: "Mapped", walk: "Walk") -> "str":
    """How glibc names a file that it maps and then refuses: what was opened by its path, the rest as needed."""
    if mapped is not walk.mapped[0] and mapped.by is not None:
        for need, answer in mapped.by.edges:
            if answer is mapped.answer:
                return need
    return mapped.answer.name


def _lacking_versions(walk: "Walk") -> "Iterator[Tuple[Mapped, Mapped, str, str]]":
    """``(who, provider, need, version)`` of the versions that the answering library does not offer."""
    for mapped in walk.mapped:
        for soname, versions in mapped.elf.required.items():
            provider = walk.names.get(soname)
            if provider is None or not provider.elf.offered:
                continue  # missing itself, or without versions: the loader takes what it finds
            for version, weak in versions.items():
                if not weak and version not in provider.elf.offered:
                    yield mapped, provider, soname, version


def _tag_of(place: "Place") -> "Optional[str]":
    """The start of the interpreter's own extension suffix (``cpython-311``), from what is there of it."""
    if place.live:
        match = re.match(r"\.(cpython-\d+t?)", EXTENSION_SUFFIXES[0])
        return match.group(1) if match else None
    for entry in place.search_path:
        match = re.search(r"/python(\d+)\.(\d+)(t?)(?:/|$)", entry)
        if match:
            return "cpython-%s%s%s" % match.groups()
    return None
