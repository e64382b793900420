"""Finds the CUDA libraries of an environment, wherever they come from, and the version that each states of itself.

Wheels put them below the search path, often under names that a repair tool made (``libcudart-1b13984d.so.12``);
conda, toolkits and packages of the operating system put them into directories that the loader searches. Part of the
probe ``cuda``; nothing is loaded.
"""

if __name__ == "__main__":
    raise SystemExit("cuda_libraries.py is part of the probe cuda.py and measures nothing by itself")

import os
import re

from . import elf, fatbin, library_files, loader, loader_cache, system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place

# Libraries of the CUDA toolkit and of what is built upon it, without those that only draw, copy or compress. The
# hexadecimal part is what auditwheel adds to the name of a copy (libcudart.faf08d9a.so.13, libcudart-1b13984d.so.12).
_NAME = re.compile(
    r"^lib(?P<component>cudart|cublas|cublasLt|cudnn(?:_[a-z_]+)?|nccl|nvinfer(?:_[a-z_]+)?|nvonnxparser|nvJitLink"
    r"|nvrtc|nvrtc-builtins|cufft|curand|cusolver|cusparse|cusparseLt|cutensor|cupti|nvvm|nvjpeg|cufile|nvshmem_host)"
    r"(?:[-.](?P<copy>[0-9a-f]{8}))?(?:\.alt)?\.so(?:\.(?P<version>\d+(?:\.\d+)*))?$"
)
_DRIVER = re.compile(r"^libcuda\.so(?:\.(?P<version>\d+(?:\.\d+)*))?$")
_ANY = re.compile(rb"lib(?:cu|nv|nccl)")

# What these libraries print of themselves, in their constants; the others state nothing that can be read.
CUDA_TOOLS = re.compile(rb"Cuda compilation tools, release \d+\.\d+, V(\d+\.\d+\.\d+)")
_STATEMENTS = {
    "nccl": re.compile(rb"NCCL version (\d+\.\d+\.\d+)(?:(?:\+cuda| compiled with CUDA )(?P<cuda>\d+\.\d+))?"),
    "cudnn_graph": re.compile(rb"cudnn_version_(\d+_\d+_\d+(?:_\d+)?)_?"),
    "nvJitLink": CUDA_TOOLS,
    "nvrtc": CUDA_TOOLS,
    "nvvm": CUDA_TOOLS,
}
# They stand in the first 4 MB (libnvrtc.so.12: 3.9 MB), mostly in the first 64 KB.
STATEMENT_LIMIT = 8 << 20
DIRECTORY_LIMIT = 64

# Where TensorRT's archive and other archives are put by their own instructions.
_OTHER_DIRECTORIES = ("/usr/local/lib", "/usr/local/tensorrt/lib", "/usr/local/TensorRT/lib", "/opt/tensorrt/lib")


class Candidate:
    """One file. ``key`` how facts name it; ``path`` inside the root; ``via`` all the ways that lead to it."""

    __slots__ = ("distribution", "key", "path", "real", "via")

    def __init__(self, key: "str", path: "str", real: "str", distribution: "Optional[str]") -> "None":
        self.key = key
        self.path = path
        self.real = real
        self.distribution = distribution
        self.via = {}  # type: Dict[str, bool]


class Found:
    """``libraries``: candidates whose names are those of CUDA libraries; ``driver``: copies of libcuda; ``files``:
    every library below the search path, which may carry device code under any name.
    """

    def __init__(self) -> "None":
        self.libraries = []  # type: List[Candidate]
        self.driver = []  # type: List[Candidate]
        self.files = []  # type: List[Candidate]


def find(place: "Place", toolkits: "List[str]") -> "Found":
    """Everything that may be a CUDA library. ``toolkits``: their directories."""
    found = Found()
    known = {}  # type: Dict[Tuple[int, int], Candidate]
    for file in library_files.find(place).files:
        name = file.relative.rsplit("/", 1)[-1]
        candidate = Candidate(file.key, file.path, place.real(file.path), file.owner)
        found.files.append(candidate)
        _sort(candidate, name, "search path", found, known)
    for directory, via in directories(place, toolkits):
        for name in place.list_dir(directory):
            if ".so" in name and (_NAME.match(name) or _DRIVER.match(name)):
                path = directory.rstrip("/") + "/" + name
                _sort(Candidate(path, path, place.real(path), None), name, via, found, known)
    for name, path in cached(place):
        _sort(Candidate(path, path, place.real(path), None), name, "cache", found, known)
    return found


def _sort(
    candidate: "Candidate", name: "str", via: "str", found: "Found", known: "Dict[Tuple[int, int], Candidate]"
) -> "None":
    driver = _DRIVER.match(name)
    if not driver and not _NAME.match(name):
        return
    try:
        status = os.stat(candidate.real)
    except (OSError, ValueError):
        return  # a link to nowhere, or gone since the directory was read
    first = known.setdefault((status.st_dev, status.st_ino), candidate)
    if first is candidate:
        (found.driver if driver else found.libraries).append(candidate)
    elif not first.via.get("search path") and _rank(candidate.path) < _rank(first.path):
        first.key, first.path = candidate.key, candidate.path
    first.via[via] = True


