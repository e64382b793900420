"""Family ENV on made-up facts, and against what a thread pool really starts."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.environments import Options, snapshot_of
from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.rules.variables import cpus_in_sight, started, threads

NUMPY = distributions(distribution("numpy"))


def variables(**values: str | None) -> dict[str, Any]:
    """Facts of section ``variables``; None is a hidden value."""
    return {"variables": {name: {} if value is None else {"value": value} for name, value in values.items()}}


def limits(cpus: int, affinity: int | None = None, quota: float | None = None) -> dict[str, Any]:
    return {
        "cgroup": {"version": 2, "cpu_quota": quota, "cpuset": None, "memory_bytes": None, "pids": None},
        "cpus": {"affinity": affinity or cpus, "online": affinity or cpus},
        "cpu_limit": {"cpus": cpus, "decided_by": "quota" if quota else "online"},
    }


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


# ENV001


def test_env001_more_threads_than_cpus() -> None:
    (found,) = findings("ENV001", limits=limits(2), variables=variables(OMP_NUM_THREADS="8"), packages=NUMPY)
    assert judged(found) == ("slows", "likely")
    assert found.title == "OMP_NUM_THREADS starts 8 threads where 2 can run"
    assert [fix.text for fix in found.fix] == ["OMP_NUM_THREADS=2", "-e OMP_NUM_THREADS=2", "ENV OMP_NUM_THREADS=2"]


def test_env001_openblas_caps_itself_at_the_cpus_in_sight_but_not_at_a_quota() -> None:
    """OPENBLAS_NUM_THREADS=8 with two CPUs in sight: threadpoolctl counted 2 threads."""
    asked = variables(OPENBLAS_NUM_THREADS="8")
    assert findings("ENV001", limits=limits(2), variables=asked, packages=NUMPY) == []
    (found,) = findings("ENV001", limits=limits(2, 16, 1.5), variables=asked, packages=NUMPY)
    assert found.title == "OPENBLAS_NUM_THREADS starts 8 threads where 2 can run"


def test_env001_a_thread_limit_counts() -> None:
    asked = variables(OMP_NUM_THREADS="8", OMP_THREAD_LIMIT="2")
    assert findings("ENV001", limits=limits(2), variables=asked, packages=NUMPY) == []


def test_env001_no_variable_under_a_quota() -> None:
    (found,) = findings("ENV001", limits=limits(4, 64, 4.0), variables=variables(), packages=NUMPY)
    assert judged(found) == ("slows", "likely")
    assert found.title == "Thread pools will start 64 threads on a quota of 4 CPUs"


@pytest.mark.parametrize(
    ("facts", "values"),
    [
        (limits(4), {"OMP_NUM_THREADS": "4"}),
        (limits(4), {"OMP_NUM_THREADS": "4,2"}),
        (limits(4), {}),
        (limits(4, 64, 4.0), {"OMP_NUM_THREADS": "4"}),
        (limits(4, 6, 4.0), {}),
        (limits(4), {"OMP_NUM_THREADS": "many"}),
        (limits(4), {"OMP_NUM_THREADS": "0"}),
        (limits(4), {"OMP_NUM_THREADS": ""}),
        (limits(4), {"OMP_NUM_THREADS": None}),
        ({}, {"OMP_NUM_THREADS": "64"}),
    ],
)
def test_env001_is_silent(facts: dict[str, Any], values: dict[str, str | None]) -> None:
    assert findings("ENV001", limits=facts, variables=variables(**values), packages=NUMPY) == []


def test_env001_is_silent_where_nothing_computes_in_threads() -> None:
    packages = distributions(distribution("requests"))
    asked = variables(OMP_NUM_THREADS="8")
    assert findings("ENV001", limits=limits(2), variables=asked, packages=packages) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("8", 8), (" 4 ", 4), ("5,2", 5), ("0", None), ("-1", None), ("x", None), ("\u0663", None), ("9" * 12, None)],
)
def test_threads_are_read_as_libgomp_reads_them(text: str, number: int | None) -> None:
    """Its answers: =5,2 and ' 4 ' were taken, =0 and =x printed "Invalid value for environment variable"."""
    assert threads(snapshot(variables=variables(OMP_NUM_THREADS=text)), "OMP_NUM_THREADS") == number


def test_env001_truth_the_limit_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real start of this interpreter, with more threads asked for than the system lets it run on."""
    available = len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", str(available + 6))
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    measured = snapshot_of(f"python:{sys.executable}", Options())
    facts = {name: measured.sections[name].facts for name in ("limits", "variables")}
    assert cpus_in_sight(measured) == available
    found = {finding.subject.name: finding for finding in findings("ENV001", packages=NUMPY, **facts)}
    assert found["OMP_NUM_THREADS"].title.startswith(f"OMP_NUM_THREADS starts {available + 6} threads where ")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    measured = snapshot_of(f"python:{sys.executable}", Options())
    facts = {name: measured.sections[name].facts for name in ("limits", "variables")}
    quiet = {finding.subject.name for finding in findings("ENV001", packages=NUMPY, **facts)}
    assert "OMP_NUM_THREADS" not in quiet


