"""What the rules about versions that change answers share: they read one table, each the rows of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import numerical_versions
from driftcheck.knowledge.numerical_versions import NumericalVersion
from driftcheck.rules import requirements as req
from driftcheck.rules import wheels
from driftcheck.rules.base import Drift, Sides, at
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot

BLAS = ("libraries", "runtimes", "blas")


def reinstall(baseline: Snapshot, target: Snapshot, name: str) -> list[Fix]:
    """What brings a distribution as the baseline has it."""
    record = distributions_of(baseline).get(name)
    return list(pip_fix(target, f"install --force-reinstall {pinned(record)}")) if record else []


class VersionDrift(Drift):
    """The rows of the table that are about ``computes``; ``what`` is what another version makes."""

    computes: ClassVar[str]
    what: ClassVar[str]

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        plain: list[NumericalVersion] = []
        for row in other_versions(baseline, target, self.computes):
            if row.boundary is None:
                plain.append(row)
            else:
                yield self._alone(baseline, target, row)
        if plain:
            yield self._together(baseline, target, plain)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        names = {entry.path[2] for entry in finding.evidence if entry.path[:2] == DISTRIBUTIONS}
        if change.path[:2] == DISTRIBUTIONS:
            return len(change.path) > 2 and change.path[2] in names
        if change.path[:3] == BLAS and len(change.path) == 4:
            record = change.before if isinstance(change.before, dict) else change.after
            users = record.get("used_by") if isinstance(record, dict) else None
            return isinstance(users, dict) and bool(users) and set(users) <= names
        return False

    def _alone(self, baseline: Snapshot, target: Snapshot, row: NumericalVersion) -> Finding:
        name = row.distribution
        before, after = versions_of(baseline, target, name)
        finding = self.finding(
            Impact(row.impact),
            Confidence(row.confidence),
            f"{name} is {after}, and {before} in the baseline: on the other side of {row.boundary}",
            Subject("distribution", name),
            f"Between the two lies a change of answers: {row.effect}.",
            predicted_error=row.predicted_error,
            evidence=[
                at(baseline, "baseline", *DISTRIBUTIONS, name, "version"),
                at(target, "target", *DISTRIBUTIONS, name, "version"),
            ],
            fix=pip_fix(target, f"install {pinned(distributions_of(baseline)[name])}"),
        )
        return replace(finding, references=(row.source,))

    def _together(self, baseline: Snapshot, target: Snapshot, rows: list[NumericalVersion]) -> Finding:
        names = [row.distribution for row in rows]
        words = []
        for row in rows:
            before, after = versions_of(baseline, target, row.distribution)
            words.append(f"{row.distribution} {before} -> {after}: {row.effect}.")
        return self.finding(
            Impact.CHANGES_RESULTS,
            Confidence.POSSIBLE,
            f"{wheels.listed(names)} {'has another version' if len(names) == 1 else 'have other versions'}, "
            f"which may make {self.what}",
            Subject("distributions", self.computes),
            " ".join(words),
            evidence=[
                at(snapshot, side, *DISTRIBUTIONS, name, "version")
                for name in names
                for side, snapshot in (("baseline", baseline), ("target", target))
            ],
            fix=pip_fix(target, f"install {' '.join(pinned(distributions_of(baseline)[name]) for name in names)}"),
        )


def other_versions(baseline: Snapshot, target: Snapshot, computes: str) -> Iterator[NumericalVersion]:
    """The rows that speak of distributions whose versions differ, one a distribution."""
    done: set[str] = set()
    for row in numerical_versions.rows():
        if row.computes != computes or row.distribution in done:
            continue
        if _on_both_sides(row, *versions_of(baseline, target, row.distribution)):
            done.add(row.distribution)
            yield row


def versions_of(baseline: Snapshot, target: Snapshot, name: str) -> tuple[str | None, str | None]:
    """The versions of a distribution in both; None where it is not installed or states none."""
    found = []
    for snapshot in (baseline, target):
        record = distributions_of(snapshot).get(name)
        found.append(req.version_of(record) if record is not None else None)
    return found[0], found[1]


_PARTS = {"major": 1, "minor": 2, "patch": 3}


def _on_both_sides(row: NumericalVersion, before: str | None, after: str | None) -> bool:
    old, new = req.parsed(before), req.parsed(after)
    if old is None or new is None:
        return False
    boundary = req.parsed(row.boundary)
    if boundary is not None:
        return (new < boundary <= old) or (row.when == "any" and old < boundary <= new)
    count = _PARTS[row.part]
    return (old.epoch, _padded(old.release, count)) != (new.epoch, _padded(new.release, count))


def _padded(release: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (*release, 0, 0, 0)[:count]
