"""``image:REF``: an image of a local engine, measured in a container of its own that is gone afterwards.

That container has no network, no new privileges and no capability but DAC_OVERRIDE (root reads what root may read in
a plain run); its entry point is a Python interpreter of the image, and nothing else of the image is started, its
health check neither. An image without Python, or for a machine of another kind, is read from its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from driftcheck import progress
from driftcheck.collect import SIZE_LIMIT, TIME_LIMIT, Interpreter, Output, Request, Service, collect
from driftcheck.environments import Options, conversation, inside, run_arguments
from driftcheck.environments.container import cut_text
from driftcheck.environments.engine import (
    Engine,
    architecture,
    configuration,
    connect,
    described,
    image_header,
    table,
    text,
    value,
)
from driftcheck.environments.export import measure_files
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.environments.run_arguments import RunArguments
from driftcheck.errors import InputError
from driftcheck.interrupts import held_back
from driftcheck.probes.common import digest as digest_of
from driftcheck.snapshot import Snapshot

# On every container that we make, and when it is surely not in use any more (seconds since 1970).
LABEL = "driftcheck"
UNTIL = "driftcheck.until"
_GRACE = 120

# Kinds of machine whose programs another kind runs by itself.
_ALSO_RUNS = {("amd64", "386"), ("arm64", "arm")}


def measure(found: Reference, options: Options) -> Snapshot:
    """Measure it, and leave nothing behind.

    Raises:
        InputError: when there is no such image, or it cannot be measured.
    """
    arguments = run_arguments.parse(options.run_arguments)
    engine = connect(found.text)
    remove_leftovers(engine)
    attributes = _inspect(engine, found, options, arguments)
    config = configuration(value(attributes, "Config"))
    config["env"] = {**config["env"], **arguments.environment}
    config["user"] = arguments.create.get("user", config["user"])
    header = {"image": image_header(attributes), "run_defaults": arguments.text or True}
    request = request_for(found, options, image_config=config, header=header)
    maker = Maker(engine, str(attributes["Id"]), found.text, arguments)
    service = Service(choose=options.python is None, config=config)
    foreign = _foreign(engine, attributes)
    if foreign is None:
        try:
            taken = _in_a_container(maker, request, service, options.python)
        except inside.ForeignProgramError:
            if options.python is not None:
                raise
            foreign = "its interpreter is a program for another processor"
        else:
            if taken is not None:
                return taken
    why = foreign or "image without an interpreter"
    progress.step(f"Reading the files of {found.text} ({why})")
    request = dataclasses.replace(request, header={"image": header["image"]})
    with maker.container(["driftcheck"]) as idle:
        return measure_files(engine, idle, request, options)


def _in_a_container(maker: Maker, request: Request, service: Service, python: str | None) -> Snapshot | None:
    """Measured by an interpreter of the image in a container of it; None where it has none.

    Raises:
        ForeignProgramError: when the engine's machine cannot run that interpreter.
        InputError: when it cannot be started, or does not answer.
    """
    if python is None:
        # The usual case, without a look at its files, which takes a container of its own.
        with contextlib.suppress(inside.NoSuchProgramError):
            asked = Interpreter("python3", "python3 on PATH")
            return _as_plainly_run(collect(ImageChannel(maker), asked, request, service), maker)
    with maker.container(["driftcheck"]) as idle, maker.engine.errors(maker.subject):
        named = inside.interpreter(maker.engine, idle, service.config, python)
    if named is None:
        return None
    return _as_plainly_run(collect(ImageChannel(maker), named, request, service), maker)


def _inspect(engine: Engine, found: Reference, options: Options, arguments: RunArguments) -> dict[str, Any]:
    from docker.errors import NotFound  # noqa: PLC0415

    with engine.errors(found.text):
        if options.pull:
            _pull(engine, found, arguments.create.get("platform"))
        try:
            attributes = engine.api.inspect_image(found.name)  # type: ignore[no-untyped-call]
        except NotFound as error:
            hint = "Give --pull to pull it, or see: docker images"
            raise InputError(found.text, f"the engine at {engine.where} has no such image", hint) from error
    return described(attributes, engine, found.text)


def _pull(engine: Engine, found: Reference, platform: str | None) -> None:
    """Pull, and say how far it is. Errors of a registry come as lines of the answer.

    Raises:
        InputError: in the registry's words.
    """
    name, tag = _split(found.name)
    layers: dict[str, str] = {}
    for line in engine.api.pull(name, tag=tag, stream=True, decode=True, platform=platform):
        if text(line, "error"):
            raise InputError(found.text, f"cannot be pulled: {' '.join(text(line, 'error').split())[:500]}")
        if text(line, "id"):
            layers[text(line, "id")] = text(line, "status")
        done = sum(status in {"Pull complete", "Already exists"} for status in layers.values())
        progress.step(f"Pulling {found.name}", f"{done} of {len(layers)} layers")


def _split(name: str) -> tuple[str, str | None]:
    """Repository and tag, else every tag of it would be pulled. A digest stands for a tag."""
    if "@" in name:
        return name, None
    repository, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return name, "latest"


def _foreign(engine: Engine, attributes: Any) -> str | None:
    """Why the engine's machine cannot run this image itself; None where it can."""
    with engine.errors(engine.where):
        theirs = engine.api.version()
    wanted = (text(attributes, "Os") or "linux", architecture(text(attributes, "Architecture")))
    has = (text(theirs, "Os") or "linux", architecture(text(theirs, "Arch")))
    if not wanted[1] or not has[1] or wanted == has or (wanted[0] == has[0] and (has[1], wanted[1]) in _ALSO_RUNS):
        return None
    return f"image for {wanted[0]}/{wanted[1]}, and the engine runs {has[0]}/{has[1]}"


