"""Family PKG against reality: real installs, broken in known ways, real imports, and the findings beside
them.

Handmade wheels are unpacked into directories, or installed by the pip of a virtual environment; the probes
run in the interpreter, and the rules judge what they saw. What the interpreter then prints is the truth.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name
from support.snapshots import snapshot
from support.wheels import (
    install,
    last_line,
    pip,
    pip_install,
    probe,
    run,
    site_packages,
    this_python,
    unpack,
    virtual_environment,
    wheel,
)

from driftcheck.findings import Finding
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction, Drift
from driftcheck.rules.packages import PKG010
from driftcheck.snapshot import Snapshot

PYTHON = sys.executable


def measured(*locations: Path, python: Path | str = PYTHON, **facts: Any) -> Snapshot:
    """A snapshot of directories on the search path, or of a whole interpreter where there are none."""
    interpreter = probe(python, "python", *locations) if locations else probe(python, "python")
    return snapshot("measured", packages=probe(python, "packages", *locations), python=interpreter | facts)


def judge(code: str, target: Snapshot, baseline: Snapshot | None = None) -> list[Finding]:
    rule = next(rule for rule in all_rules() if rule.code == code)
    if isinstance(rule, Drift):
        assert baseline is not None
        return list(rule.check(baseline, target))
    assert isinstance(rule, Contradiction)
    return list(rule.check(target, baseline))


def imports(code: str, *locations: Path) -> subprocess.CompletedProcess[str]:
    """Run code with nothing but the locations and the standard library."""
    prelude = f"import sys; sys.path[:] = {[str(place) for place in locations]!r} + sys.path\n"
    done = subprocess.run(
        [PYTHON, "-S", "-I", "-B", "-c", prelude + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done is not None
    return done


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with pip; each test takes away what it installed."""
    return virtual_environment(tmp_path_factory.mktemp("environment") / "venv", with_pip=True)


# PKG001


def test_a_missing_requirement_fails_as_predicted(tmp_path: Path) -> None:
    viewer = {"viewer/__init__.py": "import PIL\n"}
    good, bad = tmp_path / "good", tmp_path / "bad"
    install(bad, "viewer", files=viewer, requires=["pillow>=5"])
    install(good, "viewer", files=viewer, requires=["pillow>=5"])
    install(good, "pillow", "11.0", files={"PIL/__init__.py": ""})
    baseline, target = measured(good), measured(bad)
    assert judge("PKG001", baseline) == []
    assert imports("import viewer", good).returncode == 0
    (found,) = judge("PKG001", target, baseline)
    assert last_line(imports("import viewer", bad)) == found.predicted_error
    assert found.fix[0].text == "python -m pip install pillow==11.0"


def test_the_same_requirements_are_broken_for_pip_check(environment: Path, tmp_path: Path) -> None:
    """The oracle: pip's own list, on markers, extras, pre-releases and versions of every kind."""
    python_version = "{}.{}".format(*sys.version_info[:2])
    wheels = [
        wheel(
            tmp_path,
            "Root.Package",
            requires=[
                "leaf>=2",
                "leaf!=1.5",
                "Leaf[fast]",
                "absent",
                "absent-on-this-one; sys_platform == 'no such system'",
                f"absent-here; python_version == '{python_version}'",
                f"absent-there; python_version != '{python_version}'",
                "optional; extra == 'more'",
                "prerelease>=2.0a1",
                "prerelease<2.0",
                "localised==1.2",
                "calendar~=2024.1",
            ],
            extras=["more"],
        ),
        wheel(tmp_path, "leaf", "1.5", requires=["speedups; extra == 'fast'"], extras=["fast"]),
        wheel(tmp_path, "prerelease", "2.0rc1"),
        wheel(tmp_path, "localised", "1.2+cpu"),
        wheel(tmp_path, "calendar-thing", "2024.1", requires=["calendar"]),
        wheel(tmp_path, "calendar", "2023.12", files={"calendar_thing_data.py": ""}),
    ]
    pip_install(environment, *wheels)
    try:
        stated = pip(environment, "check").stdout.splitlines()
        ours = judge("PKG001", measured(python=environment))
    finally:
        pip(environment, "uninstall", "-y", *(path.name.split("-")[0] for path in wheels))
    expected = {
        f"{canonicalize_name(found[1])} -> {canonicalize_name(found[2])}"
        for line in stated
        if (found := re.match(r"(\S+) \S+ (?:requires|has requirement) ([\w.-]*\w)", line))
    }
    assert len(expected) == 5
    # pip asks for no extras, so only driftcheck sees what leaf[fast] misses.
    assert {finding.subject.name for finding in ours} == expected | {"leaf -> speedups"}


