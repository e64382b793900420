"""The policy as its user meets it: real files, the command line, exit codes, and what is printed."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.commands import Result, driftcheck

from driftcheck import policy, validation
from driftcheck.report.formats import FORMATS
from driftcheck.rules import all_rules

HERE = f"python:{sys.executable}"
EXAMPLE = Path(__file__).parents[2] / "docs" / "example" / "laptop.json"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "policy.md"


@pytest.fixture(scope="module")
def taken() -> dict[str, Any]:
    """A real environment, the same on every machine that runs these tests."""
    value: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    value["header"]["label"] = "here"
    return value


@pytest.fixture
def project(tmp_path: Path, taken: dict[str, Any]) -> Path:
    """A repository with a baseline, a target that differs and breaks, and no policy yet."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "good.json").write_text(json.dumps(taken))
    value = json.loads(json.dumps(taken))
    value["header"]["label"] = "ci-7"
    distributions = value["sections"]["packages"]["facts"]["distributions"]
    distributions["transformers"]["requires"]["a-package-that-is-not-there>=2"] = ""  # what pip check would name
    distributions["click"]["version"] = "0.1"
    (tmp_path / "bad.json").write_text(json.dumps(value))
    return tmp_path


def policed(project: Path, text: str, *arguments: str, name: str = "driftcheck.toml") -> Result:
    """The result of a command under a policy, in the project's directory."""
    (project / name).write_text(text)
    return driftcheck(*arguments, cwd=project)


def report(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.out)
    validation.check("report", value, "the report")
    return value


DIFF = ("diff", "baselines/good.json", "bad.json")
UNMET = '[[expect]]\nrule = "PKG001"\nsubject = "transformers -> *"\nreason = "known: upstream issue 17"\n'


def test_without_a_policy_it_fails(project: Path) -> None:
    result = driftcheck(*DIFF, cwd=project)
    assert result.code == 1
    assert "PKG001" in result.out
    assert "policy" not in result.everything


def test_an_expected_finding_is_counted_and_shown_on_request(project: Path) -> None:
    # Another version of click may break what requires it; the version itself is a matter of its own here.
    extra = '[[expect]]\nrule = "PKG001"\nreason = "click is older there"\n'
    result = policed(project, UNMET + extra, *DIFF)
    assert result.code == 0, result.everything
    assert re.search(r"\d+ expected by the policy", result.out)
    assert "a-package-that-is-not-there" not in result.out
    everything = driftcheck(*DIFF, "--all", cwd=project)
    assert everything.code == 0
    assert "known: upstream issue 17 (driftcheck.toml:1)" in everything.out
    assert "a-package-that-is-not-there" in everything.out
    value = report(driftcheck(*DIFF, "--format", "json", cwd=project))
    assert value["policy"] == "driftcheck.toml"
    (target,) = value["targets"]
    suppressed = next(entry for entry in target["suppressed"] if entry["where"] == "driftcheck.toml:1")
    assert suppressed["expires"] is None
    assert suppressed["finding"]["code"] == "PKG001"
    assert suppressed["finding"]["subject"]["name"] == "transformers -> a-package-that-is-not-there"
    # The same bytes again, wherever the policy is by then.
    (project / "report.json").write_text(json.dumps(value))
    assert driftcheck("report", "report.json", "--all", cwd=project).out == everything.out


def test_every_format_counts_what_is_expected(project: Path) -> None:
    (project / "driftcheck.toml").write_text('[[expect]]\nrule = "PKG001"\nreason = "known"\n')
    wanted = [f"--output-file={format_}=report.{format_}" for format_ in FORMATS]
    assert driftcheck(*DIFF, *wanted, cwd=project).code == 0
    for format_ in FORMATS:
        written = (project / f"report.{format_}").read_text(encoding="utf-8")
        # Two formats have a place of their own for it.
        assert {"json": '"suppressed"', "sarif": '"suppressions"'}.get(format_, "expected by the policy") in written


