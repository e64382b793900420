"""Family GPU: what the start of a container, or of a service, brings of the driver."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.gpu_facts import NVIDIA, Facts
from driftcheck.snapshot import Snapshot

_SPECIALIZED = f"{gpu.TOOLKIT}/docker-specialized.html"


def _contained(target: Snapshot) -> bool:
    return lookup(target, ("limits", "runtime")) is not None or "image" in target.header


class GPU004(Contradiction):
    """The GPU is there, and the loader finds no libcuda.so.1 or only a stub of it.

    Compares: where the loader looks for libcuda.so.1 (LD_LIBRARY_PATH, its cache, the default directories) with the
    device files that are there, and the copies of libcuda in the image.

    Why: libcuda belongs to the driver. It comes from the machine, or the container runtime puts it in, which it does
    only for the capability compute. The toolkit's copy in a directory stubs is there to link against; it has no
    functions.

    See: torch: `RuntimeError: Found no NVIDIA driver on your system.`; `ImportError: libcuda.so.1: cannot open shared
    object file: No such file or directory`; a stub: `CUDA driver is a stub library` (error 34).

    Decided: device files and frameworks for CUDA are there and the library is not: breaks, likely. cuInit answered
    34: breaks, certain; the file that is found lies in a directory stubs, or LD_LIBRARY_PATH of an image leads to a
    libcuda.so.1 there: breaks, likely; the loader's cache does: possible.

    Fix: start with the capability compute; take stubs off LD_LIBRARY_PATH.

    Limits: a program may add directories of its own.
    """

    code = "GPU004"
    name = "no-libcuda"
    reads = ("gpu", "cuda")
    references = (
        _SPECIALIZED,
        "https://github.com/abetlen/llama-cpp-python/issues/1169",
        "https://github.com/NVIDIA/warp/issues/219",
        "https://github.com/numba/numba/issues/9732",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None or gpu.started_without_devices(target):
            return
        if gpu.placed(target):
            yield from self._stub_of_the_image(target)
            return
        library = facts["libcuda"]
        if library is None:
            if gpu.numbered_files(facts) and gpu.built_for_cuda(target):
                yield self._missing(target, facts)
        elif library["init"] == 34 or (library["init"] is None and "/stubs/" in library["path"]):
            yield self._stub(
                target,
                library["path"],
                Confidence.CERTAIN if library["init"] == 34 else Confidence.LIKELY,
                [at(target, "target", *NVIDIA, "libcuda", key) for key in ("path", "init")],
            )

    def _missing(self, target: Snapshot, facts: Facts) -> Finding:
        first = next(iter(gpu.numbered_files(facts)))
        capabilities = lookup(target, ("cuda", "image", "driver_capabilities"))
        given = f" NVIDIA_DRIVER_CAPABILITIES is {capabilities}." if capabilities is not None else ""
        return self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            "The GPU is there, but no libcuda.so.1 is found",
            Subject("library", "libcuda.so.1"),
            f"{first} is there. The driver's library is not on LD_LIBRARY_PATH, in the loader's cache or in the usual "
            f"directories.{given}",
            predicted_error=gpu.no_driver_error(target),
            evidence=[
                at(target, "target", *NVIDIA, "libcuda"),
                at(target, "target", *NVIDIA, "device_nodes", first, "mode"),
                at(target, "target", "cuda", "image", "driver_capabilities"),
                *gpu.uses_cuda(target)[:4],
            ],
            fix=[
                Fix("docker-run", "--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
                Fix("advice", "On a machine of its own: install the driver's package with libcuda.so.1 (libcuda1)."),
            ],
        )

    def _stub_of_the_image(self, target: Snapshot) -> Iterator[Finding]:
        copies: Mapping[str, Facts] = lookup(target, ("cuda", "driver")) or {}
        for path, record in sorted(copies.items()):
            named = bool({"LD_LIBRARY_PATH", "cache", "default"} & set(record["via"]))
            if record["kind"] == "stub" and named and path.endswith(".so.1"):
                confidence = Confidence.LIKELY if "LD_LIBRARY_PATH" in record["via"] else Confidence.POSSIBLE
                evidence = [at(target, "target", "cuda", "driver", path, key) for key in ("kind", "via")]
                yield self._stub(target, path, confidence, evidence)
                return

    def _stub(self, target: Snapshot, path: str, confidence: Confidence, evidence: list[Evidence]) -> Finding:
        directory = path.rpartition("/")[0]
        return self.finding(
            Impact.BREAKS,
            confidence,
            f"The loader finds a stub of libcuda, {path}",
            Subject("library", "libcuda.so.1"),
            "A stub has the names of the driver's functions and none of their code; every call fails.",
            predicted_error=gpu.start_error(target, 34),
            evidence=evidence,
            fix=[
                Fix("advice", f"Take {directory} off LD_LIBRARY_PATH; to link, use LIBRARY_PATH or the linker's -L."),
                Fix("dockerfile", f"RUN rm -f {shlex.quote(path)} && ldconfig"),
            ],
        )


class GPU009(Contradiction):
    """This user may not open the NVIDIA device files.

    Compares: owner, group and mode of /dev/nvidiactl, /dev/nvidia-uvm and /dev/nvidia0 and on with the user who runs
    the interpreter.

    Why: CUDA talks to the driver through these files. Where a machine gives them to a group (ModifyDeviceFiles, a
    udev rule), a service or a container with another user sees no GPU.

    See: torch: `RuntimeError: No CUDA GPUs are available`; `no CUDA-capable device is detected`; nvidia-smi: `Failed
    to initialize NVML: Insufficient Permissions`.

    Decided: one of the two shared files, or every numbered one, may not be read and written: breaks, certain where
    cuInit failed too, likely where it was not asked, or answered what has another reason (a stub, a libcuda that does
    not fit). Nothing where cuInit succeeded.

    Fix: the group of the files for the user, or mode 0666, which is what the driver sets by itself.

    Limits: a device that the control group denies is not seen here. Access control lists are not read.
    """

    code = "GPU009"
    name = "device-files-denied"
    reads = ("gpu",)
    references = (
        "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/index.html",
        "https://man7.org/linux/man-pages/man7/path_resolution.7.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None:
            return
        answer = None if gpu.placed(target) else (facts["libcuda"] or {}).get("init")
        shared = [path for path in ("/dev/nvidiactl", "/dev/nvidia-uvm") if path in facts["device_nodes"]]
        numbered = gpu.numbered_files(facts)
        denied = [path for path in (*shared, *numbered) if not facts["device_nodes"][path]["accessible"]]
        if answer == 0 or not ({*shared} & {*denied} or (numbered and {*numbered} <= {*denied})):
            return
        node = facts["device_nodes"][denied[0]]
        uid = lookup(target, ("limits", "user", "uid"))
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN if answer and answer not in gpu.OTHER_REASONS else Confidence.LIKELY,
            f"{'This user' if uid is None else f'User {uid}'} may not open {wheels.listed(denied)}",
            Subject("driver", "device-files"),
            f"{denied[0]} has mode {node['mode']} and belongs to user {node['uid']} and group {node['gid']}.",
            predicted_error=gpu.start_error(target, answer or 100),
            evidence=[
                *(at(target, "target", *NVIDIA, "device_nodes", path) for path in denied[:4]),
                *([at(target, "target", *NVIDIA, "libcuda", "init")] if answer else []),
                *([at(target, "target", "limits", "user", "uid")] if uid is not None else []),
            ],
            fix=[
                Fix("docker-run", f"--group-add {node['gid']}") if node["gid"] else
                Fix("advice", "On the machine: chmod 0666 " + " ".join(denied[:4])),
                Fix("advice", "For good: NVreg_DeviceFileMode and NVreg_DeviceFileGID, options of the module nvidia."),
            ],
        )  # fmt: skip


class GPU010(Contradiction):
    """The machine has an NVIDIA driver, and this container was started without its devices.

    Compares: the kernel module, which a container sees, with the device files, which only a start with GPUs brings;
    and whether frameworks for CUDA are installed.

    Why: without /dev/nvidia0, /dev/nvidiactl and /dev/nvidia-uvm CUDA finds no device. Engines do not pass them on by
    themselves.

    See: torch: `RuntimeError: Found no NVIDIA driver on your system.`, and `torch.cuda.is_available()` is False
    without a word; with the devices and without nvidia-uvm: `CUDA unknown error`.

    Decided: in a container, the module is there and no device file is, and a framework was built for CUDA: breaks,
    likely. Devices are there and /dev/nvidia-uvm is not, and CUDA was not seen to start: breaks, likely. An image that
    driftcheck started by itself is left alone: it had no options.

    Fix: start the container with its GPUs.

    Limits: on purpose looks the same as by mistake.
    """

    code = "GPU010"
    name = "started-without-gpus"
    reads = ("gpu", "cuda")
    references = (
        "https://docs.docker.com/engine/containers/gpu/",
        _SPECIALIZED,
        "https://github.com/vllm-project/vllm/issues/1989",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None or gpu.placed(target) or gpu.started_without_devices(target):
            return
        answer = (facts["libcuda"] or {}).get("init")
        if facts["kernel_module"] is None or answer == 0 or not gpu.built_for_cuda(target):
            return
        evidence = [at(target, "target", *NVIDIA, "kernel_module", "version"), *gpu.uses_cuda(target)[:4]]
        if not gpu.numbered_files(facts) and _contained(target):
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                "The container was started without the machine's GPUs",
                Subject("driver", "device-files"),
                f"The kernel has the NVIDIA driver {facts['kernel_module']['version']}, and no /dev/nvidia0 is here.",
                predicted_error=gpu.no_driver_error(target),
                evidence=[*evidence, at(target, "target", *NVIDIA, "device_nodes")],
                fix=[
                    Fix("docker-run", "--gpus all"),
                    Fix("advice", "Compose: deploy.resources.reservations.devices with capabilities [gpu]; Kubernetes: "
                                  "resources.limits nvidia.com/gpu."),
                ],
            )  # fmt: skip
        elif gpu.numbered_files(facts) and "/dev/nvidia-uvm" not in facts["device_nodes"]:
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                "/dev/nvidia-uvm is missing, without which CUDA does not start",
                Subject("driver", "device-files"),
                "Its module nvidia_uvm is loaded, and the file made, by nvidia-modprobe at the first use as root.",
                predicted_error=gpu.start_error(target, 999),
                evidence=[*evidence, at(target, "target", *NVIDIA, "device_nodes")],
                fix=[
                    Fix("advice", "On the machine: nvidia-modprobe -u -c=0, then start the container again."),
                    Fix("docker-run", "--gpus all"),
                ],
            )
