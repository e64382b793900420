"""The files of a container that does not run, or has no interpreter: exported by its engine, read by our parsers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from driftcheck import progress
from driftcheck.collect import Request
from driftcheck.environments import Options
from driftcheck.environments.engine import Engine
from driftcheck.snapshot import Snapshot

# How much of an export is asked for at once.
_PIECE = 1 << 20


def measure_files(engine: Engine, container: str, request: Request, options: Options) -> Snapshot:
    """Measure the files of a container without running anything.

    Raises:
        InputError: when the engine cannot export it, or there is no room for its files.
    """
    from driftcheck.environments import extraction, files  # noqa: PLC0415

    with extraction.scratch() as root:
        with engine.errors(request.reference), _export(engine, container) as stream:
            extraction.take_out(_Told(stream, request.reference), root, request.reference)
        progress.step(f"Reading the files of {request.reference}")
        return files.measure_root(
            root,
            request,
            image_config=dict(request.image_config or {}),
            python=options.python,
            channel="export",
            header={**request.header, "environment_variables_from": "image"},
        )


@contextlib.contextmanager
def _export(engine: Engine, container: str) -> Iterator[_Pieces]:
    pieces = engine.api.export(container, chunk_size=_PIECE)
    try:
        yield _Pieces(pieces)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


class _Pieces:
    """A file over the pieces of an HTTP answer."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class _Told:
    """Says how much came."""

    def __init__(self, stream: _Pieces, reference: str) -> None:
        self._stream = stream
        self._reference = reference
        self._count = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._count += len(data)
        progress.step(f"Taking out the files of {self._reference}", f"{self._count >> 20} MB")
        return data
