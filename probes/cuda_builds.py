"""What frameworks say of their own build: for which CUDA, cuDNN, ROCm or PyTorch, read from their files.

Nothing is imported: a framework that is broken still says what it was built for. Each reader is a pure function over
the text of a file, quoted from a real wheel. Part of the probe ``cuda``.
"""

if __name__ == "__main__":
    raise SystemExit("cuda_builds.py is part of the probe cuda.py and measures nothing by itself")

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .common import Place

FILE_LIMIT = 1 << 20

_ASSIGNMENT = re.compile(
    r"^(\w+)(?:\s*:[^=\n]+)?\s*=\s*(?:\w+\s*=\s*)?(?:(['\"])(.*?)\2|(None|True|False))", re.MULTILINE
)
_LOCAL_CUDA = re.compile(r"\+(?:[\w.]*\.)?cu(?:da)?(\d{2,3})(?![\d])")
_LOCAL_ROCM = re.compile(r"\+(?:[\w.]*\.)?rocm(\d+(?:\.\d+)*)")


def builds(place: "Place") -> "Dict[str, Any]":
    """The record of every framework that is there; see ``builds`` in ``schemas/sections/cuda.json``."""
    found = {}  # type: Dict[str, Any]
    for name, files, reader in _READERS:
        texts = _first(place, files)
        if texts is None:
            continue
        record = dict(_EMPTY)
        try:
            record.update(reader(texts))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, SyntaxError) as error:
            place.problem(files[0], "build facts that cannot be understood: %s" % type(error).__name__)
        found[name] = record
    found.update(plugins(place))
    return found


_EMPTY = {"version": None, "accelerator": None, "cuda": None, "cudnn": None, "rocm": None, "torch": None}


def _first(place: "Place", files: "Tuple[str, ...]") -> "Optional[List[str]]":
    """The texts of the files, from the first entry of the search path that has the first of them."""
    for entry in place.search_path:
        base = entry.rstrip("/") + "/"
        if entry.startswith("/") and place.exists(base + files[0]):
            return [place.read_text(base + name, FILE_LIMIT) or "" for name in files]
    return None


def assignments(text: "str") -> "Dict[str, Optional[str]]":
    """The strings that a module assigns at its top level: ``cuda: Optional[str] = None`` -> ``{"cuda": None}``."""
    found = {}  # type: Dict[str, Optional[str]]
    for name, quote, value, constant in _ASSIGNMENT.findall(text):
        found[name] = value if quote else None if constant == "None" else constant
    return found


def local_label(version: "Optional[str]") -> "Dict[str, Optional[str]]":
    """What the local part of a version says: ``0.28.0+cu130`` -> CUDA 13.0; ``2.13.0+cpu``; ``2.8.0+rocm6.4``."""
    text = version or ""
    cuda, rocm = _LOCAL_CUDA.search(text), _LOCAL_ROCM.search(text)
    if cuda:
        return {"accelerator": "cuda", "cuda": dotted(cuda.group(1))}
    if rocm:
        return {"accelerator": "rocm", "rocm": rocm.group(1)}
    return {"accelerator": "cpu"} if re.search(r"\+cpu\b", text) else {}


def dotted(digits: "str") -> "str":
    """``130`` -> ``13.0``, ``92`` -> ``9.2``: the last digit is the minor version. ``12`` is a major version alone."""
    if len(digits) == 2 and digits[0] == "1":
        return digits
    return digits[:-1] + "." + digits[-1]


def torch(texts: "List[str]") -> "Dict[str, Any]":
    """``torch/version.py``: ``__version__ = '2.13.0+cpu'``, ``cuda: Optional[str] = '13.0'``, ``hip: ... = None``."""
    stated = assignments(texts[0])
    record = local_label(stated.get("__version__"))  # type: Dict[str, Any]
    record.update(version=stated.get("__version__"))
    if "cuda" in stated or "hip" in stated:
        cuda, hip = stated.get("cuda"), stated.get("hip")
        xpu = stated.get("xpu")
        record.update(cuda=cuda, rocm=hip, accelerator="cuda" if cuda else "rocm" if hip else "xpu" if xpu else "cpu")
    return record


