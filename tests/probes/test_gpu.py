"""The probe gpu: samples of the kernel and of nvidia-smi, and libraries of a driver that answer, hang, crash or lie."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from driftcheck.probes import common, gpu, nvml
from support.driver import CUDA, PROC_535, PROC_OPEN_570, STUB, Build, Machine, builder

INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 233
GPU UUID: \t GPU-8f3c7f0e-1111-2222-3333-444455556666
Video BIOS: \t 96.00.74.00.01
Bus Type: \t PCIe
Bus Location: \t 0000:19:00.0
Device Minor: \t 0
GPU Firmware: \t 535.104.05
GPU Excluded:\t No
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return builder(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(sys, "platform", "linux")
    return Machine(tmp_path)


# Nothing, and files alone


def test_no_gpu_is_an_answer(machine: Machine) -> None:
    section = machine.section()
    assert (section["status"], section["facts"]) == ("ok", {"nvidia": None, "amd": None})


def test_files_alone_say_nothing_of_a_machine(tmp_path: Path) -> None:
    section = common.section(gpu, common.Place(root=str(tmp_path), environ={}, search_path=[], live=False))
    assert section["status"] == "unavailable"


@pytest.mark.parametrize(("platform", "status"), [("darwin", "absent"), ("win32", "unavailable")])
def test_other_systems(platform: str, status: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert common.section(gpu, machine.place())["status"] == status


# The kernel module and the device files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROC_535, {"version": "535.104.05", "flavour": "proprietary"}),
        (PROC_OPEN_570, {"version": "570.86.15", "flavour": "open"}),
        (PROC_535.replace("x86_64 ", "aarch64 "), {"version": "535.104.05", "flavour": "proprietary"}),
        ("rubbish\n", None),
        ("", None),
    ],
)
def test_proc_version(text: str, expected: dict[str, str] | None) -> None:
    assert gpu.parse_proc_version(text) == expected


@pytest.mark.parametrize(("taint", "flavour"), [("POE\n", "proprietary"), ("OE\n", "open"), ("", None)])
def test_sys_module_stands_in(taint: str, flavour: str | None, machine: Machine) -> None:
    machine.file("/sys/module/nvidia/version", "550.54.15\n")
    machine.file("/sys/module/nvidia/taint", taint)
    assert machine.nvidia()["kernel_module"] == {"version": "550.54.15", "flavour": flavour}


def test_device_files_and_their_permissions(machine: Machine) -> None:
    machine.driver()
    machine.file("/dev/nvidia1", mode=0o000)
    machine.file("/dev/nvidia-caps/nvidia-cap1")
    machine.file("/dev/null")
    nodes = machine.nvidia()["device_nodes"]
    assert nodes.keys() == {"/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"}
    assert nodes["/dev/nvidia0"] == {"mode": "0666", "uid": os.getuid(), "gid": os.getgid(), "accessible": True}
    assert nodes["/dev/nvidia1"]["mode"] == "0000"
    assert nodes["/dev/nvidia1"]["accessible"] is (os.getuid() == 0)


def test_a_module_alone_names_the_driver(machine: Machine) -> None:
    """A container without the capabilities: the module is there, no library is."""
    machine.file("/proc/driver/nvidia/version", PROC_OPEN_570)
    facts = machine.nvidia()
    assert (facts["driver"], facts["asked"], facts["devices"], facts["libcuda"]) == ("570.86.15", None, {}, None)


def test_names_of_devices_from_the_kernel(machine: Machine) -> None:
    machine.driver()
    machine.file("/proc/driver/nvidia/gpus/0000:19:00.0/information", INFORMATION)
    facts = machine.nvidia()
    assert facts["asked"] == "proc"
    assert facts["devices"]["0"] == gpu.device_record({"name": "NVIDIA H100 80GB HBM3"})
    assert gpu.parse_information("Model:\nDevice Minor: x\n") is None


# NVML


def test_nvml_answers(machine: Machine, build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    machine.driver()
    machine.library("libnvidia-ml.so.535.104.05", build(STUB))
    section = machine.section()
    assert (section["status"], section["problems"]) == ("ok", [])
    facts = section["facts"]["nvidia"]
    assert facts["nvml"] == {
        "path": "/usr/lib64/libnvidia-ml.so.1",
        "version": "535.104.05",
        "status": "ok",
        "code": 0,
        "error": None,
    }
    assert (facts["asked"], facts["driver"], facts["cuda"]) == ("nvml", "535.104.05", "12.2")
    assert facts["devices"] == {
        "0": {
            "name": "NVIDIA A100-SXM4-40GB",
            "compute_capability": "8.0",
            "memory_bytes": 40960 << 20,
            "mig": False,
            "mig_devices": {},
            "fabric": "completed",
        },
        "1": {
            "name": "NVIDIA A100-SXM4-40GB",
            "compute_capability": "8.0",
            "memory_bytes": 40960 << 20,
            "mig": True,
            "mig_devices": {"0": {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "memory_bytes": 4864 << 20}},
            "fabric": None,
        },
    }
    assert "noise" not in "".join(capfd.readouterr())
    assert machine.section() == section


def test_the_stub_is_what_nvidia_ml_py_takes_it_for(machine: Machine, build: Build) -> None:
    machine.driver()
    machine.library("libnvidia-ml.so.535.104.05", build(STUB))
    script = """
