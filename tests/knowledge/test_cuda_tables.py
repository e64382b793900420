"""The tables of CUDA: in order, in step with each other and with what NVIDIA's own rules say."""

from __future__ import annotations

import itertools

import pytest
from driftcheck.probes import fatbin
from hypothesis import given
from hypothesis import strategies as st

from driftcheck.knowledge import cuda


def test_a_newer_toolkit_came_with_a_newer_driver() -> None:
    rows = cuda.toolkit_drivers()
    assert len(rows) >= 50
    for newer, older in itertools.pairwise(rows):
        assert newer.cuda >= older.cuda, newer.release
        new, old = cuda.version(newer.driver), cuda.version(older.driver)
        assert new is not None
        assert old is not None
        assert new >= old, f"{newer.release} came with an older driver than {older.release}"


def test_releases_are_listed_once() -> None:
    names = [row.release for row in cuda.toolkit_drivers()]
    assert len(set(names)) == len(names)


def test_the_floor_of_a_family_is_the_driver_of_its_first_toolkit_or_a_newer_one_of_that_branch() -> None:
    assert sorted(cuda.families()) == [11, 12, 13]
    for major, family in cuda.families().items():
        first = cuda.first_driver((major, 0))
        assert first is not None
        floor = cuda.version(family.driver)
        assert floor is not None
        assert floor >= (cuda.version(first) or ())
        assert floor[0] == (cuda.version(first) or ())[0]
        assert cuda.level_of_driver(family.driver) == (major, 0)


def test_newer_ptx_needs_a_newer_driver() -> None:
    levels = sorted(cuda.ptx_levels().items())
    for (_, older), (_, newer) in itertools.pairwise(levels):
        assert newer > older
    toolkits = {row.cuda for row in cuda.toolkit_drivers() if row.cuda >= (9, 0)}
    # 12.6 writes PTX 8.5, as 12.5 does; there was no toolkit 12.7, only a driver.
    assert toolkits - set(cuda.ptx_levels().values()) == {(12, 6)}


def test_a_compat_package_is_for_drivers_older_than_its_own() -> None:
    for release, branches in cuda.forward_branches().items():
        own = cuda.first_driver(release)
        assert own is not None
        assert max(branches) < (cuda.version(own) or ())[0]


def test_machine_code_is_for_its_own_major_number() -> None:
    for number, row in cuda.architectures().items():
        assert row.first == (number // 10, number % 10)
        for device in row.doubtful:
            assert device[0] == row.first[0]
            assert device > row.first or row.only
        if row.only is not None:
            assert row.first in row.only


@pytest.mark.parametrize(
    ("driver", "level"),
    [
        ("470.82.01", (11, 4)),
        ("525.60.13", (12, 0)),
        ("535.104.05", (12, 2)),
        ("550.40.07", (12, 4)),
        ("565.57.01", (12, 6)),
        ("580.65.06", (13, 0)),
        ("999.1", (13, 4)),
        ("304.54", None),
        ("", None),
        ("r535", None),
        (None, None),
        (535, None),
    ],
)
def test_level_of_a_driver(driver: object, level: tuple[int, int] | None) -> None:
    assert cuda.level_of_driver(driver) == level


def test_minor_version_compatibility() -> None:
    """CUDA 12.8 runs on a driver of 12.2; before CUDA 11 each toolkit needed its own driver."""
    assert cuda.needed_level((12, 8)) == (12, 0)
    assert cuda.needed_level((11, 8)) == (11, 0)
    assert cuda.needed_level((14, 2)) == (14, 0)
    assert cuda.needed_level((10, 2)) == (10, 2)


@pytest.mark.parametrize(
    ("name", "device", "runs"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 6), True),
        ("sm_80", (8, 7), None),
        ("sm_80", (9, 0), False),
        ("sm_86", (8, 0), False),
        ("sm_87", (8, 9), False),
        ("sm_61", (6, 1), True),
        ("sm_60", (6, 1), True),
        ("sm_70", (6, 1), False),
        ("sm_90", (12, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_90a", (10, 0), False),
        ("sm_100", (10, 3), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_100f", (12, 0), False),
        ("sm_101", (11, 0), True),
        ("sm_120", (12, 1), True),
        ("sm_121", (12, 0), False),
        ("compute_80", (12, 0), True),
        ("compute_90", (8, 9), False),
        ("compute_90a", (10, 0), False),
        ("compute_120f", (12, 1), True),
        ("sm_37", (3, 7), True),
        ("sm_", (8, 0), None),
        ("lto_90", (9, 0), None),
    ],
)
def test_what_runs_where(name: str, device: tuple[int, int], runs: bool | None) -> None:
    """The rule of the CUDA programming guide, "Binary compatibility", with the exceptions that torch knows."""
    assert cuda.runs_on(name, device) is runs


@given(st.integers(50, 129), st.integers(50, 129))
def test_code_for_one_device_runs_on_it(number: int, other: int) -> None:
    for kind in ("sm", "compute"):
        for suffix in ("", "a", "f"):
            assert cuda.runs_on(f"{kind}_{number}{suffix}", (number // 10, number % 10)) is not False
    if number // 10 != other // 10 and {number, other} != {101, 110}:
        assert cuda.runs_on(f"sm_{number}", (other // 10, other % 10)) is False


def test_names_are_those_of_the_probe() -> None:
    entry = fatbin.Entry(fatbin.CODE, 90, "a", (1, 7), compressed=True)
    assert cuda.target(entry.name) == cuda.Target("sm", 90, "a")
    entry = fatbin.Entry(fatbin.PTX, 75, "", (9, 0), compressed=False)
    assert cuda.target(entry.name) == cuda.Target("compute", 75, "")


@given(st.text(max_size=12))
def test_anything_else_is_not_known(text: str) -> None:
    for function in (cuda.version, cuda.level, cuda.level_of_driver, cuda.ptx_level):
        found = function(text)
        assert found is None or all(isinstance(part, int) for part in found)
