"""The options that commands share, each bundle of them as one value."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from driftcheck.report.formats import FORMATS

if TYPE_CHECKING:
    from driftcheck.environments import Options
    from driftcheck.findings import Impact
    from driftcheck.policy import Policy

_Command = TypeVar("_Command", bound=Callable[..., Any])

FIXES = ("text", "dockerfile")
IMPACTS = ("breaks", "changes-results", "slows", "note", "never")


@dataclass(frozen=True)
class Outputs:
    """Where a report goes, and in which formats: ``format`` to ``output``, and each of ``files`` (format, path).

    ``fix``  what to type, of this kind, goes to ``output`` in the place of the report; None for the report
    """

    format: str
    fix: str | None
    output: str
    files: tuple[tuple[str, str], ...]
    all: bool

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.output, *(path for _, path in self.files))


@dataclass(frozen=True)
class Judging:
    """What may fail a run, what is expected, and what did fail.

    ``fail_on``  an impact or ``never``; None where the command line does not say
    ``error``    the file of the traceback or log of the failure, ``-`` for standard input; None for none
    ``policy``   the project's; None where it has none
    """

    fail_on: str | None
    error: str | None
    policy: Policy | None

    @property
    def limit(self) -> Impact | None:
        """From which impact on a finding fails the run; None for never. The command line wins over the policy."""
        from driftcheck.findings import Impact  # noqa: PLC0415

        text = self.fail_on or (self.policy.fail_on if self.policy else None) or "breaks"
        return None if text == "never" else Impact(text)

    @property
    def files(self) -> tuple[str | None, ...]:
        """What is read to judge."""
        return self.error, self.policy.file if self.policy else None

    @property
    def location(self) -> str | None:
        """The file of the user's repository that CI systems show findings at."""
        from driftcheck.report.locations import choose  # noqa: PLC0415

        return choose(self.policy.file if self.policy else None, Path.cwd())


def measuring(command: _Command) -> _Command:
    """Options wherever a REFERENCE is measured; the command gets them as ``options``."""
    return _bundle(
        command,
        "options",
        _measuring,
        click.option("--python", metavar="PATH", help="Ask this interpreter of the environment."),
        click.option("--pull", is_flag=True, help="Pull an image: before it is measured; else nothing is pulled."),
        click.option(
            "--run-arg",
            "run_arguments",
            multiple=True,
            metavar="ARG",
            help='Measure an image: as with this option of docker run, such as "--gpus all". May be repeated.',
        ),
        click.option(
            "--variable",
            "variables",
            multiple=True,
            metavar="NAME",
            callback=_variables,
            help="Record the value of this environment variable too (secrets stay hidden). May be repeated.",
        ),
        click.option(
            "--artifact",
            "artifacts",
            multiple=True,
            metavar="PATH",
            callback=_paths,
            help="Fingerprint this model file over there too, or every one in this directory. May be repeated.",
        ),
        click.option(
            "--try-imports",
            metavar="NAME,...",
            callback=_modules,
            help="Really import these modules over there, each in a process of its own, and record what happens.",
        ),
    )


def reporting(command: _Command) -> _Command:
    """Options of what ends in a report; the command gets them as ``outputs``."""
    return _bundle(
        command,
        "outputs",
        Outputs,
        click.option(
            "--format", type=click.Choice(FORMATS), default="text", show_default=True, help="How to write the report."
        ),
        click.option(
            "--fix",
            type=click.Choice(FIXES),
            help="Instead of the report: what to type to mend what fails, as a script or as lines of a Dockerfile. "
            "Nothing is applied.",
        ),
        click.option("-o", "--output", metavar="FILE", default="-", help="Write here instead of standard output."),
        click.option(
            "--output-file",
            "files",
            multiple=True,
            metavar="FORMAT=FILE",
            callback=_outputs,
            help="Write the report in this format as well. May be repeated.",
        ),
        click.option("--all", is_flag=True, help="Show everything that differs, not only what matters."),
    )


def judging(command: _Command) -> _Command:
    """Options of what may fail a run; the command gets them as ``judging``."""
    return _bundle(
        command,
        "judging",
        _judging,
        click.option(
            "--fail-on",
            type=click.Choice(IMPACTS),
            help="Exit with 1 from this impact on (findings that are certain or likely, and not in the baseline). "
            "Without it: what the policy says, else breaks.",
        ),
        click.option(
            "--error",
            metavar="FILE",
            help="The traceback or log of the failure that you have (- for standard input): what explains it comes "
            "first.",
        ),
        *_policy_options(),
    )


def policed(command: _Command) -> _Command:
    """Options of what the project wants to be recorded; the command gets its ``policy``."""
    return _bundle(command, "policy", _policy, *_policy_options())


def _policy_options() -> tuple[Callable[[_Command], _Command], ...]:
    return (
        click.option(
            "--policy",
            "policy_file",
            metavar="FILE",
            help="What the project expects. Without it: driftcheck.toml, or [tool.driftcheck] of pyproject.toml, here "
            "or above.",
        ),
        click.option("--no-policy", "without_policy", is_flag=True, help="Take no notice of any policy."),
    )


def _judging(fail_on: str | None, error: str | None, **policy: Any) -> Judging:
    return Judging(fail_on, error, _policy(**policy))


def _policy(policy_file: str | None, *, without_policy: bool) -> Policy | None:
    """The policy that was named, or else found."""
    if policy_file is not None and without_policy:
        raise click.UsageError("--policy and --no-policy exclude each other.")
    if without_policy:
        return None
    from driftcheck import policy  # noqa: PLC0415

    path = Path(policy_file) if policy_file is not None else policy.find(Path())
    return policy.load(path) if path is not None else None


def _bundle(
    command: _Command, keyword: str, kind: Callable[..., object], *decorators: Callable[[_Command], _Command]
) -> _Command:
    """Give a command some options, which it gets as one value."""

    @functools.wraps(command)
    def bundled(**given: Any) -> Any:
        own = {name: given.pop(name) for name in names}
        return command(**given, **{keyword: kind(**own)})

    before = len(getattr(command, "__click_params__", ()))
    result: Any = bundled
    for decorator in reversed(decorators):
        result = decorator(result)
    names = [parameter.name for parameter in result.__click_params__[before:]]
    found: _Command = result
    return found


def _measuring(**given: Any) -> Options:
    from driftcheck.environments import Options  # noqa: PLC0415

    return Options(**given)


def _modules(_: click.Context, __: click.Parameter, text: str | None) -> tuple[str, ...]:
    """The value of --try-imports."""
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise click.BadParameter(f"{name!r} is not the name of a module")
    return names


def _variables(_: click.Context, __: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The values of --variable: nothing is set, so a value behind the name is a misunderstanding."""
    for name in names:
        if not name.isprintable() or not name or "=" in name:
            raise click.BadParameter(f"{name!r} is not the name of a variable")
    return names


def _paths(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The values of --artifact: an empty one is a variable that was not set, and would mean the root directory."""
    if "" in texts:
        raise click.BadParameter("'' is no path")
    return texts


def _outputs(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The values of --output-file, refused before anything is measured."""
    pairs = []
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in FORMATS:
            raise click.BadParameter(f"{text!r} is not FORMAT=FILE, with a FORMAT of {', '.join(FORMATS)}")
        pairs.append((name, path))
    return tuple(pairs)
