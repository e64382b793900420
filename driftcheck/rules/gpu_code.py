"""Family GPU: the device code inside of libraries against the GPU that would run it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of, torch_from
from driftcheck.rules.gpu_facts import Facts
from driftcheck.snapshot import Snapshot

# Where a distribution has one library through which everything goes, what the others carry decides nothing.
_MAIN = {"torch": re.compile(r"^torch/lib/libtorch_cuda(?:_cu|_cpp)?\.so$")}
# Of NVIDIA's own libraries only what every matrix product goes through is spoken of: the others (cuSPARSELt, NVSHMEM)
# are for newer devices alone, and nothing calls them on older ones.
_VENDOR = re.compile(r"^nvidia-")
_CORE = re.compile(r"^nvidia-cublas(?:-cu\d+)?$")


@dataclass(frozen=True)
class Code:
    """What one distribution, or one library of the system, offers to a device.

    ``files``     the libraries that decide
    ``fitting``   names of machine code that the device runs
    ``doubtful``  names of which it is not known
    ``ptx``       names of PTX that the device's driver would translate
    ``complete``  False where a file is damaged or has more lists than were kept
    ``partly``    some libraries fit and those with most of the code do not
    ``versions``  the CUDA level from which on a driver translates the newest PTX of each name
    """

    name: str
    files: tuple[str, ...]
    fitting: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    ptx: frozenset[str] = frozenset()
    complete: bool = True
    partly: bool = False
    versions: Mapping[str, cuda.Level | None] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        return not (self.fitting or self.doubtful or self.ptx)

    @property
    def only_ptx(self) -> bool:
        return bool(self.ptx) and not (self.fitting or self.doubtful)


def offered(target: Snapshot, device: cuda.Level) -> Iterator[Code]:
    """What each distribution with device code offers to a device."""
    table: Mapping[str, Facts] = lookup(target, ("cuda", "device_code")) or {}
    groups: dict[str, dict[str, Facts]] = {}
    for file, record in sorted(table.items()):
        if record["source"] != "relocatable" and any(record["lists"]):
            groups.setdefault(record["distribution"] or file, {})[file] = record
    for name, records in groups.items():
        if _VENDOR.match(name) and not _CORE.match(name):
            continue
        yield _code(name, _deciding(target, name, records), device)


def _deciding(target: Snapshot, name: str, records: Mapping[str, Facts]) -> Mapping[str, Facts]:
    """Of the libraries of a distribution those through which its work goes. bitsandbytes has one for each CUDA, and
    loads that of torch's.
    """
    wanted = _MAIN.get(name)
    if name == "bitsandbytes":
        level = cuda.level(lookup(target, ("cuda", "builds", "torch", "cuda")))
        wanted = re.compile(rf"/libbitsandbytes_cuda{level[0]}{level[1]}\.so$") if level else None
    return {file: record for file, record in records.items() if wanted and wanted.search(file)} or records


def _code(name: str, records: Mapping[str, Facts], device: cuda.Level) -> Code:
    fitting: set[str] = set()
    doubtful: set[str] = set()
    ptx: set[str] = set()
    levels: dict[str, cuda.Level | None] = {}
    lacking = 0
    for record in records.values():
        answers = {arch: cuda.runs_on(arch, device) for arch in record["architectures"]}
        doubtful |= {arch for arch, runs in answers.items() if runs is None}
        ptx |= {arch for arch, runs in answers.items() if runs and arch.startswith("compute_")}
        fitting |= {arch for arch, runs in answers.items() if runs and not arch.startswith("compute_")}
        lacking += record["containers"] if all(runs is False for runs in answers.values()) else 0
        for arch, version in record["ptx"].items():
            level = cuda.ptx_level(version)
            known = levels.setdefault(arch, level)
            levels[arch] = max(known, level) if known and level else None
    total = sum(record["containers"] for record in records.values())
    return Code(
        name,
        tuple(records),
        frozenset(fitting),
        frozenset(doubtful),
        frozenset(ptx),
        complete=all(record["lists_complete"] for record in records.values()),
        partly=name != "bitsandbytes" and 0 < lacking < total and lacking * 2 >= total,
        versions=levels,
    )


def _evidence(target: Snapshot, code: Code, numbers: list[str], key: str) -> list[Evidence]:
    return [
        *(at(target, "target", *gpu.on_device(number, "compute_capability")) for number in numbers[:4]),
        *(at(target, "target", "cuda", "device_code", file, key) for file in code.files[:4]),
    ]


def _carried(target: Snapshot, code: Code) -> str:
    """``sm_70 sm_75 compute_90``: what the libraries hold, oldest first."""
    names = {
        arch for file in code.files for arch in lookup(target, ("cuda", "device_code", file, "architectures")) or {}
    }
    known = [(wanted.kind == "compute", wanted.number, name) for name in names if (wanted := cuda.target(name))]
    return " ".join(name for _, _, name in sorted(known))


class GPU002(Contradiction):
    """The only code for the GPU is PTX that its driver does not translate yet.

    Compares: the version of PTX inside the fat binaries of each library with the CUDA level of the driver, where the
    library has no machine code for the device; and the version of NVVM with that level where numba is installed,
    which writes PTX for the driver at run time.

    Why: a driver of an older minor version runs machine code of a newer toolkit, but translates no PTX that is newer
    than itself. Minor version compatibility ends there.

    See: `CUDA error: the provided PTX was compiled with an unsupported toolchain.` (cudaErrorUnsupportedPtxVersion,
    222); numba: `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`, `Unsupported .version 8.4; current version is '8.2'`.

    Decided: no container of the library holds machine code for the device, some hold PTX for it, and all of that is
    newer than the driver takes: breaks, likely. numba with a newer NVVM: breaks, possible, since it can be told to
    write older PTX or to link by itself.

    Fix: a newer driver, a build with machine code for this GPU, or a compat library on data-center GPUs.

    Limits: Triton, torch's compiler and CuPy translate with tools of their own and are not meant. Of each architecture
    only the newest PTX of a library is known.
    """

    code = "GPU002"
    name = "ptx-newer-than-driver"
    reads = ("gpu", "cuda")
    references = (
        f"{gpu.COMPATIBILITY}/minor-version-compatibility.html",
        "https://docs.nvidia.com/cuda/parallel-thread-execution/",
        "https://github.com/NVIDIA/nvbandwidth/issues/61",
        "https://github.com/openucx/ucx/pull/8569",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        level, found = gpu.driver_level(target), gpu.capabilities(target)
        if level is None or not found:
            return
        for code, numbers in _grouped(target, found, lambda one: one.only_ptx and _too_new(one, level.value)):
            device = gpu.devices(target)[numbers[0]]
            newest = max(filter(None, (code.versions.get(arch) for arch in code.ptx)))
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY if level.sure and len(numbers) == len(found) else Confidence.POSSIBLE,
                f"{code.name} has only PTX of CUDA {cuda.spelled(newest)} for {gpu.device_text(device)}; the driver "
                f"translates it up to CUDA {cuda.spelled(level.value)}",
                Subject("distribution", code.name),
                f"It carries {_carried(target, code)}. No machine code among them runs on this device, so the driver "
                "would have to translate.",
                predicted_error=gpu.kernel_error(target, code.name, 222),
                evidence=[at(target, "target", *level.path), *_evidence(target, code, numbers, "ptx")],
                fix=[
                    Fix("advice", f"Update the driver of the machine to {cuda.first_driver(newest)} or newer.")
                    if cuda.first_driver(newest)
                    else Fix("advice", "Update the driver of the machine."),
                    Fix("advice", f"Or install a build of {code.name} with machine code for this GPU."),
                ],
            )
        yield from self._of_numba(target, level)

    def _of_numba(self, target: Snapshot, level: gpu.DriverLevel) -> Iterator[Finding]:
        installed = distributions_of(target)
        names = [name for name in ("numba-cuda", "numba") if name in installed]
        compilers: Mapping[str, Facts] = lookup(target, ("cuda", "libraries", "nvvm")) or {}
        newer = {
            file: found
            for file, record in sorted(compilers.items())
            if (found := cuda.level(record.get("version"))) and found > level.value and found[0] == level.value[0]
        }
        if not names or not newer or len(newer) < len(compilers):
            return
        file, found = next(iter(newer.items()))
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            f"{names[0]} would write PTX of CUDA {cuda.spelled(found)}, and the driver translates PTX up to CUDA "
            f"{cuda.spelled(level.value)}",
            Subject("distribution", names[0]),
            "numba compiles with NVVM and has the driver translate the result.",
            predicted_error="CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            evidence=[
                at(target, "target", *level.path),
                at(target, "target", "cuda", "libraries", "nvvm", file, "version"),
                at(target, "target", *DISTRIBUTIONS, names[0], "version"),
            ],
            fix=[
                Fix("variable", "NUMBA_CUDA_ENABLE_MINOR_VERSION_COMPATIBILITY=1"),
                Fix("advice", f"Or update the driver to {cuda.first_driver(found) or 'a newer one'}."),
            ],
        )


def _too_new(code: Code, level: cuda.Level) -> bool:
    levels = [code.versions.get(arch) for arch in code.ptx]
    return all(found is not None and found > level for found in levels)


def _grouped(target: Snapshot, found: Mapping[str, cuda.Level], wanted: Any) -> Iterator[tuple[Code, list[str]]]:
    """``(code, numbers of the devices)`` of the distributions that are as wanted on one device at least."""
    groups: dict[str, tuple[Code, list[str]]] = {}
    for number, level in found.items():
        for code in offered(target, level):
            if wanted(code):
                groups.setdefault(code.name, (code, []))[1].append(number)
    yield from groups.values()


class GPU003(Contradiction):
    """A library has no code for the GPU.

    Compares: the architectures in every container of device code of a library with the compute capability of the
    devices. A container is what one source file became; the driver takes from it what fits.

    Why: machine code runs on the major number of compute capability that it was made for, PTX on that and everything
    newer. Builds leave out old GPUs (torch 2.8 from PyPI has nothing for Pascal) and cannot know of newer ones.

    See: `CUDA error: no kernel image is available for execution on the device` at the first kernel, after
    `torch.cuda.is_available()` was True; torch warns before: `NVIDIA GeForce GTX 1080 with CUDA capability sm_61 is
    not compatible with the current PyTorch installation.`

    Decided: no container of any library of the distribution, or of the one through which all its work goes, fits any
    of the devices, and all containers were read: breaks, certain. Not all were read, or it is a library that others
    call (cuBLAS), or stands beside others that have code and may do without it (flash-attn), or CUDA_VISIBLE_DEVICES
    hides every GPU: breaks, likely. Other devices of the machine fit, or the libraries with most of the code do not
    and smaller ones do: breaks, possible.

    Fix: a build that has code for this GPU.

    Limits: which kernels a program launches is not known. Helpers that are for newer GPUs alone (cuSPARSELt, NVSHMEM)
    are not spoken of.
    """

    code = "GPU003"
    name = "no-kernel-image"
    reads = ("gpu", "cuda")
    references = (
        "https://docs.nvidia.com/cuda/cuda-programming-guide/01-introduction/cuda-platform.html",
        "https://github.com/pytorch/pytorch/issues/167244",
        "https://github.com/pytorch/pytorch/issues/149845",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        found = gpu.capabilities(target)
        groups = list(_grouped(target, found, lambda one: one.nothing or one.partly))
        frameworks = [code for code, numbers in groups if code.nothing and not _CORE.match(code.name)]
        for code, numbers in groups:
            if _CORE.match(code.name) and frameworks:
                continue  # the framework fails first
            yield self._finding(target, code, numbers, len(found))

    def _finding(self, target: Snapshot, code: Code, numbers: list[str], count: int) -> Finding:
        device = gpu.devices(target)[numbers[0]]
        if not code.nothing or len(numbers) < count:
            confidence = Confidence.POSSIBLE
        elif (
            not code.complete
            or _CORE.match(code.name)
            or self._helps_another(target, code, device)
            or gpu.variable(target, "CUDA_VISIBLE_DEVICES") in {"", "-1"}
        ):
            confidence = Confidence.LIKELY
        else:
            confidence = Confidence.CERTAIN
        version = (lookup(target, ("cuda", "builds", code.name, "version")) or "").strip()
        name = f"{code.name} {version}" if version else code.name
        files = "its library" if len(code.files) == 1 else f"{len(code.files)} libraries"
        why = (
            f"{files[:1].upper()}{files[1:]} {'carries' if len(code.files) == 1 else 'carry'} {_carried(target, code)}."
        )
        if len(numbers) < count:
            why += " Other devices of this machine have code."
        elif not code.nothing:
            why += " Smaller libraries have code for it, those with most of the kernels have not."
        return self.finding(
            Impact.BREAKS,
            confidence,
            f"{name if code.nothing else f'Most of {name}'} has no code for {gpu.device_text(device)}",
            Subject("distribution", code.name),
            why,
            predicted_error=gpu.kernel_error(target, code.name, 209),
            evidence=_evidence(target, code, numbers, "architectures"),
            fix=_builds_for(target, code, gpu.capability(device) or (0, 0)),
        )

    def _helps_another(self, target: Snapshot, code: Code, device: Facts) -> bool:
        """Whether something else has code for the device, which may get along without this distribution: a model falls
        back where flash-attn is for newer GPUs alone.
        """
        level = gpu.capability(device)
        others = (one for one in offered(target, level) if one.name != code.name) if level else ()
        return code.name not in _MAIN and any(not one.nothing for one in others)


def _builds_for(target: Snapshot, code: Code, device: cuda.Level) -> list[Fix]:
    """Which build to take. PyTorch's own lists (.ci/manywheel/build_env_setup.py, read 2026-11-22): CUDA 12.6 from
    Maxwell to Hopper, 12.8 and 12.9 from Volta to Blackwell, 13.0 and newer from Turing on.
    """
    if code.name == "torch":
        index = "cu126" if device < (7, 5) else "cu128" if device >= (10, 0) else None
        if index and device >= (5, 0):
            return [*torch_from(target, index)]
    carried = [wanted.capability for name in _carried(target, code).split() if (wanted := cuda.target(name))]
    oldest = min(carried, default=None)
    if oldest is not None and device < oldest:
        return [Fix("advice", f"Install an older release of {code.name}, or build it for sm_{device[0]}{device[1]}.")]
    return [Fix("advice", f"Install a newer release of {code.name}, or build it for sm_{device[0]}{device[1]}.")]
