"""Section ``imports``: what happens when modules are really imported, only where somebody asked (--try-imports).

Each name is imported by a child process: the interpreter under test, its variables, its search path, a time limit.
This is the one probe that runs code of the measured environment.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import json
import os
import re
import signal
import sys
import time

from . import common

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple  # noqa: F401

    from .common import Place

LAYER = "run"

# Seconds for one import (a cold torch takes 20 on a slow disk), and for all of them: whoever waits for the snapshot
# has a limit too.
TIME_LIMIT = 60.0
TOTAL_LIMIT = 100.0

# Of what an import prints, the end is kept.
OUTPUT_LIMIT = 1 << 16
MESSAGE_LIMIT = 4000

_NAME = re.compile(r"^[^\W\d]\w*(?:\.[^\W\d]\w*)*$")

# ``python -c`` puts the working directory first; the search path as it was measured has none. The last write goes
# past whatever the module put in the place of sys.stdout, and os._exit keeps what it left behind from speaking.
_CHILD = """\
import sys
if sys.path and sys.path[0] == '':
    del sys.path[0]
import importlib, json, os
answer = {'outcome': 'imported'}
try:
    importlib.import_module(sys.argv[1])
except BaseException as error:
    answer = {'outcome': 'raised', 'type': type(error).__name__, 'message': str(error)[:4000]}
for stream in (sys.stdout, sys.stderr):
    try:
        stream.flush()
    except BaseException:
        pass
data = ('\\n' + sys.argv[2] + json.dumps(answer) + '\\n').encode('ascii')
while data:
    data = data[os.write(1, data):]
os._exit(0)
"""


def measure(place: "Place") -> "Dict[str, Any]":
    """``{"modules": {name: {"outcome": ...}}}``; see ``schemas/sections/imports.json``.

    Raises:
        Absent: where nothing was asked for.
        Unavailable: where nothing can be run.
    """
    names = place.options.get("try_imports") or []
    if not names:
        raise common.Absent("nothing was asked for: name modules with --try-imports")
    if not place.live:
        raise common.Unavailable("only a place whose interpreter can be run imports anything")
    ends = time.time() + TOTAL_LIMIT
    modules = {}
    for name in dict.fromkeys(names):
        if not isinstance(name, str) or not _NAME.match(name):
            place.problem(str(name)[:200], "not the name of a module")
            continue
        modules[name] = attempt(sys.executable, name, place.environ, max(1.0, min(TIME_LIMIT, ends - time.time())))
    return {"modules": modules}


def attempt(executable: "str", name: "str", environ: "Dict[str, str]", seconds: "float") -> "Dict[str, Any]":
    """Import one module in a child of ``executable``; one record of the section's facts."""
    import binascii
    import subprocess
    import threading

    cookie = binascii.hexlify(os.urandom(16)).decode("ascii")
    child = subprocess.Popen(
        [executable, "-c", _CHILD, name, cookie],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        start_new_session=os.name == "posix",
    )
    kept = [b"", False]  # type: List[Any]

    def read() -> "None":
        while True:
            piece = os.read(child.stdout.fileno(), 1 << 16)  # type: ignore[union-attr]
            if not piece:
                return
            kept[1] = kept[1] or b"_ARRAY_API not found" in kept[0][-32:] + piece
            kept[0] = (kept[0] + piece)[-OUTPUT_LIMIT:]

    reader = threading.Thread(target=read)
    reader.daemon = True
    reader.start()
    try:
        child.wait(seconds)
        record = {}  # type: Dict[str, Any]
    except subprocess.TimeoutExpired:
        record = {"outcome": "timeout", "message": "no end after %d seconds" % seconds}
    # What it started may hold the pipe open for ever.
    if not record:
        reader.join(2.0)
    _end(child)
    reader.join(2.0)
    if not reader.is_alive() and child.stdout is not None:
        child.stdout.close()
    record = record or judged(kept[0], child.returncode, cookie)
    if kept[1]:
        record["array_api_not_found"] = True
    return record


def judged(output: "bytes", returncode: "int", cookie: "str") -> "Dict[str, Any]":
    """What the end of a child's output and its exit status come to."""
    _, found, rest = output.rpartition(("\n" + cookie).encode("ascii"))
    if found:
        try:
            answer = json.loads(rest.decode("utf-8", "replace").split("\n", 1)[0])
        except ValueError:
            answer = {}
        if answer.get("outcome") == "imported":
            return {"outcome": "imported"}
        if answer.get("outcome") == "raised":
            message = str(answer.get("message"))[:MESSAGE_LIMIT]
            kind = str(answer.get("type"))[:200]
            # What a traceback ends with: the first line of the error, as it is quoted.
            line = kind + (": " + message if message else "")
            return {"outcome": "raised", "type": kind, "message": message, "line": line.split("\n", 1)[0]}
    if returncode < 0:
        return {"outcome": "killed", "type": _signal_name(-returncode)}
    return {"outcome": "exited", "message": "exit code %d" % returncode}


def _signal_name(number: "int") -> "str":
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def _end(child: "Any") -> "None":
    """The child and whatever it started."""
    try:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    except OSError:
        pass
    if child.poll() is None:
        child.wait()
