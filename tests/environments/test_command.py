"""Interpreters behind a command: real programs that pass standard input on, and a real OpenSSH server on loopback."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import Result, driftcheck
from support.engine import missing

from driftcheck import payload
from driftcheck.collect import SubprocessChannel
from driftcheck.snapshot import Snapshot, parse


def snapshot(result: Result) -> Snapshot:
    assert result.code == 0, result.err
    return parse(result.out.encode(), "test")


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


# --- via


def test_a_prefix_passes_the_interpreter_on() -> None:
    taken = snapshot(driftcheck("snapshot", "via:env OMP_NUM_THREADS=3", "--python", sys.executable))
    assert taken.header["channel"] == "via"
    assert taken.header["environment_variables_from"] == "exec"
    assert taken.header["interpreter"]["reason"] == "--python names it"
    facts = taken.facts("variables")
    assert facts is not None
    assert facts["variables"]["OMP_NUM_THREADS"] == {"value": "3"}


def test_a_prefix_measures_what_the_host_measures() -> None:
    behind = snapshot(driftcheck("snapshot", "via:nice -n 0", "--python", sys.executable))
    here = snapshot(driftcheck("snapshot", f"python:{sys.executable}"))
    for name, section in here.sections.items():
        assert behind.sections[name].digest == section.digest, name


def test_python3_is_asked_before_python(tmp_path: Path) -> None:
    program(tmp_path, "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    prefix = f"via:env PATH={tmp_path}"
    taken = snapshot(driftcheck("snapshot", prefix))
    assert taken.header["interpreter"]["reason"] == "python on PATH over there"
    program(tmp_path, "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    taken = snapshot(driftcheck("snapshot", prefix))
    assert taken.header["interpreter"]["reason"] == "python3 on PATH over there"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("via:", "no command behind via:. For example: via:"),
        ("via:   ", "no command behind via:"),
        ("via:-x", "a command does not begin with -"),
        ("via:'open", "cannot be split into words: No closing quotation. Close the quotes"),
        ("via:no-such-program-anywhere", "there is no program 'no-such-program-anywhere' on PATH"),
        ("via:env PATH=/nowhere", "neither python3 nor python was found over there. Name one with --python"),
        ("via:false", "no answer from this interpreter, exit code 1"),
        ("via:echo", "no answer from this interpreter, exit code 0"),
        ("via:sh -c 'kill -SEGV $$'", "ended by SIGSEGV"),
        ("ssh:", "no destination behind ssh:. For example: ssh:user@node7"),
        ("ssh:-oProxyCommand=touch evidence", "a destination does not begin with -"),
    ],
)
def test_what_cannot_be_measured(reference: str, message: str, tmp_path: Path) -> None:
    result = driftcheck("snapshot", reference, cwd=tmp_path)
    assert result.code == 2
    assert message in result.err
    assert result.out == ""
    assert len(result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_over_there_is_cleaned(tmp_path: Path) -> None:
    noise = program(tmp_path, "noise", "#!/bin/sh\nprintf '\\033[31mpassword=hunter2secret\\007 no\\n' >&2; exit 9\n")
    result = driftcheck("snapshot", f"via:{noise}")
    assert result.code == 2
    assert "exit code 9: \N{REPLACEMENT CHARACTER}[31m" in result.err
    assert "\x1b" not in result.err
    assert "hunter2secret" not in result.err


def test_standard_input_that_is_not_passed_on() -> None:
    result = driftcheck("snapshot", f'via:sh -c \'exec "$0" "$@" < /dev/null\' {sys.executable}', "--python", "-u")
    assert result.code == 2
    assert "driftcheck was cut off" in result.err


# --- the bootstrap


def test_the_interpreter_ends_by_itself_when_nobody_is_left() -> None:
    """Whatever it hangs in, C code included, and without a signal that could be ignored."""
    text = (
        b"import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nctypes.PyDLL(None).sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", payload.boot(text, 1)], input=text, capture_output=True, timeout=30, check=False
    )
    assert done.returncode != 0  # the sleep would have ended well, or at the time-out


def test_the_bootstrap_reads_its_program_to_the_byte() -> None:
    text = b"import os\nos.write(1, b'<' + os.read(0, 100) + b'>')\n"
    done = subprocess.run(
        [sys.executable, "-c", payload.boot(text, 60)], input=text + b"rest", capture_output=True, check=False
    )
    assert done.stdout == b"<rest>"


SHELLS = [name for name in ("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "tcsh", "csh") if shutil.which(name)]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_bootstrap_passes_through_any_shell(shell: str) -> None:
    text = b"import sys; print('ran', len(sys.argv))"
    line = f"{sys.executable} -c '{payload.one_line(payload.boot(text, 60))}'"
    done = subprocess.run([shell, "-c", line], input=text, capture_output=True, check=False, timeout=60)
    assert done.stdout == b"ran 1\n", done.stderr


def test_one_line_holds_nothing_that_a_shell_would_change() -> None:
    line = payload.one_line(payload.boot(b"x", 60) + "# $HOME `x` !! 'a' \"b\" \\ \u00e9 %d\n")
    assert line.startswith('exec("')
    assert line.endswith('")')
    assert not set(line[6:-2]) & set("\"'`$!%&|;*?~#{}\n\t\u00e9")


# --- ssh


@dataclass(frozen=True)
class Server:
    """An OpenSSH server of our own on loopback, and the configuration that leads to it."""

    folder: Path
    log: Path

    @property
    def environ(self) -> dict[str, str]:
        """The user's ssh, by way of a program that names the configuration (ssh ignores HOME)."""
        return {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    reason = missing("sshd", "ssh", "ssh-keygen")
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
        "AcceptEnv OMP_*\n"
    )
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host node7\n HostName 127.0.0.1\n Port {port}\n IdentityFile {folder}/user\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known\n StrictHostKeyChecking yes\n BatchMode yes\n ConnectTimeout 10\n"
        f"Host stranger\n HostName 127.0.0.1\n Port {port}\n IdentityFile {folder}/host\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known\n BatchMode yes\n"
    )
    ssh = shutil.which("ssh")
    program(folder / "bin", "ssh", f'#!/bin/sh\nexec {ssh} -F {shlex.quote(str(folder / "ssh_config"))} "$@"\n')
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own, without which it does not start
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd is not None
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=file)
    try:
        _await(port)
        yield Server(folder, log)
    finally:
        process.terminate()
        process.wait()


