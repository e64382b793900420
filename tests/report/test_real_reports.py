"""Reports of real comparisons: every consumer takes them, and a saved one gives the same bytes again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.commands import driftcheck
from support.report_formats import valid_everywhere
from support.wheels import install, pip, site_packages, virtual_environment

from driftcheck.report import model
from driftcheck.report.formats import FORMATS
from driftcheck.report.model import Report


def compared(folder: Path, *references: str) -> Report:
    """What ``driftcheck diff`` says, once it has been seen that ``driftcheck report`` says it again."""
    files = {name: folder / f"report.{name}" for name in FORMATS}
    outputs = [f"--output-file={name}={file}" for name, file in files.items()]
    done = driftcheck("diff", *references, "-o", folder / "terminal", *outputs, cwd=folder)
    assert done.code in {0, 1}, done.err
    for name, file in files.items():
        again = folder / "again"
        done = driftcheck("report", files["json"], "--format", name, "-o", again, cwd=folder)
        assert done.code == 0, done.err
        assert again.read_bytes() == file.read_bytes(), name
    return model.parse(files["json"].read_bytes(), "report.json")


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.failing()}


def test_two_virtual_environments(tmp_path: Path) -> None:
    pythons = [virtual_environment(tmp_path / name) for name in ("good", "bad")]
    for python, version in zip(pythons, ("2.0", "1.0"), strict=True):
        site = site_packages(python)
        install(site, "model", "1.0", requires=["tokens>=2"])
        install(site, "tokens", version)
    (tmp_path / "requirements.txt").write_text("model\n", encoding="utf-8")
    report = compared(tmp_path, *(f"python:{python}" for python in pythons))
    assert codes(report) == {"PKG001"}
    valid_everywhere(report)


@pytest.mark.network
def test_two_environments_of_an_inference_service(tmp_path: Path) -> None:
    """pandas and scikit-learn as they come; then without NumPy, and without the OpenMP library of scikit-learn."""
    good, bad = (virtual_environment(tmp_path / name, with_pip=True) for name in ("good", "bad"))
    pip(good, "install", "--quiet", "--only-binary=:all:", "pandas", "scikit-learn")
    shutil.copytree(site_packages(good), site_packages(bad), dirs_exist_ok=True)
    (libgomp,) = site_packages(bad).glob("scikit_learn.libs/libgomp*")
    libgomp.unlink()
    pip(bad, "uninstall", "--quiet", "-y", "numpy")
    report = compared(tmp_path, f"python:{good}", f"python:{bad}")
    assert {"PKG001", "LIB001"} <= codes(report)
    valid_everywhere(report)
