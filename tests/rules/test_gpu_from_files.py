"""Every rule of family GPU on facts that the probes read from files: once where it fires, once where it is silent.

The two of a pair differ in one thing: another driver, another library, another variable.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, gpu, nvml
from support.compiled import Builder
from support.driver import Build, builder
from support.gpu_files import A100, B200, CUDNN, H100, SITE, T4, TOOLS, V100, World, gpu_rules, judged
from support.snapshots import findings

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

Layout = Callable[[World], None]
TOOLKIT = "/usr/local/cuda/lib64"


@dataclass(frozen=True)
class Case:
    """A rule, and two layouts. ``fires`` and ``silent`` add to what ``both`` lays; a drift has a ``baseline`` too.

    ``judged``: impact and confidence, as the paragraph Decided of the rule has them.
    """

    code: str
    judged: str
    fires: Layout
    silent: Layout
    both: tuple[Layout, ...] = ()
    baseline: tuple[Layout, ...] | None = None


def torch(*arguments: Any, **options: Any) -> Layout:
    return lambda world: world.torch(*arguments, **options)


def driver(*arguments: Any, **options: Any) -> Layout:
    return lambda world: world.driver(*arguments, **options)


def variable(name: str, value: str) -> Layout:
    return lambda world: world.environ.update({name: value})


def text(name: str, version: str, file: str, content: str) -> Layout:
    """A wheel with one text file."""
    return lambda world: world.wheel(name, version, {file: content})


def shared(name: str, version: str, file: str) -> Layout:
    """A wheel with one library, whose soname is the name of its file."""
    return lambda world: world.wheel(name, version, {file: world.library(file.rsplit("/", 1)[-1])})


def system_library(file: str, soname: str) -> Layout:
    """A library that no wheel brought."""
    return lambda world: world.put(file, world.library(soname))


def cudnn(version: str, **options: str) -> Layout:
    return lambda world: world.cudnn(version, **options)


def nccl(version: str, built_with: str, *, name: str = "nvidia-nccl-cu12") -> Layout:
    """The wheel of NCCL, whose library states both among its constants."""

    def lay(world: World) -> None:
        library = world.library("libnccl.so.2", f"NCCL version {version}+cuda{built_with}")
        world.wheel(name, version, {"nvidia/nccl/lib/libnccl.so.2": library})

    return lay


def nothing(world: World) -> None:
    del world


def proc_gpu(name: str) -> Layout:
    """What the kernel module says of a device."""
    path = "/proc/driver/nvidia/gpus/0000:01:00.0/information"
    return lambda world: world.put(path, f"Model: \t\t {name}\nDevice Minor: \t 0\n")


def container(world: World) -> None:
    world.put("/.dockerenv", "")


def ptxas(version: str) -> Layout:
    """The assembler that Triton brings; a program and a library state their version in the same way."""
    release = version.rpartition(".")[0]

    def lay(world: World) -> None:
        program = world.library("ptxas", TOOLS.format(release, version))
        world.put(f"{SITE}/triton/backends/nvidia/bin/ptxas", program, 0o755)

    return lay


TRITON = text("triton", "3.5.0", "triton/__init__.py", "__version__ = '3.5.0'\n")
ONNXRUNTIME = "onnxruntime/capi/build_and_package_info.py"


def bitsandbytes(number: str) -> Layout:
    def lay(world: World) -> None:
        name = f"bitsandbytes/libbitsandbytes_cuda{number}.so"
        files: dict[str, str | bytes] = {"bitsandbytes/__init__.py": '__version__ = "0.48.0"\n'}
        world.wheel("bitsandbytes", "0.48.0", files | {name: world.library(Path(name).name)})

    return lay


def onnxruntime(build: str) -> Layout:
    return text("onnxruntime-gpu", "1.23.0", ONNXRUNTIME, build)


def provider(soname: str) -> Layout:
    """onnxruntime-gpu, whose CUDA provider needs cuBLAS of some generation."""

    def lay(world: World) -> None:
        made = Builder(world.root / "made")
        lent = made.library(soname, defines=["cublasCreate"])
        name = "libonnxruntime_providers_cuda.so"
        built = made.library(name, calls=["cublasCreate"], links=[lent])
        files: dict[str, str | bytes]
        files = {"onnxruntime/__init__.py": f"OPENS = {name!r}\n", f"onnxruntime/capi/{name}": built.read_bytes()}
        world.wheel("onnxruntime-gpu", "1.22.0", files)

    return lay


NVJITLINK = "libnvJitLink.so.12"


def cusparse(function: str) -> Layout:
    """A library of CUDA that calls a function of nvJitLink, and an extension module that needs the library."""

    def lay(world: World) -> None:
        made = Builder(world.root / "made")
        link = made.library(NVJITLINK, defines=[function], version=NVJITLINK)
        runpath = "$ORIGIN/../../nvjitlink/lib"
        sparse = made.library(
            "libcusparse.so.12", defines=["cusparseCreate"], calls=[function], links=[link], runpath=runpath
        )
        module = made.module(
            "fake/_C", calls=["cusparseCreate"], links=[sparse], runpath="$ORIGIN/../nvidia/cusparse/lib"
        )
        world.wheel("nvidia-cusparse-cu12", "12.5.4.2", {f"nvidia/cusparse/lib/{sparse.name}": sparse.read_bytes()})
        world.wheel("fake", "1.0", {"fake/__init__.py": "", "fake/_C.abi3.so": module.read_bytes()})

    return lay


def nvjitlink(function: str, version: str) -> Layout:
    """The wheel of nvJitLink, with one of its functions."""

    def lay(world: World) -> None:
        built = Builder(world.root / "other").library(NVJITLINK, defines=[function], version=NVJITLINK)
        world.wheel("nvidia-nvjitlink-cu12", version, {f"nvidia/nvjitlink/lib/{NVJITLINK}": built.read_bytes()})

    return lay


CASES = [
    Case(
        "GPU001",
        "breaks likely",
        driver("535.104.05", 12020),
        driver("580.65.06", 13000),
        (torch("2.9.0+cu130", "13.0"),),
    ),
    Case(
        "GPU002", "breaks likely", driver("535.104.05", 12020), driver("580.65.06", 13000), (torch(code="only_ptx.so"),)
    ),
    Case("GPU003", "breaks certain", driver(device=T4), driver(device=A100), (torch(code="both.so"),)),
    Case("GPU004", "breaks likely", driver(init=None), driver(), (torch(),)),
    Case("GPU005", "breaks certain", driver(init=803), driver(init=0)),
    Case("GPU006", "breaks certain", driver(nvml=18), driver(nvml=0)),
    Case("GPU007", "breaks certain", driver(init=802), driver(init=0)),
    Case(
        "GPU008",
        "breaks likely",
        driver(nvml=None, init=None, flavour="x86_64 Kernel Module"),
        driver(nvml=None, init=None),
        (proc_gpu("NVIDIA GeForce RTX 5090"),),
    ),
    Case(
        "GPU010",
        "breaks likely",
        driver(nvml=None, init=None, files=False),
        driver(nvml=None, init=None),
        (container, torch()),
    ),
    Case(
        "GPU011",
        "breaks likely",
        driver("535.104.05", 12020, files=False),
        driver("570.86.15", 12080, files=False),
        (variable("NVIDIA_REQUIRE_CUDA", "cuda>=12.8"),),
    ),
    Case("GPU012", "breaks likely", nothing, driver(), (torch(),), (torch(), driver())),
    Case("GPU013", "changes-results likely", driver(device=H100), driver(device=A100), (), (driver(device=A100),)),
    Case(
        "GPU014",
        "breaks likely",
        variable("CUDA_VISIBLE_DEVICES", "7"),
        variable("CUDA_VISIBLE_DEVICES", "0"),
        (driver(),),
    ),
    Case("GPU015", "breaks certain", driver(nvml=999, init=None), driver(nvml=0, init=None)),
    Case(
        "GPU020",
        "breaks likely",
        variable("LD_LIBRARY_PATH", TOOLKIT),
        nothing,
        (
            torch(),
            system_library(f"{TOOLKIT}/libcudnn_ops.so.9.1.0", "libcudnn_ops.so.9"),
            shared("nvidia-cudnn-cu12", "9.10.2.21", CUDNN + "libcudnn.so.9"),
        ),
    ),
    Case(
        "GPU021",
        "breaks likely",
        cudnn("9.1.0.70"),
        cudnn("9.10.2.21"),
        (torch(requires=["nvidia-cudnn-cu12==9.10.2.21"]),),
    ),
    Case("GPU022", "breaks likely", driver(device=V100), driver(device=A100), (torch(), cudnn("9.19.0.56"))),
    Case(
        "GPU023",
        "changes-results possible",
        variable("LD_LIBRARY_PATH", TOOLKIT),
        nothing,
        (
            system_library(f"{TOOLKIT}/libcublas.so.12.4.5.8", "libcublas.so.12"),
            shared("nvidia-cublas-cu12", "12.8.4.1", "nvidia/cublas/lib/libcublas.so.12"),
        ),
    ),
    Case(
        "GPU025",
        "slows likely",
        provider("libcublas.so.13"),
        provider("libcublas.so.12"),
        (shared("nvidia-cublas-cu12", "12.8.4.1", "nvidia/cublas/lib/libcublas.so.12"),),
    ),
    Case(
        "GPU026",
        "breaks likely",
        nothing,
        shared("nvidia-cuda-nvrtc-cu12", "12.9.86", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
        (text("cupy-cuda12x", "14.2.0", "cupy/_version.py", "__version__ = '14.2.0'\n"),),
    ),
    Case("GPU027", "slows likely", torch("2.9.0+cpu", None), torch(), (driver(),)),
    Case("GPU028", "breaks likely", torch("2.9.0+cpu", None), torch(), (), (torch(), driver())),
    Case(
        "GPU029",
        "slows likely",
        onnxruntime("package_name = 'onnxruntime'\n__version__ = '1.23.0'\ncuda_version = ''\n"),
        onnxruntime("package_name = 'onnxruntime-gpu'\n__version__ = '1.23.0'\ncuda_version = '12.8'\n"),
    ),
    Case(
        "GPU030",
        "slows likely",
        text("jaxlib", "0.10.2", "jaxlib/version.py", "_release_version: str = '0.10.2'\n"),
        text("jaxlib", "0.10.1", "jaxlib/version.py", "_release_version: str = '0.10.1'\n"),
        (text("jax-cuda12-plugin", "0.10.1", "jax_cuda12_plugin/version.py", "_release_version: str = '0.10.1'\n"),),
    ),
    Case("GPU031", "breaks likely", nothing, ptxas("12.8.93"), (torch(), TRITON)),
    Case("GPU032", "breaks likely", ptxas("12.4.131"), ptxas("12.8.93"), (torch(), TRITON, driver(device=B200))),
    Case("GPU033", "breaks likely", bitsandbytes("118"), bitsandbytes("128"), (torch(),)),
    Case(
        "GPU034",
        "breaks likely",
        variable("NVIDIA_DRIVER_CAPABILITIES", "graphics,utility"),
        variable("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
        (torch(),),
    ),
    Case(
        "GPU035",
        "breaks likely",
        variable("NVIDIA_VISIBLE_DEVICES", "none"),
        variable("NVIDIA_VISIBLE_DEVICES", "all"),
        (torch(),),
    ),
    Case("GPU036", "breaks likely", cudnn("9.13.0.50", name="nvidia-cudnn-cu13"), nothing, (cudnn("9.10.2.21"),)),
    Case(
        "GPU037",
        "changes-results possible",
        cudnn("9.13.0.50"),
        cudnn("9.10.2.21"),
        (torch(),),
        (torch(), cudnn("9.10.2.21")),
    ),
    Case(
        "GPU038",
        "breaks likely",
        driver("535.104.05", 12020),
        driver("580.65.06", 13000),
        (torch(), nccl("2.29.7", "13.2", name="nvidia-nccl-cu13")),
    ),
    Case(
        "GPU039",
        "changes-results possible",
        nccl("2.21.5", "12.4"),
        nccl("2.27.5", "12.9"),
        (torch(requires=["nvidia-nccl-cu12==2.27.5"]),),
    ),
    Case("GPU040", "note likely", torch("2.9.0+cu130", "13.0"), torch(), (), (torch(),)),
]

# Rules that have a test of their own in this file, since a table does not make what they need.
ALONE = {"GPU009", "GPU024"}

# Rules that cannot be fed from files, with the reason.
NOT_FROM_FILES: dict[str, str] = {}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return builder(tmp_path_factory.mktemp("gpu_libraries"))


def laid(root: Path, build: Build, *layouts: Layout) -> World:
    world = World(root, build)
    for layout in layouts:
        layout(world)
    return world


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_rule_fires_on_what_the_probes_read(case: Case, tmp_path: Path, build: Build) -> None:
    before = laid(tmp_path / "before", build, *case.baseline) if case.baseline is not None else None
    after = laid(tmp_path / "after", build, *case.both, case.fires)
    assert judged(case.code, after, before) == [case.judged]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_a_rule_is_silent_on_what_the_probes_read(case: Case, tmp_path: Path, build: Build) -> None:
    before = laid(tmp_path / "before", build, *case.baseline) if case.baseline is not None else None
    assert judged(case.code, laid(tmp_path / "after", build, *case.both, case.silent), before) == []


def test_every_rule_of_the_family_is_here() -> None:
    names = [case.code for case in CASES]
    assert len(names) == len(set(names))
    assert {*names, *ALONE, *NOT_FROM_FILES} == gpu_rules()
    assert not {*names, *ALONE} & {*NOT_FROM_FILES}


# GPU024: whether a symbol is defined is decided from the interpreter on, so it is this one that is measured.


@pytest.mark.parametrize(
    ("function", "version", "fires"),
    [("__nvJitLinkComplete_12_1", "12.1.105", True), ("__nvJitLinkComplete_12_4", "12.4.127", False)],
)
def test_gpu024_a_function_that_nvjitlink_lacks(
    function: str, version: str, fires: bool, tmp_path: Path, build: Build
) -> None:
    world = laid(tmp_path / "root", build, cusparse("__nvJitLinkComplete_12_4"), nvjitlink(function, version))
    found = findings("GPU024", **world.facts_here())
    assert [one.code for one in found] == ["GPU024"] * fires
    for one in found:
        assert one.title == f"libcusparse.so.12 needs nvJitLink 12.4, and an older one {version} answers"
        assert one.fix[0].text == 'python -m pip install "nvidia-nvjitlink-cu12>=12.4"'


def test_gpu024_a_variable_leads_past_the_wheel_that_has_it(tmp_path: Path, build: Build) -> None:
    world = laid(
        tmp_path / "root",
        build,
        cusparse("__nvJitLinkComplete_12_4"),
        nvjitlink("__nvJitLinkComplete_12_4", "12.4.127"),
    )
    old = Builder(tmp_path / "old").library(NVJITLINK, defines=["__nvJitLinkComplete_12_1"], version=NVJITLINK)
    world.environ["LD_LIBRARY_PATH"] = str(old.parent)
    (found,) = findings("GPU024", **world.facts_here())
    assert [fix.text for fix in found.fix] == [f"LD_LIBRARY_PATH without {old.parent}"]


# GPU009: root may open every file, so the question is asked by somebody else.


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="driftcheck-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def by_nobody(place: common.Place) -> dict[str, object]:
    """The section gpu as a user without any right measures it."""

    def ask() -> dict[str, object]:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return common.section(gpu, place)

    answer = nvml.in_child(ask, 20.0)
    assert answer.status == "ok", answer.reason
    value: dict[str, object] = answer.value
    return value


@pytest.mark.parametrize(("mode", "fires"), [(0o000, True), (0o666, False)])
def test_gpu009_device_files_that_this_user_may_not_open(
    mode: int, fires: bool, open_folder: Path, build: Build
) -> None:
    world = laid(open_folder / "root", build, driver(nvml=None, init=None))
    for path in (world.root / "dev").iterdir():
        path.chmod(mode)
    found = findings("GPU009", **world.facts(by_nobody))
    assert [one.code for one in found] == ["GPU009"] * fires
