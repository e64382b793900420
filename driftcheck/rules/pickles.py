"""Family ART: what a pickle demands, as pickle, joblib, torch.save and scikit-learn write them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import Version

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import distributions_of, pinned, pip_fix, titled
from driftcheck.snapshot import Snapshot

PERSISTENCE = "https://scikit-learn.org/stable/model_persistence.html"
PICKLE = "https://docs.python.org/3/library/pickle.html"

# Distributions whose classes are found in pickled models, by the module that is imported.
_DISTRIBUTIONS = {
    "catboost": "catboost",
    "cv2": "opencv-python-headless",
    "imblearn": "imbalanced-learn",
    "joblib": "joblib",
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "pandas": "pandas",
    "PIL": "pillow",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "spacy": "spacy",
    "statsmodels": "statsmodels",
    "tensorflow": "tensorflow",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "xgboost": "xgboost",
}

# A Cython module that scikit-learn pickles by a name that it has only once another module of it was imported
# (sklearn/_loss/_loss.pyx). Another version has no such name, or not that function in it.
_MADE_WHILE_IMPORTED = frozenset({"_loss"})
_OF_SCIKIT_LEARN = frozenset({"sklearn"}) | _MADE_WHILE_IMPORTED


class ART005(Contradiction):
    """A pickled model refers to a module that is not there.

    Compares: the modules of the classes and functions that the pickle names with the files on the search path and in
    the working directory.

    Why: unpickling imports the module of each class. Libraries move their inner modules between versions (NumPy 2
    writes numpy._core, which NumPy before 1.26.1 does not have; scikit-learn dropped sklearn.ensemble._gb_losses),
    and a whole library may be missing.

    See: `ModuleNotFoundError: No module named 'numpy._core'` when the model is loaded.

    Decided: the package is installed and does not hold that module, a well-known library is not installed, or the
    baseline has what the target lacks: breaks, likely. A module of nobody known, which may be the code of the service
    itself: possible. The text is that of the first such module in the order of the file. _loss of scikit-learn exists
    only once another of its modules was imported: it counts as there with the minor version that wrote the file.

    Fix: the version of the library that wrote the file, or the baseline's; for one's own code, put it on PYTHONPATH.

    Limits: what an import hook finds (editable installs) and modules that a package makes while it is imported are
    not seen. Whether the class is still in its module is not looked at.
    """

    code = "ART005"
    name = "pickle-module-missing"
    reads = ("packages",)
    references = (
        PICKLE,
        "https://numpy.org/doc/stable/release/1.26.1-notes.html",
        "https://github.com/numpy/numpy/pull/24906",
        "https://github.com/skharchikov/polymarket-bot/pull/48",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        modules = {module: name for name, record in distributions.items() for module in record["modules"]}
        for name, facts in art.with_facts(target, "pickle"):
            gaps = {
                module: gap
                for module, gap in facts.get("missing_modules", {}).items()
                # A distribution that says it brings the module, and has no such file, is an editable one.
                if gap not in modules and not (gap in _MADE_WHILE_IMPORTED and _same_scikit_learn(target, facts))
            }
            if not gaps:
                continue
            first = min(gaps, key=lambda module: min(facts["globals"].get(module, {}).values(), default=0))
            gap = gaps[first]
            top = gap.partition(".")[0]
            owner = modules.get(top)
            resolved = baseline is not None and _resolves(baseline, name, first)
            sure = owner is not None or top in _DISTRIBUTIONS or top in _OF_SCIKIT_LEARN or resolved
            others = sorted({one for one in gaps.values() if one != gap})
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if sure else Confidence.POSSIBLE,
                f"{name} needs the module {gap}, which "
                + (f"{titled(distributions[owner])} does not have" if owner else "is not installed"),
                art.subject(name),
                f"It holds {_example(facts['globals'], first)}, and unpickling imports the module of each class."
                + (f" Also missing: {', '.join(others[:4])}." if others else "")
                + (" In the baseline the module is there." if resolved else "")
                + ("" if sure else " It may be the code of the service, which is not on the search path here."),
                predicted_error=None
                if gap in _MADE_WHILE_IMPORTED
                else f"ModuleNotFoundError: No module named '{gap}'",
                evidence=[
                    art.fact(target, name, "pickle", "missing_modules", first),
                    *([art.version_evidence(target, owner)] if owner else []),
                ],
                fix=self._fix(target, baseline, facts, gap, owner),
            )

    @staticmethod
    def _fix(
        target: Snapshot, baseline: Snapshot | None, facts: Mapping[str, Any], gap: str, owner: str | None
    ) -> tuple[Fix, ...]:
        top = gap.partition(".")[0]
        if top in _OF_SCIKIT_LEARN and facts.get("scikit_learn"):
            return _scikit_learn_fix(target, facts["scikit_learn"])
        known = distributions_of(baseline)
        brings = next((record for record in known.values() if top in record["modules"]), None)
        if brings is not None and (owner is None or pinned(brings) != pinned(distributions_of(target)[owner])):
            return pip_fix(target, f"install {pinned(brings)}")
        if gap == "numpy._core":
            return pip_fix(target, 'install "numpy>=1.26.1"')
        if owner is None and top in _DISTRIBUTIONS:
            return pip_fix(target, f"install {_DISTRIBUTIONS[top]}")
        if owner is not None:
            advice = f"Install the version of {owner} that wrote the file, or write the file again with this one."
            return (Fix("advice", advice),)
        return (Fix("advice", f"Put the directory that holds {top} on PYTHONPATH, or install what brings it."),)


def _same_scikit_learn(target: Snapshot, facts: Mapping[str, Any]) -> bool:
    """Whether the installed scikit-learn is of the minor version that wrote the file."""
    found = art.installed(target, "scikit-learn")
    here = req.parsed(found[2]) if found else None
    wrote = [req.parsed(version) for version in facts.get("scikit_learn", {})]
    return here is not None and any(one is not None and one.release[:2] == here.release[:2] for one in wrote)


def _first_missing(target: Snapshot, facts: Mapping[str, Any]) -> float:
    """How many names are met before the first whose module is missing; infinite where none is."""
    missing = set(facts.get("missing_modules", {}))
    if _same_scikit_learn(target, facts):
        missing -= _MADE_WHILE_IMPORTED
    return min((place for module in missing for place in facts["globals"].get(module, {}).values()), default=math.inf)


def _resolves(baseline: Snapshot, name: str, module: str) -> bool:
    """Whether the baseline has the module that the same file names."""
    record = art.files_of(baseline).get(name) or {}
    facts = record.get("pickle", {})
    return module in facts.get("globals", {}) and module not in facts.get("missing_modules", {})


def _example(names: Mapping[str, Mapping[str, int]], module: str) -> str:
    found = sorted(names.get(module, {}).items(), key=lambda entry: entry[1])
    return f"{module}.{found[0][0]}" if found else module


class ART006(Contradiction):
    """A pickled model was written by another scikit-learn than the one that is installed.

    Compares: the version that each estimator in the pickle states with the installed scikit-learn, and the fields of
    its trees with those that this scikit-learn reads.

    Why: scikit-learn does not promise that an estimator of one version works in another: attributes get other names
    and meanings, so it may fail, or answer differently without a word. The nodes of trees got a field in 1.3.

    See: `InconsistentVersionWarning: Trying to unpickle estimator StandardScaler from version 1.2.2 when using
    version 1.5.2.`; for trees across 1.3 `ValueError: node array from the pickle has an incompatible dtype:`.

    Decided: the trees have a field too many or too few: breaks, likely. Another major or minor version:
    changes-results, likely. Another patch of the same minor: possible.

    Fix: the scikit-learn that wrote the file; or train and save it again, or export it (ONNX, skops).

    Limits: estimators of other libraries state no version. Whether an estimator really works is not tried.
    """

    code = "ART006"
    name = "pickle-of-another-scikit-learn"
    reads = ("packages",)
    references = (
        PERSISTENCE,
        "https://scikit-learn.org/stable/modules/generated/sklearn.exceptions.InconsistentVersionWarning.html",
        "https://github.com/yzhao062/pyod/issues/519",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        found = art.installed(target, "scikit-learn")
        version = req.parsed(found[2]) if found else None
        if found is None or version is None:
            return
        for name, facts in art.with_facts(target, "pickle"):
            others = {text: names for text, names in facts.get("scikit_learn", {}).items() if text != found[2]}
            if not others:
                continue
            first, wrote = min(
                (position, (estimator, text)) for text, names in others.items() for estimator, position in names.items()
            )[1]
            fields = facts.get("tree_fields", {})
            misfit = bool(fields) and ("missing_go_to_left" in fields) != (version >= Version("1.3"))
            before = req.parsed(wrote)
            same_minor = before is not None and before.release[:2] == version.release[:2]
            evidence: list[Evidence] = [
                art.fact(target, name, "pickle", "scikit_learn", wrote),
                art.version_evidence(target, found[0]),
            ]
            if misfit:
                evidence.append(art.fact(target, name, "pickle", "tree_fields"))
            kind = "InconsistentVersionWarning" if version >= Version("1.3") else "UserWarning"
            yield self.finding(
                Impact.BREAKS if misfit else Impact.CHANGES_RESULTS,
                Confidence.POSSIBLE if same_minor and not misfit else Confidence.LIKELY,
                f"{name} was written by scikit-learn {wrote}, and {found[2]} is installed",
                art.subject(name),
                (
                    "The nodes of its trees "
                    + ("lack" if version >= Version("1.3") else "have")
                    + " the field missing_go_to_left, which came with scikit-learn 1.3: the tree cannot be restored."
                    if misfit
                    else "scikit-learn does not support this: the estimator may fail when it is used, or answer "
                    "otherwise."
                ),
                # A module that is missing may fail first.
                predicted_error=None
                if _first_missing(target, facts) < min(fields.values(), default=math.inf)
                else "ValueError: node array from the pickle has an incompatible dtype:"
                if misfit
                else f"{kind}: Trying to unpickle estimator {first} from version {wrote} when using version "
                f"{found[2]}.",
                evidence=evidence,
                fix=_scikit_learn_fix(target, {wrote: others[wrote]}),
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A module or a class that the other scikit-learn has and this one has not."""
        del sides
        return (
            effect.code in {"ART005", "ART023"}
            and effect.subject == finding.subject
            and any(part.partition(".")[0] in _OF_SCIKIT_LEARN for entry in effect.evidence for part in entry.path[-2:])
        )


