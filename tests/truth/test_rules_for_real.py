"""Rules of every family on breakages that are made here: what is measured, what is said of it, and what happens.

No registry and no engine: directories of modules, gcc, variables, processes with fewer CPUs, qemu's processors.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import elf
from support.compiled import Builder, imported, measured
from support.snapshots import findings, snapshot
from support.wheels import (
    clean_environment,
    install,
    last_line,
    pip,
    probe,
    run,
    this_python,
    virtual_environment,
    wheel,
)

from driftcheck.environments import Options, snapshot_of
from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Finding
from driftcheck.snapshot import Snapshot

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]


def of(code: str, target: Snapshot, baseline: Snapshot | None = None) -> list[Finding]:
    """What one rule finds."""
    explanation = explain_one(target) if baseline is None else explain_pair(baseline, target)
    assert not [entry for entry in explanation.not_judged if entry.code == code], explanation.not_judged
    return [finding for finding in explanation.findings if finding.code == code]


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


# Site-packages that were copied from elsewhere

HERE = f"{sys.version_info.major}{sys.version_info.minor}"
MACHINE = platform.machine()
OTHER_MACHINE = "aarch64" if MACHINE == "x86_64" else "x86_64"

# By rule: the wheel's tag, the ending of its extension modules, and what is other in the environment that it is from.
ELSEWHERE: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "PY001": (
        f"cp39-cp39-manylinux_2_17_{MACHINE}",
        f"cpython-39-{MACHINE}-linux-gnu",
        {"version": "3.9.2", "soabi": f"cpython-39-{MACHINE}-linux-gnu"},
    ),
    "CPU001": (
        f"cp{HERE}-cp{HERE}-manylinux_2_17_{OTHER_MACHINE}",
        f"cpython-{HERE}-{OTHER_MACHINE}-linux-gnu",
        {"platform": {"machine": OTHER_MACHINE}},
    ),
    "SYS001": (
        f"cp{HERE}-cp{HERE}-macosx_14_0_arm64",
        f"cpython-{HERE}-darwin",
        {"platform": {"system": "darwin", "libc": None, "libc_version": None}},
    ),
    "SYS002": (
        f"cp{HERE}-cp{HERE}-musllinux_1_2_{MACHINE}",
        f"cpython-{HERE}-{MACHINE}-linux-musl",
        {"platform": {"libc": "musl"}, "extension_suffixes": [f".cpython-{HERE}-{MACHINE}-linux-musl.so"]},
    ),
}


@pytest.mark.parametrize("code", sorted(ELSEWHERE))
def test_modules_from_elsewhere_are_not_seen(code: str, tmp_path: Path) -> None:
    """The finder of Python looks for the endings that it knows; NumPy's own __init__ is the first that asks."""
    tag, ending, own = ELSEWHERE[code]
    files = {
        "numpy/__init__.py": "import numpy._core._multiarray_umath\n",
        "numpy/_core/__init__.py": "",
        f"numpy/_core/_multiarray_umath.{ending}.so": b"\x7fELF",
    }
    site = install(tmp_path / "site", "numpy", "2.4.6", files=files, tags=[tag])
    for name in ("pandas", "scipy", "pillow"):
        install(site, name, tags=[tag])
    packages, here = probe(sys.executable, "packages", site), probe(sys.executable, "python", site)
    there = {**here, **own, "platform": {**here["platform"], **own.get("platform", {})}}
    baseline = snapshot("where it was installed", packages=packages, python=there)
    target = snapshot("where it was copied to", packages=packages, python=here)
    (found,) = of(code, target, baseline)
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == imported("numpy", site).line
    assert {(one.subject.name, one.impact.value) for one in of("PKG007", target)} >= {("numpy", "breaks")}
    (several,) = of("PKG013", target)
    assert judged(several) == ("breaks", "likely")
    assert several.predicted_error == found.predicted_error
    assert of(code, target, target) == []


# Shared libraries


