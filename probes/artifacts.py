"""Section ``artifacts``: the model files that the user names, and what each of them demands. Read, never unpickled.

A model file is a part of the runtime: it states the operator set that it was exported for, or the versions that
pickled it.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import hashlib
import os
import time

from . import bounded, common, model_headers, module_files, onnx_file, pickle_file, tensor_files, torch_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Tuple

    from .common import Place

LAYER = "image"

# A directory stands for the files below it: so many are read, and so many entries are looked at to count the others.
FILE_LIMIT = 500
ENTRY_LIMIT = 100000
DEPTH_LIMIT = 6

# Files up to this size have a digest of all of their bytes, as long as no more than the total is read. What is larger
# has one of its size, its two ends and pieces between them; files from the middle on have both, so that one that was
# read to its end can be compared with one that was not.
WHOLE_LIMIT = 2 << 30
TOTAL_LIMIT = 8 << 30
BOTH_FROM = 64 << 20
# What all files together may take, to their last one; a hostile one alone takes up to 15 s.
SECONDS = 60.0
ENDS = 8 << 20
PIECE = 1 << 16
PIECES = 64

COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x78\x01", "zlib"),
    (b"\x78\x5e", "zlib"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
)
PICKLES = (".pkl", ".pickle", ".joblib", ".sav", ".pt", ".pth", ".bin", ".ckpt")


def measure(place: "Place") -> "Dict[str, Any]":
    """``{"files": {path as it was given: record, or null where there is none}}``; see ``schemas/sections``.

    Raises:
        Absent: where nothing was asked for.
    """
    names = place.options.get("artifacts") or []
    if not names:
        raise common.Absent("nothing was asked for: name model files with --artifact")
    return {"files": _Files(place).measure([str(name) for name in names])}


class _Files:
    def __init__(self, place: "Place") -> "None":
        self.place = place
        self.directory = place.options.get("directory") or (_working_directory() if place.live else "/")
        self.modules = module_files.ModuleFiles(place, place.search_path + [self.directory])
        self.ends = time.time() + SECONDS
        self.left = TOTAL_LIMIT
        self.entries = 0

    def measure(self, names: "List[str]") -> "Dict[str, Any]":
        files = {}  # type: Dict[str, Any]
        for name in names:
            path = self.path(name)
            if not self.place.is_dir(path):
                files[name] = self.file(name, path)
                continue
            self.directory_of(name, path, files)
        return files

    def directory_of(self, name: "str", path: "str", files: "Dict[str, Any]") -> "None":
        """Read the files below a directory; what is left out of them is one problem."""
        read = 0
        left_out = []
        for inside in self.below(path, 0):
            key = name.rstrip("/") + inside
            if len(files) >= FILE_LIMIT or self.late():
                left_out.append(key)
            else:
                read += 1
                files[key] = self.file(key, path.rstrip("/") + inside)
        if left_out:
            which = "%d files were read, and %d more were not, from %s on" % (read, len(left_out), left_out[0])
            self.place.problem(name, "%s: %s" % (which, "there was no time" if self.late() else "these are the most"))
        elif not read and self.entries <= ENTRY_LIMIT:
            self.place.problem(name, "a directory without files")
        if self.entries > ENTRY_LIMIT:
            self.place.problem(name, "more than %d entries; the rest was not looked at" % ENTRY_LIMIT)

    def late(self) -> "bool":
        return time.time() > self.ends

    def path(self, name: "str") -> "str":
        """The absolute path that a name given by the user means over there."""
        if name == "~" or name.startswith("~/"):
            name = self.place.environ.get("HOME", "/") + name[1:]
        if os.name != "posix":
            return os.path.join(self.directory, name)
        return name if name.startswith("/") else self.directory.rstrip("/") + "/" + name

    def below(self, folder: "str", depth: "int") -> "Iterator[str]":
        """Files below a directory, sorted, each as ``/name``; hidden ones and linked directories are left out."""
        for name in self.place.list_dir(folder):
            self.entries += 1
            if self.entries > ENTRY_LIMIT:
                return
            path = folder.rstrip("/") + "/" + name
            if name.startswith("."):
                continue
            if not self.place.is_dir(path):
                yield "/" + name
            elif os.path.islink(os.path.join(self.place.real(folder), name)):
                continue
            elif depth >= DEPTH_LIMIT:
                self.place.problem(path, "too deep; not read")
            else:
                for inside in self.below(path, depth + 1):
                    yield "/" + name + inside

    def file(self, name: "str", path: "str") -> "Optional[Dict[str, Any]]":
        if self.late():
            self.place.problem(name, "not read: there was no time")
            return {"format": "unreadable"}
        try:
            file = bounded.open_regular(self.place.real(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self.place.problem(name, common.describe(error))
            return {"format": "unreadable"}
        with file:
            try:
                size = os.fstat(file.fileno()).st_size
                record = {"size": size}  # type: Dict[str, Any]
                record.update(self.digests(name, file, size))
                record.update(self.content(name, path, file, size))
            except OSError as error:  # a disk that fails, a file that shrinks
                self.place.problem(name, common.describe(error))
                return {"format": "unreadable"}
        return record

    def digests(self, name: "str", file: "IO[bytes]", size: "int") -> "Dict[str, str]":
        found = {}
        if size >= BOTH_FROM:
            found["sampled_digest"] = "sha256:" + _sampled(file, size)
        if size > WHOLE_LIMIT or size > self.left:
            return found
        self.left -= size
        file.seek(0)
        digest = hashlib.sha256()
        while True:
            piece = file.read(1 << 20)
            if not piece:
                break
            digest.update(piece)
            if time.time() > self.ends:
                self.place.problem(name, "no time to read all of it")
                return found
        found["digest"] = "sha256:" + digest.hexdigest()
        return found

    def content(self, name: "str", path: "str", file: "IO[bytes]", size: "int") -> "Dict[str, Any]":
        """``format`` and the facts of the format, under its name; ``cut`` where the file is shorter than it says."""
        file.seek(0)
        head = file.read(1024)
        file.seek(0)
        if not head:
            return {"format": "empty"}
        known = model_headers.by_head(head)
        if known is not None:
            return _record(*known)
        reader = bounded.Reader(file, size)
        ending = os.path.splitext(path)[1].lower()
        if head.startswith(tensor_files.GGUF_MAGIC):
            return self.tensors(name, "gguf", tensor_files.gguf, file, size)
        if ending == ".safetensors" or (head[8:10] in (b'{"', b"{}") and head[6:8] == b"\0\0"):
            return self.tensors(name, "safetensors", tensor_files.safetensors, file, size)
        if head.startswith(b"PK\x03\x04"):
            return self.archive(name, file, size)
        compression = next((what for magic, what in COMPRESSIONS if head.startswith(magic)), None)
        if compression is not None:
            return self.compressed(name, file, compression)
        # From protocol 2 on a pickle says that it is one; older ones begin with what they hold.
        stated = head[:1] == b"\x80" and b"\x02" <= head[1:2] <= b"\x09"
        if stated or (ending in PICKLES and head[:1] in (b"(", b"}", b"]", b"c")):
            return self.pickle(name, reader, None)
        if head.lstrip()[:1] == b"{" or ending == ".json":
            record = {"format": "json"}
            found = self.guarded(name, record, lambda: model_headers.text(file, size, path.rpartition("/")[2]))
            return self.configured(found) if found else record if "malformed" in record else {"format": "unknown"}
        if onnx_file.looks_like(head) or ending == ".onnx":
            return self.onnx(name, path, reader)
        return {"format": "unknown"}

    def guarded(self, name: "str", record: "Dict[str, Any]", work: "Callable[[], Any]") -> "Any":
        """Do it; what the file is told to have and has not, or cannot be understood, goes into record and problems."""
        try:
            return work()
        except bounded.Cut as error:
            record["cut"] = str(error)
        except bounded.TooLong as error:
            self.place.problem(name, str(error))
        except bounded.Malformed as error:
            record["malformed"] = str(error)
        return None

    def tensors(
        self,
        name: "str",
        form: "str",
        read: "Callable[[bounded.Reader], Dict[str, Any]]",
        file: "IO[bytes]",
        size: "int",
    ) -> "Dict[str, Any]":
        record = {"format": form}  # type: Dict[str, Any]
        facts = self.guarded(name, record, lambda: read(bounded.Reader(file, size)))
        if facts is not None:
            record[form] = facts
            needed = facts["needed"]
            if needed is not None and needed > size:
                record["cut"] = "its header announces %d bytes, and it has %d" % (needed, size)
        return record

    def onnx(self, name: "str", path: "str", reader: "bounded.Reader") -> "Dict[str, Any]":
        found = onnx_file.Model()
        record = {"format": "onnx"}  # type: Dict[str, Any]
        self.guarded(name, record, lambda: onnx_file.read(reader, found))
        # Whatever begins like one and goes on otherwise is none, unless it is named like one.
        if found.ir_version is None or not (found.graph or found.opsets or path.endswith(".onnx")):
            return {"format": "unknown"}
        record["onnx"] = onnx_file.facts(found, self.place, path.rpartition("/")[0] or "/")
        return record

    def archive(self, name: "str", file: "IO[bytes]", size: "int") -> "Dict[str, Any]":
        scan = pickle_file.Scan()
        record = {"format": "zip"}  # type: Dict[str, Any]
        found = self.guarded(name, record, lambda: torch_file.read(file, size, scan))
        if found is not None:
            record.update(_record(*found))
        if scan.globals or scan.protocol:
            # TorchScript brings the code of its classes along.
            record["pickle"] = self.references(scan, resolve=record["format"] != "torchscript")
        return record

    def pickle(self, name: "str", reader: "bounded.Reader", compression: "Optional[str]") -> "Dict[str, Any]":
        scan = pickle_file.Scan()
        record = {"format": "pickle"}  # type: Dict[str, Any]
        value = self.guarded(name, record, lambda: pickle_file.scan(reader, scan))
        if value == pickle_file.TORCH_MAGIC:
            record["format"] = "torch-legacy"
            # Behind the magic number: the protocol, facts of the system, and what was saved.
            for _ in range(3):
                if not {"cut", "malformed"} & set(record):
                    self.guarded(name, record, lambda: pickle_file.scan(reader, scan))
        elif scan.arrays:
            record["format"] = "joblib"
        if compression is not None:
            record["compression"] = compression
        record["pickle"] = self.references(scan)
        return record

    def compressed(self, name: "str", file: "IO[bytes]", compression: "str") -> "Dict[str, Any]":
        """As joblib.dump(compress=...) writes: a pickle inside of a compressed stream."""
        record = {"format": "compressed", "compression": compression}
        try:
            stream = _decompressor(file, compression)
        except ImportError:
            self.place.problem(name, "the interpreter that reads it cannot unpack %s" % compression)
            return record
        if stream is None:
            return record
        try:
            if stream.read(1) != b"\x80":
                return record
            file.seek(0)
            reader = bounded.Reader(_decompressor(file, compression))
            return self.pickle(name, reader, compression)
        except EOFError:
            record["cut"] = "its compressed stream has no end"
        except (OSError, ValueError, bounded.Malformed) as error:
            record["malformed"] = common.describe(error)
        except Exception as error:
            if type(error).__name__ not in ("error", "LZMAError"):  # zlib.error, lzma.LZMAError
                raise
            record["malformed"] = common.describe(error)
        return record

    def references(self, scan: "pickle_file.Scan", resolve: "bool" = True) -> "Dict[str, Any]":
        """The facts of a pickle."""
        names = {}  # type: Dict[str, Dict[str, int]]
        missing = {}  # type: Dict[str, str]
        for (module, name), position in scan.globals.items():
            module = bounded.printable(module)
            if module not in names:
                names[module] = {}
                gap = self.modules.missing(module) if resolve else None
                if gap is not None:
                    missing[module] = gap
            names[module][bounded.printable(name)] = position
        facts = {"protocol": scan.protocol, "globals": names}  # type: Dict[str, Any]
        lacking = {}  # type: Dict[str, Dict[str, str]]
        for module in names if resolve else ():
            if module not in missing and len(lacking) < 100:
                found = self.modules.lacks(module, names[module])
                if found:
                    lacking[module] = found
        if lacking:
            facts["missing_names"] = lacking
        if missing:
            facts["missing_modules"] = missing
        if scan.hidden:
            facts["hidden_names"] = scan.hidden
        if scan.estimators:
            versions = {}  # type: Dict[str, Dict[str, int]]
            for (name, version), position in scan.estimators.items():
                versions.setdefault(bounded.printable(version, 40), {})[bounded.printable(name)] = position
            facts["scikit_learn"] = versions
        if scan.generators:
            facts["generators"] = {bounded.printable(name): place for name, place in scan.generators.items()}
        if scan.tree_fields:
            facts["tree_fields"] = dict(scan.tree_fields)
        return facts

    def configured(self, found: "Tuple[str, Dict[str, Any]]") -> "Dict[str, Any]":
        """A configuration of transformers says of which kind its model is; the installed one knows it or not."""
        form, facts = found
        if form == "transformers-config" and facts["model_type"]:
            facts["known"] = self.knows(facts["model_type"])
        return _record(form, facts)

    def knows(self, kind: "str") -> "Optional[bool]":
        """Whether the transformers on the search path names this kind of model in its own tables; None without it."""
        for folder in self.place.search_path:
            auto = folder.rstrip("/") + "/transformers/models/auto"
            if not self.place.is_dir(auto):
                continue
            quoted = ('"%s"' % kind, "'%s'" % kind)
            for name in self.place.list_dir(auto):
                if name.endswith(".py"):
                    text = self.place.read_text(auto + "/" + name, 4 << 20) or ""
                    if any(one in text for one in quoted):
                        return True
            return False
        return None


def _record(form: "str", facts: "Dict[str, Any]") -> "Dict[str, Any]":
    """``{"format": "torch", "torch": facts}``; formats of one family share the name of their facts."""
    name = {"torchscript": "torch", "xgboost-json": "xgboost", "xgboost-ubjson": "xgboost"}.get(form, form)
    return dict({"format": form}, **({name.replace("-", "_"): facts} if facts else {}))


def _working_directory() -> "str":
    try:
        return os.getcwd()
    except OSError:
        return "/"


def _sampled(file: "IO[bytes]", size: "int") -> "str":
    """SHA-256 over the size, both ends of the file and pieces between them, in hexadecimal digits."""
    digest = hashlib.sha256(b"%d\n" % size)
    step = max(1, (size - 2 * ENDS) // PIECES)
    places = [(0, ENDS)] + [(ENDS + index * step, PIECE) for index in range(PIECES)] + [(size - ENDS, ENDS)]
    for start, length in places:
        file.seek(max(0, start))
        digest.update(file.read(length))
    return digest.hexdigest()


def _decompressor(file: "IO[bytes]", compression: "str") -> "Any":
    """A file that unpacks; None for what the standard library does not know. Raises ImportError."""
    if compression == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")
    if compression == "bz2":
        import bz2

        return bz2.BZ2File(file)
    if compression in ("xz", "lzma"):
        import lzma

        return lzma.LZMAFile(file)
    if compression == "zlib":
        return _Zlib(file)
    return None


class _Zlib:
    """A zlib stream as a file that can be read forward, in little memory."""

    def __init__(self, file: "IO[bytes]") -> "None":
        import zlib

        self._file = file
        self._unpacker = zlib.decompressobj()
        self._data = b""
        self._at = 0

    def read(self, count: "int") -> "bytes":
        while len(self._data) - self._at < count and self._more(max(count, 1 << 16)):
            pass
        data = self._data[self._at : self._at + count]
        self._at += len(data)
        return data

    def readline(self, limit: "int") -> "bytes":
        while True:
            end = self._data.find(b"\n", self._at, self._at + limit)
            if end >= 0 or len(self._data) - self._at >= limit or not self._more(1 << 16):
                return self.read(end + 1 - self._at if end >= 0 else limit)

    def _more(self, count: "int") -> "bool":
        packed = self._unpacker.unconsumed_tail or self._file.read(1 << 16)
        if not packed or self._unpacker.eof:
            if not self._unpacker.eof:
                raise EOFError
            return False
        self._data = self._data[self._at :] + self._unpacker.decompress(packed, count)
        self._at = 0
        return True