# Capabilities that Docker gives to root in a plain run (moby, oci/caps/defaults.go).
_GIVEN = frozenset(
    """
    audit_write chown dac_override fowner fsetid kill mknod net_bind_service net_raw setfcap setgid setpcap setuid
    sys_chroot
    """.split()  # noqa: SIM905 - a table
)


def _as_plainly_run(snapshot: Snapshot, maker: Maker) -> Snapshot:
    """With the rights of a plain run in place of those that we left it: our way of measuring is no fact of it.

    What Podman gives is a matter of its version and configuration, so that stays unknown.
    """
    section = snapshot.sections.get("limits")
    if section is None or not section.measured:
        return snapshot
    with maker.engine.errors(maker.subject):
        parts = value(maker.engine.api.version(), "Components")
    podman = any("Podman" in text(part, "Name") for part in (parts if isinstance(parts, list) else []))
    rights: frozenset[str] = frozenset()
    if value(value(section.facts, "user"), "uid") == 0:
        added = {name.lower().removeprefix("cap_") for name in maker.arguments.host.get("cap_add", ())}
        rights = _GIVEN | added
    options = [str(option) for option in maker.arguments.host.get("security_opt", ())]
    facts = {
        **section.facts,
        "capabilities": None if podman or "all" in rights else dict.fromkeys(sorted(rights), True),
        "no_new_privileges": any(option.startswith("no-new-privileges") for option in options),
    }
    limits = dataclasses.replace(section, facts=facts, digest=digest_of(facts))
    return dataclasses.replace(snapshot, sections={**snapshot.sections, "limits": limits})


