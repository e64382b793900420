"""Requirements that no version of a distribution can meet together: then it is not the one that has to move."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from driftcheck.rules.requirements import Unmet, parsed

Stated = Mapping[str, Sequence[tuple[str, Requirement, str]]]

# Of one distribution so many requirements are compared with each other: facts may be hostile.
_COMPARED = 50


@dataclass(frozen=True)
class Demand:
    """What one installed distribution requires of another. ``stated`` is the key below its ``requires``."""

    owner: str
    stated: str
    specifiers: SpecifierSet


def demands(stated: Stated) -> dict[str, list[Demand]]:
    """All that is required of each distribution, by its normalised name. ``stated``: of ``requirements_of``."""
    found: dict[str, list[Demand]] = {}
    for owner, entries in stated.items():
        for name, wanted, text in entries:
            found.setdefault(canonicalize_name(name), []).append(Demand(owner, text, wanted.specifier))
    return found


def rival(unmet: Unmet, known: Mapping[str, Sequence[Demand]]) -> Demand | None:
    """What another distribution requires of the same one, and no version meets both; None where one may."""
    for demand in known.get(unmet.name, ())[:_COMPARED]:
        if demand.owner != unmet.owner and not may_agree(unmet.specifiers, demand.specifiers):
            return demand
    return None


def together(name: str, known: Mapping[str, Sequence[Demand]]) -> SpecifierSet:
    """All that is required of one distribution."""
    found = SpecifierSet()
    for demand in known.get(name, ())[:_COMPARED]:
        found &= demand.specifiers
    return found


@functools.lru_cache(maxsize=4096)
def may_agree(one: SpecifierSet, other: SpecifierSet) -> bool:
    """Whether some version meets both; true where that cannot be told.

    What meets both begins somewhere: at a bound, right above one, behind all that ``1.5.*`` takes, or at nothing at
    all. So few versions have to be tried.
    """
    both = one & other
    tried = ["0"]
    for entry in both:
        bound = parsed(entry.version.removesuffix(".*"))
        if bound is None:
            return True
        *above, last = bound.release
        following = ".".join(str(part) for part in (*above, last + 1))
        tried += [str(bound), f"{bound.base_version}.0.0.0.1", f"{bound.epoch}!{following}"]
    try:
        return any(both.contains(version, prereleases=True) for version in tried)
    except (InvalidSpecifier, InvalidVersion):
        return True
