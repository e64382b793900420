"""Section ``python`` from files alone: what an interpreter would answer, worked out without running it.

Sources: ``Modules/getpath.py`` of CPython 3.11 and newer (``getpath.c`` before) for the prefixes and the first
entries of ``sys.path``; ``Lib/site.py`` for the rest, as the ``site.py`` in the root itself words it, because
Debian and Fedora change theirs; ``_sysconfigdata*.py`` for how the interpreter was built, read as a literal and
never imported; the program file for its version and for the modules inside it. The import lines of ``.pth``
files are counted and not run.
"""

if __name__ == "__main__":
    raise SystemExit("static_python.py measures unpacked files for driftcheck; here, use python.py")

import os
import re

from . import common, python, system, wheel_tags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Set, Tuple  # noqa: F401

    from .common import Place

LAYER = "image"

# Facts that only a running interpreter knows: they are left out here, and are the difference between this section
# measured live and from files. Flags come from the command line and the locale that one start has.
LIVE_ONLY = frozenset(["gil_enabled", "flags"])

# Programs and shared libraries of interpreters; the largest known, with debug information, are below 100 MB.
BINARY_LIMIT = 256 << 20
CONFIGURATION_LIMIT = 4 << 20

# Modules without an exported PyInit_ function, because the interpreter itself makes them (Modules/config.c.in).
_MADE_BY_INTERPRETER = frozenset(["_warnings", "builtins", "marshal", "sys"])

# e_machine of elf(5) to what uname(2) says, by whether the file is little-endian.
_MACHINES = {
    (3, True): "i686", (21, True): "ppc64le", (21, False): "ppc64", (22, False): "s390x", (40, True): "armv7l",
    (62, True): "x86_64", (183, True): "aarch64", (243, True): "riscv64", (258, True): "loongarch64",
}  # fmt: skip


class Layout:
    """One interpreter in a root and what it would find: the answer of ``inspect``. Paths are inside the root.

    ``executable``       as it would be called, links unresolved
    ``version``          ``(3, 11)``; ``threads`` is ``"t"`` for a free-threaded build, else empty
    ``standard``         directory of the standard library
    ``settings``         of ``pyvenv.cfg``, None outside of a virtual environment
    ``search_path``      ``sys.path`` without the entry of the script
    ``binary``           the program, or the libpython that it is built on, whichever holds the interpreter
    """

    def __init__(self, executable: "str") -> "None":
        self.executable = executable
        self.base_executable = executable
        self.real = executable
        self.version = (0, 0)  # type: Tuple[int, int]
        self.threads = ""
        self.platlibdir = "lib"
        self.prefix = ""
        self.base_prefix = ""
        self.standard = ""
        self.settings = None  # type: Optional[Dict[str, str]]
        self.search_path = []  # type: List[str]
        self.header = {}  # type: Dict[str, Any]
        self.binary = b""
        self.variables = {}  # type: Dict[str, Any]
        self.little_endian = True

    @property
    def directory(self) -> "str":
        """The name of the standard library's directory: ``python3.11``, ``python3.13t``."""
        return "python%d.%d%s" % (self.version + (self.threads,))


