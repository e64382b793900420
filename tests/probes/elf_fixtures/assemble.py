"""Assembles small shared libraries byte by byte: either class, either byte order, any machine, no compiler.

Those for the machine at hand are complete enough for its dynamic loader, so that tests can compare what
driftcheck predicts with what ``dlopen`` really says. Run as a script it writes the files that lie beside it.
"""

from __future__ import annotations

import platform
import struct
import sys
from pathlib import Path

MACHINES = {"x86_64": 62, "aarch64": 183, "riscv64": 243, "ppc64le": 21, "s390x": 22}
NATIVE = {
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "little": sys.byteorder == "little",
    "machine": MACHINES.get(platform.machine(), 62),
}
# A relocation that stores the address of a symbol: R_X86_64_64, R_AARCH64_ABS64, R_RISCV_64, ...
ADDRESS = {62: 1, 183: 257, 243: 2, 21: 38, 22: 22}


def sysv_hash(name: bytes) -> int:
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value


def gnu_hash(name: bytes) -> int:
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def __call__(self, text: str) -> int:
        raw = text.encode() + b"\0"
        if raw not in self.data:
            self.data += raw
        return self.data.index(raw)


def assemble(
    *,
    bits: int = 64,
    little: bool = True,
    machine: int = 62,
    kind: int = 3,
    osabi: int = 0,
    needed: tuple[str, ...] = (),
    soname: str | None = None,
    rpath: str | None = None,
    runpath: str | None = None,
    needs: tuple[tuple[str, str, str, bool], ...] = (),
    defines: tuple[tuple[str, str], ...] = (),
    hidden: tuple[str, ...] = (),
    versions: tuple[tuple[str, str, bool], ...] = (),
    hashes: str = "gnu",
    interpreter: str | None = None,
    executable_stack: bool | None = False,
    static_tls: bool = False,
    flags_1: int = 0,
    relocate: bool = True,
    constants: bytes = b"",
) -> bytes:
    """The bytes of a library.

    ``needs`` ``(name, version or "", file or "", weak)``; ``defines`` ``(name, version or "")``; ``hidden``
    names whose definition is no default; ``versions`` further ``(file, version, weak)`` needs without a
    symbol; ``hashes`` ``gnu``, ``sysv``, ``both`` or ``none``.
    """
    wide = bits == 64
    order = "<" if little else ">"
    word = order + ("Q" if wide else "I")
    size = 8 if wide else 4
    strings = _Strings()

    # Version indices: 1 is the base, then the definitions, then the needs.
    defined_versions = list(dict.fromkeys(version for _, version in defines if version))
    index = {("", version): number + 2 for number, version in enumerate(defined_versions)}
    wanted: dict[str, dict[str, bool]] = {}
    for file, version, weak in [(f, v, w) for _, v, f, w in needs if v] + list(versions):
        group = wanted.setdefault(file, {})
        group[version] = weak and group.get(version, True)
    for file, group in wanted.items():
        for version in group:
            index[file, version] = len(index) + 2

    symbols = [bytes(24 if wide else 16)]
    versym = [0]

    def symbol(name: str, weak: bool, section: int, value: int) -> bytes:
        info = (2 if weak else 1) << 4 | (0 if section == 0 else 1)
        if wide:
            return struct.pack(order + "IBBHQQ", strings(name), info, 0, section, value, 8)
        return struct.pack(order + "IIIBBH", strings(name), value, 4, info, 0, section)

    for name, version, file, weak in needs:
        symbols.append(symbol(name, weak, 0, 0))
        versym.append(index[file, version] if version else (1 if index else 0))
    first = len(symbols)
    for name, version in defines:
        symbols.append(symbol(name, False, 1, 0x40))
        versym.append((index["", version] if version else 1) | (0x8000 if name in hidden else 0))

    for text in (*needed, *defined_versions, *wanted, *(v for group in wanted.values() for v in group)):
        strings(text)
    for given in (soname, rpath, runpath):
        strings(given or "")
    base_name = strings(soname or "base")

    verneed = b""
    for number, (file, group) in enumerate(wanted.items()):
        items = b""
        for at, (version, weak) in enumerate(group.items()):
            last = at == len(group) - 1
            row = (sysv_hash(version.encode()), 2 if weak else 0, index[file, version], strings(version))
            items += struct.pack(order + "IHHII", *row, 0 if last else 16)
        step = 0 if number == len(wanted) - 1 else 16 + len(items)
        verneed += struct.pack(order + "HHIII", 1, len(group), strings(file), 16, step) + items
    verdef = b""
    if defined_versions:
        rows = [(1, 1, sysv_hash((soname or "base").encode()), base_name)]
        rows += [(0, index["", v], sysv_hash(v.encode()), strings(v)) for v in defined_versions]
        for number, (flags, at, value, name_at) in enumerate(rows):
            step = 0 if number == len(rows) - 1 else 28
            verdef += struct.pack(order + "HHHHIII", 1, flags, at, 1, value, 20, step)
            verdef += struct.pack(order + "II", name_at, 0)

    count = len(symbols)
    encoded = [name.encode() for name, _ in defines]
    gnu = struct.pack(order + "IIII", 1, first if encoded else count, 1, 0) + b"\xff" * size
    gnu += struct.pack(order + "I", first if encoded else 0)
    for number, raw in enumerate(encoded):
        gnu += struct.pack(order + "I", gnu_hash(raw) & ~1 | (number == len(encoded) - 1))
    entry = "Q" if wide and machine in (22, 0x9026) else "I"
    chain = [0] * count
    for at in range(first, count):
        chain[at] = at + 1 if at + 1 < count else 0
    head = first if encoded else 0
    sysv = struct.pack(order + entry * (3 + count), 1, count, head, *chain)

    segments = 3 + bool(interpreter) - (executable_stack is None)
    header = 64 + 56 * segments if wide else 52 + 32 * segments
    blobs: dict[str, bytes] = {
        "strings": strings.data,
        "symbols": b"".join(symbols),
        "gnu": gnu if hashes in ("gnu", "both") else b"",
        "sysv": sysv if hashes in ("sysv", "both") else b"",
        "versym": struct.pack(order + "H" * count, *versym) if index else b"",
        "verneed": verneed,
        "verdef": verdef,
        "interpreter": (interpreter or "").encode() + b"\0",
        "constants": constants,
        "slots": bytes(size * max(1, len(needs))),
    }
    place: dict[str, int] = {}
    position = header
    body = b""

    def put(name: str, data: bytes) -> None:
        nonlocal position, body
        padding = -position % 8
        body += bytes(padding) + data
        place[name] = position + padding
        position += padding + len(data)

    for name, data in blobs.items():
        put(name, data)
    relocations = b""
    if relocate:
        for number in range(len(needs)):
            slot, code, at = place["slots"] + number * size, ADDRESS.get(machine, 1), number + 1
            if wide:
                relocations += struct.pack(order + "QQq", slot, at << 32 | code, 0)
            else:
                relocations += struct.pack(order + "IIi", slot, at << 8 | code, 0)
    put("rela", relocations)

    dynamic = [(1, strings(name)) for name in needed]
    dynamic += [(14, strings(soname))] if soname else []
    dynamic += [(15, strings(rpath))] if rpath else []
    dynamic += [(29, strings(runpath))] if runpath else []
    dynamic += [
        (5, place["strings"]),
        (10, len(strings.data)),
        (6, place["symbols"]),
        (11, 24 if wide else 16),
    ]
    dynamic += [(0x6FFFFEF5, place["gnu"])] if blobs["gnu"] else []
    dynamic += [(4, place["sysv"])] if blobs["sysv"] else []
    dynamic += [(0x6FFFFFF0, place["versym"])] if index else []
    dynamic += [(0x6FFFFFFE, place["verneed"]), (0x6FFFFFFF, len(wanted))] if wanted else []
    dynamic += [(0x6FFFFFFC, place["verdef"]), (0x6FFFFFFD, len(defined_versions) + 1)] if verdef else []
    dynamic += [(7, place["rela"]), (8, len(relocations)), (9, 24 if wide else 12)] if relocations else []
    dynamic += [(30, 0x10)] if static_tls else []
    dynamic += [(0x6FFFFFFB, flags_1)] if flags_1 else []
    dynamic += [(0, 0)]
    put("dynamic", b"".join(struct.pack(word, value) for pair in dynamic for value in pair))

    total = position
    length = total - place["dynamic"]

    def segment(what: int, flags: int, start: int, stored: int, align: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", what, flags, start, start, start, stored, stored, align)
        return struct.pack(order + "IIIIIIII", what, start, start, start, stored, stored, flags, align)

    table = segment(3, 4, place["interpreter"], len(blobs["interpreter"]), 1) if interpreter else b""
    table += segment(1, 6, 0, total, 0x10000)
    table += segment(2, 6, place["dynamic"], length, 8)
    if executable_stack is not None:
        table += segment(0x6474E551, 7 if executable_stack else 6, 0, 0, 16)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if little else 2, 1, osabi]) + bytes(8)
    fields = (
        kind,
        machine,
        1,
        0,
        64 if wide else 52,
        0,
        0,
        64 if wide else 52,
        56 if wide else 32,
        segments,
        0,
        0,
        0,
    )
    return ident + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields) + table + body