def _rank(path: "str") -> "Tuple[bool, int, str]":
    """Of several names of one file the soname's: with a version, and short (libcudart.so.12, not .so.12.9.79)."""
    return path.endswith(".so"), len(path.rsplit("/", 1)[-1]), path


def directories(place: "Place", toolkits: "List[str]") -> "Iterator[Tuple[str, str]]":
    """``(directory, via)`` of the places outside of the search path, each once."""
    seen = set()  # type: Set[str]
    for directory, via in _directories(place, toolkits):
        if directory.startswith("/") and directory not in seen and len(seen) < DIRECTORY_LIMIT:
            seen.add(directory)
            if place.is_dir(directory):
                yield directory, via


def _directories(place: "Place", toolkits: "List[str]") -> "Iterator[Tuple[str, str]]":
    for entry in re.split("[:;]", place.environ.get("LD_LIBRARY_PATH", "")):
        if entry:
            yield entry.rstrip("/") or "/", "LD_LIBRARY_PATH"
    prefix = conda_prefix(place)
    if prefix:
        yield prefix + "/lib", "conda"
    for toolkit in toolkits:
        for part in ("/lib64", "/lib", "/compat", "/lib64/stubs", "/nvvm/lib64", "/extras/CUPTI/lib64"):
            yield toolkit + part, "toolkit"
        for target in place.list_dir(toolkit + "/targets"):
            yield toolkit + "/targets/" + target + "/lib", "toolkit"
            yield toolkit + "/targets/" + target + "/lib/stubs", "toolkit"
    for entry in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
                  "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"):  # fmt: skip
        yield entry, "default"
    for entry in _OTHER_DIRECTORIES:
        yield entry, "other"


def conda_prefix(place: "Place") -> "Optional[str]":
    """The conda environment that the interpreter belongs to."""
    interpreter = system.find_interpreter(place)
    prefix = os.path.dirname(os.path.dirname(interpreter)) if interpreter else ""
    return prefix if prefix and place.is_dir(prefix + "/conda-meta") else None


def cached(place: "Place") -> "List[Tuple[str, str]]":
    """``(name, path)`` of the CUDA libraries in the loader's cache."""
    data = place.read_bytes(loader.CACHE, loader.CACHE_LIMIT)
    if not data or not _ANY.search(data):
        return []
    try:
        entries = loader_cache.parse(data)
    except ValueError:
        return []  # a problem of the section libraries
    names = [(entry.path.rsplit("/", 1)[-1], entry.path) for entry in entries]
    return [(name, path) for name, path in names if _NAME.match(name) or _DRIVER.match(name)]


def component_of(name: "str") -> "Optional[str]":
    """``cublasLt`` for ``libcublasLt.so.12``; None for the name of anything else."""
    match = _NAME.match(name)
    return match.group("component") if match else None


def describe(place: "Place", candidate: "Candidate", versions: "Versions") -> "Optional[Dict[str, Any]]":
    """The record of one library; see ``libraries`` in ``schemas/sections/cuda.json``. None where the file is no
    64-bit ELF file (a linker script, a library of another architecture).
    """
    name = candidate.path.rsplit("/", 1)[-1]
    match = _NAME.match(name)
    component = match.group("component") if match else ""
    real = _NAME.match(os.path.basename(_resolved(place, candidate)))
    version = (real.group("version") if real else None) or (match.group("version") if match else None) or ""
    source, built_with = "file name", None
    try:
        header = elf.read(candidate.real)
        if header is None or header.bits != 64:
            return None
        # One number is that of the ABI and no version.
        unnamed = version.count(".") < 2 and not (component == "nvrtc-builtins" and "." in version)
        stated = None
        # NCCL holds a CUDA runtime of its own, of which its name does not tell.
        if component in _STATEMENTS and (unnamed or component == "nccl"):
            with fatbin.Reader(candidate.real) as file:
                stated = statement(file, _STATEMENTS[component])
        if stated is not None:
            built_with = stated.groupdict().get("cuda")
        if unnamed:
            distribution = versions.of(candidate) if component_owner(candidate.distribution) else None
            if stated is not None:
                version, source = stated.group(1).decode("ascii").replace("_", "."), "constants"
            elif distribution is not None:
                version, source = distribution, "distribution"
    except (elf.ElfError, fatbin.FatbinError) as error:
        place.problem(candidate.path, error.reason)
        return None
    record = {
        "soname": header.soname,
        "version": version or None,
        "version_from": source if version else None,
        "distribution": candidate.distribution,
        "via": candidate.via,
        "stub": "/stubs/" in candidate.path,
    }  # type: Dict[str, Any]
    if built_with is not None:
        record["cuda"] = built_with.decode("ascii")
    return record


def _resolved(place: "Place", candidate: "Candidate") -> "str":
    """The file that a link ends at. In an unpacked root ``real`` is that already."""
    return os.path.realpath(candidate.real) if place.root == os.path.abspath(os.sep) else candidate.real


