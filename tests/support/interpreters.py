"""The Python interpreters of this machine, on which probes are tried."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

_ASK = "import sys; print('%d %d %s' % (sys.version_info[0], sys.version_info[1], sys.executable))"


@functools.cache
def found() -> dict[tuple[int, int], str]:
    """``{(3, 11): path}``: one interpreter of each minor version, from PATH and from pyenv where it is used."""
    candidates = [sys.executable]
    candidates += [path for minor in range(30) if (path := shutil.which(f"python3.{minor}"))]
    candidates += [path for name in ("python2.7", "python2", "python3") if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("*/bin/python"))]
    interpreters: dict[tuple[int, int], str] = {}
    for path in candidates:
        # pyenv's shims end with an error for versions that are installed but not chosen.
        answer = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, timeout=60, check=False)
        if answer.returncode == 0:
            major, minor, executable = answer.stdout.strip().split(" ", 2)
            interpreters.setdefault((int(major), int(minor)), executable)
    return interpreters


def supported() -> dict[tuple[int, int], str]:
    """Those that driftcheck can measure."""
    return {version: path for version, path in found().items() if version >= (3, 6)}
