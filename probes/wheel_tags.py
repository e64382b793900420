"""Which wheels an interpreter accepts (PEP 425, 600, 656, 703, 803), in the compact form of a snapshot.

The order and the sets follow ``packaging.tags``, which is the oracle of the tests. ``packaging`` itself cannot be
used here: a probe runs with the standard library alone. A full list has a thousand entries and more; but it is
a product, so two lists say the same:

``interpreters``  ``cp311-cp311``, ``cp311-abi3``, ..., ``py3-none``: each is valid with each of the platforms
``platforms``     ``manylinux_2_36_x86_64``, ..., ``linux_x86_64``

and each entry that ends in ``-none`` is valid with the platform ``any`` too, but for the ABI-less tags of
older versions of the implementation, which do not exist.
"""

import os
import re
import sys
import sysconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

# PEP 600: the first glibc that each architecture's policy knows; and the older names of three policies.
_FIRST_GLIBC_MINOR = {"x86_64": 5, "i686": 5}
_LEGACY_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_GLIBC_ARCHITECTURES = frozenset(
    ["x86_64", "aarch64", "ppc64", "ppc64le", "s390x", "loongarch64", "riscv64", "i686", "armv7l"]
)
_SHORT = {"cpython": "cp", "pypy": "pp", "graalpy": "graalpy", "ironpython": "ip", "jython": "jy"}


def supported(libc: "Optional[str]", libc_version: "Optional[str]", free_threaded: "bool") -> "Dict[str, Any]":
    """The tags of the running interpreter."""
    version = tuple(sys.version_info[:2])
    if sys.implementation.name == "cpython":
        first = cpython(version, _cpython_abi(version, free_threaded), free_threaded)
    else:
        first = _generic(version)
    return {
        "interpreters": first + pure(version),
        "platforms": platforms(sysconfig.get_platform(), sys.maxsize > 2**32, libc, libc_version),
    }


def cpython(version: "Tuple[int, ...]", abi: "str", free_threaded: "bool") -> "List[str]":
    """CPython's own ABI, the stable ABI of this and older versions, and no ABI."""
    name = "cp%d%d" % version
    tags = ["%s-%s" % (name, abi)]
    if abi.endswith("d") and version >= (3, 8):
        tags.append("%s-%s" % (name, abi[:-1]))  # since 3.8 a debug build loads what a release build loads
    stable = "abi3t" if free_threaded else "abi3"  # PEP 384, PEP 803
    tags.extend([name + "-" + stable, name + "-none"])
    tags.extend("cp3%d-%s" % (minor, stable) for minor in range(version[1] - 1, 1, -1))
    return tags


def pure(version: "Tuple[int, ...]") -> "List[str]":
    """What has no ABI at all: ``py311-none``, ``py3-none``, ``py310-none``, ..., ``py30-none``."""
    older = ["py3%d-none" % minor for minor in range(version[1] - 1, -1, -1)]
    return ["py3%d-none" % version[1], "py3-none"] + older


def platforms(platform: "str", is_64bit: "bool", libc: "Optional[str]", libc_version: "Optional[str]") -> "List[str]":
    """Platform tags, best first. ``platform`` is ``sysconfig.get_platform()``: ``linux-x86_64``, ``win-amd64``,
    ``macosx-11.0-arm64``.
    """
    name = re.sub(r"[-.]", "_", platform)
    if name.startswith("linux_"):
        return _linux(name[len("linux_") :], is_64bit, libc, libc_version)
    if name.startswith("macosx_"):
        return _macos(name)
    return [name]


def _linux(machine: "str", is_64bit: "bool", libc: "Optional[str]", libc_version: "Optional[str]") -> "List[str]":
    if not is_64bit:
        machine = {"x86_64": "i686", "aarch64": "armv7l", "armv8l": "armv7l"}.get(machine, machine)
    tags = []
    found = re.match(r"(\d+)\.(\d+)", libc_version or "")
    if found and libc == "glibc" and found.group(1) == "2" and machine in _GLIBC_ARCHITECTURES:
        for minor in range(int(found.group(2)), _FIRST_GLIBC_MINOR.get(machine, 17) - 1, -1):
            tags.append("manylinux_2_%d_%s" % (minor, machine))
            if minor in _LEGACY_NAMES:
                tags.append("%s_%s" % (_LEGACY_NAMES[minor], machine))
    elif found and libc == "musl":
        major, minor = int(found.group(1)), int(found.group(2))
        tags.extend("musllinux_%d_%d_%s" % (major, older, machine) for older in range(minor, -1, -1))
    tags.append("linux_" + machine)
    return tags