def component_owner(distribution: "Optional[str]") -> "bool":
    """Whether the version of a distribution is that of the library in it: nvidia-cublas-cu12, tensorrt-cu12-libs. A
    copy inside of another (torchvision) has a version of its own.
    """
    return bool(distribution and re.match(r"nvidia-|tensorrt|cutensor-", distribution))


def statement(file: "fatbin.Reader", pattern: "re.Pattern[bytes]") -> "Optional[re.Match[bytes]]":
    """What a library or program states of its version in its read-only data."""
    table = fatbin.sections(file)
    where = (table or {}).get(b".rodata")
    if where is None:
        return None
    start, size = where
    position, step = start, 1 << 16
    end = start + min(size, STATEMENT_LIMIT)
    while position < end:
        # A statement that begins in one piece may end in the next, which finds those that begin there.
        match = pattern.search(file.at(position, min(step + 128, end - position)))
        if match and match.start() < step:
            return match
        position += step
        step = 1 << 20
    return None


class Versions:
    """Versions of distributions, by the names of their metadata directories."""

    def __init__(self, place: "Place") -> "None":
        self.place = place
        self._entries = {}  # type: Dict[str, Dict[str, str]]

    def of(self, candidate: "Candidate") -> "Optional[str]":
        """The version of the distribution that a file of the search path belongs to."""
        if candidate.distribution is None:
            return None
        for entry in self.place.search_path:
            if candidate.path.startswith(entry.rstrip("/") + "/"):
                version = self.table(entry).get(candidate.distribution)
                if version is not None:
                    return version
        return None

    def table(self, entry: "str") -> "Dict[str, str]":
        """``{key: version}`` of one directory of the search path."""
        if entry not in self._entries:
            table = self._entries[entry] = {}
            for name in self.place.list_dir(entry):
                match = re.match(r"^([^-]+)-(\d[^-]*)\.dist-info$", name)
                if match:
                    table[re.sub(r"[-_.]+", "-", match.group(1)).lower()] = match.group(2)
        return self._entries[entry]


# Copies of the driver library


def describe_driver(place: "Place", candidate: "Candidate", mounted: "Set[str]") -> "Optional[Dict[str, Any]]":
    """The record of one libcuda; see ``driver`` in ``schemas/sections/cuda.json``. None for one that a container
    runtime mounted: it belongs to the start, not to the image.

    ``compat``  of a package cuda-compat: newer than the driver that it runs on
    ``stub``    to link against; it has no functions
    ``driver``  of a driver's own package, which does not belong into an image
    """
    real = place.inside(_resolved(place, candidate))
    if real in mounted or candidate.path in mounted:
        return None
    note = None
    try:
        with fatbin.Reader(candidate.real) as file:
            if file.at(0, 5) != b"\x7fELF\x02":
                return None
            where = (fatbin.sections(file) or {}).get(b".note.cuda.fwd_compatibility")
            if where is not None:
                note = parse_note(file.at(where[0], min(where[1], 1 << 16)))
                if note is None:
                    place.problem(candidate.path, "a .note.cuda.fwd_compatibility that cannot be understood")
    except fatbin.FatbinError as error:
        place.problem(candidate.path, error.reason)
        return None
    kind = "driver"
    if "/stubs/" in candidate.path:
        kind = "stub"
    elif note is not None or re.search(r"/(?:compat|cuda-compat)(?:[-_.\w]*)/", real):
        kind = "compat"
    match = _DRIVER.match(real.rsplit("/", 1)[-1])
    version = match.group("version") if match else None
    return {
        "kind": kind,
        "version": version if version and "." in version else None,
        "via": candidate.via,
        "note": note,
    }


def parse_note(data: "bytes") -> "Optional[Dict[str, Any]]":
    """What a compat libcuda states of the drivers that it runs on; None where it is not understood.

    An ELF note of "NVIDIA Corporation" whose content is JSON: ``{"Format": 1, "CUDA Version": "13.1", "Driver":
    [535, 550, 570, 575, 580, 590], "Device": [1, 2]}``. Source: NVIDIA container toolkit,
    cmd/nvidia-cdi-hook/cudacompat (compatElfHeader), which reads the same.
    """
    import json
    import struct

    if len(data) < 12:
        return None
    name_size, size = struct.unpack_from("<II", data)
    if data[12 : 12 + name_size].rstrip(b"\0") != b"NVIDIA Corporation":
        return None
    # The name is padded to four bytes, or to eight where the section is aligned so.
    for align in (4, 8):
        start = 12 + (name_size + align - 1) // align * align
        try:
            value = json.loads(data[start : start + size].strip(b"\0").decode("utf-8"))
        except ValueError:
            continue
        if isinstance(value, dict):
            return {
                "format": _integer(value.get("Format")),
                "cuda": value["CUDA Version"] if isinstance(value.get("CUDA Version"), str) else None,
                "drivers": _integers(value.get("Driver")),
                "devices": _integers(value.get("Device")),
            }
    return None


def _integer(value: "Any") -> "Optional[int]":
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _integers(value: "Any") -> "List[int]":
    return sorted(one for one in value if _integer(one) is not None) if isinstance(value, list) else []
