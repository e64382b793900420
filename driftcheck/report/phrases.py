"""What every format says alike: names, the verdict, a path, a value, and the remaining drift in groups."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from driftcheck.diff import Change, Unmeasured
from driftcheck.findings import Confidence, Evidence, Finding, Impact
from driftcheck.report.cleaning import line
from driftcheck.report.summary import FRAMEWORKS
from driftcheck.rules.distributions import DISTRIBUTIONS
from driftcheck.rules.effects import distributions_of_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from driftcheck.report.model import Expected, Report, Suppressed, Target

LABEL_LIMIT = 60

IMPACT_WORDS = {
    Impact.BREAKS: "breaks",
    Impact.CHANGES_RESULTS: "changes results",
    Impact.SLOWS: "slows",
    Impact.NOTE: "note",
}

FIX_WORDS = {
    "dockerfile": "In the Dockerfile",
    "docker-run": "With docker run",
    "variable": "Set",
}

# Tables of facts whose keys are names of things; what is not in one of them is listed by its path. In the
# order in which a reader wants to see them.
_TABLES: tuple[tuple[tuple[str, ...], str], ...] = (
    (DISTRIBUTIONS, "Python packages"),
    (("packages", "conda"), "conda packages"),
    (("python",), "interpreter"),
    (("variables", "variables"), "environment variables"),
    (("packages", "shared_files"), "files of two distributions"),
    (("packages",), "packages"),
    (("libraries", "libraries"), "shared libraries"),
    (("libraries",), "shared libraries"),
    (("programs", "programs"), "programs"),
    (("programs", "libraries"), "libraries opened by name"),
    (("limits",), "limits"),
    (("gpu",), "GPU"),
    (("machine",), "machine"),
    (("machine", "cpu", "flags"), "CPU flags"),
    (("system",), "operating system"),
    (("system", "packages", "packages"), "OS packages"),
    (("system", "locales"), "locales"),
)
# The libraries of a package that differs itself: another version brings other files.
LIBRARIES_OF_PACKAGES = "shared libraries of these packages"
_TITLE_OF_PACKAGES = "Python packages"
_TITLE_OF_LIBRARIES = "shared libraries"
_ORDER = {title: index for index, (_, title) in reversed(list(enumerate(_TABLES)))}
_ORDER[LIBRARIES_OF_PACKAGES] = _ORDER["shared libraries"]
_LONGEST_FIRST = sorted(_TABLES, key=lambda table: -len(table[0]))
_SELF_EVIDENT = frozenset({"Python packages", "environment variables"})
_FACT_WORDS = {"record": "files (RECORD)", "requires": "requirements", "direct_url": "origin"}
_FRAMEWORK_ORDER = {name: index for index, name in enumerate(FRAMEWORKS)}
# A cause names this many kinds of what it explains.
_KINDS = 8
# The fact that stands for a whole record.
_LEADING = (("version",), ("value",), ("path",))
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


@dataclass(frozen=True)
class Verdict:
    """One line. ``tone``: ``bad``, ``doubt`` or ``good``; ``counts``: the findings that it leaves out."""

    tone: str
    text: str
    counts: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One thing that differs: a distribution, a variable, a fact. Nothing in it is cleaned.

    ``detail``  how it differs, in one line
    ``before``, ``after``  the values; both None where several facts differ, None for a side that lacks it
    """

    name: str
    kind: str  # changed, added, removed
    detail: str
    changes: tuple[Change, ...]
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Group:
    """Things of one kind that differ and that no finding explains, most important first."""

    title: str
    items: tuple[Item, ...]

    @property
    def follows(self) -> bool:
        """Whether this is what a package brings with it: counted, and listed only where everything is."""
        return self.title == LIBRARIES_OF_PACKAGES

    def counts(self) -> str:
        """``12 changed, 3 only in the target``."""
        words = (("changed", "changed"), ("added", "only in the target"), ("removed", "only in the baseline"))
        numbers = [(sum(item.kind == kind for item in self.items), word) for kind, word in words]
        return ", ".join(f"{number:,} {word}" for number, word in numbers if number)


