"""Reads the symbols of ELF files: which ones a library needs, which ones it offers, and in which versions.

From the dynamic section alone, as the loader does it. Sources: System V gABI chapter 4; "ELF Symbol Versioning" (LSB
core, chapter 10.7); the GNU hash table as in glibc elf/dl-lookup.c.

Nothing here is a probe: ``libraries`` calls it.
"""

if __name__ == "__main__":
    raise SystemExit("elf_symbols.py is part of the probe libraries.py and measures nothing by itself")

import operator
import struct
import sys
from array import array

from .elf import DT_GNU_HASH, DT_HASH, DT_JMPREL, DT_PLTREL, DT_PLTRELSZ, DT_REL
from .elf import DT_RELA, DT_RELASZ, DT_RELSZ, DT_STRSZ, DT_STRTAB, DT_SYMTAB, DT_VERSYM
from .elf import Elf, ElfError, File, offset_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Dict, FrozenSet, List, Optional, Set, Tuple, Union  # noqa: F401

_NATIVE_LITTLE = sys.byteorder == "little"
_U32 = "I" if array("I").itemsize == 4 else "L"
STRINGS_LIMIT = 192 << 20
SYMBOL_LIMIT = 4000000
RELOCATION_LIMIT = 256 << 20


class Symbols:
    """What one file asks of others and what it has itself.

    A key is ``name``, or ``name@VERSION`` where a version is bound to it, as bytes.

    ``needs``    keys that must be found (not those of weak symbols, which may stay unfound)
    ``offers``   keys that answer a need of the same key: every global definition by ``name@VERSION`` where it
                 has a version, and by ``name`` where a need without a version would find it
    ``defines``  whether the file has the definition that the caller of ``needs`` asked about
    ``base``     names that answer a need of *any* version, because the definition has none (glibc
                 elf/dl-lookup.c, check_match)
    """

    __slots__ = ("base", "defines", "needs", "offers")

    def __init__(self) -> "None":
        self.defines = False
        self.needs = set()  # type: Set[bytes]
        self.offers = set()  # type: AbstractSet[bytes]
        self.base = set()  # type: AbstractSet[bytes]


def needs(elf: "Elf", definition: "Optional[bytes]" = None) -> "Symbols":
    """The undefined symbols of a file, and whether it has ``definition``. Raises ElfError."""
    result = Symbols()
    with File(elf.path) as file:
        table = _Table(file, elf)
        # Most files that lack the definition lack the very string.
        if definition is not None and definition + b"\0" in table.strings:
            result.defines = any(table.name(index) == definition for index in table.defined())
        strings, find = table.strings, table.strings.find
        # These lines run for every symbol of an environment, 200,000 times: undefined, and neither local nor weak.
        if table.versions is None:
            result.needs = {
                strings[start : find(b"\0", start)]
                for start, word in zip(table.names, table.words)
                if word < 0x10000 and word & 0xD0
            }
        else:
            suffixes = {number: b"@" + bound[0] for number, bound in elf._version_names.items() if bound[1] is not None}
            suffix_of = suffixes.get
            result.needs = {
                strings[start : find(b"\0", start)] + suffix_of(number & 0x7FFF, b"")
                for start, word, number in zip(table.names, table.words, table.versions)
                if word < 0x10000 and word & 0xD0
            }
    result.needs.discard(b"")
    return result


