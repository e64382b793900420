"""Family LIB: what the dynamic loader would refuse. Proved from the files, without importing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import count_of, distributions_of, pinned, pip_fix
from driftcheck.rules.importing import Standing
from driftcheck.rules.shared_objects import Failing
from driftcheck.snapshot import Snapshot

LOADER_MANUAL = "https://man7.org/linux/man-pages/man8/ld.so.8.html"
MANYLINUX = "https://peps.python.org/pep-0600/"


class LIB001(Contradiction):
    """A shared library that an extension module needs is not there.

    Compares: what each extension module and each library below it needs (DT_NEEDED) with what the loader's
    search finds: RPATH, LD_LIBRARY_PATH, RUNPATH, the cache, the default directories, and what a required
    distribution has loaded by then. And who imports such a module, by the Python sources of its package.

    Why: installers check Python packages and no libraries. A slim image, another distribution of Linux or a
    deleted file leaves a module that cannot be imported. The need is often two libraries down.

    See: `ImportError: libGL.so.1: cannot open shared object file: No such file or directory`.

    Decided: the search of the loader is done again. A module that an import of its package surely comes to, or that
    one of its sources imports without a condition: breaks, certain. A module whose every import is caught and
    survived, as Numba's layers of threads: a note where another one is taken instead and can be loaded, else slows,
    likely. One that functions import when they are called: slows, likely. One that only compiled code imports, or a
    source on a condition: breaks, likely; one that nothing of its distribution imports, of whose modules most load
    (those of PyQt5): breaks, possible. Where no source was read: breaks, certain, of the module itself. A library
    that is opened by name: slows, likely; breaks, likely, where it is all the machine code of its distribution
    (LightGBM without libgomp: `OSError: libgomp.so.1: ...`). A part of the standard library that user interfaces
    need: a note. Likely where a required distribution is presumed to have loaded something, or where an unrelated one
    holds a file of this name; possible where a related one does, whose start may load it by hand. Libraries that the
    same files lack are one finding, which begins with the one that is seen first.

    Fix: install the package that holds the library; the baseline's own package database is asked for its name,
    then a table. A library that a wheel bundled comes back with the wheel.

    Limits: sources are read, not run: an import in compiled code, by a computed name or in another distribution is
    not seen. What code loads by hand is guessed from its text. Libraries of the GPU driver are never missing from
    an image alone.
    """

    code = "LIB001"
    name = "missing-shared-library"
    reads = ("libraries",)
    references = (LOADER_MANUAL, MANYLINUX)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        yield from self._of_interpreter(target, baseline)
        groups: dict[str, list[Failing]] = {}
        for one in so.failing(target, "missing"):
            if one.entry["error"].startswith("cannot open") and not is_plugin_of_accelerator(target, one):
                groups.setdefault(one.name, []).append(one)
        together: dict[tuple[object, ...], list[Finding]] = {}
        for soname, ones in sorted(groups.items()):
            found = self._missing(target, baseline, soname, ones)
            files = frozenset(one.key for one in ones)
            together.setdefault((files, found.impact, found.confidence), []).append(found)
        for alike in together.values():
            yield _as_one(sorted(alike, key=lambda found: found.predicted_error is None))

    def _missing(self, target: Snapshot, baseline: Snapshot | None, soname: str, ones: Sequence[Failing]) -> Finding:
        ones = so.worst_first(ones)
        impact = so.worst(ones)
        first, error = so.predicted([one for one in ones if so.impact_of(one) is impact], "library")
        shown = first or ones[0]
        confidence = so.confidence_of(target, shown)
        reason = shown.entry["error"].removeprefix("cannot open shared object file: ")
        missing = shown.entry["error"] == so.NOT_FOUND
        whose = so.owners_text(target, ones)
        several = len({one.owner for one in ones}) > 1
        title = f"{soname} is missing, which {whose} {'need' if several else 'needs'}"
        if not missing:
            title = f"{soname} cannot be opened: {reason}"
        elif shown.standing is Standing.TRIED:
            title = f"{soname} is missing, which {whose} {'do' if several else 'does'} without"
        fix = so.library_fix(target, baseline, soname, [one.owner for one in ones])
        if not missing:
            fix = [Fix("advice", f"Let the user of the service read {shown.entry.get('file', soname)}.")]
        return self.finding(
            impact,
            confidence,
            title,
            Subject("library", soname),
            f"{so.chain_text(shown.entry['chain'], soname)}. " + self._consequence(target, ones, shown, error),
            predicted_error=error,
            evidence=so.evidence_of(target, sorted(ones, key=lambda one: one is not shown)),
            fix=[*fix, *_headless(target, soname, ones)],
        )

    @staticmethod
    def _consequence(target: Snapshot, ones: Sequence[Failing], shown: Failing, error: str | None) -> str:
        elsewhere = shown.entry.get("elsewhere")
        text = ""
        if elsewhere:
            text = f"{elsewhere} has this name, but the loader does not look there: it helps only who loads it before. "
        lent = shown.record.get("lent")
        if lent:
            need, loan = min(lent.items())
            text += f"{need} is taken for loaded by {loan['distribution']} before. "
        if not shown.is_module:
            text += f"Nothing needs {so.files_text(ones)}; {shown.record.get('named_by', 'a file')} opens it."
            return text + (" It is all the machine code that the distribution has." if shown.alone else "")
        if error is None and shown.text and shown.standing is not Standing.TRIED:
            text += "It comes to light once the first failure of these files is mended. "
        return text + f"So these cannot be loaded: {so.files_text(ones)}." + so.importing_text(target, shown)

    def _of_interpreter(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        for soname, entry in sorted((lookup(target, ("libraries", "interpreter", "missing")) or {}).items()):
            path = lookup(target, ("libraries", "interpreter", "path"))
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{soname} is missing, so Python itself does not start",
                Subject("interpreter", soname),
                f"{so.chain_text(entry['chain'] or [path or 'Python'], soname)}, and the loader does not find it.",
                predicted_error=f"{path}: error while loading shared libraries: {soname}: {entry['error']}",
                evidence=[at(target, "target", "libraries", "interpreter", "missing", soname)],
                fix=so.library_fix(target, baseline, soname, ()),
            )


def _as_one(findings: Sequence[Finding]) -> Finding:
    """The libraries that the same files lack are one thing to mend: the first that one would see, then the others."""
    first, *others = findings
    if not others:
        return first
    names = [found.subject.name for found in findings]
    more = f"{len(others)} more {'library' if len(others) == 1 else 'libraries'}"
    return replace(
        first,
        title=first.title.replace(" is missing, which", f" and {more} are missing, which", 1),
        subject=Subject("library", ", ".join(sorted(names))),
        explanation=f"{first.explanation} Once that is mended, {_listed(names[1:])} "
        f"{'is' if len(others) == 1 else 'are'} missing too.",
        evidence=[entry for found in findings for entry in found.evidence if "missing" in entry.path],
        fix=_joined(fix for found in findings for fix in found.fix),
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _joined(fixes: Iterable[Fix]) -> list[Fix]:
    """One line of a package manager for all of its packages."""
    lines: dict[tuple[str, str], dict[str, None]] = {}
    for fix in fixes:
        command, _, package = fix.text.rpartition(" ") if fix.kind == "apt" else (fix.text, "", "")
        lines.setdefault((fix.kind, command), {})[package] = None
    return [Fix(kind, " ".join([command, *filter(None, packages)])) for (kind, command), packages in lines.items()]


_OF_DESKTOPS = ("libGL", "libglib", "libgthread", "libSM", "libICE", "libX", "libxcb", "libEGL")


def _headless(target: Snapshot, soname: str, ones: Sequence[Failing]) -> list[Fix]:
    """OpenCV comes without windows too."""
    for one in ones:
        record = distributions_of(target).get(one.owner)
        if record and one.owner in {"opencv-python", "opencv-contrib-python"} and soname.startswith(_OF_DESKTOPS):
            without = pinned(record).replace(record["name"], f"{record['name']}-headless")
            return [Fix("advice", f"Or take {without} in the place of {record['name']}: it opens no windows.")]
    return []


def is_plugin_of_accelerator(target: Snapshot, one: Failing) -> bool:
    """Whether LIB010 speaks of it."""
    return so.is_accelerator(one) or so.is_optional_part(target, one)


class LIB002(Contradiction):
    """A library is there, but too old for what was built against it.

    Compares: the symbol versions that files require (GLIBC_2.38, GLIBCXX_3.4.32, OPENSSL_3.2.0) with those that
    the library which answers defines.

    Why: a wheel or an extension that was built on a newer system asks for newer symbols. An older libstdc++ from
    conda or LD_LIBRARY_PATH hides the system's newer one. The library is found, so nothing looks missing.

    See: ``ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by
    /app/ext.so)``.

    Decided: by the version definitions in the files. A module: breaks, certain, and as LIB001 by who imports it;
    likely where the library was found through a variable, or is presumed to be loaded by another distribution. musl
    looks at no versions.

    Fix: a base image with that glibc, or a build for the older one; the newer libstdc++ first in the search.

    Limits: libraries without any version definitions accept every need, as the loader does.
    """

    code = "LIB002"
    name = "missing-symbol-version"
    reads = ("libraries",)
    references = (
        LOADER_MANUAL,
        MANYLINUX,
        "https://gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html",
        "https://refspecs.linuxfoundation.org/LSB_3.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        yield from self._of_interpreter(target)
        groups: dict[str, list[Failing]] = {}
        for one in so.failing(target, "missing_versions"):
            if not is_plugin_of_accelerator(target, one):
                groups.setdefault(_library_of(one), []).append(one)
        for library, ones in sorted(groups.items()):
            yield self._finding(target, baseline, library, ones)

    def _finding(self, target: Snapshot, baseline: Snapshot | None, library: str, ones: Sequence[Failing]) -> Finding:
        ones = so.worst_first(ones)
        impact = so.worst(ones)
        first, error = so.predicted([one for one in ones if so.impact_of(one) is impact], "version")
        shown = first or ones[0]
        wanted = max((version for one in ones for version in one.entry), key=so.ordered)
        version = max(shown.entry, key=so.ordered)
        provider = shown.entry[version]["provider"]
        offered = lookup(target, ("libraries", "libraries", shown.name, provider, "offers")) or {}
        prefix = wanted.rsplit("_", 1)[0]
        have = offered.get(prefix)
        whose = so.owners_text(target, ones)
        needs = "need" if len({one.owner for one in ones}) > 1 else "needs"
        if library == "glibc":
            here = so.glibc_of(target)
            title = f"{whose} {needs} glibc {wanted.removeprefix('GLIBC_')}" + (f"; here is {here}" if here else "")
            why = (
                "The C library belongs to the base image and cannot be upgraded by itself: these files were built on "
                "a newer system."
            )
        else:
            title = f"{whose} {needs} {wanted} of {shown.name}" + (f", which ends at {prefix}_{have}" if have else "")
            why = f"{provider} answers, and does not define it."
        return self.finding(
            impact,
            so.confidence_of(target, shown),
            title,
            Subject("library", library),
            f"{so.chain_text(shown.entry[version]['chain'], f'{shown.name} with {version}')}. {why} "
            + ("" if error or not shown.is_module or shown.standing is Standing.TRIED else _LATER)
            + f"Affected: {so.files_text(ones)}."
            + so.importing_text(target, shown),
            predicted_error=error,
            evidence=so.evidence_of(target, sorted(ones, key=lambda one: one is not shown)),
            fix=self._fix(target, baseline, library, shown, wanted, provider),
        )

    def _of_interpreter(self, target: Snapshot) -> Iterator[Finding]:
        lacking = lookup(target, ("libraries", "interpreter", "missing_versions")) or {}
        for soname, versions in sorted(lacking.items()):
            if not versions:
                continue
            version = max(versions, key=so.ordered)
            path = lookup(target, ("libraries", "interpreter", "path"))
            record = versions[version]
            by = record["chain"][-1] if record["chain"] else path
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"Python itself needs {version} of {soname}, which this system does not have",
                Subject("interpreter", soname),
                f"{by} was built for a newer system than this one, whose {record['provider']} answers.",
                predicted_error=f"{path}: {record['provider']}: version `{version}' not found (required by {by})",
                evidence=[at(target, "target", "libraries", "interpreter", "missing_versions", soname)],
                fix=[Fix("advice", "Use an interpreter that was built for this system, or a newer base image.")],
            )

    @staticmethod
    def _fix(
        target: Snapshot, baseline: Snapshot | None, library: str, shown: Failing, wanted: str, provider: str
    ) -> list[Fix]:
        if library == "glibc":
            release = lookup(baseline, ("system", "os_release", "pretty_name")) if baseline is not None else None
            text = f"Take a base image with glibc {wanted.removeprefix('GLIBC_')} or newer"
            text += f" (the baseline runs on {release})." if release else f" ({_releases(wanted)})."
            record = distributions_of(target).get(shown.owner)
            fixes = [Fix("advice", text)]
            if record is not None:
                fixes.append(
                    Fix(
                        "advice",
                        f"Or install {record['name']} on this system itself, so that pip takes a wheel for it.",
                    )
                )
            return fixes
        answer = lookup(target, ("libraries", "libraries", shown.name, provider)) or {}
        if answer.get("otherwise"):
            return [Fix("variable", f"LD_LIBRARY_PATH without the directory of {provider}")]
        if answer.get("distribution"):
            record = distributions_of(target).get(answer["distribution"])
            known = distributions_of(baseline).get(answer["distribution"])
            name = pinned(known) if known else (record or {"name": answer["distribution"]})["name"]
            return list(pip_fix(target, f"install --upgrade {name}"))
        return so.library_fix(target, baseline, shown.name, [shown.owner])


_LATER = "It comes to light once the first failure is mended. "

# When each glibc came, by the distributions that images are made of.
_RELEASES = (
    ((2, 31), "Debian 11, Ubuntu 20.04"),
    ((2, 34), "RHEL 9"),
    ((2, 35), "Ubuntu 22.04"),
    ((2, 36), "Debian 12"),
    ((2, 39), "Ubuntu 24.04"),
    ((2, 41), "Debian 13"),
)


def _releases(wanted: str) -> str:
    number = so.ordered(wanted)
    names = [name for version, name in _RELEASES if list(version) >= number]
    return f"{names[0]} has it" if names else "no Debian or Ubuntu release up to Debian 13 has it"


def _library_of(one: Failing) -> str:
    """``glibc`` for all of its libraries together, else the soname."""
    if all(version.startswith(("GLIBC_2", "GLIBC_ABI")) for version in one.entry):
        return "glibc"
    return one.name


class LIB003(Contradiction):
    """A module needs a symbol that nothing it would load defines.

    Compares: the undefined symbols of each module and of each library below it, with their versions, with what
    the interpreter and the libraries that would be loaded define.

    Why: two distributions that were built for each other have come apart (a package for another torch, two CUDA
    wheels of different minors), or a stub or another build took the place of a library. Version numbers do not
    tell: cuBLAS 12.8 loads with a cublasLt of 12.1, and 12.9 does not.

    See: `ImportError: /app/_C.so: undefined symbol: _ZN3c106detail14torchCheckFailEPKcS2_jS2_`.

    Decided: a module, and nothing in the environment has the symbol: breaks, certain, and as LIB001 by who imports
    it. Likely where some other file of the environment defines it, since whoever loads that one globally mends it;
    possible where that file belongs to a required distribution, which may do so. Possible where the wheel is as it
    was made and needs nobody else, so that it must have been made for something this rule cannot see.
    Weak symbols and those that nothing relocates are no failures.

    Fix: install the versions of the baseline, or reinstall the distribution whose library was replaced.

    Limits: with lazy binding a missing function fails when it is called; CPython opens modules with RTLD_NOW.
    """

    code = "LIB003"
    name = "undefined-symbol"
    reads = ("libraries",)
    references = (LOADER_MANUAL, "https://docs.python.org/3/library/sys.html#sys.setdlopenflags")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        groups: dict[str, list[Failing]] = {}
        for one in so.failing(target, "undefined"):
            if not is_plugin_of_accelerator(target, one):
                groups.setdefault(one.owner or one.key, []).append(one)
        for owner, found in sorted(groups.items()):
            ones = so.worst_first(found)
            impact = so.worst(ones)
            first, error = so.predicted([one for one in ones if so.impact_of(one) is impact], "symbol")
            shown = first or ones[0]
            entry = shown.entry
            count = max(one.record.get("undefined_count", 1) for one in ones)
            version = f" ({entry['version']})" if entry["version"] else ""
            by = "itself" if entry["by"] == shown.key else entry["by"]
            confidence = so.confidence_of(target, shown)
            operators = _operators(shown)
            if operators:
                impact, confidence, error = Impact.BREAKS, Confidence.LIKELY, operators
            yield self.finding(
                impact,
                confidence,
                f"{so.module_name(shown.key)} needs the symbol {shown.name}{version}, which nothing defines"
                + (f", and {count_of(count - 1, 'more')[: -1 if count > 2 else None]}" if count > 1 else ""),
                Subject("distribution", owner),
                f"Of what {shown.key} would load, {by} needs it. "
                + (f"{entry['elsewhere']} defines it, but is not loaded with it. " if entry["elsewhere"] else "")
                + f"The libraries that answer are not those that it was built with. Affected: {so.files_text(ones)}."
                + so.importing_text(target, shown),
                predicted_error=error,
                evidence=so.evidence_of(target, sorted(ones, key=lambda one: one is not shown)),
                fix=self._fix(target, baseline, shown),
            )

    @staticmethod
    def _fix(target: Snapshot, baseline: Snapshot | None, shown: Failing) -> list[Fix]:
        here, known = distributions_of(target), distributions_of(baseline)
        owners = [shown.owner, so.owner_of(target, shown.entry["by"]), *sorted(so.closure(target, shown.owner))]
        changed = [
            name
            for name in dict.fromkeys(owners)
            if name in here and name in known and here[name]["version"] != known[name]["version"]
        ]
        if changed:
            return list(pip_fix(target, f"install {' '.join(pinned(known[name]) for name in changed)}"))
        broken = next((name for name in owners if name in here and so.damaged(here[name])), None)
        name = broken or next((name for name in owners if name in here), None)
        if name is None:
            return [Fix("advice", f"Build {shown.key} again against the libraries that are here.")]
        again = "--force-reinstall --no-deps " if broken else "--upgrade --force-reinstall "
        return list(pip_fix(target, f"install {again}{pinned(here[name]) if broken else here[name]['name']}"))


def _operators(one: Failing) -> str | None:
    """torchvision goes on without its operators, and ends at the first that it registers (extension.py)."""
    if one.key == "torchvision/_C.so" and not one.is_module:
        return "RuntimeError: operator torchvision::nms does not exist"
    return None


class LIB004(Contradiction):
    """An extension module or a library is for another processor architecture or word size.

    Compares: class and machine in the header of each file with those of the interpreter.

    Why: site-packages was copied from another machine, an image was built for another platform, or a 32-bit
    library stands first on the search path.

    See: `ImportError: /app/x.so: cannot open shared object file: No such file or directory` for a file that is
    there (another machine of the same word size), or `wrong ELF class: ELFCLASS32`.

    Decided: certain, from the headers; slows where all of these modules are tried and done without (LIB001). Modules
    that this interpreter does not look for, since their ending names another one, are left out.

    Fix: install for this machine; for images, build for its platform.

    Limits: PKG007 says the same of a whole wheel by its tags; this rule says it of the files and has the text.
    """

    code = "LIB004"
    name = "wrong-architecture"
    reads = ("libraries",)
    references = (LOADER_MANUAL, "https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        groups: dict[str, list[tuple[str, dict[str, Any], tuple[str, ...]]]] = {}
        for key, record in so.loaded(target):
            if "machine" in record:
                groups.setdefault(record["machine"], []).append((key, record, (*so.FILES, key, "machine")))
        for one in so.failing(target, "missing"):
            if one.entry["error"].startswith("wrong ELF class"):
                bits = one.entry["error"].removeprefix("wrong ELF class: ELFCLASS")
                groups.setdefault(f"{bits} bit", []).append((one.key, one.record, one.path))
        here = lookup(target, ("libraries", "interpreter", "machine"))
        for machine, entries in sorted(groups.items()):
            modules = _modules_of(target, entries)
            key, record, _ = (modules or entries)[0]
            text = record.get("first_failure", {}).get("text")
            ours = f"{here}, {lookup(target, ('libraries', 'interpreter', 'bits'))} bit" if here else "another machine"
            owners = list(dict.fromkeys(entry[1]["distribution"] for entry in entries if entry[1]["distribution"]))
            yield self.finding(
                _impact_of(target, modules[0][1]) if modules else Impact.SLOWS,
                Confidence.CERTAIN if text else Confidence.LIKELY,
                f"{count_of(len(entries), 'file')} for {machine} beside a Python for {ours}",
                Subject("machine", machine),
                f"The loader passes over what is for another machine. Affected: "
                f"{', '.join(entry[0] for entry in entries[: so.NAMED])}.",
                predicted_error=f"ImportError: {text}" if text and modules else None,
                evidence=[
                    *(at(target, "target", *path) for _, _, path in entries[: so.NAMED]),
                    *((at(target, "target", *so.FILES, key, "first_failure"),) if text else ()),
                    *(at(target, "target", "libraries", "interpreter", name) for name in ("machine",) if here),
                ],
                fix=[
                    *_again(target, owners),
                    Fix("advice", "Build the image for the platform that runs it (docker build --platform)."),
                ],
            )


def _again(target: Snapshot, owners: Sequence[str]) -> tuple[Fix, ...]:
    known = distributions_of(target)
    names = " ".join(pinned(known[name]) for name in owners if name in known)
    return pip_fix(target, f"install --force-reinstall --no-deps {names}") if names else ()


_Entry = TypeVar("_Entry", bound=tuple[Any, ...])


def _modules_of(target: Snapshot, entries: Iterable[_Entry]) -> list[_Entry]:
    """The extension modules among files, each with its record in the second place; the one that most needs first."""
    modules = [entry for entry in entries if entry[1]["role"] == "module"]
    return sorted(modules, key=lambda entry: _impact_of(target, entry[1]).rank)


def _impact_of(target: Snapshot, record: dict[str, Any]) -> Impact:
    return so.impact_of_module(record, so.alternatives(target, record))


class LIB005(Contradiction):
    """A shared library was cut off, is empty, or is no library at all.

    Compares: the headers and segments of each file with its size.

    Why: a full disk, an interrupted copy, a Git LFS pointer in place of the file. A file that was cut still
    begins like a library: the loader maps it, and the first touch beyond its end kills the process.

    See: `ImportError: /app/x.so: file too short` or `invalid ELF header`; for a cut one `Bus error` (SIGBUS)
    without any Python error.

    Decided: from the files. Certain where the loader refuses the file; likely where it maps it and dies, since
    that hangs on which page is touched. A plugin, and a module that its package does without: slows.

    Fix: install the distribution again.

    Limits: a file of the right size with other contents is not noticed here (PKG006 compares with RECORD).
    """

    code = "LIB005"
    name = "corrupt-library"
    reads = ("libraries",)
    references = (
        "https://man7.org/linux/man-pages/man2/mmap.2.html",
        "https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        groups: dict[str, list[tuple[str, dict[str, Any], tuple[str, ...], str]]] = {}
        for key, record in so.loaded(target):
            if record["role"] == "module" and "error" in record:
                groups.setdefault(key, []).append((key, record, (*so.FILES, key, "error"), record["error"]))
        for one in so.failing(target, "missing"):
            error = one.entry["error"]
            if not error.startswith(("cannot open", "wrong ELF class")):
                groups.setdefault(str(one.entry.get("file", one.name)), []).append(
                    (one.key, one.record, one.path, error)
                )
        for file, entries in sorted(groups.items()):
            modules = _modules_of(target, entries)
            key, record, _, error = (modules or entries)[0]
            failure = record.get("first_failure", {})
            crash = failure.get("kind") == "crash"
            text = failure.get("text")
            # The loader has words of its own for these two only.
            worded = error in {"file too short", "invalid ELF header"}
            predicted = None
            if text and modules and (crash or worded):
                predicted = text if crash else f"ImportError: {text}"
            owner = so.owner_of(target, file) or record["distribution"]
            yield self.finding(
                _impact_of(target, modules[0][1]) if modules else Impact.SLOWS,
                Confidence.CERTAIN if predicted and worded else Confidence.LIKELY,
                f"{file} is damaged: {error}",
                Subject("file", file),
                (
                    "Its headers promise more than the file holds. The loader maps it beyond its end, and the process "
                    "is killed by SIGBUS at the first touch. "
                    if crash
                    else "The loader refuses it. "
                )
                + f"Affected: {', '.join(dict.fromkeys(entry[0] for entry in entries[: so.NAMED]))}.",
                predicted_error=predicted,
                evidence=[
                    *(at(target, "target", *path) for _, _, path, _ in entries[: so.NAMED]),
                    *((at(target, "target", *so.FILES, key, "first_failure"),) if failure else ()),
                ],
                fix=_again(target, [owner])
                or [Fix("advice", f"Copy {file} again, whole (git lfs pull, if it is a pointer).")],
            )
