"""PKG007 by what the sources of a package say: it fails, in which words, or it goes on without what is compiled."""

from __future__ import annotations

from typing import Any

import pytest
from support import cuda_facts
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.findings import Finding
from driftcheck.rules import unseen

OTHER = {"cp39-cp39-manylinux_2_17_x86_64": True}
START = {"package": "a", "chain": ["a/__init__.py:3", "a/core.py:7"], "reworded": False, "module": "a._a"}
ERROR = "ModuleNotFoundError: No module named 'a._a'"


def facts(**unseen_modules: Any) -> dict[str, Any]:
    counted = {"modules": 0, "libraries": 0, "foreign_modules": 1, "needs": {}}
    unseen_modules = {"count": 1, "complete": True} | unseen_modules
    return cuda_facts.libraries(distributions={"a": counted | {"unseen_modules": unseen_modules}})


def judged(name: str = "a", requires_python: str = ">=3.9", **unseen_modules: Any) -> Finding:
    target = distributions(distribution(name, "1.0", tags=OTHER, requires_python=requires_python))
    (found,) = findings("PKG007", packages=target, libraries=facts(**unseen_modules))
    return found


def test_what_surely_comes_to_a_module_that_is_not_seen_breaks_for_certain() -> None:
    found = judged(start=START | {"error": ERROR})
    assert (found.impact, found.confidence, found.predicted_error) == ("breaks", "certain", ERROR)
    assert found.explanation.endswith(
        "`a._a` is not found. `import a` fails: a/__init__.py (line 3) leads to a/core.py (line 7), which imports it."
    )
    assert ("libraries", "distributions", "a", "unseen_modules") in {entry.path for entry in found.evidence}


def test_no_words_where_something_else_may_fail_before() -> None:
    found = judged(start=START)
    assert (found.impact, found.confidence, found.predicted_error) == ("breaks", "certain", None)
    found = judged(requires_python=">=3.14", start=START | {"error": ERROR})
    assert (found.impact, found.confidence, found.predicted_error) == ("breaks", "certain", None)


def test_an_error_in_words_of_its_own_is_likely() -> None:
    found = judged(start=START | {"reworded": True})
    assert (found.impact, found.confidence, found.predicted_error) == ("breaks", "likely", None)
    assert "fails, in words of its own" in found.explanation


def by(way: str, **more: Any) -> dict[str, Any]:
    return {"way": way} | more


INSTEAD = {"a._python": True}


@pytest.mark.parametrize(
    ("facts_of_a", "said"),
    [
        ({"importers": {"a._a": {"a/b.py:2": by("guarded")}}}, "a/b.py (line 2) catches the error."),
        (
            {"importers": {"a._a": {"a/b.py:2": by("guarded", through="a/__init__.py:1")}}},
            "a/__init__.py (line 1) catches the error.",
        ),
        (
            {"importers": {"a._a": {"a/b.py:2": by("guarded", instead=INSTEAD)}}},
            "catches the error and takes a._python.",
        ),
        (
            {"importers": {"a._a": {"a/b.py:2": by("conditional", instead=INSTEAD), "a/c.py:1": by("function")}}},
            "asks before and takes a._python.",
        ),
        ({"importers": {"a._a": {"a/b.py:2": by("conditional", caught=True)}}}, "a/b.py (line 2) catches the error."),
        ({"count": 0, "twins": {"a/_a.py": True}}, "Python takes a/_a.py in the place of what is compiled."),
        # What only compiled code imports is not there to import it.
        ({"count": 2, "importers": {"a._a": {"a/b.py:2": by("guarded")}, "a._t": {}}}, "It goes on without a._a: "),
    ],
)
def test_a_package_that_goes_on_without_is_slower(facts_of_a: dict[str, Any], said: str) -> None:
    found = judged(**facts_of_a)
    assert (found.impact, found.confidence, found.predicted_error) == ("slows", "likely", None)
    assert said in found.explanation


@pytest.mark.parametrize(
    "facts_of_a",
    [
        {},
        {"complete": False, "count": 0, "twins": {"a/_a.py": True}},
        {"importers": {"a._a": {}}},
        {"importers": {"a._a": {"a/b.py:2": by("plain")}}},
        {"importers": {"a._a": {"a/b.py:2": by("conditional")}}},
        {"importers": {"a._a": {"a/b.py:2": by("function")}}},
        # cffi: two sources do without, and what everybody calls does not.
        {"importers": {"a._a": {"a/b.py:2": by("guarded"), "a/c.py:1": by("function")}}},
        {"importers": {"a._a": {"a/b.py:2": by("guarded")}, "a._b": {"a/b.py:2": by("plain")}}},
        # Sources for another Python fail in many ways.
        {"requires_python": ">=3.14", "importers": {"a._a": {"a/b.py:2": by("guarded")}}},
    ],
)
def test_what_is_not_known_breaks_as_likely_as_before(facts_of_a: dict[str, Any]) -> None:
    found = judged(**facts_of_a)
    assert (found.impact, found.confidence) == ("breaks", "likely")


def test_packages_from_elsewhere_that_all_go_on_break_nothing() -> None:
    target = distributions(distribution("a", tags=OTHER), distribution("b", tags=OTHER))
    libraries = facts(importers={"a._a": {"a/b.py:2": by("guarded")}})
    (found,) = findings("PKG013", packages=target, libraries=libraries)
    assert found.impact == "breaks"
    libraries["distributions"]["b"] = libraries["distributions"]["a"]
    (found,) = findings("PKG013", packages=target, libraries=libraries)
    assert found.impact == "slows"
    libraries["distributions"]["b"] = facts(start=START | {"error": ERROR})["distributions"]["a"]
    (found,) = findings("PKG013", packages=target, libraries=libraries)
    assert (found.impact, found.predicted_error) == ("breaks", ERROR)


def test_a_snapshot_without_the_fact_proves_nothing() -> None:
    target = snapshot(packages=distributions(distribution("a", tags=OTHER)))
    assert unseen.sentence(target, "a", "a") == ""
    assert unseen.error_of(target, "a") is None
    assert not unseen.goes_on(target, "a")
