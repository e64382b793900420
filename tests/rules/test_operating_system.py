"""Family SYS on made-up facts, and against what a missing program really prints."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.diff import changes
from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.knowledge import tables

GLIBC_WHEEL = {"cp311-cp311-manylinux_2_17_x86_64": True}
MUSL = python(
    soabi="cpython-311-x86_64-linux-musl",
    extension_suffixes=[".cpython-311-x86_64-linux-musl.so", ".abi3.so", ".so"],
    platform={"libc": "musl", "libc_version": "1.2.5"},
    tags={"platforms": ["musllinux_1_2_x86_64", "linux_x86_64"]},
)
MAC = python(
    soabi="cpython-311-darwin",
    extension_suffixes=[".cpython-311-darwin.so", ".abi3.so", ".so"],
    platform={"system": "darwin", "machine": "x86_64", "tag": "macosx-11.0-x86_64", "libc": None},
    tags={"platforms": ["macosx_11_0_x86_64"]},
)


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def system(name: str = "debian", version: str = "12", glibc: str = "2.36", **packages: str) -> dict[str, Any]:
    manager = {"alpine": "apk", "rhel": "rpm"}.get(name, "dpkg")
    return {
        "os_release": {
            "id": name,
            "version_id": version,
            "version_codename": None,
            "pretty_name": f"{name.title()} {version}",
            "id_like": [],
        },
        "libc": {"family": "glibc", "version": glibc, "path": "/lib/libc.so.6"},
        "packages": {"manager": manager, "packages": packages},
    }


# SYS001


def test_sys001_packages_of_the_other_platform_break() -> None:
    packages = distributions(distribution("numpy", "2.1.0", tags=GLIBC_WHEEL))
    (found,) = findings("SYS001", baseline={}, python=MAC, packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "macOS instead of Linux, with packages that were installed for Linux"


def test_sys001_another_platform_is_one_cause() -> None:
    uvicorn = distribution("uvicorn", requires={"colorama>=0.4": 'sys_platform == "win32"'})
    asks = distribution("tqdm", requires={"uvloop": 'sys_platform != "darwin"'})

    def wheel(tag: str) -> dict[str, Any]:
        return distribution("numpy", tags={tag: True}, record={"digest": tag, "files": 1})

    before = snapshot(
        "a",
        python=python(),
        packages=distributions(wheel("cp311-cp311-manylinux_2_17_x86_64"), uvicorn, asks, distribution("uvloop")),
        system=system(bash="5.2"),
        variables={"variables": {"PATH": {"value": "/usr/bin"}, "MODEL": {"digest": "a"}}},
    )
    after = snapshot(
        "b",
        python=MAC,
        packages=distributions(wheel("cp311-cp311-macosx_11_0_x86_64"), uvicorn, asks, distribution("extra")),
        system=system("macos", "15"),
        variables={"variables": {"PATH": {"value": "/opt/homebrew/bin"}, "MODEL": {"digest": "b"}}},
    )
    (cause,) = [finding for finding in explain_pair(before, after).findings if finding.code == "SYS001"]
    assert judged(cause) == ("changes-results", "possible")
    left = {change.path for change in changes(before, after)} - set(cause.folds)
    assert left == {("packages", "distributions", "extra"), ("variables", "variables", "MODEL", "digest")}


def test_sys001_is_silent() -> None:
    assert findings("SYS001", baseline={}) == []


# SYS002


def test_sys002_manylinux_wheels_on_musl() -> None:
    packages = distributions(distribution("numpy", "2.4.6", tags=GLIBC_WHEEL), distribution("six"))
    (found,) = findings("SYS002", baseline={}, python=MUSL, packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "musl instead of glibc, with manylinux wheels installed"
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"
    assert found.fix[0].text == "FROM python:3.11-slim"


def test_sys002_in_the_words_of_musls_loader_where_python_sees_the_file() -> None:
    """The words are those of musl 1.2.3 for libscipy_openblas of NumPy 2.4.6 (dlopen from a program of musl-gcc)."""
    same_endings = python(platform={"libc": "musl", "libc_version": "1.1.24"}, tags={"platforms": ["linux_x86_64"]})
    packages = distributions(distribution("numpy", "2.4.6", tags=GLIBC_WHEEL))
    (found,) = findings("SYS002", baseline={}, python=same_endings, packages=packages)
    assert found.predicted_error == (
        "ImportError: Error loading shared library ld-linux-x86-64.so.2: No such file or directory"
    )


def test_sys002_gcompat_makes_it_less_sure() -> None:
    packages = distributions(distribution("numpy", tags=GLIBC_WHEEL))
    alpine = system("alpine", "3.20", gcompat="1.1.0-r4")
    (found,) = findings("SYS002", baseline={}, python=MUSL, packages=packages, system=alpine)
    assert judged(found) == ("breaks", "possible")


def test_sys002_musllinux_wheels_on_glibc() -> None:
    packages = distributions(distribution("numpy", tags={"cp311-cp311-musllinux_1_2_x86_64": True}))
    (found,) = findings("SYS002", baseline={"python": MUSL}, packages=packages)
    assert judged(found) == ("breaks", "likely")
    assert found.fix[0].text == "FROM python:3.11-alpine"


def test_sys002_an_environment_that_was_installed_there() -> None:
    packages = distributions(distribution("numpy", tags={"cp311-cp311-musllinux_1_2_x86_64": True}))
    (found,) = findings("SYS002", baseline={}, python=MUSL, packages=packages)
    assert judged(found) == ("changes-results", "possible")


def test_sys002_is_silent() -> None:
    assert findings("SYS002", baseline={}) == []
    assert findings("SYS002", baseline={}, python=python(platform={"libc_version": "2.41"})) == []
    assert findings("SYS002", baseline={}, python=MAC) == []


# SYS003

FFMPEG = {
    "path": "/usr/bin/ffmpeg",
    "real": None,
    "on_path": True,
    "package": "ffmpeg",
    "package_version": "7:5.1",
    "version": None,
}


def programs(**found: dict[str, Any] | None) -> dict[str, Any]:
    names = {name for need in tables.program_needs() if need.kind == "program" for name in need.any_of}
    sonames = {name for need in tables.program_needs() if need.kind == "library" for name in need.any_of}
    return {"programs": dict.fromkeys(names) | found, "libraries": dict.fromkeys(sonames)}


def test_sys003_a_program_without_which_the_distribution_is_of_no_use() -> None:
    packages = distributions(distribution("ffmpeg-python", "0.2.0"))
    core, probe = findings("SYS003", packages=packages, programs=programs(), system=system())
    assert judged(core) == ("breaks", "likely")
    assert core.predicted_error == "[Errno 2] No such file or directory: 'ffmpeg'"
    assert core.fix[0].text == "apt-get install -y --no-install-recommends ffmpeg"
    assert judged(probe) == ("note", "possible")


def test_sys003_an_optional_use_is_a_note_unless_the_baseline_had_the_program() -> None:
    packages = distributions(distribution("pydub"))
    alone, _ = findings("SYS003", packages=packages, programs=programs())
    assert judged(alone) == ("note", "possible")
    baseline = {"packages": packages, "programs": programs(ffmpeg=FFMPEG), "system": system("alpine", "3.20")}
    lost, _ = findings(
        "SYS003", baseline=baseline, packages=packages, programs=programs(), system=system("alpine", "3.20")
    )
    assert judged(lost) == ("breaks", "possible")
    assert lost.fix[0].text == "apk add ffmpeg"


@pytest.mark.parametrize("name", ["torch", "triton", "transformers"])
def test_sys003_what_few_use_stays_a_note_where_the_target_lost_it(name: str) -> None:
    """A slim image has no compiler, and serves; torch.compile and C++ extensions are for few."""
    packages = distributions(distribution(name, "2.13.0"))
    had = dict.fromkeys(("ffmpeg", "g++", "gcc", "ninja"), FFMPEG)
    lost = findings(
        "SYS003", baseline={"packages": packages, "programs": programs(**had)}, packages=packages, programs=programs()
    )
    assert {judged(found) for found in lost} == {("note", "possible")}


def test_sys003_what_another_distribution_brought_in_may_be_unused() -> None:
    packages = distributions(distribution("graphviz", requested=False))
    (found,) = findings("SYS003", packages=packages, programs=programs())
    assert judged(found) == ("breaks", "possible")


def test_sys003_a_call_of_what_another_distribution_brought_in_is_a_note() -> None:
    """catboost requires graphviz to draw trees, and predicts without dot."""
    packages = distributions(
        distribution("catboost", requires={"graphviz": ""}), distribution("graphviz", requested=False)
    )
    (found,) = findings("SYS003", packages=packages, programs=programs())
    assert judged(found) == ("note", "possible")
    had = {"packages": packages, "programs": programs(dot=FFMPEG)}
    (lost,) = findings("SYS003", baseline=had, packages=packages, programs=programs())
    assert judged(lost) == ("breaks", "possible")
    (asked_for,) = findings("SYS003", packages=distributions(distribution("graphviz")), programs=programs())
    assert judged(asked_for) == ("breaks", "likely")


def test_sys003_a_library_that_is_opened_at_import() -> None:
    packages = distributions(distribution("sounddevice", requested=False))
    (found,) = findings("SYS003", packages=packages, programs=programs())
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "PortAudio library not found"
    assert found.subject.name == "libportaudio.so.2 for sounddevice"


def test_sys003_a_library_of_a_part_that_nobody_may_import() -> None:
    """import mediapipe succeeds without PortAudio, though it requires sounddevice."""
    packages = distributions(
        distribution("mediapipe", requires={"sounddevice>=0.5": ""}), distribution("sounddevice", requested=False)
    )
    (found,) = findings("SYS003", packages=packages, programs=programs())
    assert judged(found) == ("breaks", "possible")


def test_sys003_a_wheel_for_a_platform_bundles_it() -> None:
    pure = distributions(distribution("soundfile"))
    bundled = distributions(distribution("soundfile", tags={"py2.py3-none-manylinux_2_17_x86_64": True}))
    assert len(findings("SYS003", packages=pure, programs=programs())) == 1
    assert findings("SYS003", packages=bundled, programs=programs()) == []


def test_sys003_the_header_of_the_interpreter() -> None:
    """What a package of the system brings is for the system's interpreter; older snapshots do not speak of it."""
    packages = distributions(distribution("triton", "3.5.0"))
    compiler = {"gcc": FFMPEG | {"path": "/usr/bin/gcc", "package": "gcc"}}
    header = {"path": "/usr/include/python3.11/Python.h", "package": "libpython3.11-dev", "package_version": "3.11.2"}
    facts: dict[str, Any] = {"packages": packages, "system": system()}
    assert findings("SYS003", programs=programs(**compiler), **facts) == []
    assert findings("SYS003", programs=programs(**compiler) | {"headers": {"Python.h": header}}, **facts) == []
    without = programs(**compiler) | {"headers": {"Python.h": None}}
    (found,) = findings("SYS003", programs=without, python=python(base_prefix="/usr"), **facts)
    assert judged(found) == ("note", "possible")
    assert found.title == "triton looks for the header Python.h, which is not here"
    assert found.predicted_error == "fatal error: Python.h: No such file or directory"
    assert found.fix[0].text == "apt-get install -y --no-install-recommends python3-dev"
    (found,) = findings("SYS003", programs=without, python=python(base_prefix="/opt/python"), **facts)
    assert found.fix[0].text == "Install the headers of this interpreter, whose base is /opt/python."
    baseline = {"programs": programs(**compiler) | {"headers": {"Python.h": header}}, "system": system()}
    (found,) = findings("SYS003", baseline=baseline, programs=without, python=python(base_prefix="/usr"), **facts)
    assert found.fix[0].text == "apt-get install -y --no-install-recommends libpython3.11-dev"


