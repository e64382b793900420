"""Redaction: planted secrets do not survive, and what is no secret is left alone."""

from __future__ import annotations

import json
import re

import pytest
from driftcheck.probes.redaction import HIDDEN, Redactor, keyed_digest, redact_secrets, sounds_secret
from hypothesis import given
from hypothesis import strategies as st

ALICE = Redactor("/home/alice", "alice")
TAIL = "Q7w8E9r0T1y2U3i4O5p6A7s8D9f0G1h2J3k4"

SECRETS = {
    "hugging face": "hf_" + TAIL,
    "github": "ghp_" + TAIL,
    "github fine-grained": "github_pat_" + TAIL,
    "gitlab": "glpat-" + TAIL,
    "openai": "sk-proj-" + TAIL,
    "aws": "AKIA" + "ABCDEFGHIJKLMNOP",
    "google": "AIza" + TAIL,
    "slack": "xoxb-1234567890-" + TAIL,
    "npm": "npm_" + TAIL,
    "pypi": "pypi-AgEIcHlwaS5vcmc" + TAIL,
    "docker hub": "dckr_pat_" + TAIL,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + TAIL,
}

# Text, and what of it must not remain.
PLANTED = [
    ("postgresql://svc:hunter2@db.example.com/app", "hunter2"),
    ("https://svc:hunter2@pypi.example.com/simple", "hunter2"),
    ("https://svc:p/hunter2@pypi.example.com/simple", "hunter2"),
    ("redis://:hunter2@cache:6379/0", "hunter2"),
    ("https://hunter2@git.example.com/x.git", "hunter2"),
    ("git+https://oauth2:hunter2@git.example.com/x.git@v1", "hunter2"),
    ("https://hooks.slack.com/services/T00/B00/hunter2", "hunter2"),
    ("https://discord.com/api/webhooks/123/hunter2", "hunter2"),
    ("https://hooks.example.com/hunter2", "hunter2"),
    ("https://x.example.com/a.whl?token=hunter2&v=1", "hunter2"),
    ("https://x.example.com/a.whl?X-Amz-Signature=hunter2", "hunter2"),
    ("https://maps.example.com/?v=1&key=hunter2", "hunter2"),
    ("SharedAccessKeyName=a;SharedAccessKey=hunter2=;E=1", "hunter2"),
    ("host=db password=hunter2 user=x", "hunter2"),
    ("password = 'hun ter2'", "ter2"),
    ('{"api_key": "hunter2"}', "hunter2"),
    (r"{\"password\": \"hunter2\"}", "hunter2"),
    ("serve --api-key hunter2 --port 80", "hunter2"),
    ("Authorization: Basic hunter2hunter2", "hunter2"),
    ("Bearer hunter2hunter2hunter2", "hunter2"),
    ("http://10.1.2.3:8080/", "10.1.2.3"),
    ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", "hunter2"),
    ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "8932f937"),
    ("/home/bob/models", "bob"),
    ("-I/home/bob/include", "bob"),
    ("/Users/bob/models", "bob"),
    ("C:\\Users\\Bob Smith\\models", "Smith"),
    ("/mnt/c/Users/bob/AppData", "bob"),
    ("file:///home/bob/x.whl", "bob"),
    ("/data/alice/models", "alice"),
    ("/tmp/torchinductor_alice", "alice"),
]

HARMLESS = [
    "4.10.0.84",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sha256=R6kKgVLSrZzDNGpKLrKBYBqWDIqTLXu1XHyPqA1ZrFo",
    'foo>=1; extra == "token"',
    'secret-lib~=2.0; python_version < "3.9" and extra == "auth"',
    "token==1.0",
    "auth>=1,!=1.5",
    "tokenizers<=0.23.0,>=0.22.0",
    "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "sk-video-1.1.10-py3-none-any",
    "sk-learn-contrib-lightning-extras",
    "pypi-attestation-verification-models",
    "hf_transfer",
    "hf_xet-1.2.0.dist-info/RECORD",
    "Basic infrastructure for everything",
    "https://github.com/pre-commit/pre-commit-hooks",
    "git+https://github.com/org/repo.git@v1.0",
    "http://127.0.0.1:8000/health",
    "http://[::1]:8000/",
    "site-packages/keyring/backends/Windows.py",
    "torch/_inductor/runtime/alice/autotune.py",
    "/opt/venv/lib/python3.11/site-packages/alice/core.py",
    "/roots/x",
    "--max-tokens 512",
    "NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471",
    "$ORIGIN/../../nvidia/cublas/lib",
]


