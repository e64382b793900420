"""Family ART: what an ONNX model demands of the onnxruntime that is installed."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Fix, Impact
from driftcheck.knowledge import model_files as known
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction
from driftcheck.rules.distributions import count_of, pip_fix, titled
from driftcheck.snapshot import Snapshot

COMPATIBILITY = "https://onnxruntime.ai/docs/reference/compatibility.html"

# Domains of operators that onnxruntime brings itself; others are registered by whoever loads the model.
_OWN_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "org.pytorch.aten"})
_EXTENSIONS = "ai.onnx.contrib"


class ART001(Contradiction):
    """An ONNX model has a newer IR version than the installed onnxruntime reads.

    Compares: ir_version in the model file with the highest that the installed onnxruntime loads.

    Why: the IR version is the version of the file format. onnxruntime refuses a model of a newer one, whatever
    operators are in it. The exporter writes the newest that its onnx package knows.

    See: `Unsupported model IR version: 12, max supported IR version: 10` when the session is made.

    Decided: by a table that was measured with each onnxruntime from 1.14 on: breaks, likely. By its documentation
    alone (1.5 to 1.13): possible. For an onnxruntime newer than the table nothing is concluded.

    Fix: a newer onnxruntime, or write the model again with a lower IR version, which loses nothing where the model
    uses none of its features.

    Limits: another runtime (TensorRT, OpenVINO) has limits of its own.
    """

    code = "ART001"
    name = "onnx-ir-too-new"
    reads = ("packages",)
    references = (
        COMPATIBILITY,
        "https://github.com/microsoft/onnxruntime/issues/23602",
        "https://github.com/onnx/onnx/blob/main/docs/Versioning.md",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, *art.ONNXRUNTIME)
        limits = known.onnx_limits_of(found[2]) if found else None
        if found is None or limits is None:
            return
        for name, model in art.with_facts(target, "onnx"):
            version = model["ir_version"]
            if version <= limits.ir:
                continue
            fixes = [
                *_newer(target, baseline, found[0], ir=version, opset=model["opsets"].get("ai.onnx", 0)),
                Fix(
                    "advice",
                    f"Or write it again with a lower IR version: model = onnx.load({art.base_name(name)!r}); "
                    f"model.ir_version = {limits.ir}; onnx.save(model, ...).",
                ),
            ]
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if limits.measured else Confidence.POSSIBLE,
                f"{name} has the ONNX IR version {version}, and {titled(found[1])} reads up to {limits.ir}",
                art.subject(name),
                f"The model was written by {model['producer'] or 'a program that does not say its name'} in a format "
                f"that is newer than this onnxruntime: no session can be made of it.",
                predicted_error=f"Unsupported model IR version: {version}, max supported IR version: {limits.ir}",
                evidence=[art.fact(target, name, "onnx", "ir_version"), art.version_evidence(target, found[0])],
                fix=fixes,
            )


class ART002(Contradiction):
    """An ONNX model imports a newer operator set than the installed onnxruntime has.

    Compares: the version of the operator set ai.onnx that the model imports with the highest that the installed
    onnxruntime has released support for.

    Why: an operator set fixes what each operator means. onnxruntime refuses a model that was exported for a newer
    one, unless ALLOW_RELEASED_ONNX_OPSET_ONLY is 0.

    See: `ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions.
    Opset 23 is under development and support for this is limited.`

    Decided: by the same table as ART001: breaks, likely; by its documentation alone: possible. Where the IR version
    is too new as well, that is refused first, and ART001 says so.

    Fix: a newer onnxruntime, or export again with a lower opset_version.

    Limits: other operator sets (ai.onnx.ml) are not compared.
    """

    code = "ART002"
    name = "onnx-opset-too-new"
    reads = ("packages",)
    references = (COMPATIBILITY, "https://github.com/onnx/onnx/blob/main/docs/Versioning.md")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, *art.ONNXRUNTIME)
        limits = known.onnx_limits_of(found[2]) if found else None
        allowed = (target.facts("variables") or {}).get("variables", {}).get("ALLOW_RELEASED_ONNX_OPSET_ONLY", {})
        if found is None or limits is None or allowed.get("value") == "0":
            return
        for name, model in art.with_facts(target, "onnx"):
            opset = model["opsets"].get("ai.onnx", 0)
            if opset <= limits.opset or model["ir_version"] > limits.ir:
                continue
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if limits.measured else Confidence.POSSIBLE,
                f"{name} needs opset {opset}, and {titled(found[1])} has up to {limits.opset}",
                art.subject(name),
                f"The model was exported by {model['producer'] or 'a program that does not say its name'} for an "
                "operator set that this onnxruntime does not have.",
                predicted_error="ONNX Runtime only *guarantees* support for models stamped with official released onnx "
                f"opset versions. Opset {opset} is under development and support for this is limited.",
                evidence=[art.fact(target, name, "onnx", "opsets", "ai.onnx"), art.version_evidence(target, found[0])],
                fix=[
                    *_newer(target, baseline, found[0], ir=model["ir_version"], opset=opset),
                    Fix("advice", f"Or export the model again with opset_version={limits.opset}."),
                ],
            )


def _newer(target: Snapshot, baseline: Snapshot | None, key: str, *, ir: int, opset: int) -> tuple[Fix, ...]:
    """The line for pip: the baseline's onnxruntime where that reads the model, else the oldest that does."""
    before = art.installed(baseline, *art.ONNXRUNTIME)
    limits = known.onnx_limits_of(before[2]) if before else None
    if before is not None and limits is not None and limits.ir >= ir and limits.opset >= opset:
        return art.from_baseline(target, baseline, *art.ONNXRUNTIME)
    for row in known.onnx_limits():
        if row.ir >= ir and row.opset >= opset:
            return pip_fix(target, f'install "{key}{row.versions.split(",")[0]}"')
    return ()


