"""Family GPU: other versions of the CUDA libraries that compute."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.rules import cuda_copies as cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Drift, Sides, at
from driftcheck.rules.cuda_copies import Copy
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot

# Those that choose kernels, and so the order of sums; NCCL chooses the order in which devices are summed.
COMPUTING = ("cudnn", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse", "nccl", "nvinfer", "cutensor")


class GPU037(Drift):
    """Another version of cuDNN, cuBLAS or another CUDA library computes in the target.

    Compares: the version of each CUDA library that computes, in the copy that the loader takes, on both sides.

    Why: cuBLAS promises the same bits for one version of the toolkit, one GPU architecture and one number of
    multiprocessors, and not across versions; cuDNN's heuristics choose other kernels in another version. The
    framework may be the very same, where it takes them from the image or does not pin them.

    See: no error. Other digits, another speed, another use of memory.

    Decided: both sides have a framework for CUDA, state the versions, and they differ: changes-results, possible.
    Left to GPU023 where LD_LIBRARY_PATH hides the copy of a wheel.

    Fix: the versions of the baseline.

    Limits: libraries that a framework has inside of itself (those of the wheels of TensorRT-LLM, torch's own kernels)
    are not compared.
    """

    code = "GPU037"
    name = "other-cuda-library-version"
    reads = ("cuda",)
    references = (
        "https://docs.nvidia.com/cuda/cublas/#results-reproducibility",
        "https://docs.pytorch.org/docs/stable/notes/randomness.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        if not gpu.chosen_for_cuda(baseline) or not gpu.chosen_for_cuda(target):
            return
        pairs = []
        for component in COMPUTING:
            before, after = _computing(baseline, component), _computing(target, component)
            if before is None or after is None or _hides_a_wheel(target, after):
                continue  # GPU023 speaks of what hides a wheel
            if cuda.differ(before, after):
                pairs.append((before, after))
        if not pairs:
            return
        before, after = pairs[0]
        more = f", and {len(pairs) - 1} more CUDA {'library' if len(pairs) == 2 else 'libraries'}" if pairs[1:] else ""
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"{before.component} {cuda.text(after.version)} computes instead of {cuda.text(before.version)}{more}",
            Subject("libraries", "cuda"),
            "; ".join(
                f"{one.component} {cuda.text(one.version)} -> {cuda.text(other.version)}"
                for one, other in pairs[: 2 * so.NAMED]
            )
            + ". Other versions choose other kernels, which round differently.",
            evidence=[
                entry
                for one, other in pairs
                for entry in (
                    Evidence("baseline", one.path, one.record),
                    at(target, "target", *other.path),
                )
            ],
            fix=self._fix(baseline, target, [one for one, _ in pairs]),
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """The files of these libraries, and the packages that brought them."""
        paths = {entry.path for entry in finding.evidence}
        if change.path[:2] == ("cuda", "libraries"):
            return change.path[:4] in paths
        brought = {entry.value["distribution"] for entry in finding.evidence}
        if change.path[:2] != DISTRIBUTIONS or len(change.path) < 4 or change.path[2] not in brought:
            return False
        name = change.path[2]
        return name in distributions_of(sides.baseline) and name in distributions_of(sides.target)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """LIB006 speaks of the same libraries."""
        del sides
        if effect.code == "LIB006":
            return effect.subject.name in {entry.value["soname"] for entry in finding.evidence}
        return False

    @staticmethod
    def _fix(baseline: Snapshot, target: Snapshot, ones: list[Copy]) -> list[Fix]:
        names = [copy.distribution for copy in ones if copy.distribution in distributions_of(baseline)]
        pins = [pinned(distributions_of(baseline)[name]) for name in dict.fromkeys(names) if name is not None]
        if not pins:
            return [Fix("advice", "Take the CUDA libraries, or the base image, of the baseline.")]
        return list(pip_fix(target, f"install {' '.join(pins)}"))


def _computing(snapshot: Snapshot, component: str) -> Copy | None:
    """The copy that would be loaded; of several generations the newest."""
    sonames = {copy.soname for copy in cuda.copies(snapshot, component)}
    found = [cuda.taken(snapshot, component, soname) for soname in sorted(sonames)]
    return max((copy for copy in found if copy and copy.version), key=lambda copy: copy.version or (), default=None)


def _hides_a_wheel(snapshot: Snapshot, winner: Copy) -> bool:
    others = [copy for copy in cuda.copies(snapshot, winner.component) if copy.soname == winner.soname]
    return winner.by_variable and any(copy.of_wheel and not copy.by_variable for copy in others)
