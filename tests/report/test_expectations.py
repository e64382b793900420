"""What a policy makes of a report: what is taken out, what never is, and what the policy has to say of itself."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from driftcheck.probes.common import digest
from support.snapshots import snapshot

from driftcheck.diff import Change, Unmeasured
from driftcheck.explain import Explanation, NotJudged
from driftcheck.findings import Confidence, Evidence, Finding, Identity, Impact, Subject
from driftcheck.policy import Expectation, Policy
from driftcheck.report.expectations import apply
from driftcheck.report.model import Report, Target, environment_of
from driftcheck.snapshot import Section, Snapshot

TODAY = date(2026, 6, 15)
BASELINE = snapshot("laptop")
TARGET = snapshot("ci-7")

# A contradiction and two drifts of the rule book, whatever they say there.
UNMET, OTHER_BUILD, OTHER_VARIABLE = "PKG001", "PKG005", "ENV002"


def change(path: str, before: Any = "1", after: Any = "2") -> Change:
    kind = "added" if before is None else "removed" if after is None else "changed"
    return Change(tuple(path.split(".")), kind, before, after)


def finding(
    code: str = OTHER_BUILD,
    subject: str = "numpy",
    impact: Impact = Impact.CHANGES_RESULTS,
    evidence: tuple[str, ...] = (),
    folds: tuple[str, ...] = (),
    caused_by: Identity | None = None,
) -> Finding:
    """A finding whose evidence stands on both sides, and differs."""
    return Finding(
        code=code,
        name="name",
        impact=impact,
        confidence=Confidence.CERTAIN,
        title=f"{subject} is another",
        subject=Subject("distribution", subject),
        explanation="It is.",
        evidence=tuple(
            Evidence(side, tuple(path.split(".")), value)
            for path in evidence
            for side, value in (("baseline", "1"), ("target", "2"))
        ),
        folds=tuple(tuple(path.split(".")) for path in folds),
        caused_by=caused_by,
    )


def expect(path: str | None = None, **more: Any) -> Expectation:
    return Expectation("driftcheck.toml:7", "because", path=tuple(path.split(".")) if path else None, **more)


def applied(
    *expected: Expectation,
    findings: tuple[Finding, ...] = (),
    changes: tuple[Change, ...] = (),
    alone: bool = False,
    target: Snapshot = TARGET,
    unmeasured: tuple[Unmeasured, ...] = (),
    not_judged: tuple[NotJudged, ...] = (),
    **terms: Any,
) -> tuple[Report, Target]:
    """The report on one target after a policy, and that target."""
    explanation = Explanation(findings, changes, unmeasured, not_judged)
    before = Report(None if alone else environment_of(BASELINE), (Target(environment_of(target), explanation),))
    report = apply(Policy("driftcheck.toml", expect=expected, **terms), before, [target], TODAY)
    return report, report.targets[0]


def paths(target: Target) -> list[str]:
    return [".".join(entry.path) for entry in target.explanation.changes]


def codes(target: Target) -> list[str]:
    return [entry.code for entry in target.explanation.findings]


NUMPY = "packages.distributions.numpy.version"


# Paths.


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        (("packages", "distributions", "numpy", "version"), True),
        (("packages", "distributions", "numpy"), True),
        (("packages",), True),
        (("packages", "distributions", "*", "version"), True),
        (("packages", "distributions", "num??"), True),
        (("packages", "distributions", "[a-n]*"), True),
        (("*", "distributions", "numpy"), True),
        (("packages", "distributions", "numpy", "version", "major"), False),
        (("packages", "distributions", "num"), False),
        (("packages", "*", "version"), False),
        (("packages", "distributions", "Numpy"), False),
        (("python",), False),
    ],
)
def test_a_path_takes_what_stands_at_it_and_below(pattern: tuple[str, ...], taken: bool) -> None:
    entry = Expectation("driftcheck.toml:7", "because", path=pattern, expires=date(2026, 6, 15))
    report, target = applied(entry, changes=(change(NUMPY),))
    assert paths(target) == ([] if taken else [NUMPY])
    if taken:
        (expected,) = target.expected
        assert expected.changes == (change(NUMPY),)
        assert (expected.reason, expected.expires, expected.where) == ("because", "2026-06-15", "driftcheck.toml:7")
        assert report.notices == ()


def test_a_record_that_is_gone_is_more_than_another_version() -> None:
    whole = change("packages.distributions.numpy", {"version": "1"}, None)
    _, target = applied(expect(NUMPY), changes=(whole,))
    assert target.explanation.changes == (whole,)
    _, target = applied(expect("packages.distributions.numpy"), changes=(whole,))
    assert target.explanation.changes == ()


def test_a_drift_goes_with_its_difference_and_no_other() -> None:
    both = (change(NUMPY), change("packages.distributions.scipy.version"))
    on_numpy = finding(evidence=(NUMPY,))
    on_both = finding(evidence=(NUMPY, "packages.distributions.scipy.version"), subject="scipy")
    _, target = applied(expect(NUMPY), findings=(on_numpy, on_both), changes=both)
    assert [entry.finding.subject.name for entry in target.suppressed] == ["numpy"]
    assert [entry.subject.name for entry in target.explanation.findings] == ["scipy"]
    # Two expectations together cover what neither covers alone.
    _, target = applied(expect(NUMPY), expect("packages.distributions.scipy"), findings=(on_both,), changes=both)
    assert [entry.finding.subject.name for entry in target.suppressed] == ["scipy"]


def test_an_expected_difference_is_no_expected_breakage() -> None:
    breaks = finding(impact=Impact.BREAKS, evidence=(NUMPY,))
    contradiction = finding(UNMET, "pandas", evidence=(NUMPY,))
    report, target = applied(expect(NUMPY), findings=(breaks, contradiction), changes=(change(NUMPY),))
    assert codes(target) == [OTHER_BUILD, UNMET]
    assert target.suppressed == ()
    assert len(report.failing()) == 1
    # With an impact that does not break, the drift goes with its difference.
    _, target = applied(
        expect(NUMPY), findings=(breaks, contradiction), changes=(change(NUMPY),), impacts={OTHER_BUILD: Impact.NOTE}
    )
    assert codes(target) == [UNMET]


def test_evidence_that_does_not_differ_is_no_reason_to_stay() -> None:
    same = Evidence("baseline", ("python", "version"), "3"), Evidence("target", ("python", "version"), "3")
    one = finding(evidence=(NUMPY,))
    found = Finding(**{**vars(one), "evidence": (*one.evidence, *same)})
    _, target = applied(expect(NUMPY), findings=(found,), changes=(change(NUMPY),))
    assert target.explanation.findings == ()


def test_a_drift_whose_difference_is_no_change_stays_where_it_is_not_expected_itself() -> None:
    """Such as paths inside a prefix, which differ in the facts and not among the changes."""
    found = finding(evidence=(NUMPY, "python.prefix"))
    _, target = applied(expect(NUMPY), findings=(found,), changes=(change(NUMPY),))
    assert codes(target) == [OTHER_BUILD]
    _, target = applied(expect(NUMPY), expect("python.prefix"), findings=(found,), changes=(change(NUMPY),))
    assert codes(target) == []


def test_a_drift_without_evidence_of_a_difference_stays() -> None:
    _, target = applied(expect("*"), findings=(finding(),), changes=(change(NUMPY),))
    assert codes(target) == [OTHER_BUILD]


# Rules.


def test_a_rule_takes_its_findings_whatever_they_do() -> None:
    found = (finding(UNMET, "pandas", Impact.BREAKS), finding(UNMET, "scipy", Impact.BREAKS))
    report, target = applied(expect(rule=UNMET, subject="pan*"), findings=found)
    assert [entry.finding for entry in target.suppressed] == [found[0]]
    assert target.explanation.findings == (found[1],)
    assert [entry.subject.name for entry in report.failing()] == ["scipy"]
    report, _ = applied(expect(rule=UNMET), findings=found)
    assert report.failing() == []


def test_a_rule_with_a_path_takes_those_that_rest_on_a_fact_there() -> None:
    found = (
        finding(UNMET, "pandas", evidence=(NUMPY,)),
        finding(UNMET, "scipy", evidence=("packages.distributions.six",)),
    )
    _, target = applied(expect(NUMPY, rule=UNMET), findings=found, changes=(change(NUMPY),))
    assert [entry.finding.subject.name for entry in target.suppressed] == ["pandas"]
    assert paths(target) == [NUMPY], "the difference itself was not expected"


def test_what_a_suppressed_cause_explained_stands_for_itself_again() -> None:
    cause = finding("SYS004", "debian", Impact.NOTE, folds=("system.libc.version", NUMPY))
    effect = finding(UNMET, "pandas", Impact.BREAKS, caused_by=cause.identity)
    changes = (change(NUMPY), change("system.libc.version"))
    report, target = applied(expect(rule="SYS004"), findings=(cause, effect), changes=changes)
    assert target.explanation.findings == (finding(UNMET, "pandas", Impact.BREAKS),)
    assert target.explanation.changes == changes
    assert [entry.caused_by for entry in report.failing()] == [None]
    # An effect that is expected leaves its cause where it is, and a cause that stays keeps its effects.
    _, target = applied(expect(rule=UNMET), findings=(cause, effect), changes=changes)
    assert target.explanation.findings == (cause,)
    assert [entry.finding.caused_by for entry in target.suppressed] == [None]
    _, target = applied(findings=(cause, effect), changes=changes)
    assert target.explanation.findings == (cause, effect)


def test_a_cause_does_not_explain_what_is_expected() -> None:
    cause = finding("SYS004", "debian", Impact.NOTE, folds=("system.libc.version", NUMPY))
    _, target = applied(expect(NUMPY), findings=(cause,), changes=(change(NUMPY), change("system.libc.version")))
    assert target.explanation.findings[0].folds == (("system", "libc", "version"),)


def test_rules_that_are_off_leave_nothing_but_a_word() -> None:
    cause = finding("SYS004", "debian", Impact.NOTE, folds=(NUMPY,))
    effect = finding(UNMET, "pandas", Impact.BREAKS, caused_by=cause.identity)
    report, target = applied(
        findings=(cause, effect, finding(OTHER_VARIABLE)),
        changes=(change(NUMPY),),
        not_judged=(NotJudged("SYS004", "x", "RuntimeError", fault=True), NotJudged(UNMET, "x", "no section")),
        off=frozenset({"SYS004", OTHER_VARIABLE}),
    )
    assert codes(target) == [UNMET]
    assert target.explanation.findings[0].caused_by is None
    assert target.suppressed == ()
    assert paths(target) == [NUMPY]
    assert [entry.code for entry in target.explanation.not_judged] == [UNMET]
    assert report.faults() == []
    assert report.notices == ("driftcheck.toml: off: ENV002, SYS004; 2 findings left out",)
    assert report.off == ("ENV002", "SYS004")


def test_another_impact_counts_for_the_exit_code_and_the_order() -> None:
    found = (finding(UNMET, "pandas", Impact.BREAKS), finding(OTHER_VARIABLE, "OMP", Impact.SLOWS))
    report, target = applied(findings=found, impacts={UNMET: Impact.NOTE, OTHER_VARIABLE: Impact.BREAKS})
    assert codes(target) == [OTHER_VARIABLE, UNMET]
    assert [entry.code for entry in report.failing()] == [OTHER_VARIABLE]
    assert report.notices == ("driftcheck.toml: impacts of its own: ENV002 breaks, PKG001 note",)


# Time and targets.


def test_an_expectation_holds_through_its_last_day() -> None:
    found = {"findings": (finding(UNMET, "pandas", Impact.BREAKS),), "changes": (change(NUMPY),)}
    for last, holds in ((date(2026, 6, 14), False), (date(2026, 6, 15), True), (None, True)):
        entries = expect(NUMPY, expires=last), expect(rule=UNMET, expires=last)
        report, target = applied(*entries, **found)  # type: ignore[arg-type]
        assert (len(target.suppressed), len(target.expected)) == ((1, 1) if holds else (0, 0))
        assert bool(report.failing()) is not holds
        assert list(report.notices) == [
            "driftcheck.toml:7: expired on 2026-06-14, and no longer takes 1 change: because",
            "driftcheck.toml:7: expired on 2026-06-14, and no longer takes 1 finding: because",
        ] * (not holds)


def test_an_expectation_that_expired_lets_the_next_one_act() -> None:
    entries = expect(NUMPY, expires=date(2020, 1, 1)), expect("packages")
    report, target = applied(*entries, changes=(change(NUMPY),))
    assert len(target.expected) == 1
    assert len(report.notices) == 1


def test_an_expectation_of_some_targets() -> None:
    _, target = applied(expect(NUMPY, target="ci*"), changes=(change(NUMPY),))
    assert paths(target) == []
    report, target = applied(expect(NUMPY, target="node*"), changes=(change(NUMPY),))
    assert paths(target) == [NUMPY]
    assert report.notices == (), "no target of this run is meant, so nothing can be said of it"


# What the policy says of itself.


def unused(*entries: Expectation, **more: Any) -> bool:
    report, _ = applied(*entries, **more)
    assert len(report.notices) <= 1
    return report.notices == ("driftcheck.toml:7: expected, and not met: because",)


def test_an_unused_expectation_is_reported() -> None:
    assert unused(expect(NUMPY), changes=(change("python.version"),))
    assert unused(expect(rule=UNMET), findings=(finding(OTHER_BUILD),))
    assert unused(expect(rule=UNMET, subject="scipy"), findings=(finding(UNMET, "pandas"),))
    assert unused(expect(rule=UNMET), alone=True)
    assert not unused(expect(rule=UNMET), findings=(finding(UNMET),))


def test_what_could_not_be_met_here_is_not_called_unused() -> None:
    assert not unused(expect(NUMPY), alone=True)
    assert not unused(expect(rule=OTHER_BUILD), alone=True)
    assert not unused(expect(NUMPY), unmeasured=(Unmeasured("packages", "target", "failed", "x"),))
    assert not unused(expect(rule=UNMET), not_judged=(NotJudged(UNMET, "x", "no section"),))


def test_what_expired_and_is_not_met_any_more_can_go() -> None:
    report, _ = applied(expect(NUMPY, expires=date(2020, 1, 1)))
    assert report.notices == ("driftcheck.toml:7: expired on 2020-01-01, and nothing would meet it: because",)


def test_notices_name_no_more_rules_than_one_reads() -> None:
    report, _ = applied(off=frozenset(f"PKG{number:03}" for number in range(50)))
    (notice,) = report.notices
    assert notice.endswith("PKG008, PKG009 and 40 more; 0 findings left out")


# Sections that have to be measured.


def sectioned(status: str) -> Snapshot:
    facts: dict[str, Any] = {}
    return Snapshot({"label": "ci"}, {"gpu": Section("gpu", "machine", status, "no answer", [], facts, digest(facts))})


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("status", "incomplete"),
    [("ok", False), ("partial", False), ("absent", False), ("unavailable", True), ("failed", True)],
)
def test_a_required_section(status: str, incomplete: bool, alone: bool) -> None:
    report, target = applied(require=("gpu",), target=sectioned(status), alone=alone)
    assert report.incomplete() is incomplete
    assert target.explanation.unmeasured == (
        (Unmeasured("gpu", "target", status, "no answer (the policy requires it)"),) if incomplete else ()
    )


def test_a_required_section_that_is_not_there_at_all() -> None:
    report, target = applied(require=("imports",))
    assert report.incomplete()
    (entry,) = target.explanation.unmeasured
    assert (entry.status, entry.reason) == (
        "missing",
        "this snapshot does not have the section (the policy requires it)",
    )


def test_a_required_section_is_named_once() -> None:
    known = Unmeasured("gpu", "target", "failed", "no answer")
    _, target = applied(require=("gpu",), target=sectioned("failed"), unmeasured=(known,))
    assert target.explanation.unmeasured == (known,)


# All together.


def test_nothing_gets_lost() -> None:
    """Whatever the policy: each finding and each change is kept, expected, or of a rule that is off."""
    findings = (
        finding(OTHER_BUILD, "numpy", evidence=(NUMPY,)),
        finding(UNMET, "pandas", Impact.BREAKS, evidence=(NUMPY,)),
        finding(OTHER_VARIABLE, "OMP"),
        finding("SYS004", "debian", Impact.NOTE, folds=(NUMPY,)),
    )
    changes = (change(NUMPY), change("python.version"), change("variables.variables.A", None))
    for entries in ((expect("packages"),), (expect("*"), expect(rule=UNMET)), (expect(rule="SYS004"),), ()):
        _, target = applied(*entries, findings=findings, changes=changes, off=frozenset({OTHER_VARIABLE}))
        kept = [entry.identity for entry in target.explanation.findings]
        kept += [entry.finding.identity for entry in target.suppressed]
        assert sorted(kept) == sorted(entry.identity for entry in findings if entry.code != OTHER_VARIABLE)
        found = [*target.explanation.changes, *(one for entry in target.expected for one in entry.changes)]
        assert sorted(found, key=lambda one: one.path) == list(changes)


def test_a_policy_that_says_nothing_changes_nothing() -> None:
    findings = (finding(UNMET, "pandas", Impact.BREAKS), finding(OTHER_BUILD, "numpy", evidence=(NUMPY,)))
    report, target = applied(findings=findings, changes=(change(NUMPY),))
    assert target.explanation == Explanation(findings, (change(NUMPY),))
    assert (target.suppressed, target.expected, report.notices) == ((), (), ())
    assert report.policy == "driftcheck.toml"
