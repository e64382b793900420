"""What differs and no finding explains, in the report for a terminal: grouped and counted, a fact a line with --all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftcheck.report import phrases
from driftcheck.report.cleaning import line
from driftcheck.report.text_page import Page, cells, pad

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from driftcheck.diff import Change
    from driftcheck.report.model import Report, Target
    from driftcheck.report.phrases import Group, Item

# How much is told without --all.
_EXAMPLES = 6
_PACKAGES = 12


def add_drift(page: Page, report: Report, target: Target) -> None:
    groups = phrases.remaining(target)
    if not groups:
        page.heading(phrases.no_drift(report, target), "")
        return
    page.heading(phrases.remaining_title(groups))
    hidden = False
    for group in groups:
        page.wrapped(group.counts(), [("  ", ""), (line(group.title, 60), "bold"), ("  ", "")], 4, "dim")
        if page.all:
            _facts(page, group)
        else:
            limit = 0 if group.follows else _PACKAGES if group.title == "Python packages" else _EXAMPLES
            _examples(page, group.items[:limit])
            if limit and len(group.items) > limit:
                page.add(f"    ... and {len(group.items) - limit:,} more")
            hidden = hidden or len(group.items) > limit
    if hidden:
        page.hint = "--all shows everything that differs."


def _examples(page: Page, items: Sequence[Item]) -> None:
    names = [page.fitted(line(item.name, 100), 40) for item in items]
    width = max((cells(name) for name in names if cells(name) <= 30), default=0)
    befores = [line(item.before, 80) for item in items if item.kind == "changed" and item.before is not None]
    column = max((cells(before) for before in befores if cells(before) <= 16), default=0)
    for name, item in zip(names, items, strict=True):
        start = f"    {pad(name, width)}  "
        detail = page.fitted(line(_detail(item, column), 300), max(page.width - cells(start), 20))
        page.add(start, detail)


def _detail(item: Item, column: int) -> str:
    """How it differs; the arrows of a list stand below each other."""
    if item.kind == "changed" and item.before is not None:
        before, _, after = item.detail.partition(" -> ")
        return f"{pad(before, column)} -> {after}"
    side = {"added": "only in the target", "removed": "only in the baseline"}.get(item.kind)
    if side is None:
        return item.detail
    return side if item.detail == "yes" else f"{side}: {item.detail}"


def _facts(page: Page, group: Group) -> None:
    for change in _changes(group.items):
        add_fact(page, change, "    ")


def add_fact(page: Page, change: Change, margin: str) -> None:
    path = phrases.path_text(change.path)
    if change.kind == "changed":
        before, after = (line(phrases.value_text(v, change.path), 2000) for v in (change.before, change.after))
        text = f"{path}  {before} -> {after}"
    else:
        value = change.after if change.kind == "added" else change.before
        side = "only in the target" if change.kind == "added" else "only in the baseline"
        text = f"{path}  {side}: {line(phrases.value_text(value, change.path), 2000)}"
    page.wrapped(text, [(margin, "")], indent=len(margin) + 4)


def _changes(items: Iterable[Item]) -> list[Change]:
    return [change for item in items for change in item.changes]
