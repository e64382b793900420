"""Reads ELF files: what a shared library needs, what it offers, and what the loader must know about it.

Everything is taken from the program headers and the dynamic section, as the loader does it, so that files
stripped of their section headers read the same. Both classes (32 and 64 bit) and both byte orders. Files are
read by position and never mapped: a file that is cut while it is read gives a short read, not a signal.

Sources: System V gABI chapters 4 and 5; "ELF Symbol Versioning" (LSB core, chapter 10.7); the GNU hash
table as in glibc elf/dl-lookup.c; notes as in LSB core and the x86-64 psABI.

Nothing here is a probe: ``libraries`` and ``loader`` call it.
"""

if __name__ == "__main__":
    raise SystemExit("elf.py is part of the probe libraries.py and measures nothing by itself")

import operator
import os
import stat
import struct
import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Dict, FrozenSet, List, Optional, Set, Tuple, Union  # noqa: F401

# Far above anything seen (a dynamic string table of TensorFlow holds some 60 MB, 600,000 symbols), far below
# what would hurt.
STRINGS_LIMIT = 192 << 20
SYMBOL_LIMIT = 4000000
VERSION_LIMIT = 65536
HEADER_LIMIT = 4096
DYNAMIC_LIMIT = 1 << 20
NAME_LIMIT = 1 << 16
RELOCATION_LIMIT = 256 << 20
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
_DT_NEEDED, _DT_PLTRELSZ, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA = 1, 2, 4, 5, 6, 7
_DT_RELASZ, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_SYMBOLIC, _DT_REL, _DT_RELSZ = 8, 10, 14, 15, 16, 17, 18
_DT_PLTREL, _DT_TEXTREL, _DT_JMPREL, _DT_RUNPATH, _DT_FLAGS = 20, 22, 23, 29, 30
_DT_GNU_HASH, _DT_VERSYM, _DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFB
_DT_VERDEF, _DT_VERDEFNUM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
_DF_TEXTREL, _DF_STATIC_TLS = 0x4, 0x10
DF_1_NODEFLIB = 0x800
DF_1_NOOPEN = 0x40
DF_1_PIE = 0x08000000

ET_EXEC, ET_DYN = 2, 3

_NATIVE_LITTLE = sys.byteorder == "little"
_U32 = "I" if array("I").itemsize == 4 else "L"


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


class _File:
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

    def __enter__(self) -> "_File":
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
    with _File(path) as file:
        head = file.some(0, HEADER_LIMIT)
        if head[:4] != b"\x7fELF"[: len(head)] or (len(head) < 4 and head):
            return None
        if len(head) < 52:
            raise ElfError("file too short")
        elf = Elf(path)
        elf.size = file.size
        _headers(file, elf, head)
        return elf


def _headers(file: "_File", elf: "Elf", head: "bytes") -> "None":
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
            elf.interpreter = _text(text.split(b"\0", 1)[0])
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


def _dynamic(file: "_File", elf: "Elf", where: "Tuple[int, int]", order: "str") -> "None":
    start, stored = where
    wide = elf.bits == 64
    data = file.at(start, min(stored, DYNAMIC_LIMIT), "dynamic section")
    data = data[: len(data) - len(data) % (16 if wide else 8)]
    needed = []
    found = elf._dynamic
    for tag, value in struct.iter_unpack(order + ("QQ" if wide else "II"), data):
        if not tag:
            break
        if tag == _DT_NEEDED:
            needed.append(value)
        else:
            found[tag] = value
    elf.is_dynamic = True
    elf.dynamic_flags = found.get(_DT_FLAGS, 0)
    elf.dynamic_flags_1 = found.get(_DT_FLAGS_1, 0)
    elf.static_tls = bool(elf.dynamic_flags & _DF_STATIC_TLS)
    elf.text_relocations = _DT_TEXTREL in found or bool(elf.dynamic_flags & _DF_TEXTREL)
    elf.symbolic = _DT_SYMBOLIC in found or bool(elf.dynamic_flags & 2)
    strings = _Strings(file, elf)
    elf.needed = [_text(strings.at(value)) for value in needed]
    if _DT_SONAME in found:
        elf.soname = _text(strings.at(found[_DT_SONAME]))
    # Where a file has both, the loader ignores the RPATH (glibc elf/get-dynamic-info.h).
    if _DT_RUNPATH in found:
        elf.runpath = _text(strings.at(found[_DT_RUNPATH]))
    elif _DT_RPATH in found:
        elf.rpath = _text(strings.at(found[_DT_RPATH]))
    if _DT_VERNEED in found:
        _versions_needed(file, elf, strings, order)
    if _DT_VERDEF in found:
        _versions_defined(file, elf, strings, order)


