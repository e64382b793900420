"""Section ``machine``: the kernel, the CPU and what emulates it, cores and memory.

Sources: uname(2), proc_cpuinfo(5), sysconf(3); on macOS ``sysctl`` by name, on Windows the variables that the
system sets for every process. No host name, no build string of the kernel, no serial number.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re
import sys

from . import common, cpu_levels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Optional

    from .common import Place

LAYER = "machine"

# A machine with 1,024 cores writes about 1.6 MB.
CPUINFO_LIMIT = 8 << 20

_MIB = 1 << 20
_X86 = frozenset(["x86_64", "amd64", "i386", "i486", "i586", "i686"])
_ARM = re.compile(r"^(?:aarch64|arm64|armv)", re.IGNORECASE)

# arch/arm64/include/asm/cputype.h of Linux, and the Main ID Register in the Arm Architecture Reference
# Manual.
_IMPLEMENTERS = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x56: "Marvell",
    0x61: "Apple",
    0x69: "Intel",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: ``kernel``, ``architecture``, ``emulation``, ``cpu``, ``level``, ``cores``, ``memory_bytes``,
    ``page_size``, ``byteorder``; see ``schemas/sections/machine.json``.

    Raises Unavailable where files are read without running anything: the machine is then not the one that
    will run them.
    """
    if not place.live:
        raise common.Unavailable("nothing was run, so there is no machine to describe")
    if sys.platform == "darwin":
        return darwin(_sysctl())
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        release = "%d.%d.%d" % (version.major, version.minor, version.build)
        return windows(place.environ, release, os.cpu_count())
    name = os.uname()
    text = place.read_text("/proc/cpuinfo", CPUINFO_LIMIT) or ""
    return unix(name.sysname, name.release, name.machine, text, _real_executable(place))


def unix(system: "str", release: "str", machine: "str", cpuinfo: "str", executable: "str") -> "Dict[str, Any]":
    """The facts of a Unix machine from uname, ``/proc/cpuinfo`` and the program that really runs."""
    emulator = emulation(machine, cpuinfo, executable)
    cpu = parse_cpuinfo(cpuinfo)
    # What an emulator with the host's cpuinfo offers to the program is not written anywhere.
    return {
        "kernel": {"system": system, "release": release},
        "architecture": machine,
        "emulation": emulator,
        "cpu": {"vendor": cpu["vendor"], "model": cpu["model"], "flags": dict.fromkeys(cpu["flags"], True)},
        "level": cpu_levels.level(cpu["flags"]) if machine in _X86 and emulator is None else None,
        "cores": {"online": _sysconf("SC_NPROCESSORS_ONLN"), "physical": cpu["physical"]},
        "memory_bytes": _memory(),
        "page_size": _sysconf("SC_PAGE_SIZE"),
        "byteorder": sys.byteorder,
    }


def emulation(machine: "str", cpuinfo: "str", executable: "str") -> "Optional[str]":
    """What translates the instructions of this process, or None. The order of detection:

    1. The program that the kernel really runs, the target of ``/proc/thread-self/exe``. QEMU answers
       ``/proc/self/exe`` itself with the emulated program, but not this name (``is_proc_myself`` in its
       ``linux-user/syscall.c``): ``/usr/bin/qemu-x86_64-static``, ``/usr/bin/qemu-aarch64``,
       ``/rosetta/rosetta``, ``/usr/bin/FEXInterpreter``, ``/usr/local/bin/box64``.
    2. cpuinfo of another architecture than uname's machine: an emulator hands the host's file through and
       hides itself, so its name stays ``unidentified``. Docker Desktop on a Mac showed x86-64 programs
       ``Features : fp asimd evtstrm aes ...`` and ``CPU implementer : 0x00`` (docker/for-mac issue 6512); an
       x86 file has ``vendor_id : GenuineIntel`` and ``flags : fpu vme de ...``.
    """
    program = executable.rsplit("/", 1)[-1].lower()
    for start, name in (("qemu-", "qemu-user"), ("rosetta", "rosetta"), ("fex", "fex"), ("box64", "box64")):
        if program.startswith(start):
            return name
    kind = cpuinfo_kind(cpuinfo)
    if (kind == "arm" and machine in _X86) or (kind == "x86" and machine not in _X86):
        return "unidentified"
    return None


