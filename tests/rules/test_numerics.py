"""Family NUM on made-up facts."""

from __future__ import annotations

from typing import Any

import pytest
from support.snapshots import distribution, distributions, findings, snapshot

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding
from driftcheck.rules.numerics import blas_build

NUMPY = distributions(distribution("numpy", "2.4.6"))
WHEEL = "numpy.libs/libscipy_openblas64_-32a4b2a6.so"
DEBIAN = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so"
MKL = "/opt/conda/lib/libmkl_rt.so.2"


def judged(finding: Finding) -> tuple[str, str]:
    return (finding.impact.value, finding.confidence.value)


def variables(**values: str | None) -> dict[str, Any]:
    return {"variables": {name: {} if value is None else {"value": value} for name, value in values.items()}}


def libraries(blas: dict[str, list[str]] | None = None, needs: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Facts of section ``libraries``: who maps which BLAS, and what distributions need from outside."""
    return {
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
        "files": {},
        "distributions": {
            name: {
                "modules": 1,
                "libraries": 0,
                "needs": {soname: {"answers": {f"/lib/{soname}": "cache"}, "versions": {}} for soname in sonames},
            }
            for name, sonames in (needs or {}).items()
        },
        "libraries": {},
        "runtimes": {
            "openmp": {},
            "blas": {file: {"used_by": dict.fromkeys(users, True)} for file, users in (blas or {}).items()},
        },
    }


# NUM001


def blas(before: dict[str, list[str]], after: dict[str, list[str]], version: str = "2.4.6") -> list[Finding]:
    return findings(
        "NUM001",
        baseline={"libraries": libraries(before), "packages": NUMPY},
        libraries=libraries(after),
        packages=distributions(distribution("numpy", version)),
    )


def test_num001_another_maker() -> None:
    (found,) = blas({WHEEL: ["numpy"]}, {MKL: ["numpy"]})
    assert judged(found) == ("changes-results", "likely")
    assert found.title == "numpy computes with MKL instead of OpenBLAS"
    assert [fix.text for fix in found.fix] == ["python -m pip install --force-reinstall numpy==2.4.6"]


def test_num001_the_system_has_any_blas() -> None:
    (found,) = blas({WHEEL: ["numpy"]}, {"/lib/x86_64-linux-gnu/libblas.so.3": ["numpy"]})
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "numpy computes with the system's BLAS instead of OpenBLAS"


def test_num001_another_version_in_the_same_version_of_numpy() -> None:
    (found,) = blas({WHEEL: ["numpy"]}, {DEBIAN: ["numpy"]})
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "numpy computes with OpenBLAS 0.3.21 instead of OpenBLAS with 64-bit integers"
    # Another numpy has another BLAS in its wheel: NUM002 says so.
    assert blas({WHEEL: ["numpy"]}, {DEBIAN: ["numpy"]}, version="2.3.0") == []


def test_num001_silent() -> None:
    same = {"libraries": libraries({WHEEL: ["numpy"]})}
    assert findings("NUM001", baseline=same, libraries=libraries({WHEEL: ["numpy"]})) == []
    assert blas({WHEEL: ["numpy"]}, {WHEEL: ["numpy"]}) == []
    assert blas({WHEEL: ["numpy"]}, {"numpy.libs/libscipy_openblas64_-00000000.so": ["numpy"]}) == []
    assert blas({WHEEL: ["numpy"]}, {MKL: ["scipy"]}) == []
    assert blas({WHEEL: [""]}, {MKL: [""]}) == []


def test_num001_explains_the_files() -> None:
    one = snapshot("a", libraries=libraries({WHEEL: ["numpy"]}), packages=NUMPY)
    other = snapshot("b", libraries=libraries({MKL: ["numpy"]}), packages=NUMPY)
    explanation = explain_pair(one, other)
    (found,) = [finding for finding in explanation.findings if finding.code == "NUM001"]
    assert {path[3] for path in found.folds} == {WHEEL, MKL}


@pytest.mark.parametrize(
    ("file", "build"),
    [
        (WHEEL, "OpenBLAS with 64-bit integers"),
        ("numpy.libs/libopenblas64_p-r0-0cf96a72.3.23.dev.so", "OpenBLAS 0.3.23 with 64-bit integers"),
        ("opencv_python.libs/libopenblas-r0-f650aae0.3.3.so", "OpenBLAS 0.3.3"),
        (DEBIAN, "OpenBLAS 0.3.21"),
        (MKL, "MKL"),
        ("/usr/lib/libblas.so.3", "the system's BLAS"),
    ],
)
def test_what_the_name_of_a_blas_tells(file: str, build: str) -> None:
    assert blas_build(file) == build


# NUM002 to NUM004


def versions(code: str, before: dict[str, str | None], after: dict[str, str | None], **sections: Any) -> list[Finding]:
    one, other = (
        distributions(*(distribution(name, version) for name, version in side.items())) for side in (before, after)
    )
    return findings(code, baseline={"packages": one}, packages=other, **sections)


def test_num002_another_minor_version() -> None:
    (found,) = versions(
        "NUM002",
        {"torch": "2.12.0", "onnxruntime": "1.20.1", "pandas": "2.2.3"},
        {"torch": "2.13.0+cpu", "onnxruntime": "1.31.1", "pandas": "3.1.1"},
    )
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "torch, onnxruntime have other versions, which may make other numbers"
    assert "onnxruntime 1.20.1 -> 1.31.1" in found.explanation
    assert [fix.text for fix in found.fix] == ["python -m pip install torch==2.12.0 onnxruntime==1.20.1"]


def test_num002_numpy_2_is_a_boundary() -> None:
    for before, after in (("1.26.4", "2.4.6"), ("2.4.6", "1.26.4"), ("1.26.4", "2.0.0")):
        (found,) = versions("NUM002", {"numpy": before}, {"numpy": after})
        assert judged(found) == ("changes-results", "likely")
        assert found.title == f"numpy is {after}, and {before} in the baseline: on the other side of 2"
        assert "float64" in found.explanation


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2.4.6", "2.4.6"),
        ("2.4.6", "2.4.1"),
        ("2.13.0", "2.13.0+cu130"),
        ("2.4", "2.4.0"),
        ("no version", "2.4"),
        (None, "2.4"),
    ],
)
def test_num002_silent(before: str | None, after: str | None) -> None:
    assert versions("NUM002", {"torch": before, "numpy": before}, {"torch": after, "numpy": after}) == []


def test_num002_a_distribution_on_one_side_only() -> None:
    torch = distributions(distribution("torch", "2.12.0"))
    assert findings("NUM002", baseline={"packages": torch}, packages=NUMPY) == []
    assert findings("NUM002", baseline={"packages": NUMPY}, packages=torch) == []


def test_num002_explains_its_distributions() -> None:
    one = snapshot("a", packages=distributions(distribution("numpy", "1.26.4"), distribution("pandas", "2.2.3")))
    other = snapshot("b", packages=distributions(distribution("numpy", "2.4.6"), distribution("pandas", "3.1.1")))
    explanation = explain_pair(one, other)
    (found,) = [finding for finding in explanation.findings if finding.code == "NUM002"]
    assert found.folds
    assert {path[2] for path in found.folds} == {"numpy"}


def test_num003_other_tokens() -> None:
    (found,) = versions("NUM003", {"tokenizers": "0.22.1"}, {"tokenizers": "0.23.3"})
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "tokenizers has another version, which may make other tokens"
    assert versions("NUM003", {"tokenizers": "0.23.1"}, {"tokenizers": "0.23.3"}) == []


def test_num003_silent() -> None:
    regex = distributions(distribution("regex", "2026.11.15"))
    assert findings("NUM003", baseline={"packages": NUMPY}, packages=NUMPY) == []
    assert findings("NUM003", baseline={"packages": NUMPY}, packages=regex) == []


def test_num003_an_older_one_does_not_read_newer_files() -> None:
    (found,) = versions("NUM003", {"tokenizers": "0.23.3"}, {"tokenizers": "0.19.1"})
    assert judged(found) == ("breaks", "possible")
    assert found.predicted_error == "Exception: data did not match any variant of untagged enum ModelWrapper"
    (found,) = versions("NUM003", {"tokenizers": "0.19.1"}, {"tokenizers": "0.23.3"})
    assert judged(found) == ("changes-results", "possible")


def test_num004_another_version() -> None:
    (found,) = versions("NUM004", {"Pillow": "8.2.0"}, {"Pillow": "9.2.0"})
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "pillow has another version, which may make other pixels"
    pillow = distributions(distribution("Pillow", "9.2.0"))
    assert findings("NUM004", baseline={"packages": pillow}, packages=pillow) == []


def test_num004_pillow_simd() -> None:
    (found,) = versions("NUM004", {"pillow": "9.0.0"}, {"pillow-simd": "9.0.0.post1"})
    assert found.title == "PIL is that of pillow-simd instead of pillow"
    assert [fix.text for fix in found.fix] == [
        "python -m pip uninstall -y pillow-simd",
        "python -m pip install pillow==9.0.0",
    ]


def test_num004_codecs_of_the_system() -> None:
    pillow = distributions(distribution("pillow", "9.4.0"))

    def codecs(before: list[str], after: list[str]) -> list[Finding]:
        return findings(
            "NUM004",
            baseline={"packages": pillow, "libraries": libraries(needs={"pillow": before})},
            packages=pillow,
            libraries=libraries(needs={"pillow": after}),
        )

    (found,) = codecs([], ["libjpeg.so.62", "libpng16.so.16"])
    assert found.title == "pillow decodes with the system's libjpeg.so.62 instead of the codecs in its wheel"
    (found,) = codecs(["libjpeg.so.62"], ["libjpeg.so.9"])
    assert found.title == "pillow decodes with the system's libjpeg.so.9 instead of the system's libjpeg.so.62"
    assert codecs([], ["libpng16.so.16"]) == []
    assert codecs(["libjpeg.so.62"], ["libjpeg.so.62"]) == []


# NUM005


def test_num005_other_kernels() -> None:
    packages = distributions(distribution("torch", "2.13.0"))
    (found,) = findings(
        "NUM005",
        baseline={"variables": variables(), "packages": packages},
        variables=variables(ATEN_CPU_CAPABILITY="default"),
        packages=packages,
    )
    assert judged(found) == ("changes-results", "likely")
    assert found.title == "ATEN_CPU_CAPABILITY is default here, and not set in the baseline"
    assert [fix.text for fix in found.fix] == ["unset ATEN_CPU_CAPABILITY"]


@pytest.mark.parametrize(
    ("before", "after", "version"),
    [
        (variables(MKL_CBWR="AVX2"), variables(MKL_CBWR="AVX2 "), "2.13.0"),
        (variables(), variables(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="0"), "2.13.0"),
        (variables(), variables(HF_HUB_OFFLINE="1"), "2.13.0"),  # ENV004's
        (variables(), variables(OMP_NUM_THREADS="1"), "2.13.0"),  # ENV002's
        (variables(), variables(JAX_ENABLE_X64="1"), "2.13.0"),  # no jax
    ],
)
def test_num005_silent(before: dict[str, Any], after: dict[str, Any], version: str) -> None:
    packages = distributions(distribution("torch", version))
    assert findings("NUM005", baseline={"variables": before, "packages": packages}, variables=after,
                    packages=packages) == []  # fmt: skip


def test_num005_a_row_speaks_of_the_versions_that_it_names() -> None:
    def promotion(version: str) -> list[Finding]:
        packages = distributions(distribution("numpy", version))
        return findings(
            "NUM005",
            baseline={"variables": variables(), "packages": packages},
            variables=variables(NPY_PROMOTION_STATE="weak"),
            packages=packages,
        )

    assert [judged(found) for found in promotion("1.26.4")] == [("changes-results", "likely")]
    assert promotion("2.4.6") == []


# NUM006


def seeds(before: str | None, after: str | None) -> list[Finding]:
    one, other = (variables(**({"PYTHONHASHSEED": seed} if seed else {})) for seed in (before, after))
    return findings("NUM006", baseline={"variables": one}, variables=other)


def test_num006_a_fixed_seed_is_lost() -> None:
    (found,) = seeds("0", None)
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "PYTHONHASHSEED is not fixed here, and 0 in the baseline"
    assert found.fix[0].text == "PYTHONHASHSEED=0"
    assert len(seeds("0", "random")) == len(seeds("0", "1")) == 1


def test_num006_silent() -> None:
    for before, after in (("0", "0"), (None, None), (None, "0"), ("random", "0"), ("random", None), ("x", None)):
        assert seeds(before, after) == []
    hidden = variables(PYTHONHASHSEED=None)
    assert findings("NUM006", baseline={"variables": hidden}, variables=variables()) == []


# NUM007


def machine(*flags: str, level: str = "x86-64-v4", vendor: str = "GenuineIntel") -> dict[str, Any]:
    return {
        "architecture": "x86_64",
        "level": level,
        "cpu": {"vendor": vendor, "model": "a processor", "flags": dict.fromkeys(("avx2", "avx512f", *flags), True)},
    }


def vectors(before: dict[str, Any], after: dict[str, Any], *names: str) -> list[Finding]:
    packages = distributions(*(distribution(name) for name in names))
    return findings("NUM007", baseline={"machine": before, "packages": packages}, machine=after, packages=packages)


def test_num007_no_vnni() -> None:
    (found,) = vectors(machine("avx512_vnni", "amx_int8"), machine("sse4a"), "onnxruntime")
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "The processor lacks avx512_vnni, amx_int8"
    (found,) = vectors(machine(), machine("avx512_bf16", vendor="AuthenticAMD"), "torch")
    assert found.title == "The processor has avx512_bf16 besides, is of AuthenticAMD instead of GenuineIntel"


def test_num007_silent() -> None:
    bare = {"machine": {"architecture": "x86_64"}, "packages": distributions(distribution("torch"))}
    assert findings("NUM007", baseline=bare, **bare) == []
    assert vectors(machine("avx512_vnni"), machine("avx512_vnni", "rdseed"), "onnxruntime") == []
    assert vectors(machine("avx512_vnni"), machine(), "requests") == []
    assert vectors(machine("avx512_vnni"), machine(level="x86-64-v3"), "onnxruntime") == []  # CPU002's
    assert vectors(machine("avx512_vnni"), machine("sve") | {"architecture": "aarch64"}, "torch") == []  # CPU001's


# NUM008


def zone(tz: str | None, localtime: str | None = None, rule: str | None = None) -> dict[str, Any]:
    return {"timezone": {"tz": tz, "localtime": localtime, "rule": rule}}


def test_num008_another_zone() -> None:
    (found,) = findings(
        "NUM008",
        baseline={"limits": zone(None, "/usr/share/zoneinfo/Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3")},
        limits=zone(None, "/usr/share/zoneinfo/Etc/UTC", "UTC0"),
    )
    assert judged(found) == ("changes-results", "possible")
    assert found.title == "Local time is that of UTC instead of Europe/Berlin"
    assert [fix.text for fix in found.fix] == ["TZ=Europe/Berlin", "ENV TZ=Europe/Berlin"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (zone(None, "/usr/share/zoneinfo/Etc/UTC", "UTC0"), zone("UTC")),
        (zone(None), zone("Etc/UTC")),
        (zone("", None), zone(None)),
        (zone(None, "/usr/share/zoneinfo/Europe/Berlin", "CET-1"), zone(None, "/usr/share/zoneinfo/CET", "CET-1")),
        (zone("Europe/Berlin"), zone(None, "/usr/share/zoneinfo/Europe/Berlin", "CET-1CEST")),
        (zone(":Europe/Berlin"), zone("Europe/Berlin")),
        (zone(None, None, "CET-1CEST"), zone("UTC")),  # a copy of a zone file has no name, and nothing is claimed
        ({}, zone("UTC")),
    ],
)
def test_num008_silent(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert findings("NUM008", baseline={"limits": before}, limits=after) == []


def test_num008_the_rule_is_not_that_of_the_variable() -> None:
    (found,) = findings("NUM008", baseline={"limits": zone("UTC0", None, "UTC0")}, limits=zone("XYZ-5", None, "UTC0"))
    assert found.title == "Local time is that of XYZ-5 instead of UTC"


def test_num008_a_zone_is_not_typed_where_a_shell_would_run_it() -> None:
    (found,) = findings("NUM008", baseline={"limits": zone("$(reboot)")}, limits=zone("UTC"))
    assert found.fix == ()


# NUM009


def locale(encoding: str | None, *, utf8_mode: bool = False) -> dict[str, Any]:
    return {"locale": {"encoding": encoding, "filesystem_encoding": "utf-8", "lc_ctype": "C", "utf8_mode": utf8_mode}}


def test_num009_latin_1() -> None:
    (found,) = findings("NUM009", baseline={"limits": locale("UTF-8")}, limits=locale("ISO-8859-1"))
    assert judged(found) == ("changes-results", "likely")
    assert found.title == "Text files are read as iso8859-1 instead of utf-8"
    assert found.fix[0].text == "PYTHONUTF8=1"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (locale("UTF-8"), locale("utf8")),
        (locale("UTF-8"), locale("ISO-8859-1", utf8_mode=True)),
        (locale("ANSI_X3.4-1968"), locale("UTF-8")),
        (locale("UTF-8"), locale("ANSI_X3.4-1968")),  # BOX007's
        (locale("UTF-8"), locale("no-such-encoding")),
        (locale(None), locale("UTF-8")),
        ({}, locale("UTF-8")),
    ],
)
def test_num009_silent(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert findings("NUM009", baseline={"limits": before}, limits=after) == []
