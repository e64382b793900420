"""``driftcheck report``."""

from __future__ import annotations

import click

from driftcheck.cli.exits import CLEAN
from driftcheck.cli.options import Outputs, finish, reporting


@click.command(name="report")
@click.argument("file")
@reporting
def command(file: str, outputs: Outputs) -> int:
    """Render a saved report again, or a snapshot as the ticket of one environment.

    FILE is what `diff` or `check` wrote with --format json, a snapshot, or - for standard input. The exit code is 0
    whatever the report says: it was judged when it was made.

    \b
      driftcheck diff laptop.json ci.json --format json -o report.json
      driftcheck report report.json --format markdown
      driftcheck report ci.json --format markdown
    """
    from driftcheck.report.load import load  # noqa: PLC0415

    finish(load(file), outputs)
    return CLEAN
