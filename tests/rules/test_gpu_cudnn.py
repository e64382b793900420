"""Family GPU: cuDNN in two versions, too old for torch, too new for the device."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, measured
from support.cuda_facts import build, copy, cuda, gpu
from support.snapshots import distribution, distributions, findings

from driftcheck.findings import Finding

WHEEL = "nvidia/cudnn/lib"
SYSTEM = "/usr/lib/x86_64-linux-gnu"
TORCH = {"torch": build(accelerator="cuda", cuda="12.8", version="2.9.0+cu128")}


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def cudnn(directory: str, version: str, *parts: str, via: str = "search path") -> list[dict[str, Any]]:
    return [copy(f"{directory}/lib{name}.so.9", version, via=via) for name in ("cudnn", *parts)]


# GPU020


def test_gpu020_a_part_that_the_wheel_lacks_comes_from_the_system() -> None:
    """As pytorch/pytorch#188892 describes it: 9.20 of the wheel, 9.23 of the system."""
    facts = cuda(
        *cudnn(WHEEL, "9.20.0.48", "cudnn_ops", "cudnn_graph"),
        *cudnn(SYSTEM, "9.23.1", "cudnn_ops", "cudnn_graph", "cudnn_engines_tensor_ir", via="cache"),
        builds=TORCH,
    )
    (found,) = findings("GPU020", cuda=facts)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "cuDNN 9.20.0 would open libcudnn_engines_tensor_ir.so.9 of 9.23.1"
    assert found.predicted_error == "RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"


def test_gpu020_a_directory_of_the_variable_that_has_some_parts_only() -> None:
    facts = cuda(
        *cudnn(WHEEL, "9.10.2.21", "cudnn_ops", "cudnn_cnn"),
        copy("/opt/extra/libcudnn_cnn.so.9", "9.1.0", via="LD_LIBRARY_PATH"),
    )
    (found,) = findings("GPU020", cuda=facts)
    assert judged(found) == ("breaks", "possible")  # libcudnn of the wheels has RPATH, libcudnn_graph has RUNPATH
    assert found.predicted_error == "CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"
    assert [fix.text for fix in found.fix] == ["LD_LIBRARY_PATH without /opt/extra"]


@pytest.mark.parametrize("via", ["LD_LIBRARY_PATH", "cache"])
def test_gpu020_is_silent_where_one_of_two_is_whole(via: str) -> None:
    """All of it from the one side or all from the other."""
    parts = ("cudnn_ops", "cudnn_cnn")
    facts = cuda(*cudnn(WHEEL, "9.10.2.21", *parts), *cudnn(SYSTEM, "9.1.0", *parts, via=via), builds=TORCH)
    assert findings("GPU020", cuda=facts) == []


def test_gpu020_a_part_has_the_version_of_its_neighbours() -> None:
    """Of NVIDIA's wheels, libcudnn_graph alone states its version in the file."""
    outside = "/opt/venv/nvidia/cudnn/lib"
    facts = cuda(
        *cudnn(WHEEL, "9.20.0.48", "cudnn_graph"),
        copy(f"{outside}/libcudnn_graph.so.9", "9.23.1", via="cache"),
        copy(f"{outside}/libcudnn_engines_tensor_ir.so.9", "9", via="cache"),
    )
    (found,) = findings("GPU020", cuda=facts)
    assert found.title == "cuDNN 9.20.0 would open libcudnn_engines_tensor_ir.so.9 of 9.23.1"


def test_gpu020_is_silent_on_what_states_no_version() -> None:
    facts = cuda(*cudnn(WHEEL, "9.20.0.48"), copy(f"{SYSTEM}/libcudnn_ops.so.9", "9", via="cache"))
    assert findings("GPU020", cuda=facts) == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_gpu020_on_real_files(tmp_path: Path) -> None:
    """The probe finds them, and their versions in their names."""
    builder = Builder(tmp_path / "site")
    for name in ("libcudnn.so.9", "libcudnn_ops.so.9"):
        builder.library(f"nvidia/cudnn/lib/{name}", defines=["cudnnGetVersion"])
        (builder.folder / f"nvidia/cudnn/lib/{name}").rename(builder.folder / f"nvidia/cudnn/lib/{name}.20.0")
        (builder.folder / f"nvidia/cudnn/lib/{name}").symlink_to(f"{name}.20.0")
    target = measured(builder.folder, sections=("cuda", "python"))
    assert findings("GPU020", **{name: section.facts for name, section in target.sections.items()}) == []
    other = Builder(tmp_path / "opt")
    for name in ("libcudnn_ops.so.9",):
        other.library(name, defines=["cudnnGetVersion"])
        (other.folder / name).rename(other.folder / f"{name}.23.1")
        (other.folder / name).symlink_to(f"{name}.23.1")
    target = measured(builder.folder, {"LD_LIBRARY_PATH": str(other.folder)}, sections=("cuda", "python"))
    (found,) = findings("GPU020", **{name: section.facts for name, section in target.sections.items()})
    assert found.title == "cuDNN 9.20.0 would open libcudnn_ops.so.9 of 9.23.1"


