"""What is known of environment variables: what a difference does, and which values are refused."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge import tables


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
    return tables.rows(VariableDifference, "variable-differences")


@functools.cache
def values() -> tuple[VariableValue, ...]:
    """In the order in which they are asked: the first row of a variable that applies speaks."""
    return tables.rows(VariableValue, "variable-values")
