"""The record of one environment: load, validate, canonical form, digests, save.

Files are hostile: size and depth are bounded before anything is made of them, the schema is applied before any
rule sees a fact, secrets are removed again, and digests are made anew rather than believed.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftcheck import validation
from driftcheck.errors import InputError
from driftcheck.probes.common import digest as digest_of
from driftcheck.probes.redaction import Redactor

SCHEMA_VERSION = 0

# The largest honest snapshot is 0.5 MB.
SIZE_LIMIT = 64 << 20
DEPTH_LIMIT = 64

# A section in one of these states holds facts that can be compared and judged.
MEASURED = frozenset({"ok", "partial"})


@dataclass(frozen=True)
class Section:
    """One probe's part of a snapshot.

    ``status``    ``ok``, ``partial`` (facts, and problems), ``absent`` (the platform has no such thing),
                  ``unavailable`` (it cannot be measured this way) or ``failed``
    ``problems``  ``{"where": ..., "reason": ...}`` each
    ``digest``    of the facts, made by us
    """

    name: str
    layer: str
    status: str
    reason: str | None
    problems: list[dict[str, str]]
    facts: dict[str, Any]
    digest: str

    @property
    def measured(self) -> bool:
        return self.status in MEASURED


@dataclass(frozen=True)
class Snapshot:
    """One environment. ``warnings`` are what reading it showed; they are not part of the record."""

    header: dict[str, Any]
    sections: dict[str, Section]
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return str(self.header["label"])

    def facts(self, section: str) -> dict[str, Any] | None:
        """The facts of a section, or None where it was not measured."""
        found = self.sections.get(section)
        return found.facts if found is not None and found.measured else None

    def document(self) -> dict[str, Any]:
        """The JSON value of this snapshot, valid against ``schemas/snapshot.json``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "header": self.header,
            "sections": {
                name: {
                    "layer": section.layer,
                    "status": section.status,
                    "reason": section.reason,
                    "problems": section.problems,
                    "facts": section.facts,
                    "digest": section.digest,
                }
                for name, section in self.sections.items()
            },
        }

    def text(self) -> str:
        """The one serial form that is written: sorted keys, one record a line, ASCII, a newline at the end."""
        return f"{_laid_out(self.document(), _RECORD_DEPTH)}\n"


# sections > packages > facts > distributions > NAME: what stands below is one line.
_RECORD_DEPTH = 5


def _laid_out(value: Any, depth: int, margin: str = "") -> str:
    """JSON with line breaks down to a depth. (json's own indentation takes ten times as long, in pure Python.)"""
    if not depth or not isinstance(value, dict) or not value:
        return json.dumps(value, sort_keys=True)
    inner = f"{margin} "
    lines = (f"{inner}{json.dumps(key)}: {_laid_out(value[key], depth - 1, inner)}" for key in sorted(value))
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"


_MAKE_ONE = "A snapshot is made by: driftcheck snapshot -o FILE"


def load(path: str) -> Snapshot:
    """Read a snapshot file; ``-`` is standard input.

    Raises:
        InputError: naming the file, the place inside it, and what to do.
    """
    return parse(read_bytes(path), "standard input" if path == "-" else path)


def read_bytes(path: str) -> bytes:
    """At most ``SIZE_LIMIT`` bytes of a file or of standard input.

    Raises:
        InputError: when it cannot be read or is longer.
    """
    where = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read(SIZE_LIMIT + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(where, f"cannot be read: {error.strerror or error}", _MAKE_ONE) from error
    if len(data) > SIZE_LIMIT:
        raise InputError(where, f"larger than {SIZE_LIMIT >> 20} MB, so it is no snapshot")
    return data


def parse(data: bytes, where: str) -> Snapshot:
    """A snapshot from its bytes.

    Raises:
        InputError: naming ``where`` and the place inside it.
    """
    value = parse_json(data, where, _MAKE_ONE)
    if not isinstance(value, dict) or "schema_version" not in value:
        raise InputError(where, "JSON, but not a snapshot", _MAKE_ONE)
    if value.get("kind") == "report":
        hint = f"A report is shown by: driftcheck report FILE. {_MAKE_ONE}"
        raise InputError(where, "a saved report, and not a snapshot", hint)
    check_version(value["schema_version"], SCHEMA_VERSION, where)
    validation.check("snapshot", value, where)
    value = Redactor().document(value)
    warnings = []
    sections = {}
    for name, entry in sorted(value["sections"].items()):
        digest = digest_of(entry["facts"])
        if digest != entry["digest"]:
            warnings.append(f"{where}: section {name} was changed after it was measured (its digest differs)")
        sections[name] = Section(
            name=name,
            layer=entry["layer"],
            status=entry["status"],
            reason=entry["reason"],
            problems=entry["problems"],
            facts=entry["facts"],
            digest=digest,
        )
    return Snapshot(value["header"], sections, tuple(warnings))


def parse_json(data: bytes, where: str, hint: str = "") -> Any:
    """JSON of bounded depth, in which no object has a key twice. ``hint``: what to do where it is none.

    Raises:
        InputError: with the line and column where it breaks off, or the line where a key is repeated.
    """
    text = _decode(data, where, hint)
    if _too_deep(text):
        raise InputError(where, f"JSON nested deeper than {DEPTH_LIMIT} levels, so it is nothing of driftcheck's")
    if _LONG_NUMBER.search(text):
        message = f"holds a number of more than {_DIGITS} digits, so it is nothing of driftcheck's"
        raise InputError(where, message)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except _RepeatedKeyError as error:
        raise InputError(where, _repetition(text), "Remove one of them, or make the file anew") from error
    except json.JSONDecodeError as error:
        if not text.strip():
            raise InputError(where, "empty", hint) from error
        place = f"line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise InputError(where, f"JSON that is cut off at {place}", "Was it copied whole?") from error
        raise InputError(where, f"not JSON at {place}: {error.msg}", hint) from error
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"not JSON: {str(error)[:200]}", hint) from error
    half = _HALF_PAIR.search(text)
    if half and _is_no_text(value):
        line = text.count("\n", 0, half.start()) + 1
        raise InputError(where, f"line {line} holds {half.group()}, half of a surrogate pair, which is no text", hint)
    return value


