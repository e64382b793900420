"""The probe ``libraries``: what it says of made environments, against what the real loader does with them."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import driftcheck.schemas.sections
import jsonschema
import pytest
from driftcheck.probes import common, libraries, library_answers, library_files

_spec = importlib.util.spec_from_file_location("assemble", Path(__file__).parent / "elf_fixtures" / "assemble.py")
assert _spec is not None
assert _spec.loader is not None
assembler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(assembler)

SCHEMA = json.loads(Path(driftcheck.schemas.sections.__path__[0], "libraries.json").read_text())
SUFFIX = EXTENSION_SUFFIXES[0]
MUSL = "/lib/ld-musl-x86_64.so.1"
GLIBC = "/lib64/ld-linux-x86-64.so.2"

live = pytest.mark.skipif(
    sys.platform != "linux" or not Path("/etc/ld.so.cache").exists(),
    reason="needs the dynamic loader of glibc",
)


class Site:
    """A directory of the search path with distributions in it, for the interpreter that runs the test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def write(self, name: str, data: bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def module(self, name: str, **parts: Any) -> Path:
        """An extension module, as far as the loader can tell."""
        stem = name.rsplit("/", 1)[-1].split(".", 1)[0]
        parts["defines"] = (*parts.get("defines", ()), ("PyInit_" + stem, ""))
        return self.write(name if name.endswith(".so") else name + SUFFIX, assembler.native(**parts))

    def library(self, name: str, **parts: Any) -> Path:
        return self.write(name, assembler.native(**{"soname": name.rsplit("/", 1)[-1], **parts}))

    def distribution(self, name: str, *files: str, requires: tuple[str, ...] = ()) -> None:
        folder = f"{name.replace('-', '_')}-1.0.dist-info"
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        text += "".join(f"Requires-Dist: {other}\n" for other in requires)
        self.write(f"{folder}/METADATA", (text + "\nRequires-Dist: text-of-the-readme\n").encode())
        self.write(f"{folder}/RECORD", "".join(f"{file},sha256=x,1\n" for file in files).encode())

    def measure(self, **environ: str) -> dict[str, Any]:
        place = common.Place(environ={**os.environ, **environ}, search_path=[str(self.path)])
        facts = libraries.measure(place)
        jsonschema.Draft202012Validator(SCHEMA).validate(facts)
        assert place.problems == []
        return facts


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def dlopen(*paths: Path, **environ: str) -> str | None:
    """What the loader of this interpreter says to the last of the files, the others loaded before."""
    code = (
        "import ctypes, os, sys\n"
        "try:\n    [ctypes.CDLL(path, mode=os.RTLD_NOW) for path in sys.argv[1:]]\n"
        "except OSError as failure:\n    print(failure, end='')\n"
    )
    arguments = [sys.executable, "-I", "-c", code, *map(str, paths)]
    answer = subprocess.run(arguments, env={**os.environ, **environ}, check=True, capture_output=True, text=True)
    return answer.stdout or None


def first(facts: dict[str, Any], key: str) -> str | None:
    record = facts["files"].get(key)
    return record["first_failure"]["text"] if record and "first_failure" in record else None


PYTHON_SYMBOLS = (("PyModule_Create2", "", "", False), ("PyLong_FromLong", "", "", False))


@live
def test_a_healthy_environment_has_nothing_to_say(site: Site) -> None:
    path = site.module(
        "good/_core", needed=("libgood.so.1", "libc.so.6"), runpath="$ORIGIN/../good.libs",
        needs=(*PYTHON_SYMBOLS, ("good_call", "GOOD_1", "libgood.so.1", False), ("nowhere", "", "", True)),
    )  # fmt: skip
    site.library("good.libs/libgood.so.1", defines=(("good_call", "GOOD_1"),))
    site.distribution("good", "good/_core" + SUFFIX, "good.libs/libgood.so.1")
    facts = site.measure()
    assert dlopen(path) is None
    assert facts["files"] == {}
    assert facts["distributions"]["good"]["modules"] == 1
    assert facts["distributions"]["good"]["libraries"] == 1
    needs = facts["distributions"]["good"]["needs"]
    assert list(needs) == ["libc.so.6"]
    ((answer, reason),) = needs["libc.so.6"]["answers"].items()
    assert reason in ("cache", "default")
    assert facts["libraries"]["libc.so.6"][answer]["offers"]["GLIBC"].startswith("2.")
    assert facts["interpreter"]["path"] == os.path.realpath(sys.executable)


@live
def test_two_measurements_are_equal(site: Site) -> None:
    for number in range(5):
        site.module(f"p{number}/_core", needed=("libnone.so.1", "libc.so.6"), needs=(("gone", "", "", False),))
    assert common.canonical(site.measure()) == common.canonical(site.measure())


@live
def test_a_need_that_is_missing_two_libraries_down(site: Site) -> None:
    path = site.module("cv/cv", needed=("libqt.so.5", "libother.so.2"), rpath="$ORIGIN/../cv.libs")
    site.library("cv.libs/libqt.so.5", needed=("libxgl.so.1",))
    facts = site.measure()
    assert facts["files"]["cv/cv" + SUFFIX]["missing"] == {
        "libother.so.2": {
            "error": "cannot open shared object file: No such file or directory",
            "chain": ["cv/cv" + SUFFIX],
        },
        "libxgl.so.1": {
            "error": "cannot open shared object file: No such file or directory",
            "chain": ["cv/cv" + SUFFIX, "cv.libs/libqt.so.5"],
        },
    }
    assert facts["files"]["cv/cv" + SUFFIX]["role"] == "module"
    assert first(facts, "cv/cv" + SUFFIX) == dlopen(path) == (
        "libother.so.2: cannot open shared object file: No such file or directory"
    )  # fmt: skip


@live
def test_a_version_that_the_answer_does_not_offer(site: Site) -> None:
    path = site.module("m", needed=("libv.so.1",), runpath="$ORIGIN/lib", needs=(("call", "V_2", "libv.so.1", False),))
    site.library("lib/libv.so.1", defines=(("call", "V_1"),))
    facts = site.measure()
    key = "m" + SUFFIX
    assert facts["files"][key]["missing_versions"] == {
        "libv.so.1": {"V_2": {"provider": "lib/libv.so.1", "chain": [key]}}
    }
    assert "undefined" not in facts["files"][key]
    assert first(facts, key) == dlopen(path)
    assert "version `V_2' not found (required by" in str(first(facts, key))


@live
def test_a_library_that_was_cut_kills_the_process(site: Site) -> None:
    path = site.module("m", needed=("libcut.so.1",), runpath="$ORIGIN/lib")
    whole = assembler.native(soname="libcut.so.1", constants=bytes(3 << 16))
    site.write("lib/libcut.so.1", whole[: 1 << 16])
    facts = site.measure()
    assert facts["files"]["m" + SUFFIX]["first_failure"] == {"kind": "crash", "text": "Bus error"}
    missing = facts["files"]["m" + SUFFIX]["missing"]["libcut.so.1"]
    assert missing["file"] == "lib/libcut.so.1"
    with pytest.raises(subprocess.CalledProcessError) as died:
        dlopen(path)
    assert died.value.returncode == -signal.SIGBUS


@live
@pytest.mark.skipif(not Path("/proc/self/root").exists(), reason="needs /proc")
def test_a_live_environment_and_its_files_alone_read_the_same(site: Site) -> None:
    site.module("a/_a", needed=("libx.so.1", "libc.so.6"), runpath="$ORIGIN/lib", needs=PYTHON_SYMBOLS)
    site.library("a/lib/libx.so.1", needed=("libnone.so.1",))
    site.distribution("a", "a/_a" + SUFFIX)
    # Both with the whole path, so that the version of the interpreter can be told from it.
    search_path = [entry for entry in sys.path if entry.startswith(sys.base_prefix)] + [str(site.path)]
    now = libraries.measure(common.Place(search_path=search_path))
    options = {"executable": os.path.realpath(sys.executable)}
    root = common.Place("/proc/self/root", None, search_path, live=False, options=options)
    assert libraries.measure(root) == now


@live
def test_a_glibc_that_is_too_old_for_a_library_below(site: Site) -> None:
    path = site.module("m", needed=("libnew.so.1",), runpath="$ORIGIN/lib")
    site.library("lib/libnew.so.1", needed=("libc.so.6",), needs=(("memcpy", "GLIBC_9.99", "libc.so.6", False),))
    facts = site.measure()
    lacking = facts["files"]["m" + SUFFIX]["missing_versions"]["libc.so.6"]["GLIBC_9.99"]
    assert lacking["chain"] == ["m" + SUFFIX, "lib/libnew.so.1"]
    assert first(facts, "m" + SUFFIX) == dlopen(path)


@live
def test_weak_versions_and_libraries_without_versions_are_accepted(site: Site) -> None:
    path = site.module(
        "m", needed=("libv.so.1", "libplain.so.1"), runpath="$ORIGIN/lib",
        needs=(("plain", "", "", False),), versions=(("libv.so.1", "V_9", True),),
    )  # fmt: skip
    site.library("lib/libv.so.1", defines=(("call", "V_1"),))
    site.library("lib/libplain.so.1", defines=(("plain", ""),))
    assert dlopen(path) is None
    assert site.measure()["files"] == {}


@live
def test_an_undefined_symbol_and_who_would_have_it(site: Site) -> None:
    path = site.module(
        "vision/_C", needed=("libtorch.so",), runpath="$ORIGIN/../lib",
        needs=(*PYTHON_SYMBOLS, ("_ZN3c10gone", "", "", False), ("_ZN3c10more", "", "", False)),
    )  # fmt: skip
    site.library("lib/libtorch.so", defines=(("_ZN3c10here", ""),))
    site.library("else/libelse.so", defines=(("_ZN3c10more", ""),))
    facts = site.measure()
    record = facts["files"]["vision/_C" + SUFFIX]
    assert record["undefined"] == {
        "_ZN3c10gone": {"version": None, "by": "vision/_C" + SUFFIX, "elsewhere": None},
        "_ZN3c10more": {"version": None, "by": "vision/_C" + SUFFIX, "elsewhere": "else/libelse.so"},
    }
    assert record["undefined_count"] == 2
    assert first(facts, "vision/_C" + SUFFIX) == dlopen(path)


@live
def test_an_undefined_symbol_below_is_the_module_s_failure(site: Site) -> None:
    path = site.module("m", needed=("libsparse.so.12",), runpath="$ORIGIN/lib")
    site.library(
        "lib/libsparse.so.12", needed=("libjit.so.12",), runpath="$ORIGIN",
        needs=(("__complete_12_4", "libjit.so.12", "libjit.so.12", False),),
    )  # fmt: skip
    site.library("lib/libjit.so.12", defines=(("__complete_12_1", "libjit.so.12"),))
    facts = site.measure()
    assert list(facts["files"]["m" + SUFFIX]["undefined"]) == ["__complete_12_4"]
    assert first(facts, "m" + SUFFIX) == dlopen(path)
    assert "undefined symbol: __complete_12_4, version libjit.so.12" in str(first(facts, "m" + SUFFIX))


@live
def test_a_symbol_that_nothing_relocates_is_never_looked_up(site: Site) -> None:
    path = site.module("m", needs=(("gone", "", "", False),), relocate=False)
    assert dlopen(path) is None
    assert site.measure()["files"] == {}


@live
def test_symbols_may_come_from_the_module_that_needs_the_library(site: Site) -> None:
    path = site.module("m", needed=("libback.so.1",), runpath="$ORIGIN/lib", defines=(("callback", ""),))
    site.library("lib/libback.so.1", needs=(("callback", "", "", False),))
    assert dlopen(path) is None
    assert site.measure()["files"] == {}


@live
def test_what_a_required_distribution_links_is_lent(site: Site) -> None:
    lender = site.module("torch/_C", needed=("libc10.so",), runpath="$ORIGIN/lib")
    site.library("torch/lib/libc10.so", defines=(("c10_call", ""),))
    path = site.module("vision/_C", needed=("libc10.so",), needs=(("c10_call", "", "", False),))
    site.distribution("torch", "torch/_C" + SUFFIX, "torch/lib/libc10.so")
    site.distribution("vision", "vision/_C" + SUFFIX, requires=("numpy", "torch==1.0"))
    facts = site.measure()
    assert facts["files"]["vision/_C" + SUFFIX] == {
        "role": "module",
        "distribution": "vision",
        "lent": {"libc10.so": {"distribution": "torch", "how": "linked", "file": "torch/lib/libc10.so"}},
    }
    assert facts["distributions"]["vision"]["needs"]["libc10.so"]["answers"] == {"torch/lib/libc10.so": "dependency"}
    assert facts["libraries"]["libc10.so"]["torch/lib/libc10.so"]["distribution"] == "torch"
    assert dlopen(lender, path) is None
    # Without the requirement nobody has loaded it.
    site.distribution("vision", "vision/_C" + SUFFIX, requires=("numpy",))
    facts = site.measure()
    assert first(facts, "vision/_C" + SUFFIX) == dlopen(path)
    assert facts["files"]["vision/_C" + SUFFIX]["missing"]["libc10.so"]["elsewhere"] == "torch/lib/libc10.so"


@live
def test_what_is_lent_must_fit_too(site: Site) -> None:
    lender = site.module("torch/_C", needed=("libc10.so",), runpath="$ORIGIN/lib")
    site.library("torch/lib/libc10.so", defines=(("c10_new", ""),))
    path = site.module("vision/_C", needed=("libc10.so",), needs=(("c10_old", "", "", False),))
    site.distribution("torch", "torch/_C" + SUFFIX, "torch/lib/libc10.so")
    site.distribution("vision", "vision/_C" + SUFFIX, requires=("torch",))
    facts = site.measure()
    assert list(facts["files"]["vision/_C" + SUFFIX]["undefined"]) == ["c10_old"]
    assert first(facts, "vision/_C" + SUFFIX) == dlopen(lender, path)


@live
@pytest.mark.parametrize("text", [b"import ctypes\nctypes.CDLL(path)\n", b"import os\n"])
def test_a_package_that_preloads_lends_its_libraries(site: Site, text: bytes) -> None:
    site.module("big/_C", needed=("libblas.so.12",))
    site.write("big/__init__.py", text)
    site.library("vendor/blas/lib/libblas.so.12")
    site.distribution("big", "big/_C" + SUFFIX, requires=("vendor-blas ; platform_system == 'Linux'",))
    site.distribution("vendor-blas", "vendor/blas/lib/libblas.so.12")
    record = site.measure()["files"]["big/_C" + SUFFIX]
    if b"CDLL" in text:
        assert record["lent"]["libblas.so.12"]["how"] == "preload"
        assert "missing" not in record
    else:
        assert "lent" not in record
        assert record["missing"]["libblas.so.12"]["elsewhere"] == "vendor/blas/lib/libblas.so.12"


@live
def test_a_variable_shadows_and_the_facts_say_so(site: Site, tmp_path: Path) -> None:
    site.module("m", needed=("libx.so.1",), runpath="$ORIGIN/lib")
    site.library("lib/libx.so.1")
    other = tmp_path / "other"
    other.mkdir()
    (other / "libx.so.1").write_bytes(assembler.native(soname="libx.so.1"))
    facts = site.measure(LD_LIBRARY_PATH=str(other))
    record = facts["libraries"]["libx.so.1"][str(other / "libx.so.1")]
    assert (record["reason"], record["assumption"], record["otherwise"]) == (
        "ld_library_path", "variable", "lib/libx.so.1",
    )  # fmt: skip
    assert facts["search"]["ld_library_path"] == [str(other)]


@live
def test_plugins_and_files_that_nothing_loads(site: Site) -> None:
    constants = b"\0libort_providers_cuda.so\0"
    site.module("ort/_state", constants=constants)
    site.library("ort/libort_providers_cuda.so", needed=("libcublas.so.12",))
    site.library("ort/libjit_test.so", needed=("libcublas.so.12",))
    files = site.measure()["files"]
    assert files["ort/libort_providers_cuda.so"]["role"] == "plugin"
    assert files["ort/libjit_test.so"]["role"] == "unused"
    assert files["ort/libort_providers_cuda.so"]["named_by"] == "ort/_state" + SUFFIX
    assert "ort/_state" + SUFFIX not in files


@live
def test_a_library_that_python_code_opens_by_its_stem(site: Site) -> None:
    """As torchvision does with its operators: no module, loaded by torch.ops.load_library all the same."""
    site.module("torch/_C", needed=("libc10.so",), runpath="$ORIGIN/lib")
    site.library("torch/lib/libc10.so", defines=(("c10_new", ""),))
    for name, asked in (("_ops", "c10_old"), ("_spare", "c10_older")):
        site.library(f"vision/{name}.so", needed=("libc10.so",), needs=((asked, "", "", False),))
    site.write("vision/io/extension.py", b"path = find('_ops')\n")
    site.distribution("torch", "torch/_C" + SUFFIX, "torch/lib/libc10.so")
    site.distribution("vision", "vision/_ops.so", "vision/_spare.so", requires=("torch",))
    files = site.measure()["files"]
    assert (files["vision/_ops.so"]["role"], files["vision/_ops.so"]["named_by"]) == (
        "plugin",
        "vision/io/extension.py",
    )
    assert list(files["vision/_ops.so"]["undefined"]) == ["c10_old"]
    assert files["vision/_spare.so"]["role"] == "unused"


@live
def test_modules_of_other_pythons_and_machines(site: Site) -> None:
    site.module("a/_x.cpython-36m-x86_64-linux-gnu.so", needed=("libnone.so.1",))
    site.module("a/_y.abi3.so", needed=("libnone.so.1",))
    site.write("a/_z.abi3.so", assembler.assemble(bits=32, machine=3, defines=(("PyInit__z", ""),)))
    files = site.measure()["files"]
    assert set(files) == {"a/_y.abi3.so", "a/_z.abi3.so"}
    assert files["a/_z.abi3.so"]["machine"] == "i386, 32 bit"
    assert files["a/_z.abi3.so"]["role"] == "module"
    assert first({"files": files}, "a/_z.abi3.so") == dlopen(site.path / "a/_z.abi3.so")


@live
def test_remarkable_files(site: Site) -> None:
    site.module("m", executable_stack=True, constants=b"numpy.core._multiarray_umath")
    site.module("silent", executable_stack=None, needed=("libnone.so.1",))
    site.write("cut/_c.abi3.so", assembler.native(defines=(("PyInit__c", ""),))[:300])
    site.write("cut/_empty.abi3.so", b"")
    site.write("cut/_script.abi3.so", b"#!/bin/sh\n" * 20)
    files = site.measure()["files"]
    assert files["m" + SUFFIX]["executable_stack"] is True
    assert files["silent" + SUFFIX].get("executable_stack", False) is (platform.machine() in {"x86_64", "i686"})
    assert files["cut/_c.abi3.so"]["error"].endswith("beyond the end of the file")
    assert files["cut/_empty.abi3.so"]["error"] == "file too short"
    script = site.path / "cut/_script.abi3.so"
    assert files["cut/_script.abi3.so"] == {
        "role": "module",
        "distribution": None,
        "error": "invalid ELF header",
        "first_failure": {"kind": "library", "text": dlopen(script)},
    }
    assert first({"files": files}, "cut/_empty.abi3.so") == dlopen(site.path / "cut/_empty.abi3.so")


@live
def test_a_module_that_maps_a_library_with_an_executable_stack(site: Site) -> None:
    site.module("m", needed=("libstack.so.1",), runpath="$ORIGIN/lib")
    site.library("lib/libstack.so.1", executable_stack=True)
    site.module("itself", executable_stack=True)
    files = site.measure()["files"]
    assert files["m" + SUFFIX]["maps_executable_stack"] == "libstack.so.1"
    assert files["itself" + SUFFIX]["maps_executable_stack"] == f"{site.path}/itself{SUFFIX}"


@live
def test_the_generation_of_the_numpy_interface(site: Site) -> None:
    capsule = (("PyCapsule_GetPointer", "", "", False),)
    one, two = b"\0numpy.core._multiarray_umath\0", b"\0numpy._core._multiarray_umath\0"
    text = b"numpy.core.multiarray failed to import\0"
    compares = b"%.200s.%.200s size changed, may indicate binary incompatibility. Expected %zd\0"
    site.module("old/raises", needs=capsule, constants=one + text)
    site.module("old/cython", needs=capsule, constants=one + text + compares)
    site.module("old/goes_on", needs=capsule, constants=one)
    site.module(
        "old/pybind", needed=("libold.so",), runpath="$ORIGIN", constants=one + text + b"pybind11", needs=capsule
    )
    site.library("old/libold.so", needs=capsule, constants=one + text)
    site.module("new/both", needs=capsule, constants=one + two + text)
    site.module("none/at_all", needs=capsule)
    site.distribution("old", *(f"old/{name}{SUFFIX}" for name in ("raises", "cython", "goes_on", "pybind")))
    facts = site.measure()
    assert {key: record["numpy_c_api"]["raises"] for key, record in facts["files"].items()} == {
        "old/raises" + SUFFIX: "ImportError",
        "old/cython" + SUFFIX: "ValueError",
        "old/goes_on" + SUFFIX: None,
        "old/pybind" + SUFFIX: None,
        "old/libold.so": None,
    }
    assert facts["distributions"]["old"]["numpy_1_modules"] == 4


@live
def test_two_openmp_runtimes_are_listed(site: Site) -> None:
    site.module("a/_a", needed=("libgomp-1234.so.1",), runpath="$ORIGIN")
    site.library("a/libgomp-1234.so.1")
    site.module("b/_b", needed=("libiomp5.so",), runpath="$ORIGIN")
    site.library("b/libiomp5.so")
    site.library("c/libomp.so")  # nothing maps it
    site.distribution("a", "a/_a" + SUFFIX)
    assert site.measure()["runtimes"] == {
        "openmp": {"a/libgomp-1234.so.1": {"used_by": {"a": True}}, "b/libiomp5.so": {"used_by": {"": True}}},
        "blas": {},
    }


@live
def test_driver_libraries_and_their_symbols_are_not_missing(site: Site) -> None:
    site.module("m", needed=("libnvidia-ml.so.1",), needs=(("nvmlInit_v2", "", "", False),))
    facts = site.measure()
    assert facts["files"] == {}
    answers = facts["distributions"][""]["needs"]["libnvidia-ml.so.1"]["answers"]
    assert answers == {"": "driver"} or Path(next(iter(answers))).exists()


@live
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no FIFO")
def test_hostile_directories(site: Site) -> None:
    site.module("good/_core")
    os.mkfifo(site.path / "fifo.so")
    (site.path / "device.so").symlink_to("/dev/zero")
    (site.path / "dangling.so").symlink_to("nowhere.so")
    (site.path / "good/loop").symlink_to("..")
    (site.path / "good/self").symlink_to("self")
    (site.path / os.fsdecode(b"bad-\xff.so")).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(80))
    other = site.path / "environment"
    (other / "lib").mkdir(parents=True)
    (other / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (other / "lib/_other.abi3.so").write_bytes(b"no library")
    site.write("broken-1.0.dist-info/RECORD", b'\xff\xfe"\n"a,b.so",x\n,,\n' * 20)
    facts = libraries.measure(common.Place(search_path=[str(site.path)]))
    assert {key: record.get("error") for key, record in facts["files"].items()} == {
        "device.so": "not a regular file",
        "fifo.so": "not a regular file",
    }
    assert facts["distributions"][""]["modules"] == 3


def test_the_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_files, "ENTRY_LIMIT", 30)
    for number in range(60):
        folder = tmp_path / f"d{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"lib{number}.so").write_bytes(b"")
    place = common.Place(search_path=[str(tmp_path)])
    assert len(library_files.find(place).files) < 60
    assert ["more than 30 files" in entry["reason"] for entry in place.problems] == [True]