@dataclass(frozen=True)
class Told:
    """A finding, and those that it causes, in their order."""

    finding: Finding
    effects: tuple[Finding, ...] = ()

    @property
    def impact(self) -> Impact:
        """The worst of them all: a note that causes what breaks is no note."""
        return min((one.impact for one in (self.finding, *self.effects)), key=lambda impact: impact.rank)

    @property
    def is_cause(self) -> bool:
        """Whether it explains more than one thing."""
        return bool(self.effects) or len(self.finding.folds) > 1

    @property
    def word(self) -> str:
        """What to call the finding: ``breaks``, or ``cause`` where it is a note with effects."""
        return "cause" if self.finding.impact is Impact.NOTE and self.effects else IMPACT_WORDS[self.finding.impact]


def told(findings: Sequence[Finding]) -> list[Told]:
    """Findings in their order, effects below their cause. Where the cause is not among them, they stand alone."""
    causes = {finding.identity: finding for finding in reversed(findings) if finding.caused_by is None}
    groups: dict[int, list[Finding]] = {}
    roots: dict[int, Finding] = {}
    for finding in findings:
        root = causes.get(finding.caused_by, finding) if finding.caused_by is not None else finding
        roots.setdefault(id(root), root)
        effects = groups.setdefault(id(root), [])
        if root is not finding:
            effects.append(finding)
    return [Told(root, tuple(groups[key])) for key, root in roots.items()]


def first_command(finding: Finding) -> str | None:
    """The first line to type, not cleaned; None where there is advice alone."""
    return next((fix.text for fix in finding.fix if fix.kind != "advice"), None)


def error_answered(target: Target, quote: Callable[[str], str] | None = None) -> str:
    """One sentence on the error that the user has; empty where nobody asked."""
    answer = target.error
    if answer is None:
        return ""
    source = (quote or _quoted)(answer.source)
    found = next((one for one in target.explanation.findings if one.identity == answer.finding), None)
    if found is None:
        return f"No finding explains the error in {source}:" if answer.text else f"No error was found in {source}."
    like = "" if answer.match == "verbatim" else " (not word for word)"
    return f"The error in {source} is explained by {line(found.code, 12)}{like}:"


def answers(target: Target, finding: Finding) -> bool:
    """Whether this finding explains the error that the user has."""
    return target.error is not None and target.error.finding == finding.identity


def sure(finding: Finding) -> str:
    """`` (likely)`` after a title; nothing where it is certain."""
    return "" if finding.confidence is Confidence.CERTAIN else f" ({finding.confidence.value})"


def probably(finding: Finding) -> str:
    """Before what one would see; nothing where it is certain."""
    return "" if finding.confidence is Confidence.CERTAIN else "probably "


