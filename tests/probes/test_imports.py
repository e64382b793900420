"""The probe ``imports``: modules that are imported, that raise, that die, that hang, and that lie."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from driftcheck.probes import common, imports
from support.commands import driftcheck
from support.snapshots import check_facts

MODULES = {
    "fine": "",
    "loud": "import sys; print('x' * 300000); sys.stdout.close()",
    "failing": "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
    "leaving": "import os; os._exit(7)",
    "quitting": "raise SystemExit(3)",
    "dying": "import os, signal; os.kill(os.getpid(), signal.SIGBUS)",
    "hanging": "import time; time.sleep(60)",
    "lying": "import os; os.write(1, b'{\"outcome\": \"imported\"}\\n'); raise ValueError('two\\nlines')",
    "half": "import sys; sys.stderr.write('AttributeError: _ARRAY_API not found\\n')",
}


@pytest.fixture
def place(tmp_path: Path) -> common.Place:
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    return common.Place(environ={**os.environ, "PYTHONPATH": str(tmp_path)})


def measured(place: common.Place, *names: str) -> dict[str, dict[str, object]]:
    place.options["try_imports"] = list(names)
    facts = imports.measure(place)
    check_facts("imports", facts)
    modules: dict[str, dict[str, object]] = facts["modules"]
    return modules


def test_what_happened_is_told(place: common.Place) -> None:
    found = measured(place, "fine", "loud", "failing", "quitting", "lying", "half", "json.decoder")
    assert found == {
        "fine": {"outcome": "imported"},
        "loud": {"outcome": "imported"},
        "json.decoder": {"outcome": "imported"},
        "half": {"outcome": "imported", "array_api_not_found": True},
        "failing": {
            "outcome": "raised",
            "type": "ImportError",
            "message": "libGL.so.1: cannot open shared object file: No such file or directory",
            "line": "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        },
        "quitting": {"outcome": "raised", "type": "SystemExit", "message": "3", "line": "SystemExit: 3"},
        "lying": {"outcome": "raised", "type": "ValueError", "message": "two\nlines", "line": "ValueError: two"},
    }


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_module_that_ends_the_process(place: common.Place) -> None:
    assert measured(place, "dying", "leaving") == {
        "dying": {"outcome": "killed", "type": signal.SIGBUS.name},
        "leaving": {"outcome": "exited", "message": "exit code 7"},
    }


def test_an_import_that_does_not_end_is_ended(place: common.Place) -> None:
    record = imports.attempt(sys.executable, "hanging", place.environ, 1.0)
    assert record["outcome"] == "timeout"


def test_only_names_of_modules_are_taken(place: common.Place) -> None:
    assert measured(place, "fine; import os", "os", "../os", "") == {"os": {"outcome": "imported"}}
    assert len(place.problems) == 3


def test_nothing_is_imported_without_being_asked(place: common.Place) -> None:
    assert common.section(imports, place)["status"] == "absent"
    place.options["try_imports"] = ["os"]
    place.live = False
    assert common.section(imports, place)["status"] == "unavailable"


def test_the_working_directory_is_not_searched(place: common.Place, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise RuntimeError")
    (tmp_path / "here" / "only_here.py").write_text("")
    before = Path.cwd()
    os.chdir(tmp_path / "here")
    try:
        found = measured(place, "fine", "only_here")
    finally:
        os.chdir(before)
    assert found["fine"] == {"outcome": "imported"}
    assert found["only_here"]["type"] == "ModuleNotFoundError"


def test_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "s.json"
    done = driftcheck("snapshot", f"python:{sys.executable}", "-o", out, "--try-imports", "json, nowhere_at_all")
    assert done.code == 0, done.err
    section = json.loads(out.read_text())["sections"]["imports"]
    assert section["layer"] == "run"
    assert section["facts"]["modules"]["json"] == {"outcome": "imported"}
    assert section["facts"]["modules"]["nowhere_at_all"]["line"] == (
        "ModuleNotFoundError: No module named 'nowhere_at_all'"
    )
    refused = driftcheck("snapshot", "--try-imports", "os;x")
    assert refused.code == 2
    assert "'os;x' is not the name of a module" in refused.err


def test_a_snapshot_without_imports_is_not_incomplete(tmp_path: Path) -> None:
    asked, plain = tmp_path / "asked.json", tmp_path / "plain.json"
    assert driftcheck("snapshot", f"python:{sys.executable}", "-o", asked, "--try-imports", "json").code == 0
    assert driftcheck("snapshot", f"python:{sys.executable}", "-o", plain).code == 0
    assert "imports" not in json.loads(plain.read_text())["sections"]
    assert driftcheck("diff", asked, plain).code == 0
    assert driftcheck("diff", plain, asked).code == 0
