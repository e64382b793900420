"""Which environments agree with which, section by section: what the picture of a report shows.

A target's changes say all that distinguishes it from the baseline, so two targets with the same changes in a
section have the same facts there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from driftcheck.probes.common import canonical
from driftcheck.report.side_by_side import all_changes, everything

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.report.model import Report, Target

# Sections by layer, in the order in which people think of them.
LAYERS: dict[str, tuple[str, ...]] = {
    "image": ("python", "packages", "libraries", "system", "programs", "cuda", "service", "artifacts", "imports"),
    "run": ("variables", "limits"),
    "machine": ("machine", "gpu"),
}
# Sections that this version does not know.
OTHER = "other"

_LAYER_OF = {section: layer for layer, sections in LAYERS.items() for section in sections}
_ORDER = {section: index for index, section in enumerate(_LAYER_OF)}


@dataclass(frozen=True)
class Cell:
    """One section of one environment.

    ``group``   equal numbers in a row are equal facts; 0 is the baseline's; None where that is not known
    ``things``  how many things differ from the baseline
    ``gap``     why there is nothing to compare; empty where there is
    """

    group: int | None
    things: int = 0
    gap: str = ""


@dataclass(frozen=True)
class Row:
    """One section: a cell for the baseline, then one for each target."""

    section: str
    layer: str
    cells: tuple[Cell, ...]

    @property
    def agrees(self) -> bool:
        return all(cell.group == 0 for cell in self.cells)


def section_order(section: str) -> tuple[int, str]:
    """Sorts sections as a reader looks for them; unknown ones last, by name."""
    return (_ORDER.get(section, len(_ORDER)), section)


def sections_of(report: Report) -> list[str]:
    """Every section that the report has something to say of, in order."""
    found = {change.section for target in report.targets for change in all_changes(target)}
    found |= {entry.section for target in report.targets for entry in target.explanation.unmeasured}
    for environment in (report.baseline, *(target.environment for target in report.targets)):
        if environment is not None:
            found |= {*environment.incomplete, *environment.header.get("seconds", {})}
    return sorted(found, key=section_order)


def agreement(report: Report) -> list[Row]:
    """A row for each section; nothing where there is no baseline to compare with."""
    baseline = report.baseline
    if baseline is None:
        return []
    facts = [_facts(target) for target in report.targets]
    things = [_things(target) for target in report.targets]
    rows = []
    for section in sections_of(report):
        gap = _gap(report.targets, section, "baseline") or baseline.incomplete.get(section, "")
        cells = [Cell(None, gap=gap) if gap else Cell(0)]
        groups: dict[str, int] = {"": 0}
        for index, target in enumerate(report.targets):
            own_gap = _gap([target], section, "target") or target.environment.incomplete.get(section, "")
            if own_gap or gap:
                cells.append(Cell(None, gap=own_gap or "nothing to compare it with"))
                continue
            absent = [entry.side for entry in target.explanation.unmeasured if entry.section == section]
            if "baseline" in absent:
                cells.append(Cell(None))  # two that have what the baseline lacks: nobody compared them
                continue
            key = "absent" if absent else facts[index].get(section, "")
            cells.append(Cell(groups.setdefault(key, len(groups)), things[index].get(section, 0)))
        rows.append(Row(section, _LAYER_OF.get(section, OTHER), tuple(cells)))
    return rows


def _gap(targets: Sequence[Target], section: str, side: str) -> str:
    """Why a side could not be measured, where one of the comparisons says so. What does not exist is no gap."""
    for target in targets:
        for entry in target.explanation.unmeasured:
            if entry.section == section and entry.side == side and entry.status != "absent":
                return entry.reason or entry.status
    return ""


def _facts(target: Target) -> dict[str, str]:
    """What distinguishes a target from the baseline, by section, as text that can be compared."""
    found: dict[str, list[object]] = {}
    for change in all_changes(target):
        found.setdefault(change.section, []).append([*change.path, change.kind, change.after])
    return {section: canonical(entries).decode("ascii") for section, entries in found.items()}


def _things(target: Target) -> dict[str, int]:
    """How many things differ, by section."""
    found: dict[str, int] = {}
    for group in everything(target):
        for item in group.items:
            section = item.changes[0].section
            found[section] = found.get(section, 0) + 1
    return found
