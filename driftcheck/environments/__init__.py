"""A reference becomes a measured snapshot: the grammar, and one small module per kind of environment."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from driftcheck.environments import reference
from driftcheck.snapshot import Snapshot


@dataclass(frozen=True)
class Options:
    """What the user says of a measurement, beside its reference.

    ``python``     the interpreter to ask, instead of the one that would be chosen
    ``label``      what reports call the environment
    ``variables``  names of further environment variables whose values may be recorded
    """

    python: str | None = None
    label: str | None = None
    variables: tuple[str, ...] = ()


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
    return kind.measure(found, options)
