"""Family ART: what wrote a pickle, and what reads it: scikit-learn, NumPy, the protocol, the compression."""

from __future__ import annotations

import math
from collections.abc import Iterator

from packaging.version import Version

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import pickle_facts as pickled
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Sides, at, lookup
from driftcheck.rules.distributions import pip_fix, titled
from driftcheck.snapshot import Snapshot

PERSISTENCE = "https://scikit-learn.org/stable/model_persistence.html"


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
                if pickled.first_missing(target, facts) < min(fields.values(), default=math.inf)
                else "ValueError: node array from the pickle has an incompatible dtype:"
                if misfit
                else f"{kind}: Trying to unpickle estimator {first} from version {wrote} when using version "
                f"{found[2]}.",
                evidence=evidence,
                fix=pickled.scikit_learn_fix(target, {wrote: others[wrote]}),
            )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A module or a class that the other scikit-learn has and this one has not."""
        del sides
        return (
            effect.code in {"ART005", "ART023"}
            and effect.subject == finding.subject
            and any(
                part.partition(".")[0] in pickled.OF_SCIKIT_LEARN
                for entry in effect.evidence
                for part in entry.path[-2:]
            )
        )


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
                if pickled.first_missing(target, facts) < makers[first]
                else f"ValueError: <class '{first}'> is not a known BitGenerator module.",
                evidence=[
                    art.fact(target, name, "pickle", "generators", first),
                    art.version_evidence(target, found[0]),
                ],
                fix=art.from_baseline(target, baseline, "numpy", other_than=found[2])
                or pip_fix(target, 'install "numpy>=2"'),
            )
