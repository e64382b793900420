"""``driftcheck diff``."""

from __future__ import annotations

import click

from driftcheck.cli.options import finish, impact_of, judging, measured, measuring, reporting
from driftcheck.errors import InputError


@click.command(name="diff")
@click.argument("baseline")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@reporting
@judging
@measuring
def command(
    baseline: str,
    targets: tuple[str, ...],
    format_: str,
    output: str,
    output_files: tuple[tuple[str, str], ...],
    all_: bool,
    fail_on: str,
    python: str | None,
    pull: bool,
    run_arguments: tuple[str, ...],
    variables: tuple[str, ...],
    try_imports: tuple[str, ...],
) -> int:
    """Compare environments and explain the differences that would break inference.

    BASELINE is known to work; each TARGET is compared with it. References that are no files are measured now.

    \b
      driftcheck diff laptop.json host
      driftcheck diff laptop.json ci.json --format markdown -o ticket.md
      driftcheck diff good.json host --fail-on changes-results
    """
    from driftcheck.environments import Options  # noqa: PLC0415
    from driftcheck.report.build import diff_report  # noqa: PLC0415

    if [baseline, *targets].count("-") > 1:
        raise InputError("-", "standard input can be read only once", "Write one of the snapshots to a file")
    options = Options(
        python=python, variables=variables, pull=pull, run_arguments=run_arguments, try_imports=try_imports
    )
    snapshots = [measured(reference, options) for reference in (baseline, *targets)]
    report = diff_report(snapshots[0], snapshots[1:], impact_of(fail_on))
    return finish(report, format_, output, output_files, all_)
