"""Family LIB: libraries that are whole and found, and that the system or another package refuses all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packaging.specifiers import SpecifierSet

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules import rivals
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import ASIDE, DISTRIBUTIONS, count_of, distributions_of, pinned, pip_fix
from driftcheck.snapshot import Snapshot


class LIB008(Contradiction):
    """A library asks for an executable stack, and this C library refuses it.

    Compares: PT_GNU_STACK of each library that a module maps with the version of glibc.

    Why: since glibc 2.41 dlopen fails for such a library instead of making the stack executable. Old compilers
    and assembler files without the mark asked for it by mistake; the same wheel loads on an older system.

    See: `ImportError: /app/x.so: cannot enable executable stack as shared object requires: Invalid argument`.

    Decided: glibc 2.41 or newer and a module that maps such a library: breaks, certain; likely where the module
    has another failure that may come first, or where GLIBC_TUNABLES is set, which may allow it.

    Fix: a newer release of the package; patchelf --clear-execstack on the file.

    Limits: SELinux and MemoryDenyWriteExecute refuse it on older systems too, and are not measured.
    """

    code = "LIB008"
    name = "executable-stack"
    reads = ("libraries",)
    references = (
        "https://sourceware.org/glibc/wiki/Release/2.41",
        "https://lists.gnu.org/archive/html/info-gnu/2025-01/msg00014.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        version = req.parsed(so.glibc_of(target))
        if version is None or version.release < (2, 41):
            return
        tunables = lookup(target, ("variables", "variables", "GLIBC_TUNABLES"))
        groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for key, record in so.loaded(target):
            if record["role"] == "module" and "maps_executable_stack" in record:
                groups.setdefault(record["maps_executable_stack"], []).append((key, record))
        for path, ones in sorted(groups.items()):
            alone = [one for one in ones if "first_failure" not in one[1]]
            key, record = (alone or ones)[0]
            sure = bool(alone) and tunables is None
            name = path.rsplit("/", 1)[-1]
            yield self.finding(
                Impact.BREAKS,
                Confidence.CERTAIN if sure else Confidence.LIKELY,
                f"{name} asks for an executable stack, which glibc {version} refuses",
                Subject("library", name),
                f"{key} maps {path}, whose headers ask for a stack that can be executed. "
                f"Since 2.41 glibc refuses to load that. Affected: {', '.join(one[0] for one in ones[: so.NAMED])}.",
                predicted_error=f"ImportError: {path}: cannot enable executable stack as shared object requires: "
                "Invalid argument",
                evidence=[at(target, "target", *so.FILES, one[0], "maps_executable_stack") for one in ones[: so.NAMED]],
                fix=[
                    *_upgrade(target, record["distribution"]),
                    Fix(
                        "advice", f"Or clear the mark, if the code does not need it: patchelf --clear-execstack {path}"
                    ),
                ],
            )


def _upgrade(target: Snapshot, owner: str | None) -> tuple[Fix, ...]:
    record = distributions_of(target).get(owner or "")
    return pip_fix(target, f"install --upgrade {record['name']}") if record else ()


# What glibc keeps free for libraries that are loaded later and want static thread-local storage (bytes), in all:
# TLS_STATIC_SURPLUS before 2.32, rtld.optional_static_tls and its neighbours since.
_SURPLUS = 1664


class LIB009(Contradiction):
    """Libraries want more static thread-local storage than the C library keeps free.

    Compares: the thread-local bytes of files that insist on static storage (DF_STATIC_TLS) with what glibc
    keeps free for libraries that are loaded later.

    Why: each such library takes its share at load time, and the last one to come finds nothing left, so the
    order of imports decides which one fails. libgomp is the usual one; other libraries use up the same space.

    See: `ImportError: /app/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block`.

    Decided: one file alone wants more than is free: breaks, likely. All modules together do: breaks, possible,
    because not every module is imported into one process.

    Fix: load the library first (LD_PRELOAD), or give it more space with GLIBC_TUNABLES=glibc.rtld.optional_static_tls
    (glibc 2.32 and later).

    Limits: other libraries use the free space as well, up to 512 bytes, so the sum is a lower bound.
    """

    code = "LIB009"
    name = "static-tls"
    reads = ("libraries",)
    references = (
        "https://sourceware.org/glibc/manual/latest/html_node/Dynamic-Linking-Tunables.html",
        "https://bugzilla.redhat.com/show_bug.cgi?id=1124987",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        if lookup(target, ("libraries", "interpreter", "libc")) == "musl":
            return
        wanting = {
            key: record["static_tls_bytes"]
            for key, record in so.files_of(target).items()
            if record["role"] in {"module", "bundled"} and "static_tls_bytes" in record
        }
        total = sum(wanting.values())
        if total <= _SURPLUS:
            return
        largest = max(sorted(wanting), key=lambda key: wanting[key])
        alone = wanting[largest] > _SURPLUS
        path = so.path_of(target, largest)
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if alone else Confidence.POSSIBLE,
            f"{largest if alone else count_of(len(wanting), 'library').replace('librarys', 'libraries')} "
            f"want{'s' if alone else ''} {wanting[largest] if alone else total} bytes of static thread-local storage",
            Subject("file", largest),
            f"glibc keeps about {_SURPLUS} bytes free for what is loaded later. "
            + (
                "This one does not fit at all."
                if alone
                else "All of these in one process do not fit; which one fails is a matter of the order of imports."
            ),
            predicted_error=f"ImportError: {path}: cannot allocate memory in static TLS block" if path else None,
            evidence=[at(target, "target", *so.FILES, key, "static_tls_bytes") for key in sorted(wanting)[:20]],
            fix=[
                Fix("variable", f"GLIBC_TUNABLES=glibc.rtld.optional_static_tls={max(2048, 2 * total)}"),
                Fix("advice", "Or load the library before everything else, with LD_PRELOAD."),
            ],
        )


class LIB011(Contradiction):
    """An extension was built for NumPy 1 and cannot run with NumPy 2.

    Compares: the name under which each extension imports NumPy's C API (numpy.core or numpy._core), as its file
    holds it, with the installed NumPy.

    Why: NumPy 2 changed the layout of its structures. An extension that was built with NumPy 1 alone is refused
    by import_array(); one that was built with NumPy 2 runs with both. Metadata without an upper bound lets pip
    bring NumPy 2 all the same.

    See: `ImportError: numpy.core.multiarray failed to import`; from Cython `ValueError: numpy.dtype size changed,
    may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject`; from code that catches
    it `_ARRAY_API not found`, exit code 0, and `RuntimeError: Numpy is not available` later.

    Decided: breaks, likely, for both kinds: those whose import raises, and those that print and go on
    half-initialised. Which is which was read in the file; 71 of 72 modules of 14 distributions did as said.

    Fix: a release of the package that was built with NumPy 2, or numpy<2 where every other distribution takes that.

    Limits: a module that takes NumPy's API by other ways than the capsule is not seen.
    """

    code = "LIB011"
    name = "numpy-c-api-generation"
    reads = ("libraries", "packages")
    references = (
        "https://numpy.org/doc/stable/dev/depending_on_numpy.html#numpy-2-0-specific-advice",
        "https://numpy.org/devdocs/numpy_2_0_migration_guide.html#c-api-changes",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        numpy = distributions.get("numpy")
        version = req.parsed(req.version_of(numpy)) if numpy is not None else None
        if numpy is None or version is None or version.major < 2:
            return
        groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for key, record in sorted(so.files_of(target).items(), key=lambda pair: (pair[0].count("/"), pair[0])):
            if "numpy_c_api" in record and not ASIDE.search(key):
                groups.setdefault(record["distribution"] or key, []).append((key, record))
        for owner, ones in sorted(groups.items()):
            raising = [one for one in ones if one[1]["numpy_c_api"]["raises"]]
            kinds = {one[1]["numpy_c_api"]["raises"] for one in raising}
            # Where both kinds are in one distribution, Cython's came first in all that were tried.
            kind = "ValueError" if "ValueError" in kinds else "ImportError" if kinds else None
            shown = next((one for one in raising if one[1]["numpy_c_api"]["raises"] == kind), ones[0])
            package = distributions.get(owner)
            titled = f"{package['name']} {package['version']}" if package else shown[0]
            bits = lookup(target, ("libraries", "interpreter", "bits"))
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{titled} was built for NumPy 1, and NumPy {version} is installed",
                Subject("distribution", owner),
                f"{shown[0]} asks for numpy.core._multiarray_umath alone. "
                + (
                    "Its import raises."
                    if kind
                    else "Its import prints `_ARRAY_API not found` and goes on half-initialised, mostly with exit "
                    "code 0: what hands arrays over fails later, or crashes."
                )
                + (f" {len(ones)} files of this distribution were built so." if len(ones) > 1 else ""),
                predicted_error=_TEXTS[kind] if kind != "ValueError" or bits == 64 else None,
                evidence=[
                    at(target, "target", *so.FILES, shown[0], "numpy_c_api"),
                    at(target, "target", *DISTRIBUTIONS, "numpy", "version"),
                    *((at(target, "target", *DISTRIBUTIONS, owner, "version"),) if package else ()),
                ],
                fix=self._fix(target, baseline, owner),
            )

    @staticmethod
    def _fix(target: Snapshot, baseline: Snapshot | None, owner: str) -> list[Fix]:
        """One way to type, and the other in words: both at once would bring NumPy back and the package forward."""
        known, here = distributions_of(baseline), distributions_of(target)
        old = req.parsed(req.version_of(known["numpy"])) if "numpy" in known else None
        fixes: tuple[Fix, ...] = ()
        if old is not None and old.major < 2:
            fixes = pip_fix(target, f"install {pinned(known['numpy'])}")
        elif owner in known and owner in here and known[owner]["version"] != here[owner]["version"]:
            fixes = pip_fix(target, f"install {pinned(known[owner])}")
        upgrade = _upgrade(target, owner)[:1]
        if not fixes and upgrade and _is_numpy_2_demanded(target, owner):
            return list(upgrade)
        fixes = fixes or pip_fix(target, 'install "numpy<2"')
        return [*fixes, *(Fix("advice", f"Or a release that was built with NumPy 2: {fix.text}") for fix in upgrade)]


def _is_numpy_2_demanded(target: Snapshot, owner: str) -> bool:
    """Whether another distribution takes no NumPy 1, so that going back to it would only move the failure."""
    stated = req.requirements_of(distributions_of(target), target.facts("python") or {})
    wanted = rivals.demands(stated).get("numpy", [])
    return any(one.owner != owner and not rivals.may_agree(_NUMPY_1, one.specifiers) for one in wanted)


_NUMPY_1 = SpecifierSet("<2")
_TEXTS = {
    "ValueError": "ValueError: numpy.dtype size changed, may indicate binary incompatibility. "
    "Expected 96 from C header, got 88 from PyObject",
    "ImportError": "ImportError: numpy.core.multiarray failed to import",
    None: "AttributeError: _ARRAY_API not found",
}
