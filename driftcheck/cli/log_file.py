"""The end of a log, where its error is: of a file of any size, of a pipe, or of standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from driftcheck.error_log import LOG_LIMIT, LOG_LINES
from driftcheck.errors import InputError

# What is kept, in bytes: error_log.py reads no more, whatever the signs in it.
KEPT = 4 * LOG_LIMIT
# What is read of something whose end cannot be jumped to, and which may have none (/dev/zero).
READ = 1 << 30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Log:
    """The end of a log as text, whatever it holds. ``remark``: what of it is not read; empty where all of it is."""

    text: str
    remark: str


def read_end(path: str) -> Log:
    """The last ``KEPT`` bytes, of what does not end those before ``READ``; ``-`` is standard input.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        if path == "-":
            return _end_of(sys.stdin.buffer)
        with Path(path).open("rb") as file:
            return _end_of(file)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error


def _end_of(stream: IO[bytes]) -> Log:
    """No more of a stream is held than is kept, and a chunk."""
    passed = 0
    if _is_regular(stream) and stream.seekable():
        before = stream.tell()  # the shell may have given us the middle of a file
        passed = max(0, stream.seek(0, os.SEEK_END) - before - KEPT)
        stream.seek(before + passed)
    chunks: deque[bytes] = deque(maxlen=KEPT // _CHUNK + 2)
    read = 0
    while read < READ and (chunk := stream.read(_CHUNK)):
        chunks.append(chunk)
        read += len(chunk)
    text = b"".join(chunks)[-KEPT:].decode("utf-8", errors="replace")
    remark = ""
    if read >= READ:
        remark = f"no end within {READ >> 20} MB; what comes after them is not read"
    elif passed + read > KEPT or len(text) > LOG_LIMIT or text.count("\n") > LOG_LINES:
        remark = f"only its end is read: {LOG_LINES:,} lines, {LOG_LIMIT // 1_000_000} MB at the most"
    return Log(text, remark)


def _is_regular(stream: IO[bytes]) -> bool:
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
