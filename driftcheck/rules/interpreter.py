"""Family PY: the interpreter and its standard library."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import tables
from driftcheck.rules import effects, unseen, wheels
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot


class PY001(Drift):
    """The interpreter has another ABI: another minor version, implementation, or kind of build.

    Compares: implementation, minor version, the ABI in SOABI, free-threading, debug and pointer width of
    the two interpreters; and the wheel tags of what is installed in the target.

    Why: an extension module carries the ABI that it was compiled for in its name
    (_multiarray_umath.cpython-310-x86_64-linux-gnu.so), and an interpreter looks only for the endings that
    it knows. Site-packages that were copied from another Python are full of files which this one does not
    see. Each minor version also drops modules (distutils, imp, asyncore) and changes bytecode, so pickled
    functions do not load.

    See: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'`, `ImportError: Failed to
    load PyTorch C extensions:`, `ImportError: cannot import name '_regex' from partially initialized module
    'regex'`.

    Decided: wheels for another interpreter are installed in the target: breaks, likely; PKG007 names each
    of them. Every wheel fits: the environment was built anew for this interpreter, which is a note and
    certain.

    Fix: use the interpreter of the baseline, or install the packages anew with this one.

    Limits: code of the user that needs a newer or an older Python is not read. Distributions without wheel
    tags (Debian's, some of conda's) are not judged.
    """

    code = "PY001"
    name = "python-abi-changed"
    reads = ("python",)
    references = (
        "https://peps.python.org/pep-3149/",
        "https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/",
        "https://docs.python.org/3/howto/free-threading-python.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = baseline.facts("python") or {}, target.facts("python") or {}
        differing = list(_abi_differences(before, after))
        if not differing:
            return
        misfits = wheels.for_other_interpreter(target)
        evidence = [
            at(snapshot, side, "python", key)
            for key in dict.fromkeys(key for key, _, _ in differing)
            for side, snapshot in (("baseline", baseline), ("target", target))
        ]
        evidence += wheels.tag_evidence(target, misfits)
        evidence += wheels.by_marker(baseline, target, _PYTHON_MARKERS)
        here, there = _named(after), _named(before)
        details = "; ".join(f"{word} {_words(old)} -> {_words(new)}" for _, (word, old), new in differing)
        if misfits:
            yield self.finding(
                unseen.impact_of(target, misfits),
                Confidence.LIKELY,
                f"{here} instead of {there}, with packages that were built for another Python",
                Subject("interpreter", "python"),
                f"The wheels of {wheels.listed(misfits)} hold extension modules for another interpreter "
                f"({details}). This one looks for other file name endings and does not find them.",
                predicted_error=wheels.first_error(target, misfits),
                evidence=evidence,
                fix=(*_interpreter_fix(before), wheels.rebuild_fix()),
            )
        else:
            yield self.finding(
                Impact.NOTE,
                Confidence.CERTAIN,
                f"{here} instead of {there}",
                Subject("interpreter", "python"),
                f"The interpreters differ ({details}), and the installed wheels fit the one that is here. "
                "The wheels' tags and digests differ for this reason alone.",
                evidence=evidence,
                fix=_interpreter_fix(before),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        if change.section == "python":
            return _follows_in_python(change)
        if change.section == "packages":
            return (
                effects.is_record(change)
                or _is_interpreter_tag(change)
                or _same_but_version(change)
                or wheels.explained_by_marker(finding.evidence, change.path)
            )
        if change.section == "libraries":
            # What the interpreter does not see, it does not load.
            about = effects.distributions_of_change(change)
            if about and about.issubset(sides.of_target(wheels.for_other_interpreter)):
                return True
        return change.section in {"programs", "variables", "libraries"} and _same_but_version(change)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        del finding
        if effect.code in {"PKG009", "ART008"}:
            return True
        if effect.code == "LIB001" and any(name.startswith("libpython") for name in effects.sonames_of(effect)):
            return True
        return effects.required_by_marker(effect, _PYTHON_MARKERS) or effects.misfits(
            effect, sides.target, sides.of_target(wheels.for_other_interpreter)
        )


_PYTHON_MARKERS = (
    "python_version",
    "python_full_version",
    "implementation_name",
    "implementation_version",
    "platform_python_implementation",
)

# Facts that are a function of the interpreter's version and build.
_OF_THE_BUILD = frozenset(
    {
        "version", "implementation", "cache_tag", "soabi", "extension_suffixes", "shared_library",
        "free_threaded",
        "gil_enabled", "debug", "bits",
    }
)  # fmt: skip

_ABI = re.compile(r"(?:cpython-|cp)(?P<cpython>\d+[a-z]*)|pypy(?P<pypy>\d+-pp\d+)")


def abi_of(soabi: str | None) -> str | None:
    """``313t`` of ``cpython-313t-x86_64-linux-gnu`` and ``cp313t-win_amd64``; the rest is the platform's."""
    found = _ABI.match(soabi or "")
    return (found["cpython"] or f"pypy{found['pypy']}") if found else None


def minor_of(python: Mapping[str, Any]) -> str | None:
    """``3.11`` of ``3.11.7``."""
    found = re.match(r"\d+\.\d+", python.get("version", ""))
    return found.group() if found else None


def _abi_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, Any], Any]]:
    """(key of the fact, (word, value in the baseline), value in the target). What one side lacks is equal."""
    pairs = [
        ("implementation", "implementation", before.get("implementation"), after.get("implementation")),
        ("version", "version", minor_of(before), minor_of(after)),
        ("soabi", "ABI", abi_of(before.get("soabi")), abi_of(after.get("soabi"))),
        ("free_threaded", "free-threaded", before.get("free_threaded"), after.get("free_threaded")),
        ("debug", "debug build", before.get("debug"), after.get("debug")),
        ("bits", "bits", before.get("bits"), after.get("bits")),
    ]
    for key, word, old, new in pairs:
        if old is not None and new is not None and old != new:
            yield key, (word, old), new


def _words(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _named(python: Mapping[str, Any]) -> str:
    """``CPython 3.13 (free-threaded)``."""
    names = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalPy"}
    implementation = python.get("implementation", "")
    kinds = [
        word
        for word, given in (
            ("free-threaded", python.get("free_threaded")),
            ("debug", python.get("debug")),
            ("32 bit", python.get("bits") == 32),
        )
        if given
    ]
    name = names.get(implementation, implementation or "Python")
    text = f"{name} {minor_of(python) or python.get('version', '')}".rstrip()
    return f"{text} ({', '.join(kinds)})" if kinds else text


def _interpreter_fix(python: Mapping[str, Any]) -> tuple[Fix, ...]:
    minor = minor_of(python)
    if minor is None or python.get("implementation", "cpython") != "cpython" or python.get("free_threaded"):
        return ()
    return (Fix("dockerfile", f"FROM python:{minor}-slim"),)


def _follows_in_python(change: Change) -> bool:
    key = change.path[1]
    if key in _OF_THE_BUILD or change.path[1:] == ("environment", "made_with"):
        return True
    if key == "tags":
        return len(change.path) > 2 and change.path[2] == "interpreters"
    if key == "flags":  # a flag that one of the versions does not have yet
        return change.kind != "changed"
    if key in {"search_path", "search_path_files", "missing_modules"}:
        text = change.path[-1] if key == "search_path_files" else change.after or change.before
        if change.kind != "changed":
            return isinstance(text, str) and _VERSIONED_FOLDER.search(text) is not None
    return _same_but_version(change)


def _is_interpreter_tag(change: Change) -> bool:
    """A wheel tag that names one version of an interpreter: cp311-cp311-*, not py3-none-any, cp37-abi3-*."""
    if len(change.path) != 5 or change.path[3] != "tags":
        return False
    return re.match(r"(?:cp|pp)\d+-(?!abi3|none)", change.path[4]) is not None


_VERSIONED_FOLDER = re.compile(r"python3?\d?\.?\d+t?[/\\.]|[Pp]ython3\d+")
_VERSION_IN_PATH = re.compile(
    r"(?:c?python|cp|py|pypy|pp)[-_]?\d+(?:\.\d+)*[a-z]?(?![a-z0-9])|(?<![\w.])3\.\d+(?:\.\d+)?t?(?![\w.]*\d)",
    re.IGNORECASE,
)


def _same_but_version(change: Change) -> bool:
    """Whether two paths differ in the version of Python that stands in them, and in nothing else."""
    before, after = change.before, change.after
    if not (isinstance(before, str) and isinstance(after, str)) or change.path[-1] == "version":
        return False
    if not ("/" in before or "\\" in before or before.endswith((".egg-info", ".egg"))):
        return False
    return _VERSION_IN_PATH.sub("PYTHON", before) == _VERSION_IN_PATH.sub("PYTHON", after)


class PY002(Contradiction):
    """A file on the search path hides a module of the standard library.

    Compares: the folders that come before the standard library on sys.path (PYTHONPATH, mostly) with the
    names of its modules.

    Why: a json.py, types.py or random.py in a folder of PYTHONPATH is imported instead of the real module
    by everyone, the installed packages included, which then miss names in it. Backports of old modules
    (enum34, typing, dataclasses) do the same where their folder is put on PYTHONPATH.

    See: `ImportError: cannot import name 'Random' from 'random' (/app/random.py)`; `AttributeError: module
    'json' has no attribute 'loads'`. Python 3.13 and newer add `(consider renaming '/app/random.py' since
    it has the same name as the standard library module named 'random' ...)`.

    Decided: the module is one that numerical packages or servers import themselves: breaks, likely. Another
    module: breaks, possible. The text depends on what the file holds, so it is not predicted.

    Fix: rename the file, take its folder off PYTHONPATH, or uninstall the backport.

    Limits: the folder of the script that is started comes first on the path too, and is not known before it
    is started. What the hiding file offers is not compared with the real module.
    """

    code = "PY002"
    name = "shadowed-standard-module"
    reads = ("python",)
    references = (
        "https://docs.python.org/3/library/sys_path_init.html",
        "https://docs.python.org/3/whatsnew/3.13.html#improved-error-messages",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for module, path in sorted((lookup(target, ("python", "shadowed_modules")) or {}).items()):
            folder = re.split(r"[/\\][^/\\]*$", path)[0]
            evidence = [at(target, "target", "python", "shadowed_modules", module)]
            fix = [Fix("advice", f"Rename {path}, or take {folder} off the search path.")]
            searched = (lookup(target, ("variables", "variables", "PYTHONPATH")) or {}).get("value", "")
            if folder in re.split(r"[:;]", searched):
                evidence.append(at(target, "target", "variables", "variables", "PYTHONPATH"))
                fix.append(Fix("variable", "unset PYTHONPATH"))
            for name, record in distributions_of(target).items():
                if record["location"] == folder and module in record["modules"]:
                    evidence.append(Evidence("target", (*DISTRIBUTIONS, name, "location"), folder))
                    fix.insert(0, Fix("pip", f"python -m pip uninstall {shlex.quote(name)}"))
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if module in _IMPORTED_BY_MOST else Confidence.POSSIBLE,
                f"{path} hides the standard module {module}",
                Subject("module", module),
                f"Every `import {module}` in this environment, also inside installed packages, gets this "
                "file instead of the standard library's.",
                evidence=evidence,
                fix=fix,
            )


# What importing numpy 2.4.6, torch 2.13.0 and fastapi 0.165.0 brings in (seen in sys.modules).
_IMPORTED_BY_MOST = frozenset(
    """
    abc argparse array ast asyncio base64 binascii bisect bz2 calendar cmath codecs collections colorsys
    concurrent contextlib contextvars copy copyreg csv ctypes dataclasses datetime decimal difflib dis
    email encodings enum fcntl fnmatch fractions functools genericpath gettext glob grp gzip hashlib heapq
    hmac html http importlib inspect io ipaddress json keyword linecache locale logging lzma math
    mimetypes mmap multiprocessing ntpath numbers opcode operator os pathlib pickle pickletools pkgutil
    platform posixpath pprint queue quopri random re reprlib runpy secrets select selectors shlex shutil
    signal site socket ssl stat string struct subprocess sysconfig tarfile tempfile textwrap threading
    timeit token tokenize traceback types typing unicodedata unittest urllib uuid warnings weakref zipfile
    zipimport zlib zoneinfo
    """.split()  # noqa: SIM905 - a list of words to read
)


class PY003(Drift):
    """The interpreter was built without a part of the standard library that the baseline has.

    Compares: the optional extension modules of the standard library (_bz2, _ctypes, _lzma, _sqlite3, _ssl,
    zlib, ...) that the two builds have.

    Why: Python compiles these modules only where the headers of a library were there, and says so in one
    line of a long build log. Slim images, pyenv and minimal distributions lack them, and what imports them
    fails.

    See: `ModuleNotFoundError: No module named '_lzma'`, `ModuleNotFoundError: No module named '_ctypes'`.

    Decided: an installed distribution is known to import the module when it is imported itself: breaks,
    likely, with the text of the table. Nobody is known to: a note.

    Fix: install the library's headers and build Python again, or take an image of Python that is complete.

    Limits: the table knows a few distributions (pandas, for one, asks for bz2 and lzma at first use only,
    since 0.25.1, and is not in it for these). Imports in the user's own code are not seen. Between
    operating systems nothing is said: each has its own set of modules.
    """

    code = "PY003"
    name = "missing-standard-module"
    reads = ("python",)
    references = (
        "https://github.com/pyenv/pyenv/wiki",
        "https://github.com/pytorch/vision/issues/2921",
        "https://github.com/pandas-dev/pandas/issues/27532",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        if _system(baseline) != _system(target):
            return
        known = lookup(baseline, ("python", "missing_modules")) or {}
        for module in sorted(lookup(target, ("python", "missing_modules")) or {}):
            if module in known:
                continue
            needing = [
                (name, need)
                for need in tables.standard_module_needs()
                if need.module == module
                for name, record in distributions_of(target).items()
                if name == need.distribution and tables.in_range(need.versions, req.version_of(record))
            ]
            evidence = [
                at(target, "target", "python", "missing_modules", module),
                *held(baseline, "baseline", ("python", "missing_modules")),
                *held(target, "target", ("python", "base_executable")),
            ]
            evidence += [at(target, "target", *DISTRIBUTIONS, name, "version") for name, _ in needing]
            users = wheels.listed([name for name, _ in needing])
            public = module.removeprefix("_")
            yield self.finding(
                Impact.BREAKS if needing else Impact.NOTE,
                Confidence.LIKELY,
                f"This Python was built without {module}",
                Subject("module", module),
                f"The baseline's Python has {module}; this one does not, so `import {public}` fails. "
                + (f"Importing {users} needs it." if users else "No installed distribution is known to need it."),
                predicted_error=(
                    needing[0][1].predicted_error if needing else f"ModuleNotFoundError: No module named '{module}'"
                ),
                evidence=evidence,
                fix=_build_fix(target, module),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        return change.path == ("python", "missing_modules", finding.subject.name)


# Debian's names of the headers that each module is compiled with (https://github.com/pyenv/pyenv/wiki).
_HEADERS = {
    "_bz2": "libbz2-dev",
    "_ctypes": "libffi-dev",
    "_curses": "libncurses-dev",
    "_dbm": "libgdbm-compat-dev",
    "_hashlib": "libssl-dev",
    "_lzma": "liblzma-dev",
    "_sqlite3": "libsqlite3-dev",
    "_ssl": "libssl-dev",
    "_tkinter": "tk-dev",
    "_uuid": "uuid-dev",
    "_zstd": "libzstd-dev",
    "readline": "libreadline-dev",
    "zlib": "zlib1g-dev",
}


def _build_fix(target: Snapshot, module: str) -> list[Fix]:
    fixes = []
    headers = _HEADERS.get(module)
    if headers and lookup(target, ("system", "packages", "manager")) == "dpkg":
        fixes.append(Fix("apt", f"apt-get install -y {headers}"))
        fixes.append(
            Fix(
                "advice",
                "Then build Python again (pyenv install --force, or make); headers alone are no help.",
            )
        )
    minor = minor_of(target.facts("python") or {})
    if minor:
        fixes.append(Fix("dockerfile", f"FROM python:{minor}-slim"))
    return fixes


def _system(snapshot: Snapshot) -> Any:
    return lookup(snapshot, ("python", "platform", "system"))
