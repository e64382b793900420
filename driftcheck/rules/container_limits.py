"""Family BOX: what a container may use, and what carries it."""

from __future__ import annotations

from collections.abc import Iterator

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules.base import Contradiction, Drift, Sides, at, held, lookup
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot

MIB = 1 << 20

# What Docker, containerd and Kubernetes mount at /dev/shm unless told otherwise.
DEFAULT_SHM = 64 * MIB

# Servers that pass tensors between processes as soon as they use two, and frameworks that can.
_SHARES = ("vllm", "sglang", "ray", "deepspeed", "tensorrt-llm", "lmdeploy")
_MAY_SHARE = ("torch", "tensorflow", "paddlepaddle", "mxnet")


class BOX001(Contradiction):
    """Shared memory is as small as engines make it, and a framework here passes tensors through it.

    Compares: the size of /dev/shm with 64 MB, which is what Docker and Kubernetes mount unless told
    otherwise, and the installed distributions with those that share tensors between processes.

    Why: worker processes hand over tensors in files in /dev/shm. One batch of images fills 64 MB.

    See: `RuntimeError: unable to allocate shared memory(shm) for file </torch_1820_2431888074_1>: No space
    left on device (28)` (seen with torch 2.13). Where the space is not reserved before it is used:
    `RuntimeError: DataLoader worker (pid 46794) is killed by signal: Bus error. It is possible that
    dataloader's workers are out of shared memory. Please try to raise your shared memory limit.` Ray
    moves its object store to /tmp and warns.

    Decided: vllm, sglang or another server of this kind is installed: breaks, likely; possible where the
    snapshot is that of an image with the defaults of a plain run. Only torch or another framework that may
    share tensors: breaks, possible.

    Fix: give the container shared memory.

    Limits: whether workers are used, and how large their tensors are, is not known.
    """

    code = "BOX001"
    name = "small-shared-memory"
    reads = ("limits", "packages")
    references = (
        "https://docs.docker.com/reference/cli/docker/container/run/",
        "https://github.com/pytorch/pytorch/issues/5040",
        "https://docs.vllm.ai/en/latest/deployment/docker.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        size = lookup(target, ("limits", "shm", "size_bytes"))
        if size is None or size > DEFAULT_SHM:
            return
        installed = distributions_of(target)
        sharing = [name for name in _SHARES if name in installed]
        able = [name for name in _MAY_SHARE if name in installed]
        if not sharing and not able:
            return
        name = (sharing or able)[0]
        sure = bool(sharing) and target.header.get("run_defaults") is not True
        words = f"{size / MIB:.0f} MB" if size >= MIB else f"{size} bytes"
        evidence = [
            at(target, "target", "limits", "shm", "size_bytes"),
            at(target, "target", *DISTRIBUTIONS, name, "version"),
        ]
        there = lookup(baseline, ("limits", "shm", "size_bytes")) if baseline is not None else None
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY if sure else Confidence.POSSIBLE,
            f"Shared memory has {words}, and {installed[name]['name']} passes tensors between processes through it",
            Subject("limit", "shm"),
            f"{installed[name]['name']} shares tensors between its processes in /dev/shm, which has {words}."
            + (f" The baseline has {there / MIB:.0f} MB." if there is not None and there > size else ""),
            predicted_error="RuntimeError: unable to allocate shared memory(shm) for file </torch_...>: "
            "No space left on device (28)",
            evidence=evidence,
            fix=[
                Fix("docker-run", "--shm-size=8g"),
                Fix(
                    "advice",
                    "Or share the machine's: --ipc=host. In Kubernetes mount an emptyDir with medium: Memory at "
                    "/dev/shm.",
                ),
            ],
        )


class BOX002(Drift):
    """The target may use less memory or fewer CPUs than the baseline.

    Compares: the memory of both, which is the smaller of the control group's limit and the machine's, and
    the number of threads that can run at once in both.

    Why: a model that fits into the laptop's memory does not fit into a container's limit, and the kernel
    ends the process while it loads. Libraries see the machine's memory and not the limit, so nothing warns.

    See: `Killed`, and exit code 137; `docker inspect` says OOMKilled. Fewer CPUs: nothing but time.

    Decided: less memory than in the baseline, by a limit: breaks, possible. Half of the CPUs or fewer:
    slows, likely; somewhat fewer: slows, possible. What the machine itself has is no finding.

    Fix: raise the limit, or load weights in a form that is mapped rather than read (safetensors).

    Limits: how much the model needs is not known; family ART states the size of model files. Limits of
    groups that cannot be seen from inside are not known either.
    """

    code = "BOX002"
    name = "less-memory-or-cpus"
    reads = ("limits",)
    references = (
        "https://docs.docker.com/engine/containers/resource_constraints/",
        "https://docs.kernel.org/admin-guide/cgroup-v2.html",
    )

    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        limit = lookup(target, ("limits", "cgroup", "memory_bytes"))
        had = memory(baseline)
        if limit is not None and had is not None and limit < had:
            path = ("limits", "cgroup", "memory_bytes")
            yield self.finding(
                Impact.BREAKS,
                Confidence.POSSIBLE,
                f"Memory is limited to {_gigabytes(limit)} where the baseline has {_gigabytes(had)}",
                Subject("limit", "memory"),
                "What needs more is ended by the kernel, without an error of its own.",
                predicted_error="Killed",
                evidence=[
                    at(target, "target", *path),
                    *held(baseline, "baseline", path, ("machine", "memory_bytes")),
                ],
                fix=[Fix("docker-run", f"--memory={-(-had // (1 << 30))}g")],
            )
        here, there = (lookup(snapshot, ("limits", "cpu_limit", "cpus")) for snapshot in (target, baseline))
        decided = lookup(target, ("limits", "cpu_limit", "decided_by"))
        if here is None or there is None or here >= there or decided == "online":
            return
        yield self.finding(
            Impact.SLOWS,
            Confidence.LIKELY if 2 * here <= there else Confidence.POSSIBLE,
            f"{here} {'CPU' if here == 1 else 'CPUs'} instead of {there}",
            Subject("limit", "cpus"),
            f"The {decided or 'limit'} of the target lets {here} threads run at once, the baseline {there}.",
            evidence=[
                at(baseline, "baseline", "limits", "cpu_limit", "cpus"),
                at(target, "target", "limits", "cpu_limit", "cpus"),
            ],
            fix=[Fix("docker-run", f"--cpus={there}")],
        )

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        del sides
        if finding.subject.name == "memory":
            return change.path == ("limits", "cgroup", "memory_bytes")
        return change.path[:2] in {("limits", "cpu_limit"), ("limits", "cpus")} or change.path in {
            ("limits", "cgroup", "cpu_quota"),
            ("limits", "cgroup", "cpuset"),
        }


