"""The readers of dpkg's, apk's and rpm's databases, against real excerpts and the managers' own answers."""

import lzma
import shutil
import sqlite3
import struct
import subprocess
from pathlib import Path

import pytest
from driftcheck.probes import os_packages
from driftcheck.probes.common import Place

DATA = Path(__file__).parent / "data"

# From a Debian 12 system with i386 added; Depends and Description are shortened. zfs-dkms was removed, its
# configuration was kept; hello is half-way through an installation.
STATUS = """\
Package: adduser
Status: install ok installed
Priority: important
Section: admin
Installed-Size: 686
Maintainer: Debian Adduser Developers <adduser@packages.debian.org>
Architecture: all
Multi-Arch: foreign
Version: 3.134
Description: add and remove users and groups
 This package includes the 'adduser' and 'deluser' commands for creating
 and removing users.
 .
 Version: 9.9 of this line is a trap, and so is the next
 Package: trap

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u10
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab

Package: libc6
Status: install ok installed
Architecture: i386
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u10

Package: libgcc-s1
Status: install ok installed
Architecture: i386
Version: 12.2.0-14+deb12u1

Package: dpkg
Essential: yes
Status: hold ok installed
Architecture: amd64
Version: 1.21.22

Package: zfs-dkms
Status: deinstall ok config-files
Architecture: all
Version: 2.1.11-1+deb12u1

Package: hello
Status: install ok half-configured
Architecture: amd64
Version: 2.10-3
"""

# /lib/apk/db/installed of an Alpine 3.16 image, without the maintainers' lines.
APK = """\
C:Q1aCu0LmUDoAFSOX49uHvkYC1WasQ=
P:musl
V:1.2.3-r0
A:x86_64
S:383304
I:622592
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
t:1649396308
c:ee13d43a53938d8a04ba787b9423f3270a3c14a7
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
Z:Q1ZZqflKEvStJz4SXV0SDMi3wOtM0=
R:libc.musl-x86_64.so.1
a:0:0:777
Z:Q17yJ3JFNypA4mxhJJr0ou6CzsJVI=

C:Q1iZ+C2JJdBlm2KKtAOkSkM7zZegY=
P:busybox
V:1.35.0-r17
A:x86_64
S:507831
I:962560
T:Size optimized toolbox of many common UNIX utilities
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
t:1659366884
c:2bf6ec48e526113f87216683cd341a78af5f0b3f
D:so:libc.musl-x86_64.so.1
p:/bin/sh cmd:busybox=1.35.0-r17 cmd:sh=1.35.0-r17
r:busybox-initscripts
F:bin
R:busybox
a:0:0:755
Z:Q1WUwBY0eOGgzgVxTZxJBZPyQUicI=
R:sh
a:0:0:777

"""


def write(root: Path, name: str, content: "str | bytes") -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def place(root: Path) -> Place:
    return Place(root=str(root), environ={}, search_path=[], live=False)


def test_dpkg_counts_what_is_installed(tmp_path: Path) -> None:
    write(tmp_path, os_packages.DPKG_STATUS, STATUS)
    assert os_packages.measure_packages(place(tmp_path)) == {
        "manager": "dpkg",
        "packages": {
            "adduser": "3.134",
            "libc6": "2.36-9+deb12u10",
            "libc6:i386": "2.36-9+deb12u10",
            "libgcc-s1:i386": "12.2.0-14+deb12u1",
            "dpkg": "1.21.22",
        },
    }


def test_dpkg_native_architecture_is_stated_where_a_foreign_one_was_added(tmp_path: Path) -> None:
    write(tmp_path, os_packages.DPKG_STATUS, STATUS)
    write(tmp_path, os_packages.DPKG_ARCHITECTURE, "i386\namd64\n")
    packages = os_packages.measure_packages(place(tmp_path))["packages"]
    assert {"libc6", "libc6:amd64", "libgcc-s1", "dpkg:amd64"} <= set(packages)


