"""NVIDIA's own runtime libraries on drivers of every age: when they refuse to start, and in which words.

A driver library of a few lines answers what a real one would (its CUDA level, what cuInit returns); libcudart 11.8,
12.8 and 13.0 from the registry decide for themselves whether that is enough (pytest --network).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.driver import CUDA, PROC_535, Build, Machine, builder
from support.nvidia import build, image
from support.snapshots import findings
from support.wheels import clean_environment

from driftcheck.rules.gpu_facts import CUDA_ERRORS

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
]

RUNTIMES = {
    "11.8": ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia/cuda_runtime/lib/libcudart.so.11.0"),
    "12.8": ("nvidia-cuda-runtime-cu12==12.8.90", "nvidia/cuda_runtime/lib/libcudart.so.12"),
    "13.0": ("nvidia-cuda-runtime==13.0.96", "nvidia/cu13/lib/libcudart.so.13"),
}
ASK = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
library.cudaGetErrorString.restype = ctypes.c_char_p
count = ctypes.c_int()
code = library.cudaGetDeviceCount(ctypes.byref(count))
print(json.dumps([code, library.cudaGetErrorString(code).decode()]))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return builder(tmp_path_factory.mktemp("libraries"))


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runtime library of each version."""
    folder = tmp_path_factory.mktemp("runtimes")
    found = {}
    for version, (requirement, file) in RUNTIMES.items():
        target = folder / version
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--target", str(target), requirement]
        subprocess.run(command, check=True, timeout=300, env=clean_environment())
        found[version] = target / file
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(sys, "platform", "linux")
    machine = Machine(tmp_path)
    machine.driver(PROC_535)
    return machine


def started(runtime: Path, machine: Machine) -> tuple[int, str]:
    """What the runtime answers to its first call, and its words for it."""
    environ = clean_environment() | {"LD_LIBRARY_PATH": str(machine.root / "usr" / "lib64")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(runtime)], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    code, text = json.loads(done.stdout)
    return int(code), str(text)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("level", [11000, 11040, 11080, 12000, 12020, 12080, 13000, 13020])
def test_a_runtime_refuses_drivers_of_an_older_major_version_and_no_others(
    level: int, runtime: str, runtimes: dict[str, Path], here: Machine, compiled: Build
) -> None:
    here.library("libcuda.so.535.104.05", compiled(CUDA, f"-DLEVEL={level}", "-DINIT=0"))
    code, text = started(runtimes[runtime], here)
    # The stub has two functions: a runtime that gets past the check misses the next one (36).
    assert code in {35, 36}
    found = findings("GPU001", gpu=here.section()["facts"], cuda=image(builds={"lib": build("1", runtime)}))
    assert bool(found) == (code == 35)
    assert [one.predicted_error for one in found] == [text] * len(found)


@pytest.mark.parametrize(
    ("answer", "rule"),
    [(34, "GPU004"), (802, "GPU007"), (803, "GPU005"), (804, "GPU005"), (3, "GPU015"), (46, "GPU015"), (999, "GPU015")],
)
def test_what_cuinit_answers_is_what_the_runtime_says(
    answer: int, rule: str, runtimes: dict[str, Path], here: Machine, compiled: Build
) -> None:
    here.library("libcuda.so.535.104.05", compiled(CUDA, "-DLEVEL=13000", f"-DINIT={answer}"))
    code, text = started(runtimes["13.0"], here)
    assert code == answer
    (found,) = findings(rule, gpu=here.section()["facts"], cuda=image())
    assert found.confidence.value == "certain"
    assert found.predicted_error == text


def test_words_of_the_runtime(runtimes: dict[str, Path]) -> None:
    script = (
        "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).cudaGetErrorString; f.restype = ctypes.c_char_p\n"
        "for code in sys.argv[2:]: print(f(int(code)).decode())"
    )
    command = [sys.executable, "-c", script, str(runtimes["13.0"]), *map(str, CUDA_ERRORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == list(CUDA_ERRORS.values())
