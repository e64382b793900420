"""Writes what stands in the rules and in the catalogue as pages: docs/coverage.md and docs/rules/.

python docs/generate.py           write them
python docs/generate.py --check   write nothing; exit 1 where one of them is not what it would be
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from driftcheck.cli.rule_command import HEADINGS, document_of
from driftcheck.findings import Impact
from driftcheck.knowledge.catalogue import LEFT_OUT, MECHANISM, RULE, Breakage, breakages
from driftcheck.rules import all_rules
from driftcheck.rules.base import FAMILIES, Rule, title_of

DOCS = Path(__file__).parent
RULES = "rules"
COVERAGE = "coverage.md"

CATEGORIES = {
    "cuda": "GPU, driver and CUDA libraries",
    "elf": "shared libraries",
    "python": "Python and its packages",
    "cpu-os": "processor, operating system and containers",
    "env": "environment variables and numbers",
}
_NOTICE = "<!-- Written by docs/generate.py. Change the source and run it again. -->"

# An error text is quoted up to here in a table.
_QUOTED = 160


def pages() -> dict[str, str]:
    """Every page by its path below docs/."""
    rules = all_rules()
    written = {f"{RULES}/{rule.code}.md": rule_page(rule) for rule in rules}
    written[f"{RULES}/README.md"] = index(rules)
    written[COVERAGE] = coverage(breakages(), {rule.code for rule in rules})
    return written


def rule_page(rule: Rule) -> str:
    """What ``driftcheck rule CODE`` prints, as Markdown."""
    document = document_of(rule)
    lines = [_NOTICE, "", f"# {rule.code} {rule.name}", "", escaped(document["title"]), ""]
    lines += [f"*A {document['kind']}; reads {', '.join(f'`{section}`' for section in document['reads'])}.*", ""]
    for word, heading in HEADINGS.items():
        lines += [f"## {heading}", "", *escaped(document[word.lower()]).split("\n"), ""]
    lines += ["## References", "", *(f"- <{reference}>" for reference in document["references"]), ""]
    return "\n".join(lines)


def index(rules: Sequence[Rule]) -> str:
    """All rules by family."""
    lines = [_NOTICE, "", "# Rules", ""]
    lines += [
        "A *contradiction* lives in one environment: something demands what is not there. A *drift* lives between"
    ]
    lines += ["two. `driftcheck rule CODE` prints the same text.", ""]
    for family, what in FAMILIES.items():
        members = [rule for rule in rules if re.fullmatch(rf"{family}\d+", rule.code)]
        if members:
            lines += [f"## {family}: {what}", "", "| code | name | what it says |", "| --- | --- | --- |"]
            lines += [f"| [{rule.code}]({rule.code}.md) | {rule.name} | {cell(title_of(rule))} |" for rule in members]
            lines.append("")
    return "\n".join(lines)


def coverage(rows: Sequence[Breakage], codes: set[str]) -> str:
    """Which rule or mechanism tells of each row of the catalogue, and why none does."""
    decided = Counter(row.by for row in rows)
    confirmed = [row for row in rows if row.confirmed]
    covered = [row for row in confirmed if row.by != LEFT_OUT]
    lines = [_NOTICE, "", "# What is covered", ""]
    share = len(covered) * 100 // max(len(confirmed), 1)
    lines.append(
        f"{len(rows)} known ways in which inference breaks; {decided[RULE]} have rules of their own, "
        f"{decided[MECHANISM]} are proved by a mechanism"
    )
    lines.append(
        f"that needs to know nothing of them, and {decided[LEFT_OUT]} are left out, each for a stated reason. "
        f"{len(confirmed)} are confirmed: made to happen,"
    )
    lines.append(f"or shown by a page that was looked up; {len(covered)} of these ({share} %) are covered. What is not")
    lines += ["confirmed may be called possible at most.", ""]
    for category, title in CATEGORIES.items():
        members = [row for row in rows if row.category == category]
        lines += [f"## {title[:1].upper()}{title[1:]}", ""]
        lines += ["| what | impact | what one would see | covered by | confirmed |", "| --- | --- | --- | --- | --- |"]
        members.sort(key=lambda row: (Impact(row.impact).rank, row.id))
        lines += [f"| {' | '.join(_cells(row, codes))} |" for row in members]
        lines.append("")
    return "\n".join(lines)


def _cells(row: Breakage, codes: set[str]) -> list[str]:
    names = [f"[{code}]({RULES}/{code}.md)" if code in codes else code for code in row.rules]
    reason = cell(row.reason)
    if row.by == LEFT_OUT:
        by = f"left out: {reason}"
    elif reason:
        by = f"{', '.join(names)} ({reason})"
    else:
        by = ", ".join(names)
    sources = " ".join(f"[{number}]({url})" for number, url in enumerate((row.source, *row.see_also), 1))
    how = f"{cell(row.how)} {sources}" if row.confirmed else f"not confirmed {sources}"
    return [row.id, row.impact, code_span(row.error), by, how]


def escaped(text: str) -> str:
    """Text whose words are words, with its `code` left as it is."""
    parts = re.split(r"(``.+?``|`[^`\n]+`)", text)
    return "".join(part if number % 2 else _MARKUP.sub(r"\\\g<0>", part) for number, part in enumerate(parts))


# An underscore inside of a word is none.
_MARKUP = re.compile(r"[\\*<>\[\]|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def cell(text: str) -> str:
    """Text in one cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(escaped(text).split()))


def code_span(text: str) -> str:
    """Any text as code in one cell of a table."""
    line = " ".join(text.split())
    if len(line) > _QUOTED:
        line = line[: _QUOTED - 3].rstrip() + "..."
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{fence}{padding}{line}{padding}{fence}".replace("|", "\\|")


def stale(folder: Path = DOCS) -> list[str]:
    """Pages that are missing, differ, or belong to a rule that is gone."""
    wanted = pages()
    found = {f"{RULES}/{file.name}" for file in (folder / RULES).glob("*.md")}
    differing = [name for name, text in wanted.items() if _text(folder / name) != text]
    return sorted({*differing, *(found - wanted.keys())})


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def write(folder: Path = DOCS) -> list[str]:
    """Write what is stale; returns the names of these pages."""
    wanted = pages()
    names = stale(folder)
    (folder / RULES).mkdir(parents=True, exist_ok=True)
    for name in names:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return names


if __name__ == "__main__":
    checking = sys.argv[1:] == ["--check"]
    changed = stale() if checking else write()
    sys.stdout.write("".join(f"{name} {'is stale' if checking else 'written'}\n" for name in changed))
    sys.exit(1 if checking and changed else 0)
