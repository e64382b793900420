"""Real wheels, whole and broken: what their imports print, and what was predicted (pytest --network)."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import engine
from support.compiled import imported, measured
from support.loader_matrix import Case, judged, report, row
from support.wheels import PROBES, clean_environment

from driftcheck.findings import Confidence, Impact
from driftcheck.rules import all_rules, contradictions
from driftcheck.rules.base import Contradiction

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the dynamic loader of Linux")


def install(folder: Path, *requirements: str, options: tuple[str, ...] = ()) -> Path:
    """Install wheels into a directory."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--target", str(folder), *options, *requirements],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_the_environment_of_these_tests_is_healthy() -> None:
    site = next(entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    target = measured(site)
    found = [
        (one.code, one.title)
        for rule in all_rules()
        if rule.code.startswith("LIB") and isinstance(rule, Contradiction)
        for one in rule.check(target, None)
    ]
    assert found == []


@pytest.mark.network
def test_scikit_learn_with_its_libgomp_deleted(tmp_path: Path) -> None:
    site = install(tmp_path / "site", "scikit-learn")
    whole = row("scikit-learn as it came", Case("sklearn", None), site)
    assert whole.findings == ()
    (libgomp,) = (site / "scikit_learn.libs").glob("libgomp*")
    libgomp.unlink()
    broken = row("scikit-learn without its libgomp", Case("sklearn", "LIB001"), site)
    report([whole, broken], "Wheels")
    (found,) = broken.findings
    assert found.confidence is Confidence.CERTAIN
    assert found.fix[0].text.startswith("python -m pip install --force-reinstall --no-deps scikit-learn==")


PARALLEL_LOOP = """
import numba
@numba.njit(parallel=True)
def total(numbers):
    result = 0
    for index in numba.prange(numbers):
        result += index
    return result
total(10)
print(numba.threading_layer())
"""


def without_library(module: Path, soname: str) -> None:
    """As on a system that does not have it: another name of the same length, which none has."""
    data = module.read_bytes()
    assert soname.encode() in data
    module.write_bytes(data.replace(soname.encode(), b"libgone"[: len(soname)] + soname[7:].encode()))


@pytest.mark.network
def test_numba_without_the_libraries_of_its_layers_of_threads(tmp_path: Path) -> None:
    """It tries one after the other, and takes the layer that needs no library; what it imports itself it needs."""
    site = install(tmp_path / "site", "numba")
    (site / "driftcheck_loop.py").write_text(PARALLEL_LOOP)
    folder = site / "numba/np/ufunc"
    for module, soname in (("tbbpool", "libtbb.so.12"), ("omppool", "libgomp.so.1.0.0")):
        (path,) = folder.glob(f"{module}.*.so")
        without_library(path, soname)
    loop = [sys.executable, "-S", str(site / "driftcheck_loop.py")]
    done = subprocess.run(loop, capture_output=True, text=True, check=True, env=clean_environment())
    assert done.stdout == "workqueue\n"
    target = measured(site)
    assert judged(target) == ()
    (rule,) = (rule for rule in contradictions() if rule.code == "LIB001")
    found = list(rule.check(target, None))
    assert [(one.impact, one.confidence) for one in found] == [(Impact.NOTE, Confidence.LIKELY)] * 2
    assert all("and takes numba.np.ufunc.workqueue." in one.explanation for one in found)

    (path,) = folder.glob("_internal.*.so")
    without_library(path, "libm.so.6")
    broken = row("numba without a library of its own", Case("numba", "LIB001"), site)
    report([broken], "Numba")
    (breaks,) = broken.findings
    assert breaks.confidence is Confidence.CERTAIN
    assert "`import numba` fails: numba/__init__.py" in breaks.explanation


# Wheels of releases that were built with NumPy 1 alone; there are none for later Pythons. This onnxruntime goes on
# half-initialised; the next one for Python 3.12 says the same and then raises an ImportError without a text.
GOES_ON = sys.version_info < (3, 12)
NUMPY_1 = (
    "opencv-python-headless==4.8.1.78",
    "pandas==2.1.4",
    "onnxruntime==1.15.1" if GOES_ON else "onnxruntime==1.17.0",
)


@pytest.mark.network
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="no wheels of NumPy 1's time for this Python")
def test_builds_for_numpy_1_on_numpy_2(tmp_path: Path) -> None:
    new = ("numpy>=2,<3", "python-dateutil", "pytz", "six", "tzdata")
    site = install(tmp_path / "site", *NUMPY_1, *new, options=("--no-deps",))
    predictions = {found.subject.name: found for found in judged(measured(site)) if found.code == "LIB011"}
    assert set(predictions) == {"opencv-python-headless", "pandas", "onnxruntime"}
    assert imported("cv2", site).line == predictions["opencv-python-headless"].predicted_error
    assert imported("pandas", site).line == predictions["pandas"].predicted_error
    half = predictions["onnxruntime"]
    assert "half-initialised" in half.explanation
    printed = subprocess.run(
        [sys.executable, "-S", "-c", "import onnxruntime.capi._pybind_state"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment() | {"PYTHONPATH": str(site)},
    )
    assert (printed.returncode == 0) is GOES_ON
    assert str(half.predicted_error) in printed.stderr


@pytest.fixture
def bookworm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A minimal Debian 12 with Python 3.11, and a directory inside of it for this test alone."""
    reason = engine.missing("debootstrap", "chroot")
    if reason:
        pytest.skip(reason)
    root = engine.debian("bookworm", tmp_path_factory.getbasetemp())
    name = f"/opt/driftcheck-{secrets.token_hex(4)}"
    shutil.copytree(PROBES, Path(f"{root}{name}/probes"), ignore=shutil.ignore_patterns("__pycache__"))
    yield root, name
    shutil.rmtree(f"{root}{name}")


@pytest.mark.network
@pytest.mark.engine
def test_opencv_in_a_slim_image(bookworm: tuple[Path, str]) -> None:
    """The need is two libraries down: the Qt that the wheel bundles asks for libGL."""
    root, name = bookworm
    for_it = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux2014_x86_64", "--no-deps")
    install(Path(f"{root}{name}/site"), "opencv-python==4.11.0.86", "numpy==1.26.4", options=for_it)
    chroot = ("chroot", str(root), "/usr/bin/python3")
    one = row("opencv-python", Case("cv2", "LIB001"), f"{name}/site", before=chroot, probes=f"{name}/probes")
    report([one], "A slim image")
    found = next(found for found in one.findings if found.predicted_error == one.truth.line)
    assert "libGL.so.1" in found.subject.name
    assert found.confidence is Confidence.CERTAIN
    assert "which needs libGL.so.1" in found.explanation
