"""Family GPU: what the start of a container brings, what an image demands, and drifts between two machines."""

from __future__ import annotations

from typing import Any

import pytest
from support.driver import CUDA, PROC_535, STUB, Build, Machine
from support.nvidia import FILES, NO_GPU, ON, build, device, image, judged, libcuda, machine, node, shape, torch
from support.snapshots import findings, snapshot

from driftcheck.explain import explain_pair

TORCH = torch("2.8.0", "12.8", "sm_80 sm_90")
CPU = image(builds={"torch": build("2.8.0+cpu", None)})
DOCKER = {"runtime": {"name": "docker", "evidence": "/.dockerenv"}}
NO_DRIVER = (
    "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a "
    "driver from http://www.nvidia.com/Download/index.aspx"
)


# GPU004


def test_gpu004_the_files_are_there_and_the_library_is_not(here: Machine) -> None:
    here.driver(PROC_535)
    measured = here.section()["facts"]
    (found,) = findings("GPU004", gpu=measured, cuda=TORCH | {"image": image(driver_capabilities="utility")["image"]})
    assert shape([found]) == [("breaks", "likely")]
    assert found.predicted_error == NO_DRIVER
    assert "NVIDIA_DRIVER_CAPABILITIES is utility" in found.explanation
    assert findings("GPU004", gpu=measured, cuda=CPU) == []


@pytest.mark.parametrize(("init", "confidence"), [("-DINIT=34", "certain"), ("-DHANGS", "likely")])
def test_gpu004_a_stub_is_found(init: str, confidence: str, here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    source = CUDA if init == "-DINIT=34" else "int unrelated;"
    stub = compiled(source, "-DLEVEL=12080", init)
    here.library("libcuda.so.12.8", stub, "/usr/local/cuda/lib64/stubs")
    measured = here.section(LD_LIBRARY_PATH="/usr/local/cuda/lib64/stubs")["facts"]
    (found,) = findings("GPU004", gpu=measured, cuda=image())
    assert shape([found]) == [("breaks", confidence)]
    assert found.predicted_error == "CUDA driver is a stub library"


@pytest.mark.parametrize(
    ("path", "via", "confidence"),
    [
        ("/usr/local/cuda/lib64/stubs/libcuda.so.1", "LD_LIBRARY_PATH", "likely"),
        ("/usr/local/cuda/lib64/stubs/libcuda.so.1", "cache", "possible"),
        ("/usr/local/cuda/lib64/stubs/libcuda.so.1", "toolkit", None),
        ("/usr/local/cuda/lib64/stubs/libcuda.so", "LD_LIBRARY_PATH", None),  # no loader asks for this name
    ],
)
def test_gpu004_a_stub_of_an_image(path: str, via: str, confidence: str | None) -> None:
    has = image(driver={path: libcuda("stub", None, None, via)})
    assert shape(judged("GPU004", ON, gpu=machine(), cuda=has)) == ([("breaks", confidence)] if confidence else [])


def test_gpu004_a_path_is_typed_as_one_word() -> None:
    has = image(driver={"/x/stubs/a b/libcuda.so.1": libcuda("stub", None, None, "cache")})
    (found,) = judged("GPU004", ON, gpu=machine(), cuda=has)
    assert found.fix[-1].text == "RUN rm -f '/x/stubs/a b/libcuda.so.1' && ldconfig"


def test_gpu004_is_silent() -> None:
    assert findings("GPU004", gpu=machine(), cuda=TORCH) == []
    assert findings("GPU004", gpu=NO_GPU, cuda=TORCH) == []
    assert judged("GPU004", ON, gpu=machine(libcuda=None), cuda=TORCH) == []  # the runtime brings the machine's
    assert judged("GPU004", {"run_defaults": True}, gpu=machine(libcuda=None), cuda=TORCH) == []


# GPU009


def test_gpu009_a_user_without_the_group() -> None:
    denied = {path: {"mode": "0660", "uid": 0, "gid": 44, "accessible": False} for path in FILES}
    user = {"user": {"uid": 1000, "gid": 1000, "passwd_entry": True}}
    facts = machine(device_nodes=denied, libcuda={"init": 100}, devices={})
    (found,) = findings("GPU009", gpu=facts, cuda=TORCH, limits=user)
    assert shape([found]) == [("breaks", "certain")]
    assert found.title == "User 1000 may not open /dev/nvidiactl, /dev/nvidia-uvm, /dev/nvidia0"
    assert found.fix[0].text == "--group-add 44"
    assert found.predicted_error == "RuntimeError: No CUDA GPUs are available"


def test_gpu009_an_answer_with_another_reason() -> None:
    denied = {path: {"mode": "0660", "uid": 0, "gid": 44, "accessible": False} for path in FILES}
    (found,) = findings("GPU009", gpu=machine(device_nodes=denied, libcuda={"init": 34}))
    assert (shape([found]), found.predicted_error) == ([("breaks", "likely")], "CUDA driver is a stub library")


def test_gpu009_the_real_probe_sees_modes(here: Machine) -> None:
    here.driver(PROC_535)
    (here.root / "dev" / "nvidia-uvm").chmod(0o000)
    facts = here.section()["facts"]
    facts["nvidia"]["device_nodes"]["/dev/nvidia-uvm"]["accessible"] = False  # root may, whatever the mode
    (found,) = findings("GPU009", gpu=facts)
    assert shape([found]) == [("breaks", "likely")]
    assert "/dev/nvidia-uvm has mode 0000" in found.explanation


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"libcuda": {"init": 0}, "device_nodes": node(accessible=False) | node("/dev/nvidiactl", accessible=False)},
        {"libcuda": {"init": 100}, "device_nodes": FILES | node("/dev/nvidia1", accessible=False)},
        {"libcuda": {"init": 100}, "device_nodes": FILES | node("/dev/nvidia-modeset", accessible=False)},
        {"device_nodes": {}},
    ],
)
def test_gpu009_is_silent(facts: dict[str, Any]) -> None:
    assert findings("GPU009", gpu=machine(**facts)) == []


