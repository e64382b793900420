"""What the rules of family GPU ask of the sections ``gpu`` and ``cuda``, and of what a snapshot's header says of its
start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from driftcheck import nvidia_requirements
from driftcheck.findings import Evidence
from driftcheck.knowledge import cuda
from driftcheck.rules import requirements as req
from driftcheck.rules.base import at, lookup
from driftcheck.snapshot import Snapshot

Facts = Mapping[str, Any]

NVIDIA = ("gpu", "nvidia")
# Frameworks whose builds for CUDA are chosen by name or by index. TensorFlow's wheel for Linux is one for CUDA always.
_CHOSEN = re.compile(r"^(?:torch|onnxruntime|cupy|vllm|xformers|flash_attn|jax_cuda\d+_plugin|xla_cuda\d+)$")
COMPATIBILITY = "https://docs.nvidia.com/deploy/cuda-compatibility"
TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest"

# cudaGetErrorString of the codes that cuInit and cudaGetDeviceCount return (CUDA runtime API, cudaError_t).
CUDA_ERRORS = {
    1: "invalid argument",
    2: "out of memory",
    3: "initialization error",
    34: "CUDA driver is a stub library",
    35: "CUDA driver version is insufficient for CUDA runtime version",
    46: "CUDA-capable device(s) is/are busy or unavailable",
    100: "no CUDA-capable device is detected",
    101: "invalid device ordinal",
    209: "no kernel image is available for execution on the device",
    222: "the provided PTX was compiled with an unsupported toolchain.",
    304: "OS call failed or operation not supported on this OS",
    802: "system not yet initialized",
    803: "system has unsupported display driver / cuda driver combination",
    804: "forward compatibility was attempted on non supported HW",
    999: "unknown error",
}
# Those whose reason is neither a device file nor the GPU: a stub, the fabric, a libcuda that does not fit.
OTHER_REASONS = frozenset({34, 802, 803, 804})
# Those that one finds by torch's own words (c10/cuda/CUDAFunctions.cpp).
_NO_DRIVER = (
    "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a "
    "driver from http://www.nvidia.com/Download/index.aspx"
)
_UNKNOWN = (
    "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
    "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero."
)
_UNEXPECTED = (
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error {code}: {text}"
)


def nvidia(snapshot: Snapshot) -> Facts | None:
    """NVIDIA's half of the section gpu; None where it was not measured or nothing of a driver is there."""
    found: Facts | None = lookup(snapshot, NVIDIA)
    return found


def devices(snapshot: Snapshot) -> Mapping[str, Facts]:
    """NVIDIA devices by number; empty where none is known."""
    found: Mapping[str, Facts] = (nvidia(snapshot) or {}).get("devices") or {}
    return found


def without_gpu(snapshot: Snapshot) -> bool:
    """Whether it was asked for NVIDIA devices and has none. False where nobody asked."""
    return snapshot.facts("gpu") is not None and not devices(snapshot)


def capability(device: Facts) -> cuda.Level | None:
    """The compute capability of a device."""
    return cuda.level(device.get("compute_capability"))


def capabilities(snapshot: Snapshot) -> dict[str, cuda.Level]:
    """The compute capability of each NVIDIA device, by its number; those of which the driver did not say it are left
    out.
    """
    found = {number: capability(device) for number, device in sorted(devices(snapshot).items())}
    return {number: level for number, level in found.items() if level is not None}


def device_text(device: Facts) -> str:
    """``NVIDIA H100 80GB HBM3 (compute capability 9.0)``."""
    name = device.get("name") or "a device"
    found = device.get("compute_capability")
    return f"{name} (compute capability {found})" if found else str(name)


def on_device(number: str, *keys: str) -> tuple[str, ...]:
    """The path of a fact of one device."""
    return (*NVIDIA, "devices", number, *keys)


def placed(snapshot: Snapshot) -> bool:
    """Whether the machine is another one than that where the environment was measured (``check --on``)."""
    return bool(snapshot.header.get("on"))


def started_without_devices(snapshot: Snapshot) -> bool:
    """Whether driftcheck itself started the image, as ``docker run`` without options does, so without a GPU."""
    return snapshot.header.get("run_defaults") is True and not placed(snapshot)


def builds(snapshot: Snapshot | None) -> Mapping[str, Facts]:
    """What the files of frameworks say of how they were built, by name."""
    found: Mapping[str, Facts] = (lookup(snapshot, ("cuda", "builds")) or {}) if snapshot is not None else {}
    return found


def built_for_cuda(snapshot: Snapshot) -> Mapping[str, Facts]:
    """Those of them that say that they were built for CUDA."""
    return {name: record for name, record in sorted(builds(snapshot).items()) if record["accelerator"] == "cuda"}


