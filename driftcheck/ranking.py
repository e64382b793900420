"""The order in which a person should look at findings: by impact, confidence and reach, causes before effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driftcheck.findings import Finding, Identity
from driftcheck.rules import requirements as req
from driftcheck.rules.distributions import distributions_of
from driftcheck.rules.effects import subjects_of
from driftcheck.snapshot import Snapshot

# A chain of needs names this many distributions; the middle of a longer one is left out.
_SHOWN = 4


@dataclass(frozen=True)
class Reach:
    """How a distribution came into an environment.

    ``depth``  0 where a user asked for it, 1 where something that a user asked for needs it, and so on
    ``line``   that in words; None where nothing says who asked for what (conda, Debian)
    """

    depth: int
    line: str | None


def reach_of(target: Snapshot) -> dict[str, Reach]:
    """How each distribution came here: the shortest chain of requirements from one that a user asked for."""
    distributions = distributions_of(target)
    if not distributions:
        return {}
    needs = req.needs(distributions, target.facts("python") or {})
    requested = {name for name, record in distributions.items() if record["requested"]}
    needed = {need for owner, wanted in needs.items() for need in wanted if need != owner}
    chains = dict.fromkeys(sorted(requested), _Chain())
    _follow(chains, needs, sorted(requested))
    rest = sorted(distributions.keys() - chains.keys() - needed)
    chains.update(dict.fromkeys(rest, _Chain()))
    _follow(chains, needs, rest)
    return {name: _reach(name, chain, requested) for name, chain in chains.items()}


@dataclass(frozen=True)
class _Chain:
    """Who needs a distribution, the outermost first: how many, and the ends of it. A whole chain for each of ten
    thousand distributions in a row would fill the memory.
    """

    length: int = 0
    first: tuple[str, ...] = ()
    last: str = ""

    def and_then(self, owner: str) -> _Chain:
        first = (*self.first, owner) if self.length < _SHOWN else self.first
        return _Chain(self.length + 1, first, owner)


def _follow(chains: dict[str, _Chain], needs: Mapping[str, Sequence[str]], start: Iterable[str]) -> None:
    """Breadth first, so that the first chain to a distribution is one of the shortest."""
    waiting = list(start)
    for owner in waiting:
        for name in needs[owner]:
            if name not in chains:
                chains[name] = chains[owner].and_then(owner)
                waiting.append(name)


def _reach(name: str, chain: _Chain, requested: set[str]) -> Reach:
    if name in requested:
        return Reach(0, "requested")
    if not chain.length:
        return Reach(2, "not requested, and nothing needs it") if requested else Reach(0, None)
    shown = chain.first if chain.length <= _SHOWN else (*chain.first[: _SHOWN - 1], "...", chain.last)
    return Reach(chain.length, f"needed by {' > '.join(shown)}")


def ranked(findings: Iterable[Finding], target: Snapshot) -> tuple[Finding, ...]:
    """Findings in order, each with its reach; effects follow their cause, which stands where the worst one would."""
    listed = list(findings)
    reach = reach_of(target) if listed else {}
    found = [_reached(finding, target, reach) for finding in listed]
    causes: dict[Identity, int] = {}
    for index, (finding, _) in enumerate(found):
        if finding.caused_by is None:
            causes.setdefault(finding.identity, index)
    groups: dict[int, list[int]] = {}
    for index, (finding, _) in enumerate(found):
        cause = causes.get(finding.caused_by, index) if finding.caused_by is not None else index
        groups.setdefault(cause, []).append(index)
    weights = [_weight(finding, depth) for finding, depth in found]

    def order(cause: int) -> tuple[Any, ...]:
        worst = min(weights[index] for index in groups[cause])
        return (*worst[:3], -len(groups[cause]), worst, weights[cause])

    return tuple(
        found[index][0]
        for cause in sorted(groups, key=order)
        for index in sorted(groups[cause], key=lambda index: (index != cause, weights[index]))
    )


def _reached(finding: Finding, target: Snapshot, reach: Mapping[str, Reach]) -> tuple[Finding, int]:
    """With the reach of the nearest of the distributions that it is about."""
    found = [reach[name] for name in subjects_of(finding, target) if name in reach]
    if not found:
        return finding, 0
    nearest = min(found, key=lambda one: one.depth)
    return replace(finding, reach=nearest.line), nearest.depth


def _weight(finding: Finding, depth: int) -> tuple[Any, ...]:
    return (
        finding.also_in_baseline,
        finding.impact.rank,
        finding.confidence.rank,
        finding.predicted_error is None,  # what one would see first comes before what that hides
        depth,
        -len(finding.folds),
        finding.code,
        finding.subject.name,
    )
