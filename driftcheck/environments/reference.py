"""The grammar of references: how a user names an environment.

``host``, ``kind:name``, a snapshot file, or ``-`` for a snapshot on standard input.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from driftcheck.errors import InputError

# Each kind's module has measure(found, options) -> Snapshot; it is imported when it is used.
KINDS = {
    "host": "driftcheck.environments.host",
    "python": "driftcheck.environments.interpreter",
    "file": "driftcheck.environments.file",
    "container": "driftcheck.environments.container",
    "image": "driftcheck.environments.image",
    "archive": "driftcheck.environments.archive",
    "rootfs": "driftcheck.environments.rootfs",
    "ssh": "driftcheck.environments.command",
    "via": "driftcheck.environments.command",
}

GRAMMAR = (
    "host, python:PATH, container:NAME, image:REF, archive:FILE, rootfs:DIR, ssh:DEST, "
    'via:"COMMAND PREFIX", a snapshot file, or - for standard input'
)

# What stands behind the colon of each kind, and an example.
_NAMES = {
    "python": ("path", "python:.venv/bin/python"),
    "container": ("container", "container:web"),
    "image": ("image", "image:svc:1.4"),
    "archive": ("file", "archive:svc.tar"),
    "rootfs": ("directory", "rootfs:/mnt/root"),
    "ssh": ("destination", "ssh:user@node7"),
    "via": ("command", 'via:"kubectl exec -i pod --"'),
}


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
    # What a shell makes of <(command) is a pipe, and is read like a file.
    if text == "-" or (os.path.exists(text) and not os.path.isdir(text)):  # noqa: PTH110, PTH112 - not yet a path
        return Reference("file", text, text)
    kind, colon, name = text.partition(":")
    if colon and kind in _NAMES:
        what, example = _NAMES[kind]
        if not name.strip():
            raise InputError(text, f"no {what} behind {kind}:", f"For example: {example}")
        # docker, ssh and their like would take it for an option.
        if name.startswith("-"):
            article = "an" if what[0] in "aeiou" else "a"
            raise InputError(text, f"{article} {what} does not begin with -", f"For example: {example}")
        return Reference(kind, name, text)
    if os.path.isdir(text):  # noqa: PTH112
        raise InputError(text, "a directory, not a snapshot file", "For a virtual environment: python:DIR/bin/python")
    if colon and kind.isalpha() and len(kind) > 1 and kind not in {"host", "file"}:
        hint = f"For an image: image:{text}. A reference is {GRAMMAR}"
        raise InputError(text, f"there is no kind of reference called {kind!r}", hint)
    what = "no such file" if text else "no name of an environment"
    raise InputError(text, what, f"A reference is {GRAMMAR}")
