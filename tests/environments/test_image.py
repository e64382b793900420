"""Images of a real engine, measured in containers that are gone afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Result, driftcheck
from support.engine import Dockerd, mounts_below

from driftcheck.environments import image as images
from driftcheck.environments.engine import Engine
from driftcheck.environments.run_arguments import RunArguments
from driftcheck.snapshot import Snapshot, parse

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("nothing_left")]


def measure(engine: Dockerd, name: str, *options: str) -> Result:
    return driftcheck("snapshot", f"image:{name}", *options, environ=engine.environ)


def snapshot(engine: Dockerd, name: str, *options: str) -> Snapshot:
    result = measure(engine, name, *options)
    assert result.code == 0, result.err
    return parse(result.out.encode(), name)


def facts(taken: Snapshot, section: str) -> dict[str, Any]:
    found = taken.facts(section)
    assert found is not None, taken.sections[section].reason
    return found


@contextlib.contextmanager
def built(engine: Dockerd, dockerfile: str, **files: str) -> Iterator[str]:
    name = "drift/made:test"
    with contextlib.closing(engine.api()) as api:
        engine.build(name, dockerfile, {path.replace("_dot_", "."): content for path, content in files.items()})
        try:
            yield name
        finally:
            api.remove_image(name, force=True)


# --- what is measured


def test_an_image_is_measured_as_its_service_would_run(engine: Dockerd, service_image: str) -> None:
    taken = snapshot(engine, service_image)
    header = taken.header
    assert header["channel"] == "image"
    assert header["interpreter"]["path"] == "/opt/venv/bin/python"
    assert header["interpreter"]["working_directory"] == "/app"
    assert header["environment_variables_from"] == "image"
    assert header["other_interpreters"] == {"/usr/bin/python3": "python3 on PATH"}
    assert header["run_defaults"] is True
    with contextlib.closing(engine.api()) as api:
        attributes = api.inspect_image(service_image)
    assert header["image"] == {
        "id": attributes["Id"],
        "digests": {},
        "layers": attributes["RootFS"]["Layers"],
        "labels": {"org.opencontainers.image.title": "service"},
        "architecture": attributes["Architecture"],
        "os": "linux",
        "created": attributes["Created"],
    }
    limits = facts(taken, "limits")
    assert limits["user"]["uid"] == 1234
    assert limits["shm"]["size_bytes"] == 64 << 20
    # What we took away is no fact of the image.
    assert limits["capabilities"] == {}
    assert limits["no_new_privileges"] is False


def test_the_image_and_its_container_are_one_environment(engine: Dockerd, service_image: str) -> None:
    still = snapshot(engine, service_image)
    with engine.running(service_image) as name:
        result = driftcheck("snapshot", f"container:{name}", environ=engine.environ)
        moving = parse(result.out.encode(), name)
    image_sections = [name for name, section in still.sections.items() if section.layer == "image"]
    assert {"python", "packages", "system"} <= set(image_sections)
    for name in image_sections:
        assert still.sections[name].digest == moving.sections[name].digest, name


@pytest.mark.parametrize("options", [{}, {"user": "1234"}])
def test_its_rights_are_those_of_a_plain_run(engine: Dockerd, bookworm: str, options: dict[str, str]) -> None:
    """Our own container has next to none; what a container without options has is the oracle."""
    still = snapshot(engine, bookworm, *(f"--run-arg=--{name}={word}" for name, word in options.items()))
    with engine.running(bookworm, ["sleep", "1000"], **options) as name:
        moving = parse(driftcheck("snapshot", f"container:{name}", environ=engine.environ).out.encode(), name)
    for fact in ("capabilities", "no_new_privileges", "seccomp", "user", "home", "shm", "rlimits"):
        assert facts(still, "limits")[fact] == facts(moving, "limits")[fact], fact


def test_run_arguments_change_what_is_measured(engine: Dockerd, service_image: str) -> None:
    arguments = "--shm-size 1g -m 300m --cpus 1.5 --user 0 -e OMP_NUM_THREADS=7 -e HF_TOKEN=hf_secretsecretsecret"
    taken = snapshot(engine, service_image, "--run-arg", arguments, "--run-arg=--ulimit=nofile=1024:2048")
    limits = facts(taken, "limits")
    assert limits["shm"]["size_bytes"] == 1 << 30
    assert limits["cgroup"]["memory_bytes"] == 300 << 20
    assert limits["cgroup"]["cpu_quota"] == 1.5
    assert limits["user"]["uid"] == 0
    assert limits["rlimits"]["nofile"] == [1024, 2048]
    assert facts(taken, "variables")["variables"]["OMP_NUM_THREADS"] == {"value": "7"}
    assert taken.header["run_defaults"] == (
        "--shm-size 1g --memory 300m --cpus 1.5 --user 0 --env OMP_NUM_THREADS --env HF_TOKEN --ulimit nofile=1024:2048"
    )
    assert "hf_secret" not in taken.text()


def test_nothing_of_the_image_is_started(engine: Dockerd, bookworm: str) -> None:
    """Neither entry point, nor health check; and what is started has no network and no way to more rights."""
    text = (
        f"FROM {bookworm}\n"
        "RUN touch /evidence && chmod 666 /evidence\n"
        "COPY seen.pth seen.py /usr/lib/python3/dist-packages/\n"
        'ENTRYPOINT ["sh", "-c", "echo entry point >&2; exec sleep 30"]\n'
        "HEALTHCHECK --interval=1s CMD echo health\n"
        "VOLUME /data\n"
    )
    seen = "import os, sys, time\nif 'driftcheck' in str(sys.argv) or True: time.sleep(3)\n"
    with built(engine, text, seen_dot_pth="import seen\n", seen_dot_py=seen) as name:
        process = start(engine, "snapshot", f"image:{name}")
        made = one_of_ours(engine)
        state = engine.inspect(made)
        programs = engine.programs(made)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["header"]["interpreter"]["path"] == "/usr/bin/python3"
    host = state["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == ["DAC_OVERRIDE"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host["Privileged"]
    assert state["Config"]["Labels"]["driftcheck"] == "1"
    assert state["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert len(programs) == 1
    assert "python3 -c import sys" in programs[0]


# --- images that cannot run


def test_an_image_for_another_kind_of_machine_is_read(engine: Dockerd, service_image: str) -> None:
    """The same files, said to be for another kind of machine."""
    with other_architecture(engine, service_image) as name:
        taken = snapshot(engine, name)
    assert taken.header["channel"] == "export"
    assert taken.header["image"]["architecture"] == "s390x"
    assert taken.sections["limits"].status == "unavailable"
    same = snapshot(engine, service_image)
    for section in ("packages", "system"):
        assert taken.sections[section].digest == same.sections[section].digest, section


@contextlib.contextmanager
def other_architecture(engine: Dockerd, image: str) -> Iterator[str]:
    """A copy of an image whose configuration names another architecture, by way of docker save and load."""
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415

    name = "drift/foreign:test"
    with contextlib.closing(engine.api()) as api:
        saved = io.BytesIO(b"".join(api.get_image(image)))
        changed = io.BytesIO()
        with tarfile.open(fileobj=saved) as before, tarfile.open(fileobj=changed, mode="w") as after:
            manifest = json.load(before.extractfile("manifest.json"))  # type: ignore[arg-type]
            config = manifest[0]["Config"]
            for member in before:
                data = before.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
                if member.name == config:
                    data = json.dumps({**json.loads(data), "architecture": "s390x"}).encode()
                if member.name == "manifest.json":
                    data = json.dumps([{**manifest[0], "RepoTags": [name]}]).encode()
                if member.name == "repositories":
                    continue
                member.size = len(data)
                after.addfile(member, io.BytesIO(data))
        api.load_image(changed.getvalue())
        try:
            yield name
        finally:
            api.remove_image(name, force=True)


def test_an_image_without_python_is_read(engine: Dockerd) -> None:
    with built(engine, 'FROM scratch\nCOPY hello /bin/hello\nENTRYPOINT ["/bin/hello"]\n', hello="hello\n") as name:
        taken = snapshot(engine, name)
    assert taken.header["channel"] == "export"
    assert taken.sections["limits"].status == "unavailable"


# --- what goes wrong


def test_an_unknown_image_is_not_pulled(engine: Dockerd) -> None:
    result = measure(engine, "nowhere/svc:1.4")
    assert result.code == 2
    assert "has no such image. Give --pull to pull it, or see: docker images" in result.err


def test_what_cannot_be_pulled(engine: Dockerd) -> None:
    result = measure(engine, "registry.invalid/svc:1.4", "--pull")
    assert result.code == 2
    assert "image:registry.invalid/svc:1.4: " in result.err
    assert result.err.count("\n") <= 2


def test_a_run_argument_that_the_engine_refuses(engine: Dockerd, bookworm: str) -> None:
    result = measure(engine, bookworm, "--run-arg", "--runtime nowhere")
    assert result.code == 2
    assert "the engine says: " in result.err


def test_an_interpreter_that_uses_up_the_memory(engine: Dockerd, bookworm: str) -> None:
    eater = "hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))\n"
    text = f"FROM {bookworm}\nCOPY eat.pth eat.py /usr/lib/python3/dist-packages/\n"
    with built(engine, text, eat_dot_pth="import eat\n", eat_dot_py=eater) as name:
        result = measure(engine, name, "--run-arg", "--memory 48m --memory-swap 48m")
    assert result.code == 2
    assert "the container ran out of memory. Raise --memory in --run-arg" in result.err


# --- what is left behind


@pytest.fixture(scope="module")
def slow_image(engine: Dockerd, bookworm: str) -> str:
    """Its Python takes three seconds to start."""
    name = "drift/slow-image:test"
    engine.build(
        name,
        f"FROM {bookworm}\nCOPY slow.pth slow.py /usr/lib/python3/dist-packages/\n",
        {"slow.pth": "import slow\n", "slow.py": "import time\ntime.sleep(3)\n"},
    )
    return name


def start(engine: Dockerd, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from driftcheck.cli import main; main()", *arguments],
        env={**engine.environ, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def containers_of_ours(engine: Dockerd, **options: Any) -> list[str]:
    with contextlib.closing(engine.api()) as api:
        return [entry["Id"] for entry in api.containers(filters={"label": images.LABEL}, **options)]


def one_of_ours(engine: Dockerd) -> str:
    until(lambda: bool(containers_of_ours(engine)))
    return containers_of_ours(engine)[0]


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_no_container(engine: Dockerd, slow_image: str, number: signal.Signals, code: int) -> None:
    process = start(engine, "snapshot", f"image:{slow_image}")
    one_of_ours(engine)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert out == b""
    assert not containers_of_ours(engine, all=True)
    assert b"Traceback" not in err


def test_a_signal_at_any_moment(engine: Dockerd, bookworm: str) -> None:
    for moment in range(20):
        process = start(engine, "snapshot", f"image:{bookworm}")
        time.sleep(0.1 + moment / 15)
        process.send_signal(signal.SIGTERM if moment % 2 else signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode in {130, 143, 0, -signal.SIGINT, -signal.SIGTERM, 1}, err
        assert not containers_of_ours(engine, all=True), (moment, err)


def test_after_sigkill_the_container_ends_by_itself_and_the_next_run_removes_it(
    engine: Dockerd, slow_image: str, bookworm: str
) -> None:
    process = start(engine, "snapshot", f"image:{slow_image}")
    made = one_of_ours(engine)
    process.kill()
    process.communicate(timeout=30)
    until(lambda: not engine.inspect(made)["State"]["Running"])
    # It may be another's, still in use, until its time is over.
    assert measure(engine, bookworm).code == 0
    assert containers_of_ours(engine, all=True) == [made]
    with contextlib.closing(engine.api()) as api:
        later = time.time() + 3600
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: later)
            images.remove_leftovers(Engine(api, engine.address))
    assert not containers_of_ours(engine, all=True)


def test_a_container_that_is_not_ours_is_never_removed(engine: Dockerd, bookworm: str) -> None:
    labels = {"driftcheck": "1", "driftcheck.until": "not a number"}
    with engine.running(bookworm, ["sleep", "100"], labels=labels) as name, contextlib.closing(engine.api()) as api:
        images.remove_leftovers(Engine(api, engine.address))
        assert engine.inspect(name)["State"]["Running"]


def test_a_container_is_removed_even_if_it_does_not_start(engine: Dockerd, bookworm: str) -> None:
    with contextlib.closing(engine.api()) as api:
        maker = images.Maker(Engine(api, engine.address), bookworm, "image:test", RunArguments())
        with contextlib.suppress(RuntimeError), maker.container(["/nowhere"]):
            assert len(containers_of_ours(engine, all=True)) == 1
            raise RuntimeError
    assert not containers_of_ours(engine, all=True)


def test_no_mount_is_left(engine: Dockerd, bookworm: str) -> None:
    before = set(mounts_below(engine.folder))
    assert measure(engine, bookworm).code == 0
    assert set(mounts_below(engine.folder)) == before


def test_no_scratch_directory_is_left(engine: Dockerd, service_image: str, tmp_path: Path) -> None:
    """Files of a stopped container are taken out, and gone afterwards; after SIGTERM in the middle too."""
    with contextlib.closing(engine.api()) as api, engine.running(service_image) as name:
        api.stop(name, timeout=0)
        environ = {**engine.environ, "TMPDIR": str(tmp_path)}
        result = driftcheck("snapshot", f"container:{name}", environ=environ)
        assert result.code == 0, result.err
        assert parse(result.out.encode(), "test").header["channel"] == "export"
        assert list(tmp_path.iterdir()) == []
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from driftcheck.cli import main; main()", "snapshot", f"container:{name}"],
            env={**environ, "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        # tempfile tries the directory with a file of its own first.
        until(lambda: any(entry.is_dir() for entry in tmp_path.iterdir()))
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert process.returncode == 143, err
        assert list(tmp_path.iterdir()) == []
