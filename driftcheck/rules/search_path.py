"""What the rules ask of installs that stand one behind the other along sys.path: which hides which, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.specifiers import SpecifierSet

from driftcheck.findings import Fix
from driftcheck.rules import requirements as req
from driftcheck.rules.base import lookup
from driftcheck.rules.distributions import is_within
from driftcheck.snapshot import Snapshot

Facts = Mapping[str, Any]


def unlike(record: Facts) -> Facts | None:
    """The first install in another directory that has another version than the one that is imported."""
    others: list[Facts] = record.get("other_installs", [])
    return next((one for one in others if not one["same_directory"] and one["version"] != record["version"]), None)


def is_outsider(target: Snapshot, first: str, second: str) -> bool:
    """Whether a directory outside of the environment (PYTHONPATH, the user's own) hides one inside."""
    prefixes = [lookup(target, ("python", key)) for key in ("prefix", "base_prefix")]
    return not is_within(first, prefixes) and is_within(second, prefixes)


def hidden_by_outsider(target: Snapshot, record: Facts, specifiers: SpecifierSet) -> Facts | None:
    """An install in the environment that would do for a requirement, behind the one outside that does not."""
    for other in record.get("other_installs", []):
        version = other["version"]
        if version and not other["same_directory"] and is_outsider(target, record["location"], other["location"]):
            return other if req.satisfies(version, specifiers) else None
    return None


def off_the_path(entry: str) -> tuple[Fix, ...]:
    """How to take an entry off sys.path."""
    if "/.local/" in entry + "/" or entry.startswith("~/Library/Python"):
        return (Fix("variable", "PYTHONNOUSERSITE=1"),)
    return (Fix("advice", f"Take {entry} off PYTHONPATH (or out of the .pth file that adds it)."),)
