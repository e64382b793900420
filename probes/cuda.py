"""Section ``cuda``: what of the GPU stack travels with the image, read from files, so that no GPU is needed.

CUDA libraries wherever they come from, the architectures inside every library with device code, toolkits and the
compilers that Triton and JIT extensions would find, what frameworks were built for, copies of the driver library, and
what the image asks of the container runtime. Nothing is loaded, imported or run.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re
import stat
import sys

from . import cgroups, common, cuda_builds, cuda_libraries, fatbin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place
    from .cuda_libraries import Candidate, Found

LAYER = "image"

# Lists of architectures that differ within one library: libcublasLt has 33 of them.
SET_LIMIT = 64
LIBRARY_LIMIT = 2000

# CUDA_VERSION of a header stands in its first 16 KB (cuda.h of 13.0: byte 14,324).
HEADER_LIMIT = 1 << 16


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: see ``schemas/sections/cuda.json``.

    Raises:
        Absent: on macOS (no CUDA since 10.2) and on Windows, whose libraries are no ELF files.
    """
    if place.live and not sys.platform.startswith("linux"):
        raise common.Absent("the libraries of %s are not ELF files" % sys.platform)
    kits = toolkit_directories(place)
    found = cuda_libraries.find(place, kits)
    builds = cuda_builds.builds(place)
    if "bitsandbytes" in builds:
        names = [one.key.rsplit("/", 1)[-1] for one in found.files if one.key.startswith("bitsandbytes/")]
        builds["bitsandbytes"]["variants"] = cuda_builds.variants(names)
    return {
        "libraries": libraries(place, found),
        "device_code": device_code(place, found),
        "driver": driver(place, found),
        "builds": builds,
        "toolkits": {path: toolkit(place, path) for path in kits},
        "tools": tools(place, "triton" in builds),
        "image": image_requirements(place),
    }


# Libraries


def libraries(place: "Place", found: "Found") -> "Dict[str, Any]":
    """``{component: {file: record}}``."""
    versions = cuda_libraries.Versions(place)
    table = {}  # type: Dict[str, Any]
    if len(found.libraries) > LIBRARY_LIMIT:
        place.problem("libraries", "%d CUDA libraries; %d were read" % (len(found.libraries), LIBRARY_LIMIT))
    for candidate in found.libraries[:LIBRARY_LIMIT]:
        component = cuda_libraries.component_of(candidate.path.rsplit("/", 1)[-1])
        record = cuda_libraries.describe(place, candidate, versions)
        if component is not None and record is not None:
            table.setdefault(component, {})[candidate.key] = record
    return table


def device_code(place: "Place", found: "Found") -> "Dict[str, Any]":
    """``{file: record}`` of every library with device code; all others are left out."""
    table = {}  # type: Dict[str, Any]
    seen = set()  # type: Set[str]
    outside = [one for one in found.libraries if "search path" not in one.via]
    for candidate in found.files + outside:
        if candidate.real in seen:
            continue
        seen.add(candidate.real)
        try:
            device = fatbin.read(candidate.real)
        except fatbin.FatbinError:
            continue  # a problem of the section libraries, which reads all of them
        if device is not None:
            for reason in device.problems:
                place.problem(candidate.path, reason)
            table[candidate.key] = describe_device_code(device, candidate.distribution)
    return table


def describe_device_code(device: "fatbin.Device", distribution: "Optional[str]") -> "Dict[str, Any]":
    """``containers`` how many there are; ``architectures`` how many of them carry each; ``lists`` how many carry the
    same list; ``ptx`` the version of PTX itself by virtual architecture; ``source`` as in ``fatbin.Device``.
    """
    lists = device.sets()
    architectures = {}  # type: Dict[str, int]
    for names, count in lists.items():
        for name in names.split():
            architectures[name] = architectures.get(name, 0) + count
    kept = sorted(lists, key=lambda names: (-lists[names], names))[:SET_LIMIT]
    return {
        "distribution": distribution,
        "source": device.source,
        "containers": len(device.containers),
        "architectures": architectures,
        "lists": {names: lists[names] for names in kept},
        "lists_complete": len(kept) == len(lists) and not device.problems,
        "ptx": {name: "%d.%d" % version for name, version in device.ptx_versions().items()},
    }


