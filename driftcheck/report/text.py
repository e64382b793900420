"""The report for a terminal: what breaks and what to type first, then the rest, counted.

Its own words are ASCII, so that it can be read wherever it is printed; what it quotes is cleaned. Without
colour it is the same text. Of rich only styles and cell widths are used: a Console costs 0.1 s to import.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from driftcheck.findings import Confidence, Finding, Fix, Impact
from driftcheck.report import phrases
from driftcheck.report.cleaning import ascii_only, line, lines, prose
from driftcheck.report.phrases import Told
from driftcheck.report.summary import titles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from driftcheck.diff import Change
    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Environment, Expected, Report, Suppressed, Target
    from driftcheck.report.phrases import Group, Item

DEFAULT_WIDTH = 80
_NARROWEST = 40
_WIDEST = 120  # longer lines are hard to read

# How much is told without --all.
_IN_FULL = 20  # findings
_IN_ONE_LINE = 100  # findings after those
_INDEXED = 12
_INDEXED_EFFECTS = 3
_NOTES = 12
_EVIDENCE = 6
_EXPLAINED = 6
_ENTRIES = 8  # of a list of gaps, problems, rules
_EXAMPLES = 6
_PACKAGES = 12

_STYLES = {
    Impact.BREAKS: "bold red",
    Impact.CHANGES_RESULTS: "bold yellow",
    Impact.SLOWS: "bold magenta",
    Impact.NOTE: "cyan",
}
_TONES = {"bad": "bold red", "doubt": "bold yellow", "good": "bold green"}

Span = tuple[str, str]  # text and style


def render(report: Report, options: RenderOptions) -> str:
    """The format ``text``."""
    page = _Page(options)
    baseline, names = phrases.names(report)
    _head(page, report, baseline, names)
    if len(names) > 1:
        _verdicts(page, report, names)
    for target, name in zip(report.targets, names, strict=True):
        if len(names) > 1:
            page.heading(name)
        _target(page, report, target, name)
    _notices(page, report)
    if page.hint:
        page.gap()
        page.add(page.hint)
    return page.text()


class _Page:
    """Lines in the making. Spans are ``(text, style)``; wrapping counts the cells of a terminal."""

    def __init__(self, options: RenderOptions) -> None:
        self.all = options.all
        self.width = min(max(options.width or DEFAULT_WIDTH, _NARROWEST), _WIDEST)
        self._paint: Callable[[str, str], str] = _painted if options.color else _unpainted
        self._clean: Callable[[str], str] = str if options.unicode else ascii_only
        self._lines: list[str] = []
        self.hint = ""  # said once, at the end

    def text(self) -> str:
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "\n".join(self._lines) + "\n"

    def add(self, *spans: str | Span) -> None:
        """One line, never wrapped: what people copy."""
        pairs = [(span, "") if isinstance(span, str) else span for span in spans]
        self._lines.append("".join(self._paint(self._clean(text), style) for text, style in pairs).rstrip())

    def gap(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, text: str, style: str = "bold") -> None:
        self.gap()
        self.wrapped(text, style=style)

    def wrapped(self, text: str, first: Sequence[Span] = (), indent: int = 0, style: str = "") -> None:
        """Text after the spans of its first line; the lines that follow are indented."""
        text = self._clean(text)
        start = sum(cells(span) for span, _ in first)
        rows = wrap(text, self.width - start, self.width - indent)
        self.add(*first, (rows[0], style))
        for row in rows[1:]:
            self.add(" " * indent, (row, style))

    def fitted(self, text: str, width: int) -> str:
        return fit(self._clean(text), width)


def _unpainted(text: str, style: str) -> str:
    del style
    return text


def _painted(text: str, style: str) -> str:
    return _style(style)(text) if style and text else text


@functools.cache
def _style(style: str) -> Callable[[str], str]:
    from rich.color import ColorSystem  # noqa: PLC0415 - nothing of rich without colour
    from rich.style import Style  # noqa: PLC0415

    parsed = Style.parse(style)
    return lambda text: parsed.render(text, color_system=ColorSystem.STANDARD)


def cells(text: str) -> int:
    """Columns that a text takes in a terminal; a Chinese sign takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - rarely needed

    return cell_len(text)


def wrap(text: str, first: int, others: int) -> list[str]:
    """Lines of at most these widths, broken at spaces alone: a path or a name is never taken apart."""
    rows: list[str] = []
    row, used, width = "", 0, first
    for word in text.split(" "):
        size = cells(word)
        if row and used + 1 + size > width:
            rows.append(row)
            row, used, width = word, size, others
        else:
            row, used = (f"{row} {word}", used + 1 + size) if row else (word, size)
    return [*rows, row]


