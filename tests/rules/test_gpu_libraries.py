"""Family GPU: CUDA libraries that hide each other, and libraries of another CUDA; on made-up facts and real files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, imported, measured
from support.cuda_facts import build, copy, cuda, libraries
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Finding

WHEEL = "nvidia/cublas/lib/libcublas.so.12"
TOOLKIT = "/usr/local/cuda/lib64/libcublas.so.12"

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def answer(reason: str) -> dict[str, Any]:
    return {"reason": reason, "assumption": None, "offers": {}, "distribution": None}


# GPU023


def test_gpu023_the_toolkit_in_the_variable_hides_the_wheel() -> None:
    facts = cuda(
        copy(WHEEL, "12.8.4.1"),
        copy(TOOLKIT, "12.4.5.8", via="LD_LIBRARY_PATH"),
        copy("nvidia/nccl/lib/libnccl.so.2", "2.27.3"),
        copy("/usr/local/cuda/lib64/libnccl.so.2", "2.21.5", via="LD_LIBRARY_PATH"),
    )
    (found,) = findings("GPU023", cuda=facts)
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "cublas 12.4.5 of LD_LIBRARY_PATH runs instead of 12.8.4 and 1 more"
    assert found.subject.name == "/usr/local/cuda/lib64"
    assert [fix.text for fix in found.fix] == ["LD_LIBRARY_PATH without /usr/local/cuda/lib64"]


def test_gpu023_the_proof_of_the_loader_makes_it_likely() -> None:
    facts = cuda(copy(WHEEL, "12.8.4.1"), copy(TOOLKIT, "12.4.5.8", via="LD_LIBRARY_PATH"))
    proof = libraries(libraries={"libcublas.so.12": {TOOLKIT: answer("ld_library_path")}})
    (found,) = findings("GPU023", cuda=facts, libraries=proof)
    assert judged(found) == ("changes-results", "likely")


@pytest.mark.parametrize(
    "other",
    [
        copy(TOOLKIT, "12.8.4.1", via="LD_LIBRARY_PATH"),  # the same version
        copy(TOOLKIT, "12.4.5.8", via="toolkit"),  # nothing leads the loader there
        copy(TOOLKIT, "12.4.5.8", via="cache"),  # RUNPATH comes before the cache
        copy(TOOLKIT, "12", via="LD_LIBRARY_PATH"),  # states no version
        copy("/usr/local/cuda/lib64/libcublas.so.11", "11.11.3", via="LD_LIBRARY_PATH"),  # another library
        copy(TOOLKIT, "12.4.5.8", via="LD_LIBRARY_PATH", stub=True),
    ],
)
def test_gpu023_is_silent(other: dict[str, Any]) -> None:
    assert findings("GPU023", cuda=cuda(copy(WHEEL, "12.8.4.1"), other)) == []


def test_gpu023_causes_what_rests_on_the_same_directory() -> None:
    """A cuDNN of the image that is too old for torch is one thing with the cuBLAS that comes from there."""
    facts = cuda(
        copy("nvidia/cudnn/lib/libcudnn.so.9", "9.10.2.21"),
        copy("/usr/local/cuda/lib64/libcudnn.so.9", "9.1.0", via="LD_LIBRARY_PATH"),
        builds={"torch": build(accelerator="cuda", cuda="12.8", version="2.9.0+cu128")},
    )
    torch = distribution("torch", "2.9.0", requires={"nvidia-cudnn-cu12==9.10.2.21": ""})
    packages = distributions(torch, distribution("nvidia-cudnn-cu12", "9.10.2.21"))
    before = cuda(copy("nvidia/cudnn/lib/libcudnn.so.9", "9.10.2.21"), builds=facts["builds"])
    explanation = explain_pair(
        snapshot("before", cuda=before, packages=packages), snapshot("after", cuda=facts, packages=packages)
    )
    causes = {finding.code: finding.caused_by for finding in explanation.findings}
    assert causes == {"GPU023": None, "GPU021": ("GPU023", "directory", "/usr/local/cuda/lib64")}


# GPU024, with real libraries


def nvjitlink(builder: Builder, path: str, *functions: str) -> Path:
    return builder.library(f"{path}/libnvJitLink.so.12", defines=functions, version="libnvJitLink.so.12")


def cusparse(folder: Path) -> Builder:
    """A module that needs libcusparse, which needs nvJitLink of CUDA 12.4, all of it in one directory of wheels."""
    builder = Builder(folder)
    new = nvjitlink(builder, "nvidia/nvjitlink/lib", "__nvJitLinkCreate_12_4", "__nvJitLinkComplete_12_4")
    sparse = builder.library(
        "nvidia/cusparse/lib/libcusparse.so.12",
        defines=["cusparseCreate"],
        calls=["__nvJitLinkComplete_12_4"],
        links=[new],
        runpath="$ORIGIN/../../nvjitlink/lib",
    )
    builder.module("fake/_C", calls=["cusparseCreate"], links=[sparse], runpath="$ORIGIN/../nvidia/cusparse/lib")
    builder.write("fake/__init__.py")
    return builder


@needs_gcc
def test_gpu024_an_older_nvjitlink_answers(tmp_path: Path) -> None:
    builder = cusparse(tmp_path / "site")
    old = Builder(tmp_path / "cuda")
    nvjitlink(old, "lib64", "__nvJitLinkCreate_12_1", "__nvJitLinkComplete_12_1")
    variables = {"LD_LIBRARY_PATH": str(old.folder / "lib64")}
    target = measured(builder.folder, variables, sections=("libraries", "packages", "cuda", "variables"))
    facts = {name: section.facts for name, section in target.sections.items()}
    (found,) = findings("GPU024", **facts)
    assert found.title == "libcusparse.so.12 needs nvJitLink 12.4, and an older one answers"
    assert found.predicted_error == imported("fake._C", builder.folder, variables).line
    assert "undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12" in found.predicted_error
    assert [fix.text for fix in found.fix] == [f"LD_LIBRARY_PATH without {old.folder}/lib64"]
    causes = {finding.code: finding.caused_by for finding in explain_one(target).findings}
    assert causes["LIB003"] == found.identity


@needs_gcc
def test_gpu024_is_silent_with_its_own_nvjitlink(tmp_path: Path) -> None:
    builder = cusparse(tmp_path / "site")
    assert not imported("fake._C", builder.folder).failed
    target = measured(builder.folder, sections=("libraries", "packages", "cuda", "variables"))
    assert findings("GPU024", **{name: section.facts for name, section in target.sections.items()}) == []


@needs_gcc
def test_gpu024_names_the_wheel_to_upgrade(tmp_path: Path) -> None:
    builder = cusparse(tmp_path / "site")
    nvjitlink(builder, "nvidia/nvjitlink/lib", "__nvJitLinkCreate_12_1", "__nvJitLinkComplete_12_1")
    target = measured(builder.folder, sections=("libraries", "packages", "cuda", "python"))
    (found,) = findings("GPU024", **{name: section.facts for name, section in target.sections.items()})
    assert [fix.text for fix in found.fix] == ['python -m pip install "nvidia-nvjitlink-cu12>=12.4"']
    assert found.predicted_error == imported("fake._C", builder.folder).line


# GPU025, with real libraries

SECTIONS = ("libraries", "packages", "cuda", "python")


def provider(folder: Path, *there: str) -> Builder:
    """A plugin for CUDA 13 that its package opens by name, and the CUDA libraries that are ``there``."""
    builder = Builder(folder)
    lent = Builder(folder.parent / "elsewhere").library("libcublasLt.so.13", defines=["cublasLtCreate"])
    builder.library("onnxruntime/capi/libonnxruntime_providers_cuda.so", calls=["cublasLtCreate"], links=[lent])
    builder.write("onnxruntime/__init__.py", "OPENS = 'libonnxruntime_providers_cuda.so'\n")
    for name in there:
        builder.library(f"nvidia/cublas/lib/{name}", defines=["cublasLtCreate"])
    builder.distribution("onnxruntime")
    metadata = builder.folder / "onnxruntime-1.0.dist-info"
    metadata.rename(builder.folder / "onnxruntime_gpu-1.31.1.dist-info")
    builder.write(
        "onnxruntime_gpu-1.31.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n\n"
    )
    return builder


@needs_gcc
def test_gpu025_cuda_12_is_there_and_13_is_needed(tmp_path: Path) -> None:
    builder = provider(tmp_path / "site", "libcublasLt.so.12")
    target = measured(builder.folder, sections=SECTIONS)
    (found,) = findings("GPU025", **{name: section.facts for name, section in target.sections.items()})
    assert judged(found) == ("slows", "likely")
    assert found.title == "onnxruntime-gpu 1.31.1 needs libcublasLt.so.13, and libcublasLt.so.12 is there"
    assert [fix.text for fix in found.fix] == ['python -m pip install "onnxruntime-gpu>=1.19,<1.27"']
    causes = {finding.code: finding.caused_by for finding in explain_one(target).findings}
    assert causes["LIB010"] == found.identity


@needs_gcc
def test_gpu025_tensorrt_8_is_there_and_10_is_needed(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "site")
    lent = Builder(tmp_path / "elsewhere").library("libnvinfer.so.10", defines=["createInferRuntime_INTERNAL"])
    builder.module("fake/_C", calls=["createInferRuntime_INTERNAL"], links=[lent])
    builder.write("fake/__init__.py")
    builder.distribution("fake")
    builder.library("tensorrt_libs/libnvinfer.so.8", defines=["createInferRuntime_INTERNAL"])
    target = measured(builder.folder, sections=SECTIONS)
    (found,) = findings("GPU025", **{name: section.facts for name, section in target.sections.items()})
    assert found.title == "fake 1.0 needs libnvinfer.so.10, and libnvinfer.so.8 is there"
    assert found.impact.value == "breaks"
    effects = {finding.code for finding in explain_one(target).findings if finding.caused_by == found.identity}
    assert effects == {"LIB001"}


@needs_gcc
def test_gpu025_is_silent_where_there_is_no_other_generation(tmp_path: Path) -> None:
    builder = provider(tmp_path / "site")
    target = measured(builder.folder, sections=SECTIONS)
    assert findings("GPU025", **{name: section.facts for name, section in target.sections.items()}) == []
    assert "LIB010" in {finding.code for finding in explain_one(target).findings}


@needs_gcc
def test_gpu025_is_silent_where_the_generation_is_there_too(tmp_path: Path) -> None:
    builder = provider(tmp_path / "site", "libcublasLt.so.12", "libcublasLt.so.13")
    target = measured(builder.folder, sections=SECTIONS)
    assert findings("GPU025", **{name: section.facts for name, section in target.sections.items()}) == []


# GPU036


def nvidia(name: str, version: str) -> dict[str, Any]:
    return distribution(name, version, requested=False)


def test_gpu036_jax_for_cuda_12_beside_torch_for_cuda_13() -> None:
    shared = {"location": "/venv", "count": 9, "different": 9, "examples": {"nvidia/cudnn/lib/libcudnn.so.9": True}}
    packages = distributions(
        distribution("jax-cuda12-plugin", requires={"nvidia-cudnn-cu12<10.0,>=9.8": "sys_platform == 'linux'"}),
        distribution("torch", requires={"nvidia-cudnn-cu13==9.20.0.48": ""}),
        nvidia("nvidia-cudnn-cu12", "9.28.0.42"),
        nvidia("nvidia-cudnn-cu13", "9.20.0.48"),
        shared_files={"nvidia-cudnn-cu12 nvidia-cudnn-cu13": shared},
    )
    (found,) = findings("GPU036", packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "nvidia-cudnn-cu12 and nvidia-cudnn-cu13 lie in one directory"
    assert "nvidia-cudnn-cu12 9.28.0.42 is there for jax-cuda12-plugin." in found.explanation
    explanation = explain_one(snapshot("target", packages=packages))
    (effect,) = [finding for finding in explanation.findings if finding.code == "PKG003"]
    assert effect.caused_by == found.identity


def test_gpu036_is_silent_where_nothing_is_shared_or_nothing_differs() -> None:
    both = [nvidia("nvidia-cublas-cu12", "12.9.1.4"), nvidia("nvidia-cublas-cu11", "11.11.3.6")]
    assert findings("GPU036", packages=distributions(*both)) == []
    shared = {"location": "/venv", "count": 1, "different": 0, "examples": {"nvidia/__init__.py": True}}
    packages = distributions(*both, shared_files={"nvidia-cublas-cu11 nvidia-cublas-cu12": shared})
    assert findings("GPU036", packages=packages) == []
