"""Measure the budgets of the design beside what people use today, in one run on one machine.

    python benchmarks/budgets.py --environment DIR [--other DIR] [--rounds 7]

DIR is a virtual environment; the README's table comes from one with torch, scikit-learn, pandas, onnxruntime, OpenCV,
transformers and FastAPI. Each command is run in turn, round by round, so that a slow moment of the machine meets
all alike; the table gives the median, and the minimum in parentheses. driftcheck has to be installed, not editable:
an editable install pays for its import hook. Where there are two processors, a snapshot measures on both
(probes/aside.py); put `taskset -c 0` before the command to see it on one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    python = str(given.environment / "bin" / "python")
    other = str((given.other or given.environment) / "bin" / "python")
    driftcheck = str(Path(sys.executable).parent / "driftcheck")
    with tempfile.TemporaryDirectory() as folder:
        one, two = f"{folder}/one.json", f"{folder}/two.json"
        for reference, path in ((python, one), (other, two)):
            subprocess.run(
                [driftcheck, "snapshot", f"python:{reference}", "-o", path],
                check=True,
                stderr=subprocess.DEVNULL,
            )
        commands = {
            "`driftcheck snapshot`": [driftcheck, "snapshot", f"python:{python}", "-o", f"{folder}/new.json"],
            "`pip inspect` (packages alone)": [python, "-m", "pip", "inspect"],
            "`python -m torch.utils.collect_env`": [python, "-m", "torch.utils.collect_env"],
            "`driftcheck diff A.json B.json`": [driftcheck, "diff", one, two],
            "`driftcheck check A.json`": [driftcheck, "check", one],
            "`driftcheck --version`": [driftcheck, "--version"],
            "`driftcheck --help`": [driftcheck, "--help"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.rounds + 1):  # the first round warms the caches
            for name, command in commands.items():
                seconds[name].append(timed(command))
        memory = peak_memory(commands["`driftcheck snapshot`"])
        print("| command | seconds |\n| --- | --- |")
        for name, found in seconds.items():
            print(f"| {name} | {statistics.median(found[1:]):.2f} ({min(found[1:]):.2f}) |")
        print(f"\nProcessors: {len(os.sched_getaffinity(0))}")
        print(f"Peak memory of a snapshot, driftcheck and the interpreter under test each: {memory} MB at the most")
        print(f"Size of a snapshot: {Path(one).stat().st_size / 1000:.0f} kB")


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, **quiet)  # type: ignore[call-overload]
    return time.perf_counter() - started


def peak_memory(command: list[str]) -> int:
    """The largest resident set of the command and its children, in MB (Linux counts in KiB)."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    answer = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return int(answer.stdout.split()[-1]) * 1024 // 1_000_000


if __name__ == "__main__":
    main()
