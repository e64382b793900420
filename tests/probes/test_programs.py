"""The programs probe on roots that the tests build: PATH, links, owners, the loader's search."""

import json
import os
import shutil
import struct
import sys
import sysconfig
from pathlib import Path

import driftcheck.schemas
import jsonschema
import pytest
from driftcheck.probes import loader_cache, os_packages, programs
from driftcheck.probes.common import Place, section

SCHEMA = json.loads((Path(driftcheck.schemas.__path__[0]) / "sections" / "programs.json").read_text("utf-8"))


def elf(machine: int = 62, loader: str = "") -> bytes:
    """The start of a 64-bit little-endian ELF file, with a PT_INTERP where a loader is named."""
    text = loader.encode() + b"\0" if loader else b""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1 if loader else 0, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(text), len(text), 1) if loader else b""
    return head + segment + text


def write(root: Path, name: str, content: bytes = b"", mode: int = 0o644) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def link(root: Path, name: str, target: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def place(root: Path, **variables: str) -> Place:
    variables.setdefault("PATH", "/usr/local/bin:/usr/bin")
    return Place(
        root=str(root),
        environ=variables,
        search_path=[],
        live=False,
        options={"executable": "/opt/venv/bin/python"},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "/opt/venv/bin/python", elf(loader="/lib64/ld-linux-x86-64.so.2"), 0o755)
    return tmp_path


def test_the_first_executable_on_path_counts(root: Path) -> None:
    write(root, "/usr/local/bin/git", b"not executable")
    write(root, "/usr/bin/git", b"", 0o755)
    (root / "usr/local/bin/ffmpeg").mkdir()
    facts = programs.measure(place(root))
    assert facts["programs"]["git"] == {
        "path": "/usr/bin/git",
        "real": None,
        "on_path": True,
        "package": None,
        "package_version": None,
        "version": None,
    }
    assert facts["programs"]["ffmpeg"] is None
    assert set(facts["programs"]) == set(programs.PROGRAMS)


def test_the_header_of_the_interpreter(root: Path) -> None:
    """Where compilers on the spot look for it: beside the standard library of the base."""
    where = {
        "/usr/lib/python3.11": "/usr/include/python3.11",
        "/opt/python/lib/python3.13t": "/opt/python/include/python3.13t",
        "/usr/lib64/python3.6": "/usr/include/python3.6m",
    }
    for standard, folder in where.items():
        here = place(root)
        here.search_path = ["/opt/venv/lib/python3.11/site-packages", standard]
        assert programs.measure(here)["headers"] == {"Python.h": None}
        write(root, folder + "/Python.h")
        found = {"path": folder + "/Python.h", "package": None, "package_version": None}
        assert programs.measure(here)["headers"] == {"Python.h": found}


def test_the_package_that_owns_the_header(root: Path) -> None:
    status = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.11.2-6\n\n"
    both = status.format("dpkg") + status.format("libpython3.11-dev")
    write(root, "/var/lib/dpkg/status", both.encode())
    write(root, "/usr/include/python3.11/Python.h")
    write(root, "/var/lib/dpkg/info/libpython3.11-dev:amd64.list", b"/usr/include/python3.11/Python.h\n")
    here = place(root)
    here.search_path = ["/usr/lib/python3.11"]
    (found,) = programs.measure(here)["headers"].values()
    assert found["package"] == "libpython3.11-dev"


def test_where_nothing_says_where_headers_are_nothing_is_missing(root: Path) -> None:
    assert programs.measure(place(root))["headers"] == {}


def test_the_header_of_a_running_interpreter_is_where_sysconfig_says() -> None:
    live = Place(root="/", environ=dict(os.environ), search_path=sys.path, live=True)
    (found,) = programs.find_headers(live, None).values()
    there = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    assert (found is not None and found["path"]) == (there.exists() and str(there))


def test_beside_the_interpreter_is_not_on_path(root: Path) -> None:
    write(root, "/opt/venv/bin/ninja", b"#!/opt/venv/bin/python\n", 0o755)
    aside = programs.measure(place(root))["programs"]["ninja"]
    assert (aside["path"], aside["on_path"]) == ("/opt/venv/bin/ninja", False)
    active = programs.measure(place(root, PATH="/opt/venv/bin:/usr/bin"))["programs"]["ninja"]
    assert (active["path"], active["on_path"]) == ("/opt/venv/bin/ninja", True)


def test_relative_entries_of_path_are_no_fact(root: Path) -> None:
    folders = programs.program_folders(place(root, PATH=":.:bin:/usr/bin:/usr/bin:"), ":")
    assert folders == [("/usr/bin", True), ("/opt/venv/bin", False)]


def test_java_through_debians_alternatives(root: Path) -> None:
    home = "/usr/lib/jvm/java-17-openjdk-amd64"
    link(root, "/usr/bin/java", "/etc/alternatives/java")
    link(root, "/etc/alternatives/java", home + "/bin/java")
    write(root, home + "/bin/java", b"", 0o755)
    write(
        root,
        home + "/release",
        b'IMPLEMENTOR="Debian"\nJAVA_VERSION="17.0.15"\nJAVA_VERSION_DATE="2025-04-15"\n',
    )
    status = (
        "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\n"
        "Package: openjdk-17-jre-headless\nStatus: install ok installed\nArchitecture: amd64\n"
        "Version: 17.0.15+6-1~deb12u1\n"
    )
    write(root, os_packages.DPKG_STATUS, status.encode())
    listed = os_packages.DPKG_INFO + "/openjdk-17-jre-headless:amd64.list"
    write(root, listed, b"/.\n/usr/lib/jvm/java-17-openjdk-amd64/bin/java\n")
    assert programs.measure(place(root))["programs"]["java"] == {
        "path": "/usr/bin/java",
        "real": home + "/bin/java",
        "on_path": True,
        "package": "openjdk-17-jre-headless",
        "package_version": "17.0.15+6-1~deb12u1",
        "version": "17.0.15",
    }


def test_a_link_that_loops_is_no_program(root: Path) -> None:
    link(root, "/usr/bin/git", "/usr/bin/git")
    link(root, "/usr/bin/dot", "/nowhere")
    facts = programs.measure(place(root))
    assert facts["programs"]["git"] is None
    assert facts["programs"]["dot"] is None


def test_links_do_not_leave_the_root(root: Path) -> None:
    link(root, "/usr/bin/git", "../../../../../../../../bin/sh")
    assert programs.measure(place(root))["programs"]["git"] is None


def cache(*libraries: tuple[str, str]) -> bytes:
    """A new-format ld.so.cache of x86-64 libraries."""
    start = 48 + 24 * len(libraries)
    strings = b""
    entries = b""
    for soname, path in libraries:
        at = start + len(strings)
        entries += struct.pack("<iIIIQ", 0x0303, at, at + len(soname) + 1, 0, 0)
        strings += soname.encode() + b"\0" + path.encode() + b"\0"
    return loader_cache.MAGIC_NEW + struct.pack("<IIB3xI12x", len(libraries), len(strings), 2, 0) + entries + strings


def test_libraries_in_the_loaders_order(root: Path) -> None:
    for name in (
        "/a/libmagic.so.1",
        "/b/libmagic.so.1",
        "/usr/lib64/libmagic.so.1",
        "/usr/lib/libvips.so.42",
    ):
        write(root, name, elf())
    write(root, "/etc/ld.so.cache", cache(("libmagic.so.1", "/b/libmagic.so.1"), ("libzbar.so.0", "/b/gone.so")))
    found = programs.measure(place(root))["libraries"]
    assert found["libmagic.so.1"] == {"path": "/b/libmagic.so.1", "via": "cache"}
    assert found["libvips.so.42"] == {"path": "/usr/lib/libvips.so.42", "via": "default"}
    assert found["libzbar.so.0"] is None
    found = programs.measure(place(root, LD_LIBRARY_PATH="relative:/none:/a"))["libraries"]
    assert found["libmagic.so.1"] == {"path": "/a/libmagic.so.1", "via": "LD_LIBRARY_PATH"}
    assert set(found) == set(programs.LIBRARIES)


def test_a_library_for_another_machine_is_passed_over(root: Path) -> None:
    write(root, "/a/libmagic.so.1", elf(machine=183))
    write(root, "/a/libvips.so.42", b"INPUT(libvips.so)")
    write(root, "/usr/lib/libmagic.so.1", elf())
    found = programs.measure(place(root, LD_LIBRARY_PATH="/a"))["libraries"]
    assert found["libmagic.so.1"] == {"path": "/usr/lib/libmagic.so.1", "via": "default"}
    assert found["libvips.so.42"] is None


def test_musl_reads_its_path_file_and_no_cache(tmp_path: Path) -> None:
    write(tmp_path, "/opt/venv/bin/python", elf(loader="/lib/ld-musl-x86_64.so.1"), 0o755)
    write(tmp_path, "/usr/local/lib/libmagic.so.1", elf())
    write(tmp_path, "/etc/ld.so.cache", cache(("libvips.so.42", "/usr/local/lib/libmagic.so.1")))
    found = programs.measure(place(tmp_path))["libraries"]
    assert found["libmagic.so.1"] == {"path": "/usr/local/lib/libmagic.so.1", "via": "default"}
    assert found["libvips.so.42"] is None
    write(tmp_path, "/etc/ld-musl-x86_64.path", b"/lib\n/usr/lib\n")
    assert programs.measure(place(tmp_path))["libraries"]["libmagic.so.1"] is None


def test_a_conda_prefix_answers_first(root: Path) -> None:
    write(root, "/opt/venv/lib/libsndfile.so.1", elf())
    assert programs.measure(place(root))["libraries"]["libsndfile.so.1"] is None
    write(root, "/opt/venv/conda-meta/history", b"")
    found = programs.measure(place(root))["libraries"]["libsndfile.so.1"]
    assert found == {"path": "/opt/venv/lib/libsndfile.so.1", "via": "conda"}


def test_a_broken_cache_is_a_problem_and_the_search_goes_on(root: Path) -> None:
    write(root, "/etc/ld.so.cache", b"glibc-ld.so.cache1.1\xff\xff\xff\xff")
    write(root, "/usr/lib/libmagic.so.1", elf())
    result = section(programs, place(root))
    assert result["status"] == "partial"
    assert [entry["where"] for entry in result["problems"]] == ["/etc/ld.so.cache"]
    assert result["facts"]["libraries"]["libmagic.so.1"]["via"] == "default"


def test_windows_suffixes(root: Path) -> None:
    write(root, "/usr/bin/git.exe", b"MZ")
    folders = programs.program_folders(place(root), ":")
    found = programs.find_program(place(root), "git", folders, programs.WINDOWS_SUFFIXES)
    assert found == ("/usr/bin/git.exe", True)
    assert programs.find_program(place(root), "git", folders, ("",)) is None


def test_this_machine_as_which_says() -> None:
    result = section(programs, Place())
    assert result["status"] == "ok", result
    jsonschema.Draft202012Validator(SCHEMA).validate(result["facts"])
    for name, found in result["facts"]["programs"].items():
        expected = shutil.which(name)
        if found and found["on_path"]:
            assert found["path"] == expected
            assert found["real"] in (None, os.path.realpath(found["path"]))
        else:
            assert expected is None
    assert section(programs, Place()) == result


def test_facts_of_a_root_are_valid(root: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    write(root, "/usr/bin/git", b"", 0o755)
    write(root, "/usr/lib/libmagic.so.1", elf())
    jsonschema.Draft202012Validator(SCHEMA).validate(programs.measure(place(root)))


def test_read_as_files_it_is_the_same_as_live() -> None:
    live = Place()
    files = Place(live=False, options={"executable": sys.executable})
    assert section(programs, files) == section(programs, live)
