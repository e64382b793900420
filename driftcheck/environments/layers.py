"""Images in files: what ``docker save`` and ``podman save`` write, and OCI image layouts, read without an engine.

Sources: the OCI image specification (image-layout.md, image-index.md, manifest.md, config.md, layer.md), and Docker's
image specification v1.2 for ``manifest.json``, which old and new engines write. Everything that has a digest is
checked against it while it is read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from driftcheck.environments.extraction import Tree
from driftcheck.environments.streams import Digesting, Expanding, Slice
from driftcheck.environments.tar import PIECE, Readable, Reader
from driftcheck.errors import InputError
from driftcheck.probes.common import Place
from driftcheck.snapshot import parse_json

# Manifests and configurations are a few kilobytes; the specification recommends 4 MB as the limit.
DOCUMENT_LIMIT = 8 << 20

# An index may lead to others; real ones are two deep and name a dozen platforms.
_INDEX_DEPTH = 8
_MANIFESTS_LIMIT = 500
_LAYERS_LIMIT = 1000
_MEMBERS_LIMIT = 20_000

_DIGEST = re.compile(r"^(sha256|sha384|sha512):[0-9a-f]{64,128}$")
_HEX = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json)?$")
_INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
# Names that an engine gives an image inside of an archive.
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class Store(Protocol):
    """The files of an archive or of a layout directory, by their names inside it. ``where`` is for errors."""

    where: str

    def open(self, name: str) -> Readable | None: ...


@dataclass(frozen=True)
class Layer:
    """``name`` in the store; ``digest`` of the file as it stands there, where something states it; ``content`` is
    the digest of what it unpacks to.
    """

    name: str
    digest: str | None
    content: str | None


@dataclass(frozen=True)
class Image:
    """One image for one platform: its configuration as a JSON value, and its layers from the bottom up."""

    names: tuple[str, ...]
    digest: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]


class TarStore:
    """A tar file, uncompressed. Links between members, which Docker writes for equal layers, are followed."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self.where = where
        self._file = file
        self._members: dict[str, tuple[int, int] | str] = {}
        size = os.fstat(file.fileno()).st_size
        for count, member in enumerate(Reader(file, where)):
            if count >= _MEMBERS_LIMIT:
                problem = f"more than {_MEMBERS_LIMIT} members, so no saved image"
                raise InputError(where, problem, "For the files of one, unpack it and use rootfs:DIR")
            name = _inside(member.name)
            if name is None:
                raise InputError(where, f"member {member.name[:200]!r} leads out of the archive")
            if member.kind == "file":
                if member.place + member.size > size:
                    raise InputError(where, f"cut off inside of {name} (at byte {size})", "Was it copied whole?")
                self._members[name] = (member.place, member.size)
            elif member.kind in {"link", "hard link"}:
                folder = name.rpartition("/")[0] + "/" if member.kind == "link" else ""
                self._members[name] = _inside(folder + member.target) or ""

    def open(self, name: str) -> Readable | None:
        for _ in range(10):
            found = self._members.get(name)
            if not isinstance(found, str):
                return None if found is None else Slice(self._file, *found)
            name = found
        raise InputError(self.where, f"{name}: links that loop")


class DirectoryStore:
    """A directory. Links inside it are followed, and lead nowhere else. One file is open at a time."""

    def __init__(self, folder: Path, where: str) -> None:
        self.where = where
        self._place = Place(os.fspath(folder), {}, [], live=False)
        self._file: IO[bytes] | None = None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def open(self, name: str) -> Readable | None:
        self.close()
        path = self._place.real(name)
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{self.where}: {name}", error.strerror or str(error)) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise InputError(f"{self.where}: {name}", "not a regular file")
        self._file = os.fdopen(handle, "rb")
        return self._file


