"""Layers over each other against a simple model, and saved images of every kind, honest and not."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import (
    Entry,
    blobs,
    docker_save,
    gzipped,
    hard_link,
    index,
    layer,
    link,
    oci_files,
    sha256,
    write,
    zstandard,
)

from driftcheck.environments import layers
from driftcheck.environments.extraction import Tree
from driftcheck.environments.streams import Expanding
from driftcheck.errors import InputError


def contents(root: Path) -> dict[str, bytes | None]:
    """What lies below a directory: file contents by path, None for a directory."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if not path.is_symlink()
    }


def flatten(*stack: bytes) -> dict[str, bytes | None]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Tree(Path(folder), "test")
        for number, one in enumerate(stack, 1):
            tree.add(io.BytesIO(one), f"layer {number}")
        tree.finish()
        return contents(Path(folder))


# --- whiteouts


def test_a_whiteout_hides_what_is_below_and_not_what_its_own_layer_brings() -> None:
    below = layer(("a/x", b"1"), ("a/y", b"1"), ("b", b"1"), ("c/d/e", b"1"), ("keep", b"1"))
    above = layer(
        ("a/.wh.x", b""), (".wh.b", b""), ("c/new", b"2"), (".wh.c", b""), (".wh.nowhere", b""), ("n/.wh.x", b"")
    )
    assert flatten(below, above) == {"a": None, "a/y": b"1", "c": None, "c/new": b"2", "keep": b"1"}


@pytest.mark.parametrize("first", [True, False])
def test_an_opaque_directory_hides_all_that_is_below_wherever_its_mark_stands(first: bool) -> None:
    below = layer(("a/x", b"1"), ("a/sub/y", b"1"), ("a/sub/deep/z", b"1"), ("other", b"1"))
    mark: list[Entry] = [("a/.wh..wh..opq", b"")]
    new: list[Entry] = [("a/new", b"2"), ("a/sub/z", b"2")]
    above = layer(("a", None), *(mark + new if first else new + mark))
    assert flatten(below, above) == {"a": None, "a/new": b"2", "a/sub": None, "a/sub/z": b"2", "other": b"1"}


def test_a_hard_link_leads_to_a_file_of_a_lower_layer_which_may_go_later() -> None:
    stack = (
        layer(("a", b"1")),
        layer(hard_link("b", "a")),
        layer((".wh.a", b"")),
        layer(("c", b"2"), (".wh..wh.plnk/7", b"")),
    )
    assert flatten(*stack) == {"b": b"1", "c": b"2"}
    assert flatten(layer(("a", b"1"), hard_link("b", "a")), layer(("a", b"2"))) == {"a": b"2", "b": b"1"}


def test_a_layer_writes_through_a_link_of_a_lower_one() -> None:
    merged = (layer(("usr/lib/a", b"1"), link("lib", "usr/lib")), layer(("lib/b", b"2"), ("lib/.wh.a", b"")))
    assert flatten(*merged) == {"usr": None, "usr/lib": None, "usr/lib/b": b"2"}
    replaced = (layer(("usr/lib/a", b"1"), link("lib", "usr/lib")), layer(("lib", None), ("lib/b", b"2")))
    assert flatten(*replaced) == {"usr": None, "usr/lib": None, "usr/lib/a": b"1", "lib": None, "lib/b": b"2"}


# The model: a dict of paths; a layer is a list of steps upon it.

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), PATHS, st.binary(max_size=3)),
        st.tuples(st.just("directory"), PATHS, st.just(b"")),
        st.tuples(st.just("remove"), PATHS, st.just(b"")),
        st.tuples(st.just("opaque"), PATHS, st.just(b"")),
    ),
    max_size=6,
)


class Model:
    """What a stack of layers comes to, written for clarity: each layer first removes, then adds."""

    def __init__(self) -> None:
        self.paths: dict[str, bytes | None] = {}

    def drop(self, path: str, *, itself: bool) -> None:
        for each in list(self.paths):
            if each.startswith(path + "/") or (itself and each == path):
                del self.paths[each]

    def add(self, path: str, content: bytes | None) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            self.paths.setdefault("/".join(parts[:depth]), None)
        if content is not None or self.paths.get(path, b"") is not None:
            self.drop(path, itself=True)
        self.paths[path] = content

    def blocked(self, path: str) -> bool:
        """Whether a file stands on the way."""
        parts = path.split("/")
        return any(self.paths.get("/".join(parts[:depth])) is not None for depth in range(1, len(parts)))


