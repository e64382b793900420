"""Which interpreter `host` means, in the order that environments/host.py writes down."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from driftcheck.environments import host
from driftcheck.errors import InputError


def environment(folder: Path, name: str = "python") -> str:
    """A directory that looks like a virtual environment."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / name
    python.symlink_to(sys.executable)
    return str(python)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pipx: driftcheck's own environment holds nothing else."""
    monkeypatch.setattr(host, "holds_more_than_driftcheck", lambda: False)


def choose(directory: Path, python: str | None = None, **environ: str) -> tuple[str, str]:
    found = host.choose(python, environ, directory)
    return found.path, found.reason


@pytest.mark.usefixtures("alone")
def test_the_order(tmp_path: Path) -> None:
    named = environment(tmp_path / "named")
    active = environment(tmp_path / "active")
    conda = environment(tmp_path / "conda")
    local = environment(tmp_path / "work" / ".venv")
    base = environment(tmp_path / "base")
    (tmp_path / "base" / "condabin").mkdir()
    on_path = environment(tmp_path / "system", "python3")
    work, elsewhere = tmp_path / "work", tmp_path
    everything: Mapping[str, str] = {
        "VIRTUAL_ENV": str(tmp_path / "active"),
        "CONDA_PREFIX": str(tmp_path / "conda"),
        "PATH": str(tmp_path / "system/bin"),
    }
    assert choose(work, named, **everything) == (named, "--python names it")
    assert choose(work, **everything) == (active, "$VIRTUAL_ENV names its environment")
    without = {name: value for name, value in everything.items() if name != "VIRTUAL_ENV"}
    assert choose(work, **without) == (conda, "$CONDA_PREFIX names its environment")
    in_base = {**without, "CONDA_PREFIX": str(tmp_path / "base")}
    assert choose(work, **in_base) == (local, ".venv in the working directory")
    assert choose(elsewhere, **in_base) == (base, "$CONDA_PREFIX names its environment (conda's base)")
    assert choose(elsewhere, PATH=everything["PATH"]) == (on_path, "python3 on PATH")


def test_driftchecks_own_environment_counts_where_it_holds_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tmp_path / ".venv")
    monkeypatch.setattr(host, "holds_more_than_driftcheck", lambda: True)
    path, reason = choose(tmp_path, PATH="")
    assert Path(path).parent.parent == Path(sys.prefix)
    assert reason == "driftcheck is installed in its environment"


def test_these_tests_run_in_an_environment_that_holds_more_than_driftcheck() -> None:
    assert host.holds_more_than_driftcheck()  # pytest is here


@pytest.mark.usefixtures("alone")
def test_a_broken_virtual_environment_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gone/bin").mkdir(parents=True)
    (tmp_path / "gone/bin/python").symlink_to(tmp_path / "uninstalled/python")
    on_path = environment(tmp_path / "system", "python")
    found = choose(tmp_path, VIRTUAL_ENV=str(tmp_path / "gone"), PATH=str(tmp_path / "system/bin"))
    assert found == (on_path, "python on PATH")


@pytest.mark.usefixtures("alone")
def test_no_interpreter_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Python interpreter on PATH. Name one with --python"):
        choose(tmp_path, PATH=str(tmp_path))


def test_python_may_be_a_directory_or_a_name(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    assert choose(tmp_path, str(tmp_path / "venv"))[0] == python
    with pytest.raises(InputError, match="a directory without a Python interpreter"):
        choose(tmp_path, str(tmp_path))
    with pytest.raises(InputError, match="no such program on PATH"):
        choose(tmp_path, "no-such-python")
