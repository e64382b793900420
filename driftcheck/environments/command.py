"""``ssh:DEST`` and ``via:"COMMAND PREFIX"``: whatever hands standard input to a program somewhere else.

``ssh`` is the user's own, with its configuration, keys and jump hosts. A prefix is a command line to which a program
and its arguments are added: ``kubectl exec -i pod --``, ``srun -N1``, ``docker exec -i c``, ``apptainer exec x.sif``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field

from driftcheck import payload
from driftcheck.collect import Channel, Interpreter, Output, SubprocessChannel, collect, printable
from driftcheck.environments import Options
from driftcheck.environments.reference import Reference
from driftcheck.environments.request import request_for
from driftcheck.errors import InputError
from driftcheck.snapshot import Snapshot

# What a shell (126, 127), an engine, kubectl, srun and env say of a program that is not there.
_NOT_THERE = re.compile(
    r"not found|no such file|not recognized|executable file|could not find|unable to start|command not known",
    re.IGNORECASE,
)
_NAMES = ("python3", "python")


def measure(found: Reference, options: Options) -> Snapshot:
    """Ask ``--python`` over there, else ``python3``, else ``python``.

    Raises:
        InputError: when the command cannot be started, does not get there, or no interpreter answers.
    """
    channel = _channel(found)
    request = request_for(found, options, header={"environment_variables_from": "exec"})
    if options.python:
        return collect(channel, Interpreter(options.python, "--python names it"), request)
    for name in _NAMES:
        try:
            return collect(channel, Interpreter(name, f"{name} on PATH over there"), request)
        except _NoSuchProgramError:
            continue
    raise InputError(found.text, "neither python3 nor python was found over there", "Name one with --python")


class _NoSuchProgramError(InputError):
    """The way there is open, and the interpreter is not there."""


def _channel(found: Reference) -> Channel:
    if found.kind == "ssh":
        if shutil.which("ssh") is None:
            raise InputError(found.text, "there is no ssh on PATH", "Install the OpenSSH client")
        return CommandChannel("ssh", found.text, ("ssh", "-T", "--", found.name), remote_shell=True)
    try:
        prefix = tuple(shlex.split(found.name))
    except ValueError as error:
        raise InputError(found.text, f"cannot be split into words: {error}", "Close the quotes") from error
    if not prefix:
        raise InputError(found.text, "no command behind via:", 'For example: via:"kubectl exec -i pod --"')
    if shutil.which(prefix[0]) is None:
        raise InputError(found.text, f"there is no program {prefix[0]!r} on PATH")
    return CommandChannel("via", found.text, prefix)


@dataclass(frozen=True)
class CommandChannel:
    """Runs a program behind a command. With ``remote_shell`` the words go through a shell of whatever kind there."""

    name: str
    subject: str
    prefix: Sequence[str]
    remote_shell: bool = False
    local: SubprocessChannel = field(default_factory=lambda: SubprocessChannel(own_session=not _has_terminal()))

    def run(self, argv: Sequence[str], stdin: bytes) -> Output:
        words = list(argv)
        if self.remote_shell:
            # One line without inner quotes: a csh takes no newline inside of quotes.
            words = [_quoted(word) for word in [argv[0], "-c", payload.one_line(argv[2])]]
        output = self.local.run([*self.prefix, *words], stdin)
        said = " ".join(output.stderr[-2000:].decode("utf-8", "replace").split())
        if self.remote_shell and output.returncode == 255 and not output.stdout:
            raise InputError(
                self.subject,
                f"ssh did not get there: {printable(said) or 'it said nothing'}",
                "Try it: ssh " + self.prefix[-1],
            )
        if output.returncode and not output.stdout.strip() and self._is_missing(output.returncode, said, argv[0]):
            raise _NoSuchProgramError(
                self.subject,
                f"no {argv[0]} over there: {printable(said) or 'it said nothing'}",
                "Name one with --python",
            )
        code = output.returncode
        return dataclasses.replace(output, returncode=128 - code if 128 < code < 160 else code)

    @staticmethod
    def _is_missing(code: int, said: str, program: str) -> bool:
        return code in {126, 127} or (program in said and bool(_NOT_THERE.search(said)))


def _quoted(word: str) -> str:
    """A word for any remote shell: plain words as they are, so that a Windows shell takes them too."""
    return (
        word if re.fullmatch(r"[A-Za-z0-9_./@:+~-]+", word) else f"'{word}'" if "'" not in word else shlex.quote(word)
    )


def _has_terminal() -> bool:
    """Whether somebody can be asked for a password; a session of its own would have no terminal to ask on."""
    if os.name != "posix":
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
