"""The knowledge tables as values. Each row of each table names its source and the date when it was read."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from packaging.specifiers import SpecifierSet

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Row = TypeVar("_Row", bound="DataclassInstance")


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
    return rows(ProgramNeed, "programs")


@functools.cache
def standard_module_needs() -> tuple[StandardModuleNeed, ...]:
    return rows(StandardModuleNeed, "standard-modules")


@functools.cache
def processor_needs() -> tuple[ProcessorNeed, ...]:
    return rows(ProcessorNeed, "processors")


@functools.cache
def library_packages() -> tuple[LibraryPackage, ...]:
    return rows(LibraryPackage, "library-packages")


def table(name: str) -> Mapping[str, Any]:
    """The JSON value of one table; its schema is ``schemas/knowledge-<name>.json``."""
    file = importlib.resources.files("driftcheck.knowledge").joinpath(f"{name.replace('-', '_')}.json")
    loaded: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def rows(kind: type[_Row], name: str) -> tuple[_Row, ...]:
    """The rows of a table as values of a dataclass, whose fields are keys of each row; lists become tuples."""
    keys = [field.name for field in dataclasses.fields(kind)]
    return tuple(
        kind(**{key: tuple(row[key]) if isinstance(row[key], list) else row[key] for key in keys})
        for row in table(name)["rows"]
    )


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
