"""What an image asks of a machine before NVIDIA's container runtime starts it: ``NVIDIA_REQUIRE_CUDA`` and its like.

The grammar and the answers are those of libnvidia-container (src/cli/dsl.c and configure.c, read 2026-11-22): a space
means or, a comma means and; a condition is a name (cuda, driver, arch, brand), an operator and a value; evaluation
stops where the answer is clear, so that a mistake behind that point is never seen. Versions are compared number by
number, and zeros at the end do not count.

What a snapshot does not know of a machine is tried both ways: where the answer is the same, it is the answer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_VERSIONS = ("cuda", "driver", "arch")
_NAMES = (*_VERSIONS, "brand")
# EXPR_MAX of dsl.c: a condition that does not hold and is longer cannot be reported, and counts as invalid.
_CONDITION_LIMIT = 128
_NUMBER_LIMIT = 2**64 - 1


class Verdict(StrEnum):
    """What the runtime would say."""

    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"
    INVALID = "invalid"  # the runtime refuses it as "invalid expression"
    UNDECIDED = "undecided"  # it depends on what is not known of the machine


@dataclass(frozen=True)
class Machine:
    """What the conditions ask for. None where a snapshot does not say.

    ``cuda``    level of the driver, ``12.8``
    ``driver``  version of the driver, ``570.86.15``
    ``arch``    compute capability of the device, ``9.0``
    ``brands``  brands that the device may have, in lower case
    ``device``  False where no device is visible: conditions on arch and brand are then taken to hold
    """

    cuda: str | None = None
    driver: str | None = None
    arch: str | None = None
    brands: frozenset[str] | None = None
    device: bool = True


class _InvalidError(Exception):
    pass


def evaluate(expression: str, machine: Machine) -> Verdict:
    """The runtime's answer for one expression on one device of a machine."""
    answers = set()
    for values in _possible(machine):
        try:
            answers.add(Verdict.SATISFIED if _holds(expression, values) else Verdict.UNSATISFIED)
        except _InvalidError:
            answers.add(Verdict.INVALID)
    return answers.pop() if len(answers) == 1 else Verdict.UNDECIDED


# The value of a name: a text, or the answer to every condition on it.
_Values = Mapping[str, str | bool]


def _possible(machine: Machine) -> Iterator[_Values]:
    """All values that the names may have. Conditions are only joined by and and or, so what holds with every
    condition on an unknown name true and with every one false holds with any mixture.
    """
    choices: dict[str, list[str | bool]] = {}
    for name in _VERSIONS:
        value = getattr(machine, name)
        choices[name] = [value] if value is not None else [True, False]
    choices["brand"] = sorted(machine.brands) if machine.brands else [True, False]
    if not machine.device:
        choices["arch"] = choices["brand"] = [True]
    for values in itertools.product(*(choices[name] for name in _NAMES)):
        yield dict(zip(_NAMES, values, strict=True))


def _holds(expression: str, values: _Values) -> bool:
    result = True
    for alternative in expression.split(" "):
        if not alternative:
            continue
        for condition in filter(None, alternative.split(",")):
            result = _condition(condition, values)
            if not result:
                break
        else:
            break
    return result


def _condition(condition: str, values: _Values) -> bool:
    found = re.match(r"([^<>=!]+)([<>=!]+)(.*)\Z", condition, re.DOTALL)
    if not found:
        raise _InvalidError
    name, written, value = found.groups()
    # strncmp over as many characters as are written: a lone "!" is the beginning of "!=".
    operator = next((known for known in _OPERATORS if known.startswith(written)), None)
    if operator is None or not value or name.lower() not in _NAMES:
        raise _InvalidError
    actual = values[name.lower()]
    if isinstance(actual, bool):
        _check(name.lower(), operator, value)
        answer = actual
    elif name.lower() == "brand":
        answer = _compare_text(actual, operator, value)
    else:
        answer = compare_versions(actual, operator, value)
    if not answer and len(f"{name} {operator} {value}".encode()) >= _CONDITION_LIMIT:
        raise _InvalidError
    return answer


def _check(name: str, operator: str, value: str) -> None:
    """Whether the condition could be compared with anything."""
    if name == "brand":
        _compare_text("", operator, value)
    else:
        compare_versions("0", operator, value)