class ART003(Contradiction):
    """An ONNX model keeps weights in a file that is not beside it, or is too short.

    Compares: the files that the model names for its external data, and how much it reads of each, with what lies in
    its directory.

    Why: a model above 2 GB, or one that was exported so, has its weights in files of its own. Copying the .onnx file
    alone into an image leaves them behind.

    See: with onnxruntime 1.26 and newer `External data path does not exist: "/models/model.onnx.data"`; before that
    `cannot get file size: No such file or directory`, and 1.16 says `GetFileLength for ... failed`. A file that is
    too short: `are out of bounds or can not be read in full`.

    Decided: the file is not there or shorter than what is read of it: breaks, likely.

    Fix: copy the files together, or save the model as one file (onnx.save(model, path, save_as_external_data=False)).

    Limits: a program may hand the weights over by itself (AddExternalInitializers); names that lead out of the
    directory of the model are taken as missing, since onnxruntime refuses them.
    """

    code = "ART003"
    name = "onnx-external-data-missing"
    reads = ("python",)
    references = (
        "https://onnx.ai/onnx/repo-docs/ExternalData.html",
        "https://github.com/onnx/onnx/blob/main/docs/ExternalData.md",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, model in art.with_facts(target, "onnx"):
            bad = {
                location: entry
                for location, entry in sorted(model.get("external_data", {}).items())
                if entry["size"] is None or entry["size"] < entry["needed"]
            }
            if not bad:
                continue
            location, entry = next(iter(bad.items()))
            gone = entry["size"] is None
            what = "is not there" if gone else f"has {entry['size']} bytes where {entry['needed']} are read"
            more = f" (and {count_of(len(bad) - 1, 'more')})" if len(bad) > 1 else ""
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} keeps its weights in {location}, which {what}{more}",
                art.subject(name),
                "The model file holds the graph alone; its weights lie in another file, by a name relative to it.",
                predicted_error=_external_error(target, gone=gone),
                evidence=[art.fact(target, name, "onnx", "external_data", location)],
                fix=[Fix("advice", f"Copy {location} into the same directory as {art.base_name(name)}.")],
            )


def _external_error(target: Snapshot, *, gone: bool) -> str | None:
    """What onnxruntime prints; the part of it that holds no path. Seen with 1.16.3, 1.20.1, 1.22.1 to 1.31.1."""
    found = art.installed(target, *art.ONNXRUNTIME)
    version = req.parsed(found[2]) if found else None
    if version is None:
        return None
    if not gone:
        return "are out of bounds or can not be read in full."
    if version.release >= (1, 26):
        return "External data path does not exist:"
    return "cannot get file size: No such file or directory" if version.release >= (1, 20) else None


class ART004(Contradiction):
    """An ONNX model uses operators that onnxruntime does not bring itself.

    Compares: the domains of the operators in the model's graphs with those that onnxruntime brings and those of
    functions that the model defines.

    Why: operators of other domains are in a library that the program registers before it makes a session
    (SessionOptions.register_custom_ops_library). Where that library is missing or is not registered, the model does
    not load.

    See: `com.acme:Add(-1) is not a registered function/op`.

    Decided: ai.onnx.contrib and onnxruntime-extensions is not installed: breaks, likely. Any other domain: breaks,
    possible, since the program may bring its library.

    Fix: install the library of the operators, and register it.

    Limits: whether the program registers a library is not seen.
    """

    code = "ART004"
    name = "onnx-custom-operators"
    reads = ("packages",)
    references = (
        "https://onnxruntime.ai/docs/reference/operators/add-custom-op.html",
        "https://github.com/microsoft/onnxruntime-extensions",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        runtime = art.installed(target, *art.ONNXRUNTIME)
        if runtime is None:
            return
        extended = art.installed(target, "onnxruntime-extensions") is not None
        for name, model in art.with_facts(target, "onnx"):
            other = sorted(
                domain
                for domain in model["domains"].keys() - model.get("function_domains", {}).keys() - _OWN_DOMAINS
                if not domain.startswith("com.microsoft") and not (domain == _EXTENSIONS and extended)
            )
            if not other:
                continue
            extensions = _EXTENSIONS in other
            shown = _EXTENSIONS if extensions else other[0]
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if extensions else Confidence.POSSIBLE,
                f"{name} uses operators of {', '.join(other[:3])}"
                + (", and onnxruntime-extensions is not installed" if extensions else ""),
                art.subject(name),
                "onnxruntime has no such operators: whoever loads the model has to register the library that holds "
                "them first.",
                predicted_error="is not a registered function/op",
                evidence=[
                    art.fact(target, name, "onnx", "domains", shown),
                    art.version_evidence(target, runtime[0]),
                ],
                fix=pip_fix(target, "install onnxruntime-extensions")
                if extensions
                else [
                    Fix("advice", "Register the library of the operators: options.register_custom_ops_library(PATH).")
                ],
            )
