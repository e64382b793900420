"""What the dynamic loader would load: the search of glibc and of musl, inside any root directory.

Nothing is loaded and nothing is run: the search is done again from the files, as ld.so(8) and glibc
``elf/dl-load.c`` (``_dl_map_object``) or musl ``ldso/dynlink.c`` (``load_library``) do it.

glibc, for a name without a slash: what is already loaded under that name; RPATH of the file, then of the
one that loaded it, and so on (not where the file has a RUNPATH); LD_LIBRARY_PATH; RUNPATH;
``/etc/ld.so.cache``; the default directories, which are read out of the loader's own file. A file of another
class or machine is passed over. musl: LD_LIBRARY_PATH; RPATH or RUNPATH (they are one) of the file, then of
the one that loaded it; its path file or its default directories.

Not followed: the subdirectories of glibc before 2.37 that are named after CPU features (``tls``,
``haswell``), LD_AUDIT, and the restrictions for set-user-ID programs.
"""

if __name__ == "__main__":
    raise SystemExit("loader.py is part of the probe libraries.py and measures nothing by itself")

import os
import re

from . import elf, loader_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union  # noqa: F401

    from .common import Place
    from .elf import Elf

CACHE = "/etc/ld.so.cache"
PRELOAD_FILE = "/etc/ld.so.preload"
CACHE_LIMIT = 16 << 20

_CANNOT_OPEN = "cannot open shared object file: "
MISSING = _CANNOT_OPEN + "No such file or directory"

# One walk never maps more than this; real ones stay below 200.
WALK_LIMIT = 5000

# What the NVIDIA driver installs and the container runtime adds to a container: never part of an image.
# Source: libnvidia-container src/nvc_info.c (utility_, compute_, video_, graphics_ and dxcore_libs).
_DRIVER = re.compile(
    r"^(?:libcuda|libcudadebugger|libnvcuvid|libnvoptix|libdxcore|libvdpau_nvidia"
    r"|libnvidia-[A-Za-z0-9_-]+|lib(?:GLX|EGL|GLESv2|GLESv1_CM)_nvidia)\.so(?:\.[0-9.]+)?$"
)

# Names that musl answers by itself, whatever follows the dot (ldso/dynlink.c, load_library).
_MUSL_OWN = ("c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet.")

# Used where the loader's own file cannot be read; Debian's come first, where it has its own.
_MULTIARCH = {("x86_64", 64): "x86_64-linux-gnu", ("aarch64", 64): "aarch64-linux-gnu"}
_SYSTEM_DIRS = re.compile(rb"(?:/[A-Za-z0-9_./+-]*/\0){2,}")


def is_driver(soname: "str") -> "bool":
    """Whether the GPU driver provides this library, so that an image alone never lacks it."""
    return _DRIVER.match(soname) is not None


class Library:
    """One file, however many names it has. ``elf`` None and ``error`` set where it cannot be loaded."""

    __slots__ = ("elf", "error", "identity", "path")

    def __init__(self, path: "str", identity: "Tuple[int, int]") -> "None":
        self.path = path  # inside the root, as it was first seen
        self.identity = identity
        self.elf = None  # type: Optional[Elf]
        self.error = None  # type: Optional[str]


class Answer:
    """How one need is answered.

    ``name``        the path as the loader puts it together and prints it (``/a/b/../c/libx.so``); the need
                    itself where nothing answers
    ``library``     the file, or None
    ``reason``      ``ld_preload``, ``rpath``, ``ld_library_path``, ``runpath``, ``cache``, ``default``,
                    ``path`` (the need has a slash), ``loaded`` (the file that is opened itself, the
                    loader), ``driver``, ``dependency`` (the caller's ``else_where``); None where nothing
                    answers
    ``assumption``  what the answer hangs on besides the files: ``variable``, ``hwcaps``, ``driver``, or None
    ``error``       what the loader would print after the name, where nothing answers
    ``otherwise``   with ``ld_library_path``: the path that would answer without the variable
    """

    __slots__ = ("assumption", "error", "library", "name", "otherwise", "reason")

    def __init__(
        self,
        name: "str",
        library: "Optional[Library]" = None,
        reason: "Optional[str]" = None,
        assumption: "Optional[str]" = None,
        error: "Optional[str]" = None,
    ) -> "None":
        self.name = name
        self.library = library
        self.reason = reason
        self.assumption = assumption
        self.error = error
        self.otherwise = None  # type: Optional[str]

    @property
    def path(self) -> "Optional[str]":
        return tidy(self.name) if self.library is not None else None


