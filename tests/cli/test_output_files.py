"""Where results go: what is refused before anything is measured, and that a file is there whole or as it was."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.commands import driftcheck

from driftcheck.cli import output_files

EXAMPLE = Path(__file__).parents[2] / "docs" / "example"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Snapshots, a log and a policy; each name is one that a command could overwrite."""
    for name in ("laptop.json", "ci.json"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    (tmp_path / "service.log").write_text("ImportError: oops\n")
    (tmp_path / "driftcheck.toml").write_text('fail-on = "never"\n')
    (tmp_path / "link.json").symlink_to("laptop.json")
    (tmp_path / "hard.json").hardlink_to(tmp_path / "ci.json")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["diff", "laptop.json", "ci.json", "-o", "ci.json"], "ci.json"),
        (["diff", "laptop.json", "ci.json", "-o", "./link.json"], "./link.json"),
        (["diff", "laptop.json", "ci.json", "-o", "hard.json"], "hard.json"),
        (["diff", "laptop.json", "ci.json", "--output-file", "json=laptop.json"], "laptop.json"),
        (["diff", "laptop.json", "ci.json", "--fix", "text", "-o", "ci.json"], "ci.json"),
        (["diff", "laptop.json", "ci.json", "--error", "service.log", "-o", "service.log"], "service.log"),
        (["check", "laptop.json", "-o", "driftcheck.toml"], "driftcheck.toml"),
        (["check", "laptop.json", "--on", "ci.json", "-o", "ci.json"], "ci.json"),
        (["check", f"python:{sys.executable}", "--artifact", "service.log", "-o", "service.log"], "service.log"),
        (["report", "ci.json", "--format", "json", "-o", "ci.json"], "ci.json"),
        (["snapshot", "ci.json", "-o", "ci.json"], "ci.json"),
        (["snapshot", "archive:ci.json", "-o", "ci.json"], "ci.json"),
        (["snapshot", "archive:ci.json#svc:1", "-o", "ci.json"], "ci.json"),
    ],
)
def test_what_is_read_is_not_overwritten(folder: Path, arguments: Sequence[str], output: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = driftcheck(*arguments, cwd=folder)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"Error: {output}: this command reads that file (")
    assert result.err.endswith("). Name another file\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_two_outputs_in_one_file_are_refused_and_two_on_a_device_are_not(folder: Path) -> None:
    two = ("check", "laptop.json", "-o", "new.txt", "--output-file", "json=./new.txt")
    result = driftcheck(*two, cwd=folder)
    assert result.err == "Error: ./new.txt: two outputs would be written to that file (new.txt). Name another file\n"
    assert not (folder / "new.txt").exists()
    result = driftcheck("check", "laptop.json", "--output-file", "json=-", cwd=folder)
    assert (result.code, result.out) == (2, "")
    assert result.err == "Error: -: two outputs would be written to standard output. Name another file\n"
    nowhere = ("-o", "/dev/null", "--output-file", "json=/dev/null", "--error", "/dev/null")
    result = driftcheck("check", "laptop.json", *nowhere, cwd=folder)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("none/x.json", "cannot be written: there is no directory "),
        (".", "cannot be written: a directory. Name a file in it"),
        ("", "'': cannot be written: a directory"),
        ("laptop.json/x.json", "cannot be written: there is no directory "),
        ("\udcff\udcfe/x", "cannot be written: there is no directory "),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_measured(folder: Path, output: str, said: str) -> None:
    mark = folder / "mark"
    slow = folder / "python"
    slow.write_text(f"#!/bin/sh\ntouch {mark}\n")
    slow.chmod(0o755)
    for arguments in (["snapshot", f"python:{slow}", "-o", output], ["check", f"python:{slow}", "-o", output]):
        result = driftcheck(*arguments, cwd=folder)
        assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
        assert said in result.err
    assert not mark.exists()


def test_a_snapshot_takes_the_place_of_the_last_one_and_keeps_its_mode(folder: Path) -> None:
    old = folder / "old.json"
    old.write_text("old")
    old.chmod(0o640)
    (folder / "to-old.json").symlink_to("old.json")
    assert driftcheck("snapshot", "laptop.json", "-o", "to-old.json", cwd=folder).code == 0
    assert (folder / "to-old.json").is_symlink()
    assert old.read_text().startswith("{")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_a_full_disk_is_said() -> None:
    result = driftcheck("check", EXAMPLE / "laptop.json", "-o", "/dev/full")
    assert (result.code, result.out) == (2, "")
    assert result.err == "Error: /dev/full: cannot be written: No space left on device\n"


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path: Path) -> None:
    """Half of a text report looks like a whole one. A limit on the size of files stands for the disk."""
    old = tmp_path / "report.txt"
    old.write_text("old")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from driftcheck.cli import output_files\n"
        "output_files.write(sys.argv[1], 'x' * 1000)\n"
    )
    for path in (old, tmp_path / "new.txt"):
        process = subprocess.run(
            [sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        assert f"{path}: cannot be written: File too large" in process.stderr.replace("', '", ": ")
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]


def test_what_others_share_is_written_in_place(tmp_path: Path) -> None:
    """A hard link and a pipe keep what they are."""
    one, other, pipe = tmp_path / "one", tmp_path / "other", tmp_path / "pipe"
    one.write_text("old and longer")
    other.hardlink_to(one)
    output_files.write(str(one), "new")
    assert other.read_text() == "new"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        output_files.write(str(pipe), "through")
        assert reader.communicate(timeout=30)[0] == "through"
    assert pipe.is_fifo()
