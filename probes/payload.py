"""The payload's main program: runs every probe and answers with one redacted snapshot.

It runs in two ways. Over a channel, driftcheck hands it options and two random cookies, and the answer stands
between them on standard output, whatever else the environment prints there. As a file (``driftcheck probe``)
it is a program with two options, which a stranger runs with nothing installed.
"""

import gc
import json
import os
import sys
import time

from . import aside, common, cuda, gpu, imports, libraries, limits, machine, packages
from . import programs, python, redaction, service, system, variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping

    from .common import Place

SCHEMA_VERSION = 0

# In the order in which they run; each is also the name of its section.
PROBES = {
    "python": python,
    "packages": packages,
    "libraries": libraries,
    "system": system,
    "programs": programs,
    "cuda": cuda,
    "service": service,
    "variables": variables,
    "limits": limits,
    "machine": machine,
    "gpu": gpu,
}

# These need nothing of the others and take a third of the time: they are measured beside them where ``options`` allow.
BESIDE = ("packages", "programs", "system")


def main(search_path: "List[str]", options: "Dict[str, Any]") -> "None":
    """Measure and answer. ``options`` come from driftcheck; without cookies this is the stand-alone file."""
    # A hundred thousand small objects live until the answer is written; looking for cycles among them finds none.
    gc.disable()
    if "cookies" in options:
        answer = snapshot(search_path, options)
        first, last = options["cookies"]
        write(1, ("\n%s%s%s\n" % (first, json.dumps(answer, sort_keys=True), last)).encode("ascii"))
        # All is said: nothing of the environment that waits for our end is run, and no object is taken apart.
        os._exit(0)
    sys.exit(stand_alone(search_path, options))


def snapshot(search_path: "List[str]", options: "Dict[str, Any]") -> "Dict[str, Any]":
    """One redacted snapshot as a JSON value."""
    environ = dict(os.environ)
    place = common.Place(environ=environ, search_path=search_path, options=options)
    probes = dict(PROBES)
    if options.get("try_imports"):
        probes["imports"] = imports  # it runs code of the environment, so never without being asked
    probes.update(on_request(options))
    interpreter = {
        "path": sys.executable,
        "version": "%d.%d.%d" % sys.version_info[:3],
        "reason": options["interpreter_reason"],
        # python -c and python -m would search here first, and python FILE in the directory of the file.
        "working_directory": working_directory(),
    }
    return measured(probes, place, redaction.Redactor.of_process(environ), interpreter, options)


def on_request(options: "Mapping[str, Any]") -> "Dict[str, Any]":
    """The probes that only read, and only where somebody asked: model files."""
    if not options.get("artifacts"):
        return {}
    from . import artifacts  # packed only where it is asked for

    return {"artifacts": artifacts}


def measured(
    probes: "Mapping[str, Any]",
    place: "Place",
    redactor: "redaction.Redactor",
    interpreter: "Dict[str, str]",
    options: "Mapping[str, Any]",
) -> "Dict[str, Any]":
    """The document of one place: what each probe finds there, redacted, and a header.

    ``options``: ``reference``, ``label``, ``channel`` and ``version`` of driftcheck, and with ``beside`` a second
    process may help. Files of an image go through here as well as the process that this runs in.
    """

    def measure(names: "List[str]") -> "Dict[str, Any]":
        found = {}
        for name in names:
            started = time.time()
            section = redactor.document(common.section(probes[name], place))
            section["digest"] = common.digest(section["facts"])
            found[name] = [section, round(time.time() - started, 4)]
        return found

    if options.get("beside") and aside.possible():
        others = aside.Aside(lambda: measure([name for name in probes if name in BESIDE]))
        found = measure([name for name in probes if name not in BESIDE])
        found.update(others.result())
    else:
        found = measure(list(probes))
    header = {
        "label": options.get("label") or options["reference"],
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tool": {"name": "driftcheck", "version": options["version"]},
        "reference": options["reference"],
        "channel": options["channel"],
        "interpreter": interpreter,
        "seconds": {name: seconds for name, (_, seconds) in found.items()},
    }
    sections = {name: section for name, (section, _) in found.items()}
    return {"schema_version": SCHEMA_VERSION, "header": redactor.document(header), "sections": sections}


def working_directory() -> "str":
    try:
        return os.getcwd()
    except OSError:
        return ""


def write(handle: "int", data: "bytes") -> "None":
    """All of ``data`` to a file descriptor, past whatever the environment put in the place of ``sys.stdout``."""
    while data:
        data = data[os.write(handle, data) :]


def stand_alone(search_path: "List[str]", options: "Dict[str, Any]") -> "int":
    """``python3 probe.py [-o FILE] [--label NAME]``: the exit code, 0 or 2."""
    import argparse

    parser = argparse.ArgumentParser(
        description="Fingerprint this environment for driftcheck. Nothing is installed, imported or sent; the result"
        " is one JSON file without secrets, user names or host names. Read it before you share it.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write here (default: standard output)")
    parser.add_argument("--label", metavar="NAME", help="what reports call this environment")
    parser.add_argument(
        "--artifact",
        metavar="PATH",
        action="append",
        default=[],
        help="fingerprint this model file too, or every one in this directory; may be repeated",
    )
    given = parser.parse_args()
    answer = snapshot(
        search_path,
        dict(
            options,
            reference="probe",
            channel="probe",
            label=given.label,
            artifacts=given.artifact,
            interpreter_reason="it ran the probe file",
        ),
    )
    text = (json.dumps(answer, sort_keys=True, indent=1) + "\n").encode("ascii")
    if given.output is None or given.output == "-":
        write(1, text)
        return 0
    try:
        with open(given.output, "wb") as file:
            file.write(text)
    except OSError as error:
        sys.stderr.write("Error: %s: %s\n" % (given.output, common.describe(error)))
        return 2
    return 0