# Looked for everywhere, which is cheap; behind an even number of backslashes it means nothing.
_HALF_PAIR = re.compile(r"\\u[dD][89abAB]\w\w(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]\w\w)\\u[dD][c-fC-F]\w\w")


def _is_no_text(value: Any) -> bool:
    """Whether a text of it cannot be written as UTF-8: no library would take it, and no report."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _decode(data: bytes, where: str, hint: str) -> str:
    # Somebody means another kind of reference.
    if data.startswith((b"\x7fELF", b"MZ", b"#!")):
        raise InputError(where, "a program, not a snapshot", "For an interpreter: python:PATH")
    if data.startswith((b"\x1f\x8b", b"PK\x03\x04")) or data[257:262] == b"ustar":
        raise InputError(where, "an archive, not a snapshot", "For a saved image: archive:FILE")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        use = "PowerShell's > writes that; use: driftcheck snapshot -o FILE"
        raise InputError(where, "UTF-16 or UTF-32 text instead of UTF-8", use)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(where, f"not UTF-8 text (byte {error.start})", hint) from error


# int() refuses what is longer, and so does every parser of versions; nothing honest comes near.
_DIGITS = 4300
_LONG_NUMBER = re.compile(rf"(?<!\d)\d{{{_DIGITS + 1}}}")

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _too_deep(text: str) -> bool:
    """Whether brackets nest deeper than the limit. Cheap for honest files: depth rarely needs counting."""
    depth = 0
    for found in _BRACKETS.finditer(text):
        sign = found.group()
        if sign in "[{":
            depth += 1
            if depth > DEPTH_LIMIT:
                return True
        elif sign in "]}":
            depth -= 1
    return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class _RepeatedKeyError(Exception):
    """An object has a key twice. Readers differ in which value they take, and a person may have read the other."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _RepeatedKeyError
    return value


_KEYS_AND_BRACES = re.compile(r'("(?:[^"\\]|\\.)*+")\s*+(:?)|[{}]', re.DOTALL)


def _repetition(text: str) -> str:
    """The first repeated key of a text that has one, and its place. (json's hook is not told the place.)"""
    objects: list[set[str]] = []
    path: list[str] = []
    for found in _KEYS_AND_BRACES.finditer(text):
        if found.group() == "{":
            objects.append(set())
            path.append("")
        elif found.group() == "}":
            objects.pop()
            path.pop()
        elif found[2]:
            key = json.loads(found[1])
            if key in objects[-1]:
                line = text.count("\n", 0, found.start()) + 1
                place = ".".join(path[:-1]) or "the document"
                return f"line {line} repeats the key {key[:100]!r} of {place[:200]}"
            objects[-1].add(key)
            path[-1] = key
    return "repeats a key"


def check_version(version: Any, known: int, where: str) -> None:
    """Refuse what a newer driftcheck wrote, in words.

    Raises:
        InputError: for a newer version and for one that is no number.
    """
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(where, "schema_version is no number, so this is no file of driftcheck's")
    if version > known:
        raise InputError(
            where,
            f"written by a newer driftcheck (schema version {version}, this one reads up to {known})",
            "Upgrade driftcheck: pip install --upgrade driftcheck",
        )
