"""Questions that several families ask of the installed wheels: what were they built for, does it fit here?

PKG007 speaks of each wheel that does not fit. The rules about another interpreter, libc, machine or platform
name the cause once, and ask here whether the cause has reached the installed wheels at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.tags import Tag

from driftcheck.findings import Evidence, Fix
from driftcheck.probes.packages import normalize
from driftcheck.rules import requirements as req
from driftcheck.rules import unseen
from driftcheck.rules.base import lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot

# How many distributions are named before "and N more", and how many stand as evidence.
NAMED = 4

_SYSTEMS = {"manylinux": "linux", "musllinux": "linux", "linux": "linux", "macosx": "darwin", "win": "win32"}
_LIBCS = {"manylinux": "glibc", "musllinux": "musl"}
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def machine(name: str | None) -> str | None:
    """One name for one architecture: macOS and Windows write others than Linux."""
    return _MACHINES.get(name.lower(), name.lower()) if name else None


def for_other_interpreter(snapshot: Snapshot) -> list[str]:
    """Distributions whose wheel holds code for another Python or ABI than the interpreter's."""
    accepted = lookup(snapshot, ("python", "tags", "interpreters")) or []
    if not accepted:
        return []
    misfits = _misfits(snapshot, lambda tag: req.interpreter_of(tag) in accepted or _pure(tag))
    return [name for name in misfits if not has_libraries_only(snapshot, name)]


def has_libraries_only(snapshot: Snapshot, name: str) -> bool:
    """Whether its machine code was read, and none of it is an extension module: it is opened by name, by any Python.

    decord 0.6 is so, and its WHEEL says cp36 where its file's name said py3.
    """
    counted: Mapping[str, Any] | None = lookup(snapshot, ("libraries", "distributions", name))
    return (
        counted is not None and not counted["modules"] and "foreign_modules" not in counted and counted["libraries"] > 0
    )


def for_other_system(snapshot: Snapshot) -> list[str]:
    """Distributions whose wheel is for another operating system."""
    here = lookup(snapshot, ("python", "platform", "system"))
    if here not in _SYSTEMS.values():
        return []
    return _misfits(snapshot, lambda tag: _SYSTEMS.get(req.platform_of(tag.platform).kind, here) == here)


def for_other_libc(snapshot: Snapshot, here: str) -> list[str]:
    """Distributions whose wheel is for Linux with the other C library."""
    return _misfits(snapshot, lambda tag: _LIBCS.get(req.platform_of(tag.platform).kind, here) == here)


def for_other_machine(snapshot: Snapshot, here: str) -> list[str]:
    """Distributions whose wheel is for another architecture (universal ones hold several)."""

    def fits(tag: Tag) -> bool:
        name = req.platform_of(tag.platform).machine
        return not name or name.startswith("universal") or machine(name) == here

    return _misfits(snapshot, fits)


def _pure(tag: Tag) -> bool:
    return tag.abi == "none" and tag.platform == "any"


def _misfits(snapshot: Snapshot, fits: Any) -> list[str]:
    """Normalised names, sorted. A distribution that states no tags fits."""
    found = []
    for name, record in sorted(distributions_of(snapshot).items()):
        tags = req.wheel_tags(record)
        if tags and not any(fits(tag) for tag in tags):
            found.append(name)
    return found


def listed(names: Sequence[str]) -> str:
    """``numpy, regex, torch and 12 more``."""
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def tag_evidence(snapshot: Snapshot, names: Sequence[str]) -> list[Evidence]:
    """The tags of the first few."""
    paths = [(*DISTRIBUTIONS, name, "tags") for name in names[:NAMED]]
    return [Evidence("target", path, lookup(snapshot, path)) for path in paths]


def first_error(snapshot: Snapshot, names: Sequence[str]) -> str | None:
    """What the first import prints where Python does not see the extension modules of these.

    It looks for them by the endings that it knows; those of another Python, libc or machine are not there.
    Each text here was seen with NumPy 1.26.4 and 2.4.6, onnxruntime 1.31.1 and torch 2.13.0 on a Python of another
    version. Others are told where the sources prove them.
    """
    if "numpy" in names:
        version = req.parsed(req.version_of(distributions_of(snapshot)["numpy"]))
        core = "core" if version is not None and version.major < 2 else "_core"
        return f"ModuleNotFoundError: No module named 'numpy.{core}._multiarray_umath'"
    if "torch" in names:
        return "ImportError: Failed to load PyTorch C extensions:"
    if any(name.startswith("onnxruntime") for name in names):
        return "ModuleNotFoundError: No module named 'onnxruntime.capi.onnxruntime_pybind11_state'"
    return next(filter(None, (unseen.error_of(snapshot, name) for name in names)), None)


def rebuild_fix() -> Fix:
    return Fix(
        "advice",
        "Install the packages with the interpreter and on the platform that will run them (python -m pip "
        "install "
        "-r requirements.txt there) instead of copying site-packages or a virtual environment.",
    )


def by_marker(baseline: Snapshot, target: Snapshot, variables: Sequence[str]) -> list[Evidence]:
    """Why distributions stand on one side only: requirements whose marker holds there and not on the other.

    Only markers that ask for one of ``variables`` (PEP 508) count. The evidence is the marker, at its place.
    """
    environments = {side: _environment(snapshot) for side, snapshot in (("baseline", baseline), ("target", target))}
    found: list[Evidence] = []
    for side, here, there in (("baseline", baseline, target), ("target", target, baseline)):
        other = "target" if side == "baseline" else "baseline"
        only = distributions_of(here).keys() - distributions_of(there).keys()
        for owner, record in sorted(distributions_of(here).items()):
            for text, marker in sorted(record["requires"].items()):
                if (
                    any(variable in marker for variable in variables)
                    and req_name(text) in only
                    and req.holds(marker, environments[side])
                    and not req.holds(marker, environments[other])
                ):
                    found.append(Evidence(side, (*DISTRIBUTIONS, owner, "requires", text), marker))
    return found[:MARKERS_SHOWN]


# A platform changes the set of packages by a dozen at the most (colorama, uvloop, nvidia-*); more would be no
# evidence but a listing.
MARKERS_SHOWN = 40


def explained_by_marker(evidence: Sequence[Evidence], path: Sequence[str]) -> bool:
    """Whether this added or removed distribution is the one that such a marker asked for."""
    if len(path) != 3 or tuple(path[:2]) != DISTRIBUTIONS:
        return False
    return any(
        len(entry.path) == 5 and entry.path[3] == "requires" and req_name(entry.path[4]) == path[2]
        for entry in evidence
    )


def req_name(requirement: str) -> str:
    """``nvidia-nccl-cu12`` from ``nvidia_nccl_cu12==2.27; ...``."""
    name = ""
    for sign in requirement.strip():
        if not (sign.isalnum() or sign in "-_."):
            break
        name += sign
    normalised: str = normalize(name)
    return normalised


def _environment(snapshot: Snapshot) -> dict[str, str]:
    return req.marker_environment(snapshot.facts("python") or {})
