"""Distributions of whose extension modules this interpreter sees none: whether they go on, and what the import prints.

The probe read it in the sources (``unseen_modules`` in schemas/sections/libraries.json). Snapshots without it, and
those of what the sources do not tell, prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from driftcheck.findings import Evidence, Impact
from driftcheck.rules import importing
from driftcheck.rules import requirements as req
from driftcheck.rules.base import at, lookup
from driftcheck.rules.distributions import distributions_of
from driftcheck.snapshot import Snapshot

_PATH = ("libraries", "distributions")
_ANSWERS = frozenset({"instead", "caught"})
# Sentences name so many modules of one distribution.
_NAMED = 3


def facts_of(snapshot: Snapshot, name: str) -> Mapping[str, Any]:
    """What becomes of a distribution; empty where that is not known."""
    facts: Mapping[str, Any] = lookup(snapshot, (*_PATH, name, "unseen_modules")) or {}
    return facts


def evidence_of(snapshot: Snapshot, name: str) -> list[Evidence]:
    return [at(snapshot, "target", *_PATH, name, "unseen_modules")] if facts_of(snapshot, name) else []


def start_of(snapshot: Snapshot, name: str) -> Mapping[str, Any]:
    """The import that surely fails; empty where none is proved."""
    start: Mapping[str, Any] = facts_of(snapshot, name).get("start", {})
    return start


def goes_on(snapshot: Snapshot, name: str) -> bool:
    """Whether its own sources do without each of the modules: another stands in, or the error is caught."""
    facts = facts_of(snapshot, name)
    if not facts or "start" in facts or not facts["complete"] or not _is_for_this_python(snapshot, name):
        return False
    asked = [by for by in facts.get("importers", {}).values() if by]
    if facts["count"] and not asked and not facts.get("twins"):
        return False
    return all(_is_spared(by) for by in asked)


def _is_spared(by: Mapping[str, Any]) -> bool:
    """By the statements that import one module: each has an answer, or another module stands in and none surely runs.

    cffi catches the error in two of its sources, and the function that everybody calls fails. SQLAlchemy asks a flag
    before every import but one, which runs after such a question.
    """
    ways = [entry["way"] for entry in by.values() if not (entry["way"] == "guarded" or _ANSWERS & entry.keys())]
    replaced = any("instead" in entry for entry in by.values())
    return not ways or (replaced and set(ways) <= {"function", "conditional"})


def impact_of(snapshot: Snapshot, names: Iterable[str]) -> Impact:
    """What it means that none of these finds its extension modules."""
    return Impact.SLOWS if all(goes_on(snapshot, name) for name in names) else Impact.BREAKS


def error_of(snapshot: Snapshot, name: str) -> str | None:
    """What the import prints, where it is proved and the package is for this Python at all."""
    error = start_of(snapshot, name).get("error")
    return str(error) if error and _is_for_this_python(snapshot, name) else None


def sentence(snapshot: Snapshot, name: str, title: str) -> str:
    """What becomes of it; empty where it is not known. ``title`` is the name by which the distribution goes."""
    facts = facts_of(snapshot, name)
    start = start_of(snapshot, name)
    if start:
        module = start["module"]
        return f"`{module}` is not found. {importing.sentence({'importers': {'by': {}, 'start': start}}, title, ())}"
    if not goes_on(snapshot, name):
        return ""
    twins, tried = facts.get("twins", {}), {module: by for module, by in facts.get("importers", {}).items() if by}
    said = [f"Python takes {_listed(sorted(twins))} in the place of what is compiled."] if twins else []
    for module, by in sorted(tried.items())[:_NAMED]:
        where, entry = min(
            by.items(), key=lambda item: ("instead" not in item[1], item[1]["way"] != "guarded", item[0])
        )
        place = importing.place(entry.get("through", where))
        other = f" and takes {_listed(sorted(entry['instead']))}" if "instead" in entry else ""
        how = "catches the error" if entry["way"] == "guarded" or "caught" in entry else "asks before"
        said.append(f"It goes on without {module}: {place} {how}{other}.")
    return " ".join(said) + " So it is slower, or lacks a part."


def _is_for_this_python(snapshot: Snapshot, name: str) -> bool:
    """Whether its sources are written for this Python; else they fail in many ways."""
    version = str(lookup(snapshot, ("python", "version")) or "").rstrip("+")
    try:
        bounds = SpecifierSet(distributions_of(snapshot)[name]["requires_python"] or "")
    except InvalidSpecifier:
        return True
    return req.parsed(version) is None or req.satisfies(version, bounds)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