def test_sys003_a_variable_or_a_distribution_stands_in() -> None:
    packages = distributions(distribution("triton", "3.1.0"))
    compiler = {"variables": {"CC": {"value": "/opt/cc"}}}
    assert len(findings("SYS003", packages=packages, programs=programs())) == 1
    assert findings("SYS003", packages=packages, programs=programs(), variables=compiler) == []
    bundled = distributions(distribution("pypandoc"), distribution("pypandoc-binary"))
    assert findings("SYS003", packages=bundled, programs=programs()) == []


def test_sys003_beside_the_interpreter_is_not_on_path() -> None:
    ninja = {**FFMPEG, "path": "/venv/bin/ffmpeg", "on_path": False, "package": None, "package_version": None}
    packages = distributions(distribution("ffmpy"))
    (found,) = findings("SYS003", packages=packages, programs=programs(ffmpeg=ninja))
    assert found.title == "ffmpy looks for the program ffmpeg, which is not on PATH"
    assert found.fix[0].text == 'PATH="/venv/bin:$PATH"'


@pytest.mark.parametrize(
    "facts", [programs(ffmpeg=FFMPEG), {}, {"programs": {}, "libraries": {}}, {"programs": {"gcc": None}}]
)
def test_sys003_is_silent_where_it_is_there_or_was_not_looked_for(facts: dict[str, Any]) -> None:
    assert findings("SYS003", packages=distributions(distribution("ffmpy")), programs=facts) == []


