"""Family NUM: the same program and the same versions, and other answers: BLAS, switches, processor, zone, encoding."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects, wheels
from driftcheck.rules.base import Drift, Sides, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.inference_variables import changed, differing, hidden
from driftcheck.rules.library_choices import SYSTEM_BLAS, blas_maker
from driftcheck.rules.variables import variable
from driftcheck.rules.version_drift import BLAS, reinstall
from driftcheck.snapshot import Snapshot


class NUM001(Drift):
    """Linear algebra is computed by another BLAS than in the baseline.

    Compares: the BLAS that the modules of each distribution map in both: whose it is (OpenBLAS, MKL, BLIS,
    the system's), its version and the width of its integers, as far as the name of its file tells.

    Why: a product of matrices is a sum, and each BLAS cuts and orders it otherwise. The last digits differ,
    and with them an argmax between near equals, the result of an iteration, a hash of the output.

    See: no error. Seen with one OpenBLAS and two of its kernels: the products of the same two 300 x 300
    float32 matrices are not equal.

    Decided: another maker: changes-results, likely; possible where one is the system's libblas.so.3, which may
    be any. Another version or width in the same version of the
    distribution: changes-results, possible. That another version of a distribution brings another BLAS is
    NUM002's.

    Fix: install the distribution from where the baseline has it (the registry, conda, the system).

    Limits: BLAS that is linked in statically (torch's MKL) is not seen, nor which one Debian's alternatives put
    behind libblas.so.3. Most wheels put a hash in the place of a version. Which kernels a BLAS chooses is left
    to CPU002 and NUM007.
    """

    code = "NUM001"
    name = "other-blas"
    reads = ("libraries",)
    references = (
        "https://numpy.org/doc/stable/building/blas_lapack.html",
        "https://pytorch.org/docs/stable/notes/numerical_accuracy.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = blas_of(baseline), blas_of(target)
        for name in sorted(before.keys() & after.keys()):
            old, new = before[name], after[name]
            makers = {blas_maker(file) for file in old}, {blas_maker(file) for file in new}
            builds = {blas_build(file) for file in old}, {blas_build(file) for file in new}
            if makers[0] != makers[1]:
                unknown = SYSTEM_BLAS in makers[0] | makers[1]
                confidence = Confidence.POSSIBLE if unknown else Confidence.LIKELY
                words = _joined(makers[0]), _joined(makers[1])
            elif builds[0] != builds[1] and _same_version(baseline, target, name):
                confidence, words = Confidence.POSSIBLE, (_joined(builds[0]), _joined(builds[1]))
            else:
                continue
            yield self.finding(
                Impact.CHANGES_RESULTS,
                confidence,
                f"{name} computes with {words[1]} instead of {words[0]}",
                Subject("distribution", name),
                f"In the baseline its modules map {', '.join(sorted(old))}, here {', '.join(sorted(new))}. "
                "Sums are made in another order, so the last digits may differ.",
                evidence=[
                    *(at(baseline, "baseline", *BLAS, file, "used_by", name) for file in sorted(old)),
                    *(at(target, "target", *BLAS, file, "used_by", name) for file in sorted(new)),
                ],
                fix=reinstall(baseline, target, name),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        files = {entry.path[3] for entry in finding.evidence if len(entry.path) > 3}
        return change.path[:3] == BLAS and len(change.path) > 3 and change.path[3] in files


def blas_of(snapshot: Snapshot) -> dict[str, set[str]]:
    """The BLAS files of each distribution; what no distribution owns is left out."""
    table: Mapping[str, Any] = lookup(snapshot, BLAS) or {}
    found: dict[str, set[str]] = {}
    for file, record in table.items():
        for name in record["used_by"]:
            if name:
                found.setdefault(name, set()).add(file)
    return found


def blas_build(file: str) -> str:
    """``OpenBLAS 0.3.23 with 64-bit integers``, as far as the name of a file tells."""
    name = file.rsplit("/", 1)[-1]
    # libopenblas64_p-r0-0cf96a72.3.23.dev.so, libopenblasp-r0.3.21.so: a wheel's hash splits the version.
    found = re.search(r"-r(\d+)(?:-[0-9a-f]{8})?\.(\d+\.\d+)", name)
    version = f" {found[1]}.{found[2]}" if found else ""
    return f"{blas_maker(file)}{version}{' with 64-bit integers' if re.search(r'64_|ilp64', name) else ''}"


def _same_version(baseline: Snapshot, target: Snapshot, name: str) -> bool:
    versions = [lookup(snapshot, (*DISTRIBUTIONS, name, "version")) for snapshot in (baseline, target)]
    return bool(versions[0] == versions[1])


def _joined(words: set[str]) -> str:
    return " and ".join(sorted(words))


class NUM005(Drift):
    """A variable that changes results has another value than in the baseline.

    Compares: the variables of a table (NVIDIA_TF32_OVERRIDE, ATEN_CPU_CAPABILITY, MKL_CBWR,
    ONEDNN_MAX_CPU_ISA, OPENBLAS_CORETYPE, JAX_ENABLE_X64, ...) in both, where a distribution that reads
    them is installed in the target.

    Why: each of them chooses other kernels, another precision or another device for the same program.

    See: no error. Seen with torch 2.13 and ATEN_CPU_CAPABILITY=default: the sum of ten million normal
    numbers is 519.51904296875 instead of 519.6959838867188.

    Decided: the values differ; one that means the same as none counts as none. likely where another result
    was seen, else possible.

    Fix: set or unset it as in the baseline.

    Limits: what a program sets by itself (torch.backends.cuda.matmul.allow_tf32) is not seen. The number of
    threads is ENV002's.
    """

    code = "NUM005"
    name = "numeric-variable-changed"
    reads = ("variables", "packages")
    references = (
        "https://pytorch.org/docs/stable/notes/numerical_accuracy.html",
        "https://docs.pytorch.org/docs/2.15/cuda_environment_variables.html",
        "https://oneapi-src.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html",
        "https://numpy.org/devdocs/reference/simd/build-options.html",
        "https://docs.jax.dev/en/latest/default_dtypes.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        for row in differing(baseline, target):
            if row.impact == Impact.CHANGES_RESULTS:
                yield changed(self, row, baseline, target)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return effects.is_of_variable(change, finding)


class NUM006(Drift):
    """Sets and hashes of strings have another order than in the baseline, which fixed it.

    Compares: PYTHONHASHSEED in both.

    Why: unless it is fixed, each process hashes strings with a seed of its own, and a set of strings comes
    in another order. Labels that were made from a set, features that were hashed, and a shard that was
    chosen by hash() are then others in each process.

    See: no error. Class 3 is called cat in one process and dog in the next.

    Decided: a number in the baseline, and another one or none in the target: changes-results, possible. Where
    the baseline fixes none, its own order changes from one start to the next, and nothing is said.

    Fix: sort what comes from a set, and use hashlib where a hash has to stay; or set PYTHONHASHSEED.

    Limits: whether the program orders anything by a set is not known. Dictionaries keep their order.
    """

    code = "NUM006"
    name = "hash-seed-changed"
    reads = ("variables",)
    references = ("https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED",)

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        name = "PYTHONHASHSEED"
        if hidden(baseline, name) or hidden(target, name):
            return
        before, after = _seed(variable(baseline, name)), _seed(variable(target, name))
        if before is None or before == after:
            return
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"{name} is {'not fixed' if after is None else after} here, and {before} in the baseline",
            Subject("variable", name),
            "Sets of strings come in another order"
            + (", and in a new one at each start." if after is None else " than in the baseline."),
            evidence=[
                *held(baseline, "baseline", ("variables", "variables", name)),
                *held(target, "target", ("variables", "variables", name)),
            ],
            fix=[Fix("variable", f"{name}={before}"), Fix("dockerfile", f"ENV {name}={before}")],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return effects.is_of_variable(change, finding)


def _seed(value: str | None) -> int | None:
    """The seed that a value fixes; None for none, random, or what Python refuses (ENV005)."""
    return int(value) if value and re.fullmatch(r"\d{1,10}", value, re.ASCII) else None


class NUM007(Drift):
    """The processor has other vector instructions of the kind that change results.

    Compares: on processors of one architecture and one x86-64 level, the maker, and the instructions by
    which libraries choose kernels: AVX-512 and its dot products (VNNI, BF16, FP16), AMX; on Arm SVE, dot
    products, I8MM and BF16.

    Why: int8 products saturate in 16 bits on a processor without VNNI, so quantised models of onnxruntime,
    oneDNN and torch answer otherwise there, and wrongly at worst. bf16 models are computed with other
    rounding. MKL takes other branches on processors of another maker.

    See: no error. A quantised BERT predicts well on one machine and not on the next.

    Decided: an instruction or the maker differs, and a library that chooses by it is installed:
    changes-results, possible.

    Fix: an instance type of the same processor family; quantise with reduce_range, or set
    session.x64quantprecision for onnxruntime.

    Limits: another level is CPU002's, another architecture CPU001's. Whether a model is quantised is not
    known.
    """

    code = "NUM007"
    name = "other-vector-instructions"
    reads = ("machine", "packages")
    references = (
        "https://github.com/microsoft/onnxruntime/issues/5849",
        "https://github.com/pytorch/pytorch/issues/103646",
        "https://github.com/uxlfoundation/oneDNN/issues/1354",
        "https://github.com/tensorflow/tensorflow/issues/56529",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        machines = [lookup(snapshot, ("machine", "architecture")) for snapshot in (baseline, target)]
        levels = [lookup(snapshot, ("machine", "level")) for snapshot in (baseline, target)]
        choosers = [name for name in _CHOOSERS if name in distributions_of(target)]
        if None in machines or machines[0] != machines[1] or levels[0] != levels[1] or not choosers:
            return
        flags = [lookup(snapshot, ("machine", "cpu", "flags")) for snapshot in (baseline, target)]
        if not all(flags):
            return
        before, after = ([flag for flag in _VECTOR if flag in found] for found in flags)
        vendors = [lookup(snapshot, ("machine", "cpu", "vendor")) for snapshot in (baseline, target)]
        lost, won = [flag for flag in before if flag not in after], [flag for flag in after if flag not in before]
        other_maker = None not in vendors and vendors[0] != vendors[1]
        if not lost and not won and not other_maker:
            return
        parts = [f"lacks {', '.join(lost)}"] if lost else []
        parts += [f"has {', '.join(won)} besides"] if won else []
        parts += [f"is of {vendors[1]} instead of {vendors[0]}"] if other_maker else []
        sides = (("baseline", baseline), ("target", target))
        evidence = [
            entry
            for flag in (*lost, *won)
            for side, snapshot in sides
            for entry in held(snapshot, side, ("machine", "cpu", "flags", flag))
        ]
        if other_maker:
            evidence += [at(snapshot, side, "machine", "cpu", "vendor") for side, snapshot in sides]
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"The processor {', '.join(parts)}",
            Subject("machine", "vector-instructions"),
            f"{wheels.listed(choosers)} choose kernels by these; quantised and bf16 models round and "
            "saturate otherwise in others.",
            evidence=evidence,
            fix=[Fix("advice", "Run it on a machine of the same processor family.")],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[:2] == ("machine", "cpu")


_VECTOR = tuple(
    """
    avx512f avx512_vnni avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16 amx_fp16 asimddp asimdhp i8mm
    bf16 sve sve2 svei8mm svebf16
    """.split()  # noqa: SIM905 - a list of words to read
)
_CHOOSERS = tuple(
    """
    onnxruntime torch tensorflow tensorflow-cpu openvino ctranslate2 llama-cpp-python jaxlib
    intel-extension-for-pytorch
    """.split()  # noqa: SIM905 - a list of words to read
)


class NUM008(Drift):
    """Local time is that of another zone.

    Compares: the zone in force: TZ, else /etc/localtime, and the rule in its file.

    Why: a feature such as the hour or the day of the week, the name of today's partition, and a time stamp
    without a zone come out otherwise, and a model is asked about another hour.

    See: no error. Predictions that hang on the time of day are shifted by some hours, or by one in summer.

    Decided: the names of the zones differ, and, where both come from /etc/localtime, the rules in these files
    too: changes-results, possible.

    Fix: set TZ as in the baseline, or compute in UTC.

    Limits: code that names its zones does not notice. A zone that cannot be looked up is BOX008's.
    """

    code = "NUM008"
    name = "other-time-zone"
    reads = ("limits",)
    references = (
        "https://docs.python.org/3/library/time.html#time.tzset",
        "https://man7.org/linux/man-pages/man3/tzset.3.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        zones = [lookup(snapshot, ("limits", "timezone")) for snapshot in (baseline, target)]
        if None in zones:
            return
        before, after = (_zone(zone) for zone in zones)
        # The rule is that of /etc/localtime, which TZ takes the place of.
        rules = [None if zone.get("tz") is not None else zone.get("rule") for zone in zones]
        same = before == after or (rules[0] is not None and rules[0] == rules[1])
        if same or "" in {before, after}:
            return
        typed = re.fullmatch(r"[\w/+-]{1,64}", before, re.ASCII) is not None
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"Local time is that of {after} instead of {before}",
            Subject("setting", "time-zone"),
            "What is computed from the local hour or day comes out otherwise.",
            evidence=[
                at(baseline, "baseline", "limits", "timezone"),
                at(target, "target", "limits", "timezone"),
            ],
            fix=[Fix("variable", f"TZ={before}"), Fix("dockerfile", f"ENV TZ={before}")] if typed else [],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[:2] == ("limits", "timezone") or change.path[:3] == ("variables", "variables", "TZ")


_UTC = frozenset({"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal", "UTC0", "GMT"})


def _zone(record: Mapping[str, Any]) -> str:
    """The name of the zone in force, one for all names of UTC; empty where nothing names it."""
    name = record.get("tz")
    if name is None:
        link = record.get("localtime") or ""
        if not link:
            # No /etc/localtime means UTC; a copy of a zone file in its place has no name.
            return "" if record.get("rule") else "UTC"
        name = link.split("zoneinfo/", 1)[-1]
    name = name.lstrip(":")
    return "UTC" if not name or name in _UTC else name


class NUM009(Drift):
    """Text files are read with another encoding than in the baseline.

    Compares: the encoding that open() takes where none is named, as the interpreter started.

    Why: the same bytes become other letters. A vocabulary that was read as Latin-1 has as many lines as one
    that was read as UTF-8, and other words in them; a model then knows none of the accented ones.

    See: no error where the target reads Latin-1 or another encoding in which each byte is a letter;
    `UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9 in position 0: unexpected end of data` where it
    reads UTF-8 and the file is none.

    Decided: the encodings differ, and neither is ASCII: changes-results, likely.

    Fix: PYTHONUTF8=1 or LANG=C.UTF-8 in both, and an encoding in each open().

    Limits: what a program names is not seen. Python 3.15 and newer take UTF-8. ASCII in the target is
    BOX007's; ASCII in the baseline is a part of every other.
    """

    code = "NUM009"
    name = "other-text-encoding"
    reads = ("limits",)
    references = (
        "https://peps.python.org/pep-0540/",
        "https://docs.python.org/3/library/functions.html#open",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = (_encoding(snapshot) for snapshot in (baseline, target))
        if before is None or after is None or before == after or "ascii" in {before, after}:
            return
        yield self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.LIKELY,
            f"Text files are read as {after} instead of {before}",
            Subject("locale", "encoding"),
            "Letters beyond ASCII in vocabularies, labels and prompts become others.",
            evidence=[at(baseline, "baseline", "limits", "locale"), at(target, "target", "limits", "locale")],
            fix=[Fix("variable", "PYTHONUTF8=1"), Fix("dockerfile", "ENV PYTHONUTF8=1")] if before == "utf-8" else [],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[:2] == ("limits", "locale")


def _encoding(snapshot: Snapshot) -> str | None:
    """One name for one encoding; None where it was not measured or Python does not know it."""
    record = lookup(snapshot, ("limits", "locale")) or {}
    if record.get("utf8_mode"):
        return "utf-8"
    try:
        return codecs.lookup(record.get("encoding") or "").name
    except (LookupError, ValueError):
        return None
