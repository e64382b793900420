r"""The error at hand: which finding predicts what a traceback or a log shows (``--error FILE``).

What a program really printed is compared with what findings say that it would print, the last error first: word for
word; then with paths, addresses and numbers left open; then by the kind of the error together with the very thing that
it names (a library, a module, a symbol). A kind alone, such as ``ImportError:``, is no match.

A log comes from anywhere: it is read in bounds, whatever it holds, and without its colours and time stamps.
"""

from __future__ import annotations

import builtins
import functools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from driftcheck.explain import Explanation
from driftcheck.findings import Finding, Impact
from driftcheck.probes.redaction import Redactor
from driftcheck.report.model import ErrorAnswer, Report, Target, redacted

# What is read of a log: its end, where the error is.
LOG_LIMIT = 4_000_000  # signs
LOG_LINES = 50_000
_LINE_LIMIT = 4_000
_ERRORS = 200
_TEXT_LIMIT = 1_000


@dataclass(frozen=True)
class _Error:
    """One line that tells of an error. ``chain``: the number of the traceback, with those that it is chained to."""

    text: str
    chain: int


def answer(report: Report, log_text: str, source: str) -> Report:
    """The report with its answer to the log: for each target, the finding that explains the error comes first.

    ``source`` is what the user called the log. A log without a line that tells of an error is answered by none.
    """
    errors = _errors(log_text)
    return redacted(replace(report, targets=tuple(_answered(target, errors, source) for target in report.targets)))


def _answered(target: Target, errors: Sequence[_Error], source: str) -> Target:
    findings = (*target.explanation.findings, *(entry.finding for entry in target.suppressed))
    predictions = [_prediction(finding) for finding in _new_first(findings)]
    for chain in _chains(errors):
        for match, fits in _TIERS:
            for error in chain:
                found = next((one.finding for one in predictions if fits(one, error.text)), None)
                if found is not None:
                    # What the policy expects, and what failed all the same, counts again.
                    again = [] if found in target.explanation.findings else [found]
                    explanation = replace(target.explanation, findings=(*target.explanation.findings, *again))
                    return replace(
                        target,
                        explanation=_first(explanation, found),
                        suppressed=tuple(entry for entry in target.suppressed if entry.finding not in again),
                        error=ErrorAnswer(source, error.text[:_TEXT_LIMIT], found.identity, match),
                    )
    return replace(target, error=ErrorAnswer(source, _last(errors)[:_TEXT_LIMIT], None, None))


def _new_first(findings: Iterable[Finding]) -> list[Finding]:
    """What the baseline has too works there, and is asked last."""
    return sorted(findings, key=lambda finding: finding.also_in_baseline)


def _first(explanation: Explanation, found: Finding) -> Explanation:
    """With this finding before all others, and its cause next to it."""

    def place(finding: Finding) -> int:
        return 0 if finding is found else 1 if finding.identity == found.caused_by else 2

    return replace(explanation, findings=tuple(sorted(explanation.findings, key=place)))


# Reading


def _errors(log_text: str) -> list[_Error]:
    """The lines that tell of an error, in the order of the log, cleaned and redacted like the report."""
    redactor = Redactor()
    found: list[_Error] = []
    chain = 0
    chained = in_frames = False
    for raw in _lines(log_text):
        text = _without_prefixes(raw)
        if text.startswith("Traceback (most recent call last):"):
            chain += not chained
            chained, in_frames = False, True
        elif _CHAINED.match(text):
            chained = True
        elif in_frames and (not text.strip() or text[:1] in " \t"):
            continue  # source code, which may raise errors of any name
        elif text.strip():
            chain += not in_frames and not chained and bool(found) and not text[:1].isspace()
            in_frames = False
            if _TELLS.search(text):
                found.append(_Error(redactor.text(text.strip()), chain))
    return found[-_ERRORS:]


def _chains(errors: Sequence[_Error]) -> Iterator[list[_Error]]:
    """The errors of each traceback with those that it is chained to, the last first."""
    by_chain: dict[int, list[_Error]] = {}
    for error in reversed(errors):
        by_chain.setdefault(error.chain, []).append(error)
    return iter(by_chain.values())