def _inside(name: str) -> str | None:
    """A member's name without detours; None where it leads out."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


# --- documents


def find_image(store: Store, wanted: str | None, architecture: str) -> Image:
    """The image of an archive: the only one, or the one with the name ``wanted``; of its platforms that of
    ``architecture`` (as OCI names it: amd64), else the first.

    Raises:
        InputError: when there is none or several, and for whatever is not as its specification says.
    """
    found = _from_index(store)
    if found is None:
        found = _from_docker(store)
    if not found:
        raise InputError(store.where, "no saved image: it holds neither an index.json nor a manifest.json", _NO_IMAGE)
    if wanted is not None:
        found = [one for one in found if any(_same_name(name, wanted) for name in one.names)]
    distinct = {one.key for one in found}
    every = sorted({name for one in found for name in one.names})
    if not found:
        raise InputError(store.where, f"holds no image called {wanted!r}", "docker save NAME -o FILE saves one")
    if len(distinct) > 1:
        names = ", ".join(every[:10]) or f"{len(distinct)} without names"
        raise InputError(store.where, f"holds several images: {names}", f"Name one: archive:{store.where}#NAME")
    right = [one for one in found if one.architecture == architecture]
    return (right or found)[0].image(store)


_NO_IMAGE = "docker save NAME -o FILE writes one; for unpacked files there is rootfs:DIR"


@dataclass(frozen=True)
class _Candidate:
    """An image that is named, before its parts are read. ``key`` is equal for platforms of one image."""

    key: str
    names: tuple[str, ...]
    architecture: str
    manifest: str | None  # digest
    docker: dict[str, Any] = field(default_factory=dict)

    def image(self, store: Store) -> Image:
        if self.manifest is not None:
            return _oci_image(store, self.names, self.manifest)
        return _docker_image(store, self.names, self.docker)


def _from_index(store: Store) -> list[_Candidate] | None:
    """The images that index.json leads to; None without one."""
    document = _document(store, "index.json", None)
    if document is None:
        return None
    tags = _docker_tags(store)
    found: list[_Candidate] = []
    for entry in _manifests(store, "index.json", document):
        names = tuple(str(name) for key in _NAMES if (name := _table(entry, "annotations").get(key)))
        key = _digest(store, "index.json", entry)
        for manifest, platform in _platforms(store, entry, "index.json", 0):
            config = _oci_config_digest(store, manifest)
            if config is None:
                continue
            known = names + tuple(tag for tag in tags.get(config, ()) if tag not in names)
            found.append(_Candidate(key, known, platform or _architecture(store, config), manifest))
            if len(found) > _MANIFESTS_LIMIT:
                raise InputError(store.where, f"index.json leads to more than {_MANIFESTS_LIMIT} images")
    return found


def _platforms(store: Store, entry: dict[str, Any], where: str, depth: int) -> Iterator[tuple[str, str]]:
    """``(digest, architecture)`` of the image manifests that an entry of an index leads to, and that are there."""
    if depth > _INDEX_DEPTH:
        raise InputError(f"{store.where}: {where}", f"indexes nested deeper than {_INDEX_DEPTH} levels")
    platform = _table(entry, "platform")
    annotations = _table(entry, "annotations")
    if platform.get("os") == "unknown" or annotations.get("vnd.docker.reference.type"):
        return  # what a builder attests of an image
    digest = _digest(store, where, entry)
    name = _blob(digest)
    document = _document(store, name, digest)
    if document is None:
        if depth:
            return  # an index may name platforms that were not saved
        raise InputError(f"{store.where}: {where}", f"names {digest}, which is not there", "Was it saved whole?")
    if entry.get("mediaType") in _INDEXES or "manifests" in document:
        for below in _manifests(store, name, document):
            yield from _platforms(store, below, name, depth + 1)
        return
    yield digest, str(platform.get("architecture") or "")


def _manifests(store: Store, where: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    manifests = document.get("manifests")
    if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
        raise InputError(f"{store.where}: {where}", "no list of manifests, so no OCI index")
    return manifests[:_MANIFESTS_LIMIT]


def _oci_config_digest(store: Store, manifest: str) -> str | None:
    document = _document(store, _blob(manifest), manifest)
    config = _table(document or {}, "config")
    digest = config.get("digest")
    return digest if isinstance(digest, str) and _DIGEST.match(digest) else None


def _oci_image(store: Store, names: tuple[str, ...], manifest: str) -> Image:
    where = _blob(manifest)
    document = _document(store, where, manifest) or {}
    digest = _digest(store, where, _table(document, "config"))
    config = _document(store, _blob(digest), digest)
    if config is None:
        raise InputError(f"{store.where}: {where}", f"names {digest}, which is not there", "Was it saved whole?")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > _LAYERS_LIMIT:
        raise InputError(f"{store.where}: {where}", "no list of layers, so no OCI manifest")
    digests = [_digest(store, where, layer) for layer in layers]
    contents = _contents(store, _blob(digest), config, len(digests))
    pairs = zip(digests, contents, strict=True)
    return Image(names, digest, config, tuple(Layer(_blob(one), one, content) for one, content in pairs))


def _from_docker(store: Store) -> list[_Candidate]:
    """The images of manifest.json."""
    found = []
    for entry in _docker_manifest(store):
        name = _member_name(store, entry.get("Config"))
        tags = tuple(str(tag) for tag in entry.get("RepoTags") or ())
        found.append(_Candidate(name, tags, "", None, entry))
    return found


def _docker_manifest(store: Store) -> list[dict[str, Any]]:
    value = _json(store, "manifest.json", None)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"{store.where}: manifest.json", "not what docker save writes there")
    return value


def _docker_tags(store: Store) -> dict[str, list[str]]:
    """Names by the digest of the configuration."""
    tags: dict[str, list[str]] = {}
    for entry in _docker_manifest(store):
        config = _HEX.search(str(entry.get("Config")))
        if config:
            tags.setdefault("sha256:" + config[1], []).extend(str(tag) for tag in entry.get("RepoTags") or ())
    return tags


def _docker_image(store: Store, names: tuple[str, ...], entry: dict[str, Any]) -> Image:
    name = _member_name(store, entry.get("Config"))
    stated = _HEX.search(name)
    digest = "sha256:" + stated[1] if stated else None
    config = _document(store, name, digest)
    if config is None:
        raise InputError(f"{store.where}: manifest.json", f"names {name}, which is not there", "Was it saved whole?")
    files = entry.get("Layers")
    if not isinstance(files, list) or len(files) > _LAYERS_LIMIT:
        raise InputError(f"{store.where}: manifest.json", "no list of layers")
    contents = _contents(store, name, config, len(files))
    layers = tuple(
        Layer(_member_name(store, file), None, content) for file, content in zip(files, contents, strict=True)
    )
    return Image(names, digest or "", config, layers)


def _member_name(store: Store, name: Any) -> str:
    found = _inside(name) if isinstance(name, str) else None
    if not found:
        raise InputError(f"{store.where}: manifest.json", f"{str(name)[:200]!r} is no name of a file in it")
    return found


def _contents(store: Store, where: str, config: dict[str, Any], count: int) -> Sequence[str | None]:
    """The digests of the unpacked layers, from the configuration."""
    found = _table(config, "rootfs").get("diff_ids")
    if found is None and not count:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) and _DIGEST.match(one) for one in found):
        raise InputError(f"{store.where}: {where}", "no digests of its layers (rootfs.diff_ids)")
    if len(found) != count:
        raise InputError(f"{store.where}: {where}", f"digests of {len(found)} layers, but there are {count}")
    return found


def _architecture(store: Store, config: str) -> str:
    return str((_document(store, _blob(config), config) or {}).get("architecture") or "")


def _same_name(name: str, wanted: str) -> bool:
    """``svc:1.4`` is ``docker.io/library/svc:1.4``; without a tag it is ``latest``."""
    return _full_name(name) == _full_name(wanted)


def _full_name(name: str) -> str:
    name = name.removeprefix("docker.io/").removeprefix("library/").removeprefix("localhost/")
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def _digest(store: Store, where: str, descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise InputError(f"{store.where}: {where}", f"{str(digest)[:100]!r} is no digest")
    return digest


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _table(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _document(store: Store, name: str, digest: str | None) -> dict[str, Any] | None:
    value = _json(store, name, digest)
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{store.where}: {name}", "JSON, but no object")
    return value


def _json(store: Store, name: str, digest: str | None) -> Any:
    """A JSON file of the store, of bounded size and depth, whose digest was checked; None where there is none."""
    source = store.open(name)
    if source is None:
        return None
    reader = Digesting(source, digest.partition(":")[0] if digest else "sha256")
    data = b""
    while piece := reader.read(PIECE):
        data += piece
        if len(data) > DOCUMENT_LIMIT:
            raise InputError(f"{store.where}: {name}", f"larger than {DOCUMENT_LIMIT >> 20} MB, so no document")
    _check(f"{store.where}: {name}", digest, reader.rest())
    return parse_json(data, f"{store.where}: {name}")


def _check(where: str, stated: str | None, found: str) -> None:
    if stated is not None and stated != found:
        raise InputError(where, f"its digest is {found[:19]}... and not {stated[:19]}..., as stated: it was changed")


# --- files


def unpack(store: Store, image: Image, tree: Tree) -> None:
    """Lay the layers of an image into ``tree``, each checked against its digests.

    Raises:
        InputError: naming the layer and the place in it.
    """
    for number, layer in enumerate(image.layers, 1):
        where = f"{store.where}: layer {number} of {len(image.layers)} ({layer.name})"
        source = store.open(layer.name)
        if source is None:
            raise InputError(where, "it is not there", "Was the image saved whole?")
        raw = Digesting(source, (layer.digest or "sha256:").partition(":")[0])
        expanded = Expanding(raw, where)
        same = not expanded.compressed and (layer.digest is None or layer.digest == layer.content)
        content = raw if same else Digesting(expanded, (layer.content or "sha256:").partition(":")[0])
        tree.add(expanded if same else content, where)
        # What stands behind the end of the archive belongs to the digests too.
        _check(where, layer.content, content.rest())
        if not same:
            _check(where, layer.digest, raw.rest())
    tree.finish()
