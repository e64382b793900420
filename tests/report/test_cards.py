"""How findings are put together for a reader; none is ever lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from driftcheck.explain import Explanation
from driftcheck.findings import Confidence, Finding, Impact, Subject
from driftcheck.report.cards import deck
from driftcheck.report.model import Environment, ErrorAnswer, Report, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = [f"s{number}" for number in range(5)]


def finding(name: str, impact: Impact = Impact.BREAKS, caused_by: str | None = None, known: bool = False) -> Finding:
    return Finding(
        code="PKG001",
        name="unmet-requirement",
        impact=impact,
        confidence=Confidence.CERTAIN,
        title=name,
        subject=Subject("distribution", name),
        explanation="",
        also_in_baseline=known,
        caused_by=("PKG001", "distribution", caused_by) if caused_by else None,
    )


def report(*targets: Sequence[Finding]) -> Report:
    places = [Target(Environment({"label": "t"}, {}), Explanation(tuple(found))) for found in targets]
    return Report(Environment({"label": "laptop"}, {}), tuple(places))


FINDINGS = st.lists(
    st.builds(
        finding,
        st.sampled_from(NAMES),
        st.sampled_from(Impact),
        st.sampled_from([None, "missing", *NAMES]),
        st.booleans(),
    ),
    max_size=8,
)


@given(st.lists(FINDINGS, max_size=3))
def test_no_finding_is_lost_and_none_is_invented(targets: list[list[Finding]]) -> None:
    """Also where causes go round in a circle, or one identity stands for several findings."""
    cards = list(deck(report(*targets)).all())
    told = [(index, card.finding) for card in cards for index in card.targets]
    for index, findings in enumerate(targets):
        for one in findings:
            assert (index, one) in told
    assert all(one in targets[index] for index, one in told)
    assert len({card.anchor for card in cards}) == len(cards)


@given(FINDINGS)
def test_what_breaks_stands_with_what_breaks(findings: list[Finding]) -> None:
    found = deck(report(findings))
    told = [entry.finding for card in found.impacts[Impact.BREAKS] for entry in (card, *card.effects)]
    for one in findings:
        if one.impact is Impact.BREAKS and not one.also_in_baseline:
            assert one in told


def test_effects_stand_under_their_cause() -> None:
    found = deck(report([finding("a", Impact.NOTE), finding("b", caused_by="a"), finding("c", Impact.SLOWS, "a")]))
    (card,) = found.impacts[Impact.BREAKS]
    assert (card.finding.title, card.word) == ("a", "cause")
    assert [effect.finding.title for effect in card.effects] == ["b", "c"]


def test_what_is_new_never_stands_under_what_the_baseline_has_too() -> None:
    found = deck(report([finding("b", caused_by="a"), finding("a", known=True)]))
    assert [card.finding.title for card in found.impacts[Impact.BREAKS]] == ["b"]
    assert [card.finding.title for card in found.known] == ["a"]


def test_equal_findings_with_other_effects_stay_apart() -> None:
    alone, effect = finding("a"), finding("b", caused_by="a")
    found = deck(report([alone], [alone, effect], [alone]))
    assert [(card.targets, len(card.effects)) for card in found.impacts[Impact.BREAKS]] == [((0, 2), 0), ((1,), 1)]


def test_notes_that_explain_several_changes_are_causes() -> None:
    cause = replace(finding("a", Impact.NOTE), folds=(("system", "x"), ("system", "y")))
    found = deck(report([cause, finding("b", Impact.NOTE)]))
    assert [card.finding.title for card in found.causes] == ["a"]
    assert found.causes[0].sections == ("system",)
    assert [card.finding.title for card in found.impacts[Impact.NOTE]] == ["b"]


def test_the_answer_brings_its_cause_with_it() -> None:
    effect = finding("b", caused_by="a")
    one = report([finding("a", Impact.NOTE), effect, finding("c")])
    error = ErrorAnswer("log", "text", effect.identity, "verbatim")
    found = deck(replace(one, targets=(replace(one.targets[0], error=error),)))
    assert [card.finding.title for card in found.answers] == ["a"]
    assert [card.finding.title for card in found.impacts[Impact.BREAKS]] == ["c"]


def test_a_forged_code_makes_no_anchor() -> None:
    forged = replace(finding("a"), code='x" onclick="')
    assert [card.anchor for card in deck(report([forged, replace(forged, title="b")])).all()] == [
        "finding-1",
        "finding-2",
    ]
