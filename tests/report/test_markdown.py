"""The report for a ticket, read by a reader of Markdown, who finds our own structure and no other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from driftcheck.findings import Impact
from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.markdown_page import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markdown_it.token import Token

    from driftcheck.report.model import Report

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OWN_HTML = re.compile(r"<details>\n<summary>[\w ,:()]+</summary>\n|</details>\n|</?sub>")


def markdown(report: Report, *, all_: bool = False) -> str:
    return render(report, "markdown", RenderOptions(all=all_))


def tokens(text: str) -> Iterator[Token]:
    for token in READER.parse(text):
        yield token
        yield from token.children or []


@pytest.mark.parametrize("all_", [False, True])
def test_a_reader_sees_our_structure_alone(sample: Report, all_: bool) -> None:
    for token in tokens(markdown(sample, all_=all_)):
        assert token.type not in {
            "link_open",
            "image",
            "blockquote_open",
            "code_block",
            "hr",
            "em_open",
            "s_open",
        }
        assert not token.type.startswith("ordered_list")
        if token.type in {"html_block", "html_inline"}:
            assert OWN_HTML.fullmatch(token.content), token.content
        if token.type == "text":
            assert not re.search(r"[@#]\w|://|www\.|:\w+:|\b(?=[a-f]*\d)[0-9a-f]{7,40}\b", token.content)


@pytest.mark.parametrize("all_", [False, True])
def test_rows_have_the_columns_of_their_table(sample: Report, all_: bool) -> None:
    columns = 0
    fence = ""
    for line in markdown(sample, all_=all_).splitlines():
        opening = re.match(r"`{3,}", line)
        if opening and not fence:
            fence = opening.group()
        elif fence:
            fence = "" if line == fence else fence
        elif line.startswith("|"):
            bars = len(re.findall(r"(?<!\\)\|", line))
            columns = columns or bars
            assert bars == columns, line
        else:
            columns = 0


@pytest.mark.parametrize("all_", [False, True])
def test_what_unfolds_is_closed_again(sample: Report, all_: bool) -> None:
    blocks = [token.content for token in tokens(markdown(sample, all_=all_)) if token.type == "html_block"]
    assert [text[:8] for text in blocks] == ["<details", "</detail"] * (len(blocks) // 2)


@pytest.mark.parametrize("all_", [False, True])
def test_no_tracker_refuses_it(sample: Report, all_: bool) -> None:
    text = markdown(sample, all_=all_)
    assert len(text.encode("utf-8")) <= LIMIT
    assert text.isprintable() or set(re.sub(r"[^\n]", "", text)) == {"\n"}
    assert all(sign.isprintable() or sign == "\n" for sign in text)


def test_hostile_values_are_seen(samples: dict[str, Callable[[], Report]]) -> None:
    text = markdown(samples["hostile"]())
    for trace in (
        r"\x1b]0;owned\x07",
        r"\u202e",
        r"\r\n",
        r"\ud800",
        "</details></summary><script>",
        "`@octocat`",
    ):
        assert trace in text


def test_what_breaks_is_never_dropped(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["huge"]()
    breaking = [f for f in report.targets[0].explanation.findings if f.impact is Impact.BREAKS]
    text = markdown(report)
    assert len(breaking) == 60
    for finding in breaking:
        assert f"`{finding.code}`" in text
    assert "Left out to keep this short:" in text
    assert "9,340 notes" in text


def test_more_that_breaks_than_any_ticket_holds_is_counted(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["huge"]()
    target = report.targets[0]
    findings = tuple(replace(f, code="PKG001", impact=Impact.BREAKS) for f in target.explanation.findings)
    text = markdown(
        replace(report, targets=(replace(target, explanation=replace(target.explanation, findings=findings)),))
    )
    assert len(text) <= LIMIT
    assert text.startswith("**10,000 findings would break inference in `svc`.**")
    assert "- `PKG001`: 9,900 more" in text


def test_many_targets_end_with_a_word(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    text = markdown(replace(report, targets=report.targets * 400))
    assert len(text) <= LIMIT
    assert text.endswith(
        "**The report is longer than a tracker takes: the rest was left out.** `--format json` has everything.\n"
    )


def test_the_important_is_kept_where_the_rest_is_shortened(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    small = markdown(report)
    target = report.targets[0]
    notes = tuple(f for f in target.explanation.findings if f.impact is Impact.NOTE) * 200
    findings = (*(f for f in target.explanation.findings if f.impact is not Impact.NOTE), *notes)
    large = markdown(
        replace(report, targets=(replace(target, explanation=replace(target.explanation, findings=findings)),))
    )
    start, end = "### BREAKS", "<details>"
    assert large[large.index(start) : large.index(end)] == small[small.index(start) : small.index(end)]


def test_the_ticket_of_one_environment(samples: dict[str, Callable[[], Report]]) -> None:
    text = markdown(samples["single"]())
    assert text.startswith(
        "**1 finding would break inference in `host`; 1 section could not be measured (`programs`).**"
    )
    assert "| torch | `2.3.1+cpu` |" in text
    assert "baseline" not in text
    assert "Remaining drift" not in text


def test_the_first_line_is_the_verdict(samples: dict[str, Callable[[], Report]]) -> None:
    assert markdown(samples["clean"]()).splitlines()[0] == "**Nothing found that would break inference in `ci`.**"


def test_effects_stand_below_their_cause_and_the_error_at_hand_first(samples: dict[str, Callable[[], Report]]) -> None:
    shown = markdown(samples["caused"]())
    assert "**The error in `run.log` is explained by PKG001 (not word for word):**" in shown
    assert shown.index("run.log") < shown.index("### BREAKS")
    assert len(re.findall(r"^- BREAKS `PKG007` `package-\d\d`", shown, re.MULTILINE)) == 15
    assert "### CAUSE `SYS003`" in shown
    assert re.search(
        r"Causes 2 findings:\n\n- BREAKS `LIB001` .*`ImportError: libGL.*; type `apt-get install -y ", shown
    )
    assert "Installed: needed by vllm \\> transformers" in shown
    assert "No finding explains the error in `run.log`:" in shown
