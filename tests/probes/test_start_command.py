"""What a start command comes down to, on roots that the tests build; the texts were taken from real runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from driftcheck.probes import common, executables, shell_script, start_command
from driftcheck.probes.start_command import StartCommand
from hypothesis import given, settings
from hypothesis import strategies as st

X86, ARM = 62, 183
PATH = "/usr/local/bin:/usr/bin:/bin"


def elf(machine: int = X86, loader: str = "/lib64/ld-linux-x86-64.so.2", more: bytes = b"") -> bytes:
    """The beginning of a 64-bit program: its header and one program header, PT_INTERP."""
    name = loader.encode() + b"\0"
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little") + bytes(12)
    header += (64).to_bytes(8, "little") + bytes(14) + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
    entry = (3).to_bytes(4, "little") + bytes(4) + (120).to_bytes(8, "little") + bytes(16)
    entry += len(name).to_bytes(8, "little") + bytes(16)
    return header + entry + name + more


BASH_52 = elf(more=b"\0@(#)Bash version 5.2.15(1) release GNU\0")
BASH_51 = elf(more=b"\0@(#)Bash version 5.1.4(1) release GNU\0")
COREUTILS = elf(more=b"\0GNU coreutils\x009.1\0")


class Root:
    """An unpacked root with a few programs; ``add`` puts a file there, executable unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.add("/lib64/ld-linux-x86-64.so.2", b"\x7fELF\x02\x01\x01" + bytes(11) + X86.to_bytes(2, "little"))
        self.add("/usr/bin/dash", elf())
        self.add("/usr/bin/bash", BASH_52)
        self.add("/usr/bin/env", COREUTILS)
        self.add("/usr/bin/python3.11", elf())
        self.link("/usr/bin/python3", "python3.11")
        self.link("/usr/bin/sh", "dash")
        self.link("/bin", "usr/bin")

    def add(self, path: str, content: bytes | str = b"", mode: int = 0o755) -> None:
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)

    def link(self, path: str, target: str) -> None:
        link = self.folder / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def venv(self, prefix: str) -> None:
        self.link(f"{prefix}/bin/python", "/usr/bin/python3.11")
        self.add(f"{prefix}/pyvenv.cfg", "home = /usr/bin\n", 0o644)
        self.add(f"{prefix}/bin/activate", f"VIRTUAL_ENV={prefix}\nexport VIRTUAL_ENV\n", 0o644)

    def resolve(self, *entry: str, at: str = "/app", environ: Mapping[str, str] | None = None) -> StartCommand:
        place = common.Place(str(self.folder), {"PATH": PATH, **(environ or {})}, [], live=False)
        return start_command.resolve(place, entry, at)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    made.add("/app/app.py", "print(1)\n", 0o644)
    return made


def found(result: StartCommand) -> tuple[str | None, str | None]:
    assert result.problem is None, result.problem
    return result.interpreter, result.script


# What is found


@pytest.mark.parametrize(
    "entry",
    [
        ["python3", "app.py"],
        ["/usr/bin/python3", "-u", "-X", "utf8", "-Wignore", "/app/app.py", "--port", "80"],
        ["/bin/sh", "-c", "python3 app.py"],
        ["sh", "-c", "cd /app && exec python3 app.py --host $HOST"],
        ["bash", "-ec", "exec /usr/bin/python3 ./app.py"],
        ["env", "-u", "X", "A=b", "python3", "app.py"],
        ["env", "-S", "python3 -u app.py"],
        ["sh", "-c", 'exec "$@"', "name", "python3", "app.py"],
    ],
)
def test_an_interpreter_and_its_script(root: Root, entry: list[str]) -> None:
    result = root.resolve(*entry)
    interpreter, script = found(result)
    assert interpreter in {"/usr/bin/python3", "/bin/python3"}
    assert script == "/app/app.py"
    assert result.reason
    assert result.chain


@pytest.mark.parametrize(
    "name", ["tini --", "tini -g -p SIGTERM --", "dumb-init", "nice -n 5", "gosu app", "su-exec app:app", "timeout 30",
             "setpriv --reuid 5 --nnp", "stdbuf -oL", "nohup", "numactl -N 0"],
)  # fmt: skip
def test_wrappers(root: Root, name: str) -> None:
    words = name.split()
    root.add(f"/usr/bin/{words[0]}", elf())
    assert found(root.resolve(*words, "python3", "app.py")) == ("/usr/bin/python3", "/app/app.py")


