"""ENV007 on made-up facts."""

from __future__ import annotations

from typing import Any

from support.snapshots import distribution, distributions, findings

from driftcheck.findings import Finding


def limits(
    cpus: int, *, pids: int | None = None, nproc: int | None = None, uid: int = 1000, **capabilities: bool
) -> dict[str, Any]:
    return {
        "cgroup": {"version": 2, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": pids},
        "cpus": {"affinity": cpus, "online": cpus},
        "rlimits": {"nproc": [nproc, nproc]},
        "user": {"uid": uid, "gid": uid, "passwd_entry": True},
        "capabilities": capabilities,
    }


def judged(facts: dict[str, Any], *names: str, **variables: str) -> list[Finding]:
    values = {"variables": {name: {"value": value} for name, value in variables.items()}}
    packages = distributions(*(distribution(name) for name in names or ("numpy", "torch")))
    return findings("ENV007", limits=facts, variables=values, packages=packages)


def test_env007_a_pool_that_does_not_fit() -> None:
    (found,) = judged(limits(64, pids=32))
    assert (found.impact.value, found.confidence.value) == ("breaks", "likely")
    assert found.title == "numpy starts 64 threads where 32 tasks may exist"
    assert found.predicted_error == (
        "OpenBLAS blas_thread_init: pthread_create failed for thread 32 of 64: Resource temporarily unavailable"
    )
    assert [fix.text for fix in found.fix] == ["OPENBLAS_NUM_THREADS=1", "--pids-limit 1024"]


def test_env007_the_limit_of_the_user() -> None:
    (found,) = judged(limits(8, pids=1000, nproc=4))
    assert found.title == "numpy starts 8 threads where 4 tasks may exist"
    (found,) = judged(limits(8, nproc=1), "torch")
    assert found.title == "torch starts 8 threads where 1 task may exist"
    assert found.predicted_error == "libgomp: Thread creation failed: Resource temporarily unavailable"


def test_env007_the_limit_of_the_user_does_not_bind_everybody() -> None:
    assert judged(limits(8, nproc=4, uid=0)) == []
    assert judged(limits(8, nproc=4, sys_resource=True)) == []
    assert judged(limits(8, nproc=4, sys_admin=True)) == []


def test_env007_silent() -> None:
    assert (
        findings("ENV007", limits={}, variables={"variables": {}}, packages=distributions(distribution("numpy"))) == []
    )
    assert judged(limits(8, pids=8)) == []
    assert judged(limits(8)) == []
    assert judged(limits(64, pids=32), "requests") == []
    assert judged(limits(64, pids=32), OMP_NUM_THREADS="4") == []  # OpenBLAS listens to it too
    assert judged(limits(64, pids=32), "numpy", OPENBLAS_NUM_THREADS="4") == []
    (found,) = judged(limits(64, pids=32), OPENBLAS_NUM_THREADS="1")
    assert found.title == "torch starts 64 threads where 32 tasks may exist"
