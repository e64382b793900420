"""Facts of the sections ``cuda``, ``gpu`` and ``libraries`` for tests of rules about CUDA libraries."""

from __future__ import annotations

from typing import Any

IMAGE: dict[str, Any] = {
    "visible_devices": None,
    "driver_capabilities": None,
    "require": {},
    "disable_require": None,
    "cuda_version": None,
}
TOOLS: dict[str, Any] = {"cuda_home": None, "nvcc": None, "ptxas": None, "c_compiler": None, "triton": {}}
NOTHING = {"version": None, "accelerator": None, "cuda": None, "cudnn": None, "rocm": None, "torch": None}


def copy(file: str, version: str | None = None, *, via: str = "search path", **facts: Any) -> dict[str, dict[str, Any]]:
    """``{component: {file: record}}`` of one library; its soname and component are read from the name of the file."""
    name = file.rsplit("/", 1)[-1]
    stem, _, numbers = name.partition(".so.")
    record = {
        "soname": f"{stem}.so.{numbers.split('.')[0]}",
        "version": version,
        "version_from": "file name" if version else None,
        "distribution": f"nvidia-{stem.removeprefix('lib').lower()}-cu12" if via == "search path" else None,
        "via": {via: True},
        "stub": False,
    }
    return {stem.removeprefix("lib"): {file: record | facts}}


def build(**facts: Any) -> dict[str, Any]:
    """What one framework says of itself: ``build(accelerator="cuda", cuda="12.8")``."""
    return NOTHING | facts


def cuda(
    *copies: dict[str, dict[str, Any]],
    builds: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    tools: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Facts of section ``cuda`` with these copies of libraries."""
    libraries: dict[str, dict[str, Any]] = {}
    for entry in copies:
        for component, files in entry.items():
            libraries.setdefault(component, {}).update(files)
    return {
        "libraries": libraries,
        "device_code": {},
        "driver": {},
        "builds": builds or {},
        "toolkits": {},
        "tools": TOOLS | (tools or {}),
        "image": IMAGE | (image or {}),
    }


def gpu(*capabilities: str, name: str = "NVIDIA H100", **facts: Any) -> dict[str, Any]:
    """Facts of section ``gpu`` with one NVIDIA device for each compute capability; none: a machine without."""
    devices: dict[str, Any] = {
        str(number): {
            "name": name,
            "compute_capability": capability,
            "memory_bytes": 80 << 30,
            "mig": None,
            "mig_devices": {},
            "fabric": None,
        }
        for number, capability in enumerate(capabilities)
    }
    nvidia = {
        "kernel_module": {"version": "580.65.06", "flavour": "open"},
        "device_nodes": {},
        "libcuda": {"path": "/usr/lib/libcuda.so.1", "version": "580.65.06", "cuda": "13.0", "init": 0},
        "nvml": None,
        "asked": "nvml",
        "driver": "580.65.06",
        "cuda": "13.0",
        "devices": devices,
        "fabric_manager": None,
    }
    return {"nvidia": nvidia | facts if devices or facts else None, "amd": None}


def libraries(**facts: Any) -> dict[str, Any]:
    """Facts of section ``libraries``, where LD_LIBRARY_PATH names a toolkit, with what a test says."""
    nothing: dict[str, Any] = {"path": None, "libc": "glibc", "loader": None, "machine": None, "bits": 64}
    nothing |= {"missing": {}, "missing_versions": {}}
    return {
        "interpreter": nothing,
        "search": {"ld_library_path": ["/usr/local/cuda/lib64"], "ld_preload": [], "default": []},
        "files": {},
        "distributions": {},
        "libraries": {},
        "runtimes": {"openmp": {}, "blas": {}},
    } | facts
