"""Section ``limits``: what one start of the environment may use, and as whom.

Control groups, CPUs, ``/dev/shm``, resource limits, the account and its home, locale and time zone, seccomp
and capabilities, the container runtime. Sources: proc_pid_status(5), capabilities(7), getrlimit(2),
statvfs(3), access(2), tzfile(5), and those in ``cgroups.py``.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import math
import os
import re
import stat
import sys

from . import cgroups, common, system_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence

    from .cgroups import Mount
    from .common import Place

LAYER = "run"

# include/uapi/linux/capability.h, in the order of their numbers.
CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control",
    "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read",
    "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip

_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}

# Values of the flags that statvfs(3) returns; Python names them on Unix only.
_READ_ONLY = getattr(os, "ST_RDONLY", 1)
_NO_EXEC = getattr(os, "ST_NOEXEC", 8)


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: see ``schemas/sections/limits.json``.

    Raises Unavailable where files are read without running anything: there is no start to describe.
    """
    if not place.live:
        raise common.Unavailable("nothing was run, so there are no limits in force")
    mounts = cgroups.mounts_of(place)
    status = parse_status(place.read_text("/proc/self/status") or "")
    group = cgroups.measure(place, mounts)
    affinity, online = _affinity(), _online()
    uid, gid = _identity("geteuid"), _identity("getegid")
    judge = Judge(uid, _groups(gid), status["capabilities"])
    environ = place.environ
    home = environ.get("HOME" if os.name == "posix" else "USERPROFILE")
    entry = _passwd(uid)
    temporary = next((environ[name] for name in ("TMPDIR", "TEMP", "TMP") if environ.get(name)), None)
    return {
        "cgroup": group,
        "cpus": {"affinity": affinity, "online": online},
        "cpu_limit": cpu_limit(group["cpu_quota"], affinity, online),
        "shm": _shm(place, mounts),
        "rlimits": _rlimits(),
        "user": {"uid": uid, "gid": gid, "passwd_entry": None if uid is None else entry is not None},
        "home": folder(place, judge, home is not None, home or (entry or "")),
        "tmp": folder(place, judge, temporary is not None, temporary or "/tmp"),  # noqa: S108 (looked at only)
        "locale": _locale_in_force(),
        "timezone": _timezone(place),
        "seccomp": status["seccomp"],
        # Without a filter the kernel itself answers, and knows it since 5.3.
        "clone3": system_calls.clone3() if status["seccomp"] == "filter" else None,
        "no_new_privileges": status["no_new_privileges"],
        "capabilities": status["capabilities"],
        "runtime": runtime(place, mounts),
        "read_only_root": _flag(place, "/", _READ_ONLY),
    }


# --- CPUs


def cpu_limit(quota: "Optional[float]", affinity: "Optional[int]", online: "Optional[int]") -> "Dict[str, Any]":
    """``{cpus, decided_by}``: how many threads can run at once, and which limit decides that.

    A quota of 1.5 cores is 2 threads that wait now and then. ``decided_by`` is ``quota``, ``affinity`` (which
    a cpuset narrows too) or ``online``; both are None where nothing is known.
    """
    known = affinity or online
    if quota is not None and (known is None or math.ceil(quota) < known):
        return {"cpus": max(1, math.ceil(quota)), "decided_by": "quota"}
    if known is None:
        return {"cpus": None, "decided_by": None}
    narrowed = affinity is not None and online is not None and affinity < online
    return {"cpus": known, "decided_by": "affinity" if narrowed else "online"}


def _affinity() -> "Optional[int]":
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have none
        return None


def _online() -> "Optional[int]":
    # os.cpu_count() would be changed by PYTHON_CPU_COUNT (3.13).
    try:
        return os.sysconf("SC_NPROCESSORS_ONLN")
    except (AttributeError, ValueError, OSError):
        return os.cpu_count()


# --- memory and resources


def _shm(place: "Place", mounts: "Sequence[Mount]") -> "Dict[str, Any]":
    path = "/dev/shm"  # noqa: S108 (looked at only)
    facts = {"path": path, "size_bytes": None, "filesystem": None}  # type: Dict[str, Any]
    try:
        status = os.statvfs(place.real(path))
    except (AttributeError, OSError):
        return facts
    facts["size_bytes"] = status.f_blocks * status.f_frsize
    for mount in mounts:
        if mount.point == path:
            facts["filesystem"] = mount.kind
    return facts


def _rlimits() -> "Dict[str, List[Optional[int]]]":
    try:
        import resource
    except ImportError:  # Windows
        return {}
    limits = {}
    for name in dir(resource):
        if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE":  # another name of NOFILE
            try:
                pair = resource.getrlimit(getattr(resource, name))
            except (ValueError, OSError):
                continue
            limits[name[7:].lower()] = [None if value == resource.RLIM_INFINITY else value for value in pair]
    return limits


# --- the account and its folders


def _identity(call: "str") -> "Optional[int]":
    ask = getattr(os, call, None)  # Windows has no numbers
    return None if ask is None else int(ask())