def jaxlib(texts: "List[str]") -> "Dict[str, Any]":
    """``jaxlib/version.py``: ``_release_version: str = '0.10.2'``; older ones only ``__version__ = "0.4.7"``.

    jaxlib itself runs on CPUs; the plugins of its section bring CUDA.
    """
    stated = assignments(texts[0])
    version = stated.get("_release_version") or stated.get("_version") or stated.get("__version__")
    record = {"version": version}  # type: Dict[str, Any]
    record.update(local_label(version))
    return record


def tensorflow(texts: "List[str]") -> "Dict[str, Any]":
    """``tensorflow/python/platform/build_info.py``: ``build_info = collections.OrderedDict([('cuda_version', '12.5.1'),
    ('cudnn_version', '9'), ('cuda_compute_capabilities', ['sm_60', 'compute_90']), ('is_cuda_build', True)])``.
    """
    import ast

    match = re.search(r"build_info\s*=\s*(?:collections\.)?OrderedDict\((\[.*\])\)", texts[0], re.DOTALL)
    stated = dict(ast.literal_eval(match.group(1))) if match else {}
    cuda, rocm = stated.get("is_cuda_build"), stated.get("is_rocm_build")
    record = {
        "accelerator": None if not stated else "cuda" if cuda else "rocm" if rocm else "cpu",
        "cuda": _text(stated.get("cuda_version")),
        "cudnn": _text(stated.get("cudnn_version")),
        "rocm": _text(stated.get("rocm_version")),
    }  # type: Dict[str, Any]
    targets = stated.get("cuda_compute_capabilities")
    if isinstance(targets, list):
        record["architectures"] = {_text(one) or "": True for one in targets if _text(one)}
    return record


def onnxruntime(texts: "List[str]") -> "Dict[str, Any]":
    """``onnxruntime/capi/build_and_package_info.py``: ``package_name = 'onnxruntime-gpu'``, ``__version__ = '1.31.1'``,
    ``cuda_version = '13.0'``.
    """
    stated = assignments(texts[0])
    cuda = stated.get("cuda_version") or None
    rocm = stated.get("rocm_version") or None
    return {
        "version": stated.get("__version__"),
        "package": stated.get("package_name"),
        "cuda": cuda,
        "cudnn": stated.get("cudnn_version") or None,
        "rocm": rocm,
        "accelerator": "cuda" if cuda else "rocm" if rocm else "cpu",
    }


def cupy(texts: "List[str]") -> "Dict[str, Any]":
    """``cupy/_version.py``: ``__version__ = '14.2.0'``; ``cupy/.data/_wheel.json``: ``{"cuda": "12.x", "packaging":
    "pip", "nccl": {"version": "2.25.1", ...}, "cutensor": {"version": "2.4.1", ...}}``.
    """
    import json

    stated = json.loads(texts[1]) if texts[1] else {}
    cuda = _text(stated.get("cuda"))
    rocm = cuda[len("rocm-") :] if cuda and cuda.startswith("rocm-") else None
    record = {
        "version": assignments(texts[0]).get("__version__"),
        "cuda": None if rocm else cuda,
        "rocm": rocm,
        "accelerator": "rocm" if rocm else "cuda" if cuda else None,
    }  # type: Dict[str, Any]
    wanted = {}
    for name in ("cudnn", "nccl", "cutensor"):
        version = stated.get(name, {}).get("version") if isinstance(stated.get(name), dict) else None
        if isinstance(version, str):
            wanted[name] = version
    record["cudnn"] = wanted.pop("cudnn", None)
    record["preloads"] = wanted
    return record


def versioned(texts: "List[str]") -> "Dict[str, Any]":
    """``triton/__init__.py``: ``__version__ = '3.9.0'``; ``vllm/_version.py``: ``__version__ = version = '0.33.0'``;
    ``torchvision/version.py``: ``__version__ = '0.28.0+cu130'``. The local part says what it was built for.
    """
    stated = assignments(texts[0])
    version = stated.get("__version__") or stated.get("version")
    record = {"version": version}  # type: Dict[str, Any]
    record.update(local_label(version))
    return record


