"""What the payload is told: the reference and the options of a user, and what a kind of environment knows beside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftcheck.collect import Request
from driftcheck.environments import Options
from driftcheck.environments.reference import Reference


def request_for(
    found: Reference,
    options: Options,
    *,
    image_config: Mapping[str, Any] | None = None,
    header: Mapping[str, Any] | None = None,
) -> Request:
    """The request for one environment. Where nothing is run, nothing looks at what should be imported.

    ``image_config`` and ``header`` as ``Request`` has them.
    """
    return Request(
        reference=found.text,
        label=options.label or found.text,
        variables=options.variables,
        image_config=image_config,
        header=header or {},
        try_imports=options.try_imports,
        artifacts=options.artifacts,
    )
