"""The table of programs and libraries: valid, sourced, without double rows, and in step with the probe."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import driftcheck.schemas
import jsonschema
from driftcheck.probes import programs
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import driftcheck

TABLE = json.loads((Path(driftcheck.__file__).parent / "knowledge" / "programs.json").read_text("utf-8"))
SCHEMA = json.loads((Path(driftcheck.schemas.__path__[0]) / "knowledge-programs.json").read_text("utf-8"))
ROWS: list[dict[str, Any]] = TABLE["rows"]


def names(kind: str) -> set[str]:
    return {name for row in ROWS if row["kind"] == kind for name in row["any_of"]}


def test_the_table_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(TABLE)
    assert len(ROWS) >= 30


def test_the_probe_measures_what_the_table_names_and_nothing_else() -> None:
    assert set(programs.PROGRAMS) == names("program")
    assert set(programs.LIBRARIES) == names("library")
    assert set(programs.HEADERS) == names("header")
    assert len(set(programs.LIBRARIES)) == len(programs.LIBRARIES)


def test_the_probe_looks_for_owners_among_the_packages_of_the_table() -> None:
    for row in ROWS:
        if row["kind"] == "program" and len(row["any_of"]) == len(row["debian"]):
            for name, package in zip(row["any_of"], row["debian"], strict=True):
                assert package in programs.PROGRAMS[name]


def test_rows_are_distinct_and_sorted_by_distribution() -> None:
    keys = [(row["distribution"], row["kind"], tuple(row["any_of"])) for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert [row["distribution"] for row in ROWS] == sorted(row["distribution"] for row in ROWS)


def test_every_row_names_what_was_read_and_when() -> None:
    for row in ROWS:
        assert canonicalize_name(row["distribution"]) == row["distribution"]
        assert row["read_in"].startswith(row["distribution"] + " ")
        path = row["read_in"].split(", ")[1]
        assert row["source"].endswith(path)
        assert dt.date.fromisoformat(row["date"]) >= dt.date(2024, 1, 1)
        assert row["predicted_error"].strip() == row["predicted_error"] != ""
        assert "\n" not in row["predicted_error"]
        if row["versions"] is not None:
            SpecifierSet(row["versions"])


def test_a_library_is_named_by_its_soname() -> None:
    for name in names("library"):
        assert name.startswith("lib")
        assert ".so." in name
