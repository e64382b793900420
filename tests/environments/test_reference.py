"""The grammar of references."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from driftcheck.environments import reference
from driftcheck.errors import InputError


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("host", "host", ""),
        ("-", "file", "-"),
        ("python:.venv/bin/python", "python", ".venv/bin/python"),
        ("container:web", "container", "web"),
        ("image:registry:5000/svc@sha256:abc", "image", "registry:5000/svc@sha256:abc"),
        ("archive:a:b.tar", "archive", "a:b.tar"),
        ("rootfs:/", "rootfs", "/"),
        ("ssh:user@node7", "ssh", "user@node7"),
        ("via:kubectl exec -i pod --", "via", "kubectl exec -i pod --"),
    ],
)
def test_a_reference(text: str, kind: str, name: str) -> None:
    assert reference.parse(text) == reference.Reference(kind, name, text)


def test_every_kind_has_a_module_that_measures() -> None:
    for module in set(reference.KINDS.values()):
        assert callable(importlib.import_module(module).measure), module
    for kind in reference.KINDS:
        assert kind == "file" or kind in reference.GRAMMAR


def test_a_file_wins_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("image:svc").write_text("{}")
    assert reference.parse("image:svc") == reference.Reference("file", "image:svc", "image:svc")


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """``driftcheck diff laptop.json <(ssh node7 python3 - < probe.py)``."""
    pipe = tmp_path / "63"
    os.mkfifo(pipe)
    assert reference.parse(str(pipe)).kind == "file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image:", "no image behind image:. For example: image:svc:1.4"),
        ("container: ", "no container behind container:"),
        (
            "docker:web",
            "there is no kind of reference called 'docker'. For an image: image:docker:web. A reference is host",
        ),
        ("nowhere.json", "no such file. A reference is host"),
        ("image:--privileged", "does not begin with -"),
        (".", "a directory, not a snapshot file"),
        ("file:x", "no such file"),
        ("", "'': no name of an environment. A reference is host"),
    ],
)
def test_what_is_none(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        reference.parse(text)
    assert message in str(caught.value)
