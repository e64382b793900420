"""The pages behind --help: what a command does, its arguments and options, examples, exit codes, variables, files.

A page is as wide as the terminal, up to 100 columns; what people copy is never wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

EXITS = {
    0: "Nothing was found at or above --fail-on.",
    1: "Something was: a finding that is certain or likely, that the baseline does not have, and that no policy "
    "expects.",
    2: "The command or its input is wrong.",
    3: "Incomplete: a section that the baseline measured, or that the policy requires, could not be measured in the "
    "target.",
    4: "A fault of driftcheck.",
    130: "Interrupted.",
    141: "Whoever read the output has closed it.",
}

# Where a command judges nothing.
DONE = "Done."

VARIABLES = {
    "VIRTUAL_ENV, CONDA_PREFIX": "Which environment `host` is, where --python does not say.",
    "DOCKER_HOST, DOCKER_CONTEXT": "The engine that is asked for images and containers.",
    "DRIFTCHECK_KEY": "Any secret text. Where it is set, hidden values carry a digest that is keyed with it, so that "
    "two snapshots taken with the same key show that a hidden value differs.",
    "NO_COLOR": "No colour, where it is set to anything.",
    "FORCE_COLOR": "Colour even where the output is no terminal (0 or false: none). NO_COLOR wins.",
    "COLUMNS": "Width of the output, instead of the terminal's.",
    "GITHUB_STEP_SUMMARY": "File to which --format github appends the report as Markdown.",
    "DRIFTCHECK_DEBUG": "Where it is set to anything, a fault of driftcheck ends with a traceback.",
}

MEASURING = ("VIRTUAL_ENV, CONDA_PREFIX", "DOCKER_HOST, DOCKER_CONTEXT", "DRIFTCHECK_KEY")
SHOWING = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "GITHUB_STEP_SUMMARY")

FILES = {
    "driftcheck.toml, pyproject.toml": "The policy: what the project expects, there in the table [tool.driftcheck]. "
    "Looked for here and above, as far as the root of the repository; the nearest holds.",
    ".venv": "The environment that `host` is where nothing else says which.",
}


@dataclass(frozen=True)
class Manual:
    """What a page says beside the description and the options.

    ``examples``   command lines that can be typed as they stand, and what each does
    ``arguments``  names of arguments, and what they are
    ``exits``      exit codes that the command can have, and what they mean
    ``variables`` and ``files``  keys of ``VARIABLES`` and of ``FILES``
    """

    examples: Mapping[str, str]
    arguments: Mapping[str, str] = field(default_factory=dict)
    exits: Mapping[int, str] = field(default_factory=lambda: EXITS)
    variables: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def exits(*codes: int) -> dict[int, str]:
    """The meaning of some exit codes, for a command that judges nothing."""
    return {code: EXITS[code] if code else DONE for code in codes}


class Page(click.Command):
    """A command with a manual."""

    def __init__(self, *arguments: Any, manual: Manual, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.manual = manual

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _definitions(formatter, "Arguments", self.manual.arguments.items())
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write(formatter, self.manual)


def write(formatter: click.HelpFormatter, manual: Manual) -> None:
    """The sections that follow the options."""
    with formatter.section("Examples"):
        for line, meaning in manual.examples.items():
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")
            formatter.indent()
            formatter.indent()
            formatter.write_text(meaning)
            formatter.dedent()
            formatter.dedent()
    _definitions(formatter, "Exit codes", ((str(code), text) for code, text in manual.exits.items()))
    _definitions(formatter, "Environment", ((name, VARIABLES[name]) for name in manual.variables))
    _definitions(formatter, "Files", ((name, FILES[name]) for name in manual.files))


def _definitions(formatter: click.HelpFormatter, title: str, rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
