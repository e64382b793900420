"""The container engine: where it is, how it is spoken to, and its errors in words.

Any engine with the Docker API: Docker, Podman's socket, the desktops. It is found as the docker command finds it
(``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context), else at the usual sockets.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import json
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftcheck.errors import InputError

if TYPE_CHECKING:
    from docker import APIClient

# Seconds for one answer of the engine. Creating and starting take a moment on a busy machine.
TIMEOUT = 60

# As in Linux's own path walk.
_LINK_LIMIT = 40

# Bits of Go's os.FileMode that make a path something else than a regular file.
_GO_DIRECTORY = 1 << 31
_GO_LINK = 1 << 27
_GO_OTHER = (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19)

# What uname(2) calls a machine, as OCI (and Go) call it.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"}


@dataclass(frozen=True)
class Engine:
    """A connection. ``where`` is its address for messages; ``local`` tells that its processes are ours to see."""

    api: APIClient
    where: str

    @property
    def local(self) -> bool:
        return self.where.startswith("unix://")

    @contextlib.contextmanager
    def errors(self, subject: str) -> Iterator[None]:
        """Whatever the engine, the SDK and the network have to say becomes an InputError about ``subject``."""
        with _errors(subject, self.where):
            yield

    def is_program(self, container: str, path: str) -> bool:
        """Whether a path of a container leads to a regular file that may be executed, links followed.

        The engine looks; nothing runs, and the container need not either.
        """
        for _ in range(_LINK_LIMIT):
            status = self._status(container, path)
            if status is None:
                return False
            mode, target = status
            if not (mode & _GO_LINK and target):
                return not mode & (_GO_DIRECTORY | _GO_LINK | _GO_OTHER) and bool(mode & 0o111)
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        return False

    def _status(self, container: str, path: str) -> tuple[int, str] | None:
        response = self.api.head(
            # The SDK has no call for it.
            self.api._url("/containers/{0}/archive", container),  # type: ignore[attr-defined]  # noqa: SLF001
            params={"path": path},
            timeout=TIMEOUT,
        )
        if response.status_code != http.HTTPStatus.OK:
            return None
        try:
            value = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
            return int(value["mode"]), str(value.get("linkTarget") or "")
        except (KeyError, ValueError, TypeError):
            return None


def connect(subject: str) -> Engine:
    """The engine that the docker command would use; ``subject`` is what the user wants of it, for messages.

    Raises:
        InputError: when there is none, or it does not answer.
    """
    import docker  # noqa: PLC0415 - 0.2 s
    from docker.errors import DockerException  # noqa: PLC0415

    address, options = _address(os.environ)
    if address.startswith("ssh://"):
        raise InputError(
            subject,
            f"the engine at {address} is behind ssh, and is not spoken to",
            'Let the docker command carry it: via:"docker exec -i NAME"; or run driftcheck there',
        )
    with _errors(subject, address):
        try:
            return Engine(docker.APIClient(base_url=address, version="auto", timeout=TIMEOUT, **options), address)
        except DockerException as error:
            if "scheme" in str(error) or "Invalid" in str(error):
                hint = "DOCKER_HOST is like unix:///var/run/docker.sock or tcp://HOST:2376"
                raise InputError(subject, f"{address} is no address of an engine", hint) from error
            raise


_NAME_IT = (
    "Start the engine (sudo systemctl start docker), or name it with DOCKER_HOST; without one there are archive:FILE "
    "(of docker save) and rootfs:DIR"
)


def _address(environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """``(address, further options of APIClient)``, in the order of the docker command."""
    from docker.errors import DockerException  # noqa: PLC0415
    from docker.utils import kwargs_from_env  # noqa: PLC0415

    if environ.get("DOCKER_HOST"):
        try:
            found: dict[str, Any] = {**kwargs_from_env()}
        except DockerException as error:
            raise InputError(
                "DOCKER_HOST", _one_line(error), "Look at DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"
            ) from error
        return found.pop("base_url", environ["DOCKER_HOST"]), found
    context = _context(environ.get("DOCKER_CONTEXT"))
    if context is not None:
        return context
    for socket in _usual_sockets(environ):
        if _is_socket(socket):
            return f"unix://{socket}", {}
    return ("npipe:////./pipe/docker_engine" if os.name == "nt" else "unix:///var/run/docker.sock"), {}


def _context(name: str | None) -> tuple[str, dict[str, Any]] | None:
    """What a docker context says; None for the default one."""
    from docker.context import ContextAPI  # noqa: PLC0415
    from docker.context.config import get_current_context_name  # noqa: PLC0415

    wanted = name or get_current_context_name()
    if wanted in {None, "", "default"}:
        return None
    where = f"docker context {wanted}"
    hint = "Look at: docker context ls"
    try:
        context = ContextAPI.get_context(wanted)
    except Exception as error:  # the SDK raises whatever reading a broken file raises
        raise InputError(where, f"cannot be read: {_one_line(error)}", hint) from error
    if context is None:
        raise InputError(where, "there is no such context", hint)
    host = context.Host
    if not isinstance(host, str) or not host:
        raise InputError(where, "it names no engine", hint)
    options = {"tls": context.TLSConfig} if context.TLSConfig is not None else {}
    return host, options


def _usual_sockets(environ: Mapping[str, str]) -> list[str]:
    runtime = environ.get("XDG_RUNTIME_DIR")
    home = environ.get("HOME")
    return [
        "/var/run/docker.sock",
        *([f"{runtime}/docker.sock"] if runtime else []),
        *([f"{home}/.docker/run/docker.sock", f"{home}/.docker/desktop/docker.sock"] if home else []),
        *([f"{runtime}/podman/podman.sock"] if runtime else []),
        "/run/podman/podman.sock",
    ]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


# --- errors in words


@contextlib.contextmanager
def _errors(subject: str, where: str) -> Iterator[None]:
    import requests  # noqa: PLC0415
    import urllib3  # noqa: PLC0415
    from docker.errors import APIError, DockerException  # noqa: PLC0415

    try:
        yield
    except APIError as error:
        raise InputError(subject, _said(error, where)) from error
    except (
        DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
    ) as error:
        problem, hint = _trouble(error, where)
        raise InputError(subject, problem, hint) from error


def _said(error: Any, where: str) -> str:
    """An error answer of the engine. Its own words are the best there are, on one line."""
    text = _one_line(error.explanation or error)
    return f"the engine says: {text.rstrip('.')}" if text else f"the engine at {where} answered with an error"


def _trouble(error: BaseException, where: str) -> tuple[str, str]:
    """What lies behind an exception of the network: ``(problem, hint)``."""
    import requests  # noqa: PLC0415
    import urllib3  # noqa: PLC0415

    causes = list(_causes(error))
    system = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    code = system.errno if system is not None else None
    if code in {errno.ENOENT, errno.ENOTSOCK}:
        return f"no container engine: there is no socket {where}", _NAME_IT
    if code in {errno.EACCES, errno.EPERM}:
        return f"no permission to use the engine's socket {where}", "Join its group (docker), or use sudo"
    if code == errno.ECONNREFUSED:
        return f"no container engine: nothing listens at {where}", _NAME_IT
    if any(isinstance(cause, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) for cause in causes):
        return f"the engine at {where} did not answer within {TIMEOUT} s", "Is it overloaded, or paused?"
    if any(isinstance(cause, http.client.RemoteDisconnected | ConnectionError) for cause in causes):
        return f"the engine at {where} ended the connection", "Did it stop?"
    text = _one_line(system.strerror if system is not None and system.strerror else error)
    return f"no answer from an engine at {where}: {text}", _NAME_IT


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything that led to it; requests and urllib3 keep it in ``args`` and ``reason``."""
    waiting: list[Any] = [error]
    seen = set()
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _one_line(error: Any) -> str:
    text = error.decode("utf-8", "replace") if isinstance(error, bytes) else str(error)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:500]


