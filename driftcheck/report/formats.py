"""The formats of a report, by name. Each is imported only when it is asked for: `--help` stays fast."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from driftcheck.report.model import Report


@dataclass(frozen=True)
class RenderOptions:
    """How to render; what a format has no use for it ignores.

    ``all``      everything, not only what matters most
    ``width``    columns of a terminal; None for 80
    ``color``    with the escapes of a terminal (the text format)
    ``unicode``  False where the reader cannot show more than ASCII (the text format)
    """

    all: bool = False
    width: int | None = None
    color: bool = False
    unicode: bool = True


def terminal_options(stream: TextIO, environ: Mapping[str, str], *, all_: bool = False) -> RenderOptions:
    """How to render for a stream: as wide, as colourful and with the signs that it can show.

    ``NO_COLOR`` (no-color.org) wins over ``FORCE_COLOR``, and both over what the stream is; ``COLUMNS`` over
    the width of the terminal. What is no terminal has no width of its own.
    """
    terminal = stream.isatty()
    forced = environ.get("FORCE_COLOR", "")
    if environ.get("NO_COLOR"):
        color = False
    elif forced:
        color = forced not in {"0", "false"}
    else:
        color = terminal and environ.get("TERM") != "dumb"
    return RenderOptions(
        all=all_,
        width=_columns(stream, environ) if terminal or "COLUMNS" in environ else None,
        color=color,
        unicode=(stream.encoding or "").lower().replace("-", "").replace("_", "") == "utf8",
    )


def _columns(stream: TextIO, environ: Mapping[str, str]) -> int | None:
    given = environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


Renderer = Callable[["Report", RenderOptions], str]

# format -> module and function
_RENDERERS = {
    "text": ("driftcheck.report.text", "render"),
    "json": ("driftcheck.report.model", "render"),
    "markdown": ("driftcheck.report.markdown", "render"),
    "html": ("driftcheck.report.html", "render"),
    "sarif": ("driftcheck.report.sarif", "render"),
    "junit": ("driftcheck.report.junit", "render"),
    "github": ("driftcheck.report.github", "render"),
}

FORMATS = tuple(_RENDERERS)


def renderer(name: str) -> Renderer:
    """The function that renders a format.

    Raises:
        KeyError: when there is no format of this name.
    """
    module, function = _RENDERERS[name]
    found: Renderer = getattr(importlib.import_module(module), function)
    return found


def render(report: Report, name: str, options: RenderOptions) -> str:
    """A report in the format of this name, with a newline at the end.

    Raises:
        KeyError: when there is no format of this name.
    """
    return renderer(name)(report, options)
