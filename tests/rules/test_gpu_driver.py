"""Family GPU: the driver, its halves and its age. A stub of NVML and of libcuda is asked by the real probe."""

from __future__ import annotations

from typing import Any

import pytest
from support.driver import CUDA, PROC_535, PROC_OPEN_570, STUB, Build, Machine
from support.nvidia import ON, build, code, device, image, judged, libcuda, machine, node, shape, torch
from support.snapshots import distribution, distributions, findings

NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running."
)
TORCH_128 = "sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"


# GPU001


def test_gpu001_a_driver_of_an_older_major_version_is_too_old() -> None:
    (found,) = findings("GPU001", gpu=machine("535.104.05", "12.2"), cuda=torch("2.11.0", "13.0", TORCH_128))
    assert shape([found]) == [("breaks", "likely")]
    assert found.title == "The driver 535.104.05 (CUDA 12.2) is too old for CUDA 13.0, which torch needs"
    assert found.predicted_error is not None
    assert found.predicted_error.startswith(
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver"
    )
    assert [fix.text for fix in found.fix] == [
        "Update the driver of the machine to 580.65.06 or newer.",
        "python -m pip install --force-reinstall torch",
        "Take it from the index that PyTorch publishes for cu126: pass it as --index-url.",
    ]


def test_gpu001_minor_version_compatibility_covers_the_rest() -> None:
    """CUDA 12.8 runs on a driver of 12.2."""
    assert findings("GPU001", gpu=machine("535.104.05", "12.2"), cuda=torch("2.8.0", "12.8", TORCH_128)) == []
    assert findings("GPU001", gpu=machine("525.60.13", "12.0"), cuda=torch("2.8.0", "12.8", TORCH_128)) == []


def test_gpu001_a_newer_driver_is_no_reason() -> None:
    assert findings("GPU001", gpu=machine("595.45.04", "13.2"), cuda=torch("2.0.1", "11.7", "sm_80")) == []


def test_gpu001_before_cuda_11_each_toolkit_needs_its_own_driver() -> None:
    old = torch("1.12.1", "10.2", "sm_37 sm_50 sm_60 sm_70")
    (found,) = findings("GPU001", gpu=machine("418.87.01", "10.1", "V100"), cuda=old)
    assert "440.33 or newer" in found.fix[0].text
    assert findings("GPU001", gpu=machine("440.33", "10.2", "V100"), cuda=old) == []


def test_gpu001_frameworks_of_one_version_are_one_finding() -> None:
    builds = {name: build("1.0", "13.0") for name in ("torch", "vllm", "xformers")} | {
        "onnxruntime": build("1", "12.8")
    }
    (found,) = findings("GPU001", gpu=machine(), cuda=image(builds=builds))
    assert found.title.endswith("CUDA 13.0, which torch, vllm, xformers need")


def test_gpu001_the_version_stands_in_where_the_driver_does_not_answer() -> None:
    silent = machine("470.82.01", None, "T4", libcuda={"cuda": None, "init": None}, nvml={"status": "timed out"})
    (found,) = findings("GPU001", gpu=silent, cuda=torch("2.8.0", "12.8", TORCH_128))
    assert found.title.startswith("The driver 470.82.01 (CUDA 11.4)")
    assert ("target", ("gpu", "nvidia", "kernel_module", "version")) in [(one.side, one.path) for one in found.evidence]


def test_gpu001_only_the_runtime_library_tells() -> None:
    library = {
        "soname": "libcudart.so.13", "version": "13.0.48", "version_from": "distribution",
        "distribution": "nvidia-cuda-runtime", "via": {"search path": True}, "stub": False,
    }  # fmt: skip
    only = image(libraries={"cudart": {"nvidia/cu13/lib/libcudart.so.13": library}})
    (found,) = findings("GPU001", gpu=machine(), cuda=only)
    assert shape([found]) == [("breaks", "possible")]
    assert found.predicted_error == "CUDA driver version is insufficient for CUDA runtime version"
    older = library | {"soname": "libcudart.so.12"}
    both = image(libraries={"cudart": {"a": library, "b": older}})
    assert findings("GPU001", gpu=machine(), cuda=both) == []


