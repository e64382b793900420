"""Family GPU: the driver against what was built for it, and against the libcuda that came with an image."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import torch_from
from driftcheck.rules.gpu_facts import NVIDIA, Facts, Fit
from driftcheck.snapshot import Snapshot

# PyTorch's indexes for the last release of CUDA that each family of drivers takes.
_TORCH_INDEX = {11: "cu118", 12: "cu126"}


class GPU001(Contradiction):
    """The NVIDIA driver is too old for the CUDA version of what is installed.

    Compares: the CUDA version that each framework was built for, as its own files say, with the CUDA level that the
    driver answers; where it does not answer, with the level of its version in the table of drivers.

    Why: the CUDA runtime refuses to start on a driver of an older major version. Within one major version it starts
    (minor version compatibility): CUDA 12.8 runs on a driver of 12.2.

    See: torch: `RuntimeError: The NVIDIA driver on your system is too old (found version 12020).`, before that
    `torch.cuda.is_available()` returns False with the same words as a warning; others: `CUDA driver version is
    insufficient for CUDA runtime version` (error 35).

    Decided: the major version of the driver's level is lower, for CUDA 10 and older the level itself: breaks,
    likely. Possible where a compat library in the image may lift the level, or where no framework says what it was
    built for and only the runtime library is there. A driver that is newer is never a reason.

    Fix: a newer driver on the machine, a build of the framework for an older CUDA, or, on data-center GPUs, the
    package cuda-compat in the image.

    Limits: what a framework does without CUDA is not known; some go on with the CPU. The table is that of Linux.
    """

    code = "GPU001"
    name = "driver-too-old"
    reads = ("gpu", "cuda")
    references = (
        f"{gpu.COMPATIBILITY}/minor-version-compatibility.html",
        "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html",
        "https://github.com/googlecolab/colabtools/issues/1685",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts, offered = gpu.nvidia(target), gpu.driver_level(target)
        if facts is None or offered is None:
            return
        wanted, guessed = _wanted(target)
        for runtime in sorted({found for found, _ in wanted.values() if cuda.needed_level(found) > offered.value}):
            names = [name for name, (found, _) in wanted.items() if found == runtime]
            yield self._finding(target, facts, offered, runtime, names, wanted, sure=offered.sure and not guessed)

    def _finding(
        self,
        target: Snapshot,
        facts: Facts,
        offered: gpu.DriverLevel,
        runtime: cuda.Level,
        names: list[str],
        wanted: dict[str, tuple[cuda.Level, tuple[str, ...]]],
        *,
        sure: bool,
    ) -> Finding:
        level, version = cuda.spelled(offered.value), gpu.driver_version(facts)
        driver = f"The driver {version} (CUDA {level})" if version else f"The driver (CUDA {level})"
        family = cuda.families().get(runtime[0])
        needed = family.driver if family else cuda.first_driver(runtime)
        number = offered.value[0] * 1000 + offered.value[1] * 10
        error = (
            f"RuntimeError: The NVIDIA driver on your system is too old (found version {number}). Please update your "
            "GPU driver by downloading and installing a new version from the URL: "
            "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a PyTorch "
            "version that has been compiled with your version of the CUDA driver."
        )
        fixes = []
        if needed:
            fixes.append(Fix("advice", f"Update the driver of the machine to {needed} or newer."))
        if "torch" in names and offered.value[0] in _TORCH_INDEX:
            fixes += torch_from(target, _TORCH_INDEX[offered.value[0]])
        return self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if sure else Confidence.POSSIBLE,
            f"{driver} is too old for CUDA {cuda.spelled(runtime)}, which {wheels.listed(names)} "
            f"{'needs' if len(names) == 1 else 'need'}",
            Subject("cuda", cuda.spelled(runtime)),
            f"Programs for CUDA {cuda.spelled(runtime)} start on a driver of CUDA "
            f"{cuda.spelled(cuda.needed_level(runtime))} and newer"
            + (f", which is {needed} on Linux." if needed else ".")
            + (
                ""
                if offered.sure
                else " A compat library in the image may lift it; whether it may be used is not known."
            ),
            predicted_error=error if "torch" in names else gpu.CUDA_ERRORS[35],
            evidence=[
                at(target, "target", *offered.path),
                *gpu.version_evidence(target, facts),
                *(at(target, "target", *wanted[name][1]) for name in names[:6]),
            ],
            fix=fixes,
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        return effect.code == "GPU002"


def _wanted(target: Snapshot) -> tuple[dict[str, tuple[cuda.Level, tuple[str, ...]]], bool]:
    """``{name: (CUDA version that it was built for, where that stands)}``, and whether it is only guessed from the
    runtime libraries that lie there.
    """
    found: dict[str, tuple[cuda.Level, tuple[str, ...]]] = {}
    for name, record in gpu.built_for_cuda(target).items():
        level = cuda.level(record.get("cuda"))
        if level is not None:
            found[name] = (level, ("cuda", "builds", name, "cuda"))
    if found or gpu.built_for_cuda(target):
        return found, False
    libraries: dict[str, Any] = lookup(target, ("cuda", "libraries", "cudart")) or {}
    for file, record in sorted(libraries.items()):
        match = re.fullmatch(r"libcudart\.so\.(\d{2})(?:\.\d)?", record.get("soname") or "")
        if match and not record["stub"]:
            found[str(match[0])] = ((int(match[1]), 0), ("cuda", "libraries", "cudart", file, "soname"))
    # The newest may be one that nobody loads: where an older one is there too, nothing is said.
    lowest = min((level for level, _ in found.values()), default=None)
    return {name: entry for name, entry in found.items() if entry[0] == lowest}, True


class GPU005(Contradiction):
    """A libcuda that came with the image does not go with the kernel's driver or with the GPU.

    Compares: the version of the compat libcuda in the image, and the branches of the driver that it states itself
    (`.note.cuda.fwd_compatibility`), with the kernel's driver and the names of the devices; in a running
    environment the answer of cuInit.

    Why: libcuda and the kernel module are two halves of one driver. A compat library of a newer release may be put
    on an older kernel module, but only on branches that it was made for, and only on data-center GPUs; one that is
    older than the kernel module is never right. The container runtime puts a newer one in front by itself.

    See: `Error 803: system has unsupported display driver / cuda driver combination`; on GeForce and other
    consumer cards `Error 804: forward compatibility was attempted on non supported HW`.

    Decided: cuInit answered 803 or 804: breaks, certain. Predicted, likely: a library that the loader finds and that
    is older than the kernel's driver; a newer one on a GeForce or TITAN; a newer one that states its branches and
    not this one. Possible where only NVIDIA's own images tell which branches.

    Fix: remove the compat library where the driver's own level is enough, else update the driver.

    Limits: whether a workstation card is among the few that are allowed is not known; then nothing is said.
    """

    code = "GPU005"
    name = "compat-libcuda-does-not-fit"
    reads = ("gpu", "cuda")
    references = (
        f"{gpu.COMPATIBILITY}/forward-compatibility.html",
        "https://github.com/NVIDIA/nvidia-docker/issues/1515",
        "https://github.com/NVIDIA/nvidia-docker/issues/1256",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = gpu.nvidia(target)
        if facts is None:
            return
        library, answer = facts.get("libcuda") or {}, (facts.get("libcuda") or {}).get("init")
        if answer in {803, 804}:
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if gpu.placed(target) else Confidence.CERTAIN,
                f"CUDA does not start: {gpu.CUDA_ERRORS[answer]}",
                Subject("library", "libcuda.so.1"),
                f"The loader finds {library['path']} (version {library.get('version') or 'not known'}), and the driver "
                f"of the kernel is {gpu.driver_version(facts) or 'not known'}. cuInit answers {answer}.",
                predicted_error=gpu.start_error(target, answer),
                evidence=[
                    at(target, "target", *NVIDIA, "libcuda", "init"),
                    at(target, "target", *NVIDIA, "libcuda", "path"),
                    at(target, "target", *NVIDIA, "libcuda", "version"),
                    *gpu.version_evidence(target, facts),
                ],
                fix=_compat_fixes(str(library["path"]), removable=True),
            )
        elif gpu.placed(target) or (answer is None and library):
            yield from self._predicted(target, facts)

    def _predicted(self, target: Snapshot, facts: Facts) -> Iterator[Finding]:
        library = gpu.compat_library(target)
        if library is None:
            return
        fit = library.fit(facts)
        if fit not in {Fit.OLDER, Fit.UNLISTED, Fit.FORBIDDEN}:
            return
        branches = library.branches()
        stated = fit is not Fit.UNLISTED or (branches is not None and branches[1])
        kernel = gpu.driver_version(facts)
        version = library.record.get("version") or f"of CUDA {cuda.spelled(library.level or (0, 0))}"
        code = 804 if fit is Fit.FORBIDDEN else 803
        evidence = [at(target, "target", *library.place, "version"), *gpu.version_evidence(target, facts)]
        if fit is Fit.OLDER:
            title = f"The image's libcuda {version} is older than the kernel's driver {kernel}"
            why = "The loader finds it before the driver's own, and an older half never goes with a newer module."
        elif fit is Fit.UNLISTED:
            title = f"The image's compat libcuda {version} is not made for the kernel's driver {kernel}"
            known = ", ".join(str(branch) for branch in sorted(branches[0])) if branches else ""
            why = f"It is meant for the branches {known}."
            if stated:
                evidence.append(at(target, "target", *library.place, "note", "drivers"))
        else:
            number, device = next(iter(gpu.devices(target).items()))
            title = f"The image's compat libcuda {version} is not allowed on {device.get('name')}"
            why = "Forward compatibility is for data-center GPUs."
            evidence.append(at(target, "target", *gpu.on_device(number, "name")))
        if not library.loaded:
            why += f" The library is newer than the driver {kernel}, so the container runtime puts it in front."
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if stated else Confidence.POSSIBLE,
            title,
            Subject("library", "libcuda.so.1"),
            why,
            predicted_error=gpu.start_error(target, code),
            evidence=[*evidence, at(target, "target", *library.place, "via")],
            fix=_compat_fixes(library.key, removable=_runs_without(target, facts)),
        )


def _runs_without(target: Snapshot, facts: Facts) -> bool:
    """Whether everything that was built for CUDA starts on the driver's own level, so that the library may go."""
    own = gpu.kernel_level(facts)
    wanted, _ = _wanted(target)
    return own is not None and all(cuda.needed_level(level) <= own.value for level, _ in wanted.values())


def _compat_fixes(path: str, *, removable: bool) -> list[Fix]:
    directory = path.rpartition("/")[0]
    update = "Update the driver of the machine, so that no compat library is needed."
    if not removable:
        return [Fix("advice", update)]
    if "/compat" in directory:
        return [
            Fix("dockerfile", f"RUN rm -rf {shlex.quote(directory)} && ldconfig"),
            Fix("advice", f"Or {update[:1].lower()}{update[1:]}"),
        ]
    advice = f"Take {directory} off LD_LIBRARY_PATH and out of /etc/ld.so.conf.d, then run ldconfig."
    return [Fix("advice", advice), Fix("advice", f"Or {update[:1].lower()}{update[1:]}")]
