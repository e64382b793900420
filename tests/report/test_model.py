"""A report survives being saved: the same value, and the same bytes in every format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftcheck import validation
from driftcheck.diff import Change, Unmeasured
from driftcheck.errors import InputError
from driftcheck.explain import Explanation, NotJudged
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.report import model
from driftcheck.report.formats import FORMATS, RenderOptions, render
from driftcheck.report.model import Environment, Report, Target

if TYPE_CHECKING:
    from collections.abc import Callable

# Short texts of signs that no redaction looks for: redaction has tests of its own, and would not be undone.
TEXT = st.text(st.sampled_from(list("abc 019.`|\\<>#*_\n\x1b\u202e\u00e9\u6771")), max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PATH = st.one_of(
    st.lists(TEXT, min_size=1, max_size=4).map(tuple),
    st.tuples(
        st.just("packages"),
        st.just("distributions"),
        TEXT,
        st.sampled_from(["version", "record", "requires"]),
    ),
    st.tuples(st.just("variables"), st.just("variables"), TEXT),
)
SIDE = st.sampled_from(["baseline", "target"])
ENVIRONMENT = st.builds(
    Environment,
    st.fixed_dictionaries(
        {
            "label": TEXT,
            "created": TEXT,
            "tool": st.fixed_dictionaries({"name": TEXT, "version": TEXT}),
            "reference": TEXT,
            "channel": TEXT,
            "interpreter": st.fixed_dictionaries(
                {"path": TEXT, "version": TEXT, "reason": TEXT, "working_directory": TEXT}
            ),
        }
    ),
    st.dictionaries(TEXT | st.sampled_from(["Python", "torch", "numpy"]), TEXT, max_size=5),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=2).map(tuple),
)
FINDING = st.builds(
    Finding,
    code=TEXT, name=TEXT, impact=st.sampled_from(Impact), confidence=st.sampled_from(Confidence), title=TEXT,
    subject=st.builds(Subject, TEXT, TEXT), explanation=TEXT, predicted_error=st.none() | TEXT,
    evidence=st.lists(st.builds(Evidence, SIDE, PATH, VALUE), max_size=3).map(tuple),
    fix=st.lists(st.builds(Fix, TEXT | st.sampled_from(["pip", "advice"]), TEXT), max_size=2).map(tuple),
    references=st.lists(TEXT, max_size=2).map(tuple), also_in_baseline=st.booleans(),
    folds=st.lists(PATH, max_size=3).map(tuple),
)  # fmt: skip
CHANGE = st.one_of(
    st.builds(Change, PATH, st.just("changed"), VALUE, VALUE),
    st.builds(Change, PATH, st.just("added"), st.none(), VALUE),
    st.builds(Change, PATH, st.just("removed"), VALUE, st.none()),
)
EXPLANATION = st.builds(
    Explanation,
    st.lists(FINDING, max_size=4).map(tuple),
    st.lists(CHANGE, max_size=6).map(tuple),
    st.lists(
        st.builds(Unmeasured, TEXT, SIDE, st.sampled_from(["missing", "absent", "unavailable", "failed"]), TEXT),
        max_size=2,
    ).map(tuple),
    st.lists(st.builds(NotJudged, TEXT, TEXT, TEXT, st.booleans()), max_size=2).map(tuple),
)
REPORT = st.builds(
    Report,
    st.none() | ENVIRONMENT,
    st.lists(st.builds(Target, ENVIRONMENT, EXPLANATION), min_size=1, max_size=3).map(tuple),
    st.none() | st.sampled_from(Impact),
    TEXT,
)
OPTIONS = st.builds(RenderOptions, all=st.booleans(), width=st.none() | st.integers(1, 300), color=st.booleans())


@settings(deadline=None, max_examples=50)
@given(REPORT, OPTIONS)
def test_a_saved_report_is_the_same_and_renders_to_the_same_bytes(report: Report, options: RenderOptions) -> None:
    saved = report.text()
    again = model.parse(saved.encode(), "report.json")
    assert again == report
    assert again.text() == saved
    for name in FORMATS:
        assert render(again, name, options) == render(report, name, options)


@pytest.mark.parametrize("name", ["diff", "clean", "equal", "single", "several"])
def test_samples_survive(name: str, samples: dict[str, Callable[[], Report]]) -> None:
    report = samples[name]()
    again = model.parse(report.text().encode(), "report.json")
    assert again == report


def test_every_sample_is_valid(sample: Report) -> None:
    jsonschema.Draft202012Validator(validation.schema("report")).validate(model.document(sample))


def test_the_schema_describes_every_property() -> None:
    jsonschema.Draft202012Validator.check_schema(validation.schema("report"))
    bare = []

    def look(schema: Any, where: str) -> None:
        for name, entry in schema.get("properties", {}).items():
            if "description" not in entry:
                bare.append(f"{where}.{name}")
            look(entry, f"{where}.{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                look(schema[key], f"{where}[]")

    look(validation.schema("report"), "report")
    assert not bare


def test_the_header_is_that_of_a_snapshot() -> None:
    report, snapshot = validation.schema("report"), validation.schema("snapshot")
    target = report["properties"]["targets"]["items"]["properties"]["environment"]
    for environment in (report["properties"]["baseline"], target):
        assert environment["properties"]["header"] == snapshot["properties"]["header"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"fail_on": "often"}, "fail_on"),
        ({"targets": []}, "targets"),
        ({"targets": [{}]}, "targets.0"),
        ({"baseline": 1}, "baseline"),
        ({"more": 1}, "the document"),
    ],
)
def test_a_broken_report_is_refused_with_its_place(
    change: dict[str, Any], place: str, samples: dict[str, Callable[[], Report]]
) -> None:
    value = {**model.document(samples["diff"]()), **change}
    with pytest.raises(InputError, match=rf"^r\.json: not a valid report: at {place}"):
        model.parse(json.dumps(value).encode(), "r.json")


def test_a_newer_report_is_refused_in_words(samples: dict[str, Callable[[], Report]]) -> None:
    value = {**model.document(samples["diff"]()), "schema_version": 99}
    with pytest.raises(InputError, match="newer driftcheck"):
        model.parse(json.dumps(value).encode(), "r.json")


def test_what_is_no_report_is_refused() -> None:
    with pytest.raises(InputError, match="not a report"):
        model.parse(b'{"kind": "snapshot"}', "r.json")


SECRETS = st.sampled_from([
    "token=abcdef123456", "https://me:secret@host.example/x", "/home/someone/venv/bin/python", "hf_" + "a1B2" * 8,
    "--password hunter22", "ok",
])  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.lists(SECRETS, min_size=5, max_size=5))
def test_what_is_redacted_before_it_is_saved_is_read_back_the_same(texts: list[str]) -> None:
    title, explanation, error, command, value = texts
    evidence = (Evidence("target", ("variables", "variables", title), {"value": value}),)
    found = Finding("ENV001", "a-name", Impact.BREAKS, Confidence.LIKELY, title, Subject("variable", title),
                    explanation, error, evidence, (Fix("pip", command),))  # fmt: skip
    environment = Environment(
        {
            "label": title,
            "created": "",
            "tool": {"name": "driftcheck", "version": "1"},
            "reference": command,
            "channel": "",
            "interpreter": {"path": value, "version": "", "reason": "", "working_directory": error},
        },
        {},
    )
    report = model.redacted(Report(None, (Target(environment, Explanation((found,))),)))
    assert model.redacted(report) == report
    assert model.parse(report.text().encode(), "r.json") == report
    for name in FORMATS:
        assert not re.search("abcdef123456|secret|someone|a1B2|hunter22", render(report, name, RenderOptions()))


def test_secrets_in_a_saved_report_are_hidden_again(samples: dict[str, Callable[[], Report]]) -> None:
    text = samples["diff"]().text().replace("2.3.1+cpu", "ghp_abcdefghijklmnopqrstuvwxyz0123456789")
    again = model.parse(text.encode(), "r.json")
    for name in FORMATS:
        assert "ghp_" not in render(again, name, RenderOptions(all=True))
