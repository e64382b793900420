"""Family GPU: frameworks and packages built for CPUs, for another CUDA, or in the way of each other; Triton's ptxas;
what an image asks of the container runtime.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.cuda_facts import build, copy, cuda, gpu, libraries
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding

TORCH_CPU = build(accelerator="cpu", version="2.9.0+cpu")
TORCH_CUDA = build(accelerator="cuda", cuda="12.8", version="2.9.0+cu128")
ORT_CPU = build(accelerator="cpu", version="1.22.0", package="onnxruntime")
ORT_CUDA = build(accelerator="cuda", cuda="12.2", version="1.22.0", package="onnxruntime-gpu")
NO_DRIVER = (
    "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a "
    "driver from http://www.nvidia.com/Download/index.aspx"
)


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


# GPU026


def test_gpu026_ctranslate2_finds_no_cublas() -> None:
    packages = distributions(distribution("ctranslate2", "4.8.5"))
    (found,) = findings("GPU026", cuda=cuda(), packages=packages, gpu=gpu("8.6"))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "RuntimeError: Library libcublas.so.12 is not found or cannot be loaded"
    assert [fix.text for fix in found.fix] == ['python -m pip install "nvidia-cublas-cu12"']


def test_gpu026_a_library_in_a_wheel_helps_only_who_loads_it() -> None:
    packages = distributions(distribution("ctranslate2", "4.8.5"), distribution("nvidia-cublas-cu12", "12.8.4.1"))
    facts = cuda(copy("nvidia/cublas/lib/libcublas.so.12", "12.8.4.1"))
    (found,) = findings("GPU026", cuda=facts, packages=packages, gpu=gpu("8.6"))
    assert judged(found) == ("breaks", "possible")
    assert [fix.text for fix in found.fix] == [
        "LD_LIBRARY_PATH with /venv/lib/python3.11/site-packages/nvidia/cublas/lib"
    ]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("4.4.0", "Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8: cannot open shared"),
        ("4.5.0", "Unable to load any of {libcudnn_ops.so.9.1.0, libcudnn_ops.so.9.1, libcudnn_ops.so.9, libcudnn_ops"),
    ],
)
def test_gpu026_ctranslate2_and_the_family_of_cudnn(version: str, text: str) -> None:
    cublas = copy("/usr/local/cuda/lib64/libcublas.so.12", "12.4.5", via="cache")
    packages = distributions(distribution("ctranslate2", version))
    (found,) = findings("GPU026", cuda=cuda(cublas), packages=packages, gpu=gpu("8.6"))
    assert found.predicted_error is not None
    assert found.predicted_error.startswith(text)


def test_gpu026_is_silent_on_a_cpu_and_where_all_is_there() -> None:
    packages = distributions(distribution("ctranslate2", "4.8.5"))
    assert findings("GPU026", cuda=cuda(), packages=packages, gpu=gpu()) == []
    assert findings("GPU026", cuda=cuda(), packages=packages) == []
    there = cuda(copy("/usr/local/cuda/lib64/libcublas.so.12", "12.4.5", via="cache"))
    assert findings("GPU026", cuda=there, packages=packages, gpu=gpu("8.6")) == []


def test_gpu026_cupy_for_cuda_12_beside_cuda_13() -> None:
    """A package with cuda in its name wants a GPU, so none has to be seen."""
    packages = distributions(distribution("cupy-cuda12x", "13.6.0"))
    facts = cuda(copy("/usr/local/cuda/lib64/libnvrtc.so.13", "13.0.88", via="cache"))
    (found,) = findings("GPU026", cuda=facts, packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == (
        "RuntimeError: CuPy failed to load libnvrtc.so.12: OSError: libnvrtc.so.12: cannot open shared object file: No "
        "such file or directory"
    )


def test_gpu026_cupy_14_looks_into_the_wheels() -> None:
    packages = distributions(distribution("cupy-cuda12x", "14.2.0"))
    wheel = cuda(copy("nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "12.8.93"))
    assert findings("GPU026", cuda=wheel, packages=packages) == []
    assert len(findings("GPU026", cuda=cuda(), packages=packages)) == 1


def test_gpu026_the_plugin_of_jax_without_its_libraries() -> None:
    """One finding, with the first thing that JAX says and all that is to be installed."""
    packages = distributions(distribution("jax-cuda12-plugin", "0.10.2"))
    facts = cuda(
        copy("nvidia/cuda_runtime/lib/libcudart.so.12", "12.9.79"),
        copy("nvidia/cublas/lib/libcublas.so.12", "12.9.3"),
        copy("nvidia/cufft/lib/libcufft.so.11", "11.4.1"),
    )
    (found,) = findings("GPU026", cuda=facts, packages=packages)
    assert judged(found) == ("slows", "likely")
    assert found.predicted_error == "RuntimeError: Unable to load cuDNN. Is it installed?"
    assert "Missing: libcudnn.so.9, libcusparse.so.12, libnvJitLink.so.12." in found.explanation
    assert [fix.text for fix in found.fix] == ['python -m pip install "nvidia-cudnn-cu12" "nvidia-cusparse-cu12"']


def test_gpu026_tensorflow_without_its_extra() -> None:
    builds = {"tensorflow": build(accelerator="cuda", cuda="12.5.1", cudnn="9")}
    packages = distributions(distribution("tensorflow", "2.20.0"))
    (found,) = findings("GPU026", cuda=cuda(builds=builds), packages=packages, gpu=gpu("8.0"))
    assert judged(found) == ("slows", "likely")
    assert [fix.text for fix in found.fix] == ['python -m pip install "tensorflow[and-cuda]==2.20.0"']
    whole = cuda(
        copy("nvidia/cuda_runtime/lib/libcudart.so.12", "12.5.82"),
        copy("nvidia/cudnn/lib/libcudnn.so.9", "9.3.0.75"),
        builds=builds,
    )
    assert findings("GPU026", cuda=whole, packages=packages, gpu=gpu("8.0")) == []


# GPU027


def test_gpu027_a_cpu_build_of_torch_on_a_gpu() -> None:
    (found,) = findings("GPU027", cuda=cuda(builds={"torch": TORCH_CPU}), gpu=gpu("9.0", "9.0"))
    assert judged(found) == ("slows", "likely")
    assert found.title == "torch 2.9.0+cpu is a build for CPUs, and NVIDIA H100 is here"
    assert found.predicted_error == "AssertionError: Torch not compiled with CUDA enabled"


def test_gpu027_a_small_onnxruntime_beside_torch_may_be_meant() -> None:
    facts = cuda(builds={"torch": TORCH_CUDA, "onnxruntime": ORT_CPU})
    (found,) = findings("GPU027", cuda=facts, gpu=gpu("9.0"))
    assert judged(found) == ("slows", "possible")
    assert found.subject.name == "onnxruntime"


def test_gpu027_jaxlib_without_a_plugin() -> None:
    facts = cuda(builds={"jaxlib": build(version="0.10.2")})
    (found,) = findings("GPU027", cuda=facts, gpu=gpu("9.0"))
    assert [fix.text for fix in found.fix] == ['python -m pip install "jax[cuda12]"']
    plugin = {"jax_cuda12_plugin": build(version="0.10.2", accelerator="cuda", cuda="12")}
    assert findings("GPU027", cuda=cuda(builds=facts["builds"] | plugin), gpu=gpu("9.0")) == []


def test_gpu027_is_silent() -> None:
    assert findings("GPU027", cuda=cuda(builds={"torch": TORCH_CPU}), gpu=gpu()) == []
    assert findings("GPU027", cuda=cuda(builds={"torch": TORCH_CUDA}), gpu=gpu("9.0")) == []


# GPU028


def test_gpu028_a_cpu_build_of_torch_in_the_place_of_the_cuda_build() -> None:
    packages = distributions(distribution("torch", "2.9.0+cu128"))
    (found,) = findings(
        "GPU028",
        baseline={"cuda": cuda(builds={"torch": TORCH_CUDA}), "packages": packages},
        cuda=cuda(builds={"torch": TORCH_CPU}),
        packages=distributions(distribution("torch", "2.9.0+cpu")),
    )
    assert judged(found) == ("breaks", "likely")
    assert found.title == "torch is a build for CPUs, and the baseline's is for cuda"
    assert found.predicted_error == "AssertionError: Torch not compiled with CUDA enabled"
    assert found.fix[0].text == "python -m pip install --force-reinstall torch==2.9.0+cu128"
    assert "publishes for cu128:" in found.fix[-1].text


def test_gpu028_folds_what_came_with_the_cuda_build() -> None:
    requires = {"nvidia-cublas-cu12==12.8.4.1": "", "triton==3.5.0": "", "numpy": ""}
    record = {"digest": "sha256:one", "files": 9}
    before = {
        "cuda": cuda(copy("nvidia/cublas/lib/libcublas.so.12", "12.8.4.1"), builds={"torch": TORCH_CUDA}),
        "packages": distributions(
            distribution("torch", "2.9.0+cu128", requires=requires, record=record),
            distribution("nvidia-cublas-cu12", "12.8.4.1"),
            distribution("triton", "3.5.0"),
            distribution("numpy", "2.1.0"),
        ),
    }
    after = {
        "cuda": cuda(builds={"torch": TORCH_CPU}),
        "packages": distributions(distribution("torch", "2.9.0+cpu", requires={"numpy": ""})),
    }
    explanation = explain_pair(snapshot("before", **before), snapshot("after", **after))
    (cause,) = [finding for finding in explanation.findings if finding.code == "GPU028"]
    folded = {path[2] for path in cause.folds if path[:2] == ("packages", "distributions") and len(path) == 3}
    assert folded == {"nvidia-cublas-cu12", "triton"}
    assert ("cuda", "libraries", "cublas") in {path[:3] for path in cause.folds}
    effects = {finding.code for finding in explanation.findings if finding.caused_by == cause.identity}
    assert effects == {"PKG005"}


def test_gpu028_onnxruntime_falls_back() -> None:
    (found,) = findings(
        "GPU028",
        baseline={
            "cuda": cuda(builds={"onnxruntime": ORT_CUDA}),
            "packages": distributions(distribution("onnxruntime-gpu", "1.22.0")),
        },
        cuda=cuda(builds={"onnxruntime": ORT_CPU}),
    )
    assert judged(found) == ("slows", "likely")
    assert [fix.text for fix in found.fix] == ["python -m pip install onnxruntime-gpu==1.22.0"]


def test_gpu028_a_plugin_of_jax_is_gone() -> None:
    jaxlib = {"jaxlib": build(version="0.10.2")}
    plugin = {"jax_cuda12_plugin": build(version="0.10.2", accelerator="cuda", cuda="12")}
    (found,) = findings(
        "GPU028", baseline={"cuda": cuda(builds=jaxlib | plugin)}, cuda=cuda(builds=jaxlib), packages=distributions()
    )
    assert judged(found) == ("slows", "likely")
    assert "the baseline has jax_cuda12_plugin 0.10.2" in found.explanation.lower()


def test_gpu028_folds_the_plugin_of_jax_and_what_it_required() -> None:
    jaxlib = {"jaxlib": build(version="0.10.2")}
    plugin = build(version="0.10.2", accelerator="cuda", cuda="12")
    requires = {"jax-cuda12-pjrt==0.10.2": "", "nvidia-cublas-cu12>=12.1.3.1": 'extra == "with-cuda"'}
    before = {
        "cuda": cuda(
            copy("nvidia/cublas/lib/libcublas.so.12", "12.9.3"),
            builds=jaxlib | {"jax_cuda12_plugin": plugin, "xla_cuda12": plugin},
        ),
        "packages": distributions(
            distribution("jaxlib", "0.10.2"),
            distribution("jax-cuda12-plugin", "0.10.2", requires=requires),
            distribution("jax-cuda12-pjrt", "0.10.2"),
            distribution("nvidia-cublas-cu12", "12.9.3.13"),
        ),
    }
    after = {"cuda": cuda(builds=jaxlib), "packages": distributions(distribution("jaxlib", "0.10.2"))}
    explanation = explain_pair(snapshot("before", **before), snapshot("after", **after))
    (cause,) = [finding for finding in explanation.findings if finding.code == "GPU028"]
    assert {change.path for change in explanation.changes} == set(cause.folds)


def test_gpu028_is_silent() -> None:
    both = cuda(builds={"torch": TORCH_CUDA})
    assert findings("GPU028", baseline={"cuda": both}, cuda=both) == []
    without = {"cuda": both, "gpu": gpu()}  # a baseline that computes on the CPU as well
    assert findings("GPU028", baseline=without, cuda=cuda(builds={"torch": TORCH_CPU})) == []
    assert findings("GPU028", baseline={"cuda": both}, cuda=cuda()) == []


# GPU029


def test_gpu029_the_cpu_build_was_written_last() -> None:
    packages = distributions(distribution("onnxruntime", "1.22.0"), distribution("onnxruntime-gpu", "1.22.0"))
    (found,) = findings("GPU029", cuda=cuda(builds={"onnxruntime": ORT_CPU}), packages=packages)
    assert judged(found) == ("slows", "likely")
    assert found.title == "onnxruntime-gpu 1.22.0 is installed, and the files are those of onnxruntime 1.22.0"
    assert [fix.text for fix in found.fix] == [
        "python -m pip uninstall -y onnxruntime onnxruntime-gpu",
        "python -m pip install --force-reinstall --no-deps onnxruntime-gpu==1.22.0",
    ]


def test_gpu029_is_silent_where_the_gpu_build_won_or_stands_alone() -> None:
    both = distributions(distribution("onnxruntime", "1.22.0"), distribution("onnxruntime-gpu", "1.22.0"))
    assert findings("GPU029", cuda=cuda(builds={"onnxruntime": ORT_CUDA}), packages=both) == []
    one = distributions(distribution("onnxruntime", "1.22.0"))
    assert findings("GPU029", cuda=cuda(builds={"onnxruntime": ORT_CPU}), packages=one) == []


# GPU030


def jax(jaxlib: str, plugin: str, name: str = "jax_cuda12_plugin") -> dict[str, Any]:
    kind = "rocm" if "rocm" in name else "cuda"
    return cuda(builds={"jaxlib": build(version=jaxlib), name: build(version=plugin, accelerator=kind)})


def test_gpu030_a_plugin_of_another_version() -> None:
    (found,) = findings("GPU030", cuda=jax("0.10.2", "0.10.1"))
    assert judged(found) == ("slows", "likely")
    assert found.predicted_error == (
        "RuntimeWarning: JAX plugin jax_cuda12_plugin version 0.10.1 is installed, but it is not compatible with the "
        "installed jaxlib version 0.10.2, so it will not be used."
    )
    assert [fix.text for fix in found.fix] == ['python -m pip install "jax[cuda12]==0.10.2"']


@pytest.mark.parametrize(
    "facts",
    [jax("0.10.2", "0.10.2"), jax("0.10.2", "0.10.2.dev1"), jax("0.10.2", "0.10.1", "jax_rocm7_plugin"), cuda()],
)
def test_gpu030_is_silent(facts: dict[str, Any]) -> None:
    assert findings("GPU030", cuda=facts) == []


# GPU033


def bitsandbytes(torch: str, *variants: str) -> dict[str, Any]:
    record = build(version="0.50.2", variants=dict.fromkeys(variants, True))
    return cuda(builds={"bitsandbytes": record, "torch": build(accelerator="cuda", cuda=torch)})


def test_gpu033_no_library_for_this_cuda() -> None:
    (found,) = findings("GPU033", cuda=bitsandbytes("13.0", "11.8", "12.4", "12.8"))
    assert judged(found) == ("breaks", "likely")
    assert found.title == "bitsandbytes 0.50.2 has no library for CUDA 13.0, for which torch was built"


def test_gpu033_is_silent_on_another_minor_version() -> None:
    assert findings("GPU033", cuda=bitsandbytes("12.9", "11.8", "12.4", "12.8")) == []
    assert findings("GPU033", cuda=cuda(builds={"torch": TORCH_CUDA})) == []


# GPU031, GPU032


def triton(**programs: str | None) -> dict[str, Any]:
    folder = "/venv/lib/python3.11/site-packages/triton/backends/nvidia/bin"
    tools = {
        name.replace("_", "-"): {"path": f"{folder}/{name}", "via": "triton", "version": version}
        for name, version in programs.items()
    }
    return cuda(builds={"torch": TORCH_CUDA, "triton": build(version="3.5.0")}, tools={"triton": tools})


def test_gpu031_triton_without_ptxas() -> None:
    facts = triton() | {"tools": triton()["tools"] | {"ptxas": {"path": "/usr/local/cuda/bin/ptxas", "via": "PATH"}}}
    (found,) = findings("GPU031", cuda=facts)
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "RuntimeError: Cannot find ptxas"
    assert [fix.text for fix in found.fix] == ["TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas"]


def test_gpu031_is_silent() -> None:
    assert findings("GPU031", cuda=triton(ptxas="12.8.93")) == []
    assert findings("GPU031", cuda=cuda(builds={"torch": TORCH_CUDA})) == []
    rocm = cuda(builds={"torch": build(accelerator="rocm", rocm="6.4"), "triton": build(version="3.5.0")})
    assert findings("GPU031", cuda=rocm) == []


@pytest.mark.parametrize(
    ("programs", "capability", "name"),
    [
        ({"ptxas": "12.4.131"}, "12.0", "sm_120a"),
        ({"ptxas": "12.8.93"}, "12.1", "sm_121a"),
        ({"ptxas": "13.0.88"}, "7.0", "sm_70"),
        ({"ptxas": "12.8.93", "ptxas_blackwell": "12.8.93"}, "10.3", "sm_103a"),
    ],
)
def test_gpu032_a_device_that_this_ptxas_does_not_know(programs: dict[str, str], capability: str, name: str) -> None:
    (found,) = findings("GPU032", cuda=triton(**programs), gpu=gpu("8.0", capability))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == f"ptxas fatal   : Value '{name}' is not defined for option 'gpu-name'"


@pytest.mark.parametrize(
    ("programs", "capability"),
    [
        ({"ptxas": "12.8.93"}, "12.0"),
        ({"ptxas": "12.8.93", "ptxas_blackwell": "13.4.59"}, "12.1"),
        ({"ptxas": "12.9.86", "ptxas_blackwell": "13.4.59"}, "7.0"),
        ({"ptxas": None}, "12.1"),
        ({"ptxas": "12.4.131"}, "14.3"),
        ({}, "12.1"),
    ],
)
def test_gpu032_is_silent(programs: dict[str, str | None], capability: str) -> None:
    assert findings("GPU032", cuda=triton(**programs), gpu=gpu(capability)) == []


# GPU034


def test_gpu034_an_image_for_video_drops_compute() -> None:
    facts = cuda(builds={"torch": TORCH_CUDA}, image={"driver_capabilities": "video,utility"})
    (found,) = findings("GPU034", cuda=facts, packages=distributions())
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == NO_DRIVER
    assert found.fix[0].text == "ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    facts = cuda(builds={"torch": TORCH_CUDA}, image={"driver_capabilities": "video,$(reboot)"})
    (found,) = findings("GPU034", cuda=facts, packages=distributions())
    assert found.fix[1].text == "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"


def needs(soname: str) -> dict[str, Any]:
    record = {"modules": 1, "libraries": 0, "needs": {soname: {"answers": {"": "driver"}, "versions": {}}}}
    return libraries(distributions={"torchcodec": record})


def test_gpu034_a_decoder_needs_video() -> None:
    facts = cuda(image={"driver_capabilities": "compute,utility"})
    (found,) = findings("GPU034", cuda=facts, packages=distributions(), libraries=needs("libnvcuvid.so.1"))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == (
        "ImportError: libnvcuvid.so.1: cannot open shared object file: No such file or directory"
    )


def test_gpu034_a_package_that_asks_nvml() -> None:
    facts = cuda(image={"driver_capabilities": "compute"})
    (found,) = findings("GPU034", cuda=facts, packages=distributions(distribution("nvidia-ml-py")))
    assert judged(found) == ("breaks", "possible")
    assert found.predicted_error == "pynvml.NVMLError_LibraryNotFound: NVML Shared Library Not Found"


@pytest.mark.parametrize("value", [None, "", "all", "compute,utility", "graphics, compute ,utility"])
def test_gpu034_is_silent(value: str | None) -> None:
    facts = cuda(builds={"torch": TORCH_CUDA}, image={"driver_capabilities": value})
    assert findings("GPU034", cuda=facts, packages=distributions(distribution("pynvml"))) == []


def test_gpu034_is_silent_where_the_library_is_there_all_the_same() -> None:
    facts = cuda(builds={"torch": TORCH_CUDA}, image={"driver_capabilities": "graphics"})
    assert findings("GPU034", cuda=facts, packages=distributions(), gpu=gpu("9.0")) == []


# GPU035


@pytest.mark.parametrize(
    ("value", "text"), [("void", NO_DRIVER), ("", NO_DRIVER), ("none", "RuntimeError: No CUDA GPUs are available")]
)
def test_gpu035_the_variable_of_the_image_hides_all(value: str, text: str) -> None:
    facts = cuda(builds={"torch": TORCH_CUDA}, image={"visible_devices": value})
    (image,) = findings("GPU035", cuda=facts)
    (running,) = findings("GPU035", cuda=facts, gpu=gpu())
    assert (judged(image), judged(running)) == (("breaks", "possible"), ("breaks", "likely"))
    assert image.predicted_error == text


def test_gpu035_is_silent() -> None:
    everything = cuda(builds={"torch": TORCH_CUDA}, image={"visible_devices": "all"})
    assert findings("GPU035", cuda=everything) == []
    assert findings("GPU035", cuda=cuda(image={"visible_devices": "void"})) == []
    hidden = cuda(builds={"torch": TORCH_CUDA}, image={"visible_devices": "void"})
    assert findings("GPU035", cuda=hidden, gpu=gpu("9.0")) == []
