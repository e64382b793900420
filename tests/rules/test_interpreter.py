"""Family PY: on made-up facts, and against what interpreters really print."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
from support.snapshots import SITE, distribution, distributions, findings, python, snapshot

from driftcheck.diff import changes
from driftcheck.environments import Options, snapshot_of
from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.rules.interpreter import abi_of

OLD: dict[str, Any] = {
    "version": "3.10.13",
    "cache_tag": "cpython-310",
    "soabi": "cpython-310-x86_64-linux-gnu",
    "extension_suffixes": [".cpython-310-x86_64-linux-gnu.so", ".abi3.so", ".so"],
    "search_path": ["/usr/lib/python3.10", SITE.replace("3.11", "3.10")],
    "tags": {"interpreters": ["cp310-cp310", "cp310-abi3", "cp310-none", "py310-none", "py3-none"]},
}


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def import_error(*arguments: str, path: Path) -> str:
    """The last line that ``python -c ...`` prints, with this folder on PYTHONPATH."""
    process = subprocess.run(
        [sys.executable, "-c", *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(path)},
        check=False,
        timeout=60,
    )
    return process.stderr.strip().splitlines()[-1]


# PY001


def test_py001_wheels_for_another_python_break() -> None:
    target = distributions(
        distribution("numpy", "2.1.0", tags={"cp311-cp311-manylinux_2_17_x86_64": True}),
        distribution("tokenizers", tags={"cp39-abi3-manylinux_2_17_x86_64": True}),
        distribution("six"),
    )
    abi3 = {"interpreters": [*OLD["tags"]["interpreters"], "cp39-abi3"]}
    old = python(**{**OLD, "tags": abi3})
    (found,) = findings("PY001", baseline={}, python=old, packages=target)
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"
    assert "The wheels of numpy hold" in found.explanation
    assert "tokenizers" not in found.explanation
    assert found.fix[0].text == "FROM python:3.11-slim"


def test_py001_an_environment_that_was_built_anew_is_a_note() -> None:
    target = distributions(distribution("numpy", tags={"cp310-cp310-manylinux_2_17_x86_64": True}))
    (found,) = findings("PY001", baseline={}, python=python(**OLD), packages=target)
    assert judged(found) == ("note", "certain")
    assert found.title == "CPython 3.10 instead of CPython 3.11"


def test_py001_numpy_1_names_its_core_otherwise() -> None:
    target = distributions(distribution("numpy", "1.26.4", tags={"cp311-cp311-manylinux_2_17_x86_64": True}))
    (found,) = findings("PY001", baseline={}, python=python(**OLD), packages=target)
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy.core._multiarray_umath'"


def test_py001_free_threading_is_another_abi() -> None:
    (found,) = findings("PY001", baseline={}, python=python(free_threaded=True, soabi="cpython-311t-x86_64-linux-gnu"))
    assert found.title == "CPython 3.11 (free-threaded) instead of CPython 3.11"


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"version": "3.11.9"},
        {"soabi": "cpython-311-aarch64-linux-gnu"},  # CPU001
        {"soabi": "cpython-311-x86_64-linux-musl"},  # SYS002
        {"soabi": None},
    ],
)
def test_py001_is_silent(facts: dict[str, object]) -> None:
    assert findings("PY001", baseline={}, python=python(**facts)) == []


def test_py001_folds_what_follows_from_the_version() -> None:
    record: dict[str, Any] = {
        "tags": {"cp311-cp311-manylinux_2_17_x86_64": True},
        "record": {"digest": "sha256:a", "files": 2},
    }
    asks = distribution("pytest", requires={"tomli>=1": 'python_version < "3.11"'})
    before = snapshot(
        "a",
        python=python(),
        packages=distributions(distribution("numpy", **record), distribution("pip", "23.0"), asks),
    )
    other: dict[str, Any] = {
        "tags": {"cp310-cp310-manylinux_2_17_x86_64": True},
        "record": {"digest": "sha256:b", "files": 2},
        "location": SITE.replace("3.11", "3.10"),
    }
    after = snapshot(
        "b",
        python=python(**OLD),
        packages=distributions(
            distribution("numpy", **other),
            distribution("pip", "23.1", location=SITE.replace("3.11", "3.10")),
            asks,
            distribution("tomli"),
            distribution("extra"),
        ),
    )
    explanation = explain_pair(before, after)
    (cause,) = [finding for finding in explanation.findings if finding.code == "PY001"]
    left = {change.path for change in changes(before, after)} - set(cause.folds)
    assert ("packages", "distributions", "tomli") in cause.folds
    assert ("packages", "distributions", "numpy", "location") in cause.folds
    assert left == {
        ("packages", "distributions", "extra"),
        ("packages", "distributions", "pip", "metadata"),
        ("packages", "distributions", "pip", "version"),
    }


@pytest.mark.parametrize(
    ("soabi", "abi"),
    [
        ("cpython-311-x86_64-linux-gnu", "311"),
        ("cpython-313t-darwin", "313t"),
        ("cp312-win_amd64", "312"),
        ("cpython-36m-x86_64-linux-gnu", "36m"),
        ("pypy310-pp73-x86_64-linux-gnu", "pypy310-pp73"),
        (None, None),
        ("", None),
        ("other", None),
    ],
)
def test_abi_of_a_soabi(soabi: str | None, abi: str | None) -> None:
    assert abi_of(soabi) == abi


def test_py001_truth_python_looks_only_for_its_own_endings(tmp_path: Path) -> None:
    """A copied site-packages: the file of another Python is not seen; under this one's ending it is opened."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    own = EXTENSION_SUFFIXES[0]
    foreign = own.replace(f"{sys.version_info.major}{sys.version_info.minor}", "34", 1)
    assert foreign != own
    (folder / f"_core{foreign}").write_bytes(b"no library")
    printed = import_error("import package._core", path=tmp_path)
    assert printed == "ModuleNotFoundError: No module named 'package._core'"
    (folder / f"_core{own}").write_bytes(b"no library")
    printed = import_error("import package._core", path=tmp_path)
    assert printed.startswith("ImportError: ")
    assert f"_core{own}" in printed


