"""The Python interpreters of an environment: which one its service runs, and which others there are.

The service's own process is asked first (``/proc/PID/exe`` and its children, see proc(5)), then its start
command (``start_command``). Everything is read, nothing is run.
"""

import os
import re

from . import start_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

    from .common import Place

# python, python3, python3.11, python3.13t, pypy3.10
PYTHON = re.compile(r"^(?:python|pypy)[0-9]*(?:\.[0-9]+)?[a-z]?(?:\.exe)?$")

# How many directories are looked at for environments that nothing names.
DIRECTORIES_LIMIT = 3000
DEPTH_LIMIT = 4

# Where virtual environments are put, beside wherever PATH and variables lead.
HOMES = (
    "/opt", "/srv", "/app", "/code", "/workspace", "/home", "/root", "/usr/src", "/usr/local", "/venv", "/env",
    "/.venv", "/var/app", "/usr/app", "/work", "/workdir", "/project", "/service", "/deploy", "/conda",
)  # fmt: skip

# Their names are no places of environments, and many are large.
_SKIPPED = frozenset(["node_modules", "site-packages", "dist-packages", "__pycache__", ".git", "pkgs", "include",
                      "share", "doc", ".cache"])  # fmt: skip


class Process:
    """One process, as far as it may be seen."""

    def __init__(self, pid: "int", parent: "int", name: "str") -> "None":
        self.pid = pid
        self.parent = parent
        self.name = name

    def arguments(self) -> "List[str]":
        try:
            with open("/proc/%d/cmdline" % self.pid, "rb") as file:
                return [part.decode("utf-8", "surrogateescape") for part in file.read(1 << 16).split(b"\0")]
        except OSError:
            return []

    def link(self, name: "str") -> "Optional[str]":
        try:
            return os.readlink("/proc/%d/%s" % (self.pid, name))
        except OSError:
            return None

    def environ(self) -> "Optional[Dict[bytes, bytes]]":
        """The variables that it was started with; None where they may not be read."""
        try:
            with open("/proc/%d/environ" % self.pid, "rb") as file:
                data = file.read(1 << 22)
        except OSError:
            return None
        pairs = [line.partition(b"=") for line in data.split(b"\0")]
        return {name: value for name, sign, value in pairs if sign and name}


def family(pid: "int") -> "List[Process]":
    """A process and its descendants, nearest first."""
    children = {}  # type: Dict[int, List[Process]]
    first = None
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        process = _process(int(name))
        if process is None:
            continue
        if process.pid == pid:
            first = process
        else:
            children.setdefault(process.parent, []).append(process)
    found = [first] if first is not None else []
    for process in found:
        found.extend(sorted(children.pop(process.pid, []), key=lambda child: child.pid))
    return found


def _process(pid: "int") -> "Optional[Process]":
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            text = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return None
    # The name stands in brackets and may hold some itself.
    name = text[text.find("(") + 1 : text.rfind(")")]
    fields = text[text.rfind(")") + 1 :].split()
    return Process(pid, int(fields[1]), name) if len(fields) > 1 else None


def running(pid: "int") -> "Optional[Tuple[str, str, Process]]":
    """``(interpreter, reason, process)`` of the first Python among the service's processes."""
    processes = family(pid)
    for process in processes:
        path = program(process)
        if path is None:
            continue
        if process.pid == pid:
            return path, "process %d of the container runs it" % pid, process
        return path, "process %d of the container (%s) started it" % (pid, processes[0].name), process
    return None


def program(process: "Process") -> "Optional[str]":
    """The path by which a process calls its Python interpreter; None where it is no Python.

    ``/proc/PID/exe`` is the file behind all links; an environment is known by the link in it, so the name that the
    process was started by counts, where it leads to that file.
    """
    exe = process.link("exe")
    arguments = process.arguments()
    called = arguments[0] if arguments else ""
    if not PYTHON.match(os.path.basename(exe or called).replace(" (deleted)", "")):
        return None
    environ = process.environ() or {}
    variables = {
        name: os.fsdecode(environ[name]) for name in (b"PATH", b"VIRTUAL_ENV", b"CONDA_PREFIX") if name in environ
    }
    candidates = []
    if called.startswith("/"):
        candidates.append(called)
    elif "/" in called:
        candidates.append(os.path.join(process.link("cwd") or "/", called))
    elif called:
        folders = variables.get(b"PATH", os.environ.get("PATH", os.defpath)).split(":")
        candidates.extend(os.path.join(folder, called) for folder in folders if folder.startswith("/"))
    for name in (b"VIRTUAL_ENV", b"CONDA_PREFIX"):
        if name in variables:
            candidates.append(os.path.join(variables[name], "bin", "python"))
    for path in candidates:
        path = os.path.normpath(path)
        if os.access(path, os.X_OK) and (exe is None or _same(path, "/proc/%d/exe" % process.pid)):
            return path
    return exe if exe is not None and os.access(exe, os.X_OK) else None