def measure(place: "Place") -> "Dict[str, Any]":
    """The facts of ``schemas/sections/python.json`` but for ``LIVE_ONLY``.

    ``place.options["layout"]`` is what ``inspect`` found, if the caller has asked already; else
    ``place.options["executable"]`` names the interpreter.

    Raises:
        Unavailable: when these files hold no interpreter that can be read.
    """
    layout = place.options.get("layout") or inspect(place, str(place.options.get("executable") or ""))
    libc = system.find_libc(place)
    header = layout.header
    machine = _MACHINES.get((header["machine"], layout.little_endian), "unknown")
    tag = "linux-" + machine
    soabi = soabi_of(place, layout)
    suffixes = extension_suffixes(layout, soabi)
    built_in = built_in_modules(layout.binary)
    marks = re.sub(r"^cpython-\d+|-.*$", "", soabi or "")
    abi = "cp" + (soabi.split("-")[1] if soabi and soabi.startswith("cpython-") else "%d%d" % layout.version)
    facts = {
        "implementation": "cpython",
        "cache_tag": "cpython-%d%d" % layout.version,
        "soabi": soabi,
        "extension_suffixes": suffixes,
        "free_threaded": bool(layout.threads),
        "debug": "d" in marks,
        "bits": header["bits"],
        "byteorder": "little" if layout.little_endian else "big",
        "platform": {
            "system": "linux",
            "machine": machine,
            "tag": tag,
            "libc": libc["family"],
            "libc_version": libc["version"],
        },
        "executable": layout.executable,
        "base_executable": layout.base_executable,
        "prefix": layout.prefix,
        "base_prefix": layout.base_prefix,
        "environment": python.environment(place, layout.prefix, layout.standard),
        "shared_library": layout.variables.get("INSTSONAME") if layout.variables.get("Py_ENABLE_SHARED") else None,
        "search_path": list(layout.search_path),
        "search_path_files": python.path_configuration(place),
        "shadowed_modules": python.shadowed_modules(
            place, layout.standard, standard_names(place, layout, built_in), suffixes, built_in
        ),
        "missing_modules": dict.fromkeys(missing_modules(place, layout, suffixes, built_in), True),
        "tags": {
            "interpreters": wheel_tags.cpython(layout.version, abi, bool(layout.threads))
            + wheel_tags.pure(layout.version),
            "platforms": wheel_tags.platforms(tag, header["bits"] == 64, libc["family"], libc["version"]),
        },
    }  # type: Dict[str, Any]
    version = full_version(layout)
    if version is None:
        place.problem(layout.real, "the program does not state its version; %d.%d is its directory's" % layout.version)
    facts["version"] = version or "%d.%d" % layout.version
    return facts


def inspect(place: "Place", executable: "str", working_directory: "str" = "/") -> "Layout":
    """Where the interpreter ``executable`` of a root has its prefixes and where it would search for modules.

    ``place`` gives the root and the variables; its own search path is not looked at.

    Raises:
        Unavailable: when that is no CPython for Linux, or its standard library is not there.
    """
    layout = Layout(executable)
    layout.real = system.resolved(place, executable)
    data = place.read_bytes(layout.real, BINARY_LIMIT)
    if data is None:
        raise common.Unavailable("%s: no such file" % executable)
    header = system.elf_header(data)
    if header is None:
        raise common.Unavailable("%s is no ELF program, so no interpreter that could be read" % executable)
    if re.match(r"pypy|graalpy", os.path.basename(layout.real)):
        raise common.Unavailable("%s: only CPython's files can be read without running it" % executable)
    layout.header = header
    layout.little_endian = data[5] != 2
    layout.version, layout.threads = _version(layout.real, data)
    _find_prefixes(place, layout)
    layout.variables = build_variables(place, layout)
    layout.binary = data if _states_version(data, layout.version) else _shared_library(place, layout, header) or data
    layout.search_path = _SearchPath(place, layout, working_directory).build()
    return layout


# --- which Python


def _version(real: "str", data: "bytes") -> "Tuple[Tuple[int, int], str]":
    """``((3, 13), "t")``: from the file's name, the libpython it needs, or the version text inside it."""
    for found in (
        re.match(r"python(\d)\.(\d+)(t?)d?m?u?$", os.path.basename(real)),
        re.search(rb"\0libpython(\d)\.(\d+)(t?)d?m?u?\.so", data),
        re.search(rb"\0(3)\.(\d{1,2})()\.\d{1,2}(?:(?:a|b|rc)\d{1,2})?\+?\0", data),
    ):
        if found:
            threads = found.group(3)
            return (int(found.group(1)), int(found.group(2))), "t" if threads in ("t", b"t") else ""
    raise common.Unavailable("%s does not state which version of Python it is" % real)


def _states_version(data: "bytes", version: "Tuple[int, int]") -> "Optional[str]":
    """PY_VERSION in the program: ``3.11.2``, a text of its own unless the linker found another with that end
    (``/opt/python/3.11.2``).
    """
    wanted = (r"(%d\.%d\.\d{1,2}(?:(?:a|b|rc)\d{1,2})?\+?)\0" % version).encode("ascii")
    found = re.findall(rb"\0" + wanted, data) or re.findall(rb"(?<=[A-Za-z/\-])" + wanted, data)
    return found[0].decode("ascii") if len(set(found)) == 1 else None