@given(st.lists(STEPS, min_size=1, max_size=4))
@settings(max_examples=300)
def test_any_stack_of_layers_is_what_the_model_says(stack: list[list[tuple[str, str, bytes]]]) -> None:
    model = Model()
    built: list[bytes] = []
    for steps in stack:
        entries: list[Entry] = []
        for kind, path, _ in steps:
            folder, _, name = path.rpartition("/")
            if kind == "remove" and not model.blocked(path):
                model.drop(path, itself=True)
                entries.append((f"{folder}/.wh.{name}" if folder else f".wh.{name}", b""))
        emptied = [path for kind, path, _ in steps if kind == "opaque" and not model.blocked(path + "/x")]
        for path in emptied:
            model.drop(path, itself=False)
            entries += [(path, None), (f"{path}/.wh..wh..opq", b"")]
        for path in emptied:
            model.add(path, None)
        for kind, path, content in steps:
            if kind in {"file", "directory"} and not model.blocked(path):
                model.add(path, content if kind == "file" else None)
                entries.append((path, content if kind == "file" else None))
        built.append(layer(*entries))
    assert flatten(*built) == model.paths


# --- saved images

BOTTOM = layer(("etc/a", b"1"), ("etc/b", b"1"))
TOP = layer(("etc/.wh.a", b""), ("etc/c", b"2"))
FLAT = {"etc": None, "etc/b": b"1", "etc/c": b"2"}


@contextlib.contextmanager
def opened(path: Path) -> Iterator[layers.Store]:
    if path.is_dir():
        with contextlib.closing(layers.DirectoryStore(path, path.name)) as store:
            yield store
        return
    with path.open("rb") as file:
        yield layers.TarStore(file, path.name)


def unpacked(path: Path, wanted: str | None = None, architecture: str = "amd64") -> dict[str, bytes | None]:
    with opened(path) as store, tempfile.TemporaryDirectory() as folder:
        image = layers.find_image(store, wanted, architecture)
        layers.unpack(store, image, Tree(Path(folder), path.name))
        return contents(Path(folder))


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(layer(*files.items()))
    return path


@pytest.mark.parametrize("compress", [None, gzipped, zstandard])
def test_oci_layouts_as_directory_and_as_file(tmp_path: Path, compress: Callable[[bytes], bytes] | None) -> None:
    files = oci_files([BOTTOM, TOP], compress=compress)
    assert unpacked(write(tmp_path / "layout", files)) == FLAT
    assert unpacked(as_tar(tmp_path / "layout.tar", files)) == FLAT


def test_what_docker_save_writes_old_and_new(tmp_path: Path) -> None:
    assert unpacked(docker_save(tmp_path / "old.tar", [BOTTOM, TOP])) == FLAT
    # Since version 25 both descriptions stand in one archive.
    files = oci_files([BOTTOM, TOP])
    config = next(name for name, data in files.items() if b"rootfs" in data)
    names = ["blobs/" + sha256(one).replace(":", "/") for one in (BOTTOM, TOP)]
    files["manifest.json"] = json.dumps([{"Config": config, "RepoTags": ["svc:1.4"], "Layers": names}]).encode()
    new = as_tar(tmp_path / "new.tar", files)
    assert unpacked(new) == FLAT
    with opened(new) as store:
        assert layers.find_image(store, "svc:1.4", "amd64").config["architecture"] == "amd64"


def test_equal_layers_are_links_in_old_archives(tmp_path: Path) -> None:
    path = docker_save(tmp_path / "twice.tar", [BOTTOM, BOTTOM])
    name = sha256(BOTTOM)[7:] + "/layer.tar"
    with path.open("rb") as file:
        store = layers.TarStore(file, "x")
        config = layers.find_image(store, None, "amd64")
    assert [one.name for one in config.layers] == [name, name]
    data = path.read_bytes()
    # The same archive, with the second layer under a name of its own that links to the first.
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = archive.getnames()
    manifest = json.loads(_member(data, "manifest.json"))
    manifest[0]["Layers"][1] = "other/layer.tar"
    entries: list[Entry] = [(one, _member(data, one)) for one in files if one != "manifest.json"]
    entries += [link("other/layer.tar", f"../{name}"), ("manifest.json", json.dumps(manifest).encode())]
    linked = tmp_path / "linked.tar"
    linked.write_bytes(layer(*entries))
    assert unpacked(linked) == {"etc": None, "etc/a": b"1", "etc/b": b"1"}


