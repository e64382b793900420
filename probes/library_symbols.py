"""Looks symbols up among the libraries of one process: ``libraries`` asks it which ones nothing offers."""

if __name__ == "__main__":
    raise SystemExit("library_symbols.py is part of the probe libraries.py and measures nothing by itself")

from . import elf, elf_symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AbstractSet, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

    from .common import Place
    from .elf import Elf
    from .loader import Library

# Files below this size (bytes) have few symbols: they are read whole.
LARGE = 1 << 20

# To look one name up costs as much as to read so many symbols.
LOOKUP_COST = 8

# Tables up to this size (bytes) are kept for the next question, which is mostly about the same file.
KEPT = 16 << 20


class SymbolTable:
    """Looks symbols up in scopes. Definitions are read once a file, and only those that somebody needs."""

    def __init__(self, place: "Place", musl: "bool") -> "None":
        self.place = place
        self.musl = musl
        self.needs = {}  # type: Dict[Tuple[int, int], FrozenSet[bytes]]
        self._offers = {}  # type: Dict[Tuple[int, int], elf_symbols.Symbols]
        self._exports = {}  # type: Dict[Tuple[int, int], int]
        self._asked = {}  # type: Dict[Tuple[int, int], Tuple[Set[bytes], Set[bytes]]]
        self._kept = None  # type: Optional[Tuple[Elf, elf_symbols.Lookup]]
        self._wanted = frozenset()  # type: FrozenSet[bytes]
        self._everywhere = set()  # type: Set[bytes]

    def read(self, library: "Library", definition: "Optional[bytes]") -> "bool":
        """Read what a file needs; whether it has ``definition``."""
        if library.elf is None:
            return False
        try:
            symbols = elf_symbols.needs(library.elf, definition)
        except elf.ElfError as error:
            self.place.problem(library.path, error.reason)
            return False
        # musl binds by name alone. A set that grew has room to grow: its copy is half as large.
        self.needs[library.identity] = frozenset(
            [key.split(b"@", 1)[0] for key in symbols.needs] if self.musl else symbols.needs
        )
        return symbols.defines

    def close(self, program: "Iterable[Library]") -> "None":
        """All needs are known: only what they name is kept of the definitions. ``program`` answers everybody first."""
        wanted = set()  # type: Set[bytes]
        for keys in self.needs.values():
            wanted |= keys
        wanted.update([key.split(b"@", 1)[0] for key in wanted])
        self._wanted = frozenset(wanted)
        for library in program:
            self._everywhere |= self.offers(library).offers

    def offers(self, library: "Library") -> "elf_symbols.Symbols":
        found = self._offers.get(library.identity)
        if found is None:
            found = elf_symbols.Symbols()
            try:
                if library.elf is not None:
                    found = elf_symbols.offers(library.elf, self._wanted)
            except elf.ElfError as error:
                self.place.problem(library.path, error.reason)
            self._offers[library.identity] = found
        return found

    def beyond_program(self, library: "Library") -> "AbstractSet[bytes]":
        """What ``library`` needs and the program, with all that its start maps, does not define."""
        return self.needs.get(library.identity, frozenset()) - self._everywhere

    def missing(self, keys: "AbstractSet[bytes]", scope: "Iterable[Library]") -> "AbstractSet[bytes]":
        """Those of ``keys`` that no library of the scope defines under the very key."""
        for library in scope:
            if not keys:
                break
            few = library.identity not in self._offers and len(keys) * LOOKUP_COST < self._size(library)
            keys = keys - (self._among(library, keys) if few else self.offers(library).offers)
        return keys

    def _size(self, library: "Library") -> "int":
        """How many symbols reading all of a large file (libtorch_cpu: 75,000) would read; 0 where single ones cannot
        be looked up.
        """
        if library.identity not in self._exports:
            count = 0
            # A program can define symbols under versions of others (copy relocations).
            file = library.elf
            if file is not None and file.size > LARGE and file.interpreter is None and not self.musl:
                try:
                    count = elf_symbols.exports(file)
                except elf.ElfError:
                    count = 0  # offers() meets the same trouble, and says so
            self._exports[library.identity] = count
        return self._exports[library.identity]

    def _among(self, library: "Library", keys: "AbstractSet[bytes]") -> "Set[bytes]":
        known, found = self._asked.setdefault(library.identity, (set(), set()))
        new = keys - known
        if new and library.elf is not None:
            try:
                # Its definitions have no versions: a need with one is answered by missing_in_any_version.
                found |= self._lookup(library.elf).among({key for key in new if b"@" not in key})
            except elf.ElfError as error:
                self.place.problem(library.path, error.reason)
            known |= new
        return found

    def _lookup(self, file: "Elf") -> "elf_symbols.Lookup":
        if self._kept is not None and self._kept[0] is file:
            return self._kept[1]
        self._kept = None
        lookup = elf_symbols.Lookup(file)
        if lookup.size <= KEPT:
            self._kept = (file, lookup)
        return lookup

    def missing_in_any_version(self, keys: "AbstractSet[bytes]", scope: "List[Library]") -> "FrozenSet[bytes]":
        """As ``missing``; a definition without a version answers a need for any."""
        return frozenset(
            key for key in keys if not any(key.split(b"@", 1)[0] in self.offers(one).base for one in scope)
        )
