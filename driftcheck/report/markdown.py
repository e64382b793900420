"""The report for a ticket or a pull request: GitHub Flavored Markdown that fits into one comment.

Trackers refuse more than 65,536 characters. What matters least is shortened first, step by step, until the
rest fits; the end of the report says what was left out. A finding that breaks keeps at least its line.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from driftcheck.findings import Confidence, Finding, Fix, Impact
from driftcheck.report import phrases
from driftcheck.report.cleaning import block, code, markdown
from driftcheck.report.summary import titles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Environment, Expected, Report, Suppressed, Target

LIMIT = 65_536  # in bytes of UTF-8, which are never fewer than characters

_Entry = TypeVar("_Entry")

_LANGUAGES = {"pip": "sh", "apt": "sh", "docker-run": "sh", "variable": "sh", "dockerfile": "dockerfile"}


@dataclass(frozen=True)
class _Room:
    """How much of each kind is told. ``*_full`` findings in full, ``*_lines`` more in one line each."""

    drift: int = 50  # things of each group
    lists: int = 50  # problems, rules not judged, findings of the baseline, sections
    notes: int = 100
    slows_full: int = 100
    slows_lines: int = 100
    changes_full: int = 100
    changes_lines: int = 100
    breaks_full: int = 1_000_000
    breaks_lines: int = 1_000_000
    evidence: int = 12
    value: int = 300
    prose: int = 1500
    title: int = 300
    rows: int = 60  # of the table of environments
    columns: int = 8


def _steps(options: RenderOptions) -> Iterator[_Room]:
    """Ever less, the least important first."""
    everything = 1_000_000
    room = _Room()
    if options.all:
        room = replace(
            room,
            drift=everything,
            lists=everything,
            notes=everything,
            slows_full=everything,
            changes_full=everything,
            evidence=everything,
            value=2000,
        )
    yield room
    for less in (
        {"drift": 50, "value": 300},
        {"drift": 20},
        {"drift": 6},
        {"drift": 0, "lists": 20},
        {"lists": 5, "notes": 50},
        {"notes": 10},
        {"notes": 0},
        {"slows_full": 10, "evidence": 12},
        {"slows_full": 0, "slows_lines": 50},
        {"slows_lines": 0},
        {"changes_full": 20},
        {"changes_full": 0, "changes_lines": 50},
        {"changes_lines": 0},
        {"evidence": 6, "value": 120},
        {"evidence": 3, "value": 60, "rows": 20},
        {"evidence": 1, "prose": 300},
        {"evidence": 0, "prose": 150, "title": 120},
        {"breaks_full": 30, "columns": 3},
        {"breaks_full": 10, "title": 60},
        {"breaks_full": 3},
        {"breaks_full": 0},
        {"breaks_lines": 100},
    ):
        room = replace(room, **less)
        yield room


def render(report: Report, options: RenderOptions) -> str:
    """The format ``markdown``."""
    rooms = list(_steps(options))
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
    page = _Page(rooms[-1], options.all, endless=True)
    _report(page, report)
    return page.cut()


def _attempt(report: Report, room: _Room, options: RenderOptions) -> str | None:
    """The report with so much room for each kind; None where that is more than a tracker takes."""
    page = _Page(room, options.all)
    try:
        _report(page, report)
    except _FullError:
        return None
    text = page.text()
    return text if _size(text) <= LIMIT else None


class _FullError(Exception):
    """There is more on a page than fits: no need to go on with it."""


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


@dataclass
class _Page:
    """Blocks, each complete in itself, and what did not find room."""

    room: _Room
    all: bool
    blocks: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    footer: str = ""
    endless: bool = False
    size: int = 0

    def add(self, text: str) -> None:
        self.blocks.append(text)
        self.size += _size(text) + 2
        if self.size > LIMIT and not self.endless:
            raise _FullError

    def fold(self, title: str, blocks: Iterable[str]) -> None:
        """Blocks under a title that a reader opens. The title is our own words and numbers."""
        inner = "\n\n".join(blocks)
        self.add(f"<details>\n<summary>{title}</summary>\n\n{inner}\n\n</details>")

    def some(self, entries: Sequence[_Entry], limit: int, what: str) -> Sequence[_Entry]:
        """As many as there is room for; the rest is counted at the end."""
        if len(entries) > limit:
            self.leave_out(len(entries) - limit, what)
        return entries[:limit]

    def leave_out(self, number: int, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + number

    def text(self) -> str:
        return "\n\n".join([*self.blocks, *self._left_out(), self.footer]) + "\n"

    def cut(self) -> str:
        """The last resort: whole blocks from the beginning, as many as fit."""
        end = f"**The report is longer than a tracker takes: the rest was left out.** {_ELSEWHERE}\n"
        kept: list[str] = []
        size = _size(end)
        for text in self.blocks:
            size += _size(text) + 2
            if size > LIMIT:
                break
            kept.append(text)
        return "\n\n".join([*kept, end])

    def _left_out(self) -> list[str]:
        if not self.left_out:
            return []
        entries = [f"{number:,} {what}" for what, number in self.left_out.items()]
        shown = ", ".join(entries[:40]) + (" and more" if len(entries) > 40 else "")
        return [f"Left out to keep this short: {shown}. {_ELSEWHERE}"]


_ELSEWHERE = "`--format json` has everything."


def _report(page: _Page, report: Report) -> None:
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


def _target(page: _Page, report: Report, target: Target) -> None:
    if target.environment.assumptions:
        page.add(f"Assumed: {markdown(' '.join(target.environment.assumptions), limit=page.room.prose)}")
    _error(page, target)
    _findings(page, target)
    _gaps(page, report, target)
    if len(report.targets) == 1:
        _environments(page, report)
    known = [finding for finding in target.explanation.findings if finding.also_in_baseline]
    if known:
        shown = page.some(known, page.room.lists, "findings that the baseline has too")
        title = f"Also in the baseline, which works: {phrases.count(len(known), 'finding')}"
        page.fold(title, ["\n".join(_one_line(page, finding) for finding in shown)])
    _problems(page, target)
    _not_judged(page, target)
    if report.baseline is not None:
        _drift(page, report, target)
    _expected(page, target)


def _environments(page: _Page, report: Report) -> None:
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


def _error(page: _Page, target: Target) -> None:
    """What the user came with, before anything else."""
    said = phrases.error_answered(target, functools.partial(code, limit=100))
    if said and target.error is not None:
        shown = f"\n\n{block(target.error.text, 'text', limit=1)}" if target.error.text else ""
        page.add(f"**{said}**{shown}")


def _findings(page: _Page, target: Target) -> None:
    room = page.room
    groups = phrases.told([finding for finding in target.explanation.findings if not finding.also_in_baseline])
    answering = [
        group for group in groups if any(phrases.answers(target, one) for one in (group.finding, *group.effects))
    ]
    for group in answering:
        _group(page, target, group)
    groups = [group for group in groups if group not in answering]
    of_impact = {impact: [group for group in groups if group.impact is impact] for impact in Impact}
    for impact, full, more in (
        (Impact.BREAKS, room.breaks_full, room.breaks_lines),
        (Impact.CHANGES_RESULTS, room.changes_full, room.changes_lines),
        (Impact.SLOWS, room.slows_full, room.slows_lines),
    ):
        found = of_impact[impact]
        for group in found[:full]:
            _group(page, target, group)
        rest = [finding for group in found[full:] for finding in (group.finding, *group.effects)]
        if rest:
            shown = rest[:more]
            word = phrases.IMPACT_WORDS[impact]
            heading = f"### {phrases.count(len(rest), 'finding')} in short: {word}"
            page.add("\n".join([heading, "", *(_one_line(page, finding) for finding in shown), *_by_code(rest[more:])]))
            page.leave_out(len(rest), f"full accounts of findings ({word})")
    notes = of_impact[Impact.NOTE]
    causes = [group for group in notes if group.is_cause]
    if causes[: room.notes]:
        explained = [
            f"{_one_line(page, group.finding)}: explains {_explained(group.finding, len(group.effects))}"
            for group in causes[: room.notes]
        ]
        page.add("\n".join(["### Causes", "", *explained]))
    alone = [finding for group in notes if not group.is_cause for finding in (group.finding, *group.effects)]
    alone += [finding for group in causes for finding in group.effects]
    if alone:
        told = page.some(alone, room.notes, "notes")
        inner = "\n".join([*(_one_line(page, finding) for finding in told), *_by_code(alone[len(told) :])])
        page.fold(phrases.count(len(alone), "note"), [inner])


def _group(page: _Page, target: Target, group: phrases.Told) -> None:
    """A finding in full, and what follows from it: in short, unless all is asked for or it is the error at hand."""
    in_full = [one for one in group.effects if page.all or phrases.answers(target, one)]
    in_short = [] if page.all else [one for one in group.effects if not phrases.answers(target, one)]
    _finding(page, group.finding, group.word, _effects(page, group.finding, in_short))
    for effect in in_full:
        _finding(page, effect, phrases.IMPACT_WORDS[effect.impact])


def _effects(page: _Page, cause: Finding, effects: Sequence[Finding]) -> str:
    """Findings below their cause: each by its title, with what one would see where that is another thing."""
    if not effects:
        return ""
    worse = [one for one in effects if one.impact is not Impact.NOTE]
    rows = [f"Causes {phrases.count(len(effects), 'finding')}:", ""]
    said = {cause.predicted_error, None}
    mended = phrases.first_command(cause) is not None
    for one in [*worse, *page.some([one for one in effects if one.impact is Impact.NOTE], page.room.notes, "notes")]:
        row = _one_line(page, one).replace("- ", f"- {phrases.IMPACT_WORDS[one.impact].upper()} ", 1)
        command = phrases.first_command(one)
        if one.predicted_error not in said:
            row += f": {code((one.predicted_error or '').strip().partition(chr(10))[0])}"
        if command is not None and not mended and one.impact is not Impact.NOTE:
            row += f"; {phrases.FIX_WORDS.get(one.fix[0].kind, 'type').lower()} {code(command)}"
        said.add(one.predicted_error)
        rows.append(row)
    return "\n".join(rows)


def _explained(finding: Finding, effects: int = 0) -> str:
    more = f" and {phrases.count(effects, 'finding')}" if effects else ""
    listed = ", ".join(code(name, limit=60) for name in phrases.folded(finding, 8))
    return f"{phrases.count(len(finding.folds), 'change')}{f' ({listed})' if listed else ''}{more}"


def _by_code(findings: Sequence[Finding]) -> Iterator[str]:
    """What has no line of its own is counted, code by code."""
    numbers: dict[str, int] = {}
    for finding in findings:
        numbers[finding.code] = numbers.get(finding.code, 0) + 1
    for index, (name, number) in enumerate(numbers.items()):
        if index == 20:
            yield f"- and {sum(list(numbers.values())[20:]):,} more of other codes"
            return
        yield f"- {code(name, limit=12)}: {number:,} more"


def _one_line(page: _Page, finding: Finding) -> str:
    return f"- {code(finding.code, limit=12)} {markdown(finding.title, limit=page.room.title)}{_sure(finding)}"


def _sure(finding: Finding) -> str:
    return "" if finding.confidence is Confidence.CERTAIN else f" ({finding.confidence.value})"


def _finding(page: _Page, finding: Finding, word: str, effects: str = "") -> None:
    impact = word.upper()
    title = markdown(finding.title, limit=page.room.title)
    parts = [f"### {impact} {code(finding.code, limit=12)} {title}{_sure(finding)}"]
    if finding.predicted_error:
        likely = "" if finding.confidence is Confidence.CERTAIN else "probably "
        parts.append(f"What one would {likely}see:\n\n" + block(finding.predicted_error, "text", limit=6))
    parts += _fixes(finding.fix)
    if finding.explanation:
        parts.append(markdown(finding.explanation, limit=page.room.prose))
    evidence = _evidence(page, finding)
    if evidence:
        parts.append(evidence)
    if finding.reach:
        parts.append(f"Installed: {markdown(finding.reach, limit=300)}")
    if finding.folds:
        parts.append(f"Explains {_explained(finding)}")
    if effects:
        parts.append(effects)
    if finding.references:
        parts.append("See " + ", ".join(code(reference) for reference in finding.references[:5]))
    page.add("\n\n".join(parts))


def _evidence(page: _Page, finding: Finding) -> str:
    rows = phrases.evidence_rows(finding.evidence)
    shown = page.some(rows, page.room.evidence, "facts of evidence") if rows else []
    if not shown:
        return ""
    sides = [side for side in ("baseline", "target") if any(side in values for _, values in shown)]
    table = [["evidence", *sides], ["---"] * (len(sides) + 1)]
    for path, values in shown:
        cells = [code(values[side], table=True, limit=page.room.value) if side in values else "" for side in sides]
        table.append([code(path, table=True), *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def _fixes(fixes: Sequence[Fix]) -> Iterator[str]:
    for fix in fixes:
        if fix.kind == "advice":
            yield markdown(fix.text)
        else:
            yield f"{phrases.FIX_WORDS.get(fix.kind, 'Type')}:\n\n" + block(
                fix.text, _LANGUAGES.get(fix.kind, ""), limit=40
            )


def _gaps(page: _Page, report: Report, target: Target) -> None:
    entries = phrases.not_compared(report, target)
    if entries:
        rows = []
        for entry in page.some(entries, page.room.lists, "sections that were not compared"):
            side = f"{markdown(entry.status, limit=20)} in the {entry.side}: " if report.baseline else ""
            rows.append(f"- {code(entry.section, limit=40)} {side}{markdown(entry.reason, limit=300)}")
        title = "Not compared, so neither equal nor different:" if report.baseline else "Not measured:"
        page.add("\n".join([title, "", *rows]))


def _problems(page: _Page, target: Target) -> None:
    problems = target.environment.problems
    if problems:
        shown = page.some(problems, page.room.lists, "places that could not be read")
        rows = [
            f"- {code(section, limit=40)} {code(where)}: {markdown(reason, limit=300)}"
            for section, where, reason in shown
        ]
        page.fold(f"Could not be read: {phrases.count(len(problems), 'place')}", ["\n".join(rows)])


def _not_judged(page: _Page, target: Target) -> None:
    entries = sorted(target.explanation.not_judged, key=lambda entry: not entry.fault)
    if entries:
        rows = [
            f"- {code(entry.code, limit=12)} {code(entry.name, limit=60)}"
            f"{' failed, a fault of driftcheck' if entry.fault else ''}: {markdown(entry.reason, limit=300)}"
            for entry in page.some(entries, page.room.lists, "rules that could not be judged")
        ]
        page.fold(f"Not judged: {phrases.count(len(entries), 'rule')}", ["\n".join(rows)])


def _expected(page: _Page, target: Target) -> None:
    """What the policy took out, and why; the changes themselves only where everything is told."""
    taken = phrases.expected(target)
    if not taken:
        return
    rows = [
        f"{_one_line(page, entry.finding)}: {_because(page, entry)}"
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


def _because(page: _Page, entry: Suppressed | Expected) -> str:
    return markdown(phrases.why_expected(entry), limit=page.room.prose)


def _notices(page: _Page, report: Report) -> None:
    if report.notices:
        shown = page.some(report.notices, page.room.lists, "notices of the policy")
        page.add("\n".join(["The policy:", "", *(f"- {markdown(notice, limit=300)}" for notice in shown)]))


def _drift(page: _Page, report: Report, target: Target) -> None:
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


def _table(page: _Page, items: Sequence[phrases.Item]) -> Iterator[str]:
    if not items:
        return
    yield ""
    yield "| | baseline | target |"
    yield "| --- | --- | --- |"
    for item in items:
        for name, before, after in _rows(page, item):
            yield f"| {code(name, table=True, limit=100)} | {before} | {after} |"


def _rows(page: _Page, item: phrases.Item) -> Iterator[tuple[str, str, str]]:
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


def _cell(page: _Page, value: Any, path: Sequence[str]) -> str:
    return code(phrases.value_text(value, path), table=True, limit=page.room.value)