def _member(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read()


def multi_platform(*architectures: str) -> dict[str, bytes]:
    """A layout whose index leads to another, as builders for several platforms write it, with an attestation."""
    files: dict[str, bytes] = {"oci-layout": b"{}"}
    entries: list[dict[str, Any]] = []
    for architecture in architectures:
        found, descriptor = blobs([layer(("arch", architecture.encode()))])
        files.update(found)
        entries.append({**descriptor, "platform": {"os": "linux", "architecture": architecture}})
    found, statement = blobs([layer(("sbom", b"{}"))])
    files.update(found)
    entries.append({**statement, "platform": {"os": "unknown", "architecture": "unknown"}})
    absent = {"digest": sha256(b"never saved"), "platform": {"os": "linux", "architecture": "s390x"}}
    inner = index(*entries, absent)
    files["blobs/" + sha256(inner).replace(":", "/")] = inner
    media = "application/vnd.oci.image.index.v1+json"
    files["index.json"] = index({"mediaType": media, "digest": sha256(inner), "size": len(inner)})
    return files


def test_of_several_platforms_the_wanted_one_else_the_first(tmp_path: Path) -> None:
    layout = write(tmp_path, multi_platform("arm64", "amd64"))
    assert unpacked(layout, None, "amd64") == {"arch": b"amd64"}
    assert unpacked(layout, None, "arm64") == {"arch": b"arm64"}
    assert unpacked(layout, None, "riscv64") == {"arch": b"arm64"}


def test_of_several_images_the_named_one(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    entries = []
    for name in ("docker.io/library/a:1", "docker.io/library/b:latest"):
        found, descriptor = blobs([layer(("name", name.encode()))])
        files.update(found)
        entries.append({**descriptor, "annotations": {"io.containerd.image.name": name}})
    layout = write(tmp_path / "two", {**files, "index.json": index(*entries)})
    assert unpacked(layout, "a:1") == {"name": b"docker.io/library/a:1"}
    assert unpacked(layout, "b") == {"name": b"docker.io/library/b:latest"}
    message = (
        r"two: holds several images: docker\.io/library/a:1, docker\.io/library/b:latest\. Name one: archive:two#NAME"
    )
    with pytest.raises(InputError, match=message):
        unpacked(layout)
    with pytest.raises(InputError, match="holds no image called 'c'"):
        unpacked(layout, "c")


# --- bad ones


def changed(files: dict[str, bytes], part: bytes, change: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The same files with the content that holds ``part`` changed."""
    names = [name for name, content in files.items() if part in content and name.startswith("blobs/")]
    assert names
    return {**files, **{name: change(files[name]) for name in names}}


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


NOISY = layer(("etc/noise", random.Random(1).randbytes(20000)))
PACKED = oci_files([NOISY], compress=gzipped)
PACKED_ZSTD = oci_files([NOISY], compress=zstandard)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"oci-layout": b"{}"}, "no saved image: it holds neither an index.json nor a manifest.json"),
        ({"index.json": b"{"}, r"index\.json: JSON that is cut off"),
        ({"index.json": b"[]"}, r"index\.json: JSON, but no object"),
        ({"index.json": b"{}"}, r"index\.json: no list of manifests, so no OCI index"),
        ({"index.json": b"[" * 100000}, r"index\.json: JSON nested deeper than 64 levels"),
        ({"index.json": index({"digest": "md5:x"})}, r"index\.json: 'md5:x' is no digest"),
        ({"index.json": index({"digest": "sha256:../../../etc/passwd"})}, "is no digest"),
        ({"index.json": index({"digest": sha256(b"")})}, "which is not there. Was it saved whole"),
        ({"manifest.json": b"{}"}, r"manifest\.json: not what docker save writes there"),
        ({"manifest.json": b'[{"Config": "../x", "Layers": []}]'}, r"'\.\./x' is no name of a file in it"),
        ({"manifest.json": b'[{"Config": "x.json", "Layers": []}]'}, "names x.json, which is not there"),
        (changed(oci_files([BOTTOM]), b"rootfs", lambda data: data + b" "), "its digest is .* it was changed"),
        (changed(oci_files([NOISY]), b"etc/noise", lambda data: data + bytes(512)), "layer 1 of 1 .* it was changed"),
        (changed(oci_files([NOISY]), b"etc/noise", cut), r"layer 1 of 1 .*: cut off \(at byte \d+\)"),
        (changed(PACKED, b"\x1f\x8b", cut), r"layer 1 of 1 .*: cut off \(after \d+ bytes\)"),
        (changed(PACKED_ZSTD, b"\x28\xb5\x2f\xfd", cut), r"layer 1 of 1 .*: (cut off|empty|damaged)"),
        (
            changed(PACKED, b"\x1f\x8b", lambda data: data[:40] + b"rubbish!" + data[48:]),
            r"layer 1 of 1 .*: damaged compression \(at byte \d+\)",
        ),
        (oci_files([layer(("../evil", b""))]), "member '../evil' leads out of the archive"),
        (oci_files([b"not a tar"]), r"layer 1 of 1 .*: cut off \(at byte 9\)"),
        (oci_files([b"BZh9" + b"x" * 600]), "compressed with bzip2, which is not read. Unpack it: bzip2 -d FILE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for path in (write(tmp_path / "layout", files), as_tar(tmp_path / "layout.tar", files)):
        with pytest.raises(InputError, match=message) as caught:
            unpacked(path)
        assert str(caught.value).startswith(path.name)
        assert "\n" not in str(caught.value)


def test_an_unpacked_layer_is_checked_against_the_configuration(tmp_path: Path) -> None:
    """The manifest and the blob agree; the configuration speaks of another layer."""
    files = oci_files([BOTTOM], compress=gzipped)
    other, descriptor = blobs([TOP], compress=gzipped)
    manifest = json.loads(other["blobs/" + descriptor["digest"].replace(":", "/")])
    honest = json.loads(next(data for data in files.values() if b'"layers"' in data and b"mediaType" in data))
    manifest["layers"] = honest["layers"]
    forged = json.dumps(manifest).encode()
    files |= other
    files["blobs/" + sha256(forged).replace(":", "/")] = forged
    files["index.json"] = index({"digest": sha256(forged), "size": len(forged)})
    with pytest.raises(InputError, match="layer 1 of 1 .*: its digest is .* it was changed"):
        unpacked(write(tmp_path, files))


def test_an_archive_that_is_cut_off_says_where(tmp_path: Path) -> None:
    whole = docker_save(tmp_path / "x.tar", [NOISY]).read_bytes()
    for size in (100, 700, len(whole) // 2):
        (tmp_path / "x.tar").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"x\.tar: cut off.*\(at byte \d+\)"):
            unpacked(tmp_path / "x.tar")


def test_a_blob_that_is_a_link_out_of_the_layout_leads_nowhere(tmp_path: Path) -> None:
    files = oci_files([BOTTOM])
    secret = write(tmp_path, {"secret": BOTTOM}) / "secret"
    layout = write(tmp_path / "layout", files)
    blob = layout / "blobs" / sha256(BOTTOM).replace(":", "/")
    blob.unlink()
    blob.symlink_to(secret)
    with pytest.raises(InputError, match="layer 1 of 1 .* is not there"):
        unpacked(layout)


def test_links_between_members_that_loop_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(layer(link("index.json", "b"), link("b", "index.json")))
    with pytest.raises(InputError, match="links that loop"):
        unpacked(path)


def test_an_index_that_leads_to_itself_ends(tmp_path: Path) -> None:
    inner = index({"digest": sha256(b"x")})
    files: dict[str, bytes] = {}
    for _ in range(12):
        files["blobs/" + sha256(inner).replace(":", "/")] = inner
        inner = index({"digest": sha256(inner)})
    files["index.json"] = inner
    with pytest.raises(InputError, match="indexes nested deeper than 8 levels"):
        unpacked(write(tmp_path, files))


class Zeros:
    """What 10 GB of zeros are behind a thousandth of their size, without making them."""

    def __init__(self, pack: Callable[[bytes], bytes]) -> None:
        self._piece = pack(bytes(64 << 20))
        self._left = 160
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        if not self._ready and self._left:
            self._left -= 1
            self._ready = self._piece
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 6), zstandard], ids=["gzip", "zstd"])
def test_ten_gigabytes_of_zeros_are_not_unpacked(pack: Callable[[bytes], bytes]) -> None:
    source = Expanding(Zeros(pack), "bomb.tar")
    with pytest.raises(InputError, match=r"bomb\.tar: grows to more than 200 times its size"):
        deque(iter(lambda: source.read(1 << 20), b""), maxlen=0)