def test_suppressing_one_finding_hides_no_other(project: Path) -> None:
    before = report(driftcheck(*DIFF, "--format", "json", cwd=project))["targets"][0]
    result = policed(project, UNMET, *DIFF, "--format", "json")
    after = report(result)["targets"][0]
    assert len(after["suppressed"]) == 1
    assert len(after["findings"]) == len(before["findings"]) - 1
    assert after["changes"] == before["changes"]


def test_an_expected_difference_is_no_drift_and_hides_no_contradiction(project: Path) -> None:
    text = '[[expect]]\npath = "packages.distributions.click"\nreason = "an older one"\n'
    result = policed(project, text, *DIFF, "--format", "json")
    assert result.code == 1
    (target,) = report(result)["targets"]
    assert [change["path"] for change in target["changes"] if "click" in change["path"]] == []
    (expected,) = target["expected"]
    assert [change["path"] for change in expected["changes"]] == [["packages", "distributions", "click", "version"]]
    assert any(finding["code"] == "PKG001" for finding in target["findings"])


def test_an_expired_and_an_unused_expectation(project: Path) -> None:
    text = UNMET + "expires = 2020-02-29\n" + '[[expect]]\npath = ["python", "gil_enabled"]\nreason = "3.13 is next"\n'
    result = policed(project, text, *DIFF)
    assert result.code == 1
    told = " ".join(result.out.split())
    assert "driftcheck.toml:1: expired on 2020-02-29, and no longer takes 1 finding: known: upstream issue 17" in told
    assert "driftcheck.toml:6: expected, and not met: 3.13 is next" in told


def test_rules_that_are_off_or_have_another_impact(project: Path) -> None:
    result = policed(project, "[rules]\noff = ['PKG001']\n", *DIFF)
    assert result.code == 0, result.everything
    assert "a-package-that-is-not-there" not in result.out
    assert re.search(r"driftcheck.toml: off: PKG001; \d+ findings? left out", result.out)
    result = policed(project, "[rules.PKG001]\nimpact = 'note'\n", *DIFF)
    assert result.code == 0, result.everything
    assert "impacts of its own: PKG001 note" in result.out
    assert driftcheck(*DIFF, "--fail-on", "note", cwd=project).code == 1


def test_the_command_line_wins_over_fail_on(project: Path) -> None:
    result = policed(project, "fail-on = 'never'\n", *DIFF)
    assert result.code == 0, result.everything
    assert driftcheck(*DIFF, "--fail-on", "breaks", cwd=project).code == 1
    assert driftcheck(*DIFF, "--no-policy", cwd=project).code == 1
    assert report(driftcheck(*DIFF, "--format", "json", cwd=project))["fail_on"] == "never"


def test_check_honours_the_policy(project: Path) -> None:
    assert driftcheck("check", "bad.json", cwd=project).code == 1
    assert policed(project, "fail-on = 'never'\n", "check", "bad.json").code == 0
    result = policed(project, '[[expect]]\nrule = "PKG001"\nreason = "known"\n', "check", "bad.json")
    assert result.code == 0, result.everything
    assert "expected by the policy" in result.out


def test_a_required_section_that_is_not_measured(project: Path) -> None:
    text = '[[expect]]\nrule = "PKG001"\nreason = "known"\n'
    # Nobody asked for imports: without a policy nothing is missing.
    assert policed(project, text, *DIFF).code == 0
    required = 'require = ["imports", "packages"]\n' + text
    for arguments in (DIFF, ("check", "bad.json")):
        result = policed(project, required, *arguments)
        assert result.code == 3, result.everything
        told = " ".join(result.out.split())
        assert re.search(r"1 section could not be (compared|measured) \(imports\)", told)
        assert "this snapshot does not have the section (the policy requires it)" in told
    assert policed(project, 'require = ["imports"]\n', *DIFF).code == 1, "what is found wins over what is missing"


