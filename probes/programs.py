"""Section ``programs``: the executables, libraries and headers that Python distributions look for by name.

They call the first, open the second, and compile with the third (the interpreter's own) on the spot. No ELF header
and no metadata states these needs. The names come from a table of what known distributions look for at run time
(driftcheck/knowledge/programs.json, each row with its source); a test holds the two together. Nothing found here is
ever run.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re
import stat
import sys
import sysconfig

from . import common, loader_cache, os_packages, system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

LAYER = "image"

# Program -> Debian packages that may own it (the names under which dpkg's file lists are looked up).
PROGRAMS = {
    "avconv": ("libav-tools",),
    "avprobe": ("libav-tools",),
    "clang": ("clang",),
    "dot": ("graphviz",),
    "ffmpeg": ("ffmpeg",),
    "ffprobe": ("ffmpeg",),
    "g++": ("g++",),
    "gcc": ("gcc",),
    "git": ("git",),
    "java": ("default-jre-headless",),
    "ninja": ("ninja-build",),
    "pandoc": ("pandoc",),
    "pdfinfo": ("poppler-utils",),
    "pdftoppm": ("poppler-utils",),
    "tesseract": ("tesseract-ocr",),
    "wkhtmltoimage": ("wkhtmltopdf",),
    "wkhtmltopdf": ("wkhtmltopdf",),
}

# Shared libraries by the soname that the opener ends at.
LIBRARIES = (
    "libMagickWand-6.Q16.so.6",
    "libMagickWand-7.Q16.so.10",
    "libMagickWand-7.Q16HDRI.so.10",
    "libcairo.so.2",
    "libdmtx.so.0",
    "libenchant-2.so.2",
    "libespeak-ng.so.1",
    "libespeak.so.1",
    "libfontconfig.so.1",
    "libgobject-2.0.so.0",
    "libharfbuzz.so.0",
    "libmagic.so.1",
    "libpango-1.0.so.0",
    "libpangoft2-1.0.so.0",
    "libportaudio.so.2",
    "libpq.so.5",
    "libsndfile.so.1",
    "libvips.so.42",
    "libzbar.so.0",
)

# Header of the interpreter -> patterns of the Debian packages that own it, for a version.
HEADERS = {"Python.h": ("libpython%s-dev", "python3-dev")}

# Windows' own default of PATHEXT is longer; scripts are of no use to CreateProcess.
WINDOWS_SUFFIXES = (".exe", ".com", ".bat", ".cmd")
LINK_LIMIT = 40
PATH_LIMIT = 200


def measure(place: "common.Place") -> "Dict[str, Any]":
    """Facts: ``programs``, ``libraries`` and ``headers``, each a table by name; the value is None where there is none.

    ``programs[name]``: ``path`` as found, ``real`` with links followed (None where it is the same),
    ``on_path`` (False: only beside the interpreter, so a call by name would not find it), ``package``,
    ``package_version``, ``version`` (of a Java installation, which states it in a file).
    ``libraries[soname]``: ``path`` and ``via``.
    ``headers[name]``: ``path``, ``package`` and ``package_version``.
    """
    windows = place.live and sys.platform == "win32"
    elf = not (place.live and sys.platform in ("win32", "darwin"))
    folders = program_folders(place, ";" if windows else ":")
    manager = os_packages.present_manager(place)
    programs = {}  # type: Dict[str, Optional[Dict[str, Any]]]
    for name in sorted(PROGRAMS):
        found = find_program(place, name, folders, WINDOWS_SUFFIXES if windows else ("",))
        programs[name] = describe_program(place, name, found, manager) if found else None
    return {
        "programs": programs,
        "libraries": find_libraries(place) if elf else {},
        "headers": find_headers(place, manager),
    }


# Programs


def program_folders(place: "common.Place", separator: "str") -> "List[Tuple[str, bool]]":
    """(folder, whether on PATH): the absolute entries of PATH, then the folder of the interpreter.

    A relative entry means another folder for each working directory and is no fact of the environment.
    """
    folders = []  # type: List[Tuple[str, bool]]
    seen = set()
    for entry in place.environ.get("PATH", os.defpath).split(separator)[:PATH_LIMIT]:
        if os.path.isabs(entry) and entry not in seen:
            seen.add(entry)
            folders.append((entry, True))
    interpreter = system.find_interpreter(place)
    if interpreter:
        folder = os.path.dirname(interpreter)
        if folder and folder not in seen:
            folders.append((folder, False))
    return folders


def find_program(
    place: "common.Place", name: "str", folders: "List[Tuple[str, bool]]", suffixes: "Tuple[str, ...]"
) -> "Optional[Tuple[str, bool]]":
    """(path, whether on PATH) of the first regular file with an executable bit."""
    # In an unpacked root place.real follows every link; one that is left (a loop) must not lead outside.
    look = os.stat if place.root == os.path.abspath(os.sep) else os.lstat
    for folder, on_path in folders:
        for suffix in suffixes:
            path = os.path.join(folder, name + suffix)
            try:
                mode = look(place.real(path)).st_mode
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(mode) and (suffix or mode & 0o111):
                return path, on_path
    return None


def describe_program(
    place: "common.Place", name: "str", found: "Tuple[str, bool]", manager: "Optional[str]"
) -> "Dict[str, Any]":
    path, on_path = found
    chain = link_chain(place, path)
    real = system.resolved(place, path)
    names = chain + ([real] if real not in chain else [])
    package = os_packages.owner(place, manager, names, package_candidates(name, real))
    return {
        "path": path,
        "real": real if real != path else None,
        "on_path": on_path,
        "package": package.name if package else None,
        "package_version": package.version if package else None,
        "version": stated_version(place, name, real),
    }


def package_candidates(name: "str", real: "str") -> "List[str]":
    """The packages of the table, and what the real name of a versioned compiler (gcc-12) or JVM hints at."""
    candidates = list(PROGRAMS[name])
    base = re.sub(r"^[a-z0-9_]+-linux-gnu\w*-", "", real.rpartition("/")[2])
    if base != name:
        candidates.append(base)
    match = re.search(r"/jvm/java-(\d+)-openjdk", real)
    if match:
        candidates.append("openjdk-%s-jre-headless" % match.group(1))
    return candidates


def link_chain(place: "common.Place", path: "str") -> "List[str]":
    """The path and each name that its last component links to in turn (alternatives: two or three)."""
    chain = [path]
    while len(chain) < LINK_LIMIT:
        folder, _, base = chain[-1].rpartition("/")
        try:
            target = os.readlink(os.path.join(place.real(folder or "/"), base))
        except (OSError, ValueError):
            break
        following = os.path.normpath(target if target.startswith("/") else (folder or "") + "/" + target)
        if following in chain:
            break
        chain.append(following)
    return chain


def stated_version(place: "common.Place", name: "str", real: "str") -> "Optional[str]":
    """What a Java installation states of itself in its file ``release``; None for every other program."""
    if name != "java":
        return None
    root = os.path.dirname(os.path.dirname(real))
    for home in (root, os.path.dirname(root)):
        text = system.head(place, home + "/release", 65536)
        match = re.search(rb'^JAVA_VERSION="([^"\n]{1,40})"', text, re.M)
        if match:
            return match.group(1).decode("utf-8", "replace")
    return None


# Libraries


def find_libraries(place: "common.Place") -> "Dict[str, Optional[Dict[str, str]]]":
    """Where dlopen(3) of each soname would end for a program without RPATH: ld.so(8), or musl's search.

    ``via``: ``LD_LIBRARY_PATH``, ``cache`` (/etc/ld.so.cache), ``path file`` (musl's /etc/ld-musl-ARCH.path),
    ``default``, or ``conda`` (the lib folder of a conda prefix, which its interpreter names in its RPATH).
    """
    program = system.find_interpreter(place)
    header = system.elf_header(system.head(place, program, 1 << 16)) if program else None
    loader = (header or {}).get("loader") or ""
    musl = loader.rpartition("/")[2].startswith("ld-musl-")
    folders = [(entry, "LD_LIBRARY_PATH") for entry in re.split("[:;]", place.environ.get("LD_LIBRARY_PATH", ""))]
    prefix = os.path.dirname(os.path.dirname(program)) if program else ""
    if prefix and place.is_dir(prefix + "/conda-meta"):
        folders.insert(0, (prefix + "/lib", "conda"))
    cached = {}  # type: Dict[str, List[str]]
    if musl:
        folders.extend(musl_folders(place, loader))
    else:
        cached = cached_paths(place, header)
    defaults = [] if musl else [(entry, "default") for entry in default_folders(header)]
    table = {}  # type: Dict[str, Optional[Dict[str, str]]]
    for soname in LIBRARIES:
        tries = [(entry + "/" + soname, via) for entry, via in folders if entry.startswith("/")]
        tries.extend((path, "cache") for path in cached.get(soname, ()))
        tries.extend((entry + "/" + soname, via) for entry, via in defaults)
        table[soname] = None
        for path, via in tries:
            if fits(place, path, header):
                table[soname] = {"path": path, "via": via}
                break
    return table


def cached_paths(place: "common.Place", header: "Optional[Dict[str, Any]]") -> "Dict[str, List[str]]":
    """Sonames of the loader's cache -> paths in its order; those under glibc-hwcaps (newer CPUs) last."""
    data = place.read_bytes(system.LD_SO_CACHE)
    if not data:
        return {}
    try:
        entries = loader_cache.parse(data)
    except ValueError as error:
        place.problem(system.LD_SO_CACHE, str(error))
        return {}
    wanted = loader_cache.flags_of(header["machine"], header["bits"], header["hard_float"]) if header else None
    table = {}  # type: Dict[str, List[str]]
    names = frozenset(LIBRARIES)
    for entry in sorted((entry for entry in entries if entry.soname in names), key=lambda entry: bool(entry.hwcap)):
        if wanted is None or entry.flags == wanted:
            table.setdefault(entry.soname, []).append(entry.path)
    return table


def musl_folders(place: "common.Place", loader: "str") -> "List[Tuple[str, str]]":
    """What musl searches after LD_LIBRARY_PATH (its ldso/dynlink.c): its path file, else its default."""
    match = re.search(r"ld-musl-([\w-]+)\.so\.1$", loader)
    text = place.read_text("/etc/ld-musl-%s.path" % match.group(1), 65536) if match else None
    if text is not None:
        return [(entry, "path file") for entry in re.split(r"[:\n]", text)]
    return [(entry, "default") for entry in ("/lib", "/usr/local/lib", "/usr/lib")]


def default_folders(header: "Optional[Dict[str, Any]]") -> "List[str]":
    """The built-in folders of glibc, Debian's multiarch ones first."""
    triplets = {
        62: "x86_64-linux-gnu",
        183: "aarch64-linux-gnu",
        3: "i386-linux-gnu",
        21: "powerpc64le-linux-gnu",
    }
    triplet = triplets.get((header or {}).get("machine", 0))
    folders = ["/lib/" + triplet, "/usr/lib/" + triplet] if triplet else []
    return folders + ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]


