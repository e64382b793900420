r"""Reads shell scripts as far as a start script needs it: the commands, in order, and what their words become.

No shell, and no promise to be one: compound commands are read through and not decided, so that each command says
whether it stands at the top (it will run) or inside something (it may). What cannot be known without running
(the output of a command) becomes ``UNKNOWN`` inside a word. Source: POSIX.1-2024, Shell Command Language.
"""

import functools
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional, Tuple  # noqa: F401

UNKNOWN = "\0"

# A script for a service is a page long. What is longer is cut.
COMMANDS_LIMIT = 2000

# A command line longer than this is longer than the kernel takes (ARG_MAX); what grows beyond is not known.
TEXT_LIMIT = 1 << 17
WORDS_LIMIT = 4000

_OPERATORS = (";;&", "<<-", "<<<", "&>>", "&&", "||", ";;", ";&", "|&", ">>", ">&", "<&", "&>", ">|", "<>", "<<",
              ";", "&", "|", "(", ")", "<", ">")  # fmt: skip
_REDIRECTIONS = frozenset(["<<-", "<<<", "&>>", ">>", ">&", "<&", "&>", ">|", "<>", "<<", "<", ">"])
_OPENING = frozenset(["if", "while", "until", "{"])
_CLOSING = frozenset(["fi", "done", "}", "esac"])
_BETWEEN = frozenset(["then", "else", "elif", "do", "!", "time"])
_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)\+?=")


class Command:
    """A simple command: assignments and words as they are written, and where it stands.

    ``line``    on which it begins
    ``spans``   it goes on over several lines
    ``depth``   number of compound commands around it
    ``before``  the operator that joins it to the command before: ``&&``, ``||``, ``|`` or nothing
    ``after``   the operator behind it
    """

    def __init__(self, words: "List[str]", line: "int", depth: "int", before: "str", after: "str") -> "None":
        self.assignments = []  # type: List[Tuple[str, str]]
        while words and _ASSIGNMENT.match(words[0]):
            name, _, value = words[0].partition("=")
            self.assignments.append((name.rstrip("+"), value))
            words = words[1:]
        self.words = words
        self.line = line
        self.depth = depth
        self.before = before
        self.after = after
        self.spans = False


@functools.lru_cache(maxsize=8)  # a script may start itself
def commands(text: "str") -> "List[Command]":
    """The simple commands of a script in their order; those of functions and branches have a depth."""
    found = []  # type: List[Command]
    words = []  # type: List[Tuple[str, int]]
    depth = cases = subshells = 0
    function = False
    before = ""
    skip = False

    for kind, sign, line in _tokens(text):
        if kind == "word":
            if skip:
                skip = False
            else:
                words.append((sign, line))
            continue
        if sign in _REDIRECTIONS:
            if words and words[-1][0].isdigit() and kind == "joined":
                words.pop()
            skip = True
            continue
        if sign == "(" and len(words) == 1 and before not in ("|",):
            function = True  # name() follows
            words = []
            continue
        if sign == ")" and function:
            function = False
            continue
        if sign == ")" and subshells == 0 and cases:
            words = []  # the pattern of a case
            before = ""
            continue
        texts = [word for word, _ in words]
        first_line = words[0][1] if words else line
        last_line = words[-1][1] if words else line
        while texts:
            if texts[0] in _OPENING:
                depth += 1
            elif texts[0] in _CLOSING:
                depth = max(0, depth - 1)
                cases -= texts[0] == "esac" and cases > 0
            elif texts[0] in ("for", "select", "case"):
                depth += 1
                cases += texts[0] == "case"
                texts = []
                break
            elif texts[0] == "function":
                texts = texts[2:]
                continue
            elif texts[0] not in _BETWEEN:
                break
            texts = texts[1:]
        if texts:
            command = Command(texts, first_line, depth, before, sign)
            command.spans = last_line != first_line
            found.append(command)
            if len(found) >= COMMANDS_LIMIT:
                return found
        if sign == "(":
            depth += 1
            subshells += 1
        elif sign == ")" and subshells:
            depth = max(0, depth - 1)
            subshells -= 1
        if sign != "\n" or texts:
            before = sign if sign in ("&&", "||", "|", "|&") else ""
        words = []
    return found