class _Strings:
    """The dynamic string table: whole where it is small, else name by name."""

    def __init__(self, file: "_File", elf: "Elf") -> "None":
        self.file = file
        if _DT_STRTAB not in elf._dynamic:
            raise ElfError("dynamic section without a string table")
        self.size = elf._dynamic.get(_DT_STRSZ, 0)
        self.start = _offset(elf, elf._dynamic[_DT_STRTAB], "string table")
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


def _versions_needed(file: "_File", elf: "Elf", strings: "_Strings", order: "str") -> "None":
    start = _offset(elf, elf._dynamic[_DT_VERNEED], "version needs")
    entry = struct.Struct(order + "HHIII")
    item = struct.Struct(order + "IHHII")
    window = _Window(file, start, "version needs")
    position = 0
    total = 0
    for _ in range(min(elf._dynamic.get(_DT_VERNEEDNUM, VERSION_LIMIT), VERSION_LIMIT + 1)):
        version, count, name, first, following = window.unpack(entry, position)
        if version != 1:
            raise ElfError("version needs of an unknown version %d" % version)
        library = strings.at(name)
        wanted = elf.required.setdefault(_text(library), {})
        step = position + first
        for _ in range(count):
            _, flags, index, name, forward = window.unpack(item, step)
            label = strings.at(name)
            weak = bool(flags & 2)
            wanted[_text(label)] = weak and wanted.get(_text(label), True)
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


def _versions_defined(file: "_File", elf: "Elf", strings: "_Strings", order: "str") -> "None":
    start = _offset(elf, elf._dynamic[_DT_VERDEF], "version definitions")
    entry = struct.Struct(order + "HHHHIII")
    item = struct.Struct(order + "II")
    window = _Window(file, start, "version definitions")
    position = 0
    for number in range(min(elf._dynamic.get(_DT_VERDEFNUM, VERSION_LIMIT), VERSION_LIMIT + 1)):
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
            elf.offered.append(_text(label))
        if not following:
            return
        position += following


class _Window:
    """A table of unknown length: the first 64 KB are read at once, what lies farther on demand."""

    def __init__(self, file: "_File", start: "int", what: "str") -> "None":
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


def _offset(elf: "Elf", address: "int", what: "str") -> "int":
    """Where in the file the byte lies that is loaded at ``address``."""
    for start, offset, stored in elf._loads:
        if start <= address < start + stored:
            return offset + address - start
    raise ElfError("%s at an address that no segment holds" % what)


def _text(name: "bytes") -> "str":
    return name.decode("utf-8", "backslashreplace")


class Symbols:
    """What one file asks of others and what it has itself.

    A key is ``name``, or ``name@VERSION`` where a version is bound to it, as bytes.

    ``needs``    keys that must be found; ``weak`` keys that may stay unfound
    ``offers``   keys that answer a need of the same key: every global definition by ``name@VERSION`` where it
                 has a version, and by ``name`` where a need without a version would find it
    ``defines``  whether the file has the definition that the caller of ``needs`` asked about
    ``base``     names that answer a need of *any* version, because the definition has none (glibc
                 elf/dl-lookup.c, check_match)
    """

    __slots__ = ("base", "defines", "needs", "offers", "weak")

    def __init__(self) -> "None":
        self.defines = False
        self.needs = set()  # type: Set[bytes]
        self.weak = set()  # type: Set[bytes]
        self.offers = set()  # type: AbstractSet[bytes]
        self.base = set()  # type: AbstractSet[bytes]


