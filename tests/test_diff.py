"""Changes between snapshots: their laws, and what never is a change."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import hypothesis.strategies as st
import pytest
from driftcheck.probes.common import digest as digest_of
from hypothesis import given

from driftcheck.diff import Change, changes, own_distributions, unmeasured
from driftcheck.snapshot import Section, Snapshot

HEADER = {"label": "test", "interpreter": {"path": "python", "reason": "test"}}

leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab<>/\N{SNOWMAN}", max_size=3)
facts = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc/", max_size=2), inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)


def section(name: str, held: dict[str, Any], status: str = "ok") -> Section:
    return Section(name, "image", status, None if status == "ok" else "because", [], held, digest_of(held))


def snapshot(**sections: dict[str, Any]) -> Snapshot:
    return Snapshot(HEADER, {name: section(name, held) for name, held in sections.items()})


@given(facts)
def test_nothing_differs_from_itself(held: dict[str, Any]) -> None:
    one, same = snapshot(system=held), snapshot(system=copy.deepcopy(held))
    assert changes(one, same) == []
    # Nor when the digests do not end the comparison at once.
    other_digest = dataclasses.replace(same.sections["system"], digest="sha256:0")
    assert changes(one, Snapshot(HEADER, {"system": other_digest})) == []


def canonical_order(found: list[Change]) -> list[tuple[str, ...]]:
    return sorted((*change.path, change.kind, repr(change.before), repr(change.after)) for change in found)


@given(facts, facts)
def test_the_changes_of_a_to_b_reversed_are_those_of_b_to_a(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, two = snapshot(system=first), snapshot(system=second)
    forth = changes(one, two)
    back = [change.reversed() for change in changes(two, one)]
    assert canonical_order(forth) == canonical_order(back)
    if digest_of(first) != digest_of(second):
        assert forth or first == second  # JSON tells 1 from true, Python does not


def test_each_kind_of_change_names_its_place() -> None:
    one = snapshot(packages={"conda": {"a": {"version": "1"}, "gone": {"version": "1"}}})
    two = snapshot(packages={"conda": {"a": {"version": "2"}, "new": {"version": "1"}}})
    assert changes(one, two) == [
        Change(("packages", "conda", "a", "version"), "changed", "1", "2"),
        Change(("packages", "conda", "gone"), "removed", {"version": "1"}, None),
        Change(("packages", "conda", "new"), "added", None, {"version": "1"}),
    ]


def test_lists_are_compared_entry_by_entry() -> None:
    one = snapshot(python={"search_path": ["/a", "/b", "/c"]})
    two = snapshot(python={"search_path": ["/a", "/x", "/b", "/c"]})
    assert changes(one, two) == [Change(("python", "search_path", "1"), "added", None, "/x")]


def venv(prefix: str, **more: Any) -> Snapshot:
    return snapshot(
        python={
            "prefix": prefix,
            "environment": {"kind": "venv"},
            "search_path": [f"{prefix}/lib", "/usr/lib"],
        },
        variables={"variables": {"PATH": {"value": f"{prefix}/bin:/usr/bin"}, "VIRTUAL_ENV": {"value": prefix}}},
        **more,
    )


def test_a_place_inside_the_prefix_is_the_same_place_wherever_the_prefix_is() -> None:
    found = changes(venv("/home/a/.venv"), venv("/opt/venv"))
    assert [change.path for change in found] == [
        ("python", "prefix"),
        ("variables", "variables", "VIRTUAL_ENV", "value"),
    ]


def test_the_prefix_of_a_system_interpreter_is_no_place_of_its_own() -> None:
    one = snapshot(python={"prefix": "/usr", "environment": {"kind": "system"}, "search_path": ["/usr/lib"]})
    two = snapshot(python={"prefix": "/usr", "environment": {"kind": "system"}, "search_path": ["/usr/local/lib"]})
    assert changes(one, two) == [Change(("python", "search_path", "0"), "changed", "/usr/lib", "/usr/local/lib")]


def test_what_was_not_measured_is_neither_equal_nor_removed() -> None:
    measured = snapshot(system={"a": 1}, machine={"b": 1})
    target = Snapshot(HEADER, {"system": section("system", {}, "failed")})
    assert changes(measured, target) == []
    assert [(entry.section, entry.side, entry.status) for entry in unmeasured(measured, target)] == [
        ("machine", "target", "missing"),
        ("system", "target", "failed"),
    ]
    assert [entry.side for entry in unmeasured(target, measured)] == ["baseline", "baseline"]
    assert unmeasured(target, target) == []


def distribution(*requires: str, requested: bool = False) -> dict[str, Any]:
    return {"requires": dict.fromkeys(requires, ""), "requested": requested, "version": "1"}


def packages(**distributions: dict[str, Any]) -> Snapshot:
    return snapshot(packages={"distributions": {name.replace("_", "-"): held for name, held in distributions.items()}})


def test_driftcheck_and_what_it_alone_brought_are_never_drift() -> None:
    with_it = packages(
        driftcheck=distribution("click>=8", "rich", "packaging>=24", requested=True),
        click=distribution(),
        rich=distribution("markdown-it-py>=2", "pygments"),
        markdown_it_py=distribution("mdurl"),
        mdurl=distribution(),
        pygments=distribution(requested=True),
        packaging=distribution(),
        transformers=distribution("packaging", requested=True),
    )
    without = packages(
        pygments=distribution(requested=True),
        packaging=distribution(),
        transformers=distribution("packaging", requested=True),
    )
    assert own_distributions(with_it) == {"driftcheck", "click", "rich", "markdown-it-py", "mdurl"}
    assert own_distributions(without) == frozenset()
    assert changes(with_it, without) == []


@pytest.mark.parametrize("requirement", ["", "   ", "@@@", "[x]", "-r file"])
def test_requirements_that_name_nothing_do_no_harm(requirement: str) -> None:
    assert own_distributions(packages(driftcheck=distribution(requirement))) == {"driftcheck"}