def test_distroless_keeps_one_stanza_a_file(tmp_path: Path) -> None:
    # From gcr.io/distroless/base-debian12; the stanza has no Status.
    stanza = "Package: tzdata\nVersion: 2024b-0+deb12u1\nArchitecture: all\nMaintainer: GNU Libc Maintainers\n"
    write(tmp_path, os_packages.DPKG_STATUS_DIR + "/tzdata", stanza)
    write(tmp_path, os_packages.DPKG_STATUS_DIR + "/tzdata.md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/x\n")
    assert os_packages.measure_packages(place(tmp_path))["packages"] == {"tzdata": "2024b-0+deb12u1"}


def test_dpkg_as_dpkg_query_prints_it() -> None:
    if shutil.which("dpkg-query") is None:
        pytest.skip("no dpkg-query: this system is not Debian or one of its kin")
    form = "${Package} ${Architecture} ${Version} ${db:Status-Status}\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    printed = {tuple(line.split()[:3]) for line in lines.splitlines() if line.endswith(" installed")}
    packages = os_packages.read_dpkg(Place())
    assert {(package.name, package.architecture, package.version) for package in packages} == printed
    keys = os_packages.measure_packages(Place())["packages"]
    assert len(keys) == len(printed) > 0


def test_dpkg_finds_the_owner_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, os_packages.DPKG_STATUS, STATUS)
    write(tmp_path, os_packages.DPKG_INFO + "/adduser.list", "/.\n/usr\n/usr/sbin\n/usr/sbin/adduser\n")
    write(tmp_path, os_packages.DPKG_INFO + "/libc6:amd64.list", "/.\n/lib/ld.so\n")
    here = place(tmp_path)
    found = os_packages.owner(here, "dpkg", ["/usr/sbin/adduser"], ["hello", "adduser"])
    assert found == ("adduser", "3.134", "all")
    # A prefix of a line is no match, and a candidate that does not own it is no answer.
    assert os_packages.owner(here, "dpkg", ["/usr/sbin/add"], ["adduser"]) is None
    assert os_packages.owner(here, "dpkg", ["/usr/sbin/adduser"], ["libc6"]) is None
    # A merged /usr: dpkg knows the file by its old name; the list carries the architecture in its name.
    merged = os_packages.owner(here, "dpkg", ["/usr/lib/ld.so"], ["libc6"])
    assert merged is not None
    assert merged.name == "libc6"


def test_apk(tmp_path: Path) -> None:
    write(tmp_path, os_packages.APK_INSTALLED[0], APK)
    here = place(tmp_path)
    assert os_packages.measure_packages(here) == {
        "manager": "apk",
        "packages": {"musl": "1.2.3-r0", "busybox": "1.35.0-r17"},
    }
    assert os_packages.present_manager(here) == "apk"
    owner = os_packages.owner(here, "apk", ["/bin/sh"])
    assert owner == ("busybox", "1.35.0-r17", "x86_64")
    assert os_packages.owner(here, "apk", ["/lib/sh"]) is None


@pytest.fixture
def rpm_root(tmp_path: Path) -> Path:
    write(tmp_path, "/var/lib/rpm/rpmdb.sqlite", lzma.decompress((DATA / "rpmdb.sqlite.xz").read_bytes()))
    return tmp_path


def test_rpm_as_rpm_prints_it(rpm_root: Path) -> None:
    printed = {tuple(line.split()) for line in (DATA / "rpmdb.expected").read_text().splitlines()}
    here = place(rpm_root)
    packages = os_packages.read_rpm(here)
    assert {(package.name, package.version, package.architecture) for package in packages} == printed
    assert len(packages) == len(printed)
    assert here.problems == []


def test_rpm_keys_lose_no_package(rpm_root: Path) -> None:
    assert os_packages.measure_packages(place(rpm_root)) == {
        "manager": "rpm",
        "packages": {
            "bash": "5.2.26-3.el9",
            "git-core": "2.43.5-1.el9",
            "kernel-core.x86_64=5.14.0-427.el9": "5.14.0-427.el9",
            "kernel-core.x86_64=5.14.0-503.el9": "5.14.0-503.el9",
            "openssl-libs.i686": "1:3.0.7-27.el9",
            "openssl-libs.x86_64": "1:3.0.7-27.el9",
            "tzdata": "2024a-1.el9",
        },
    }


