r"""What never leaves an environment: secrets, user-info in URLs, home directories, user names, addresses.

Snapshots are attached to public tickets. This runs inside the payload, before anything is printed, and once
more whenever driftcheck loads a snapshot or a report. It is idempotent: each text is redacted until redacting
it changes nothing.

What is recognised:

1. user-info in a URL (``https://user:password@host``) is dropped, whatever it holds;
2. the path of a webhook address, which is its secret;
3. tokens by their published shapes (GitHub, Hugging Face, OpenAI, AWS, Slack, Google, GitLab, npm, PyPI, JWT,
   PEM private keys) become ``<hidden>``;
4. the value in ``password=...``, ``"token": "..."``, ``?sig=...``, ``--api-key ...``, ``Authorization: ...``;
5. an IP address as the host of a URL becomes ``<address>`` (loopback stays), the UUID of a GPU ``<uuid>``;
6. home directories become ``~``; the name of the user in an absolute path becomes ``<user>``, but not below
   ``site-packages``, where it is the name of somebody's module;
7. what is not Unicode (file names of another encoding) is written with backslashes, so that it prints.

Requirements, markers, versions, digests and wheel tags are left alone. A bare IP address cannot be told from
a version (``4.10.0.84``) and stays: probes do not record any.
"""

import bisect
import hashlib
import hmac
import itertools
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Dict, List and Pattern stand in type comments, which ruff does not read.
    from typing import Any, Dict, Iterable, List, Mapping, Match, Optional, Pattern, Sequence, Set, Tuple  # noqa: F401

HIDDEN = "<hidden>"
ADDRESS = "<address>"
USER = "<user>"

# A variable with one of these words in its name is never recorded by value, not even when asked for.
# Words are compared as parts between underscores, so that KEYBOARD or COMPASS are not secrets.
SECRET_WORDS = frozenset(
    """
    APIKEY AUTH AUTHORIZATION BEARER CERT CONNECTION COOKIE CRED CREDENTIAL CREDENTIALS CREDS DSN HOOK HOOKS
    JWT KEY KEYS LICENSE NETRC OTP PASS PASSPHRASE PASSWD PASSWORD PAT PRIVATE PSWD PW PWD SALT SAS SECRET
    SECRETS
    SESSION SID SIG SIGNATURE TOKEN TOKENS WEBHOOK WEBHOOKS
    """.split()  # noqa: SIM905 (a table)
)
_SECRET_TAIL = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|(?:API|ACCESS|SECRET|PRIVATE)KEY|CREDENTIALS?|WEBHOOK)S?$"
)

