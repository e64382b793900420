"""Few causes, many effects: which rule accounts for which changes, and for which findings of other rules."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.explain import Explanation, explain_one, explain_pair
from driftcheck.findings import Confidence, Finding, Impact


def explained(before: dict[str, Any], after: dict[str, Any]) -> Explanation:
    found = explain_pair(
        snapshot("baseline", **({"python": python()} | before)), snapshot("target", **({"python": python()} | after))
    )
    assert [entry for entry in found.not_judged if entry.fault] == []
    return found


def effects_of(explanation: Explanation, code: str) -> list[str]:
    """``PKG007 numpy`` for each finding that the one of this code causes, in the order of the report."""
    (cause,) = [finding for finding in explanation.findings if finding.code == code]
    return [
        f"{finding.code} {finding.subject.name}"
        for finding in explanation.findings
        if finding.caused_by == cause.identity
    ]


def the(explanation: Explanation, code: str) -> Finding:
    (found,) = [finding for finding in explanation.findings if finding.code == code]
    return found


# PKG011

TRANSFORMERS_4 = (
    distribution("transformers", "4.38.2", requires={"tokenizers<0.19,>=0.14": "", "huggingface-hub>=0.19": ""}),
    distribution("tokenizers", "0.15.2", requested=False, requires={"huggingface-hub<1.0": ""}),
    distribution("huggingface-hub", "0.36.0", requested=False),
)
TRANSFORMERS_5 = (
    distribution("transformers", "5.2.0", requires={"tokenizers<0.24,>=0.22": "", "huggingface-hub>=1.0": ""}),
    distribution("tokenizers", "0.22.1", requested=False, requires={"huggingface-hub<2.0": ""}),
    distribution("huggingface-hub", "1.4.0", requested=False),
)


def test_a_distribution_forces_the_versions_that_its_requirements_refuse() -> None:
    (found,) = findings(
        "PKG011",
        baseline={"packages": distributions(*TRANSFORMERS_5)},
        packages=distributions(*TRANSFORMERS_4),
    )
    assert (found.impact, found.confidence) == (Impact.NOTE, Confidence.LIKELY)
    assert found.subject.name == "transformers"
    assert found.title == ("transformers 4.38.2 instead of 5.2.0 explains huggingface-hub 0.36.0, tokenizers 0.15.2")
    assert (
        "transformers 4.38.2 requires tokenizers>=0.14,<0.19, which does not take 0.22.1 of the baseline."
        in found.explanation
    )
    assert [entry.text for entry in found.fix] == ["python -m pip install transformers==5.2.0"]


def test_what_the_baseline_held_back_is_explained_too() -> None:
    before = distributions(distribution("pandas", "2.2.3", requires={"numpy<2": ""}), distribution("numpy", "1.26.4"))
    after = distributions(distribution("pandas", "3.1.1", requires={"numpy>=1.26": ""}), distribution("numpy", "2.4.6"))
    (found,) = findings("PKG011", baseline={"packages": before}, packages=after)
    assert found.explanation == (
        "pandas 2.2.3 of the baseline requires numpy<2, which does not take 2.4.6 of the target."
    )


def test_two_changed_versions_that_no_requirement_ties_have_no_cause() -> None:
    before = distributions(distribution("a", "1", requires={"b>=1": ""}), distribution("b", "1"))
    after = distributions(distribution("a", "2", requires={"b>=1": ""}), distribution("b", "2"))
    assert findings("PKG011", baseline={"packages": before}, packages=after) == []


def test_an_owner_that_is_the_same_on_both_sides_forces_nothing() -> None:
    before = distributions(distribution("a", "1", requires={"b<2": ""}), distribution("b", "2"), distribution("c", "1"))
    after = distributions(distribution("a", "1", requires={"b<2": ""}), distribution("b", "1"), distribution("c", "2"))
    assert findings("PKG011", baseline={"packages": before}, packages=after) == []


def test_what_is_forced_through_others_stands_under_the_outermost_one() -> None:
    before = distributions(distribution("numpy", "2.0"))
    after = distributions(
        distribution("numpy", "2.0"),
        distribution("vllm", "0.9", requires={"torch==2.7.0": ""}),
        distribution("torch", "2.7.0", requested=False, requires={"nvidia-nccl-cu12==2.26": ""}),
        distribution("nvidia-nccl-cu12", "2.26", requested=False),
        distribution("rich", "14.0"),
    )
    (found,) = findings("PKG011", baseline={"packages": before}, packages=after)
    assert found.title == ("vllm 0.9, which the baseline does not have, explains nvidia-nccl-cu12 2.26, torch 2.7.0")
    explanation = explained({"packages": before}, {"packages": after})
    assert {path[2] for path in the(explanation, "PKG011").folds} == {"torch", "nvidia-nccl-cu12"}


@pytest.mark.parametrize("first", ["a", "b"])
def test_requirements_in_a_circle_end(first: str) -> None:
    second = "b" if first == "a" else "a"
    before = distributions(
        distribution(first, "1", requires={f"{second}==1": ""}), distribution(second, "1", requires={f"{first}==1": ""})
    )
    after = distributions(
        distribution(first, "2", requires={f"{second}==2": ""}), distribution(second, "2", requires={f"{first}==2": ""})
    )
    (found,) = findings("PKG011", baseline={"packages": before}, packages=after)
    assert found.subject.name in {"a", "b"}


def test_a_requirement_that_the_forced_version_breaks_is_an_effect() -> None:
    wants = distribution("optimum", "2.0", requires={"tokenizers>=0.22": ""})
    explanation = explained(
        {"packages": distributions(*TRANSFORMERS_5, wants)}, {"packages": distributions(*TRANSFORMERS_4, wants)}
    )
    assert effects_of(explanation, "PKG011") == ["PKG001 optimum -> tokenizers", "NUM003 tokenizers"]
    broken = the(explanation, "PKG001")
    assert broken.impact is Impact.BREAKS
    # A note that causes something which breaks stands where that would, and before it.
    assert [finding.code for finding in explanation.findings[:2]] == ["PKG011", "PKG001"]


# GPU040


def cuda_packages(major: int, version: str) -> dict[str, Any]:
    nvidia = [distribution(f"nvidia-{name}-cu{major}", version, requested=False) for name in ("cudnn", "nccl")]
    local = f"cu{major}0" if major == 13 else "cu128"
    requires = {f"{record['name']}=={version}": "" for record in nvidia}
    return distributions(distribution("torch", f"2.9.0+{local}", requires=requires), *nvidia)


def test_another_major_version_of_cuda_is_one_cause() -> None:
    before, after = cuda_packages(12, "9.1"), cuda_packages(13, "9.13")
    (found,) = findings("GPU040", baseline={"packages": before}, packages=after)
    assert (found.impact, found.confidence) == (Impact.NOTE, Confidence.LIKELY)
    assert found.title == "Packages for CUDA 13 instead of CUDA 12"
    explanation = explained({"packages": before}, {"packages": after})
    folded = {path[2] for path in the(explanation, "GPU040").folds}
    assert folded == {"torch", "nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"}


def test_cuda_is_read_from_names_where_no_build_states_it() -> None:
    before = distributions(distribution("cupy-cuda12x", "13.6"))
    after = distributions(distribution("cupy-cuda13x", "13.6"), distribution("nvidia-cublas", "13.1.0.3"))
    (found,) = findings("GPU040", baseline={"packages": before}, packages=after)
    assert found.title == "Packages for CUDA 13 instead of CUDA 12"


@pytest.mark.parametrize("after", ["12", "mixed", "cpu"])
def test_the_same_major_version_or_none_that_is_clear_is_no_cause(after: str) -> None:
    before = cuda_packages(12, "9.1")
    target = {
        "12": cuda_packages(12, "9.2"),
        "mixed": distributions(distribution("cupy-cuda12x"), distribution("cupy-cuda13x")),
        "cpu": distributions(distribution("torch", "2.9.0+cpu")),
    }[after]
    assert findings("GPU040", baseline={"packages": before}, packages=target) == []


# Causes among the other rules

FOREIGN = {"cp310-cp310-manylinux_2_17_x86_64": True}


def test_another_python_causes_every_wheel_that_does_not_fit() -> None:
    wheels = [distribution(name, tags=FOREIGN) for name in ("numpy", "scipy", "regex")]
    before = {"python": python(version="3.10.2", soabi="cpython-310-x86_64-linux-gnu")}
    before["python"]["tags"]["interpreters"] = ["cp310-cp310", "py3-none"]
    packages = distributions(*wheels, distribution("old", requires_python="<3.11"))
    explanation = explained(before | {"packages": packages}, {"packages": packages})
    assert effects_of(explanation, "PY001") == [
        "PKG007 numpy",
        "PKG013 interpreter",
        "PKG007 regex",
        "PKG007 scipy",
        "PKG009 old",
    ]
    assert explanation.findings[0].code == "PY001"
    assert all(finding.fails(Impact.BREAKS) for finding in explanation.findings if finding.code == "PKG007")


def test_what_was_not_there_in_the_baseline_causes_the_requirements_that_it_met() -> None:
    before = distributions(distribution("pandas", requires={"numpy": ""}), distribution("numpy", "2.0"))
    after = distributions(distribution("pandas", requires={"numpy": "", "pytz": ""}))
    explanation = explained({"packages": before}, {"packages": after})
    assert effects_of(explanation, "PKG010") == ["PKG001 pandas -> numpy"]
    assert {finding.subject.name for finding in explanation.findings if finding.caused_by is None} == {
        "missing",
        "pandas -> pytz",
    }


def test_what_the_baseline_has_too_is_no_effect() -> None:
    wheels = distributions(distribution("numpy", tags={"cp39-cp39-manylinux_2_17_x86_64": True}))
    before = {"python": python(version="3.10.2", soabi="cpython-310-x86_64-linux-gnu"), "packages": wheels}
    before["python"]["tags"]["interpreters"] = ["cp310-cp310", "py3-none"]
    explanation = explained(before, {"packages": wheels})
    assert [(finding.code, finding.caused_by) for finding in explanation.findings if finding.also_in_baseline] == [
        ("PKG007", None)
    ]


def release(version: str, **more: Any) -> dict[str, Any]:
    system = {
        "os_release": {
            "id": "debian",
            "version_id": version,
            "version_codename": None,
            "pretty_name": f"Debian {version}",
            "id_like": [],
        },
        "libc": {"family": "glibc", "version": "2.36", "path": "/lib/libc.so.6"},
        "packages": {"manager": "dpkg", "packages": {}},
    }
    return {"system": system, **more}


def test_another_base_image_causes_the_program_that_it_lacks() -> None:
    packages = distributions(distribution("ffmpeg-python"))
    program = {"path": "/usr/bin/ffmpeg", "real": None, "on_path": True}
    program |= dict.fromkeys(["package", "package_version", "version"])
    had = {"programs": {"ffmpeg": program}, "libraries": {}}
    lost: dict[str, Any] = {"programs": {"ffmpeg": None}, "libraries": {}}
    explanation = explained(
        release("12", programs=had, packages=packages), release("13", programs=lost, packages=packages)
    )
    assert effects_of(explanation, "SYS004") == ["SYS003 ffmpeg for ffmpeg-python"]
    same = explained(
        release("12", programs=lost, packages=distributions()), release("13", programs=lost, packages=packages)
    )
    assert the(same, "SYS003").caused_by is None


def test_a_variable_causes_what_it_hides() -> None:
    hidden = {"python": python(shadowed_modules={"json": "/opt/lib/json.py"})}
    variables = {"variables": {"variables": {"PYTHONPATH": {"value": "/opt/lib"}}}}
    nothing: dict[str, Any] = {"variables": {"variables": {}}}
    explanation = explained(nothing, hidden | variables)
    assert effects_of(explanation, "ENV003") == ["PY002 json"]


def test_a_requirement_that_only_another_platform_asks_for_is_an_effect_of_it() -> None:
    packages = distributions(distribution("tqdm", requires={"colorama": 'platform_system == "Windows"'}))
    windows = python(platform={"system": "win32", "machine": "AMD64", "tag": "win-amd64"})
    explanation = explained({"packages": packages}, {"python": windows, "packages": packages})
    assert "PKG001 tqdm -> colorama" in effects_of(explanation, "SYS001")


def test_what_a_forced_version_changes_is_an_effect_and_what_was_held_back_is_none() -> None:
    held = distributions(
        distribution("old-app", "1", requires={"numpy<2": ""}), distribution("numpy", "1.26.4", requested=False)
    )
    free = distributions(
        distribution("old-app", "2", requires={"numpy": ""}), distribution("numpy", "2.4.6", requested=False)
    )
    assert effects_of(explained({"packages": free}, {"packages": held}), "PKG011") == ["NUM002 numpy"]
    assert effects_of(explained({"packages": held}, {"packages": free}), "PKG011") == []


def test_a_lower_processor_is_one_cause() -> None:
    def machine(level: str, *flags: str) -> dict[str, Any]:
        return {
            "machine": {
                "architecture": "x86_64",
                "level": level,
                "emulation": None,
                "cpu": {"model": "a processor", "vendor": "x", "flags": dict.fromkeys(flags, True)},
            },
            "packages": distributions(
                distribution("polars", "1.9.0", tags={"cp39-abi3-manylinux_2_17_x86_64": True}),
                distribution("numpy", "2.1.0", tags={"cp311-cp311-manylinux_2_17_x86_64": True}),
            ),
        }

    v2 = ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")
    v3 = (*v2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
    explanation = explained(machine("x86-64-v3", *v3), machine("x86-64-v2", *v2))
    assert "CPU003 instructions" in effects_of(explanation, "CPU002")
    assert explanation.findings[0].code == "CPU002"


# PKG013


def test_packages_that_were_copied_from_another_python_are_one_cause_without_a_baseline() -> None:
    packages = distributions(
        *(distribution(name, tags=FOREIGN) for name in ("numpy", "scipy", "regex")), distribution("pure")
    )
    (found,) = findings("PKG013", packages=packages)
    assert found.title == "3 packages were installed for another Python"
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.LIKELY)
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy.core._multiarray_umath'"
    assert found.fix[0].text == ("python -m pip install --force-reinstall --no-deps numpy==1.0 regex==1.0 scipy==1.0")
    explanation = explain_one(snapshot("target", python=python(), packages=packages))
    assert [(one.code, one.caused_by) for one in explanation.findings] == [
        ("PKG013", None),
        *[("PKG007", ("PKG013", "packages", "interpreter"))] * 3,
    ]


def test_each_package_is_counted_under_the_widest_reason_only() -> None:
    tags = ("cp310-cp310-win_amd64", "cp310-cp310-macosx_11_0_arm64", "cp311-cp311-macosx_11_0_arm64")
    packages = distributions(
        *(distribution(f"p{number}", tags={tag: True}) for number, tag in enumerate(tags)),
        *(distribution(name, tags={"cp311-cp311-musllinux_1_2_x86_64": True}) for name in ("a", "b")),
        *(distribution(name, tags={"cp311-cp311-manylinux_2_17_aarch64": True}) for name in ("c", "d")),
    )
    assert [(one.subject.name, one.title) for one in findings("PKG013", packages=packages)] == [
        ("system", "3 packages were installed for another platform"),
        ("machine", "2 packages were installed for another processor"),
        ("libc", "2 packages were installed for another C library"),
    ]


def test_one_wheel_that_does_not_fit_is_no_cause() -> None:
    packages = distributions(distribution("numpy", tags=FOREIGN), distribution("pure"))
    assert findings("PKG013", packages=packages) == []
