"""Family ART: what a pickle refers to by name that is not there: modules, classes, the program that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import pickle_facts as pickled
from driftcheck.rules.base import Contradiction, lookup
from driftcheck.rules.distributions import distributions_of, pinned, pip_fix, titled
from driftcheck.snapshot import Snapshot

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
                if gap not in modules
                and not (gap in pickled.MADE_WHILE_IMPORTED and pickled.same_scikit_learn(target, facts))
            }
            if not gaps:
                continue
            first = min(gaps, key=lambda module: min(facts["globals"].get(module, {}).values(), default=0))
            gap = gaps[first]
            top = gap.partition(".")[0]
            owner = modules.get(top)
            resolved = baseline is not None and _resolves(baseline, name, first)
            sure = owner is not None or top in _DISTRIBUTIONS or top in pickled.OF_SCIKIT_LEARN or resolved
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
                if gap in pickled.MADE_WHILE_IMPORTED
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
        if top in pickled.OF_SCIKIT_LEARN and facts.get("scikit_learn"):
            return pickled.scikit_learn_fix(target, facts["scikit_learn"])
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


def _resolves(baseline: Snapshot, name: str, module: str) -> bool:
    """Whether the baseline has the module that the same file names."""
    record = art.files_of(baseline).get(name) or {}
    facts = record.get("pickle", {})
    return module in facts.get("globals", {}) and module not in facts.get("missing_modules", {})


def _example(names: Mapping[str, Mapping[str, int]], module: str) -> str:
    found = sorted(names.get(module, {}).items(), key=lambda entry: entry[1])
    return f"{module}.{found[0][0]}" if found else module


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
                if pickled.first_missing(target, facts) < place
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
            return pickled.scikit_learn_fix(target, facts["scikit_learn"])
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