# A left boundary that an underscore does not hide: TOKEN_ghp_... is found too.
_SHAPES = re.compile(
    r"""
      gh[pousr]_[A-Za-z0-9]{16,}              # GitHub: docs "token formats"
    | github_pat_[A-Za-z0-9_]{20,}
    | glpat-[A-Za-z0-9_\-]{16,}               # GitLab
    | (?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}     # Hugging Face
    | (?<![A-Za-z0-9])api_org_[A-Za-z0-9]{16,}
    | (?<![A-Za-z0-9])sk-(?:(?:proj|ant|or|svcacct|admin|None)-[A-Za-z0-9_\-]{16,}|[A-Za-z0-9]{20,})
    | (?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{10,}  # Stripe
    | (?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])  # AWS
    | (?<![A-Za-z0-9])AIza[A-Za-z0-9_\-]{30,}               # Google
    | (?<![A-Za-z0-9])ya29\.[A-Za-z0-9_\-.]{20,}
    | xox[abeoprs]-[A-Za-z0-9\-]{8,}          # Slack
    | npm_[A-Za-z0-9]{30,}
    | pypi-AgE[A-Za-z0-9_\-]{16,}             # the registry's macaroons all begin so
    | dckr_pat_[A-Za-z0-9_\-]{16,}            # Docker Hub
    | wandb_v1_[A-Za-z0-9_\-]{16,}
    | nvapi-[A-Za-z0-9_\-]{16,}               # NVIDIA NGC
    | eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*   # JSON Web Token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE,
)
_WEBHOOK = re.compile(
    r"(https?://(?:hooks\.slack\.com/(?:services|workflows|triggers)"
    r"|(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks"
    r"|[a-z0-9.-]+\.webhook\.office\.com/[a-z0-9]+"
    r"|[a-z0-9.-]+\.logic\.azure\.com"
    r"|api\.telegram\.org"
    r"|(?:web)?hooks?\.[a-z0-9.-]+(?::\d+)?"
    r"|[^\s/\"'<>]+(?:/[^\s/\"'<>]+)*?/(?:incoming-?)?webhooks?"
    r")/)(?!<hidden>)[^\s\"'<>]+(?:<hidden>[^\s\"'<>]*)*",
    re.IGNORECASE | re.ASCII,
)
# Everything up to the last @ before the path is user-info: a password may itself hold an @.
_USER_INFO = re.compile(r"(?P<scheme>(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/?#\"'<>]*@(?=[^\s/?#@])")
# A password with an unescaped slash ends the host too early: what stands after "user:" is then no port.
# Addresses of version control may really be host:path.
_BROKEN_USER_INFO = re.compile(
    r"(?P<scheme>(?<![A-Za-z0-9+.\-])(?!git|ssh|hg|svn|bzr)[A-Za-z][A-Za-z0-9+.\-]*://)"
    r"[^\s/?#@:\[\"'<>]*:(?!\d*(?:[/?#\s\"'<>,;)\]]|$))[^\s]*@(?=[^\s/?#@])"
)
_NAMED = (
    r"(?:(?:api|access|account|master|private|secret|shared|signing)[_\-]?key|token|secret|passw(?:or)?d"
    r"|passphrase|credentials?|signature|x-amz-[a-z\-]+|(?<![A-Za-z0-9])(?:auth|pass|pat|pw|pwd|sig)|(?<=[?&])key)"
)
_PAIR = re.compile(
    r"(?P<name>" + _NAMED + r"(?:[ \t]*=|[\\]*[\"'][ \t]*[:=](?!=))[ \t]*)"
    r"(?:\"[^\"]*\"|'[^']*'|[\\\"']*(?!<hidden>|<\d+>)[^\s&;\"'=>\\][^\s&;\"']*)",
    re.IGNORECASE | re.ASCII,
)
_OPTION_NAME = r"(?<![\w\-])--(?:[a-z0-9]+[\-_])*(?:api-?key|token|secret|passw(?:or)?d|passphrase|credentials?)"
_OPTION = re.compile(
    r"(?P<name>" + _OPTION_NAME + r"[ \t]+)(?!<hidden>|<\d+>|\d+(?![^\s]))[^\s\-\"'][^\s\"']*",
    re.IGNORECASE | re.ASCII,
)
_OPTION_ALONE = re.compile(_OPTION_NAME + r"$", re.IGNORECASE | re.ASCII)
_HEADER = re.compile(
    r"(?P<name>authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|digest|token)\s+)?"
    r"|(?<![A-Za-z0-9])x-api-key[\"']?\s*:\s*[\"']?"
    r"|(?<![A-Za-z0-9])bearer\s+(?=[^\s\"'<>]*\d)(?=[^\s\"'<>]{12}))"
    r"(?!<hidden>|<\d+>|(?:basic|bearer|digest|token)(?:\s|$))[^\s\"'=][^\s\"']*",
    re.IGNORECASE | re.ASCII,
)
_HOST_ADDRESS = re.compile(
    r"(?P<scheme>(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.\-]*://)"
    r"(?:(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\w.])|\[(?!::1?\])[0-9A-Fa-f:.%]+\])"
)
_DEVICE = re.compile(r"(?P<kind>(?<![A-Za-z0-9])(?:GPU|MIG)-)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_ENDS = r"\s:;,\"'<>()\[\]{}|"
# Windows' names of persons may have a blank in the middle.
_WINDOWS_NAME = r"(?!Public\b)(?:[^/\\:;,\"'<>()\[\]{}|\r\n\t]+(?=[/\\])|[^/\\" + _ENDS + r"]+)"
_HOMES = re.compile(
    r"(?:(?<![A-Za-z0-9_.~\-/\\])|(?<=file://)|(?<=-[IL]))"
    r"(?:/home/[^/" + _ENDS + r"]+"
    r"|/Users/(?!Shared(?![^/]))[^/" + _ENDS + r"]+"
    r"|/root(?![\w\-]|\.\w)"
    r"|(?:/mnt)?/[a-z]/Users/" + _WINDOWS_NAME + r")"
    r"|(?<![A-Za-z0-9])[A-Za-z]:[\\/]+[Uu]sers[\\/]+" + _WINDOWS_NAME
)

# Account names that tell nothing about a person, and directories that every system has; replacing them would
# only garble paths such as /app.
_ROLES = frozenset(
    """
    admin app appuser build builder ci circleci daemon default docker gitlab-runner jenkins jovyan lambda
    mambauser model nobody nonroot node nvidia python ray root runner sagemaker-user service triton-server
    ubuntu user
    vllm vscode work www-data
    backup bin boot data dev etc games home lib lib64 local mail man media mnt models news opt proc run sbin
    share srv sync sys tmp users usr var venv workspace
    """.split()  # noqa: SIM905 (a table)
)
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")
_TOKEN_END = re.compile(r"[\s:;,\"'<>=()\[\]{}|]")

# Each text that a pattern above can change holds one of these, in lower case. Names of secrets count only
# beside one of the signs that can stand between a name and a value.
_SHAPE_MARKS = (
    "_pat_", "glpat-", "hf_", "api_org_", "sk-", "k_live_",
    "k_test_", "akia", "asia", "aiza", "ya29.", "xox", "npm_", "pypi-age", "wandb_v1_", "nvapi-", "eyj",
    "private key-----", "gpu-", "mig-",
)  # fmt: skip
_URL_MARKS = ("@", "hook", "discord", ".azure.com", "api.telegram.org", "://[") + tuple(
    "://%d" % digit for digit in range(10)
)
_WEBHOOK_MARKS = ("hook", "discord", ".azure.com", "api.telegram.org")
_HEADER_MARKS = ("authorization", "x-api-key", "bearer")
_HOME_MARKS = ("/home/", "users", "/root")
_NAME_MARKS = (
    "key", "token", "secret", "passw", "passphrase", "credential", "signature", "x-amz-", "auth", "pass",
    "pat", "pw", "sig",
)  # fmt: skip
# Each begins with single characters, for which the engine scans fastest; what precedes is looked at later.
_ASSIGNS = re.compile(r"[=:](?:(?<=[a-z \t\"'\\]=)(?!=)|(?<=[\"' \t]:))")
_OPTIONS = re.compile(r"--")
_GITHUB = re.compile(r"gh[pousr]_")
_AUTHORITY = re.compile(r"://")

# A text settles in two rounds; what does not in so many is hidden.
_ROUNDS = 12


def sounds_secret(name: "str") -> "bool":
    """Whether a variable of this name may hold a secret: ``HF_TOKEN`` and ``MY_PWD`` do."""
    upper = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).upper()
    words = [word for word in re.split(r"[^A-Z0-9]+", upper) if word]
    return any(word in SECRET_WORDS or _SECRET_TAIL.search(word) for word in words)


def redact_secrets(text: "str") -> "str":
    """Steps 1 to 5 of the module's list: what needs no knowledge of the machine."""
    for _ in range(_ROUNDS):
        redacted = _redact_secrets_once(text)
        if redacted == text:
            return text
        text = redacted
    return HIDDEN


def _redact_secrets_once(text: "str") -> "str":
    # Each pattern is tried only where a mark of it is there: most texts are names, versions and paths.
    lower = text.lower()
    if "://" in text:
        if "@" in text:
            text = _USER_INFO.sub(r"\g<scheme>", text)
            text = _BROKEN_USER_INFO.sub(r"\g<scheme>", text)
        if _has(lower, _WEBHOOK_MARKS):
            text = _WEBHOOK.sub(r"\1" + HIDDEN, text)
        text = _HOST_ADDRESS.sub(r"\g<scheme>" + ADDRESS, text)
    if _has(lower, _SHAPE_MARKS) or _GITHUB.search(lower):
        text = _SHAPES.sub(HIDDEN, text)
        text = _DEVICE.sub(r"\g<kind><uuid>", text)
    if ("--" in lower or _ASSIGNS.search(lower)) and _has(lower, _NAME_MARKS):
        text = _PAIR.sub(r"\g<name>" + HIDDEN, text)
        text = _OPTION.sub(r"\g<name>" + HIDDEN, text)
    if _has(lower, _HEADER_MARKS):
        text = _HEADER.sub(r"\g<name>" + HIDDEN, text)
    return text


def _has(lower: "str", marks: "Sequence[str]") -> "bool":
    for mark in marks:  # noqa: SIM110 (a generator would cost as much as the search)
        if mark in lower:
            return True
    return False


def printable(text: "str") -> "str":
    r"""Step 7: a lone surrogate, which cannot be written as UTF-8, becomes ``\udcff``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


class Redactor:
    """Applies all steps to every string of a document, keys included.

    ``home``    the home directory of the measured user, where it carries the name of a person
    ``user``    the name of that person
    ``others``  more names of that person, or of the one behind ``sudo``
    """

    def __init__(
        self, home: "Optional[str]" = None, user: "Optional[str]" = None, others: "Sequence[str]" = ()
    ) -> "None":
        self._home = None  # type: Optional[Pattern[str]]
        self._user = None  # type: Optional[Pattern[str]]
        marks = list(_HOME_MARKS)
        names = [name for name in [user] + list(others) if name and name.lower() not in _ROLES and len(name) > 2]
        names = sorted(set(names), key=lambda name: (-len(name), name))
        if names:
            either = "(?:" + "|".join(re.escape(name) for name in names) + ")"
            self._user = re.compile(
                r"(?:(?<=[/\\])" + either + r"(?![\w\-]|\.\w)|(?<=[_\-])" + either + r"(?=[/\\]|$))"
            )
            marks.extend(name.lower() for name in names)
            parts = re.split(r"[/\\]", home or "")
            if home and any(name in parts for name in names):
                bare = home.rstrip("/\\")
                self._home = re.compile(r"(?<![A-Za-z0-9_.~\-/\\])" + re.escape(bare) + r"(?![\w\-]|\.\w)")
                marks.append(bare.lower())
        self._path_marks = tuple(marks)

    @classmethod
    def of_process(cls, environ: "Mapping[str, str]") -> "Redactor":
        """The redactor for the user that runs this process (the account is asked for, not only variables)."""
        home = environ.get("HOME") or environ.get("USERPROFILE")
        names = [environ.get(name, "") for name in ("LOGNAME", "USER", "USERNAME", "SUDO_USER")]
        user = None
        try:
            import pwd

            account = pwd.getpwuid(os.getuid())
            home, user = home or account.pw_dir, account.pw_name
        except (ImportError, KeyError, AttributeError):
            pass
        return cls(home, user, names)

    def text(self, text: "str") -> "str":
        """One text with all steps applied, until they change nothing."""
        text = printable(text)
        for _ in range(_ROUNDS):
            redacted = self._paths(_redact_secrets_once(text))
            if redacted == text:
                return text
            text = redacted
        return HIDDEN

    def _paths_settled(self, text: "str") -> "str":
        # What replaces a home or a user ends every pattern of a secret, so it cannot make a new one.
        for _ in range(_ROUNDS):
            redacted = self._paths(text)
            if redacted == text:
                return text
            text = redacted
        return HIDDEN

    def _paths(self, text: "str") -> "str":
        if _has(text.lower(), self._path_marks):
            if self._home is not None:
                text = self._home.sub("~", text)
            text = _HOMES.sub("~", text)
            if self._user is not None:
                text = self._user.sub(_hide_user, text)
        return text

    def document(self, value: "Any") -> "Any":
        """A copy of a JSON value in which every string is redacted.

        Two keys that become one (the same file under two homes) are both kept, the later one numbered. In a
        list that is a command line, the word after ``--password`` and its kin is hidden.
        """
        strings = set()  # type: Set[str]
        _collect(value, strings)
        changed = {}  # type: Dict[str, str]
        secrets, paths = self._suspects(strings)
        for text in paths - secrets:
            changed[text] = self._paths_settled(text)
        for text in secrets:
            changed[text] = self.text(text)
        return _rebuild(value, changed)

    def _suspects(self, strings: "Iterable[str]") -> "Tuple[Set[str], Set[str]]":
        """Those strings that may hold a secret, and those that may hold a home or a user.

        All are searched at once, which is many times faster than each by itself.
        """
        lines = []
        secrets = set()
        for text in strings:
            if "\n" in text:
                secrets.add(text)
            else:
                lines.append(text)
        joined = "\n".join(lines)
        try:
            joined.encode("utf-8")
        except UnicodeEncodeError:
            secrets.update([text for text in lines if printable(text) is not text])
        lowered = joined.lower()
        lower_lines = lowered.split("\n")
        starts = [0]
        starts.extend(itertools.accumulate([len(text) + 1 for text in lower_lines]))
        found = _lines_with(lowered, starts, _SHAPE_MARKS + _HEADER_MARKS)
        for sign, marks in (
            (_GITHUB, ("_",)),
            (_ASSIGNS, _NAME_MARKS),
            (_OPTIONS, _NAME_MARKS),
            (_AUTHORITY, _URL_MARKS),
        ):
            for hit in sign.finditer(lowered):
                line = bisect.bisect_right(starts, hit.start()) - 1
                if line not in found and _has(lower_lines[line], marks):
                    found.add(line)
        secrets.update([lines[line] for line in found])
        return secrets, {lines[line] for line in _lines_with(lowered, starts, self._path_marks)}


def _lines_with(text: "str", starts: "Sequence[int]", marks: "Sequence[str]") -> "Set[int]":
    found = set()
    for mark in marks:
        at = text.find(mark)
        while at >= 0:
            line = bisect.bisect_right(starts, at) - 1
            found.add(line)
            at = text.find(mark, starts[line + 1])
    return found


def _hide_user(found: "Match[str]") -> "str":
    """The replacement where the match stands in an absolute path and not below a package folder."""
    before = found.string[: found.start()]
    start = 0
    for end in _TOKEN_END.finditer(before):
        start = end.end()
    token = before[start:]
    drive = start >= 2 and before[start - 1] == ":" and token[:1] in ("\\", "/")
    absolute = token.startswith(("/", "~", "\\")) or drive
    if not absolute or any(name in token for name in _PACKAGE_FOLDERS):
        return found.group()
    return USER


def _collect(value: "Any", strings: "Set[str]") -> "None":
    if isinstance(value, str):
        strings.add(value)
    elif isinstance(value, dict):
        strings.update(value)
        for entry in value.values():
            if isinstance(entry, str):
                strings.add(entry)
            elif isinstance(entry, (dict, list, tuple)):
                _collect(entry, strings)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _collect(entry, strings)


def _rebuild(value: "Any", changed: "Mapping[str, str]") -> "Any":
    if isinstance(value, str):
        return changed.get(value, value)
    if isinstance(value, dict):
        result = {}  # type: Dict[str, Any]
        for key, entry in value.items():
            name = base = changed.get(key, key)
            count = 2
            while name in result:
                name = "%s <%d>" % (base, count)
                count += 1
            if isinstance(entry, str):
                result[name] = changed.get(entry, entry)
            else:
                result[name] = _rebuild(entry, changed) if isinstance(entry, (dict, list, tuple)) else entry
        return result
    if isinstance(value, (list, tuple)):
        words = []  # type: List[Any]
        hide = False
        for entry in value:
            if isinstance(entry, str):
                word = changed.get(entry, entry)
                words.append(HIDDEN if hide and not _is_plain(word) else word)
                hide = word.startswith("-") and _OPTION_ALONE.match(word) is not None
            else:
                words.append(_rebuild(entry, changed))
                hide = False
        return words
    return value


def _is_plain(word: "str") -> "bool":
    """The next option, or a number: ``--max-token 512``."""
    return word.startswith("-") or word.isdigit() or not word


def keyed_digest(key: "str", name: "str", value: "str") -> "str":
    """What stands for a hidden value where ``DRIFTCHECK_KEY`` is set; equal only for equal arguments."""
    message = (name + "\0" + value).encode("utf-8", "backslashreplace")
    secret = key.encode("utf-8", "backslashreplace")
    return "hmac:" + hmac.new(secret, message, hashlib.sha256).hexdigest()[:24]
