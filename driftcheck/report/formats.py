"""The formats of a report, by name. Each is imported only when it is asked for: `--help` stays fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


Renderer = Callable[["Report", RenderOptions], str]

# format -> module and function
_RENDERERS = {
    "text": ("driftcheck.report.text", "render"),
    "json": ("driftcheck.report.model", "render"),
    "markdown": ("driftcheck.report.markdown", "render"),
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
