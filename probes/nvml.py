"""Asks the driver's own libraries, in a child process with a time limit: they can hang, and they can crash.

``libnvidia-ml.so.1`` (NVML) names the driver and its devices; ``libcuda.so.1`` says whether CUDA would start at all.
Function names, structures and return codes: NVML API reference (nvml.h), CUDA driver API (cuda.h). Part of the probe
``gpu``. Serial numbers and UUIDs are never asked for.
"""

if __name__ == "__main__":
    raise SystemExit("nvml.py is part of the probe gpu.py and measures nothing by itself")

import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple  # noqa: F401

# A first contact without persistence mode initialises each device: up to two seconds for each of eight.
TIME_LIMIT = 20.0
ANSWER_LIMIT = 1 << 20
DEVICE_LIMIT = 64
MIG_LIMIT = 16

# nvmlReturn_t, of those that say something of the environment.
RETURN_CODES = {
    1: "UNINITIALIZED", 2: "INVALID_ARGUMENT", 3: "NOT_SUPPORTED", 4: "NO_PERMISSION", 6: "NOT_FOUND",
    9: "DRIVER_NOT_LOADED", 10: "TIMEOUT", 12: "LIBRARY_NOT_FOUND", 13: "FUNCTION_NOT_FOUND", 15: "GPU_IS_LOST",
    16: "RESET_REQUIRED", 17: "OPERATING_SYSTEM", 18: "LIB_RM_VERSION_MISMATCH", 28: "GPU_NOT_FOUND", 999: "UNKNOWN",
}  # fmt: skip

# nvmlGpuFabricState_t.
FABRIC_STATES = {0: None, 1: "not started", 2: "in progress", 3: "completed"}


class Answer:
    """``status`` "ok", "timed out", "crashed" or "failed"; ``value`` what the child said, where it is ok; ``reason``
    one line for all others.
    """

    __slots__ = ("reason", "status", "value")

    def __init__(self, status: "str", value: "Dict[str, Any]", reason: "Optional[str]" = None) -> "None":
        self.status = status
        self.value = value
        self.reason = reason


def in_child(ask: "Callable[[], Dict[str, Any]]", seconds: "float" = TIME_LIMIT) -> "Answer":
    """Call a function in a child process and return what it returned. The child is killed when its time is over."""
    try:
        reader, writer = os.pipe()
    except OSError as error:
        return Answer("failed", {}, error.strerror)
    try:
        child = _fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        return Answer("failed", {}, "no child process: %s" % error.strerror)
    if child == 0:
        _be_the_child(ask, reader, writer)
    os.close(writer)
    try:
        data, complete = read_until(reader, time.time() + seconds)
    finally:
        os.close(reader)
    status = _reap(child, 2.0 if complete else 0.0)
    if len(data) > ANSWER_LIMIT:
        return Answer("failed", {}, "an answer of more than %d bytes" % ANSWER_LIMIT)
    if not complete and status is None:
        return Answer("timed out", {}, "no answer within %g seconds" % seconds)
    if status is not None and os.WIFSIGNALED(status):
        return Answer("crashed", {}, "ended by signal %d" % os.WTERMSIG(status))
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except ValueError:
        return Answer("failed", {}, "an answer that cannot be understood")
    if not isinstance(value, dict) or "error" in value:
        return Answer("failed", {}, str(value.get("error")) if isinstance(value, dict) else None)
    return Answer("ok", value)


def _fork() -> "int":
    import warnings

    # Python 3.12 warns where other threads run: the child calls nothing that could wait for one of their locks.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def _be_the_child(ask: "Callable[[], Dict[str, Any]]", reader: "int", writer: "int") -> "None":
    code = 1
    try:
        os.close(reader)
        # A crash is an answer here, and nothing to print a trace of.
        if "faulthandler" in sys.modules:
            sys.modules["faulthandler"].disable()
        # What the libraries print belongs to nobody.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(nowhere, handle)
        try:
            answer = ask()
        except Exception as error:
            answer = {"error": ("%s: %s" % (type(error).__name__, error)).replace("\n", " ")[:300]}
        data = json.dumps(answer).encode("ascii")
        while data:
            data = data[os.write(writer, data) :]
        code = 0
    finally:
        # Without the parent's handlers and buffers; libraries' own destructors may hang too.
        os._exit(code)


def read_until(handle: "int", deadline: "float") -> "Tuple[bytes, bool]":
    """``(what came, whether the other side closed its end in time)``; no more than ANSWER_LIMIT bytes."""
    pieces = []  # type: List[bytes]
    total = 0
    while True:
        left = deadline - time.time()
        if left <= 0:
            return b"".join(pieces), False
        ready, _, _ = select.select([handle], [], [], left)
        if not ready:
            return b"".join(pieces), False
        piece = os.read(handle, 1 << 16)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
        total += len(piece)
        if total > ANSWER_LIMIT:
            return b"".join(pieces), False


def _reap(child: "int", patience: "float") -> "Optional[int]":
    """The exit status of a child; None where it had to be killed, or cannot even be (state D, inside the driver)."""
    end = time.time() + patience
    killed = False
    while True:
        try:
            done, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            return None
        if done:
            return None if killed else status
        if time.time() >= end:
            if killed:
                return None
            killed = True
            end = time.time() + 1.0
            try:
                os.kill(child, signal.SIGKILL)
            except OSError:
                return None
        time.sleep(0.002)


