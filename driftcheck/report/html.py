"""The report as one HTML file for a browser: no network, no other file, readable without JavaScript.

Whatever an environment wrote goes through :mod:`driftcheck.report.cleaning` and then through jinja2's autoescape;
the page's own style and script are the only ones that its Content-Security-Policy lets run, by their digests.
What is too much for a page is cut, and the end of the page says what was left out.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import groupby
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from driftcheck.findings import Finding, Fix, Identity, Impact
from driftcheck.report import cleaning, phrases
from driftcheck.report.agreement import agreement, section_order, sections_of
from driftcheck.report.cards import Card, Deck, answer, deck
from driftcheck.report.picture import letter, picture, told
from driftcheck.report.side_by_side import all_changes, everything, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from driftcheck.diff import Change
    from driftcheck.report.agreement import Row
    from driftcheck.report.formats import RenderOptions
    from driftcheck.report.model import Environment, ErrorAnswer, Report, Suppressed, Target
    from driftcheck.report.side_by_side import Line, Table

# What becomes of inference is the first thing to read.
_HEADINGS = {
    Impact.BREAKS: "What breaks",
    Impact.CHANGES_RESULTS: "What changes results",
    Impact.SLOWS: "What slows it down",
    Impact.NOTE: "Notes",
}

# Chapters whose findings the table of contents names, and how many of them.
_LISTED = (Impact.BREAKS, Impact.CHANGES_RESULTS)
_TITLES = 8
_EFFECTS = 2  # of one cause

# A value that must stay whole (a command to copy) may be longer than one that is only looked at.
_COMMAND = 2000


@dataclass(frozen=True)
class _Room:
    """How much of each kind is told, in all of the page unless it says otherwise."""

    full: int = 200  # findings with everything that belongs to them
    weight: int = 250_000  # characters in those, and as many in the comparison, and in what changed
    short: int = 600  # findings of one line each, after those
    evidence: int = 12  # facts of one finding
    value: int = 300  # characters of a fact
    lines: int = 800  # rows of the comparison
    facts: int = 2_500  # changes
    entries: int = 100  # of each list of gaps, problems, rules, expectations of one target
    sections: int = 60
    columns: int = 12  # environments beside each other
    verdicts: int = 100


_EVERYTHING = _Room(10_000, 5_000_000, 10_000, 1_000, 2_000, 10_000, 50_000, 10_000, 1_000, 100, 1_000)


@dataclass(frozen=True)
class _Shown:
    """A card, in full or in one line."""

    card: Card
    full: bool


@dataclass(frozen=True)
class _Chapter:
    """Cards under one heading.

    ``total``   how many findings have its impact; an effect of another impact is told under its cause
    ``titles``  the first of them, for the table of contents
    ``more``    findings that have no line of their own, by code
    """

    name: str
    title: str
    total: int
    titles: tuple[Card, ...]
    shown: tuple[_Shown, ...]
    more: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Fact:
    """One change. ``why``: the cards that explain it; ``expected``: the policy's reason."""

    path: str
    kind: str
    before: str | None
    after: str | None
    why: Card | None
    expected: str


@dataclass(frozen=True)
class _Part:
    """What changed in one section of one target."""

    section: str
    counts: str
    total: int
    facts: tuple[_Fact, ...]


@dataclass
class _LeftOut:
    """What found no room, in words."""

    entries: dict[str, int] = field(default_factory=dict)

    def some(self, entries: Sequence[Any], limit: int, what: str) -> Sequence[Any]:
        """As many as there is room for; the others are counted."""
        self.add(len(entries) - limit, what)
        return entries[: max(limit, 0)]

    def add(self, number: int, what: str) -> None:
        if number > 0:
            self.entries[what] = self.entries.get(what, 0) + number


