"""What really breaks is on the first screen, and nothing is made up: Debian 12 and Debian 11 with the same wheels.

The reports are made from the files alone, before anything has run; then the Python of each root uses what is
installed there, and what it prints is the truth (pytest --network --engine).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from support import engine
from support.services import Place, compared, fetch, judge, tried

pytestmark = [pytest.mark.network, pytest.mark.engine]

# One version of each for both Pythons. Those of abi3 are one file for both: cryptography was built for glibc 2.34,
# which Debian 11 lacks, opencv-python opens a libGL that neither has, and safetensors fits everywhere.
WHEELS = (
    "cffi==2.0.0", "coloredlogs==15.0.1", "cryptography==46.0.3", "flatbuffers==25.2.10", "humanfriendly==10.0",
    "mpmath==1.3.0", "numpy==2.0.2", "onnxruntime==1.19.2", "opencv-python==4.11.0.86", "packaging==25.0",
    "pandas==2.2.3", "pillow==11.3.0", "protobuf==6.33.0", "pycparser==2.23", "python-dateutil==2.9.0.post0",
    "pytz==2025.2", "pyyaml==6.0.3", "safetensors==0.6.2", "six==1.17.0", "sympy==1.13.3", "tzdata==2025.2",
)  # fmt: skip
USED = (
    "cffi", "cryptography", "numpy", "onnxruntime", "opencv-python", "pandas", "pillow", "protobuf", "pycparser",
    "pyyaml", "safetensors",
)  # fmt: skip
PYTHON = {"bookworm": "3.11.2", "bullseye": "3.9.2"}
# As the build stage of an image takes them, whatever the stage that runs them can load.
PLATFORMS = tuple(
    f"--platform=manylinux{name}_x86_64"
    for name in ("_2_34", "_2_28", "_2_27", "_2_24", "_2_17", "2014", "_2_12", "2010", "_2_5", "1")
)

# Onnxruntime reads the processors from /sys, and an inference wants a /dev. The mounts end with the process.
ENTER = """#!/bin/sh
root=$1; shift
for place in proc sys dev; do mount --rbind "/$place" "$root/$place" || exit 125; done
exec chroot "$root" /usr/bin/python3 "$@"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Place]:
    """``place("bullseye", "bookworm")``: a root of Debian 11 with the site-packages that were filled for Debian 12."""
    reason = engine.missing("debootstrap", "chroot", "unshare")
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("roots")
    enter = folder / "enter"
    enter.write_text(ENTER)
    enter.chmod(0o755)
    made: dict[tuple[str, str], Place] = {}
    filled: dict[str, Path] = {}

    def packages(release: str) -> Path:
        if release not in filled:
            filled[release] = folder / f"packages-{release}"
            options = ("--target", str(filled[release]), "--no-compile", "--implementation=cp", *PLATFORMS)
            fetch(sys.executable, *WHEELS, options=(*options, f"--python-version={PYTHON[release]}"))
        return filled[release]

    def make(release: str, wheels: str) -> Place:
        if (release, wheels) not in made:
            root = folder / f"{release}-{wheels}"
            whole = engine.debian(release, tmp_path_factory.getbasetemp())
            # Not shutil: it reads what comes out of a /dev/zero, without end.
            subprocess.run(["cp", "-a", str(whole), str(root)], check=True, timeout=300)
            minor = PYTHON[release].rpartition(".")[0]
            site = root / "usr/local/lib" / f"python{minor}" / "dist-packages"
            shutil.copytree(packages(wheels), site, dirs_exist_ok=True)
            command = ("unshare", "--mount", str(enter), str(root))
            made[release, wheels] = Place(f"rootfs:{root}", command)
        return made[release, wheels]

    return make


@pytest.mark.parametrize(
    ("before", "after", "fail"),
    [
        (("bookworm", "bookworm"), ("bullseye", "bullseye"), {"cryptography"}),
        (("bullseye", "bullseye"), ("bookworm", "bookworm"), set[str]()),
        # COPY --from=build /usr/local/lib/python3.11/dist-packages, into an image of another Debian.
        (
            ("bookworm", "bookworm"),
            ("bullseye", "bookworm"),
            {"cffi", "cryptography", "numpy", "onnxruntime", "pandas", "pillow", "safetensors"},
        ),
    ],
    ids=["back to Debian 11", "on to Debian 12", "copied to Debian 11"],
)
def test_another_debian(
    place: Callable[[str, str], Place],
    before: tuple[str, str],
    after: tuple[str, str],
    fail: Collection[str],
    tmp_path: Path,
) -> None:
    baseline, target = place(*before), place(*after)
    seen = compared(tmp_path, baseline.reference, target.reference)
    known, failed = tried(baseline, USED), tried(target, USED)
    assert {name for name in failed if name not in known} == fail
    judge(seen, failed, worked=[name for name in USED if name not in known])
