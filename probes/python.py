"""Section ``python``: the interpreter, the environment that it belongs to, and what it can load.

Only a running interpreter knows most of this, so it reads the process that it runs in.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import platform
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES

from . import common, wheel_tags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Container, Dict, FrozenSet, List, Optional, Sequence

    from .common import Place

LAYER = "image"

# Parts of the standard library that a build may lack, because the headers were not there when it was compiled.
# What needs them fails at import (pandas without _lzma and _bz2, torch without _ctypes, most of all without _ssl).
OPTIONAL_MODULES = (
    "_bz2", "_ctypes", "_curses", "_dbm", "_decimal", "_hashlib", "_lzma", "_posixshmem", "_sqlite3", "_ssl",
    "_tkinter", "_uuid", "_zstd", "readline", "venv", "ensurepip", "zlib",
)  # fmt: skip


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts of the running interpreter; see ``schemas/sections/python.json`` for each.

    Raises:
        Unavailable: where the interpreter does not run (files of an image).
    """
    if not place.live:
        raise common.Unavailable("static_python.py works these facts out from files")
    standard = os.path.dirname(os.__file__)
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    libc_name, libc_version = wheel_tags.libc_of_process()
    return {
        "implementation": sys.implementation.name,
        "version": platform.python_version(),
        "cache_tag": sys.implementation.cache_tag,
        "soabi": sysconfig.get_config_var("SOABI"),
        "extension_suffixes": list(EXTENSION_SUFFIXES),
        "free_threaded": free_threaded,
        "gil_enabled": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "debug": hasattr(sys, "gettotalrefcount"),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "byteorder": sys.byteorder,
        "platform": {
            "system": sys.platform,
            "machine": platform.machine().lower(),
            "tag": sysconfig.get_platform(),
            "libc": libc_name,
            "libc_version": libc_version,
        },
        "executable": sys.executable,
        "base_executable": getattr(sys, "_base_executable", None) or sys.executable,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "environment": environment(place, sys.prefix, sysconfig.get_path("stdlib")),
        "shared_library": sysconfig.get_config_var("INSTSONAME")
        if sysconfig.get_config_var("Py_ENABLE_SHARED")
        else None,
        "search_path": list(place.search_path),
        "search_path_files": path_configuration(place),
        "shadowed_modules": shadowed_modules(
            place, standard, standard_names(place, standard), EXTENSION_SUFFIXES, sys.builtin_module_names
        ),
        "missing_modules": dict.fromkeys(missing_modules(place), True),
        "flags": {name: int(getattr(sys.flags, name)) for name in FLAGS if hasattr(sys.flags, name)},
        "tags": wheel_tags.supported(libc_name, libc_version, free_threaded),
    }


# The flags that change what is found, how text is decoded, or how code behaves.
FLAGS = (
    "dev_mode", "dont_write_bytecode", "hash_randomization", "ignore_environment", "isolated", "no_site",
    "no_user_site", "optimize", "safe_path", "utf8_mode", "warn_default_encoding",
)  # fmt: skip


def environment(place: "Place", prefix: "str", standard: "str") -> "Dict[str, Any]":
    """What kind of environment the prefix is: ``venv`` (with its ``pyvenv.cfg``), ``conda`` or ``system``.

    ``standard`` is the directory of the standard library.
    """
    configuration = place.read_text(os.path.join(prefix, "pyvenv.cfg"), 1 << 16)
    if configuration is not None:
        settings = parse_pyvenv(configuration)
        made_with = settings.get("version_info", settings.get("version", "")).split(".")[:2]
        return {
            "kind": "venv",
            "creator": "virtualenv" if "virtualenv" in settings else "uv" if "uv" in settings else "venv",
            "made_with": ".".join(made_with) if len(made_with) > 1 and all(map(str.isdigit, made_with)) else None,
            "system_site_packages": settings.get("include-system-site-packages", "false").lower() == "true",
            "externally_managed": False,
        }
    conda = place.is_dir(os.path.join(prefix, "conda-meta"))
    # PEP 668: such an interpreter refuses `pip install`, and fixes must say so.
    marker = os.path.join(standard, "EXTERNALLY-MANAGED")
    return {
        "kind": "conda" if conda else "system",
        "creator": None,
        "system_site_packages": True,
        "externally_managed": place.exists(marker),
    }