# ENV002


def test_env002_another_number_of_threads() -> None:
    baseline = {"limits": limits(8), "variables": variables(), "packages": NUMPY}
    (found,) = findings(
        "ENV002", baseline=baseline, limits=limits(8), variables=variables(OMP_NUM_THREADS="1"), packages=NUMPY
    )
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "OpenMP computes with 1 thread instead of 8"
    assert "OMP_NUM_THREADS not set -> 1" in found.explanation


def test_env002_other_cpus_in_sight_change_the_default() -> None:
    baseline = {"limits": limits(8), "variables": variables()}
    (found,) = findings("ENV002", baseline=baseline, limits=limits(2), variables=variables(), packages=NUMPY)
    assert "CPUs in sight 8 -> 2" in found.explanation


def test_env002_is_silent_where_the_same_number_computes() -> None:
    baseline = {"limits": limits(4), "variables": variables(OMP_NUM_THREADS="4")}
    assert findings("ENV002", baseline=baseline, limits=limits(4), variables=variables(), packages=NUMPY) == []
    both = variables(OMP_NUM_THREADS="2")
    baseline = {"limits": limits(4), "variables": both}
    assert findings("ENV002", baseline=baseline, limits=limits(64), variables=both, packages=NUMPY) == []


def test_env002_openblas_listens_to_openmps_variable() -> None:
    both = snapshot(limits=limits(16), variables=variables(OMP_NUM_THREADS="2"))
    assert started(both, "OPENBLAS_NUM_THREADS") == 2
    assert cpus_in_sight(both) == 16


# ENV003


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD"])
def test_env003_set_on_one_side_only(name: str) -> None:
    given, none = variables(**{name: "/opt/x"}), variables()
    (here,) = findings("ENV003", baseline={"variables": none}, variables=given)
    (there,) = findings("ENV003", baseline={"variables": given}, variables=none)
    assert judged(here) == judged(there) == ("changes-results", "possible")
    assert here.fix[0].text == f"unset {name}"
    assert there.fix[0].text == f"{name}=/opt/x"


def test_env003_an_allocator_is_a_note() -> None:
    preload = variables(LD_PRELOAD="/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")
    (found,) = findings("ENV003", baseline={"variables": variables()}, variables=preload)
    assert found.impact.value == "note"


def test_env003_is_silent() -> None:
    same = variables(PYTHONPATH="/a")
    assert findings("ENV003", baseline={"variables": same}, variables=same) == []
    assert findings("ENV003", baseline={"variables": same}, variables=variables(PYTHONPATH="/b")) == []
    assert findings("ENV003", baseline={"variables": variables()}, variables=variables(PYTHONPATH="")) == []


def test_env003_folds_the_search_path() -> None:
    searched = python()["search_path"]
    before = snapshot("a", python=python(), variables=variables())
    after = snapshot("b", python=python(search_path=["/opt/x", *searched]), variables=variables(PYTHONPATH="/opt/x"))
    (cause,) = [finding for finding in explain_pair(before, after).findings if finding.code == "ENV003"]
    assert set(cause.folds) == {("variables", "variables", "PYTHONPATH"), ("python", "search_path", "0")}
