"""The grammar of references: how a user names an environment.

``host``, ``kind:name``, a snapshot file, or ``-`` for a snapshot on standard input.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from driftcheck.errors import InputError

# Each kind's module has measure(name, options) -> Snapshot; it is imported when it is used.
KINDS = {
    "host": "driftcheck.environments.host",
    "python": "driftcheck.environments.interpreter",
    "file": "driftcheck.environments.file",
}

GRAMMAR = "host, python:PATH, a snapshot file, or - for standard input"


@dataclass(frozen=True)
class Reference:
    """``kind`` is a key of ``KINDS``; ``name`` is what stands behind the colon; ``text`` is what was typed."""

    kind: str
    name: str
    text: str


def parse(text: str) -> Reference:
    """Read a reference. A file that exists is taken for one, whatever its name looks like.

    Raises:
        InputError: when it is neither.
    """
    if text == "host":
        return Reference("host", "", text)
    if text == "-" or os.path.isfile(text):  # noqa: PTH113 - a name, not yet a path
        return Reference("file", text, text)
    kind, colon, name = text.partition(":")
    if colon and kind == "python":
        if not name:
            raise InputError(text, "no path behind python:", "For example: python:.venv/bin/python")
        return Reference(kind, name, text)
    if os.path.isdir(text):  # noqa: PTH112
        raise InputError(text, "a directory, not a snapshot file", "For a virtual environment: python:DIR/bin/python")
    if colon and kind.isalpha() and len(kind) > 1 and kind not in {"host", "file"}:
        raise InputError(text, f"there is no kind of reference called {kind!r}", f"A reference is {GRAMMAR}")
    raise InputError(text, "no such file", f"A reference is {GRAMMAR}")