def _scikit_learn_fix(target: Snapshot, versions: Mapping[str, Any]) -> tuple[Fix, ...]:
    """The newest version that wrote a part of the file."""
    known = [version for version in map(req.parsed, versions) if version is not None]
    return pip_fix(target, f"install scikit-learn=={max(known)}") if known else ()


class ART008(Contradiction):
    """A pickle has a newer protocol than the interpreter reads.

    Compares: the pickle protocol that the file states with the highest that the interpreter knows: 5 since Python
    3.8, 4 before.

    Why: an interpreter cannot read a protocol that came after it. NumPy arrays, and whatever was written with
    pickle.HIGHEST_PROTOCOL, use protocol 5.

    See: `ValueError: unsupported pickle protocol: 5`.

    Decided: by the version of the interpreter: breaks, likely, since pickle5 can be installed.

    Fix: a newer Python, or write the file again with protocol=4.

    Limits: formats that bring a reader of their own (torch archives) are not compared.
    """

    code = "ART008"
    name = "pickle-protocol-too-new"
    reads = ("python",)
    references = (
        "https://docs.python.org/3/library/pickle.html#data-stream-format",
        "https://peps.python.org/pep-0574/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        text = lookup(target, ("python", "version"))
        version = req.parsed(text) if isinstance(text, str) else None
        if version is None:
            return
        highest = 5 if version >= Version("3.8") else 4
        for name, facts in art.with_facts(target, "pickle"):
            kind = lookup(target, (*art.FILES, name, "format"))
            if facts["protocol"] <= highest or kind not in {"pickle", "joblib", "torch-legacy"}:
                continue
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} has the pickle protocol {facts['protocol']}, and Python {text} reads up to {highest}",
                art.subject(name),
                "It was written by a newer Python, with a protocol that came after this one.",
                predicted_error=f"ValueError: unsupported pickle protocol: {facts['protocol']}",
                evidence=[art.fact(target, name, "pickle", "protocol"), at(target, "target", "python", "version")],
                fix=[Fix("advice", f"Write the file again with protocol={highest}, or use a newer Python.")],
            )


