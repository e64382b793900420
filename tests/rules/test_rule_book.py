"""What holds for every rule: its documentation, its names, its tests, and that no facts make it fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.snapshots import check_facts, distribution, distributions, python, snapshot

from driftcheck import validation
from driftcheck.explain import explain_one, explain_pair
from driftcheck.knowledge import tables
from driftcheck.rules import all_rules
from driftcheck.rules.base import FAMILIES, PARAGRAPHS, Contradiction, Drift, Rule, paragraphs_of, title_of

RULES = all_rules()
SECTIONS = validation.schema("snapshot")["properties"]["sections"]["properties"]
TESTS = "\n".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))


@pytest.fixture(params=RULES, ids=lambda rule: rule.code)
def rule(request: pytest.FixtureRequest) -> Rule:
    found: Rule = request.param
    return found


def test_codes_and_names_are_unique() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_code_and_name_are_well_formed(rule: Rule) -> None:
    family = re.fullmatch(r"([A-Z]{2,3})\d{3}", rule.code)
    assert family is not None
    assert family[1] in FAMILIES
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)


def test_a_rule_is_of_one_kind(rule: Rule) -> None:
    assert isinstance(rule, Contradiction) != isinstance(rule, Drift)


def test_documentation_is_complete(rule: Rule) -> None:
    assert title_of(rule).endswith(".")
    assert len(title_of(rule)) <= 100
    paragraphs = paragraphs_of(rule)
    assert tuple(paragraphs) == PARAGRAPHS
    for word, text in paragraphs.items():
        assert len(text) > 20, word


def test_reads_names_real_sections(rule: Rule) -> None:
    assert rule.reads
    assert set(rule.reads) <= SECTIONS.keys()


def test_references_are_addresses(rule: Rule) -> None:
    assert rule.references
    for reference in rule.references:
        assert re.fullmatch(r"https://[^\s]+\.[^\s]+", reference)


def test_a_rule_has_tests(rule: Rule) -> None:
    """One that asks for its findings at least, and one that says it has none."""
    asked = re.findall(rf'findings\(\s*"{rule.code}"', TESTS)
    assert len(asked) >= 2, f"no test asks {rule.code} for its findings twice"


# Facts


def healthy() -> dict[str, Any]:
    return {
        "python": python(),
        "packages": distributions(
            distribution("numpy", "2.1.0", tags={"cp311-cp311-manylinux_2_17_x86_64": True}),
            distribution("requests", requires={"certifi>=2017": ""}),
            distribution("certifi", "2026.1"),
        ),
        "system": {
            "os_release": {
                "id": "debian",
                "version_id": "12",
                "version_codename": "bookworm",
                "pretty_name": "Debian GNU/Linux 12 (bookworm)",
                "id_like": [],
            },
            "libc": {"family": "glibc", "version": "2.36", "path": "/lib/libc.so.6"},
            "packages": {"manager": "dpkg", "packages": {"bash": "5.2"}},
        },
        "programs": {"programs": {"gcc": None, "ffmpeg": None}, "libraries": {"libsndfile.so.1": None}},
        "variables": {"variables": {"PATH": {"value": "/usr/bin"}, "HF_TOKEN": {}}},
        "limits": {
            "cpu_limit": {"cpus": 4, "decided_by": "online"},
            "cpus": {"affinity": 4, "online": 4},
        },
        "machine": {"architecture": "x86_64", "level": "x86-64-v3", "emulation": None},
    }


def test_nothing_is_found_between_two_equal_healthy_environments() -> None:
    explanation = explain_pair(snapshot("a", **healthy()), snapshot("b", **healthy()))
    assert explanation.findings == ()
    assert explanation.changes == ()


def test_nothing_is_found_in_a_healthy_environment() -> None:
    explanation = explain_one(snapshot("a", **healthy()))
    assert explanation.findings == ()


# Names that rules ask for, so that odd facts reach the code behind the first question.
WORDS = st.sampled_from(
    """
    numpy torch pandas tensorflow-cpu polars ffmpeg-python pydub soundfile triton transformers opencv-python json random
    _lzma _ctypes zlib cp311-cp311-manylinux_2_17_x86_64 cp310-cp310-musllinux_1_2_aarch64 py3-none-any
    cp311-abi3-win_amd64 cpython-311-x86_64-linux-gnu pypy39-pp73 3.11.7 3 2.36 x86_64 arm64 linux darwin win32 glibc
    musl ffmpeg gcc libsndfile.so.1 OMP_NUM_THREADS PYTHONPATH LD_PRELOAD CC value 8 -1 4,2 gcompat debian 12
    """.split()  # noqa: SIM905 - a list of words to read
) | st.text(max_size=6)


def of_schema(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of a section allows; every property that is not required may be missing."""
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return st.one_of([_of_kind(kind, schema) for kind in kinds])


