"""Small valid snapshots for tests of rules.

A test of a rule is three lines::

    packages = distributions(distribution("a", requires={"b>=2": ""}), distribution("b", "1.0"))
    (found,) = findings("PKG001", packages=packages)
    assert found.title == "a 1.0 requires b>=2, but 1.0 is installed"

Facts are validated against the schema of their section, so a test cannot feed what no probe could write.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from driftcheck.probes.common import digest

from driftcheck import validation
from driftcheck.findings import Finding
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction, Drift
from driftcheck.snapshot import Section, Snapshot

SITE = "/venv/lib/python3.11/site-packages"

PYTHON: dict[str, Any] = {
    "implementation": "cpython",
    "version": "3.11.7",
    "cache_tag": "cpython-311",
    "soabi": "cpython-311-x86_64-linux-gnu",
    "extension_suffixes": [".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so"],
    "free_threaded": False,
    "gil_enabled": True,
    "debug": False,
    "bits": 64,
    "byteorder": "little",
    "platform": {
        "system": "linux",
        "machine": "x86_64",
        "tag": "linux-x86_64",
        "libc": "glibc",
        "libc_version": "2.36",
    },
    "executable": "/venv/bin/python",
    "base_executable": "/usr/bin/python3.11",
    "prefix": "/venv",
    "base_prefix": "/usr",
    "environment": {
        "kind": "venv",
        "creator": "venv",
        "system_site_packages": False,
        "externally_managed": False,
    },
    "shared_library": None,
    "search_path": ["/usr/lib/python3.11", SITE],
    "search_path_files": {},
    "shadowed_modules": {},
    "missing_modules": {},
    "flags": {},
    "tags": {
        "interpreters": ["cp311-cp311", "cp311-abi3", "cp311-none", "cp310-abi3", "py311-none", "py3-none"],
        "platforms": [
            "manylinux_2_36_x86_64",
            "manylinux_2_17_x86_64",
            "manylinux2014_x86_64",
            "linux_x86_64",
        ],
    },
}

LAYERS = {"python": "image", "packages": "image", "system": "image", "programs": "image"} | {
    "variables": "run",
    "limits": "run",
    "machine": "machine",
}


def python(**facts: Any) -> dict[str, Any]:
    """Facts of section ``python``: CPython 3.11 on Linux with glibc 2.36, with what a test says otherwise.

    An object among the facts is merged: ``python(platform={"system": "win32"})``.
    """
    return _merged(PYTHON, facts)


def distribution(name: str, version: str | None = "1.0", **facts: Any) -> dict[str, Any]:
    """One record of ``packages.distributions``, with an import name like its own."""
    module = name.replace("-", "_").replace(".", "_").lower()
    record: dict[str, Any] = {
        "name": name,
        "version": version,
        "location": SITE,
        "metadata": f"{module}-{version}.dist-info",
        "requires": {},
        "requires_python": None,
        "extras": {},
        "tags": {"py3-none-any": True},
        "installer": "pip",
        "requested": True,
        "direct_url": None,
        "modules": {module: True},
        "record": {"digest": f"sha256:{name}-{version}", "files": 3},
    }
    return record | facts


def distributions(*records: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Facts of section ``packages`` with these records; ``shared_files`` and ``conda`` as keywords."""
    keyed = {record["name"].lower().replace("_", "-").replace(".", "-"): record for record in records}
    return {"distributions": keyed, "shared_files": {}, "conda": {}} | facts


def snapshot(label: str = "test", **sections: dict[str, Any]) -> Snapshot:
    """A snapshot with these sections' facts, each checked against its schema."""
    for name, facts in sections.items():
        check_facts(name, facts)
    return Snapshot(
        {"label": label},
        {
            name: Section(name, LAYERS.get(name, "image"), "ok", None, [], facts, digest(facts))
            for name, facts in sections.items()
        },
    )


def check_facts(section: str, facts: dict[str, Any]) -> None:
    """Fail the test where facts are not valid against ``schemas/sections/SECTION.json``."""
    _validator(section).validate(facts)


@functools.cache
def _validator(section: str) -> Any:
    import jsonschema  # noqa: PLC0415 - slow to import, and most test modules need none

    schema = validation.schema("snapshot")["properties"]["sections"]["properties"][section]
    return jsonschema.Draft202012Validator(schema["properties"]["facts"])


def findings(
    code: str, *, baseline: Snapshot | dict[str, Any] | None = None, **target: dict[str, Any]
) -> list[Finding]:
    """What one rule concludes of a target, given as facts by section; ``python`` is there unless a test says
    so.

    ``baseline`` is a snapshot or ``{section: facts}``. A drift rule needs one. The rule must find every
    section that it says it reads, and every path of its evidence must lead to the fact that it quotes.
    """
    rule = next(rule for rule in all_rules() if rule.code == code)
    after = snapshot("target", **({"python": python()} | target))
    before = baseline
    if isinstance(before, dict):
        before = snapshot("baseline", **({"python": python()} | before))
    assert all(name in after.sections for name in rule.reads), f"{code} reads {rule.reads}"
    if isinstance(rule, Drift):
        assert before is not None, f"{code} is a drift: it needs a baseline"
        found = list(rule.check(before, after))
    else:
        assert isinstance(rule, Contradiction)
        found = list(rule.check(after, before))
    for finding in found:
        _check_evidence(finding, {"baseline": before, "target": after})
    return found


def _check_evidence(finding: Finding, sides: dict[str, Snapshot | None]) -> None:
    assert finding.evidence, f"{finding.code} gives no evidence"
    for entry in finding.evidence:
        side = sides[entry.side]
        assert side is not None
        value: Any = side.facts(entry.path[0])
        for key in entry.path[1:]:
            assert isinstance(value, dict), f"{entry.path} leads nowhere"
            assert key in value, f"{entry.path} leads nowhere"
            value = value[key]
        assert value == entry.value


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in more.items():
        inside = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if inside else value
    return result