def needs(elf: "Elf", definition: "Optional[bytes]" = None) -> "Symbols":
    """The undefined symbols of a file, and whether it has ``definition``. Raises ElfError."""
    result = Symbols()
    with _File(elf.path) as file:
        table = _Table(file, elf)
        # Most files that lack the definition lack the very string.
        if definition is not None and definition + b"\0" in table.strings:
            result.defines = any(table.name(index) == definition for index in table.defined())
        strings, names, words, versions = table.strings, table.names, table.words, table.versions
        find = strings.find
        # This loop runs for every undefined symbol of an environment: 80,000 times.
        strong = []  # type: List[bytes]
        weak = []  # type: List[bytes]
        if versions is None:
            for index in table.undefined():
                start = names[index]
                (weak if words[index] & 0xF0 == 0x20 else strong).append(strings[start : find(b"\0", start)])
        else:
            suffixes = {number: b"@" + bound[0] for number, bound in elf._version_names.items() if bound[1] is not None}
            suffix_of = suffixes.get
            for index in table.undefined():
                start = names[index]
                key = strings[start : find(b"\0", start)] + suffix_of(versions[index] & 0x7FFF, b"")
                (weak if words[index] & 0xF0 == 0x20 else strong).append(key)
        result.needs.update(strong)
        result.weak.update(weak)
    result.needs.discard(b"")
    return result


def offers(elf: "Elf", wanted: "Optional[FrozenSet[bytes]]" = None) -> "Symbols":
    """The definitions of a file, only those among ``wanted`` where it is given (to save memory).

    ``wanted`` holds keys; for each key with a version it must hold the bare name too. Raises ElfError.
    """
    result = Symbols()
    with _File(elf.path) as file:
        table = _Table(file, elf)
        strings, find = table.strings, table.strings.find
        if table.versions is None:
            names = [strings[name : find(b"\0", name)] for name in table.defined_names()]
            result.offers = result.base = set(names) if wanted is None else wanted.intersection(names)
            return result
        keys = set()  # type: Set[bytes]
        base = set()  # type: Set[bytes]
        known = elf._version_names
        columns = table.names, table.versions
        for index in table.defined():
            start = columns[0][index]
            name = strings[start : find(b"\0", start)]
            if wanted is not None and name not in wanted:
                continue
            number = columns[1][index]
            if number < 0x8000:
                keys.add(name)  # not hidden: a need without a version finds it
            if number & 0x7FFF in known:
                keys.add(name + b"@" + known[number & 0x7FFF][0])
            elif number < 0x8000:
                base.add(name)
        result.offers = keys if wanted is None else keys & wanted
        result.base = base
    return result


def exports(elf: "Elf") -> "int":
    """How many symbols the GNU hash table of a file without versions of its own holds; 0 where it has none,
    and ``among`` cannot be used. Raises ElfError.
    """
    if _DT_GNU_HASH not in elf._dynamic or elf.offered or _DT_SYMTAB not in elf._dynamic:
        return 0
    with _File(elf.path) as file:
        return _symbol_count(file, elf) - _GnuHash(file, elf).first


