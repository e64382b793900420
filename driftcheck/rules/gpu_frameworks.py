"""Family GPU: builds of frameworks for CPUs, where a GPU was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import effects
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix, titled, torch_from
from driftcheck.rules.wheels import req_name
from driftcheck.snapshot import Snapshot

# What each prints where a GPU is asked of a build for CPUs. torch/cuda/__init__.py, _lazy_init (2.13.0); onnxruntime/
# capi/onnxruntime_inference_collection.py (1.31.1). TensorFlow and JAX say nothing.
_ON_CPU = {
    "torch": "AssertionError: Torch not compiled with CUDA enabled",
    "onnxruntime": "UserWarning: Specified provider 'CUDAExecutionProvider' is not in available provider names."
    "Available providers: 'AzureExecutionProvider, CPUExecutionProvider'",
}
JAX_PLUGIN = re.compile(r"^jax_(cuda|rocm)\d+_plugin$")

# How a build for CUDA is had, where no baseline says it.
_INSTALL = {
    "torch": "Install torch from the index that PyTorch publishes for a CUDA of this driver (pytorch.org/get-started).",
    "tensorflow": 'python -m pip install "tensorflow[and-cuda]"',
    "onnxruntime": "python -m pip uninstall -y onnxruntime && python -m pip install onnxruntime-gpu",
    "jaxlib": 'python -m pip install "jax[cuda12]"',
}


def accelerator_of(snapshot: Snapshot, framework: str) -> str | None:
    """``cuda``, ``rocm``, ``xpu`` or ``cpu``; None where the framework is not there or its files do not say.

    jaxlib is for CPUs, and plugins beside it bring the rest.
    """
    builds = gpu.builds(snapshot)
    if framework == "jaxlib" and framework in builds:
        return next((match[1] for match in map(JAX_PLUGIN.match, sorted(builds)) if match), "cpu")
    found: str | None = builds.get(framework, {}).get("accelerator")
    return found


class GPU027(Contradiction):
    """A GPU is here, and a framework was installed as a build for CPUs.

    Compares: for which accelerator the files of torch, TensorFlow, onnxruntime and jaxlib say that they were built,
    with the GPUs that the driver shows.

    Why: pip takes the build that an index or an extra names, and not the one that fits the machine. The CPU build
    is imported, computes, and leaves the GPU idle.

    See: `torch.cuda.is_available()` is False; `AssertionError: Torch not compiled with CUDA enabled` where the code
    asks for the GPU.

    Decided: slows; likely for torch, possible for the others where torch beside them is a build for the GPU, since
    they may be there for small work.

    Fix: the build for the GPU.

    Limits: a service may want it so: then give the rule's finding a reason in the policy.
    """

    code = "GPU027"
    name = "cpu-build-beside-gpu"
    reads = ("cuda", "gpu")
    references = (
        "https://pytorch.org/get-started/locally/",
        "https://onnxruntime.ai/docs/install/",
        "https://docs.jax.dev/en/latest/installation.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        number = len(gpu.devices(target))
        if not number:
            return
        first = min(gpu.devices(target))
        name = lookup(target, gpu.on_device(first, "name")) or "a GPU"
        accelerated = accelerator_of(target, "torch") not in {None, "cpu"}
        for framework in _INSTALL:
            build = gpu.builds(target).get(framework)
            if build is None or accelerator_of(target, framework) != "cpu":
                continue
            if framework == "onnxruntime" and "onnxruntime-gpu" in distributions_of(target):
                continue  # GPU029
            yield self.finding(
                Impact.SLOWS,
                Confidence.POSSIBLE if accelerated else Confidence.LIKELY,
                f"{framework} {build['version'] or ''} is a build for CPUs, and {name} is here".replace("  ", " "),
                Subject("framework", framework),
                f"The driver shows {number} {'GPU' if number == 1 else 'GPUs'}; {framework} cannot use "
                f"{'it' if number == 1 else 'them'}.",
                predicted_error=_ON_CPU.get(framework),
                evidence=[
                    at(target, "target", "cuda", "builds", framework),
                    at(target, "target", *gpu.on_device(first, "name")),
                ],
                fix=_accelerated(target, baseline, framework),
            )


class GPU028(Drift):
    """The baseline's framework computes on a GPU, and the target's is a build for CPUs.

    Compares: for which accelerator torch, TensorFlow, onnxruntime and jaxlib with its plugins were built on the two
    sides.

    Why: another index (+cpu), another name (onnxruntime instead of onnxruntime-gpu), an extra that was forgotten
    (jax[cuda12]). Versions agree, and the code that asks for a GPU does not find one.

    See: `AssertionError: Torch not compiled with CUDA enabled`; onnxruntime warns that `CUDAExecutionProvider` is not
    in the available provider names, and goes on; TensorFlow and JAX go on without a word.

    Decided: torch: breaks, likely, since its code names the device. The others fall back: slows, likely. Silent where
    the baseline has no GPU, so that it computes on the CPU as well.

    Fix: the build of the baseline.

    Limits: code that asks for the device first (`"cuda" if torch.cuda.is_available() else "cpu"`) goes on, slowly.
    onnxruntime states its build since 1.21 alone.
    """

    code = "GPU028"
    name = "cpu-build-instead-of-gpu-build"
    reads = ("cuda",)
    references = (
        "https://pytorch.org/get-started/locally/",
        "https://github.com/pytorch/pytorch/issues/122494",
        "https://onnxruntime.ai/docs/install/",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        if gpu.without_gpu(baseline):
            return
        for framework in _INSTALL:
            before, after = accelerator_of(baseline, framework), accelerator_of(target, framework)
            if before in {None, "cpu"} or after != "cpu":
                continue
            yield self.finding(
                Impact.BREAKS if framework == "torch" else Impact.SLOWS,
                Confidence.LIKELY,
                f"{framework} is a build for CPUs, and the baseline's is for {before}",
                Subject("framework", framework),
                f"The baseline has {_named(baseline, framework)} and the target {_named(target, framework)}. "
                "What asks for the GPU fails or runs on the CPU.",
                predicted_error=_ON_CPU.get(framework),
                evidence=[
                    at(baseline, "baseline", "cuda", "builds", _states(baseline, framework)),
                    at(target, "target", "cuda", "builds", framework),
                ],
                fix=_accelerated(target, baseline, framework),
            )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """The CUDA libraries, and their packages, that came with the baseline's build alone."""
        framework, path = finding.subject.name, change.path
        if path[:2] == ("cuda", "builds"):
            return len(path) > 2 and (path[2] == framework or path[2] in _plugins(sides.baseline, framework))
        if change.kind != "removed":
            return False
        brought = _brought(sides.baseline, framework)
        if path[:1] == ("cuda",):
            owners = _owners(change.before)
        else:
            owners = effects.distributions_of_change(change) if len(path) > 2 else set()
        return bool(owners) and owners <= brought

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """PKG005 sees the same from the digests of the files."""
        del sides
        return effect.code == "PKG005" and effect.subject.name == finding.subject.name


