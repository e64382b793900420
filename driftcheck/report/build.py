"""Snapshots become a report: what `diff`, `check` and a ticket say, before any format."""

from __future__ import annotations

from collections.abc import Sequence

from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Impact
from driftcheck.report.model import Report, Target, environment_of, redacted
from driftcheck.snapshot import Snapshot


def diff_report(baseline: Snapshot, targets: Sequence[Snapshot], fail_on: Impact | None) -> Report:
    """One baseline against one or more targets."""
    report = Report(
        baseline=environment_of(baseline),
        targets=tuple(Target(environment_of(target), explain_pair(baseline, target)) for target in targets),
        fail_on=fail_on,
    )
    return redacted(report)


def check_report(target: Snapshot, fail_on: Impact | None) -> Report:
    """One environment alone: its contradictions."""
    report = Report(
        baseline=None,
        targets=(Target(environment_of(target), explain_one(target)),),
        fail_on=fail_on,
    )
    return redacted(report)
