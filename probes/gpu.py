"""Section ``gpu``: the GPUs of the machine and the driver that runs them; that there is none is an answer too.

Sources: the driver's README (``/proc/driver/nvidia``, device files), NVML API reference, nvidia-smi(1), the Linux
kernel's documentation of amdgpu and drivers/gpu/drm/amd/amdkfd/kfd_topology.c. No serial number and no UUID is read.

The order of detection:

1. The kernel module: ``/proc/driver/nvidia/version``, else ``/sys/module/nvidia/version``. WSL has neither, but
   ``/dev/dxg``.
2. Device files, ``/dev/nvidia0``, ``/dev/nvidiactl``, ``/dev/nvidia-uvm``: what a container was given.
3. The driver's libraries, by the loader's own search: the version is in the name of the file that a link ends at.
4. NVML, asked in a child process.
5. Where it says nothing: ``nvidia-smi``, from where the driver puts it, never from PATH.
6. Where that says nothing: the names of the devices in ``/proc/driver/nvidia/gpus/*/information``.
7. ``libcuda.so.1``, asked in another child whether CUDA starts: a compat library has a mind of its own.
8. AMD: ``/sys/class/kfd/kfd/topology/nodes``, ``/sys/module/amdgpu/version``, ``/opt/rocm*/.info/version``.

Steps 3 to 7 are left out where neither a kernel module nor a device file says that there is a driver, except that
libraries which are there all the same are named.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re
import stat
import sys

from . import common, loader, loader_cache, nvml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple  # noqa: F401

    from .common import Place

LAYER = "machine"

NODE_LIMIT = 128

# Where the driver's installer, Debian, WSL and the GPU operator put the program.
NVIDIA_SMI = (
    "/usr/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
    "/run/nvidia/driver/usr/bin/nvidia-smi",
)
_LIBRARY_DIRECTORIES = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/lib/wsl/lib",
)  # fmt: skip
_NODE = re.compile(r"^(?:nvidia\d+|nvidiactl|nvidia-uvm|nvidia-modeset|nvidia-nvswitchctl|nvidia-nvswitch\d+|dxg|kfd)$")


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: ``nvidia`` and ``amd``, each None where there is no such driver; see ``schemas/sections/gpu.json``.

    Raises:
        Unavailable: where files are read without running anything, and on Windows, whose driver is not asked.
        Absent: on macOS, which has had no driver for compute on NVIDIA or AMD devices since 10.13 and 12.
    """
    if not place.live:
        raise common.Unavailable("nothing was run, so there is no machine to describe")
    if sys.platform == "darwin":
        raise common.Absent("macOS has no driver for NVIDIA or AMD devices that computes")
    if not sys.platform.startswith("linux"):
        raise common.Unavailable("the driver is not asked on %s" % sys.platform)
    nodes = device_nodes(place)
    return {"nvidia": nvidia(place, nodes), "amd": amd(place, nodes)}


