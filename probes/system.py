"""Section ``system``: the operating system's files: release, libc, packages, certificates, locales, tzdata.

Everything is worked out from files, so that a running container and its unpacked image give the same answer;
a live interpreter is asked only where the files do not say.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import hashlib
import os
import re
import struct
import sys

from . import common, loader_cache, os_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

LAYER = "image"

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")

# Go's crypto/x509/root_linux.go, in its order: the first that exists is the one in use.
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# The default of CPython's zoneinfo.TZPATH (PEP 615), in its order.
TZ_FOLDERS = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")

LOCALE_FOLDER = "/usr/lib/locale"
LOCALE_ARCHIVE = LOCALE_FOLDER + "/locale-archive"
MUSL_LOCALE_FOLDER = "/usr/share/i18n/locales/musl"
LOCALE_TABLE_LIMIT = 8 << 20
LOCALE_LIMIT = 5000

LD_SO_CACHE = "/etc/ld.so.cache"
LIBRARY_LIMIT = 64 << 20

_GLIBC_LOADER = re.compile(r"^ld(-linux[\w-]*|64|)\.so\.\d$|^ld-2\.\d+\.so$")
_MUSL_LOADER = re.compile(r"^ld-musl-[\w-]+\.so\.1$")


def measure(place: "common.Place") -> "Dict[str, Any]":
    """Facts: ``os_release``, ``libc``, ``packages``, ``ca_bundle``, ``locales``, ``tzdata``."""
    libc = find_libc(place)
    return {
        "os_release": find_release(place),
        "libc": libc,
        "packages": os_packages.measure_packages(place),
        "ca_bundle": find_ca_bundle(place),
        "locales": find_locales(place, libc["family"]),
        "tzdata": find_tzdata(place),
    }


# The release


def find_release(place: "common.Place") -> "Dict[str, Any]":
    """``{id, version_id, version_codename, pretty_name, id_like: [closest first]}``; unknown is None."""
    if is_this_machine(place) and sys.platform in ("darwin", "win32"):
        import platform

        if sys.platform == "darwin":
            return mac_release(platform.mac_ver())
        return windows_release(platform.win32_ver())
    for name in OS_RELEASE:
        text = place.read_text(name, 1 << 20)
        if text is not None:
            return release(parse_os_release(text))
    return release({})


def release(fields: "Dict[str, str]") -> "Dict[str, Any]":
    return {
        "id": fields.get("ID") or None,
        "version_id": fields.get("VERSION_ID") or None,
        "version_codename": fields.get("VERSION_CODENAME") or None,
        "pretty_name": fields.get("PRETTY_NAME") or None,
        "id_like": fields.get("ID_LIKE", "").split(),
    }


def parse_os_release(text: "str") -> "Dict[str, str]":
    """Assignments of an os-release(5) file, with the quoting of a POSIX shell undone."""
    fields = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$", line)
        if not match:
            continue
        name, value = match.group(1), match.group(2).strip()
        if len(value) > 1 and value[0] == value[-1] == "'":
            value = value[1:-1]
        else:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            value = re.sub(r"\\(.)", r"\1", value)
        fields[name] = value
    return fields


def mac_release(answer: "Tuple[str, Any, str]") -> "Dict[str, Any]":
    """The release from ``platform.mac_ver()``."""
    version = answer[0]
    name = "macOS %s" % version if version else "macOS"
    return release({"ID": "macos", "VERSION_ID": version, "PRETTY_NAME": name})


def windows_release(answer: "Tuple[str, str, str, str]") -> "Dict[str, Any]":
    """The release from ``platform.win32_ver()``: (release, version, service pack, kind of kernel)."""
    name, version = answer[0], answer[1]
    pretty = "Windows %s" % name if name else "Windows"
    return release({"ID": "windows", "VERSION_ID": version, "PRETTY_NAME": pretty})


# The C library


def find_libc(place: "common.Place") -> "Dict[str, Any]":
    """``{family: glibc|musl|None, version, path}`` of the C library that the interpreter loads.

    The interpreter's ELF header names its loader, and the loader's name is the family's. Where there is no
    interpreter to ask, the loaders that exist are taken, if they are of one family. All None for a static
    interpreter and on systems without ELF.
    """
    nothing = {"family": None, "version": None, "path": None}  # type: Dict[str, Any]
    if is_this_machine(place) and not sys.platform.startswith("linux"):
        return nothing
    program = find_interpreter(place)
    header = elf_header(head(place, program, 1 << 16)) if program else None
    if header is not None:
        loader = header["loader"]
        if loader is None:
            return nothing
    else:
        loaders = list_loaders(place)
        families = sorted({family for family, _ in loaders})
        if len(families) > 1:
            place.problem(
                "libc",
                "loaders of %s exist, and no interpreter says which one counts" % " and ".join(families),
            )
        if len(families) != 1:
            return nothing
        loader = loaders[0][1]
    if _MUSL_LOADER.match(loader.rpartition("/")[2]):
        return musl(place, loader)
    return glibc(place, loader, header)


def musl(place: "common.Place", loader: "str") -> "Dict[str, Any]":
    """The loader of musl and its C library are one file."""
    path = resolved(place, loader)
    data = place.read_bytes(path, LIBRARY_LIMIT)
    return {"family": "musl", "version": musl_version(data) if data else None, "path": path if data else None}


def musl_version(data: "bytes") -> "Optional[str]":
    """The string ``__libc_version`` of a musl library, which it prints when run by itself: "1.2.3"."""
    if b"musl libc" not in data:
        return None
    match = re.search(rb"\0(\d+\.\d+\.\d+(?:[-_+~][\w.+~-]*)?)\0", data)
    return match.group(1).decode("ascii", "replace") if match else None


def glibc(place: "common.Place", loader: "str", header: "Optional[Dict[str, Any]]") -> "Dict[str, Any]":
    for name in glibc_places(place, loader, header):
        path = resolved(place, name)
        data = place.read_bytes(path, LIBRARY_LIMIT)
        if data is None or not data.startswith(b"\x7fELF"):
            continue
        version = glibc_version(data) or glibc_name_version(path)
        if version is None and place.live:
            version = (confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2] or None
        return {"family": "glibc", "version": version, "path": path}
    return {"family": "glibc", "version": None, "path": None}


def glibc_places(place: "common.Place", loader: "str", header: "Optional[Dict[str, Any]]") -> "List[str]":
    """Where the C library of this loader stands: beside it (one package holds both), else where it looks."""
    names = [resolved(place, loader).rpartition("/")[0] + "/libc.so.6"]
    data = place.read_bytes(LD_SO_CACHE)
    if data and header is not None:
        try:
            flags = loader_cache.flags_of(header["machine"], header["bits"], header["hard_float"])
            names.extend(
                entry.path for entry in loader_cache.parse(data) if entry[0] == "libc.so.6" and entry.flags == flags
            )
        except ValueError as error:
            place.problem(LD_SO_CACHE, str(error))
    folder = loader.rpartition("/")[0]
    return names + [
        folder + "/libc.so.6",
        "/lib64/libc.so.6",
        "/usr/lib64/libc.so.6",
        "/lib/libc.so.6",
        "/usr/lib/libc.so.6",
    ]


def glibc_version(data: "bytes") -> "Optional[str]":
    """From the banner in the file: "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36."."""
    at = data.find(b"GNU C Library (")
    banner = data[at : at + 300] if at >= 0 else b""
    match = re.match(rb"GNU C Library [^\n\0]{0,200}?version (\d+\.\d+(?:\.\d+)?)", banner)
    return match.group(1).decode("ascii") if match else None


def glibc_name_version(path: "str") -> "Optional[str]":
    """From the file's name before glibc 2.34: libc-2.31.so."""
    match = re.search(r"/libc-(\d+\.\d+(?:\.\d+)?)\.so$", path)
    return match.group(1) if match else None


