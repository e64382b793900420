"""What an image states of its start becomes facts, whatever it states."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, service
from driftcheck.probes.redaction import Redactor
from support.snapshots import check_facts

CONFIG: dict[str, Any] = {
    "entrypoint": ["/app/start.sh"],
    "cmd": ["gunicorn", "app:app"],
    "working_dir": "/app",
    "user": "1000:1000",
    "env": {"PATH": "/opt/venv/bin:/bin", "MODEL": "x"},
    "ports": {"8000/tcp": True},
    "healthcheck": {"Test": ["CMD-SHELL", "curl -f localhost:8000"], "Interval": 30_000_000_000, "Retries": 3},
    "shell": [],
}


def measure(root: Path, config: Any, **options: Any) -> dict[str, Any]:
    place = common.Place(str(root), {"PATH": "/elsewhere"}, [], live=False, options={"image_config": config, **options})
    section = common.section(service, place)
    assert section["status"] in {"ok", "partial", "absent"}, section["reason"]
    check_facts("service", section["facts"])
    facts: dict[str, Any] = section["facts"]
    return facts


def test_facts_of_an_image(tmp_path: Path) -> None:
    facts = measure(tmp_path, CONFIG, executable="/opt/venv/bin/python")
    start = facts.pop("start")
    assert facts == {
        "entrypoint": ["/app/start.sh"],
        "command": ["gunicorn", "app:app"],
        "working_directory": "/app",
        "user": "1000:1000",
        "environment": {"MODEL": True, "PATH": True},
        "ports": {"8000/tcp": True},
        "health_check": {
            "test": ["CMD-SHELL", "curl -f localhost:8000"],
            "interval": 30.0,
            "timeout": None,
            "start_period": None,
            "retries": 3,
        },
        "stop_signal": None,
        "packages_interpreter": "/opt/venv/bin/python",
    }
    assert start["problem"] == 'exec: "/app/start.sh": stat /app/start.sh: no such file or directory'
    assert start["exact"] is True


def test_the_image_s_own_path_counts(tmp_path: Path) -> None:
    """Not that of a process that runs by now, which an entry-point script may have changed."""
    program = tmp_path / "opt/venv/bin/gunicorn"
    program.parent.mkdir(parents=True)
    program.write_text("#!/opt/venv/bin/python\n")
    program.chmod(0o755)
    facts = measure(tmp_path, {**CONFIG, "entrypoint": None})
    assert facts["start"]["problem"] == "exec /opt/venv/bin/gunicorn: no such file or directory"


def test_nothing_states_a_start(tmp_path: Path) -> None:
    place = common.Place(str(tmp_path), {}, [], live=False)
    section = common.section(service, place)
    assert (section["status"], section["reason"]) == ("absent", "nothing states what would be started")


def test_an_image_that_starts_nothing(tmp_path: Path) -> None:
    facts = measure(tmp_path, {"entrypoint": [], "cmd": [], "healthcheck": {"Test": ["NONE"]}, "working_dir": ""})
    assert (facts["entrypoint"], facts["command"], facts["start"]) == (None, None, None)
    assert (facts["health_check"], facts["working_directory"]) == (None, "/")


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"entrypoint": "start", "cmd": {"a": 1}, "env": [], "ports": ["80"], "healthcheck": "x", "user": 5},
        {
            "cmd": [None, 3, ["x"]],
            "working_dir": "no/such",
            "healthcheck": {"test": "x", "interval": "1", "retries": -1},
        },
        {"cmd": ["sh", "-c", "\udcff$(" * 50], "env": {"PATH": "::..:x", "A": None}},
        {"cmd": ["x" * 100_000] * 5000, "ports": {str(number): True for number in range(5000)}},
    ],
)
def test_hostile_configurations(tmp_path: Path, config: dict[str, Any]) -> None:
    measure(tmp_path, config)


def test_secrets_in_a_command_are_hidden(tmp_path: Path) -> None:
    command = ["gunicorn", "--api-key", "hunter2hunter2", "sh", "-c", "serve --token swordfish9"]
    facts = measure(
        tmp_path, {**CONFIG, "entrypoint": ["sh", "-c", "exec none --password hunter2hunter2"], "cmd": command}
    )
    text = str(Redactor("/root", "").document(facts))
    assert "hunter2" not in text
    assert "swordfish9" not in text


def test_the_interpreter_that_runs_is_the_one_whose_packages_are_measured() -> None:
    place = common.Place(options={"image_config": {"cmd": [sys.executable, "-c", "1"]}})
    facts = service.measure(place)
    assert facts["packages_interpreter"] == sys.executable
    assert facts["start"]["interpreter"] == sys.executable
    assert facts["start"]["problem"] is None
