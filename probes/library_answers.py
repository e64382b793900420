"""The tables of the section ``libraries`` about what distributions need from outside, and which file answers."""

if __name__ == "__main__":
    raise SystemExit("library_answers.py is part of the probe libraries.py and measures nothing by itself")

import os
import re

from . import library_files, os_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Set, Tuple  # noqa: F401

    from .common import Place
    from .libraries import Measurement
    from .loader import Library, Mapped, Walk

# Debian's packages for sonames that do not follow its rule (soname "libfoo.so.1" -> package "libfoo1").
_DEBIAN = {
    "libz.so.1": ["zlib1g"], "libbz2.so.1.0": ["libbz2-1.0"], "libgcc_s.so.1": ["libgcc-s1", "libgcc1"],
    "libGL.so.1": ["libgl1"], "libGLX.so.0": ["libglx0"], "libncursesw.so.6": ["libncursesw6"],
}  # fmt: skip
_DEBIAN_LIBC = re.compile(
    r"^(?:lib(?:c|m|dl|pthread|rt|util|resolv|anl|nsl|mvec|BrokenLocale)\.so\.|ld-linux|ld\d*\.so)"
)


def highest(versions: "Iterable[str]") -> "Dict[str, str]":
    """The highest of the versions of each prefix: GLIBC_2.2.5 and GLIBC_2.17 -> ``{"GLIBC": "2.17"}``.

    A version without a number stands for itself, with an empty value.
    """
    best = {}  # type: Dict[str, Tuple[List[int], str]]
    for version in versions:
        match = _NUMBERED.match(version)
        prefix, number = (match.group(1), match.group(2)) if match else (version, "")
        order = [int(part) for part in re.findall(r"\d+", number)]
        if prefix not in best or order > best[prefix][0]:
            best[prefix] = (order, number)
    return {prefix: number for prefix, (_, number) in best.items()}


_NUMBERED = re.compile(r"^(.*?)_?(\d+(?:[._]\d+)*[a-z]?)$")


def debian_packages(soname: "str") -> "List[str]":
    """Names that Debian's policy (chapter 8.1) gives to a shared library's package, likely ones first."""
    if _DEBIAN_LIBC.match(soname):
        return ["libc6"]
    if soname in _DEBIAN:
        return _DEBIAN[soname]
    match = re.match(r"^(.+?)(?:-([\d.]+))?\.so(?:\.(.+))?$", soname)
    if not match:
        return []
    name = match.group(1).lower().replace("_", "-")
    number = match.group(3) or match.group(2) or ""
    joined = name + ("-" if name[-1:].isdigit() else "") + number
    return [joined, joined + "t64", name + number, name]


class Answers:
    """The two tables of what distributions need from outside of themselves, and which file answers."""

    def __init__(self, measurement: "Measurement") -> "None":
        self.measurement = measurement
        self.distributions = {}  # type: Dict[str, Dict[str, Any]]
        self._providers = {}  # type: Dict[str, Dict[str, Mapped]]
        self._driver = set()  # type: Set[str]
        versions = {}  # type: Dict[Tuple[str, str], Set[str]]
        for file in measurement.environment.files:
            role = measurement.roles.get(file.key)
            if role in (None, "shadowed"):
                continue
            record = self._of(file.owner)
            if role == "foreign":
                record["foreign_modules"] = record.get("foreign_modules", 0) + 1
                continue
            record["modules" if role == "module" else "libraries"] += 1
            numpy = measurement.records.get(file.key, {}).get("numpy_c_api")
            if numpy and role == "module":
                record["numpy_1_modules"] = record.get("numpy_1_modules", 0) + 1
        for owner, unseen in measurement.unseen.items():
            self._of(owner)["unseen_modules"] = unseen
        for file in measurement.environment.files:
            walk = measurement.walks.get(file.key)
            if walk is not None and measurement.roles[file.key] == "module":
                for mapped in walk.mapped:
                    self._add(file.owner, mapped, walk, versions)
        for mapped in measurement.start.mapped:
            self._add(library_files.PYTHON, mapped, measurement.start, versions)
        for (owner, soname), found in versions.items():
            self.distributions[owner]["needs"][soname]["versions"] = highest(found)

    def _of(self, owner: "Optional[str]") -> "Dict[str, Any]":
        return self.distributions.setdefault(owner or "", {"modules": 0, "libraries": 0, "needs": {}})

    def _add(
        self,
        owner: "Optional[str]",
        mapped: "Mapped",
        walk: "Walk",
        versions: "Dict[Tuple[str, str], Set[str]]",
    ) -> "None":
        """What one library of a walk needs from outside of the distribution whose module was opened."""
        here = self.measurement
        theirs = here.owners.get(mapped.library.identity)
        # What libraries of the system need of each other is the system's own affair.
        if theirs != owner and mapped.library is not here.loader.program:
            return
        table = self._of(owner)["needs"]
        for soname, answer in mapped.edges:
            library = answer.library
            if library is not None and here.owners.get(library.identity) == owner and owner:
                continue
            need = table.setdefault(soname, {"answers": {}, "versions": {}})
            if library is None:
                if answer.reason:
                    need["answers"][""] = answer.reason
            else:
                path = here.name(answer.name)
                need["answers"][path] = answer.reason
                provider = walk.files.get(library.identity)
                if provider is not None:
                    self._providers.setdefault(soname, {}).setdefault(path, provider)
            required = mapped.elf.required.get(soname)
            if required:
                versions.setdefault((owner or "", soname), set()).update(
                    version for version, weak in required.items() if not weak
                )

    def libraries(self) -> "Dict[str, Any]":
        """By soname and by file: how it was found, what it offers, who owns it."""
        here = self.measurement
        owned = _SystemOwners(here.place)
        table = {}  # type: Dict[str, Any]
        for soname, providers in self._providers.items():
            for path, mapped in providers.items():
                answer = mapped.answer
                record = {
                    "reason": answer.reason,
                    "assumption": answer.assumption,
                    "offers": highest(mapped.elf.offered),
                    "distribution": here.owners.get(mapped.library.identity),
                }
                real = os.path.basename(os.path.realpath(here.place.real(answer.name)))
                if real != path.rsplit("/", 1)[-1]:
                    record["file"] = real
                if answer.otherwise:
                    record["otherwise"] = here.name(answer.otherwise)
                if record["distribution"] is None:
                    record["package"] = owned.find(soname, path, real)
                table.setdefault(soname, {})[path] = record
        return table


class _SystemOwners:
    """Which package of the operating system a library came with, where a cheap look-up tells."""

    def __init__(self, place: "Place") -> "None":
        self.place = place
        self.manager = os_packages.present_manager(place)
        self._lists = {}  # type: Dict[str, List[str]]
        if self.manager == "dpkg":
            for name in place.list_dir(os_packages.DPKG_INFO):
                if name.endswith(".list"):
                    self._lists.setdefault(name[:-5].split(":")[0], []).append(name[:-5])

    def find(self, soname: "str", path: "str", real: "str") -> "Optional[str]":
        paths = [path, path.rsplit("/", 1)[0] + "/" + real]
        if self.manager == "dpkg":
            wanted = os_packages.spellings(paths)
            for candidate in debian_packages(soname):
                for stored in self._lists.get(candidate, ()):
                    if os_packages.dpkg_owns(self.place, stored, wanted):
                        return candidate
            return None
        package = os_packages.owner(self.place, self.manager, paths)
        return str(package.name) if package is not None else None