def test_gpu001_a_compat_library_lifts_the_level_on_data_center_gpus() -> None:
    wants = torch("2.11.0", "13.0", TORCH_128)
    wants["driver"] = {"/usr/local/cuda-13.0/compat/libcuda.so.1": libcuda("compat", "580.65.06")}
    assert judged("GPU001", ON, gpu=machine("535.104.05", "12.2", "A100"), cuda=wants) == []
    assert shape(judged("GPU001", ON, gpu=machine("535.104.05", "12.2", "RTX A6000"), cuda=wants)) == [
        ("breaks", "possible")
    ]
    assert shape(judged("GPU001", ON, gpu=machine("535.104.05", "12.2", "RTX 4090"), cuda=wants)) == [
        ("breaks", "likely")
    ]


def test_gpu001_in_a_running_container_the_library_in_use_answers() -> None:
    lifted = machine("535.104.05", "12.2", libcuda={"path": "/usr/local/cuda/compat/libcuda.so.1", "cuda": "13.0"})
    assert findings("GPU001", gpu=lifted, cuda=torch("2.11.0", "13.0", TORCH_128)) == []


@pytest.mark.parametrize(
    "facts", [{"cuda": None, "driver": None, "kernel_module": None, "libcuda": None}, {"cuda": "?"}]
)
def test_gpu001_what_is_not_known_is_no_finding(facts: dict[str, Any]) -> None:
    unknown = machine("unknown", None, libcuda={"cuda": None}) | {}
    unknown["nvidia"].update(facts)
    assert findings("GPU001", gpu=unknown, cuda=torch("2.11.0", "13.0", TORCH_128)) == []
    assert findings("GPU001", gpu={"nvidia": None, "amd": None}, cuda=torch("2.11.0", "13.0", TORCH_128)) == []
    assert findings("GPU001", gpu=machine(), cuda=torch("2.11.0", "??", TORCH_128)) == []


def test_gpu001_windows_drivers_have_other_numbers() -> None:
    """WSL has no kernel module; a driver 528.33 of Windows is of CUDA 12.0."""
    wsl = machine("528.33", "12.0", kernel_module=None, device_nodes=node("/dev/dxg"))
    assert findings("GPU001", gpu=wsl, cuda=torch("2.8.0", "12.8", TORCH_128)) == []
    wsl["nvidia"] |= {"cuda": None, "libcuda": None}
    assert findings("GPU001", gpu=wsl, cuda=torch("2.11.0", "13.0", TORCH_128)) == []


