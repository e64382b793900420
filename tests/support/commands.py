"""Runs driftcheck as its users do: a process, its output, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def everything(self) -> str:
        return self.out + self.err


def driftcheck(
    *arguments: str | Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> Result:
    """Run a command line in a process of its own; ``environ`` is added to the environment.

    ``-P`` keeps the working directory off its search path, as the installed script does.
    """
    process = subprocess.run(
        [sys.executable, "-P", "-c", "from driftcheck.cli import main; main()", *map(str, arguments)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env={**os.environ, **(environ or {})},
        cwd=cwd,
        timeout=300,
        check=False,
    )
    # Whether a measurement takes longer than a second, and so says what it does, is the machine's affair.
    told = [line for line in process.stderr.decode().splitlines(keepends=True) if not line.startswith("Measuring ")]
    return Result(process.returncode, process.stdout.decode(), "".join(told))
