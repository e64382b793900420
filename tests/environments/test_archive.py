"""``archive:FILE``: saved images as snapshots, equal to what a measurement inside of a container says."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import static_python
from support import wheels
from support.commands import driftcheck
from support.engine import Dockerd
from support.images import docker_save, gzipped, layer, oci_files, python_root, sha256, tree, write, zstandard

from driftcheck.environments import Options, snapshot_of
from driftcheck.errors import InputError
from driftcheck.payload import probe_file
from driftcheck.snapshot import Snapshot, parse

# Sections that are the same whichever way an image is measured.
EQUAL = ("packages", "system", "programs", "libraries")


@pytest.fixture
def layers(tmp_path: Path) -> list[bytes]:
    """Two layers: a root with an interpreter, and an installed distribution."""
    root = python_root(tmp_path / "root")
    first = tree(root)
    wheels.install(tmp_path / "more/usr/lib/python3.11/site-packages", "demo", "2.0")
    return [first, tree(tmp_path / "more")]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch directories are made; it must be empty at the end of each test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []


def measure(path: Path | str, **options: Any) -> Snapshot:
    return snapshot_of(f"archive:{path}", Options(**options))


CONFIG: dict[str, Any] = {"Env": ["OMP_NUM_THREADS=2"], "WorkingDir": "/srv", "Labels": {"title": "test"}}


@pytest.mark.parametrize("form", ["docker", "docker.gz", "docker.zst", "oci", "oci directory", "oci gzip", "oci zstd"])
def test_every_form_of_a_saved_image_gives_one_snapshot(tmp_path: Path, layers: list[bytes], form: str) -> None:
    path = tmp_path / "image"
    if form.startswith("docker"):
        docker_save(path, layers, **CONFIG)
        pack = {"docker.gz": gzipped, "docker.zst": zstandard}.get(form)
        path.write_bytes(pack(path.read_bytes()) if pack else path.read_bytes())
    else:
        compress = {"oci gzip": gzipped, "oci zstd": zstandard}.get(form)
        found = oci_files(layers, compress=compress, **CONFIG)
        if form == "oci directory":
            write(path, found)
        else:
            path.write_bytes(layer(*found.items()))
    snapshot = measure(path)
    packages, variables = snapshot.facts("packages"), snapshot.facts("variables")
    assert packages is not None
    assert variables is not None
    assert packages["distributions"].keys() == {"demo"}
    assert variables["variables"]["OMP_NUM_THREADS"] == {"value": "2"}
    header = snapshot.header
    assert header["channel"] == "archive"
    assert header["environment_variables_from"] == "image"
    assert header["image"]["layers"] == [sha256(one) for one in layers]
    assert header["image"]["labels"] == {"title": "test"}
    assert (header["image"]["os"], header["image"]["architecture"]) == ("linux", "amd64")
    assert header["interpreter"]["path"] == "/usr/bin/python3"
    assert header["interpreter"]["working_directory"] == "/srv"
    root = tmp_path / "root"
    wheels.install(root / "usr/lib/python3.11/site-packages", "demo", "2.0")
    unpacked = snapshot_of(f"rootfs:{root}", Options())
    for name in (*EQUAL, "python"):
        assert snapshot.sections[name].digest == unpacked.sections[name].digest, name


def test_one_of_several_images_by_name(tmp_path: Path, layers: list[bytes]) -> None:
    both = json.loads(_member(docker_save(tmp_path / "a.tar", layers, "a:1"), "manifest.json"))
    both += json.loads(_member(docker_save(tmp_path / "b.tar", layers[:1], "b:2"), "manifest.json"))
    entries: dict[str, bytes] = {}
    for name in ("a.tar", "b.tar"):
        with tarfile.open(tmp_path / name) as archive:
            entries.update((one, _member(tmp_path / name, one)) for one in archive.getnames())
    entries["manifest.json"] = json.dumps(both).encode()
    (tmp_path / "both.tar").write_bytes(layer(*entries.items()))
    with pytest.raises(
        InputError, match=r"both\.tar: holds several images: a:1, b:2\. Name one: archive:.*both\.tar#NAME"
    ):
        measure(tmp_path / "both.tar")
    packages = measure(f"{tmp_path}/both.tar#a:1").facts("packages")
    assert packages is not None
    assert packages["distributions"].keys() == {"demo"}


def _member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read()


def test_bad_archives_are_one_line_and_leave_nothing(tmp_path: Path, layers: list[bytes]) -> None:
    whole = docker_save(tmp_path / "whole.tar", layers).read_bytes()
    os.mkfifo(tmp_path / "fifo")
    evil = docker_save(tmp_path / "evil.tar", [layer(("../../evil", b"x"))])
    windows = oci_files(layers)
    config = next(name for name, data in windows.items() if b"rootfs" in data)
    manifest = next(name for name, data in windows.items() if b'"layers"' in data and b"rootfs" not in data)
    changed = windows.pop(config).replace(b'"os": "linux"', b'"os": "windows"')
    windows["blobs/" + sha256(changed).replace(":", "/")] = changed
    old = windows.pop(manifest)
    new = old.replace(config[-64:].encode(), sha256(changed)[7:].encode())
    windows["blobs/" + sha256(new).replace(":", "/")] = new
    windows["index.json"] = windows["index.json"].replace(sha256(old).encode(), sha256(new).encode())
    write(tmp_path / "windows", windows)
    cases = {
        "nowhere.tar": "No such file or directory",
        "fifo": "neither a file nor a directory",
        "root": "neither an index.json nor a manifest.json. For unpacked files there is rootfs:DIR",
        "windows": "an image for windows; only those for Linux can be read",
        "evil.tar": "member '../../evil' leads out of the archive",
    }
    for name, content, message in (
        ("empty.tar", b"", "empty (at byte 0)"),
        ("text.tar", b"hello " * 1000, "no tar archive (at byte 0)"),
        ("half.tar", whole[: len(whole) // 2], "cut off"),
        ("half.tar.gz", gzipped(whole)[: len(gzipped(whole)) // 2], "cut off"),
        ("files.tar", tree(tmp_path / "root"), "no saved image"),
        ("x.tar.xz", b"\xfd7zXZ\0" + b"x" * 600, "compressed with xz, which is not read. Unpack it: xz -d FILE"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        cases[name] = message
    assert evil.exists()
    for name, message in cases.items():
        with pytest.raises(InputError) as caught:
            measure(tmp_path / name)
        assert message in str(caught.value), name
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    done = driftcheck("snapshot", f"archive:{tmp_path}/evil.tar")
    assert (done.code, done.out) == (2, "")
    assert "leads out of the archive" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_an_archive_is_unpacked_leaves_nothing(
    tmp_path: Path, temporary: Path, number: signal.Signals
) -> None:
    """The fixture looks whether the scratch directory is gone; here its archive does not end by itself."""
    noise = layer(("noise", random.Random(1).randbytes(1 << 20)))
    many = layer(*[(f"files/{name}", b"x") for name in range(20000)])
    path = docker_save(tmp_path / "large.tar", [many, noise, many, many])
    command = [sys.executable, "-c", "from driftcheck.cli import main; main()", "snapshot", f"archive:{path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while not list(temporary.glob("*/root/files/9*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(temporary.iterdir())
        process.send_signal(number)
        out, error = process.communicate(timeout=30)
    assert process.returncode in {128 + number, -number}, error
    assert out == b""
    assert b"Traceback" not in error


# --- against a real engine


def saved(engine: Dockerd, image: str, path: Path) -> Path:
    """``docker save``."""
    with contextlib.closing(engine.api()) as api, path.open("wb") as file:
        for piece in api.get_image(image):
            file.write(piece)
    return path


def inside(engine: Dockerd, image: str, python: str) -> Snapshot:
    """The probe file, run by the image's own interpreter in a container."""
    idle = ["-c", "import time; time.sleep(600)"]
    program = layer(("probe.py", probe_file().encode()))
    with engine.running(image, idle, entrypoint=python) as name, contextlib.closing(engine.api()) as api:
        api.put_archive(name, "/tmp", program)
        run = api.exec_create(name, [python, "/tmp/probe.py"], stdout=True, stderr=False)
        return parse(api.exec_start(run["Id"]), "probe")


