"""Family ENV: environment variables that change what is loaded and how many threads compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules.base import Contradiction, Drift, Sides, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS
from driftcheck.snapshot import Snapshot

# Variables that set the size of a pool, and whether their library takes a number above the CPUs that it sees.
# Seen on 2 CPUs with =8: libgomp starts 8 threads; OpenBLAS 2 (its Linux code takes the smaller number).
# MKL_DYNAMIC, on by default, keeps MKL at the cores. The others are believed to take what they are told.
POOLS = {
    "OMP_NUM_THREADS": True,
    "OPENBLAS_NUM_THREADS": False,
    "MKL_NUM_THREADS": False,
    "BLIS_NUM_THREADS": True,
    "VECLIB_MAXIMUM_THREADS": True,
    "NUMEXPR_NUM_THREADS": True,
    "NUMEXPR_MAX_THREADS": True,
    "RAYON_NUM_THREADS": True,
}

# Distributions that start one thread a CPU in OpenMP or a BLAS unless told otherwise.
POOLED = frozenset(
    """
    numpy scipy scikit-learn torch tensorflow tensorflow-cpu onnxruntime onnxruntime-gpu xgboost lightgbm
    catboost faiss-cpu faiss-gpu numexpr numba opencv-python opencv-python-headless opencv-contrib-python
    opencv-contrib-python-headless jaxlib mxnet paddlepaddle ctranslate2 llama-cpp-python tokenizers polars
    openvino
    """.split()  # noqa: SIM905 - a list of words to read
)

# Of these, the ones whose default pool ignores a CPU quota: OpenMP and BLAS count CPUs by affinity.
_NOT_RAYON = POOLED - {"tokenizers", "polars"}

# A pool of at least this many times the limit is far above it.
FAR = 2


class ENV001(Contradiction):
    """More threads are asked for than the CPU limit lets run at once.

    Compares: OMP_NUM_THREADS and its kin with the number of threads that the limits let run at once: the
    smaller of CPU affinity and control group quota, rounded up. Where no variable is set, the number of
    CPUs that libraries see with that limit.

    Why: OpenMP and BLAS count the CPUs that they may be scheduled on and do not read the quota of the
    control group. With 64 CPUs in sight and a quota of 4, 64 threads spin at every barrier, use up the
    quota in the first milliseconds of each period, and stand still for the rest of it.

    See: no error. A request takes many times as long as on the laptop, nr_throttled in cpu.stat of the
    control group grows.

    Decided: a variable asks for more threads than can run, after what its library itself caps: slows,
    likely. No variable is set, the quota decides, and the CPUs in sight are at least twice what it grants:
    slows, likely. Only where a distribution that computes in threads is installed.

    Fix: set OMP_NUM_THREADS to the limit.

    Limits: what code sets (torch.set_num_threads, threadpoolctl, session options) is not seen. onnxruntime
    has a pool of its own that listens to none of these variables. Newer torch caps OMP_NUM_THREADS at the
    CPUs itself (seen with 2.13). Worker processes multiply the number.
    """

    code = "ENV001"
    name = "threads-over-cpu-limit"
    reads = ("limits", "variables")
    references = (
        "https://scikit-learn.org/stable/computing/parallelism.html",
        "https://github.com/dmlc/xgboost/issues/7653",
        "https://www.openmp.org/spec-html/5.1/openmpse59.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        limit = lookup(target, ("limits", "cpu_limit", "cpus"))
        if limit is None or not _computes_in_threads(target, POOLED):
            return
        seen = cpus_in_sight(target)
        evidence = [
            at(target, "target", "limits", "cpu_limit", "cpus"),
            at(target, "target", "limits", "cpu_limit", "decided_by"),
        ]
        asked = False
        for name, takes_more in POOLS.items():
            number = threads(target, name)
            if number is None:
                continue
            asked = asked or name in {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
            if not takes_more and seen is not None:
                number = min(number, seen)
            cap = threads(target, "OMP_THREAD_LIMIT") if name == "OMP_NUM_THREADS" else None
            if cap is not None:
                number = min(number, cap)
            if number <= limit:
                continue
            yield self.finding(
                Impact.SLOWS,
                Confidence.LIKELY,
                f"{name} starts {number} threads where {limit} can run",
                Subject("variable", name),
                f"The CPU limit here lets {limit} run at once (decided by {_decided(target)}). The others wait, "
                "and barriers make the waiting ones the slowest.",
                evidence=[at(target, "target", "variables", "variables", name, "value"), *evidence],
                fix=_thread_fixes(name, limit),
            )
        quota = lookup(target, ("limits", "cgroup", "cpu_quota"))
        if asked or quota is None or seen is None or seen < FAR * limit or not _computes_in_threads(target, _NOT_RAYON):
            return
        yield self.finding(
            Impact.SLOWS,
            Confidence.LIKELY,
            f"Thread pools will start {seen} threads on a quota of {quota:g} CPUs",
            Subject("variable", "OMP_NUM_THREADS"),
            f"{seen} CPUs are in sight and no variable says otherwise. OpenMP and BLAS do not read the "
            "control group's quota, so the process is throttled in each period.",
            evidence=[
                *held(
                    target,
                    "target",
                    ("limits", "cgroup", "cpu_quota"),
                    ("limits", "cpus"),
                    ("variables", "variables", "OMP_NUM_THREADS"),
                )
            ],
            fix=_thread_fixes("OMP_NUM_THREADS", limit),
        )


def variable(snapshot: Snapshot, name: str) -> str | None:
    """The value of a variable; None where it is not set, empty or hidden."""
    record: Any = lookup(snapshot, ("variables", "variables", name)) or {}
    return record.get("value") or None


def threads(snapshot: Snapshot, name: str) -> int | None:
    """A number of threads: the first of a list (one per nesting level); None for what no library accepts."""
    text = (variable(snapshot, name) or "").split(",")[0].strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text) or None


def cpus_in_sight(snapshot: Snapshot) -> int | None:
    """What OpenMP and BLAS count: the CPUs of the affinity mask, where there is one."""
    cpus = lookup(snapshot, ("limits", "cpus")) or {}
    return cpus.get("affinity") or cpus.get("online") or None


def _computes_in_threads(snapshot: Snapshot, names: frozenset[str]) -> bool:
    """True also where packages were not measured."""
    distributions = lookup(snapshot, DISTRIBUTIONS)
    return distributions is None or bool(names & distributions.keys())


def _decided(target: Snapshot) -> str:
    words = {
        "quota": "the control group's quota",
        "affinity": "CPU affinity",
        "online": "the number of CPUs",
    }
    return words.get(lookup(target, ("limits", "cpu_limit", "decided_by")) or "", "the limits")


def _thread_fixes(name: str, limit: int) -> list[Fix]:
    return [
        Fix("variable", f"{name}={limit}"),
        Fix("docker-run", f"-e {name}={limit}"),
        Fix("dockerfile", f"ENV {name}={limit}"),
    ]


class ENV002(Drift):
    """Another number of threads computes in the target.

    Compares: the number of threads that OpenMP and BLAS start in both: OMP_NUM_THREADS and its kin, else
    the CPUs in sight; and the variables themselves.

    Why: a sum that is cut into two parts is rounded differently from one that is cut into eight, so results
    differ in the last digits, and a comparison with ==, an argmax between near equals or a long recurrence
    can turn out differently. Floating point addition is not associative.

    See: no error. Seen with torch 2.13, the sum of ten million normal numbers: 519.695556640625 with one
    thread, 519.6959838867188 with two.

    Decided: the numbers differ, and a distribution that computes in threads is installed: changes-results,
    possible.

    Fix: set the same number in both, where results have to be reproducible.

    Limits: what code sets is not seen. One finding speaks of all variables.
    """

    code = "ENV002"
    name = "threads-changed"
    reads = ("limits", "variables")
    references = (
        "https://pytorch.org/docs/stable/notes/numerical_accuracy.html",
        "https://scikit-learn.org/stable/computing/parallelism.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        if not _computes_in_threads(target, POOLED):
            return
        evidence = []
        words = []
        differing = [name for name in POOLS if threads(baseline, name) != threads(target, name)]
        for name in differing:
            numbers = [started(snapshot, name) for snapshot in (baseline, target)]
            if None in numbers or numbers[0] == numbers[1]:
                continue
            words.append(f"{name} {_set(baseline, name)} -> {_set(target, name)}")
            for side, snapshot in (("baseline", baseline), ("target", target)):
                evidence += held(snapshot, side, ("variables", "variables", name))
        numbers = [started(snapshot, "OMP_NUM_THREADS") for snapshot in (baseline, target)]
        if None not in numbers and numbers[0] != numbers[1] and "OMP_NUM_THREADS" not in differing:
            words.append(f"CPUs in sight {numbers[0]} -> {numbers[1]}")
            for side, snapshot in (("baseline", baseline), ("target", target)):
                evidence.append(at(snapshot, side, "limits", "cpus"))
        if not words:
            return
        here, there = numbers[1], numbers[0]
        title = "Another number of threads computes here"
        if here is not None and there is not None and here != there:
            title = f"OpenMP computes with {here} {'thread' if here == 1 else 'threads'} instead of {there}"
        fixes = [Fix("variable", f"OMP_NUM_THREADS={there}")] if there is not None and here != there else []
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            title,
            Subject("setting", "threads"),
            f"{'; '.join(words)}. Sums are cut into other parts, so results may differ in the last digits.",
            evidence=evidence,
            fix=fixes,
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return change.section == "variables" and any(
            entry.path[:3] == change.path[:3] for entry in finding.evidence if entry.path[0] == "variables"
        )


def started(snapshot: Snapshot, name: str) -> int | None:
    """How many threads the library of this variable starts; None where that is not known."""
    seen = cpus_in_sight(snapshot)
    asked = threads(snapshot, name)
    if asked is None:
        # OpenBLAS, MKL and BLIS listen to OpenMP's variable where their own is not set.
        if name in {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"}:
            asked = threads(snapshot, "OMP_NUM_THREADS")
        if asked is None:
            return seen
    return min(asked, seen) if seen is not None and not POOLS[name] else asked


def _set(snapshot: Snapshot, name: str) -> str:
    number = threads(snapshot, name)
    return "not set" if number is None else str(number)


class ENV003(Drift):
    """A variable that changes what is imported or loaded is set on one side only.

    Compares: PYTHONPATH, PYTHONHOME, LD_LIBRARY_PATH and LD_PRELOAD.

    Why: each of them puts files before those that the environment was installed with: other modules,
    another standard library, other shared libraries, another allocator. What the environment's own records
    say is then not what runs.

    See: no error, or an import that takes an unexpected file; family LIB and PKG004 name what is taken.

    Decided: set and not empty on one side, absent on the other: changes-results, possible. LD_PRELOAD of an
    allocator (jemalloc, tcmalloc, mimalloc): a note.

    Fix: set or unset it as in the baseline.

    Limits: that two different values load different files is left to the findings about these files.
    """

    code = "ENV003"
    name = "search-path-variable-changed"
    reads = ("variables",)
    references = (
        "https://docs.python.org/3/using/cmdline.html#envvar-PYTHONPATH",
        "https://man7.org/linux/man-pages/man8/ld.so.8.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        for name, what in _LOADS.items():
            before, after = variable(baseline, name), variable(target, name)
            if (before is None) == (after is None):
                continue
            value = after or before or ""
            allocator = name == "LD_PRELOAD" and any(word in value for word in _ALLOCATORS)
            yield self.finding(
                Impact.NOTE if allocator else Impact.CHANGES_RESULTS,
                Confidence.POSSIBLE,
                f"{name} is {'set here and not' if after else 'not set here, but'} in the baseline",
                Subject("variable", name),
                f"{name}={value} {what}.",
                evidence=[
                    *held(baseline, "baseline", ("variables", "variables", name)),
                    *held(target, "target", ("variables", "variables", name)),
                ],
                fix=[Fix("variable", f"unset {name}" if after else f"{name}={value}")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        name = finding.subject.name
        if change.path[:3] == ("variables", "variables", name):
            return True
        value = next((entry.value["value"] for entry in finding.evidence if entry.value and "value" in entry.value), "")
        if name == "PYTHONPATH" and change.path[:2] == ("python", "search_path"):
            entry = change.before if change.kind == "removed" else change.after
            return change.kind != "changed" and isinstance(entry, str) and entry in _entries(value)
        return (
            name == "LD_LIBRARY_PATH"
            and change.path[:2] == ("programs", "libraries")
            and "LD_LIBRARY_PATH" in set(_texts([change.before, change.after]))
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What rests on the variable: a module that it hides, a library that it puts before another."""
        del sides
        name = finding.subject.name
        if any(entry.path == ("variables", "variables", name) for entry in effect.evidence):
            return effect.code in {"PY002", "PKG004", "GPU023"}
        reason = {"LD_LIBRARY_PATH": "ld_library_path", "LD_PRELOAD": "ld_preload"}.get(name)
        return effect.code == "LIB006" and any(
            isinstance(entry.value, dict) and entry.value.get("reason") == reason for entry in effect.evidence
        )


_LOADS = {
    "PYTHONPATH": "puts folders before the installed packages and the standard library",
    "PYTHONHOME": "moves the standard library",
    "LD_LIBRARY_PATH": "puts folders before the system's libraries",
    "LD_PRELOAD": "loads a library into every process before all others",
}
_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")


def _entries(value: str) -> list[str]:
    return value.split(";" if ";" in value else ":")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a fact, keys and values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
