"""Model files made by hand, as small as they can be: ONNX, safetensors, GGUF, archives of torch.save."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any


def varint(value: int) -> bytes:
    """An integer in the encoding of protocol buffers."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer message: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx(
    ir: int = 8,
    opsets: Mapping[str, int] | None = None,
    domains: Sequence[str] = ("",),
    external: Mapping[str, tuple[int, int]] | None = None,
    weights: bytes = b"",
    functions: Sequence[str] = (),
) -> bytes:
    """A ModelProto. ``external`` is ``{location: (offset, length)}``; ``functions`` are domains that it defines."""
    graph = b"".join(field(1, field(4, "Add") + (field(7, domain) if domain else b"")) for domain in domains)
    for location, (offset, length) in (external or {}).items():
        entries = {"location": location, "offset": str(offset), "length": str(length)}
        tensor = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
        graph += field(5, field(8, "w") + tensor + field(14, 1))
    if weights:
        graph += field(5, field(8, "w") + field(9, weights))
    model = field(1, ir) + field(2, "tests") + field(3, "1.0") + field(7, graph)
    for domain, version in (opsets or {"": 17}).items():
        model += field(8, field(1, domain) + field(2, version))
    for domain in functions:
        model += field(25, field(1, "f") + field(7, field(4, "Add")) + field(10, domain))
    return model


def safetensors(header: Mapping[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(kind: str, *offsets: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": [offsets[1] - offsets[0]], "data_offsets": list(offsets)}


def gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(data: bytes, *, values: int = 2, tensors: int = 1, kind: int = 0, version: int = 3) -> bytes:
    """A GGUF file with one tensor of eight numbers of the type ``kind``, and these bytes in its data."""
    out = b"GGUF" + struct.pack("<IQQ", version, tensors, values)
    out += gguf_text("general.architecture") + struct.pack("<I", 8) + gguf_text("llama")
    out += gguf_text("tokens") + struct.pack("<IIQ", 9, 8, 2) + gguf_text("a") + gguf_text("b")
    out += gguf_text("w") + struct.pack("<IQIQ", 1, 8, kind, 0)
    return out + bytes(-len(out) % 32) + data


def archive(members: Mapping[str, bytes]) -> bytes:
    """A zip archive as torch.save writes it: nothing compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def torch_archive(data: bytes, **members: bytes) -> bytes:
    """The members of ``torch.save``: ``data`` is the pickle."""
    return archive({"m/data.pkl": data, "m/version": b"3\n", "m/byteorder": b"little", "m/data/0": b"\0" * 8} | members)
