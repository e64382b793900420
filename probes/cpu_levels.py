"""The micro-architecture levels of the x86-64 psABI, from the feature names of Linux's ``/proc/cpuinfo``.

Source: x86-64 psABI 1.0, table 3.1 ("Micro-Architecture Levels"), https://gitlab.com/x86-psABIs/x86-64-ABI;
the names are those of ``arch/x86/include/asm/cpufeatures.h``. Where they differ from the psABI's:

    psABI       cpuinfo     why
    SSE3        pni         "Prescott New Instructions"
    LAHF-SAHF   lahf_lm
    LZCNT       abm         the bit of AMD's "advanced bit manipulation"; there is no separate name
    SCE         syscall
    OSFXSR      fxsr        the kernel sets it wherever the CPU has FXSR
    OSXSAVE     xsave       the kernel shows xsave (and avx) only where it enabled it
    CMPXCHG16B  cx16
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Container, Optional

# Each level needs its own features and those of the levels before it.
LEVELS = (
    ("x86-64-v1", frozenset(["cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"])),
    ("x86-64-v2", frozenset(["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"])),
    ("x86-64-v3", frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"])),
    ("x86-64-v4", frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])),
)


def level(flags: "Container[str]") -> "Optional[str]":
    """The highest level that a CPU with these features reaches; None below ``x86-64-v1``."""
    reached = None
    for name, needed in LEVELS:
        if not all(flag in flags for flag in needed):
            break
        reached = name
    return reached


# macOS names its features as Intel's manuals do: ``sysctl machdep.cpu.features`` prints
# "FPU VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH DS ACPI MMX FXSR SSE SSE2 SS
# HTT TM PBE SSE3 PCLMULQDQ DTES64 MON DSCPL VMX EST TM2 SSSE3 FMA CX16 TPR PDCM SSE4.1 SSE4.2 x2APIC MOVBE
# POPCNT AES PCID XSAVE OSXSAVE SEGLIM64 TSCTMR AVX1.0 RDRAND F16C".
_DARWIN = {
    "sse3": "pni",
    "avx1.0": "avx",
    "lahf": "lahf_lm",
    "lzcnt": "abm",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "clfsh": "clflush",
    "htt": "ht",
    "rdwrfsgs": "fsgsbase",
    "em64t": "lm",
    "xd": "nx",
}


def linux_name(darwin: "str") -> "str":
    """Linux's name of a feature that macOS reports."""
    lower = darwin.lower()
    return _DARWIN.get(lower, lower.replace(".", "_"))