# GPU010


def test_gpu010_a_container_sees_the_module_and_no_device(here: Machine) -> None:
    here.file("/proc/driver/nvidia/version", PROC_535)
    measured = here.section()["facts"]
    (found,) = findings("GPU010", gpu=measured, cuda=TORCH, limits=DOCKER)
    assert shape([found]) == [("breaks", "likely")]
    assert (found.predicted_error, found.fix[0].text) == (NO_DRIVER, "--gpus all")
    assert findings("GPU010", gpu=measured, cuda=CPU, limits=DOCKER) == []
    assert findings("GPU010", gpu=measured, cuda=TORCH, limits={"runtime": None}) == []
    assert judged("GPU010", {"run_defaults": True}, gpu=measured, cuda=TORCH, limits=DOCKER) == []
    assert judged("GPU010", ON, gpu=measured, cuda=TORCH, limits=DOCKER) == []


def test_gpu010_nvidia_uvm_is_missing() -> None:
    without = machine(device_nodes=node() | node("/dev/nvidiactl"), libcuda={"init": 999})
    (found,) = findings("GPU010", gpu=without, cuda=TORCH)
    assert found.title.startswith("/dev/nvidia-uvm is missing")
    assert findings("GPU010", gpu=machine(libcuda={"init": 999}), cuda=TORCH) == []
    started = machine(device_nodes=node() | node("/dev/nvidiactl"))
    assert findings("GPU010", gpu=started, cuda=TORCH) == []


# GPU011

REQUIRE = (
    "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=470,driver<471 brand=nvidia,driver>=470,"
    "driver<471 brand=unknown,driver>=535,driver<536 brand=tesla,driver>=535,driver<536 brand=nvidia,driver>=535,"
    "driver<536"
)


def demanding(expression: str, **more: Any) -> dict[str, Any]:
    return image(require={"NVIDIA_REQUIRE_CUDA": expression}, visible_devices="all", **more)