@pytest.mark.parametrize(("text", "secret"), PLANTED)
def test_planted_secret_is_gone(text: str, secret: str) -> None:
    assert secret not in ALICE.text(text)
    assert secret not in json.dumps(ALICE.document({"a": [text], text: 1}))


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_untouched(text: str) -> None:
    assert ALICE.text(text) == text
    assert ALICE.document({text: text}) == {text: text}


def test_what_the_user_sees() -> None:
    assert ALICE.text("https://u:p@h.example.com/x?token=a&b=1") == "https://h.example.com/x?token=<hidden>&b=1"
    assert ALICE.text("https://hooks.slack.com/services/T/B/x") == "https://hooks.slack.com/<hidden>"
    assert ALICE.text("/home/alice/venv:/root/.cache:/opt") == "~/venv:~/.cache:/opt"
    assert ALICE.text("/data/alice/models") == "/data/<user>/models"


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "MY_PWD", "GH_PAT", "PGPASSWORD", "AwsSecretKey", "WANDB_API_KEY", "apiKey"]
)
def test_names_of_secrets(name: str) -> None:
    assert sounds_secret(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "PATH", "COMPASS", "KEYBOARD", "PYTHONHASHSEED", "HF_HOME"])
def test_names_of_no_secrets(name: str) -> None:
    assert not sounds_secret(name)


@given(st.sampled_from(sorted(SECRETS)), st.text(), st.text())
def test_no_token_survives_in_any_surrounding(kind: str, before: str, after: str) -> None:
    # A letter or digit that touches a token makes it another word.
    if re.search(r"[A-Za-z0-9]$", before):
        before += " "
    if re.match(r"[A-Za-z0-9]", after):
        after = " " + after
    secret = SECRETS[kind]
    assert secret not in ALICE.text(before + secret + after)


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters=" \t\r\n/?#\"'<>"), min_size=1),
    st.text(),
)
def test_no_password_survives_in_a_url(password: str, after: str) -> None:
    secret = "hunter2" + password
    if password.isspace() or any(character.isspace() for character in password):
        return
    assert "hunter2" not in ALICE.text("https://user:" + secret + "@pypi.example.com/simple " + after)


PIECES = st.sampled_from(
    [
        *SECRETS.values(),
        *(text for text, _ in PLANTED),
        *HARMLESS,
        "://",
        "@",
        "=",
        "token",
        '"',
        "'",
        ":",
        " ",
        "/home/",
        "/alice",
        "-----BEGIN PRIVATE KEY-----",
        "<hidden>",
        "�",
        "\n",
        "\\",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=6).map("".join))
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(TEXTS)
def test_texts_settle(text: str) -> None:
    once = ALICE.text(text)
    assert ALICE.text(once) == once
    assert redact_secrets(redact_secrets(text)) == redact_secrets(text)
    once.encode("utf-8")


@given(DOCUMENTS)
def test_documents_settle(document: object) -> None:
    once = ALICE.document(document)
    assert ALICE.document(once) == once
    json.dumps(once, ensure_ascii=False).encode("utf-8")


@given(TEXTS)
def test_the_fast_search_misses_nothing(text: str) -> None:
    assert ALICE.document([text]) == [ALICE.text(text)]


def test_keys_that_become_one_are_both_kept() -> None:
    assert ALICE.document({"/home/bob/x": 1, "/home/eve/x": 2}) == {"~/x": 1, "~/x <2>": 2}


def test_the_word_after_a_secret_option_is_hidden() -> None:
    command = ["vllm", "serve", "--api-key", "hunter2", "--max-token", "512", "--token", "--port", "80"]
    hidden = ["vllm", "serve", "--api-key", HIDDEN, "--max-token", "512", "--token", "--port", "80"]
    assert ALICE.document(command) == hidden


def test_file_names_that_are_no_unicode_become_printable() -> None:
    assert ALICE.document({"caf\udce9.py": "\udcff"}) == {"caf\\udce9.py": "\\udcff"}


def test_a_role_is_no_person() -> None:
    assert Redactor("/app", "app").text("/app/main.py") == "/app/main.py"


def test_the_person_behind_sudo() -> None:
    redactor = Redactor.of_process({"HOME": "/srv/carol", "SUDO_USER": "carol"})
    assert "carol" not in redactor.text("/srv/carol/models")


def test_keyed_digests() -> None:
    assert keyed_digest("k", "A", "v") == keyed_digest("k", "A", "v")
    assert len({keyed_digest("k", "A", "v"), keyed_digest("l", "A", "v"), keyed_digest("k", "B", "v")}) == 3
    assert keyed_digest("\udcff", "A", "\ud800").startswith("hmac:")
