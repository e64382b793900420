"""What to type: one consistent set of changes, in order, which says nothing that a measured name could act through."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from driftcheck.diff import Change
from driftcheck.explain import Explanation
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.mending import KINDS, fixes
from driftcheck.report.model import Environment, Report, Target

HERE = ("packages", "distributions")


def finding(code: str, *fix: tuple[str, str], **more: object) -> Finding:
    values: dict[str, object] = {
        "name": "a-rule",
        "impact": Impact.BREAKS,
        "confidence": Confidence.LIKELY,
        "title": f"what {code} says",
        "subject": Subject("thing", code),
        "explanation": "Because.",
        "fix": tuple(Fix(kind, text) for kind, text in fix),
    }
    return Finding(code=code, **(values | more))  # type: ignore[arg-type]


def pip(text: str) -> tuple[str, str]:
    return ("pip", f"python -m pip {text}")


def environment(label: str) -> Environment:
    return Environment({"label": label, "interpreter": {"path": "/venv/bin/python", "version": "3.11.7"}}, {})


def report(
    *findings: Finding, changed: dict[str, tuple[str, str]] | None = None, fail_on: Impact | None = None
) -> Report:
    """``changed``: distributions with another version, the baseline's first."""
    changes = tuple(
        Change((*HERE, name, "version"), "changed", before, after) for name, (before, after) in (changed or {}).items()
    )
    return Report(environment("good"), (Target(environment("bad"), Explanation(findings, changes)),), fail_on)


def commands(text: str) -> list[str]:
    return [row for row in text.splitlines() if not row.startswith("#")]


def typed(*findings: Finding, kind: str = "text", **more: dict[str, tuple[str, str]]) -> list[str]:
    return commands(fixes(report(*findings, **more), kind))  # type: ignore[arg-type]


def test_one_command_for_all_packages_without_repetitions() -> None:
    found = typed(
        finding("PKG001", pip("install numpy==1.26.4")),
        finding("LIB011", pip("install numpy==1.26.4")),
        finding("PKG010", pip('install "pillow>=5.3.0,!=8.3.*" tqdm')),
    )
    assert found == ["python -m pip install numpy==1.26.4 'pillow!=8.3.*,>=5.3.0' tqdm"]


def test_the_order_is_system_then_packages_then_variables_then_the_start() -> None:
    text = fixes(
        report(
            finding("ENV001", ("variable", "OMP_NUM_THREADS=4")),
            finding("BOX001", ("docker-run", "--shm-size=8g"), ("docker-run", "--ipc=host")),
            finding("PKG001", pip("install numpy==2.0")),
            finding("LIB001", ("apt", "apt-get install -y --no-install-recommends libgl1 libxcb1")),
            finding("PKG003", pip("uninstall -y opencv-python")),
            finding("SYS003", ("apt", "apt-get install -y libgl1 ffmpeg")),
        ),
        "text",
    )
    assert commands(text) == [
        "apt-get update",
        "apt-get install -y --no-install-recommends libgl1 libxcb1 ffmpeg",
        "python -m pip uninstall -y opencv-python",
        "python -m pip install numpy==2.0",
        "export OMP_NUM_THREADS=4",
    ]
    assert "# Start the container with: docker run --shm-size=8g\n" in text


def test_the_version_of_the_baseline_wins_and_that_is_said() -> None:
    text = fixes(
        report(
            finding("PKG001", pip('install "tokenizers>=0.19"')),
            finding("PKG007", pip("install --force-reinstall --no-deps tokenizers==0.21.0")),
            changed={
                "tokenizers": ("0.22.1", "0.21.0"),
                "numpy": ("1.26.4", "2.1.0"),
                "torch": ("2.9.0+cu130", "2.8.0"),
            },
        ),
        "text",
    )
    assert commands(text) == [
        "printf '%s\\n' numpy==1.26.4 > driftcheck-constraints.txt",
        "python -m pip install -c driftcheck-constraints.txt tokenizers==0.22.1",
    ]
    assert "tokenizers: 0.22.1 is taken, which the baseline has, and not 0.21.0." in text


