"""Rules about containers on real ones: what is said of a container or an image, and what happens in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.commands import driftcheck
from support.engine import Dockerd

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("nothing_left")]

# A model that is read into memory: more than the limit, less than the machine has.
LOAD = "print('loading', flush=True); model = bytearray(256 << 20); print('loaded')"


def findings(code: str, *arguments: str | Path, engine: Dockerd) -> list[dict[str, Any]]:
    result = driftcheck(*arguments, "--format", "json", environ=engine.environ)
    (target,) = json.loads(result.out)["targets"]
    return [finding for finding in target["findings"] if finding["code"] == code]


def ended(engine: Dockerd, name: str, **host: Any) -> tuple[int, str]:
    """(exit code, what was printed) of the service of an image."""
    with contextlib.closing(engine.api()) as api:
        config = api.create_host_config(network_mode="none", **host)
        container = api.create_container(name, host_config=config)["Id"]
        try:
            api.start(container)
            return api.wait(container)["StatusCode"], api.logs(container).decode()
        finally:
            api.remove_container(container, force=True, v=True)


@contextlib.contextmanager
def built(engine: Dockerd, dockerfile: str, files: dict[str, str]) -> Iterator[str]:
    name = "drift/rules:test"
    engine.build(name, dockerfile, files)
    try:
        yield name
    finally:
        with contextlib.closing(engine.api()) as api:
            api.remove_image(name, force=True)


def test_box002_a_model_that_does_not_fit_into_the_limit(engine: Dockerd, bookworm: str, tmp_path: Path) -> None:
    limit = {"mem_limit": "128m", "memswap_limit": "128m"}
    baseline = tmp_path / "baseline.json"
    with engine.running(bookworm, ["sleep", "1000"]) as free:
        taken = driftcheck("snapshot", f"container:{free}", "-o", baseline, environ=engine.environ)
        assert taken.code in {0, 3}, taken.err
        same = findings("BOX002", "diff", baseline, f"container:{free}", engine=engine)
    with engine.running(bookworm, ["sleep", "1000"], host=limit) as small:
        found = findings("BOX002", "diff", baseline, f"container:{small}", engine=engine)
    (memory,) = [one for one in found if one["subject"]["name"] == "memory"]
    assert (memory["impact"], memory["confidence"]) == ("breaks", "possible")
    assert memory["title"].startswith("Memory is limited to 0.1 GB where the baseline has ")
    assert same == []
    with built(engine, f'FROM {bookworm}\nCMD ["python3", "-c", "{LOAD}"]\n', {}) as image:
        assert ended(engine, image) == (0, "loading\nloaded\n")
        assert ended(engine, image, **limit) == (137, "loading\n")


@pytest.mark.parametrize(("path", "starts"), [("/usr/bin:/bin", False), ("/opt/venv/bin:/usr/bin:/bin", True)])
def test_box010_a_virtual_environment_that_is_not_activated(
    engine: Dockerd, bookworm: str, path: str, starts: bool
) -> None:
    metadata = "Metadata-Version: 2.1\nName: served\nVersion: 1.0\n"
    dockerfile = (
        f"FROM {bookworm}\nRUN python3 -m venv --without-pip /opt/venv\n"
        "COPY METADATA /opt/venv/lib/python3.11/site-packages/served-1.0.dist-info/METADATA\n"
        "COPY served.py /opt/venv/lib/python3.11/site-packages/served.py\n"
        "COPY app.py /app/app.py\n"
        f'ENV PATH={path}\nWORKDIR /app\nCMD ["python3", "app.py"]\n'
    )
    files = {"METADATA": metadata, "served.py": "print('served')\n", "app.py": "import served\n"}
    with built(engine, dockerfile, files) as image:
        found = findings("BOX010", "check", f"image:{image}", engine=engine)
        code, printed = ended(engine, image)
    if starts:
        assert (code, printed, found) == (0, "served\n", [])
        return
    assert code == 1
    assert printed.splitlines()[-1] == "ModuleNotFoundError: No module named 'served'"
    (one,) = found
    assert (one["impact"], one["confidence"]) == ("breaks", "likely")
    assert [fix["text"] for fix in one["fix"]] == ['ENV PATH="/opt/venv/bin:$PATH"']