def test_sys003_also_in_a_baseline_that_lacks_it_too() -> None:
    packages = distributions(distribution("ffmpy"))
    side = snapshot("a", python=python(), packages=packages, programs=programs())
    (found,) = [finding for finding in explain_pair(side, side).findings if finding.code == "SYS003"]
    assert found.also_in_baseline


def test_sys003_truth_a_call_by_name_prints_what_the_table_says(tmp_path: Path) -> None:
    """ffmpeg-python and openai-whisper call ffmpeg with subprocess; PATH is an empty folder here."""
    with pytest.raises(FileNotFoundError) as failed:
        subprocess.run(["ffmpeg", "-version"], env={"PATH": str(tmp_path)}, check=False)
    packages = distributions(distribution("ffmpeg-python", "0.2.0"))
    found = findings("SYS003", packages=packages, programs=programs())[0]
    assert str(failed.value) == found.predicted_error


# SYS004


def test_sys004_another_release_is_a_note_and_a_cause() -> None:
    before = snapshot("a", python=python(), system=system(version="12", glibc="2.36", bash="5.2"))
    after = snapshot("b", python=python(), system=system(version="13", glibc="2.41", bash="5.3"))
    (cause,) = [finding for finding in explain_pair(before, after).findings if finding.code == "SYS004"]
    assert judged(cause) == ("note", "certain")
    assert cause.title == "Debian 13 instead of Debian 12"
    assert set(cause.folds) == {change.path for change in changes(before, after)}


