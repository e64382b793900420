"""Family BOX: what a container takes away, and what its start comes down to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import requirements as req
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, Drift, Sides, at, lookup
from driftcheck.snapshot import Snapshot

MIB = 1 << 20

# What Docker, containerd and Kubernetes mount at /dev/shm unless told otherwise.
DEFAULT_SHM = 64 * MIB

# Servers that pass tensors between processes as soon as they use two, and frameworks that can.
_SHARES = ("vllm", "sglang", "ray", "deepspeed", "tensorrt-llm", "lmdeploy")
_MAY_SHARE = ("torch", "tensorflow", "paddlepaddle", "mxnet")

# Package managers' names for what brings a thing: {thing: {manager: command}}.
_INSTALL = {
    "ca-certificates": {
        "dpkg": "apt-get install -y --no-install-recommends ca-certificates",
        "apk": "apk add ca-certificates",
        "rpm": "dnf install -y ca-certificates",
    },
    "tzdata": {
        "dpkg": "apt-get install -y --no-install-recommends tzdata",
        "apk": "apk add tzdata",
        "rpm": "dnf install -y tzdata",
    },
}


def _install(target: Snapshot, thing: str) -> list[Fix]:
    manager = lookup(target, ("system", "packages", "manager"))
    command = _INSTALL[thing].get(manager or "")
    if command is None:
        return [Fix("advice", f"Install the system package {thing}.")]
    return [Fix("apt" if manager == "dpkg" else "advice", command)]


def _is_linux(target: Snapshot) -> bool:
    system = lookup(target, ("python", "platform", "system"))
    return system is None or system == "linux"


def _version(target: Snapshot, name: str) -> tuple[int, ...] | None:
    """The release of an installed distribution; None where it is not there or has no version."""
    record = wheels.installed(target).get(name)
    version = req.parsed(req.version_of(record)) if record else None
    return version.release if version is not None else None


def _python(target: Snapshot) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", lookup(target, ("python", "version")) or "")
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


def _set_by_image(target: Snapshot, names: Sequence[str]) -> bool | None:
    """Whether the image sets one of these variables; None where no image says what it sets."""
    given = lookup(target, ("service", "environment"))
    return None if given is None else any(name in given for name in names)


def _value(snapshot: Snapshot, name: str) -> str | None:
    """The value of a variable; None where it is not set, empty or hidden."""
    record: Any = lookup(snapshot, ("variables", "variables", name)) or {}
    return record.get("value") or None


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
        installed = wheels.installed(target)
        sharing = [name for name in _SHARES if name in installed]
        able = [name for name in _MAY_SHARE if name in installed]
        if not sharing and not able:
            return
        name = (sharing or able)[0]
        sure = bool(sharing) and target.header.get("run_defaults") is not True
        words = f"{size / MIB:.0f} MB" if size >= MIB else f"{size} bytes"
        evidence = [
            at(target, "target", "limits", "shm", "size_bytes"),
            at(target, "target", *wheels.DISTRIBUTIONS, name, "version"),
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
                Fix("docker-run", "--ipc=host"),
                Fix("advice", "In Kubernetes mount an emptyDir with medium: Memory at /dev/shm."),
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
                    *wheels.present(baseline, "baseline", path, ("machine", "memory_bytes")),
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


class BOX003(Contradiction):
    """The process runs under a number that has no name, and something here asks for the user's name.

    Compares: the effective uid with the account database, the variables that the image sets with LOGNAME,
    USER, LNAME and USERNAME, and the version of torch with the first one that copes (2.13).

    Why: `docker run --user 12345` and OpenShift start a container under a number that /etc/passwd does not
    list. getpass.getuser() then has no answer. torch's compiler asks for it to name the folder of its cache.

    See: `KeyError: 'getpwuid(): uid not found: 12345'`; since Python 3.13 `OSError: No username set in the
    environment`.

    Decided: torch 2.0 to 2.12 is installed: breaks, likely, where an image states its variables and sets
    none of the four and no TORCHINDUCTOR_CACHE_DIR; possible where no image states them. Otherwise a note.

    Fix: set USER, or add the uid to /etc/passwd.

    Limits: what an entry-point script exports is not seen. Only torch's use of the name is known.
    """

    code = "BOX003"
    name = "user-without-a-name"
    reads = ("limits",)
    references = (
        "https://docs.python.org/3/library/getpass.html#getpass.getuser",
        "https://github.com/pytorch/pytorch/issues/140765",
        "https://github.com/pytorch/pytorch/pull/184208",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        uid = lookup(target, ("limits", "user", "uid"))
        if uid is None or lookup(target, ("limits", "user", "passwd_entry")) is not False:
            return
        named = _set_by_image(target, ("LOGNAME", "USER", "LNAME", "USERNAME"))
        if named:
            return
        release = _version(target, "torch")
        asks = release is not None and (2, 0) <= release[:2] < (2, 13)
        asks = asks and lookup(target, ("variables", "variables", "TORCHINDUCTOR_CACHE_DIR")) is None
        evidence = [at(target, "target", "limits", "user")]
        if asks:
            evidence.append(at(target, "target", *wheels.DISTRIBUTIONS, "torch", "version"))
        error = f"KeyError: 'getpwuid(): uid not found: {uid}'"
        if _python(target) >= (3, 13):
            error = "OSError: No username set in the environment"
        impact, confidence = Impact.NOTE, Confidence.CERTAIN
        if asks:
            impact, confidence = Impact.BREAKS, Confidence.POSSIBLE if named is None else Confidence.LIKELY
        yield self.finding(
            impact,
            confidence,
            f"uid {uid} has no name" + (", and torch's compiler asks for it" if asks else ""),
            Subject("user", "uid"),
            "No account has this number, so getpass.getuser() fails where no variable names the user."
            + (" This torch asks for it when it compiles." if asks else ""),
            predicted_error=error if asks else None,
            evidence=evidence,
            fix=[
                Fix("docker-run", "-e USER=app"),
                Fix("dockerfile", f"RUN useradd --uid {uid} --create-home app"),
            ],
        )


class BOX004(Contradiction):
    """Nothing can be written to the home directory, where caches are put.

    Compares: whether modes, uid and mount let HOME be written, and which distributions here keep a cache
    below it, with the variables that move these caches.

    Why: model hubs store what they download below ~/.cache. Under another uid than that of the image, with
    HOME=/ (what engines set for a uid without a name) or on a read-only root, the first write fails.

    See: `PermissionError: [Errno 13] Permission denied: '/.cache'`, or on a read-only root `OSError: [Errno
    30] Read-only file system: '/root/.cache'`.

    Decided: a distribution with such a cache is installed and the variable that moves it is not set:
    breaks, possible, since models may lie in the image and nothing be downloaded. Otherwise a note.

    Fix: point the cache at a volume that can be written.

    Limits: access control lists are not read. What code sets, and XDG_CACHE_HOME, are not seen. torch's
    compiler caches are below /tmp.
    """

    code = "BOX004"
    name = "home-not-writable"
    reads = ("limits",)
    references = (
        "https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables",
        "https://pytorch.org/docs/stable/hub.html#where-are-my-downloaded-models-saved",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        home = lookup(target, ("limits", "home")) or {}
        if home.get("writable") is not False:
            return
        installed = wheels.installed(target)
        moved = lookup(target, ("variables", "variables")) or {}
        caches = {
            name: variables[0]
            for name, variables in _CACHES.items()
            if name in installed and not any(variable in moved for variable in variables)
        }
        if caches and _set_by_image(target, ("XDG_CACHE_HOME",)):
            return
        names = list(caches)
        evidence = [at(target, "target", "limits", "home")]
        evidence += [at(target, "target", *wheels.DISTRIBUTIONS, name, "version") for name in names]
        yield self.finding(
            Impact.BREAKS if names else Impact.NOTE,
            Confidence.POSSIBLE if names else Confidence.CERTAIN,
            "The home directory cannot be written"
            + (f", and {wheels.listed(names)} keeps a cache there" * bool(names)),
            Subject("folder", "home"),
            "Modes, uid and mount do not let files be made below HOME."
            + (" What is not in the cache yet cannot be stored there." if names else ""),
            predicted_error=_write_error(target, home) if names else None,
            evidence=evidence,
            fix=[Fix("docker-run", f"-e {variable}=/tmp/cache") for variable in dict.fromkeys(caches.values())],
        )


# Distributions with a cache below HOME, and the variables that move it, the first one to be set.
_CACHES = {
    "huggingface-hub": ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
    "torchvision": ("TORCH_HOME",),
    "timm": ("TORCH_HOME", "HF_HOME"),
    "nltk": ("NLTK_DATA",),
    "openai-whisper": ("XDG_CACHE_HOME",),
    "easyocr": ("EASYOCR_MODULE_PATH",),
}


def _write_error(target: Snapshot, home: Mapping[str, Any]) -> str | None:
    """What the first write says; the folder that it names is the first one that has to be made."""
    folder = _value(target, "HOME")
    if folder is None:
        return None
    path = folder.rstrip("/") + "/.cache" if home.get("exists") else folder
    if lookup(target, ("limits", "read_only_root")):
        return f"OSError: [Errno 30] Read-only file system: '{path}'"
    return f"PermissionError: [Errno 13] Permission denied: '{path}'"


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


class BOX006(Contradiction):
    """There are no CA certificates, so no server can be verified.

    Compares: the system's CA bundle, and the variables SSL_CERT_FILE and SSL_CERT_DIR.

    Why: Debian's minimal root and distroless images hold none. What uses Python's own ssl module
    (urllib: torch.hub, nltk, many download helpers), curl and git then trust nobody.

    See: `ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable
    to get local issuer certificate (_ssl.c:1000)`.

    Decided: no bundle and no variable that names another one: breaks, possible, because a service may
    never speak to a server. Not judged for a Python of conda, which has its own bundle.

    Fix: install ca-certificates.

    Limits: requests, httpx and huggingface-hub bring a bundle (certifi) and do not need this one. A company's own
    authority is not looked for.
    """

    code = "BOX006"
    name = "no-ca-bundle"
    reads = ("system",)
    references = (
        "https://docs.python.org/3/library/ssl.html#ssl.SSLContext.load_default_certs",
        "https://packages.debian.org/stable/ca-certificates",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = target.facts("system") or {}
        bundle = facts.get("ca_bundle")
        if "ca_bundle" not in facts or (bundle is not None and bundle["certificates"]) or not _is_linux(target):
            return
        if lookup(target, ("python", "environment", "kind")) == "conda":
            return
        variables = lookup(target, ("variables", "variables")) or {}
        if "SSL_CERT_FILE" in variables or "SSL_CERT_DIR" in variables:
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            "There are no CA certificates",
            Subject("system", "ca-bundle"),
            "What verifies servers with the system's certificates (urllib, torch.hub, curl, git) trusts nobody here.",
            predicted_error="ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
            "unable to get local issuer certificate",
            evidence=[at(target, "target", "system", "ca_bundle")],
            fix=_install(target, "ca-certificates"),
        )


class BOX007(Contradiction):
    """Text is read as ASCII, or the locale that is asked for is not installed.

    Compares: the encoding that the interpreter started with; the locale that LC_ALL, LC_CTYPE or LANG name
    with those that the system has.

    Why: images rarely hold locales. A locale that is not there is replaced by C. Python 3.7 and newer then
    read UTF-8 all the same; Python 3.6, and any with PYTHONUTF8=0, read ASCII, and the first vocabulary
    file with an accent ends the start.

    See: `UnicodeDecodeError: 'ascii' codec can't decode byte 0xc3 in position 3: ordinal not in
    range(128)`; from code that sets the locale itself: `locale.Error: unsupported locale setting`.

    Decided: the interpreter started with ASCII: breaks, likely. Only the locale is missing: a note.

    Fix: set LANG=C.UTF-8, which every current base image has.

    Limits: what code opens with an encoding of its own does not fail. musl takes any name for a locale.
    """

    code = "BOX007"
    name = "no-locale"
    reads = ("limits",)
    references = (
        "https://peps.python.org/pep-0538/",
        "https://peps.python.org/pep-0540/",
        "https://docs.python.org/3/library/locale.html#locale.setlocale",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        locale = lookup(target, ("limits", "locale")) or {}
        fix = [Fix("dockerfile", "ENV LANG=C.UTF-8"), Fix("docker-run", "-e LANG=C.UTF-8")]
        encoding = (locale.get("encoding") or "").lower()
        if encoding in _ASCII and not locale.get("utf8_mode"):
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                "Text files are read as ASCII",
                Subject("locale", "encoding"),
                "The first file or line of output that is not plain English ends in an error.",
                predicted_error="UnicodeDecodeError: 'ascii' codec can't decode byte 0xc3 in position 3: "
                "ordinal not in range(128)",
                evidence=[at(target, "target", "limits", "locale")],
                fix=fix,
            )
            return
        name = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if _value(target, name)), None)
        known = lookup(target, ("system", "locales"))
        glibc = lookup(target, ("system", "libc", "family")) == "glibc"
        asked = _value(target, name) if name is not None else None
        if name is None or asked is None or known is None or not glibc or _normal(asked) in {"c", "posix"}:
            return
        if _normal(asked) in {_normal(entry) for entry in known}:
            return
        yield self.finding(
            Impact.NOTE,
            Confidence.CERTAIN,
            f"{name} asks for the locale {asked}, which is not installed",
            Subject("locale", name),
            "C is taken instead. Code that sets the locale itself fails.",
            predicted_error="locale.Error: unsupported locale setting",
            evidence=[
                at(target, "target", "variables", "variables", name, "value"),
                at(target, "target", "system", "locales"),
            ],
            fix=fix,
        )


_ASCII = frozenset({"ascii", "us-ascii", "ansi_x3.4-1968", "646", "iso646-us"})


def _normal(name: str) -> str:
    """As glibc compares names of locales: the encoding in small letters, without hyphens."""
    stem, dot, encoding = name.partition(".")
    return (stem.lower() if stem in {"C", "POSIX"} else stem) + dot + re.sub(r"[-_]", "", encoding).lower()


class BOX008(Contradiction):
    """There is no time-zone database.

    Compares: the system's database and the distribution tzdata with the variable TZ.

    Why: minimal images leave it out. zoneinfo then knows no zone but UTC, and the C library takes a TZ that
    it cannot look up for UTC without a word.

    See: `zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Berlin'`; with TZ set,
    local times that are hours off.

    Decided: TZ names a zone and the system has no database: changes-results, likely. Otherwise, where the
    distribution tzdata is not installed either: breaks, possible. Python 3.8 and older have no zoneinfo.

    Fix: install tzdata, the system's package or the distribution (the C library needs the former).

    Limits: whether a zone is ever asked for is not known. pytz and dateutil bring their own.
    """

    code = "BOX008"
    name = "no-time-zone-data"
    reads = ("system", "python")
    references = (
        "https://docs.python.org/3/library/zoneinfo.html#data-sources",
        "https://peps.python.org/pep-0615/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        facts = target.facts("system") or {}
        if facts.get("tzdata", "unknown") is not None or not _is_linux(target):
            return
        zone = lookup(target, ("limits", "timezone", "tz"))
        evidence = [at(target, "target", "system", "tzdata")]
        if zone and re.fullmatch(r":?[A-Z][A-Za-z_]+(?:/[A-Za-z_+-]+)+", zone):
            yield self.finding(
                Impact.CHANGES_RESULTS,
                Confidence.LIKELY,
                f"TZ={zone} is taken for UTC: there is no time-zone database",
                Subject("system", "TZ"),
                "The C library cannot look the zone up and uses UTC without a word.",
                evidence=[*evidence, at(target, "target", "limits", "timezone", "tz")],
                fix=_install(target, "tzdata"),
            )
        elsewhere = "tzdata" in wheels.installed(target) or _value(target, "PYTHONTZPATH")
        if elsewhere or target.facts("packages") is None or _python(target) < (3, 9):
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.POSSIBLE,
            "There is no time-zone database",
            Subject("system", "tzdata"),
            "zoneinfo finds no zone but UTC here, neither in the system nor in the distribution tzdata.",
            predicted_error="zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Europe/Berlin'",
            evidence=[*evidence, at(target, "target", "python", "version")],
            fix=[Fix("pip", "python -m pip install tzdata"), *_install(target, "tzdata")],
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
            evidence=wheels.present(target, "target", ("machine", "emulation"), ("machine", "architecture")),
            fix=[
                Fix(
                    "advice",
                    "Build the image for the machine: docker buildx build --platform linux/arm64 or linux/amd64",
                ),
            ],
        )


class BOX010(Contradiction):
    """The service starts another interpreter than the one that its packages are in.

    Compares: the interpreter that the start command comes down to with the one whose packages were
    measured, and with the other environments of the image.

    Why: a virtual environment that is never activated, an absolute path to the system's Python in a start
    script, or a PATH that a login shell resets: the packages are installed, and the service does not see
    them.

    See: `ModuleNotFoundError: No module named 'torch'`.

    Decided: the interpreter that starts has no distributions but installers, and the image holds another
    environment: breaks, likely. The packages of another interpreter were measured (--python): breaks,
    possible.

    Fix: start the environment's own interpreter, or put its bin directory first on PATH.

    Limits: a start script that changes PATH in a way that only a run can tell is not followed. What the
    other environments hold is not read.
    """

    code = "BOX010"
    name = "packages-of-another-interpreter"
    reads = ("service", "packages")
    references = (
        "https://docs.python.org/3/library/venv.html#how-venvs-work",
        "https://docs.docker.com/reference/dockerfile/#entrypoint",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        started = lookup(target, ("service", "start", "interpreter"))
        measured = lookup(target, ("service", "packages_interpreter"))
        if started is None:
            return
        installed = wheels.installed(target)
        evidence = [at(target, "target", "service", "start", "interpreter")]
        if measured is not None and not _same_environment(started, measured):
            if installed.keys() <= _INSTALLERS:
                return
            yield self.finding(
                Impact.BREAKS,
                Confidence.POSSIBLE,
                f"The service starts {started}, and {measured} has the packages",
                Subject("service", "interpreter"),
                f"{measured} was measured, with {len(installed)} distributions; the start command runs {started}.",
                evidence=[*evidence, at(target, "target", "service", "packages_interpreter")],
                fix=[_path_fix(measured)],
            )
            return
        others = target.header.get("other_interpreters") or {}
        environments = [path for path in sorted(others) if not _same_environment(path, started)]
        bare = installed.keys() <= _INSTALLERS and "distributions" in (target.facts("packages") or {})
        if not bare or not environments or not lookup(target, ("service", "start", "script")):
            return
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"The service starts {started}, which has no packages",
            Subject("service", "interpreter"),
            f"{started} has no distributions beside installers. Other interpreters: {wheels.listed(environments)}.",
            evidence=[*evidence, at(target, "target", *wheels.DISTRIBUTIONS)],
            fix=[_path_fix(environments[0])],
        )


_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv", "distribute", "packaging", "distro-info", "pipx"})


def _same_environment(one: str, other: str) -> bool:
    """Whether two paths are interpreters of one environment: one directory of programs, and no two versions."""
    folders = {re.sub(r"^/bin$", "/usr/bin", path.rpartition("/")[0]) for path in (one, other)}
    if len(folders) > 1:
        return False
    versions = {found.group() for path in (one, other) if (found := re.search(r"\d+\.\d+t?$", path))}
    return len(versions) < 2


def _path_fix(interpreter: str) -> Fix:
    folder = interpreter.rpartition("/")[0]
    return Fix("dockerfile", f'ENV PATH="{folder}:$PATH"')


class BOX011(Contradiction):
    r"""The start command cannot start.

    Compares: ENTRYPOINT and CMD, followed through PATH, first lines of scripts, shells and wrapper programs,
    with the files that are there and their modes.

    Why: a script that was copied without its executable bit or from a Windows checkout, a program that is
    not installed, a first line that names an interpreter of another image: the container ends before
    Python runs. The message rarely says which file is meant.

    See: `exec: "gunicorn": executable file not found in $PATH`, `exec /app/start.sh: no such file or
    directory` (the script is there; what its first line names is not, or ends in a carriage return), `exec
    /app/start.sh: exec format error`, `/usr/bin/env: 'python3\r': No such file or directory`,
    `python3: can't open file '/app/app.py': [Errno 2] No such file or directory`.

    Decided: breaks, certain, where everything on the way is a file and the text is that of the program that
    prints it (checked against runc, dash, bash, coreutils and CPython); likely where a script does something
    before that only a run can tell, or the wording is not known.

    Fix: what the reason asks for: the executable bit, line endings, a first line, the missing program.

    Limits: what a volume brings is not there. Modes are judged for the file, not for the user who runs it.
    A shell script is read and not run, so conditions in it are not decided.
    """

    code = "BOX011"
    name = "start-command-cannot-start"
    reads = ("service",)
    references = (
        "https://docs.docker.com/reference/dockerfile/#entrypoint",
        "https://man7.org/linux/man-pages/man2/execve.2.html",
        "https://git-scm.com/docs/gitattributes#_text",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        start = lookup(target, ("service", "start"))
        if not start or not start["problem"]:
            return
        there = lookup(baseline, ("service", "start", "problem")) if baseline is not None else None
        evidence = [at(target, "target", "service", "start", "problem")]
        evidence += wheels.present(target, "target", ("service", "entrypoint"), ("service", "command"))
        if baseline is not None and there is None:
            evidence += wheels.present(baseline, "baseline", ("service", "start", "interpreter"))
        steps = "; ".join(start["chain"])
        reason = start["reason"]
        if start["interpreter"] is not None:
            reason = f"{start['interpreter']} runs, and does not find what it should run"
        yield self.finding(
            Impact.BREAKS,
            Confidence.CERTAIN if start["exact"] else Confidence.LIKELY,
            f"The service cannot start: {reason}",
            Subject("service", "start"),
            "The container ends before the service runs." + (f" The way there: {steps}." if steps else ""),
            predicted_error=start["problem"],
            evidence=evidence,
            fix=_start_fix(start),
        )


def _start_fix(start: Mapping[str, Any]) -> list[Fix]:
    """What mends a start, by the reason that ``start_command`` gives."""
    reason, problem = start["reason"], start["problem"]
    file = reason.split(" ", 1)[0]
    if "Windows line endings" in reason or "\\r" in problem:
        script = file if file.startswith("/") else next((step.split(" ")[0] for step in start["chain"]), "FILE")
        return [
            Fix("dockerfile", f"RUN sed -i 's/\\r$//' {script}"),
            Fix("advice", "Keep it so in git: a .gitattributes with the line: *.sh text eol=lf"),
        ]
    if reason.endswith("is not executable"):
        return [Fix("dockerfile", f"RUN chmod +x {file}"), Fix("advice", "Or copy it with COPY --chmod=755.")]
    if "no first line" in reason:
        return [
            Fix("advice", f"Begin {file} with a line such as #!/bin/sh, without a blank or a byte order mark before.")
        ]
    if "another machine" in reason:
        return [Fix("advice", "Build the image for this architecture: docker buildx build --platform linux/amd64")]
    if "another C library" in reason:
        return [Fix("advice", f"Install {file} for the C library of this image, or change the base image.")]
    if start["interpreter"] is not None and start["module"] is not None:
        return [Fix("pip", f"{start['interpreter']} -m pip install {start['module']}")]
    if start["interpreter"] is not None:
        return [Fix("advice", "Copy the script into the image, or state the WORKDIR that its name is meant for.")]
    return [Fix("advice", f"Install or copy what is missing, or correct its name: {reason}.")]
