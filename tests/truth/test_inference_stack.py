"""A real inference stack of seventy distributions: nothing is wrong with it, until one wheel of another build joins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import driftcheck
from support.wheels import clean_environment, last_line, run, virtual_environment

pytestmark = pytest.mark.network

TORCH = "2.13.0"
TORCHVISION = "0.28.0"  # of the registry: a CUDA build, made for this torch
NEEDS_OF_TORCH = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
STACK = (
    "accelerate", "datasets", "fastapi", "gunicorn", "httpx", "lightgbm", "numpy", "onnxruntime",
    "opencv-python-headless", "orjson", "pandas", "pillow", "prometheus-client", "scikit-learn", "sentencepiece",
    "soundfile", "transformers", "uvicorn",
)  # fmt: skip
IMPORTED = "accelerate, cv2, datasets, fastapi, lightgbm, numpy, onnxruntime, pandas, sklearn, torch, transformers"


@pytest.fixture(scope="module")
def stack() -> Iterator[Path]:
    """The interpreter of the environment. It takes two gigabytes, so it does not stay with pytest's other files."""
    folder = Path(tempfile.mkdtemp(prefix="driftcheck-stack-"))
    try:
        python = virtual_environment(folder, with_pip=True)
        # Without its own requirements, so that no other build of torch brings gigabytes of CUDA.
        install(python, "--no-deps", f"torch=={TORCH}")
        if "+cpu" not in run(python, "import importlib.metadata as m; print(m.version('torch'))").stdout:
            pytest.skip("the registry has no CPU build of torch for this Python")
        install(python, *NEEDS_OF_TORCH, *STACK)
        yield python
    finally:
        shutil.rmtree(folder)


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def check(python: Path) -> dict[str, Any]:
    result = driftcheck("check", f"python:{python}", "--format", "json")
    (target,) = json.loads(result.out)["targets"]
    assert isinstance(target, dict)
    return target


def test_a_healthy_stack_has_no_finding_that_breaks(stack: Path) -> None:
    found = check(stack)
    assert int(found["environment"]["summary"]["Packages"].split()[0]) >= 70
    assert [finding["title"] for finding in found["findings"] if finding["code"].startswith("LIB")] == []
    assert [finding["title"] for finding in found["findings"] if finding["impact"] == "breaks"] == []
    assert run(stack, f"import {IMPORTED}; print('all')").stdout.strip() == "all"


SHARE = """
import re, torch
try:
    torch.ones(40 << 20).share_memory_()
except RuntimeError as error:
    print(re.sub(r"torch_\\w+", "torch_...", f"RuntimeError: {error}"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which only root may")
def test_tensors_do_not_fit_into_the_shared_memory_of_a_container(stack: Path, tmp_path: Path) -> None:
    """What an engine gives by default, 64 MB of /dev/shm, in a mount namespace."""
    small = tmp_path / "small-shm"
    small.write_text('#!/bin/sh\nmount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"\n')
    small.chmod(0o755)
    prefix = ["unshare", "--mount", str(small)]
    result = driftcheck("check", f"via:{' '.join(prefix)}", "--python", str(stack), "--format", "json")
    (target,) = json.loads(result.out)["targets"]
    (finding,) = [one for one in target["findings"] if one["code"] == "BOX001"]
    done = subprocess.run(
        [*prefix, str(stack), "-c", SHARE], capture_output=True, text=True, env=clean_environment(), check=False
    )
    assert done.stdout.strip() == finding["predicted_error"]


def test_a_torchvision_of_another_build_fails_in_the_predicted_words(stack: Path) -> None:
    install(stack, "--no-deps", f"torchvision=={TORCHVISION}")
    breaking = [finding for finding in check(stack)["findings"] if finding["impact"] == "breaks"]
    assert [(finding["code"], finding["confidence"]) for finding in breaking] == [("PKG008", "certain")]
    assert breaking[0]["predicted_error"] == last_line(run(stack, "import torchvision"))
