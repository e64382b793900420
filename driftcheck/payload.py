"""Packs the probes into one program, which is sent into an environment or handed to a stranger as a file.

The program is readable: the sources of ``probes/`` stand in it as they are, each in a raw string.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import marshal
import re
from importlib.abc import SourceLoader
from importlib.util import MAGIC_NUMBER
from typing import Any

from driftcheck import __version__

# Modules that start a program; everything else in probes/ is packed where it is needed.
_BOOTSTRAP = "bootstrap"
_PAYLOAD = "payload"
_SCOUT = "scout"
# Packed only where somebody names model files: 60 kB that every other measurement would carry and compile.
_ARTIFACTS = "artifacts"

# Runs in the interpreter under test before anything else, Python 2 included. `sys` is built in; the first
# entry of sys.path is '' here (the working directory) unless PYTHONSAFEPATH is set, and goes at once. It reads its
# program to the byte and no further: what follows is for the interpreter that takes its place (`scout`). Whatever
# becomes of us, it ends in time: faulthandler's watchdog is built in, needs no signal (process 1 of a container
# gets none) and works while C code hangs.
_BOOT = """\
import sys
if sys.path and sys.path[0] == '':
    del sys.path[0]
if sys.version_info < (3, 6):
    sys.exit('driftcheck needs Python 3.6 or newer here, and this is Python %d.%d' % sys.version_info[:2])
try:
    import faulthandler
    faulthandler.dump_traceback_later({seconds}, exit=True, file=2)
except Exception:
    pass
import os
program = b''
while len(program) < {size}:
    piece = os.read(0, {size} - len(program))
    if not piece:
        sys.exit('driftcheck was cut off')
    program += piece
exec(compile(program.partition(b'\\0')[0], 'driftcheck-payload', 'exec'))
"""


def boot(program: bytes, seconds: float) -> str:
    """The text behind ``python -c`` that reads ``program`` from standard input, runs it, and ends by ``seconds``."""
    return _BOOT.replace("{size}", str(len(program))).replace("{seconds}", str(max(1, int(seconds))))


def one_line(program: str) -> str:
    """The same program for ``python -c`` on one line with double quotes around it and no other quote inside.

    A remote shell may be a csh or a fish, which want no newline, ``!`` or backslash-quote inside of quotes.
    """
    text = re.sub(r"[^A-Za-z0-9 _.,:()<>=\[\]+-]", lambda sign: f"\\x{ord(sign[0]):02x}", program)
    return f'exec("{text}")'


_HEADER = '''\
#!/usr/bin/env python3
"""driftcheck {version}: fingerprint this environment.

    python3 probe.py -o snapshot.json

Needs Python 3.6 or newer and nothing else. Imports nothing of yours, sends nothing, and hides secrets, user
names and host names; read the result before you share it.
"""
'''

_IMPORT = re.compile(r"^from \.(?P<module>\w*) import (?P<names>.+)$", re.MULTILINE)


def channel_payload(options: dict[str, Any], *, compiled: bool = False) -> bytes:
    """The payload for a channel; ``options`` are those of ``probes/payload.py``, JSON values.

    With ``compiled`` the bytecode of the modules follows their sources. An interpreter of our own version takes it
    and saves the 0.1 s that it takes to compile them; any other compiles the sources.
    """
    modules = (_ARTIFACTS, _PAYLOAD) if options.get("artifacts") else (_PAYLOAD,)
    text = _pack(modules, {"version": __version__, **options}, script=False).encode("utf-8")
    return text + b"\0" + MAGIC_NUMBER + marshal.dumps(_bytecode(modules)) if compiled else text


def scout_payload(options: dict[str, Any]) -> bytes:
    """The program that chooses an interpreter inside of a container; ``options`` are those of ``probes/scout.py``."""
    return _pack((_SCOUT,), options, script=False).encode("utf-8")


def probe_file() -> str:
    """The stand-alone program of ``driftcheck probe``."""
    return _HEADER.format(version=__version__) + _pack((_ARTIFACTS, _PAYLOAD), {"version": __version__}, script=True)


def _pack(modules: tuple[str, ...], options: dict[str, Any], *, script: bool) -> str:
    """A program that holds these modules and what they import, and runs the last one."""
    sources = _sources()
    parts = [sources[_BOOTSTRAP], "\nSOURCES = {}\n"]
    for name in _order(sources, modules):
        parts.append(f"SOURCES[{name!r}] = r'''{sources[name]}'''\n")
    # A channel's bootstrap keeps what it read as `program`; bytecode may stand in it behind the text.
    rest = "b''" if script else "program.partition(b'\\0')[2]"
    parts.append(f"\nstart(SOURCES, {modules[-1]!r}, {options!r}, {script!r}, {rest})\n")
    return "".join(parts)


def _bytecode(modules: tuple[str, ...]) -> dict[str, Any]:
    """The code of each module as Python keeps it beside the installed sources."""
    code = {}
    for name in _order(_sources(), modules):
        spec = importlib.util.find_spec(f"driftcheck.probes.{name}")
        if spec is not None and isinstance(spec.loader, SourceLoader):
            code[name] = spec.loader.get_code(spec.name)
    return code


@functools.cache
def _sources() -> dict[str, str]:
    folder = importlib.resources.files("driftcheck.probes")
    return {
        file.name.removesuffix(".py"): file.read_text(encoding="ascii")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py") and file.name != "__init__.py"
    }


def _order(sources: dict[str, str], modules: tuple[str, ...]) -> list[str]:
    """Module names, each after those that it imports; only those that these modules reach."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for needed in _needs(sources[name]):
            visit(needed)
        order.append(name)

    for module in modules:
        visit(module)
    return order


def _needs(source: str) -> list[str]:
    """The neighbours that a probe imports: ``from . import a, b`` and ``from .a import x`` at its top level."""
    needed: list[str] = []
    for found in _IMPORT.finditer(source):
        needed.extend([found["module"]] if found["module"] else re.findall(r"\w+", found["names"]))
    return needed
