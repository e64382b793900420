"""Family GPU: the CUDA libraries of an image. Which copies are in reach, which one wins, do they fit together?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import gpu_libraries as known
from driftcheck.probes.cuda_libraries import component_of
from driftcheck.rules import cuda_copies as cuda
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.cuda_copies import Copy
from driftcheck.rules.distributions import count_of, distributions_of, pip_fix, shared_of, titled
from driftcheck.rules.libraries import is_plugin_of_accelerator
from driftcheck.rules.shared_objects import Failing
from driftcheck.rules.wheels import req_name
from driftcheck.snapshot import Snapshot


class GPU023(Contradiction):
    """LD_LIBRARY_PATH puts other CUDA libraries before those that the wheels brought.

    Compares: the copies of each CUDA library: those of the wheels nvidia-*, and those in directories of
    LD_LIBRARY_PATH that have the same soname and another version.

    Why: the loader asks LD_LIBRARY_PATH before the RUNPATH by which a wheel finds its own libraries. A CUDA image
    sets the variable to its toolkit, so cuBLAS, cuDNN or NCCL of the image run in the place of those that the
    framework was built and tested with. Some of them may come from one side and some from the other.

    See: mostly no error, but other kernels and other numbers; where one lacks a function, `undefined symbol`.

    Decided: both versions are stated and differ: changes-results. Likely where the loader's proof shows that a
    module takes the one of the variable, else possible.

    Fix: take the directory off LD_LIBRARY_PATH.

    Limits: libraries with RPATH instead of RUNPATH, and a program that loads the wheel's copies by their paths
    first, are not affected.
    """

    code = "GPU023"
    name = "cuda-libraries-hidden-by-variable"
    reads = ("cuda",)
    references = (
        "https://man7.org/linux/man-pages/man8/ld.so.8.html",
        "https://github.com/pytorch/pytorch/pull/174320",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        pairs: dict[str, list[tuple[Copy, Copy]]] = {}
        for component in cuda.components(target):
            for hidden in cuda.copies(target, component):
                if not hidden.of_wheel or hidden.by_variable:
                    continue
                winner = cuda.taken(target, component, hidden.soname)
                if winner is not None and winner.by_variable and cuda.differ(winner, hidden):
                    pairs.setdefault(winner.directory, []).append((winner, hidden))
        for directory, ones in sorted(pairs.items()):
            winner, hidden = ones[0]
            more = f" and {count_of(len(ones) - 1, 'more')[: -1 if len(ones) > 2 else None]}" if len(ones) > 1 else ""
            proved = [
                (one.soname, one.file)
                for one, _ in ones
                if (lookup(target, ("libraries", "libraries", one.soname, one.file)) or {}).get("reason")
                == "ld_library_path"
            ]
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.LIKELY if proved else Confidence.POSSIBLE,
                f"{winner.component} {cuda.text(winner.version)} of LD_LIBRARY_PATH runs instead of "
                f"{cuda.text(hidden.version)}{more}",
                Subject("directory", directory),
                f"{directory} is in LD_LIBRARY_PATH, which comes before the wheels: "
                + "; ".join(
                    f"{one.file} ({cuda.text(one.version)}) hides {other.file} ({cuda.text(other.version)})"
                    for one, other in ones[: so.NAMED]
                )
                + ".",
                evidence=[
                    *(copy.evidence(target) for pair in ones[: so.NAMED] for copy in pair),
                    *(
                        at(target, "target", "libraries", "libraries", soname, file, "reason")
                        for soname, file in proved[:1]
                    ),
                ],
                fix=[Fix("variable", f"LD_LIBRARY_PATH without {directory}")],
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """Whatever rests on a file of that directory, or on a soname that it answers."""
        del sides
        files = {entry.path[3] for entry in finding.evidence if entry.path[:2] == ("cuda", "libraries")}
        if effect.code in {"GPU020", "GPU021", "GPU024", "GPU038", "GPU039"}:
            inside = {file for file in files if file.startswith(finding.subject.name + "/")}
            return any(inside & set(entry.path) for entry in effect.evidence)
        sonames = {entry.value["soname"] for entry in finding.evidence if entry.path[:2] == ("cuda", "libraries")}
        return effect.code == "LIB006" and effect.subject.name in sonames


class GPU024(Contradiction):
    """nvJitLink is older than the CUDA libraries that call it.

    Compares: the functions of nvJitLink that CUDA libraries need (their names end in the version of CUDA that
    brought them, such as __nvJitLinkComplete_12_4) with the libnvJitLink that answers.

    Why: libcusparse and libcusolver hand work to nvJitLink of the same CUDA. All of CUDA 12 shares one soname and
    one symbol version, so the loader takes any copy, and finds the missing function afterwards.

    See: `ImportError: .../nvidia/cusparse/lib/libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version
    libnvJitLink.so.12`.

    Decided: as LIB003 decides it, from the symbols themselves; this rule names the version that would do.

    Fix: take the other CUDA off LD_LIBRARY_PATH, or install the nvJitLink that belongs to the others.

    Limits: a library that loads nvJitLink by hand is not seen.
    """

    code = "GPU024"
    name = "nvjitlink-too-old"
    reads = ("libraries",)
    references = (
        "https://github.com/pytorch/pytorch/issues/134929",
        "https://github.com/pytorch/pytorch/issues/111469",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        ones = [one for one in so.failing(target, "undefined") if _nvjitlink(one)]
        if not ones:
            return
        needed = max(version for one in ones if (version := _nvjitlink(one)))
        first, error = so.predicted(ones, "symbol")
        shown = first or ones[0]
        soname = f"libnvJitLink.so.{needed[0]}"
        answers: Mapping[str, Any] = lookup(target, ("libraries", "libraries", soname)) or {}
        file = min(answers, default=None)
        if file is None:
            # Only libraries of other distributions call it, and the loader's table has no row for these.
            copy = cuda.taken(target, "nvJitLink", soname)
            by_variable = copy is not None and copy.by_variable
        else:
            copy = next((copy for copy in cuda.provided(target, soname) if copy.file == file), None)
            by_variable = answers[file]["reason"] == "ld_library_path"
        stated = f" {cuda.text(copy.version)}" if copy is not None and copy.version else ""
        evidence = so.evidence_of(target, sorted(ones, key=lambda one: one is not shown))
        if file is not None:
            evidence.append(at(target, "target", "libraries", "libraries", soname, file))
        elif copy is not None:
            evidence.append(copy.evidence(target))
            file = copy.file
        yield self.finding(
            so.worst(ones),
            so.confidence_of(target, shown),
            f"{shown.entry['by'].rsplit('/', 1)[-1]} needs nvJitLink {cuda.text(needed)}, and an older one"
            f"{stated} answers",
            Subject("library", soname),
            f"{shown.entry['by']} calls {shown.name}, which CUDA {cuda.text(needed)} brought. "
            + (
                f"{file} answers for {soname} and does not have it."
                if file
                else f"Nothing that answers for {soname} has it."
            ),
            predicted_error=error,
            evidence=evidence,
            fix=self._fix(target, baseline, needed, file if by_variable else None),
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """The same missing function, as LIB003 sees it."""
        del sides
        places = {entry.path for entry in finding.evidence if "undefined" in entry.path}
        return effect.code == "LIB003" and any(entry.path in places for entry in effect.evidence)

    @staticmethod
    def _fix(
        target: Snapshot,
        baseline: Snapshot | None,
        needed: tuple[int, ...],
        led_to: str | None,
    ) -> Sequence[Fix]:
        """``led_to``: the file that LD_LIBRARY_PATH leads to, if it does."""
        if led_to is not None:
            return [Fix("variable", f"LD_LIBRARY_PATH without {led_to.rpartition('/')[0] or '/'}")]
        name = f"nvidia-nvjitlink-cu{needed[0]}" if needed[0] < 13 else "nvidia-nvjitlink"
        record = distributions_of(baseline).get(name)
        if record is not None and record["version"]:
            return pip_fix(target, f"install {name}=={record['version']}")
        return pip_fix(target, f'install "{name}>={cuda.text(needed)}"')


def _nvjitlink(one: Failing) -> tuple[int, ...] | None:
    """The version of CUDA that brought a function of nvJitLink: (12, 4) for __nvJitLinkComplete_12_4."""
    match = re.match(r"^_*nvJitLink\w*?_(\d{1,4})_(\d{1,4})$", one.name)
    return (int(match[1]), int(match[2])) if match else None


class GPU025(Contradiction):
    """A package was built for another generation of CUDA, cuDNN or TensorRT than the installed one.

    Compares: the CUDA libraries that the loader does not find for a distribution with the copies of the same
    libraries that are there under another soname.

    Why: libcublas.so.12 and libcublas.so.13 are two different libraries to the loader. The newest build of a
    package is for the newest CUDA, and pip does not compare it with the CUDA that the image or the other packages
    bring.

    See: the error of the missing library, which LIB001 or LIB010 predicts.

    Decided: the library of one generation is proved to be missing, and one of another is there: as sure as that.
    Slows where only an accelerator's plugin lacks it, else breaks.

    Fix: the build of the package for the CUDA that is there; for onnxruntime-gpu, the newest one for it.

    Limits: which of the two the service should have is not known: installing the missing generation beside the
    other one mends it too.
    """

    code = "GPU025"
    name = "other-cuda-generation"
    reads = ("cuda", "libraries", "packages")
    references = (
        "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements",
        "https://github.com/microsoft/onnxruntime/issues/21684",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        groups: dict[str, list[tuple[Failing, Copy]]] = {}
        for one in so.failing(target, "missing"):
            other = _other_generation(target, one.name)
            if other is not None and one.owner:
                groups.setdefault(one.owner, []).append((one, other))
        for owner, pairs in sorted(groups.items()):
            ones = [one for one, _ in pairs]
            record = distributions_of(target).get(owner)
            there = sorted({copy.file: copy for _, copy in pairs}.values(), key=lambda copy: copy.file)
            wanted = list(dict.fromkeys(one.name for one in ones))
            slows = all(is_plugin_of_accelerator(target, one) for one in ones)
            sure = so.confidence_of(target, ones[0])
            yield self.finding(
                Impact.SLOWS if slows else so.worst(ones),
                max(sure, Confidence.LIKELY, key=lambda value: value.rank),
                f"{titled(record) if record else owner} needs {wanted[0]}"
                + (f" and {len(wanted) - 1} more" if len(wanted) > 1 else "")
                + f", and {there[0].soname} is there",
                Subject("distribution", owner),
                f"{ones[0].key} was built for {', '.join(wanted[: so.NAMED])}. This environment has "
                + ", ".join(f"{copy.soname} ({copy.file})" for copy in there[: so.NAMED])
                + ": another generation, which the loader does not take for it.",
                evidence=[
                    *so.evidence_of(target, ones),
                    *(copy.evidence(target) for copy in there[: so.NAMED]),
                ],
                fix=self._fix(target, owner, there),
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What LIB001 and LIB010 say of the same missing libraries."""
        del sides
        places = {entry.path for entry in finding.evidence if "missing" in entry.path}
        return effect.code in {"LIB001", "LIB010"} and any(entry.path in places for entry in effect.evidence)

    @staticmethod
    def _fix(target: Snapshot, owner: str, there: Sequence[Copy]) -> Sequence[Fix]:
        if owner == "onnxruntime-gpu":
            numbers = [
                copy.soname.rpartition(".so.")[2].partition(".")[0]
                for copy in there
                if copy.component in {"cudart", "cublas", "cublasLt"}
            ]
            row = known.onnxruntime_for(numbers[0]) if numbers else None
            if row is not None:
                return pip_fix(target, f'install "onnxruntime-gpu{row.versions}"')
        names = ", ".join(copy.soname for copy in there[: so.NAMED])
        return [Fix("advice", f"Install the build of {owner} that belongs to {names}, or the libraries that it needs.")]


