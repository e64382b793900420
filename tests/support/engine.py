"""A real container engine for tests: a dockerd of our own, in a directory of its own, gone at the end.

It needs root, ``dockerd`` and ``debootstrap``. No registry is asked: images are made from Debian roots. The variable
``DRIFTCHECK_TEST_ROOTS`` may name a directory that keeps those roots (``bookworm/``, ...) from one run to the next.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOTS = os.environ.get("DRIFTCHECK_TEST_ROOTS")


def missing(*programs: str) -> str | None:
    """Why tests with these programs cannot run here; None where they can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root"
    lacking = [program for program in programs if shutil.which(program, path=_PATH) is None]
    return f"needs {', '.join(lacking)}" if lacking else None


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@dataclass(frozen=True)
class Dockerd:
    """A running engine. ``environ`` leads driftcheck to it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"unix://{self.folder}/s"

    @property
    def environ(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.address}

    def api(self) -> Any:
        import docker  # noqa: PLC0415 - slow to import

        return docker.APIClient(base_url=self.address, version="auto", timeout=300)

    # --- images

    def import_root(self, root: Path, name: str) -> None:
        """An image of one layer from an unpacked root."""
        with tempfile.TemporaryDirectory(prefix="driftcheck-test-") as folder:
            archive = Path(folder) / "root.tar"
            subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
            repository, _, tag = name.partition(":")
            with contextlib.closing(self.api()) as api:
                api.import_image_from_file(str(archive), repository=repository, tag=tag or "latest")

    def build(self, name: str, dockerfile: str, files: Mapping[str, str | bytes] | None = None) -> None:
        """An image from a Dockerfile, without network."""
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as archive:
            for path, content in {"Dockerfile": dockerfile, **(files or {})}.items():
                data = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(data), 0o755
                archive.addfile(member, io.BytesIO(data))
        context.seek(0)
        with contextlib.closing(self.api()) as api:
            lines = list(
                api.build(
                    fileobj=context,
                    custom_context=True,
                    tag=name,
                    network_mode="none",
                    rm=True,
                    forcerm=True,
                    decode=True,
                )
            )
        errors = [line["error"] for line in lines if "error" in line]
        assert not errors, errors

    # --- containers

    @contextlib.contextmanager
    def running(self, image: str, command: Sequence[str] | None = None, **options: Any) -> Iterator[str]:
        """A container without network; its name. ``options`` are those of the SDK; ``host`` is its host config."""
        name = f"test-{secrets.token_hex(4)}"
        host = options.pop("host", {})
        with contextlib.closing(self.api()) as api:
            config = api.create_host_config(network_mode="none", **host)
            api.create_container(image, command, name=name, host_config=config, **options)
            try:
                api.start(name)
                yield name
            finally:
                api.remove_container(name, force=True, v=True)

    def inspect(self, name: str) -> dict[str, Any]:
        with contextlib.closing(self.api()) as api:
            state: dict[str, Any] = api.inspect_container(name)
            return state

    def programs(self, name: str) -> list[str]:
        """The command lines of a container's processes."""
        with contextlib.closing(self.api()) as api:
            return [" ".join(row) for row in api.top(name, ps_args="-eo pid,args")["Processes"]]

    def left(self) -> dict[str, set[str]]:
        """Everything that a measurement may leave behind in an engine."""
        with contextlib.closing(self.api()) as api:
            return {
                "containers": {entry["Id"] for entry in api.containers(all=True)},
                "images": {entry["Id"] for entry in api.images(all=True)},
                "volumes": {entry["Name"] for entry in api.volumes()["Volumes"] or ()},
            }


@contextlib.contextmanager
def dockerd() -> Iterator[Dockerd]:
    """Start an engine without bridge and iptables; stop it, and remove its files and mounts."""
    folder = Path(tempfile.mkdtemp(prefix="driftcheck-engine-"))
    folder.chmod(0o711)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
            "-H", f"unix://{folder}/s", "-p", str(folder / "pid"),
        ],
        stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PATH": _PATH},
    )  # fmt: skip
    engine = Dockerd(folder, process)
    try:
        _await(engine)
        yield engine
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
        end_all_of(folder)
        unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _await(engine: Dockerd) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{engine.folder}/s")
            break
        assert engine.process.poll() is None, (engine.folder / "log").read_text()[-3000:]
        time.sleep(0.2)
    with contextlib.closing(engine.api()) as api:
        assert api.ping(), (engine.folder / "log").read_text()[-3000:]


def end_all_of(folder: Path) -> None:
    """End the processes whose command line names a directory of ours: an engine leaves helpers that wait."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def mounts_below(folder: Path) -> list[str]:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


def unmount(folder: Path) -> None:
    for point in reversed(mounts_below(folder)):
        subprocess.run(["umount", "-l", point], check=False)


def debian(release: str, folder: Path) -> Path:
    """An unpacked Debian with Python, kept in ``DRIFTCHECK_TEST_ROOTS`` where that is set (40 s to make)."""
    home = Path(ROOTS) if ROOTS else folder
    root = home / release
    if root.is_dir():
        return root
    half = home / f"{release}.{secrets.token_hex(4)}.tmp"
    command = ["debootstrap", "--variant=minbase", "--include=python3", release, str(half)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
    assert done.returncode == 0, done.stdout[-2000:]
    half.rename(root)
    return root
