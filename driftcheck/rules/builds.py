"""Family PKG: builds of one version that differ, and builds that do not go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from packaging.tags import Tag

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules import unseen, wheels
from driftcheck.rules.accelerators import build_of, judge, public_version
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.rules.distributions import (
    DISTRIBUTIONS,
    SPECIFICATIONS,
    conda_build,
    count_of,
    distributions_of,
    pinned,
    pip_fix,
    source_of,
    tags_text,
    titled,
)
from driftcheck.snapshot import Snapshot


class PKG005(Drift):
    """The same version of a distribution is another build.

    Compares: RECORD digests (paths and hashes of all files that a wheel brought) of distributions that
    have one public version in both environments, beside wheel tags, build numbers, local versions and
    conda's builds.

    Why: a version names the source and not the binary. Another wheel of it may have another BLAS, another
    CUDA or none, other compiler flags, or a local patch; results and speed differ, and no list of
    versions shows it.

    See: no error. `torch.cuda.is_available()` is False, numbers differ in the last digits, or it is
    slower.

    Decided: certain that the files differ. Where the wheels are for different platforms or Pythons, that
    explains it, and all of them are one note. An accelerated build against a CPU build: slows, likely.
    Other binaries: changes-results, likely. Pure Python, where rebuilding alone changes the digest:
    changes-results, possible.

    Fix: install from the index of the baseline and lock by hash (pip install --require-hashes).

    Limits: distributions without RECORD (those of Debian) are not compared. What differs is not known,
    only that something does.
    """

    code = "PKG005"
    name = "same-version-other-build"
    reads = ("packages",)
    references = (
        "https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode",
        "https://packaging.python.org/en/latest/specifications/binary-distribution-format/",
        "https://pytorch.org/get-started/locally/",
        "https://github.com/pytorch/pytorch/issues/122494",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = distributions_of(baseline), distributions_of(target)
        elsewhere = []
        for name in sorted(before.keys() & after.keys()):
            one, other = before[name], after[name]
            if not self._same_version(one, other) or self._editable(one) or self._editable(other):
                continue
            builds = build_of(one), build_of(other)
            differ = one["record"] and other["record"] and one["record"]["digest"] != other["record"]["digest"]
            if not differ and (None in builds or builds[0] == builds[1]):
                continue
            if self._other_place(one, other):
                elsewhere.append(name)
            else:
                yield self._finding(baseline, target, name)
        if elsewhere:
            yield self._elsewhere(baseline, target, elsewhere)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        names = {entry.path[2] for entry in finding.evidence}
        return change.path[:2] == DISTRIBUTIONS and len(change.path) > 3 and change.path[2] in names

    def _finding(self, baseline: Snapshot, target: Snapshot, name: str) -> Finding:
        one, other = distributions_of(baseline)[name], distributions_of(target)[name]
        pure = all(tag.abi == "none" and tag.platform == "any" for tag in req.wheel_tags(one) | req.wheel_tags(other))
        impact = Impact.CHANGES_RESULTS
        confidence = Confidence.POSSIBLE if pure else Confidence.LIKELY
        builds = build_of(one), build_of(other)
        details = [
            f"{label} {before or 'none'} in the baseline, {after or 'none'} in the target"
            for label, before, after in (
                ("build", *builds),
                ("wheel tag", tags_text(one), tags_text(other)),
                ("build number", one.get("build"), other.get("build")),
                ("installer", one["installer"], other["installer"]),
                ("source", source_of(one), source_of(other)),
                ("conda build", conda_build(baseline, name), conda_build(target, name)),
            )
            if before != after
        ]
        if builds[1] == "cpu" and builds[0] not in {None, "cpu"}:
            impact, confidence = Impact.SLOWS, Confidence.LIKELY
            details.insert(0, "the target's build cannot use an accelerator")
        keys = ["version", "module_version", "record", "tags"]
        return self.finding(
            impact,
            confidence,
            f"{one['name']} {req.version_of(one)} is another build"
            + (
                f": {builds[0]} in the baseline, {builds[1]} in the target"
                if None not in builds and builds[0] != builds[1]
                else ""
            ),
            Subject("distribution", name),
            "The version is the same and the files that the wheel brought are not"
            + (f": {'; '.join(details)}." if details else ", though nothing in their metadata says why."),
            evidence=[
                at(snapshot, side, *DISTRIBUTIONS, name, key)
                for key in keys
                if one.get(key) != other.get(key) and (key in one or key in other)
                for side, snapshot in (("baseline", baseline), ("target", target))
                if key in distributions_of(snapshot)[name]
            ],
            fix=(
                *pip_fix(target, f"install --force-reinstall --no-deps {pinned(one)}"),
                Fix(
                    "advice",
                    "Use the index that the baseline used (--index-url), and lock by hash (pip install "
                    "--require-hashes).",
                ),
            ),
        )

    def _elsewhere(self, baseline: Snapshot, target: Snapshot, names: Sequence[str]) -> Finding:
        first = names[0]
        one, other = distributions_of(baseline)[first], distributions_of(target)[first]
        return self.finding(
            Impact.NOTE,
            Confidence.CERTAIN,
            f"{count_of(len(names), 'distribution')} of the same version came as wheels for another platform or Python",
            Subject("distributions", "wheels for another platform or Python"),
            f"For example {one['name']}: {tags_text(one)} in the baseline, {tags_text(other)} in the target. Their "
            "tags explain "
            f"that the files differ. All: {', '.join(names)}.",
            evidence=[
                at(snapshot, side, *DISTRIBUTIONS, name, "tags")
                for name in names
                for side, snapshot in (("baseline", baseline), ("target", target))
            ],
        )

    @staticmethod
    def _same_version(one: dict[str, Any], other: dict[str, Any]) -> bool:
        before, after = req.version_of(one), req.version_of(other)
        first, second = req.parsed(before), req.parsed(after)
        if first is None or second is None:
            return before == after and before is not None
        return first.public == second.public

    @staticmethod
    def _editable(record: dict[str, Any]) -> bool:
        return bool(record["direct_url"] and record["direct_url"]["editable"])

    @staticmethod
    def _other_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether the two wheels are for different interpreters, systems, C libraries or machines."""
        first, second = req.wheel_tags(one), req.wheel_tags(other)
        return bool(first and second) and (
            {req.interpreter_of(tag) for tag in first}.isdisjoint(req.interpreter_of(tag) for tag in second)
            or {req.platform_of(tag.platform).family for tag in first}.isdisjoint(
                req.platform_of(tag.platform).family for tag in second
            )
        )


