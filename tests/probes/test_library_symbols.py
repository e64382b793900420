"""Which symbols nothing offers: the same, whether single names are looked up or a file is read whole."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import common, elf, elf_symbols, library_symbols
from driftcheck.probes.loader import Library

_spec = importlib.util.spec_from_file_location("assemble", Path(__file__).parent / "elf_fixtures" / "assemble.py")
assert _spec is not None
assert _spec.loader is not None
assembler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(assembler)

EXPORTS = 2000


def library(path: Path, **parts: Any) -> Library:
    path.write_bytes(assembler.native(**parts))
    status = path.stat()
    made = Library(str(path), (status.st_dev, status.st_ino))
    made.elf = elf.read(str(path))
    return made


def needing(*names: str) -> dict[str, Any]:
    return {"needs": tuple((name, "", "", False) for name in names)}


@pytest.fixture
def large(tmp_path: Path) -> Library:
    return library(tmp_path / "liblarge.so", defines=tuple((f"large_{number}", "") for number in range(EXPORTS)))


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_single_look_ups_and_reading_it_all_agree(
    tmp_path: Path, large: Library, monkeypatch: pytest.MonkeyPatch, limit: int, kept: int
) -> None:
    monkeypatch.setattr(library_symbols, "LARGE", limit)
    monkeypatch.setattr(library_symbols, "KEPT", kept)
    table = library_symbols.SymbolTable(common.Place(), musl=False)
    asking = [
        library(tmp_path / "few.so", **needing("large_7", "large_1999", "large_2000")),
        library(tmp_path / "others.so", **needing("large_7", "large_8", "nowhere")),
        library(tmp_path / "many.so", **needing("gone", *(f"large_{number}" for number in range(1000)))),
    ]
    for one in asking:
        assert not table.read(one, None)
    table.close([])
    missing = [table.missing(table.needs[one.identity], [large]) for one in asking]
    assert missing == [{b"large_2000"}, {b"nowhere"}, {b"gone"}]


def test_a_large_library_is_read_once_for_few_names_and_whole_for_many(
    tmp_path: Path, large: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(name: str) -> None:
        original = getattr(elf_symbols, name)

        def call(*given: Any) -> Any:
            calls.append(name)
            return original(*given)

        monkeypatch.setattr(elf_symbols, name, call)

    counted("Lookup")
    counted("offers")
    monkeypatch.setattr(library_symbols, "LARGE", 0)
    table = library_symbols.SymbolTable(common.Place(), musl=False)
    many = library(tmp_path / "many.so", **needing(*(f"large_{number}" for number in range(EXPORTS))))
    table.read(many, None)
    table.close([])
    keys = sorted(table.needs[many.identity])
    assert not table.missing(frozenset(keys[:2]), [large])
    assert not table.missing(frozenset(keys[2:4]), [large])
    assert calls == ["Lookup"]
    assert not table.missing(frozenset(keys), [large])
    assert not table.missing(frozenset(keys[:1]), [large])
    assert calls == ["Lookup", "offers"]


def test_what_the_program_defines_is_beyond_nobody(tmp_path: Path) -> None:
    program = library(tmp_path / "program.so", defines=(("Py_Initialize", ""),))
    module = library(tmp_path / "module.so", **needing("Py_Initialize", "elsewhere"))
    table = library_symbols.SymbolTable(common.Place(), musl=False)
    for one in (program, module):
        table.read(one, None)
    table.close([program])
    assert table.beyond_program(module) == {b"elsewhere"}