def test_the_baseline_of_the_policy(project: Path) -> None:
    below = project / "service"
    below.mkdir()
    result = policed(project, "baseline = 'baselines/good.json'\n", "diff", "bad.json")
    assert result.code == 1
    assert result.err.startswith("Baseline: baselines/good.json (driftcheck.toml)\n")
    result = driftcheck("diff", "../bad.json", cwd=below)
    assert result.code == 1
    assert result.err.startswith("Baseline: ../baselines/good.json (../driftcheck.toml)\n")
    # Two references are what they always were.
    assert "Baseline" not in driftcheck("diff", "bad.json", "bad.json", cwd=project).err


def test_diff_alone_compares_this_machine_with_the_baseline_of_the_policy(project: Path) -> None:
    baseline = ("snapshot", HERE, "-o", "baselines/good.json", "--label", "here")
    assert driftcheck(*baseline, cwd=project).code == 0
    arguments = ("diff", "--python", sys.executable, "--format", "json")
    result = policed(project, "baseline = 'baselines/good.json'\n", *arguments)
    assert result.code == 0, result.everything
    value = report(result)
    assert value["baseline"]["header"]["label"] == "here"
    assert value["targets"][0]["environment"]["header"]["reference"] == "host"


def test_a_baseline_that_is_missing(project: Path) -> None:
    result = policed(project, "baseline = 'gone.json'\n", "diff", "bad.json")
    assert (result.code, result.out) == (2, "")
    assert "Baseline: gone.json (driftcheck.toml)\nError: gone.json: no such file" in result.err
    result = policed(project, "fail-on = 'note'\n", "diff", "bad.json")
    assert (result.code, result.out) == (2, "")
    assert "Missing TARGET: " in result.err
    result = policed(project, "fail-on = 'note'\n", "diff")
    assert "Missing BASELINE and TARGET: " in result.err


def test_a_policy_that_is_named(project: Path) -> None:
    strict = project / "policies" / "strict.toml"
    strict.parent.mkdir()
    strict.write_text("baseline = '../baselines/good.json'\nfail-on = 'note'\n")
    (project / "driftcheck.toml").write_text("this is not even read\n")
    result = driftcheck("diff", "bad.json", "--policy", "policies/strict.toml", cwd=project)
    assert result.code == 1
    assert result.err.startswith("Baseline: policies/../baselines/good.json (policies/strict.toml)\n")
    assert driftcheck(*DIFF, cwd=project).code == 2
    assert driftcheck(*DIFF, "--no-policy", cwd=project).code == 1
    result = driftcheck(*DIFF, "--no-policy", "--policy", "policies/strict.toml", cwd=project)
    assert (result.code, result.out) == (2, "")
    assert "--policy and --no-policy exclude each other" in result.err
    result = driftcheck(*DIFF, "--policy", "nowhere.toml", cwd=project)
    assert (result.code, result.out) == (2, "")
    assert result.err == "Error: nowhere.toml: cannot be read: No such file or directory. --no-policy goes without it\n"


