"""Family GPU: another major version of CUDA is one cause, with the packages of thirty names as its effects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects
from driftcheck.rules import requirements as req
from driftcheck.rules.accelerators import build_of
from driftcheck.rules.base import Drift, Sides
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot

# Packages whose name says for which CUDA they are: nvidia-cublas-cu12, cupy-cuda12x, jax-cuda12-plugin.
_NAMED = re.compile(r"-cu(?:da)?(\d{2})(?:x|\d)?(?:-|$)")

# NVIDIA's packages of CUDA 13 lost the ending, and their version is that of CUDA:
# the releases of nvidia-cuda-runtime in the registry (read 2026-11-22)
_OF_CUDA = frozenset({"nvidia-cuda-runtime", "nvidia-cuda-nvrtc", "nvidia-cublas", "nvidia-cuda-cupti"})
_PREFIXES = ("nvidia-", "cuda-")
# What states a CUDA in its local version.
_BUILDS = ("torch", "torchvision", "torchaudio", "jaxlib", "vllm")
_SHOWN = 4
# A driver too old for it, and what was built for, or looks for, the libraries of the other one.
_OF_ANOTHER_CUDA = frozenset({"GPU001", "GPU024", "GPU025", "GPU026", "GPU033"})


class GPU040(Drift):
    """The packages are for another major version of CUDA.

    Compares: the local version of torch and of what is built like it (+cu128, +cu130), and the packages that
    carry a CUDA in their name (nvidia-cublas-cu12, cupy-cuda12x), in both environments.

    Why: a framework brings the libraries of its CUDA as packages of their own, a dozen or more, whose names
    hold its major version. Another major version therefore shows as some packages less and some more, and
    changes the library names (libcudart.so.12, libcudart.so.13) that compiled extensions ask for.

    See: `ImportError: libcudart.so.12: cannot open shared object file: No such file or directory` from an
    extension that was compiled for the other one; else nothing, as long as the driver is new enough.

    Decided: each side states one major version and the two differ: a note, likely. Whether the driver, the
    extensions and the libraries go together is decided by the other rules of this family, by PKG008 and LIB001.

    Fix: install the framework of the baseline from the index that PyTorch publishes for its CUDA.

    Limits: builds without a local version say nothing, and conda's are not read. Toolkits that stand beside
    the packages are not looked at here.
    """

    code = "GPU040"
    name = "other-cuda-major"
    reads = ("packages",)
    references = (
        "https://pytorch.org/get-started/locally/",
        "https://docs.nvidia.com/deploy/cuda-compatibility/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = cuda_of(baseline, "baseline"), cuda_of(target, "target")
        if before is None or after is None or before[0] == after[0]:
            return
        theirs, ours = before[0], after[0]
        index = build_of(distributions_of(baseline).get("torch", {"version": None}))
        yield self.finding(
            Impact.NOTE,
            Confidence.LIKELY,
            f"Packages for CUDA {ours} instead of CUDA {theirs}",
            Subject("cuda", "major"),
            f"The libraries of CUDA come as packages, whose names and versions go with its major version. CUDA {ours} "
            "needs a driver of its own generation, and extensions that were compiled for it.",
            evidence=[*before[1], *after[1]],
            fix=[
                Fix(
                    "advice",
                    f"Install torch from the index that PyTorch publishes for {index or f'CUDA {theirs}'}, with the "
                    "versions of the baseline.",
                )
            ],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding
        if change.section == "cuda":
            return True
        about = effects.distributions_of_change(change)
        return bool(about) and all(_goes_with_cuda(sides, name) for name in about)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What mixes the two, what still wants the libraries of the other one, and the same version built for it."""
        del finding
        before = cuda_of(sides.baseline, "baseline") if sides.baseline is not None else None
        if before is None:
            return False
        if effect.code == "LIB001":
            names = effects.sonames_of(effect)
            return bool(names) and all(
                re.fullmatch(rf"lib(?:cu|nv|nccl)\w*\.so\.{before[0]}(?:\.\d+)*", name) for name in names
            )
        if effect.code == "PKG001":
            return _named_major(effect.subject.name.partition(" -> ")[2]) == before[0]
        if effect.code in {"PKG005", "PKG008"}:
            return effect.subject.name in _BUILDS
        return effect.code in _OF_ANOTHER_CUDA


def cuda_of(snapshot: Snapshot, side: str) -> tuple[int, list[Evidence]] | None:
    """The one major version of CUDA that packages state, and where; None where they state none or several."""
    found: dict[int, list[Evidence]] = {}
    distributions = distributions_of(snapshot)
    for name in _BUILDS:
        build = build_of(distributions[name]) if name in distributions else None
        if build is not None and re.fullmatch(r"cu\d{3}", build):
            record = distributions[name]
            key = "module_version" if build_of({"version": record["version"]}) is None else "version"
            found.setdefault(int(build[2:4]), []).append(Evidence(side, (*DISTRIBUTIONS, name, key), record[key]))
    if not found:
        for name, record in sorted(distributions.items()):
            major = _named_major(name) or _major_of(name, record)
            if major is not None:
                found.setdefault(major, []).append(Evidence(side, (*DISTRIBUTIONS, name, "version"), record["version"]))
    if len(found) != 1:
        return None
    ((major, evidence),) = found.items()
    return major, evidence[:_SHOWN]


def _named_major(name: str) -> int | None:
    found = _NAMED.search(name)
    return int(found[1]) if found else None


def _major_of(name: str, record: dict[str, Any]) -> int | None:
    version = req.parsed(req.version_of(record)) if name in _OF_CUDA else None
    return version.major if version is not None else None


def _goes_with_cuda(sides: Sides, name: str) -> bool:
    if name.startswith(_PREFIXES) or _named_major(name) is not None:
        return True
    if name not in _BUILDS or sides.baseline is None:
        return False
    records = [distributions_of(snapshot).get(name) for snapshot in (sides.baseline, sides.target)]
    versions = [req.parsed(req.version_of(record)) if record else None for record in records]
    return None not in versions and len({version.public for version in versions if version}) == 1
