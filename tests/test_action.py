"""The GitHub action: valid, pinned, safe from its inputs, and its steps run as the runner would run them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support.wheels import install, virtual_environment

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA = Path(__file__).parent / "report" / "schemas" / "github-action.json"
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs the steps of the action with bash")


@functools.cache
def action() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    return loaded


def steps(kind: str) -> list[dict[str, Any]]:
    return [step for step in action()["runs"]["steps"] if kind in step]


# As a document


def test_it_is_valid_metadata() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(action(), schema, jsonschema.Draft7Validator)
    broken = {**action(), "runs": {"using": "composite"}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema, jsonschema.Draft7Validator)


def test_no_text_of_an_input_becomes_text_of_a_script() -> None:
    for step in steps("run"):
        assert not EXPRESSION.search(step["run"]), step["name"]
        assert step["shell"] == "bash"


def test_what_it_uses_is_pinned_to_a_commit() -> None:
    for step in steps("uses"):
        assert re.fullmatch(r"(?:actions|github)/[\w-]+(?:/[\w-]+)*@[0-9a-f]{40}", step["uses"]), step["uses"]


def test_every_expression_names_what_there_is() -> None:
    inputs = set(action()["inputs"])
    names = {step["id"] for step in action()["runs"]["steps"] if "id" in step}
    outputs = {"install": {"directory"}, "compare": {"exit-code"}}
    found = EXPRESSION.findall((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
    assert {name for text in found for name in re.findall(r"inputs\.([\w-]+)", text)} == inputs
    for text in found:
        for step, kind, name in re.findall(r"steps\.([\w-]+)\.(outputs|outcome)(?:\.([\w-]+))?", text):
            assert step in names
            assert kind == "outcome" or name in outputs[step]


def test_every_variable_of_a_measuring_step_is_kept_from_what_is_measured() -> None:
    for step in steps("run"):
        if 'driftcheck"' in step["run"] and step.get("id") != "install":
            first = step["run"].splitlines()[0]
            assert first == f"export -n {' '.join(step['env'])}"


# As a run


@dataclass(frozen=True)
class Done:
    """What a run of the steps came to: exit code and output by step, and what was written."""

    codes: dict[str, int]
    output: str
    outputs: dict[str, str]
    summary: str

    @property
    def directory(self) -> Path:
        return Path(self.outputs["install.directory"])

    @property
    def report(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.directory / "out" / "report.json").read_text(encoding="utf-8"))
        return value


# The driftcheck of this checkout; and one that only writes down how it was called.
OURS = f"exec '{sys.executable}' -P -c 'from driftcheck.cli import main; main()' \"$@\""
RECORDER = 'printf "%s\\0" "$@" >>"$HOME/called"'


class Runner:
    """The part of GitHub's runner that composite actions see."""

    def __init__(self, folder: Path, path: str, *, action_path: Path = REPOSITORY) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.workspace.mkdir(parents=True)
        (folder / "temp").mkdir()
        self.environ = {
            "PATH": path,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RUNNER_TEMP": str(folder / "temp"),
            "GITHUB_ACTION_PATH": str(action_path),
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")},
        }

    def run(self, given: Mapping[str, str], *, program: str | None = OURS) -> Done:
        """Run the scripts in their order, until one fails; the last one runs where its condition holds.

        ``program`` is a shell script that takes the place of what the first step installs; None: it installs.
        """
        inputs = {name: entry["default"] for name, entry in action()["inputs"].items()} | dict(given)
        outputs: dict[str, str] = {}
        codes: dict[str, int] = {}
        output = summary = ""
        for number, step in enumerate(steps("run")):
            name = step.get("id", "verdict")
            if program and name == "install":
                outputs["install.directory"] = str(self._installed(program))
                continue
            files = {key: self.folder / f"{key}-{number}" for key in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
            for file in files.values():
                file.write_text("", encoding="utf-8")
            own = {key: self._filled(text, inputs, outputs) for key, text in step.get("env", {}).items()}
            script = self.folder / f"step-{number}.sh"
            script.write_text(step["run"], encoding="utf-8")
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
                env={**self.environ, **{key: str(file) for key, file in files.items()}, **own},
                cwd=self.workspace / self._filled(step.get("working-directory", "."), inputs, outputs),
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            codes[name] = done.returncode
            output += done.stdout + done.stderr
            for line in files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines():
                key, _, value = line.partition("=")
                outputs[f"{name}.{key}"] = value
            summary += files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")
            if done.returncode:
                break
        return Done(codes, output, outputs, summary)

    def _installed(self, program: str) -> Path:
        directory = self.folder / "temp" / "driftcheck.installed"
        (directory / "out").mkdir(parents=True)
        script = directory / "driftcheck"
        script.write_text(f"#!/bin/sh\n{program}\n", encoding="utf-8")
        script.chmod(0o755)
        return directory

    @staticmethod
    def _filled(text: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
        values = {f"inputs.{name}": value for name, value in inputs.items()}
        for name, value in outputs.items():
            step, _, key = name.partition(".")
            values[f"steps.{step}.outputs.{key}"] = value
        return EXPRESSION.sub(lambda found: values[found[1]], text)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path, os.environ["PATH"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two interpreters: in the second one, a requirement is not met."""
    good = virtual_environment(tmp_path_factory.mktemp("good"))
    bad = virtual_environment(tmp_path_factory.mktemp("bad"))
    for python, version in ((good, "2.0"), (bad, "1.0")):
        site = next((python.parent.parent / "lib").glob("python*/site-packages"))
        install(site, "model", "1.0", requires=["tokens>=2"])
        install(site, "tokens", version)
    return good, bad


def test_a_healthy_environment_passes(runner: Runner, project: tuple[Path, Path]) -> None:
    done = runner.run({"python": str(project[0]), "reference": "host"})
    assert done.codes == {"snapshot": 0, "compare": 0, "verdict": 0}, done.output
    assert "::notice title=driftcheck::Nothing found that would break inference in ci" in done.output
    assert done.summary.startswith("**Nothing found that would break inference in `ci`")
    assert sorted(path.name for path in (done.directory / "out").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "snapshot.json",
    ]


def test_what_would_break_fails_after_the_reports_are_written(runner: Runner, project: tuple[Path, Path]) -> None:
    first = runner.run({"python": str(project[0])})
    baseline = runner.workspace / "baselines" / "laptop.json"
    baseline.parent.mkdir()
    shutil.move(first.directory / "out" / "snapshot.json", baseline)
    shutil.rmtree(first.directory)
    done = runner.run(
        {
            "python": str(project[1]),
            "baseline": "baselines/laptop.json",
            "formats": "json,sarif junit",
            "upload-sarif": "true",
        }
    )
    assert done.codes == {"snapshot": 0, "compare": 0, "verdict": 1}, done.output
    assert done.outputs["compare.exit-code"] == "1"
    assert re.search(
        r"^::error title=PKG001 breaks in ci[^:]*::model 1.0 requires tokens>=2", done.output, re.MULTILINE
    )
    assert done.summary.startswith("**1 finding would break inference in `ci (target)`")
    assert done.summary.count("**1 finding") == 1
    assert done.report["baseline"] is not None
    assert sorted(path.name for path in (done.directory / "out").iterdir()) == [
        "report.json",
        "report.sarif",
        "report.xml",
        "snapshot.json",
    ]
    assert json.loads((done.directory / "findings.sarif").read_text(encoding="utf-8"))["version"] == "2.1.0"


def test_what_may_fail_the_run_is_an_input(runner: Runner, project: tuple[Path, Path]) -> None:
    done = runner.run({"python": str(project[1]), "fail-on": "never"})
    assert done.codes == {"snapshot": 0, "compare": 0, "verdict": 0}, done.output
    assert done.report["fail_on"] == "never"


def test_a_policy_is_taken_from_the_working_directory(runner: Runner, project: tuple[Path, Path]) -> None:
    service = runner.workspace / "service"
    service.mkdir()
    (service / "expected.toml").write_text('fail-on = "never"\n', encoding="utf-8")
    done = runner.run({"python": str(project[1]), "working-directory": "service", "policy": "expected.toml"})
    assert done.codes["verdict"] == 0, done.output
    assert done.report["policy"] == "expected.toml"


def test_the_environment_is_measured_without_the_actions_own_variables(
    runner: Runner, project: tuple[Path, Path]
) -> None:
    runner.environ["OMP_NUM_THREADS"] = "3"
    done = runner.run({"python": str(project[0])})
    snapshot = json.loads((done.directory / "out" / "snapshot.json").read_text(encoding="utf-8"))
    variables = snapshot["sections"]["variables"]["facts"]["variables"]
    assert variables["OMP_NUM_THREADS"] == {"value": "3"}
    assert not [name for name in variables if name.startswith("INPUT_") or name == "DIRECTORY"]


@pytest.mark.parametrize(
    ("name", "value", "step"),
    [
        ("baseline", "gone.json", "compare"),
        ("fail-on", "sometimes", "compare"),
        ("formats", "json pdf", "compare"),
        ("python", "/nowhere/python", "snapshot"),
        ("reference", "nonsense:x", "snapshot"),
    ],
)
def test_a_wrong_input_fails_its_step(
    runner: Runner, project: tuple[Path, Path], name: str, value: str, step: str
) -> None:
    done = runner.run({"python": str(project[0]), name: value})
    assert done.codes[step] == 2, done.output
    assert "verdict" not in done.codes
    assert re.search(r"^::error title=driftcheck::", done.output, re.MULTILINE)


HOSTILE = (
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "--output=pwned",
    "-opwned",
    "x\nexit-code=0\n::set-output name=a::b",
    "' ; touch pwned #",
    "*",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("reference", "{}"),
        ("baseline", "{}"),
        ("python", "--python={}"),
        ("label", "--label={}"),
        ("policy", "--policy={}"),
        ("fail-on", "--fail-on={}"),
    ],
)
def test_an_input_is_one_argument_whatever_it_holds(runner: Runner, name: str, argument: str, text: str) -> None:
    done = runner.run({name: text}, program=RECORDER)
    assert done.codes == {"snapshot": 0, "compare": 0, "verdict": 0}, done.output
    called = (runner.folder / "called").read_bytes().decode().split("\0")
    assert argument.format(text) in called
    if argument == "{}":
        assert "--" in called[: called.index(text)]  # no option can follow
    assert not list(runner.folder.rglob("pwned"))
    assert done.outputs == {"install.directory": str(done.directory), "compare.exit-code": "0"}
    assert done.output == ""


@pytest.mark.parametrize("text", HOSTILE)
def test_a_format_is_a_format(runner: Runner, text: str) -> None:
    done = runner.run({"formats": f"json {text}"}, program=RECORDER)
    assert done.codes == {"snapshot": 0, "compare": 2}
    assert done.output == "::error title=driftcheck::The input formats names a format that there is not.\n"
    assert not list(runner.folder.rglob("pwned"))


def test_nothing_that_is_typed_reaches_the_log_as_a_command(runner: Runner, project: tuple[Path, Path]) -> None:
    forged = "x\n::error::forged\n##[error]forged"
    for name in ("label", "reference", "baseline", "python", "policy"):
        shutil.rmtree(runner.folder / "temp" / "driftcheck.installed", ignore_errors=True)
        done = runner.run({"python": str(project[0]), name: forged})
        assert not re.search(r"^\s*::error::forged", done.output, re.MULTILINE), done.output


# The first step


def test_there_has_to_be_an_interpreter_that_runs_driftcheck(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "mktemp", "mkdir"):
        (tools / name).symlink_to(str(shutil.which(name)))
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    done = Runner(tmp_path / "run", str(tools)).run({}, program=None)
    assert done.codes == {"install": 2}
    assert done.output.startswith("::error title=driftcheck::driftcheck runs on Python 3.11 or newer")


@pytest.mark.parametrize("version", ["--index-url=https://evil.example", "1.0 evil", "1.0;touch pwned", "@ file:///x"])
def test_a_version_is_a_version(runner: Runner, version: str) -> None:
    done = runner.run({"version": version}, program=None)
    assert done.codes == {"install": 2}
    assert done.output == "::error title=driftcheck::The input version is not a version.\n"


@pytest.mark.network
def test_it_installs_itself_apart_from_what_it_measures(tmp_path: Path, project: tuple[Path, Path]) -> None:
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("driftcheck", "probes", "schemas"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "action.yml"):
        shutil.copy(REPOSITORY / name, checkout / name)
    runner = Runner(tmp_path / "run", os.environ["PATH"], action_path=checkout)
    # A module of the project that would break driftcheck, if it came into reach of its interpreter.
    (runner.workspace / "click.py").write_text("raise SystemExit('the wrong click')\n", encoding="utf-8")
    runner.environ |= {"PYTHONPATH": str(runner.workspace), "PIP_TARGET": str(tmp_path / "elsewhere")}
    done = runner.run({"python": str(project[1])}, program=None)
    assert done.codes == {"install": 0, "snapshot": 0, "compare": 0, "verdict": 1}, done.output
    assert not (tmp_path / "elsewhere").exists()
    snapshot = json.loads((done.directory / "out" / "snapshot.json").read_text(encoding="utf-8"))
    assert set(snapshot["sections"]["packages"]["facts"]["distributions"]) == {"model", "tokens"}
    assert "::error title=PKG001 breaks in ci" in done.output
