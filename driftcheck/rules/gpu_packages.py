"""Family GPU: packages that find, or choose, their CUDA libraries themselves, so that no loader checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import gpu_libraries as known
from driftcheck.knowledge import tables
from driftcheck.rules import cuda_copies as cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, pinned, pip_fix, titled
from driftcheck.rules.gpu_frameworks import JAX_PLUGIN
from driftcheck.snapshot import Snapshot


class GPU026(Contradiction):
    """A CUDA library that a package opens by name is not there.

    Compares: what known packages open by name when they first compute on a GPU (no DT_NEEDED says it) with the
    CUDA libraries that are in reach; for TensorFlow, what its own build information states.

    Why: the package is imported without an error, because it was made to run without a GPU too. The first
    computation on the GPU then fails, or runs on the CPU. Wheels that hold the library help only a package that
    looks for them, or a process in which something else has loaded them before.

    See: `RuntimeError: Library libcublas.so.12 is not found or cannot be loaded` (ctranslate2, faster-whisper);
    `Cannot dlopen some GPU libraries. ... Skipping registering GPU devices...` (TensorFlow); `RuntimeError: Unable to
    load cuSPARSE. Is it installed?` in JAX's log, and then CPU devices.

    Decided: the library is nowhere: likely. It is in a wheel that the package does not look into: possible.
    Packages that run on CPUs too are judged only where a GPU is.

    Fix: install the wheel that brings it; where it is there, put its directory into LD_LIBRARY_PATH or import torch
    first.

    Limits: the table holds what was read in the constants of real wheels; other packages open libraries too.
    """

    code = "GPU026"
    name = "opened-cuda-library-missing"
    reads = ("cuda", "packages")
    references = (
        "https://github.com/m-bain/whisperX/issues/788",
        "https://docs.cupy.dev/en/stable/install.html",
        "https://www.tensorflow.org/install/pip",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        has_gpu = bool(gpu.devices(target))
        if lookup(target, ("python", "platform", "system")) not in {None, "linux"}:
            return
        lacking: dict[str, list[tuple[known.OpenedLibraries, list[str]]]] = {}
        for row in known.opened_libraries():
            record = distributions_of(target).get(row.distribution)
            if record is None or not tables.in_range(row.versions, req.version_of(record)):
                continue
            missing = [soname for soname in row.opens if not _reached(target, soname, wheels=row.finds_wheels)]
            if missing and (has_gpu or "cuda" in row.distribution):
                lacking.setdefault(row.distribution, []).append((row, missing))
        for name, rows in lacking.items():
            yield self._opened(target, name, rows)
        yield from self._tensorflow(target, has_gpu=has_gpu)

    def _opened(
        self, target: Snapshot, name: str, rows: Sequence[tuple[known.OpenedLibraries, Sequence[str]]]
    ) -> Finding:
        first = rows[0][0]
        missing = [soname for _, ones in rows for soname in ones]
        there = [copy for soname in missing for copy in cuda.provided(target, soname) if copy.of_wheel]
        only = {copy.soname for copy in there} >= set(missing)
        packages = " ".join(dict.fromkeys(f'"{row.pip}"' for row, _ in rows))
        return self.finding(
            Impact(first.impact),
            Confidence.POSSIBLE if only else Confidence.LIKELY,
            f"{titled(distributions_of(target)[name])} opens {missing[0]}, which "
            + ("is only in a wheel" if only else "is not there"),
            Subject("distribution", name),
            f"It is needed for {first.needed_for}. Missing: {', '.join(missing)}."
            + (f" {there[0].file} has this name, and helps only who loads it before." if there else ""),
            predicted_error=first.predicted_error,
            evidence=[
                at(target, "target", *DISTRIBUTIONS, name, "version"),
                *(copy.evidence(target) for copy in there[:2]),
            ],
            fix=[Fix("variable", f"LD_LIBRARY_PATH with {_full(target, there[0])}")]
            if only
            else pip_fix(target, f"install {packages}"),
        )

    def _tensorflow(self, target: Snapshot, *, has_gpu: bool) -> Iterator[Finding]:
        build = gpu.builds(target).get("tensorflow")
        if build is None or build["accelerator"] != "cuda" or not has_gpu:
            return
        wanted = [
            f"lib{name}.so.{generation}"
            for name, generation in (("cudart", cuda.major(build["cuda"])), ("cudnn", cuda.major(build["cudnn"])))
            if generation
        ]
        missing = [soname for soname in wanted if not _reached(target, soname, wheels=True)]
        if not missing:
            return
        record = distributions_of(target).get("tensorflow")
        yield self.finding(
            Impact.SLOWS,
            Confidence.LIKELY,
            f"TensorFlow opens {missing[0]}, which is not there",
            Subject("distribution", "tensorflow"),
            f"It was built for CUDA {build['cuda']} and cuDNN {build['cudnn']} and opens their libraries by name. "
            "Without them it computes on the CPU.",
            predicted_error="Cannot dlopen some GPU libraries. Please make sure the missing libraries mentioned above "
            "are installed properly if you would like to use GPU. Follow the guide at "
            "https://www.tensorflow.org/install/gpu for how to download and setup the required libraries for your "
            "platform.\nSkipping registering GPU devices...",
            evidence=[at(target, "target", "cuda", "builds", "tensorflow")],
            fix=pip_fix(target, f'install "{pinned(record).replace("tensorflow", "tensorflow[and-cuda]", 1)}"')
            if record is not None
            else (),
        )


def _reached(target: Snapshot, soname: str, *, wheels: bool) -> bool:
    return any(
        copy.by_variable or copy.of_system or "conda" in copy.record["via"] or (wheels and copy.of_wheel)
        for copy in cuda.provided(target, soname)
    )


def _full(target: Snapshot, copy: cuda.Copy) -> str:
    """The directory of a copy, whose file is relative to the place of its distribution."""
    record = distributions_of(target).get(copy.distribution or "")
    inside = record is not None and not copy.file.startswith("/")
    return f"{record['location']}/{copy.directory}" if record is not None and inside else copy.directory


class GPU030(Contradiction):
    """JAX's CUDA plugin is of another version than jaxlib, so JAX does not use it.

    Compares: the version of jaxlib with those of jax-cuda12-plugin and its kind, as their files state them.

    Why: the plugin is built against one jaxlib. JAX compares the numbers when it is imported, warns, and leaves a
    plugin of another version out. No requirement says so: the plugin does not require a jaxlib.

    See: `RuntimeWarning: JAX plugin jax_cuda12_plugin version 0.10.1 is installed, but it is not compatible with the
    installed jaxlib version 0.10.2, so it will not be used.`

    Decided: the numbers of the two versions differ: slows, likely. (Seen with jaxlib 0.10.2.) ROCm's plugins are not
    compared.

    Fix: install both of one version.

    Limits: other releases of jaxlib may word it otherwise, or take a plugin that this rule refuses.
    """

    code = "GPU030"
    name = "jax-plugin-of-other-version"
    reads = ("cuda",)
    references = (
        "https://github.com/jax-ml/jax/blob/main/jaxlib/plugin_support.py",
        "https://docs.jax.dev/en/latest/installation.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        builds = gpu.builds(target)
        ours = _numbers(builds.get("jaxlib", {}).get("version"))
        for name in sorted(builds):
            theirs = _numbers(builds[name]["version"])
            if (
                not name.startswith("jax_cuda")
                or not JAX_PLUGIN.match(name)
                or not ours
                or not theirs
                or ours == theirs
            ):
                continue
            library, plugin = builds["jaxlib"]["version"], builds[name]["version"]
            yield self.finding(
                Impact.SLOWS,
                Confidence.LIKELY,
                f"{name} {plugin} does not go with jaxlib {library}",
                Subject("distribution", name.replace("_", "-")),
                "JAX compares the two when it is imported, and computes on the CPU where they differ.",
                predicted_error=f"RuntimeWarning: JAX plugin {name} version {plugin} is installed, but it is not "
                f"compatible with the installed jaxlib version {library}, so it will not be used.",
                evidence=[
                    at(target, "target", "cuda", "builds", "jaxlib", "version"),
                    at(target, "target", "cuda", "builds", name, "version"),
                ],
                fix=pip_fix(target, f'install "jax[{name.removeprefix("jax_").partition("_")[0]}]=={library}"'),
            )


def _numbers(version: str | None) -> list[int]:
    """What JAX compares: the dotted numbers at the beginning, less suffixes."""
    match = re.match(r"\d{1,9}(?:\.\d{1,9}){0,9}", version or "")
    return [int(number) for number in match.group().split(".")] if match else []


class GPU033(Contradiction):
    """bitsandbytes has no library for the CUDA that PyTorch was built for.

    Compares: the libraries libbitsandbytes_cudaNNN.so that are there with the CUDA of torch.

    Why: bitsandbytes brings one library for each of several versions of CUDA and takes the one nearest to PyTorch's,
    of the same major version. Where it has none, it is imported all the same, and fails at the first 8-bit or 4-bit
    layer.

    See: `bitsandbytes library load error: No compatible CUDA binary found at ...`, later `RuntimeError: ... Attempted
    to use bitsandbytes native library functionality but it's not available.`

    Decided: none of the same major version: breaks, likely.

    Fix: a newer bitsandbytes, or another build of torch.

    Limits: older releases take the very same minor version only, which is not judged. BNB_CUDA_VERSION overrides the
    choice.
    """

    code = "GPU033"
    name = "bitsandbytes-without-this-cuda"
    reads = ("cuda",)
    references = ("https://huggingface.co/docs/bitsandbytes/main/en/installation",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        builds = gpu.builds(target)
        variants = builds.get("bitsandbytes", {}).get("variants") or {}
        torch = builds.get("torch", {})
        wanted = cuda.major(torch.get("cuda"))
        if not variants or wanted is None or wanted in {cuda.major(one) for one in variants}:
            return
        version = builds["bitsandbytes"]["version"] or ""
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"bitsandbytes {version} has no library for CUDA {torch['cuda']}, for which torch was built",
            Subject("distribution", "bitsandbytes"),
            f"It has libraries for CUDA {', '.join(sorted(variants))}.",
            predicted_error="Attempted to use bitsandbytes native library functionality but it's not available.",
            evidence=[
                at(target, "target", "cuda", "builds", "bitsandbytes", "variants"),
                at(target, "target", "cuda", "builds", "torch", "cuda"),
            ],
            fix=pip_fix(target, "install --upgrade bitsandbytes"),
        )
