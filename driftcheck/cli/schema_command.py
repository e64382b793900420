"""``driftcheck schema``."""

from __future__ import annotations

import json

import click

from driftcheck.cli.exits import CLEAN
from driftcheck.cli.pages import Manual, Page, exits
from driftcheck.errors import InputError

_MANUAL = Manual(
    arguments={"NAME": "Name of a schema. Without it: which there are."},
    examples={
        "driftcheck schema": "The names.",
        "driftcheck schema snapshot": "What a snapshot is, section by section.",
        "driftcheck schema policy > driftcheck.schema.json": "For the editor in which driftcheck.toml is written.",
    },
    exits=exits(0, 2, 4, 141),
)


@click.command(name="schema", cls=Page, manual=_MANUAL, short_help="Print a JSON Schema.")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Print a JSON Schema (2020-12): of a snapshot, a report, a policy, or a table of knowledge."""
    from driftcheck import validation  # noqa: PLC0415

    if name is None:
        for known in validation.names():
            click.echo(known)
        return CLEAN
    if name not in validation.names():
        raise InputError(name, "there is no schema of this name", f"There are: {', '.join(validation.names())}")
    click.echo(json.dumps(validation.schema(name), indent=2))
    return CLEAN