def fit(text: str, width: int) -> str:
    """The text, cut at its end to this width where it is longer."""
    if cells(text) <= width:
        return text
    kept = text[: max(width - 3, 1)]
    while len(kept) > 1 and cells(kept) > width - 3:
        kept = kept[:-1]
    return kept.rstrip() + "..."


def _pad(text: str, width: int) -> str:
    return text + " " * max(width - cells(text), 0)


def _head(page: _Page, report: Report, baseline: str, names: Sequence[str]) -> None:
    sides = [("baseline", baseline, report.baseline)] if report.baseline else []
    word = "target" if report.baseline else "environment"
    sides += [(word, name, target.environment) for name, target in zip(names, report.targets, strict=True)]
    label_width = min(max((cells(label) for _, label, _ in sides), default=0), 28)
    word_width = max((len(word) for word, _, _ in sides), default=0)
    for word, label, environment in sides:
        shown = page.fitted(label, label_width)
        room = page.width - word_width - label_width - 4
        page.add(
            (_pad(word, word_width), "dim"),
            "  ",
            (_pad(shown, label_width), "bold"),
            "  ",
            _interpreter(page, environment, room),
        )


def _interpreter(page: _Page, environment: Environment, room: int) -> str:
    """``Python 3.11.7 (cpython, venv)  .../.venv/bin/python``: the end of a path tells most."""
    interpreter = environment.header["interpreter"]
    python = page.fitted("Python " + line(environment.summary.get("Python") or interpreter["version"], 40), room)
    room -= cells(python) + 2
    path = line(interpreter["path"], 120)
    if cells(path) > room:
        parts = path.split("/")
        tails = [".../" + "/".join(parts[start:]) for start in range(1, len(parts))]
        path = next((tail for tail in tails if cells(tail) <= room), "")
    return f"{python}  {path}" if path else python


def _target(page: _Page, report: Report, target: Target, name: str) -> None:
    _verdict(page, report, target, name)
    _error(page, target)
    _findings(page, report, target)
    _known(page, target)
    _unmeasured(page, report, target)
    _problems(page, target)
    _not_judged(page, target)
    if report.baseline is None:
        _environment(page, target.environment)
    else:
        _drift(page, report, target)
    _expected(page, target)


def _verdicts(page: _Page, report: Report, names: Sequence[str]) -> None:
    page.gap()
    for target, name in zip(report.targets, names, strict=True):
        verdict = phrases.verdict(report, target, name)
        page.wrapped(verdict.text, [("  ", "")], indent=4, style=_TONES[verdict.tone])


def _verdict(page: _Page, report: Report, target: Target, name: str) -> None:
    verdict = phrases.verdict(report, target, name)
    page.gap()
    page.wrapped(verdict.text, style=_TONES[verdict.tone])
    if verdict.counts:
        page.wrapped(f"Besides: {', '.join(verdict.counts)}.")
    if target.environment.assumptions:
        page.wrapped(prose(" ".join(target.environment.assumptions)), [("Assumed", "dim"), ("  ", "")], indent=4)


def _error(page: _Page, target: Target) -> None:
    """What the user came with, before anything else."""
    said = phrases.error_answered(target)
    if not said or target.error is None:
        return
    page.gap()
    page.wrapped(said, style="bold")
    if target.error.text:
        page.add("      ", (line(target.error.text, 1000), "red"))


def _findings(page: _Page, report: Report, target: Target) -> None:
    new = [finding for finding in target.explanation.findings if not finding.also_in_baseline]
    told: list[Told] = []
    notes: list[Told] = []
    for group in phrases.told(new):
        answers = any(phrases.answers(target, finding) for finding in (group.finding, *group.effects))
        (told if page.all or answers or group.impact is not Impact.NOTE else notes).append(group)
    if sum(1 + len(group.effects) for group in told) > 2:
        _index(page, told)
    shown = told if page.all else told[:_IN_FULL]
    for group in shown:
        _group(page, report, target, group)
    rest = [finding for group in told[len(shown) :] for finding in (group.finding, *group.effects)]
    if rest:
        page.heading(f"{phrases.count(len(rest), 'more finding')} (--all tells them in full)")
        _one_line_each(page, rest, _IN_ONE_LINE)
    causes = [group for group in notes if group.is_cause]
    if causes:
        page.heading(f"Causes ({len(causes):,})")
        for group in causes:
            code = line(group.finding.code, 12)
            page.wrapped(prose(group.finding.title, 300), [("  ", ""), (code, "bold"), ("  ", "")], indent=6)
            _explains(page, group.finding, "      ")
            _effects(page, group, "      ")
    notes = [group for group in notes if not group.is_cause]
    if notes:
        page.heading(f"Notes ({len(notes):,})")
        _one_line_each(page, [group.finding for group in notes], _NOTES)


