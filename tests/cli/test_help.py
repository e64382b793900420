"""The pages behind --help: complete, as wide as the terminal, and every example is one that can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from support.commands import driftcheck

from driftcheck import cli
from driftcheck.cli import pages
from driftcheck.cli.pages import Page

ROOT = Path(__file__).parents[2]
GROUP = cli._driftcheck
assert isinstance(GROUP, click.Group)
COMMANDS = GROUP.list_commands(click.Context(GROUP))


def command(name: str) -> Page:
    found = GROUP.get_command(click.Context(GROUP), name)
    assert isinstance(found, Page)
    return found


def parses(line: str) -> list[str]:
    """The commands of driftcheck in a line as a shell would read it, each parsed as click does; fails where one is
    wrong. Nothing is run.
    """
    signs = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    signs.whitespace_split = True
    found: list[list[str]] = [[]]
    redirected = False
    for word in signs:
        if set(word) <= set("|&;"):
            found.append([])
        elif word in {"<", ">", ">>"}:
            redirected = True
        elif redirected:
            redirected = False
        else:
            found[-1].append(word)
    told = []
    for program, *arguments in found:
        if program != "driftcheck":
            continue
        context = click.Context(GROUP, info_name="driftcheck")
        name, found_command, rest = GROUP.resolve_command(context, arguments)
        assert found_command is not None
        found_command.make_context(name, list(rest), parent=context)
        told.append(str(name))
    return told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_typed(name: str) -> None:
    examples = command(name).manual.examples
    assert len(examples) >= 3
    assert any(name in parses(line) for line in examples)
    for line, meaning in examples.items():
        assert parses(line) or line.startswith("python3 probe.py "), line
        assert meaning.endswith((".", ",", ":", "?")), meaning


def test_every_example_of_the_first_page_can_be_typed() -> None:
    for line in cli._MANUAL.examples:
        assert parses(line), line


@pytest.mark.parametrize(
    "line",
    [
        "driftcheck nonsense",
        "driftcheck diff --nonsense",
        "driftcheck check a b",
        "driftcheck check --format tex",
        "driftcheck report",
    ],
)
def test_a_wrong_example_would_be_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        parses(line)


@pytest.mark.parametrize("page", ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))])
def test_every_command_line_of_the_documentation_can_be_typed(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [
        line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("driftcheck ")
    ]
    quoted = re.findall(r"`(driftcheck [a-z][^`]*)`", text)
    for line in [*lines, *(line for line in quoted if "..." not in line and not re.search(r"\b[A-Z]{3,}\b", line))]:
        assert parses(re.sub(r"\s+#.*", "", line)), line


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_all_its_parts(name: str) -> None:
    found = command(name)
    page = driftcheck(name, "--help")
    assert (page.code, page.err) == (0, "")
    sections = re.findall(r"^([A-Z][A-Za-z ]+):", page.out, re.MULTILINE)
    takes_arguments = any(isinstance(parameter, click.Argument) for parameter in found.params)
    expected = ["Usage", "Arguments"] if takes_arguments else ["Usage"]
    expected += ["Options", "Examples", "Exit codes"]
    expected += ["Environment"] if found.manual.variables else []
    expected += ["Files"] if found.manual.files else []
    assert sections == expected
    # Each argument of the usage line is explained, and each option has a text.
    usage = page.out.partition("\n")[0]
    assert set(re.findall(r"\[?([A-Z]{3,})\]?", usage.partition("[OPTIONS]")[2])) == found.manual.arguments.keys()
    assert all(parameter.help for parameter in found.params if isinstance(parameter, click.Option))
    for line in found.manual.examples:
        assert f"\n  {line}\n" in page.out, "what people copy is never wrapped"


def test_the_first_page_names_every_command_whole() -> None:
    page = driftcheck("--help", environ={"COLUMNS": "80"}).out
    for name in COMMANDS:
        (summary,) = re.findall(rf"^  {name} +(.*)$", page, re.MULTILINE)
        assert summary.endswith("."), summary
        assert not summary.endswith("..."), summary
    assert all(str(code) in page for code in pages.EXITS)


def test_every_variable_that_is_read_is_on_the_first_page() -> None:
    """Of ours and of the terminal's; what the probes read of an environment is their subject."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "driftcheck").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r"""environ(?:\.get\(|\[)"([A-Z_]+)\"""", text)}
    read |= set(re.findall(r"DRIFTCHECK_[A-Z]+", (ROOT / "probes" / "variables.py").read_text(encoding="utf-8")))
    page = driftcheck("--help").out
    # Set by every system and by conda; nobody sets them for our sake.
    ordinary = {"PATH", "HOME", "TERM", "XDG_RUNTIME_DIR", "CONDA_DEFAULT_ENV"}
    assert read - ordinary
    assert {name for name in read - ordinary if name not in page} == set()


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_page_is_as_wide_as_the_terminal(name: str, width: int) -> None:
    page = driftcheck(*([name] if name else []), "--help", environ={"COLUMNS": str(width)})
    manual = command(name).manual if name else cli._MANUAL
    copied = {f"  {line}" for line in manual.examples}
    rows = [line for line in page.out.splitlines() if line not in copied]
    # Columns of names are not wrapped, nor is the grammar of references.
    long = [line for line in rows if len(line) > width and not line.startswith(("    ", "  --", "Usage"))]
    assert long == []
    assert max(map(len, rows)) > width - 20, "the width is used"


def test_pages_are_no_wider_than_one_can_read() -> None:
    page = driftcheck("check", "--help", environ={"COLUMNS": "300"}).out
    assert 80 < max(map(len, page.splitlines())) <= 100


def test_a_page_is_plain_text_whatever_the_colours() -> None:
    assert "\x1b" not in driftcheck("diff", "--help", environ={"FORCE_COLOR": "1"}).out
