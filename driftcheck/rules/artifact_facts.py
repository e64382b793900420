"""What the rules about model files ask of section ``artifacts`` and of the libraries that would read the files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.findings import Evidence, Fix, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules.base import at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot

FILES = ("artifacts", "files")

ONNXRUNTIME = req.variants_of("onnxruntime")

# Where people look for a model file's format is its name; what it holds stands in its facts.
PICKLE_ENDINGS = (".pkl", ".pickle", ".joblib", ".sav")
TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")


def files_of(snapshot: Snapshot | None) -> Mapping[str, dict[str, Any] | None]:
    """The named files by their paths as the user gave them; None for one that is not there."""
    found = (snapshot.facts("artifacts") or {}).get("files", {}) if snapshot is not None else {}
    files: Mapping[str, dict[str, Any] | None] = found
    return files


def present(snapshot: Snapshot | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files that are there, by path."""
    for name, record in sorted(files_of(snapshot).items()):
        if record is not None:
            yield name, record


def with_facts(snapshot: Snapshot | None, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files that have facts of this kind (``onnx``, ``pickle``, ``torch``), with these facts."""
    for name, record in present(snapshot):
        if kind in record:
            yield name, record[kind]


def subject(name: str) -> Subject:
    return Subject("model file", name)


def base_name(name: str) -> str:
    return posixpath.basename(name) or name


def fact(snapshot: Snapshot, name: str, *keys: str, side: str = "target") -> Evidence:
    """A fact of one file as evidence."""
    return at(snapshot, side, *FILES, name, *keys)


def installed(snapshot: Snapshot | None, *names: str) -> tuple[str, dict[str, Any], str] | None:
    """The first of these distributions that is installed: its key, its record, its version; None without one."""
    found = distributions_of(snapshot)
    for name in names:
        if name in found:
            version = req.version_of(found[name])
            if version is not None:
                return name, found[name], version
    return None


def version_evidence(snapshot: Snapshot, name: str, side: str = "target") -> Evidence:
    """The version of an installed distribution, from where it stands."""
    stated = lookup(snapshot, (*DISTRIBUTIONS, name, "version"))
    return at(snapshot, side, *DISTRIBUTIONS, name, "version" if stated else "version_of_folder")


def from_baseline(
    target: Snapshot, baseline: Snapshot | None, *names: str, other_than: str | None = None
) -> tuple[Fix, ...]:
    """The line for pip that brings the first of these distributions at the baseline's version, if that is another."""
    found = installed(baseline, *names)
    if found is None or found[2] == other_than:
        return ()
    return pip_fix(target, f"install {pinned(found[1])}")