def memory(snapshot: Snapshot) -> int | None:
    """What a process may use at most, in bytes: the control group's limit or the machine's memory."""
    known = [
        value
        for path in (("limits", "cgroup", "memory_bytes"), ("machine", "memory_bytes"))
        if (value := lookup(snapshot, path)) is not None
    ]
    return min(known) if known else None


def _gigabytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GB"


class BOX005(Contradiction):
    """The engine's filter of system calls is too old for the C library: no thread can be started.

    Compares: what the seccomp filter answers to clone3 with the version of the C library.

    Why: glibc 2.34 and newer starts threads with clone3 and falls back to clone only where the answer is
    ENOSYS. Engines before Docker 20.10.10 (and libseccomp before 2.4.4) answer EPERM, as to everything that they do
    not know. So an image that works on a laptop cannot start a thread on an old node.

    See: `RuntimeError: can't start new thread`; from OpenBLAS when NumPy is imported: `OpenBLAS
    blas_thread_init: pthread_create failed for thread 1 of 2: Operation not permitted`.

    Decided: breaks, certain, where the filter answers EPERM and glibc is 2.34 or newer.

    Fix: a newer engine, or no filter.

    Limits: judged only where the environment was measured alive on the node in question; an image alone
    does not show it.
    """

    code = "BOX005"
    name = "old-seccomp-new-glibc"
    reads = ("limits",)
    references = (
        "https://github.com/moby/moby/issues/42680",
        "https://github.com/moby/moby/pull/42681",
        "https://man7.org/linux/man-pages/man2/clone.2.html",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        if lookup(target, ("limits", "clone3")) != "EPERM":
            return
        where = next(
            (
                path
                for path in (("python", "platform", "libc_version"), ("system", "libc", "version"))
                if req.parsed(lookup(target, path)) is not None
            ),
            None,
        )
        version = req.parsed(lookup(target, where)) if where is not None else None
        if where is None or version is None or version.release < (2, 34):
            return
        if lookup(target, ("python", "platform", "libc")) == "musl":
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN,
            "No thread can be started: the engine's seccomp filter refuses clone3",
            Subject("limit", "seccomp"),
            f"glibc {version} starts threads with clone3, and this filter answers EPERM instead of ENOSYS.",
            predicted_error="RuntimeError: can't start new thread",
            evidence=[at(target, "target", "limits", "clone3"), at(target, "target", *where)],
            fix=[
                Fix("advice", "Upgrade the engine on this node to Docker 20.10.10 or newer, with libseccomp 2.4.4."),
                Fix("docker-run", "--security-opt seccomp=unconfined"),
            ],
        )


class BOX009(Contradiction):
    """The processor is emulated: the image is for another architecture than the machine.

    Compares: the traces of qemu, Rosetta and other translators that section machine found.

    Why: an image for amd64 on an ARM laptop or node runs through a translator, which is many times slower
    and does not know every instruction. AVX is missing under qemu before 7.2 and under older Rosetta.

    See: `qemu: uncaught target signal 4 (Illegal instruction) - core dumped`, or only slowness.

    Decided: slows, likely. What lacks an instruction is family CPU's.

    Fix: build the image for the machine's own architecture.

    Limits: a translator that hides itself is not seen.
    """

    code = "BOX009"
    name = "emulated-architecture"
    reads = ("machine",)
    references = (
        "https://docs.docker.com/build/building/multi-platform/",
        "https://github.com/docker/roadmap/issues/384",
        "https://github.com/tensorflow/tensorflow/issues/52972",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        emulation = lookup(target, ("machine", "emulation"))
        if emulation is None:
            return
        architecture = lookup(target, ("machine", "architecture")) or "this architecture"
        yield self.finding(
            Impact.SLOWS,
            Confidence.LIKELY,
            f"{architecture} is emulated ({emulation})",
            Subject("machine", "emulation"),
            f"The machine is of another architecture, and {emulation} translates every instruction.",
            evidence=held(target, "target", ("machine", "emulation"), ("machine", "architecture")),
            fix=[
                Fix(
                    "advice",
                    "Build the image for the machine: docker buildx build --platform linux/arm64 or linux/amd64",
                ),
            ],
        )
