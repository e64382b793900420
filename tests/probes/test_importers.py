"""Who imports a module that cannot be loaded: what the sources say, against what really happens when they are run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, import_statements, importers, libraries
from support import interpreters
from support.compiled import Builder, imported, measured
from support.import_starts import STARTS
from support.wheels import PROBES

needs_gcc = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="needs gcc and the dynamic loader of Linux"
)

GONE = "ImportError: libgone.so.1: cannot open shared object file: No such file or directory"

CASES = [(way, text) for way, texts in STARTS.items() for text in texts]


def site(folder: Path, **sources: str) -> Builder:
    """A distribution ``a`` with a module ``a._a`` whose library is gone, and these sources."""
    make = Builder(folder)
    library = make.library("opt/libgone.so.1", defines=["x_call"])
    make.module("a/_a", calls=["x_call"], links=[library])
    library.unlink()
    for name, text in sources.items():
        make.write(f"a/{name}.py", text)
    make.distribution("a")
    return make


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site(tmp_path_factory.mktemp("broken")).folder


def asked(make: Builder | Path) -> dict[str, Any]:
    folder = make if isinstance(make, Path) else make.folder
    found: dict[str, Any] = measured(folder, sections=("libraries",)).facts("libraries") or {}
    facts: dict[str, Any] = found["files"]["a/_a.abi3.so"]["importers"]
    return facts


@needs_gcc
@pytest.mark.parametrize(("way", "text"), CASES)
def test_the_start_of_a_package_ends_as_its_source_says(way: str, text: str, broken: Path) -> None:
    (broken / "a/__init__.py").write_text(text + "\n")
    place = common.Place(environ={}, search_path=[str(broken)])
    (file,) = [file for file in libraries.library_files.find(place).files if file.key == "a/_a.abi3.so"]
    told = importers.Importers(place, libraries.library_files.find(place), lambda name: name.endswith(".so")).of(file)
    assert told is not None
    ways = {entry["way"] for entry in told["by"].values()}
    assert min(ways, key=import_statements.WAYS.index) == way
    assert ("start" in told) is (way in import_statements.CERTAIN)
    ended = imported("a", broken)
    if way == "plain":
        assert ended.line == GONE
    elif way == "reworded":
        assert ended.failed
        assert ended.line != GONE
    elif way in ("guarded", "function"):
        assert not ended.failed, ended


@needs_gcc
def test_the_chain_from_the_start_of_a_package(tmp_path: Path) -> None:
    make = site(
        tmp_path,
        __init__="'''Text.'''\nfrom .sub.inner import x\n",
        core="from . import _a\n",
    )
    make.write("a/sub/__init__.py", "import os\n")
    make.write("a/sub/inner.py", "import os\nfrom .. import core\n")
    told = asked(make)
    assert told["by"] == {"a/core.py:1": {"way": "plain"}}
    assert told["start"] == {
        "package": "a",
        "chain": ["a/__init__.py:2", "a/sub/inner.py:2", "a/core.py:1"],
        "reworded": False,
    }
    assert imported("a", tmp_path).line == GONE
    make.write("a/__init__.py", "def lazy():\n    from .sub.inner import x\n")
    told = asked(make)
    assert "start" not in told
    assert not imported("a", tmp_path).failed


@needs_gcc
@pytest.mark.parametrize(
    "rival", ["a/_a/__init__.py", "first/a/__init__.py", "first/a.py", "a/core/__init__.py"], ids=str
)
def test_an_import_that_finds_something_else_proves_nothing(rival: str, tmp_path: Path) -> None:
    make = site(tmp_path / "site", __init__="from . import core\n", core="from . import _a\n")
    path = ":".join(str(tmp_path / entry) for entry in ("site/first", "site"))
    make.write("first/keep.txt")
    assert imported("a", path).line == GONE
    make.write(rival)
    assert not imported("a", path).failed
    facts = measured(path, sections=("libraries",)).facts("libraries") or {}
    told = [record.get("importers", {}) for key, record in facts["files"].items() if key.endswith("a/_a.abi3.so")]
    assert [one for one in told if "start" in one] == []


@needs_gcc
def test_the_source_that_imports_it_is_tried_by_another(tmp_path: Path) -> None:
    """PyYAML is such a one: yaml/__init__.py tries yaml/cyaml.py, which imports yaml._yaml."""
    guard = "try:\n    from .fast import x\nexcept ImportError:\n    x = None\n"
    told = asked(site(tmp_path, __init__=guard, fast="from ._a import x\n"))
    assert told["by"] == {"a/fast.py:1": {"way": "guarded", "through": "a/__init__.py:2"}}
    assert not imported("a", tmp_path).failed


@needs_gcc
def test_others_that_get_the_same_name_are_alternatives(tmp_path: Path) -> None:
    make = site(
        tmp_path,
        __init__="def pick():\n"
        "    try:\n        from . import _a as lib\n    except ImportError:\n        from . import _b as lib\n"
        "    from . import _c\n    return lib\n",
    )
    make.module("a/_b")
    make.module("a/_c")
    assert asked(make)["by"] == {"a/__init__.py:3": {"way": "guarded", "instead": {"a._b": True}}}


@needs_gcc
def test_a_module_at_the_top_level_is_imported_by_those_that_require_it(tmp_path: Path) -> None:
    """As _cffi_backend of cffi, which soundfile.py needs when it is imported."""
    make = site(tmp_path)
    shutil.move(tmp_path / "a/_a.abi3.so", tmp_path / "_a.abi3.so")
    for name, requires in (("b", ["a"]), ("c", [])):
        make.write(f"{name}.py", f"import _{name}\n")
        make.write(f"_{name}.py", "import os\nimport _a\n")
        make.distribution(name, requires=requires, recorded=False)
        make.write(f"{name}-1.0.dist-info/RECORD", f"{name}.py,,\n_{name}.py,,\n")
    make.write("a-1.0.dist-info/RECORD", "_a.abi3.so,,\na/__init__.py,,\n")
    make.write("a/__init__.py", "def f():\n    import _a\n")
    facts = measured(tmp_path, sections=("libraries",)).facts("libraries") or {}
    told = facts["files"]["_a.abi3.so"]["importers"]
    assert told["by"] == {"_b.py:2": {"way": "plain"}, "a/__init__.py:2": {"way": "function"}}
    assert told["start"] == {"package": "b", "chain": ["b.py:1", "_b.py:2"], "reworded": False}
    assert imported("b", tmp_path).failed
    assert not imported("a", tmp_path).failed


@needs_gcc
def test_compiled_code_that_imports_it_holds_its_name(tmp_path: Path) -> None:
    make = site(tmp_path, __init__="from . import _b\n")
    make.compile("a/_b.abi3.so", 'const char *name = "a._a"; void *PyInit__b(void) { return 0; }\n', soname=None)
    make.distribution("a")
    assert asked(make) == {"by": {}, "complete": True, "named_in": "a/_b.abi3.so"}
    make.write("a/c.py", "from . import _a\n")
    assert "named_in" not in asked(make)


@needs_gcc
def test_tests_of_the_package_do_not_count(tmp_path: Path) -> None:
    make = site(tmp_path, __init__="")
    make.write("a/tests/test_a.py", "import a._a\n")
    assert asked(make) == {"by": {}, "complete": True}


# Sources that nobody wrote


# Each weighs nearly as much as a source may, and most are one statement as deep as that goes.
HOSTILE = {
    "sums": "x=" + "1+" * 149_000 + "1\n",
    "calls": "x" + "()" * 74_000 + "\n",
    "attributes": "x" + ".a" * 149_000 + "\n",
    "words": "x=" + "a and " * 170_000 + "1\n",
    "signs": "x=" + "-" * 149_000 + "1\n",
    "brackets": "x=" + "(" * 74_000 + ")" * 74_000 + "\n",
    "branches": "if a:\n pass\n" + "elif a:\n pass\n" * 21_000,
    "blocks": "".join(" " * depth + "if a:\n" for depth in range(1000)) + " " * 1000 + "pass\n",
    "lambdas": "x=" + "lambda:" * 149_000 + "1\n",
    "lines": "a\n" * 49_000,
    "null": "x = 1\0\n",
    "broken": "def (:\n",
    "digits": "x = " + "9" * 900_000 + "\n",
    "no text": "# \udcff\udcfe\n\udcff = 1\n",
    "coding": "# coding: no-such-thing\nimport a._a\n",
    "long": "#" * (import_statements.SOURCE_LIMIT + 1),
    "heavy": "x=" + "1+" * 400_000 + "1\n",
    "dots": "from " + "." * 140_000 + "x import y\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_source_is_read_or_refused(kind: str) -> None:
    data = HOSTILE[kind].encode("utf-8", "surrogateescape") + b"from . import _a\n"
    found = import_statements.read(data, "a", True)
    assert found is None or [one.names() for one in found.imports][-1:] == [["a", "a._a"]]


@pytest.mark.interpreters
@pytest.mark.parametrize("version", sorted(interpreters.supported()), ids=lambda version: f"{version[0]}.{version[1]}")
def test_no_hostile_source_ends_an_interpreter(version: tuple[int, int], tmp_path: Path) -> None:
    """Before 3.11 a syntax tree of any depth is made, and taken apart, on the stack of C."""
    for kind in ("sums", "calls", "attributes", "branches"):
        (tmp_path / f"{kind}.txt").write_text(HOSTILE[kind])
    code = (
        "import sys, types\n"
        "package = types.ModuleType('probes')\npackage.__path__ = [sys.argv[1]]\nsys.modules['probes'] = package\n"
        "from probes import import_statements\n"
        "for name in sys.argv[2:]:\n"
        "    with open(name, 'rb') as file:\n        import_statements.read(file.read(), 'a', True)\n"
        "print('alive')"
    )
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [interpreters.supported()[version], "-c", code, str(PROBES), *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-500:]


@needs_gcc
def test_what_cannot_be_read_may_import_it(tmp_path: Path) -> None:
    make = site(tmp_path, __init__="try:\n    from . import _a\nexcept ImportError:\n    pass\n")
    assert asked(make)["complete"] is True
    make.write("a/other.py", "from . import _a (\n")
    assert asked(make) == {"by": {"a/__init__.py:2": {"way": "guarded"}}, "complete": False}


@needs_gcc
def test_sources_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = site(tmp_path, __init__="from . import _a\n", x="from . import _a\n", y="from . import _a\n")
    place = common.Place(environ={}, search_path=[str(make.folder)])
    environment = libraries.library_files.find(place)
    (file,) = [file for file in environment.files if file.key == "a/_a.abi3.so"]

    def told(limit: str, value: int) -> dict[str, Any] | None:
        with monkeypatch.context() as patch:
            patch.setattr(importers, limit, value)
            found: dict[str, Any] | None = importers.Importers(place, environment, str.isascii).of(file)
            return found

    assert told("MODULE_LIMIT", 0) is None
    assert told("FILE_LIMIT", 2) is None
    for limit, value in (("READ_LIMIT", 17), ("PARSE_LIMIT", import_statements.weight(b"from . import _a\n"))):
        facts = told(limit, value)
        assert facts is not None
        assert (len(facts["by"]), facts["complete"]) == (1, False)
    assert told("EXAMPLES", 2) == {
        "by": {"a/__init__.py:1": {"way": "plain"}, "a/x.py:1": {"way": "plain"}},
        "complete": True,
        "start": {"package": "a", "chain": ["a/__init__.py:1"], "reworded": False},
    }


@needs_gcc
def test_an_unpacked_root_says_the_same_and_no_link_leads_out_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make = site(root / "site", __init__="from .core import x\n", core="from ._a import x\n")
    secret = tmp_path / "secret.py"
    secret.write_text("import a._a\n")
    links: dict[str, Path | str] = {
        "absolute.py": secret,
        "relative.py": "../../../../secret.py",
        "above": tmp_path,
        "inside.py": "core.py",
    }
    for name, target in links.items():
        (make.folder / "a" / name).symlink_to(target)

    def told(place: common.Place) -> Any:
        environment = libraries.library_files.find(place)
        (file,) = [file for file in environment.files if file.key == "a/_a.abi3.so"]
        return importers.Importers(place, environment, lambda name: name.endswith(".so")).of(file)

    inside = told(common.Place(str(root), {}, ["/site"], live=False))
    assert set(inside["by"]) == {"a/core.py:1", "a/inside.py:1"}
    for name in ("absolute.py", "relative.py", "above"):
        (make.folder / "a" / name).unlink()
    outside = told(common.Place("/", {}, [str(root / "site")]))
    assert inside["start"] == outside["start"]
    assert inside["by"] == outside["by"]
