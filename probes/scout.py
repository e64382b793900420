"""Runs in a container before the payload does, and hands over to the interpreter that the service runs.

Any Python of the container can be the scout. It looks for the service's interpreter and its variables (what an
entry-point script exported is not in the environment of an exec), says what it chose, and becomes that interpreter,
which reads the payload from the same standard input. So no variable leaves the container, and nothing but Python
is run.
"""

import json
import os
import sys

from . import common, interpreters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple


def main(search_path: "List[str]", options: "Dict[str, Any]") -> "None":
    """Choose, say so between the cookies, and become the chosen interpreter.

    ``options``: ``cookies``; ``boot``, the text behind its ``-c``; ``choose``, whether another interpreter than this
    one may be taken; ``config``, the image configuration; ``pid``, the service's first process, or None; ``path``
    and ``reason``, this interpreter and why it was asked. Our own variables (``DRIFTCHECK_``) are kept.
    """
    pid = options["pid"]
    running = interpreters.running(pid) if pid else None
    variables = running[2].environ() if running is not None else None
    if variables is None and pid:
        variables = interpreters.Process(pid, 0, "").environ()
    # Not os.environ: in a C locale Python has put LC_CTYPE there (PEP 538), and the next one would find another locale.
    environ = interpreters.Process(os.getpid(), 0, "").environ()
    if environ is None:
        environ = dict(os.environb)
    if variables is not None:
        ours = {name: value for name, value in environ.items() if name.startswith(b"DRIFTCHECK_")}
        environ = dict(variables)
        environ.update(ours)
    place = common.Place(
        environ={os.fsdecode(name): os.fsdecode(value) for name, value in environ.items()},
        search_path=search_path,
        options={"image_config": options["config"]},
    )
    # A bare name was looked up on PATH by whoever started us.
    here = options["path"] if "/" in options["path"] else sys.executable
    path, reason = here, options["reason"]
    if options["choose"]:
        path, reason = choose(place, running, here, options)
    answer = {
        "path": path,
        "reason": reason,
        "environment": "image" if variables is None else "service process",
        "others": interpreters.environments(place, path, options["config"].get("working_dir") or "/"),
    }
    first, last = options["cookies"]
    write(1, ("\n%s%s%s\n" % (first, json.dumps(answer, sort_keys=True), last)).encode("ascii"))
    try:
        os.execve(path, [path, "-c", options["boot"]], environ)  # noqa: S606 (what the scout is for)
    except OSError as error:
        sys.exit("%s (%s) cannot be executed: %s" % (path, reason, common.describe(error)))


def choose(
    place: "common.Place",
    running: "Optional[Tuple[str, str, interpreters.Process]]",
    here: "str",
    options: "Dict[str, Any]",
) -> "Tuple[str, str]":
    """``(interpreter, reason)``: the service's where that can be told, else the one that this runs in."""
    if running is not None:
        return running[0], running[1]
    path, reason = interpreters.resolved(place, options["config"])
    if path is None:
        return here, "%s; %s" % (options["reason"], reason)
    if not os.access(path, os.X_OK):
        return options["path"], "%s; %s (%s) cannot be executed" % (options["reason"], path, reason)
    return path, reason


def write(handle: "int", data: "bytes") -> "None":
    """All of ``data``, past whatever the environment put in the place of ``sys.stdout``."""
    while data:
        data = data[os.write(handle, data) :]
