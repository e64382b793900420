"""Section ``packages``: every distribution on the search path, and whether its files are what it says.

Read from the files that installers leave behind (PEP 376, 566, 610, 627), in the order in which Python would
import: the first install of a name on the search path is the one that counts. A set is written as an object
whose values are ``true``.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import json
import os
import re

from . import install_records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .common import Place
    from .install_records import Files

LAYER = "image"

# Metadata larger than this is no metadata (the largest in the wild carry a few hundred KB of description).
METADATA_LIMIT = 8 << 20

# Where a fact lists files, it counts all and names this many, in order of their names.
EXAMPLES = 10


class Install:
    """One install of one distribution: its metadata directory, parsed."""

    def __init__(self, location: "str", folder: "str", name: "str") -> "None":
        self.location = location  # the entry of the search path
        self.folder = folder  # numpy-2.1.0.dist-info
        self.name = name
        self.version = None  # type: Optional[str]
        self.facts = {}  # type: Dict[str, Any]
        self.files = None  # type: Optional[Files]

    @property
    def key(self) -> "str":
        return normalize(self.name)


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: ``distributions`` by normalised name, ``shared_files`` by pair of owners, ``conda`` by name."""
    installs = []  # type: List[Install]
    for entry in dict.fromkeys(place.search_path):
        installs.extend(read_location(place, entry))
    by_key = {}  # type: Dict[str, List[Install]]
    for install in installs:
        by_key.setdefault(install.key, []).append(install)
    shadows = Shadows(place)
    distributions = {}
    for key, same in by_key.items():
        first = imported_one(same)
        record = describe(first)
        others = [install for install in same if install is not first]
        if others:
            record["other_installs"] = [other_install(install, first) for install in others]
        hidden = shadows.of(first)
        if hidden:
            record["shadowed_by"] = hidden
        distributions[key] = record
    return {
        "distributions": distributions,
        "shared_files": shared_files(installs),
        "conda": conda_records(place),
    }


