"""Environments that were left behind: on made-up facts, and against what imports really print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot
from support.wheels import install, last_line, probe, run, site_packages, virtual_environment

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def made_with(version: str | None) -> dict[str, Any]:
    return python(environment={"made_with": version})


# PY004


def test_py004_nothing_lies_where_this_python_looks() -> None:
    (found,) = findings("PY004", python=made_with("3.10"), packages=distributions())
    assert judged(found) == ("breaks", "likely")
    assert "/venv/lib/python3.11/site-packages" in found.explanation


def test_py004_packages_of_this_python_are_there_too() -> None:
    (found,) = findings("PY004", python=made_with("3.10"), packages=distributions(distribution("numpy")))
    assert judged(found) == ("note", "likely")


def test_py004_what_the_base_python_lends_is_not_the_environments() -> None:
    lent = distributions(distribution("numpy", location="/usr/lib/python3/dist-packages"))
    (found,) = findings("PY004", python=made_with("3.10"), packages=lent)
    assert judged(found) == ("breaks", "likely")


@pytest.mark.parametrize("facts", [made_with("3.11"), made_with(None), python()])
def test_py004_is_silent_where_the_versions_are_the_same_or_not_known(facts: dict[str, Any]) -> None:
    assert findings("PY004", python=facts, packages=distributions()) == []


def test_py004_is_the_cause_of_what_is_not_installed_any_more() -> None:
    baseline = snapshot("a", python=made_with("3.11"), packages=distributions(distribution("numpy")))
    newer = python(version="3.12.1", environment={"made_with": "3.11"})
    explanation = explain_pair(baseline, snapshot("b", python=newer, packages=distributions()))
    (missing,) = [finding for finding in explanation.findings if finding.code == "PKG010"]
    assert missing.caused_by is not None
    assert missing.caused_by[0] == "PY004"


def test_py004_truth_an_environment_of_another_version_imports_nothing(tmp_path: Path) -> None:
    """As after an upgrade of the system's Python: the directory and pyvenv.cfg are those of the one that is gone."""
    interpreter = virtual_environment(tmp_path / "venv")
    site = site_packages(interpreter)
    install(site, "model", files={"model.py": ""})
    assert run(interpreter, "import model").returncode == 0
    assert findings("PY004", **_measured(interpreter)) == []

    site.parent.rename(site.parent.with_name("python3.99"))
    settings = tmp_path / "venv/pyvenv.cfg"
    here = f"version = {sys.version_info[0]}.{sys.version_info[1]}."
    assert here in settings.read_text()
    settings.write_text(settings.read_text().replace(here, "version = 3.99."))
    assert last_line(run(interpreter, "import model")) == "ModuleNotFoundError: No module named 'model'"
    (found,) = findings("PY004", **_measured(interpreter))
    assert judged(found) == ("breaks", "likely")


def _measured(interpreter: Path) -> dict[str, Any]:
    return {name: probe(interpreter, name, only=False) for name in ("python", "packages")}


# PKG014


def test_pkg014_the_source_of_an_editable_install_is_gone() -> None:
    source = {"url": "file:///srv/my-model", "editable": True}
    (found,) = findings("PKG014", packages=distributions(distribution("my-model", direct_url=source | {"gone": True})))
    assert judged(found) == ("breaks", "likely")
    assert found.title == "my-model 1.0 is installed from /srv/my-model, which is not there"
    assert findings("PKG014", packages=distributions(distribution("my-model", direct_url=source))) == []


def test_pkg014_truth_the_import_fails_once_the_directory_is_gone(tmp_path: Path) -> None:
    source, site = tmp_path / "a project", tmp_path / "site"
    source.mkdir()
    (source / "model.py").write_text("VALUE = 1\n")
    url = {"url": source.as_uri(), "dir_info": {"editable": True}}
    install(site, "model", files={"__editable__.model-1.0.pth": f"{source}\n"})
    (site / "model-1.0.dist-info/direct_url.json").write_text(json.dumps(url))
    code = f"import site; site.addsitedir({str(site)!r}); import model"
    assert run(sys.executable, code).returncode == 0
    assert findings("PKG014", packages=probe(sys.executable, "packages", site)) == []

    (source / "model.py").unlink()
    source.rmdir()
    (found,) = findings("PKG014", packages=probe(sys.executable, "packages", site))
    assert found.predicted_error == last_line(run(sys.executable, code))
