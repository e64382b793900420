"""The databases of the operating system's package managers: dpkg, apk and rpm, read without their tools.

Sources: deb822(5) and dpkg-query(1) for ``/var/lib/dpkg/status``; distroless images keep one stanza a file in
``/var/lib/dpkg/status.d``; apk-tools ``src/database.c`` for ``/lib/apk/db/installed``; rpm's "Header format"
and ``lib/backend/sqlite.c`` for ``rpmdb.sqlite`` (``rpm_berkeley`` and ``rpm_ndb`` read its other kinds of file). What
a caller gets is a list of ``Package``; ``keyed`` makes the table that stands in a snapshot.
"""

import collections
import os
import re
import stat
import struct

from . import bounded, common, rpm_berkeley, rpm_ndb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

    Headers = Callable[[IO[bytes], int, int], Iterator[Tuple[Optional[bytes], str]]]

Package = collections.namedtuple("Package", ["name", "version", "architecture"])
Package.__doc__ = "One installed package; ``architecture`` is '' where its database states none."

DPKG_STATUS = "/var/lib/dpkg/status"
DPKG_STATUS_DIR = "/var/lib/dpkg/status.d"
DPKG_ARCHITECTURE = "/var/lib/dpkg/arch"
DPKG_INFO = "/var/lib/dpkg/info"
APK_INSTALLED = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
RPM_FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
RPM_SQLITE = "rpmdb.sqlite"
# The kinds that hold nothing but headers one after the other; what reads them.
RPM_OTHER = {"Packages.db": rpm_ndb.headers, "Packages": rpm_berkeley.headers}

# Far above any real database; a hostile image must not fill memory or disk.
RPM_DATABASE_LIMIT = 512 << 20
RPM_HEADER_LIMIT = 32 << 20
PACKAGE_LIMIT = 100000
# The names of files that are kept to answer whose file one is, together; a full workstation has 20 MB of them.
RPM_FILES_LIMIT = 64 << 20
RPM_VALUES_LIMIT = 1000000

_RPM_NAME, _RPM_VERSION, _RPM_RELEASE, _RPM_EPOCH, _RPM_ARCH = 1000, 1001, 1002, 1003, 1022
_RPM_DIRINDEXES, _RPM_BASENAMES, _RPM_DIRNAMES = 1116, 1117, 1118
_RPM_INT32, _RPM_STRING, _RPM_STRING_ARRAY, _RPM_I18NSTRING = 4, 6, 8, 9


def measure_packages(place: "common.Place") -> "Dict[str, Any]":
    """``{"manager": "dpkg"|"apk"|"rpm"|None, "packages": {key: version}}`` of the first one in use.

    Keys are package names; ``name:arch`` (dpkg) or ``name.arch`` (rpm) for a foreign architecture or where
    one name is installed more than once.
    """
    for manager, read in (("dpkg", read_dpkg), ("apk", read_apk), ("rpm", read_rpm)):
        packages = read(place)
        if packages:
            native = dpkg_architecture(place, packages) if manager == "dpkg" else ""
            return {"manager": manager, "packages": keyed(packages, manager, native)}
    return {"manager": None, "packages": {}}


def keyed(packages: "Sequence[Package]", manager: "str", native: "str" = "") -> "Dict[str, str]":
    """The table ``{key: version}``; no two packages share a key, none is lost (a full duplicate is one)."""
    separator = ":" if manager == "dpkg" else "."
    grouped = {}  # type: Dict[str, List[Package]]
    for package in packages:
        grouped.setdefault(package.name, []).append(package)
    table = {}
    for name, group in grouped.items():
        if len(group) == 1:
            only = group[0]
            foreign = native and only.architecture not in (native, "all", "")
            table[name + separator + only.architecture if foreign else name] = only.version
            continue
        for package in group:
            if native and package.architecture in (native, "all"):
                key = name
            elif package.architecture:
                key = name + separator + package.architecture
            else:
                key = name
            # Several versions of one package side by side: kernels and signing keys under rpm.
            alike = [other for other in group if other.architecture == package.architecture]
            if len(alike) > 1:
                key = "%s=%s" % (key, package.version)
            table[key] = package.version
    return table


