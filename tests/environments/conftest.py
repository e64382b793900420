"""Engines and images, made once for all tests that need them (pytest --engine)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support import engine as engines
from support.engine import Dockerd


@pytest.fixture(scope="session")
def engine() -> Iterator[Dockerd]:
    """A dockerd of our own."""
    reason = engines.missing("dockerd", "debootstrap")
    if reason:
        pytest.skip(reason)
    with engines.dockerd() as started:
        yield started


@pytest.fixture(scope="session")
def debian(engine: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """``debian("bookworm")`` is the name of an image of that release, with Python."""
    made: dict[str, str] = {}

    def image(release: str) -> str:
        if release not in made:
            made[release] = f"drift/{release}:test"
            engine.import_root(engines.debian(release, tmp_path_factory.getbasetemp()), made[release])
        return made[release]

    return image


@pytest.fixture(scope="session")
def bookworm(debian: Callable[[str], str]) -> str:
    return debian("bookworm")


@pytest.fixture(scope="session")
def service_image(engine: Dockerd, bookworm: str) -> str:
    """An image with a virtual environment, a start script that exports a variable, and a user without a name."""
    name = "drift/service:test"
    engine.build(
        name,
        f"FROM {bookworm}\n"
        "RUN python3 -m venv --without-pip /opt/venv\n"
        "COPY start.sh app.py /app/\n"
        "ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin OMP_NUM_THREADS=2\n"
        "WORKDIR /app\n"
        "LABEL org.opencontainers.image.title=service\n"
        "EXPOSE 8080\n"
        "USER 1234\n"
        'ENTRYPOINT ["/app/start.sh"]\n'
        'CMD ["python", "app.py"]\n',
        {
            "start.sh": '#!/bin/sh\nexport MKL_NUM_THREADS=3\nexec "$@"\n',
            "app.py": "import time\ntime.sleep(10000)\n",
        },
    )
    return name


@pytest.fixture
def nothing_left(engine: Dockerd) -> Iterator[None]:
    """Fails the test if it leaves a container, an image or a volume in the engine."""
    before = engine.left()
    yield
    assert engine.left() == before
