"""Family CPU: the architecture and the instructions of the processor."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects, unseen, wheels
from driftcheck.rules.base import Drift, Sides, at, lookup
from driftcheck.rules.distributions import distributions_of
from driftcheck.snapshot import Snapshot


class CPU001(Drift):
    """The target has another CPU architecture, such as aarch64 instead of x86_64.

    Compares: the machine that the two interpreters run on, and the wheel tags of what is installed in the
    target.

    Why: machine code of one architecture does not run on another. Where everything was installed for the
    architecture that is there, other kernels compute the same sums in another order and with other
    rounding, and some wheels do not exist for it at all.

    See: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'`; for a library that is
    opened by name `OSError: ...: cannot open shared object file: No such file or directory`; for a program
    `exec format error`.

    Decided: wheels for another architecture are installed in the target: breaks, likely; PKG007 names each
    of them. None: changes-results, possible. arm64 and aarch64, AMD64 and x86_64 are the same.

    Fix: build the image for the architecture that will run it (docker buildx build --platform), or start it
    there.

    Limits: emulation (qemu, Rosetta) shows the architecture that is emulated. Programs outside of wheels
    are not read.
    """

    code = "CPU001"
    name = "other-architecture"
    reads = ("python",)
    references = (
        "https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/",
        "https://docs.docker.com/build/building/multi-platform/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = architecture_of(baseline), architecture_of(target)
        if before is None or after is None or before[0] == after[0]:
            return
        here, there = after[0], before[0]
        misfits = wheels.for_other_machine(target, here)
        evidence = [
            at(baseline, "baseline", *before[1]),
            at(target, "target", *after[1]),
            *wheels.tag_evidence(target, misfits),
            *wheels.by_marker(baseline, target, ("platform_machine",)),
        ]
        if lookup(target, ("machine", "emulation")) is not None:
            evidence.append(at(target, "target", "machine", "emulation"))
        if misfits:
            yield self.finding(
                unseen.impact_of(target, misfits),
                Confidence.LIKELY,
                f"{here} instead of {there}, with wheels for {there}",
                Subject("machine", "architecture"),
                f"The wheels of {wheels.listed(misfits)} hold machine code for another architecture.",
                predicted_error=wheels.first_error(target, misfits),
                evidence=evidence,
                fix=[wheels.rebuild_fix()],
            )
        else:
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.POSSIBLE,
                f"{here} instead of {there}",
                Subject("machine", "architecture"),
                "The installed wheels fit this architecture. Their kernels are others than in the baseline, "
                "so results may differ in the last digits.",
                evidence=evidence,
                fix=_platform_fix(there),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        path = change.path
        if change.section == "machine":
            return path[1] in {"architecture", "cpu", "level", "byteorder", "page_size", "cores"}
        if change.section == "python":
            return path[1] in {"soabi", "extension_suffixes", "bits", "byteorder"} or path[1:3] in {
                ("platform", "machine"),
                ("platform", "tag"),
                ("tags", "platforms"),
            }
        if change.section == "packages":
            return (
                effects.is_platform_tag(change)
                or effects.is_record(change)
                or wheels.explained_by_marker(finding.evidence, path)
            )
        if change.section == "system":
            return path[1:3] == ("packages", "packages") and _names_architecture(path[-1])
        return change.section in {"system", "programs", "libraries"} and _same_but_architecture(change)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding
        here = architecture_of(sides.target)
        if effect.code in {"LIB004", "BOX009", "CPU004", "NUM007"}:
            return True
        return here is not None and (
            effects.required_by_marker(effect, ("platform_machine",))
            or effects.misfits(effect, sides.target, wheels.for_other_machine(sides.target, here[0]))
        )


def architecture_of(snapshot: Snapshot) -> tuple[str, tuple[str, ...]] | None:
    """(architecture by its Linux name, where the fact stands), or None."""
    for path in (("python", "platform", "machine"), ("machine", "architecture")):
        name = wheels.machine(lookup(snapshot, path))
        if name:
            return name, path
    return None


_TRIPLETS = (
    "x86_64",
    "x86-64",
    "amd64",
    "aarch64",
    "arm64",
    "armhf",
    "i386",
    "i686",
    "ppc64le",
    "s390x",
    "riscv64",
)


def _names_architecture(package: str) -> bool:
    """Whether a package's key names an architecture: ``libc6:arm64``, ``binutils-aarch64-linux-gnu``."""
    return any(name in package for name in _TRIPLETS)