def test_two_versions_without_a_word_of_the_baseline_are_said() -> None:
    text = fixes(report(finding("A1", pip("install a==1")), finding("A2", pip("install a==2"))), "text")
    assert commands(text) == ["python -m pip install a==1"]
    assert "a: 1 is taken; another finding asks for 2." in text


def test_ranges_of_several_findings_go_together() -> None:
    assert typed(finding("A1", pip('install "a>=1"')), finding("A2", pip('install "a<3"'))) == [
        "python -m pip install 'a<3,>=1'"
    ]


def test_what_two_findings_ask_alike_is_asked_once() -> None:
    same = finding("PKG001", pip('install "numpy>=2"'))
    assert typed(same, finding("LIB011", pip('install --upgrade "numpy>=2"'))) == [
        "python -m pip install --upgrade 'numpy>=2'"
    ]


def test_what_is_written_anew_is_a_command_of_its_own() -> None:
    found = typed(
        finding("PKG006", pip("install --force-reinstall --no-deps scipy==1.14.0")),
        finding("PKG009", pip("install --upgrade --force-reinstall old")),
        finding("PKG001", pip("install numpy==2.0")),
    )
    assert found == [
        "python -m pip install numpy==2.0",
        "python -m pip install --upgrade --force-reinstall old",
        "python -m pip install --force-reinstall --no-deps scipy==1.14.0",
    ]


def test_a_version_that_this_python_refuses_is_not_pinned() -> None:
    found = typed(
        finding("PKG007", pip("install --force-reinstall --no-deps regex==2026.1.1")),
        finding("PKG009", pip("install --upgrade --force-reinstall regex")),
    )
    assert found == ["python -m pip install --upgrade --force-reinstall regex"]


def test_a_distribution_that_is_there_twice_is_removed_twice() -> None:
    found = typed(finding("PKG002", pip("uninstall -y a"), pip("uninstall -y a"), pip("install --no-deps a==1")))
    assert found == [*["python -m pip uninstall -y a"] * 2, "python -m pip install a==1"]


def test_only_what_fails_is_mended_and_what_causes_it() -> None:
    cause = finding(
        "PKG011",
        pip("install transformers==5.2.0"),
        impact=Impact.NOTE,
        folds=((*HERE, "tokenizers", "version"),),
    )
    effect = finding("PKG001", pip("install tokenizers==0.22.1"), caused_by=cause.identity)
    note = finding("SYS003", ("apt", "apt-get install -y ffmpeg"), impact=Impact.NOTE)
    doubtful = finding("PKG009", pip("install other"), confidence=Confidence.POSSIBLE)
    known = finding("LIB002", pip("install known"), also_in_baseline=True)
    changed = {"transformers": ("5.2.0", "4.38.2"), "tokenizers": ("0.22.1", "0.15.2")}
    text = fixes(report(cause, effect, note, doubtful, known, changed=changed), "text")
    assert commands(text) == ["python -m pip install tokenizers==0.22.1 transformers==5.2.0"]
    everything = report(cause, effect, note, changed=changed, fail_on=Impact.NOTE)
    assert "apt-get install -y --no-install-recommends ffmpeg" in fixes(everything, "text")


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_fails_there_is_nothing_to_type(kind: str) -> None:
    text = fixes(report(finding("X", pip("install a"), impact=Impact.NOTE)), kind)
    assert commands(text) == []
    assert "nothing to mend" in text