def ask_nvml(path: "str") -> "Dict[str, Any]":
    """Everything that NVML says here. To be called in a child.

    ``{"code": return code of nvmlInit, "driver", "cuda": 13000, "devices": {"0": {...}}}``. A function that the
    library lacks, or that fails, leaves its value out.
    """
    import ctypes

    library = ctypes.CDLL(path)
    start = getattr(library, "nvmlInit_v2", None) or getattr(library, "nvmlInit", None)
    if start is None:
        return {"error": "it has no nvmlInit"}
    code = int(start())
    answer = {"code": code, "devices": {}}  # type: Dict[str, Any]
    text = ctypes.create_string_buffer(96)
    # The version needs no initialised library in some releases; a mismatch is what one wants to know it for.
    if _call(library, ("nvmlSystemGetDriverVersion",), text, ctypes.c_uint(80)):
        answer["driver"] = _text(text.value)
    if code:
        return answer
    number = ctypes.c_int()
    if _call(library, ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"), ctypes.byref(number)):
        answer["cuda"] = number.value
    count = ctypes.c_uint()
    if _call(library, ("nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"), ctypes.byref(count)):
        answer["count"] = count.value
        for index in range(min(count.value, DEVICE_LIMIT)):
            device = ctypes.c_void_p()
            names = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex")
            if _call(library, names, ctypes.c_uint(index), ctypes.byref(device)):
                answer["devices"][str(index)] = _device(library, device)
    _call(library, ("nvmlShutdown",))
    return answer


def _call(library: "Any", names: "Tuple[str, ...]", *arguments: "Any") -> "bool":
    """Whether the first of the functions that there is returned NVML_SUCCESS."""
    for name in names:
        function = getattr(library, name, None)
        if function is not None:
            return int(function(*arguments)) == 0
    return False


def _text(data: "bytes") -> "str":
    return data.decode("utf-8", "replace")


def _device(library: "Any", device: "Any") -> "Dict[str, Any]":
    import ctypes

    found = {}  # type: Dict[str, Any]
    text = ctypes.create_string_buffer(128)
    if _call(library, ("nvmlDeviceGetName",), device, text, ctypes.c_uint(96)):
        found["name"] = _text(text.value)
    major, minor = ctypes.c_int(), ctypes.c_int()
    if _call(library, ("nvmlDeviceGetCudaComputeCapability",), device, ctypes.byref(major), ctypes.byref(minor)):
        found["compute_capability"] = "%d.%d" % (major.value, minor.value)
    memory = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
    if _call(library, ("nvmlDeviceGetMemoryInfo",), device, memory):
        found["memory_bytes"] = int(memory[0])
    current, pending = ctypes.c_uint(), ctypes.c_uint()
    if _call(library, ("nvmlDeviceGetMigMode",), device, ctypes.byref(current), ctypes.byref(pending)):
        found["mig"] = bool(current.value)
        if current.value:
            found["mig_devices"] = _mig_devices(library, device)
    # nvmlGpuFabricInfo_t: a UUID of 16 bytes, status, clique and state; the UUID is left where it is.
    fabric = (ctypes.c_ubyte * 64)()
    if _call(library, ("nvmlDeviceGetGpuFabricInfo",), device, fabric):
        state = FABRIC_STATES.get(int(fabric[24]))
        if state is not None:
            found["fabric"] = state
    return found


def _mig_devices(library: "Any", device: "Any") -> "Dict[str, Any]":
    import ctypes

    found = {}  # type: Dict[str, Any]
    count = ctypes.c_uint()
    if not _call(library, ("nvmlDeviceGetMaxMigDeviceCount",), device, ctypes.byref(count)):
        return found
    for index in range(min(count.value, MIG_LIMIT)):
        part = ctypes.c_void_p()
        if _call(library, ("nvmlDeviceGetMigDeviceHandleByIndex",), device, ctypes.c_uint(index), ctypes.byref(part)):
            text = ctypes.create_string_buffer(128)
            memory = (ctypes.c_ulonglong * 3)()
            named = _call(library, ("nvmlDeviceGetName",), part, text, ctypes.c_uint(96))
            sized = _call(library, ("nvmlDeviceGetMemoryInfo",), part, memory)
            found[str(index)] = {
                "name": _text(text.value) if named else None,
                "memory_bytes": int(memory[0]) if sized else None,
            }
    return found


def ask_cuda(path: "str") -> "Dict[str, Any]":
    """``{"init": return code of cuInit(0), "cuda": 13000}`` of a driver library. To be called in a child."""
    import ctypes

    library = ctypes.CDLL(path)
    answer = {}  # type: Dict[str, Any]
    number = ctypes.c_int()
    version, start = getattr(library, "cuDriverGetVersion", None), getattr(library, "cuInit", None)
    if version is not None and int(version(ctypes.byref(number))) == 0:
        answer["cuda"] = number.value
    if start is not None:
        answer["init"] = int(start(ctypes.c_uint(0)))
    return answer if answer else {"error": "it has no cuInit"}
