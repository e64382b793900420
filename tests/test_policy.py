"""Policies: where they are found, what they may say, and what they are told where they are wrong."""

from __future__ import annotations

import os
import tomllib
from datetime import date
from pathlib import Path

import jsonschema
import pytest

from driftcheck import policy, validation
from driftcheck.errors import InputError
from driftcheck.findings import Impact
from driftcheck.policy import Expectation, Policy


def written(folder: Path, text: str | bytes, name: str = "driftcheck.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def loaded(folder: Path, text: str) -> Policy:
    return policy.load(written(folder, text))


def refused(folder: Path, text: str | bytes, name: str = "driftcheck.toml") -> str:
    """What a policy is told, without the folder that it stands in."""
    with pytest.raises(InputError) as caught:
        policy.load(written(folder, text, name))
    return str(caught.value).replace(f"{folder}/", "")


# Finding.


def test_the_nearest_policy_holds_as_far_up_as_the_repository(tmp_path: Path) -> None:
    inner = tmp_path / "repository" / "service" / "deep"
    inner.mkdir(parents=True)
    written(tmp_path, "")  # of somebody else
    assert policy.find(inner) is None
    (tmp_path / "repository" / ".git").write_text("gitdir: elsewhere\n")  # a worktree
    assert policy.find(inner) is None
    top = written(tmp_path / "repository", "[tool.driftcheck]\n", "pyproject.toml")
    assert same(policy.find(inner), top)
    middle = written(tmp_path / "repository" / "service", "")
    assert same(policy.find(inner), middle)


def same(found: Path | None, path: Path) -> bool:
    return found is not None and found.samefile(path)


def test_outside_of_a_repository_only_the_directory_itself_is_asked(tmp_path: Path) -> None:
    own = written(tmp_path, "")
    below = tmp_path / "below"
    below.mkdir()
    assert policy.find(below) is None
    assert policy.find(tmp_path) == own


def test_a_policy_is_named_as_seen_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    written(tmp_path, "baseline = 'baselines/laptop.json'\nartifacts = ['models/m.onnx', '/srv/m.onnx']\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    found = policy.find(Path())
    assert found == Path("../driftcheck.toml")
    read = policy.load(found)
    assert read.file == "../driftcheck.toml"
    assert read.baseline == "../baselines/laptop.json"
    assert read.artifacts == ("../models/m.onnx", "/srv/m.onnx")
    monkeypatch.chdir(tmp_path)
    assert policy.find(Path()) == Path("driftcheck.toml")


def test_driftcheck_toml_wins_over_the_project_file_beside_it(tmp_path: Path) -> None:
    project = written(tmp_path, "[tool.driftcheck]\nfail-on = 'note'\n", "pyproject.toml")
    assert policy.find(tmp_path) == project
    assert policy.load(project).fail_on == "note"
    own = written(tmp_path, "fail-on = 'slows'\n")
    assert policy.find(tmp_path) == own
    assert policy.load(own).fail_on == "slows"


@pytest.mark.parametrize(
    "text",
    [
        "[project]\nname = 'x'\n",
        "[project]\ndependencies = ['driftcheck']\n",
        "[tool.ruff]\nline-length = 100  # as driftcheck\n",
        "tool = 'driftcheck'\n",
        "this is not TOML, and does not name us\n",
    ],
)
def test_a_project_file_without_our_table_is_no_policy(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text, "pyproject.toml")
    assert policy.find(tmp_path) is None
    with pytest.raises(InputError, match=r"has no table \[tool.driftcheck\]"):
        policy.load(path)


def test_a_project_file_that_names_us_and_is_broken_is_not_passed_over(tmp_path: Path) -> None:
    written(tmp_path, "[tool.driftcheck]\nfail-on = \n", "pyproject.toml")
    with pytest.raises(InputError, match=r"pyproject.toml: not TOML: Invalid value \(at line 2, column 11\)"):
        policy.find(tmp_path)


# Reading.

EVERYTHING = """
baseline = "baselines/laptop.json"
fail-on = "changes-results"
require = ["gpu", "libraries"]
variables = ["MODEL_NAME"]
artifacts = ["models/encoder.onnx"]

[rules]
off = ["PKG005"]

[rules.PKG001]
impact = "note"

[[expect]]
path = "packages.distributions.numpy.version"
reason = "the service was tested with both"
expires = 2026-12-31

[[expect]]
path = ["packages", "distributions", "zope.*"]
target = "ci*"
reason = "CI builds its own"

[[expect]]
rule = "LIB001"
subject = "libGL.so.1"
reason = "no window is ever opened"
"""


def test_everything_that_a_policy_can_say(tmp_path: Path) -> None:
    read = loaded(tmp_path, EVERYTHING)
    file = str(tmp_path / "driftcheck.toml")
    assert read == Policy(
        file=file,
        baseline=str(tmp_path / "baselines/laptop.json"),
        fail_on="changes-results",
        off=frozenset({"PKG005"}),
        impacts={"PKG001": Impact.NOTE},
        expect=(
            Expectation(
                f"{file}:14",
                "the service was tested with both",
                path=("packages", "distributions", "numpy", "version"),
                expires=date(2026, 12, 31),
            ),
            Expectation(f"{file}:19", "CI builds its own", path=("packages", "distributions", "zope.*"), target="ci*"),
            Expectation(f"{file}:24", "no window is ever opened", rule="LIB001", subject="libGL.so.1"),
        ),
        require=("gpu", "libraries"),
        variables=("MODEL_NAME",),
        artifacts=(str(tmp_path / "models/encoder.onnx"),),
    )


def test_the_same_in_a_project_file(tmp_path: Path) -> None:
    lines = [
        line.replace("[rules", "[tool.driftcheck.rules").replace("[[expect", "[[tool.driftcheck.expect")
        for line in EVERYTHING.splitlines()
    ]
    text = "\n".join(["[tool.driftcheck]", *lines])
    project = policy.load(written(tmp_path, text, "pyproject.toml"))
    own = loaded(tmp_path, EVERYTHING)
    assert [entry.where for entry in project.expect] == [f"{project.file}:{line}" for line in (15, 20, 25)]
    assert (project.impacts, project.off, project.require) == (own.impacts, own.off, own.require)
    assert [entry.path for entry in project.expect] == [entry.path for entry in own.expect]


def test_an_empty_policy_says_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Policy(str(tmp_path / "driftcheck.toml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host", "host"),
        ("image:svc:1.4", "image:svc:1.4"),
        ("container:web", "container:web"),
        ("via:kubectl exec -i pod --", "via:kubectl exec -i pod --"),
        ("ssh:node7", "ssh:node7"),
        ("archive:images/svc.tar", "archive:{}/images/svc.tar"),
        ("python:.venv", "python:{}/.venv"),
        ("rootfs:/mnt/root", "rootfs:/mnt/root"),
        ("good.json", "{}/good.json"),
        ("/srv/good.json", "/srv/good.json"),
        ("odd:name.json", "{}/odd:name.json"),
    ],
)
def test_a_baseline_is_any_reference_and_its_paths_are_relative_to_the_policy(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert loaded(tmp_path, f'baseline = "{text}"').baseline == expected.format(tmp_path)


def test_the_place_of_an_expectation_that_is_written_in_another_way(tmp_path: Path) -> None:
    read = loaded(tmp_path, "expect = [{rule = 'PKG001', reason = 'r'}]\n")
    assert read.expect[0].where.endswith("driftcheck.toml: expect[0]")
    text = "[[expect]]\nrule = 'PKG001'\nreason = '''\n[[expect]]\n'''\n"
    assert loaded(tmp_path, text).expect[0].where.endswith("driftcheck.toml: expect[0]")


# Refusing.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fail_on = 'note'", "driftcheck.toml:1: there is no key 'fail_on' here. Did you mean 'fail-on'?"),
        ("\nbaselin = 'x'", "driftcheck.toml:2: there is no key 'baselin' here. Did you mean 'baseline'?"),
        (
            "colour = 'x'",
            "driftcheck.toml:1: there is no key 'colour' here. There are: baseline, fail-on, rules, expect,",
        ),
        (
            "[[expect]]\nrule = 'PKG001'\nreasons = 'x'",
            "driftcheck.toml:3: there is no key 'reasons' here. Did you mean 'reason'?",
        ),
        (
            "[rules.PKG001]\nimpact = 'note'\nsubject = 'x'",
            "driftcheck.toml:3: there is no key 'subject' here. There are: impact",
        ),
        ("[rules.pkg-001]\nimpact = 'note'", "driftcheck.toml:1: there is no key 'pkg-001' here"),
        (
            "fail-on = 'fatal'",
            "driftcheck.toml:1: not a valid policy: at fail-on: 'fatal' is not one of ['breaks', 'changes-results', ",
        ),
        ("baseline = 7", "driftcheck.toml:1: not a valid policy: at baseline: 7 is not of type 'string'"),
        (
            "baseline = 2026-01-01T00:00:00Z\nexpect = 1",
            "driftcheck.toml:2: not a valid policy: at expect: 1 is not of type 'array'",
        ),
        ("rules = []", "driftcheck.toml:1: not a valid policy: at rules: [] is not of type 'object'"),
        ("variables = ['A B']", "driftcheck.toml:1: not a valid policy: at variables.0: 'A B' does not match"),
        (
            "[[expect]]\nrule = 'PKG001'",
            "driftcheck.toml:1: not a valid policy: at expect.0: 'reason' is a required property",
        ),
        (
            "[[expect]]\nrule = 'PKG001'\nreason = ' '",
            "driftcheck.toml:1: not a valid policy: at expect.0.reason: ' ' does not match",
        ),
        (
            "[[expect]]\nsubject = 'numpy'\npath = 'python'\nreason = 'r'",
            "driftcheck.toml:1: not a valid policy: at expect.0: 'rule' is a dependency of 'subject'",
        ),
        ("[[expect]]\nreason = 'r'", "driftcheck.toml:1: an expectation needs a path or a rule"),
        (
            "\n[[expect]]\nrule = 'PKG01'\nreason = 'r'",
            "driftcheck.toml:2: there is no rule 'PKG01'. Did you mean 'PKG0",
        ),
        (
            "[[expect]]\nrule = 'unmet-requirement'\nreason = 'r'",
            "driftcheck.toml:1: rules go by their codes here: unmet-requirement is PKG001",
        ),
        ("[rules]\noff = ['XYZ999']", "driftcheck.toml:2: there is no rule 'XYZ999'. `driftcheck rule` lists them"),
        ("[rules.PKG999]\nimpact = 'note'", "driftcheck.toml:1: there is no rule 'PKG999'"),
        (
            "[rules]\noff = ['PKG001']\n[rules.PKG001]\nimpact = 'note'",
            "driftcheck.toml:3: PKG001 is off, and yet it has an impact",
        ),
        ("require = ['gpus']", "driftcheck.toml:1: there is no section 'gpus'. Did you mean 'gpu'?"),
        ("require = ['']", "driftcheck.toml:1: there is no section ''. There are: "),
        (
            "[[expect]]\npath = 'package.distributions'\nreason = 'r'",
            "driftcheck.toml:1: there is no section 'package'. Did you mean 'packages'?",
        ),
        (
            "[[expect]]\npath = 'packages..numpy'\nreason = 'r'",
            "driftcheck.toml:1: a path with an empty part. Keys that hold dots: path = [",
        ),
        (
            "[[expect]]\npath = 'packages.**.version'\nreason = 'r'",
            "driftcheck.toml:1: ** has no meaning in a path. A path covers all below it; * stands for one key",
        ),
        (
            "[[expect]]\npath = 'python'\nreason = 'r'\nexpires = '2026-02-30'",
            "driftcheck.toml:1: expires = 2026-02-30: there is no such day",
        ),
        (
            "[[expect]]\npath = 'python'\nreason = 'r'\nexpires = 2026-02-30",
            "driftcheck.toml: not TOML: Invalid date or datetime",
        ),
        (
            "[[expect]]\npath = 'python'\nreason = 'r'\nexpires = 2026-02-20 10:00:00",
            "driftcheck.toml:1: not a valid policy: at expect.0.expires: '2026-02-20 10:00:00' does not match",
        ),
        (
            "[[expect]]\npath = 'python'\nreason = 'r'\nexpires = 'next year'",
            "driftcheck.toml:1: not a valid policy: at expect.0.expires: 'next year' does not match",
        ),
        ("baseline = '-'", "driftcheck.toml:1: standard input is no baseline for a project"),
        ("baseline = 'a'\nbaseline = 'b'", "driftcheck.toml: not TOML: Cannot overwrite a value (at "),
        ("fail-on = nan", "driftcheck.toml:1: not a valid policy: at fail-on: nan is not one of"),
        ("require = [[[['gpu']]]]", "driftcheck.toml:1: not a valid policy: at require.0: [[['gpu']]] is not of type"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert refused(tmp_path, text).startswith(told)


def test_a_wrong_key_of_a_project_file_has_its_line(tmp_path: Path) -> None:
    text = "[project]\nname = 'x'\n\n[tool.driftcheck]\nfailon = 'note'\n"
    assert refused(tmp_path, text, "pyproject.toml").startswith("pyproject.toml:5: there is no key 'failon' here")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"baseline = 'caf\xe9'", "driftcheck.toml: not UTF-8 text (byte 15). --no-policy goes without it"),
        ("baseline = 'x'".encode("utf-16"), "driftcheck.toml: not UTF-8 text (byte 0). --no-policy goes without it"),
        (b"#" * (11 << 20), "driftcheck.toml: larger than 1 MB, so it is no policy. --no-policy goes without it"),
        (b"baseline = " + b"[" * 100_000, "driftcheck.toml: nested too deeply, so it is no policy."),
        (b"require = " + b"[" * 100 + b"]" * 100, "driftcheck.toml: nested too deeply, so it is no policy."),
        (b"\n" + b"a." * 200_000 + b"a = 1", "driftcheck.toml:2: a key of more than 100 parts."),
        (b"[" + b'"a" . ' * 100_000 + b"a]", "driftcheck.toml:1: a key of more than 100 parts."),
        (b"baseline = " + b"9" * 5000, "driftcheck.toml: not TOML: "),
        (b"\x00", "driftcheck.toml: not TOML: "),
        (b"\xef\xbb\xbffail_on = 1", "driftcheck.toml:1: there is no key 'fail_on' here."),
        (b"'" + b"k" * 100_000 + b"' = 1", "driftcheck.toml"),
    ],
)
def test_what_was_made_to_hurt_is_refused_in_a_line(tmp_path: Path, data: bytes, told: str) -> None:
    said = refused(tmp_path, data)
    assert said.startswith(told)
    assert len(said) < 1000
    assert "\n" not in said


