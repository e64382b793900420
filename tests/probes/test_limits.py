"""The limits probe on control group trees as kernels and runtimes make them, and the judgement of modes."""

# ruff: noqa: E501 (lines of real files are quoted whole)

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path

import pytest
from driftcheck.probes import cgroups, common, limits

ID = "3b1f0c7a4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8"
HUGE = "9223372036854771712\n"


def tree(root: Path, files: dict[str, str]) -> common.Place:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return common.Place(root=str(root), environ={})


def measured(place: common.Place) -> dict[str, object]:
    return dict(cgroups.measure(place, cgroups.mounts_of(place)))


def test_docker_on_version_1(tmp_path: Path) -> None:
    # The container's mounts show its own group as their root; the membership names the host's path.
    group = f"/docker/{ID}"
    base = "/sys/fs/cgroup"
    place = tree(
        tmp_path,
        {
            "/proc/self/cgroup": f"11:memory:{group}\n10:pids:{group}\n4:cpu,cpuacct:{group}\n3:cpuset:{group}\n"
            f"1:name=systemd:{group}\n0::/system.slice/containerd.service\n",
            "/proc/self/mountinfo": f"700 690 0:30 {group} {base}/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
            f"701 690 0:31 {group} {base}/memory ro,nosuid - cgroup cgroup rw,memory\n"
            f"702 690 0:32 {group} {base}/cpuset ro,nosuid - cgroup cgroup rw,cpuset\n"
            f"703 690 0:33 {group} {base}/pids ro,nosuid - cgroup cgroup rw,pids\n",
            f"{base}/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            f"{base}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            f"{base}/memory/memory.limit_in_bytes": "536870912\n",
            f"{base}/memory/memory.use_hierarchy": "1\n",
            f"{base}/cpuset/cpuset.effective_cpus": "0-1,4\n",
            f"{base}/pids/pids.max": "max\n",
        },
    )
    assert measured(place) == {
        "version": 1, "cpu_quota": 1.5, "cpuset": 3, "memory_bytes": 512 << 20, "pids": None,
    }  # fmt: skip
    assert place.problems == []


def test_no_limits_on_version_1(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup"
    place = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "4:memory:/\n1:cpu:/\n0::/\n",
            "/proc/self/mountinfo": f"32 31 0:29 / {base}/cpu rw - cgroup cgroup rw,cpu\n"
            f"35 31 0:32 / {base}/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / {base}/unified rw - cgroup2 cgroup2 rw\n",
            f"{base}/cpu/cpu.cfs_quota_us": "-1\n",
            f"{base}/cpu/cpu.cfs_period_us": "100000\n",
            f"{base}/memory/memory.limit_in_bytes": HUGE,
        },
    )
    assert measured(place) == {
        "version": 1, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": None,
    }  # fmt: skip


def test_parents_bind_on_version_1_only_with_use_hierarchy(tmp_path: Path) -> None:
    base = "/sys/fs/cgroup/memory"
    files = {
        "/proc/self/cgroup": "4:memory:/outer/inner\n",
        "/proc/self/mountinfo": f"35 31 0:32 / {base} rw - cgroup cgroup rw,memory\n",
        f"{base}/memory.limit_in_bytes": HUGE,
        f"{base}/outer/memory.limit_in_bytes": "1000000\n",
        f"{base}/outer/memory.use_hierarchy": "1\n",
        f"{base}/outer/inner/memory.limit_in_bytes": "2000000\n",
    }
    assert measured(tree(tmp_path, files))["memory_bytes"] == 1000000
    files[f"{base}/outer/memory.use_hierarchy"] = "0\n"
    assert measured(tree(tmp_path, files))["memory_bytes"] == 2000000


def test_nested_slices_on_version_2(tmp_path: Path) -> None:
    # A service in a slice: the tightest of each limit binds, wherever it stands.
    base = "/sys/fs/cgroup"
    place = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/ml.slice/ml-serve.slice/serve.service\n",
            "/proc/self/mountinfo": f"30 23 0:26 / {base} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            f"{base}/cgroup.controllers": "cpu memory pids\n",
            f"{base}/ml.slice/cpu.max": "400000 100000\n",
            f"{base}/ml.slice/memory.max": "8589934592\n",
            f"{base}/ml.slice/ml-serve.slice/cpu.max": "max 100000\n",
            f"{base}/ml.slice/ml-serve.slice/memory.max": "4294967296\n",
            f"{base}/ml.slice/ml-serve.slice/serve.service/cpu.max": "50000 20000\n",
            f"{base}/ml.slice/ml-serve.slice/serve.service/memory.max": "max\n",
            f"{base}/ml.slice/ml-serve.slice/serve.service/pids.max": "4915\n",
            f"{base}/ml.slice/ml-serve.slice/serve.service/cpuset.cpus.effective": "0-7\n",
        },
    )
    assert measured(place) == {
        "version": 2, "cpu_quota": 2.5, "cpuset": 8, "memory_bytes": 4 << 30, "pids": 4915,
    }  # fmt: skip


