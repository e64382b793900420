"""The probe cuda: real fat binaries and small libraries in made-up environments, and quoted files of real wheels."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from driftcheck.probes import common, cuda, cuda_builds, cuda_libraries

FATBINS = Path(__file__).parent / "fatbin_fixtures"
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "sections" / "cuda.json").read_text())
SITE = "/opt/venv/lib/python3.11/site-packages"

TOOLS = "Cuda compilation tools, release 12.9, V12.9.86"
NOTE = """
__asm__(".pushsection .note.cuda.fwd_compatibility,\\"a\\",@note\\n.balign 4\\n.long 19, 2f-1f, 1\\n"
        ".asciz \\"NVIDIA Corporation\\"\\n.balign 4\\n1: .ascii \\"%s\\"\\n2: .balign 4\\n.popsection");
"""
STATED = {"Format": 1, "CUDA Version": "13.1", "Driver": [535, 550, 570, 575, 580, 590], "Device": [2, 1]}
Library = Callable[..., Path]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A shared library with this soname and this text among its constants."""
    folder = tmp_path_factory.mktemp("libraries")
    made: dict[tuple[str, str, str], Path] = {}

    def make(soname: str, text: str = "", source: str = "") -> Path:
        key = (soname, text, source)
        if key not in made:
            made[key] = folder / str(len(made))
            code = f'__attribute__((used)) static const char text[] = "{text}";\n{source}'
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", made[key]],
                input=code,
                text=True,
                check=True,
            )
        return made[key]

    return make


