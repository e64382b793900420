"""Family PKG: what installed distributions require, of each other and of the interpreter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from driftcheck.diff import Change, own_distributions, required_name
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects, rivals, search_path
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.rules.distributions import (
    DISTRIBUTIONS,
    SPECIFICATIONS,
    count_of,
    distributions_of,
    pinned,
    pip_fix,
    titled,
)
from driftcheck.snapshot import Snapshot

# What stands in most environments without anybody's asking.
INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv"})

# A finding names this many distributions and counts the rest.
SHOWN = 8


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
    says. Where no version would do for another installed distribution too, the one that requires is
    upgraded instead.

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
        demands = rivals.demands(req.requirements_of(distributions, target.facts("python") or {})) if broken else {}
        pins = [(entry, error) for entry in broken if (error := req.transformers_error(entry)) is not None]
        pins.sort(key=lambda pin: req.TRANSFORMERS_PINS.index(pin[0].name))
        for entry in broken:
            error = next((text for pin, text in pins[:1] if pin is entry), None)
            checked = any(pin is entry for pin, _ in pins)
            certain = error is not None and req.transformers_is_certain(entry, broken, distributions)
            yield self._finding(target, baseline, entry, error, demands, checked=checked, certain=certain)

    def _finding(
        self,
        target: Snapshot,
        baseline: Snapshot | None,
        entry: req.Unmet,
        error: str | None,
        demands: Mapping[str, Sequence[rivals.Demand]],
        *,
        checked: bool,
        certain: bool,
    ) -> Finding:
        distributions = distributions_of(target)
        known = distributions_of(baseline)
        owner = distributions[entry.owner]
        evidence = [at(target, "target", *DISTRIBUTIONS, entry.owner, "requires", entry.stated)]
        impact, confidence = Impact.BREAKS, Confidence.LIKELY
        stand_in = self._stand_in(entry, distributions, known)
        hidden = None
        if entry.missing:
            asked = "" if entry.text == entry.name else f" ({entry.text})"
            title = f"{titled(owner)} requires {entry.name}, which is not installed"
            explanation = f"{owner['name']} states that it needs {entry.name}{asked}, which is not installed."
            if baseline is not None and entry.name in known:
                evidence.append(at(baseline, "baseline", *DISTRIBUTIONS, entry.name, "version"))
                explanation += f" The baseline has {titled(known[entry.name])}."
                module = req.main_module(known[entry.name])
                error = error or (f"ModuleNotFoundError: No module named '{module}'" if module else None)
        else:
            installed = distributions[entry.name]
            title = f"{titled(owner)} requires {entry.text}, but {entry.version} is installed"
            explanation = (
                f"{owner['name']} states that it needs {entry.text}; {installed['name']} {entry.version} is installed."
            )
            hidden = search_path.hidden_by_outsider(target, installed, entry.specifiers)
            key = "version" if installed.get("version") else "version_of_folder"
            evidence.append(at(target, "target", *DISTRIBUTIONS, entry.name, key))
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
            evidence.append(at(target, "target", *DISTRIBUTIONS, stand_in, "version"))
            fix: tuple[Fix, ...] = ()
        elif hidden is not None:
            explanation += f" {hidden['version']}, which would do, stands in {hidden['location']} and is hidden."
            evidence.append(at(target, "target", *DISTRIBUTIONS, entry.name, "other_installs"))
            fix = search_path.off_the_path(distributions[entry.name]["location"])
        else:
            command = self._mending(entry, distributions, known)
            rival = rivals.rival(entry, demands) if command == req.fitting(entry, None) else None
            if rival is not None:
                # To give one what it wants would take it from the other.
                wanted = req.ordered(rival.specifiers)
                explanation += (
                    f" No version would do for {titled(distributions[rival.owner])} too, which needs {wanted}."
                )
                evidence.append(at(target, "target", *DISTRIBUTIONS, rival.owner, "requires", rival.stated))
                command = self._another(entry.owner, demands)
            fix = pip_fix(target, f"install {command}")
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
    def _mending(entry: req.Unmet, distributions: dict[str, Any], known: dict[str, Any]) -> str:
        """What to hand to pip: where only the one that requires has moved, the baseline's version of that one."""
        before, after = known.get(entry.owner), distributions[entry.owner]
        unmoved = entry.name in known and req.version_of(known[entry.name]) == entry.version
        if before is not None and unmoved and req.version_of(before) not in {None, req.version_of(after)}:
            return pinned(before)
        return req.fitting(entry, known)

    @staticmethod
    def _another(owner: str, demands: Mapping[str, Sequence[rivals.Demand]]) -> str:
        """What to hand to pip for a newer version of the one that requires."""
        bounds = req.ordered(rivals.together(owner, demands))
        return f'--upgrade "{owner}{bounds}"' if bounds else f"--upgrade {owner}"

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
                    at(target, "target", *DISTRIBUTIONS, name, "requires_python"),
                    at(target, "target", "python", "version"),
                ],
                fix=(
                    *((Fix("advice", f"Use Python {known}, as the baseline does."),) if better else ()),
                    *pip_fix(target, f"install --upgrade --force-reinstall {record['name']}"),
                ),
            )


