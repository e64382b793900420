"""The headers in ``Packages.db``, rpm's database where it is of its own kind "ndb" (openSUSE, SLE 15 and newer).

Source: rpm's ``lib/backend/ndb/rpmpkg.c``. All numbers are little-endian. A header of 32 bytes, then pages of slots of
16 bytes each (magic, number of the package, where it lies, how long that is), both counted in blocks of 16 bytes. There
lies the rpm header between a head of 16 bytes and a tail of 12.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Iterator, List, Optional, Tuple

# 100,000 packages; rpm fills free slots first, so that there are never many more.
SLOT_PAGE_LIMIT = 400

_BLOCK = 16
_PAGE = 4096
_HEAD, _TAIL = struct.Struct("<4sIII"), struct.Struct("<II4s")


def headers(file: "IO[bytes]", size: "int", limit: "int") -> "Iterator[Tuple[Optional[bytes], str]]":
    """Each header with '', or None with what is broken there; the rest is read all the same.

    ``size`` is that of the file in bytes, ``limit`` that of a header. No byte is read twice, and no more than one
    header is held. Raises ValueError for what is no such database as a whole.
    """
    slots = _slots(file, size)
    end = 0
    for start, count, number in sorted(slots):
        try:
            if start < end:
                raise ValueError("package %d lies where another one does" % number)
            end = start + count
            yield _header(file, size, start, count, number, limit), ""
        except ValueError as error:
            yield None, str(error)


def _slots(file: "IO[bytes]", size: "int") -> "List[Tuple[int, int, int]]":
    """(first block, how many, number of the package) of each slot in use. Raises ValueError."""
    start = file.read(2 * _BLOCK)
    if len(start) < 2 * _BLOCK:
        raise ValueError("%d bytes, too few for a database of the ndb kind" % len(start))
    magic, version, _, pages = _HEAD.unpack_from(start)
    if magic != b"RpmP":
        raise ValueError("not an rpm database of the ndb kind")
    if version:
        raise ValueError("an rpm database of the ndb kind of version %d, which is not known" % version)
    if not 0 < pages <= SLOT_PAGE_LIMIT:
        raise ValueError("%d pages of slots" % pages)
    if pages * _PAGE > size:
        raise ValueError("cut, or broken: %d pages of slots in %d bytes" % (pages, size))
    slots = []
    for magic, number, first, count in _HEAD.iter_unpack(file.read(pages * _PAGE - len(start))):
        if magic != b"Slot":
            raise ValueError("a slot without its magic")
        if first:
            if first < pages * _PAGE // _BLOCK:
                raise ValueError("package %d lies where the slots do" % number)
            slots.append((first, count, number))
    return slots


def _header(file: "IO[bytes]", size: "int", start: "int", count: "int", number: "int", limit: "int") -> "bytes":
    """One rpm header. Raises ValueError."""
    if (start + count) * _BLOCK > size:
        raise ValueError("package %d lies behind the end of the file" % number)
    if count * _BLOCK > limit or count * _BLOCK < _HEAD.size + _TAIL.size:
        raise ValueError("package %d states %d bytes" % (number, count * _BLOCK))
    file.seek(start * _BLOCK)
    data = file.read(count * _BLOCK)
    if len(data) < count * _BLOCK:
        raise ValueError("package %d lies behind the end of the file" % number)
    magic, stated, _, length = _HEAD.unpack_from(data)
    _, again, end = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    if magic != b"BlbS" or end != b"BlbE" or stated != number:
        raise ValueError("package %d is not where its slot says" % number)
    if length != again or (_HEAD.size + length + _TAIL.size + _BLOCK - 1) // _BLOCK != count:
        raise ValueError("package %d states two lengths" % number)
    return data[_HEAD.size : _HEAD.size + length]