class Image:
    """An unpacked root with a virtual environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder(SITE)

    def folder(self, name: str) -> Path:
        path = self.root / name.lstrip("/")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, name: str, content: str | bytes | Path = "", mode: int = 0o644) -> None:
        path = self.folder(str(Path(name).parent)) / Path(name).name
        if isinstance(content, Path):
            content = content.read_bytes()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    def wheel(self, name: str, version: str, files: dict[str, str | bytes | Path]) -> None:
        info = f"{SITE}/{name.replace('-', '_')}-{version}.dist-info"
        self.file(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        self.file(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
        for file, content in files.items():
            self.file(f"{SITE}/{file}", content)

    def link(self, name: str, target: str) -> None:
        (self.folder(str(Path(name).parent)) / Path(name).name).symlink_to(target)

    def section(self, **environ: str) -> dict[str, Any]:
        place = common.Place(root=str(self.root), environ=environ, search_path=[SITE], live=False)
        section = common.section(cuda, place)
        jsonschema.Draft202012Validator(SCHEMA).validate(section["facts"])
        assert common.section(cuda, place) == section
        return section

    def facts(self, **environ: str) -> dict[str, Any]:
        section = self.section(**environ)
        assert (section["status"], section["problems"]) == ("ok", [])
        facts: dict[str, Any] = section["facts"]
        return facts


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_an_image_without_anything(image: Image) -> None:
    facts = image.facts()
    nothing: dict[str, Any] = {"cuda_home": None, "nvcc": None, "ptxas": None, "c_compiler": None, "triton": {}}
    assert facts.pop("tools") == nothing
    asked = facts.pop("image")
    assert {key: value for key, value in asked.items() if value} == {}
    assert facts == {"libraries": {}, "device_code": {}, "driver": {}, "builds": {}, "toolkits": {}}


# Libraries


def test_wheels_of_the_vendor(image: Image, library: Library) -> None:
    image.wheel(
        "nvidia-cublas-cu12",
        "12.9.3.13",
        {"nvidia/cublas/lib/libcublas.so.12": library("libcublas.so.12"), "nvidia/cublas/lib/libnvblas.so.12": "x"},
    )
    image.wheel(
        "nvidia-nccl-cu12",
        "2.32.3",
        {"nvidia/nccl/lib/libnccl.so.2": library("libnccl.so.2", "NCCL version 2.32.3+cuda12.9")},
    )
    found = image.facts()["libraries"]
    assert found == {
        "cublas": {
            "nvidia/cublas/lib/libcublas.so.12": {
                "soname": "libcublas.so.12",
                "version": "12.9.3.13",
                "version_from": "distribution",
                "distribution": "nvidia-cublas-cu12",
                "via": {"search path": True},
                "stub": False,
            }
        },
        "nccl": {
            "nvidia/nccl/lib/libnccl.so.2": {
                "soname": "libnccl.so.2",
                "version": "2.32.3",
                "version_from": "constants",
                "distribution": "nvidia-nccl-cu12",
                "via": {"search path": True},
                "stub": False,
                "cuda": "12.9",
            }
        },
    }


@pytest.mark.parametrize(
    ("component", "name", "text", "version"),
    [
        ("nvrtc", "libnvrtc.so.12", TOOLS, "12.9.86"),
        ("nvJitLink", "libnvJitLink.so.12", TOOLS, "12.9.86"),
        ("cudnn_graph", "libcudnn_graph.so.9", "cudnn_version_9_28_0_42_", "9.28.0.42"),
        ("nccl", "libnccl.so.2", "NCCL version 2.21.5 compiled with CUDA 12.4", "2.21.5"),
        # The statement of another version counts less than what the file itself says.
        ("nccl", "libnccl.so.2.21.5", "NCCL version 2.18.1", "2.21.5"),
    ],
)
def test_versions_that_a_library_states(
    component: str, name: str, text: str, version: str, image: Image, library: Library
) -> None:
    image.file(f"/usr/lib/x86_64-linux-gnu/{name}", library(name, text))
    record = image.facts()["libraries"][component][f"/usr/lib/x86_64-linux-gnu/{name}"]
    assert (record["version"], record["distribution"]) == (version, None)


@pytest.mark.parametrize(
    ("name", "text", "version", "built_with"),
    [
        ("libnccl.so.2", "NCCL version 2.29.7+cuda13.2", "2.29.7", "13.2"),
        ("libnccl.so.2", "NCCL version 2.21.5 compiled with CUDA 12.4", "2.21.5", "12.4"),
        # The file's name states the version, and nothing but its constants the CUDA.
        ("libnccl.so.2.21.5", "NCCL version 2.21.5+cuda11.0", "2.21.5", "11.0"),
        ("libnccl.so.2", "NCCL version 2.21.5", "2.21.5", None),
        ("libnccl.so.2", "NCCL version %d", None, None),
    ],
)
def test_the_cuda_that_nccl_was_built_with(
    name: str, text: str, version: str | None, built_with: str | None, image: Image, library: Library
) -> None:
    image.file(f"/usr/lib64/{name}", library(name, text))
    record = image.facts()["libraries"]["nccl"][f"/usr/lib64/{name}"]
    assert (record["version"], record.get("cuda")) == (version or "2", built_with)


def test_a_statement_that_two_reads_share(image: Image, library: Library) -> None:
    """It begins at the last bytes of the first 64 KB of the constants, or is cut by the end of what is read there."""
    for filling in range((1 << 16) - 40, (1 << 16) + 128, 7):
        image.file("/usr/lib64/libnccl.so.2", library("libnccl.so.2", "x" * filling + "NCCL version 2.32.31+cuda12.99"))
        record = image.facts()["libraries"]["nccl"]["/usr/lib64/libnccl.so.2"]
        assert (record["version"], record["cuda"]) == ("2.32.31", "12.99")


def test_copies_that_a_repair_tool_renamed(image: Image, library: Library) -> None:
    image.wheel(
        "torchvision",
        "0.28.0",
        {
            "torchvision.libs/libcudart.faf08d9a.so.13": library("libcudart.so.13"),
            "torchvision.libs/libcudart-1b13984d.so.12.1.105": library("libcudart-1b13984d.so.12.1.105"),
        },
    )
    found = image.facts()["libraries"]["cudart"]
    # The wheel's version is not that of the copy.
    assert {name: (one["version"], one["version_from"]) for name, one in found.items()} == {
        "torchvision.libs/libcudart.faf08d9a.so.13": ("13", "file name"),
        "torchvision.libs/libcudart-1b13984d.so.12.1.105": ("12.1.105", "file name"),
    }


def test_one_file_by_several_names_and_ways(image: Image, library: Library) -> None:
    image.file("/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127", library("libcudart.so.12"))
    image.link("/usr/local/cuda-12.4/lib64/libcudart.so.12", "libcudart.so.12.4.127")
    image.link("/usr/local/cuda-12.4/lib64/libcudart.so", "libcudart.so.12")
    image.link("/usr/local/cuda", "cuda-12.4")
    found = image.facts(LD_LIBRARY_PATH="/usr/local/cuda/lib64:")["libraries"]["cudart"]
    ((path, record),) = found.items()
    assert path.endswith("lib64/libcudart.so.12")
    assert (record["version"], record["via"]) == ("12.4.127", {"LD_LIBRARY_PATH": True, "toolkit": True})


def test_conda(tmp_path: Path, library: Library) -> None:
    image = Image(tmp_path)
    image.file("/opt/conda/bin/python3.11", library("python"), 0o755)
    image.file("/opt/conda/bin/nvcc", "x", 0o755)
    image.file("/opt/conda/conda-meta/history")
    image.file("/opt/conda/lib/libcudart.so.12.4.127", library("libcudart.so.12"))
    image.link("/opt/conda/lib/libcudart.so.12", "libcudart.so.12.4.127")
    image.folder("/opt/conda/lib/python3.11/site-packages")
    place = common.Place(
        root=str(tmp_path), environ={}, search_path=["/opt/conda/lib/python3.11/site-packages"], live=False
    )
    facts = common.section(cuda, place)["facts"]
    record = facts["libraries"]["cudart"]["/opt/conda/lib/libcudart.so.12"]
    assert (record["version"], record["via"]) == ("12.4.127", {"conda": True})
    assert facts["toolkits"]["/opt/conda"]["programs"] == {"nvcc": True}


def test_two_cudnn_in_reach(image: Image, library: Library) -> None:
    image.wheel("nvidia-cudnn-cu12", "9.1.0.70", {"nvidia/cudnn/lib/libcudnn.so.9": library("libcudnn.so.9")})
    image.file("/usr/lib/x86_64-linux-gnu/libcudnn.so.8.9.7", library("libcudnn.so.8"))
    found = image.facts()["libraries"]["cudnn"]
    assert {name: (one["version"], list(one["via"])) for name, one in found.items()} == {
        "nvidia/cudnn/lib/libcudnn.so.9": ("9.1.0.70", ["search path"]),
        "/usr/lib/x86_64-linux-gnu/libcudnn.so.8.9.7": ("8.9.7", ["default"]),
    }


def test_what_is_no_library_is_left_out(image: Image) -> None:
    """Linker scripts, links to nowhere, directories."""
    image.file("/usr/lib64/libcublas.so", "INPUT(libcublas.so.12)\n")
    image.link("/usr/lib64/libcudnn.so.9", "/nowhere")
    image.folder("/usr/lib64/libnccl.so.2")
    section = image.section()
    assert section["facts"]["libraries"] == {}


# Device code


def test_architectures_of_every_library(image: Image) -> None:
    image.wheel(
        "flash-attn",
        "2.8.3",
        {
            "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so": FATBINS / "differing.so",
            "flash_attn/__init__.py": '__version__ = "2.8.3"\n',
        },
    )
    image.file(SITE + "/unrecorded/any.so", FATBINS / "only_ptx.so")
    assert image.facts()["device_code"] == {
        "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so": {
            "distribution": "flash-attn",
            "source": "executable",
            "containers": 2,
            "architectures": {"sm_80": 1, "sm_90": 1, "compute_90": 1},
            "lists": {"sm_80": 1, "sm_90 compute_90": 1},
            "lists_complete": True,
            "ptx": {"compute_90": "9.0"},
        },
        "unrecorded/any.so": {
            "distribution": None,
            "source": "executable",
            "containers": 1,
            "architectures": {"compute_75": 1},
            "lists": {"compute_75": 1},
            "lists_complete": True,
            "ptx": {"compute_75": "9.0"},
        },
    }


def test_libraries_of_a_toolkit_too(image: Image) -> None:
    image.file("/usr/local/cuda-12.4/lib64/libcublas.so.12", FATBINS / "both.so")
    assert image.facts()["device_code"].keys() == {"/usr/local/cuda-12.4/lib64/libcublas.so.12"}


def test_damage_is_said(image: Image) -> None:
    data = bytearray((FATBINS / "both.so").read_bytes())
    start = data.index(b"\x50\xed\x55\xba")
    data[start + 16 + 8 : start + 16 + 16] = b"\xff" * 8
    image.file(SITE + "/broken.so", bytes(data))
    section = image.section()
    assert section["problems"] == [
        {"where": SITE + "/broken.so", "reason": "an entry that reaches beyond its container"}
    ]
    assert section["facts"]["device_code"]["broken.so"]["lists_complete"] is False


# Copies of the driver library


def test_the_note_of_a_compat_library(image: Image, library: Library) -> None:
    text = json.dumps(STATED).replace('"', '\\\\\\"')
    image.file("/usr/local/cuda-13.1/compat/libcuda.so.590.44.01", library("libcuda.so.1", source=NOTE % text))
    image.link("/usr/local/cuda-13.1/compat/libcuda.so.1", "libcuda.so.590.44.01")
    assert image.facts(LD_LIBRARY_PATH="/usr/local/cuda-13.1/compat")["driver"] == {
        "/usr/local/cuda-13.1/compat/libcuda.so.1": {
            "kind": "compat",
            "version": "590.44.01",
            "via": {"LD_LIBRARY_PATH": True},
            "note": {"format": 1, "cuda": "13.1", "drivers": [535, 550, 570, 575, 580, 590], "devices": [1, 2]},
        }
    }


def test_older_compat_libraries_have_no_note(image: Image, library: Library) -> None:
    image.file("/usr/local/cuda-12.2/compat/libcuda.so.535.104.05", library("libcuda.so.1"))
    (record,) = image.facts()["driver"].values()
    assert (record["kind"], record["version"], record["note"]) == ("compat", "535.104.05", None)


def test_stubs_and_drivers_of_the_image_itself(image: Image, library: Library) -> None:
    image.file("/usr/local/cuda/lib64/stubs/libcuda.so", library("libcuda.so.1", "stub"))
    image.file("/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15", library("libcuda.so.1", "driver"))
    found = image.facts(LD_LIBRARY_PATH="/usr/local/cuda/lib64/stubs")["driver"]
    assert {path: (one["kind"], one["version"]) for path, one in found.items()} == {
        "/usr/local/cuda/lib64/stubs/libcuda.so": ("stub", None),
        "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15": ("driver", "550.54.15"),
    }


def test_what_a_container_runtime_mounted_is_not_of_the_image(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "libcuda.so.550.54.15"
    path.write_bytes(library("libcuda.so.1").read_bytes())
    (tmp_path / "libcuda.so.1").symlink_to(path.name)
    place = common.Place(environ={}, search_path=[], live=True)
    name = str(tmp_path / "libcuda.so.1")
    candidate = cuda_libraries.Candidate(name, name, name, None)
    assert cuda_libraries.describe_driver(place, candidate, set()) is not None
    assert cuda_libraries.describe_driver(place, candidate, {os.path.realpath(path)}) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 12,
        b"\xff" * 64,
        b"\x13\0\0\0\x02\0\0\0\x01\0\0\0NVIDIA Corporation\0\0[]",
        b"\x13\0\0\0\xff\0\0\0\x01\0\0\0NVIDIA Corporation\0\0{",
        b"\x04\0\0\0\x02\0\0\0\x01\0\0\0GNU\0{}",
    ],
)
def test_notes_that_cannot_be_understood(data: bytes) -> None:
    assert cuda_libraries.parse_note(data) is None


def test_a_note_with_other_types() -> None:
    value = json.dumps({"Format": "1", "CUDA Version": 13, "Driver": [535, True, "550"], "Device": None}).encode()
    data = b"\x13\0\0\0" + len(value).to_bytes(4, "little") + b"\x01\0\0\0NVIDIA Corporation\0\0" + value
    assert cuda_libraries.parse_note(data) == {"format": None, "cuda": None, "drivers": [535], "devices": []}
    wide = data[:32] + b"\0" * (-32 % 8) + data[32:]
    assert cuda_libraries.parse_note(wide) == cuda_libraries.parse_note(data)


# Builds

TENSORFLOW = """# Copyright 2019 The TensorFlow Authors. All Rights Reserved.
\"\"\"Auto-generated module providing information about the build.\"\"\"
import collections

