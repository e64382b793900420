"""Family GPU: another version of a CUDA library computes."""

from __future__ import annotations

from typing import Any

import pytest
from support.cuda_facts import build, copy, cuda
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.explain import explain_pair

TORCH = {"torch": build(accelerator="cuda", cuda="12.8", version="2.9.0+cu128")}
CUDNN = "nvidia/cudnn/lib/libcudnn.so.9"
CUBLAS = "nvidia/cublas/lib/libcublas.so.12"


def side(cudnn: str, cublas: str = "12.8.4.1", **more: Any) -> dict[str, Any]:
    """Facts of one environment with these versions from wheels."""
    return {
        "cuda": cuda(copy(CUDNN, cudnn), copy(CUBLAS, cublas), builds=TORCH) | more,
        "packages": distributions(
            distribution("nvidia-cudnn-cu12", cudnn),
            distribution("nvidia-cublas-cu12", cublas),
        ),
    }


def test_gpu037_another_cudnn() -> None:
    (found,) = findings("GPU037", baseline=side("9.10.2.21"), **side("9.19.0.56"))
    assert (found.impact.value, found.confidence.value) == ("changes-results", "possible")
    assert found.title == "cudnn 9.19.0 computes instead of 9.10.2"
    assert [fix.text for fix in found.fix] == ["python -m pip install nvidia-cudnn-cu12==9.10.2.21"]


def test_gpu037_counts_and_folds() -> None:
    before, after = side("9.10.2.21"), side("9.19.0.56", "12.9.1.4")
    explanation = explain_pair(snapshot("before", **before), snapshot("after", **after))
    (found,) = [finding for finding in explanation.findings if finding.code == "GPU037"]
    assert found.title == "cudnn 9.19.0 computes instead of 9.10.2, and 1 more CUDA library"
    folded = set(found.folds)
    assert ("packages", "distributions", "nvidia-cublas-cu12", "version") in folded
    assert ("cuda", "libraries", "cudnn", CUDNN, "version") in folded


def test_gpu037_leaves_what_hides_a_wheel_to_gpu023() -> None:
    image = copy("/usr/local/cuda/lib64/libcudnn.so.9", "9.1.0", via="LD_LIBRARY_PATH")
    target = cuda(copy(CUDNN, "9.10.2.21"), copy(CUBLAS, "12.8.4.1"), image, builds=TORCH)
    assert findings("GPU037", baseline=side("9.10.2.21"), cuda=target) == []
    assert len(findings("GPU023", cuda=target)) == 1
    alone = cuda(copy(CUBLAS, "12.8.4.1"), image, builds=TORCH)  # an image that has no such wheel
    (found,) = findings("GPU037", baseline=side("9.10.2.21"), cuda=alone)
    assert found.title == "cudnn 9.1.0 computes instead of 9.10.2"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (side("9.10.2.21"), side("9.10.2.21")),
        (side("9.10.2.21"), side("9.10.2.99")),  # three numbers are compared: the fourth is of the package
        (side("9.10.2.21"), side("9")),
        (side("9.10.2.21"), {"cuda": cuda(copy(CUDNN, "9.19.0.56"))}),  # nothing there was built for CUDA
    ],
)
def test_gpu037_is_silent(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert findings("GPU037", baseline=before, **after) == []