class ART009(Contradiction):
    """A compressed model needs a module to unpack it that is not there.

    Compares: how the file is compressed with the modules that the interpreter and its packages have.

    Why: joblib reads zlib, gzip, bz2, lzma and xz by the standard library, parts of which an interpreter may have
    been built without, and lz4 by a package of its own.

    See: `ValueError: LZ4 is not installed. Install it with pip: https://python-lz4.readthedocs.io/`

    Decided: the file begins as lz4 does, is named like a pickle, and the package lz4 is not installed: breaks, likely.
    The interpreter lacks _bz2, _lzma or zlib: breaks, likely.

    Fix: install lz4, or a Python with that part of its standard library.

    Limits: what is inside of an lz4 file is not read.
    """

    code = "ART009"
    name = "pickle-compression-unknown"
    reads = ("python", "packages")
    references = ("https://python-lz4.readthedocs.io/",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        lacks = lookup(target, ("python", "missing_modules")) or {}
        parts = {"bz2": "_bz2", "xz": "_lzma", "lzma": "_lzma", "gzip": "zlib", "zlib": "zlib"}
        for name, record in art.present(target):
            how = record.get("compression")
            if how == "lz4" and name.endswith(art.PICKLE_ENDINGS) and art.installed(target, "lz4") is None:
                yield self.finding(
                    Impact.BREAKS,
                    Confidence.LIKELY,
                    f"{name} is compressed with lz4, which is not installed",
                    art.subject(name),
                    "joblib unpacks lz4 by the package of that name.",
                    predicted_error="ValueError: LZ4 is not installed. Install it with pip: "
                    "https://python-lz4.readthedocs.io/",
                    evidence=[art.fact(target, name, "compression")],
                    fix=pip_fix(target, "install lz4"),
                )
            elif parts.get(how or "") in lacks:
                part = parts[how or ""]
                yield self.finding(
                    Impact.BREAKS,
                    Confidence.LIKELY,
                    f"{name} is compressed with {how}, and this Python was built without {part}",
                    art.subject(name),
                    "The standard library of this interpreter lacks the part that unpacks the file.",
                    evidence=[
                        art.fact(target, name, "compression"),
                        at(target, "target", "python", "missing_modules", part),
                    ],
                    fix=[Fix("advice", "Use a Python that was built with it, or save the file without compression.")],
                )


class ART010(Contradiction):
    """A pickle holds a random generator as NumPy 2 writes it, and NumPy 1 is installed.

    Compares: how the pickle names the bit generator of a RandomState or Generator: by its class, as NumPy 2 does, or
    by its name, as NumPy 1 does; and the installed NumPy.

    Why: estimators keep their random state. NumPy 1 looks the generator up by its name and refuses a class. NumPy 2
    reads both.

    See: `ValueError: <class 'numpy.random._mt19937.MT19937'> is not a known BitGenerator module.`

    Decided: NumPy below 2 is installed: breaks, likely. Tried with files of 2.0.0 and 2.4.6 on 1.26.0 and 1.26.4.

    Fix: NumPy 2, or write the file again with NumPy 1.

    Limits: generators of other libraries are not looked at.
    """

    code = "ART010"
    name = "pickle-random-state-of-numpy-2"
    reads = ("packages",)
    references = ("https://github.com/numpy/numpy/pull/26260", "https://github.com/numpy/numpy/issues/26234")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, "numpy")
        version = req.parsed(found[2]) if found else None
        if found is None or version is None or version.major >= 2:
            return
        for name, facts in art.with_facts(target, "pickle"):
            makers = facts.get("generators")
            if not makers:
                continue
            first = min(makers, key=lambda maker: makers[maker])
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} holds a random state of NumPy 2, and {titled(found[1])} is installed",
                art.subject(name),
                f"It names {first} by its class, as NumPy does since 2.0. NumPy 1 knows generators by their names.",
                predicted_error=None
                if _first_missing(target, facts) < makers[first]
                else f"ValueError: <class '{first}'> is not a known BitGenerator module.",
                evidence=[
                    art.fact(target, name, "pickle", "generators", first),
                    art.version_evidence(target, found[0]),
                ],
                fix=art.from_baseline(target, baseline, "numpy", other_than=found[2])
                or pip_fix(target, 'install "numpy>=2"'),
            )


