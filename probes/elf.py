"""Reads ELF files: what a shared library needs, what it offers, and what the loader must know about it.

Everything is taken from the program headers and the dynamic section, as the loader does it, so that files
stripped of their section headers read the same. Both classes (32 and 64 bit) and both byte orders. Files are
read by position and never mapped: a file that is cut while it is read gives a short read, not a signal.

Sources: System V gABI chapters 4 and 5; notes as in LSB core and the x86-64 psABI.

Nothing here is a probe: ``libraries`` and ``loader`` call it; the symbols stand in ``elf_symbols``.
"""

if __name__ == "__main__":
    raise SystemExit("elf.py is part of the probe libraries.py and measures nothing by itself")

import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Dict, FrozenSet, List, Optional, Set, Tuple, Union  # noqa: F401

# Far above anything seen (a dynamic string table of TensorFlow holds some 60 MB, 600,000 symbols), far below
# what would hurt.
VERSION_LIMIT = 65536
HEADER_LIMIT = 4096
DYNAMIC_LIMIT = 1 << 20
NAME_LIMIT = 1 << 16
CONSTANTS_LIMIT = 1 << 30
INTERPRETER_LIMIT = 4096
NOTE_LIMIT = 1 << 16

# Names of e_machine as uname -m gives them; gABI "Machine information" and the Linux kernel's elf-em.h.
MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 15: "hppa", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 42: "sh",
    43: "sparc64", 50: "ia64", 62: "x86_64", 164: "hexagon", 183: "aarch64", 243: "riscv", 258: "loongarch",
    0x9026: "alpha",
}  # fmt: skip

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE, _PT_TLS = 1, 2, 3, 4, 7
_PT_GNU_STACK = 0x6474E551
DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA = 1, 2, 4, 5, 6, 7
DT_RELASZ, DT_STRSZ, DT_SONAME, DT_RPATH, DT_SYMBOLIC, DT_REL, DT_RELSZ = 8, 10, 14, 15, 16, 17, 18
DT_PLTREL, DT_TEXTREL, DT_JMPREL, DT_RUNPATH, DT_FLAGS = 20, 22, 23, 29, 30
DT_GNU_HASH, DT_VERSYM, DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFB
DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_DF_TEXTREL, _DF_STATIC_TLS = 0x4, 0x10
DF_1_NODEFLIB = 0x800

ET_EXEC, ET_DYN = 2, 3


class ElfError(Exception):
    """The file begins like an ELF file (or could not be opened) and cannot be read; ``reason`` says why.

    ``opened`` is False where the operating system refused it, and ``reason`` is in its words.
    """

    def __init__(self, reason: "str", opened: "bool" = True) -> "None":
        Exception.__init__(self, reason)
        self.reason = reason
        self.opened = opened


class Elf:
    """One ELF file as the loader sees it.

    ``bits`` 32 or 64; ``little`` byte order; ``machine`` and ``type`` as numbers of the gABI; ``needed`` in
    the order of the file; ``required`` ``{file: {version: weak}}``; ``offered`` version names in the order of
    the file, without the base version; ``executable_stack`` None where there is no PT_GNU_STACK;
    ``cut_bytes`` how many bytes of its segments lie beyond the end of the file; ``kernel`` the lowest Linux
    that it accepts, ``isa`` the x86-64 level that it demands (2, 3, 4), each None where it states none.
    """

    __slots__ = (
        "_dynamic", "_loads", "_sections", "_version_names", "bits", "cut_bytes", "dynamic_flags",
        "dynamic_flags_1", "executable_stack", "flags", "interpreter", "is_dynamic", "isa", "kernel",
        "little", "machine", "needed", "offered", "osabi", "path", "required", "rpath", "runpath", "size",
        "soname", "static_tls", "symbolic", "text_relocations", "tls_bytes", "type",
    )  # fmt: skip

    def __init__(self, path: "str") -> "None":
        self.path = path
        self.size = 0
        self.bits = 64
        self.little = True
        self.machine = 0
        self.flags = 0
        self.type = 0
        self.osabi = 0
        self.interpreter = None  # type: Optional[str]
        self.needed = []  # type: List[str]
        self.soname = None  # type: Optional[str]
        self.rpath = None  # type: Optional[str]
        self.runpath = None  # type: Optional[str]
        self.dynamic_flags = 0
        self.dynamic_flags_1 = 0
        self.required = {}  # type: Dict[str, Dict[str, bool]]
        self.offered = []  # type: List[str]
        self.executable_stack = None  # type: Optional[bool]
        self.tls_bytes = 0
        self.static_tls = False
        self.text_relocations = False
        self.symbolic = False
        self.is_dynamic = False
        self.cut_bytes = 0
        self.kernel = None  # type: Optional[str]
        self.isa = None  # type: Optional[int]
        self._loads = []  # type: List[Tuple[int, int, int]]
        self._dynamic = {}  # type: Dict[int, int]
        # index in DT_VERSYM -> (version, file that must offer it, None for one that this file defines, weak)
        self._version_names = {}  # type: Dict[int, Tuple[bytes, Optional[bytes], bool]]
        self._sections = (0, 0, 0)

    @property
    def machine_name(self) -> "str":
        return MACHINES.get(self.machine, "machine %d" % self.machine)


