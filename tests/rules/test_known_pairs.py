"""PKG012 on made-up facts."""

from __future__ import annotations

import pytest
from support.snapshots import distribution, distributions, findings

from driftcheck.findings import Finding
from driftcheck.knowledge import tables


def pair(**versions: str) -> list[Finding]:
    records = [distribution(name.replace("_", "-"), version) for name, version in versions.items()]
    return findings("PKG012", packages=distributions(*records))


def test_pkg012_a_name_that_is_gone() -> None:
    (found,) = pair(diffusers="0.28.0", huggingface_hub="0.26.5")
    assert (found.impact.value, found.confidence.value) == ("breaks", "likely")
    assert found.title == "diffusers 0.28.0 does not work beside huggingface-hub 0.26.5"
    assert found.predicted_error == "ImportError: cannot import name 'cached_download' from 'huggingface_hub'"
    assert [fix.text for fix in found.fix] == ['python -m pip install "huggingface-hub<0.26"']


def test_pkg012_setuptools_that_is_not_there_at_all() -> None:
    (found,) = pair(lightning_utilities="0.11.2")
    assert found.title == "lightning-utilities 0.11.2 does not work without setuptools"
    assert len(pair(lightning_utilities="0.11.2", setuptools="84.2.1")) == 1
    assert pair(lightning_utilities="0.11.2", setuptools="81.0.0") == []


def test_pkg012_only_beside_another_and_unless_a_third() -> None:
    (found,) = pair(transformers="4.46.3", keras="3.6.0", tensorflow="2.18.0")
    assert found.confidence.value == "possible"
    assert pair(transformers="4.46.3", keras="3.6.0") == []
    assert pair(transformers="4.46.3", keras="3.6.0", tensorflow="2.18.0", tf_keras="2.18.0") == []


NUMPY_1 = {"pyarrow": "26.0.1", "numpy": "1.26.4"}


@pytest.mark.parametrize(
    ("known", "typed"),
    [
        (None, '"pyarrow<26"'),
        ({"pyarrow": "26.0.1", "numpy": "2.3.3"}, "numpy==2.3.3"),
        ({"pyarrow": "25.0.1", "numpy": "1.26.4"}, "pyarrow==25.0.1"),
        ({"pyarrow": "26.0.1"}, '"pyarrow<26"'),
        (NUMPY_1, '"pyarrow<26"'),
    ],
    ids=str,
)
def test_pkg012_the_error_names_the_other_and_the_baseline_knows_what_to_type(
    known: dict[str, str] | None, typed: str
) -> None:
    baseline = {"packages": distributions(*(distribution(*one) for one in known.items()))} if known else None
    packages = distributions(*(distribution(*one) for one in NUMPY_1.items()))
    (found,) = findings("PKG012", baseline=baseline, packages=packages)
    assert found.predicted_error == "ImportError: pyarrow requires NumPy 2.0 or newer, found 1.26.4"
    assert [fix.text for fix in found.fix] == [f"python -m pip install {typed}"]


@pytest.mark.parametrize(
    "versions",
    [
        {"diffusers": "0.29.2", "huggingface_hub": "0.26.5"},
        {"diffusers": "0.28.0", "huggingface_hub": "0.25.2"},
        {"diffusers": "0.28.0"},
        {"pyarrow": "26.0.1"},
        {"pyarrow": "26.0.1", "numpy": "2.0.0"},
        {"pyarrow": "25.0.1", "numpy": "1.26.4"},
        {"diffusers": "no version", "huggingface_hub": "0.26.5"},
        {"huggingface_hub": "0.26.5"},
    ],
    ids=str,
)
def test_pkg012_silent(versions: dict[str, str]) -> None:
    assert pair(**versions) == []


def test_pkg012_what_the_metadata_forbids_is_left_to_pkg001() -> None:
    owner = distribution("tensorboard", "2.8.0", requires={"protobuf<3.20": ""})
    packages = distributions(owner, distribution("protobuf", "4.25.3"))
    assert findings("PKG012", packages=packages) == []
    assert len(findings("PKG001", packages=packages)) == 1


def test_no_pair_is_likely_that_was_only_read() -> None:
    for row in tables.table("incompatible-pairs")["rows"]:
        assert row["confidence"] == "possible" or row["seen"], row
