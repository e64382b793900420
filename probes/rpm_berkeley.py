"""The headers in ``Packages``, rpm's database where it is a hash table of Berkeley DB (RHEL 5 to 8, Amazon Linux 2).

Sources: Berkeley DB's ``dbinc/db_page.h`` (pages and entries) and ``dbinc/hash.h`` (which page a bucket starts at);
rpm's ``lib/backend/bdb_ro.c``, which reads these files without Berkeley DB. A key is the number of a header; number 0
holds the highest one given so far.
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Iterator, Optional, Tuple

MAGIC = 0x061561
# Hash tables of Berkeley DB 4.2 and newer.
VERSIONS = (8, 9, 10)

_META = 512
_PAGE = 26
_SPARES = 96
# Page types: a hash page of versions up to 8 and one since then, and one that carries a piece of a long value.
_UNSORTED, _OVERFLOW, _HASH = 2, 7, 13
# Kinds of entries: a key or value that stands on the page, and one that stands on overflow pages.
_HERE, _ELSEWHERE = 1, 3


def headers(file: "IO[bytes]", size: "int", limit: "int") -> "Iterator[Tuple[Optional[bytes], str]]":
    """Each header with '', or None with what is broken there; the rest is read all the same.

    ``size`` is that of the file in bytes, ``limit`` that of a header. Every page is read once at the most, and no more
    than one header is held. Raises ValueError for what is no such database as a whole.
    """
    pages = _Pages(file, size)
    for bucket in range(pages.buckets):
        number = pages.first_page(bucket)
        while number:
            try:
                page = pages.read(number)
                if not any(page):
                    break  # a bucket that was never used
                if page[25] not in (_HASH, _UNSORTED):
                    raise ValueError("page %d is of type %d, where a hash page is due" % (number, page[25]))
            except ValueError as error:
                yield None, str(error)
                break
            for result in _entries(pages, page, number, limit):
                yield result
            (number,) = struct.unpack_from(pages.order + "I", page, 16)


def _entries(pages: "_Pages", page: "bytes", number: "int", limit: "int") -> "Iterator[Tuple[Optional[bytes], str]]":
    """What ``headers`` yields, of one hash page: offsets of keys and values in turn, filled from the page's end."""
    (count,) = struct.unpack_from(pages.order + "H", page, 20)
    if count % 2 or _PAGE + 2 * count > len(page):
        yield None, "page %d states %d entries" % (number, count)
        return
    end = len(page)
    offsets = struct.unpack_from(pages.order + "%dH" % count, page, _PAGE)
    for key, value in zip(offsets[::2], offsets[1::2]):  # noqa: B905 -- strict= needs Python 3.10
        if not _PAGE + 2 * count <= value < key < end:
            yield None, "page %d has an entry outside of it" % number
            return
        name, content = page[key:end], page[value:key]
        end = value
        if name == b"\1\0\0\0\0":
            continue
        if len(name) != 5 or name[0] != _HERE:
            yield None, "page %d has a key that is no number" % number
        elif content[0] == _HERE:
            yield content[1:], ""
        elif content[0] == _ELSEWHERE and len(content) == 12:
            try:
                first, length = struct.unpack_from(pages.order + "II", content, 4)
                yield pages.long_value(first, length, limit), ""
            except ValueError as error:
                yield None, str(error)
        else:
            yield None, "page %d has an entry of kind %d, %d bytes long" % (number, content[0], len(content))


class _Pages:
    """``order`` of the bytes in numbers, as ``struct`` writes it; how many ``buckets`` there are."""

    def __init__(self, file: "IO[bytes]", size: "int") -> "None":
        self._file = file
        meta = file.read(_META)
        if len(meta) < _META:
            raise ValueError("%d bytes, too few for a Berkeley DB" % len(meta))
        orders = [order for order in "<>" if struct.unpack_from(order + "I", meta, 12)[0] == MAGIC]
        if not orders:
            raise ValueError("not a hash table of Berkeley DB")
        self.order = orders[0]
        version, self._page_size, encryption, _, flags = struct.unpack_from(self.order + "IIBBB", meta, 16)
        if version not in VERSIONS:
            raise ValueError("a Berkeley DB hash table of version %d, which is not known" % version)
        if encryption or flags:
            # Encrypted, with checksums, or in parts: its pages would be others, and rpm makes none of these.
            raise ValueError("a Berkeley DB with encryption or checksums")
        if self._page_size not in [512 << shift for shift in range(8)]:
            raise ValueError("pages of %d bytes, which no Berkeley DB has" % self._page_size)
        self.buckets = struct.unpack_from(self.order + "I", meta, 72)[0] + 1
        self._spares = struct.unpack_from(self.order + "32I", meta, _SPARES)
        self._count = size // self._page_size
        if self.buckets > self._count:
            raise ValueError("cut, or broken: %d buckets in %d pages" % (self.buckets, self._count))
        # 1 for each page that was read; the first is the one above.
        self._read = bytearray(self._count)
        self._read[0] = 1

    def first_page(self, bucket: "int") -> "int":
        """Pages of buckets come in runs that double in number; what lies between them is counted in the spares."""
        return bucket + int(self._spares[bucket.bit_length()])

    def read(self, number: "int") -> "bytes":
        """A page, once. Raises ValueError."""
        if number >= self._count:
            raise ValueError("page %d lies behind the end of the file" % number)
        if self._read[number]:
            raise ValueError("page %d is linked to twice" % number)
        self._read[number] = 1
        self._file.seek(number * self._page_size)
        page = self._file.read(self._page_size)
        if len(page) < self._page_size:
            raise ValueError("page %d lies behind the end of the file" % number)
        if struct.unpack_from(self.order + "I", page, 8)[0] != number and any(page):
            raise ValueError("page %d says that it is another one" % number)
        return page

    def long_value(self, number: "int", length: "int", limit: "int") -> "bytes":
        """``length`` bytes from the overflow pages that begin with this one. Raises ValueError."""
        if length > limit:
            raise ValueError("a header of %d bytes" % length)
        pieces = []
        left = length
        while left > 0:
            page = self.read(number)
            following, _, filled = struct.unpack_from(self.order + "IHH", page, 16)
            if page[25] != _OVERFLOW:
                raise ValueError("page %d is of type %d, where an overflow page is due" % (number, page[25]))
            if not 0 < filled <= min(left, len(page) - _PAGE):
                raise ValueError("overflow page %d states %d bytes where %d are left" % (number, filled, left))
            pieces.append(page[_PAGE : _PAGE + filled])
            left -= filled
            number = following
        return b"".join(pieces)
