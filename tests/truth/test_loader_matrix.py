"""What really does not load, against what was predicted: modules that gcc makes, and the loader that is here.

Each case builds an environment, imports one module of it for real, and asks the rules about the same files. The
matrix prints recall and precision (pytest -s); every failure has to be predicted with the right text, and nothing
that loads may be called certain to fail.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from driftcheck.probes import elf
from support.compiled import Builder
from support.loader_matrix import Case, report, row

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]


# What is built. Each function fills a directory and says what to import.


def all_there_by_runpath(make: Builder) -> Case:
    library = make.library("a.libs/libx.so.1", defines=["x_call"])
    make.module("a/_a", calls=["x_call"], links=[library], runpath="$ORIGIN/../a.libs")
    make.distribution("a")
    return Case("a._a", None)


def deleted_library(make: Builder) -> Case:
    all_there_by_runpath(make)
    (make.folder / "a.libs/libx.so.1").unlink()
    return Case("a._a", "LIB001")


def deleted_two_steps_down(make: Builder) -> Case:
    low = make.library("a.libs/liblow.so.1", defines=["low"])
    high = make.library("a.libs/libhigh.so.1", defines=["high"], calls=["low"], links=[low], runpath="$ORIGIN")
    make.module(
        "a/_a", calls=["high"], links=[high], runpath="$ORIGIN/../a.libs", flags=["-Wl,--allow-shlib-undefined"]
    )
    make.distribution("a")
    low.unlink()
    return Case("a._a", "LIB001")


def rpath_is_handed_down(make: Builder) -> Case:
    low = make.library("deep/liblow.so.1", defines=["low"])
    high = make.library("a.libs/libhigh.so.1", defines=["high"], calls=["low"], links=[low])
    options = {"flags": ["-Wl,--allow-shlib-undefined"]}
    make.module("a/_a", calls=["high"], links=[high], rpath="$ORIGIN/../a.libs:$ORIGIN/../deep", **options)
    return Case("a._a", None)


def runpath_is_not_handed_down(make: Builder) -> Case:
    low = make.library("deep/liblow.so.1", defines=["low"])
    high = make.library("a.libs/libhigh.so.1", defines=["high"], calls=["low"], links=[low])
    options = {"flags": ["-Wl,--allow-shlib-undefined"]}
    make.module("a/_a", calls=["high"], links=[high], runpath="$ORIGIN/../a.libs:$ORIGIN/../deep", **options)
    low.rename(make.folder / "deep/liblow.so")
    return Case("a._a", "LIB001")


def found_by_variable(make: Builder) -> Case:
    library = make.library("opt/libx.so.1", defines=["x_call"])
    make.module("a/_a", calls=["x_call"], links=[library])
    return Case("a._a", None, {"LD_LIBRARY_PATH": str(make.folder / "opt")})


def an_older_version_by_variable(make: Builder) -> Case:
    new = make.library("a.libs/libx.so.1", defines=["x_call"], version="X_2")
    make.module("a/_a", calls=["x_call"], links=[new], runpath="$ORIGIN/../a.libs")
    make.library("opt/libx.so.1", defines=["x_call"], version="X_1")
    return Case("a._a", "LIB002", {"LD_LIBRARY_PATH": str(make.folder / "opt")})


def an_older_version_in_the_wheel(make: Builder) -> Case:
    new = make.library("a.libs/libx.so.1", defines=["x_call"], version="X_2")
    make.module("a/_a", calls=["x_call"], links=[new], runpath="$ORIGIN/../a.libs")
    make.library("a.libs/libx.so.1", defines=["x_call"], version="X_1")
    make.distribution("a")
    return Case("a._a", "LIB002")


def a_newer_glibc(make: Builder) -> Case:
    fake = make.library("build/libc.so.6", defines=["not_yet"], version="GLIBC_9.99")
    make.module("a/_a", calls=["not_yet"], links=[fake])
    shutil.rmtree(make.folder / "build")
    return Case("a._a", "LIB002")


def a_newer_glibc_in_a_library_below(make: Builder) -> Case:
    fake = make.library("build/libc.so.6", defines=["not_yet"], version="GLIBC_9.99")
    library = make.library("a.libs/libx.so.1", defines=["x_call"], calls=["not_yet"], links=[fake])
    flags = ["-Wl,--allow-shlib-undefined"]
    make.module("a/_a", calls=["x_call"], links=[library], runpath="$ORIGIN/../a.libs", flags=flags)
    shutil.rmtree(make.folder / "build")
    return Case("a._a", "LIB002")


def a_stub_in_place_of_a_bundled_library(make: Builder) -> Case:
    all_there_by_runpath(make)
    make.library("a.libs/libx.so.1", defines=["another"])
    return Case("a._a", "LIB003")


def another_build_of_a_required_distribution(make: Builder) -> Case:
    old = make.library("torchlike/lib/libcore.so", defines=["core_old"])
    make.module("torchlike/_C", calls=["core_old"], links=[old], runpath="$ORIGIN/lib")
    make.module("vision/_C", calls=["core_old"], links=[old])
    make.write("torchlike/__init__.py", "from torchlike import _C\n")
    make.write("vision/__init__.py", "import torchlike\n")
    make.library("torchlike/lib/libcore.so", defines=["core_new"])
    make.module("torchlike/_C", calls=["core_new"], links=[old], runpath="$ORIGIN/lib")
    make.distribution("torchlike")
    make.distribution("vision", requires=["torchlike"])
    return Case("vision._C", "LIB003")


def a_symbol_of_another_python(make: Builder) -> Case:
    make.module("a/_a", calls=["PyUnstable_NotInThisPython"])
    make.distribution("a")
    return Case("a._a", "LIB003")


def a_weak_symbol_that_nobody_has(make: Builder) -> Case:
    make.module("a/_a", weak=["nobody_has_it"])
    return Case("a._a", None)


def loaded_by_the_package_before(make: Builder) -> Case:
    library = make.library("a/lib/libx.so.1", defines=["x_call"])
    make.module("a/_a", calls=["x_call"], links=[library])
    make.write("a/__init__.py", "import ctypes, os\nctypes.CDLL(os.path.dirname(__file__) + '/lib/libx.so.1')\n")
    make.distribution("a")
    return Case("a._a", None)


def loaded_by_a_required_distribution_before(make: Builder) -> Case:
    library = make.library("torchlike/lib/libcore.so", defines=["core"])
    make.module("torchlike/_C", calls=["core"], links=[library], runpath="$ORIGIN/lib")
    make.module("vision/_C", calls=["core"], links=[library])
    make.write("torchlike/__init__.py", "from torchlike import _C\n")
    make.write("vision/__init__.py", "import torchlike\n")
    make.distribution("torchlike")
    make.distribution("vision", requires=["torchlike"])
    return Case("vision._C", None)


def globally_by_another_distribution_before(make: Builder) -> Case:
    library = make.library("mpi/lib/libmpi.so", defines=["mpi_call"])
    make.write("mpi/__init__.py", "import ctypes, os\nctypes.CDLL(os.path.dirname(__file__) + '/lib/libmpi.so', 256)\n")
    make.module("a/_a", calls=["mpi_call"])
    make.write("a/__init__.py", "import mpi\n")
    make.distribution("mpi")
    make.distribution("a", requires=["mpi"])
    del library
    return Case("a._a", None)


def an_empty_file(make: Builder) -> Case:
    make.write("a/_a.abi3.so")
    return Case("a._a", "LIB005")


def a_pointer_of_git_lfs(make: Builder) -> Case:
    make.write("a/_a.abi3.so", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234\n")
    return Case("a._a", "LIB005")


def a_library_below_that_is_no_library(make: Builder) -> Case:
    all_there_by_runpath(make)
    make.write("a.libs/libx.so.1", "version https://git-lfs.github.com/spec/v1\n" * 4)
    return Case("a._a", "LIB005")


def a_library_that_was_cut(make: Builder) -> Case:
    source = "const char big[1 << 20] = {1}; void x_call(void) {} void *kept[] = {x_call, kept};\n"
    library = make.compile("a.libs/libx.so.1", source, soname="libx.so.1")
    make.module("a/_a", calls=["x_call"], links=[library], runpath="$ORIGIN/../a.libs")
    library.write_bytes(library.read_bytes()[: 1 << 14])
    make.distribution("a")
    return Case("a._a", "LIB005")


def a_module_of_another_machine(make: Builder) -> Case:
    path = make.module("a/_a")
    data = bytearray(path.read_bytes())
    data[18:20] = (183 if elf.MACHINES.get(62) and data[18] == 62 else 62).to_bytes(2, sys.byteorder)
    path.write_bytes(bytes(data))
    make.distribution("a")
    return Case("a._a", "LIB004")


def an_executable_stack(make: Builder) -> Case:
    make.module("a/_a", flags=["-Wl,-z,execstack"])
    make.distribution("a")
    return Case("a._a", "LIB008" if glibc() >= (2, 41) else None)


def an_executable_stack_below(make: Builder) -> Case:
    library = make.library("a.libs/libx.so.1", defines=["x_call"], flags=["-Wl,-z,execstack"])
    make.module("a/_a", calls=["x_call"], links=[library], runpath="$ORIGIN/../a.libs")
    return Case("a._a", "LIB008" if glibc() >= (2, 41) else None)


def more_static_storage_than_there_is(make: Builder) -> Case:
    storage = (
        '__thread char big[8192] __attribute__((tls_model("initial-exec"))); char *PyInit__a(void) { return big; }\n'
    )
    make.compile("a/_a.abi3.so", storage, soname=None)
    make.distribution("a")
    return Case("a._a", "LIB009")


def two_failures_of_which_one_is_first(make: Builder) -> Case:
    one = make.library("a.libs/libzz.so.1", defines=["one"])
    two = make.library("a.libs/libaa.so.1", defines=["two"], version="A_2")
    make.module("a/_a", calls=["one", "two"], links=[one, two], runpath="$ORIGIN/../a.libs")
    one.unlink()
    make.library("a.libs/libaa.so.1", defines=["two"], version="A_1")
    return Case("a._a", "LIB001")


CASES: tuple[Callable[[Builder], Case], ...] = (
    all_there_by_runpath,
    deleted_library,
    deleted_two_steps_down,
    rpath_is_handed_down,
    runpath_is_not_handed_down,
    found_by_variable,
    an_older_version_by_variable,
    an_older_version_in_the_wheel,
    a_newer_glibc,
    a_newer_glibc_in_a_library_below,
    a_stub_in_place_of_a_bundled_library,
    another_build_of_a_required_distribution,
    a_symbol_of_another_python,
    a_weak_symbol_that_nobody_has,
    loaded_by_the_package_before,
    loaded_by_a_required_distribution_before,
    globally_by_another_distribution_before,
    an_empty_file,
    a_pointer_of_git_lfs,
    a_library_below_that_is_no_library,
    a_library_that_was_cut,
    a_module_of_another_machine,
    an_executable_stack,
    an_executable_stack_below,
    more_static_storage_than_there_is,
    two_failures_of_which_one_is_first,
)


def glibc() -> tuple[int, ...]:
    name, version = platform.libc_ver()
    return tuple(int(part) for part in version.split(".")) if name == "glibc" else (0,)


def test_the_matrix_on_this_machine(tmp_path: Path) -> None:
    rows = []
    for build in CASES:
        make = Builder(tmp_path / build.__name__)
        case = build(make)
        rows.append(row(build.__name__.replace("_", " "), case, make.folder))
    report(rows, "Compiled here")
