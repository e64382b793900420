"""Family LIB: what was predicted of imports, against what happened when somebody tried them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import shared_objects as so
from driftcheck.rules.base import Contradiction, at
from driftcheck.rules.distributions import distributions_of
from driftcheck.rules.importing import Standing, standing_of
from driftcheck.rules.wheels import req_name
from driftcheck.snapshot import Snapshot


class LIB012(Contradiction):
    """An import that was tried fails, or succeeds, against what the files say.

    Compares: what --try-imports recorded of each module with what is predicted of the files below its name and of
    the distributions that it requires.

    Why: an import is the truth. One that fails breaks whatever needs it, whatever was predicted; one that succeeds
    although a file below it cannot be loaded shows that nothing imports that file, or that something made it load.

    See: the error of the import itself.

    Decided: it failed and no file explains the text: breaks, certain. It succeeded and a file below the name was
    predicted to fail, and its package was not seen to do without it: a note, certain. It printed _ARRAY_API not
    found: breaks, likely, since what needs NumPy fails later. An import that ended as predicted is no finding here;
    the prediction is one.

    Fix: by the error; compare with --try-imports on the baseline.

    Limits: imports are tried only where somebody asks for it, each alone: another order may end otherwise.
    """

    code = "LIB012"
    name = "prediction-disagrees"
    reads = ("libraries",)
    references = ("https://docs.python.org/3/reference/import.html",)

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        modules = (target.facts("imports") or {}).get("modules", {})
        tried = (baseline.facts("imports") or {}).get("modules", {}) if baseline is not None else {}
        for name, record in sorted(modules.items()):
            if record["outcome"] == "imported":
                yield from self._succeeded(target, name, record)
            elif not _explained(target, name, record):
                line = _line(name, record)
                worked = tried.get(name, {}).get("outcome") == "imported"
                yield self.finding(
                    Impact.BREAKS,
                    Confidence.CERTAIN,
                    f"import {name} fails: {line[:200]}",
                    Subject("module", name),
                    "It was tried. No file of the environment explains it: the cause is not one that the dynamic "
                    "loader meets first." + (" In the baseline the same import succeeds." if worked else ""),
                    predicted_error=line,
                    evidence=[at(target, "target", "imports", "modules", name)],
                    fix=[Fix("advice", f"Read the whole traceback: python -c 'import {name}'")],
                )

    def _succeeded(self, target: Snapshot, name: str, record: dict[str, Any]) -> Iterator[Finding]:
        evidence = [at(target, "target", "imports", "modules", name)]
        if record.get("array_api_not_found"):
            yield self.finding(
                Impact.BREAKS,
                Confidence.LIKELY,
                f"import {name} goes on without NumPy's C API",
                Subject("module", name),
                "It was tried: it printed `_ARRAY_API not found` and ended with exit code 0. Something in it was built "
                "for NumPy 1; what hands arrays over fails when it is called.",
                predicted_error="AttributeError: _ARRAY_API not found",
                evidence=evidence,
            )
        failing = [
            key
            for key, entry in so.loaded(target)
            if entry["role"] == "module" and "first_failure" in entry and _is_below(key, name) and not _is_spared(entry)
        ]
        if failing:
            yield self.finding(
                Impact.NOTE,
                Confidence.CERTAIN,
                f"import {name} succeeds, though {failing[0]} cannot be loaded",
                Subject("module", name),
                "It was tried. This import does not load the file; whoever imports it by name meets the failure, "
                "unless something that driftcheck does not see loads what it lacks.",
                evidence=[*evidence, at(target, "target", *so.FILES, failing[0], "first_failure")],
            )


def _line(name: str, record: dict[str, Any]) -> str:
    if record["outcome"] == "killed":
        return _SIGNALS.get(record.get("type", ""), f"ended by {record.get('type', 'a signal')}")
    return str(record.get("line") or record.get("message") or f"import {name}: {record['outcome']}")


# What a shell says of a process that a signal ended.
_SIGNALS = {
    "SIGBUS": "Bus error",
    "SIGSEGV": "Segmentation fault",
    "SIGILL": "Illegal instruction",
    "SIGABRT": "Aborted",
}


def _is_spared(record: dict[str, Any]) -> bool:
    """Whether the import was not expected to fail with this module: its sources do without, or ask for it later."""
    return standing_of(record) in {Standing.TRIED, Standing.CALLED}


def _is_below(key: str, name: str) -> bool:
    module = so.module_name(key)
    return module == name or module.startswith(f"{name}.")


def _explained(target: Snapshot, name: str, record: dict[str, Any]) -> bool:
    """Whether a file says the same: its loader text is in the message, or it dies by the same signal."""
    message = str(record.get("message", ""))
    for _, entry in so.loaded(target):
        failure = entry.get("first_failure")
        if failure is None:
            continue
        if failure["kind"] == "crash" and record.get("type") == "SIGBUS":
            return True
        if failure["text"] and failure["text"] in message:
            return True
    stack = "cannot enable executable stack" in message
    if stack and any("maps_executable_stack" in entry for _, entry in so.loaded(target)):
        return True
    if record.get("type") in {"ImportError", "ValueError"} and _of_numpy(message):
        return any("numpy_c_api" in entry for entry in so.files_of(target).values())
    return record.get("type") == "ModuleNotFoundError" and _is_known_gap(target, name, message)


def _of_numpy(message: str) -> bool:
    return "numpy.core.multiarray failed to import" in message or "numpy.dtype size changed" in message


def _is_known_gap(target: Snapshot, name: str, message: str) -> bool:
    """A requirement that is not installed, which PKG001 reports; not the module itself."""
    lacking = message.removeprefix("No module named ").strip("'").split(".")[0]
    if lacking == name.split(".", maxsplit=1)[0]:
        return False
    wanted = lacking.replace("_", "-").lower()
    distributions = distributions_of(target)
    return wanted not in distributions and any(
        req_name(text) == wanted and "extra" not in marker
        for record in distributions.values()
        for text, marker in record["requires"].items()
    )
