"""Fat binaries: what nvcc made and cuobjdump said of it, and what a hostile file holds instead."""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from pathlib import Path

import pytest
from driftcheck.probes import fatbin
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parent / "fatbin_fixtures"
EXPECTED: dict[str, list[str]] = json.loads((FOLDER / "expected.json").read_text())


def read(path: Path) -> fatbin.Device:
    device = fatbin.read(str(path))
    assert device is not None
    return device


def names(device: fatbin.Device) -> Counter[str]:
    return Counter(entry.name for container in device.containers for entry in container)


def as_cuobjdump(device: fatbin.Device) -> Counter[str]:
    """It prints family-specific machine code without the suffix (sm_100), family-specific PTX with it."""
    return Counter(
        name[:-1] if name.startswith("sm_") and name.endswith("f") else name for name in names(device).elements()
    )


def entry(
    kind: int, number: int, *, flags: int = 0x11, size: int = 8, header: int = 64, isa: tuple[int, int] = (0, 9)
) -> bytes:
    """``isa``: minor and major, as they stand in the file."""
    head = struct.pack("<HHIQIIHHIIIQQQ", kind, 0x101, header, size, 0, 0, *isa, number, 0, 0, flags, 0, 0)
    return head + b"\0" * max(0, header - 64) + b"\xee" * min(size, 1 << 12)


def container(*entries: bytes, body: int | None = None, header: int = 16) -> bytes:
    content = b"".join(entries)
    return struct.pack("<IHHQ", fatbin.MAGIC, 1, header, len(content) if body is None else body) + content


def library(path: Path, content: bytes, *, section: str | None = ".nv_fatbin", length: int | None = None) -> Path:
    """An ELF file that holds nothing else: one loaded segment, and section headers where a section is named."""
    length = len(content) if length is None else length
    start = 64 + 56
    names = b"\0" + (section or "").encode() + b"\0.shstrtab\0"
    data = content + b"\0" * (-len(content) % 8) + names
    table = start + len(data)
    headers = b""
    if section is not None:
        strings = start + len(data) - len(names)
        headers = bytes(64)
        headers += struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, start, length, 0, 0, 8, 0)
        headers += struct.pack("<IIQQQQIIQQ", len(names) - 10, 3, 0, 0, strings, len(names), 0, 0, 1, 0)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, table if headers else 0, 0, 64, 56, 1, 64, 3, 2)
    if not headers:
        head = head[:60] + struct.pack("<HH", 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 4, start, 0, 0, len(content), len(content), 4096)
    path.write_bytes(head + segment + data + headers)
    return path


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_agrees_with_cuobjdump(name: str) -> None:
    device = read(FOLDER / name)
    assert as_cuobjdump(device) == Counter(EXPECTED[name])
    assert device.problems == []


def test_lists_differ_from_container_to_container() -> None:
    device = read(FOLDER / "differing.so")
    assert device.sets() == {"sm_80": 1, "sm_90 compute_90": 1}
    assert device.names() == ["sm_80", "sm_90", "compute_90"]


def test_suffixes_of_machine_code_and_of_ptx() -> None:
    assert read(FOLDER / "suffixes.so").names() == ["sm_90a", "sm_100f", "sm_120", "compute_103a", "compute_120f"]


def test_ptx_states_the_version_that_a_driver_must_know() -> None:
    """nvcc 13.0 writes PTX 9.0 (PTX ISA, release history)."""
    assert read(FOLDER / "only_ptx.so").ptx_versions() == {"compute_75": (9, 0)}
    assert read(FOLDER / "relocatable.so").ptx_versions() == {}


def test_compressed_or_not_the_header_reads_the_same() -> None:
    ptx = {name: read(FOLDER / name).containers[0][0] for name in ("both.so", "uncompressed.so")}
    assert {name: (one.kind, one.compressed) for name, one in ptx.items()} == {
        "both.so": ("ptx", True),
        "uncompressed.so": ("ptx", False),
    }


def test_what_a_device_linker_needs_counts_only_where_nothing_was_linked() -> None:
    assert read(FOLDER / "relocatable.so").source == "relocatable"
    assert read(FOLDER / "both.so").source == "executable"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_without_section_headers_the_segments_are_searched(name: str, tmp_path: Path) -> None:
    data = bytearray((FOLDER / name).read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)
    (tmp_path / "x.so").write_bytes(data)
    device = read(tmp_path / "x.so")
    assert device.source == "scan"
    assert device.sets() == read(FOLDER / name).sets()


@pytest.mark.parametrize("name", ["both.so", "differing.so"])
def test_a_file_cut_anywhere_gives_less_and_says_so(name: str, tmp_path: Path) -> None:
    data = (FOLDER / name).read_bytes()
    whole = names(read(FOLDER / name))
    file = tmp_path / "x.so"
    for length in range(0, len(data), 97):
        file.write_bytes(data[:length])
        device = fatbin.read(str(file))
        # Section headers stand at the end: what is cut has none, and is searched.
        assert device is None or not names(device) - whole


def test_a_section_beyond_the_end_of_the_file(tmp_path: Path) -> None:
    file = library(tmp_path / "x.so", container(entry(2, 90)), length=1 << 40)
    device = read(file)
    assert device.names() == ["sm_90"]
    assert device.problems[0] == "device code beyond the end of the file"


