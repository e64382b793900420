"""Environments beside each other: a row for each thing that the summaries name or that differs anywhere.

The value of a target is the baseline's unless a change says otherwise, so the changes of a report are enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from driftcheck.report import phrases
from driftcheck.report.summary import FRAMEWORKS, titles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.diff import Change
    from driftcheck.report.model import Environment, Report, Target
    from driftcheck.report.phrases import Group, Item

OVERVIEW = "overview"
FRAMEWORKS_TITLE = "frameworks"
_PACKAGES = "Python packages"


@dataclass(frozen=True)
class Value:
    """One thing in one environment. ``text`` is not cleaned.

    ``state``  ``baseline``; ``same`` as there; ``differs``; ``missing``: the baseline has it, this one has not;
               ``unmeasured``; ``several``: facts of it differ, and no single value stands for them. A text that
               is empty says that the thing is not there.
    """

    text: str
    state: str


@dataclass(frozen=True)
class Line:
    """One thing in every environment, the baseline first. ``section`` is empty where it is of none."""

    name: str
    section: str
    values: tuple[Value, ...]

    @property
    def differs(self) -> bool:
        if self.section:
            return True
        return len({value.text for value in self.values}) > 1


@dataclass(frozen=True)
class Table:
    """Things of one kind."""

    title: str
    lines: tuple[Line, ...]


def all_changes(target: Target) -> list[Change]:
    """What distinguishes a target from the baseline: also what the policy expects."""
    expected = [change for entry in target.expected for change in entry.changes]
    found = {change.path: change for change in [*target.explanation.changes, *expected]}
    return [found[path] for path in sorted(found)]


def everything(target: Target) -> list[Group]:
    """All changes of a target in the groups of the remaining drift, those that findings explain among them."""
    return _grouped(target, all_changes(target))


def _grouped(target: Target, changes: Sequence[Change]) -> list[Group]:
    return phrases.remaining(
        replace(target, explanation=replace(target.explanation, findings=(), changes=tuple(changes)))
    )


def side_by_side(report: Report) -> list[Table]:
    """The baseline, where there is one, and every target; what they are first, then what differs."""
    environments = [target.environment for target in report.targets]
    if report.baseline is not None:
        environments.insert(0, report.baseline)
    found = titles([environment.summary for environment in environments])
    tables = [
        Table(title, tuple(_summary_line(name, environments, report.baseline is not None) for name in chosen))
        for title, chosen in (
            (OVERVIEW, [name for name in found if name not in FRAMEWORKS]),
            (FRAMEWORKS_TITLE, [name for name in found if name in FRAMEWORKS]),
        )
        if chosen
    ]
    return tables if report.baseline is None else [*tables, *_differing(report.targets, set(found))]


def _summary_line(name: str, environments: Sequence[Environment], compared: bool) -> Line:
    texts = [environment.summary.get(name) for environment in environments]
    values = []
    for index, text in enumerate(texts):
        if index == 0 or not compared:
            state = "baseline"
        elif text == texts[0]:
            state = "same"
        else:
            state = "missing" if text is None else "differs"
        values.append(Value(text or "", state))
    return Line(name, "", tuple(values))


def _differing(targets: Sequence[Target], told: set[str]) -> list[Table]:
    """``told``: names of the summary; a framework of another version needs no second line."""
    changes = [{change.path: change for change in all_changes(target)} for target in targets]
    found: dict[str, dict[str, dict[int, Item]]] = {}
    for index, target in enumerate(targets):
        for group in everything(target):
            if not group.follows:
                for item in group.items:
                    found.setdefault(group.title, {}).setdefault(item.name, {})[index] = item
    # The order of the groups, and of the things in them, is that of everything that differs anywhere.
    union = _grouped(targets[0], [change for one in changes for change in one.values()]) if targets else []
    order: dict[str, dict[str, None]] = {
        title: {} for title in [*(group.title for group in union), *found] if title in found
    }
    for group in union:
        for item in group.items:
            if item.name in found.get(group.title, {}):
                order[group.title][item.name] = None
    tables = []
    for title, names in order.items():
        lines = tuple(
            _line(name, found[title][name], targets, changes)
            for name in {**names, **dict.fromkeys(found[title])}
            if not (title == _PACKAGES and name in told and all(map(_by_version, found[title][name].values())))
        )
        if lines:
            tables.append(Table(title, lines))
    return tables


def _by_version(item: Item) -> bool:
    return item.kind != "changed" or item.before is not None


def _line(
    name: str, items: dict[int, Item], targets: Sequence[Target], changes: Sequence[dict[tuple[str, ...], Change]]
) -> Line:
    paths = list(dict.fromkeys(change.path for item in items.values() for change in item.changes))
    section = paths[0][0]
    first = _before(items)
    values = [first]
    for index, target in enumerate(targets):
        item = items.get(index)
        # The same fact can stand under another group there: a library whose package differs in one target alone.
        elsewhere = next((changes[index][path] for path in paths if path in changes[index]), None)
        if any(entry.section == section for entry in target.explanation.unmeasured):
            values.append(Value("", "unmeasured"))
        elif item is not None:
            values.append(_after(item))
        elif elsewhere is not None:
            gone = elsewhere.kind == "removed"
            text = "" if gone else phrases.value_text(elsewhere.after, elsewhere.path)
            values.append(Value(text, "missing" if gone else "differs"))
        else:
            values.append(Value(first.text, "several" if first.state == "several" else "same"))
    return Line(name, section, tuple(values))


def _before(items: dict[int, Item]) -> Value:
    for item in items.values():
        if item.before is not None:
            return Value(item.before, "baseline")
    several = any(item.kind != "added" for item in items.values())
    return Value("", "several" if several else "baseline")


def _after(item: Item) -> Value:
    if item.kind == "removed":
        return Value("", "missing")
    return Value(item.detail if item.after is None else item.after, "differs")
