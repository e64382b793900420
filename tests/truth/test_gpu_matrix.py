"""Would this image run on that node? A written matrix, each expectation with its source, through ``check --on``.

Device code is that of real wheels, measured; where an image is described by a list of architectures, it is the one that
PyTorch's wheel of that version states (torch.cuda.get_arch_list). Bases are NVIDIA's public CUDA images with their
NVIDIA_REQUIRE_CUDA and their compat library; nodes are what the probe gpu says of a healthy machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from driftcheck.probes.common import digest
from support import nvidia
from support.cuda_facts import copy
from support.snapshots import check_facts, python, snapshot

from driftcheck.cli.check_command import command
from driftcheck.snapshot import Section, Snapshot

MATRIX: dict[str, Any] = json.loads((Path(__file__).parent / "gpu_matrix.json").read_text())
# What the probe cuda says of real wheels, unpacked as they are.
WHEELS: dict[str, Any] = json.loads((Path(__file__).parent / "wheels_device_code.json").read_text())
PAIRS: list[dict[str, Any]] = MATRIX["pairs"]
# What a driver decides: these codes, and NCCL among the libraries of CUDA, which have the codes above them.
LAST, NCCL = "GPU015", "GPU038"


def image_facts(described: dict[str, Any]) -> dict[str, Any]:
    """Facts of the section cuda of an image."""
    if "wheels" in described:
        facts = nvidia.image()
        for name in described["wheels"]:
            facts["builds"] |= WHEELS[name]["builds"]
            facts["device_code"] |= WHEELS[name]["device_code"]
        return facts
    if "library" in described:
        name = described["library"]
        return nvidia.image(device_code={"mylib.so": nvidia.code("mylib", name, ptx={name: described["ptx"]})})
    if "cuda" not in described:
        return nvidia.image(builds={"torch": nvidia.build(described["torch"], None)})
    facts = nvidia.torch(described["torch"], described["cuda"], described["architectures"])
    if "nccl" in described:
        library, stated = "nvidia/nccl/lib/libnccl.so.2", described["nccl"]
        facts["libraries"] |= copy(library, stated["version"], cuda=stated["cuda"])
    if "base" in described:
        base, compat = described["base"], described["compat"]
        brands = {"old": nvidia.OLD_BRANDS, "new": nvidia.NEW_BRANDS}[base["brands"]]
        expression = nvidia.requirement(base["cuda"], brands, tuple(base["branches"]), base["first"])
        facts["image"] |= {
            "visible_devices": "all",
            "driver_capabilities": "compute,utility",
            "require": {"NVIDIA_REQUIRE_CUDA": expression},
        }
        path = f"/usr/local/cuda-{base['cuda']}/compat/libcuda.so.1"
        facts["driver"][path] = nvidia.libcuda(
            "compat", compat["version"], compat.get("note"), compat.get("via", "toolkit")
        )
    return facts


def node_facts(described: dict[str, Any] | None) -> dict[str, Any]:
    """Facts of the section gpu of a node."""
    if described is None:
        return nvidia.NO_GPU
    return nvidia.machine(described["driver"], described["cuda"], *described["devices"])


def saved(path: Path, label: str, layer: str, section: str, facts: dict[str, Any]) -> Path:
    """A snapshot file with the section python and this one."""
    check_facts(section, facts)
    made = snapshot(label, python=python())
    header = {
        "label": label,
        "created": "2026-11-22T12:00:00Z",
        "tool": {"name": "driftcheck", "version": "0"},
        "reference": label,
        "channel": "image" if layer == "image" else "subprocess",
        "interpreter": {"path": "/usr/bin/python3", "version": "3.11.7", "reason": "a test", "working_directory": "/"},
    }
    sections = made.sections | {section: Section(section, layer, "ok", None, [], facts, digest(facts))}
    path.write_text(Snapshot(header, sections).text())
    return path


Check = Callable[[str, str], tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """``driftcheck check IMAGE.json --on NODE.json --format json``: its exit code and its report."""
    folder = tmp_path_factory.mktemp("matrix")

    def run(image: str, node: str) -> tuple[int, dict[str, Any]]:
        files = [folder / f"{image}.json", folder / f"{node}.json"]
        saved(files[0], image, "image", "cuda", image_facts(MATRIX["images"][image]))
        saved(files[1], node, "machine", "gpu", node_facts(MATRIX["nodes"][node]))
        arguments = [str(files[0]), "--on", str(files[1]), "--format", "json"]
        result = CliRunner().invoke(command, arguments, standalone_mode=False)
        assert result.exception is None, result.output
        return int(result.return_value), json.loads(result.stdout)

    return run


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['image']} on {pair['node']}")
def test_the_verdict(pair: dict[str, Any], check: Check) -> None:
    code, report = check(pair["image"], pair["node"])
    (target,) = report["targets"]
    found = {finding["code"]: finding for finding in target["findings"]}
    ours = {name: one for name, one in found.items() if name.startswith("GPU") and (name <= LAST or name == NCCL)}
    assert {name: one["confidence"] for name, one in ours.items()} == {
        name: expected["confidence"] for name, expected in pair["findings"].items()
    }, pair["why"]
    for name, expected in pair["findings"].items():
        assert expected["error"] in ours[name]["predicted_error"]
        assert ours[name]["impact"] == "breaks"
    fails = any(expected["confidence"] != "possible" for expected in pair["findings"].values())
    assert code == int(fails), [(one["code"], one["title"]) for one in target["findings"]]


def test_the_matrix_is_wide_enough_and_sourced() -> None:
    drivers = {node["driver"].split(".")[0] for node in MATRIX["nodes"].values() if node}
    capabilities = {nvidia.DEVICES[name][1] for node in MATRIX["nodes"].values() if node for name in node["devices"]}
    assert len(PAIRS) >= 24
    assert {"470", "525", "535", "550", "560", "570", "580", "595"} <= drivers
    assert {"6.1", "7.0", "7.5", "8.0", "8.9", "9.0", "10.0", "12.0"} <= capabilities
    assert len({(pair["image"], pair["node"]) for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert pair["source"].startswith("https://")
        assert pair["why"]
    # As many that run as that break: a tool that always warns fails here.
    running = [pair for pair in PAIRS if not pair["findings"]]
    assert len(PAIRS) * 2 // 5 <= len(running) <= len(PAIRS) * 2 // 3
