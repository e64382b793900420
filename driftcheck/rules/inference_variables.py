"""Family ENV: variables that libraries for inference read, by what is known of each of them (two tables)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import tables
from driftcheck.knowledge import variables as known
from driftcheck.rules import effects
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.variables import variable
from driftcheck.snapshot import Snapshot

# Longer values are none that a person typed, and no table knows them.
LONGEST = 4096

# A finding quotes a value up to here; the whole stands in its evidence.
QUOTED = 80


class ENV004(Drift):
    """A variable that breaks or slows inference has another value than in the baseline.

    Compares: the variables of a table (HF_HUB_OFFLINE, NCCL_SOCKET_IFNAME, CUDA_LAUNCH_BLOCKING,
    PYTORCH_CUDA_ALLOC_CONF, ...) in both, where a distribution that reads them is installed in the target.

    Why: they are switches of libraries: offline, blocking, bound to one interface, without a cache. What
    was set once while somebody looked for an error stays in an image for years.

    See: what the row says, for example `OSError: We couldn't connect to 'https://huggingface.co' to load
    the files, and couldn't find them in the cached files.`; for most no error, and a slower service.

    Decided: the values differ in the way that the row names; a value that means the same as none counts as
    none. likely where the effect was seen and hangs on nothing else, else possible.

    Fix: set or unset it as in the baseline.

    Limits: what a program sets by itself, and files such as nccl.conf, are not seen. Variables that
    change results are left to NUM005, the number of threads to ENV002.
    """

    code = "ENV004"
    name = "inference-variable-changed"
    reads = ("variables", "packages")
    references = (
        "https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html",
        "https://huggingface.co/docs/huggingface_hub/main/package_reference/environment_variables",
        "https://docs.nvidia.com/deeplearning/nccl/archives/nccl_2234/user-guide/docs/env.html",
        "https://docs.pytorch.org/docs/2.15/cuda_environment_variables.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        for row in differing(baseline, target):
            if row.impact != Impact.CHANGES_RESULTS:
                yield changed(self, row, baseline, target)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return effects.is_of_variable(change, finding)


def differing(baseline: Snapshot, target: Snapshot) -> Iterator[known.VariableDifference]:
    """The rows that apply to the differences of two environments, one a variable."""
    done: set[str] = set()
    for row in known.differences():
        if row.variable in done or not _differs(row, baseline, target):
            continue
        if reader(target, row.read_by, row.versions) is None:
            continue
        done.add(row.variable)
        yield row


def changed(rule: Drift, row: known.VariableDifference, baseline: Snapshot, target: Snapshot) -> Finding:
    """The finding of one row."""
    before, after = variable(baseline, row.variable), variable(target, row.variable)
    by = reader(target, row.read_by, row.versions)
    evidence = [
        *held(baseline, "baseline", ("variables", "variables", row.variable)),
        *held(target, "target", ("variables", "variables", row.variable)),
    ]
    if by:
        evidence.append(at(target, "target", *DISTRIBUTIONS, by, "version"))
    finding = rule.finding(
        Impact(row.impact),
        Confidence(row.confidence),
        f"{row.variable} is {_told(after)} here, and {_told(before)} in the baseline",
        Subject("variable", row.variable),
        f"{_capital(row.effect)}.",
        predicted_error=row.predicted_error,
        evidence=evidence,
        fix=as_in_baseline(row.variable, before),
    )
    return replace(finding, references=(row.source,))


def reader(snapshot: Snapshot, names: tuple[str, ...], versions: str | None) -> str | None:
    """The first of these distributions that is installed in such a version; empty where any process reads it."""
    if not names:
        return ""
    installed = distributions_of(snapshot)
    return next(
        (name for name in names if name in installed and tables.in_range(versions, req.version_of(installed[name]))),
        None,
    )


def as_in_baseline(name: str, value: str | None) -> list[Fix]:
    """What sets a variable to the value that it has in the baseline."""
    if value is None:
        return [Fix("variable", f"unset {name}")]
    if len(value) > LONGEST or re.search(r"[^\w@%+=:,./-]", value, re.ASCII):
        return [Fix("advice", f"Set {name} to the value of the baseline.")]
    return [Fix("variable", f"{name}={value}"), Fix("dockerfile", f"ENV {name}={value}")]


def _differs(row: known.VariableDifference, baseline: Snapshot, target: Snapshot) -> bool:
    if hidden(baseline, row.variable) or hidden(target, row.variable):
        return False
    before, after = (_meant(row, variable(snapshot, row.variable)) for snapshot in (baseline, target))
    if before == after or (row.target == "set" and after is None):
        return False
    if row.target == "not-set" and after is not None:
        return False
    return row.value is None or (after is not None and re.fullmatch(row.value, after, re.IGNORECASE) is not None)


def _meant(row: known.VariableDifference, value: str | None) -> str | None:
    """The value, or None where it means the same as no value."""
    if value is None or len(value) > LONGEST:
        return None
    return None if value.strip().lower() in row.default else value.strip()


def hidden(snapshot: Snapshot, name: str) -> bool:
    """Whether a variable is set, and its value was not recorded."""
    record = lookup(snapshot, ("variables", "variables", name))
    return record is not None and "value" not in record


def _told(value: str | None) -> str:
    if value is None:
        return "not set"
    return value if len(value) <= QUOTED else value[:QUOTED] + "..."


def _capital(text: str) -> str:
    """A sentence, unless it begins with the name of a library that is written small."""
    first = text.split(" ", 1)[0]
    return text if first.rstrip(",.") in _SMALL or "." in first else text[:1].upper() + text[1:]


_SMALL = frozenset({"torch", "vllm", "jax", "cuBLAS", "oneDNN", "httpx", "requests", "huggingface_hub", "tokenizers"})


class ENV005(Contradiction):
    """A variable has a value that the library which reads it refuses or ignores.

    Compares: the variables of a table with the values that their readers accept, with other variables that
    exclude them, with distributions and with files that they need.

    Why: a value is a string, and nobody checks it before the program starts: a CPU limit of Kubernetes
    (500m) as a number of threads, a certificate bundle that is not in this image, a package for faster
    downloads that nobody installed.

    See: `OSError: Could not find a suitable TLS CA certificate bundle, invalid path: /etc/ssl/corp.pem`,
    `ValueError: Fast download using 'hf_transfer' is enabled`, `libgomp: Invalid value for environment
    variable OMP_NUM_THREADS`.

    Decided: each row was seen with the versions that it names, so breaks, changes-results or slows as the
    row says, likely; possible where it hangs on something that is not measured.

    Fix: correct it, take the baseline's value, or unset it.

    Limits: only what the table knows. A program may overwrite a variable before its reader sees it. Paths
    that are not absolute are not followed.
    """

    code = "ENV005"
    name = "variable-value-refused"
    reads = ("variables", "packages")
    references = (
        "https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED",
        "https://gcc.gnu.org/onlinedocs/libgomp/Environment-Variables.html",
        "https://requests.readthedocs.io/en/latest/user/advanced/#ssl-cert-verification",
        "https://docs.jax.dev/en/latest/xla_flags.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        done: set[str] = set()
        for row in known.values():
            value = variable(target, row.variable)
            if row.variable in done or value is None or len(value) > LONGEST:
                continue
            by = reader(target, row.read_by, row.versions)
            if by is None or not _refused(row, value, target):
                continue
            done.add(row.variable)
            missing = sorted(lookup(target, ("variables", "variables", row.variable, "missing")) or {})
            before = variable(baseline, row.variable) if baseline is not None else None
            finding = self.finding(
                Impact(row.impact),
                Confidence(row.confidence),
                _title(row, value, missing),
                Subject("variable", row.variable),
                f"{_capital(row.effect)}.",
                predicted_error=_filled(row.predicted_error, value, missing),
                evidence=_evidence(row, target, by),
                fix=_fixes(row, before if before != value else None),
            )
            yield replace(finding, references=(row.source,))

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return effects.is_of_variable(change, finding)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del sides
        return says_that_it_differs(finding, effect)


def says_that_it_differs(finding: Finding, effect: Finding) -> bool:
    """Whether another finding says only that the variable of this one differs."""
    return effect.code in {"ENV004", "NUM005", "NUM006"} and effect.subject == finding.subject


def _refused(row: known.VariableValue, value: str, target: Snapshot) -> bool:
    if row.unless is not None and lookup(target, ("variables", "variables", row.unless)) is not None:
        return False
    if row.beside is not None and variable(target, row.beside) is None:
        return False
    if row.needs is not None and row.needs in distributions_of(target):
        return False
    if row.missing_file and not lookup(target, ("variables", "variables", row.variable, "missing")):
        return False
    if row.accepts is not None and re.fullmatch(row.accepts, value):
        return False
    return row.refuses is None or re.search(row.refuses, value) is not None


def _title(row: known.VariableValue, value: str, missing: list[str]) -> str:
    if row.missing_file:
        return f"{row.variable} names a file that is not there: {_told(missing[0])}"
    if row.beside is not None:
        return f"{row.variable} and {row.beside} exclude each other"
    if row.needs is not None:
        return f"{row.variable}={_told(value)} needs {row.needs}, which is not installed"
    return f"{row.variable} has a value that {'is ignored' if row.impact != 'breaks' else 'is refused'}: {_told(value)}"


def _filled(text: str | None, value: str, missing: list[str]) -> str | None:
    if text is None:
        return None
    return text.replace("{value}", value).replace("{missing}", missing[0] if missing else "")


def _evidence(row: known.VariableValue, target: Snapshot, by: str) -> list[Evidence]:
    where = ("variables", "variables", row.variable)
    evidence = [at(target, "target", *where, "value")]
    if row.missing_file:
        evidence.append(at(target, "target", *where, "missing"))
    if row.beside is not None:
        evidence.append(at(target, "target", "variables", "variables", row.beside, "value"))
    if by:
        evidence.append(at(target, "target", *DISTRIBUTIONS, by, "version"))
    return evidence


def _fixes(row: known.VariableValue, before: str | None) -> list[Fix]:
    fixes = as_in_baseline(row.variable, before)
    if row.needs is not None:
        fixes.insert(0, Fix("pip", f"python -m pip install {row.needs}"))
    return fixes


class ENV006(Contradiction):
    """OpenMP threads are to be bound to CPUs that are not there.

    Compares: the CPUs that GOMP_CPU_AFFINITY names with the number of CPUs that are online.

    Why: GNU's OpenMP, which torch and scikit-learn bring, starts its threads on these CPUs. The kernel
    refuses one that does not exist, and the library ends the process. Such lists come from another machine.

    See: `libgomp: Thread creation failed: Invalid argument`, exit status 1, at the first computation.

    Decided: a CPU of the list has a number that the machine does not reach, and a distribution that brings
    libgomp is installed: breaks, likely, where one of as many threads as there are CPUs (or as OMP_NUM_THREADS says)
    would be started there; possible where only a later one would. Seen with torch 2.13 and two CPUs: 7, 2-3 and
    "0 5" end the process, 0-63 and "5 0" do not.

    Fix: unset it, or name CPUs of this machine.

    Limits: where the affinity mask leaves some CPUs out, their numbers are not known, and a list that names
    one of them is not seen. Numbers far beyond the machine's are ignored by libgomp, and OMP_PLACES with such
    a CPU gets a warning.
    """

    code = "ENV006"
    name = "threads-bound-to-absent-cpus"
    reads = ("variables", "limits", "packages")
    references = ("https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fCPU_005fAFFINITY.html",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        name = "GOMP_CPU_AFFINITY"
        online = lookup(target, ("limits", "cpus", "online"))
        by = reader(target, _LIBGOMP, None)
        if not online or by is None:
            return
        found = _absent_cpu(variable(target, name) or "", online)
        if found is None:
            return
        absent, thread = found
        asked = variable(target, "OMP_NUM_THREADS") or ""
        threads = int(asked) if re.fullmatch(r"\d{1,6}", asked, re.ASCII) else online
        before = variable(baseline, name) if baseline is not None else None
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if thread < threads else Confidence.POSSIBLE,
            f"{name} names CPU {absent}, and there are {online}",
            Subject("variable", name),
            f"CPUs are counted from 0, so the last one here is {online - 1}. The kernel refuses a thread on another "
            "one, and libgomp ends the process."
            + ("" if thread < threads else f" That comes to pass once more than {thread} threads are started."),
            predicted_error="libgomp: Thread creation failed: Invalid argument",
            evidence=[
                at(target, "target", "variables", "variables", name, "value"),
                at(target, "target", "limits", "cpus", "online"),
                at(target, "target", *DISTRIBUTIONS, by, "version"),
            ],
            fix=as_in_baseline(name, before if before != variable(target, name) else None),
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return effects.is_of_variable(change, finding)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del sides
        return says_that_it_differs(finding, effect)


# Distributions whose wheels bring libgomp (seen in their files).
_LIBGOMP = ("torch", "scikit-learn", "xgboost", "lightgbm", "faiss-cpu", "ctranslate2")


def _absent_cpu(value: str, online: int) -> tuple[int, int] | None:
    """The first CPU in ``0 3 1-2 4-15:2`` that libgomp asks for and that is not there, and the number of the first
    thread that it would start on it; None for what is no such list.

    It holds the CPUs in words of 64 bits, as the kernel hands them out, and forgets what lies beyond the last word
    (seen: of two CPUs, 2 to 63 are refused, and 64 and more are ignored). Threads take the list in its order, and
    begin it anew at its end; thread 0 is there already, and goes on where it is (seen: ``5 0`` for two threads).
    """
    if len(value) > LONGEST:
        return None
    known = -(-online // 64) * 64
    absent: list[tuple[int, int]] = []
    length = 0
    for word in re.split(r"[\s,]+", value.strip()):
        part = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6})(?::(\d{1,6}))?)?", word, re.ASCII)
        if part is None:
            return None
        first, last, step = int(part[1]), int(part[2] or part[1]), int(part[3] or 1) or 1
        last = min(last, known - 1)
        cpu = first if first >= online else first + -(-(online - first) // step) * step
        if cpu <= last:
            absent.append((length + (cpu - first) // step, cpu))
            if absent[-1][0] == 0 and cpu + step <= last:
                absent.append((1, cpu + step))
        length += max(0, (last - first) // step + 1)
    found = min(((place or length, cpu) for place, cpu in absent), default=None)
    return (found[1], found[0]) if found is not None else None
