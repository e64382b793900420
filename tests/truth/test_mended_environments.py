"""A broken environment is mended by typing what --fix says, and is then as good as its baseline (pytest --network)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.wheels import clean_environment, last_line, run, site_packages, virtual_environment

from driftcheck.environments import Options, snapshot_of
from driftcheck.error_log import answer
from driftcheck.findings import Impact
from driftcheck.mending import fixes
from driftcheck.report.build import check_report, diff_report
from driftcheck.report.model import Report

pytestmark = pytest.mark.network

# Pinned: what they require of each other is what the test is about.
HEALTHY = ("pydantic==2.11.7", "fastapi==0.115.14", "jinja2==3.1.6", "pyyaml==6.0.2", "requests==2.32.4")


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def compared(good: Path, bad: Path) -> Report:
    snapshots = [snapshot_of(f"python:{python}", Options()) for python in (good, bad)]
    return diff_report(snapshots[0], snapshots[1:], Impact.BREAKS)


def test_a_broken_environment_is_mended_by_typing_what_fix_says(tmp_path: Path) -> None:
    good, bad = (virtual_environment(tmp_path / name, with_pip=True) for name in ("good", "bad"))
    install(good, *HEALTHY)
    install(bad, *HEALTHY)
    imports = ("pydantic", "fastapi", "jinja2", "yaml", "requests")
    assert [run(bad, f"import {name}").returncode for name in imports] == [0] * 5

    # Another pydantic-core than pydantic pins, a requirement that is gone, an extension module without content.
    install(bad, "--no-deps", "pydantic-core==2.27.2")
    subprocess.run(
        [str(bad), "-m", "pip", "uninstall", "-q", "-y", "markupsafe"], check=True, env=clean_environment(), timeout=120
    )
    (module,) = (site_packages(bad) / "yaml").glob("_yaml*.so")
    module.write_bytes(b"")
    broken = {name: last_line(run(bad, f"import {name}")) for name in imports}
    assert broken["jinja2"] == "ModuleNotFoundError: No module named 'markupsafe'"
    assert broken["fastapi"].startswith("TypeError: "), broken
    assert run(bad, "import yaml._yaml").returncode != 0

    report = compared(good, bad)
    about = {(finding.code, finding.subject.name) for finding in report.failing()}
    assert {("PKG001", "jinja2 -> markupsafe"), ("PKG001", "pydantic -> pydantic-core"), ("PKG006", "pyyaml")} <= about
    explained = answer(report, broken["jinja2"], "jinja2.log").targets[0]
    assert explained.error is not None
    assert explained.explanation.findings[0].subject.name in {"jinja2 -> markupsafe", "missing"}

    script = fixes(report, "text")
    typed = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=tmp_path,
        env=clean_environment() | {"PATH": f"{bad.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert typed.returncode == 0, f"{script}\n{typed.stderr[-2000:]}"

    mended = compared(good, bad)
    assert [finding.title for finding in mended.failing()] == []
    alone = check_report(snapshot_of(f"python:{bad}", Options()), Impact.BREAKS)
    assert [finding.title for finding in alone.failing()] == []
    assert [run(bad, f"import {name}").returncode for name in (*imports, "yaml._yaml")] == [0] * 6
    versions = "import importlib.metadata as m; print(sorted((d.name, d.version) for d in m.distributions()))"
    assert run(bad, versions).stdout == run(good, versions).stdout