build_info = collections.OrderedDict([('cpu_compiler', 'clang'), ('cuda_compute_capabilities', ['sm_60', 'sm_70', 'sm_80', 'sm_89', 'compute_90']), ('cuda_version', '12.5.1'), ('cudnn_version', '9'), ('is_cuda_build', True), ('is_rocm_build', False), ('is_tensorrt_build', False)])
"""  # noqa: E501
TORCH = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '%s'
debug = False
cuda: Optional[str] = %s
git_version = 'cf30153c4c131c8164ee7798e5022d810682e2cb'
hip: Optional[str] = %s
rocm: Optional[str] = None
xpu: Optional[str] = None
"""
JAXLIB = """_version = "0.10.2"
# The following line is overwritten by build scripts in distributions &
# releases. Do not modify this manually, or jax/jaxlib build will fail.
_release_version: str = '0.10.2'
"""
VLLM = """version: str
__version__: str
commit_id: str | None

__version__ = version = '0.10.1+cu129'
__version_tuple__ = version_tuple = (0, 10, 1)
"""
CUPY = (
    '{"cuda": "12.x", "packaging": "pip", "cutensor": {"version": "2.4.1", "min_pypi_version": "2.3.0", "filenames":'
    ' ["libcutensor.so.2.4.1"]}, "nccl": {"version": "2.25.1", "filenames": ["libnccl.so.2.25.1"]}}'
)
XFORMERS = (
    '{"version": {"cuda": 1208, "hip": null, "torch": "2.10.0+cu128", "python": "3.10.19"}, "env":'
    ' {"TORCH_CUDA_ARCH_LIST": "7.5 8.0+PTX 8.0 9.0a"}}'
)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        (
            "torch",
            {"torch/version.py": TORCH % ("2.13.0+cpu", None, None)},
            {"version": "2.13.0+cpu", "accelerator": "cpu"},
        ),
        (
            "torch",
            {"torch/version.py": TORCH % ("2.13.0", "'13.0'", None)},
            {"version": "2.13.0", "accelerator": "cuda", "cuda": "13.0"},
        ),
        (
            "torch",
            {"torch/version.py": TORCH % ("2.8.0+rocm6.4", None, "'6.4.43482'")},
            {"version": "2.8.0+rocm6.4", "accelerator": "rocm", "rocm": "6.4.43482"},
        ),
        (
            "torch",
            {"torch/version.py": "__version__ = '1.7.1'\ndebug = False\ncuda = '10.2'\ngit_version = '57bffc3a'\n"},
            {"version": "1.7.1", "accelerator": "cuda", "cuda": "10.2"},
        ),
        (
            "torchvision",
            {"torchvision/version.py": "__version__ = '0.28.0+cu130'\ngit_version = '8fb8'\n"},
            {"version": "0.28.0+cu130", "accelerator": "cuda", "cuda": "13.0"},
        ),
        ("jaxlib", {"jaxlib/version.py": JAXLIB}, {"version": "0.10.2"}),
        (
            "tensorflow",
            {"tensorflow/python/platform/build_info.py": TENSORFLOW},
            {
                "accelerator": "cuda",
                "cuda": "12.5.1",
                "cudnn": "9",
                "architectures": dict.fromkeys(["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"], True),
            },
        ),
        (
            "onnxruntime",
            {
                "onnxruntime/capi/build_and_package_info.py": "package_name = 'onnxruntime-gpu'\n"
                "__version__ = '1.31.1'\ncuda_version = '13.0'\n"
            },
            {"version": "1.31.1", "accelerator": "cuda", "cuda": "13.0", "package": "onnxruntime-gpu"},
        ),
        (
            "onnxruntime",
            {
                "onnxruntime/capi/build_and_package_info.py": "package_name = 'onnxruntime'\n__version__ = '1.31.1'\n"
                "cuda_version = ''\n"
            },
            {"version": "1.31.1", "accelerator": "cpu", "package": "onnxruntime"},
        ),
        (
            "cupy",
            {"cupy/_version.py": "__version__ = '14.2.0'\n", "cupy/.data/_wheel.json": CUPY},
            {
                "version": "14.2.0",
                "accelerator": "cuda",
                "cuda": "12.x",
                "preloads": {"cutensor": "2.4.1", "nccl": "2.25.1"},
            },
        ),
        (
            "cupy",
            {"cupy/_version.py": "__version__ = '14.2.0'\n", "cupy/.data/_wheel.json": '{"cuda": "rocm-7-0"}'},
            {"version": "14.2.0", "accelerator": "rocm", "rocm": "7-0", "preloads": {}},
        ),
        ("triton", {"triton/__init__.py": '"""isort:skip_file"""\n__version__ = \'3.9.0\'\n'}, {"version": "3.9.0"}),
        (
            "vllm",
            {"vllm/_version.py": VLLM},
            {"version": "0.10.1+cu129", "accelerator": "cuda", "cuda": "12.9"},
        ),
        (
            "xformers",
            {"xformers/version.py": '# noqa: C801\n__version__ = "0.0.35"\n', "xformers/cpp_lib.json": XFORMERS},
            {"version": "0.0.35", "accelerator": "cuda", "cuda": "12.8", "torch": "2.10.0+cu128"},
        ),
        (
            "jax_cuda12_plugin",
            {"jax_cuda12_plugin/version.py": JAXLIB},
            {"version": "0.10.2", "accelerator": "cuda", "cuda": "12"},
        ),
        (
            "xla_cuda13",
            {"jax_plugins/xla_cuda13/version.py": JAXLIB},
            {"version": "0.10.2", "accelerator": "cuda", "cuda": "13"},
        ),
    ],
)
def test_what_frameworks_say_of_their_build(
    name: str, files: dict[str, str], expected: dict[str, Any], image: Image
) -> None:
    for file, content in files.items():
        image.file(f"{SITE}/{file}", content)
    empty = dict.fromkeys(["version", "accelerator", "cuda", "cudnn", "rocm", "torch"])
    assert image.facts()["builds"] == {name: {**empty, **expected}}


