"""``rootfs:DIR``: an unpacked root, measured without running anything of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import wheels
from support.commands import driftcheck
from support.images import elf, python_root, write
from support.model_files import onnx

from driftcheck.collect import Request
from driftcheck.environments import Options, files, snapshot_of
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot

LIVE_SECTIONS = {"limits", "machine", "gpu"}


def measure(root: Path, **options: str) -> Snapshot:
    return snapshot_of(f"rootfs:{root}", Options(**options))  # type: ignore[arg-type]


def test_a_root_is_a_snapshot_in_which_the_live_sections_say_why_they_are_not_there(tmp_path: Path) -> None:
    root = python_root(tmp_path / "root")
    wheels.install(root / "usr/lib/python3.11/site-packages", "demo", "2.0")
    snapshot = measure(root)
    packages = snapshot.facts("packages")
    assert packages is not None
    assert packages["distributions"]["demo"]["location"] == "/usr/lib/python3.11/site-packages"
    assert "missing_files" not in packages["distributions"]["demo"]
    states = {name: section.status for name, section in snapshot.sections.items()}
    assert {name for name, state in states.items() if state == "unavailable"} == {*LIVE_SECTIONS, "variables"}
    assert "failed" not in states.values()
    for name in (*LIVE_SECTIONS, "variables"):
        assert snapshot.sections[name].reason
    interpreter = snapshot.header["interpreter"]
    assert (interpreter["path"], interpreter["version"]) == ("/usr/bin/python3", "3.11.4")
    assert interpreter["reason"].startswith("python3 on PATH")
    assert snapshot.header["channel"] == "rootfs"


def test_the_named_interpreter_counts_and_others_are_named(tmp_path: Path) -> None:
    root = python_root(python_root(tmp_path), prefix="opt/python")
    snapshot = measure(root, python="/opt/python/bin/python3")
    assert snapshot.header["interpreter"]["path"] == "/opt/python/bin/python3"
    assert snapshot.header["interpreter"]["reason"] == "--python names it"
    assert snapshot.header["other_interpreters"] == {"/usr/bin/python3": "python3 on PATH"}
    assert measure(root, python="python3").header["interpreter"]["path"] == "/usr/bin/python3"
    assert measure(root, python="/opt/python").header["interpreter"]["path"] == "/opt/python/bin/python"
    with pytest.raises(InputError, match="/usr/bin/python9: no such program in these files"):
        measure(root, python="/usr/bin/python9")
    write(root, {"usr/bin/broken": b"#!/bin/sh\n"})
    with pytest.raises(InputError, match="/usr/bin/broken: .* no ELF program"):
        measure(root, python="/usr/bin/broken")


def test_without_an_interpreter_the_system_is_still_measured(tmp_path: Path) -> None:
    root = write(tmp_path, {"etc/os-release": b"ID=alpine\n", "lib/ld-musl-x86_64.so.1": elf(["musl libc", "1.2.4"])})
    snapshot = measure(root)
    states = {name: section.status for name, section in snapshot.sections.items()}
    assert {name for name, state in states.items() if state == "absent"} >= {"python", "packages", "libraries"}
    assert snapshot.sections["packages"].reason == "there is no Python interpreter in these files"
    system = snapshot.facts("system")
    assert system is not None
    assert system["os_release"]["id"] == "alpine"
    assert system["libc"]["family"] == "musl"
    assert snapshot.header["interpreter"]["path"] == ""


def test_the_image_configuration_gives_variables_user_and_directory(tmp_path: Path) -> None:
    root = python_root(tmp_path)
    user_site = root / "home/worker/.local/lib/python3.11/site-packages"
    wheels.install(user_site, "mine")
    config = {
        "env": {"OMP_NUM_THREADS": "2", "API_TOKEN": "hidden-value"}, "user": "1000:1000", "working_dir": "/srv",
        "entrypoint": [], "cmd": [],
    }  # fmt: skip
    request = Request("image:test", "test", image_config=config, header={"image": {"architecture": "amd64"}})
    snapshot = files.measure_root(root, request, channel="archive")
    variables = snapshot.facts("variables")
    packages = snapshot.facts("packages")
    assert variables is not None
    assert packages is not None
    assert variables["variables"]["OMP_NUM_THREADS"] == {"value": "2"}
    assert variables["variables"]["API_TOKEN"] == {}
    assert variables["variables"]["PATH"]["value"].startswith("/usr/local/sbin:")
    assert packages["distributions"]["mine"]["location"] == "~/.local/lib/python3.11/site-packages"
    assert snapshot.header["interpreter"]["working_directory"] == "/srv"
    assert snapshot.header["image"] == {"architecture": "amd64"}
    assert "worker" not in snapshot.text()


def test_links_of_the_root_do_not_lead_out(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"os-release": b"ID=outside\n"})
    root = write(tmp_path / "root", {"usr/lib/os-release": b"ID=inside\n"})
    (root / "etc").mkdir()
    (root / "etc/os-release").symlink_to(outside / "os-release")
    system = measure(root).facts("system")
    assert system is not None
    assert system["os_release"]["id"] == "inside"


def test_what_is_no_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rootfs:.*nowhere: No such file or directory"):
        measure(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"rootfs:.*file: not a directory. For what docker save wrote: archive:FILE"):
        measure(write(tmp_path, {"file": b""}) / "file")


def test_the_command_line_takes_a_root(tmp_path: Path) -> None:
    root = python_root(tmp_path / "root")
    done = driftcheck("snapshot", f"rootfs:{root}")
    assert done.code == 0, done.err
    assert json.loads(done.out)["header"]["reference"] == f"rootfs:{root}"
    done = driftcheck("diff", f"rootfs:{root}", f"rootfs:{root}", "--format", "json")
    assert json.loads(done.out)["targets"][0]["changes"] == []


def test_what_is_not_run_imports_nothing_and_says_so(tmp_path: Path) -> None:
    root = python_root(tmp_path / "root")
    (warning,) = snapshot_of(f"rootfs:{root}", Options(try_imports=("json",))).warnings
    assert warning == f"rootfs:{root}: nothing of it is run, so nothing was imported (--try-imports)"
    assert measure(root).warnings == ()


def test_model_files_of_a_root_are_read_by_their_paths_in_it(tmp_path: Path) -> None:
    root = write(python_root(tmp_path / "root"), {"srv/m.onnx": onnx(ir=10), "etc/m.onnx": onnx(ir=9)})
    (root / "srv/link.onnx").symlink_to("/etc/m.onnx")
    options = Options(artifacts=("srv/m.onnx", "/srv/link.onnx", "gone.onnx"))
    facts = snapshot_of(f"rootfs:{root}", options).facts("artifacts")
    assert facts is not None
    found = facts["files"]
    assert found["srv/m.onnx"]["onnx"]["ir_version"] == 10
    assert found["/srv/link.onnx"]["onnx"]["ir_version"] == 9
    assert found["gone.onnx"] is None
    assert "artifacts" not in measure(root).sections
