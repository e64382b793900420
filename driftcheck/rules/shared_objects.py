"""What the rules of family LIB ask of the section ``libraries``, and the lines that mend a missing library."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from driftcheck.findings import Confidence, Evidence, Fix, Impact
from driftcheck.knowledge import tables
from driftcheck.rules import requirements as req
from driftcheck.rules.accelerators import build_of
from driftcheck.rules.base import at, lookup
from driftcheck.rules.distributions import ASIDE, distributions_of, pinned, pip_fix, without_bytecode
from driftcheck.rules.importing import Standing, alternatives_of, is_presumed, is_unasked, sentence, standing_of
from driftcheck.rules.system_packages import install, manager_of, same_names, tool_of
from driftcheck.rules.wheels import req_name
from driftcheck.snapshot import Snapshot

FILES = ("libraries", "files")
NOT_FOUND = "cannot open shared object file: No such file or directory"

# How many files are named before "and N more", and how many stand as evidence.
NAMED = 4

# Parts of the standard library that a minimal image does without: user interfaces, terminals, old databases.
_SPARE = frozenset(
    """
    _tkinter _curses _curses_panel readline _gdbm _dbm nis ossaudiodev audioop spwd _crypt xxlimited xxlimited_35
    """.split()  # noqa: SIM905 - a list of words to read
)
_MODULE = re.compile(r"(?:\.(?:cpython-\d+|abi3|pypy\d)[\w-]*)?\.so$")

# What a wheel may expect of every system (PEP 600 and its predecessors, less what belongs to a desktop).
_COMMON = re.compile(
    r"^(?:ld-linux[\w-]*|lib(?:c|m|dl|pthread|rt|util|nsl|resolv|gcc_s|stdc\+\+|z|atomic|crypt|expat))\.so\.|^libc\.musl"
)

# Whose absence leaves a program without its accelerator and not without its life.
_ACCELERATOR = re.compile(
    r"^lib(?:cu(?:da|blas|dnn|fft|rand|solver|sparse|tensor|pti|file)|nv(?:rtc|infer|JitLink|onnxparser|ToolsExt|jpeg)"
    r"|nccl|tensorrt|trt|c10_(?:cuda|hip|xpu)|torch_(?:cuda|hip|xpu)|amdhip|hip|roc|MIOpen|migraphx|rccl|hsa"
    r"|ze_loader|openvino|sycl|onednn|cann|ascend|tpu)",
)
_ACCELERATOR_FILE = re.compile(
    r"(?:^|[_/.-])(?:cuda|gpu|tensorrt|trt|rocm|hip|migraphx|openvino|xpu|vitisai|cann|nccl)(?:[_/.\d-]|$)"
)


@dataclass(frozen=True)
class Failing:
    """One file that cannot be loaded, by one of its causes: the fact at ``(*FILES, key, table, name)``.

    ``alone``    its distribution has no other machine code: a package around one library, which it opens itself
    ``instead``  modules that its package takes in its place, and that can be loaded
    """

    key: str
    record: dict[str, Any]
    table: str
    name: str
    entry: dict[str, Any]
    alone: bool = False
    instead: tuple[str, ...] = ()

    @property
    def path(self) -> tuple[str, ...]:
        return (*FILES, self.key, self.table, self.name)

    @property
    def owner(self) -> str:
        return str(self.record["distribution"] or "")

    @property
    def is_module(self) -> bool:
        return bool(self.record["role"] == "module")

    @property
    def standing(self) -> Standing:
        return standing_of(self.record)

    @property
    def text(self) -> str:
        """The first thing at which the loader stops for this file, in its words."""
        return str(self.record.get("first_failure", {}).get("text", ""))

    @property
    def kind(self) -> str:
        return str(self.record.get("first_failure", {}).get("kind", ""))


def files_of(snapshot: Snapshot | None) -> dict[str, Any]:
    """Records of the files with something to say, by key."""
    found: dict[str, Any] = (snapshot.facts("libraries") or {}).get("files", {}) if snapshot is not None else {}
    return found


def loaded(snapshot: Snapshot) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those files that something loads: modules and plugins, the ones nearest to the top of a package first."""
    named = [(key, record) for key, record in files_of(snapshot).items() if record["role"] in {"module", "plugin"}]
    return iter(sorted(named, key=lambda pair: (pair[1]["role"] != "module", pair[0].count("/"), pair[0])))


