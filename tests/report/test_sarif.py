"""SARIF: valid by its schema, stable from run to run, and within what dashboards take."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from support.report_formats import read_sarif, sarif_validator

from driftcheck.explain import NotJudged
from driftcheck.findings import Confidence, Impact
from driftcheck.report import model
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import Suppressed
from driftcheck.report.sarif import RUNS, descriptor
from driftcheck.rules import all_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from driftcheck.findings import Finding
    from driftcheck.report.model import Report, Target


def sarif(report: Report) -> dict[str, Any]:
    return read_sarif(render(report, "sarif", RenderOptions()))


def results(report: Report) -> list[dict[str, Any]]:
    return [result for run in sarif(report)["runs"] for result in run["results"]]


def with_target(report: Report, **values: Any) -> Report:
    return replace(report, targets=(replace(report.targets[0], **values), *report.targets[1:]))


def with_findings(report: Report, findings: tuple[Finding, ...]) -> Report:
    explanation = replace(report.targets[0].explanation, findings=findings)
    return with_target(report, explanation=explanation)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings(entry)


def test_it_is_valid(sample: Report) -> None:
    document = sarif(replace(sample, location="requirements.txt"))
    assert document["version"] == "2.1.0"
    assert len(document["runs"]) == len(sample.targets)


def test_the_schema_refuses_what_is_wrong(samples: dict[str, Callable[[], Report]]) -> None:
    document = sarif(replace(samples["diff"](), location="requirements.txt"))
    region = document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]
    del region["startLine"]
    with pytest.raises(jsonschema_rs.ValidationError):
        sarif_validator().validate(document)


def test_levels_say_what_happens_to_inference(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    findings = report.targets[0].explanation.findings
    found = results(report)
    expected = {"breaks": "error", "changes-results": "warning", "slows": "warning", "note": "note"}
    assert len(found) == len(findings)
    for finding, result in zip(findings, found, strict=True):
        known = finding.also_in_baseline
        assert result["level"] == ("note" if known else expected[finding.impact])
        assert result["baselineState"] == ("unchanged" if known else "new")
        assert result["properties"]["fails"] is finding.fails(report.fail_on)
    assert {result["level"] for result in found} == {"error", "warning", "note"}
    assert any(result["baselineState"] == "unchanged" for result in found)


def test_without_a_baseline_nothing_is_new(samples: dict[str, Callable[[], Report]]) -> None:
    assert all("baselineState" not in result for result in results(samples["single"]()))


def test_a_result_says_what_one_would_see_and_type(samples: dict[str, Callable[[], Report]]) -> None:
    text = next(result for result in results(samples["diff"]()) if result["ruleId"] == "LIB001")["message"]["text"]
    assert text.startswith("cv2 needs libGL.so.1, which no directory that the loader searches holds\n")
    assert "ImportError: libGL.so.1: cannot open shared object file: No such file or directory" in text
    assert "apt-get install -y --no-install-recommends libgl1" in text


def prints(report: Report) -> dict[str, str]:
    """Fingerprint to title."""
    return {
        result["partialFingerprints"]["primaryLocationLineHash"]: result["message"]["text"].split("\n", 1)[0]
        for result in results(report)
    }


def test_fingerprints_outlive_wording_and_order(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    before = prints(report)
    assert len(before) == len(report.targets[0].explanation.findings)
    findings = tuple(
        replace(finding, title=f"Other words for {finding.title}", impact=Impact.BREAKS, explanation="", evidence=())
        for finding in reversed(report.targets[0].explanation.findings)
    )
    after = prints(with_findings(report, findings))
    assert after == {print_: f"Other words for {title}" for print_, title in before.items()}


def test_fingerprints_tell_targets_and_equal_findings_apart(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["several"]()
    explanation = report.targets[0].explanation
    twice = replace(report, targets=tuple(replace(target, explanation=explanation) for target in report.targets))
    found = results(twice)
    assert len({result["partialFingerprints"]["primaryLocationLineHash"] for result in found}) == len(found) == 6
    doubled = with_findings(samples["single"](), samples["single"]().targets[0].explanation.findings * 2)
    assert [entry.rpartition(":")[2] for entry in prints(doubled)] == ["1", "1", "2", "2"]


def test_the_name_of_the_baseline_is_no_part_of_a_fingerprint(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    assert report.baseline is not None
    header = {**report.baseline.header, "label": report.targets[0].environment.label}
    assert prints(replace(report, baseline=replace(report.baseline, header=header))) == prints(report)


def test_each_target_has_a_run_and_a_category_of_its_own(samples: dict[str, Callable[[], Report]]) -> None:
    runs = sarif(samples["several"]())["runs"]
    assert [run["automationDetails"]["id"] for run in runs] == [
        "driftcheck/ci/",
        "driftcheck/ci (2)/",
        "driftcheck/node7/",
    ]
    assert [len(run["results"]) for run in runs] == [2, 0, 1]


def test_rules_are_described_once_by_the_rule_book(samples: dict[str, Callable[[], Report]]) -> None:
    (run,) = sarif(samples["diff"]())["runs"]
    described = run["tool"]["driver"]["rules"]
    assert {result["ruleId"] for result in run["results"]} <= {rule["id"] for rule in described}
    for notification in run["invocations"][0]["toolExecutionNotifications"]:
        rule = notification.get("associatedRule")
        assert rule is None or described[rule["index"]]["id"] == rule["id"]


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
def test_every_rule_can_be_described(rule: Any) -> None:
    found = descriptor(rule.code, rule.name)
    document = {"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "driftcheck", "rules": [found]}}}]}
    sarif_validator().validate(document)
    assert found["name"] == rule.name
    for word in ("Compares", "Why", "Decided", "Fix"):
        assert f"{word}: " in found["help"]["text"]
        assert f"**{word}:** " in found["help"]["markdown"]
    assert found.get("helpUri") == (rule.references[0] if rule.references else None)


def test_a_rule_of_another_version_is_named(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    findings = tuple(replace(finding, code="ZZZ999") for finding in report.targets[0].explanation.findings)
    (run,) = sarif(with_findings(report, findings))["runs"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == "ZZZ999"
    assert "not in the rule book" in rule["help"]["text"]


def test_the_location_is_a_file_that_can_be_named(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    (result, *_) = results(replace(report, location="services/a b/caf\u00e9%20.lock"))
    file = result["locations"][0]["physicalLocation"]
    assert file["artifactLocation"] == {"uri": "services/a%20b/caf%C3%A9%2520.lock", "uriBaseId": "%SRCROOT%"}
    for unsound in (None, "../../etc/passwd", "javascript:alert(1)", "/etc/passwd"):
        (result, *_) = results(replace(report, location=unsound))
        assert "physicalLocation" not in result["locations"][0]
        assert result["locations"][0]["logicalLocations"]


def suppress(target: Target) -> Target:
    first, *rest = target.explanation.findings
    return replace(
        target,
        explanation=replace(target.explanation, findings=tuple(rest)),
        suppressed=(Suppressed(first, "we know [it](x)", "2027-01-31", "expected[0]"),),
    )


def test_what_the_policy_expects_is_suppressed(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    before = len(results(report))
    found = results(replace(report, targets=(suppress(report.targets[0]),)))
    assert len(found) == before
    (entry,) = [result for result in found if result["suppressions"]]
    assert entry["ruleId"] == report.targets[0].explanation.findings[0].code
    assert entry["level"] == "note"
    (suppression,) = entry["suppressions"]
    assert suppression["kind"] == "external"
    assert suppression["justification"] == "we know [it](x) (expected[0], until 2027-01-31)"


def test_what_was_not_measured_or_judged_is_said(samples: dict[str, Callable[[], Report]]) -> None:
    report = replace(samples["diff"](), notices=("expected[3] met nothing",))
    (run,) = sarif(report)["runs"]
    (invocation,) = run["invocations"]
    said = [entry["message"]["text"] for entry in invocation["toolExecutionNotifications"]]
    assert invocation["executionSuccessful"] is True
    assert any(text.startswith("CPU001 lower-level could not be judged: ") for text in said)
    assert any(text.startswith("Section machine was not compared, unavailable in the target: ") for text in said)
    assert any("broken.dist-info could not be read" in text for text in said)
    assert [entry["message"]["text"] for entry in invocation["toolConfigurationNotifications"]] == [
        "expected[3] met nothing"
    ]
    target = report.targets[0]
    fault = (NotJudged("PKG001", "unmet-requirement", "KeyError: 'x'", fault=True),)
    (run,) = sarif(with_target(report, explanation=replace(target.explanation, not_judged=fault)))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_nothing_in_a_hostile_report_acts(samples: dict[str, Callable[[], Report]]) -> None:
    document = sarif(replace(samples["hostile"](), location="a\n](x)"))
    for text in strings(document):
        assert all(sign.isprintable() or sign == "\n" for sign in text)
    messages = [result["message"]["text"] for run in document["runs"] for result in run["results"]]
    for message in messages:
        assert "](" not in message  # a link
        assert not re.search(r"(?<!\{)(?:\{\{)*\{\d", message)  # a placeholder
    assert any(r"\u202e" in message for message in messages)
    assert any("(1,000,000 characters)" in message for message in messages)


def test_braces_are_no_placeholders(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    findings = tuple(replace(finding, title="{0} and [a](b)") for finding in report.targets[0].explanation.findings)
    assert results(with_findings(report, findings))[0]["message"]["text"].startswith("{{0}} and [a] (b)")


def test_ten_thousand_findings_keep_what_breaks(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["huge"]()
    findings = report.targets[0].explanation.findings
    (run,) = sarif(report)["runs"]
    found = run["results"]
    assert len(found) < len(findings)
    assert [result["ruleId"] for result in found] == [finding.code for finding in findings[: len(found)]]
    assert sum(result["level"] == "error" for result in found) == 60
    said = [entry["message"]["text"] for entry in run["invocations"][0]["toolExecutionNotifications"]]
    assert f"{len(findings) - len(found):,} findings, those that matter least, are left out" in said[-1]


def test_more_targets_than_a_file_holds(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["several"]()
    many = replace(report, targets=(report.targets[1],) * 30 + report.targets)
    runs = sarif(many)["runs"]
    assert len(runs) == RUNS
    assert sum(len(run["results"]) for run in runs) == 3
    said = [entry["message"]["text"] for entry in runs[0]["invocations"][0]["toolExecutionNotifications"]]
    assert said == ["13 more targets are left out: a file holds 20 runs."]


def test_a_saved_report_gives_the_same_bytes(samples: dict[str, Callable[[], Report]]) -> None:
    report = model.redacted(replace(samples["diff"](), location="uv.lock"))
    again = model.parse(report.text().encode(), "report.json")
    assert render(again, "sarif", RenderOptions()) == render(report, "sarif", RenderOptions())


def test_a_doubtful_finding_says_so(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    finding = replace(report.targets[0].explanation.findings[0], confidence=Confidence.POSSIBLE)
    (result,) = results(with_findings(report, (finding,)))
    assert result["properties"]["confidence"] == "possible"
    assert result["message"]["text"].split("\n", 1)[0].endswith(" (possible)")
