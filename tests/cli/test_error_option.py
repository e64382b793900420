"""``--error``: where the log comes from, and that its answer is in the report. What answers it has tests of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.commands import Result, driftcheck

from driftcheck.cli import log_file

EXAMPLE = Path(__file__).parents[2] / "docs" / "example" / "laptop.json"
LOG = b"""\
starting
Traceback (most recent call last):
  File "service.py", line 1, in <module>
    import pygments
ModuleNotFoundError: No module named 'pygments'
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a snapshot, another that lacks a distribution, and the log of what that leads to."""
    folder = tmp_path_factory.mktemp("error")
    value = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    distributions = value["sections"]["packages"]["facts"]["distributions"]
    distributions["pygments"]["requested"] = False  # only rich asks for it
    (folder / "good.json").write_text(json.dumps(value))
    distributions["fastapi"]["requires"]["a-package-that-is-not-there>=2"] = ""
    del distributions["pygments"]
    (folder / "bad.json").write_text(json.dumps(value))
    (folder / "service.log").write_bytes(LOG)
    return folder


def answer(result: Any) -> dict[str, Any]:
    assert result.code == 1, result.everything
    (target,) = json.loads(result.out)["targets"]
    found: dict[str, Any] = target["error"]
    if found["finding"]:
        first = target["findings"][0]
        assert found["finding"] == [first["code"], first["subject"]["kind"], first["subject"]["name"]]
    return found


@pytest.mark.parametrize("command", [("diff", "good.json", "bad.json"), ("check", "bad.json")])
def test_the_error_at_hand_is_answered(files: Path, command: tuple[str, ...]) -> None:
    found = answer(driftcheck(*command, "--format", "json", "--error", "service.log", cwd=files))
    assert found["source"] == "service.log"
    assert found["text"] == "ModuleNotFoundError: No module named 'pygments'"
    assert found["finding"] == ["PKG001", "requirement", "rich -> pygments"]
    # Only a baseline says which module the distribution would have brought.
    assert found["match"] == ("verbatim" if command[0] == "diff" else "pattern")
    found = answer(driftcheck(*command, "--format", "json", "--error", "-", cwd=files, stdin=LOG))
    assert found["source"] == "standard input"
    assert found["finding"][0] == "PKG001"


def test_what_the_policy_expects_counts_again_where_it_is_what_failed(files: Path) -> None:
    policy = files / "policy.toml"
    policy.write_text('[[expect]]\nrule = "PKG001"\nreason = "nobody imports them"\n')
    command = ("diff", "good.json", "bad.json", "--policy", policy, "--format", "json")
    result = driftcheck(*command, cwd=files)
    assert result.code == 0, result.everything
    suppressed = json.loads(result.out)["targets"][0]["suppressed"]
    result = driftcheck(*command, "--error", "service.log", cwd=files)
    assert answer(result)["finding"] == ["PKG001", "requirement", "rich -> pygments"]
    (target,) = json.loads(result.out)["targets"]
    assert len(target["suppressed"]) == len(suppressed) - 1
    new = [finding["subject"]["name"] for finding in target["findings"] if not finding["also_in_baseline"]]
    assert new == ["rich -> pygments"]


def test_an_error_that_nothing_explains_is_answered_too(files: Path) -> None:
    log = b"ModuleNotFoundError: No module named 'something_else'\n"
    found = answer(driftcheck("check", "bad.json", "--format", "json", "--error", "-", cwd=files, stdin=log))
    assert (found["finding"], found["match"]) == (None, None)


def test_the_end_of_a_large_log_is_read(files: Path) -> None:
    large = files / "large.log"
    with large.open("wb") as file:
        for _ in range(24):
            file.write(b"\xff\x00 nothing to see here\n" * 50_000)
        file.write(LOG)
    assert large.stat().st_size > log_file.KEPT
    found = answer(driftcheck("check", "bad.json", "--format", "json", "--error", large, cwd=files))
    assert found["finding"] == ["PKG001", "requirement", "rich -> pygments"]
    found = answer(
        driftcheck("check", "bad.json", "--format", "json", "--error", "-", cwd=files, stdin=large.read_bytes())
    )
    assert found["finding"] == ["PKG001", "requirement", "rich -> pygments"]


def test_only_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "KEPT", 10)
    monkeypatch.setattr(log_file, "_CHUNK", 4)
    path = tmp_path / "log"
    path.write_bytes(b"0123456789abcdefghij")
    assert log_file.read_end(str(path)).text == "abcdefghij"
    path.write_bytes(b"abc")
    assert log_file.read_end(str(path)) == log_file.Log("abc", "")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'printf 0123456789abcdefghijk > "$0"', pipe]):
        assert log_file.read_end(str(pipe)).text == "bcdefghijk"


def test_a_log_of_which_only_the_end_is_read_says_so(files: Path, tmp_path: Path) -> None:
    many = tmp_path / "many lines.log"
    many.write_bytes(b"\n" * 60_000 + LOG)
    result = driftcheck("check", "bad.json", "--error", many, cwd=files)
    assert result.err.partition("\n")[0] == f"Warning: {many}: only its end is read: 50,000 lines, 4 MB at the most"
    assert "No module named 'pygments'" in result.out
    result = driftcheck("check", "bad.json", "--error", "-", cwd=files, stdin=b"x" * 17_000_000 + b"\n" + LOG)
    assert (
        result.err.partition("\n")[0] == "Warning: standard input: only its end is read: 50,000 lines, 4 MB at the most"
    )
    assert "No module named 'pygments'" in result.out


def test_a_log_without_end_ends(files: Path) -> None:
    result = driftcheck("check", "bad.json", "--error", "/dev/zero", cwd=files)
    assert result.code == 1
    assert (
        result.err.partition("\n")[0] == "Warning: /dev/zero: no end within 1024 MB; what comes after them is not read"
    )


def test_a_pipe_with_a_name_is_a_log_too(files: Path) -> None:
    pipe = files / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", 'cat service.log > "$0"', pipe], cwd=files):
        found = answer(driftcheck("check", "bad.json", "--format", "json", "--error", "pipe", cwd=files))
    assert found["finding"] == ["PKG001", "requirement", "rich -> pygments"]


def test_standard_input_is_read_from_where_it_stands(files: Path) -> None:
    """A shell may have read the beginning of the file."""
    log = files / "two.log"
    log.write_bytes(b"ImportError: an old one\n" + LOG)
    run = f'{sys.executable} -P -c "from driftcheck.cli import main; main()" check bad.json --format json --error -'
    process = subprocess.run(
        ["sh", "-c", f"{{ read first; {run}; }} < two.log"], cwd=files, capture_output=True, text=True, check=False
    )
    found = answer(Result(process.returncode, process.stdout, process.stderr))
    assert found["finding"] == ["PKG001", "requirement", "rich -> pygments"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--error", "nowhere.log"], "Error: nowhere.log: cannot be read: No such file or directory\n"),
        (["--error", "."], "Error: .: cannot be read: Is a directory\n"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_before_anything_is_measured(
    files: Path, arguments: list[str], said: str
) -> None:
    result = driftcheck("check", "python:no/such/python", *arguments, cwd=files)
    assert (result.code, result.out, result.err) == (2, "", said)


@pytest.mark.parametrize(
    "command",
    [
        ("check", "-", "--error", "-"),
        ("diff", "good.json", "-", "--error", "-"),
        ("check", "host", "--on", "-", "--error", "-"),
    ],
)
def test_standard_input_is_read_once(files: Path, command: tuple[str, ...]) -> None:
    result = driftcheck(*command, cwd=files, stdin=LOG)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: -: standard input can be read only once")
