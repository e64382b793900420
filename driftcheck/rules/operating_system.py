"""Family SYS: another platform, C library or release of the operating system under the same packages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects, unseen, wheels
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Drift, Sides, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot


class SYS001(Drift):
    """The target is another platform: Linux, macOS or Windows.

    Compares: sys.platform of the two interpreters, and the wheel tags of what is installed in the target.

    Why: wheels, paths, system packages, the C library, the file system and the set of dependencies all
    differ between platforms, and hundreds of differences follow from this one. Matrix routines come from
    other libraries too (Accelerate on macOS), so results may differ in the last digits.

    See: nothing, where the packages were installed on this platform. Where they were copied from the other
    one: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'` or `invalid ELF header`.

    Decided: wheels of another platform are installed in the target: breaks, likely; PKG007 names each of
    them. Else: changes-results, possible.

    Fix: compare with an environment of the platform that will serve, such as a container of the image.

    Limits: what folds under this cause is decided by the kind of fact. A package whose version differs, or
    that no marker of another package asks for, is reported apart.
    """

    code = "SYS001"
    name = "other-platform"
    reads = ("python",)
    references = (
        "https://docs.python.org/3/library/sys.html#sys.platform",
        "https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = platform_of(baseline), platform_of(target)
        if before is None or after is None or before == after:
            return
        misfits = wheels.for_other_system(target)
        here, there = _PLATFORMS.get(after, after), _PLATFORMS.get(before, before)
        evidence = [
            at(baseline, "baseline", "python", "platform", "system"),
            at(target, "target", "python", "platform", "system"),
            *wheels.tag_evidence(target, misfits),
            *wheels.by_marker(baseline, target, _PLATFORM_MARKERS),
        ]
        if misfits:
            yield self.finding(
                unseen.impact_of(target, misfits),
                Confidence.LIKELY,
                f"{here} instead of {there}, with packages that were installed for {there}",
                Subject("platform", "system"),
                f"The wheels of {wheels.listed(misfits)} are for another platform; no code in them can be loaded here.",
                predicted_error=wheels.first_error(target, misfits),
                evidence=evidence,
                fix=[wheels.rebuild_fix()],
            )
        else:
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.POSSIBLE,
                f"{here} instead of {there}",
                Subject("platform", "system"),
                "Another platform explains other wheels, paths, system libraries and limits. The packages fit the "
                "platform that they are on; their numerical libraries are other builds.",
                evidence=evidence,
                fix=[Fix("advice", f"Compare with an environment on {there}, such as a container of the image.")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        path = change.path
        if change.section in {"system", "programs", "machine", "limits", "libraries"}:
            return True
        if change.section == "python":
            return path[1] not in _OF_PYTHON_ITSELF and path[1:3] != ("tags", "interpreters")
        if change.section == "packages":
            return (
                effects.is_platform_tag(change)
                or effects.is_record(change)
                or (len(path) == 4 and path[3] == "location")
                or wheels.explained_by_marker(finding.evidence, path)
            )
        return change.section == "variables" and len(path) > 2 and path[2] in _PLATFORM_VARIABLES

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding
        return effects.required_by_marker(effect, _PLATFORM_MARKERS) or effects.misfits(
            effect, sides.target, sides.of_target(wheels.for_other_system)
        )


_PLATFORM_MARKERS = ("sys_platform", "platform_system", "os_name")

_PLATFORMS = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}

# Facts of section python that the platform does not set.
_OF_PYTHON_ITSELF = frozenset(
    {
        "implementation",
        "version",
        "cache_tag",
        "free_threaded",
        "gil_enabled",
        "debug",
        "bits",
        "shadowed_modules",
    }
)

# Variables that hold paths, which every platform writes in its own way.
_PLATFORM_VARIABLES = frozenset(
    """
    PATH HOME TMPDIR LANG LD_LIBRARY_PATH DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH SSL_CERT_FILE
    SSL_CERT_DIR TEMP TMP SystemRoot SYSTEMROOT PATHEXT APPDATA LOCALAPPDATA COMSPEC USERPROFILE
    """.split()  # noqa: SIM905 - a list of words to read
)


def platform_of(snapshot: Snapshot) -> str | None:
    """sys.platform of the interpreter."""
    found: str | None = lookup(snapshot, ("python", "platform", "system"))
    return found


class SYS002(Drift):
    """The target has another C library: musl instead of glibc, or glibc instead of musl.

    Compares: the family of the C library of the two environments, and the wheel tags of what is installed
    in the target.

    Why: a manylinux wheel is compiled for glibc and asks for files and symbols that musl does not have; a
    musllinux wheel asks for musl. Interpreters for musl also look for other file name endings
    (-linux-musl.so), so most extension modules are not even found. Where everything was installed for the C
    library that is there, what stays is another allocator, other mathematical functions and smaller thread
    stacks.

    See: with an interpreter that looks for the same endings, or for abi3 modules, on musl: `ImportError:
    Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by ...)` or `Error
    relocating ...: register_printf_specifier: symbol not found`. With other endings: `ModuleNotFoundError:
    No module named 'numpy._core._multiarray_umath'`. A musl library on glibc: `libc.musl-x86_64.so.1:
    cannot open shared object file: No such file or directory`.

    Decided: wheels for the other C library are installed in the target: breaks, likely (possible where
    gcompat stands in for glibc); PKG007 names each of them. None: changes-results, possible. The texts of
    musl were seen with musl 1.2.3 and the libraries of NumPy 2.4.6.

    Fix: take a base image with the C library of the baseline, or install the packages inside the target.

    Limits: libraries that were installed without wheel tags are not looked at here. Which file the loader
    reaches first decides the text; family LIB reads the files themselves.
    """

    code = "SYS002"
    name = "other-libc"
    reads = ("python",)
    references = (
        "https://wiki.musl-libc.org/functional-differences-from-glibc",
        "https://peps.python.org/pep-0656/",
        "https://peps.python.org/pep-0600/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = libc_of(baseline), libc_of(target)
        if before is None or after is None or before[0] == after[0]:
            return
        family, where = after
        misfits = wheels.for_other_libc(target, family)
        evidence = [
            at(baseline, "baseline", *before[1]),
            at(target, "target", *where),
            *wheels.tag_evidence(target, misfits),
        ]
        if misfits:
            stand_in = _stand_in(target) if family == "musl" else None
            if stand_in:
                evidence.append(at(target, "target", "system", "packages", "packages", stand_in))
            kind = "manylinux" if family == "musl" else "musllinux"
            yield self.finding(
                unseen.impact_of(target, misfits),
                Confidence.POSSIBLE if stand_in else Confidence.LIKELY,
                f"{family} instead of {before[0]}, with {kind} wheels installed",
                Subject("libc", "family"),
                f"The wheels of {wheels.listed(misfits)} were made for {before[0]} and do not load on "
                f"{family}." + (f" {stand_in} supplies a part of glibc, and some may load." if stand_in else ""),
                predicted_error=_loader_error(baseline, target, family, misfits),
                evidence=evidence,
                fix=[*_image_fix(target, before[0]), wheels.rebuild_fix()],
            )
        else:
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.POSSIBLE,
                f"{family} instead of {before[0]}",
                Subject("libc", "family"),
                "No wheel for the other C library is installed. Mathematical functions, memory allocation "
                "and the size of thread stacks still differ between the two.",
                evidence=evidence,
                fix=_image_fix(target, before[0]),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        path = change.path
        if change.section == "python":
            return path[1] in {"soabi", "extension_suffixes"} or path[1:3] in {
                ("platform", "libc"),
                ("platform", "libc_version"),
                ("tags", "platforms"),
            }
        if change.section == "packages":
            return effects.is_record(change) or (effects.is_platform_tag(change) and "linux" in path[4])
        return change.section == "system" and path[1] == "libc"

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding
        family = libc_of(sides.target)
        return family is not None and effects.misfits(
            effect, sides.target, wheels.for_other_libc(sides.target, family[0])
        )


def libc_of(snapshot: Snapshot) -> tuple[str, tuple[str, ...]] | None:
    """(glibc or musl, where that fact stands), or None: not Linux, or not known."""
    for path in (("python", "platform", "libc"), ("system", "libc", "family")):
        family = lookup(snapshot, path)
        if family in {"glibc", "musl"}:
            return family, path
    return None


def _stand_in(target: Snapshot) -> str | None:
    """Alpine's packages that supply glibc's loader and some of its symbols."""
    packages = lookup(target, ("system", "packages", "packages")) or {}
    return next((name for name in ("gcompat", "libc6-compat") if name in packages), None)


_LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1", "x86": "ld-linux.so.2"}


def _loader_error(baseline: Snapshot, target: Snapshot, family: str, misfits: Sequence[str]) -> str | None:
    """The first error, in the words of whoever sees the wrong file first: Python's finder, or the loader."""
    endings = [lookup(snapshot, ("python", "extension_suffixes")) or [] for snapshot in (baseline, target)]
    if endings[0][:1] != endings[1][:1]:
        return wheels.first_error(target, misfits)
    machine = wheels.machine(lookup(target, ("python", "platform", "machine"))) or ""
    if family == "glibc":
        missing = f"libc.musl-{machine}.so.1"
        return f"ImportError: {missing}: cannot open shared object file: No such file or directory"
    if machine not in _LOADERS:
        return None
    return f"ImportError: Error loading shared library {_LOADERS[machine]}: No such file or directory"


