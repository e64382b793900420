"""The machine probe: cpuinfo of several architectures, emulators, psABI levels against the dynamic loader."""

# ruff: noqa: E501 (lines of real files are quoted whole)

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from driftcheck.probes import common, cpu_levels, machine
from hypothesis import given
from hypothesis import strategies as st

XEON_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht syscall "
    "nx pdpe1gb rdtscp lm constant_tsc rep_good nopl pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe "
    "popcnt aes xsave avx f16c rdrand hypervisor lahf_lm abm bmi1 avx2 bmi2"
)
XEON = f"""processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 79
model name\t: Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: {XEON_FLAGS}
bogomips\t: 4600.00

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: {XEON_FLAGS} another
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

processor\t: 1
CPU implementer\t: 0x41
"""
# docker/for-mac issue 6512: what a container on Docker Desktop for Mac (M1) reads.
DOCKER_FOR_MAC = """processor\t: 0
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc
CPU implementer\t: 0x00
CPU architecture: 8
CPU part\t: 0x000
"""
S390 = """vendor_id       : IBM/S390
# processors    : 2
bogomips per cpu: 3033.00
features\t: esan3 zarch stfle msa ldisp eimm dfp
processor 0: version = FF,  identification = 1A2B3C,  machine = 2964
"""
RISCV = """processor\t: 0
hart\t\t: 1
isa\t\t: rv64imafdc_zicsr
mmu\t\t: sv39
uarch\t\t: sifive,u74-mc
"""


def test_intel() -> None:
    facts = machine.unix("Linux", "6.1.0", "x86_64", XEON, "/usr/bin/python3.11")
    assert facts["cpu"]["vendor"] == "GenuineIntel"
    assert facts["cpu"]["model"] == "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz"
    assert facts["cpu"]["flags"] == dict.fromkeys(XEON_FLAGS.split(), True)
    assert facts["cores"]["physical"] == 1
    assert facts["emulation"] is None
    assert facts["level"] == "x86-64-v3"


def test_arm() -> None:
    facts = machine.unix("Linux", "6.1.0", "aarch64", GRAVITON, "/usr/bin/python3.11")
    assert facts["cpu"]["vendor"] == "ARM"
    assert facts["cpu"]["model"] == "0xd0c"
    assert "asimddp" in facts["cpu"]["flags"]
    assert (facts["level"], facts["cores"]["physical"], facts["emulation"]) == (None, None, None)


def test_other_architectures() -> None:
    assert machine.parse_cpuinfo(S390)["vendor"] == "IBM/S390"
    assert "zarch" in machine.parse_cpuinfo(S390)["flags"]
    assert machine.parse_cpuinfo(RISCV)["model"] == "sifive,u74-mc"
    assert machine.parse_cpuinfo(RISCV)["flags"] == ["rv64imafdc", "zicsr"]
    assert machine.parse_cpuinfo("") == {"vendor": None, "model": None, "flags": [], "physical": None}


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "executable", "answer"),
    [
        ("x86_64", XEON, "/usr/bin/python3.11", None),
        ("aarch64", GRAVITON, "", None),
        ("s390x", S390, "", None),
        ("x86_64", XEON, "/usr/bin/qemu-x86_64", "qemu-user"),
        ("aarch64", XEON, "/usr/bin/qemu-aarch64-static", "qemu-user"),
        ("x86_64", DOCKER_FOR_MAC, "/rosetta/rosetta", "rosetta"),
        ("x86_64", GRAVITON, "/usr/bin/FEXInterpreter", "fex"),
        ("x86_64", GRAVITON, "/usr/local/bin/box64", "box64"),
        ("x86_64", DOCKER_FOR_MAC, "", "unidentified"),
        ("aarch64", XEON, "", "unidentified"),
    ],
)
def test_emulation(architecture: str, cpuinfo: str, executable: str, answer: str | None) -> None:
    assert machine.emulation(architecture, cpuinfo, executable) == answer


def test_an_emulated_cpu_has_no_known_level() -> None:
    assert machine.unix("Linux", "6.1.0", "x86_64", XEON, "/usr/bin/qemu-x86_64")["level"] is None


