"""Environments on machines that are not theirs: emulated ones, and images for another processor."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from support.commands import driftcheck
from support.engine import Dockerd

# e_machine of a program for AArch64, where its ELF header has it (elf(5)).
FOR_ARM = "printf '\\267\\000' | dd of=$(readlink -f /usr/bin/python3) bs=1 seek=18 conv=notrunc"


def test_an_emulated_processor_is_seen_from_inside(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-user is not installed")
    python = str(Path(sys.executable).resolve())
    taken = tmp_path / "emulated.json"
    answer = driftcheck("snapshot", f"via:{qemu} -cpu Nehalem", "--python", python, "-o", taken)
    assert answer.code == 0, answer.err
    machine = json.loads(taken.read_text())["sections"]["machine"]["facts"]
    assert (machine["emulation"], machine["level"]) == ("qemu-user", None)
    (target,) = json.loads(driftcheck("check", taken, "--format", "json").out)["targets"]
    (finding,) = [one for one in target["findings"] if one["code"] == "BOX009"]
    assert (finding["impact"], finding["confidence"]) == ("slows", "likely")


@pytest.mark.engine
@pytest.mark.usefixtures("nothing_left")
def test_an_image_for_another_processor_cannot_start(engine: Dockerd, bookworm: str, tmp_path: Path) -> None:
    """Its interpreter says that it is for AArch64; the engine's own words for that are compared."""
    node = tmp_path / "node.json"
    assert driftcheck("snapshot", "-o", node).code == 0
    name = "drift/arm:test"
    with contextlib.closing(engine.api()) as api:
        engine.build(name, f'FROM {bookworm}\nRUN {FOR_ARM}\nENTRYPOINT ["/usr/bin/python3.11"]\n')
        try:
            answer = driftcheck("check", f"image:{name}", "--on", node, "--format", "json", environ=engine.environ)
            assert answer.code == 1, answer.err
            (target,) = json.loads(answer.out)["targets"]
            (finding,) = [one for one in target["findings"] if one["code"] == "CPU004"]
            container = api.create_container(name, host_config=api.create_host_config(network_mode="none"))
            try:
                api.start(container)
                api.wait(container)
                said = api.logs(container).decode().strip()
            finally:
                api.remove_container(container, force=True, v=True)
        finally:
            api.remove_image(name, force=True)
    assert said == finding["predicted_error"]