def test_inside_a_cgroup_namespace(tmp_path: Path) -> None:
    place = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": "812 805 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n",
            "/sys/fs/cgroup/cpu.max": "50000 100000\n",
            "/sys/fs/cgroup/memory.max": "268435456\n",
            "/sys/fs/cgroup/pids.max": "100\n",
        },
    )
    assert measured(place) == {
        "version": 2, "cpu_quota": 0.5, "cpuset": None, "memory_bytes": 256 << 20, "pids": 100,
    }  # fmt: skip


def test_a_mount_from_an_outer_namespace_shows_its_own_limit(tmp_path: Path) -> None:
    # cgroup_namespaces(7): a mount made outside has a root of /.. here.
    place = tree(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": "155 145 0:32 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/memory.max": "1048576\n",
        },
    )
    assert measured(place)["memory_bytes"] == 1048576


def test_groups_that_are_not_mounted_are_a_problem(tmp_path: Path) -> None:
    place = tree(tmp_path, {"/proc/self/cgroup": "0::/a\n", "/proc/self/mountinfo": ""})
    assert measured(place)["version"] == 2
    assert [problem["where"] for problem in place.problems] == ["/sys/fs/cgroup"]


def test_no_groups_at_all(tmp_path: Path) -> None:
    place = tree(tmp_path, {})
    assert set(measured(place).values()) == {None}
    assert place.problems == []


def test_numbers() -> None:
    assert cgroups.parse_cpu_max("max 100000\n") is None
    assert cgroups.parse_cpu_max("rubbish") is None
    assert cgroups.parse_cpu_max("10 0") is None
    assert cgroups.parse_amount(HUGE) is None
    assert cgroups.parse_amount("9223372036854710272") is None  # pages of 64 KiB
    assert cgroups.parse_amount("0") == 0
    assert cgroups.parse_cpu_list("\n") is None
    assert cgroups.parse_cpu_list("0-3,8,10-11") == 7


def test_mountinfo_with_blanks_and_rubbish() -> None:
    mounts = cgroups.parse_mounts("36 35 98:0 /a\\040b /mnt rw shared:1 - ext3 /dev/root rw\nrubbish\n")
    assert [(mount.root, mount.point, mount.kind) for mount in mounts] == [("/a b", "/mnt", "ext3")]


@pytest.mark.parametrize(
    ("quota", "affinity", "online", "answer"),
    [
        (None, 8, 8, (8, "online")),
        (None, 4, 8, (4, "affinity")),
        (1.5, 8, 8, (2, "quota")),
        (0.1, 8, 8, (1, "quota")),
        (16.0, 8, 8, (8, "online")),
        (3.0, 2, 8, (2, "affinity")),
        (2.0, None, None, (2, "quota")),
        (None, None, 10, (10, "online")),
        (None, None, None, (None, None)),
    ],
)
def test_cpu_limit(quota: float | None, affinity: int | None, online: int | None, answer: tuple[int, str]) -> None:
    found = limits.cpu_limit(quota, affinity, online)
    assert (found["cpus"], found["decided_by"]) == answer


def test_status_of_a_docker_container() -> None:
    # The default set of Docker, which its documentation lists.
    text = "Name:\tcat\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"
    found = limits.parse_status(text)
    assert found["seccomp"] == "filter"
    assert found["no_new_privileges"] is True
    assert set(found["capabilities"]) == {
        "chown",
        "dac_override",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "net_bind_service",
        "net_raw",
        "sys_chroot",
        "mknod",
        "audit_write",
        "setfcap",
    }
    assert limits.parse_status("") == {"seccomp": None, "no_new_privileges": None, "capabilities": None}
    assert limits.parse_capabilities("20000000000") == {"cap_41": True}


