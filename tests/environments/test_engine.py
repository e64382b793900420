"""Finding an engine and its errors in words, without one: fake engines on a socket, broken contexts, no engine."""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import driftcheck

from driftcheck.environments import engine, image
from driftcheck.errors import InputError

VERSION = {"ApiVersion": "1.41", "Version": "20.10", "Os": "linux", "Arch": "amd64"}
Answer = Callable[[str], tuple[int, Any]]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Callable[[Answer], dict[str, str]]]:
    """``fake(answer)`` starts an engine whose answers are ``answer(path)``; the environment that leads to it."""
    servers = []

    def start(answer: Answer) -> dict[str, str]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "engine"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                code, value = (200, VERSION) if path.endswith("/version") else answer(path)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        server = Server(str(tmp_path / "s"), Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return {"DOCKER_HOST": f"unix://{tmp_path}/s"}

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is no container engine"),
        ({}, "is no container engine"),
        ({"Id": 5}, "is no container engine"),
        (b"not JSON", "no answer from an engine"),
        ({"Id": "x" * 64, "State": "up", "Config": 7, "Image": []}, "the engine says|no answer from an engine|ended"),
    ],
)
def test_an_engine_that_answers_with_rubbish(
    fake: Callable[[Answer], dict[str, str]], value: Any, message: str
) -> None:
    environ = fake(lambda path: (200, value) if "/containers/x/" in path else (500, {"message": "a\nb\x1b[31m"}))
    result = driftcheck("snapshot", "container:x", environ=environ)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert "\x1b" not in result.err
    assert re.search(message, result.err), result.err


def test_the_words_of_an_engine_stand_on_one_line(fake: Callable[[Answer], dict[str, str]]) -> None:
    environ = fake(lambda _: (500, {"message": "first\nsecond \x1b[31m" + "x" * 9000}))
    result = driftcheck("snapshot", "image:x", environ=environ)
    assert result.code == 2
    assert "the engine says: first second" in result.err
    assert len(result.err.splitlines()) == 1
    assert len(result.err) < 1000


def test_what_is_no_engine_at_all(tmp_path: Path) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        result = driftcheck("snapshot", "image:x", environ={"DOCKER_HOST": f"unix://{tmp_path}/s"})
        server.shutdown()
    assert result.code == 2
    assert f"unix://{tmp_path}/s" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            "unix:///nowhere/s",
            "no container engine: there is no socket unix:///nowhere/s. Start the engine (sudo systemctl ",
        ),
        ("tcp://127.0.0.1:1", "no container engine: nothing listens at tcp://127.0.0.1:1"),
        (
            "ssh://node7",
            "the engine at ssh://node7 is behind ssh, and is not spoken to. Let the docker command carry it: via:",
        ),
        ("ftp://node7", "ftp://node7 is no address of an engine"),
        ("rubbish:::", "rubbish::: is no address of an engine"),
    ],
)
def test_no_engine(host: str, message: str) -> None:
    for reference in ("container:web", "image:web"):
        result = driftcheck("snapshot", reference, environ={"DOCKER_HOST": host})
        assert result.code == 2
        assert result.err.startswith(f"Error: {reference}: {message}")
        assert len(result.err.splitlines()) == 1
        assert result.err.count(host) == 1


def test_no_permission_on_the_socket() -> None:
    denied = PermissionError(13, "Permission denied")
    message = "no permission to use the engine's socket unix:///s. Join its group"
    with pytest.raises(InputError, match=message), engine._errors("container:x", "unix:///s"):
        raise denied


def test_a_context_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context(tmp_path, "far", "tcp://192.0.2.1:2375")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    assert engine._address(environ | {"DOCKER_CONTEXT": "far"})[0] == "tcp://192.0.2.1:2375"
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "far"}))
    assert engine._address(environ)[0] == "tcp://192.0.2.1:2375"
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.9:1")
    assert engine._address(environ | {"DOCKER_HOST": "tcp://192.0.2.9:1"})[0].endswith("192.0.2.9:1")


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "gone", "DOCKER_HOST": ""}
    result = driftcheck("snapshot", "image:x", environ=environ)
    assert result.code == 2
    assert "docker context gone: there is no such context. Look at: docker context ls" in result.err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"Name": "far"}', '{"Name": "far", "Metadata": {}, "Endpoints": {"docker": 5}}']
)
def test_a_context_that_is_broken(tmp_path: Path, text: str) -> None:
    context(tmp_path, "far", "tcp://x").write_text(text)
    environ = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "far", "DOCKER_HOST": ""}
    result = driftcheck("snapshot", "image:x", environ=environ)
    assert result.code == 2, result.err
    assert "docker context far: " in result.err
    assert len(result.err.splitlines()) == 1


