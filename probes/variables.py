"""Section ``variables``: the environment variables that matter to inference, by value; all others by name.

The list is an allow-list: a value is recorded only where the name is known to matter (or the caller asked for
it with the option ``variables``), and never where the name sounds like a secret. With ``DRIFTCHECK_KEY``
set, a hidden value carries a keyed digest, so that a difference still shows.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import os
import re

from . import common
from .redaction import keyed_digest, sounds_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    from .common import Place

LAYER = "run"

# Exact names and prefixes whose values change what is loaded, where it runs, or what it computes.
NAMES = frozenset(
    """
    PATH PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUSERBASE PYTHONOPTIMIZE PYTHONUTF8
    PYTHONIOENCODING PYTHONHASHSEED PYTHONMALLOC PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX PYTHONWARNINGS
    PYTHON_GIL PYTHON_JIT PYTHONCOERCECLOCALE PYTHONUNBUFFERED PYTHONFAULTHANDLER PYTHONPLATLIBDIR
    PYTHONBREAKPOINT PYTHONDEVMODE PYTHONINTMAXSTRDIGITS PYTHONLEGACYWINDOWSSTDIO PYTHONTZPATH
    VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV
    LD_LIBRARY_PATH LD_PRELOAD LD_AUDIT LD_BIND_NOW GLIBC_TUNABLES MALLOC_ARENA_MAX MALLOC_CONF
    MALLOC_TRIM_THRESHOLD_ MALLOC_MMAP_THRESHOLD_ JEMALLOC_CONF TCMALLOC_RELEASE_RATE
    TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD
    DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH DYLD_INSERT_LIBRARIES DYLD_FRAMEWORK_PATH
    LANG LANGUAGE LC_ALL LC_CTYPE LC_NUMERIC LC_COLLATE LC_TIME LC_MESSAGES LC_MONETARY TZ TZDIR HOME TMPDIR
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS OPENSSL_CONF
    OPENSSL_MODULES SOURCE_DATE_EPOCH CC CXX CUDA_HOME CUDA_PATH CUDA_ROOT CUDNN_PATH CUDAHOSTCXX
    TRITON_PTXAS_PATH
    HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION GPU_DEVICE_ORDINAL ROCM_PATH ROCM_HOME
    ZE_AFFINITY_MASK ONEAPI_DEVICE_SELECTOR SYCL_DEVICE_FILTER
    NPY_DISABLE_CPU_FEATURES NPY_ENABLE_CPU_FEATURES NPY_PROMOTION_STATE KMP_DUPLICATE_LIB_OK
    BLIS_NUM_THREADS VECLIB_MAXIMUM_THREADS NUMEXPR_NUM_THREADS NUMEXPR_MAX_THREADS RAYON_NUM_THREADS
    LOKY_MAX_CPU_COUNT JOBLIB_MULTIPROCESSING JOBLIB_TEMP_FOLDER MKLROOT
    TOKENIZERS_PARALLELISM USE_TORCH USE_TF USE_FLAX USE_JAX PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION
    XLA_FLAGS LIBTPU_INIT_ARGS XLA_PYTHON_CLIENT_PREALLOCATE XLA_PYTHON_CLIENT_MEM_FRACTION
    XLA_PYTHON_CLIENT_ALLOCATOR
    SETUPTOOLS_USE_DISTUTILS IMAGEIO_FFMPEG_EXE FFMPEG_BINARY TESSDATA_PREFIX MPLBACKEND QT_QPA_PLATFORM
    PROMETHEUS_MULTIPROC_DIR WEB_CONCURRENCY GUNICORN_CMD_ARGS UVICORN_WORKERS RAY_DISABLE_MEMORY_MONITOR
    TF_CPP_MIN_LOG_LEVEL DEBIAN_FRONTEND
    """.split()  # noqa: SIM905 (a table)
)
PREFIXES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "DNNL_", "ONEDNN_", "NUMEXPR_", "NUMBA_",
    "CUDA_", "CUDNN_", "CUBLAS_", "CUBLASLT_", "CUSOLVER_", "CUFFT_", "NCCL_", "NVIDIA_", "CUPY_", "TRITON_",
    "TORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "PYTORCH_", "ATEN_", "LIBTORCH_",
    "TF_", "TENSORFLOW_", "JAX_", "XLA_", "ORT_", "ONNXRUNTIME_", "TENSORRT_", "TRT_",
    "HF_", "TRANSFORMERS_", "HUGGINGFACE_", "DIFFUSERS_", "ACCELERATE_", "SAFETENSORS_", "DATASETS_",
    "VLLM_", "SGLANG_", "FLASHINFER_", "FLASH_ATTENTION_", "XFORMERS_", "BITSANDBYTES_", "BNB_",
    "MIOPEN_", "HSA_", "HIP_", "ROCBLAS_", "AMD_", "OPENCV_", "OMPI_", "UCX_", "GLOO_", "TVM_", "OPENVINO_",
    "MXNET_", "PADDLE_", "FLAGS_", "SKLEARN_", "SCIPY_", "NPY_", "LLAMA_", "GGML_", "RAY_",
)  # fmt: skip

# Variables that name files which have to be there, and what stands between two of them.
FILES = {
    "SSL_CERT_FILE": "",
    "SSL_CERT_DIR": ":",
    "REQUESTS_CA_BUNDLE": "",
    "CURL_CA_BUNDLE": "",
    "LD_PRELOAD": r"[ :]+",
}
_LONGEST = 4096

# Values that are an address, an account or a place on a network: of no use to a comparison, and private.
# NCCL_COMM_ID is host:port, TF_CONFIG lists the hosts of a cluster.
_NEVER = re.compile(
    r"(?:^|_)(?:HOSTS?|HOSTNAME|ADDR|ADDRESS|URLS?|URIS?|IPS?|ENDPOINT|PROXY|EMAIL|USER|USERNAME|SERVERS?|MASTER"
    r"|NODELIST|DOMAIN|COMM_ID)(?:_|$)|^TF_CONFIG$",
    re.IGNORECASE,
)

# What a shell, a terminal or a login puts there: it changes from one window to the next and means nothing.
_SESSION = re.compile(
    r"^(?:_|SHLVL|PWD|OLDPWD|PS\d|PROMPT\w*|TERM\w*|COLORTERM|COLUMNS|LINES|LS_COLORS|LSCOLORS|HIST\w*|LESS\w*"
    r"|PAGER|EDITOR|VISUAL|DISPLAY|WAYLAND_DISPLAY|WINDOWID|XAUTHORITY|XDG_\w+|DBUS_\w+|SSH_\w+|GPG_\w+"
    r"|TMUX\w*|STY|ITERM\w*|VTE_VERSION|KONSOLE_\w+|GNOME_\w+|GTK\w*|QT_(?:ACCESSIBILITY|IM_MODULE)|DESKTOP_SESSION"
    r"|SESSION_MANAGER|MAIL|LOGNAME|USER|USERNAME|HOSTNAME|HOST|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_\w+"
    r"|FORCE_COLOR|NO_COLOR|CLICOLOR\w*|_\w*|PYTEST_\w+|DRIFTCHECK_\w+|__CF\w+|Apple_\w+)$"
)


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: ``{"variables": {NAME: {"value": str, "missing": {PATH: True}} | {"digest": str} | {}}}``.

    ``missing`` names the files that the value asks for and that are not there; it is left out where all are.

    Raises:
        Unavailable: for files that come without the configuration of an image.
    """
    if not place.live and place.options.get("image_config") is None:
        raise common.Unavailable("nothing states with which variables these files are started")
    wanted = frozenset(place.options.get("variables") or ())
    key = place.environ.get("DRIFTCHECK_KEY", "")
    variables = {}  # type: Dict[str, Dict[str, Any]]
    for name, value in place.environ.items():
        if _SESSION.match(name) and name not in wanted:
            continue
        if matters(name, wanted):
            variables[name] = {"value": value}
            missing = _missing(place, name, value)
            if missing:
                variables[name]["missing"] = missing
        elif key:
            variables[name] = {"digest": keyed_digest(key, name, value)}
        else:
            variables[name] = {}
    return {"variables": variables}


def _missing(place: "Place", name: "str", value: "str") -> "Dict[str, bool]":
    """The absolute paths in the value that lead nowhere. A relative one means another file in each directory."""
    if name not in FILES or len(value) > _LONGEST:
        return {}
    paths = re.split(FILES[name], value) if FILES[name] else [value]
    return {path: True for path in paths if path.startswith("/") and not _is_there(place, path)}


def _is_there(place: "Place", path: "str") -> "bool":
    try:
        return os.path.exists(place.real(path))
    except ValueError:  # a null byte
        return False


def matters(name: "str", wanted: "frozenset[str]" = frozenset()) -> "bool":
    """Whether the value of this variable may be recorded."""
    if sounds_secret(name) or _NEVER.search(name):
        return name in _HARMLESS
    return name in NAMES or name in wanted or name.startswith(PREFIXES)


# Names that sound like a secret or an address and are neither.
_HARMLESS = frozenset(["KMP_DUPLICATE_LIB_OK", "SSL_CERT_FILE", "SSL_CERT_DIR"])