class ART021(Contradiction):
    """A pickle holds classes of the program that wrote it.

    Compares: the names of the pickle with the module __main__.

    Why: a class that was defined in a notebook or in the script that was run is pickled as one of __main__. Another
    program (gunicorn, uvicorn, a worker) has another __main__, which does not have it.

    See: `AttributeError: Can't get attribute 'Model' on <module '__main__' (built-in)>`; the module is named by its
    file where the program is one.

    Decided: the pickle names __main__: breaks, possible, since the program that loads it may define the class.

    Fix: define the class in a module, import it where the model is saved, and save it again.

    Limits: what the program that loads the file defines is not seen.
    """

    code = "ART021"
    name = "pickle-of-main"
    reads = ("python",)
    references = ("https://docs.python.org/3/library/pickle.html#what-can-be-pickled-and-unpickled",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, facts in art.with_facts(target, "pickle"):
            names = facts["globals"].get("__main__")
            if not names:
                continue
            first = min(names, key=lambda one: names[one])
            yield self.finding(
                Impact.BREAKS,
                Confidence.POSSIBLE,
                f"{name} holds {first} of the program that wrote it",
                art.subject(name),
                "It was defined in a notebook or in the script that was run (__main__). Only a program that defines it "
                "in the same way can load the file.",
                predicted_error=f"AttributeError: Can't get attribute '{first}' on <module '__main__'",
                evidence=[art.fact(target, name, "pickle", "globals", "__main__")],
                fix=[Fix("advice", f"Define {first} in a module, import it from there, and save the model again.")],
            )


class ART023(Contradiction):
    """A pickled model refers to a class that its module does not have.

    Compares: the names of the pickle with the text of the files that hold their modules.

    Why: unpickling takes each class from its module by name. A class that came with a newer version of the library, or
    that an older one had, is not there: new_block of pandas, SiLU of torch, layers of ultralytics.

    See: `AttributeError: Can't get attribute 'new_block' on <module 'pandas.core.internals.blocks' from ...`

    Decided: the name does not occur in the source of its module, and the source makes no names (import *,
    __getattr__, globals): breaks, likely. It does not occur in an extension module: breaks, possible, since a
    compiler may pack the names in it.

    Fix: the version of the library that wrote the file, or the baseline's.

    Limits: a name that occurs in the file for another reason counts as there. Modules outside of site-packages are not
    read.
    """

    code = "ART023"
    name = "pickle-name-missing"
    reads = ("packages",)
    references = (PICKLE, "https://docs.python.org/3/library/pickle.html#what-can-be-pickled-and-unpickled")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        distributions = distributions_of(target)
        modules = {module: name for name, record in distributions.items() for module in record["modules"]}
        for name, facts in art.with_facts(target, "pickle"):
            lacking = [
                (facts["globals"].get(module, {}).get(one, 0), module, one, kind)
                for module, names in facts.get("missing_names", {}).items()
                for one, kind in names.items()
            ]
            if not lacking:
                continue
            place, module, first, kind = min(lacking)
            owner = modules.get(module.partition(".")[0])
            sure = any(entry[3] == "source" for entry in lacking)
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if sure else Confidence.POSSIBLE,
                f"{name} needs {first} of {module}, which "
                + (f"{titled(distributions[owner])} does not have" if owner else "is not in it"),
                art.subject(name),
                f"The name does not occur in the file of that module ({kind}): the class came later, or is gone.",
                predicted_error=None
                if _first_missing(target, facts) < place
                else _no_attribute(lookup(target, (*art.FILES, name, "format")), facts["protocol"], module, first),
                evidence=[
                    art.fact(target, name, "pickle", "missing_names", module, first),
                    *([art.version_evidence(target, owner)] if owner else []),
                ],
                fix=self._fix(target, baseline, facts, owner),
            )

    @staticmethod
    def _fix(
        target: Snapshot, baseline: Snapshot | None, facts: Mapping[str, Any], owner: str | None
    ) -> tuple[Fix, ...]:
        if owner == "scikit-learn" and facts.get("scikit_learn"):
            return _scikit_learn_fix(target, facts["scikit_learn"])
        here = art.installed(target, owner) if owner else None
        if owner and here:
            found = art.from_baseline(target, baseline, owner, other_than=here[2])
            if found:
                return found
        what = f"the version of {owner}" if owner else "the version of the library"
        return (Fix("advice", f"Install {what} that wrote the file, or write the file again with this one."),)


def _no_attribute(form: str | None, protocol: int, module: str, name: str) -> str:
    """joblib unpickles with the Python code of pickle, which words it otherwise below protocol 4."""
    if form == "joblib" and protocol < 4:
        return f"AttributeError: module '{module}' has no attribute '{name}'"
    return f"AttributeError: Can't get attribute '{name}' on <module '{module}'"
