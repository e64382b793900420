"""The tables about model files: without gaps, monotone where they should be, and in step with each other."""

from __future__ import annotations

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from driftcheck.knowledge import model_files
from driftcheck.knowledge.tables import in_range, table


def lower(versions: str) -> Version:
    (bound,) = (entry for entry in SpecifierSet(versions) if entry.operator == ">=")
    return Version(bound.version)


def test_a_newer_onnxruntime_reads_no_less() -> None:
    rows = model_files.onnx_limits()
    assert [lower(row.versions) for row in rows] == sorted(lower(row.versions) for row in rows)
    assert [row.ir for row in rows] == sorted(row.ir for row in rows)
    assert [row.opset for row in rows] == sorted(row.opset for row in rows)


def test_each_onnxruntime_has_one_row() -> None:
    for minor in range(5, 32):
        found = [row for row in model_files.onnx_limits() if in_range(row.versions, f"1.{minor}.1")]
        assert len(found) == 1, minor
        assert found[0].measured == (minor >= 14)


@pytest.mark.parametrize("version", [None, "", "no version", "1.32.0", "2.0", "1.4.0"])
def test_of_other_versions_nothing_is_known(version: str | None) -> None:
    assert model_files.onnx_limits_of(version) is None


def test_an_ir_version_is_never_older_than_what_onnx_writes_for_the_opset() -> None:
    """onnx/helper.py, VERSION_TABLE: the IR version that came with an opset, so that its models can be read."""
    written = {15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}
    for row in model_files.onnx_limits():
        if row.measured:
            assert row.ir >= written[row.opset]


def test_a_type_of_safetensors_has_one_row() -> None:
    names = [name for row in table("safetensors-types")["rows"] for name in row["types"]]
    assert len(set(names)) == len(names)
    bounds = [lower(row["versions"]) for row in table("safetensors-types")["rows"]]
    assert bounds == sorted(set(bounds))


def test_names_that_torch_allows() -> None:
    allowed = model_files.torch_allowed()
    assert {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"} <= allowed
    assert not any(name.partition(".")[0] in {"os", "sys", "posix", "nt", "numpy"} for name in allowed)
    names = [name for row in table("torch-weights-only")["rows"] for name in row["names"]]
    assert len(set(names)) == len(names)
