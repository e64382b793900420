"""The two-way stream of an engine's exec and attach: a program's standard input, output and error in one.

Frames of the Docker API (engine API reference, "Attach to a container", stream format): one byte for the stream,
three zero bytes, four bytes of length, big-endian, then that many bytes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import Any

_STDOUT, _STDERR = 1, 2

# Enough of standard error to quote its last line.
_ERRORS_KEPT = 1 << 16

_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass
class Frames:
    """Takes the stream apart as it comes, whatever the pieces. ``size_limit`` bounds what is kept of stdout."""

    size_limit: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    overflow: bool = False
    broken: bool = False
    _head: bytearray = field(default_factory=bytearray)
    _left: int = 0
    _stream: int = 0

    def feed(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.overflow and not self.broken:
            if not self._left:
                missing = 8 - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) == 8:
                    self._begin()
                continue
            piece = view[: self._left]
            view = view[self._left :]
            self._left -= len(piece)
            self._keep(piece)

    def _begin(self) -> None:
        self._stream, self._left = struct.unpack(">BxxxL", self._head)
        # A program on a terminal has no frames; what it prints is none.
        self.broken = self._stream not in {0, _STDOUT, _STDERR} or any(self._head[1:4])
        self._head.clear()

    def _keep(self, piece: memoryview) -> None:
        if self._stream == _STDERR:
            self.stderr += piece
            del self.stderr[:-_ERRORS_KEPT]
            return
        self.stdout += piece
        self.overflow = len(self.stdout) > self.size_limit


def converse(stream: Any, data: bytes, frames: Frames, deadline: float) -> str | None:
    """Send ``data``, take everything that comes, until the other side ends; why it was ended early, or None.

    ``stream`` is what the SDK gives: a SocketIO over the connection, or its TLS socket. A program that prints before
    it reads must not block us, so neither side waits for the other.

    Raises:
        OSError: when the connection breaks.
    """
    connection = getattr(stream, "_sock", stream)
    connection.setblocking(False)
    frames.feed(_swallowed(stream))
    waiting = memoryview(data)
    while True:
        if frames.overflow or frames.broken:
            return "overflow" if frames.overflow else "broken"
        left = deadline - time.monotonic()
        if left <= 0:
            return "time"
        readable, writable, _ = select.select([connection], [connection] if waiting else [], [], min(left, 1.0))
        if readable and _receive(connection, frames):
            return None
        if writable:
            with contextlib.suppress(*_NOT_NOW):
                try:
                    waiting = waiting[connection.send(waiting[: 1 << 16]) :]
                except (BrokenPipeError, ConnectionResetError):
                    waiting = memoryview(b"")  # it reads no more; what it printed still counts


def _receive(connection: socket.socket, frames: Frames) -> bool:
    """Everything that is there, TLS records that are already decrypted too; whether that was the end."""
    while not (frames.overflow or frames.broken):
        try:
            piece = connection.recv(1 << 16)
        except _NOT_NOW:
            return False
        if not piece:
            return True
        frames.feed(piece)
    return False


def _swallowed(stream: Any) -> bytes:
    """What was read together with the header of the HTTP response, and stands in its buffer."""
    response = getattr(stream, "_response", None)
    buffer = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if buffer is None or not hasattr(buffer, "read1"):
        return b""
    try:
        return bytes(buffer.read1(1 << 16) or b"")
    except (*_NOT_NOW, ValueError):
        return b""


def close(stream: Any) -> None:
    """End the connection; the SDK keeps others of its own."""
    connection = getattr(stream, "_sock", stream)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    for each in (stream, getattr(stream, "_response", None), connection):
        if each is not None:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                each.close()