def cpuinfo_kind(cpuinfo: "str") -> "Optional[str]":
    """``x86``, ``arm`` or None for another: whose ``/proc/cpuinfo`` this is."""
    if re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE):
        return "arm"
    if re.search(r"^flags\s*:.*\bfpu\b", cpuinfo, re.MULTILINE):
        return "x86"
    return None


def parse_cpuinfo(text: "str") -> "Dict[str, Any]":
    """``{vendor, model, flags: [names], physical}`` of ``/proc/cpuinfo``.

    x86 (``vendor_id``, ``model name``, ``flags``), Arm (``CPU implementer``, ``CPU part``, ``Features``),
    RISC-V (``uarch``, ``isa``), POWER (``cpu``) and s390 (``vendor_id``, ``features``). Where the cores
    differ (Arm big.LITTLE, hybrid x86 has equal flags) the flags are those of the first one, whose features
    the kernel offers on all. ``physical`` counts pairs of ``physical id`` and ``core id``; None where there
    are none.
    """
    first = _fields(text)
    vendor = model = None  # type: Optional[str]
    implementer = _number(first.get("CPU implementer"))
    if implementer is not None:
        vendor = _IMPLEMENTERS.get(implementer, first["CPU implementer"])
        # model name is there only for 32-bit programs; the part number always is.
        model = first.get("CPU part") or first.get("model name")
    else:
        vendor = first.get("vendor_id") or first.get("mvendorid") or None
        model = first.get("model name") or first.get("cpu") or first.get("uarch") or first.get("isa") or None
    flags = first.get("flags") or first.get("Features") or first.get("features") or ""
    if not flags and first.get("isa"):
        flags = first["isa"].replace("_", " ")
    sockets = re.findall(r"^physical id\s*:\s*(\d+)$", text, re.MULTILINE)
    cores = re.findall(r"^core id\s*:\s*(\d+)$", text, re.MULTILINE)
    pairs = set(zip(sockets, cores))  # noqa: B905 (3.10's; the lengths are compared)
    physical = len(pairs) if pairs and len(sockets) == len(cores) else None
    return {
        "vendor": vendor,
        "model": " ".join(model.split()) if model else None,
        "flags": sorted(set(flags.split())),
        "physical": physical,
    }


def _fields(text: "str") -> "Dict[str, str]":
    """``name : value`` lines up to the second processor; the first value of a name counts."""
    fields = {}  # type: Dict[str, str]
    end = text.find("\nprocessor", 1)
    # s390 writes its features before its "processor 0:" lines, POWER its machine after them.
    for line in (text if end < 0 else text[:end]).splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _number(text: "Optional[str]") -> "Optional[int]":
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def _real_executable(place: "Place") -> "str":
    try:
        return os.readlink(place.real("/proc/thread-self/exe"))
    except OSError:  # not Linux, or older than 3.17
        return ""


def _sysconf(name: "str") -> "Optional[int]":
    # os.cpu_count() would be changed by PYTHON_CPU_COUNT (3.13); the C library is not.
    try:
        value = os.sysconf(name)
    except (AttributeError, ValueError, OSError):
        return None
    return value if value > 0 else None


def _memory() -> "Optional[int]":
    pages, size = _sysconf("SC_PHYS_PAGES"), _sysconf("SC_PAGE_SIZE")
    return None if pages is None or size is None else whole_mebibytes(pages * size)


def whole_mebibytes(size: "int") -> "int":
    """Rounded down, so that the few pages that a kernel takes at boot are no difference."""
    return size // _MIB * _MIB


# --- macOS


