"""``driftcheck snapshot``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from driftcheck.cli.exits import CLEAN
from driftcheck.cli.options import measured, measuring, policed, recording

if TYPE_CHECKING:
    from driftcheck.environments import Options
    from driftcheck.policy import Policy


@click.command(name="snapshot")
@click.argument("reference", default="host")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of standard output.")
@click.option("--label", metavar="NAME", help="What reports call this environment.")
@measuring
@policed
def command(reference: str, output: str, label: str | None, options: Options, policy: Policy | None) -> int:
    """Fingerprint an environment into a JSON snapshot.

    Nothing of yours is imported or run, but for what --try-imports names. Secrets, user names and host names are left
    out; the file is meant to be shared, and to be read before that.

    \b
      driftcheck snapshot -o laptop.json --label laptop
      driftcheck snapshot python:.venv/bin/python -o venv.json
    """
    from driftcheck.snapshot import write_text  # noqa: PLC0415

    snapshot = measured(reference, replace(recording(options, policy), label=label))
    write_text(output, snapshot.text())
    if output != "-":
        interpreter = snapshot.header["interpreter"]
        click.echo(f"{output}: {interpreter['path']} ({interpreter['reason']})", err=True)
    for name, section in snapshot.sections.items():
        if section.status == "partial":
            count = len(section.problems)
            click.echo(f"  {name}: measured with {count} problem{'s' * (count != 1)}, listed in the file", err=True)
        elif section.status in {"unavailable", "failed"}:
            click.echo(f"  {name}: {section.status}: {section.reason}", err=True)
    return CLEAN
