"""Family ART: for each rule a model file that it speaks of, and one that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from support.cuda_facts import gpu
from support.snapshots import distribution, distributions, findings, python, snapshot

from driftcheck.explain import explain_pair
from driftcheck.findings import Finding

DIGEST = "sha256:" + "0" * 64


def artifacts(**files: dict[str, Any] | None) -> dict[str, Any]:
    """Facts of the section; a file ``model_onnx`` is named ``model.onnx``."""
    named = {name.replace("__", "/").replace("_", "."): record for name, record in files.items()}
    return {"files": named}


def record(form: str, **facts: Any) -> dict[str, Any]:
    return {"format": form, "size": 1000, "digest": DIGEST} | facts


def onnx(ir: int = 8, opset: int = 17, **facts: Any) -> dict[str, Any]:
    model = {
        "ir_version": ir,
        "producer": "pytorch 2.9",
        "opsets": {"ai.onnx": opset},
        "domains": {"ai.onnx": True},
    }
    return record("onnx", onnx=model | facts)


def pickled(form: str = "pickle", names: dict[str, dict[str, int]] | None = None, **facts: Any) -> dict[str, Any]:
    return record(form, pickle={"protocol": 4, "globals": names or {}} | facts)


def of(name: str, version: str) -> dict[str, Any]:
    return distributions(distribution(name, version))


def one_of_findings(code: str, **sections: Any) -> Finding:
    (found,) = findings(code, **sections)
    return found


def fixes(finding: Finding) -> list[str]:
    return [fix.text for fix in finding.fix]


# ONNX


@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-gpu"])
def test_an_ir_version_that_is_too_new(name: str) -> None:
    found = one_of_findings("ART001", artifacts=artifacts(m_onnx=onnx(ir=12, opset=22)), packages=of(name, "1.20.1"))
    assert found.predicted_error == "Unsupported model IR version: 12, max supported IR version: 10"
    assert (found.impact, found.confidence) == ("breaks", "likely")
    assert fixes(found)[0] == f'python -m pip install "{name}>=1.24"'


def test_the_fix_of_an_ir_version_is_the_onnxruntime_of_the_baseline() -> None:
    model = artifacts(m_onnx=onnx(ir=10, opset=20))
    baseline = {"artifacts": model, "packages": of("onnxruntime", "1.22.1")}
    found = one_of_findings("ART001", baseline=baseline, artifacts=model, packages=of("onnxruntime", "1.16.3"))
    assert fixes(found)[0] == "python -m pip install onnxruntime==1.22.1"


def test_an_ir_version_of_which_only_the_documentation_speaks() -> None:
    found = one_of_findings("ART001", artifacts=artifacts(m_onnx=onnx(ir=9)), packages=of("onnxruntime", "1.12.1"))
    assert found.confidence == "possible"


@pytest.mark.parametrize(("ir", "version"), [(10, "1.20.1"), (99, "9.0"), (99, "no version"), (13, "1.31.1")])
def test_an_ir_version_that_is_read_or_of_which_nothing_is_known(ir: int, version: str) -> None:
    assert findings("ART001", artifacts=artifacts(m_onnx=onnx(ir=ir)), packages=of("onnxruntime", version)) == []


def test_an_opset_that_is_too_new() -> None:
    found = one_of_findings("ART002", artifacts=artifacts(m_onnx=onnx(opset=23)), packages=of("onnxruntime", "1.22.1"))
    assert found.predicted_error is not None
    assert "Opset 23 is under development" in found.predicted_error
    assert fixes(found) == [
        'python -m pip install "onnxruntime>=1.23"',
        "Or export the model again with opset_version=22.",
    ]


def test_an_opset_of_a_model_whose_ir_version_is_refused_first() -> None:
    sections = {"artifacts": artifacts(m_onnx=onnx(ir=12, opset=24)), "packages": of("onnxruntime", "1.20.1")}
    assert findings("ART002", **sections) == []
    assert findings("ART001", **sections)


def test_an_opset_that_the_variable_lets_in() -> None:
    variables = {"variables": {"ALLOW_RELEASED_ONNX_OPSET_ONLY": {"value": "0"}}}
    sections = {"artifacts": artifacts(m_onnx=onnx(opset=23)), "packages": of("onnxruntime", "1.22.1")}
    assert findings("ART002", variables=variables, **sections) == []


@pytest.mark.parametrize(
    ("size", "version", "text"),
    [
        (None, "1.31.1", "External data path does not exist:"),
        (None, "1.22.1", "cannot get file size: No such file or directory"),
        (None, "1.16.3", None),
        (8, "1.31.1", "are out of bounds or can not be read in full."),
    ],
)
def test_external_data_that_is_missing_or_too_short(size: int | None, version: str, text: str | None) -> None:
    model = onnx(external_data={"w.bin": {"needed": 16, "size": size}, "v.bin": {"needed": 1, "size": 1}})
    found = one_of_findings("ART003", artifacts=artifacts(m_onnx=model), packages=of("onnxruntime", version))
    assert found.predicted_error == text
    assert "w.bin" in found.title


def test_external_data_that_is_there() -> None:
    model = onnx(external_data={"w.bin": {"needed": 16, "size": 16}})
    assert findings("ART003", artifacts=artifacts(m_onnx=model)) == []


def test_operators_of_another_domain() -> None:
    packages = of("onnxruntime", "1.22.1")
    own = onnx(domains={"com.acme": True, "com.microsoft": True, "ai.onnx": True})
    assert one_of_findings("ART004", artifacts=artifacts(m_onnx=own), packages=packages).confidence == "possible"
    extensions = onnx(domains={"ai.onnx.contrib": True})
    found = one_of_findings("ART004", artifacts=artifacts(m_onnx=extensions), packages=packages)
    assert found.confidence == "likely"
    assert fixes(found) == ["python -m pip install onnxruntime-extensions"]


def test_operators_that_the_model_or_the_extensions_define() -> None:
    packages = distributions(distribution("onnxruntime", "1.22.1"), distribution("onnxruntime-extensions", "0.14"))
    own = onnx(domains={"pkg.onnxscript": True}, function_domains={"pkg.onnxscript": True})
    both = artifacts(a_onnx=own, b_onnx=onnx(domains={"ai.onnx.contrib": True}))
    assert findings("ART004", artifacts=both, packages=packages) == []
    assert findings("ART004", artifacts=artifacts(m_onnx=onnx(domains={"x": True})), packages=distributions()) == []


# Pickles


def test_a_module_that_the_installed_numpy_does_not_have() -> None:
    model = pickled(
        names={"sklearn.base": {"B": 0}, "numpy._core.multiarray": {"_reconstruct": 1}, "mine": {"C": 2}},
        missing_modules={"numpy._core.multiarray": "numpy._core", "mine": "mine"},
    )
    found = one_of_findings("ART005", artifacts=artifacts(m_pkl=model), packages=of("numpy", "1.25.2"))
    assert found.predicted_error == "ModuleNotFoundError: No module named 'numpy._core'"
    assert found.title == "m.pkl needs the module numpy._core, which numpy 1.25.2 does not have"
    assert found.confidence == "likely"
    assert fixes(found) == ['python -m pip install "numpy>=1.26.1"']
    assert "Also missing: mine." in found.explanation


def test_a_library_that_is_not_installed_is_that_of_the_baseline() -> None:
    names = {"xgboost.sklearn": {"XGBClassifier": 0}}
    missing = artifacts(m_pkl=pickled(names=names, missing_modules={"xgboost.sklearn": "xgboost"}))
    baseline = {"artifacts": artifacts(m_pkl=pickled(names=names)), "packages": of("xgboost", "3.2.0")}
    found = one_of_findings("ART005", baseline=baseline, artifacts=missing, packages=distributions())
    assert found.confidence == "likely"
    assert fixes(found) == ["python -m pip install xgboost==3.2.0"]
    assert fixes(one_of_findings("ART005", artifacts=missing, packages=distributions())) == [
        "python -m pip install xgboost"
    ]


def test_a_module_of_nobody_known_may_be_the_service() -> None:
    model = pickled(names={"models.yolo": {"Model": 0}}, missing_modules={"models.yolo": "models"})
    assert one_of_findings("ART005", artifacts=artifacts(m_pt=model), packages=distributions()).confidence == "possible"
    baseline = {"artifacts": artifacts(m_pt=pickled(names={"models.yolo": {"Model": 0}})), "packages": distributions()}
    found = one_of_findings("ART005", baseline=baseline, artifacts=artifacts(m_pt=model), packages=distributions())
    assert found.confidence == "likely"


def test_a_module_that_an_editable_distribution_brings_is_not_missing() -> None:
    model = pickled(names={"mine": {"C": 0}}, missing_modules={"mine": "mine"})
    assert findings("ART005", artifacts=artifacts(m_pkl=model), packages=of("mine", "1.0")) == []
    assert findings("ART005", artifacts=artifacts(m_pkl=pickled()), packages=of("mine", "1.0")) == []


TREE = {"left_child": 3, "threshold": 3}


@pytest.mark.parametrize(
    ("fields", "installed", "fails"),
    [
        (TREE, "1.5.2", True),
        (TREE | {"missing_go_to_left": 3}, "1.2.2", True),
        (TREE | {"missing_go_to_left": 3}, "1.3.0", False),
    ],
)
def test_trees_of_another_scikit_learn(fields: dict[str, Any], installed: str, fails: bool) -> None:
    model = pickled(scikit_learn={"1.4.0": {"DecisionTreeClassifier": 0}}, tree_fields=fields)
    found = one_of_findings("ART006", artifacts=artifacts(m_pkl=model), packages=of("scikit-learn", installed))
    assert found.predicted_error is not None
    assert found.predicted_error.startswith("ValueError: node array") == fails
    assert (found.impact == "breaks") == fails
    assert fixes(found) == ["python -m pip install scikit-learn==1.4.0"]


def test_what_fails_first() -> None:
    model: dict[str, Any] = {
        "names": {"sklearn.tree._tree": {"Tree": 0}, "numpy._core.multiarray": {"scalar": 5}},
        "missing_modules": {"numpy._core.multiarray": "numpy._core"},
        "generators": {"numpy.random._mt19937.MT19937": 6},
        "scikit_learn": {"1.2.2": {"DecisionTreeClassifier": 0}},
        "tree_fields": TREE,
    }
    packages = distributions(distribution("scikit-learn", "1.5.2"), distribution("numpy", "1.25.2"))
    sections = {"artifacts": artifacts(m_pkl=pickled(**model)), "packages": packages}
    assert one_of_findings("ART005", **sections).predicted_error is not None
    assert one_of_findings("ART006", **sections).predicted_error is not None
    assert one_of_findings("ART010", **sections).predicted_error is None


def test_a_module_that_scikit_learn_makes_while_it_is_imported() -> None:
    model = pickled(names={"_loss": {"f": 0}}, missing_modules={"_loss": "_loss"}, scikit_learn={"1.5.2": {"G": 0}})
    files = artifacts(m_pkl=model)
    assert findings("ART005", artifacts=files, packages=of("scikit-learn", "1.5.1")) == []
    found = one_of_findings("ART005", artifacts=files, packages=of("scikit-learn", "1.9.1"))
    assert (found.confidence, found.predicted_error) == ("likely", None)
    assert fixes(found) == ["python -m pip install scikit-learn==1.5.2"]


def test_the_first_estimator_that_warns() -> None:
    model = pickled(scikit_learn={"1.5.2": {"StandardScaler": 0, "Pipeline": 2}, "1.2.2": {"SVC": 1}})
    found = one_of_findings("ART006", artifacts=artifacts(m_pkl=model), packages=of("scikit-learn", "1.2.2"))
    assert found.predicted_error == (
        "UserWarning: Trying to unpickle estimator StandardScaler from version 1.5.2 when using version 1.2.2."
    )
    assert (found.impact, found.confidence) == ("changes-results", "likely")
    patch = one_of_findings("ART006", artifacts=artifacts(m_pkl=model), packages=of("scikit-learn", "1.5.1"))
    assert patch.confidence == "possible"


def test_the_same_scikit_learn() -> None:
    model = pickled(scikit_learn={"1.5.2": {"Tree": 0}}, tree_fields=TREE)
    assert findings("ART006", artifacts=artifacts(m_pkl=model), packages=of("scikit-learn", "1.5.2")) == []
    assert findings("ART006", artifacts=artifacts(m_pkl=model), packages=of("numpy", "1.5.2")) == []


NAMESPACE = {"collections": {"OrderedDict": 0}, "argparse": {"Namespace": 1}, "pathlib": {"PosixPath": 2}}


def test_a_name_that_weights_only_refuses() -> None:
    model = artifacts(m_pt=pickled("torch", NAMESPACE, protocol=2))
    found = one_of_findings("ART007", artifacts=model, packages=of("torch", "2.6.0+cu124"))
    assert found.predicted_error == (
        "WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default."
    )
    assert found.confidence == "possible"
    baseline = {"artifacts": model, "packages": of("torch", "2.5.1")}
    assert (
        one_of_findings("ART007", baseline=baseline, artifacts=model, packages=of("torch", "2.6")).confidence
        == "likely"
    )


def test_a_protocol_that_weights_only_refuses() -> None:
    model = artifacts(m_pt=pickled("torch", {"collections": {"OrderedDict": 0}}, protocol=4))
    found = one_of_findings("ART007", artifacts=model, packages=of("torch", "2.13.0"))
    assert found.predicted_error == "Unsupported operand 149"


def test_what_torch_loads() -> None:
    tensors = pickled("torch", {"collections": {"OrderedDict": 0}, "torch": {"FloatStorage": 1}}, protocol=2)
    refused = artifacts(m_pt=pickled("torch", NAMESPACE, protocol=2))
    assert findings("ART007", artifacts=artifacts(m_pt=tensors), packages=of("torch", "2.13.0")) == []
    assert findings("ART007", artifacts=refused, packages=of("torch", "2.5.1")) == []
    forced = {"variables": {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": {"value": "1"}}}
    assert findings("ART007", artifacts=refused, packages=of("torch", "2.13.0"), variables=forced) == []
    script = artifacts(m_pt=pickled("torchscript", NAMESPACE, protocol=2))
    assert findings("ART007", artifacts=script, packages=of("torch", "2.13.0")) == []


def test_a_protocol_that_the_interpreter_does_not_read() -> None:
    model = artifacts(m_pkl=pickled(protocol=5))
    old = python(version="3.7.16")
    assert (
        one_of_findings("ART008", artifacts=model, python=old).predicted_error
        == "ValueError: unsupported pickle protocol: 5"
    )
    assert findings("ART008", artifacts=model) == []
    assert findings("ART008", artifacts=artifacts(m_pt=pickled("torch", protocol=5)), python=old) == []


def test_a_compression_that_cannot_be_unpacked() -> None:
    model = artifacts(m_joblib=record("compressed", compression="lz4"))
    found = one_of_findings("ART009", artifacts=model, packages=distributions())
    assert found.predicted_error == (
        "ValueError: LZ4 is not installed. Install it with pip: https://python-lz4.readthedocs.io/"
    )
    lacking = python(missing_modules={"_lzma": True})
    packed = artifacts(m_joblib=record("joblib", compression="xz"))
    assert "_lzma" in one_of_findings("ART009", artifacts=packed, packages=distributions(), python=lacking).title


def test_a_compression_that_is_unpacked() -> None:
    model = artifacts(m_joblib=record("compressed", compression="lz4"), a_tar=record("compressed", compression="lz4"))
    assert findings("ART009", artifacts=model, packages=of("lz4", "4.4.5")) == []
    packed = artifacts(m_joblib=record("joblib", compression="xz"), a_lz4=record("compressed", compression="lz4"))
    assert findings("ART009", artifacts=packed, packages=distributions()) == []


def test_a_random_state_of_numpy_2() -> None:
    model = artifacts(m_pkl=pickled(generators={"numpy.random._mt19937.MT19937": 0}))
    found = one_of_findings("ART010", artifacts=model, packages=of("numpy", "1.26.4"))
    assert found.predicted_error == (
        "ValueError: <class 'numpy.random._mt19937.MT19937'> is not a known BitGenerator module."
    )
    assert findings("ART010", artifacts=model, packages=of("numpy", "2.0.0")) == []


def test_a_class_of_the_program_that_wrote_it() -> None:
    found = one_of_findings("ART021", artifacts=artifacts(m_pkl=pickled(names={"__main__": {"Model": 1, "Base": 0}})))
    assert found.predicted_error == "AttributeError: Can't get attribute 'Base' on <module '__main__'"
    assert findings("ART021", artifacts=artifacts(m_pkl=pickled(names=NAMESPACE))) == []


def test_a_class_that_its_module_does_not_have() -> None:
    names = {"pandas.core.internals.blocks": {"new_block": 1}, "builtins": {"slice": 0}}
    missing = {"pandas.core.internals.blocks": {"new_block": "source"}}
    model = artifacts(m_pkl=pickled(names=names, missing_names=missing))
    packages = of("pandas", "1.1.5")
    found = one_of_findings("ART023", artifacts=model, packages=packages)
    assert found.predicted_error == (
        "AttributeError: Can't get attribute 'new_block' on <module 'pandas.core.internals.blocks'"
    )
    assert found.confidence == "likely"
    by_joblib = pickled("joblib", names, missing_names=missing, protocol=3)
    worded = one_of_findings("ART023", artifacts=artifacts(m_joblib=by_joblib), packages=packages)
    assert str(worded.predicted_error).endswith("has no attribute 'new_block'")
    baseline = {"artifacts": model, "packages": of("pandas", "2.2.0")}
    again = one_of_findings("ART023", baseline=baseline, artifacts=model, packages=packages)
    assert fixes(again) == ["python -m pip install pandas==2.2.0"]


def test_a_class_that_may_be_packed_in_an_extension_module() -> None:
    facts: dict[str, Any] = {"names": {"sklearn._loss": {"f": 0}}, "missing_names": {"sklearn._loss": {"f": "binary"}}}
    model = pickled(**facts, scikit_learn={"1.2.2": {"A": 0}})
    found = one_of_findings("ART023", artifacts=artifacts(m_pkl=model), packages=of("scikit-learn", "1.7.2"))
    assert found.confidence == "possible"
    assert findings("ART023", artifacts=artifacts(m_pkl=pickled(names=NAMESPACE)), packages=distributions()) == []


# The files themselves


def test_a_file_that_is_not_there() -> None:
    found = one_of_findings(
        "ART011", artifacts=artifacts(m_pkl=None), baseline={"artifacts": artifacts(m_pkl=pickled())}
    )
    assert found.predicted_error == "FileNotFoundError: [Errno 2] No such file or directory: 'm.pkl'"
    assert "The baseline has it" in found.explanation
    assert "NO_SUCHFILE" in str(one_of_findings("ART011", artifacts=artifacts(m_onnx=None)).predicted_error)
    assert findings("ART011", artifacts=artifacts(m_pkl=pickled())) == []


def header(needed: int) -> dict[str, Any]:
    return {"tensors": 1, "types": {"F32": 1}, "needed": needed, "format": "pt"}


NOT_COVERED = "Error while deserializing header: incomplete metadata, file not fully covered"


@pytest.mark.parametrize(
    ("version", "text", "confidence"),
    [
        (
            "0.4.5",
            "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
            "certain",
        ),
        (
            "0.8.0",
            f"safetensors._safetensors_rust.SafetensorError: {NOT_COVERED}",
            "certain",
        ),
        (
            "0.9.0",
            f"safetensors._safetensors_rust.SafetensorError: {NOT_COVERED}",
            "likely",
        ),
    ],
)
def test_a_safetensors_file_that_is_cut(version: str, text: str, confidence: str) -> None:
    model = record("safetensors", safetensors=header(2000), cut="its header announces 2000 bytes, and it has 1000")
    found = one_of_findings("ART012", artifacts=artifacts(m_safetensors=model), packages=of("safetensors", version))
    assert (found.predicted_error, found.confidence) == (text, confidence)


def test_files_that_are_cut_empty_too_long_or_damaged() -> None:
    files = artifacts(
        a_onnx=record("onnx", cut="it ends", onnx=onnx()["onnx"]),
        b_pt=record("zip", cut="an archive without the directory that stands at its end"),
        c_pkl=record("pickle", malformed="no instruction of a pickle"),
        d_safetensors=record("safetensors", safetensors=header(900)),
        e_bin={"format": "empty", "size": 0, "digest": DIGEST},
        f_gguf=record("gguf", cut="it ends"),
    )
    found = {finding.subject.name: finding for finding in findings("ART012", artifacts=files)}
    assert list(found) == sorted(files["files"])
    assert [name for name, finding in found.items() if finding.confidence == "possible"] == ["c.pkl"]
    assert "Protobuf parsing failed." in str(found["a.onnx"].predicted_error)
    assert "failed finding central directory" in str(found["b.pt"].predicted_error)
    assert found["d.safetensors"].title == "d.safetensors has 100 bytes more than its header covers"
    assert found["f.gguf"].predicted_error is None
    empty = artifacts(**{name: {"format": "empty", "size": 0, "digest": DIGEST} for name in ("a_onnx", "b_pkl")})
    said = [str(finding.predicted_error) for finding in findings("ART012", artifacts=empty)]
    assert said == [
        "Load model from a.onnx failed:",
        "EOFError: Ran out of input",
    ]


@pytest.mark.parametrize(
    ("name", "form", "title", "text", "confidence"),
    [
        ("m_onnx", "unknown", "m.onnx is no ONNX model", "Load model from m.onnx failed:Protobuf parsing", "likely"),
        ("m_onnx", "json", "m.onnx is no ONNX model, but json", "Protobuf parsing failed.", "likely"),
        ("m_onnx", "safetensors", "m.onnx is no ONNX model, but safetensors", "Protobuf parsing failed.", "possible"),
        ("m_ONNX", "web-page", "m.ONNX is a web page, not a model", None, "likely"),
        ("m_pt", "unknown", "m.pt is no file of torch.save", None, "likely"),
        ("m_pt", "web-page", "m.pt is a web page, not a model", "Unsupported operand 60", "likely"),
        ("m_pkl", "unknown", "m.pkl is no pickle", None, "likely"),
        ("m_pkl", "web-page", "m.pkl is a web page, not a model", "UnpicklingError: invalid load key, '<'.", "likely"),
        ("m_joblib", "web-page", "m.joblib is a web page, not a model", "KeyError: 60", "likely"),
        ("m_safetensors", "web-page", "m.safetensors is a web page, not a model", "header too large", "certain"),
        ("m_gguf", "unknown", "m.gguf is no GGUF file", None, "likely"),
        ("m_bin", "web-page", "m.bin is a web page, not a model", "Unsupported operand 60", "likely"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(
    name: str, form: str, title: str, text: str | None, confidence: str
) -> None:
    packages = distributions(distribution("safetensors", "0.8.0"), distribution("torch", "2.9.0"))
    found = one_of_findings("ART012", artifacts=artifacts(**{name: record(form)}), packages=packages)
    assert (found.title, found.confidence) == (title, confidence)
    assert text is None or text in str(found.predicted_error)


@pytest.mark.parametrize(
    ("malformed", "text", "confidence"),
    [
        ("a header of 8367736964726416744 bytes", "Error while deserializing header: header too large", "certain"),
        ("its header is no JSON: Expecting value", "Error while deserializing header: invalid JSON in hea", "likely"),
        ("its header is no JSON: 'utf-8' codec can't decode byte 0xff", "None", "likely"),
    ],
)
def test_a_safetensors_file_that_is_none(malformed: str, text: str, confidence: str) -> None:
    files = artifacts(m_safetensors=record("safetensors", malformed=malformed))
    found = one_of_findings("ART012", artifacts=files, packages=of("safetensors", "0.8.0"))
    assert (found.title, found.confidence) == ("m.safetensors is no safetensors file", confidence)
    assert text in str(found.predicted_error)


def test_files_that_are_whole() -> None:
    files = artifacts(
        a_onnx=onnx(),
        b_safetensors=record("safetensors", safetensors=header(1000)),
        c=record("unknown"),
        d_bin=record("unknown"),
        e_pt=pickled("torch"),
        f_pkl=record("compressed", compression="lz4"),
        g_onnx={"format": "unreadable"},
        i_html=record("web-page"),
        h_onnx=record("git-lfs-pointer", git_lfs_pointer={"size": 5, "digest": None}),
    )
    assert findings("ART012", artifacts=files) == []


def pointer(**files: dict[str, Any]) -> dict[str, Any]:
    return artifacts(**{name: record("git-lfs-pointer", git_lfs_pointer={"size": 5, "digest": None}) for name in files})


@pytest.mark.parametrize(
    ("name", "packages", "text", "confidence"),
    [
        (
            "m_safetensors",
            of("safetensors", "0.4.5"),
            "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
            "certain",
        ),
        (
            "m_onnx",
            of("onnxruntime", "1.22.1"),
            "INVALID_PROTOBUF : Load model from m.onnx failed:Protobuf parsing failed.",
            "likely",
        ),
        ("m_pt", of("torch", "2.13.0"), "Unsupported operand 118", "likely"),
        ("m_pt", of("torch", "2.5.0"), "_pickle.UnpicklingError: invalid load key, 'v'.", "likely"),
        ("m_pkl", distributions(), "_pickle.UnpicklingError: invalid load key, 'v'.", "likely"),
        ("m_gguf", distributions(), None, "likely"),
    ],
)
def test_a_pointer_of_git_lfs(name: str, packages: dict[str, Any], text: str | None, confidence: str) -> None:
    found = one_of_findings("ART013", artifacts=pointer(**{name: {}}), packages=packages)
    assert (found.predicted_error, found.confidence) == (text, confidence)
    assert found.impact == "breaks"


def test_a_file_that_is_no_pointer() -> None:
    assert findings("ART013", artifacts=artifacts(m_onnx=onnx())) == []


def test_another_file_than_in_the_baseline() -> None:
    before = artifacts(a_bin=record("unknown"), models__b_bin=record("unknown", digest="sha256:1"))
    after = artifacts(a_bin=record("unknown", digest="sha256:2", size=7), srv__b_bin=record("unknown"))
    first, second = findings("ART014", baseline={"artifacts": before}, artifacts=after)
    assert first.title == "a.bin is not the file of the baseline"
    assert second.explanation.endswith("In the baseline it is models/b.bin.")
    assert {first.impact, second.impact} == {"changes-results"}


def test_that_a_file_is_cut_is_why_it_is_another_one() -> None:
    before = artifacts(m_gguf=record("gguf", digest="sha256:1"))
    after = artifacts(m_gguf=record("gguf", cut="it ends"))
    explanation = explain_pair(
        snapshot("a", python=python(), artifacts=before), snapshot("b", python=python(), artifacts=after)
    )
    cut, other = explanation.findings
    assert (cut.code, other.code) == ("ART012", "ART014")
    assert other.caused_by == cut.identity
    assert {path[2] for path in cut.folds} == {"m.gguf"}


def test_the_same_files_or_such_as_cannot_be_compared() -> None:
    big = {"format": "gguf", "size": 9, "sampled_digest": "sha256:1"}
    before = artifacts(a_bin=record("unknown"), b_bin=big, c_bin=None, d_bin={"format": "unreadable"})
    after = artifacts(a_bin=record("unknown"), b_bin=big | {"digest": DIGEST}, c_bin=record("zip"), d_bin=record("zip"))
    assert findings("ART014", baseline={"artifacts": before}, artifacts=after) == []


def test_a_file_that_only_the_baseline_has() -> None:
    before = artifacts(m__a_json=record("json"), m__tokenizer_json=record("tokenizer", tokenizer={"pairs": None}))
    found = one_of_findings("ART022", baseline={"artifacts": before}, artifacts=artifacts(m__a_json=record("json")))
    assert found.subject.name == "m/tokenizer.json"
    assert findings("ART022", baseline={"artifacts": before}, artifacts=artifacts(other_bin=record("zip"))) == []
    assert findings("ART022", baseline={"artifacts": before}, artifacts=before) == []


# Versions and devices


def plan(version: str | None) -> dict[str, Any]:
    return artifacts(m_engine=record("tensorrt-plan", tensorrt_plan={"version": version}))


def test_an_engine_of_another_tensorrt() -> None:
    near = one_of_findings("ART015", artifacts=plan("8.5.3"), packages=of("tensorrt", "8.5.1.7"))
    assert near.predicted_error is not None
    assert near.predicted_error.endswith("expecting library version")
    far = one_of_findings("ART015", artifacts=plan("8.4.1"), packages=of("tensorrt-cu12", "10.3.0"))
    assert far.predicted_error == "Version tag does not match."
    libraries = {
        "libraries": {
            "nvinfer": {
                "/usr/lib/libnvinfer.so.10": {
                    "soname": "libnvinfer.so.10",
                    "version": "10.3.0",
                    "version_from": "file name",
                    "distribution": None,
                    "via": {"cache": True},
                    "stub": False,
                }
            }
        }
    }
    assert one_of_findings("ART015", artifacts=plan("8.4.1"), packages=distributions(), cuda=libraries).title.endswith(
        "10.3.0 is installed"
    )


@pytest.mark.parametrize(("built", "installed"), [("8.5.3", "8.5.3.1"), (None, "8.5.3.1")])
def test_an_engine_of_the_same_tensorrt(built: str | None, installed: str) -> None:
    assert findings("ART015", artifacts=plan(built), packages=of("tensorrt", installed)) == []
    assert findings("ART015", artifacts=plan(built), packages=distributions()) == []


def test_an_engine_on_another_gpu() -> None:
    engine = plan("8.5.3")
    found = one_of_findings(
        "ART016", baseline={"artifacts": engine, "gpu": gpu("7.5")}, artifacts=engine, gpu=gpu("8.6")
    )
    assert found.confidence == "likely"
    assert "expecting compute 8.6 got compute 7.5" in str(found.predicted_error)
    same = {"artifacts": engine, "gpu": gpu("8.6")}
    assert findings("ART016", baseline=same, artifacts=engine, gpu=gpu("8.6")) == []
    other = {"artifacts": engine, "gpu": gpu("7.5")}
    assert findings("ART016", baseline=other, artifacts=artifacts(m_onnx=onnx()), gpu=gpu("8.6")) == []


def test_a_type_that_safetensors_does_not_know() -> None:
    model = artifacts(
        m_safetensors=record("safetensors", safetensors=header(1000) | {"types": {"F8_E8M0": 1, "F32": 1}})
    )
    old = one_of_findings("ART017", artifacts=model, packages=of("safetensors", "0.5.3"))
    assert str(old.predicted_error).endswith("InvalidHeaderDeserialization")
    assert fixes(old) == ['python -m pip install "safetensors>=0.6.1"']
    assert findings("ART017", artifacts=model, packages=of("safetensors", "0.6.2")) == []
    newer = artifacts(m_safetensors=record("safetensors", safetensors=header(1000) | {"types": {"C64": 1}}))
    found = one_of_findings("ART017", artifacts=newer, packages=of("safetensors", "0.6.2"))
    assert str(found.predicted_error).endswith("unknown variant `C64`")


def test_a_type_that_nobody_knows() -> None:
    model = artifacts(m_safetensors=record("safetensors", safetensors=header(1000) | {"types": {"F2": 1}}))
    assert findings("ART017", artifacts=model, packages=of("safetensors", "0.8.0")) == []


def config(kind: str, known: bool | None, version: str | None = "4.57.0", own_code: bool = False) -> dict[str, Any]:
    facts = {"model_type": kind, "transformers_version": version, "own_code": own_code, "known": known}
    return record("transformers-config", transformers_config=facts)


def test_a_kind_of_model_that_transformers_does_not_know() -> None:
    model = artifacts(m__config_json=config("qwen3", known=False))
    found = one_of_findings("ART018", artifacts=model, packages=of("transformers", "4.40.0"))
    assert found.predicted_error == (
        "ValueError: The checkpoint you are trying to load has model type `qwen3` but Transformers does not recognize "
        "this architecture."
    )
    assert fixes(found) == ['python -m pip install "transformers>=4.57.0"']


def test_a_kind_of_model_that_is_known_or_brings_its_code() -> None:
    files = artifacts(
        a__config_json=config("bert", known=True),
        b__config_json=config("mine", known=False, own_code=True),
        c__other_json=config("SentenceTransformer", known=False),
    )
    assert findings("ART018", artifacts=files, packages=of("transformers", "4.40.0")) == []
    unknown = artifacts(a__config_json=config("qwen3", known=False))
    assert findings("ART018", artifacts=unknown, packages=distributions()) == []


def test_a_tokenizer_of_a_newer_library() -> None:
    model = artifacts(tokenizer_json=record("tokenizer", tokenizer={"pairs": True}))
    found = one_of_findings("ART019", artifacts=model, packages=of("tokenizers", "0.19.1"))
    assert found.predicted_error == "Exception: data did not match any variant of untagged enum ModelWrapper"
    assert findings("ART019", artifacts=model, packages=of("tokenizers", "0.20.0")) == []


def test_a_model_of_a_newer_library() -> None:
    model = artifacts(m_json=record("xgboost-json", xgboost={"version": "3.2.0"}))
    found = one_of_findings("ART020", artifacts=model, packages=of("xgboost", "2.1.4"))
    assert (found.impact, found.confidence) == ("changes-results", "possible")
    assert findings("ART020", artifacts=model, packages=of("xgboost", "3.2.1")) == []
    unknown = artifacts(m__config_json=config("qwen3", known=False))
    assert findings("ART020", artifacts=unknown, packages=of("transformers", "4.40.0")) == []
