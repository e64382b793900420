"""Start commands that cannot start: what is predicted, against what a real engine and real shells print."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driftcheck.probes import common, executables, start_command
from support.commands import driftcheck
from support.engine import Dockerd

pytestmark = pytest.mark.engine

# Scripts below /t, by name; each is executable.
SCRIPTS = {
    "ok": '#!/bin/sh\nexec "$@"\n',
    "crlf": "#!/bin/sh\r\nexec app\r\n",
    "crlf_env": "#!/usr/bin/env bash\r\nexec app\r\n",
    "nowhere": "#!/nowhere/bash\n",
    "env_none": "#!/usr/bin/env python9\n",
    "env_words": "#!/usr/bin/env python3 -u\n",
    "bare": "echo hi\n",
    "empty": "",
    "mark": "\ufeff#!/bin/sh\n",
    "loop": "#!/t/loop\n",
    "folder": "#!/t\n",
    "source": "#!/bin/sh\n. /v/activate\nexec python3\n",
    "source_bash": "#!/bin/bash\nset -e\nsource /v/activate\nexec python3\n",
    "gone": "#!/bin/sh\nset -e\ncd /gone\nexec python3\n",
    "exec_none": "#!/bin/sh\nexec gunicorn app\n",
    "exec_none_bash": "#!/bin/bash\n\nexec gunicorn app\n",
    "exec_crlf": "#!/bin/sh\nexec /t/crlf\n",
    "exec_crlf_bash": "#!/bin/bash\nexec /t/crlf\n",
    "exec_plain": "#!/bin/sh\nexec /t/plain\n",
    "exec_plain_bash": "#!/bin/bash\nexec /t/plain\n",
    "exec_arm": "#!/bin/sh\nexec /t/arm\n",
    "exec_arm_bash": "#!/bin/bash\nexec /t/arm\n",
    "run_nowhere_bash": "#!/bin/bash\n/t/nowhere\n",
}
COMMANDS = [
    *([f"/t/{name}"] for name in SCRIPTS if name != "ok"),
    ["/t/plain"], ["/t/arm"], ["/t/none"], ["./none"], ["gunicorn", "app"], ["/t"],
    ["/t/ok", "gunicorn"], ["/t/ok", "python3", "app.py"], ["python3", "./app.py"], ["python3", "-m", "hypercorn"],
    ["python3", "/app"], ["sh", "/t/none"], ["bash", "none.sh"], ["/bin/sh", "-c", "gunicorn app"],
    ["bash", "-c", "gunicorn app"], ["/bin/sh", "-c", "cd /gone && python3 app.py"], ["bash", "-c", "/t/arm"],
    ["env", "gunicorn"], ["nice", "gunicorn"], ["timeout", "3", "gunicorn"], ["setpriv", "--nnp", "gunicorn"],
    ["env", "-S", "python3 -u app.py"],
]  # fmt: skip


@pytest.fixture(scope="module", params=["bookworm", "bullseye"])
def broken(request: pytest.FixtureRequest, engine: Dockerd, debian: Callable[[str], str]) -> str:
    """An image with everything that cannot start; one with bash 5.2 and coreutils 9.1, one with 5.1 and 8.32."""
    name = f"drift/broken-{request.param}:test"
    copies = "".join(f"COPY {script} /t/{script}\n" for script in SCRIPTS)
    # The program of another machine is one of this image with another e_machine (AArch64).
    patch = "d = bytearray(open('/bin/true', 'rb').read()); d[18:20] = bytes([183, 0]); open('/t/arm', 'wb').write(d)"
    engine.build(
        name,
        f"FROM {debian(request.param)}\n{copies}"
        f'RUN python3 -c "{patch}" && chmod 755 /t/arm && cp /t/ok /t/plain && chmod 644 /t/plain\nWORKDIR /app\n',
        SCRIPTS,
    )
    return name


@pytest.fixture
def files(engine: Dockerd, broken: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="driftcheck-test-") as folder, contextlib.closing(engine.api()) as api:
        container = api.create_container(broken, ["true"])["Id"]
        try:
            archive = Path(folder) / "root.tar"
            with archive.open("wb") as file:
                for piece in api.export(container):
                    file.write(piece)
        finally:
            api.remove_container(container, force=True)
        root = Path(folder) / "root"
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="tar")
        yield root


def really(engine: Dockerd, image: str, command: list[str]) -> str:
    """The first line that a start prints, or what the engine says of it."""
    import docker.errors  # noqa: PLC0415 - slow to import

    with contextlib.closing(engine.api()) as api:
        host = api.create_host_config(network_mode="none")
        container = api.create_container(image, command, host_config=host)["Id"]
        try:
            try:
                api.start(container)
            except docker.errors.APIError as error:
                said = str(error.explanation).partition("unable to start container process: ")[2]
                return said.removesuffix(": unknown")
            assert api.wait(container)["StatusCode"] != 0
            lines = api.logs(container).decode().splitlines()
            return str(lines[0])
        finally:
            api.remove_container(container, force=True)


def test_what_is_predicted_is_what_is_printed(engine: Dockerd, broken: str, files: Path) -> None:
    place = common.Place(str(files), {"PATH": executables.DEFAULT_PATH}, [], live=False)
    wrong = []
    for command in COMMANDS:
        result = start_command.resolve(place, command, "/app")
        printed = really(engine, broken, command)
        # A module is looked for in a few places only, and what is said of a directory changed with the engine.
        sure = command not in (["python3", "-m", "hypercorn"], ["/t"])
        if result.problem != printed or result.exact is not sure:
            wrong.append((command, printed, result.problem, result.exact))
    assert wrong == []


def test_a_check_of_the_image_says_so(engine: Dockerd, bookworm: str, nothing_left: None) -> None:
    del nothing_left
    name = "drift/no-start:test"
    dockerfile = f'FROM {bookworm}\nCOPY start.sh /app/start.sh\nWORKDIR /app\nENTRYPOINT ["/app/start.sh"]\n'
    engine.build(name, dockerfile, {"start.sh": "#!/usr/bin/env python3\r\nprint(1)\r\n"})
    try:
        result = driftcheck("check", f"image:{name}", environ=engine.environ)
    finally:
        with contextlib.closing(engine.api()) as api:
            api.remove_image(name, force=True)
    assert result.code == 1, result.everything
    assert "BOX011" in result.out
    assert "/usr/bin/env: 'python3\\r': No such file or directory" in result.out
    assert "sed -i" in result.out


def test_an_old_filter_of_system_calls_lets_no_thread_start(engine: Dockerd, bookworm: str, tmp_path: Path) -> None:
    """As engines before Docker 20.10.10 answer clone3: with EPERM."""
    profile = tmp_path / "old.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW",'
        ' "syscalls": [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}'
    )
    options = [f"seccomp={profile.read_text()}"]
    with engine.running(bookworm, ["sleep", "1000"], host={"security_opt": options}) as name:
        result = driftcheck("check", f"container:{name}", "--format", "json", environ=engine.environ)
        with contextlib.closing(engine.api()) as api:
            program = "import threading; threading.Thread(target=print).start()"
            printed = api.exec_start(api.exec_create(name, ["python3", "-c", program])["Id"]).decode()
    assert '"BOX005"' in result.out, result.everything
    assert printed.strip().splitlines()[-1] == "RuntimeError: can't start new thread"