def _same(path: "str", other: "str") -> "bool":
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def resolved(place: "Place", config: "Mapping[str, Any]") -> "Tuple[Optional[str], str]":
    """``(interpreter or None, reason)`` that the start command of an image comes down to."""
    entry = [str(word) for word in list(config.get("entrypoint") or []) + list(config.get("cmd") or [])]
    if not entry:
        return None, "nothing is started by default"
    found = start_command.resolve(place, entry, str(config.get("working_dir") or "/"))
    path = found.interpreter
    if path is None or not PYTHON.match(os.path.basename(path)):
        return None, found.reason
    return path, found.reason


def on_path(place: "Place", path: "Optional[str]" = None) -> "Optional[str]":
    """``python3`` or ``python`` on PATH, in the names of the environment."""
    folders = (place.environ.get("PATH") or "/usr/local/bin:/usr/bin:/bin") if path is None else path
    for name in ("python3", "python"):
        for folder in folders.split(":"):
            full = folder.rstrip("/") + "/" + name
            if folder.startswith("/") and os.access(place.real(full), os.X_OK) and not place.is_dir(full):
                return full
    return None


def environments(place: "Place", chosen: "str", working_directory: "str" = "/") -> "Dict[str, str]":
    """Interpreters of other environments than the chosen one: ``{path: what it is}``.

    One for each directory of programs. Those on PATH, those that variables name, and virtual and conda
    environments at the usual places, as far as ``DIRECTORIES_LIMIT`` reaches.
    """
    found = {}  # type: Dict[str, str]
    seen = {_home(place, chosen)}

    def add(path: "Optional[str]", reason: "str") -> "None":
        if path is not None and _home(place, path) not in seen:
            seen.add(_home(place, path))
            found[path] = reason

    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = place.environ.get(name)
        if prefix and prefix.startswith("/"):
            add(_inside(place, prefix), "$%s names its environment" % name)
    for folder in (place.environ.get("PATH") or "").split(":"):
        path = on_path(place, folder)
        add(path, "%s on PATH" % os.path.basename(path or ""))
    for prefix, kind in _prefixes(place, working_directory):
        add(_inside(place, prefix), kind)
    return found


def _home(place: "Place", interpreter: "str") -> "Tuple[str, str]":
    """An environment is its directory of programs, and what is linked there: /bin and /usr/bin are often one."""
    folder = place.real(os.path.dirname(interpreter))
    return (os.path.realpath(folder) if place.live else folder), ""


def _inside(place: "Place", prefix: "str") -> "Optional[str]":
    for name in ("python", "python3"):
        path = prefix.rstrip("/") + "/bin/" + name
        if place.exists(path) and os.access(place.real(path), os.X_OK):
            return path
    return None


def _prefixes(place: "Place", working_directory: "str") -> "List[Tuple[str, str]]":
    """Directories that are a virtual or a conda environment, with what they are."""
    found = []
    looked_at = 0
    waiting = [(home, 0) for home in (working_directory,) + HOMES if home.startswith("/")]
    done = set()
    for folder, depth in waiting:
        folder = folder.rstrip("/") or "/"
        if folder in done or os.path.islink(place.real(os.path.dirname(folder)) + "/" + os.path.basename(folder)):
            continue
        done.add(folder)
        looked_at += 1
        if looked_at > DIRECTORIES_LIMIT:
            place.problem(folder, "too many directories; environments in the others were not looked for")
            break
        try:
            names = sorted(os.listdir(place.real(folder)))
        except OSError:
            continue
        if "pyvenv.cfg" in names:
            found.append((folder, "a virtual environment"))
            continue
        if "conda-meta" in names:
            found.append((folder, "a conda environment"))
            names = ["envs"] if "envs" in names else []
        if depth < DEPTH_LIMIT and folder != "/":
            waiting.extend(
                (folder + "/" + name, depth + 1)
                for name in names
                if name not in _SKIPPED and place.is_dir(folder + "/" + name)
            )
    return found