def test_gpu011_a_branch_that_is_not_listed() -> None:
    (found,) = judged("GPU011", ON, gpu=machine("525.60.13", "12.0"), cuda=demanding(REQUIRE))
    assert shape([found]) == [("breaks", "likely")]
    assert found.title == "The image demands cuda>=12.8; the machine has driver 525.60.13, CUDA 12.0"
    assert found.predicted_error == (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a "
        "newer version, or use an earlier cuda container"
    )
    # Minor version compatibility would let the program start.
    assert [fix.text for fix in found.fix][1:] == ["-e NVIDIA_DISABLE_REQUIRE=1"]


def test_gpu011_listed_and_newer_drivers_pass() -> None:
    assert judged("GPU011", ON, gpu=machine("535.104.05", "12.2"), cuda=demanding(REQUIRE)) == []
    assert judged("GPU011", ON, gpu=machine("580.65.06", "13.0", "RTX 4090"), cuda=demanding(REQUIRE)) == []
    off = demanding(REQUIRE, disable_require="true")
    assert judged("GPU011", ON, gpu=machine("525.60.13", "12.0"), cuda=off) == []


def test_gpu011_by_the_real_probe_of_a_container_without_devices(here: Machine) -> None:
    here.file("/proc/driver/nvidia/version", PROC_535)
    measured = here.section()["facts"]
    (found,) = findings("GPU011", gpu=measured, cuda=demanding("cuda>=13.0"))
    assert found.title == "The image demands cuda>=13.0; the machine has driver 535.104.05, CUDA 12.2"
    assert len(found.fix) == 1
    assert findings("GPU011", gpu=measured, cuda=demanding("cuda>=12.0")) == []


def test_gpu011_what_runs_with_its_gpus_has_passed(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.535.104.05", compiled(STUB))
    assert findings("GPU011", gpu=here.section()["facts"], cuda=demanding("cuda>=13.0")) == []


@pytest.mark.parametrize(
    ("expression", "name", "title", "error"),
    [
        ("cuda=>12.8", "A100", "NVIDIA_REQUIRE_CUDA cannot be read: cuda=>12.8", "invalid expression"),
        ("brand=tesla", "T1000", "Whether the machine has what the image demands (brand=tesla) cannot be told", None),
    ],
)
def test_gpu011_what_cannot_be_decided_is_only_possible(
    expression: str, name: str, title: str, error: str | None
) -> None:
    (found,) = judged("GPU011", ON, gpu=machine("580.65.06", "13.0", name), cuda=demanding(expression))
    assert shape([found]) == [("breaks", "possible")]
    assert found.title == title
    assert (found.predicted_error or "").endswith(error or "")


def test_gpu011_an_image_of_the_older_kind() -> None:
    (found,) = judged("GPU011", ON, gpu=machine("418.87.01", "10.1"), cuda=image(cuda_version="11.0.3"))
    assert found.subject.name == "CUDA_VERSION"


# GPU014


def visible(value: str) -> dict[str, Any]:
    return {"variables": {"CUDA_VISIBLE_DEVICES": {"value": value}}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", []),
        ("1,0", []),
        ("GPU-8932f937", []),
        ("2", [("breaks", "likely")]),
        ("none", [("breaks", "likely")]),
        ("0,2", [("note", "likely")]),
        ("", [("note", "certain")]),
        ("-1", [("note", "certain")]),
        ("999999999999999999999", [("breaks", "likely")]),
    ],
)
def test_gpu014_the_variable(value: str, expected: list[tuple[str, str]]) -> None:
    assert (
        shape(findings("GPU014", gpu=machine("535.104.05", "12.2", "A100", "A100"), variables=visible(value)))
        == expected
    )


def test_gpu014_mig() -> None:
    part = {"0": {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "memory_bytes": 4864 << 20}}
    empty = machine(devices={"0": device("A100", mig=True)})
    (found,) = findings("GPU014", gpu=empty, cuda=TORCH, variables={"variables": {}})
    assert found.title == "Every GPU is in MIG mode and has no parts"
    assert found.predicted_error == "RuntimeError: No CUDA GPUs are available"
    divided = machine(devices={"0": device("A100", mig=True, mig_devices=part), "1": device("A100", mig=False)})
    assert findings("GPU014", gpu=divided, variables=visible("0")) == []
    assert shape(findings("GPU014", gpu=divided, variables=visible("1"))) == [("breaks", "possible")]


