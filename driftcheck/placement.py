"""An environment on another machine: the snapshot that it would give there, of two that were measured apart.

The layer of each section decides: what travels with the image and what one start adds stay, what the
machine is comes from the machine. What a fact of the one says of the other is worked out again, and what had to be
taken for granted is written into the header.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driftcheck.probes.common import digest
from driftcheck.snapshot import Section, Snapshot

# The parts of a snapshot that a machine brings, also where it was measured by an older driftcheck.
_MACHINE = "machine"

# What `docker run` gives a container that says nothing: size of /dev/shm (--shm-size), capabilities
# (docs.docker.com/engine/containers/run), control groups without limits.
_SHM_BYTES = 64 << 20
_CAPABILITIES = (
    "audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service", "net_raw",
    "setfcap", "setgid", "setpcap", "setuid", "sys_chroot",
)  # fmt: skip


def place(environment: Snapshot, machine: Snapshot) -> Snapshot:
    """``environment`` as it would be measured on ``machine``.

    Its sections of the layer ``machine`` are those of ``machine``; one that was not measured there is not measured
    in the result either. The header's ``on`` names the machine, ``assumptions`` says what was taken for granted.
    """
    sections = {name: section for name, section in environment.sections.items() if section.layer != _MACHINE}
    for name in {*environment.sections, *machine.sections} - sections.keys():
        sections[name] = machine.sections.get(name) or _unmeasured(environment.sections[name], machine)
    assumptions = []
    header = dict(environment.header)
    if "limits" in sections:
        if sections["limits"].status == "unavailable":
            header["run_defaults"] = True  # nothing was started: what the limits hold is what an engine's default is
        sections["limits"], assumed = _limits(environment, sections)
        assumptions.append(assumed)
    if "gpu" in sections:
        sections["gpu"] = _devices(sections["gpu"], sections)
        assumptions.append(_driver(sections["gpu"]))
    header |= {
        "label": f"{environment.label} on {machine.label}",
        "on": {"label": machine.label, "reference": str(machine.header["reference"])},
        "assumptions": assumptions,
    }
    return Snapshot(header, dict(sorted(sections.items())), (*environment.warnings, *machine.warnings))


def _unmeasured(own: Section, machine: Snapshot) -> Section:
    """A section that the machine's snapshot lacks: what was measured elsewhere says nothing of it."""
    return replace(
        own,
        status="unavailable",
        reason=f"{machine.label} was measured without it",
        problems=[],
        facts={},
        digest=digest({}),
    )


def _limits(environment: Snapshot, sections: Mapping[str, Section]) -> tuple[Section, str]:
    """The limits of a start on the machine, and in words what they rest on."""
    section = sections["limits"]
    cores = _of(sections, _MACHINE, "cores", "online")
    if section.measured:
        facts = {**section.facts, **_processors(section.facts, cores)}
        defaults = environment.header.get("run_defaults")
        if defaults is True:
            words = "as docker run starts it without options, in the limits that the engine here gives"
        elif defaults:
            words = f"as docker run {defaults} starts it, in the limits that the engine here gives"
        else:
            words = "as it was when it was measured: the same user, variables and limits"
    elif section.status == "unavailable":
        facts = _container_limits(cores)
        words = (
            "as docker run starts it without options: no limit of memory or CPUs, 64 MiB of /dev/shm, "
            "the default capabilities"
        )
    else:
        return section, "it is started with the machine's own limits"
    section = replace(section, status="ok", reason=None, facts=facts, digest=digest(facts))
    return section, f"It is started {words}."


def _processors(facts: Mapping[str, Any], cores: int | None) -> dict[str, Any]:
    """The CPUs of a start on a machine of so many; a start that was confined to some keeps their number."""
    cpus = facts.get("cpus")
    if not cpus or cores is None:
        return {}
    confined = cpus["affinity"] is not None and cpus["affinity"] != cpus["online"]
    affinity = min(cpus["affinity"], cores) if confined else cores
    quota = (facts.get("cgroup") or {}).get("cpu_quota")
    limit: tuple[int, str] = (affinity, "affinity" if confined else "online")
    if quota is not None and math.ceil(quota) < affinity:
        limit = (max(1, math.ceil(quota)), "quota")
    return {
        "cpus": {"affinity": affinity, "online": cores},
        "cpu_limit": {"cpus": limit[0], "decided_by": limit[1]},
    }


def _container_limits(cores: int | None) -> dict[str, Any]:
    """What the documentation of docker run says of a start without options, on a machine of so many CPUs."""
    return {
        "cgroup": {"version": None, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": None},
        "cpus": {"affinity": cores, "online": cores},
        "cpu_limit": {"cpus": cores, "decided_by": "online" if cores else None},
        "shm": {"path": "/dev/shm", "size_bytes": _SHM_BYTES, "filesystem": "tmpfs"},  # noqa: S108 - no file is made
        "capabilities": dict.fromkeys(_CAPABILITIES, True),
    }


def _devices(section: Section, sections: Mapping[str, Section]) -> Section:
    """The machine's GPUs with their device files as the environment's user may open them."""
    nvidia = section.facts.get("nvidia") if section.measured else None
    user = _of(sections, "limits", "user")
    if not nvidia or not user or user["uid"] is None:
        return section
    nodes = {
        path: {**node, "accessible": _accessible(node, user["uid"], user["gid"])}
        for path, node in nvidia["device_nodes"].items()
    }
    facts = {**section.facts, "nvidia": {**nvidia, "device_nodes": nodes}}
    return replace(section, facts=facts, digest=digest(facts))


def _accessible(node: Mapping[str, Any], uid: int, gid: int | None) -> bool:
    """Whether a user may read and write a device file, from its mode and owner alone (path_resolution(7))."""
    mode = int(node["mode"], 8)
    if uid == 0:
        return True
    shift = 6 if node["uid"] == uid else 3 if node["gid"] == gid else 0
    return mode >> shift & 6 == 6


def _driver(section: Section) -> str:
    """In words: what the machine's container runtime is taken to bring into the container."""
    if not section.measured:
        return "Nothing is known of a GPU or its driver there."
    nvidia = section.facts.get("nvidia")
    if not nvidia or not (nvidia["driver"] or nvidia["kernel_module"]):
        return "The machine has no NVIDIA driver, so none is brought into the container."
    return (
        f"The NVIDIA container toolkit brings the libraries and all devices of driver {nvidia['driver'] or 'there'} "
        "into the container, as with docker run --gpus all."
    )


def _of(sections: Mapping[str, Section], name: str, *path: str) -> Any:
    """A fact of one of the sections, or None."""
    section = sections.get(name)
    value: Any = section.facts if section is not None and section.measured else None
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
