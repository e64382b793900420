"""PKG012 against real pairs: what pip check is content with, and what import says (pytest --network)."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest
from support.wheels import clean_environment

from driftcheck.environments import Options, snapshot_of
from driftcheck.explain import explain_one

pytestmark = pytest.mark.network

# What is installed, whether with all that it requires, and the import that fails.
PAIRS = {
    "diffusers": (("diffusers==0.28.0", "huggingface-hub==0.26.5"), True, "import diffusers"),
    "lightning-utilities": (
        ("lightning-utilities==0.11.2", "packaging", "typing-extensions", "setuptools>=82"),
        False,
        "import lightning_utilities.core.imports",
    ),
    "tensorboard": (
        ("tensorboard==2.8.0", "protobuf>=5"),
        False,
        "from tensorboard.compat.proto import summary_pb2",
    ),
}
MENDED = {
    "diffusers": "huggingface-hub<0.26",
    "lightning-utilities": "setuptools<82",
    "tensorboard": "protobuf<3.21",
}


def call(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=environment)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_the_pair_fails_as_predicted_and_the_fix_mends_it(name: str, tmp_path: Path) -> None:
    requirements, whole, code = PAIRS[name]
    venv.create(tmp_path, with_pip=True, symlinks=True)
    interpreter = str(tmp_path / "bin" / "python")
    install = [interpreter, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    done = call(*install, *([] if whole else ["--no-deps"]), *requirements)
    assert done.returncode == 0, done.stderr[-2000:]
    if whole:
        assert call(interpreter, "-m", "pip", "check").returncode == 0
    ended = call(interpreter, "-c", code)
    assert ended.returncode == 1
    (found,) = (
        finding
        for finding in explain_one(snapshot_of(f"python:{interpreter}", Options())).findings
        if finding.code == "PKG012"
    )
    assert found.subject.name == name
    assert found.predicted_error is not None
    assert found.predicted_error in ended.stderr
    assert call(*install, "--no-deps", MENDED[name]).returncode == 0
    assert MENDED[name] in found.fix[0].text
    again = explain_one(snapshot_of(f"python:{interpreter}", Options())).findings
    assert [finding for finding in again if finding.code == "PKG012"] == []
    assert found.predicted_error not in call(interpreter, "-c", code).stderr


def test_this_interpreter_has_no_such_pair() -> None:
    findings = explain_one(snapshot_of(f"python:{sys.executable}", Options())).findings
    assert [finding for finding in findings if finding.code == "PKG012"] == []