def test_gpu014_hidden_values_and_no_devices_say_nothing() -> None:
    assert findings("GPU014", gpu=machine(), variables={"variables": {"CUDA_VISIBLE_DEVICES": {}}}) == []
    assert findings("GPU014", gpu=machine(devices={}), variables=visible("7")) == []
    assert findings("GPU014", gpu=NO_GPU, variables=visible("7")) == []


# GPU012 and GPU013


def test_gpu012_the_gpu_is_gone() -> None:
    (found,) = findings("GPU012", baseline={"gpu": machine()}, gpu=NO_GPU, cuda=TORCH)
    assert shape([found]) == [("breaks", "likely")]
    assert found.predicted_error == NO_DRIVER
    assert shape(findings("GPU012", baseline={"gpu": machine()}, gpu=NO_GPU, cuda=CPU)) == [("slows", "possible")]


def test_gpu012_amd() -> None:
    amd = {"driver": "6.12", "rocm": {}, "devices": {"1": {"target": "gfx942", "memory_bytes": 1}}, "device_node": None}
    (found,) = findings("GPU012", baseline={"gpu": {"nvidia": None, "amd": amd}}, gpu=NO_GPU)
    assert found.fix[0].text.startswith("--device /dev/kfd")
    other = amd | {"devices": {"1": {"target": "gfx90a", "memory_bytes": 1}}}
    (found,) = findings("GPU013", baseline={"gpu": {"nvidia": None, "amd": amd}}, gpu={"nvidia": None, "amd": other})
    assert found.title == "AMD gfx90a instead of gfx942"


def test_gpu012_is_silent_with_one_or_without_any() -> None:
    assert findings("GPU012", baseline={"gpu": machine()}, gpu=machine()) == []
    assert findings("GPU012", baseline={"gpu": NO_GPU}, gpu=machine()) == []
    assert findings("GPU012", baseline={"gpu": NO_GPU}, gpu=NO_GPU) == []
    silent = machine(devices={}, asked=None, nvml={"status": "timed out", "code": None})
    assert findings("GPU012", baseline={"gpu": machine()}, gpu=silent) == []


def test_gpu012_explains_what_changed_with_it() -> None:
    before = snapshot("a", gpu=machine(), cuda=TORCH)
    after = snapshot("b", gpu=machine(devices={}, device_nodes={}, libcuda=None, asked=None), cuda=TORCH, limits=DOCKER)
    explanation = explain_pair(before, after)
    (cause,) = [finding for finding in explanation.findings if finding.code == "GPU012"]
    assert {change.path for change in explanation.changes if change.section == "gpu"} == set(cause.folds)
    (effect,) = [finding for finding in explanation.findings if finding.code == "GPU010"]
    assert effect.caused_by == cause.identity


def test_gpu013_another_kind_less_memory_fewer_of_them() -> None:
    baseline = {"gpu": machine("535.104.05", "12.2", "H100", "H100")}
    found = findings("GPU013", baseline=baseline, gpu=machine("535.104.05", "12.2", "A100"), cuda=TORCH)
    assert {one.subject.name: shape([one])[0] for one in found} == {
        "capability": ("changes-results", "likely"),
        "memory": ("breaks", "possible"),
        "count": ("breaks", "possible"),
    }
    assert found[0].title == "NVIDIA A100-SXM4-40GB (8.0) instead of NVIDIA H100 80GB HBM3 (9.0)"
    assert found[1].title == "The GPU has 40.0 GiB of memory instead of 80.0 GiB"
    assert found[2].title == "1 GPU instead of 2"


def test_gpu013_the_same_or_more() -> None:
    assert findings("GPU013", baseline={"gpu": machine()}, gpu=machine()) == []
    more = machine("535.104.05", "12.2", "A100", "A100")
    assert findings("GPU013", baseline={"gpu": machine()}, gpu=more) == []
    unknown = machine(devices={"0": device("Some GPU")})
    assert findings("GPU013", baseline={"gpu": machine()}, gpu=unknown) == []
