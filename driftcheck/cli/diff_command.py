"""``driftcheck diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from driftcheck.cli.options import Judging, Outputs, finish, impact_of, judging, measured, measuring, reporting
from driftcheck.errors import InputError

if TYPE_CHECKING:
    from driftcheck.environments import Options


@click.command(name="diff")
@click.argument("baseline")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@reporting
@judging
@measuring
def command(baseline: str, targets: tuple[str, ...], outputs: Outputs, judging: Judging, options: Options) -> int:
    """Compare environments and explain the differences that would break inference.

    BASELINE is known to work; each TARGET is compared with it. References that are no files are measured now.

    \b
      driftcheck diff laptop.json host
      driftcheck diff laptop.json ci.json --format markdown -o ticket.md
      driftcheck diff good.json host --fail-on changes-results
    """
    from driftcheck.report.build import diff_report  # noqa: PLC0415

    if [baseline, *targets].count("-") > 1:
        raise InputError("-", "standard input can be read only once", "Write one of the snapshots to a file")
    snapshots = [measured(reference, options) for reference in (baseline, *targets)]
    report = diff_report(snapshots[0], snapshots[1:], impact_of(judging.fail_on))
    return finish(report, outputs)
