"""The file that findings are shown at: it exists, it lies in the repository, and the report remembers it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from driftcheck.report import model
from driftcheck.report.locations import choose, sound

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from driftcheck.report.model import Report


def project(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(
    ("names", "policy", "expected"),
    [
        (["driftcheck.toml", "uv.lock"], "driftcheck.toml", "driftcheck.toml"),
        (["pyproject.toml", "uv.lock"], "pyproject.toml", "pyproject.toml"),
        (["pyproject.toml", "uv.lock", "Dockerfile"], None, "uv.lock"),
        (["pyproject.toml", "Dockerfile"], None, "Dockerfile"),
        (["requirements.txt", "Dockerfile"], "gone.toml", "requirements.txt"),
        (["pyproject.toml"], None, "pyproject.toml"),
        (["main.py"], None, None),
        (["requirements.txt/a"], None, None),  # a directory is no file to show
    ],
)
def test_what_a_person_would_edit(tmp_path: Path, names: list[str], policy: str | None, expected: str | None) -> None:
    assert choose(policy, project(tmp_path, *names)) == expected


def test_it_is_named_from_the_root_of_the_repository(tmp_path: Path) -> None:
    project(tmp_path, ".git/HEAD", "uv.lock", "services/api/Dockerfile", "driftcheck.toml")
    assert choose(None, tmp_path / "services" / "api") == "services/api/Dockerfile"
    assert choose("../../driftcheck.toml", tmp_path / "services" / "api") == "driftcheck.toml"
    assert choose(str(tmp_path / "driftcheck.toml"), tmp_path / "services" / "api") == "driftcheck.toml"


def test_where_nothing_else_is_there_it_is_what_ci_runs(tmp_path: Path) -> None:
    project(tmp_path, ".git/HEAD", "service/main.py", ".github/workflows/test.yml", ".github/workflows/build.yml")
    assert choose(None, tmp_path / "service") == ".github/workflows/build.yml"


def test_what_lies_outside_of_the_repository_is_not_named(tmp_path: Path) -> None:
    project(tmp_path, "driftcheck.toml", "repository/.git/HEAD", "repository/Dockerfile", "loose/Dockerfile")
    assert choose("../driftcheck.toml", tmp_path / "repository") == "Dockerfile"
    assert choose(str(tmp_path / "driftcheck.toml"), tmp_path / "loose") == "Dockerfile"


def test_the_report_remembers_it(samples: dict[str, Callable[[], Report]]) -> None:
    report = replace(samples["diff"](), location="services/api/uv.lock")
    assert model.parse(report.text().encode(), "report.json").location == "services/api/uv.lock"
    assert model.redacted(report).location == "services/api/uv.lock"


@pytest.mark.parametrize("text", ["uv.lock", "services/api/Dockerfile", "a b,c%0A.txt", "caf\u00e9.lock"])
def test_sound(text: str) -> None:
    assert sound(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "/etc/passwd",
        "../up.toml",
        "a/../../up.toml",
        "~/x",
        "C:\\x",
        "https://evil.example",
        "javascript:alert(1)",
        "a\nb",
        "\u202egnp.exe",
        "x" * 401,
        "\ud800",
    ],
)
def test_unsound(text: str | None) -> None:
    assert sound(text) is None
