"""SARIF 2.1.0 (OASIS), as code scanning dashboards read it: one run for each target.

It stays within what GitHub takes: 20 runs, 25,000 results a run, 10 MB (docs.github.com, "SARIF support for code
scanning" and "SARIF results exceed one or more limits"). What matters least is shortened first and then left out,
and a notification says how much.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from driftcheck.findings import Impact
from driftcheck.report import phrases, plain
from driftcheck.report.cleaning import line, prose
from driftcheck.report.locations import sound
from driftcheck.rules import all_rules
from driftcheck.rules.base import FAMILIES, paragraphs_of, title_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftcheck.findings import Finding
    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Report, Suppressed, Target
    from driftcheck.rules.base import Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RUNS = 20
RESULTS = 25_000
SIZE = 10_000_000  # bytes, all runs together, before any compression

_LEVELS = {
    Impact.BREAKS: "error",
    Impact.CHANGES_RESULTS: "warning",
    Impact.SLOWS: "warning",
    Impact.NOTE: "note",
}
_CODE = 40


def render(report: Report, options: RenderOptions) -> str:
    """The format ``sarif``."""
    del options
    # What the baseline is called has no say in what the targets are called from run to run.
    _, names = phrases.names(replace(report, baseline=None))
    targets = list(zip(report.targets, names, strict=True))
    kept = sorted(range(len(targets)), key=lambda index: _severity(targets[index][0]))[:RUNS]
    left_out = len(targets) - len(kept)
    runs = [_run(report, *targets[index], SIZE // len(kept), left_out) for index in sorted(kept)]
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _severity(target: Target) -> tuple[int, ...]:
    """Sorts targets, those with the most that breaks first."""
    numbers = Counter(finding.impact for finding in target.explanation.findings if not finding.also_in_baseline)
    return tuple(-numbers[impact] for impact in Impact)


@dataclass
class _Room:
    """What is left of the bytes that a run may take."""

    left: int

    def takes(self, value: Any) -> bool:
        """Whether there is room for this value too; if so, it is taken."""
        text = json.dumps(value, ensure_ascii=False, indent=1)
        # Inside the document every line stands further to the right.
        size = len(text.encode("utf-8")) + 6 * (text.count("\n") + 1)
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass
class _Rules:
    """The rules that a run speaks of, each described once."""

    room: _Room
    index: dict[str, int] = field(default_factory=dict)
    descriptors: list[dict[str, Any]] = field(default_factory=list)

    def of(self, code: str, name: str) -> dict[str, Any]:
        """``{"id": ..., "index": ...}``, as results and notifications refer to a rule."""
        code = line(code, _CODE) or "(none)"
        if code not in self.index:
            described = descriptor(code, name)
            if not self.room.takes(described):
                described = {"id": code}
            self.index[code] = len(self.descriptors)
            self.descriptors.append(described)
        return {"id": code, "index": self.index[code]}


def descriptor(code: str, name: str) -> dict[str, Any]:
    """A rule as SARIF describes it; one that this version's rule book does not have by its code and name alone."""
    rule = next((rule for rule in all_rules() if rule.code == code), None)
    if rule is None:
        text = _text(f"The rule {code} {line(name, 60)} is not in the rule book of this version of driftcheck.")
        return {"id": code, "shortDescription": text, "fullDescription": text, "help": text}
    paragraphs = paragraphs_of(rule)
    described = {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": _text(title_of(rule)),
        "fullDescription": _text(f"{title_of(rule)} {paragraphs.get('Why', '')}".strip()),
        "help": {**_text(_help(rule, paragraphs)), "markdown": _braces(_help_markdown(rule, paragraphs))},
        "properties": {"tags": ["inference", FAMILIES[re.sub(r"\d+$", "", rule.code)]]},
    }
    if rule.references:
        described["helpUri"] = rule.references[0]
    return described


def _help(rule: Rule, paragraphs: dict[str, str]) -> str:
    told = [f"{word}: {text}" for word, text in paragraphs.items()]
    return "\n\n".join([title_of(rule), *told, *(f"See {reference}" for reference in rule.references)])


def _help_markdown(rule: Rule, paragraphs: dict[str, str]) -> str:
    told = [f"**{word}:** {_own_markdown(text)}" for word, text in paragraphs.items()]
    return "\n\n".join([_own_markdown(title_of(rule)), *told, *(f"<{reference}>" for reference in rule.references)])


def _own_markdown(text: str) -> str:
    """The rule book's own words, which set code between backticks; outside of them no sign means anything."""
    parts = re.split(r"(`[^`\n]+`)", text)
    return "".join(
        part if index % 2 else re.sub(r"([\\`<>*_\[\]|~#])", r"\\\1", part) for index, part in enumerate(parts)
    )


