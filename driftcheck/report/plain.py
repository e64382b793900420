"""A finding as lines of plain text, for formats that carry text inside something else (SARIF, JUnit, annotations)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from driftcheck.report import phrases
from driftcheck.report.cleaning import line, lines, prose

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftcheck.findings import Evidence, Finding
    from driftcheck.report.model import Target

_EVIDENCE = 12
_VALUE = 160
_TITLE = 300


def title(finding: Finding) -> str:
    """The finding in one line: ``numpy 2.1.3 where pandas needs numpy<2 (likely)``."""
    return prose(finding.title, _TITLE) + phrases.sure(finding)


def error(finding: Finding) -> list[str]:
    """What one would see, indented under its heading; empty where nothing is printed."""
    if not finding.predicted_error:
        return []
    return [f"You would {phrases.probably(finding)}see:", *_indented(lines(finding.predicted_error, 6))]


def fixes(finding: Finding) -> list[str]:
    """What to type, in its order: lines of one kind stand under one heading, advice stands for itself."""
    rows: list[str] = []
    said = ""
    for fix in finding.fix:
        heading = "" if fix.kind == "advice" else f"{phrases.FIX_WORDS.get(fix.kind, 'Type')}:"
        if not heading:
            rows.append(prose(fix.text))
        else:
            rows += [heading] * (heading != said) + _indented(lines(fix.text, 40))
        said = heading
    return rows


def account(finding: Finding) -> list[str]:
    """All that a finding says, title first. Every line is cleaned; what is too long is cut, and says so."""
    rows = [title(finding), *error(finding)]
    if finding.explanation:
        rows.append(f"Why: {prose(finding.explanation, 1500)}")
    if finding.reach:
        rows.append(f"How it came here: {line(finding.reach)}")
    if finding.caused_by:
        code, _, name = finding.caused_by
        rows.append(f"Caused by {line(code, 12)}: {line(name)}")
    rows += _evidence(finding.evidence)
    rows += fixes(finding)
    if finding.folds:
        named = ", ".join(phrases.folded(finding, 8))
        rows.append(f"Explains {phrases.count(len(finding.folds), 'change')}: {named}")
    rows += [f"See {line(reference)}" for reference in finding.references[:5]]
    return rows


def remarks(target: Target) -> list[str]:
    """What goes with the verdict: which finding explains the error at hand, and what was taken for granted."""
    rows = []
    if target.error is not None:
        rows.append(f"{phrases.error_answered(target)} {line(target.error.text, 600)}".strip())
    if target.environment.assumptions:
        rows.append(f"Assumed: {prose(' '.join(target.environment.assumptions), 1000)}")
    return rows


def _evidence(evidence: Sequence[Evidence]) -> Iterator[str]:
    rows = phrases.evidence_rows(evidence)
    if rows:
        yield "Evidence:"
    for path, sides in rows[:_EVIDENCE]:
        values = ", ".join(f"{side} {line(sides[side], _VALUE)}" for side in ("baseline", "target") if side in sides)
        yield f"    {path}: {values}"
    if len(rows) > _EVIDENCE:
        yield f"    ... and {phrases.count(len(rows) - _EVIDENCE, 'more fact')}"


def _indented(rows: list[str]) -> list[str]:
    return [f"    {row}" for row in rows]
