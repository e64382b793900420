"""CI takes a skip without a written reason for a failure: the rule of conftest.py, asked of pytest itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SKIPS = {
    "a tool is missing": ("pytest.skip('tool is not installed')", 1),
    "a reason that is written down": ("pytest.skip('no wheels of NumPy 1\\'s time for this Python')", 0),
    "no skip": ("pass", 0),
}


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize("name", SKIPS)
def test_a_skip_without_a_written_reason_fails_ci(name: str, processes: str, tmp_path: Path) -> None:
    line, code = SKIPS[name]
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    {line}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "-n", processes]
    command += ["--rootdir", str(tmp_path), "--no-unexplained-skips", str(tmp_path)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environ | {"PYTHONPATH": str(HERE)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("a skip that is not in allowed_skips.txt" in done.stdout) is (code == 1)