def context(folder: Path, name: str, host: str) -> Path:
    """A context as ``docker context create`` writes it."""
    import hashlib  # noqa: PLC0415

    (folder / "config.json").write_text("{}")
    home = folder / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
    home.mkdir(parents=True)
    file = home / "meta.json"
    file.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    return file


def test_a_socket_of_podman_is_found(tmp_path: Path) -> None:
    sockets = engine._usual_sockets({"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/x"})
    assert sockets[0] == "/var/run/docker.sock"
    assert "/run/user/1000/podman/podman.sock" in sockets
    assert not engine._is_socket(str(tmp_path))


def test_what_an_engine_says_of_an_image() -> None:
    attributes: dict[str, Any] = {
        "Id": "sha256:1",
        "RepoDigests": ["svc@sha256:2", "registry.example:5000/team/svc@sha256:2", "team/svc@sha256:2"],
        "RootFS": {"Layers": ["sha256:3", "sha256:4"]},
        "Config": {
            "Labels": {"a": "b", "c": 5},
            "Entrypoint": "/start.sh",
            "Cmd": None,
            "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b", "NONE"],
            "ExposedPorts": {"80/tcp": {}},
        },
        "Architecture": "arm64",
        "Os": "linux",
        "Created": None,
    }
    assert engine.image_header(attributes) == {
        "id": "sha256:1",
        "digests": {"svc@sha256:2": True, "team/svc@sha256:2": True},
        "layers": ["sha256:3", "sha256:4"],
        "labels": {"a": "b", "c": "5"},
        "architecture": "arm64",
        "os": "linux",
        "created": "",
    }
    assert engine.configuration(attributes["Config"]) == {
        "entrypoint": ["/start.sh"],
        "cmd": [],
        "working_dir": "",
        "user": "",
        "env": {"PATH": "/bin", "EMPTY": "", "EQUALS": "a=b"},
        "ports": {"80/tcp": True},
        "stop_signal": None,
        "healthcheck": None,
        "shell": [],
    }
    rubbishes: list[Any] = [None, 5, [], {"Config": 5, "RootFS": [], "RepoDigests": {}}]
    for rubbish in rubbishes:
        assert engine.image_header(rubbish)["layers"] == []
        assert engine.configuration(rubbish)["cmd"] == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("svc", ("svc", "latest")),
        ("svc:1.4", ("svc", "1.4")),
        ("registry:5000/svc", ("registry:5000/svc", "latest")),
        ("registry:5000/a/svc:1", ("registry:5000/a/svc", "1")),
        ("svc@sha256:abc", ("svc@sha256:abc", None)),
    ],
)
def test_one_tag_is_pulled_and_not_all(name: str, parts: tuple[str, str | None]) -> None:
    assert image._split(name) == parts


@pytest.mark.parametrize(
    ("wanted", "has", "foreign"),
    [
        (("linux", "amd64"), ("linux", "amd64"), None),
        (("linux", "386"), ("linux", "amd64"), None),
        (("linux", "arm64"), ("linux", "aarch64"), None),
        (("linux", "arm"), ("linux", "arm64"), None),
        (("linux", "amd64"), ("linux", "386"), "image for linux/amd64, and the engine runs linux/386"),
        (("linux", "arm64"), ("linux", "amd64"), "image for linux/arm64, and the engine runs linux/amd64"),
        (("windows", "amd64"), ("linux", "amd64"), "image for windows/amd64, and the engine runs linux/amd64"),
        (("", ""), ("linux", "amd64"), None),
    ],
)
def test_which_images_an_engine_runs(wanted: tuple[str, str], has: tuple[str, str], foreign: str | None) -> None:
    class Api:
        @staticmethod
        def version() -> dict[str, str]:
            return {"Os": has[0], "Arch": has[1]}

    fake_engine = engine.Engine(Api(), "unix:///s")  # type: ignore[arg-type]
    assert image._foreign(fake_engine, {"Os": wanted[0], "Architecture": wanted[1]}) == foreign
