"""Formats that say what they are in their first or last bytes, and what those say.

Sources: the format's own documentation or the program that writes it, at each function.
"""

import json
import re

from . import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Optional, Tuple

# Larger JSON is looked at by its ends only.
JSON_LIMIT = 4 << 20
# The tokenizer.json of a vocabulary of 256,000 has 34 MB.
TOKENIZER_LIMIT = 256 << 20
END = 1 << 16


def by_head(head: "bytes") -> "Optional[Tuple[str, Dict[str, Any]]]":
    """``(format, facts)`` where the first bytes say all that is read; None for other files."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "git-lfs-pointer", _pointer(head)
    if head[:4] in (b"ftrt", b"ptrt"):
        return "tensorrt-plan", {"version": _plan_version(head)}
    if head[4:8] == b"TFL3":
        return "tflite", {}
    if head[4:8] == b"ORTM":
        return "ort", {}
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5", {}
    if head.startswith(b"\x93NUMPY"):
        return "npy", {}
    if head.startswith(b"tree\n"):
        found = re.search(rb"\nversion=([\w.]{1,20})\n", head)
        return "lightgbm", {"version": found.group(1).decode("ascii") if found else None}
    if head.startswith(b"binf"):
        return "xgboost-binary", {}
    if re.match(rb"\s*(?:<!doctype html|<html|(?:<\?xml[^>]*>\s*)?<Error>)", head, re.IGNORECASE):
        return "web-page", {}  # the <Error> is that of an object store
    return None


def _pointer(head: "bytes") -> "Dict[str, Any]":
    """https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
    size = re.search(rb"\nsize (\d{1,18})\n", head)
    name = re.search(rb"\noid (sha256:[0-9a-f]{64})\n", head)
    return {
        "size": int(size.group(1)) if size else None,
        "digest": name.group(1).decode("ascii") if name else None,
    }


def _plan_version(head: "bytes") -> "Optional[str]":
    """The TensorRT that built a plan: bytes 24 to 26, as NVIDIA says in
    https://github.com/NVIDIA/TensorRT/issues/3073; what cannot be a version is none.
    """
    if not head.startswith(b"ftrt") or len(head) < 28 or not 8 <= head[24] <= 20:
        return None
    return "%d.%d.%d" % (head[24], head[25], head[26])


def text(file: "IO[bytes]", size: "int", name: "str") -> "Optional[Tuple[str, Dict[str, Any]]]":
    """``(format, facts)`` of JSON and of XGBoost's binary JSON that we know; None for other files.

    Raises:
        Malformed: what is named as JSON and is none.
    """
    file.seek(0)
    start = file.read(END)
    if re.match(rb"\s*\{\s*\"learner\"\s*:", start) or start[:2] in (b"{L", b"{i", b"{l", b"{I"):
        return _xgboost(file, size, start)
    if name == "tokenizer.json" or (b'"added_tokens"' in start and b'"normalizer"' in start):
        return "tokenizer", {"pairs": _pairs(file)}
    if size > JSON_LIMIT:
        return None
    file.seek(0)
    try:
        value = json.loads(file.read(JSON_LIMIT).decode("utf-8"), parse_int=bounded.small_integer)
    except (ValueError, RecursionError) as error:
        if not name.endswith(".json"):
            return None
        # A number of many digits is JSON, too, and so is what is nested deeply.
        if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
            raise bounded.Malformed("no JSON: %s" % str(error)[:100]) from None
        return "json", {}
    if not isinstance(value, dict):
        return "json", {}
    if any(key in value for key in ("model_type", "architectures", "transformers_version")):
        kind, version = value.get("model_type"), value.get("transformers_version")
        return "transformers-config", {
            "model_type": bounded.printable(kind, 80) if isinstance(kind, str) else None,
            "transformers_version": bounded.printable(version, 40) if isinstance(version, str) else None,
            "own_code": isinstance(value.get("auto_map"), dict),
        }
    return "json", {}


def _xgboost(file: "IO[bytes]", size: "int", start: "bytes") -> "Optional[Tuple[str, Dict[str, Any]]]":
    """https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html: the version stands last."""
    file.seek(max(0, size - END))
    end = file.read(END)
    if start[:1] == b"{" and start[1:2] in b"LilI" and b"learner" in start[:64]:
        found = re.search(rb"version\[#([iLlUI])", end)
        return "xgboost-ubjson", {"version": _ubjson_version(end[found.end() :], found.group(1)) if found else None}
    numbers = re.search(rb'"version"\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]', end)
    version = ".".join(number.decode("ascii") for number in numbers.groups()) if numbers else None
    return "xgboost-json", {"version": version}


_WIDTHS = {b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8}


def _ubjson_version(data: "bytes", kind: "bytes") -> "Optional[str]":
    """Three integers behind ``version[#``, each with its type: https://ubjson.org."""
    at = _WIDTHS[kind]
    if int.from_bytes(data[:at], "big") != 3:
        return None
    numbers = []
    for _ in range(3):
        width = _WIDTHS.get(data[at : at + 1])
        if width is None or len(data) < at + 1 + width:
            return None
        numbers.append(int.from_bytes(data[at + 1 : at + 1 + width], "big"))
        at += 1 + width
    return ".".join(str(number) for number in numbers)


def _pairs(file: "IO[bytes]") -> "Optional[bool]":
    """Whether a tokenizer.json has its merges as pairs, as tokenizers 0.20 began to write; None without merges, or
    where they stand behind all that is read.
    """
    file.seek(0)
    kept = b""
    while file.tell() <= TOKENIZER_LIMIT:
        piece = file.read(1 << 20)
        data = kept + piece
        found = re.search(rb'"merges"\s*:\s*\[\s*([\["])', data)
        if found:
            return found.group(1) == b"["
        if not piece:
            break
        kept = data[-4096:]
    return None