def driver(place: "Place", found: "Found") -> "Dict[str, Any]":
    """``{path: record}`` of the copies of libcuda that the image itself has."""
    table = {}  # type: Dict[str, Any]
    mounted = {mount.point for mount in cgroups.mounts_of(place)} if place.live and found.driver else set()
    for candidate in found.driver:
        record = cuda_libraries.describe_driver(place, candidate, mounted)
        if record is not None:
            table[candidate.key] = record
    return table


# Toolkits and tools


def toolkit_directories(place: "Place") -> "List[str]":
    """Directories of CUDA toolkits, each once, links resolved: what variables name, and where packages put them."""
    names = [place.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT")]
    names += ["/usr/local/" + name for name in place.list_dir("/usr/local") if re.match(r"^cuda(?:-\d[\d.]*)?$", name)]
    names += ["/opt/cuda", "/usr/lib/cuda", "/usr/lib/nvidia-cuda-toolkit"]
    conda = cuda_libraries.conda_prefix(place)
    if conda and place.exists(conda + "/bin/nvcc"):
        names.append(conda)
    found = []  # type: List[str]
    for name in names:
        if not name.startswith("/"):
            continue
        real = os.path.realpath(name) if place.root == os.path.abspath(os.sep) else place.inside(place.real(name))
        if real not in found and place.is_dir(real) and real != "/":
            found.append(real)
    return found


def toolkit(place: "Place", path: "str") -> "Dict[str, Any]":
    """``{version, version_from, programs}``; version is None where nothing in it states one."""
    version, source = None, None
    for name, reader in (
        ("version.json", parse_version_json),
        ("version.txt", parse_version_txt),
        ("include/cuda.h", parse_header),
    ):
        text = _head(place, path + "/" + name, HEADER_LIMIT)
        version = reader(text) if text else None
        if version is not None:
            source = name
            break
    programs = {name: True for name in ("nvcc", "ptxas", "nvlink", "fatbinary") if _runs(place, path + "/bin/" + name)}
    return {"version": version, "version_from": source, "programs": programs}


def parse_version_json(text: "str") -> "Optional[str]":
    """``{"cuda": {"name": "CUDA SDK", "version": "12.4.1"}, "cuda_cudart": {...}}`` (toolkits since 11.1)."""
    import json

    try:
        value = json.loads(text)
    except ValueError:
        return None
    entry = value.get("cuda") if isinstance(value, dict) else None
    version = entry.get("version") if isinstance(entry, dict) else None
    return version if isinstance(version, str) else None


def parse_version_txt(text: "str") -> "Optional[str]":
    """``CUDA Version 10.1.243`` (toolkits until 11.0)."""
    match = re.match(r"CUDA Version (\d+(?:\.\d+)+)", text)
    return match.group(1) if match else None


def parse_header(text: "str") -> "Optional[str]":
    """``#define CUDA_VERSION 13000`` is 13.0: 1000 for the major version and 10 for the minor one (cuda.h)."""
    match = re.search(r"^#define\s+CUDA_VERSION\s+(\d+)", text, re.MULTILINE)
    return cuda_level(int(match.group(1))) if match else None


def cuda_level(number: "int") -> "str":
    """``12080`` -> ``12.8``, as cuDriverGetVersion and cudaRuntimeGetVersion count."""
    return "%d.%d" % (number // 1000, number % 1000 // 10)


def tools(place: "Place", triton: "bool") -> "Dict[str, Any]":
    """The compilers that would be found at run time: ``cuda_home``, ``nvcc``, ``ptxas`` and ``c_compiler``, each None
    where there is none, and ``triton``: its own programs, by name.

    ``cuda_home``: CUDA_HOME, CUDA_PATH, the directory above that of nvcc on PATH, /usr/local/cuda
    (torch/utils/cpp_extension.py, _find_cuda_home). ``triton``: TRITON_PTXAS_PATH, else the one beside its backend
    (triton/knobs.py, env_nvidia_tool); before 3.0 in triton/common/../third_party/cuda/bin. ``c_compiler``: CC, gcc,
    clang (triton/runtime/build.py).
    """
    facts = {
        "cuda_home": _cuda_home(place),
        "nvcc": _on_path(place, "nvcc"),
        "ptxas": _on_path(place, "ptxas"),
        "c_compiler": None,
    }  # type: Dict[str, Any]
    compiler = place.environ.get("CC")
    if compiler:
        named = compiler if compiler.startswith("/") else (_on_path(place, compiler.split()[0]) or {}).get("path")
        facts["c_compiler"] = {"path": named, "via": "CC"} if named and _runs(place, named.split()[0]) else None
    else:
        facts["c_compiler"] = _on_path(place, "gcc") or _on_path(place, "clang")
    facts["triton"] = _triton(place) if triton else {}
    return facts


def _cuda_home(place: "Place") -> "Optional[Dict[str, Any]]":
    for name in ("CUDA_HOME", "CUDA_PATH"):
        path = place.environ.get(name)
        if path:
            return {"path": path, "via": name, "nvcc": _runs(place, path.rstrip("/") + "/bin/nvcc")}
    nvcc = _on_path(place, "nvcc")
    if nvcc is not None:
        path = os.path.dirname(os.path.dirname(nvcc["path"]))
        return {"path": path, "via": "PATH", "nvcc": _runs(place, path.rstrip("/") + "/bin/nvcc")}
    if place.is_dir("/usr/local/cuda"):
        return {"path": "/usr/local/cuda", "via": "default", "nvcc": _runs(place, "/usr/local/cuda/bin/nvcc")}
    return None


_BESIDE_TRITON = (
    "triton/backends/nvidia/bin/",
    "triton/third_party/cuda/bin/",
    "triton/common/../third_party/cuda/bin/",
)


def _triton(place: "Place") -> "Dict[str, Any]":
    """``{"ptxas": {path, via, version}, "ptxas-blackwell": ...}``."""
    found = {}  # type: Dict[str, Any]
    for name in ("ptxas", "ptxas-blackwell"):
        variable = "TRITON_%s_PATH" % name.upper().replace("-", "_")
        tries = [(place.environ.get(variable, ""), variable)]
        for entry in place.search_path:
            tries += [(entry.rstrip("/") + "/" + folder + name, "triton") for folder in _BESIDE_TRITON]
        for path, via in tries:
            if path.startswith("/") and _runs(place, path):
                found[name] = {"path": path, "via": via, "version": program_version(place, path)}
                break
    return found


def program_version(place: "Place", path: "str") -> "Optional[str]":
    """What a program of the toolkit would print: ``Cuda compilation tools, release 12.9, V12.9.86``."""
    try:
        with fatbin.Reader(place.real(path)) as file:
            stated = cuda_libraries.statement(file, cuda_libraries.CUDA_TOOLS)
    except fatbin.FatbinError as error:
        place.problem(path, error.reason)
        return None
    return stated.group(1).decode("ascii") if stated else None


def _on_path(place: "Place", name: "str") -> "Optional[Dict[str, Any]]":
    for entry in place.environ.get("PATH", os.defpath).split(":")[:200]:
        path = entry.rstrip("/") + "/" + name
        if entry.startswith("/") and _runs(place, path):
            return {"path": path, "via": "PATH"}
    return None


def _runs(place: "Place", path: "str") -> "bool":
    """Whether it is a regular file with an executable bit."""
    try:
        mode = os.stat(place.real(path)).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _head(place: "Place", path: "str", limit: "int") -> "str":
    """The beginning of a text file; a longer one is no problem here."""
    try:
        return common.read_regular(place.real(path), limit).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


# What the image asks of the container runtime


def image_requirements(place: "Place") -> "Dict[str, Any]":
    """The variables that NVIDIA's container runtime reads (container-toolkit docs, "Environment variables"); None for
    those that are not set. The runtime evaluates ``NVIDIA_REQUIRE_*`` at the start and refuses what does not hold.
    """
    environ = place.environ
    return {
        "visible_devices": environ.get("NVIDIA_VISIBLE_DEVICES"),
        "driver_capabilities": environ.get("NVIDIA_DRIVER_CAPABILITIES"),
        "require": {name: environ[name] for name in sorted(environ) if name.startswith("NVIDIA_REQUIRE_")},
        "disable_require": environ.get("NVIDIA_DISABLE_REQUIRE"),
        "cuda_version": environ.get("CUDA_VERSION"),
    }