def confstr(name: "str") -> "Optional[str]":
    try:
        return os.confstr(name)
    except (AttributeError, ValueError, OSError):
        return None


def list_loaders(place: "common.Place") -> "List[Tuple[str, str]]":
    """(family, path) of every dynamic loader at the places that the ABIs prescribe."""
    found = []
    for folder in ("/lib64", "/lib"):
        for name in place.list_dir(folder):
            family = "musl" if _MUSL_LOADER.match(name) else "glibc" if _GLIBC_LOADER.match(name) else None
            if family:
                found.append((family, folder + "/" + name))
    return found


def find_interpreter(place: "common.Place") -> "Optional[str]":
    """The interpreter under test, as a name inside the root; None where nothing tells.

    ``place.options["executable"]`` says it; a live one knows itself; in an unpacked root it stands in
    ``bin`` beside the ``lib/pythonX.Y`` of the search path.
    """
    stated = place.options.get("executable") or (sys.executable if place.live else None)
    if stated:
        return str(stated)
    for entry in place.search_path:
        match = re.match(r"^(.*)/lib(?:64)?/(python\d+\.\d+)t?(?:/|$)", entry)
        if match:
            for name in (match.group(2), "python3", "python"):
                path = "%s/bin/%s" % (match.group(1), name)
                if os.path.isfile(place.real(path)):
                    return path
    return None


