"""The tables about CUDA libraries: ordered, without gaps or overlaps, and in step with what states the same."""

from __future__ import annotations

import itertools

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from driftcheck.knowledge import gpu_libraries as known
from driftcheck.knowledge import tables


def bounds(specifier: str) -> tuple[Version, Version | None]:
    """The lowest version that a specifier names, and the first that it excludes."""
    entries = {entry.operator: Version(entry.version) for entry in SpecifierSet(specifier)}
    return entries[">="], entries.get("<")


def test_families_of_cudnn_follow_one_another_and_drop_old_devices_only() -> None:
    rows = known.cudnn_families()
    for one, other in itertools.pairwise(rows):
        assert bounds(one.versions)[1] == bounds(other.versions)[0]
        assert one.lowest_capability <= other.lowest_capability


def test_releases_of_nccl_ascend_and_bring_each_function_once() -> None:
    rows = known.nccl_releases()
    versions = [Version(row.version) for row in rows]
    assert versions == sorted(set(versions))
    functions = [function for row in rows for function in row.functions]
    assert len(functions) == len(set(functions))


def test_the_nccl_that_brought_a_function() -> None:
    """``ncclAllReduce`` is in every wheel there is; the twins for profilers came with their functions."""
    asked = ("ncclMemFree", "pncclMemFree", "ncclCommResume", "ncclAllReduce", "ncclNothing")
    assert [known.nccl_of(name) for name in asked] == [(2, 19, 3), (2, 19, 3), (2, 29, 7), None, None]


def test_generations_of_onnxruntime_follow_one_another() -> None:
    rows = known.onnxruntime_gpu()
    for one, other in itertools.pairwise(rows):
        assert bounds(one.versions)[1] == bounds(other.versions)[0]
        assert int(one.cuda) <= int(other.cuda)


def test_a_generation_of_onnxruntime_was_measured_where_it_begins_and_where_it_ends() -> None:
    for row in tables.table("onnxruntime-gpu")["rows"]:
        low, high = bounds(row["versions"])
        measured = [Version(version) for version in row["measured_in"]]
        assert measured == sorted(measured)
        assert measured[0] == low
        assert high is not None
        assert all(low <= version < high for version in measured)


def test_the_sonames_of_onnxruntime_are_those_of_its_cuda() -> None:
    for row in known.onnxruntime_gpu():
        (cudart,) = [name for name in row.sonames if name.startswith("libcudart.")]
        assert cudart.split(".so.")[1].split(".")[0] == row.cuda
        cudnn = [name.split(".so.")[1] for name in row.sonames if name.startswith("libcudnn.")]
        assert cudnn == ([row.cudnn] if row.cudnn else [])


def test_the_newest_onnxruntime_for_a_cuda() -> None:
    found = {cuda: known.onnxruntime_for(cuda) for cuda in ("11", "12", "13", "10")}
    assert {cuda: row.versions if row else None for cuda, row in found.items()} == {
        "11": ">=1.12.1,<1.19",
        "12": ">=1.19,<1.27",
        "13": ">=1.28,<1.32",
        "10": None,
    }


def test_what_is_opened_by_name_is_sorted_by_distribution() -> None:
    rows = known.opened_libraries()
    names = [row.distribution for row in rows]
    assert names == sorted(names)
    for row in rows:
        assert canonicalize_name(row.distribution) == row.distribution
        assert row.predicted_error.strip() == row.predicted_error != ""
        if row.versions is not None:
            SpecifierSet(row.versions)


def test_devices_of_ptxas_are_ordered_and_their_toolkits_too() -> None:
    rows = known.ptxas_devices()
    assert [row.capability for row in rows] == sorted({row.capability for row in rows})
    for row in rows:
        assert row.first is None or row.last is None or row.first <= row.last


def test_what_a_ptxas_knows() -> None:
    """As ``ptxas --help`` of these toolkits lists it."""
    assert known.ptxas_knows((9, 0), (12, 4)) is True
    assert known.ptxas_knows((12, 0), (12, 6)) is False
    assert known.ptxas_knows((12, 0), (12, 8)) is True
    assert known.ptxas_knows((12, 1), (12, 8)) is False
    assert known.ptxas_knows((7, 0), (12, 9)) is True
    assert known.ptxas_knows((7, 0), (13, 0)) is False
    assert known.ptxas_knows((99, 0), (13, 0)) is None
