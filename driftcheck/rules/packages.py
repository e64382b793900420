"""Family PKG: what installed distributions say of themselves and of each other.

How requirements, versions and wheel tags are read stands in ``requirements.py``; here stand the conclusions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules.accelerators import build_of, judge, stated
from driftcheck.rules.base import Contradiction, Drift, at, lookup
from driftcheck.snapshot import Snapshot

HERE = ("packages", "distributions")
PIP = "python -m pip"
SPECIFICATIONS = "https://packaging.python.org/en/latest/specifications"


def distributions_of(snapshot: Snapshot | None) -> dict[str, Any]:
    facts = snapshot.facts("packages") if snapshot is not None else None
    found: dict[str, Any] = (facts or {}).get("distributions", {})
    return found


def shared_of(snapshot: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = (snapshot.facts("packages") or {}).get("shared_files", {})
    return found


def titled(record: dict[str, Any]) -> str:
    """``torch 2.13.0+cpu``: the name and the version that the code itself states, where it states one."""
    version = record.get("module_version") or req.version_of(record) or "(no version)"
    return f"{record['name']} {version}"


def pip_fix(target: Snapshot, *commands: str) -> tuple[Fix, ...]:
    """Lines for pip, with a word where pip refuses to write (PEP 668)."""
    fixes = [Fix("pip", f"{PIP} {command}") for command in commands]
    if lookup(target, ("python", "environment", "externally_managed")):
        fixes.append(
            Fix(
                "advice",
                "This interpreter is externally managed, so pip refuses to write there: use the package "
                "manager of "
                "the system, or a virtual environment (python3 -m venv), and install inside it.",
            )
        )
    return tuple(fixes)


def pinned(record: dict[str, Any]) -> str:
    """``numpy==2.1.0``, or the bare name where the version is not known."""
    version = req.version_of(record)
    return f"{record['name']}=={version}" if req.parsed(version) is not None else str(record["name"])


_CODE = re.compile(r"\.(?:py|pyd|dll|dylib)$|\.so(?:\.|$)")
_ASIDE = re.compile(r"(?:^|/)(?:tests?|testing|docs?|examples?|benchmarks?)/|(?:^|/)(?:test_[^/]*|conftest)\.py$")


def is_code(path: str) -> bool:
    """Whether an import may need this file: not tests, stubs, documents, or what lies outside of the
    location.
    """
    outside = path.startswith(("..", "/")) or path[1:2] == ":"
    return not outside and bool(_CODE.search(path)) and not _ASIDE.search(path)


def without_bytecode(files: dict[str, Any] | None) -> dict[str, Any]:
    """A list of files less the compiled ones, which Python writes anew as it pleases (numpy 1.26 ships one)."""
    if files is None:
        return {"count": 0, "examples": {}}
    kept = {path: value for path, value in files["examples"].items() if not path.endswith(".pyc")}
    return {"count": files["count"] - len(files["examples"]) + len(kept), "examples": kept}


class PKG001(Contradiction):
    """A distribution requires another one, which is missing or has a version that it does not accept.

    Compares: Requires-Dist of every installed distribution with the distributions that are installed.
    Markers are evaluated for the measured interpreter, and extras count where an installed distribution
    asks for them.

    Why: an author states there what the code was written against. What is missing cannot be imported;
    what is too old or too new lacks names that the code uses, or has other binary interfaces.

    See: `ModuleNotFoundError: No module named '...'`, or an ImportError or AttributeError somewhere
    inside. transformers checks its own pins when it is imported: `ImportError: tokenizers>=0.23.1,<0.24.0
    is required for a normal functioning of this module, but found tokenizers==0.21.4.`

    Decided: as `pip check` decides; a pre-release is accepted once it is installed. Missing: breaks,
    likely. A wrong version: breaks, likely where an exact pin is broken or the installed version lies in
    another major version than the bound (0.19 and 0.20 are two majors), possible otherwise, because many
    bounds are caution. Certain for tokenizers and safetensors required by transformers 4.46 to 5.23,
    whose source refuses them by version before it imports them. A note where another variant brings the
    same module (opencv-python where opencv-python-headless is asked for).

    Fix: install the version of the baseline where it satisfies the requirement, else what the requirement
    says.

    Limits: requirements that PEP 508 cannot parse, versions that PEP 440 cannot parse and markers about
    the kernel's release are not judged. Whether the code path that needs the distribution is ever taken
    is not known.
    """

    code = "PKG001"
    name = "unmet-requirement"
    reads = ("packages", "python")
    references = (
        "https://pip.pypa.io/en/stable/cli/pip_check/",
        f"{SPECIFICATIONS}/dependency-specifiers/",
        "https://github.com/huggingface/transformers/blob/main/src/transformers/dependency_versions_check.py",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        broken = list(req.unmet(distributions, target.facts("python") or {}))
        pins = [(entry, error) for entry in broken if (error := req.transformers_error(entry)) is not None]
        pins.sort(key=lambda pin: req.TRANSFORMERS_PINS.index(pin[0].name))
        for entry in broken:
            error = next((text for pin, text in pins[:1] if pin is entry), None)
            checked = any(pin is entry for pin, _ in pins)
            certain = error is not None and req.transformers_is_certain(entry, broken, distributions)
            yield self._finding(target, baseline, entry, error, checked=checked, certain=certain)

    def _finding(
        self,
        target: Snapshot,
        baseline: Snapshot | None,
        entry: req.Unmet,
        error: str | None,
        *,
        checked: bool,
        certain: bool,
    ) -> Finding:
        distributions = distributions_of(target)
        known = distributions_of(baseline)
        owner = distributions[entry.owner]
        evidence = [at(target, "target", *HERE, entry.owner, "requires", entry.stated)]
        impact, confidence = Impact.BREAKS, Confidence.LIKELY
        stand_in = self._stand_in(entry, distributions, known)
        if entry.missing:
            asked = "" if entry.text == entry.name else f" ({entry.text})"
            title = f"{titled(owner)} requires {entry.name}, which is not installed"
            explanation = f"{owner['name']} states that it needs {entry.name}{asked}, which is not installed."
            if baseline is not None and entry.name in known:
                evidence.append(at(baseline, "baseline", *HERE, entry.name, "version"))
                explanation += f" The baseline has {titled(known[entry.name])}."
                module = req.main_module(known[entry.name])
                error = error or (f"ModuleNotFoundError: No module named '{module}'" if module else None)
        else:
            installed = distributions[entry.name]
            title = f"{titled(owner)} requires {entry.text}, but {entry.version} is installed"
            explanation = (
                f"{owner['name']} states that it needs {entry.text}; {installed['name']} {entry.version} is installed."
            )
            key = "version" if installed.get("version") else "version_of_folder"
            evidence.append(at(target, "target", *HERE, entry.name, key))
            if not checked and not req.is_hard(entry.version or "", entry.specifiers):
                confidence = Confidence.POSSIBLE
                explanation += " The bound is one within a major version: it may be no more than caution."
        if checked:
            explanation += " transformers checks this itself when it is imported, and refuses to go on."
        if certain:
            confidence = Confidence.CERTAIN
        if stand_in:
            impact, confidence, error = Impact.NOTE, Confidence.LIKELY, None
            explanation += f" {titled(distributions[stand_in])} brings the same module."
            evidence.append(at(target, "target", *HERE, stand_in, "version"))
            fix: tuple[Fix, ...] = ()
        else:
            fix = pip_fix(target, f"install {req.fitting(entry, known)}")
        return self.finding(
            impact,
            confidence,
            title,
            Subject("requirement", f"{entry.owner} -> {entry.name}"),
            explanation,
            predicted_error=error,
            evidence=evidence,
            fix=fix,
        )

    @staticmethod
    def _stand_in(entry: req.Unmet, distributions: dict[str, Any], known: dict[str, Any]) -> str | None:
        """An installed distribution that brings the modules of the missing one."""
        if not entry.missing:
            return None
        for variant in req.variants_of(entry.name):
            if variant in distributions and req.satisfies(
                req.version_of(distributions[variant]) or "", entry.specifiers
            ):
                return variant
        modules = known[entry.name]["modules"].keys() if entry.name in known else set()
        if not modules:
            return None
        return next((name for name in sorted(distributions) if modules <= distributions[name]["modules"].keys()), None)


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
                    at(target, "target", *HERE, name, "metadata"),
                    at(target, "target", *HERE, name, "other_installs"),
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

    Decided: breaks, likely, where files differ and code is among the shared ones; breaks, possible, where
    only __init__.py files are shared and differ (namespaces of one publisher); a note for identical files
    and for documents and tests. Packages that share nothing but identical __init__.py files are left out.

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
            if shared["different"] and code:
                impact, confidence = Impact.BREAKS, Confidence.POSSIBLE if only_init else Confidence.LIKELY
            keep, drop = self._choice(names, distributions, distributions_of(baseline))
            yield self.finding(
                impact,
                confidence,
                f"{names[0]} and {names[1]} own the same {_count(shared['count'], 'file')}"
                + (f", {shared['different']} of them different" if shared["different"] else ""),
                Subject("distributions", pair),
                self._explanation(names, shared, impact),
                evidence=[at(target, "target", "packages", "shared_files", pair)],
                fix=pip_fix(
                    target,
                    f"uninstall -y {drop}",
                    f"install --force-reinstall --no-deps {pinned(distributions[keep])}",
                ),
            )

    @staticmethod
    def _explanation(names: Sequence[str], shared: dict[str, Any], impact: Impact) -> str:
        example = next(iter(shared["examples"]), "")
        text = f"Both list {example} and others in {shared['location']}." if example else "Both list the same files."
        if impact is Impact.NOTE:
            return f"{text} Nothing is lost yet; an uninstall of either takes them from both."
        return (
            f"{text} They recorded different contents, so what lies there is that of whichever was "
            "installed last, "
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
    packages has it, or twice the same version: a note.

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
        for name, record in sorted(distributions_of(target).items()):
            others = [other for other in record.get("other_installs", []) if not other["same_directory"]]
            if others:
                yield self._other_install(target, name, record, others)
            hidden = {
                module: path
                for module, path in record.get("shadowed_by", {}).items()
                if not _ASIDE.search(module + "/")
            }
            if hidden:
                yield self._hidden(target, name, record, hidden)

    def _other_install(
        self, target: Snapshot, name: str, record: dict[str, Any], others: Sequence[dict[str, Any]]
    ) -> Finding:
        other = others[0]
        prefixes = [lookup(target, ("python", key)) for key in ("prefix", "base_prefix")]
        foreign = not _within(record["location"], prefixes) and _within(other["location"], prefixes)
        differs = any(entry["version"] != record["version"] for entry in others)
        impact, confidence = Impact.NOTE, Confidence.CERTAIN
        if foreign and differs:
            impact, confidence = Impact.CHANGES_RESULTS, Confidence.LIKELY
        return self.finding(
            impact,
            confidence,
            f"{titled(record)} hides {record['name']} {other['version'] or '(no version)'}, which stands "
            "later on sys.path",
            Subject("distribution", name),
            f"Python imports {record['name']} from {record['location']}; that in {other['location']} is "
            "never used." + (" The one that wins lies outside the environment." if foreign else ""),
            evidence=[
                at(target, "target", *HERE, name, "location"),
                at(target, "target", *HERE, name, "version"),
                at(target, "target", *HERE, name, "other_installs"),
            ],
            fix=self._fixes(record["location"]) if foreign else (),
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
                at(target, "target", *HERE, name, "shadowed_by", module),
                at(target, "target", *HERE, name, "location"),
                *((at(target, "target", "python", "search_path"),) if "search_path" in known else ()),
            ],
            fix=self._fixes(path.rsplit("/", 1)[0]),
        )

    @staticmethod
    def _fixes(entry: str) -> tuple[Fix, ...]:
        if "/.local/" in entry + "/" or entry.startswith("~/Library/Python"):
            return (Fix("variable", "PYTHONNOUSERSITE=1"),)
        return (Fix("advice", f"Take {entry} off PYTHONPATH (or out of the .pth file that adds it)."),)


class PKG005(Drift):
    """The same version of a distribution is another build.

    Compares: RECORD digests (paths and hashes of all files that a wheel brought) of distributions that
    have one public version in both environments, beside wheel tags, build numbers, local versions and
    conda's builds.

    Why: a version names the source and not the binary. Another wheel of it may have another BLAS, another
    CUDA or none, other compiler flags, or a local patch; results and speed differ, and no list of
    versions shows it.

    See: no error. `torch.cuda.is_available()` is False, numbers differ in the last digits, or it is
    slower.

    Decided: certain that the files differ. Where the wheels are for different platforms or Pythons, that
    explains it, and all of them are one note. An accelerated build against a CPU build: slows, likely.
    Other binaries: changes-results, likely. Pure Python, where rebuilding alone changes the digest:
    changes-results, possible.

    Fix: install from the index of the baseline and lock by hash (pip install --require-hashes).

    Limits: distributions without RECORD (those of Debian) are not compared. What differs is not known,
    only that something does.
    """

    code = "PKG005"
    name = "same-version-other-build"
    reads = ("packages",)
    references = (
        "https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode",
        "https://packaging.python.org/en/latest/specifications/binary-distribution-format/",
        "https://github.com/pytorch/pytorch/issues/122494",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = distributions_of(baseline), distributions_of(target)
        elsewhere = []
        for name in sorted(before.keys() & after.keys()):
            one, other = before[name], after[name]
            if not self._same_version(one, other) or self._editable(one) or self._editable(other):
                continue
            builds = build_of(one), build_of(other)
            differ = one["record"] and other["record"] and one["record"]["digest"] != other["record"]["digest"]
            if not differ and (None in builds or builds[0] == builds[1]):
                continue
            if self._other_place(one, other):
                elsewhere.append(name)
            else:
                yield self._finding(baseline, target, name)
        if elsewhere:
            yield self._elsewhere(baseline, target, elsewhere)

    def explains(self, finding: Finding, change: Change) -> bool:
        names = {entry.path[2] for entry in finding.evidence}
        return change.path[:2] == HERE and len(change.path) > 3 and change.path[2] in names

    def _finding(self, baseline: Snapshot, target: Snapshot, name: str) -> Finding:
        one, other = distributions_of(baseline)[name], distributions_of(target)[name]
        pure = all(tag.abi == "none" and tag.platform == "any" for tag in req.wheel_tags(one) | req.wheel_tags(other))
        impact = Impact.CHANGES_RESULTS
        confidence = Confidence.POSSIBLE if pure else Confidence.LIKELY
        builds = build_of(one), build_of(other)
        details = [
            f"{label} {before or 'none'} in the baseline, {after or 'none'} in the target"
            for label, before, after in (
                ("build", *builds),
                ("wheel tag", _tags(one), _tags(other)),
                ("build number", one.get("build"), other.get("build")),
                ("installer", one["installer"], other["installer"]),
                ("source", _source(one), _source(other)),
                ("conda build", _conda(baseline, name), _conda(target, name)),
            )
            if before != after
        ]
        if builds[1] == "cpu" and builds[0] not in {None, "cpu"}:
            impact, confidence = Impact.SLOWS, Confidence.LIKELY
            details.insert(0, "the target's build cannot use an accelerator")
        keys = ["version", "module_version", "record", "tags"]
        return self.finding(
            impact,
            confidence,
            f"{one['name']} {req.version_of(one)} is another build"
            + (
                f": {builds[0]} in the baseline, {builds[1]} in the target"
                if None not in builds and builds[0] != builds[1]
                else ""
            ),
            Subject("distribution", name),
            "The version is the same and the files that the wheel brought are not"
            + (f": {'; '.join(details)}." if details else ", though nothing in their metadata says why."),
            evidence=[
                at(snapshot, side, *HERE, name, key)
                for key in keys
                if one.get(key) != other.get(key) and (key in one or key in other)
                for side, snapshot in (("baseline", baseline), ("target", target))
                if key in distributions_of(snapshot)[name]
            ],
            fix=(
                *pip_fix(target, f"install --force-reinstall --no-deps {pinned(one)}"),
                Fix(
                    "advice",
                    "Use the index that the baseline used (--index-url), and lock by hash (pip install "
                    "--require-hashes).",
                ),
            ),
        )

    def _elsewhere(self, baseline: Snapshot, target: Snapshot, names: Sequence[str]) -> Finding:
        first = names[0]
        one, other = distributions_of(baseline)[first], distributions_of(target)[first]
        return self.finding(
            Impact.NOTE,
            Confidence.CERTAIN,
            f"{_count(len(names), 'distribution')} of the same version came as wheels for another platform or Python",
            Subject("distributions", "wheels for another platform or Python"),
            f"For example {one['name']}: {_tags(one)} in the baseline, {_tags(other)} in the target. Their "
            "tags explain "
            f"that the files differ. All: {', '.join(names)}.",
            evidence=[
                at(snapshot, side, *HERE, name, "tags")
                for name in names
                for side, snapshot in (("baseline", baseline), ("target", target))
            ],
        )

    @staticmethod
    def _same_version(one: dict[str, Any], other: dict[str, Any]) -> bool:
        before, after = req.version_of(one), req.version_of(other)
        first, second = req.parsed(before), req.parsed(after)
        if first is None or second is None:
            return before == after and before is not None
        return first.public == second.public

    @staticmethod
    def _editable(record: dict[str, Any]) -> bool:
        return bool(record["direct_url"] and record["direct_url"]["editable"])

    @staticmethod
    def _other_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether the two wheels are for different interpreters, systems, C libraries or machines."""
        first, second = req.wheel_tags(one), req.wheel_tags(other)
        return bool(first and second) and (
            {req.interpreter_of(tag) for tag in first}.isdisjoint(req.interpreter_of(tag) for tag in second)
            or {req.platform_of(tag.platform).family for tag in first}.isdisjoint(
                req.platform_of(tag.platform).family for tag in second
            )
        )


