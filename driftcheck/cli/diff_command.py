"""``driftcheck diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from driftcheck.cli.options import Judging, Outputs, finish, judging, measured, measuring, recording, reporting
from driftcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.environments import Options
    from driftcheck.policy import Policy


@click.command(name="diff")
@click.argument("references", nargs=-1, metavar="[BASELINE] [TARGET]...")
@reporting
@judging
@measuring
def command(references: tuple[str, ...], outputs: Outputs, judging: Judging, options: Options) -> int:
    """Compare environments and explain the differences that would break inference.

    BASELINE is known to work; each TARGET is compared with it. References that are no files are measured now. Where
    the policy names a baseline, BASELINE may be left out, and then TARGET too: it is `host`.

    \b
      driftcheck diff laptop.json host
      driftcheck diff laptop.json ci.json --format markdown -o ticket.md
      driftcheck diff good.json host --fail-on changes-results
    """
    from driftcheck.report.build import diff_report  # noqa: PLC0415

    baseline, targets = _sides(references, judging.policy)
    if [baseline, *targets].count("-") > 1:
        raise InputError("-", "standard input can be read only once", "Write one of the snapshots to a file")
    options = recording(options, judging.policy)
    snapshots = [measured(reference, options) for reference in (baseline, *targets)]
    report = diff_report(snapshots[0], snapshots[1:], judging.limit, judging.policy, judging.location)
    return finish(report, outputs)


def _sides(references: Sequence[str], policy: Policy | None) -> tuple[str, Sequence[str]]:
    """The baseline and the targets; what was not typed comes out of the policy."""
    if len(references) > 1:
        return references[0], references[1:]
    if policy is None or policy.baseline is None:
        missing = "BASELINE and TARGET" if not references else "TARGET"
        raise click.UsageError(
            f"Missing {missing}: `driftcheck diff BASELINE TARGET`, or name the baseline in driftcheck.toml: "
            'baseline = "laptop.json"'
        )
    click.echo(f"Baseline: {policy.baseline} ({policy.file})", err=True)
    return policy.baseline, references or ("host",)