def failing(snapshot: Snapshot, table: str) -> Iterator[Failing]:
    """Every entry of one table (``missing``, ``missing_versions``, ``undefined``) of modules and plugins.

    What another rule speaks of is left out: torchvision and torchaudio beside a torch of another accelerator
    (PKG008).
    """
    for key, record in loaded(snapshot):
        if _other_accelerator(snapshot, record["distribution"]):
            continue
        alone = record["role"] == "plugin" and _is_alone(snapshot, record["distribution"])
        instead = alternatives(snapshot, record)
        for name, entry in sorted(record.get(table, {}).items()):
            if entry:
                yield Failing(key, record, table, name, entry, alone, instead)


def alternatives(snapshot: Snapshot, record: dict[str, Any]) -> tuple[str, ...]:
    """The modules that stand in for one that is only tried, less those that cannot be loaded either."""
    if standing_of(record) is not Standing.TRIED:
        return ()
    gone = {module_name(key) for key, other in files_of(snapshot).items() if "first_failure" in other}
    return tuple(sorted(alternatives_of(record) - gone))


def _is_alone(snapshot: Snapshot, owner: str | None) -> bool:
    """Whether a distribution has one file of machine code: a library, as LightGBM's, and no extension module."""
    counted: dict[str, Any] = lookup(snapshot, ("libraries", "distributions", owner)) or {} if owner else {}
    return counted.get("modules") == 0 and counted.get("libraries") == 1


def _other_accelerator(snapshot: Snapshot, owner: str | None) -> bool:
    distributions = distributions_of(snapshot)
    if owner not in {"torchvision", "torchaudio"} or owner not in distributions or "torch" not in distributions:
        return False
    builds = [build_of(distributions[name]) for name in ("torch", owner)]
    return None not in builds and builds[0] != builds[1]


def module_name(key: str) -> str:
    """``cv2/cv2.abi3.so`` is imported as ``cv2.cv2``; an absolute path stays."""
    if key.startswith(("/", "~")):
        return key
    return _MODULE.sub("", key).replace("lib-dynload/", "").replace("/", ".")


# Weight


def impact_of(one: Failing) -> Impact:
    """What it means that this file does not load: by who would load it."""
    if ASIDE.search(one.key):
        return Impact.NOTE
    if not one.is_module:
        return Impact.BREAKS if one.alone else Impact.SLOWS
    if one.owner == "python" and is_spare(one.key):
        return Impact.NOTE
    return impact_of_module(one.record, one.instead)


def impact_of_module(record: dict[str, Any], instead: Sequence[str]) -> Impact:
    """What it means that a module does not load: by who imports it, and by what its package takes ``instead``."""
    standing = standing_of(record)
    if standing is Standing.TRIED and instead:
        return Impact.NOTE
    return Impact.SLOWS if standing in {Standing.TRIED, Standing.CALLED} else Impact.BREAKS


def is_spare(key: str) -> bool:
    name = module_name(key)
    return name in _SPARE or name.startswith(("_test", "_ctypes_test", "_xx"))


def worst(ones: Sequence[Failing]) -> Impact:
    return min((impact_of(one) for one in ones), key=lambda impact: impact.rank)


def is_accelerator(one: Failing) -> bool:
    """Whether the file only brings an accelerator: by what it lacks, or by its name.

    An extension module counts where most others of its distribution load without that library.
    """
    by_need = bool(_ACCELERATOR.match(one.name))
    if not one.is_module:
        return by_need or bool(_ACCELERATOR_FILE.search(one.key.lower()))
    return False


