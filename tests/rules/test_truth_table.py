"""Which breakages are made to happen: ``truth.json`` names for each rule the tests that do it, or says why none can.

Such a test breaks something for real (an installed directory, a process, a library, a container), lets the program
fail, and compares what it does with what the rule says. A new rule gets a row; ``pytest -q`` on this file says so.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from driftcheck.rules import all_rules
from driftcheck.rules.base import Rule

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TABLE: dict[str, Sequence[str] | str] = json.loads((HERE / "truth.json").read_text(encoding="utf-8"))
NAMED = sorted({test for tests in TABLE.values() if not isinstance(tests, str) for test in tests})
RULES = {rule.code: rule for rule in all_rules()}

# Helpers of the tests that start what is compared.
STARTS = ("subprocess", "support.compiled", "support.wheels", "support.loader_matrix", "support.engine")


def test_every_rule_has_a_row_and_every_row_is_a_rules() -> None:
    assert list(TABLE) == list(RULES)


@functools.cache
def parsed(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("test", NAMED)
def test_a_named_test_is_there_and_its_file_starts_something(test: str) -> None:
    file, _, function = test.partition("::")
    tree = parsed(file)
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert imported & set(STARTS)


@pytest.mark.parametrize("code", RULES)
def test_what_is_not_made_to_happen_says_why(code: str) -> None:
    row = TABLE[code]
    if isinstance(row, str):
        assert len(row) > 40
        assert row.endswith(".")
    else:
        assert row
        assert len(set(row)) == len(row)


# Rules that can say `certain` and `breaks` (GPU014 not of one finding), and whose breakage nobody can make without a
# real GPU or driver. Everything else that claims a proof has to be seen to break.
NEEDS_A_GPU = {"GPU003", "GPU006", "GPU009", "GPU014"}


def test_who_claims_a_proof_of_a_breakage_was_seen_to_break() -> None:
    without = {code for code, rule in RULES.items() if claims_proof_of_breakage(rule) and isinstance(TABLE[code], str)}
    assert without == NEEDS_A_GPU


def test_the_table_is_about_most_rules() -> None:
    real = [code for code, row in TABLE.items() if not isinstance(row, str)]
    assert len(real) > 0.7 * len(TABLE)
    assert len([code for code in real if not code.startswith(("GPU", "ART"))]) >= 60


def claims_proof_of_breakage(rule: Rule) -> bool:
    """Whether the code of a rule, with the helpers that it calls, names both Confidence.CERTAIN and Impact.BREAKS."""
    said = set().union(*(attributes(node) for node in reached(type(rule))))
    return {"Confidence.CERTAIN", "Impact.BREAKS"} <= said


def attributes(node: ast.AST) -> set[str]:
    return {
        f"{part.value.id}.{part.attr}"
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
    }


def reached(start: type[Any]) -> Iterator[ast.AST]:
    """The definition of a class, and of the functions of driftcheck.rules that it names, directly or not."""
    waiting, seen = [(inspect.getmodule(start), start.__name__)], set()
    while waiting:
        module, name = waiting.pop()
        if module is None or (module.__name__, name) in seen:
            continue
        seen.add((module.__name__, name))
        node = definitions(module).get(name)
        if node is None:
            continue
        yield node
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                waiting.append(home_of(module, part.id))
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                owner = getattr(module, part.value.id, None)
                if inspect.ismodule(owner) and owner.__name__.startswith("driftcheck.rules."):
                    waiting.append((owner, part.attr))


def home_of(module: ModuleType, name: str) -> tuple[ModuleType | None, str]:
    """Where a name of a module is defined, if that is in driftcheck.rules."""
    found = inspect.getmodule(getattr(module, name, None)) if hasattr(module, name) else None
    return (found if found is not None and found.__name__.startswith("driftcheck.rules.") else None), name


@functools.cache
def definitions(module: ModuleType) -> dict[str, ast.AST]:
    """Functions and classes of a module by name; of the base class of all rules, none."""
    if module is importlib.import_module("driftcheck.rules.base"):
        return {}
    tree = ast.parse(inspect.getsource(module))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