# dpkg


def read_dpkg(place: "common.Place") -> "List[Package]":
    """Installed packages from the status file and from distroless' directory of stanzas."""
    text = place.read_text(DPKG_STATUS)
    packages = parse_dpkg_status(text) if text else []
    for name in place.list_dir(DPKG_STATUS_DIR):
        if not name.endswith(".md5sums"):
            stanza = place.read_text(DPKG_STATUS_DIR + "/" + name)
            packages.extend(parse_dpkg_status(stanza or "", stated=False))
    return packages


def parse_dpkg_status(text: "str", stated: "bool" = True) -> "List[Package]":
    """Packages whose state is ``installed``. With ``stated`` False a stanza without a Status counts too."""
    found = []
    for stanza in text.split("\n\n"):
        name, version = _field(stanza, "Package"), _field(stanza, "Version")
        status = _field(stanza, "Status").split() or ([] if stated else ["installed"])
        if name and version and status and status[-1] == "installed":
            found.append(Package(name, version, _field(stanza, "Architecture")))
    return found


def _field(stanza: "str", name: "str") -> "str":
    """The first line of a field, '' where there is none (find and slice: faster than a pattern)."""
    if stanza.startswith(name + ":"):
        at = len(name) + 1
    else:
        at = stanza.find("\n" + name + ":") + len(name) + 2
        if at < len(name) + 2:
            return ""
    end = stanza.find("\n", at)
    return stanza[at : end if end >= 0 else len(stanza)].strip()


def dpkg_architecture(place: "common.Place", packages: "Sequence[Package]") -> "str":
    """The native architecture: that of dpkg itself, else the most frequent one.

    ``/var/lib/dpkg/arch`` exists only once a foreign architecture was added; its first line is the native
    one.
    """
    text = place.read_text(DPKG_ARCHITECTURE, 4096)
    if text and text.split():
        return text.split()[0]
    counts = {}  # type: Dict[str, int]
    for package in packages:
        if package.architecture not in ("all", ""):
            if package.name == "dpkg":
                return str(package.architecture)
            counts[package.architecture] = counts.get(package.architecture, 0) + 1
    return max(sorted(counts), key=lambda name: counts[name]) if counts else ""


# apk


def read_apk(place: "common.Place") -> "List[Package]":
    for name in APK_INSTALLED:
        text = place.read_text(name)
        if text:
            return parse_apk_installed(text)
    return []


def parse_apk_installed(text: "str") -> "List[Package]":
    """Packages of apk's installed database: stanzas of ``X:value`` lines, P the name, V version, A arch."""
    found = []
    for stanza in text.split("\n\n"):
        fields = dict(_APK_FIELD.findall(stanza))
        if fields.get("P") and fields.get("V"):
            found.append(Package(fields["P"], fields["V"], fields.get("A", "")))
    return found


_APK_FIELD = re.compile(r"^([PVA]):(\S+)", re.MULTILINE)


def apk_owner(text: "str", path: "str") -> "Optional[Package]":
    """The package whose file list (F: a directory, R: a file in it) holds this absolute path."""
    folder, _, name = path.lstrip("/").rpartition("/")
    for stanza in text.split("\n\n"):
        if "\nR:" + name not in stanza or "F:" + folder not in stanza:
            continue
        current = ""
        for line in stanza.split("\n"):
            if line.startswith("F:"):
                current = line[2:]
            elif line == "R:" + name and current == folder:
                packages = parse_apk_installed(stanza)
                return packages[0] if packages else None
    return None


# rpm


def rpm_database(place: "common.Place") -> "Optional[str]":
    """The file that holds rpm's packages: SQLite (rpm 4.16 and newer), else ndb (SUSE), else Berkeley DB."""
    for base in (RPM_SQLITE,) + tuple(RPM_OTHER):
        for folder in RPM_FOLDERS:
            if place.exists(folder + "/" + base):
                return folder + "/" + base
    return None


