"""What a filter of system calls (seccomp) answers to a call that the C library makes.

Engines before Docker 20.10.10 answer clone3(2) with EPERM, which glibc 2.34 and newer takes for the kernel's last
word when it starts a thread; ENOSYS makes it use clone(2). Sources: clone(2), seccomp(2), moby issue 42680.
"""

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

# The same number on every architecture that got it by the common table (Linux 5.3).
_CLONE3 = 435

_ANSWERS = {errno.EINVAL: "allowed", errno.EPERM: "EPERM", errno.ENOSYS: "ENOSYS"}


def clone3() -> "Optional[str]":
    """``allowed``, ``EPERM`` or ``ENOSYS``: the answer to a clone3 without arguments, which starts nothing.

    None where the C library does not use it (so that nothing is called that a thread would not call too).
    """
    if not sys.platform.startswith("linux") or not _glibc_calls_it():
        return None
    try:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        library.syscall.restype = ctypes.c_long
        if library.syscall(ctypes.c_long(_CLONE3), None, ctypes.c_size_t(0)) != -1:
            return None
        return _ANSWERS.get(ctypes.get_errno())
    except (ImportError, OSError, AttributeError):
        return None


def _glibc_calls_it() -> "bool":
    """Whether the C library of this process is glibc 2.34 or newer: ``glibc 2.36``."""
    try:
        family, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return family == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= (2, 34)
    except (AttributeError, ValueError, OSError):
        return False