def _owners(fact: object) -> set[str]:
    """The distributions of the record of one file, or of the records of all files of one component."""
    if not isinstance(fact, dict):
        return set()
    records = [fact] if "distribution" in fact else [one for one in fact.values() if isinstance(one, dict)]
    return {str(one.get("distribution")) for one in records}


def _plugins(snapshot: Snapshot | None, framework: str) -> list[str]:
    """The keys of JAX's plugins among the builds: jax_cuda12_plugin and xla_cuda12."""
    found = sorted(gpu.builds(snapshot)) if framework == "jaxlib" else []
    return [name for name in found if JAX_PLUGIN.match(name) or name.startswith("xla_")]


def _brought(snapshot: Snapshot | None, framework: str) -> set[str]:
    """A framework, its plugins, and the NVIDIA packages and the Triton that they require."""
    distributions = distributions_of(snapshot)
    names = {framework, "onnxruntime-gpu" if framework == "onnxruntime" else framework}
    for plugin in _plugins(snapshot, framework):
        kind = plugin.removeprefix("jax_").removeprefix("xla_").removesuffix("_plugin")
        names |= {f"jax-{kind}-plugin", f"jax-{kind}-pjrt"}
    required = {req_name(text) for name in names & distributions.keys() for text in distributions[name]["requires"]}
    return names | {name for name in required if name.startswith(("nvidia-", "triton", "cuda-"))}