@dataclass(frozen=True)
class Maker:
    """Makes containers of one image, and removes them."""

    engine: Engine
    image: str
    subject: str
    arguments: RunArguments

    @contextlib.contextmanager
    def container(self, command: Sequence[str]) -> Iterator[str]:
        """A container that has not been started; removed at the end, whatever the end is."""
        name = f"driftcheck-{secrets.token_hex(8)}"
        try:
            with held_back(), self.engine.errors(self.subject):
                made = str(self._create(name, command)["Id"])
            yield made
        finally:
            with held_back():
                self._remove(name)

    def _create(self, name: str, command: Sequence[str]) -> Any:
        api = self.engine.api
        given = self.arguments.host
        host = api.create_host_config(
            **{
                **given,
                "network_mode": "none",
                "cap_drop": ["ALL"],
                "cap_add": ["DAC_OVERRIDE", *given.get("cap_add", [])],
                "security_opt": ["no-new-privileges", *given.get("security_opt", [])],
            }
        )
        return api.create_container(
            self.image,
            name=name,
            entrypoint=[command[0]],
            command=list(command[1:]),
            stdin_open=True,
            tty=False,
            labels={LABEL: "1", UNTIL: str(int(time.time() + TIME_LIMIT + _GRACE))},
            host_config=host,
            healthcheck={"test": ["NONE"]},
            **self.arguments.create,
        )

    def _remove(self, name: str) -> None:
        """With its processes and its unnamed volumes. A container that was never made is none to remove."""
        from docker.errors import NotFound  # noqa: PLC0415

        with contextlib.suppress(NotFound), self.engine.errors(self.subject):
            try:
                self.engine.api.remove_container(name, v=True, force=True)
            except NotFound:
                return


@dataclass(frozen=True)
class ImageChannel:
    """Runs a program as the only process of a new container of an image."""

    maker: Maker
    name: str = "image"
    time_limit: float = TIME_LIMIT
    size_limit: int = SIZE_LIMIT

    def run(self, argv: Sequence[str], stdin: bytes) -> Output:
        subject = self.maker.subject
        frames = conversation.Frames(self.size_limit)
        with self.maker.container(argv) as container, self.maker.engine.errors(subject):
            connection = self._attach(container, argv[0])
            try:
                self._start(container, argv[0])
                why = conversation.converse(connection, stdin, frames, time.monotonic() + self.time_limit)
            finally:
                conversation.close(connection)
            code = -9 if why else self._exit_code(container)
        cut = cut_text(why, self.size_limit, self.time_limit)
        if code is None:
            code, cut = -9, "closed its output but did not end, and was ended"
        return inside.output(subject, argv[0], frames, code, cut)

    # Docker makes the program when it starts, Podman when somebody attaches.

    def _attach(self, container: str, program: str) -> Any:
        with _missing(self.maker.subject, program):
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return self.maker.engine.api.attach_socket(container, wanted)

    def _start(self, container: str, program: str) -> None:
        with _missing(self.maker.subject, program):
            self.maker.engine.api.start(container)

    def _exit_code(self, container: str) -> int | None:
        """Of a container whose output has ended; None where it goes on nevertheless.

        Raises:
            InputError: when it was ended for lack of memory.
        """
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            state = table(self.maker.engine.api.inspect_container(container), "State")
            if value(state, "OOMKilled") is True:
                raise InputError(self.maker.subject, "the container ran out of memory", "Raise --memory in --run-arg")
            code = value(state, "ExitCode")
            if value(state, "Running") is not True and isinstance(code, int):
                return code
            time.sleep(0.02)
        return None


@contextlib.contextmanager
def _missing(subject: str, program: str) -> Iterator[None]:
    """Tell a program that is not there from everything else that an engine may say."""
    from docker.errors import APIError  # noqa: PLC0415

    try:
        yield
    except APIError as error:
        if inside.is_missing(str(error.explanation)):
            raise inside.NoSuchProgramError(subject, f"there is no {program} in it") from error
        raise


def remove_leftovers(engine: Engine) -> None:
    """Remove containers that an earlier run could not (it was killed), once they are surely not in use."""
    from docker.errors import DockerException  # noqa: PLC0415

    with engine.errors(engine.where):
        old = engine.api.containers(all=True, filters={"label": LABEL})
        for entry in old:
            until = text(table(entry, "Labels"), UNTIL)
            if until.isdecimal() and len(until) < 20 and int(until) < time.time() and text(entry, "Id"):
                with contextlib.suppress(DockerException):
                    engine.api.remove_container(text(entry, "Id"), v=True, force=True)
