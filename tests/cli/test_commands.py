"""The command line as a user meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.commands import driftcheck

from driftcheck import __version__, mending, validation
from driftcheck.cli import options
from driftcheck.mending import fixes
from driftcheck.report.formats import FORMATS
from driftcheck.report.load import load

HERE = f"python:{sys.executable}"


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("taken") / "here.json"
    result = driftcheck("snapshot", HERE, "-o", path, "--label", "here")
    assert (result.code, result.out) == (0, ""), result.err
    assert result.err.startswith(f"{path}: ")
    return path


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    """Also in a directory with files that are named like modules that it imports."""
    for name in ("json", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is no module')\n")
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "driftcheck", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(__version__)


def edited(path: Path, target: Path, change: Any) -> Path:
    value = json.loads(path.read_text())
    change(value)
    target.write_text(json.dumps(value))
    return target


def test_a_snapshot_is_valid_for_the_reference_implementation_too(taken: Path) -> None:
    schema = json.loads(driftcheck("schema", "snapshot").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(taken.read_text()), schema, jsonschema.Draft202012Validator)


def test_both_validators_refuse_the_same(taken: Path) -> None:
    value = json.loads(taken.read_text())
    value["sections"]["python"]["facts"]["bits"] = 63
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, validation.schema("snapshot"), jsonschema.Draft202012Validator)
    result = driftcheck("check", "-", stdin=json.dumps(value).encode())
    assert (result.code, result.err) == (
        2,
        "Error: standard input: not a valid snapshot: at sections.python.facts.bits: 63 is not one of [32, 64]\n",
    )


def test_standard_output_carries_the_snapshot_and_nothing_else() -> None:
    result = driftcheck("snapshot", HERE)
    assert json.loads(result.out)["header"]["reference"] == HERE
    assert json.loads(result.out)["header"]["tool"]["version"] == __version__


def test_nothing_differs_from_itself(taken: Path) -> None:
    for format_ in FORMATS:
        result = driftcheck("diff", taken, taken, "--format", format_)
        assert (result.code, result.err) == (0, ""), result.everything
    (target,) = json.loads(driftcheck("diff", taken, taken, "--format", "json").out)["targets"]
    assert target["changes"] == []
    assert all(finding["also_in_baseline"] for finding in target["findings"])


def test_diff_measures_what_is_no_file(taken: Path) -> None:
    result = driftcheck("diff", taken, "host", "--python", sys.executable, "--format", "json")
    assert result.code == 0, result.everything
    (target,) = json.loads(result.out)["targets"]
    assert target["environment"]["header"]["reference"] == "host"
    assert {change["path"][0] for change in target["changes"]} <= {"variables", "limits"}


def break_it(value: dict[str, Any]) -> None:
    """A requirement that is not met: what pip check would name."""
    record = value["sections"]["packages"]["facts"]["distributions"]["pytest"]
    record["requires"]["a-package-that-is-not-there>=2"] = ""


def test_a_finding_fails_the_run_and_names_itself(taken: Path, tmp_path: Path) -> None:
    broken = edited(taken, tmp_path / "broken.json", break_it)
    result = driftcheck("diff", taken, broken)
    assert result.code == 1
    assert "PKG001" in result.out
    assert "a-package-that-is-not-there" in result.out
    assert "was changed after it was measured" in result.err
    assert driftcheck("diff", taken, broken, "--fail-on", "never").code == 0
    assert driftcheck("check", broken).code == 1
    # The same contradiction in the baseline, which works, is no reason to fail.
    assert driftcheck("diff", broken, broken).code == 0


def test_a_section_that_could_not_be_measured(taken: Path, tmp_path: Path) -> None:
    def fail(value: dict[str, Any]) -> None:
        value["sections"]["system"].update(status="failed", reason="MemoryError", facts={})

    failed = edited(taken, tmp_path / "failed.json", fail)
    result = driftcheck("diff", taken, failed)
    assert result.code == 3
    assert "system" in result.out
    assert "MemoryError" in result.out
    # It is no loss of the target when the baseline lacks it, and none at all when the platform has no such thing.
    assert driftcheck("diff", failed, taken).code == 0
    absent = edited(
        taken,
        tmp_path / "absent.json",
        lambda value: value["sections"]["system"].update(status="absent", reason="no", facts={}),
    )
    assert driftcheck("diff", taken, absent).code == 0

    def both(value: dict[str, Any]) -> None:
        fail(value)
        break_it(value)

    assert driftcheck("diff", taken, edited(taken, tmp_path / "both.json", both)).code == 1


def test_several_targets_and_several_outputs(taken: Path, tmp_path: Path) -> None:
    broken = edited(taken, tmp_path / "broken.json", break_it)
    outputs = ["--output-file", f"json={tmp_path}/r.json", "--output-file", f"markdown={tmp_path}/r.md"]
    result = driftcheck("diff", taken, taken, broken, *outputs)
    assert result.code == 1
    assert len(json.loads((tmp_path / "r.json").read_text())["targets"]) == 2
    assert "PKG001" in (tmp_path / "r.md").read_text()


def test_a_saved_report_renders_to_the_same_bytes(taken: Path, tmp_path: Path) -> None:
    broken = edited(taken, tmp_path / "broken.json", break_it)
    saved = tmp_path / "report.json"
    driftcheck("diff", taken, broken, "--format", "json", "-o", saved)
    for format_ in FORMATS:
        first = driftcheck("diff", taken, broken, "--format", format_)
        again = driftcheck("report", saved, "--format", format_)
        assert (again.code, again.out) == (0, first.out)


def test_a_snapshot_as_the_ticket_of_one_environment(taken: Path) -> None:
    result = driftcheck("report", taken, "--format", "markdown")
    assert result.code == 0
    assert "Python" in result.out
    assert "here" in result.out


def test_rule_lists_and_explains() -> None:
    listing = driftcheck("rule")
    assert listing.code == 0
    for code in ("PKG001", "PY001", "CPU001", "SYS001", "ENV001"):
        assert code in listing.out
    page = driftcheck("rule", "pkg001").out
    for heading in (
        "What it compares",
        "Why it breaks inference",
        "What you would see",
        "How to fix it",
        "Known limits",
    ):
        assert heading in page
    document = json.loads(driftcheck("rule", "PKG001", "--format", "json").out)
    assert document["name"] == "unmet-requirement"
    assert driftcheck("rule", "unmet-requirement").out == page
    assert len(json.loads(driftcheck("rule", "--format", "json").out)) >= 12
    unknown = driftcheck("rule", "ABC999")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)


def test_schema_lists_prints_and_refuses() -> None:
    names = driftcheck("schema").out.split()
    assert {"snapshot", "report"} <= set(names)
    for name in names:
        jsonschema.Draft202012Validator.check_schema(json.loads(driftcheck("schema", name).out))
    assert driftcheck("schema", "none").code == 2


def test_the_probe_file_makes_a_snapshot_like_any_other(taken: Path, tmp_path: Path) -> None:
    probe, output = tmp_path / "probe.py", tmp_path / "probed.json"
    assert driftcheck("probe", "-o", probe).code == 0
    command = [sys.executable, str(probe), "-o", str(output), "--label", "a stranger"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    assert json.loads(output.read_text())["header"]["label"] == "a stranger"
    result = driftcheck("diff", taken, output, "--format", "json")
    assert result.code == 0, result.everything
    changed = {tuple(change["path"]) for change in json.loads(result.out)["targets"][0]["changes"]}
    assert {path[0] for path in changed} <= {"variables", "limits"}, changed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diff", "--no-policy"], "Missing BASELINE and TARGET: "),
        (["diff", "a.json", "--no-policy"], "Missing TARGET: "),
        (["nonsense"], "No such command 'nonsense'"),
        (["snapshot", "--nonsense"], "No such option"),
        (["diff", "x.json", "y.json"], "x.json: no such file"),
        (["check", "host", "--format", "tex"], "'tex' is not one of"),
        (["check", "host", "--output-file", "nonsense"], "is not FORMAT=FILE"),
        (["check", "--artifact", ""], "'--artifact': '' is no path"),
        (["check", "--variable", ""], "'--variable': '' is not the name of a variable"),
        (["check", "--variable", "OMP_NUM_THREADS=4"], "'OMP_NUM_THREADS=4' is not the name of a variable"),
        (["check", "a\x1b[31m\n\udcff\u202e.json"], "Error: a\\x1b[31m \\udcff\\u202e.json: no such file"),
        (["rule", ""], "Error: '': there is no rule of this code or name"),
        (["check", "image:-x"], "Error: image:-x: an image does not begin with -"),
        (["snapshot", HERE, "-o", "/nowhere/x.json"], "/nowhere/x.json: cannot be written"),
    ],
)
def test_a_wrong_command_ends_with_2_and_says_what_is_wrong(arguments: list[str], said: str) -> None:
    result = driftcheck(*arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("command", ["snapshot", "check", "diff"])
def test_what_has_no_effect_on_a_snapshot_that_was_taken_before_is_said(taken: Path, command: str) -> None:
    files = [taken] * (2 if command == "diff" else 1)
    told = driftcheck(command, *files, "--artifact", "model.onnx", "--pull").err
    assert (
        told == "Warning: nothing is measured, since a snapshot was taken before; without effect: --pull, --artifact\n"
    )
    assert driftcheck(command, *files).err == ""


def test_what_to_type_takes_the_place_of_the_report(taken: Path, tmp_path: Path) -> None:
    broken = edited(taken, tmp_path / "broken.json", break_it)
    saved = tmp_path / "report.json"
    result = driftcheck("diff", taken, broken, "--fix", "text", "--output-file", f"json={saved}")
    assert result.code == 1
    assert result.out.startswith("# For ")
    assert "a-package-that-is-not-there" in result.out
    assert "baseline  " not in result.out
    assert result.out == fixes(load(str(saved)), "text")
    assert driftcheck("report", saved, "--fix", "text").out == result.out
    lines = tmp_path / "Dockerfile.mend"
    assert driftcheck("report", saved, "--fix", "dockerfile", "-o", lines).out == ""
    assert lines.read_text() == fixes(load(str(saved)), "dockerfile")
    assert options.FIXES == mending.KINDS


def test_the_summary_of_a_step_is_appended_where_github_asks_for_it(taken: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    place = {"GITHUB_STEP_SUMMARY": str(summary)}
    driftcheck("diff", taken, taken, environ=place)
    assert summary.read_text() == "# Before\n"
    driftcheck("diff", taken, taken, "--format", "github", environ=place)
    written = summary.read_text()
    assert written == "# Before\n" + driftcheck("diff", taken, taken, "--format", "markdown").out
    driftcheck("diff", taken, taken, "--output-file", f"github={tmp_path}/a.txt", environ=place)
    assert summary.read_text().startswith(written + "**")
    result = driftcheck("diff", taken, taken, "--format", "github", environ={"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert result.code == 2
    assert "$GITHUB_STEP_SUMMARY cannot be written" in result.err


def test_a_closed_pipe_is_no_fault() -> None:
    """`driftcheck schema snapshot | head -1`."""
    command = f'{sys.executable} -P -c "from driftcheck.cli import main; main()" schema snapshot | head -1'
    process = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (process.stdout, process.stderr) == ("{\n", "")


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("schema snapshot >&-", 0, ""),
        ("rule >&- 2>&-", 0, ""),
        (
            "check - <&-",
            2,
            "Error: standard input: empty. A snapshot is made by: driftcheck snapshot -o FILE\n",
        ),
        ("schema snapshot >/dev/full", 2, "Error: the output cannot be written: No space left on device\n"),
        ("rule >/dev/full", 2, "Error: the output cannot be written: No space left on device\n"),
        ("check nowhere.json 2>/dev/full", 2, ""),
        ("check --no-such-option 2>/dev/full", 2, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_no_fault(ending: str, code: int, said: str) -> None:
    command = f'{sys.executable} -P -c "from driftcheck.cli import main; main()" {ending}'
    process = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (code, said)


def test_an_interruption_ends_with_130_and_leaves_nothing_running(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {mark}\nsleep 300\n")
    slow.chmod(0o755)
    code = "from driftcheck.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "snapshot", f"python:{slow}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(200):
        if mark.exists() and mark.read_text().strip():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")
    child = Path(f"/proc/{mark.read_text().strip()}")
    assert not child.exists() or " Z " in (child / "stat").read_text()


def test_a_directory_that_is_gone_is_no_fault(tmp_path: Path, taken: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "$PWD"; {sys.executable} -P -c "from driftcheck.cli import main; main()" check {taken}'
    process = subprocess.run(["sh", "-c", command], cwd=gone, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        "Error: the working directory: No such file or directory. Change to a directory that is there: cd\n"
    )


def test_a_program_of_the_working_directory_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "some-python").write_text("#!/bin/sh\n")
    result = driftcheck("check", "python:some-python", cwd=tmp_path)
    assert result.err == "Error: some-python: no such program on PATH. For the file here: python:./some-python\n"


def test_a_fault_of_ours_says_so_without_a_traceback() -> None:
    code = (
        "import driftcheck.environments, driftcheck.cli\n"
        "def fault(*_): raise RuntimeError('oops')\n"
        "driftcheck.environments.snapshot_of = fault\n"
        "driftcheck.cli.main()\n"
    )
    command = [sys.executable, "-P", "-c", code, "check"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 4
    assert process.stderr.startswith("Fault of driftcheck, not of your environment: RuntimeError: oops\n")
    assert "Traceback" not in process.stderr


def test_help_of_every_command() -> None:
    commands = ["snapshot", "diff", "check", "report", "rule", "probe", "schema"]
    top = driftcheck("--help")
    assert top.code == 0
    for command in commands:
        assert command in top.out
        page = driftcheck(command, "--help")
        assert page.code == 0
        assert "Usage: driftcheck" in page.out
    assert driftcheck("--version").out == f"driftcheck, version {__version__}\n"


def test_colour_is_for_terminals_or_on_request(taken: Path) -> None:
    assert "\x1b" not in driftcheck("check", taken).out
    assert "\x1b[" in driftcheck("check", taken, environ={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in driftcheck("check", taken, environ={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out
