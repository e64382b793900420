"""The report as a value, before rendering: one baseline against one or more targets, or one environment.

It is written as JSON and read back to the same value, so that a saved report renders to the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from driftcheck import __version__, validation
from driftcheck.diff import Change, Unmeasured
from driftcheck.errors import InputError
from driftcheck.explain import Explanation, NotJudged
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Identity, Impact, Subject
from driftcheck.probes.redaction import Redactor
from driftcheck.report.summary import summary
from driftcheck.snapshot import Snapshot, check_version, parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.report.formats import RenderOptions

SCHEMA_VERSION = 0


@dataclass(frozen=True)
class Environment:
    """What a report says of an environment: its header, a summary for tables, and its incomplete sections."""

    header: dict[str, Any]
    summary: dict[str, str]
    incomplete: dict[str, str] = field(default_factory=dict)
    problems: tuple[tuple[str, str, str], ...] = ()  # section, where, reason

    @property
    def label(self) -> str:
        return str(self.header["label"])

    @property
    def assumptions(self) -> Sequence[str]:
        """What was taken for granted where the environment was put on another machine, in sentences."""
        found: Sequence[str] = self.header.get("assumptions") or ()
        return found


@dataclass(frozen=True)
class Suppressed:
    """A finding that the policy expects, and so does not count.

    ``reason``   why, in the words of the policy
    ``expires``  the last day of the expectation, ISO 8601; None for none
    ``where``    the expectation's place in the policy
    """

    finding: Finding
    reason: str
    expires: str | None
    where: str


@dataclass(frozen=True)
class Expected:
    """Changes that the policy expects, and that are no drift; the other fields are those of ``Suppressed``."""

    changes: tuple[Change, ...]
    reason: str
    expires: str | None
    where: str


@dataclass(frozen=True)
class ErrorAnswer:
    """Which finding explains the error that the user has (``--error``).

    ``source``   what the user called the log
    ``text``     the error in it, one line
    ``finding``  identity of the finding that explains it; None where none does
    ``match``    ``verbatim`` or ``pattern`` (equal but for paths, versions and numbers); None where none does
    """

    source: str
    text: str
    finding: Identity | None
    match: str | None


@dataclass(frozen=True)
class Target:
    environment: Environment
    explanation: Explanation
    suppressed: tuple[Suppressed, ...] = ()
    error: ErrorAnswer | None = None
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True)
class Report:
    """``baseline`` is None for ``check`` and for the ticket of one environment.

    ``policy``   the file that says what is expected; None for none
    ``off``      codes of the rules that the policy turned off
    ``notices``  what the policy says of itself: expectations that have expired, or that nothing met
    ``location`` the file of the user's repository that CI systems show the findings at (:mod:`.locations`); None
                 for none
    """

    baseline: Environment | None
    targets: tuple[Target, ...]
    fail_on: Impact | None = Impact.BREAKS
    tool_version: str = __version__
    policy: str | None = None
    notices: tuple[str, ...] = ()
    location: str | None = None
    off: tuple[str, ...] = ()

    def failing(self) -> list[Finding]:
        return [
            finding for target in self.targets for finding in target.explanation.findings if finding.fails(self.fail_on)
        ]

    def incomplete(self) -> bool:
        """Whether a section that the baseline measured, or the policy requires, could not be measured in a target."""
        return any(
            entry.side == "target" and entry.status in {"unavailable", "failed", "missing"}
            for target in self.targets
            for entry in target.explanation.unmeasured
        )

    def faults(self) -> list[NotJudged]:
        return [entry for target in self.targets for entry in target.explanation.not_judged if entry.fault]

    def text(self) -> str:
        """The serial form: JSON, sorted keys, ASCII, a newline at the end."""
        return json.dumps(document(self), sort_keys=True, indent=1) + "\n"


def render(report: Report, options: RenderOptions) -> str:
    """The format ``json``: all of it, always."""
    del options
    return report.text()


def environment_of(snapshot: Snapshot) -> Environment:
    return Environment(
        header=snapshot.header,
        summary=summary(snapshot),
        incomplete={
            name: section.reason or section.status
            for name, section in snapshot.sections.items()
            if section.status in {"unavailable", "failed"}
        },
        problems=tuple(
            (name, problem["where"], problem["reason"])
            for name, section in snapshot.sections.items()
            for problem in section.problems
        ),
    )


def document(report: Report) -> dict[str, Any]:
    """The JSON value of a report, valid against ``schemas/report.json``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "report",
        "tool": {"name": "driftcheck", "version": report.tool_version},
        "fail_on": report.fail_on.value if report.fail_on else "never",
        "policy": report.policy,
        "off": list(report.off),
        "notices": list(report.notices),
        "location": report.location,
        "baseline": _environment_document(report.baseline) if report.baseline else None,
        "targets": [
            {
                "environment": _environment_document(target.environment),
                "findings": [_finding_document(finding) for finding in target.explanation.findings],
                "changes": [_change_document(change) for change in target.explanation.changes],
                "unmeasured": [vars(entry) for entry in target.explanation.unmeasured],
                "not_judged": [vars(entry) for entry in target.explanation.not_judged],
                "suppressed": [
                    {
                        "finding": _finding_document(entry.finding),
                        "reason": entry.reason,
                        "expires": entry.expires,
                        "where": entry.where,
                    }
                    for entry in target.suppressed
                ],
                "expected": [
                    {
                        "changes": [_change_document(change) for change in entry.changes],
                        "reason": entry.reason,
                        "expires": entry.expires,
                        "where": entry.where,
                    }
                    for entry in target.expected
                ],
                "error": _error_document(target.error) if target.error else None,
            }
            for target in report.targets
        ],
    }


