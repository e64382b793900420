"""Family CPU: whether what is installed runs on the machine that it is on, or that it is put on (``check --on``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import tables
from driftcheck.rules import requirements as req
from driftcheck.rules import shared_objects as so
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.processor import LEVELS, SAME_PROCESSOR
from driftcheck.snapshot import Snapshot


class CPU003(Contradiction):
    """A published wheel needs instructions that this processor lacks.

    Compares: the flags of the processor (its x86-64 level, where they are not known) with what the
    installed wheels are known to use without asking.

    Why: a wheel that assumes SSE4.2 or AVX dies at the first such instruction, or refuses to start. Virtual
    machines hide instructions that the real processor has (CPU type kvm64 or qemu64).

    See: `Illegal instruction (core dumped)`, exit status 132; NumPy 2.4 and newer on a processor without
    SSE4.2: `RuntimeError: NumPy was built with baseline optimizations: (X86_V2) but your machine doesn't
    support: (X86_V2).`, or the illegal instruction where one comes before that check.

    Decided: breaks, likely. Each row of the table was seen under qemu-x86_64 with CPUs of both sides of the
    boundary; no metadata states it.

    Fix: a machine or VM type with these instructions (CPU type host), or versions that were built for less.

    Limits: builds with their own options (conda, distributions, -march=native) may need more or less than
    the published wheels, and are not judged.
    """

    code = "CPU003"
    name = "missing-instructions"
    reads = ("machine", "packages")
    references = (
        "https://numpy.org/doc/stable/release/2.4.0-notes.html",
        "https://github.com/tensorflow/tensorflow/issues/52845",
        "https://docs.pola.rs/user-guide/installation/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        level = lookup(target, ("machine", "level"))
        if level not in LEVELS:
            return
        needs = _unmet(target, level)
        if not needs:
            return
        name, need, lacking = needs[0]
        known = [one for one, _, _ in needs]
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"The processor is {level}, and {wheels.listed(known)} {'needs' if len(needs) == 1 else 'need'} more",
            Subject("machine", "instructions"),
            f"The published wheels of {name} use {' '.join(lacking)} without asking; this processor does not have "
            "them. A process that reaches such an instruction is killed.",
            predicted_error=need.predicted_error,
            evidence=[
                at(target, "target", "machine", "level"),
                *[at(target, "target", *DISTRIBUTIONS, one, "version") for one in known],
                *held(target, "target", ("machine", "cpu", "model")),
            ],
            fix=[
                *[Fix("pip", f'python -m pip install "{_OLDER[one]}"') for one in known if one in _OLDER],
                SAME_PROCESSOR,
            ],
        )


# What was built for less.
_OLDER = {"numpy": "numpy<2.4", "polars": "polars-lts-cpu"}


def _unmet(target: Snapshot, level: str) -> list[tuple[str, tables.ProcessorNeed, Sequence[str]]]:
    """(distribution, row of the table, flags that the processor lacks), for installed published wheels."""
    flags: Any = lookup(target, ("machine", "cpu", "flags")) or {}
    found: list[tuple[str, tables.ProcessorNeed, Sequence[str]]] = []
    for need in tables.processor_needs():
        record = distributions_of(target).get(need.distribution)
        if record is None or not tables.in_range(need.versions, req.version_of(record)):
            continue
        if all(tag.platform.startswith("linux_") for tag in req.wheel_tags(record)):
            continue  # compiled on the spot, or installed by somebody else than a wheel installer
        if flags:
            lacking = [flag for flag in need.flags if flag not in flags]
        else:
            lacking = list(need.flags) if LEVELS.index(level) < LEVELS.index(need.level) else []
        if lacking:
            found.append((need.distribution, need, lacking))
    return found


class CPU004(Contradiction):
    """The interpreter is a program for another processor than the machine's.

    Compares: the machine that the interpreter's ELF header names with the machine's own architecture.

    Why: the kernel cannot start a program of another architecture, and inside a container it says so in four
    words. It happens when an image that was built on an ARM laptop is deployed to x86-64 nodes, or the other
    way round.

    See: `exec /usr/bin/python3: exec format error` from the container runtime; from a shell
    `cannot execute binary file: Exec format error`.

    Decided: another machine, and nothing translates: breaks, certain where it was measured on a machine
    without a translator, likely where the image was put on it (`check --on`), since a node may have
    binfmt_misc handlers that its own snapshot does not show.

    Fix: build the image for the machine (docker buildx build --platform), or choose a node of the image's
    architecture.

    Limits: 32-bit programs on 64-bit machines of the same family are taken to run.
    """

    code = "CPU004"
    name = "interpreter-for-another-processor"
    reads = ("libraries", "machine")
    references = (
        "https://docs.docker.com/build/building/multi-platform/",
        "https://github.com/tensorflow/tfjs/issues/8576",
        "https://docs.kernel.org/admin-guide/binfmt-misc.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        program = wheels.machine(lookup(target, ("libraries", "interpreter", "machine")))
        here = wheels.machine(lookup(target, ("machine", "architecture")))
        if program is None or here is None or lookup(target, ("machine", "emulation")) is not None:
            return
        if program == here or program in _ALSO_RUNS.get(here, ()):
            return
        path = lookup(target, ("libraries", "interpreter", "path"))
        platform = _PLATFORMS.get(here)
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if "on" in target.header else Confidence.CERTAIN,
            f"The interpreter is a program for {program}, and the machine is {here}",
            Subject("machine", "architecture"),
            f"{path} holds machine code for {program}; a kernel for {here} refuses to start it unless a translator "
            "(qemu through binfmt_misc, Rosetta) is registered.",
            predicted_error=f"exec {path}: exec format error",
            evidence=[
                at(target, "target", "libraries", "interpreter", "machine"),
                at(target, "target", "machine", "architecture"),
            ],
            fix=[
                Fix("advice", f"Build it for the machine: docker buildx build --platform {platform} .")
                if platform
                else Fix("advice", f"Choose a machine whose architecture is {program}.")
            ],
        )


# uname's machine -> programs of other machines that its kernel runs too (compat system calls).
_ALSO_RUNS = {
    "x86_64": ("i386", "i486", "i586", "i686", "x86"),
    "aarch64": ("arm", "armv6l", "armv7l", "armv8l"),
    "ppc64": ("ppc",),
    "s390x": ("s390",),
    "i686": ("i386", "i486", "i586", "x86"),
    "armv7l": ("arm", "armv6l"),
    "armv8l": ("arm", "armv6l", "armv7l"),
}
_PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}


class CPU005(Contradiction):
    """The C library or the interpreter was built for a higher x86-64 level than the processor's.

    Compares: the level that the interpreter and its libraries state in their notes
    (GNU_PROPERTY_X86_ISA_1_NEEDED) with the level of the processor.

    Why: Red Hat Enterprise Linux 9 and its relatives are built for x86-64-v2, version 10 for v3, and their C
    library looks at the processor before anything runs. Virtual machines with a CPU type such as kvm64 or
    qemu64 are x86-64-v1.

    See: `Fatal glibc error: CPU does not support x86-64-v2`, exit status 127, from every program.

    Decided: the level of the machine is known and lower: breaks, certain.

    Fix: CPU type host for the virtual machine, another node, or a base image that was built for less (Debian
    and Ubuntu are built for v1).

    Limits: a C library that states no level in its notes is not judged.
    """

    code = "CPU005"
    name = "system-for-a-newer-processor"
    reads = ("libraries", "machine")
    references = (
        "https://sourceware.org/glibc/wiki/Release/2.33",
        "https://github.com/Unstructured-IO/unstructured-api/issues/497",
        "https://github.com/chainguard-images/images/issues/1658",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        stated = lookup(target, ("libraries", "interpreter", "x86_64_level"))
        level = lookup(target, ("machine", "level"))
        if stated is None or level not in LEVELS or LEVELS.index(level) >= stated["level"] - 1:
            return
        name, needed = stated["file"], f"x86-64-v{stated['level']}"
        of_libc = name.rsplit("/", 1)[-1].startswith(("libc.", "libc-", "ld-"))
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN,
            f"The system was built for {needed}, and the processor is {level}",
            Subject("machine", "x86-64-level"),
            f"{name} states that it needs {needed}. The dynamic loader compares that with the processor before it "
            "starts any program, and ends.",
            predicted_error=f"Fatal glibc error: CPU does not support {needed}"
            if of_libc
            else f"{name}: CPU ISA level is lower than required",
            evidence=[
                at(target, "target", "libraries", "interpreter", "x86_64_level"),
                at(target, "target", "machine", "level"),
            ],
            fix=[
                Fix("advice", "In a VM, give the guest the host's CPU type; or take a node with a newer processor."),
                Fix("advice", "Or a base image that is built for x86-64-v1, such as Debian's or Ubuntu's."),
            ],
        )


class CPU006(Contradiction):
    """A shared library states that it needs a higher x86-64 level than the processor's.

    Compares: GNU_PROPERTY_X86_ISA_1_NEEDED in the notes of each extension module and library with the level
    of the processor.

    Why: what was linked with -z x86-64-v3 (some distributors and some optimised builds do that) is refused
    by the dynamic loader on a lower processor. So is a library of which only a variant for newer processors
    is there (glibc-hwcaps).

    See: `ImportError: /app/_x.abi3.so: CPU ISA level is lower than required`.

    Decided: glibc 2.33 or newer, and the level of the machine is known and lower: breaks, certain for a module
    of which nothing else fails, likely else. glibc 2.32 and older do not look, and the first instruction of
    that level kills the process: likely. Only a variant for a higher level is there: breaks, likely.

    Fix: a build for the baseline x86-64, or a machine of that level.

    Limits: code that uses such instructions without stating it is CPU003's, as far as it is known.
    """

    code = "CPU006"
    name = "library-for-a-newer-processor"
    reads = ("libraries", "machine")
    references = (
        "https://gitlab.com/x86-psABIs/x86-64-ABI",
        "https://sourceware.org/glibc/wiki/Release/2.33",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        level = lookup(target, ("machine", "level"))
        if level not in LEVELS:
            return
        here = LEVELS.index(level) + 1
        version = req.parsed(so.glibc_of(target))
        for key, record in so.loaded(target):
            if record.get("x86_64_level", 0) <= here:
                continue
            looks = version is not None and version.release >= (2, 33)
            is_module = record["role"] == "module"
            sure = looks and is_module and "first_failure" not in record
            path = so.path_of(target, key) or key
            yield self.finding(
                Impact.BREAKS,
                Confidence.CERTAIN if sure else Confidence.LIKELY,
                f"{key} needs x86-64-v{record['x86_64_level']}, and the processor is {level}",
                Subject("library", key),
                f"{key} states in its notes that it was built for x86-64-v{record['x86_64_level']}. "
                + ("The dynamic loader refuses it." if looks else "This C library does not look, and the code runs."),
                predicted_error=f"{'ImportError' if is_module else 'OSError'}: {path}: "
                "CPU ISA level is lower than required"
                if looks
                else "Illegal instruction",
                evidence=[
                    at(target, "target", *so.FILES, key, "x86_64_level"),
                    at(target, "target", "machine", "level"),
                ],
                fix=[SAME_PROCESSOR],
            )
        yield from self._variants(target, level)

    def _variants(self, target: Snapshot, level: str) -> Iterator[Finding]:
        """Libraries that are there only for processors of a higher level."""
        found: dict[str, Any] = lookup(target, ("libraries", "libraries")) or {}
        for soname, answers in sorted(found.items()):
            needed = [_HWCAPS.search(path) for path in answers]
            if not answers or not all(match and LEVELS.index(match[1]) > LEVELS.index(level) for match in needed):
                continue
            path = min(answers)
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{soname} is there only for processors above {level}",
                Subject("library", soname),
                f"The dynamic loader looks into glibc-hwcaps directories of the processor's own level and below, and "
                f"{path} is in one above.",
                predicted_error=f"ImportError: {soname}: {so.NOT_FOUND}",
                evidence=[
                    at(target, "target", "libraries", "libraries", soname, path, "assumption"),
                    at(target, "target", "machine", "level"),
                ],
                fix=[SAME_PROCESSOR],
            )


_HWCAPS = re.compile(r"/glibc-hwcaps/(x86-64-v[234])/")
