"""Running containers of a real engine: what is measured, what goes wrong, what is left behind."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import Result, driftcheck
from support.engine import Dockerd

from driftcheck.collect import Interpreter, Request, Service, collect
from driftcheck.environments import container as containers
from driftcheck.environments.container import ExecChannel
from driftcheck.environments.engine import Engine
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot, parse

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("nothing_left")]

# What our bootstrap looks like in a list of processes.
OURS = "driftcheck needs Python"


def measure(engine: Dockerd, name: str, *options: str) -> Result:
    return driftcheck("snapshot", f"container:{name}", *options, environ=engine.environ)


def snapshot(engine: Dockerd, name: str, *options: str) -> Snapshot:
    result = measure(engine, name, *options)
    assert result.code == 0, result.err
    return parse(result.out.encode(), name)


def facts(taken: Snapshot, section: str) -> dict[str, Any]:
    found = taken.facts(section)
    assert found is not None, taken.sections[section].reason
    return found


@pytest.fixture
def connected(engine: Dockerd) -> Iterator[Engine]:
    with contextlib.closing(engine.api()) as api:
        yield Engine(api, engine.address)


@pytest.fixture(scope="module")
def sleeping(engine: Dockerd, bookworm: str) -> Iterator[str]:
    """A container that runs no Python."""
    with engine.running(bookworm, ["sleep", "1000"]) as name:
        yield name


# --- what is measured


def test_the_service_is_measured_as_it_runs(engine: Dockerd, service_image: str) -> None:
    with engine.running(service_image) as name:
        until(lambda: any("app.py" in line for line in engine.programs(name)))
        taken = snapshot(engine, name)
    header = taken.header
    assert header["interpreter"]["path"] == "/opt/venv/bin/python"
    assert header["interpreter"]["reason"] == "process 1 of the container runs it"
    assert header["interpreter"]["working_directory"] == "/app"
    assert header["environment_variables_from"] == "service process"
    assert header["other_interpreters"] == {"/usr/bin/python3": "python3 on PATH"}
    assert header["image"]["labels"] == {"org.opencontainers.image.title": "service"}
    assert header["channel"] == "exec"
    variables = facts(taken, "variables")["variables"]
    assert variables["OMP_NUM_THREADS"] == {"value": "2"}  # from the image
    assert variables["MKL_NUM_THREADS"] == {"value": "3"}  # from the start script
    assert "DRIFTCHECK_RUN" not in variables
    limits = facts(taken, "limits")
    assert limits["user"] == {"uid": 1234, "gid": 0, "passwd_entry": False}
    assert facts(taken, "python")["prefix"] == "/opt/venv"


def test_the_interpreter_of_a_child_process(engine: Dockerd, service_image: str) -> None:
    command = ["-c", "export OPENBLAS_NUM_THREADS=5; python app.py; true"]
    with engine.running(service_image, command, entrypoint=["sh"]) as name:
        until(lambda: any("app.py" in line and "sh -c" not in line for line in engine.programs(name)))
        taken = snapshot(engine, name)
    assert taken.header["interpreter"]["path"] == "/opt/venv/bin/python"
    assert taken.header["interpreter"]["reason"] == "process 1 of the container (sh) started it"
    assert facts(taken, "variables")["variables"]["OPENBLAS_NUM_THREADS"] == {"value": "5"}


def test_variables_that_may_not_be_read_are_those_of_the_image(engine: Dockerd, bookworm: str) -> None:
    """A service that changed its user is closed even to the user whose container it is (ptrace(2), access mode)."""
    code = "import os, time; os.setuid(65534); print('ready', flush=True); time.sleep(1000)"
    command = ["sh", "-c", f'export MKL_NUM_THREADS=3; exec python3 -c "{code}"']
    with engine.running(bookworm, command, environment={"OMP_NUM_THREADS": "2"}) as name:
        with contextlib.closing(engine.api()) as api:
            until(lambda: b"ready" in api.logs(name))
        taken = snapshot(engine, name)
    assert taken.header["environment_variables_from"] == "image"
    variables = facts(taken, "variables")["variables"]
    assert variables["OMP_NUM_THREADS"] == {"value": "2"}
    assert "MKL_NUM_THREADS" not in variables


def test_python_overrides(engine: Dockerd, service_image: str) -> None:
    with engine.running(service_image) as name:
        for given in ("/usr/bin/python3", "/usr"):
            taken = snapshot(engine, name, "--python", given)
            assert taken.header["interpreter"]["path"] == "/usr/bin/python3" if given != "/usr" else "/usr/bin/python"
            assert taken.header["interpreter"]["reason"] == "--python names it"
        assert taken.header["other_interpreters"] == {"/opt/venv/bin/python3": "python3 on PATH"}
        result = measure(engine, name, "--python", "/nowhere/python")
    assert result.code == 2
    assert "/nowhere/python: no such interpreter in the container" in result.err


def test_two_measurements_are_equal_after_the_header(engine: Dockerd, service_image: str) -> None:
    with engine.running(service_image) as name:
        first, second = (snapshot(engine, name).document()["sections"] for _ in range(2))
    assert first == second


def test_an_engines_exec_is_a_prefix_too(engine: Dockerd, sleeping: str) -> None:
    """What ``via:`` measures through the docker command is what the engine's own exec measures."""
    result = driftcheck("snapshot", f"via:docker exec -i {sleeping}", environ=engine.environ)
    assert result.code == 0, result.err
    through = parse(result.out.encode(), "via")
    direct = snapshot(engine, sleeping)
    assert through.header["interpreter"]["reason"] == "python3 on PATH over there"
    assert through.header["environment_variables_from"] == "exec"
    for section in ("python", "packages", "system", "machine", "programs"):
        assert through.sections[section].digest == direct.sections[section].digest, section


