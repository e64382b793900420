"""Measure the probe ``libraries`` beside one ``ldd`` per file and beside a bare walk, in one run on one machine.

    python benchmarks/libraries.py --environment DIR [--rounds 5]

DIR is a virtual environment. The probe does the loader's search for every file, with symbol versions and symbols;
``ldd`` (one process each) is what tools do today, without symbols; the walk only lists the files and reads each
one's first page, which is the least that any tool must do. Processor seconds, children included; the median, and
the minimum in parentheses.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path

PROBE = Path(__file__).resolve().parents[1] / "probes" / "libraries.py"
_SHARED = re.compile(r"\.so(\.\d[\w.]*)?$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    python = str(given.environment / "bin" / "python")
    files = libraries(given.environment)
    ways: dict[str, Callable[[], object]] = {
        "probe `libraries`, a process of its own": lambda: quietly([python, str(PROBE)]),
        f"one `ldd` per file ({len(files)})": lambda: each_by_ldd(files),
        "a bare walk with the first page of each": lambda: [first_page(file) for file in libraries(given.environment)],
        "the interpreter alone": lambda: quietly([python, "-c", "pass"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds + 1):  # the first round warms the caches
        for name, way in ways.items():
            before = processor()
            way()
            if number:
                seconds[name].append(processor() - before)
    print("| way | processor seconds |\n| --- | --- |")
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.2f} ({min(found):.2f}) |")


def libraries(folder: Path) -> list[str]:
    return [
        os.path.join(top, name)  # noqa: PTH118 - the walk that is timed has no objects for each of 40,000 files
        for top, _, names in os.walk(folder)
        for name in names
        if ".so" in name and _SHARED.search(name)
    ]


def each_by_ldd(files: list[str]) -> None:
    for file in files:
        quietly(["ldd", file])


def first_page(path: str) -> bytes:
    with Path(path).open("rb", buffering=0) as file:
        return file.read(4096)


def quietly(command: list[str]) -> None:
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def processor() -> float:
    """Seconds of processor time of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
