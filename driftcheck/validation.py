"""JSON Schema 2020-12, applied: the schemas of ``schemas/``, whole, and what is wrong with a document."""

from __future__ import annotations

import functools
import importlib.resources
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driftcheck.errors import InputError

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator


_SCHEMAS = "driftcheck.schemas"
_SECTIONS = "driftcheck.schemas.sections"


def names() -> list[str]:
    """The schemas that there are, by the names that ``driftcheck schema`` takes."""
    return _names(_SCHEMAS)


def sections() -> list[str]:
    """Names of the sections of a snapshot."""
    return _names(_SECTIONS)


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """One schema, whole: that of a snapshot with the facts of each section (``schemas/sections/``), that of a report
    with the header of a snapshot.

    Raises:
        KeyError: when there is none of this name.
    """
    if name not in names():
        raise KeyError(name)
    loaded: dict[str, Any] = _read(_SCHEMAS, name)
    if name == "snapshot":
        inside = loaded["properties"]["sections"]
        frame = inside.pop("patternProperties")["^SECTION$"]
        inside["properties"] = {
            section: {**frame, "properties": {**frame["properties"], "facts": _read(_SECTIONS, section)}}
            for section in sections()
        }
    if name == "report":
        header = _read(_SCHEMAS, "snapshot")["properties"]["header"]
        target = loaded["properties"]["targets"]["items"]["properties"]["environment"]
        for environment in (loaded["properties"]["baseline"], target):
            environment["properties"]["header"] = header
    return loaded


def prepare(name: str) -> None:
    """Load a schema ahead of its use; it takes 0.05 s, which a measurement has to spare while it waits."""
    _validator(name)


def check(name: str, value: Any, where: str) -> None:
    """Check a document against the schema of this name.

    Raises:
        InputError: naming ``where`` and the path of the first thing that is wrong.
    """
    found = fault(name, value)
    if found is not None:
        raise InputError(where, found.told)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a document. ``place``: keys and indexes, from the document on; ``told``: in words."""

    place: tuple[str | int, ...]
    told: str


def fault(name: str, value: Any) -> Fault | None:
    """The first thing that the schema of this name does not allow, None where all is well."""
    if _validator(name).is_valid(value):
        return None
    # Only what is wrong is worth the 0.1 s that the reference implementation takes to say why.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    error = best_match(Draft202012Validator(schema(name)).iter_errors(value))
    if error is None:
        return Fault((), f"not a valid {name}")
    place = ".".join(str(part) for part in error.absolute_path) or "the document"
    return Fault(tuple(error.absolute_path), f"not a valid {name}: at {place[:200]}: {error.message[:300]}")


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    import jsonschema_rs  # noqa: PLC0415 - see prepare

    return jsonschema_rs.Draft202012Validator(schema(name))


def _names(package: str) -> list[str]:
    folder = importlib.resources.files(package)
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def _read(package: str, name: str) -> Any:
    return json.loads((importlib.resources.files(package) / f"{name}.json").read_text(encoding="utf-8"))
