"""Rules over snapshots and changes: findings, with effects folded under their causes, in the order to look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from driftcheck.diff import Change, Unmeasured, changes, unmeasured
from driftcheck.findings import Evidence, Finding
from driftcheck.rules import contradictions, drifts
from driftcheck.rules.base import Rule, lookup
from driftcheck.snapshot import Snapshot


@dataclass(frozen=True)
class NotJudged:
    """A rule that could not be asked: ``reason`` says which section is missing, or how the rule failed."""

    code: str
    name: str
    reason: str
    fault: bool = False  # the rule raised: a fault of driftcheck (exit code 4)


@dataclass(frozen=True)
class Explanation:
    """What one target comes to, against a baseline or alone.

    ``findings``   causes and findings, worst first
    ``changes``    every differing fact; those that a finding folds are among them
    """

    findings: tuple[Finding, ...]
    changes: tuple[Change, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()
    not_judged: tuple[NotJudged, ...] = ()


def explain_one(target: Snapshot) -> Explanation:
    """The contradictions of one environment."""
    findings, not_judged = _contradictions(target, None)
    return Explanation(_ranked(findings), not_judged=tuple(not_judged))


def explain_pair(baseline: Snapshot, target: Snapshot) -> Explanation:
    """What differs between two environments and what that means for the second."""
    differing = changes(baseline, target)
    findings, not_judged = _contradictions(target, baseline)
    known, _ = _contradictions(baseline, None)
    in_baseline = {finding.identity for finding in known}
    findings = [
        replace(
            finding,
            also_in_baseline=finding.identity in in_baseline,
            evidence=_both_sides(finding.evidence, baseline),
        )
        for finding in findings
    ]
    pairs: list[tuple[Rule, Finding]] = []
    for rule in drifts():
        if _does_not_apply(rule, [baseline, target]):
            continue
        missing = _missing(rule, (("baseline", baseline), ("target", target)))
        if missing:
            not_judged.append(NotJudged(rule.code, rule.name, missing))
            continue
        try:
            pairs.extend((rule, finding) for finding in rule.check(baseline, target))
        except Exception as error:  # noqa: BLE001 - one broken rule must not cost the others
            not_judged.append(_fault(rule, error))
    findings.extend(_folded(pairs, differing))
    return Explanation(
        _ranked(findings),
        tuple(differing),
        tuple(unmeasured(baseline, target)),
        tuple(_unique(not_judged)),
    )


def _contradictions(target: Snapshot, baseline: Snapshot | None) -> tuple[list[Finding], list[NotJudged]]:
    findings: list[Finding] = []
    not_judged: list[NotJudged] = []
    for rule in contradictions():
        if _does_not_apply(rule, [target]):
            continue
        missing = _missing(rule, (("target", target),))
        if missing:
            not_judged.append(NotJudged(rule.code, rule.name, missing))
            continue
        try:
            findings.extend(rule.check(target, baseline))
        except Exception as error:  # noqa: BLE001 - one broken rule must not cost the others
            not_judged.append(_fault(rule, error))
    return findings, not_judged


def _does_not_apply(rule: Rule, snapshots: Iterable[Snapshot]) -> bool:
    """Whether a section that the rule reads is absent: what does not exist cannot break, and is no gap."""
    found = (snapshot.sections.get(name) for snapshot in snapshots for name in rule.reads)
    return any(section is not None and section.status == "absent" for section in found)


def _missing(rule: Rule, sides: Iterable[tuple[str, Snapshot]]) -> str:
    """Which section the rule lacks, and why; empty where it has all."""
    for side, snapshot in sides:
        for name in rule.reads:
            section = snapshot.sections.get(name)
            if section is None:
                return f"the {side} has no section {name}"
            if not section.measured:
                return f"{name} of the {side}: {section.reason or section.status}"
    return ""


def _fault(rule: Rule, error: Exception) -> NotJudged:
    return NotJudged(rule.code, rule.name, f"{type(error).__name__}: {error}"[:300], fault=True)


def _both_sides(evidence: Sequence[Evidence], baseline: Snapshot) -> tuple[Evidence, ...]:
    """The evidence of a contradiction, each fact followed by what the baseline has in the same place."""
    result: list[Evidence] = []
    for entry in evidence:
        result.append(entry)
        if entry.side == "target":
            counterpart = Evidence("baseline", entry.path, lookup(baseline, entry.path))
            if counterpart not in evidence:
                result.append(counterpart)
    return tuple(result)


def _folded(pairs: Sequence[tuple[Rule, Finding]], differing: Sequence[Change]) -> list[Finding]:
    """Each change under the first finding that explains it; the one with the widest reach is asked first."""
    reach = {
        index: [change.path for change in differing if rule.explains(finding, change)]
        for index, (rule, finding) in enumerate(pairs)
    }
    taken: set[tuple[str, ...]] = set()
    folds: dict[int, list[tuple[str, ...]]] = {}
    for index in sorted(reach, key=lambda index: -len(reach[index])):
        folds[index] = [path for path in reach[index] if path not in taken]
        taken.update(folds[index])
    return [finding.with_folds(folds[index]) for index, (_, finding) in enumerate(pairs)]


def _ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.rank))


def _unique(entries: Iterable[NotJudged]) -> list[NotJudged]:
    return list(dict.fromkeys(entries))
