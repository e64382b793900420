"""What control groups allow this process: the smallest limit along the hierarchy, as far as it can be seen.

Sources: cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5); the kernel's
``Documentation/admin-guide/cgroup-v2.rst`` (cpu.max, memory.max, pids.max, cpuset.cpus.effective) and
``Documentation/admin-guide/cgroup-v1/memory.rst``, ``Documentation/scheduler/sched-bwc.rst``
(cpu.cfs_quota_us, cpu.cfs_period_us). A cgroup namespace or a container hides the groups above its mount:
their limits bind too and cannot be seen.
"""

import posixpath
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple, Union

    from .common import Place

    Facts = Dict[str, Union[int, float, None]]

# memory.limit_in_bytes of a group without a limit is LONG_MAX rounded down to a page: 9223372036854771712
# with pages of 4 KiB, 9223372036854710272 with 64 KiB. No machine has half of that.
_NO_LIMIT = 1 << 62

# Group files hold one line; the mounts of a busy node may fill a megabyte.
_FILE_LIMIT = 1 << 16
_MOUNTS_LIMIT = 16 << 20


class Mount:
    """One line of ``/proc/self/mountinfo``."""

    def __init__(
        self, root: "str", point: "str", options: "List[str]", kind: "str", super_options: "List[str]"
    ) -> "None":
        self.root = root
        self.point = point
        self.options = options
        self.kind = kind
        self.super_options = super_options


def parse_mounts(text: "str") -> "List[Mount]":
    r"""The mounts of mountinfo in their order (a later one at the same point hides the earlier).

    A line is ``36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue``; blanks in
    names are written as ``\040``. Lines of another form are left out.
    """
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(" "), right.split(" ")
        if dash and len(fields) >= 6 and len(rest) >= 3:
            mounts.append(
                Mount(
                    _unescape(fields[3]),
                    _unescape(fields[4]),
                    fields[5].split(","),
                    rest[0],
                    rest[2].split(","),
                )
            )
    return mounts


def _unescape(name: "str") -> "str":
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), name)


def mounts_of(place: "Place") -> "List[Mount]":
    return parse_mounts(place.read_text("/proc/self/mountinfo", _MOUNTS_LIMIT) or "")


def parse_membership(text: "str") -> "Tuple[Optional[str], Dict[str, str]]":
    """``/proc/self/cgroup``: the group in the unified hierarchy (None without one), and by v1 controller.

    Lines are ``0::/user.slice/session-1.scope`` and ``4:cpu,cpuacct:/docker/0123...``.
    """
    unified = None
    controllers = {}
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        number, names, path = parts
        if number == "0" and not names:
            unified = path
        else:
            for name in names.split(","):
                controllers[name] = path
    return unified, controllers


def groups(mount: "Mount", path: "str") -> "List[str]":
    """Directories of the group ``path`` and of those above it up to the mount, the innermost first.

    A mount shows the hierarchy from its ``root`` down. Where the path is not below that (the mount was made
    in another cgroup namespace: its root then reads ``/..``), only the mount itself is known to be above us.
    """
    if mount.root == "/":
        inner = path.strip("/")
    elif path == mount.root or path.startswith(mount.root.rstrip("/") + "/"):
        inner = path[len(mount.root) :].strip("/")
    else:
        inner = ""
    parts = [part for part in inner.split("/") if part]
    if ".." in parts:
        parts = []
    return [posixpath.join(mount.point, *parts[:count]) for count in range(len(parts), -1, -1)]


def parse_amount(text: "Optional[str]") -> "Optional[int]":
    """``max`` and -1 (no limit), and what is no number, are None; so is v1's huge number for no limit."""
    try:
        value = int((text or "").strip())
    except ValueError:
        return None
    return value if 0 <= value < _NO_LIMIT else None


def parse_cpu_max(text: "Optional[str]") -> "Optional[float]":
    """Cores that ``cpu.max`` allows: ``50000 100000`` is 0.5, ``max 100000`` is None."""
    fields = (text or "").split()
    return cores(fields[0], fields[1]) if len(fields) == 2 else None


def cores(quota: "Optional[str]", period: "Optional[str]") -> "Optional[float]":
    """Microseconds of CPU time in each period of so many microseconds, as a number of cores."""
    allowed, length = parse_amount(quota), parse_amount(period)
    if not allowed or not length:
        return None
    return round(allowed / length, 4)