@given(st.sets(st.sampled_from(sorted(set().union(*(needed for _, needed in cpu_levels.LEVELS))))), st.data())
def test_more_features_never_lower_the_level(flags: set[str], data: st.DataObject) -> None:
    names = [None, *(name for name, _ in cpu_levels.LEVELS)]
    fewer = data.draw(st.sets(st.sampled_from(sorted(flags)))) if flags else set()
    assert names.index(cpu_levels.level(fewer)) <= names.index(cpu_levels.level(flags))


def test_each_level_needs_all_of_its_features() -> None:
    have: set[str] = set()
    below = None
    for name, needed in cpu_levels.LEVELS:
        for missing in needed:
            assert cpu_levels.level(have | needed - {missing}) == below
        have |= needed
        assert cpu_levels.level(have) == name
        below = name


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="x86-64 Linux only")
def test_level_agrees_with_the_dynamic_loader() -> None:
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    if not loader.exists():
        pytest.skip("no glibc")
    answer = subprocess.run([loader, "--help"], capture_output=True, text=True, check=False).stdout
    supported = re.findall(r"^\s+(x86-64-v\d) \(supported", answer, re.MULTILINE)
    if "x86-64-v" not in answer:
        pytest.skip("glibc older than 2.33")
    assert machine.measure(common.Place())["level"] == max([*supported, "x86-64-v1"])


def test_mac_on_intel_and_rosetta() -> None:
    answers = {
        "hw.machine": "x86_64",
        "hw.memsize": "17179869184",
        "hw.activecpu": "8",
        "hw.physicalcpu": "4",
        "hw.pagesize": "4096",
        "kern.osrelease": "22.6.0",
        "machdep.cpu.vendor": "GenuineIntel",
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i7-8569U CPU @ 2.80GHz",
        "machdep.cpu.features": "FPU VME CX8 CMOV MMX FXSR SSE SSE2 SSE3 SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT XSAVE "
        "OSXSAVE AVX1.0 F16C",
        "machdep.cpu.leaf7_features": "BMI1 AVX2 BMI2",
        "machdep.cpu.extfeatures": "SYSCALL XD EM64T LAHF LZCNT",
    }
    facts = machine.darwin(answers.get)
    assert facts["kernel"] == {"system": "Darwin", "release": "22.6.0"}
    assert facts["level"] == "x86-64-v3"
    assert facts["cores"] == {"online": 8, "physical": 4}
    assert facts["memory_bytes"] == 16 << 30
    assert facts["emulation"] is None
    assert machine.darwin({**answers, "sysctl.proc_translated": "1"}.get)["emulation"] == "rosetta"


def test_mac_on_apple_silicon() -> None:
    answers = {
        "hw.machine": "arm64",
        "machdep.cpu.brand_string": "Apple M2",
        "hw.optional.arm.FEAT_BF16": "1",
    }
    facts = machine.darwin(answers.get)
    assert (facts["cpu"]["vendor"], facts["cpu"]["model"], facts["level"]) == ("Apple", "Apple M2", None)
    assert facts["cpu"]["flags"] == {"arm.FEAT_BF16": True}
    assert facts["memory_bytes"] is None


def test_windows() -> None:
    environ = {
        "PROCESSOR_ARCHITECTURE": "AMD64",
        "PROCESSOR_IDENTIFIER": "Intel64 Family 6 Model 142 Stepping 12, GenuineIntel",
    }
    facts = machine.windows(environ, "10.0.22631", 8)
    assert facts["cpu"] == {
        "vendor": "GenuineIntel",
        "model": "Intel64 Family 6 Model 142 Stepping 12",
        "flags": {},
    }
    assert facts["emulation"] is None
    arm = {
        **environ,
        "PROCESSOR_IDENTIFIER": "ARMv8 (64-bit) Family 8 Model 1 Revision 201, Qualcomm Technologies Inc",
    }
    assert machine.windows(arm, "10.0.22631", 8)["emulation"] == "windows-on-arm"


def test_the_same_twice_and_no_names_of_this_host() -> None:
    first = machine.measure(common.Place())
    assert first == machine.measure(common.Place())
    assert first["memory_bytes"] % (1 << 20) == 0
    assert set(first["kernel"]) == {"system", "release"}
    assert first["architecture"] == os.uname().machine


def test_files_alone_describe_no_machine(tmp_path: Path) -> None:
    section = common.section(machine, common.Place(root=str(tmp_path), live=False))
    assert (section["status"], section["facts"]) == ("unavailable", {})
