"""Family PKG: what lies on the disk, against what installers recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Impact, Subject
from driftcheck.rules import effects, search_path
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import (
    ASIDE,
    DISTRIBUTIONS,
    SPECIFICATIONS,
    count_of,
    distributions_of,
    is_code,
    pinned,
    pip_fix,
    shared_of,
    titled,
    without_bytecode,
)
from driftcheck.snapshot import Snapshot

# How many distributions are named before "and N more", and how many stand as evidence.
NAMED = 4


class PKG002(Contradiction):
    """One distribution has two metadata directories in one location.

    Compares: the metadata directories (.dist-info, .egg-info) of each location, by normalised name.

    Why: an upgrade was interrupted, or two installers wrote over each other (a COPY of an old layer over
    a new one does it too). The files are those of one version, or a mixture; which version
    importlib.metadata answers with depends on the order in which the directory is listed.

    See: wrong versions in reports, checks of versions that pass or fail at random, and with a mixture any
    ImportError or AttributeError.

    Decided: breaks, likely, where files of the install that fits best are missing or altered, since it is
    a mixture then; breaks, possible, for two versions of which one is whole; a note for twice the same
    version.

    Fix: uninstall until pip says that it is not installed, then install once.

    Limits: what pip itself left behind under a name with ~ is ignored by Python and by this rule.
    """

    code = "PKG002"
    name = "duplicate-install"
    reads = ("packages",)
    references = (
        "https://github.com/pypa/pip/issues/3089",
        "https://github.com/pypa/pip/issues/11849",
        f"{SPECIFICATIONS}/recording-installed-packages/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, record in sorted(distributions_of(target).items()):
            others = [other for other in record.get("other_installs", []) if other["same_directory"]]
            if not others:
                continue
            versions = sorted({str(entry["version"]) for entry in (record, *others)})
            mixed = "missing_files" in record or "altered_files" in record
            impact, confidence = Impact.BREAKS, Confidence.LIKELY if mixed else Confidence.POSSIBLE
            if len(versions) == 1 and not mixed:
                impact, confidence = Impact.NOTE, Confidence.CERTAIN
            folders = ", ".join([record["metadata"], *(str(other["metadata"]) for other in others)])
            yield self.finding(
                impact,
                confidence,
                f"{record['name']} is installed {1 + len(others)} times in one directory ({' and '.join(versions)})",
                Subject("distribution", name),
                f"{record['location']} holds {folders}. "
                + (
                    "The files are a mixture: even the install that fits them best misses some or finds others."
                    if mixed
                    else f"The files are those of {req.version_of(record)}; who asks may be told another."
                ),
                evidence=[
                    at(target, "target", *DISTRIBUTIONS, name, "metadata"),
                    at(target, "target", *DISTRIBUTIONS, name, "other_installs"),
                ],
                fix=pip_fix(
                    target,
                    *[f"uninstall -y {record['name']}"] * (1 + len(others)),
                    f"install --no-deps {pinned(record)}",
                ),
            )


class PKG003(Contradiction):
    """Two distributions own the same files.

    Compares: the RECORD files of all distributions of one location: paths that two of them list, and
    whether they list them with the same hash.

    Why: the later install wrote over the files of the earlier one, so the module is a mixture of two
    builds. Uninstalling either of them deletes the files of both. No package checker notices.

    See: with OpenCV `ImportError: libGL.so.1: cannot open shared object file: No such file or directory`
    though the headless variant is installed, or an attribute of cv2 that is missing; with onnxruntime-gpu
    the CUDAExecutionProvider is silently absent; after an uninstall `ModuleNotFoundError: No module named
    'cv2'`.

    Decided: where files differ and code is among the shared ones: breaks, likely, if neither of the two is
    whole any more; changes-results, likely, if one of them is, because then its build runs and the other
    is only listed. Where a third one owns files of both and is whole, its build runs: it is found with each of
    the two, and they are not found with each other. Breaks, possible, where only __init__.py files are shared and
    differ (namespaces of one publisher); a note for identical files and for documents and tests. Packages that
    share nothing but identical __init__.py files are left out.

    Fix: uninstall one, and install the other again, because the uninstall took its files away. The
    baseline says which one to keep; without it, the headless and the more complete OpenCV, and the
    accelerated onnxruntime.

    Limits: which of the two wrote last is only known where sizes differ.
    """

    code = "PKG003"
    name = "files-owned-twice"
    reads = ("packages",)
    references = (
        "https://github.com/opencv/opencv-python#installation-and-usage",
        "https://github.com/opencv/opencv-python/issues/467",
        "https://github.com/microsoft/onnxruntime/issues/26996",
        "https://github.com/microsoft/onnxruntime/issues/3326",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        for pair, shared in sorted(shared_of(target).items()):
            names = pair.split(" ")
            paths = list(shared["examples"])
            complete = shared["count"] <= len(paths)
            only_init = complete and all(path.endswith("__init__.py") for path in paths)
            if len(set(names)) != 2 or any(name not in distributions for name in names):
                continue
            if only_init and not shared["different"]:
                continue
            code = any(is_code(path) for path in paths)
            impact, confidence = Impact.NOTE, Confidence.CERTAIN
            whole = [name for name in names if self._is_whole(distributions[name])]
            if not whole and shared["different"] and self._is_third(target, names):
                continue
            if shared["different"] and code:
                impact, confidence = Impact.BREAKS, Confidence.POSSIBLE if only_init else Confidence.LIKELY
                if whole and not only_init:
                    impact = Impact.CHANGES_RESULTS
            keep, drop = self._choice(names, distributions, distributions_of(baseline))
            yield self.finding(
                impact,
                confidence,
                f"{names[0]} and {names[1]} own the same {count_of(shared['count'], 'file')}"
                + (f", {shared['different']} of them different" if shared["different"] else ""),
                Subject("distributions", pair),
                self._explanation(names, shared, impact, whole),
                evidence=[at(target, "target", "packages", "shared_files", pair)],
                # Each of NVIDIA's two is there for somebody: which may go is GPU036's to say.
                fix=()
                if all(name.startswith("nvidia-") for name in names)
                else pip_fix(
                    target,
                    f"uninstall -y {drop}",
                    f"install --force-reinstall --no-deps {pinned(distributions[keep])}",
                ),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """The shared files, and the second of the two where only the target has it."""
        del sides
        names = finding.subject.name
        if change.path[:3] == ("packages", "shared_files", names):
            return True
        return (
            change.kind == "added"
            and change.path[:2] == DISTRIBUTIONS
            and change.path[2:] in {(n,) for n in names.split(" ")}
        )

    @classmethod
    def _is_third(cls, target: Snapshot, names: Sequence[str]) -> bool:
        """Whether a whole distribution owns files of both: what is there is its build, as its own findings say."""
        shared = shared_of(target)
        return any(
            cls._is_whole(record) and all(" ".join(sorted((name, other))) in shared for other in names)
            for name, record in distributions_of(target).items()
            if name not in names
        )

    @staticmethod
    def _is_whole(record: dict[str, Any]) -> bool:
        """Whether all that a distribution recorded is there, as far as sizes tell."""
        lost = (without_bytecode(record.get(key)) for key in ("missing_files", "altered_files"))
        return record["record"] is not None and not any(files["count"] for files in lost)

    @staticmethod
    def _explanation(names: Sequence[str], shared: dict[str, Any], impact: Impact, whole: Sequence[str]) -> str:
        example = next(iter(shared["examples"]), "")
        text = f"Both list {example} and others in {shared['location']}." if example else "Both list the same files."
        if impact is Impact.NOTE:
            return f"{text} Nothing is lost yet; an uninstall of either takes them from both."
        if impact is Impact.CHANGES_RESULTS:
            winner = whole[0] if len(whole) == 1 else "one of them, whose sizes are those of the other,"
            return (
                f"{text} They recorded different contents, and those of {winner} are there: that build is imported, "
                "whatever the other one promises. An uninstall of either deletes the files of both."
            )
        return (
            f"{text} They recorded different contents, so what lies there is that of whichever was installed last, "
            f"beside files that only the other one has. An uninstall of {names[0]} or {names[1]} deletes "
            "the files of both."
        )

    @staticmethod
    def _choice(names: Sequence[str], distributions: dict[str, Any], known: dict[str, Any]) -> tuple[str, str]:
        """Which to keep and which to drop."""
        in_baseline = [name for name in names if name in known]
        order = req.variants_of(names[0])
        if len(in_baseline) == 1:
            keep = in_baseline[0]
        elif names[0] in order and names[1] in order:
            keep = min(names, key=order.index)
        else:
            keep = max(names, key=lambda name: (distributions[name]["requested"], name))
        return keep, next(name for name in names if name != keep)


class PKG004(Contradiction):
    """A distribution is hidden by something that stands earlier on the search path.

    Compares: all installs of each name along sys.path, and the modules of each distribution with files
    and packages of the same name in earlier entries.

    Why: Python imports the first one that it finds. What pip list shows, what a lock file promises and
    what a check of versions sees may be another than what runs.

    See: an attribute or a name that the installed version has and the imported one has not: `ImportError:
    cannot import name 'Sentinel' from 'typing_extensions' (/opt/lib/typing_extensions.py)`.

    Decided: modules hidden by files of no install of that distribution: breaks, likely. Another version
    from outside the environment (PYTHONPATH, the user's site-packages) hides the one inside:
    changes-results, likely. Another version inside it, as a virtual environment over the system's
    packages has it: a note. Twice the same version: a note. Several that one directory hides in another are one
    finding.

    Fix: take the entry off PYTHONPATH, set PYTHONNOUSERSITE=1, or delete the file that hides the module.

    Limits: the directory of the script, which Python puts first, is not part of the measured search path.
    """

    code = "PKG004"
    name = "shadowed-distribution"
    reads = ("packages", "python")
    references = (
        "https://docs.python.org/3/library/sys_path_init.html",
        "https://docs.python.org/3/using/cmdline.html#envvar-PYTHONNOUSERSITE",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        twice: dict[tuple[str, str], list[str]] = {}
        differing: dict[tuple[str, str], list[str]] = {}
        for name, record in sorted(distributions_of(target).items()):
            others = [other for other in record.get("other_installs", []) if not other["same_directory"]]
            unlike = search_path.unlike(record)
            if unlike is not None:
                differing.setdefault((record["location"], unlike["location"]), []).append(name)
            elif others:
                twice.setdefault((record["location"], others[0]["location"]), []).append(name)
            hidden = {
                module: path for module, path in record.get("shadowed_by", {}).items() if not ASIDE.search(module + "/")
            }
            if hidden:
                yield self._hidden(target, name, record, hidden)
        for (first, second), names in sorted(differing.items()):
            yield self._other_versions(target, first, second, names)
        for (first, second), names in sorted(twice.items()):
            yield self._twice(target, first, second, names)

    def _twice(self, target: Snapshot, first: str, second: str, names: Sequence[str]) -> Finding:
        """The same versions in two places: one copy too many, of one or of a whole environment."""
        records = [distributions_of(target)[name] for name in names]
        listed = ", ".join(titled(record) for record in records[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        alone = len(names) == 1
        return self.finding(
            Impact.NOTE,
            Confidence.CERTAIN,
            f"{listed} stands twice on sys.path, in the same version"
            if alone
            else f"{len(names)} distributions stand twice on sys.path, in the same version",
            Subject("distribution", names[0]) if alone else Subject("directory", second),
            f"Python imports {listed}{more} from {first}; what is in {second} is never used.",
            evidence=[
                *(at(target, "target", *DISTRIBUTIONS, name, "other_installs") for name in names[:NAMED]),
                *_by_variable(target, first),
            ],
        )

    def _other_versions(self, target: Snapshot, first: str, second: str, names: Sequence[str]) -> Finding:
        """Distributions of one directory that hide other versions in another."""
        records = [distributions_of(target)[name] for name in names]
        later = [(search_path.unlike(record) or {}).get("version") or "(no version)" for record in records]
        foreign = search_path.is_outsider(target, first, second)
        alone = len(names) == 1
        pairs = [f"{titled(record)} hides {version}" for record, version in zip(records, later, strict=True)]
        listed = ", ".join(pairs[:NAMED]) + (f" and so on, {len(pairs) - NAMED} more" if len(pairs) > NAMED else "")
        return self.finding(
            Impact.CHANGES_RESULTS if foreign else Impact.NOTE,
            Confidence.LIKELY if foreign else Confidence.CERTAIN,
            (
                f"{titled(records[0])} hides {records[0]['name']} {later[0]}, which stands later on sys.path"
                if alone
                else f"{first} hides other versions of {len(names)} distributions, which stand later on sys.path"
            ),
            Subject("distribution", names[0]) if alone else Subject("directory", first),
            (
                f"Python imports {records[0]['name']} from {first}; that in {second} is never used."
                if alone
                else f"{listed}. Those in {second} are never used."
            )
            + (f" {first} lies outside the environment." if foreign else ""),
            evidence=[
                *(
                    at(target, "target", *DISTRIBUTIONS, name, key)
                    for name in names[:NAMED]
                    for key in ("location", "version", "other_installs")
                ),
                *_by_variable(target, first),
            ],
            fix=search_path.off_the_path(first) if foreign else (),
        )

    def _hidden(self, target: Snapshot, name: str, record: dict[str, Any], hidden: dict[str, str]) -> Finding:
        module, path = min(hidden.items())
        known = target.facts("python") or {}
        return self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"{module} of {titled(record)} is hidden by {path}",
            Subject("module", module),
            f"`import {module}` finds {path}, because it stands earlier on sys.path than "
            f"{record['location']}, where "
            f"{record['name']} is installed. Its code is never run."
            + (f" So are {', '.join(sorted(hidden)[1:])}." if len(hidden) > 1 else ""),
            evidence=[
                at(target, "target", *DISTRIBUTIONS, name, "shadowed_by", module),
                at(target, "target", *DISTRIBUTIONS, name, "location"),
                *((at(target, "target", "python", "search_path"),) if "search_path" in known else ()),
                *_by_variable(target, path.rpartition("/")[0]),
            ],
            fix=search_path.off_the_path(path.rsplit("/", 1)[0]),
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A requirement that would be met by what is hidden."""
        distributions = distributions_of(sides.target)
        hidden = [entry.path[2] for entry in effect.evidence if entry.path[-1] == "other_installs"]
        return effect.code == "PKG001" and any(
            finding.subject.name in {name, distributions[name]["location"]} for name in hidden if name in distributions
        )


def _by_variable(target: Snapshot, entry: str) -> list[Evidence]:
    """PYTHONPATH, where this entry of the search path comes from it."""
    path = ("variables", "variables", "PYTHONPATH")
    value = (lookup(target, path) or {}).get("value") or ""
    return [at(target, "target", *path)] if entry in re.split(r"[:;]", value) else []


class PKG006(Contradiction):
    """Files of a distribution are missing or are not those that its wheel brought.

    Compares: the paths and sizes in RECORD with the files that are there.

    Why: a full disk or an interrupted copy leaves files of no bytes; an image was slimmed too far;
    somebody patched a file by hand, and only there.

    See: `ModuleNotFoundError: No module named 'sklearn.tree'`, ImportError or AttributeError for what is missing or
    empty; other behaviour of the same version for what was patched.

    Decided: certain that the files are not those of the wheel. Code that is missing or empty: breaks,
    likely. Code of another size: changes-results, likely. Tests, stubs, documents and scripts: a note, and
    so is everything where no installer is named: Debian and others keep the RECORD of the build and then
    strip binaries and move files. Silent for editable installs, for distributions without RECORD, and for
    altered files that another distribution owns too (PKG003 explains those). Compiled bytecode is not
    looked at.

    Fix: reinstall the same version.

    Limits: a file that was changed and kept its size is not noticed, since files are not read. Scripts
    outside of the location, whose first line installers rewrite, count as present only.
    """

    code = "PKG006"
    name = "files-contradict-record"
    reads = ("packages",)
    references = (
        f"{SPECIFICATIONS}/recording-installed-packages/#the-record-file",
        "https://github.com/pypa/pip/issues/1463",
        "https://github.com/pypa/pip/issues/10744",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, record in sorted(distributions_of(target).items()):
            if record["record"] is None or (record["direct_url"] and record["direct_url"]["editable"]):
                continue
            missing = without_bytecode(record.get("missing_files"))
            altered = without_bytecode(record.get("altered_files"))
            others = self._owned_by_others(target, name)
            changed = {
                path: sizes for path, sizes in altered["examples"].items() if path.split("/", 1)[0] not in others
            }
            explained = len(altered["examples"]) - len(changed)
            own = altered["count"] - explained if changed or not explained else 0
            if missing["count"] or own:
                yield self._finding(target, name, record, missing, own, changed)

    def _finding(
        self,
        target: Snapshot,
        name: str,
        record: dict[str, Any],
        missing: dict[str, Any],
        altered_count: int,
        altered: dict[str, dict[str, int]],
    ) -> Finding:
        gone = [path for path in missing["examples"] if is_code(path)]
        empty = [path for path, size in altered.items() if is_code(path) and not size["found"] and size["recorded"]]
        patched = [path for path, size in altered.items() if is_code(path) and path not in empty]
        impact, confidence = Impact.NOTE, Confidence.CERTAIN
        if record["installer"] is None:
            pass
        elif gone or empty:
            impact, confidence = Impact.BREAKS, Confidence.LIKELY
        elif patched:
            impact, confidence = Impact.CHANGES_RESULTS, Confidence.LIKELY
        parts = []
        if missing["count"]:
            parts.append(f"{count_of(missing['count'], 'file')} missing")
        if altered_count:
            parts.append(f"{count_of(altered_count, 'file')} altered")
        examples = [f"{path} is missing" for path in (gone or list(missing["examples"]))[:3]]
        examples += [f"{path} is empty" for path in empty[:3]]
        examples += [
            f"{path} has {altered[path]['found']} bytes instead of {altered[path]['recorded']}"
            for path in (patched or [path for path in altered if path not in empty])[:3]
        ]
        module = _first_module(gone)
        return self.finding(
            impact,
            confidence,
            f"{titled(record)}: {' and '.join(parts)}",
            Subject("distribution", name),
            f"RECORD says which files the wheel brought. {'; '.join(examples)}." + self._why_a_note(record, impact),
            predicted_error=f"ModuleNotFoundError: No module named '{module}'" if module else None,
            evidence=[
                at(target, "target", *DISTRIBUTIONS, name, key)
                for key in ("missing_files", "altered_files")
                if key in record
            ],
            fix=pip_fix(target, f"install --force-reinstall --no-deps {pinned(record)}"),
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A library that cannot be found or read because its file is one of these."""
        del sides
        files = {path for entry in finding.evidence for path in (entry.value or {}).get("examples", {})}
        if effect.code == "LIB005":
            return effect.subject.name in files
        names = effects.sonames_of(effect) if effect.code == "LIB001" else []
        return bool(names) and {path.rpartition("/")[2] for path in files}.issuperset(names)

    @staticmethod
    def _why_a_note(record: dict[str, Any], impact: Impact) -> str:
        if impact is not Impact.NOTE:
            return ""
        if record["installer"] is None:
            return " No installer is named: a package of the system, whose files were changed when it was made."
        return " No import needs them."

    @staticmethod
    def _owned_by_others(target: Snapshot, name: str) -> set[str]:
        """First components of the paths that another distribution owns too, with other contents.

        The facts name ten of the shared files, so the directory decides.
        """
        return {
            path.split("/", 1)[0]
            for pair, shared in shared_of(target).items()
            if name in pair.split(" ") and shared["different"]
            for path in shared["examples"]
        }


def _first_module(gone: Sequence[str]) -> str | None:
    """The module nearest to the top that no import finds any more, by its dotted name.

    A directory that lost no more than its ``__init__.py`` is imported all the same, as a namespace.
    """
    names = [
        found["name"].replace("/", ".")
        for path in gone
        if (found := _MODULE.fullmatch(path))
        and (not found["package"] or any(other.startswith(f"{found['name']}/") for other in gone if other != path))
    ]
    return min(names, key=lambda name: name.count("."), default=None)


# Libraries that wheels bundle (numpy.libs/libgfortran-040039e1.so) are not imported.
_MODULE = re.compile(
    r"(?P<name>[^\W\d]\w*(?:/[^\W\d]\w*)*?)(?:(?P<package>/__init__)?\.py|\.(?:cpython-\d+\w*(?:-[\w-]+)?|abi3|pypy[\w-]+)\.so)"
)
