"""Model files that real libraries of several versions wrote, loaded for real by others: what failed, and what was said.

Every file is written by one environment and loaded by each; the error of a load is compared with the findings about
that file, word for word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import interpreters
from support.commands import driftcheck
from support.wheels import clean_environment, site_packages, virtual_environment
from support.wheels import install as install_wheel

# Environments by name: what is installed, without further requirements.
OLD = (
    "joblib==1.2.0", "numpy==1.25.2", "onnxruntime==1.16.3", "safetensors==0.4.0", "scikit-learn==1.2.2",
    "scipy==1.11.4", "tokenizers==0.19.1",
)  # fmt: skip
MIDDLE = (
    "joblib==1.4.2", "numpy==1.26.4", "onnxruntime==1.20.1", "safetensors==0.5.3", "scikit-learn==1.5.2",
    "scipy==1.13.1",
)  # fmt: skip
NEW = (
    "gguf>=0.10", "joblib==1.5.2", "lz4", "ml_dtypes", "numpy==2.3.3", "onnx==1.20.1", "onnxruntime==1.23.2",
    "pyyaml", "safetensors==0.7.0", "scikit-learn==1.7.2", "scipy==1.16.2", "tokenizers>=0.22", "tqdm",
)  # fmt: skip
NEEDS = ("protobuf", "threadpoolctl", "typing-extensions")
NEEDS_OF_TORCH = (
    "filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy<1.14",
    "typing-extensions",
)  # fmt: skip
TORCH = "torch==2.13.0"

WRITE_SCIKIT_LEARN = """
import pickle, sys
import joblib, numpy as np
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
tag = sys.argv[1]
x = np.random.RandomState(0).rand(60, 4)
y = (x[:, 0] > 0.5).astype(int)
models = {
    'forest': RandomForestClassifier(3, random_state=0),
    'line': make_pipeline(StandardScaler(), LogisticRegression()),
    'boosted': GradientBoostingClassifier(n_estimators=3),
    'hist': HistGradientBoostingClassifier(max_iter=3),
}
for name, model in models.items():
    model.fit(x, y)
    with open(f'{tag}-{name}.pkl', 'wb') as file:
        pickle.dump(model, file)
    joblib.dump(model, f'{tag}-{name}.joblib')
for how in ('zlib', 'gzip', 'bz2', 'xz', 'lzma'):
    joblib.dump(models['line'], f'{tag}-line-{how}.joblib', compress=(how, 3))
joblib.dump({'o': np.array([{}, 'x'], dtype=object), 's': np.array(['abc', 'd'])}, f'{tag}-objects.joblib')
with open(f'{tag}-random.pkl', 'wb') as file:
    pickle.dump(np.random.RandomState(1), file)
"""

WRITE_NEW = """
import shutil
from pathlib import Path
import gguf, joblib, numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

