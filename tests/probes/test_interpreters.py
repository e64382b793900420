"""Which interpreter a service runs, and which others there are: real processes, and roots built by the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driftcheck.probes import interpreters
from driftcheck.probes.common import Place

pytestmark = pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="needs Linux's /proc")

CODE = "import time; time.sleep(1000)"


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """``start(words, env=..., cwd=...)``: the number of a process that has become what it will be."""
    started = []

    def begin(words: list[str], **options: object) -> int:
        process = subprocess.Popen(words, start_new_session=True, **options)  # type: ignore[call-overload]
        started.append(process)
        time.sleep(0.3)
        return int(process.pid)

    yield begin
    for process in started:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment: its interpreter is a link to ours."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    return tmp_path / "venv"


def test_the_process_itself(start: Callable[..., int], environment: Path) -> None:
    pid = start([str(environment / "bin/python"), "-c", CODE], env={"OMP_NUM_THREADS": "3"})
    found = interpreters.running(pid)
    assert found is not None
    assert found[0] == str(environment / "bin/python")
    assert found[1] == f"process {pid} of the container runs it"
    assert found[2].environ() == {b"OMP_NUM_THREADS": b"3"}


def test_a_child_by_a_name_on_its_path(start: Callable[..., int], environment: Path) -> None:
    """``/proc/PID/exe`` is the interpreter behind the link; the environment is the link that PATH led to."""
    path = f"{environment}/bin:/usr/bin:/bin"
    pid = start(["sh", "-c", f'python -c "{CODE}"; true'], env={"PATH": path})
    found = interpreters.running(pid)
    assert found is not None
    assert found[0] == str(environment / "bin/python")
    assert found[1] == f"process {pid} of the container (sh) started it"


def test_a_relative_name(start: Callable[..., int], environment: Path) -> None:
    pid = start(["bin/python", "-c", CODE], cwd=environment, env={})
    found = interpreters.running(pid)
    assert found is not None
    assert found[0] == str(environment / "bin/python")


def test_a_script_with_a_shebang(start: Callable[..., int], environment: Path, tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text(f"#!{environment}/bin/python\n{CODE}\n")
    script.chmod(0o755)
    found = interpreters.running(start([str(script)], env={}))
    assert found is not None
    assert found[0] == str(environment / "bin/python")


def test_a_process_that_changed_its_name_is_found_by_its_variables(
    start: Callable[..., int], environment: Path
) -> None:
    """Servers do that (setproctitle): ``gunicorn: master [app]``."""
    python = os.path.realpath(environment / "bin/python")
    pid = start(
        ["bash", "-c", f'exec -a "gunicorn: master [app]" {python} -c "{CODE}"'],
        env={"VIRTUAL_ENV": str(environment), "PATH": "/usr/bin:/bin"},
    )
    found = interpreters.running(pid)
    assert found is not None
    assert found[0] == str(environment / "bin/python")


def test_no_python_among_the_processes(start: Callable[..., int]) -> None:
    assert interpreters.running(start(["sh", "-c", "sleep 1000; true"])) is None
    assert interpreters.running(2**22 + 1) is None


def test_a_process_with_a_confusing_name(start: Callable[..., int], tmp_path: Path) -> None:
    """The name stands in brackets in /proc/PID/stat and may hold some itself."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    confusing = tmp_path / ") 1 ("
    shutil.copy(sleep, confusing)
    pid = start([str(confusing), "1000"])
    (process,) = interpreters.family(pid)
    assert (process.name, process.parent) == (") 1 (", os.getpid())


def test_what_another_user_runs_is_closed() -> None:
    process = interpreters.Process(2**22 + 1, 0, "gone")
    assert process.environ() is None
    assert process.arguments() == []
    assert process.link("exe") is None
    assert interpreters.program(process) is None


@pytest.mark.parametrize("name", ["python", "python3", "python3.11", "python3.13t", "pypy3", "pypy3.10", "python2.7"])
def test_names_of_interpreters(name: str) -> None:
    assert interpreters.PYTHON.match(name)


@pytest.mark.parametrize("name", ["python-config", "python3-pip", "ipython", "pythonista", "uvicorn", "sh", ""])
def test_names_of_other_programs(name: str) -> None:
    assert not interpreters.PYTHON.match(name)


# --- roots


def executable(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def place(root: Path, **environ: str) -> Place:
    return Place(root=str(root), environ=environ, live=False)


def test_the_first_on_path(tmp_path: Path) -> None:
    executable(tmp_path, "/usr/bin/python3")
    executable(tmp_path, "/opt/venv/bin/python")
    assert interpreters.on_path(place(tmp_path)) == "/usr/bin/python3"
    assert interpreters.on_path(place(tmp_path, PATH="/opt/venv/bin:/usr/bin")) == "/usr/bin/python3"
    assert interpreters.on_path(place(tmp_path, PATH="/opt/venv/bin")) == "/opt/venv/bin/python"
    assert interpreters.on_path(place(tmp_path, PATH="relative:/nowhere:")) is None


def test_other_environments_are_named(tmp_path: Path) -> None:
    executable(tmp_path, "/usr/bin/python3")
    executable(tmp_path, "/usr/local/bin/python3")
    for prefix in ("/opt/venv", "/srv/app/.venv", "/root/.venvs/old"):
        executable(tmp_path, f"{prefix}/bin/python")
        executable(tmp_path, f"{prefix}/pyvenv.cfg")
    executable(tmp_path, "/opt/conda/bin/python")
    executable(tmp_path, "/opt/conda/conda-meta/history")
    executable(tmp_path, "/opt/conda/envs/svc/bin/python")
    executable(tmp_path, "/opt/conda/envs/svc/conda-meta/history")
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "srv/again").symlink_to("/srv")
    here = place(tmp_path, PATH="/opt/venv/bin:/usr/local/bin:/usr/bin:/bin")
    assert interpreters.environments(here, "/opt/venv/bin/python", "/srv/app") == {
        "/usr/local/bin/python3": "python3 on PATH",
        "/usr/bin/python3": "python3 on PATH",
        "/srv/app/.venv/bin/python": "a virtual environment",
        "/root/.venvs/old/bin/python": "a virtual environment",
        "/opt/conda/bin/python": "a conda environment",
        "/opt/conda/envs/svc/bin/python": "a conda environment",
    }


def test_what_variables_name_comes_first(tmp_path: Path) -> None:
    executable(tmp_path, "/srv/v/bin/python")
    executable(tmp_path, "/srv/v/pyvenv.cfg")
    here = place(tmp_path, VIRTUAL_ENV="/srv/v")
    assert interpreters.environments(here, "/usr/bin/python3") == {
        "/srv/v/bin/python": "$VIRTUAL_ENV names its environment"
    }


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "DIRECTORIES_LIMIT", 30)
    for number in range(50):
        (tmp_path / f"opt/d{number:02}").mkdir(parents=True)
    here = place(tmp_path)
    assert interpreters.environments(here, "/usr/bin/python3") == {}
    assert "too many directories" in here.problems[0]["reason"]


def test_the_start_command_of_an_image(tmp_path: Path) -> None:
    executable(tmp_path, "/usr/bin/python3", "\x7fELF")
    executable(tmp_path, "/usr/bin/nginx", "\x7fELF")
    here = place(tmp_path, PATH="/usr/bin")
    assert interpreters.resolved(here, {"entrypoint": [], "cmd": []}) == (None, "nothing is started by default")
    assert interpreters.resolved(here, {"cmd": ["nginx"]})[0] is None
    assert (
        interpreters.resolved(here, {"cmd": ["python3", "-m", "http.server"], "working_dir": "/"})[0]
        == "/usr/bin/python3"
    )