def _same_but_architecture(change: Change) -> bool:
    """Whether two paths differ in the name of the architecture alone."""
    if not (isinstance(change.before, str) and isinstance(change.after, str)):
        return False
    shapes = []
    for text in (change.before, change.after):
        shape = text
        for name in _TRIPLETS:
            shape = shape.replace(name, "ARCH")
        shapes.append(shape)
    return shapes[0] == shapes[1]


def _platform_fix(architecture: str) -> list[Fix]:
    names = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
    platform = names.get(architecture)
    return [Fix("docker-run", f"--platform {platform}")] if platform else []


class CPU002(Drift):
    """The target's processor has another x86-64 level than the baseline's.

    Compares: the highest x86-64 level (v1 to v4 of the psABI) of the two processors.

    Why: libraries that choose their kernels at run time (OpenBLAS, oneDNN, NumPy) choose others on another
    level, which are slower or faster and round differently. Code that was compiled for the higher level
    (-march=native) dies on a lower one.

    See: other low digits; `Illegal instruction (core dumped)`, exit status 132, from code of your own.

    Decided: lower: changes-results, likely where a numerical library is installed, else possible. Higher: a
    note. What published wheels need without asking is CPU003's.

    Fix: a machine or VM type with the baseline's instructions (CPU type host instead of kvm64 or qemu64).

    Limits: other differences inside one level (AVX512 subsets, AMX) are not judged.
    """

    code = "CPU002"
    name = "lower-x86-64-level"
    reads = ("machine",)
    references = (
        "https://gitlab.com/x86-psABIs/x86-64-ABI",
        "https://numpy.org/devdocs/reference/simd/build-options.html",
        "https://github.com/NixOS/nixpkgs/issues/504266",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = (lookup(snapshot, ("machine", "level")) for snapshot in (baseline, target))
        if before not in LEVELS or after not in LEVELS or before == after:
            return
        evidence = [at(baseline, "baseline", "machine", "level"), at(target, "target", "machine", "level")]
        subject = Subject("machine", "x86-64-level")
        if LEVELS.index(after) > LEVELS.index(before):
            yield self.finding(
                Impact.NOTE,
                Confidence.CERTAIN,
                f"The processor has a higher level: {after} instead of {before}",
                subject,
                "Everything that runs in the baseline runs here. Libraries that choose kernels at run time choose "
                "wider ones, so results may differ in the last digits.",
                evidence=evidence,
            )
            return
        numerical = sorted(_NUMERICAL & distributions_of(target).keys())
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.LIKELY if numerical else Confidence.POSSIBLE,
            f"The processor has a lower level: {after} instead of {before}",
            subject,
            (
                f"{wheels.listed(numerical)} choose other kernels here: slower, and rounded differently. "
                if numerical
                else ""
            )
            + "Code that was compiled for the baseline's processor (-march=native) dies with an illegal instruction.",
            evidence=evidence,
            fix=[SAME_PROCESSOR],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[:2] == ("machine", "level") or change.path[:2] == ("machine", "cpu")

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What needs instructions that the lower level lacks."""
        del sides
        if effect.code == "NUM007":
            return True
        return finding.impact is not Impact.NOTE and effect.code in {"CPU003", "CPU005", "CPU006"}


SAME_PROCESSOR = Fix(
    "advice", "Run it on a machine with the baseline's instructions; in a VM, give the guest the host's CPU type."
)

LEVELS = ("x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4")

# Libraries that were seen to choose kernels by CPUID: NPY_DISABLE_CPU_FEATURES, OPENBLAS_CORETYPE and
# ATEN_CPU_CAPABILITY change their results.
_NUMERICAL = frozenset({"numpy", "scipy", "torch", "onnxruntime", "tensorflow", "jaxlib", "scikit-learn", "faiss-cpu"})
