"""Family BOX: what the start of a container comes down to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot


class BOX010(Contradiction):
    """The service starts another interpreter than the one that its packages are in.

    Compares: the interpreter that the start command comes down to with the one whose packages were
    measured, and with the other environments of the image.

    Why: a virtual environment that is never activated, an absolute path to the system's Python in a start
    script, or a PATH that a login shell resets: the packages are installed, and the service does not see
    them.

    See: `ModuleNotFoundError: No module named 'torch'`.

    Decided: the interpreter that starts has no distributions but installers, and the image holds another
    environment: breaks, likely. The packages of another interpreter were measured (--python): breaks,
    possible.

    Fix: start the environment's own interpreter, or put its bin directory first on PATH.

    Limits: a start script that changes PATH in a way that only a run can tell is not followed. What the
    other environments hold is not read.
    """

    code = "BOX010"
    name = "packages-of-another-interpreter"
    reads = ("service", "packages")
    references = (
        "https://docs.python.org/3/library/venv.html#how-venvs-work",
        "https://docs.docker.com/reference/dockerfile/#entrypoint",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        started = lookup(target, ("service", "start", "interpreter"))
        measured = lookup(target, ("service", "packages_interpreter"))
        if started is None:
            return
        installed = distributions_of(target)
        evidence = [at(target, "target", "service", "start", "interpreter")]
        if measured is not None and not _same_environment(started, measured):
            if installed.keys() <= _INSTALLERS:
                return
            yield self.finding(
                Impact.BREAKS,
                Confidence.POSSIBLE,
                f"The service starts {started}, and {measured} has the packages",
                Subject("service", "interpreter"),
                f"{measured} was measured, with {len(installed)} distributions; the start command runs {started}.",
                evidence=[*evidence, at(target, "target", "service", "packages_interpreter")],
                fix=[_path_fix(measured)],
            )
            return
        others = target.header.get("other_interpreters") or {}
        environments = [path for path in sorted(others) if not _same_environment(path, started)]
        bare = installed.keys() <= _INSTALLERS and "distributions" in (target.facts("packages") or {})
        if not bare or not environments or not lookup(target, ("service", "start", "script")):
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"The service starts {started}, which has no packages",
            Subject("service", "interpreter"),
            f"{started} has no distributions beside installers. Other interpreters: {wheels.listed(environments)}.",
            evidence=[*evidence, at(target, "target", *DISTRIBUTIONS)],
            fix=[_path_fix(environments[0])],
        )


_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv", "distribute", "packaging", "distro-info", "pipx"})


def _same_environment(one: str, other: str) -> bool:
    """Whether two paths are interpreters of one environment: one directory of programs, and no two versions."""
    folders = {re.sub(r"^/bin$", "/usr/bin", path.rpartition("/")[0]) for path in (one, other)}
    if len(folders) > 1:
        return False
    versions = {found.group() for path in (one, other) if (found := re.search(r"\d+\.\d+t?$", path))}
    return len(versions) < 2


def _path_fix(interpreter: str) -> Fix:
    folder = interpreter.rpartition("/")[0]
    return Fix("dockerfile", f'ENV PATH="{folder}:$PATH"')


class BOX011(Contradiction):
    r"""The start command cannot start.

    Compares: ENTRYPOINT and CMD, followed through PATH, first lines of scripts, shells and wrapper programs,
    with the files that are there and their modes.

    Why: a script that was copied without its executable bit or from a Windows checkout, a program that is
    not installed, a first line that names an interpreter of another image: the container ends before
    Python runs. The message rarely says which file is meant.

    See: `exec: "gunicorn": executable file not found in $PATH`, `exec /app/start.sh: no such file or
    directory` (the script is there; what its first line names is not, or ends in a carriage return), `exec
    /app/start.sh: exec format error`, `/usr/bin/env: 'python3\r': No such file or directory`,
    `python3: can't open file '/app/app.py': [Errno 2] No such file or directory`.

    Decided: breaks, certain, where everything on the way is a file and the text is that of the program that
    prints it (checked against runc, dash, bash, coreutils and CPython); likely where a script does something
    before that only a run can tell, or the wording is not known.

    Fix: what the reason asks for: the executable bit, line endings, a first line, the missing program.

    Limits: what a volume brings is not there. Modes are judged for the file, not for the user who runs it.
    A shell script is read and not run, so conditions in it are not decided.
    """

    code = "BOX011"
    name = "start-command-cannot-start"
    reads = ("service",)
    references = (
        "https://docs.docker.com/reference/dockerfile/#entrypoint",
        "https://man7.org/linux/man-pages/man2/execve.2.html",
        "https://git-scm.com/docs/gitattributes#_text",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        start = lookup(target, ("service", "start"))
        if not start or not start["problem"]:
            return
        there = lookup(baseline, ("service", "start", "problem")) if baseline is not None else None
        evidence = [at(target, "target", "service", "start", "problem")]
        evidence += held(target, "target", ("service", "entrypoint"), ("service", "command"))
        if baseline is not None and there is None:
            evidence += held(baseline, "baseline", ("service", "start", "interpreter"))
        steps = "; ".join(start["chain"])
        reason = start["reason"]
        if start["interpreter"] is not None:
            reason = f"{start['interpreter']} runs, and does not find what it should run"
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN if start["exact"] else Confidence.LIKELY,
            f"The service cannot start: {reason}",
            Subject("service", "start"),
            "The container ends before the service runs." + (f" The way there: {steps}." if steps else ""),
            predicted_error=start["problem"],
            evidence=evidence,
            fix=_start_fix(start),
        )


def _start_fix(start: Mapping[str, Any]) -> list[Fix]:
    """What mends a start, by the reason that ``start_command`` gives."""
    reason, problem = start["reason"], start["problem"]
    file = reason.split(" ", 1)[0]
    if "Windows line endings" in reason or "\\r" in problem:
        script = file if file.startswith("/") else next((step.split(" ")[0] for step in start["chain"]), "FILE")
        return [
            Fix("dockerfile", f"RUN sed -i 's/\\r$//' {shlex.quote(script)}"),
            Fix("advice", "Keep it so in git: a .gitattributes with the line: *.sh text eol=lf"),
        ]
    if reason.endswith("is not executable"):
        return [
            Fix("dockerfile", f"RUN chmod +x {shlex.quote(file)}"),
            Fix("advice", "Or copy it with COPY --chmod=755."),
        ]
    if "no first line" in reason:
        return [
            Fix("advice", f"Begin {file} with a line such as #!/bin/sh, without a blank or a byte order mark before.")
        ]
    if "another machine" in reason:
        return [Fix("advice", "Build the image for this architecture: docker buildx build --platform linux/amd64")]
    if "another C library" in reason:
        return [Fix("advice", f"Install {file} for the C library of this image, or change the base image.")]
    if start["interpreter"] is not None and start["module"] is not None:
        return [Fix("pip", shlex.join([start["interpreter"], "-m", "pip", "install", start["module"]]))]
    if start["interpreter"] is not None:
        return [Fix("advice", "Copy the script into the image, or state the WORKDIR that its name is meant for.")]
    return [Fix("advice", f"Install or copy what is missing, or correct its name: {reason}.")]