def _other_generation(target: Snapshot, soname: str) -> Copy | None:
    """A copy of the same library under another soname, where none has this one."""
    component = component_of(soname)
    if component is None or any(copy.soname == soname for copy in cuda.copies(target, component)):
        return None
    taken = [cuda.taken(target, component, copy.soname) for copy in cuda.copies(target, component)]
    found = [copy for copy in taken if copy is not None]
    # What was installed with the packages says more of what was meant than what the system has besides.
    return min(found, key=lambda copy: (not copy.by_variable, not copy.of_wheel, copy.file), default=None)


class GPU036(Contradiction):
    """NVIDIA's packages for two generations of CUDA share one directory.

    Compares: pairs of distributions such as nvidia-cudnn-cu12 and nvidia-cudnn-cu13 with the files that both own, and
    with the frameworks that require the one and the other.

    Why: both install into nvidia/cudnn/lib (or nvidia/nccl/lib, ...), so there is one copy of each file: that of
    whichever was installed last. A framework for CUDA 12 beside one for CUDA 13, such as JAX beside torch, then finds
    the libraries of the other generation, or a mixture where one of them has files that the other has not.

    See: `CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH`, or a library that looks for the CUDA of the other generation:
    `libcublas.so.13: cannot open shared object file`.

    Decided: both own the same files and recorded different contents: breaks, likely.

    Fix: one generation of CUDA for all frameworks of an environment, or an environment for each.

    Limits: which of the two wrote last is not known; PKG006 tells where sizes differ.
    """

    code = "GPU036"
    name = "two-cuda-generations-in-one-directory"
    reads = ("packages",)
    references = (
        "https://github.com/pytorch/pytorch/issues/188892",
        "https://docs.jax.dev/en/latest/installation.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        distributions = distributions_of(target)
        for pair, shared in sorted(shared_of(target).items()):
            names = pair.split(" ")
            found = [_GENERATION.match(name) for name in names]
            if len(names) != 2 or not shared["different"] or any(name not in distributions for name in names):
                continue
            one, other = found
            if one is None or other is None or one[1] != other[1] or one[2] == other[2]:
                continue
            owners = [_requiring(distributions, name) for name in names]
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{names[0]} and {names[1]} lie in one directory",
                Subject("distributions", pair),
                f"They own the same {count_of(shared['count'], 'file')}, {shared['different']} of them different. "
                + " ".join(
                    f"{name} {distributions[name]['version']} is there for {', '.join(users) or 'no other package'}."
                    for name, users in zip(names, owners, strict=True)
                ),
                predicted_error="CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH" if one[1] == "cudnn" else None,
                evidence=[
                    at(target, "target", "packages", "shared_files", pair),
                    *(at(target, "target", "packages", "distributions", name, "version") for name in names),
                ],
                fix=[
                    Fix(
                        "advice",
                        f"Install builds for one generation of CUDA: either all for {one[2]} or all for {other[2]}; or "
                        "give each framework an environment of its own.",
                    )
                ],
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """PKG003 counts the files; a mixture of cuDNN, or the other NCCL, comes from it too."""
        del sides
        cudnn = effect.code in {"GPU020", "GPU021"} and "cudnn" in finding.subject.name
        nccl = effect.code in {"GPU038", "GPU039"} and "nccl" in finding.subject.name
        return cudnn or nccl or (effect.code == "PKG003" and effect.subject.name == finding.subject.name)


_GENERATION = re.compile(r"^nvidia-([a-z0-9-]+?)-cu(\d{2})$")


def _requiring(distributions: Mapping[str, Any], name: str) -> list[str]:
    return sorted(
        owner for owner, record in distributions.items() if any(req_name(text) == name for text in record["requires"])
    )[: so.NAMED]