def among(elf: "Elf", names: "AbstractSet[bytes]") -> "Set[bytes]":
    """Which of ``names`` a file without versions of its own defines, looked up as the loader does it, through
    the GNU hash table. For few names in a large file, where ``offers`` reads every symbol. Raises ElfError.
    """
    found = set()  # type: Set[bytes]
    with _File(elf.path) as file:
        hashes = _GnuHash(file, elf)
        count = _symbol_count(file, elf)
        if not hashes.buckets or count > SYMBOL_LIMIT:
            return found
        order = "<" if elf.little else ">"
        form = struct.Struct(order + ("IBBH" if elf.bits == 64 else "I8xBBH"))
        entry = 24 if elf.bits == 64 else 16
        chain = hashes.chain(count)
        symbols = file.at(_offset(elf, elf._dynamic[_DT_SYMTAB], "symbol table"), count * entry, "symbol table")
        size = elf._dynamic.get(_DT_STRSZ, 0)
        if size > STRINGS_LIMIT:
            raise ElfError("string table of %d bytes" % size)
        strings = file.at(_offset(elf, elf._dynamic[_DT_STRTAB], "string table"), size, "string table")
        longest = max([len(name) for name in names] or [0])
        powers = [1]
        for _ in range(longest):
            powers.append(powers[-1] * 33 & 0xFFFFFFFF)
        powers.reverse()
        first, heads, buckets = hashes.first, hashes.heads, hashes.buckets
        for name in names:
            # h = h * 33 + byte, beginning with 5381, written out as one sum.
            length = len(name)
            value = sum(map(operator.mul, name, powers[longest - length + 1 :])) + 5381 * powers[longest - length]
            value &= 0xFFFFFFFF
            index = heads[value % buckets]
            while first <= index < count:
                stored = chain[index - first]
                if (stored ^ value) < 2:
                    start, info, other, section = form.unpack_from(symbols, index * entry)
                    usable = section and info & 0xF0 and other & 3 not in (1, 2)
                    if usable and strings[start : start + length + 1] == name + b"\0":
                        found.add(name)
                        break
                if stored & 1:
                    break
                index += 1
    return found


def listing(elf: "Elf") -> "Tuple[List[Tuple[str, str, str, bool]], List[Tuple[str, str, bool]]]":
    """Every named global symbol, in the order of the table.

    ``(undefined, defined)`` with undefined as ``(name, version or "", file or "", weak)`` and defined as
    ``(name, version or "", hidden)``. Raises ElfError.
    """
    undefined, defined = [], []
    with _File(elf.path) as file:
        table = _Table(file, elf)
        none = (b"", None, False)  # type: Tuple[bytes, Optional[bytes], bool]
        for index in table.undefined():
            number = table.versions[index] & 0x7FFF if table.versions is not None else 0
            version, library, _ = elf._version_names.get(number, none)
            weak = table.words[index] & 0xF0 == 0x20
            undefined.append((_text(table.name(index)), _text(version), _text(library or b""), weak))
        for index in table.defined():
            number = table.versions[index] if table.versions is not None else 0
            version = elf._version_names.get(number & 0x7FFF, none)[0]
            defined.append((_text(table.name(index)), _text(version), number >= 0x8000))
    return undefined, defined


def referenced(elf: "Elf", keys: "AbstractSet[bytes]") -> "List[bytes]":
    """Those of ``keys`` (see Symbols) that a relocation asks for, in the order in which the loader asks.

    An undefined symbol that no relocation names is never looked up. Raises ElfError.
    """
    found = []  # type: List[bytes]
    with _File(elf.path) as file:
        table = _Table(file, elf)
        left = {}  # type: Dict[int, bytes]
        for index in table.undefined():
            key = table.key(index)
            if key in keys:
                left[index] = key
        for start, length, addends in _relocations(elf):
            if not left:
                break
            _in_relocations(file, elf, start, length, addends, left, found)
    return found


def _relocations(elf: "Elf") -> "List[Tuple[int, int, bool]]":
    """``(address, bytes, with addends)`` of the relocation tables, in the order of their processing."""
    known = elf._dynamic
    tables = []
    if _DT_RELA in known:
        tables.append((known[_DT_RELA], known.get(_DT_RELASZ, 0), True))
    if _DT_REL in known:
        tables.append((known[_DT_REL], known.get(_DT_RELSZ, 0), False))
    if _DT_JMPREL in known:
        tables.append((known[_DT_JMPREL], known.get(_DT_PLTRELSZ, 0), known.get(_DT_PLTREL, _DT_RELA) == _DT_RELA))
    return tables


