"""Family GPU: what an image asks of NVIDIA's container runtime to put into it."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.shared_objects import NOT_FOUND
from driftcheck.snapshot import Snapshot

IMAGE = ("cuda", "image")

# Which capability makes the runtime mount a library of the driver: libnvidia-container, src/nvc_info.c (utility_libs,
# compute_libs, video_libs, graphics_libs).
_CAPABILITY = {
    "libcuda.so.1": "compute",
    "libcudadebugger.so.1": "compute",
    "libnvidia-ml.so.1": "utility",
    "libnvcuvid.so.1": "video",
    "libnvidia-encode.so.1": "video",
    "libnvidia-opticalflow.so.1": "video",
    "libEGL_nvidia.so.0": "graphics",
    "libGLX_nvidia.so.0": "graphics",
    "libnvoptix.so.1": "graphics",
}
DEFAULT = frozenset({"utility", "compute"})

# Distributions that open libnvidia-ml.so.1 by name.
_NVML = ("nvidia-ml-py", "pynvml", "nvitop", "gpustat")


class GPU034(Contradiction):
    """NVIDIA_DRIVER_CAPABILITIES leaves out what the installed packages need of the driver.

    Compares: the capabilities that the variable lists with the libraries of the driver that installed packages need
    (libcuda.so.1: compute; libnvidia-ml.so.1: utility; libnvcuvid.so.1: video), and with the frameworks for CUDA.

    Why: the container runtime mounts only the libraries of the listed capabilities. The GPU is there, /dev/nvidia0 is
    there, and the library is not. An image for graphics or video may list just that, and drops compute by it.

    See: without compute: `ImportError: libcuda.so.1: cannot open shared object file: No such file or directory`, or
    `RuntimeError: Found no NVIDIA driver on your system.`; without utility: `pynvml.NVMLError_LibraryNotFound: NVML
    Shared Library Not Found`, no nvidia-smi; without video: `libnvcuvid.so.1: cannot open shared object file`.

    Decided: the variable is set, is not `all`, and lacks a capability that a package's files need: breaks, likely.
    utility for packages that ask NVML: breaks, possible. Silent where the library is found all the same. Not set or
    empty means utility and compute.

    Fix: list them all: compute,utility,video.

    Limits: it counts only where NVIDIA's runtime starts the container.
    """

    code = "GPU034"
    name = "driver-capability-missing"
    reads = ("cuda", "packages")
    references = (
        "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html",
        "https://github.com/NVIDIA/libnvidia-container/blob/main/src/nvc_info.c",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        value = lookup(target, (*IMAGE, "driver_capabilities"))
        if value is None:
            return
        listed = {entry.strip() for entry in value.split(",") if entry.strip()} or DEFAULT
        if "all" in listed:
            return
        for capability, (soname, evidence) in sorted(_needed(target).items()):
            if capability in listed or _here(target, soname):
                continue
            asked = capability == "utility" and not any("libraries" in entry.path for entry in evidence)
            yield self.finding(
                Impact.BREAKS,
                Confidence.POSSIBLE if asked else Confidence.LIKELY,
                f"NVIDIA_DRIVER_CAPABILITIES={value[:60]} lacks {capability}, so {soname} is not mounted",
                Subject("capability", capability),
                "The container runtime mounts the libraries of the listed capabilities, and no others.",
                predicted_error=_error(target, capability, soname, evidence),
                evidence=[at(target, "target", *IMAGE, "driver_capabilities"), *evidence[:3]],
                fix=[
                    Fix("dockerfile", f"ENV NVIDIA_DRIVER_CAPABILITIES={_with(listed, capability)}"),
                    Fix("docker-run", f"-e NVIDIA_DRIVER_CAPABILITIES={_with(listed, capability)}"),
                ],
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """GPU004 sees that libcuda is missing beside the device files."""
        del sides
        return effect.code == "GPU004" and finding.subject.name == "compute"


def _needed(target: Snapshot) -> dict[str, tuple[str, list[Evidence]]]:
    """``{capability: (the library, why)}``: what files need comes before what packages are known to open."""
    found: dict[str, tuple[str, list[Evidence]]] = {}
    for owner, record in sorted((lookup(target, ("libraries", "distributions")) or {}).items()):
        for soname, need in sorted(record["needs"].items()):
            if soname in _CAPABILITY and "driver" in need["answers"].values():
                path = ("libraries", "distributions", owner, "needs", soname)
                found.setdefault(_CAPABILITY[soname], (soname, []))[1].append(at(target, "target", *path))
    frameworks = [at(target, "target", "cuda", "builds", name, "accelerator") for name in gpu.chosen_for_cuda(target)]
    if frameworks:
        found.setdefault("compute", ("libcuda.so.1", frameworks))
    asking = [
        at(target, "target", *DISTRIBUTIONS, name, "version") for name in _NVML if name in distributions_of(target)
    ]
    if asking:
        found.setdefault("utility", ("libnvidia-ml.so.1", asking))
    return found


def _here(target: Snapshot, soname: str) -> bool:
    """Whether the driver's library was found where the environment was measured."""
    key = {"libcuda.so.1": "libcuda", "libnvidia-ml.so.1": "nvml"}.get(soname)
    return key is not None and (gpu.nvidia(target) or {}).get(key) is not None and not gpu.placed(target)


