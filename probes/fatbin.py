"""Reads which GPU architectures a CUDA library carries, from the headers of its fat binaries.

A fat binary is a container of device code: one entry for each architecture, machine code (a cubin) or PTX. The
runtime takes the entry that fits the device best; where a container has none that fits, the call fails with "no
kernel image is available for execution on the device". A library has one container for each translation unit, and
their lists may differ. Only headers are read, never the code, so it does not matter that most of it is compressed.

The layout is not documented by its vendor. It was worked out from files that nvcc 11.8 to 13.2 made, and agrees with
GrigoryEvko/nvopen-tools (fatbin/FORMAT_SPECIFICATION.md), n-eiling/cuda-fatbin-decompression (fatbin-decompress.h) and
with what ``cuobjdump --list-elf --list-ptx`` prints. Little endian, as every machine with a CUDA driver.

Container, 16 bytes: magic 0xBA55ED50 (4), version 1 (2), size of this header (2), size of all entries (8).
Entry, 64 bytes or more: kind (2), version 0x101 (2), size of this header (4), size of the code with its padding (8),
size of the compressed code (4), offset of options (4), version of the code, minor and major (2 and 2), architecture
(4), offset and length of a name (4 and 4), flags (8), zero (8), size of the code once unpacked (8).

``cuda`` calls it; this is no probe.
"""

if __name__ == "__main__":
    raise SystemExit("fatbin.py is part of the probe cuda.py and measures nothing by itself")

import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Set, Tuple  # noqa: F401

MAGIC = 0xBA55ED50
_MAGIC_BYTES = struct.pack("<I", MAGIC)

# libcublasLt has 2,800 containers and 5,400 entries, libtorch_cuda about 700 and 5,000.
CONTAINER_LIMIT = 50000
ENTRY_LIMIT = 400000
# Entries of one container: one for each architecture.
ARCHITECTURE_LIMIT = 256
# Bytes that are looked through where no section header says where the containers are. What lies in a container is
# stepped over and does not count.
SCAN_LIMIT = 256 << 20
SECTION_LIMIT = 20000
NAMES_LIMIT = 1 << 20

PTX, CODE = "ptx", "code"

# As cuobjdump does it: what is linked for execution, else what is relocatable. A library that was linked with
# ``-rdc=true`` has both, and the driver sees only the first.
_SOURCES = (("executable", b".nv_fatbin"), ("relocatable", b"__nv_relfatbin"))
SECTIONS = (b".nv_fatbin", b"__nv_relfatbin", b".rodata", b".note.cuda.fwd_compatibility")

# 1 PTX, 2 a cubin, 16 a cubin of the newer kind ("mercury"). 8 is what the linker optimises (lto_90), which no driver
# runs from a linked program.
_KINDS = {1: PTX, 2: CODE, 16: CODE}

_FLAG_COMPRESSED = 0x2000 | 0x8000  # LZ4 until CUDA 12.3, zstd since
_FLAG_ARCHITECTURE_SPECIFIC = 0x100000  # sm_90a
_FLAG_FAMILY_SPECIFIC = 0x200000  # sm_100f

_CONTAINER = struct.Struct("<IHHQ")
# Of the 64 bytes: kind, size of the header, size of the code, minor and major, architecture, flags.
_ENTRY = struct.Struct("<H2xIQ8xHHI8xQ16x")


class FatbinError(Exception):
    """The file cannot be read, or its headers contradict each other; ``reason`` says why."""

    def __init__(self, reason: "str") -> "None":
        Exception.__init__(self, reason)
        self.reason = reason


class Entry:
    """``kind`` PTX or CODE; ``number`` of the architecture (90), ``suffix`` "", "a" or "f"; ``version`` of PTX itself
    ("9.0"), which a driver must know, or of a cubin's form; ``compressed``.
    """

    __slots__ = ("compressed", "kind", "number", "suffix", "version")

    def __init__(
        self, kind: "str", number: "int", suffix: "str", version: "Tuple[int, int]", compressed: "bool"
    ) -> "None":
        self.kind = kind
        self.number = number
        self.suffix = suffix
        self.version = version
        self.compressed = compressed

    @property
    def name(self) -> "str":
        """As nvcc names it: ``sm_90a`` for machine code, ``compute_90`` for PTX."""
        return "%s_%d%s" % ("compute" if self.kind == PTX else "sm", self.number, self.suffix)


