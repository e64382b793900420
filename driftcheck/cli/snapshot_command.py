"""``driftcheck snapshot``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from driftcheck.cli import output_files
from driftcheck.cli.exits import CLEAN
from driftcheck.cli.options import measuring, policed
from driftcheck.cli.pages import FILES, MEASURING, Manual, Page, exits
from driftcheck.cli.steps import measured, read_by, recording, warn_unheeded

if TYPE_CHECKING:
    from driftcheck.environments import Options
    from driftcheck.policy import Policy


_MANUAL = Manual(
    arguments={
        "REFERENCE": "The environment: host (the default), image:REF, ssh:DEST, ... (`driftcheck --help` lists them).",
    },
    examples={
        "driftcheck snapshot -o laptop.json --label laptop": "The interpreter that your project runs here.",
        "driftcheck snapshot python:.venv/bin/python -o venv.json": "The one of a virtual environment.",
        "driftcheck snapshot image:svc:1.4 --run-arg '--gpus all' -o image.json": "An image, as it would be run.",
        "driftcheck snapshot 'via:kubectl exec -i pod --' -o pod.json": "Whatever hands standard input on.",
        "driftcheck snapshot --try-imports torch,torchvision -o laptop.json": "Import these over there, and record "
        "what happens.",
    },
    exits=exits(0, 2, 4, 130, 141),
    variables=(*MEASURING, "DRIFTCHECK_DEBUG"),
    files=tuple(FILES),
)


@click.command(name="snapshot", cls=Page, manual=_MANUAL)
@click.argument("reference", default="host")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of standard output.")
@click.option("--label", metavar="NAME", help="What reports call this environment.")
@measuring
@policed
def command(reference: str, output: str, label: str | None, options: Options, policy: Policy | None) -> int:
    """Fingerprint an environment into a JSON snapshot.

    Nothing of yours is imported or run, but for what --try-imports names. Secrets, user names and host names are left
    out; the file is meant to be shared, and to be read before that. What could not be measured is said on standard
    error and in the file.
    """
    wanted = recording(options, policy)
    output_files.refuse([output], [*read_by(wanted, reference), policy.file if policy else None])
    warn_unheeded(options, reference)
    snapshot = measured(reference, replace(wanted, label=label))
    output_files.write(output, snapshot.text())
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
