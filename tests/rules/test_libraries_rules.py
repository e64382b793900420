"""Family LIB on small facts: where each rule fires, where it does not, how sure it is, and what it says to type."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import check_facts, distribution, distributions, findings, snapshot

from driftcheck.findings import Confidence, Impact
from driftcheck.rules.libraries import LIB001

GONE = "cannot open shared object file: No such file or directory"
CV2 = "cv2/cv2.abi3.so"
LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


def libraries(files: dict[str, Any] | None = None, *, glibc: str = "2.36", **facts: Any) -> dict[str, Any]:
    """Facts of section ``libraries`` of a Python on x86-64 with glibc."""
    made: dict[str, Any] = {
        "interpreter": {
            "path": "/usr/bin/python3.11",
            "libc": "glibc",
            "loader": "/lib64/ld-linux-x86-64.so.2",
            "machine": "x86_64",
            "bits": 64,
            "missing": {},
            "missing_versions": {},
        },
        "search": {"ld_library_path": [], "ld_preload": [], "default": ["/lib", "/usr/lib"]},
        "files": files or {},
        "distributions": {},
        "libraries": {"libc.so.6": {LIBC: answer("cache", offers={"GLIBC": glibc})}},
        "runtimes": {"openmp": {}, "blas": {}},
    }
    made |= facts
    check_facts("libraries", made)
    return made


def answer(reason: str = "default", **facts: Any) -> dict[str, Any]:
    return {"reason": reason, "assumption": None, "offers": {}, "distribution": None} | facts


def record(role: str = "module", owner: str | None = "opencv-python", **facts: Any) -> dict[str, Any]:
    return {"role": role, "distribution": owner, **facts}


def lacks(soname: str, *chain: str, error: str = GONE, **facts: Any) -> dict[str, Any]:
    """A file that lacks one library, on which the loader stops first."""
    return {
        "missing": {soname: {"error": error, "chain": list(chain), **facts}},
        "first_failure": {"kind": "library", "text": f"{soname}: {error}"},
    }


def system(manager: str = "dpkg", **packages: str) -> dict[str, Any]:
    return {"packages": {"manager": manager, "packages": packages}}


HEALTHY = libraries({"torch/lib/libgomp.so.1": record("bundled", "torch", static_tls_bytes=120)})


# LIB001


def test_a_missing_library_two_steps_down() -> None:
    files = {CV2: record(**lacks("libGL.so.1", CV2, "opencv_python.libs/libQt5Widgets-cd4.so.5"))}
    packages = distributions(distribution("opencv-python", "4.11.0"))
    (found,) = findings("LIB001", libraries=libraries(files), packages=packages, system=system())
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.CERTAIN)
    assert found.title == "libGL.so.1 is missing, which opencv-python needs"
    assert found.predicted_error == f"ImportError: libGL.so.1: {GONE}"
    assert found.explanation.startswith(f"{CV2} needs libQt5Widgets-cd4.so.5, which needs libGL.so.1.")
    assert found.fix[0].text == "apt-get install -y --no-install-recommends libgl1"
    assert found.fix[-1].text.startswith("Or take opencv-python-headless==4.11.0")


def test_nothing_is_missing_in_a_healthy_environment() -> None:
    assert findings("LIB001", libraries=HEALTHY) == []


def test_files_of_one_need_are_one_finding() -> None:
    lacking = lacks("libgomp.so.1")
    files = {f"x/_{n}.so": record("module", owner, **lacking) for n, owner in enumerate(("a", "a", "a", "b"))}
    (found,) = findings("LIB001", libraries=libraries(files))
    assert found.subject.name == "libgomp.so.1"
    assert found.title == "libgomp.so.1 is missing, which a and b need"


@pytest.mark.parametrize("role", ["unused", "foreign", "shadowed", "bundled"])
def test_what_nobody_loads_is_no_finding(role: str) -> None:
    assert findings("LIB001", libraries=libraries({"a/lib.so": record(role, **lacks("libx.so.1"))})) == []


def test_a_plugin_degrades_and_a_spare_part_of_python_is_a_note() -> None:
    files = {
        "cv2/qt/libqxcb.so": record("plugin", named_by="cv2/qt/qt.py", **lacks("libxcb-icccm.so.4")),
        "lib-dynload/_tkinter.cpython-311-x86_64-linux-gnu.so": record("module", "python", **lacks("libtk8.6.so")),
        "lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so": record("module", "python", **lacks("libssl.so.3")),
        "x/tests/_helper.abi3.so": record("module", "x", **lacks("libtest.so.1")),
    }
    impacts = {found.subject.name: found.impact for found in findings("LIB001", libraries=libraries(files))}
    assert impacts == {
        "libxcb-icccm.so.4": Impact.SLOWS,
        "libtk8.6.so": Impact.NOTE,
        "libssl.so.3": Impact.BREAKS,
        "libtest.so.1": Impact.NOTE,
    }


@pytest.mark.parametrize(("modules", "others", "impact"), [(0, 1, "breaks"), (1, 1, "slows"), (0, 3, "slows")])
def test_a_package_around_one_library_is_of_no_use_without_it(modules: int, others: int, impact: str) -> None:
    """LightGBM is such a one: libpath.py opens lib_lightgbm.so when it is imported."""
    files = {
        "a/lib/lib_a.so": record("plugin", "a", named_by="a/libpath.py", **lacks("libgomp.so.1", "a/lib/lib_a.so"))
    }
    counted = {"a": {"modules": modules, "libraries": others, "needs": {}}}
    (found,) = findings("LIB001", libraries=libraries(files, distributions=counted))
    assert (found.impact, found.confidence) == (impact, Confidence.LIKELY)
    assert found.predicted_error == (f"OSError: libgomp.so.1: {GONE}" if impact == "breaks" else None)
    assert "a/libpath.py opens it" in found.explanation


def imported_by(complete: bool = True, **ways: dict[str, Any] | str) -> dict[str, Any]:
    """The fact ``importers``: ``imported_by(parallel_401="guarded")`` is the statement in line 401 of a/parallel.py."""
    by = {
        "a/{}.py:{}".format(*where.rsplit("_", 1)): {"way": way} if isinstance(way, str) else way
        for where, way in ways.items()
    }
    return {"importers": {"by": by, "complete": complete}}


def judged(importers: dict[str, Any]) -> Any:
    files = {"a/_a.abi3.so": record("module", "a", **lacks("libx.so.1", "a/_a.abi3.so"), **importers)}
    (found,) = findings("LIB001", libraries=libraries(files), packages=distributions(distribution("a")))
    return found


def test_an_import_of_the_package_comes_to_the_module() -> None:
    importers = imported_by(core_7="plain")
    start = {"package": "a", "chain": ["a/__init__.py:3", "a/core.py:7"], "reworded": False}
    importers["importers"]["start"] = start
    found = judged(importers)
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.CERTAIN)
    assert found.predicted_error == f"ImportError: libx.so.1: {GONE}"
    assert found.explanation.endswith(
        "So these cannot be loaded: a/_a.abi3.so. "
        "`import a` fails: a/__init__.py (line 3) leads to a/core.py (line 7), which imports it."
    )
    importers["importers"]["start"] = start | {"chain": ["a/__init__.py:3"], "reworded": True}
    assert judged(importers).explanation.endswith(
        "`import a` fails, in words of its own: a/__init__.py (line 3) imports it."
    )


@pytest.mark.parametrize(
    ("ways", "impact", "confidence", "words"),
    [
        ({"linalg_7": "plain"}, "breaks", "certain", "`import a.linalg` fails: a/linalg.py (line 7) imports it."),
        ({"x_7": "reworded", "y_9": "guarded"}, "breaks", "certain", "`import a.x` fails: a/x.py (line 7) imports it."),
        ({"x_7": "conditional"}, "breaks", "likely", "a/x.py (line 7) imports it, on a condition."),
        ({}, "breaks", "likely", "No source of a imports it, so whether the service does is not known."),
        (
            {"x_7": "function", "y_9": "guarded"},
            "slows",
            "likely",
            "a starts without it; the function that imports it fails when it is called: a/x.py (line 7).",
        ),
        ({"x_7": "guarded"}, "slows", "likely", "a goes on without it: a/x.py (line 7) catches the error."),
    ],
)
def test_what_becomes_of_a_module_by_who_imports_it(ways: Any, impact: str, confidence: str, words: str) -> None:
    found = judged(imported_by(**ways))
    assert (found.impact, found.confidence) == (impact, confidence)
    assert found.explanation.endswith(words)
    assert ("a/_a.abi3.so", "importers") in {entry.path[2:] for entry in found.evidence}


@pytest.mark.parametrize(
    ("modules", "more", "confidence", "words"),
    [
        (3, {}, "possible", "No source of a imports it"),
        (1, {}, "likely", "No source of a imports it"),
        (3, {"complete": False}, "likely", "No source of a imports it"),
        (3, {"named_in": "a/_b.abi3.so"}, "likely", "a/_b.abi3.so holds its name"),
    ],
)
def test_a_module_that_its_distribution_does_not_import(modules: int, more: Any, confidence: str, words: str) -> None:
    """As PyQt5.QtMultimedia without PulseAudio: whoever imports it fails, and most services do not."""
    importers = {"by": {}, "complete": True} | more
    files = {"a/_a.abi3.so": record("module", "a", **lacks("libx.so.1", "a/_a.abi3.so"), importers=importers)}
    counted = {"a": {"modules": modules, "libraries": 0, "needs": {}}}
    packages = distributions(distribution("a"))
    (found,) = findings("LIB001", libraries=libraries(files, distributions=counted), packages=packages)
    assert (found.impact, found.confidence) == (Impact.BREAKS, confidence)
    assert words in found.explanation


def test_what_is_caught_is_not_seen() -> None:
    found = judged(imported_by(x_7="guarded"))
    assert found.title == "libx.so.1 is missing, which a does without"
    assert found.predicted_error is None


def test_sources_that_could_not_be_read_may_need_the_module() -> None:
    found = judged(imported_by(complete=False, x_7="guarded"))
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.LIKELY)


@pytest.mark.parametrize(("workqueue", "impact"), [({}, "note"), (lacks("libgone.so.1"), "slows")])
def test_numba_takes_another_layer_of_threads(workqueue: dict[str, Any], impact: str) -> None:
    """Seen on Debian 12 with Numba 0.68 and neither library: a parallel loop runs, its layer is workqueue."""
    folder = "numba/np/ufunc"
    ending = ".cpython-311-x86_64-linux-gnu.so"
    layers = {"tbbpool": "libtbb.so.12", "omppool": "libgomp.so.1.0.0"}
    modules = {name: f"numba.np.ufunc.{name}" for name in (*layers, "workqueue")}
    files: dict[str, Any] = {
        f"{folder}/{name}{ending}": record(
            "module",
            "numba",
            **lacks(soname),
            importers={
                "by": {
                    f"{folder}/parallel.py:401": {
                        "way": "guarded",
                        "instead": dict.fromkeys(set(modules.values()) - {modules[name]}, True),
                    }
                },
                "complete": True,
            },
        )
        for name, soname in layers.items()
    }
    if workqueue:
        files[f"{folder}/workqueue{ending}"] = record("module", "numba", **workqueue)
    found = {one.subject.name: one for one in findings("LIB001", libraries=libraries(files))}
    for soname in layers.values():
        assert (found[soname].impact, found[soname].confidence) == (impact, Confidence.LIKELY)
    text = found["libtbb.so.12"].explanation
    assert ("catches the error and takes numba.np.ufunc.workqueue." in text) is (impact == "note")


def test_who_breaks_is_shown_before_who_does_without() -> None:
    """libgomp is missing for Numba, which goes on, and for scikit-learn, which does not."""
    files = {
        "a/_a.abi3.so": record("module", "a", **lacks("libgomp.so.1"), **imported_by(x_7="guarded")),
        "b/c/d/_b.abi3.so": record("module", "b", **lacks("libgomp.so.1"), **imported_by(y_9="plain")),
    }
    (found,) = findings("LIB001", libraries=libraries(files))
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.CERTAIN)
    assert found.predicted_error is not None
    assert "So these cannot be loaded: b/c/d/_b.abi3.so, a/_a.abi3.so." in found.explanation


def test_other_failures_of_a_module_weigh_as_much_as_who_imports_it() -> None:
    tried = imported_by(x_7="guarded")
    version = old("libc.so.6", "GLIBC_2.38", LIBC)
    symbol = undefined("gone")
    machine = {"a/_a.abi3.so": record("module", "a", machine="aarch64, 64 bit")}
    damaged = {"a/_a.abi3.so": record("module", "a", error="file too short")}
    for code, files in {"LIB002": version, "LIB003": symbol, "LIB004": machine, "LIB005": damaged}.items():
        text = {"first_failure": {"kind": "library", "text": "x"}} | files["a/_a.abi3.so"]
        (breaks,) = findings(code, libraries=libraries({"a/_a.abi3.so": text}))
        (slows,) = findings(code, libraries=libraries({"a/_a.abi3.so": text | tried}))
        assert (breaks.impact, slows.impact) == (Impact.BREAKS, Impact.SLOWS), code


def test_what_somebody_may_have_loaded_is_not_certain() -> None:
    packages = distributions(
        distribution("a", requires={"b": ""}), distribution("b", modules={"b": True}), distribution("c")
    )

    def confidence(**facts: Any) -> Confidence:
        (found,) = findings(
            "LIB001", libraries=libraries({"a/_a.abi3.so": record("module", "a") | facts}), packages=packages
        )
        return found.confidence

    lent = {"liby.so": {"distribution": "b", "how": "preload", "file": "b/liby.so"}}
    assert confidence(**lacks("libx.so")) is Confidence.CERTAIN
    assert confidence(**lacks("libx.so"), lent=lent) is Confidence.LIKELY
    assert confidence(**lacks("libx.so", elsewhere="c/libx.so")) is Confidence.LIKELY
    assert confidence(**lacks("libx.so", elsewhere="b/libx.so")) is Confidence.POSSIBLE
    assert confidence(**lacks("libx.so", elsewhere="a/lib/libx.so")) is Confidence.POSSIBLE


def test_only_the_first_failure_is_predicted() -> None:
    lacking = lacks("libz.so.9")
    lacking["missing"]["liba.so.1"] = {"error": GONE, "chain": []}
    (found,) = findings("LIB001", libraries=libraries({"a/_a.abi3.so": record("module", "a", **lacking)}))
    assert found.predicted_error == f"ImportError: libz.so.9: {GONE}"
    assert found.title.startswith("libz.so.9 and 1 more library are missing")
    assert found.subject.name == "liba.so.1, libz.so.9"
    assert found.explanation.endswith("Once that is mended, liba.so.1 is missing too.")


def test_libraries_that_other_files_lack_are_findings_of_their_own() -> None:
    files = {"a/_a.abi3.so": record("module", "a", **lacks("libx.so.1"))}
    files["b/_b.abi3.so"] = record("module", "b", **lacks("liby.so.1"))
    assert {found.subject.name for found in findings("LIB001", libraries=libraries(files))} == {
        "libx.so.1",
        "liby.so.1",
    }


def fixes(soname: str, *, baseline: Any = None, **target: Any) -> list[str]:
    files = {"a/_a.abi3.so": record("module", "a", **lacks(soname))}
    (found,) = findings("LIB001", baseline=baseline, libraries=libraries(files), **target)
    return [fix.text for fix in found.fix]


def test_the_package_is_that_of_the_baseline_or_of_the_table() -> None:
    known = libraries(libraries={"libodd.so.1": {"/usr/lib/libodd.so.1": answer(package="libodd1")}})
    baseline = {"libraries": known, "system": system()}
    assert fixes("libodd.so.1", baseline=baseline, system=system()) == [
        "apt-get install -y --no-install-recommends libodd1"
    ]
    assert "apt-file search libodd.so.1" in fixes("libodd.so.1", baseline=baseline, system=system("apk"))[0]
    assert fixes("libglib-2.0.so.0", system=system("rpm")) == ["dnf install -y glib2"]
    assert fixes("libglib-2.0.so.0", system=system("apk")) == ["apk add glib"]
    assert fixes("libglib-2.0.so.0", system=system())[0].endswith(" libglib2.0-0")
    assert fixes("libglib-2.0.so.0", system=system(libssl3t64="3"))[0].endswith(" libglib2.0-0t64")
    assert "Debian calls it libgomp1" in fixes("libgomp.so.1")[0]
    assert fixes("libcublas.so.12") == ["python -m pip install nvidia-cublas-cu12"]


def test_a_bundled_library_comes_back_with_its_wheel() -> None:
    gone = {"count": 1, "examples": {"a.libs/libq.so.3": True}}
    packages = distributions(distribution("a", "2.0", missing_files=gone))
    again = ["python -m pip install --force-reinstall --no-deps a==2.0"]
    assert fixes("libq.so.3", packages=packages) == again
    assert fixes("libgomp-a34b3233.so.1.0.0", packages=packages) == again


def test_a_library_of_a_wheel_that_the_baseline_has() -> None:
    path = "nvidia/cublas/lib/libcublas.so.12"
    baseline = {
        "libraries": libraries(libraries={"libcublas.so.12": {path: answer(distribution="nvidia-cublas-cu12")}}),
        "packages": distributions(distribution("nvidia-cublas-cu12", "12.8.4.1")),
    }
    assert fixes("libcublas.so.12", baseline=baseline) == ["python -m pip install nvidia-cublas-cu12==12.8.4.1"]


def test_torchvision_for_another_accelerator_is_left_to_pkg008() -> None:
    files = {"torchvision/_C.so": record("plugin", "torchvision", named_by="x.py", **lacks("libtorch_cuda.so"))}

    def packages(build: str) -> dict[str, Any]:
        return distributions(distribution("torch", "2.13.0+cpu"), distribution("torchvision", f"0.28.0+{build}"))

    for code in ("LIB001", "LIB010"):
        assert findings(code, libraries=libraries(files), packages=packages("cu130")) == []
    assert findings("PKG008", libraries=libraries(files), packages=packages("cu130"))
    assert findings("LIB010", libraries=libraries(files), packages=packages("cpu"))


def test_a_python_that_does_not_start() -> None:
    made = libraries()
    made["interpreter"]["missing"] = {"libpython3.11.so.1.0": {"error": GONE, "chain": ["/usr/bin/python3.11"]}}
    (found,) = findings("LIB001", libraries=made)
    assert found.predicted_error is not None
    assert found.predicted_error.endswith(f"error while loading shared libraries: libpython3.11.so.1.0: {GONE}")


def test_a_library_that_may_not_be_read() -> None:
    lacking = lacks("libx.so.1", error="cannot open shared object file: Permission denied", file="/opt/libx.so.1")
    (found,) = findings("LIB001", libraries=libraries({"a/_a.abi3.so": record("module", "a", **lacking)}))
    assert found.title == "libx.so.1 cannot be opened: Permission denied"
    assert found.fix[0].text == "Let the user of the service read /opt/libx.so.1."


# LIB002


def old(soname: str, version: str, provider: str, by: str = "/site/a/_a.abi3.so", key: str = "a/_a.abi3.so") -> Any:
    return {
        key: record(
            "module",
            "a",
            missing_versions={soname: {version: {"provider": provider, "chain": [key]}}},
            first_failure={"kind": "version", "text": f"{provider}: version `{version}' not found (required by {by})"},
        )
    }


def test_a_glibc_that_is_too_old() -> None:
    files = old("libc.so.6", "GLIBC_2.38", LIBC)
    (found,) = findings(
        "LIB002", libraries=libraries(files), packages=distributions(distribution("a")), system=system()
    )
    assert found.title == "a needs glibc 2.38; here is 2.36"
    assert found.predicted_error == (
        "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /site/a/_a.abi3.so)"
    )
    assert found.confidence is Confidence.CERTAIN
    assert found.fix[0].text == "Take a base image with glibc 2.38 or newer (Ubuntu 24.04 has it)."


@pytest.mark.parametrize(("stated", "here"), [("2.31", "2.31"), ("2.28", "2.30"), (None, "2.30")])
def test_the_c_library_says_its_own_version(stated: str | None, here: str) -> None:
    """glibc 2.31 of Debian 11 has no symbol of that version; its newest name is GLIBC_2.30."""
    files = old("libc.so.6", "GLIBC_2.38", LIBC)
    known = system()
    known["libc"] = {"family": "glibc", "version": stated, "path": LIBC}
    (found,) = findings(
        "LIB002",
        libraries=libraries(files, glibc="2.30"),
        packages=distributions(distribution("a")),
        system=known,
    )
    assert found.title == f"a needs glibc 2.38; here is {here}"


def test_versions_that_are_offered_are_no_finding() -> None:
    assert findings("LIB002", libraries=HEALTHY) == []


def test_an_older_libstdcxx_from_a_variable() -> None:
    provider = "/opt/conda/lib/libstdc++.so.6"
    answers = {
        "libstdc++.so.6": {
            provider: answer(
                "ld_library_path", assumption="variable", offers={"GLIBCXX": "3.4.28"}, otherwise="/lib/libstdc++.so.6"
            )
        }
    }
    made = libraries(old("libstdc++.so.6", "GLIBCXX_3.4.32", provider), libraries=answers)
    (found,) = findings("LIB002", libraries=made)
    assert found.title == "a needs GLIBCXX_3.4.32 of libstdc++.so.6, which ends at GLIBCXX_3.4.28"
    assert found.confidence is Confidence.LIKELY
    assert found.fix[0].text == f"LD_LIBRARY_PATH without the directory of {provider}"


def test_libm_and_libc_are_one_glibc() -> None:
    files = old("libc.so.6", "GLIBC_2.38", LIBC) | old("libm.so.6", "GLIBC_2.39", "/lib/libm.so.6", key="a/_b.abi3.so")
    (found,) = findings("LIB002", libraries=libraries(files))
    assert found.subject.name == "glibc"
    assert found.title.startswith("a needs glibc 2.39")


def test_a_python_for_a_newer_system() -> None:
    made = libraries()
    made["interpreter"]["missing_versions"] = {
        "libc.so.6": {"GLIBC_2.38": {"provider": LIBC, "chain": ["/usr/bin/python3.11"]}}
    }
    (found,) = findings("LIB002", libraries=made)
    assert "version `GLIBC_2.38' not found (required by /usr/bin/python3.11)" in str(found.predicted_error)


# LIB003


def undefined(symbol: str, key: str = "a/_a.abi3.so", role: str = "module", **facts: Any) -> dict[str, Any]:
    entry = {"version": None, "by": key, "elsewhere": None} | facts
    text = f"/site/{entry['by']}: undefined symbol: {symbol}"
    made = {"undefined": {symbol: entry}, "undefined_count": 1, "first_failure": {"kind": "symbol", "text": text}}
    return {key: record(role, key.split("/", maxsplit=1)[0], **made)}


def test_a_symbol_that_nothing_defines() -> None:
    packages = distributions(distribution("a", requires={"torch": ""}), distribution("torch", "2.5"))
    needs: dict[str, Any] = {"libc10.so": {"answers": {}, "versions": {}}}
    made = libraries(undefined("_ZN3c10gone"), distributions={"a": {"modules": 1, "libraries": 0, "needs": needs}})
    baseline = {"packages": distributions(distribution("a"), distribution("torch", "2.4"))}
    (found,) = findings("LIB003", baseline=baseline, libraries=made, packages=packages)
    assert found.title == "a._a needs the symbol _ZN3c10gone, which nothing defines"
    assert found.predicted_error == "ImportError: /site/a/_a.abi3.so: undefined symbol: _ZN3c10gone"
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.CERTAIN)
    assert found.fix[0].text == "python -m pip install torch==2.4"


def test_no_undefined_symbol_no_finding() -> None:
    assert findings("LIB003", libraries=HEALTHY) == []


def test_how_sure_an_undefined_symbol_is() -> None:
    whole = distributions(distribution("a"))
    cut = distributions(
        distribution("a", altered_files={"count": 1, "examples": {"a/x.so": {"recorded": 9, "found": 8}}})
    )
    system_only = {"a": {"modules": 1, "libraries": 0, "needs": {"libc.so.6": {"answers": {}, "versions": {}}}}}

    def confidence(symbol: str, packages: dict[str, Any], **facts: Any) -> Confidence:
        made = libraries(undefined(symbol, **facts), distributions=system_only)
        (found,) = findings("LIB003", libraries=made, packages=packages)
        return found.confidence

    assert confidence("call_me", whole) is Confidence.POSSIBLE
    assert confidence("call_me", cut) is Confidence.CERTAIN
    assert confidence("PyUnstable_New", whole) is Confidence.CERTAIN
    assert confidence("call_me", cut, elsewhere="b/libb.so") is Confidence.LIKELY


def test_torchvision_without_its_operators() -> None:
    files = undefined("_ZN3c10old", "torchvision/_C.so", "plugin")
    (found,) = findings("LIB003", libraries=libraries(files))
    assert found.impact is Impact.BREAKS
    assert found.predicted_error == "RuntimeError: operator torchvision::nms does not exist"


# LIB004


def test_a_module_for_another_machine() -> None:
    text = f"/site/a/_a.abi3.so: {GONE}"
    failure = {"kind": "library", "text": text}
    files = {"a/_a.abi3.so": record("module", "a", machine="aarch64, 64 bit", first_failure=failure)}
    (found,) = findings("LIB004", libraries=libraries(files), packages=distributions(distribution("a")))
    assert found.title == "1 file for aarch64, 64 bit beside a Python for x86_64, 64 bit"
    assert found.predicted_error == f"ImportError: {text}"
    assert found.fix[0].text.endswith("install --force-reinstall --no-deps a==1.0")


def test_a_library_of_32_bits_below() -> None:
    files = {"a/_a.abi3.so": record("module", "a", **lacks("libx.so.1", error="wrong ELF class: ELFCLASS32"))}
    (found,) = findings("LIB004", libraries=libraries(files))
    assert found.subject.name == "32 bit"
    assert findings("LIB001", libraries=libraries(files)) == []
    assert findings("LIB005", libraries=libraries(files)) == []


def test_modules_of_this_machine_are_no_finding() -> None:
    assert findings("LIB004", libraries=HEALTHY) == []


# LIB005


def test_a_file_that_is_no_library() -> None:
    failure = {"kind": "library", "text": "/site/a/_a.abi3.so: file too short"}
    files = {"a/_a.abi3.so": record("module", "a", error="file too short", first_failure=failure)}
    (found,) = findings("LIB005", libraries=libraries(files), packages=distributions(distribution("a")))
    assert found.title == "a/_a.abi3.so is damaged: file too short"
    assert found.predicted_error == "ImportError: /site/a/_a.abi3.so: file too short"
    assert found.confidence is Confidence.CERTAIN


def test_a_library_that_was_cut_kills_the_process() -> None:
    error = "segment 3 beyond the end of the file"
    files = {
        f"a/_{name}.abi3.so": record(
            "module",
            "a",
            missing={"libx.so.1": {"error": error, "chain": [], "file": "a.libs/libx.so.1"}},
            first_failure={"kind": "crash", "text": "Bus error"},
        )
        for name in "xy"
    }
    (found,) = findings("LIB005", libraries=libraries(files))
    assert found.subject.name == "a.libs/libx.so.1"
    assert found.predicted_error == "Bus error"
    assert "SIGBUS" in found.explanation


def test_whole_files_are_no_finding() -> None:
    unused = {"a/data.so": record("unused", "a", error="invalid ELF header")}
    assert findings("LIB005", libraries=libraries(unused)) == []


# LIB006


def answers(**by_name: dict[str, Any]) -> dict[str, Any]:
    return libraries(libraries={f"{name}.so.1": table for name, table in by_name.items()})


def test_a_library_from_a_variable_in_place_of_the_wheel_s() -> None:
    bundled = {"nvidia/lib/libblas.so.1": answer("rpath", distribution="nvidia-blas", offers={"V": "2"})}
    shadow = {"/opt/lib/libblas.so.1": answer("ld_library_path", assumption="variable", offers={"V": "1"})}
    baseline, target = answers(libblas=bundled), answers(libblas=shadow)
    target["search"]["ld_library_path"] = ["/opt/lib"]
    (found,) = findings("LIB006", baseline={"libraries": baseline}, libraries=target)
    assert found.title == "libblas.so.1 comes from LD_LIBRARY_PATH instead of the wheel of nvidia-blas"
    assert (found.impact, found.confidence) == (Impact.CHANGES_RESULTS, Confidence.LIKELY)
    assert "V 2 against 1" in found.explanation
    assert found.fix[0].text == "LD_LIBRARY_PATH without /opt/lib"


def test_the_system_s_library_in_place_of_the_wheel_s() -> None:
    packages = distributions(distribution("mkl", "2025.1"))
    baseline = {"libraries": answers(libmkl={"mkl/libmkl.so.1": answer("runpath", distribution="mkl")})}
    target = answers(libmkl={"/usr/lib/libmkl.so.1": answer()})
    (found,) = findings("LIB006", baseline=baseline | {"packages": packages}, libraries=target)
    assert (found.impact, found.confidence) == (Impact.CHANGES_RESULTS, Confidence.POSSIBLE)
    assert found.fix[0].text == "python -m pip install mkl==2025.1"


def test_another_directory_of_the_system_and_the_driver_are_no_finding() -> None:
    baseline = answers(libz={"/lib/libz.so.1": answer()}, libcuda={"/lib/libcuda.so.1": answer(assumption="driver")})
    target = answers(
        libz={"/usr/lib64/libz.so.1": answer("cache")},
        libcuda={"/usr/local/libcuda.so.1": answer("ld_library_path", assumption="driver")},
    )
    assert findings("LIB006", baseline={"libraries": baseline}, libraries=target) == []


def test_a_variable_that_names_the_systems_own_directory_is_no_finding() -> None:
    """/lib is a link to /usr/lib; the system's own library in the place of a wheel's is one."""
    by_variable = answer("ld_library_path", assumption="variable")
    system = {"/lib/x86_64-linux-gnu/libz.so.1": answer("cache")}
    target = answers(libz={"/usr/lib/x86_64-linux-gnu/libz.so.1": by_variable})
    assert findings("LIB006", baseline={"libraries": answers(libz=system)}, libraries=target) == []
    for other in ({"a.libs/libz.so.1": answer("runpath", distribution="a")}, {"/opt/lib/libz.so.1": answer("runpath")}):
        assert len(findings("LIB006", baseline={"libraries": answers(libz=other)}, libraries=target)) == 1


# LIB007


def runtimes(openmp: dict[str, list[str]], blas: dict[str, list[str]] | None = None) -> dict[str, Any]:
    def table(entries: dict[str, list[str]]) -> dict[str, Any]:
        return {file: {"used_by": dict.fromkeys(owners, True)} for file, owners in entries.items()}

    return libraries(runtimes={"openmp": table(openmp), "blas": table(blas or {})})


def test_two_runtimes_that_refuse_each_other() -> None:
    made = runtimes({"a/libiomp5.so": ["a"], "b.libs/libomp-1a.so": ["b"]})
    (found,) = findings("LIB007", libraries=made)
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.POSSIBLE)
    assert found.predicted_error == (
        "OMP: Error #15: Initializing libomp.so, but found libiomp5.so already initialized."
    )
    (found,) = findings("LIB007", libraries=runtimes({"a/libiomp5.so": ["a"], "b/libiomp5.so": ["a"]}))
    assert found.confidence is Confidence.LIKELY


def test_what_wheels_bundle_as_a_rule_is_no_finding() -> None:
    made = runtimes(
        {"scikit_learn.libs/libgomp-e985bcbb.so.1.0.0": ["scikit-learn"], "torch/lib/libgomp.so.1": ["torch"]},
        {
            "numpy.libs/libscipy_openblas64_-32a4b2a6.so": ["numpy"],
            "scipy.libs/libscipy_openblas-6cdc3b4a.so": ["scipy"],
        },
    )
    assert findings("LIB007", libraries=made) == []


def test_runtimes_of_two_makers_are_a_note() -> None:
    made = runtimes(
        {"a/libiomp5.so": ["a"], "b/libgomp.so.1": ["b"]}, {"x/libmkl_rt.so.2": ["x"], "/lib/libblas.so.3": ["y"]}
    )
    found = findings("LIB007", libraries=made)
    assert [(one.impact, one.confidence, one.subject.name) for one in found] == [
        (Impact.NOTE, Confidence.POSSIBLE, "openmp"),
        (Impact.NOTE, Confidence.POSSIBLE, "blas"),
    ]


# LIB008


def stack(**facts: Any) -> dict[str, Any]:
    return {"a/_a.abi3.so": record("module", "a", maps_executable_stack="/site/a.libs/libx.so.1", **facts)}


def test_an_executable_stack_on_glibc_2_41() -> None:
    (found,) = findings("LIB008", libraries=libraries(stack(), glibc="2.41"))
    assert found.confidence is Confidence.CERTAIN
    assert found.predicted_error == (
        "ImportError: /site/a.libs/libx.so.1: cannot enable executable stack as shared object requires: "
        "Invalid argument"
    )


def test_an_executable_stack_where_it_is_allowed() -> None:
    assert findings("LIB008", libraries=libraries(stack(), glibc="2.40")) == []
    assert findings("LIB008", libraries=libraries(HEALTHY["files"], glibc="2.41")) == []


def test_an_executable_stack_that_a_tunable_may_allow() -> None:
    variables = {"variables": {"GLIBC_TUNABLES": {"value": "glibc.rtld.execstack=2"}}}
    (found,) = findings("LIB008", libraries=libraries(stack(), glibc="2.41"), variables=variables)
    assert found.confidence is Confidence.LIKELY


# LIB009


def test_more_static_storage_than_there_is() -> None:
    files = {f"a/lib{n}.so": record("bundled", "a", static_tls_bytes=900) for n in range(2)}
    (found,) = findings("LIB009", libraries=libraries(files))
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.POSSIBLE)
    files["a/big.abi3.so"] = record("module", "a", static_tls_bytes=4000)
    (found,) = findings("LIB009", libraries=libraries(files))
    assert found.confidence is Confidence.LIKELY
    assert found.subject.name == "a/big.abi3.so"


def test_the_usual_static_storage_is_no_finding() -> None:
    assert findings("LIB009", libraries=HEALTHY) == []


# LIB010

PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"


def test_a_cuda_provider_without_cublas() -> None:
    lacking = lacks("libcublasLt.so.12", PROVIDER)
    files = {PROVIDER: record("plugin", "onnxruntime-gpu", named_by="onnxruntime/capi/state.so", **lacking)}
    packages = distributions(distribution("onnxruntime-gpu", "1.23.0"))
    (found,) = findings("LIB010", libraries=libraries(files), packages=packages)
    assert (found.impact, found.confidence) == (Impact.SLOWS, Confidence.LIKELY)
    assert found.predicted_error == f"libcublasLt.so.12: {GONE}"
    assert found.fix[0].text == "python -m pip install nvidia-cublas-cu12"
    assert findings("LIB001", libraries=libraries(files), packages=packages) == []


def test_the_plugin_for_tensorrt_alone_is_an_option() -> None:
    plugin = "onnxruntime/capi/libonnxruntime_providers_tensorrt.so"
    files = {plugin: record("plugin", "onnxruntime-gpu", named_by="state.py", **lacks("libnvinfer.so.10", plugin))}
    gpu = distribution("onnxruntime-gpu", "1.31.1", extras={"cuda": True, "cudnn": True})
    (found,) = findings("LIB010", libraries=libraries(files), packages=distributions(gpu))
    assert found.impact is Impact.NOTE
    assert not any("[cuda" in fix.text for fix in found.fix)
    files[PROVIDER] = record("plugin", "onnxruntime-gpu", named_by="state.py", **lacks("libcublasLt.so.13", PROVIDER))
    (found,) = findings("LIB010", libraries=libraries(files), packages=distributions(gpu))
    assert found.impact is Impact.SLOWS


def test_the_plugins_of_openvino_are_spare_unless_the_baseline_loads_them() -> None:
    """import openvino and its CPU device work without libOpenCL.so.1 (openvino 2025.3.0)."""
    plugin = "openvino/libs/libopenvino_intel_gpu_plugin.so"
    packages = distributions(distribution("openvino", "2025.3.0"))
    lacking = libraries({plugin: record("plugin", "openvino", **lacks("libOpenCL.so.1", plugin))})
    (alone,) = findings("LIB010", libraries=lacking, packages=packages)
    assert alone.impact is Impact.NOTE
    for known, impact in ((HEALTHY, Impact.SLOWS), (lacking, Impact.NOTE)):
        (found,) = findings(
            "LIB010", baseline={"packages": packages, "libraries": known}, libraries=lacking, packages=packages
        )
        assert found.impact is impact


def test_the_extras_of_a_distribution_bring_what_its_plugin_needs() -> None:
    lacking = lacks("libcublasLt.so.13", PROVIDER)
    files = {PROVIDER: record("plugin", "onnxruntime-gpu", named_by="onnxruntime/__init__.py", **lacking)}
    gpu = distribution("onnxruntime-gpu", "1.31.1", extras={"cuda": True, "cudnn": True})
    (found,) = findings("LIB010", libraries=libraries(files), packages=distributions(gpu))
    assert [fix.text for fix in found.fix] == ['python -m pip install "onnxruntime-gpu[cuda,cudnn]==1.31.1"']


def test_the_wheels_of_cuda_13_have_other_names() -> None:
    lacking = lacks("libcublasLt.so.13", PROVIDER)
    for soname in ("libcudnn.so.9", "libcurand.so.10", "libnccl.so.2"):
        lacking["missing"][soname] = {"error": GONE, "chain": [PROVIDER]}
    files = {PROVIDER: record("plugin", "x", named_by="x.py", **lacking)}
    (found,) = findings("LIB010", libraries=libraries(files))
    assert [fix.text.rsplit(" ", 1)[-1] for fix in found.fix] == [
        "nvidia-cublas",
        "nvidia-cudnn-cu13",
        "nvidia-curand",
        "nvidia-nccl-cu13",
    ]


def test_plugins_that_load_are_no_finding() -> None:
    assert findings("LIB010", libraries=HEALTHY) == []


def test_an_optional_module_and_a_whole_package_without_cuda() -> None:
    files = {"cupy/cutensor.abi3.so": record("module", "cupy", **lacks("libcutensor.so.2"))}
    count = {"cupy": {"modules": 60, "libraries": 0, "needs": {}}}
    (found,) = findings("LIB010", libraries=libraries(files, distributions=count))
    assert found.impact is Impact.SLOWS
    count["cupy"]["modules"] = 1
    assert findings("LIB010", libraries=libraries(files, distributions=count)) == []
    (found,) = findings("LIB001", libraries=libraries(files, distributions=count))
    assert found.impact is Impact.BREAKS


# LIB011


def numpy_1(raises: str | None, role: str = "module") -> dict[str, Any]:
    return {"a/_a.abi3.so": record(role, "a", numpy_c_api={"generation": 1, "raises": raises})}


SIZE_CHANGED = (
    "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, "
    "got 88 from PyObject"
)


@pytest.mark.parametrize(
    ("raises", "text"),
    [
        ("ValueError", SIZE_CHANGED),
        ("ImportError", "ImportError: numpy.core.multiarray failed to import"),
        (None, "AttributeError: _ARRAY_API not found"),
    ],
)
def test_a_build_for_numpy_1_on_numpy_2(raises: str | None, text: str) -> None:
    packages = distributions(distribution("numpy", "2.4.6"), distribution("a", "3.0"))
    (found,) = findings("LIB011", libraries=libraries(numpy_1(raises)), packages=packages)
    assert found.title == "a 3.0 was built for NumPy 1, and NumPy 2.4.6 is installed"
    assert found.predicted_error == text
    assert ("half-initialised" in found.explanation) is (raises is None)
    # One thing to type, since --fix types all of it: the other way is in words.
    assert [(fix.kind, fix.text) for fix in found.fix] == [
        ("pip", 'python -m pip install "numpy<2"'),
        ("advice", "Or a release that was built with NumPy 2: python -m pip install --upgrade a"),
    ]
    known = {"packages": distributions(distribution("numpy", "2.4.6"), distribution("a", "4.0"))}
    (found,) = findings("LIB011", baseline=known, libraries=libraries(numpy_1(raises)), packages=packages)
    assert found.fix[0].text == "python -m pip install a==4.0"


def test_numpy_does_not_go_back_where_another_distribution_takes_no_numpy_1() -> None:
    """scikit-learn 1.3.2 beside pandas 3.1.1: numpy<2 would break pandas."""
    numpy, old = distribution("numpy", "2.4.6"), distribution("a", "3.0", requires={"numpy<2.0,>=1.17.3": ""})
    for wanted, line in ((">=2.0.2", "install --upgrade a"), (">=1.21", 'install "numpy<2"')):
        packages = distributions(numpy, old, distribution("pandas", "3.1.1", requires={f"numpy{wanted}": ""}))
        (found,) = findings("LIB011", libraries=libraries(numpy_1("ValueError")), packages=packages)
        assert found.fix[0].text == f"python -m pip {line}"


def test_a_build_for_numpy_1_on_numpy_1() -> None:
    packages = distributions(distribution("numpy", "1.26.4"), distribution("a"))
    assert findings("LIB011", libraries=libraries(numpy_1("ImportError")), packages=packages) == []


# LIB012


def imports(**modules: Any) -> dict[str, Any]:
    return {"modules": modules}


def raised(text: str) -> dict[str, Any]:
    kind, _, message = text.partition(": ")
    return {"outcome": "raised", "type": kind, "message": message, "line": text}


def test_an_import_that_fails_and_that_nothing_predicted() -> None:
    tried = imports(cv2=raised("ImportError: libodd.so.1: " + GONE))
    baseline = {"imports": imports(cv2={"outcome": "imported"}), "libraries": HEALTHY}
    (found,) = findings("LIB012", baseline=baseline, libraries=HEALTHY, imports=tried)
    assert (found.impact, found.confidence) == (Impact.BREAKS, Confidence.CERTAIN)
    assert found.predicted_error == "ImportError: libodd.so.1: " + GONE
    assert found.explanation.endswith("In the baseline the same import succeeds.")


def test_an_import_that_ends_as_predicted_is_no_finding() -> None:
    files = {CV2: record(**lacks("libGL.so.1", CV2))}
    tried = imports(cv2=raised(f"ImportError: libGL.so.1: {GONE}"), numpy={"outcome": "imported"})
    assert findings("LIB012", libraries=libraries(files), imports=tried) == []
    assert findings("LIB012", libraries=libraries(files)) == []


def test_an_import_that_succeeds_against_the_prediction() -> None:
    files = {CV2: record(**lacks("libGL.so.1", CV2))}
    (found,) = findings("LIB012", libraries=libraries(files), imports=imports(cv2={"outcome": "imported"}))
    assert (found.impact, found.title) == (Impact.NOTE, f"import cv2 succeeds, though {CV2} cannot be loaded")


@pytest.mark.parametrize(("way", "notes"), [("guarded", 0), ("function", 0), ("plain", 1)])
def test_an_import_that_does_without_a_module_is_as_predicted(way: str, notes: int) -> None:
    files = {"a/_a.abi3.so": record("module", "a", **lacks("libx.so.1"), **imported_by(x_7=way))}
    made = imports(a={"outcome": "imported"})
    assert len(findings("LIB012", libraries=libraries(files), imports=made)) == notes


def test_an_import_that_goes_on_half_initialised() -> None:
    tried = imports(a={"outcome": "imported", "array_api_not_found": True})
    (found,) = findings("LIB012", libraries=HEALTHY, imports=tried)
    assert found.title == "import a goes on without NumPy's C API"


def test_imports_that_die_or_hang() -> None:
    tried = imports(
        a={"outcome": "killed", "type": "SIGSEGV"},
        b={"outcome": "timeout", "message": "no end after 60 seconds"},
        c={"outcome": "exited", "message": "exit code 7"},
    )
    texts = [found.predicted_error for found in findings("LIB012", libraries=HEALTHY, imports=tried)]
    assert texts == ["Segmentation fault", "no end after 60 seconds", "exit code 7"]


def test_a_requirement_that_is_missing_is_left_to_pkg001() -> None:
    packages = distributions(distribution("a", requires={"Lazy-Loader>=1": ""}))
    tried = imports(a=raised("ModuleNotFoundError: No module named 'lazy_loader'"))
    assert findings("LIB012", libraries=HEALTHY, imports=tried, packages=packages) == []
    tried = imports(a=raised("ModuleNotFoundError: No module named 'a'"))
    assert len(findings("LIB012", libraries=HEALTHY, imports=tried, packages=packages)) == 1


def test_facts_alone_are_enough() -> None:
    """Without packages, system and variables nothing fails and nothing is lost."""
    files = {CV2: record(**lacks("libGL.so.1", CV2))}
    target = snapshot("alone", libraries=libraries(files))
    (found,) = LIB001().check(target, None)
    assert found.predicted_error == f"ImportError: libGL.so.1: {GONE}"
