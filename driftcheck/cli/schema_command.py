"""``driftcheck schema``."""

from __future__ import annotations

import json

import click

from driftcheck.cli.exits import CLEAN
from driftcheck.errors import InputError


@click.command(name="schema")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Print a JSON Schema: of a snapshot, of a report, of a knowledge table. Without NAME: which there are."""
    from driftcheck import validation  # noqa: PLC0415

    if name is None:
        for known in validation.names():
            click.echo(known)
        return CLEAN
    if name not in validation.names():
        raise InputError(name, "there is no schema of this name", f"There are: {', '.join(validation.names())}")
    click.echo(json.dumps(validation.schema(name), indent=2))
    return CLEAN
