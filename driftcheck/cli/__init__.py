"""The command line: click and nothing else. Each command parses, makes one typed call and gives an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from driftcheck import __version__
from driftcheck.cli.exits import FAULT, INTERRUPTED, WRONG
from driftcheck.cli.pages import FILES, VARIABLES, Manual, write
from driftcheck.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMANDS = ("snapshot", "diff", "check", "report", "rule", "probe", "schema")

_HELP = """Explain why inference works in one environment and breaks in another.

Fingerprint an environment into one JSON snapshot, compare snapshots, and read which differences matter for running a
model: what fails, with which error text, why, and what to type. `driftcheck COMMAND --help` tells more.

A REFERENCE names an environment:

\b
  host                   the interpreter that your project runs here (the default)
  FILE, -                a snapshot that was taken before; - is standard input
  python:PATH            an interpreter, or the directory of a virtual environment
  container:NAME         a running or stopped container of the local engine
  image:REF              an image of the local engine; it need never have run
  archive:FILE           a `docker save` or OCI archive, without any engine
  rootfs:DIR             an unpacked root directory
  ssh:DEST               a machine that your ssh reaches
  via:"COMMAND PREFIX"   whatever hands standard input on: kubectl exec -i pod --
"""

_MANUAL = Manual(
    examples={
        "driftcheck snapshot -o laptop.json": "Fingerprint this environment.",
        "driftcheck diff laptop.json host": "Elsewhere: what differs, what it breaks, what to type.",
        "driftcheck diff laptop.json image:svc:1.4": "The same for an image that has never run.",
        "driftcheck check": "What contradicts itself here, without a baseline.",
        "driftcheck rule LIB001": "What a finding with this code means.",
    },
    variables=tuple(VARIABLES),
    files=tuple(FILES),
)


class _Commands(click.Group):
    """Imports a command's module when it is asked for, so that --help and --version stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"driftcheck.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write(formatter, _MANUAL)


@click.group(
    name="driftcheck",
    cls=_Commands,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="driftcheck")
def _driftcheck() -> None:
    try:
        Path.cwd()
    except OSError as error:  # somebody removed it, and everything that is relative has lost its meaning
        hint = "Change to a directory that is there: cd"
        raise InputError("the working directory", error.strerror or str(error), hint) from error


def main(arguments: list[str] | None = None) -> None:
    """Run a command line and exit with its code; click's own habit of ending with 1 is overridden."""
    sys.exit(_run(arguments))


# A disk, or a quota, that is used up.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def _open_streams() -> None:
    """A standard stream that the caller closed (``>&-``) is None to Python: then nothing is read, or written."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end


def _run(arguments: list[str] | None) -> int:
    _open_streams()
    try:
        result: Any = _driftcheck.main(arguments, prog_name="driftcheck", standalone_mode=False)
    except click.ClickException as error:  # that of a command without arguments, too, which shows its help
        _said(error.show)
        return WRONG
    except InputError as error:
        _say(f"Error: {_one_line(str(error))}")
        return WRONG
    except (KeyboardInterrupt, click.Abort):
        _say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)  # whoever read our output has had enough
        return 141
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _say(f"Error: the output cannot be written: {error.strerror}")
            _silence(sys.stdout)
            return WRONG
        if os.environ.get("DRIFTCHECK_DEBUG"):
            raise
        _say(
            f"Fault of driftcheck, not of your environment: {type(error).__name__}: {_one_line(str(error))}\n"
            "Please report it, with what DRIFTCHECK_DEBUG=1 prints."
        )
        return FAULT
    return result if isinstance(result, int) else 0


def _say(text: str) -> None:
    _said(lambda: click.echo(text, err=True))


def _said(show: Callable[[], None]) -> None:
    """Where standard error cannot be written (a full disk), the exit code still says what happened."""
    try:
        show()
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """What is left in it goes nowhere; Python would complain once more when it closes it, and end with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(text: str) -> str:
    """Names of files may hold anything: what cannot be seen is shown as Python writes it, line ends as blanks."""
    return "".join(sign if sign.isprintable() else _as_written(sign) for sign in text)


def _as_written(sign: str) -> str:
    return " " if sign.isspace() else sign.encode("unicode_escape").decode("ascii")
