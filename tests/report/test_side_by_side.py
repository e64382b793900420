"""Environments beside each other: each value against the snapshot that it is of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import distribution, distributions, snapshot

from driftcheck.diff import Change, Unmeasured, changes
from driftcheck.explain import Explanation
from driftcheck.report.model import Environment, Expected, Report, Target, environment_of
from driftcheck.report.side_by_side import Line, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = st.sampled_from(["1.0", "2.0", "3.0", ""])
PLACES = st.fixed_dictionaries({"a": VERSIONS, "b": VERSIONS, "c": VERSIONS})


def lines(report: Report, title: str) -> dict[str, Line]:
    return {line.name: line for table in side_by_side(report) if table.title == title for line in table.lines}


def of(*targets: Target) -> Report:
    return Report(Environment({"label": "laptop"}, {}), targets)


def target(*differing: Change, gaps: tuple[Unmeasured, ...] = ()) -> Target:
    return Target(Environment({"label": "t"}, {}), Explanation((), differing, gaps))


@given(st.lists(PLACES, min_size=2, max_size=4))
def test_values_are_those_of_the_snapshots(places: list[dict[str, str]]) -> None:
    snapshots = [
        snapshot(
            packages=distributions(*(distribution(name, version) for name, version in versions.items() if version))
        )
        for versions in places
    ]
    report = of(
        *(Target(environment_of(one), Explanation((), tuple(changes(snapshots[0], one)))) for one in snapshots[1:])
    )
    found = lines(report, "Python packages")
    differing = {name for name in "abc" if len({versions[name] for versions in places}) > 1}
    assert found.keys() == differing
    for name, line in found.items():
        assert [value.text for value in line.values] == [versions[name] for versions in places]
        for value, versions in zip(line.values[1:], places[1:], strict=True):
            same = versions[name] == places[0][name]
            assert value.state == ("same" if same else "differs" if versions[name] else "missing")


def test_the_summary_comes_first_and_a_framework_is_told_once(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["diff"]()
    tables = side_by_side(report)
    assert [table.title for table in tables[:2]] == ["overview", "frameworks"]
    assert [line.name for line in tables[1].lines] == ["torch", "numpy"]
    packages = lines(report, "Python packages")
    assert "torch" not in packages
    assert packages["scipy"].values[1].text == "same version, other files (RECORD)"
    assert packages["scipy"].values[0].state == "several"


def test_what_the_policy_expects_differs_still() -> None:
    change = Change(("packages", "distributions", "a", "version"), "changed", "1.0", "2.0")
    report = of(replace(target(), expected=(Expected((change,), "ours", None, "driftcheck.toml:1"),)))
    assert [value.text for value in lines(report, "Python packages")["a"].values] == ["1.0", "2.0"]


def test_unmeasured_is_not_the_same() -> None:
    change = Change(("machine", "level"), "changed", "x86-64-v4", "x86-64-v3")
    gap = Unmeasured("machine", "target", "unavailable", "nothing was run")
    line = lines(of(target(change), target(gaps=(gap,))), "machine")["level"]
    assert [value.state for value in line.values] == ["baseline", "differs", "unmeasured"]


def test_a_library_whose_package_differs_in_one_target_alone_differs_in_both() -> None:
    library = Change(
        ("libraries", "libraries", "libx.so"),
        "changed",
        {"path": "/a", "distribution": "p"},
        {"path": "/b", "distribution": "p"},
    )
    package = Change(("packages", "distributions", "p", "version"), "changed", "1.0", "2.0")
    report = of(target(library), target(library, package))
    values = lines(report, "shared libraries")["libx.so"].values
    assert [(value.text, value.state) for value in values] == [("/a", "baseline"), ("/b", "differs"), ("/b", "differs")]