def chosen_for_cuda(snapshot: Snapshot) -> list[str]:
    """Those of which somebody chose the build for CUDA, and not the one for CPUs."""
    return [name for name in built_for_cuda(snapshot) if _CHOSEN.match(name)]


def uses_cuda(snapshot: Snapshot) -> list[Evidence]:
    """Why one may think that this environment wants a GPU: frameworks that were built for CUDA. Empty where none is."""
    return [at(snapshot, "target", "cuda", "builds", name, "accelerator") for name in built_for_cuda(snapshot)]


def variable(snapshot: Snapshot, name: str) -> str | None:
    """The value of an environment variable, which may be empty; None where it is not set, hidden or not measured."""
    record = lookup(snapshot, ("variables", "variables", name))
    value = record.get("value") if isinstance(record, dict) else None
    return value if isinstance(value, str) else None


def may_be_hidden(snapshot: Snapshot) -> bool:
    """Whether CUDA may have been told not to see some device. On another machine its answers are those of a start with
    variables that nobody knows any more.
    """
    return placed(snapshot) or lookup(snapshot, ("variables", "variables", "CUDA_VISIBLE_DEVICES")) is not None


def version_evidence(target: Snapshot, facts: Facts) -> list[Evidence]:
    """The version of the driver, where it is known."""
    if facts.get("kernel_module"):
        return [at(target, "target", *NVIDIA, "kernel_module", "version")]
    return [at(target, "target", *NVIDIA, "driver")] if facts.get("driver") else []


def numbered_files(facts: Facts) -> dict[str, Facts]:
    """The device files of GPUs, /dev/nvidia0 and on."""
    nodes: Mapping[str, Facts] = facts.get("device_nodes") or {}
    return {path: node for path, node in sorted(nodes.items()) if re.fullmatch(r"/dev/nvidia\d+", path)}


def device_files_usable(facts: Facts) -> bool:
    """Whether nothing about the device files is the reason for an error: they are there, and may be opened."""
    nodes = facts.get("device_nodes") or {}
    if "/dev/dxg" in nodes:
        return bool(nodes["/dev/dxg"]["accessible"])
    numbered = numbered_files(facts).values()
    shared = [nodes.get("/dev/nvidiactl"), nodes.get("/dev/nvidia-uvm")]
    return any(node["accessible"] for node in numbered) and all(node and node["accessible"] for node in shared)


# Errors


def start_error(snapshot: Snapshot, code: int) -> str:
    """What one sees where CUDA does not start with this code: torch's words where torch is there, else CUDA's own."""
    text = CUDA_ERRORS.get(code, f"error {code}")
    if "torch" not in built_for_cuda(snapshot):
        return text
    if code == 100:
        return "RuntimeError: No CUDA GPUs are available"
    if code == 999:
        return _UNKNOWN
    return _UNEXPECTED.format(code=code, text=text)


def no_driver_error(snapshot: Snapshot) -> str:
    """What one sees where no libcuda.so.1 can be loaded."""
    if "torch" in built_for_cuda(snapshot):
        return _NO_DRIVER
    return "libcuda.so.1: cannot open shared object file: No such file or directory"


def kernel_error(snapshot: Snapshot, distribution: str, code: int) -> str:
    """What one sees where a kernel of a distribution cannot be launched. torch has a class of its own since 2.8."""
    text = CUDA_ERRORS[code]
    version = req.parsed(builds(snapshot).get("torch", {}).get("version"))
    if distribution in {"torch", "torchvision", "torchaudio", "vllm", "xformers", "flash-attn"} and version:
        kind = "torch.AcceleratorError" if version.release >= (2, 8) else "RuntimeError"
        return f"{kind}: CUDA error: {text}"
    return text


# The level of the driver


@dataclass(frozen=True)
class DriverLevel:
    """The CUDA level that programs find.

    ``path``  of the fact that states it
    ``sure``  False where a compat library may lift it, and it is not known whether it does
    """

    value: cuda.Level
    path: tuple[str, ...]
    sure: bool = True


def driver_version(facts: Facts) -> str | None:
    """The version of the kernel's half of the driver; None where it is not known, and on Windows (WSL), whose drivers
    have other numbers.
    """
    module = facts.get("kernel_module")
    if module:
        return str(module["version"])
    return None if "/dev/dxg" in (facts.get("device_nodes") or {}) else facts.get("driver")


def kernel_level(facts: Facts) -> DriverLevel | None:
    """What the driver of the kernel offers, as it says itself, else by the table of drivers."""
    found = cuda.level(facts.get("cuda"))
    if found is not None:
        return DriverLevel(found, (*NVIDIA, "cuda"))
    found = cuda.level_of_driver(driver_version(facts))
    if found is None:
        return None
    return DriverLevel(
        found, (*NVIDIA, "kernel_module", "version") if facts.get("kernel_module") else (*NVIDIA, "driver")
    )


