"""What the GPU stack really prints, on a machine without a GPU, beside what was predicted (pytest --network).

Real wheels, installed without what they require; the small models and libraries beside them are made here.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.compiled import Builder, imported, measured
from support.cuda_facts import gpu
from support.snapshots import snapshot
from support.wheels import clean_environment, last_line, run

from driftcheck.explain import explain_one
from driftcheck.findings import Finding
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction
from driftcheck.rules.gpu_facts import builds
from driftcheck.snapshot import Snapshot

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
]

SECTIONS = ("libraries", "packages", "cuda", "python", "variables")

# An ONNX model of one Relu (IR 7, opset 13).
RELU = base64.b64decode("CAc6MwoMCgF4EgF5IgRSZWx1EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQDQ==")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A directory for wheels; they are large, and do not stay with pytest's other files."""
    folder = tmp_path / "site"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def install(folder: Path, *requirements: str) -> None:
    """Install these wheels, and nothing that they require, over what is there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", str(folder), *requirements],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def ask(folder: Path, code: str, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, code, folder, variables=variables)


def judged(code: str, target: Snapshot) -> list[Finding]:
    rule = next(rule for rule in all_rules() if rule.code == code)
    assert isinstance(rule, Contradiction)
    return list(rule.check(target, None))


SESSION = """
import onnxruntime
session = onnxruntime.InferenceSession({model!r}, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
print(session.get_providers())
"""


def test_onnxruntime_gpu_with_another_cuda_and_with_the_cpu_build_over_it(site: Path, tmp_path: Path) -> None:
    """The session goes on without a GPU; its log, and a warning, say why."""
    model = tmp_path / "relu.onnx"
    model.write_bytes(RELU)
    session = SESSION.format(model=str(model))
    install(site, "onnxruntime-gpu==1.22.0", "nvidia-cuda-runtime-cu11==11.8.89", "numpy<2.3", "flatbuffers",
            "protobuf", "packaging", "coloredlogs", "humanfriendly", "sympy", "mpmath")  # fmt: skip
    done = ask(site, session)
    assert done.stdout.strip() == "['CPUExecutionProvider']"
    target = measured(site, sections=SECTIONS)
    (cause,) = judged("GPU025", target)
    assert cause.title == "onnxruntime-gpu 1.22.0 needs libcudart.so.12, and libcudart.so.11.0 is there"
    (effect,) = [found for found in explain_one(target).findings if found.code == "LIB010"]
    assert effect.caused_by == cause.identity
    assert effect.predicted_error is not None
    assert f"libonnxruntime_providers_cuda.so with error: {effect.predicted_error}" in done.stderr
    assert judged("GPU029", target) == []

    install(site, "--upgrade", "onnxruntime==1.22.0")
    done = ask(site, session)
    assert done.stdout.strip() == "['CPUExecutionProvider']"
    (overwritten,) = judged("GPU029", measured(site, sections=SECTIONS))
    assert overwritten.predicted_error is not None
    assert overwritten.predicted_error in done.stderr


def test_a_real_nvjitlink_of_an_older_cuda(site: Path) -> None:
    """A library that was linked with the nvJitLink of CUDA 12.4 meets that of 12.1."""
    new, old = site / "new", site / "old"
    install(new, "nvidia-nvjitlink-cu12==12.4.127")
    install(old, "nvidia-nvjitlink-cu12==12.1.105")
    for folder in (new, old):
        builder = Builder(folder)
        sparse = builder.library(
            "nvidia/cusparse/lib/libcusparse.so.12",
            defines=["cusparseCreate"],
            calls=["__nvJitLinkComplete_12_4"],
            links=[new / "nvidia/nvjitlink/lib/libnvJitLink.so.12"],
            runpath="$ORIGIN/../../nvjitlink/lib",
        )
        builder.write("fake/__init__.py")
        builder.module("fake/_C", calls=["cusparseCreate"], links=[sparse], runpath="$ORIGIN/../nvidia/cusparse/lib")
    assert "undefined symbol" not in imported("fake._C", new).line
    assert judged("GPU024", measured(new, sections=SECTIONS)) == []

    variables = {"LD_LIBRARY_PATH": f"{old}/nvidia/nvjitlink/lib"}
    (found,) = judged("GPU024", measured(new, variables, sections=SECTIONS))
    assert found.predicted_error == imported("fake._C", new, variables).line
    assert found.predicted_error.endswith("undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12")
    assert [fix.text for fix in found.fix] == [f"LD_LIBRARY_PATH without {old}/nvidia/nvjitlink/lib"]

    (found,) = judged("GPU024", measured(old, sections=SECTIONS))
    assert found.title == "libcusparse.so.12 needs nvJitLink 12.4, and an older one 12.1.105 answers"
    assert found.predicted_error == imported("fake._C", old).line


@pytest.mark.skipif(sys.version_info < (3, 11), reason="JAX 0.10 needs Python 3.11")
def test_jax_leaves_out_a_plugin_of_another_version(site: Path) -> None:
    install(site, "jax==0.10.2", "jaxlib==0.10.2", "jax-cuda12-plugin==0.10.1", "numpy", "scipy", "ml-dtypes",
            "opt-einsum")  # fmt: skip
    done = ask(site, "import jax; print(jax.devices())")
    assert "CpuDevice" in done.stdout
    (found,) = judged("GPU030", measured(site, sections=SECTIONS))
    assert found.predicted_error is not None
    assert found.predicted_error in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="JAX 0.10 needs Python 3.11")
def test_the_plugin_of_jax_without_its_libraries(site: Path) -> None:
    install(site, "jax==0.10.2", "jaxlib==0.10.2", "jax-cuda12-plugin==0.10.2", "jax-cuda12-pjrt==0.10.2", "numpy",
            "scipy", "ml-dtypes", "opt-einsum")  # fmt: skip
    done = ask(site, "import jax; print(jax.devices())")
    assert "CpuDevice" in done.stdout
    (found,) = judged("GPU026", measured(site, sections=SECTIONS))
    assert found.predicted_error in done.stderr.splitlines()


def test_cupy_without_its_compiler(site: Path) -> None:
    install(site, "cupy-cuda12x==13.6.0", "fastrlock", "numpy<2.3")
    done = ask(site, "from cupy_backends.cuda.libs import nvrtc; nvrtc.getVersion()")
    (found,) = judged("GPU026", measured(site, sections=SECTIONS))
    assert found.predicted_error == last_line(done)


def cuda_build_of_torch(folder: Path) -> None:
    """What torch says of itself; the rest of it takes gigabytes."""
    (folder / "torch").mkdir()
    (folder / "torch/version.py").write_text("__version__ = '2.7.0+cu126'\ncuda = '12.6'\n")


def test_triton_without_its_ptxas_and_without_what_it_compiles_with(site: Path, tmp_path: Path) -> None:
    install(site, "triton==3.3.0")
    cuda_build_of_torch(site)
    assert judged("GPU031", measured(site, sections=SECTIONS)) == []
    code = "from triton.backends.nvidia.compiler import get_ptxas; print(get_ptxas(80))"
    assert ask(site, code).returncode == 0
    (site / "triton/backends/nvidia/bin/ptxas").unlink()
    (found,) = judged("GPU031", measured(site, sections=SECTIONS))
    assert found.predicted_error == last_line(ask(site, code))

    # The compiler and the headers of the interpreter are the business of SYS003.
    code = """
import os
from triton.runtime.build import _build
os.environ.pop("CC", None)
open("a.c", "w").write("#include <Python.h>\\n")
print(_build("a", "a.c", ".", [], [], []))
"""
    assert compiled_on_the_spot(site, code, tmp_path, {}).returncode == 0
    done = compiled_on_the_spot(site, code, tmp_path, {"PATH": "/nowhere"})
    assert lacking(site, "program", {"PATH": "/nowhere"}) in last_line(done)

    # An interpreter whose base has the standard library and nothing else, as Debian's without python3-dev.
    home = tmp_path / "home"
    home.mkdir()
    (home / "lib").symlink_to(Path(sys.base_prefix, "lib"))
    done = compiled_on_the_spot(site, code, tmp_path, {"PYTHONHOME": str(home)})
    assert done.returncode != 0
    assert lacking(site, "header", {"PYTHONHOME": str(home)}) in done.stderr


def compiled_on_the_spot(
    site: Path, code: str, folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run code that compiles into a folder."""
    return ask(site, f"import os; os.chdir({str(folder)!r})\n{code}", variables)


def lacking(site: Path, kind: str, variables: Mapping[str, str]) -> str:
    """What SYS003 predicts of the one thing of this kind that Triton lacks."""
    target = measured(site, variables, sections=("programs", "packages", "python", "variables"))
    subjects = {(found.subject.kind, found.subject.name): found.predicted_error for found in judged("SYS003", target)}
    (text,) = [error for (which, name), error in subjects.items() if which == kind and name.endswith(" for triton")]
    assert text is not None
    return text


PTX = ".version 7.0\n.target sm_80\n.address_size 64\n"


@pytest.mark.parametrize(("release", "unknown", "known"), [("12.4.131", "12.0", "9.0"), ("12.8.93", "12.1", "12.0")])
def test_a_real_ptxas_and_the_devices_that_it_does_not_know(
    site: Path, tmp_path: Path, release: str, unknown: str, known: str
) -> None:
    install(site, f"nvidia-cuda-nvcc-cu12=={release}")
    cuda_build_of_torch(site)
    (site / "triton").mkdir()
    (site / "triton/__init__.py").write_text("__version__ = '3.3.0'\n")
    ptxas = site / "nvidia/cuda_nvcc/bin/ptxas"
    ptxas.chmod(0o755)
    kernel = tmp_path / "kernel.ptx"
    kernel.write_text(PTX)
    target = measured(site, {"TRITON_PTXAS_PATH": str(ptxas)}, sections=SECTIONS)

    def predicted(capability: str) -> list[str | None]:
        return [found.predicted_error for found in judged("GPU032", with_device(target, capability))]

    def printed(capability: str) -> str:
        name = f"sm_{capability.replace('.', '')}a"
        command = [str(ptxas), f"--gpu-name={name}", str(kernel), "-o", os.devnull]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()

    assert (predicted(known), printed(known)) == ([], "")
    assert predicted(unknown) == [printed(unknown)]


def with_device(target: Snapshot, capability: str) -> Snapshot:
    """The same environment on a machine with one device."""
    facts = {name: section.facts for name, section in target.sections.items()}
    return snapshot("placed", **(facts | {"gpu": gpu(capability)}))


def test_a_cpu_build_of_torch_is_asked_for_a_gpu(site: Path) -> None:
    install(site, "torch==2.13.0", "filelock", "fsspec", "jinja2", "markupsafe", "networkx", "sympy", "mpmath",
            "typing-extensions")  # fmt: skip
    target = measured(site, sections=SECTIONS)
    if builds(target)["torch"]["accelerator"] != "cpu":
        pytest.skip("the registry has no CPU build of torch for this Python")
    (found,) = judged("GPU027", with_device(target, "9.0"))
    assert found.predicted_error == last_line(ask(site, "import torch; torch.zeros(1).cuda()"))

    # What torch.compile lacks without a compiler is the business of SYS003.
    nowhere = {"PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(site / "cache")}
    target = measured(site, nowhere, sections=("programs", "packages", "python", "variables"))
    texts = [found.predicted_error or "" for found in judged("SYS003", target)]
    (compiler,) = [text for text in texts if "C++ compiler" in text]
    done = ask(site, "import torch; torch.compile(lambda x: x.sin() + 1)(torch.ones(3))", nowhere)
    assert f"InvalidCxxCompiler: {compiler}" in done.stderr
