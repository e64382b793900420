"""A snapshot that was taken before: from a file, or from standard input."""

from __future__ import annotations

import dataclasses

from driftcheck.environments import Options
from driftcheck.environments.reference import Reference
from driftcheck.snapshot import Snapshot, load


def measure(found: Reference, options: Options) -> Snapshot:
    """Read it. A label given on the command line replaces the one that it carries."""
    snapshot = load(found.name)
    if options.label:
        return dataclasses.replace(snapshot, header={**snapshot.header, "label": options.label})
    return snapshot