def test_what_is_no_file_is_said_so(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        assert policy.find(path.parent) == path
        with pytest.raises(InputError) as caught:
            policy.load(path)
        return str(caught.value)

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "driftcheck.toml").mkdir()
    assert told(tmp_path / "a" / "driftcheck.toml").endswith(
        "a directory, so it is no policy. --no-policy goes without it"
    )
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "driftcheck.toml")
    assert "no regular file, so it is no policy" in told(tmp_path / "b" / "driftcheck.toml")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "driftcheck.toml").symlink_to(tmp_path / "c" / "driftcheck.toml")
    assert "cannot be read: Too many levels of symbolic links" in told(tmp_path / "c" / "driftcheck.toml")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "driftcheck.toml").symlink_to(tmp_path / "d" / "gone.toml")
    assert "cannot be read: No such file or directory" in told(tmp_path / "d" / "driftcheck.toml")


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        policy.load(tmp_path / "no.toml")
    with pytest.raises(InputError, match="is no name of a file"):
        policy.load(Path("a\0b"))


# The schema.


def test_the_schema_describes_what_the_reader_reads() -> None:
    """Every key that the schema allows stands in the policy above, and has come out of the reader."""
    schema = validation.schema("policy")
    jsonschema.Draft202012Validator.check_schema(schema)
    value = tomllib.loads(EVERYTHING)
    assert value.keys() == schema["properties"].keys()
    assert {key for entry in value["expect"] for key in entry} == schema["properties"]["expect"]["items"][
        "properties"
    ].keys()
