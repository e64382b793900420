"""Snapshots become a report: what `diff`, `check` and a ticket say, before any format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from driftcheck.explain import explain_one, explain_pair
from driftcheck.findings import Impact
from driftcheck.policy import Policy
from driftcheck.report.model import Report, Target, environment_of, redacted
from driftcheck.snapshot import Snapshot


def diff_report(
    baseline: Snapshot,
    targets: Sequence[Snapshot],
    fail_on: Impact | None,
    policy: Policy | None = None,
    location: str | None = None,
) -> Report:
    """One baseline against one or more targets; ``location`` is the file to show findings at (:mod:`.locations`)."""
    report = Report(
        baseline=environment_of(baseline),
        targets=tuple(Target(environment_of(target), explain_pair(baseline, target)) for target in targets),
        fail_on=fail_on,
        location=location,
    )
    return _finished(report, targets, policy)


def check_report(
    target: Snapshot, fail_on: Impact | None, policy: Policy | None = None, location: str | None = None
) -> Report:
    """One environment alone: its contradictions."""
    report = Report(
        baseline=None,
        targets=(Target(environment_of(target), explain_one(target)),),
        fail_on=fail_on,
        location=location,
    )
    return _finished(report, [target], policy)


def _finished(report: Report, targets: Sequence[Snapshot], policy: Policy | None) -> Report:
    """With what the policy expects taken out, and without secrets."""
    if policy is not None:
        from driftcheck.report.expectations import apply  # noqa: PLC0415 - most projects have no policy

        report = apply(policy, report, targets, datetime.now(UTC).date())
    return redacted(report)
