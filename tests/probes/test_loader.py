"""The loader's search: in made roots rule by rule, and on this machine against dlopen and ldd."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, loader

_spec = importlib.util.spec_from_file_location("assemble", Path(__file__).parent / "elf_fixtures" / "assemble.py")
assert _spec is not None
assert _spec.loader is not None
assembler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(assembler)

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not Path("/etc/ld.so.cache").exists(),
    reason="needs the dynamic loader of glibc",
)
GLIBC = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"


class Root:
    """A root directory with an interpreter in it, for x86-64 whatever machine the test runs on."""

    def __init__(self, path: Path, interpreter: str = GLIBC, **program: Any) -> None:
        self.path = path
        self.file("/usr/bin/python3", kind=2, interpreter=interpreter, needed=("libc.so.6",), **program)
        self.file(interpreter, soname=interpreter.rsplit("/", 1)[1])
        if interpreter == GLIBC:
            self.file("/lib64/libc.so.6", soname="libc.so.6")

    def file(self, name: str, **parts: Any) -> None:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(assembler.assemble(**parts))

    def text(self, name: str, text: str) -> None:
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def loader(self, **environ: str) -> Any:
        return loader.Loader(common.Place(str(self.path), environ, [], live=False), "/usr/bin/python3")

    def walk(self, name: str, **environ: str) -> Any:
        found = self.loader(**environ)
        return found.open(name, found.start())

    def answer(self, need: str, name: str = "/app/m.so", **environ: str) -> tuple[str | None, str | None, str | None]:
        walk = self.walk(name, **environ)
        edges = dict(edge for mapped in walk.mapped for edge in mapped.edges)
        return edges[need].path, edges[need].reason, edges[need].assumption


def test_runpath_comes_after_the_variable_and_rpath_before_it(tmp_path: Path) -> None:
    root = Root(tmp_path)
    for folder in ("own", "var", "usr/lib64"):
        root.file(f"/{folder}/liba.so.1")
    root.file("/app/m.so", needed=("liba.so.1",), runpath="$ORIGIN/../own")
    assert root.answer("liba.so.1") == ("/own/liba.so.1", "runpath", None)
    assert root.answer("liba.so.1", LD_LIBRARY_PATH="/none:/var") == (
        "/var/liba.so.1",
        "ld_library_path",
        "variable",
    )
    walk = root.walk("/app/m.so", LD_LIBRARY_PATH="/var")
    assert dict(walk.mapped[0].edges)["liba.so.1"].otherwise == "/own/liba.so.1"
    root.file("/app/m.so", needed=("liba.so.1",), rpath="${ORIGIN}/../own")
    assert root.answer("liba.so.1", LD_LIBRARY_PATH="/var") == ("/own/liba.so.1", "rpath", None)
    root.file("/app/m.so", needed=("liba.so.1",))
    assert root.answer("liba.so.1") == ("/usr/lib64/liba.so.1", "default", None)


def test_rpath_of_the_loading_file_is_inherited_and_runpath_is_not(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/own/liba.so.1", needed=("libb.so.1",))
    root.file("/own/libb.so.1")
    root.file("/app/m.so", needed=("liba.so.1",), rpath="/own")
    assert root.answer("libb.so.1") == ("/own/libb.so.1", "rpath", None)
    root.file("/app/m.so", needed=("liba.so.1",), runpath="/own")
    walk = root.walk("/app/m.so")
    ((who, need, answer),) = walk.failed
    assert (who.answer.path, need, answer.error) == ("/own/liba.so.1", "libb.so.1", loader.MISSING)
    assert [step.answer.path for step in who.chain()] == ["/usr/bin/python3", "/app/m.so", "/own/liba.so.1"]
    # A library with a RUNPATH of its own takes no RPATH of anybody.
    root.file("/app/m.so", needed=("liba.so.1",), rpath="/own")
    root.file("/own/liba.so.1", needed=("libb.so.1",), runpath="/else")
    assert [need for _, need, _ in root.walk("/app/m.so").failed] == ["libb.so.1"]


def test_the_rpath_of_the_interpreter_serves_modules_without_runpath(tmp_path: Path) -> None:
    # conda's python has RPATH $ORIGIN/../lib.
    root = Root(tmp_path, rpath="$ORIGIN/../lib")
    root.file("/usr/lib/libstdc++.so.6")
    root.file("/usr/lib64/libstdc++.so.6")
    root.file("/app/m.so", needed=("libstdc++.so.6",))
    assert root.answer("libstdc++.so.6") == ("/usr/lib/libstdc++.so.6", "rpath", None)


def test_both_rpath_and_runpath_in_one_file_means_runpath(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/r/liba.so.1")
    root.file("/app/m.so", needed=("liba.so.1",), rpath="/r", runpath="/q")
    assert [need for _, need, _ in root.walk("/app/m.so").failed] == ["liba.so.1"]


def test_lib_and_platform_stand_for_what_the_loader_was_built_with(tmp_path: Path) -> None:
    root = Root(tmp_path)
    directories = b"".join(
        name + b"/\0" for name in (b"/lib/x86_64-linux-gnu", b"/usr/lib/x86_64-linux-gnu", b"/lib", b"/usr/lib")
    )
    root.file(GLIBC, soname="ld-linux-x86-64.so.2", constants=b"\0text\0" + directories)
    assert root.loader().defaults() == (
        "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib",
    )  # fmt: skip
    root.file("/lib/x86_64-linux-gnu/libc.so.6", soname="libc.so.6")
    root.file("/opt/lib/x86_64-linux-gnu/liba.so.1")
    root.file("/opt/x86_64/libb.so.1")
    root.file("/app/m.so", needed=("liba.so.1", "libb.so.1"), runpath="/opt/$LIB:/opt/${PLATFORM}")
    assert root.answer("liba.so.1") == ("/opt/lib/x86_64-linux-gnu/liba.so.1", "runpath", None)
    assert root.answer("libb.so.1") == ("/opt/x86_64/libb.so.1", "runpath", None)


def test_another_class_or_machine_is_passed_over(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/a/libx.so", bits=32, machine=3)
    root.file("/b/libx.so", machine=183)
    root.file("/c/libx.so")
    root.file("/app/m.so", needed=("libx.so",), runpath="/a:/b:/c")
    assert root.answer("libx.so") == ("/c/libx.so", "runpath", None)
    root.file("/app/m.so", needed=("libx.so",), runpath="/a:/b")
    assert [answer.error for _, _, answer in root.walk("/app/m.so").failed] == ["wrong ELF class: ELFCLASS32"]
    root.file("/app/m.so", needed=("libx.so",), runpath="/b")
    assert [answer.error for _, _, answer in root.walk("/app/m.so").failed] == [loader.MISSING]


def test_a_soname_that_is_loaded_already_wins(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/one/libmangled-1234.so", soname="liba.so.1")
    root.file("/two/liba.so.1")
    root.file("/two/libb.so.1", needed=("liba.so.1",), runpath="/two")
    root.file("/app/m.so", needed=("libmangled-1234.so", "libb.so.1"), runpath="/one:/two")
    walk = root.walk("/app/m.so")
    assert [mapped.answer.path for mapped in walk.mapped] == [
        "/app/m.so", "/one/libmangled-1234.so", "/two/libb.so.1",
    ]  # fmt: skip
    assert root.answer("liba.so.1") == ("/one/libmangled-1234.so", "runpath", None)


def test_one_file_under_two_names_is_mapped_once(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/own/liba.so.1.2")
    (tmp_path / "own/liba.so.1").symlink_to("liba.so.1.2")
    root.file("/app/m.so", needed=("liba.so.1", "liba.so.1.2"), runpath="/own")
    assert len(root.walk("/app/m.so").mapped) == 2


def test_preloaded_libraries_answer_first(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/own/liba.so.1")
    root.file("/opt/libfast.so", soname="liba.so.1")
    root.file("/app/m.so", needed=("liba.so.1",), rpath="/own")
    environ = {"LD_PRELOAD": "/opt/libfast.so:/none.so"}
    assert root.answer("liba.so.1", **environ) == ("/opt/libfast.so", "ld_preload", "variable")
    root.text("/etc/ld.so.preload", "/opt/libfast.so # a comment\n")
    assert root.answer("liba.so.1") == ("/opt/libfast.so", "ld_preload", "variable")


def test_hwcaps_directories_are_an_assumption(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/own/liba.so.1")
    root.file("/own/glibc-hwcaps/x86-64-v3/liba.so.1")
    root.file("/own/glibc-hwcaps/x86-64-v3/libb.so.1")
    root.file("/app/m.so", needed=("liba.so.1", "libb.so.1"), runpath="/own")
    assert root.answer("liba.so.1") == ("/own/liba.so.1", "runpath", "hwcaps")
    assert root.answer("libb.so.1") == ("/own/glibc-hwcaps/x86-64-v3/libb.so.1", "runpath", "hwcaps")


def cache(entries: dict[str, str], flags: int = 0x0303) -> bytes:
    """/etc/ld.so.cache in the new format, as glibc sysdeps/generic/dl-cache.h lays it out."""
    strings = b""
    rows = b""
    base = 48 + 24 * len(entries)
    for name, path in sorted(entries.items(), reverse=True):
        key = base + len(strings)
        strings += name.encode() + b"\0"
        value = base + len(strings)
        strings += path.encode() + b"\0"
        rows += struct.pack("<iIIIQ", flags, key, value, 0, 0)
    return (
        b"glibc-ld.so.cache1.1" + struct.pack("<IIB3xIIII", len(entries), len(strings), 2, 0, 0, 0, 0) + rows + strings
    )


def test_the_cache_is_read_and_a_stale_entry_is_passed_over(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/opt/liba.so.1")
    root.file("/usr/lib64/libgone.so.1")
    data = cache({"liba.so.1": "/opt/liba.so.1", "libgone.so.1": "/opt/libgone.so.1"})
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(data)
    root.file("/app/m.so", needed=("liba.so.1", "libgone.so.1"))
    assert root.answer("liba.so.1") == ("/opt/liba.so.1", "cache", None)
    assert root.answer("libgone.so.1") == ("/usr/lib64/libgone.so.1", "default", None)
    (tmp_path / "etc/ld.so.cache").write_bytes(data[:100])
    found = root.loader()
    walk = found.open("/app/m.so", found.start())
    assert [need for _, need, _ in walk.failed] == ["liba.so.1"]
    assert [entry["where"] for entry in found.place.problems] == ["/etc/ld.so.cache"]


def test_nodeflib_shuts_out_the_default_directories(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/usr/lib64/liba.so.1")
    root.file("/app/m.so", needed=("liba.so.1",), flags_1=0x800)
    assert [need for _, need, _ in root.walk("/app/m.so").failed] == ["liba.so.1"]


def test_links_are_followed_inside_the_root_alone(tmp_path: Path) -> None:
    root = Root(tmp_path / "root")
    outside = tmp_path / "libout.so.1"
    outside.write_bytes(assembler.assemble())
    root.file("/real/liba.so.1")
    (root.path / "own").mkdir()
    (root.path / "own/liba.so.1").symlink_to("/real/liba.so.1")
    (root.path / "own/libout.so.1").symlink_to("../../libout.so.1")
    root.file("/app/m.so", needed=("liba.so.1", "libout.so.1"), runpath="/own")
    assert root.answer("liba.so.1") == ("/own/liba.so.1", "runpath", None)
    assert [need for _, need, _ in root.walk("/app/m.so").failed] == ["libout.so.1"]


def test_driver_libraries_are_never_missing(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/app/m.so", needed=("libcuda.so.1", "libnvidia-ml.so.1", "libcudart.so.12"))
    assert root.answer("libcuda.so.1") == (None, "driver", "driver")
    assert root.answer("libnvidia-ml.so.1") == (None, "driver", "driver")
    root.file("/usr/lib64/libcuda.so.1")
    assert root.answer("libcuda.so.1") == ("/usr/lib64/libcuda.so.1", "default", "driver")
    assert not loader.is_driver("libnvJitLink.so.12")
    assert not loader.is_driver("libcudart.so.12")


def test_a_broken_file_on_the_way_ends_the_search(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.text("/own/liba.so.1", "")
    root.text("/own/libb.so.1", "GROUP ( /lib64/libb.so.1 AS_NEEDED ( /lib64/libbc.so.1 ) ) and some more text")
    root.file("/usr/lib64/liba.so.1")
    root.file("/app/m.so", needed=("liba.so.1", "libb.so.1"), runpath="/own")
    failed = root.walk("/app/m.so").failed
    assert [(answer.name, answer.error) for _, _, answer in failed] == [
        ("/own/liba.so.1", "file too short"),
        ("/own/libb.so.1", "invalid ELF header"),
    ]


def test_musl_searches_by_its_own_rules(tmp_path: Path) -> None:
    root = Root(tmp_path, MUSL)
    root.file("/own/liba.so.1", needed=("libb.so.1", "libc.so.6", "libm.so.6"))
    root.file("/own/libb.so.1")
    root.file("/usr/lib/libb.so.1")
    # RUNPATH is inherited, and LD_LIBRARY_PATH comes before it, and before an RPATH.
    root.file("/app/m.so", needed=("liba.so.1",), runpath="$ORIGIN/../own")
    assert root.answer("libb.so.1") == ("/own/libb.so.1", "runpath", None)
    assert root.answer("libc.so.6") == (MUSL, "loaded", None)
    root.file("/app/m.so", needed=("liba.so.1",), rpath="$ORIGIN/../own")
    assert root.answer("libb.so.1", LD_LIBRARY_PATH="/usr/lib")[:2] == (
        "/usr/lib/libb.so.1",
        "ld_library_path",
    )
    # It knows no other token, and then takes the whole path for nothing.
    root.file("/app/m.so", needed=("libb.so.1",), runpath="$LIB:/own")
    assert root.answer("libb.so.1") == ("/usr/lib/libb.so.1", "default", None)
    root.text("/etc/ld-musl-x86_64.path", "/opt/first\n/opt/second:/opt/third\n")
    root.file("/opt/third/libz.so.1")
    root.file("/app/m.so", needed=("libz.so.1",))
    assert root.loader().defaults() == ("/opt/first", "/opt/second", "/opt/third")
    assert root.answer("libz.so.1") == ("/opt/third/libz.so.1", "default", None)


def test_musl_does_not_know_a_library_by_its_soname(tmp_path: Path) -> None:
    root = Root(tmp_path, MUSL)
    root.file("/own/libmangled.so", soname="liba.so.1")
    root.file("/app/m.so", needed=("libmangled.so", "liba.so.1"), runpath="/own")
    assert [need for _, need, _ in root.walk("/app/m.so").failed] == ["liba.so.1"]


def test_needs_in_a_circle_end(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.file("/own/liba.so", needed=("libb.so",), soname="liba.so", runpath="/own")
    root.file("/own/libb.so", needed=("liba.so", "libb.so"), soname="libb.so", runpath="/own")
    root.file("/app/m.so", needed=("liba.so", "m.so"), runpath="/own:/app")
    assert len(root.walk("/app/m.so").mapped) == 3


def dlopen(path: Path, **environ: str) -> dict[str, str | None]:
    """What this interpreter's loader says to one file, and where its libraries came from."""
    code = (
        "import ctypes, json, os, sys\n"
        "try:\n    ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW); error = None\n"
        "except OSError as failure:\n    error = str(failure)\n"
        "print(json.dumps([error, open('/proc/self/maps').read()]))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", code, str(path)],
        env={**os.environ, **environ}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    error, maps = json.loads(answer.stdout)
    return {"error": error, "maps": maps}