def test_settings_are_alternatives_and_installs_are_steps() -> None:
    both = finding("NUM001", ("variable", "TZ=Europe/Berlin"), ("dockerfile", "ENV TZ=Europe/Berlin"))
    assert typed(both) == ["export TZ=Europe/Berlin"]
    assert typed(both, kind="dockerfile") == ["ENV TZ=Europe/Berlin"]
    caches = finding("BOX004", ("docker-run", "-e HF_HOME=/tmp/a"), ("docker-run", "-e MPLCONFIGDIR=/tmp/a"))
    assert "docker run -e HF_HOME=/tmp/a -e MPLCONFIGDIR=/tmp/a" in fixes(report(caches), "text")


def test_advice_and_what_is_not_understood_are_comments() -> None:
    odd = finding(
        "ODD",
        ("advice", "Think\nabout it."),
        ("pip", "python -m pip install -r requirements.txt"),
        ("variable", "LD_LIBRARY_PATH without /opt/cuda"),
    )
    text = fixes(report(odd), "text")
    assert commands(text) == []
    assert "#   ODD: Think about it.\n" in text
    assert "#   ODD: by hand: python -m pip install -r requirements.txt\n" in text
    assert "#   ODD: by hand: LD_LIBRARY_PATH without /opt/cuda\n" in text


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        fixes(report(), "powershell")


# Dockerfile