def _macos(name: "str") -> "List[str]":
    """From ``macosx_14_0_arm64``. What a machine accepts depends on the system that runs, so that is asked."""
    import platform

    running = re.match(r"(\d+)\.(\d+)", platform.mac_ver()[0] or "")
    parts = name.split("_", 3)
    version = (int(running.group(1)), int(running.group(2))) if running else (int(parts[1]), int(parts[2]))
    return macos(version, platform.machine() or parts[3])


def macos(version: "Tuple[int, int]", machine: "str") -> "List[str]":
    """Platform tags of a macOS version and machine (``x86_64`` or ``arm64``)."""
    universal = {"x86_64": ["intel", "fat64", "fat3", "universal2", "universal"], "arm64": ["universal2"]}
    kinds = [machine] + universal.get(machine, [])
    tags = []  # type: List[str]
    if version[0] > 10:
        for major in range(version[0], 10, -1):
            tags.extend("macosx_%d_0_%s" % (major, kind) for kind in _for_macos(kinds, (major, 0)))
        minors = range(16, 3, -1)
        kinds = kinds if machine == "x86_64" else ["universal2"]
    else:
        minors = range(version[1], -1, -1)
    for minor in minors:
        tags.extend("macosx_10_%d_%s" % (minor, kind) for kind in _for_macos(kinds, (10, minor)))
    return tags


def _for_macos(kinds: "List[str]", version: "Tuple[int, int]") -> "List[str]":
    if "x86_64" in kinds and version < (10, 4):
        return []
    return kinds


def _cpython_abi(version: "Tuple[int, ...]", free_threaded: "bool") -> "str":
    debug = "d" if sysconfig.get_config_var("Py_DEBUG") or hasattr(sys, "gettotalrefcount") else ""
    pymalloc = "m" if version < (3, 8) and sysconfig.get_config_var("WITH_PYMALLOC") is not False else ""
    if version < (3, 8) and sysconfig.get_config_var("WITH_PYMALLOC") is None:
        pymalloc = "m"
    return "cp%d%d%s%s%s" % (version[0], version[1], "t" if free_threaded else "", debug, pymalloc)


def _generic(version: "Tuple[int, ...]") -> "List[str]":
    """PyPy, GraalPy and others: the ABI as the suffix of extension modules states it."""
    name = _SHORT.get(sys.implementation.name, sys.implementation.name) + "%d%d" % version
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ""
    parts = suffix.split(".")
    soabi = parts[1] if len(parts) == 3 else ""
    if soabi.startswith("pypy"):
        abi = "_".join(soabi.split("-")[:2])
    elif soabi.startswith("graalpy"):
        abi = "_".join(soabi.split("-")[:3])
    else:
        abi = re.sub(r"[-.]", "_", soabi)
    return (["%s-%s" % (name, abi)] if abi else []) + [name + "-none"]


def libc_of_process() -> "Tuple[Optional[str], Optional[str]]":
    """The C library that this interpreter runs on: ``("glibc", "2.36")``, ``("musl", "1.2")`` or nothing.

    glibc states itself through ``confstr`` (confstr(3)); musl is recognised by the loader that is mapped into
    this process, whose version it prints when it is run, and states in its file.
    """
    if not sys.platform.startswith("linux"):
        return None, None
    try:
        answer = os.confstr("CS_GNU_LIBC_VERSION")  # "glibc 2.36"; a distribution may add words after it
    except (AttributeError, ValueError, OSError):
        answer = None
    if answer and answer.startswith("glibc "):
        return "glibc", answer.split()[1]
    try:
        with open("/proc/self/maps", "rb") as file:
            mapped = re.search(rb"(/\S*/ld-musl-[^/\s]+\.so\.1|/\S*/libc\.musl-[^/\s]+\.so\.1)$", file.read(), re.M)
        if mapped:
            with open(mapped.group(1), "rb") as file:
                found = re.search(rb"\x00(1\.\d+\.\d+)(?:_git[^\x00]*|-[^\x00]*)?\x00", file.read(4 << 20))
            return "musl", found.group(1).decode() if found else None
    except OSError:
        pass
    return None, None
