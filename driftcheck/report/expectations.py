"""What a policy makes of a report: what is expected is taken out and counted, and never takes anything else along.

A difference that is expected is no expected breakage: an expectation of a path takes the changes there, and the
drifts that rest on nothing else, but no finding that breaks and no contradiction. Those are expected by their rule.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date

from driftcheck.diff import Change, Unmeasured
from driftcheck.explain import Explanation
from driftcheck.findings import Evidence, Finding, Impact
from driftcheck.policy import Expectation, Policy, is_glob
from driftcheck.ranking import ranked
from driftcheck.report.model import Expected, Report, Suppressed, Target
from driftcheck.report.phrases import count
from driftcheck.rules import drifts
from driftcheck.snapshot import Snapshot

# How many codes a notice names.
_NAMED = 10


def apply(policy: Policy, report: Report, targets: Sequence[Snapshot], today: date) -> Report:
    """The report as the policy wants it; ``targets`` are the snapshots of its targets, in their order.

    Rules that are off are left out, impacts are replaced, then expectations are met. Where a finding is taken out,
    the changes that it explained and its effects stand for themselves again.
    """
    entries = [_Entry(expectation, today) for expectation in policy.expect]
    judged = []
    for target, snapshot in zip(report.targets, targets, strict=True):
        concerned = [entry for entry in entries if entry.concerns(target.environment.label)]
        for entry in concerned:
            entry.asked = entry.asked or _could_be_met(entry.expectation, report, target)
        judged.append(_target(policy, target, snapshot, concerned))
    left_out = sum(finding.code in policy.off for target in report.targets for finding in target.explanation.findings)
    return replace(
        report,
        targets=tuple(judged),
        policy=policy.file,
        off=tuple(sorted(policy.off)),
        notices=(*_notices_of_rules(policy, left_out), *_notices_of_expectations(entries)),
    )


class _Entry:
    """An expectation at work: what it matches, whether it could be met, and how often it was."""

    def __init__(self, expectation: Expectation, today: date) -> None:
        self.expectation = expectation
        self.in_force = not expectation.expired(today)
        self.asked = False
        self.changes = 0
        self.findings = 0
        parts = expectation.path or ()
        # Most places are literal, or begin so, and there may be thousands of changes.
        self._literal = tuple(itertools.takewhile(lambda part: not is_glob(part), parts))
        self._patterns = [_glob(part) for part in parts[len(self._literal) :]]
        self._subject = _glob(expectation.subject or "*")
        self._target = _glob(expectation.target or "*")

    @property
    def of_differences(self) -> bool:
        """Of whatever differs at a place; else of the findings of a rule."""
        return self.expectation.rule is None

    def concerns(self, label: str) -> bool:
        return self._target.fullmatch(label) is not None

    def covers(self, path: Sequence[str]) -> bool:
        """Whether a fact stands at the expected place or below it."""
        below = len(self._literal)
        if tuple(path[:below]) != self._literal or len(path) < below + len(self._patterns):
            return False
        return all(pattern.fullmatch(path[index]) for index, pattern in enumerate(self._patterns, below))

    def names(self, finding: Finding) -> bool:
        """Whether it is about this finding; with a path, about those of the rule that rest on a fact there."""
        return (
            self.expectation.rule == finding.code
            and self._subject.fullmatch(finding.subject.name) is not None
            and (self.expectation.path is None or any(self.covers(entry.path) for entry in finding.evidence))
        )

    def expected(self, changes: Iterable[Change]) -> Expected:
        return Expected(tuple(changes), self.expectation.reason, self.expires, self.expectation.where)

    def suppressed(self, finding: Finding) -> Suppressed:
        alone = replace(finding, caused_by=None)  # it is under no cause any more
        return Suppressed(alone, self.expectation.reason, self.expires, self.expectation.where)

    @property
    def expires(self) -> str | None:
        return self.expectation.expires.isoformat() if self.expectation.expires else None


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(text))


def _could_be_met(expectation: Expectation, report: Report, target: Target) -> bool:
    """Whether this comparison could show what is expected at all: only then is it worth a word that it did not."""
    if expectation.rule is not None:
        asked = all(entry.code != expectation.rule for entry in target.explanation.not_judged)
        return asked and (report.baseline is not None or expectation.rule not in _drift_codes())
    not_compared = {entry.section for entry in target.explanation.unmeasured}
    return report.baseline is not None and (expectation.path or ("",))[0] not in not_compared


def _drift_codes() -> set[str]:
    return {rule.code for rule in drifts()}


def _target(policy: Policy, target: Target, snapshot: Snapshot, entries: Sequence[_Entry]) -> Target:
    explanation = target.explanation
    changes, expected = _changes(explanation.changes, entries)
    findings = [
        replace(finding, impact=policy.impacts.get(finding.code, finding.impact))
        for finding in explanation.findings
        if finding.code not in policy.off
    ]
    kept, suppressed = _findings(findings, explanation.changes, entries)
    return replace(
        target,
        explanation=Explanation(
            findings=ranked(_standing_alone(kept, changes), snapshot),
            changes=tuple(changes),
            unmeasured=(*explanation.unmeasured, *_required(policy, explanation, snapshot)),
            not_judged=tuple(entry for entry in explanation.not_judged if entry.code not in policy.off),
        ),
        suppressed=tuple(suppressed),
        expected=tuple(expected),
    )


def _changes(changes: Iterable[Change], entries: Sequence[_Entry]) -> tuple[list[Change], list[Expected]]:
    """The changes that stay, and the expected ones, each under the first expectation of it."""
    kept: list[Change] = []
    taken: dict[int, list[Change]] = {}
    for change in changes:
        found = [index for index, entry in enumerate(entries) if entry.of_differences and entry.covers(change.path)]
        for index in found:
            entries[index].changes += 1
        first = next((index for index in found if entries[index].in_force), None)
        if first is None:
            kept.append(change)
        else:
            taken.setdefault(first, []).append(change)
    return kept, [entries[index].expected(taken[index]) for index in sorted(taken)]


def _findings(
    findings: Iterable[Finding], changes: Sequence[Change], entries: Sequence[_Entry]
) -> tuple[list[Finding], list[Suppressed]]:
    """The findings that stay, and the expected ones, each under the first expectation of it."""
    of_rules = [entry for entry in entries if not entry.of_differences]
    of_differences = [entry for entry in entries if entry.of_differences and entry.in_force]
    drifting = _drift_codes()
    kept: list[Finding] = []
    suppressed: list[Suppressed] = []
    for finding in findings:
        found = [entry for entry in of_rules if entry.names(finding)]
        if of_differences and finding.code in drifting and finding.impact is not Impact.BREAKS:
            found += _covering(_rests_on(finding, changes), of_differences)
        for entry in found:
            entry.findings += 1
        first = next((entry for entry in found if entry.in_force), None)
        if first is None:
            kept.append(finding)
        else:
            suppressed.append(first.suppressed(finding))
    return kept, suppressed


def _rests_on(finding: Finding, changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """The places of the differences that a drift rests on: of the changes that its evidence touches."""
    found: dict[tuple[str, ...], None] = {}
    for path, sides in _by_path(finding.evidence).items():
        if len(sides) == 2 and sides["baseline"] == sides["target"]:
            continue
        touched = [
            change.path
            for change in changes
            if change.path[: len(path)] == path or path[: len(change.path)] == change.path
        ]
        # What differs in some way that is no change of its own is expected by its own place.
        found.update(dict.fromkeys(touched or ([path] if len(sides) == 2 else [])))
    return list(found)


def _by_path(evidence: Iterable[Evidence]) -> dict[tuple[str, ...], dict[str, object]]:
    found: dict[tuple[str, ...], dict[str, object]] = {}
    for entry in evidence:
        found.setdefault(tuple(entry.path), {})[entry.side] = entry.value
    return found


def _covering(paths: Sequence[tuple[str, ...]], entries: Sequence[_Entry]) -> list[_Entry]:
    """The expectations that cover all of these places together; none where one of them is left over."""
    covering = [next((entry for entry in entries if entry.covers(path)), None) for path in paths]
    return list(dict.fromkeys(entry for entry in covering if entry is not None)) if all(covering) else []


def _standing_alone(findings: Sequence[Finding], changes: Iterable[Change]) -> Iterator[Finding]:
    """Findings without what was taken out: a cause that is gone, changes that are expected."""
    there = {finding.identity for finding in findings}
    places = {change.path for change in changes}
    for finding in findings:
        yield replace(
            finding,
            caused_by=finding.caused_by if finding.caused_by in there else None,
            folds=tuple(path for path in finding.folds if tuple(path) in places),
        )


def _required(policy: Policy, explanation: Explanation, snapshot: Snapshot) -> Iterator[Unmeasured]:
    """What the policy requires and the target does not hold, unless that is said already."""
    said = {entry.section for entry in explanation.unmeasured if entry.side == "target"}
    for name in policy.require:
        section = snapshot.sections.get(name)
        if name in said or (section is not None and (section.measured or section.status == "absent")):
            continue
        reason = (
            (section.reason or section.status) if section is not None else "this snapshot does not have the section"
        )
        yield Unmeasured(name, "target", section.status if section else "missing", f"{reason} (the policy requires it)")


def _notices_of_rules(policy: Policy, left_out: int) -> Iterator[str]:
    if policy.off:
        yield f"{policy.file}: off: {_some(sorted(policy.off))}; {count(left_out, 'finding')} left out"
    if policy.impacts:
        given = [f"{code} {impact.value}" for code, impact in sorted(policy.impacts.items())]
        yield f"{policy.file}: impacts of its own: {_some(given)}"


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _notices_of_expectations(entries: Iterable[_Entry]) -> Iterator[str]:
    for entry in entries:
        where, reason = entry.expectation.where, entry.expectation.reason
        met = [count(entry.changes, "change")] * bool(entry.changes)
        met += [count(entry.findings, "finding")] * bool(entry.findings)
        if not entry.in_force and met:
            yield f"{where}: expired on {entry.expires}, and no longer takes {' and '.join(met)}: {reason}"
        elif not entry.in_force and entry.asked:
            yield f"{where}: expired on {entry.expires}, and nothing would meet it: {reason}"
        elif not met and entry.asked:
            yield f"{where}: expected, and not met: {reason}"
