"""GitHub's annotations, read as the runner reads them: each line is one command, and none is forged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.report_formats import Command, read_commands

from driftcheck.explain import NotJudged
from driftcheck.findings import Confidence, Impact
from driftcheck.report import model
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.github import PER_LEVEL, step_summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.findings import Finding
    from driftcheck.report.model import Report


def commands(report: Report, *, all_: bool = False) -> list[Command]:
    return read_commands(render(report, "github", RenderOptions(all=all_)))


def with_findings(report: Report, *findings: Finding) -> Report:
    target = report.targets[0]
    return replace(report, targets=(replace(target, explanation=replace(target.explanation, findings=findings)),))


@pytest.mark.parametrize("all_", [False, True])
def test_every_line_is_a_command_of_ours(sample: Report, all_: bool) -> None:
    for entry in commands(replace(sample, location="requirements.txt"), all_=all_):
        assert set(entry.properties) <= {"title", "file", "line"}
        assert entry.properties.get("file", "requirements.txt") == "requirements.txt"


def test_what_is_written_is_what_is_read(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    odd = replace(
        report.targets[0].explanation.findings[0],
        code="A,b:c=%0A",
        title="100% of a::b, c=d; %0A ::error::x ##[error]y",
        predicted_error="one\ntwo",
    )
    found = commands(replace(with_findings(report, odd), location="a,b%3A.txt"))
    (entry,) = [entry for entry in found if "file" in entry.properties]
    assert entry.properties == {"title": "A,b:c=%0A breaks in host", "file": "a,b%3A.txt", "line": "1"}
    # What a value could order the runner to do is written out in every format.
    title = r"100% of a::b, c=d; %0A \x3a:error::x \x23#[error]y"
    assert entry.message.startswith(f"{title}\nYou would see:\n    one\n    two\n")


def test_the_run_says_the_verdict(samples: dict[str, Callable[[], Report]]) -> None:
    assert [entry.message for entry in commands(samples["clean"]())] == [
        "Nothing found that would break inference in ci."
    ]
    (verdict,) = [entry for entry in commands(samples["diff"]()) if entry.properties["title"] == "driftcheck"]
    assert verdict.name == "notice"
    assert verdict.message.startswith("2 findings would break inference in registry.example/svc:1.4")
    assert "15 notes, 1 also in the baseline" in verdict.message


def test_an_error_is_what_fails_the_run(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()

    def errors(fail_on: Impact | None) -> list[str]:
        found = commands(replace(report, fail_on=fail_on))
        return [entry.properties["title"].split(" ")[0] for entry in found if entry.name == "error"]

    assert sorted(errors(Impact.BREAKS)) == ["LIB001", "PKG001"]
    assert sorted(errors(Impact.CHANGES_RESULTS)) == ["LIB001", "PKG001", "SYS003"]
    assert sorted(errors(None)) == ["LIB001", "PKG001"]  # nothing may fail, and yet this is what breaks


def test_what_is_only_possible_is_a_warning(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    finding = replace(report.targets[0].explanation.findings[0], confidence=Confidence.POSSIBLE)
    for fail_on in (Impact.BREAKS, None):
        found = commands(replace(with_findings(report, finding), fail_on=fail_on))
        assert [entry.name for entry in found if "PKG001" in entry.properties["title"]] == ["warning"]


def test_notes_are_counted_and_told_on_request(samples: dict[str, Callable[[], Report]]) -> None:
    def notes(found: list[Command]) -> int:
        return sum(entry.properties["title"].startswith("PKG009") for entry in found)

    assert notes(commands(samples["diff"]())) == 0
    assert notes(commands(samples["diff"](), all_=True)) == PER_LEVEL - 2  # the verdict, and how many more


def test_what_the_baseline_has_too_is_not_annotated(samples: dict[str, Callable[[], Report]]) -> None:
    assert not [entry for entry in commands(samples["diff"](), all_=True) if "PKG004" in entry.properties["title"]]


def test_the_worst_come_first_and_the_last_counts_the_rest(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["huge"]()
    errors = [entry for entry in commands(report) if entry.name == "error"]
    worst = [finding.code for finding in report.targets[0].explanation.findings[: PER_LEVEL - 1]]
    assert [entry.properties["title"].split(" ")[0] for entry in errors[:-1]] == worst
    assert errors[-1].properties["title"] == "51 more like these"


def test_exactly_as_many_as_are_shown(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    finding = report.targets[0].explanation.findings[0]
    found = commands(with_findings(report, *(replace(finding, title=f"{number}") for number in range(PER_LEVEL))))
    assert [entry.properties["title"] for entry in found if entry.name == "error"] == ["PKG001 breaks in host"] * 10


def test_effects_stand_with_their_cause(samples: dict[str, Callable[[], Report]]) -> None:
    found = commands(samples["caused"]())
    (cause,) = [entry for entry in found if entry.properties["title"] == "PY001 breaks in svc"]
    rows = cause.message.splitlines()
    assert rows[0].startswith("CPython 3.12 instead of CPython 3.11")
    assert rows[3] == "Causes 15 findings:"
    assert rows[4].startswith("    PKG007 package-00 1.0 is a wheel for cp311")
    assert rows[14:] == ["    ... and 5 more", "In the Dockerfile:", "    FROM python:3.11-slim"]
    assert not [entry for entry in found if entry.properties["title"].startswith("PKG007")]


def test_a_note_that_causes_what_breaks_is_an_error(samples: dict[str, Callable[[], Report]]) -> None:
    (entry,) = [one for one in commands(samples["caused"]()) if one.properties["title"] == "SYS003 breaks in svc"]
    assert entry.name == "error"
    assert "    LIB001 cv2 needs libGL.so.1" in entry.message
    assert "apt-get install -y --no-install-recommends libgl1" in entry.message


def test_the_worst_of_all_targets_come_first(samples: dict[str, Callable[[], Report]]) -> None:
    titles = [entry.properties["title"] for entry in commands(samples["several"]()) if entry.name != "notice"]
    assert titles == ["PKG001 breaks in ci", "PKG001 possibly breaks in node7", "ENV002 possibly slows in ci"]


def test_gaps_faults_and_the_policy_are_said(samples: dict[str, Callable[[], Report]]) -> None:
    report = replace(samples["diff"](), notices=("expected[0] has expired",))
    target = report.targets[0]
    fault = NotJudged("PKG001", "unmet-requirement", "KeyError: 'x'", fault=True)
    explanation = replace(target.explanation, not_judged=(fault,))
    found = commands(replace(report, targets=(replace(target, explanation=explanation),)))
    said = {entry.properties["title"]: (entry.name, entry.message) for entry in found}
    assert said["driftcheck: rule PKG001 failed"] == ("error", "KeyError: 'x'")
    assert said["driftcheck policy"] == ("warning", "expected[0] has expired")
    assert said["driftcheck: not compared in registry.example/svc:1.4"] == (
        "warning",
        "machine: unavailable in the target: an image that does not run has no machine",
    )


def test_what_was_not_measured_is_one_warning(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["single"]()
    place = replace(report.targets[0].environment, incomplete={"programs": "took longer than 20 s", "system": "x"})
    found = commands(replace(report, targets=(replace(report.targets[0], environment=place),)))
    (entry,) = [entry for entry in found if entry.properties["title"] == "driftcheck: not measured in host"]
    assert entry.message == "programs: took longer than 20 s\nsystem: x"


def test_no_location_that_cannot_be_one(samples: dict[str, Callable[[], Report]]) -> None:
    for location in (None, "/etc/passwd", "../x", "a\n::error::b"):
        assert all("file" not in entry.properties for entry in commands(replace(samples["diff"](), location=location)))


def test_a_megabyte_is_cut(report_of: Callable[..., Report]) -> None:
    found = commands(report_of(("\u202e%\r\n" * 250_000,) * 3))
    assert max(len(entry.message) for entry in found) < 5000
    assert any(r"\u202e%" in entry.message for entry in found)


def test_a_saved_report_gives_the_same_bytes(samples: dict[str, Callable[[], Report]]) -> None:
    report = model.redacted(replace(samples["diff"](), location="uv.lock"))
    again = model.parse(report.text().encode(), "report.json")
    assert render(again, "github", RenderOptions()) == render(report, "github", RenderOptions())


def test_the_summary_is_the_report_and_fits(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    assert step_summary(report) == render(report, "markdown", RenderOptions())
    assert len(step_summary(samples["huge"]()).encode("utf-8")) < 1 << 20
