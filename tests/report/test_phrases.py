from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftcheck.diff import Change
from driftcheck.explain import Explanation
from driftcheck.report import phrases
from driftcheck.report.model import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from driftcheck.report.model import Report


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("packages", "distributions", "numpy", "version"), "numpy > version"),
        (("variables", "variables", "OMP_NUM_THREADS", "value"), "OMP_NUM_THREADS > value"),
        (("system", "packages", "packages", "libc6"), "OS packages > libc6"),
        (("system", "libc", "version"), "system > libc > version"),
        (("machine", "cpu", "flags", "avx2"), "CPU flags > avx2"),
        (("unknown",), "unknown"),
        (("packages", "distributions"), "Python packages"),
        (("a\nb", "\x1b"), r"a\nb > \x1b"),
    ],
)
def test_a_path_is_short_and_says_what_kind_of_thing_it_is(path: tuple[str, ...], shown: str) -> None:
    assert phrases.path_text(path) == shown


@pytest.mark.parametrize(
    ("value", "path", "shown"),
    [
        (None, (), "(none)"),
        ("", (), "(empty)"),
        ("", ("packages", "distributions", "a", "requires", "b>=2"), "stated"),
        (None, ("packages", "distributions", "a", "requires", "b>=2"), "not stated"),
        ({}, ("packages", "distributions", "a", "requires", "b>=2"), "(empty)"),
        (True, (), "yes"),
        (4, ("limits", "cpu_limit", "cpus"), "4"),
        (4 << 30, ("limits", "cgroup", "memory_bytes"), "4 GiB"),
        (64 << 20, ("limits", "shm", "size_bytes"), "64 MiB"),
        ((64 << 20) + 1, ("limits", "shm", "size_bytes"), "64.00 MiB (67,108,865 bytes)"),
        ("sha256:" + "ab" * 32, (), "sha256:abababababab..."),
        ({"value": "16"}, (), "16"),
        ({"digest": "sha256:" + "ab" * 32}, (), "(hidden, sha256:abababababab...)"),
        ({"version": "1.0", "location": "x"}, (), "1.0"),
        ({"avx": True, "aes": True}, (), "aes, avx"),
        ({"numpy<2": ""}, (), "numpy<2"),
        ({"count": 2, "different": 0}, (), "count: 2, different: 0"),
        ({}, (), "(empty)"),
        (["/a", "/b"], (), "/a, /b"),
        ([{"a": 1}], (), '[{"a": 1}]'),
    ],
)
def test_a_value_as_a_person_would_write_it(value: Any, path: tuple[str, ...], shown: str) -> None:
    assert phrases.value_text(value, path) == shown


@given(st.integers(1024, 2**50), st.integers(1024, 2**50))
def test_different_sizes_never_read_alike(one: int, other: int) -> None:
    path = ("limits", "shm", "size_bytes")
    assert (phrases.value_text(one, path) == phrases.value_text(other, path)) == (one == other)


def groups(*changes: Change, samples: dict[str, Callable[[], Report]]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    target = Target(samples["clean"]().targets[0].environment, Explanation((), changes))
    return [
        (group.title, [(item.name, item.kind, item.detail) for item in group.items])
        for group in phrases.remaining(target)
    ]


def test_facts_of_one_distribution_are_one_thing(samples: dict[str, Callable[[], Report]]) -> None:
    at = ("packages", "distributions", "attrs")
    found = groups(
        Change((*at, "record", "digest"), "changed", "a", "b"),
        Change((*at, "requires", "x"), "added", None, ""),
        Change((*at, "version"), "changed", "1.0", "2.0"),
        samples=samples,
    )
    assert found == [("Python packages", [("attrs", "changed", "1.0 -> 2.0")])]


def test_other_files_under_one_version_are_said(samples: dict[str, Callable[[], Report]]) -> None:
    change = Change(("packages", "distributions", "attrs", "record", "digest"), "changed", "a", "b")
    found = groups(change, samples=samples)
    assert found == [("Python packages", [("attrs", "changed", "same version, other files (RECORD)")])]


def test_a_whole_record_is_added_or_removed(samples: dict[str, Callable[[], Report]]) -> None:
    found = groups(
        Change(("variables", "variables", "LANG"), "removed", {"value": "C"}, None),
        Change(("programs", "programs", "ffmpeg"), "added", None, {"path": "/usr/bin/ffmpeg"}),
        samples=samples,
    )
    assert found == [
        ("environment variables", [("LANG", "removed", "C")]),
        ("programs", [("ffmpeg", "added", "/usr/bin/ffmpeg")]),
    ]


def test_a_section_that_nobody_knows_yet_is_shown_too(samples: dict[str, Callable[[], Report]]) -> None:
    found = groups(Change(("tpu", "chips", "count"), "changed", 4, 8), samples=samples)
    assert found == [("tpu", [("chips > count", "changed", "4 -> 8")])]


def test_what_a_finding_folds_does_not_remain(samples: dict[str, Callable[[], Report]]) -> None:
    target = samples["diff"]().targets[0]
    folded = {path for finding in target.explanation.findings for path in finding.folds}
    left = [change.path for group in phrases.remaining(target) for item in group.items for change in item.changes]
    assert folded
    assert not folded & set(left)
    assert len(left) == len(set(left)) == len(target.explanation.changes) - len(folded)


def test_a_label_cannot_go_on_with_our_sentence(samples: dict[str, Callable[[], Report]]) -> None:
    report = samples["clean"]()
    told = phrases.verdict(report, report.targets[0], "ci. Nothing else is wrong")
    assert told.text == 'Nothing found that would break inference in "ci. Nothing else is wrong".'


def test_counts() -> None:
    assert phrases.count(1, "finding") == "1 finding"
    assert phrases.count(1234, "entry", "entries") == "1,234 entries"
