"""The variables probe: values by allow-list, everything else by name, secrets never."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from driftcheck.probes import common, variables
from driftcheck.probes.redaction import Redactor

SECRETS = {
    "HF_TOKEN": "hf_hunter2hunter2hunter2",
    "DATABASE_URL": "postgresql://svc:hunter2@db.example.com/app",
    "PIP_INDEX_URL": "https://svc:hunter2@pypi.example.com/simple",
    "SLACK_WEBHOOK": "https://hooks.slack.com/services/T00/B00/hunter2",
    "MY_PWD": "hunter2",
    "GH_PAT": "hunter2",
    "VLLM_API_KEY": "hunter2",
    "NVIDIA_API_KEY": "hunter2",
    "RAY_REDIS_PASSWORD": "hunter2",
    "TF_CONFIG": '{"cluster": {"worker": ["hunter2.example.com:2222"]}}',
    "NCCL_COMM_ID": "hunter2:1234",
    "OMPI_MCA_orte_hnp_uri": "1.0;tcp://hunter2:5000",
    "VLLM_HOST_IP": "hunter2",
    "UNKNOWN": "hunter2",
}


def measure(environ: dict[str, str], **options: object) -> dict[str, dict[str, str]]:
    facts = variables.measure(common.Place(environ=environ, options=options))
    table: dict[str, dict[str, str]] = facts["variables"]
    return table


def test_values_that_matter_are_recorded() -> None:
    environ = {"OMP_NUM_THREADS": "4", "LD_LIBRARY_PATH": "/opt/lib", "TOKENIZERS_PARALLELISM": "false"}
    assert measure(environ) == {name: {"value": value} for name, value in environ.items()}


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secrets_are_named_and_not_told(name: str) -> None:
    assert measure(SECRETS)[name] == {}
    assert set(measure({**SECRETS, "DRIFTCHECK_KEY": "k"})[name]) == {"digest"}


def test_asking_for_a_secret_does_not_tell_it() -> None:
    asked = measure(SECRETS, variables=["HF_TOKEN", "DATABASE_URL", "UNKNOWN"])
    assert (asked["HF_TOKEN"], asked["DATABASE_URL"]) == ({}, {})
    assert asked["UNKNOWN"] == {"value": "hunter2"}


def test_no_secret_in_the_section() -> None:
    for extra in ({}, {"DRIFTCHECK_KEY": "k-hunter2"}):
        section = common.section(variables, common.Place(environ={**SECRETS, **extra}))
        assert "hunter2" not in json.dumps(Redactor("/home/alice", "alice").document(section))


def test_a_key_shows_that_hidden_values_differ() -> None:
    first = measure({"UNKNOWN": "a", "DRIFTCHECK_KEY": "k"})
    assert first == measure({"UNKNOWN": "a", "DRIFTCHECK_KEY": "k"})
    assert first != measure({"UNKNOWN": "b", "DRIFTCHECK_KEY": "k"})


def test_what_a_terminal_sets_is_left_out() -> None:
    assert measure({"SHLVL": "1", "TERM": "xterm", "SSH_CONNECTION": "10.0.0.1 1 2", "DRIFTCHECK_KEY": "k"}) == {}


def test_no_name_of_the_list_is_hidden() -> None:
    assert [name for name in sorted(variables.NAMES) if not variables.matters(name)] == []


def test_files_that_a_variable_names_and_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ca.pem").write_text("")
    (tmp_path / "etc/link.pem").symlink_to("/etc/ca.pem")
    (tmp_path / "etc/dangling.pem").symlink_to("/etc/gone.pem")
    environ = {
        "SSL_CERT_FILE": "/etc/link.pem",
        "REQUESTS_CA_BUNDLE": "/etc/dangling.pem",
        "LD_PRELOAD": "libm.so.6 /etc/ca.pem:/opt/libjemalloc.so.2",
        "SSL_CERT_DIR": "certificates",
        "CURL_CA_BUNDLE": "/etc/\0",
        "HOME": "/nowhere",
    }
    options: dict[str, object] = {"image_config": {}}
    facts = variables.measure(common.Place(str(tmp_path), environ, live=False, options=options))
    assert {name: record.get("missing") for name, record in facts["variables"].items()} == {
        "SSL_CERT_FILE": None,
        "REQUESTS_CA_BUNDLE": {"/etc/dangling.pem": True},
        "LD_PRELOAD": {"/opt/libjemalloc.so.2": True},
        "SSL_CERT_DIR": None,
        "CURL_CA_BUNDLE": {"/etc/\0": True},
        "HOME": None,
    }


def test_values_that_are_no_unicode() -> None:
    assert set(measure({"UNKNOWN": "\udcff", "DRIFTCHECK_KEY": "\udcfe"})["UNKNOWN"]) == {"digest"}
