"""Family GPU: the GPUs of one machine against those of another."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import wheels
from driftcheck.rules.base import Drift, Sides, at, lookup
from driftcheck.rules.gpu_facts import NVIDIA
from driftcheck.snapshot import Snapshot

GIB = 1 << 30
_AMD = ("gpu", "amd")


def _kinds(snapshot: Snapshot) -> dict[str, int]:
    """``{"NVIDIA": 2}``: which vendors' devices are there, and how many."""
    amd = lookup(snapshot, (*_AMD, "devices")) or {}
    found = {"NVIDIA": len(gpu.devices(snapshot)), "AMD": len(amd)}
    return {name: count for name, count in found.items() if count}


class GPU012(Drift):
    """The baseline has a GPU, and the target has none.

    Compares: the devices of the two, of NVIDIA and AMD.

    Why: what ran on the GPU fails, or runs on the CPU, many times slower and rounded differently.

    See: torch: `RuntimeError: No CUDA GPUs are available`, `RuntimeError: Found no NVIDIA driver on your system.`, or
    nothing at all where the program asks `torch.cuda.is_available()` and goes on with the CPU.

    Decided: devices there and none here. A framework in the target was built for CUDA or ROCm: breaks, likely; else
    slows, possible. Possible too where driftcheck itself started the image, without its GPUs. Nothing where device
    files are there, and only nothing answers (GPU015).

    Fix: start it with the GPUs of the machine, or on a machine that has some.

    Limits: whether the program uses the GPU is not known.
    """

    code = "GPU012"
    name = "gpu-is-gone"
    reads = ("gpu",)
    references = (
        "https://docs.docker.com/engine/containers/gpu/",
        "https://github.com/vllm-project/vllm/issues/1989",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = _kinds(baseline), _kinds(target)
        if not before or after or gpu.numbered_files(gpu.nvidia(target) or {}):
            return
        built = gpu.builds(target)
        wanting = [name for name, record in sorted(built.items()) if record["accelerator"] in {"cuda", "rocm"}]
        ours = gpu.started_without_devices(target)
        vendor = next(iter(before))
        evidence: list[Evidence] = []
        if vendor == "NVIDIA":
            evidence += [
                at(baseline, "baseline", *gpu.on_device(number, "name")) for number in list(gpu.devices(baseline))[:4]
            ]
        else:
            evidence.append(at(baseline, "baseline", *_AMD, "devices"))
        evidence += [
            at(target, "target", "gpu", half) if lookup(target, ("gpu", half)) is None
            else at(target, "target", "gpu", half, "devices")
            for half in ("nvidia", "amd")
        ]  # fmt: skip
        evidence += [at(target, "target", "cuda", "builds", name, "accelerator") for name in wanting[:4]]
        names = [str(device["name"] or "an NVIDIA device") for device in gpu.devices(baseline).values()]
        names += [record["target"] for record in (lookup(baseline, (*_AMD, "devices")) or {}).values()]
        yield self.finding(
            Impact.BREAKS if wanting else Impact.SLOWS,
            Confidence.LIKELY if wanting and not ours else Confidence.POSSIBLE,
            "The baseline has a GPU, the target has none",
            Subject("gpu", "devices"),
            f"The baseline has {wheels.listed(names)}."
            + (f" {wheels.listed(wanting)} {'was' if len(wanting) == 1 else 'were'} built for one." if wanting else "")
            + (" The image was started for this measurement without options, so without GPUs." if ours else ""),
            predicted_error=self._error(target) if "torch" in gpu.built_for_cuda(target) else None,
            evidence=evidence,
            fix=[Fix("docker-run", "--gpus all")] if vendor == "NVIDIA" else
            [Fix("docker-run", "--device /dev/kfd --device /dev/dri --group-add video --group-add render")],
        )  # fmt: skip

    def _error(self, target: Snapshot) -> str:
        library = (gpu.nvidia(target) or {}).get("libcuda")
        return gpu.start_error(target, 100) if library else gpu.no_driver_error(target)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.section == "gpu"

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        return effect.code == "GPU010"


class GPU013(Drift):
    """The target's GPUs are others than the baseline's.

    Compares: compute capability, memory and number of the NVIDIA devices of the two; the targets of AMD's.

    Why: libraries choose other kernels for another compute capability, which round differently, and features come
    and go with it (bfloat16 from 8.0, FP8 from 8.9, TF32 from 8.0). A model that fits into 80 GB does not into 40.
    A setting for two devices (tensor_parallel_size=2) does not start on one.

    See: other digits; `torch.OutOfMemoryError: CUDA out of memory.`; vLLM: `ValueError: Bfloat16 is only supported on
    GPUs with compute capability of at least 8.0.`

    Decided: another compute capability or AMD target: changes-results, likely. The largest device has a tenth less
    memory: breaks, possible. Fewer devices: breaks, possible. More of either is no finding.

    Fix: a machine of the same kind, or settings that fit this one.

    Limits: how much memory is needed, and which settings count devices, is not known.
    """

    code = "GPU013"
    name = "other-gpu"
    reads = ("gpu",)
    references = (
        "https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/compute-capabilities.html",
        "https://docs.pytorch.org/docs/stable/notes/randomness.html",
        "https://docs.vllm.ai/en/latest/configuration/conserving_memory.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = gpu.devices(baseline), gpu.devices(target)
        if before and after:
            yield from self._capability(baseline, target)
            yield from self._memory(baseline, target)
            if len(after) < len(before):
                yield self._count(baseline, target)
        ours, theirs = (
            {record["target"] for record in (lookup(side, (*_AMD, "devices")) or {}).values()}
            for side in (baseline, target)
        )
        if ours and theirs and ours != theirs:
            yield self._another(
                f"AMD {wheels.listed(sorted(theirs))} instead of {wheels.listed(sorted(ours))}",
                [at(baseline, "baseline", *_AMD, "devices"), at(target, "target", *_AMD, "devices")],
            )

    def _another(self, title: str, evidence: list[Evidence]) -> Finding:
        return self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.LIKELY,
            title,
            Subject("gpu", "capability"),
            "Libraries choose other kernels for it, so results differ in the last digits at least.",
            evidence=evidence,
            fix=[Fix("advice", "Compare results with a tolerance, or run on a GPU of the baseline's kind.")],
        )

    def _capability(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        sides = []
        for snapshot in (baseline, target):
            levels = {number: gpu.capability(device) for number, device in gpu.devices(snapshot).items()}
            if None in levels.values():
                return
            sides.append({level: number for number, level in reversed(levels.items()) if level})
        before, after = sides
        if set(before) == set(after):
            return
        (old, old_number), (new, new_number) = next(iter(sorted(before.items()))), next(iter(sorted(after.items())))
        names = [
            gpu.devices(side)[number]["name"] or f"compute capability {cuda.spelled(level)}"
            for side, number, level in ((baseline, old_number, old), (target, new_number, new))
        ]
        yield self._another(
            f"{names[1]} ({cuda.spelled(new)}) instead of {names[0]} ({cuda.spelled(old)})",
            [
                at(baseline, "baseline", *gpu.on_device(old_number, "compute_capability")),
                at(target, "target", *gpu.on_device(new_number, "compute_capability")),
            ],
        )

    def _memory(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        sides = []
        for snapshot in (baseline, target):
            sizes = {number: device["memory_bytes"] for number, device in gpu.devices(snapshot).items()}
            if not all(sizes.values()):
                return
            sides.append(max((size, number) for number, size in sizes.items()))
        (before, old), (after, new) = sides
        if after * 10 > before * 9:
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            f"The GPU has {after / GIB:.1f} GiB of memory instead of {before / GIB:.1f} GiB",
            Subject("gpu", "memory"),
            "What filled the baseline's GPU does not fit into this one.",
            predicted_error="torch.OutOfMemoryError: CUDA out of memory."
            if "torch" in gpu.built_for_cuda(target)
            else None,
            evidence=[
                at(baseline, "baseline", *gpu.on_device(old, "memory_bytes")),
                at(target, "target", *gpu.on_device(new, "memory_bytes")),
            ],
            fix=[Fix("advice", "A smaller batch, a shorter context, quantised weights, or a larger GPU.")],
        )

    def _count(self, baseline: Snapshot, target: Snapshot) -> Finding:
        before, after = gpu.devices(baseline), gpu.devices(target)
        return self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            f"{len(after)} GPU{'s' if len(after) > 1 else ''} instead of {len(before)}",
            Subject("gpu", "count"),
            "Settings that count devices (tensor_parallel_size, device_map, torchrun --nproc-per-node) may not hold.",
            evidence=[
                *(at(baseline, "baseline", *gpu.on_device(number, "name")) for number in list(before)[:4]),
                *(at(target, "target", *gpu.on_device(number, "name")) for number in list(after)[:4]),
            ],
            fix=[Fix("docker-run", "--gpus all"), Fix("advice", "Or settings for the devices that are here.")],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[:3] == (*NVIDIA, "devices") or change.path[:3] == (*_AMD, "devices")

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What has no code, no kernels or no place for a GPU of another kind; what counts on more of them."""
        del sides
        if finding.subject.name == "capability":
            return effect.code in {"GPU002", "GPU003", "GPU008", "GPU022", "GPU032", "ART016"}
        return finding.subject.name == "count" and effect.code == "GPU014"
