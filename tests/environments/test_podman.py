"""Podman through its API socket: the same calls, another engine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import engine as engines
from support.commands import driftcheck

from driftcheck.snapshot import Snapshot, parse

pytestmark = pytest.mark.engine

IMAGE = "localhost/drift/bookworm:test"

# Without systemd, and within the limits of whatever machine runs the tests.
_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@dataclass(frozen=True)
class Podman:
    folder: Path
    environ: dict[str, str]

    def run(self, *arguments: str, stdin: int | None = None) -> str:
        places = [f"--{name}={self.folder / name}" for name in ("root", "runroot", "tmpdir")]
        done = subprocess.run(
            ["podman", *places, *arguments],
            stdin=stdin, capture_output=True, text=True, check=False, env={**os.environ, **self.environ},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    reason = engines.missing("podman", "debootstrap")
    if reason:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="driftcheck-podman-"))
    (folder / "containers.conf").write_text(_CONFIGURATION)
    environ = {"CONTAINERS_CONF": str(folder / "containers.conf"), "DOCKER_HOST": f"unix://{folder}/s"}
    started = Podman(folder, environ)
    places = [f"--{name}={folder / name}" for name in ("root", "runroot", "tmpdir")]
    server = subprocess.Popen(
        ["podman", *places, "system", "service", "--time=0", f"unix://{folder}/s"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environ},
    )  # fmt: skip
    try:
        root = engines.debian("bookworm", tmp_path_factory.getbasetemp())
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            started.run("import", "-q", "-", IMAGE, stdin=tar.stdout.fileno())
        for _ in range(100):
            if (folder / "s").exists():
                break
            time.sleep(0.1)
        yield started
    finally:
        with contextlib.suppress(AssertionError):
            started.run("rm", "--all", "--force", "--time=0")
        server.terminate()
        server.wait()
        engines.end_all_of(folder)
        engines.unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def snapshot(podman: Podman, reference: str, *options: str) -> Snapshot:
    result = driftcheck("snapshot", reference, *options, environ=podman.environ)
    assert result.code == 0, result.err
    return parse(result.out.encode(), reference)


def test_an_image(podman: Podman) -> None:
    taken = snapshot(podman, f"image:{IMAGE}", "--run-arg", "--shm-size 128m --memory 300m")
    assert taken.header["interpreter"]["path"] == "/usr/bin/python3"
    assert taken.header["image"]["id"].startswith("sha256:")
    facts = taken.facts("limits")
    assert facts is not None
    assert facts["shm"]["size_bytes"] == 128 << 20
    assert facts["cgroup"]["memory_bytes"] == 300 << 20
    assert podman.run("ps", "--all", "--quiet") == ""


def test_a_container_and_its_image_are_one_environment(podman: Podman) -> None:
    code = "exec python3 -c 'import time; time.sleep(1000)'"
    podman.run("run", "-d", "--name=web", "--network=none", IMAGE, "sh", "-c", f"export OMP_NUM_THREADS=3; {code}")
    try:
        taken = snapshot(podman, "container:web")
        assert podman.run("ps", "--all", "--format={{.Names}}") == "web"
        podman.run("pause", "web")
        paused = driftcheck("snapshot", "container:web", environ=podman.environ)
        podman.run("unpause", "web")
    finally:
        podman.run("rm", "--force", "--time=0", "web")
    assert paused.code == 2
    assert "container:web: the container is paused" in paused.err
    assert taken.header["interpreter"]["reason"] == "process 1 of the container runs it"
    assert taken.header["environment_variables_from"] == "service process"
    facts = taken.facts("variables")
    assert facts is not None
    assert facts["variables"]["OMP_NUM_THREADS"] == {"value": "3"}
    still = snapshot(podman, f"image:{IMAGE}")
    assert limits(still)["no_new_privileges"] == limits(taken)["no_new_privileges"]
    assert limits(still)["capabilities"] is None  # Podman's configuration decides, and we do not see it
    for name in ("packages", "system", "programs", "libraries"):
        assert still.sections[name].digest == taken.sections[name].digest, name


def limits(taken: Snapshot) -> dict[str, Any]:
    facts = taken.facts("limits")
    assert facts is not None
    return facts


def test_what_is_not_there(podman: Podman) -> None:
    for reference, message in (("container:nowhere", "has no such container"), ("image:nowhere", "has no such image")):
        result = driftcheck("snapshot", reference, environ=podman.environ)
        assert result.code == 2
        assert message in result.err


def test_an_image_without_python(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello\n")
    with subprocess.Popen(["tar", "-C", str(tmp_path), "-c", "hello"], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        podman.run("import", "-q", "-", "localhost/drift/hello:test", stdin=tar.stdout.fileno())
    taken = snapshot(podman, "image:localhost/drift/hello:test")
    assert taken.header["channel"] == "export"
    assert podman.run("ps", "--all", "--quiet") == ""
