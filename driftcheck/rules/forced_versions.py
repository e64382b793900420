"""Family PKG: one distribution decides the versions of others, by what it requires on each side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftcheck.diff import Change, own_distributions
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects, wheels
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Drift, Sides, at
from driftcheck.rules.distributions import DISTRIBUTIONS, SPECIFICATIONS, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot

# The explanation says why of this many.
_SAID = 6


class PKG011(Drift):
    """A distribution that differs decides which versions of others are installed.

    Compares: Requires-Dist of every distribution that differs or stands on one side only, as it is on each
    side, with the versions of all others in both environments.

    Why: someone changed one version and an installer changed ten. Who looks at the ten one by one mends
    nothing: the next install puts them back. transformers 4.38 takes no tokenizers from 0.19 on, so another
    transformers is the one thing to decide.

    See: nothing by itself. Where another distribution wants what was forced away, PKG001 says what one
    would see.

    Decided: likely, because an installer could have had further reasons. A version is forced where its
    distribution's requirement in the target refuses the version of the baseline, or where the baseline's
    requirement, which is gone in the target, refused the version of the target. A distribution on one side
    only comes with the one that requires it there and not on the other side, where nobody asked for it by
    name. What is forced through others is counted under the outermost one.

    Fix: install the version of the baseline of the distribution that decides, and let pip find the rest.

    Limits: constraint files, indexes and the date of an install choose versions too and leave no trace.
    Versions that PEP 440 cannot parse are not judged.
    """

    code = "PKG011"
    name = "version-forced-by"
    reads = ("packages", "python")
    references = (
        f"{SPECIFICATIONS}/dependency-specifiers/",
        "https://pip.pypa.io/en/stable/topics/dependency-resolution/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        known, installed = distributions_of(baseline), distributions_of(target)
        own = own_distributions(baseline) | own_distributions(target)
        differing = {
            name
            for name in (known.keys() | installed.keys()) - own
            if _version(known, name) != _version(installed, name)
        }
        if len(differing) < 2:
            return
        before = _Stated(known, "baseline", req.requirements_of(known, baseline.facts("python") or {}))
        after = _Stated(installed, "target", req.requirements_of(installed, target.facts("python") or {}))
        reasons = [reason for name in differing for reason in _reasons(name, differing, before, after)]
        for owner, chosen in sorted(_by_root(reasons).items()):
            yield self._finding(baseline, target, owner, chosen)

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        about = effects.distributions_of_change(change)
        return bool(about) and about <= _forced(finding)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """Another distribution that wants the version which was forced away, and what the forced one changes."""
        del sides
        forced = _forced(finding, "target")  # what the baseline held back, nobody forces here
        if effect.code == "PKG001":
            return effect.subject.name.partition(" -> ")[2] in forced
        if effect.code == "LIB011":
            return "numpy" in forced
        versions = {entry.path[2] for entry in effect.evidence if entry.path[3:] == ("version",)}
        if effect.code == "PKG012":
            return not versions.isdisjoint(forced)
        return effect.code.startswith("NUM") and bool(versions) and versions <= forced

    def _finding(self, baseline: Snapshot, target: Snapshot, owner: str, reasons: Sequence[_Reason]) -> Finding:
        known, installed = distributions_of(baseline), distributions_of(target)
        names = [reason.name for reason in reasons]
        shown = [f"{name} {_version(installed, name)}" if name in installed else f"no {name}" for name in names]
        said = [_sentence(reason, known, installed) for reason in reasons[:_SAID]]
        more = f" {len(reasons) - _SAID} more go with them." if len(reasons) > _SAID else ""
        fix: tuple[Fix, ...] = ()
        if owner in known and req.parsed(req.version_of(known[owner])) is not None:
            fix = pip_fix(target, f"install {pinned(known[owner])}")
        return self.finding(
            Impact.NOTE,
            Confidence.LIKELY,
            f"{_title(owner, known, installed)} {wheels.listed(shown)}",
            Subject("distribution", owner),
            " ".join(said) + more,
            evidence=[
                *(
                    at(snapshot, side, *DISTRIBUTIONS, owner, "version")
                    for side, snapshot in (("baseline", baseline), ("target", target))
                    if owner in distributions_of(snapshot)
                ),
                *(reason.evidence for reason in reasons),
            ],
            fix=fix,
        )


@dataclass(frozen=True)
class _Stated:
    """The distributions of one side, and what each of them requires there."""

    distributions: Mapping[str, Any]
    side: str
    requirements: Mapping[str, Sequence[tuple[str, Any, str]]]

    def of(self, owner: str) -> set[str]:
        return {name for name, _, _ in self.requirements.get(owner, ())}


@dataclass(frozen=True)
class _Reason:
    """Why one distribution has another version, or is there: the requirement of an owner on one side."""

    name: str
    owner: str
    evidence: Evidence
    text: str
    refused: str | None  # the version that the requirement does not take; None where it brings the distribution


def _version(distributions: Mapping[str, Any], name: str) -> str | None:
    return req.version_of(distributions[name]) if name in distributions else None


def _reasons(name: str, differing: set[str], before: _Stated, after: _Stated) -> Iterator[_Reason]:
    """Each requirement of a distribution that differs which accounts for this one."""
    old, new = _version(before.distributions, name), _version(after.distributions, name)
    if name in before.distributions and name in after.distributions:
        # The target's word comes first: what it refuses cannot be there.
        for stated, refused, taken in ((after, old, new), (before, new, old)):
            found = [
                reason
                for reason in _stating(name, differing, stated)
                if refused is not None
                and taken is not None
                and not req.satisfies(refused, reason[1].specifier)
                and req.satisfies(taken, reason[1].specifier)
            ]
            if found:
                yield from (_reason(name, owner, stated, text, wanted, refused) for owner, wanted, text in found)
                return
        return
    here, there = (after, before) if name in after.distributions else (before, after)
    if here.distributions[name]["requested"]:
        return
    for owner, wanted, text in _stating(name, differing, here):
        # That whoever needs it is gone altogether is PKG010's to say.
        if name not in there.of(owner) and (here is after or owner in there.distributions):
            yield _reason(name, owner, here, text, wanted, None)


def _stating(name: str, differing: Iterable[str], stated: _Stated) -> Iterator[tuple[str, Any, str]]:
    for owner in sorted(differing):
        if owner != name:
            for wanted_name, wanted, text in stated.requirements.get(owner, ()):
                if wanted_name == name:
                    yield owner, wanted, text


def _reason(name: str, owner: str, stated: _Stated, text: str, wanted: Any, refused: str | None) -> _Reason:
    marker = stated.distributions[owner]["requires"][text]
    return _Reason(
        name,
        owner,
        Evidence(stated.side, (*DISTRIBUTIONS, owner, "requires", text), marker),
        f"{wanted.name}{req.ordered(wanted.specifier)}",
        refused,
    )


def _by_root(reasons: Sequence[_Reason]) -> dict[str, list[_Reason]]:
    """One reason for each distribution, that of the owner with most to say; under the outermost owner."""
    weight: dict[str, int] = {}
    for reason in reasons:
        weight[reason.owner] = weight.get(reason.owner, 0) + 1
    chosen: dict[str, _Reason] = {}
    for reason in sorted(reasons, key=lambda one: (-weight[one.owner], one.owner, one.evidence.path)):
        # Never in a circle: what an owner's own reason leads back to is not its effect.
        if reason.name not in chosen and _root(reason.owner, chosen) != reason.name:
            chosen[reason.name] = reason
    groups: dict[str, list[_Reason]] = {}
    for name in sorted(chosen):
        groups.setdefault(_root(name, chosen), []).append(chosen[name])
    return groups


def _root(name: str, chosen: Mapping[str, _Reason]) -> str:
    while name in chosen:
        name = chosen[name].owner
    return name


def _title(owner: str, known: Mapping[str, Any], installed: Mapping[str, Any]) -> str:
    if owner not in installed:
        return f"Without {owner}, which the baseline has: it explains"
    named = f"{installed[owner]['name']} {_version(installed, owner)}"
    if owner not in known:
        return f"{named}, which the baseline does not have, explains"
    return f"{named} instead of {_version(known, owner)} explains"


def _sentence(reason: _Reason, known: Mapping[str, Any], installed: Mapping[str, Any]) -> str:
    of_target = reason.evidence.side == "target"
    distributions = installed if of_target else known
    where = "" if of_target else " of the baseline"
    stated = f"{reason.owner} {_version(distributions, reason.owner)}{where} requires {reason.text}"
    if reason.refused is None:
        return f"{stated}."
    side = "the baseline" if of_target else "the target"
    return f"{stated}, which does not take {reason.refused} of {side}."


def _forced(finding: Finding, *sides: str) -> set[str]:
    """What the evidence says is forced: the distributions that the requirements quoted from these sides ask for."""
    return {
        wheels.req_name(entry.path[4])
        for entry in finding.evidence
        if len(entry.path) == 5 and entry.path[3] == "requires" and (not sides or entry.side in sides)
    }