def _error(target: Snapshot, capability: str, soname: str, evidence: list[Evidence]) -> str:
    if capability == "compute" and not any("libraries" in entry.path for entry in evidence):
        return gpu.no_driver_error(target)
    if capability == "utility":
        return "pynvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found"
    return f"ImportError: {soname}: {NOT_FOUND}"


def _with(listed: set[str] | frozenset[str], capability: str) -> str:
    """A value to type: what is no name of a capability stays out of it."""
    return ",".join(sorted({*filter(str.isalnum, listed), *DEFAULT, capability}))


class GPU035(Contradiction):
    """NVIDIA_VISIBLE_DEVICES keeps every GPU out of the container.

    Compares: the value of the variable with the frameworks for CUDA that are installed, and with the GPUs that were
    seen where the environment was measured.

    Why: the container runtime reads the variable from the image. `void`, or nothing after the equals sign, makes it do
    nothing at all; with `none` it mounts the driver's libraries and no device.

    See: `RuntimeError: Found no NVIDIA driver on your system. ...` (void, empty); `RuntimeError: No CUDA GPUs are
    available` (none).

    Decided: a framework for CUDA is installed and the variable says so: breaks; likely where the environment was
    measured and no GPU was seen, possible where that is not known, since the start may set the variable anew
    (docker run --gpus, a device plugin do).

    Fix: NVIDIA_VISIBLE_DEVICES=all, or leave it to the start.

    Limits: with CDI or a device plugin the variable may not be read.
    """

    code = "GPU035"
    name = "no-visible-devices"
    reads = ("cuda",)
    references = ("https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        value = lookup(target, (*IMAGE, "visible_devices"))
        frameworks = gpu.chosen_for_cuda(target)
        if value not in {"void", "none", ""} or not frameworks or gpu.devices(target):
            return
        seen = gpu.without_gpu(target) and not gpu.started_without_devices(target)
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if seen else Confidence.POSSIBLE,
            f"NVIDIA_VISIBLE_DEVICES={value} keeps every GPU out of the container",
            Subject("variable", "NVIDIA_VISIBLE_DEVICES"),
            f"{wheels.listed(frameworks)} {'is a build' if len(frameworks) == 1 else 'are builds'} for CUDA. "
            + ("No GPU was seen." if seen else "A start that names GPUs (--gpus) sets the variable anew."),
            predicted_error=gpu.start_error(target, 100) if value == "none" else gpu.no_driver_error(target),
            evidence=[
                at(target, "target", *IMAGE, "visible_devices"),
                at(target, "target", "cuda", "builds", frameworks[0], "accelerator"),
            ],
            fix=[
                Fix("docker-run", "--gpus all"),
                Fix("dockerfile", "ENV NVIDIA_VISIBLE_DEVICES=all"),
            ],
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A container without devices, or without the GPU that the baseline has."""
        del finding, sides
        return effect.code in {"GPU010", "GPU012"}
