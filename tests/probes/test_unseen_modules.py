"""Packages whose extension modules have the ending of another Python: what is told, against what really happens."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, imported, measured
from support.import_starts import STARTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux")

OTHER = f".cpython-{sys.version_info[0]}{sys.version_info[1] + 1}-x86_64-linux-gnu.so"


def site(folder: Path, *modules: str, name: str = "a", **sources: str) -> Builder:
    """A distribution with modules ``a._a`` (or these) of another Python, and these sources."""
    make = Builder(folder)
    for module in modules or (f"{name}._a",):
        make.write(module.replace(".", "/") + OTHER, b"\x7fELF")
    for path, text in sources.items():
        make.write(f"{name}/{path.replace('__in__', '/')}.py", text)
    make.distribution(name)
    return make


def told(make: Builder, name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = measured(make.folder, sections=("libraries",)).facts("libraries") or {}
    facts: dict[str, Any] = found["distributions"][name]["unseen_modules"]
    return facts


def ends(make: Builder, name: str = "a") -> str:
    return imported(name, make.folder).line


@pytest.mark.parametrize("text", STARTS["plain"])
def test_what_python_prints(text: str, tmp_path: Path) -> None:
    make = site(tmp_path, __init__=text + "\n")
    start, line = told(make).get("start"), ends(make)
    if line:
        assert start is not None
        assert start["module"] == "a._a"
        assert start.get("error", line) == line
        assert "error" in start or "elif" in text  # there it stands on a condition too
    else:  # what catches a ModuleNotFoundError catches this one
        assert "ModuleNotFoundError" in text
        assert start is None


@pytest.mark.parametrize("way", ["guarded", "function"])
def test_what_goes_on(way: str, tmp_path: Path) -> None:
    for number, text in enumerate(STARTS[way]):
        make = site(tmp_path / str(number), __init__=text + "\n")
        facts = told(make)
        assert ends(make) == "", text
        assert {entry["way"] for entry in facts["importers"]["a._a"].values()} <= {"guarded", "function"}, text


@pytest.mark.parametrize("text", STARTS["reworded"])
def test_words_of_the_package_are_not_told(text: str, tmp_path: Path) -> None:
    make = site(tmp_path, __init__=text + "\n")
    start = told(make)["start"]
    assert start["reworded"]
    assert "error" not in start
    assert ends(make)


@pytest.mark.parametrize("text", STARTS["conditional"])
def test_a_condition_proves_nothing(text: str, tmp_path: Path) -> None:
    assert "start" not in told(site(tmp_path, __init__=text + "\n"))


@pytest.mark.parametrize(
    "sources",
    [
        {"__init__": "from . import b\nfrom . import _a\n", "b": "from ._b import x\n"},
        {"__init__": "from .c import x\nfrom . import _a\n", "c": "from . import b\n", "b": "import a._b\n"},
        {"__init__": "import a.b\n", "b": "import json, os.path, re\nfrom a import _b\n"},
        {"__init__": "", "sub__in____init__": "from . import x\n"},
        {"__init__": "from .sub import y\n", "sub__in____init__": "from . import _c\n"},
        {"__init__": "from .sub import _c\n", "sub__in____init__": "y = 1\n"},
        {
            "__init__": "try:\n    from . import b\nexcept ImportError:\n    pass\nfrom . import _a\n",
            "b": "import a._b",
        },
    ],
)
def test_the_first_in_the_order_in_which_it_runs(sources: dict[str, str], tmp_path: Path) -> None:
    make = site(tmp_path, "a._a", "a._b", "a.sub._c", **sources)
    start = told(make).get("start", {})
    assert start.get("error", "") == ends(make)


@pytest.mark.parametrize(
    "sources",
    [
        {"__init__": "if __name__:\n    from . import _b\nfrom . import _a\n"},
        {"__init__": "if __name__:\n    from . import b\nfrom . import _a\n", "b": "from . import _b\n"},
        {"__init__": "import nowhere_at_all\nfrom . import _a\n"},
        {"__init__": "from . import nowhere\nfrom . import _a\n", "nowhere": "def f(:\n"},
        {"__init__": "def f():\n    from . import _b\nx = f()\nfrom . import _a\n"},
    ],
)
def test_no_words_where_something_may_fail_before(sources: dict[str, str], tmp_path: Path) -> None:
    make = site(tmp_path, "a._a", "a._b", **sources)
    start = told(make)["start"]
    assert start["module"] == "a._a"
    assert "error" not in start
    assert ends(make)
    assert ends(make) != f"ModuleNotFoundError: No module named '{start['module']}'"


def test_a_requirement_that_lacks_its_modules_may_fail_first(tmp_path: Path) -> None:
    make = site(tmp_path, "b._b", name="b", __init__="from . import _b\n")
    make.write("a/_a" + OTHER, b"\x7fELF")
    make.write("a/__init__.py", "__import__('b' + '')\nimport a._a\n")
    make.distribution("a", requires=["b"])
    facts = told(make)
    assert facts["start"]["module"] == "a._a"
    assert "error" not in facts["start"]
    assert ends(make).startswith("ImportError: cannot import name '_b' from partially initialized module 'b'")


def test_what_stands_beside_a_module_answers(tmp_path: Path) -> None:
    make = site(tmp_path, "a._a", "a._b", "a._c", __init__="from . import _a, _b\n", _a="", _b__in____init__="")
    make.write("a/_c/data.txt")
    facts = told(make)
    assert facts == {"count": 0, "complete": False, "twins": {"a/_a.py": True, "a/_b/__init__.py": True}}
    assert ends(make) == ""


def test_a_module_at_the_top_is_imported_by_its_name(tmp_path: Path) -> None:
    make = site(tmp_path, "a")
    make.write("a-1.0.dist-info/RECORD", f"a{OTHER},,\n")
    facts = told(make)
    assert facts["start"] == {
        "package": "a",
        "chain": [],
        "reworded": False,
        "module": "a",
        "error": "ModuleNotFoundError: No module named 'a'",
    }
    assert ends(make) == facts["start"]["error"]


def test_alternatives_in_python(tmp_path: Path) -> None:
    start = "from .flag import F\nif F:\n    from ._a import x\nelse:\n    from ._python import x\n"
    make = site(tmp_path, __init__=start, flag="F = False\n", _python="x = 1\n")
    assert told(make)["importers"] == {
        "a._a": {"a/__init__.py:3": {"way": "conditional", "instead": {"a._python": True}}}
    }
    assert ends(make) == ""


def test_an_error_that_is_kept_is_caught(tmp_path: Path) -> None:
    """coverage.py does so: a variable may ask it to end."""
    handler = "    if __import__('os').getenv('A_IS'):\n        raise\n    b = e\n"
    start = "import os\ntry:\n    import a._a\nexcept ImportError as e:\n" + handler
    make = site(tmp_path, __init__=start)
    assert told(make)["importers"] == {"a._a": {"a/__init__.py:3": {"way": "conditional", "caught": True}}}
    assert ends(make) == ""


def test_a_distribution_with_a_module_of_this_python_is_not_asked(tmp_path: Path) -> None:
    make = site(tmp_path, __init__="")
    make.write(f"a/_mine{EXTENSION_SUFFIXES[0]}", b"\x7fELF")
    make.distribution("a")
    found = measured(make.folder, sections=("libraries",)).facts("libraries") or {}
    assert "unseen_modules" not in found["distributions"]["a"]
