"""Measure the probes cuda and gpu on a machine without a GPU, with a 1 GB CUDA library among the files.

    python benchmarks/cuda.py --environment DIR [--rounds 9]

DIR is a virtual environment. The library is made here: the containers of a real one (tests/probes/fatbin_fixtures),
each with as much code as a large library has for it, so that 700 containers and 5,000 entries come to 1 GB, as in
libtorch_cuda.so. The code itself is a hole in the file: nothing reads it. The budget of the design is 0.05 s for both
probes together; the table gives the median, and the minimum in parentheses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURE = Path(__file__).parent.parent / "tests" / "probes" / "fatbin_fixtures" / "both.so"
ARCHITECTURES = (50, 60, 70, 75, 80, 86, 90)
CONTAINERS = 700
SIZE = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        make_distribution(site)
        print("| environment | cuda | gpu |\n| --- | --- | --- |")
        for title, path in (("as it is", ""), ("with a 1 GB CUDA library", str(site))):
            seconds: dict[str, list[float]] = {"cuda": [], "gpu": []}
            for _ in range(given.rounds + 1):  # the first round warms the caches
                took, found = measure(given.environment, path, Path(folder) / "snapshot.json")
                assert bool(path) == found, "the library was not read"
                for name, values in seconds.items():
                    values.append(took[name])
            cells = [f"{statistics.median(values[1:]):.4f} ({min(values[1:]):.4f})" for values in seconds.values()]
            print(f"| {title} | {' | '.join(cells)} |")


def measure(environment: Path, path: str, output: Path) -> tuple[dict[str, float], bool]:
    """Seconds of each section, and whether the library's device code was read."""
    program = "from driftcheck.cli import main; main()"
    command = ["snapshot", f"python:{environment}", "-o", str(output)]
    subprocess.run(
        [sys.executable, "-P", "-c", program, *command],
        check=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""},
    )
    document = json.loads(output.read_text())
    read = document["sections"]["cuda"]["facts"]["device_code"]
    return document["header"]["seconds"], any("libbig_cuda" in name for name in read)


def make_distribution(site: Path) -> None:
    """A distribution ``big`` whose one library carries 1 GB of device code."""
    package, metadata = site / "big", site / "big-1.0.dist-info"
    package.mkdir(parents=True)
    metadata.mkdir()
    (package / "__init__.py").write_text("")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: big\nVersion: 1.0\n\n")
    library = package / "libbig_cuda.so"
    make_library(library)
    (metadata / "RECORD").write_text(f"big/__init__.py,,0\nbig/libbig_cuda.so,,{library.stat().st_size}\n")


def make_library(path: Path) -> None:
    """The fixture, with its section .nv_fatbin at the end of the file and 1 GB long."""
    data = bytearray(FIXTURE.read_bytes())
    start = (len(data) + 4095) & ~4095
    entry_size = SIZE // (CONTAINERS * len(ARCHITECTURES)) & ~7
    headers, names_index = struct.unpack_from("<Q", data, 0x28)[0], struct.unpack_from("<H", data, 0x3E)[0]
    number = struct.unpack_from("<H", data, 0x3C)[0]
    names = struct.unpack_from("<Q", data, headers + 64 * names_index + 0x18)[0]
    with path.open("wb") as file:
        position = start
        for _ in range(CONTAINERS):
            file.seek(position)
            file.write(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(ARCHITECTURES) * entry_size))
            for index, architecture in enumerate(ARCHITECTURES):
                file.seek(position + 16 + index * entry_size)
                code = entry_size - 64
                file.write(struct.pack("<HHIQIIHHIIIQQQ", 2, 0x101, 64, code, 0, 0, 7, 1, architecture, 0, 0, 1, 0, 0))
            position += 16 + len(ARCHITECTURES) * entry_size
        file.truncate(position)
        for index in range(number):
            header = headers + 64 * index
            name = names + struct.unpack_from("<I", data, header)[0]
            if data[name : data.index(b"\0", name)] == b".nv_fatbin":
                struct.pack_into("<QQ", data, header + 0x18, start, position - start)
        file.seek(0)
        file.write(data)


if __name__ == "__main__":
    main()