def is_optional_part(snapshot: Snapshot, one: Failing) -> bool:
    """A module that lacks an accelerator's library, in a distribution of which most modules do not."""
    if not one.is_module or not _ACCELERATOR.match(one.name):
        return False
    total = lookup(snapshot, ("libraries", "distributions", one.owner, "modules")) or 0
    same = sum(
        record["role"] == "module" and record["distribution"] == one.record["distribution"] and "missing" in record
        for record in files_of(snapshot).values()
    )
    return bool(2 * same < total)


def confidence_of(snapshot: Snapshot, one: Failing) -> Confidence:
    """Certain where the answer hangs on nothing but the files themselves, and something surely asks for this one."""
    return max(_confidence_in_answer(snapshot, one), _confidence_in_import(snapshot, one), key=lambda sure: sure.rank)


def _confidence_in_import(snapshot: Snapshot, one: Failing) -> Confidence:
    """Whether something fails with a module that cannot be loaded."""
    if not is_presumed(one.record):
        return Confidence.CERTAIN
    return Confidence.POSSIBLE if _is_side_part(snapshot, one) else Confidence.LIKELY


def _confidence_in_answer(snapshot: Snapshot, one: Failing) -> Confidence:
    """Whether the file really cannot be loaded."""
    found = Confidence.CERTAIN
    if not one.is_module and not is_accelerator(one):
        found = Confidence.LIKELY  # who opens it, and what that one does without it, is not in the files
    if one.record.get("lent"):
        found = Confidence.LIKELY  # what is lent is presumed to be loaded by then
    elsewhere = one.entry.get("elsewhere")
    if elsewhere:
        owner = owner_of(snapshot, elsewhere)
        related = owner == one.owner or owner in closure(snapshot, one.owner)
        found = Confidence.POSSIBLE if related and owner != "" else Confidence.LIKELY
    for provider in providers_of(one):
        answer = lookup(snapshot, ("libraries", "libraries", one.name, provider)) or {}
        if answer.get("assumption") or answer.get("reason") == "dependency":
            found = Confidence.LIKELY
    if one.table == "undefined" and found is Confidence.CERTAIN:
        found = _of_symbol(snapshot, one)
    return found


def _is_side_part(snapshot: Snapshot, one: Failing) -> bool:
    """A module for users to import, that nothing of its distribution does, as those of PyQt5; most others load."""
    if not is_unasked(one.record):
        return False
    total = lookup(snapshot, ("libraries", "distributions", one.owner, "modules")) or 0
    gone = sum(
        record["role"] == "module" and record["distribution"] == one.owner and "first_failure" in record
        for record in files_of(snapshot).values()
    )
    return bool(2 * gone < total)


def providers_of(one: Failing) -> set[str]:
    """The files that answer the need and do not offer the version."""
    return {lacking["provider"] for lacking in one.entry.values()} if one.table == "missing_versions" else set()


def _of_symbol(snapshot: Snapshot, one: Failing) -> Confidence:
    """A wheel that lies there as it was made, and that is alone with its symbols, was made to be like that."""
    if one.name.startswith(("Py", "_Py")):
        return Confidence.CERTAIN
    record = distributions_of(snapshot).get(one.owner)
    if record is None or record["record"] is None or damaged(record):
        return Confidence.CERTAIN
    needs = lookup(snapshot, ("libraries", "distributions", one.owner, "needs")) or {}
    if all(_COMMON.match(soname) for soname in needs) and not one.entry.get("version"):
        return Confidence.POSSIBLE
    return Confidence.CERTAIN


def damaged(record: dict[str, Any]) -> bool:
    """Whether files of a distribution are gone, or not those that it brought."""
    return any(without_bytecode(record.get(key))["count"] for key in ("missing_files", "altered_files"))


def owner_of(snapshot: Snapshot, key: str) -> str:
    """The distribution of a file, known also where the file itself has nothing to say."""
    record = files_of(snapshot).get(key)
    if record is not None:
        return str(record["distribution"] or "")
    first = key.split("/", 1)[0]
    for name, entry in distributions_of(snapshot).items():
        if first in entry["modules"] or first == f"{name.replace('-', '_')}.libs":
            return str(name)
    return ""


