"""Family GPU: whether the driver itself is whole and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.gpu_facts import NVIDIA, Facts
from driftcheck.snapshot import Snapshot


class GPU006(Contradiction):
    """The driver's libraries and its kernel module have different versions.

    Compares: NVML's answer at its start, the version in the name of its file, and the version of the kernel module
    that is loaded.

    Why: both halves of a driver must be of one release. After an update the old module stays loaded until the
    machine is restarted; a container that was made before the update keeps the old libraries.

    See: `Failed to initialize NVML: Driver/library version mismatch` (nvidia-smi); new containers fail with
    `nvidia-container-cli: initialization error: nvml error: driver/library version mismatch`.

    Decided: NVML answered LIB_RM_VERSION_MISMATCH: breaks, certain. It was not asked or did not answer, and the two
    versions differ: breaks, likely.

    Fix: restart the machine, or unload and load the kernel modules; make containers anew.

    Limits: programs that run on go on with what they have loaded.
    """

    code = "GPU006"
    name = "driver-halves-differ"
    reads = ("gpu",)
    references = (
        "https://github.com/NVIDIA/nvidia-container-toolkit/issues/394",
        "https://github.com/NVIDIA/nvidia-docker/issues/365",
        "https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        library, module = (facts or {}).get("nvml"), (facts or {}).get("kernel_module")
        if facts is None or library is None:
            return
        versions = (library.get("version"), module["version"] if module else None)
        apart = all(cuda.version(one) for one in versions) and versions[0] != versions[1]
        said = library.get("code") == 18
        if not said and not (apart and library.get("code") is None):
            return
        evidence = [at(target, "target", *NVIDIA, "nvml", key) for key in ("code", "version", "path")]
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN if said else Confidence.LIKELY,
            f"The driver's library is {versions[0]} and its kernel module {versions[1]}"
            if apart
            else "The driver's libraries and its kernel module have different versions",
            Subject("driver", "nvidia"),
            "A kernel module stays loaded when the driver is updated, until the machine is restarted."
            + ("" if said else " NVML itself was not asked, or did not answer."),
            predicted_error="Failed to initialize NVML: Driver/library version mismatch",
            evidence=[*evidence, *gpu.version_evidence(target, facts)],
            fix=[
                Fix("advice", "Restart the machine, or stop what uses the GPUs and reload the modules: "
                              "rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia."),
                Fix("advice", "Make containers anew that were made before the driver was updated."),
            ],
        )  # fmt: skip

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        return effect.code == "GPU015"


class GPU007(Contradiction):
    """The GPUs are behind NVSwitches whose fabric is not ready.

    Compares: cuInit's answer, the state of each device on the fabric as NVML says it, and whether the fabric manager
    runs where there are NVSwitches.

    Why: on machines with NVSwitches the fabric manager, which must have exactly the driver's version, connects the
    GPUs. Until it has, CUDA does not start, although nvidia-smi lists every device.

    See: torch: `RuntimeError: Unexpected error from cudaGetDeviceCount(). [...] Error 802: system not yet
    initialized`.

    Decided: cuInit answered 802: breaks, certain. Where it was not asked: a device whose state is not completed:
    breaks, likely; only that no fabric manager is seen: possible, and nothing inside a container, which does not see
    the processes of its host.

    Fix: install the fabric manager of the driver's version on the machine and start it.

    Limits: the version of the fabric manager is not read.
    """

    code = "GPU007"
    name = "fabric-not-ready"
    reads = ("gpu",)
    references = (
        "https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/contents.html",
        "https://github.com/NVIDIA/NVSentinel/issues/883",
        "https://github.com/pytorch/pytorch/issues/35710",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None:
            return
        answer = (facts.get("libcuda") or {}).get("init")
        waiting = [
            number for number, one in gpu.devices(target).items() if one["fabric"] in {"not started", "in progress"}
        ]
        stopped = facts.get("fabric_manager") == {"running": False}
        contained = lookup(target, ("limits", "runtime")) is not None and not gpu.placed(target)
        evidence = [at(target, "target", *gpu.on_device(number, "fabric")) for number in waiting[:4]]
        if stopped:
            evidence.append(at(target, "target", *NVIDIA, "fabric_manager", "running"))
        if answer == 802:
            confidence = Confidence.CERTAIN
            evidence.insert(0, at(target, "target", *NVIDIA, "libcuda", "init"))
        elif answer is not None:
            return
        elif waiting:
            confidence = Confidence.LIKELY
        elif stopped and not contained and not any(one["fabric"] for one in gpu.devices(target).values()):
            confidence = Confidence.POSSIBLE
        else:
            return
        yield self.finding(
            Impact.BREAKS,
            confidence,
            "The NVSwitch fabric is not ready, so CUDA does not start",
            Subject("driver", "fabric"),
            "The GPUs are listed, but they are not connected yet."
            + (" No fabric manager runs." if stopped and not contained else ""),
            predicted_error=gpu.start_error(target, 802),
            evidence=evidence,
            fix=[
                Fix(
                    "advice",
                    "On the machine: install nvidia-fabricmanager of the driver's version "
                    f"({gpu.driver_version(facts)}) and start it: systemctl enable --now nvidia-fabricmanager.",
                )
            ],
        )


_BLACKWELL = re.compile(r"\bRTX 50\d0\b|\bBlackwell\b|\b(?:B100|B200|B300|GB200|GB300|GB10)\b", re.IGNORECASE)


class GPU008(Contradiction):
    """A Blackwell GPU has the proprietary kernel module, which does not drive it.

    Compares: the flavour of the kernel module and the names of the devices, where NVML lists none of them.

    Why: from Blackwell on (GeForce RTX 50, B200, RTX PRO Blackwell) NVIDIA supports the open kernel modules alone. The
    proprietary module loads, and leaves the device aside.

    See: `No devices were found` (nvidia-smi); in the kernel's log that the device `requires use of the NVIDIA open
    kernel modules`.

    Decided: the proprietary module is loaded, the kernel names a Blackwell device, and NVML was not able to list it:
    breaks, likely. Where NVML lists the device it works, and nothing is said.

    Fix: install the driver with the open kernel modules.

    Limits: the device is known by its name alone. Where the kernel does not name it, nothing is said.
    """

    code = "GPU008"
    name = "needs-open-kernel-module"
    reads = ("gpu",)
    references = (
        "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/kernel-modules.html",
        "https://github.com/getsolus/packages/issues/5575",
        "https://github.com/NVIDIA/open-gpu-kernel-modules/issues/862",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None or (facts.get("kernel_module") or {}).get("flavour") != "proprietary":
            return
        if facts.get("asked") != "proc" or (facts.get("libcuda") or {}).get("init") == 0:
            return
        for number, device in gpu.devices(target).items():
            name = device.get("name") or ""
            if not _BLACKWELL.search(name):
                continue
            branch = (cuda.version(gpu.driver_version(facts)) or (0,))[0]
            package = f"nvidia-driver-{branch}-open" if branch else "the driver with open kernel modules"
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} needs the open kernel module; the proprietary one is loaded",
                Subject("gpu", number),
                "NVML lists no device, and the kernel knows of this one. The proprietary module does not drive "
                "Blackwell and later GPUs.",
                predicted_error="No devices were found",
                evidence=[
                    at(target, "target", *NVIDIA, "kernel_module", "flavour"),
                    at(target, "target", *NVIDIA, "kernel_module", "version"),
                    at(target, "target", *gpu.on_device(number, "name")),
                    at(target, "target", *NVIDIA, "asked"),
                ],
                fix=[
                    Fix("advice", f"On the machine (Debian, Ubuntu): apt-get install {package}, and restart it.")
                    if branch
                    else Fix("advice", f"Install {package} on the machine, and restart it.")
                ],
            )
            return

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        return effect.code == "GPU015"


# What nvidia-smi prints after "Failed to initialize NVML: " (nvmlErrorString); 9 has a sentence of its own.
_NVML = {
    1: "Uninitialized",
    2: "Invalid Argument",
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    10: "Timeout",
    12: "NVML Shared Library Not Found",
    13: "Function Not Found",
    15: "GPU is lost",
    16: "GPU requires reset",
    17: "GPU access blocked by the operating system",
    999: "Unknown Error",
}
_NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
# These have rules of their own.
_ELSEWHERE = gpu.OTHER_REASONS | {0}


class GPU015(Contradiction):
    """The NVIDIA driver is there, and does not answer or answers with an error.

    Compares: what came of asking NVML and libcuda in a child process: their return codes, or that they hung or
    crashed.

    Why: nothing that uses a GPU starts on a driver that does not. A GPU that fell off the bus, a device file that a
    container lost (after `systemctl daemon-reload` on its host), a module that is not loaded all look like this.

    See: `Failed to initialize NVML: Unknown Error`, `Unable to determine the device handle for GPU: GPU is lost`, or
    a program that hangs at its first call; torch: `RuntimeError: CUDA unknown error - this may be due to an
    incorrectly set up environment`.

    Decided: cuInit answered an error that no other rule explains, or NVML did and CUDA was not seen to start:
    breaks, certain. NVML hung or crashed: breaks, likely. NVML failed while CUDA starts: a note, since only monitoring
    and what asks NVML is hit. Nothing where the device files are the reason (GPU009, GPU010).

    Fix: look at the kernel's log for lines of NVRM and Xid; make the container anew; restart the machine.

    Limits: the reason is in the kernel's log, which is not read.
    """

    code = "GPU015"
    name = "driver-does-not-answer"
    reads = ("gpu",)
    references = (
        "https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html",
        "https://docs.nvidia.com/deploy/xid-errors/index.html",
        "https://github.com/NVIDIA/nvidia-container-toolkit/issues/48",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None or not gpu.device_files_usable(facts):
            return
        library = facts.get("nvml") or {}
        answer = (facts.get("libcuda") or {}).get("init")
        code, status = library.get("code"), library.get("status")
        hidden = answer == 100 and (not gpu.devices(target) or gpu.may_be_hidden(target))
        if answer is not None and answer not in _ELSEWHERE and not hidden:
            found = self._of_cuda(target, facts, answer)
        elif status in {"timed out", "crashed"}:
            found = self._of_nvml(
                target, f"NVML {'hangs' if status == 'timed out' else 'crashes'}", None, Confidence.LIKELY
            )
        elif code and code != 18:
            text = _NOT_LOADED if code == 9 else f"Failed to initialize NVML: {_NVML.get(code, f'error {code}')}"
            found = self._of_nvml(
                target, f"NVML does not start: {_NVML.get(code, f'error {code}')}", text, Confidence.CERTAIN
            )
        else:
            return
        if answer == 0:
            found = replace(found, impact=Impact.NOTE)
        yield found

    def _of_cuda(self, target: Snapshot, facts: Facts, answer: int) -> Finding:
        text = gpu.CUDA_ERRORS.get(answer, f"error {answer}")
        return self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN,
            f"CUDA does not start: {text}",
            Subject("driver", "nvidia"),
            f"cuInit of {facts['libcuda']['path']} answers {answer}.",
            predicted_error=gpu.start_error(target, answer),
            evidence=[
                at(target, "target", *NVIDIA, "libcuda", "init"),
                at(target, "target", *NVIDIA, "libcuda", "path"),
                *gpu.version_evidence(target, facts),
            ],
            fix=_LOOK,
        )

    def _of_nvml(self, target: Snapshot, title: str, error: str | None, confidence: Confidence) -> Finding:
        return self.finding(
            Impact.BREAKS,
            confidence,
            title,
            Subject("driver", "nvidia"),
            "NVML was asked in a child process of its own. What lists devices or watches them asks it too.",
            predicted_error=error,
            evidence=[at(target, "target", *NVIDIA, "nvml", key) for key in ("status", "code", "path")],
            fix=_LOOK,
        )


_LOOK = (
    Fix("advice", "Look for NVRM and Xid in the kernel's log of the machine (dmesg), and try nvidia-smi there."),
    Fix("advice", "Make the container anew; where the machine itself has the error, restart it."),
)
