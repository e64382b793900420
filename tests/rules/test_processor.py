"""Family CPU on made-up facts. What its table says was seen under qemu-x86_64; each row names the CPUs."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.diff import changes
from driftcheck.explain import explain_pair
from driftcheck.findings import Finding

WHEEL = {"cp311-cp311-manylinux_2_17_x86_64": True}
ARM = python(
    platform={"machine": "aarch64", "tag": "linux-aarch64"},
    soabi="cpython-311-aarch64-linux-gnu",
    tags={"platforms": ["manylinux_2_36_aarch64", "manylinux_2_17_aarch64", "linux_aarch64"]},
)

V1 = {"sse": True, "sse2": True, "pni": True, "cx16": True, "lahf_lm": True}
V2 = V1 | {"ssse3": True, "sse4_1": True, "sse4_2": True, "popcnt": True}


def machine(level: str | None, **facts: Any) -> dict[str, Any]:
    return {"architecture": "x86_64", "level": level, "emulation": None, **facts}


def cpu(flags: dict[str, bool]) -> dict[str, Any]:
    return {"vendor": "GenuineIntel", "model": "made up", "flags": flags}


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


# CPU001


def test_cpu001_wheels_of_the_other_architecture_break() -> None:
    packages = distributions(distribution("numpy", "2.1.0", tags=WHEEL), distribution("six"))
    (found,) = findings("CPU001", baseline={}, python=ARM, packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "aarch64 instead of x86_64, with wheels for x86_64"
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"


def test_cpu001_wheels_that_fit_may_change_results() -> None:
    packages = distributions(distribution("numpy", tags={"cp311-cp311-manylinux_2_17_aarch64": True}))
    (found,) = findings("CPU001", baseline={}, python=ARM, packages=packages)
    assert judged(found) == ("changes-results", "possible")
    assert [fix.text for fix in found.fix] == ["--platform linux/amd64"]


def test_cpu001_a_universal_wheel_fits() -> None:
    mac = python(
        platform={"system": "darwin", "machine": "arm64", "tag": "macosx-11.0-arm64"},
        tags={"platforms": ["macosx_11_0_arm64", "macosx_11_0_universal2"]},
    )
    packages = distributions(distribution("numpy", tags={"cp311-cp311-macosx_11_0_universal2": True}))
    (found,) = findings("CPU001", baseline={}, python=mac, packages=packages)
    assert found.impact.value == "changes-results"


def test_cpu001_is_silent_on_one_architecture_by_two_names() -> None:
    assert findings("CPU001", baseline={}) == []
    windows = python(platform={"system": "win32", "machine": "amd64", "tag": "win-amd64"})
    assert findings("CPU001", baseline={}, python=windows) == []


def test_cpu001_folds_the_processor_and_the_tags() -> None:
    def side(facts: dict[str, Any], name: str, os_packages: dict[str, str]) -> Any:
        wheel = distribution(
            "numpy", tags={f"cp311-cp311-manylinux_2_17_{name}": True}, record={"digest": name, "files": 1}
        )
        return snapshot(
            name,
            python=facts,
            packages=distributions(wheel),
            machine=machine(None, architecture=name, cpu=cpu({})) | {"memory_bytes": len(name)},
            system={"packages": {"manager": "dpkg", "packages": os_packages}},
        )

    before = side(python(), "x86_64", {"bash": "5.2", "binutils-x86-64-linux-gnu": "2.40"})
    after = side(ARM, "aarch64", {"bash": "5.3", "binutils-aarch64-linux-gnu": "2.40"})
    explanation = explain_pair(before, after)
    (cause,) = [finding for finding in explanation.findings if finding.code == "CPU001"]
    left = {change.path for change in changes(before, after)} - set(cause.folds)
    assert left == {("machine", "memory_bytes"), ("system", "packages", "packages", "bash")}


# CPU002


def test_cpu002_a_lower_level_rounds_differently() -> None:
    baseline = {"machine": machine("x86-64-v3")}
    packages = distributions(distribution("numpy", "1.26.4", tags=WHEEL))
    (numerical,) = findings("CPU002", baseline=baseline, packages=packages, machine=machine("x86-64-v2"))
    (other,) = findings("CPU002", baseline=baseline, machine=machine("x86-64-v2"))
    assert [judged(one) for one in (numerical, other)] == [
        ("changes-results", "likely"),
        ("changes-results", "possible"),
    ]


def test_cpu002_a_higher_level_is_a_note() -> None:
    (found,) = findings("CPU002", baseline={"machine": machine("x86-64-v2")}, machine=machine("x86-64-v4", cpu=cpu({})))
    assert judged(found) == ("note", "certain")


@pytest.mark.parametrize(("before", "after"), [("x86-64-v3", "x86-64-v3"), (None, "x86-64-v1"), ("x86-64-v1", None)])
def test_cpu002_is_silent(before: str | None, after: str | None) -> None:
    assert findings("CPU002", baseline={"machine": machine(before)}, machine=machine(after)) == []
