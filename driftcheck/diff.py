"""Snapshot by snapshot to changes: facts that differ, without any opinion.

Sections whose digests are equal are not looked at. Facts are keyed objects, so they are compared key by key, which
costs a millisecond for a thousand records; DeepDiff is asked only where order has a meaning (lists).

A path inside the prefix of a virtual environment is the same place in both, wherever the two prefixes are: it
is compared, and shown, as ``<prefix>/...``. What driftcheck alone brought into an environment is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from driftcheck.probes.common import canonical
from driftcheck.probes.packages import normalize
from driftcheck.snapshot import Snapshot

PREFIX = "<prefix>"

# Sections that are there only where somebody asked for them: a side without one is not incomplete.
ASKED_FOR = frozenset({"artifacts", "imports"})

# The prefix itself, which shows that the places differ.
_KEPT_PATHS = {
    ("python", "prefix"),
    ("variables", "variables", "VIRTUAL_ENV"),
    ("variables", "variables", "CONDA_PREFIX"),
}


@dataclass(frozen=True)
class Change:
    """One differing fact. ``path``: section, then keys. ``before`` is None when added, ``after`` when removed."""

    path: tuple[str, ...]
    kind: str  # added, removed, changed
    before: Any
    after: Any

    @property
    def section(self) -> str:
        return self.path[0]

    def reversed(self) -> Change:
        kind = {"added": "removed", "removed": "added"}.get(self.kind, self.kind)
        return Change(self.path, kind, self.after, self.before)


@dataclass(frozen=True)
class Unmeasured:
    """A section that one side measured and the other did not: neither equal nor removed."""

    section: str
    side: str  # baseline or target: the one that lacks it
    status: str
    reason: str


def changes(baseline: Snapshot, target: Snapshot) -> list[Change]:
    """All changes between two snapshots, in the order of their paths."""
    found: list[Change] = []
    for name in sorted(baseline.sections.keys() & target.sections.keys()):
        before, after = baseline.sections[name], target.sections[name]
        if not (before.measured and after.measured) or before.digest == after.digest:
            continue
        found.extend(_compare(_comparable(baseline, name), _comparable(target, name), (name,)))
    return sorted(found, key=lambda change: change.path)


def unmeasured(baseline: Snapshot, target: Snapshot) -> list[Unmeasured]:
    """Sections that cannot be compared, because one of the two does not hold their facts.

    A section that one platform does not have (``absent``) is a difference of the platforms, which rules explain.
    """
    found = []
    for name in sorted(baseline.sections.keys() | target.sections.keys()):
        for side, one, other in (("baseline", baseline, target), ("target", target, baseline)):
            if not (name in other.sections and other.sections[name].measured):
                continue
            section = one.sections.get(name)
            if section is None and name in ASKED_FOR:
                continue
            if section is None:
                found.append(Unmeasured(name, side, "missing", "this snapshot does not have the section"))
            elif not section.measured:
                found.append(Unmeasured(name, side, section.status, section.reason or section.status))
    return found


def own_distributions(snapshot: Snapshot) -> frozenset[str]:
    """driftcheck and what it alone brought: nothing else requires it, and nobody requested it."""
    facts = snapshot.facts("packages")
    distributions = facts.get("distributions", {}) if facts else {}
    if "driftcheck" not in distributions:
        return frozenset()
    needs = {
        name: {required_name(text) for text, marker in record["requires"].items() if "extra ==" not in marker}
        & distributions.keys()
        for name, record in distributions.items()
    }
    own = {"driftcheck"}
    waiting = ["driftcheck"]
    while waiting:
        for name in needs[waiting.pop()]:
            if name not in own:
                own.add(name)
                waiting.append(name)
    # Whatever others need or a user asked for stays, and so does what that needs in turn.
    kept = {name for name in own - {"driftcheck"} if distributions[name]["requested"]}
    kept |= {need for name in distributions.keys() - own for need in needs[name] & own}
    waiting = list(kept)
    while waiting:
        for name in needs[waiting.pop()] & own:
            if name not in kept:
                kept.add(name)
                waiting.append(name)
    return frozenset(own - kept | {"driftcheck"})


def required_name(requirement: str) -> str:
    """The normalised name in a requirement; empty where there is none."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    return normalize(found.group()) if found else ""


def _comparable(snapshot: Snapshot, section: str) -> Any:
    """The facts of a section without what never is drift, and with paths inside the prefix made equal."""
    facts: Any = snapshot.sections[section].facts
    if section == "packages" and "distributions" in facts:
        own = own_distributions(snapshot)
        kept = {name: record for name, record in facts["distributions"].items() if name not in own}
        facts = {**facts, "distributions": kept}
    prefix = _movable_prefix(snapshot)
    if prefix is None:
        return facts
    pattern = re.compile(re.escape(prefix) + r"(?=[/\\:;]|$)")
    return _replace(facts, prefix, pattern, (section,))


def _movable_prefix(snapshot: Snapshot) -> str | None:
    """The prefix of a virtual or conda environment; that of a system interpreter is no place of its own."""
    facts = snapshot.facts("python") or {}
    prefix = facts.get("prefix", "")
    kind = facts.get("environment", {}).get("kind")
    return prefix if kind in {"venv", "conda"} and len(prefix) > 1 else None


def _replace(value: Any, prefix: str, pattern: re.Pattern[str], path: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return pattern.sub(PREFIX, value) if prefix in value else value
    if isinstance(value, list):
        return [_replace(entry, prefix, pattern, path) for entry in value]
    if isinstance(value, dict):
        return {
            _replace(key, prefix, pattern, path): entry
            if (*path, key) in _KEPT_PATHS
            else _replace(entry, prefix, pattern, (*path, key))
            for key, entry in value.items()
        }
    return value


def _compare(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Change]:
    if before == after and type(before) is type(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            if key not in after:
                yield Change((*path, key), "removed", before[key], None)
            elif key not in before:
                yield Change((*path, key), "added", None, after[key])
            else:
                yield from _compare(before[key], after[key], (*path, key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _compare_lists(before, after, path)
    else:
        yield Change(path, "changed", before, after)


def _compare_lists(before: list[Any], after: list[Any], path: tuple[str, ...]) -> Iterator[Change]:
    """What DeepDiff says of two lists, entry by entry.

    Its alignment of lists is not symmetric, so it is always asked in the same order: then the changes of (a, b)
    reversed are those of (b, a).
    """
    from deepdiff import DeepDiff  # noqa: PLC0415 - 0.1 s, and most comparisons need none

    swapped = canonical(before) > canonical(after)
    first, second = (after, before) if swapped else (before, after)
    tree = DeepDiff(first, second, view="tree", threshold_to_diff_deeper=0)
    if not tree:  # it takes 1 and True for equal
        yield Change(path, "changed", before, after)
    for group in tree.values():
        for level in group:
            where = (*path, *(str(key) for key in level.path(output_format="list")))
            missing_before = level.t1.__class__.__name__ == "NotPresent"
            missing_after = level.t2.__class__.__name__ == "NotPresent"
            kind = "added" if missing_before else "removed" if missing_after else "changed"
            change = Change(where, kind, None if missing_before else level.t1, None if missing_after else level.t2)
            yield change.reversed() if swapped else change
