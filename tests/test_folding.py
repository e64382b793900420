"""Few causes, many effects: who gets what, that nothing is its own cause, and that a fault costs the others nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Impact, Subject
from driftcheck.folding import fold
from driftcheck.rules.base import Contradiction, Rule, Sides
from driftcheck.snapshot import Snapshot

SIDES = Sides(None, Snapshot({}, {}))


class Claims(Contradiction):
    """A rule that explains what it is told to explain."""

    code, name, reads = "SYS999", "claims", ("system",)

    def __init__(self, changes: Sequence[int] = (), effects: Sequence[int] = ()) -> None:
        self._changes, self._effects = {str(number) for number in changes}, {str(number) for number in effects}

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        raise NotImplementedError

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.path[1] in self._changes

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        return effect.subject.name in self._effects


class Raises(Claims):
    """A rule with a fault in its explaining."""

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding, sides
        raise ValueError(effect.title)


def finding(number: int, *, known: bool = False) -> Finding:
    return Finding(
        "SYS999", "claims", Impact.NOTE, Confidence.CERTAIN, "t", Subject("n", str(number)), "e", also_in_baseline=known
    )


def changes(number: int) -> list[Change]:
    return [Change(("system", str(index)), "changed", 1, 2) for index in range(number)]


def folded(*rules: Rule, known: Sequence[int] = (), number: int = 6) -> list[tuple[list[int], int | None]]:
    """For each rule's one finding: the changes that it folds, and the number of its cause."""
    failed: list[Rule] = []
    pairs = [(rule, finding(index, known=index in known)) for index, rule in enumerate(rules)]
    found = fold(pairs, changes(number), SIDES, lambda rule, error: failed.append(rule) if error else None)
    assert failed == [rule for rule in rules if isinstance(rule, Raises)]
    return [([int(path[1]) for path in one.folds], int(one.caused_by[2]) if one.caused_by else None) for one in found]


def test_a_change_goes_to_the_finding_that_explains_most() -> None:
    assert folded(Claims([0, 1]), Claims([1, 2, 3])) == [([0], None), ([1, 2, 3], None)]


def test_findings_count_as_much_as_changes() -> None:
    assert folded(Claims([0, 1]), Claims([1], [2, 3]), Claims(), Claims()) == [
        ([0], None),
        ([1], None),
        ([], 1),
        ([], 1),
    ]


def test_a_cause_of_a_cause_takes_it_all() -> None:
    assert folded(Claims([0], [1]), Claims([], [2]), Claims()) == [([0], None), ([], 0), ([], 0)]


def test_of_two_that_claim_each_other_one_is_the_cause() -> None:
    assert folded(Claims([], [1]), Claims([], [0])) == [([], None), ([], 0)]
    assert folded(Claims([], [0]), Claims()) == [([], None), ([], None)]


def test_what_the_baseline_has_too_neither_explains_nor_follows() -> None:
    assert folded(Claims([0], [1]), Claims(), known=[0]) == [([], None), ([], None)]
    assert folded(Claims([0], [1]), Claims(), known=[1]) == [([0], None), ([], None)]


def test_a_rule_that_raises_explains_nothing_and_costs_the_others_nothing() -> None:
    assert folded(Raises([0]), Claims([0], [0])) == [([], 1), ([0], None)]


CLAIMS = st.lists(st.integers(0, 7), max_size=8)


@given(st.lists(st.tuples(CLAIMS, CLAIMS), max_size=8))
def test_laws(claims: list[tuple[list[int], list[int]]]) -> None:
    """Every change is folded at most once; a cause is never an effect; nobody causes itself; nothing is lost."""
    found = folded(*[Claims(*claim) for claim in claims], number=8)
    assert len(found) == len(claims)
    folds = [change for paths, _ in found for change in paths]
    assert len(folds) == len(set(folds))
    assert set(folds) == {change for explained, _ in claims for change in explained}
    for index, (_, cause) in enumerate(found):
        if cause is not None:
            assert cause != index
            assert found[cause][1] is None
