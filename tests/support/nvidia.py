"""Facts of GPUs for tests of rules: a machine as the probe gpu describes it, an image as the probe cuda does."""

from __future__ import annotations

from typing import Any

from driftcheck.findings import Finding
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction, lookup
from driftcheck.snapshot import Snapshot
from support.snapshots import python, snapshot

GIB = 1 << 30

# A wheel of NCCL for each generation of CUDA, by version: its distribution, and the CUDA that it was built with.
NCCL = {"2.21.5": ("nvidia-nccl-cu12", "12.4"), "2.29.7": ("nvidia-nccl-cu13", "13.2")}

# Names as the driver gives them, with compute capability and memory.
DEVICES: dict[str, tuple[str, str, int]] = {
    "GTX 1080": ("NVIDIA GeForce GTX 1080", "6.1", 8),
    "P100": ("Tesla P100-PCIE-16GB", "6.0", 16),
    "V100": ("Tesla V100-SXM2-16GB", "7.0", 16),
    "T4": ("Tesla T4", "7.5", 15),
    "A100": ("NVIDIA A100-SXM4-40GB", "8.0", 40),
    "RTX 3090": ("NVIDIA GeForce RTX 3090", "8.6", 24),
    "L4": ("NVIDIA L4", "8.9", 22),
    "RTX 4090": ("NVIDIA GeForce RTX 4090", "8.9", 24),
    "RTX A6000": ("NVIDIA RTX A6000", "8.6", 48),
    "H100": ("NVIDIA H100 80GB HBM3", "9.0", 80),
    "B200": ("NVIDIA B200", "10.0", 180),
    "RTX 5090": ("NVIDIA GeForce RTX 5090", "12.0", 32),
    "T1000": ("NVIDIA T1000", "7.5", 4),
}


def device(name: str, **facts: Any) -> dict[str, Any]:
    """A record of ``gpu.nvidia.devices``, by one of the short names above or by the whole one."""
    whole, capability, memory = DEVICES.get(name, (name, None, None))
    record: dict[str, Any] = {
        "name": whole,
        "compute_capability": capability,
        "memory_bytes": memory * GIB if memory else None,
        "mig": None,
        "mig_devices": {},
        "fabric": None,
    }
    return record | facts


def node(path: str = "/dev/nvidia0", **facts: Any) -> dict[str, Any]:
    """One device file by its path."""
    return {path: {"mode": "0666", "uid": 0, "gid": 0, "accessible": True} | facts}


FILES = node() | node("/dev/nvidiactl") | node("/dev/nvidia-uvm")