def elf_header(data: "bytes") -> "Optional[Dict[str, Any]]":
    """What an ELF program states of itself, from its first bytes; None for what is no ELF file or is broken.

    ``machine`` e_machine, ``bits`` 32 or 64, ``loader`` the path in PT_INTERP (None for a static program),
    ``hard_float`` EF_ARM_ABI_FLOAT_HARD. Source: elf(5).
    """
    if len(data) < 52 or not data.startswith(b"\x7fELF"):
        return None
    wide, order = data[4] == 2, ">" if data[5] == 2 else "<"
    form = order + ("HHIQQQIHHH" if wide else "HHIIIIIHHH")
    if len(data) < 16 + struct.calcsize(form):
        return None
    _, machine, _, _, table, _, flags, _, size, count = struct.unpack_from(form, data, 16)
    loader = None
    for number in range(count):
        at = table + number * size
        if size < (56 if wide else 32) or at + size > len(data):
            break
        if struct.unpack_from(order + "I", data, at)[0] == 3:
            offset, length = (
                struct.unpack_from(order + "Q16xQ", data, at + 8)
                if wide
                else struct.unpack_from(order + "I8xI", data, at + 4)
            )
            text = data[offset : offset + min(length, 4096)].split(b"\0")[0]
            loader = text.decode("utf-8", "replace") or None
            break
    return {
        "machine": machine,
        "bits": 64 if wide else 32,
        "loader": loader,
        "hard_float": bool(flags & 0x400),
    }


# Certificates, locales, time zones


def find_ca_bundle(place: "common.Place") -> "Optional[Dict[str, Any]]":
    """``{path, certificates: how many, digest}`` of the first well-known bundle that exists, else None."""
    for name in CA_BUNDLES:
        data = place.read_bytes(name)
        if data:
            count = data.count(b"-----BEGIN CERTIFICATE-----") + data.count(b"-----BEGIN TRUSTED CERTIFICATE-----")
            return {
                "path": name,
                "certificates": count,
                "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
            }
    return None


def find_locales(place: "common.Place", family: "Optional[str]") -> "Dict[str, str]":
    """``{name: source}`` as ``locale -a`` names them, without its aliases.

    Sources: ``builtin``, ``archive``, ``directory``, and for musl ``file``. C.UTF-8 is built into musl;
    into glibc it is not (2.35 brought its files, see its NEWS).
    """
    if family == "musl":
        table = dict.fromkeys(place.list_dir(MUSL_LOCALE_FOLDER)[:LOCALE_LIMIT], "file")
        table.update({"C": "builtin", "POSIX": "builtin", "C.UTF-8": "builtin"})
        return table
    if family != "glibc":
        return {}
    table = {}
    for name in archived_locales(place):
        table[name] = "archive"
    for name in place.list_dir(LOCALE_FOLDER)[:LOCALE_LIMIT]:
        folder = LOCALE_FOLDER + "/" + name
        if place.exists(folder + "/LC_CTYPE") or place.exists(folder + "/LC_IDENTIFICATION"):
            # The loader looks into the archive first.
            table.setdefault(name, "directory")
    table.update({"C": "builtin", "POSIX": "builtin"})
    return table