def test_bitsandbytes_brings_one_library_for_each_cuda(image: Image) -> None:
    image.wheel(
        "bitsandbytes",
        "0.50.2",
        {
            "bitsandbytes/__init__.py": 'x = 1\n__version__ = "0.50.2"\n',
            "bitsandbytes/libbitsandbytes_cuda118.so": FATBINS / "both.so",
            "bitsandbytes/libbitsandbytes_cuda130.so": FATBINS / "both.so",
            "bitsandbytes/libbitsandbytes_rocm64.so": FATBINS / "both.so",
            "bitsandbytes/libbitsandbytes_cpu.so": FATBINS / "both.so",
        },
    )
    assert image.facts()["builds"]["bitsandbytes"]["variants"] == {"11.8": True, "13.0": True}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tensorflow/python/platform/build_info.py", "build_info = collections.OrderedDict([('a', open('x'))])"),
        ("tensorflow/python/platform/build_info.py", "build_info = collections.OrderedDict([1, 2])"),
        ("tensorflow/python/platform/build_info.py", "build_info = OrderedDict([" + "(" * 2000 + "])"),
        ("cupy/.data/_wheel.json", "{"),
        ("cupy/.data/_wheel.json", "[1]"),
        ("xformers/cpp_lib.json", '{"version": 3}'),
    ],
)
def test_build_facts_that_cannot_be_understood(file: str, content: str, image: Image) -> None:
    image.file(f"{SITE}/{file}", content)
    image.file(f"{SITE}/cupy/_version.py", "__version__ = '14.2.0'\n")
    image.file(f"{SITE}/xformers/version.py", "__version__ = '0.0.35'\n")
    section = image.section()
    assert section["status"] == "partial"
    assert section["problems"][0]["reason"].startswith("build facts that cannot be understood: ")


