"""The rule book: families of rules in modules by subject, one class a rule."""

from __future__ import annotations

import functools
import importlib
import inspect

from driftcheck.rules.base import Contradiction, Drift, Rule

# Every module with rules in it. The others (base, wheels, those named *_facts, ...) are what rules share.
MODULES = (
    "packages",
    "known_pairs",
    "installs",
    "builds",
    "copied",
    "forced_versions",
    "interpreter",
    "virtual_environments",
    "processor",
    "machine_fit",
    "operating_system",
    "programs",
    "variables",
    "inference_variables",
    "task_limits",
    "numerics",
    "answers_by_version",
    "container_limits",
    "container_accounts",
    "container_system",
    "container_start",
    "libraries",
    "library_choices",
    "library_limits",
    "cuda_majors",
    "gpu_libraries",
    "gpu_nccl",
    "gpu_cudnn",
    "gpu_frameworks",
    "gpu_packages",
    "gpu_triton",
    "gpu_image",
    "gpu_versions",
    "imports",
    "gpu_driver",
    "gpu_health",
    "gpu_code",
    "gpu_container",
    "gpu_requests",
    "gpu_drift",
    "artifacts",
    "onnx_models",
    "pickles",
    "pickled_names",
    "model_versions",
)


@functools.cache
def all_rules() -> tuple[Rule, ...]:
    """Every rule, by code."""
    rules: list[Rule] = []
    for module in MODULES:
        loaded = importlib.import_module(f"driftcheck.rules.{module}")
        rules.extend(
            kind()
            for _, kind in inspect.getmembers(loaded, inspect.isclass)
            if issubclass(kind, Rule) and kind.__module__ == loaded.__name__
        )
    return tuple(sorted(rules, key=lambda rule: rule.code))


def contradictions() -> list[Contradiction]:
    return [rule for rule in all_rules() if isinstance(rule, Contradiction)]


def drifts() -> list[Drift]:
    return [rule for rule in all_rules() if isinstance(rule, Drift)]
