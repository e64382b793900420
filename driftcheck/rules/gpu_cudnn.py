"""Family GPU: cuDNN. Which copy would be loaded, is it whole, is it new enough, and does it run on this device?"""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import gpu_libraries as known
from driftcheck.knowledge import tables
from driftcheck.rules import cuda_copies as cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, Sides, at
from driftcheck.rules.cuda_copies import Copy
from driftcheck.rules.distributions import pip_fix
from driftcheck.snapshot import Snapshot

TORCH_CUDNN = "https://github.com/pytorch/pytorch/blob/main/torch/backends/cudnn/__init__.py"


class GPU020(Contradiction):
    """cuDNN would be put together from parts of two versions.

    Compares: the version of each part of cuDNN (libcudnn_ops, libcudnn_engines_precompiled, ...) that the loader
    would take with that of the libcudnn which asks for it.

    Why: libcudnn opens its parts by name. A part that its own directory does not have is taken from wherever else
    the loader looks: from the system's cuDNN, or from a directory in LD_LIBRARY_PATH. The parts compare their
    versions when the first of them computes. cuDNN 9.20 of the wheels, for one, has no
    libcudnn_engines_tensor_ir, and takes the system's where that is 9.23.

    See: `RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH` from the first convolution.

    Decided: for each part, by the order of the loader: LD_LIBRARY_PATH, the directory of libcudnn itself, wheels,
    the system. Another version than that of libcudnn: breaks, likely, since not every model uses every part; possible
    where its own directory has the part too, since a library with RPATH asks there first. A part that states no
    version has that of the others in its directory.

    Fix: one cuDNN alone: remove the system's, or take its directory off LD_LIBRARY_PATH.

    Limits: what a program opens by its full path is not seen. Where a version is not stated nothing is concluded.
    """

    code = "GPU020"
    name = "cudnn-of-two-versions"
    reads = ("cuda",)
    references = (
        "https://github.com/pytorch/pytorch/issues/188892",
        "https://github.com/pytorch/pytorch/issues/185512",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for soname in sorted({copy.soname for copy in cuda.copies(target, "cudnn")}):
            main = cuda.taken(target, "cudnn", soname)
            if main is None:
                continue
            parts = [(part, _version(target, part)) for part in _parts(target, main)]
            others = [(part, version) for part, version in parts if _differ(version, _version(target, main))]
            if not others:
                continue
            first, stated = others[0]
            own = {copy.component for copy in _cudnn(target) if copy.directory == main.directory}
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if any(part.component not in own for part, _ in others) else Confidence.POSSIBLE,
                f"cuDNN {cuda.text(_version(target, main))} would open {first.file.rsplit('/', 1)[-1]} of "
                f"{cuda.text(stated)}",
                Subject("library", soname),
                f"{main.file} is {cuda.text(_version(target, main))}. Its parts are opened by name; the loader finds "
                + "; ".join(f"{part.file} ({cuda.text(version)})" for part, version in others[: so.NAMED])
                + (f" and {len(others) - so.NAMED} more" if len(others) > so.NAMED else "")
                + ".",
                predicted_error="RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"
                if "torch" in gpu.chosen_for_cuda(target)
                else "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
                evidence=[main.evidence(target), *(part.evidence(target) for part, _ in others[: so.NAMED])],
                fix=[_away(first)],
            )


def _parts(target: Snapshot, main: Copy) -> list[Copy]:
    """The copy of each part that the loader takes for this libcudnn: those of the same generation."""
    generation = _generation(main)
    found = []
    for component in cuda.components(target):
        if not component.startswith("cudnn_"):
            continue
        part = cuda.taken(target, component, f"lib{component}.so.{generation}", beside=main.directory)
        if part is not None:
            found.append(part)
    return found


def _cudnn(target: Snapshot) -> list[Copy]:
    names = [name for name in cuda.components(target) if name == "cudnn" or name.startswith("cudnn_")]
    return [copy for name in names for copy in cuda.copies(target, name)]


def _version(target: Snapshot, copy: Copy) -> tuple[int, ...] | None:
    """What the file states, else what its neighbours do."""
    if copy.version is not None:
        return copy.version
    beside = [
        one for one in _cudnn(target) if one.directory == copy.directory and _generation(one) == _generation(copy)
    ]
    return next((one.version for one in beside if one.version is not None), None)


def _generation(copy: Copy) -> str:
    """``9`` of ``libcudnn_ops.so.9``."""
    return copy.soname.rpartition(".so.")[2]


