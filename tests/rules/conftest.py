"""What the tests of family GPU share: a machine below a directory, and the driver libraries that gcc makes for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.driver import Build, Machine, builder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return builder(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(sys, "platform", "linux")
    return Machine(tmp_path)
