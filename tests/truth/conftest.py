"""What several files of this directory install from the registry."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nvidia import NCCL
from support.wheels import pip


@pytest.fixture(scope="session")
def nccl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A directory with the wheel of each version of NCCL: both write the same file. They are large, and do not stay."""
    folder = tmp_path_factory.mktemp("nccl")
    for version, (name, _) in NCCL.items():
        target = ("--target", str(folder / version))
        pip(sys.executable, "install", "--quiet", "--no-deps", "--only-binary=:all:", *target, f"{name}=={version}")
    yield {version: folder / version for version in NCCL}
    shutil.rmtree(folder)
