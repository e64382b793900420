"""Family GPU: NCCL, by which several GPUs compute together. Does it start on this driver, is it new enough?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.knowledge import gpu_libraries as known
from driftcheck.rules import cuda_copies as copies
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import shared_objects as so
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, Sides, at
from driftcheck.rules.cuda_copies import Copy
from driftcheck.rules.distributions import distributions_of, pip_fix
from driftcheck.rules.shared_objects import Failing
from driftcheck.snapshot import Snapshot

_WHEEL = re.compile(r"^nvidia-nccl-cu\d{2}$")


class GPU038(Contradiction):
    """NCCL was built with a newer CUDA than the driver, or than the framework beside it.

    Compares: the CUDA that the loaded NCCL states ("NCCL version 2.29.7+cuda13.2") with the CUDA level of the driver;
    where no driver was measured, with the CUDA that the frameworks were built for.

    Why: every NCCL 2 has the soname libnccl.so.2, whichever CUDA it is for, so the loader takes any copy; and NCCL
    holds a CUDA runtime of its own, which refuses a driver of an older major version. The framework starts on that
    driver, computes on one GPU, and fails where two of them first speak to each other.

    See: `torch.distributed.DistBackendError: NCCL error in: ..., unhandled cuda error (run with NCCL_DEBUG=INFO for
    details)` and, as its last error, `Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'`.

    Decided: the major version of the driver's level is lower: breaks, likely; possible where the machine has one GPU
    alone, or a compat library may lift the level. Without a driver: the frameworks start on drivers on which this NCCL
    does not: breaks, possible. An NCCL for an older CUDA runs, and is never a reason.

    Fix: the NCCL for the CUDA of the driver or of the framework.

    Limits: an NCCL inside of a framework (TensorFlow, some builds of PyTorch) is not seen. One that states no CUDA is
    not judged.
    """

    code = "GPU038"
    name = "nccl-for-newer-cuda"
    reads = ("cuda",)
    references = (
        "https://github.com/rapidsai/cuml/issues/5961",
        "https://github.com/PaddlePaddle/Paddle/issues/8195",
        f"{gpu.COMPATIBILITY}/minor-version-compatibility.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        found = _loaded(target)
        built_with = cuda.level(found.record.get("cuda")) if found is not None else None
        if found is None or built_with is None or not gpu.chosen_for_cuda(target):
            return
        needed, offered, frameworks = cuda.needed_level(built_with), gpu.driver_level(target), _frameworks(target)
        if offered is None:
            if frameworks and all(needed > level for level in frameworks.values()):
                first = min(frameworks, key=lambda name: (-frameworks[name][0], name))
                yield self._finding(
                    target,
                    found,
                    Confidence.POSSIBLE,
                    f", and {first} for CUDA {gpu.builds(target)[first]['cuda']}",
                    f"{first} starts on drivers for CUDA {cuda.spelled(frameworks[first])} too, and computes there "
                    "until several GPUs work together.",
                    [at(target, "target", "cuda", "builds", name, "cuda") for name in frameworks],
                    frameworks[first][0],
                )
        # Where no framework starts on this driver either, GPU001 says all that there is to say.
        elif needed > offered.value and any(level <= offered.value for level in frameworks.values()):
            facts = gpu.nvidia(target) or {}
            version = gpu.driver_version(facts)
            sure = offered.sure and len(gpu.devices(target)) != 1
            yield self._finding(
                target,
                found,
                Confidence.LIKELY if sure else Confidence.POSSIBLE,
                f", and does not start on the driver{f' {version}' if version else ''} "
                f"(CUDA {cuda.spelled(offered.value)})",
                "It is used where several GPUs compute together.",
                [at(target, "target", *offered.path), *gpu.version_evidence(target, facts)],
                offered.value[0],
            )

    def _finding(
        self,
        target: Snapshot,
        found: Copy,
        confidence: Confidence,
        against: str,
        consequence: str,
        evidence: Sequence[Evidence],
        generation: int,
    ) -> Finding:
        """``against``: what its CUDA is too new for; ``generation``: of the CUDA that would do."""
        built_with = found.record["cuda"]
        needed = cuda.needed_level(cuda.level(built_with) or (0, 0))
        return self.finding(
            Impact.BREAKS,
            confidence,
            f"NCCL {copies.text(found.version)} was built with CUDA {built_with}{against}",
            Subject("library", found.soname),
            f"{found.file} holds the runtime of CUDA {built_with}, which wants a driver for CUDA "
            f"{cuda.spelled(needed)} or newer. {consequence}",
            predicted_error=f"Cuda failure '{gpu.CUDA_ERRORS[35]}'",
            evidence=[found.evidence(target), *evidence],
            fix=_fix(target, found, generation),
        )


class GPU039(Contradiction):
    """NCCL is older than the one that the framework was built with.

    Compares: the functions of NCCL that a framework calls with those of the copy that the loader takes; the NCCL that
    the wheel of torch pins (nvidia-nccl-cu12==2.27.5, with which it was built) with the version of that copy.

    Why: all of NCCL 2 shares the soname libnccl.so.2 and has no versions of symbols, so any copy answers: that of the
    image in LD_LIBRARY_PATH, or that of nvidia-nccl-cu11, which lies in the same directory as nvidia-nccl-cu12.
    A newer NCCL serves programs that were built with an older one; the other way round functions are missing.

    See: `ImportError: .../torch/lib/libtorch_cuda.so: undefined symbol: ncclMemFree`. Where no function is missing no
    error: NCCL chooses by its own version how it sums over GPUs, so the last digits and the speed may be others.

    Decided: a missing function is proved as LIB003 proves it, and as sure; this rule names the NCCL that brought it.
    Else an older minor version than the pin: changes-results, possible.

    Fix: take the directory off LD_LIBRARY_PATH, or install the NCCL that torch pins.

    Limits: builds without such a pin (conda, from source) are judged by their functions alone.
    """

    code = "GPU039"
    name = "nccl-older-than-framework"
    reads = ("cuda",)
    references = (
        "https://github.com/pytorch/pytorch/issues/176829",
        "https://github.com/pytorch/pytorch/issues/186591",
        "https://github.com/NVIDIA/nccl/issues/1180",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        lacking = [one for one in so.failing(target, "undefined") if re.match(r"p?nccl[A-Z]", one.name)]
        if lacking:
            yield self._lacking(target, lacking)
        else:
            yield from self._older(target)

    def _lacking(self, target: Snapshot, lacking: Sequence[Failing]) -> Finding:
        found = _loaded(target)
        first, error = so.predicted(lacking, "symbol")
        shown = first or lacking[0]
        brought = max((version for one in lacking if (version := known.nccl_of(one.name))), default=None)
        older = (
            f"NCCL {copies.text(found.version)}" if found is not None and found.version else "the NCCL that is there"
        )
        newer = f"NCCL {copies.text(brought)} or newer" if brought else "a newer NCCL"
        return self.finding(
            so.worst(lacking),
            so.confidence_of(target, shown),
            f"{shown.entry['by'].rsplit('/', 1)[-1]} needs {newer}, and {older} answers",
            Subject("library", found.soname if found is not None else "libnccl.so.2"),
            f"{shown.entry['by']} calls {shown.name}"
            + (f", which NCCL {copies.text(known.nccl_of(shown.name))} brought. " if brought else ". ")
            + (f"{found.file} answers for {found.soname} and does not have it." if found is not None else ""),
            predicted_error=error,
            evidence=[
                *so.evidence_of(target, sorted(lacking, key=lambda one: one is not shown)),
                *([found.evidence(target)] if found is not None else []),
            ],
            fix=_fix(target, found, None),
        )

    def _older(self, target: Snapshot) -> Iterator[Finding]:
        found, pin = _loaded(target), copies.pin_of_torch(target, "nccl")
        if found is None or found.version is None or pin is None or found.version[:2] >= pin.version[:2]:
            return
        if "torch" not in gpu.chosen_for_cuda(target):
            return
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"NCCL {copies.text(found.version)} would be loaded, and torch was built with {copies.text(pin.version)}",
            Subject("library", found.soname),
            pin.explanation(found),
            evidence=[found.evidence(target), pin.evidence(target)],
            fix=_fix(target, found, None),
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """The same missing function, as LIB003 sees it; the pin that does not hold, as pip sees it."""
        del sides
        places = {entry.path for entry in finding.evidence if "undefined" in entry.path}
        if effect.code == "LIB003":
            return any(entry.path in places for entry in effect.evidence)
        return effect.code == "PKG001" and effect.subject.name.startswith("torch -> nvidia-nccl")


def _loaded(target: Snapshot) -> Copy | None:
    """The NCCL that the loader takes: there is one soname."""
    return copies.taken(target, "nccl", "libnccl.so.2")


def _frameworks(target: Snapshot) -> dict[str, cuda.Level]:
    """``{name: CUDA level of the oldest drivers on which it starts}``, of those that state their CUDA."""
    stated = {name: cuda.level(gpu.builds(target)[name].get("cuda")) for name in gpu.chosen_for_cuda(target)}
    return {name: cuda.needed_level(level) for name, level in stated.items() if level is not None}


def _fix(target: Snapshot, found: Copy | None, generation: int | None) -> Sequence[Fix]:
    """``generation``: of the CUDA that NCCL should be for; None where only its version is wrong."""
    if found is not None and found.by_variable:
        return [Fix("variable", f"LD_LIBRARY_PATH without {found.directory}")]
    pin = copies.pin_of_torch(target, "nccl")
    wanted = f"nvidia-nccl-cu{generation}" if generation is not None else ""
    if pin is not None and pin.requirement.startswith(wanted):
        wanted = pin.requirement
    if not wanted or (found is not None and not found.of_wheel):
        return [Fix("advice", "Install the NCCL that the framework was built with.")]
    # All wheels of NCCL write the same file: who removes one removes the file of the other too.
    installed = distributions_of(target)
    needed = {wheels.req_name(text) for record in installed.values() for text in record["requires"]}
    others = sorted(one for one in installed if _WHEEL.match(one) and one != wanted.partition("==")[0])
    others = [one for one in others if one not in needed]
    removal = pip_fix(target, f"uninstall -y {' '.join(others)}") if others else ()
    return [*removal, *pip_fix(target, f"install --force-reinstall --no-deps {wanted}")]