def status_of(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def test_one_class_of_bits_decides() -> None:
    judge = limits.Judge(1000, frozenset([1000, 50]), {})
    assert judge.may(status_of(0o700, 1000, 0), 3)
    assert not judge.may(status_of(0o077, 1000, 1000), 3)  # the owner's own bits, though others could
    assert judge.may(status_of(0o070, 0, 50), 3)
    assert not judge.may(status_of(0o707, 0, 50), 3)
    assert judge.may(status_of(0o1777, 0, 0), 3)


def test_root_is_above_modes_only_with_the_capability() -> None:
    closed = status_of(0o500, 1000, 1000)
    assert limits.Judge(0, frozenset([0]), {"dac_override": True}).may(closed, 3)
    assert not limits.Judge(0, frozenset([0]), {}).may(closed, 3)
    assert limits.Judge(0, frozenset([0]), None).may(closed, 3)


def test_folders(tmp_path: Path) -> None:
    place = tree(tmp_path, {"/etc/passwd": ""})
    (tmp_path / "home" / "app").mkdir(parents=True)
    owner = os.getuid()
    (tmp_path / "home").chmod(0o755)
    (tmp_path / "home" / "app").chmod(0o755)
    me = limits.Judge(owner, frozenset([os.getgid()]), {})
    other = limits.Judge(owner + 1, frozenset([os.getgid() + 1]), {})
    assert limits.folder(place, me, True, "/home/app")["writable"] is True
    assert limits.folder(place, other, True, "/home/app")["writable"] is False
    missing = limits.folder(place, other, False, "/nonexistent/x")
    assert (missing["set"], missing["exists"], missing["noexec"]) == (False, False, None)
    assert limits.folder(place, me, True, "/etc/passwd")["writable"] is False
    assert limits.folder(place, me, True, "relative")["writable"] is False
    (tmp_path / "home").chmod(0o700)
    assert limits.folder(place, other, True, "/home/app")["writable"] is False


def test_modes_agree_with_the_kernel(tmp_path: Path) -> None:
    place = common.Place()
    status = limits.parse_status(Path("/proc/self/status").read_text()) if Path("/proc/self/status").exists() else {}
    judge = limits.Judge(os.geteuid(), frozenset([*os.getgroups(), os.getegid()]), status.get("capabilities"))
    for mode in (0o700, 0o500, 0o300, 0o200, 0o000):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        assert judge.may_create_in(place, str(folder)) is os.access(folder, os.W_OK | os.X_OK), oct(mode)
        folder.chmod(0o700)


MOUNT = "700 690 8:1 {root} {point} rw - {kind} /dev/sda1 rw{options}\n"


@pytest.mark.parametrize(
    ("files", "environ", "name", "evidence"),
    [
        ({"/.dockerenv": ""}, {}, "docker", "/.dockerenv"),
        ({"/run/.containerenv": 'engine="podman-4.3.1"\n'}, {"container": "podman"}, "podman", "/run/.containerenv"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes", "variable KUBERNETES_SERVICE_HOST"),
        ({"/var/run/secrets/kubernetes.io/x": ""}, {}, "kubernetes", "/var/run/secrets/kubernetes.io"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer", "variable APPTAINER_CONTAINER"),
        ({"/run/systemd/container": "lxc\n"}, {}, "lxc", "/run/systemd/container"),
        ({"/proc/self/cgroup": f"0::/system.slice/docker-{ID}.scope\n"}, {}, "docker", "/proc/self/cgroup"),
        ({"/proc/self/cgroup": f"4:memory:/docker/{ID}\n"}, {}, "docker", "/proc/self/cgroup"),
        (
            {"/proc/self/cgroup": f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n"},
            {}, "kubernetes", "/proc/self/cgroup",
        ),
        ({"/proc/self/cgroup": f"0::/machine.slice/libpod-{ID}.scope\n"}, {}, "podman", "/proc/self/cgroup"),
        (
            {"/proc/self/mountinfo": MOUNT.format(
                root=f"/var/lib/docker/containers/{ID}/hosts", point="/etc/hosts", kind="ext4", options="")},
            {}, "docker", "/proc/self/mountinfo",
        ),
        (
            {"/proc/self/mountinfo": MOUNT.format(
                root="/", point="/", kind="overlay",
                options=",lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs")},
            {}, "containerd", "/proc/self/mountinfo",
        ),
        (
            {"/proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"},
            {}, "wsl", "/proc/sys/kernel/osrelease",
        ),
    ],
)  # fmt: skip
def test_runtimes(tmp_path: Path, files: dict[str, str], environ: dict[str, str], name: str, evidence: str) -> None:
    place = tree(tmp_path, files)
    place.environ = environ
    found = limits.runtime(place, cgroups.mounts_of(place))
    assert found == {"name": name, "evidence": evidence}
    assert ID not in json.dumps(found)


def test_a_host_that_runs_docker_is_no_container(tmp_path: Path) -> None:
    # The engine's own mounts are seen on the host too.
    mounts = MOUNT.format(root="/", point=f"/var/lib/docker/overlay2/{ID}/merged", kind="overlay", options="")
    place = tree(tmp_path, {"/proc/self/mountinfo": mounts, "/proc/self/cgroup": "0::/user.slice\n"})
    assert limits.runtime(place, cgroups.mounts_of(place)) is None


def test_time_zone_rule() -> None:
    assert limits.parse_zone_rule(b"TZif2" + b"\0" * 40 + b"\nCET-1CEST,M3.5.0,M10.5.0/3\n") == (
        "CET-1CEST,M3.5.0,M10.5.0/3"
    )
    assert limits.parse_zone_rule(b"TZif" + b"\0" * 40) is None
    assert limits.parse_zone_rule(b"rubbish\n") is None


def test_this_process() -> None:
    first = limits.measure(common.Place())
    assert first == limits.measure(common.Place())
    assert first["user"]["uid"] == os.geteuid()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert first["rlimits"]["nofile"] == [None if value == resource.RLIM_INFINITY else value for value in (soft, hard)]
    assert first["cpu_limit"]["cpus"] >= 1


def test_a_lower_limit_shows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        assert limits.measure(common.Place())["rlimits"]["core"][0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_files_alone_have_no_limits(tmp_path: Path) -> None:
    section = common.section(limits, common.Place(root=str(tmp_path), live=False))
    assert (section["status"], section["facts"]) == ("unavailable", {})
