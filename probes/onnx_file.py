"""What an ONNX model demands: its IR version, its operator sets and its external data. The protobuf is walked by hand.

Source: onnx/onnx.proto (message ModelProto and what it holds) and the encoding of protocol buffers.
"""

import io
import os

from . import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

    from .bounded import Reader
    from .common import Place

# Fields of ModelProto.
IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, GRAPH, OPSET_IMPORT, FUNCTIONS = 1, 2, 3, 7, 8, 25

# Messages up to this size are read as a whole; larger ones hold weights and are walked in the file.
WHOLE_LIMIT = 1 << 16
FIELD_LIMIT = 3000000
DEPTH_LIMIT = 16
LOCATION_LIMIT = 200
DOMAIN_LIMIT = 100

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Model:
    """What the walk found."""

    def __init__(self) -> "None":
        self.ir_version = None  # type: Optional[int]
        self.producer = ""
        self.producer_version = ""
        self.opsets = {}  # type: Dict[str, int]
        self.domains = {}  # type: Dict[str, bool]
        self.functions = {}  # type: Dict[str, bool]
        self.external = {}  # type: Dict[str, int]
        self.operators = 0
        self.graph = False
        self.fields = 0


def looks_like(head: "bytes") -> "bool":
    """Whether a file begins as a ModelProto does that onnx writes: field 1, the IR version, below 128."""
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] < 128 and head[2] in (0x12, 0x1A, 0x22, 0x28, 0x3A, 0x42)


def read(reader: "Reader", found: "Model") -> "None":
    """Walk a model.

    Raises:
        Cut, Malformed, TooLong: what was found so far stands in ``found``.
    """
    for number, value in _fields(reader, reader.size, found):
        if number == IR_VERSION and isinstance(value, int):
            found.ir_version = value
        elif number == PRODUCER_NAME and not isinstance(value, int):
            found.producer = _text(reader, value)
        elif number == PRODUCER_VERSION and not isinstance(value, int):
            found.producer_version = _text(reader, value)
        elif number == OPSET_IMPORT and not isinstance(value, int):
            _opset(reader, value, found)
        elif number == GRAPH and not isinstance(value, int):
            found.graph = True
            _message(reader, value, found, _GRAPH, 0)
        elif number == FUNCTIONS and not isinstance(value, int):
            _message(reader, value, found, _FUNCTION, 0)


def facts(found: "Model", place: "Place", directory: "str") -> "Dict[str, Any]":
    """The facts of a model that lies in ``directory``."""
    external = {}
    for location, needed in found.external.items():
        external[location] = {"needed": needed, "size": _size(place, directory, location)}
    result = {
        "ir_version": found.ir_version,
        "producer": " ".join(text for text in (found.producer, found.producer_version) if text),
        "opsets": {name or "ai.onnx": version for name, version in found.opsets.items()},
        "domains": {name or "ai.onnx": True for name in found.domains},
    }  # type: Dict[str, Any]
    if found.functions:
        result["function_domains"] = {name or "ai.onnx": True for name in found.functions}
    if external:
        result["external_data"] = external
    return result


def _size(place: "Place", directory: "str", location: "str") -> "Optional[int]":
    """Of the file that holds external data; None where it is none. Nothing outside of the directory is looked at."""
    parts = location.split("/")
    if location.startswith(("/", "\\")) or ".." in parts or "\0" in location:
        return None
    try:
        path = place.real(directory.rstrip("/") + "/" + location)
        return os.stat(path).st_size if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None


# What is walked into: by the number of the field, the fields of the message that it holds.
_TENSOR = {}  # type: Dict[int, Any]
_SPARSE = {1: _TENSOR, 2: _TENSOR}  # type: Dict[int, Any]
_GRAPH = {}  # type: Dict[int, Any]
_ATTRIBUTE = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}  # type: Dict[int, Any]
_NODE = {5: _ATTRIBUTE}  # type: Dict[int, Any]
_GRAPH.update({1: _NODE, 5: _TENSOR, 15: _SPARSE})
_FUNCTION = {7: _NODE}  # type: Dict[int, Any]


