"""Family GPU: the translator that Triton, and so torch.compile, calls when a kernel is first used."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.knowledge import cuda
from driftcheck.knowledge import gpu_libraries as known
from driftcheck.rules import gpu_facts as gpu
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.distributions import distributions_of, pip_fix
from driftcheck.snapshot import Snapshot

TRITON = ("cuda", "tools", "triton")


class GPU031(Contradiction):
    """Triton is installed for CUDA, and has no ptxas.

    Compares: the programs beside Triton (triton/backends/nvidia/bin), or the one that TRITON_PTXAS_PATH names, with
    what it needs.

    Why: Triton translates each kernel to PTX and calls ptxas for the rest. Its wheels bring it; builds of Linux
    distributions, and images that were slimmed, do not.

    See: `RuntimeError: Cannot find ptxas` from the first kernel, so from torch.compile, vLLM and flash attention in
    Triton.

    Decided: Triton and a framework for CUDA are installed and neither place has an executable ptxas: breaks, likely.

    Fix: reinstall triton, or name another: TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas.

    Limits: before Triton 2.1 its place is not known.
    """

    code = "GPU031"
    name = "triton-without-ptxas"
    reads = ("cuda",)
    references = (
        "https://github.com/triton-lang/triton/blob/main/python/triton/knobs.py",
        "https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        builds = gpu.builds(target)
        if "triton" not in builds or not gpu.chosen_for_cuda(target) or "ptxas" in (lookup(target, TRITON) or {}):
            return
        if builds.get("torch", {}).get("accelerator") not in {None, "cuda"}:
            return  # Triton of ROCm or of Intel has none
        other = lookup(target, ("cuda", "tools", "ptxas"))
        record = distributions_of(target).get("triton")
        fixes = [Fix("variable", f"TRITON_PTXAS_PATH={shlex.quote(other['path'])}")] if other else []
        if record is not None:
            fixes.extend(pip_fix(target, "install --force-reinstall --no-deps triton=={}".format(record["version"])))
        version = builds["triton"]["version"]
        yield self.finding(
            Impact.BREAKS,
            Confidence.LIKELY,
            f"Triton {version or ''} has no ptxas".replace("  ", " "),
            Subject("program", "ptxas"),
            "It is neither beside Triton nor named by TRITON_PTXAS_PATH."
            + (f" {other['path']} is on PATH, where Triton does not look." if other else ""),
            predicted_error="RuntimeError: Cannot find ptxas",
            evidence=[
                at(target, "target", *TRITON),
                at(target, "target", "cuda", "builds", "triton", "version"),
            ],
            fix=fixes or [Fix("variable", "TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas")],
        )


class GPU032(Contradiction):
    """The ptxas that Triton calls does not know a GPU of this machine.

    Compares: the CUDA that Triton's ptxas comes from with the compute capability of the devices.

    Why: ptxas makes machine code for the devices of its time. Frameworks run on a newer GPU all the same, with code of
    their own; what Triton compiles on the spot does not.

    See: `ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'`, inside of a PTXASError or an
    `Internal Triton PTX codegen error`.

    Decided: by the table of what each ptxas lists: no ptxas of Triton knows the device: breaks, likely. Newer Tritons
    have two (ptxas and ptxas-blackwell), and one that knows it is enough here.

    Fix: TRITON_PTXAS_PATH with the ptxas of a toolkit that knows the device, or a newer Triton.

    Limits: devices that the table does not list are not judged.
    """

    code = "GPU032"
    name = "ptxas-does-not-know-device"
    reads = ("cuda", "gpu")
    references = (
        "https://github.com/triton-lang/triton/issues/8539",
        "https://github.com/triton-inference-server/server/issues/8632",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        programs = {
            name: (program["version"], _toolkit(program["version"]))
            for name, program in sorted((lookup(target, TRITON) or {}).items())
        }
        toolkits = [toolkit for _, toolkit in programs.values()]
        if not toolkits or None in toolkits:
            return
        for number, capability in gpu.capabilities(target).items():
            known_by = [known.ptxas_knows(capability, toolkit) for toolkit in toolkits if toolkit]
            if any(answer is not False for answer in known_by):
                continue
            newest = max(toolkit for toolkit in toolkits if toolkit)
            row = next(row for row in known.ptxas_devices() if row.capability == capability)
            last = row.last if row.last is not None and newest > row.last else None
            name = gpu.devices(target)[number]["name"] or f"device {number}"
            target_name = f"sm_{capability[0]}{capability[1]}{'a' if capability >= (9, 0) else ''}"
            wanted = f"at most {cuda.spelled(last)}" if last else f"{cuda.spelled(row.first or newest)} or newer"
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"Triton's ptxas of CUDA {cuda.spelled(newest)} does not know {name} (compute capability "
                f"{cuda.spelled(capability)})",
                Subject("program", "ptxas"),
                f"ptxas knows {target_name.rstrip('a')} in CUDA {wanted}. What Triton compiles for this device fails.",
                predicted_error=f"ptxas fatal   : Value '{target_name}' is not defined for option 'gpu-name'",
                evidence=[
                    *(at(target, "target", *TRITON, program, "version") for program in programs),
                    at(target, "target", *gpu.on_device(number, "compute_capability")),
                ],
                fix=[
                    Fix("advice", f"TRITON_PTXAS_PATH= with the ptxas of CUDA {wanted}."),
                    *(() if last else pip_fix(target, "install --upgrade triton")),
                ],
            )
            return


def _toolkit(version: str | None) -> tuple[int, int] | None:
    """``12.9.86`` -> (12, 9)."""
    parts = (version or "").split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts[:2]):
        return None
    return int(parts[0]), int(parts[1])