def _groups(gid: "Optional[int]") -> "FrozenSet[int]":
    try:
        found = set(os.getgroups())
    except (AttributeError, OSError):
        found = set()
    return frozenset(found if gid is None else found | {gid})


def _passwd(uid: "Optional[int]") -> "Optional[str]":
    """The home directory in the account's passwd entry; None where the uid has no entry."""
    if uid is None:
        return None
    try:
        import pwd

        return pwd.getpwuid(uid).pw_dir
    except (ImportError, KeyError, OSError):
        return None


class Judge:
    """Says from modes whether an account may write somewhere, without trying.

    Trying would leave traces, and an image is measured with other capabilities than it is deployed with.
    Access control lists are not read: where there is one, the group's bits are its mask.
    """

    def __init__(
        self,
        uid: "Optional[int]",
        gids: "FrozenSet[int]",
        capabilities: "Optional[Mapping[str, bool]]" = None,
    ) -> "None":
        self._uid = uid
        self._gids = gids
        # CAP_DAC_OVERRIDE passes over the modes; root without it is bound by them like everyone.
        self._above = uid == 0 if capabilities is None else "dac_override" in capabilities

    def may(self, status: "os.stat_result", wanted: "int") -> "bool":
        """Whether all of ``wanted`` (4 read, 2 write, 1 search) is allowed; one class of bits decides."""
        if self._above:
            return True
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == self._uid:
            mode >>= 6
        elif status.st_gid in self._gids:
            mode >>= 3
        return mode & wanted == wanted

    def may_create_in(self, place: "Place", path: "str") -> "Optional[bool]":
        """Whether files can be made in the directory ``path``, or where it is missing, it with them.

        Every directory on the way must be searchable, the innermost that exists writable and not on a
        read-only mount. None where something on the way cannot be examined.
        """
        step = "/"
        last = None
        for part in [""] + [part for part in path.split("/") if part]:
            step = step.rstrip("/") + "/" + part
            try:
                status = os.stat(place.real(step))
            except FileNotFoundError:
                break
            except NotADirectoryError:
                return False
            except (OSError, ValueError):
                return None
            if not stat.S_ISDIR(status.st_mode) or not self.may(status, 1):
                return False
            last = (step, status)
        if last is None or not self.may(last[1], 3):
            return False
        return _flag(place, last[0], _READ_ONLY) is not True


def folder(place: "Place", judge: "Judge", given: "bool", path: "str") -> "Dict[str, Any]":
    """``{set, exists, writable, noexec}`` of a directory that programs write to; its name is not told.

    ``set``       a variable names it
    ``writable``  files can be made there, or if it is missing, it can be made
    ``noexec``    mounted so that no library in it can be loaded (what a compiler cache does)
    """
    if os.name != "posix":
        exists = bool(path) and os.path.isdir(path)
        return {"set": given, "exists": exists, "writable": None, "noexec": None}
    if not path.startswith("/"):
        return {"set": given, "exists": False, "writable": False, "noexec": None}
    exists = place.is_dir(path)
    return {
        "set": given,
        "exists": exists,
        "writable": judge.may_create_in(place, path),
        "noexec": _flag(place, path, _NO_EXEC) if exists else None,
    }


def _flag(place: "Place", path: "str", flag: "int") -> "Optional[bool]":
    try:
        return bool(os.statvfs(place.real(path)).f_flag & flag)
    except (AttributeError, OSError, ValueError):
        return None


# --- locale and time


def _locale_in_force() -> "Dict[str, Any]":
    # What Python itself set at its start; locale.getlocale() would only guess at it.
    import _locale

    current = None  # type: Optional[str]
    encoding = None  # type: Optional[str]
    try:
        current = _locale.setlocale(_locale.LC_CTYPE, None)
        if getattr(sys.flags, "utf8_mode", 0):
            encoding = "UTF-8"
        elif hasattr(_locale, "nl_langinfo"):
            encoding = _locale.nl_langinfo(_locale.CODESET)
        else:
            import locale

            encoding = locale.getpreferredencoding(False)
    except ValueError:
        pass
    return {
        "lc_ctype": current,
        "encoding": encoding,
        "filesystem_encoding": sys.getfilesystemencoding(),
        "utf8_mode": bool(getattr(sys.flags, "utf8_mode", 0)),
    }


def _timezone(place: "Place") -> "Dict[str, Any]":
    path = "/etc/localtime"
    target = None
    rule = None
    if os.name == "posix":
        try:
            target = os.readlink(os.path.join(place.root, path.lstrip("/")))
        except OSError:
            pass
        data = place.read_bytes(path, 1 << 20) if place.exists(path) else None
        rule = parse_zone_rule(data or b"")
    return {"tz": place.environ.get("TZ"), "localtime": target, "rule": rule}


def parse_zone_rule(data: "bytes") -> "Optional[str]":
    """The rule at the end of a zone file, such as ``CET-1CEST,M3.5.0,M10.5.0/3`` (RFC 8536, 3.3)."""
    if not data.startswith(b"TZif") or not data.endswith(b"\n"):
        return None
    rule = data[:-1].rpartition(b"\n")[2]
    return rule.decode("ascii", "replace") or None


