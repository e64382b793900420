"""The ELF reader: files of every class and byte order, real ones against pyelftools, mutated ones."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import random
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import elf, elf_symbols
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).with_name("elf_fixtures")
_spec = importlib.util.spec_from_file_location("assemble", FIXTURES / "assemble.py")
assert _spec is not None
assert _spec.loader is not None
assembler = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(assembler)

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the ELF files of a Linux system")


def _read(path: Path) -> elf.Elf | str:
    """The file, or why it cannot be read."""
    try:
        file = elf.read(str(path))
    except elf.ElfError as error:
        return error.reason
    assert file is not None
    return file


def real_files() -> list[str]:
    """The interpreter and its extension modules, and every library that this process has mapped."""
    found = {os.path.realpath(sys.executable)}
    modules = Path(sysconfig.get_path("platstdlib"), "lib-dynload")
    found.update(str(path) for path in modules.glob("*.so"))
    found.update(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line)
    return sorted(path for path in found if Path(path).is_file())


def test_the_files_are_what_the_script_makes() -> None:
    for name, shape in assembler.FIXTURES.items():
        assert (FIXTURES / name).read_bytes() == assembler.assemble(**{**assembler.CONTENT, **shape})


@pytest.mark.parametrize("name", sorted(assembler.FIXTURES))
def test_reads_every_class_and_byte_order(name: str) -> None:
    shape = assembler.FIXTURES[name]
    file = elf.read(str(FIXTURES / name))
    assert file is not None
    assert (file.bits, file.little, file.machine) == (shape["bits"], shape["little"], shape["machine"])
    assert file.needed == ["libfirst.so.1", "libc.so.6"]
    assert (file.soname, file.runpath, file.rpath) == ("libfixture.so.3", "$ORIGIN/../lib", None)
    assert file.required == {
        "libfirst.so.1": {"FIRST_2": False},
        "libc.so.6": {"GLIBC_2.17": False, "GLIBC_2.99": True},
    }
    assert file.offered == ["FIXTURE_2", "FIXTURE_1"]
    assert file.executable_stack is True
    assert file.static_tls is True
    undefined, defined = elf_symbols.listing(file)
    assert undefined == [
        ("first_call", "FIRST_2", "libfirst.so.1", False),
        ("malloc", "GLIBC_2.17", "libc.so.6", False),
        ("maybe", "", "", True),
    ]
    assert defined == [
        ("fixture_new", "FIXTURE_2", False),
        ("fixture_old", "FIXTURE_1", True),
        ("fixture_plain", "", False),
    ]


def test_keys_follow_the_rules_of_the_loader() -> None:
    file = elf.read(str(FIXTURES / "little-endian-64.so"))
    assert file is not None
    wanted = elf_symbols.needs(file, b"fixture_new")
    # Not "maybe", which is weak.
    assert wanted.needs == {b"first_call@FIRST_2", b"malloc@GLIBC_2.17"}
    assert wanted.defines
    assert not elf_symbols.needs(file, b"malloc").defines
    offered = elf_symbols.offers(file)
    # A hidden (old) version answers only a need for that very version.
    assert offered.offers == {
        b"fixture_new", b"fixture_new@FIXTURE_2", b"fixture_old@FIXTURE_1", b"fixture_plain",
    }  # fmt: skip
    assert offered.base == {b"fixture_plain"}
    some = elf_symbols.offers(file, frozenset([b"fixture_old", b"fixture_old@FIXTURE_1", b"else"]))
    assert some.offers == {b"fixture_old@FIXTURE_1"}


def test_relocations_give_the_order_and_leave_out_what_nothing_asks_for(tmp_path: Path) -> None:
    asked = (("second", "", "", False), ("first", "", "", False))
    for name in ("with", "without"):
        for bits, little, machine in ((64, True, 62), (32, False, 20)):
            path = tmp_path / name
            path.write_bytes(
                assembler.assemble(bits=bits, little=little, machine=machine, needs=asked, relocate=name == "with")
            )
            file = elf.read(str(path))
            assert file is not None
            expected = [b"second", b"first"] if name == "with" else []
            assert elf_symbols.referenced(file, {b"first", b"second", b"third"}) == expected


def test_a_file_that_exports_nothing_still_has_its_needs(tmp_path: Path) -> None:
    for hashes in ("gnu", "sysv", "both"):
        path = tmp_path / hashes
        path.write_bytes(assembler.assemble(needs=(("missing", "", "", False),), hashes=hashes))
        file = elf.read(str(path))
        assert file is not None
        assert elf_symbols.needs(file).needs == {b"missing"}


@linux
def test_headers_agree_with_pyelftools() -> None:
    compared = 0
    for path in real_files():
        ours = elf.read(path)
        assert ours is not None, path
        with Path(path).open("rb") as stream:
            theirs = ELFFile(stream)
            assert ours.bits == theirs.elfclass
            assert ours.machine == theirs.header.e_machine or isinstance(theirs.header.e_machine, str)
            dynamic = next(s for s in theirs.iter_segments() if isinstance(s, DynamicSegment))
            tags: list[tuple[str, Any]] = [(tag.entry.d_tag, tag) for tag in dynamic.iter_tags()]
            assert ours.needed == [tag.needed for name, tag in tags if name == "DT_NEEDED"]
            assert ours.soname == next((tag.soname for name, tag in tags if name == "DT_SONAME"), None)
            assert ours.runpath == next((tag.runpath for name, tag in tags if name == "DT_RUNPATH"), None)
            required: dict[str, dict[str, bool]] = {}
            offered: list[str] = []
            for section in theirs.iter_sections():
                if isinstance(section, GNUVerNeedSection):
                    for need, items in section.iter_versions():
                        table = required.setdefault(str(need.name), {})
                        table.update({item.name: bool(item.entry.vna_flags & 2) for item in items})
                if isinstance(section, GNUVerDefSection):
                    for entry, items in section.iter_versions():
                        if not entry.entry.vd_flags & 1:
                            offered.append(next(items).name)
            assert ours.required == required, path
            assert ours.offered == offered, path
            stack = next((s for s in theirs.iter_segments() if s["p_type"] == "PT_GNU_STACK"), None)
            assert ours.executable_stack == (None if stack is None else bool(stack["p_flags"] & 1))
            compared += 1
    assert compared >= 5


@linux
def test_symbols_agree_with_pyelftools() -> None:
    compared = 0
    # The largest take pyelftools seconds; every kind of file is among the rest.
    for path in [path for path in real_files() if Path(path).stat().st_size < 700_000][:40]:
        ours = elf.read(path)
        assert ours is not None
        undefined, defined = elf_symbols.listing(ours)
        with Path(path).open("rb") as stream:
            theirs = ELFFile(stream)
            symbols = theirs.get_section_by_name(".dynsym")
            versions = next((s for s in theirs.iter_sections() if isinstance(s, GNUVerSymSection)), None)
            assert isinstance(symbols, SymbolTableSection)
            asked, given_ = set(), set()
            for number, symbol in enumerate(symbols.iter_symbols()):
                bind = symbol["st_info"]["bind"]
                if bind == "STB_LOCAL":
                    continue
                if symbol["st_shndx"] == "SHN_UNDEF":
                    asked.add((symbol.name, bind == "STB_WEAK"))
                elif symbol["st_other"]["visibility"] not in ("STV_HIDDEN", "STV_INTERNAL"):
                    hidden = False
                    if versions is not None:
                        index = versions.get_symbol(number)["ndx"]
                        hidden = isinstance(index, int) and index >= 0x8000
                    given_.add((symbol.name, hidden))
            assert {(name, weak) for name, _, _, weak in undefined} == asked, path
            assert {(name, hidden) for name, _, hidden in defined} == given_, path
            compared += len(asked) + len(given_)
    assert compared > 500


@linux
def test_the_look_up_by_hash_agrees_with_reading_every_symbol() -> None:
    compared = 0
    for path in real_files():
        file = elf.read(path)
        assert file is not None
        if not elf_symbols.exports(file):
            continue
        every = elf_symbols.offers(file).offers
        asked = set(sorted(every)[::3]) | elf_symbols.needs(file).needs | {b"", b"nowhere", b"x" * 5000}
        assert elf_symbols.Lookup(file).among(asked) == asked & every
        compared += len(asked)
    assert compared > 100


@linux
def test_assembled_files_are_accepted_by_the_real_loader(tmp_path: Path) -> None:
    path = tmp_path / "good.so"
    path.write_bytes(assembler.native(defines=(("answer", "V_1"),), soname="libgood.so"))
    assert ctypes.CDLL(str(path)).answer
    path = tmp_path / "bad.so"
    path.write_bytes(assembler.native(needs=(("nobody_has_this", "", "", False),)))
    with pytest.raises(OSError, match="undefined symbol: nobody_has_this"):
        ctypes.CDLL(str(path), mode=os.RTLD_NOW)


def test_what_is_no_elf_file_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.so"
    for content in (b"GROUP ( /lib/libc.so.6 )", b"MZ\x90\0" * 100, b"\x7fEL", b"#"):
        path.write_bytes(content)
        assert elf.read(str(path)) is None
    for content in (b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(elf.ElfError, match="file too short"):
            elf.read(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no FIFO")
def test_no_fifo_device_directory_or_missing_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.so")
    for path in (tmp_path / "x.so", Path("/dev/zero"), tmp_path):
        with pytest.raises(elf.ElfError, match="not a regular file"):
            elf.read(str(path))
    with pytest.raises(elf.ElfError, match="No such file"):
        elf.read(str(tmp_path / "none"))
    with pytest.raises(elf.ElfError):
        elf.read("nul\0byte")


def test_a_file_cut_at_any_length_is_an_error_or_says_what_is_missing(tmp_path: Path) -> None:
    whole = (FIXTURES / "big-endian-64.so").read_bytes()
    path = tmp_path / "cut.so"
    for length in range(60, len(whole)):
        path.write_bytes(whole[:length])
        file = _read(path)
        assert isinstance(file, str) or file.cut_bytes == len(whole) - length
    path.write_bytes(whole)
    file = elf.read(str(path))
    assert file is not None
    assert file.cut_bytes == 0


def _patched(name: str, tag: int, value: int) -> bytes:
    """A fixture in which one entry of the dynamic section has another value."""
    data = bytearray((FIXTURES / name).read_bytes())
    needle = tag.to_bytes(8, "little")
    at = data.rindex(needle)
    data[at + 8 : at + 16] = value.to_bytes(8, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        (5, 1 << 60, "string table at an address that no segment holds"),
        (10, 1 << 40, "string table beyond the end"),
        (10, 3, "name beyond the end of the string table"),
        (0x6FFFFFFE, 1 << 40, "version needs at an address"),
        (0x6FFFFFFC, 0x10, "version definitions of an unknown version"),
    ],
)
def test_absurd_offsets_are_named(tmp_path: Path, tag: int, value: int, reason: str) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(_patched("little-endian-64.so", tag, value))
    with pytest.raises(elf.ElfError, match=reason):
        elf.read(str(path))


@pytest.mark.parametrize("step", [0, 1, 0xFFFFFFF0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_version_chains_that_loop_or_run_away_end(tmp_path: Path, step: int) -> None:
    data = bytearray((FIXTURES / "little-endian-64.so").read_bytes())
    file = elf.read(str(FIXTURES / "little-endian-64.so"))
    assert file is not None
    at = file._dynamic[0x6FFFFFFE]
    data[at + 2 : at + 4] = b"\xff\xff"  # vn_cnt
    data[at + 12 : at + 16] = step.to_bytes(4, "little")  # vn_next
    data[at + 28 : at + 32] = step.to_bytes(4, "little")  # vna_next
    path = tmp_path / "x.so"
    path.write_bytes(bytes(data))
    result = _read(path)
    # A step of 0 is the regular end of a chain.
    assert step or not isinstance(result, str)


def test_absurd_symbol_counts_are_refused(tmp_path: Path) -> None:
    data = bytearray((FIXTURES / "big-endian-32.so").read_bytes())
    file = elf.read(str(FIXTURES / "big-endian-32.so"))
    assert file is not None
    at = file._dynamic[4]
    data[at + 4 : at + 8] = b"\xff\xff\xff\xf0"  # nchain
    path = tmp_path / "x.so"
    path.write_bytes(bytes(data))
    file = elf.read(str(path))
    assert file is not None
    with pytest.raises(elf.ElfError, match="4294967280 symbols"):
        elf_symbols.needs(file)


def test_constants_are_searched_across_the_seams_of_the_pieces(tmp_path: Path) -> None:
    text = b"numpy.core._multiarray_umath"
    for before in (0, (1 << 20) - 14, (1 << 20) - 1200, 3 << 20):
        path = tmp_path / "x.so"
        path.write_bytes(assembler.assemble(constants=bytes(before) + text + bytes(100)))
        file = elf.read(str(path))
        assert file is not None
        assert elf.find_in_constants(file, [text, b"numpy._core"]) == {text}


def _read_everything(path: str) -> None:
    with contextlib.suppress(elf.ElfError):
        file = elf.read(path)
        if file is None:
            return
        wanted = elf_symbols.needs(file, b"PyInit_x")
        elf_symbols.offers(file)
        elf_symbols.listing(file)
        elf_symbols.referenced(file, wanted.needs)
        if elf_symbols.exports(file):
            elf_symbols.Lookup(file).among(wanted.needs | {b"PyInit_x"})
        elf.find_in_constants(file, [b"numpy"])


_SEEDS = sorted(path for path in FIXTURES.glob("*.so"))


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(_SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 1400), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    length=st.one_of(st.none(), st.integers(0, 1400)),
)
def test_mutated_fixtures_raise_nothing_else(
    tmp_path: Path, seed: Path, edits: list[tuple[int, bytes]], length: int | None
) -> None:
    data = bytearray(seed.read_bytes())
    for at, value in edits:
        data[at : at + len(value)] = value
    path = tmp_path / "mutated.so"
    path.write_bytes(bytes(data[:length]))
    _read_everything(str(path))


@linux
@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_mutated_real_files_raise_nothing_else(tmp_path: Path, seed: int, share: float) -> None:
    chosen = random.Random(seed)
    small = [path for path in real_files() if Path(path).stat().st_size < 120_000]
    source = chosen.choice(small)
    data = bytearray(Path(source).read_bytes())
    good = elf.read(source)
    assert good is not None
    # Most of a file is code: aim at the headers, the tables and the dynamic section.
    for _ in range(chosen.randint(1, 12)):
        at = chosen.choice([chosen.randrange(64), chosen.randrange(min(0x800, len(data))), chosen.randrange(len(data))])
        data[at] = chosen.choice([0, 1, 0x7F, 0x80, 0xFF, chosen.randrange(256)])
    if share < 0.2:
        del data[int(len(data) * share * 5) :]
    path = tmp_path / "mutated.so"
    path.write_bytes(bytes(data))
    _read_everything(str(path))
