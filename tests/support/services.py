"""Environments of an inference service, and what really happens in them, beside the first screen of a report.

A use is what a service does with one distribution: it imports it and computes a little. ``tried`` makes every use in a
process of its own; ``judge`` runs ``driftcheck diff`` and compares: what fails must stand on the first screen, by its
title and with its error, and nothing may stand there that does not fail.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from driftcheck.findings import Confidence, Finding, Impact
from driftcheck.report import model
from support.commands import driftcheck
from support.wheels import clean_environment

# What a terminal shows that nobody has made larger.
ROWS, COLUMNS = 24, 80

# Onnxruntime imports half of itself and goes on where NumPy does not fit: arrays have to go in, and come out.
USES: Mapping[str, str] = {
    "cffi": "import cffi; cffi.FFI().new('int[]', 2)",
    "cryptography": "from cryptography.fernet import Fernet as F; k = F(F.generate_key()); k.decrypt(k.encrypt(b'1'))",
    "huggingface-hub": "import huggingface_hub; huggingface_hub.hf_hub_download",
    "numpy": "import numpy; numpy.linalg.inv(numpy.eye(3))",
    "onnxruntime": "import onnxruntime as o, numpy; o.OrtValue.ortvalue_from_numpy(numpy.ones(2)).numpy()",
    "opencv-python": "import cv2, numpy; cv2.resize(numpy.zeros((4, 4, 3), numpy.uint8), (2, 2))",
    "opencv-python-headless": "import cv2, numpy; cv2.resize(numpy.zeros((4, 4, 3), numpy.uint8), (2, 2))",
    "pandas": "import pandas; pandas.DataFrame({'a': [1, 2]}).a.mean()",
    "pillow": "from PIL import Image; Image.new('RGB', (4, 4)).resize((2, 2))",
    "protobuf": "from google.protobuf import struct_pb2; struct_pb2.Struct().SerializeToString()",
    "pyarrow": "import pyarrow, numpy; pyarrow.array(numpy.arange(3)).to_numpy()",
    "pycparser": "import pycparser; pycparser.CParser().parse('int a;')",
    "pyyaml": "import yaml; yaml.safe_load('a: 1')",
    "requests": "import requests; requests.Session()",
    "safetensors": "from safetensors.numpy import load, save; import numpy; load(save({'a': numpy.ones(2)}))",
    "scikit-learn": "from sklearn.linear_model import Ridge as R; R().fit([[0], [1]], [0, 1]).predict([[2]])",
    "scipy": "import scipy.stats; scipy.stats.norm.cdf(0)",
    "tokenizers": "from tokenizers import Tokenizer, models; Tokenizer(models.BPE({'a': 0}, [])).encode('a')",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """An environment: ``reference`` leads driftcheck there, ``command`` starts its Python."""

    reference: str
    command: tuple[str, ...]


def fetch(python: Path | str, *requirements: str, options: Sequence[str] = ()) -> None:
    """Install from the registry with the pip of an interpreter; without their own requirements."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--only-binary=:all:", *options, *requirements],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr[-2000:]


def tried(place: Place, names: Sequence[str]) -> dict[str, str]:
    """What each use of a distribution prints where it fails; those that work are not in it."""

    def one(name: str) -> tuple[str, str]:
        # With the bytecode that an interpreter keeps: it is what makes a second import quick.
        environment = {key: value for key, value in clean_environment().items() if key != "PYTHONDONTWRITEBYTECODE"}
        command = [*place.command, "-c", USES[name]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
        return name, (done.stderr or f"it ended with {done.returncode}") if done.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        return {name: printed for name, printed in pool.map(one, names) if printed}


@dataclass(frozen=True)
class Seen:
    """A comparison as its reader meets it: the first screen of the text, and the findings that the baseline lacks."""

    screen: Sequence[str]
    findings: Sequence[Finding]

    @property
    def breaking(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.impact is Impact.BREAKS]

    def shows(self, finding: Finding) -> bool:
        """Whether it stands there by its code and as much of its title as fits, or below a cause that does."""
        rows = (
            re.fullmatch(r" *[A-Z][A-Z ]+  ([A-Z]{2,3}\d{3})  (.+?)(?:\.\.\.| \([a-z]+\))?", row) for row in self.screen
        )
        if any(row and row[1] == finding.code and finding.title.startswith(row[2]) for row in rows):
            return True
        causes = [one for one in self.findings if one.identity == finding.caused_by]
        return any(self.shows(cause) for cause in causes)


def compared(folder: Path, baseline: str | Path, target: str, *options: str) -> Seen:
    """``driftcheck diff`` of two references in a terminal of 80 columns; its exit code is that of its findings."""
    saved = folder / "report.json"
    arguments = ("diff", baseline, target, *options, "--output-file", f"json={saved}")
    done = driftcheck(*arguments, environ={"COLUMNS": str(COLUMNS)}, cwd=folder)
    assert saved.is_file(), done.everything
    report = model.parse(saved.read_bytes(), saved.name)
    (told,) = report.targets
    found = [finding for finding in told.explanation.findings if not finding.also_in_baseline]
    seen = Seen(done.out.splitlines()[:ROWS], found)
    assert done.code == int(any(one.confidence is not Confidence.POSSIBLE for one in seen.breaking)), done.everything
    return seen


def judge(seen: Seen, failed: Mapping[str, str], worked: Container[str] = USES) -> None:
    """Fail where something fails that is not predicted, where a prediction is made up, or has another text.

    ``failed``  what ``tried`` says of the target
    ``worked``  what worked in the baseline: only of these is anything to be said
    """
    new = {name: printed for name, printed in failed.items() if name in worked}
    ends = {name: printed.strip().splitlines()[-1] for name, printed in new.items()}
    screen = "\n".join(seen.screen)
    predicted: set[str] = set()
    for finding in seen.breaking:
        assert seen.shows(finding), f"not on the first screen: {finding.title}\n{screen}"
        error, about = finding.predicted_error, finding.subject.name.partition(" -> ")[0]
        printing = {name for name, printed in new.items() if error and error in printed}
        # Where several fail, one of them may fail in the words of another that it imports; what is certain may not.
        assert printing or not error, f"{finding.code}: nothing printed {error}: {ends}"
        real = {about} & new.keys() if about in USES else printing
        real = real & printing if finding.confidence is Confidence.CERTAIN and error else real
        assert real, f"{finding.code} {finding.title} is not what happens: {ends}"
        predicted |= real | printing
    assert predicted == new.keys(), f"missed: { {name: ends[name] for name in new.keys() - predicted} }"
