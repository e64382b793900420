"""JUnit XML, as CI systems read test results: a suite for each target, a test case for each rule.

A rule fails where one of its findings fails the run (``--fail-on``), is skipped where it was not asked or could not be
judged, and is in error where the rule itself failed. Its other findings are the test case's output.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from driftcheck.report import phrases, plain
from driftcheck.report.cleaning import line, prose
from driftcheck.rules import all_rules, drifts

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from driftcheck.explain import NotJudged
    from driftcheck.findings import Finding
    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Report, Suppressed, Target

# Of one rule: so many findings in full, so many more by their title; the rest is counted.
_IN_FULL = 20
_IN_ONE_LINE = 200
# Rules that the rule book does not have, from reports of other versions or by other hands.
_FOREIGN = 200
_ENTRIES = 200


_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class _Case:
    """What one rule came to. ``unasked``: why it was not asked; empty where it was."""

    code: str
    name: str
    failing: tuple[Finding, ...] = ()
    others: tuple[Finding, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    faults: tuple[NotJudged, ...] = ()
    skipped: tuple[NotJudged, ...] = ()
    unasked: str = ""

    @property
    def why_skipped(self) -> str:
        return self.unasked or (self.skipped[0].reason if self.skipped else "")

    @property
    def verdict(self) -> str:
        if self.faults:
            return "error"
        if self.failing:
            return "failure"
        return "skipped" if self.why_skipped and not (self.others or self.suppressed) else "passed"


def render(report: Report, options: RenderOptions) -> str:
    """The format ``junit``."""
    del options
    _, names = phrases.names(report)
    suites = [_suite(report, target, name) for target, name in zip(report.targets, names, strict=True)]
    counts = {word: sum(int(suite.get(word, "0")) for suite in suites) for word in ("tests", "failures", "errors")}
    root = ET.Element("testsuites", {"name": "driftcheck", **{word: str(number) for word, number in counts.items()}})
    root.extend(suites)
    ET.indent(root, " ")
    # Not the declaration of ElementTree, which names the encoding of this machine.
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, target: Target, name: str) -> ET.Element:
    cases = _cases(report, target)
    verdicts = [case.verdict for case in cases]
    suite = ET.Element(
        "testsuite",
        {
            "name": name,
            "tests": str(len(cases)),
            "failures": str(verdicts.count("failure")),
            "errors": str(verdicts.count("error")),
            "skipped": str(verdicts.count("skipped")),
            "time": "0",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(report, target):
        ET.SubElement(properties, "property", {"name": key, "value": value})
    for case in cases:
        _element(suite, case)
    ET.SubElement(suite, "system-out").text = "\n".join(_said(report, target, name))
    return suite


def _properties(report: Report, target: Target) -> list[tuple[str, str]]:
    baseline, _ = phrases.names(report)
    found = [("driftcheck", line(report.tool_version, 40))]
    if report.baseline:
        found.append(("baseline", baseline))
    found.append(("measured", line(target.environment.header["created"], 40)))
    found.append(("fail-on", report.fail_on.value if report.fail_on else "never"))
    return found


def _cases(report: Report, target: Target) -> list[_Case]:
    """Every rule of the rule book, and those that only the report knows, by code."""
    explanation = target.explanation
    names = {rule.code: rule.name for rule in all_rules()}
    foreign: dict[str, str] = {}
    for code, name in (
        *((finding.code, finding.name) for finding in explanation.findings),
        *((entry.finding.code, entry.finding.name) for entry in target.suppressed),
        *((entry.code, entry.name) for entry in explanation.not_judged),
    ):
        if code not in names and len(foreign) < _FOREIGN:
            foreign.setdefault(code, name)
    told = {**names, **foreign}
    unasked = _unasked(report)
    findings = _by_code(told, ((finding.code, finding) for finding in explanation.findings))
    suppressed = _by_code(told, ((entry.finding.code, entry) for entry in target.suppressed))
    not_judged = _by_code(told, ((entry.code, entry) for entry in explanation.not_judged))
    more = {"": "of-other-codes"} if any("" in table for table in (findings, suppressed, not_judged)) else {}
    return [
        _Case(
            code,
            name,
            failing=tuple(finding for finding in findings.get(code, ()) if finding.fails(report.fail_on)),
            others=tuple(finding for finding in findings.get(code, ()) if not finding.fails(report.fail_on)),
            suppressed=tuple(suppressed.get(code, ())),
            faults=tuple(entry for entry in not_judged.get(code, ()) if entry.fault),
            skipped=tuple(entry for entry in not_judged.get(code, ()) if not entry.fault),
            unasked=unasked.get(code, ""),
        )
        for code, name in {**dict(sorted(told.items())), **more}.items()
    ]


def _unasked(report: Report) -> dict[str, str]:
    """Why rules were not asked at all, by code."""
    alone = () if report.baseline else (rule.code for rule in drifts())
    return {
        **dict.fromkeys(alone, "it compares with a baseline, and there is none"),
        **dict.fromkeys(report.off, f"turned off by the policy ({report.policy})"),
    }


def _by_code(told: Container[str], entries: Iterable[tuple[str, _Entry]]) -> dict[str, list[_Entry]]:
    """The entries under the codes of their rules, those of codes that have no test case under the empty one."""
    found: dict[str, list[_Entry]] = {}
    for code, entry in entries:
        found.setdefault(code if code in told else "", []).append(entry)
    return found


def _element(suite: ET.Element, case: _Case) -> None:
    code = line(case.code, 40)
    family = re.match(r"[A-Z]{2,4}(?=\d{3}$)", code)
    element = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": f"driftcheck.{family[0] if family else 'other'}",
            "name": f"{code} {line(case.name, 60)}".strip(),
            "time": "0",
        },
    )
    verdict = case.verdict
    if verdict == "error":
        message = prose(case.faults[0].reason, 300)
        ET.SubElement(element, "error", {"type": "fault-of-driftcheck", "message": message}).text = message
    elif verdict == "failure":
        first, *rest = case.failing
        message = plain.title(first) + (f" (and {phrases.count(len(rest), 'more finding')})" if rest else "")
        failure = ET.SubElement(element, "failure", {"type": first.impact.value, "message": message})
        failure.text = "\n".join(_accounts(case.failing))
    elif verdict == "skipped":
        ET.SubElement(element, "skipped", {"message": prose(case.why_skipped, 300)})
    output = [
        *(_accounts(case.failing) if verdict == "error" else ()),
        *_accounts(case.others),
        *_expected(case.suppressed),
    ]
    if output:
        ET.SubElement(element, "system-out").text = "\n".join(output)


def _accounts(findings: Sequence[Finding]) -> list[str]:
    rows: list[str] = []
    for finding in findings[:_IN_FULL]:
        known = " (also in the baseline, which works)" if finding.also_in_baseline else ""
        rows += [f"{phrases.IMPACT_WORDS[finding.impact].upper()}{known}", *plain.account(finding), ""]
    rows += [plain.title(finding) for finding in findings[_IN_FULL : _IN_FULL + _IN_ONE_LINE]]
    more = len(findings) - _IN_FULL - _IN_ONE_LINE
    return rows if more <= 0 else [*rows, f"... and {more:,} more"]


def _expected(entries: Sequence[Suppressed]) -> list[str]:
    rows = [
        f"Expected by the policy: {plain.title(entry.finding)}: {prose(phrases.why_expected(entry), 500)}"
        for entry in entries[:_IN_ONE_LINE]
    ]
    more = len(entries) - len(rows)
    return rows if more <= 0 else [*rows, f"... and {more:,} more that the policy expects"]


def _said(report: Report, target: Target, name: str) -> list[str]:
    """The verdict, and what was not measured."""
    verdict = phrases.verdict(report, target, name)
    rows = [verdict.text, *([f"Besides: {', '.join(verdict.counts)}."] if verdict.counts else [])]
    rows += plain.remarks(target)
    for gap in phrases.not_compared(report, target)[:_ENTRIES]:
        what = f"Not compared, {line(gap.status, 20)} in the {gap.side}" if report.baseline else "Not measured"
        rows.append(f"{what}: {line(gap.section, 40)}: {prose(gap.reason, 300)}")
    for section, where, reason in target.environment.problems[:_ENTRIES]:
        rows.append(f"Could not be read: {line(section, 40)}: {line(where)}: {prose(reason, 300)}")
    return [*rows, *(prose(notice, 500) for notice in report.notices[:_ENTRIES])]
