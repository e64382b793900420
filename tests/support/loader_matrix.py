"""Imports that were tried, beside what family LIB predicted of them: the matrix, its recall and its precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from driftcheck.findings import Confidence, Finding, Impact
from driftcheck.rules import all_rules
from driftcheck.rules.base import Contradiction
from driftcheck.snapshot import Snapshot
from support.compiled import Ended, imported, measured
from support.wheels import PROBES


@dataclasses.dataclass(frozen=True)
class Case:
    """``name`` is the module to import; ``code`` the rule that has to find it, None where it loads."""

    name: str
    code: str | None
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    case: str
    truth: Ended
    code: str | None
    findings: tuple[Finding, ...]

    @property
    def predicted(self) -> bool:
        return any(found.confidence is not Confidence.POSSIBLE for found in self.findings)

    @property
    def right_text(self) -> bool:
        return any(found.predicted_error == self.truth.line for found in self.findings)

    @property
    def falsely_certain(self) -> bool:
        wrong = not self.truth.failed or not self.right_text
        return wrong and any(found.confidence is Confidence.CERTAIN for found in self.findings)


def judged(target: Snapshot) -> tuple[Finding, ...]:
    """The findings of family LIB that say that something breaks."""
    return tuple(
        found
        for rule in all_rules()
        if rule.code.startswith("LIB") and isinstance(rule, Contradiction)
        for found in rule.check(target, None)
        if found.impact is Impact.BREAKS
    )


def row(label: str, case: Case, folder: Path | str, *, before: Sequence[str] = (), probes: str = str(PROBES)) -> Row:
    """Import and predict; ``before`` and ``probes`` as in ``support.compiled``."""
    target = measured(folder, case.variables, before=before, probes=probes)
    return Row(label, imported(case.name, folder, case.variables, before=before), case.code, judged(target))


def report(rows: Sequence[Row], title: str) -> None:
    """Print the matrix, and fail where a failure was missed, told wrongly, or made up."""
    failing = [one for one in rows if one.truth.failed]
    found = [one for one in failing if one.predicted]
    worded = [one for one in found if one.right_text]
    told = [one for one in rows if one.predicted]
    certain = [one for one in rows if any(entry.confidence is Confidence.CERTAIN for entry in one.findings)]
    lines = [f"{title}: {len(rows)} imports, {len(failing)} fail"]
    lines += [
        f"  {'fails' if one.truth.failed else 'loads'}  {'predicted' if one.predicted else '-':9}  "
        f"{','.join(sorted({f'{entry.code}/{entry.confidence}' for entry in one.findings})) or '-':16}  {one.case}"
        for one in rows
    ]
    lines.append(
        f"  recall {len(found)}/{len(failing)}, right text {len(worded)}/{len(found)}, "
        f"precision {sum(one.truth.failed for one in told)}/{len(told)}, "
        f"certain and right {sum(not one.falsely_certain for one in certain)}/{len(certain)}"
    )
    print("\n".join(lines))
    for one in rows:
        assert one.truth.failed is (one.code is not None), f"{one.case}: the case itself is wrong: {one.truth}"
        predictions = [(entry.code, entry.predicted_error) for entry in one.findings]
        assert not one.falsely_certain, f"{one.case}: {one.truth} against {predictions}"
        if one.truth.failed:
            assert one.predicted, f"{one.case}: missed {one.truth}"
            assert one.right_text, f"{one.case}: {one.truth} against {predictions}"
            assert one.code in {entry.code for entry in one.findings}, one.case
