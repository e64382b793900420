"""What causes ask of their effects: which distributions is a finding, or a change, about?"""

from __future__ import annotations

from driftcheck.diff import Change
from driftcheck.findings import Finding
from driftcheck.rules.base import lookup
from driftcheck.snapshot import Snapshot

_DISTRIBUTIONS = ("packages", "distributions")
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
    if path[:2] == _DISTRIBUTIONS:
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
