"""``archive:FILE``: a saved image (``docker save``, ``podman save``, an OCI layout), read without an engine.

FILE is a tar archive, plain or compressed with gzip or zstd, or the directory of an OCI layout. Where it holds several
images, ``archive:FILE#NAME`` says which.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from driftcheck import progress
from driftcheck.environments import Options, extraction, files, layers
from driftcheck.environments.engine import architecture, configuration, image_header
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.environments.streams import Expanding
from driftcheck.environments.tar import PIECE
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot


def measure(found: Reference, options: Options) -> Snapshot:
    """Unpack the image into a private directory and read its files; nothing in it is run.

    Raises:
        InputError: naming the archive and the place in it.
    """
    path, wanted = _split(found)
    with progress.during(f"Reading {found.text}"), _opened(path) as store:
        image = layers.find_image(store, wanted, architecture(platform.machine().lower()))
        attributes = _attributes(image)
        if attributes["Os"] not in {"", "linux"}:
            raise InputError(found.text, f"an image for {attributes['Os']}; only those for Linux can be read")
        with extraction.scratch() as root:
            progress.step(f"Unpacking {len(image.layers)} layers of {found.text}")
            layers.unpack(store, image, extraction.Tree(root, found.text))
            progress.step(f"Reading the files of {found.text}")
            header = {"image": image_header(attributes), "environment_variables_from": "image"}
            config = configuration(image.config.get("config"))
            request = request_for(found, options, image_config=config, header=header)
            return files.measure_root(root, request, python=options.python, channel="archive")


def _split(found: Reference) -> tuple[Path, str | None]:
    path = Path(found.name)
    name, mark, wanted = found.name.rpartition("#")
    if mark and not path.exists() and Path(name).exists():
        return Path(name), wanted
    return path, None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[layers.Store]:
    where = os.fspath(path)
    if path.is_dir():
        if not any((path / name).is_file() for name in ("index.json", "manifest.json")):
            problem = "no saved image: it holds neither an index.json nor a manifest.json"
            raise InputError(where, problem, "For unpacked files there is rootfs:DIR")
        with contextlib.closing(layers.DirectoryStore(path, where)) as store:
            yield store
        return
    try:
        if not path.is_file() and path.exists():
            raise InputError(where, "neither a file nor a directory")
        file = path.open("rb")
    except OSError as error:
        raise InputError(where, error.strerror or str(error)) from error
    with file, _uncompressed(file, where) as plain:
        yield layers.TarStore(plain, where)


@contextlib.contextmanager
def _uncompressed(file: IO[bytes], where: str) -> Iterator[IO[bytes]]:
    """The archive itself, or where it is compressed, an unpacked copy that has no name on the disk."""
    expanded = Expanding(file, where)
    if not expanded.compressed:
        file.seek(0)
        yield file
        return
    progress.step(f"Unpacking {where}")
    limit = extraction.Limits().written
    with tempfile.TemporaryFile() as copy:
        written = 0
        try:
            while piece := expanded.read(PIECE):
                written += len(piece)
                if written > limit:
                    raise InputError(where, f"unpacks to more than {limit >> 20} MB")
                copy.write(piece)
            copy.flush()
        except OSError as error:
            hint = "Name another directory with TMPDIR"
            raise InputError(tempfile.gettempdir(), f"no room to unpack {where}: {error.strerror}", hint) from error
        copy.seek(0)
        yield copy


def _attributes(image: layers.Image) -> dict[str, Any]:
    """An image's configuration file in the words of an engine's answer."""
    config = image.config
    return {
        "Id": image.digest,
        "Config": config.get("config"),
        "RootFS": {"Layers": [layer.content for layer in image.layers if layer.content]},
        "Architecture": str(config.get("architecture") or ""),
        "Os": str(config.get("os") or ""),
        "Created": str(config.get("created") or ""),
    }
