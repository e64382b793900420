"""The order in which to look: impact, confidence, reach; causes before their effects, never below what they cause."""

from __future__ import annotations

import pytest
from support.snapshots import distribution, distributions, python, snapshot

from driftcheck.findings import Confidence, Evidence, Finding, Impact, Subject
from driftcheck.ranking import Reach, ranked, reach_of
from driftcheck.snapshot import Snapshot

STACK = snapshot(
    "target",
    python=python(),
    packages=distributions(
        distribution("vllm", requires={"transformers>=4": "", "torch": "", "ray; extra": 'extra == "ray"'}),
        distribution("transformers", requested=False, requires={"tokenizers": "", "numpy": ""}),
        distribution("tokenizers", requested=False, requires={"huggingface-hub": ""}),
        distribution("huggingface-hub", requested=False, requires={"requests": ""}),
        distribution("requests", requested=False, requires={"idna": ""}),
        distribution("idna", requested=False),
        distribution("torch", requested=False, requires={"numpy": "", "colorama": 'sys_platform == "win32"'}),
        distribution("numpy", requested=True),
        distribution("colorama", requested=False),
        distribution("left-over", requested=False, requires={"of-left-over": ""}),
        distribution("of-left-over", requested=False),
        distribution("circle-a", requested=False, requires={"circle-b": ""}),
        distribution("circle-b", requested=False, requires={"circle-a": ""}),
    ),
)


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("vllm", Reach(0, "requested")),
        ("numpy", Reach(0, "requested")),
        ("torch", Reach(1, "needed by vllm")),
        ("tokenizers", Reach(2, "needed by vllm > transformers")),
        ("requests", Reach(4, "needed by vllm > transformers > tokenizers > huggingface-hub")),
        ("idna", Reach(5, "needed by vllm > transformers > tokenizers > ... > requests")),
        ("colorama", Reach(2, "not requested, and nothing needs it")),
        ("left-over", Reach(2, "not requested, and nothing needs it")),
        ("of-left-over", Reach(1, "needed by left-over")),
    ],
)
def test_how_a_distribution_came_here(name: str, reach: Reach) -> None:
    assert reach_of(STACK)[name] == reach


def test_ten_thousand_in_a_row() -> None:
    row = [
        distribution(f"d{index}", requested=index == 0, requires={f"d{index + 1}": ""} if index < 9_999 else {})
        for index in range(10_000)
    ]
    reach = reach_of(snapshot("target", python=python(), packages=distributions(*row)))
    assert reach["d9999"] == Reach(9999, "needed by d0 > d1 > d2 > ... > d9998")


def test_what_only_needs_itself_has_no_reach() -> None:
    assert not {"circle-a", "circle-b"} & reach_of(STACK).keys()


def test_where_nobody_recorded_who_asked_nothing_is_said_of_it() -> None:
    conda = distributions(
        distribution("pandas", requested=False, requires={"numpy": ""}), distribution("numpy", requested=False)
    )
    assert reach_of(snapshot("target", python=python(), packages=conda)) == {
        "pandas": Reach(0, None),
        "numpy": Reach(1, "needed by pandas"),
    }
    assert reach_of(Snapshot({}, {})) == {}


def finding(name: str, impact: Impact = Impact.BREAKS, **more: object) -> Finding:
    values: dict[str, object] = {
        "code": "X001",
        "name": "a-rule",
        "confidence": Confidence.LIKELY,
        "title": name,
        "subject": Subject("distribution", name),
        "explanation": "Because.",
    }
    return Finding(impact=impact, **(values | more))  # type: ignore[arg-type]


def order(*findings: Finding) -> list[str]:
    return [one.title for one in ranked(findings, STACK)]


def test_impact_then_confidence_then_what_one_sees_then_reach() -> None:
    assert order(
        finding("note", Impact.NOTE),
        finding("idna"),
        finding("numpy"),
        finding("tokenizers"),
        finding("seen", predicted_error="ImportError: x"),
        finding("sure", confidence=Confidence.CERTAIN),
        finding("doubtful", confidence=Confidence.POSSIBLE, predicted_error="ImportError: x"),
        finding("slow", Impact.SLOWS, confidence=Confidence.CERTAIN),
        finding("known", also_in_baseline=True, confidence=Confidence.CERTAIN),
    ) == ["sure", "seen", "numpy", "tokenizers", "idna", "doubtful", "slow", "note", "known"]


def test_the_reach_of_files_and_requirements_is_that_of_their_distribution() -> None:
    target = Snapshot(STACK.header, STACK.sections)
    unmet = finding("unmet", subject=Subject("requirement", "tokenizers -> safetensors"))
    (found,) = ranked([unmet], target)
    assert found.reach == "needed by vllm > transformers"
    elsewhere = finding("elsewhere", subject=Subject("system", "ca-bundle"))
    assert [one.reach for one in ranked([elsewhere], target)] == [None]


def test_a_library_is_reached_through_whoever_brought_the_file() -> None:
    files = {"tokenizers/t.so": {"distribution": "tokenizers", "role": "module", "missing": {"libx.so": {}}}}
    packages = STACK.sections["packages"]
    target = Snapshot({}, {"packages": packages, "python": STACK.sections["python"]})
    libraries = Evidence("target", ("libraries", "files", "tokenizers/t.so", "missing", "libx.so"), {})
    missing = finding("missing", subject=Subject("library", "libx.so"), evidence=(libraries,))
    assert [one.reach for one in ranked([missing], target)] == [None]
    section = type(packages)("libraries", "image", "ok", None, [], {"files": files}, "digest")
    known = Snapshot({}, {**target.sections, "libraries": section})
    assert [one.reach for one in ranked([missing], known)] == ["needed by vllm > transformers"]


def test_effects_follow_their_cause_which_stands_where_the_worst_of_them_would() -> None:
    cause = finding("cause", Impact.NOTE)
    assert order(
        finding("doubtful", confidence=Confidence.POSSIBLE),
        cause,
        finding("effect-note", Impact.NOTE, caused_by=cause.identity),
        finding("effect", caused_by=cause.identity),
        finding("other-note", Impact.NOTE),
    ) == ["cause", "effect", "effect-note", "doubtful", "other-note"]


def test_of_two_causes_that_are_as_bad_the_one_with_more_effects_leads() -> None:
    one, many = finding("one"), finding("many")
    effects = [finding(f"effect-{number}", caused_by=many.identity) for number in range(3)]
    assert order(one, finding("of-one", caused_by=one.identity), *effects, many)[:2] == ["many", "effect-0"]


def test_an_effect_whose_cause_is_not_there_stands_alone() -> None:
    assert order(finding("a", caused_by=("GONE", "x", "y"))) == ["a"]
