"""One environment, several ways in: container, image, archive and unpacked root tell the same.

Two Debian releases, one with a virtual environment in the image, and distributions in both.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driftcheck.probes.static_python import LIVE_ONLY
from support.commands import driftcheck
from support.engine import Dockerd
from support.model_files import onnx, safetensors, tensor
from support.wheels import unpack, wheel

from driftcheck.explain import explain_pair
from driftcheck.findings import Impact
from driftcheck.snapshot import Snapshot, parse

pytestmark = pytest.mark.engine

# Sections that must be equal to the digest, whichever way they were measured.
EQUAL = ("packages", "system", "libraries", "programs", "artifacts")

PLAIN = """\
FROM {base}
COPY site /usr/lib/python3/dist-packages
COPY models /models
ENV OMP_NUM_THREADS=2
CMD ["python3", "-m", "http.server"]
"""
ENVIRONMENT = """\
FROM {base}
RUN python3 -m venv --without-pip /opt/venv && mkdir -p /srv/app && touch /srv/app/app.py
COPY site /site
COPY models /models
RUN mv /site/* $(echo /opt/venv/lib/python3.*/site-packages)
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /srv/app
USER 1234
CMD ["python", "app.py"]
"""


# A pickle that names a module which is there, one that is not, and one of a library that is not installed at all.
MODELS = {
    "m.pkl": b"\x80\x02cfirst\nf\ncfirst.inner\ng\ncxgboost.core\nBooster\n.",
    "m.onnx": onnx(external={"w.bin": (0, 4), "gone.bin": (0, 1)}),
    "w.bin": b"1234",
    "cut.safetensors": safetensors({"a": tensor("F32", 0, 8)}, b"1234"),
}


@contextlib.contextmanager
def image(engine: Dockerd, base: str, dockerfile: str, folder: Path) -> Iterator[str]:
    """An image with two distributions, one of which requires what the other is not."""
    site = folder / "site"
    unpack(wheel(folder / "wheels", "first", "1.0", requires=["second>=2"]), site)
    unpack(wheel(folder / "wheels", "second", "1.5"), site)
    files = {f"site/{file.relative_to(site)}": file.read_bytes() for file in site.rglob("*") if file.is_file()}
    files |= {f"models/{path}": content for path, content in MODELS.items()}
    name = f"drift/ways:{base.rpartition('/')[2].partition(':')[0]}"
    engine.build(name, dockerfile.format(base=base), files)
    with contextlib.closing(engine.api()) as api:
        try:
            yield name
        finally:
            api.remove_image(name, force=True)


def measure(engine: Dockerd, reference: str, *options: str) -> Snapshot:
    result = driftcheck("snapshot", reference, "--artifact", "/models", *options, environ=engine.environ)
    assert result.code == 0, result.err
    return parse(result.out.encode(), reference)


def ways(engine: Dockerd, name: str, folder: Path) -> dict[str, Snapshot]:
    saved, exported, root = folder / "image.tar", folder / "root.tar", folder / "root"
    root.mkdir()
    with contextlib.closing(engine.api()) as api, engine.running(name, ["sleep", "1000"], entrypoint=[]) as container:
        with saved.open("wb") as file:
            for piece in api.get_image(name):
                file.write(piece)
        with exported.open("wb") as file:
            for piece in api.export(container):
                file.write(piece)
    subprocess.run(["tar", "-C", str(root), "-xf", str(exported)], check=True)
    by_image = measure(engine, f"image:{name}")
    python = str(by_image.header["interpreter"]["path"])
    taken = {
        "image": by_image,
        "archive": measure(engine, f"archive:{saved}"),
        "rootfs": measure(engine, f"rootfs:{root}", "--python", python),
    }
    with engine.running(name) as container:
        taken["container"] = measure(engine, f"container:{container}", "--python", python)
    with engine.running(name) as container:
        with contextlib.closing(engine.api()) as api:
            api.stop(container, timeout=0)
        taken["stopped container"] = measure(engine, f"container:{container}", "--python", python)
    return taken


@pytest.mark.parametrize(("release", "dockerfile"), [("bookworm", ENVIRONMENT), ("bullseye", PLAIN)])
def test_one_environment_several_ways_in(
    engine: Dockerd, debian: Callable[[str], str], release: str, dockerfile: str, tmp_path: Path
) -> None:
    with image(engine, debian(release), dockerfile, tmp_path) as name:
        taken = ways(engine, name, tmp_path)
    first = taken["image"]
    packages = first.facts("packages")
    assert packages is not None
    assert {"first", "second"} <= set(packages["distributions"])
    models = first.facts("artifacts")
    assert models is not None
    assert set(models["files"]) == {f"/models/{path}" for path in MODELS}
    assert models["files"]["/models/m.pkl"]["pickle"]["missing_modules"] == {"xgboost.core": "xgboost"}
    for way, other in taken.items():
        assert other.header["interpreter"]["path"] == first.header["interpreter"]["path"], way
        for section in EQUAL:
            assert difference(first, other, section) == {}, (way, section)
        live = other.header["channel"] in {"image", "exec"}
        assert set(difference(first, other, "python")) <= (set() if live else set(LIVE_ONLY)), way
        if way in {"archive", "container", "stopped container"}:
            assert difference(first, other, "service") == {}, way
    # One environment answers as it answers, whichever way one looks. A way that runs nothing knows less of a user.
    for before, after in itertools.permutations(taken, 2):
        said = explain_pair(taken[before], taken[after])
        new = [found for found in said.findings if not found.also_in_baseline]
        assert [found.title for found in new if found.impact is Impact.BREAKS] == [], (before, after)


def difference(one: Snapshot, other: Snapshot, section: str) -> dict[str, Any]:
    """The facts of a section that differ, at the top level; everything, where one has no facts."""
    left, right = one.facts(section), other.facts(section)
    assert left is not None, one.sections[section].reason
    assert right is not None, other.sections[section].reason
    return {
        name: (left.get(name), right.get(name))
        for name in left.keys() | right.keys()
        if left.get(name) != right.get(name)
    }