def test_what_the_policy_wants_recorded_is_recorded(project: Path) -> None:
    (project / "models").mkdir()
    (project / "models" / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (project / "driftcheck.toml").write_text('variables = ["MY_OWN_SETTING"]\nartifacts = ["models/m.safetensors"]\n')
    for arguments in (("snapshot", HERE), ("snapshot", HERE, "--no-policy")):
        result = driftcheck(*arguments, cwd=project, environ={"MY_OWN_SETTING": "fast"})
        assert result.code == 0, result.everything
        sections = json.loads(result.out)["sections"]
        variables = sections["variables"]["facts"]["variables"]
        recorded = (
            variables.get("MY_OWN_SETTING", {}).get("value"),
            "m.safetensors" in json.dumps(sections.get("artifacts")),
        )
        assert recorded == (("fast", True) if "--no-policy" not in arguments else (None, False))


def test_a_project_file_is_a_policy_too(project: Path) -> None:
    text = "[project]\nname = 'x'\n\n[tool.driftcheck]\nfail-on = 'never'\n\n[[tool.driftcheck.expect]]\n"
    text += "path = 'packages.distributions.click'\nreason = 'r'\n"
    result = policed(project, text, *DIFF, "--format", "json", name="pyproject.toml")
    assert result.code == 0, result.everything
    value = report(result)
    assert value["policy"] == "pyproject.toml"
    assert value["targets"][0]["expected"][0]["where"] == "pyproject.toml:7"


@pytest.mark.parametrize(
    "text",
    [
        b"fail-on = 'fatal'\n",
        b"fail_on = 'note'\n",
        b"\xff\xfe",
        b"baseline = " + b"[" * 100_000,
        b"#" * (10 << 20),
        b"a." * 300_000 + b"a = 1",
        b"[[expect]]\nrule = 'PKG001\x1b[2J'\nreason = 'r'\n",
        "[[expect]]\nrule = '\u202egnp.exe'\nreason = 'r'\n".encode(),
        b'"\\u202Egnp\\u0007" = 1\n',
        b'\xef\xbb\xbf"a\\nb" = 1\n',
    ],
)
def test_a_hostile_policy_ends_with_2_and_one_harmless_line(project: Path, text: bytes) -> None:
    (project / "driftcheck.toml").write_bytes(text)
    result = driftcheck(*DIFF, cwd=project)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: driftcheck.toml:")
    assert result.err.count("\n") == 1
    assert result.err[:-1].isprintable()
    assert len(result.err) < 1000


@pytest.mark.parametrize("command", [("diff",), ("check", "bad.json"), ("snapshot", HERE)])
def test_a_wrong_policy_is_refused_before_anything_is_measured(project: Path, command: tuple[str, ...]) -> None:
    result = policed(project, "fail_on = 'note'\n", *command)
    assert (result.code, result.out) == (2, "")
    assert result.err == "Error: driftcheck.toml:1: there is no key 'fail_on' here. Did you mean 'fail-on'?\n"


@pytest.mark.parametrize("kind", ["directory", "loop", "pipe"])
def test_a_policy_that_is_no_file(project: Path, kind: str) -> None:
    path = project / "driftcheck.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    result = driftcheck(*DIFF, cwd=project)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: driftcheck.toml: ")
    assert "--no-policy goes without it" in result.err
    assert driftcheck(*DIFF, "--no-policy", cwd=project).code == 1


def test_a_hostile_reason_does_nothing(project: Path) -> None:
    reason = "\\u202Eevil\\u001B[2J\\n::error::forged <script>alert(1)</script> @octocat token=ghp_" + "a" * 36
    text = f'[[expect]]\nrule = "PKG001"\nreason = "{reason}"\n[[expect]]\npath = "python.flags"\nreason = "{reason}"\n'
    for format_ in ("text", "markdown", "json"):
        result = policed(project, text, *DIFF, "--all", "--format", format_)
        assert result.code == 0, result.everything
        assert "\u202e" not in result.out
        assert "\x1b" not in result.out
        assert "\n::error" not in result.out
        assert "ghp_aaaa" not in result.out
        if format_ == "markdown":
            assert not re.search(r"(?<!`)<script>", result.out)
            assert not re.search(r"(?<!`)@octocat", result.out)


def test_as_many_expectations_as_there_may_be_are_no_burden(project: Path) -> None:
    entries = [f'[[expect]]\npath = "packages.distributions.p{number}*a*b*c"\nreason = "r"\n' for number in range(500)]
    result = policed(project, "".join(entries), *DIFF)
    assert result.code == 1
    assert result.out.count("expected, and not met") < 20
    assert "... and 492 more (--all)" in result.out


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "driftcheck.toml").write_text(example, encoding="utf-8")
    read = policy.load(tmp_path / "driftcheck.toml")
    assert len(read.expect) == 3
    assert tomllib.loads(example).keys() == validation.schema("policy")["properties"].keys()
    # Every rule and every key that the page names in passing exists.
    text = DOCUMENTATION.read_text(encoding="utf-8")
    assert set(re.findall(r"\b[A-Z]{2,4}\d{3}\b", text)) <= {rule.code for rule in all_rules()}


def test_the_schema_is_printed() -> None:
    assert json.loads(driftcheck("schema", "policy").out) == validation.schema("policy")
    assert "policy" in driftcheck("schema").out.splitlines()
