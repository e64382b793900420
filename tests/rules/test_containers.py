"""Family BOX on made-up facts, and what really happens under such limits."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.rules.container_limits import BOX001
from driftcheck.rules.container_start import BOX010

GIGABYTE = 1 << 30
TORCH = distributions(distribution("torch", "2.12.0"))
HUB = distributions(distribution("huggingface-hub", "2.4.0"))


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def child(program: str, environ: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the Python of the tests, with nothing in its environment but what is given."""
    return subprocess.run(
        [sys.executable, *options, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    return process.stderr.strip().splitlines()[-1]


# BOX001


def shm(size: int | None) -> dict[str, Any]:
    return {"shm": {"path": "/dev/shm", "size_bytes": size, "filesystem": "tmpfs"}}


def test_box001_a_server_that_shares_tensors() -> None:
    (found,) = findings("BOX001", limits=shm(64 << 20), packages=distributions(distribution("vllm", "0.20")))
    assert judged(found) == ("breaks", "likely")
    assert found.title == "Shared memory has 64 MB, and vllm passes tensors between processes through it"
    assert found.fix[0].text == "--shm-size=8g"


def test_box001_torch_may_share_and_says_what_the_baseline_has() -> None:
    (found,) = findings("BOX001", limits=shm(64 << 20), packages=TORCH, baseline={"limits": shm(8 * GIGABYTE)})
    assert judged(found) == ("breaks", "possible")
    assert "The baseline has 8192 MB." in found.explanation


def test_box001_an_image_has_the_defaults_of_a_plain_run() -> None:
    facts = {"limits": shm(64 << 20), "packages": distributions(distribution("vllm", "0.20"))}
    target = snapshot("target", python=python(), **facts)
    for run, confidence in ((True, "possible"), ("--shm-size=64m", "likely")):
        (found,) = BOX001().check(replace(target, header={**target.header, "run_defaults": run}), None)
        assert judged(found) == ("breaks", confidence)


@pytest.mark.parametrize(
    ("size", "packages"),
    [(8 * GIGABYTE, TORCH), (None, TORCH), (64 << 20, distributions(distribution("onnxruntime")))],
)
def test_box001_is_silent(size: int | None, packages: dict[str, Any]) -> None:
    assert findings("BOX001", limits=shm(size), packages=packages) == []


# BOX002


def limited(cpus: int | None, decided_by: str | None, memory: int | None) -> dict[str, Any]:
    return {
        "cgroup": {"version": 2, "cpu_quota": None, "cpuset": None, "memory_bytes": memory, "pids": None},
        "cpu_limit": {"cpus": cpus, "decided_by": decided_by},
    }


def test_box002_less_memory_and_half_of_the_cpus() -> None:
    baseline = {"limits": limited(8, "online", None), "machine": {"memory_bytes": 32 * GIGABYTE}}
    memory, cpus = findings("BOX002", baseline=baseline, limits=limited(2, "quota", 4 * GIGABYTE))
    assert judged(memory) == ("breaks", "possible")
    assert memory.title == "Memory is limited to 4.0 GB where the baseline has 32.0 GB"
    assert memory.fix[0].text == "--memory=32g"
    assert judged(cpus) == ("slows", "likely")
    assert cpus.title == "2 CPUs instead of 8"


def test_box002_somewhat_fewer_cpus_are_possible_only() -> None:
    (cpus,) = findings("BOX002", baseline={"limits": limited(4, "online", None)}, limits=limited(3, "affinity", None))
    assert judged(cpus) == ("slows", "possible")


def test_box002_folds_the_limits() -> None:
    before = snapshot("a", python=python(), limits=limited(8, "online", 8 * GIGABYTE))
    after = snapshot("b", python=python(), limits=limited(2, "quota", 4 * GIGABYTE))
    folded = {path for finding in explain_pair(before, after).findings for path in finding.folds}
    assert folded >= {("limits", "cgroup", "memory_bytes"), ("limits", "cpu_limit", "cpus")}


@pytest.mark.parametrize(
    "target", [limited(8, "online", 8 * GIGABYTE), limited(2, "online", None), limited(None, None, None), {}]
)
def test_box002_is_silent(target: dict[str, Any]) -> None:
    """A smaller machine is no limit."""
    assert findings("BOX002", baseline={"limits": limited(8, "quota", 8 * GIGABYTE)}, limits=target) == []


# BOX003


def user(uid: int | None, entry: bool | None) -> dict[str, Any]:
    return {"user": {"uid": uid, "gid": 0, "passwd_entry": entry}}


def environment(*names: str) -> dict[str, Any]:
    return {"environment": dict.fromkeys(names, True)}


def test_box003_torch_asks_for_the_name() -> None:
    (found,) = findings("BOX003", limits=user(12345, entry=False), packages=TORCH, service=environment("PATH"))
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error == "KeyError: 'getpwuid(): uid not found: 12345'"
    (unknown,) = findings("BOX003", limits=user(12345, entry=False), packages=TORCH)
    assert judged(unknown) == ("breaks", "possible")


def test_box003_is_a_note_where_nothing_is_known_to_ask() -> None:
    for packages in (distributions(distribution("torch", "2.13.0")), distributions()):
        (found,) = findings("BOX003", limits=user(12345, entry=False), packages=packages, service=environment())
        assert judged(found) == ("note", "certain")


@pytest.mark.parametrize("limits", [user(1000, entry=True), user(None, None), {}])
def test_box003_is_silent(limits: dict[str, Any]) -> None:
    assert findings("BOX003", limits=limits, packages=TORCH) == []
    assert findings("BOX003", limits=user(1, entry=False), packages=TORCH, service=environment("USER")) == []


def test_box003_says_what_getpass_raises() -> None:
    """In a process whose uid the account database does not list; where only root may be one, os.getuid says so."""
    facts = python(version="{}.{}.{}".format(*sys.version_info))
    (found,) = findings(
        "BOX003", limits=user(987654321, entry=False), packages=TORCH, service=environment(), python=facts
    )
    become = "os.setuid(987654321)" if os.geteuid() == 0 else "os.getuid = lambda: 987654321"
    really = child(f"import os, pwd, getpass; {become}; getpass.getuser()", {})
    assert last_line(really) == found.predicted_error


# BOX004


def home(writable: bool | None, *, exists: bool = True, read_only: bool | None = False) -> dict[str, Any]:
    return {
        "home": {"set": True, "exists": exists, "writable": writable, "noexec": None},
        "read_only_root": read_only,
    }


def variables(**values: str) -> dict[str, Any]:
    return {"variables": {name: {"value": value} for name, value in values.items()}}


def test_box004_a_cache_that_cannot_be_written() -> None:
    (found,) = findings("BOX004", limits=home(writable=False), packages=HUB, variables=variables(HOME="/"))
    assert judged(found) == ("breaks", "possible")
    assert found.predicted_error == "PermissionError: [Errno 13] Permission denied: '/.cache'"
    assert found.fix[0].text == "-e HF_HOME=/tmp/cache"


def test_box004_a_note_without_a_cache() -> None:
    for packages, given in ((distributions(), {}), (HUB, {"HF_HOME": "/models"})):
        (found,) = findings("BOX004", limits=home(writable=False), packages=packages, variables=variables(**given))
        assert judged(found) == ("note", "certain")


@pytest.mark.parametrize("limits", [home(writable=True), home(writable=None), {}])
def test_box004_is_silent(limits: dict[str, Any]) -> None:
    assert findings("BOX004", limits=limits, packages=HUB) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root alone may")
@pytest.mark.parametrize("exists", [True, False])
def test_box004_says_what_the_first_write_raises(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "home"
    if exists:
        folder.mkdir()
    for step in (tmp_path, *tmp_path.parents):
        if step.is_relative_to(tempfile.gettempdir()) and step != Path(tempfile.gettempdir()):
            step.chmod(step.stat().st_mode | 0o055)
    program = "import os; os.setgid(12345); os.setuid(12345); os.makedirs(os.path.expanduser('~/.cache/huggingface'))"
    really = child(program, {"HOME": str(folder)})
    facts = {"limits": home(writable=False, exists=exists), "variables": variables(HOME=str(folder))}
    (found,) = findings("BOX004", packages=HUB, **facts)
    assert last_line(really) == found.predicted_error


# BOX005


def test_box005_a_filter_that_refuses_threads() -> None:
    (found,) = findings("BOX005", limits={"clone3": "EPERM"})
    assert judged(found) == ("breaks", "certain")
    assert found.predicted_error == "RuntimeError: can't start new thread"


@pytest.mark.parametrize(
    ("answer", "libc", "version"),
    [("ENOSYS", "glibc", "2.36"), ("allowed", "glibc", "2.36"), (None, "glibc", "2.36"), ("EPERM", "glibc", "2.31"),
     ("EPERM", "musl", "1.2.3"), ("EPERM", None, None)],
)  # fmt: skip
def test_box005_is_silent(answer: str | None, libc: str | None, version: str | None) -> None:
    facts = python(platform={"libc": libc, "libc_version": version})
    assert findings("BOX005", limits={"clone3": answer}, python=facts) == []


# BOX006


def bundle(certificates: int) -> dict[str, Any]:
    return {"ca_bundle": {"path": "/etc/ssl/certs/ca-certificates.crt", "certificates": certificates, "digest": "x"}}


DPKG = {"packages": {"manager": "dpkg", "packages": {}}}


@pytest.mark.parametrize("system", [{"ca_bundle": None}, bundle(0)])
def test_box006_no_certificates(system: dict[str, Any]) -> None:
    (found,) = findings("BOX006", system=system | DPKG)
    assert judged(found) == ("breaks", "possible")
    assert found.fix[0].text == "apt-get install -y --no-install-recommends ca-certificates"


def test_box006_is_silent() -> None:
    assert findings("BOX006", system=bundle(140)) == []
    assert findings("BOX006", system={}) == []
    given = variables(SSL_CERT_FILE="/etc/ca.pem")
    assert findings("BOX006", system={"ca_bundle": None}, variables=given) == []
    assert findings("BOX006", system={"ca_bundle": None}, python=python(platform={"system": "win32"})) == []
    assert findings("BOX006", system={"ca_bundle": None}, python=python(environment={"kind": "conda"})) == []


def test_box006_a_variable_that_names_what_is_not_there_helps_nobody() -> None:
    gone = {"SSL_CERT_FILE": {"value": "/corp.pem", "missing": {"/corp.pem": True}}}
    (found,) = findings("BOX006", system={"ca_bundle": None}, variables={"variables": gone})
    assert judged(found) == ("breaks", "possible")
    there = gone | {"SSL_CERT_DIR": {"value": "/corp"}}
    assert findings("BOX006", system={"ca_bundle": None}, variables={"variables": there}) == []


def test_box006_says_what_an_unverified_server_raises(tmp_path: Path) -> None:
    """A handshake in memory with a certificate of an authority that nobody knows."""
    (tmp_path / "none.pem").touch()
    (tmp_path / "none").mkdir()
    none = {"SSL_CERT_FILE": str(tmp_path / "none.pem"), "SSL_CERT_DIR": str(tmp_path / "none")}
    really = child(_HANDSHAKE, {**none, "SERVER": str(Path(__file__).parent / "data" / "unknown_authority.pem")})
    (found,) = findings("BOX006", system={"ca_bundle": None})
    assert found.predicted_error is not None
    assert last_line(really).startswith(found.predicted_error)


_HANDSHAKE = """
import os, ssl
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(os.environ["SERVER"])
ways = [ssl.MemoryBIO(), ssl.MemoryBIO()]
there = server.wrap_bio(ways[0], ways[1], server_side=True)
here = ssl.create_default_context().wrap_bio(ways[1], ways[0], server_hostname="localhost")
for _ in range(9):
    for side in (here, there):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
"""


# BOX007


def locale(encoding: str, *, utf8_mode: bool = False) -> dict[str, Any]:
    return {
        "locale": {
            "lc_ctype": "C",
            "encoding": encoding,
            "filesystem_encoding": "utf-8",
            "utf8_mode": utf8_mode,
        }
    }


def test_box007_text_is_read_as_ascii(tmp_path: Path) -> None:
    (found,) = findings("BOX007", limits=locale("ANSI_X3.4-1968"))
    assert judged(found) == ("breaks", "likely")
    file = tmp_path / "vocabulary.txt"
    file.write_bytes("caf\u00e9".encode())
    environ = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    really = child(f"import locale; print(locale.getpreferredencoding(False)); open({str(file)!r}).read()", environ)
    assert really.stdout == "ANSI_X3.4-1968\n"
    assert last_line(really) == found.predicted_error


def test_box007_a_locale_that_is_not_there() -> None:
    system = {
        "locales": {"C": "builtin", "C.utf8": "directory"},
        "libc": {"family": "glibc", "version": "2.36", "path": None},
    }
    given = variables(LANG="C.UTF-8", LC_ALL="xx_YY.UTF-8")
    (found,) = findings("BOX007", limits=locale("UTF-8", utf8_mode=True), system=system, variables=given)
    assert judged(found) == ("note", "certain")
    assert found.title == "LC_ALL asks for the locale xx_YY.UTF-8, which is not installed"
    really = child("import locale; locale.setlocale(locale.LC_ALL, '')", {"LC_ALL": "xx_YY.UTF-8"})
    assert last_line(really) == found.predicted_error
    for name in ("C.UTF-8", "C", "POSIX", "C.utf8"):
        assert findings("BOX007", limits=locale("UTF-8"), system=system, variables=variables(LC_ALL=name)) == []


@pytest.mark.parametrize("limits", [locale("UTF-8"), locale("utf-8", utf8_mode=True), locale("ISO-8859-1"), {}])
def test_box007_is_silent(limits: dict[str, Any]) -> None:
    assert findings("BOX007", limits=limits) == []
    musl = {"locales": {}, "libc": {"family": "musl", "version": "1.2.3", "path": None}}
    assert findings("BOX007", limits=limits, system=musl, variables=variables(LANG="de_DE.UTF-8")) == []


# BOX008


def zone(name: str | None) -> dict[str, Any]:
    return {"timezone": {"tz": name, "localtime": None, "rule": None}}


def test_box008_zoneinfo_finds_nothing() -> None:
    (found,) = findings("BOX008", system={"tzdata": None} | DPKG, packages=distributions())
    assert judged(found) == ("breaks", "possible")
    assert found.fix[0].text == "python -m pip install tzdata"
    really = child("import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')", {"PYTHONTZPATH": ""}, "-S")
    assert last_line(really) == found.predicted_error


def test_box008_a_zone_that_is_taken_for_utc() -> None:
    packages = distributions(distribution("tzdata", "2026.1"))
    (found,) = findings("BOX008", system={"tzdata": None}, limits=zone("Europe/Berlin"), packages=packages)
    assert judged(found) == ("changes-results", "likely")
    environ = {"TZ": "Europe/Berlin", "TZDIR": "/nonexistent"}
    really = child("import time; print(time.localtime(1750000000).tm_gmtoff)", environ)
    assert really.stdout == "0\n"


def test_box008_is_silent() -> None:
    there = {"tzdata": {"path": "/usr/share/zoneinfo", "version": "2026a"}}
    assert findings("BOX008", system=there, packages=distributions(), limits=zone("Europe/Berlin")) == []
    tzdata = distributions(distribution("tzdata"))
    for name in (None, "UTC", "CET-1CEST", "<+03>-3"):
        assert findings("BOX008", system={"tzdata": None}, packages=tzdata, limits=zone(name)) == []
    old = python(version="3.8.18")
    assert findings("BOX008", system={"tzdata": None}, packages=distributions(), python=old) == []
    assert findings("BOX008", system={}, packages=distributions()) == []


# BOX009


def test_box009_an_emulated_machine() -> None:
    (found,) = findings("BOX009", machine={"architecture": "x86_64", "emulation": "qemu-user"})
    assert judged(found) == ("slows", "likely")
    assert found.title == "x86_64 is emulated (qemu-user)"


def test_box009_is_silent() -> None:
    assert findings("BOX009", machine={"architecture": "x86_64", "emulation": None}) == []
    assert findings("BOX009", machine={}) == []


# BOX010


def service(interpreter: str | None, measured: str | None, problem: str | None = None, **start: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "interpreter": interpreter,
        "script": "/app/app.py",
        "module": None,
        "reason": "the start command runs it",
        "chain": [],
        "problem": problem,
        "exact": problem is not None,
    }
    return {"start": facts | start, "packages_interpreter": measured, "entrypoint": ["start"], "command": None}


def test_box010_packages_of_another_interpreter() -> None:
    (found,) = findings("BOX010", service=service("/usr/bin/python3", "/opt/venv/bin/python"), packages=TORCH)
    assert judged(found) == ("breaks", "possible")
    assert found.title == "The service starts /usr/bin/python3, and /opt/venv/bin/python has the packages"
    assert found.fix[0].text == 'ENV PATH="/opt/venv/bin:$PATH"'


def test_box010_an_environment_that_nothing_starts() -> None:
    facts: dict[str, Any] = {
        "service": service("/usr/bin/python3", "/usr/bin/python3.11"),
        "packages": distributions(),
    }
    target = snapshot("target", python=python(), **facts)
    assert list(BOX010().check(target, None)) == []
    others = {"/opt/venv/bin/python": "a virtual environment"}
    target = replace(target, header={**target.header, "other_interpreters": others})
    (found,) = BOX010().check(target, None)
    assert judged(found) == ("breaks", "likely")
    assert "/opt/venv/bin/python" in found.explanation


@pytest.mark.parametrize(
    ("started", "measured"),
    [
        (None, "/usr/bin/python3"),
        ("/usr/local/bin/python", "/usr/local/bin/python3.11"),
        ("/bin/python3", "/usr/bin/python3.11"),
        ("/opt/venv/bin/python", "/opt/venv/bin/python"),
    ],
)
def test_box010_is_silent(started: str | None, measured: str) -> None:
    assert findings("BOX010", service=service(started, measured), packages=TORCH) == []


# BOX011


def test_box011_a_start_that_cannot_be() -> None:
    problem = 'exec: "gunicorn": executable file not found in $PATH'
    facts = service(None, "/usr/bin/python3", problem, reason="gunicorn is not there", script=None)
    (found,) = findings("BOX011", service=facts)
    assert judged(found) == ("breaks", "certain")
    assert found.predicted_error == problem
    assert found.title == "The service cannot start: gunicorn is not there"
    (guessed,) = findings("BOX011", service=service(None, None, problem, exact=False))
    assert judged(guessed) == ("breaks", "likely")


@pytest.mark.parametrize(
    ("reason", "problem", "fix"),
    [
        (
            "/app/start.sh asks for /bin/sh and a carriage return: Windows line endings",
            "exec /app/start.sh: no such file or directory",
            "RUN sed -i 's/\\r$//' /app/start.sh",
        ),
        ("/app/a;reboot is not executable", "exec: permission denied", "RUN chmod +x '/app/a;reboot'"),
        ("/app/start.sh is not executable", 'exec: "/app/start.sh": permission denied', "RUN chmod +x /app/start.sh"),
        (
            "/app/start.sh has no first line that names its interpreter, such as #!/bin/sh",
            "exec /app/start.sh: exec format error",
            "Begin /app/start.sh with a line such as #!/bin/sh, without a blank or a byte order mark before.",
        ),
        (
            "/app/server was built for another machine",
            "exec /app/server: exec format error",
            "Build the image for this architecture: docker buildx build --platform linux/amd64",
        ),
    ],
)
def test_box011_says_what_mends_it(reason: str, problem: str, fix: str) -> None:
    (found,) = findings("BOX011", service=service(None, None, problem, reason=reason, script=None))
    assert found.fix[0].text == fix


def test_box011_is_silent() -> None:
    assert findings("BOX011", service=service("/usr/bin/python3", "/usr/bin/python3")) == []
    assert findings("BOX011", service={"start": None, "entrypoint": None, "command": None}) == []
    assert findings("BOX011", service={}) == []
