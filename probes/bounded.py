"""Reads a file of a format that it states itself, forward and never past a limit.

Whoever reads a model file meets lengths that somebody else wrote. A length that points behind the end of the file is
``Cut``; what no writer of the format would write is ``Malformed``; what is larger than a probe looks at is ``TooLong``.
"""

import errno
import io
import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Optional, Tuple

# Skipping in what cannot seek (a decompressor) goes in pieces of this size.
PIECE = 1 << 20


class Cut(Exception):
    """The file ends before what it announces."""


class Malformed(Exception):
    """Not what the format says."""


class TooLong(Exception):
    """More than is looked at; what was found so far stands."""


def open_regular(path: "str") -> "IO[bytes]":
    """A regular file, opened for reading. Raises OSError, also for what is no regular file (a FIFO would block)."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return io.open(handle, "rb", buffering=1 << 16)
    except BaseException:
        os.close(handle)
        raise


class Reader:
    """Exactly what was asked for, or ``Cut``.

    ``file``   anything with ``read``
    ``size``   of the file in bytes where it can seek; None for a decompressor
    ``limit``  how many bytes are read or skipped in a file that cannot seek, before ``TooLong``
    """

    def __init__(self, file: "Any", size: "Optional[int]" = None, limit: "int" = 1 << 29) -> "None":
        self.file = file
        self.size = size
        self.position = 0
        self._limit = limit

    def read(self, count: "int") -> "bytes":
        if self.size is not None and count > self.size - self.position:
            raise Cut("%d bytes are announced where %d are left" % (count, self.size - self.position))
        self._account(count)
        data = self.file.read(count)  # type: bytes
        while len(data) < count:
            more = self.file.read(count - len(data))
            if not more:
                raise Cut("it ends after %d bytes" % (self.position - count + len(data)))
            data += more
        return data

    def skip(self, count: "int") -> "None":
        if count < 0:
            raise Malformed("a negative length")
        if self.size is None:
            while count:
                count -= len(self.read(min(count, PIECE)))
            return
        if count > self.size - self.position:
            raise Cut("%d bytes are announced where %d are left" % (count, self.size - self.position))
        self.position += count
        self.file.seek(count, os.SEEK_CUR)

    def line(self, limit: "int" = 1 << 16) -> "bytes":
        """Up to the next newline, without it."""
        data = self.file.readline(limit)  # type: bytes
        self._account(len(data))
        if not data.endswith(b"\n"):
            raise Cut("it ends in a line") if len(data) < limit else Malformed("a line without end")
        return data[:-1]

    def number(self, form: "str") -> "int":
        """One number in the notation of ``struct``."""
        (value,) = struct.unpack(form, self.read(struct.calcsize(form)))
        return int(value)

    def _account(self, count: "int") -> "None":
        self.position += count
        if self.size is None and self.position > self._limit:
            raise TooLong("only the first %d MB of what it unpacks to are read" % (self._limit >> 20))


def small_integer(text: "str") -> "int":
    """For ``json.loads(parse_int=...)``: a number of a million digits takes minutes to read."""
    if len(text) > 20:
        raise ValueError("a number of %d digits" % len(text))
    return int(text)


def printable(text: "Any", limit: "int" = 200) -> "str":
    """A name out of a file, short; lone surrogates, which no JSON holds, become U+FFFD."""
    return str(text)[:limit].encode("utf-8", "replace").decode("utf-8")
