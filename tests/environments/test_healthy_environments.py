"""Nothing is said to break in an environment that works, nor between two that answer the same.

Environments as this machine has them, or makes them in a second: the one of these tests, new ones, one that sees
another, one that was moved, one behind a command, and every other Python that is here.
tests/environments/test_ways_in.py asks the same of images and containers, tests/truth/test_first_screen.py of services.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import interpreters
from support.commands import driftcheck
from support.wheels import install, site_packages, virtual_environment

from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Confidence, Finding, Impact
from driftcheck.snapshot import Snapshot, load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="moves environments whose interpreter is a link")


def with_model(folder: Path) -> Path:
    """An environment with two distributions, of which one requires the other."""
    python = virtual_environment(folder)
    install(site_packages(python), "model", "1.0", requires=["tokens>=2"])
    install(site_packages(python), "tokens", "2.1")
    return python


def moved(folder: Path) -> Path:
    there = with_model(folder / "before")
    shutil.move(folder / "before", folder / "after")
    return folder / "after" / there.relative_to(folder / "before")


def seeing_another(folder: Path) -> Path:
    """``--system-site-packages`` of the interpreter that the environment of these tests is made from."""
    return virtual_environment(folder, system_site_packages=True)


# By name: how one is made in a directory, and the command before its interpreter.
KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "of these tests": (lambda _: Path(sys.executable), ()),
    "empty": (virtual_environment, ()),
    "with a model": (with_model, ()),
    "with a model, again": (with_model, ()),
    "with a model, moved": (moved, ()),
    "with a model, behind a command": (with_model, ("env", "LANG=C.UTF-8")),
    "seeing another": (seeing_another, ()),
}
# Those that answer the same.
ALIKE = [name for name in KINDS if name.startswith("with a model")]


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Snapshot]:
    made: dict[str, Snapshot] = {}

    def take(name: str) -> Snapshot:
        if name not in made:
            folder = tmp_path_factory.mktemp("environment")
            make, before = KINDS[name]
            python = make(folder / "venv")
            assert subprocess.run([*before, python, "-c", "import json"], check=False).returncode == 0
            reference = [f"via:{' '.join(before)}", "--python", python] if before else [f"python:{python}"]
            done = driftcheck("snapshot", *reference, "-o", folder / "snapshot.json")
            assert done.code == 0, done.err
            made[name] = load(str(folder / "snapshot.json"))
        return made[name]

    return take


def wrong(findings: tuple[Finding, ...]) -> list[str]:
    """What says that something breaks, and is sure of it."""
    return [
        f"{finding.code} {finding.title}"
        for finding in findings
        if finding.impact is Impact.BREAKS
        and finding.confidence is not Confidence.POSSIBLE
        and not finding.also_in_baseline
    ]


@pytest.mark.parametrize("name", KINDS)
def test_nothing_breaks_in_it(name: str, taken: Callable[[str], Snapshot]) -> None:
    snapshot = taken(name)
    assert wrong(tuple(explain_one(snapshot).findings)) == []
    assert explain_pair(snapshot, snapshot).not_judged == explain_one(snapshot).not_judged
    assert [one for one in explain_pair(snapshot, snapshot).findings if not one.also_in_baseline] == []


def test_nothing_is_said_between_two_that_answer_the_same(taken: Callable[[str], Snapshot]) -> None:
    """Neither where it lies, nor when it was made, nor what leads there, is worth a word."""
    for one, other in itertools.permutations(ALIKE, 2):
        findings = explain_pair(taken(one), taken(other)).findings
        assert [(found.code, found.title) for found in findings if not found.also_in_baseline] == [], (one, other)


def test_each_python_of_this_machine_runs_what_it_has(tmp_path: Path) -> None:
    for version, path in interpreters.supported().items():
        done = driftcheck("snapshot", f"python:{path}", "-o", tmp_path / "snapshot.json")
        assert done.code == 0, done.err
        assert wrong(tuple(explain_one(load(str(tmp_path / "snapshot.json"))).findings)) == [], version