def nvidia(place: "Place", nodes: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
    """The NVIDIA half of the facts; None where neither a module, a device file nor a library is there."""
    module = kernel_module(place)
    own = {path: node for path, node in nodes.items() if not path.endswith("/kfd")}
    libraries = {name: find_library(place, name) for name in ("libcuda.so.1", "libnvidia-ml.so.1")}
    present = bool(module or own)
    if not present and not any(libraries.values()):
        return None
    facts = {
        "kernel_module": module,
        "device_nodes": own,
        "libcuda": _library(place, libraries["libcuda.so.1"], ("cuda", "init")),
        "nvml": _library(place, libraries["libnvidia-ml.so.1"], ("status", "code", "error")),
        "asked": None,
        "driver": module["version"] if module else None,
        "cuda": None,
        "devices": {},
        "fabric_manager": None,
    }  # type: Dict[str, Any]
    if present:
        _ask(place, facts)
        facts["fabric_manager"] = fabric_manager(place, own)
    return facts


def _library(place: "Place", path: "Optional[str]", unknown: "Tuple[str, ...]") -> "Optional[Dict[str, Any]]":
    """``{path, version}``, and the keys that only the library itself can fill, still None."""
    if path is None:
        return None
    record = {"path": path, "version": library_version(os.path.realpath(place.real(path)))}  # type: Dict[str, Any]
    record.update((key, None) for key in unknown)
    return record


def _ask(place: "Place", facts: "Dict[str, Any]") -> "None":
    """Steps 4 to 7; what they find is put into ``facts``. A driver that hangs once is not asked again."""
    hangs = False
    library = facts["nvml"]
    if library is not None:
        path = place.real(library["path"])
        answer = nvml.in_child(lambda: nvml.ask_nvml(path), nvml.TIME_LIMIT)
        library["status"], code = answer.status, answer.value.get("code")
        hangs = answer.status == "timed out"
        if answer.status != "ok":
            place.problem(library["path"], "NVML: %s" % (answer.reason or answer.status))
        else:
            library["code"] = code
            library["error"] = nvml.RETURN_CODES.get(code, str(code)) if code else None
            facts["driver"] = facts["driver"] or answer.value.get("driver")
            if not code:
                facts["asked"] = "nvml"
                facts["cuda"] = cuda_level(answer.value.get("cuda"))
                facts["devices"] = {index: device_record(one) for index, one in answer.value["devices"].items()}
                if answer.value.get("count", 0) > len(facts["devices"]):
                    place.problem("NVML", "%d devices, not all of which answer" % answer.value["count"])
    if facts["asked"] is None and not hangs:
        ask_program(place, facts)
    if facts["asked"] is None:
        facts["devices"] = devices_of_proc(place)
        facts["asked"] = "proc" if facts["devices"] else None
    library = facts["libcuda"]
    if library is not None and not hangs:
        path = place.real(library["path"])
        answer = nvml.in_child(lambda: nvml.ask_cuda(path), nvml.TIME_LIMIT)
        library["init"], library["cuda"] = answer.value.get("init"), cuda_level(answer.value.get("cuda"))
        if answer.status != "ok":
            place.problem(library["path"], "cuInit: %s" % (answer.reason or answer.status))
        facts["cuda"] = facts["cuda"] or library["cuda"]


def device_record(answer: "Dict[str, Any]") -> "Dict[str, Any]":
    """One device with all of its keys."""
    record = {
        "name": None, "compute_capability": None, "memory_bytes": None, "mig": None, "mig_devices": {}, "fabric": None,
    }  # type: Dict[str, Any]  # fmt: skip
    record.update((key, value) for key, value in answer.items() if key in record)
    return record


def cuda_level(number: "Any") -> "Optional[str]":
    """``12080`` -> ``12.8``; None for what is no such number."""
    if not isinstance(number, int) or number < 1000:
        return None
    return "%d.%d" % (number // 1000, number % 1000 // 10)


# 1. The kernel module


def kernel_module(place: "Place") -> "Optional[Dict[str, Any]]":
    """``{version, flavour}``: "open", "proprietary" or None where that is not said."""
    text = place.read_text("/proc/driver/nvidia/version", 1 << 16)
    found = parse_proc_version(text) if text else None
    if found is None:
        version = place.read_text("/sys/module/nvidia/version", 1 << 10)
        if version is None or not version.strip():
            return None
        found = {"version": version.strip(), "flavour": None}
    if found["flavour"] is None:
        taint = place.read_text("/sys/module/nvidia/taint", 64)
        # P: a proprietary module was loaded, O: one from outside of the kernel's tree (tainted-kernels.rst).
        if taint is not None and taint.strip():
            found["flavour"] = "proprietary" if "P" in taint else "open"
    return found


def parse_proc_version(text: "str") -> "Optional[Dict[str, Any]]":
    """The first line of ``/proc/driver/nvidia/version``, of the two kinds of module:

    ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023``
    ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16-I3)  Thu``
    """
    match = re.search(r"^NVRM version:\s*(.*?Kernel Module.*?)\s+(\d+\.\d+(?:\.\d+)*)\b", text, re.MULTILINE)
    if not match:
        return None
    return {"version": match.group(2), "flavour": "open" if "Open Kernel" in match.group(1) else "proprietary"}


# 2. Device files


def device_nodes(place: "Place") -> "Dict[str, Any]":
    """``{path: {mode, uid, gid, accessible}}``; the mode in octal digits."""
    found = {}  # type: Dict[str, Any]
    for name in place.list_dir("/dev"):
        if not _NODE.match(name) or len(found) >= NODE_LIMIT:
            continue
        path = "/dev/" + name
        try:
            status = os.stat(place.real(path))
        except (OSError, ValueError):
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        found[path] = {
            "mode": "%04o" % stat.S_IMODE(status.st_mode),
            "uid": status.st_uid,
            "gid": status.st_gid,
            "accessible": os.access(place.real(path), os.R_OK | os.W_OK),
        }
    return found


# 3. Libraries


def find_library(place: "Place", name: "str") -> "Optional[str]":
    """Where dlopen(3) ends for a library of the driver: LD_LIBRARY_PATH, the cache, the default directories."""
    for entry in re.split("[:;]", place.environ.get("LD_LIBRARY_PATH", "")):
        path = entry.rstrip("/") + "/" + name
        if entry.startswith("/") and _is_elf(place, path):
            return path
    data = place.read_bytes(loader.CACHE, loader.CACHE_LIMIT)
    if data and name.encode("ascii") in data:
        try:
            entries = loader_cache.parse(data)
        except ValueError:
            entries = []  # a problem of the section libraries
        for entry_of_cache in entries:
            if entry_of_cache.soname == name and _is_elf(place, entry_of_cache.path):
                return str(entry_of_cache.path)
    for directory in _LIBRARY_DIRECTORIES:
        if _is_elf(place, directory + "/" + name):
            return directory + "/" + name
    return None


def _is_elf(place: "Place", path: "str") -> "bool":
    """Whether it is an ELF file of this interpreter's class."""
    try:
        head = common.read_regular(place.real(path), 5)
    except (OSError, ValueError):
        return False
    return head == (b"\x7fELF\x02" if sys.maxsize > 2**32 else b"\x7fELF\x01")


def library_version(path: "str") -> "Optional[str]":
    """``/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06`` -> ``580.65.06``; None where the name says none."""
    match = re.search(r"\.so\.(\d+(?:\.\d+)+)$", path)
    return match.group(1) if match else None


# 5. nvidia-smi

_FIELDS = ("index", "name", "compute_cap", "memory.total", "mig.mode.current", "driver_version")
# compute_cap came with the driver 510, mig.mode.current with 450.
_OLD_FIELDS = ("index", "name", "memory.total", "driver_version")


def ask_program(place: "Place", facts: "Dict[str, Any]") -> "None":
    """Ask nvidia-smi, and put what it says into ``facts``."""
    path = next((one for one in NVIDIA_SMI if _is_program(place, one)), None)
    if path is None:
        return
    for fields in (_FIELDS, _OLD_FIELDS):
        text, reason = run(
            [place.real(path), "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"], nvml.TIME_LIMIT
        )
        if reason is not None:
            place.problem(path, reason)
            return
        devices, driver = parse_query(text, fields)
        if devices:
            facts["asked"] = "nvidia-smi"
            facts["devices"] = devices
            facts["driver"] = facts["driver"] or driver
            text, reason = run([place.real(path)], nvml.TIME_LIMIT)
            facts["cuda"] = parse_banner(text)
            return
    place.problem(path, "an answer that cannot be understood")


def _is_program(place: "Place", path: "str") -> "bool":
    try:
        status = os.stat(place.real(path))
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)


def run(command: "List[str]", seconds: "float") -> "Tuple[str, Optional[str]]":
    """``(standard output, None)`` of a program, or ``("", reason)`` where it does not end or cannot be started. Its
    exit status does not count: nvidia-smi returns 14 for a warning about an infoROM, with a full answer.
    """
    import signal
    import subprocess
    import time

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.defpath, "LC_ALL": "C"},
        )
    except (OSError, ValueError) as error:
        return "", common.describe(error)
    assert process.stdout is not None  # noqa: S101 (for the type checker; PIPE was asked for)
    data, complete = nvml.read_until(process.stdout.fileno(), time.time() + seconds)
    process.stdout.close()
    if not complete:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # cannot be killed (state D); nobody waits for it any longer
        complete = False
    if not complete:
        return "", "no end within %g seconds, or of its answer" % seconds
    return data.decode("utf-8", "replace"), None


