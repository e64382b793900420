"""The end of a log, where its error is: of a file of any size, or of standard input."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import IO

from driftcheck.errors import InputError

# What is kept: error_log.py reads no more.
KEPT = 16 << 20
_CHUNK = 1 << 20


def read_end(path: str) -> str:
    """The last ``KEPT`` bytes as text, whatever they hold; ``-`` is standard input.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        if path == "-":
            data = _end_of(sys.stdin.buffer)
        else:
            with Path(path).open("rb") as file:
                if file.seekable():
                    file.seek(max(0, file.seek(0, 2) - KEPT))
                data = _end_of(file)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a zero byte in its name
        raise InputError(path, "is no name of a file") from error
    return data.decode("utf-8", errors="replace")


def _end_of(stream: IO[bytes]) -> bytes:
    """A stream may have no end in sight: no more of it is held than is kept, and a chunk."""
    chunks: deque[bytes] = deque(maxlen=KEPT // _CHUNK + 2)
    while chunk := stream.read(_CHUNK):
        chunks.append(chunk)
    return b"".join(chunks)[-KEPT:]