def count(number: int, word: str, plural: str = "") -> str:
    """``1 finding``, ``3 findings``."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def names(report: Report) -> tuple[str, list[str]]:
    """What to call the baseline and each target: their labels, cleaned, told apart where they are equal."""
    baseline = line(report.baseline.label, LABEL_LIMIT).strip() or "(no label)" if report.baseline else ""
    labels = [line(target.environment.label, LABEL_LIMIT).strip() or "(no label)" for target in report.targets]
    taken = {baseline}
    found = []
    for label in labels:
        name, number = label, 2
        while name in taken:
            name = f"{label} ({number})" if number > 2 or len(report.targets) > 1 else f"{label} (target)"
            number += 1
        taken.add(name)
        found.append(name)
    return baseline, found


def verdict(report: Report, target: Target, name: str, quote: Callable[[str], str] | None = None) -> Verdict:
    """What the findings come to for one target. ``quote`` sets names off from our words."""
    quote = quote or _quoted
    name = quote(name)
    new = [finding for finding in target.explanation.findings if not finding.also_in_baseline]
    breaking = [finding for finding in new if finding.impact is Impact.BREAKS]
    firm = sum(finding.confidence is not Confidence.POSSIBLE for finding in breaking)
    doubtful = len(breaking) - firm
    gaps = gaps_of(report, target)
    faults = sum(entry.fault for entry in target.explanation.not_judged)
    if firm:
        tone, text = "bad", f"{count(firm, 'finding')} would break inference in {name}"
        text += f", and {doubtful:,} more might" if doubtful else ""
        causes = [finding.caused_by for finding in breaking if finding.caused_by is not None]
        if causes:
            text += f"; {len(causes):,} of them {'follow' if len(causes) > 1 else 'follows'} from "
            text += count(len(set(causes)), "cause")
    elif doubtful:
        tone, text = "doubt", f"{count(doubtful, 'finding')} might break inference in {name}"
    else:
        tone, text = "good", f"Nothing found that would break inference in {name}"
    but = []
    if gaps:
        verb = "compared" if report.baseline else "measured"
        listed = ", ".join([*map(quote, gaps[:6]), *(["..."] if len(gaps) > 6 else [])])
        but.append(f"{count(len(gaps), 'section')} could not be {verb} ({listed})")
    if faults:
        but.append(f"{count(faults, 'rule')} failed")
    if but:
        text += f"{', but' if tone == 'good' else ';'} {' and '.join(but)}"
        tone = "doubt" if tone == "good" else tone
    return Verdict(tone, f"{text}.", _counts(new, target))


def _quoted(name: str) -> str:
    """A name of several words could go on with our sentence."""
    shown = line(name, LABEL_LIMIT + 40)
    return f'"{shown}"' if " " in shown else shown


def _counts(new: Sequence[Finding], target: Target) -> tuple[str, ...]:
    numbers = {impact: sum(finding.impact is impact for finding in new) for impact in Impact}
    counts = []
    if number := numbers[Impact.CHANGES_RESULTS]:
        counts.append(f"{number:,} changing results")
    if number := numbers[Impact.SLOWS]:
        counts.append(f"{number:,} slowing it down")
    if number := numbers[Impact.NOTE]:
        counts.append(count(number, "note"))
    if known := len(target.explanation.findings) - len(new):
        counts.append(f"{known:,} also in the baseline")
    if target.suppressed:
        counts.append(f"{len(target.suppressed):,} expected by the policy")
    return tuple(counts)


def expected(target: Target) -> str:
    """What the policy took out of the report: ``2 findings and 14 changes``; empty where it took nothing."""
    changes = sum(len(entry.changes) for entry in target.expected)
    numbers = ((len(target.suppressed), "finding"), (changes, "change"))
    return " and ".join(count(number, word) for number, word in numbers if number)


def why_expected(entry: Suppressed | Expected) -> str:
    """The reason that the policy gives, where it stands there, and how long it holds; not cleaned."""
    until = f", until {entry.expires}" if entry.expires else ""
    return f"{entry.reason} ({entry.where}{until})"


def gaps_of(report: Report, target: Target) -> list[str]:
    """Names of the sections that should have been measured and were not; what a platform lacks is no gap."""
    if report.baseline is None:
        return [entry.section for entry in not_compared(report, target)]
    return sorted({entry.section for entry in target.explanation.unmeasured if entry.status != "absent"})


def not_compared(report: Report, target: Target) -> list[Unmeasured]:
    """What could not be compared, or for one environment alone what could not be measured, and why.

    What one of the two does not have at all (``absent``) is no gap in the measurement.
    """
    if report.baseline is not None:
        return [entry for entry in target.explanation.unmeasured if entry.status != "absent"]
    reasons = target.environment.incomplete | {
        entry.section: entry.reason for entry in target.explanation.unmeasured if entry.status != "absent"
    }
    return [Unmeasured(name, "target", "", reason) for name, reason in sorted(reasons.items())]


def path_text(path: Sequence[str]) -> str:
    """Where a fact stands, cleaned: ``numpy > version``, ``system > libc > version``."""
    prefix, title = _table(tuple(path))
    rest = path[len(prefix) :] if len(prefix) > 1 else path
    if not rest:
        return line(title)
    # Names of distributions and of variables tell what they are; elsewhere the kind of thing has to be said.
    parts = [*rest] if title in _SELF_EVIDENT or len(prefix) < 2 else [title, *rest]
    return line(" > ".join(parts), 120)


def value_text(value: Any, path: Sequence[str] = ()) -> str:
    """A fact as a person would write it; not cleaned."""
    if len(path) == 5 and tuple(path[:2]) == DISTRIBUTIONS and path[3] == "requires" and (value is None or value == ""):
        return "not stated" if value is None else "stated"  # the key is the requirement, the value its condition
    if value is None:
        return "(none)"
    if value == {} and tuple(path[:2]) == ("variables", "variables"):
        return "yes"  # a variable of which only the name is recorded
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and path and path[-1].endswith("_bytes"):
        return _size(value)
    if isinstance(value, str):
        return _DIGEST.sub(r"\1...", value) if value else "(empty)"
    if isinstance(value, dict):
        return _record_text(value)
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return ", ".join(value_text(entry) for entry in value) or "(empty)"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _record_text(value: dict[str, Any]) -> str:
    if not value:
        return "(empty)"
    if all(entry is True or entry == "" for entry in value.values()):
        return ", ".join(key or "(empty)" for key in sorted(value))
    for key in ("version", "value", "path"):
        if isinstance(value.get(key), str):
            return value_text(value[key])
    if isinstance(value.get("chain"), list) and value["chain"]:
        return f"needed by {value_text(value['chain'][-1])}"  # of a library that is missing: its name is in the path
    if value.keys() == {"digest"}:
        return f"(hidden, {value_text(value['digest'])})"
    return ", ".join(f"{key}: {value_text(entry, (key,))}" for key, entry in sorted(value.items()))


def _size(number: int) -> str:
    """Exact where it is even, so that equal texts are equal numbers."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power:
            if number % (1 << power) == 0:
                return f"{number >> power:,} {unit}"
            return f"{number / (1 << power):,.2f} {unit} ({number:,} bytes)"
    return f"{number:,} bytes"


