"""The tables about model files as values. Each row of each table names its source and the date when it was read."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge.tables import in_range, table


@dataclass(frozen=True)
class OnnxLimits:
    """The highest IR version and opset that some versions of onnxruntime load.

    ``measured``  tried for real; else only its documentation says so
    """

    versions: str
    ir: int
    opset: int
    measured: bool


@functools.cache
def onnx_limits() -> tuple[OnnxLimits, ...]:
    """By version of onnxruntime, ascending."""
    return tuple(
        OnnxLimits(row["versions"], row["ir"], row["opset"], row["seen"] is not None)
        for row in table("onnxruntime-opsets")["rows"]
    )


def onnx_limits_of(version: str | None) -> OnnxLimits | None:
    """Of one version of onnxruntime; None for one that the table does not know, as every newer one."""
    return next((row for row in onnx_limits() if in_range(row.versions, version)), None)


@functools.cache
def safetensors_types() -> dict[str, str]:
    """``{"F8_E4M3": ">=0.4.1"}``: the versions of safetensors that know a type."""
    return {name: row["versions"] for row in table("safetensors-types")["rows"] for name in row["types"]}


@functools.cache
def torch_allowed() -> frozenset[str]:
    """What a file may name for torch.load with weights_only, at once or after an import."""
    return frozenset(name for row in table("torch-weights-only")["rows"] for name in row["names"])
