"""The error at hand: the finding that predicts it comes first, and what none predicts is said so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from driftcheck.error_log import answer
from driftcheck.explain import Explanation
from driftcheck.findings import Confidence, Evidence, Finding, Impact, Subject
from driftcheck.report.model import Environment, ErrorAnswer, Report, Target

LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
NUMPY = "ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'"
GLIBC = (
    "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by "
    "/venv/lib/python3.11/site-packages/x.cpython-311-x86_64-linux-gnu.so)"
)
PINS = (
    "ImportError: tokenizers>=0.22.0,<=0.23.0 is required for a normal functioning of this module, but found "
    "tokenizers==0.19.1.\nTry: `pip install transformers -U`"
)


def finding(code: str, error: str | None, **more: object) -> Finding:
    values: dict[str, object] = {
        "name": "a-rule",
        "impact": Impact.BREAKS,
        "confidence": Confidence.LIKELY,
        "title": f"what {code} says",
        "subject": Subject("thing", code),
        "explanation": "Because.",
        "predicted_error": error,
    }
    return Finding(code=code, **(values | more))  # type: ignore[arg-type]


FINDINGS = (
    finding("LIB001", LIBGL),
    finding("PKG007", NUMPY),
    finding("LIB002", GLIBC),
    finding("PKG001", PINS),
    finding("CPU003", "Illegal instruction"),
    finding("SYS003", "[Errno 2] No such file or directory: 'ffmpeg'", confidence=Confidence.POSSIBLE),
    finding("LIB003", "ImportError: /venv/lib/libx.so: undefined symbol: _ZN3fooEv"),
    finding("BOX002", "Killed"),
    finding("PKG006", "ImportError:"),
    finding("PKG009", None),
)


def report(*findings: Finding) -> Report:
    header = {"label": "svc", "interpreter": {"path": "/venv/bin/python", "version": "3.11.7"}}
    return Report(None, (Target(Environment(header, {}), Explanation(findings or FINDINGS)),))


def answered(log: str, *findings: Finding) -> tuple[str | None, str | None]:
    """The code of the finding that comes first because of the log, and how it matched."""
    found = answer(report(*findings), log, "run.log").targets[0]
    assert isinstance(found.error, ErrorAnswer)
    assert found.error.source == "run.log"
    if found.error.finding is None:
        assert found.error.match is None
        assert [entry.code for entry in found.explanation.findings] == [entry.code for entry in findings or FINDINGS]
        return None, None
    assert found.explanation.findings[0].identity == found.error.finding
    assert len(found.explanation.findings) == len(findings or FINDINGS)
    return found.error.finding[0], found.error.match


def traceback(error: str, cause: str = "") -> str:
    frames = 'Traceback (most recent call last):\n  File "/app/serve.py", line 3, in <module>\n    import model\n'
    first = (
        f"{frames}{cause}\n\nDuring handling of the above exception, another exception occurred:\n\n" if cause else ""
    )
    return f"starting\n{first}{frames}{error}\n"


@pytest.mark.parametrize("entry", FINDINGS[:7], ids=lambda entry: entry.code)
def test_what_was_predicted_is_found_word_for_word(entry: Finding) -> None:
    assert entry.predicted_error is not None
    assert answered(traceback(entry.predicted_error)) == (entry.code, "verbatim")


@pytest.mark.parametrize(
    "line",
    [
        f"2026-01-02T03:04:05.123456789Z {LIBGL}",
        f"2026-01-02T03:04:05.123456789Z stderr F {LIBGL}",
        f"svc-1  | {LIBGL}",
        f"[pod/svc-7d9/app] 2026-01-02T03:04:05Z {LIBGL}",
        f"#12 3.456 {LIBGL}",
        f"[rank0]: {LIBGL}",
        f"(EngineCore_0 pid=123) {LIBGL}",
        f"[2026-01-02 03:04:05 +0000] [7] [ERROR] {LIBGL}",
        f"ERROR 01-02 03:04:05 [registry.py:123] {LIBGL}",
        f"2026-01-02 03:04:05,678 ERROR app.model: {LIBGL}",
        f"\x1b[1;31m{LIBGL}\x1b[0m",
        f"\x1b]0;title\x07{LIBGL}",
        f"loading 10%\rloading 90%\r{LIBGL}",
        json.dumps({"log": f"{LIBGL}\n", "stream": "stderr", "time": "2026-01-02T03:04:05Z"}),
        json.dumps({"severity": "ERROR", "message": traceback(LIBGL)}),
        f"  | {LIBGL}",
    ],
)
def test_what_stands_before_the_line_does_not_matter(line: str) -> None:
    assert answered(f"up\n{line}\ndown\n") == ("LIB001", "verbatim")


def test_the_error_that_is_shown_is_the_line_without_what_stood_before_it() -> None:
    found = answer(report(), f"svc-1  | 2026-01-02T03:04:05Z {LIBGL}\n", "x").targets[0].error
    assert found is not None
    assert found.text == LIBGL


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (GLIBC.replace("/venv/lib/python3.11", "/opt/app/lib/python3.12").replace("-311-", "-312-"), "LIB002"),
        (GLIBC.replace("GLIBC_2.38", "GLIBC_2.34"), "LIB002"),
        ("ImportError: /usr/lib/liby.so: undefined symbol: _ZN3fooEv", "LIB003"),
        (PINS.replace("0.19.1", "0.20.3"), "PKG001"),
        ("/app/run.sh: line 3:    17 Illegal instruction     (core dumped) python serve.py", "CPU003"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg' while reading a.mp4", "SYS003"),
        ("OSError: libGL.so.1: cannot open shared object file: No such file or directory", "LIB001"),
        (
            "[E:onnxruntime] Failed to load library with error: libGL.so.1: cannot open shared object file: x",
            "LIB001",
        ),
    ],
)
def test_paths_numbers_and_who_passes_it_on_may_differ(line: str, code: str) -> None:
    assert answered(traceback(line)) == (code, "pattern")


@pytest.mark.parametrize(
    "log",
    [
        traceback("ImportError: libEGL.so.1: cannot open shared object file: No such file or directory"),
        traceback("ModuleNotFoundError: No module named 'numpy'"),
        traceback("ImportError: /venv/lib/libx.so: undefined symbol: another"),
        traceback("ImportError: "),
        traceback("ImportError: tokenizers went away"),
        traceback("ValueError: ImportError: "),
        "INFO nothing here\n",
        "worker 7 was Killed by its parent\n",
        "",
        "\x00\x1b[2J\ud800",
    ],
)
def test_another_thing_or_a_kind_alone_is_no_match(log: str) -> None:
    assert answered(log) == (None, None)


def test_a_word_alone_counts_where_it_is_the_whole_line() -> None:
    assert answered("Killed\n") == ("BOX002", "verbatim")


def test_the_last_error_is_asked_first() -> None:
    assert answered(traceback(LIBGL) + traceback(NUMPY)) == ("PKG007", "verbatim")
    assert answered(traceback(NUMPY) + traceback(LIBGL)) == ("LIB001", "verbatim")
    assert answered(traceback(NUMPY) + traceback("OSError: something else") + "bye\n") == ("PKG007", "verbatim")


def test_an_error_that_hides_its_cause_is_followed_to_it() -> None:
    log = traceback("ImportError: cannot import name 'model'\nPlease read the manual.", cause=NUMPY)
    assert answered(log) == ("PKG007", "verbatim")


def test_a_source_line_of_a_traceback_is_no_error() -> None:
    log = traceback("OSError: no").replace("import model", f"raise ValueError('{LIBGL}')")
    assert answered(log) == (None, None)


def test_what_works_in_the_baseline_is_asked_last() -> None:
    known = finding("LIB009", LIBGL, also_in_baseline=True)
    assert answered(LIBGL, known, finding("LIB001", LIBGL)) == ("LIB001", "verbatim")
    assert answered(LIBGL, known) == ("LIB009", "verbatim")


def test_a_missing_distribution_without_a_predicted_text_is_known_by_its_module() -> None:
    unmet = finding(
        "PKG001", None, title="a requires pytz, which is not installed", subject=Subject("requirement", "a -> pytz")
    )
    assert answered("ModuleNotFoundError: No module named 'pytz.lazy'", unmet) == ("PKG001", "pattern")
    assert answered("ModuleNotFoundError: No module named 'tzdata'", unmet) == (None, None)
    evidence = (Evidence("baseline", ("packages", "distributions", "typing-extensions", "version"), "4"),)
    missing = finding("PKG010", "ModuleNotFoundError: No module named 'torch'", evidence=evidence)
    assert answered("ModuleNotFoundError: No module named 'typing_extensions'", missing) == ("PKG010", "pattern")


def test_each_library_that_a_finding_lacks_is_explained_by_it() -> None:
    """Once the first one is there, the loader tells of the second."""
    here = ("libraries", "files", "cv2/cv2.abi3.so", "missing")
    evidence = tuple(Evidence("target", (*here, name), {}) for name in ("libGL.so.1", "libgthread-2.0.so.0"))
    missing = finding("LIB001", LIBGL, evidence=evidence)
    second = LIBGL.replace("libGL.so.1", "libgthread-2.0.so.0")
    assert answered(traceback(second), missing) == ("LIB001", "pattern")
    assert answered(traceback(second.replace("gthread", "gio")), missing) == (None, None)


@pytest.mark.parametrize("log", ["", "\n \n", "INFO started\n", "\x00\xff\ufffd{k\n"])
def test_a_log_that_tells_of_no_error_shows_none(log: str) -> None:
    found = answer(report(), log, "run.log").targets[0].error
    assert found == ErrorAnswer("run.log", "", None, None)


def test_a_cause_stands_next_to_the_effect_that_is_seen() -> None:
    cause = finding("PY001", None)
    effect = finding("PKG007", NUMPY, caused_by=cause.identity)
    found = answer(report(finding("LIB001", LIBGL), cause, effect), NUMPY, "x").targets[0]
    assert [entry.code for entry in found.explanation.findings] == ["PKG007", "PY001", "LIB001"]


def test_what_the_log_tells_of_its_user_is_not_passed_on() -> None:
    found = answer(report(), "OSError: cannot read /home/alice/model.bin with token=hf_" + "a" * 34 + "\n", "x")
    error = found.targets[0].error
    assert error is not None
    assert error.text.startswith("OSError: cannot read ~/model.bin")
    assert "alice" not in error.text
    assert "aaaa" not in error.text


def test_a_hostile_log_is_read_in_bounds() -> None:
    line = "Error: " + "/a" * 50_000 + "\n"
    log = line * 30 + "Error\n" * 300_000 + LIBGL
    assert answered(log) == ("LIB001", "verbatim")
    found = answer(report(), "ValueError: " + "x" * 1_000_000, "x").targets[0].error
    assert found is not None
    assert len(found.text) <= 1000


def test_each_target_has_its_own_answer() -> None:
    one, other = report(finding("LIB001", LIBGL)), report(finding("PKG007", NUMPY))
    both = Report(None, one.targets + other.targets)
    found = answer(both, LIBGL, "x")
    assert [target.error.finding for target in found.targets if target.error] == [("LIB001", "thing", "LIB001"), None]


def test_what_python_really_prints(tmp_path: Path) -> None:
    """A chained traceback of this interpreter, with its colours and its marks below the source."""
    (tmp_path / "model.py").write_text(
        "try:\n    import no_such_module_here\nexcept ImportError as error:\n"
        "    raise RuntimeError('the model cannot be loaded') from error\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import model"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"FORCE_COLOR": "1", "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    predicted = finding("PKG010", "ModuleNotFoundError: No module named 'no_such_module_here'")
    assert answered(done.stderr, predicted) == ("PKG010", "verbatim")


EMPTY = {"count": 1, "examples": {"sklearn/base.py": {"found": 0, "recorded": 49206}}}
DAMAGED = (
    finding("PKG004", None, subject=Subject("module", "numpy")),
    finding(
        "PKG006",
        None,
        subject=Subject("distribution", "scikit-learn"),
        evidence=(Evidence("target", ("packages", "distributions", "scikit-learn", "altered_files"), EMPTY),),
    ),
    finding("PKG007", None, subject=Subject("distribution", "pyyaml")),
)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("AttributeError: module 'numpy' has no attribute 'array'", "PKG004"),
        (
            "AttributeError: partially initialized module 'numpy' has no attribute 'array' (most likely)",
            "PKG004",
        ),
        ("ImportError: cannot import name 'clone' from 'sklearn.base' (/venv/sklearn/base.py)", "PKG006"),
        ("ImportError: cannot import name 'CLoader' from 'yaml' (/venv/yaml/__init__.py)", "PKG007"),
        ("AttributeError: 'NoneType' object has no attribute 'numpy'", None),
        ("AttributeError: module 'pandas' has no attribute 'numpy'", None),
    ],
)
def test_what_a_module_lacks_is_explained_by_what_happened_to_its_files(line: str, code: str | None) -> None:
    assert answered(traceback(line), *DAMAGED) == (code, "pattern" if code else None)
