"""The dynamic loader's cache, /etc/ld.so.cache, in both of its formats.

Sources: glibc ``sysdeps/generic/dl-cache.h`` (structures), ``sysdeps/generic/ldconfig.h`` (flags) and
``elf/cache.c`` (how ldconfig writes it). The old format ("ld.so-1.7.0") may hold the new one
("glibc-ld.so.cache1.1") inside its string table; then the new one is what counts, as in the loader.
"""

import collections
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

MAGIC_OLD = b"ld.so-1.7.0"
MAGIC_NEW = b"glibc-ld.so.cache1.1"
MAGIC_EXTENSION = 0xEAA42174

_EXTENSION_TAG_HWCAPS = 1
_HWCAP_EXTENSION = 1 << 62
_HEADER_NEW = 48
_ENTRY_NEW = 24
_HEADER_OLD = 16
_ENTRY_OLD = 12

# Real caches hold a few thousand entries.
ENTRY_LIMIT = 200000

# What the loader of an architecture demands of an entry's flags (FLAG_ELF_LIBC6 and the ABI bits), by ELF
# e_machine and class (bits). An architecture that is not here accepts FLAG_ELF_LIBC6 alone.
FLAG_ELF_LIBC6 = 0x0003
FLAGS_OF = {
    (62, 64): 0x0303,  # x86-64
    (62, 32): 0x0803,  # x32
    (183, 64): 0x0A03,  # AArch64
    (21, 64): 0x0503,  # 64-bit PowerPC
    (22, 64): 0x0403,  # s390x
    (243, 64): 0x1003,  # RISC-V, double-precision float ABI
    (258, 64): 0x1203,  # LoongArch, double-precision float ABI
}

Entry = collections.namedtuple("Entry", ["soname", "path", "flags", "hwcap", "subdirectory"])
Entry.__doc__ = """One line of ``ldconfig -p``.

``flags``         kind and ABI of the library (see ``FLAGS_OF``)
``hwcap``         the 64-bit hardware capability mask; 0 where none is asked for
``subdirectory``  glibc-hwcaps subdirectory that it stands in (``x86-64-v3``), else None. Empty where the
                  loader cannot find its name, and so never takes the entry: when ldconfig 2.36 writes both
                  formats (``-c compat``) it counts that offset from the start of the file, the loader from
                  the new header.
"""


def parse(data: "bytes", byte_order: "Optional[str]" = None) -> "List[Entry]":
    """All entries in the order of the file, in which the loader prefers the earlier of two with one name.

    ``byte_order`` is "<" or ">"; without it the file's own statement is taken, or what makes sense of its
    counts. Raises ValueError for anything that is neither format or is cut short.
    """
    if data.startswith(MAGIC_NEW):
        return _parse_new(data, 0, byte_order)
    if data.startswith(MAGIC_OLD):
        order = byte_order or _order_old(data)
        count = _unpack(order + "I", data, _HEADER_OLD - 4)[0]
        strings = _HEADER_OLD + count * _ENTRY_OLD
        _check_count(count, strings, len(data))
        inner = (strings + 7) // 8 * 8
        if data.startswith(MAGIC_NEW, inner):
            return _parse_new(data, inner, byte_order)
        return [
            Entry(_string(data, strings + key), _string(data, strings + value), flags, 0, None)
            for flags, key, value in struct.iter_unpack(order + "iII", data[_HEADER_OLD:strings])
        ]
    raise ValueError("no ld.so.cache: it starts with %r" % data[:20])


def by_soname(entries: "List[Entry]", flags: "int") -> "Dict[str, List[Entry]]":
    """The entries whose flags are the wanted ones, grouped by soname, each group in the loader's order."""
    table = {}  # type: Dict[str, List[Entry]]
    for entry in entries:
        if entry.flags == flags:
            table.setdefault(entry.soname, []).append(entry)
    return table


def flags_of(machine: "int", bits: "int", armhf: "bool" = False) -> "int":
    """The flags that the loader of this ELF machine and class accepts (0x0903 for 32-bit ARM hard float)."""
    if machine == 40 and armhf:
        return 0x0903
    return FLAGS_OF.get((machine, bits), FLAG_ELF_LIBC6)


def _parse_new(data: "bytes", base: "int", byte_order: "Optional[str]") -> "List[Entry]":
    order = byte_order or _order_new(data, base)
    count, _, _, extension = _unpack(order + "IIB3xI", data, base + len(MAGIC_NEW))
    end = base + _HEADER_NEW + count * _ENTRY_NEW
    _check_count(count, end, len(data))
    subdirectories = _hwcaps(data, base, extension, order)
    entries = []
    for flags, key, value, _, hwcap in struct.iter_unpack(order + "iIIIQ", data[base + _HEADER_NEW : end]):
        subdirectory = None
        if hwcap & _HWCAP_EXTENSION and hwcap >> 32 == _HWCAP_EXTENSION >> 32:
            index = hwcap & 0xFFFFFFFF
            subdirectory = subdirectories[index] if index < len(subdirectories) else ""
        # Offsets count from the start of the new header, wherever in the file that is.
        entries.append(Entry(_string(data, base + key), _string(data, base + value), flags, hwcap, subdirectory))
    return entries


def _hwcaps(data: "bytes", base: "int", extension: "int", order: "str") -> "List[str]":
    """Names of the glibc-hwcaps subdirectories; before glibc 2.33 the field was zero and there were none."""
    if not extension:
        return []
    start = base + extension
    if start + 8 > len(data):
        return []
    magic, count = _unpack(order + "II", data, start)
    if magic != MAGIC_EXTENSION:
        return []
    _check_count(count, start + 8 + count * 16, len(data))
    for number in range(count):
        tag, _, offset, size = _unpack(order + "IIII", data, start + 8 + number * 16)
        if tag == _EXTENSION_TAG_HWCAPS:
            _check_count(size // 4, base + offset + size, len(data))
            names = _unpack("%s%dI" % (order, size // 4), data, base + offset)
            return [_string(data, base + name) for name in names]
    return []


def _order_new(data: "bytes", base: "int") -> "str":
    # The two low bits of the flags byte: 2 little endian, 3 big endian, 0 not stated (before glibc 2.33).
    stated = {2: "<", 3: ">"}.get(_unpack("B", data, base + 28)[0] & 3)
    if stated:
        return stated
    count = _unpack("<I", data, base + len(MAGIC_NEW))[0]
    return "<" if base + _HEADER_NEW + count * _ENTRY_NEW <= len(data) else ">"


def _order_old(data: "bytes") -> "str":
    count = _unpack("<I", data, _HEADER_OLD - 4)[0]
    return "<" if _HEADER_OLD + count * _ENTRY_OLD <= len(data) else ">"


def _unpack(form: "str", data: "bytes", offset: "int") -> "tuple[int, ...]":
    try:
        return struct.unpack_from(form, data, offset)
    except struct.error:
        raise ValueError("cut short at byte %d of %d" % (offset, len(data)))


def _check_count(count: "int", end: "int", size: "int") -> "None":
    if count > ENTRY_LIMIT or end > size:
        raise ValueError("states %d entries, which its %d bytes cannot hold" % (count, size))


def _string(data: "bytes", offset: "int") -> "str":
    end = data.find(b"\0", offset, offset + 4097)
    if offset >= len(data) or end < 0:
        raise ValueError("string at byte %d has no end" % offset)
    return data[offset:end].decode("utf-8", "surrogateescape")