def darwin(sysctl: "Callable[[str], Optional[str]]") -> "Dict[str, Any]":
    """The facts of a Mac; ``sysctl`` answers one name with its value as text, None where there is none.

    A process under Rosetta sees ``sysctl.proc_translated`` as 1 ("About the Rosetta translation environment",
    Apple developer documentation) and ``hw.machine`` as x86_64.
    """
    machine = sysctl("hw.machine") or ""
    memory = _number(sysctl("hw.memsize"))
    flags = darwin_flags(sysctl)
    return {
        "kernel": {"system": "Darwin", "release": sysctl("kern.osrelease") or ""},
        "architecture": machine,
        "emulation": "rosetta" if sysctl("sysctl.proc_translated") == "1" else None,
        "cpu": {
            "vendor": sysctl("machdep.cpu.vendor") or ("Apple" if _ARM.match(machine) else None),
            "model": sysctl("machdep.cpu.brand_string"),
            "flags": dict.fromkeys(flags, True),
        },
        "level": cpu_levels.level(flags) if machine in _X86 else None,
        "cores": {
            "online": _number(sysctl("hw.activecpu")),
            "physical": _number(sysctl("hw.physicalcpu")),
        },
        "memory_bytes": None if memory is None else whole_mebibytes(memory),
        "page_size": _number(sysctl("hw.pagesize")),
        "byteorder": sys.byteorder,
    }


_DARWIN_ARM = (
    "AdvSIMD", "floatingpoint", "neon", "arm.FEAT_BF16", "arm.FEAT_DotProd", "arm.FEAT_FP16", "arm.FEAT_I8MM",
    "arm.FEAT_SME", "arm.FEAT_SME2",
)  # fmt: skip


def darwin_flags(sysctl: "Callable[[str], Optional[str]]") -> "List[str]":
    """Features under Linux's names (Intel), or the ``hw.optional`` names that matter to inference (Apple)."""
    names = []  # type: List[str]
    for key in ("machdep.cpu.features", "machdep.cpu.leaf7_features", "machdep.cpu.extfeatures"):
        names.extend(cpu_levels.linux_name(name) for name in (sysctl(key) or "").split())
    names.extend(name for name in _DARWIN_ARM if sysctl("hw.optional." + name) == "1")
    return sorted(set(names))


def _sysctl() -> "Callable[[str], Optional[str]]":
    import ctypes

    call = ctypes.CDLL(None).sysctlbyname
    numbers = ("hw.memsize", "hw.activecpu", "hw.physicalcpu", "hw.pagesize", "sysctl.proc_translated")

    def ask(name: "str") -> "Optional[str]":
        size = ctypes.c_size_t(0)
        if call(name.encode("ascii"), None, ctypes.byref(size), None, 0) != 0 or not 0 < size.value < 1 << 16:
            return None
        buffer = ctypes.create_string_buffer(size.value)
        if call(name.encode("ascii"), buffer, ctypes.byref(size), None, 0) != 0:
            return None
        raw = buffer.raw[: size.value]
        if name in numbers or name.startswith("hw.optional."):
            return str(int.from_bytes(raw, sys.byteorder))
        return raw.rstrip(b"\0").decode("utf-8", "replace")

    return ask


# --- Windows


def windows(environ: "Mapping[str, str]", release: "str", cores: "Optional[int]") -> "Dict[str, Any]":
    """The facts of a Windows machine from the variables that the system gives to every process.

    ``PROCESSOR_IDENTIFIER`` is ``Intel64 Family 6 Model 142 Stepping 12, GenuineIntel`` or ``ARMv8 (64-bit)
    Family 8 Model 1 Revision 201, Qualcomm Technologies Inc``. Features are not asked for, so there is no
    level.
    """
    identifier = environ.get("PROCESSOR_IDENTIFIER", "")
    model, _, vendor = identifier.rpartition(", ")
    machine = environ.get("PROCESSOR_ARCHITECTURE", "")
    emulated = model.startswith("ARM") and not _ARM.match(machine) and machine != ""
    return {
        "kernel": {"system": "Windows", "release": release},
        "architecture": machine,
        "emulation": "windows-on-arm" if emulated else None,
        "cpu": {"vendor": vendor or None, "model": model or None, "flags": {}},
        "level": None,
        "cores": {"online": cores, "physical": None},
        "memory_bytes": None,
        "page_size": None,
        "byteorder": sys.byteorder,
    }
