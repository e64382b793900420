"""`check ENVIRONMENT --on MACHINE`: which facts come from where, what is worked out again, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes.common import digest
from support.commands import driftcheck
from support.snapshots import python, snapshot

from driftcheck import validation
from driftcheck.placement import place
from driftcheck.snapshot import Section, Snapshot

NODE_CPUS = 32


def machine(**facts: Any) -> dict[str, Any]:
    return {"architecture": "x86_64", "level": "x86-64-v3", "emulation": None} | facts


def gpu(**nvidia: Any) -> dict[str, Any]:
    node = {"mode": "660", "uid": 0, "gid": 44, "accessible": True}
    facts = {
        "kernel_module": {"version": "570.86.15", "flavour": "open"},
        "device_nodes": {"/dev/nvidia0": node},
        "libcuda": None,
        "nvml": None,
        "asked": None,
        "driver": "570.86.15",
        "cuda": "12.8",
        "devices": {},
        "fabric_manager": None,
    }
    return {"nvidia": facts | nvidia, "amd": None}


def limits(uid: int = 0, gid: int = 0, *, affinity: int = 4, quota: float | None = None) -> dict[str, Any]:
    cgroup = {"version": 2, "cpu_quota": quota, "cpuset": None, "memory_bytes": None, "pids": None}
    return {
        "cgroup": cgroup,
        "cpus": {"affinity": affinity, "online": 4},
        "cpu_limit": {"cpus": 4, "decided_by": "online"},
        "user": {"uid": uid, "gid": gid, "passwd_entry": True},
    }


def layered(found: Snapshot, **layers: str) -> Snapshot:
    sections = {
        name: Section(name, layers.get(name, section.layer), "ok", None, [], section.facts, section.digest)
        for name, section in found.sections.items()
    }
    return Snapshot(found.header, sections)


def image(**sections: Any) -> Snapshot:
    here = machine(level="x86-64-v1", cores={"online": 4, "physical": 2})
    found = snapshot("svc:1.4", python=python(), machine=here, **{"limits": limits(), **sections})
    return layered(found, gpu="machine", cuda="image")


def node(**sections: Any) -> Snapshot:
    there = machine(cores={"online": NODE_CPUS, "physical": 16})
    found = layered(snapshot("node7", python=python(version="3.9.2"), machine=there, **sections), gpu="machine")
    found.header["reference"] = "node7.json"
    return found


def without(found: Snapshot, name: str, status: str = "unavailable") -> Snapshot:
    section = Section(name, found.sections[name].layer, status, "not here", [], {}, digest({}))
    return Snapshot(found.header, found.sections | {name: section})


def test_the_machine_brings_its_own_layer_and_nothing_else() -> None:
    placed = place(image(), node(gpu=gpu()))
    assert placed.facts("machine") == node().facts("machine")
    assert placed.facts("python") == image().facts("python")
    assert placed.facts("gpu")["nvidia"]["driver"] == "570.86.15"  # type: ignore[index]
    assert placed.header["on"] == {"label": "node7", "reference": "node7.json"}
    assert placed.label == "svc:1.4 on node7"


def test_what_was_not_measured_on_the_machine_is_not_taken_from_elsewhere() -> None:
    placed = place(layered(image(gpu=gpu()), gpu="machine"), node())
    section = placed.sections["gpu"]
    assert (section.status, section.facts) == ("unavailable", {})
    assert section.reason == "node7 was measured without it"
    assert placed.header["assumptions"][-1] == "Nothing is known of a GPU or its driver there."


def test_the_facts_that_are_worked_out_again_have_a_digest_of_their_own() -> None:
    placed = place(image(), node(gpu=gpu()))
    for section in placed.sections.values():
        assert section.digest == digest(section.facts)


@pytest.mark.parametrize(
    ("start", "cpus"),
    [
        (limits(), {"cpus": NODE_CPUS, "decided_by": "online"}),
        (limits(affinity=2), {"cpus": 2, "decided_by": "affinity"}),
        (limits(quota=1.5), {"cpus": 2, "decided_by": "quota"}),
    ],
)
def test_the_start_has_the_cpus_of_the_machine_within_its_own_limits(
    start: dict[str, Any], cpus: dict[str, Any]
) -> None:
    placed = place(image(limits=start), node())
    found = placed.facts("limits")
    assert found is not None
    assert found["cpu_limit"] == cpus
    assert found["cpus"]["online"] == NODE_CPUS
    assert found["user"] == start["user"]


@pytest.mark.parametrize(
    ("uid", "gid", "accessible"), [(0, 0, True), (1000, 44, True), (1000, 1000, False), (1000, 0, False)]
)
def test_device_files_are_those_of_the_machine_for_the_user_of_the_image(uid: int, gid: int, accessible: bool) -> None:
    placed = place(image(limits=limits(uid, gid)), node(gpu=gpu()))
    nvidia = placed.facts("gpu")["nvidia"]  # type: ignore[index]
    assert nvidia["device_nodes"]["/dev/nvidia0"]["accessible"] is accessible


def test_the_owner_of_a_device_file_has_what_its_own_bits_say() -> None:
    mine = {"mode": "066", "uid": 1000, "gid": 44, "accessible": True}
    placed = place(image(limits=limits(1000, 44)), node(gpu=gpu(device_nodes={"/dev/nvidia0": mine})))
    nvidia = placed.facts("gpu")["nvidia"]  # type: ignore[index]
    assert nvidia["device_nodes"]["/dev/nvidia0"]["accessible"] is False


def test_files_that_nothing_started_get_the_documented_defaults_and_it_is_said() -> None:
    placed = place(without(image(), "limits"), node())
    found = placed.facts("limits")
    assert found is not None
    validation.check("snapshot", {**json.loads(placed.text()), "header": _whole(placed.header)}, "placed")
    assert found["shm"]["size_bytes"] == 64 << 20
    assert found["cpu_limit"] == {"cpus": NODE_CPUS, "decided_by": "online"}
    assert "64 MiB of /dev/shm" in placed.header["assumptions"][0]


def test_the_assumptions_say_how_it_would_be_started() -> None:
    by_default = image()
    by_default.header["run_defaults"] = True
    assert "as docker run starts it without options" in place(by_default, node()).header["assumptions"][0]
    with_options = image()
    with_options.header["run_defaults"] = "--shm-size 1g"
    assert "as docker run --shm-size 1g starts it" in place(with_options, node()).header["assumptions"][0]
    assert "toolkit brings" in place(by_default, node(gpu=gpu())).header["assumptions"][-1]
    assert (
        "has no NVIDIA driver" in place(by_default, node(gpu={"nvidia": None, "amd": None})).header["assumptions"][-1]
    )


def _whole(header: dict[str, Any]) -> dict[str, Any]:
    interpreter = {"path": "", "version": "", "reason": "", "working_directory": ""}
    tool = {"name": "driftcheck", "version": "0"}
    return {
        "created": "2026-11-22T00:00:00Z", "tool": tool, "reference": "image:svc", "channel": "image",
        "interpreter": interpreter, **header,
    }  # fmt: skip


def test_the_command_judges_an_image_on_a_machine_that_is_a_file(tmp_path: Path) -> None:
    """The machine's own snapshot, but for its processor: the interpreter here cannot run on it."""
    own = tmp_path / "here.json"
    assert driftcheck("snapshot", "-o", str(own)).code == 0
    document = json.loads(own.read_text())
    document["header"]["label"] = "a RISC-V node"
    facts = document["sections"]["machine"]["facts"]
    facts["architecture"], facts["level"], facts["emulation"] = "riscv64", None, None
    other = tmp_path / "node.json"
    other.write_text(json.dumps(document))
    answer = driftcheck("check", str(own), "--on", str(other), "--format", "json")
    assert answer.code == 1
    (target,) = json.loads(answer.out)["targets"]
    assert target["environment"]["header"]["on"]["label"] == "a RISC-V node"
    assert "CPU004" in [finding["code"] for finding in target["findings"]]
    assert "CPU004" not in driftcheck("check", str(own), "--on", str(own), "--format", "json").out


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_people_are_told_what_was_taken_for_granted(tmp_path: Path, form: str) -> None:
    own = tmp_path / "here.json"
    assert driftcheck("snapshot", "-o", str(own)).code == 0
    answer = driftcheck("check", str(own), "--on", str(own), "--format", form)
    assert "It is started as it was when it was measured" in " ".join(answer.out.split())


def test_one_standard_input_is_not_read_twice() -> None:
    answer = driftcheck("check", "-", "--on", "-")
    assert answer.code == 2
    assert "standard input can be read only once" in answer.err
