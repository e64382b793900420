"""Unpacks the files of an image into a private directory, where nothing that an archive says can do harm.

The tree is kept in memory as it grows, and the disk follows it: every directory on the way to a file was made by us
and is none of the archive's links, because links are made last. So no name, link or hard link leads out, whatever
their order. Modes are kept as far as they decide what can be executed; owners, devices, FIFOs, times and extended
attributes are not: nothing that is measured reads them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from driftcheck import interrupts
from driftcheck.environments.tar import PIECE, Member, Readable, Reader
from driftcheck.errors import InputError

# The scratch directory says whose it is, so that one which SIGKILL left is found by the next run.
PREFIX = "driftcheck-files-"
_LOCK = "lock"

# Container engines mark what a layer removes (OCI image specification, layer.md, "Whiteouts").
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_ENGINES_OWN = ".wh..wh."  # bookkeeping of an old storage driver

# As in Linux's own path walk (ELOOP), and what its longest path could hold.
_LINK_LIMIT = 40
_DEPTH_LIMIT = 200


@dataclass(frozen=True)
class Limits:
    """What one image may make of us.

    ``entries``  files, directories and links over all layers (the largest images known hold 500,000)
    ``written``  bytes on the disk
    ``whole``    a larger file keeps its size, its first megabyte, and holes behind that; but ELF files and SQLite
                 databases, which probes read further, are kept whole. Models inside of images are what is meant.
    """

    entries: int = 3_000_000
    written: int = 32 << 30
    whole: int = 64 << 20


# Probes read these beyond their beginning.
_READ_WHOLE = (b"\x7fELF", b"SQLite format 3\0")
# A file of rpm's database or of locale names, an archive of modules: read anywhere, and by no magic number.
_READ_WHOLE_NAMES = ("var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/lib/locale/", ".zip", ".json", ".txt")

_ZEROS = bytes(PIECE)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A new directory that only this user may enter, removed at the end, however that comes (but by SIGKILL).

    Raises:
        InputError: when there is no room for one, or the disk fills up while it is used.
    """
    remove_abandoned()
    folder: Path | None = None
    lock = -1
    with interrupts.as_exceptions():
        try:
            try:
                with interrupts.held_back():
                    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
                    lock = _locked(folder / _LOCK, create=True)
                (folder / "root").mkdir(mode=0o700)
            except OSError as error:
                raise InputError(tempfile.gettempdir(), f"no room for files: {error.strerror}", _ROOM) from error
            yield folder / "root"
        finally:
            with interrupts.held_back():
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                if lock >= 0:
                    os.close(lock)


_ROOM = "Name another directory with TMPDIR"


