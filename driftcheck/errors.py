"""What goes wrong outside of driftcheck: bad input, and interpreters that do not answer."""

from __future__ import annotations


class InputError(Exception):
    """The command or its input is wrong (exit code 2).

    The message is one line: the place (a file, a reference, a path inside it), what is wrong with it, and what
    to do next.
    """

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        super().__init__(where, problem, hint)
        self.where = where
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where or repr('')}: {self.problem}"
        return f"{text}. {self.hint}" if self.hint else text
