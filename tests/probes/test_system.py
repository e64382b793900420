"""The system probe: on this machine against its own tools, and on roots that the tests build."""

import hashlib
import json
import lzma
import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import driftcheck.schemas
import jsonschema
import pytest
from driftcheck.probes import os_packages, system
from driftcheck.probes.common import Place, section
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
SCHEMA = json.loads((Path(driftcheck.schemas.__path__[0]) / "sections" / "system.json").read_text("utf-8"))

# /etc/os-release of the images named.
DEBIAN_12 = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
"""
ROCKY_9 = """\
NAME="Rocky Linux"
VERSION="9.3 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.3"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.3 (Blue Onyx)"
"""
ALPINE_316 = """\
NAME="Alpine Linux"
ID=alpine
VERSION_ID=3.16.2
PRETTY_NAME="Alpine Linux v3.16"
HOME_URL="https://alpinelinux.org/"
"""

# From the read-only data of libraries: Debian 12's glibc, the banner as RHEL 9 words it, Debian 12's musl.
GLIBC_236 = (
    b"R BUG!!!\0\0\0\0\0\0\0\0\0\0\0\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release "
    b"version 2.36.\nCopyright (C) 2022 Free Software Foundation, Inc.\n"
)
GLIBC_234 = b"\0GNU C Library (GNU libc) stable release version 2.34.\nCopyright (C) 2021 Free Software"
MUSL_123 = (
    b"m (needed by %s)\0\0\0\0\0\0musl libc (x86_64)\nVersion %s\nDynamic Program Loader\nUsage: %s [options]"
    b"\x00127.0.0.1\0\x01\x02\x04\x07\x03\x06\x05\0/proc/self/fd/\x001.2.3\0Unsupported request %"
)


def elf(loader: str = "", content: bytes = b"") -> bytes:
    """A 64-bit x86 ELF header with a PT_INTERP where a loader is named, then the content."""
    text = loader.encode() + b"\0" if loader else b""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1 if loader else 0, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(text), len(text), 1) if loader else b""
    return head + segment + text + content


def write(root: Path, name: str, content: "str | bytes" = b"") -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def link(root: Path, name: str, target: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def place(root: Path, executable: str | None = "/usr/bin/python3", *search_path: str) -> Place:
    options = {"executable": executable} if executable else {}
    return Place(root=str(root), environ={}, search_path=list(search_path), live=False, options=options)


# The release


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIAN_12, ("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", [])),
        (ROCKY_9, ("rocky", "9.3", None, "Rocky Linux 9.3 (Blue Onyx)", ["rhel", "centos", "fedora"])),
        (ALPINE_316, ("alpine", "3.16.2", None, "Alpine Linux v3.16", [])),
        ("", (None, None, None, None, [])),
    ],
)
def test_release(tmp_path: Path, text: str, expected: tuple[object, ...]) -> None:
    write(tmp_path, "/usr/lib/os-release", text)
    link(tmp_path, "/etc/os-release", "../usr/lib/os-release")
    found = system.find_release(place(tmp_path))
    keys = ("id", "version_id", "version_codename", "pretty_name", "id_like")
    assert tuple(found[key] for key in keys) == expected


def test_os_release_undoes_a_shells_quoting() -> None:
    text = '# A comment=1\nA=\'it is $5\'\nB="a \\"b\\" \\$c \\\\"\n  C=plain  \nnot a line\nD=\n'
    assert system.parse_os_release(text) == {"A": "it is $5", "B": 'a "b" $c \\', "C": "plain", "D": ""}


def test_release_on_macos_and_windows() -> None:
    # platform.mac_ver() on macOS 14.5, platform.win32_ver() on Windows 11, and the empty answers of both.
    assert system.mac_release(("14.5", ("", "", ""), "arm64"))["pretty_name"] == "macOS 14.5"
    assert system.mac_release(("", ("", "", ""), ""))["version_id"] is None
    found = system.windows_release(("11", "10.0.22631", "SP0", "Multiprocessor Free"))
    assert (found["id"], found["version_id"], found["pretty_name"]) == ("windows", "10.0.22631", "Windows 11")
    assert system.windows_release(("", "", "", ""))["pretty_name"] == "Windows"


# The C library


def test_glibc_beside_its_loader(tmp_path: Path) -> None:
    write(tmp_path, "/usr/bin/python3.11", elf("/lib64/ld-linux-x86-64.so.2"))
    link(tmp_path, "/usr/bin/python3", "python3.11")
    link(tmp_path, "/lib64", "usr/lib64")
    link(tmp_path, "/lib", "usr/lib")
    link(tmp_path, "/usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    write(tmp_path, "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", elf())
    write(tmp_path, "/usr/lib/x86_64-linux-gnu/libc.so.6", elf(content=GLIBC_236))
    assert system.find_libc(place(tmp_path)) == {
        "family": "glibc",
        "version": "2.36",
        "path": "/usr/lib/x86_64-linux-gnu/libc.so.6",
    }


def test_glibc_of_the_name_before_2_34(tmp_path: Path) -> None:
    # Debian 11's layout; the banner is left out here, so that the name alone tells.
    write(tmp_path, "/usr/bin/python3", elf("/lib64/ld-linux-x86-64.so.2"))
    link(tmp_path, "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-2.31.so")
    link(tmp_path, "/lib/x86_64-linux-gnu/libc.so.6", "libc-2.31.so")
    write(tmp_path, "/lib/x86_64-linux-gnu/ld-2.31.so", elf())
    write(tmp_path, "/lib/x86_64-linux-gnu/libc-2.31.so", elf())
    assert system.find_libc(place(tmp_path)) == {
        "family": "glibc",
        "version": "2.31",
        "path": "/lib/x86_64-linux-gnu/libc-2.31.so",
    }


def test_the_interpreters_libc_where_both_exist(tmp_path: Path) -> None:
    write(tmp_path, "/lib64/ld-linux-x86-64.so.2", elf())
    write(tmp_path, "/lib64/libc.so.6", elf(content=GLIBC_234))
    write(tmp_path, "/lib/ld-musl-x86_64.so.1", elf(content=MUSL_123))
    write(tmp_path, "/usr/bin/python3", elf("/lib64/ld-linux-x86-64.so.2"))
    write(tmp_path, "/opt/bin/python3", elf("/lib/ld-musl-x86_64.so.1"))
    write(tmp_path, "/opt/bin/static", elf())
    write(tmp_path, "/opt/bin/script", "#!/bin/sh\nexec python3\n")
    assert system.find_libc(place(tmp_path)) == {
        "family": "glibc",
        "version": "2.34",
        "path": "/lib64/libc.so.6",
    }
    musl = {"family": "musl", "version": "1.2.3", "path": "/lib/ld-musl-x86_64.so.1"}
    assert system.find_libc(place(tmp_path, "/opt/bin/python3")) == musl
    # An unpacked root whose interpreter is known by its library folder alone.
    assert system.find_libc(place(tmp_path, None, "/opt/lib/python311.zip", "/opt/lib/python3.11")) == musl
    assert system.find_libc(place(tmp_path, "/opt/bin/static"))["family"] is None
    here = place(tmp_path, "/opt/bin/script")
    assert system.find_libc(here)["family"] is None
    assert [entry["where"] for entry in here.problems] == ["libc"]


def test_the_only_libc_where_no_interpreter_is_known(tmp_path: Path) -> None:
    write(tmp_path, "/lib/ld-musl-aarch64.so.1", elf(content=MUSL_123))
    assert system.find_libc(place(tmp_path, None))["family"] == "musl"
    assert system.find_libc(place(tmp_path / "empty", None)) == {
        "family": None,
        "version": None,
        "path": None,
    }


def test_versions_in_the_files() -> None:
    assert system.glibc_version(GLIBC_236) == "2.36"
    assert system.glibc_version(GLIBC_234) == "2.34"
    assert system.glibc_version(MUSL_123) is None
    assert system.musl_version(MUSL_123) == "1.2.3"
    assert system.musl_version(MUSL_123.replace(b"1.2.3", b"1.2.4_git20230717")) == "1.2.4_git20230717"
    assert system.musl_version(GLIBC_236) is None


def test_this_machines_libc_as_it_says_itself() -> None:
    said = system.confstr("CS_GNU_LIBC_VERSION")
    found = system.find_libc(Place())
    if said is None:
        assert found["family"] != "glibc"
    else:
        assert f"{found['family']} {found['version']}" == said
        assert found["path"] == os.path.realpath(found["path"])


@given(st.binary(max_size=300))
def test_no_elf_header_breaks_the_reader(tail: bytes) -> None:
    for start in (b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01", b""):
        header = system.elf_header(start + tail)
        assert header is None or header["bits"] in (32, 64)


# Certificates, locales, time zones


def test_ca_bundle(tmp_path: Path) -> None:
    certificate = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    write(tmp_path, "/etc/ssl/cert.pem", certificate)
    write(tmp_path, "/etc/pki/tls/certs/ca-bundle.crt", certificate * 3)
    write(tmp_path, "/etc/ssl/certs/ca-certificates.crt", b"")
    assert system.find_ca_bundle(place(tmp_path)) == {
        "path": "/etc/pki/tls/certs/ca-bundle.crt",
        "certificates": 3,
        "digest": "sha256:" + hashlib.sha256(certificate * 3).hexdigest(),
    }
    assert system.find_ca_bundle(place(tmp_path / "empty")) is None


def test_locale_archive_as_localedef_lists_it(tmp_path: Path) -> None:
    # The tables of an archive that glibc 2.36's localedef made of de_DE, de_DE.UTF-8 and en_US.UTF-8.
    head = lzma.decompress((DATA / "locale-archive.head.xz").read_bytes())
    listed = ["de_DE", "de_DE.iso88591", "de_DE.utf8", "en_US.utf8"]
    assert system.parse_locale_archive(head) == listed
    assert system.locale_table_end(head[:56]) == len(head)
    write(tmp_path, system.LOCALE_ARCHIVE, head + b"\xff" * 100000)
    write(tmp_path, "/usr/lib/locale/C.utf8/LC_CTYPE")
    write(tmp_path, "/usr/lib/locale/en_US.utf8/LC_IDENTIFICATION")
    (tmp_path / "usr/lib/locale/empty").mkdir()
    here = place(tmp_path)
    assert system.find_locales(here, "glibc") == {
        "C": "builtin",
        "POSIX": "builtin",
        "C.utf8": "directory",
        **dict.fromkeys(listed, "archive"),
    }
    assert here.problems == []
    assert system.find_locales(here, None) == {}


def test_a_broken_locale_archive_is_a_problem(tmp_path: Path) -> None:
    head = lzma.decompress((DATA / "locale-archive.head.xz").read_bytes())
    for broken in (b"rubbish", head[:40], head[:5000], head[:16] + b"\xff" * 40 + head[56:]):
        write(tmp_path, system.LOCALE_ARCHIVE, broken)
        here = place(tmp_path)
        assert system.find_locales(here, "glibc") == {"C": "builtin", "POSIX": "builtin"}
        assert [entry["where"] for entry in here.problems] == [system.LOCALE_ARCHIVE]


def test_musl_has_c_utf8_built_in(tmp_path: Path) -> None:
    write(tmp_path, system.MUSL_LOCALE_FOLDER + "/de_DE.UTF-8")
    assert system.find_locales(place(tmp_path), "musl") == {
        "C": "builtin",
        "POSIX": "builtin",
        "C.UTF-8": "builtin",
        "de_DE.UTF-8": "file",
    }


def test_this_machines_locales_as_locale_lists_them() -> None:
    if shutil.which("locale") is None or platform.libc_ver()[0] != "glibc":
        pytest.skip("no glibc locale program on this system")
    printed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.split()
    found = system.find_locales(Place(), "glibc")
    # locale adds the aliases of /usr/share/locale/locale.alias (german, swedish), which are names of these.
    assert set(found) <= set(printed)
    assert {name for name in printed if name in ("C", "POSIX") or "_" in name or "." in name} <= set(found)


def test_tzdata(tmp_path: Path) -> None:
    assert system.find_tzdata(place(tmp_path)) is None
    (tmp_path / "usr/share/zoneinfo").mkdir(parents=True)
    assert system.find_tzdata(place(tmp_path)) is None
    write(tmp_path, "/usr/share/zoneinfo/UTC", b"TZif2")
    assert system.find_tzdata(place(tmp_path)) == {"path": "/usr/share/zoneinfo", "version": None}
    write(tmp_path, "/usr/share/zoneinfo/+VERSION", "2024a\n")
    assert system.find_tzdata(place(tmp_path)) == {"path": "/usr/share/zoneinfo", "version": "2024a"}
    write(
        tmp_path,
        "/usr/share/zoneinfo/tzdata.zi",
        "# version 2025b\n# ddeps backzone zone.tab\n" + "R d\n" * 10000,
    )
    here = place(tmp_path)
    assert system.find_tzdata(here) == {"path": "/usr/share/zoneinfo", "version": "2025b"}
    assert here.problems == []


# The whole


def test_this_machine_twice() -> None:
    result = section(system, Place())
    assert result["status"] == "ok", result["problems"]
    jsonschema.Draft202012Validator(SCHEMA).validate(result["facts"])
    assert section(system, Place()) == result
    if sys.platform == "linux":
        assert result["facts"]["os_release"]["id"] == platform.freedesktop_os_release()["ID"]


def test_an_empty_root_is_measured_and_has_nothing(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    result = section(system, place(tmp_path))
    assert result["status"] == "ok"
    jsonschema.Draft202012Validator(SCHEMA).validate(result["facts"])
    assert result["facts"]["packages"] == {"manager": None, "packages": {}}
    assert result["facts"]["ca_bundle"] is result["facts"]["tzdata"] is None


def test_a_hostile_root_costs_its_own_facts_only(tmp_path: Path) -> None:
    write(tmp_path, "/etc/os-release", DEBIAN_12)
    write(tmp_path, "/usr/bin/python3", b"\x7fELF\x02\x01\x01" + b"\xff" * 200)
    write(tmp_path, system.LOCALE_ARCHIVE, b"\xff" * 10)
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/ssl/certs/ca-certificates.crt")
    os.mkfifo(tmp_path / "usr/lib/libc.so.6")
    write(
        tmp_path,
        os_packages.DPKG_STATUS,
        b"\xff\xfe\0\0Package: x\n\nPackage: a\nStatus: install ok installed\nVersion: 1\n",
    )
    result = section(system, place(tmp_path))
    assert result["status"] == "partial"
    assert result["facts"]["os_release"]["id"] == "debian"
    assert result["facts"]["packages"]["packages"] == {"a": "1"}
    jsonschema.Draft202012Validator(SCHEMA).validate(result["facts"])


def test_read_as_files_it_is_the_same_as_live() -> None:
    if sys.platform != "linux":
        pytest.skip("macOS and Windows are measured live only")
    files = Place(live=False, options={"executable": sys.executable})
    assert section(system, files) == section(system, Place())