def fits(place: "common.Place", path: "str", header: "Optional[Dict[str, Any]]") -> "bool":
    """Whether the file is an ELF file of the interpreter's class and machine; the loader skips all others."""
    try:
        data = common.read_regular(place.real(path), 64)
    except (OSError, ValueError):
        return False
    library = system.elf_header(data)
    if library is None:
        return False
    return header is None or (library["machine"], library["bits"]) == (header["machine"], header["bits"])


# Headers


def find_headers(place: "common.Place", manager: "Optional[str]") -> "Dict[str, Optional[Dict[str, Optional[str]]]]":
    """The headers of the interpreter under test, where it expects them. Empty where that place is not known."""
    folder = include_folder(place)
    if folder is None:
        return {}
    table = {}  # type: Dict[str, Optional[Dict[str, Optional[str]]]]
    for name in sorted(HEADERS):
        path = os.path.join(folder, name)
        table[name] = None
        if not place.exists(path):
            continue
        version = re.sub(r"^python|m$", "", os.path.basename(folder))
        candidates = [owner % version if "%" in owner else owner for owner in HEADERS[name]]
        package = os_packages.owner(place, manager, [path, system.resolved(place, path)], candidates)
        table[name] = {
            "path": path,
            "package": package.name if package else None,
            "package_version": package.version if package else None,
        }
    return table


def include_folder(place: "common.Place") -> "Optional[str]":
    """The folder of the interpreter's headers, as compilers on the spot ask sysconfig for it; that of a virtual
    environment is its base's.

    From files: beside the standard library (``/usr/lib/python3.11`` -> ``/usr/include/python3.11``; up to 3.7 with
    the ABI flag m).
    """
    if place.live:
        # Debian's own scheme names a folder for what pip installs, not that of the interpreter.
        return sysconfig.get_path("include", "posix_prefix" if os.name == "posix" else "nt")
    for entry in place.search_path:
        match = re.match(r"^(/.*)?/lib(?:64)?/(python3\.(\d+)t?)$", entry)
        if match:
            flag = "m" if int(match.group(3)) < 8 else ""
            return (match.group(1) or "") + "/include/" + match.group(2) + flag
    return None
