"""Extension modules and shared libraries that gcc makes for a test, without the headers of Python.

``Builder(folder)`` compiles into a directory that stands for site-packages; ``imported`` really imports a module
there, ``measured`` asks the probes about the same place. What the import prints is the truth.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftcheck.snapshot import Snapshot
from support.snapshots import snapshot
from support.wheels import PROBES, clean_environment

# A module without the headers of Python: struct PyModuleDef of the builds with a GIL, word by word.
_MODULE = """
extern void *PyModule_Create2(void *, int);
static struct {{
    long references; void *type, *init; long index; void *copy;
    const char *name, *doc; long size; void *more[5];
}} definition = {{1, 0, 0, 0, 0, "{full}", 0, -1, {{0}}}};
{declarations}
void *PyInit_{name}(void) {{
    {calls}
    return PyModule_Create2(&definition, 1013);
}}
"""


@dataclass(frozen=True)
class Ended:
    """How an import ended: ``line`` is the last line of its error, empty where it succeeded."""

    code: int
    line: str

    @property
    def failed(self) -> bool:
        return self.code != 0


class Builder:
    """Compiles into ``folder``; names are paths inside of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def module(
        self,
        path: str,
        *,
        calls: Sequence[str] = (),
        weak: Sequence[str] = (),
        keeps: Sequence[str] = (),
        **options: Any,
    ) -> Path:
        """An extension module ``a/_x``, written as ``a/_x.abi3.so``.

        ``calls`` functions that it calls, ``weak`` those that it calls where they are, ``keeps`` those whose address
        it keeps: the loader has to find them, and nothing runs them.
        """
        name = path.rsplit("/", 1)[-1]
        declarations = "".join(f"extern void {call}(void);\n" for call in calls)
        declarations += "".join(f"extern void {call}(void) __attribute__((weak));\n" for call in weak)
        declarations += "".join(f"extern void {name}(void);\nvoid *kept_{name} = {name};\n" for name in keeps)
        body = "".join(f"{call}();\n" for call in calls)
        body += "".join(f"if ({call}) {call}();\n" for call in weak)
        full = path.replace("/", ".")
        source = _MODULE.format(declarations=declarations, name=name, full=full, calls=body)
        return self.compile(f"{path}.abi3.so", source, soname=None, **options)

    def library(self, path: str, *, defines: Sequence[str] = (), calls: Sequence[str] = (), **options: Any) -> Path:
        """A shared library that defines functions, under its own file name as soname."""
        source = "".join(f"extern void {call}(void);\n" for call in calls)
        source += "".join(f"void {name}(void) {{ {''.join(f'{call}();' for call in calls)} }}\n" for name in defines)
        options.setdefault("soname", path.rsplit("/", 1)[-1])
        return self.compile(path, source or "int nothing;\n", **options)

    def compile(
        self,
        path: str,
        source: str,
        *,
        soname: str | None,
        links: Sequence[Path] = (),
        runpath: str | None = None,
        rpath: str | None = None,
        version: str | None = None,
        flags: Sequence[str] = (),
    ) -> Path:
        """``version`` is the symbol version of everything that is defined."""
        out = self.folder / path
        out.parent.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(out), "-x", "c", "-", "-x", "none", "-Wl,--no-as-needed"]
        if soname:
            command.append(f"-Wl,-soname,{soname}")
        if runpath is not None:
            command.append(f"-Wl,--enable-new-dtags,-rpath,{runpath}")
        if rpath is not None:
            command.append(f"-Wl,--disable-new-dtags,-rpath,{rpath}")
        if version is not None:
            script = out.with_suffix(".map")
            script.write_text(f"{version} {{ global: *; }};\n")
            command.append(f"-Wl,--version-script,{script}")
        command += [str(link) for link in links]
        done = subprocess.run([*command, *flags], input=source, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return out

    def write(self, path: str, text: str | bytes = "") -> Path:
        out = self.folder / path
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(text.encode() if isinstance(text, str) else text)
        return out

    def distribution(self, name: str, *, requires: Sequence[str] = (), recorded: bool = True) -> None:
        """Metadata of a distribution that owns every file of the folder of its name, and of ``NAME.libs``."""
        folder = f"{name}-1.0.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += [f"Requires-Dist: {other}" for other in requires]
        self.write(f"{folder}/METADATA", "\n".join(lines) + "\n\n")
        files = [
            f"{file.relative_to(self.folder).as_posix()},sha256=none,{file.stat().st_size}\n"
            for top in (name, f"{name}.libs")
            for file in sorted((self.folder / top).rglob("*"))
            if file.is_file()
        ]
        if recorded:
            self.write(f"{folder}/RECORD", "".join(files))


def imported(
    name: str, folder: Path | str, variables: Mapping[str, str] | None = None, *, before: Sequence[str] = ()
) -> Ended:
    """Import a module with nothing but the folder and the standard library; ``before`` as in ``measured``."""
    environment = clean_environment() | {"PYTHONPATH": str(folder)} | dict(variables or {})
    command = [*(before or [sys.executable]), "-S", "-c", f"import {name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    if done.returncode < 0:
        return Ended(done.returncode, signal.strsignal(-done.returncode) or "")
    lines = done.stderr.strip().splitlines()
    return Ended(done.returncode, lines[-1] if done.returncode and lines else "")


def measured(
    folder: Path | str,
    variables: Mapping[str, str] | None = None,
    *,
    before: Sequence[str] = (),
    probes: str = str(PROBES),
    sections: Sequence[str] = ("libraries", "packages", "python", "variables"),
) -> Snapshot:
    """The sections that rules of family LIB read, of an interpreter with the folder on its search path.

    ``before``: the command of the interpreter, where it is not this one (``chroot ROOT /usr/bin/python3``), with
    ``probes`` as it sees them.
    """
    environment = clean_environment() | {"PYTHONPATH": str(folder)} | dict(variables or {})
    facts: dict[str, Any] = {}
    for section in sections:
        command = [*(before or [sys.executable]), "-S", f"{probes}/{section}.py"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        facts[section] = json.loads(done.stdout)[section]["facts"]
    return snapshot("truth", **facts)
