"""A root directory with what wheels, a driver and the start of a container put there, and what the probes say of it.

Nothing of the facts is written by hand: dist-info folders with real digests, small libraries by gcc with the sonames
and the texts of real ones, fat binaries that nvcc made, and a driver of stubs that answer as NVML and libcuda do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from driftcheck.probes import common, cuda, gpu, libraries, limits, packages, variables

from driftcheck.rules import all_rules
from support.driver import CUDA, STUB, Build, Machine
from support.snapshots import findings
from support.wheels import install, this_python

FATBINS = Path(__file__).parents[1] / "probes" / "fatbin_fixtures"
SITE = "/opt/venv/lib/python3.11/site-packages"
CUDNN = "nvidia/cudnn/lib/"

# What the stub of NVML says where nothing else is asked for: a device, its compute capability and its memory.
A100 = ("NVIDIA A100-SXM4-40GB", "8.0", 40960)
T4 = ("Tesla T4", "7.5", 15360)
V100 = ("Tesla V100-SXM2-16GB", "7.0", 16384)
H100 = ("NVIDIA H100 80GB HBM3", "9.0", 81559)
B200 = ("NVIDIA B200", "10.0", 183359)
Device = tuple[str, str, int]

TOOLS = "Cuda compilation tools, release {}, V{}"


class World:
    """One environment on one machine. ``environ``: the variables of its start."""

    def __init__(self, root: Path, build: Build) -> None:
        self.root = root
        self.build = build
        self.environ: dict[str, str] = {}
        self.machine = Machine(root)
        (root / SITE.lstrip("/")).mkdir(parents=True)

    # Files

    def library(self, soname: str, text: str = "", *options: str) -> bytes:
        """The bytes of a shared library with this soname, and this text among its constants."""
        source = f'__attribute__((used)) static const char text[] = "{text}";\n'
        return self.build(source, "-nostdlib", f"-Wl,-soname,{soname}", *options).read_bytes()

    def put(self, name: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file that no wheel brought."""
        path = self.machine.file(name, mode=mode)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def wheel(
        self, name: str, version: str, files: Mapping[str, str | bytes] | None = None, *, requires: Sequence[str] = ()
    ) -> None:
        """Install a wheel with these files, over what is there."""
        install(self.root / SITE.lstrip("/"), name, version, files=files, requires=requires)

    def torch(self, version: str = "2.9.0+cu128", cuda: str | None = "12.8", code: str = "", **options: Any) -> None:
        """A torch with what ``torch/version.py`` states; ``code``: the fat binary that is its library."""
        stated = f"__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\nhip: Optional[str] = None\n"
        files: dict[str, str | bytes] = {"torch/__init__.py": "", "torch/version.py": stated}
        if code:
            files["torch/lib/libtorch_cuda.so"] = (FATBINS / code).read_bytes()
        self.wheel("torch", version, files, **options)

    def cudnn(self, version: str, *, name: str = "nvidia-cudnn-cu12") -> None:
        """The wheel of cuDNN 9, whose version is that of its libraries."""
        self.wheel(name, version, {CUDNN + "libcudnn.so.9": self.library("libcudnn.so.9", name + version)})

    # The machine

    def driver(
        self,
        version: str = "535.104.05",
        level: int = 12020,
        device: Device = A100,
        *,
        init: int | None = 0,
        nvml: int | None = 0,
        flavour: str = "Open Kernel Module for x86_64",
        files: bool = True,
    ) -> None:
        """A driver whose NVML answers ``nvml`` at its start, and libcuda ``init``; None: that library is not there.

        ``level``  as cuDriverGetVersion counts, 12020 for CUDA 12.2; ``files``: whether its device files are there
        """
        text = f"NVRM version: NVIDIA UNIX {flavour}  {version}  Release Build  (someone@host)  Thu Jan 23 22:37:51\n"
        self.machine.driver(text)
        if not files:
            for path in (self.root / "dev").iterdir():
                path.unlink()
        if nvml is not None:
            self.machine.library(f"libnvidia-ml.so.{version}", self._nvml(version, level, device, nvml))
        if init is not None:
            stub = self.build(CUDA, f"-DLEVEL={level}", f"-DINIT={init}", "-nostdlib")
            self.machine.library(f"libcuda.so.{version}", stub)

    def _nvml(self, version: str, level: int, device: Device, code: int) -> Path:
        name, capability, memory = device
        major, minor = capability.split(".")
        source = STUB
        for old, new in (
            ("535.104.05", version),
            ("*version = 12020", f"*version = {level}"),
            ('"NVIDIA A100-SXM4-40GB")', f'"{name}")'),
            ("40960ULL", f"{memory}ULL"),
            ("*major = 8; *minor = 0", f"*major = {major}; *minor = {minor}"),
        ):
            assert old in source
            source = source.replace(old, new)
        return self.build(source, f"-DCODE={code}")

    # What is measured, and concluded

    def place(self, *, live: bool) -> common.Place:
        return common.Place(root=str(self.root), environ=self.environ, search_path=[SITE], live=live)

    def facts(self, ask: Callable[[common.Place], dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
        """The facts of every section that rules of family GPU read. ``ask`` measures the machine in another way."""
        image, run = self.place(live=False), self.place(live=True)
        return _facts({cuda: image, packages: image, libraries: image, variables: run, limits: run}) | {
            "gpu": _known("gpu", ask(run) if ask else common.section(gpu, run))
        }

    def facts_here(self) -> dict[str, dict[str, Any]]:
        """The same wheels on the search path of this interpreter, so that its own libraries and symbols are there."""
        site = str(self.root / SITE.lstrip("/"))
        here = common.Place(root="/", environ=self.environ, search_path=[site], live=True)
        return _facts(dict.fromkeys((cuda, packages, libraries, variables), here))


def _facts(places: Mapping[ModuleType, common.Place]) -> dict[str, dict[str, Any]]:
    measured = {probe.__name__.rpartition(".")[2]: common.section(probe, place) for probe, place in places.items()}
    return {name: _known(name, section) for name, section in measured.items()} | {"python": this_python()}


def _known(name: str, section: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] | None = section["facts"]
    assert facts is not None, (name, section)
    return facts


def judged(code: str, target: World, baseline: World | None = None) -> list[str]:
    """``["breaks likely"]``: impact and confidence of each finding of one rule."""
    before = baseline.facts() if baseline else None
    found = findings(code, baseline=before, **target.facts())
    assert {one.code for one in found} <= {code}
    return [f"{one.impact.value} {one.confidence.value}" for one in found]


def gpu_rules() -> set[str]:
    """The codes of all rules of the family."""
    return {rule.code for rule in all_rules() if rule.code.startswith("GPU")}
