"""Family PKG: pairs of distributions that are known not to work together, where no metadata says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from driftcheck.findings import Confidence, Finding, Impact, Subject
from driftcheck.knowledge import tables
from driftcheck.knowledge.pairs import Pair, pairs
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, at
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix, titled
from driftcheck.snapshot import Snapshot


class PKG012(Contradiction):
    """Two distributions are known not to work together, although their metadata allows it.

    Compares: the versions of installed distributions with a table of pairs.

    Why: a distribution states the oldest version of another that it works with, and cannot know the newer one
    that will take a name away: cached_download left huggingface_hub 0.26, pkg_resources left setuptools 82,
    protobuf 4 refuses code that older compilers generated. Or it requires nothing and asks when it is imported, as
    pyarrow 26 does for NumPy 2. Every package checker is content.

    See: `ImportError: cannot import name 'cached_download' from 'huggingface_hub'`, `ModuleNotFoundError: No
    module named 'pkg_resources'`, `TypeError: Descriptors cannot be created directly.`, `ImportError: pyarrow requires
    NumPy 2.0 or newer, found 1.26.4`

    Decided: a row of the table holds: breaks, likely where it was made to happen, else possible. Where the
    metadata forbids the pair too, PKG001 says so, and this rule says nothing.

    Fix: the version of the baseline, where the one that changed since then is a version that works; else the version
    of the other one that still has it, or a newer version of the first.

    Limits: only what the table knows. Names that a module imports are not read from its files; --try-imports
    shows such an error.
    """

    code = "PKG012"
    name = "known-incompatible-pair"
    reads = ("packages", "python")
    references = (
        "https://github.com/easydiffusion/easydiffusion/issues/1851",
        "https://github.com/pre-commit/pre-commit/issues/3621",
        "https://github.com/protocolbuffers/protobuf/issues/10064",
        "https://github.com/huggingface/transformers/issues/36410",
        "https://github.com/apache/arrow/pull/50769",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        installed = distributions_of(target)
        forbidden = {(unmet.owner, unmet.name) for unmet in req.unmet(installed, target.facts("python") or {})}
        for pair in pairs():
            if _holds(pair, target) and (pair.distribution, pair.other) not in forbidden:
                yield self._finding(pair, target, baseline)

    def _finding(self, pair: Pair, target: Snapshot, baseline: Snapshot | None) -> Finding:
        installed = distributions_of(target)
        other = installed.get(pair.other)
        names = [pair.distribution, *([pair.other] if other else []), *([pair.beside] if pair.beside else [])]
        beside = f"beside {titled(other)}" if other else f"without {pair.other}"
        finding = self.finding(
            Impact.BREAKS,
            Confidence(pair.confidence),
            f"{titled(installed[pair.distribution])} does not work {beside}",
            Subject("distribution", pair.distribution),
            f"Versions {pair.versions} of {pair.distribution} are known to fail beside {pair.other} "
            f"{pair.other_versions}{' or without it' if pair.missing_too else ''}. Their metadata does not say so.",
            predicted_error=pair.predicted_error.replace("{other}", (req.version_of(other) or "") if other else ""),
            evidence=[at(target, "target", *DISTRIBUTIONS, name, "version") for name in names],
            fix=pip_fix(target, _mending(pair, target, baseline)),
        )
        return replace(finding, references=(pair.source,))


def _mending(pair: Pair, target: Snapshot, baseline: Snapshot | None) -> str:
    """What to hand to pip: one of the two as the baseline has it, where that makes the pair one that works."""
    installed = distributions_of(target)
    known = distributions_of(baseline)
    for name, failing in ((pair.other, pair.other_versions), (pair.distribution, pair.versions)):
        version = req.version_of(known[name]) if name in known else None
        parsed = req.parsed(version) is not None
        if parsed and not tables.in_range(failing, version) and version != _version(installed, name):
            return f"install {pinned(known[name])}"
    return f'install "{pair.fix}"'


def _version(installed: Mapping[str, Any], name: str) -> str | None:
    return req.version_of(installed[name]) if name in installed else None


def _holds(pair: Pair, target: Snapshot) -> bool:
    installed = distributions_of(target)
    record, other = installed.get(pair.distribution), installed.get(pair.other)
    if record is None or not tables.in_range(pair.versions, req.version_of(record)):
        return False
    if pair.beside is not None and pair.beside not in installed:
        return False
    if pair.unless is not None and pair.unless in installed:
        return False
    return pair.missing_too if other is None else tables.in_range(pair.other_versions, req.version_of(other))
