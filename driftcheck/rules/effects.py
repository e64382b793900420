"""What causes ask of their effects: which distributions is a finding, or a change, about?"""

from __future__ import annotations

from collections.abc import Collection

from driftcheck.diff import Change
from driftcheck.findings import Finding
from driftcheck.rules.base import Sides, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS
from driftcheck.snapshot import Snapshot

_FILES = ("libraries", "files")


def subjects_of(finding: Finding, target: Snapshot) -> list[str]:
    """The distributions that a finding is about, by normalised name: its subject, or whose files it rests on."""
    kind, name = finding.subject.kind, finding.subject.name
    if kind == "distribution":
        return [name]
    if kind == "requirement":
        return [name.partition(" -> ")[0]]
    owners = [
        lookup(target, (*_FILES, entry.path[2], "distribution"))
        for entry in finding.evidence
        if entry.side == "target" and tuple(entry.path[:2]) == _FILES and len(entry.path) > 2
    ]
    return list(dict.fromkeys(owner for owner in owners if isinstance(owner, str) and owner != "python"))


def distributions_of_change(change: Change) -> set[str]:
    """The distributions that a changed fact is about: their own records, and the shared libraries that they bring."""
    path = change.path
    if path[:2] == DISTRIBUTIONS:
        return {path[2]} if len(path) > 2 else set()
    if path[:1] != ("libraries",) or len(path) < 3:
        return set()
    if path[1] == "distributions":
        return {path[2]}
    values = [value for value in (change.before, change.after) if isinstance(value, dict)]
    records = [record for value in values for record in (value, *value.values()) if isinstance(record, dict)]
    names = [record.get("distribution", record.get("used_by")) for record in records]
    found = {name for entry in names for name in (entry if isinstance(entry, dict) else [entry])}
    return {name for name in found if isinstance(name, str)}


def is_record(change: Change) -> bool:
    """Whether a changed fact says that a distribution has other files, by its RECORD."""
    return len(change.path) == 5 and change.path[:2] == DISTRIBUTIONS and change.path[3] == "record"


def is_platform_tag(change: Change) -> bool:
    """Whether a changed fact is a wheel tag that names a platform."""
    path = change.path
    return len(path) == 5 and path[:2] == DISTRIBUTIONS and path[3] == "tags" and not path[4].endswith("-any")


def is_of_variable(change: Change, finding: Finding) -> bool:
    """Whether a changed fact is one of the variable that a finding is about."""
    return change.path[:3] == ("variables", "variables", finding.subject.name)


def misfits(effect: Finding, target: Snapshot, names: Collection[str]) -> bool:
    """Whether a finding is about files of distributions that were all made for somewhere else (``names``).

    Their wheels are not accepted (PKG007, together PKG013), and their files are not loaded (family LIB).
    """
    if effect.code == "PKG013":
        paths = [entry.path for entry in effect.evidence if entry.path[:2] == DISTRIBUTIONS]
        return bool(paths) and all(path[2] in names for path in paths)
    about = subjects_of(effect, target)
    of_files = effect.code == "PKG007" or effect.code.startswith("LIB")
    return of_files and bool(about) and all(name in names for name in about)


def required_by_marker(effect: Finding, variables: Collection[str]) -> bool:
    """Whether an unmet requirement is one that a marker asks for here, by one of these variables of PEP 508."""
    return effect.code == "PKG001" and any(
        len(entry.path) == 5
        and entry.path[3] == "requires"
        and isinstance(entry.value, str)
        and any(variable in entry.value for variable in variables)
        for entry in effect.evidence
    )


def sonames_of(finding: Finding) -> list[str]:
    """The libraries that a finding says are missing, too old or another one."""
    return finding.subject.name.split(", ") if finding.subject.kind in {"library", "interpreter"} else []


def system_had(sides: Sides, soname: str) -> bool:
    """Whether a library of the operating system answered to this name in the baseline."""
    answers = lookup(sides.baseline, ("libraries", "libraries", soname)) if sides.baseline is not None else None
    return isinstance(answers, dict) and any(path.startswith("/") for path in answers)


def provided_in_baseline(sides: Sides, soname: str, names: Collection[str]) -> bool:
    """Whether one of these distributions brought this library in the baseline."""
    answers = lookup(sides.baseline, ("libraries", "libraries", soname)) if sides.baseline is not None else None
    return isinstance(answers, dict) and any(answer.get("distribution") in names for answer in answers.values())
