"""The picture of who agrees with whom: sections below each other, environments beside each other.

Neighbours with the same facts share one bar; the same letter in a row means the same facts. Only numbers and
places are made here, the template draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from driftcheck.report.cleaning import line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftcheck.report.agreement import Cell, Row

LAYER_TITLES = {
    "image": "travels with the image",
    "run": "set by one start",
    "machine": "the machine",
    "other": "other",
}

# In CSS pixels, which the drawing scales by.
_LABEL = 112
_COLUMN = (104, 620)  # the widest, and what all of them share
_NARROWEST_COLUMN = 40
_ROW = 32
_BAR = 22
_HEAD = 34
_LAYER = 26
_GAP = 3
_LETTER = 7.0  # width of one at the size of the headings
_SHADES = 5


@dataclass(frozen=True)
class Mark:
    """A text in the middle of one column. ``told`` says the same to whoever cannot see the picture."""

    x: float
    text: str
    told: str


@dataclass(frozen=True)
class Bar:
    """Neighbours with the same facts. ``shade``: ``same``, ``gap``, or ``other-1`` to ``other-5``."""

    x: float
    width: float
    shade: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Band:
    """One section, or the name of a layer where ``bars`` is empty. ``y`` is its upper edge."""

    y: int
    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    scale: str  # small, medium, large: how much narrower it may become
    heads: tuple[Mark, ...]
    bands: tuple[Band, ...]
    bar: int = _BAR
    row: int = _ROW


def picture(rows: Sequence[Row], names: Sequence[str]) -> Picture:
    """``names``: the baseline's and those of the targets, as many as each row has cells; cleaned."""
    column = max(min(_COLUMN[0], _COLUMN[1] // max(len(names), 1)), _NARROWEST_COLUMN)
    width = _LABEL + column * len(names)
    short = shortened(names, int((column - 8) / _LETTER))
    heads = tuple(Mark(_middle(index, column), short[index], name) for index, name in enumerate(names))
    bands: list[Band] = []
    y = _HEAD
    for layer, found in groupby(rows, key=lambda row: row.layer):
        bands.append(Band(y, LAYER_TITLES[layer], ()))
        y += _LAYER
        for row in found:
            bands.append(Band(y, tail(line(row.section, 40), 15), _bars(row, column, names)))
            y += _ROW
    scale = "small" if len(names) <= 2 else "medium" if len(names) == 3 else "large"
    return Picture(width, y + 4, scale, heads, tuple(bands))


def tail(text: str, room: int) -> str:
    """The end of a name that is too long: it tells more than its beginning."""
    return text if len(text) <= room else "\u2026" + text[-max(room - 1, 1) :]


def shortened(names: Sequence[str], room: int) -> list[str]:
    """The names so short that they fit, and still told apart: their ends, their beginnings, or numbers."""
    ends = [tail(name, room) for name in names]
    beginnings = [name if len(name) <= room else name[: max(room - 1, 1)] + "\u2026" for name in names]
    numbers = [str(index) for index in range(len(names))]
    return next((found for found in (ends, beginnings) if len(set(found)) == len(names)), numbers)


def told(cell: Cell, index: int) -> str:
    """What one cell says, in words."""
    if cell.gap:
        return f"not measured: {line(cell.gap, 120)}"
    if index == 0:
        return "the baseline"
    if cell.group == 0:
        return "as in the baseline"
    if cell.group is None:
        return "the baseline has none"
    if not cell.things:
        return "has none, the baseline has"
    return f"{cell.things:,} {'difference' if cell.things == 1 else 'differences'}"


def letter(group: int) -> str:
    """``A`` for what is as in the baseline, then ``B``, and numbers after ``Z``."""
    return chr(ord("A") + group) if group < 26 else str(group)


def _bars(row: Row, column: int, names: Sequence[str]) -> tuple[Bar, ...]:
    bars = []
    alone = iter(range(-1, -len(row.cells) - 1, -1))
    # What is not known to be equal is not drawn as one; what could not be measured is one gap.
    keys = ["gap" if cell.gap else next(alone) if cell.group is None else cell.group for cell in row.cells]
    for key, found in groupby(range(len(row.cells)), key=lambda index: keys[index]):
        places = list(found)
        marks = tuple(
            Mark(_middle(index, column), _text(row.cells[index]), f"{names[index]}: {told(row.cells[index], index)}")
            for index in places
        )
        x = _LABEL + places[0] * column + _GAP
        bars.append(Bar(x, len(places) * column - 2 * _GAP, _shade(key), marks))
    return tuple(bars)


def _text(cell: Cell) -> str:
    if cell.gap:
        return "not measured"
    if cell.group is None:
        return "?"
    return letter(cell.group) + (f" \u00b7 {cell.things:,}" if cell.things else "")


def _shade(key: int | str) -> str:
    if isinstance(key, str):
        return "gap"
    if key == 0:
        return "same"
    return f"other-{(key - 1) % _SHADES + 1}"


def _middle(index: int, column: int) -> float:
    return _LABEL + (index + 0.5) * column