class Device:
    """What one file carries. ``containers``: the entries of each container, in the order of the file; ``source``
    "executable" (section .nv_fatbin), "relocatable" (only __nv_relfatbin: code that still needs a device linker) or
    "scan" (no section headers); ``problems`` what could not be followed.
    """

    __slots__ = ("containers", "problems", "source")

    def __init__(self, source: "str") -> "None":
        self.source = source
        self.containers = []  # type: List[List[Entry]]
        self.problems = []  # type: List[str]

    def names(self) -> "List[str]":
        """The architectures of all containers, sorted."""
        return sorted({entry.name for entry in self._entries()}, key=order)

    def sets(self) -> "Dict[str, int]":
        """How many containers carry the same list: ``{"sm_80 sm_90 compute_90": 12}``."""
        counts = {}  # type: Dict[Tuple[Entry, ...], int]
        for container in self.containers:
            counts[tuple(container)] = counts.get(tuple(container), 0) + 1
        found = {}  # type: Dict[str, int]
        for entries, count in counts.items():
            key = " ".join(sorted({entry.name for entry in entries}, key=order))
            found[key] = found.get(key, 0) + count
        return found

    def ptx_versions(self) -> "Dict[str, Tuple[int, int]]":
        """The highest version of PTX of each virtual architecture."""
        found = {}  # type: Dict[str, Tuple[int, int]]
        for entry in self._entries():
            if entry.kind == PTX:
                found[entry.name] = max(entry.version, found.get(entry.name, (0, 0)))
        return found

    def _entries(self) -> "Set[Entry]":
        return {entry for container in self.containers for entry in container}


def order(name: "str") -> "Tuple[bool, int, str]":
    """Sort key: machine code before PTX, then by number."""
    kind, _, rest = name.partition("_")
    return kind == "compute", int(rest.rstrip("af") or 0), rest


def read(path: "str") -> "Optional[Device]":
    """The fat binaries of a library; None where it has none, or is no ELF file.

    Raises FatbinError where the file cannot be opened or its headers are cut. What is wrong inside the containers is
    in ``problems``, with what was readable before it. ``path`` is a path of this machine.
    """
    with Reader(path) as file:
        return device_code(file)


def device_code(file: "Reader") -> "Optional[Device]":
    """As ``read``, of a file that is open."""
    table = sections(file)
    if table is not None:
        for source, name in _SOURCES:
            where = table.get(name)
            if where is not None and where[1]:
                return _walk(file, source, where)
        return None
    head = file.at(0, 64)
    if not _is_elf(head):
        return None
    programs = struct.unpack_from("<Q", head, 32)[0]
    size, count = struct.unpack_from("<HH", head, 54)
    return _scan(file, file.at(programs, 56 * count)) if size == 56 else None


class Reader:
    """An open file, read by position. Raises FatbinError for what cannot be read or is no regular file."""

    def __init__(self, path: "str") -> "None":
        try:
            self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError) as error:
            raise FatbinError(getattr(error, "strerror", None) or str(error)) from None
        self.start = 0
        self.window = b""
        self.entries = {}  # type: Dict[Tuple[int, ...], Entry]
        try:
            status = os.fstat(self.handle)
            if not stat.S_ISREG(status.st_mode):
                raise FatbinError("not a regular file")
        except (OSError, FatbinError) as error:
            os.close(self.handle)
            raise FatbinError(getattr(error, "strerror", None) or str(error)) from None
        self.size = status.st_size

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: "object") -> "None":
        os.close(self.handle)

    def at(self, offset: "int", length: "int") -> "bytes":
        """At most ``length`` bytes; fewer only at the end of the file."""
        if offset < 0 or length <= 0 or offset >= self.size:
            return b""
        try:
            if hasattr(os, "pread"):
                return os.pread(self.handle, length, offset)
            os.lseek(self.handle, offset, os.SEEK_SET)
            return os.read(self.handle, length)
        except (OSError, OverflowError) as error:
            raise FatbinError(getattr(error, "strerror", None) or str(error)) from None

    def near(self, offset: "int", length: "int") -> "bytes":
        """As ``at``, for ``length`` up to 64: what follows is kept, since the next header may lie there."""
        inside = offset - self.start
        if inside < 0 or inside + length > len(self.window):
            self.start, self.window, inside = offset, self.at(offset, 128), 0
        return self.window[inside : inside + length]


def _is_elf(head: "bytes") -> "bool":
    # 64 bits and little endian: what CUDA has been built for since version 10.
    return len(head) == 64 and head[:6] == b"\x7fELF\x02\x01"


def sections(file: "Reader") -> "Optional[Dict[bytes, Tuple[int, int]]]":
    """``{name: (offset, size)}`` of the sections that this probe asks for; None without section headers.

    What is split into a file of debugging information (SHT_NOBITS) is not here.
    """
    head = file.at(0, 64)
    if not _is_elf(head):
        return None
    start = struct.unpack_from("<Q", head, 40)[0]
    size, count, names_index = struct.unpack_from("<HHH", head, 58)
    if not start or size != 64 or not 0 < count <= SECTION_LIMIT or names_index >= count:
        return None
    table = file.at(start, 64 * count)
    if len(table) < 64 * count:
        return None
    names_start, names_size = struct.unpack_from("<QQ", table, names_index * 64 + 24)
    names = file.at(names_start, min(names_size, NAMES_LIMIT))
    wanted = [name for name in SECTIONS if name + b"\0" in names]
    found = {}  # type: Dict[bytes, Tuple[int, int]]
    for index in range(count if wanted else 0):
        name_at, kind, _, _, offset, length = struct.unpack_from("<IIQQQQ", table, index * 64)
        for name in wanted:
            if kind != 8 and names.startswith(name + b"\0", name_at):
                found.setdefault(name, (offset, length))
    return found