def _run(report: Report, target: Target, name: str, size: int, left_out: int) -> dict[str, Any]:
    baseline, _ = phrases.names(report)
    verdict = phrases.verdict(report, target, name)
    rules = _Rules(_Room(size // 4))
    execution, configuration = _notifications(report, target, rules, _Room(size // 8))
    results, dropped = _results(report, target, name, rules, _Room(size // 2))
    if dropped:
        text = f"{dropped:,} findings, those that matter least, are left out to stay within what dashboards take."
        execution.append(_notification(text, "warning"))
    if left_out:
        execution.append(_notification(f"{left_out:,} more targets are left out: a file holds {RUNS} runs.", "warning"))
    properties = {"target": name, "verdict": verdict.text}
    if report.baseline:
        properties["baseline"] = baseline
    return {
        "tool": {
            "driver": {
                "name": "driftcheck",
                "version": line(report.tool_version, 40),
                "rules": rules.descriptors,
            }
        },
        # A category of its own for each target: an upload replaces the last one of the same category.
        "automationDetails": {"id": f"driftcheck/{name}/", "description": _text(verdict.text)},
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": not any(entry.fault for entry in target.explanation.not_judged),
                "toolExecutionNotifications": execution,
                "toolConfigurationNotifications": configuration,
            }
        ],
        "results": results,
        "properties": properties,
    }


def _results(report: Report, target: Target, name: str, rules: _Rules, room: _Room) -> tuple[list[dict[str, Any]], int]:
    """The results, worst first, the last of them in short; and how many found no room at all."""
    entries: list[tuple[Finding, Suppressed | None]] = [
        *((finding, None) for finding in target.explanation.findings),
        *((entry.finding, entry) for entry in target.suppressed),
    ]
    half = room.left // 2
    seen: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    for finding, suppressed in entries[:RESULTS]:
        fingerprint = fingerprint_of(finding, name)
        seen[fingerprint] += 1
        result = _result(report, target, name, finding, rules)
        # The name that GitHub knows; the number tells equal ones apart, as its own analyses do.
        result["partialFingerprints"] = {
            "primaryLocationLineHash": f"{fingerprint}:{seen[fingerprint]}",
            "driftcheck/v1": fingerprint,
        }
        if target.suppressed:
            result["suppressions"] = [_suppression(suppressed)] if suppressed else []
        if suppressed:
            result["level"] = "note"
        if room.left < half:
            result["message"] = _text(plain.title(finding))
        if not room.takes(result):
            return results, len(entries) - len(results)
        results.append(result)
    return results, len(entries) - len(results)


def fingerprint_of(finding: Finding, target: str) -> str:
    """The same for the same finding in every run: of its identity and the target's name, not of text or order."""
    identity = json.dumps([target, *finding.identity])
    return hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _result(report: Report, target: Target, name: str, finding: Finding, rules: _Rules) -> dict[str, Any]:
    rule = rules.of(finding.code, finding.name)
    subject = line(finding.subject.name)
    properties: dict[str, Any] = {
        "impact": finding.impact.value,
        "confidence": finding.confidence.value,
        "fails": finding.fails(report.fail_on),
        "target": name,
        "subject": {"kind": line(finding.subject.kind, 60), "name": subject},
    }
    if finding.reach:
        properties["reach"] = line(finding.reach)
    if finding.caused_by:
        properties["causedBy"] = [line(part) for part in finding.caused_by]
    result = {
        "ruleId": rule["id"],
        "ruleIndex": rule["index"],
        "level": "note" if finding.also_in_baseline else _LEVELS[finding.impact],
        "message": _text("\n".join(plain.account(finding))),
        "locations": [_location(report, target, finding)],
        "properties": properties,
    }
    if report.baseline is not None:
        result["baselineState"] = "unchanged" if finding.also_in_baseline else "new"
    return result


def _location(report: Report, target: Target, finding: Finding) -> dict[str, Any]:
    place = f"{line(target.environment.label, phrases.LABEL_LIMIT)} > {line(finding.subject.name)}"
    location: dict[str, Any] = {
        "logicalLocations": [{"fullyQualifiedName": place, "kind": line(finding.subject.kind, 60)}]
    }
    file = sound(report.location)
    if file:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(file), "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 1},
        }
    return location


def _suppression(entry: Suppressed) -> dict[str, Any]:
    return {"kind": "external", "status": "accepted", "justification": prose(phrases.why_expected(entry), 600)}


def _notifications(
    report: Report, target: Target, rules: _Rules, room: _Room
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is to be said of the run itself: of its execution, and of its configuration."""
    execution = _fitting(_of_execution(report, target, rules), room)
    return execution, _fitting((_notification(prose(text, 500), "warning") for text in report.notices), room)


def _of_execution(report: Report, target: Target, rules: _Rules) -> Iterator[dict[str, Any]]:
    for remark in plain.remarks(target):
        yield _notification(remark, "note")
    for entry in sorted(target.explanation.not_judged, key=lambda entry: not entry.fault):
        what = "failed, a fault of driftcheck" if entry.fault else "could not be judged"
        text = f"{line(entry.code, _CODE)} {line(entry.name, 60)} {what}: {prose(entry.reason, 300)}"
        rule = rules.of(entry.code, entry.name)
        yield {**_notification(text, "error" if entry.fault else "note"), "associatedRule": rule}
    for gap in phrases.not_compared(report, target):
        what = f"not compared, {line(gap.status, 20)} in the {gap.side}" if report.baseline else "not measured"
        yield _notification(f"Section {line(gap.section, 40)} was {what}: {prose(gap.reason, 300)}", "warning")
    for section, where, reason in target.environment.problems:
        yield _notification(f"{line(section, 40)}: {line(where)} could not be read: {prose(reason, 300)}", "note")


def _fitting(entries: Iterator[dict[str, Any]], room: _Room) -> list[dict[str, Any]]:
    kept = []
    for entry in entries:
        if not room.takes(entry):
            kept.append(_notification(f"There is more to say here: {_ELSEWHERE}.", "note"))
            break
        kept.append(entry)
    return kept


_ELSEWHERE = "the format json has everything"


def _notification(text: str, level: str) -> dict[str, Any]:
    return {"message": _text(text), "level": level}


def _text(text: str) -> dict[str, str]:
    """A plain text message, in which ``[a](b)`` would be a link and ``{0}`` a placeholder (SARIF 3.11.5, 3.11.6)."""
    return {"text": _braces(text.replace("](", "] ("))}


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