def _of_kind(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum", -3), 2**40)
    if kind == "number":
        return st.floats(schema.get("exclusiveMinimum", -3) + 0.01, 1e6)
    if kind == "string":
        return WORDS
    if kind == "array":
        low = schema.get("minItems", 0)
        return st.lists(of_schema(schema.get("items", {})), min_size=low, max_size=schema.get("maxItems", low + 3))
    required = set(schema.get("required", ()))
    fixed = {name: of_schema(entry) for name, entry in schema.get("properties", {}).items()}
    record = st.fixed_dictionaries(
        {name: entry for name, entry in fixed.items() if name in required},
        optional={name: entry for name, entry in fixed.items() if name not in required},
    )
    further = schema.get("additionalProperties")
    if not isinstance(further, dict):
        return record
    return st.tuples(record, st.dictionaries(WORDS, of_schema(further), max_size=4)).map(lambda two: two[1] | two[0])


def environments() -> st.SearchStrategy[dict[str, Any]]:
    facts = {name: of_schema(section["properties"]["facts"]) for name, section in SECTIONS.items()}
    return st.fixed_dictionaries({}, optional=facts)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(environments(), environments())
def test_no_facts_make_a_rule_fail(before: dict[str, Any], after: dict[str, Any]) -> None:
    for side in (before, after):
        for name, facts in side.items():
            check_facts(name, facts)
    one, other = snapshot("a", **before), snapshot("b", **after)
    for explanation in (explain_one(other), explain_pair(one, other), explain_pair(other, one)):
        assert [entry for entry in explanation.not_judged if entry.fault] == []
        for finding in explanation.findings:
            assert finding.evidence
            assert finding.title.strip()
            assert finding.explanation.strip()


# Tables


def knowledge() -> Iterator[str]:
    return (name.removeprefix("knowledge-") for name in validation.names() if name.startswith("knowledge-"))


@pytest.mark.parametrize("name", sorted(knowledge()))
def test_tables_are_valid_and_sourced(name: str) -> None:
    value = json.loads(json.dumps(tables.table(name)))
    jsonschema.Draft202012Validator(validation.schema(f"knowledge-{name}")).validate(value)
    for row in value["rows"]:
        assert row["source"].startswith("https://")
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", row["date"])
        tables.in_range(row.get("versions"), "1.0")


def test_a_row_speaks_of_the_versions_that_it_names() -> None:
    assert tables.in_range(None, None)
    assert tables.in_range(">=2.4", "2.4.6")
    assert tables.in_range(">=2.4", "2.5.0rc1")
    assert not tables.in_range(">=2.4", "2.3")
    assert not tables.in_range(">=2.4", None)
    assert not tables.in_range(">=2.4", "no version")


def test_the_level_of_a_processor_need_holds_its_flags() -> None:
    """The flags of psABI's levels as /proc/cpuinfo names them; what a row needs must not be above its level."""
    levels = {
        "x86-64-v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
        "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    }
    for need in tables.processor_needs():
        allowed = set().union(*(flags for level, flags in levels.items() if level <= need.level))
        assert set(need.flags) <= allowed
        assert set(need.flags) & levels[need.level]