# GPU021


def packages(pin: str = "nvidia-cudnn-cu12==9.10.2.21") -> dict[str, Any]:
    return distributions(distribution("torch", "2.9.0", requires={pin: 'platform_system == "Linux"'}))


def variables(path: str) -> dict[str, Any]:
    return {"variables": {"LD_LIBRARY_PATH": {"value": path}}}


def test_gpu021_an_older_cudnn_of_the_image_comes_first() -> None:
    """The text stands in m-bain/whisperX#1297, word for word."""
    facts = cuda(
        *cudnn(WHEEL, "9.10.2.21"),
        *cudnn("/usr/local/cuda/lib64", "9.1.0", via="LD_LIBRARY_PATH"),
        builds=TORCH,
    )
    (found,) = findings("GPU021", cuda=facts, packages=packages(), variables=variables("/usr/local/cuda/lib64"))
    assert judged(found) == ("breaks", "likely")
    assert found.title == "cuDNN 9.1.0 would be loaded, and torch was built with 9.10.2"
    assert found.predicted_error == (
        "RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 10, 2) but found runtime "
        "version (9, 1, 0). PyTorch already comes bundled with cuDNN. One option to resolving this error is to ensure "
        "PyTorch can find the bundled cuDNN. Looks like your LD_LIBRARY_PATH contains incompatible version of cudnn. "
        "Please either remove it from the path or install cudnn (9, 10, 2)"
    )


def test_gpu021_an_older_wheel() -> None:
    (found,) = findings("GPU021", cuda=cuda(*cudnn(WHEEL, "9.1.0.70"), builds=TORCH), packages=packages())
    assert [fix.text for fix in found.fix] == ["python -m pip install nvidia-cudnn-cu12==9.10.2.21"]
    assert found.predicted_error is not None
    assert found.predicted_error.endswith("can find the bundled cuDNN. ")


def test_gpu021_another_directory_in_the_variable() -> None:
    facts = cuda(*cudnn("/opt/lib", "9.1.0", via="LD_LIBRARY_PATH"), builds=TORCH)
    (found,) = findings("GPU021", cuda=facts, packages=packages(), variables=variables("/opt/lib"))
    assert found.predicted_error is not None
    assert found.predicted_error.endswith("one possibility is that there is a conflicting cuDNN in LD_LIBRARY_PATH.")


@pytest.mark.parametrize("version", ["9.10.2.21", "9.10.0", "9.20.0.48"])
def test_gpu021_is_silent_on_one_that_is_new_enough(version: str) -> None:
    """PyTorch compares major and minor versions alone."""
    assert findings("GPU021", cuda=cuda(*cudnn(WHEEL, version), builds=TORCH), packages=packages()) == []


def test_gpu021_is_silent_without_a_pin() -> None:
    facts = cuda(*cudnn(WHEEL, "9.1.0.70"), builds=TORCH)
    assert findings("GPU021", cuda=facts, packages=packages("numpy")) == []


# GPU022


def test_gpu022_a_v100_and_cudnn_9_19() -> None:
    facts = cuda(*cudnn(WHEEL, "9.19.0.56"), builds=TORCH)
    (found,) = findings("GPU022", cuda=facts, gpu=gpu("8.0", "7.0", name="Tesla V100-SXM2-16GB"))
    assert judged(found) == ("breaks", "likely")
    assert found.title == "cuDNN 9.19.0 does not run on Tesla V100-SXM2-16GB (compute capability 7.0)"
    assert found.predicted_error is not None
    assert found.predicted_error.startswith(
        "RuntimeError: cuDNN version 91900 is not compatible with devices with SM < 7.5. Please install"
    )


@pytest.mark.parametrize(("version", "capability"), [("9.19.0.56", "7.5"), ("9.10.2.21", "7.0"), ("8.9.2.26", "6.1")])
def test_gpu022_is_silent_on_devices_that_the_family_has(version: str, capability: str) -> None:
    facts = cuda(copy(f"{WHEEL}/libcudnn.so.{version[0]}", version), builds=TORCH)
    assert findings("GPU022", cuda=facts, gpu=gpu(capability)) == []


def test_gpu022_is_silent_without_a_gpu() -> None:
    assert findings("GPU022", cuda=cuda(*cudnn(WHEEL, "9.19.0.56")), gpu=gpu()) == []