def test_lib001_a_package_around_one_library(tmp_path: Path) -> None:
    """As LightGBM, whose libpath.py opens lib_lightgbm.so with ctypes, on a slim image without libgomp."""
    builder = Builder(tmp_path / "site")
    gone = builder.library("build/libdriftgomp.so.1", defines=["parallel"])
    builder.library("boost/lib/lib_boost.so", defines=["train"], calls=["parallel"], links=[gone])
    builder.write("boost/__init__.py", "from boost import libpath\n")
    opens = "import ctypes, pathlib\nctypes.CDLL(str(pathlib.Path(__file__).parent / 'lib' / 'lib_boost.so'))\n"
    builder.write("boost/libpath.py", opens)
    builder.distribution("boost")
    variables = {"LD_LIBRARY_PATH": str(gone.parent)}
    assert not imported("boost", builder.folder, variables).failed
    assert of("LIB001", measured(builder.folder, variables)) == []
    gone.unlink()
    (found,) = of("LIB001", measured(builder.folder))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == imported("boost", builder.folder).line


@pytest.fixture
def cublas(tmp_path: Path) -> tuple[Path, Path]:
    """(site-packages with a module and the wheel's own libcublas, a toolkit's directory with an older one)."""
    builder, toolkit = Builder(tmp_path / "site"), Builder(tmp_path / "cuda")
    folder = "nvidia/cublas/lib"
    library = builder.library(f"{folder}/libcublas.so.12", defines=["cublasCreate"])
    builder.write("nvidia_cublas_cu12-12.8.4.1.dist-info/METADATA", "Name: nvidia-cublas-cu12\nVersion: 12.8.4.1\n\n")
    builder.write("nvidia_cublas_cu12-12.8.4.1.dist-info/RECORD", f"{folder}/libcublas.so.12,,\n")
    builder.module("net/_C", calls=["cublasCreate"], links=[library], runpath=f"$ORIGIN/../{folder}")
    builder.write("net/__init__.py")
    builder.distribution("net")
    older = toolkit.library("lib64/libcublas.so.12.4.5.8", defines=["cublasCreate"], soname="libcublas.so.12")
    older.with_name("libcublas.so.12").symlink_to(older.name)
    return builder.folder, older.parent


def test_a_variable_puts_another_library_in_the_place_of_the_wheels(cublas: tuple[Path, Path]) -> None:
    """ENV003 sees the variable, LIB006 which file answers, GPU023 that it is CUDA's; the process maps that file."""
    site, toolkit = cublas
    mapped = "import net._C; print({line.split()[-1] for line in open('/proc/self/maps') if 'cublas' in line})"
    sections = ("libraries", "packages", "cuda", "python", "variables")
    here = {"LD_LIBRARY_PATH": str(toolkit)}
    baseline, target = measured(site, sections=sections), measured(site, here, sections=sections)
    (file,) = of("LIB006", target, baseline)
    assert file.subject.name == "libcublas.so.12"
    assert file.fix[0].text == f"LD_LIBRARY_PATH without {toolkit}"
    assert [found.subject.name for found in of("ENV003", target, baseline)] == ["LD_LIBRARY_PATH"]
    (cuda,) = of("GPU023", target)
    assert cuda.subject.name == str(toolkit)
    assert str(site / "nvidia") in run(sys.executable, mapped, site).stdout
    answers = run(sys.executable, mapped, site, variables=here).stdout
    assert str(toolkit) in answers
    assert str(site / "nvidia") not in answers
    for code in ("LIB006", "ENV003"):
        assert of(code, baseline, baseline) == []
    assert of("GPU023", baseline) == []


def test_env003_another_module_by_pythonpath(tmp_path: Path) -> None:
    own, other = (install(tmp_path / name, "model", version) for name, version in (("own", "2.0"), ("other", "1.0")))
    python = virtual_environment(tmp_path / "venv")
    shutil.copytree(own, next((tmp_path / "venv" / "lib").glob("python3.*")) / "site-packages", dirs_exist_ok=True)
    variables = [probe(python, "variables", *places, only=False) for places in ((), (other,))]
    (found,) = findings("ENV003", baseline={"variables": variables[0]}, variables=variables[1])
    assert found.title == "PYTHONPATH is set here and not in the baseline"
    code = "import model; print(model.__version__)"
    assert [run(python, code, *places).stdout.strip() for places in ((), (other,))] == ["2.0", "1.0"]


# Threads