def parse_pyvenv(text: "str") -> "Dict[str, str]":
    """The settings of a ``pyvenv.cfg``, names in lower case, as ``site.py`` reads them.

    A sample: ``home = /usr/bin``, ``include-system-site-packages = false``, ``version = 3.11.2``.
    """
    settings = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign:
            settings[name.strip().lower()] = value.strip()
    return settings


def path_configuration(place: "Place") -> "Dict[str, Dict[str, Any]]":
    """The ``.pth`` files and customisation modules that ran at start-up, by path.

    ``{path: {"adds": number of directories, "runs": number of import lines}}``; they are read, not run again.
    """
    found = {}  # type: Dict[str, Dict[str, Any]]
    for entry in dict.fromkeys(place.search_path):
        for name in place.list_dir(entry) if entry and place.is_dir(entry) else ():
            path = os.path.join(entry, name)
            if name.endswith(".pth") and os.path.basename(entry) in ("site-packages", "dist-packages"):
                lines = (place.read_text(path, 1 << 20) or "").splitlines()
                runs = sum(line.startswith(("import ", "import\t")) for line in lines)
                adds = sum(bool(line.strip()) and not line.startswith("#") for line in lines) - runs
                found[path] = {"adds": adds, "runs": runs}
            elif name in ("sitecustomize.py", "usercustomize.py"):
                found[path] = {"adds": 0, "runs": 1}
    return found


def shadowed_modules(
    place: "Place",
    standard: "str",
    names: "FrozenSet[str]",
    suffixes: "Sequence[str]",
    built_in: "Container[str]",
) -> "Dict[str, str]":
    """Modules of the standard library that a file earlier on the search path hides: ``{"json": path}``.

    ``names`` are those of the standard library's modules, ``suffixes`` the endings of extension modules, and
    ``built_in`` the modules that are part of the interpreter, which nothing hides.
    """
    standard = os.path.normcase(standard)
    hidden = {}  # type: Dict[str, str]
    for entry in place.search_path:
        if os.path.normcase(os.path.abspath(entry)) == standard:
            break
        for file in place.list_dir(entry) if place.is_dir(entry) else ():
            stem = file.split(".", 1)[0]
            is_module = file.endswith((".py",) + tuple(suffixes)) or (
                file == stem and place.exists(os.path.join(entry, file, "__init__.py"))
            )
            if stem in names and is_module and stem not in built_in:
                hidden.setdefault(stem, os.path.join(entry, file))
    return hidden


def standard_names(place: "Place", standard: "str") -> "FrozenSet[str]":
    """Names of the standard library's modules (``sys`` lists them since 3.10, the directory did before)."""
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:
        return standard_names_in(place, standard)
    return frozenset(names) - _CUSTOMISATION


def standard_names_in(place: "Place", standard: "str") -> "FrozenSet[str]":
    """What the directory of the standard library holds, by name."""
    names = {file.split(".", 1)[0] for file in place.list_dir(standard)}
    return frozenset(names) - {"site-packages", "dist-packages", "__pycache__"} - _CUSTOMISATION


# These are for users to write; no file of theirs hides one of the standard library's.
_CUSTOMISATION = frozenset(["sitecustomize", "usercustomize"])


def missing_modules(place: "Place") -> "List[str]":
    """Which of ``OPTIONAL_MODULES`` this build lacks, though its version should have them."""
    from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

    known = getattr(sys, "stdlib_module_names", frozenset(OPTIONAL_MODULES) - {"_zstd", "_posixshmem"})
    path = [entry for entry in place.search_path if entry]

    def found(name: "str") -> "Optional[Any]":
        return BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name) or PathFinder.find_spec(name, path)

    return [name for name in OPTIONAL_MODULES if name in known and found(name) is None]
