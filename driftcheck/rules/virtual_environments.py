"""Family PY and PKG: virtual environments, and sources beside them, that were left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, is_within, titled
from driftcheck.rules.interpreter import minor_of
from driftcheck.snapshot import Snapshot

_MADE_WITH = ("python", "environment", "made_with")


class PY004(Contradiction):
    """A virtual environment is run by another version of Python than it was made with.

    Compares: the version in pyvenv.cfg with that of the interpreter, and where the installed distributions lie.

    Why: an environment holds a link to the interpreter that it was made from, and its packages lie in
    lib/python3.11/site-packages. Where the system's Python is upgraded, or another one is put in its place (a base
    image with a newer Python, Homebrew, pyenv), the link leads to Python 3.12, which looks into
    lib/python3.12/site-packages, where nothing is. Nothing says so: the interpreter starts.

    See: `ModuleNotFoundError: No module named 'numpy'`, or whatever is imported first.

    Decided: no distribution lies in the environment where this interpreter looks: breaks, likely. Some do: a note,
    since somebody installed them with this interpreter.

    Fix: make the environment again with the interpreter that is to run it.

    Limits: what lies in the directory of the other version is not measured. An environment that was never used to
    install anything is judged in the same way.
    """

    code = "PY004"
    name = "environment-of-another-python"
    reads = ("python", "packages")
    references = (
        "https://docs.python.org/3/library/venv.html#how-venvs-work",
        "https://docs.python.org/3/library/site.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        made_with, here = lookup(target, _MADE_WITH), minor_of(target.facts("python") or {})
        if made_with is None or here is None or made_with == here:
            return
        prefix = str(lookup(target, ("python", "prefix")))
        inside = any(is_within(record["location"], [prefix]) for record in distributions_of(target).values())
        folder = f"{prefix}/lib/python{here}/site-packages"
        yield self.finding(
            Impact.NOTE if inside else Impact.BREAKS,
            Confidence.LIKELY,
            f"The virtual environment was made with Python {made_with}, and Python {here} runs it",
            Subject("environment", prefix),
            f"pyvenv.cfg names Python {made_with}. "
            + (
                f"What was installed with that one is not seen by Python {here}."
                if inside
                else f"Python {here} looks for packages in {folder}, and no distribution is there: what was installed "
                f"with Python {made_with} lies in another directory."
            ),
            evidence=[at(target, "target", *_MADE_WITH), at(target, "target", "python", "version")],
            fix=[
                Fix(
                    "advice",
                    f"Make the environment again with Python {made_with} or {here} (python{here} -m venv --clear ...), "
                    "and install the packages into it.",
                )
            ],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """What is not seen reads as not installed."""
        del sides
        return finding.impact is Impact.BREAKS and change.section == "packages" and change.kind == "removed"

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del sides
        return finding.impact is Impact.BREAKS and effect.code == "PKG010"


class PKG014(Contradiction):
    """The source directory of an editable install is not there.

    Compares: the directory that direct_url.json names for each editable install with what is there.

    Why: `pip install -e .` and `uv sync` put no code into the environment but a pointer to the directory of the
    project. Where that directory is left out of the image (a COPY --from of the virtual environment alone), was
    moved, or is hidden by a volume, the metadata still says that the distribution is installed.

    See: `ModuleNotFoundError: No module named 'mymodel'`.

    Decided: the directory does not exist, or this user cannot look into it: breaks, likely, because a part of the
    project may lie elsewhere on the search path. The name of the module is taken to be that of the distribution.

    Fix: install the project without -e (uv sync --no-editable), or bring its directory along, to the same path.

    Limits: a directory that is there and lacks the code is not noticed, nor are installs of before PEP 610
    (setup.py develop).
    """

    code = "PKG014"
    name = "editable-source-gone"
    reads = ("packages",)
    references = (
        "https://packaging.python.org/en/latest/specifications/direct-url/",
        "https://setuptools.pypa.io/en/latest/userguide/development_mode.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, record in sorted(distributions_of(target).items()):
            source = record["direct_url"] or {}
            if not source.get("gone"):
                continue
            folder = source["url"].removeprefix("file://")
            module = re.sub(r"[-.]+", "_", record["name"])
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{titled(record)} is installed from {folder}, which is not there",
                Subject("distribution", name),
                "It is an editable install: the environment holds a pointer to that directory and no code.",
                predicted_error=f"ModuleNotFoundError: No module named '{module}'",
                evidence=[at(target, "target", *DISTRIBUTIONS, name, "direct_url")],
                fix=[
                    Fix(
                        "advice",
                        "Install the project without -e (pip install ., uv sync --no-editable), or bring its directory "
                        "along to the same path.",
                    )
                ],
            )