@pytest.mark.network
def test_transformers_refuses_its_pin_in_the_predicted_words(tmp_path: Path) -> None:
    python = virtual_environment(tmp_path / "venv", with_pip=True)
    pip(python, "install", "--quiet", "transformers>=4.46,<=5.23")
    assert run(python, "import transformers").returncode == 0
    assert judge("PKG001", measured(python=python)) == []
    metadata = next(site_packages(python).glob("tokenizers-*.dist-info")) / "METADATA"
    metadata.write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.9.4", metadata.read_text(encoding="utf-8"), count=1))
    (found,) = judge("PKG001", measured(python=python))
    assert found.confidence == "certain"
    done = run(python, "import transformers")
    assert found.predicted_error is not None
    assert done.stderr.rstrip().endswith(found.predicted_error)


# PKG002


def test_two_metadata_directories_and_a_mixture(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(
        site,
        "model",
        "1.0",
        files={"model/__init__.py": "from model.old import run\n", "model/old.py": "run = 1\n"},
    )
    install(
        site,
        "model",
        "2.0",
        files={"model/__init__.py": "from model.newer import run\n", "model/newer.py": "run = 22\n"},
    )
    (found,) = judge("PKG002", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "possible")  # 2.0 is whole, 1.0 is a leftover
    answer = imports("import importlib.metadata as m; print(sum(d.name == 'model' for d in m.distributions()))", site)
    assert answer.stdout.strip() == "2"
    (site / "model/newer.py").unlink()
    (found,) = judge("PKG002", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert last_line(imports("import model", site)) == "ModuleNotFoundError: No module named 'model.newer'"


def test_an_upgrade_by_pip_leaves_no_duplicate(environment: Path, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        pip_install(environment, wheel(tmp_path, "model", version))
    try:
        assert judge("PKG002", measured(python=environment)) == []
    finally:
        pip(environment, "uninstall", "-y", "model")


# PKG010


def test_a_module_of_a_missing_distribution_cannot_be_imported(environment: Path, tmp_path: Path) -> None:
    pip_install(environment, wheel(tmp_path, "served", "1.0"))
    known = measured(python=environment)
    pip(environment, "uninstall", "-y", "served")
    target = measured(python=environment)
    (found,) = PKG010().check(known, target)
    assert found.predicted_error == last_line(run(environment, "import served"))


# PKG003


def opencv(folder: Path, name: str, body: str, version: str = "4.10.0") -> Path:
    return wheel(folder, name, version, files={"cv2/__init__.py": "VALUE = 1\n", "cv2/variant.py": body})


def test_an_uninstall_takes_the_files_of_both_and_the_fix_brings_them_back(environment: Path, tmp_path: Path) -> None:
    plain = opencv(tmp_path, "opencv-python", "NAME = 'window'\n")
    headless = opencv(tmp_path, "opencv-python-headless", "NAME = 'headless'\n")
    pip_install(environment, headless)
    assert judge("PKG003", measured(python=environment)) == []
    pip_install(environment, plain)
    try:
        (found,) = judge("PKG003", measured(python=environment))
        assert (found.impact, found.confidence) == ("changes-results", "likely")
        assert run(environment, "import cv2.variant; print(cv2.variant.NAME)").stdout.strip() == "window"
        assert pip(environment, "check").returncode == 0  # no package checker notices
        drop, keep = (fix.text.removeprefix("python -m pip ").split() for fix in found.fix)
        pip(environment, *drop)
        assert last_line(run(environment, "import cv2")) == "ModuleNotFoundError: No module named 'cv2'"
        (broken,) = judge("PKG006", measured(python=environment))
        assert (broken.impact, broken.confidence) == ("breaks", "likely")
        assert keep[-1] == "opencv-python-headless==4.10.0"
        pip(environment, *keep, "--no-index", "--find-links", str(tmp_path))
        assert run(environment, "import cv2.variant; print(cv2.variant.NAME)").stdout.strip() == "headless"
        assert judge("PKG003", measured(python=environment)) == []
    finally:
        pip(environment, "uninstall", "-y", "opencv-python", "opencv-python-headless")


def test_a_file_that_the_other_wrote_over_is_not_reported_twice(tmp_path: Path) -> None:
    site = tmp_path / "site"
    unpack(opencv(tmp_path / "wheels", "opencv-python-headless", "NAME = 'headless'\n"), site)
    unpack(opencv(tmp_path / "wheels", "opencv-python", "NAME = 'longer than the other one'\n"), site)
    target = measured(site)
    assert target.sections["packages"].facts["distributions"]["opencv-python-headless"]["altered_files"]["count"] == 1
    assert len(judge("PKG003", target)) == 1
    assert judge("PKG006", target) == []


# PKG004


def test_an_older_copy_on_pythonpath_is_imported(tmp_path: Path) -> None:
    python = virtual_environment(tmp_path / "venv")
    site = site_packages(python)
    unpack(wheel(tmp_path / "wheels", "model", "2.0"), site)
    old = install(tmp_path / "old", "model", "1.0")
    shown = run(python, "import model; print(model.__version__)", old)
    assert shown.stdout.strip() == "1.0"
    target = snapshot(
        "t",
        packages=probe(python, "packages", old, only=False),
        python=probe(python, "python", old, only=False),
    )
    (found,) = judge("PKG004", target)
    assert (found.impact, found.confidence) == ("changes-results", "likely")
    assert found.title == "model 1.0 hides model 2.0, which stands later on sys.path"
    assert judge("PKG004", measured(python=python)) == []


def test_a_stray_file_hides_an_installed_module(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "typing-extensions", files={"typing_extensions.py": "Sentinel = 1\n"})
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "typing_extensions.py").write_text("")
    (found,) = judge("PKG004", measured(stray, site))
    assert found.subject.name == "typing_extensions"
    done = imports("from typing_extensions import Sentinel", stray, site)
    assert str(stray / "typing_extensions.py") in last_line(done)
    assert found.title.endswith(f"is hidden by {stray}/typing_extensions.py")
    assert judge("PKG004", measured(site, stray)) == []


# PKG005


def test_a_rebuilt_wheel_of_the_same_version(environment: Path, tmp_path: Path) -> None:
    first = install(tmp_path / "a" / "site", "model", files={"model.py": "VALUE = 0.1 + 0.2\n"})
    again = install(tmp_path / "b" / "site", "model", files={"model.py": "VALUE = 0.1 + 0.2\n"})
    patched = install(tmp_path / "c" / "site", "model", files={"model.py": "VALUE = 0.2 + 0.2\n"})
    baseline = measured(first)
    assert judge("PKG005", measured(again), baseline) == []
    pip_install(environment, next((tmp_path / "a" / "wheels").iterdir()))
    try:  # pip's own files (INSTALLER, direct_url.json, bytecode) make no other build
        whole = measured(python=environment)
        assert judge("PKG005", whole, baseline) == []
    finally:
        pip(environment, "uninstall", "-y", "model")
    (found,) = judge("PKG005", measured(patched), baseline)
    assert found.impact == "changes-results"
    values = [imports("import model; print(model.VALUE)", place).stdout for place in (first, patched)]
    assert values[0] != values[1]


# PKG006


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model.py", ("breaks", "likely")),
        ("tests/test_model.py", ("note", "certain")),
        ("model.pyi", ("note", "certain")),
    ],
)
def test_a_deleted_file(tmp_path: Path, path: str, expected: tuple[str, str]) -> None:
    files = {"model.py": "VALUE = 1\n", "tests/test_model.py": "x = 1\n", "model.pyi": "VALUE: int\n"}
    site = install(tmp_path / "site", "model", files=files)
    assert judge("PKG006", measured(site)) == []
    (site / path).unlink()
    (found,) = judge("PKG006", measured(site))
    assert (found.impact, found.confidence) == expected
    done = imports("import model", site)
    assert (done.returncode == 0) == (expected[0] == "note")
    assert (last_line(done) or None) == found.predicted_error


