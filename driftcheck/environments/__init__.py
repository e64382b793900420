"""A reference becomes a measured snapshot: the grammar, and one small module per kind of environment."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Protocol, cast

from driftcheck import interrupts, progress
from driftcheck.environments import reference
from driftcheck.probes.redaction import redact_secrets
from driftcheck.snapshot import Snapshot


@dataclass(frozen=True)
class Options:
    """What the user says of a measurement, beside its reference.

    ``python``     the interpreter to ask, instead of the one that would be chosen
    ``label``      what reports call the environment
    ``variables``  names of further environment variables whose values may be recorded
    ``pull``       an image is pulled before it is measured
    ``try_imports``  modules that are really imported over there
    ``artifacts``  model files, by their paths over there, to fingerprint
    ``run_arguments``  options of ``docker run`` with which an image is measured (``run_arguments.py``)
    """

    python: str | None = None
    label: str | None = None
    variables: tuple[str, ...] = ()
    pull: bool = False
    run_arguments: tuple[str, ...] = ()
    try_imports: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


class Kind(Protocol):
    """A module of this package: one way in which an environment is reached."""

    def measure(self, found: reference.Reference, options: Options) -> Snapshot: ...


def snapshot_of(text: str, options: Options) -> Snapshot:
    """Measure the environment that a reference names, or read its snapshot from a file.

    Raises:
        InputError: when there is no such environment, or it does not answer.
    """
    found = reference.parse(text)
    kind = cast("Kind", importlib.import_module(reference.KINDS[found.kind]))
    with interrupts.as_exceptions(), progress.during(f"Measuring {redact_secrets(text)}"):
        snapshot = kind.measure(found, options)
    if options.try_imports and found.kind != "file" and "imports" not in snapshot.sections:
        warning = f"{redact_secrets(text)}: nothing of it is run, so nothing was imported (--try-imports)"
        return replace(snapshot, warnings=(*snapshot.warnings, warning))
    return snapshot
