"""What never leaves an environment: secrets, user-info in URLs, home directories, user names, addresses.

Snapshots are attached to public tickets. This runs inside the payload, before anything is printed, and once
more whenever driftcheck loads a snapshot or a report. It is idempotent: redacting twice changes nothing.

What is recognised, in the order of application:

1. user-info in a URL (``https://user:password@host``) is dropped, whatever it holds;
2. the query of a URL keeps its names and loses the values of those that sound like a secret;
3. tokens by their published shapes (GitHub, Hugging Face, OpenAI, AWS, Slack, Google, GitLab, npm, PyPI, JWT,
   PEM private keys, webhook addresses) and ``password=...`` pairs become ``<hidden>``;
4. an IP address as the host of a URL becomes ``<address>`` (loopback stays);
5. home directories become ``~``; the name of the user as a path component becomes ``<user>``.
"""

import hashlib
import hmac
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Optional

HIDDEN = "<hidden>"
ADDRESS = "<address>"
USER = "<user>"

# A variable with one of these words in its name is never recorded by value, not even when asked for.
# Words are compared as parts between underscores, so that KEYBOARD or COMPASS are not secrets.
SECRET_WORDS = frozenset(
    """
    APIKEY AUTH AUTHORIZATION BEARER CERT COOKIE CRED CREDENTIAL CREDENTIALS CREDS DSN HOOK JWT KEY KEYS LICENSE
    PASS PASSPHRASE PASSWD PASSWORD PAT PRIVATE PSWD PW PWD SALT SAS SECRET SECRETS SESSION SID SIG SIGNATURE
    TOKEN TOKENS WEBHOOK
    """.split()
)
_SECRET_TAIL = re.compile(r"(?:TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|ACCESSKEY|CREDENTIALS?)S?$")

