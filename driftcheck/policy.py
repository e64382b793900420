"""What a project expects of its environments: ``driftcheck.toml``, or ``[tool.driftcheck]`` of ``pyproject.toml``.

The file is found where the user stands, or above as far as the root of the repository (``.git``); outside of a
repository only where the user stands, since what lies further up may be anybody's. Nothing of it is believed
before it has been checked: it may have come with a pull request.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from driftcheck import validation
from driftcheck.environments import reference
from driftcheck.errors import InputError
from driftcheck.findings import Impact

FILE = "driftcheck.toml"
PROJECT_FILE = "pyproject.toml"

# The largest honest policy is a few kilobytes, and the largest honest pyproject.toml not much more.
SIZE_LIMIT = 1 << 20

# tomllib takes time that is quadratic in the parts of one key: a file of 1 MB could take hours.
_LONGEST_KEY = 100
_PART = r"(?:[\w-]++|\"[^\"\n]*+\"|'[^'\n]*+')"
_KEY_TOO_LONG = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_LONGEST_KEY}}}", re.ASCII)

_DEPTH_LIMIT = 16

_NO_POLICY = "--no-policy goes without it"
_KINDS_WITH_PATHS = frozenset({"archive", "rootfs", "python"})


@dataclass(frozen=True)
class Expectation:
    """Something known and accepted: differences below ``path``, or findings of ``rule``.

    ``where``    its place in the policy: ``driftcheck.toml:12``
    ``path``     one glob for each key, from the section on; what stands below is included
    ``subject``  glob for the name of what a finding is about
    ``target``   glob for labels; None for every target
    ``expires``  the last day on which it holds; None for no end
    """

    where: str
    reason: str
    path: tuple[str, ...] | None = None
    rule: str | None = None
    subject: str | None = None
    target: str | None = None
    expires: date | None = None

    def expired(self, today: date) -> bool:
        return self.expires is not None and self.expires < today


@dataclass(frozen=True)
class Policy:
    """A policy that has been read. Relative paths in it have been made relative to where the user stands.

    ``file``      the file, as messages and reports name it
    ``baseline``  the reference of the environment that works; None where the policy names none
    ``fail_on``   value of ``--fail-on``: an impact or ``never``; None where the policy does not say
    ``off``       codes of rules whose findings are left out
    ``impacts``   impacts that the findings of rules have here, by code
    ``require``   sections that have to be measured in every target
    ``variables`` and ``artifacts``  what a measurement records beside the rest
    """

    file: str
    baseline: str | None = None
    fail_on: str | None = None
    off: frozenset[str] = frozenset()
    impacts: Mapping[str, Impact] = field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()
    require: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()


def find(start: Path) -> Path | None:
    """The policy that holds in a directory: the nearest one, and of two side by side ``driftcheck.toml``.

    Raises:
        InputError: when a file that may hold one cannot be read.
    """
    for folder in _folders(start):
        own, project = folder / FILE, folder / PROJECT_FILE
        if os.path.lexists(own):
            return own
        if os.path.lexists(project) and _project_table(_read(project), str(project)) is not None:
            return project
    return None


def load(path: Path) -> Policy:
    """Read a policy: of a file called ``pyproject.toml`` its ``[tool.driftcheck]``, of any other the whole.

    Raises:
        InputError: naming the file and the place in it.
    """
    where = str(path)
    data = _read(path)
    if path.name == PROJECT_FILE:
        value = _project_table(data, where)
        if value is None:
            raise InputError(where, "has no table [tool.driftcheck]")
    else:
        value = _toml(data, where)
    return _Reader(path, data.decode("utf-8-sig")).policy(value)


def is_glob(text: str) -> bool:
    """Whether a part of a path stands for more than itself."""
    return any(sign in text for sign in "*?[")


def _folders(start: Path) -> Iterator[Path]:
    """Where to look: as far up as the repository goes."""
    above = [start, *(start.joinpath(*[os.pardir] * count) for count in range(1, len(start.resolve().parents) + 1))]
    root = next((index for index, folder in enumerate(above) if os.path.lexists(folder / ".git")), 0)
    yield from above[: root + 1]


def _read(path: Path) -> bytes:
    """The bytes of a file, which are UTF-8.

    Raises:
        InputError: when it is no file, cannot be read, is too large, or is other text.
    """
    where = str(path)
    try:
        # A pipe would keep us waiting for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "no regular file"
            raise InputError(where, f"{kind}, so it is no policy", _NO_POLICY)
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(where, f"cannot be read: {error.strerror or error}", _NO_POLICY) from error
    except ValueError as error:  # a zero byte in its name
        raise InputError(where, "is no name of a file") from error
    if len(data) > SIZE_LIMIT:
        raise InputError(where, f"larger than {SIZE_LIMIT >> 20} MB, so it is no policy", _NO_POLICY)
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(where, f"not UTF-8 text (byte {error.start})", _NO_POLICY) from error
    return data


def _project_table(data: bytes, where: str) -> Any:
    """``[tool.driftcheck]`` of a ``pyproject.toml``, or None. Most files do not name us, and are not parsed."""
    if b"driftcheck" not in data:
        return None
    tool = _toml(data, where).get("tool")
    return tool.get("driftcheck") if isinstance(tool, dict) else None


def _toml(data: bytes, where: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - only where there is a policy

    text = data.decode("utf-8-sig")
    found = _KEY_TOO_LONG.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{where}:{line}", f"a key of more than {_LONGEST_KEY} parts", _NO_POLICY)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(where, "nested too deeply, so it is no policy", _NO_POLICY) from error
    except ValueError as error:
        raise InputError(where, f"not TOML: {str(error)[:200]}", _NO_POLICY) from error


class _Reader:
    """One policy in the making: the value of its file, checked from the coarse to the fine."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._file = str(path)
        self._lines = text.split("\n")
        self._table = "tool.driftcheck." if path.name == PROJECT_FILE else ""

    def policy(self, value: Any) -> Policy:
        value = _plain(value, self._file)
        self._refuse_unknown_keys(value, validation.schema("policy"), "")
        fault = validation.fault("policy", value)
        if fault is not None:
            raise InputError(self._place_of(fault.place, value), fault.told)
        rules = value.get("rules", {})
        places = self._places_of_expectations(len(value.get("expect", ())))
        policy = Policy(
            file=self._file,
            baseline=self._baseline(value["baseline"]) if "baseline" in value else None,
            fail_on=value.get("fail-on"),
            off=frozenset(_rule(code, self._place("rules.off")) for code in rules.get("off", ())),
            impacts={
                _rule(code, self._place(f"rules.{code}")): Impact(rule["impact"])
                for code, rule in rules.items()
                if code != "off"
            },
            expect=tuple(
                _expectation(entry, place) for entry, place in zip(value.get("expect", ()), places, strict=True)
            ),
            require=tuple(_section(name, self._place("require")) for name in value.get("require", ())),
            variables=tuple(value.get("variables", ())),
            artifacts=tuple(self._beside(name) for name in value.get("artifacts", ())),
        )
        for code in sorted(policy.off & policy.impacts.keys()):
            raise InputError(self._place(f"rules.{code}"), f"{code} is off, and yet it has an impact")
        return policy

    def _baseline(self, text: str) -> str:
        """A reference. A file, and what stands behind the colon of kinds that are files, is relative to the policy."""
        if text == "-":
            raise InputError(self._place("baseline"), "standard input is no baseline for a project")
        kind, colon, name = text.partition(":")
        if text == "host" or (colon and kind in reference.KINDS and kind not in _KINDS_WITH_PATHS):
            return text
        return f"{kind}:{self._beside(name)}" if colon and kind in _KINDS_WITH_PATHS else self._beside(text)

    def _beside(self, name: str) -> str:
        return str(self._path.parent / name)

    def _refuse_unknown_keys(self, value: Any, schema: dict[str, Any], keys: str) -> None:
        if isinstance(value, list):
            for index, entry in enumerate(value):
                self._refuse_unknown_keys(entry, schema.get("items", {}), f"{keys.rstrip('.')}[{index}].")
        if not isinstance(value, dict):
            return
        known = schema.get("properties", {})
        patterns = schema.get("patternProperties", {})
        for key, entry in value.items():
            inner = known.get(key) or next((inner for text, inner in patterns.items() if re.search(text, key)), None)
            if inner is None and "additionalProperties" in schema:
                hint = _close(key, known) or (f"There are: {', '.join(known)}" if not patterns else "")
                raise InputError(self._place(f"{keys}{key}"), f"there is no key {key[:100]!r} here", hint)
            self._refuse_unknown_keys(entry, inner or {}, f"{keys}{key}.")

    def _place_of(self, parts: Sequence[str | int], value: Mapping[str, Any]) -> str:
        """The line of what a schema refuses, as far as one can be told; else the file."""
        if len(parts) > 1 and parts[0] == "expect" and isinstance(parts[1], int):
            place = self._places_of_expectations(len(value["expect"]))[parts[1]]
        else:
            keys = [str(part) for part in itertools.takewhile(lambda part: isinstance(part, str), parts)]
            place = self._place(".".join(keys)) if keys else self._file
        return place if re.search(r":\d+$", place) else self._file

    def _place(self, keys: str) -> str:
        """``driftcheck.toml:7`` where one line alone can be meant, else ``driftcheck.toml: rules.off``."""
        key = re.escape(keys.rpartition(".")[2])
        header = re.escape(f"{self._table}{keys}")
        pattern = re.compile(rf"""[ \t]*(?:["']?{key}["']?[ \t]*=|\[[ \t]*{header}[ \t]*\])""")
        lines = self._lines_that_begin(pattern)
        return f"{self._file}:{lines[0]}" if len(lines) == 1 else f"{self._file}: {keys[:200]}"

    def _places_of_expectations(self, count: int) -> list[str]:
        lines = self._lines_that_begin(re.compile(rf"[ \t]*\[\[[ \t]*{re.escape(self._table)}expect[ \t]*\]\]"))
        if len(lines) == count:
            return [f"{self._file}:{line}" for line in lines]
        # Written in another way, or quoted in some text.
        return [f"{self._file}: expect[{index}]" for index in range(count)]

    def _lines_that_begin(self, pattern: re.Pattern[str]) -> list[int]:
        return [number for number, line in enumerate(self._lines, 1) if pattern.match(line)]