# PY002


def test_py002_fires() -> None:
    hidden = python(shadowed_modules={"random": "/app/random.py", "antigravity": "/app/antigravity.py"})
    variables = {"variables": {"PYTHONPATH": {"value": "/opt:/app"}}}
    odd, common = findings("PY002", python=hidden, variables=variables)
    assert judged(common) == ("breaks", "likely")
    assert judged(odd) == ("breaks", "possible")
    assert common.title == "/app/random.py hides the standard module random"
    assert [fix.text for fix in common.fix] == [
        "Rename /app/random.py, or take /app off the search path.",
        "unset PYTHONPATH",
    ]


@pytest.mark.parametrize(("name", "typed"), [("enum34", "enum34"), ("odd; id #", "'odd; id #'")])
def test_py002_a_backport_is_to_be_uninstalled(name: str, typed: str) -> None:
    hidden = python(shadowed_modules={"enum": f"{SITE}/enum/__init__.py"})
    backport = distribution(name, modules={"enum": True}, location=f"{SITE}/enum")
    (found,) = findings("PY002", python=hidden, packages=distributions(backport))
    assert found.fix[0].text == f"python -m pip uninstall {typed}"


def test_py002_is_silent() -> None:
    assert findings("PY002") == []


def test_py002_truth_the_file_that_is_named_is_the_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "random.py").write_text("def roll(): return 4\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    measured = snapshot_of(f"python:{sys.executable}", Options())
    (found,) = findings("PY002", **{name: measured.sections[name].facts for name in ("python", "variables")})
    assert found.subject.name == "random"
    printed = import_error("import tempfile", path=folder)
    assert printed.startswith("ImportError: cannot import name 'Random' from 'random'")
    assert str(folder / "random.py") in printed
    assert found.title == f"{folder / 'random.py'} hides the standard module random"


# PY003


def test_py003_breaks_where_an_installed_distribution_imports_it() -> None:
    (found,) = findings(
        "PY003",
        baseline={},
        python=python(missing_modules={"_ctypes": True}),
        packages=distributions(distribution("torch", "2.6.0")),
        system={"packages": {"manager": "dpkg", "packages": {}}},
    )
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "ModuleNotFoundError: No module named '_ctypes'"
    assert found.fix[0].text == "apt-get install -y libffi-dev"


def test_py003_is_a_note_where_nobody_is_known_to_import_it() -> None:
    """pandas 3.1.1 was imported with _lzma hidden: it asks for it at first use."""
    packages = distributions(distribution("pandas", "3.1.1"))
    (found,) = findings("PY003", baseline={}, python=python(missing_modules={"_lzma": True}), packages=packages)
    assert judged(found) == ("note", "likely")
    assert found.predicted_error == "ModuleNotFoundError: No module named '_lzma'"


def test_py003_is_silent_where_the_baseline_lacks_it_too() -> None:
    lacking = python(missing_modules={"_lzma": True})
    assert findings("PY003", baseline={"python": lacking}, python=lacking) == []
    assert findings("PY003", baseline={"python": lacking}) == []


def test_py003_is_silent_between_platforms() -> None:
    windows = python(missing_modules={"readline": True}, platform={"system": "win32"})
    assert findings("PY003", baseline={}, python=windows) == []


def test_py003_truth_the_public_module_names_the_missing_one(tmp_path: Path) -> None:
    hide = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == '_lzma':\n"
        "            raise ModuleNotFoundError(\"No module named '_lzma'\", name=name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import lzma\n"
    )
    (found,) = findings("PY003", baseline={}, python=python(missing_modules={"_lzma": True}))
    assert import_error(hide, path=tmp_path) == found.predicted_error
