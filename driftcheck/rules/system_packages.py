"""What one types to install a package of the operating system: by its own package manager, under its own names."""

from __future__ import annotations

import re

from driftcheck.findings import Fix
from driftcheck.rules.base import lookup
from driftcheck.snapshot import Snapshot

_INSTALL = {
    "apt-get": "apt-get install -y --no-install-recommends",
    "apk": "apk add",
    "dnf": "dnf install -y",
    "yum": "yum install -y",
    "zypper": "zypper install -y",
}
# What had yum when dnf took its place: RHEL 8, Fedora 22, Amazon Linux 2022.
_YUM = {"rhel": 7, "centos": 7, "ol": 7, "scientific": 7, "fedora": 21, "amzn": 2018}


def manager_of(snapshot: Snapshot | None) -> str | None:
    """``dpkg``, ``apk`` or ``rpm``: whose database was read; None where there is none."""
    found: str | None = lookup(snapshot, ("system", "packages", "manager")) if snapshot is not None else None
    return found


def tool_of(snapshot: Snapshot | None) -> str | None:
    """``apt-get``, ``apk``, ``dnf``, ``yum`` or ``zypper``; None where no database of packages was read."""
    manager = manager_of(snapshot)
    if snapshot is None or manager != "rpm":
        return {"dpkg": "apt-get", "apk": "apk"}.get(manager or "")
    release = lookup(snapshot, ("system", "os_release")) or {}
    name, version = release.get("id") or "", re.match(r"\d{1,4}", release.get("version_id") or "")
    if any("suse" in one for one in (name, *(release.get("id_like") or ()))) or name.startswith("sle"):
        return "zypper"
    return "yum" if version and int(version.group()) <= _YUM.get(name, -1) else "dnf"


def same_names(one: Snapshot | None, other: Snapshot | None) -> bool:
    """Whether a package of the one has the same name in the other: yum and dnf install the same packages."""
    tools = [{"yum": "dnf"}.get(tool or "", tool) for tool in (tool_of(one), tool_of(other))]
    return tools[0] is not None and tools[0] == tools[1]


def install(snapshot: Snapshot, package: str) -> Fix:
    """The command that installs a package whose name is that of this system."""
    tool = tool_of(snapshot)
    if tool is None:
        return Fix("advice", f"Install the system package {package}.")
    return Fix("apt" if tool == "apt-get" else "advice", f"{_INSTALL[tool]} {package}")