def _environment_document(environment: Environment) -> dict[str, Any]:
    return {
        "header": environment.header,
        "summary": environment.summary,
        "incomplete": environment.incomplete,
        "problems": [
            {"section": section, "where": where, "reason": reason} for section, where, reason in environment.problems
        ],
    }


def _change_document(change: Change) -> dict[str, Any]:
    return {"path": list(change.path), "kind": change.kind, "before": change.before, "after": change.after}


def _error_document(error: ErrorAnswer) -> dict[str, Any]:
    return {
        "source": error.source,
        "text": error.text,
        "finding": list(error.finding) if error.finding else None,
        "match": error.match,
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "impact": finding.impact.value,
        "confidence": finding.confidence.value,
        "title": finding.title,
        "subject": {"kind": finding.subject.kind, "name": finding.subject.name},
        "explanation": finding.explanation,
        "predicted_error": finding.predicted_error,
        "evidence": [
            {"side": entry.side, "path": list(entry.path), "value": entry.value} for entry in finding.evidence
        ],
        "fix": [{"kind": entry.kind, "text": entry.text} for entry in finding.fix],
        "references": list(finding.references),
        "also_in_baseline": finding.also_in_baseline,
        "folds": [list(path) for path in finding.folds],
        "caused_by": list(finding.caused_by) if finding.caused_by else None,
        "reach": finding.reach,
    }


def parse(data: bytes, where: str) -> Report:
    """A saved report.

    Raises:
        InputError: naming ``where`` and the place inside it.
    """
    value = parse_json(data, where)
    if not isinstance(value, dict) or value.get("kind") != "report":
        raise InputError(where, "JSON, but not a report", "Make one with: driftcheck diff ... --format json -o FILE")
    check_version(value.get("schema_version"), SCHEMA_VERSION, where)
    validation.check("report", value, where)
    return _report(Redactor().document(value))


def redacted(report: Report) -> Report:
    """The report as it would be read back: what rules put together is redacted like the facts that they read.

    A report that is rendered and saved goes through this once, so that the saved one renders to the same bytes.
    """
    return _report(Redactor().document(document(report)))


def _report(value: dict[str, Any]) -> Report:
    return Report(
        baseline=_environment(value["baseline"]) if value["baseline"] else None,
        targets=tuple(
            Target(
                _environment(entry["environment"]),
                Explanation(
                    findings=tuple(_finding(found) for found in entry["findings"]),
                    changes=tuple(_change(found) for found in entry["changes"]),
                    unmeasured=tuple(Unmeasured(**found) for found in entry["unmeasured"]),
                    not_judged=tuple(NotJudged(**found) for found in entry["not_judged"]),
                ),
                tuple(
                    Suppressed(_finding(found["finding"]), found["reason"], found["expires"], found["where"])
                    for found in entry["suppressed"]
                ),
                _error(entry["error"]) if entry["error"] else None,
                tuple(
                    Expected(
                        tuple(_change(change) for change in found["changes"]),
                        found["reason"],
                        found["expires"],
                        found["where"],
                    )
                    for found in entry["expected"]
                ),
            )
            for entry in value["targets"]
        ),
        fail_on=None if value["fail_on"] == "never" else Impact(value["fail_on"]),
        tool_version=value["tool"]["version"],
        policy=value["policy"],
        notices=tuple(value["notices"]),
        location=value["location"],
        off=tuple(value.get("off", ())),
    )


def _environment(value: dict[str, Any]) -> Environment:
    return Environment(
        value["header"],
        value["summary"],
        value["incomplete"],
        tuple((entry["section"], entry["where"], entry["reason"]) for entry in value["problems"]),
    )


def _change(value: dict[str, Any]) -> Change:
    return Change(tuple(value["path"]), value["kind"], value["before"], value["after"])


def _error(value: dict[str, Any]) -> ErrorAnswer:
    return ErrorAnswer(value["source"], value["text"], _identity(value["finding"]), value["match"])


def _identity(value: Sequence[str] | None) -> Identity | None:
    return (value[0], value[1], value[2]) if value else None


def _finding(value: dict[str, Any]) -> Finding:
    paths: Sequence[Sequence[str]] = value["folds"]
    return Finding(
        code=value["code"],
        name=value["name"],
        impact=Impact(value["impact"]),
        confidence=Confidence(value["confidence"]),
        title=value["title"],
        subject=Subject(value["subject"]["kind"], value["subject"]["name"]),
        explanation=value["explanation"],
        predicted_error=value["predicted_error"],
        evidence=tuple(Evidence(entry["side"], tuple(entry["path"]), entry["value"]) for entry in value["evidence"]),
        fix=tuple(Fix(entry["kind"], entry["text"]) for entry in value["fix"]),
        references=tuple(value["references"]),
        also_in_baseline=value["also_in_baseline"],
        folds=tuple(tuple(path) for path in paths),
        caused_by=_identity(value["caused_by"]),
        reach=value["reach"],
    )