def closure(snapshot: Snapshot, name: str) -> set[str]:
    """The installed distributions that this one requires, directly or not."""
    distributions = distributions_of(snapshot)
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        record = distributions.get(waiting.pop())
        for text in record["requires"] if record is not None else ():
            other = req_name(text)
            if other in distributions and other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


# Words


def path_of(snapshot: Snapshot, key: str) -> str | None:
    """The path of a file as Python hands it to the loader, where its distribution says where it lies."""
    if key.startswith("/"):
        return key
    record = distributions_of(snapshot).get(owner_of(snapshot, key))
    return f"{record['location']}/{key}" if record is not None else None


def predicted(ones: Iterable[Failing], kind: str) -> tuple[Failing | None, str | None]:
    """The first file that stops at this cause first, and what its import prints (ctypes says OSError)."""
    for one in ones:
        if one.standing is Standing.TRIED:
            continue  # caught, so nobody sees it
        if (one.is_module or one.alone) and one.kind == kind and _speaks_of(one):
            return one, f"{'ImportError' if one.is_module else 'OSError'}: {one.text}"
    return None, None


def _speaks_of(one: Failing) -> bool:
    """Whether the first failure of a file is this one of its causes."""
    if one.table == "missing":
        file = str(one.entry.get("file", "")).rsplit("/", 1)[-1]
        return (
            one.text.startswith(f"{one.name}: ")
            or f"shared library {one.name}: " in one.text
            or bool(file and f"/{file}: {one.entry['error']}" in one.text)
        )
    if one.table == "missing_versions":
        return any(f"version `{version}' not found" in one.text for version in one.entry)
    return f"undefined symbol: {one.name}" in one.text or f": {one.name}: symbol not found" in one.text


def chain_text(chain: Sequence[str], need: str) -> str:
    """By which way the need comes up: ``cv2/cv2.abi3.so needs libQt5Core.so.5, which needs libGL.so.1``."""
    first, *rest = chain or ["It"]
    steps = [*(step.rsplit("/", 1)[-1] for step in rest), need]
    return f"{first} needs {', which needs '.join(steps)}"


def files_text(ones: Sequence[Failing]) -> str:
    keys = list(dict.fromkeys(one.key for one in ones))
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")


def owners_text(snapshot: Snapshot, ones: Sequence[Failing]) -> str:
    """``opencv-python and torch``: whose files these are, by their own names."""
    distributions = distributions_of(snapshot)
    names = list(dict.fromkeys(one.owner or module_name(one.key) for one in ones))
    shown = [
        "the standard library" if name == "python" else distributions.get(name, {}).get("name", name)
        for name in names[:NAMED]
    ]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (" and ".join(shown) if len(shown) < 3 and not more else ", ".join(shown)) + more


def worst_first(ones: Iterable[Failing]) -> list[Failing]:
    """Those of which most depends before the others."""
    return sorted(ones, key=lambda one: impact_of(one).rank)


def importing_text(snapshot: Snapshot, one: Failing) -> str:
    """Who imports this file and what becomes of it, as a sentence with a space before it; empty where it is unknown."""
    text = sentence(one.record, owners_text(snapshot, [one]), one.instead) if one.is_module else ""
    return f" {text}" if text else ""


def evidence_of(snapshot: Snapshot, ones: Sequence[Failing]) -> list[Evidence]:
    """The facts of the first few, each with the first failure of its file."""
    found: list[Evidence] = []
    for one in ones[:NAMED]:
        found.append(at(snapshot, "target", *one.path))
        if "first_failure" in one.record:
            found.append(at(snapshot, "target", *FILES, one.key, "first_failure"))
    found.extend(at(snapshot, "target", *FILES, one.key, "importers") for one in ones[:1] if "importers" in one.record)
    return list({entry.path: entry for entry in found}.values())


