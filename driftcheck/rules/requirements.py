"""Requirements of installed distributions, judged for the interpreter that a snapshot describes.

Markers are evaluated with ``packaging`` in an environment made of the facts of section ``python``, never in
that of the interpreter which runs driftcheck. What cannot be parsed is left out: it states nothing that could
be broken.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Facts = Mapping[str, Any]

# Distributions that bring one module under several names (each project's own documentation says: install
# one).
# https://github.com/opencv/opencv-python#installation-and-usage, https://onnxruntime.ai/docs/install/,
# https://www.tensorflow.org/install/pip, https://github.com/faiss-wheels/faiss-wheels (read 2026-11-22)
VARIANTS: tuple[tuple[str, ...], ...] = (
    (
        "opencv-contrib-python-headless",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-python",
    ),
    (
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-rocm",
        "onnxruntime-migraphx",
        "onnxruntime-qnn",
        "onnxruntime",
    ),
    ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "tensorflow-rocm", "intel-tensorflow"),
    ("faiss-gpu-cu12", "faiss-gpu-cu11", "faiss-gpu", "faiss-cpu"),
)

# In the order in which transformers.dependency_versions_check asks for them. `python` is Requires-Python's,
# and
# accelerate is asked for only where it is new enough already.
TRANSFORMERS_PINS = (
    "tqdm",
    "regex",
    "packaging",
    "filelock",
    "numpy",
    "tokenizers",
    "huggingface-hub",
    "safetensors",
    "pyyaml",
)

# What transformers.utils does not import before the check, so that nothing can fail earlier (seen in
# 4.46.3, 4.57.1
# and 5.23.0).
_CHECKED_BEFORE_IMPORT = frozenset({"tokenizers", "safetensors"})
_TRANSFORMERS_SEEN = (Version("4.46.3"), Version("5.23.0"))
_TRANSFORMERS_HINT = "Try: `pip install transformers -U` or `pip install -e '.[dev]'` if you're working with git main"


@dataclass(frozen=True)
class Unmet:
    """One requirement that does not hold.

    ``owner``      normalised name of the distribution that states it
    ``stated``     the requirement as it stands in the snapshot (the key below ``requires``)
    ``name``       normalised name of what it asks for
    ``text``       the requirement without marker, as a person would write it
    ``specifiers`` versions that would do
    ``version``    the installed version, None where the distribution is missing
    """

    owner: str
    stated: str
    name: str
    text: str
    specifiers: SpecifierSet
    version: str | None

    @property
    def missing(self) -> bool:
        return self.version is None


def version_of(record: Facts) -> str | None:
    """The version of a distribution: its metadata's, else that in the name of its metadata directory."""
    found = record.get("version") or record.get("version_of_folder")
    return found if isinstance(found, str) else None


@functools.lru_cache(maxsize=4096)
def parsed(version: str | None) -> Version | None:
    """A PEP 440 version, or None for what is none."""
    try:
        return Version(version) if version else None
    except InvalidVersion:
        return None


def marker_environment(python: Facts) -> dict[str, str]:
    """The variables of PEP 508 for the measured interpreter. ``platform_release`` and ``_version`` are not
    known.
    """
    platform = python.get("platform") or {}
    system = platform.get("system", "")
    machine = platform.get("machine", "")
    version = python.get("version", "")
    implementation = python.get("implementation", "")
    return {
        "implementation_name": implementation,
        "implementation_version": version,
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": machine.upper() if system == "win32" else machine,
        "platform_python_implementation": _IMPLEMENTATIONS.get(implementation, implementation),
        "platform_release": "",
        "platform_system": _SYSTEMS.get(system, system),
        "platform_version": "",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": system,
    }


_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy", "graalpy": "GraalVM", "ironpython": "IronPython"}
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows", "freebsd": "FreeBSD"}


@functools.lru_cache(maxsize=8192)
def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


@functools.lru_cache(maxsize=8192)
def _marker(text: str) -> Marker | None:
    try:
        return Marker(text)
    except ValueError:  # InvalidMarker
        return None


def holds(marker_text: str, environment: Mapping[str, str], extras: frozenset[str] = frozenset()) -> bool:
    """Whether a marker is true for the environment with any of these extras; false where it cannot be
    judged.
    """
    return not marker_text or _judged(marker_text, tuple(environment.items()), extras)


@functools.lru_cache(maxsize=16384)
def _judged(marker_text: str, environment: tuple[tuple[str, str], ...], extras: frozenset[str]) -> bool:
    # Several rules ask the same of both sides, and to evaluate a thousand markers takes 50 ms.
    marker = _marker(marker_text)
    if marker is None:
        return False
    names = ("", *sorted(extras)) if "extra" in marker_text else ("",)
    for extra in names:
        try:
            if marker.evaluate({**dict(environment), "extra": extra}):
                return True
        except (
            ValueError,
            KeyError,
            TypeError,
        ):  # InvalidVersion, UndefinedComparison, a name that is not known
            continue
    return False


