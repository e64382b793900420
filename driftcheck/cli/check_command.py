"""``driftcheck check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from driftcheck.cli.options import Judging, Outputs, judging, measuring, reporting
from driftcheck.cli.pages import FILES, MEASURING, SHOWING, Manual, Page
from driftcheck.cli.steps import answered, finish, measured, prepared, warn_unheeded

if TYPE_CHECKING:
    from driftcheck.environments import Options


_MANUAL = Manual(
    arguments={
        "REFERENCE": "The environment: host (the default), a snapshot file, image:REF, ... (`driftcheck --help` lists "
        "them).",
    },
    examples={
        "driftcheck check": "The interpreter that your project runs here.",
        "driftcheck check python:.venv/bin/python --fail-on slows": "Another one; fail where it falls back, too.",
        "driftcheck check image:svc:1.4": "An image that has never run.",
        "driftcheck check image:svc:1.4 --on node7.json": "Would it run on that machine?",
        "python3 service.py 2>&1 | driftcheck check --error -": "What explains the error that this prints?",
        "driftcheck check host --artifact models/encoder.onnx": "Does what is installed read this model?",
        "driftcheck check ssh:node7 --format json -o node7-report.json": "A machine that your ssh reaches.",
    },
    variables=(*MEASURING, *SHOWING, "DRIFTCHECK_DEBUG"),
    files=tuple(FILES),
)


@click.command(name="check", cls=Page, manual=_MANUAL, short_help="Find what contradicts itself in one environment.")
@click.argument("reference", default="host")
@click.option(
    "--on",
    metavar="REFERENCE",
    help="Put the environment on this machine (host, ssh:DEST, a snapshot) and say whether it would run there.",
)
@reporting
@judging
@measuring
def command(reference: str, on: str | None, outputs: Outputs, judging: Judging, options: Options) -> int:
    """Find what contradicts itself in one environment; no baseline is needed.

    With --on the environment, such as an image that has never run, is judged on another machine: its kernel, CPU, GPU
    and driver in the place of those where the image was measured. Nothing is run there but the probes, and where
    the machine is a snapshot, nothing at all.
    """
    from driftcheck.placement import place  # noqa: PLC0415
    from driftcheck.report.build import check_report  # noqa: PLC0415

    references = [reference, *([on] if on is not None else [])]
    wanted, log = prepared(references, options, judging, outputs)
    warn_unheeded(options, reference)
    snapshot = measured(reference, wanted)
    if on is not None:
        snapshot = place(snapshot, measured(on))
    report = check_report(snapshot, judging.limit, judging.policy, judging.location)
    return finish(answered(report, judging, log), outputs)