def offers(elf: "Elf", wanted: "Optional[FrozenSet[bytes]]" = None) -> "Symbols":
    """The definitions of a file, only those among ``wanted`` where it is given (to save memory).

    ``wanted`` holds keys; for each key with a version it must hold the bare name too. Raises ElfError.
    """
    result = Symbols()
    with File(elf.path) as file:
        table = _Table(file, elf)
        strings, find = table.strings, table.strings.find
        if table.versions is None:
            names = [
                strings[start : find(b"\0", start)]
                for start, word in zip(table.names, table.words)
                if word >= 0x10000 and word & 0xF0 and word & 0x300 not in (0x100, 0x200)
            ]
            result.offers = result.base = set(names) if wanted is None else wanted.intersection(names)
            return result
        numbered = [
            (name, number)
            for start, word, number in zip(table.names, table.words, table.versions)
            if word >= 0x10000 and word & 0xF0 and word & 0x300 not in (0x100, 0x200)
            for name in (strings[start : find(b"\0", start)],)
            if wanted is None or name in wanted
        ]
        keys = set()  # type: Set[bytes]
        base = set()  # type: Set[bytes]
        known = elf._version_names
        for name, number in numbered:
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
    and ``Lookup`` cannot be used. Raises ElfError.
    """
    if DT_GNU_HASH not in elf._dynamic or elf.offered or DT_SYMTAB not in elf._dynamic:
        return 0
    with File(elf.path) as file:
        return _symbol_count(file, elf) - _GnuHash(file, elf).first


class Lookup:
    """Looks names up in a file without versions of its own, as the loader does it: through the GNU hash table.

    For few names in a large file, where ``offers`` reads every symbol. Holds the tables of the file, ``size`` bytes
    (7 MB of libtorch_cpu). Making one raises ElfError.
    """

    def __init__(self, elf: "Elf") -> "None":
        with File(elf.path) as file:
            self._hashes = _GnuHash(file, elf)
            self._count = _symbol_count(file, elf) if self._hashes.buckets else 0
            if self._count > SYMBOL_LIMIT:
                self._count = 0
            order = "<" if elf.little else ">"
            self._form = struct.Struct(order + ("IBBH" if elf.bits == 64 else "I8xBBH"))
            self._entry = 24 if elf.bits == 64 else 16
            self._chain = self._hashes.chain(self._count)
            start = offset_of(elf, elf._dynamic[DT_SYMTAB], "symbol table")
            self._symbols = file.at(start, self._count * self._entry, "symbol table")
            size = elf._dynamic.get(DT_STRSZ, 0)
            if size > STRINGS_LIMIT:
                raise ElfError("string table of %d bytes" % size)
            self._strings = file.at(offset_of(elf, elf._dynamic[DT_STRTAB], "string table"), size, "string table")
        self.size = len(self._strings) + self._count * (self._entry + 4)

    def among(self, names: "AbstractSet[bytes]") -> "Set[bytes]":
        """Which of ``names`` the file defines."""
        found = set()  # type: Set[bytes]
        count, chain, symbols, strings = self._count, self._chain, self._symbols, self._strings
        form, entry = self._form, self._entry
        first, heads, buckets = self._hashes.first, self._hashes.heads, self._hashes.buckets
        if not count:
            return found
        longest = max([len(name) for name in names] or [0])
        powers = [1]
        for _ in range(longest):
            powers.append(powers[-1] * 33 & 0xFFFFFFFF)
        powers.reverse()
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
    with File(elf.path) as file:
        table = _Table(file, elf)
        none = (b"", None, False)  # type: Tuple[bytes, Optional[bytes], bool]
        for index in table.undefined():
            number = table.versions[index] & 0x7FFF if table.versions is not None else 0
            version, library, _ = elf._version_names.get(number, none)
            weak = table.words[index] & 0xF0 == 0x20
            undefined.append((text_of(table.name(index)), text_of(version), text_of(library or b""), weak))
        for index in table.defined():
            number = table.versions[index] if table.versions is not None else 0
            version = elf._version_names.get(number & 0x7FFF, none)[0]
            defined.append((text_of(table.name(index)), text_of(version), number >= 0x8000))
    return undefined, defined


def referenced(elf: "Elf", keys: "AbstractSet[bytes]") -> "List[bytes]":
    """Those of ``keys`` (see Symbols) that a relocation asks for, in the order in which the loader asks.

    An undefined symbol that no relocation names is never looked up. Raises ElfError.
    """
    found = []  # type: List[bytes]
    with File(elf.path) as file:
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
    if DT_RELA in known:
        tables.append((known[DT_RELA], known.get(DT_RELASZ, 0), True))
    if DT_REL in known:
        tables.append((known[DT_REL], known.get(DT_RELSZ, 0), False))
    if DT_JMPREL in known:
        tables.append((known[DT_JMPREL], known.get(DT_PLTRELSZ, 0), known.get(DT_PLTREL, DT_RELA) == DT_RELA))
    return tables


def _in_relocations(
    file: "File",
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
    start = offset_of(elf, address, "relocations")
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

    def __init__(self, file: "File", elf: "Elf") -> "None":
        self.elf = elf
        self.names = array(_U32)
        self.words = []  # type: Union[array[int], List[int]]
        self.versions = None  # type: Optional[array[int]]
        self.strings = b"\0"
        if DT_SYMTAB not in elf._dynamic or DT_STRTAB not in elf._dynamic:
            return
        size = elf._dynamic.get(DT_STRSZ, 0)
        if size > STRINGS_LIMIT:
            raise ElfError("string table of %d bytes" % size)
        self.strings = file.at(offset_of(elf, elf._dynamic[DT_STRTAB], "string table"), size, "string table")
        if self.strings[-1:] != b"\0":
            self.strings += b"\0"
        start = offset_of(elf, elf._dynamic[DT_SYMTAB], "symbol table")
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
        if DT_VERSYM in elf._dynamic:
            start = offset_of(elf, elf._dynamic[DT_VERSYM], "symbol versions")
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


def _symbol_count(file: "File", elf: "Elf") -> "int":
    """How many entries the symbol table has, which no header says: from the hash tables."""
    known = elf._dynamic
    order = "<" if elf.little else ">"
    if DT_HASH in known:
        start = offset_of(elf, known[DT_HASH], "hash table")
        # The words of this table have 8 bytes on Alpha and 64-bit S/390 (glibc bits/elfclass.h).
        if elf.bits == 64 and elf.machine in (22, 0x9026):
            return int(struct.unpack(order + "QQ", file.at(start, 16, "hash table"))[1])
        return int(struct.unpack(order + "II", file.at(start, 8, "hash table"))[1])
    if DT_GNU_HASH in known:
        hashes = _GnuHash(file, elf)
        last = max(hashes.heads) if hashes.buckets else 0
        if last >= hashes.first and last:
            return _end_of_chain(file, elf, hashes.chains - hashes.first * 4, last)
        if hashes.first > 1:
            return hashes.first
    return _symbol_count_from_sections(file, elf)


class _GnuHash:
    """The head of a DT_GNU_HASH table: ``heads`` of the buckets, ``first`` symbol, offset of ``chains``."""

    def __init__(self, file: "File", elf: "Elf") -> "None":
        self.file, self.elf = file, elf
        start = offset_of(elf, elf._dynamic[DT_GNU_HASH], "hash table")
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


def _end_of_chain(file: "File", elf: "Elf", base: "int", index: "int") -> "int":
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


def _symbol_count_from_sections(file: "File", elf: "Elf") -> "int":
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
    gap = elf._dynamic.get(DT_STRTAB, 0) - elf._dynamic.get(DT_SYMTAB, 0)
    entry = 24 if wide else 16
    return gap // entry if gap > 0 and gap % entry < 8 and gap // entry <= SYMBOL_LIMIT else 0