@live
def test_a_flood_of_broken_files_is_cut_and_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "RECORD_LIMIT", 3)
    monkeypatch.setattr(library_files, "LIBRARY_LIMIT", 7)
    for number in range(9):
        site.write(f"p/lib{number}.so.1", b"")
    site.write("p/_m.abi3.so", b"")
    place = common.Place(search_path=[str(site.path)])
    facts = libraries.measure(place)
    assert list(facts["files"]) == ["p/_m.abi3.so", "p/lib0.so.1", "p/lib1.so.1"]
    assert {entry["reason"] for entry in place.problems} == {
        "10 libraries; 7 were read", "7 have something to say; 3 are listed",
    }  # fmt: skip


def test_entries_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for entry in ("first", "second"):
        Site(tmp_path / entry).library("pkg/libx.so")
    Site(tmp_path / "first").library("second_level/liby.so")
    place = common.Place(search_path=[str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "first")])
    keys = [file.key for file in library_files.find(place).files]
    assert keys == sorted(["pkg/libx.so", "second_level/liby.so", str(tmp_path / "second/pkg/libx.so")])


@live
def test_a_shadowed_copy_lends_nothing(tmp_path: Path) -> None:
    for entry in ("first", "second"):
        site = Site(tmp_path / entry)
        site.module("pkg/_a", needed=("libx.so.1",), runpath="$ORIGIN/lib")
        site.library("pkg/lib/libx.so.1")
        site.library("pkg/lib/libonly.so.1")
        site.distribution("pkg", "pkg/_a" + SUFFIX, "pkg/lib/libx.so.1", "pkg/lib/libonly.so.1")
    (tmp_path / "first/pkg/lib/libx.so.1").unlink()
    (tmp_path / "first/pkg/lib/libonly.so.1").unlink()
    facts = libraries.measure(common.Place(search_path=[str(tmp_path / "first"), str(tmp_path / "second")]))
    assert list(facts["files"]) == ["pkg/_a" + SUFFIX]
    assert first(facts, "pkg/_a" + SUFFIX) == dlopen(tmp_path / "first/pkg" / ("_a" + SUFFIX))
    assert facts["distributions"]["pkg"]["modules"] == 1