THREADS = "import ctypes; omp = ctypes.CDLL('libgomp.so.1'); print(omp.omp_get_max_threads(), omp.omp_get_num_procs())"
RUN = ("limits", "packages", "python", "variables")


def threads(variables: Mapping[str, str], *before: str) -> list[int]:
    """(how many threads OpenMP starts, how many CPUs it sees)."""
    kept = {name: value for name, value in clean_environment().items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [*before, sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=kept | dict(variables), capture_output=True, text=True, check=True, timeout=60)
    return [int(word) for word in done.stdout.split()]


@pytest.fixture
def computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("OMP_", "GOMP_", "MKL_", "OPENBLAS_")):
            monkeypatch.delenv(name)
    return install(tmp_path / "site", "numpy", "2.4.6")


def test_env001_and_env002_threads_that_one_cpu_cannot_run(computing: Path) -> None:
    one = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))
    asked = {"OMP_NUM_THREADS": "7"}
    alone = measured(computing, {"OMP_NUM_THREADS": "1"}, before=(*one, sys.executable), sections=RUN)
    crowded = measured(computing, asked, before=(*one, sys.executable), sections=RUN)
    (over,) = of("ENV001", crowded)
    assert over.subject.name == "OMP_NUM_THREADS"
    assert over.title.startswith("OMP_NUM_THREADS starts 7 threads where ")
    assert threads(asked, *one) == [7, 1]
    (changed,) = [found for found in of("ENV002", crowded, alone) if "OpenMP" in found.title]
    assert changed.title == "OpenMP computes with 7 threads instead of 1"
    assert threads({"OMP_NUM_THREADS": "1"}, *one) == [1, 1]
    assert of("ENV001", alone) == of("ENV002", alone, alone) == []


# Processors

QEMU = "qemu-x86_64"


@pytest.mark.skipif(MACHINE != "x86_64" or shutil.which(QEMU) is None, reason="x86-64 only, with qemu's user emulation")
def test_cpu005_a_program_for_a_newer_processor(tmp_path: Path) -> None:
    """The loader looks at the program's own note before it starts it; a Python may bear one as this program does."""
    program = tmp_path / "python3"
    source = "int main(void) { return 0; }"
    subprocess.run(
        ["gcc", "-Wl,-z,x86-64-v3", "-o", str(program), "-x", "c", "-"], input=source, text=True, check=True, timeout=60
    )
    loaded = elf.read(str(program))
    assert loaded is not None
    facts = measured(tmp_path, sections=("libraries",)).sections["libraries"].facts
    facts["interpreter"]["x86_64_level"] = {"level": loaded.isa, "file": str(program)}

    def predicted(machine: str) -> list[str | None]:
        of_machine = {"architecture": "x86_64", "level": machine}
        return [found.predicted_error for found in findings("CPU005", libraries=facts, machine=of_machine)]

    for cpu, machine in (("Nehalem", "x86-64-v2"), ("Haswell", "x86-64-v3")):
        done = subprocess.run([QEMU, "-cpu", cpu, str(program)], capture_output=True, text=True, check=False)
        assert predicted(machine) == [line for line in done.stderr.splitlines() if not line.startswith(f"{QEMU}: ")]
        assert (done.returncode == 0) is (cpu == "Haswell")


# Imports that somebody tries


@pytest.mark.parametrize(
    ("body", "ended"),
    [("raise RuntimeError('no licence for this host')", 1), ("import ctypes; ctypes.string_at(0)", 139)],
)
def test_lib012_an_import_that_fails_for_a_reason_of_its_own(tmp_path: Path, body: str, ended: int) -> None:
    """What a shell prints of it, the line for a signal included."""
    python = virtual_environment(tmp_path / "venv")
    site = next((tmp_path / "venv" / "lib").glob("python3.*")) / "site-packages"
    (site / "model.py").write_text(f"{body}\n")
    (site / "fine.py").write_text("")
    taken = snapshot_of(f"python:{python}", Options(try_imports=("model", "fine")))
    (found,) = of("LIB012", taken)
    assert (found.subject.name, *judged(found)) == ("model", "breaks", "certain")
    command = ["sh", "-c", f"'{python}' -c 'import model'; exit $?"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=clean_environment())
    assert done.returncode == ended
    assert last_line(done).removesuffix(" (core dumped)") == found.predicted_error


