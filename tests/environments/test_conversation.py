"""The two-way stream of an engine: frames in whatever pieces, and programs that do not listen."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftcheck.environments import conversation
from driftcheck.environments.conversation import Frames, converse


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50)), max_size=20),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_frames_come_apart_whatever_the_pieces(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    data = b"".join(frame(stream, content) for stream, content in sent)
    frames = Frames(1 << 20)
    turn = 0
    while data:
        size = sizes[turn % len(sizes)]
        frames.feed(data[:size])
        data = data[size:]
        turn += 1
    assert bytes(frames.stdout) == b"".join(content for stream, content in sent if stream == 1)
    assert bytes(frames.stderr) == b"".join(content for stream, content in sent if stream == 2)
    assert not frames.broken
    assert not frames.overflow


def test_too_much_is_cut_off_and_errors_keep_their_end() -> None:
    frames = Frames(100)
    frames.feed(frame(2, b"x" * 100_000 + b"end") + frame(1, b"y" * 101))
    assert frames.overflow
    assert len(frames.stderr) == 1 << 16
    assert frames.stderr.endswith(b"end")


@pytest.mark.parametrize("data", [b"hello, I am no frame", b"\x07\0\0\0\0\0\0\x01x", b"\x01\x01\0\0\0\0\0\x01x"])
def test_what_is_no_frame_ends_it(data: bytes) -> None:
    frames = Frames(100)
    frames.feed(data)
    assert frames.broken


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    conversation.close(ours)
    theirs.close()


def test_both_sides_may_speak_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """Each sends far more than the buffers between them hold before it reads."""
    ours, theirs = pair
    got = bytearray()

    def program() -> None:
        for _ in range(200):
            theirs.sendall(frame(1, b"x" * 10_000))
        while len(got) < 2_000_000:
            got.extend(theirs.recv(1 << 16))
        theirs.close()

    thread = threading.Thread(target=program)
    thread.start()
    frames = Frames(1 << 24)
    assert converse(ours, b"y" * 2_000_000, frames, time.monotonic() + 30) is None
    thread.join()
    assert len(frames.stdout) == 2_000_000
    assert len(got) == 2_000_000


def test_a_program_that_does_not_read_is_heard(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(frame(2, b"no interpreter here"))
    theirs.close()
    frames = Frames(100)
    with contextlib.suppress(ConnectionError):  # a kernel may tell the reader of the reset
        assert converse(ours, b"y" * 2_000_000, frames, time.monotonic() + 30) is None
    assert bytes(frames.stderr) == b"no interpreter here"


def test_silence_ends_in_time(pair: tuple[socket.socket, socket.socket]) -> None:
    assert converse(pair[0], b"", Frames(100), time.monotonic() + 0.3) == "time"