def _tokens(text: "str") -> "List[Tuple[str, str, int]]":
    """``(kind, text, line)``: words as written, operators and newlines; ``joined`` follows a word directly."""
    found = []  # type: List[Tuple[str, str, int]]
    documents = []  # type: List[Tuple[str, bool]]
    wants_delimiter = ""
    position, line, size = 0, 1, len(text)
    while position < size:
        sign = text[position]
        if sign in " \t":
            position += 1
        elif text.startswith("\\\n", position):
            position += 2
            line += 1
        elif sign == "#":
            end = text.find("\n", position)
            position = size if end < 0 else end
        elif sign == "\n":
            found.append(("operator", "\n", line))
            position += 1
            line += 1
            for delimiter, strip in documents:
                while position < size:
                    end = text.find("\n", position)
                    end = size if end < 0 else end
                    body = text[position:end]
                    position = end + 1
                    line += 1
                    if (body.lstrip("\t") if strip else body) == delimiter:
                        break
            documents = []
        else:
            operator = next((entry for entry in _OPERATORS if text.startswith(entry, position)), None)
            if operator is not None:
                joined = position > 0 and text[position - 1].isdigit()
                found.append(("joined" if joined else "operator", operator, line))
                position += len(operator)
                wants_delimiter = operator if operator in ("<<", "<<-") else ""
                continue
            end = _word_end(text, position)
            word = text[position:end]
            if wants_delimiter:
                documents.append((re.sub(r"[\\'\"]", "", word), wants_delimiter == "<<-"))
                wants_delimiter = ""
            found.append(("word", word.replace("\\\n", ""), line))
            line += word.count("\n")
            position = end
    found.append(("operator", "\n", line))
    return found


def _word_end(text: "str", position: "int") -> "int":
    size = len(text)
    while position < size:
        sign = text[position]
        if sign in " \t\n;&|()<>":
            return position
        position = _skip(text, position)
    return size


def _skip(text: "str", position: "int") -> "int":
    """The place behind one element of a word: a sign, a quotation, an expansion."""
    size = len(text)
    sign = text[position]
    if sign == "\\":
        return min(size, position + 2)
    if sign == "'":
        end = text.find("'", position + 1)
        return size if end < 0 else end + 1
    if sign in '"`':
        position += 1
        while position < size and text[position] != sign:
            position = _skip(text, position) if text[position] in "\\$" else position + 1
        return min(size, position + 1)
    if sign == "$" and text[position + 1 : position + 2] in ("(", "{"):
        opening = text[position + 1]
        closing = ")" if opening == "(" else "}"
        position += 2
        depth = 1
        while position < size:
            if text[position] == closing:
                depth -= 1
                position += 1
                if depth == 0:
                    return position
            elif text[position] == "(" and opening == "(":
                depth += 1
                position += 1
            else:
                position = _skip(text, position)
        return size
    return position + 1