def _states(snapshot: Snapshot | None, framework: str) -> str:
    """The key of what states the accelerator: for jaxlib that of its plugin."""
    if framework != "jaxlib":
        return framework
    return next((name for name in sorted(gpu.builds(snapshot)) if JAX_PLUGIN.match(name)), framework)


def _named(snapshot: Snapshot, framework: str) -> str:
    name = _states(snapshot, framework)
    build = gpu.builds(snapshot)[name]
    return f"{build.get('package') or name} {build['version'] or ''}".strip()


def _accelerated(target: Snapshot, baseline: Snapshot | None, framework: str) -> Sequence[Fix]:
    """The baseline's build where it is one for a GPU, else how such a build is had."""
    if baseline is not None and accelerator_of(baseline, framework) not in {None, "cpu"}:
        name = {"onnxruntime": "onnxruntime-gpu", "jaxlib": _states(baseline, "jaxlib").replace("_", "-")}
        record = distributions_of(baseline).get(name.get(framework, framework))
        if record is not None and framework != "torch":
            return pip_fix(target, f"install {pinned(record)}")
        version = gpu.builds(baseline)[framework]["version"] or ""
        label = req.parsed(version)
        if framework == "torch" and label is not None and label.local and label.local.startswith("cu"):
            return torch_from(target, label.local, label.public)
        if record is not None:
            return pip_fix(target, f"install --force-reinstall {pinned(record)}")
    text = _INSTALL[framework]
    return [Fix("pip" if text.startswith("python ") else "advice", text)]


class GPU029(Contradiction):
    """onnxruntime-gpu is installed, and the files of onnxruntime for CPUs lie in its place.

    Compares: the distributions onnxruntime and onnxruntime-gpu with what onnxruntime/capi/build_and_package_info.py
    says of the files that are there.

    Why: both are one package under two names and own the same files; whichever was installed last is there. A
    requirement of another package (onnxruntime, by its plain name) brings the CPU build over the GPU build.

    See: `UserWarning: Specified provider 'CUDAExecutionProvider' is not in available provider names. ...`, and the
    session runs on the CPU.

    Decided: onnxruntime-gpu is installed and the files say that they are a CPU build: slows, likely. PKG003 speaks of
    the shared files themselves.

    Fix: uninstall both, and install onnxruntime-gpu.

    Limits: onnxruntime states its build since 1.21 alone. Which files of a mixture are left is for PKG003.
    """

    code = "GPU029"
    name = "onnxruntime-gpu-overwritten"
    reads = ("cuda", "packages")
    references = (
        "https://onnxruntime.ai/docs/install/",
        "https://github.com/microsoft/onnxruntime/issues/3326",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        build, record = gpu.builds(target).get("onnxruntime"), distributions_of(target).get("onnxruntime-gpu")
        if build is None or record is None or build["accelerator"] != "cpu":
            return
        other = distributions_of(target).get("onnxruntime")
        yield self.finding(
            Impact.SLOWS,
            Confidence.LIKELY,
            f"{titled(record)} is installed, and the files are those of {build['package'] or 'a CPU build'} "
            f"{build['version'] or ''}".strip(),
            Subject("framework", "onnxruntime"),
            "The CUDA provider is not offered, and sessions run on the CPU."
            + (f" {titled(other)} owns the same files and was written last." if other is not None else ""),
            predicted_error=_ON_CPU["onnxruntime"],
            evidence=[
                at(target, "target", "cuda", "builds", "onnxruntime"),
                at(target, "target", *DISTRIBUTIONS, "onnxruntime-gpu", "version"),
            ],
            fix=pip_fix(
                target,
                "uninstall -y onnxruntime onnxruntime-gpu",
                f"install --force-reinstall --no-deps {pinned(record)}",
            ),
        )
