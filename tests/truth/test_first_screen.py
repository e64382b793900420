"""What really breaks is on the first screen, and nothing is made up: a service on another NumPy, both ways.

Two services of one kind, of NumPy 1's time and of NumPy 2's. Each works as it is; then somebody installs the other
NumPy, and pip does. What is printed then is the truth (pytest --network).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import driftcheck
from support.services import Place, compared, fetch, judge, tried
from support.wheels import clean_environment, virtual_environment

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="no wheels of NumPy 1's time for this Python"),
]

NEEDS = (
    "cloudpickle", "flatbuffers", "joblib", "packaging", "protobuf", "python-dateutil", "pytz", "six", "threadpoolctl",
    "typing-extensions", "tzdata",
)  # fmt: skip
# Before pyarrow 26, which asks for NumPy 2 when it is imported, one pyarrow is for both.
SERVICES = {
    "of NumPy 1": (
        "numpy==1.26.4", "onnxruntime==1.17.0", "opencv-python-headless==4.8.1.78", "pandas==2.1.4", "pyarrow==25.0.1",
        "scikit-learn==1.3.2", "scipy==1.11.4",
    ),
    "of NumPy 2": (
        "numpy==2.3.3", "onnxruntime==1.23.2", "opencv-python-headless==4.11.0.86", "pandas==2.3.3", "pyarrow==26.0.1",
        "scikit-learn==1.7.2", "scipy==1.16.2",
    ),
}  # fmt: skip
# With the other NumPy: what fails of each. To make an array pyarrow looks for pandas, and scikit-learn for pyarrow.
OTHER = {"of NumPy 1": "numpy==2.3.3", "of NumPy 2": "numpy==1.26.4"}
FAIL = {
    "of NumPy 1": {"onnxruntime", "opencv-python-headless", "pandas", "pyarrow", "scikit-learn", "scipy"},
    "of NumPy 2": {"pyarrow", "scikit-learn"},
}
USED = [requirement.partition("==")[0] for requirement in SERVICES["of NumPy 1"]]


@dataclass(frozen=True)
class Service:
    """An environment that works, and its snapshot."""

    place: Place
    snapshot: Path

    @property
    def python(self) -> str:
        return self.place.command[0]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Service]:
    made: dict[str, Service] = {}

    def make(name: str) -> Service:
        if name not in made:
            folder = tmp_path_factory.mktemp("service")
            python = virtual_environment(folder / "venv", with_pip=True)
            fetch(python, *SERVICES[name], *NEEDS, options=("--no-compile",))
            place = Place(f"python:{python}", (str(python),))
            assert tried(place, USED) == {}
            taken = driftcheck("snapshot", place.reference, "-o", folder / "snapshot.json")
            assert taken.code == 0, taken.err
            made[name] = Service(place, folder / "snapshot.json")
        return made[name]

    return make


def typed(python: str, script: str) -> None:
    """A line of the report, in a shell where the environment is the active one."""
    environment = clean_environment() | {"PATH": f"{Path(python).parent}:/usr/bin:/bin"}
    command = ["sh", "-e", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{script}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("name", SERVICES)
def test_another_numpy(name: str, service: Callable[[str], Service], tmp_path: Path) -> None:
    one = service(name)
    fetch(one.python, OTHER[name], options=("--no-compile",))
    failed = tried(one.place, USED)
    seen = compared(tmp_path, one.snapshot, one.place.reference)
    typed(one.python, seen.breaking[0].fix[0].text)
    assert failed.keys() == FAIL[name]
    judge(seen, failed)
    # The first line that is to be typed brings it back, and then nothing is left to say.
    assert tried(one.place, sorted(failed)) == {}
    assert compared(tmp_path, one.snapshot, one.place.reference).findings == []


@pytest.mark.parametrize("pair", [("of NumPy 1", "of NumPy 2"), ("of NumPy 2", "of NumPy 1")], ids=" to ".join)
def test_between_two_services_that_work_nothing_breaks(
    pair: tuple[str, str], service: Callable[[str], Service], tmp_path: Path
) -> None:
    baseline, target = map(service, pair)
    judge(compared(tmp_path, baseline.snapshot, target.place.reference), tried(target.place, USED))
