"""The loader of three Debian releases against what was predicted: libraries too old, and stacks refused.

The same files are imported by the Python of each release, inside of its root.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from driftcheck.probes import common, libraries
from support import engine
from support.compiled import Builder, measured
from support.loader_matrix import Case, report, row
from support.wheels import PROBES

pytestmark = pytest.mark.engine

ALL = ("bullseye", "bookworm", "trixie")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    reason = engine.missing("debootstrap", "chroot", "gcc")
    if reason:
        pytest.skip(reason)
    return lambda release: engine.debian(release, tmp_path_factory.getbasetemp())


class Inside:
    """A directory inside of a root, which goes when the test ends: others use the root too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"/opt/driftcheck-{secrets.token_hex(4)}"
        self.probes = f"{self.name}/probes"
        self.python = ("chroot", str(root), "/usr/bin/python3")
        shutil.copytree(PROBES, self.outside("probes"), ignore=shutil.ignore_patterns("__pycache__"))

    def outside(self, name: str) -> Path:
        return Path(f"{self.root}{self.name}/{name}")


@pytest.fixture
def inside(root: Callable[[str], Path]) -> Iterator[Callable[[str], Inside]]:
    made: list[Inside] = []

    def enter(release: str) -> Inside:
        made.append(Inside(root(release)))
        return made[-1]

    yield enter
    for one in made:
        shutil.rmtree(one.outside(""))


def asks(make: Builder, soname: str, version: str, symbol: str) -> None:
    """A module that keeps one versioned function of a library of the system, linked against a stand-in for it."""
    fake = make.library(f"build/{soname}", defines=[symbol], version=version)
    make.module("a/_a", keeps=[symbol], links=[fake])
    shutil.rmtree(make.folder / "build")
    make.distribution("a")


def glibc_2_34(make: Builder) -> None:
    asks(make, "libc.so.6", "GLIBC_2.34", "pthread_mutex_trylock")


def glibc_2_38(make: Builder) -> None:
    asks(make, "libc.so.6", "GLIBC_2.38", "strlcpy")


def glibcxx_3_4_30(make: Builder) -> None:
    asks(make, "libstdc++.so.6", "GLIBCXX_3.4.30", "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE")


def glibcxx_3_4_32(make: Builder) -> None:
    asks(make, "libstdc++.so.6", "GLIBCXX_3.4.32", "_ZSt21ios_base_library_initv")


def execstack(make: Builder) -> None:
    make.module("a/_a", flags=["-Wl,-z,execstack"])
    make.distribution("a")


def execstack_below(make: Builder) -> None:
    library = make.library("a.libs/libx.so.1", defines=["x_call"], flags=["-Wl,-z,execstack"])
    make.module("a/_a", calls=["x_call"], links=[library], runpath="$ORIGIN/../a.libs")
    make.distribution("a")


def says_nothing_of_its_stack(make: Builder) -> None:
    """PT_GNU_STACK taken out, as very old compilers leave it."""
    path = make.module("a/_a")
    data = bytearray(path.read_bytes())
    start, entry, count = int.from_bytes(data[32:40], "little"), data[54], data[56]
    for place in range(start, start + entry * count, entry):
        if data[place : place + 4] == (0x6474E551).to_bytes(4, "little"):
            data[place : place + 4] = bytes(4)
    path.write_bytes(bytes(data))


def no_desktop(make: Builder) -> None:
    fake = make.library("build/libGL.so.1", defines=["glXGetProcAddress"])
    make.module("a/_a", keeps=["glXGetProcAddress"], links=[fake])
    shutil.rmtree(make.folder / "build")


def fine(make: Builder) -> None:
    make.module("a/_a")
    make.distribution("a")


# What each release does with it: the code of the rule that has to find it, nothing where it loads.
CASES: Mapping[Callable[[Builder], None], Mapping[str, str]] = {
    fine: {},
    no_desktop: dict.fromkeys(ALL, "LIB001"),
    glibc_2_34: {"bullseye": "LIB002"},
    glibc_2_38: {"bullseye": "LIB002", "bookworm": "LIB002"},
    glibcxx_3_4_30: {"bullseye": "LIB002"},
    glibcxx_3_4_32: {"bullseye": "LIB002", "bookworm": "LIB002"},
    execstack: {"trixie": "LIB008"},
    execstack_below: {"trixie": "LIB008"},
    says_nothing_of_its_stack: {"trixie": "LIB008"},
}


@pytest.mark.parametrize("release", ALL)
def test_the_matrix_of_a_release(release: str, inside: Callable[[str], Inside]) -> None:
    place = inside(release)
    rows = []
    for build, expected in CASES.items():
        build(Builder(place.outside(build.__name__)))
        case = Case("a._a", expected.get(release))
        folder = f"{place.name}/{build.__name__}"
        rows.append(row(build.__name__, case, folder, before=place.python, probes=place.probes))
    report(rows, f"Debian {release}")


@pytest.mark.parametrize("release", ALL)
def test_files_alone_tell_what_the_inside_tells(release: str, inside: Callable[[str], Inside]) -> None:
    place = inside(release)
    for build in (fine, no_desktop, glibc_2_38, execstack_below):
        build(Builder(place.outside(build.__name__)))
        folder = f"{place.name}/{build.__name__}"
        target = measured(folder, before=place.python, probes=place.probes, sections=("libraries", "python"))
        python = target.facts("python")
        assert python is not None
        options = {"executable": "/usr/bin/python3"}
        search_path = python["search_path"]
        files = common.Place(str(place.root), {}, search_path, live=False, options=options)
        assert libraries.measure(files) == target.facts("libraries"), build.__name__
