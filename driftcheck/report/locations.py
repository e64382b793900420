"""The file at which CI systems show findings: they expect code, and an environment has none.

It is what a person would edit to mend the environment: the policy, else a lock file, the requirements, the
Dockerfile, the project file or what CI runs (GitHub takes no findings without a file). It is chosen when a report
is made, and stands in the report, so that the saved report renders to the same bytes elsewhere.
"""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path, PurePosixPath

# What states the environment most exactly comes first.
_CANDIDATES = (
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "pylock.toml",
    "Pipfile.lock",
    "conda-lock.yml",
    "requirements.lock",
    "requirements.txt",
    "requirements/base.txt",
    "environment.yml",
    "environment.yaml",
    "Dockerfile",
    "Containerfile",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
)
# Of the root of the repository.
_WORKFLOWS = (".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml", "Jenkinsfile")
_LIMIT = 400


def choose(policy: str | None, directory: Path) -> str | None:
    """The file to show findings at, relative to the repository around ``directory``, with slashes.

    ``policy`` is the policy's file, absolute or relative to ``directory``. A file outside of the repository (of
    ``directory``, where no repository is around it) is never taken; None where there is no file to take.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100 - resolve() would follow links out of the repository
    root = next((place for place in (directory, *directory.parents) if (place / ".git").exists()), directory)
    named = (directory / name for name in ([policy] if policy else []) + list(_CANDIDATES))
    workflows = (path for pattern in _WORKFLOWS for path in sorted(root.glob(pattern)))
    for candidate in chain(named, workflows):
        path = Path(os.path.normpath(candidate))
        if path.is_relative_to(root) and path.is_file():
            found = sound(path.relative_to(root).as_posix())
            if found:
                return found
    return None


def sound(location: str | None) -> str | None:
    """The location where it is one: a relative path downwards, of signs that can be seen; else None.

    A saved report is anybody's work, and what it calls a location goes into annotations and URIs.
    """
    if not location or len(location) > _LIMIT or not location.isprintable() or re.search(r"[\\:]|^/|^~", location):
        return None
    return None if ".." in PurePosixPath(location).parts else location