def _last(errors: Sequence[_Error]) -> str:
    """What to show where nothing matches: the last exception, else the last line about an error, else nothing."""
    for error in reversed(errors):
        if _CLASS.match(error.text):
            return error.text
    return errors[-1].text if errors else ""


def _lines(log_text: str) -> Iterator[str]:
    shown = _ESCAPES.sub("", log_text[-LOG_LIMIT:])
    for line in shown.splitlines()[-LOG_LINES:]:
        kept = _CONTROLS.sub("", line[:_LINE_LIMIT]).rstrip()
        yield from _unpacked(kept)


def _unpacked(line: str) -> list[str]:
    """The lines inside a record of a log that is written as JSON; the line itself where it is none."""
    if not (line.startswith("{") and line.endswith("}")):
        return [line]
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return [line]
    texts = [record[key] for key in _JSON_KEYS if isinstance(record.get(key), str)]
    return [_ESCAPES.sub("", entry)[:_LINE_LIMIT] for text in texts for entry in text.splitlines()] or [line]


def _without_prefixes(line: str) -> str:
    """Without what a logger, a container engine or a launcher puts before what a program prints."""
    for _ in range(4):
        found = _PREFIX.match(line)
        if found is None or found.end() == 0:
            break
        line = line[found.end() :]
    return line