@pytest.mark.parametrize(
    ("tags", "digest", "expected"),
    [
        ({"cp311-cp311-linux_x86_64": True}, "sha256:same", ("breaks", "likely")),
        ({"cp311-cp311-linux_x86_64": True}, "sha256:other", ("breaks", "possible")),
        (GLIBC_WHEEL, "sha256:same", ("note", "certain")),
    ],
)
def test_sys004_an_older_glibc(tags: dict[str, bool], digest: str, expected: tuple[str, str]) -> None:
    def packages(digest: str) -> dict[str, Any]:
        return distributions(distribution("flash-attn", tags=tags, record={"digest": digest, "files": 1}))

    baseline = {"system": system("ubuntu", "24.04", "2.39"), "packages": packages("sha256:same")}
    (found,) = findings("SYS004", baseline=baseline, system=system("debian", "12", "2.36"), packages=packages(digest))
    assert judged(found) == expected
    assert "glibc 2.36 is older than 2.39" in found.explanation


@pytest.mark.parametrize(
    ("lacking", "expected"), [({}, ("note", "certain")), ({"libm.so.6": {}}, ("breaks", "likely"))]
)
def test_sys004_the_files_themselves_say_whether_they_load(lacking: dict[str, Any], expected: tuple[str, str]) -> None:
    """LightGBM's published wheel bears the tag of one that was compiled on the spot, and loads on Debian 11."""
    packages = distributions(distribution("lightgbm", "4.6.0", tags={"py3-none-linux_x86_64": True}))
    files = {
        "lightgbm/lib/lib_lightgbm.so": {"role": "plugin", "distribution": "lightgbm", "missing_versions": lacking}
    }
    libraries = {
        "files": files if lacking else {},
        "distributions": {"lightgbm": {"modules": 0, "libraries": 1, "needs": {}}},
    }
    baseline = {"system": system(version="12", glibc="2.36"), "packages": packages}
    (found,) = findings(
        "SYS004", baseline=baseline, system=system(version="11", glibc="2.31"), packages=packages, libraries=libraries
    )
    assert judged(found) == expected


def test_sys004_is_silent() -> None:
    assert findings("SYS004", baseline={"system": system()}, system=system()) == []
    assert findings("SYS004", baseline={"system": {}}, system=system()) == []
    macos = system("macos", "15")
    assert findings("SYS004", baseline={"system": system()}, python=MAC, system=macos) == []
