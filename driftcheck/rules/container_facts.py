"""What the rules of family BOX ask of a snapshot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from driftcheck.rules import requirements as req
from driftcheck.rules.base import lookup
from driftcheck.rules.distributions import distributions_of
from driftcheck.snapshot import Snapshot


def is_linux(target: Snapshot) -> bool:
    system = lookup(target, ("python", "platform", "system"))
    return system is None or system == "linux"


def release_of(target: Snapshot, name: str) -> tuple[int, ...] | None:
    """The release of an installed distribution; None where it is not there or has no version."""
    record = distributions_of(target).get(name)
    version = req.parsed(req.version_of(record)) if record else None
    return version.release if version is not None else None


def python_of(target: Snapshot) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", lookup(target, ("python", "version")) or "")
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def set_by_image(target: Snapshot, names: Sequence[str]) -> bool | None:
    """Whether the image sets one of these variables; None where no image says what it sets."""
    given = lookup(target, ("service", "environment"))
    return None if given is None else any(name in given for name in names)


def value_of(snapshot: Snapshot, name: str) -> str | None:
    """The value of a variable; None where it is not set, empty or hidden."""
    record: Any = lookup(snapshot, ("variables", "variables", name)) or {}
    return record.get("value") or None
