"""A page of Markdown that fits into one comment: how much room there is for what, and what found none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from driftcheck.report.formats import RenderOptions

LIMIT = 65_536  # in bytes of UTF-8, which are never fewer than characters

_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Room:
    """How much of each kind is told. ``*_full`` findings in full, ``*_lines`` more in one line each."""

    drift: int = 50  # things of each group
    lists: int = 50  # problems, rules not judged, findings of the baseline, sections
    notes: int = 100
    slows_full: int = 100
    slows_lines: int = 100
    changes_full: int = 100
    changes_lines: int = 100
    breaks_full: int = 1_000_000
    breaks_lines: int = 1_000_000
    evidence: int = 12
    value: int = 300
    prose: int = 1500
    title: int = 300
    rows: int = 60  # of the table of environments
    columns: int = 8


def rooms_of(options: RenderOptions) -> Iterator[Room]:
    """Ever less, the least important first."""
    everything = 1_000_000
    room = Room()
    if options.all:
        room = replace(
            room,
            drift=everything,
            lists=everything,
            notes=everything,
            slows_full=everything,
            changes_full=everything,
            evidence=everything,
            value=2000,
        )
    yield room
    for less in (
        {"drift": 50, "value": 300},
        {"drift": 20},
        {"drift": 6},
        {"drift": 0, "lists": 20},
        {"lists": 5, "notes": 50},
        {"notes": 10},
        {"notes": 0},
        {"slows_full": 10, "evidence": 12},
        {"slows_full": 0, "slows_lines": 50},
        {"slows_lines": 0},
        {"changes_full": 20},
        {"changes_full": 0, "changes_lines": 50},
        {"changes_lines": 0},
        {"evidence": 6, "value": 120},
        {"evidence": 3, "value": 60, "rows": 20},
        {"evidence": 1, "prose": 300},
        {"evidence": 0, "prose": 150, "title": 120},
        {"breaks_full": 30, "columns": 3},
        {"breaks_full": 10, "title": 60},
        {"breaks_full": 3},
        {"breaks_full": 0},
        {"breaks_lines": 100},
    ):
        room = replace(room, **less)
        yield room


class FullError(Exception):
    """There is more on a page than fits: no need to go on with it."""


def size_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


@dataclass
class Page:
    """Blocks, each complete in itself, and what did not find room."""

    room: Room
    all: bool
    blocks: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    footer: str = ""
    endless: bool = False
    size: int = 0

    def add(self, text: str) -> None:
        self.blocks.append(text)
        self.size += size_of(text) + 2
        if self.size > LIMIT and not self.endless:
            raise FullError

    def fold(self, title: str, blocks: Iterable[str]) -> None:
        """Blocks under a title that a reader opens. The title is our own words and numbers."""
        inner = "\n\n".join(blocks)
        self.add(f"<details>\n<summary>{title}</summary>\n\n{inner}\n\n</details>")

    def some(self, entries: Sequence[_Entry], limit: int, what: str) -> Sequence[_Entry]:
        """As many as there is room for; the rest is counted at the end."""
        if len(entries) > limit:
            self.leave_out(len(entries) - limit, what)
        return entries[:limit]

    def leave_out(self, number: int, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + number

    def text(self) -> str:
        return "\n\n".join([*self.blocks, *self._left_out(), self.footer]) + "\n"

    def cut(self) -> str:
        """The last resort: whole blocks from the beginning, as many as fit."""
        end = f"**The report is longer than a tracker takes: the rest was left out.** {_ELSEWHERE}\n"
        kept: list[str] = []
        size = size_of(end)
        for text in self.blocks:
            size += size_of(text) + 2
            if size > LIMIT:
                break
            kept.append(text)
        return "\n\n".join([*kept, end])

    def _left_out(self) -> list[str]:
        if not self.left_out:
            return []
        entries = [f"{number:,} {what}" for what, number in self.left_out.items()]
        shown = ", ".join(entries[:40]) + (" and more" if len(entries) > 40 else "")
        return [f"Left out to keep this short: {shown}. {_ELSEWHERE}"]


_ELSEWHERE = "`--format json` has everything."
