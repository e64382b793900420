"""A report from a file: a saved one, or the ticket of the one environment that a snapshot describes."""

from __future__ import annotations

from driftcheck import snapshot
from driftcheck.report import model
from driftcheck.report.build import check_report


def load(path: str) -> model.Report:
    """Read a report or a snapshot; ``-`` is standard input.

    Raises:
        InputError: when it is neither, naming the file and the place.
    """
    where = "standard input" if path == "-" else path
    data = snapshot.read_bytes(path)
    value = snapshot.parse_json(data, where, "A report is made by: driftcheck diff ... --format json -o FILE")
    if isinstance(value, dict) and value.get("kind") == "report":
        return model.parse(data, where)
    return check_report(snapshot.parse(data, where), fail_on=None)
