"""Saved images made by hand, as engines write them: layers, docker save archives of both kinds, OCI layouts.

Also a root with an interpreter that is none: a program file with what driftcheck reads from one, and the standard
library's landmarks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# (name, content): bytes are a file, None a directory; or a TarInfo of any kind.
Entry = tuple[str, bytes | None] | tarfile.TarInfo

CONFIG = {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z"}


def layer(*entries: Entry, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - tarfile's own name
    """A tar archive of these entries, in their order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = entry
            member = tarfile.TarInfo(name)
            member.mode = 0o644
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return out.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.LNKTYPE, target)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config_of(layers: Iterable[bytes], **facts: Any) -> bytes:
    """An image's configuration file; ``facts`` are those of its ``config`` (``Env``, ``Cmd``, ...)."""
    return json.dumps(
        {**CONFIG, "config": facts, "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in layers]}}
    ).encode()


def docker_save(path: Path, layers: Sequence[bytes], tag: str = "svc:1.4", **facts: Any) -> Path:
    """What ``docker save`` wrote before version 25: manifest.json, a configuration and a directory for each layer."""
    config = config_of(layers, **facts)
    name = hashlib.sha256(config).hexdigest() + ".json"
    names = [f"{hashlib.sha256(one).hexdigest()}/layer.tar" for one in layers]
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": names}]).encode()
    files: dict[str, bytes] = {name: config, **dict(zip(names, layers, strict=True)), "manifest.json": manifest}
    path.write_bytes(layer(*files.items()))
    return path


def blobs(
    layers: Sequence[bytes], *, compress: Callable[[bytes], bytes] | None = None, kind: str = "", **facts: Any
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The blobs of one image as an OCI layout has them, by path, and the descriptor of its manifest."""
    found: dict[str, bytes] = {}

    def blob(data: bytes, media: str) -> dict[str, Any]:
        digest = sha256(data)
        found["blobs/" + digest.replace(":", "/")] = data
        return {"mediaType": media, "digest": digest, "size": len(data)}

    config = blob(config_of(layers, **facts), "application/vnd.oci.image.config.v1+json")
    media = f"application/vnd.oci.image.layer.v1.tar{kind}"
    stored = [blob(compress(one) if compress else one, media) for one in layers]
    manifest = {"schemaVersion": 2, "config": config, "layers": stored}
    return found, blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")


def index(*manifests: Mapping[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()


def oci_files(layers: Sequence[bytes], *, name: str = "docker.io/library/svc:1.4", **options: Any) -> dict[str, bytes]:
    """The files of an OCI layout with one image."""
    files, descriptor = blobs(layers, **options)
    descriptor["annotations"] = {"io.containerd.image.name": name}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index(descriptor), **files}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Lay files into a directory."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def zstandard(data: bytes) -> bytes:
    import zstandard as zstd  # noqa: PLC0415 - one test module needs it

    return zstd.ZstdCompressor().compress(data)


# --- a root with an interpreter


def elf(texts: Sequence[str] = (), loader: str = "/lib64/ld-linux-x86-64.so.2") -> bytes:
    """The header of an ELF program for x86-64 that names its loader (elf(5)), and texts as its read-only data."""
    name = loader.encode() + b"\0"
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    interpreter = struct.pack("<IIQQQQQQ", 3, 4, 120, 120, 120, len(name), len(name), 1)
    return head + interpreter + name + b"\0" + b"".join(text.encode() + b"\0" for text in texts)


def python_files(version: str = "3.11.4", prefix: str = "usr", *, debian: bool = False) -> dict[str, bytes]:
    """The landmarks of a CPython below a prefix: what getpath, site.py and sysconfig go by."""
    short = version.rpartition(".")[0]
    digits = short.replace(".", "")
    soabi = f"cpython-{digits}-x86_64-linux-gnu"
    variables = {"SOABI": soabi, "Py_ENABLE_SHARED": 0, "MULTIARCH": "x86_64-linux-gnu", "prefix": f"/{prefix}"}
    library = f"{prefix}/lib/python{short}"
    site = "# dist-packages of Debian\n" if debian else "# site-packages\n"
    return {
        f"{prefix}/bin/python{short}": elf([version, "PyInit_zlib", "PyInit_math", "PyInit__ssl", "3.2.0"]),
        f"{library}/os.py": b"",
        f"{library}/site.py": site.encode(),
        f"{library}/json/__init__.py": b"",
        f"{library}/venv/__init__.py": b"",
        f"{library}/_sysconfigdata__linux_x86_64-linux-gnu.py": f"build_time_vars = {variables!r}\n".encode(),
        f"{library}/lib-dynload/_bz2.{soabi}.so": elf(),
        "lib64/ld-linux-x86-64.so.2": elf(),
        "lib64/libc.so.6": elf(["GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36."]),
        "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home/worker:/bin/sh\n",
    }  # fmt: skip


def python_root(folder: Path, version: str = "3.11.4", prefix: str = "usr", *, debian: bool = False) -> Path:
    """Lay those files into a directory, with ``python3`` as a link to the program."""
    write(folder, python_files(version, prefix, debian=debian))
    program = folder / prefix / "bin" / f"python{version.rpartition('.')[0]}"
    program.chmod(0o755)
    for name in ("python3", "python"):
        (program.parent / name).symlink_to(program.name)
    return folder


def tree(folder: Path) -> bytes:
    """A layer of everything below a directory, modes and links as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(folder, ".")
    return out.getvalue()