def test_rpm_finds_the_owner_of_a_file(rpm_root: Path) -> None:
    here = place(rpm_root)
    assert os_packages.owner(here, "rpm", ["/bin/git"]) == ("git-core", "2.43.5-1.el9", "x86_64")
    assert os_packages.owner(here, "rpm", ["/opt/git"]) is None
    assert os_packages.owner(here, "rpm", ["/usr/bin/nothing"]) is None


def test_rpm_reads_what_stands_in_the_write_ahead_log_and_changes_nothing(rpm_root: Path) -> None:
    path = rpm_root / "var/lib/rpm/rpmdb.sqlite"
    writer = sqlite3.connect(str(path))
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute("DELETE FROM Packages WHERE hnum = (SELECT min(hnum) FROM Packages)")
    writer.commit()
    log = Path(str(path) + "-wal")
    before = (path.read_bytes(), log.read_bytes())
    assert log.stat().st_size > 0
    here = place(rpm_root)
    assert len(os_packages.read_rpm(here)) == 6
    assert (path.read_bytes(), log.read_bytes()) == before
    assert here.problems == []
    writer.close()


def test_rpm_beside_no_log_leaves_no_file_behind(rpm_root: Path) -> None:
    os_packages.read_rpm(place(rpm_root))
    assert [path.name for path in (rpm_root / "var/lib/rpm").iterdir()] == ["rpmdb.sqlite"]


def test_older_kinds_of_rpm_database_are_named(tmp_path: Path) -> None:
    write(tmp_path, "/var/lib/rpm/Packages", b"\0" * 12 + b"\x61\x15\x06\0")
    here = place(tmp_path)
    assert os_packages.measure_packages(here) == {"manager": None, "packages": {}}
    assert [entry["where"] for entry in here.problems] == ["/var/lib/rpm/Packages"]
    assert "Berkeley DB" in here.problems[0]["reason"]


def test_hostile_rpm_databases_end_as_problems(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/rpm/rpmdb.sqlite"
    write(tmp_path, "/var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + b"\xff" * 4000)
    here = place(tmp_path)
    assert os_packages.read_rpm(here) == []
    assert len(here.problems) == 1

    path.unlink()
    with sqlite3.connect(str(path)) as database:
        database.execute(
            "CREATE VIEW Packages AS WITH RECURSIVE n(blob) AS "
            "(SELECT 1 UNION ALL SELECT blob + 1 FROM n) SELECT * FROM n"
        )
    database.close()
    here = place(tmp_path)
    assert os_packages.read_rpm(here) == []
    assert here.problems[0]["reason"] == "no table Packages in it"

    path.unlink()
    with sqlite3.connect(str(path)) as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)")
        database.execute("INSERT INTO Packages (blob) VALUES (?), ('text'), (NULL)", (b"\xff" * 40,))
    database.close()
    here = place(tmp_path)
    assert os_packages.read_rpm(here) == []
    assert all("broken" in entry["reason"] for entry in here.problems)
    assert here.problems

    path.unlink()
    path.mkdir()
    here = place(tmp_path)
    assert os_packages.read_rpm(here) == []
    assert here.problems[0]["reason"] == "not a regular file"


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        struct.pack(">II", 1, 10),
        struct.pack(">II", 0xFFFFFFFF, 0),
        struct.pack(">IIIIII", 1, 4, 1000, 6, 99, 1) + b"abc\0",
        struct.pack(">IIIIII", 1, 4, 1003, 4, 0, 3) + b"abcd",
    ],
)
def test_broken_rpm_headers_raise_value_error(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|states|outside"):
        os_packages.parse_rpm_header(blob)


def test_an_empty_root_has_no_manager(tmp_path: Path) -> None:
    here = place(tmp_path)
    assert os_packages.measure_packages(here) == {"manager": None, "packages": {}}
    assert os_packages.present_manager(here) is None
    assert here.problems == []