def normalize(name: "str") -> "str":
    """PEP 503: ``Typing_Extensions`` and ``typing.extensions`` are one distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_location(place: "Place", entry: "str") -> "List[Install]":
    """The installs whose metadata lies in one directory of the search path."""
    installs = []
    for folder in place.list_dir(entry) if entry and place.is_dir(entry) else ():
        if not folder.endswith((".dist-info", ".egg-info")):
            continue
        path = entry + "/" + folder
        if folder[0] in "~-":
            place.problem(path, "left behind by an interrupted install; installers ignore it")
            continue
        installs.append(read_install(place, entry, folder))
    return installs


def read_install(place: "Place", location: "str", folder: "str") -> "Install":
    """Parse one metadata directory (or Debian's single-file ``.egg-info``). Never raises for its content."""
    path = location + "/" + folder
    stem, kind = folder.rsplit(".", 1)
    file_name, _, file_version = stem.partition("-")
    install = Install(location, folder, file_name)
    single_file = not place.is_dir(path)
    metadata_path = path if single_file else path + ("/METADATA" if kind == "dist-info" else "/PKG-INFO")
    text = place.read_text(metadata_path, METADATA_LIMIT)
    headers = parse_headers(text or "")
    if text is None:
        place.problem(path, "%s is missing or cannot be read" % os.path.basename(metadata_path))
    elif not headers.get("name") or not headers.get("version"):
        place.problem(metadata_path, "no Name or no Version")
    install.name = first_of(headers, "name") or file_name
    install.version = first_of(headers, "version")
    facts = install.facts
    facts["requires_python"] = first_of(headers, "requires-python")
    requirements = headers.get("requires-dist", [])
    extras = headers.get("provides-extra", [])
    if kind == "egg-info" and not single_file:
        more, more_extras = parse_egg_requires(place.read_text(path + "/requires.txt", METADATA_LIMIT) or "")
        requirements, extras = requirements + more, extras + more_extras
    facts["requires"] = joined_requirements(requirements)
    facts["extras"] = dict.fromkeys(extras, True)
    facts["tags"] = {}
    facts["installer"] = None
    facts["requested"] = False
    facts["direct_url"] = None
    top_level = ""
    if not single_file:
        wheel = parse_headers(place.read_text(path + "/WHEEL", METADATA_LIMIT) or "")
        facts["tags"] = dict.fromkeys(wheel.get("tag", []), True)
        facts["build"] = first_of(wheel, "build")
        facts["installer"] = (place.read_text(path + "/INSTALLER", 1 << 12) or "").strip() or None
        facts["requested"] = place.exists(path + "/REQUESTED")
        facts["direct_url"] = read_direct_url(place, path + "/direct_url.json")
        top_level = place.read_text(path + "/top_level.txt", 1 << 20) or ""
        install.files = install_records.read(place, location, folder)
    if install.files is not None:
        facts["modules"] = dict.fromkeys(install.files.modules(), True)
        stated = stated_version(place, location, install.files)
        if stated and stated != install.version:
            facts["module_version"] = stated
    else:
        facts["modules"] = dict.fromkeys(filter(str.isidentifier, top_level.split()), True)
    if install.version is None and file_version:
        facts["version_of_folder"] = file_version.split("-py")[0]
    return install


def first_of(headers: "Dict[str, List[str]]", name: "str") -> "Optional[str]":
    """The first value of a header field; None where it is missing or empty."""
    return (headers.get(name) or [""])[0] or None


def parse_headers(text: "str") -> "Dict[str, List[str]]":
    """The header fields of an RFC 822 document, names in lower case, continuation lines joined.

    A sample: ``Name: numpy``, ``Version: 2.1.0``, ``Requires-Dist: foo>=1 ; extra == "test"``.
    """
    fields = {}  # type: Dict[str, List[str]]
    values = None  # type: Optional[List[str]]
    end = re.search(r"\r?\n\r?\n", text)
    for line in (text[: end.start()] if end else text).splitlines():
        if line[:1] in (" ", "\t"):
            if values:
                values[-1] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon:
            values = None
            continue
        values = fields.setdefault(name.strip().lower(), [])
        values.append(value.strip())
    return fields


_VERSION_LINE = re.compile(r"^__version__\s*(?::\s*str\s*)?=\s*[\"']([^\"'\n]{1,100})[\"']", re.MULTILINE)


def stated_version(place: "Place", location: "str", files: "Files") -> "Optional[str]":
    """The version that the code itself states, as a literal in its ``version.py``.

    Wheels of an index leave the build out of their metadata: torchvision 0.28.0 from the registry says
    ``0.28.0+cu130`` there and nowhere else.
    """
    for module in files.modules():
        name = module + "/version.py"
        if name in files.hashes:
            found = _VERSION_LINE.search(place.read_text(location + "/" + name, 1 << 16) or "")
            if found:
                return found.group(1)
    return None


def parse_egg_requires(text: "str") -> "Tuple[List[str], List[str]]":
    """Setuptools' ``requires.txt`` as PEP 508 requirements and extras.

    A section ``[extra:marker]`` holds requirements for an extra, a marker, or both.
    """
    requirements = []
    extras = []
    conditions = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            extra, _, marker = line[1:-1].partition(":")
            parts = []
            if marker:
                parts.append("(%s)" % marker if extra else marker)
            if extra:
                extras.append(extra)
                parts.append('extra == "%s"' % extra)
            conditions = " and ".join(parts)
        elif line and not line.startswith("#"):
            requirements.append("%s; %s" % (line, conditions) if conditions else line)
    return requirements, extras


def joined_requirements(lines: "List[str]") -> "Dict[str, str]":
    """``{"numpy>=1.22": marker}``; the same requirement under several markers is one, its markers joined by or.

    That keeps a hundred extras that all ask for the same thing short, and says the same.
    """
    markers = {}  # type: Dict[str, List[str]]
    for line in lines:
        # A URL requirement may hold a ; of its own: PEP 508 wants a space before the one of the marker.
        separator = " ;" if "@" in line.partition(";")[0] else ";"
        requirement, _, marker = line.partition(separator)
        markers.setdefault(" ".join(requirement.split()), []).append(" ".join(marker.split()))
    joined = {}
    for requirement, found in markers.items():
        unique = list(dict.fromkeys(found))
        if "" in unique:
            joined[requirement] = ""
        elif len(unique) == 1:
            joined[requirement] = unique[0]
        else:
            joined[requirement] = " or ".join(sorted("(%s)" % marker for marker in unique))
    return joined


def read_direct_url(place: "Place", path: "str") -> "Optional[Dict[str, Any]]":
    """PEP 610: where a distribution came from that no index named. User-info is stripped by the redaction."""
    text = place.read_text(path, 1 << 16)
    if text is None:
        return None
    try:
        value = json.loads(text)
        url = value["url"]
        result = {"url": str(url), "editable": bool(value.get("dir_info", {}).get("editable", False))}
        vcs = value.get("vcs_info") or {}
        if vcs:
            result["vcs"] = str(vcs.get("vcs", ""))
            result["commit"] = str(vcs.get("commit_id", ""))
        if result["editable"] and _is_gone(place, str(url)):
            result["gone"] = True
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        place.problem(path, "not a direct_url.json as PEP 610 defines it")
        return None
    return result


def _is_gone(place: "Place", url: "str") -> "bool":
    """Whether the source directory of an editable install is not there (on systems whose paths begin with /)."""
    if os.sep != "/" or not url.startswith("file:///"):
        return False
    from urllib.parse import unquote  # few environments have such an install

    return not place.is_dir(unquote(url[len("file://") :]))


def imported_one(same: "List[Install]") -> "Install":
    """Which install of one name Python imports: the first location, and there the one whose files are there.

    Two metadata directories in one location are an interrupted upgrade; one of them describes what lies there.
    """
    here = [install for install in same if install.location == same[0].location]
    return min(here, key=lambda install: install.files.contradictions if install.files else 0)


def describe(install: "Install") -> "Dict[str, Any]":
    record = {
        "name": install.name,
        "version": install.version,
        "location": install.location,
        "metadata": install.folder,
    }  # type: Dict[str, Any]
    record.update(install.facts)
    files = install.files
    if files is None:
        record["record"] = None
        return record
    record["record"] = {"digest": files.digest, "files": files.count}
    if files.missing:
        record["missing_files"] = {
            "count": len(files.missing),
            "examples": dict.fromkeys(sorted(files.missing, key=importance)[:EXAMPLES], True),
        }
    if files.altered:
        names = sorted(files.altered, key=importance)[:EXAMPLES]
        record["altered_files"] = {
            "count": len(files.altered),
            "examples": {name: dict(zip(("recorded", "found"), files.altered[name])) for name in names},
        }
    return record


def importance(path: "str") -> "Tuple[bool, bool, str]":
    """Sorts what an import needs before tests, type stubs and documents."""
    code = path.endswith((".py", ".so", ".pyd", ".dylib", ".dll")) or ".so." in path
    inside = not path.startswith("..")
    return (not (code and inside), bool(re.search(r"(?:^|/)tests?/", path)), path)


def other_install(install: "Install", first: "Install") -> "Dict[str, Any]":
    return {
        "version": install.version,
        "location": install.location,
        "metadata": install.folder,
        "same_directory": install.location == first.location,
        "record_digest": install.files.digest if install.files else None,
    }


def shared_files(installs: "List[Install]") -> "Dict[str, Any]":
    """Files that two distributions of one location both claim: ``{"a b": {count, different, examples}}``.

    ``different`` counts those that the two recorded with different hashes: there the later install won.
    Only distributions that share a top-level name are compared; others cannot share a file.
    """
    by_place = {}  # type: Dict[Tuple[str, str], List[Install]]
    for install in installs:
        if install.files is not None:
            for name in install.files.top_level:
                by_place.setdefault((install.location, name), []).append(install)
    pairs = {}
    for group in by_place.values():
        for index, first in enumerate(group):
            for second in group[index + 1 :]:
                if first.key != second.key:
                    pairs[tuple(sorted((first.key, second.key)))] = (first, second)
    shared = {}
    for key, (first, second) in pairs.items():
        ours, theirs = hashes_of(first), hashes_of(second)
        both = sorted((ours.keys() & theirs.keys()), key=importance)
        if both:
            shared[" ".join(key)] = {
                "location": first.location,
                "count": len(both),
                "different": sum(ours[path] != theirs[path] for path in both),
                "examples": dict.fromkeys(both[:EXAMPLES], True),
            }
    return shared


def hashes_of(install: "Install") -> "Dict[str, str]":
    return install.files.hashes if install.files is not None else {}


class Shadows:
    """Finds modules of a distribution that something earlier on the search path hides.

    A directory without ``__init__.py`` is a namespace portion, which hides nothing that comes later.
    """

    def __init__(self, place: "Place") -> "None":
        self._place = place
        self._entries = []  # type: List[Tuple[str, Dict[str, str]]]
        standard = os.path.dirname(os.__file__) if place.live else place.options.get("standard_library")
        for entry in dict.fromkeys(place.search_path):
            if entry and entry != standard and place.is_dir(entry):
                self._entries.append((entry, self._modules(entry)))

    def of(self, install: "Install") -> "Dict[str, str]":
        hidden = {}
        for entry, modules in self._entries:
            if entry == install.location:
                break
            for name in install.facts["modules"]:
                if name not in modules or name in hidden or not self._regular(entry, name, modules[name]):
                    continue
                if self._regular_at(install.location, name):
                    hidden[name] = entry + "/" + modules[name]
        return hidden

    def _modules(self, entry: "str") -> "Dict[str, str]":
        return {file.split(".", 1)[0]: file for file in self._place.list_dir(entry) if is_module_name(file)}

    def _regular(self, entry: "str", name: "str", file: "str") -> "bool":
        if file != name:
            return True
        return self._place.exists(entry + "/" + name + "/__init__.py")

    def _regular_at(self, location: "str", name: "str") -> "bool":
        for where, modules in self._entries:
            if where == location:
                return name in modules and self._regular(where, name, modules[name])
        return False


def is_module_name(file: "str") -> "bool":
    stem, dot, rest = file.partition(".")
    return stem.isidentifier() and (not dot or rest == "py" or rest.endswith(("so", "pyd")))


def conda_records(place: "Place") -> "Dict[str, Dict[str, str]]":
    """``{name: {version, build, channel}}`` from ``conda-meta`` of the prefix, where there is one.

    The name of a record is ``NAME-VERSION-BUILD.json``; the channel stands near its beginning.
    """
    import sys

    folder = place.options.get("prefix") or sys.prefix
    records = {}
    for file in place.list_dir(folder + "/conda-meta"):
        parts = file[: -len(".json")].rsplit("-", 2)
        if not file.endswith(".json") or len(parts) != 3:
            continue
        text = place.read_text(folder + "/conda-meta/" + file, 256 << 20) or ""
        channel = re.search(r'"channel":\s*"([^"]*)"', text[: 1 << 16])
        records[parts[0]] = {
            "version": parts[1],
            "build": parts[2],
            "channel": channel.group(1) if channel else "",
        }
    return records
