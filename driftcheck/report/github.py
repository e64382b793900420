"""GitHub's workflow commands: each line is an annotation of the run that prints it.

GitHub shows 10 annotations of each level of one step and drops the others without a word (actions/toolkit,
docs/problem-matchers.md), so the worst come first and the last one counts the rest. What is escaped, and how, is
what actions/toolkit does (packages/core/src/command.ts) and the runner undoes (ActionCommand.cs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from driftcheck.findings import Confidence, Impact
from driftcheck.report import markdown, phrases, plain
from driftcheck.report.cleaning import line, prose
from driftcheck.report.formats import RenderOptions
from driftcheck.report.locations import sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftcheck.findings import Finding
    from driftcheck.report.model import Report, Target

LEVELS = ("error", "warning", "notice")
PER_LEVEL = 10
_EFFECTS = 10  # of one cause, by their titles
_MESSAGE = 4000  # in signs; the runner takes more, people do not


@dataclass(frozen=True)
class _Annotation:
    """``level`` is one of LEVELS. ``at_file``: shown at the file that one would edit, not at the run alone."""

    level: str
    title: str
    message: str
    at_file: bool = False


def render(report: Report, options: RenderOptions) -> str:
    """The format ``github``. Notes are counted; only ``--all`` has one annotation for each."""
    file = sound(report.location)
    found = list(_annotations(report, options))
    commands = []
    for level in LEVELS:
        of_level = [entry for entry in found if entry.level == level]
        shown = of_level if len(of_level) <= PER_LEVEL else of_level[: PER_LEVEL - 1]
        commands += [_command(entry, file) for entry in shown]
        more = len(of_level) - len(shown)
        if more:
            text = f"GitHub shows {PER_LEVEL} annotations of a kind. The summary and the report have the others."
            commands.append(_command(_Annotation(level, f"{more:,} more like these", text), None))
    return "".join(f"{command}\n" for command in commands)


def step_summary(report: Report) -> str:
    """The Markdown to append to the file that ``$GITHUB_STEP_SUMMARY`` names, which GitHub shows with the run.

    It is the report for a ticket, and so far below the 1 MiB that GitHub takes of one step.
    """
    return markdown.render(report, RenderOptions())


def _annotations(report: Report, options: RenderOptions) -> Iterator[_Annotation]:
    """In the order in which to read them, within their level."""
    _, names = phrases.names(report)
    targets = list(zip(report.targets, names, strict=True))
    for target, name in targets:
        yield _verdict(report, target, name)
        for entry in target.explanation.not_judged:
            if entry.fault:
                yield _Annotation("error", f"driftcheck: rule {line(entry.code, 12)} failed", prose(entry.reason, 300))
    groups = [
        (group, name)
        for target, name in targets
        for group in phrases.told([entry for entry in target.explanation.findings if not entry.also_in_baseline])
        if options.all or group.impact is not Impact.NOTE or group.effects or len(group.finding.folds) > 1
    ]
    for group, name in sorted(groups, key=lambda entry: _rank(entry[0])):
        yield _group(report, group, name)
    for target, name in targets:
        yield from _gaps(report, target, name)
    for notice in report.notices:
        yield _Annotation("warning", "driftcheck policy", prose(notice, 500))


def _verdict(report: Report, target: Target, name: str) -> _Annotation:
    verdict = phrases.verdict(report, target, name)
    counts = f" Besides: {', '.join(verdict.counts)}." if verdict.counts else ""
    return _Annotation("notice", "driftcheck", _cut("\n".join([verdict.text + counts, *plain.remarks(target)])))


def _rank(group: phrases.Told) -> tuple[int, int]:
    """Sorts causes with their effects, the worst and surest first; what is equal stays in its order."""
    return group.impact.rank, min(entry.confidence.rank for entry in _worst(group))


def _worst(group: phrases.Told) -> list[Finding]:
    return [entry for entry in (group.finding, *group.effects) if entry.impact is group.impact]


def _group(report: Report, group: phrases.Told, name: str) -> _Annotation:
    """A finding, and what follows from it in short."""
    found = group.finding
    possibly = "possibly " if all(entry.confidence is Confidence.POSSIBLE for entry in _worst(group)) else ""
    title = f"{line(found.code, 12)} {possibly}{phrases.IMPACT_WORDS[group.impact]} in {name}"
    rows = [plain.title(found), *plain.error(found)]
    if group.effects:
        shown = group.effects[:_EFFECTS]
        rows.append(f"Causes {phrases.count(len(group.effects), 'finding')}:")
        rows += [f"    {line(entry.code, 12)} {plain.title(entry)}" for entry in shown]
        rows += [f"    ... and {len(group.effects) - len(shown):,} more"] * (len(group.effects) > len(shown))
    mended = next((entry for entry in (found, *group.effects) if phrases.first_command(entry)), found)
    rows += plain.fixes(mended)
    return _Annotation(_level(report, group), title, _cut("\n".join(rows)), at_file=True)


def _level(report: Report, group: phrases.Told) -> str:
    """What fails the run is an error. Where nothing may, what would break is."""
    found = (group.finding, *group.effects)
    if report.fail_on is None:
        fails = any(entry.fails(Impact.BREAKS) for entry in found)
    else:
        fails = any(entry.fails(report.fail_on) for entry in found)
    if fails:
        return "error"
    return "notice" if group.impact is Impact.NOTE else "warning"


def _gaps(report: Report, target: Target, name: str) -> Iterator[_Annotation]:
    gaps = phrases.not_compared(report, target)
    if gaps:
        rows = []
        for gap in gaps:
            side = f"{line(gap.status, 20)} in the {gap.side}: " if report.baseline else ""
            rows.append(f"{line(gap.section, 40)}: {side}{prose(gap.reason, 300)}")
        what = "not compared" if report.baseline else "not measured"
        yield _Annotation("warning", f"driftcheck: {what} in {name}", _cut("\n".join(rows)))


def _cut(text: str) -> str:
    return text if len(text) <= _MESSAGE else f"{text[:_MESSAGE]}..."


def _command(entry: _Annotation, file: str | None) -> str:
    place = [("file", file), ("line", "1")] if file and entry.at_file else []
    properties = [("title", entry.title), *place]
    stated = ",".join(f"{name}={_property(value)}" for name, value in properties)
    return f"::{entry.level} {stated}::{_data(entry.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
