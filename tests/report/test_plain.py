"""A finding and what goes with a verdict as plain text: short, in order, and cleaned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from driftcheck.findings import Confidence, Fix
from driftcheck.report import plain
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import ErrorAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.findings import Finding
    from driftcheck.report.model import Report


@pytest.fixture
def finding(samples: dict[str, Callable[[], Report]]) -> Finding:
    return samples["single"]().targets[0].explanation.findings[0]


def test_an_account(finding: Finding) -> None:
    told = plain.account(
        replace(
            finding,
            reach="needed by vllm > transformers",
            caused_by=("PY001", "python", "3.12"),
            folds=(("packages", "distributions", "numpy", "version"),),
        )
    )
    assert told == [
        "pandas 2.1.4 needs numpy<2, and numpy 2.1.3 is installed",
        "You would see:",
        f"    {finding.predicted_error}",
        f"Why: {finding.explanation}",
        "How it came here: needed by vllm > transformers",
        "Caused by PY001: 3.12",
        "Evidence:",
        "    numpy > version: target 2.1.3",
        "Type:",
        "    pip install 'numpy==1.26.4'",
        "Explains 1 change: numpy",
        "See https://numpy.org/doc/stable/numpy_2_0_migration_guide.html",
    ]


def test_lines_of_one_kind_stand_under_one_heading(finding: Finding) -> None:
    fixes = (Fix("pip", "a\nb"), Fix("apt", "c"), Fix("advice", "Mind\nthis."), Fix("dockerfile", "RUN d"))
    assert plain.fixes(replace(finding, fix=fixes)) == [
        "Type:",
        "    a",
        "    b",
        "    c",
        "Mind this.",
        "In the Dockerfile:",
        "    RUN d",
    ]


def test_doubt_is_said(finding: Finding) -> None:
    doubtful = replace(finding, confidence=Confidence.LIKELY)
    assert plain.title(doubtful).endswith(" (likely)")
    assert plain.error(doubtful)[0] == "You would probably see:"
    assert plain.error(replace(finding, predicted_error=None)) == []


def test_whatever_it_holds_it_is_short_and_printable(report_of: Callable[..., Report]) -> None:
    for text in ("\x1b[2J\u202e" * 100_000, "line\n" * 100_000, "::error::x"):
        for entry in report_of((text, text, text)).targets[0].explanation.findings:
            told = plain.account(entry)
            assert all(row.isprintable() for row in told)
            assert sum(map(len, told)) < 100_000


@pytest.mark.parametrize("name", ["sarif", "junit", "github"])
def test_which_finding_explains_the_error_at_hand(
    name: str, finding: Finding, samples: dict[str, Callable[[], Report]]
) -> None:
    report = samples["single"]()

    def told(answer: ErrorAnswer, **header: object) -> str:
        place = report.targets[0].environment
        place = replace(place, header={**place.header, **header})
        return render(
            replace(report, targets=(replace(report.targets[0], environment=place, error=answer),)),
            name,
            RenderOptions(),
        )

    text = "ValueError: numpy.dtype size changed"
    assert f"No finding explains the error in service.log: {text}" in told(ErrorAnswer("service.log", text, None, None))
    explained = ErrorAnswer("service.log", text, finding.identity, "verbatim")
    assert f"The error in service.log is explained by PKG001: {text}" in told(explained)
    assert "Assumed: The image is started with --gpus all. As root." in told(
        explained, assumptions=["The image is started with --gpus all.", "As root."]
    )