_SHAPES = re.compile(
    r"""
      \bgh[pousr]_[A-Za-z0-9]{16,}            # GitHub: docs "token formats"
    | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bglpat-[A-Za-z0-9_\-]{16,}             # GitLab
    | \bhf_[A-Za-z0-9]{16,}                   # Hugging Face
    | \bapi_org_[A-Za-z0-9]{16,}
    | \bsk-[A-Za-z0-9_\-]{16,}                # OpenAI, Anthropic
    | \bsk_(?:live|test)_[A-Za-z0-9]{10,}     # Stripe
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b           # AWS
    | \bAIza[A-Za-z0-9_\-]{30,}               # Google
    | \bya29\.[A-Za-z0-9_\-.]{20,}
    | \bxox[abeoprs]-[A-Za-z0-9\-]{8,}        # Slack
    | \bnpm_[A-Za-z0-9]{30,}
    | \bpypi-[A-Za-z0-9_\-]{16,}
    | \bdckr_pat_[A-Za-z0-9_\-]{16,}          # Docker Hub
    | \bwandb_v1_[A-Za-z0-9_\-]{16,}
    | \bnvapi-[A-Za-z0-9_\-]{16,}             # NVIDIA NGC
    | \beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*   # JSON Web Token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE,
)
_WEBHOOK = re.compile(
    r"(https?://(?:hooks\.slack\.com/(?:services|workflows|triggers)"
    r"|(?:[a-z]+\.)?discord(?:app)?\.com/api/webhooks"
    r"|[a-z0-9.-]+\.webhook\.office\.com/[a-z0-9]+"
    r"|[a-z0-9.-]+\.logic\.azure\.com"
    r"|api\.telegram\.org/bot)"
    r")[^\s\"'<>]*[^\s\"'<>/]",
    re.IGNORECASE,
)
# Everything up to the last @ before the path is user-info: a password may itself hold an @.
_USER_INFO = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]*://)[^\s/?#\"'<>]*@(?=[^\s/?#@])")
_PAIR = re.compile(
    r"(?P<name>(?<![A-Za-z0-9])(?:[A-Za-z0-9]+[_\-])*"
    r"(?:api[_\-]?key|access[_\-]?key|account[_\-]?key|auth|credentials?|passwd|password|passphrase|pwd"
    r"|secret|sig|signature|token|x-amz-[a-z\-]+)\s*=\s*)"
    r"(?P<value>(?!<hidden>)[^\s&;,\"'=<>()]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:Bearer|Basic)\s+)(?!<hidden>)[A-Za-z0-9+/_\-.=]{12,}")
_HOST_ADDRESS = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]*://)"
    r"(?P<host>(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}|\[(?!::1\])[0-9A-Fa-f:.%]+\])"
)
_HOMES = re.compile(
    r"(?:(?<![A-Za-z0-9_.~\-/\\])|(?<=file://))"
    r"(?:/home/[^/\s:;,\"'<>]+|/Users/(?!Shared\b)[^/\s:;,\"'<>]+|/root|[A-Za-z]:\\Users\\(?!Public\b)[^\\\s:;,\"'<>]+)"
    r"(?=[/\\:;,\"'\s<>)\]]|$)"
)

# Account names that tell nothing about a person; replacing them would only garble paths such as /app.
_ROLES = frozenset(
    "admin app appuser build builder ci circleci daemon default docker gitlab-runner jenkins jovyan lambda "
    "mambauser model nobody nonroot node nvidia python ray root runner sagemaker-user service triton-server "
    "ubuntu user vllm vscode work www-data".split()
)


def sounds_secret(name: "str") -> "bool":
    """Whether a variable of this name may hold a secret: ``HF_TOKEN``, ``MY_PWD``, ``DATABASE_URL`` is none."""
    upper = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()
    words = [word for word in re.split(r"[^A-Z0-9]+", upper) if word]
    return any(word in SECRET_WORDS or _SECRET_TAIL.search(word) for word in words)


def redact_secrets(text: "str") -> "str":
    """Steps 1 to 4 of the module's list: what needs no knowledge of the machine."""
    if "://" in text:
        text = _WEBHOOK.sub(r"\1/" + HIDDEN, text)
        text = _USER_INFO.sub(lambda found: found.group("scheme"), text)
        text = _HOST_ADDRESS.sub(lambda found: found.group("scheme") + ADDRESS, text)
    text = _SHAPES.sub(HIDDEN, text)
    if "=" in text:
        text = _PAIR.sub(lambda found: found.group("name") + HIDDEN, text)
    return _BEARER.sub(lambda found: found.group(1) + HIDDEN, text)


class Redactor:
    """Applies all steps to every string of a document, keys included.

    ``home``  the home directory of the measured user, where it carries the name of a person
    ``user``  the name of that person
    """

    def __init__(self, home: "Optional[str]" = None, user: "Optional[str]" = None) -> "None":
        self._home = None  # type: Optional[Any]
        self._user = None  # type: Optional[Any]
        if user and user not in _ROLES and len(user) > 2:
            self._user = re.compile(r"(?<=[/\\])" + re.escape(user) + r"(?=[/\\:;,\"'\s]|$)")
            if home and len(home) > 1 and user in re.split(r"[/\\]", home):
                self._home = re.compile(re.escape(home.rstrip("/\\")) + r"(?=[/\\:;,\"'\s]|$)")

    @classmethod
    def of_process(cls, environ: "Mapping[str, str]") -> "Redactor":
        """The redactor for the user that runs this process (the account is asked for, not only variables)."""
        home = environ.get("HOME") or environ.get("USERPROFILE")
        user = environ.get("LOGNAME") or environ.get("USER") or environ.get("USERNAME")
        try:
            import pwd

            account = pwd.getpwuid(os.getuid())
            home, user = home or account.pw_dir, account.pw_name or user
        except (ImportError, KeyError, AttributeError):
            pass
        return cls(home, user)

    def text(self, text: "str") -> "str":
        text = redact_secrets(text)
        if "/" in text or "\\" in text:
            if self._home is not None:
                text = self._home.sub("~", text)
            text = _HOMES.sub("~", text)
            if self._user is not None:
                text = self._user.sub(USER, text)
        return text

    def document(self, value: "Any") -> "Any":
        """A copy of a JSON value in which every string is redacted.

        Two keys that become one (the same file under two homes) are both kept, the later one numbered.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            result = {}  # type: dict[str, Any]
            for key, entry in value.items():
                name = base = self.text(key)
                count = 2
                while name in result:
                    name = "%s (%d)" % (base, count)
                    count += 1
                result[name] = self.document(entry)
            return result
        if isinstance(value, (list, tuple)):
            return [self.document(entry) for entry in value]
        return value


def keyed_digest(key: "str", name: "str", value: "str") -> "str":
    """What stands for a hidden value where ``DRIFTCHECK_KEY`` is set: equal only for equal key, name, value."""
    message = (name + "\0" + value).encode("utf-8", "surrogateescape")
    return "hmac:" + hmac.new(key.encode("utf-8"), message, hashlib.sha256).hexdigest()[:24]
