"""The report for a terminal: what breaks is on the first screen, and nothing that was measured acts on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from driftcheck.diff import Change
from driftcheck.explain import Explanation
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.text_page import fit, wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.report.model import Report

GOLDEN = Path(__file__).parent / "golden"
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def text(report: Report, **options: bool | int) -> str:
    return render(report, "text", RenderOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("format_", ["text", "markdown"])
@pytest.mark.parametrize("name", ["diff", "clean", "equal", "single", "several", "caused", "policed", "hostile"])
def test_golden(name: str, format_: str, samples: dict[str, Callable[[], Report]]) -> None:
    """Wording and layout are read by people: a change of them is looked at (see CONTRIBUTING)."""
    path = GOLDEN / f"{name}.{'txt' if format_ == 'text' else 'md'}"
    found = render(samples[name](), format_, RenderOptions())
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8", newline="\n")
    assert found == path.read_text(encoding="utf-8")


def test_what_breaks_and_what_to_type_are_on_the_first_screen(
    samples: dict[str, Callable[[], Report]],
) -> None:
    screen = "\n".join(text(samples["diff"]()).splitlines()[:30])
    assert screen.startswith("baseline  laptop")
    assert "2 findings would break inference in registry.example/svc:1.4" in screen
    assert "BREAKS           PKG001" in screen
    assert "ImportError: libGL.so.1: cannot open shared object file: No such file or directory" in screen
    assert "\n      apt-get install -y --no-install-recommends libgl1\n" in screen


def test_worst_first(samples: dict[str, Callable[[], Report]]) -> None:
    found = re.findall(r"^(BREAKS|CHANGES RESULTS|SLOWS|Notes|Also|Remaining)", text(samples["diff"]()), re.MULTILINE)
    assert found == ["BREAKS", "BREAKS", "CHANGES RESULTS", "SLOWS", "Notes", "Also", "Remaining"]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_only_what_is_copied_is_longer_than_a_line(width: int, samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    for line in text(report, width=width).splitlines():
        quoted = line.startswith("      ") or " " not in line.strip()
        assert len(line) <= width or quoted, line


def test_colour_changes_no_word(sample: Report) -> None:
    plain, coloured = text(sample), text(sample, color=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert "\n".join(line.rstrip() for line in COLOR.sub("", coloured).splitlines()) == plain.rstrip("\n")


@pytest.mark.parametrize("all_", [False, True])
def test_nothing_acts_on_the_terminal(all_: bool, samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["hostile"]()
    shown = COLOR.sub("", text(report, color=True, all=all_))
    odd = {sign for sign in shown if not sign.isprintable() and sign != "\n"}
    assert not odd
    assert shown.isascii() or {sign for sign in shown if not sign.isascii()} == {"\u0300", "\u0301"}
    for trace in (r"\x1b]0;owned\x07", r"\u202e", r"\r\n", r"\ud800", "(1,000,000 characters)", r"\x9b"):
        assert trace in shown
    # The forged verdict stands inside lines of ours and never alone.
    assert not re.search(r"^Nothing found that would break inference$", shown, re.MULTILINE)


def test_ascii_only_where_the_terminal_shows_no_more(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["clean"]()
    target = report.targets[0]
    header = {**target.environment.header, "label": "\u6771\u4eac \u2013 caf\u00e9"}
    report = replace(report, targets=(replace(target, environment=replace(target.environment, header=header)),))
    assert "\u6771\u4eac \u2013 caf\u00e9" in text(report)
    shown = text(report, unicode=False)
    assert shown.isascii()
    assert "\\u6771\\u4eac - caf\\xe9" in shown


def test_an_incomplete_comparison_is_not_called_clean(samples: dict[str, Callable[[], Report]]) -> None:
    shown = text(replace(samples["diff"](), targets=(_without_findings(samples["diff"]()),)))
    assert "Nothing found that would break inference in registry.example/svc:1.4, but 1" in shown
    assert "machine  unavailable in the target: an image that does not run has no machine" in shown


def _without_findings(report: Report):  # type: ignore[no-untyped-def]  # noqa: ANN202
    target = report.targets[0]
    return replace(target, explanation=replace(target.explanation, findings=()))


def test_equal_labels_are_told_apart(samples: dict[str, Callable[[], Report]]) -> None:
    assert 'in "laptop (target)".' in text(samples["equal"]())
    assert "\ntarget    ci (2)  " in text(samples["several"]())


def test_all_shows_every_change(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    folded = {path for finding in report.targets[0].explanation.findings for path in finding.folds}
    shown = text(report, all=True)
    for change in report.targets[0].explanation.changes:
        if change.path not in folded:
            assert change.path[-1] in shown
    assert "(--all" not in shown


def test_every_change_is_counted(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    explanation = report.targets[0].explanation
    explained = sum(len(finding.folds) for finding in explanation.findings)
    number = len(explanation.changes) - explained
    assert f"differences ({number} facts) that no finding explains" in text(report)
    assert f"Explains {explained} changes" in text(report)


def test_important_packages_come_first(samples: dict[str, Callable[[], Report]]) -> None:
    base = samples["clean"]()
    names = ["aaa", "torch", "numpy", "zzz"]
    changes = [Change(("packages", "distributions", name, "version"), "changed", "1.0", "2.0") for name in names]
    target = replace(base.targets[0], explanation=Explanation((), tuple(changes)))
    shown = text(replace(base, targets=(target,)))
    assert re.findall(r"^    (\w+) +1\.0 -> 2\.0$", shown, re.MULTILINE) == ["torch", "numpy", "aaa", "zzz"]


def test_words_are_never_taken_apart() -> None:
    assert wrap("one /a/very/long/path.so two", 10, 10) == [
        "one",
        "/a/very/long/path.so",
        "two",
    ]
    assert wrap("\u6771\u4eac \u6771\u4eac", 8, 8) == ["\u6771\u4eac", "\u6771\u4eac"]
    assert fit("\u6771\u4eac\u6771\u4eac", 7) == "\u6771\u4eac..."


def test_a_thousand_changes_take_no_time(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    target = replace(report.targets[0], explanation=replace(report.targets[0].explanation, changes=_many_changes()))
    report = replace(report, targets=(target,))
    text(report)
    best = min(_seconds(report) for _ in range(5))
    assert best < 0.06


def _many_changes() -> tuple[Change, ...]:
    return tuple(
        Change(("system", "packages", "packages", f"lib{index}"), "changed", f"{index}-1", f"{index}-2")
        for index in range(1000)
    )


def _seconds(report: Report) -> float:
    start = time.perf_counter()
    text(report, color=True)
    return time.perf_counter() - start


def test_no_format_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, driftcheck.report.formats as formats;"
        "assert 'driftcheck.report.text' not in sys.modules;"
        "formats.renderer('text'); assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Causes, reach and the error at hand


def test_the_error_at_hand_comes_before_every_finding(samples: dict[str, Callable[[], Report]]) -> None:
    shown = text(samples["caused"]())
    assert shown.index("The error in run.log is explained by PKG001 (not word for word):") < shown.index(
        "BREAKS  PKG001"
    )
    assert "No finding explains the error in run.log:\n      OSError: [Errno 5]\n" in shown


def test_an_effect_that_breaks_is_never_left_out(samples: dict[str, Callable[[], Report]]) -> None:
    """Each has its line below its cause, with what to type where the cause itself names nothing."""
    shown = text(samples["caused"](), width=100)
    causes = shown.partition("CAUSE   SYS003")[2]
    assert len(re.findall(r"^      BREAKS  PKG007  package-\d\d", shown, re.MULTILINE)) == 15
    assert "  Causes  2 findings\n      BREAKS  LIB001  cv2 needs libGL.so.1" in causes
    assert "          ImportError: libGL.so.1: cannot open shared object file" in causes
    assert "          apt-get install -y --no-install-recommends libgl1\n      1 note (--all)\n" in causes
    assert "--force-reinstall --no-deps package-03" not in shown
    assert "17 of them follow from 2 causes" not in shown  # 15 wheels and libGL
    assert "16 of them follow from 2 causes" in shown


def test_all_tells_effects_in_full(samples: dict[str, Callable[[], Report]]) -> None:
    shown = text(samples["caused"](), all=True)
    assert "python -m pip install --force-reinstall --no-deps package-03==1.3" in shown
    assert shown.count("  Installed  needed by package-00 > package-01") == 14


def test_one_cause_leaves_room_for_the_next_in_the_index(samples: dict[str, Callable[[], Report]]) -> None:
    screen = text(samples["caused"](), width=100).partition("\n\nBREAKS")[0]
    assert "BREAKS    PKG007  package-02" in screen
    assert "PKG007  package-03" not in screen
    assert "CAUSE   SYS003" in screen
    assert "BREAKS    LIB001" in screen
    assert "... and 12 more below" in screen


def test_how_a_distribution_came_here_is_said(samples: dict[str, Callable[[], Report]]) -> None:
    assert "  Installed  needed by vllm > transformers\n" in text(samples["caused"]())
