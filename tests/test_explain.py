"""Explaining: both kinds of rule, what the baseline has too, folding, ranking, and rules that cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from driftcheck.probes.common import digest as digest_of

from driftcheck import explain
from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Impact, Subject
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.snapshot import Section, Snapshot


def snapshot(facts: dict[str, Any] | None, status: str = "ok") -> Snapshot:
    held = facts or {}
    section = Section("system", "image", status, None, [], held, digest_of(held))
    return Snapshot({"label": "test"}, {} if facts is None else {"system": section})


class Broken(Contradiction):
    """Every fact that says broken."""

    code, name, reads = "SYS901", "broken", ("system",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for key, value in (target.facts("system") or {}).items():
            if value == "broken":
                yield self.finding(
                    Impact.BREAKS,
                    Confidence.LIKELY,
                    f"{key} is broken",
                    Subject("fact", key),
                    "It says so.",
                    evidence=[at(target, "target", "system", key)],
                )


class Moved(Drift):
    """The base moved."""

    code, name, reads = "SYS902", "moved", ("system",)
    prefixes: ClassVar[tuple[str, ...]] = ("os", "lib")

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        if lookup(baseline, ["system", "os"]) != lookup(target, ["system", "os"]):
            yield self.finding(Impact.NOTE, Confidence.CERTAIN, "another base", Subject("os", "os"), "It moved.")

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[1].startswith(self.prefixes)


class Narrow(Moved):
    """A cause that explains less."""

    code, name = "SYS903", "narrow"
    prefixes = ("lib",)


class Raises(Contradiction):
    """A rule with a fault."""

    code, name, reads = "SYS904", "raises", ("system",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del target, baseline
        yield from self._raise()

    def _raise(self) -> Iterator[Finding]:
        raise RuntimeError("oops")


@pytest.fixture(autouse=True)
def _rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "contradictions", lambda: [Broken()])
    monkeypatch.setattr(explain, "drifts", lambda: [Narrow(), Moved()])


def test_a_contradiction_needs_no_baseline() -> None:
    (finding,) = explain.explain_one(snapshot({"a": "broken", "b": "fine"})).findings
    assert (finding.title, finding.also_in_baseline) == ("a is broken", False)
    assert finding.fails(Impact.BREAKS)


def test_what_the_baseline_has_too_is_told_apart_and_never_fails_a_run() -> None:
    found = explain.explain_pair(snapshot({"a": "broken", "os": 1}), snapshot({"a": "broken", "b": "broken", "os": 1}))
    assert [(finding.subject.name, finding.also_in_baseline) for finding in found.findings] == [
        ("b", False),
        ("a", True),
    ]
    assert [finding.fails(Impact.NOTE) for finding in found.findings] == [True, False]


def test_evidence_shows_both_sides() -> None:
    (finding,) = explain.explain_pair(snapshot({"a": "fine"}), snapshot({"a": "broken"})).findings
    assert [(entry.side, entry.value) for entry in finding.evidence] == [
        ("target", "broken"),
        ("baseline", "fine"),
    ]


def test_each_change_is_folded_once_under_the_cause_that_explains_most() -> None:
    before = {"os": 1, "lib": 1, "else": 1}
    after = {"os": 2, "lib": 2, "else": 2}
    found = explain.explain_pair(snapshot(before), snapshot(after))
    assert {finding.code: list(finding.folds) for finding in found.findings} == {
        "SYS902": [("system", "lib"), ("system", "os")],
        "SYS903": [],
    }
    assert [finding.code for finding in found.findings] == ["SYS902", "SYS903"]
    assert len(found.changes) == 3


def test_a_rule_without_its_section_is_not_judged() -> None:
    alone = explain.explain_one(snapshot(None))
    assert [(entry.code, entry.reason, entry.fault) for entry in alone.not_judged] == [
        ("SYS901", "the target has no section system", False)
    ]
    failed = explain.explain_pair(snapshot({"a": 1}), snapshot({}, "failed"))
    assert [entry.code for entry in failed.not_judged] == ["SYS901", "SYS903", "SYS902"]
    assert [(entry.section, entry.side) for entry in failed.unmeasured] == [("system", "target")]


def test_a_rule_about_what_the_platform_does_not_have_does_not_apply() -> None:
    assert explain.explain_one(snapshot({}, "absent")).not_judged == ()
    found = explain.explain_pair(snapshot({"os": 1}), snapshot({}, "absent"))
    assert found.not_judged == ()
    assert found.findings == ()


def test_a_rule_that_raises_does_not_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "contradictions", lambda: [Raises(), Broken()])
    found = explain.explain_one(snapshot({"a": "broken"}))
    assert [finding.code for finding in found.findings] == ["SYS901"]
    assert [(entry.code, entry.reason, entry.fault) for entry in found.not_judged] == [
        ("SYS904", "RuntimeError: oops", True)
    ]


def test_possible_findings_never_fail_a_run() -> None:
    finding = Broken().finding(Impact.BREAKS, Confidence.POSSIBLE, "t", Subject("a", "b"), "e")
    assert not finding.fails(Impact.NOTE)
    likely = Broken().finding(Impact.SLOWS, Confidence.LIKELY, "t", Subject("a", "b"), "e")
    assert [likely.fails(limit) for limit in (Impact.BREAKS, Impact.SLOWS, Impact.NOTE, None)] == [
        False,
        True,
        True,
        False,
    ]
