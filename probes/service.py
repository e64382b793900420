"""Section ``service``: what would be started here, as the image states it, and what that comes down to.

The image configuration comes from whoever measures (``place.options["image_config"]``: Docker's ``Config`` of an
image or a container, in small letters); how it is followed stands in ``start_command.py``. Source: the OCI image
specification, config.md.
"""

if __name__ == "__main__":
    __import__("common").run_alone(__file__)  # prints the section and exits

import sys

from . import common, start_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional

    from .common import Place

LAYER = "image"

# An image configuration is hostile input: no more words and characters than anyone writes.
WORDS_LIMIT = 500
TEXT_LIMIT = 8000


def measure(place: "Place") -> "Dict[str, Any]":
    """Facts: see ``schemas/sections/service.json``.

    Raises:
        Absent: where no image states a start command (a host, a virtual environment).
    """
    config = place.options.get("image_config")
    if not isinstance(config, dict):
        raise common.Absent("nothing states what would be started")
    entrypoint, command = _words(config.get("entrypoint")), _words(config.get("cmd"))
    directory = _text(config.get("working_dir")) or "/"
    return {
        "entrypoint": entrypoint,
        "command": command,
        "working_directory": directory,
        "user": _text(config.get("user")),
        "environment": {str(name)[:200]: True for name in _table(config.get("env"))},
        "ports": {str(port)[:100]: True for port in _table(config.get("ports"))},
        "health_check": health_check(config.get("healthcheck")),
        "stop_signal": _text(config.get("stop_signal")),
        "start": _start(place, config, (entrypoint or []) + (command or []), directory),
        "packages_interpreter": sys.executable if place.live else place.options.get("executable"),
    }


def _start(
    place: "Place", config: "Mapping[str, Any]", entry: "List[str]", directory: "str"
) -> "Optional[Dict[str, Any]]":
    if not entry:
        return None
    environ = {"HOME": place.environ["HOME"]} if "HOME" in place.environ else {}
    given = config.get("env")
    if isinstance(given, dict):
        # Not the variables of a process that runs by now: its start command was found with these.
        environ.update({str(name): str(value) for name, value in given.items()})
    else:
        environ.update(place.environ)
    found = start_command.resolve(place, entry, directory, environ)
    return {
        "interpreter": found.interpreter,
        "script": found.script,
        "module": found.module,
        "reason": found.reason,
        "chain": found.chain,
        "problem": found.problem,
        "exact": found.exact,
    }


def health_check(value: "Any") -> "Optional[Dict[str, Any]]":
    """``{test, interval, timeout, start_period, retries}`` of a HEALTHCHECK; None where there is none.

    The engine counts in nanoseconds, and zero stands for its default; here it is seconds, and None.
    """
    if not isinstance(value, dict):
        return None
    small = {str(name).lower().replace("_", ""): entry for name, entry in value.items()}
    test = _words(small.get("test"))
    if not test or test[0] == "NONE":
        return None
    facts = {"test": test}  # type: Dict[str, Any]
    for name in ("interval", "timeout", "start_period"):
        number = small.get(name.replace("_", ""))
        facts[name] = number / 1e9 if isinstance(number, int) and number > 0 else None
    retries = small.get("retries")
    facts["retries"] = retries if isinstance(retries, int) and retries > 0 else None
    return facts


def _table(value: "Any") -> "List[Any]":
    """The keys of an object; none of what is no object."""
    return sorted(value, key=str)[:WORDS_LIMIT] if isinstance(value, dict) else []


def _words(value: "Any") -> "Optional[List[str]]":
    """A list of words; a single text is what old engines wrote for one."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return [str(word)[:TEXT_LIMIT] for word in value[:WORDS_LIMIT]]


def _text(value: "Any") -> "Optional[str]":
    return value[:TEXT_LIMIT] if isinstance(value, str) and value else None