def read_rpm(place: "common.Place") -> "List[Package]":
    """Packages of rpm's database, of whichever kind it is."""
    name = rpm_database(place)
    if name is None:
        return []
    headers = RPM_OTHER.get(name.rpartition("/")[2])
    if headers is None:
        return [package for package in _rpm_rows(place, name, "SELECT blob FROM Packages", ()) if package]
    return [package for package, _ in _rpm_lists(place, name, headers)]


def rpm_owner(place: "common.Place", path: "str") -> "Optional[Package]":
    """The rpm package that owns an absolute path; in SQLite through the database's own index of base names."""
    name = rpm_database(place)
    if name is None:
        return None
    headers = RPM_OTHER.get(name.rpartition("/")[2])
    if headers is None:
        query = "SELECT blob FROM Packages WHERE hnum IN (SELECT hnum FROM Basenames WHERE key = ?)"
        found = _rpm_rows(place, name, query, (path.rpartition("/")[2],), path)
    else:
        line = "\0%s\0" % path
        found = [package for package, files in _rpm_lists(place, name, headers) if line in files]
    return next((package for package in found if package), None)


def _rpm_lists(place: "common.Place", name: "str", headers: "Headers") -> "List[Tuple[Package, str]]":
    """Each package with its files, each between two NUL. Read once for all sections; its problems stand in each."""
    known = place.found.get("os_packages")  # type: Optional[Tuple[List[Tuple[Package, str]], List[str]]]
    if known is None:
        known = place.found["os_packages"] = _rpm_read(place.real(name), headers)
    for reason in known[1]:
        place.problem(name, reason)
    return known[0]


def _rpm_read(real: "str", headers: "Headers") -> "Tuple[List[Tuple[Package, str]], List[str]]":
    found = []  # type: List[Tuple[Package, str]]
    problems = []
    broken = []
    kept = 0
    try:
        with bounded.open_regular(real) as file:
            size = os.fstat(file.fileno()).st_size
            if size > RPM_DATABASE_LIMIT:
                return [], ["longer than %d bytes; it was not read" % RPM_DATABASE_LIMIT]
            for count, (blob, reason) in enumerate(headers(file, size, RPM_HEADER_LIMIT)):
                if count >= PACKAGE_LIMIT:
                    problems.append("more than %d packages; the rest was not read" % PACKAGE_LIMIT)
                    break
                try:
                    if blob is None:
                        raise ValueError(reason)
                    header = parse_rpm_header(blob)
                    package = rpm_package(header)
                    files = "\0%s\0" % "\0".join(rpm_files(header))
                except ValueError as error:
                    broken.append(str(error))
                    continue
                if package:
                    kept += len(files)
                    found.append((package, files if kept <= RPM_FILES_LIMIT else ""))
            if kept > RPM_FILES_LIMIT:
                problems.append("more than %d characters of names of files; not all are known" % RPM_FILES_LIMIT)
    except (OSError, ValueError) as error:
        problems.append(common.describe(error) if isinstance(error, OSError) else str(error))
    if broken:
        # A file that was cut has lost hundreds, each on another page.
        headers_are = "1 header in it is" if len(broken) == 1 else "%d headers in it are" % len(broken)
        problems.append("%s broken: %s" % (headers_are, broken[0]))
    return found, problems