def remove_abandoned() -> None:
    """Remove what a run left that was ended by SIGKILL: directories of ours that no process holds."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
            status = folder.lstat()
            if folder.is_symlink() or not hasattr(os, "getuid") or status.st_uid != os.getuid():
                continue
            lock = -1
            with contextlib.suppress(OSError):
                lock = _locked(folder / _LOCK)
            if lock >= 0:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked(path: Path, *, create: bool = False) -> int:
    """A handle with the lock of a scratch directory. Raises OSError when another process has it."""
    handle = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
    try:
        import fcntl  # noqa: PLC0415 - Windows has none

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # pragma: no cover - Windows
        pass
    except OSError:
        os.close(handle)
        raise
    return handle


def take_out(stream: Readable, root: Path, where: str, *, keep: frozenset[str] = frozenset()) -> Path:
    """Unpack one plain tar stream (an engine's export) into the empty directory ``root``, and return it.

    ``keep`` names files (``/models/a.onnx``) that are wanted whole, whatever their size.

    Raises:
        InputError: naming ``where`` and the place in the stream.
    """
    tree = Tree(root, where, keep=keep)
    tree.add(stream, where, whiteouts=False)
    tree.finish()
    return root


class _Node:
    """A file, link or directory of the tree. ``layer`` is the number of the one that brought it."""

    __slots__ = ("children", "layer", "mode", "target")

    def __init__(self, layer: int, *, directory: bool = False, target: str | None = None, mode: int = 0o755) -> None:
        self.layer = layer
        self.children: dict[str, _Node] | None = {} if directory else None
        self.target = target
        self.mode = mode


class Tree:
    """Files of an image, layer upon layer, below the directory ``root``."""

    def __init__(
        self, root: Path, where: str, *, limits: Limits | None = None, keep: frozenset[str] = frozenset()
    ) -> None:
        self._root = os.fspath(root)
        self._where = where
        self._limits = limits or Limits()
        self._keep = frozenset(name.strip("/") for name in keep)
        self._top: dict[str, _Node] = {}
        self._layer = 0
        self._entries = 0
        self._written = 0
        # Hard links lead to one node; what was a device has none.
        self._skipped: set[str] = set()
        self._masked = os.umask(0o077)
        os.umask(self._masked)
        # Plain os calls below: one image has a hundred thousand files, and a Path costs more than the call.

    def add(self, stream: Readable, where: str, *, whiteouts: bool = True) -> None:
        """Lay the members of a tar archive over what is there. ``where`` names it in errors.

        Raises:
            InputError: for what no container engine would take, and where a limit is passed.
        """
        self._layer += 1
        reader = Reader(stream, where)
        for member in reader:
            self._entries += 1
            if self._entries > self._limits.entries:
                raise InputError(where, f"more than {self._limits.entries} files")
            try:
                self._member(reader, member, where, whiteouts=whiteouts)
            except OSError as error:
                raise self._disk_error(error, member, where) from error

    def finish(self) -> None:
        """Make the links; after this nothing can be added.

        Raises:
            InputError: when the disk is full.
        """
        waiting = [(self._root, self._top)]
        while waiting:
            path, node = waiting.pop()
            for name, child in node.items():
                below = path + "/" + name
                if child.children is not None:
                    waiting.append((below, child.children))
                elif child.target is not None:
                    try:
                        os.symlink(child.target, below)  # noqa: PTH211
                    except OSError as error:
                        raise InputError(self._where, f"{below[len(self._root) :]}: {error.strerror}") from error

    def _member(self, reader: Reader, member: Member, where: str, *, whiteouts: bool) -> None:
        parts = _parts(member.name, where)
        if not parts:
            return  # the root itself
        name = parts[-1]
        if whiteouts and name.startswith(_WHITEOUT):
            self._white_out(parts[:-1], name, where)
            return
        if whiteouts and any(part.startswith(_ENGINES_OWN) for part in parts):
            return
        path, parent = self._directory(parts[:-1], where)
        real = path + "/" + name
        there = parent.get(name)
        if member.kind == "directory":
            if there is None or there.children is None:
                self._remove(real, there)
                os.mkdir(real, 0o700)  # noqa: PTH102
                there = parent[name] = _Node(self._layer, directory=True)
            there.layer = self._layer
            return
        self._skipped.discard(real)
        if member.kind == "hard link":
            self._hard_link(parent, real, member, where)
            return
        self._remove(real, there)
        parent.pop(name, None)
        if member.kind == "link":
            if not member.target or "\0" in member.target:
                raise InputError(where, f"{member.name!r} is a link to nothing")
            parent[name] = _Node(self._layer, target=member.target)
        elif member.kind == "file":
            self._write(reader, member, real, whole="/".join(parts))
            parent[name] = _Node(self._layer, mode=member.mode)
        else:
            self._skipped.add(real)

    def _directory(self, parts: list[str], where: str, *, make: bool = True) -> tuple[str, dict[str, _Node]]:
        """The path on the disk and the children of a directory, links on the way followed inside the tree.

        Raises InputError for loops and for a file on the way; KeyError with ``make`` False where there is none.
        """
        steps: list[str] = []
        levels = [self._top]
        waiting = parts[::-1]
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                if steps:
                    steps.pop()
                    levels.pop()
                continue
            node = levels[-1].get(part)
            if node is None:
                if not make:
                    raise KeyError(part)
                os.mkdir("/".join([self._root, *steps, part]), 0o700)  # noqa: PTH102
                node = levels[-1][part] = _Node(self._layer, directory=True)
                self._entries += 1
            if node.target is not None:
                links += 1
                if links > _LINK_LIMIT:
                    raise InputError(where, f"'/{'/'.join(parts)}' leads through links that loop")
                if node.target.startswith("/"):
                    steps, levels = [], [self._top]
                waiting += [piece for piece in node.target.split("/") if piece not in {"", "."}][::-1]
            elif node.children is None:
                raise InputError(where, f"'/{'/'.join(parts)}' leads through a file as if it were a directory")
            else:
                steps.append(part)
                levels.append(node.children)
            if len(steps) + len(waiting) > _DEPTH_LIMIT:
                raise InputError(where, f"directories nested deeper than {_DEPTH_LIMIT} levels")
        return "/".join([self._root, *steps]), levels[-1]

    def _white_out(self, parts: list[str], name: str, where: str) -> None:
        """Hide what lower layers brought: one name, or all of a directory. What this layer brought stays."""
        try:
            path, children = self._directory(parts, where, make=name == _OPAQUE)
        except KeyError:
            return
        hidden = list(children) if name == _OPAQUE else [name[len(_WHITEOUT) :]]
        for each in hidden:
            node = children.get(each)
            if node is not None and self._hide(path + "/" + each, node):
                del children[each]

    def _hide(self, real: str, node: _Node) -> bool:
        """Remove what lower layers brought at and below a name; whether nothing of this layer is left there."""
        if node.children is None:
            if node.layer == self._layer:
                return False
            self._remove(real, node)
            return True
        for name in list(node.children):
            if self._hide(real + "/" + name, node.children[name]):
                del node.children[name]
        if node.children or node.layer == self._layer:
            return False
        os.rmdir(real)  # noqa: PTH106
        return True

    def _remove(self, real: str, node: _Node | None) -> None:
        if node is None or node.target is not None:
            return
        if node.children is None:
            os.unlink(real)  # noqa: PTH108
        else:
            shutil.rmtree(real)  # no links are there yet

    def _hard_link(self, parent: dict[str, _Node], real: str, member: Member, where: str) -> None:
        parts = _parts(member.target, where)
        name = member.name.rstrip("/").rpartition("/")[2]
        node = None
        other = ""
        with contextlib.suppress(KeyError, IndexError):
            path, children = self._directory(parts[:-1], where, make=False)
            other = path + "/" + parts[-1]
            node = children[parts[-1]]
        if other in self._skipped:
            self._remove(real, parent.pop(name, None))
            self._skipped.add(real)
            return
        if node is None or node.children is not None:
            what = "a directory" if node is not None else "a file that is not there"
            raise InputError(where, f"{member.name!r} is a hard link to {what} ({member.target!r})")
        if other == real:
            return
        self._remove(real, parent.pop(name, None))
        if node.target is None:
            os.link(other, real)
        # A node of its own: it belongs to this layer, whatever becomes of the other name.
        parent[name] = _Node(self._layer, target=node.target, mode=node.mode)

    def _write(self, reader: Reader, member: Member, real: str, whole: str) -> None:
        # The owner (we) must be able to read; who may execute is a fact of the image.
        mode = 0o600 | member.mode
        handle = os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            left = member.size
            first = True
            ends_in_hole = False
            while left and (piece := reader.read()):
                left -= len(piece)
                if piece == _ZEROS[: len(piece)]:
                    os.lseek(handle, len(piece), os.SEEK_CUR)
                    ends_in_hole = True
                else:
                    self._count(len(piece), member)
                    _write_all(handle, piece)
                    ends_in_hole = False
                if first and member.size > self._limits.whole and not self._needed(whole, piece):
                    reader.skip()
                    ends_in_hole = True
                    break
                first = False
            if ends_in_hole:
                os.ftruncate(handle, member.size)
            if mode & self._masked:
                os.fchmod(handle, mode)
        finally:
            os.close(handle)

    def _needed(self, name: str, start: bytes) -> bool:
        if name in self._keep or start.startswith(_READ_WHOLE):
            return True
        return name.startswith(_READ_WHOLE_NAMES[:3]) or name.endswith(_READ_WHOLE_NAMES[3:])

    def _count(self, size: int, member: Member) -> None:
        self._written += size
        if self._written > self._limits.written:
            raise InputError(self._where, f"more than {self._limits.written >> 20} MB of files (at {member.name!r})")

    def _disk_error(self, error: OSError, member: Member, where: str) -> InputError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return InputError(tempfile.gettempdir(), f"no room for the files of {where}: {error.strerror}", _ROOM)
        return InputError(where, f"{member.name[:200]!r} cannot be unpacked: {error.strerror or error}")


def _parts(name: str, where: str) -> list[str]:
    """The components of a member's name, from the root.

    Raises:
        InputError: for a name that leads out of the root, or that no file can have.
    """
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise InputError(where, f"member {name[:200]!r} leads out of the archive")
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    if "\0" in name:
        raise InputError(where, f"member {name[:200]!r} is no name of a file")
    if len(parts) > _DEPTH_LIMIT:
        raise InputError(where, f"directories nested deeper than {_DEPTH_LIMIT} levels")
    return parts


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
