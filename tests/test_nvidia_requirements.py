"""Requirements of images: the values of NVIDIA's public images, the corners of the grammar, and its laws."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.nvidia import NEW_BRANDS, OLD_BRANDS
from support.nvidia import requirement as image

from driftcheck import nvidia_requirements as req
from driftcheck.nvidia_requirements import Machine, Verdict

IMAGES = {
    "11.8.0": image("11.8", OLD_BRANDS, (470, 510, 515), "brand=tesla,driver>=450,driver<451"),
    "12.0.0": image("12.0", OLD_BRANDS, (470, 510, 515, 520), "brand=tesla,driver>=450,driver<451"),
    "12.4.1": image("12.4", OLD_BRANDS, (470, 525, 535)),
    "12.8.1": image("12.8", NEW_BRANDS, (470, 535, 550, 560, 565)),
    "12.9.0": image("12.9", NEW_BRANDS, (535, 550, 560, 565, 570)),
    "13.0.2": image("13.0", NEW_BRANDS, (535, 550, 565, 570, 575)),
}
# As one finds it in the wild, whole: nvidia/cuda:11.8.0 after its list was shortened.
SHORTENED = (
    "cuda>=11.8 brand=tesla,driver>=450,driver<451 brand=tesla,driver>=470,driver<471 "
    "brand=unknown,driver>=470,driver<471 brand=nvidia,driver>=470,driver<471 brand=nvidiartx,driver>=470,driver<471 "
    "brand=quadrortx,driver>=470,driver<471 brand=unknown,driver>=510,driver<511 brand=nvidia,driver>=510,driver<511 "
    "brand=nvidiartx,driver>=510,driver<511 brand=quadrortx,driver>=510,driver<511 brand=unknown,driver>=515,driver<516 "  # noqa: E501
    "brand=nvidia,driver>=515,driver<516 brand=nvidiartx,driver>=515,driver<516 brand=quadrortx,driver>=515,driver<516"
)


def node(driver: str, cuda: str, name: str, arch: str | None = None) -> Machine:
    return Machine(cuda, driver, arch, req.brands_of(name))


A100_535 = node("535.104.05", "12.2", "NVIDIA A100-SXM4-40GB", "8.0")
T4_470 = node("470.82.01", "11.4", "Tesla T4", "7.5")
RTX_4090_535 = node("535.104.05", "12.2", "NVIDIA GeForce RTX 4090", "8.9")
RTX_4090_580 = node("580.65.06", "13.0", "NVIDIA GeForce RTX 4090", "8.9")


@pytest.mark.parametrize(
    ("tag", "machine", "verdict"),
    [
        ("11.8.0", A100_535, Verdict.SATISFIED),
        ("12.0.0", T4_470, Verdict.SATISFIED),
        ("12.4.1", A100_535, Verdict.SATISFIED),
        ("12.4.1", RTX_4090_535, Verdict.SATISFIED),
        ("12.8.1", A100_535, Verdict.SATISFIED),
        ("12.8.1", RTX_4090_535, Verdict.UNSATISFIED),
        ("12.8.1", RTX_4090_580, Verdict.SATISFIED),
        ("12.9.0", T4_470, Verdict.UNSATISFIED),
        ("13.0.2", A100_535, Verdict.SATISFIED),
        ("13.0.2", RTX_4090_535, Verdict.UNSATISFIED),
        ("13.0.2", T4_470, Verdict.UNSATISFIED),
        ("13.0.2", node("560.35.03", "12.6", "NVIDIA H100 80GB HBM3"), Verdict.UNSATISFIED),
        ("13.0.2", node("575.57.08", "12.9", "NVIDIA H100 80GB HBM3"), Verdict.SATISFIED),
    ],
)
def test_public_images(tag: str, machine: Machine, verdict: Verdict) -> None:
    assert req.evaluate(IMAGES[tag], machine) == verdict


def test_a_shortened_list_leaves_out_geforce() -> None:
    geforce = node("470.82.01", "11.4", "NVIDIA GeForce GTX 1080")
    assert req.evaluate(IMAGES["11.8.0"], geforce) == Verdict.SATISFIED
    assert req.evaluate(SHORTENED, geforce) == Verdict.UNSATISFIED
    assert req.evaluate(SHORTENED, T4_470) == Verdict.SATISFIED


def test_what_is_not_known_leaves_it_undecided_only_where_it_matters() -> None:
    unknown = Machine(cuda="12.2", driver="535.104.05")
    assert req.evaluate(IMAGES["12.8.1"], unknown) == Verdict.UNDECIDED
    assert req.evaluate("cuda>=12.0 brand=tesla", unknown) == Verdict.SATISFIED
    assert req.evaluate("cuda>=12.8 brand=tesla,driver<500", unknown) == Verdict.UNSATISFIED
    # T4s have been called Tesla and NVIDIA.
    assert req.evaluate("brand=tesla", T4_470) == Verdict.UNDECIDED
    assert req.evaluate("cuda>=12.8", Machine()) == Verdict.UNDECIDED


def test_without_a_device_its_brand_and_architecture_are_taken_to_fit() -> None:
    assert req.evaluate("brand=tesla,arch>=9.0", Machine("12.2", "535.54.03", device=False)) == Verdict.SATISFIED


@pytest.mark.parametrize(
    ("expression", "verdict"),
    [
        ("", Verdict.SATISFIED),
        ("   ", Verdict.SATISFIED),
        (",", Verdict.SATISFIED),
        ("cuda>=12.2", Verdict.SATISFIED),
        ("cuda>=12.2.0", Verdict.SATISFIED),
        ("cuda>=12.2.1", Verdict.UNSATISFIED),
        ("CUDA>=12", Verdict.SATISFIED),
        ("cuda=12.2", Verdict.SATISFIED),
        ("cuda!=12.2", Verdict.UNSATISFIED),
        ("cuda!12.2", Verdict.UNSATISFIED),  # a lone ! is read as !=
        ("cuda==12.2", Verdict.INVALID),
        ("cuda=>12.2", Verdict.INVALID),
        ("cuda", Verdict.INVALID),
        ("cuda>=", Verdict.INVALID),
        (">=12.2", Verdict.INVALID),
        ("cuda>=twelve", Verdict.INVALID),
        ("cuda>=.12", Verdict.INVALID),
        ("cuda>=18446744073709551615", Verdict.INVALID),
        (f"cuda>={'9' * 5000}", Verdict.INVALID),
        (f"cuda<={'0' * 5000}13", Verdict.SATISFIED),
        ("memory>=40", Verdict.INVALID),
        ("cuda>=12.0 memory>=40", Verdict.SATISFIED),  # what comes after a true alternative is never read
        ("cuda>=12.8 memory>=40", Verdict.INVALID),
        ("cuda>=12.8,memory>=40", Verdict.UNSATISFIED),
        ("cuda>=12.8 ,", Verdict.UNSATISFIED),
        ("brand>tesla", Verdict.INVALID),
        ("brand>tesla cuda>=1", Verdict.INVALID),
        ("brand=Tesla brand=nvidia brand=UNKNOWN", Verdict.SATISFIED),
        ("arch>=8.0,arch<8.1", Verdict.SATISFIED),
        ("driver>=535.104", Verdict.SATISFIED),
        ("driver<535.104.5", Verdict.UNSATISFIED),
        ("driver<535.104.06", Verdict.SATISFIED),
        ("cuda>=9." + "9" * 19 + "." * 120, Verdict.SATISFIED),
        ("cuda<=9." + "9" * 19 + "." * 120, Verdict.INVALID),
    ],
)
def test_grammar(expression: str, verdict: Verdict) -> None:
    assert req.evaluate(expression, A100_535) == verdict


def test_the_message_names_the_first_alternative() -> None:
    assert req.message(IMAGES["12.8.1"]) == (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a "
        "newer version, or use an earlier cuda container"
    )
    assert req.message("driver>=550,brand=tesla cuda>=13") == (
        "nvidia-container-cli: requirement error: unsatisfied condition: driver>=550,brand=tesla"
    )


def facts(cuda_version: str | None = None, disable: str | None = None, **require: str) -> dict[str, object]:
    return {
        "visible_devices": "all",
        "driver_capabilities": None,
        "require": {f"NVIDIA_REQUIRE_{name}": value for name, value in require.items()},
        "disable_require": disable,
        "cuda_version": cuda_version,
    }


def test_which_variables_are_evaluated() -> None:
    asked = req.requirements(facts("12.8.1", CUDA="cuda>=12.8", BRAND="brand=tesla", JETPACK="csv-mounts=all"))
    assert asked == {"NVIDIA_REQUIRE_BRAND": "brand=tesla", "NVIDIA_REQUIRE_CUDA": "cuda>=12.8"}
    assert req.requirements(facts("12.8.1", "true", CUDA="cuda>=12.8")) == {}
    assert req.requirements(facts("12.8.1", "yes", CUDA="cuda>=12.8")) == {"NVIDIA_REQUIRE_CUDA": "cuda>=12.8"}


@pytest.mark.parametrize(
    ("version", "expression"),
    [("10.1.243", "cuda>=10.1"), ("9", "cuda>=9.0"), ("v8.0", "cuda>=8.0"), ("10.1.243.1", None), ("ten", None)],
)
def test_an_image_of_the_older_kind_asks_by_its_version(version: str, expression: str | None) -> None:
    assert req.requirements(facts(version)).get("CUDA_VERSION") == expression


@pytest.mark.parametrize(
    ("name", "brands"),
    [
        ("NVIDIA GeForce RTX 5090", {"geforce", "geforcertx"}),
        ("GeForce GTX 1080", {"geforce", "geforcertx"}),
        ("NVIDIA TITAN RTX", {"titan", "titanrtx"}),
        ("Tesla V100-SXM2-16GB", {"tesla", "nvidia", "unknown"}),
        ("NVIDIA H100 80GB HBM3", {"tesla", "nvidia", "unknown"}),
        ("NVIDIA L40S", {"tesla", "nvidia", "unknown"}),
        ("NVIDIA GB200", {"tesla", "nvidia", "unknown"}),
        ("Quadro RTX 6000", {"quadro", "quadrortx", "nvidiartx", "unknown"}),
        ("NVIDIA RTX A6000", {"quadro", "quadrortx", "nvidiartx", "nvidia", "unknown"}),
        ("GRID RTX6000-8Q", None),
        ("NVIDIA A40-48Q", None),
        ("NVIDIA T1000", None),
        ("Orin (nvgpu)", None),
        ("", None),
        (None, None),
    ],
)
def test_brands(name: object, brands: set[str] | None) -> None:
    assert req.brands_of(name) == (frozenset(brands) if brands else None)


VERSIONS = st.lists(st.integers(0, 600), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
OPERATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


def number(text: str) -> tuple[int, ...]:
    parts = [int(part) for part in text.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


@given(VERSIONS, OPERATORS, VERSIONS)
def test_versions_compare_as_numbers(left: str, operator: str, right: str) -> None:
    one, other = number(left), number(right)
    expected = {
        "=": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }
    assert req.compare_versions(left, operator, right) is expected[operator]


@given(st.lists(st.lists(st.tuples(OPERATORS, VERSIONS), min_size=1, max_size=3), min_size=1, max_size=4), VERSIONS)
def test_space_is_or_and_comma_is_and(alternatives: list[list[tuple[str, str]]], actual: str) -> None:
    text = " ".join(
        ",".join(f"driver{operator}{value}" for operator, value in conditions) for conditions in alternatives
    )
    holds = any(
        all(req.compare_versions(actual, operator, value) for operator, value in conditions)
        for conditions in alternatives
    )
    assert req.evaluate(text, Machine(driver=actual)) == (Verdict.SATISFIED if holds else Verdict.UNSATISFIED)


@given(st.text(alphabet="cudarivebn<>=! ,.0123456789", max_size=40))
def test_any_text_has_an_answer(text: str) -> None:
    assume(not re.search("[1-9][0-9]{18}", text))  # too large a number is invalid only where it is reached
    known = req.evaluate(text, A100_535)
    assert known in Verdict
    unknown = req.evaluate(text, Machine())
    assert unknown in {known, Verdict.UNDECIDED}, "what is not known can only make an answer less sure"
    req.message(text)