def test_modules_of_another_python_are_counted_apart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.module("pkg/_a.cpython-36m-x86_64-linux-gnu.so")
    site.library("pkg/libpkg.so")
    site.distribution("pkg", "pkg/_a.cpython-36m-x86_64-linux-gnu.so", "pkg/libpkg.so")
    site.library("other/libother.so")
    site.distribution("other", "other/libother.so")
    counted = {name: {**entry, "needs": {}} for name, entry in site.measure()["distributions"].items()}
    unseen = {"count": 1, "complete": False}  # there is no source that would say who imports it
    assert counted["pkg"] == {
        "modules": 0,
        "libraries": 1,
        "foreign_modules": 1,
        "unseen_modules": unseen,
        "needs": {},
    }
    assert counted["other"] == {"modules": 0, "libraries": 1, "needs": {}}


def test_extras_come_after_plain_requirements(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.distribution("a", requires=("c ; extra == 'gpu'", "b (>=1)", "absent"))
    site.distribution("b", requires=("D.d",))
    site.distribution("c")
    site.distribution("d-d", requires=("a",))
    environment = library_files.find(common.Place(search_path=[str(tmp_path)]))
    assert environment.closure("a") == ["b", "d-d", "c"]
    assert environment.closure("c") == []
    assert environment.closure(None) == []


class Root:
    """An unpacked image for x86-64: nothing in it can run here."""

    def __init__(self, path: Path, interpreter: str) -> None:
        self.path = path
        self.entry = "/usr/lib/python3.12/site-packages"
        self.file("/usr/bin/python3.12", kind=2, interpreter=interpreter, defines=(("PyModule_Create2", ""),))
        (path / "usr/bin/python3").symlink_to("python3.12")
        self.file(interpreter, soname=interpreter.rsplit("/", 1)[1], defines=(("malloc", ""),))

    def file(self, name: str, **parts: Any) -> None:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(assembler.assemble(**parts))

    def measure(self) -> dict[str, Any]:
        place = common.Place(str(self.path), {}, [self.entry], live=False)
        facts = libraries.measure(place)
        jsonschema.Draft202012Validator(SCHEMA).validate(facts)
        assert place.problems == []
        return facts


def test_an_unpacked_image_is_read_without_running_it(tmp_path: Path) -> None:
    root = Root(tmp_path, GLIBC)
    root.file("/lib64/libc.so.6", soname="libc.so.6", defines=(("malloc", "GLIBC_2.2.5"), ("old", "GLIBC_2.31")))
    root.file(
        root.entry + "/pkg/_m.cpython-312-x86_64-linux-gnu.so", needed=("libc.so.6",),
        needs=(("strlcpy", "GLIBC_2.38", "libc.so.6", False), ("PyModule_Create2", "", "", False)),
        defines=(("PyInit__m", ""),),
    )  # fmt: skip
    root.file(
        root.entry + "/pkg/_n.cpython-311-x86_64-linux-gnu.so",
        needed=("libnone.so",),
        defines=(("PyInit__n", ""),),
    )
    facts = root.measure()
    assert facts["interpreter"] == {
        "path": "/usr/bin/python3.12", "libc": "glibc", "loader": GLIBC, "machine": "x86_64", "bits": 64,
        "missing": {}, "missing_versions": {},
    }  # fmt: skip
    key = "pkg/_m.cpython-312-x86_64-linux-gnu.so"
    assert list(facts["files"]) == [key]
    assert first(facts, key) == (f"/lib64/libc.so.6: version `GLIBC_2.38' not found (required by {root.entry}/{key})")
    assert facts["libraries"]["libc.so.6"]["/lib64/libc.so.6"]["offers"] == {"GLIBC": "2.31"}
    assert facts["distributions"][""]["needs"]["libc.so.6"]["versions"] == {"GLIBC": "2.38"}


def test_an_interpreter_that_is_too_new_for_the_system(tmp_path: Path) -> None:
    root = Root(tmp_path, GLIBC)
    needs = (("call", "GLIBC_2.38", "libc.so.6", False),)
    root.file("/usr/bin/python3.12", kind=2, interpreter=GLIBC, needed=("libc.so.6", "libnone.so.1"), needs=needs)
    root.file("/lib64/libc.so.6", soname="libc.so.6", defines=(("malloc", "GLIBC_2.2.5"),))
    interpreter = root.measure()["interpreter"]
    assert list(interpreter["missing"]) == ["libnone.so.1"]
    assert interpreter["missing_versions"] == {
        "libc.so.6": {"GLIBC_2.38": {"provider": "/lib64/libc.so.6", "chain": ["/usr/bin/python3.12"]}}
    }


def test_musl_says_it_in_other_words_and_binds_by_name_alone(tmp_path: Path) -> None:
    root = Root(tmp_path, MUSL)
    names = {}
    modules: dict[str, dict[str, Any]] = {
        "lib": {"needed": ("libstdc++.so.6",)},
        "sym": {"needed": ("libc.so.6",), "needs": (("__memcpy_chk", "GLIBC_2.3.4", "libc.so.6", False),)},
        "good": {"needed": ("libc.so.6",), "needs": (("malloc", "GLIBC_2.2.5", "libc.so.6", False),)},
    }
    for stem, parts in modules.items():
        names[stem] = f"{root.entry}/{stem}.abi3.so"
        root.file(names[stem], defines=(("PyInit_" + stem, ""),), **parts)
    facts = root.measure()
    assert facts["interpreter"]["libc"] == "musl"
    assert set(facts["files"]) == {"lib.abi3.so", "sym.abi3.so"}
    assert first(facts, "lib.abi3.so") == (
        f"Error loading shared library libstdc++.so.6: No such file or directory (needed by {names['lib']})"
    )
    assert first(facts, "sym.abi3.so") == f"Error relocating {names['sym']}: __memcpy_chk: symbol not found"


def test_a_system_library_is_traced_to_its_package(tmp_path: Path) -> None:
    root = Root(tmp_path, GLIBC)
    root.file("/usr/lib64/libgomp.so.1.0.0", soname="libgomp.so.1")
    (tmp_path / "usr/lib64/libgomp.so.1").symlink_to("libgomp.so.1.0.0")
    root.file(root.entry + "/m.abi3.so", needed=("libgomp.so.1",), defines=(("PyInit_m", ""),))
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info.parent / "status").write_text("Package: libgomp1\nStatus: install ok installed\nVersion: 12\n")
    (info / "libgomp1:amd64.list").write_text("/.\n/lib64/libgomp.so.1.0.0\n")
    record = root.measure()["libraries"]["libgomp.so.1"]["/usr/lib64/libgomp.so.1"]
    assert (record["package"], record["file"]) == ("libgomp1", "libgomp.so.1.0.0")