def parse_query(text: "str", fields: "Tuple[str, ...]" = _FIELDS) -> "Tuple[Dict[str, Any], Optional[str]]":
    """``(devices by index, version of the driver)`` of ``nvidia-smi --query-gpu=... --format=csv,noheader,nounits``:

    ``0, NVIDIA A100-SXM4-40GB, 8.0, 40960, Enabled, 535.104.05``

    Lines that are none of its own (warnings come first) are passed over. What a device does not know reads ``[N/A]``
    or ``[Not Supported]``. Memory is in MiB.
    """
    devices = {}  # type: Dict[str, Any]
    driver = None
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != len(fields) or not values[0].isdigit() or len(devices) >= nvml.DEVICE_LIMIT:
            continue
        row = dict(zip(fields, values))
        if not re.match(r"^\d+\.\d+", row["driver_version"]):
            continue
        driver = row["driver_version"]
        capability, memory = row.get("compute_cap", ""), row["memory.total"]
        devices[str(int(row["index"]))] = device_record(
            {
                "name": row["name"],
                "compute_capability": capability if re.match(r"^\d+\.\d+$", capability) else None,
                "memory_bytes": int(memory) << 20 if memory.isdigit() else None,
                "mig": {"Enabled": True, "Disabled": False}.get(row.get("mig.mode.current", "")),
            }
        )
    return devices, driver