class File:
    """Reads by position; anything beyond the end of the file is an ElfError."""

    def __init__(self, path: "str") -> "None":
        try:
            self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except (OSError, ValueError) as error:
            raise ElfError(getattr(error, "strerror", None) or str(error), opened=False) from None
        try:
            status = os.fstat(self.handle)
        except OSError as error:
            os.close(self.handle)
            raise ElfError(error.strerror or "cannot be read") from None
        self.size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            os.close(self.handle)
            raise ElfError("not a regular file")

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *_: "object") -> "None":
        os.close(self.handle)

    def at(self, offset: "int", length: "int", what: "str") -> "bytes":
        """Exactly ``length`` bytes from ``offset``."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ElfError("%s beyond the end of the file" % what)
        data = self.some(offset, length)
        if len(data) != length:
            raise ElfError("%s beyond the end of the file" % what)
        return data

    def some(self, offset: "int", length: "int") -> "bytes":
        """At most ``length`` bytes from ``offset``; fewer only at the end of the file."""
        try:
            if hasattr(os, "pread"):
                return os.pread(self.handle, length, offset)
            os.lseek(self.handle, offset, os.SEEK_SET)
            return os.read(self.handle, length)
        except (OSError, OverflowError, ValueError) as error:
            raise ElfError(getattr(error, "strerror", None) or "cannot be read") from None


def read(path: "str") -> "Optional[Elf]":
    """The headers, the dynamic section and the version tables of a file; None where it is no ELF file.

    Raises ElfError for what cannot be opened, is no regular file, is cut or contradicts itself. ``path`` is
    a path of this machine: resolve it with ``Place.real`` first.
    """
    with File(path) as file:
        head = file.some(0, HEADER_LIMIT)
        if head[:4] != b"\x7fELF"[: len(head)] or (len(head) < 4 and head):
            return None
        if len(head) < 52:
            raise ElfError("file too short")
        elf = Elf(path)
        elf.size = file.size
        _headers(file, elf, head)
        return elf


def _headers(file: "File", elf: "Elf", head: "bytes") -> "None":
    if head[4] not in (1, 2):
        raise ElfError("class %d is neither 32 nor 64 bit" % head[4])
    if head[5] not in (1, 2):
        raise ElfError("byte order %d is unknown" % head[5])
    elf.bits = 32 * head[4]
    elf.little = head[5] == 1
    elf.osabi = head[7]
    order = "<" if elf.little else ">"
    wide = elf.bits == 64
    if wide and len(head) < 64:
        raise ElfError("file too short")
    fields = struct.unpack_from(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), head, 16)
    elf.type, elf.machine, elf.flags = fields[0], fields[1], fields[6]
    offset, entry, count = fields[4], fields[8], fields[9]
    elf._sections = (fields[5], fields[10], fields[11])
    if not count:
        return  # a relocatable object
    if entry != (56 if wide else 32):
        raise ElfError("program headers of %d bytes each" % entry)
    length = entry * count
    table = head[offset : offset + length]
    if len(table) != length:
        table = file.at(offset, length, "program headers")
    dynamic = None
    notes = []  # type: List[Tuple[int, int]]
    end = 0
    for position in range(0, length, entry):
        if wide:
            kind, flags, start, address, _, stored, memory, _ = struct.unpack_from(order + "IIQQQQQQ", table, position)
        else:
            kind, start, address, _, stored, memory, flags, _ = struct.unpack_from(order + "IIIIIIII", table, position)
        if kind == _PT_LOAD:
            elf._loads.append((address, start, stored))
            end = max(end, start + stored)
        elif kind == _PT_DYNAMIC:
            dynamic = (start, stored)
        elif kind == _PT_INTERP:
            text = file.at(start, min(stored, INTERPRETER_LIMIT), "interpreter name")
            elf.interpreter = text_of(text.split(b"\0", 1)[0])
        elif kind == _PT_GNU_STACK:
            elf.executable_stack = bool(flags & 1)
        elif kind == _PT_TLS:
            elf.tls_bytes = memory
        elif kind == _PT_NOTE and len(notes) < 16:
            notes.append((start, stored))
    elf.cut_bytes = max(0, end - file.size)
    for start, stored in notes:
        if start + stored <= file.size:
            _notes(elf, file.at(start, min(stored, NOTE_LIMIT), "notes"), order)
    if dynamic is not None:
        _dynamic(file, elf, dynamic, order)


def _dynamic(file: "File", elf: "Elf", where: "Tuple[int, int]", order: "str") -> "None":
    start, stored = where
    wide = elf.bits == 64
    data = file.at(start, min(stored, DYNAMIC_LIMIT), "dynamic section")
    data = data[: len(data) - len(data) % (16 if wide else 8)]
    needed = []
    found = elf._dynamic
    for tag, value in struct.iter_unpack(order + ("QQ" if wide else "II"), data):
        if not tag:
            break
        if tag == DT_NEEDED:
            needed.append(value)
        else:
            found[tag] = value
    elf.is_dynamic = True
    elf.dynamic_flags = found.get(DT_FLAGS, 0)
    elf.dynamic_flags_1 = found.get(DT_FLAGS_1, 0)
    elf.static_tls = bool(elf.dynamic_flags & _DF_STATIC_TLS)
    elf.text_relocations = DT_TEXTREL in found or bool(elf.dynamic_flags & _DF_TEXTREL)
    elf.symbolic = DT_SYMBOLIC in found or bool(elf.dynamic_flags & 2)
    strings = _Strings(file, elf)
    elf.needed = [text_of(strings.at(value)) for value in needed]
    if DT_SONAME in found:
        elf.soname = text_of(strings.at(found[DT_SONAME]))
    # Where a file has both, the loader ignores the RPATH (glibc elf/get-dynamic-info.h).
    if DT_RUNPATH in found:
        elf.runpath = text_of(strings.at(found[DT_RUNPATH]))
    elif DT_RPATH in found:
        elf.rpath = text_of(strings.at(found[DT_RPATH]))
    if DT_VERNEED in found:
        _versions_needed(file, elf, strings, order)
    if DT_VERDEF in found:
        _versions_defined(file, elf, strings, order)


class _Strings:
    """The dynamic string table: whole where it is small, else name by name."""

    def __init__(self, file: "File", elf: "Elf") -> "None":
        self.file = file
        if DT_STRTAB not in elf._dynamic:
            raise ElfError("dynamic section without a string table")
        self.size = elf._dynamic.get(DT_STRSZ, 0)
        self.start = offset_of(elf, elf._dynamic[DT_STRTAB], "string table")
        if self.start + self.size > file.size:
            raise ElfError("string table beyond the end of the file")
        self.data = file.at(self.start, self.size, "string table") if self.size <= 1 << 18 else None

    def at(self, position: "int") -> "bytes":
        if position >= self.size:
            raise ElfError("name beyond the end of the string table")
        if self.data is not None:
            end = self.data.find(b"\0", position)
            return self.data[position : end if end >= 0 else self.size]
        length = 256
        while True:
            data = self.file.some(self.start + position, min(length, self.size - position))
            end = data.find(b"\0")
            if end >= 0:
                return data[:end]
            if len(data) < length or length >= NAME_LIMIT:
                return data
            length *= 8


def _versions_needed(file: "File", elf: "Elf", strings: "_Strings", order: "str") -> "None":
    start = offset_of(elf, elf._dynamic[DT_VERNEED], "version needs")
    entry = struct.Struct(order + "HHIII")
    item = struct.Struct(order + "IHHII")
    window = _Window(file, start, "version needs")
    position = 0
    total = 0
    for _ in range(min(elf._dynamic.get(DT_VERNEEDNUM, VERSION_LIMIT), VERSION_LIMIT + 1)):
        version, count, name, first, following = window.unpack(entry, position)
        if version != 1:
            raise ElfError("version needs of an unknown version %d" % version)
        library = strings.at(name)
        wanted = elf.required.setdefault(text_of(library), {})
        step = position + first
        for _ in range(count):
            _, flags, index, name, forward = window.unpack(item, step)
            label = strings.at(name)
            weak = bool(flags & 2)
            wanted[text_of(label)] = weak and wanted.get(text_of(label), True)
            elf._version_names[index & 0x7FFF] = (label, library, weak)
            total += 1
            if total > VERSION_LIMIT:
                raise ElfError("more than %d version needs" % VERSION_LIMIT)
            if not forward:
                break
            step += forward
        total += 1
        if not following:
            return
        position += following


def _versions_defined(file: "File", elf: "Elf", strings: "_Strings", order: "str") -> "None":
    start = offset_of(elf, elf._dynamic[DT_VERDEF], "version definitions")
    entry = struct.Struct(order + "HHHHIII")
    item = struct.Struct(order + "II")
    window = _Window(file, start, "version definitions")
    position = 0
    for number in range(min(elf._dynamic.get(DT_VERDEFNUM, VERSION_LIMIT), VERSION_LIMIT + 1)):
        if number == VERSION_LIMIT:
            raise ElfError("more than %d version definitions" % VERSION_LIMIT)
        version, flags, index, _, _, first, following = window.unpack(entry, position)
        if version != 1:
            raise ElfError("version definitions of an unknown version %d" % version)
        # The base version is the file's own name and no version of a symbol.
        if not flags & 1:
            name, _ = window.unpack(item, position + first)
            label = strings.at(name)
            elf._version_names[index & 0x7FFF] = (label, None, False)
            elf.offered.append(text_of(label))
        if not following:
            return
        position += following


class _Window:
    """A table of unknown length: the first 64 KB are read at once, what lies farther on demand."""

    def __init__(self, file: "File", start: "int", what: "str") -> "None":
        self.file, self.start, self.what = file, start, what
        self.data = file.some(start, 1 << 12)

    def unpack(self, form: "struct.Struct", position: "int") -> "Tuple[int, ...]":
        if position + form.size <= len(self.data):
            return form.unpack_from(self.data, position)
        if len(self.data) == 1 << 12:
            self.data = self.file.some(self.start, 1 << 16)
            if position + form.size <= len(self.data):
                return form.unpack_from(self.data, position)
        return form.unpack(self.file.at(self.start + position, form.size, self.what))


def _notes(elf: "Elf", data: "bytes", order: "str") -> "None":
    """NT_GNU_ABI_TAG (lowest kernel) and the x86-64 level of NT_GNU_PROPERTY_TYPE_0."""
    position = 0
    while position + 16 <= len(data):
        name, length, kind = struct.unpack_from(order + "III", data, position)
        body = position + 12 + (name + 3 & ~3)
        if body + length > len(data):
            return
        if data[position + 12 : position + 16] == b"GNU\0" and name == 4:
            if kind == 1 and length >= 16:
                system, major, minor, patch = struct.unpack_from(order + "IIII", data, body)
                if system == 0:
                    elf.kernel = "%d.%d.%d" % (major, minor, patch)
            elif kind == 5:
                _properties(elf, data[body : body + length], order)
        position = body + (length + 3 & ~3)


def _properties(elf: "Elf", data: "bytes", order: "str") -> "None":
    position = 0
    align = 7 if elf.bits == 64 else 3
    while position + 8 <= len(data):
        kind, length = struct.unpack_from(order + "II", data, position)
        if kind == 0xC0008002 and length >= 4 and position + 12 <= len(data) and elf.machine in (3, 62):
            needed = struct.unpack_from(order + "I", data, position + 8)[0]  # GNU_PROPERTY_X86_ISA_1_NEEDED
            level = max([bit + 1 for bit in range(4) if needed >> bit & 1] or [1])
            elf.isa = level if level > 1 else None
        position += 8 + (length + align & ~align)


def offset_of(elf: "Elf", address: "int", what: "str") -> "int":
    """Where in the file the byte lies that is loaded at ``address``."""
    for start, offset, stored in elf._loads:
        if start <= address < start + stored:
            return offset + address - start
    raise ElfError("%s at an address that no segment holds" % what)


def text_of(name: "bytes") -> "str":
    return name.decode("utf-8", "backslashreplace")


def find_in_constants(elf: "Elf", texts: "List[bytes]") -> "FrozenSet[bytes]":
    """Which of ``texts`` stand in the file's read-only data (section .rodata, else every segment).

    Raises ElfError.
    """
    found = set()  # type: Set[bytes]
    overlap = max(len(text) for text in texts) - 1
    total = 0
    with File(elf.path) as file:
        for start, length in _constants(file, elf):
            position = start
            total += length
            if total > CONSTANTS_LIMIT:
                raise ElfError("more than %d bytes of constants" % CONSTANTS_LIMIT)
            while position < start + length and len(found) < len(texts):
                data = file.some(position, min((1 << 20) + overlap, start + length - position))
                if not data:
                    break
                found.update(text for text in texts if text not in found and text in data)
                position += 1 << 20
    return frozenset(found)


def _constants(file: "File", elf: "Elf") -> "List[Tuple[int, int]]":
    """``(offset, bytes)`` of the sections named .rodata*, else of the loaded segments."""
    offset, entry, count = elf._sections
    wide = elf.bits == 64
    order = "<" if elf.little else ">"
    whole = [(start, max(0, min(stored, file.size - start))) for _, start, stored in elf._loads]
    if entry != (64 if wide else 40) or not count or not offset or offset + entry * count > file.size:
        return whole
    table = file.at(offset, entry * count, "section headers")
    form = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    found = []
    # Constants are SHT_PROGBITS that are loaded, not written and not run: .rodata, .rodata.str1.8, .lrodata.
    for position in range(0, len(table), entry):
        _, kind, flags, _, start, length = form.unpack_from(table, position)[:6]
        if kind == 1 and flags & 7 == 2 and start + length <= file.size:
            found.append((start, length))
    return found or whole
