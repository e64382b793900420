"""Family ART: model files that were made for another version of the library, or another device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact
from driftcheck.knowledge import model_files as known
from driftcheck.knowledge import tables
from driftcheck.rules import artifact_facts as art
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, at, lookup
from driftcheck.rules.distributions import pinned, pip_fix, titled
from driftcheck.snapshot import Snapshot

_TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-libs", "tensorrt-cu12-libs")
_LIBRARIES = ("cuda", "libraries")


class ART007(Contradiction):
    """torch.load refuses a file because of what it names, since weights_only is true by default.

    Compares: the classes and functions that the archive names, in the order of the file, with those that torch.load
    allows with weights_only, and the installed torch.

    Why: since torch 2.6 torch.load restores tensors and little else unless it is told otherwise. A file that holds a
    whole module, an optimizer's arguments, a NumPy array or a pathlib.Path is refused.

    See: `_pickle.UnpicklingError: Weights only load failed.` with `WeightsUnpickler error: Unsupported global: GLOBAL
    argparse.Namespace was not an allowed global by default.`; for a file of pickle protocol 4 `Unsupported operand
    149`.

    Decided: the file names something that is not on the list of torch 2.13, and torch is 2.6 or newer: breaks.
    Likely where the baseline's torch is older, since the program then was written without weights_only; else
    possible, since it may say weights_only=False. TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD turns it off.

    Fix: weights_only=False for files whose source is trusted, torch.serialization.add_safe_globals, or a file of
    tensors alone (state_dict, safetensors).

    Limits: an older torch allows less than the list; what an allowed class refuses itself is not seen. TorchScript
    archives, which torch.jit.load reads, are left out.
    """

    code = "ART007"
    name = "torch-weights-only"
    reads = ("packages",)
    references = (
        "https://pytorch.org/docs/stable/generated/torch.load.html",
        "https://github.com/pytorch/xla/issues/7799",
        "https://github.com/chemprop/chemprop/issues/1227",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, "torch")
        version = req.parsed(found[2]) if found else None
        forced = (target.facts("variables") or {}).get("variables", {}).get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", {})
        if found is None or version is None or version.release < (2, 6):
            return
        if str(forced.get("value", "")).lower() in {"1", "y", "yes", "true"}:
            return
        before = art.installed(baseline, "torch")
        older = req.parsed(before[2]) if before else None
        was_open = older is not None and older.release < (2, 6)
        for name, facts in art.with_facts(target, "pickle"):
            if lookup(target, (*art.FILES, name, "format")) not in {"torch", "torch-legacy"}:
                continue
            refused = _refused(facts)
            if refused is None:
                continue
            what, text, keys = refused
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if was_open else Confidence.POSSIBLE,
                f"torch.load refuses {name}: it {what}",
                art.subject(name),
                f"{titled(found[1])} loads with weights_only=True unless the program says otherwise, and then takes "
                "little more than tensors."
                + (f" The baseline has {titled(before[1])}, which takes everything." if before and was_open else ""),
                predicted_error=text,
                evidence=[art.fact(target, name, "pickle", *keys), art.version_evidence(target, found[0])],
                fix=[
                    Fix("advice", "If you trust where the file comes from: torch.load(..., weights_only=False)."),
                    Fix("advice", "Better: save model.state_dict() alone, or a safetensors file."),
                ],
            )


def _refused(facts: dict[str, Any]) -> tuple[str, str, tuple[str, ...]] | None:
    """(what the file does, what torch prints, where that stands), of the first thing that is refused."""
    if facts["protocol"] >= 4:
        # The frame that follows the protocol comes before any name.
        return f"has the pickle protocol {facts['protocol']}", "Unsupported operand 149", ("protocol",)
    named = sorted(
        (position, module, name) for module, names in facts["globals"].items() for name, position in names.items()
    )
    for _, module, name in named:
        path = f"{module}.{name}"
        if path in known.torch_allowed():
            continue
        shown = name if module == "builtins" else path
        text = f"WeightsUnpickler error: Unsupported global: GLOBAL {shown} was not an allowed global by default."
        return f"names {shown}", text, ("globals", module, name)
    return None


class ART015(Contradiction):
    """A TensorRT engine was built by another TensorRT than the one that is installed.

    Compares: the version in the header of the engine with the installed tensorrt distribution or libnvinfer.

    Why: an engine holds code for one version of TensorRT. Others refuse it, unless it was built as version
    compatible.

    See: `The engine plan file is not compatible with this version of TensorRT, expecting library version 8.5.1.7 got
    8.5.3.1, please rebuild.`; across minor versions `Version tag does not match. Note: Current Version: 213,
    Serialized Engine Version: 232`.

    Decided: both versions are stated and differ in their first three numbers: breaks, likely; it is not seen whether
    the engine is version compatible.

    Fix: build the engine again in the target image.

    Limits: the header is not documented; bytes 24 to 26 are the version by what NVIDIA says in the issue. Engines
    before TensorRT 8 are only named. The fourth number is not in the header.
    """

    code = "ART015"
    name = "tensorrt-engine-of-another-version"
    reads = ("packages",)
    references = (
        "https://github.com/NVIDIA/TensorRT/issues/3073",
        "https://github.com/RootKit-Org/AI-Aimbot/issues/109",
        "https://github.com/SthPhoenix/InsightFace-REST/issues/84",
        "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        found = _tensorrt(target)
        if found is None:
            return
        version, evidence = found
        for name, plan in art.with_facts(target, "tensorrt_plan"):
            built = req.parsed(plan["version"])
            here = req.parsed(version)
            if built is None or here is None or _three(built.release) == _three(here.release):
                continue
            same = built.release[:2] == here.release[:2]
            expecting = "expecting library version"
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} was built by TensorRT {plan['version']}, and {version} is installed",
                art.subject(name),
                "An engine runs with the TensorRT that built it, unless it was built as version compatible.",
                predicted_error="The engine plan file is not compatible with this version of TensorRT, " + expecting
                if same
                else "Version tag does not match.",
                evidence=[art.fact(target, name, "tensorrt_plan", "version"), evidence],
                fix=[Fix("advice", "Build the engine again in the target: trtexec --onnx=MODEL --saveEngine=ENGINE")],
            )


def _three(release: tuple[int, ...]) -> tuple[int, ...]:
    return (*release, 0, 0, 0)[:3]


def _tensorrt(target: Snapshot) -> tuple[str, Evidence] | None:
    """The installed TensorRT and where that stands: the distribution, else libnvinfer."""
    found = art.installed(target, *_TENSORRT)
    if found is not None:
        return found[2], art.version_evidence(target, found[0])
    for file, record in sorted((lookup(target, (*_LIBRARIES, "nvinfer")) or {}).items()):
        if record["version"] and record["version"].count(".") >= 2:
            return record["version"], at(target, "target", *_LIBRARIES, "nvinfer", file, "version")
    return None


class ART016(Drift):
    """A TensorRT engine meets a GPU of another compute capability than in the baseline.

    Compares: the compute capabilities of the GPUs of both environments, where the target has an engine.

    Why: an engine is built for the GPU that it is built on: its kernels are chosen, and compiled, for that one. Others
    refuse it, unless it was built with a hardware compatibility level.

    See: `The engine plan file is generated on an incompatible device, expecting compute 8.6 got compute 7.5, please
    rebuild.`

    Decided: the target has no GPU of a capability that the baseline has: breaks, likely where both have the same
    engine, else possible.

    Fix: build the engine again on the target's GPU, or with a hardware compatibility level.

    Limits: the GPU that an engine was built on is not read from it. Two models of one capability are not told apart.
    """

    code = "ART016"
    name = "tensorrt-engine-on-another-gpu"
    reads = ("gpu",)
    references = (
        "https://github.com/NVIDIA/TensorRT/issues/2176",
        "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        before, after = _capabilities(baseline), _capabilities(target)
        if not before or not after or before & after:
            return
        for name, record in art.present(target):
            if record["format"] != "tensorrt-plan":
                continue
            other = art.files_of(baseline).get(name) or {}
            same = "digest" in record and other.get("digest") == record["digest"]
            there, here = min(before), min(after)
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if same else Confidence.POSSIBLE,
                f"{name} is a TensorRT engine, and the GPU has compute capability {here} instead of {there}",
                art.subject(name),
                "An engine runs on GPUs of the compute capability that it was built on.",
                predicted_error="The engine plan file is generated on an incompatible device, expecting compute "
                f"{here} got compute {there}, please rebuild.",
                evidence=[
                    art.fact(target, name, "format"),
                    at(baseline, "baseline", "gpu", "nvidia", "devices"),
                    at(target, "target", "gpu", "nvidia", "devices"),
                ],
                fix=[
                    Fix("advice", "Build the engine again on this GPU, or with --hardwareCompatibilityLevel=ampere+.")
                ],
            )


def _capabilities(snapshot: Snapshot) -> set[str]:
    devices = lookup(snapshot, ("gpu", "nvidia", "devices")) or {}
    return {device["compute_capability"] for device in devices.values() if device.get("compute_capability")}


class ART017(Contradiction):
    """A safetensors file has a type that the installed safetensors does not know.

    Compares: the types of the tensors in the header with those of the installed safetensors.

    Why: the library refuses the whole file for one tensor of a type that came after it, as 8-bit and 4-bit floats did.

    See: `SafetensorError: Error while deserializing header: invalid JSON in header: unknown variant` with the name of
    the type; before 0.6 `SafetensorError: Error while deserializing header: InvalidHeaderDeserialization`.

    Decided: by a table that was measured with safetensors 0.4.0 to 0.8.0: breaks, likely.

    Fix: a newer safetensors, or the one of the baseline.

    Limits: types that are not in the table are not judged. Whether torch knows the type is another question.
    """

    code = "ART017"
    name = "safetensors-type-unknown"
    reads = ("packages",)
    references = (
        "https://github.com/huggingface/safetensors/releases",
        "https://huggingface.co/docs/safetensors/index",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, "safetensors")
        version = req.parsed(found[2]) if found else None
        if found is None or version is None or version.release < (0, 4):
            return
        for name, facts in art.with_facts(target, "safetensors"):
            ranges = known.safetensors_types()
            unknown = [kind for kind in sorted(facts["types"]) if not tables.in_range(ranges.get(kind), found[2])]
            if not unknown:
                continue
            kind = unknown[0]
            old = "InvalidHeaderDeserialization"
            module = "safetensors._safetensors_rust" if version.release >= (0, 8) else "safetensors_rust"
            said = f"invalid JSON in header: unknown variant `{kind}`" if version.release >= (0, 6) else old
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} has tensors of the type {kind}, which {titled(found[1])} does not know",
                art.subject(name),
                f"safetensors reads {', '.join(unknown)} since {ranges[kind].removeprefix('>=')}.",
                predicted_error=f"{module}.SafetensorError: Error while deserializing header: {said}",
                evidence=[art.fact(target, name, "safetensors", "types", kind), art.version_evidence(target, found[0])],
                fix=art.from_baseline(target, baseline, "safetensors", other_than=found[2])
                or pip_fix(target, f'install "safetensors{ranges[kind]}"'),
            )


class ART018(Contradiction):
    """The installed transformers does not know this kind of model.

    Compares: model_type in the model's config.json with the tables of the installed transformers (models/auto), read
    from its files.

    Why: transformers chooses the classes of a model by its type. A model that came after the installed release has a
    type that is not in its tables.

    See: `ValueError: The checkpoint you are trying to load has model type` with the name of the type, and `but
    Transformers does not recognize this architecture.`

    Decided: the type stands in no table of the installed transformers, and the model brings no code of its own
    (auto_map): breaks, likely.

    Fix: a newer transformers; the version that wrote the configuration knows it.

    Limits: a program that registers the type itself (AutoConfig.register) is not seen.
    """

    code = "ART018"
    name = "transformers-model-type-unknown"
    reads = ("packages",)
    references = (
        "https://github.com/snicolast/ComfyUI-IndexTTS2/issues/21",
        "https://github.com/1038lab/ComfyUI-QwenVL/issues/23",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, "transformers")
        if found is None:
            return
        for name, config in art.with_facts(target, "transformers_config"):
            if art.base_name(name) != "config.json" or config["own_code"] or config.get("known") is not False:
                continue
            wrote = req.parsed(config["transformers_version"])
            release = wrote if wrote is not None and not wrote.is_devrelease else None
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{titled(found[1])} does not know models of the type {config['model_type']}, as {name} is",
                art.subject(name),
                "The type stands in none of its tables."
                + (f" The model was saved with transformers {wrote}." if wrote is not None else ""),
                predicted_error=f"ValueError: The checkpoint you are trying to load has model type "
                f"`{config['model_type']}` but Transformers does not recognize this architecture.",
                evidence=[
                    art.fact(target, name, "transformers_config", "model_type"),
                    art.fact(target, name, "transformers_config", "known"),
                    art.version_evidence(target, found[0]),
                ],
                fix=art.from_baseline(target, baseline, "transformers", other_than=found[2])
                or pip_fix(target, f'install "transformers>={release}"' if release else "install -U transformers"),
            )


class ART019(Contradiction):
    """A tokenizer.json was written by a newer tokenizers than the one that is installed.

    Compares: how the merges stand in the file with the installed tokenizers: since 0.20 as pairs, before as one text
    each.

    Why: an older tokenizers does not read the pairs. It says so in words that name neither the version nor the cause.

    See: `Exception: data did not match any variant of untagged enum ModelWrapper at line 1251012 column 3`.

    Decided: the merges are pairs and tokenizers is older than 0.20: breaks, likely. Tried with 0.19.1 and 0.20.0.

    Fix: tokenizers 0.20 or newer (transformers 4.45 and newer ask for it).

    Limits: other new parts of the format are not looked at.
    """

    code = "ART019"
    name = "tokenizer-file-too-new"
    reads = ("packages",)
    references = (
        "https://github.com/huggingface/tokenizers/pull/909",
        "https://github.com/allenai/open-instruct/issues/738",
        "https://github.com/huggingface/swift-transformers/pull/131",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        found = art.installed(target, "tokenizers")
        version = req.parsed(found[2]) if found else None
        if found is None or version is None or version.release >= (0, 20):
            return
        for name, facts in art.with_facts(target, "tokenizer"):
            if facts["pairs"] is not True:
                continue
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{name} was written by tokenizers 0.20 or newer, and {found[2]} is installed",
                art.subject(name),
                "Its merges are pairs, which tokenizers reads since 0.20.",
                predicted_error="Exception: data did not match any variant of untagged enum ModelWrapper",
                evidence=[art.fact(target, name, "tokenizer", "pairs"), art.version_evidence(target, found[0])],
                fix=art.from_baseline(target, baseline, "tokenizers", other_than=found[2])
                or pip_fix(target, 'install "tokenizers>=0.20"'),
            )


# Facts that state the version of the library that wrote the file, and the distributions of that library.
_WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "keras": ("version", ("keras", "tf-keras")),
    "xgboost": ("version", ("xgboost", "xgboost-cpu")),
    "transformers_config": ("transformers_version", ("transformers",)),
}


class ART020(Contradiction):
    """A model file was written by a newer version of its library than the one that is installed.

    Compares: the version that the file says wrote it (Keras, XGBoost, the configuration of transformers) with the
    installed one.

    Why: libraries read what older versions wrote, and promise nothing for what newer ones wrote: parameters that they
    do not know are refused, or ignored.

    See: nothing, other answers, or an error about a field that is not known.

    Decided: by the versions alone, major and minor: changes-results, possible. Where the type of the model is not
    known at all, ART018 says so.

    Fix: the version that wrote the file, or a newer one.

    Limits: whether anything of the newer version is in the file is not looked at.
    """

    code = "ART020"
    name = "model-of-newer-library"
    reads = ("packages",)
    references = ("https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        for kind, (key, names) in _WRITERS.items():
            found = art.installed(target, *names)
            version = req.parsed(found[2]) if found else None
            if found is None or version is None:
                continue
            for name, facts in art.with_facts(target, kind):
                wrote = req.parsed(facts[key])
                if wrote is None or wrote.release[:2] <= version.release[:2] or facts.get("known") is False:
                    continue
                before = art.installed(baseline, *names)
                yield self.finding(
                    Impact.CHANGES_RESULTS,
                    Confidence.POSSIBLE,
                    f"{name} was written by {names[0]} {wrote}, and {found[2]} is installed",
                    art.subject(name),
                    "An older version reads it without any promise: what it does not know it refuses or ignores."
                    + (f" The baseline has {pinned(before[1])}." if before and before[2] != found[2] else ""),
                    evidence=[art.fact(target, name, kind, key), art.version_evidence(target, found[0])],
                    fix=art.from_baseline(target, baseline, *names, other_than=found[2])
                    or pip_fix(target, f'install "{found[0]}>={wrote}"'),
                )