def _index(page: _Page, groups: Sequence[Told]) -> None:
    """The first screen shows every title; what each means follows."""
    page.gap()
    rows: list[tuple[str, str, Finding]] = []
    told = 0
    for group in groups:
        worse = [one for one in group.effects if one.impact is not Impact.NOTE]
        told += 1 + len(worse)
        rows.append(("", group.word, group.finding))
        # A hundred effects of one cause leave room for the next cause.
        rows += [("  ", phrases.IMPACT_WORDS[one.impact], one) for one in worse[:_INDEXED_EFFECTS]]
    shown = rows[:_INDEXED]
    width = max(len(word) for _, word, _ in shown)
    for margin, word, finding in shown:
        code = line(finding.code, 12)
        start = f"  {_pad(word.upper(), width)}  {margin}"
        title = page.fitted(prose(finding.title, 300), page.width - len(start) - cells(code) - 2)
        page.add((start, _STYLES[finding.impact]), (code, "bold"), "  ", title)
    if told > len(shown):
        page.add(f"  ... and {told - len(shown):,} more below")


def _group(page: _Page, report: Report, target: Target, group: Told) -> None:
    """A finding in full, and what follows from it: in short, unless all is asked for or it is the error at hand."""
    _finding(page, report, group.finding, group.word)
    in_full = [one for one in group.effects if page.all or phrases.answers(target, one)]
    in_short = [] if page.all else [one for one in group.effects if not phrases.answers(target, one)]
    _effects(page, Told(group.finding, tuple(in_short)), "  ")
    for effect in in_full:
        _finding(page, report, effect)


def _effects(page: _Page, group: Told, margin: str) -> None:
    """Findings below their cause: each by its title, with what one would see where that is another thing."""
    if not group.effects:
        return
    page.add(margin, ("Causes", "dim"), f"  {phrases.count(len(group.effects), 'finding')}")
    margin += "    "
    worse = [one for one in group.effects if one.impact is not Impact.NOTE]
    shown = worse[:_IN_ONE_LINE]
    said = {group.finding.predicted_error, None}
    mended = phrases.first_command(group.finding) is not None
    for one in shown:
        impact = phrases.IMPACT_WORDS[one.impact].upper()
        code = line(one.code, 12)
        room = page.width - len(margin) - len(impact) - cells(code) - 4
        title = page.fitted(prose(one.title, 300) + _sure(one), max(room, 20))
        page.add(margin, (impact, _STYLES[one.impact]), "  ", (code, "bold"), "  ", title)
        if one.predicted_error not in said:
            page.add(margin, "    ", (lines(one.predicted_error or "", 1)[0], "red"))
        command = phrases.first_command(one)
        if command is not None and not mended:
            page.add(margin, "    ", (lines(command, 1)[0], "green"))
        said.add(one.predicted_error)
    if len(worse) > len(shown):
        page.add(f"{margin}... and {len(worse) - len(shown):,} more (--all)")
    if len(group.effects) > len(worse):
        page.add(f"{margin}{phrases.count(len(group.effects) - len(worse), 'note')} (--all)")


def _sure(finding: Finding) -> str:
    return "" if finding.confidence is Confidence.CERTAIN else f" ({finding.confidence.value})"


def _one_line_each(page: _Page, findings: Sequence[Finding], limit: int) -> None:
    shown = findings if page.all else findings[:limit]
    for finding in shown:
        code = line(finding.code, 12)
        title = page.fitted(prose(finding.title, 300), page.width - cells(code) - 4)
        page.add("  ", (code, "bold" if finding.impact is Impact.BREAKS else ""), "  ", title)
    if len(findings) > len(shown):
        page.add(f"  ... and {len(findings) - len(shown):,} more (--all)")