def test_without_an_interpreter_symbols_are_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "site/m.abi3.so"
    path.parent.mkdir()
    path.write_bytes(assembler.assemble(needed=("libnone.so",), needs=PYTHON_SYMBOLS, defines=(("PyInit_m", ""),)))
    place = common.Place(str(tmp_path), {}, ["/site"], live=False)
    facts = libraries.measure(place)
    assert [entry["where"] for entry in place.problems] == ["interpreter"]
    assert "undefined" not in facts["files"]["m.abi3.so"]
    assert list(facts["files"]["m.abi3.so"]["missing"]) == ["libnone.so"]


def test_other_platforms_have_no_elf_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(common.Absent, match="darwin are not ELF files"):
        libraries.measure(common.Place())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_C.cpython-311-x86_64-linux-gnu.so", ("_C", True)),
        ("_C.cpython-311.so", ("_C", True)),
        ("_C.cpython-310-x86_64-linux-gnu.so", ("_C", False)),
        ("_C.cpython-311t-x86_64-linux-gnu.so", ("_C", False)),
        ("_C.cpython-311d-x86_64-linux-gnu.so", ("_C", True)),
        ("_C.abi3.so", ("_C", True)),
        ("_C.so", ("_C", True)),
        ("libfoo.so.1", (None, False)),
        ("lib-foo.so", (None, False)),
        ("_C.pypy39-pp73-x86_64-linux-gnu.so", ("_C", False)),
    ],
)
def test_names_of_extension_modules(name: str, expected: tuple[str | None, bool]) -> None:
    assert libraries.extension_name(name, "cpython-311") == expected


