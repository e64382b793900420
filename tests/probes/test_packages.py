"""The packages probe: importlib.metadata is the oracle for what is installed, hand-made wheels for what is wrong."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, install_records, packages
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from support.wheels import unpack, wheel


def place(*search_path: Path | str, root: Path | str = "/") -> common.Place:
    return common.Place(root=str(root), environ={}, search_path=[str(entry) for entry in search_path])


def measured(*search_path: Path | str) -> dict[str, Any]:
    facts: dict[str, Any] = packages.measure(place(*search_path))
    return facts


def test_it_lists_what_importlib_lists() -> None:
    facts = measured(*sys.path)
    theirs: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        theirs.setdefault(packages.normalize(distribution.metadata["Name"]), distribution.version)
    assert {name: record["version"] for name, record in facts["distributions"].items()} == theirs


def test_requirements_say_what_importlib_says() -> None:
    facts = measured(*sys.path)["distributions"]
    for distribution in importlib.metadata.distributions():
        record = facts[packages.normalize(distribution.metadata["Name"])]
        for extra in ("", *record["extras"]):
            ours = {
                str(Requirement(text).name)
                for text, marker in record["requires"].items()
                if not marker or Requirement(f"x; {marker}").marker.evaluate({"extra": extra})  # type: ignore[union-attr]
            }
            theirs = {
                Requirement(text).name
                for text in distribution.requires or ()
                if not (marker_ := Requirement(text).marker) or marker_.evaluate({"extra": extra})
            }
            assert ours == theirs, record["name"]


def test_a_wheel_is_recorded_as_it_was_built(tmp_path: Path) -> None:
    built = wheel(
        tmp_path / "wheels",
        "Some.Package",
        "1.2+local",
        {"some_package/__init__.py": "", "some_package/data.bin": b"\0" * 10, "single.py": ""},
        requires=["numpy>=1.22", "torch; extra == 'gpu'", "torch; extra == 'cuda'"],
        requires_python=">=3.8",
        extras=["gpu", "cuda"],
        tags=["cp311-cp311-manylinux_2_17_x86_64"],
    )
    site = unpack(built, tmp_path / "site")
    (record,) = measured(site)["distributions"].values()
    assert record["version"] == "1.2+local"
    assert record["requires"] == {
        "numpy>=1.22": "",
        "torch": "(extra == 'cuda') or (extra == 'gpu')",
    }
    assert record["requires_python"] == ">=3.8"
    assert record["tags"] == {"cp311-cp311-manylinux_2_17_x86_64": True}
    assert record["modules"] == {"some_package": True, "single": True}
    assert not {"missing_files", "altered_files", "other_installs", "shadowed_by"} & record.keys()


def test_files_that_contradict_record(tmp_path: Path) -> None:
    files = {"p/__init__.py": "import p.a", "p/a.py": "1", "p/tests/t.py": "", "p/notes.txt": "n"}
    site = unpack(wheel(tmp_path, "p", files=files), tmp_path / "site")
    (site / "p/a.py").write_text("patched")
    (site / "p/notes.txt").unlink()
    (site / "p/tests/t.py").unlink()
    (record,) = measured(site)["distributions"].values()
    assert record["altered_files"] == {"count": 1, "examples": {"p/a.py": {"recorded": 1, "found": 7}}}
    assert record["missing_files"]["count"] == 2
    assert list(record["missing_files"]["examples"]) == ["p/tests/t.py", "p/notes.txt"]


def test_a_rewritten_shebang_is_no_contradiction(tmp_path: Path) -> None:
    site = tmp_path / "lib/site"
    unpack(wheel(tmp_path, "tool"), site)
    record = next(site.glob("*.dist-info")) / "RECORD"
    record.write_text(record.read_text() + "../../bin/tool,sha256=AAAA,10\n../../bin/gone,sha256=AAAA,10\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/another/longer/path/python\n")
    (found,) = measured(site)["distributions"].values()
    assert "altered_files" not in found
    assert found["missing_files"] == {"count": 1, "examples": {"../../bin/gone": True}}


@pytest.mark.network
def test_pip_and_uv_install_the_same_wheel_with_the_same_digest(tmp_path: Path) -> None:
    """What installers add (bytecode, INSTALLER, REQUESTED, scripts) is no part of the build."""
    wanted = ["idna==3.10", "rich==13.9.4"]
    uv = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", uv, "uv"], check=True)
    digests = []
    for name, command in (
        ("pip", [sys.executable, "-m", "pip", "install", "-q", "--target"]),
        ("uv", [str(uv / "bin/uv"), "pip", "install", "-q", "--target"]),
    ):
        site = tmp_path / name
        subprocess.run([*command, str(site), *wanted], check=True)
        facts = measured(site)["distributions"]
        assert {record["installer"] for record in facts.values()} == {name}
        assert not any("altered_files" in record for record in facts.values())
        digests.append({key: record["record"]["digest"] for key, record in facts.items()})
    assert digests[0] == digests[1]
    assert {"idna", "rich", "pygments"} <= digests[0].keys()


def test_two_installs_in_one_directory_the_one_whose_files_are_there_counts(tmp_path: Path) -> None:
    site = unpack(wheel(tmp_path, "p", "1.0", {"p/__init__.py": "old", "p/old.py": "old"}), tmp_path / "site")
    unpack(wheel(tmp_path, "p", "2.0", {"p/__init__.py": "newer"}), site)
    (record,) = measured(site)["distributions"].values()
    assert record["version"] == "2.0"
    (other,) = record["other_installs"]
    assert (other["version"], other["same_directory"]) == ("1.0", True)
    (site / "p/__init__.py").write_text("old")
    (record,) = measured(site)["distributions"].values()
    assert record["version"] == "1.0"


def test_an_earlier_location_wins_as_it_does_for_python(tmp_path: Path) -> None:
    first = unpack(wheel(tmp_path, "p", "1.0"), tmp_path / "first")
    second = unpack(wheel(tmp_path, "p", "2.0"), tmp_path / "second")
    (record,) = measured(first, second)["distributions"].values()
    assert (record["version"], record["location"]) == ("1.0", str(first))
    assert [other["version"] for other in record["other_installs"]] == ["2.0"]
    environ = {"PYTHONPATH": os.pathsep.join([str(first), str(second)])}
    answer = subprocess.run(
        [sys.executable, "-c", "import p; print(p.__version__)"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "1.0"


def test_a_plain_directory_that_hides_a_package(tmp_path: Path) -> None:
    hiding, empty = tmp_path / "hiding", tmp_path / "empty"
    (hiding / "p").mkdir(parents=True)
    (hiding / "p/__init__.py").write_text("")
    (empty / "p").mkdir(parents=True)  # a namespace portion hides nothing
    site = unpack(wheel(tmp_path, "p", files={"p/__init__.py": ""}), tmp_path / "site")
    (record,) = measured(hiding, site)["distributions"].values()
    assert record["shadowed_by"] == {"p": f"{hiding}/p"}
    for order in ((empty, site), (site, hiding)):
        (record,) = measured(*order)["distributions"].values()
        assert "shadowed_by" not in record


def test_files_that_two_distributions_claim(tmp_path: Path) -> None:
    site = tmp_path / "site"
    unpack(wheel(tmp_path, "cv-a", files={"cv/__init__.py": "a", "cv/same.py": "s", "cv/a.py": ""}), site)
    unpack(wheel(tmp_path, "cv-b", files={"cv/__init__.py": "b", "cv/same.py": "s"}), site)
    unpack(wheel(tmp_path, "other", files={"other/__init__.py": ""}), site)
    assert measured(site)["shared_files"] == {
        "cv-a cv-b": {
            "location": str(site),
            "count": 2,
            "different": 1,
            "examples": {"cv/__init__.py": True, "cv/same.py": True},
        }
    }


def test_eggs_of_old_setuptools_and_of_debian(tmp_path: Path) -> None:
    info = tmp_path / "old-1.0-py3.9.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Name: old\nVersion: 1.0\n")
    (info / "requires.txt").write_text(
        "six>=1\n\n[fast]\nujson\n\n[fast:python_version<'4']\norjson\n\n[:os_name=='nt']\nx\n"
    )
    (info / "top_level.txt").write_text("old\nold_extra\n")
    (tmp_path / "flat-2.0.egg-info").write_text("Metadata-Version: 1.1\nName: flat\nVersion: 2.0\n\nDescription: x\n")
    facts = measured(tmp_path)["distributions"]
    assert facts["flat"]["version"] == "2.0"
    assert facts["old"]["requires"] == {
        "six>=1": "",
        "ujson": 'extra == "fast"',
        "orjson": "(python_version<'4') and extra == \"fast\"",
        "x": "os_name=='nt'",
    }
    assert facts["old"]["modules"] == {"old": True, "old_extra": True}
    assert facts["old"]["record"] is None


def broken(folder: Path, **files: str | bytes) -> common.Place:
    info = folder / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    for name, content in files.items():
        (info / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return place(folder)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "METADATA is missing or cannot be read"),
        ({"METADATA": ""}, "no Name or no Version"),
        ({"METADATA": b"\xff\xfe\0\0"}, "no Name or no Version"),
        ({"METADATA": "Name: broken\n"}, "no Name or no Version"),
        (
            {"METADATA": "Name: broken\nVersion: 1\n", "RECORD": "just a word\n"},
            "a line that is not 'path,hash,size'",
        ),
        ({"METADATA": "Name: broken\nVersion: 1\n", "direct_url.json": "{"}, "not a direct_url.json"),
        ({"METADATA": "Name: broken\nVersion: 1\n", "direct_url.json": "[" * 9999}, "not a direct_url.json"),
    ],
)
def test_broken_metadata_is_a_problem_and_not_the_end(
    tmp_path: Path, files: dict[str, str | bytes], reason: str
) -> None:
    here = broken(tmp_path, **files)
    unpack(wheel(tmp_path / "w", "healthy"), tmp_path)
    section = common.section(packages, here)
    assert section["status"] == "partial"
    assert any(problem["reason"].startswith(reason) for problem in section["problems"]), section["problems"]
    assert {"broken", "healthy"} == section["facts"]["distributions"].keys()


def test_what_an_interrupted_install_left_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "~umpy-1.0.dist-info").mkdir()
    here = place(tmp_path)
    assert packages.measure(here)["distributions"] == {}
    assert here.problems == [
        {
            "where": f"{tmp_path}/~umpy-1.0.dist-info",
            "reason": "left behind by an interrupted install; installers ignore it",
        }
    ]


@given(st.binary(max_size=300))
def test_a_record_of_any_bytes_does_no_harm(data: bytes) -> None:
    class Bytes(common.Place):  # type: ignore[misc]
        def read_text(self, name: str, limit: int = 0) -> str | None:
            del name, limit
            return data.decode("utf-8", "replace")

    found = install_records.read(Bytes(environ={}, search_path=[]), "/nowhere", "x-1.dist-info")
    assert found is not None
    assert found.count == len(found.missing) or found.count >= len(found.missing)


def test_paths_of_a_record_do_not_leave_an_unpacked_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    root = tmp_path / "root"
    site = root / "site"
    unpack(wheel(tmp_path, "p"), site)
    record = next(site.glob("*.dist-info")) / "RECORD"
    record.write_text("../../outside.txt,sha256=A,1\np/../../../outside.txt,sha256=A,1\np.py,sha256=A,22\n")
    facts = packages.measure(place("/site", root=root))["distributions"]
    assert facts["p"]["missing_files"]["count"] == 2


def test_conda_records(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    record = {
        "build": "h1_0",
        "channel": "https://conda.example/conda-forge/linux-64",
        "name": "libblas",
    }
    (tmp_path / "conda-meta/libblas-3.9.0-h1_0.json").write_text(json.dumps(record))
    (tmp_path / "conda-meta/history").write_text("")
    here = common.Place(environ={}, search_path=[], options={"prefix": str(tmp_path)})
    assert packages.measure(here)["conda"] == {
        "libblas": {
            "version": "3.9.0",
            "build": "h1_0",
            "channel": "https://conda.example/conda-forge/linux-64",
        }
    }


def test_the_version_that_the_code_states(tmp_path: Path) -> None:
    files = {"tv/__init__.py": "", "tv/version.py": "__all__ = []\n__version__ = '0.28.0+cu130'\n"}
    site = unpack(wheel(tmp_path, "tv", "0.28.0", files), tmp_path / "site")
    (record,) = measured(site)["distributions"].values()
    assert record["module_version"] == "0.28.0+cu130"
