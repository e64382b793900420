"""Pairs of distributions that do not work together although the metadata of both allows it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge.tables import table


@dataclass(frozen=True)
class Pair:
    """One pair; the fields are those of ``knowledge-incompatible-pairs``."""

    distribution: str
    versions: str
    other: str
    other_versions: str
    missing_too: bool
    beside: str | None
    unless: str | None
    predicted_error: str
    confidence: str
    fix: str
    source: str


@functools.cache
def pairs() -> tuple[Pair, ...]:
    return tuple(
        Pair(
            distribution=row["distribution"],
            versions=row["versions"],
            other=row["other"],
            other_versions=row["other_versions"],
            missing_too=row["missing_too"],
            beside=row["beside"],
            unless=row["unless"],
            predicted_error=row["predicted_error"],
            confidence=row["confidence"],
            fix=row["fix"],
            source=row["source"],
        )
        for row in table("incompatible-pairs")["rows"]
    )