class Mapped:
    """A library in one walk: by which name and by whom it came in."""

    __slots__ = ("answer", "by", "edges", "elf", "inherited", "library", "own")

    def __init__(
        self, answer: "Answer", library: "Library", file: "Elf", by: "Optional[Mapped]", loader: "Loader"
    ) -> "None":
        self.answer = answer
        self.library = library
        self.elf = file
        self.by = by
        self.edges = []  # type: List[Tuple[str, Answer]]
        origin = os.path.dirname(answer.name)
        self.own = loader.directories(file.runpath, origin)
        rpath = file.rpath if loader.libc == "glibc" or file.runpath is None else file.runpath
        kind = "rpath" if rpath is file.rpath else "runpath"
        # RPATH of the file itself first, then of those that led to it.
        inherited = tuple((kind, directory) for directory in loader.directories(rpath, origin))
        self.inherited = inherited  # type: Tuple[Tuple[str, str], ...]
        if by is not None:
            self.inherited += by.inherited

    def chain(self) -> "List[Mapped]":
        """From the file that was opened down to this one."""
        steps = []
        step = self  # type: Optional[Mapped]
        while step is not None:
            steps.append(step)
            step = step.by
        return steps[::-1]


class Walk:
    """What one ``dlopen`` (or the start of a program) would map, in the loader's order.

    ``mapped``  new libraries, breadth first, the opened file first
    ``names``   every name under which something is loaded now
    ``failed``  ``(who, need, answer)`` of what cannot be loaded, in the order in which it is met
    """

    def __init__(self, before: "Optional[Walk]" = None) -> "None":
        self.mapped = []  # type: List[Mapped]
        self.names = dict(before.names) if before else {}  # type: Dict[str, Mapped]
        self.files = dict(before.files) if before else {}  # type: Dict[Tuple[int, int], Mapped]
        self.failed = []  # type: List[Tuple[Mapped, str, Answer]]


