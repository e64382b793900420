"""An NVIDIA driver for tests: what its kernel module and its libraries would put into a root directory.

The libraries are compiled from stubs that answer the documented functions of NVML and of the driver API; options make
them hang, crash, lack functions or answer with an error.
"""

# ruff: noqa: E501 (lines of real files are quoted whole)

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
from driftcheck.probes import common, gpu

PROC_535 = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023
GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)
"""
PROC_OPEN_570 = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16-I3-B03-4-3)  Thu Jan 23 22:37:51 UTC 2025
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""

# The documented functions of NVML and of the driver API, by the signatures of nvml.h and cuda.h.
STUB = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>
typedef void *Device;
#ifndef CODE
#define CODE 0
#endif
int nvmlInit_v2(void) {
  printf("noise of the library\n"); fflush(stdout);
#ifdef HANG
  for (;;) pause();
#endif
#ifdef CRASH
  raise(SIGSEGV);
#endif
  return CODE;
}
int nvmlInitWithFlags(unsigned flags) { return nvmlInit_v2(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code ? "Driver/library version mismatch" : "Success"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) {
  if (CODE) return CODE;
  snprintf(text, length, "535.104.05"); return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12020; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) { *device = (Device)(long)(index + 1); return 0; }
int nvmlDeviceGetName(Device device, char *text, unsigned length) {
  snprintf(text, length, (long)device > 100 ? "NVIDIA A100-SXM4-40GB MIG 1g.5gb" : "NVIDIA A100-SXM4-40GB"); return 0;
}
int nvmlDeviceGetMemoryInfo(Device device, unsigned long long *memory) {
  memory[0] = (long)device > 100 ? 4864ULL << 20 : 40960ULL << 20; memory[1] = memory[0] - 4096; memory[2] = 4096; return 0;
}
#ifndef OLD
int nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) { *major = 8; *minor = 0; return 0; }
int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
  *current = *pending = (long)device == 2; return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *part) {
  if (index > 0) return 6;
  *part = (Device)101; return 0;
}
int nvmlDeviceGetGpuFabricInfo(Device device, unsigned char *info) {
  memset(info, 0xAB, 16); memset(info + 16, 0, 12); info[24] = (long)device == 1 ? 3 : 0; return 0;
}
int nvmlDeviceGetUUID(Device device, char *text, unsigned length) { abort(); }
int nvmlDeviceGetSerial(Device device, char *text, unsigned length) { abort(); }
#endif
"""
CUDA = """
int cuDriverGetVersion(int *version) { *version = LEVEL; return 0; }
int cuInit(unsigned flags) { return INIT; }
"""
Build = Callable[..., Path]


def builder(folder: Path) -> Build:
    """A function that compiles a source with options, once each."""
    built: dict[tuple[str, ...], Path] = {}

    def compiled(source: str, *options: str) -> Path:
        key = (source, *options)
        if key not in built:
            built[key] = folder / f"{len(built)}.so"
            subprocess.run(
                ["gcc", "-shared", "-fPIC", "-w", *options, "-x", "c", "-", "-o", built[key]],
                input=source,
                text=True,
                check=True,
            )
        return built[key]

    return compiled


class Machine:
    """A root with what the kernel and the driver would put there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def library(self, name: str, source: Path, folder: str = "/usr/lib64") -> None:
        """``libcuda.so.535.104.05`` with a link ``libcuda.so.1``, as the installer makes it."""
        place = self.root / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(source.read_bytes())
        (place / (name.split(".so", maxsplit=1)[0] + ".so.1")).symlink_to(name)

    def driver(self, text: str = PROC_535) -> None:
        self.file("/proc/driver/nvidia/version", text)
        for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
            self.file("/dev/" + name, mode=0o666)

    def place(self, **environ: str) -> common.Place:
        return common.Place(root=str(self.root), environ=environ, search_path=[], live=True)

    def section(self, **environ: str) -> dict[str, Any]:
        section = common.section(gpu, self.place(**environ))
        schema = Path(__file__).parents[2] / "schemas" / "sections" / "gpu.json"
        jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(section["facts"])
        return section

    def nvidia(self, **environ: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.section(**environ)["facts"]["nvidia"]
        return facts