import json, pynvml as n
n.nvmlInit()
text = lambda value: value.decode() if isinstance(value, bytes) else value
devices = {}
for index in range(n.nvmlDeviceGetCount()):
    handle = n.nvmlDeviceGetHandleByIndex(index)
    devices[str(index)] = {
        "name": text(n.nvmlDeviceGetName(handle)),
        "compute_capability": "%d.%d" % tuple(n.nvmlDeviceGetCudaComputeCapability(handle)),
        "memory_bytes": n.nvmlDeviceGetMemoryInfo(handle).total,
        "mig": bool(n.nvmlDeviceGetMigMode(handle)[0]),
    }
print("\\n" + json.dumps({"driver": text(n.nvmlSystemGetDriverVersion()),
    "cuda": n.nvmlSystemGetCudaDriverVersion_v2(), "devices": devices}))
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(machine.root / "usr" / "lib64"),
            "PYTHONPATH": str(Path(pynvml.__file__).parent),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    theirs = json.loads(process.stdout.strip().splitlines()[-1])
    facts = machine.nvidia()
    assert (theirs["driver"], gpu.cuda_level(theirs["cuda"])) == (facts["driver"], facts["cuda"])
    assert theirs["devices"] == {
        index: {key: device[key] for key in theirs["devices"][index]} for index, device in facts["devices"].items()
    }


def test_nvml_of_another_version_than_the_module(machine: Machine, build: Build) -> None:
    """``Failed to initialize NVML: Driver/library version mismatch``: after an update without a reboot."""
    machine.driver()
    machine.library("libnvidia-ml.so.550.54.15", build(STUB, "-DCODE=18"))
    section = machine.section()
    facts = section["facts"]["nvidia"]
    assert (facts["nvml"]["code"], facts["nvml"]["error"]) == (18, "LIB_RM_VERSION_MISMATCH")
    assert (facts["nvml"]["version"], facts["kernel_module"]["version"]) == ("550.54.15", "535.104.05")
    assert (facts["driver"], facts["asked"]) == ("535.104.05", None)


def test_nvml_hangs(machine: Machine, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "TIME_LIMIT", 0.3)
    machine.driver()
    machine.library("libnvidia-ml.so.535.104.05", build(STUB, "-DHANG"))
    # Nothing of the same driver is asked again.
    machine.file("/usr/bin/nvidia-smi", SMI, 0o755)
    machine.library("libcuda.so.535.104.05", build(CUDA, "-DLEVEL=12020", "-DINIT=0"))
    before = children()
    section = machine.section()
    facts = section["facts"]["nvidia"]
    assert (facts["nvml"]["status"], facts["asked"], facts["libcuda"]["init"]) == ("timed out", None, None)
    assert section["problems"] == [
        {"where": "/usr/lib64/libnvidia-ml.so.1", "reason": "NVML: no answer within 0.3 seconds"}
    ]
    assert children() == before