def test_gpu001_asks_the_real_probe(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.535.104.05", compiled(STUB))
    here.library("libcuda.so.535.104.05", compiled(CUDA, "-DLEVEL=12020", "-DINIT=0"))
    measured = here.section()["facts"]
    (found,) = findings("GPU001", gpu=measured, cuda=torch("2.11.0", "13.0", TORCH_128))
    assert "found version 12020" in (found.predicted_error or "")
    assert findings("GPU001", gpu=measured, cuda=torch("2.8.0", "12.8", TORCH_128)) == []


# GPU005

COMPAT = "/usr/local/cuda-12.8/compat/libcuda.so.1"
NOTE = {"format": 1, "cuda": "13.1", "drivers": [535, 550, 570, 575, 580, 590], "devices": [1, 2]}


def carrying(*record: Any, path: str = COMPAT) -> dict[str, Any]:
    made = torch("2.8.0", "12.8", TORCH_128)
    made["driver"] = {path: libcuda(*record)}
    return made


@pytest.mark.parametrize(("answer", "text"), [(803, "unsupported display driver"), (804, "non supported HW")])
def test_gpu005_what_cuda_itself_answers_is_certain(answer: int, text: str, here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libcuda.so.570.86.15", compiled(CUDA, "-DLEVEL=12080", f"-DINIT={answer}"), "/usr/local/cuda/compat")
    measured = here.section(LD_LIBRARY_PATH="/usr/local/cuda/compat")["facts"]
    (found,) = findings("GPU005", gpu=measured, cuda=torch("2.8.0", "12.8", TORCH_128))
    assert shape([found]) == [("breaks", "certain")]
    assert found.predicted_error is not None
    assert found.predicted_error.endswith(f"Error {answer}: " + found.title.removeprefix("CUDA does not start: "))
    assert text in found.title
    assert found.fix[0].text == "RUN rm -rf /usr/local/cuda/compat && ldconfig"


def test_gpu005_a_compat_library_that_works_is_left_alone() -> None:
    lifted = machine("535.104.05", "12.2", libcuda={"path": COMPAT, "cuda": "12.8"})
    assert findings("GPU005", gpu=lifted, cuda=carrying("compat", "570.124.06", None, "LD_LIBRARY_PATH")) == []


@pytest.mark.parametrize(
    ("name", "driver", "record", "confidence", "title"),
    [
        ("RTX 4090", "535.104.05", ("compat", "570.124.06"), "likely", "is not allowed on NVIDIA GeForce RTX 4090"),
        ("A100", "535.104.05", ("compat", "570.124.06"), None, ""),
        ("A100", "525.60.13", ("compat", "570.124.06"), "possible", "is not made for the kernel's driver 525.60.13"),
        ("A100", "535.104.05", ("compat", "590.44.01", NOTE), None, ""),
        ("A100", "470.82.01", ("compat", "590.44.01", NOTE), "likely", "is not made for the kernel's driver 470.82.01"),
        # The runtime leaves it aside where the driver is as new; the loader does not.
        ("A100", "580.65.06", ("compat", "570.124.06"), None, ""),
        ("A100", "580.65.06", ("compat", "570.124.06", None, "cache"), "likely", "older than the kernel's driver"),
        ("A100", "570.86.15", ("compat", "570.124.06", None, "cache"), None, ""),
        # Workstation cards: some are allowed.
        ("RTX A6000", "535.104.05", ("compat", "570.124.06"), None, ""),
        ("A100", "535.104.05", ("compat", None), None, ""),
        ("A100", "580.65.06", ("stub", None, None, "LD_LIBRARY_PATH"), None, ""),
    ],
)
def test_gpu005_is_predicted_for_another_machine(
    name: str, driver: str, record: tuple[Any, ...], confidence: str | None, title: str
) -> None:
    found = judged("GPU005", ON, gpu=machine(driver, None, name), cuda=carrying(*record))
    assert shape(found) == ([("breaks", confidence)] if confidence else [])
    assert all(title in one.title for one in found)


def test_gpu005_a_library_that_is_needed_is_not_to_be_removed() -> None:
    needed = torch("2.11.0", "13.0", TORCH_128)
    needed["driver"] = {"/usr/local/cuda-13.0/compat/libcuda.so.1": libcuda("compat", "580.95.05")}
    (found,) = judged("GPU005", ON, gpu=machine("535.104.05", "12.2", "RTX 4090"), cuda=needed)
    assert [fix.kind for fix in found.fix] == ["advice"]
    enough = carrying("compat", "570.124.06")
    (found,) = judged("GPU005", ON, gpu=machine("535.104.05", "12.2", "RTX 4090"), cuda=enough)
    assert [fix.kind for fix in found.fix] == ["dockerfile", "advice"]
    odd = carrying("compat", "570.124.06", None, "cache", path="/opt /compat/libcuda.so.1")
    (found,) = judged("GPU005", ON, gpu=machine("535.104.05", "12.2", "RTX 4090"), cuda=odd)
    assert found.fix[0].text == "RUN rm -rf '/opt /compat' && ldconfig"


def test_gpu005_a_directory_that_nobody_looks_into() -> None:
    away = carrying("compat", "570.124.06", None, "search path", path="somewhere/compat/libcuda.so.1")
    assert judged("GPU005", ON, gpu=machine("580.65.06", "13.0"), cuda=away) == []


# GPU006


def test_gpu006_nvml_says_so(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.550.54.15", compiled(STUB, "-DCODE=18"))
    (found,) = findings("GPU006", gpu=here.section()["facts"])
    assert shape([found]) == [("breaks", "certain")]
    assert found.title == "The driver's library is 550.54.15 and its kernel module 535.104.05"
    assert found.predicted_error == "Failed to initialize NVML: Driver/library version mismatch"


def test_gpu006_versions_differ_and_nvml_did_not_answer(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.550.54.15", compiled(STUB, "-DCRASH"))
    assert shape(findings("GPU006", gpu=here.section()["facts"])) == [("breaks", "likely")]


def test_gpu006_halves_of_one_version(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.535.104.05", compiled(STUB))
    assert findings("GPU006", gpu=here.section()["facts"]) == []
    assert findings("GPU006", gpu=machine(nvml={"version": None})) == []
    assert findings("GPU006", gpu=machine(nvml={"version": "550.54.15"})) == []  # it started, so it fits
    assert findings("GPU006", gpu=machine(nvml=None)) == []


# GPU007


def test_gpu007_cuda_says_so(here: Machine, compiled: Build) -> None:
    here.driver(PROC_OPEN_570)
    here.file("/dev/nvidia-nvswitchctl")
    here.library("libcuda.so.570.86.15", compiled(CUDA, "-DLEVEL=12080", "-DINIT=802"))
    (found,) = findings("GPU007", gpu=here.section()["facts"])
    assert shape([found]) == [("breaks", "certain")]
    assert found.predicted_error == "system not yet initialized"
    assert "no fabric manager" in found.explanation.lower()


@pytest.mark.parametrize(
    ("fabric", "manager", "answer", "expected"),
    [
        ("in progress", {"running": True}, None, [("breaks", "likely")]),
        ("not started", {"running": False}, None, [("breaks", "likely")]),
        (None, {"running": False}, None, [("breaks", "possible")]),
        ("completed", {"running": False}, None, []),
        ("in progress", {"running": True}, 0, []),
        (None, {"running": True}, None, []),
        (None, None, None, []),
    ],
)
def test_gpu007_states(fabric: str | None, manager: Any, answer: int | None, expected: list[tuple[str, str]]) -> None:
    facts = machine(libcuda={"init": answer}, fabric_manager=manager, devices={"0": device("H100", fabric=fabric)})
    assert shape(findings("GPU007", gpu=facts)) == expected


def test_gpu007_a_container_does_not_see_the_processes_of_its_host() -> None:
    facts = machine(libcuda={"init": None}, fabric_manager={"running": False})
    runtime = {"runtime": {"name": "docker", "evidence": "/.dockerenv"}}
    assert findings("GPU007", gpu=facts, limits=runtime) == []
    assert shape(judged("GPU007", ON, gpu=facts, limits=runtime)) == [("breaks", "possible")]


# GPU008


def test_gpu008_the_proprietary_module_leaves_blackwell_aside() -> None:
    facts = machine(
        "570.144",
        None,
        kernel_module={"flavour": "proprietary"},
        asked="proc",
        devices={"0": device("NVIDIA GeForce RTX 5090")},
        libcuda={"init": 100},
    )
    (found,) = findings("GPU008", gpu=facts)
    assert shape([found]) == [("breaks", "likely")]
    assert found.predicted_error == "No devices were found"
    assert "nvidia-driver-570-open" in found.fix[0].text


@pytest.mark.parametrize(
    "facts",
    [
        {"kernel_module": {"flavour": "open"}, "asked": "proc"},
        {"kernel_module": {"flavour": "proprietary"}, "asked": "nvml"},
        {"kernel_module": {"flavour": "proprietary"}, "asked": "proc", "devices": {"0": device("H100")}},
        {"kernel_module": {"flavour": None}, "asked": "proc"},
        {"kernel_module": None},
    ],
)
def test_gpu008_is_silent(facts: dict[str, Any]) -> None:
    assert findings("GPU008", gpu=machine("570.144", None, **({"devices": {"0": device("RTX 5090")}} | facts))) == []


# GPU015


@pytest.mark.parametrize(
    ("option", "error", "confidence"),
    [
        ("-DCODE=999", "Failed to initialize NVML: Unknown Error", "certain"),
        ("-DCODE=4", "Failed to initialize NVML: Insufficient Permissions", "certain"),
        ("-DCODE=9", NOT_LOADED, "certain"),
        ("-DCRASH", None, "likely"),
    ],
)  # fmt: skip
def test_gpu015_nvml(option: str, error: str | None, confidence: str, here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.535.104.05", compiled(STUB, option))
    (found,) = findings("GPU015", gpu=here.section()["facts"])
    assert shape([found]) == [("breaks", confidence)]
    assert found.predicted_error == error


def test_gpu015_cuda(here: Machine, compiled: Build) -> None:
    here.driver(PROC_535)
    here.library("libnvidia-ml.so.535.104.05", compiled(STUB))
    here.library("libcuda.so.535.104.05", compiled(CUDA, "-DLEVEL=12020", "-DINIT=999"))
    measured = here.section()["facts"]
    (found,) = findings("GPU015", gpu=measured)
    assert (found.title, found.predicted_error) == ("CUDA does not start: unknown error", "unknown error")
    (found,) = findings("GPU015", gpu=measured, cuda=torch("2.8.0", "12.8", TORCH_128))
    assert (found.predicted_error or "").startswith("RuntimeError: CUDA unknown error - this may be due to")


def test_gpu015_monitoring_alone_is_a_note() -> None:
    (found,) = findings("GPU015", gpu=machine(nvml={"code": 999, "error": "UNKNOWN"}))
    assert shape([found]) == [("note", "certain")]


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"nvml": None, "libcuda": None},
        {"nvml": {"code": 18, "error": "LIB_RM_VERSION_MISMATCH"}},
        {"libcuda": {"init": 804}},
        {"libcuda": {"init": 34}},
        {"libcuda": {"init": 999}, "device_nodes": {}},
        {"libcuda": {"init": 999}, "device_nodes": node(accessible=False) | node("/dev/nvidiactl")},
        {"libcuda": {"init": 100}, "devices": {}},
    ],
)
def test_gpu015_is_silent_where_others_speak(facts: dict[str, Any]) -> None:
    assert findings("GPU015", gpu=machine(**facts)) == []


def test_gpu015_a_variable_hides_the_devices() -> None:
    hidden = machine(libcuda={"init": 100})
    assert shape(findings("GPU015", gpu=hidden)) == [("breaks", "certain")]
    variables = {"variables": {"CUDA_VISIBLE_DEVICES": {"value": "-1"}}}
    assert findings("GPU015", gpu=hidden, variables=variables) == []
    # Put on that machine: which variables its own libcuda was asked with is not known.
    assert judged("GPU015", ON, gpu=hidden, variables={"variables": {}}) == []


# GPU002 on what numba does


def test_gpu002_numba_writes_ptx_for_the_driver() -> None:
    library = {
        "soname": "libnvvm.so.4", "version": "12.9.86", "version_from": "constants",
        "distribution": "nvidia-cuda-nvcc-cu12", "via": {"search path": True}, "stub": False,
    }  # fmt: skip
    has = image(libraries={"nvvm": {"nvidia/cuda_nvcc/nvvm/lib64/libnvvm.so": library}})
    packages = distributions(distribution("numba-cuda", "0.20.0"))
    (found,) = findings("GPU002", gpu=machine(), cuda=has, packages=packages)
    assert shape([found]) == [("breaks", "possible")]
    assert findings("GPU002", gpu=machine("575.51.03", "12.9"), cuda=has, packages=packages) == []
    assert findings("GPU002", gpu=machine(), cuda=has, packages=distributions(distribution("torch"))) == []


def test_code_of_other_libraries_does_not_count_for_numba() -> None:
    assert findings("GPU002", gpu=machine(), cuda=image(device_code={"x.so": code("x", "sm_80")})) == []