_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|[@-Z\\^_])|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_JSON_KEYS = ("log", "message", "msg", "textPayload", "event", "exception", "exc_info", "stack_trace", "error")
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
_PREFIX = re.compile(
    r"(?:"
    r"\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?\]?[ \t]?"  # ISO 8601
    r"|(?:stdout|stderr) [FP] "  # CRI
    r"|[A-Za-z0-9][\w.-]{0,80} {0,40}\| "  # docker compose
    r"|\[pod/[^\]]{1,200}\] "  # kubectl logs --prefix
    r"|#\d{1,5} \d{1,6}\.\d{1,6} "  # BuildKit
    r"|\[(?:rank|default)\d{0,5}\]:? ?"  # torchrun
    r"|\([A-Z]\w{0,40}(?: [\w.]{1,40})?,? (?:pid|ip|rank)=[^)]{1,80}\) ?"  # Ray, vLLM
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d \S{1,80} [^\s:\[]{1,80}(?:\[\d+\])?: "
    rf"|\[{_LEVEL}\][ \t:]{{0,3}}|\[\d{{1,7}}\] "  # gunicorn
    rf"|{_LEVEL}(?: \d\d-\d\d \d\d:\d\d:\d\d)?(?: +\[[^\]]{{1,80}}\])?[ \t]{{0,8}}[:|]?[ \t](?=\S)"
    r"|[ \t]{1,20}[|+](?:-{1,40}[ \d-]{0,60})?[ \t]"  # a group of exceptions
    r")"
)
_CHAINED = re.compile(
    r"(?:During handling of the above exception|The above exception was the direct cause|"
    r"This exception is the direct cause)"
)
_TELLS = re.compile(
    r"(?:Error|Exception|Interrupt|Fault|Failure|NotFound)\b"
    r"|\b(?:error|fatal|fail(?:ed|ure)?|cannot|can't|could(?: not|n't)|couldn't|unable|not found|no such|missing|killed"
    r"|illegal instruction|segmentation fault|bus error|core dumped|aborted|denied|mismatch|unsupported|not supported"
    r"|unknown|invalid|not available|not installed|no devices|no [\w-]+ (?:was )?found|refused|incompatible"
    r"|insufficient)\b",
    re.IGNORECASE,
)

# Comparing

# The kind of an error: the name of an exception, which stands before its text.
_CLASS = re.compile(
    r"(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|NotFound)|Error)(?::|$)"
)
_BUILT_IN = frozenset(name for name in dir(builtins) if name[:1].isupper())
_GLUED = re.compile(r"[\w.]")
# What the dynamic loader says, whoever passes it on.
_LOADER = re.compile(
    r"(?P<missing>[\w.+-]+): cannot open shared object file"
    r"|version `?'?(?P<version>[\w.]+)' not found"
    r"|undefined symbol: (?P<symbol>\w+)"
    r"|(?P<damaged>[\w.+-]+): (?:file too short|invalid ELF header|wrong ELF class|cannot enable executable stack)"
)
# The things that an error can name.
_NOUNS = re.compile(
    r"(?P<library>\blib[\w+-]*\.so(?:\.\d+)*)"
    r"|No module named '?(?P<module>[\w.]+)'?"
    r"|cannot import name '(?P<name>\w+)'"
    r"|No such file or directory: '(?P<file>[^']{1,300})'"
    r"|has no attribute '(?P<attribute>\w+)'"
    r"|operator (?P<operator>\w+::\w+)"
    r"|(?P<status>\b(?:CUDNN|CUBLAS|CUDA|NCCL)_[A-Z_]{4,60}\b)"
    r"|(?P<requirement>[A-Za-z][\w.-]{1,60})(?:[<>=!~]=|[<>])\d\S{0,60} is required"
)


# What a module says of itself that is hidden by another, or whose files are gone, empty or for another Python.
_LACKS = re.compile(
    r"(?:^|[ :])(?:partially initialized )?module '(?P<within>[\w.]+)' has no attribute '"
    r"|cannot import name '\w+' from (?:partially initialized module )?'(?P<module>[\w.]+)'"
)


@dataclass(frozen=True)
class _Prediction:
    """What a finding predicts, made ready to be compared with many lines.

    ``said``    the first line of the text
    ``telling`` whether that says more than the kind of an error
    ``shape``   the line with paths and numbers left open; empty where too little remains
    ``named``   the things that it names, each with the kind of the error
    ``lacking`` the modules that cannot be imported
    ``damaged`` the modules that are there and are not what they should be
    """

    finding: Finding
    said: str
    telling: bool
    shape: str
    named: frozenset[tuple[str, str, str]]
    lacking: frozenset[str]
    damaged: frozenset[str]


def _prediction(finding: Finding) -> _Prediction:
    said = _said(finding)
    telling = bool(said) and _telling(said)
    shape = _shape(said) if telling else ""
    if len(re.findall(r"[A-Za-z]{2,}", shape)) < 2:
        shape = ""
    return _Prediction(
        finding, said, telling, shape, _named(said) | _missing_too(finding), _lacking(finding), _damaged(finding)
    )


def _verbatim(one: _Prediction, text: str) -> bool:
    """Whether a line says what was predicted, with nothing but a prefix before it."""
    if not one.said or not text.endswith(one.said) or one.said.rstrip(":") in _BUILT_IN:
        return False
    before = text[: -len(one.said)]
    return not before or (not _GLUED.match(before[-1]) and (one.telling or not before.strip()))


def _pattern(one: _Prediction, text: str) -> bool:
    """Whether the line holds what was predicted, but for paths, addresses and numbers."""
    if not one.shape:
        return False
    theirs = _shape(text)
    start = theirs.find(one.shape)
    while start >= 0:
        end = start + len(one.shape)
        if not _GLUED.match(theirs[:start][-1:]) and not _GLUED.match(theirs[end : end + 1]):
            return True
        start = theirs.find(one.shape, start + 1)
    return False


def _same_thing(one: _Prediction, text: str) -> bool:
    """Whether the kind of the error and the thing that it names are the same."""
    theirs = _named(text)
    if not theirs:
        return False
    if not theirs.isdisjoint(one.named):
        return True
    return bool(one.lacking) and any(
        kind == "module" and name.partition(".")[0] in one.lacking for _, kind, name in theirs
    )


def _within(one: _Prediction, text: str) -> bool:
    """Whether a module lacks something, and the finding says that its files are not those that belong there."""
    found = _LACKS.search(text)
    return found is not None and (found["within"] or found["module"]).partition(".")[0] in one.damaged


_TIERS = (("verbatim", _verbatim), ("pattern", _pattern), ("pattern", _same_thing), ("pattern", _within))


def _said(finding: Finding) -> str:
    """The first line of what is predicted."""
    lines = (finding.predicted_error or "").strip().splitlines()
    return lines[0].strip() if lines else ""


def _telling(text: str) -> bool:
    """Whether a text says more than the kind of an error: a word alone is found in any log."""
    found = _CLASS.match(text)
    message = text[found.end() :] if found else text
    return len(re.findall(r"\w+", message)) >= (1 if found else 2)


@functools.lru_cache(maxsize=512)
def _shape(text: str) -> str:
    """A message with what changes from place to place left open; the names of files and libraries stay."""
    text = re.sub(r"[`\u2018\u2019\u201c\u201d\"]", "'", text)
    text = re.sub(r"0x[0-9a-fA-F]+", "0xN", text)
    text = re.sub(r"(?:[A-Za-z]:)?(?:~|\.{1,2})?(?:[/\\][\w.+@%~-]+)*[/\\](?=[\w.+@%~-]|')", "PATH/", text)
    text = re.sub(r"\b(cpython-|cp|pypy|python)\d[\d.]*t?(?=\b|-|_)", r"\1N", text)
    text = re.sub(r"(?<![\w.])\d[\d.,]*(?![\w])", "N", text)
    return re.sub(r"\s+", " ", text).strip()


@functools.lru_cache(maxsize=512)
def _named(text: str) -> frozenset[tuple[str, str, str]]:
    """(kind of the error, kind of the thing, its name): all that an error is about."""
    found = {("loader", *pair) for pair in _groups(_LOADER, text)}
    name = next((match["name"] for match in _classes(text)), None)
    if name is not None and not any(kind == "symbol" for _, kind, _ in found):
        found |= {(name, *pair) for pair in _groups(_NOUNS, text)}
    return frozenset(found)


def _classes(text: str) -> Iterator[re.Match[str]]:
    """The exception at the beginning of a line, or after a colon: ``ERROR: app: ImportError: ...``."""
    for start in (0, *(match.end() for match in re.finditer(r"[:\]] ", text[:300]))):
        found = _CLASS.match(text, start)
        if found:
            yield found


def _groups(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    for match in pattern.finditer(text):
        yield from ((kind, value.rstrip(".")) for kind, value in match.groupdict().items() if value)


def _missing_too(finding: Finding) -> frozenset[tuple[str, str, str]]:
    """Every library that is missing, as ``_named`` has it: the loader tells of the first one, and then of the next."""
    if finding.code != "LIB001":
        return frozenset()
    paths = [entry.path for entry in finding.evidence]
    return frozenset(("loader", "missing", path[-1]) for path in paths if path[-2:-1] == ("missing",))


def _lacking(finding: Finding) -> frozenset[str]:
    """The modules that cannot be imported where distributions are missing and no text is predicted for each."""
    names: list[str] = []
    if finding.code == "PKG001" and " not installed" in finding.title:
        names = [finding.subject.name.partition(" -> ")[2]]
    elif finding.code == "PKG010":
        names = [entry.path[2] for entry in finding.evidence if len(entry.path) > 2]
    return frozenset(re.sub(r"[-.]+", "_", name) for name in names)


def _damaged(finding: Finding) -> frozenset[str]:
    """The top modules whose code is another one (PKG004, PY002), or not all there (PKG006, PKG007)."""
    if finding.code in {"PKG004", "PY002"} and finding.subject.kind == "module":
        return frozenset([finding.subject.name.partition(".")[0]])
    if finding.code == "PKG007" and finding.impact is not Impact.NOTE:
        return frozenset([re.sub(r"[-.]+", "_", finding.subject.name), finding.subject.name.removeprefix("py")])
    if finding.code != "PKG006" or finding.impact is not Impact.BREAKS:
        return frozenset()
    examples = [path for entry in finding.evidence for path in (entry.value or {}).get("examples", {})]
    return frozenset(path.partition("/")[0].removesuffix(".py") for path in examples)