def _walk(file: "Reader", source: "str", where: "Tuple[int, int]") -> "Device":
    position, size = where
    device = Device(source)
    end = position + size
    if end > file.size:
        device.problems.append("device code beyond the end of the file")
        end = file.size
    total = 0
    while position + _CONTAINER.size <= end:
        head = file.near(position, _CONTAINER.size)
        if len(head) < _CONTAINER.size:
            device.problems.append("a container that is cut")
            break
        magic, _, length, body = _CONTAINER.unpack(head)
        if magic != MAGIC:
            # Containers are aligned to 8 bytes; the linker may pad more.
            following = _next_magic(file, position + 8, min(end, position + 8 + (1 << 20)))
            if following is None:
                if file.at(position, min(1 << 12, end - position)).strip(b"\0"):
                    device.problems.append("bytes that are no container")
                break
            position = following
            continue
        if length < _CONTAINER.size:
            device.problems.append("a container whose header has %d bytes" % length)
            break
        stop = position + length + body
        if stop > end:
            device.problems.append("a container that reaches beyond its section")
            stop = end
        entries = _entries(file, position + length, stop, device.problems)
        total += len(entries)
        device.containers.append(entries)
        if len(device.containers) >= CONTAINER_LIMIT or total >= ENTRY_LIMIT:
            device.problems.append("more than %d containers; the rest was not read" % len(device.containers))
            break
        # 16 bytes at least: a container of no size must not stop the walk.
        position = (stop + 7) & ~7
    return device


def _entries(file: "Reader", position: "int", stop: "int", problems: "List[str]") -> "List[Entry]":
    entries = []  # type: List[Entry]
    near, unpack, size_of_entry = file.near, _ENTRY.unpack, _ENTRY.size
    for _ in range(ARCHITECTURE_LIMIT):
        if position >= stop:
            return entries
        head = near(position, size_of_entry) if position + size_of_entry <= stop else b""
        if len(head) < size_of_entry:
            problems.append("an entry that is cut")
            return entries
        kind, header, size, minor, major, number, flags = unpack(head)
        if header < size_of_entry:
            problems.append("an entry whose header has %d bytes" % header)
            return entries
        position += header + size
        if position > stop:
            problems.append("an entry that reaches beyond its container")
            return entries
        if kind not in _KINDS:
            continue
        if 10 <= number < 10000:
            # Thousands of entries are of some ten sorts.
            sort = (kind, number, flags, major, minor)
            if sort not in file.entries:
                suffix = "a" if flags & _FLAG_ARCHITECTURE_SPECIFIC else "f" if flags & _FLAG_FAMILY_SPECIFIC else ""
                compressed = bool(flags & _FLAG_COMPRESSED)
                file.entries[sort] = Entry(_KINDS[kind], number, suffix, (major, minor), compressed)
            entries.append(file.entries[sort])
        else:
            problems.append("an entry for the unknown architecture %d" % number)
    problems.append("a container with more than %d entries" % ARCHITECTURE_LIMIT)
    return entries


def _next_magic(file: "Reader", position: "int", end: "int") -> "Optional[int]":
    """Where the next container may begin: the magic number at a multiple of four bytes."""
    while position < end:
        data = file.at(position, min(1 << 20, end - position))
        if not data:
            return None
        inside = data.find(_MAGIC_BYTES)
        while inside >= 0:
            if (position + inside) % 4 == 0:
                return position + inside
            inside = data.find(_MAGIC_BYTES, inside + 1)
        if len(data) <= 3:
            return None
        position += len(data) - 3
    return None


def _scan(file: "Reader", programs: "bytes") -> "Optional[Device]":
    """Without section headers: look for containers in what the loader maps."""
    device = Device("scan")
    left = SCAN_LIMIT
    for index in range(len(programs) // 56):
        kind, _, start, _, _, stored = struct.unpack_from("<IIQQQQ", programs, index * 56)
        if kind != 1:  # PT_LOAD
            continue
        position, end = start, min(start + stored, file.size)
        while position < end and left > 0:
            following = _next_magic(file, position, min(end, position + left))
            left -= (following if following is not None else min(end, position + left)) - position
            if following is None:
                break
            position = following + 4
            head = file.near(following, _CONTAINER.size)
            if len(head) < _CONTAINER.size:
                break
            _, version, length, body = _CONTAINER.unpack(head)
            if version != 1 or length < _CONTAINER.size or following + length + body > end or not body:
                continue  # four bytes that only look like it
            entries = _entries(file, following + length, following + length + body, device.problems)
            device.containers.append(entries)
            position = following + length + body
            if len(device.containers) >= CONTAINER_LIMIT:
                left = 0
        if left <= 0:
            device.problems.append("no section headers, and more than was looked through")
            break
    return device if device.containers or device.problems else None