@pytest.mark.parametrize(
    ("content", "found", "problem"),
    [
        (container(entry(2, 80), entry(2, 90, size=1 << 40)), [], "an entry that reaches beyond its container"),
        (container(entry(2, 80), b"\x02\x00"), ["sm_80"], "an entry that is cut"),
        (container(entry(2, 80), bytes(64)), ["sm_80"], "an entry whose header has 0 bytes"),
        (container(entry(2, 80, header=8)), [], "an entry whose header has 8 bytes"),
        (container(entry(2, 80), body=1 << 62), ["sm_80"], "a container that reaches beyond its section"),
        (container(entry(2, 80), header=0), [], "a container whose header has 0 bytes"),
        (container(entry(2, 4000000)), [], "an entry for the unknown architecture 4000000"),
        (container(*[entry(2, 80)] * 300), ["sm_80"], "a container with more than 256 entries"),
        (container(entry(2, 80)) + b"\xff" * 64, ["sm_80"], "bytes that are no container"),
    ],
)
def test_sizes_that_lie(content: bytes, found: list[str], problem: str, tmp_path: Path) -> None:
    device = read(library(tmp_path / "x.so", content))
    assert problem in device.problems
    assert set(found) <= set(device.names())


def test_containers_of_no_size_end(tmp_path: Path) -> None:
    device = read(library(tmp_path / "x.so", container() * 1000))
    assert len(device.containers) == 1000
    assert device.names() == []


def test_too_many_containers_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "CONTAINER_LIMIT", 10)
    device = read(library(tmp_path / "x.so", container(entry(2, 80)) * 20))
    assert len(device.containers) == 10
    assert device.problems == ["more than 10 containers; the rest was not read"]


def test_padding_between_containers(tmp_path: Path) -> None:
    content = container(entry(2, 80)) + bytes(4096) + container(entry(2, 90)) + bytes(64)
    device = read(library(tmp_path / "x.so", content))
    assert device.sets() == {"sm_80": 1, "sm_90": 1}
    assert device.problems == []


def test_kinds_that_no_driver_runs_are_no_code(tmp_path: Path) -> None:
    content = container(entry(8, 90), entry(64, 90), entry(16, 100, flags=0x100011), entry(1, 90, isa=(7, 8)))
    device = read(library(tmp_path / "x.so", content))
    assert device.sets() == {"sm_100a compute_90": 1}
    assert device.ptx_versions() == {"compute_90": (8, 7)}


def test_magic_numbers_in_other_data_are_passed_over(tmp_path: Path) -> None:
    magic = struct.pack("<I", fatbin.MAGIC)
    content = b"abcd" + magic + b"\xff" * 60 + magic + container(entry(2, 90)) + magic
    content += b"\0" * (-len(content) % 8) + container(entry(1, 90))
    device = read(library(tmp_path / "x.so", content, section=None))
    assert device.names() == ["sm_90", "compute_90"]


def test_the_search_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "SCAN_LIMIT", 1 << 16)
    content = bytes(1 << 17) + container(entry(2, 90))
    device = read(library(tmp_path / "x.so", content, section=None))
    assert device.names() == []
    assert device.problems == ["no section headers, and more than was looked through"]


def test_a_library_of_a_gigabyte_is_not_read_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = library(tmp_path / "x.so", b"", length=1 << 30)
    size = (1 << 20) - 16
    with file.open("r+b") as handle:
        content = handle.read()
        for number in range(1024):
            handle.seek(120 + (number << 20))
            handle.write(container(entry(2, 90, size=0), entry(2, 100, size=size - 128)[:64], body=size))
        # The section headers, which stood where the code is now.
        handle.seek(120 + (1 << 30))
        handle.write(content[120:])
        handle.seek(40)
        handle.write(struct.pack("<Q", struct.unpack_from("<Q", content, 40)[0] + (1 << 30)))
        headers = struct.unpack_from("<Q", content, 40)[0] + (1 << 30)
        handle.seek(headers + 128 + 24)
        handle.write(struct.pack("<Q", struct.unpack_from("<Q", content, headers - (1 << 30) + 152)[0] + (1 << 30)))
    reads: list[int] = []
    pread = os.pread

    def counted(handle: int, length: int, offset: int) -> bytes:
        data = pread(handle, length, offset)
        reads.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    device = read(file)
    assert device.sets() == {"sm_90 sm_100": 1024}
    assert device.problems == []
    assert sum(reads) < 1 << 20


def test_what_carries_no_device_code(tmp_path: Path) -> None:
    assert fatbin.read(str(library(tmp_path / "x.so", b"data", section=".rodata"))) is None
    assert fatbin.read(str(library(tmp_path / "x.so", b"data" * 100, section=None))) is None
    (tmp_path / "text").write_text("no library")
    assert fatbin.read(str(tmp_path / "text")) is None
    (tmp_path / "empty").write_bytes(b"")
    assert fatbin.read(str(tmp_path / "empty")) is None


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(fatbin.FatbinError, match="No such file"):
        fatbin.read(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(fatbin.FatbinError, match="not a regular file"):
        fatbin.read(str(tmp_path / "fifo"))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_survived(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray((FOLDER / data.draw(st.sampled_from(sorted(EXPECTED)))).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.one_of(st.integers(0, 63), st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    start = content.find(struct.pack("<I", fatbin.MAGIC))
    if start >= 0:
        for _ in range(data.draw(st.integers(0, 8))):
            at = min(len(content) - 1, start + data.draw(st.integers(4, 200)))
            content[at] = data.draw(st.sampled_from([0, 1, 8, 0x7F, 0x80, 0xFF]))
    file = tmp_path_factory.getbasetemp() / "damaged.so"
    file.write_bytes(content)
    device = fatbin.read(str(file))
    if device is not None:
        assert all(10 <= one.number < 10000 for container in device.containers for one in container)
