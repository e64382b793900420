"""Reads tar archives as streams, with bounded memory and exact places in its errors.

Python's ``tarfile`` reads whatever length a header states into memory, and takes garbage after the first member for
the end of the archive; neither will do for archives of strangers. Read here: POSIX.1-1988 (ustar), POSIX.1-2001
(pax) and GNU's long names (the "Basic Tar Format" chapter of GNU tar's manual), which is what container engines
write. No sparse files, which they never write.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from driftcheck.errors import InputError

BLOCK = 512
PIECE = 1 << 20

# A pax header holds names, times and extended attributes; Linux allows 64 KB for each of the latter.
EXTENSION_LIMIT = 4 << 20

_FILES = b"\x0007"
_KINDS = {b"1": "hard link", b"2": "link", b"3": "device", b"4": "device", b"5": "directory", b"6": "fifo"}


class Readable(Protocol):
    """What a member's bytes come from. ``read`` may return less than asked for, and nothing at its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """``kind``: ``file``, ``directory``, ``link``, ``hard link``, ``device`` or ``fifo``; ``mode``: permission bits."""

    name: str
    kind: str
    size: int
    mode: int
    target: str
    place: int  # byte at which its data begin


class Reader:
    """Iterates over members; ``read`` and ``skip`` take from the data of the member that came last.

    ``where`` names the archive in errors. Whatever of a member is not read is skipped.
    """

    def __init__(self, source: Readable, where: str) -> None:
        self._source = source
        self._where = where
        self._place = 0
        self._left = 0  # of the data
        self._padding = 0
        # A file that can be moved in need not be read where nobody looks.
        seekable = getattr(source, "seekable", None)
        self._seek = source.seek if seekable is not None and seekable() else None  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Member]:
        """Raises InputError for what is no tar archive, and where one is cut off."""
        names: dict[str, str] = {}
        while True:
            self.skip()
            at = self._place
            header = self._take(BLOCK, may_end=at == 0)
            if not header:
                raise self._error("empty", 0)
            if header.count(0) == BLOCK:
                return
            member = self._parse(header, at)
            kind = header[156:157]
            if kind in b"xgLK":
                self._extension(kind, member.size, names)
                continue
            if names:
                member = self._extended(member, names)
                names = {}
            if member.kind == "file" and member.name.endswith("/") and not member.size:
                member = replace(member, kind="directory")  # as the first tars wrote them
            if member.kind == "file":
                self._begin(member.size)
            yield member

    def read(self, size: int = PIECE) -> bytes:
        """Up to ``size`` bytes of the member's data; empty at their end."""
        if not self._left:
            return b""
        piece = self._source.read(min(size, self._left))
        if not piece:
            raise self._error("cut off", self._place)
        self._left -= len(piece)
        self._place += len(piece)
        return piece

    def skip(self) -> None:
        """Go to the end of the member's data."""
        if self._seek is not None and self._left > PIECE:
            self._seek(self._left, 1)
            self._place += self._left
            self._left = 0
        while self._left:
            self.read()
        if self._padding:
            self._take(self._padding)
            self._padding = 0

    def _begin(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        data = self._source.read(size)
        while len(data) < size:
            piece = self._source.read(size - len(data))
            if not piece:
                if may_end and not data:
                    return b""
                raise self._error("cut off", self._place + len(data))
            data += piece
        self._place += size
        return data

    def _parse(self, header: bytes, at: int) -> Member:
        stated = _number(header[148:156])
        unsigned = sum(header[:148]) + 8 * 32 + sum(header[156:])
        if stated != unsigned:
            raise self._error("no tar archive" if at == 0 else "damaged: a header without its checksum", at)
        size = _number(header[124:136])
        if size is None or size < 0:
            raise self._error("damaged: a size that is no number", at)
        name = _text(header[:100])
        if header[257:263] == b"ustar\0" and header[345]:
            name = _text(header[345:500]) + "/" + name
        kind = header[156:157]
        what = "file" if kind in _FILES else _KINDS.get(kind)
        if what is None and kind not in b"xgLK":
            raise self._error(f"member {name!r} is of a kind that no container engine writes ({kind!r})", at)
        if what not in {"file", None}:
            size = 0
        return Member(
            name, what or "", size, (_number(header[100:108]) or 0) & 0o777, _text(header[157:257]), self._place
        )

    def _extension(self, kind: bytes, size: int, names: dict[str, str]) -> None:
        """A header that speaks of the next member: ``names`` takes its path, linkpath and size."""
        if size > EXTENSION_LIMIT:
            raise self._error(f"an extended header of {size >> 20} MB", self._place)
        self._begin(size)
        data = self._take(size)
        self._left = 0
        if kind == b"L":
            names["path"] = _text(data)
        elif kind == b"K":
            names["linkpath"] = _text(data)
        elif kind == b"x":
            names.update(self._records(data))

    def _records(self, data: bytes) -> dict[str, str]:
        """``LENGTH KEY=VALUE`` and a newline each."""
        found = {}
        at = 0
        while at < len(data):
            space = data.find(b" ", at, at + 20)
            length = data[at:space] if space > at else b""
            end = at + (int(length) if length.isdigit() else 0)
            if not at < space < end <= len(data):
                raise self._error("damaged: an extended header that breaks off", self._place)
            key, _, value = data[space + 1 : end - 1].partition(b"=")
            if key.startswith(b"GNU.sparse."):
                raise self._error("a sparse file (tar --sparse), which no container engine writes", self._place)
            if key in {b"path", b"linkpath", b"size"}:
                found[key.decode("ascii")] = value.decode("utf-8", "surrogateescape")
            at = end
        return found

    def _extended(self, member: Member, names: dict[str, str]) -> Member:
        size = member.size
        if "size" in names and member.kind == "file":
            if not (names["size"].isascii() and names["size"].isdigit() and len(names["size"]) < 19):
                raise self._error("damaged: a size that is no number", member.place)
            size = int(names["size"])
        name = names.get("path", member.name)
        return Member(name, member.kind, size, member.mode, names.get("linkpath", member.target), member.place)

    def _error(self, problem: str, place: int) -> InputError:
        return InputError(self._where, f"{problem} (at byte {place})")


def _number(field: bytes) -> int | None:
    """Octal text, or GNU's base-256 where the first bit is set; None for neither."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        return value if field[0] == 0x80 and value < 1 << 62 else None
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError:
        return None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