def _differ(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    return one is not None and other is not None and cuda.other_version(one, other)


def _away(copy: Copy) -> Fix:
    if copy.by_variable:
        return Fix("variable", f"LD_LIBRARY_PATH without {copy.directory}")
    if copy.of_wheel:
        return Fix(
            "advice", f"Reinstall the distribution that brings {copy.file}, so that its directory holds one version."
        )
    return Fix("advice", f"Remove the package that brings {copy.file}: the wheels come with what they need.")


class GPU021(Contradiction):
    """The cuDNN that would be loaded is older than the one that PyTorch was built with.

    Compares: the cuDNN that the wheel of torch pins (nvidia-cudnn-cu12==9.10.2.21 in its Requires-Dist, which is
    the one that it was built with) with the copy that the loader takes.

    Why: PyTorch asks cuDNN for its version before the first use. Another major version, or a lower minor one, is
    refused. A cuDNN of the image in LD_LIBRARY_PATH comes before that of the wheel.

    See: `RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 10, 2) but found runtime
    version (9, 1, 0). PyTorch already comes bundled with cuDNN. ...`

    Decided: breaks, likely, by the comparison that PyTorch makes.

    Fix: take the directory off LD_LIBRARY_PATH, or install the cuDNN that torch pins.

    Limits: PYTORCH_SKIP_CUDNN_COMPATIBILITY_CHECK=1 lets it go on. Builds without such a pin (conda, from source)
    are not judged.
    """

    code = "GPU021"
    name = "cudnn-older-than-torch"
    reads = ("cuda", "packages")
    references = (TORCH_CUDNN, "https://github.com/m-bain/whisperX/issues/1297")

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        pin = cuda.pin_of_torch(target, "cudnn")
        if pin is None or "torch" not in gpu.chosen_for_cuda(target):
            return
        found = cuda.taken(target, "cudnn", f"libcudnn.so.{pin.version[0]}")
        if found is None or found.version is None or found.version[:2] >= pin.version[:2]:
            return
        runtime = (*found.version, 0, 0)[:3]
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"cuDNN {cuda.text(found.version)} would be loaded, and torch was built with {cuda.text(pin.version)}",
            Subject("library", found.soname),
            pin.explanation(found),
            predicted_error=_refusal(target, pin.version, runtime),
            evidence=[found.evidence(target), pin.evidence(target)],
            fix=[_away(found)] if found.by_variable else pip_fix(target, f"install {pin.requirement}"),
        )

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """A pin that does not hold is the same thing, seen from pip."""
        del finding, sides
        return effect.code == "PKG001" and effect.subject.name.startswith("torch -> nvidia-cudnn")


def _refusal(target: Snapshot, compiled: tuple[int, ...], runtime: tuple[int, ...]) -> str:
    """The words of torch/backends/cudnn/__init__.py (2.13.0), with its two spaces."""
    path = gpu.variable(target, "LD_LIBRARY_PATH")
    text = (
        f"RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against {compiled} but found runtime "
        f"version {runtime}. PyTorch already comes bundled with cuDNN. One option to resolving this error is to "
        "ensure PyTorch can find the bundled cuDNN. "
    )
    if path is None:
        return text
    if "cuda" in path or "cudnn" in path:
        return (
            f"{text}Looks like your LD_LIBRARY_PATH contains incompatible version of cudnn. Please either remove it "
            f"from the path or install cudnn {compiled}"
        )
    return f"{text}one possibility is that there is a conflicting cuDNN in LD_LIBRARY_PATH."


class GPU022(Contradiction):
    """cuDNN no longer runs on a GPU of this machine.

    Compares: the version of the cuDNN that would be loaded with the compute capability of the devices.

    Why: cuDNN 9.11 and newer have no code for devices before Turing (7.5): Volta, Pascal and Maxwell. PyTorch's own
    kernels may still run there, so the tensor arrives on the device, and the first convolution fails.

    See: `RuntimeError: cuDNN version 91900 is not compatible with devices with SM < 7.5. Please install a version of
    PyTorch with a compatible cuDNN version. ...`

    Decided: by the table of families, which rests on PyTorch's own check and NVIDIA's support matrices: breaks,
    likely.

    Fix: a build of the framework that comes with an older cuDNN, or another GPU.

    Limits: with several GPUs, one that is too old is enough; CUDA_VISIBLE_DEVICES may hide it.
    """

    code = "GPU022"
    name = "cudnn-without-this-device"
    reads = ("cuda", "gpu")
    references = (
        TORCH_CUDNN,
        "https://docs.nvidia.com/deeplearning/cudnn/backend/latest/reference/support-matrix.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        for soname in sorted({copy.soname for copy in cuda.copies(target, "cudnn")}):
            found = cuda.taken(target, "cudnn", soname)
            if found is None or found.version is None:
                continue
            version = cuda.text(found.version)
            row = next((row for row in known.cudnn_families() if tables.in_range(row.versions, version)), None)
            old = {
                number: capability
                for number, capability in gpu.capabilities(target).items()
                if row is not None and capability < row.lowest_capability
            }
            if row is None or not old:
                continue
            number, capability = min(old.items())
            lowest = cuda.text(row.lowest_capability)
            name = gpu.devices(target)[number]["name"] or f"Device {number}"
            code = sum(part * scale for part, scale in zip((*found.version, 0)[:3], (10000, 100, 1), strict=True))
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"cuDNN {version} does not run on {name} (compute capability {cuda.text(capability)})",
                Subject("library", soname),
                f"{found.file} is cuDNN {version}; its family begins at compute capability {lowest}.",
                predicted_error=f"RuntimeError: cuDNN version {code} is not compatible with devices with SM < "
                f"{lowest}. Please install a version of PyTorch with a compatible cuDNN version. "
                "https://github.com/pytorch/pytorch/blob/main/RELEASE.md#release-compatibility-matrix"
                if "torch" in gpu.chosen_for_cuda(target)
                else None,
                evidence=[
                    found.evidence(target),
                    *(at(target, "target", *gpu.on_device(one, "compute_capability")) for one in list(old)[: so.NAMED]),
                ],
                fix=[
                    Fix(
                        "advice",
                        "Install a build of the framework whose cuDNN is older than "
                        f"{row.versions.partition(',')[0].removeprefix('>=')}.",
                    )
                ],
            )