def test_the_first_of_two_copies_counts(tmp_path: Path) -> None:
    for entry, version in (("a", "1"), ("b", "2")):
        (tmp_path / entry / "torch").mkdir(parents=True)
        (tmp_path / entry / "torch" / "version.py").write_text(f"__version__ = '{version}'\n")
    place = common.Place(root=str(tmp_path), environ={}, search_path=["/none", "/a", "/b"], live=False)
    assert cuda_builds.builds(place)["torch"]["version"] == "1"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.8.3+cu12torch2.8cxx11abiTRUE", {"accelerator": "cuda", "cuda": "12"}),
        ("1.0+cu92", {"accelerator": "cuda", "cuda": "9.2"}),
        ("1.0+cu118", {"accelerator": "cuda", "cuda": "11.8"}),
        ("0.4.7+cuda11.cudnn86", {"accelerator": "cuda", "cuda": "11"}),
        ("1.0+cpu", {"accelerator": "cpu"}),
        ("1.0+computecanada", {}),
        ("1.0+g4ba787ec9", {}),
        (None, {}),
    ],
)
def test_local_versions(version: str | None, expected: dict[str, str]) -> None:
    assert cuda_builds.local_label(version) == expected


# Toolkits and tools


def test_toolkits_state_their_version(image: Image) -> None:
    image.file("/usr/local/cuda-12.4/version.json", '{"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}')
    image.file("/usr/local/cuda-12.4/bin/nvcc", "x", 0o755)
    image.file("/usr/local/cuda-12.4/bin/ptxas", "x", 0o644)
    image.file("/usr/local/cuda-10.1/version.txt", "CUDA Version 10.1.243\n")
    image.file("/opt/cuda/include/cuda.h", "#ifndef X\n#define CUDA_VERSION 13000\n" + "x" * (1 << 17))
    image.file("/usr/lib/cuda/version.json", "[")
    image.link("/usr/local/cuda", "/usr/local/cuda-12.4")
    assert image.facts()["toolkits"] == {
        "/usr/local/cuda-12.4": {"version": "12.4.1", "version_from": "version.json", "programs": {"nvcc": True}},
        "/usr/local/cuda-10.1": {"version": "10.1.243", "version_from": "version.txt", "programs": {}},
        "/opt/cuda": {"version": "13.0", "version_from": "include/cuda.h", "programs": {}},
        "/usr/lib/cuda": {"version": None, "version_from": None, "programs": {}},
    }


