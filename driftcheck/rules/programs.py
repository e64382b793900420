"""Family SYS: the programs, libraries and headers that packages look for by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import tables
from driftcheck.rules import requirements as req
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.system_packages import install, manager_of, same_names
from driftcheck.snapshot import Snapshot


class SYS003(Contradiction):
    """A program, library or header that an installed package looks for by name is not there.

    Compares: a table of what known distributions call (ffmpeg, gcc, tesseract, ...), open by name (libsndfile,
    libmagic, ...) or compile with (Python.h, of the interpreter itself) with what the installed ones find here.

    Why: no metadata states such needs, so no installer checks them. The package installs, and fails when it
    is imported or first used.

    See: `OSError: PortAudio library not found`, `FileNotFoundError: [Errno 2] No such file or directory:
    'ffmpeg'`, `Failed to find C compiler. Please specify via CC environment variable`. The text of each row
    was read in the source of the version that the row names.

    Decided: needed at import, or the distribution is of no use without it, and somebody asked for that
    distribution: breaks, likely. The same, but brought in by another distribution, which may never import it
    (sounddevice by mediapipe, which does without): breaks, possible. One feature needs it, or a call of what
    another distribution brought in (graphviz by catboost, to draw trees): a note, because a healthy environment may
    never use that; where the baseline has the program and the target lost it, breaks, possible, unless few of those
    who have the distribution use that feature at all (torch.compile, C++ extensions): a note still. Never certain: a
    program may be bundled, or its path be set in code.

    Fix: install the operating system's package; the baseline's own package database is asked for its name. Headers
    that such a package brings are those of the system's interpreter alone.

    Limits: only what the table knows. A program beside the interpreter but off PATH counts as missing,
    because a call by name does not find it. Libraries are not judged on macOS and Windows.
    """

    code = "SYS003"
    name = "program-missing"
    reads = ("packages", "programs")
    references = (
        "https://docs.python.org/3/library/shutil.html#shutil.which",
        "https://docs.python.org/3/library/ctypes.html#finding-shared-libraries",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        variables = lookup(target, ("variables", "variables")) or {}
        for need in tables.program_needs():
            record = distributions.get(need.distribution)
            if record is None or not _applies(need, record, distributions, variables):
                continue
            places = [(_SECTION[need.kind], name) for name in need.any_of]
            if not _missing(target, places):
                continue
            had = baseline is not None and not _missing(baseline, places) and _known(baseline, places)
            brought_in = not record["requested"] and _is_required(need.distribution, distributions)
            wanted = record["requested"] or (need.when == "import" and not brought_in)
            core = need.core and not (brought_in and need.when == "call")
            impact, confidence = _weight(need, core=core, had=had, wanted=wanted)
            thing = need.any_of[0]
            evidence = [at(target, "target", "programs", *place) for place in places]
            evidence.append(at(target, "target", *DISTRIBUTIONS, need.distribution, "version"))
            evidence += [
                Evidence("baseline", ("programs", *place), lookup(baseline, ("programs", *place)))
                for place in places
                if had and baseline is not None
            ]
            beside = _beside(target, places)
            yield self.finding(
                impact,
                confidence,
                f"{record['name']} looks for the {need.kind} {thing}, which is not {'on PATH' if beside else 'here'}",
                Subject(need.kind, f"{thing} for {need.distribution}"),
                f"{record['name']} needs it for {need.needed_for}"
                + (", at import." if need.when == "import" and need.needed_for != "import" else ".")
                + (f" {beside} is there, but not on PATH." if beside else "")
                + (f" Any of {', '.join(need.any_of)} would do." if len(need.any_of) > 1 else ""),
                predicted_error=need.predicted_error,
                evidence=evidence,
                fix=_program_fix(target, baseline, need, places, beside),
            )


_SECTION = {"program": "programs", "library": "libraries", "header": "headers"}


def _applies(
    need: tables.ProgramNeed,
    record: Mapping[str, Any],
    distributions: Mapping[str, Any],
    variables: Mapping[str, Any],
) -> bool:
    """Whether the row speaks of this install."""
    if not tables.in_range(need.versions, req.version_of(record)):
        return False
    if need.wheel_platform == "any":  # wheels for a platform bundle it
        tags = req.wheel_tags(record)
        if tags and not any(tag.platform == "any" for tag in tags):
            return False
    return not (
        any(name in variables for name in need.unless_variables)
        or any(name in distributions for name in need.unless_distributions)
    )


def _known(snapshot: Snapshot, places: Sequence[tuple[str, str]]) -> bool:
    """Whether each of these was looked for."""
    return all(name in (lookup(snapshot, ("programs", section)) or {}) for section, name in places)


def _missing(snapshot: Snapshot, places: Sequence[tuple[str, str]]) -> bool:
    """Whether each was looked for and none answers a call by name. What was not looked for is not missing."""
    if not _known(snapshot, places):
        return False
    found = [lookup(snapshot, ("programs", *place)) for place in places]
    return all(entry is None or entry.get("on_path") is False for entry in found)


def _beside(target: Snapshot, places: Sequence[tuple[str, str]]) -> str | None:
    """The path of a program that stands beside the interpreter only."""
    found = [lookup(target, ("programs", *place)) for place in places]
    return next((entry["path"] for entry in found if entry is not None), None)


def _is_required(name: str, distributions: Mapping[str, Any]) -> bool:
    """Whether another distribution requires it: then it may be there for a part of that one which nobody uses."""
    return any(
        wheels.req_name(text) == name and "extra" not in marker
        for record in distributions.values()
        for text, marker in record["requires"].items()
    )


def _weight(need: tables.ProgramNeed, *, core: bool, had: bool, wanted: bool) -> tuple[Impact, Confidence]:
    """``core``: whoever has the distribution runs into it; ``had``: the baseline has the program; ``wanted``: somebody
    has the distribution for its own sake.
    """
    if core:
        return Impact(need.impact), Confidence.LIKELY if wanted else Confidence.POSSIBLE
    if had:
        return Impact(need.impact), Confidence.POSSIBLE
    return Impact.NOTE, Confidence.POSSIBLE


_FILE_NAME = re.compile(r"[/\\][^/\\]*$")


def _program_fix(
    target: Snapshot,
    baseline: Snapshot | None,
    need: tables.ProgramNeed,
    places: Sequence[tuple[str, str]],
    beside: str | None,
) -> list[Fix]:
    if beside:
        return [Fix("variable", f'PATH="{_FILE_NAME.sub("", beside)}:$PATH"')]
    package = None
    base = lookup(target, ("python", "base_prefix"))
    if need.kind == "header" and base != "/usr":
        return [Fix("advice", f"Install the headers of this interpreter, whose base is {base or 'not known'}.")]
    if baseline is not None and same_names(target, baseline):
        owners = [lookup(baseline, ("programs", *place, "package")) for place in places]
        package = next((owner for owner in owners if owner), None)
    if package is None and manager_of(target) == "dpkg":
        package = need.debian[0]
    if package is None:
        return [Fix("advice", f"Install the system package that holds it (Debian calls it {need.debian[0]}).")]
    return [install(target, package)]