# Fixes

_SONAME = re.compile(r"[\w.+-]+")
_HASHED = re.compile(r"-[0-9a-f]{8}(?:\.|$)")


def library_fix(target: Snapshot, baseline: Snapshot | None, soname: str, owners: Iterable[str]) -> list[Fix]:
    """How to bring a library: as the baseline has it, by reinstalling who bundled it, or by the table."""
    known = lookup(baseline, ("libraries", "libraries", soname)) if baseline is not None else None
    for _, answer in sorted((known or {}).items()):
        if answer["distribution"] is not None:
            record = distributions_of(baseline).get(answer["distribution"])
            return list(pip_fix(target, f"install {pinned(record) if record else answer['distribution']}"))
        package = answer.get("package")
        if package and same_names(target, baseline):
            return [install(target, package)]
    bundled = _bundling(target, soname, owners)
    if bundled is not None:
        return list(pip_fix(target, f"install --force-reinstall --no-deps {bundled}"))
    row, manager = _rows().get(soname), manager_of(target)
    if manager == "rpm" and (row is None or (row.pip is None and tool_of(target) == "zypper")):
        # Packages state what they provide, and dnf, yum and zypper take that for a name; SUSE's own are not Fedora's.
        bits = "()(64bit)" if lookup(target, ("libraries", "interpreter", "bits")) == 64 else ""
        return [install(target, f"'{soname}{bits}'")] if _SONAME.fullmatch(soname) else []
    if row is None:
        return [Fix("advice", f"Find the package that holds {soname} (apt-file search {soname}) and install it.")]
    if row.pip is not None:
        return list(pip_fix(target, f"install {row.pip}"))
    name = {"dpkg": row.debian, "rpm": row.fedora, "apk": row.alpine}.get(manager or "")
    if manager == "dpkg" and row.debian_t64 is not None and _has_t64(target):
        name = row.debian_t64
    if name is None or manager is None:
        return [Fix("advice", f"Install the system package that holds it (Debian calls it {row.debian}).")]
    return [install(target, name)]


def _has_t64(snapshot: Snapshot) -> bool:
    """Debian 13 and Ubuntu 24.04 renamed what holds a time_t of 64 bits; packages of theirs tell."""
    packages = lookup(snapshot, ("system", "packages", "packages")) or {}
    return any(name.endswith("t64") for name in packages)


def _bundling(target: Snapshot, soname: str, owners: Iterable[str]) -> str | None:
    """The distribution that brought a library with this name, pinned; its file is gone."""
    distributions = distributions_of(target)
    for name in dict.fromkeys(owners):
        record = distributions.get(name)
        if record is None:
            continue
        gone = without_bytecode(record.get("missing_files"))["examples"]
        if _HASHED.search(soname) or any(path.rsplit("/", 1)[-1] == soname for path in gone):
            return pinned(record)
    return None


@functools.cache
def _rows() -> dict[str, tables.LibraryPackage]:
    return {row.soname: row for row in tables.library_packages()}


# Versions


def ordered(version: str) -> list[int]:
    """``GLIBC_2.38`` -> [2, 38]: to find the highest of one family."""
    return [int(part) for part in re.findall(r"\d+", version.rsplit("_", 1)[-1])]


def glibc_of(snapshot: Snapshot) -> str | None:
    """The version of the C library that the loader finds: as section system says, or by its own version names.

    Not every release has a name of its own (glibc 2.31 ends at GLIBC_2.30), so the names are what it has at least.
    """
    answers = (lookup(snapshot, ("libraries", "libraries", "libc.so.6")) or {}).values()
    offered = next(filter(None, (req.parsed(answer["offers"].get("GLIBC")) for answer in answers)), None)
    stated = None
    if lookup(snapshot, ("system", "libc", "family")) == "glibc":
        stated = req.parsed(lookup(snapshot, ("system", "libc", "version")))
    known = [version for version in (stated, offered) if version is not None]
    return str(max(known)) if known else None
