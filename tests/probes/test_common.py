"""The Place: reading inside a root, whatever the root holds."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from driftcheck.probes import common


def place(root: Path) -> common.Place:
    return common.Place(root=str(root), environ={}, search_path=[], live=False)


def test_links_are_resolved_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("inside")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "escape").symlink_to("../../../../../../etc/passwd")
    here = place(tmp_path)
    assert here.read_text("/etc/os-release") == "inside"
    assert here.read_text("/lib/os-release") == "inside"
    assert here.read_text("/usr/../../../etc/os-release") == "inside"
    assert here.read_text("/escape") is None
    assert here.inside(here.real("/lib/os-release")) == "/usr/lib/os-release"
    assert not here.problems


def test_a_link_that_loops_never_leaves_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    here = place(tmp_path)
    assert here.read_text("/etc/passwd") is None
    assert not here.exists("/etc/passwd")
    assert here.problems == [{"where": "/etc/passwd", "reason": "symbolic links that loop"}]


def test_a_fifo_does_not_block_and_a_long_file_is_cut(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "long").write_bytes(b"x" * 100)
    here = place(tmp_path)
    assert here.read_bytes("/fifo") is None
    assert here.read_bytes("/long", 10) == b"x" * 10
    assert [problem["reason"] for problem in here.problems] == [
        "not a regular file",
        "longer than 10 bytes; the rest was not read",
    ]


def test_a_byte_that_is_no_text_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"a\xffb")
    assert place(tmp_path).read_text("/name") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (common.Absent("no such thing here"), "absent", "no such thing here"),
        (common.Unavailable("not this way"), "unavailable", "not this way"),
        (ValueError("bad\nvalue"), "failed", "ValueError: bad value (test_common.py, line "),
        (PermissionError(13, "Permission denied"), "failed", "Permission denied (test_common.py, line "),
    ],
)
def test_nothing_escapes_from_a_probe(tmp_path: Path, error: Exception, status: str, reason: str) -> None:
    def measure(_: common.Place) -> dict[str, object]:
        raise error

    section = common.section(SimpleNamespace(LAYER="image", measure=measure), place(tmp_path))
    assert section["status"] == status
    assert section["reason"].startswith(reason)
    assert section["facts"] == {}


def test_problems_are_listed_up_to_a_limit_and_counted(tmp_path: Path) -> None:
    def measure(here: common.Place) -> dict[str, object]:
        for number in range(common.PROBLEM_LIMIT + 7):
            here.problem(f"/file{number}", "unreadable")
            here.problem(f"/file{number}", "unreadable")
        return {"fact": 1}

    section = common.section(SimpleNamespace(LAYER="image", measure=measure), place(tmp_path))
    assert section["status"] == "partial"
    assert len(section["problems"]) == common.PROBLEM_LIMIT
    assert section["reason"] == "7 more problems are not listed"


def test_the_digest_is_of_the_canonical_form() -> None:
    assert common.canonical({"b": [1, "\xe9"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'
    assert common.digest({"a": 1, "b": 2}) == common.digest({"b": 2, "a": 1})
