"""Which environments agree: the groups of a report against a comparison of the snapshots themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import distribution, distributions, python, snapshot

from driftcheck import validation
from driftcheck.diff import Unmeasured, changes
from driftcheck.explain import Explanation
from driftcheck.report.agreement import LAYERS, agreement
from driftcheck.report.model import Environment, Report, Target, environment_of
from driftcheck.report.picture import picture, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = st.sampled_from(["1.0", "2.0", None])
PLACES = st.fixed_dictionaries({"a": VERSIONS, "b": VERSIONS, "python": st.sampled_from(["3.11.7", "3.11.9"])})


def place(versions: dict[str, str | None]) -> dict[str, Any]:
    return {
        "packages": distributions(*(distribution(name, versions[name]) for name in ("a", "b") if versions[name])),
        "python": python(version=versions["python"]),
    }


@given(st.lists(PLACES, min_size=2, max_size=4))
def test_equal_groups_are_equal_facts(places: list[dict[str, str | None]]) -> None:
    snapshots = [snapshot(f"place {number}", **place(versions)) for number, versions in enumerate(places)]
    report = Report(
        Environment({"label": "baseline", "seconds": {"python": 0.1, "packages": 0.1}}, {}),
        tuple(
            Target(environment_of(target), Explanation((), tuple(changes(snapshots[0], target))))
            for target in snapshots[1:]
        ),
    )
    rows = {row.section: row for row in agreement(report)}
    assert rows.keys() == {"python", "packages"}
    for name, row in rows.items():
        assert row.agrees == (len({cell.group for cell in row.cells}) == 1)
        for one, cell in zip(snapshots, row.cells, strict=True):
            for other, another in zip(snapshots, row.cells, strict=True):
                differs = any(change.section == name for change in changes(one, other))
                assert (cell.group != another.group) == differs


def test_things_are_counted_and_gaps_are_no_agreement(samples: dict[str, Callable[[], Report]]) -> None:
    rows = {row.section: row for row in agreement(samples["diff"]())}
    assert [(cell.group, cell.things) for cell in rows["packages"].cells] == [(0, 0), (1, 34)]
    machine = rows["machine"].cells[1]
    assert machine.group is None
    assert "does not run" in machine.gap


def test_what_one_side_does_not_have_at_all_differs() -> None:
    def report(side: str) -> Report:
        gap = Unmeasured("system", side, "absent", "no such thing on Windows")
        target = Target(Environment({"label": "b"}, {}), Explanation((), (), (gap,)))
        return Report(Environment({"label": "a", "seconds": {"system": 0.1}}, {}), (target, target))

    (row,) = agreement(report("target"))
    assert [cell.group for cell in row.cells] == [0, 1, 1]
    (row,) = agreement(report("baseline"))
    assert [cell.group for cell in row.cells] == [0, None, None]
    assert not row.agrees


def test_what_the_baseline_did_not_measure_is_compared_with_nothing() -> None:
    target = Target(Environment({"label": "b"}, {}), Explanation(()))
    report = Report(Environment({"label": "a", "seconds": {"gpu": 0.1}}, {}, {"gpu": "no driver"}), (target,))
    (row,) = agreement(report)
    assert [cell.gap for cell in row.cells] == ["no driver", "nothing to compare it with"]


def test_every_section_has_its_place() -> None:
    assert sorted(name for names in LAYERS.values() for name in names) == sorted(validation.sections())


def test_neighbours_that_agree_share_a_bar(samples: dict[str, Callable[[], Report]]) -> None:
    rows = agreement(samples["several"]())
    drawn = picture(rows, ["laptop", "ci", "ci (2)", "node7"])
    bars = {band.title: [len(bar.marks) for bar in band.bars] for band in drawn.bands if band.bars}
    assert bars["python"] == [1, 1, 1, 1]
    equal = Report(samples["several"]().baseline, samples["several"]().targets[1:2])
    drawn = picture(agreement(equal), ["laptop", "ci"])
    assert {band.title: [len(bar.marks) for bar in band.bars] for band in drawn.bands if band.bars} == {"packages": [2]}


def test_long_names_stay_apart() -> None:
    assert shortened(["python:/envs/a", "python:/envs/b"], 8) == ["\u2026/envs/a", "\u2026/envs/b"]
    assert shortened(["node1.cluster", "node2.cluster"], 8) == ["node1.c\u2026", "node2.c\u2026"]
    assert shortened(["a node1.cluster", "a node2.cluster"], 4) == ["0", "1"]
