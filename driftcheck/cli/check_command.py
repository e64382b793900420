"""``driftcheck check``."""

from __future__ import annotations

import click

from driftcheck.cli.options import finish, impact_of, judging, measured, measuring, reporting


@click.command(name="check")
@click.argument("reference", default="host")
@reporting
@judging
@measuring
def command(
    reference: str,
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
    """Find what contradicts itself in one environment; no baseline is needed.

    \b
      driftcheck check
      driftcheck check python:.venv/bin/python --fail-on slows
    """
    from driftcheck.environments import Options  # noqa: PLC0415
    from driftcheck.report.build import check_report  # noqa: PLC0415

    snapshot = measured(
        reference,
        Options(python=python, variables=variables, pull=pull, run_arguments=run_arguments, try_imports=try_imports),
    )
    return finish(check_report(snapshot, impact_of(fail_on)), format_, output, output_files, all_)
