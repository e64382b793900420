"""Roots and images whose rpm database is of an older kind: the same packages, whichever kind holds them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from support.commands import driftcheck
from support.images import docker_save, layer, write

from driftcheck.environments import Options, snapshot_of

DATA = Path(__file__).parent.parent / "probes" / "data"
WHERE = {
    "berkeley": "var/lib/rpm/Packages",
    "ndb": "usr/lib/sysimage/rpm/Packages.db",
    "sqlite": "var/lib/rpm/rpmdb.sqlite",
}
RELEASE = b'ID="rhel"\nVERSION_ID="8.9"\n'
GIT = b"\x7fELF"


def files(kind: str) -> dict[str, bytes]:
    """The fixture of tests/probes/data, the release, and a program that a package in it owns."""
    database = lzma.decompress((DATA / f"rpmdb.{kind}.xz").read_bytes())
    return {WHERE[kind]: database, "etc/os-release": RELEASE, "usr/bin/git": GIT}


def root(folder: Path, kind: str) -> Path:
    write(folder, files(kind))
    (folder / "usr/bin/git").chmod(0o755)
    return folder


def diff(*references: str) -> Any:
    done = driftcheck("diff", *references, "--format", "json")
    assert done.err == ""
    return json.loads(done.out)["targets"][0]


@pytest.mark.parametrize("kind", ["berkeley", "ndb"])
def test_another_kind_of_database_is_no_drift(kind: str, tmp_path: Path) -> None:
    new, old = root(tmp_path / "new", "sqlite"), root(tmp_path / "old", kind)
    assert diff(f"rootfs:{new}", f"rootfs:{old}")["changes"] == []
    programs = snapshot_of(f"rootfs:{old}", Options()).facts("programs")
    assert programs is not None
    assert programs["programs"]["git"]["package"] == "git-core"


def test_packages_that_differ_are_listed(tmp_path: Path) -> None:
    whole = root(tmp_path / "whole", "ndb")
    database = bytearray((whole / WHERE["ndb"]).read_bytes())
    # The third slot of the first page, as rpm leaves it behind when it removes a package.
    database[36 + 16 * 2 : 48 + 16 * 2] = bytes(12)
    less = root(tmp_path / "less", "ndb")
    (less / WHERE["ndb"]).write_bytes(database)
    changes = diff(f"rootfs:{whole}", f"rootfs:{less}")["changes"]
    assert [change["path"][:3] for change in changes] == [["system", "packages", "packages"]]


def test_an_image_with_a_database_of_red_hat_8_is_mended_by_its_manager(tmp_path: Path) -> None:
    saved = docker_save(tmp_path / "image.tar", [layer(*files("berkeley").items())])
    done = driftcheck("check", f"archive:{saved}", "--all")
    assert "BOX006" in done.out
    assert "dnf install -y ca-certificates" in done.out
