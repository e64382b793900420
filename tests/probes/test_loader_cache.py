"""The parser of /etc/ld.so.cache against files that ldconfig 2.36 wrote (``-c old``, ``compat``, ``new``)."""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from driftcheck.probes import loader_cache
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
LIB = "/usr/lib/x86_64-linux-gnu/"

# What `ldconfig -r ROOT -p -C FILE` printed for these files, in its order.
PRINTED = [
    ("libz.so.1", LIB + "glibc-hwcaps/x86-64-v3/libz.so.1"),
    ("libz.so.1", LIB + "libz.so.1"),
    ("libmagic.so.1", LIB + "libmagic.so.1"),
    ("libffi.so.8", LIB + "libffi.so.8"),
    ("libc.so.6", LIB + "libc.so.6"),
]


@pytest.mark.parametrize(("form", "subdirectory"), [("old", None), ("compat", ""), ("new", "x86-64-v3")])
def test_every_format_as_ldconfig_prints_it(form: str, subdirectory: str | None) -> None:
    entries = loader_cache.parse((DATA / ("ld.so.cache." + form)).read_bytes())
    assert [(entry.soname, entry.path) for entry in entries] == PRINTED
    assert {entry.flags for entry in entries} == {loader_cache.flags_of(62, 64)}
    assert [entry.subdirectory for entry in entries] == [subdirectory, None, None, None, None]


def test_groups_keep_the_loaders_order_and_the_abi() -> None:
    entries = loader_cache.parse((DATA / "ld.so.cache.new").read_bytes())
    table = loader_cache.by_soname(entries, loader_cache.flags_of(62, 64))
    assert [entry.path for entry in table["libz.so.1"]] == [PRINTED[0][1], PRINTED[1][1]]
    assert loader_cache.by_soname(entries, loader_cache.flags_of(183, 64)) == {}


def test_big_endian() -> None:
    strings = b"libz.so.1\0/lib64/libz.so.1\0"
    base = 48 + 24
    body = struct.pack(">iIIIQ", 0x0403, base, base + 10, 0, 0)
    head = loader_cache.MAGIC_NEW + struct.pack(">IIB3xI12x", 1, len(strings), 3, 0)
    (entry,) = loader_cache.parse(head + body + strings)
    assert entry == ("libz.so.1", "/lib64/libz.so.1", loader_cache.flags_of(22, 64), 0, None)
    unstated = loader_cache.MAGIC_NEW + struct.pack(">IIB3xI12x", 1, len(strings), 0, 0)
    assert loader_cache.parse(unstated + body + strings) == [entry]


@pytest.mark.parametrize("form", ["old", "compat", "new"])
def test_a_file_cut_short_is_refused_or_read_but_never_worse(form: str) -> None:
    data = (DATA / ("ld.so.cache." + form)).read_bytes()
    refused = 0
    for size in range(len(data)):
        try:
            loader_cache.parse(data[:size])
        except ValueError:
            refused += 1
    assert refused > len(data) // 2


@given(st.binary(max_size=400), st.sampled_from([loader_cache.MAGIC_NEW, loader_cache.MAGIC_OLD, b""]))
def test_rubbish_raises_value_error_only(tail: bytes, magic: bytes) -> None:
    try:
        entries = loader_cache.parse(magic + tail)
    except ValueError:
        return
    assert all(isinstance(entry.soname, str) for entry in entries)


def test_this_machines_cache_as_ldconfig_prints_it() -> None:
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    cache = Path("/etc/ld.so.cache")
    if ldconfig is None or not cache.exists():
        pytest.skip("no ldconfig with a cache on this system (musl, macOS, Windows)")
    lines = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    printed = re.findall(r"^\t(\S+) \(.*\) => (\S+)$", lines, re.MULTILINE)
    entries = loader_cache.parse(cache.read_bytes())
    assert [(entry.soname, entry.path) for entry in entries] == printed
    assert len(entries) > 3
