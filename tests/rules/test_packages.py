"""Family PKG on made-up facts: where each rule fires, where it is silent, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from support.snapshots import SITE, distribution, distributions, findings, python, snapshot

from driftcheck.diff import changes
from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Confidence, Finding, Impact
from driftcheck.rules import all_rules
from driftcheck.rules.base import PARAGRAPHS, Contradiction, Drift, Sides, paragraphs_of, title_of
from driftcheck.rules.rivals import may_agree

RULES = [rule for rule in all_rules() if rule.code.startswith("PKG")]


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


packages = distributions


# PKG001


def test_missing_requirement() -> None:
    (found,) = findings("PKG001", packages=packages(distribution("torchvision", "0.28.0", requires={"pillow": ""})))
    assert found.title == "torchvision 0.28.0 requires pillow, which is not installed"
    assert judged(found) == ("breaks", "likely")
    assert found.predicted_error is None
    assert [fix.text for fix in found.fix] == ["python -m pip install pillow"]


def test_missing_requirement_that_the_baseline_knows() -> None:
    baseline = {"packages": packages(distribution("pillow", "11.0", modules={"PIL": True}))}
    target = packages(distribution("torchvision", requires={"pillow>=5.3,!=8.3.*": ""}))
    (found,) = findings("PKG001", baseline=baseline, packages=target)
    assert found.predicted_error == "ModuleNotFoundError: No module named 'PIL'"
    assert found.fix[0].text == "python -m pip install pillow==11.0"


def test_the_baselines_version_is_offered_only_where_it_satisfies() -> None:
    baseline = {"packages": packages(distribution("pillow", "5.0"))}
    target = packages(distribution("torchvision", requires={"pillow>=5.3,!=8.3.*": ""}))
    (found,) = findings("PKG001", baseline=baseline, packages=target)
    assert found.fix[0].text == 'python -m pip install "pillow>=5.3,!=8.3.*"'


def test_where_only_the_one_that_requires_has_moved_it_moves_back() -> None:
    hub = distribution("huggingface-hub", "2.4.0")
    baseline = {"packages": packages(distribution("tokenizers", "0.23.3"), hub)}
    target = packages(distribution("tokenizers", "0.21.4", requires={"huggingface-hub<1.0": ""}), hub)
    (found,) = findings("PKG001", baseline=baseline, packages=target)
    assert found.fix[0].text == "python -m pip install tokenizers==0.23.3"


def rivals(*, wanted: str, elsewhere: str, owned: str = "tokenizers>=0.20") -> Finding:
    """tokenizers wants one huggingface-hub, transformers another, and 2.4.0 is installed."""
    target = packages(
        distribution("huggingface-hub", "2.4.0"),
        distribution("tokenizers", "0.21.4", requires={wanted: ""}),
        distribution("transformers", "5.23.0", requires={elsewhere: "", owned: ""}),
    )
    return next(f for f in findings("PKG001", packages=target) if f.subject.name == "tokenizers -> huggingface-hub")


def test_where_no_version_would_do_for_both_the_one_that_requires_is_upgraded() -> None:
    found = rivals(wanted="huggingface-hub>=0.16,<1.0", elsewhere="huggingface-hub>=1.31,<3.0")
    assert found.fix[0].text == 'python -m pip install --upgrade "tokenizers>=0.20"'
    assert "No version would do for transformers 5.23.0 too, which needs >=1.31,<3.0." in found.explanation
    assert found.evidence[-1].path[-1] == "huggingface-hub>=1.31,<3.0"


@pytest.mark.parametrize(
    "elsewhere", ["huggingface-hub", "huggingface-hub>=0.30", "huggingface-hub!=0.16", "huggingface-hub>0.99.9"]
)
def test_where_one_version_would_do_for_both_it_is_asked_for(elsewhere: str) -> None:
    found = rivals(wanted="huggingface-hub>=0.16,<1.0", elsewhere=elsewhere)
    assert found.fix[0].text == 'python -m pip install "huggingface-hub>=0.16,<1.0"'
    assert "No version" not in found.explanation


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("<1.0", ">=1.0", False),
        ("<=1.0", ">=1.0", True),
        ("<=1.0", ">1.0", False),
        ("==1.*", ">=1.5", True),
        ("==1.*", ">=2", False),
        ("~=1.4", "<1.4", False),
        ("==1.0", "!=1.0", False),
        (">=1.0", "!=1.0", True),
        (">=1.0,<1.1", "!=1.0.*", False),
        (">=1.5", "!=1.5.*", True),
        (">=1!2", "!=1!2.*", True),
        ("==1.0+cpu", ">=1", True),
        ("===anything", ">=1", True),
        ("", "", True),
        ("<1", "", True),
    ],
)
def test_requirements_that_no_version_meets_together(one: str, other: str, agree: bool) -> None:
    assert may_agree(SpecifierSet(one), SpecifierSet(other)) is agree
    assert may_agree(SpecifierSet(other), SpecifierSet(one)) is agree


@pytest.mark.parametrize("name", ["odd; touch pwned #", "$(id)", "a`id`", "a\nid", "a > b", 'a" ; "b', "a&b", "a|b"])
def test_what_a_shell_would_run_is_nothing_to_type(name: str) -> None:
    hub = distribution("huggingface-hub", "2.4.0")
    baseline = {"packages": packages(distribution(name, "1.0"), hub)}
    target = packages(distribution(name, "0.9", requires={"huggingface-hub<1.0": ""}), hub)
    found = findings("PKG001", baseline=baseline, packages=target)
    assert [fix.kind for one in found for fix in one.fix] == ["advice"]


def test_an_externally_managed_interpreter_is_mentioned() -> None:
    managed = python(environment={"externally_managed": True, "kind": "system"})
    (found,) = findings("PKG001", python=managed, packages=packages(distribution("a", requires={"b": ""})))
    assert [fix.kind for fix in found.fix] == ["pip", "advice"]


@pytest.mark.parametrize(
    ("requirement", "installed", "confidence"),
    [
        ("b<2", "2.1", "likely"),
        ("b<2.5", "2.6", "possible"),
        ("b>=2", "1.26", "likely"),
        ("b>=1.20", "1.19", "possible"),
        ("b>=0.20", "0.19.4", "likely"),
        ("b==2.13.0", "2.13.1", "likely"),
        ("b (==2.13.0)", "2.12", "likely"),
        ("b~=1.4", "1.3", "likely"),
        ("b!=1.5", "1.5", "possible"),
    ],
)
def test_wrong_version(requirement: str, installed: str, confidence: str) -> None:
    target = packages(distribution("a", requires={requirement: ""}), distribution("b", installed))
    (found,) = findings("PKG001", packages=target)
    assert judged(found) == ("breaks", confidence)
    assert found.title.endswith(f", but {installed} is installed")


@pytest.mark.parametrize(
    ("requirement", "marker", "installed"),
    [
        ("b>=1", "", "1.0rc2"),  # below 1.0 in PEP 440, so only the next line accepts it
        ("b>=1.0rc1", "", "1.0rc2"),  # a pre-release counts once it is installed
        ("b==2.13.0", "", "2.13.0+cpu"),
        ("b>=2", "sys_platform == 'win32'", "1.0"),
        ("b>=2", "python_version < '3.11'", "1.0"),
        ("b>=2", "platform_machine == 'arm64'", "1.0"),
        ("b>=2", "extra == 'test'", "1.0"),
        ("b>=2", "platform_release >= '20.9'", "1.0"),
        ("b>=2", "this is no marker", "1.0"),
        ("not a (requirement", "", "1.0"),
        ("b @ https://example.org/b.whl", "", "1.0"),
        ("b>=2", "", "2016-nonsense-version"),
        ("b>=2", "", None),
    ],
)
def test_requirements_that_hold_or_say_nothing(requirement: str, marker: str, installed: str | None) -> None:
    target = packages(distribution("a", requires={requirement: marker}), distribution("b", installed))
    assert len(findings("PKG001", packages=target)) == (1 if installed == "1.0rc2" and requirement == "b>=1" else 0)


def test_markers_are_evaluated_for_the_measured_interpreter() -> None:
    requires = {
        "on-windows": "sys_platform == 'win32' and platform_machine == 'AMD64' and os_name == 'nt'",
        "on-old-python": "python_full_version < '3.7.1' and platform_system == 'Windows'",
        "on-pypy": "platform_python_implementation == 'PyPy' or implementation_name == 'pypy'",
        "elsewhere": "sys_platform != 'win32'",
    }
    other = python(
        implementation="pypy", version="3.6.9", platform={"system": "win32", "machine": "amd64", "libc": None}
    )
    found = findings("PKG001", python=other, packages=packages(distribution("a", requires=requires)))
    assert [finding.subject.name for finding in found] == [
        "a -> on-old-python",
        "a -> on-pypy",
        "a -> on-windows",
    ]


def test_extras_are_followed_from_one_distribution_to_the_next() -> None:
    target = packages(
        distribution("app", requires={"foo[Bar_Baz]": ""}),
        distribution("foo", requires={"quux[fast]": 'extra == "bar-baz"', "never": 'extra == "other"'}),
        distribution("quux", requires={"speedups>=1": "extra == 'fast'", "nor-this": "extra == 'slow'"}),
    )
    (found,) = findings("PKG001", packages=target)
    assert found.subject.name == "quux -> speedups"


def test_extras_that_ask_for_each_other_come_to_an_end() -> None:
    target = packages(
        distribution("a", requires={"a[all]": 'extra == "x"', "b[x]": ""}),
        distribution("b", requires={"a[x]": 'extra == "x"', "c": 'extra == "x"'}),
    )
    assert [finding.subject.name for finding in findings("PKG001", packages=target)] == ["b -> c"]


def test_another_variant_of_the_same_module_is_a_note() -> None:
    target = packages(
        distribution("albumentations", requires={"opencv-python-headless>=4.9": ""}),
        distribution("opencv-python", "4.10.0.84", modules={"cv2": True}),
    )
    (found,) = findings("PKG001", packages=target)
    assert judged(found) == ("note", "likely")
    assert "opencv-python 4.10.0.84 brings the same module" in found.explanation


def transformers(**facts: Any) -> dict[str, Any]:
    requires = {"tokenizers<0.24.0,>=0.23.1": "", "safetensors>=0.8.0": "", "regex>=2025.10.22": ""}
    return distribution("transformers", "5.23.0", **({"requires": requires} | facts))


HINT = "Try: `pip install transformers -U` or `pip install -e '.[dev]'` if you're working with git main"


def test_transformers_own_pin_is_certain() -> None:
    target = packages(
        transformers(),
        distribution("tokenizers", "0.21.4"),
        distribution("safetensors", "0.8.0"),
        distribution("regex", "2026.1.1"),
    )
    (found,) = findings("PKG001", packages=target)
    assert judged(found) == ("breaks", "certain")
    assert found.predicted_error == (
        "ImportError: tokenizers>=0.23.1,<0.24.0 is required for a normal functioning of this module, but "
        "found "
        f"tokenizers==0.21.4.\n{HINT}"
    )


@pytest.mark.parametrize(
    "others",
    [
        [distribution("tokenizers", "0.21.4"), distribution("safetensors", "0.8.0")],  # regex is missing
        [
            distribution("tokenizers", "0.21.4"),
            distribution("safetensors", "0.8.0"),
            distribution("regex", "2026.1.1", requires={"something": ""}),
        ],
    ],
    ids=["a pin is missing", "something below is missing"],
)
def test_transformers_is_not_certain_where_something_may_fail_earlier(others: list[dict[str, Any]]) -> None:
    found = findings("PKG001", packages=packages(transformers(), *others))
    assert len(found) == 2
    assert Confidence.CERTAIN not in {finding.confidence for finding in found}


def test_only_the_first_of_transformers_pins_is_predicted() -> None:
    target = packages(
        transformers(),
        distribution("tokenizers", "0.21.4"),
        distribution("safetensors", "0.4"),
        distribution("regex", "2026.1.1"),
    )
    found = {finding.subject.name: finding for finding in findings("PKG001", packages=target)}
    assert "found tokenizers==0.21.4" in str(found["transformers -> tokenizers"].predicted_error)
    assert found["transformers -> safetensors"].predicted_error is None


def test_transformers_compares_plainly_where_pep_440_does_not() -> None:
    """0.24.0rc1 is no answer to <0.24.0 for pip, but smaller than 0.24.0 for transformers."""
    target = packages(
        transformers(requires={"tokenizers<0.24.0,>=0.23.1": ""}), distribution("tokenizers", "0.24.0rc1")
    )
    (found,) = findings("PKG001", packages=target)
    assert found.predicted_error is None
    assert found.confidence is Confidence.LIKELY


# PKG002


def other(version: str | None = "1.0", location: str = SITE, **facts: Any) -> dict[str, Any]:
    return {
        "version": version,
        "location": location,
        "metadata": f"a-{version}.dist-info",
        "same_directory": location == SITE,
        "record_digest": None,
    } | facts


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"other_installs": [other("2.0")]}, ("breaks", "possible")),
        ({"other_installs": [other("1.0")]}, ("note", "certain")),
        (
            {"other_installs": [other("2.0")], "missing_files": {"count": 1, "examples": {"a/b.py": True}}},
            ("breaks", "likely"),
        ),
    ],
)
def test_duplicate_install(facts: dict[str, Any], expected: tuple[str, str]) -> None:
    (found,) = findings("PKG002", packages=packages(distribution("a", **facts)))
    assert judged(found) == expected
    assert found.fix[0].text == found.fix[1].text == "python -m pip uninstall -y a"


def test_one_install_in_each_location_is_no_duplicate() -> None:
    target = packages(distribution("a", other_installs=[other("2.0", "/usr/lib/python3/dist-packages")]))
    assert findings("PKG002", packages=target) == []


# PKG010


def test_a_distribution_that_a_user_asked_for_is_missing() -> None:
    torch = distribution("torch", "2.13.0+cpu", requires={"sympy>=1.13": ""})
    sympy, numpy = distribution("sympy", "1.14", requested=False), distribution("numpy", "2.1.0")
    known = packages(torch, sympy, numpy, distribution("pip", "25.0", requested=True))
    (found,) = findings("PKG010", packages=packages(numpy), baseline={"packages": known})
    assert judged(found) == ("breaks", "likely")
    assert found.title == "1 distribution of the baseline not installed: torch"
    assert found.predicted_error == "ModuleNotFoundError: No module named 'torch'"
    assert [fix.text for fix in found.fix] == ["python -m pip install torch==2.13.0+cpu"]
    assert findings("PKG010", packages=known, baseline={"packages": packages(numpy)}) == []
    assert findings("PKG010", packages=known, baseline={"packages": known}) == []


def test_where_nothing_was_asked_for_the_tops_are_named() -> None:
    torch = distribution("torch", "2.5.0", requires={"sympy>=1.13": ""}, requested=False)
    sympy, numpy = distribution("sympy", "1.14", requested=False), distribution("numpy", "2.1.0", requested=False)
    known = packages(torch, sympy, numpy)
    (found,) = findings("PKG010", packages=packages(numpy), baseline={"packages": known})
    assert judged(found) == ("breaks", "possible")
    assert found.title.endswith("not installed: torch")


def test_what_another_distribution_brings_is_not_missed() -> None:
    known = packages(distribution("opencv-python", requested=True, modules={"cv2": True}))
    target = packages(distribution("opencv-python-headless", modules={"cv2": True}))
    assert findings("PKG010", packages=target, baseline={"packages": known}) == []


# PKG003


def shared(*paths: str, count: int | None = None, different: int = 0) -> dict[str, Any]:
    return {
        "location": SITE,
        "count": len(paths) if count is None else count,
        "different": different,
        "examples": dict.fromkeys(paths, True),
    }


OPENCV = (distribution("opencv-python", "4.10.0.84"), distribution("opencv-python-headless", "4.11.0.86"))
OPENCV_PAIR = "opencv-python opencv-python-headless"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (shared("cv2/__init__.py", "cv2/cv2.abi3.so", count=79, different=3), ("changes-results", "likely")),
        (shared("cv2/__init__.py", "cv2/cv2.abi3.so", count=79), ("note", "certain")),
        (shared("LICENSE.txt", different=1), ("note", "certain")),
        (shared("tests/__init__.py", "tests/test_a.py", different=2), ("note", "certain")),
        (shared("google/__init__.py", different=1), ("breaks", "possible")),
    ],
)
def test_files_owned_twice(facts: dict[str, Any], expected: tuple[str, str]) -> None:
    (found,) = findings("PKG003", packages=packages(*OPENCV, shared_files={OPENCV_PAIR: facts}))
    assert judged(found) == expected


def test_a_mixture_of_two_breaks() -> None:
    altered = {"count": 1, "examples": {"cv2/cv2.abi3.so": {"recorded": 1, "found": 2}}}
    mixture = [{**record, "altered_files": altered} for record in OPENCV]
    facts = shared("cv2/__init__.py", "cv2/cv2.abi3.so", count=79, different=3)
    (found,) = findings("PKG003", packages=packages(*mixture, shared_files={OPENCV_PAIR: facts}))
    assert judged(found) == ("breaks", "likely")
    (found,) = findings("PKG003", packages=packages(mixture[0], OPENCV[1], shared_files={OPENCV_PAIR: facts}))
    assert judged(found) == ("changes-results", "likely")
    assert "those of opencv-python-headless are there" in found.explanation


def test_a_third_that_is_whole_is_no_mixture_of_the_other_two() -> None:
    """Seen with the three OpenCV 5.0.0.93: contrib, installed last, is there as it was made, and runs."""
    altered = {"count": 1, "examples": {"cv2/cv2.abi3.so": {"recorded": 1, "found": 2}}}
    others = [{**record, "altered_files": altered} for record in OPENCV]
    facts = shared("cv2/__init__.py", "cv2/cv2.abi3.so", count=79, different=3)
    pairs = (OPENCV_PAIR, "opencv-contrib-python opencv-python", "opencv-contrib-python opencv-python-headless")
    contrib = distribution("opencv-contrib-python", "4.11.0.86")
    found = findings("PKG003", packages=packages(contrib, *others, shared_files=dict.fromkeys(pairs, facts)))
    assert {finding.subject.name for finding in found} == set(pairs[1:])
    assert {judged(finding) for finding in found} == {("changes-results", "likely")}

    broken = packages({**contrib, "altered_files": altered}, *others, shared_files=dict.fromkeys(pairs, facts))
    assert {judged(finding) for finding in findings("PKG003", packages=broken)} == {("breaks", "likely")}


def test_the_fix_reinstalls_the_one_that_stays() -> None:
    target = packages(*OPENCV, shared_files={OPENCV_PAIR: shared("cv2/cv2.abi3.so", different=1)})
    (found,) = findings("PKG003", packages=target)
    assert [fix.text for fix in found.fix] == [
        "python -m pip uninstall -y opencv-python",
        "python -m pip install --force-reinstall --no-deps opencv-python-headless==4.11.0.86",
    ]
    (found,) = findings("PKG003", packages=target, baseline={"packages": packages(OPENCV[0])})
    assert found.fix[1].text.endswith("opencv-python==4.10.0.84")


def test_onnxruntime_keeps_the_accelerated_one() -> None:
    target = packages(
        distribution("onnxruntime", "1.20.0"),
        distribution("onnxruntime-gpu", "1.20.1"),
        shared_files={
            "onnxruntime onnxruntime-gpu": shared("onnxruntime/__init__.py", "onnxruntime/x.so", different=1)
        },
    )
    (found,) = findings("PKG003", packages=target)
    assert found.fix[0].text.endswith("uninstall -y onnxruntime")
    assert found.fix[1].text.endswith("--no-deps onnxruntime-gpu==1.20.1")


def test_identical_namespace_files_say_nothing() -> None:
    target = packages(
        distribution("nvidia-cublas"),
        distribution("nvidia-cudnn"),
        shared_files={"nvidia-cublas nvidia-cudnn": shared("nvidia/__init__.py")},
    )
    assert findings("PKG003", packages=target) == []


# PKG004


@pytest.mark.parametrize(
    ("first", "version", "expected"),
    [
        ("/opt/lib", "2.0", ("changes-results", "likely")),
        ("/opt/lib", "1.0", ("note", "certain")),
        (SITE, "2.0", ("note", "certain")),
        ("/venv-other/lib", "2.0", ("changes-results", "likely")),
    ],
)
def test_another_install_is_hidden(first: str, version: str, expected: tuple[str, str]) -> None:
    second = "/usr/lib/python3/dist-packages"
    record = distribution("a", location=first, other_installs=[other(version, second, same_directory=False)])
    (found,) = findings("PKG004", packages=packages(record))
    assert judged(found) == expected
    assert found.subject.name == "a"


def test_a_copy_of_an_environment_is_one_note() -> None:
    copies = [
        distribution(name, location="/opt/lib", other_installs=[other("1.0", SITE, same_directory=False)])
        for name in "abcdef"
    ]
    newer = distribution("g", "2.0", location="/opt/lib", other_installs=[other("1.0", SITE, same_directory=False)])
    variables = {"variables": {"PYTHONPATH": {"value": "/srv:/opt/lib"}}}
    differing, same = findings("PKG004", packages=packages(*copies, newer), variables=variables)
    assert judged(differing) == ("changes-results", "likely")
    assert judged(same) == ("note", "certain")
    assert same.title == "6 distributions stand twice on sys.path, in the same version"
    assert "a 1.0, b 1.0, c 1.0, d 1.0 and 2 more from /opt/lib" in same.explanation
    before = {"python": python(), "packages": packages(), "variables": {"variables": {}}}
    after = {"python": python(), "packages": packages(*copies, newer), "variables": variables}
    found = explain_pair(snapshot("before", **before), snapshot("after", **after)).findings
    effects = [one for one in found if one.code == "PKG004"]
    assert [one.caused_by for one in effects] == [("ENV003", "variable", "PYTHONPATH")] * 2


def test_other_versions_that_one_directory_hides_are_one_finding() -> None:
    """As PYTHONPATH with an overlay has it: nine findings would say one thing nine times."""
    hiding = [
        distribution(name, "2.0", location="/opt/lib", other_installs=[other("1.0", SITE, same_directory=False)])
        for name in "abcdef"
    ]
    (found,) = findings("PKG004", packages=packages(*hiding))
    assert judged(found) == ("changes-results", "likely")
    assert found.title == "/opt/lib hides other versions of 6 distributions, which stand later on sys.path"
    assert found.subject.name == "/opt/lib"
    assert found.explanation.startswith("a 2.0 hides 1.0, b 2.0 hides 1.0, c 2.0 hides 1.0, d 2.0 hides 1.0 and so on")


def test_a_requirement_that_is_met_by_what_an_overlay_hides() -> None:
    """pip would find it installed: it is the overlay that has to go."""
    newer = [other("2.0", SITE, same_directory=False)]
    hiding = distribution("b", "1.0", location="/opt/lib", other_installs=newer)
    records = packages(distribution("a", requires={"b>=2": ""}), hiding)
    found = explain_one(snapshot("target", python=python(), packages=records)).findings
    (unmet,) = [one for one in found if one.code == "PKG001"]
    assert unmet.caused_by == ("PKG004", "distribution", "b")
    assert unmet.explanation.endswith(f"2.0, which would do, stands in {SITE} and is hidden.")
    assert [fix.text for fix in unmet.fix] == ["Take /opt/lib off PYTHONPATH (or out of the .pth file that adds it)."]
    # What the environment itself has in front, or what would not do either, is pip's to mend.
    for location, version in ((SITE, "2.0"), ("/opt/lib", "1.5")):
        behind = [other(version, "/usr/lib/python3/dist-packages", same_directory=False)]
        hiding = distribution("b", "1.0", location=location, other_installs=behind)
        (unmet,) = findings("PKG001", packages=packages(distribution("a", requires={"b>=2": ""}), hiding))
        assert unmet.fix[0].kind == "pip"


def test_a_hidden_module() -> None:
    record = distribution("typing-extensions", shadowed_by={"typing_extensions": "/opt/lib/typing_extensions.py"})
    (found,) = findings("PKG004", packages=packages(record))
    assert judged(found) == ("breaks", "likely")
    assert found.fix[0].text.startswith("Take /opt/lib off PYTHONPATH")


def test_the_users_site_packages_are_named() -> None:
    path = "~/.local/lib/python3.11/site-packages/numpy"
    (found,) = findings("PKG004", packages=packages(distribution("numpy", shadowed_by={"numpy": path})))
    assert (found.fix[0].kind, found.fix[0].text) == ("variable", "PYTHONNOUSERSITE=1")


def test_hidden_tests_and_duplicates_in_one_directory_are_not_shadowing() -> None:
    target = packages(distribution("a", shadowed_by={"tests": "/opt/lib/tests"}, other_installs=[other("2.0")]))
    assert findings("PKG004", packages=target) == []


# PKG005


def native(
    version: str = "1.0",
    digest: str = "sha256:1",
    tag: str = "cp311-cp311-manylinux_2_28_x86_64",
    **facts: Any,
) -> dict[str, Any]:
    return distribution("a", version, tags={tag: True}, record={"digest": digest, "files": 3}, **facts)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (native(), native(digest="sha256:2"), ("changes-results", "likely")),
        (native(), native(digest="sha256:2", tag="cp311-cp311-linux_x86_64"), ("changes-results", "likely")),
        (
            native(tag="py3-none-any"),
            native(digest="sha256:2", tag="py3-none-any"),
            ("changes-results", "possible"),
        ),
        (native(module_version="1.0+cu130"), native("1.0+cpu", digest="sha256:2"), ("slows", "likely")),
        (
            native("1.0+cpu"),
            native(digest="sha256:2", module_version="1.0+cu130"),
            ("changes-results", "likely"),
        ),
        (native(), native(digest="sha256:2", tag="cp312-cp312-manylinux_2_28_x86_64"), ("note", "certain")),
        (native(), native(digest="sha256:2", tag="cp311-cp311-manylinux_2_28_aarch64"), ("note", "certain")),
        (native(), native(digest="sha256:2", tag="cp311-cp311-musllinux_1_2_x86_64"), ("note", "certain")),
    ],
)
def test_same_version_other_build(before: dict[str, Any], after: dict[str, Any], expected: tuple[str, str]) -> None:
    (found,) = findings("PKG005", baseline={"packages": packages(before)}, packages=packages(after))
    assert judged(found) == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (native(), native()),
        (native(), native("1.1", digest="sha256:2")),
        (native(), native() | {"record": None}),
        (native(None or ""), native("not a version", digest="sha256:2")),
        (native(), native(digest="sha256:2", direct_url={"url": "file:///src", "editable": True})),
    ],
)
def test_not_another_build(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert findings("PKG005", baseline={"packages": packages(before)}, packages=packages(after)) == []


def test_accelerators_are_named_in_the_title() -> None:
    before, after = native("2.13.0", module_version="2.13.0+cu130"), native("2.13.0+cpu", digest="sha256:2")
    (found,) = findings("PKG005", baseline={"packages": packages(before)}, packages=packages(after))
    assert found.title == "a 2.13.0 is another build: cu130 in the baseline, cpu in the target"


def test_wheels_for_another_platform_are_one_finding_that_folds_their_changes() -> None:
    tags = "cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64"

    def side(tag: str) -> dict[str, Any]:
        record = {"digest": f"sha256:{tag}", "files": 1}
        return packages(*(distribution(name, tags={tag: True}, record=record) for name in ("a", "b", "c")))

    before, after = (snapshot(tag, packages=side(tag), python=python()) for tag in tags)
    (found,) = [finding for finding in explain_pair(before, after).findings if finding.code == "PKG005"]
    assert found.title.startswith("3 distributions of the same version")
    assert set(found.folds) == {change.path for change in changes(before, after)}


# PKG006


def gone(*paths: str) -> dict[str, Any]:
    return {"missing_files": {"count": len(paths), "examples": dict.fromkeys(paths, True)}}


def altered(path: str, recorded: int, size: int) -> dict[str, Any]:
    return {"altered_files": {"count": 1, "examples": {path: {"recorded": recorded, "found": size}}}}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (gone("a/core.py"), ("breaks", "likely")),
        (gone("a/_x.cpython-311-x86_64-linux-gnu.so"), ("breaks", "likely")),
        (gone("a.libs/libx-0a1b.so.3"), ("breaks", "likely")),
        (gone("a/tests/test_a.py", "a/py.pyi"), ("note", "certain")),
        (gone("../../../bin/a", "/etc/a.py"), ("note", "certain")),
        (altered("a/x.py", 9, 0), ("breaks", "likely")),
        (altered("a/__init__.py", 0, 3), ("changes-results", "likely")),
        (altered("a/x.py", 9, 8), ("changes-results", "likely")),
        (altered("a/README.md", 9, 8), ("note", "certain")),
    ],
)
def test_files_contradict_record(facts: dict[str, Any], expected: tuple[str, str]) -> None:
    (found,) = findings("PKG006", packages=packages(distribution("a", **facts)))
    assert judged(found) == expected
    assert found.fix[0].text == "python -m pip install --force-reinstall --no-deps a==1.0"


def test_a_missing_module_of_one_file_is_predicted() -> None:
    target = packages(distribution("six", missing_files={"count": 1, "examples": {"six.py": True}}))
    (found,) = findings("PKG006", packages=target)
    assert found.predicted_error == "ModuleNotFoundError: No module named 'six'"


ALTERED: dict[str, Any] = {
    "count": 2,
    "examples": {"cv2/version.py": {"recorded": 9, "found": 8}, "cv2/a.so": {"recorded": 9, "found": 8}},
}


@pytest.mark.parametrize(
    "target",
    [
        packages(distribution("a", altered_files=ALTERED, direct_url={"url": "file:///src", "editable": True})),
        packages(distribution("a", record=None)),
        packages(distribution("a")),
        packages(distribution("a", **altered("a/__pycache__/x.cpython-311.pyc", 9, 8))),
        packages(
            OPENCV[0],
            OPENCV[1] | {"altered_files": ALTERED},
            shared_files={OPENCV_PAIR: shared("cv2/__init__.py", count=79, different=3)},
        ),
    ],
    ids=["editable", "no RECORD", "whole", "bytecode", "owned by another too"],
)
def test_files_that_contradict_nothing(target: dict[str, Any]) -> None:
    assert findings("PKG006", packages=target) == []


def test_only_what_nobody_else_owns_is_counted() -> None:
    both = ALTERED["examples"] | {"own/x.py": {"recorded": 9, "found": 8}}
    target = packages(
        OPENCV[0],
        OPENCV[1] | {"altered_files": {"count": 3, "examples": both}},
        shared_files={OPENCV_PAIR: shared("cv2/__init__.py", count=79, different=3)},
    )
    (found,) = findings("PKG006", packages=target)
    assert found.title == "opencv-python-headless 4.11.0.86: 1 file altered"


def test_identical_shared_files_explain_no_altered_one() -> None:
    target = packages(
        OPENCV[0],
        OPENCV[1] | {"altered_files": ALTERED},
        shared_files={OPENCV_PAIR: shared("cv2/__init__.py")},
    )
    assert len(findings("PKG006", packages=target)) == 1


def test_what_a_distributor_changed_is_a_note() -> None:
    """Debian keeps the RECORD of the build and strips the binaries; it writes no INSTALLER."""
    altered = {"count": 1, "examples": {"yaml/_yaml.so": {"recorded": 1157616, "found": 208472}}}
    record = distribution("PyYAML", "6.0", altered_files=altered)
    (found,) = findings("PKG006", packages=packages(record))
    assert judged(found) == ("changes-results", "likely")
    (found,) = findings("PKG006", packages=packages({**record, "installer": None}))
    assert judged(found) == ("note", "certain")


# PKG007


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["cp310-cp310-manylinux_2_17_x86_64"], ("breaks", "likely")),
        (["cp313-cp313t-manylinux_2_17_x86_64"], ("breaks", "likely")),
        (["cp311-cp311-manylinux_2_17_aarch64"], ("breaks", "likely")),
        (["cp311-cp311-musllinux_1_2_x86_64"], ("breaks", "likely")),
        (["cp311-cp311-win_amd64"], ("breaks", "likely")),
        (["cp311-cp311-manylinux_2_39_x86_64"], ("breaks", "possible")),
        (["cp311-cp311-manylinux_2_38_x86_64.manylinux_2_39_x86_64"], ("breaks", "possible")),
        (["py2-none-any"], ("note", "certain")),
    ],
)
def test_unsupported_wheel(tags: list[str], expected: tuple[str, str]) -> None:
    (found,) = findings("PKG007", packages=packages(distribution("a", tags=dict.fromkeys(tags, True))))
    assert judged(found) == expected


@pytest.mark.parametrize(
    "tags",
    [
        ["py3-none-any"],
        ["py2.py3-none-any"],
        ["cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"],
        ["py3-none-manylinux_2_17_x86_64"],
        ["cp310-cp310-linux_x86_64", "cp311-cp311-linux_x86_64"],
        ["rubbish", "", "a-b-c-d-e"],
        [],
    ],
)
def test_supported_wheel(tags: list[str]) -> None:
    assert findings("PKG007", packages=packages(distribution("a", tags=dict.fromkeys(tags, True)))) == []


def test_another_c_library_is_another_platform() -> None:
    """Both kinds of Linux accept linux_x86_64, which says nothing of the C library."""
    alpine = python(tags={"platforms": ["musllinux_1_2_x86_64", "linux_x86_64"]})
    target = packages(distribution("a", tags={"cp311-cp311-manylinux_2_17_x86_64": True}))
    (found,) = findings("PKG007", python=alpine, packages=target)
    assert judged(found) == ("breaks", "likely")


@pytest.mark.parametrize(
    ("tag", "error"),
    [
        ("cp310-cp310-manylinux_2_17_x86_64", "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"),
        ("cp311-cp311-musllinux_1_2_x86_64", "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"),
        ("cp311-cp311-manylinux_2_39_x86_64", None),
    ],
)
def test_the_error_of_numpy_where_python_does_not_see_its_modules(tag: str, error: str | None) -> None:
    """Seen with NumPy 2.2.6 and 2.4.6; a wheel for a newer glibc is seen, and may even load."""
    (found,) = findings("PKG007", packages=packages(distribution("numpy", "2.4.6", tags={tag: True})))
    assert found.predicted_error == error


def test_an_interpreter_that_states_no_tags_refuses_nothing() -> None:
    silent = python(tags={"interpreters": [], "platforms": []})
    target = packages(distribution("a", tags={"cp27-cp27mu-win32": True}))
    assert findings("PKG007", python=silent, packages=target) == []


@pytest.mark.parametrize(
    ("counted", "impact"),
    [
        ({"modules": 0, "libraries": 1, "needs": {}}, "note"),
        ({"modules": 0, "libraries": 1, "foreign_modules": 3, "needs": {}}, "breaks"),
        ({"modules": 0, "libraries": 0, "needs": {}}, "breaks"),
    ],
)
def test_libraries_that_are_opened_by_name_are_for_any_python(counted: dict[str, Any], impact: str) -> None:
    """decord 0.6.0: its file is named py3, its WHEEL says cp36, and import decord succeeds on 3.11."""
    target = packages(distribution("decord", "0.6.0", tags={"cp36-cp36m-manylinux_2_17_x86_64": True}))
    libraries = {"files": {}, "distributions": {"decord": counted}}
    (found,) = findings("PKG007", packages=target, libraries=libraries)
    assert found.impact == impact
    assert bool(found.fix) is (impact == "breaks")
    abi = findings("PY001", baseline={"python": python(version="3.10.1")}, packages=target, libraries=libraries)
    assert [one.impact for one in abi] == [impact]


# PKG008


def stack(torch: str, name: str, version: str) -> dict[str, Any]:
    """As wheels state it: the metadata's version without, the module's with the build."""
    public = version.partition("+")[0]
    record = distribution(name, public) if public == version else distribution(name, public, module_version=version)
    return packages(distribution("torch", torch), record)


MAJORS = (
    "RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA major versions. "
    "PyTorch has CUDA Version=12.6 and torchvision has CUDA Version=13.0. "
    "Please reinstall the torchvision that matches your PyTorch install."
)
AUDIO = (
    "RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions. "
    "PyTorch has CUDA version 13.0 whereas TorchAudio has CUDA version 12.8. "
    "Please install the TorchAudio version that matches your PyTorch version."
)
MINORS = (
    "RuntimeError: Detected that PyTorch and torchvision were compiled with different CUDA versions. "
    "PyTorch has CUDA Version=11.7 and torchvision has CUDA Version=11.8. "
    "Please reinstall the torchvision that matches your PyTorch install."
)
NO_OPERATOR = "RuntimeError: operator torchvision::nms does not exist"


@pytest.mark.parametrize(
    ("torch", "name", "version", "expected", "error"),
    [
        ("2.13.0+cpu", "torchvision", "0.28.0+cu130", ("breaks", "certain"), NO_OPERATOR),
        ("2.13.0+cpu", "torchvision", "0.16.0+cu121", ("breaks", "likely"), NO_OPERATOR),
        ("2.13.0+cpu", "torchvision", "0.99.0+cu130", ("breaks", "likely"), NO_OPERATOR),
        ("2.13.0+cu126", "torchvision", "0.28.0+cu130", ("breaks", "likely"), NO_OPERATOR),
        ("2.13.0+cu126", "torchvision", "0.28.0+cu128", ("note", "likely"), None),
        ("2.13.0+cu126", "torchvision", "0.28.0+cpu", ("breaks", "possible"), None),
        ("2.13.0+rocm6.4", "torchvision", "0.28.0+cu130", ("breaks", "likely"), NO_OPERATOR),
        (
            "2.13.0+cpu",
            "torchaudio",
            "2.11.0+cu130",
            ("breaks", "likely"),
            "OSError: libcudart.so.13: cannot open shared object file: No such file or directory",
        ),
        (
            "2.11.0+cu130",
            "torchaudio",
            "2.11.0+cu128",
            ("breaks", "likely"),
            AUDIO,
        ),
        (
            "2.0.0+cu117",
            "torchvision",
            "0.15.1+cu118",
            ("breaks", "likely"),
            MINORS,
        ),
    ],
)
def test_accelerator_build_mix(
    torch: str, name: str, version: str, expected: tuple[str, str], error: str | None
) -> None:
    (found,) = findings("PKG008", packages=stack(torch, name, version))
    assert judged(found) == expected
    assert found.predicted_error == error
    assert found.title == f"{name} {version} beside torch {torch}"


def test_the_other_runtime_decides_what_torchvision_prints() -> None:
    facts = stack("2.13.0+cu126", "torchvision", "0.28.0+cu130")
    facts["distributions"]["nvidia-cuda-runtime"] = distribution("nvidia-cuda-runtime", "13.0.96")
    (found,) = findings("PKG008", packages=facts)
    assert found.predicted_error == MAJORS


def test_a_broken_torchvision_is_not_certain() -> None:
    facts = stack("2.13.0+cpu", "torchvision", "0.28.0+cu130")
    facts["distributions"]["torchvision"]["shadowed_by"] = {"torchvision": "/opt/lib/torchvision"}
    (found,) = findings("PKG008", packages=facts)
    assert found.confidence is Confidence.LIKELY


@pytest.mark.parametrize(
    ("torch", "version"),
    [
        ("2.13.0+cpu", "0.28.0+cpu"),
        ("2.13.0+cu130", "0.28.0+cu130"),
        ("2.13.0", "0.28.0+cu130"),  # no build is stated: nothing is known
        ("2.13.0+cpu", "0.28.0"),
        ("2.6.0a0+ecf3bae40a.nv25.1", "0.28.0+cu130"),
        ("2.13.0+cpu.cxx11.abi", "0.28.0+cpu"),
        ("", "0.28.0+cu130"),
    ],
)
def test_builds_that_go_together(torch: str, version: str) -> None:
    assert findings("PKG008", packages=stack(torch, "torchvision", version)) == []


# PKG009


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (">=3.12", ("breaks", "likely")),
        (">=3.8,<3.11", ("breaks", "possible")),
        ("!=3.11.7", ("breaks", "possible")),
        ("==3.10.*", ("breaks", "possible")),
    ],
)
def test_requires_python(bounds: str, expected: tuple[str, str]) -> None:
    (found,) = findings("PKG009", packages=packages(distribution("a", requires_python=bounds)))
    assert judged(found) == expected


@pytest.mark.parametrize("bounds", [None, "", ">=3.8", ">=3.6.*", "nonsense", ">=3.9, !=3.9.7"])
def test_python_is_accepted(bounds: str | None) -> None:
    assert findings("PKG009", packages=packages(distribution("a", requires_python=bounds))) == []


def test_the_baselines_python_is_offered() -> None:
    target = packages(distribution("a", requires_python=">=3.12"))
    (found,) = findings(
        "PKG009", baseline={"python": python(version="3.12.1"), "packages": packages()}, packages=target
    )
    assert found.fix[0].text == "Use Python 3.12.1, as the baseline does."


# All of them


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_documentation_is_complete(rule: Any) -> None:
    assert title_of(rule).endswith(".")
    assert set(paragraphs_of(rule)) == set(PARAGRAPHS)
    assert all(url.startswith("https://") for url in rule.references)
    assert rule.references


def test_the_family_is_complete() -> None:
    assert [rule.code for rule in RULES] == [f"PKG{number:03}" for number in range(1, 15)]


def test_an_empty_section_says_nothing() -> None:
    """Facts may be missing altogether: no property of a section is required."""
    for rule in RULES:
        assert findings(rule.code, baseline={"packages": {}, "python": {}}, packages={}, python={}) == []


NAMES = st.sampled_from(["torch", "torchvision", "torchaudio", "transformers", "tokenizers", "opencv-python", "a", ""])
ODD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["1.0", "1!2.0", "1.0+cu1", "1.0+cu999999", "1.0+cpu", "0", "v", "1.0.dev0+rocm..", "\ud800", "٣"]),
)
PATHS = st.sampled_from(["a/b.py", "../x", "/", "", "a/__init__.py", "C:/x.py", "cv2/c.so", "a.py", "tests/x.py"])
REQUIREMENTS = st.one_of(
    ODD,
    st.sampled_from(
        [
            "torch==1",
            "a[b]",
            "a[b,c]>=1",
            "a===weird",
            "a~=1",
            "torch (==2)",
            "a @ x",
            "b;c",
            "tokenizers<1,>=0.*",
        ]
    ),
)
MARKERS = st.one_of(
    ODD,
    st.sampled_from(["extra == 'b'", "extra", "python_version > 'x'", "platform_release < '5'", "'' in ''"]),
)
SIZES = st.integers(-1, 2**40)
TRUE = st.just(value=True)
RECORD = st.fixed_dictionaries(
    {
        "name": st.one_of(NAMES, ODD),
        "version": st.one_of(st.none(), ODD),
        "location": ODD,
        "metadata": ODD,
        "requires_python": st.one_of(st.none(), ODD, st.sampled_from([">=4", "<3", "===x", ">=3.*"])),
        "requires": st.dictionaries(REQUIREMENTS, MARKERS, max_size=4),
        "extras": st.dictionaries(ODD, TRUE, max_size=2),
        "tags": st.dictionaries(
            st.one_of(ODD, st.sampled_from(["cp39-cp39-win32", "a-b-c", "py2.py3-none-any", "--", "a.b-c-"])),
            TRUE,
            max_size=3,
        ),
        "installer": st.one_of(st.none(), ODD),
        "requested": st.booleans(),
        "direct_url": st.one_of(
            st.none(),
            st.fixed_dictionaries({"url": ODD, "editable": st.booleans()}, optional={"vcs": ODD, "commit": ODD}),
        ),
        "modules": st.dictionaries(ODD, TRUE, max_size=2),
        "record": st.one_of(st.none(), st.fixed_dictionaries({"digest": ODD, "files": SIZES})),
    },
    optional={
        "module_version": ODD,
        "version_of_folder": ODD,
        "build": st.one_of(st.none(), ODD),
        "missing_files": st.fixed_dictionaries({"count": SIZES, "examples": st.dictionaries(PATHS, TRUE, max_size=3)}),
        "altered_files": st.fixed_dictionaries(
            {
                "count": SIZES,
                "examples": st.dictionaries(
                    PATHS, st.fixed_dictionaries({"recorded": SIZES, "found": SIZES}), max_size=3
                ),
            }
        ),
        "other_installs": st.lists(
            st.fixed_dictionaries(
                {
                    "version": st.one_of(st.none(), ODD),
                    "location": ODD,
                    "metadata": ODD,
                    "same_directory": st.booleans(),
                    "record_digest": st.one_of(st.none(), ODD),
                }
            ),
            max_size=2,
        ),
        "shadowed_by": st.dictionaries(ODD, ODD, max_size=2),
    },
)
ODD_PACKAGES = st.fixed_dictionaries(
    {},
    optional={
        "distributions": st.dictionaries(NAMES, RECORD, max_size=4),
        "shared_files": st.dictionaries(
            st.one_of(ODD, st.sampled_from(["torch transformers", "a  b", "a a", " ", "opencv-python a"])),
            st.fixed_dictionaries(
                {
                    "location": ODD,
                    "count": SIZES,
                    "different": SIZES,
                    "examples": st.dictionaries(PATHS, TRUE, max_size=2),
                }
            ),
            max_size=2,
        ),
        "conda": st.dictionaries(
            NAMES, st.fixed_dictionaries({"version": ODD, "build": ODD, "channel": ODD}), max_size=2
        ),
    },
)
ODD_PYTHON = st.fixed_dictionaries(
    {},
    optional={
        "implementation": ODD,
        "version": st.one_of(ODD, st.sampled_from(["3.11.7", "3.13.0+", "3"])),
        "prefix": ODD,
        "base_prefix": ODD,
        "search_path": st.lists(ODD, max_size=2),
        "platform": st.fixed_dictionaries(
            {"system": ODD, "machine": ODD, "tag": ODD, "libc": st.none(), "libc_version": st.none()}
        ),
        "tags": st.fixed_dictionaries(
            {"interpreters": st.lists(ODD, max_size=2), "platforms": st.lists(ODD, max_size=2)}
        ),
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(ODD_PACKAGES, ODD_PACKAGES, ODD_PYTHON)
def test_no_rule_raises_on_facts_that_the_schema_allows(
    target: dict[str, Any], baseline: dict[str, Any], interpreter: dict[str, Any]
) -> None:
    before = snapshot("baseline", packages=baseline, python=interpreter)
    after = snapshot("target", packages=target, python=interpreter)
    for rule in RULES:
        found: list[Finding] = []
        if isinstance(rule, Drift):
            found.extend(rule.check(before, after))
        elif isinstance(rule, Contradiction):
            found.extend(rule.check(after, before))
        for finding in found:
            assert isinstance(finding.impact, Impact)
            assert finding.title
            assert finding.explanation
            for change in changes(before, after):
                rule.explains(finding, change, Sides(before, after))