def _rpm_rows(
    place: "common.Place", name: "str", query: "str", values: "Tuple[Any, ...]", owned: "str" = ""
) -> "List[Optional[Package]]":
    try:
        import sqlite3
    except ImportError:
        place.problem(name, "this interpreter has no sqlite3 module to read it with")
        return []
    real = place.real(name)
    scratch = None
    found = []  # type: List[Optional[Package]]
    try:
        status = os.stat(real)
        if not stat.S_ISREG(status.st_mode):
            place.problem(name, "not a regular file")
            return []
        if status.st_size > RPM_DATABASE_LIMIT:
            place.problem(name, "longer than %d bytes; it was not read" % RPM_DATABASE_LIMIT)
            return []
        if _has_log(real):
            # What a write-ahead log holds shows only to a reader that may write beside it: take a copy.
            import tempfile

            scratch = tempfile.mkdtemp(prefix="rpmdb")
            for suffix in ("", "-wal"):
                with open(os.path.join(scratch, "rpmdb.sqlite" + suffix), "wb") as copy:
                    copy.write(common.read_regular(real + suffix, RPM_DATABASE_LIMIT))
            real = os.path.join(scratch, "rpmdb.sqlite")
        database = sqlite3.connect(_sqlite_uri(real, immutable=scratch is None), uri=True)
        try:
            # A crafted schema (a view that recurses) would run for ever.
            steps = [0]

            def count() -> "int":
                steps[0] += 1
                return int(steps[0] > 20000)

            database.set_progress_handler(count, 10000)
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'Packages'")
            if not tables.fetchone()[0]:
                place.problem(name, "no table Packages in it")
                return []
            for (blob,) in database.execute(query, values):
                if len(found) >= PACKAGE_LIMIT:
                    place.problem(name, "more than %d packages; the rest was not read" % PACKAGE_LIMIT)
                    break
                try:
                    header = parse_rpm_header(blob)
                    if not owned or owned in rpm_files(header):
                        found.append(rpm_package(header))
                except ValueError as error:
                    place.problem(name, "a header in it is broken: %s" % error)
        finally:
            database.close()
    except (OSError, sqlite3.Error) as error:
        place.problem(name, common.describe(error))
    finally:
        if scratch:
            import shutil

            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _has_log(real: "str") -> "bool":
    try:
        return os.stat(real + "-wal").st_size > 0
    except OSError:
        return False


def _sqlite_uri(path: "str", immutable: "bool") -> "str":
    quoted = "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or chr(byte) in "/._-~" else "%%%02X" % byte
        for byte in os.fsencode(os.path.abspath(path).replace(os.sep, "/"))
    )
    return "file:%s?%s" % (
        quoted if quoted.startswith("/") else "/" + quoted,
        "immutable=1" if immutable else "mode=rw",
    )


def parse_rpm_header(blob: "bytes") -> "Dict[int, Any]":
    """The tags that we need from one header: ``{tag: str | [str] | [int]}``. Raises ValueError.

    A header is two big-endian counts (index entries, bytes of data), entries of four numbers each (tag, type,
    offset into the data, count), then the data.
    """
    if not isinstance(blob, bytes) or len(blob) < 8 or len(blob) > RPM_HEADER_LIMIT:
        raise ValueError("not a header")
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + entries * 16
    if start + size > len(blob):
        raise ValueError("states %d entries and %d bytes, more than its %d bytes" % (entries, size, len(blob)))
    tags = {}  # type: Dict[int, Any]
    for tag, kind, offset, count in struct.iter_unpack(">IIII", blob[8:start]):
        # No writer repeats one of these; a crafted header could, a million times.
        if tag not in _RPM_WANTED or tag in tags:
            continue
        if offset >= size or count > size:
            raise ValueError("tag %d lies outside the data" % tag)
        if count > RPM_VALUES_LIMIT:
            raise ValueError("tag %d states %d values" % (tag, count))
        at = start + offset
        if kind == _RPM_INT32:
            if at + 4 * count > len(blob):
                raise ValueError("tag %d lies outside the data" % tag)
            tags[tag] = list(struct.unpack_from(">%dI" % count, blob, at))
        elif kind in (_RPM_STRING, _RPM_STRING_ARRAY, _RPM_I18NSTRING):
            texts = blob[at : start + size].split(b"\0", count)[:count]
            values = [text.decode("utf-8", "replace") for text in texts]
            tags[tag] = values if kind == _RPM_STRING_ARRAY else (values or [""])[0]
    return tags


_RPM_WANTED = frozenset(
    [
        _RPM_NAME,
        _RPM_VERSION,
        _RPM_RELEASE,
        _RPM_EPOCH,
        _RPM_ARCH,
        _RPM_DIRINDEXES,
        _RPM_BASENAMES,
        _RPM_DIRNAMES,
    ]
)