def _in_relocations(
    file: "_File",
    elf: "Elf",
    address: "int",
    length: "int",
    addends: "bool",
    left: "Dict[int, bytes]",
    found: "List[bytes]",
) -> "None":
    if not length:
        return
    wide = elf.bits == 64
    words = 3 if addends else 2
    entry = words * (8 if wide else 4)
    start = _offset(elf, address, "relocations")
    if length > RELOCATION_LIMIT or start + length > file.size:
        raise ElfError("relocations beyond the end of the file")
    shift = 32 if wide else 8
    code = "Q" if wide else _U32
    step = entry << 15
    for position in range(0, length - length % entry, step):
        data = _integers(
            code, file.at(start + position, min(step, length - length % entry - position), "relocations"), elf
        )
        for info in data[1::words]:
            key = left.pop(info >> shift, None)
            if key is not None:
                found.append(key)
                if not left:
                    return


def _integers(code: "str", data: "bytes", elf: "Elf") -> "array[int]":
    values = array(code)
    values.frombytes(data)
    if elf.little != _NATIVE_LITTLE:
        values.byteswap()
    return values


class _Table:
    """The dynamic symbol table of a file, as columns.

    ``names`` offsets into ``strings``; ``words`` st_info, st_other << 8 and st_shndx << 16 of each symbol;
    ``versions`` the column DT_VERSYM, or None.
    """

    def __init__(self, file: "_File", elf: "Elf") -> "None":
        self.elf = elf
        self.names = array(_U32)
        self.words = []  # type: Union[array[int], List[int]]
        self.versions = None  # type: Optional[array[int]]
        self.strings = b"\0"
        if _DT_SYMTAB not in elf._dynamic or _DT_STRTAB not in elf._dynamic:
            return
        size = elf._dynamic.get(_DT_STRSZ, 0)
        if size > STRINGS_LIMIT:
            raise ElfError("string table of %d bytes" % size)
        self.strings = file.at(_offset(elf, elf._dynamic[_DT_STRTAB], "string table"), size, "string table")
        if self.strings[-1:] != b"\0":
            self.strings += b"\0"
        start = _offset(elf, elf._dynamic[_DT_SYMTAB], "symbol table")
        count = _symbol_count(file, elf)
        if count > SYMBOL_LIMIT:
            raise ElfError("%d symbols" % count)
        words = 6 if elf.bits == 64 else 4
        values = _integers(_U32, file.at(start, count * words * 4, "symbol table"), elf)
        self.names = values[0::words]
        column = values[1 if elf.bits == 64 else 3 :: words]
        if elf.little:
            self.words = column
        else:
            self.words = [word >> 24 | word >> 8 & 0xFF00 | (word & 0xFFFF) << 16 for word in column]
        if _DT_VERSYM in elf._dynamic:
            start = _offset(elf, elf._dynamic[_DT_VERSYM], "symbol versions")
            self.versions = _integers("H", file.at(start, count * 2, "symbol versions"), elf)

    def name(self, index: "int") -> "bytes":
        start = self.names[index]
        return self.strings[start : self.strings.find(b"\0", start)]

    def key(self, index: "int") -> "bytes":
        name = self.name(index)
        if self.versions is not None:
            bound = self.elf._version_names.get(self.versions[index] & 0x7FFF)
            if bound is not None and bound[1] is not None:
                return name + b"@" + bound[0]
        return name

    def undefined(self) -> "List[int]":
        """Indices of the undefined symbols that other files must answer (STB_GLOBAL, STB_WEAK)."""
        return [index for index, word in enumerate(self.words) if word < 0x10000 and word & 0xF0]

    def defined(self) -> "List[int]":
        """Indices of the definitions that other files can use: not local, not of hidden visibility."""
        return [
            index
            for index, word in enumerate(self.words)
            if word >= 0x10000 and word & 0xF0 and word & 0x300 not in (0x100, 0x200)
        ]

    def defined_names(self) -> "List[int]":
        """The offsets of their names, in one pass: this is most of the work on a large file."""
        names = self.names
        return [
            names[index]
            for index, word in enumerate(self.words)
            if word >= 0x10000 and word & 0xF0 and word & 0x300 not in (0x100, 0x200)
        ]