def full_version(layout: "Layout") -> "Optional[str]":
    return _states_version(layout.binary, layout.version)


def _shared_library(place: "Place", layout: "Layout", header: "Mapping[str, Any]") -> "Optional[bytes]":
    """The libpython of the interpreter: its name is in its build variables, its place is in the prefix or the
    system's library directories.
    """
    triplet = str(layout.variables.get("MULTIARCH") or "")
    names = [str(layout.variables.get("INSTSONAME") or ""), "lib%s.so.1.0" % layout.directory]
    folders = [layout.base_prefix + "/lib", layout.base_prefix + "/lib64"]
    folders += ["/usr/lib/" + triplet] if triplet else []
    for folder in folders + ["/usr/lib64", "/usr/lib", "/usr/local/lib", "/usr/local/lib64"]:
        for name in names:
            if name:
                data = place.read_bytes(folder + "/" + name, BINARY_LIMIT)
                if data and (system.elf_header(data) or {}).get("machine") == header["machine"]:
                    return data
    return None


def built_in_modules(data: "bytes") -> "FrozenSet[str]":
    """The modules inside the interpreter: each exports its ``PyInit_`` function, for embedders to find."""
    names = {name.decode("ascii") for name in re.findall(rb"\0PyInit_([A-Za-z0-9_]{1,60})(?=\0)", data)}
    return frozenset(names) | _MADE_BY_INTERPRETER


# --- where it lives (getpath)


def _find_prefixes(place: "Place", layout: "Layout") -> "None":
    folder = os.path.dirname(layout.executable)
    environment = os.path.dirname(folder)
    home = place.environ.get("PYTHONHOME", "")
    layout.settings = None
    for where in (folder, environment):
        text = place.read_text(where + "/pyvenv.cfg", 1 << 16)
        if text is not None:
            layout.settings = python.parse_pyvenv(text)
            break
    start = os.path.dirname(layout.real)
    venv_home = (layout.settings or {}).get("home") if not home else None
    if venv_home:
        start = venv_home
        layout.base_executable = _base_executable(place, layout, venv_home)
    if home:
        layout.base_prefix = home.split(":")[0]
        layout.platlibdir = _library_directory(place, layout, layout.base_prefix) or "lib"
    else:
        layout.base_prefix = _search_up(place, layout, start) or _search_known(place, layout) or ""
    if not layout.base_prefix:
        raise common.Unavailable(
            "%s: no standard library (%s/os.py) in any directory above %s"
            % (layout.executable, layout.directory, start)
        )
    layout.standard = "%s/%s/%s" % (layout.base_prefix.rstrip("/"), layout.platlibdir, layout.directory)
    layout.prefix = layout.base_prefix if layout.settings is None else environment


def _base_executable(place: "Place", layout: "Layout", home: "str") -> "str":
    """``sys._base_executable``: before 3.11 the program of the environment itself, then the one it was made from."""
    if layout.version < (3, 11):
        return layout.executable
    if layout.real != layout.executable:
        return layout.real
    for name in (os.path.basename(layout.executable), "python3", "python%d.%d" % layout.version):
        if place.exists(home + "/" + name):
            return home + "/" + name
    return home + "/" + os.path.basename(layout.executable)


def _library_directory(place: "Place", layout: "Layout", prefix: "str") -> "Optional[str]":
    """``lib``, or ``lib64`` where the interpreter was configured so (Fedora, openSUSE)."""
    for name in ("lib", "lib64"):
        folder = "%s/%s/%s/" % (prefix.rstrip("/"), name, layout.directory)
        if place.exists(folder + "os.py") or place.exists(folder + "os.pyc"):
            return name
    return None


def _search_up(place: "Place", layout: "Layout", start: "str") -> "Optional[str]":
    folder = start
    while folder.strip("/"):
        found = _library_directory(place, layout, folder)
        if found:
            layout.platlibdir = found
            return folder
        folder = folder.rpartition("/")[0]
    return None


def _search_known(place: "Place", layout: "Layout") -> "Optional[str]":
    """The prefix that was compiled in, which stands in no file before the standard library is found: the usual."""
    for prefix in ("/usr", "/usr/local"):
        found = _library_directory(place, layout, prefix)
        if found:
            layout.platlibdir = found
            return prefix
    return None


