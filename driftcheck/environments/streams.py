"""Bytes on their way out of an archive: slices of a file, digests made while reading, gzip and zstd undone.

Whatever breaks is an InputError that names what was being read.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import zlib
from typing import IO, Any, cast

from driftcheck.environments.tar import PIECE, Readable
from driftcheck.errors import InputError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
_UNREAD = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}

# Honest layers shrink to a half or a tenth. What grows beyond this many times its size, and by more than a
# gigabyte, was made to fill a disk.
_GROWTH_LIMIT = 200
_GROWTH_FREE = 1 << 30

# RFC 8878 recommends that decoders take windows of 8 MB; --long=27 and 128 MB is what zstd itself takes unasked.
_ZSTD_WINDOW = 1 << 27


class Slice:
    """``size`` bytes of an open file from ``start`` on. Several may share the file, each with its own place."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file = file
        self._at = start
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        if size <= 0:
            return b""
        self._file.seek(self._at)
        data = self._file.read(size)
        self._at += len(data)
        self._left -= len(data)
        return data


class Digesting:
    """Passes bytes on, and knows how many there were and their digest."""

    def __init__(self, source: Readable, algorithm: str = "sha256") -> None:
        self._source = source
        self._algorithm = algorithm
        self._hash: Any = hashlib.new(algorithm, usedforsecurity=False)
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def rest(self) -> str:
        """Read to the end; the digest of everything, as ``sha256:...``."""
        while self.read(PIECE):
            pass
        return f"{self._algorithm}:{self._hash.hexdigest()}"


class Expanding:
    """Undoes gzip or zstd, recognised by their first bytes, within limits; what is neither passes as it is."""

    def __init__(self, source: Readable, where: str) -> None:
        self._where = where
        self._counted = _Prefixed(source)
        start = self._counted.peek(6)
        self.compressed = start.startswith((GZIP, ZSTD))
        self._out = 0
        self._source: Readable
        if start.startswith(GZIP):
            self._source = gzip.GzipFile(fileobj=self._counted, mode="rb")  # type: ignore[call-overload]
        elif start.startswith(ZSTD):
            self._source = _zstd(self._counted)
        else:
            for magic, name in _UNREAD.items():
                if start.startswith(magic):
                    raise InputError(where, f"compressed with {name}, which is not read", f"Unpack it: {name} -d FILE")
            self._source = self._counted

    def read(self, size: int = PIECE, /) -> bytes:
        """Up to ``size`` bytes.

        Raises:
            InputError: where the stream is damaged, or grows as no honest one does.
        """
        if not self.compressed:
            return self._source.read(size)
        try:
            data = self._source.read(size)
        except EOFError as error:
            raise InputError(self._where, f"cut off (after {self._counted.count} bytes)") from error
        except _damages() as error:
            problem = f"damaged compression (at byte {self._counted.count}): {error}"
            raise InputError(self._where, problem[:300]) from error
        self._out += len(data)
        if self._out > _GROWTH_FREE and self._out > _GROWTH_LIMIT * self._counted.count:
            raise InputError(self._where, f"grows to more than {_GROWTH_LIMIT} times its size, so it was not unpacked")
        return data


class _Prefixed:
    """Looks at the first bytes of a stream that cannot go back, and counts."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._ready = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        while len(self._ready) < size and (piece := self._source.read(size - len(self._ready))):
            self._ready += piece
        return self._ready

    def read(self, size: int = -1, /) -> bytes:
        if self._ready and size:
            data = self._ready if size < 0 else self._ready[:size]
            self._ready = self._ready[len(data) :]
        else:
            data = self._source.read(size if size >= 0 else PIECE)
        self.count += len(data)
        return data


def _zstd(source: Readable) -> Readable:
    if sys.version_info >= (3, 14):  # pragma: no cover - not the version that is tested with
        from compression import zstd  # noqa: PLC0415

        window = zstd.DecompressionParameter.window_log_max
        return zstd.ZstdFile(source, options={window: _ZSTD_WINDOW.bit_length() - 1})
    import zstandard  # noqa: PLC0415 - only where an archive needs it

    # A stream that ends inside of a frame reads as if it ended there; the tar reader and the digests notice.
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return decompressor.stream_reader(cast("IO[bytes]", source), read_across_frames=True)


def _damages() -> tuple[type[Exception], ...]:
    """What the decompressors raise. That of zstd is known once it was needed."""
    modules = (sys.modules.get("zstandard"), sys.modules.get("compression.zstd"))
    return (OSError, zlib.error, *(module.ZstdError for module in modules if module is not None))