@pytest.mark.parametrize(
    ("gone", "statement"),
    [
        (["deep/__init__.py", "deep/tree.py"], "from model.deep.tree import VALUE"),
        (["deep/tree.py"], "from model.deep.tree import VALUE"),
        (["__init__.py", "deep/__init__.py", "deep/tree.py", "_core.abi3.so"], "import model"),
        (["_core.abi3.so"], "import model._core"),
    ],
)
def test_a_deleted_part_of_a_package(tmp_path: Path, gone: list[str], statement: str) -> None:
    site = install(tmp_path / "site", "model", files=_NESTED)
    for name in gone:
        (site / "model" / name).unlink()
    for folder in (site / "model" / "deep", site / "model"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    (found,) = judge("PKG006", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert found.predicted_error is not None
    assert last_line(imports(statement, site)) == found.predicted_error


def test_a_package_whose_code_lies_deeper_is_gone_as_a_whole(tmp_path: Path) -> None:
    """As onnxruntime, which has little beside its __init__.py but packages."""
    files: dict[str, str | bytes] = {"model/__init__.py": "", "model/deep/__init__.py": "", "model/deep/tree.py": ""}
    site = install(tmp_path / "site", "model", files=files)
    shutil.rmtree(site / "model")
    (found,) = judge("PKG006", measured(site))
    assert (
        found.predicted_error
        == last_line(imports("import model", site))
        == "ModuleNotFoundError: No module named 'model'"
    )


def test_a_package_without_its_init_alone_is_a_namespace(tmp_path: Path) -> None:
    """It is imported without an error, so none is predicted for the import."""
    site = install(tmp_path / "site", "model", files=_NESTED)
    (site / "model/deep/__init__.py").unlink()
    (found,) = judge("PKG006", measured(site))
    assert found.predicted_error is None
    assert imports("import model.deep", site).returncode == 0


_NESTED: dict[str, str | bytes] = {
    "model/__init__.py": "",
    "model/deep/__init__.py": "",
    "model/deep/tree.py": "VALUE = 1\n",
    "model/_core.abi3.so": b"\x7fELF",
}


def test_an_empty_and_a_patched_file(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "model", files={"model.py": "VALUE = 1\n"})
    (site / "model.py").write_text("VALUE = 2000\n")
    (found,) = judge("PKG006", measured(site))
    assert (found.impact, found.confidence) == ("changes-results", "likely")
    assert imports("import model; print(model.VALUE)", site).stdout.strip() == "2000"
    (site / "model.py").write_text("")
    (found,) = judge("PKG006", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert imports("import model; print(model.VALUE)", site).returncode == 1


def test_what_pip_rewrites_is_no_contradiction(environment: Path, tmp_path: Path) -> None:
    """Console scripts get the interpreter's path as their first line, and an environment may have been
    moved.
    """
    script = "model-1.0.data/scripts/model-tool"
    body = "#!python\nprint(1)\n"
    pip_install(environment, wheel(tmp_path, "model", files={"model.py": "", script: body}))
    try:
        target = measured(python=environment)
    finally:
        pip(environment, "uninstall", "-y", "model")
    assert "model" in target.sections["packages"].facts["distributions"]
    assert judge("PKG006", target) == []


# PKG007


def test_an_extension_module_for_another_python_is_not_seen(tmp_path: Path) -> None:
    """As after COPY --from between stages: the file is there, and the interpreter does not look for its
    name.
    """
    real = next(tag for tag in sys_tags() if tag.platform != "any")
    other = f"cp{sys.version_info[0]}{sys.version_info[1] + 1}"
    extension = f"model/_core.{other.replace('cp', 'cpython-')}-x86_64-linux-gnu.so"
    files: dict[str, str | bytes] = {"model/__init__.py": "from model import _core\n", extension: b"\x7fELF"}
    site = install(tmp_path / "a" / "site", "model", files=files, tags=[f"{other}-{other}-{real.platform}"])
    (found,) = judge("PKG007", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert "cannot import name '_core'" in last_line(imports("import model", site))
    accepted = install(
        tmp_path / "b" / "site", "model", files=files, tags=[str(real), f"{other}-{other}-{real.platform}"]
    )
    assert judge("PKG007", measured(accepted)) == []


def test_every_tag_that_packaging_accepts_is_accepted(tmp_path: Path) -> None:
    """The oracle: packaging.tags for this interpreter, tag by tag, and the same tags made wrong."""
    accepted = [str(tag) for tag in sys_tags()]
    picked = accepted[:: max(1, len(accepted) // 40)] + accepted[-1:]
    facts = this_python()
    for number, tag in enumerate(picked):
        install(tmp_path / "site", f"good{number}", tags=[tag])
        install(tmp_path / "site", f"bad{number}", tags=[tag.replace("-", "x-", 1)])
    target = measured(tmp_path / "site", tags=facts["tags"])
    refused = {finding.subject.name for finding in judge("PKG007", target)}
    assert refused == {f"bad{number}" for number in range(len(picked))}


# PKG008


def torch_like(folder: Path, *, cpu: bool) -> Path:
    """Both packages, reduced to what decides: a loader of extensions, a table of operators, and the
    order in which torchvision 0.28 asks for them (extension.py, then _meta_registrations.py).
    """
    torch = {
        "torch/__init__.py": "import torch.version\nfrom torch import library, ops\n",
        "torch/version.py": f"__version__ = '2.13.0+{'cpu' if cpu else 'cu130'}'\n",
        "torch/ops.py": (
            "import os\nregistered = set()\ndef load_library(path):\n"
            "    if not os.path.exists(os.path.join(os.path.dirname(__file__), 'lib', 'libtorch_cuda.so')):\n"
            "        raise OSError('libtorch_cuda.so: cannot open shared object file: No such file or "
            "directory')\n"
            "    registered.add('torchvision::nms')\n"
        ),
        "torch/library.py": (
            "from torch import ops\ndef register_fake(name):\n    if name not in ops.registered:\n"
            "        raise RuntimeError('operator %s does not exist' % name)\n    return lambda function: "
            "function\n"
        ),
    }
    if not cpu:
        torch["torch/lib/libtorch_cuda.so"] = ""
    vision = {
        "torchvision/__init__.py": "from torchvision import extension, _meta_registrations\n",
        "torchvision/version.py": "__version__ = '0.28.0+cu130'\n",
        "torchvision/extension.py": (
            "import torch\ntry:\n    torch.ops.load_library('_C.so')\nexcept (ImportError, OSError):\n    pass\n"
        ),
        "torchvision/_meta_registrations.py": (
            "import torch\n@torch.library.register_fake('torchvision::nms')\ndef meta_nms():\n    pass\n"
        ),
    }
    site = install(folder / "site", "torch", "2.13.0+cpu" if cpu else "2.13.0", files=torch)
    return install(site, "torchvision", "0.28.0", files=vision, requires=["torch==2.13.0"])


def test_a_cuda_torchvision_beside_a_cpu_torch(tmp_path: Path) -> None:
    mixed, whole = torch_like(tmp_path / "a", cpu=True), torch_like(tmp_path / "b", cpu=False)
    target = measured(mixed)
    assert judge("PKG001", target) == []  # every package checker passes it
    (found,) = judge("PKG008", target)
    assert found.title == "torchvision 0.28.0+cu130 beside torch 2.13.0+cpu"
    assert last_line(imports("import torchvision", mixed)) == found.predicted_error
    assert judge("PKG008", measured(whole)) == []
    assert imports("import torchvision", whole).returncode == 0


# PKG009


def test_a_package_for_another_python_is_refused_by_pip_too(environment: Path, tmp_path: Path) -> None:
    newer = wheel(
        tmp_path,
        "future",
        requires_python=f">=3.{sys.version_info[1] + 1}",
        files={"future_thing.py": "x = = 1\n"},
    )
    with pytest.raises(AssertionError, match="requires a different Python"):
        pip_install(environment, newer)
    site = unpack(newer, tmp_path / "site")
    (found,) = judge("PKG009", measured(site))
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert last_line(imports("import future_thing", site)).startswith("SyntaxError")


def test_a_healthy_environment_has_no_finding(environment: Path, tmp_path: Path) -> None:
    root = wheel(tmp_path, "root", requires=["leaf[fast]>=1"], requires_python=">=3.6")
    leaf = wheel(tmp_path, "leaf", "1.5", extras=["fast"], requires=["speedups; extra == 'fast'"])
    pip_install(environment, root, leaf, wheel(tmp_path, "speedups"))
    try:
        target = measured(python=environment)
        copy = shutil.copytree(site_packages(environment), tmp_path / "copy")
        moved = measured(copy)
    finally:
        pip(environment, "uninstall", "-y", "root", "leaf", "speedups")
    codes = [rule.code for rule in all_rules() if rule.code.startswith("PKG")]
    assert [finding for code in codes for finding in judge(code, target, target)] == []
    assert [finding for code in codes for finding in judge(code, target, moved) if code == "PKG005"] == []
