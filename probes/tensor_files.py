"""The headers of safetensors and GGUF files: what they hold, and how long the file has to be.

Source: https://huggingface.co/docs/safetensors (format), https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and
the block sizes in ggml/src/ggml.c (type_traits).
"""

import json

from . import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .bounded import Reader

# The safetensors library refuses headers above 100 MB; one of a model with 10,000 tensors has 1 MB.
HEADER_LIMIT = 16 << 20
TENSOR_LIMIT = 1000000
STEP_LIMIT = 4000000

GGUF_MAGIC = b"GGUF"

# ggml_type: (values in a block, bytes of a block).
GGML_TYPES = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    9: (32, 36),  # Q8_1
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    29: (256, 56),  # IQ1_M
    30: (1, 2),  # BF16
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
}

# Of a GGUF value: the notation of struct, by its type.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_SIZES = {"B": 1, "b": 1, "H": 2, "h": 2, "I": 4, "i": 4, "f": 4, "Q": 8, "q": 8, "d": 8}
_TEXT, _ARRAY = 8, 9


def safetensors(reader: "Reader") -> "Dict[str, Any]":
    """The facts of a safetensors file; ``needed`` is the size that its header states.

    Raises:
        Cut, Malformed, TooLong
    """
    length = reader.number("<Q")
    if length > 100000000:
        raise bounded.Malformed("a header of %d bytes" % length)
    if length > HEADER_LIMIT:
        raise bounded.TooLong("a header of %d MB is not read" % (length >> 20))
    try:
        header = json.loads(reader.read(length).decode("utf-8"), parse_int=bounded.small_integer)
    except (ValueError, RecursionError) as error:
        raise bounded.Malformed("its header is no JSON: %s" % str(error)[:100]) from None
    if not isinstance(header, dict):
        raise bounded.Malformed("its header is no object")
    metadata = header.pop("__metadata__", None)
    types = {}  # type: Dict[str, int]
    end = 0
    for name, tensor in header.items():
        offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(one, int) for one in offsets)):
            raise bounded.Malformed("the tensor %s has no place" % bounded.printable(name, 60))
        kind = bounded.printable(tensor.get("dtype"), 20)
        if kind in types or len(types) < 100:
            types[kind] = types.get(kind, 0) + 1
        end = max(end, offsets[1])
    written_for = metadata.get("format") if isinstance(metadata, dict) else None
    return {
        "tensors": len(header),
        "types": types,
        "needed": 8 + length + end,
        "format": bounded.printable(written_for, 40) if written_for is not None else None,
    }


def gguf(reader: "Reader") -> "Dict[str, Any]":
    """The facts of a GGUF file; ``needed`` is the size that its header states, None where it cannot be told.

    Raises:
        Cut, Malformed, TooLong
    """
    return _Gguf(reader).read()


class _Gguf:
    def __init__(self, reader: "Reader") -> "None":
        self.reader = reader
        self.order = "<"
        self.long = "Q"
        self.steps = 0

    def read(self) -> "Dict[str, Any]":
        reader = self.reader
        if reader.read(4) != GGUF_MAGIC:
            raise bounded.Malformed("no GGUF file")
        raw = reader.read(4)
        version = int.from_bytes(raw, "little")
        if version > 0xFFFF:
            self.order = ">"
            version = int.from_bytes(raw, "big")
        self.long = "I" if version == 1 else "Q"
        tensors, pairs = self.number(self.long), self.number(self.long)
        if max(tensors, pairs) > TENSOR_LIMIT:
            raise bounded.Malformed("%d tensors and %d values" % (tensors, pairs))
        facts = {
            "version": version,
            "byteorder": "little" if self.order == "<" else "big",
            "tensors": tensors,
            "values": pairs,
        }  # type: Dict[str, Any]
        alignment = 32
        for _ in range(pairs):
            key = self.text()
            kind = self.number("I")
            value = self.value(kind)
            if key == "general.architecture" and isinstance(value, str):
                facts["architecture"] = value
            elif key == "general.file_type" and isinstance(value, int):
                facts["file_type"] = value
            elif key == "general.alignment" and isinstance(value, int) and value > 0:
                alignment = value
        facts["needed"] = self.end(tensors, alignment)
        return facts

    def end(self, tensors: "int", alignment: "int") -> "Optional[int]":
        end = 0  # type: Optional[int]
        for _ in range(tensors):
            self.text()
            dimensions = self.number("I")
            if dimensions > 8:
                raise bounded.Malformed("a tensor of %d dimensions" % dimensions)
            count = 1
            for _ in range(dimensions):
                count *= self.number(self.long)
            block = GGML_TYPES.get(self.number("I"))
            offset = self.number("Q")
            end = None if block is None or end is None else max(end, offset + count // block[0] * block[1])
        if end is None:
            return None
        start = self.reader.position
        return start + (-start % alignment) + end if tensors else start

    def number(self, form: "str") -> "int":
        self.steps += 1
        if self.steps > STEP_LIMIT:
            raise bounded.TooLong("only the first %d of its values are read" % STEP_LIMIT)
        return self.reader.number(self.order + form)

    def text(self) -> "str":
        length = self.number(self.long)
        data = self.reader.read(min(length, 1000))
        self.reader.skip(length - len(data))
        return bounded.printable(data.decode("utf-8", "replace"))

    def value(self, kind: "int", depth: "int" = 0) -> "Any":
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            if depth > 4:
                raise bounded.Malformed("arrays nested too deeply")
            inner, count = self.number("I"), self.number(self.long)
            form = _SCALARS.get(inner)
            if form is not None:
                self.reader.skip(count * _SIZES[form])
                return None
            for _ in range(count):
                self.value(inner, depth + 1)
            return None
        form = _SCALARS.get(kind)
        if form is None:
            raise bounded.Malformed("a value of the type %d" % kind)
        if form in "fd":
            self.reader.skip(_SIZES[form])
            return None
        return self.number(form)
