"""Families NUM and ENV against what really happens: each breakage is made, and what was predicted is what is printed.

Without the registry: the interpreter, the C library and a program of OpenMP that gcc makes. With it (pytest
--network): NumPy, jax, requests, httpx, huggingface-hub, protobuf and tokenizers, and NumPy under qemu's processors.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.compiled import Builder, imported
from support.compiled import measured as probed
from support.snapshots import distribution, distributions, findings, python
from support.wheels import clean_environment

from driftcheck.environments import Options, snapshot_of
from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Confidence, Finding, Impact
from driftcheck.snapshot import Snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="variables and loader of Linux")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def run(*command: str, **variables: str) -> Ended:
    """What a program prints with these variables, and with no others that matter."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment() | variables
    )
    return Ended(done.returncode, done.stdout.strip(), done.stderr.strip())


MATTER = ("OMP_", "GOMP_", "OPENBLAS_", "MKL_", "NPY_", "JAX_", "XLA_", "HF_", "SSL_", "REQUESTS_", "CURL_", "LD_")


def environment() -> dict[str, str]:
    kept = clean_environment()
    return {name: value for name, value in kept.items() if not name.startswith((*MATTER, "PYTHON", "TZ"))}


def measured(monkeypatch: pytest.MonkeyPatch, interpreter: str = sys.executable, **variables: str) -> Snapshot:
    """A snapshot of an interpreter that is started with these variables."""
    with monkeypatch.context() as patch:
        for name in os.environ:
            if name.startswith((*MATTER, "PYTHON", "TZ")):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        return snapshot_of(f"python:{interpreter}", Options())


def of(code: str, baseline: Snapshot | None, target: Snapshot) -> dict[str, Finding]:
    """The findings of one rule, by the name of their subject."""
    explanation = explain_one(target) if baseline is None else explain_pair(baseline, target)
    assert not [entry for entry in explanation.not_judged if entry.code == code], explanation.not_judged
    return {finding.subject.name: finding for finding in explanation.findings if finding.code == code}


# Without the registry


def test_num006_the_order_of_a_set_hangs_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "print(list({'cat', 'dog', 'horse', 'mouse', 'bird', 'fish', 'cow', 'pig'}))"
    orders = {seed: {run(sys.executable, "-c", ask, PYTHONHASHSEED=seed).out for _ in range(2)} for seed in ("0", "1")}
    assert [len(found) for found in orders.values()] == [1, 1]
    assert orders["0"] != orders["1"]
    baseline = measured(monkeypatch, PYTHONHASHSEED="0")
    assert list(of("NUM006", baseline, measured(monkeypatch, PYTHONHASHSEED="1"))) == ["PYTHONHASHSEED"]
    assert list(of("NUM006", baseline, measured(monkeypatch))) == ["PYTHONHASHSEED"]
    assert of("NUM006", baseline, measured(monkeypatch, PYTHONHASHSEED="0")) == {}


def refused(packages: dict[str, Any], **values: str) -> Finding:
    """What ENV005 says of values with which no interpreter, or no library of this test, can be measured."""
    facts = {"variables": {name: {"value": value} for name, value in values.items()}}
    (found,) = findings("ENV005", variables=facts, packages=packages)
    return found


def test_env005_a_hash_seed_that_is_no_number() -> None:
    ended = run(sys.executable, "-c", "pass", PYTHONHASHSEED="abc")
    assert ended.code == 1
    assert ended.err.splitlines()[0] == refused(distributions(), PYTHONHASHSEED="abc").predicted_error


def test_num008_another_zone_makes_another_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import time; print(time.localtime(0).tm_hour)"
    zones = ("UTC0", "XYZ-5")
    assert [run(sys.executable, "-c", ask, TZ=zone).out for zone in zones] == ["0", "5"]
    utc, other = (measured(monkeypatch, TZ=zone) for zone in zones)
    assert of("NUM008", utc, other)["time-zone"].title == "Local time is that of XYZ-5 instead of UTC"
    assert of("NUM008", utc, utc) == {}