def parse_cpu_list(text: "Optional[str]") -> "Optional[int]":
    """How many CPUs a list such as ``0-3,8,10-11`` names; None for an empty or unreadable one (cpuset(7))."""
    count = 0
    try:
        for part in (text or "").strip().split(","):
            first, _, last = part.partition("-")
            count += int(last or first) - int(first) + 1
    except ValueError:
        return None
    return count


def measure(place: "Place", mounts: "List[Mount]") -> "Facts":
    """``{version, cpu_quota, cpuset, memory_bytes, pids}``; None is no limit that can be seen.

    ``version`` is 2 where the unified hierarchy has the controllers, 1 where they are mounted one by one
    (systemd's "hybrid" layout too), None without control groups. A controller that should be there and is not
    mounted is a problem: its limit is unknown.
    """
    unified, controllers = parse_membership(place.read_text("/proc/self/cgroup", _FILE_LIMIT) or "")
    if unified is None and not controllers:
        return {"version": None, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": None}
    if any(name in controllers for name in ("cpu", "memory", "cpuset", "pids")):
        return _version_1(place, mounts, controllers)
    return _version_2(place, mounts, unified or "/")


def _version_2(place: "Place", mounts: "List[Mount]", path: "str") -> "Facts":
    mount = _last(mounts, "cgroup2")
    if mount is None:
        place.problem("/sys/fs/cgroup", "the control groups are not mounted; limits set by them are unknown")
        return {"version": 2, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": None}
    folders = _present(place, groups(mount, path), mount)
    return {
        "version": 2,
        "cpu_quota": _smallest([parse_cpu_max(_read(place, folder, "cpu.max")) for folder in folders]),
        "cpuset": _innermost([parse_cpu_list(_read(place, folder, "cpuset.cpus.effective")) for folder in folders]),
        "memory_bytes": _smallest([parse_amount(_read(place, folder, "memory.max")) for folder in folders]),
        "pids": _smallest([parse_amount(_read(place, folder, "pids.max")) for folder in folders]),
    }


def _version_1(place: "Place", mounts: "List[Mount]", controllers: "Dict[str, str]") -> "Facts":
    folders = {}  # type: Dict[str, List[str]]
    for name in ("cpu", "cpuset", "memory", "pids"):
        mount = _last(mounts, "cgroup", name)
        folders[name] = []
        if mount is not None:
            folders[name] = _present(place, groups(mount, controllers.get(name, "/")), mount)
        elif name in controllers and name != "cpuset":  # the affinity tells what a cpuset allows
            place.problem("/sys/fs/cgroup/" + name, "not mounted; a limit set there is unknown")
    quotas = [
        cores(_read(place, folder, "cpu.cfs_quota_us"), _read(place, folder, "cpu.cfs_period_us"))
        for folder in folders["cpu"]
    ]
    memory = []  # type: List[Optional[int]]
    for index, folder in enumerate(folders["memory"]):
        # Before Linux 5.11 a group bound its children only where it said so.
        if index and (_read(place, folder, "memory.use_hierarchy") or "1").strip() == "0":
            break
        memory.append(parse_amount(_read(place, folder, "memory.limit_in_bytes")))
    sets = [
        parse_cpu_list(_read(place, folder, "cpuset.effective_cpus") or _read(place, folder, "cpuset.cpus"))
        for folder in folders["cpuset"]
    ]
    return {
        "version": 1,
        "cpu_quota": _smallest(quotas),
        "cpuset": _innermost(sets),
        "memory_bytes": _smallest(memory),
        "pids": _smallest([parse_amount(_read(place, folder, "pids.max")) for folder in folders["pids"]]),
    }


def _read(place: "Place", folder: "str", name: "str") -> "Optional[str]":
    return place.read_text(posixpath.join(folder, name), _FILE_LIMIT)


def _present(place: "Place", folders: "List[str]", mount: "Mount") -> "List[str]":
    # With the host's namespace and a container's mount, the path may name what the mount does not show
    # (/docker/0123... below a mount whose root is already that group, bind-mounted as /).
    return [folder for folder in folders if place.is_dir(folder)] or [mount.point]


def _last(mounts: "List[Mount]", kind: "str", option: "Optional[str]" = None) -> "Optional[Mount]":
    for mount in reversed(mounts):
        if mount.kind == kind and (option is None or option in mount.super_options):
            return mount
    return None


def _smallest(values: "List[Optional[int]] | List[Optional[float]]") -> "Union[int, float, None]":
    known = [value for value in values if value is not None]
    return min(known) if known else None


def _innermost(values: "List[Optional[int]]") -> "Optional[int]":
    for value in values:
        if value is not None:
            return value
    return None
