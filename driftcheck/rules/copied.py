"""Family PKG: packages that were installed somewhere else, as one cause."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Subject
from driftcheck.rules import effects, unseen, wheels
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import SPECIFICATIONS, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot

# One wheel that does not fit is PKG007's alone.
_SEVERAL = 2
_PLATFORM = ("python", "platform")


class PKG013(Contradiction):
    """Several packages were installed for another Python, platform, C library or processor.

    Compares: the wheel tags of all distributions with the interpreter, the operating system, the C library and
    the processor that they lie beside.

    Why: site-packages that were copied, mounted or put on PYTHONPATH from somewhere else are full of files which
    this interpreter does not see or cannot load. It is one thing to mend, and not one for each package.

    See: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'`, `ImportError: Failed to load
    PyTorch C extensions:`, `invalid ELF header`.

    Decided: breaks, likely, where two or more wheels are made for elsewhere in the same way; slows where the sources
    of all of them go on without what is compiled. PKG007 names each of them, and family LIB the files that the
    loader refuses.

    Fix: install the packages with the interpreter and on the platform that run them.

    Limits: distributions without wheel tags (Debian's, some of conda's) are not judged. Wheels that were retagged
    by hand are believed.
    """

    code = "PKG013"
    name = "packages-from-elsewhere"
    reads = ("packages", "python")
    references = (
        f"{SPECIFICATIONS}/platform-compatibility-tags/",
        "https://docs.python.org/3/library/venv.html#how-venvs-work",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for kind, names in _elsewhere(target).items():
            if len(names) < _SEVERAL:
                continue
            words, path = _KINDS[kind]
            records = distributions_of(target)
            yield self.finding(
                unseen.impact_of(target, names),
                Confidence.LIKELY,
                f"{len(names)} packages were installed for another {words}",
                Subject("packages", kind),
                f"The wheels of {wheels.listed(names)} were not made for {lookup(target, path)}, which is here: they "
                "were copied from somewhere else, or this was exchanged below them.",
                predicted_error=wheels.first_error(target, names),
                evidence=[at(target, "target", *path), *wheels.tag_evidence(target, names)],
                fix=[
                    *pip_fix(
                        target,
                        "install --force-reinstall --no-deps " + " ".join(pinned(records[name]) for name in names),
                    ),
                    wheels.rebuild_fix(),
                ],
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        names = sides.of_target(_elsewhere).get(finding.subject.name, [])
        return effects.misfits(effect, sides.target, names)


_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "system": ("platform", (*_PLATFORM, "system")),
    "machine": ("processor", (*_PLATFORM, "machine")),
    "libc": ("C library", (*_PLATFORM, "libc")),
    "interpreter": ("Python", ("python", "version")),
}


def _elsewhere(target: Snapshot) -> dict[str, list[str]]:
    """Distributions by what they do not fit, each under the first of them: another platform explains the rest."""
    platform = lookup(target, _PLATFORM) or {}
    machine = wheels.machine(platform.get("machine"))
    libc = platform.get("libc")
    found = {
        "system": wheels.for_other_system(target),
        "machine": wheels.for_other_machine(target, machine) if machine else [],
        "libc": wheels.for_other_libc(target, libc) if libc in {"glibc", "musl"} else [],
        "interpreter": wheels.for_other_interpreter(target),
    }
    said: set[str] = set()
    for kind, names in found.items():
        found[kind] = [name for name in names if name not in said]
        said.update(names)
    return found
