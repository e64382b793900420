"""What of CUDA stands in no artefact: which driver runs which toolkit, which device runs which code.

Versions are tuples of numbers here; what is no version gives None, which is "not known" to every caller.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from driftcheck.knowledge import tables

Version = tuple[int, ...]
Level = tuple[int, int]  # major and minor version of CUDA, or of a compute capability


@dataclass(frozen=True)
class ToolkitDriver:
    """The driver for Linux that came with one release of the toolkit."""

    cuda: Level
    release: str
    driver: str
    source: str


@dataclass(frozen=True)
class Family:
    """The oldest driver on which programs for any toolkit of one major version start."""

    major: int
    driver: str
    source: str


@functools.cache
def toolkit_drivers() -> tuple[ToolkitDriver, ...]:
    """Newest first."""
    return tuple(
        ToolkitDriver(_known(row["cuda"]), row["release"], row["driver"], row["source"])
        for row in tables.table("cuda-drivers")["rows"]
    )


@functools.cache
def families() -> dict[int, Family]:
    """By the major version of CUDA; 11 and newer."""
    return {
        row["major"]: Family(row["major"], row["driver"], row["source"])
        for row in tables.table("cuda-families")["rows"]
    }


@functools.cache
def forward_branches() -> dict[Level, frozenset[int]]:
    """Branches of the kernel's driver on which the compat package of a release may be used."""
    return {
        _known(row["cuda"]): frozenset(row["branches"]) for row in tables.table("cuda-forward-compatibility")["rows"]
    }


@functools.cache
def ptx_levels() -> dict[Level, Level]:
    """The lowest CUDA level of a driver that translates a version of PTX."""
    return {_known(row["ptx"]): _known(row["cuda"]) for row in tables.table("cuda-ptx")["rows"]}


@dataclass(frozen=True)
class Architecture:
    """Devices that run machine code for one architecture; the fields are those of ``knowledge-cuda-architectures``."""

    first: Level
    only: frozenset[Level] | None
    doubtful: frozenset[Level]


@functools.cache
def architectures() -> dict[int, Architecture]:
    """By the number of the code: 86 for sm_86."""
    return {
        row["code"]: Architecture(
            first=_known(row["from"]),
            only=None if row["only"] is None else frozenset(map(_known, row["only"])),
            doubtful=frozenset(map(_known, row["doubtful"])),
        )
        for row in tables.table("cuda-architectures")["rows"]
    }


def version(text: object) -> Version | None:
    """``535.104.05`` -> (535, 104, 5); None for what is no dotted number."""
    if not isinstance(text, str) or not re.fullmatch(r"\d{1,9}(?:\.\d{1,9}){0,7}", text):
        return None
    return tuple(int(part) for part in text.split("."))


def level(text: object) -> Level | None:
    """``12.8``, ``12.8.1`` -> (12, 8); ``12`` and ``12.x`` -> (12, 0), their lowest."""
    found = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?(?![\d])", text) if isinstance(text, str) else None
    return (int(found[1]), int(found[2] or 0)) if found else None


def _known(text: str) -> Level:
    found = level(text)
    if found is None:
        raise ValueError(text)
    return found


def spelled(value: Level) -> str:
    """``(12, 8)`` -> ``12.8``."""
    return f"{value[0]}.{value[1]}"


def level_of_driver(driver: object) -> Level | None:
    """The CUDA level of a driver for Linux, by its branch: that of the newest toolkit whose first driver is of the
    same branch or an older one (no driver came with a toolkit 12.7, so 565 counts as 12.6). None where it is older
    than the table or no version.
    """
    found = version(driver)
    if found is None:
        return None
    levels = [row.cuda for row in toolkit_drivers() if (version(row.driver) or found)[0] <= found[0]]
    return max(levels, default=None)


def first_driver(wanted: Level) -> str | None:
    """The oldest driver in the table whose CUDA level is at least this."""
    rows = [row for row in toolkit_drivers() if row.cuda >= wanted]
    return min(rows, key=lambda row: (row.cuda, version(row.driver) or ())).driver if rows else None


def needed_level(runtime: Level) -> Level:
    """The CUDA level that a driver must have for programs of a toolkit to start on it: from CUDA 11 on any of the same
    major version does.
    """
    return (runtime[0], 0) if runtime[0] in families() or runtime[0] > max(families()) else runtime


@dataclass(frozen=True)
class Target:
    """What device code was made for. ``kind`` "sm" or "compute"; ``suffix`` "", "a" or "f"."""

    kind: str
    number: int
    suffix: str

    @property
    def capability(self) -> Level:
        return self.number // 10, self.number % 10


@functools.lru_cache(maxsize=512)
def target(name: str) -> Target | None:
    """``sm_90a``, ``compute_80``; None for anything else."""
    found = re.fullmatch(r"(sm|compute)_(\d{2,4})([af]?)", name)
    return Target(found[1], int(found[2]), found[3]) if found else None


@functools.lru_cache(maxsize=4096)
def runs_on(name: str, device: Level) -> bool | None:
    """Whether a device runs this machine code or translates this PTX. None where that is not known: a name that is
    none, or a device that takes its neighbours' code with some toolkits only.

    Machine code runs on its own major number, from its minor number on; PTX on everything from its number on;
    with the suffix a on that device alone; with f on its family, which is the same major number.
    """
    wanted = target(name)
    if wanted is None:
        return None
    first = wanted.capability
    known = architectures().get(wanted.number)
    devices = known.only if known else None
    if wanted.suffix == "a":
        return device in (devices or {first})
    if wanted.kind == "compute" and not wanted.suffix:
        return device >= first
    if devices is not None:
        return device in devices
    if device[0] != first[0] or device[1] < first[1]:
        return False
    return None if known and device in known.doubtful else True


def ptx_level(text: object) -> Level | None:
    """The lowest CUDA level of a driver that translates PTX of a version ("9.0"). None where the table does not know
    it.
    """
    found = level(text)
    return ptx_levels().get(found) if found else None
