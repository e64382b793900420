"""The payload in real interpreters, and in programs that are none."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from pathlib import Path

import pytest
from driftcheck.probes import bootstrap
from support import interpreters
from support.commands import driftcheck

from driftcheck import payload
from driftcheck.collect import Interpreter, Request, SubprocessChannel, collect
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot, parse

MEASURED = {"python", "packages", "system", "programs", "variables", "limits", "machine"}


def measure(path: str, **channel: float) -> Snapshot:
    return collect(
        SubprocessChannel(**channel),  # type: ignore[arg-type]
        Interpreter(path, "the test names it"),
        Request("python:test"),
    )


def program(folder: Path, text: str) -> str:
    path = folder / "interpreter"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.interpreters
@pytest.mark.parametrize("version", sorted(interpreters.supported()), ids=lambda version: f"{version[0]}.{version[1]}")
def test_every_section_is_measured_on_every_interpreter(version: tuple[int, int]) -> None:
    snapshot = measure(interpreters.supported()[version])
    assert snapshot.sections.keys() >= MEASURED
    states = {name: section.status for name, section in snapshot.sections.items()}
    assert not {name for name, state in states.items() if state in {"failed", "unavailable"}}, states
    facts = snapshot.facts("python")
    assert facts is not None
    assert facts["version"].startswith(f"{version[0]}.{version[1]}.")


def test_an_untouched_environment_gives_the_same_bytes_after_the_header() -> None:
    first, second = measure(sys.executable).document(), measure(sys.executable).document()
    assert first["header"].keys() == second["header"].keys()
    first.pop("header")
    second.pop("header")
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def test_a_snapshot_survives_a_round_trip() -> None:
    snapshot = measure(sys.executable)
    again = parse(snapshot.text().encode(), "test")
    assert again.text() == snapshot.text()
    assert again.warnings == ()


def test_python_2_is_refused_in_words(tmp_path: Path) -> None:
    # A Python 2 where there is one; else what its bootstrap prints, from a program that fails as it would.
    path = interpreters.found().get((2, 7))
    if path is None:
        text = "#!/bin/sh\necho 'driftcheck needs Python 3.6 or newer here, and this is Python 2.7' >&2\nexit 1\n"
        path = program(tmp_path, text)
    with pytest.raises(InputError, match=r"needs Python 3\.6 or newer here, and this is Python 2\.7"):
        measure(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#!/bin/sh\nexit 0\n", "no answer from this interpreter, exit code 0"),
        ("#!/bin/sh\necho rubbish; exit 3\n", "exit code 3: rubbish"),
        (
            "#!/bin/sh\nprintf '\\033[31mred\\a\\n' >&2; exit 1\n",
            "exit code 1: \N{REPLACEMENT CHARACTER}\\[31mred",
        ),
        ("#!/bin/sh\nkill -SEGV $$\n", "ended by SIGSEGV before it answered"),
        ("#!/bin/nowhere\n", "cannot be started: No such file or directory"),
        ("\x7fELF rubbish", "cannot be started: Exec format error"),
    ],
)
def test_a_program_that_is_no_interpreter(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        measure(program(tmp_path, text))
    assert "interpreter" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(InputError, match="cannot be started: Permission denied"):
        measure(str(path))


def test_an_interpreter_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    path = program(tmp_path, f"#!/bin/sh\n(sleep 300 & echo $! > {mark}; wait) &\nsleep 300\n")
    with pytest.raises(InputError, match="did not answer within 1 s and was ended"):
        measure(path, time_limit=1)
    child = int(mark.read_text())
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_an_interpreter_that_prints_without_end_is_cut_off(tmp_path: Path) -> None:
    path = program(tmp_path, "#!/bin/sh\nwhile :; do echo rubbish rubbish rubbish rubbish; done\n")
    with pytest.raises(InputError, match="printed more than 0 MB and was ended"):
        measure(path, size_limit=100_000)


def test_noise_around_the_answer_is_ignored(tmp_path: Path) -> None:
    text = f'#!/bin/sh\necho \'{{"schema_version": 0}}\'\n{sys.executable} "$@"\necho more\n'
    assert measure(program(tmp_path, text)).sections.keys() >= MEASURED


def test_an_answer_given_twice_is_no_answer(tmp_path: Path) -> None:
    text = f'#!/bin/sh\n{sys.executable} "$@" > {tmp_path}/out\ncat {tmp_path}/out {tmp_path}/out\n'
    with pytest.raises(InputError, match="no answer"):
        measure(program(tmp_path, text))


def test_an_answer_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    """A program that finds the cookies in the payload and puts a forged answer between them."""
    forger = tmp_path / "forge.py"
    forger.write_text(
        "import re, sys\n"
        "cookies = re.search(r\"'cookies': \\('(\\w+)', '(\\w+)'\\)\", sys.stdin.read()).groups()\n"
        'print(cookies[0] + \'{"schema_version": 0, "header": {}, "sections": {}}\' + cookies[1])\n'
    )
    with pytest.raises(InputError, match=r"not a valid snapshot: at header: .*required"):
        measure(program(tmp_path, f"#!/bin/sh\nexec {sys.executable} {forger}\n"))


FORGED_JSON = """
def dumps(*args, **options): return '{"schema_version": 0, "header": {}, "sections": {}, "forged": true}'
def loads(*args, **options): return {}
class JSONDecoder: pass
class JSONEncoder: pass
"""


def test_a_module_in_the_working_directory_cannot_forge_the_answer(tmp_path: Path) -> None:
    for name in ("json.py", "re.py", "hashlib.py", "sitecustomize.py", "os.py"):
        (tmp_path / name).write_text(FORGED_JSON + "\nraise SystemExit('forged')\n")
    result = driftcheck("snapshot", f"python:{sys.executable}", cwd=tmp_path)
    assert result.code == 0, result.err
    assert parse(result.out.encode(), "test").sections.keys() >= MEASURED


def test_a_module_on_pythonpath_cannot_forge_the_answer_but_is_a_fact(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text(FORGED_JSON)
    snapshot = _measured_with({"PYTHONPATH": str(tmp_path)})
    assert snapshot.sections.keys() >= MEASURED
    facts = snapshot.facts("python")
    assert facts is not None
    assert facts["shadowed_modules"] == {"json": f"{tmp_path}/json.py"}


@pytest.mark.parametrize(
    "start_up",
    [
        "import json, re, hashlib\n",
        "import sys; p = sys.path.pop(0); import json; json.dumps = None; sys.path.insert(0, p)\n",
    ],
    ids=["imports a forged module", "changes the real one"],
)
def test_start_up_code_cannot_replace_what_the_probes_rest_on(tmp_path: Path, start_up: str) -> None:
    (tmp_path / "json.py").write_text(FORGED_JSON)
    (tmp_path / "sitecustomize.py").write_text(start_up)
    snapshot = _measured_with({"PYTHONPATH": str(tmp_path)})
    assert snapshot.sections.keys() >= MEASURED
    facts = snapshot.facts("python")
    assert facts is not None
    assert f"{tmp_path}/sitecustomize.py" in facts["search_path_files"]


def test_start_up_code_that_answers_for_us_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'forged answer\\n'); os._exit(0)\n")
    result = driftcheck(
        "snapshot", f"python:{sys.executable}", cwd=tmp_path, environ={"DRIFTCHECK_TEST_PATH": str(tmp_path)}
    )
    assert result.code == 0  # the working directory is on no search path
    with pytest.raises(InputError, match="no answer from this interpreter, exit code 0: forged answer"):
        _measured_with({"PYTHONPATH": str(tmp_path)})


def test_start_up_code_that_prints_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; print('hello'); sys.stdout = None\n")
    assert _measured_with({"PYTHONPATH": str(tmp_path)}).sections.keys() >= MEASURED


def _measured_with(environ: dict[str, str]) -> Snapshot:
    channel = SubprocessChannel(environ={**os.environ, **environ})
    return collect(channel, Interpreter(sys.executable, "test"), Request("python:test"))


def test_bytecode_is_taken_by_an_interpreter_of_our_version_alone() -> None:
    text, _, compiled = payload.channel_payload({}, compiled=True).partition(b"\0")
    assert text == payload.channel_payload({})
    names = set(re.findall(rb"^SOURCES\['(\w+)'\]", text, re.MULTILINE))
    assert {name.encode() for name in bootstrap.bytecode(compiled)} == names
    assert bootstrap.bytecode(b"\0\0\0\0" + compiled[4:]) == {}
    assert bootstrap.bytecode(b"") == {}
