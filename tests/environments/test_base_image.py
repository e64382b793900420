"""Three Debian releases: the base image is the cause, and the packages of the system fold under it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.commands import driftcheck
from support.engine import Dockerd
from support.report_formats import valid_everywhere

from driftcheck.report import model

pytestmark = pytest.mark.engine

RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13"}


def compared(engine: Dockerd, baseline: str, target: str) -> dict[str, Any]:
    """The target in the report on two references; the report is valid in every format."""
    result = driftcheck("diff", baseline, target, "--format", "json", environ=engine.environ)
    assert result.code in {0, 1}, result.err
    valid_everywhere(model.parse(result.out.encode(), "report.json"))
    (found,) = json.loads(result.out)["targets"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("before", "after"),
    [*itertools.combinations(RELEASES, 2), ("trixie", "bullseye")],
    ids=str,
)
def test_the_base_image_explains_the_packages_of_the_system(
    engine: Dockerd, debian: Callable[[str], str], before: str, after: str
) -> None:
    found = compared(engine, f"image:{debian(before)}", f"image:{debian(after)}")
    (cause,) = [finding for finding in found["findings"] if finding["code"] == "SYS004"]
    assert f"Linux {RELEASES[after]}" in cause["title"]
    assert f"Linux {RELEASES[before]}" in cause["title"]
    folded = {tuple(path) for path in cause["folds"]}
    of_packages = {tuple(change["path"]) for change in found["changes"] if change["path"][:2] == ["system", "packages"]}
    assert len(of_packages) > 50
    assert of_packages <= folded
    # The interpreter came with the release; what is left over is neither the system's nor the interpreter's.
    explained = {tuple(path) for finding in found["findings"] for path in finding["folds"]}
    left = {tuple(change["path"]) for change in found["changes"]} - explained
    assert {path[0] for path in left} <= {"variables", "limits", "service", "cuda"}, left
    assert not [
        finding for finding in found["findings"] if finding["impact"] == "breaks" and not finding["also_in_baseline"]
    ]


def test_a_report_on_one_release_names_no_cause(engine: Dockerd, debian: Callable[[str], str]) -> None:
    found = compared(engine, *[f"image:{debian('bookworm')}"] * 2)
    assert found["changes"] == []
    assert all(finding["also_in_baseline"] for finding in found["findings"])


def test_this_machine_against_an_image(engine: Dockerd, debian: Callable[[str], str]) -> None:
    found = compared(engine, f"python:{sys.executable}", f"image:{debian('bullseye')}")
    assert "PY001" in [finding["code"] for finding in found["findings"]]