def machine(driver: str = "535.104.05", level: str | None = "12.2", *names: str, **facts: Any) -> dict[str, Any]:
    """Facts of the section gpu: a healthy machine with NVIDIA devices (an A100 where none is named).

    ``facts`` are those of ``gpu.nvidia``; a part of ``libcuda``, ``nvml`` or ``kernel_module`` is merged.
    """
    record: dict[str, Any] = {
        "kernel_module": {"version": driver, "flavour": "open"},
        "device_nodes": FILES,
        "libcuda": {"path": "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "version": driver, "cuda": level, "init": 0},
        "nvml": {
            "path": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
            "version": driver,
            "status": "ok",
            "code": 0,
            "error": None,
        },
        "asked": "nvml",
        "driver": driver,
        "cuda": level,
        "devices": {str(number): device(name) for number, name in enumerate(names or ("A100",))},
        "fabric_manager": None,
    }
    for key, value in facts.items():
        record[key] = record[key] | value if key in {"libcuda", "nvml", "kernel_module"} and value else value
    return {"nvidia": record, "amd": None}


NO_GPU: dict[str, Any] = {"nvidia": None, "amd": None}


def build(version: str, cuda: str | None, **facts: Any) -> dict[str, Any]:
    """A record of ``cuda.builds``: for CUDA, or for CPUs where that is None."""
    record = {"version": version, "accelerator": "cuda" if cuda else "cpu", "cuda": cuda}
    return record | {"cudnn": None, "rocm": None, "torch": None} | facts


def code(distribution: str | None, *lists: str, **facts: Any) -> dict[str, Any]:
    """A record of ``cuda.device_code`` with one container for each list of architectures (``"sm_80 compute_80"``)."""
    counts: dict[str, int] = {}
    for names in lists:
        counts[names] = counts.get(names, 0) + 1
    architectures: dict[str, int] = {}
    for names, count in counts.items():
        for name in names.split():
            architectures[name] = architectures.get(name, 0) + count
    record: dict[str, Any] = {
        "distribution": distribution,
        "source": "executable",
        "containers": len(lists),
        "architectures": architectures,
        "lists": counts,
        "lists_complete": True,
        "ptx": {},
    }
    return record | facts


def libcuda(kind: str, version: str | None = None, note: dict[str, Any] | None = None, *via: str) -> dict[str, Any]:
    """A record of ``cuda.driver``."""
    return {"kind": kind, "version": version, "note": note, "via": dict.fromkeys(via or ("toolkit",), True)}


def image(**facts: Any) -> dict[str, Any]:
    """Facts of the section cuda: an image without anything, with what a test says. ``require`` and the other variables
    of ``cuda.image`` may be given by their names.
    """
    asked = {
        name: facts.pop(name, {} if name == "require" else None)
        for name in ("visible_devices", "driver_capabilities", "require", "disable_require", "cuda_version")
    }
    record: dict[str, Any] = {
        "libraries": {},
        "device_code": {},
        "driver": {},
        "builds": {},
        "toolkits": {},
        "tools": {"cuda_home": None, "nvcc": None, "ptxas": None, "c_compiler": None, "triton": {}},
        "image": asked,
    }
    return record | facts


def torch(version: str, cuda: str, architectures: str, **facts: Any) -> dict[str, Any]:
    """An image with a PyTorch whose library carries these architectures in each of its containers."""
    return image(
        builds={"torch": build(version, cuda)},
        device_code={"torch/lib/libtorch_cuda.so": code("torch", *[architectures] * 3, **facts)},
    )


def shape(found: list[Finding]) -> list[tuple[str, str]]:
    """Impact and confidence of each finding."""
    return [(finding.impact.value, finding.confidence.value) for finding in found]


def judged(rule_code: str, header: dict[str, Any], **sections: dict[str, Any]) -> list[Finding]:
    """What a contradiction concludes of a snapshot with this in its header, such as that it is on another machine
    (``ON``). The evidence is checked as ``support.snapshots.findings`` does.
    """
    made = snapshot("target", **({"python": python()} | sections))
    target = Snapshot(made.header | header, made.sections)
    rule = next(rule for rule in all_rules() if rule.code == rule_code)
    assert isinstance(rule, Contradiction)
    found = list(rule.check(target, None))
    for finding in found:
        assert finding.evidence
        for entry in finding.evidence:
            assert lookup(target, entry.path) == entry.value
            assert entry.path[-1] in (lookup(target, entry.path[:-1]) or target.facts(entry.path[0]) or {})
    return found


# The two lists of brands that these images have had.
OLD_BRANDS = (
    "tesla",
    "unknown",
    "nvidia",
    "nvidiartx",
    "geforce",
    "geforcertx",
    "quadro",
    "quadrortx",
    "titan",
    "titanrtx",
)
NEW_BRANDS = (
    "unknown",
    "grid",
    "tesla",
    "nvidia",
    "quadro",
    "quadrortx",
    "nvidiartx",
    "vapps",
    "vpc",
    "vcs",
    "vws",
    "cloudgaming",
)


def requirement(cuda: str, brands: tuple[str, ...], branches: tuple[int, ...], first: str = "") -> str:
    """NVIDIA_REQUIRE_CUDA as the images under https://gitlab.com/nvidia/container-images/cuda spell it out."""
    pairs = [f"brand={brand},driver>={old},driver<{old + 1}" for old in branches for brand in brands]
    return " ".join(filter(None, [f"cuda>={cuda}", first, *pairs]))


ON: dict[str, Any] = {"on": {"label": "node", "reference": "node.json"}}