def native(**parts: object) -> bytes:
    """A library that the loader of this machine accepts."""
    return assemble(**{**NATIVE, **parts})  # type: ignore[arg-type]


FIXTURES: dict[str, dict[str, object]] = {
    "big-endian-32.so": {"bits": 32, "little": False, "machine": 20, "hashes": "sysv"},
    "big-endian-64.so": {"bits": 64, "little": False, "machine": 22, "hashes": "both"},
    "little-endian-32.so": {"bits": 32, "little": True, "machine": 40, "hashes": "gnu"},
    "little-endian-64.so": {"bits": 64, "little": True, "machine": 183, "hashes": "gnu"},
}
CONTENT: dict[str, object] = {
    "needed": ("libfirst.so.1", "libc.so.6"),
    "soname": "libfixture.so.3",
    "runpath": "$ORIGIN/../lib",
    "needs": (
        ("first_call", "FIRST_2", "libfirst.so.1", False),
        ("malloc", "GLIBC_2.17", "libc.so.6", False),
        ("maybe", "", "", True),
    ),
    "defines": (("fixture_new", "FIXTURE_2"), ("fixture_old", "FIXTURE_1"), ("fixture_plain", "")),
    "hidden": ("fixture_old",),
    "versions": (("libc.so.6", "GLIBC_2.99", True),),
    "executable_stack": True,
    "static_tls": True,
}

if __name__ == "__main__":
    for fixture, shape in FIXTURES.items():
        Path(__file__).with_name(fixture).write_bytes(assemble(**{**CONTENT, **shape}))  # type: ignore[arg-type]