def assert_same(archive: Snapshot, live: Snapshot) -> None:
    for name in EQUAL:
        assert archive.sections[name].status == live.sections[name].status, name
        assert archive.facts(name) == live.facts(name), name
        assert archive.sections[name].digest == live.sections[name].digest, name
    ours, theirs = archive.facts("python"), live.facts("python")
    assert ours is not None
    assert theirs is not None
    assert theirs.keys() - ours.keys() == static_python.LIVE_ONLY
    assert ours == {name: value for name, value in theirs.items() if name not in static_python.LIVE_ONLY}
    for name in ("limits", "machine"):
        assert archive.sections[name].status == "unavailable"


@pytest.mark.engine
@pytest.mark.parametrize("release", ["bullseye", "bookworm", "trixie"])
def test_a_saved_debian_is_what_its_container_says(
    engine: Dockerd, debian: Callable[[str], str], tmp_path: Path, release: str
) -> None:
    image = debian(release)
    snapshot = measure(saved(engine, image, tmp_path / "image.tar"))
    assert_same(snapshot, inside(engine, image, "/usr/bin/python3"))
    system = snapshot.facts("system")
    assert system is not None
    assert system["os_release"]["version_codename"] == release


@pytest.mark.engine
def test_a_saved_virtual_environment_in_layers_is_what_its_container_says(
    engine: Dockerd, bookworm: str, tmp_path: Path
) -> None:
    """Files of lower layers are removed and replaced; the environment sees the system's packages too."""
    made = wheels.wheel(tmp_path, "demo", "2.0", {"demo/__init__.py": "", "demo/version.py": "__version__ = '2.0'\n"})
    wheels.unpack(made, tmp_path / "site")
    found = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in found}
    site = "/opt/venv/lib/python3.11/site-packages"
    engine.build(
        "drift/layers:test",
        f"FROM {bookworm}\n"
        "RUN python3 -m venv --without-pip --system-site-packages /opt/venv\n"
        "RUN mkdir -p /data/old && touch /data/old/a\n"
        f"COPY site {site}/\n"
        f"RUN rm -r /data/old /etc/debian_version && ln {site}/demo/version.py /data\n"
        f"RUN echo /data > {site}/data.pth\n"
        f"RUN rm -r /data && mkdir /data && touch /data/new.py && rm {site}/demo/version.py\n"
        "ENV PATH=/opt/venv/bin:/usr/bin:/bin\n"
        'CMD ["python", "-c", "import demo"]\n',
        files,
    )
    snapshot = measure(saved(engine, "drift/layers:test", tmp_path / "image.tar"))
    assert snapshot.header["interpreter"]["path"] == "/opt/venv/bin/python"
    assert "/data" in (snapshot.facts("python") or {})["search_path"]
    demo = (snapshot.facts("packages") or {})["distributions"]["demo"]
    assert demo["missing_files"] == {"count": 1, "examples": {"demo/version.py": True}}
    assert_same(snapshot, inside(engine, "drift/layers:test", "/opt/venv/bin/python"))
