r"""What others wrote, made safe to show: nothing in it acts, and what is odd about it can be seen.

Names, versions, paths and labels come out of environments that nobody vouches for. Whatever
would move a cursor, change a colour, turn the direction of writing or be invisible is written as an escape
(``\x1b``, ``\u202e``); values that are too long are cut, and their length is said.
"""

from __future__ import annotations

import re
import unicodedata

# Beyond this, a value is no longer read by a person.
VALUE_LIMIT = 200

# Printable by their category, and yet shown as nothing at all (Unicode 15.1, DerivedCoreProperties.txt,
# Default_Ignorable_Code_Point; U+2800 is a blank of its own).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001bca0-\U0001bca3"
    "\U000e0000-\U000e0fff]"
)
_PLAIN = re.compile(r"[ -~]*")
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

# What the runner of GitHub Actions takes for commands in the output of a step (its ActionCommand.cs, whatever the
# format of the report): `::error title=...::` at the beginning of a line, where a value may come to stand, and
# `##[error]` anywhere.
_COMMANDS = (
    "error|warning|notice|debug|group|endgroup|echo|stop-commands|add-mask|add-matcher|remove-matcher|add-path|"
    "set-env|set-output|save-state|internal-set-repo-path"
)
_COMMAND = re.compile(
    rf"(?<!\S):(?=:(?:{_COMMANDS})(?![\w-]))|:(?=:(?:{_COMMANDS})(?: [^\n]*)?::)|#(?=#\[(?:{_COMMANDS})\b)",
    re.IGNORECASE,
)

# More than two accents on one letter are drawn over the lines above and below.
_ACCENTS = 2

_TYPOGRAPHIC = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-",
                              "\u2014": "-", "\u2026": "...", "\u2192": "->", "\u2265": ">=", "\u2264": "<=",
                              "\u00a0": " ", "\u00d7": "x"})  # fmt: skip


def line(text: str, limit: int = VALUE_LIMIT) -> str:
    r"""A value on one line, as it can be shown anywhere: ``a\nb`` for two lines, ``\x1b[2J`` for an escape.

    At most ``limit`` characters of it stay; then follows how many there were.
    """
    kept = text[:limit]
    shown = kept if _PLAIN.fullmatch(kept) else _escaped(kept)
    if "::" in shown or "##[" in shown:
        shown = _COMMAND.sub(lambda sign: _escape(sign[0]), shown)
    cut = len(text) > limit
    if len(shown) > 2 * limit:
        shown, cut = shown[: 2 * limit], True
    return f"{shown}... ({len(text):,} characters)" if cut else shown


def prose(text: str, limit: int = 2000) -> str:
    """A sentence or a paragraph of a rule: line breaks are spaces, the rest is as in :func:`line`."""
    return line(re.sub(r"[ \t\n\r]+", " ", text[: 2 * limit]).strip() + text[2 * limit :], limit)


def lines(text: str, limit: int = 12, width: int = 1000) -> list[str]:
    """A message of several lines, each cleaned: at most ``limit`` of them, then how many there were."""
    found = _BREAKS.split(text[: 2 * limit * width].strip("\r\n"))
    shown = [line(entry.replace("\t", "    "), width) for entry in found[:limit]]
    return shown if len(found) <= limit else [*shown, f"... ({len(found):,} lines)"]


def ascii_only(text: str) -> str:
    r"""For terminals and files that are not UTF-8: ``caf\xe9``. Typographic signs become their plain kin."""
    if text.isascii():
        return text
    return text.translate(_TYPOGRAPHIC).encode("ascii", "backslashreplace").decode("ascii")


def _escaped(text: str) -> str:
    shown: list[str] = []
    accents = 0
    for sign in text:
        accents = accents + 1 if unicodedata.combining(sign) else 0
        if sign.isprintable() and accents <= _ACCENTS and not _INVISIBLE.match(sign):
            shown.append(sign)
        else:
            # The sign itself is printable where only its neighbours make it odd, so repr() is no help.
            shown.append(_escape(sign))
    return "".join(shown)


def _escape(sign: str) -> str:
    short = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(sign)
    if short:
        return short
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# What a rule sets as code in its sentences: `import cv2`. It is a word of its own, so that what stands before and
# behind it never runs into its backticks.
_SPAN = re.compile(r"(?:^|(?<= )|(?<= \())`([^`]+)`(?=[.,;:!?)]*(?: |$))")


def spans(text: str, limit: int = 2000) -> list[tuple[bool, str]]:
    """Prose in parts: ``(whether it is code, the part)``, without the backticks of code."""
    parts = _SPAN.split(prose(text, limit))
    return [(number % 2 == 1, part) for number, part in enumerate(parts) if part]


# Markdown.

_TICKS = re.compile(r"`+")

# A word that no reader of Markdown makes anything of: letters with apostrophes and single hyphens, or a
# number. Not the abbreviated name of a commit, which trackers turn into a link.
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|\d[\d,]{0,5}(?:\.\d{1,8}){0,5}%?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_TOKEN = re.compile(r"""(?P<before>["'(]*)(?P<core>.*?)(?P<after>["'),.;:!?]*)""", re.DOTALL)
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def code(text: str, *, table: bool = False, limit: int = VALUE_LIMIT) -> str:
    r"""A value as an inline code span of Markdown, which nothing in it can end: no link, no mention, no HTML.

    In a table a bar would end the cell even inside code; it is escaped there, and shown as ``\x7c`` where a
    backslash before it would make readers disagree.
    """
    shown = line(text, limit)
    if table:
        shown = re.sub(r"\\\|", r"\\\\x7c", shown).replace("|", "\\|")
    if not shown.strip():
        return "(empty)" if not shown else f"({len(shown)} spaces)"
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def markdown(text: str, *, table: bool = False, limit: int = 2000) -> str:
    """Prose as Markdown. Words stay as they are; whatever could mean anything to a tracker becomes code.

    ``numpy>=2``, ``@someone``, ``#1``, ``https://...``, ``<b>`` and names of files are all set as code, where
    no tracker looks for mentions, links or issues.
    """
    shown = ""
    for is_code, part in spans(text, limit):
        if is_code:
            shown += code(part, table=table, limit=len(part) + 1)
        else:
            words = " ".join(_token(token, table) for token in part.split(" ") if token)
            shown += " " * part.startswith(" ") + words + " " * (part.endswith(" ") and bool(words))
    return shown.strip(" ")


def _token(token: str, table: bool) -> str:
    found = _TOKEN.fullmatch(token)
    if re.fullmatch(r"[().,;:]+", token):
        return token
    if found is None or not re.search(r"\w", found["core"]):
        return _PUNCTUATION.sub(r"\\\1", token)
    before, core, after = found["before"], found["core"], found["after"]
    if _WORD.fullmatch(core) and not (_COMMIT.fullmatch(core) and re.search(r"\d", core)):
        # "1." and "1)" would begin a list.
        return before + core + (re.sub(r"([.)])", r"\\\1", after) if core.isdigit() else after)
    return before + code(core, table=table, limit=len(core) + 1) + after


def block(text: str, language: str = "", limit: int = 12) -> str:
    """A fenced block of Markdown, which nothing in it can close."""
    shown = "\n".join(lines(text, limit))
    longest = max((len(run) for run in _TICKS.findall(shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"
