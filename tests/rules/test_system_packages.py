"""Which tool installs packages of the operating system, and under which names."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import snapshot

from driftcheck.rules import shared_objects
from driftcheck.rules.system_packages import install, same_names, tool_of
from driftcheck.snapshot import Snapshot


def system(manager: str | None, name: str | None, version: str | None = None, *like: str) -> dict[str, Any]:
    release = {"id": name, "version_id": version, "version_codename": None, "pretty_name": None, "id_like": list(like)}
    return {"os_release": release, "packages": {"manager": manager, "packages": {}}}


def place(*of_system: Any, bits: int = 64) -> Snapshot:
    interpreter: dict[str, Any] = {"path": None, "libc": None, "loader": None, "machine": None, "bits": bits}
    interpreter |= {"missing": {}, "missing_versions": {}}
    facts = {"interpreter": interpreter, "search": {"ld_library_path": [], "ld_preload": [], "default": []}}
    facts |= {"files": {}, "distributions": {}, "libraries": {}, "runtimes": {"openmp": {}, "blas": {}}}
    return snapshot("test", system=system(*of_system), libraries=facts)


# ID, VERSION_ID and ID_LIKE as the os-release of each system states them.
TOOLS = [
    (("dpkg", "debian", "12"), "apt-get install -y --no-install-recommends git"),
    (("dpkg", "ubuntu", "24.04", "debian"), "apt-get install -y --no-install-recommends git"),
    (("apk", "alpine", "3.20.1"), "apk add git"),
    (("rpm", "fedora", "41"), "dnf install -y git"),
    (("rpm", "rhel", "9.4", "fedora"), "dnf install -y git"),
    (("rpm", "rhel", "8.10", "fedora"), "dnf install -y git"),
    (("rpm", "rhel", "7.9", "fedora"), "yum install -y git"),
    (("rpm", "centos", "7", "rhel", "fedora"), "yum install -y git"),
    (("rpm", "amzn", "2", "centos", "rhel", "fedora"), "yum install -y git"),
    (("rpm", "amzn", "2023", "fedora"), "dnf install -y git"),
    (("rpm", "opensuse-leap", "15.6", "suse", "opensuse"), "zypper install -y git"),
    (("rpm", "sles", "15.5", "suse"), "zypper install -y git"),
    (("rpm", None, None), "dnf install -y git"),
    ((None, "arch", None), "Install the system package git."),
]


@pytest.mark.parametrize(("of_system", "typed"), TOOLS)
def test_the_tool_of_a_system(of_system: tuple[Any, ...], typed: str) -> None:
    fix = install(place(*of_system), "git")
    assert fix.text == typed
    assert (fix.kind == "apt") is typed.startswith("apt-get")


def test_whose_packages_have_the_same_names() -> None:
    rhel_7, rhel_9 = place("rpm", "rhel", "7.9"), place("rpm", "rhel", "9.4")
    assert same_names(rhel_7, rhel_9)
    assert not same_names(rhel_9, place("rpm", "sles", "15.5", "suse"))
    assert not same_names(place(None, "arch"), place(None, "arch"))
    assert tool_of(None) is None


@pytest.mark.parametrize(
    ("soname", "of_system", "bits", "typed"),
    [
        ("libGL.so.1", ("rpm", "fedora", "41"), 64, "dnf install -y libglvnd-glx"),
        ("libGL.so.1", ("rpm", "sles", "15.5", "suse"), 64, "zypper install -y 'libGL.so.1()(64bit)'"),
        ("libodd.so.1", ("rpm", "rhel", "7.9"), 64, "yum install -y 'libodd.so.1()(64bit)'"),
        ("libodd.so.1", ("rpm", "rhel", "7.9"), 32, "yum install -y 'libodd.so.1'"),
    ],
)
def test_a_library_by_what_packages_provide(soname: str, of_system: tuple[Any, ...], bits: int, typed: str) -> None:
    """rpm's own names for what a package provides: what no table knows has a package all the same."""
    (fix,) = shared_objects.library_fix(place(*of_system, bits=bits), None, soname, [])
    assert fix.text == typed


def test_a_name_that_is_none_is_not_typed() -> None:
    assert shared_objects.library_fix(place("rpm", "rhel", "9"), None, "x' ; reboot '.so", []) == []