@pytest.mark.parametrize(
    ("ending", "machine", "libc", "expected"),
    [
        ("-x86_64-linux-gnu", "x86_64", "glibc", True),
        ("-x86_64-linux-musl", "x86_64", "glibc", False),
        ("-aarch64-linux-gnu", "x86_64", "glibc", False),
        ("-x86_64-linux-gnu", "aarch64", "glibc", False),
        ("-x86_64-linux-musl", "x86_64", "musl", True),
        ("-x86_64-linux-gnu", "x86_64", "musl", True),  # a Python of before musl had an ending (bpo-43112)
        ("-aarch64-linux-gnu", None, "glibc", True),
        ("-i386-linux-gnu", "x86", "glibc", True),
        ("", "x86_64", "glibc", True),
    ],
)
def test_the_ending_of_another_platform_is_not_looked_for(
    ending: str, machine: str | None, libc: str, *, expected: bool
) -> None:
    found = libraries.extension_name(f"_C.cpython-311{ending}.so", "cpython-311", machine, libc)
    assert found == ("_C", expected)


def test_the_highest_version_of_each_prefix() -> None:
    versions = [
        "GLIBC_2.2.5",
        "GLIBC_2.17",
        "GLIBC_2.9",
        "GLIBC_PRIVATE",
        "CXXABI_1.3",
        "OPENSSL_1_1_1a",
        "V",
    ]
    assert library_answers.highest(versions) == {
        "GLIBC": "2.17", "GLIBC_PRIVATE": "", "CXXABI": "1.3", "OPENSSL": "1_1_1a", "V": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("soname", "package"),
    [
        ("libc.so.6", "libc6"), ("libm.so.6", "libc6"), ("ld-linux-x86-64.so.2", "libc6"),
        ("libz.so.1", "zlib1g"),
        ("libstdc++.so.6", "libstdc++6"), ("libssl.so.3", "libssl3t64"), ("libX11.so.6", "libx11-6"),
        ("libgomp.so.1", "libgomp1"), ("libsqlite3.so.0", "libsqlite3-0"), ("libgcc_s.so.1", "libgcc-s1"),
    ],
)  # fmt: skip
def test_debian_s_names_of_packages(soname: str, package: str) -> None:
    assert package in library_answers.debian_packages(soname)
