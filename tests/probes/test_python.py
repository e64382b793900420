"""The python probe: this interpreter, and what surrounds it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from driftcheck.probes import common, python


def place(*search_path: Path | str) -> common.Place:
    return common.Place(environ={}, search_path=[str(entry) for entry in search_path])


def test_this_interpreter() -> None:
    facts = python.measure(place(*sys.path[1:]))
    assert facts["version"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["extension_suffixes"] == EXTENSION_SUFFIXES
    assert facts["soabi"] == sysconfig.get_config_var("SOABI")
    assert facts["prefix"] == sys.prefix
    assert facts["search_path"] == sys.path[1:]


def test_it_needs_a_running_interpreter(tmp_path: Path) -> None:
    with pytest.raises(common.Unavailable):
        python.measure(common.Place(root=str(tmp_path), environ={}, search_path=[], live=False))


def test_pyvenv_is_read_as_site_reads_it() -> None:
    text = "home = /usr/bin\ninclude-system-site-packages = True\nversion_info=3.12.1\nuv = 0.5.1\nnonsense\n"
    assert python.parse_pyvenv(text) == {
        "home": "/usr/bin",
        "include-system-site-packages": "True",
        "version_info": "3.12.1",
        "uv": "0.5.1",
    }


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("version = 3.11.7", "3.11"),
        ("version_info = 3.12.1.final.0", "3.12"),
        ("version_info=3.13", "3.13"),
        ("version = three.eleven", None),
        ("version = 3", None),
        ("", None),
    ],
)
def test_the_version_that_an_environment_was_made_with(tmp_path: Path, line: str, version: str | None) -> None:
    """As venv, virtualenv and uv write it, and as nobody does."""
    (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\n{line}\n")
    assert python.environment(place(), str(tmp_path), "/usr/lib/python3.11")["made_with"] == version


def test_modules_that_hide_the_standard_library(tmp_path: Path) -> None:
    first, standard = tmp_path / "first", Path(subprocess.__file__).parent
    first.mkdir()
    (first / "random.py").write_text("")
    (first / "queue").mkdir()
    (first / "queue/__init__.py").write_text("")
    (first / "email").mkdir()  # without __init__.py it hides nothing
    (first / "tomllib.txt").write_text("")
    (first / "numpy.py").write_text("")

    def hidden(where: common.Place) -> dict[str, str]:
        names = python.standard_names(where, str(standard))
        return python.shadowed_modules(where, str(standard), names, EXTENSION_SUFFIXES, sys.builtin_module_names)

    assert hidden(place(first, standard)) == {"random": f"{first}/random.py", "queue": f"{first}/queue"}
    assert hidden(place(standard, first)) == {}
    # What Python does with it:
    code = "import random, queue; print(random.__file__); print(queue.__file__)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(first)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines() == [f"{first}/random.py", f"{first}/queue/__init__.py"]


def test_start_up_files_are_read_not_run(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "paths.pth").write_text("# a comment\n/opt/extra\n\nimport os; os.environ['PTH_RAN'] = '1'\n")
    (site / "sitecustomize.py").write_text("raise SystemExit\n")
    assert python.path_configuration(place(site)) == {
        f"{site}/paths.pth": {"adds": 1, "runs": 1},
        f"{site}/sitecustomize.py": {"adds": 0, "runs": 1},
    }


def test_optional_modules_that_this_build_lacks_cannot_be_imported() -> None:
    missing = python.missing_modules(place(*sys.path))
    code = "import sys\nfor name in sys.argv[1:]:\n    try: __import__(name)\n    except ImportError: print(name)"
    known = [name for name in python.OPTIONAL_MODULES if name in sys.stdlib_module_names]
    answer = subprocess.run([sys.executable, "-c", code, *known], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == missing