def _compare_text(actual: str, operator: str, value: str) -> bool:
    if operator not in {"=", "!="}:
        raise _InvalidError
    return (actual.lower() == value.lower()) == (operator == "=")


def compare_versions(left: str, operator: str, right: str) -> bool:
    """``dsl_compare_version``: number by number; what is left over counts unless it is only dots and zeros."""
    for text in (left, right):
        if not re.fullmatch(r"[0-9.]*", text):
            raise _InvalidError
    while left and right:
        numbers = []
        for text in (left, right):
            found = re.match(r"0*([0-9]{0,20})(?![0-9])", text)
            if not found or not found[0] or int(found[1] or 0) >= _NUMBER_LIMIT:
                raise _InvalidError
            numbers.append((int(found[1] or 0), text[found.end() :].lstrip(".")))
        (one, left), (other, right) = numbers
        if one != other:
            return _answer(operator, less=one < other, more=one > other)
    rest, other_rest = bool(left.lstrip(".0")), bool(right.lstrip(".0"))
    return _answer(operator, less=other_rest and not rest, more=rest and not other_rest, same=not (rest or other_rest))


def _answer(operator: str, *, less: bool, more: bool, same: bool = False) -> bool:
    if operator in {"=", "!="}:
        return same == (operator == "=")
    return (less if operator.startswith("<") else more) or (same and operator.endswith("="))


def message(expression: str) -> str:
    """What ``nvidia-container-cli`` prints of an expression that does not hold: its first alternative alone."""
    first = expression.split(" ", 1)[0]
    advice = ", please update your driver to a newer version, or use an earlier cuda container"
    tail = advice if first.startswith("cuda>=") else ""
    return f"nvidia-container-cli: requirement error: unsatisfied condition: {first}{tail}"


def requirements(image: Mapping[str, Any]) -> dict[str, str]:
    """``{variable: expression}`` of what the runtime evaluates, from the facts ``cuda.image`` of a snapshot.

    Those of Jetson are not; NVIDIA_DISABLE_REQUIRE with a true value (as Go's strconv.ParseBool reads it) turns all
    off; an image without NVIDIA_REQUIRE_CUDA whose CUDA_VERSION is set asks for that version (container toolkit,
    internal/config/image/cuda_image.go).
    """
    if image.get("disable_require") in {"1", "t", "T", "TRUE", "true", "True"}:
        return {}
    stated: Mapping[str, str] = image.get("require") or {}
    found = {name: stated[name] for name in sorted(stated) if not name.startswith("NVIDIA_REQUIRE_JETPACK")}
    if not stated.get("NVIDIA_REQUIRE_CUDA"):
        number = r"(0|[1-9][0-9]*)"
        legacy = re.fullmatch(rf"v?{number}(?:\.{number}(?:\.{number}(?:[-+].*)?)?)?", image.get("cuda_version") or "")
        if legacy:
            found["CUDA_VERSION"] = f"cuda>={legacy[1]}.{legacy[2] or 0}"
    return found


# nvmlBrandType_t as libnvidia-container spells it, in lower case. Releases that do not know a newer brand say Unknown,
# and drivers have called data-center boards Tesla before they called them NVIDIA.
_GRAPHICS = ("quadro", "quadrortx", "nvidiartx", "unknown")
_DATA_CENTER = ("tesla", "nvidia", "unknown")
_BRANDS = (
    (r"\bGRID\b|-\d+[QBCA]\b", None),  # virtual GPUs: by their licence
    (r"\bGeForce\b|^(?:NVIDIA )?MX\d", ("geforce", "geforcertx")),
    (r"\bTITAN\b", ("titan", "titanrtx")),
    (r"\bQuadro\b", _GRAPHICS),
    (r"\bRTX\b", (*_GRAPHICS, "nvidia")),
    (r"\bTesla\b|^(?:NVIDIA )?(?:[ABHLPV]\d{1,3}[A-Z]{0,2}|T4|GB\d{3}|GH\d{3})\b", _DATA_CENTER),
)


def brands_of(name: object) -> frozenset[str] | None:
    """The brands that a device may have, by the name that the driver gives it; None where the name does not tell."""
    if isinstance(name, str):
        for pattern, brands in _BRANDS:
            if re.search(pattern, name, re.IGNORECASE):
                return frozenset(brands) if brands else None
    return None