def test_box007_text_that_is_read_as_ascii(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("caf\N{LATIN SMALL LETTER E WITH ACUTE}", encoding="utf-8")
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    ended = run(sys.executable, "-c", f"open({str(tmp_path / 'labels.txt')!r}).read()", **ascii_only)
    (found,) = of("BOX007", None, measured(monkeypatch, **ascii_only)).values()
    assert found.impact is Impact.BREAKS
    assert ended.err.splitlines()[-1] == found.predicted_error
    # Any other encoding holds ASCII: the other way round nothing is lost, and NUM009 has nothing to say.
    assert of("NUM009", measured(monkeypatch, **ascii_only), measured(monkeypatch, PYTHONUTF8="1")) == {}


def test_env005_a_preloaded_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = str(tmp_path / "libjemalloc.so.2")
    ended = run(sys.executable, "-c", "print('goes on')", LD_PRELOAD=gone)
    assert ended.out == "goes on"
    found = of("ENV005", None, measured(monkeypatch, LD_PRELOAD=gone))["LD_PRELOAD"]
    assert found.impact is Impact.SLOWS
    assert found.predicted_error == ended.err.splitlines()[0]
    shutil.copy(Builder(tmp_path).library("empty.so"), gone)
    assert run(sys.executable, "-c", "pass", LD_PRELOAD=gone).err == ""
    assert of("ENV005", None, measured(monkeypatch, LD_PRELOAD=gone)) == {}


def test_env005_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509'])"
    gone = "/nonexistent/corp.pem"
    assert run(sys.executable, "-c", ask, SSL_CERT_FILE=gone).out == "0"
    found = of("ENV005", None, measured(monkeypatch, SSL_CERT_FILE=gone))["SSL_CERT_FILE"]
    assert found.impact is Impact.BREAKS
    assert found.title == f"SSL_CERT_FILE names a file that is not there: {gone}"


OPENMP = """
#include <stdio.h>
int main(void) {
    int threads = 0;
    #pragma omp parallel reduction(+:threads)
    threads += 1;
    printf("%d", threads);
    return 0;
}
"""


@pytest.fixture
def openmp(tmp_path: Path) -> str:
    """A program that counts the threads of libgomp."""
    program = tmp_path / "threads"
    subprocess.run(
        ["gcc", "-fopenmp", "-o", str(program), "-x", "c", "-"], input=OPENMP, text=True, check=True, timeout=60
    )
    return str(program)


def test_env005_a_number_of_threads_that_is_none(openmp: str) -> None:
    usual = run(openmp).out
    torch = distributions(distribution("torch", "2.13.0"))
    for value in ("500m", "0", "two"):
        ended = run(openmp, OMP_NUM_THREADS=value)
        found = refused(torch, OMP_NUM_THREADS=value)
        assert (ended.out, ended.err) == (usual, found.predicted_error)
    for value in ("1", " 1 ", "1,1"):
        assert run(openmp, OMP_NUM_THREADS=value) == Ended(0, "1", "")
        facts = {"variables": {"OMP_NUM_THREADS": {"value": value}}}
        assert findings("ENV005", variables=facts, packages=torch) == []


def test_env006_threads_on_a_cpu_that_is_not_there(openmp: str) -> None:
    online = os.cpu_count() or 1
    torch = distributions(distribution("torch", "2.13.0"))
    limits = {"cpus": {"affinity": online, "online": online}}
    # One CPU more than there are is one that the kernel refuses, unless libgomp's words of 64 bits are full.
    for value in (str(online), f"0-{online}") if online % 64 else ():
        ended = run(openmp, OMP_NUM_THREADS=str(online + 1), GOMP_CPU_AFFINITY=value)
        (found,) = findings("ENV006", variables=bound(value), limits=limits, packages=torch)
        assert ended.code != 0
        assert found.predicted_error == ended.err.splitlines()[-1]
    present = str(min(os.sched_getaffinity(0)))
    assert run(openmp, OMP_NUM_THREADS="2", GOMP_CPU_AFFINITY=present).code == 0
    assert findings("ENV006", variables=bound("0"), limits=limits, packages=torch) == []


def bound(cpus: str) -> dict[str, Any]:
    return {"variables": {"GOMP_CPU_AFFINITY": {"value": cpus}}}


def test_sys002_a_musl_module_on_glibc(tmp_path: Path) -> None:
    """A module that is linked against musl asks for a library that glibc's systems do not have."""
    builder = Builder(tmp_path / "site")
    musl = Builder(tmp_path / "musl").library("libc.musl-x86_64.so.1", defines=["from_musl"])
    builder.module("ext/_ext", calls=["from_musl"], links=[musl])
    builder.write("ext/__init__.py")
    ended = imported("ext._ext", tmp_path / "site")
    (found,) = findings(
        "SYS002",
        baseline={"python": python(platform={"libc": "musl"})},
        packages=distributions(distribution("ext", tags={"cp311-abi3-musllinux_1_2_x86_64": True})),
    )
    assert found.impact is Impact.BREAKS
    assert ended.line == "ImportError: libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory"
    assert "libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory" in " ".join(
        (type(rule_of("SYS002")).__doc__ or "").split()
    )


def rule_of(code: str) -> Any:
    from driftcheck.rules import all_rules  # noqa: PLC0415

    return next(rule for rule in all_rules() if rule.code == code)


# With the registry

STACK = (
    "numpy>=2.4",
    "jax>=0.10",
    "requests>=2.30",
    "httpx>=0.28",
    "huggingface-hub==0.23.5",
    "protobuf>=7",
    "tokenizers==0.20.3",
)
OLD = ("numpy==1.26.4", "tokenizers==0.19.1", "huggingface-hub==0.23.5")
OLDEST_PYTHON_OF_STACK, FIRST_WITHOUT_NUMPY_1 = (3, 11), (3, 13)


def made(folder: Path, requirements: Sequence[str]) -> str:
    """The interpreter of a new virtual environment that holds these."""
    venv.create(folder, with_pip=True, symlinks=True)
    interpreter = str(folder / "bin" / "python")
    done = subprocess.run(
        [interpreter, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return interpreter


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stack")
    yield made(folder, STACK)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if sys.version_info >= FIRST_WITHOUT_NUMPY_1:
        pytest.skip("no wheels of NumPy 1's time for this Python")
    folder = tmp_path_factory.mktemp("old")
    yield made(folder, OLD)
    shutil.rmtree(folder)


@pytest.mark.network
@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"HF_HUB_DOWNLOAD_TIMEOUT": "10s"}, "import huggingface_hub.constants"),
        ({"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp"}, "from google.protobuf import descriptor_pb2"),
        ({"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "rust"}, "from google.protobuf import descriptor_pb2"),
        ({"JAX_ENABLE_X64": "banana"}, "import jax"),
        ({"XLA_FLAGS": "xla_nonsense=1"}, "import jax.numpy; jax.numpy.ones(2)"),
        ({"NPY_DISABLE_CPU_FEATURES": "X86_V4", "NPY_ENABLE_CPU_FEATURES": "X86_V3"}, "import numpy"),
        ({"REQUESTS_CA_BUNDLE": "/nonexistent/corp.pem"}, "import requests; requests.get('https://127.0.0.1:1')"),
        ({"CURL_CA_BUNDLE": "/nonexistent/corp.pem"}, "import requests; requests.get('https://127.0.0.1:1')"),
        ({"SSL_CERT_FILE": "/nonexistent/corp.pem"}, "import httpx; httpx.Client()"),
        ({"HF_HUB_ENABLE_HF_TRANSFER": "1"}, "DOWNLOAD"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_env005_is_what_the_libraries_print(
    stack: str, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], code: str
) -> None:
    ended = run(stack, "-c", DOWNLOAD if code == "DOWNLOAD" else code, **values)
    assert ended.code != 0
    found = of("ENV005", None, measured(monkeypatch, stack, **values))
    assert list(found) == [next(iter(values))]
    (finding,) = found.values()
    assert finding.impact is Impact.BREAKS
    assert finding.predicted_error is not None
    assert finding.predicted_error in ended.err
    # Without the variable the same code fails for no reason of its own (nobody listens on that port), or not at all.
    assert finding.predicted_error not in run(stack, "-c", DOWNLOAD if code == "DOWNLOAD" else code).err


# huggingface_hub's own download of a large file, from a server in the same process.
DOWNLOAD = """
import http.server, io, threading
from huggingface_hub.file_download import http_get

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(20 << 20))
        self.end_headers()
        try:
            self.wfile.write(bytes(20 << 20))
        except OSError:
            pass

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open("/dev/null", "wb") as file:
    http_get(f"http://127.0.0.1:{server.server_port}/model", file, expected_size=20 << 20)
"""


@pytest.mark.network
def test_env007_more_threads_than_tasks(stack: str) -> None:
    """RLIMIT_NPROC does not bind root, so root goes on as another real user without the two capabilities."""
    other = ["setpriv", "--ruid=65534", "--bounding-set=-sys_resource,-sys_admin"] if os.getuid() == 0 else []
    limited = [*other, "prlimit", "--nproc=1:1", stack, "-c", "import numpy; print('imported')"]
    cpus = {"affinity": 2, "online": 2}
    (found,) = findings(
        "ENV007",
        limits={"cpus": cpus, "rlimits": {"nproc": [1, 1]}, "user": {"uid": 1000, "gid": 1000, "passwd_entry": True}},
        variables={"variables": {}},
        packages=distributions(distribution("numpy", "2.4.6")),
    )
    ended = run("taskset", "--cpu-list", two_cpus(), *limited)
    assert ended.code != 0
    assert ended.err.splitlines()[0] == found.predicted_error
    assert run(*limited, OPENBLAS_NUM_THREADS="1") == Ended(0, "imported", "")


def two_cpus() -> str:
    return ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:2])


@pytest.mark.network
def test_env004_a_flag_that_xla_does_not_know(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run(stack, "-c", "import jax.numpy; jax.numpy.ones(2)", XLA_FLAGS="--xla_nonsense=1")
    assert ended.code != 0
    found = of("ENV004", measured(monkeypatch, stack), measured(monkeypatch, stack, XLA_FLAGS="--xla_nonsense=1"))
    assert found["XLA_FLAGS"].predicted_error is not None
    assert found["XLA_FLAGS"].predicted_error in ended.err
    assert found["XLA_FLAGS"].confidence is Confidence.POSSIBLE


@pytest.mark.network
def test_env004_offline(stack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ask = "from huggingface_hub import hf_hub_download; hf_hub_download('no/model', 'config.json')"
    ended = run(stack, "-c", ask, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "offline" in ended.err.lower()
    found = of("ENV004", measured(monkeypatch, stack), measured(monkeypatch, stack, HF_HUB_OFFLINE="1"))
    assert found["HF_HUB_OFFLINE"].impact is Impact.BREAKS


@pytest.mark.network
def test_num005_jax_with_64_bits(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import jax.numpy; print(jax.numpy.ones(2).dtype)"
    assert [run(stack, "-c", ask, JAX_ENABLE_X64=value).out for value in ("0", "1")] == ["float32", "float64"]
    plain = measured(monkeypatch, stack)
    assert "JAX_ENABLE_X64" in of("NUM005", plain, measured(monkeypatch, stack, JAX_ENABLE_X64="1"))
    assert of("NUM005", plain, measured(monkeypatch, stack, JAX_ENABLE_X64="0")) == {}


@pytest.mark.network
def test_num002_and_num003_between_two_times(stack: str, old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "import numpy; print((numpy.float32(3) + 3.0).dtype)"
    assert [run(one, "-c", ask).out for one in (old, stack)] == ["float64", "float32"]
    before, after = measured(monkeypatch, old), measured(monkeypatch, stack)
    assert of("NUM002", before, after)["numpy"].confidence is Confidence.LIKELY
    assert of("NUM002", after, before)["numpy"].confidence is Confidence.LIKELY
    # A tokenizer that the newer one wrote, read by the older one.
    write = "from tokenizers import Tokenizer, models; Tokenizer(models.BPE({'a': 0, 'b': 1, 'ab': 2}, [('a', 'b')]))"
    written = run(stack, "-c", f"{write.replace('Tokenizer(models', 'print(Tokenizer(models')}.to_str())").out
    assert json.loads(written)["model"]["type"] == "BPE"
    read = f"from tokenizers import Tokenizer; print(Tokenizer.from_str({written!r}).encode('ab').ids)"
    assert run(stack, "-c", read).out == "[2]"
    found = of("NUM003", after, before)["tokenizers"]
    assert found.impact is Impact.BREAKS
    assert found.predicted_error is not None
    assert found.predicted_error in run(old, "-c", read).err
    assert of("NUM003", before, after)["text"].impact is Impact.CHANGES_RESULTS


@pytest.mark.network
@pytest.mark.skipif(platform.machine() != "x86_64", reason="Intel's OpenMP is for x86-64")
def test_lib007_two_copies_of_one_openmp_runtime(tmp_path: Path) -> None:
    """What happens where two wheels bundle it under names of their own: two modules, each with its copy."""
    (tmp_path / "wheels").mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path / "wheels")]
    subprocess.run([*command, "intel-openmp"], check=True, timeout=600, capture_output=True)
    (packed,) = (tmp_path / "wheels").glob("intel_openmp-*.whl")
    builder = Builder(tmp_path / "site")
    with zipfile.ZipFile(packed) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith("/libiomp5.so"))
        runtime = archive.read(member)
    for name in ("one", "two"):
        # The name by which a module asks for its copy has to be another one, or the loader takes the first for both.
        stub = Builder(tmp_path / name).library(f"libiomp5-{name}.so", defines=["omp_get_max_threads"])
        builder.module(f"{name}/_m", calls=["omp_get_max_threads"], links=[stub], runpath=f"$ORIGIN/../{name}.libs")
        builder.write(f"{name}.libs/libiomp5-{name}.so", runtime)
        builder.write(f"{name}/__init__.py")
        builder.distribution(name)
    assert not imported("one._m", tmp_path / "site").failed
    site = str(tmp_path / "site")
    ended = run(sys.executable, "-S", "-c", "import one._m, two._m", PYTHONPATH=site)
    (found,) = of("LIB007", None, probed(site)).values()
    assert ended.code == -signal.SIGABRT
    assert found.impact is Impact.BREAKS
    assert ended.err.splitlines()[0] == found.predicted_error


# qemu's user emulation chooses the processor, so these answers are the same on every machine.

QEMU = "qemu-x86_64"
COMPUTE = """
import hashlib, numpy
numbers = numpy.random.default_rng(0).standard_normal((100, 100)).astype("float32")
for made in (numpy.exp(numbers), numbers @ numbers):
    print(hashlib.sha256(made.tobytes()).hexdigest())
"""
emulated = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which(QEMU) is None, reason="x86-64 only, with qemu's user emulation"
)


def on(cpu: str, interpreter: str, code: str, **variables: str) -> Ended:
    return run(QEMU, "-cpu", cpu, interpreter, "-c", code, **variables)


@pytest.mark.network
@emulated
def test_cpu002_other_kernels_on_another_level(stack: str) -> None:
    newer, older = on("Haswell", stack, COMPUTE), on("Nehalem", stack, COMPUTE)
    assert newer.code == older.code == 0
    assert on("Haswell", stack, COMPUTE).out == newer.out
    assert all(one != other for one, other in zip(newer.out.split(), older.out.split(), strict=True))
    (found,) = findings(
        "CPU002",
        baseline={"machine": {"architecture": "x86_64", "level": "x86-64-v3"}},
        machine={"architecture": "x86_64", "level": "x86-64-v2"},
        packages=distributions(distribution("numpy", "2.4.6")),
    )
    assert (found.impact, found.confidence) == (Impact.CHANGES_RESULTS, Confidence.LIKELY)


@pytest.mark.network
@emulated
@pytest.mark.parametrize(
    ("variable", "value", "differs"),
    [("NPY_DISABLE_CPU_FEATURES", "X86_V3", 0), ("OPENBLAS_CORETYPE", "Nehalem", 1)],
)
def test_num005_other_kernels_by_a_variable(
    stack: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, differs: int
) -> None:
    plain, other = on("Haswell", stack, COMPUTE).out.split(), on("Haswell", stack, COMPUTE, **{variable: value})
    assert plain[differs] != other.out.split()[differs]
    found = of("NUM005", measured(monkeypatch, stack), measured(monkeypatch, stack, **{variable: value}))
    assert found[variable].confidence is Confidence.LIKELY


@pytest.mark.network
@emulated
def test_cpu003_numpy_on_a_processor_without_its_instructions(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = measured(monkeypatch, stack).sections["packages"].facts
    machine = {"architecture": "x86_64", "level": "x86-64-v1"}
    (found,) = findings("CPU003", machine=machine, packages=packages)
    assert found.predicted_error is not None
    assert on("Penryn", stack, "import numpy").err.endswith(found.predicted_error)
    # Where an illegal instruction comes before that check, the process is killed.
    assert on("qemu64", stack, "import numpy").code < 0
    assert on("Nehalem", stack, "import numpy").code == 0
    assert findings("CPU003", machine=machine | {"level": "x86-64-v2"}, packages=packages) == []