def rpm_package(header: "Dict[int, Any]") -> "Optional[Package]":
    """``[epoch:]version-release`` as rpm prints it as EVR; None for a header without a name."""
    name, version, release = header.get(_RPM_NAME), header.get(_RPM_VERSION), header.get(_RPM_RELEASE)
    if not (isinstance(name, str) and isinstance(version, str) and isinstance(release, str)):
        return None
    epoch = header.get(_RPM_EPOCH)
    prefix = "%d:" % epoch[0] if isinstance(epoch, list) and epoch else ""
    architecture = header.get(_RPM_ARCH)
    return Package(name, "%s%s-%s" % (prefix, version, release), architecture if isinstance(architecture, str) else "")


def rpm_files(header: "Dict[int, Any]") -> "Set[str]":
    """Absolute paths of the files of one package (rpm keeps base names, directories and an index apart).

    Raises ValueError where these would fill the memory: one long directory, named by each of a million files.
    """
    bases, folders, places = (header.get(tag) for tag in (_RPM_BASENAMES, _RPM_DIRNAMES, _RPM_DIRINDEXES))
    if not (isinstance(bases, list) and isinstance(folders, list) and isinstance(places, list)):
        return set()
    files = set()
    length = 0
    for base, index in zip(bases, places):  # noqa: B905 -- strict= needs Python 3.10
        if isinstance(index, int) and index < len(folders):
            path = "%s%s" % (folders[index], base)
            files.add(path)
            length += len(path)
            if length > RPM_FILES_LIMIT:
                raise ValueError("names of files of more than %d characters" % RPM_FILES_LIMIT)
    return files


# Which package owns a file


def present_manager(place: "common.Place") -> "Optional[str]":
    """Which package manager's database is there, by a look at the names alone."""
    if place.exists(DPKG_STATUS) or place.list_dir(DPKG_STATUS_DIR):
        return "dpkg"
    if any(place.exists(name) for name in APK_INSTALLED):
        return "apk"
    if rpm_database(place):
        return "rpm"
    return None


def owner(
    place: "common.Place", manager: "Optional[str]", paths: "Sequence[str]", candidates: "Iterable[str]" = ()
) -> "Optional[Package]":
    """The package that owns a file under one of these names, by a cheap exact look-up; else None.

    dpkg has no index by path, so only the file lists of ``candidates`` are read; apk and rpm need none.
    """
    wanted = spellings(paths)
    if manager == "dpkg":
        status = place.read_text(DPKG_STATUS) or ""
        itself = dpkg_package(status, "dpkg")
        for candidate in candidates:
            # The lists of a package that may be installed for several architectures carry theirs in the name.
            if dpkg_owns(place, candidate, wanted) or (
                itself and dpkg_owns(place, "%s:%s" % (candidate, itself.architecture), wanted)
            ):
                return dpkg_package(status, candidate)
    elif manager == "apk":
        for name in APK_INSTALLED:
            text = place.read_text(name)
            found = [apk_owner(text, path) for path in wanted] if text else []
            for package in found:
                if package:
                    return package
    elif manager == "rpm":
        for path in wanted:
            package = rpm_owner(place, path)
            if package:
                return package
    return None


def dpkg_package(text: "str", name: "str") -> "Optional[Package]":
    """One installed package of a status file, without a parse of all the others."""
    text = "\n" + text
    at = text.find("\nPackage: %s\n" % name)
    while at >= 0:
        end = text.find("\n\n", at + 1)
        packages = parse_dpkg_status(text[at + 1 : end if end >= 0 else len(text)])
        if packages:
            return packages[0]
        at = text.find("\nPackage: %s\n" % name, at + 1)
    return None


def spellings(paths: "Sequence[str]") -> "List[str]":
    """Each path with and without ``/usr``: on a merged system a database may know the other one."""
    names = []  # type: List[str]
    for path in paths:
        other = path[4:] if path.startswith("/usr/") else "/usr" + path
        for name in (path, other):
            if name not in names:
                names.append(name)
    return names


def dpkg_owns(place: "common.Place", package: "str", paths: "Sequence[str]") -> "bool":
    """Whether dpkg's list of files of this package holds one of the paths."""
    text = place.read_text("%s/%s.list" % (DPKG_INFO, package))
    if text is None:
        return False
    lines = "\n" + text + "\n"
    return any("\n" + path + "\n" in lines for path in paths)