def render(report: Report, options: RenderOptions) -> str:
    """The format ``html``."""
    room = _EVERYTHING if options.all else _Room()
    room = replace(room, entries=max(room.entries * 2 // max(len(report.targets), 2), 5))
    left_out = _LeftOut()
    baseline, names = phrases.names(report)
    found = deck(report)
    sections = _sections(report, found)
    compared = report.baseline is not None
    columns = list(zip(names, [target.environment for target in report.targets], strict=True))
    if report.baseline is not None:
        columns.insert(0, (baseline, report.baseline))
    columns = list(left_out.some(columns, room.columns, "columns of the comparison"))
    rows = left_out.some(agreement(report), room.sections, "sections of the picture")
    quota = _Quota(room)
    template = _templates().get_template("page.html")
    return (
        template.render(
            report=report,
            room=room,
            compared=compared,
            baseline=baseline,
            names=names,
            verdicts=_verdicts(report, names),
            headline=_headline(report, names),
            errors=[_error(report, found, index) for index in range(len(report.targets))][: room.verdicts],
            impacts=[impact for impact in Impact if any(card.finding.impact is impact for card in found.all())],
            chapters=_chapters(found, quota, left_out),
            known=_chapter("known", "Also in the baseline, which works", found.known, quota, left_out),
            suppressed=_suppressed(report, quota, left_out),
            section_numbers={name: number for number, name in enumerate(sections)},
            columns=columns,
            tables=_tables(side_by_side(report), room, left_out),
            rows=rows,
            picture=picture([_narrowed(row, len(columns)) for row in rows], [name for name, _ in columns]),
            changes=_changes(report, found, room, left_out) if compared else [],
            about=_about([environment for _, environment in columns]),
            taken=_taken(report),
            left_out=left_out,
            style=_source("page.css"),
            script=_source("page.js"),
        ).strip()
        + "\n"
    )


# The template's tools.


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("driftcheck.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_final,
    )
    environment.filters.update(
        line=cleaning.line, prose=cleaning.prose, spans=cleaning.spans, lines=cleaning.lines, digest=_digest
    )
    environment.globals.update(
        phrases=phrases,
        Impact=Impact,
        letter=letter,
        told=told,
        link=_link,
        by_word=_by_word,
        command_limit=_COMMAND,
        newline=Markup("\n"),
    )
    return environment


def _final(value: Any) -> Any:
    """Nothing that a template prints is raw, whatever it forgot: what is clean stays as it is."""
    return cleaning.line(value, len(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(name: str) -> Markup:
    """Our own style or script, which is no text of anybody else's."""
    text = resources.files("driftcheck.report").joinpath("templates", name).read_text("utf-8")
    return Markup("\n" + text)  # noqa: S704 - a file of this package


def _digest(text: str) -> Markup:
    """How a Content-Security-Policy names an inline style or script."""
    digest = base64.b64encode(hashlib.sha256(str(text).encode("utf-8")).digest())
    return Markup(f"'sha256-{digest.decode('ascii')}'")  # noqa: S704 - base64


def _by_word(fixes: Sequence[Fix]) -> list[tuple[str, list[Fix]]]:
    """Commands that follow each other and are typed in the same place."""
    words = groupby(fixes, key=lambda fix: phrases.FIX_WORDS.get(fix.kind, "Type"))
    return [(word, list(found)) for word, found in words]


def _link(reference: str) -> str:
    """An address that may be a link: https, plain, and shown as it is; empty for anything else."""
    plain = reference.isascii() and not set(reference) & set(" \"'<>\\^`{|}") and len(reference) <= 300
    return reference if plain and reference.isprintable() and reference.startswith("https://") else ""


# Verdicts.


def _verdicts(report: Report, names: Sequence[str]) -> list[phrases.Verdict]:
    return [phrases.verdict(report, target, name) for target, name in zip(report.targets, names, strict=True)]


def _headline(report: Report, names: Sequence[str]) -> phrases.Verdict:
    """The one sentence that everything else follows from."""
    verdicts = _verdicts(report, names)
    if len(verdicts) == 1:
        return verdicts[0]
    total = len(verdicts)
    for tone, words in (("bad", "would break"), ("doubt", "is in doubt")):
        number = sum(verdict.tone == tone for verdict in verdicts)
        if number:
            return phrases.Verdict(tone, f"Inference {words} in {number:,} of {total:,} environments.", ())
    return phrases.Verdict("good", f"Nothing found that would break inference in {total:,} environments.", ())


def _taken(report: Report) -> str:
    """What the policy took out of the report, in all targets."""
    if not report.targets:
        return ""
    return phrases.expected(
        replace(
            report.targets[0],
            suppressed=tuple(entry for target in report.targets for entry in target.suppressed),
            expected=tuple(entry for target in report.targets for entry in target.expected),
        )
    )


def _error(report: Report, found: Deck, index: int) -> tuple[str, ErrorAnswer, Card | None] | None:
    """What explains the error at hand in one target: in words, and the card."""
    error = report.targets[index].error
    if error is None:
        return None
    card = answer(tuple(found.all()), index, error.finding) if error.finding else None
    return phrases.error_answered(report.targets[index]), error, card


# Findings.


@dataclass
class _Quota:
    """How many findings can still be told in full, and how many in one line."""

    room: _Room
    full: int = 0
    weight: int = 0
    short: int = 0

    def fits(self, findings: Sequence[Finding]) -> bool:
        weight = sum(_weight(finding, self.room) for finding in findings)
        number = len(findings)
        if self.full + number > self.room.full or self.weight + weight > self.room.weight:
            return False
        self.full += number
        self.weight += weight
        return True

    def fits_in_one_line(self) -> bool:
        self.short += 1
        return self.short <= self.room.short


def _weight(finding: Finding, room: _Room) -> int:
    """About as many characters as it comes to on the page."""
    value = min(room.value, 300)
    texts = [finding.title, finding.explanation, finding.predicted_error or "", *(fix.text for fix in finding.fix[:12])]
    return 500 + sum(min(len(text), 4000) for text in texts) + 2 * value * min(len(finding.evidence), room.evidence)


def _chapters(found: Deck, quota: _Quota, left_out: _LeftOut) -> list[_Chapter]:
    chapters = [_chapter("answer", "What explains your error", found.answers, quota, left_out)]
    for impact in (Impact.BREAKS, Impact.CHANGES_RESULTS, Impact.SLOWS):
        chapters.append(_chapter(impact.value, _HEADINGS[impact], found.impacts[impact], quota, left_out))
    chapters.append(_chapter("causes", "Causes", found.causes, quota, left_out))
    chapters.append(_chapter("note", _HEADINGS[Impact.NOTE], found.impacts[Impact.NOTE], quota, left_out))
    return [chapter for chapter in chapters if chapter.total]


def _chapter(name: str, title: str, cards: Sequence[Card], quota: _Quota, left_out: _LeftOut) -> _Chapter:
    shown: list[_Shown] = []
    more: dict[str, int] = {}
    for card in cards:
        if quota.fits([card.finding, *(effect.finding for effect in card.effects)]):
            shown.append(_Shown(card, full=True))
            continue
        # An effect that has no room under its cause stands for itself.
        for entry in (card, *card.effects):
            if quota.fits_in_one_line():
                shown.append(_Shown(entry, full=False))
            else:
                more[entry.finding.code] = more.get(entry.finding.code, 0) + 1
    left_out.add(sum(not entry.full for entry in shown) + sum(more.values()), "full accounts of findings")
    counted = sorted(more.items(), key=lambda entry: -entry[1])
    if len(counted) > 20:
        counted = [*counted[:20], ("others", sum(number for _, number in counted[20:]))]
    within = [entry for card in cards for entry in (card, *card.effects)]
    if name in set(Impact):
        within = [entry for entry in within if entry.finding.impact == name]
    return _Chapter(name, title, len(within), _titles(name, shown), tuple(shown), tuple(counted))


def _titles(name: str, shown: Sequence[_Shown]) -> tuple[Card, ...]:
    """What the table of contents names: a hundred effects of one cause leave room for the next cause."""
    if name not in _LISTED:
        return ()
    found = []
    for entry in shown:
        effects = [effect for effect in entry.card.effects if effect.finding.impact == name]
        found += [entry.card] if entry.card.finding.impact == name else []
        found += effects[:_EFFECTS] if entry.full else []
    return tuple(found[:_TITLES])


def _suppressed(report: Report, quota: _Quota, left_out: _LeftOut) -> list[list[tuple[Suppressed, bool]]]:
    """For each target what the policy expects, and whether there is room for all of it."""
    found = []
    for target in report.targets:
        shown = left_out.some(target.suppressed, quota.room.entries, "findings that the policy expects")
        found.append([(entry, quota.fits([entry.finding])) for entry in shown])
    return found


# Environments beside each other.


def _narrowed(row: Row, columns: int) -> Row:
    return replace(row, cells=row.cells[:columns])


def _tables(tables: Iterable[Table], room: _Room, left_out: _LeftOut) -> list[tuple[Table, Sequence[Line]]]:
    """The tables that find room: one takes half of what is left at the most, so that each shows something."""
    lines, weight = room.lines, room.weight
    found: list[tuple[Table, Sequence[Line]]] = []
    for table in tables:
        most, heaviest = max(lines // 2, min(lines, 50)), weight // 2
        shown: list[Line] = []
        for line in table.lines[:most]:
            heaviest -= sum(100 + min(len(value.text), room.value) for value in line.values[: room.columns])
            if heaviest < 0:
                break
            shown.append(line)
        left_out.add(len(table.lines) - len(shown), "rows of the comparison")
        lines -= len(shown)
        weight = weight // 2 + max(heaviest, 0)
        if shown:
            found.append((table, shown))
    return found


def _sections(report: Report, found: Deck) -> list[str]:
    named = {section for card in found.all() for section in card.sections}
    return sorted({*sections_of(report), *named}, key=section_order)


# What changed.


def _changes(report: Report, found: Deck, room: _Room, left_out: _LeftOut) -> list[list[_Part]]:
    """For each target, each section that changed; the room is shared out evenly."""
    cards: dict[tuple[int, Identity], Card] = {}
    for card in found.all():
        for index in card.targets:
            cards.setdefault((index, card.finding.identity), card)
    number = max(len(report.targets), 1)
    share = replace(room, facts=room.facts // number, weight=room.weight // number)
    return [
        _parts(target, {key[1]: card for key, card in cards.items() if key[0] == index}, share, left_out)
        for index, target in enumerate(report.targets)
    ]


def _parts(target: Target, cards: dict[Identity, Card], room: _Room, left_out: _LeftOut) -> list[_Part]:
    why = {
        path: cards[finding.identity]
        for finding in reversed(target.explanation.findings)
        for path in finding.folds
        if finding.identity in cards
    }
    expected = {change.path: entry.reason for entry in target.expected for change in entry.changes}
    things: dict[str, list[phrases.Item]] = {}
    for group in everything(target):
        for item in group.items:
            things.setdefault(item.changes[0].section, []).append(item)
    changes: dict[str, list[Change]] = {}
    for change in all_changes(target):
        changes.setdefault(change.section, []).append(change)
    parts = []
    number, weight = room.facts, room.weight
    for section in sorted(changes, key=section_order):
        shown: list[_Fact] = []
        for change in changes[section][:number]:
            fact = _fact(change, why.get(change.path), expected.get(change.path, ""), room)
            weight -= 200 + len(fact.path) + len(fact.before or "") + len(fact.after or "")
            if weight < 0:
                break
            shown.append(fact)
        number -= len(shown)
        left_out.add(len(changes[section]) - len(shown), "changed facts")
        if shown:
            counts = phrases.Group(section, tuple(things.get(section, ()))).counts()
            parts.append(_Part(section, counts, len(changes[section]), tuple(shown)))
    return parts


def _fact(change: Change, why: Card | None, expected: str, room: _Room) -> _Fact:
    before, after = (
        cleaning.line(phrases.value_text(value, change.path), room.value) for value in (change.before, change.after)
    )
    return _Fact(
        phrases.path_text(change.path),
        change.kind,
        None if change.kind == "added" else before,
        None if change.kind == "removed" else after,
        why,
        expected,
    )


# Headers.

_HEADER = (
    ("Reference", ("reference",)),
    ("Interpreter", ("interpreter", "path")),
    ("Chosen because", ("interpreter", "reason")),
    ("Working directory", ("interpreter", "working_directory")),
    ("Measured", ("created",)),
    ("Measured through", ("channel",)),
    ("Image", ("image", "id")),
    ("Variables of", ("environment_variables_from",)),
    ("Started with", ("run_defaults",)),
    ("On", ("on", "label")),
    ("driftcheck", ("tool", "version")),
)


def _about(environments: Sequence[Environment]) -> list[tuple[str, list[str]]]:
    """How each environment was measured: a row for whatever any of them says."""
    rows = []
    for title, path in _HEADER:
        values = [_header_text(environment.header, path) for environment in environments]
        if any(values):
            rows.append((title, values))
    return rows


def _header_text(header: dict[str, Any], path: Sequence[str]) -> str:
    value: Any = header
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if value is True and path == ("run_defaults",):
        return "the defaults of docker run"
    return value if isinstance(value, str) else ""
