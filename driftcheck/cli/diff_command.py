"""``driftcheck diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from driftcheck.cli.options import Judging, Outputs, judging, measuring, reporting
from driftcheck.cli.pages import FILES, MEASURING, SHOWING, Manual, Page
from driftcheck.cli.steps import answered, finish, measured, prepared, warn_unheeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.environments import Options
    from driftcheck.policy import Policy


_MANUAL = Manual(
    arguments={
        "BASELINE": "The environment that is known to work. Without it: the baseline of the policy.",
        "TARGET": "What is compared with it; `host` where neither is given. Both are REFERENCEs: a snapshot file, "
        "host, image:REF, ... (`driftcheck --help` lists them).",
    },
    examples={
        "driftcheck diff laptop.json host": "What differs here, what it breaks, and what to type.",
        "driftcheck diff laptop.json image:svc:1.4": "The same for an image that has never run.",
        "driftcheck diff": "This machine against the baseline that the policy names.",
        "driftcheck diff laptop.json ci.json node7.json --all": "Several targets, and everything that differs.",
        "driftcheck diff good.json host --fail-on changes-results": "Fail where results may change, too.",
        "driftcheck diff laptop.json host --error service.log": "What of it explains the error in this log?",
        "driftcheck diff laptop.json image:svc:1.4 --fix dockerfile": "The lines that would mend what fails.",
        "driftcheck diff laptop.json ci.json --format markdown -o ticket.md": "For a ticket.",
        "driftcheck diff laptop.json host --format github --output-file sarif=driftcheck.sarif": "In a workflow: "
        "annotations, and a file for the code scanning dashboard.",
        "ssh node7 python3 - < probe.py | driftcheck diff laptop.json -": "A machine that only takes a pipe.",
    },
    variables=(*MEASURING, *SHOWING, "DRIFTCHECK_DEBUG"),
    files=tuple(FILES),
)


@click.command(
    name="diff", cls=Page, manual=_MANUAL, short_help="Compare environments; explain what would break inference."
)
@click.argument("references", nargs=-1, metavar="[BASELINE] [TARGET]...")
@reporting
@judging
@measuring
def command(references: tuple[str, ...], outputs: Outputs, judging: Judging, options: Options) -> int:
    """Compare environments and explain the differences that would break inference.

    BASELINE is known to work; each TARGET is compared with it. References that are no files are measured now. Where
    the policy names a baseline, BASELINE may be left out, and then TARGET too.

    The report leads with what breaks: the error that one would see, why, the facts on both sides, and what to type. A
    contradiction that the baseline has too is reported apart and never fails the run.
    """
    from driftcheck.report.build import diff_report  # noqa: PLC0415

    baseline, targets = _sides(references, judging.policy)
    sides = [baseline, *targets]
    wanted, log = prepared(sides, options, judging, outputs)
    warn_unheeded(options, *sides)
    snapshots = [measured(reference, wanted) for reference in sides]
    report = diff_report(snapshots[0], snapshots[1:], judging.limit, judging.policy, judging.location)
    return finish(answered(report, judging, log), outputs)


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
