"""NVIDIA's own NCCL: on which drivers it starts, what it says, and what the loader makes of an old one.

The wheels come from the registry (pytest --network); the driver is a stub that answers the CUDA level of a real one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common
from driftcheck.probes import cuda as probe
from support.compiled import Builder, imported, measured
from support.driver import CUDA, PROC_535, Build, Machine, builder
from support.nvidia import NCCL, build, image
from support.snapshots import findings
from support.wheels import clean_environment

from driftcheck.explain import explain_one
from driftcheck.knowledge import gpu_libraries as known

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

FILE = "nvidia/nccl/lib/libnccl.so.2"
ASK = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
library.ncclGetLastError.restype = ctypes.c_char_p
communicator, devices = ctypes.c_void_p(), (ctypes.c_int * 1)(0)
code = library.ncclCommInitAll(ctypes.byref(communicator), 1, devices)
print(json.dumps([code, library.ncclGetLastError(None).decode()]))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return builder(tmp_path_factory.mktemp("libraries"))


def facts_of(site: Path) -> dict[str, Any]:
    """The section cuda of a directory of packages."""
    section = common.section(probe, common.Place(root="/", environ={}, search_path=[str(site)], live=True))
    facts: dict[str, Any] = section["facts"]
    return facts


@pytest.mark.parametrize("version", sorted(NCCL))
def test_what_nccl_states_of_itself(version: str, nccl: dict[str, Path]) -> None:
    name, built_with = NCCL[version]
    record = facts_of(nccl[version])["libraries"]["nccl"][FILE]
    assert (record["soname"], record["version"], record["cuda"]) == ("libnccl.so.2", version, built_with)
    assert (record["distribution"], record["version_from"]) == (name, "constants")


@pytest.mark.parametrize("version", sorted(NCCL))
@pytest.mark.parametrize("level", [11040, 12000, 12020, 12080, 13000, 13020])
def test_nccl_refuses_drivers_of_an_older_major_version_and_no_others(
    level: int,
    version: str,
    nccl: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiled: Build,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    machine = Machine(tmp_path)
    machine.driver(PROC_535)
    machine.library("libcuda.so.535.104.05", compiled(CUDA, f"-DLEVEL={level}", "-DINIT=0"))
    environ = clean_environment() | {"LD_LIBRARY_PATH": str(machine.root / "usr" / "lib64")}
    command = [sys.executable, "-c", ASK, str(nccl[version] / FILE)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    code, text = json.loads(done.stdout)
    # ncclUnhandledCudaError in any case: on a driver that is new enough the stub lacks the next function.
    assert code == 1
    refused = text == "Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'"
    assert refused or text == "Cuda failure 'API call is not supported in the installed CUDA driver'"
    framework = build("1", "11.8")  # which starts on all of these drivers
    facts = image(builds={"torch": framework}) | {"libraries": facts_of(nccl[version])["libraries"]}
    found = findings("GPU038", gpu=machine.section()["facts"], cuda=facts)
    assert [one.predicted_error for one in found] == [text] * refused


def test_which_release_brought_which_function(nccl: dict[str, Path]) -> None:
    """The table against the two libraries: each has all that came until then and nothing that came later."""
    for version, site in nccl.items():
        listed = subprocess.run(
            ["readelf", "--dyn-syms", "--wide", str(site / FILE)], capture_output=True, text=True, check=True
        ).stdout
        offered = set(re.findall(r" (nccl[A-Z]\w*)$", listed, re.MULTILINE))
        numbers = tuple(int(part) for part in version.split("."))
        until = [row for row in known.nccl_releases() if tuple(int(part) for part in row.version.split(".")) <= numbers]
        assert offered == {function for row in until for function in row.functions}


def test_an_old_nccl_in_the_place_of_the_new_one(nccl: dict[str, Path], tmp_path: Path) -> None:
    """A module that was linked with NCCL 2.29, and LD_LIBRARY_PATH with one that has less."""
    made = Builder(tmp_path / "site")
    made.module(
        "fake/_C",
        keeps=["ncclCommResume"],
        links=[nccl["2.29.7"] / FILE],
        runpath=str((nccl["2.29.7"] / FILE).parent),
    )
    made.write("fake/__init__.py", "from . import _C\n")
    made.distribution("fake")
    assert not imported("fake._C", made.folder).failed
    variables = {"LD_LIBRARY_PATH": str((nccl["2.21.5"] / FILE).parent)}
    ended = imported("fake._C", made.folder, variables)
    sections = ("libraries", "packages", "python", "variables", "cuda")
    explanation = explain_one(measured(made.folder, variables, sections=sections))
    (found,) = [one for one in explanation.findings if one.code == "GPU039"]
    assert found.predicted_error == ended.line
    assert found.title == "_C.abi3.so needs NCCL 2.29.7 or newer, and NCCL 2.21.5 answers"
    assert [fix.text for fix in found.fix] == [f"LD_LIBRARY_PATH without {variables['LD_LIBRARY_PATH']}"]
