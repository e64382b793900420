"""What rules conclude: findings, with their impact, their confidence and their evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Impact(StrEnum):
    """What happens to inference, worst first."""

    BREAKS = "breaks"  # will not start, or crashes
    CHANGES_RESULTS = "changes-results"  # runs, and may answer differently
    SLOWS = "slows"  # runs, and falls back or degrades
    NOTE = "note"

    @property
    def rank(self) -> int:
        return _IMPACT_RANKS[self]


class Confidence(StrEnum):
    """How sure the conclusion is, surest first."""

    CERTAIN = "certain"  # proved from the artefacts
    LIKELY = "likely"
    POSSIBLE = "possible"

    @property
    def rank(self) -> int:
        return _CONFIDENCE_RANKS[self]


# Reports of ten thousand findings ask often.
_IMPACT_RANKS = {impact: rank for rank, impact in enumerate(Impact)}
_CONFIDENCE_RANKS = {confidence: rank for rank, confidence in enumerate(Confidence)}


@dataclass(frozen=True)
class Subject:
    """What a finding is about: ``Subject("distribution", "numpy")``. Its identity between two snapshots."""

    kind: str
    name: str


@dataclass(frozen=True)
class Evidence:
    """A fact that the finding rests on.

    ``side``   ``baseline`` or ``target``
    ``path``   where it stands in the snapshot: section, then keys (``("packages", "distributions", "numpy",
               "version")``)
    ``value``  the fact, a JSON value
    """

    side: str
    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True)
class Fix:
    """What one would type. ``kind``: ``pip``, ``apt``, ``dockerfile``, ``docker-run``, ``variable`` or ``advice``."""

    kind: str
    text: str


# Code, kind and name of the subject: what makes a finding the same one elsewhere.
Identity = tuple[str, str, str]


@dataclass(frozen=True)
class Finding:
    """One conclusion of one rule.

    ``predicted_error``  what the program would print, first error only; verbatim where ``certain``
    ``also_in_baseline`` the same contradiction stands in the baseline, which works; it never fails a run
    ``folds``            paths of the changes that this finding explains
    ``caused_by``        identity of another finding of the same target of which this one is an effect; it counts
                         and fails like any other, and stands under its cause
    ``reach``            how the subject came into the environment, in one short line: ``requested``,
                         ``needed by vllm > transformers``
    """

    code: str
    name: str
    impact: Impact
    confidence: Confidence
    title: str
    subject: Subject
    explanation: str
    predicted_error: str | None = None
    evidence: Sequence[Evidence] = field(default_factory=tuple)
    fix: Sequence[Fix] = field(default_factory=tuple)
    references: Sequence[str] = field(default_factory=tuple)
    also_in_baseline: bool = False
    folds: Sequence[tuple[str, ...]] = field(default_factory=tuple)
    caused_by: Identity | None = None
    reach: str | None = None

    @property
    def identity(self) -> Identity:
        return (self.code, self.subject.kind, self.subject.name)

    def fails(self, limit: Impact | None) -> bool:
        """Whether this finding ends a run with exit code 1, given ``--fail-on``."""
        return (
            limit is not None
            and not self.also_in_baseline
            and self.confidence is not Confidence.POSSIBLE
            and self.impact.rank <= limit.rank
        )
