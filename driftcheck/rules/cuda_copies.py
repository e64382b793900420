"""What the rules of family GPU ask of the CUDA libraries: which copies of one there are, and which the loader takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftcheck.findings import Evidence
from driftcheck.rules.base import at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot


@dataclass(frozen=True)
class Copy:
    """One file of a CUDA library: ``cudart``, ``cublasLt``, ``cudnn_ops`` ..."""

    component: str
    file: str
    record: Mapping[str, Any]

    @property
    def path(self) -> tuple[str, ...]:
        return ("cuda", "libraries", self.component, self.file)

    @property
    def directory(self) -> str:
        return self.file.rpartition("/")[0] or "/"

    @property
    def soname(self) -> str:
        return str(self.record["soname"])

    @property
    def version(self) -> tuple[int, ...] | None:
        """Three numbers at the most; None where no more than the generation is stated."""
        numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", self.record["version"] or "")[:3])
        return numbers if len(numbers) > 1 else None

    @property
    def distribution(self) -> str | None:
        found: str | None = self.record["distribution"]
        return found

    @property
    def by_variable(self) -> bool:
        return "LD_LIBRARY_PATH" in self.record["via"]

    @property
    def of_wheel(self) -> bool:
        """Of a wheel that brings it for others: nvidia-cublas-cu12. The loader finds it by the RUNPATH of these."""
        return "search path" in self.record["via"]

    @property
    def of_system(self) -> bool:
        return bool({"cache", "default"} & self.record["via"].keys())

    def evidence(self, snapshot: Snapshot) -> Evidence:
        return at(snapshot, "target", *self.path)


@dataclass(frozen=True)
class Pin:
    """The CUDA library that a wheel of torch was built with, as its metadata pins it.

    ``stated``       the requirement as it stands there
    ``requirement``  for pip: ``nvidia-nccl-cu12==2.27.5``
    """

    stated: str
    requirement: str
    version: tuple[int, ...]

    def explanation(self, taken_instead: Copy) -> str:
        """What torch was built with, and what it gets."""
        why = ", because its directory is in LD_LIBRARY_PATH" if taken_instead.by_variable else ""
        return f"torch requires {self.requirement}, and the loader takes {taken_instead.file}{why}."

    def evidence(self, snapshot: Snapshot) -> Evidence:
        return at(snapshot, "target", *DISTRIBUTIONS, "torch", "requires", self.stated)


def pin_of_torch(snapshot: Snapshot, library: str) -> Pin | None:
    """What torch pins of ``cudnn`` or ``nccl``; None where torch is not there, or states none (conda, from source)."""
    torch = distributions_of(snapshot).get("torch")
    for stated in sorted(torch["requires"] if torch else ()):
        match = re.match(rf"(nvidia-{library}-cu\d+)\s*\(?==\s*(\d{{1,6}}(?:\.\d{{1,6}}){{1,5}})", stated)
        if match:
            numbers = tuple(int(number) for number in match[2].split(".")[:3])
            return Pin(stated, f"{match[1]}=={match[2]}", numbers)
    return None


def text(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version)) if version else "of an unknown version"


def differ(one: Copy, other: Copy) -> bool:
    """Whether both state a version, and not the same."""
    return one.version is not None and other.version is not None and other_version(one.version, other.version)


def other_version(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """As far as both go: 9.1 and 9.1.0 are one."""
    size = min(len(one), len(other))
    return one[:size] != other[:size]


def components(snapshot: Snapshot) -> list[str]:
    return sorted(lookup(snapshot, ("cuda", "libraries")) or {})


def copies(snapshot: Snapshot, component: str) -> list[Copy]:
    """Those that a program may load by their soname: no stubs, and none under a name that a repair tool made."""
    found = []
    for file, record in sorted((lookup(snapshot, ("cuda", "libraries", component)) or {}).items()):
        name, soname = file.rsplit("/", 1)[-1], record["soname"]
        if soname and not record["stub"] and (name == soname or name.startswith(soname + ".")):
            found.append(Copy(component, file, record))
    return found


def taken(snapshot: Snapshot, component: str, soname: str, *, beside: str | None = None) -> Copy | None:
    """The copy that the loader takes for a library of the wheels: LD_LIBRARY_PATH comes before their RUNPATH.

    ``beside``: the directory of the library that asks, which its RUNPATH names.
    """
    found = [copy for copy in copies(snapshot, component) if copy.soname == soname]
    order = lookup(snapshot, ("libraries", "search", "ld_library_path")) or []

    def rank(copy: Copy) -> tuple[int, int]:
        if copy.by_variable:
            return 0, order.index(copy.directory) if copy.directory in order else len(order)
        if beside is not None and copy.directory == beside:
            return 1, 0
        return (2 if copy.of_wheel else 3 if copy.of_system else 4), 0

    # A toolkit that nothing leads to is of no use to the loader.
    reached = sorted((copy for copy in found if rank(copy)[0] < 4 or "conda" in copy.record["via"]), key=rank)
    return reached[0] if reached else None


def provided(snapshot: Snapshot, soname: str) -> list[Copy]:
    """Every copy with this soname."""
    return [copy for name in components(snapshot) for copy in copies(snapshot, name) if copy.soname == soname]


def major(version: str | None) -> str | None:
    """``12`` of ``12.8``, ``12.x``, ``12``."""
    match = re.match(r"\d{1,4}", version or "")
    return match.group() if match else None
