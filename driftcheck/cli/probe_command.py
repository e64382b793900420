"""``driftcheck probe``."""

from __future__ import annotations

import click

from driftcheck.cli.exits import CLEAN


@click.command(name="probe")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of standard output.")
def command(output: str) -> int:
    """Write the probes as one Python file that runs anywhere with nothing installed.

    For whoever reports a bug: they run `python3 probe.py -o snapshot.json` (Python 3.6 or newer) and attach the
    result, which is a snapshot like any other.

    \b
      driftcheck probe -o probe.py
    """
    from driftcheck.payload import probe_file  # noqa: PLC0415
    from driftcheck.snapshot import write_text  # noqa: PLC0415

    write_text(output, probe_file())
    return CLEAN