# --- privileges


def parse_status(text: "str") -> "Dict[str, Any]":
    r"""``{seccomp, no_new_privileges, capabilities}`` of ``/proc/self/status``; None for lines it lacks.

    ``CapEff:\t00000000a80425fb`` are the effective capabilities, one bit each.
    """
    found = dict(re.findall(r"^(Seccomp|NoNewPrivs|CapEff):\s*(\S+)", text, re.MULTILINE))
    seccomp = found.get("Seccomp")
    privileges = found.get("NoNewPrivs")
    effective = found.get("CapEff")
    return {
        "seccomp": None if seccomp is None else _SECCOMP.get(seccomp, seccomp),
        "no_new_privileges": None if privileges is None else privileges == "1",
        "capabilities": None if effective is None else parse_capabilities(effective),
    }


def parse_capabilities(mask: "str") -> "Optional[Dict[str, bool]]":
    """``{name: true}`` for each bit; ``cap_41`` for one that is newer than the table."""
    try:
        bits = int(mask, 16)
    except ValueError:
        return None
    return {
        CAPABILITIES[bit] if bit < len(CAPABILITIES) else "cap_%d" % bit: True
        for bit in range(bits.bit_length())
        if bits >> bit & 1
    }


# --- the container runtime

# Groups and mounts that runtimes name after themselves, more specific first.
_GROUP_MARKS = (
    ("kubernetes", re.compile(r"/kubepods(?:[./-]|$)", re.MULTILINE)),
    ("podman", re.compile(r"/libpod-")),
    ("docker", re.compile(r"/docker[/-]")),
    ("containerd", re.compile(r"cri-containerd|/containerd/")),
    ("lxc", re.compile(r"/lxc(?:\.payload)?[./]")),
)
_MOUNT_MARKS = (
    ("kubernetes", re.compile(r"/kubelet/pods/")),
    ("podman", re.compile(r"/containers/(?:storage/)?overlay-containers/")),
    ("docker", re.compile(r"/docker/containers/")),
    ("containerd", re.compile(r"/io\.containerd\.")),
)


def runtime(place: "Place", mounts: "Sequence[Mount]") -> "Optional[Dict[str, str]]":
    """``{name, evidence}`` of what contains this process, or None. The order:

    1. Kubernetes sets ``KUBERNETES_SERVICE_HOST`` in every pod and mounts its service account.
    2. Podman makes ``/run/.containerenv`` (podman-run(1)); Docker makes ``/.dockerenv``; Apptainer and
       Singularity set a variable of their own.
    3. ``container=lxc`` in the variables of process 1, the name that systemd.io/CONTAINER_INTERFACE asks for,
       and ``/run/systemd/container``, where systemd keeps it for others to read.
    4. The control group: ``/docker/0123...``, ``/kubepods.slice/...``, ``/libpod-0123....scope``,
       ``/lxc/name``. In a namespace of its own it is only ``/``.
    5. Where ``/etc/hosts`` and the like were mounted from: ``/var/lib/docker/containers/0123.../hosts``,
       ``/var/lib/kubelet/pods/...``; on containerd the layers of the root.
    6. The kernel of WSL has ``microsoft`` in its name: ``5.15.153.1-microsoft-standard-WSL2``. A container
       inside WSL has it too, so this comes last.
    """
    environ = place.environ
    for name, variable in (
        ("kubernetes", "KUBERNETES_SERVICE_HOST"),
        ("apptainer", "APPTAINER_CONTAINER"),
        ("apptainer", "SINGULARITY_CONTAINER"),
    ):
        if variable in environ:
            return {"name": name, "evidence": "variable " + variable}
    for name, path in (
        ("kubernetes", "/var/run/secrets/kubernetes.io"),
        ("podman", "/run/.containerenv"),
        ("docker", "/.dockerenv"),
    ):
        if place.exists(path):
            return {"name": name, "evidence": path}
    name_given, evidence = environ.get("container"), "variable container"
    if not name_given and place.exists("/run/systemd/container"):
        evidence = "/run/systemd/container"
        name_given = (place.read_text(evidence, 64) or "").strip()
    for known in ("docker", "podman", "lxc", "wsl", "systemd-nspawn"):
        if name_given and name_given.split("-libvirt")[0] == known:
            return {"name": known, "evidence": evidence}
    group = place.read_text("/proc/self/cgroup", 1 << 16) or ""
    for name, mark in _GROUP_MARKS:
        if mark.search(group):
            return {"name": name, "evidence": "/proc/self/cgroup"}
    for name, mark in _MOUNT_MARKS:
        for mount in mounts:
            own = mount.point in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log")
            if own and mark.search(mount.root):
                return {"name": name, "evidence": "/proc/self/mountinfo"}
            if mount.point == "/" and any(mark.search(option) for option in mount.super_options):
                return {"name": name, "evidence": "/proc/self/mountinfo"}
    release = place.read_text("/proc/sys/kernel/osrelease", 1 << 10) or ""
    if "microsoft" in release.lower():
        return {"name": "wsl", "evidence": "/proc/sys/kernel/osrelease"}
    return None
