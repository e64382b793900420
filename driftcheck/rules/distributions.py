"""What rules ask of the installed distributions, and the lines for pip that mend them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from driftcheck.findings import Fix
from driftcheck.rules import requirements as req
from driftcheck.rules.base import lookup
from driftcheck.snapshot import Snapshot

DISTRIBUTIONS = ("packages", "distributions")
PIP = "python -m pip"
SPECIFICATIONS = "https://packaging.python.org/en/latest/specifications"


def distributions_of(snapshot: Snapshot | None) -> dict[str, Any]:
    """Records by normalised name; empty where packages were not measured."""
    facts = snapshot.facts("packages") if snapshot is not None else None
    found: dict[str, Any] = (facts or {}).get("distributions", {})
    return found


def shared_of(snapshot: Snapshot) -> dict[str, Any]:
    found: dict[str, Any] = (snapshot.facts("packages") or {}).get("shared_files", {})
    return found


def titled(record: dict[str, Any]) -> str:
    """``torch 2.13.0+cpu``: the name and the version that the code itself states, where it states one."""
    version = record.get("module_version") or req.version_of(record) or "(no version)"
    return f"{record['name']} {version}"


def pip_fix(target: Snapshot, *commands: str) -> tuple[Fix, ...]:
    """Lines for pip, with a word where pip refuses to write (PEP 668)."""
    fixes = [Fix("pip", f"{PIP} {command}") if _PLAIN.fullmatch(command) else _ODD for command in commands]
    if lookup(target, ("python", "environment", "externally_managed")):
        fixes.append(
            Fix(
                "advice",
                "This interpreter is externally managed, so pip refuses to write there: use the package manager of "
                "the system, or a virtual environment (python3 -m venv), and install inside it.",
            )
        )
    return tuple(fixes)


# Names come out of measured environments, and a line that is to be typed must not mean more than pip to a shell.
_PLAIN = re.compile(r"""(?:[\w.@:/+=,\[\]~!* -]|"[\w.@:/+=,\[\]~!*<> -]*")+""", re.ASCII)
_ODD = Fix("advice", "Its name or version is none that pip can have written. Make the environment anew.")


def torch_from(target: Snapshot, accelerator: str, version: str = "") -> tuple[Fix, ...]:
    """Installing a build of torch for an accelerator (``cu126``), which only PyTorch's own indexes have."""
    wanted = f"torch=={version}+{accelerator}" if version else "torch"
    note = f"Take it from the index that PyTorch publishes for {accelerator}: pass it as --index-url."
    return (*pip_fix(target, f"install --force-reinstall {wanted}"), Fix("advice", note))


def pinned(record: dict[str, Any]) -> str:
    """``numpy==2.1.0``, or the bare name where the version is not known."""
    version = req.version_of(record)
    return f"{record['name']}=={version}" if req.parsed(version) is not None else str(record["name"])


_CODE = re.compile(r"\.(?:py|pyd|dll|dylib)$|\.so(?:\.|$)")
ASIDE = re.compile(r"(?:^|/)(?:tests?|testing|docs?|examples?|benchmarks?)/|(?:^|/)(?:test_[^/]*|conftest)\.py$")


def is_code(path: str) -> bool:
    """Whether an import may need this file: not tests, stubs, documents, or what lies outside of the
    location.
    """
    outside = path.startswith(("..", "/")) or path[1:2] == ":"
    return not outside and bool(_CODE.search(path)) and not ASIDE.search(path)


def without_bytecode(files: dict[str, Any] | None) -> dict[str, Any]:
    """A list of files less the compiled ones, which Python writes anew as it pleases (numpy 1.26 ships one)."""
    if files is None:
        return {"count": 0, "examples": {}}
    kept = {path: value for path, value in files["examples"].items() if not path.endswith(".pyc")}
    return {"count": files["count"] - len(files["examples"]) + len(kept), "examples": kept}


def tags_text(record: dict[str, Any]) -> str:
    tags = sorted(record["tags"])
    return ", ".join(tags[:3]) + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")


def source_of(record: dict[str, Any]) -> str | None:
    source = record["direct_url"]
    return " ".join(filter(None, (source["url"], source.get("commit")))) if source else None


def conda_build(snapshot: Snapshot, name: str) -> str | None:
    record = lookup(snapshot, ("packages", "conda", name))
    return f"{record['version']} {record['build']} from {record['channel'] or 'a file'}" if record else None


def is_within(location: str, prefixes: Iterable[str | None]) -> bool:
    return any(
        prefix and (location == prefix or location.startswith(prefix.rstrip("/\\") + "/")) for prefix in prefixes
    )


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
