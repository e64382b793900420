"""Measures an unpacked root file system: the same probes over files, with nothing of it run.

What only a running interpreter, kernel or start knows is unavailable then, with the reason; everything else is what
a measurement inside of the container gives, to the digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driftcheck import __version__
from driftcheck.collect import Request, with_header
from driftcheck.errors import InputError
from driftcheck.probes import common, payload, static_python
from driftcheck.probes.redaction import Redactor, redact_secrets
from driftcheck.snapshot import Snapshot, parse

# Container engines set this where an image sets none (containerd's oci.DefaultPathEnv, Docker's default).
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What there is to say of an interpreter is nothing, where there is none.
_OF_INTERPRETER = ("python", "packages", "libraries")

_NONE = "there is no Python interpreter in these files"


def measure_root(
    root: Path,
    request: Request,
    *,
    image_config: Mapping[str, Any] | None = None,
    python: str | None = None,
    channel: str,
    header: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Measure the files below ``root``, as one interpreter among them would find them.

    ``image_config``  of the image, as ``engine.configuration`` writes it; that of the request, if not given
    ``python``        the interpreter, as a path inside the root or a name on its PATH; else the one that the
                      start command comes down to, else the one on PATH
    ``header``        more for the header of the snapshot, beside what the request brings

    Raises:
        InputError: when ``python`` names no interpreter in these files.
    """
    config = request.image_config if image_config is None else image_config
    directory = str((config or {}).get("working_dir") or "/")
    place = common.Place(
        str(root),
        environment(root, config),
        [],
        live=False,
        options={
            "image_config": config,
            "variables": list(request.variables),
            "artifacts": list(request.artifacts),
            "directory": directory,
        },
    )
    layout, reason = choose(place, python, config, directory)
    probes: dict[str, Any] = {**payload.PROBES, "python": static_python, **payload.on_request(place.options)}
    interpreter = {"path": "", "version": "", "reason": reason, "working_directory": directory}
    more: dict[str, Any] = {**request.header, **(header or {})}
    if layout is None:
        probes.update((name, _Absent(name, probes[name])) for name in _OF_INTERPRETER if name in probes)
    else:
        place.search_path = list(layout.search_path)
        place.options.update(
            layout=layout, executable=layout.executable, prefix=layout.prefix, standard_library=layout.standard
        )
        version = static_python.full_version(layout) or ".".join(map(str, layout.version))
        interpreter.update(path=layout.executable, version=version)
        more["other_interpreters"] = _others(place, layout.executable, directory)
    options = {
        "reference": redact_secrets(request.reference),
        "label": request.label,
        "channel": channel,
        "version": __version__,
    }
    document = payload.measured(probes, place, _redactor(place, config), interpreter, options)
    text = json.dumps(document, sort_keys=True).encode("ascii")
    return with_header(parse(text, request.reference), more)


def environment(root: Path, config: Mapping[str, Any] | None) -> dict[str, str]:
    """The variables of a start of these files: the image's, and what every engine adds (PATH, HOME)."""
    variables = {str(name): str(value) for name, value in ((config or {}).get("env") or {}).items()}
    variables.setdefault("PATH", _PATH)
    variables.setdefault("HOME", _account(root, config)[1])
    return variables


def _account(root: Path, config: Mapping[str, Any] | None) -> tuple[str, str]:
    """``(name, home)`` of the user that the image names, from its passwd(5); root where it names none."""
    user = str((config or {}).get("user") or "0").partition(":")[0]
    place = common.Place(str(root), {}, [], live=False)
    for line in (place.read_text("/etc/passwd", 1 << 20) or "").splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and user in (fields[0], fields[2]):
            return fields[0], fields[5] or "/"
    return "", "/root" if user in {"0", "root"} else "/"


def _redactor(place: common.Place, config: Mapping[str, Any] | None) -> Redactor:
    """Hides the image's user as a measurement inside would; nothing of ours is in these files."""
    name, home = _account(Path(place.root), config)
    others = [place.environ.get(variable, "") for variable in ("LOGNAME", "USER", "USERNAME", "SUDO_USER")]
    return Redactor(place.environ.get("HOME") or home, name, others)


def choose(
    place: common.Place, python: str | None, config: Mapping[str, Any] | None, directory: str
) -> tuple[static_python.Layout | None, str]:
    """The interpreter to look from, and why this one; None where there is none.

    Raises:
        InputError: when ``python`` names none.
    """
    if python is not None:
        path = _named(place, python)
        if path is None:
            raise InputError(python, "no such program in these files", "Name it by its path in them")
        try:
            return static_python.inspect(place, path, directory), "--python names it"
        except common.Unavailable as error:
            raise InputError(python, str(error)) from error
    failed: list[str] = []
    for path, reason in _candidates(place, config, directory):
        if path is None:
            failed.append(reason)
            continue
        try:
            layout = static_python.inspect(place, path, directory)
        except common.Unavailable as error:
            failed.append(str(error))
            continue
        return layout, "; ".join([reason, *failed])
    return None, "; ".join([_NONE, *failed])


def _candidates(
    place: common.Place, config: Mapping[str, Any] | None, directory: str
) -> Iterator[tuple[str | None, str]]:
    from driftcheck.probes import interpreters  # noqa: PLC0415

    if config is not None:
        yield interpreters.resolved(place, config)
    found = interpreters.on_path(place)
    if found is not None:
        yield found, f"{found.rpartition('/')[2]} on PATH"
    for path, what in sorted(interpreters.environments(place, found or "", directory).items()):
        yield path, f"{what}, and nothing names another"


def _named(place: common.Place, python: str) -> str | None:
    if "/" in python:
        path = python if python.startswith("/") else "/" + python
        if place.is_dir(path):
            path = path.rstrip("/") + "/bin/python"
        return path if place.exists(path) else None
    for folder in place.environ["PATH"].split(":"):
        path = f"{folder.rstrip('/')}/{python}"
        if folder.startswith("/") and place.exists(path):
            return path
    return None


def _others(place: common.Place, chosen: str, directory: str) -> dict[str, str]:
    from driftcheck.probes import interpreters  # noqa: PLC0415

    found = interpreters.environments(place, chosen, directory)
    return {str(path)[:1000]: str(what)[:300] for path, what in sorted(found.items())[:100]}


class _Absent:
    """Stands for the probe of a section that has nothing to describe."""

    def __init__(self, name: str, probe: Any) -> None:
        self.name = name
        self.LAYER = probe.LAYER

    def measure(self, place: common.Place) -> dict[str, Any]:
        del place
        raise common.Absent(_NONE)
