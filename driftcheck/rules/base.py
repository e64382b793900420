"""What a rule is. A rule reads facts and never touches a machine.

A rule is a class that documents itself: its name is its title, its docstring its page. To add one, write a class
in the module of its family, and a row in tests/rules/truth.json; nothing else has to know. The docstring begins
with one sentence and goes on with these paragraphs, each of which begins with its word and a colon:

    Compares: the facts that it reads.
    Why: why this breaks inference.
    See: what one would see, with the error text.
    Decided: how it is decided, and when it is certain, likely or possible.
    Fix: how to mend it.
    Limits: what it cannot see.
"""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from driftcheck.diff import Change
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.snapshot import Snapshot

FAMILIES = {
    "PKG": "packages",
    "PY": "the interpreter",
    "CPU": "the processor",
    "SYS": "the operating system",
    "ENV": "environment variables",
    "LIB": "shared libraries",
    "GPU": "the GPU stack",
    "BOX": "containers and their limits",
    "NUM": "what changes results without failing",
    "ART": "model files",
}

_Answer = TypeVar("_Answer")

PARAGRAPHS = ("Compares", "Why", "See", "Decided", "Fix", "Limits")


@dataclass(frozen=True)
class Sides:
    """The two snapshots of a comparison. ``baseline`` is None where an environment is judged alone."""

    baseline: Snapshot | None
    target: Snapshot
    _answers: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def of_target(self, question: Callable[[Snapshot], _Answer]) -> _Answer:
        """What a function says of the target, asked once: rules explain a thousand changes one by one."""
        if question not in self._answers:
            self._answers[question] = question(self.target)
        answer: _Answer = self._answers[question]
        return answer


class Rule:
    """Common to both kinds. ``reads`` names the sections without which the rule cannot be judged."""

    code: ClassVar[str]
    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]] = ()

    def explains(self, finding: Finding, change: Change, sides: Sides) -> bool:
        """Whether this change is an effect of the finding, and can be folded under it."""
        del finding, change, sides
        return False

    def causes(self, finding: Finding, effect: Finding, sides: Sides) -> bool:
        """Whether another finding of the same target is an effect of this one, and would go with it."""
        del finding, effect, sides
        return False

    def finding(
        self,
        impact: Impact,
        confidence: Confidence,
        title: str,
        subject: Subject,
        explanation: str,
        *,
        predicted_error: str | None = None,
        evidence: Sequence[Evidence] = (),
        fix: Sequence[Fix] = (),
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            code=self.code,
            name=self.name,
            impact=impact,
            confidence=confidence,
            title=title,
            subject=subject,
            explanation=explanation,
            predicted_error=predicted_error,
            evidence=tuple(evidence),
            fix=tuple(fix),
            references=self.references,
        )


class Contradiction(Rule, ABC):
    """Something in one environment demands what it does not provide."""

    @abstractmethod
    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        """The contradictions of ``target``. The baseline, where there is one, is asked for fixes only."""


class Drift(Rule, ABC):
    """A fact that differs between two environments, with a consequence."""

    @abstractmethod
    def check(self, baseline: Snapshot, target: Snapshot) -> Iterator[Finding]:
        """What the differences between the two mean for the target."""


def at(snapshot: Snapshot, side: str, *path: str) -> Evidence:
    """The fact at a path of a snapshot as evidence (None where there is none)."""
    return Evidence(side, path, lookup(snapshot, path))


def held(snapshot: Snapshot, side: str, *paths: tuple[str, ...]) -> list[Evidence]:
    """Those of these facts that the snapshot holds, as evidence."""
    found = []
    for path in paths:
        table = lookup(snapshot, path[:-1]) if len(path) > 1 else snapshot.facts(path[0])
        if isinstance(table, dict) and path[-1] in table:
            found.append(Evidence(side, path, table[path[-1]]))
    return found


def lookup(snapshot: Snapshot, path: Sequence[str]) -> Any:
    """The fact at ``(section, key, key, ...)``, or None."""
    value: Any = snapshot.facts(path[0])
    for key in path[1:]:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def title_of(rule: Rule | type[Rule]) -> str:
    """The first sentence of a rule's documentation."""
    return _document(rule).split("\n\n", 1)[0].replace("\n", " ")


def paragraphs_of(rule: Rule | type[Rule]) -> dict[str, str]:
    """The named paragraphs of a rule's documentation, each as one line of text."""
    found: dict[str, str] = {}
    for paragraph in _document(rule).split("\n\n")[1:]:
        word, colon, text = paragraph.partition(":")
        if colon and word in PARAGRAPHS:
            text = re.sub(r"\s*\n\s*", " ", text).strip()
            found[word] = text[:1].upper() + text[1:]
        elif found:
            last = list(found)[-1]
            found[last] += "\n\n" + re.sub(r"\s*\n\s*", " ", paragraph).strip()
    return found


def _document(rule: Rule | type[Rule]) -> str:
    return inspect.getdoc(rule) or ""
