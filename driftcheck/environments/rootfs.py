"""``rootfs:DIR``: an unpacked root file system, read as it lies there."""

from __future__ import annotations

import os
from pathlib import Path

from driftcheck import progress
from driftcheck.environments import Options, files
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot


def measure(found: Reference, options: Options) -> Snapshot:
    """Read its files; nothing in it is run.

    Raises:
        InputError: when there is no such directory, or ``--python`` names no interpreter in it.
    """
    root = Path(found.name)
    try:
        os.listdir(root)  # noqa: PTH208 - to see whether it can be read
    except NotADirectoryError as error:
        hint = "For what docker save wrote: archive:FILE"
        raise InputError(found.text, "not a directory", hint) from error
    except OSError as error:
        raise InputError(found.text, error.strerror or str(error)) from error
    with progress.during(f"Reading the files of {found.text}"):
        return files.measure_root(root, request_for(found, options), python=options.python, channel="rootfs")
