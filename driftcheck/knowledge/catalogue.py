"""Every known way in which inference breaks, and what of driftcheck tells of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge.tables import table

# What decides a row: a rule of its own, a mechanism that proves many rows, or nothing, for a stated reason.
RULE = "rule"
MECHANISM = "mechanism"
LEFT_OUT = "left-out"


@dataclass(frozen=True)
class Breakage:
    """One row; the fields are those of ``knowledge-catalogue``.

    ``confirmed``  whether the failure was made to happen, or a page that was looked up shows it
    ``by``         RULE, MECHANISM or LEFT_OUT
    """

    id: str
    category: str
    error: str
    condition: str
    provability: str
    impact: str
    fix: str
    source: str
    see_also: tuple[str, ...]
    confirmed: bool
    how: str
    by: str
    rules: tuple[str, ...]
    reason: str


@functools.cache
def breakages() -> tuple[Breakage, ...]:
    return tuple(
        Breakage(
            id=row["id"],
            category=row["category"],
            error=row["error"],
            condition=row["condition"],
            provability=row["provability"],
            impact=row["impact"],
            fix=row["fix"],
            source=row["source"],
            see_also=tuple(row["see_also"]),
            confirmed=row["confirmed"],
            how=row["how"],
            by=row["decided"]["by"],
            rules=tuple(row["decided"]["rules"]),
            reason=row["decided"]["reason"],
        )
        for row in table("catalogue")["rows"]
    )
