"""The probe ``artifacts``: what model files demand, and files that were made to mislead whoever reads them."""

from __future__ import annotations

import bz2
import collections
import gzip
import hashlib
import json
import lzma
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes import artifacts, bounded, common, model_headers, module_files, pickle_file
from support import interpreters
from support.commands import driftcheck
from support.model_files import (
    archive,
    field,
    gguf,
    onnx,
    safetensors,
    tensor,
    torch_archive,
    varint,
)
from support.snapshots import check_facts

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 4711\n"


def place_of(folder: Path, *names: str, search_path: tuple[str, ...] = ()) -> common.Place:
    options = {"artifacts": list(names), "directory": str(folder)}
    return common.Place(environ={}, search_path=list(search_path), options=options)


def measured(place: common.Place) -> dict[str, dict[str, Any] | None]:
    facts = artifacts.measure(place)
    check_facts("artifacts", facts)
    json.dumps(facts).encode("utf-8")
    files: dict[str, dict[str, Any] | None] = facts["files"]
    return files


def read(folder: Path, content: bytes, name: str = "m", **options: Any) -> dict[str, Any]:
    """The record of one file with this content."""
    (folder / name).write_bytes(content)
    record = measured(place_of(folder, name, **options))[name]
    assert record is not None
    return record


# Which files


def test_nothing_is_read_without_being_asked(tmp_path: Path) -> None:
    assert common.section(artifacts, place_of(tmp_path))["status"] == "absent"


def test_files_are_told_by_the_names_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"hello")
    absolute = str(tmp_path / "sub" / "a.bin")
    found = measured(place_of(tmp_path, "sub/a.bin", "./sub/a.bin", absolute, "missing.bin", "sub/a.bin/under"))
    digest = "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert found["missing.bin"] is None
    assert found["sub/a.bin/under"] is None
    for name in ("sub/a.bin", "./sub/a.bin", absolute):
        assert found[name] == {"format": "unknown", "size": 5, "digest": digest}


def test_a_name_below_the_home_directory(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    place = place_of(Path("/"), "~/a.bin")
    place.environ["HOME"] = str(tmp_path)
    assert measured(place)["~/a.bin"] is not None


def test_a_directory_is_its_files(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", ".hidden/x", "deep/er/c.json"):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_text("{}")
    (tmp_path / "model" / "loop").symlink_to(tmp_path / "model")
    (tmp_path / "model" / "linked.json").symlink_to("a.json")
    place = place_of(tmp_path, "model/")
    assert list(measured(place)) == ["model/a.json", "model/b.json", "model/deep/er/c.json", "model/linked.json"]
    assert place.problems == []


def test_a_directory_of_thousands_of_files_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "FILE_LIMIT", 3)
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(b"x")
    place = place_of(tmp_path, ".")
    assert list(measured(place)) == ["./0.bin", "./1.bin", "./2.bin"]
    reason = "3 files were read, and 2 more were not, from ./3.bin on: these are the most"
    assert place.problems == [{"where": ".", "reason": reason}]


def test_a_tree_without_end_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "ENTRY_LIMIT", 10)
    for number in range(30):
        (tmp_path / f"{number:02}" / "deep").mkdir(parents=True)
    (tmp_path / "99.bin").write_bytes(b"x")
    place = place_of(tmp_path, "/" + str(tmp_path).strip("/"))
    assert measured(place) == {}
    reasons = [problem["reason"] for problem in place.problems]
    assert reasons == ["more than 10 entries; the rest was not looked at"]