def archived_locales(place: "common.Place") -> "List[str]":
    start = head(place, LOCALE_ARCHIVE, 56)
    if not start:
        return []
    try:
        # The tables stand first; the locales themselves (up to 200 MB) are not read.
        end = locale_table_end(start)
        return parse_locale_archive(head(place, LOCALE_ARCHIVE, min(end, LOCALE_TABLE_LIMIT)))
    except ValueError as error:
        place.problem(LOCALE_ARCHIVE, str(error))
        return []


def locale_table_end(data: "bytes") -> "int":
    """How much of a locale archive its names take, from its header of 56 bytes. Raises ValueError."""
    fields = _locale_header(data)
    return max(56, fields[2] + 12 * fields[4], fields[5] + fields[6])


def parse_locale_archive(data: "bytes") -> "List[str]":
    """Sorted names of the locales in an archive (glibc ``locale/locarchive.h``). Raises ValueError."""
    fields = _locale_header(data)
    order, table, size = "<" if data[:4] == b"\x09\x01\x02\xde" else ">", fields[2], fields[4]
    if size > len(data) or table + 12 * size > len(data):
        raise ValueError("a hash table of %d names does not fit into it" % size)
    names = set()
    for _, name, record in struct.iter_unpack(order + "III", data[table : table + 12 * size]):
        if record:
            end = data.find(b"\0", name, name + 256)
            if end < 0:
                raise ValueError("the name at byte %d has no end" % name)
            names.add(data[name:end].decode("utf-8", "replace"))
            if len(names) >= LOCALE_LIMIT:
                break
    return sorted(names)


def _locale_header(data: "bytes") -> "Tuple[int, ...]":
    # magic, serial, then offset, used and size of: name hash, strings, locale records, checksums.
    order = {b"\x09\x01\x02\xde": "<", b"\xde\x02\x01\x09": ">"}.get(data[:4])
    if order is None or len(data) < 56:
        raise ValueError("no locale archive")
    return struct.unpack_from(order + "14I", data)


def find_tzdata(place: "common.Place") -> "Optional[Dict[str, Any]]":
    """``{path, version}`` of the system's time zone database; version None where its files do not tell."""
    for folder in TZ_FOLDERS:
        # An empty folder, or one with a lone Etc, is left by images that dropped the package's files.
        if place.is_dir(folder) and (place.exists(folder + "/UTC") or place.exists(folder + "/Etc")):
            return {"path": folder, "version": tzdata_version(place, folder)}
    return None


def tzdata_version(place: "common.Place", folder: "str") -> "Optional[str]":
    """From "# version 2025b", the first line of tzdata.zi, or from the file +VERSION (macOS, BSD)."""
    match = re.match(rb"# version (\w+)", head(place, folder + "/tzdata.zi", 128))
    if not match:
        match = re.match(rb"\s*(\d{4}\w{0,3})\s*$", head(place, folder + "/+VERSION", 128))
    return match.group(1).decode("ascii") if match else None


# Reading


def is_this_machine(place: "common.Place") -> "bool":
    return place.live and place.root == os.path.abspath(os.sep)


def head(place: "common.Place", name: "str", size: "int") -> "bytes":
    """The first bytes of a file that may be much longer; empty where there is none, or it cannot be read."""
    try:
        return common.read_regular(place.real(name), size)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, ValueError) as error:
        place.problem(name, common.describe(error))
        return b""


def resolved(place: "common.Place", name: "str") -> "str":
    """The name inside the root with every symbolic link followed."""
    if place.root == os.path.abspath(os.sep):
        return os.path.realpath(name)
    return place.inside(place.real(name))
