"""What is known of environment variables: what a difference does, and which values are refused."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge.tables import table


@dataclass(frozen=True)
class VariableDifference:
    """What a difference in a variable does; the fields are those of ``knowledge-variable-differences``."""

    variable: str
    read_by: tuple[str, ...]
    versions: str | None
    target: str
    value: str | None
    default: tuple[str, ...]
    effect: str
    impact: str
    confidence: str
    predicted_error: str | None
    source: str


@dataclass(frozen=True)
class VariableValue:
    """A kind of value that is refused or ignored; the fields are those of ``knowledge-variable-values``."""

    variable: str
    read_by: tuple[str, ...]
    versions: str | None
    accepts: str | None
    refuses: str | None
    beside: str | None
    unless: str | None
    missing_file: bool
    needs: str | None
    effect: str
    impact: str
    confidence: str
    predicted_error: str | None
    source: str


@functools.cache
def differences() -> tuple[VariableDifference, ...]:
    """In the order in which they are asked: the first row of a variable that applies speaks."""
    return tuple(
        VariableDifference(
            variable=row["variable"],
            read_by=tuple(row["read_by"]),
            versions=row["versions"],
            target=row["target"],
            value=row["value"],
            default=tuple(row["default"]),
            effect=row["effect"],
            impact=row["impact"],
            confidence=row["confidence"],
            predicted_error=row["predicted_error"],
            source=row["source"],
        )
        for row in table("variable-differences")["rows"]
    )


@functools.cache
def values() -> tuple[VariableValue, ...]:
    """In the order in which they are asked: the first row of a variable that applies speaks."""
    return tuple(
        VariableValue(
            variable=row["variable"],
            read_by=tuple(row["read_by"]),
            versions=row["versions"],
            accepts=row["accepts"],
            refuses=row["refuses"],
            beside=row["beside"],
            unless=row["unless"],
            missing_file=row["missing_file"],
            needs=row["needs"],
            effect=row["effect"],
            impact=row["impact"],
            confidence=row["confidence"],
            predicted_error=row["predicted_error"],
            source=row["source"],
        )
        for row in table("variable-values")["rows"]
    )
