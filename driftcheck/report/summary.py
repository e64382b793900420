"""An environment in a dozen short lines: what a reader wants to know of it before any detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from driftcheck.snapshot import Snapshot

# What inference runs on, in the order in which tickets list them; those that are not there are left out.
FRAMEWORKS = (
    "torch", "torchvision", "torchaudio", "tensorflow", "jax", "jaxlib", "onnxruntime", "onnxruntime-gpu",
    "onnx", "tensorrt", "openvino", "vllm", "transformers", "tokenizers", "safetensors", "accelerate",
    "triton", "numpy", "scipy", "scikit-learn", "pandas", "xgboost", "lightgbm", "opencv-python",
    "opencv-python-headless", "opencv-contrib-python", "pillow", "fastapi", "uvicorn", "pydantic",
)  # fmt: skip


def summary(snapshot: Snapshot) -> dict[str, str]:
    """``{"Python": "3.11.7 (cpython, venv)", ...}``: what was measured, in the order in which to read it."""
    lines: dict[str, str] = {}
    for title, section, describe in _LINES:
        facts = snapshot.facts(section)
        if facts:
            text = describe(facts)
            if text:
                lines[title] = text
    distributions = (snapshot.facts("packages") or {}).get("distributions", {})
    for name in FRAMEWORKS:
        if name in distributions:
            lines[name] = str(distributions[name]["version"] or "no version")
    return lines


def titles(summaries: Iterable[dict[str, str]]) -> list[str]:
    """The titles of some summaries, each once, in the order in which to read them (JSON keeps no order)."""
    known = [title for title, _, _ in _LINES] + list(FRAMEWORKS)
    order = {title: index for index, title in enumerate(known)}
    found = {title for summary in summaries for title in summary}
    return sorted(found, key=lambda title: (order.get(title, len(known)), title))


def _python(facts: dict[str, Any]) -> str:
    kind = facts["environment"]["kind"]
    threading = ", free-threaded" if facts["free_threaded"] else ""
    return f"{facts['version']} ({facts['implementation']}, {kind}{threading})"


def _system(facts: dict[str, Any]) -> str:
    release = facts.get("os_release") or {}
    return str(release.get("pretty_name") or release.get("id") or "")


def _libc(facts: dict[str, Any]) -> str:
    libc = facts.get("libc") or {}
    return f"{libc['family']} {libc.get('version') or ''}".strip() if libc.get("family") else ""


def _machine(facts: dict[str, Any]) -> str:
    cpu = facts.get("cpu") or {}
    parts = [facts.get("architecture"), facts.get("level"), cpu.get("model")]
    return ", ".join(str(part) for part in parts if part)


def _kernel(facts: dict[str, Any]) -> str:
    kernel = facts.get("kernel") or {}
    return f"{kernel.get('system') or ''} {kernel.get('release') or ''}".strip()


def _packages(facts: dict[str, Any]) -> str:
    return f"{len(facts['distributions'])} distributions"


_LINES: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("Python", "python", _python),
    ("System", "system", _system),
    ("C library", "system", _libc),
    ("Machine", "machine", _machine),
    ("Kernel", "machine", _kernel),
    ("Packages", "packages", _packages),
)
