"""A page for a terminal: lines of its width, in colour or without it, in ASCII where it shows no more.

Of rich only styles and cell widths are used: a Console costs 0.1 s to import.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from driftcheck.report.cleaning import ascii_only

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from driftcheck.report.formats import RenderOptions

DEFAULT_WIDTH = 80
_NARROWEST = 40
_WIDEST = 120  # longer lines are hard to read

Span = tuple[str, str]  # text and style


class Page:
    """Lines in the making. Spans are ``(text, style)``; wrapping counts the cells of a terminal."""

    def __init__(self, options: RenderOptions) -> None:
        self.all = options.all
        self.width = min(max(options.width or DEFAULT_WIDTH, _NARROWEST), _WIDEST)
        self._paint: Callable[[str, str], str] = _painted if options.color else _unpainted
        self._clean: Callable[[str], str] = str if options.unicode else ascii_only
        self._lines: list[str] = []
        self.hint = ""  # said once, at the end

    def text(self) -> str:
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "\n".join(self._lines) + "\n"

    def add(self, *spans: str | Span) -> None:
        """One line, never wrapped: what people copy."""
        pairs = [(span, "") if isinstance(span, str) else span for span in spans]
        self._lines.append("".join(self._paint(self._clean(text), style) for text, style in pairs).rstrip())

    def gap(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, text: str, style: str = "bold") -> None:
        self.gap()
        self.wrapped(text, style=style)

    def wrapped(self, text: str, first: Sequence[Span] = (), indent: int = 0, style: str = "") -> None:
        """Text after the spans of its first line; the lines that follow are indented."""
        text = self._clean(text)
        start = sum(cells(span) for span, _ in first)
        rows = wrap(text, self.width - start, self.width - indent)
        self.add(*first, (rows[0], style))
        for row in rows[1:]:
            self.add(" " * indent, (row, style))

    def fitted(self, text: str, width: int) -> str:
        return fit(self._clean(text), width)


def _unpainted(text: str, style: str) -> str:
    del style
    return text


def _painted(text: str, style: str) -> str:
    return _style(style)(text) if style and text else text


@functools.cache
def _style(style: str) -> Callable[[str], str]:
    from rich.color import ColorSystem  # noqa: PLC0415 - nothing of rich without colour
    from rich.style import Style  # noqa: PLC0415

    parsed = Style.parse(style)
    return lambda text: parsed.render(text, color_system=ColorSystem.STANDARD)


def cells(text: str) -> int:
    """Columns that a text takes in a terminal; a Chinese sign takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - rarely needed

    return cell_len(text)


def wrap(text: str, first: int, others: int) -> list[str]:
    """Lines of at most these widths, broken at spaces alone: a path or a name is never taken apart."""
    rows: list[str] = []
    row, used, width = "", 0, first
    for word in text.split(" "):
        size = cells(word)
        if row and used + 1 + size > width:
            rows.append(row)
            row, used, width = word, size, others
        else:
            row, used = (f"{row} {word}", used + 1 + size) if row else (word, size)
    return [*rows, row]


def fit(text: str, width: int) -> str:
    """The text, cut at its end to this width where it is longer."""
    if cells(text) <= width:
        return text
    kept = text[: max(width - 3, 1)]
    while len(kept) > 1 and cells(kept) > width - 3:
        kept = kept[:-1]
    return kept.rstrip() + "..."


def pad(text: str, width: int) -> str:
    return text + " " * max(width - cells(text), 0)