@pytest.mark.parametrize(
    "script",
    [
        '#!/bin/sh\nset -e\nexec "$@"\n',
        '#!/bin/bash\nset -euo pipefail\nif [ "$1" = x ]; then\n  set -- python3 "$@"\nfi\nexec "$@"\n',
        "#!/bin/bash\necho starting\nPORT=${PORT:-80}\npython3 app.py --port $PORT\n",
        "#!/bin/sh\n# exec gunicorn app\ncat <<EOF\nexec gunicorn\nEOF\nexec python3 \\\n  app.py\n",
        '#!/bin/sh\nmain() {\n  exec "$@"\n}\nmain "$@"\n',
        '#!/bin/sh\ncase "$1" in\n  serve|run) shift; exec gunicorn app ;;\n  *) exec "$@" ;;\nesac\n',
        "#!/bin/sh\n'''exec' /usr/bin/python3 app.py\n' '''\n",
        "#!/usr/bin/env -S bash -e\nexec python3 app.py\n",
    ],
)
def test_start_scripts(root: Root, script: str) -> None:
    root.add("/app/start.sh", script)
    interpreter, path = found(root.resolve("/app/start.sh", "python3", "app.py"))
    assert interpreter == "/usr/bin/python3"
    assert path == "/app/app.py"


def test_an_activated_environment(root: Root) -> None:
    root.venv("/opt/venv")
    for line in ("source /opt/venv/bin/activate", ". /opt/venv/bin/activate", 'export PATH="/opt/venv/bin:$PATH"'):
        root.add("/app/start.sh", f"#!/bin/bash\n{line}\nexec python app.py\n")
        assert found(root.resolve("/app/start.sh")) == ("/opt/venv/bin/python", "/app/app.py")


def test_a_console_script_is_known_by_its_first_line(root: Root) -> None:
    root.venv("/opt/venv")
    root.add("/opt/venv/bin/gunicorn", "#!/opt/venv/bin/python\nimport gunicorn\n")
    result = root.resolve("gunicorn", "app:app", environ={"PATH": f"/opt/venv/bin:{PATH}"})
    assert found(result) == ("/opt/venv/bin/python", "/opt/venv/bin/gunicorn")
    assert "/opt/venv/bin/gunicorn is a script of /opt/venv/bin/python" in result.chain


def test_a_script_of_a_script(root: Root) -> None:
    root.add("/app/runner", "#!/usr/bin/env python3\n")
    root.add("/app/job", "#!/app/runner -x\n")
    assert found(root.resolve("/app/job")) == ("/usr/bin/python3", "/app/runner")


def test_a_module(root: Root) -> None:
    root.add("/usr/lib/python3.11/os.py", "", 0o644)
    root.add("/usr/lib/python3/dist-packages/uvicorn/__main__.py", "", 0o644)
    result = root.resolve("python3", "-m", "uvicorn", "app:app")
    assert found(result) == ("/usr/bin/python3", "/usr/lib/python3/dist-packages/uvicorn/__main__.py")
    assert result.module == "uvicorn"
    assert found(root.resolve("python3", "-um", "app"))[1] == "/app/app.py"
    missing = root.resolve("python3", "-m", "hypercorn")
    assert missing.problem == "/usr/bin/python3: No module named hypercorn"
    assert not missing.exact
    root.add("/usr/lib/python3/dist-packages/editable.pth", "/elsewhere\n", 0o644)
    assert root.resolve("python3", "-m", "hypercorn").problem is None


@pytest.mark.parametrize(
    ("entry", "prefix"),
    [
        ("poetry run python app.py", "/app/.venv"),
        ("uv run --no-sync app.py", "/app/.venv"),
        ("uv run -- python app.py", "/app/.venv"),
        ("pipenv run python app.py", "/app/.venv"),
        ("/opt/conda/bin/conda run --no-capture-output -n serving python app.py", "/opt/conda/envs/serving"),
        ("/opt/conda/bin/conda run -p /opt/conda/envs/serving python app.py", "/opt/conda/envs/serving"),
    ],
)
def test_project_tools(root: Root, entry: str, prefix: str) -> None:
    root.venv("/app/.venv")
    root.venv("/opt/conda/envs/serving")
    root.add("/opt/conda/conda-meta/history", "", 0o644)
    root.add("/opt/conda/bin/conda", "#!/usr/bin/python3\n")
    root.add("/usr/bin/uv", elf())
    for name in ("poetry", "pipenv"):
        root.add(f"/usr/bin/{name}", "#!/usr/bin/python3\n")
    assert found(root.resolve(*entry.split())) == (f"{prefix}/bin/python", "/app/app.py")


