"""Which distributions answer otherwise in another version."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge import tables


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
    return tables.rows(NumericalVersion, "numerical-versions")
