"""Family GPU: device code against devices. Fat binaries that nvcc made are read by the real probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import cuda as probe
from driftcheck.probes import fatbin
from support.nvidia import ON, build, code, image, judged, libcuda, machine, shape, torch
from support.snapshots import findings

FATBINS = Path(__file__).parents[1] / "probes" / "fatbin_fixtures"
# What the wheels on the registry carry (torch.cuda.get_arch_list()).
TORCH_126 = "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
TORCH_128 = "sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
TORCH_130 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"


def compiled(name: str) -> dict[str, Any]:
    """An image with one library of nvcc, as the probe describes it."""
    device = fatbin.read(str(FATBINS / name))
    assert device is not None
    return image(device_code={f"mylib/{name}": probe.describe_device_code(device, "mylib")})


# GPU003


@pytest.mark.parametrize(
    ("version", "cuda", "architectures", "device", "fix"),
    [
        ("2.8.0+cu128", "12.8", TORCH_128, "GTX 1080", "cu126"),
        ("2.8.0+cu128", "12.8", TORCH_128, "P100", "cu126"),
        ("2.11.0", "13.0", TORCH_130, "V100", "cu126"),
        ("2.7.1+cu126", "12.6", TORCH_126, "RTX 5090", "cu128"),
        ("2.5.1+cu124", "12.4", TORCH_126, "B200", "cu128"),
    ],
)
def test_gpu003_builds_of_torch_leave_out_gpus(
    version: str, cuda: str, architectures: str, device: str, fix: str
) -> None:
    (found,) = findings("GPU003", gpu=machine("580.65.06", "13.0", device), cuda=torch(version, cuda, architectures))
    assert shape([found]) == [("breaks", "certain")]
    assert found.title.startswith(f"torch {version} has no code for ")
    kind = "torch.AcceleratorError" if version >= "2.8" or version.startswith("2.11") else "RuntimeError"
    assert found.predicted_error == f"{kind}: CUDA error: no kernel image is available for execution on the device"
    assert f"publishes for {fix}:" in found.fix[-1].text
    assert architectures in found.explanation


def test_gpu003_is_not_certain_where_every_gpu_is_hidden() -> None:
    old, built = machine("580.65.06", "13.0", "P100"), torch("2.8.0+cu128", "12.8", TORCH_128)
    hidden = {"variables": {"CUDA_VISIBLE_DEVICES": {"value": ""}}}
    assert shape(findings("GPU003", gpu=old, cuda=built, variables=hidden)) == [("breaks", "likely")]


@pytest.mark.parametrize(
    ("architectures", "device"),
    [
        (TORCH_126, "GTX 1080"),  # sm_60 runs on 6.1
        (TORCH_126, "RTX 4090"),  # sm_86 runs on 8.9
        (TORCH_128, "RTX 5090"),
        (TORCH_130, "T4"),
        ("sm_80 compute_80", "RTX 5090"),
        ("sm_100f", "B200"),
    ],
)
def test_gpu003_is_silent_where_something_fits(architectures: str, device: str) -> None:
    assert (
        findings("GPU003", gpu=machine("580.65.06", "13.0", device), cuda=torch("2.8.0", "12.8", architectures)) == []
    )


@pytest.mark.parametrize(
    ("file", "device", "confidence"),
    [
        ("both.so", "A100", None),
        ("both.so", "RTX 5090", None),  # PTX for 8.0
        ("both.so", "T4", "certain"),
        ("differing.so", "A100", None),
        ("differing.so", "H100", None),
        ("differing.so", "RTX 4090", None),
        ("differing.so", "T4", "certain"),
        ("only_ptx.so", "T4", None),
        ("only_ptx.so", "V100", "certain"),
        ("suffixes.so", "H100", None),  # sm_90a
        ("suffixes.so", "A100", "certain"),
        ("suffixes.so", "B200", None),  # sm_100f
        ("relocatable.so", "T4", None),  # still needs a device linker: no driver sees it
    ],
)
def test_gpu003_fat_binaries_of_nvcc(file: str, device: str, confidence: str | None) -> None:
    found = findings("GPU003", gpu=machine("580.65.06", "13.0", device), cuda=compiled(file))
    assert [one.confidence.value for one in found] == ([confidence] if confidence else [])
    assert all(one.predicted_error == "no kernel image is available for execution on the device" for one in found)


def test_gpu003_of_what_was_not_read_whole_nothing_is_certain() -> None:
    cut = torch("2.8.0", "12.8", TORCH_128, lists_complete=False)
    assert shape(findings("GPU003", gpu=machine("580.65.06", "13.0", "P100"), cuda=cut)) == [("breaks", "likely")]


def test_gpu003_a_device_that_depends_on_the_toolkit_is_left_alone() -> None:
    orin = machine("540.4.0", "12.6")
    orin["nvidia"]["devices"]["0"] |= {"name": "Orin (nvgpu)", "compute_capability": "8.7"}
    assert findings("GPU003", gpu=orin, cuda=torch("2.8.0", "12.6", "sm_80 sm_90")) == []


def test_gpu003_another_device_of_the_machine_fits() -> None:
    both = machine("580.65.06", "13.0", "A100", "GTX 1080")
    (found,) = findings("GPU003", gpu=both, cuda=torch("2.8.0", "12.8", TORCH_128))
    assert shape([found]) == [("breaks", "possible")]
    assert "Other devices of this machine have code." in found.explanation


def test_gpu003_the_library_of_torch_decides() -> None:
    """libtorch_nvshmem.so is for newer devices alone, in every healthy torch."""
    healthy = torch("2.9.0", "12.8", TORCH_128)
    healthy["device_code"]["torch/lib/libtorch_nvshmem.so"] = code("torch", "sm_90 sm_100 sm_120")
    assert findings("GPU003", gpu=machine("570.86.15", "12.8", "T4"), cuda=healthy) == []
    broken = torch("2.8.0", "12.8", TORCH_128)
    broken["device_code"]["torch/lib/libother.so"] = code("torch", "sm_60")
    assert shape(findings("GPU003", gpu=machine("570.86.15", "12.8", "P100"), cuda=broken)) == [("breaks", "certain")]


def test_gpu003_each_distribution_speaks_for_itself() -> None:
    with_flash = torch("2.8.0", "12.8", TORCH_128)
    with_flash["device_code"]["flash_attn_2_cuda.so"] = code("flash-attn", "sm_80", "sm_80 sm_90")
    (found,) = findings("GPU003", gpu=machine("570.86.15", "12.8", "T4"), cuda=with_flash)
    assert (found.subject.name, found.confidence.value) == ("flash-attn", "likely")  # models get along without it
    found, other = findings("GPU003", gpu=machine("570.86.15", "12.8", "P100"), cuda=with_flash)
    assert [found.confidence.value, other.confidence.value] == ["certain", "certain"]


def test_gpu003_small_libraries_fit_and_large_ones_do_not() -> None:
    vllm = image(
        builds={"vllm": build("0.10.1", "12.8")},
        device_code={
            "vllm/_C.abi3.so": code("vllm", "sm_75 sm_80 sm_90"),
            "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so": code("vllm", *["sm_80"] * 9),
        },
    )
    (found,) = findings("GPU003", gpu=machine("570.86.15", "12.8", "T4"), cuda=vllm)
    assert shape([found]) == [("breaks", "possible")]
    assert found.title == "Most of vllm 0.10.1 has no code for Tesla T4 (compute capability 7.5)"


def test_gpu003_bitsandbytes_loads_the_library_of_torchs_cuda() -> None:
    """bitsandbytes 0.50.2 as its wheel is."""
    old, middle = "sm_60 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90", "sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120"
    files = {
        f"bitsandbytes/libbitsandbytes_cuda{version}.so": code("bitsandbytes", names)
        for version, names in (("118", old), ("121", old), ("124", old), ("126", old), ("128", middle))
    }
    b200 = machine("580.65.06", "13.0", "B200")
    assert findings("GPU003", gpu=b200, cuda=image(device_code=files)) == []
    builds = {"torch": build("2.8.0", "12.8")}
    assert findings("GPU003", gpu=b200, cuda=image(device_code=files, builds=builds)) == []
    builds = {"torch": build("2.7.1", "12.6")}
    (found,) = findings("GPU003", gpu=b200, cuda=image(device_code=files, builds=builds))
    assert (found.subject.name, found.confidence.value) == ("bitsandbytes", "certain")


def test_gpu003_helpers_of_the_vendor() -> None:
    helpers = image(
        device_code={
            "nvidia/cusparselt/lib/libcusparseLt.so.0": code("nvidia-cusparselt-cu12", "sm_80 sm_90"),
            "nvidia/cublas/lib/libcublas.so.12": code("nvidia-cublas-cu12", "sm_80 sm_90"),
        }
    )
    (found,) = findings("GPU003", gpu=machine("570.86.15", "12.8", "T4"), cuda=helpers)
    assert (found.subject.name, found.confidence.value) == ("nvidia-cublas-cu12", "likely")
    helpers["device_code"]["torch/lib/libtorch_cuda.so"] = code("torch", "sm_80")
    (found,) = findings("GPU003", gpu=machine("570.86.15", "12.8", "T4"), cuda=helpers)
    assert found.subject.name == "torch"


@pytest.mark.parametrize("capability", [None, "?", ""])
def test_gpu003_a_device_of_unknown_kind_is_no_finding(capability: str | None) -> None:
    facts = machine("580.65.06", "13.0")
    facts["nvidia"]["devices"]["0"]["compute_capability"] = capability
    assert findings("GPU003", gpu=facts, cuda=torch("2.8.0", "12.8", "sm_50")) == []
    assert findings("GPU003", gpu=machine(devices={}), cuda=torch("2.8.0", "12.8", "sm_50")) == []


# GPU002


def test_gpu002_nvcc_13_and_a_driver_of_12() -> None:
    """nvcc 13.0 writes PTX 9.0, which a driver of CUDA 13.0 and newer translates."""
    (found,) = findings("GPU002", gpu=machine("570.86.15", "12.8", "A100"), cuda=compiled("only_ptx.so"))
    assert shape([found]) == [("breaks", "likely")]
    assert found.predicted_error == "the provided PTX was compiled with an unsupported toolchain."
    assert found.fix[0].text == "Update the driver of the machine to 580.65.06 or newer."
    assert findings("GPU002", gpu=machine("580.65.06", "13.0", "A100"), cuda=compiled("only_ptx.so")) == []


def test_gpu002_machine_code_needs_no_translation() -> None:
    assert findings("GPU002", gpu=machine("535.104.05", "12.2", "A100"), cuda=compiled("both.so")) == []
    assert shape(findings("GPU002", gpu=machine("535.104.05", "12.2", "H100"), cuda=compiled("both.so"))) == [
        ("breaks", "likely")
    ]


def test_gpu002_within_minor_version_compatibility() -> None:
    """A driver 580 and PTX of CUDA 13.2: NVIDIA/nvbandwidth issue 61."""
    made = torch("2.15.0", "13.2", "sm_75 compute_75", ptx={"compute_75": "9.2"})
    (found,) = findings("GPU002", gpu=machine("580.126.09", "13.0", "H100"), cuda=made)
    assert found.predicted_error == (
        "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain."
    )
    assert findings("GPU002", gpu=machine("595.45.04", "13.2", "H100"), cuda=made) == []


def test_gpu002_a_compat_library_translates() -> None:
    made = torch("2.15.0", "13.2", "sm_75 compute_75", ptx={"compute_75": "9.2"})
    note = {"format": 1, "cuda": "13.2", "drivers": [535, 570, 580, 590], "devices": [1, 2]}
    made["driver"] = {"/usr/local/cuda/compat/libcuda.so.1": libcuda("compat", "595.45.04", note)}
    assert judged("GPU002", ON, gpu=machine("580.126.09", "13.0", "H100"), cuda=made) == []


def test_gpu002_ptx_of_a_version_that_the_table_does_not_know_is_no_finding() -> None:
    made = torch("9.9", "13.2", "compute_75", ptx={"compute_75": "42.0"})
    assert findings("GPU002", gpu=machine("580.65.06", "13.0", "H100"), cuda=made) == []
    unread = torch("9.9", "13.2", "compute_75")
    assert findings("GPU002", gpu=machine("580.65.06", "13.0", "H100"), cuda=unread) == []
    silent = machine("no version", None, "H100", libcuda=None)
    assert findings("GPU002", gpu=silent, cuda=compiled("only_ptx.so")) == []
