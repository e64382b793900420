"""Planted secrets appear in no output of any command or probe, in any format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import driftcheck

PROBES = Path(__file__).parents[1] / "probes"
SECTIONS = ("python", "packages", "system", "programs", "variables", "limits", "machine")
FORMATS = ("text", "json", "markdown")

# Each marked part is what must never be seen.
SECRETS = {
    "HF_TOKEN": "hf_PLANTEDaaaaBBBBccccDDDD1234",
    "DATABASE_URL": "postgresql://svc:PLANTED-database-password@db.internal:5432/models",
    "PIP_INDEX_URL": "https://robot:PLANTED-index-password@packages.internal/simple",
    "ALERTS": "https://hooks.slack.com/services/T00000000/B00000000/PLANTEDwebhookPLANTED",
    "MY_PWD": "PLANTED-my-pwd",
    "GH_PAT": "PLANTED-gh-pat",
    # Names whose values are recorded, which hold a secret all the same.
    "XLA_FLAGS": "--dump_to=https://bob:PLANTED-in-flags@store.internal/x --token=PLANTED-flag",
    "HF_HOME": "/mnt/cache?access_token=PLANTED-query",
    "LD_LIBRARY_PATH": "/opt/ghp_PLANTEDaaaaBBBBccccDDDDeeee/lib",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of PYTHONPATH with a distribution that was installed from a URL with a token."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "leaky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n"
        "Requires-Dist: other @ git+https://oauth2:PLANTED-requirement@git.internal/other.git\n"
    )
    (info / "RECORD").write_text("leaky/__init__.py,,\n")
    (info / "direct_url.json").write_text(
        json.dumps(
            {
                "url": "https://x-access-token:PLANTED-direct-url@github.com/acme/leaky.git",
                "vcs_info": {"vcs": "git", "commit_id": "0" * 40},
            }
        )
    )
    return folder


@pytest.fixture
def environ(site: Path) -> dict[str, str]:
    return {**SECRETS, "PYTHONPATH": str(site)}


def test_no_command_shows_a_secret(tmp_path: Path, environ: dict[str, str]) -> None:
    here = f"python:{sys.executable}"
    outputs = {}
    taken = driftcheck("snapshot", here, "--variable", "MY_PWD", "--variable", "DATABASE_URL", environ=environ)
    outputs["snapshot"] = taken
    facts = json.loads(taken.out)["sections"]
    # The secrets were there to be seen: their names and places are recorded.
    assert SECRETS.keys() <= facts["variables"]["facts"]["variables"].keys()
    assert facts["packages"]["facts"]["distributions"]["leaky"]["direct_url"]["commit"] == "0" * 40
    before = tmp_path / "before.json"
    before.write_text(driftcheck("snapshot", here).out)
    after = tmp_path / "after.json"
    after.write_text(taken.out)
    saved = tmp_path / "report.json"
    outputs["diff saved"] = driftcheck("diff", before, after, "--format", "json", "-o", saved)
    for format_ in FORMATS:
        outputs[f"diff {format_}"] = driftcheck("diff", before, here, "--all", "--format", format_, environ=environ)
        outputs[f"check {format_}"] = driftcheck("check", here, "--all", "--format", format_, environ=environ)
        outputs[f"report {format_}"] = driftcheck("report", saved, "--all", "--format", format_)
        outputs[f"ticket {format_}"] = driftcheck("report", after, "--all", "--format", format_)
    for name, result in outputs.items():
        assert result.code in {0, 1, 3}, (name, result.err)
        assert "PLANTED" not in result.everything, name
    assert "PLANTED" not in saved.read_text()


@pytest.mark.parametrize("section", SECTIONS)
def test_no_probe_shows_a_secret_when_it_runs_by_itself(environ: dict[str, str], section: str) -> None:
    process = subprocess.run(
        [sys.executable, PROBES / f"{section}.py"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environ},
        timeout=60,
        check=True,
    )
    assert section in json.loads(process.stdout)
    assert "PLANTED" not in process.stdout + process.stderr


def test_the_probe_file_shows_no_secret(tmp_path: Path, environ: dict[str, str]) -> None:
    probe = tmp_path / "probe.py"
    assert driftcheck("probe", "-o", probe).code == 0
    process = subprocess.run(
        [sys.executable, probe],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environ},
        check=True,
    )
    assert "leaky" in process.stdout
    assert "PLANTED" not in process.stdout + process.stderr


def test_a_secret_in_a_file_given_to_us_is_not_printed(tmp_path: Path) -> None:
    """A snapshot that another tool made, or that somebody edited."""
    given = json.loads(driftcheck("snapshot", f"python:{sys.executable}", "--label", "x").out)
    given["header"]["label"] = "https://user:PLANTED@host/"
    given["sections"]["variables"]["facts"]["variables"]["PATH"] = {"value": "/a:ghp_PLANTEDaaaaBBBBccccDDDDeeee"}
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    for format_ in FORMATS:
        result = driftcheck("report", path, "--all", "--format", format_)
        assert result.code == 0
        assert "PLANTED" not in result.everything


def test_a_key_makes_a_hidden_difference_visible(tmp_path: Path) -> None:
    """With DRIFTCHECK_KEY on both sides, hidden values carry a keyed digest."""
    here = f"python:{sys.executable}"
    for name, value in (("one", "PLANTED-1"), ("two", "PLANTED-2")):
        result = driftcheck("snapshot", here, environ={"MY_PWD": value, "DRIFTCHECK_KEY": "PLANTED-key"})
        (tmp_path / f"{name}.json").write_text(result.out)
        assert "PLANTED" not in result.everything
    result = driftcheck("diff", tmp_path / "one.json", tmp_path / "two.json", "--format", "json")
    (change,) = json.loads(result.out)["targets"][0]["changes"]
    assert change["path"] == ["variables", "variables", "MY_PWD", "digest"]
