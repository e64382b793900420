"""Real wheels, made from a dict of files, and installed by pip or unpacked as an installer would.

``wheel(...)`` writes ``NAME-VERSION-TAG.whl`` with METADATA, WHEEL and RECORD; ``unpack`` lays it into a
directory (no pip, a few milliseconds); ``pip_install`` uses the pip of an interpreter, without any index;
``probe`` runs a probe with an interpreter and returns its facts; ``run`` runs code with one.
"""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROBES = Path(__file__).resolve().parents[2] / "probes"


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    extras: Sequence[str] = (),
    tags: Sequence[str] = ("py3-none-any",),
    recorded_name: str | None = None,
) -> Path:
    """Write a wheel into ``folder`` and return its path.

    ``files``  path inside the wheel to content; without it, one module of the distribution's name that holds
               ``__version__``
    ``tags``   the Tag lines of WHEEL; the file itself is named ``py3-none-any``, so that pip installs it
    anywhere
    """
    module = name.replace("-", "_").replace(".", "_")
    content = {f"{module}.py": f"__version__ = {version!r}\n"} if files is None else dict(files)
    info = f"{recorded_name or module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Python: {requires_python}"] if requires_python else []
    metadata += [f"Requires-Dist: {line}" for line in requires]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    content[f"{info}/METADATA"] = "\n".join(metadata) + "\n\n"
    wheel_lines = ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true"]
    content[f"{info}/WHEEL"] = "\n".join(wheel_lines + [f"Tag: {tag}" for tag in tags]) + "\n"
    data = {path: text.encode() if isinstance(text, str) else text for path, text in content.items()}
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for path, body in data.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        writer.writerow([path, f"sha256={digest}", len(body)])
    writer.writerow([f"{info}/RECORD", "", ""])
    data[f"{info}/RECORD"] = rows.getvalue().encode()
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{recorded_name or module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for inside, body in data.items():
            archive.writestr(inside, body)
    return made


def unpack(path: Path, location: Path) -> Path:
    """Lay a wheel's files into a directory as an installer does that removes nothing. Returns the
    directory.
    """
    location.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(location)
    info = next(location.glob(f"{path.name.split('-py3-')[0]}.dist-info"))
    (info / "INSTALLER").write_text("tests\n")
    return location


def install(location: Path, name: str, version: str = "1.0", **options: Any) -> Path:
    """Make a wheel and unpack it into ``location``: one call for the usual case."""
    return unpack(wheel(location.parent / "wheels", name, version, **options), location)


def pip_install(python: Path | str, *wheels: Path, options: Sequence[str] = ()) -> None:
    """Install wheels with the pip of an interpreter: no index, no dependencies."""
    pip(python, "install", "--no-index", "--no-deps", "--quiet", *options, *map(str, wheels))


def pip(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip; its errors end the test, but for ``pip check``, which says by its exit code what it found."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(), timeout=120)
    assert done.returncode == 0 or arguments[0] == "check", done.stderr
    return done


def virtual_environment(folder: Path, *, with_pip: bool = False, system_site_packages: bool = False) -> Path:
    """Make a virtual environment and return its interpreter. With pip it takes some seconds."""
    venv.EnvBuilder(with_pip=with_pip, system_site_packages=system_site_packages, symlinks=os.name != "nt").create(
        folder
    )
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(python: Path | str) -> Path:
    """The directory into which an interpreter's pip installs."""
    return Path(run(python, "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())


def run(
    python: Path | str, code: str, *locations: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code with an interpreter, the locations on PYTHONPATH. Ask for ``stdout``, ``stderr``,
    ``returncode``.
    """
    environment = clean_environment() | dict(variables or {})
    if locations:
        environment["PYTHONPATH"] = os.pathsep.join(map(str, locations))
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=False, env=environment, timeout=120
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error that a traceback ends with."""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else ""


def probe(python: Path | str, name: str, *locations: Path, only: bool = True) -> dict[str, Any]:
    """The facts of one section as a probe prints them, run by an interpreter with the locations on
    PYTHONPATH.

    With ``only``, nothing but the locations and the standard library is on the search path (``python -S``),
    where there are locations at all.
    """
    environment = clean_environment()
    options = []
    if locations:
        environment["PYTHONPATH"] = os.pathsep.join(map(str, locations))
        options = ["-S"] if only else []
    done = subprocess.run(
        [str(python), *options, str(PROBES / f"{name}.py")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    section = json.loads(done.stdout)[name]
    facts: dict[str, Any] = section["facts"]
    return facts


def clean_environment() -> dict[str, str]:
    """The variables of this process, without what changes where Python looks."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV")) or name == "PYTHONHOME"
    } | {"PYTHONDONTWRITEBYTECODE": "1"}


@functools.cache
def this_python() -> dict[str, Any]:
    """The facts of section ``python`` for the interpreter that runs the tests."""
    return probe(sys.executable, "python")
