"""Family GPU: NCCL for another CUDA, and NCCL that is too old; on made-up facts and on files that gcc makes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, imported, measured
from support.cuda_facts import build, copy, cuda
from support.cuda_facts import gpu as machine
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.explain import explain_one
from driftcheck.findings import Finding

WHEEL = "nvidia/nccl/lib/libnccl.so.2"
TORCH = {"torch": build(version="2.9.0", accelerator="cuda", cuda="12.8")}
PIN = "nvidia-nccl-cu12==2.27.5"


def nccl(version: str, built_with: str | None, **facts: Any) -> dict[str, dict[str, Any]]:
    stated = {} if built_with is None else {"cuda": built_with}
    return copy(WHEEL, version, version_from="constants", distribution="nvidia-nccl-cu13", **stated) | facts


def driver(level: str, *capabilities: str) -> dict[str, Any]:
    libcuda = {"path": "/usr/lib/libcuda.so.1", "version": None, "cuda": level, "init": 0}
    return machine(*(capabilities or ("9.0", "9.0")), cuda=level, libcuda=libcuda)


def packages(*others: Any) -> dict[str, Any]:
    return distributions(distribution("torch", "2.9.0", requires={PIN: ""}), *others)


def judged(found: Finding) -> tuple[str, str]:
    return found.impact.value, found.confidence.value


# GPU038


def test_gpu038_the_driver_is_too_old_for_nccl_alone() -> None:
    facts = cuda(nccl("2.29.7", "13.2"), builds=TORCH)
    (found,) = findings("GPU038", cuda=facts, gpu=driver("12.2"), packages=packages())
    assert judged(found) == ("breaks", "likely")
    assert found.title == (
        "NCCL 2.29.7 was built with CUDA 13.2, and does not start on the driver 580.65.06 (CUDA 12.2)"
    )
    assert found.predicted_error == "Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'"
    assert [fix.text for fix in found.fix] == [
        "python -m pip install --force-reinstall --no-deps nvidia-nccl-cu12==2.27.5"
    ]


def test_gpu038_the_wheel_that_nobody_requires_goes_first() -> None:
    """It owns the very file that the other brings, so to remove it later would remove that file."""
    facts = cuda(nccl("2.29.7", "13.2"), builds=TORCH)
    both = packages(distribution("nvidia-nccl-cu12", "2.27.5"), distribution("nvidia-nccl-cu13", "2.29.7"))
    (found,) = findings("GPU038", cuda=facts, gpu=driver("12.2"), packages=both)
    assert [fix.text for fix in found.fix] == [
        "python -m pip uninstall -y nvidia-nccl-cu13",
        "python -m pip install --force-reinstall --no-deps nvidia-nccl-cu12==2.27.5",
    ]
    needed = distribution("jax-cuda13-plugin", "0.8", requires={"nvidia-nccl-cu13": ""})
    more = {"distributions": both["distributions"] | distributions(needed)["distributions"]}
    (found,) = findings("GPU038", cuda=facts, gpu=driver("12.2"), packages=both | more)
    assert len(found.fix) == 1


def test_gpu038_one_gpu_alone_may_never_ask_nccl() -> None:
    facts = cuda(nccl("2.29.7", "13.2"), builds=TORCH)
    (found,) = findings("GPU038", cuda=facts, gpu=driver("12.2", "9.0"))
    assert judged(found) == ("breaks", "possible")


@pytest.mark.parametrize(
    ("level", "built_with"),
    [
        ("13.0", "13.2"),  # minor version compatibility
        ("13.0", "12.9"),  # a newer driver is never a reason
        ("12.2", "12.9"),
        ("12.2", None),  # nothing is stated
        ("11.4", "13.2"),  # torch does not start either: GPU001
    ],
)
def test_gpu038_silent(level: str, built_with: str | None) -> None:
    facts = cuda(nccl("2.29.7", built_with), builds=TORCH)
    assert findings("GPU038", cuda=facts, gpu=driver(level)) == []


def test_gpu038_without_a_framework_for_cuda_nobody_asks() -> None:
    facts = cuda(nccl("2.29.7", "13.2"), builds={"torch": build(version="2.9.0", accelerator="cpu")})
    assert findings("GPU038", cuda=facts, gpu=driver("12.2")) == []


def test_gpu038_without_a_driver_the_frameworks_are_asked() -> None:
    facts = cuda(nccl("2.29.7", "13.2"), builds=TORCH)
    (found,) = findings("GPU038", cuda=facts)
    assert judged(found) == ("breaks", "possible")
    assert found.title == "NCCL 2.29.7 was built with CUDA 13.2, and torch for CUDA 12.8"
    assert findings("GPU038", cuda=cuda(nccl("2.27.5", "12.9"), builds=TORCH)) == []
    unknown = {"torch": build(version="2.9.0", accelerator="cuda")}
    assert findings("GPU038", cuda=cuda(nccl("2.29.7", "13.2"), builds=unknown)) == []


def test_gpu038_the_variable_leads_to_it() -> None:
    other = copy("/usr/local/nccl/lib/libnccl.so.2.29.7", "2.29.7", via="LD_LIBRARY_PATH", cuda="13.2")
    facts = cuda(nccl("2.27.5", "12.9"), other, builds=TORCH)
    (found,) = findings("GPU038", cuda=facts, gpu=driver("12.2"))
    assert [fix.text for fix in found.fix] == ["LD_LIBRARY_PATH without /usr/local/nccl/lib"]


def test_gpu038_is_an_effect_of_the_variable_that_hides_the_wheel() -> None:
    other = copy("/usr/local/nccl/lib/libnccl.so.2.29.7", "2.29.7", via="LD_LIBRARY_PATH", cuda="13.2")
    facts = cuda(nccl("2.27.5", "12.9"), other, builds=TORCH)
    explanation = explain_one(snapshot("target", cuda=facts, gpu=driver("12.2")))
    assert {one.code: one.caused_by for one in explanation.findings}["GPU038"] == (
        "GPU023",
        "directory",
        "/usr/local/nccl/lib",
    )


def test_gpu038_is_an_effect_of_two_wheels_in_one_directory() -> None:
    both = packages(distribution("nvidia-nccl-cu12", "2.27.5"), distribution("nvidia-nccl-cu13", "2.29.7"))
    shared = {"location": "/site", "count": 3, "different": 2, "examples": {WHEEL: True}}
    both["shared_files"] = {"nvidia-nccl-cu12 nvidia-nccl-cu13": shared}
    facts = cuda(nccl("2.29.7", "13.2"), builds=TORCH)
    explanation = explain_one(snapshot("target", cuda=facts, gpu=driver("12.2"), packages=both))
    causes = {one.code: one.caused_by for one in explanation.findings}
    assert causes["GPU038"] == ("GPU036", "distributions", "nvidia-nccl-cu12 nvidia-nccl-cu13")


# GPU039


def test_gpu039_older_than_the_pin() -> None:
    facts = cuda(nccl("2.21.5", "12.4"), builds=TORCH)
    (found,) = findings("GPU039", cuda=facts, packages=packages())
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "NCCL 2.21.5 would be loaded, and torch was built with 2.27.5"
    assert found.predicted_error is None


@pytest.mark.parametrize("version", ["2.27.3", "2.27.5", "2.29.7"])
def test_gpu039_silent(version: str) -> None:
    assert findings("GPU039", cuda=cuda(nccl(version, "12.9"), builds=TORCH), packages=packages()) == []


def test_gpu039_has_the_pin_that_does_not_hold_under_it() -> None:
    facts = {
        "python": python(),
        "cuda": cuda(nccl("2.21.5", "12.4"), builds=TORCH),
        "packages": packages(distribution("nvidia-nccl-cu12", "2.21.5")),
    }
    explanation = explain_one(snapshot("target", **facts))
    causes = {one.code: one.caused_by for one in explanation.findings}
    assert causes["PKG001"] == ("GPU039", "library", "libnccl.so.2")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("offered", [["ncclMemFree"], ["ncclAllReduce"]])
def test_gpu039_a_function_that_an_old_nccl_lacks(offered: list[str], tmp_path: Path) -> None:
    """As nvidia-nccl-cu11 leaves it, which is written into the directory of nvidia-nccl-cu12."""
    made = Builder(tmp_path / "site")
    new = Builder(tmp_path / "new").library("libnccl.so.2", defines=["ncclMemFree"])
    made.library("nvidia/nccl/lib/libnccl.so.2", defines=offered, soname="libnccl.so.2")
    made.module("fake/_C", calls=["ncclMemFree"], links=[new], runpath="$ORIGIN/../nvidia/nccl/lib")
    made.write("fake/__init__.py", "from . import _C\n")
    made.distribution("fake")
    facts = measured(made.folder, sections=("libraries", "packages", "python", "variables", "cuda"))
    ended = imported("fake._C", made.folder)
    found = [one for one in explain_one(facts).findings if one.code == "GPU039"]
    assert bool(found) == ended.failed == ("ncclMemFree" not in offered)
    for one in found:
        assert one.predicted_error == ended.line
        assert one.confidence.value == "certain"
        assert one.title.endswith("needs NCCL 2.19.3 or newer, and the NCCL that is there answers")
        below = [other for other in explain_one(facts).findings if other.code == "LIB003"]
        assert [other.caused_by for other in below] == [("GPU039", "library", "libnccl.so.2")]