def _expectation(entry: dict[str, Any], place: str) -> Expectation:
    if "path" not in entry and "rule" not in entry:
        raise InputError(place, "an expectation needs a path or a rule")
    return Expectation(
        where=place,
        reason=entry["reason"],
        path=_pattern(entry["path"], place) if "path" in entry else None,
        rule=_rule(entry["rule"], place) if "rule" in entry else None,
        subject=entry.get("subject"),
        target=entry.get("target"),
        expires=_day(entry["expires"], place) if "expires" in entry else None,
    )


def _pattern(path: str | Sequence[str], place: str) -> tuple[str, ...]:
    parts = tuple(path.split(".") if isinstance(path, str) else path)
    if "" in parts:
        raise InputError(place, "a path with an empty part", 'Keys that hold dots: path = ["section", "key.with.dots"]')
    if "**" in parts:
        raise InputError(place, "** has no meaning in a path", "A path covers all below it; * stands for one key")
    if not is_glob(parts[0]):
        _section(parts[0], place)
    return parts


def _section(name: str, place: str) -> str:
    known = validation.sections()
    if name not in known:
        hint = _close(name, known) or f"There are: {', '.join(known)}"
        raise InputError(place, f"there is no section {name[:100]!r}", hint)
    return name


def _rule(code: str, place: str) -> str:
    from driftcheck.rules import all_rules  # noqa: PLC0415 - only where a policy speaks of rules

    codes = {rule.name: rule.code for rule in all_rules()}
    if code in codes:
        raise InputError(place, f"rules go by their codes here: {code} is {codes[code]}")
    if code not in codes.values():
        hint = _close(code, codes.values()) or "`driftcheck rule` lists them"
        raise InputError(place, f"there is no rule {code[:100]!r}", hint)
    return code


def _day(text: str, place: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(place, f"expires = {text}: there is no such day") from error


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """The value as JSON has it: dates and times as text."""
    if depth > _DEPTH_LIMIT:
        raise InputError(where, "nested too deeply, so it is no policy", _NO_POLICY)
    if isinstance(value, dict):
        return {key: _plain(entry, where, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry, where, depth + 1) for entry in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _close(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - only where something is wrong

    found = difflib.get_close_matches(name[:100], list(known), n=1)
    return f"Did you mean {found[0]!r}?" if found else ""