def build_variables(place: "Place", layout: "Layout") -> "Dict[str, Any]":
    """``sysconfig.get_config_vars()`` as the build wrote them; empty where an image left the file out."""
    import ast

    names = [
        name for name in place.list_dir(layout.standard) if name.startswith("_sysconfigdata_") and name.endswith(".py")
    ]
    # _sysconfigdata_{ABI flags}_{platform}_{triplet}.py; a debug build may lie beside the release build.
    flags = "t" if layout.threads else ("m" if layout.version < (3, 8) else "")
    names.sort(key=lambda name: (not name.startswith("_sysconfigdata_%s_linux" % flags), name))
    for name in names:
        text = place.read_text(layout.standard + "/" + name, CONFIGURATION_LIMIT) or ""
        _, sign, literal = text.partition("build_time_vars =")
        if not sign:
            continue
        try:
            value = ast.literal_eval(literal.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            place.problem(layout.standard + "/" + name, "not the literal that a build writes")
            continue
        if isinstance(value, dict):
            return value
    return {}


def soabi_of(place: "Place", layout: "Layout") -> "Optional[str]":
    """From the build variables, else from the names of the standard library's own extension modules."""
    stated = layout.variables.get("SOABI")
    if isinstance(stated, str) and stated:
        return stated
    for name in place.list_dir(layout.standard + "/lib-dynload"):
        found = re.search(r"\.(cpython-\d+[a-z]*(?:-[\w-]+)?)\.so$", name)
        if found:
            return found.group(1)
    return None


def extension_suffixes(layout: "Layout", soabi: "Optional[str]") -> "List[str]":
    """``_PyImport_DynLoadFiletab`` (Python/dynload_shlib.c): as the program holds them, in their fixed order."""
    suffixes = []  # type: List[str]
    if soabi:
        suffixes.append(".%s.so" % soabi)
        plain = re.sub(r"^(cpython-\d+t?)d", r"\1", soabi)
        if layout.version >= (3, 8) and plain != soabi:
            suffixes.append(".%s.so" % plain)  # ALT_SOABI: a debug build loads what a release build loads
    suffixes.append(".abi3.so")
    triplet = re.search(rb"\0\.abi3-([\w-]{3,60})\.so\0", layout.binary)
    if triplet:
        suffixes.append(".abi3-%s.so" % triplet.group(1).decode("ascii"))  # Debian's, since 3.13
    return suffixes + [".so"]


# --- what it would search (site.py)


class _SearchPath:
    """``sys.path`` after ``site.main()``."""

    def __init__(self, place: "Place", layout: "Layout", working_directory: "str") -> "None":
        self._place = place
        self._layout = layout
        self._directory = working_directory or "/"
        self._path = []  # type: List[str]
        self._known = set()  # type: Set[str]
        self._site = place.read_text(layout.standard + "/site.py", 1 << 20) or ""

    def build(self) -> "List[str]":
        place, layout, environ = self._place, self._layout, self._place.environ
        for entry in environ.get("PYTHONPATH", "").split(":") if environ.get("PYTHONPATH") else ():
            self._add(self._absolute(entry))
        base = layout.base_prefix.rstrip("/")
        zipped = "%s/%s/python%d%d%s.zip" % ((base, layout.platlibdir) + layout.version + (layout.threads,))
        for entry in (zipped, layout.standard, self._extensions()):
            self._add(entry)
        prefixes = [layout.base_prefix]
        user_site = not environ.get("PYTHONNOUSERSITE")
        if layout.settings is not None:
            self._add_sites([layout.prefix])
            if layout.settings.get("include-system-site-packages", "true").lower() == "true":
                prefixes.insert(0, layout.prefix)
            else:
                prefixes = [layout.prefix]
                user_site = False
        user = self._user_site()
        if user_site and user and place.is_dir(user):
            self._add_site(user)
        if user_site and "RPM_BUILD_ROOT" in self._site:
            prefixes.insert(0, "/usr/local")  # Fedora's patch 251: what pip installs stays apart from what dnf does
        self._add_sites(prefixes)
        return self._path

    def _extensions(self) -> "str":
        """The directory of extension modules, which may lie under a prefix of its own."""
        layout = self._layout
        inside = layout.standard + "/lib-dynload"
        if not self._place.is_dir(inside):
            for name in ("lib64", "lib"):
                other = "%s/%s/%s/lib-dynload" % (layout.base_prefix.rstrip("/"), name, layout.directory)
                if self._place.is_dir(other):
                    return other
        return inside

    def _user_site(self) -> "Optional[str]":
        environ = self._place.environ
        base = environ.get("PYTHONUSERBASE") or (environ["HOME"] + "/.local" if environ.get("HOME") else None)
        if not base:
            return None
        return self._absolute("%s/lib/%s/site-packages" % (base, self._layout.directory))

    def _add_sites(self, prefixes: "List[str]") -> "None":
        seen = []  # type: List[str]
        for prefix in prefixes:
            if prefix and prefix not in seen:
                seen.append(prefix)
                for folder in self._site_directories(prefix):
                    if self._place.is_dir(folder):
                        self._add_site(folder)

    def _site_directories(self, prefix: "str") -> "List[str]":
        """``site.getsitepackages()`` of one prefix."""
        layout = self._layout
        root = prefix.rstrip("/")
        libraries = [layout.platlibdir] + (["lib"] if layout.platlibdir != "lib" else [])
        if "dist-packages" in self._site:  # Debian's
            plain = "python%d.%d" % layout.version
            folders = [root + "/lib/" + plain + "/site-packages"] if layout.settings is not None else []
            folders += [root + "/local/lib/" + plain + "/dist-packages", root + "/lib/python3/dist-packages"]
            return folders + ["%s/%s/%s/dist-packages" % (root, name, layout.directory) for name in libraries]
        return ["%s/%s/%s/site-packages" % (root, name, layout.directory) for name in libraries]

    def _add_site(self, folder: "str") -> "None":
        folder = self._absolute(folder)
        self._add(folder)
        # Since the releases of 2024 a hidden file is passed over.
        hidden = 'startswith(".")' in self._site or "startswith('.')" in self._site
        for name in self._place.list_dir(folder):
            if name.endswith(".pth") and not (hidden and name.startswith(".")):
                self._add_lines(folder, self._place.read_text(folder + "/" + name, 1 << 20) or "")

    def _add_lines(self, folder: "str", text: "str") -> "None":
        for line in text.splitlines():
            if line.startswith(("#", "import ", "import\t")) or not line.strip():
                continue
            if "\0" in line:
                break  # site.py gives up at the first line that it cannot use
            path = self._absolute(os.path.join(folder, line.rstrip()))
            if path not in self._known and self._place.exists(self._place.inside(self._place.real(path))):
                self._add(path)

    def _absolute(self, path: "str") -> "str":
        path = os.path.join(self._directory, path)
        return "/" + os.path.normpath(path).lstrip("/")

    def _add(self, path: "str") -> "None":
        if path not in self._known:
            self._known.add(path)
            self._path.append(path)


# --- modules


def standard_names(place: "Place", layout: "Layout", built_in: "FrozenSet[str]") -> "FrozenSet[str]":
    """Names of the standard library's modules, from its directories.

    ``sys.stdlib_module_names`` (since 3.10) also lists those of other platforms, and leaves out the tests.
    """
    names = python.standard_names_in(place, layout.standard)
    if layout.version < (3, 10):
        return names
    names |= {file.split(".", 1)[0] for file in place.list_dir(layout.standard + "/lib-dynload")} | built_in
    return frozenset(
        name
        for name in names
        if name.isidentifier()
        and name not in ("test", "tests")
        and not name.startswith(("_test", "_sysconfigdata", "xx"))
    )


def missing_modules(place: "Place", layout: "Layout", suffixes: "List[str]", built_in: "FrozenSet[str]") -> "List[str]":
    """Which of ``python.OPTIONAL_MODULES`` this build lacks, though its version should have them."""
    young = {"_zstd": (3, 14), "_posixshmem": (3, 10)}
    files = set()  # type: Set[str]
    for entry in layout.search_path:
        files.update(place.list_dir(entry) if place.is_dir(entry) else ())
    endings = [""] + suffixes + [".py", ".pyc"]
    return [
        name
        for name in python.OPTIONAL_MODULES
        if layout.version >= young.get(name, (3, 0))
        and name not in built_in
        and not any(name + ending in files for ending in endings)
    ]
