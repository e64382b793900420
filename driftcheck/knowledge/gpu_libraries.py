"""The tables about CUDA libraries as values. Each row of each table names its source and the date when it was read."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from driftcheck.knowledge import tables


@dataclass(frozen=True)
class CudnnFamily:
    """``lowest_capability``: the oldest devices that these versions run on, as (major, minor)."""

    versions: str
    lowest_capability: tuple[int, int]
    cuda: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class NcclRelease:
    """A release of NCCL, and the functions that it brought."""

    version: str
    functions: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class OnnxruntimeGpu:
    """One generation of published wheels: the CUDA (``"12"``) and the cuDNN that its CUDA provider needs."""

    versions: str
    cuda: str
    cudnn: str | None
    sonames: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class OpenedLibraries:
    """Libraries that a distribution opens by name when it first computes on a GPU; it needs all in ``opens``.

    ``finds_wheels``  it looks into the wheels nvidia-* by itself
    """

    distribution: str
    versions: str | None
    opens: tuple[str, ...]
    finds_wheels: bool
    needed_for: str
    predicted_error: str
    impact: str
    pip: str
    source: str


@dataclass(frozen=True)
class PtxasDevice:
    """Toolkits, as (major, minor), whose ptxas translates for a device; None where that end is open."""

    capability: tuple[int, int]
    first: tuple[int, int] | None
    last: tuple[int, int] | None
    source: str


@functools.cache
def cudnn_families() -> tuple[CudnnFamily, ...]:
    return tuple(
        CudnnFamily(row["versions"], _pair(row["lowest_capability"]), tuple(row["cuda"]), row["source"])
        for row in tables.table("cudnn-families")["rows"]
    )


@functools.cache
def nccl_releases() -> tuple[NcclRelease, ...]:
    """Those that brought functions, oldest first."""
    return tables.rows(NcclRelease, "nccl-releases")


def nccl_of(function: str) -> tuple[int, ...] | None:
    """The version of NCCL that brought a function (``ncclMemFree``, or its twin for profilers ``pncclMemFree``); None
    for one that the table does not know, or that its oldest release has already.
    """
    for row in nccl_releases()[1:]:
        if function.removeprefix("p") in row.functions:
            return tuple(int(part) for part in row.version.split("."))
    return None


@functools.cache
def onnxruntime_gpu() -> tuple[OnnxruntimeGpu, ...]:
    return tables.rows(OnnxruntimeGpu, "onnxruntime-gpu")


@functools.cache
def opened_libraries() -> tuple[OpenedLibraries, ...]:
    return tables.rows(OpenedLibraries, "cuda-opened")


@functools.cache
def ptxas_devices() -> tuple[PtxasDevice, ...]:
    return tuple(
        PtxasDevice(
            _pair(row["capability"]),
            _pair(row["first"]) if row["first"] else None,
            _pair(row["last"]) if row["last"] else None,
            row["source"],
        )
        for row in tables.table("ptxas-devices")["rows"]
    )


def onnxruntime_for(cuda: str) -> OnnxruntimeGpu | None:
    """The newest generation of onnxruntime-gpu for one generation of CUDA (``"12"``)."""
    return next((row for row in reversed(onnxruntime_gpu()) if row.cuda == cuda), None)


def ptxas_knows(capability: tuple[int, int], toolkit: tuple[int, int]) -> bool | None:
    """Whether the ptxas of a toolkit translates for a device; None for a device that is not in the table."""
    row = next((row for row in ptxas_devices() if row.capability == capability), None)
    if row is None:
        return None
    return (row.first is None or row.first <= toolkit) and (row.last is None or toolkit <= row.last)


def _pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