def test_a_shim_of_pyenv(root: Root) -> None:
    shim = '#!/usr/bin/env bash\nset -e\nexec "/opt/pyenv/libexec/pyenv" exec "${0##*/}" "$@"\n'
    root.add("/opt/pyenv/shims/python", shim)
    for version in ("3.10.4", "3.11.9", "3.11.10"):
        root.add(f"/opt/pyenv/versions/{version}/bin/python", elf())
    root.add("/opt/pyenv/version", "3.10.4\n", 0o644)
    environ = {"PATH": f"/opt/pyenv/shims:{PATH}", "PYENV_ROOT": "/opt/pyenv"}
    assert found(root.resolve("python", "app.py", environ=environ))[0] == "/opt/pyenv/versions/3.10.4/bin/python"
    root.add("/app/.python-version", "3.11\n", 0o644)
    assert found(root.resolve("python", "app.py", environ=environ))[0] == "/opt/pyenv/versions/3.11.10/bin/python"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ([], "nothing is started by default"),
        (["bash"], "a shell, which starts nothing by itself"),
        (["/usr/bin/server"], "/usr/bin/server is no Python, and what it starts is not known"),
        (["env"], "env prints its variables and starts nothing"),
        (["sh", "-c", "$(choose)"], "sh starts nothing that can be told without running it"),
    ],
)
def test_no_interpreter(root: Root, entry: list[str], reason: str) -> None:
    root.add("/usr/bin/server", elf())
    result = root.resolve(*entry)
    assert (result.interpreter, result.problem) == (None, None)
    assert result.reason == reason or entry[-1] == "$(choose)"


PIECES = [
    "exec ", '"$@"', "$(", "`", "${X:-", "}", '"', "'", "\\\n", "if ", "; then ", "fi\n", "case x in ", ") ", "esac\n",
    "<<E\n", "E\n", "{ ", "( ", "&& ", "|| ", "python3 ", "app.py", "\0", "\r\n", ". /t/x\n", "cd /tmp\n", "set -- ",
    '"$0"', "export A=", "~", "$", "\\", "sh -c ", "env -S ", "conda run -n ", "uv run ", "shift\n", "shift ²\n",
    "/t/x ", "\n",
]  # fmt: skip

# What cannot start: the first line that was printed, by the script's content

BROKEN = [
    ("#!/bin/sh\r\nexec app\r\n", "exec /t/x: no such file or directory"),
    ("#!/usr/bin/python3\r\n", "exec /t/x: no such file or directory"),
    ("#!/nowhere/bash\n", "exec /t/x: no such file or directory"),
    ("#!python3\n", "exec /t/x: no such file or directory"),
    ("#!/usr/bin/env bash\r\n", "/usr/bin/env: 'bash\\r': No such file or directory"),
    ("#!/usr/bin/env python9\n", "/usr/bin/env: 'python9': No such file or directory"),
    ("#!/usr/bin/env python3 -u\n", "/usr/bin/env: 'python3 -u': No such file or directory"),
    ("echo hi\n", "exec /t/x: exec format error"),
    ("", "exec /t/x: exec format error"),
    ("#!\n", "exec /t/x: exec format error"),
    (" #!/bin/sh\n", "exec /t/x: exec format error"),
    ("\ufeff#!/bin/sh\n", "exec /t/x: exec format error"),
    ("#!/" + "a" * 300 + "/python\n", "exec /t/x: exec format error"),
    ("#!/t/x\n", "exec /t/x: too many levels of symbolic links"),
    ("#!/t\n", "exec /t/x: permission denied"),
    ("#!/bin/sh\nexec gunicorn app\n", "/t/x: 2: exec: gunicorn: not found"),
    ("#!/bin/bash\nexec gunicorn app\n", "/t/x: line 2: exec: gunicorn: not found"),
    ("#!/bin/sh\n\ngunicorn app\n", "/t/x: 3: gunicorn: not found"),
    ("#!/bin/bash\ngunicorn app\n", "/t/x: line 2: gunicorn: command not found"),
    ("#!/bin/sh\nexec /t/plain\n", "/t/x: 2: exec: /t/plain: Permission denied"),
    ("#!/bin/bash\nexec /t/plain\n", "/t/x: line 2: /t/plain: Permission denied"),
    ("#!/bin/sh\nexec /t/crlf\n", "/t/x: 2: exec: /t/crlf: not found"),
    ("#!/bin/bash\nexec /t/crlf\n", "/t/x: line 2: /t/crlf: cannot execute: required file not found"),
    ("#!/bin/sh\nexec /t/arm\n", "/t/x: 2: exec: /t/arm: Exec format error"),
    ("#!/bin/bash\nexec /t/arm\n", "/t/x: line 2: /t/arm: cannot execute binary file: Exec format error"),
    ("#!/bin/sh\nexec /t\n", "/t/x: 2: exec: /t: Permission denied"),
    ("#!/bin/bash\nexec /t\n", "/t/x: line 2: /t: Is a directory"),
    ("#!/bin/sh\n. /v/activate\nexec python\n", "/t/x: 2: .: cannot open /v/activate: No such file"),
    ("#!/bin/bash\nset -e\nsource /v/activate\n", "/t/x: line 3: /v/activate: No such file or directory"),
    ("#!/bin/sh\nset -e\ncd /gone\nexec python3\n", "/t/x: 3: cd: can't cd to /gone"),
    ("#!/bin/sh\nexec python3 run.py\n", "python3: can't open file '/app/run.py': [Errno 2] No such file or directory"),
]


