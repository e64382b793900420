"""JUnit XML: valid by the schema that Jenkins uses, whole XML 1.0 whatever is measured, and counted right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.report_formats import read_junit

from driftcheck.explain import NotJudged
from driftcheck.findings import Impact
from driftcheck.report import model
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import Suppressed
from driftcheck.rules import all_rules, drifts

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET
    from collections.abc import Callable

    from driftcheck.findings import Finding
    from driftcheck.report.model import Report


def junit(report: Report) -> ET.Element:
    return read_junit(render(report, "junit", RenderOptions()))


def case(root: ET.Element, code: str, suite: int = 0) -> ET.Element:
    (found,) = [entry for entry in root[suite].iter("testcase") if entry.attrib["name"].split(" ")[0] == code]
    return found


def text_of(element: ET.Element, tag: str) -> str:
    found = element.find(tag)
    assert found is not None
    return found.text or ""


def with_findings(report: Report, *findings: Finding, not_judged: tuple[NotJudged, ...] = ()) -> Report:
    target = report.targets[0]
    explanation = replace(target.explanation, findings=findings, not_judged=not_judged)
    return replace(report, targets=(replace(target, explanation=explanation),))


def test_it_is_valid(sample: Report) -> None:
    assert len(junit(sample)) == len(sample.targets)


def test_a_rule_is_a_test_case(samples: dict[str, Callable[[], Report]]) -> None:
    root = junit(samples["equal"]())
    assert [entry.attrib["name"] for entry in root.iter("testcase")] == [
        f"{rule.code} {rule.name}" for rule in all_rules()
    ]
    assert case(root, "LIB001").attrib["classname"] == "driftcheck.LIB"
    assert root.attrib["failures"] == "0"


def test_what_fails_the_run_fails(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    root = junit(report)
    failing = [
        entry.attrib["name"].split(" ")[0] for entry in root.iter("testcase") if entry.find("failure") is not None
    ]
    assert failing == ["LIB001", "PKG001"]
    failure = case(root, "LIB001").find("failure")
    assert failure is not None
    assert failure.attrib["type"] == "breaks"
    assert failure.attrib["message"] == "cv2 needs libGL.so.1, which no directory that the loader searches holds"
    assert "ImportError: libGL.so.1: cannot open shared object file: No such file or directory" in (failure.text or "")
    assert "apt-get install -y --no-install-recommends libgl1" in (failure.text or "")
    # What does not fail the run is told.
    assert "The operating system moved from Debian 11 to Debian 12" in text_of(case(root, "SYS003"), "system-out")
    assert "BREAKS (also in the baseline, which works)" in text_of(case(root, "PKG004"), "system-out")
    assert junit(replace(report, fail_on=Impact.CHANGES_RESULTS)).attrib["failures"] == "3"
    assert junit(replace(report, fail_on=None)).attrib["failures"] == "0"


def test_what_could_not_be_judged_is_skipped(samples: dict[str, Callable[[], Report]]) -> None:
    skipped = case(junit(samples["diff"]()), "CPU001").find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "machine of the target: an image that does not run has no machine"


def skipped_in(root: ET.Element) -> dict[str, str]:
    """The reasons of the test cases that are skipped, by code."""
    found = ((entry.attrib["name"].split(" ")[0], entry.find("skipped")) for entry in root.iter("testcase"))
    return {code: skipped.attrib["message"] for code, skipped in found if skipped is not None}


def test_a_rule_that_the_policy_turned_off_has_not_passed(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["equal"]()
    assert skipped_in(junit(report)) == {}
    root = junit(replace(report, policy="driftcheck.toml", off=("LIB001", "SYS004")))
    reason = "turned off by the policy (driftcheck.toml)"
    assert skipped_in(root) == {"LIB001": reason, "SYS004": reason}
    assert root[0].attrib["skipped"] == "2"


def test_a_rule_that_needs_a_baseline_has_not_passed_without_one(samples: dict[str, Callable[[], Report]]) -> None:
    skipped = skipped_in(junit(samples["single"]()))
    assert {rule.code for rule in drifts()} <= skipped.keys()
    assert skipped["SYS004"] == "it compares with a baseline, and there is none"
    assert "LIB001" not in skipped


def test_a_rule_that_failed_is_an_error_and_hides_nothing(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    finding = report.targets[0].explanation.findings[0]
    fault = NotJudged("PKG001", "unmet-requirement", "KeyError: 'x'", fault=True)
    root = junit(replace(with_findings(report, finding, not_judged=(fault,)), fail_on=Impact.BREAKS))
    found = case(root, "PKG001")
    assert text_of(found, "error") == "KeyError: 'x'"
    assert finding.title in text_of(found, "system-out")
    assert (root.attrib["errors"], root.attrib["failures"]) == ("1", "0")


def test_several_findings_of_a_rule_are_one_failure(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    finding = report.targets[0].explanation.findings[0]
    many = [replace(finding, title=f"number {number}") for number in range(300)]
    failure = case(junit(with_findings(report, *many)), finding.code).find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "number 0 (and 299 more findings)"
    rows = (failure.text or "").splitlines()
    assert "number 219" in rows
    assert "number 220" not in rows
    assert rows[-1] == "... and 80 more"


def test_what_the_policy_expects_passes_and_is_told(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    first, *rest = report.targets[0].explanation.findings
    report = with_findings(report, *rest)
    expected = Suppressed(first, "an old friend", None, "expected[0]")
    found = case(junit(replace(report, targets=(replace(report.targets[0], suppressed=(expected,)),))), first.code)
    assert found.find("failure") is None
    assert text_of(found, "system-out").endswith(": an old friend (expected[0])")


def test_gaps_are_said(samples: dict[str, Callable[[], Report]]) -> None:
    (suite,) = junit(replace(samples["diff"](), notices=("expected[0] has expired",)))
    said = text_of(suite, "system-out")
    assert said.startswith("2 findings would break inference in registry.example/svc:1.4")
    assert "Not compared, unavailable in the target: machine: an image that does not run has no machine" in said
    assert "broken.dist-info: METADATA cannot be read: Permission denied" in said
    assert said.endswith("expected[0] has expired")


def test_each_target_is_a_suite(samples: dict[str, Callable[[], Report]]) -> None:
    root = junit(samples["several"]())
    assert [suite.attrib["name"] for suite in root] == ["ci", "ci (2)", "node7"]
    assert [suite.attrib["failures"] for suite in root] == ["1", "0", "0"]


def test_nothing_in_a_hostile_report_acts(samples: dict[str, Callable[[], Report]]) -> None:
    root = junit(samples["hostile"]())
    names = {
        "testsuites",
        "testsuite",
        "properties",
        "property",
        "testcase",
        "failure",
        "error",
        "skipped",
        "system-out",
    }
    told = ""
    for element in root.iter():
        assert element.tag in names
        for value in (*element.attrib.values(), element.text or ""):
            assert all(sign.isprintable() or sign == "\n" for sign in value)
            told += value
    for trace in (r"\x1b[2J", r"\u202e", r"\ud800", "<script>alert(1)</script>", "(1,000,000 characters)", r"\x00"):
        assert trace in told


@pytest.mark.parametrize("sign", ["\x00", "\x0b", "\ufffe", "\uffff", "\ud800", "]]>", "&#0;", "<!ENTITY x>", "\x85"])
def test_any_sign_leaves_it_whole(sign: str, report_of: Callable[..., Report]) -> None:
    junit(report_of((f"a{sign}b", f"{sign}", f"{sign}{sign}")))


def test_ten_thousand_findings_stay_bounded(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["huge"]()
    root = junit(report)
    assert len(render(report, "junit", RenderOptions())) < 2_000_000
    assert int(root.attrib["tests"]) <= len(all_rules()) + 201
    (rest,) = [entry for entry in root.iter("testcase") if entry.attrib["name"] == "of-other-codes"]
    assert "more" in text_of(rest, "system-out").splitlines()[-1]


def test_a_saved_report_gives_the_same_bytes(samples: dict[str, Callable[[], Report]]) -> None:
    report = model.redacted(samples["diff"]())
    again = model.parse(report.text().encode(), "report.json")
    assert render(again, "junit", RenderOptions()) == render(report, "junit", RenderOptions())
