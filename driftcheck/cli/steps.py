"""What commands do alike: refuse before anything is measured, measure, answer, write the report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from driftcheck.cli import output_files
from driftcheck.cli.exits import exit_code
from driftcheck.cli.options import Judging, Outputs
from driftcheck.errors import InputError

if TYPE_CHECKING:
    from driftcheck.environments import Options
    from driftcheck.policy import Policy
    from driftcheck.report.model import Report
    from driftcheck.snapshot import Snapshot


def prepared(
    references: Sequence[str], options: Options, judging: Judging, outputs: Outputs
) -> tuple[Options, str | None]:
    """What is done before anything is measured, in this order: refuse, then read the log that --error names.

    Returns:
        The options with what the policy wants to be recorded, and the text of the log, None for none.

    Raises:
        InputError: for what cannot be read or written, or must not be.
    """
    _read_once(*references, judging.error)
    wanted = recording(options, judging.policy)
    output_files.refuse(outputs.paths, [*read_by(wanted, *references), *judging.files])
    return wanted, _log_of(judging)


def recording(options: Options, policy: Policy | None) -> Options:
    """The options of a measurement with what the policy wants to be recorded."""
    if policy is None:
        return options
    return replace(
        options,
        variables=(*policy.variables, *options.variables),
        artifacts=(*policy.artifacts, *options.artifacts),
    )


def _read_once(*sources: str | None) -> None:
    """Refuse a command line that reads standard input twice.

    Raises:
        InputError: when it does.
    """
    if sources.count("-") > 1:
        raise InputError("-", "standard input can be read only once", "Write one of the two to a file")


def read_by(options: Options, *references: str) -> list[str | None]:
    """The files of this machine that a measurement may read as they were named.

    Raises:
        InputError: for what is no reference.
    """
    return [*output_files.files_of(*references), options.python, *options.artifacts]


def warn_unheeded(options: Options, *references: str) -> None:
    """Say which options of a measurement do nothing, where all that is read was taken before."""
    from driftcheck.environments import reference  # noqa: PLC0415

    if any(reference.parse(text).kind != "file" for text in references):
        return
    names = {
        "--python": options.python,
        "--pull": options.pull,
        "--run-arg": options.run_arguments,
        "--variable": options.variables,
        "--artifact": options.artifacts,
        "--try-imports": options.try_imports,
    }
    given = ", ".join(name for name, value in names.items() if value)
    if given:
        click.echo(
            f"Warning: nothing is measured, since a snapshot was taken before; without effect: {given}", err=True
        )


def _log_of(judging: Judging) -> str | None:
    """The log that --error names, read before anything is measured; None for none."""
    if judging.error is None:
        return None
    from driftcheck.cli.log_file import read_end  # noqa: PLC0415

    if judging.error == "-" and sys.stdin.isatty():
        click.echo("Paste the error here, and end it with Ctrl-D on a line of its own:", err=True)
    log = read_end(judging.error)
    if log.remark:
        click.echo(f"Warning: {_name_of(judging.error)}: {log.remark}", err=True)
    return log.text


def answered(report: Report, judging: Judging, log: str | None) -> Report:
    """The report with its answer to the error at hand, where there is one."""
    if log is None:
        return report
    from driftcheck.error_log import answer  # noqa: PLC0415

    return answer(report, log, _name_of(str(judging.error)))


def _name_of(log: str) -> str:
    return "standard input" if log == "-" else log


def measured(reference: str, options: Options | None = None) -> Snapshot:
    """The snapshot of a reference; what reading it showed goes to standard error."""
    from driftcheck.environments import Options, snapshot_of  # noqa: PLC0415

    snapshot = snapshot_of(reference, options or Options())
    for warning in snapshot.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return snapshot


def finish(report: Report, outputs: Outputs) -> int:
    """Write a report everywhere it was asked for; the exit code."""
    wanted = [*outputs.files]
    if outputs.fix is None:
        wanted.insert(0, (outputs.format, outputs.output))
    else:
        output_files.write(outputs.output, _fixes(report, outputs.fix))
    for name, path in wanted:
        output_files.write(path, _render(report, name, outputs.all, to_output=path == "-"))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary and "github" in {name for name, _ in wanted}:
        _append_summary(report, summary)
    return exit_code(report)


def _fixes(report: Report, kind: str) -> str:
    from driftcheck.mending import fixes  # noqa: PLC0415

    return fixes(report, kind)


def _append_summary(report: Report, path: str) -> None:
    from driftcheck.report.github import step_summary  # noqa: PLC0415

    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(step_summary(report))
    except OSError as error:
        raise InputError(path, f"$GITHUB_STEP_SUMMARY cannot be written: {error.strerror or error}") from error


def _render(report: Report, format_: str, all_: bool, *, to_output: bool) -> str:
    """A report in a format: for standard output as wide, coloured and accented as that shows, for files plain."""
    from driftcheck.report import formats  # noqa: PLC0415

    options = formats.RenderOptions(all=all_)
    if to_output:
        options = formats.terminal_options(sys.stdout, os.environ, all_=all_)
    return formats.render(report, format_, options)