@pytest.mark.parametrize(("script", "text"), BROKEN)
def test_a_script_that_cannot_start(root: Root, script: str, text: str) -> None:
    root.add("/t/x", script)
    root.add("/t/plain", "#!/bin/sh\n", 0o644)
    root.add("/t/crlf", "#!/bin/sh\r\n")
    root.add("/t/arm", elf(ARM))
    result = root.resolve("/t/x")
    assert (result.problem, result.exact) == (text, True)
    assert result.reason


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (["gunicorn"], 'exec: "gunicorn": executable file not found in $PATH'),
        ([""], 'exec: "": executable file not found in $PATH'),
        (["/t/none"], 'exec: "/t/none": stat /t/none: no such file or directory'),
        (["./none"], 'exec: "./none": stat ./none: no such file or directory'),
        (["/t/dangling"], 'exec: "/t/dangling": stat /t/dangling: no such file or directory'),
        (["/t/plain"], 'exec: "/t/plain": permission denied'),
        (["/t/arm"], "exec /t/arm: exec format error"),
        (["/t/musl"], "exec /t/musl: no such file or directory"),
        (["sh", "/t/none"], "sh: 0: cannot open /t/none: No such file"),
        (["bash", "none.sh"], "bash: none.sh: No such file or directory"),
        (["/bin/sh", "-c", "gunicorn"], "/bin/sh: 1: gunicorn: not found"),
        (["/bin/sh", "-c", "cd /gone && python3 app.py"], "/bin/sh: 1: cd: can't cd to /gone"),
        (["env", "gunicorn"], "env: 'gunicorn': No such file or directory"),
        (["python3", "/t"], "/usr/bin/python3: can't find '__main__' module in '/t'"),
        (["python3", "./run.py"], "python3: can't open file '/app/./run.py': [Errno 2] No such file or directory"),
    ],
)
def test_a_command_that_cannot_start(root: Root, entry: list[str], text: str) -> None:
    root.add("/t/plain", "#!/bin/sh\n", 0o644)
    root.add("/t/arm", elf(ARM))
    root.add("/t/musl", elf(loader="/lib/ld-musl-x86_64.so.1"))
    root.link("/t/dangling", "/nowhere")
    result = root.resolve(*entry)
    assert (result.problem, result.exact) == (text, True)


def test_the_words_are_those_of_the_program_that_is_there(root: Root) -> None:
    root.add("/t/crlf", "#!/bin/sh\r\n")
    root.add("/usr/bin/bash", BASH_51)
    text = "bash: /t/crlf: /bin/sh^M: bad interpreter: No such file or directory"
    assert root.resolve("bash", "-c", "/t/crlf").problem == text
    root.add("/t/env", "#!/usr/bin/env nothing\n")
    root.add("/usr/bin/env", elf(more=b"\0GNU coreutils\x009.7\0"))
    assert root.resolve("/t/env").problem == "env: 'nothing': No such file or directory"
    root.add("/usr/lib/locale/C.utf8/LC_CTYPE")
    utf8 = root.resolve("/t/env", environ={"LANG": "C.UTF-8"})
    assert utf8.problem == "env: \u2018nothing\u2019: No such file or directory"
    root.link("/usr/bin/python3.8", "python3.8-really")
    root.add("/usr/bin/python3.8-really", elf())
    old = root.resolve("python3.8", "run.py")
    assert old.problem == "python3.8: can't open file 'run.py': [Errno 2] No such file or directory"


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/sh\n/t/make-it\nexec /t/made app\n",
        '#!/bin/sh\nif [ "$X" ]; then exec /t/none; fi\nexec python3 app.py\n',
        "#!/bin/sh\n/t/none || true\nexec python3 app.py\n",
        "#!/bin/sh\nset -e\n[ -f /v/activate ] && . /v/activate\nexec python3 app.py\n",
    ],
)
def test_what_only_a_run_can_tell_is_never_certain(root: Root, script: str) -> None:
    root.add("/t/x", script)
    root.add("/t/make-it", "#!/bin/sh\n")
    result = root.resolve("/t/x")
    assert result.problem is None or not result.exact