def test_where_jit_extensions_look(image: Image) -> None:
    image.file("/usr/local/cuda/bin/nvcc", "x", 0o755)
    image.file("/opt/other/bin/nvcc", "x", 0o755)
    image.file("/usr/bin/clang", "x", 0o755)
    assert image.facts(PATH="/usr/bin")["tools"]["cuda_home"] == {
        "path": "/usr/local/cuda", "via": "default", "nvcc": True,
    }  # fmt: skip
    assert image.facts(PATH="/opt/other/bin")["tools"]["cuda_home"]["path"] == "/opt/other"
    tools = image.facts(PATH="relative:/opt/other/bin:/usr/bin", CUDA_HOME="/none")["tools"]
    assert tools["cuda_home"] == {"path": "/none", "via": "CUDA_HOME", "nvcc": False}
    assert tools["nvcc"] == {"path": "/opt/other/bin/nvcc", "via": "PATH"}
    assert tools["c_compiler"] == {"path": "/usr/bin/clang", "via": "PATH"}
    image.file("/usr/bin/gcc", "x", 0o755)
    assert image.facts(PATH="/usr/bin")["tools"]["c_compiler"]["path"] == "/usr/bin/gcc"
    assert image.facts(PATH="/usr/bin", CC="clang")["tools"]["c_compiler"] == {"path": "/usr/bin/clang", "via": "CC"}
    assert image.facts(PATH="/usr/bin", CC="missing")["tools"]["c_compiler"] is None


