"""What the rules about pickles ask alike: what a load meets first, and of which scikit-learn a file is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from driftcheck.findings import Fix
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import requirements as req
from driftcheck.rules.distributions import pip_fix
from driftcheck.snapshot import Snapshot

# A Cython module that scikit-learn pickles by a name that it has only once another module of it was imported
# (sklearn/_loss/_loss.pyx). Another version has no such name, or not that function in it.
MADE_WHILE_IMPORTED = frozenset({"_loss"})
OF_SCIKIT_LEARN = frozenset({"sklearn"}) | MADE_WHILE_IMPORTED


def same_scikit_learn(target: Snapshot, facts: Mapping[str, Any]) -> bool:
    """Whether the installed scikit-learn is of the minor version that wrote the file."""
    found = art.installed(target, "scikit-learn")
    here = req.parsed(found[2]) if found else None
    wrote = [req.parsed(version) for version in facts.get("scikit_learn", {})]
    return here is not None and any(one is not None and one.release[:2] == here.release[:2] for one in wrote)


def first_missing(target: Snapshot, facts: Mapping[str, Any]) -> float:
    """How many names are met before the first whose module is missing; infinite where none is."""
    missing = set(facts.get("missing_modules", {}))
    if same_scikit_learn(target, facts):
        missing -= MADE_WHILE_IMPORTED
    return min((place for module in missing for place in facts["globals"].get(module, {}).values()), default=math.inf)


def scikit_learn_fix(target: Snapshot, versions: Mapping[str, Any]) -> tuple[Fix, ...]:
    """The newest version that wrote a part of the file."""
    known = [version for version in map(req.parsed, versions) if version is not None]
    return pip_fix(target, f"install scikit-learn=={max(known)}") if known else ()