def requested_extras(distributions: Facts, environment: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The extras of each distribution that others ask for (``foo[bar]``), followed to the end."""
    extras: dict[str, frozenset[str]] = {}
    waiting = list(distributions)
    while waiting:
        owner = waiting.pop()
        own = extras.get(owner, frozenset())
        for text, marker in distributions[owner]["requires"].items():
            if "[" not in text or not holds(marker, environment, own):
                continue
            wanted = _requirement(text)
            if wanted is None or not wanted.extras:
                continue
            name = canonicalize_name(wanted.name)
            more = extras.get(name, frozenset()) | {canonicalize_name(extra) for extra in wanted.extras}
            if name in distributions and more != extras.get(name):
                extras[name] = more
                waiting.append(name)
    return extras


def needs(distributions: Facts, python: Facts) -> dict[str, list[str]]:
    """The installed distributions that each installed one requires here, by normalised name, sorted."""
    return {
        owner: sorted({name for name, _, _ in wanted if name in distributions})
        for owner, wanted in requirements_of(distributions, python).items()
    }


def requirements_of(distributions: Facts, python: Facts) -> dict[str, list[tuple[str, Requirement, str]]]:
    """What each distribution requires for this interpreter, with the extras that others ask for.

    Of each requirement the normalised name, itself, and its text in the snapshot (the key below ``requires``).
    """
    environment = marker_environment(python)
    extras = requested_extras(distributions, environment)
    found: dict[str, list[tuple[str, Requirement, str]]] = {}
    for owner in sorted(distributions):
        own = extras.get(owner, frozenset())
        found[owner] = [
            (canonicalize_name(wanted.name), wanted, text)
            for text, marker in sorted(distributions[owner]["requires"].items())
            if holds(marker, environment, own) and (wanted := _requirement(text)) is not None
        ]
    return found


def unmet(distributions: Facts, python: Facts) -> Iterator[Unmet]:
    """Requirements of installed distributions that do not hold, by owner and requirement.

    A pre-release satisfies a requirement once it is installed, as ``pip check`` sees it. A version that PEP
    440 cannot parse satisfies everything: nothing can be proved of it.
    """
    for owner, entries in requirements_of(distributions, python).items():
        for name, wanted, text in entries:
            record = distributions.get(name)
            if record is None:
                yield Unmet(owner, text, name, _text(wanted), wanted.specifier, None)
                continue
            version = version_of(record)
            if version is not None and not satisfies(version, wanted.specifier):
                yield Unmet(owner, text, name, _text(wanted), wanted.specifier, version)


def _text(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{ordered(requirement.specifier)}"


def ordered(specifiers: SpecifierSet) -> str:
    """``>=1.31.0,<3.0``: from the lower bound to the upper, as people write it (a set has no order)."""
    listed = sorted(specifiers, key=lambda entry: (_ORDER.index(entry.operator), str(entry)))
    return ",".join(dict.fromkeys(str(entry) for entry in listed))


_ORDER = (">=", ">", "~=", "==", "===", "!=", "<", "<=")


def satisfies(version: str, specifiers: SpecifierSet) -> bool:
    """Whether an installed version will do; true for one that cannot be parsed."""
    if parsed(version) is None:
        return True
    try:
        return specifiers.contains(version, prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return True


def is_hard(version: str, specifiers: SpecifierSet) -> bool:
    """Whether a conflict is of the kind that usually breaks: an exact pin, or another major version.

    The major version of ``0.19.1`` is ``0.19``. ``<2.5`` with 2.6 installed is caution; ``<2`` with 2.1 is a
    known break, and so is ``>=2`` with 1.26.
    """
    installed = parsed(version)
    return installed is not None and any(
        _hard(installed, entry) for entry in specifiers if not satisfies(version, SpecifierSet(str(entry)))
    )


def _hard(installed: Version, broken: Specifier) -> bool:
    if broken.operator in {"==", "===", "~="}:
        return True
    bound = parsed(broken.version)
    if bound is None or broken.operator == "!=":
        return False
    if broken.operator == "<" and not any(bound.release[len(_major(bound)) :]):
        return _major(installed) >= _major(bound)
    return _major(installed) != _major(bound)


def _major(version: Version) -> tuple[int, ...]:
    release = (*version.release, 0, 0)
    return release[:1] if release[0] else release[:2]


def fitting(unmet_one: Unmet, baseline: Facts | None) -> str:
    """What to hand to pip: the baseline's version where it will do, else the requirement itself."""
    record = (baseline or {}).get(unmet_one.name)
    version = version_of(record) if record else None
    if version and parsed(version) is not None and satisfies(version, unmet_one.specifiers):
        return f"{unmet_one.name}=={version}"
    return f'"{unmet_one.text}"' if unmet_one.specifiers else unmet_one.text


def variants_of(name: str) -> tuple[str, ...]:
    """All names under which the module of this distribution is published; empty for most."""
    return next((group for group in VARIANTS if name in group), ())


def main_module(record: Facts) -> str | None:
    """The one name by which a distribution is imported, where it is clear."""
    public = [name for name in record["modules"] if not name.startswith("_")]
    wanted = re.sub(r"[-.]+", "_", str(record["name"])).lower()
    same = [name for name in public if name.lower() == wanted]
    found = same or public
    return found[0] if len(found) == 1 else None


# What transformers itself checks.


def transformers_error(pin: Unmet) -> str | None:
    """What ``import transformers`` prints for a pin of its own, verbatim; None for what it does not check.

    From ``transformers/utils/versions.py``: the operators are applied to the versions as they are, so a
    pre-release of an excluded version passes there.
    """
    if pin.owner != "transformers" or pin.name not in TRANSFORMERS_PINS:
        return None
    requirement = re.sub(r"\s", "", pin.text)
    if pin.version is None:
        if pin.name == "tokenizers":
            return None  # only checked where it is installed
        return (
            f"importlib.metadata.PackageNotFoundError: No package metadata was found for The '{requirement}' "
            f"distribution was not found and is required by this application. \n{_TRANSFORMERS_HINT}"
        )
    if not any(_refuses(pin.version, entry) for entry in pin.specifiers):
        return None
    name = re.split(r"[!=<>~]", requirement, maxsplit=1)[0]
    return (
        f"ImportError: {requirement} is required for a normal functioning of this module, but found "
        f"{name}=={pin.version}.\n{_TRANSFORMERS_HINT}"
    )


def transformers_is_certain(pin: Unmet, broken: Sequence[Unmet], distributions: Facts) -> bool:
    """Whether that text is proved: nothing that is imported before the check can fail for another reason.

    So neither transformers nor anything below it may miss another requirement, and the files must be its own.
    """
    transformers = distributions["transformers"]
    version = parsed(version_of(transformers))
    lowest, highest = _TRANSFORMERS_SEEN
    below = _closure("transformers", distributions)
    return (
        pin.name in _CHECKED_BEFORE_IMPORT
        and pin.version is not None
        and version is not None
        and lowest <= version <= highest
        and all(entry is pin or entry.owner not in below for entry in broken)
        and not any(transformers.get(key) for key in ("shadowed_by", "missing_files", "altered_files"))
        and not distributions[pin.name].get("other_installs")
    )


def _closure(name: str, distributions: Facts) -> set[str]:
    """A distribution and all that it could require, markers or not."""
    found = {name}
    waiting = [name]
    while waiting:
        for text in distributions[waiting.pop()]["requires"]:
            wanted = _requirement(text)
            key = canonicalize_name(wanted.name) if wanted else ""
            if key in distributions and key not in found:
                found.add(key)
                waiting.append(key)
    return found


def _refuses(version: str, broken: Specifier) -> bool:
    installed, bound = parsed(version), parsed(broken.version)
    if installed is None or bound is None:
        return False
    return not {
        "<": installed < bound,
        "<=": installed <= bound,
        "==": installed == bound,
        "!=": installed != bound,
        ">=": installed >= bound,
        ">": installed > bound,
    }.get(broken.operator, True)


# Wheel tags.


def wheel_tags(record: Facts) -> frozenset[Tag]:
    """The tags of the wheel that was installed, compressed sets taken apart; empty where none can be read."""
    tags: set[Tag] = set()
    for text in record["tags"]:
        try:
            tags |= parse_tag(text)
        except ValueError:  # not three parts, or a set that is absurdly large
            continue
    return frozenset(tags)


def interpreter_of(tag: Tag) -> str:
    """``cp311-cp311``, as section ``python`` lists them."""
    return f"{tag.interpreter}-{tag.abi}"


def accepts(python_tags: Facts, tag: Tag) -> bool:
    """Whether an interpreter accepts a wheel of this tag."""
    interpreter = interpreter_of(tag)
    if interpreter not in python_tags["interpreters"]:
        return False
    return tag.platform in python_tags["platforms"] or (tag.platform == "any" and tag.abi == "none")


_PLATFORM = re.compile(
    r"(?P<kind>manylinux|musllinux|linux|macosx|win|any)"
    r"(?:(?:_(?P<version>\d+_\d+)|(?P<old>1|2010|2014))(?=_))?_?(?P<machine>.*)"
)


@dataclass(frozen=True)
class Platform:
    """A platform tag taken apart: ``manylinux_2_28_x86_64`` is linux with glibc, 2.28, x86_64."""

    kind: str
    version: tuple[int, ...]
    machine: str

    @property
    def family(self) -> tuple[str, str]:
        """What must be equal for a wheel to have a chance: system with its libc, and machine."""
        return ("manylinux" if self.kind == "linux" else self.kind, self.machine)


def platform_of(tag: str) -> Platform:
    """Source: PEP 600, PEP 656 and the specification of platform compatibility tags."""
    found = _PLATFORM.fullmatch(tag)
    if found is None:
        return Platform(tag, (), "")
    version = found["version"] or {"1": "2_5", "2010": "2_12", "2014": "2_17"}.get(found["old"] or "", "")
    return Platform(found["kind"], tuple(int(part) for part in version.split("_") if part), found["machine"] or "")
