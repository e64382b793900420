"""Which accelerator a build of torch, torchvision or torchaudio is for, and which of them go together.

The error texts are those of ``torchvision/extension.py`` (0.15 and 0.28) and
``torchaudio/_extension/utils.py`` (2.11).
"""

from __future__ import annotations

import re
from typing import Any

from driftcheck.findings import Confidence, Impact
from driftcheck.rules import requirements as req
from driftcheck.rules.base import lookup
from driftcheck.rules.distributions import distributions_of
from driftcheck.snapshot import Snapshot


def build_of(record: dict[str, Any]) -> str | None:
    """``cpu``, ``cu130``, ``rocm6.4``, ``xpu``: what the local version says of the accelerator, None where
    nothing.
    """
    for text in (record.get("module_version"), req.version_of(record)):
        version = req.parsed(text)
        found = re.match(r"cpu(?![a-z])|cu\d{2,3}|rocm[\d.]+|xpu", version.local or "") if version else None
        if found:
            return found.group().rstrip(".")
    return None


def stated(record: dict[str, Any]) -> str | None:
    """The version that the code states, else that of the metadata."""
    found = record.get("module_version") or req.version_of(record)
    return found if isinstance(found, str) else None


def public_version(record: dict[str, Any]) -> str:
    """``torch==2.6.0``: what the code itself states, less what the build is for."""
    version = req.parsed(stated(record))
    return f"{record['name']}=={version.public}" if version else str(record["name"])


def judge(
    target: Snapshot, name: str, torch: dict[str, Any], record: dict[str, Any]
) -> tuple[Impact, Confidence, str | None, str]:
    """Impact, confidence, predicted error and reason for torchvision or torchaudio of another build than
    torch.
    """
    build, other = build_of(torch) or "", build_of(record) or ""
    version = req.parsed(stated(record))
    release = version.release[:2] if version else (0, 0)
    vision = name == "torchvision"
    no_operator = "RuntimeError: operator torchvision::nms does not exist"
    # The first library that the loader lacks, in the order of DT_NEEDED: 2.11.0+cu130 asks for libcudart, and where
    # the system has that, for libc10_cuda.
    lacking = f"libcudart.so.{(_cuda(other) or (0,))[0]}" if release >= (2, 9) else "libtorch_cuda.so"
    no_library = f"OSError: {lacking}: cannot open shared object file: No such file or directory"
    both = f"torch is built for {build} and {name} for {other}."
    if other == "cpu":
        return (
            Impact.BREAKS,
            Confidence.POSSIBLE,
            None,
            f"{both} It is imported without an error; its operators fail with tensors of the accelerator.",
        )
    if build == "cpu" and other.startswith("cu"):
        why = f"{both} Its extension needs libtorch_cuda.so, which a CPU build of torch does not have."
        linux = lookup(target, ("python", "platform", "system")) == "linux"
        whole = not any(
            entry.get(key)
            for entry in (torch, record)
            for key in ("shadowed_by", "missing_files", "altered_files", "other_installs")
        )
        if vision and linux and whole and release == (0, 28):
            return (Impact.BREAKS, Confidence.CERTAIN, no_operator, why)
        return (Impact.BREAKS, Confidence.LIKELY, no_operator if vision else no_library, why)
    ours, theirs = _cuda(build), _cuda(other)
    if ours is None or theirs is None:
        why = f"{both} Its extension is linked with libraries that this torch does not have."
        return (Impact.BREAKS, Confidence.LIKELY, no_operator if vision else None, why)
    if ours[0] != theirs[0]:
        if not vision:
            return (
                Impact.BREAKS,
                Confidence.LIKELY,
                _audio_text(ours, theirs),
                f"{both} It compares them at import.",
            )
        return _vision_majors(target, both, ours, theirs, no_operator)
    if vision and release < (0, 16):
        text = (
            "RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA versions. "
            f"PyTorch has CUDA Version={ours[0]}.{ours[1]} and torchvision has CUDA "
            f"Version={theirs[0]}.{theirs[1]}. Please reinstall the torchvision that matches your PyTorch "
            "install."
        )
        return (
            Impact.BREAKS,
            Confidence.LIKELY,
            text,
            f"{both} This version compares minor versions too.",
        )
    if not vision and release <= (2, 11):
        text = _audio_text(ours, theirs)
        return (
            Impact.BREAKS,
            Confidence.LIKELY,
            text,
            f"{both} This version compares minor versions too.",
        )
    return (Impact.NOTE, Confidence.LIKELY, None, f"{both} Minor versions of one CUDA major go together.")


def _vision_majors(
    target: Snapshot, both: str, ours: tuple[int, int], theirs: tuple[int, int], no_operator: str
) -> tuple[Impact, Confidence, str | None, str]:
    """For torchvision of another CUDA major: what it prints depends on whether that CUDA's runtime is found."""
    runtime = any(
        name == f"nvidia-cuda-runtime-cu{theirs[0]}"
        or (name == "nvidia-cuda-runtime" and (req.version_of(record) or "").split(".")[0] == str(theirs[0]))
        for name, record in distributions_of(target).items()
    )
    text = (
        "RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major "
        "versions. "
        f"PyTorch has CUDA Version={ours[0]}.{ours[1]} and torchvision has CUDA "
        f"Version={theirs[0]}.{theirs[1]}. "
        "Please reinstall the torchvision that matches your PyTorch install."
    )
    why = (
        f"{both} Where libcudart.so.{theirs[0]} is found, torchvision compares the two and prints: {text} "
        f"Where it is not, its extension is not loaded at all: {no_operator}"
    )
    return (Impact.BREAKS, Confidence.LIKELY, text if runtime else no_operator, why)


def _audio_text(ours: tuple[int, int], theirs: tuple[int, int]) -> str:
    return (
        "RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions. "
        f"PyTorch has CUDA version {ours[0]}.{ours[1]} whereas TorchAudio has CUDA version "
        f"{theirs[0]}.{theirs[1]}. "
        "Please install the TorchAudio version that matches your PyTorch version."
    )


def _cuda(build: str) -> tuple[int, int] | None:
    """``cu130`` is CUDA 13.0, ``cu92`` is 9.2."""
    found = re.fullmatch(r"cu(\d+)(\d)", build)
    return (int(found[1]), int(found[2])) if found else None