# Words and small questions.


class PKG010(Drift):
    """A distribution of the baseline is not installed.

    Compares: the distributions of both environments, by normalised name, and which of them a user asked for
    (the REQUESTED file that installers write).

    Why: what the baseline runs with can be imported there and nowhere else. A lock file that was not
    applied, an image layer that was not rebuilt and an extra that was forgotten all look like this.

    See: `ModuleNotFoundError: No module named 'torch'`, at the first import of one of its modules.

    Decided: breaks, likely, where a distribution is gone that a user asked for in the baseline, or that a
    distribution of the target requires (PKG001 says which). Breaks, possible, where nothing tells that it
    was asked for: without REQUESTED files, as conda and Debian install. What only the missing ones had
    required is folded and not counted apart. Installers themselves (pip, setuptools, wheel, uv) are not
    missed.

    Fix: install the versions of the baseline.

    Limits: whether the code that runs imports the distribution is not known. A module that another
    distribution brings in the target is not missed.
    """

    code = "PKG010"
    name = "missing-distribution"
    reads = ("packages",)
    references = (
        "https://packaging.python.org/en/latest/specifications/recording-installed-packages/",
        "https://peps.python.org/pep-0376/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        known, installed = distributions_of(baseline), distributions_of(target)
        own = own_distributions(baseline)
        modules = {module for record in installed.values() for module in record["modules"]}
        missing = {
            name: record
            for name, record in known.items()
            if name not in installed
            and name not in own | INSTALLERS
            and not (record["modules"] and record["modules"].keys() <= modules)
        }
        asked = sorted(name for name, record in missing.items() if record["requested"])
        nobody_says = not any(record["requested"] for record in known.values())
        # What others of the missing ones require comes back with them.
        needed = {required_name(text) for record in missing.values() for text in record["requires"]}
        chosen = asked or sorted(name for name in missing if nobody_says and name not in needed)
        if not chosen:
            return
        records = [known[name] for name in chosen]
        named = ", ".join(record["name"] for record in records[:SHOWN]) + (", ..." if len(records) > SHOWN else "")
        module = req.main_module(records[0])
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if asked else Confidence.POSSIBLE,
            f"{count_of(len(records), 'distribution')} of the baseline not installed: {named}",
            Subject("distributions", "missing"),
            f"The baseline has {'them' if len(records) > 1 else 'it'}"
            + (", and a user asked for them by name." if asked else ".")
            + (f" {len(missing) - len(records)} more are missing with them." if len(missing) > len(records) else ""),
            predicted_error=f"ModuleNotFoundError: No module named '{module}'" if module else None,
            evidence=[at(baseline, "baseline", *DISTRIBUTIONS, name, "version") for name in chosen[:SHOWN]],
            fix=pip_fix(target, "install " + " ".join(pinned(record) for record in records)),
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del finding, sides
        return change.kind == "removed" and change.path[:2] == DISTRIBUTIONS and len(change.path) == 3

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A requirement that one of the missing ones met, a library that one of them brought."""
        del finding
        known, installed = distributions_of(sides.baseline), distributions_of(sides.target)
        missing = known.keys() - installed.keys()
        if effect.code == "PKG001":
            return effect.subject.name.partition(" -> ")[2] in missing
        if effect.code in {"ART005", "ART009"}:
            module = re.search(r"No module named '(\w+)", effect.predicted_error or "")
            return module is not None and any(module[1] in known[name]["modules"] for name in missing)
        names = effects.sonames_of(effect) if effect.code == "LIB001" else []
        return bool(names) and all(effects.provided_in_baseline(sides, name, missing) for name in names)
