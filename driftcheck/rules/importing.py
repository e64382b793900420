"""Who imports a module that cannot be loaded: what that makes of it, and in words.

The probe read it in the sources (``importers`` in schemas/sections/libraries.json); snapshots without it tell nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


class Standing(Enum):
    """What a module is to its package."""

    NEEDED = "needed"  # an import of the package surely comes to it
    IMPORTED = "imported"  # a source imports it, and fails with it
    UNKNOWN = "unknown"  # nothing was read, or what was read does not tell
    CALLED = "called"  # only functions import it, when they are called
    TRIED = "tried"  # every import of it is caught, and the package goes on


_CERTAIN = frozenset({"plain", "reworded"})


def standing_of(record: Mapping[str, Any]) -> Standing:
    """The standing of a module by its record in section ``libraries``."""
    importers = record.get("importers")
    if importers is None:
        return Standing.UNKNOWN
    if "start" in importers:
        return Standing.NEEDED
    ways = {entry["way"] for entry in importers["by"].values()}
    if ways & _CERTAIN:
        return Standing.IMPORTED
    if not ways or "conditional" in ways or not importers["complete"]:
        return Standing.UNKNOWN
    return Standing.CALLED if "function" in ways else Standing.TRIED


def is_presumed(record: Mapping[str, Any]) -> bool:
    """Whether the sources were read, and do not prove that something fails with the module."""
    return "importers" in record and standing_of(record) not in {Standing.NEEDED, Standing.IMPORTED}


def is_unasked(record: Mapping[str, Any]) -> bool:
    """Whether all sources were read and neither they nor compiled code of the distribution import the module."""
    importers = record.get("importers", {})
    return bool(importers.get("complete")) and not importers["by"] and not {"start", "named_in"} & importers.keys()


def alternatives_of(record: Mapping[str, Any]) -> set[str]:
    """Modules that stand in for this one where it is tried."""
    by: Mapping[str, Any] = record.get("importers", {}).get("by", {})
    return {name for entry in by.values() for name in entry.get("instead", ())}


def sentence(record: Mapping[str, Any], package: str, instead: Sequence[str]) -> str:
    """Who imports the module and what becomes of it; empty where nothing is known.

    ``package`` whose module it is, ``instead`` the modules that stand in for it and can be loaded.
    """
    importers = record.get("importers")
    if importers is None:
        return ""
    places = [place(where) for where in importers["by"]]
    standing = standing_of(record)
    if standing is Standing.NEEDED:
        return _chain(importers["start"])
    if standing is Standing.IMPORTED:
        first = next(where for where, entry in sorted(importers["by"].items()) if entry["way"] in _CERTAIN)
        return f"`import {_module(first)}` fails: {place(first)} imports it."
    if standing is Standing.TRIED:
        where = next(iter(sorted(importers["by"].items(), key=lambda item: "instead" not in item[1])))
        other = f" and takes {' or '.join(instead)}" if instead else ""
        return f"{package} goes on without it: {place(where[1].get('through', where[0]))} catches the error{other}."
    if standing is Standing.CALLED:
        first = next(where for where, entry in sorted(importers["by"].items()) if entry["way"] == "function")
        return f"{package} starts without it; the function that imports it fails when it is called: {place(first)}."
    if places:
        return f"{places[0]} imports it, on a condition."
    if "named_in" in importers:
        return f"{importers['named_in']} holds its name, so it presumably imports it."
    return f"No source of {package} imports it, so whether the service does is not known."


def _chain(start: Mapping[str, Any]) -> str:
    chain = [place(where) for where in start["chain"]]
    fails = f"`import {start['package']}` fails" + (", in words of its own" if start["reworded"] else "")
    if not chain:
        return f"{fails}."
    if len(chain) == 1:
        return f"{fails}: {chain[0]} imports it."
    return f"{fails}: {chain[0]} leads to {', then '.join(chain[1:])}, which imports it."


def place(where: str) -> str:
    file, _, line = where.rpartition(":")
    return f"{file} (line {line})"


def _module(where: str) -> str:
    file = where.rpartition(":")[0].removesuffix(".py").removesuffix("/__init__")
    return file.replace("/", ".")