class PKG007(Contradiction):
    """A wheel is installed that this interpreter does not accept.

    Compares: the tags in the WHEEL file with those that the interpreter accepts (PEP 425, 600 and 656).

    Why: site-packages were copied from another Python, another C library or another machine: a COPY
    between stages of different base images, a volume, a PYTHONPATH. Extension modules carry the
    interpreter's ABI in their name, so Python does not even see those of another. Some packages go on without.

    See: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'`, `invalid ELF header` or
    `wrong ELF class`, `version 'GLIBC_2.38' not found`.

    Decided: no tag is accepted. Another Python, ABI, system, C library or machine: breaks, certain, where an
    import of the package surely comes to a module that is not seen (by its sources, in the order in which they
    run); likely where a handler on the way rewords the error. Slows, likely, where every import of such modules is
    caught, has an alternative, or finds a source of the same name (PyYAML, MarkupSafe, charset-normalizer). All
    others: breaks, likely. The same in all of these, and only a newer C library or macOS than the one here: breaks,
    possible, because a tag is an upper bound. A wheel without extension modules for another Python, whether it is
    pure or brings libraries that it opens by name: a note.

    Fix: install it again with this interpreter.

    Limits: distributions without WHEEL (Debian, some of conda) state no tags. Wheels that were retagged
    by hand are believed. What compiled code or a computed name imports is not followed. The words of Python are
    told only where nothing before may fail in others, so not where a requirement lacks its modules too.
    """

    code = "PKG007"
    name = "unsupported-wheel"
    reads = ("packages", "python")
    references = (
        f"{SPECIFICATIONS}/platform-compatibility-tags/",
        "https://peps.python.org/pep-0600/",
        "https://peps.python.org/pep-3149/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        python_tags = lookup(target, ("python", "tags")) or {}
        if not python_tags.get("interpreters") or not python_tags.get("platforms"):
            return
        here = [req.platform_of(platform) for platform in python_tags["platforms"]]
        for name, record in sorted(distributions_of(target).items()):
            tags = req.wheel_tags(record)
            if not tags or any(req.accepts(python_tags, tag) for tag in tags):
                continue
            impact, confidence = Impact.BREAKS, Confidence.LIKELY
            # linux_x86_64 says nothing of the C library, so the others decide.
            families = {entry.family for entry in here if entry.kind != "linux"} or {here[0].family}
            near = [tag for tag in tags if req.interpreter_of(tag) in python_tags["interpreters"]]
            misnamed = not near and wheels.has_libraries_only(target, name) and _fits(tags, families)
            if all(tag.abi == "none" and tag.platform == "any" for tag in tags):
                impact, confidence = Impact.NOTE, Confidence.CERTAIN
                reason = "It is pure Python and made for another version."
            elif misnamed:
                impact = Impact.NOTE
                reason = "It has no extension module, so that its tags name another Python does not matter."
            elif not near:
                reason = f"It is made for another Python; this one takes {python_tags['interpreters'][0]}."
            elif _fits(near, families):
                confidence = Confidence.POSSIBLE
                reason = f"It may need a newer system: {python_tags['platforms'][0]} is the newest here."
            else:
                reason = f"It is made for another platform; this one is {python_tags['platforms'][0]}."
            error, told = None, ""
            if impact is Impact.BREAKS and confidence is Confidence.LIKELY:
                impact, confidence, error = self._for_elsewhere(target, name)
                told = f" {unseen.sentence(target, name, record['name'])}".rstrip()
            yield self.finding(
                impact,
                confidence,
                f"{titled(record)} is a wheel for {tags_text(record)}, which this interpreter does not accept",
                Subject("distribution", name),
                reason
                + ("" if misnamed else " pip would not have installed it here, so it was copied or forced.")
                + told,
                predicted_error=error,
                evidence=[
                    at(target, "target", *DISTRIBUTIONS, name, "tags"),
                    at(target, "target", "python", "tags"),
                    *(unseen.evidence_of(target, name) if told else ()),
                ],
                fix=() if misnamed else pip_fix(target, f"install --force-reinstall --no-deps {pinned(record)}"),
            )

    @staticmethod
    def _for_elsewhere(target: Snapshot, name: str) -> tuple[Impact, Confidence, str | None]:
        """What becomes of a distribution whose modules are not seen, by what its sources prove."""
        start = unseen.start_of(target, name)
        if start and not start["reworded"]:
            return Impact.BREAKS, Confidence.CERTAIN, unseen.error_of(target, name)
        if unseen.goes_on(target, name):
            return Impact.SLOWS, Confidence.LIKELY, None
        return Impact.BREAKS, Confidence.LIKELY, wheels.first_error(target, [name])


def _fits(tags: Iterable[Tag], families: set[tuple[str, str]]) -> bool:
    """Whether one of these tags is for a platform of this kind."""
    return any(req.platform_of(tag.platform).family in families for tag in tags)


class PKG008(Contradiction):
    """torch stands beside torchvision or torchaudio of another accelerator.

    Compares: the local versions (+cpu, +cu130, +rocm6.4) that version.py of torch, torchvision and
    torchaudio state. Wheels of the Python Package Index carry them there and not in their metadata.

    Why: the extension of a CUDA build of torchvision is linked with libtorch_cuda.so, libc10_cuda.so and
    libcudart.so of one major version. A CPU build of torch has none of them, so the extension cannot be
    loaded. torchvision catches that error, and fails a moment later, at the first operator that should be
    there.

    See: `RuntimeError: operator torchvision::nms does not exist`; where the extension loads,
    `RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major versions.
    ...`; with torchaudio `OSError: libcudart.so.13: cannot open shared object file: No such file or
    directory`.

    Decided: torch +cpu beside torchvision 0.28 of CUDA on Linux: certain, verbatim (seen with torch
    2.13.0+cpu and torchvision 0.28.0+cu130). Beside older ones: likely; the registration of the operator
    that fails is in torchvision since 0.17. Other accelerators that differ, and different CUDA majors: breaks, likely.
    Different CUDA minors: breaks, likely, for torchvision before 0.16 and torchaudio up to 2.11, which
    compare them at import, else a note. A CPU build of torchvision or torchaudio beside an accelerated
    torch imports and fails only when its operators get tensors of the accelerator: breaks, possible.

    Fix: install both from one of the indexes that PyTorch publishes, one for each accelerator (see the
    first reference).

    Limits: builds without a local version (conda, NVIDIA's containers, macOS) say nothing of their
    accelerator here. Which library torchaudio lacks first depends on what CUDA the system has.
    """

    code = "PKG008"
    name = "accelerator-build-mix"
    reads = ("packages",)
    references = (
        "https://pytorch.org/get-started/locally/",
        "https://github.com/pytorch/pytorch/issues/122494",
        "https://github.com/pytorch/vision/issues/8985",
        "https://github.com/pytorch/audio/pull/4226",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        known = distributions_of(baseline)
        torch = distributions.get("torch")
        build = build_of(torch) if torch else None
        for name in ("torchvision", "torchaudio"):
            record = distributions.get(name)
            other = build_of(record) if record else None
            if torch is None or record is None or build is None or other is None or build == other:
                continue
            impact, confidence, error, why = judge(target, name, torch, record)
            wanted = build_of(known["torch"]) if "torch" in known else None
            index = wanted or build
            versions = f"{public_version(torch)}+{index} {public_version(record)}+{index}"
            yield self.finding(
                impact,
                confidence,
                f"{titled(record)} beside {titled(torch)}",
                Subject("distribution", name),
                why,
                predicted_error=error,
                evidence=[
                    at(
                        target,
                        "target",
                        *DISTRIBUTIONS,
                        key,
                        "module_version" if "module_version" in entry else "version",
                    )
                    for key, entry in (("torch", torch), (name, record))
                ],
                fix=(
                    *pip_fix(target, f"install --force-reinstall {versions}"),
                    Fix(
                        "advice",
                        f"Take both from the index that PyTorch publishes for {index}: pass it as --index-url.",
                    ),
                ),
            )
