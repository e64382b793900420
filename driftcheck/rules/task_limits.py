"""Family ENV: more threads than the system lets one start at all."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules.base import Contradiction, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.rules.variables import cpus_in_sight, started
from driftcheck.snapshot import Snapshot


class ENV007(Contradiction):
    """A pool of threads is larger than the number of tasks that may exist.

    Compares: the number of threads that OpenBLAS and OpenMP start (their variables, else the CPUs in sight)
    with the control group's limit of tasks and with RLIMIT_NPROC, where that binds.

    Why: a thread is a task to the kernel. The pools start as many as there are CPUs in sight, when NumPy is
    imported or at the first parallel loop, and the kernel refuses those beyond the limit (docker run
    --pids-limit, podman's default on a large machine, ulimit -u).

    See: `OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily
    unavailable`, after which the import ends; `libgomp: Thread creation failed: Resource temporarily
    unavailable`.

    Decided: the limit is smaller than one such pool, and a distribution that starts it is installed: breaks,
    likely. Seen with numpy 2.4.6 and torch 2.13 on two CPUs and RLIMIT_NPROC=1.

    Fix: raise the limit, or start fewer threads.

    Limits: other processes and pools count against the same limit, so a larger one may be too small as well.
    RLIMIT_NPROC does not bind root.
    """

    code = "ENV007"
    name = "threads-over-task-limit"
    reads = ("limits", "variables", "packages")
    references = (
        "https://man7.org/linux/man-pages/man2/getrlimit.2.html",
        "https://docs.docker.com/reference/cli/docker/container/run/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        limit = _limit(target)
        if limit is None or cpus_in_sight(target) is None:
            return
        number, path = limit
        for variable, names, text in _POOLS:
            threads = started(target, variable)
            present = [name for name in names if name in distributions_of(target)]
            if not present or threads is None or threads <= number:
                continue
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"{present[0]} starts {threads} threads where {number} {'task' if number == 1 else 'tasks'} may exist",
                Subject("limit", "tasks"),
                "The kernel refuses to start the others.",
                predicted_error=text.format(number=max(number, 1), threads=threads),
                evidence=[
                    at(target, "target", *path),
                    at(target, "target", "limits", "cpus"),
                    *held(target, "target", ("variables", "variables", variable)),
                    at(target, "target", *DISTRIBUTIONS, present[0], "version"),
                ],
                fix=[
                    Fix("variable", f"{variable}=1"),
                    Fix("docker-run", f"--pids-limit {max(1024, 4 * threads)}"),
                ],
            )
            return


# The variable that sets a pool, who starts it (OpenBLAS at import), and what is printed.
_POOLS = (
    (
        "OPENBLAS_NUM_THREADS",
        ("numpy", "scipy"),
        (
            "OpenBLAS blas_thread_init: pthread_create failed for thread {number} of {threads}: "
            "Resource temporarily unavailable"
        ),
    ),
    (
        "OMP_NUM_THREADS",
        ("torch", "scikit-learn", "xgboost", "lightgbm", "faiss-cpu", "ctranslate2"),
        "libgomp: Thread creation failed: Resource temporarily unavailable",
    ),
)


def _limit(target: Snapshot) -> tuple[int, tuple[str, ...]] | None:
    """The smaller limit that binds, and where it stands."""
    found: list[tuple[int, tuple[str, ...]]] = []
    pids = lookup(target, ("limits", "cgroup", "pids"))
    if pids is not None:
        found.append((pids, ("limits", "cgroup", "pids")))
    soft = (lookup(target, ("limits", "rlimits", "nproc")) or [None])[0]
    if soft is not None and _is_bound(target):
        found.append((soft, ("limits", "rlimits", "nproc")))
    return min(found, default=None)


def _is_bound(target: Snapshot) -> bool:
    """Whether RLIMIT_NPROC counts: not for root, and not with these capabilities (setrlimit(2))."""
    capabilities = lookup(target, ("limits", "capabilities")) or {}
    return bool(lookup(target, ("limits", "user", "uid"))) and not {"sys_admin", "sys_resource"} & capabilities.keys()
