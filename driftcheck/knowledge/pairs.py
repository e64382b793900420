"""Pairs of distributions that do not work together although the metadata of both allows it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge import tables


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
    return tables.rows(Pair, "incompatible-pairs")
