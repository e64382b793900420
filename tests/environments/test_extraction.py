"""Taking files out of archives: the tar reader against Python's, and everything that a hostile archive may try."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import Entry, hard_link, layer, link, special

from driftcheck.environments import tar
from driftcheck.environments.extraction import Limits, Tree, scratch, take_out
from driftcheck.errors import InputError


def unpack(root: Path, *entries: Entry) -> dict[str, str | bytes | None]:
    """Take out one archive; what lies there then: content, link target as text, None for a directory."""
    root.mkdir(exist_ok=True)
    take_out(io.BytesIO(layer(*entries)), root, "test.tar")
    return listing(root)


def listing(root: Path) -> dict[str, str | bytes | None]:
    found: dict[str, str | bytes | None] = {}
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(folder) / name
            key = os.fspath(path.relative_to(root))
            if path.is_symlink():
                found[key] = os.readlink(path)  # noqa: PTH115 - as text
            else:
                found[key] = None if path.is_dir() else path.read_bytes()
    return found


# --- the tar reader, with tarfile as its oracle

LONG = "d" * 120 + "/" + "f" * 120


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_names_and_sizes(format: int) -> None:  # noqa: A002
    entries: list[Entry] = [("etc", None), ("etc/a", b"x" * 513), ("d" * 90 + "/" + "f" * 90, b"1"), link("l", "etc/a")]
    if format != tarfile.USTAR_FORMAT:
        entries += [(LONG, b"long"), ("\u00e9\udcff", b"odd"), link("long", "t" * 200), ("x" * 99 + "/" + "y" * 9, b"")]
    data = layer(*entries, hard_link("h", "etc/a"), format=format)
    reader = tar.Reader(io.BytesIO(data), "test")
    ours = [
        (member.name.rstrip("/"), member.kind, member.target, b"".join(iter(reader.read, b""))) for member in reader
    ]
    kinds = {
        tarfile.REGTYPE: "file",
        tarfile.DIRTYPE: "directory",
        tarfile.SYMTYPE: "link",
        tarfile.LNKTYPE: "hard link",
    }
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        theirs = [
            (one.name, kinds[one.type], one.linkname, archive.extractfile(one).read() if one.isreg() else b"")  # type: ignore[union-attr]
            for one in archive
        ]
    assert ours == theirs


def test_a_name_of_one_hundred_signs_that_ends_in_a_slash_is_a_file_where_its_long_name_says_so() -> None:
    name = "a" * 99 + "/LICENSE"
    data = layer((name, b"text"), ("b", b""), format=tarfile.GNU_FORMAT)
    assert [(member.name, member.kind) for member in tar.Reader(io.BytesIO(data), "t")] == [
        (name, "file"),
        ("b", "file"),
    ]


def test_a_size_beyond_eight_gigabytes_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("model.bin")
    member.size = 10 << 30
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):  # noqa: A001
        header = member.tobuf(format)
        path = tmp_path / "big.tar"
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + member.size + 1024)
        with path.open("rb") as file:
            assert [(one.name, one.size) for one in tar.Reader(file, "t")] == [("model.bin", 10 << 30)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"test: empty \(at byte 0\)"),
        (b"no archive" * 100, r"test: no tar archive \(at byte 0\)"),
        (layer(("a", b"x" * 5000))[:3000], r"test: cut off \(at byte 3000\)"),
        (layer(("a", b"x"))[:512], r"cut off \(at byte 512\)"),
        (layer(("a", b"x" * 512))[:1024], r"cut off \(at byte 1024\)"),
        (layer(("a", b""))[:512] + b"rubbish!" * 64, r"damaged: a header without its checksum \(at byte 512\)"),
        (layer(special("v", b"V")), "of a kind that no container engine writes"),
        (layer(special("s", tarfile.GNUTYPE_SPARSE)), "of a kind that no container engine writes"),
    ],
)
def test_what_is_no_archive_is_named_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(tar.Reader(io.BytesIO(data), "test"))


def test_an_extended_header_is_not_read_into_memory_whatever_length_it_states() -> None:
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, 8 << 30
    with pytest.raises(InputError, match="an extended header of 8192 MB"):
        list(tar.Reader(io.BytesIO(member.tobuf(tarfile.GNU_FORMAT)), "test"))


def test_damaged_extended_headers_are_refused() -> None:
    for content in (b"9 path=x\nrubbish", b"99999 path=x\n", b"0 \n", b"path=x\n"):
        member = tarfile.TarInfo("././@PaxHeader")
        member.type, member.size = tarfile.XHDTYPE, len(content)
        data = member.tobuf() + content.ljust(512, b"\0") + layer(("a", b""))
        with pytest.raises(InputError, match="an extended header that breaks off"):
            list(tar.Reader(io.BytesIO(data), "test"))


@given(st.binary(max_size=600), st.integers(0, 1600))
@settings(max_examples=200)
def test_no_damage_makes_anything_but_an_input_error(noise: bytes, at: int) -> None:
    data = bytearray(layer(("a", b"x" * 600), link("b", "a"), format=tarfile.GNU_FORMAT))
    data[at : at + len(noise)] = noise
    try:
        for _ in tar.Reader(io.BytesIO(bytes(data)), "test"):
            pass
    except InputError:
        pass


# --- a tree that nothing escapes


def test_files_links_and_modes(tmp_path: Path) -> None:
    script = tarfile.TarInfo("bin/run")
    script.mode = 0o4755
    found = unpack(
        tmp_path / "root", ("etc", None), ("./etc/a", b"1"), ("/abs", b"2"), link("l", "/etc/a"),
        hard_link("h", "etc/a"), script, ("e", b""), ("etc/../up", b"3"),
    )  # fmt: skip
    assert found == {
        "etc": None, "etc/a": b"1", "abs": b"2", "l": "/etc/a", "h": b"1", "bin": None, "bin/run": b"", "e": b"",
        "up": b"3",
    }  # fmt: skip
    assert stat.S_IMODE((tmp_path / "root/bin/run").stat().st_mode) == 0o755  # set-uid is not kept
    assert (tmp_path / "root/h").stat().st_ino == (tmp_path / "root/etc/a").stat().st_ino


def test_a_directory_on_the_way_may_be_a_link_and_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    found = unpack(
        tmp_path / "root", ("usr/lib", None), link("lib", "usr/lib"), ("lib/x", b"1"), link("up", "../../../outside"),
        ("up/y", b"2"), link("abs", str(outside)), ("abs/z", b"3"),
    )  # fmt: skip
    assert found["usr/lib/x"] == b"1"
    assert found["outside/y"] == b"2"
    assert found[f"{str(outside).strip('/')}/z"] == b"3"
    assert list(outside.iterdir()) == []


def test_links_and_devices_are_replaced_never_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    found = unpack(
        tmp_path / "root", link("a", str(victim)), ("a", b"new"), link("b", str(victim)), hard_link("c", "b"),
        ("c", b"2"),
        special("dev/null", tarfile.CHRTYPE), special("pipe", tarfile.FIFOTYPE), hard_link("dev/zero", "dev/null"),
        special("d", tarfile.BLKTYPE), ("d", b"a file now"),
    )  # fmt: skip
    assert victim.read_bytes() == b"untouched"
    assert found == {"a": b"new", "b": str(victim), "c": b"2", "dev": None, "d": b"a file now"}


def test_duplicates_the_last_one_counts(tmp_path: Path) -> None:
    found = unpack(
        tmp_path / "root", ("a", b"1"), ("a", b"2"), ("b/c", b"1"), ("b", b"file"), ("d", b"file"), ("d", None),
        ("d/e", b"1"),
        ("f/g", b"1"), ("f", None), link("h", "x"), ("h", None), ("h/i", b"1"), ("j", b"1"), hard_link("j", "j"),
    )  # fmt: skip
    assert found == {
        "a": b"2", "b": b"file", "d": None, "d/e": b"1", "f": None, "f/g": b"1", "h": None, "h/i": b"1", "j": b"1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../evil", b"x")], r"member '\.\./evil' leads out of the archive"),
        ([("a/../../evil", b"x")], r"member 'a/\.\./\.\./evil' leads out of the archive"),
        ([hard_link("h", "../../etc/passwd")], r"'\.\./\.\./etc/passwd' leads out of the archive"),
        ([hard_link("h", "/etc/passwd")], "a hard link to a file that is not there"),
        ([("d", None), hard_link("h", "d")], "a hard link to a directory"),
        ([link("a", "b"), link("b", "a"), ("a/x", b"1")], "'/a' leads through links that loop"),
        ([link("a", "."), link("b", "a/b"), ("b/x", b"1")], "leads through links that loop"),
        ([("a", b"1"), ("a/b", b"2")], "leads through a file as if it were a directory"),
        ([("d/" * 300 + "x", b"")], "nested deeper than 200 levels"),
        ([link("l", "")], "a link to nothing"),
        ([("n" * 300, b"")], r"'n+' cannot be unpacked: File name too long"),
    ],
)
def test_what_no_engine_would_take_is_refused(tmp_path: Path, entries: list[Entry], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        unpack(tmp_path / "root", *entries)
    assert str(caught.value).startswith("test.tar: ")
    assert "\n" not in str(caught.value)


def test_numbers_and_sizes_are_bounded(tmp_path: Path) -> None:
    def add(limits: Limits, *entries: Entry) -> None:
        root = Path(tempfile.mkdtemp(dir=tmp_path))
        Tree(root, "x.tar", limits=limits).add(io.BytesIO(layer(*entries)), "x.tar: layer 1")

    with pytest.raises(InputError, match="layer 1: more than 10 files"):
        add(Limits(entries=10), *[(f"f{number}", b"") for number in range(11)])
    with pytest.raises(InputError, match=r"x\.tar: more than 1 MB of files \(at 'b'\)"):
        add(Limits(written=1 << 20), ("a", b"x" * (1 << 20)), ("b", b"x"))
    add(Limits(written=1 << 20), ("zeros", bytes(4 << 20)))  # zeros take no room


def test_a_large_file_keeps_its_size_and_its_beginning_and_elf_files_all(tmp_path: Path) -> None:
    model, library = b"GGUF" + b"m" * (3 << 20), b"\x7fELF" + b"c" * (3 << 20)
    tree = Tree(tmp_path, "x", limits=Limits(whole=2 << 20), keep=frozenset({"/kept.bin"}))
    entries = [("model.gguf", model), ("lib.so", library), ("kept.bin", model), ("after", b"1")]
    tree.add(io.BytesIO(layer(*entries)), "x")
    for name, content in entries:
        assert (tmp_path / name).stat().st_size == len(content)
    assert (tmp_path / "model.gguf").read_bytes() == model[: 1 << 20] + bytes(len(model) - (1 << 20))
    assert (tmp_path / "lib.so").read_bytes() == library
    assert (tmp_path / "kept.bin").read_bytes() == model


def test_a_full_disk_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match=r"no room for the files of test\.tar: No space left.*TMPDIR"):
        unpack(tmp_path / "root", ("a", b"1"))


# --- the scratch directory


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_scratch_is_private_and_removed(temporary: Path) -> None:
    with scratch() as root:
        assert stat.S_IMODE(root.parent.stat().st_mode) == 0o700
        assert root.parent.parent == temporary
        (root / "x").mkdir()
    assert list(temporary.iterdir()) == []
    with pytest.raises(InputError), scratch() as root:
        unpack(root, ("a", b""), ("../x", b""))
    assert list(temporary.iterdir()) == []


HOLD = """
import sys, time
from driftcheck.environments.extraction import scratch
with scratch() as root:
    (root / "file").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


def hold() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(temporary: Path, number: signal.Signals) -> None:
    with hold() as process:
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(number)
        code = process.wait(20)
    assert code in {128 + number, -number, 1}
    assert list(temporary.iterdir()) == []


def test_what_sigkill_left_is_removed_by_the_next_run_and_what_is_in_use_is_not(temporary: Path) -> None:
    with hold() as killed:
        killed.kill()
        killed.wait(20)
    assert len(list(temporary.iterdir())) == 1
    with hold() as alive:
        (running,) = temporary.iterdir()
        with scratch():
            assert running.exists()
            assert len(list(temporary.iterdir())) == 2
        assert (running / "root/file").read_text() == "x"
        alive.terminate()
        alive.wait(20)
    deadline = time.monotonic() + 5
    while list(temporary.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(temporary.iterdir()) == []