# --- what goes wrong


def test_an_unknown_container(engine: Dockerd) -> None:
    result = measure(engine, "nowhere")
    assert result.code == 2
    assert "container:nowhere: the engine at unix://" in result.err
    assert "has no such container. docker ps -a lists what there is" in result.err
    assert "Traceback" not in result.err


def test_a_paused_container(engine: Dockerd, bookworm: str) -> None:
    with engine.running(bookworm, ["sleep", "1000"]) as name, contextlib.closing(engine.api()) as api:
        api.pause(name)
        result = measure(engine, name)
        api.unpause(name)
    assert result.code == 2
    assert f"container:{name}: the container is paused. docker unpause {name}" in result.err


def asked(path: str = "/usr/bin/python3") -> tuple[Interpreter, Request, Service]:
    config = {"entrypoint": [], "cmd": [], "working_dir": "", "env": {}}
    return Interpreter(path, "the test names it"), Request("container:test"), Service(False, config, 1)


def channel(connected: Engine, name: str, **limits: Any) -> ExecChannel:
    return ExecChannel(connected, str(connected.api.inspect_container(name)["Id"]), f"container:{name}", **limits)


@contextlib.contextmanager
def with_interpreter(engine: Dockerd, image: str, text: str) -> Iterator[str]:
    """A container with a program of this text at /python."""
    name = f"{image.rpartition(':')[0]}-odd:test"
    engine.build(name, f"FROM {image}\nCOPY python /python\n", {"python": text})
    try:
        with engine.running(name, ["sleep", "1000"]) as container:
            yield container
    finally:
        with contextlib.closing(engine.api()) as api:
            api.remove_image(name, force=True)


HANGS = "#!/bin/sh\n(sleep 1001 & sleep 1002 & wait) &\nsleep 1003\n"


@pytest.mark.parametrize("seen", [True, False], ids=["from outside", "from inside"])
def test_an_interpreter_that_hangs_is_ended_with_its_children(
    engine: Dockerd, bookworm: str, connected: Engine, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HANGS
    if not seen:  # an engine whose processes are not ours to see; then the interpreter itself must be one
        monkeypatch.setattr(containers, "end_marked", lambda *_: False)
        text = f'#!/bin/sh\n[ "$1" = -I ] && exec /usr/bin/python3 "$@"\n{HANGS}'
    with with_interpreter(engine, bookworm, text) as name:
        with pytest.raises(InputError, match=r"/python: did not answer within 1 s and was ended"):
            collect(channel(connected, name, time_limit=1), *asked("/python"))
        assert not [line for line in engine.programs(name) if "sleep 100" in line and "sleep 1000" not in line]


def test_an_interpreter_that_prints_without_end(engine: Dockerd, bookworm: str, connected: Engine) -> None:
    with with_interpreter(engine, bookworm, "#!/bin/sh\nexec yes rubbish\n") as name:
        with pytest.raises(InputError, match="printed more than 1 MB and was ended"):
            collect(channel(connected, name, size_limit=1 << 20), *asked("/python"))
        assert not [line for line in engine.programs(name) if "yes" in line]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\necho rubbish >&2; exit 3\n", "exit code 3: rubbish"),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended by SIGSEGV"),
        ("#!/bin/nowhere\n", "/python: cannot be started in the container: .*no such file"),
        ("\x7fELF rubbish", "cannot be started in the container: .*exec format error"),
        ('#!/usr/bin/python3\nimport sys\nprint(sys.stdin.buffer.readline())\nprint("{}")\n', "no answer"),
    ],
)
def test_a_program_that_is_no_interpreter(
    engine: Dockerd, bookworm: str, connected: Engine, text: str, message: str
) -> None:
    with with_interpreter(engine, bookworm, text) as name, pytest.raises(InputError, match=message) as caught:
        collect(channel(connected, name), *asked("/python"))
    assert "\n" not in str(caught.value)


