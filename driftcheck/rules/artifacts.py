"""Family ART: the model files themselves. Are they there, are they whole, and are they the ones of the baseline?"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any

from packaging.version import Version

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides
from driftcheck.snapshot import Snapshot

# What a file of this name is to whatever reads it, and its formats. An ending that says nothing (.bin) is not here.
_TORCH = ("file of torch.save", frozenset({"compressed", "pickle", "torch", "torch-legacy", "torchscript", "zip"}))
_PICKLE = ("pickle", frozenset({"compressed", "joblib", "pickle", "torch", "torch-legacy", "zip"}))
_HDF5 = ("HDF5 file", frozenset({"hdf5"}))
_NAMED = {
    ".onnx": ("ONNX model", frozenset({"onnx"})),
    ".ort": ("ORT model", frozenset({"ort"})),
    ".safetensors": ("safetensors file", frozenset({"safetensors"})),
    ".gguf": ("GGUF file", frozenset({"gguf"})),
    ".tflite": ("TensorFlow Lite model", frozenset({"tflite"})),
    ".keras": ("Keras model", frozenset({"hdf5", "keras", "zip"})),
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".npy": ("NumPy array", frozenset({"npy"})),
    ".npz": ("archive of NumPy arrays", frozenset({"npz", "zip"})),
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": _PICKLE,
}

# Versions of safetensors whose texts were seen; the file alone decides whether one of them is printed.
_SAFETENSORS_SEEN = (Version("0.3.3"), Version("0.8.0"))


class ART011(Contradiction):
    """A model file that was named is not there.

    Compares: the paths that were given with --artifact with the files of the environment.

    Why: a model that was not copied into the image, a volume that is not mounted, or a path that is relative to
    another working directory.

    See: `FileNotFoundError: [Errno 2] No such file or directory: 'model.pkl'`; onnxruntime says `[ONNXRuntimeError] : 3
    : NO_SUCHFILE : Load model from model.onnx failed:Load model model.onnx failed. File doesn't exist`.

    Decided: there is nothing of that name, or a link that leads nowhere: breaks, likely.

    Fix: copy it there, mount it, or name it by its absolute path.

    Limits: a volume that is mounted when the service starts is not there when its image is measured.
    """

    code = "ART011"
    name = "model-file-missing"
    reads = ("python",)
    references = ("https://docs.python.org/3/library/exceptions.html#FileNotFoundError",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        known = art.files_of(baseline)
        for name, record in sorted(art.files_of(target).items()):
            if record is not None:
                continue
            there = known.get(name) is not None
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} is not there",
                art.subject(name),
                "It was named as a model file of this environment, and there is no file of that name."
                + (" The baseline has it." if there else ""),
                predicted_error=f"[ONNXRuntimeError] : 3 : NO_SUCHFILE : Load model from {name} failed"
                if name.endswith(".onnx")
                else f"FileNotFoundError: [Errno 2] No such file or directory: '{name}'",
                evidence=[
                    art.fact(target, name),
                    *([art.fact(baseline, name, "format", side="baseline")] if baseline and there else []),
                ],
                fix=[
                    Fix(
                        "advice",
                        "Copy it there or mount it, or name it by its absolute path: a relative one starts in "
                        "the working directory.",
                    ),
                ],
            )


class ART012(Contradiction):
    """A model file is cut, empty, damaged, or no model at all.

    Compares: the size that the file's own header, or its structure, announces with the size that it has; what the file
    holds with what its name promises.

    Why: a download that ended early, a full disk, an image layer that was built while the file was still being
    written. Most formats are read from the front, so the beginning looks right. A download whose room was reserved and
    never filled is all zeros, and one that was refused is the page that says so: `curl -O` saves it under the name of
    the model.

    See: safetensors `SafetensorError: Error while deserializing header: incomplete metadata, file not fully
    covered` (`MetadataIncompleteBuffer` before 0.6); torch `RuntimeError: PytorchStreamReader failed reading zip
    archive: failed finding central directory`; onnxruntime `INVALID_PROTOBUF : Load model from model.onnx
    failed:Protobuf parsing failed.` or, for an empty file, `INVALID_ARGUMENT : Load model from model.onnx failed:No
    graph was found in the protobuf.`; pickle `_pickle.UnpicklingError: invalid load key, '<'.` for a web page;
    llama.cpp `data is not within the file bounds, model is corrupted or incomplete`.

    Decided: the file is shorter than it says: breaks, certain for safetensors of a version whose text was seen,
    since the library compares the same two numbers; else likely. It is empty, a web page, or nothing that is known
    under a name that promises a format (.onnx, .safetensors, .gguf, .pt, .pkl, .npy, .h5 and their like): likely. It
    has another format than its name promises: possible, since a program may look at the file and not at its name. What
    is in it is not as the format demands: possible, since it may only look like a file of that format.

    Fix: fetch it again and compare its digest with the one that is published.

    Limits: a file of the right size with wrong contents is not noticed; compare its digest (ART014). Names that any
    format may have (.bin, .ckpt, .engine) promise nothing.
    """

    code = "ART012"
    name = "model-file-cut"
    reads = ("python",)
    references = (
        "https://huggingface.co/docs/safetensors/index",
        "https://github.com/ggml-org/llama.cpp/pull/6885",
        "https://github.com/ggml-org/llama.cpp/issues/6774",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        for name, record in art.present(target):
            found = _damage(name, record)
            if found is None:
                continue
            fact, what, sure = found
            text, certain = _text_of_damage(target, name, record)
            confidence = Confidence.LIKELY if sure else Confidence.POSSIBLE
            whole = art.files_of(baseline).get(name) if baseline else None
            before = whole is not None and _damage(name, whole) is None
            yield self.finding(
                Impact.BREAKS,
                Confidence.CERTAIN if sure and certain else confidence,
                f"{name} {what}",
                art.subject(name),
                _why(record, fact),
                predicted_error=text,
                evidence=[
                    art.fact(target, name, fact),
                    *([art.fact(baseline, name, "size", side="baseline")] if baseline and before else []),
                ],
                fix=[Fix("advice", "Fetch it again, and compare its digest with the one that is published.")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """Whatever differs in the record of that file."""
        del sides
        return _is_of(change, finding)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """That it is not the file of the baseline."""
        del sides
        return effect.code == "ART014" and effect.subject == finding.subject


def _is_of(change: Change, finding: Finding) -> bool:
    """Whether a changed fact is one of the file that a finding is about."""
    return tuple(change.path[:2]) == art.FILES and change.path[2:3] == (finding.subject.name,)


def _damage(name: str, record: dict[str, Any]) -> tuple[str, str, bool] | None:
    """(the fact that shows it, what to say, whether the file is taken to be unusable); None for a whole file."""
    if record["format"] == "empty":
        return "size", "is empty", True
    if "cut" in record:
        return "cut", f"is cut: {record['cut']}", True
    needed = record.get("safetensors", {}).get("needed")
    if needed is not None and needed < record.get("size", 0):
        return "size", f"has {record['size'] - needed} bytes more than its header covers", True
    ending = posixpath.splitext(name)[1].lower()
    if record["format"] == "web-page" and ending not in {".html", ".htm", ".xml"}:
        return "format", "is a web page, not a model", True
    if "malformed" in record:
        # The library parses the same header, and takes nothing else.
        sure = record["format"] == "safetensors"
        return "malformed", "is no safetensors file" if sure else "looks damaged", sure
    what, formats = _NAMED.get(ending, ("", frozenset()))
    if formats and record["format"] not in formats | {"git-lfs-pointer", "unreadable"}:
        form = record["format"]
        return "format", f"is no {what}" + (f", but {form}" if form != "unknown" else ""), form in {"json", "unknown"}
    return None


def _why(record: dict[str, Any], fact: str) -> str:
    if fact == "malformed":
        return f"What is in it is not as the format demands: {record['malformed']}."
    if fact == "cut":
        return "The file itself says how long it has to be."
    if record["format"] == "web-page":
        return "A page that says why there is no file was saved in the place of the file."
    if fact == "format":
        return "It is named like one, and it does not begin like one."
    return "No program can read a model from it."


def _text_of_damage(target: Snapshot, name: str, record: dict[str, Any]) -> tuple[str | None, bool]:
    """What the library of the format prints, and whether it was seen with the very version that is installed."""
    if record["format"] == "web-page":
        return _text_of_foreign(target, name, "<")
    if record["format"] == "empty" and name.endswith(".onnx"):
        return f"Load model from {name} failed:", False  # what follows differs from version to version
    if record["format"] == "empty" and name.endswith((".pkl", ".pickle")):
        return "EOFError: Ran out of input", False
    if record["format"] == "onnx" or name.endswith(".onnx"):
        return _NO_PROTOBUF.format(name), False
    if record["format"] == "safetensors" or (record["format"] == "empty" and name.endswith(".safetensors")):
        old, new = "MetadataIncompleteBuffer", "incomplete metadata, file not fully covered"
        if record.get("size", 0) < 8:
            old, new = "HeaderTooSmall", "header too small"
        elif record.get("malformed", "").startswith("a header of "):
            old, new = "HeaderTooLarge", "header too large"
        elif "malformed" in record:
            if " codec " in record["malformed"]:
                return None, False
            return _safetensors_text(target, "InvalidHeaderDeserialization", "invalid JSON in header")[0], False
        elif "safetensors" not in record:
            old, new = "InvalidHeaderLength", "invalid header length"
        return _safetensors_text(target, old, new)
    if record["format"] == "zip" and name.endswith(art.TORCH_ENDINGS):
        text = "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"
        return text, False
    if record["format"] == "gguf" and "gguf" in record:
        return "data is not within the file bounds, model is corrupted or incomplete", False
    return None, False


_NO_PROTOBUF = "INVALID_PROTOBUF : Load model from {} failed:Protobuf parsing failed."


def _text_of_foreign(target: Snapshot, name: str, first: str) -> tuple[str | None, bool]:
    """What the library of the format that ``name`` promises prints of a text that begins with ``first``."""
    unpickled = f"_pickle.UnpicklingError: invalid load key, '{first}'."
    if name.endswith(".safetensors"):
        return _safetensors_text(target, "HeaderTooLarge", "header too large")
    if name.endswith(".onnx"):
        return _NO_PROTOBUF.format(name), False
    if name.endswith(art.TORCH_ENDINGS) and (torch := art.installed(target, "torch")):
        version = req.parsed(torch[2])
        strict = version is not None and version.release >= (2, 6)
        return f"Unsupported operand {ord(first)}" if strict else unpickled, False
    if name.endswith(".joblib"):
        return f"KeyError: {ord(first)}", False
    return unpickled if name.endswith(art.PICKLE_ENDINGS) else None, False


def _safetensors_text(target: Snapshot, old: str, new: str) -> tuple[str | None, bool]:
    """Both texts were seen with 0.3.3, 0.4.0 to 0.4.5, 0.5.3 and with 0.6.1, 0.6.2, 0.7.0, 0.8.0."""
    found = art.installed(target, "safetensors")
    version = req.parsed(found[2]) if found else None
    if version is None:
        return None, False
    module = "safetensors._safetensors_rust" if version >= Version("0.8") else "safetensors_rust"
    said = new if version >= Version("0.6") else old
    lowest, highest = _SAFETENSORS_SEEN
    return f"{module}.SafetensorError: Error while deserializing header: {said}", lowest <= version <= highest


class ART013(Contradiction):
    """A model file is a pointer of Git LFS, not the model.

    Compares: the first bytes of the file with those of a pointer, which names the digest and the size of the real
    file.

    Why: a repository that was cloned without Git LFS (as in an image without git-lfs, or a CI checkout without
    lfs: true) holds small text files where the models should be.

    See: safetensors `SafetensorError: Error while deserializing header: header too large` (`HeaderTooLarge` before
    0.6); torch.load `_pickle.UnpicklingError: invalid load key, 'v'.`, or `Unsupported operand 118` with weights_only;
    onnxruntime `INVALID_PROTOBUF`.

    Decided: the file begins as a pointer does: breaks; certain for a .safetensors file and a version of safetensors
    whose text was seen, else likely.

    Fix: git lfs pull, where the files are copied from; in CI `lfs: true` for the checkout.

    Limits: none: a pointer is no model.
    """

    code = "ART013"
    name = "git-lfs-pointer"
    reads = ("python",)
    references = (
        "https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md",
        "https://github.com/huggingface/transformers/issues/27923",
        "https://github.com/codefuse-ai/MFTCoder/issues/20",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for name, pointer in art.with_facts(target, "git_lfs_pointer"):
            text, certain = _text_of_foreign(target, name, "v")
            size = pointer["size"]
            yield self.finding(
                Impact.BREAKS,
                Confidence.CERTAIN if certain else Confidence.LIKELY,
                f"{name} is a pointer of Git LFS, not the model",
                art.subject(name),
                "The repository was cloned without Git LFS, which left this text in the place of the file"
                + (f" of {size} bytes." if size is not None else "."),
                predicted_error=text,
                evidence=[art.fact(target, name, "git_lfs_pointer"), art.fact(target, name, "format")],
                fix=[Fix("advice", "Run git lfs install and git lfs pull where the files are copied from.")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """Whatever differs in the record of that file."""
        del sides
        return _is_of(change, finding)

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """That it is not the file of the baseline."""
        del sides
        return effect.code == "ART014" and effect.subject == finding.subject


class ART014(Drift):
    """A model file is another one than in the baseline.

    Compares: the digests of files of the same path, or where the paths differ, of the same name.

    Why: other weights, another tokenizer or another configuration give other answers, with no error at all. It is
    the first thing to know of a service that answers otherwise.

    See: other answers; nothing is printed.

    Decided: both digests are known and differ: changes-results, likely. For files above 2 GB, of which only pieces
    were read, an equal digest of those pieces is taken for an equal file.

    Fix: deploy the file of the baseline, by its digest; or if the new one is meant, make it the baseline.

    Limits: a file that was written again with the same contents may have another digest (dates in archives, the
    order of keys).
    """

    code = "ART014"
    name = "other-model-file"
    reads = ("python",)
    references = ("https://docs.python.org/3/library/hashlib.html",)

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = dict(art.present(baseline)), dict(art.present(target))
        for one, other in _pairs(before, after):
            kind = _digest_kind(before[one], after[other])
            if kind is None or before[one][kind] == after[other][kind]:
                continue
            sizes = (before[one].get("size"), after[other].get("size"))
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.LIKELY,
                f"{other} is not the file of the baseline",
                art.subject(other),
                f"It has another digest: {_short(after[other][kind])} instead of {_short(before[one][kind])}"
                + (f", and {sizes[1]} bytes instead of {sizes[0]}." if sizes[0] != sizes[1] else ", and the same size.")
                + (f" In the baseline it is {one}." if one != other else ""),
                evidence=[art.fact(baseline, one, kind, side="baseline"), art.fact(target, other, kind)],
                fix=[Fix("advice", "Deploy the file of the baseline, or take the new one as the baseline.")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """What else differs in the record of that file."""
        del sides
        return _is_of(change, finding)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _digest_kind(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    return next((kind for kind in ("digest", "sampled_digest") if kind in one and kind in other), None)


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    """The files to compare: those of one path, and those whose name stands once on each side."""
    pairs = [(name, name) for name in sorted(before.keys() & after.keys())]
    left = {name: art.base_name(name) for name in before.keys() - after.keys()}
    right = {name: art.base_name(name) for name in after.keys() - before.keys()}
    counts = Counter(left.values()), Counter(right.values())
    by_name = {name: path for path, name in right.items() if counts[0][name] == counts[1][name] == 1}
    return sorted([*pairs, *((path, by_name[name]) for path, name in left.items() if name in by_name)])


class ART022(Drift):
    """A directory of model files lacks a file that it has in the baseline.

    Compares: the files below each directory that was named for both environments.

    Why: a tokenizer, a shard of the weights or a configuration that was not copied. What is missing is asked for when
    the model is loaded, or silently replaced by a default.

    See: `OSError: ... does not appear to have a file named ...`, or other answers.

    Decided: other files of the same directory are there and this one is not: breaks, likely.

    Fix: copy the whole directory.

    Limits: files that only the target has are differences without a finding.
    """

    code = "ART022"
    name = "model-file-of-baseline-only"
    reads = ("python",)
    references = ("https://onnx.ai/onnx/repo-docs/ExternalData.html",)

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = dict(art.present(baseline)), art.files_of(target)
        paired = {one for one, _ in _pairs(before, dict(art.present(target)))}
        directories = {name.rpartition("/")[0] for name, record in after.items() if record is not None}
        for name in sorted(before.keys() - after.keys() - paired):
            directory = name.rpartition("/")[0]
            if not directory or directory not in directories:
                continue
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} is in the baseline alone",
                art.subject(name),
                f"Other files of {directory} are here, and this one is not.",
                evidence=[art.fact(baseline, name, "format", side="baseline")],
                fix=[Fix("advice", f"Copy the whole directory {directory}.")],
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """The file that is gone."""
        del sides
        return _is_of(change, finding)
