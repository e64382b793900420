"""What runs on which processor. The table was seen under qemu-x86_64; the notes of ELF files are judged for real."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, imported, measured
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.findings import Finding
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction
from driftcheck.snapshot import Snapshot

WHEEL = {"cp311-cp311-manylinux_2_17_x86_64": True}
V1 = {"sse": True, "sse2": True, "pni": True, "cx16": True, "lahf_lm": True}
V2 = V1 | {"ssse3": True, "sse4_1": True, "sse4_2": True, "popcnt": True}
INTERPRETER = {
    "path": "/usr/bin/python3.11",
    "libc": "glibc",
    "loader": "/lib64/ld-linux-x86-64.so.2",
    "machine": "x86_64",
    "bits": 64,
    "missing": {},
    "missing_versions": {},
}


def machine(level: str | None, **facts: Any) -> dict[str, Any]:
    return {"architecture": "x86_64", "level": level, "emulation": None, **facts}


def cpu(flags: dict[str, bool]) -> dict[str, Any]:
    return {"vendor": "GenuineIntel", "model": "made up", "flags": flags}


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


# CPU003


def test_cpu003_numpy_from_2_4_needs_v2() -> None:
    """numpy 2.4.6 under qemu-x86_64 -cpu Penryn printed this text; with -cpu Nehalem (v2) it was imported."""
    packages = distributions(distribution("numpy", "2.4.6", tags=WHEEL))
    (found,) = findings("CPU003", packages=packages, machine=machine("x86-64-v1", cpu=cpu(V1)))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == (
        "RuntimeError: NumPy was built with baseline optimizations: \n(X86_V2) but your machine doesn't support:\n"
        "(X86_V2)."
    )
    assert "ssse3 sse4_1 sse4_2 popcnt" in found.explanation
    assert found.fix[0].text == 'python -m pip install "numpy<2.4"'


def test_cpu003_numpy_1_26_runs_on_v1() -> None:
    """numpy 1.26.4 under qemu-x86_64 -cpu qemu64 was imported."""
    packages = distributions(distribution("numpy", "1.26.4", tags=WHEEL))
    assert findings("CPU003", packages=packages, machine=machine("x86-64-v1", cpu=cpu(V1))) == []


def test_cpu003_tensorflow_needs_avx_which_some_v2_processors_have() -> None:
    packages = distributions(distribution("tensorflow-cpu", "2.15.1", tags=WHEEL))
    nehalem = findings("CPU003", packages=packages, machine=machine("x86-64-v2", cpu=cpu(V2)))
    sandy_bridge = findings("CPU003", packages=packages, machine=machine("x86-64-v2", cpu=cpu(V2 | {"avx": True})))
    assert [judged(found) for found in nehalem] == [("breaks", "likely")]
    assert sandy_bridge == []


def test_cpu003_without_flags_the_level_decides() -> None:
    packages = distributions(distribution("numpy", "2.4.6", tags=WHEEL))
    assert findings("CPU003", packages=packages, machine=machine("x86-64-v1"))
    assert findings("CPU003", packages=packages, machine=machine("x86-64-v2")) == []
    assert findings("CPU003", packages=packages, machine=machine(None)) == []


def test_cpu003_a_wheel_that_was_compiled_on_the_spot_is_not_in_the_table() -> None:
    packages = distributions(distribution("numpy", "2.4.6", tags={"cp311-cp311-linux_x86_64": True}))
    assert findings("CPU003", packages=packages, machine=machine("x86-64-v1")) == []


# CPU004


def test_cpu004_an_image_for_amd64_on_an_arm_node() -> None:
    libraries = {"interpreter": INTERPRETER}
    (found,) = findings("CPU004", libraries=libraries, machine=machine(None, architecture="aarch64"))
    assert judged(found) == ("breaks", "certain")
    assert found.predicted_error == "exec /usr/bin/python3.11: exec format error"
    assert "--platform linux/arm64" in found.fix[0].text


def test_cpu004_put_on_a_machine_that_may_translate_it_is_likely() -> None:
    placed = snapshot("placed", libraries={"interpreter": INTERPRETER}, machine=machine(None, architecture="aarch64"))
    placed.header["on"] = {"label": "node", "reference": "node.json"}
    (found,) = contradictions("CPU004", placed)
    assert judged(found) == ("breaks", "likely")


@pytest.mark.parametrize(
    ("program", "here", "emulation"),
    [
        ("x86_64", "x86_64", None),
        ("i386", "x86_64", None),
        ("x86_64", "aarch64", "qemu-user"),
        ("arm", "aarch64", None),
    ],
)
def test_cpu004_is_silent(program: str, here: str, emulation: str | None) -> None:
    libraries = {"interpreter": INTERPRETER | {"machine": program}}
    here_facts = machine(None, architecture=here) | {"emulation": emulation}
    assert findings("CPU004", libraries=libraries, machine=here_facts) == []


# CPU005


def test_cpu005_a_system_for_v2_on_a_v1_processor() -> None:
    """The text is what UBI 9 prints: github.com/Unstructured-IO/unstructured-api/issues/497."""
    stated = {"level": 2, "file": "/lib64/libc.so.6"}
    libraries = {"interpreter": INTERPRETER | {"x86_64_level": stated}}
    (found,) = findings("CPU005", libraries=libraries, machine=machine("x86-64-v1"))
    assert judged(found) == ("breaks", "certain")
    assert found.predicted_error == "Fatal glibc error: CPU does not support x86-64-v2"
    assert findings("CPU005", libraries=libraries, machine=machine("x86-64-v2")) == []
    assert findings("CPU005", libraries=libraries, machine=machine(None)) == []


# CPU006, on real files: gcc writes the note, and the loader under qemu-user reads it.


@pytest.fixture
def built(tmp_path: Path) -> Builder:
    builder = Builder(tmp_path / "site")
    builder.module("demo/_x", flags=["-Wl,-z,x86-64-v3"])
    builder.module("demo/_plain")
    builder.write("demo/__init__.py")
    builder.distribution("demo")
    return builder


def contradictions(code: str, target: Snapshot) -> list[Finding]:
    rule = next(rule for rule in all_rules() if rule.code == code)
    assert isinstance(rule, Contradiction)
    return list(rule.check(target, None))


def on(target: Snapshot, level: str) -> Snapshot:
    return Snapshot(target.header, target.sections | snapshot("machine", machine=machine(level)).sections)


def test_cpu006_is_what_the_loader_says_on_such_a_processor(built: Builder) -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-user is not installed")
    target = measured(built.folder)
    emulated = [qemu, "-cpu", "Nehalem", str(Path(sys.executable).resolve())]
    (found,) = contradictions("CPU006", on(target, "x86-64-v2"))
    assert judged(found) == ("breaks", "certain")
    assert imported("demo._x", built.folder, before=emulated).line == found.predicted_error
    assert not imported("demo._plain", built.folder, before=emulated).failed


def test_cpu006_is_silent_where_the_processor_has_the_level(built: Builder) -> None:
    target = measured(built.folder)
    assert contradictions("CPU006", on(target, "x86-64-v3")) == []
    assert [finding.subject.name for finding in contradictions("CPU006", on(target, "x86-64-v2"))] == [
        "demo/_x.abi3.so"
    ]


def test_cpu006_a_library_that_is_there_only_for_newer_processors() -> None:
    def answer(path: str) -> dict[str, Any]:
        record: dict[str, Any] = {
            "reason": "default",
            "assumption": "hwcaps",
            "offers": {},
            "distribution": None,
            "package": None,
        }
        return {"libfast.so.1": {path: record}}

    newer = {"libraries": answer("/usr/lib/glibc-hwcaps/x86-64-v3/libfast.so.1")}
    (found,) = findings("CPU006", libraries=newer, machine=machine("x86-64-v2"))
    assert found.predicted_error == (
        "ImportError: libfast.so.1: cannot open shared object file: No such file or directory"
    )
    assert findings("CPU006", libraries=newer, machine=machine("x86-64-v3")) == []
    plain = {"libraries": answer("/usr/lib/libfast.so.1")}
    assert findings("CPU006", libraries=plain, machine=machine("x86-64-v1")) == []
