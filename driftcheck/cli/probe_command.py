"""``driftcheck probe``."""

from __future__ import annotations

import click

from driftcheck.cli import output_files
from driftcheck.cli.exits import CLEAN
from driftcheck.cli.pages import Manual, Page, exits

_MANUAL = Manual(
    examples={
        "driftcheck probe -o probe.py": "Write the file. With it, over there:",
        "python3 probe.py -o snapshot.json": "The snapshot, redacted; --help of the file tells more.",
        "driftcheck probe | ssh node7 python3 - > node7.json": "Without leaving a file anywhere.",
    },
    exits=exits(0, 2, 4, 141),
)


@click.command(name="probe", cls=Page, manual=_MANUAL, short_help="Write the probes as one file that runs anywhere.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of standard output.")
def command(output: str) -> int:
    """Write the probes as one Python file that runs anywhere with nothing installed.

    For whoever reports a bug: they run `python3 probe.py -o snapshot.json` (Python 3.6 or newer) and attach the
    result, which is a snapshot like any other.
    """
    from driftcheck.payload import probe_file  # noqa: PLC0415

    output_files.refuse([output], [])
    output_files.write(output, probe_file())
    return CLEAN
