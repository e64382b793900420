"""Findings in the report for a terminal: an index, what breaks in full, the rest in a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftcheck.findings import Finding, Fix, Impact
from driftcheck.report import phrases
from driftcheck.report.cleaning import line, lines, prose
from driftcheck.report.phrases import Told
from driftcheck.report.text_page import Page, cells, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.report.model import Report, Target

# How much is told without --all.
_IN_FULL = 20  # findings
_IN_ONE_LINE = 100  # findings after those
_INDEXED = 12
_INDEXED_EFFECTS = 3
_NOTES = 12
_EVIDENCE = 6
_EXPLAINED = 6

_STYLES = {
    Impact.BREAKS: "bold red",
    Impact.CHANGES_RESULTS: "bold yellow",
    Impact.SLOWS: "bold magenta",
    Impact.NOTE: "cyan",
}


def add_findings(page: Page, report: Report, target: Target) -> None:
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
        one_line_each(page, rest, _IN_ONE_LINE)
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
        one_line_each(page, [group.finding for group in notes], _NOTES)


def _index(page: Page, groups: Sequence[Told]) -> None:
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
        start = f"  {pad(word.upper(), width)}  {margin}"
        title = page.fitted(prose(finding.title, 300), page.width - len(start) - cells(code) - 2)
        page.add((start, _STYLES[finding.impact]), (code, "bold"), "  ", title)
    if told > len(shown):
        page.add(f"  ... and {told - len(shown):,} more below")


def _group(page: Page, report: Report, target: Target, group: Told) -> None:
    """A finding in full, and what follows from it: in short, unless all is asked for or it is the error at hand."""
    _finding(page, report, group.finding, group.word)
    in_full = [one for one in group.effects if page.all or phrases.answers(target, one)]
    in_short = [] if page.all else [one for one in group.effects if not phrases.answers(target, one)]
    _effects(page, Told(group.finding, tuple(in_short)), "  ")
    for effect in in_full:
        _finding(page, report, effect)


def _effects(page: Page, group: Told, margin: str) -> None:
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
        title = page.fitted(prose(one.title, 300) + phrases.sure(one), max(room, 20))
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


def one_line_each(page: Page, findings: Sequence[Finding], limit: int) -> None:
    shown = findings if page.all else findings[:limit]
    for finding in shown:
        code = line(finding.code, 12)
        title = page.fitted(prose(finding.title, 300), page.width - cells(code) - 4)
        page.add("  ", (code, "bold" if finding.impact is Impact.BREAKS else ""), "  ", title)
    if len(findings) > len(shown):
        page.add(f"  ... and {len(findings) - len(shown):,} more (--all)")


def _finding(page: Page, report: Report, finding: Finding, word: str | None = None) -> None:
    page.gap()
    impact = (word or phrases.IMPACT_WORDS[finding.impact]).upper()
    code = line(finding.code, 12)
    page.wrapped(
        prose(finding.title, 300) + phrases.sure(finding),
        [(impact, _STYLES[finding.impact]), ("  ", ""), (code, "bold"), ("  ", "")],
        indent=4,
        style="bold",
    )
    if finding.predicted_error:
        page.add("  ", (f"You would {phrases.probably(finding)}see", "dim"))
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


def _evidence(page: Page, report: Report, finding: Finding) -> None:
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
        heads = [pad(side, width) for side, width in zip(sides, widths, strict=True)] if report.baseline else []
        page.add("  ", (pad("Evidence", first + 4), "dim"), "  ", ("  ".join(heads), "dim"))
        for path, values in shown:
            cells_ = [pad(values.get(side, ""), width) for side, width in zip(sides, widths, strict=True)]
            page.add("      ", pad(path, first), "  ", "  ".join(cells_))
    else:
        page.add("  ", ("Evidence", "dim"))
        for path, values in shown:
            page.wrapped(path, [("      ", "")], indent=8)
            for side in sides:
                if side in values:
                    mark = (
                        [("        ", ""), (pad(side, 8), "dim"), ("  ", "")] if report.baseline else [("        ", "")]
                    )
                    page.wrapped(values[side], mark, indent=18 if report.baseline else 8)
    if len(rows) > len(shown):
        page.add(f"      ... and {phrases.count(len(rows) - len(shown), 'more fact')} (--all)")


def _fixes(page: Page, fixes: Sequence[Fix]) -> None:
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


def _explains(page: Page, finding: Finding, margin: str = "  ") -> None:
    if finding.folds:
        named = phrases.folded(finding, len(finding.folds) if page.all else _EXPLAINED)
        number = phrases.count(len(finding.folds), "change")
        start = [(margin, ""), ("Explains", "dim"), (" ", "")]
        page.wrapped(f"{number}: {', '.join(named)}", start, indent=len(margin) + 4)
