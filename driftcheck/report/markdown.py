"""The report for a ticket or a pull request: GitHub Flavored Markdown that fits into one comment.

Trackers refuse more than 65,536 characters. What matters least is shortened first, step by step, until the
rest fits; the end of the report says what was left out. A finding that breaks keeps at least its line.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from driftcheck.report import phrases
from driftcheck.report.cleaning import block, code, markdown
from driftcheck.report.markdown_findings import add_findings, one_line
from driftcheck.report.markdown_page import LIMIT, FullError, Page, Room, rooms_of, size_of
from driftcheck.report.summary import titles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Environment, Expected, Report, Suppressed, Target


def render(report: Report, options: RenderOptions) -> str:
    """The format ``markdown``."""
    rooms = list(rooms_of(options))
    text = _attempt(report, rooms[0], options)
    if text is not None:
        return text
    # Each step tells less than the one before, so the first that fits is found by halving.
    first, end, fitting = 1, len(rooms), None
    while first < end:
        middle = (first + end) // 2
        text = _attempt(report, rooms[middle], options)
        if text is None:
            first = middle + 1
        else:
            fitting, end = text, middle
    if fitting is not None:
        return fitting
    page = Page(rooms[-1], options.all, endless=True)
    _report(page, report)
    return page.cut()


def _attempt(report: Report, room: Room, options: RenderOptions) -> str | None:
    """The report with so much room for each kind; None where that is more than a tracker takes."""
    page = Page(room, options.all)
    try:
        _report(page, report)
    except FullError:
        return None
    text = page.text()
    return text if size_of(text) <= LIMIT else None


def _report(page: Page, report: Report) -> None:
    page.footer = f"<sub>driftcheck {markdown(report.tool_version, limit=40)}</sub>"
    _, names = phrases.names(report)
    verdicts = [
        phrases.verdict(report, target, name, functools.partial(code, limit=phrases.LABEL_LIMIT + 10))
        for target, name in zip(report.targets, names, strict=True)
    ]
    for verdict in verdicts:
        counts = f" Besides: {', '.join(verdict.counts)}." if verdict.counts and len(verdicts) == 1 else ""
        page.add(f"**{verdict.text}**{counts}")
    if report.baseline is not None:
        page.add(f"Compared with the baseline {code(phrases.names(report)[0])}.")
    for target, name in zip(report.targets, names, strict=True):
        if len(names) > 1:
            page.add(f"## {code(name)}")
        _target(page, report, target)
    if len(names) > 1:
        _environments(page, report)
    _notices(page, report)


def _target(page: Page, report: Report, target: Target) -> None:
    if target.environment.assumptions:
        page.add(f"Assumed: {markdown(' '.join(target.environment.assumptions), limit=page.room.prose)}")
    _error(page, target)
    add_findings(page, target)
    _gaps(page, report, target)
    if len(report.targets) == 1:
        _environments(page, report)
    known = [finding for finding in target.explanation.findings if finding.also_in_baseline]
    if known:
        shown = page.some(known, page.room.lists, "findings that the baseline has too")
        title = f"Also in the baseline, which works: {phrases.count(len(known), 'finding')}"
        page.fold(title, ["\n".join(one_line(page, finding) for finding in shown)])
    _problems(page, target)
    _not_judged(page, target)
    if report.baseline is not None:
        _drift(page, report, target)
    _expected(page, target)


def _environments(page: Page, report: Report) -> None:
    """All of them beside each other; a row where they differ is marked."""
    baseline, names = phrases.names(report)
    sides: list[tuple[str, str, Environment]] = [("baseline", baseline, report.baseline)] if report.baseline else []
    word = "target" if report.baseline else "environment"
    sides += [(word, name, target.environment) for name, target in zip(names, report.targets, strict=True)]
    shown = page.some(sides, page.room.columns, "columns of the table of environments")
    summaries = [environment.summary for _, _, environment in shown]
    rows = [
        ["", *(word for word, _, _ in shown)],
        ["---"] * (len(shown) + 1),
        ["name", *(code(name, table=True) for _, name, _ in shown)],
        [
            "interpreter",
            *(code(env.header["interpreter"]["path"], table=True, limit=100) for _, _, env in shown),
        ],
        ["measured", *(code(env.header["created"], table=True, limit=40) for _, _, env in shown)],
    ]
    for title in page.some(titles(summaries), page.room.rows, "rows of the table of environments"):
        values = [summary.get(title) for summary in summaries]
        name = markdown(title, table=True, limit=60)
        rows.append(
            [
                f"**{name}**" if len(set(values)) > 1 else name,
                *("" if value is None else code(value, table=True, limit=100) for value in values),
            ]
        )
    page.add("\n".join(f"| {' | '.join(row)} |" for row in rows))


def _error(page: Page, target: Target) -> None:
    """What the user came with, before anything else."""
    said = phrases.error_answered(target, functools.partial(code, limit=100))
    if said and target.error is not None:
        shown = f"\n\n{block(target.error.text, 'text', limit=1)}" if target.error.text else ""
        page.add(f"**{said}**{shown}")


def _gaps(page: Page, report: Report, target: Target) -> None:
    entries = phrases.not_compared(report, target)
    if entries:
        rows = []
        for entry in page.some(entries, page.room.lists, "sections that were not compared"):
            side = f"{markdown(entry.status, limit=20)} in the {entry.side}: " if report.baseline else ""
            rows.append(f"- {code(entry.section, limit=40)} {side}{markdown(entry.reason, limit=300)}")
        title = "Not compared, so neither equal nor different:" if report.baseline else "Not measured:"
        page.add("\n".join([title, "", *rows]))


def _problems(page: Page, target: Target) -> None:
    problems = target.environment.problems
    if problems:
        shown = page.some(problems, page.room.lists, "places that could not be read")
        rows = [
            f"- {code(section, limit=40)} {code(where)}: {markdown(reason, limit=300)}"
            for section, where, reason in shown
        ]
        page.fold(f"Could not be read: {phrases.count(len(problems), 'place')}", ["\n".join(rows)])


def _not_judged(page: Page, target: Target) -> None:
    entries = sorted(target.explanation.not_judged, key=lambda entry: not entry.fault)
    if entries:
        rows = [
            f"- {code(entry.code, limit=12)} {code(entry.name, limit=60)}"
            f"{' failed, a fault of driftcheck' if entry.fault else ''}: {markdown(entry.reason, limit=300)}"
            for entry in page.some(entries, page.room.lists, "rules that could not be judged")
        ]
        page.fold(f"Not judged: {phrases.count(len(entries), 'rule')}", ["\n".join(rows)])


def _expected(page: Page, target: Target) -> None:
    """What the policy took out, and why; the changes themselves only where everything is told."""
    taken = phrases.expected(target)
    if not taken:
        return
    rows = [
        f"{one_line(page, entry.finding)}: {_because(page, entry)}"
        for entry in page.some(target.suppressed, page.room.lists, "findings that the policy expects")
    ]
    for entry in page.some(target.expected, page.room.lists, "expectations of the policy that were met"):
        rows.append(f"- {phrases.count(len(entry.changes), 'change')}: {_because(page, entry)}")
        shown = entry.changes if page.all else ()
        for change in page.some(shown, page.room.drift, "changes that the policy expects"):
            before, after = (_cell(page, value, change.path) for value in (change.before, change.after))
            sides = {"added": f"only in the target: {after}", "removed": f"only in the baseline: {before}"}
            rows.append(f"  - {code(phrases.path_text(change.path))} {sides.get(change.kind, f'{before} → {after}')}")
    page.fold(f"Expected by the policy: {taken}", ["\n".join(rows)])


def _because(page: Page, entry: Suppressed | Expected) -> str:
    return markdown(phrases.why_expected(entry), limit=page.room.prose)


def _notices(page: Page, report: Report) -> None:
    if report.notices:
        shown = page.some(report.notices, page.room.lists, "notices of the policy")
        page.add("\n".join(["The policy:", "", *(f"- {markdown(notice, limit=300)}" for notice in shown)]))


def _drift(page: Page, report: Report, target: Target) -> None:
    groups = phrases.remaining(target)
    if not groups:
        page.add(phrases.no_drift(report, target))
        return
    blocks = []
    for group in page.some(groups, page.room.rows, "kinds of drift"):
        title = f"**{markdown(group.title, limit=60)}**: {group.counts()}"
        shown = () if group.follows and not page.all else group.items
        items = page.some(shown, page.room.drift, f"under {markdown(group.title, limit=60)}")
        blocks.append("\n".join([title, *_table(page, items)]))
    page.fold(phrases.remaining_title(groups), blocks)


def _table(page: Page, items: Sequence[phrases.Item]) -> Iterator[str]:
    if not items:
        return
    yield ""
    yield "| | baseline | target |"
    yield "| --- | --- | --- |"
    for item in items:
        for name, before, after in _rows(page, item):
            yield f"| {code(name, table=True, limit=100)} | {before} | {after} |"


def _rows(page: Page, item: phrases.Item) -> Iterator[tuple[str, str, str]]:
    """One row a thing; with --all one a fact."""
    if page.all:
        for change in item.changes:
            before, after = (_cell(page, value, change.path) for value in (change.before, change.after))
            yield (
                phrases.path_text(change.path),
                "" if change.kind == "added" else before,
                "" if change.kind == "removed" else after,
            )
    elif item.before is None and item.after is None:
        yield item.name, markdown(item.detail, table=True), ""
    else:
        yield (
            item.name,
            "" if item.before is None else code(item.before, table=True, limit=page.room.value),
            "" if item.after is None else code(item.after, table=True, limit=page.room.value),
        )


def _cell(page: Page, value: Any, path: Sequence[str]) -> str:
    return code(phrases.value_text(value, path), table=True, limit=page.room.value)