def parse_banner(text: "str") -> "Optional[str]":
    """``| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2     |`` -> ``12.2``."""
    match = re.search(r"CUDA Version:\s*(\d+\.\d+)", text)
    return match.group(1) if match else None


# 6. /proc


def devices_of_proc(place: "Place") -> "Dict[str, Any]":
    """Devices by their number, with a name and nothing else."""
    folder = "/proc/driver/nvidia/gpus"
    devices = {}  # type: Dict[str, Any]
    for name in place.list_dir(folder)[: nvml.DEVICE_LIMIT]:
        text = place.read_text("%s/%s/information" % (folder, name), 1 << 16) or ""
        model = parse_information(text)
        if model is not None:
            devices[model[0]] = device_record({"name": model[1]})
    return devices


def parse_information(text: "str") -> "Optional[Tuple[str, str]]":
    r"""``(number, name)``: ``Model: \t NVIDIA H100 80GB HBM3`` and ``Device Minor: \t 0``; no UUID is looked at."""
    found = dict(re.findall(r"^(Model|Device Minor):[ \t]*(\S[^\n]*)$", text, re.MULTILINE))
    if "Model" not in found or not found.get("Device Minor", "").strip().isdigit():
        return None
    return found["Device Minor"].strip(), found["Model"].strip()


# The fabric manager


def fabric_manager(place: "Place", nodes: "Dict[str, Any]") -> "Optional[Dict[str, bool]]":
    """``{running}`` where there are NVSwitches: until it runs, CUDA does not start on their devices (error 802). None
    where there are none. A container sees no process of its host.
    """
    switches = any("nvswitch" in path for path in nodes) or place.list_dir("/proc/driver/nvidia-nvswitch/devices")
    if not switches:
        return None
    for name in place.list_dir("/proc"):
        if name.isdigit() and (_comm(place, name) or "").startswith("nv-fabricmanage"):  # 15 characters, proc(5)
            return {"running": True}
    return {"running": False}


def _comm(place: "Place", process: "str") -> "Optional[str]":
    try:
        return common.read_regular(place.real("/proc/%s/comm" % process), 64).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None  # it has ended


# 8. AMD


def amd(place: "Place", nodes: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
    """The AMD half of the facts; None where the kernel has no kfd."""
    folder = "/sys/class/kfd/kfd/topology/nodes"
    node = nodes.get("/dev/kfd")
    if not place.is_dir(folder) and node is None:
        return None
    devices = {}  # type: Dict[str, Any]
    for name in place.list_dir(folder)[:NODE_LIMIT]:
        text = place.read_text("%s/%s/properties" % (folder, name), 1 << 16)
        target = parse_kfd_properties(text or "")
        if target is not None:
            devices[name] = {"target": target, "memory_bytes": _kfd_memory(place, folder + "/" + name)}
    version = place.read_text("/sys/module/amdgpu/version", 1 << 10)
    return {
        "driver": (version or "").strip() or None,
        "rocm": rocm_versions(place),
        "devices": devices,
        "device_node": node,
    }


def parse_kfd_properties(text: "str") -> "Optional[str]":
    """``gfx_target_version 90402`` is gfx942: major, minor and stepping, the last two as hexadecimal digits (90010 is
    gfx90a). None for a node that is a CPU (``simd_count 0``).
    """
    found = dict(re.findall(r"^(simd_count|gfx_target_version) (\d+)$", text, re.MULTILINE))
    number = int(found.get("gfx_target_version", 0))
    if not int(found.get("simd_count", 0)) or not number:
        return None
    return "gfx%d%x%x" % (number // 10000, number // 100 % 100, number % 100)


def _kfd_memory(place: "Place", node: "str") -> "Optional[int]":
    """Of the banks of a node, what is the device's own: heap types 1 and 2, HSA_MEM_HEAP_TYPE_FB_*."""
    total = 0
    for bank in place.list_dir(node + "/mem_banks")[:NODE_LIMIT]:
        text = place.read_text("%s/mem_banks/%s/properties" % (node, bank), 1 << 12) or ""
        found = dict(re.findall(r"^(heap_type|size_in_bytes) (\d+)$", text, re.MULTILINE))
        if found.get("heap_type") in ("1", "2"):
            total += int(found.get("size_in_bytes", 0))
    return total or None


def rocm_versions(place: "Place") -> "Dict[str, str]":
    """``{"/opt/rocm-6.4.1": "6.4.1-83"}``, from the file ``.info/version``."""
    found = {}  # type: Dict[str, str]
    for name in place.list_dir("/opt"):
        if re.match(r"^rocm(?:-[\d.]+)?$", name):
            text = place.read_text("/opt/%s/.info/version" % name, 1 << 10)
            if text and text.strip():
                found["/opt/" + name] = text.strip()
    return found
