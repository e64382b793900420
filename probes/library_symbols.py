"""Looks symbols up among the libraries of one process: ``libraries`` asks it which ones nothing offers."""

if __name__ == "__main__":
    raise SystemExit("library_symbols.py is part of the probe libraries.py and measures nothing by itself")

from . import elf, elf_symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place
    from .loader import Library, Mapped, Walk

# Files below this size (bytes) have few symbols: they are read whole.
LARGE = 8 << 20


class SymbolTable:
    """Looks symbols up in scopes. Definitions are read once a file, and only those that somebody needs."""

    def __init__(self, place: "Place", musl: "bool") -> "None":
        self.place = place
        self.musl = musl
        self.needs = {}  # type: Dict[Tuple[int, int], FrozenSet[bytes]]
        self._offers = {}  # type: Dict[Tuple[int, int], elf_symbols.Symbols]
        self._large = {}  # type: Dict[Tuple[int, int], bool]
        self._asked = {}  # type: Dict[Tuple[int, int], Tuple[Set[bytes], Set[bytes]]]
        self._wanted = frozenset()  # type: FrozenSet[bytes]

    def read(self, library: "Library", definition: "Optional[bytes]") -> "bool":
        """Read what a file needs; whether it has ``definition``."""
        if library.elf is None:
            return False
        try:
            symbols = elf_symbols.needs(library.elf, definition)
        except elf.ElfError as error:
            self.place.problem(library.path, error.reason)
            return False
        # musl binds by name alone.
        self.needs[library.identity] = frozenset(
            [key.split(b"@", 1)[0] for key in symbols.needs] if self.musl else symbols.needs
        )
        return symbols.defines

    def close(self) -> "None":
        """All needs are known: only what they name is kept of the definitions."""
        wanted = set()  # type: Set[bytes]
        for keys in self.needs.values():
            wanted |= keys
        wanted.update([key.split(b"@", 1)[0] for key in wanted])
        self._wanted = frozenset(wanted)

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

    def missing(self, keys: "FrozenSet[bytes]", scope: "Iterable[Library]") -> "FrozenSet[bytes]":
        """Those of ``keys`` that no library of the scope defines under the very key."""
        for library in scope:
            if not keys:
                break
            large = self._is_large(library)
            keys = keys - (self._among(library, keys) if large else self.offers(library).offers)
        return keys

    def _is_large(self, library: "Library") -> "bool":
        """Whether reading all its symbols (libtorch_cpu: 50,000) takes longer than looking some up."""
        if library.identity not in self._large:
            count = 0
            if library.elf is not None and library.elf.size > LARGE and not self.musl:
                try:
                    count = elf_symbols.exports(library.elf)
                except elf.ElfError:
                    count = 0  # offers() meets the same trouble, and says so
            self._large[library.identity] = count > len(self._wanted)
        return self._large[library.identity]

    def _among(self, library: "Library", keys: "FrozenSet[bytes]") -> "Set[bytes]":
        known, found = self._asked.setdefault(library.identity, (set(), set()))
        new = keys - known
        if new and library.elf is not None:
            try:
                # Its definitions have no versions: a need with one is answered by missing_in_any_version.
                found |= elf_symbols.among(library.elf, {key for key in new if b"@" not in key})
            except elf.ElfError as error:
                self.place.problem(library.path, error.reason)
            known |= new
        return found

    def missing_in_any_version(self, keys: "FrozenSet[bytes]", scope: "List[Library]") -> "FrozenSet[bytes]":
        """As ``missing``; a definition without a version answers a need for any."""
        return frozenset(
            key for key in keys if not any(key.split(b"@", 1)[0] in self.offers(one).base for one in scope)
        )