def _finding(page: _Page, report: Report, finding: Finding, word: str | None = None) -> None:
    page.gap()
    impact = (word or phrases.IMPACT_WORDS[finding.impact]).upper()
    code = line(finding.code, 12)
    sure = _sure(finding)
    page.wrapped(
        prose(finding.title, 300) + sure,
        [(impact, _STYLES[finding.impact]), ("  ", ""), (code, "bold"), ("  ", "")],
        indent=4,
        style="bold",
    )
    if finding.predicted_error:
        page.add("  ", ("You would see", "dim") if sure == "" else ("You would probably see", "dim"))
        for row in lines(finding.predicted_error):
            page.add("      ", (row, "red"))
    _fixes(page, finding.fix)
    if finding.explanation:
        page.wrapped(prose(finding.explanation), [("  ", ""), ("Why", "dim"), ("  ", "")], indent=6)
    if finding.reach:
        page.wrapped(prose(finding.reach, 300), [("  ", ""), ("Installed", "dim"), ("  ", "")], indent=6)
    _evidence(page, report, finding)
    _explains(page, finding)
    if page.all:
        for reference in finding.references:
            page.add("  ", ("See", "dim"), "  ", line(reference, 300))


def _evidence(page: _Page, report: Report, finding: Finding) -> None:
    """Both sides beside each other where they fit, below each other where they do not."""
    rows = phrases.evidence_rows(finding.evidence)
    if not rows:
        return
    limit = 2000 if page.all else 160
    shown = [
        (path, {side: line(value, limit) for side, value in sides.items()})
        for path, sides in (rows if page.all else rows[:_EVIDENCE])
    ]
    sides = [side for side in ("baseline", "target") if any(side in values for _, values in shown)]
    widths = [max(len(side), *(cells(values.get(side, "")) for _, values in shown)) for side in sides]
    first = max(len("Evidence") - 4, *(cells(path) for path, _ in shown))
    if 6 + first + sum(width + 2 for width in widths) <= page.width:
        heads = [_pad(side, width) for side, width in zip(sides, widths, strict=True)] if report.baseline else []
        page.add("  ", (_pad("Evidence", first + 4), "dim"), "  ", ("  ".join(heads), "dim"))
        for path, values in shown:
            cells_ = [_pad(values.get(side, ""), width) for side, width in zip(sides, widths, strict=True)]
            page.add("      ", _pad(path, first), "  ", "  ".join(cells_))
    else:
        page.add("  ", ("Evidence", "dim"))
        for path, values in shown:
            page.wrapped(path, [("      ", "")], indent=8)
            for side in sides:
                if side in values:
                    mark = (
                        [("        ", ""), (_pad(side, 8), "dim"), ("  ", "")]
                        if report.baseline
                        else [("        ", "")]
                    )
                    page.wrapped(values[side], mark, indent=18 if report.baseline else 8)
    if len(rows) > len(shown):
        page.add(f"      ... and {phrases.count(len(rows) - len(shown), 'more fact')} (--all)")


def _fixes(page: _Page, fixes: Sequence[Fix]) -> None:
    commands = [fix for fix in fixes if fix.kind != "advice"]
    said = ""
    for fix in commands:
        word = phrases.FIX_WORDS.get(fix.kind, "Type")
        if word != said:
            page.add("  ", (word, "dim"))
            said = word
        for row in lines(fix.text, 40):
            page.add("      ", (row, "green"))
    for fix in fixes:
        if fix.kind == "advice":
            word = "Mind" if commands else "Do"
            page.wrapped(prose(fix.text), [("  ", ""), (word, "dim"), ("  ", "")], indent=6)


def _explains(page: _Page, finding: Finding, margin: str = "  ") -> None:
    if finding.folds:
        named = phrases.folded(finding, len(finding.folds) if page.all else _EXPLAINED)
        number = phrases.count(len(finding.folds), "change")
        start = [(margin, ""), ("Explains", "dim"), (" ", "")]
        page.wrapped(f"{number}: {', '.join(named)}", start, indent=len(margin) + 4)


def _known(page: _Page, target: Target) -> None:
    known = [finding for finding in target.explanation.findings if finding.also_in_baseline]
    if known:
        page.heading(f"Also in the baseline, which works ({len(known):,})")
        _one_line_each(page, known, _ENTRIES)


def _unmeasured(page: _Page, report: Report, target: Target) -> None:
    entries = phrases.not_compared(report, target)
    if not entries:
        return
    page.heading("Not compared: neither equal nor different" if report.baseline else "Not measured")
    width = max(cells(line(entry.section, 30)) for entry in entries)
    for entry in entries:
        side = f"{line(entry.status, 20)} in the {entry.side}: " if report.baseline else ""
        start = [("  ", ""), (_pad(line(entry.section, 30), width), "bold"), ("  ", "")]
        page.wrapped(side + prose(entry.reason, 300), start, indent=width + 4)