def children() -> set[str]:
    """The processes that this one started and that are not gone, zombies among them."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if status.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                found.add(status.parent.name)
    return found


def test_nvml_crashes(machine: Machine, build: Build) -> None:
    machine.driver()
    machine.library("libnvidia-ml.so.535.104.05", build(STUB, "-DCRASH"))
    machine.file("/proc/driver/nvidia/gpus/0000:19:00.0/information", INFORMATION)
    section = machine.section()
    facts = section["facts"]["nvidia"]
    assert (section["status"], facts["nvml"]["status"]) == ("partial", "crashed")
    assert section["problems"][0]["reason"] == "NVML: ended by signal 11"
    assert (facts["asked"], facts["driver"]) == ("proc", "535.104.05")


def test_nvml_lacks_functions(machine: Machine, build: Build) -> None:
    machine.driver()
    machine.library("libnvidia-ml.so.535.104.05", build(STUB, "-DOLD"))
    device = machine.nvidia()["devices"]["0"]
    assert device["name"] == "NVIDIA A100-SXM4-40GB"
    assert (device["compute_capability"], device["mig"], device["fabric"]) == (None, None, None)


@pytest.mark.parametrize("source", ["int unrelated;", "no library at all"])
def test_nvml_is_something_else(source: str, machine: Machine, build: Build) -> None:
    machine.driver()
    if source.startswith("int"):
        machine.library("libnvidia-ml.so.535.104.05", build(source))
    else:
        path = machine.file("/usr/lib64/libnvidia-ml.so.1")
        path.write_bytes(b"\x7fELF\x02" + b"\0" * 100)
    section = machine.section()
    assert section["facts"]["nvidia"]["nvml"]["status"] == "failed"
    assert section["status"] == "partial"


def test_libraries_without_a_driver_are_named_and_not_asked(machine: Machine, build: Build) -> None:
    """An image that has them, on a machine without a GPU: what crashes must not be touched."""
    machine.library("libnvidia-ml.so.535.104.05", build(STUB, "-DCRASH"))
    section = machine.section()
    facts = section["facts"]["nvidia"]
    assert section["problems"] == []
    assert (facts["nvml"]["version"], facts["nvml"]["status"], facts["driver"]) == ("535.104.05", None, None)


def test_library_path_comes_first(machine: Machine, build: Build) -> None:
    machine.driver()
    machine.library("libcuda.so.535.104.05", build(CUDA, "-DLEVEL=12020", "-DINIT=0"))
    machine.library("libcuda.so.570.86.15", build(CUDA, "-DLEVEL=12080", "-DINIT=803"), "/usr/local/cuda/compat")
    assert machine.nvidia()["libcuda"] == {
        "path": "/usr/lib64/libcuda.so.1",
        "version": "535.104.05",
        "cuda": "12.2",
        "init": 0,
    }
    assert machine.nvidia(LD_LIBRARY_PATH="relative:/usr/local/cuda/compat")["libcuda"] == {
        "path": "/usr/local/cuda/compat/libcuda.so.1",
        "version": "570.86.15",
        "cuda": "12.8",
        "init": 803,
    }


def test_wsl_has_a_device_file_and_no_module(machine: Machine, build: Build) -> None:
    machine.file("/dev/dxg", mode=0o666)
    machine.library("libnvidia-ml.so.1.1", build(STUB), "/usr/lib/wsl/lib")
    facts = machine.nvidia()
    assert (facts["kernel_module"], facts["asked"], facts["driver"]) == (None, "nvml", "535.104.05")


def test_no_child_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    answer = nvml.in_child(dict, 5)
    assert (answer.status, answer.reason) == ("failed", "no child process: Resource temporarily unavailable")


def test_a_child_that_answers_too_much_or_nothing() -> None:
    assert nvml.in_child(lambda: {"x": "y" * (2 << 20)}, 5).status == "failed"
    assert nvml.in_child(lambda: os._exit(0), 5).status == "failed"
    assert nvml.in_child(dict, 5).status == "ok"
    raised = nvml.in_child(lambda: {"x": 1 // 0}, 5)
    assert (raised.status, raised.reason) == ("failed", "ZeroDivisionError: integer division or modulo by zero")


# nvidia-smi

SMI = """#!/bin/sh
case "$*" in
  *compute_cap*) echo "0, NVIDIA H100 80GB HBM3, 9.0, 81559, Disabled, 570.86.15"
                 echo "1, NVIDIA GeForce GTX 1080, 6.1, 8192, [N/A], 570.86.15" ;;
  "") echo "| NVIDIA-SMI 570.86.15              Driver Version: 570.86.15      CUDA Version: 12.8     |" ;;
esac
"""


def test_nvidia_smi_stands_in(machine: Machine) -> None:
    machine.driver(PROC_OPEN_570)
    machine.file("/usr/bin/nvidia-smi", SMI, 0o755)
    facts = machine.nvidia()
    assert (facts["asked"], facts["cuda"], facts["driver"]) == ("nvidia-smi", "12.8", "570.86.15")
    assert facts["devices"]["0"] == gpu.device_record(
        {"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0", "memory_bytes": 81559 << 20, "mig": False}
    )
    assert (facts["devices"]["1"]["compute_capability"], facts["devices"]["1"]["mig"]) == ("6.1", None)


def test_warnings_come_first(machine: Machine) -> None:
    machine.driver()
    warning = "echo 'WARNING: infoROM is corrupted at gpu 0000:01:00.0, see, the, manual, for, more'\nexit_code=14\n"
    machine.file("/usr/bin/nvidia-smi", SMI.replace("case", warning + "case", 1) + "exit $exit_code\n", 0o755)
    section = machine.section()
    assert section["problems"] == []
    assert section["facts"]["nvidia"]["devices"].keys() == {"0", "1"}


def test_an_old_program_knows_fewer_fields(machine: Machine) -> None:
    machine.driver()
    script = """#!/bin/sh
