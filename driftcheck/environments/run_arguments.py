"""``--run-arg``: an image is measured as it is deployed, with the options of ``docker run`` that give it its rights.

A table from each option to the parameter of the engine's API that it sets. What is not in it is refused.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driftcheck.errors import InputError

_WHERE = "--run-arg"


@dataclass
class RunArguments:
    """``host`` are parameters of the SDK's ``create_host_config``, ``create`` of ``create_container``.

    ``text`` is what was given, without the values of variables.
    """

    host: dict[str, Any] = field(default_factory=dict)
    create: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.create.get("environment", {}))


_Setter = Callable[[RunArguments, str], None]


def parse(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> RunArguments:
    """Read ``--gpus all``, ``--shm-size=2g``, ``-e NAME``: one or several words in each argument.

    Raises:
        InputError: for an option that is not in the table, and a value that means nothing.
    """
    found = RunArguments()
    words = _words(arguments)
    shown = []
    while words:
        word = words.pop(0)
        name, sign, value = word.partition("=")
        if not word.startswith("--") and word.startswith("-") and len(word) > 2 and not sign:
            name, sign, value = word[:2], "=", word[2:]  # -eNAME
        name = _SHORT.get(name, name)
        if name in _FLAGS:
            if sign and value not in {"true", "false"}:
                raise InputError(_WHERE, f"{name} takes no value")
            if value != "false":
                _FLAGS[name](found)
            shown.append(name)
            continue
        setter = _OPTIONS.get(name)
        if setter is None:
            raise InputError(_WHERE, f"{word.split('=')[0]!r} is not supported", f"These are: {', '.join(_known())}")
        if not sign:
            if not words:
                raise InputError(_WHERE, f"{name} has no value", f'For example: --run-arg "{name} VALUE"')
            value = words.pop(0)
        if name == "--env" and "=" not in value:
            value = f"{value}={environ.get(value, '')}"
        setter(found, value)
        shown.append(f"{name} {value.partition('=')[0] if name == '--env' else value}")
    found.text = " ".join(shown)
    return found


def _words(arguments: Sequence[str]) -> list[str]:
    words = []
    for argument in arguments:
        try:
            words += shlex.split(argument)
        except ValueError as error:
            raise InputError(_WHERE, f"{argument!r} cannot be split into words: {error}") from error
    return words


def _known() -> list[str]:
    return sorted([*_OPTIONS, *_FLAGS])


_SIZE = re.compile(r"\d+(?:\.\d+)?[bkmgt]?b?", re.IGNORECASE)
_UNITS = {"b": 1, "": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _size(option: str, parameter: str) -> _Setter:
    def set_it(found: RunArguments, value: str) -> None:
        if not _SIZE.fullmatch(value):
            raise InputError(_WHERE, f"{option} {value!r} is no size", "For example: 512m, 2g")
        text = value.lower()
        text = text[:-1] if len(text) > 1 and text[-1] == "b" and text[-2].isalpha() else text
        unit = text[-1] if text[-1].isalpha() else ""
        found.host[parameter] = int(float(text.removesuffix(unit)) * _UNITS[unit])

    return set_it


def _text(parameter: str) -> _Setter:
    def set_it(found: RunArguments, value: str) -> None:
        found.host[parameter] = value

    return set_it


def _several(parameter: str) -> _Setter:
    def set_it(found: RunArguments, value: str) -> None:
        found.host.setdefault(parameter, []).append(value)

    return set_it


def _created(parameter: str) -> _Setter:
    def set_it(found: RunArguments, value: str) -> None:
        found.create[parameter] = value

    return set_it


def _number(option: str, parameter: str) -> _Setter:
    def set_it(found: RunArguments, value: str) -> None:
        if not re.fullmatch(r"-?\d+", value):
            raise InputError(_WHERE, f"{option} {value!r} is no number")
        found.host[parameter] = int(value)

    return set_it


def _cpus(found: RunArguments, value: str) -> None:
    if not re.fullmatch(r"\d+(?:\.\d+)?|\.\d+", value):
        raise InputError(_WHERE, f"--cpus {value!r} is no number")
    found.host["nano_cpus"] = int(float(value) * 1e9)


def _gpus(found: RunArguments, value: str) -> None:
    """``all``, a number, or ``device=0,1`` (docker wants quotes around a list: they may be there)."""
    from docker.types import DeviceRequest  # noqa: PLC0415

    text = value.strip("\"'")
    capabilities = [["gpu"]]
    if text == "all":
        request = DeviceRequest(count=-1, capabilities=capabilities)
    elif text.isdecimal() and len(text) < 10:
        request = DeviceRequest(count=int(text), capabilities=capabilities)
    elif text.startswith("device="):
        request = DeviceRequest(device_ids=text.removeprefix("device=").split(","), capabilities=capabilities)
    else:
        raise InputError(_WHERE, f"--gpus {value!r} is not understood", "It is all, a number, or device=0,1")
    found.host["device_requests"] = [request]


def _environment(found: RunArguments, value: str) -> None:
    name, _, content = value.partition("=")
    if not name:
        raise InputError(_WHERE, f"--env {value!r} names no variable")
    found.create.setdefault("environment", {})[name] = content


def _volume(found: RunArguments, value: str) -> None:
    parts = value.split(":")
    if not 2 <= len(parts) <= 3 or not parts[1].startswith("/"):
        raise InputError(_WHERE, f"--volume {value!r} is not understood", "It is SOURCE:/PATH or SOURCE:/PATH:ro")
    if parts[0].startswith((".", "~")):
        parts[0] = os.path.abspath(os.path.expanduser(parts[0]))  # noqa: PTH100, PTH111 - the engine resolves links
    found.host.setdefault("binds", []).append(":".join(parts))


def _ulimit(found: RunArguments, value: str) -> None:
    from docker.types import Ulimit  # noqa: PLC0415

    matched = re.fullmatch(r"(?P<name>\w+)=(?P<soft>-?\d+)(?::(?P<hard>-?\d+))?", value)
    if matched is None:
        raise InputError(_WHERE, f"--ulimit {value!r} is not understood", "It is NAME=SOFT or NAME=SOFT:HARD")
    soft = int(matched["soft"])
    limit = Ulimit(name=matched["name"], soft=soft, hard=int(matched["hard"] or soft))
    found.host.setdefault("ulimits", []).append(limit)


def _tmpfs(found: RunArguments, value: str) -> None:
    path, _, options = value.partition(":")
    found.host.setdefault("tmpfs", {})[path] = options


def _read_only(found: RunArguments) -> None:
    found.host["read_only"] = True


_SHORT = {"-e": "--env", "-v": "--volume", "-m": "--memory", "-u": "--user"}
_FLAGS: dict[str, Callable[[RunArguments], None]] = {"--read-only": _read_only}
_OPTIONS: dict[str, _Setter] = {
    "--gpus": _gpus,
    "--shm-size": _size("--shm-size", "shm_size"),
    "--memory": _size("--memory", "mem_limit"),
    "--memory-swap": _size("--memory-swap", "memswap_limit"),
    "--cpus": _cpus,
    "--cpuset-cpus": _text("cpuset_cpus"),
    "--pids-limit": _number("--pids-limit", "pids_limit"),
    "--user": _created("user"),
    "--env": _environment,
    "--volume": _volume,
    "--device": _several("devices"),
    "--runtime": _text("runtime"),
    "--ipc": _text("ipc_mode"),
    "--ulimit": _ulimit,
    "--cap-add": _several("cap_add"),
    "--security-opt": _several("security_opt"),
    "--tmpfs": _tmpfs,
    "--group-add": _several("group_add"),
    "--platform": _created("platform"),
}