INSTRUCTION = re.compile(r"(FROM|RUN|ENV|USER) \S.*")


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile as its parser reads it: comments out, continued lines joined, an instruction in front of each."""
    rows = [row for row in text.splitlines() if row.strip() and not row.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(rows)).splitlines()
    found = []
    for row in joined:
        assert INSTRUCTION.fullmatch(row), row
        word, _, rest = row.partition(" ")
        if word == "ENV":
            name, sign, value = rest.partition("=")
            assert name.isidentifier()
            assert sign
            assert len(shlex.split(value)) <= 1
        if word == "RUN":
            checked = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stderr
        found.append((word, rest))
    assert "FROM" not in [word for word, _ in found[1:]]
    return found


def test_lines_of_a_dockerfile_are_valid_and_in_order() -> None:
    text = fixes(
        report(
            finding("PY001", ("dockerfile", "FROM python:3.11-slim"), ("advice", "Install anew.")),
            finding("SYS002", ("dockerfile", "FROM python:3.11-alpine")),
            finding("LIB001", ("apt", "apt-get install -y --no-install-recommends libgl1")),
            finding("PKG001", pip('install "numpy<2"')),
            finding("BOX003", ("docker-run", "-e USER=app"), ("dockerfile", "RUN useradd --uid 7 --create-home app")),
            finding("BOX007", ("dockerfile", "ENV LANG=C.UTF-8"), ("docker-run", "-e LANG=C.UTF-8")),
            finding("BOX010", ("dockerfile", 'ENV PATH="/opt/venv/bin:$PATH"')),
            finding("BOX011", ("dockerfile", "RUN sed -i 's/\\r$//' /app/start.sh")),
            finding("ENV003", ("variable", "unset PYTHONPATH")),
            changed={"pandas": ("2.2.3", "3.0.0")},
        ),
        "dockerfile",
    )
    assert instructions(text) == [
        ("FROM", "python:3.11-slim"),
        (
            "RUN",
            "apt-get update  && apt-get install -y --no-install-recommends libgl1  && rm -rf /var/lib/apt/lists/*",
        ),
        ("RUN", "printf '%s\\n' pandas==2.2.3 > /tmp/constraints.txt"),
        ("RUN", "python -m pip install --no-cache-dir -c /tmp/constraints.txt 'numpy<2'"),
        ("RUN", "useradd --uid 7 --create-home app"),
        ("RUN", "sed -i 's/\\r$//' /app/start.sh"),
        ("ENV", "LANG=C.UTF-8"),
        ("ENV", 'PATH="/opt/venv/bin:$PATH"'),
    ]
    assert "# FROM python:3.11-alpine\n" in text
    assert "# Take PYTHONPATH out" in text


@pytest.mark.parametrize(
    "line",
    [
        "RUN chmod +x '/app/my start.sh'",
        "RUN rm -f /usr/lib/libcuda.so.1 && ldconfig",
        "RUN rm -rf /usr/local/cuda-12.8/compat && ldconfig",
        "RUN useradd --uid 1000 --create-home app",
    ],
)
def test_a_command_of_a_rule_is_taken_as_it_is(line: str) -> None:
    assert typed(finding("X", ("dockerfile", line)), kind="dockerfile") == [line]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("dockerfile", "RUN chmod +x /app/my start.sh"),
        ("dockerfile", "RUN rm -rf /usr/local/cuda/compat /"),
        ("dockerfile", "RUN rm -rf /usr/local/cuda/compat/../../.."),
        ("dockerfile", "RUN rm -rf /"),
        ("dockerfile", "RUN rm -f -- /a"),
        ("dockerfile", "RUN sed -i 's/.*/touch pwned/' /app/start.sh"),
        ("dockerfile", "RUN chmod +x '/app/$(touch pwned)'"),
        ("dockerfile", "RUN chmod +x /app && touch pwned && ldconfig"),
        ("dockerfile", "RUN useradd --uid 0x0 --create-home app"),
        ("docker-run", "-e X=1 --privileged"),
        ("docker-run", "--volume=/:/host"),
        ("docker-run", "-e"),
        ("docker-run", "image"),
    ],
)
def test_what_no_rule_would_type_is_left_to_the_reader(kind: str, text: str) -> None:
    found = fixes(report(finding("X", (kind, text))), "dockerfile")
    assert commands(found) == []
    assert f"X: by hand: {text}\n" in found
    assert "docker run" not in found


# What environments would like to have typed

EVIL = (
    "$(touch pwned)",
    "`touch pwned`",
    "1.0; touch pwned",
    "1.0\ntouch pwned",
    "1.0 && touch pwned",
    "1.0' ; touch pwned; '",
    '1.0"; touch pwned; "',
    "1.0\\\ntouch pwned",
    "1.0 | touch pwned",
    "1.0 > pwned",
    "#\rtouch pwned",
    "--index-url=https://evil.example",
    "\u2028touch pwned",
)


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_was_measured_is_run(evil: str, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("python", "apt-get", "useradd", "sed", "rm"):
        (tools / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$0 $*" >> {shlex.quote(str(tmp_path / "ran"))}\n')
        (tools / name).chmod(0o755)
    evidence = (Evidence("target", (*HERE, evil, "version"), evil), Evidence("target", ("service", "script"), evil))
    hostile = finding(
        "BAD",
        pip(f"install numpy=={evil}"),
        pip(f"install {evil}"),
        pip(f"uninstall -y {evil}"),
        ("apt", f"apt-get install -y {evil}"),
        ("variable", f"OMP_NUM_THREADS={evil}"),
        ("docker-run", f"-e X={evil}"),
        ("dockerfile", f"RUN sed -i x {evil}"),
        ("dockerfile", f"FROM {evil}"),
        ("dockerfile", f"ENV A={evil}"),
        ("advice", evil),
        title=f"a {evil}",
        evidence=evidence,
    )
    alone = [finding("BAD", (fix.kind, fix.text), title=evil) for fix in hostile.fix]
    named = Change((*HERE, evil, "version"), "changed", evil, "2")
    version = Change((*HERE, "numpy", "version"), "changed", evil, "2")
    environ = {"PATH": f"{tools}:{os.environ['PATH']}"}
    for findings in ((hostile,), tuple(alone)):
        target = Target(environment(f"svc {evil}"), Explanation(findings, (named, version)))
        both = Report(environment(evil), (target,))
        script = fixes(both, "text")
        runs = [rest for word, rest in instructions(fixes(both, "dockerfile")) if word == "RUN"]
        for text in (script, *runs):
            subprocess.run(["sh", "-c", text], cwd=tmp_path, env=environ, check=False, timeout=60)
        assert not (tmp_path / "pwned").exists()
        assert not any("evil.example" in row for row in commands(script) if row.startswith("python"))
