"""What is in a zip archive that holds a model: of torch.save, TorchScript, Keras, or NumPy arrays.

Source: torch/serialization.py and caffe2/serialize/inline_container.cc; keras/src/saving/saving_lib.py.
"""

import io
import json
import zipfile

from . import bounded, common, pickle_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, List, Optional, Tuple

# An honest archive of a model with 10,000 tensors has a directory of a megabyte.
DIRECTORY_LIMIT = 32 << 20
PICKLE_LIMIT = 64 << 20
TEXT_LIMIT = 1 << 20

_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"


def read(file: "IO[bytes]", size: "int", scan: "pickle_file.Scan") -> "Tuple[str, Dict[str, Any]]":
    """``(format, facts)`` of an archive; what its pickle refers to goes into ``scan``.

    Raises:
        Cut: where it has no directory at its end.
        Malformed, TooLong
    """
    _check_directory(file, size)
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
        return _read(archive, archive.namelist(), scan)
    except (bounded.Cut, bounded.Malformed, bounded.TooLong):
        raise
    except Exception as error:  # of zipfile, of struct, and of each decompressor its own (zlib.error)
        raise bounded.Malformed(common.describe(error)) from None


def _read(archive: "zipfile.ZipFile", names: "List[str]", scan: "pickle_file.Scan") -> "Tuple[str, Dict[str, Any]]":
    inside = {name.partition("/")[2]: name for name in reversed(names) if "/" in name}
    if "data.pkl" in inside:
        scripted = "constants.pkl" in inside or any(name.startswith("code/") for name in inside)
        facts = {
            "version": _line(archive, inside.get("version")),
            "byteorder": _line(archive, inside.get("byteorder")),
            "storages": sum(1 for name in inside if name.startswith("data/") and name != "data/"),
        }  # type: Dict[str, Any]
        data = _bytes(archive, inside["data.pkl"], PICKLE_LIMIT)
        pickle_file.scan(bounded.Reader(io.BytesIO(data), len(data)), scan)
        return "torchscript" if scripted else "torch", facts
    if "metadata.json" in names and "config.json" in names:
        return "keras", {"version": _keras_version(_bytes(archive, "metadata.json", TEXT_LIMIT))}
    if names and all(name.endswith(".npy") for name in names):
        return "npz", {}
    return "zip", {}


def _check_directory(file: "IO[bytes]", size: "int") -> "None":
    """Before zipfile reads the whole directory into memory: that there is one, and how long it says it is."""
    length = min(size, (1 << 16) + 22 + 76)
    file.seek(size - length)
    tail = file.read(length)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise bounded.Cut("an archive without the directory that stands at its end")
    long = int.from_bytes(tail[at + 12 : at + 16], "little")
    if long == 0xFFFFFFFF:
        at = tail.rfind(_END_64)
        if at < 0 or len(tail) - at < 56:
            raise bounded.Malformed("an archive whose directory cannot be found")
        long = int.from_bytes(tail[at + 40 : at + 48], "little")
    if long > DIRECTORY_LIMIT:
        raise bounded.TooLong("an archive with a directory of %d MB" % (long >> 20))


def _bytes(archive: "zipfile.ZipFile", name: "str", limit: "int") -> "bytes":
    """Of one member, whatever it says of its size."""
    with archive.open(name) as member:
        data = member.read(limit + 1)
    if len(data) > limit:
        raise bounded.TooLong("%s unpacks to more than %d MB" % (bounded.printable(name, 60), limit >> 20))
    return data


def _line(archive: "zipfile.ZipFile", name: "Optional[str]") -> "Optional[str]":
    if name is None:
        return None
    return bounded.printable(_bytes(archive, name, TEXT_LIMIT).decode("utf-8", "replace").strip(), 40)


def _keras_version(data: "bytes") -> "Optional[str]":
    try:
        metadata = json.loads(data.decode("utf-8"), parse_int=bounded.small_integer)
    except (ValueError, RecursionError):
        raise bounded.Malformed("its metadata.json is no JSON") from None
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return bounded.printable(version, 40) if version is not None else None