@glibc
def test_predictions_equal_what_dlopen_does(tmp_path: Path) -> None:
    def put(name: str, **parts: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(assembler.native(**parts))
        return path

    put("own/libleaf.so.1", soname="libleaf.so.1")
    put("var/libleaf.so.1", soname="libleaf.so.1")
    put("own/libmiddle.so.1", soname="libmiddle.so.1", needed=("libleaf.so.1",))
    put("own/libdeep.so.1", soname="libdeep.so.1", needed=("libnowhere.so.7",))
    put("own/libcut.so.1", soname="libcut.so.1").write_bytes(b"\x7fELF")
    put("wrong/libleaf.so.1").write_bytes(assembler.assemble(bits=32, machine=3, soname="libleaf.so.1"))
    variable = {"LD_LIBRARY_PATH": str(tmp_path / "var")}
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"needed": ("libmiddle.so.1",), "rpath": "$ORIGIN/../own"}, {}),
        ({"needed": ("libmiddle.so.1",), "runpath": "$ORIGIN/../own"}, {}),
        ({"needed": ("libmiddle.so.1",), "rpath": "$ORIGIN/../own"}, variable),
        ({"needed": ("libleaf.so.1",), "runpath": "$ORIGIN/../own"}, variable),
        ({"needed": ("libdeep.so.1",), "runpath": "$ORIGIN/../own"}, {}),
        ({"needed": ("libcut.so.1",), "runpath": "$ORIGIN/../own"}, {}),
        ({"needed": ("libleaf.so.1",), "runpath": "$ORIGIN/../wrong"}, {}),
        ({"needed": ("libleaf.so.1",), "runpath": "$ORIGIN/../wrong:$ORIGIN/../own"}, {}),
        ({"needed": ("libc.so.6", "libm.so.6")}, {}),
    ]
    seen = set()
    for parts, environ in cases:
        path = put("app/m.so", **parts)
        truth = dlopen(path, **environ)
        place = common.Place("/", {**os.environ, **environ}, [])
        found = loader.Loader(place, os.path.realpath(sys.executable))
        walk = found.open(str(path), found.start())
        predicted = f"{walk.failed[0][2].name}: {walk.failed[0][2].error}" if walk.failed else None
        assert predicted == truth["error"], parts
        if predicted is None:
            for mapped in walk.mapped:
                assert os.path.realpath(mapped.answer.name) in str(truth["maps"])
        seen.add(predicted is None)
    assert seen == {True, False}