def _message(reader: "Reader", length: "_Length", found: "Model", kind: "Dict[int, Any]", depth: "int") -> "None":
    if depth > DEPTH_LIMIT:
        raise bounded.TooLong("graphs nested too deeply")
    inner, end = _inside(reader, length)
    location, external, offset, size = "", False, 0, 0
    domain, operator = "", False
    for number, value in _fields(inner, end, found):
        if isinstance(value, int):
            external = external or (kind is _TENSOR and number == 14 and value == 1)
            continue
        if kind is _TENSOR and number == 13:
            key, text = _entry(inner, value, found)
            if key == "location":
                location = text
            elif key == "offset":
                offset = _number(text)
            elif key == "length":
                size = _number(text)
        elif kind is _NODE and number == 4:
            operator = True
        elif kind is _NODE and number == 7:
            domain = _text(inner, value)
        elif kind is _FUNCTION and number == 10 and len(found.functions) < DOMAIN_LIMIT:
            found.functions[_text(inner, value)] = True
        elif kind.get(number) is not None:
            _message(inner, value, found, kind[number], depth + 1)
    if operator:
        found.operators += 1
        if len(found.domains) < DOMAIN_LIMIT:
            found.domains[domain] = True
    if external and location and (location in found.external or len(found.external) < LOCATION_LIMIT):
        found.external[location] = max(found.external.get(location, 0), offset + size)


def _opset(reader: "Reader", length: "_Length", found: "Model") -> "None":
    inner, end = _inside(reader, length)
    domain, version = "", 0
    for number, value in _fields(inner, end, found):
        if number == 1 and not isinstance(value, int):
            domain = _text(inner, value)
        elif number == 2 and isinstance(value, int):
            version = value
    if len(found.opsets) < DOMAIN_LIMIT:
        found.opsets[domain] = version


def _entry(reader: "Reader", length: "_Length", found: "Model") -> "Tuple[str, str]":
    inner, end = _inside(reader, length)
    texts = {1: "", 2: ""}
    for number, value in _fields(inner, end, found):
        if number in texts and not isinstance(value, int):
            texts[number] = _text(inner, value, 1000)
    return texts[1], texts[2]


def _number(text: "str") -> "int":
    return int(text) if text.isdecimal() and len(text) < 20 else 0


class _Length:
    """A field of this many bytes, at which the reader stands; whoever walks the fields skips what is left of it."""

    __slots__ = ("bytes", "start")

    def __init__(self, start: "int", count: "int") -> "None":
        self.start = start
        self.bytes = count


def _inside(reader: "Reader", length: "Any") -> "Tuple[Reader, int]":
    """A reader for the inside of a field, and where it ends."""
    if length.bytes <= WHOLE_LIMIT:
        data = reader.read(length.bytes)
        return bounded.Reader(io.BytesIO(data), len(data)), len(data)
    return reader, length.start + length.bytes


def _text(reader: "Reader", length: "Any", limit: "int" = 200) -> "str":
    return bounded.printable(reader.read(min(length.bytes, limit * 4)).decode("utf-8", "replace"), limit)


def _fields(reader: "Reader", end: "Optional[int]", found: "Model") -> "Iterator[Tuple[int, Any]]":
    """The fields of a message: number, and its value, or a ``_Length`` for what has one."""
    while end is None or reader.position < end:
        found.fields += 1
        if found.fields > FIELD_LIMIT:
            raise bounded.TooLong("only the first %d of its fields are read" % FIELD_LIMIT)
        tag = _varint(reader)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise bounded.Malformed("a field without number")
        if kind == _VARINT:
            yield number, _varint(reader)
        elif kind == _BYTES:
            length = _Length(0, _varint(reader))
            length.start = reader.position
            left = (reader.size if end is None else end) or 0
            if length.bytes > left - reader.position:
                raise bounded.Cut("%d bytes are announced where %d are left" % (length.bytes, left - reader.position))
            yield number, length
            reader.skip(length.start + length.bytes - reader.position)
        elif kind in (_FIXED64, _FIXED32):
            reader.skip(8 if kind == _FIXED64 else 4)
        else:
            raise bounded.Malformed("a field of no kind")


def _varint(reader: "Reader") -> "int":
    result = 0
    for shift in range(0, 70, 7):
        byte = reader.read(1)[0]
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result
    raise bounded.Malformed("a number without end")
