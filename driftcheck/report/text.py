"""The report for a terminal: what breaks and what to type first, then the rest, counted.

Its own words are ASCII, so that it can be read wherever it is printed; what it quotes is cleaned. Without
colour it is the same text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftcheck.report import phrases
from driftcheck.report.cleaning import line, prose
from driftcheck.report.summary import titles
from driftcheck.report.text_drift import add_drift, add_fact
from driftcheck.report.text_findings import add_findings, one_line_each
from driftcheck.report.text_page import Page, cells, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Environment, Expected, Report, Suppressed, Target

_ENTRIES = 8  # of a list of gaps, problems, rules, without --all
_TONES = {"bad": "bold red", "doubt": "bold yellow", "good": "bold green"}


def render(report: Report, options: RenderOptions) -> str:
    """The format ``text``."""
    page = Page(options)
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


def _head(page: Page, report: Report, baseline: str, names: Sequence[str]) -> None:
    sides = [("baseline", baseline, report.baseline)] if report.baseline else []
    word = "target" if report.baseline else "environment"
    sides += [(word, name, target.environment) for name, target in zip(names, report.targets, strict=True)]
    label_width = min(max((cells(label) for _, label, _ in sides), default=0), 28)
    word_width = max((len(word) for word, _, _ in sides), default=0)
    for word, label, environment in sides:
        shown = page.fitted(label, label_width)
        room = page.width - word_width - label_width - 4
        page.add(
            (pad(word, word_width), "dim"),
            "  ",
            (pad(shown, label_width), "bold"),
            "  ",
            _interpreter(page, environment, room),
        )


def _interpreter(page: Page, environment: Environment, room: int) -> str:
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


def _target(page: Page, report: Report, target: Target, name: str) -> None:
    _verdict(page, report, target, name)
    _error(page, target)
    add_findings(page, report, target)
    _known(page, target)
    _unmeasured(page, report, target)
    _problems(page, target)
    _not_judged(page, target)
    if report.baseline is None:
        _environment(page, target.environment)
    else:
        add_drift(page, report, target)
    _expected(page, target)


def _verdicts(page: Page, report: Report, names: Sequence[str]) -> None:
    page.gap()
    for target, name in zip(report.targets, names, strict=True):
        verdict = phrases.verdict(report, target, name)
        page.wrapped(verdict.text, [("  ", "")], indent=4, style=_TONES[verdict.tone])


def _verdict(page: Page, report: Report, target: Target, name: str) -> None:
    verdict = phrases.verdict(report, target, name)
    page.gap()
    page.wrapped(verdict.text, style=_TONES[verdict.tone])
    if verdict.counts:
        page.wrapped(f"Besides: {', '.join(verdict.counts)}.")
    if target.environment.assumptions:
        page.wrapped(prose(" ".join(target.environment.assumptions)), [("Assumed", "dim"), ("  ", "")], indent=4)


def _error(page: Page, target: Target) -> None:
    """What the user came with, before anything else."""
    said = phrases.error_answered(target)
    if not said or target.error is None:
        return
    page.gap()
    page.wrapped(said, style="bold")
    if target.error.text:
        page.add("      ", (line(target.error.text, 1000), "red"))


def _known(page: Page, target: Target) -> None:
    known = [finding for finding in target.explanation.findings if finding.also_in_baseline]
    if known:
        page.heading(f"Also in the baseline, which works ({len(known):,})")
        one_line_each(page, known, _ENTRIES)


def _unmeasured(page: Page, report: Report, target: Target) -> None:
    entries = phrases.not_compared(report, target)
    if not entries:
        return
    page.heading("Not compared: neither equal nor different" if report.baseline else "Not measured")
    width = max(cells(line(entry.section, 30)) for entry in entries)
    for entry in entries:
        side = f"{line(entry.status, 20)} in the {entry.side}: " if report.baseline else ""
        start = [("  ", ""), (pad(line(entry.section, 30), width), "bold"), ("  ", "")]
        page.wrapped(side + prose(entry.reason, 300), start, indent=width + 4)


def _problems(page: Page, target: Target) -> None:
    problems = target.environment.problems
    if problems:
        page.heading(f"Could not be read ({len(problems):,})")
        shown = problems if page.all else problems[:_ENTRIES]
        for section, where, reason in shown:
            start = [("  ", ""), (line(section, 30), "bold"), ("  ", "")]
            page.wrapped(f"{line(where, 120)}: {prose(reason, 300)}", start, indent=6)
        if len(problems) > len(shown):
            page.add(f"  ... and {len(problems) - len(shown):,} more (--all)")


def _not_judged(page: Page, target: Target) -> None:
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


def _expected(page: Page, target: Target) -> None:
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
            add_fact(page, change, "  ")
        _because(page, expected)


def _because(page: Page, entry: Suppressed | Expected) -> None:
    page.wrapped(prose(phrases.why_expected(entry), 2500), [("      ", ""), ("Why", "dim"), ("  ", "")], indent=11)


def _notices(page: Page, report: Report) -> None:
    """What the policy says of itself."""
    notices = report.notices if page.all else report.notices[:_ENTRIES]
    if notices:
        page.heading("The policy")
        for notice in notices:
            page.wrapped(prose(notice, 2500 if page.all else 300), [("  ", "")], indent=4)
        if len(report.notices) > len(notices):
            page.add(f"  ... and {len(report.notices) - len(notices):,} more (--all)")


def _environment(page: Page, environment: Environment) -> None:
    found = titles([environment.summary])
    if found:
        page.heading("The environment")
        width = min(max(cells(line(title, 40)) for title in found), 40)
        for title in found:
            start = [("  ", ""), (pad(line(title, 40), width), "dim"), ("  ", "")]
            page.wrapped(line(environment.summary[title]), start, indent=width + 4)
