"""Reading snapshot files: what is refused, in which words, and what is kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes.common import digest as digest_of
from support.commands import driftcheck

from driftcheck import snapshot
from driftcheck.errors import InputError


def document(**sections: dict[str, Any]) -> dict[str, Any]:
    """A small valid snapshot."""
    return {
        "schema_version": 0,
        "header": {
            "label": "test",
            "created": "2026-01-01T00:00:00Z",
            "tool": {"name": "driftcheck", "version": "0"},
            "reference": "host",
            "channel": "subprocess",
            "interpreter": {
                "path": "/usr/bin/python3",
                "version": "3.11.2",
                "reason": "test",
                "working_directory": "/",
            },
        },
        "sections": {
            name: {
                "layer": "image",
                "status": "ok",
                "reason": None,
                "problems": [],
                "facts": facts,
                "digest": digest_of(facts),
            }
            for name, facts in sections.items()
        },
    }


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def newer() -> bytes:
    return encoded({**document(), "schema_version": 99})


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "no JSON": (lambda: b"hello", r"not JSON at line 1, column 1"),
    "no JSON, later": (lambda: b'{"a": 1,\n "b": oops}', r"not JSON at line 2, column 7"),
    "truncated": (
        lambda: encoded(document(variables={"variables": {"A": {}}}))[:-30],
        "JSON that is cut off at line 1",
    ),
    "truncated in a string": (lambda: b'{"schema_version": "abc', "JSON that is cut off"),
    "no snapshot": (lambda: b'{"numpy": "2.1.0"}', "JSON, but not a snapshot"),
    "a report": (lambda: b'{"kind": "report", "schema_version": 0}', "a saved report, and not a snapshot. A report is"),
    "a list": (lambda: b"[1, 2]", "JSON, but not a snapshot"),
    "a newer one": (newer, r"written by a newer driftcheck \(schema version 99"),
    "a version that is no number": (lambda: encoded({**document(), "schema_version": "x"}), "is no number"),
    "UTF-16": (lambda: json.dumps(document()).encode("utf-16"), "UTF-16 or UTF-32 text instead of UTF-8"),
    "UTF-16 without a mark": (lambda: json.dumps(document()).encode("utf-16-le"), "UTF-16 or UTF-32 text"),
    "a program": (
        lambda: b"\x7fELF\x02\x01\x01" + bytes(200),
        "a program, not a snapshot. For an interpreter: python:PATH",
    ),
    "a script": (lambda: b"#!/bin/sh\n", "a program, not a snapshot"),
    "a compressed archive": (lambda: b"\x1f\x8b\x08" + bytes(20), "an archive, not a snapshot. For a saved image"),
    "an archive": (lambda: b"blobs/" + bytes(251) + b"ustar" + bytes(255), "an archive, not a snapshot"),
    "no text": (lambda: b'{"a": "\xff"}', r"not UTF-8 text \(byte 7\)"),
    "nested": (lambda: b"[" * 100_000, "nested deeper than 64 levels"),
    "nested objects": (lambda: b'{"a":' * 100_000, "nested deeper than 64 levels"),
    "a constant": (lambda: b'{"schema_version": NaN}', "NaN is no JSON number"),
    "a huge number": (lambda: b'{"schema_version": ' + b"9" * 100_000 + b"}", "number of more than 4300 digits"),
    "a huge number in a text": (
        lambda: encoded(document(variables={"variables": {"A": {"value": "1." + "9" * 4301}}})),
        "number of more than 4300 digits",
    ),
    "a wrong fact": (
        lambda: encoded(document(python={"bits": "<script>"})),
        r"not a valid snapshot: at sections\.python\.facts\.bits",
    ),
    "an unknown fact": (lambda: encoded(document(limits={"surprise": 1})), r"at sections\.limits\.facts"),
    "a key twice": (
        lambda: encoded(document(variables={"variables": {"A": {}}})).replace(b'"A"', b'"\\u0041": {},\n"A"'),
        r"line 2 repeats the key 'A' of sections\.variables\.facts\.variables\. Remove one",
    ),
    "a key twice at the top": (
        lambda: encoded(document()).replace(b"{", b'{"sections": {"a": [{"b": "}"}]},', 1),
        "line 1 repeats the key 'sections' of the document",
    ),
    "half of a surrogate pair": (
        lambda: encoded(document(variables={"variables": {"\ud800": {}}})).replace(b'"reference"', b'\n"reference"'),
        r"line 2 holds \\ud800, half of a surrogate pair",
    ),
    "the other half": (
        lambda: encoded(document(variables={"variables": {"A": {"value": "\udcff"}}})),
        r"line 1 holds \\udcff, half of a surrogate pair",
    ),
    "an unknown section": (lambda: encoded(document(surprise={})), r"not a valid snapshot: at sections"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_snapshot_is_refused_in_one_line(tmp_path: Path, data: Callable[[], bytes], message: str) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(data())
    with pytest.raises(InputError, match=message) as caught:
        snapshot.load(str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["diff", "check", "report", "snapshot"])
@pytest.mark.parametrize(
    "kind", ["no JSON", "a newer one", "UTF-16", "truncated", "nested", "a wrong fact", "a key twice"]
)
def test_every_command_refuses_it_with_exit_code_2(tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(BAD[kind][0]())
    result = driftcheck(command, path, *([path] if command == "diff" else []))
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(f"Error: {path}: ")
    assert result.err.count("\n") == 1


def test_two_hundred_megabytes_of_nesting_are_refused_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"[" * (1 << 20))
    with pytest.raises(InputError, match="larger than 64 MB"):
        snapshot.load(str(path))


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    assert "a directory, not a snapshot file" in driftcheck("check", tmp_path).err
    assert "no such file" in driftcheck("check", tmp_path / "none.json").err


def test_a_mark_at_the_beginning_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(b"\xef\xbb\xbf" + encoded(document()))
    assert snapshot.load(str(path)).label == "test"


@pytest.mark.parametrize("text", ["\N{SNAKE}", "\\ud800", "\N{SNAKE}\\udc0d"])
def test_whole_pairs_and_what_only_looks_like_a_half_are_text(text: str) -> None:
    given = document(variables={"variables": {"A": {"value": text}}})
    assert snapshot.parse(encoded(given), "given.json").facts("variables") == {"variables": {"A": {"value": text}}}


def test_a_digest_is_not_believed() -> None:
    """Equal digests end a comparison: a forged one would hide every difference."""
    given = document(variables={"variables": {"TZ": {"value": "UTC"}}})
    given["sections"]["variables"]["facts"]["variables"]["TZ"]["value"] = "CET"
    read = snapshot.parse(encoded(given), "given.json")
    assert read.warnings == ("given.json: section variables was changed after it was measured (its digest differs)",)
    assert read.sections["variables"].digest == digest_of(read.facts("variables"))


def test_secrets_in_a_file_are_hidden_when_it_is_read() -> None:
    token = "ghp_" + "a1B2" * 9
    given = document(variables={"variables": {"PATH": {"value": f"https://user:{token}@host/x:/home/jane/bin"}}})
    text = snapshot.parse(encoded(given), "given.json").text()
    assert token not in text
    assert "jane" not in text


def test_standard_input_is_a_reference() -> None:
    result = driftcheck("check", "-", stdin=encoded(document()))
    assert result.code == 0, result.err
    assert "read only once" in driftcheck("diff", "-", "-").err


def test_an_interpreter_that_does_not_exist(tmp_path: Path) -> None:
    missing = driftcheck("snapshot", f"python:{tmp_path}/none/bin/python")
    assert (missing.code, missing.out) == (2, "")
    assert missing.err == f"Error: {tmp_path}/none/bin/python: no such interpreter\n"
    (tmp_path / "python").symlink_to(tmp_path / "gone")
    assert "a link to an interpreter that is not there" in driftcheck("snapshot", f"python:{tmp_path}/python").err
    assert "no such program on PATH" in driftcheck("snapshot", "python:python9.99").err
    assert "no path behind python:" in driftcheck("snapshot", "python:").err
    assert "no kind of reference called 'imag'" in driftcheck("snapshot", "imag:x").err
    assert "Give one of them" in driftcheck("snapshot", f"python:{sys.executable}", "--python", "x").err
