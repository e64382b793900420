"""The catalogue of breakages: each row decided and sourced; and the pages that are written from it are current."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt

from driftcheck import validation
from driftcheck.knowledge import tables
from driftcheck.knowledge.catalogue import LEFT_OUT, Breakage, breakages
from driftcheck.rules import all_rules
from driftcheck.rules.base import paragraphs_of, title_of

ROOT = Path(__file__).parents[2]
CODES = {rule.code for rule in all_rules()}
SCHEMA = validation.schema("knowledge-catalogue")


@functools.cache
def generate() -> ModuleType:
    """docs/generate.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows() -> list[dict[str, Any]]:
    return copy.deepcopy(list(tables.table("catalogue")["rows"]))


def problems(entries: list[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the rows of a catalogue, beyond its schema."""
    names = [row["id"] for row in entries]
    yield from (f"{name} stands there twice" for name in sorted(set(names)) if names.count(name) > 1)
    for row in entries:
        for code in row["decided"]["rules"]:
            if code not in CODES:
                yield f"{row['id']} names the rule {code}, which there is not"
        # The rules of a row that nobody confirmed may say no more than possible: asked of their documentation.
        if not row["confirmed"]:
            for code in row["decided"]["rules"]:
                if not re.search(r"\bpossible\b", paragraphs_of(rule(code))["Decided"]):
                    yield f"{row['id']} is not confirmed, and {code} does not say possible"
    confirmed = [row for row in entries if row["confirmed"]]
    covered = [row for row in confirmed if row["decided"]["by"] != LEFT_OUT]
    if len(covered) * 4 < len(confirmed) * 3:
        yield f"only {len(covered)} of {len(confirmed)} confirmed rows are covered"


def rule(code: str) -> Any:
    return next(rule for rule in all_rules() if rule.code == code)


def test_every_row_is_decided_by_what_there_is() -> None:
    assert list(problems(rows())) == []


def test_what_is_wrong_would_be_found() -> None:
    bad = rows()
    bad[0]["decided"]["rules"] = ["XYZ999"]
    bad[1]["id"] = bad[2]["id"]
    assert list(problems(bad)) == [
        f"{bad[2]['id']} stands there twice",
        f"{bad[0]['id']} names the rule XYZ999, which there is not",
    ]
    bad = rows()
    for row in bad[: len(bad) // 2]:
        row["decided"] = {"by": LEFT_OUT, "rules": [], "reason": "nobody has had the time for it yet"}
    assert [text.split(" ", 1)[0] for text in problems(bad)] == ["only"]


def test_what_nobody_confirmed_may_be_called_possible_at_most() -> None:
    bad = rows()
    bad[0] |= {"confirmed": False, "decided": {"by": "rule", "rules": ["LIB004"], "reason": ""}}
    assert list(problems(bad)) == [f"{bad[0]['id']} is not confirmed, and LIB004 does not say possible"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("source", "reproduced"),
        ("source", None),
        ("impact", "degrades"),
        ("decided", {"by": "left-out", "rules": [], "reason": ""}),
        ("decided", {"by": "left-out", "rules": ["LIB001"], "reason": "it is left out, and it is not"}),
        ("decided", {"by": "rule", "rules": [], "reason": ""}),
        ("decided", {"by": "mechanism", "rules": ["LIB001"], "reason": ""}),
        ("how", ""),
        ("date", "today"),
    ],
)
def test_a_row_without_a_source_or_a_decision_is_refused(field: str, value: object) -> None:
    entries = rows()
    bad = {"description": "a catalogue", "rows": entries}
    jsonschema.Draft202012Validator(SCHEMA).validate(bad)
    entries[0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(bad)


def test_nothing_in_it_names_a_place_of_its_making() -> None:
    text = json.dumps(rows())
    assert not re.search(r"/work/|/tmp/|pyenv|pythonhosted|pypi\.", text)


# Pages


def test_the_pages_are_current() -> None:
    """`python docs/generate.py` writes them."""
    assert generate().stale() == []


def test_a_page_says_what_the_rule_says() -> None:
    parser = MarkdownIt("commonmark")
    for one in all_rules():
        tokens = parser.parse(generate().rule_page(one))
        lines = ["".join(child.content or " " for child in token.children or ()) for token in tokens]
        plain = " ".join(" ".join(lines).replace("`", "").split())
        for text in (title_of(one), *paragraphs_of(one).values()):
            wanted = " ".join(re.sub(r"`", "", text).split())
            assert wanted in plain, f"{one.code}: {wanted}"
        headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
        assert headings == [f"{one.code} {one.name}", *generate().HEADINGS.values(), "References"]


def test_every_rule_is_in_the_index_and_every_row_in_the_table() -> None:
    written = generate().pages()
    for one in all_rules():
        assert f"[{one.code}]({one.code}.md)" in written["rules/README.md"]
    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(written["coverage.md"])
    lines = [place for place, token in enumerate(tokens) if token.type == "tr_open"]
    first = {tokens[place + 2].content for place in lines}
    assert {row.id for row in breakages()} <= first
    width = [token.type for token in tokens if token.type in {"tr_open", "td_open"}]
    assert all(row.count("d") == 5 for row in "".join(kind[1] for kind in width).split("r") if "d" in row)


def test_text_that_would_be_markup_is_escaped() -> None:
    page = generate()
    assert page.cell("a | b *c* <d> `e|f`") == "a \\| b \\*c\\* \\<d\\> `e\\|f`"
    assert page.code_span("a`b | c") == "`` a`b \\| c ``"
    assert len(page.code_span("x" * 1000)) < 200
    odd = Breakage("a", "env", "e|r`r", "", "", "breaks", "", "https://x.y", (), False, "", LEFT_OUT, (), "a | reason")
    assert "| a | breaks | `` e\\|r`r `` | left out: a \\| reason | not confirmed [1](https://x.y) |" in page.coverage(
        [odd], set()
    )


def test_a_page_that_is_wrong_missing_or_left_behind_is_stale(tmp_path: Path) -> None:
    page = generate()
    first = page.write(tmp_path)
    assert sorted(first) == sorted(page.pages())
    assert page.stale(tmp_path) == []
    (tmp_path / "rules" / "XYZ999.md").write_text("gone")
    (tmp_path / "rules" / "LIB001.md").write_text("wrong")
    (tmp_path / "coverage.md").unlink()
    assert page.stale(tmp_path) == ["coverage.md", "rules/LIB001.md", "rules/XYZ999.md"]
    assert page.write(tmp_path) == ["coverage.md", "rules/LIB001.md", "rules/XYZ999.md"]
    assert page.stale(tmp_path) == []