class Scope:
    """What words stand for at one place of a script. A value of None is not known."""

    def __init__(
        self, variables: "Mapping[str, Optional[str]]", name: "str", arguments: "Optional[List[str]]"
    ) -> "None":
        self.variables = dict(variables)
        self.name = name
        self.arguments = arguments

    def copy(self) -> "Scope":
        return Scope(self.variables, self.name, None if self.arguments is None else list(self.arguments))

    def words(self, raw: "List[str]") -> "List[str]":
        """What the words of a command become; ``UNKNOWN`` stands for what cannot be known."""
        words = []  # type: List[str]
        size = 0
        for written in raw:
            more = self._expand(written)
            words.extend(more)
            size += sum(map(len, more))
            if len(words) > WORDS_LIMIT or size > TEXT_LIMIT:
                return words[:1] + [UNKNOWN] if len(words[0]) <= TEXT_LIMIT else [UNKNOWN]
        return words

    def text(self, raw: "str") -> "str":
        """The value of an assignment, which is not split."""
        value = " ".join(self._expand('"%s"' % raw if not re.search(r"['\"\\]", raw) else raw))
        return value if len(value) <= TEXT_LIMIT else UNKNOWN

    def _expand(self, raw: "str") -> "List[str]":
        fields = [""]
        any_quoted = False
        position, quoted = 0, False
        if raw.startswith("~") and (len(raw) == 1 or raw[1] == "/"):
            fields[0] = self._value("HOME")
            position = 1
        while position < len(raw):
            sign = raw[position]
            if sign == '"':
                quoted = not quoted
                any_quoted = True
                position += 1
            elif sign == "'" and not quoted:
                end = _skip(raw, position)
                fields[-1] += raw[position + 1 : end - 1]
                any_quoted = True
                position = end
            elif sign == "\\" and position + 1 < len(raw):
                following = raw[position + 1]
                fields[-1] += following if not quoted or following in '$`"\\' else sign + following
                position += 2
            elif sign == "`":
                fields[-1] += UNKNOWN
                position = _skip(raw, position)
            elif sign == "$" and position + 1 < len(raw):
                position = self._parameter(raw, position, quoted, fields)
                any_quoted = any_quoted or (quoted and raw[position - 1 : position] != "@")
            else:
                fields[-1] += sign
                position += 1
        if fields == [""]:
            return [""] if any_quoted and '"$@"' not in raw else []
        return fields

    def _parameter(self, raw: "str", position: "int", quoted: "bool", fields: "List[str]") -> "int":
        """Expand the parameter at ``position`` into the fields; the place behind it."""
        found = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])").match(raw, position)
        if found:
            name, end, value = found.group(1), found.end(), None  # type: str, int, Optional[str]
        elif raw.startswith("${", position):
            end = _skip(raw, position)
            inner = raw[position + 2 : end - 1]
            parts = re.match(r"([A-Za-z_][A-Za-z0-9_]*|[0-9@*]+)(?:(:?[-=+?])(.*)|(##\*/))?$", inner, re.DOTALL)
            if parts is None:
                fields[-1] += UNKNOWN
                return end
            name, value = parts.group(1), None
            if parts.group(2):
                value = self._with_default(name, parts.group(2), parts.group(3))
            elif parts.group(4):
                value = self._value(name).rpartition("/")[2]
        elif raw.startswith("$(", position):
            fields[-1] += UNKNOWN
            return _skip(raw, position)
        else:
            fields[-1] += "$"
            return position + 1
        if name in ("@", "*") and value is None:
            arguments = [UNKNOWN] if self.arguments is None else self.arguments
            if name == "*" and quoted:
                fields[-1] += " ".join(arguments)
            elif arguments:
                fields[-1] += arguments[0]
                fields.extend(arguments[1:])
            return end
        value = self._value(name) if value is None else value
        if quoted:
            fields[-1] += value
            return end
        pieces = value.split()
        if pieces:
            if value[0].isspace() and fields[-1]:
                fields.append("")
            fields[-1] += pieces[0]
            fields.extend(pieces[1:])
        return end

    def _with_default(self, name: "str", operator: "str", word: "str") -> "str":
        if name in ("@", "*"):
            known = None if self.arguments is None else " ".join(self.arguments)
        else:
            known = self.variables.get(name, "" if not name.isdigit() else self._value(name))
        if known is None:
            return UNKNOWN
        there = bool(known) if operator.startswith(":") else name in self.variables or bool(known)
        if operator.endswith("+"):
            return self.text(word) if there else ""
        if there or operator.endswith("?"):
            return known
        value = self.text(word)
        if operator.endswith("="):
            self.variables[name] = value
        return value

    def _value(self, name: "str") -> "str":
        if name == "0":
            return self.name
        if name.isdigit():
            if self.arguments is None:
                return UNKNOWN
            return self.arguments[int(name) - 1] if int(name) <= len(self.arguments) else ""
        if name == "#":
            return UNKNOWN if self.arguments is None else str(len(self.arguments))
        if not name[0].isalpha() and name[0] != "_":
            return UNKNOWN
        value = self.variables.get(name, "")
        return UNKNOWN if value is None else value
