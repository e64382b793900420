"""The readers of dpkg's, apk's and rpm's databases, against real excerpts and the managers' own answers."""

import lzma
import os
import re
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from driftcheck.probes import os_packages
from driftcheck.probes.common import Place

DATA = Path(__file__).parent / "data"
# Where each kind of rpm database stands: since Fedora 33 and RHEL 9; in openSUSE and SLE; up to RHEL 8, also on s390x.
RPM_KINDS = {
    "sqlite": "/var/lib/rpm/rpmdb.sqlite",
    "ndb": "/usr/lib/sysimage/rpm/Packages.db",
    "berkeley": "/var/lib/rpm/Packages",
    "big-endian": "/var/lib/rpm/Packages",
}

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


def rpm_data(kind: str) -> bytes:
    return lzma.decompress((DATA / f"rpmdb.{kind}.xz").read_bytes())


@pytest.fixture(params=RPM_KINDS)
def any_rpm_root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A root with the same packages in a database of each kind, as data/make_rpmdb.sh makes them with rpm."""
    write(tmp_path, RPM_KINDS[request.param], rpm_data(request.param))
    return tmp_path


@pytest.fixture
def rpm_root(tmp_path: Path) -> Path:
    write(tmp_path, RPM_KINDS["sqlite"], rpm_data("sqlite"))
    return tmp_path


def assert_as_rpm_prints_it(here: Place, expected: str, files: str) -> None:
    """``expected`` and ``files`` are what data/make_rpmdb.sh lets rpm print."""
    packages = os_packages.read_rpm(here)
    assert sorted(map(tuple, packages)) == sorted(tuple(line.split()) for line in expected.splitlines())
    assert here.problems == []
    for line in files.splitlines()[::50]:
        name, _, path = line.partition(" ")
        owner = os_packages.owner(here, os_packages.present_manager(here), [path])
        assert owner is not None, path
        assert owner.name == name


def test_rpm_as_rpm_prints_it(any_rpm_root: Path) -> None:
    expected = (DATA / "rpmdb.expected").read_text()
    files = lzma.decompress((DATA / "rpmdb.files.xz").read_bytes()).decode()
    assert_as_rpm_prints_it(place(any_rpm_root), expected, files)


def test_rpm_databases_made_here_and_now(tmp_path: Path) -> None:
    if shutil.which("rpmbuild") is None or shutil.which("rpm") is None:
        pytest.skip("no rpm and rpmbuild on this system")
    subprocess.run(["sh", str(DATA / "make_rpmdb.sh"), str(tmp_path)], check=True, capture_output=True)
    made = [kind for kind in RPM_KINDS if (tmp_path / f"rpmdb.{kind}").exists()]
    assert made
    for kind in made:
        root = tmp_path / kind
        write(root, RPM_KINDS[kind], (tmp_path / f"rpmdb.{kind}").read_bytes())
        expected, files = ((tmp_path / f"rpmdb.{what}").read_text() for what in ("expected", "files"))
        assert_as_rpm_prints_it(place(root), expected, files)


def test_rpm_keys_lose_no_package(any_rpm_root: Path) -> None:
    assert os_packages.measure_packages(place(any_rpm_root)) == {
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


def test_rpm_finds_the_owner_of_a_file(any_rpm_root: Path) -> None:
    here = place(any_rpm_root)
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


def test_rpm_without_sqlite_is_read_once_and_its_problems_stand_in_each_section(tmp_path: Path) -> None:
    path = tmp_path / RPM_KINDS["berkeley"].lstrip("/")
    write(tmp_path, RPM_KINDS["berkeley"], rpm_data("berkeley")[:80_000])
    here = place(tmp_path)
    packages = os_packages.read_rpm(here)
    problems = here.problems
    assert 0 < len(packages) < 6
    assert [entry["where"] for entry in problems] == ["/var/lib/rpm/Packages"]
    lost = 7 - len(packages)
    assert re.fullmatch(rf"{lost} headers in it are broken: page \d+ lies behind .*", problems[0]["reason"])
    path.unlink()
    path.touch()
    here.forget_problems()
    assert os_packages.read_rpm(here) == packages
    assert here.problems == problems
    here.forget_problems()
    os_packages.rpm_owner(here, "/usr/bin/bash")
    assert here.problems == problems


def test_a_new_database_counts_where_an_older_one_was_left_beside_it(rpm_root: Path) -> None:
    write(rpm_root, RPM_KINDS["berkeley"], b"not read")
    here = place(rpm_root)
    assert os_packages.rpm_database(here) == RPM_KINDS["sqlite"]
    assert len(os_packages.read_rpm(here)) == 7
    assert here.problems == []


@pytest.mark.parametrize("kind", ["ndb", "berkeley"])
def test_no_file_that_rpm_would_not_write_is_waited_for_or_held(kind: str, tmp_path: Path) -> None:
    path = tmp_path / RPM_KINDS[kind].lstrip("/")
    path.parent.mkdir(parents=True)
    reasons = []
    steps: list[tuple[Callable[[], None], Callable[[], None]]] = [
        (path.mkdir, path.rmdir),
        (partial(os.mkfifo, path), path.unlink),
        (path.touch, path.unlink),
    ]
    for make, unmake in steps:
        make()
        here = place(tmp_path)
        assert os_packages.measure_packages(here) == {"manager": None, "packages": {}}
        reasons.append(here.problems[0]["reason"])
        unmake()
    with path.open("wb") as file:
        file.truncate(os_packages.RPM_DATABASE_LIMIT + 1)
    here = place(tmp_path)
    assert os_packages.read_rpm(here) == []
    reasons.append(here.problems[0]["reason"])
    assert reasons[:2] == ["not a regular file", "not a regular file"]
    assert reasons[2].startswith("0 bytes, too few for a")
    assert reasons[3] == "longer than 536870912 bytes; it was not read"


# The characters of /usr/share/zoneinfo/1 to 800, which tzdata owns in the fixtures.
ZONES = sum(len(f"/usr/share/zoneinfo/{number}") for number in range(1, 801))


@pytest.mark.parametrize("kind", ["ndb", "berkeley"])
def test_what_is_too_much_is_cut_and_said(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, RPM_KINDS[kind], rpm_data(kind))
    monkeypatch.setattr(os_packages, "PACKAGE_LIMIT", 4)
    here = place(tmp_path)
    assert len(os_packages.read_rpm(here)) == 4
    assert [entry["reason"] for entry in here.problems] == ["more than 4 packages; the rest was not read"]
    monkeypatch.undo()
    monkeypatch.setattr(os_packages, "RPM_FILES_LIMIT", ZONES - 1)
    here = place(tmp_path)
    assert "tzdata" not in {package.name for package in os_packages.read_rpm(here)}
    assert [entry["reason"] for entry in here.problems] == [
        "1 header in it is broken: names of files of more than 18291 characters"
    ]
    monkeypatch.setattr(os_packages, "RPM_FILES_LIMIT", ZONES)
    here = place(tmp_path)
    assert len(os_packages.read_rpm(here)) == 7
    assert [entry["reason"] for entry in here.problems] == [
        "more than 18292 characters of names of files; not all are known"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(os_packages, "RPM_HEADER_LIMIT", 20_000)
    here = place(tmp_path)
    assert len(os_packages.read_rpm(here)) == 6
    assert len(here.problems) == 1
    assert here.problems[0]["reason"].startswith("1 header in it is broken: ")


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
        struct.pack(">IIIIII", 1, 1 << 21, 1117, 8, 0, 1 << 20) + bytes(1 << 21),
    ],
)
def test_broken_rpm_headers_raise_value_error(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|states|outside"):
        os_packages.parse_rpm_header(blob)


def test_an_rpm_header_that_repeats_a_tag_is_read_once() -> None:
    entries = struct.pack(">IIII", 1000, 6, 0, 1) + 1000 * struct.pack(">IIII", 1000, 6, 4, 1)
    header = os_packages.parse_rpm_header(struct.pack(">II", 1001, 8) + entries + b"one\0two\0")
    assert header == {1000: "one"}


def test_an_empty_root_has_no_manager(tmp_path: Path) -> None:
    here = place(tmp_path)
    assert os_packages.measure_packages(here) == {"manager": None, "packages": {}}
    assert os_packages.present_manager(here) is None
    assert here.problems == []