def flash_attn(texts: "List[str]") -> "Dict[str, Any]":
    """``flash_attn/__init__.py``: ``__version__ = "2.8.3"``. What it was built for is in the names of its wheels
    (``2.8.3+cu12torch2.8cxx11abiTRUE``), which the section packages has.
    """
    return versioned(texts)


def xformers(texts: "List[str]") -> "Dict[str, Any]":
    """``xformers/version.py``: ``__version__ = "0.0.35"``; ``xformers/cpp_lib.json``: ``{"version": {"cuda": 1208,
    "hip": null, "torch": "2.10.0+cu128"}, "env": {"TORCH_CUDA_ARCH_LIST": "7.5 8.0+PTX 9.0a"}}``.
    """
    import json

    stated = json.loads(texts[1]).get("version", {}) if texts[1] else {}
    number, hip = stated.get("cuda"), stated.get("hip")
    cuda = "%d.%d" % (number // 100, number % 100) if isinstance(number, int) and number >= 100 else None
    return {
        "version": assignments(texts[0]).get("__version__"),
        "cuda": cuda,
        "rocm": _text(hip),
        "torch": _text(stated.get("torch")),
        "accelerator": None if not stated else "cuda" if cuda else "rocm" if hip else "cpu",
    }


def _text(value: "Any") -> "Optional[str]":
    return value if isinstance(value, str) and value else None


_READERS = (
    ("torch", ("torch/version.py",), torch),
    ("torchvision", ("torchvision/version.py",), versioned),
    ("torchaudio", ("torchaudio/version.py",), versioned),
    ("jax", ("jax/version.py",), jaxlib),
    ("jaxlib", ("jaxlib/version.py",), jaxlib),
    ("tensorflow", ("tensorflow/python/platform/build_info.py",), tensorflow),
    ("onnxruntime", ("onnxruntime/capi/build_and_package_info.py",), onnxruntime),
    ("cupy", ("cupy/_version.py", "cupy/.data/_wheel.json"), cupy),
    ("triton", ("triton/__init__.py",), versioned),
    ("vllm", ("vllm/_version.py",), versioned),
    ("flash_attn", ("flash_attn/__init__.py",), flash_attn),
    ("bitsandbytes", ("bitsandbytes/__init__.py",), versioned),
    ("xformers", ("xformers/version.py", "xformers/cpp_lib.json"), xformers),
)  # type: Tuple[Tuple[str, Tuple[str, ...], Callable[[List[str]], Dict[str, Any]]], ...]


def plugins(place: "Place") -> "Dict[str, Any]":
    """JAX's plugins are named after the major version of CUDA that they were built for: ``jax_cuda12_plugin`` and
    ``jax_plugins/xla_cuda12``. bitsandbytes brings one library for each CUDA: ``libbitsandbytes_cuda130.so``.
    """
    found = {}  # type: Dict[str, Any]
    for entry in place.search_path:
        if not entry.startswith("/"):
            continue
        base = entry.rstrip("/")
        for folder, pattern in (("", r"^jax_(cuda|rocm)(\d+)_plugin$"), ("/jax_plugins", r"^xla_(cuda|rocm)(\d+)$")):
            if folder and not place.is_dir(base + folder):
                continue
            for name in place.list_dir(base + folder):
                match = re.match(pattern, name)
                if not match or name in found or not place.exists(base + folder + "/" + name + "/version.py"):
                    continue
                kind, major = match.groups()
                text = place.read_text(base + folder + "/" + name + "/version.py", FILE_LIMIT) or ""
                record = dict(_EMPTY)  # type: Dict[str, Any]
                record.update(version=jaxlib([text])["version"], accelerator=kind)
                record["cuda" if kind == "cuda" else "rocm"] = major
                found[name] = record
    return found


def variants(names: "List[str]") -> "Dict[str, bool]":
    """For which versions of CUDA bitsandbytes brings a library, from the names of its files."""
    found = {}
    for name in names:
        match = re.match(r"^libbitsandbytes_cuda(\d{3})(?:_nocublaslt)?\.so$", name)
        if match:
            found[dotted(match.group(1))] = True
    return found