def _problems(page: _Page, target: Target) -> None:
    problems = target.environment.problems
    if problems:
        page.heading(f"Could not be read ({len(problems):,})")
        shown = problems if page.all else problems[:_ENTRIES]
        for section, where, reason in shown:
            start = [("  ", ""), (line(section, 30), "bold"), ("  ", "")]
            page.wrapped(f"{line(where, 120)}: {prose(reason, 300)}", start, indent=6)
        if len(problems) > len(shown):
            page.add(f"  ... and {len(problems) - len(shown):,} more (--all)")


def _not_judged(page: _Page, target: Target) -> None:
    entries = target.explanation.not_judged
    faults = [entry for entry in entries if entry.fault]
    rest = [entry for entry in entries if not entry.fault]
    if faults:
        page.heading("Rules that failed: a fault of driftcheck, please report it", "bold yellow")
        for entry in faults:
            page.wrapped(prose(entry.reason, 300), [("  ", ""), (line(entry.code, 12), "bold"), ("  ", "")], indent=6)
    if rest and page.all:
        page.heading(f"Rules not judged ({len(rest):,})")
        for entry in rest:
            start = [("  ", ""), (f"{line(entry.code, 12)} {line(entry.name, 60)}", "bold"), ("  ", "")]
            page.wrapped(prose(entry.reason, 300), start, indent=6)
    elif rest:
        page.gap()
        page.wrapped(f"{phrases.count(len(rest), 'rule')} could not be judged for lack of facts (--all lists them).")


def _expected(page: _Page, target: Target) -> None:
    """What the policy took out; with --all each of it, and why."""
    taken = phrases.expected(target)
    if not taken:
        return
    if not page.all:
        page.gap()
        page.wrapped(f"The policy expects {taken} (--all shows them).")
        return
    page.heading(f"Expected by the policy: {taken}")
    for suppressed in target.suppressed:
        code = line(suppressed.finding.code, 12)
        page.wrapped(prose(suppressed.finding.title, 300), [("  ", ""), (code, "bold"), ("  ", "")], indent=6)
        _because(page, suppressed)
    for expected in target.expected:
        for change in expected.changes:
            _fact(page, change, "  ")
        _because(page, expected)


def _because(page: _Page, entry: Suppressed | Expected) -> None:
    page.wrapped(prose(phrases.why_expected(entry), 2500), [("      ", ""), ("Why", "dim"), ("  ", "")], indent=11)


def _notices(page: _Page, report: Report) -> None:
    """What the policy says of itself."""
    notices = report.notices if page.all else report.notices[:_ENTRIES]
    if notices:
        page.heading("The policy")
        for notice in notices:
            page.wrapped(prose(notice, 2500 if page.all else 300), [("  ", "")], indent=4)
        if len(report.notices) > len(notices):
            page.add(f"  ... and {len(report.notices) - len(notices):,} more (--all)")


def _environment(page: _Page, environment: Environment) -> None:
    found = titles([environment.summary])
    if found:
        page.heading("The environment")
        width = min(max(cells(line(title, 40)) for title in found), 40)
        for title in found:
            start = [("  ", ""), (_pad(line(title, 40), width), "dim"), ("  ", "")]
            page.wrapped(line(environment.summary[title]), start, indent=width + 4)


def _drift(page: _Page, report: Report, target: Target) -> None:
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


def _examples(page: _Page, items: Sequence[Item]) -> None:
    names = [page.fitted(line(item.name, 100), 40) for item in items]
    width = max((cells(name) for name in names if cells(name) <= 30), default=0)
    befores = [line(item.before, 80) for item in items if item.kind == "changed" and item.before is not None]
    column = max((cells(before) for before in befores if cells(before) <= 16), default=0)
    for name, item in zip(names, items, strict=True):
        start = f"    {_pad(name, width)}  "
        detail = page.fitted(line(_detail(item, column), 300), max(page.width - cells(start), 20))
        page.add(start, detail)


def _detail(item: Item, column: int) -> str:
    """How it differs; the arrows of a list stand below each other."""
    if item.kind == "changed" and item.before is not None:
        before, _, after = item.detail.partition(" -> ")
        return f"{_pad(before, column)} -> {after}"
    side = {"added": "only in the target", "removed": "only in the baseline"}.get(item.kind)
    if side is None:
        return item.detail
    return side if item.detail == "yes" else f"{side}: {item.detail}"


def _facts(page: _Page, group: Group) -> None:
    for change in _changes(group.items):
        _fact(page, change, "    ")


def _fact(page: _Page, change: Change, margin: str) -> None:
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
