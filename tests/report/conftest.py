"""Reports made by hand: rules and probes have tests of their own, and reports must not depend on them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from driftcheck.diff import Change, Unmeasured
from driftcheck.explain import Explanation, NotJudged
from driftcheck.findings import Confidence, Evidence, Finding, Fix, Impact, Subject
from driftcheck.ranking import ranked
from driftcheck.report.model import Environment, ErrorAnswer, Expected, Report, Suppressed, Target
from driftcheck.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

# What hostile environments put into names, versions, paths and labels.
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "a\r\nNothing found that would break inference\n::error::forged%0A",
    "</details></summary><script>alert(1)</script><img src=x onerror=alert(1)>",
    "x | y \\| z `code` ``` ~~~ \\` **bold** _it_ ~~s~~",
    "@octocat #1 GH-2 octo/repo#3 !4 $5 deadbeefcafe1234 https://evil.example www.evil.example a@b.example",
    "[link](https://evil.example) ![image](javascript:alert(1)) <https://evil.example> [ref]: https://evil.example",
    "safe\u202egnp.exe\u2066\u200b\ufeff\u00ad\u2028\U000e0041",
    "Z\u0300\u0301\u0302\u0303\u0304\u0305 \u115f\u3164",
    "- list\n# head\n1. one\n> quote\n---\n| a | b |\n|---|---|\n    code",
    "\ud800 lone \x00\x7f\x9b31m",
    "[bold red]markup[/] :smile: $`x^2`$ &lt;b&gt; &#64;octocat",
    "x" * 1_000_000,
)


def environment(label: str = "laptop", python: str = "3.11.7", **more: Any) -> Environment:
    header = {
        "label": label,
        "created": "2026-01-02T03:04:05Z",
        "tool": {"name": "driftcheck", "version": "0.0.1"},
        "reference": "host",
        "channel": "subprocess",
        "interpreter": {
            "path": more.pop("path", "~/project/.venv/bin/python"),
            "version": python,
            "reason": "VIRTUAL_ENV is set",
            "working_directory": "~/project",
        },
        "seconds": {"packages": 0.07},
    }
    summary = {
        "Python": f"{python} (cpython, venv)",
        "System": "Debian GNU/Linux 12 (bookworm)",
        "C library": "glibc 2.36",
        "Machine": "x86_64, x86-64-v4, Intel(R) Xeon(R) Processor",
        "Kernel": "Linux 6.1.0",
        "Packages": "71 distributions",
        "torch": "2.3.1+cpu",
        "numpy": "1.26.4",
    }
    return Environment(header, {**summary, **more.pop("summary", {})}, **more)


def finding(code: str = "PKG001", impact: Impact = Impact.BREAKS, **more: Any) -> Finding:
    values: dict[str, Any] = {
        "name": "unmet-requirement",
        "confidence": Confidence.CERTAIN,
        "title": "pandas 2.1.4 needs numpy<2, and numpy 2.1.3 is installed",
        "subject": Subject("distribution", "pandas"),
        "explanation": "The wheel of pandas states in its Requires-Dist what it was built for. The extension"
        " modules of pandas 2.1.4 were compiled for the C API of NumPy 1, which NumPy 2 does not offer.",
        "predicted_error": "ValueError: numpy.dtype size changed, may indicate binary incompatibility."
        " Expected 96 from C header, got 88 from PyObject",
        "evidence": (
            Evidence("baseline", ("packages", "distributions", "numpy", "version"), "1.26.4"),
            Evidence("target", ("packages", "distributions", "numpy", "version"), "2.1.3"),
            Evidence("target", ("packages", "distributions", "pandas", "requires"), {"numpy<2,>=1.23": ""}),
            Evidence("baseline", ("packages", "distributions", "pandas", "requires"), {"numpy<2,>=1.23": ""}),
        ),
        "fix": (Fix("pip", "pip install 'numpy==1.26.4'"),),
        "references": ("https://numpy.org/doc/stable/numpy_2_0_migration_guide.html",),
    }
    return Finding(code=code, impact=impact, **{**values, **more})


def numpy_2() -> Finding:
    return finding()


def no_libgl() -> Finding:
    return finding(
        "LIB001",
        name="missing-shared-library",
        title="cv2 needs libGL.so.1, which no directory that the loader searches holds",
        subject=Subject("library", "libGL.so.1"),
        explanation="cv2/cv2.abi3.so names libGL.so.1 in DT_NEEDED. In the baseline libgl1 brings it.",
        predicted_error="ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        evidence=(
            Evidence(
                "baseline",
                ("programs", "libraries", "libGL.so.1"),
                {"path": "/usr/lib/x86_64-linux-gnu/libGL.so.1", "via": "cache"},
            ),
            Evidence("target", ("programs", "libraries", "libGL.so.1"), None),
        ),
        fix=(
            Fix("apt", "apt-get install -y --no-install-recommends libgl1"),
            Fix("dockerfile", "RUN apt-get update && apt-get install -y libgl1 && rm -rf /var/lib/apt/lists/*"),
            Fix("advice", "Take opencv-python-headless if nothing draws windows; it does not need libGL."),
        ),
        references=(),
    )


def base_image() -> Finding:
    return finding(
        "SYS003",
        Impact.CHANGES_RESULTS,
        name="another-release",
        confidence=Confidence.LIKELY,
        title="The operating system moved from Debian 11 to Debian 12",
        subject=Subject("system", "debian"),
        explanation="One base image was replaced by the next; all packages of the system follow from it.",
        predicted_error=None,
        evidence=(
            Evidence("baseline", ("system", "os_release", "version_id"), "11"),
            Evidence("target", ("system", "os_release", "version_id"), "12"),
            Evidence("baseline", ("system", "libc", "version"), "2.31"),
            Evidence("target", ("system", "libc", "version"), "2.36"),
        ),
        fix=(Fix("dockerfile", "FROM python:3.11-slim-bullseye"),),
        references=(),
        folds=tuple(("system", "packages", "packages", f"lib{number:03}") for number in range(150)),
    )


def threads() -> Finding:
    return finding(
        "ENV002",
        Impact.SLOWS,
        name="more-threads-than-cpus",
        confidence=Confidence.POSSIBLE,
        title="OMP_NUM_THREADS is 16 where only 4 CPUs may be used",
        subject=Subject("variable", "OMP_NUM_THREADS"),
        explanation="The threads of one operation wait for each other while they take turns on the CPUs.",
        predicted_error=None,
        evidence=(
            Evidence("target", ("variables", "variables", "OMP_NUM_THREADS"), {"value": "16"}),
            Evidence("target", ("limits", "cpu_limit", "cpus"), 4),
            Evidence("target", ("limits", "cgroup", "memory_bytes"), 4 << 30),
        ),
        fix=(Fix("variable", "export OMP_NUM_THREADS=4"),),
        references=(),
    )


def note(number: int = 0) -> Finding:
    return finding(
        "PKG009",
        Impact.NOTE,
        name="other-build",
        title=f"package-{number:02} 1.{number} is the same version from another build",
        subject=Subject("distribution", f"package-{number:02}"),
        explanation="The digests of RECORD differ.",
        predicted_error=None,
        evidence=(),
        fix=(),
    )


def drift(number: int = 400) -> list[Change]:
    """Changes as a comparison of two images has them."""
    found = [
        Change(("packages", "distributions", "torch", "version"), "changed", "2.3.1+cpu", "2.4.0+cpu"),
        Change(
            ("packages", "distributions", "torch", "record", "digest"),
            "changed",
            "sha256:" + "0" * 64,
            "sha256:" + "1" * 64,
        ),
        Change(
            ("packages", "distributions", "scipy", "record", "digest"),
            "changed",
            "sha256:" + "0" * 64,
            "sha256:" + "1" * 64,
        ),
        Change(("packages", "distributions", "uvicorn"), "removed", {"version": "0.30.1"}, None),
        Change(("packages", "distributions", "zstandard"), "added", None, {"version": "0.23.0"}),
        Change(("python", "version"), "changed", "3.11.7", "3.11.9"),
        Change(("python", "search_path", "0"), "changed", "/app", "/srv"),
        Change(("python", "search_path", "3"), "added", None, "/opt/lib"),
        Change(("variables", "variables", "LANG"), "removed", {"value": "C.UTF-8"}, None),
        Change(("variables", "variables", "OMP_NUM_THREADS", "value"), "changed", "4", "16"),
        Change(("limits", "cgroup", "memory_bytes"), "changed", None, 4 << 30),
        Change(("machine", "cpu", "flags", "avx512f"), "removed", True, None),
        Change(("system", "libc", "version"), "changed", "2.31", "2.36"),
    ]
    found += [
        Change(
            ("packages", "distributions", f"package-{index:02}", "version"),
            "changed",
            f"1.{index}",
            f"2.{index}",
        )
        for index in range(30)
    ]
    found += [
        Change(
            ("system", "packages", "packages", f"lib{index:03}"),
            "changed",
            f"{index}.0-1",
            f"{index}.2-1+deb12u1",
        )
        for index in range(number - len(found))
    ]
    return sorted(found, key=lambda change: change.path)


def diff_report() -> Report:
    found = [numpy_2(), no_libgl(), base_image(), threads(), *map(note, range(15))]
    known = [
        finding(
            "PKG004",
            Impact.BREAKS,
            title="httpx needs certifi, which is not installed",
            also_in_baseline=True,
        )
    ]
    target = Target(
        environment(
            "registry.example/svc:1.4",
            "3.11.9",
            path="/usr/local/bin/python3",
            problems=(
                (
                    "packages",
                    "/usr/lib/python3/dist-packages/broken.dist-info",
                    "METADATA cannot be read: Permission denied",
                ),
            ),
        ),
        Explanation(
            ranked(found + known, Snapshot({}, {})),
            tuple(drift()),
            (Unmeasured("machine", "target", "unavailable", "an image that does not run has no machine"),),
            (
                NotJudged(
                    "CPU001",
                    "lower-level",
                    "machine of the target: an image that does not run has no machine",
                ),
            ),
        ),
    )
    return Report(environment("laptop", "3.11.7"), (target,), tool_version="0.0.1")


def clean_report() -> Report:
    target = Target(environment("ci"), Explanation((), (Change(("python", "version"), "changed", "3.11.7", "3.11.9"),)))
    return Report(environment("laptop"), (target,), tool_version="0.0.1")


def equal_report() -> Report:
    return Report(environment("laptop"), (Target(environment("laptop"), Explanation(())),), tool_version="0.0.1")


def single_report() -> Report:
    place = environment(
        "host",
        incomplete={"programs": "took longer than 20 s"},
        problems=(("system", "/etc/os-release", "not UTF-8"),),
    )
    found = (
        finding(evidence=(Evidence("target", ("packages", "distributions", "numpy", "version"), "2.1.3"),)),
        note(),
    )
    return Report(None, (Target(place, Explanation(found)),), None, tool_version="0.0.1")


def several_report() -> Report:
    targets = [
        Target(environment("ci", "3.11.7"), Explanation((numpy_2(), threads()), tuple(drift(60)))),
        Target(environment("ci", "3.12.1"), Explanation((), ())),
        Target(
            environment("node7", "3.11.7"),
            Explanation((finding(confidence=Confidence.POSSIBLE),), tuple(drift(80))),
        ),
    ]
    return Report(environment("laptop"), tuple(targets), tool_version="0.0.1")


def caused_report() -> Report:
    """Where most of what breaks follows from one cause, one thing follows from a note, and one is the error at hand."""
    python = finding(
        "PY001",
        name="python-abi-changed",
        confidence=Confidence.LIKELY,
        title="CPython 3.12 instead of CPython 3.11, with packages that were built for another Python",
        subject=Subject("interpreter", "python"),
        explanation="The wheels of numpy, regex and 13 more hold extension modules for another interpreter.",
        predicted_error="ModuleNotFoundError: No module named 'numpy._core._multiarray_umath'",
        evidence=(
            Evidence("baseline", ("python", "version"), "3.11.7"),
            Evidence("target", ("python", "version"), "3.12.4"),
        ),
        fix=(Fix("dockerfile", "FROM python:3.11-slim"),),
        references=(),
        folds=(("python", "version"), ("python", "search_path", "0")),
    )
    wheels = [
        finding(
            "PKG007",
            name="unsupported-wheel",
            confidence=Confidence.LIKELY,
            title=f"package-{number:02} 1.{number} is a wheel for cp311-cp311-manylinux_2_17_x86_64, which this "
            "interpreter does not accept",
            subject=Subject("distribution", f"package-{number:02}"),
            predicted_error=None,
            fix=(Fix("pip", f"python -m pip install --force-reinstall --no-deps package-{number:02}==1.{number}"),),
            caused_by=python.identity,
            reach="requested" if not number else "needed by package-00 > package-01",
        )
        for number in range(15)
    ]
    image = replace(base_image(), impact=Impact.NOTE, fix=())
    lost = replace(no_libgl(), caused_by=image.identity, reach="needed by ultralytics")
    noted = replace(note(3), caused_by=image.identity)
    answered = finding("PKG001", confidence=Confidence.LIKELY, reach="needed by vllm > transformers")
    log = ErrorAnswer("run.log", answered.predicted_error or "", answered.identity, "pattern")
    target = Target(
        environment("svc", "3.12.4"),
        Explanation((answered, python, *wheels, image, lost, noted), tuple(drift(200))),
        error=log,
    )
    other = Target(environment("ci"), Explanation(()), error=ErrorAnswer("run.log", "OSError: [Errno 5]", None, None))
    return Report(environment("laptop"), (target, other), tool_version="0.0.1")


def policed_report() -> Report:
    """Where a policy expects some of it, and has something to say of itself."""
    kept = Target(
        environment("ci"),
        Explanation(
            (no_libgl(),),
            (Change(("python", "version"), "changed", "3.11.7", "3.11.9"),),
            (Unmeasured("gpu", "target", "failed", "no answer (the policy requires it)"),),
        ),
        (
            Suppressed(numpy_2(), "pandas is not imported by the service", "2026-12-31", "driftcheck.toml:12"),
            Suppressed(note(), "a wheel of our own", None, "driftcheck.toml:18"),
        ),
        expected=(
            Expected(tuple(drift(40)[:20]), "CI builds its own", "2026-12-31", "driftcheck.toml:24"),
            Expected(
                (Change(("variables", "variables", "LANG"), "removed", {"value": "C.UTF-8"}, None),),
                "no locale in slim images",
                None,
                "driftcheck.toml:29",
            ),
        ),
    )
    return Report(
        environment("laptop"),
        (kept,),
        tool_version="0.0.1",
        policy="driftcheck.toml",
        notices=(
            "driftcheck.toml: off: PKG005; 2 findings left out",
            "driftcheck.toml:34: expired on 2026-01-31, and no longer takes 1 change: until the new base image",
            "driftcheck.toml:40: expected, and not met: torch comes without its extras",
        ),
    )


def hostile_report(texts: tuple[str, ...] = HOSTILE) -> Report:
    """Every string that an environment, a rule or a forged report can bring is one of ``texts``."""
    found = [
        Finding(
            code=text[:40],
            name=text,
            impact=impact,
            confidence=Confidence.LIKELY,
            title=text,
            subject=Subject(text, text),
            explanation=text,
            predicted_error=text,
            references=(text,),
            folds=((text, text),),
            evidence=tuple(
                Evidence(side, ("packages", "distributions", text, text), value)
                for side in ("baseline", "target")
                for value in (text, {text: text}, [text, {text: None}])
            ),
            fix=(Fix("pip", text), Fix("advice", text), Fix(text, text)),
            also_in_baseline=index % 5 == 4,
        )
        for index, text in enumerate(texts)
        for impact in Impact
    ]
    changed = [
        Change(
            (section, *middle, text),
            kind,
            None if kind == "added" else text,
            None if kind == "removed" else {text: text},
        )
        for text in texts
        for kind in ("added", "removed", "changed")
        for section, *middle in (
            ("packages", "distributions"),
            ("variables", "variables"),
            (text,),
            ("python", text),
        )
    ]
    targets = tuple(
        Target(
            environment(
                text,
                text,
                path=text,
                summary={text: text, "numpy": text},
                incomplete={text: text},
                problems=((text, text, text),),
            ),
            Explanation(
                tuple(found) if index == 0 else (),
                tuple(changed) if index == 0 else (),
                (Unmeasured(text, "target", "failed", text),),
                (NotJudged(text, text, text), NotJudged(text, text, text, fault=True)),
            ),
            tuple(Suppressed(one, text, text, text) for one in found) if index == 0 else (),
            expected=(Expected(tuple(changed), text, text, text),) if index == 0 else (),
        )
        for index, text in enumerate(texts)
    )
    baseline = environment(texts[0], texts[1], path=texts[2])
    return Report(baseline, targets, tool_version="0.0.1", policy=texts[0], notices=texts)


def huge_report(number: int = 10_000) -> Report:
    impacts = [Impact.BREAKS] * 60 + [Impact.CHANGES_RESULTS] * 300 + [Impact.SLOWS] * 300
    impacts += [Impact.NOTE] * (number - len(impacts))
    facts = tuple(
        Evidence("target", ("packages", "distributions", "p", f"fact{fact}"), "v" * 500) for fact in range(20)
    )
    found = tuple(
        finding(f"PKG{index:03}", impact, evidence=facts if impact is Impact.BREAKS else facts[:1])
        for index, impact in enumerate(impacts)
    )
    target = Target(environment("svc"), Explanation(found, tuple(drift(1000))))
    return Report(environment("laptop"), (target,), tool_version="0.0.1")


SAMPLES: dict[str, Callable[[], Report]] = {
    "diff": diff_report,
    "clean": clean_report,
    "equal": equal_report,
    "single": single_report,
    "several": several_report,
    "caused": caused_report,
    "policed": policed_report,
    "hostile": hostile_report,
    "huge": huge_report,
}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Report:
    """Each of the reports in turn."""
    return SAMPLES[request.param]()


@pytest.fixture
def samples() -> dict[str, Callable[[], Report]]:
    return SAMPLES


@pytest.fixture
def hostile_texts() -> tuple[str, ...]:
    return HOSTILE


@pytest.fixture
def report_of() -> Callable[..., Report]:
    """A report full of the given texts."""
    return hostile_report
