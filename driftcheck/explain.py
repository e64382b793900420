"""Rules over snapshots and changes: findings, with effects folded under their causes, in the order to look."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from driftcheck.diff import Change, Unmeasured, changes, unmeasured
from driftcheck.findings import Evidence, Finding, Identity
from driftcheck.folding import fold
from driftcheck.ranking import ranked
from driftcheck.rules import contradictions, drifts
from driftcheck.rules.base import Contradiction, Drift, Rule, Sides, lookup
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
    return _explained(None, target, contradictions(), ())


def explain_pair(baseline: Snapshot, target: Snapshot) -> Explanation:
    """What differs between two environments and what that means for the second."""
    rules: list[Rule] = [*contradictions(), *drifts()]
    return _explained(baseline, target, rules, changes(baseline, target))


def _explained(
    baseline: Snapshot | None, target: Snapshot, rules: Sequence[Rule], differing: Sequence[Change]
) -> Explanation:
    pairs, not_judged = _judged(rules, target, baseline)
    if baseline is not None:
        known = {finding.identity for _, finding in _judged(contradictions(), baseline, None)[0]}
        pairs = [
            (rule, _beside(finding, baseline, known) if isinstance(rule, Contradiction) else finding)
            for rule, finding in pairs
        ]
    findings = fold(
        pairs, differing, Sides(baseline, target), lambda rule, error: not_judged.append(_fault(rule, error))
    )
    return Explanation(
        ranked(findings, target),
        tuple(differing),
        tuple(unmeasured(baseline, target)) if baseline is not None else (),
        tuple(_unique(not_judged)),
    )


def _judged(
    rules: Iterable[Rule], target: Snapshot, baseline: Snapshot | None
) -> tuple[list[tuple[Rule, Finding]], list[NotJudged]]:
    """What rules say of a target, and which of them cannot say anything."""
    pairs: list[tuple[Rule, Finding]] = []
    not_judged: list[NotJudged] = []
    for rule in rules:
        sides = [("target", target)]
        if isinstance(rule, Drift) and baseline is not None:
            sides.insert(0, ("baseline", baseline))
        if _does_not_apply(rule, [snapshot for _, snapshot in sides]):
            continue
        missing = _missing(rule, sides)
        if missing:
            not_judged.append(NotJudged(rule.code, rule.name, missing))
            continue
        try:
            pairs.extend((rule, finding) for finding in _check(rule, target, baseline))
        except Exception as error:  # noqa: BLE001 - one broken rule must not cost the others
            not_judged.append(_fault(rule, error))
    return pairs, not_judged


def _check(rule: Rule, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
    if isinstance(rule, Contradiction):
        return rule.check(target, baseline)
    if isinstance(rule, Drift) and baseline is not None:
        return rule.check(baseline, target)
    return iter(())


def _beside(finding: Finding, baseline: Snapshot, known: Collection[Identity]) -> Finding:
    """A contradiction beside a baseline: whether that has it too, and the facts of both sides."""
    return replace(
        finding,
        also_in_baseline=finding.identity in known,
        evidence=_both_sides(finding.evidence, baseline),
    )


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


def _unique(entries: Iterable[NotJudged]) -> list[NotJudged]:
    return list(dict.fromkeys(entries))