# What one distribution forces on others


def test_pkg011_another_version_of_one_brings_another_of_the_other(tmp_path: Path) -> None:
    """pip itself chooses, from wheels in a directory."""
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tokens", version)
    wheel(tmp_path / "wheels", "models", "1.0", requires=["tokens<2"])
    wheel(tmp_path / "wheels", "models", "2.0", requires=["tokens>=2"])
    taken = []
    for version in ("1.0", "2.0"):
        site = tmp_path / version
        wanted = ("--no-index", "--find-links", str(tmp_path / "wheels"), f"models=={version}")
        pip(sys.executable, "install", "--quiet", "--target", str(site), *wanted)
        taken.append(snapshot(version, packages=probe(sys.executable, "packages", site), python=this_python()))
        assert run(sys.executable, "import tokens; print(tokens.__version__)", site).stdout.strip() == version
    (found,) = of("PKG011", taken[1], taken[0])
    assert found.title == "models 2.0 instead of 1.0 explains tokens 2.0"
    assert found.fix[0].text.endswith("pip install models==1.0")
    assert of("PKG011", taken[0], taken[0]) == []


# Model files


def test_model_files_that_are_gone_or_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ART011 one that was named, ART022 one of a directory, ART014 one with the same name."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    serve = "import json; print(*json.load(open('model/config.json')), len(open('model/vocab.txt').read()))"

    def start(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", serve]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)

    def taken(folder: Path, artifact: str) -> Snapshot:
        monkeypatch.chdir(folder)
        return snapshot_of(f"python:{sys.executable}", Options(artifacts=(artifact,)))

    for folder, label in ((good, "cat"), (bad, "dog")):
        (folder / "model").mkdir(parents=True)
        (folder / "model/config.json").write_text(json.dumps({label: 0}))
        (folder / "model/vocab.txt").write_text("a b c")
    assert [start(folder).stdout.strip() for folder in (good, bad)] == ["cat 5", "dog 5"]
    baseline, target = taken(good, "model"), taken(bad, "model")
    (other,) = of("ART014", target, baseline)
    assert judged(other) == ("changes-results", "likely")
    assert of("ART014", baseline, baseline) == of("ART022", target, baseline) == of("ART011", target) == []

    (bad / "model/vocab.txt").unlink()
    gone = last_line(start(bad))
    (lacking,) = of("ART022", taken(bad, "model"), baseline)
    assert judged(lacking) == ("breaks", "likely")
    (missing,) = of("ART011", taken(bad, "model/vocab.txt"))
    assert judged(missing) == ("breaks", "likely")
    assert missing.predicted_error == gone


def test_art008_a_pickle_of_a_protocol_that_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol, known in ((pickle.HIGHEST_PROTOCOL, True), (pickle.HIGHEST_PROTOCOL + 1, False)):
        Path("model.pkl").write_bytes(bytes([0x80, protocol]) + b"]\x94.")
        done = run(sys.executable, "import pickle; print(pickle.load(open('model.pkl', 'rb')))")
        found = of("ART008", snapshot_of(f"python:{sys.executable}", Options(artifacts=("model.pkl",))))
        assert (done.stdout == "[]\n") is known
        assert [one.predicted_error for one in found] == ([] if known else [last_line(done)])


@pytest.mark.network
def test_art018_a_model_of_a_type_that_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = virtual_environment(tmp_path / "venv", with_pip=True)
    fetch = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "transformers>=5,<6"]
    subprocess.run(fetch, check=True, timeout=600, env=clean_environment())
    load = "import sys; from transformers import AutoConfig; print(AutoConfig.from_pretrained(sys.argv[1]).model_type)"
    monkeypatch.chdir(tmp_path)
    for kind, known in (("bert", True), ("bert-of-tomorrow", False)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "config.json").write_text(json.dumps({"model_type": kind}))
        command = [str(python), "-c", load, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        found = of("ART018", snapshot_of(f"python:{python}", Options(artifacts=(kind,))))
        assert (done.stdout.strip() == kind, found == []) == (known, known)
        for one in found:
            assert judged(one) == ("breaks", "likely")
            assert one.predicted_error is not None
            assert one.predicted_error in done.stderr
