"""Nothing that an environment says acts on a reader's terminal or tracker, and what is odd can be seen."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from driftcheck.report.cleaning import ascii_only, block, code, line, lines, markdown, prose, spans

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])

# Texts in which signs that mean something somewhere are much more frequent than chance would have them.
ODD = st.text(
    st.one_of(
        st.sampled_from(list("`|\\*_~[]()<>!#@&$:;-+=.\n\r\t \x1b\x00\x9b\u202e\u200b\u2028\ufeff\u0301\ud800")),
        st.characters(),
    )
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1.26.4", "1.26.4"),
        ("", ""),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth\ufeff\u00ad", r"zero\u200bwidth\ufeff\xad"),
        ("\u2028", r"\u2028"),
        ("\U000e0041", r"\U000e0041"),
        ("\u115f\u3164\u2800", r"\u115f\u3164\u2800"),
        ("\ud800", r"\ud800"),
        ("caf\u00e9 \u6771\u4eac", "caf\u00e9 \u6771\u4eac"),
        ("e\u0301", "e\u0301"),
        ("e\u0301\u0302\u0303\u0304", "e\u0301\u0302\\u0303\\u0304"),
        (r"C:\models\x1", r"C:\models\x1"),
        ("::error::forged", r"\x3a:error::forged"),
        ("a ::Add-Mask::b", r"a \x3a:Add-Mask::b"),
        ("x::stop-commands::y", r"x\x3a:stop-commands::y"),
        ("a ##[error]b", r"a \x23#[error]b"),
        ("c10::Error: at::native::add ::1 ## [error]", "c10::Error: at::native::add ::1 ## [error]"),
    ],
)
def test_what_is_odd_is_written_out(text: str, shown: str) -> None:
    assert line(text) == shown


@given(ODD)
def test_a_line_is_one_printable_line(text: str) -> None:
    shown = line(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in shown)
    assert line(shown) == shown or len(shown) > 200


def test_a_long_value_is_cut_and_its_length_said() -> None:
    shown = line("x" * 1_000_000)
    assert shown.endswith("... (1,000,000 characters)")
    assert len(shown) < 250


def test_escapes_do_not_make_a_cut_value_long() -> None:
    assert len(line("\x1b" * 1_000_000)) < 450


def test_prose_has_no_line_breaks() -> None:
    assert prose("one\n\n  two\tthree ") == "one two three"


def test_a_message_keeps_its_lines_up_to_a_number() -> None:
    assert lines("Traceback:\n\tx\r\nend\n") == ["Traceback:", "    x", "end"]
    assert lines("\n".join("abcdefgh"), limit=2) == ["a", "b", "... (8 lines)"]


def test_ascii_for_what_shows_no_more() -> None:
    assert ascii_only("\u2018caf\u00e9\u2019 \u2192 \u6771") == "'caf\\xe9' -> \\u6771"


@given(ODD)
def test_code_is_all_that_a_reader_makes_of_code(text: str) -> None:
    inline = READER.parse(f"before {code(text)} after")
    assert [token.type for token in inline] == ["paragraph_open", "inline", "paragraph_close"]
    children = inline[1].children or []
    shown = line(text)
    if shown.strip():
        assert [child.type for child in children] == ["text", "code_inline", "text"]
        assert children[1].content == shown
    else:
        assert [child.type for child in children] == ["text"]


@given(st.lists(ODD, min_size=2, max_size=2))
def test_a_cell_stays_one_cell(texts: list[str]) -> None:
    cells = [code(text, table=True) for text in texts]
    html = READER.render(f"| a | b |\n| --- | --- |\n| {cells[0]} | {cells[1]} |\n")
    assert html.count("<td") == 2
    assert html.count("<tr") == 2
    for text, found in zip(texts, re.findall(r"<td>(.*?)</td>", html, re.DOTALL), strict=True):
        assert "\\|" in text or not line(text).strip() or READER.renderInline(code(text)) == found


@given(ODD)
def test_prose_in_markdown_holds_text_and_code_alone(text: str) -> None:
    tokens = READER.parse("Title: " + markdown(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    for child in tokens[1].children or []:
        assert child.type in {"text", "text_special", "code_inline"}
        if child.type == "text":
            # What trackers look for in text: mentions, issues, links, commits, emoji, formulas.
            assert not re.search(
                r"[@#$]\w|://|www\.|\w[_*~`|]\w|:\w+:|\b(?=[a-f]*\d)[0-9a-f]{7,40}\b|[!~%&]\d", child.content
            )


@given(ODD)
def test_prose_in_markdown_begins_no_block(text: str) -> None:
    tokens = READER.parse(markdown(text))
    assert [token.type for token in tokens] in (["paragraph_open", "inline", "paragraph_close"], [])


@given(ODD)
def test_nothing_closes_a_block(text: str) -> None:
    tokens = READER.parse(block(text, "text") + "\n\nafter\n")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]


def test_markdown_leaves_words_alone() -> None:
    text = "The wheel's C API, built for NumPy 1.26 (or so), isn't there: 95% of it."
    assert markdown(text) == text


def test_markdown_sets_what_is_no_word_as_code() -> None:
    shown = markdown("ask @octocat about #1 and https://a.example, <b> or deadbee1 in a_b")
    assert shown == "ask `@octocat` about `#1` and `https://a.example`, `<b>` or `deadbee1` in `a_b`"


def test_what_a_rule_sets_as_code_is_one_span() -> None:
    text = "So `import cv2` fails: cv2/__init__.py (`line 153`) asks for it. It says `a b`."
    assert markdown(text) == "So `import cv2` fails: `cv2/__init__.py` (`line 153`) asks for it. It says `a b`."
    assert [part for is_code, part in spans(text) if is_code] == ["import cv2", "line 153", "a b"]
    # Backticks that belong to a word are no marks of ours.
    assert [is_code for is_code, _ in spans("x`y`z and `a`b")] == [False]