def _image_fix(target: Snapshot, family: str) -> list[Fix]:
    found = re.match(r"\d+\.\d+", lookup(target, ("python", "version")) or "")
    if not found:
        return []
    return [Fix("dockerfile", f"FROM python:{found.group()}-{'slim' if family == 'glibc' else 'alpine'}")]


class SYS004(Drift):
    """The base image or the operating system is another one, or another release.

    Compares: ID and VERSION_ID of os-release, the version of the C library, and the wheel tags of what is
    installed in both.

    Why: a base image brings hundreds of packages, certificates, locales and time zones with it. They all
    change at once when it does, and few of them matter to a model. What does matter is an older C library:
    code that was compiled on the newer system asks for symbols that the older one does not have.

    See: nothing in most cases. With an older glibc: `ImportError: /lib/x86_64-linux-gnu/libc.so.6: version
    `GLIBC_2.38' not found (required by ...)`.

    Decided: the target's glibc is older, and a distribution that was compiled on the spot (its wheel is
    tagged linux_x86_64, not manylinux) is the same build as in the baseline: breaks, likely. The target's
    glibc is older, and something there was compiled on the spot: breaks, possible. Else a note, as where the
    libraries were read and ask for no version that the older one lacks (LightGBM's published wheel bears such
    a tag). Wheels that state a glibc which is too new are PKG007's.

    Fix: use the release of the baseline, or build the image with the older system's own compiler.

    Limits: os-release is believed. Which of the changed packages a model uses is not known here; family LIB
    reads the libraries.
    """

    code = "SYS004"
    name = "other-base-image"
    reads = ("system",)
    references = (
        "https://www.freedesktop.org/software/systemd/man/latest/os-release.html",
        "https://peps.python.org/pep-0600/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        systems = platform_of(baseline), platform_of(target)
        if None not in systems and systems[0] != systems[1]:
            return  # SYS001
        before, after = (lookup(snapshot, ("system", "os_release")) or {} for snapshot in (baseline, target))
        differing = [key for key in ("id", "version_id") if before.get(key) != after.get(key)]
        if not differing or not before.get("id") or not after.get("id"):
            return
        evidence = [
            at(snapshot, side, "system", "os_release", key)
            for key in differing
            for side, snapshot in (("baseline", baseline), ("target", target))
        ]
        here, there = _release(after), _release(before)
        impact, confidence, explanation = Impact.NOTE, Confidence.CERTAIN, ""
        versions = _glibc(baseline), _glibc(target)
        if versions[0] and versions[1] and versions[1] < versions[0]:
            evidence += [
                at(baseline, "baseline", "system", "libc", "version"),
                at(target, "target", "system", "libc", "version"),
            ]
            explanation = (
                f" Its glibc {_dotted(versions[1])} is older than {_dotted(versions[0])}: what was compiled in the "
                "baseline may not load."
            )
            local = [
                name
                for name, record in sorted(distributions_of(target).items())
                if _built_here(record) and not _would_load(target, name)
            ]
            copied = [name for name in local if _same_build(baseline, target, name)]
            if copied or local:
                impact = Impact.BREAKS
                confidence = Confidence.LIKELY if copied else Confidence.POSSIBLE
                evidence += wheels.tag_evidence(target, copied or local)
                explanation += (
                    f" {wheels.listed(copied)}: the same build as there, and compiled on the spot."
                    if copied
                    else f" Compiled on the spot, nobody knows where: {wheels.listed(local)}."
                )
        yield self.finding(
            impact,
            confidence,
            f"{here} instead of {there}",
            Subject("operating-system", "release"),
            f"Another base system explains its packages, certificates, locales and time zones.{explanation}",
            evidence=evidence,
            fix=[wheels.rebuild_fix()] if impact is Impact.BREAKS else [],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        if change.section == "python":
            return change.path[1:3] in {
                ("platform", "libc_version"),
                ("tags", "platforms"),
                ("environment", "externally_managed"),
            }
        if change.section == "programs":
            return change.path[-1] in {"package", "package_version", "version", "real"}
        if change.section == "libraries":
            return _is_of_the_system(change)
        return change.section == "system"

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """What the other base system lacks, or has in an older version, though the baseline's has it."""
        del finding
        if effect.code == "PKG007":
            return effect.confidence is Confidence.POSSIBLE  # it may need a newer system
        if effect.code in _OF_THE_SYSTEM or (effect.code == "BOX007" and effect.subject.name != "encoding"):
            return True
        if effect.code in {"LIB001", "LIB002", "LIB006"}:
            names = effects.sonames_of(effect)
            return bool(names) and all(effects.system_had(sides, name) for name in names)
        return effect.code == "SYS003" and any(
            entry.side == "baseline" and entry.path[0] == "programs" and entry.value is not None
            for entry in effect.evidence
        )


# Certificates, locales and time zones; a filter of system calls that knows the C library of the one and not of the
# other; an executable stack that one C library accepts and the other refuses.
_OF_THE_SYSTEM = frozenset({"BOX005", "BOX006", "BOX008", "LIB008"})


def _is_of_the_system(change: Change) -> bool:
    """Whether a fact about shared libraries is about those that no distribution brought."""
    kind, *rest = change.path[1:]
    if kind in {"interpreter", "search"} or (kind == "distributions" and rest[:1] in (["python"], [""])):
        return True
    if kind == "distributions":
        return rest[1:2] == ["needs"] and "answers" in rest[3:]
    if kind != "libraries":
        return False
    if len(rest) > 1:
        return rest[1].startswith("/")
    answers = [value for value in (change.before, change.after) if isinstance(value, dict)]
    return all(path.startswith("/") for answer in answers for path in answer)


def _release(os_release: Mapping[str, Any]) -> str:
    words = os_release.get("pretty_name") or " ".join(
        str(os_release[key]) for key in ("id", "version_id") if os_release.get(key)
    )
    return words or "an unknown system"


def _glibc(snapshot: Snapshot) -> tuple[int, ...]:
    """Its version for comparison; empty for musl and where it is not known."""
    if lookup(snapshot, ("system", "libc", "family")) != "glibc":
        return ()
    found = re.match(r"\d+(?:\.\d+)*", lookup(snapshot, ("system", "libc", "version")) or "")
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)


def _built_here(record: Mapping[str, Any]) -> bool:
    """Whether its wheel was compiled where it was installed: pip tags those linux_<machine>."""
    tags = req.wheel_tags(record)
    return bool(tags) and all(tag.platform.startswith("linux_") for tag in tags)


def _would_load(target: Snapshot, name: str) -> bool:
    """Whether its libraries were read, and ask the C library for nothing that it does not have."""
    counted = lookup(target, ("libraries", "distributions", name))
    if counted is None or "foreign_modules" in counted:
        return False
    files: Mapping[str, Any] = lookup(target, ("libraries", "files")) or {}
    return not any(record["distribution"] == name and "missing_versions" in record for record in files.values())


def _same_build(baseline: Snapshot, target: Snapshot, name: str) -> bool:
    digests = [lookup(side, (*DISTRIBUTIONS, name, "record", "digest")) for side in (baseline, target)]
    return digests[0] is not None and digests[0] == digests[1]