@pytest.mark.parametrize(
    "script",
    ["#!/t/x\n", '#!/bin/sh\nexec "$0" "$@"\n', "#!/bin/sh\n. /t/x\n", "#!/bin/sh\nexec sh /t/x\n",
     "#!/bin/sh\n" + "echo $(" * 200, "#!/bin/sh\n" + "if a; then\n" * 5000, "#!/bin/sh\ncat <<X\n", '#!/bin/sh\n"$(',
     "#!/bin/sh\n\0\0\0", "#!/bin/sh\n${" + "a" * 9999],
)  # fmt: skip
def test_hostile_scripts_come_to_an_end(root: Root, script: str) -> None:
    root.add("/t/x", script)
    result = root.resolve("/t/x")
    assert result.interpreter is None


@pytest.mark.parametrize(
    "script",
    ["$((" * 20_000, '"' * 100_000, "${" * 50_000, "\\\n" * 100_000, "x " * 100_000, "/t/x\n" * 3000,
     '/t/x "$@" "$@"\n' * 50, "A=xx\n" + 'A="$A$A$A$A$A$A$A$A"\n' * 40 + "exec $A",
     'set -- "$@" "$@"\n' * 40 + 'exec "$@"'],
    ids=range(9),
)  # fmt: skip
def test_a_script_made_to_take_long_does_not(root: Root, script: str) -> None:
    root.add("/t/x", f"#!/bin/sh\n{script}\n")
    # What is not bounded would take hours, or all of the memory.
    assert root.resolve("/t/x", "y").chain


@given(st.lists(st.sampled_from(PIECES), max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_script_makes_it_fail(pieces: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Root(Path(folder))
        root.add("/t/x", "#!/bin/sh\n" + "".join(pieces))
        for result in (root.resolve("/t/x", "a", "b c"), root.resolve("sh", "-c", "".join(pieces))):
            assert result.reason


# The kernel's part, and the shell's


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"#!/usr/bin/env python3\r\n", ("/usr/bin/env", "python3\r")),
        (b"#! \t/bin/sh \t-e  \nx", ("/bin/sh", "-e")),
        (b"#!/bin/sh", ("/bin/sh", None)),
        (b"#!/bin/sh -e -u\n", ("/bin/sh", "-e -u")),
        (b"#!\n", None),
        (b"\xef\xbb\xbf#!/bin/sh\n", None),
    ],
)
def test_first_lines(head: bytes, expected: tuple[str, str | None] | None) -> None:
    assert executables.shebang(head) == expected


def test_the_loader_of_a_program() -> None:
    assert executables.elf_interpreter(elf()) == "/lib64/ld-linux-x86-64.so.2"
    assert executables.elf_interpreter(elf()[:100]) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('"$@"', ["python", "a b.py"]),
        ("$@", ["python", "a b.py"]),
        ('x"$@"y', ["xpython", "a b.pyy"]),
        ("$BOTH", ["a", "b"]),
        ('"$BOTH"', ["a b"]),
        ("${PORT:-9}", ["80"]),
        ("${NONE:-z}", ["z"]),
        ("${NONE}", []),
        ('""', [""]),
        ("'$PORT'", ["$PORT"]),
        ("\\$PORT", ["$PORT"]),
        ("${0##*/}", ["start.sh"]),
        ("~/x", ["/home/x"]),
        ("a$(b)", ["a" + shell_script.UNKNOWN]),
        ("`b`", [shell_script.UNKNOWN]),
    ],
)
def test_words_become_what_a_shell_makes_of_them(raw: str, words: list[str]) -> None:
    variables = {"PORT": "80", "BOTH": "a b", "HOME": "/home"}
    assert shell_script.Scope(variables, "/t/start.sh", ["python", "a b.py"]).words([raw]) == words


def test_commands_know_where_they_stand() -> None:
    text = 'a && b # c\nif d; then e; fi\nf | g\nh <<E\nx\nE\n(i)\nj 2>&1 >k &\nX=1 l \\\n m "n\no"\np'
    found = [(" ".join(command.words), command.line, command.depth) for command in shell_script.commands(text)]
    assert found == [
        ("a", 1, 0), ("b", 1, 0), ("d", 2, 1), ("e", 2, 1), ("f", 3, 0), ("g", 3, 0), ("h", 4, 0), ("i", 7, 1),
        ("j", 8, 0), ('l m "n\no"', 9, 0), ("p", 12, 0),
    ]  # fmt: skip