def _await(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError("sshd does not listen")


@pytest.mark.engine
def test_a_machine_behind_ssh(server: Server) -> None:
    taken = snapshot(driftcheck("snapshot", "ssh:node7", "--python", sys.executable, environ=server.environ))
    assert taken.header["channel"] == "ssh"
    assert taken.header["reference"] == "ssh:node7"
    here = snapshot(driftcheck("snapshot", f"python:{sys.executable}"))
    for name in ("packages", "system", "machine"):  # a login over ssh has another locale
        assert taken.sections[name].digest == here.sections[name].digest, name


@pytest.mark.engine
def test_without_a_name_python3_is_asked_behind_ssh(server: Server) -> None:
    taken = snapshot(driftcheck("snapshot", "ssh:node7", environ=server.environ))
    assert taken.header["interpreter"]["reason"] == "python3 on PATH over there"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ssh:nowhere.invalid"], "ssh:nowhere.invalid: ssh did not get there: "),
        (["ssh:stranger"], "ssh:stranger: ssh did not get there: .*Permission denied"),
        (["ssh:node7", "--python", "/nowhere/python"], "ssh:node7: no /nowhere/python over there: "),
        (["ssh:node7", "--python", "/bin/echo"], "no answer from this interpreter"),
        (["ssh:node7", "--python", "/tmp/a b;touch evidence"], "over there"),
    ],
)
def test_what_cannot_be_measured_behind_ssh(server: Server, arguments: list[str], message: str) -> None:
    result = driftcheck("snapshot", *arguments, environ=server.environ)
    assert result.code == 2
    assert re.search(message, result.err), result.err
    assert "Traceback" not in result.err
    assert not Path("evidence").exists()
    assert not (Path.home() / "evidence").exists()


@pytest.mark.engine
def test_a_signal_leaves_no_process_behind_ssh(server: Server, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    slow = program(tmp_path, "slow", f'#!/bin/sh\necho $$ > {mark}\nsleep 1\nexec {sys.executable} "$@"\n')
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-c",
            "from driftcheck.cli import main; main()",
            "snapshot",
            "ssh:node7",
            "--python",
            slow,
        ],
        env={**os.environ, **server.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 20
    while not mark.exists() or not mark.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    # What runs over there finds its input closed.
    there = Path(f"/proc/{mark.read_text().strip()}")
    while there.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- a terminal


def test_a_command_may_ask_for_a_password_on_the_terminal(tmp_path: Path) -> None:
    """As ssh and sudo do. Without a terminal the command has a session of its own, which is ended with all in it."""
    prefix = program(
        tmp_path,
        "asks",
        '#!/bin/sh\nprintf "Password: " > /dev/tty\nread word < /dev/tty\n[ "$word" = yes ] && exec "$@"\n',
    )
    out = tmp_path / "out.json"
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        arguments = ["snapshot", f"via:{prefix}", "--python", sys.executable, "-o", str(out)]
        os.execv(sys.executable, [sys.executable, "-P", "-c", "from driftcheck.cli import main; main()", *arguments])
    said = b""
    while b"Password: " not in said:
        said += os.read(terminal, 1000)
    os.write(terminal, b"yes\n")
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(terminal, 1000):
            said += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    os.close(terminal)
    assert parse(out.read_bytes(), "test").header["channel"] == "via"


@pytest.mark.parametrize("own_session", [True, False])
def test_a_command_that_hangs_is_ended(own_session: bool) -> None:
    channel = SubprocessChannel(own_session=own_session, time_limit=0.5)
    output = channel.run(["sleep", "1000"], b"")
    assert output.cut == "did not answer within 0 s and was ended"
    assert output.returncode < 0