def test_all_files_together_have_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a thousand files may take seconds, and the whole measurement would be ended with nothing to show."""
    for name in "abcd":
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps([name]))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "f.pkl").write_bytes(b"x")
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(artifacts.time, "time", lambda: next(clock))
    place = place_of(tmp_path, ".", "a.pkl", "gone.pkl")
    found = measured(place)
    assert (found["./a.pkl"] or {})["format"] == "pickle"
    assert found["a.pkl"] == {"format": "unreadable"}
    assert "./e/f.pkl" not in found
    (directory,) = [problem["reason"] for problem in place.problems if problem["where"] == "."]
    assert directory.endswith(" on: there was no time")
    assert {"where": "a.pkl", "reason": "not read: there was no time"} in place.problems


@pytest.mark.skipif(os.name != "posix", reason="special files of POSIX")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    place = place_of(tmp_path, "pipe", "dangling", "loop", "empty", "/dev/zero", "nul\0")
    found = measured(place)
    assert found["dangling"] is None
    assert {name for name, record in found.items() if record == {"format": "unreadable"}} >= {"pipe", "/dev/zero"}
    assert {"pipe", "/dev/zero", "empty"} <= {problem["where"] for problem in place.problems}


def test_links_of_an_image_stay_inside_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "models").mkdir(parents=True)
    (root / "models" / "real.bin").write_bytes(b"inside")
    (root / "m.bin").symlink_to("/models/real.bin")
    (root / "out.bin").symlink_to("../../secret")
    (tmp_path / "secret").write_bytes(b"outside")
    place = common.Place(str(root), {}, [], live=False, options={"artifacts": ["m.bin", "out.bin"], "directory": "/"})
    found = measured(place)
    assert found["m.bin"] is not None
    assert found["m.bin"]["size"] == 6
    assert found["out.bin"] is None


# Digests


def test_large_files_have_a_digest_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "BOTH_FROM", 1 << 20)
    monkeypatch.setattr(artifacts, "ENDS", 1 << 16)
    content = bytearray(2 << 20)
    both = read(tmp_path, bytes(content))
    assert {"digest", "sampled_digest"} <= both.keys()
    monkeypatch.setattr(artifacts, "WHOLE_LIMIT", 1 << 20)
    pieces = read(tmp_path, bytes(content))
    assert "digest" not in pieces
    assert pieces["sampled_digest"] == both["sampled_digest"]
    content[-1] = 1
    assert read(tmp_path, bytes(content))["sampled_digest"] != both["sampled_digest"]


def test_no_more_than_a_total_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "TOTAL_LIMIT", 10)
    for name in "ab":
        (tmp_path / name).write_bytes(b"123456")
    found = measured(place_of(tmp_path, "a", "b"))
    assert ["digest" in (record or {}) for record in found.values()] == [True, False]


# ONNX


def test_an_onnx_model(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"x" * 10)
    external = {"w.bin": (4, 6), "gone.bin": (0, 1), "../up.bin": (0, 1), "/etc/passwd": (0, 1)}
    content = onnx(10, {"": 21, "ai.onnx.ml": 3}, ("", "com.acme"), external, functions=["pkg.f"])
    record = read(tmp_path, content)
    assert record["format"] == "onnx"
    assert record["onnx"] == {
        "ir_version": 10,
        "producer": "tests 1.0",
        "opsets": {"ai.onnx": 21, "ai.onnx.ml": 3},
        "domains": {"ai.onnx": True, "com.acme": True},
        "function_domains": {"pkg.f": True},
        "external_data": {
            "w.bin": {"needed": 10, "size": 10},
            "gone.bin": {"needed": 1, "size": None},
            "../up.bin": {"needed": 1, "size": None},
            "/etc/passwd": {"needed": 1, "size": None},
        },
    }


def test_operators_and_weights_inside_of_branches(tmp_path: Path) -> None:
    inner = field(1, field(4, "Mul") + field(7, "inner")) + field(5, field(9, b"\0" * 100000))
    node = field(4, "If") + field(5, field(1, "then_branch") + field(6, inner))
    content = field(1, 8) + field(7, field(1, node)) + field(8, field(2, 17))
    assert read(tmp_path, content)["onnx"]["domains"] == {"ai.onnx": True, "inner": True}


def test_an_onnx_model_that_is_cut(tmp_path: Path) -> None:
    whole = onnx(weights=b"\0" * 1000)
    record = read(tmp_path, whole[:-100], "m.onnx")
    assert record["format"] == "onnx"
    assert "cut" in record
    assert "cut" not in read(tmp_path, whole, "m.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x08" + b"\x12" + b"\xff" * 20,
        b"\x08\x08\x3a" + varint(1 << 62) + b"x",
        field(1, 8) + field(7, b"\x0b\x0c") + b"\0\0",
        field(1, 8) + b"".join(b"\x3a\x80\x80\x04" for _ in range(20)) + b"x" * 70000,
    ],
)
def test_a_protocol_buffer_that_is_none(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content)["format"] in {"unknown", "onnx"}


def test_an_offset_that_is_no_number(tmp_path: Path) -> None:
    places = field(13, field(1, "location") + field(2, "w")) + field(13, field(1, "offset") + field(2, "²"))
    graph = field(7, field(5, places + field(14, 1)))
    record = read(tmp_path, field(1, 8) + graph, "m.onnx")
    assert record["onnx"]["external_data"] == {"w": {"needed": 0, "size": None}}


def test_graphs_nested_without_end(tmp_path: Path) -> None:
    graph = field(1, field(4, "If"))
    for _ in range(300):
        graph = field(1, field(4, "If") + field(5, field(6, graph)))
    place = place_of(tmp_path, "m.onnx")
    (tmp_path / "m.onnx").write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
    measured(place)
    assert "nested too deeply" in place.problems[0]["reason"]


# Pickles


class Estimator:
    """Stands for one of scikit-learn: it states a version in its state."""

    def __init__(self, inner: object = None) -> None:
        self.inner = inner

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_sklearn_version": "1.4.2"}


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_a_pickle(tmp_path: Path, protocol: int) -> None:
    value = {"c": collections.OrderedDict(a=1), "e": Estimator(Path("x")), "f": [1.5, -3, 2**70, b"x" * 300, "y" * 400]}
    facts = read(tmp_path, pickle.dumps(value, protocol), "m.pkl")["pickle"]
    assert facts["protocol"] == (protocol if protocol > 1 else 0)
    assert facts["globals"]["collections"] == {"OrderedDict": 0} or protocol < 2
    assert {"Estimator"} <= facts["globals"][__name__].keys()
    assert any(module.startswith("pathlib") for module in facts["globals"])
    assert facts["scikit_learn"] == {"1.4.2": {"Estimator": 0}}
    assert "hidden_names" not in facts


def test_names_of_python_2_are_told_as_python_3_reads_them(tmp_path: Path) -> None:
    facts = read(tmp_path, b"ccopy_reg\n_reconstructor\n(c__builtin__\nunicode\nc__builtin__\nobject\nNtR.", "m.pkl")[
        "pickle"
    ]
    assert facts["globals"] == {"copyreg": {"_reconstructor": 0}, "builtins": {"object": 2, "str": 1}}


def test_names_through_the_memo_and_names_that_are_computed(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93(KABh\x00tR."
    through = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940" + b"0h\x00h\x01\x93."
    computed = b"\x80\x04\x8c\x02os]\x93."
    assert read(tmp_path, through)["pickle"]["globals"] == {"os": {"system": 0}}
    assert read(tmp_path, computed)["pickle"]["hidden_names"] == 1
    assert "malformed" in read(tmp_path, content) or "cut" in read(tmp_path, content)


def test_nothing_of_a_pickle_is_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    facts = read(tmp_path, pickle.dumps(Attack()))["pickle"]
    assert facts["globals"] == {os.mkdir.__module__: {"mkdir": 0}}
    assert not (tmp_path / "attacked").exists()


def test_random_generators_by_class(tmp_path: Path) -> None:
    content = b"\x80\x02cnumpy.random._pickle\n__bit_generator_ctor\ncnumpy.random._mt19937\nMT19937\n\x85R."
    assert read(tmp_path, content)["pickle"]["generators"] == {"numpy.random._mt19937.MT19937": 2}
    by_name = b"\x80\x02cnumpy.random._pickle\n__bit_generator_ctor\nX\x07\0\0\0MT19937\x85R."
    assert "generators" not in read(tmp_path, by_name)["pickle"]


HOSTILE = {
    "no end": b"\x80\x04K\x01K\x02",
    "nothing on the stack": b"\x80\x04R.",
    "no mark": b"\x80\x04t.",
    "no instruction": b"\x80\x04\xff.",
    "a text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
    "a negative length": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
    "a negative number of bytes": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"x.",
    "a memo that is no number": b"\x80\x02g" + b"9" * 50 + b"\n.",
    "a line without end": b"\x80\x02c" + b"a" * 100000,
    "marks": b"\x80\x04" + b"(" * 50000 + b".",
    "tuples in tuples": b"\x80\x04)" + b"\x85" * 200000 + b".",
    "itself": b"\x80\x04]\x94h\x00a.",
    "a number with two signs": b"\x80\x02I--5\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle(tmp_path: Path, name: str) -> None:
    record = read(tmp_path, HOSTILE[name])
    assert record["format"] == "pickle"
    if name not in {"tuples in tuples", "itself", "marks"}:
        assert ("cut" in record) != ("malformed" in record)


def test_an_array_of_half_a_million_dimensions(tmp_path: Path) -> None:
    huge = b"\x8a\x0f" + b"\x7f" * 15
    shape = b"(" + huge * 400000 + b"t"
    place = place_of(tmp_path, "m.pkl")
    (tmp_path / "m.pkl").write_bytes(joblib_file(b"").replace(b"K\x02K\x03\x86", shape, 1))
    assert measured(place)["m.pkl"] is not None
    assert [problem["reason"] for problem in place.problems] == ["an array whose size cannot be read"]


def test_a_file_of_one_byte(tmp_path: Path) -> None:
    assert read(tmp_path, b"\x80")["format"] == "unknown"


def test_a_pickle_that_goes_on_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_file, "STEP_LIMIT", 1000)
    monkeypatch.setattr(pickle_file, "STACK_LIMIT", 500)
    for content in (b"\x80\x04" + b"N0" * 5000 + b".", b"\x80\x04" + b"N" * 700 + b"."):
        (tmp_path / "m.pkl").write_bytes(content)
        place = place_of(tmp_path, "m.pkl")
        record = measured(place)["m.pkl"]
        assert record is not None
        assert not {"cut", "malformed"} & record.keys()
        assert len(place.problems) == 1


def joblib_file(value: bytes) -> bytes:
    """As joblib.dump writes an array: the description of it, and its bytes behind it."""
    shape, dtype = b"K\x02K\x03\x86", b"cnumpy\ndtype\nX\x02\0\0\0f8K\0K\x01\x87R"
    state = (
        b"}(X\x05\0\0\0shape" + shape + b"X\x05\0\0\0dtype" + dtype + b"X\x1b\0\0\0numpy_array_alignment_bytesK\x10u"
    )
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b"
    return b"\x80\x02]" + wrapper + b"\x03\xff\xff\xff" + value + b"ccollections\nOrderedDict\na."


@pytest.mark.parametrize(
    ("compress", "name"),
    [
        (None, None),
        (gzip.compress, "gzip"),
        (bz2.compress, "bz2"),
        (zlib.compress, "zlib"),
        (lzma.compress, "xz"),
        (lambda data: lzma.compress(data, lzma.FORMAT_ALONE), "lzma"),
    ],
)
def test_a_joblib_file(tmp_path: Path, compress: Any, name: str | None) -> None:
    content = joblib_file(b"\x80\x04." * 16)
    record = read(tmp_path, compress(content) if compress else content, "m.joblib")
    assert record["format"] == "joblib"
    assert record.get("compression") == name
    assert "OrderedDict" in record["pickle"]["globals"]["collections"]
    assert not {"cut", "malformed"} & record.keys()
    whole = compress(content) if compress else content
    cut = read(tmp_path, whole[: len(whole) // 2], "m.joblib")
    assert {"cut", "malformed"} & cut.keys()


def test_an_array_larger_than_its_file(tmp_path: Path) -> None:
    assert "cut" in read(tmp_path, joblib_file(b"too short"), "m.joblib")


def test_a_compressed_file_that_holds_something_else(tmp_path: Path) -> None:
    assert read(tmp_path, gzip.compress(b"hello"))["format"] == "compressed"
    assert read(tmp_path, b"\x04\x22\x4d\x18" + b"x" * 50)["compression"] == "lz4"
    assert read(tmp_path, b"\x1f\x8b" + b"\xff" * 50)["format"] == "compressed"


def test_a_compressed_bomb_is_read_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded.Reader.__init__, "__defaults__", (None, 1 << 20))
    bomb = gzip.compress(b"\x80\x04B" + struct.pack("<I", 1 << 25) + bytes(1 << 25) + b".")
    (tmp_path / "m.joblib").write_bytes(bomb)
    place = place_of(tmp_path, "m.joblib")
    measured(place)
    assert "only the first 1 MB" in place.problems[0]["reason"]


# Modules


def test_modules_that_have_no_file(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in (
        "pkg/__init__.py",
        "pkg/a.py",
        "pkg/b/__init__.py",
        "space/inner/x.py",
        "one.py",
        "ext.cpython-311.so",
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    finder = module_files.ModuleFiles(place_of(tmp_path), [str(site), str(tmp_path / "nowhere")])
    there = (
        "pkg",
        "pkg.a",
        "pkg.b",
        "space.inner.x",
        "one",
        "one.made_up",
        "ext",
        "builtins",
        "no.identifier-",
        "__main__",
    )
    assert {name: finder.missing(name) for name in there} == dict.fromkeys(there)
    assert finder.missing("pkg.c.d") == "pkg.c"
    assert finder.missing("space.other") == "space.other"
    assert finder.missing("gone.b.c") == "gone"
    (tmp_path / "archive.zip").write_bytes(b"")
    assert module_files.ModuleFiles(place_of(tmp_path), [str(tmp_path / "archive.zip")]).missing("gone") is None


def test_missing_modules_of_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    (tmp_path / "own.py").write_text("")
    content = b"\x80\x02cnumpy._core.multiarray\nf\ncown\ng\ncxgboost\nh\n0."
    facts = read(tmp_path, content, search_path=(str(tmp_path),))["pickle"]
    assert facts["missing_modules"] == {"numpy._core.multiarray": "numpy._core", "xgboost": "xgboost"}


def test_names_that_a_module_does_not_have(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    sources = {
        "plain.py": "class Here: pass\n",
        "star.py": "from x import *\n",
        "lazy/__init__.py": "def __getattr__(name): ...\n",
        "ext.abi3.so": "\x7fELF Here\0",
        "ext.py": "class Other: pass\n",
    }
    for name, text in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    names = b"".join(b"c%s\n%s\n0" % (module, name) for module in (b"plain", b"star", b"lazy", b"ext", b"json")
                     for name in (b"Here", b"Gone"))  # fmt: skip
    content = b"\x80\x02" + names + b"N."
    facts = read(tmp_path, content, search_path=(str(site), str(Path(json.__path__[0]).parent)))["pickle"]
    assert facts["missing_names"] == {"plain": {"Gone": "source"}, "ext": {"Gone": "binary"}}


# Archives

STATE = pickle.dumps(collections.OrderedDict(a=1), 2)


def test_an_archive_of_torch(tmp_path: Path) -> None:
    record = read(tmp_path, torch_archive(STATE))
    assert record["format"] == "torch"
    assert record["torch"] == {"version": "3", "byteorder": "little", "storages": 1}
    assert record["pickle"]["globals"] == {"collections": {"OrderedDict": 0}}
    content = b"\x80\x02c__torch__.Model\nModel\n."
    script = read(
        tmp_path, torch_archive(content, **{"m/constants.pkl": b"", "m/code/a.py": b""}), search_path=("/nowhere",)
    )
    assert script["format"] == "torchscript"
    assert "missing_modules" not in script["pickle"]


def test_other_archives(tmp_path: Path) -> None:
    keras = archive({"metadata.json": b'{"keras_version": "3.4.1"}', "config.json": b"{}", "model.weights.h5": b""})
    assert read(tmp_path, keras)["keras"] == {"version": "3.4.1"}
    assert read(tmp_path, archive({"a.npy": b""}))["format"] == "npz"
    assert read(tmp_path, archive({"a.txt": b""}))["format"] == "zip"
    assert "malformed" in read(tmp_path, archive({"metadata.json": b"[" * 100000, "config.json": b""}))


def test_an_archive_that_is_cut_or_damaged(tmp_path: Path) -> None:
    whole = torch_archive(STATE)
    assert "cut" in read(tmp_path, whole[: len(whole) // 2])
    assert "malformed" in read(tmp_path, whole.replace(b"PK\x01\x02", b"PK\x09\x09"))
    assert "malformed" in read(tmp_path, whole.replace(b"\x80\x02c", b"\x80\x02\xff", 1))


def test_an_archive_whose_members_cannot_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", STATE * 100)
    content = bytearray((tmp_path / "m.pt").read_bytes())
    content[42:60] = b"\xff" * 18
    record = read(tmp_path, bytes(content), "m.pt")
    assert "malformed" in record


def test_an_archive_that_unpacks_to_more_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftcheck.probes import torch_file  # noqa: PLC0415 - its limit is changed

    monkeypatch.setattr(torch_file, "PICKLE_LIMIT", 1000)
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", b"N" * 100000)
    place = place_of(tmp_path, "m.pt")
    measured(place)
    assert "unpacks to more" in place.problems[0]["reason"]


def test_the_old_format_of_torch(tmp_path: Path) -> None:
    parts = [pickle.dumps(value, 2) for value in (pickle_file.TORCH_MAGIC, 1001, {"little_endian": True})]
    record = read(tmp_path, b"".join(parts) + STATE + b"tensors")
    assert record["format"] == "torch-legacy"
    assert record["pickle"]["globals"] == {"collections": {"OrderedDict": 0}}
    assert "cut" in read(tmp_path, b"".join(parts) + STATE[:-5])


# Tensors

TENSORS = {"a": tensor("F32", 0, 16), "b": tensor("BF16", 16, 20), "__metadata__": {"format": "pt"}}


def test_a_safetensors_file(tmp_path: Path) -> None:
    content = safetensors(TENSORS, b"\0" * 20)
    record = read(tmp_path, content, "m.safetensors")
    facts = {"tensors": 2, "types": {"F32": 1, "BF16": 1}, "needed": len(content), "format": "pt"}
    assert record["safetensors"] == facts
    assert "cut" not in record
    assert "cut" in read(tmp_path, content[:-1])
    assert "cut" in read(tmp_path, content[:40], "m.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 63) + b"{}",
        struct.pack("<Q", 4) + b"[[]]",
        safetensors({"a": {"data_offsets": [0]}}),
        safetensors({"a": 1}),
        struct.pack("<Q", 9) + b'{"a": 1e9',
        struct.pack("<Q", 100000) + b"[" * 100000,
        struct.pack("<Q", 100012) + b'{"a": ' + b"9" * 100005 + b"}",
    ],
)
def test_a_safetensors_header_that_is_none(tmp_path: Path, content: bytes) -> None:
    record = read(tmp_path, content, "m.safetensors")
    assert record["format"] == "safetensors"
    assert "malformed" in record


def test_a_gguf_file(tmp_path: Path) -> None:
    content = gguf(b"\0" * 32)
    record = read(tmp_path, content)
    assert record["gguf"] == {
        "version": 3,
        "byteorder": "little",
        "tensors": 1,
        "values": 2,
        "architecture": "llama",
        "needed": len(content),
    }
    assert "cut" in read(tmp_path, content[:-1])
    assert read(tmp_path, gguf(b"", kind=4242))["gguf"]["needed"] is None
    assert "cut" in read(tmp_path, content[:50])
    assert "malformed" in read(tmp_path, gguf(b"", values=1 << 40))
    assert "cut" in read(tmp_path, gguf(b"\0" * 32, tensors=900000))


# Others


@pytest.mark.parametrize(
    ("content", "form", "facts"),
    [
        (POINTER.encode(), "git-lfs-pointer", {"size": 4711, "digest": "sha256:" + "ab" * 32}),
        (b"ftrt" + b"\0" * 20 + bytes([10, 3, 0, 1]) + b"x" * 50, "tensorrt-plan", {"version": "10.3.0"}),
        (b"ptrt" + b"\xff" * 60, "tensorrt-plan", {"version": None}),
        (b"\x1c\0\0\0TFL3" + b"\0" * 20, "tflite", None),
        (b"\x93NUMPY\x01\0", "npy", None),
        (b"\x89HDF\r\n\x1a\n\0", "hdf5", None),
        (b"tree\nversion=v4\nnum_class=1\n", "lightgbm", {"version": "v4"}),
        (b'{"learner":{"x":1},"version":[3,2,0]}', "xgboost-json", {"version": "3.2.0"}),
        (
            b"{L" + struct.pack(">q", 7) + b"learner{}L" + struct.pack(">q", 7) + b"version[#L" + struct.pack(">q", 3)
            + b"i\x03i\x02i\x00}",
            "xgboost-ubjson",
            {"version": "3.2.0"},
        ),
        (b"", "empty", None),
        (b"<!DOCTYPE html>", "web-page", None),
        (b'\n<HTML lang="en"><body>404', "web-page", None),
        (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code></Error>', "web-page", None),
        (b'<?xml version="1.0"?>\n<net name="model">', "unknown", None),
        (b"<p>model</p>", "unknown", None),
        (b'{"a": ' + b"[" * 100000, "unknown", None),
    ],
)  # fmt: skip
def test_formats_by_their_first_bytes(
    tmp_path: Path, content: bytes, form: str, facts: Mapping[str, Any] | None
) -> None:
    record = read(tmp_path, content)
    assert record["format"] == form
    if facts is not None:
        name = "xgboost" if form.startswith("xgboost") else form.replace("-", "_")
        assert record[name] == facts


@pytest.mark.parametrize("content", [b'{"a": 1', b"\0" * 2000, b'{"a": "\xff"}', b"{'a': 1}"])
def test_a_json_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    record = read(tmp_path, content, "config.json")
    assert record["format"] == "json"
    assert record["malformed"].startswith("no JSON: ")
    assert read(tmp_path, content)["format"] == "unknown"


@pytest.mark.parametrize("content", [b'["cat", "dog"]', b'{"a": NaN}', b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_json_file_that_is_one(tmp_path: Path, content: bytes) -> None:
    assert "malformed" not in read(tmp_path, content, "labels.json")


def test_a_configuration_of_transformers(tmp_path: Path) -> None:
    auto = tmp_path / "site" / "transformers" / "models" / "auto"
    auto.mkdir(parents=True)
    (auto / "configuration_auto.py").write_text('("bert", "BertConfig"),\n')
    site = (str(tmp_path / "site"),)
    known = json.dumps({"model_type": "bert", "transformers_version": "4.40.0"}).encode()
    record = read(tmp_path, known, "config.json", search_path=site)
    assert record["transformers_config"] == {
        "model_type": "bert",
        "transformers_version": "4.40.0",
        "own_code": False,
        "known": True,
    }
    other = json.dumps({"model_type": "b", "auto_map": {}}).encode()
    assert read(tmp_path, other, "config.json", search_path=site)["transformers_config"]["known"] is False
    assert read(tmp_path, other, "config.json")["transformers_config"]["known"] is None
    assert read(tmp_path, b'{"a": 1}', "config.json")["format"] == "json"


@pytest.mark.parametrize(("merges", "pairs"), [('[["a","b"]]', True), ('["a b"]', False), ("[]", None)])
def test_the_merges_of_a_tokenizer(tmp_path: Path, merges: str, pairs: bool | None) -> None:
    content = '{"version": "1.0", "model": {"vocab": {"' + "x" * 3000000 + '": 1}, "merges" : ' + merges + "}}"
    assert read(tmp_path, content.encode(), "tokenizer.json")["tokenizer"] == {"pairs": pairs}


def test_no_tokenizer_is_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_headers, "TOKENIZER_LIMIT", 1 << 20)
    content = b'{"vocab": "' + b"x" * (4 << 20) + b'", "merges": ["a b"]}'
    assert read(tmp_path, content, "tokenizer.json")["tokenizer"] == {"pairs": None}


# As part of a snapshot


def test_a_snapshot_has_the_section_where_it_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx())
    (tmp_path / "m.pkl").write_bytes(STATE)
    plain, out = tmp_path / "plain.json", tmp_path / "s.json"
    reference = f"python:{sys.executable}"
    assert driftcheck("snapshot", reference, "-o", plain, cwd=tmp_path).code == 0
    result = driftcheck("snapshot", reference, "--artifact", "m.onnx", "--artifact", "m.pkl", "-o", out, cwd=tmp_path)
    assert result.code == 0, result.err
    assert "artifacts" not in json.loads(plain.read_text())["sections"]
    section = json.loads(out.read_text())["sections"]["artifacts"]
    assert (section["status"], section["layer"]) == ("ok", "image")
    assert {name: record["format"] for name, record in section["facts"]["files"].items()} == {
        "m.onnx": "onnx",
        "m.pkl": "pickle",
    }


def test_the_stand_alone_program_reads_model_files_too(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx())
    program = tmp_path / "probe.py"
    assert driftcheck("probe", "-o", program).code == 0
    command = [sys.executable, str(program), "--artifact", "m.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout)["sections"]["artifacts"]["facts"]["files"]["m.onnx"]["format"] == "onnx"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model file of each kind that takes some reading."""
    folder = tmp_path_factory.mktemp("models")
    contents = {
        "a.onnx": onnx(external={"w": (0, 1)}),
        "b.pkl": pickle.dumps({"e": Estimator(), "x": 1.5}, 4),
        "c.joblib": gzip.compress(joblib_file(b"\0" * 48)),
        "d.safetensors": safetensors(TENSORS, b"\0" * 20),
        "e.gguf": gguf(b"\0" * 32),
        "f.pt": torch_archive(STATE),
        "g.json": b'{"learner":{},"version":[3,2,0]}',
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def files_by(python: str, folder: Path) -> dict[str, Any]:
    result = driftcheck("snapshot", f"python:{python}", "--artifact", ".", cwd=folder)
    assert result.code == 0, result.err
    files: dict[str, Any] = json.loads(result.out)["sections"]["artifacts"]["facts"]["files"]
    for record in files.values():
        record.get("pickle", {}).pop("missing_modules", None)  # of another search path
    return files


@pytest.fixture(scope="module")
def expected(models: Path) -> dict[str, Any]:
    return files_by(sys.executable, models)


@pytest.mark.interpreters
@pytest.mark.parametrize("version", sorted(interpreters.supported()))
def test_every_python_reads_the_same(models: Path, expected: dict[str, Any], version: tuple[int, int]) -> None:
    assert files_by(interpreters.supported()[version], models) == expected
    assert [record["format"] for record in expected.values()] == [
        "onnx",
        "pickle",
        "joblib",
        "safetensors",
        "gguf",
        "torch",
        "xgboost-json",
    ]
