"""``driftcheck report``."""

from __future__ import annotations

import click

from driftcheck.cli import output_files
from driftcheck.cli.exits import CLEAN
from driftcheck.cli.options import Outputs, reporting
from driftcheck.cli.pages import SHOWING, Manual, Page, exits
from driftcheck.cli.steps import finish

_MANUAL = Manual(
    arguments={
        "FILE": "What `diff` or `check` wrote with --format json, a snapshot, or - for standard input.",
    },
    examples={
        "driftcheck diff laptop.json ci.json --format json -o report.json": "Save a report,",
        "driftcheck report report.json --format markdown": "and render it as often as you like.",
        "driftcheck report ci.json --format markdown -o ticket.md": "One environment, as a ticket has it.",
        "driftcheck report report.json --fix text > mend.sh": "What to type; read it before you do.",
        "driftcheck check host --format json | driftcheck report - --all": "From standard input.",
    },
    exits=exits(0, 2, 4, 130, 141),
    variables=(*SHOWING, "DRIFTCHECK_DEBUG"),
)


@click.command(name="report", cls=Page, manual=_MANUAL, short_help="Render a saved report, or a snapshot as a ticket.")
@click.argument("file")
@reporting
def command(file: str, outputs: Outputs) -> int:
    """Render a saved report again, or a snapshot as the ticket of one environment.

    A saved report renders to the same bytes as the first time. The exit code is 0 whatever it says: it was judged when
    it was made.
    """
    from driftcheck.report.load import load  # noqa: PLC0415

    output_files.refuse(outputs.paths, [file])
    finish(load(file), outputs)
    return CLEAN