def evidence_rows(evidence: Iterable[Evidence]) -> list[tuple[str, dict[str, str]]]:
    """``("numpy > version", {"baseline": "1.26.4", "target": "2.1.3"})``, each path once, not cleaned."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for entry in evidence:
        rows.setdefault(tuple(entry.path), {})[entry.side] = value_text(entry.value, entry.path)
    return [(path_text(path), sides) for path, sides in rows.items()]


def folded(finding: Finding, most: int) -> list[str]:
    """What a cause explains: the things by name where they are few, else how many changes of each kind."""
    names = list(dict.fromkeys(_item_name(path) for path in finding.folds))
    if any(title == _TITLE_OF_PACKAGES for title, _ in names):
        # What a package brings with it goes without saying.
        others = [(title, name) for title, name in names if title != _TITLE_OF_LIBRARIES]
        packages = sum(title == _TITLE_OF_PACKAGES for title, _ in others)
        whose = "their" if packages > 1 else "its"
        more = [f"{whose} shared libraries"] if len(others) < len(names) else []
        names = sorted(others, key=lambda pair: pair[0] != _TITLE_OF_PACKAGES)
    else:
        more = []
    if len(names) <= most:
        return [*(line(name, LABEL_LIMIT) for _, name in names), *more]
    kinds: dict[str, int] = {}
    for path in finding.folds:
        title, _ = _item_name(path)
        kinds[title] = kinds.get(title, 0) + 1
    ranked = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    return [f"{line(title, LABEL_LIMIT)} {number:,}" for title, number in ranked[:_KINDS]]


def remaining(target: Target) -> list[Group]:
    """The changes that no finding folds, grouped by what they are changes of."""
    folded = {path for finding in target.explanation.findings for path in finding.folds}
    differing = [*target.explanation.changes, *(change for entry in target.expected for change in entry.changes)]
    differ = {change.path[2] for change in differing if change.path[:2] == DISTRIBUTIONS and change.path[2:]}
    groups: dict[str, dict[str, list[Change]]] = {}
    for change in target.explanation.changes:
        if change.path not in folded:
            title, name = _item_name(change.path)
            owners = distributions_of_change(change) if change.section == "libraries" else set()
            if owners and owners <= differ:
                title, name = LIBRARIES_OF_PACKAGES, " ".join(sorted(owners))
            groups.setdefault(title, {}).setdefault(name, []).append(change)
    return [
        Group(title, tuple(sorted((_item(name, found) for name, found in things.items()), key=_importance)))
        for title, things in sorted(groups.items(), key=lambda group: (_ORDER.get(group[0], len(_ORDER)), group[0]))
    ]


def remaining_title(groups: Sequence[Group]) -> str:
    """What stands over them: how many things differ, and in how many facts."""
    things = sum(len(group.items) for group in groups)
    facts = sum(len(item.changes) for group in groups for item in group.items)
    inside = f" ({facts:,} facts)" if facts != things else ""
    return f"Remaining drift: {count(things, 'difference')}{inside} that no finding explains"


def no_drift(report: Report, target: Target) -> str:
    """What to say where nothing remains."""
    if target.explanation.changes:
        return "All changes are explained by the findings above."
    if target.expected:
        return "Whatever differs is expected by the policy."
    return "What was compared is equal." if not_compared(report, target) else "No fact differs."


def _table(path: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    for prefix, title in _LONGEST_FIRST:
        if path[: len(prefix)] == prefix:
            return prefix, title
    return path[:1], path[0] if path else ""


def _item_name(path: tuple[str, ...]) -> tuple[str, str]:
    """The group of a changed fact, and the thing in it that it belongs to."""
    prefix, title = _table(path)
    rest = path[len(prefix) :]
    if len(prefix) > 1:
        return title, rest[0] if rest else title
    # The entries of one list are one thing.
    index = next((index for index, part in enumerate(rest) if index and part.isdecimal()), len(rest))
    return title, " > ".join(rest[:index]) or title


def _item(name: str, changes: list[Change]) -> Item:
    first = changes[0]
    prefix, _ = _table(first.path)
    depth = len(prefix) + 1
    whole = len(changes) == 1 and (len(prefix) == 1 or len(first.path) <= depth)
    leading = first if whole else next((c for c in changes if c.path[depth:] in _LEADING), None)
    if leading is not None:
        kind = leading.kind if whole else "changed"
        before, after = value_text(leading.before, leading.path), value_text(leading.after, leading.path)
        # That other facts go with another version says nothing.
        alone = whole or len(changes) == 1 or leading.path[-1] == "version"
        more = "" if alone else f"  (and {count(len(changes) - 1, 'other fact')})"
        detail = {"added": after, "removed": before}.get(kind, f"{_short(before)} -> {_short(after)}") + more
        return Item(
            name,
            kind,
            detail,
            tuple(changes),
            None if kind == "added" else before,
            None if kind == "removed" else after,
        )
    if len(prefix) == 1:
        return Item(name, "changed", f"{count(len(changes), 'entry', 'entries')} differ", tuple(changes))
    facts = list(dict.fromkeys(change.path[depth] for change in changes if len(change.path) > depth))
    other = f"other {', '.join(_FACT_WORDS.get(fact, fact) for fact in facts)}"
    detail = f"same version, {other}" if prefix == DISTRIBUTIONS else other
    return Item(name, "changed", detail, tuple(changes))


def _short(text: str) -> str:
    return line(text, 80)


def _importance(item: Item) -> tuple[Any, ...]:
    """Frameworks first, then other versions, then what is on one side alone, then other facts."""
    versions = item.kind == "changed" and any(change.path[-1] == "version" for change in item.changes)
    return (
        _FRAMEWORK_ORDER.get(item.name, len(_FRAMEWORK_ORDER)),
        item.detail == "yes",
        not versions,
        item.kind == "changed",
        item.name,
    )