def test_a_forged_answer_is_refused(engine: Dockerd, bookworm: str, connected: Engine) -> None:
    """A program that reads the cookies and answers itself, for the scout and for the payload."""
    forger = (
        "#!/usr/bin/python3\nimport re, sys, os\n"
        "text = os.read(0, 1 << 16)\n"
        "while text.count(b\"'cookies'\") < 2: text += os.read(0, 1 << 16)\n"
        "for first, last in re.findall(rb\"'cookies': \\('(\\w+)', '(\\w+)'\\)\", text):\n"
        '    answer = \'{"path": [1], "others": {"a": {}}, "reason": 5, "sections": 1}\'\n'
        "    print(first.decode() + answer + last.decode())\n"
    )
    with (
        with_interpreter(engine, bookworm, forger) as name,
        pytest.raises(InputError, match="JSON, but not a snapshot"),
    ):
        collect(channel(connected, name), *asked("/python"))


@pytest.fixture(scope="module")
def slow_image(engine: Dockerd, bookworm: str) -> str:
    """Its Python takes six seconds to start, and then all its memory if a file says so."""
    name = "drift/slow:test"
    engine.build(
        name,
        f'FROM {bookworm}\nCOPY slow.py slow.pth /usr/lib/python3/dist-packages/\nCMD ["sleep", "1000"]\n',
        {
            "slow.pth": "import slow\n",
            "slow.py": (
                "import os, time\n"
                "if os.environ.get('EAT'):\n    hoard = []\n    while True: hoard.append(b'x' * (1 << 20))\n"
                "time.sleep(6)\n"
            ),
        },
    )
    return name


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@pytest.mark.parametrize(
    ("happens", "message"),
    [
        ("kill", "the container ended while it was measured"),
        ("stop", "the container ended while it was measured"),
        ("remove_container", "no such container|container ended"),
    ],
)
def test_a_container_that_ends_while_it_is_measured(
    engine: Dockerd, slow_image: str, happens: str, message: str
) -> None:
    with contextlib.closing(engine.api()) as api, contextlib.suppress(Exception), engine.running(slow_image) as name:
        options: dict[str, int] = {"force": True} if happens == "remove_container" else {}
        if happens == "stop":
            options = {"timeout": 0}
        with after(3, lambda: getattr(api, happens)(name, **options)):
            result = measure(engine, name)
        assert result.code == 2
        assert re.search(message, result.err, re.IGNORECASE), result.err
        assert "Traceback" not in result.err


def test_a_container_that_runs_out_of_memory(engine: Dockerd, slow_image: str) -> None:
    host = {"mem_limit": "48m", "memswap_limit": "48m"}
    with engine.running(slow_image, environment={"EAT": "1"}, host=host) as name:
        result = measure(engine, name)
    assert result.code == 2
    assert re.search("out of memory|memory runs out", result.err), result.err


# --- what is left behind


def start(engine: Dockerd, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from driftcheck.cli import main; main()", *arguments],
        env={**engine.environ, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ours(engine: Dockerd, name: str) -> list[str]:
    return [line for line in engine.programs(name) if OURS in line]


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_signal_leaves_no_process_in_the_container(
    engine: Dockerd, slow_image: str, number: signal.Signals, code: int
) -> None:
    with engine.running(slow_image) as name:
        process = start(engine, "snapshot", f"container:{name}")
        until(lambda: bool(ours(engine, name)))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert out == b""
        # After SIGKILL nobody is there to end it: it finds its input closed, once it has started.
        until(lambda: not ours(engine, name), 0.5 if number != signal.SIGKILL else 20)


def test_a_signal_at_any_moment(engine: Dockerd, sleeping: str) -> None:
    for moment in range(14):
        process = start(engine, "snapshot", f"container:{sleeping}")
        time.sleep(moment / 20)
        process.send_signal(signal.SIGTERM if moment % 2 else signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode in {130, 143, 0, -signal.SIGINT, -signal.SIGTERM, 1}, err
        assert not ours(engine, sleeping), moment


def test_the_engine_that_goes_away_in_the_middle(engine: Dockerd, slow_image: str, tmp_path: Path) -> None:
    """A relay stands between us and the engine, and ends."""
    relay = subprocess.Popen([sys.executable, "-c", RELAY, str(tmp_path / "s"), f"{engine.folder}/s"])
    try:
        until((tmp_path / "s").exists)
        with engine.running(slow_image) as name:
            environ = {"DOCKER_HOST": f"unix://{tmp_path}/s"}
            with after(2.5, relay.kill):
                result = driftcheck("snapshot", f"container:{name}", environ=environ)
            assert result.code == 2, result.err
            assert "Traceback" not in result.err
            assert f"container:{name}: " in result.err
            until(lambda: not ours(engine, name))
    finally:
        relay.kill()
        relay.wait()


RELAY = """
import socket, sys, threading
def carry(source, sink):
    while True:
        data = source.recv(65536)
        if not data:
            break
        sink.sendall(data)
    try: sink.shutdown(socket.SHUT_WR)
    except OSError: pass
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    near, _ = server.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(sys.argv[2])
    for pair in ((near, far), (far, near)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
"""
