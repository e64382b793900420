"""The knowledge tables as values. Each row of each table names its source and the date when it was read."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True)
class ProgramNeed:
    """One thing that a distribution looks for at run time; the fields are those of ``knowledge-programs``."""

    distribution: str
    versions: str | None
    kind: str
    any_of: tuple[str, ...]
    when: str
    core: bool
    needed_for: str
    predicted_error: str
    impact: str
    wheel_platform: str | None
    unless_variables: tuple[str, ...]
    unless_distributions: tuple[str, ...]
    debian: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class StandardModuleNeed:
    """A part of the standard library without which ``import`` of a distribution fails."""

    module: str
    distribution: str
    versions: str | None
    predicted_error: str
    source: str


@dataclass(frozen=True)
class ProcessorNeed:
    """Instructions without which the published wheels of a distribution do not run.

    ``flags``  by their names in /proc/cpuinfo
    ``level``  the x86-64 level that has them all
    """

    distribution: str
    versions: str | None
    flags: tuple[str, ...]
    level: str
    predicted_error: str
    source: str


@dataclass(frozen=True)
class LibraryPackage:
    """Which package brings a shared library; the fields are those of ``knowledge-library-packages``."""

    soname: str
    debian: str | None
    debian_t64: str | None
    fedora: str | None
    alpine: str | None
    pip: str | None
    source: str


@functools.cache
def program_needs() -> tuple[ProgramNeed, ...]:
    return tuple(
        ProgramNeed(
            distribution=row["distribution"],
            versions=row["versions"],
            kind=row["kind"],
            any_of=tuple(row["any_of"]),
            when=row["when"],
            core=row["core"],
            needed_for=row["needed_for"],
            predicted_error=row["predicted_error"],
            impact=row["impact"],
            wheel_platform=row["wheel_platform"],
            unless_variables=tuple(row["unless_variables"]),
            unless_distributions=tuple(row["unless_distributions"]),
            debian=tuple(row["debian"]),
            source=row["source"],
        )
        for row in table("programs")["rows"]
    )


@functools.cache
def standard_module_needs() -> tuple[StandardModuleNeed, ...]:
    return tuple(
        StandardModuleNeed(
            module=row["module"],
            distribution=row["distribution"],
            versions=row["versions"],
            predicted_error=row["predicted_error"],
            source=row["source"],
        )
        for row in table("standard-modules")["rows"]
    )


@functools.cache
def processor_needs() -> tuple[ProcessorNeed, ...]:
    return tuple(
        ProcessorNeed(
            distribution=row["distribution"],
            versions=row["versions"],
            flags=tuple(row["flags"]),
            level=row["level"],
            predicted_error=row["predicted_error"],
            source=row["source"],
        )
        for row in table("processors")["rows"]
    )


@functools.cache
def library_packages() -> tuple[LibraryPackage, ...]:
    return tuple(
        LibraryPackage(
            soname=row["soname"],
            debian=row["debian"],
            debian_t64=row["debian_t64"],
            fedora=row["fedora"],
            alpine=row["alpine"],
            pip=row["pip"],
            source=row["source"],
        )
        for row in table("library-packages")["rows"]
    )


def table(name: str) -> Mapping[str, Any]:
    """The JSON value of one table; its schema is ``schemas/knowledge-<name>.json``."""
    file = importlib.resources.files("driftcheck.knowledge").joinpath(f"{name.replace('-', '_')}.json")
    loaded: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


@functools.lru_cache(maxsize=1024)
def in_range(versions: str | None, version: str | None) -> bool:
    """Whether a row speaks of this version: None speaks of all; a version that cannot be read is in none."""
    if versions is None:
        return True
    if not version:
        return False
    try:
        return SpecifierSet(versions).contains(version, prereleases=True)
    except ValueError:
        return False
