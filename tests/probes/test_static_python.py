"""An interpreter's facts from its files: against what the interpreter itself answers, and on roots made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, static_python
from driftcheck.probes.redaction import Redactor
from support import interpreters, wheels
from support.images import elf, python_root, write
from support.snapshots import check_facts

# The interpreter that the environment of these tests was made from.
THIS = str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}"))


def from_files(
    executable: str, root: Path | str = "/", environ: Mapping[str, str] | None = None, directory: str = "/"
) -> dict[str, Any]:
    """The facts as ``static_python`` works them out, unredacted."""
    environ = dict(environ or {})
    layout = static_python.inspect(common.Place(str(root), environ, [], live=False), executable, directory)
    options = {"layout": layout, "executable": executable}
    place = common.Place(str(root), environ, layout.search_path, live=False, options=options)
    facts: dict[str, Any] = static_python.measure(place)
    check_facts("python", facts)
    return facts


def from_itself(executable: str, environ: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """The facts as the interpreter answers them, of the same shape."""
    done = subprocess.run(
        [executable, str(wheels.PROBES / "python.py")],
        capture_output=True, text=True, check=True, env=dict(environ), cwd=directory, timeout=120,
    )  # fmt: skip
    facts: dict[str, Any] = json.loads(done.stdout)["python"]["facts"]
    return facts


def assert_equal(executable: str, environ: Mapping[str, str], directory: Path) -> None:
    ours = Redactor.of_process(environ).document(from_files(executable, "/", environ, str(directory)))
    theirs = from_itself(executable, environ, directory)
    assert theirs.keys() - ours.keys() == static_python.LIVE_ONLY
    assert ours == {name: value for name, value in theirs.items() if name not in static_python.LIVE_ONLY}


@pytest.mark.interpreters
@pytest.mark.parametrize("version", sorted(interpreters.supported()), ids=lambda version: f"{version[0]}.{version[1]}")
def test_equal_to_every_interpreter_and_its_environments(version: tuple[int, int], tmp_path: Path) -> None:
    """Plain, in virtual environments of both kinds, with .pth files, PYTHONPATH and a user site."""
    python = interpreters.supported()[version]
    if python == sys.executable:  # an editable install puts a hook on its sys.path, by an import line
        python = THIS
    home, extra, work = tmp_path / "home", tmp_path / "extra", tmp_path / "work"
    for folder in (home, extra, work):
        folder.mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    assert_equal(python, environ, work)
    for name, options in (("plain", []), ("open", ["--system-site-packages"])):
        subprocess.run([python, "-m", "venv", "--without-pip", *options, tmp_path / name], check=True, env=environ)
        inside = str(tmp_path / name / "bin/python")
        site = tmp_path / name / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"
        (site / "b.pth").write_text(f"# paths\n{extra}\n/nowhere\nimport sys\n../../..\n{extra}\n")
        (site / "a.pth").write_text("sub\n")
        (site / "sub").mkdir()
        (extra / "wave.py").write_text("")
        assert_equal(inside, environ, work)
    user = home / ".local/lib" / f"python{version[0]}.{version[1]}" / "site-packages"
    user.mkdir(parents=True)
    (user / "more.pth").write_text(f"{work}\n")
    environ["PYTHONPATH"] = f"{extra}::relative:{extra}:/nowhere"
    for inside in (python, str(tmp_path / "plain/bin/python"), str(tmp_path / "open/bin/python3")):
        assert_equal(inside, environ, work)
    assert_equal(python, {**environ, "PYTHONNOUSERSITE": "1"}, work)


def test_equal_to_this_interpreter(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    python = wheels.virtual_environment(tmp_path / "venv")
    assert_equal(str(python), environ, tmp_path)
    assert_equal(THIS, environ, tmp_path)


# --- roots made by hand

STANDARD = ["/usr/lib/python311.zip", "/usr/lib/python3.11", "/usr/lib/python3.11/lib-dynload"]


def search_path(
    root: Path, executable: str = "/usr/bin/python3", environ: Mapping[str, str] | None = None
) -> list[str]:
    paths: list[str] = from_files(executable, root, environ)["search_path"]
    return paths


def test_what_the_program_and_its_build_state(tmp_path: Path) -> None:
    facts = from_files("/usr/bin/python3", python_root(tmp_path))
    assert facts["version"] == "3.11.4"
    assert facts["executable"] == "/usr/bin/python3"
    assert facts["soabi"] == "cpython-311-x86_64-linux-gnu"
    assert facts["extension_suffixes"] == [".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so"]
    libc = {"libc": "glibc", "libc_version": "2.36"}
    assert facts["platform"] == {"system": "linux", "machine": "x86_64", "tag": "linux-x86_64", **libc}
    assert facts["tags"]["interpreters"][:2] == ["cp311-cp311", "cp311-abi3"]
    assert facts["tags"]["platforms"][0] == "manylinux_2_36_x86_64"
    assert facts["environment"]["kind"] == "system"
    # zlib and _ssl are inside the program, _bz2 lies beside it, venv is a directory; the rest is not there.
    assert {"zlib", "_ssl", "_bz2", "venv"}.isdisjoint(facts["missing_modules"])
    assert facts["missing_modules"].keys() >= {"_lzma", "_sqlite3", "ensurepip"}
    assert "_zstd" not in facts["missing_modules"]


def test_debians_directories_instead_of_site_packages(tmp_path: Path) -> None:
    root = python_root(tmp_path, debian=True)
    for folder in (
        "usr/lib/python3/dist-packages",
        "usr/local/lib/python3.11/dist-packages",
        "usr/lib/python3.11/site-packages",
    ):
        (root / folder).mkdir(parents=True)
    paths = ["/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3/dist-packages"]
    assert search_path(root) == STANDARD + paths


def test_fedoras_lib64_and_its_own_prefix_for_pip(tmp_path: Path) -> None:
    root = python_root(tmp_path)
    (root / "usr/lib64").symlink_to("lib")
    (root / "usr/lib").rename(root / "usr/lib64x")
    (root / "usr/lib64").unlink()
    (root / "usr/lib64x").rename(root / "usr/lib64")
    (root / "usr/lib64/python3.11/site.py").write_text("if 'RPM_BUILD_ROOT' not in os.environ: ...\n")
    expected = []
    for folder in ("usr/local/lib64", "usr/local/lib", "usr/lib64", "usr/lib"):
        (root / folder / "python3.11/site-packages").mkdir(parents=True)
        expected.append(f"/{folder}/python3.11/site-packages")
    standard = ["/usr/lib64/python311.zip", "/usr/lib64/python3.11", "/usr/lib64/python3.11/lib-dynload"]
    assert search_path(root) == standard + expected


def test_an_environment_whose_home_is_elsewhere_in_the_root(tmp_path: Path) -> None:
    root = python_root(tmp_path, prefix="opt/python")
    venv = root / "srv/venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to("/opt/python/bin/python3.11")
    (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\nuv = 0.5.1\n")
    site = venv / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (site / "x.pth").write_text("/data\n/etc/shadow-copy\nimport os; os.system('touch /tmp/ran')\n../../../../escape\n")
    (root / "data").mkdir()
    (root / "escape").mkdir()
    facts = from_files("/srv/venv/bin/python", root)
    library = "/opt/python/lib/python3.11"
    standard = ["/opt/python/lib/python311.zip", library, library + "/lib-dynload"]
    site_packages = "/srv/venv/lib/python3.11/site-packages"
    assert facts["search_path"] == [*standard, site_packages, "/data"]
    assert facts["search_path_files"] == {f"{site_packages}/x.pth": {"adds": 3, "runs": 1}}
    assert (facts["prefix"], facts["base_prefix"]) == ("/srv/venv", "/opt/python")
    assert facts["environment"] == {
        "kind": "venv", "creator": "uv", "made_with": None, "system_site_packages": False,
        "externally_managed": False,
    }  # fmt: skip


def test_pythonpath_pythonhome_and_the_user_site(tmp_path: Path) -> None:
    root = python_root(tmp_path)
    user = "/home/worker/.local/lib/python3.11/site-packages"
    (root / user[1:]).mkdir(parents=True)
    environ = {"PYTHONPATH": "/a:b:", "HOME": "/home/worker"}
    facts = from_files("/usr/bin/python3", root, environ, "/srv")
    assert facts["search_path"] == ["/a", "/srv/b", "/srv", *STANDARD, user]
    assert search_path(root, environ={"HOME": "/home/worker", "PYTHONNOUSERSITE": "1"}) == STANDARD
    base = {"PYTHONUSERBASE": "/home/worker/.local"}
    assert search_path(root, environ=base) == [*STANDARD, user]
    python_root(root, prefix="opt/other")
    library = "/opt/other/lib/python3.11"
    other = ["/opt/other/lib/python311.zip", library, library + "/lib-dynload"]
    assert search_path(root, environ={"PYTHONHOME": "/opt/other"}) == other


def test_a_free_threaded_build_and_a_debug_build(tmp_path: Path) -> None:
    root = python_root(tmp_path, "3.13.1")
    (root / "usr/lib/python3.13").rename(root / "usr/lib/python3.13t")
    (root / "usr/bin/python3.13").rename(root / "usr/bin/python3.13t")
    config = root / "usr/lib/python3.13t/_sysconfigdata__linux_x86_64-linux-gnu.py"
    config.write_text(config.read_text().replace("cpython-313-", "cpython-313td-"))
    facts = from_files("/usr/bin/python3.13t", root)
    assert facts["free_threaded"] is True
    assert facts["debug"] is True
    assert facts["search_path"][0] == "/usr/lib/python313t.zip"
    assert facts["tags"]["interpreters"][0] == "cp313-cp313td"
    assert facts["extension_suffixes"][:2] == [
        ".cpython-313td-x86_64-linux-gnu.so",
        ".cpython-313t-x86_64-linux-gnu.so",
    ]


@pytest.mark.parametrize(
    ("files", "executable", "reason"),
    [
        ({}, "/usr/bin/python3", "/usr/bin/python3: no such file"),
        ({"usr/bin/python3": b"#!/bin/sh\n"}, "/usr/bin/python3", "no ELF program"),
        ({"usr/bin/python3": elf()}, "/usr/bin/python3", "does not state which version of Python it is"),
        ({"usr/bin/python3.11": elf()}, "/usr/bin/python3.11", r"no standard library \(python3\.11/os\.py\)"),
        ({"opt/bin/pypy3.10": elf()}, "/opt/bin/pypy3.10", "only CPython's files"),
    ],
)
def test_what_is_no_interpreter_is_said(tmp_path: Path, files: dict[str, bytes], executable: str, reason: str) -> None:
    with pytest.raises(common.Unavailable, match=reason):
        from_files(executable, write(tmp_path, files))


def test_hostile_files_are_read_and_not_believed(tmp_path: Path) -> None:
    root = python_root(tmp_path)
    library = root / "usr/lib/python3.11"
    (library / "_sysconfigdata__linux_x86_64-linux-gnu.py").write_text(
        "build_time_vars = __import__('os').system('false')\n"
    )
    site = library / "site-packages"
    site.mkdir()
    (site / "loop.pth").write_text("loop\n../../../../../../..\nx\0y\nnever\n")
    (site / "loop").symlink_to("loop")
    (site / "never").mkdir()
    os.mkfifo(site / "fifo.pth")
    facts = from_files("/usr/bin/python3", root)
    assert facts["soabi"] == "cpython-311-x86_64-linux-gnu"  # from the names of extension modules
    assert facts["search_path"] == [*STANDARD, "/usr/lib/python3.11/site-packages", "/"]