def model(ir, opset, domain=''):
    x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 4])
    weights = numpy_helper.from_array(np.ones((1, 4), np.float32), 'w')
    node = helper.make_node('Add', ['x', 'w'], ['y'], domain=domain)
    imports = [helper.make_opsetid('', opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    made = helper.make_model(helper.make_graph([node], 'g', [x], [y], [weights]), opset_imports=imports)
    made.ir_version = ir
    return made

for ir, opset in ((8, 17), (9, 20), (10, 21), (10, 23), (11, 23), (12, 24), (13, 25)):
    onnx.save(model(ir, opset), f'model-{ir}-{opset}.onnx')
onnx.save(model(8, 17, 'com.acme'), 'custom.onnx')
for name in ('whole', 'gone', 'short'):
    Path(name).mkdir()
    onnx.save(model(8, 17), f'{name}/m.onnx', save_as_external_data=True, location='w.bin', size_threshold=0)
Path('gone/w.bin').unlink()
Path('short/w.bin').write_bytes(bytes(8))
data = Path('model-8-17.onnx').read_bytes()
Path('cut.onnx').write_bytes(data[:-40])

save_file({'a': np.ones((4, 4), np.float32), 'b': np.ones(3, np.int64)}, 'whole.safetensors')
data = Path('whole.safetensors').read_bytes()
Path('cut.safetensors').write_bytes(data[:-10])
Path('cut-header.safetensors').write_bytes(data[:30])
Path('tiny.safetensors').write_bytes(data[:5])
Path('long.safetensors').write_bytes(data + b'xx')
Path('empty.safetensors').write_bytes(b'')
for kind, name in (('F8_E4M3', 'f8'), ('F8_E8M0', 'f8e8'), ('C64', 'complex')):
    size = 16 if kind == 'C64' else 2
    header = b'{"a":{"dtype":"%s","shape":[2],"data_offsets":[0,%d]}}' % (kind.encode(), size)
    Path(f'{name}.safetensors').write_bytes(len(header).to_bytes(8, 'little') + header + bytes(size))

writer = gguf.GGUFWriter('whole.gguf', 'llama')
writer.add_array('tokens', ['a', 'bb'])
writer.add_tensor('t', np.ones((4, 32), np.float32))
writer.add_tensor('q', np.zeros((2, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
writer.add_tensor('z', np.ones(3, np.float16))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
Path('cut.gguf').write_bytes(Path('whole.gguf').read_bytes()[:-40])

tokenizer = Tokenizer(models.BPE(vocab={'a': 0, 'b': 1, 'ab': 2}, merges=[('a', 'b')]))
tokenizer.save('tokenizer.json')
joblib.dump({'a': np.ones(5)}, 'packed-lz4.joblib', compress='lz4')
pointer = 'version https://git-lfs.github.com/spec/v1\\noid sha256:' + 'a' * 64 + '\\nsize 12345\\n'
for name in ('pointer.onnx', 'pointer.safetensors', 'pointer.pkl', 'pointer.joblib'):
    Path(name).write_text(pointer)
for ending in ('onnx', 'safetensors', 'pkl', 'joblib'):
    Path(f'zeros.{ending}').write_bytes(bytes(5000))
    Path(f'page.{ending}').write_text('<!DOCTYPE html><html><body>Not found</body></html>\\n' * 20)
Path('empty.onnx').write_bytes(b'')
Path('empty.pkl').write_bytes(b'')
"""

WRITE_TORCH = """
import argparse, collections, pathlib
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
torch.save(model.state_dict(), 'state.pt')
torch.save(model, 'module.pt')
torch.save({'model': model.state_dict(), 'args': argparse.Namespace(lr=1)}, 'checkpoint.pt')
torch.save({'p': pathlib.Path('x')}, 'path.pt')
torch.save({'set': {1, 2}, 'c': 1 + 2j, 'b': b'abc', 'counter': collections.Counter('a')}, 'values.pt')
torch.save(torch.optim.Adam(model.parameters()).state_dict(), 'optimizer.pt')
torch.save(model.state_dict(), 'old-format.pt', _use_new_zipfile_serialization=False)
torch.save({'p': pathlib.Path('x')}, 'old-format-path.pt', _use_new_zipfile_serialization=False)
torch.save(model.state_dict(), 'protocol-4.pt', pickle_protocol=4)
data = open('state.pt', 'rb').read()
open('cut.pt', 'wb').write(data[: len(data) // 2])
open('pointer.pt', 'w').write('version https://git-lfs.github.com/spec/v1\\noid sha256:' + 'a' * 64 + '\\nsize 1\\n')
"""

LOAD = """
import json, os, sys, traceback, warnings
warnings.simplefilter('ignore')
def load(path):
    if path.endswith('.joblib'):
        import joblib
        joblib.load(path)
    elif path.endswith('.pkl'):
        import pickle
        with open(path, 'rb') as file:
            pickle.load(file)
    elif path.endswith('.onnx'):
        import onnxruntime
        onnxruntime.set_default_logger_severity(4)
        onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    elif path.endswith('.safetensors'):
        from safetensors import safe_open
        with safe_open(path, 'np') as file:
            file.keys()
    elif path.endswith('tokenizer.json'):
        from tokenizers import Tokenizer
        Tokenizer.from_file(path)
    elif path.endswith('.pt'):
        import torch
        torch.load(path)
    else:
        return False
    return True
said = {}
for path in json.loads(sys.argv[1]):
    try:
        if load(path):
            said[path] = ''
    except BaseException as error:
        said[path] = ''.join(traceback.format_exception_only(type(error), error))
print('\\n' + json.dumps(said))
"""


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-deps", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def run(python: Path, code: str, folder: Path, *arguments: str) -> str:
    command = [str(python), "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=clean_environment(), timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def environment(folder: Path, base: str, *requirements: str) -> Path:
    """A virtual environment of another interpreter of this machine."""
    subprocess.run([base, "-m", "venv", str(folder)], check=True, env=clean_environment(), timeout=120)
    python = folder / "bin" / "python"
    install(python, *requirements)
    return python


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    """A directory that does not stay with pytest's other files: three environments take a gigabyte."""
    folder = Path(tempfile.mkdtemp(prefix="driftcheck-models-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def environments(room: Path) -> dict[str, Path]:
    of_their_time = [path for version, path in interpreters.supported().items() if version in {(3, 11), (3, 10)}]
    if not of_their_time:
        pytest.skip("no wheels of NumPy 1's time for this Python")
    base = of_their_time[-1]
    newest = virtual_environment(room / "new", with_pip=True)
    install(newest, *NEW, *NEEDS)
    return {
        "old": environment(room / "old", base, *OLD, *NEEDS),
        "middle": environment(room / "middle", base, *MIDDLE, *NEEDS),
        "new": newest,
    }


@pytest.fixture(scope="module")
def models(room: Path, environments: dict[str, Path]) -> Path:
    folder = room / "models"
    folder.mkdir()
    for tag, python in environments.items():
        run(python, WRITE_SCIKIT_LEARN, folder, tag)
    run(environments["new"], WRITE_NEW, folder)
    return folder


def names_in(folder: Path) -> list[str]:
    """The model files of a directory, not those of an environment in it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] not in {"venv", "wheels"})


def findings(python: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What is said of each file, by its name."""
    named = [word for name in names_in(folder) for word in ("--artifact", name)]
    result = driftcheck("check", f"python:{python}", *named, "--format", "json", "--fail-on", "never", cwd=folder)
    assert result.code == 0, result.err
    said: dict[str, list[dict[str, Any]]] = {name: [] for name in names_in(folder)}
    for finding in json.loads(result.out)["targets"][0]["findings"]:
        if finding["code"].startswith("ART"):
            said[finding["subject"]["name"]].append(finding)
    return said


def loaded(python: Path, folder: Path) -> dict[str, str]:
    """What each load printed; empty where it succeeded."""
    out = run(python, LOAD, folder, json.dumps(names_in(folder)))
    printed: dict[str, str] = json.loads(out.splitlines()[-1])
    return printed


def breaking(said: list[dict[str, Any]], confidences: tuple[str, ...]) -> list[dict[str, Any]]:
    return [one for one in said if one["impact"] == "breaks" and one["confidence"] in confidences]


Reading = tuple[dict[str, list[dict[str, Any]]], dict[str, str]]


@pytest.fixture(scope="module")
def readings(environments: dict[str, Path], models: Path) -> dict[str, Reading]:
    """What was said of each file and what its load printed, by environment."""
    return {name: (findings(python, models), loaded(python, models)) for name, python in environments.items()}


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="the environments are laid out as on POSIX")
@pytest.mark.parametrize("reader", ["old", "middle", "new"])
def test_what_fails_was_predicted_in_its_words(readings: dict[str, Reading], reader: str) -> None:
    said, printed = readings[reader]
    wrong = []
    failures = 0
    for name, text in printed.items():
        if name == "tokenizer.json" and reader == "middle":
            continue  # it has no tokenizers
        failures += bool(text)
        found = breaking(said[name], ("certain", "likely", "possible"))
        if text:
            texts = [one["predicted_error"] for one in found if one["predicted_error"]]
            if not found or (texts and not any(one in text for one in texts)):
                wrong.append((name, text[:300], texts))
        elif breaking(said[name], ("certain", "likely")):
            wrong.append((name, "it loads", [one["title"] for one in found]))
    assert wrong == []
    # An environment that reads everything, or nothing, would show nothing.
    assert {"old": 25, "middle": 10, "new": 10}[reader] < failures < len(printed)


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="the environments are laid out as on POSIX")
def test_what_is_certain_is_printed_in_full(readings: dict[str, Reading]) -> None:
    seen = set()
    for said, printed in readings.values():
        for name, found in said.items():
            for one in breaking(found, ("certain",)):
                assert printed[name].splitlines()[0] == one["predicted_error"], name
                seen.add((one["code"], one["predicted_error"]))
    assert {code for code, _ in seen} == {"ART012", "ART013"}
    assert len(seen) >= 8


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="the environments are laid out as on POSIX")
def test_estimators_warn_as_predicted(
    environments: dict[str, Path], models: Path, readings: dict[str, Reading]
) -> None:
    code = "import warnings, joblib; warnings.simplefilter('error'); joblib.load('old-line.joblib')"
    for name in ("middle", "new"):
        (found,) = readings[name][0]["old-line.joblib"]
        command = [str(environments[name]), "-c", code]
        done = subprocess.run(command, cwd=models, capture_output=True, text=True, check=False, timeout=120)
        assert found["code"] == "ART006"
        assert found["predicted_error"] in done.stderr


@pytest.fixture(scope="module")
def torch(room: Path) -> Path:
    python = virtual_environment(room / "torch", with_pip=True)
    install(python, TORCH, "numpy", *NEEDS_OF_TORCH)
    version = run(python, "import importlib.metadata as m; print(m.version('torch'))", room)
    if "+cpu" not in version:
        pytest.skip("the registry has no CPU build of torch for this Python")
    return python


@pytest.mark.network
@pytest.mark.skipif(os.name != "posix", reason="the environments are laid out as on POSIX")
def test_what_torch_refuses(torch: Path, room: Path) -> None:
    folder = room / "torch-models"
    folder.mkdir()
    run(torch, WRITE_TORCH, folder)
    said, printed = findings(torch, folder), loaded(torch, folder)
    assert len(printed) == 11
    for name, text in printed.items():
        found = breaking(said[name], ("certain", "likely", "possible"))
        assert bool(found) == bool(text), (name, text, found)
        for one in found:
            assert one["predicted_error"] in text, name
    whole = {name for name, text in printed.items() if not text}
    assert whole == {"state.pt", "values.pt", "optimizer.pt", "old-format.pt"}


@pytest.mark.interpreters
@pytest.mark.parametrize("version", sorted(interpreters.supported()))
def test_a_pickle_protocol_on_every_python(tmp_path: Path, version: tuple[int, int]) -> None:
    python = interpreters.supported()[version]
    (tmp_path / "five.pkl").write_bytes(b"\x80\x05]\x94.")
    code = "import pickle; pickle.load(open('five.pkl', 'rb'))"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    found = findings(Path(python), tmp_path)["five.pkl"]
    assert [one["predicted_error"] for one in found] == ([done.stderr.splitlines()[-1]] if done.returncode else [])
    assert bool(found) == (version < (3, 8))


@pytest.mark.skipif(sys.platform == "win32", reason="paths of POSIX")
def test_a_class_of_another_program(tmp_path: Path) -> None:
    write = "import pickle\nclass Model: pass\npickle.dump(Model(), open('m.pkl', 'wb'))"
    run(Path(sys.executable), write, tmp_path)
    code = "import pickle; pickle.load(open('m.pkl', 'rb'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    (found,) = findings(Path(sys.executable), tmp_path)["m.pkl"]
    assert found["code"] == "ART021"
    assert found["predicted_error"] in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="the environments are laid out as on POSIX")
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_class_that_came_with_a_newer_version(tmp_path: Path, protocol: int) -> None:
    python = virtual_environment(tmp_path / "venv")
    site = site_packages(python)
    install_wheel(
        site, "demo", "2.0", files={"demo/__init__.py": "", "demo/layers.py": "class New: pass\nclass Old: pass\n"}
    )
    write = (
        "import pickle, demo.layers as d\n"
        f"pickle.dump([d.Old(), d.New()], open('new.pkl', 'wb'), {protocol})\n"
        f"pickle.dump(d.Old(), open('old.pkl', 'wb'), {protocol})"
    )
    run(python, write, tmp_path)
    (site / "demo" / "layers.py").write_text("class Old: pass\n")
    said, printed = findings(python, tmp_path), loaded(python, tmp_path)
    (found,) = said["new.pkl"]
    assert (found["code"], found["confidence"]) == ("ART023", "likely")
    assert printed["new.pkl"].startswith(found["predicted_error"])
    assert (said["old.pkl"], printed["old.pkl"]) == ([], "")