class Loader:
    """The loader of one interpreter in one place.

    ``executable`` is the interpreter's path inside the root, links resolved as by the kernel; None where it
    is unknown: then the machine is taken from the first file that is opened.
    """

    def __init__(self, place: "Place", executable: "Optional[str]" = None) -> "None":
        self.place = place
        self.libc = "glibc"
        self.program = None  # type: Optional[Library]
        self.interpreter = None  # type: Optional[str]
        self.wanted = None  # type: Optional[Tuple[int, int, bool]]
        self._by_path = {}  # type: Dict[str, Optional[Library]]
        self._by_identity = {}  # type: Dict[Tuple[int, int], Library]
        self._expanded = {}  # type: Dict[Tuple[str, str], Tuple[str, ...]]
        self._searched = {}  # type: Dict[Tuple[object, ...], Answer]
        self._in_directory = {}  # type: Dict[Tuple[str, str], Optional[Tuple[str, Library, bool]]]
        self._levels = {}  # type: Dict[str, List[str]]
        self._cache = None  # type: Optional[Dict[str, List[loader_cache.Entry]]]
        self._default = None  # type: Optional[Tuple[str, ...]]
        if executable is not None:
            self.program = self.library(executable)
            if self.program is not None and self.program.elf is not None:
                file = self.program.elf
                self.wanted = (file.bits, file.machine, file.little)
                self.interpreter = file.interpreter
                if file.interpreter and "ld-musl" in file.interpreter:
                    self.libc = "musl"
        self.origin = os.path.dirname(executable or "/")
        self.library_path = self._variable_path()

    # Files

    def library(self, path: "str") -> "Optional[Library]":
        """The file at a path inside the root; None where there is none."""
        if path in self._by_path:
            return self._by_path[path]
        found = None
        try:
            real = self.place.real(path)
            status = os.stat(real)
        except (OSError, ValueError):
            pass
        else:
            identity = (status.st_dev, status.st_ino)
            found = self._by_identity.get(identity)
            if found is None:
                found = self._by_identity[identity] = Library(path, identity)
                try:
                    found.elf = elf.read(real)
                    if found.elf is None:
                        # A text shorter than an ELF header is "too short" to the loader, whatever it holds.
                        found.error = "file too short" if status.st_size < 64 else "invalid ELF header"
                except elf.ElfError as error:
                    found.error = error.reason if error.opened else _CANNOT_OPEN + error.reason
        self._by_path[path] = found
        return found

    def suits(self, library: "Library") -> "bool":
        """Whether class, machine and byte order are those of the program."""
        file = library.elf
        return file is None or self.wanted is None or (file.bits, file.machine, file.little) == self.wanted

    # Directories

    def directories(self, text: "Optional[str]", origin: "str") -> "Tuple[str, ...]":
        """The directories of an RPATH, a RUNPATH or a variable, with the loader's tokens replaced."""
        if text is None:
            return ()
        key = (text, origin)
        if key not in self._expanded:
            parts = re.split("[:\n]" if self.libc == "musl" else ":", text)
            expanded = [self.expand(part, origin) for part in parts]
            # musl takes nothing of a path in which it meets a token that it does not know.
            known = [directory for directory in expanded if directory is not None]
            self._expanded[key] = tuple(known) if len(known) == len(expanded) else ()
        return self._expanded[key]

    def expand(self, text: "str", origin: "str") -> "Optional[str]":
        """``$ORIGIN``, ``$LIB`` and ``$PLATFORM`` replaced; None for what musl refuses. Empty means the
        working directory.
        """
        if "$" in text:
            values = {"ORIGIN": origin}
            if self.libc == "glibc":
                values["LIB"] = self.lib_directory()
                values["PLATFORM"] = elf.MACHINES.get(self.wanted[1], "") if self.wanted else ""

            def value(match: "re.Match[str]") -> "str":
                return values.get(match.group(1) or match.group(2), match.group(0))

            text = re.sub(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))", value, text)
            if "$" in text and self.libc == "musl":
                return None
        if text.startswith("/"):
            return text.rstrip("/") or "/"
        here = os.getcwd() if self.place.live else "/"
        return here + "/" + text if text else here

    def lib_directory(self) -> "str":
        """What ``$LIB`` stands for: the first default directory says it (lib/x86_64-linux-gnu)."""
        first = self.defaults()[0]
        return first[len("/usr/") :] if first.startswith("/usr/") else first.lstrip("/")

    def defaults(self) -> "Tuple[str, ...]":
        """The default directories: out of the loader's file (glibc's system_dirs), or musl's path file."""
        if self._default is None:
            self._default = self._musl_defaults() if self.libc == "musl" else self._glibc_defaults()
        return self._default

    def _glibc_defaults(self) -> "Tuple[str, ...]":
        library = self.library(self.interpreter) if self.interpreter else None
        if library is not None and library.elf is not None and library.elf.size < 8 << 20:
            data = self.place.read_bytes(library.path, 8 << 20) or b""
            # Several directories with a slash at the end, each closed by a zero byte: this is nothing else.
            for match in _SYSTEM_DIRS.finditer(data):
                names = [part.decode("ascii").rstrip("/") for part in match.group().split(b"\0") if part]
                if any("lib" in name for name in names):
                    return tuple(names)
        machine = elf.MACHINES.get(self.wanted[1], "") if self.wanted else ""
        bits = self.wanted[0] if self.wanted else 64
        own = _MULTIARCH.get((machine, bits), "")
        first = ("/lib/" + own, "/usr/lib/" + own) if own and self.place.is_dir("/lib/" + own) else ()
        return first + ("/lib64", "/usr/lib64", "/lib", "/usr/lib")

    def _musl_defaults(self) -> "Tuple[str, ...]":
        match = re.search(r"ld-musl-([^/]+)\.so", self.interpreter or "")
        text = None
        if match:
            # The prefix is the directory above that of the loader: /lib/ld-musl-x86_64.so.1 -> /etc.
            prefix = os.path.dirname(os.path.dirname(self.interpreter or "")).rstrip("/")
            text = self.place.read_text("%s/etc/ld-musl-%s.path" % (prefix, match.group(1)), 1 << 16)
        if text is None:
            return ("/lib", "/usr/local/lib", "/usr/lib")
        return tuple(part for part in re.split("[:\n]", text) if part)

    def _variable_path(self) -> "Tuple[str, ...]":
        text = self.place.environ.get("LD_LIBRARY_PATH")
        if not text:
            return ()
        return self.directories(text.replace(";", ":") if self.libc == "glibc" else text, self.origin)

    def preloads(self) -> "List[str]":
        """The names that LD_PRELOAD and, with glibc, /etc/ld.so.preload ask for."""
        names = [name for name in re.split("[ :]+", self.place.environ.get("LD_PRELOAD", "")) if name]
        if self.libc == "glibc":
            text = self.place.read_text(PRELOAD_FILE, 1 << 16) or ""
            names += re.sub("#.*", "", text).replace(":", " ").split()
        return names

    # The search

    def search(self, need: "str", by: "Mapped", variables: "bool" = True) -> "Answer":
        """The answer to one need of one library, by the files alone (not by what is loaded already).

        ``variables`` False leaves LD_LIBRARY_PATH out.
        """
        no_default = bool(by.elf.dynamic_flags_1 & elf.DF_1_NODEFLIB)
        inherited = by.inherited if self.libc == "musl" or by.elf.runpath is None else ()
        key = (need, inherited, by.own, no_default, variables)
        answer = self._searched.get(key)
        if answer is None:
            answer = self._searched[key] = self._search(need, by, variables, no_default)
        return answer

    def _search(self, need: "str", by: "Mapped", variables: "bool", no_default: "bool") -> "Answer":
        if "$" in need:
            need = self.expand(need, os.path.dirname(by.answer.name)) or need
        if "/" in need:
            return self._direct(need)
        failure = None
        for reason, directory in self._places(by, variables):
            if reason == "cache":
                found = self._cached(need, no_default)
            elif no_default and reason == "default":
                continue
            else:
                found = self._in(directory, need)
            if found is None:
                continue
            path, library, hwcaps = found
            if library.error is not None and library.error.startswith(_CANNOT_OPEN):
                continue  # what it may not open it passes over (open_path)
            if library.error is not None and library.elf is None:
                return Answer(path, None, None, None, library.error)
            if not self.suits(library):
                if failure is None and self.wanted and library.elf and library.elf.bits != self.wanted[0]:
                    failure = "wrong ELF class: ELFCLASS%d" % library.elf.bits
                continue
            assumption = "variable" if reason == "ld_library_path" else None
            if is_driver(need):
                assumption = "driver"
            elif hwcaps:
                assumption = assumption or "hwcaps"
            answer = Answer(path, library, reason, assumption)
            if reason == "ld_library_path":
                answer.otherwise = self.search(need, by, False).path
            return answer
        if is_driver(need):
            return Answer(need, None, "driver", "driver")
        return Answer(need, None, None, None, failure or MISSING)

    def _places(self, by: "Mapped", variables: "bool") -> "Iterator[Tuple[str, str]]":
        if self.libc == "musl":
            if variables:
                for directory in self.library_path:
                    yield "ld_library_path", directory
            for inherited in by.inherited:
                yield inherited
        else:
            if by.elf.runpath is None:
                for inherited in by.inherited:
                    yield inherited
            if variables:
                for directory in self.library_path:
                    yield "ld_library_path", directory
            for directory in by.own:
                yield "runpath", directory
            yield "cache", ""
        for directory in self.defaults():
            yield "default", directory

    def _direct(self, path: "str") -> "Answer":
        library = self.library(path)
        if library is None:
            return Answer(path, None, None, None, MISSING)
        if library.elf is None:
            return Answer(path, None, None, None, library.error)
        if not self.suits(library):
            # Another class is named; another machine of the same class reads as if the file were not there.
            other = self.wanted is not None and library.elf.bits != self.wanted[0]
            error = "wrong ELF class: ELFCLASS%d" % library.elf.bits if other else MISSING
            return Answer(path, None, None, None, error)
        return Answer(path, library, "path")

    def _in(self, directory: "str", name: "str") -> "Optional[Tuple[str, Library, bool]]":
        """``(path, file, whether a glibc-hwcaps directory has another)``. The plain file stands for all."""
        key = (directory, name)
        if key in self._in_directory:
            return self._in_directory[key]
        path = directory.rstrip("/") + "/" + name
        library = self.library(path)
        levels = self._hwcaps(directory)
        variants = [level for level in levels if self.library("%s/glibc-hwcaps/%s/%s" % (directory, level, name))]
        if library is None and variants:
            path = "%s/glibc-hwcaps/%s/%s" % (directory, variants[0], name)
            library = self.library(path)
        found = None if library is None else (path, library, bool(variants))
        self._in_directory[key] = found
        return found

    def _hwcaps(self, directory: "str") -> "List[str]":
        if directory not in self._levels:
            levels = []  # type: List[str]
            if self.libc == "glibc" and self.place.is_dir(directory + "/glibc-hwcaps"):
                levels = self.place.list_dir(directory + "/glibc-hwcaps")[:32]
            self._levels[directory] = levels
        return self._levels[directory]

    def _cached(self, need: "str", no_default: "bool") -> "Optional[Tuple[str, Library, bool]]":
        if self._cache is None:
            self._cache = self._read_cache()
        entries = self._cache.get(need, ())
        variants = any(entry.subdirectory or entry.hwcap for entry in entries)
        # The plain one stands for all; the loader takes one of the others if the CPU suits.
        for entry in sorted(entries, key=lambda one: bool(one.subdirectory or one.hwcap)):
            if no_default and os.path.dirname(entry.path) in self.defaults():
                continue
            library = self.library(entry.path)
            if library is not None:
                return entry.path, library, variants
        return None

    def _read_cache(self) -> "Dict[str, List[loader_cache.Entry]]":
        data = self.place.read_bytes(CACHE, CACHE_LIMIT)
        if data is None or self.wanted is None:
            return {}
        try:
            entries = loader_cache.parse(data)
        except ValueError as error:
            self.place.problem(CACHE, str(error))
            return {}
        bits, machine, _ = self.wanted
        armhf = machine == 40 and "armhf" in (self.interpreter or "")
        return loader_cache.by_soname(entries, loader_cache.flags_of(machine, bits, armhf))

    # Walks

    def start(self) -> "Walk":
        """What is mapped when the program has started, before it opens anything."""
        walk = Walk()
        if self.program is None or self.program.elf is None:
            return walk
        answer = Answer(self.program.path, self.program, "loaded")
        first = self._map(walk, answer, self.program, self.program.elf, None)
        if self.interpreter and first.elf.is_dynamic:
            dynamic_loader = self.library(self.interpreter)
            if dynamic_loader is not None and dynamic_loader.elf is not None:
                found = Answer(self.interpreter, dynamic_loader, "loaded")
                own = Mapped(found, dynamic_loader, dynamic_loader.elf, first, self)
                for name in (dynamic_loader.elf.soname, os.path.basename(self.interpreter), self.interpreter):
                    if name:
                        walk.names[name] = own
                walk.files[dynamic_loader.identity] = own
        for name in self.preloads():
            found = self._direct(name) if "/" in name else self.search(name, first)
            library = found.library
            if library is not None and library.elf is not None and library.identity not in walk.files:
                preloaded = Answer(found.name, library, "ld_preload", "variable")
                self._map(walk, preloaded, library, library.elf, first, name)
        self._follow(walk)
        return walk

    def open(
        self, path: "str", before: "Walk", else_where: "Optional[Callable[[str], Optional[Answer]]]" = None
    ) -> "Walk":
        """What ``dlopen(path)`` would add to ``before``. An empty ``mapped`` means that it is loaded already,
        or, with an entry in ``failed`` under its own name, that the file itself cannot be loaded.

        ``else_where`` is asked about each need that the search does not answer: something that the program
        itself has loaded by then.
        """
        walk = Walk(before)
        library = self.library(path)
        if library is not None and library.identity in before.files:
            return walk
        if library is not None and self.wanted is None and library.elf is not None:
            self.wanted = (library.elf.bits, library.elf.machine, library.elf.little)
        answer = self._direct(path)
        if answer.library is None or answer.library.elf is None:
            stand_in = Mapped(answer, library or Library(path, (0, 0)), elf.Elf(path), None, self)
            walk.failed.append((stand_in, path, answer))
            return walk
        answer.reason = "loaded"
        by = before.mapped[0] if before.mapped else None
        self._map(walk, answer, answer.library, answer.library.elf, by, path)
        self._follow(walk, else_where)
        return walk

    def _map(
        self,
        walk: "Walk",
        answer: "Answer",
        library: "Library",
        file: "Elf",
        by: "Optional[Mapped]",
        name: "Optional[str]" = None,
    ) -> "Mapped":
        mapped = Mapped(answer, library, file, by, self)
        walk.mapped.append(mapped)
        walk.files[library.identity] = mapped
        if self.libc == "musl":
            # musl knows a library by the last part of the path under which a search found it.
            if name is not None and "/" not in name:
                walk.names.setdefault(name, mapped)
        else:
            for known in (name, file.soname):
                if known:
                    walk.names.setdefault(known, mapped)
        return mapped

    def _follow(self, walk: "Walk", else_where: "Optional[Callable[[str], Optional[Answer]]]" = None) -> "None":
        position = 0
        while position < len(walk.mapped):
            mapped = walk.mapped[position]
            position += 1
            for need in mapped.elf.needed:
                loaded = self._loaded(walk, need)
                if loaded is not None:
                    mapped.edges.append((need, loaded.answer))
                    continue
                answer = self.search(need, mapped)
                if answer.error is not None and else_where is not None:
                    answer = else_where(need) or answer
                if answer.library is not None and answer.library.identity in walk.files:
                    same = walk.files[answer.library.identity]
                    walk.names.setdefault(need, same)
                    answer = same.answer
                elif answer.library is not None and answer.library.elf is not None:
                    if len(walk.mapped) >= WALK_LIMIT:
                        self.place.problem(mapped.answer.name, "needs more than %d libraries" % WALK_LIMIT)
                        return
                    self._map(walk, answer, answer.library, answer.library.elf, mapped, need)
                elif answer.error is not None:
                    walk.failed.append((mapped, need, answer))
                mapped.edges.append((need, answer))

    def _loaded(self, walk: "Walk", need: "str") -> "Optional[Mapped]":
        if self.libc == "musl" and need.startswith("lib") and need[3:].startswith(_MUSL_OWN) and self.interpreter:
            own = walk.names.get(os.path.basename(self.interpreter))
            if own is not None:
                return own
        return walk.names.get(need)


def tidy(path: "str") -> "str":
    """A path without ``.`` and ``..``, by its text (as the rest of the facts name files)."""
    parts = []  # type: List[str]
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", ".."):
            parts.append(part)
    return "/" + "/".join(parts)