# --- what an engine says of an image or a container


def described(answer: Any, engine: Engine, subject: str) -> dict[str, Any]:
    """What an engine says of an image or a container.

    Raises:
        InputError: when that is nothing that an engine would say.
    """
    if not isinstance(answer, dict) or not isinstance(answer.get("Id"), str):
        raise InputError(subject, f"what answers at {engine.where} is no container engine")
    return answer


def architecture(machine: str) -> str:
    """A kind of machine as OCI (and Go) call it; uname(2) has other names for some."""
    return _ARCHITECTURES.get(machine, machine)


def configuration(config: Any) -> dict[str, Any]:
    """The image configuration that probes read, from the ``Config`` of an image or a container."""
    return {
        "entrypoint": words(config, "Entrypoint"),
        "cmd": words(config, "Cmd"),
        "working_dir": text(config, "WorkingDir"),
        "user": text(config, "User"),
        "env": variables(config),
        "ports": {str(port)[:100]: True for port in sorted(table(config, "ExposedPorts"))[:1000]},
        "stop_signal": text(config, "StopSignal") or None,
        "healthcheck": value(config, "Healthcheck") if isinstance(value(config, "Healthcheck"), dict) else None,
        "shell": words(config, "Shell"),
    }


def image_header(attributes: Any) -> dict[str, Any]:
    """The header's ``image``, from what the engine says of an image."""
    digests = value(attributes, "RepoDigests")
    return {
        "id": text(attributes, "Id"),
        "digests": {_public(str(digest)): True for digest in (digests if isinstance(digests, list) else [])[:100]},
        "layers": words(table(attributes, "RootFS"), "Layers"),
        "labels": {
            str(name)[:200]: str(label)[:2000]
            for name, label in sorted(table(table(attributes, "Config"), "Labels").items())[:200]
        },
        "architecture": text(attributes, "Architecture"),
        "os": text(attributes, "Os"),
        "created": text(attributes, "Created"),
    }


def _public(name: str) -> str:
    """A repository without the host of its registry: that is the user's, and the digest is the same everywhere."""
    first, slash, rest = name[:500].partition("/")
    return rest if slash and (set(first) & set(".:") or first == "localhost") else name[:500]


def variables(config: Any) -> dict[str, str]:
    """``Env`` as a table."""
    pairs = [line.partition("=") for line in words(config, "Env")]
    return {name: content for name, sign, content in pairs if sign and name}


def value(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else None


def table(record: Any, name: str) -> dict[str, Any]:
    found = value(record, name)
    return found if isinstance(found, dict) else {}


def text(record: Any, name: str) -> str:
    found = value(record, name)
    return found[:10_000] if isinstance(found, str) else ""


def words(record: Any, name: str) -> list[str]:
    """A list of texts; a single text is a list of one."""
    found = value(record, name)
    if isinstance(found, str):
        return [found[:100_000]] if found else []
    return [str(word)[:100_000] for word in found[:10_000]] if isinstance(found, list) else []
