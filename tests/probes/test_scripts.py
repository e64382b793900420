"""Each probe is a script that runs by itself, on every interpreter, and so is the packed file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes.payload import PROBES
from support import interpreters

from driftcheck import payload, validation

FOLDER = Path(__file__).parents[2] / "probes"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "run_alone(__file__)" in path.read_text())
VERSIONS = pytest.mark.parametrize(
    "version", sorted(interpreters.supported()), ids=lambda version: f"{version[0]}.{version[1]}"
)


def run(version: tuple[int, int], script: Path, *arguments: str, cwd: Path) -> Any:
    process = subprocess.run(
        [interpreters.supported()[version], str(script), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    return json.loads(process.stdout) if process.stdout else None


def test_every_section_has_a_script() -> None:
    assert {path.stem for path in SCRIPTS} >= PROBES.keys()


@pytest.mark.interpreters
@VERSIONS
def test_each_probe_prints_its_section(version: tuple[int, int], tmp_path: Path) -> None:
    for script in SCRIPTS:
        (section,) = run(version, script, cwd=tmp_path).items()
        name, content = section
        assert name == script.stem
        assert content["status"] in {"ok", "partial", "absent"}, (name, content["reason"])
        schema = validation.schema("snapshot")["properties"]["sections"]["properties"].get(name)
        if schema is not None:
            value = {"python": content} if name == "python" else {name: content}
            validation.check("snapshot", {**EMPTY, "sections": value}, name)


EMPTY = {
    "schema_version": 0,
    "header": {
        "label": "x",
        "created": "x",
        "tool": {"name": "driftcheck", "version": "0"},
        "reference": "x",
        "channel": "x",
        "interpreter": {"path": "x", "version": "x", "reason": "x", "working_directory": "x"},
    },
}


@pytest.mark.interpreters
@VERSIONS
def test_the_packed_file_measures_the_same_everywhere(version: tuple[int, int], tmp_path: Path) -> None:
    """Also with a module in its directory that would forge the answer, were that directory searched."""
    script = tmp_path / "probe.py"
    script.write_text(payload.probe_file())
    (tmp_path / "json.py").write_text("raise SystemExit('forged')\n")
    run(version, script, "-o", "snapshot.json", cwd=tmp_path)
    value = json.loads((tmp_path / "snapshot.json").read_text())
    validation.check("snapshot", value, "probe")
    assert value["sections"].keys() == PROBES.keys()
    facts = value["sections"]["python"]["facts"]
    assert facts["version"].startswith(f"{version[0]}.{version[1]}.")
    assert str(tmp_path) not in facts["search_path"]
    assert value["header"]["interpreter"]["working_directory"]


def test_the_packed_file_says_what_is_wrong_with_its_command_line(tmp_path: Path) -> None:
    script = tmp_path / "probe.py"
    script.write_text(payload.probe_file())
    python = interpreters.supported()[max(interpreters.supported())]
    process = subprocess.run(
        [python, script, "-o", str(tmp_path / "none" / "x.json")], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr == f"Error: {tmp_path}/none/x.json: No such file or directory\n"


def test_sources_can_be_packed() -> None:
    """Each stands in a raw string of three single quotes, and imports its neighbours on single lines."""
    for path in FOLDER.glob("*.py"):
        text = path.read_text(encoding="ascii")
        assert "'''" not in text, path.name
        assert not text.endswith("\\"), path.name
        assert "from . import (" not in text, path.name
        assert "\nimport driftcheck" not in text, path.name
        assert "from driftcheck." not in text, path.name