class PKG006(Contradiction):
    """Files of a distribution are missing or are not those that its wheel brought.

    Compares: the paths and sizes in RECORD with the files that are there.

    Why: a full disk or an interrupted copy leaves files of no bytes; an image was slimmed too far;
    somebody patched a file by hand, and only there.

    See: ModuleNotFoundError, ImportError or AttributeError for what is missing or empty; other behaviour
    of the same version for what was patched.

    Decided: certain that the files are not those of the wheel. Code that is missing or empty: breaks,
    likely. Code of another size: changes-results, likely. Tests, stubs, documents and scripts: a note.
    Silent for editable installs, for distributions without RECORD, and for altered files that another
    distribution owns too (PKG003 explains those). Compiled bytecode is not looked at.

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
        if gone or empty:
            impact, confidence = Impact.BREAKS, Confidence.LIKELY
        elif patched:
            impact, confidence = Impact.CHANGES_RESULTS, Confidence.LIKELY
        parts = []
        if missing["count"]:
            parts.append(f"{_count(missing['count'], 'file')} missing")
        if altered_count:
            parts.append(f"{_count(altered_count, 'file')} altered")
        examples = [f"{path} is missing" for path in (gone or list(missing["examples"]))[:3]]
        examples += [f"{path} is empty" for path in empty[:3]]
        examples += [
            f"{path} has {altered[path]['found']} bytes instead of {altered[path]['recorded']}"
            for path in (patched or [path for path in altered if path not in empty])[:3]
        ]
        module = re.fullmatch(r"(\w+)\.py", gone[0]) if len(gone) == 1 else None
        return self.finding(
            impact,
            confidence,
            f"{titled(record)}: {' and '.join(parts)}",
            Subject("distribution", name),
            f"RECORD says which files the wheel brought. {'; '.join(examples)}."
            + ("" if impact is not Impact.NOTE else " No import needs them."),
            predicted_error=f"ModuleNotFoundError: No module named '{module[1]}'" if module else None,
            evidence=[
                at(target, "target", *HERE, name, key) for key in ("missing_files", "altered_files") if key in record
            ],
            fix=pip_fix(target, f"install --force-reinstall --no-deps {pinned(record)}"),
        )

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


class PKG007(Contradiction):
    """A wheel is installed that this interpreter does not accept.

    Compares: the tags in the WHEEL file with those that the interpreter accepts (PEP 425, 600 and 656).

    Why: site-packages were copied from another Python, another C library or another machine: a COPY
    between stages of different base images, a volume, a PYTHONPATH. Extension modules carry the
    interpreter's ABI in their name, so Python does not even see those of another.

    See: `ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'`, `invalid ELF header` or
    `wrong ELF class`, `version 'GLIBC_2.38' not found`.

    Decided: no tag is accepted. Another Python, ABI, system, C library or machine: breaks, likely. The
    same in all of these, and only a newer C library or macOS than the one here: breaks, possible, because
    a tag is an upper bound. A wheel without extension modules for another Python: a note.

    Fix: install it again with this interpreter.

    Limits: distributions without WHEEL (Debian, some of conda) state no tags. Wheels that were retagged
    by hand are believed.
    """

    code = "PKG007"
    name = "unsupported-wheel"
    reads = ("packages", "python")
    references = (f"{SPECIFICATIONS}/platform-compatibility-tags/", "https://peps.python.org/pep-0600/")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        python_tags = lookup(target, ("python", "tags")) or {}
        if not python_tags.get("interpreters") or not python_tags.get("platforms"):
            return
        here = [req.platform_of(platform) for platform in python_tags["platforms"]]
        for name, record in sorted(distributions_of(target).items()):
            tags = req.wheel_tags(record)
            if not tags or any(req.accepts(python_tags, tag) for tag in tags):
                continue
            impact, confidence = Impact.BREAKS, Confidence.LIKELY
            # linux_x86_64 says nothing of the C library, so the others decide.
            families = {entry.family for entry in here if entry.kind != "linux"} or {here[0].family}
            near = [tag for tag in tags if req.interpreter_of(tag) in python_tags["interpreters"]]
            if all(tag.abi == "none" and tag.platform == "any" for tag in tags):
                impact, confidence = Impact.NOTE, Confidence.CERTAIN
                reason = "It is pure Python and made for another version."
            elif not near:
                reason = f"It is made for another Python; this one takes {python_tags['interpreters'][0]}."
            elif any(req.platform_of(tag.platform).family in families for tag in near):
                confidence = Confidence.POSSIBLE
                reason = f"It may need a newer system: {python_tags['platforms'][0]} is the newest here."
            else:
                reason = f"It is made for another platform; this one is {python_tags['platforms'][0]}."
            yield self.finding(
                impact,
                confidence,
                f"{titled(record)} is a wheel for {_tags(record)}, which this interpreter does not accept",
                Subject("distribution", name),
                f"{reason} pip would not have installed it here, so it was copied or forced.",
                evidence=[at(target, "target", *HERE, name, "tags"), at(target, "target", "python", "tags")],
                fix=pip_fix(target, f"install --force-reinstall --no-deps {pinned(record)}"),
            )


class PKG008(Contradiction):
    """torch stands beside torchvision or torchaudio of another accelerator.

    Compares: the local versions (+cpu, +cu130, +rocm6.4) that version.py of torch, torchvision and
    torchaudio state. Wheels of the Python Package Index carry them there and not in their metadata.

    Why: the extension of a CUDA build of torchvision is linked with libtorch_cuda.so, libc10_cuda.so and
    libcudart.so of one major version. A CPU build of torch has none of them, so the extension cannot be
    loaded. torchvision catches that error, and fails a moment later, at the first operator that should be
    there.

    See: `RuntimeError: operator torchvision::nms does not exist`; where the extension loads,
    `RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major versions.
    ...`; with torchaudio `OSError: libcudart.so.13: cannot open shared object file: No such file or
    directory`.

    Decided: torch +cpu beside torchvision 0.17 to 0.28 of CUDA on Linux: certain, verbatim (seen with
    torch 2.13.0+cpu and torchvision 0.28.0+cu130; the registration of the operator that fails is in
    torchvision since 0.17). Other accelerators that differ, and different CUDA majors: breaks, likely.
    Different CUDA minors: breaks, likely, for torchvision before 0.16 and torchaudio up to 2.11, which
    compare them at import, else a note. A CPU build of torchvision or torchaudio beside an accelerated
    torch imports and fails only when its operators get tensors of the accelerator: breaks, possible.

    Fix: install both from one index of download.pytorch.org.

    Limits: builds without a local version (conda, NVIDIA's containers, macOS) say nothing of their
    accelerator here. Which library torchaudio lacks first depends on what CUDA the system has.
    """

    code = "PKG008"
    name = "accelerator-build-mix"
    reads = ("packages",)
    references = (
        "https://github.com/pytorch/pytorch/issues/122494",
        "https://github.com/pytorch/vision/issues/8985",
        "https://github.com/pytorch/audio/pull/4226",
        "https://pytorch.org/get-started/locally/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        known = distributions_of(baseline)
        torch = distributions.get("torch")
        build = build_of(torch) if torch else None
        for name in ("torchvision", "torchaudio"):
            record = distributions.get(name)
            other = build_of(record) if record else None
            if torch is None or record is None or build is None or other is None or build == other:
                continue
            impact, confidence, error, why = judge(target, name, torch, record)
            wanted = build_of(known["torch"]) if "torch" in known else None
            index = wanted or (build if build != "cpu" else "cpu")
            versions = f"{_public(torch)} {_public(record)}"
            yield self.finding(
                impact,
                confidence,
                f"{titled(record)} beside {titled(torch)}",
                Subject("distribution", name),
                why,
                predicted_error=error,
                evidence=[
                    at(
                        target,
                        "target",
                        *HERE,
                        key,
                        "module_version" if "module_version" in entry else "version",
                    )
                    for key, entry in (("torch", torch), (name, record))
                ],
                fix=pip_fix(
                    target,
                    f"install --force-reinstall {versions} --index-url https://download.pytorch.org/whl/{index}",
                ),
            )


class PKG009(Contradiction):
    """A distribution does not accept this version of Python.

    Compares: Requires-Python of each distribution with the version of the interpreter.

    Why: the code uses syntax or modules of the standard library that an older Python does not have, or
    that a newer one has removed.

    See: SyntaxError at import, `ModuleNotFoundError: No module named 'distutils'`, or `ImportError:
    cannot import name 'Self' from 'typing'`.

    Decided: the interpreter is older than the lower bound: breaks, likely. It is newer than an upper
    bound, or excluded: breaks, possible, because upper bounds are often caution. Pre-releases of Python
    count as releases.

    Fix: install a version that accepts this Python, or use the Python of the baseline.

    Limits: bounds that PEP 440 cannot parse are not judged.
    """

    code = "PKG009"
    name = "requires-python-unmet"
    reads = ("packages", "python")
    references = (
        f"{SPECIFICATIONS}/core-metadata/#requires-python",
        "https://packaging.python.org/en/latest/guides/dropping-older-python-versions/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        known = lookup(baseline, ("python", "version")) if baseline is not None else None
        version = str(lookup(target, ("python", "version")) or "").rstrip("+")
        if req.parsed(version) is None:
            return
        for name, record in sorted(distributions_of(target).items()):
            try:
                bounds = SpecifierSet(record["requires_python"] or "")
            except InvalidSpecifier:
                continue
            if req.satisfies(version, bounds):
                continue
            too_old = any(
                entry.operator in {">=", ">", "~="} and not req.satisfies(version, SpecifierSet(str(entry)))
                for entry in bounds
            )
            better = known and req.satisfies(known, bounds) and known != version
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if too_old else Confidence.POSSIBLE,
                f"{titled(record)} requires Python {req.ordered(bounds)}, and this is {version}",
                Subject("distribution", name),
                f"Its metadata say Requires-Python: {record['requires_python']}. pip would not have "
                "installed it here." + ("" if too_old else " An upper bound may be no more than caution."),
                evidence=[
                    at(target, "target", *HERE, name, "requires_python"),
                    at(target, "target", "python", "version"),
                ],
                fix=(
                    *((Fix("advice", f"Use Python {known}, as the baseline does."),) if better else ()),
                    *pip_fix(target, f"install --upgrade --force-reinstall {record['name']}"),
                ),
            )


# Words and small questions.


def _public(record: dict[str, Any]) -> str:
    version = req.parsed(stated(record))
    return f"{record['name']}=={version.public}" if version else str(record["name"])


def _tags(record: dict[str, Any]) -> str:
    tags = sorted(record["tags"])
    return ", ".join(tags[:3]) + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")


def _source(record: dict[str, Any]) -> str | None:
    source = record["direct_url"]
    return " ".join(filter(None, (source["url"], source.get("commit")))) if source else None


def _conda(snapshot: Snapshot, name: str) -> str | None:
    record = lookup(snapshot, ("packages", "conda", name))
    return f"{record['version']} {record['build']} from {record['channel'] or 'a file'}" if record else None


def _within(location: str, prefixes: Iterable[str | None]) -> bool:
    return any(
        prefix and (location == prefix or location.startswith(prefix.rstrip("/\\") + "/")) for prefix in prefixes
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
