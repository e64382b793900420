"""Family BOX: the account that a container runs as, and where it may write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from driftcheck.findings import Confidence, Finding, Fix, Impact, Subject
from driftcheck.rules import wheels
from driftcheck.rules.base import Contradiction, at, lookup
from driftcheck.rules.container_facts import python_of, release_of, set_by_image, value_of
from driftcheck.rules.distributions import DISTRIBUTIONS, distributions_of
from driftcheck.snapshot import Snapshot


class BOX003(Contradiction):
    """The process runs under a number that has no name, and something here asks for the user's name.

    Compares: the effective uid with the account database, the variables that the image sets with LOGNAME,
    USER, LNAME and USERNAME, and the version of torch with the first one that copes (2.13).

    Why: `docker run --user 12345` and OpenShift start a container under a number that /etc/passwd does not
    list. getpass.getuser() then has no answer. torch's compiler asks for it to name the folder of its cache.

    See: `KeyError: 'getpwuid(): uid not found: 12345'`; since Python 3.13 `OSError: No username set in the
    environment`.

    Decided: torch 2.0 to 2.12 is installed: breaks, likely, where an image states its variables and sets
    none of the four and no TORCHINDUCTOR_CACHE_DIR; possible where no image states them. Otherwise a note.

    Fix: set USER, or add the uid to /etc/passwd.

    Limits: what an entry-point script exports is not seen. Only torch's use of the name is known.
    """

    code = "BOX003"
    name = "user-without-a-name"
    reads = ("limits",)
    references = (
        "https://docs.python.org/3/library/getpass.html#getpass.getuser",
        "https://github.com/pytorch/pytorch/issues/140765",
        "https://github.com/pytorch/pytorch/pull/184208",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        uid = lookup(target, ("limits", "user", "uid"))
        if uid is None or lookup(target, ("limits", "user", "passwd_entry")) is not False:
            return
        named = set_by_image(target, ("LOGNAME", "USER", "LNAME", "USERNAME"))
        if named:
            return
        release = release_of(target, "torch")
        asks = release is not None and (2, 0) <= release[:2] < (2, 13)
        asks = asks and lookup(target, ("variables", "variables", "TORCHINDUCTOR_CACHE_DIR")) is None
        evidence = [at(target, "target", "limits", "user")]
        if asks:
            evidence.append(at(target, "target", *DISTRIBUTIONS, "torch", "version"))
        error = f"KeyError: 'getpwuid(): uid not found: {uid}'"
        if python_of(target) >= (3, 13):
            error = "OSError: No username set in the environment"
        impact, confidence = Impact.NOTE, Confidence.CERTAIN
        if asks:
            impact, confidence = Impact.BREAKS, Confidence.POSSIBLE if named is None else Confidence.LIKELY
        yield self.finding(
            impact,
            confidence,
            f"uid {uid} has no name" + (", and torch's compiler asks for it" if asks else ""),
            Subject("user", "uid"),
            "No account has this number, so getpass.getuser() fails where no variable names the user."
            + (" This torch asks for it when it compiles." if asks else ""),
            predicted_error=error if asks else None,
            evidence=evidence,
            fix=[
                Fix("docker-run", "-e USER=app"),
                Fix("dockerfile", f"RUN useradd --uid {uid} --create-home app"),
            ],
        )


class BOX004(Contradiction):
    """Nothing can be written to the home directory, where caches are put.

    Compares: whether modes, uid and mount let HOME be written, and which distributions here keep a cache
    below it, with the variables that move these caches.

    Why: model hubs store what they download below ~/.cache. Under another uid than that of the image, with
    HOME=/ (what engines set for a uid without a name) or on a read-only root, the first write fails.

    See: `PermissionError: [Errno 13] Permission denied: '/.cache'`, or on a read-only root `OSError: [Errno
    30] Read-only file system: '/root/.cache'`.

    Decided: a distribution with such a cache is installed and the variable that moves it is not set:
    breaks, possible, since models may lie in the image and nothing be downloaded. Otherwise a note.

    Fix: point the cache at a volume that can be written.

    Limits: access control lists are not read. What code sets, and XDG_CACHE_HOME, are not seen. torch's
    compiler caches are below /tmp.
    """

    code = "BOX004"
    name = "home-not-writable"
    reads = ("limits",)
    references = (
        "https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables",
        "https://pytorch.org/docs/stable/hub.html#where-are-my-downloaded-models-saved",
    )

    def check(self, target: Snapshot, baseline: Snapshot | None) -> Iterator[Finding]:
        del baseline
        home = lookup(target, ("limits", "home")) or {}
        if home.get("writable") is not False:
            return
        installed = distributions_of(target)
        moved = lookup(target, ("variables", "variables")) or {}
        caches = {
            name: variables[0]
            for name, variables in _CACHES.items()
            if name in installed and not any(variable in moved for variable in variables)
        }
        if caches and set_by_image(target, ("XDG_CACHE_HOME",)):
            return
        names = list(caches)
        evidence = [at(target, "target", "limits", "home")]
        evidence += [at(target, "target", *DISTRIBUTIONS, name, "version") for name in names]
        yield self.finding(
            Impact.BREAKS if names else Impact.NOTE,
            Confidence.POSSIBLE if names else Confidence.CERTAIN,
            "The home directory cannot be written"
            + (f", and {wheels.listed(names)} keeps a cache there" * bool(names)),
            Subject("folder", "home"),
            "Modes, uid and mount do not let files be made below HOME."
            + (" What is not in the cache yet cannot be stored there." if names else ""),
            predicted_error=_write_error(target, home) if names else None,
            evidence=evidence,
            fix=[Fix("docker-run", f"-e {variable}=/tmp/cache") for variable in dict.fromkeys(caches.values())],
        )


# Distributions with a cache below HOME, and the variables that move it, the first one to be set.
_CACHES = {
    "huggingface-hub": ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
    "torchvision": ("TORCH_HOME",),
    "timm": ("TORCH_HOME", "HF_HOME"),
    "nltk": ("NLTK_DATA",),
    "openai-whisper": ("XDG_CACHE_HOME",),
    "easyocr": ("EASYOCR_MODULE_PATH",),
}


def _write_error(target: Snapshot, home: Mapping[str, Any]) -> str | None:
    """What the first write says; the folder that it names is the first one that has to be made."""
    folder = value_of(target, "HOME")
    if folder is None:
        return None
    path = folder.rstrip("/") + "/.cache" if home.get("exists") else folder
    if lookup(target, ("limits", "read_only_root")):
        return f"OSError: [Errno 30] Read-only file system: '{path}'"
    return f"PermissionError: [Errno 13] Permission denied: '{path}'"
