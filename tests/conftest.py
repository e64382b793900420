"""What all tests share: options, and the rule that CI accepts no skip without a written reason."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# Marker, and option of the same name, to what such a test needs. CI runs them all.
HEAVY = {
    "browser": "opens Chromium",
    "engine": "starts a container engine",
    "network": "needs the package registry",
}

ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--browser",
        action="store_true",
        help="run the tests that open reports in headless Chromium (chromium, chromedriver)",
    )
    parser.addoption(
        "--network",
        action="store_true",
        help="run the tests that install distributions from the package registry",
    )
    parser.addoption(
        "--engine",
        action="store_true",
        help="run the tests that start a container engine (root, dockerd, debootstrap)",
    )
    parser.addoption(
        "--no-unexplained-skips",
        action="store_true",
        help=f"fail when a test is skipped for a reason that is not in {ALLOWED_SKIPS.name} (CI)",
    )


def pytest_configure() -> None:
    """No setting of the person who runs the tests reaches what is measured."""
    kept = {"DRIFTCHECK_TEST_ROOTS"}
    settings = {"NO_COLOR", "FORCE_COLOR"}
    for name in set(os.environ) - kept:
        if name.startswith(("PYTHON", "DRIFTCHECK_", "VIRTUAL_ENV", "CONDA_")) or name in settings:
            del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, reason in HEAVY.items():
        if not config.getoption(f"--{marker}"):
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"{reason}: pytest --{marker}"))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Turn a skip whose reason nobody wrote down into a failure, where asked to."""
    yield
    if not session.config.getoption("--no-unexplained-skips") or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    allowed = [line for line in ALLOWED_SKIPS.read_text().splitlines() if line and not line.startswith("#")]
    for report in reporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(re.search(pattern, reason) for pattern in allowed):
            reporter.write_line(f"a skip that is not in {ALLOWED_SKIPS.name}: {report.nodeid}: {reason}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
