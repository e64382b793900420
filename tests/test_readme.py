"""What the README counts and lists is what there is: tables, formats, links, and the example that it tells to type.

That its command lines can be typed is asked by tests/cli/test_help.py; CI runs the two that are marked.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from support.commands import driftcheck

from driftcheck.cli.pages import EXITS
from driftcheck.environments.reference import KINDS
from driftcheck.findings import Impact
from driftcheck.report.formats import FORMATS
from driftcheck.rules import all_rules

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, found, below = README.partition(f"\n## {heading}\n")
    assert found, heading
    table = re.search(r"(?:^\|.*\n)+", below.partition("\n## ")[0], re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def test_the_families_are_those_of_the_rules() -> None:
    named = [code for cells in rows("What it finds") for code in re.findall(r"`([A-Z]+)`", cells[0])]
    assert sorted(named) == sorted({rule.code[:-3] for rule in all_rules()})


def test_the_impacts_are_all_there_in_their_order() -> None:
    (named,) = re.findall(r"has an impact \(([^)]*)\)", README)
    assert named == ", ".join(f"`{impact.value}`" for impact in Impact)


def test_the_formats_are_those_that_can_be_asked_for() -> None:
    (sentence,) = re.findall(r"^`--format` is (.*?)\. `--output-file", README, re.DOTALL | re.MULTILINE)
    assert sorted(set(re.findall(r"`([a-z]+)`", sentence))) == sorted(FORMATS)


def test_the_references_are_those_that_are_understood() -> None:
    kinds = {kind for cells in rows("References") for kind in re.findall(r"`([a-z]+)(?::[^`]*)?`", cells[0])}
    assert kinds == KINDS.keys() - {"file"}


def test_the_exit_codes_are_those_of_the_help_pages() -> None:
    assert [int(cells[0]) for cells in rows("Exit codes")] == list(EXITS)


def test_the_sections_are_those_of_a_snapshot_in_their_layers() -> None:
    said = {cells[0].strip("`"): cells[1] for cells in rows("A snapshot")}
    # What --try-imports adds is told with the references.
    known = {path.stem for path in (ROOT / "schemas" / "sections").glob("*.json")}
    assert said.keys() == known - {"imports"}
    assert "`--try-imports NAME`" in README
    example = json.loads((ROOT / "docs" / "example" / "laptop.json").read_text(encoding="utf-8"))["sections"]
    layers = {name: section["layer"] for name, section in example.items()}
    assert {name: said[name] for name in layers} == layers


@pytest.mark.parametrize("page", ["README.md", "docs/coverage.md", "docs/rules/README.md"])
def test_every_file_that_is_linked_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not ((ROOT / page).parent / link).exists()] == []
    assert local


def test_the_example_is_what_it_is_said_to_be() -> None:
    """An image with an older tokenizers and without the libraries that OpenCV opens."""
    (line,) = re.findall(r"`(driftcheck diff docs/example/[^`]*)`", README)
    done = driftcheck(*shlex.split(line)[1:], cwd=ROOT)
    assert (done.code, done.err) == (1, "")
    titles = [row for row in done.out.splitlines() if row.startswith("BREAKS")]
    assert any("PKG001" in row and "tokenizers" in row for row in titles), titles
    assert any("LIB001" in row and ".so" in row for row in titles), titles