def test_tritons_own_programs(image: Image, library: Library) -> None:
    image.file(f"{SITE}/triton/__init__.py", "__version__ = '3.9.0'\n")
    program = library("x", TOOLS)
    image.file(f"{SITE}/triton/backends/nvidia/bin/ptxas", program, 0o755)
    # A wheel that was unpacked without its modes: it is there and cannot be run.
    image.file(f"{SITE}/triton/backends/nvidia/bin/ptxas-blackwell", program, 0o644)
    assert image.facts()["tools"]["triton"] == {
        "ptxas": {"path": f"{SITE}/triton/backends/nvidia/bin/ptxas", "via": "triton", "version": "12.9.86"}
    }
    image.file("/opt/ptxas", library("x", TOOLS.replace("12.9", "13.0")), 0o755)
    found = image.facts(TRITON_PTXAS_PATH="/opt/ptxas", TRITON_PTXAS_BLACKWELL_PATH="/none")["tools"]["triton"]
    assert found == {"ptxas": {"path": "/opt/ptxas", "via": "TRITON_PTXAS_PATH", "version": "13.0.86"}}


def test_what_the_image_asks_of_the_container_runtime(image: Image) -> None:
    require = "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=grid,driver>=470,driver<471"
    assert image.facts(
        NVIDIA_VISIBLE_DEVICES="all",
        NVIDIA_DRIVER_CAPABILITIES="compute,utility",
        NVIDIA_REQUIRE_CUDA=require,
        NVIDIA_PRODUCT_NAME="x",
    )["image"] == {
        "visible_devices": "all",
        "driver_capabilities": "compute,utility",
        "require": {"NVIDIA_REQUIRE_CUDA": require},
        "disable_require": None,
        "cuda_version": None,
    }


def test_other_systems_have_no_elf_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda.sys, "platform", "darwin")
    place = common.Place(root=str(tmp_path), environ={}, search_path=[], live=True)
    assert common.section(cuda, place)["status"] == "absent"
