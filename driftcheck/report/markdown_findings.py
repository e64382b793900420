"""Findings in the Markdown report: what breaks in full, the rest in a line each, notes folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftcheck.findings import Finding, Fix, Impact
from driftcheck.report import phrases
from driftcheck.report.cleaning import block, code, markdown
from driftcheck.report.markdown_page import Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftcheck.report.model import Target

_LANGUAGES = {"pip": "sh", "apt": "sh", "docker-run": "sh", "variable": "sh", "dockerfile": "dockerfile"}


def add_findings(page: Page, target: Target) -> None:
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
            page.add("\n".join([heading, "", *(one_line(page, finding) for finding in shown), *_by_code(rest[more:])]))
            page.leave_out(len(rest), f"full accounts of findings ({word})")
    notes = of_impact[Impact.NOTE]
    causes = [group for group in notes if group.is_cause]
    if causes[: room.notes]:
        explained = [
            f"{one_line(page, group.finding)}: explains {_explained(group.finding, len(group.effects))}"
            for group in causes[: room.notes]
        ]
        page.add("\n".join(["### Causes", "", *explained]))
    alone = [finding for group in notes if not group.is_cause for finding in (group.finding, *group.effects)]
    alone += [finding for group in causes for finding in group.effects]
    if alone:
        told = page.some(alone, room.notes, "notes")
        inner = "\n".join([*(one_line(page, finding) for finding in told), *_by_code(alone[len(told) :])])
        page.fold(phrases.count(len(alone), "note"), [inner])


def _group(page: Page, target: Target, group: phrases.Told) -> None:
    """A finding in full, and what follows from it: in short, unless all is asked for or it is the error at hand."""
    in_full = [one for one in group.effects if page.all or phrases.answers(target, one)]
    in_short = [] if page.all else [one for one in group.effects if not phrases.answers(target, one)]
    _finding(page, group.finding, group.word, _effects(page, group.finding, in_short))
    for effect in in_full:
        _finding(page, effect, phrases.IMPACT_WORDS[effect.impact])


def _effects(page: Page, cause: Finding, effects: Sequence[Finding]) -> str:
    """Findings below their cause: each by its title, with what one would see where that is another thing."""
    if not effects:
        return ""
    worse = [one for one in effects if one.impact is not Impact.NOTE]
    rows = [f"Causes {phrases.count(len(effects), 'finding')}:", ""]
    said = {cause.predicted_error, None}
    mended = phrases.first_command(cause) is not None
    for one in [*worse, *page.some([one for one in effects if one.impact is Impact.NOTE], page.room.notes, "notes")]:
        row = one_line(page, one).replace("- ", f"- {phrases.IMPACT_WORDS[one.impact].upper()} ", 1)
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


def one_line(page: Page, finding: Finding) -> str:
    return f"- {code(finding.code, limit=12)} {markdown(finding.title, limit=page.room.title)}{phrases.sure(finding)}"


def _finding(page: Page, finding: Finding, word: str, effects: str = "") -> None:
    impact = word.upper()
    title = markdown(finding.title, limit=page.room.title)
    parts = [f"### {impact} {code(finding.code, limit=12)} {title}{phrases.sure(finding)}"]
    if finding.predicted_error:
        parts.append(
            f"What one would {phrases.probably(finding)}see:\n\n" + block(finding.predicted_error, "text", limit=6)
        )
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


def _evidence(page: Page, finding: Finding) -> str:
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
