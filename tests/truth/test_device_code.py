"""The GPU architectures in real CUDA libraries, as driftcheck reads them and as NVIDIA's cuobjdump lists them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from driftcheck.probes import fatbin
from support.wheels import pip

pytestmark = pytest.mark.network

# bitsandbytes has a library for each of seven versions of CUDA; torchvision's code is in its extension module.
WHEELS = ("bitsandbytes==0.50.2", "torchvision==0.28.0")
CUOBJDUMP = "nvidia-cuda-cuobjdump"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    target = ("install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", str(folder))
    pip(sys.executable, *target, CUOBJDUMP, *WHEELS)
    return folder


def listed(cuobjdump: Path, library: Path) -> tuple[Counter[str], bool]:
    """``sm_90`` and ``compute_90``, each as often as it is listed, and whether it read the file to its end.

    Family-specific machine code has no suffix there. One of bitsandbytes' libraries ends the program with "Invalid
    ELF" after its first entry (cuobjdump 13.2 to 13.5): it unpacks the code, which nobody has to.
    """
    found: Counter[str] = Counter()
    whole = True
    for option, kind in (("--list-elf", "sm"), ("--list-ptx", "compute")):
        done = subprocess.run([cuobjdump, option, library], capture_output=True, text=True, check=False)
        names = re.findall(r"\.sm_(\d+[af]?)\.(?:cubin|ptx)$", done.stdout, re.MULTILINE)
        found.update(f"{kind}_{name}" for name in names)
        whole = whole and "fatal" not in done.stderr
    return found, whole


def test_every_library_of_real_wheels_is_read_as_cuobjdump_reads_it(installed: Path, nccl: dict[str, Path]) -> None:
    (cuobjdump,) = installed.rglob("bin/cuobjdump")
    cuobjdump.chmod(0o755)
    compared: Counter[bool] = Counter()
    for library in sorted(path for folder in (installed, *nccl.values()) for path in folder.rglob("*.so*")):
        device = fatbin.read(str(library))
        if device is None or not device.containers:
            continue
        names = Counter(entry.name for container in device.containers for entry in container)
        ours = Counter(
            name[:-1] if name.startswith("sm_") and name.endswith("f") else name for name in names.elements()
        )
        assert device.problems == []
        theirs, whole = listed(cuobjdump, library)
        assert ours == theirs if whole else ours >= theirs, library.name
        compared[whole] += 1
    assert compared == {True: 10, False: 1}
