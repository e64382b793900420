"""The databases of rpm that are kept as fixtures, and what a reader finds in one that was damaged."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from types import ModuleType

from driftcheck.probes import os_packages

DATA = Path(__file__).parents[1] / "probes" / "data"
EXPECTED = set((DATA / "rpmdb.expected").read_text().splitlines())
LIMIT = 1 << 20


def fixture(kind: str) -> bytes:
    """The file that real rpm made: ``berkeley``, ``big-endian``, ``ndb``."""
    return lzma.decompress((DATA / f"rpmdb.{kind}.xz").read_bytes())


def found_in(reader: ModuleType, data: bytes) -> tuple[set[str], list[str]]:
    """Names and versions of the packages that a reader finds, and what it says is broken."""
    packages, broken = set(), []
    for blob, reason in reader.headers(io.BytesIO(data), len(data), LIMIT):
        assert (blob is None) == bool(reason)
        if blob is None:
            broken.append(reason)
            continue
        try:
            package = os_packages.rpm_package(os_packages.parse_rpm_header(blob))
        except ValueError as error:
            broken.append(str(error))
        else:
            packages.add(f"{package.name} {package.version} {package.architecture}" if package else "")
    return packages, broken
