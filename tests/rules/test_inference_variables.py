"""Family ENV on what libraries for inference read: one test a rule on made-up facts, and laws of the two tables."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.knowledge import tables
from driftcheck.knowledge import variables as known

EVERYTHING = distributions(
    *(
        distribution(name, version)
        for name, version in {
            "torch": "2.13.0",
            "numpy": "2.4.6",
            "huggingface-hub": "2.4.0",
            "transformers": "5.23.0",
            "tokenizers": "0.23.3",
            "protobuf": "7.36.2",
            "requests": "2.34.2",
            "httpx": "0.28.1",
            "jax": "0.10.2",
            "jaxlib": "0.10.2",
            "vllm": "0.26.0",
        }.items()
    )
)
NOTHING = distributions()


def variables(**values: str | None) -> dict[str, Any]:
    """Facts of section ``variables``; None is a hidden value."""
    return {"variables": {name: {} if value is None else {"value": value} for name, value in values.items()}}


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def drift(before: dict[str, Any], after: dict[str, Any], packages: dict[str, Any] = EVERYTHING) -> list[Finding]:
    baseline = {"variables": before, "packages": packages}
    return findings("ENV004", baseline=baseline, variables=after, packages=packages)


# ENV004


def test_env004_offline() -> None:
    (found,) = drift(variables(), variables(HF_HUB_OFFLINE="1"))
    assert judged(found) == ("breaks", "possible")
    assert found.title == "HF_HUB_OFFLINE is 1 here, and not set in the baseline"
    assert found.predicted_error is not None
    assert found.predicted_error.startswith("OSError: We couldn't connect to 'https://huggingface.co'")
    assert [fix.text for fix in found.fix] == ["unset HF_HUB_OFFLINE"]
    assert found.references == ("https://huggingface.co/docs/transformers/installation#offline-mode",)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (variables(HF_HUB_OFFLINE="1"), variables()),  # the network is there again
        (variables(), variables(HF_HUB_OFFLINE="0")),
        (variables(), variables(HF_HUB_OFFLINE=None)),  # hidden: not known
        (variables(CUDA_MODULE_LOADING="EAGER"), variables(CUDA_MODULE_LOADING="EAGER")),
        (variables(), variables(CUDA_MODULE_LOADING="LAZY")),
        (variables(), variables(OMP_PROC_BIND="FALSE")),  # the same as none
        (variables(), variables(TOKENIZERS_PARALLELISM="true")),
        (variables(), variables(ATEN_CPU_CAPABILITY="avx2")),  # NUM005's
        (variables(), variables(UNKNOWN="1")),
    ],
)
def test_env004_silent(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert drift(before, after) == []
    assert findings("ENV004", baseline={"variables": before, "packages": EVERYTHING}, variables=after,
                    packages=EVERYTHING) == []  # fmt: skip


def test_env004_needs_a_reader() -> None:
    assert drift(variables(), variables(HF_HUB_OFFLINE="1"), NOTHING) == []
    assert drift(variables(), variables(TOKENIZERS_PARALLELISM="false"), NOTHING) == []


def test_env004_one_finding_a_variable() -> None:
    found = drift(
        variables(NCCL_SOCKET_IFNAME="eth0"),
        variables(NCCL_SOCKET_IFNAME="ens5", CUDA_LAUNCH_BLOCKING="1", TOKENIZERS_PARALLELISM="False"),
    )
    assert {one.subject.name: judged(one) for one in found} == {
        "NCCL_SOCKET_IFNAME": ("breaks", "possible"),
        "CUDA_LAUNCH_BLOCKING": ("slows", "possible"),
        "TOKENIZERS_PARALLELISM": ("slows", "possible"),
    }
    fixes = {one.subject.name: [fix.text for fix in one.fix] for one in found}
    assert fixes["NCCL_SOCKET_IFNAME"] == ["NCCL_SOCKET_IFNAME=eth0", "ENV NCCL_SOCKET_IFNAME=eth0"]


def test_env004_a_value_that_a_shell_would_run_is_not_put_into_a_command() -> None:
    (found,) = drift(variables(NCCL_SOCKET_IFNAME="$(reboot)"), variables())
    assert [fix.kind for fix in found.fix] == ["advice"]
    assert "reboot" not in found.fix[0].text


def test_env004_explains_its_variable() -> None:
    one = snapshot("a", variables=variables(HF_HOME="/models"), packages=EVERYTHING)
    other = snapshot("b", variables=variables(), packages=EVERYTHING)
    explanation = explain_pair(one, other)
    (found,) = [finding for finding in explanation.findings if finding.code == "ENV004"]
    assert found.folds == (("variables", "variables", "HF_HOME"),)


# ENV005


def refused(values: dict[str, str], packages: dict[str, Any] = EVERYTHING) -> list[Finding]:
    return findings("ENV005", variables=variables(**values), packages=packages)


@pytest.mark.parametrize(
    ("values", "impact", "error"),
    [
        ({"OMP_NUM_THREADS": "500m"}, "slows", "libgomp: Invalid value for environment variable OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "0"}, "slows", "libgomp: Invalid value for environment variable OMP_NUM_THREADS"),
        (
            {"PYTHONHASHSEED": "4294967296"},
            "breaks",
            (
                'Fatal Python error: config_init_hash_seed: PYTHONHASHSEED must be "random" or an integer in range '
                "[0; 4294967295]"
            ),
        ),
        (
            {"HF_HUB_DOWNLOAD_TIMEOUT": "10s"},
            "breaks",
            "ValueError: invalid literal for int() with base 10: '10s'",
        ),
        (
            {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "cpp"},
            "breaks",
            "ImportError: cannot import name '_message' from 'google.protobuf.pyext'",
        ),
        ({"JAX_ENABLE_X64": "2"}, "breaks", "ValueError: invalid truth value '2' for environment 'JAX_ENABLE_X64'"),
        (
            {"NPY_DISABLE_CPU_FEATURES": "X86_V4,x86_v2"},
            "breaks",
            (
                "RuntimeError: During parsing environment variable: 'NPY_DISABLE_CPU_FEATURES':\n"
                "You cannot disable CPU feature 'X86_V2', since it is part of the baseline optimizations:\n(X86_V2)."
            ),
        ),
        ({"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}, "changes-results", None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_env005_a_value_that_is_refused(values: dict[str, str], impact: str, error: str | None) -> None:
    (found,) = refused(values)
    assert found.impact.value == impact
    assert found.predicted_error == error
    assert next(iter(values)) in found.title


@pytest.mark.parametrize(
    "values",
    [
        {"OMP_NUM_THREADS": " 4, 2 "},
        {"PYTHONHASHSEED": "4294967295"},
        {"PYTHONHASHSEED": "random"},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "10"},
        {"JAX_ENABLE_X64": "True"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"},
        {"XLA_FLAGS": "--xla_dump_to=/tmp --xla_cpu_multi_thread_eigen=false"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"HF_HUB_ENABLE_HF_TRANSFER": "1"},  # this huggingface-hub only warns
        {"SSL_CERT_FILE": "/etc/ssl/corp.pem"},  # is there
    ],
    ids=" ".join,
)
def test_env005_silent(values: dict[str, str]) -> None:
    assert refused(values) == []
    assert findings("ENV005", variables=variables(**values), packages=NOTHING) == []


def test_env005_two_that_exclude_each_other() -> None:
    (found,) = refused({"NPY_DISABLE_CPU_FEATURES": "X86_V4", "NPY_ENABLE_CPU_FEATURES": "X86_V3"})
    assert found.title == "NPY_DISABLE_CPU_FEATURES and NPY_ENABLE_CPU_FEATURES exclude each other"


def test_env005_a_distribution_that_is_needed() -> None:
    old = distribution("huggingface-hub", "0.23.5")
    asked = {"HF_HUB_ENABLE_HF_TRANSFER": "1"}
    (found,) = refused(asked, distributions(old))
    assert found.title == "HF_HUB_ENABLE_HF_TRANSFER=1 needs hf-transfer, which is not installed"
    assert found.fix[0].text == "python -m pip install hf-transfer"
    assert refused(asked, distributions(old, distribution("hf-transfer"))) == []
    assert refused({"HF_HUB_ENABLE_HF_TRANSFER": "0"}, distributions(old)) == []


def dangling(name: str, path: str, **others: str) -> dict[str, Any]:
    facts = variables(**others)
    facts["variables"][name] = {"value": path, "missing": {path: True}}
    return facts


def test_env005_a_certificate_bundle_that_is_not_there() -> None:
    facts = dangling("REQUESTS_CA_BUNDLE", "/nonexistent/corp.pem")
    (found,) = findings("ENV005", variables=facts, packages=EVERYTHING)
    assert judged(found) == ("breaks", "likely")
    assert found.title == "REQUESTS_CA_BUNDLE names a file that is not there: /nonexistent/corp.pem"
    assert found.predicted_error == (
        "OSError: Could not find a suitable TLS CA certificate bundle, invalid path: /nonexistent/corp.pem"
    )
    assert findings("ENV005", variables=facts, packages=NOTHING) == []


def test_env005_requests_reads_its_own_variable_first() -> None:
    facts = dangling("CURL_CA_BUNDLE", "/gone.pem", REQUESTS_CA_BUNDLE="/etc/ca.pem")
    assert findings("ENV005", variables=facts, packages=EVERYTHING) == []
    facts = dangling("CURL_CA_BUNDLE", "/gone.pem")
    assert len(findings("ENV005", variables=facts, packages=EVERYTHING)) == 1


def test_env005_ssl_cert_file_with_and_without_httpx() -> None:
    facts = dangling("SSL_CERT_FILE", "/gone.pem")
    (found,) = findings("ENV005", variables=facts, packages=EVERYTHING)
    assert (judged(found), found.predicted_error) == (
        ("breaks", "likely"),
        "FileNotFoundError: [Errno 2] No such file or directory",
    )
    (found,) = findings("ENV005", variables=facts, packages=NOTHING)
    assert judged(found) == ("breaks", "possible")
    # The folder of certificates answers in its place.
    facts = dangling("SSL_CERT_FILE", "/gone.pem", SSL_CERT_DIR="/etc/ssl/certs")
    assert findings("ENV005", variables=facts, packages=NOTHING) == []


def test_env005_a_preloaded_library_that_is_not_there() -> None:
    facts = dangling("LD_PRELOAD", "/usr/lib/libjemalloc.so.2")
    (found,) = findings("ENV005", variables=facts, packages=NOTHING)
    assert judged(found) == ("slows", "likely")
    assert found.predicted_error == (
        "ERROR: ld.so: object '/usr/lib/libjemalloc.so.2' from LD_PRELOAD cannot be preloaded "
        "(cannot open shared object file): ignored."
    )


def test_env005_a_name_that_this_version_does_not_read() -> None:
    asked = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    (found,) = refused(asked, distributions(distribution("torch", "2.9.1")))
    assert judged(found) == ("slows", "possible")
    assert refused(asked, distributions(distribution("torch", "2.10.0"))) == []
    assert refused(asked | {"PYTORCH_CUDA_ALLOC_CONF": "x"}, distributions(distribution("torch", "2.9.1"))) == []


def test_env005_gives_back_the_value_of_the_baseline() -> None:
    before = {"variables": variables(OMP_NUM_THREADS="4"), "packages": EVERYTHING}
    (found,) = findings("ENV005", baseline=before, variables=variables(OMP_NUM_THREADS="4000m"), packages=EVERYTHING)
    assert found.fix[0].text == "OMP_NUM_THREADS=4"


# ENV006


def bound(value: str, online: int = 2, packages: dict[str, Any] = EVERYTHING) -> list[Finding]:
    limits = {
        "cgroup": {"version": 2, "cpu_quota": None, "cpuset": None, "memory_bytes": None, "pids": None},
        "cpus": {"affinity": online, "online": online},
        "cpu_limit": {"cpus": online, "decided_by": "online"},
    }
    return findings("ENV006", variables=variables(GOMP_CPU_AFFINITY=value), limits=limits, packages=packages)


@pytest.mark.parametrize(
    ("value", "cpu", "confidence"),
    [
        ("7", 7, "likely"),
        ("2-3", 3, "likely"),
        ("1-5", 2, "likely"),
        ("0 2", 2, "likely"),
        ("0-14:3", 3, "likely"),
        ("5 0", 5, "possible"),
        ("0-3", 2, "possible"),
        ("0,1,5", 5, "possible"),
        ("0-999999", 2, "possible"),
    ],
)
def test_env006_a_cpu_that_is_not_there(value: str, cpu: int, confidence: str) -> None:
    """Two CPUs, and so two threads: seen with torch 2.13, whose second thread is the first that is bound anew."""
    (found,) = bound(value)
    assert judged(found) == ("breaks", confidence)
    assert found.title == f"GOMP_CPU_AFFINITY names CPU {cpu}, and there are 2"
    assert found.predicted_error == "libgomp: Thread creation failed: Invalid argument"


@pytest.mark.parametrize(
    "value", ["0 1", "0-1", "", "nonsense", "7x", "1" * 7, "1 " * 5000, "64", "0 4000", "1-0", "0-1:0"]
)
def test_env006_silent(value: str) -> None:
    assert bound(value) == []


@pytest.mark.parametrize(("threads", "confidence"), [("4", "likely"), ("2", "possible"), ("many", "possible")])
def test_env006_counts_the_threads_that_are_asked_for(threads: str, confidence: str) -> None:
    asked = variables(GOMP_CPU_AFFINITY="0-3", OMP_NUM_THREADS=threads)
    limits = {"cpus": {"affinity": 2, "online": 2}}
    (found,) = findings("ENV006", variables=asked, limits=limits, packages=EVERYTHING)
    assert judged(found) == ("breaks", confidence)


def test_env006_counts_no_cpus_one_by_one() -> None:
    (found,) = bound("0-999999 " * 400, online=999_999)
    assert found.title == "GOMP_CPU_AFFINITY names CPU 999999, and there are 999999"
    assert bound("0-999999 " * 400, online=10**18) == []


def test_env006_needs_a_number_of_cpus_and_a_reader() -> None:
    asked = variables(GOMP_CPU_AFFINITY="7")
    assert bound("7", packages=NOTHING) == []
    assert findings("ENV006", variables=asked, limits={}, packages=EVERYTHING) == []


def test_that_it_differs_stands_under_what_is_wrong_with_it() -> None:
    limits = {"cpus": {"affinity": 2, "online": 2}}
    before = snapshot("a", variables=variables(), packages=EVERYTHING, limits=limits)
    after = snapshot("b", variables=variables(GOMP_CPU_AFFINITY="0-7"), packages=EVERYTHING, limits=limits)
    found = {finding.code: finding for finding in explain_pair(before, after).findings}
    assert found["ENV004"].caused_by == ("ENV006", "variable", "GOMP_CPU_AFFINITY")
    assert found["ENV006"].caused_by is None
    assert found["ENV006"].folds == (("variables", "variables", "GOMP_CPU_AFFINITY"),)
    after = snapshot("b", variables=variables(PYTHONHASHSEED="abc"), packages=EVERYTHING, limits=limits)
    before = snapshot("a", variables=variables(PYTHONHASHSEED="0"), packages=EVERYTHING, limits=limits)
    found = {finding.code: finding for finding in explain_pair(before, after).findings}
    assert found["NUM006"].caused_by == ("ENV005", "variable", "PYTHONHASHSEED")


# Tables


def test_no_row_is_likely_that_was_only_read() -> None:
    for name in ("variable-differences", "numerical-versions"):
        for row in tables.table(name)["rows"]:
            assert row["confidence"] == "possible" or row["seen"], row


def test_patterns_compile_and_are_bounded_in_time() -> None:
    odd = ["", "1", "a" * 4096, "-" * 4096, "1," * 2048, " " * 4096, "--x " * 1024]
    for row in (*known.differences(), *known.values()):
        for pattern in (getattr(row, "value", None), getattr(row, "accepts", None), getattr(row, "refuses", None)):
            if pattern is not None:
                for text in odd:
                    re.fullmatch(pattern, text)
                    re.search(pattern, text)


def test_a_row_after_one_of_the_same_variable_can_be_reached() -> None:
    """A row without a condition of its own would hide those behind it."""
    rows = known.differences()
    for index, row in enumerate(rows):
        later = [other for other in rows[index + 1 :] if other.variable == row.variable]
        open_to_all = row.target == "differs" and row.value is None and row.versions is None
        assert not (open_to_all and later), row.variable


def test_what_the_tables_name_is_recorded() -> None:
    from driftcheck.probes import variables as probe  # noqa: PLC0415

    names = [row.variable for row in known.differences()] + [row.variable for row in known.values()]
    assert [name for name in names if not probe.matters(name)] == []
    assert {row.variable for row in known.values() if row.missing_file} <= probe.FILES.keys()
