"""Packs the probes into one program, which is sent into an environment or handed to a stranger as a file.

The program is readable: the sources of ``probes/`` stand in it as they are, each in a raw string.
"""

from __future__ import annotations

import importlib.resources
import re
from typing import Any

from driftcheck import __version__

# Modules that start the payload; everything else in probes/ is packed.
_BOOTSTRAP = "bootstrap"
_MAIN = "payload"

# Runs in the interpreter under test before anything else, Python 2 included. `sys` is built in; the first
# entry of sys.path is '' here (the working directory) unless PYTHONSAFEPATH is set, and goes at once.
BOOT = """\
import sys
if sys.path and sys.path[0] == '':
    del sys.path[0]
if sys.version_info < (3, 6):
    sys.exit('driftcheck needs Python 3.6 or newer here, and this is Python %d.%d' % sys.version_info[:2])
exec(compile(sys.stdin.buffer.read({size}), 'driftcheck-payload', 'exec'))
"""

_HEADER = '''\
#!/usr/bin/env python3
"""driftcheck {version}: fingerprint this environment.

    python3 probe.py -o snapshot.json

Needs Python 3.6 or newer and nothing else. Imports nothing of yours, sends nothing, and hides secrets, user
names and host names; read the result before you share it.
"""
'''

_IMPORT = re.compile(r"^from \.(?P<module>\w*) import (?P<names>.+)$", re.MULTILINE)


def channel_payload(options: dict[str, Any]) -> bytes:
    """The payload for a channel; ``options`` are those of ``probes/payload.py``, JSON values."""
    return _pack({"version": __version__, **options}, script=False).encode("utf-8")


def probe_file() -> str:
    """The stand-alone program of ``driftcheck probe``."""
    return _HEADER.format(version=__version__) + _pack({"version": __version__}, script=True)


def _pack(options: dict[str, Any], *, script: bool) -> str:
    sources = _sources()
    parts = [sources[_BOOTSTRAP], "\nSOURCES = {}\n"]
    for name in _order(sources):
        parts.append(f"SOURCES[{name!r}] = r'''{sources[name]}'''\n")
    parts.append(f"\nstart(SOURCES, {options!r}, {script!r})\n")
    return "".join(parts)


def _sources() -> dict[str, str]:
    folder = importlib.resources.files("driftcheck.probes")
    return {
        file.name.removesuffix(".py"): file.read_text(encoding="ascii")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py") and file.name != "__init__.py"
    }


def _order(sources: dict[str, str]) -> list[str]:
    """Module names, each after those that it imports; only those that the main program reaches."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for needed in _needs(sources[name]):
            visit(needed)
        order.append(name)

    visit(_MAIN)
    return order


def _needs(source: str) -> list[str]:
    """The neighbours that a probe imports: ``from . import a, b`` and ``from .a import x`` at its top level."""
    needed: list[str] = []
    for found in _IMPORT.finditer(source):
        needed.extend([found["module"]] if found["module"] else re.findall(r"\w+", found["names"]))
    return needed