@pytest.mark.skipif(not Path(MUSL).exists(), reason="needs the dynamic loader of musl, the oracle")
@pytest.mark.parametrize("variable", [False, True])
def test_the_search_agrees_with_musl_itself(tmp_path: Path, variable: bool) -> None:
    def put(name: str, **parts: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(assembler.native(**parts))
        return path

    put("lib/libb.so.1")
    put("lib/liba.so.1", needed=("libb.so.1",))
    put("lib/libm_angled.so", soname="libz9.so")
    program = put("program", interpreter=MUSL, needed=("libc.so",))
    environ = {"LD_LIBRARY_PATH": str(tmp_path / "lib")} if variable else {}
    missing = set()
    for parts in (
        {"needed": ("liba.so.1",), "runpath": "$ORIGIN/lib"},
        {"needed": ("liba.so.1", "libnone.so.3"), "rpath": "$ORIGIN/lib"},
        {"needed": ("libm_angled.so", "libz9.so"), "rpath": "$ORIGIN/lib"},
        {"needed": ("libc.so.6", "libm.so.6")},
        {"needed": ("liba.so.1",), "runpath": "$LIB:$ORIGIN/lib"},
    ):
        path = put("m.so", **parts)
        truth = subprocess.run([MUSL, "--list", str(path)], env=environ, check=False, capture_output=True, text=True)
        found = loader.Loader(common.Place(environ=environ), str(program))
        walk = found.open(str(path), found.start())
        lacking = re.findall(r"Error loading shared library (\S+): No such file", truth.stderr)
        assert [need for _, need, _ in walk.failed] == lacking
        missing.update(lacking)
        theirs = dict(re.findall(r"^\s*(\S+) => (\S+)", truth.stdout, re.MULTILINE))
        edges = {need: answer.name for mapped in walk.mapped for need, answer in mapped.edges if answer.library}
        assert edges == theirs
    assert "libnone.so.3" in missing


@glibc
@pytest.mark.skipif(shutil.which("ldd") is None, reason="needs ldd, the oracle")
def test_the_search_agrees_with_ldd() -> None:
    modules = Path(sysconfig.get_path("platstdlib"), "lib-dynload")
    files = [os.path.realpath(sys.executable), *sorted(str(path) for path in modules.glob("*.so"))[::4]]
    files += [os.path.realpath(tool) for tool in map(shutil.which, ("sh", "ls", "git", "curl")) if tool]
    compared = 0
    for path in files:
        output = subprocess.run(["ldd", path], check=False, capture_output=True, text=True).stdout
        theirs = dict(re.findall(r"^\s*(\S+) => (/\S+|not found)", output, re.MULTILINE))
        found = loader.Loader(common.Place(), os.path.realpath(sys.executable))
        ours = {
            need: answer.name if answer.library else "not found"
            for mapped in found.open(path, loader.Walk()).mapped
            for need, answer in mapped.edges
        }
        for need, answer in theirs.items():
            if not need.startswith("ld-"):
                assert ours[need] == answer, (path, need)
                compared += 1
    assert compared > 3
