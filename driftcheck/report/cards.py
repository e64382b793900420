"""Findings as a reader meets them: the same one of several targets once, and effects under their cause.

A card stands where the worst of it stands: a note that explains a breakage is told with what breaks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from driftcheck.findings import Finding, Identity, Impact
from driftcheck.report import phrases

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftcheck.report.model import Report, Target

_CODE = re.compile(r"[A-Z]{2,5}[0-9]{3}")
# Findings of one identity are few, unless somebody forged them.
_COMPARED = 50


@dataclass(frozen=True)
class Card:
    """One finding.

    ``anchor``   its name in the document: the code, with a number where that is taken
    ``targets``  the targets that have it, by index
    ``effects``  what goes with it, worst first as in the target
    """

    anchor: str
    finding: Finding
    targets: tuple[int, ...]
    effects: tuple[Card, ...] = ()

    @property
    def worst(self) -> Impact:
        return self._told.impact

    @property
    def word(self) -> str:
        return self._told.word

    @property
    def is_cause(self) -> bool:
        return self._told.is_cause

    @property
    def _told(self) -> phrases.Told:
        return phrases.Told(self.finding, tuple(effect.finding for effect in self.effects))

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that its evidence is of."""
        paths = [*(tuple(entry.path) for entry in self.finding.evidence), *map(tuple, self.finding.folds)]
        return tuple(dict.fromkeys(path[0] for path in paths if path))


@dataclass(frozen=True)
class Deck:
    """All cards of a report, by what becomes of them, each list in the order in which to look.

    ``answers``  findings that explain the error at hand
    ``impacts``  what is new, by the worst impact in a card; notes that explain several changes are ``causes``
    ``known``    what the baseline has too
    """

    answers: tuple[Card, ...]
    impacts: dict[Impact, tuple[Card, ...]]
    causes: tuple[Card, ...]
    known: tuple[Card, ...]

    def all(self) -> Iterator[Card]:
        for card in (*self.answers, *(card for cards in self.impacts.values() for card in cards)):
            yield from (card, *card.effects)
        for card in (*self.causes, *self.known):
            yield from (card, *card.effects)


def deck(report: Report) -> Deck:
    """The findings of all targets; equal ones with equal effects are one card."""
    merged = _merged(report)
    anchors = _Anchors()
    answers, causes, known = [], [], []
    impacts: dict[Impact, list[Card]] = {impact: [] for impact in Impact}
    for tree, places, answers_error in merged:
        head, *effects = tree
        card = Card(
            anchors.take(head.code),
            head,
            tuple(places),
            tuple(Card(anchors.take(effect.code), effect, tuple(places)) for effect in effects),
        )
        if answers_error:
            answers.append(card)
        elif head.also_in_baseline:
            known.append(card)
        elif card.worst is Impact.NOTE and card.is_cause:
            causes.append(card)
        else:
            impacts[card.worst].append(card)
    return Deck(
        tuple(answers), {impact: tuple(cards) for impact, cards in impacts.items()}, tuple(causes), tuple(known)
    )


def _merged(report: Report) -> list[tuple[tuple[Finding, ...], list[int], bool]]:
    """Each tree of findings once, with the targets that have it, and whether it explains the error of one."""
    found: list[tuple[tuple[Finding, ...], list[int], bool]] = []
    alike: dict[tuple[Identity, ...], list[int]] = {}
    for index, target in enumerate(report.targets):
        for tree in _trees(target):
            identities = tuple(finding.identity for finding in tree)
            answers = any(phrases.answers(target, finding) for finding in tree)
            candidates = alike.setdefault(identities, [])
            same = next((number for number in candidates[:_COMPARED] if found[number][0] == tree), None)
            if same is None:
                candidates.append(len(found))
                found.append((tree, [index], answers))
            else:
                places = found[same][1]
                found[same] = (tree, places if index in places else [*places, index], found[same][2] or answers)
    return found


def _trees(target: Target) -> list[tuple[Finding, ...]]:
    """Each finding that stands for itself, followed by its effects. What the baseline has too is told apart."""
    findings = target.explanation.findings
    new = [finding for finding in findings if not finding.also_in_baseline]
    known = [finding for finding in findings if finding.also_in_baseline]
    return [(group.finding, *group.effects) for group in (*phrases.told(new), *phrases.told(known))]


class _Anchors:
    """Names that a document can have once, and that nothing in a report can make up."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, code: str) -> str:
        name = code if _CODE.fullmatch(code) else "finding"
        self._taken[name] = number = self._taken.get(name, 0) + 1
        return name if number == 1 and name != "finding" else f"{name}-{number}"


def answer(cards: Sequence[Card], index: int, identity: Identity) -> Card | None:
    """The card of a target's finding, an effect or not."""
    for card in cards:
        for found in (card, *card.effects):
            if index in found.targets and found.finding.identity == identity:
                return found
    return None
