"""Family LIB: which file answers, two of what a process wants one of, and plugins that are passed over in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.rules.distributions import distributions_of, pinned, pip_fix
from driftcheck.rules.libraries import LOADER_MANUAL, is_plugin_of_accelerator
from driftcheck.rules.shared_objects import Failing
from driftcheck.snapshot import Snapshot


class LIB006(Drift):
    """The same library name is answered by another file than in the baseline.

    Compares: for each soname the files that answer, how the loader came to them, and whose they are: a wheel's,
    the system's, or somebody's in a directory of LD_LIBRARY_PATH.

    Why: LD_LIBRARY_PATH comes before RUNPATH and the cache, so a CUDA toolkit, an old libstdc++ or another BLAS
    in it takes the place of the library that a wheel brought and was tested with.

    See: often no error but other numbers or another speed; else ``version `GLIBCXX_3.4.32' not found`` or
    `undefined symbol: cublasLtGetEnvironmentMode`.

    Decided: an answer by LD_LIBRARY_PATH or LD_PRELOAD that the baseline does not have: changes-results, likely;
    a file of the system in place of a wheel's, or the other way round: changes-results, possible. Another
    directory or release of the system's own library is no finding, also where LD_LIBRARY_PATH names a directory
    of the system; the other system is.

    Fix: take the directory off LD_LIBRARY_PATH, or install the wheel that held the library.

    Limits: the answer belongs to the variables of this start; another start may have others. Libraries of the
    GPU driver are left out.
    """

    code = "LIB006"
    name = "same-soname-other-file"
    reads = ("libraries",)
    references = (LOADER_MANUAL, "https://github.com/pytorch/pytorch/issues/111469")

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before = lookup(baseline, ("libraries", "libraries")) or {}
        after = lookup(target, ("libraries", "libraries")) or {}
        for soname in sorted(before.keys() & after.keys()):
            old, new = _first(before[soname]), _first(after[soname])
            if old is None or new is None or "driver" in {old[1]["assumption"], new[1]["assumption"]}:
                continue
            why = _otherwise(old[1], new[1])
            if why is None or (_OF_SYSTEM.match(old[0]) and _OF_SYSTEM.match(new[0])):
                continue
            by_variable = new[1]["reason"] in _VARIABLES
            offers = _difference(old[1]["offers"], new[1]["offers"])
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.LIKELY if by_variable else Confidence.POSSIBLE,
                f"{soname} comes from {why[1]} instead of {why[0]}",
                Subject("library", soname),
                f"In the baseline {_file(old)} answers, here {_file(new)}"
                + (f" (found by {new[1]['reason'].upper()})" if by_variable else "")
                + (f". They differ in what they define: {offers}." if offers else ", which defines the same versions."),
                evidence=[
                    at(baseline, "baseline", "libraries", "libraries", soname, old[0]),
                    at(target, "target", "libraries", "libraries", soname, new[0]),
                    *(
                        (at(target, "target", "libraries", "search", "ld_library_path"),)
                        if new[1]["reason"] == "ld_library_path" and lookup(target, ("libraries", "search"))
                        else ()
                    ),
                ],
                fix=self._fix(baseline, target, old[1], new),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        if change.section != "libraries":
            return False
        if change.path[1:2] == ("libraries",):
            return change.path[2:3] == (finding.subject.name,)
        return finding.subject.name in change.path and "needs" in change.path

    @staticmethod
    def _fix(
        baseline: Snapshot, target: Snapshot, old: Mapping[str, Any], new: tuple[str, Mapping[str, Any]]
    ) -> list[Fix]:
        if new[1]["reason"] == "ld_library_path":
            return [Fix("variable", f"LD_LIBRARY_PATH without {new[0].rpartition('/')[0] or '/'}")]
        if new[1]["reason"] == "ld_preload":
            return [Fix("variable", f"LD_PRELOAD without {new[0]}")]
        record = distributions_of(baseline).get(old["distribution"] or "")
        if record is not None:
            return list(pip_fix(target, f"install {record['name']}=={record['version']}"))
        return []


_VARIABLES = frozenset({"ld_library_path", "ld_preload"})
# A library in a directory where every system has its own, which LD_LIBRARY_PATH may name as well.
_OF_SYSTEM = re.compile(r"(?:/usr)?/lib(?:32|64|x32)?(?:/[\w]+-linux-[\w]+)?/[^/]+$")


def _first(answers: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The answer that hangs on a variable where there is one, since that is the remarkable one."""
    ranked = sorted(answers.items(), key=lambda pair: (pair[1]["reason"] not in _VARIABLES, pair[0]))
    return ranked[0] if ranked else None


def _otherwise(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str] | None:
    """(from where before, from where now), where that is another kind of place."""
    before, after = _place(old), _place(new)
    if before == after:
        return None
    # A conda or a system library that takes the place of another distribution's is a change of packages.
    return before, after


def _place(answer: Mapping[str, Any]) -> str:
    if answer["reason"] == "ld_library_path":
        return "LD_LIBRARY_PATH"
    if answer["reason"] == "ld_preload":
        return "LD_PRELOAD"
    return f"the wheel of {answer['distribution']}" if answer["distribution"] else "the system"


def _file(answer: tuple[str, Mapping[str, Any]]) -> str:
    name = answer[1].get("file")
    return f"{answer[0]} ({name})" if name else answer[0]


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """``GLIBCXX 3.4.30 against 3.4.33``."""
    parts = [
        f"{prefix} {old.get(prefix) or 'none'} against {new.get(prefix) or 'none'}"
        for prefix in sorted(old.keys() | new.keys())
        if old.get(prefix) != new.get(prefix)
    ]
    return ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")


class LIB007(Contradiction):
    """One process would load two OpenMP runtimes or two kinds of BLAS that do not go together.

    Compares: the OpenMP runtimes (libgomp, libiomp5, libomp) and BLAS libraries (OpenBLAS, MKL, BLIS, ATLAS)
    that extension modules map, by file and by distribution.

    Why: Intel's and LLVM's runtimes refuse a second copy of themselves in one process. Runtimes of two makers
    start a pool of threads each, and hang after a fork. Two kinds of BLAS mean that the order of imports decides
    which one a shared symbol binds to.

    See: `OMP: Error #15: Initializing libiomp5.so, but found libiomp5.so already initialized.`, or a hang.

    Decided: two files of Intel's or LLVM's runtime: breaks, likely where one distribution maps both, possible
    where two do, since both have to be imported. Such a runtime beside libgomp, and two kinds of BLAS: a note,
    possible. Several copies of libgomp or of OpenBLAS under names of their own, as wheels bundle them, are the
    rule and no finding.

    Fix: install both packages from one place (all from conda-forge, or all wheels), so that they share one.

    Limits: runtimes that are linked in statically (torch's MKL) or loaded by hand are not seen.
    """

    code = "LIB007"
    name = "two-openmp-runtimes"
    reads = ("libraries",)
    references = (
        "https://github.com/joblib/threadpoolctl/blob/master/multiple_openmp.md",
        "https://openmp.llvm.org/design/Runtimes.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        openmp = lookup(target, ("libraries", "runtimes", "openmp")) or {}
        kinds = {file: _runtime(file) for file in openmp}
        refusing = sorted(file for file, kind in kinds.items() if kind in {"libiomp5", "libomp"})
        if len(refusing) > 1:
            # A runtime names itself by the name that it was built with, whatever its file is called.
            one, two = (f"{kinds[file]}.so" for file in refusing[:2])
            same = set(openmp[refusing[0]]["used_by"]) & set(openmp[refusing[1]]["used_by"])
            yield self._openmp(
                target,
                refusing,
                Impact.BREAKS,
                Confidence.LIKELY if same else Confidence.POSSIBLE,
                f"OMP: Error #15: Initializing {two}, but found {one} already initialized.",
            )
        elif refusing and len(kinds) > 1 and any(kind == "libgomp" for kind in kinds.values()):
            yield self._openmp(target, sorted(kinds), Impact.NOTE, Confidence.POSSIBLE, None)
        blas = lookup(target, ("libraries", "runtimes", "blas")) or {}
        makers = {blas_maker(file) for file in blas}
        if len(makers) > 1:
            yield self.finding(
                Impact.NOTE,
                Confidence.POSSIBLE,
                f"Modules map {len(makers)} kinds of BLAS: {', '.join(sorted(makers))}",
                Subject("runtimes", "blas"),
                "Which of them a module computes with hangs on how it was linked, and results may differ between "
                f"them. {_users(blas)}",
                evidence=[at(target, "target", "libraries", "runtimes", "blas", file) for file in sorted(blas)],
            )

    def _openmp(
        self, target: Snapshot, files: list[str], impact: Impact, confidence: Confidence, error: str | None
    ) -> Finding:
        openmp = lookup(target, ("libraries", "runtimes", "openmp")) or {}
        return self.finding(
            impact,
            confidence,
            f"Two OpenMP runtimes in one process: {' and '.join(file.rsplit('/', 1)[-1] for file in files[:3])}",
            Subject("runtimes", "openmp"),
            f"Both are loaded where both are imported. {_users({file: openmp[file] for file in files})}",
            predicted_error=error,
            evidence=[at(target, "target", "libraries", "runtimes", "openmp", file) for file in files],
            fix=[Fix("advice", "Install these packages from one source, so that they share one OpenMP runtime.")],
        )


def _runtime(file: str) -> str:
    found = re.match(r"lib(?:gomp|iomp5|omp)", file.rsplit("/", 1)[-1])
    return found.group() if found else "another"


def blas_maker(file: str) -> str:
    """Whose BLAS a file is, by its name."""
    name = file.rsplit("/", 1)[-1]
    for word, maker in (("openblas", "OpenBLAS"), ("mkl", "MKL"), ("blis", "BLIS"), ("atlas", "ATLAS")):
        if word in name:
            return maker
    for word, maker in (("armpl", "Arm Performance Libraries"), ("flexiblas", "FlexiBLAS")):
        if word in name:
            return maker
    return SYSTEM_BLAS


# Debian's libblas.so.3 and libcblas.so.3 are whichever BLAS the administrator chose.
SYSTEM_BLAS = "the system's BLAS"


def _users(table: Mapping[str, Any]) -> str:
    parts = []
    for file, record in sorted(table.items()):
        owners = sorted(owner or "a module without a distribution" for owner in record["used_by"])
        parts.append(f"{file} is mapped by {', '.join(owners[:4])}")
    return "; ".join(parts[:4]) + "."


class LIB010(Contradiction):
    """A plugin that brings an accelerator cannot be loaded, and the program goes on without it.

    Compares: what optional plugins (libonnxruntime_providers_cuda.so and the like) need with what the loader
    finds; a plugin is a library that no module needs and that code beside it opens by name.

    Why: the library that opens the plugin catches the failure and takes the CPU. The service starts, answers,
    and is slow; the only trace is a line in its log.

    See: `Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open
    shared object file: No such file or directory`, then nothing.

    Decided: slows, likely: the plugin does not load, and whether the service wants it is not known. A note where
    the plugin for TensorRT alone does not: an option beside CUDA, which few install; and where those of OpenVINO for
    Intel's GPUs and NPUs do not, which every wheel brings, unless the baseline can load them. Possible where the
    environment holds the library and code may load it first (onnxruntime.preload_dlls()). A module that lacks an
    accelerator's library counts too where most modules of its distribution do not.

    Fix: install the libraries that the plugin was built with, or the build of the package without a GPU.

    Limits: libraries of the GPU driver are not part of this; they belong to the machine.
    """

    code = "LIB010"
    name = "accelerator-plugin-cannot-load"
    reads = ("libraries",)
    references = (
        "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements",
        LOADER_MANUAL,
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        groups: dict[str, list[Failing]] = {}
        for table in ("missing", "missing_versions", "undefined"):
            for one in so.failing(target, table):
                if is_plugin_of_accelerator(target, one):
                    groups.setdefault(one.owner or one.key, []).append(one)
        for owner, ones in sorted(groups.items()):
            first = next((one for one in ones if one.table == "missing" and one.text.startswith(one.name)), ones[0])
            sure = so.confidence_of(target, first)
            files = list(dict.fromkeys(one.key for one in ones))
            lacking = list(dict.fromkeys(one.name for one in ones if one.table == "missing"))
            what = f"{', '.join(lacking[: so.NAMED])} missing" if lacking else f"{first.name} does not fit"
            # Every onnxruntime-gpu brings the plugin for TensorRT, and few install that; CUDA's own loads.
            spare = all(_TENSORRT.search(file) for file in files)
            # Every openvino brings the plugins for Intel's GPUs and NPUs, and most of them compute on the CPU.
            unasked = all(_OF_OPENVINO.search(file) for file in files) and not _loads_in(baseline, owner, files)
            yield self.finding(
                Impact.NOTE if spare or unasked else Impact.SLOWS,
                max(sure, Confidence.LIKELY, key=lambda value: value.rank),
                f"{so.owners_text(target, ones)} cannot load {files[0].rsplit('/', 1)[-1]}: {what}",
                Subject("distribution", owner),
                f"{first.key} says: {first.text or what}. Whoever opens it "
                f"({first.record.get('named_by', 'its package')}) goes on without it, on the CPU. "
                f"Affected: {so.files_text(ones)}.",
                predicted_error=first.text or None,
                evidence=so.evidence_of(target, ones),
                fix=self._fix(target, baseline, owner, lacking, spare=spare),
            )

    @staticmethod
    def _fix(target: Snapshot, baseline: Snapshot | None, owner: str, lacking: list[str], *, spare: bool) -> list[Fix]:
        """The extras of the distribution itself where it has some for this, else package by package."""
        record = distributions_of(target).get(owner)
        wanted = ("tensorrt",) if spare else ("cuda", "cudnn", "tensorrt", "rocm")
        extras = [name for name in wanted if record and name in record["extras"]]
        if record is not None and extras:
            _, sign, version = pinned(record).partition("==")
            return list(pip_fix(target, f'install "{record["name"]}[{",".join(extras)}]{sign}{version}"'))
        fixes = [fix for name in lacking for fix in so.library_fix(target, baseline, name, [owner])]
        if any(name.startswith(("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")) for name in lacking):
            # These sonames are the same for CUDA 12 and 13, and only the wheels of 13 have no number.
            fixes = [replace(fix, text=_FOR_13.sub(_name_for_13, fix.text)) for fix in fixes]
        return list(dict.fromkeys(fixes))


_TENSORRT = re.compile(r"tensorrt|[_.-]trt[_.-]")
_OF_OPENVINO = re.compile(r"openvino_intel_[gn]pu_plugin")


def _loads_in(snapshot: Snapshot | None, owner: str, files: list[str]) -> bool:
    """Whether this environment has the distribution, and nothing to say against one of these files of it."""
    if snapshot is None or snapshot.facts("libraries") is None or owner not in distributions_of(snapshot):
        return False
    return not so.files_of(snapshot).keys() >= set(files)


_FOR_13 = re.compile(r"\b(nvidia-(?:cudnn|nccl|cusparselt|nvshmem)|tensorrt)?([\w-]*)-cu12(?=\b)")


def _name_for_13(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}-cu13" if found[1] else found[2]