case "$*" in
  *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
  *query*) echo "0, Tesla T4, 15109, 470.82.01" ;;
  *) echo "| NVIDIA-SMI 470.82.01    Driver Version: 470.82.01    CUDA Version: 11.4     |" ;;
esac
"""
    machine.file("/usr/bin/nvidia-smi", script, 0o755)
    facts = machine.nvidia()
    assert facts["devices"] == {"0": gpu.device_record({"name": "Tesla T4", "memory_bytes": 15109 << 20})}
    assert facts["cuda"] == "11.4"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho rubbish; echo '{}'\n", "an answer that cannot be understood"),
        ("#!/bin/sh\nsleep 60\n", "no end within 0.3 seconds, or of its answer"),
        (
            "#!/bin/sh\nwhile :; do echo 0, x, 9.0, 1, Enabled, none; done\n",
            "no end within 0.3 seconds, or of its answer",
        ),
        ("#!/no/such/interpreter\n", "No such file or directory"),
    ],
)
def test_a_program_that_is_no_help(script: str, reason: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "TIME_LIMIT", 0.3)
    machine.driver()
    machine.file("/usr/bin/nvidia-smi", script, 0o755)
    section = machine.section()
    assert section["problems"] == [{"where": "/usr/bin/nvidia-smi", "reason": reason}]
    assert (section["facts"]["nvidia"]["asked"], section["facts"]["nvidia"]["devices"]) == (None, {})


def test_no_program_of_the_path_is_run(machine: Machine) -> None:
    machine.driver()
    machine.file("/opt/tools/nvidia-smi", SMI, 0o755)
    assert machine.nvidia(PATH="/opt/tools")["asked"] is None


# The fabric manager, AMD


def test_fabric_manager(machine: Machine) -> None:
    machine.driver()
    assert machine.nvidia()["fabric_manager"] is None
    machine.file("/dev/nvidia-nvswitchctl")
    assert machine.nvidia()["fabric_manager"] == {"running": False}
    machine.file("/proc/812/comm", "nv-fabricmanage\n")
    assert machine.nvidia()["fabric_manager"] == {"running": True}


def test_amd(machine: Machine) -> None:
    nodes = "/sys/class/kfd/kfd/topology/nodes"
    machine.file(f"{nodes}/0/properties", "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\n")
    machine.file(
        f"{nodes}/1/properties", "cpu_cores_count 0\nsimd_count 1216\ngfx_target_version 90402\nunique_id 1234567890\n"
    )
    machine.file(f"{nodes}/1/mem_banks/0/properties", "heap_type 1\nsize_in_bytes 206141652992\nflags 0\n")
    machine.file("/sys/module/amdgpu/version", "6.12.12\n")
    machine.file("/opt/rocm-6.4.1/.info/version", "6.4.1-83\n")
    machine.file("/dev/kfd", mode=0o660)
    facts = machine.section()["facts"]
    assert facts["nvidia"] is None
    assert facts["amd"]["devices"] == {"1": {"target": "gfx942", "memory_bytes": 206141652992}}
    assert (facts["amd"]["driver"], facts["amd"]["rocm"]) == ("6.12.12", {"/opt/rocm-6.4.1": "6.4.1-83"})
    assert facts["amd"]["device_node"]["mode"] == "0660"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("simd_count 440\ngfx_target_version 90010\n", "gfx90a"),
        ("simd_count 96\ngfx_target_version 110000\n", "gfx1100"),
        ("simd_count 64\ngfx_target_version 120001\n", "gfx1201"),
        ("simd_count 0\ngfx_target_version 0\n", None),
        ("rubbish", None),
    ],
)
def test_names_of_amd_targets(text: str, target: str | None) -> None:
    assert gpu.parse_kfd_properties(text) == target


def test_levels() -> None:
    assert [gpu.cuda_level(number) for number in (12080, 13000, 11040, 0, None)] == ["12.8", "13.0", "11.4", None, None]
    assert gpu.parse_banner("nothing") is None