def _symbol_count(file: "_File", elf: "Elf") -> "int":
    """How many entries the symbol table has, which no header says: from the hash tables."""
    known = elf._dynamic
    order = "<" if elf.little else ">"
    if _DT_HASH in known:
        start = _offset(elf, known[_DT_HASH], "hash table")
        # The words of this table have 8 bytes on Alpha and 64-bit S/390 (glibc bits/elfclass.h).
        if elf.bits == 64 and elf.machine in (22, 0x9026):
            return int(struct.unpack(order + "QQ", file.at(start, 16, "hash table"))[1])
        return int(struct.unpack(order + "II", file.at(start, 8, "hash table"))[1])
    if _DT_GNU_HASH in known:
        hashes = _GnuHash(file, elf)
        last = max(hashes.heads) if hashes.buckets else 0
        if last >= hashes.first and last:
            return _end_of_chain(file, elf, hashes.chains - hashes.first * 4, last)
        if hashes.first > 1:
            return hashes.first
    return _symbol_count_from_sections(file, elf)


class _GnuHash:
    """The head of a DT_GNU_HASH table: ``heads`` of the buckets, ``first`` symbol, offset of ``chains``."""

    def __init__(self, file: "_File", elf: "Elf") -> "None":
        self.file, self.elf = file, elf
        start = _offset(elf, elf._dynamic[_DT_GNU_HASH], "hash table")
        form = struct.Struct("<IIII" if elf.little else ">IIII")
        head = form.unpack(file.at(start, 16, "hash table"))  # type: Tuple[int, int, int, int]
        self.buckets, self.first, bloom, _ = head
        at = start + 16 + bloom * (elf.bits // 8)
        self.chains = at + self.buckets * 4
        if self.chains > file.size or self.buckets > SYMBOL_LIMIT:
            raise ElfError("hash table beyond the end of the file")
        self.heads = _integers(_U32, file.at(at, self.buckets * 4, "hash table"), elf)

    def chain(self, count: "int") -> "array[int]":
        """The hash values of all hashed symbols of a table of ``count``."""
        length = max(0, count - self.first) * 4
        return _integers(_U32, self.file.at(self.chains, length, "hash table"), self.elf)


def _end_of_chain(file: "_File", elf: "Elf", base: "int", index: "int") -> "int":
    while index < SYMBOL_LIMIT:
        data = file.some(base + index * 4, 4096)
        data = data[: len(data) - len(data) % 4]
        if not data:
            break
        for word in _integers(_U32, data, elf):
            index += 1
            if word & 1:
                return index
    raise ElfError("hash chain without an end")


def _symbol_count_from_sections(file: "_File", elf: "Elf") -> "int":
    """For files whose hash table is empty (nothing is exported): the section header, else the gap between
    the symbol table and the string table, which linkers place right behind it.
    """
    offset, entry, count = elf._sections
    wide = elf.bits == 64
    order = "<" if elf.little else ">"
    if entry == (64 if wide else 40) and count and offset and offset + entry * count <= file.size:
        table = file.at(offset, entry * count, "section headers")
        for position in range(0, len(table), entry):
            kind = struct.unpack_from(order + "I", table, position + 4)[0]
            if kind == 11:  # SHT_DYNSYM
                size = struct.unpack_from(order + ("Q" if wide else "I"), table, position + (32 if wide else 20))[0]
                return int(size) // (24 if wide else 16)
    gap = elf._dynamic.get(_DT_STRTAB, 0) - elf._dynamic.get(_DT_SYMTAB, 0)
    entry = 24 if wide else 16
    return gap // entry if gap > 0 and gap % entry < 8 and gap // entry <= SYMBOL_LIMIT else 0


def find_in_constants(elf: "Elf", texts: "List[bytes]") -> "FrozenSet[bytes]":
    """Which of ``texts`` stand in the file's read-only data (section .rodata, else every segment).

    Raises ElfError.
    """
    found = set()  # type: Set[bytes]
    overlap = max(len(text) for text in texts) - 1
    total = 0
    with _File(elf.path) as file:
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


def _constants(file: "_File", elf: "Elf") -> "List[Tuple[int, int]]":
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