def driver_level(snapshot: Snapshot) -> DriverLevel | None:
    """What programs find: libcuda's own answer where it was asked in this environment. On another machine that of its
    driver, or of the image's compat library where that may be used there.
    """
    facts = nvidia(snapshot)
    if facts is None:
        return None
    if not placed(snapshot):
        answered = cuda.level((facts.get("libcuda") or {}).get("cuda"))
        return DriverLevel(answered, (*NVIDIA, "libcuda", "cuda")) if answered else kernel_level(facts)
    own = kernel_level(facts)
    library = compat_library(snapshot)
    if library is None or own is None:
        return own
    fit = library.fit(facts)
    if fit is Fit.FITS and library.level is not None and library.level > own.value:
        note = (*library.place, "note", "cuda")
        return DriverLevel(library.level, note if library.note_level else (*library.place, "version"))
    return DriverLevel(own.value, own.path, sure=fit is not Fit.DOUBTFUL)


# Compat libraries


class Fit(StrEnum):
    """What comes of a compat libcuda on a machine."""

    FITS = "fits"
    UNUSED = "unused"  # the runtime leaves it aside, since the driver is as new
    OLDER = "older"  # than the kernel's driver: error 803
    UNLISTED = "unlisted"  # not made for this branch of the kernel's driver: error 803
    FORBIDDEN = "forbidden"  # the device is none on which it may be used: error 804
    DOUBTFUL = "doubtful"


# Ways by which the loader itself finds a library: nobody is asked whether it is wanted.
_LOADED = frozenset({"LD_LIBRARY_PATH", "cache", "default"})


@dataclass(frozen=True)
class CompatLibrary:
    """A libcuda of a package cuda-compat in the image.

    ``loaded``  the loader finds it by itself; else the container runtime puts it in front where it is newer than the
                driver (container toolkit, nvidia-cdi-hook enable-cuda-compat)
    """

    key: str
    record: Facts
    loaded: bool

    @property
    def place(self) -> tuple[str, ...]:
        return ("cuda", "driver", self.key)

    @property
    def note_level(self) -> cuda.Level | None:
        return cuda.level((self.record.get("note") or {}).get("cuda"))

    @property
    def level(self) -> cuda.Level | None:
        return self.note_level or cuda.level_of_driver(self.record.get("version"))

    @property
    def branch(self) -> int | None:
        """The branch of the driver that it was made of."""
        found = cuda.version(self.record.get("version"))
        if found is None and self.note_level:
            found = cuda.version(cuda.first_driver(self.note_level))
        return found[0] if found else None

    def branches(self) -> tuple[frozenset[int], bool] | None:
        """``(branches of the kernel's driver that it is made for, whether it says so itself)``; None where neither it
        nor the table of images tells.
        """
        stated = (self.record.get("note") or {}).get("drivers")
        if stated:
            return frozenset(stated), True
        found = cuda.forward_branches().get(self.level) if self.level else None
        return (found, False) if found else None

    def fit(self, facts: Facts) -> Fit:
        """What comes of it with a driver and its devices (the facts ``gpu.nvidia``)."""
        kernel, own = cuda.version(driver_version(facts)), self.branch
        if kernel is None or own is None:
            return Fit.DOUBTFUL
        if own <= kernel[0]:
            if not self.loaded:
                return Fit.UNUSED
            same = cuda.version(self.record.get("version")) == kernel
            return Fit.OLDER if own < kernel[0] else Fit.FITS if same else Fit.DOUBTFUL
        kinds = [nvidia_requirements.brands_of(device.get("name")) for device in facts["devices"].values()]
        if any(kind and kind <= _CONSUMER for kind in kinds):
            return Fit.FORBIDDEN
        branches = self.branches()
        if branches and kernel[0] not in branches[0]:
            return Fit.UNLISTED
        return Fit.FITS if kinds and all(kind and "tesla" in kind for kind in kinds) else Fit.DOUBTFUL


_CONSUMER = frozenset({"geforce", "geforcertx", "titan", "titanrtx"})


def compat_library(snapshot: Snapshot) -> CompatLibrary | None:
    """The compat libcuda that would be used: the one that the loader finds, else the one where the runtime looks."""
    copies: Mapping[str, Facts] = lookup(snapshot, ("cuda", "driver")) or {}
    compat = [(key, record) for key, record in sorted(copies.items()) if record["kind"] == "compat"]
    for key, record in compat:
        if _LOADED & set(record["via"]):
            return CompatLibrary(key, record, loaded=True)
    for key, record in compat:
        if re.match(r"/usr/local/cuda(?:-[\d.]+)?/compat/", key):
            return CompatLibrary(key, record, loaded=False)
    return None
