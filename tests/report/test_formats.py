from __future__ import annotations

import io
import os
import pty
from typing import TYPE_CHECKING

import pytest

from driftcheck.report.formats import FORMATS, RenderOptions, render, renderer, terminal_options

if TYPE_CHECKING:
    from driftcheck.report.model import Report


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_ends_with_one_newline(name: str, sample: Report) -> None:
    text = render(sample, name, RenderOptions())
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text == render(sample, name, RenderOptions())


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(KeyError):
        renderer("pdf")


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool = True, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("environ", "terminal", "color"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour(environ: dict[str, str], terminal: bool, color: bool) -> None:
    assert terminal_options(Stream(terminal=terminal), environ).color is color


@pytest.mark.parametrize(
    ("environ", "terminal", "width"),
    [
        ({"COLUMNS": "132"}, True, 132),
        ({"COLUMNS": "132"}, False, 132),
        ({"COLUMNS": "wide"}, True, None),
        ({"COLUMNS": "0"}, True, None),
        ({}, False, None),
    ],
)
def test_width(environ: dict[str, str], terminal: bool, width: int | None) -> None:
    assert terminal_options(Stream(terminal=terminal), environ).width == width


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("utf-8", True), ("UTF8", True), ("latin-1", False), ("ascii", False)]
)
def test_signs_that_can_be_shown(encoding: str, unicode: bool) -> None:
    assert terminal_options(Stream(encoding=encoding), {}).unicode is unicode


def test_a_real_terminal() -> None:
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0), open(follower, "w", encoding="utf-8") as terminal:  # noqa: PTH123
        options = terminal_options(terminal, {})
        assert options.color
        assert options.unicode
        assert options.width == (os.get_terminal_size(follower).columns or None)
