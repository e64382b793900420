"""Few causes, many effects: each change, and each finding, under the finding that explains it.

A rule says of one of its findings which changes it explains and which other findings it causes. Where several lay
claim to the same thing, the one that explains most gets it. An effect stays a finding of its own: it counts, it
fails a run, and a report lists it below its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from driftcheck.diff import Change
from driftcheck.findings import Finding
from driftcheck.rules.base import Rule, Sides


@dataclass(frozen=True)
class _Claims:
    """What a finding explains, as indices of changes and of findings."""

    changes: Sequence[int] = ()
    findings: Sequence[int] = ()

    @property
    def number(self) -> int:
        return len(self.changes) + len(self.findings)


def fold(
    pairs: Sequence[tuple[Rule, Finding]],
    changes: Sequence[Change],
    sides: Sides,
    failed: Callable[[Rule, Exception], None],
) -> list[Finding]:
    """The findings, in the same order, with what each explains and what causes it.

    What the baseline has too neither explains a difference nor is an effect of one. ``failed`` is told of a rule that
    raises: it explains nothing.
    """
    claims = [_claims(pairs, index, changes, sides, failed) for index in range(len(pairs))]
    order = sorted(range(len(pairs)), key=lambda index: -claims[index].number)
    folds: dict[int, list[tuple[str, ...]]] = {}
    taken: set[int] = set()
    causes: dict[int, int] = {}
    place = {index: position for position, index in enumerate(order)}
    for index in order:
        free = [change for change in claims[index].changes if change not in taken]
        taken.update(free)
        folds[index] = [changes[change].path for change in free]
        for effect in claims[index].findings:
            # Only ever downwards, so that nothing is its own cause; and always the outermost one.
            if effect not in causes and place[effect] > place[index]:
                causes[effect] = causes.get(index, index)
    return [
        replace(
            finding,
            folds=tuple(folds[index]),
            caused_by=pairs[causes[index]][1].identity if index in causes else None,
        )
        for index, (_, finding) in enumerate(pairs)
    ]


def _claims(
    pairs: Sequence[tuple[Rule, Finding]],
    index: int,
    changes: Sequence[Change],
    sides: Sides,
    failed: Callable[[Rule, Exception], None],
) -> _Claims:
    rule, finding = pairs[index]
    if finding.also_in_baseline:
        return _Claims()
    kind = type(rule)
    try:
        return _Claims(
            # Most rules explain nothing, and are not asked a thousand times.
            [number for number, change in enumerate(changes) if rule.explains(finding, change, sides)]
            if kind.explains is not Rule.explains
            else (),
            [
                number
                for number, (_, effect) in enumerate(pairs)
                if number != index and not effect.also_in_baseline and rule.causes(finding, effect, sides)
            ]
            if kind.causes is not Rule.causes
            else (),
        )
    except Exception as error:  # noqa: BLE001 - one broken rule must not cost the others
        failed(rule, error)
        return _Claims()
