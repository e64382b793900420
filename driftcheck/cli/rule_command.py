"""``driftcheck rule``."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

import click

from driftcheck.cli.exits import CLEAN
from driftcheck.cli.pages import Manual, Page, exits
from driftcheck.errors import InputError

if TYPE_CHECKING:
    from driftcheck.rules.base import Rule

HEADINGS = {
    "Compares": "What it compares",
    "Why": "Why it breaks inference",
    "See": "What you would see",
    "Decided": "How it is decided",
    "Fix": "How to fix it",
    "Limits": "Known limits",
}


_MANUAL = Manual(
    arguments={"CODE": "Code or name of a rule: PKG001, unmet-requirement. Without it: all rules, by family."},
    examples={
        "driftcheck rule": "All rules, by family.",
        "driftcheck rule PKG001": "What it compares, why that breaks inference, what one would see, how it is decided.",
        "driftcheck rule missing-shared-library --format json": "The same for a program.",
    },
    exits=exits(0, 2, 4, 141),
)


@click.command(name="rule", cls=Page, manual=_MANUAL, short_help="Explain a rule, or list them all.")
@click.argument("code", required=False)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write it.",
)
def command(code: str | None, format_: str) -> int:
    """Explain a rule, by its code or name; without CODE, list them all."""
    from driftcheck.rules import all_rules  # noqa: PLC0415

    chosen = list(all_rules())
    if code is not None:
        chosen = [rule for rule in chosen if code.upper() == rule.code or code == rule.name]
        if not chosen:
            raise InputError(code, "there is no rule of this code or name", "`driftcheck rule` lists them")
    if format_ == "json":
        value: Any = [document_of(rule) for rule in chosen]
        click.echo(json.dumps(value[0] if code is not None else value, indent=2))
    elif code is not None:
        click.echo(_page(chosen[0]))
    else:
        click.echo(_listing(chosen))
    return CLEAN


def document_of(rule: Rule) -> dict[str, Any]:
    """What is known of a rule, by the words of its documentation in small letters."""
    from driftcheck.rules.base import Contradiction, paragraphs_of, title_of  # noqa: PLC0415

    return {
        "code": rule.code,
        "name": rule.name,
        "kind": "contradiction" if isinstance(rule, Contradiction) else "drift",
        "title": title_of(rule),
        "reads": list(rule.reads),
        **{word.lower(): text for word, text in paragraphs_of(rule).items()},
        "references": list(rule.references),
    }


def _page(rule: Rule) -> str:
    document = document_of(rule)
    lines = [f"{rule.code} {rule.name} ({document['kind']})", "", *_wrapped(document["title"]), ""]
    for word, heading in HEADINGS.items():
        if word.lower() in document:
            lines += [heading, *_wrapped(document[word.lower()], "  "), ""]
    if rule.references:
        lines += ["References", *(f"  {url}" for url in rule.references)]
    return "\n".join(lines).rstrip()


def _wrapped(text: str, indent: str = "") -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        lines += textwrap.wrap(paragraph, 80, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
    return lines


def _listing(rules: list[Rule]) -> str:
    from driftcheck.rules.base import FAMILIES, title_of  # noqa: PLC0415

    lines: list[str] = []
    family = ""
    for rule in rules:
        letters = re.sub(r"\d+$", "", rule.code)
        if letters != family:
            family = letters
            lines += ["", f"{family}: {FAMILIES[family]}"]
        first, *rest = textwrap.wrap(title_of(rule), 70)
        lines.append(f"  {rule.code:<8}{first}")
        lines += [f"  {'':<8}{line}" for line in rest]
    return "\n".join(lines).strip("\n")
