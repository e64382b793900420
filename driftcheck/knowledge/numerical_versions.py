"""Which distributions answer otherwise in another version."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge.tables import table


@dataclass(frozen=True)
class NumericalVersion:
    """What another version of a distribution changes; the fields are those of ``knowledge-numerical-versions``."""

    distribution: str
    computes: str
    part: str
    boundary: str | None
    when: str
    effect: str
    impact: str
    confidence: str
    predicted_error: str | None
    source: str


@functools.cache
def rows() -> tuple[NumericalVersion, ...]:
    """In the order in which they are asked: the first row of a distribution that applies speaks."""
    return tuple(
        NumericalVersion(
            distribution=row["distribution"],
            computes=row["computes"],
            part=row["part"],
            boundary=row["boundary"],
            when=row["when"],
            effect=row["effect"],
            impact=row["impact"],
            confidence=row["confidence"],
            predicted_error=row["predicted_error"],
            source=row["source"],
        )
        for row in table("numerical-versions")["rows"]
    )
