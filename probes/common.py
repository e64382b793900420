"""What every probe shares: where it reads, how it reports trouble, how it becomes a section.

A probe is a module with a ``LAYER`` and a function ``measure(place)`` that returns its facts. It never
prints, never raises for bad input that it can name (it calls ``place.problem``), and reads the file
system only through the ``Place`` that it is given, so that the same parser serves a live host and an
unpacked image. ``section`` turns one into the record that stands in a snapshot.
"""

import errno
import hashlib
import json
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

# Text files that probes read (METADATA, RECORD, os-release, dpkg's status) stay far below this; what is
# larger is cut and reported, so that a hostile image cannot fill the memory.
TEXT_LIMIT = 64 << 20

# A section lists this many problems and counts the rest.
PROBLEM_LIMIT = 50

# As in Linux's own path walk (ELOOP).
LINK_LIMIT = 40

# A name that cannot exist: something inside of what is no directory.
NOWHERE = os.devnull + "/nowhere"


class Absent(Exception):
    """The platform does not have what this section describes (no reason for an incomplete snapshot)."""


class Unavailable(Exception):
    """It exists, but it cannot be measured this way (for example: read from an image that does not run)."""


class Place:
    """Where a probe reads: a root directory, the variables and the module search path in force there.

    ``root``         directory that stands for ``/``; symbolic links are resolved inside it
    ``environ``      environment variables of the measured process
    ``search_path``  ``sys.path`` of the interpreter under test
    ``live``         whether this very process is the environment (facts that only a running interpreter or
                     kernel knows can be asked for)
    """

    def __init__(
        self,
        root: "str" = "/",
        environ: "Optional[Mapping[str, str]]" = None,
        search_path: "Optional[Sequence[str]]" = None,
        live: "bool" = True,
        options: "Optional[Mapping[str, Any]]" = None,
    ) -> "None":
        self.root = os.path.abspath(root)
        self.environ = dict(os.environ if environ is None else environ)
        self.search_path = list(sys.path if search_path is None else search_path)
        self.live = live
        self.options = dict(options or {})  # type: Dict[str, Any]
        self.found = {}  # type: Dict[str, Any]  # what one probe found and another needs as well, by its module
        self._problems = {}  # type: Dict[Tuple[str, str], None]

    def problem(self, where: "str", reason: "str") -> "None":
        """Record that something could not be read or understood; the section becomes ``partial``."""
        self._problems[str(where), str(reason)] = None

    @property
    def problems(self) -> "List[Dict[str, str]]":
        """All problems so far, each once, in the order of their places."""
        return [{"where": where, "reason": reason} for where, reason in sorted(self._problems)]

    def forget_problems(self) -> "None":
        self._problems.clear()

    def real(self, name: "str") -> "str":
        """The path of ``name`` on this machine, its symbolic links resolved inside the root.

        On ``/`` this is ``name`` itself: the kernel resolves its links rightly. A ``..`` above the root ends at the
        root, as in a chroot; links that loop lead to a name that cannot exist, never out of the root.
        """
        if self.root == os.path.abspath(os.sep):
            return name
        done = self.root
        waiting = [part for part in name.split("/") if part not in ("", ".")]
        links = 0
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                if done != self.root:
                    done = os.path.dirname(done)
                continue
            step = os.path.join(done, part)
            try:
                target = os.readlink(step)
            except (OSError, ValueError):
                done = step
                continue
            links += 1
            if links > LINK_LIMIT:
                self.problem(name, "symbolic links that loop")
                return NOWHERE
            if target.startswith("/"):
                done = self.root
            waiting[:0] = [piece for piece in target.split("/") if piece not in ("", ".")]
        return done

    def inside(self, real: "str") -> "str":
        """The name that a path returned by ``real`` has inside the root."""
        if self.root == os.path.abspath(os.sep):
            return real
        return "/" + os.path.relpath(real, self.root) if real != self.root else "/"

    def exists(self, name: "str") -> "bool":
        return os.path.lexists(self.real(name))

    def is_dir(self, name: "str") -> "bool":
        return os.path.isdir(self.real(name))

    def list_dir(self, name: "str") -> "List[str]":
        """Sorted entries of a directory; empty where there is none or it cannot be read (then a problem)."""
        try:
            return sorted(os.listdir(self.real(name)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError) as error:
            self.problem(name, describe(error))
            return []

    def read_bytes(self, name: "str", limit: "int" = TEXT_LIMIT) -> "Optional[bytes]":
        """The content of a regular file, at most ``limit`` bytes; None where there is no such file.

        What is no regular file (a FIFO would block for ever), cannot be read or is longer is a problem.
        """
        try:
            data = read_regular(self.real(name), limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            self.problem(name, describe(error))
            return None
        if len(data) > limit:
            self.problem(name, "longer than %d bytes; the rest was not read" % limit)
            return data[:limit]
        return data

    def read_text(self, name: "str", limit: "int" = TEXT_LIMIT) -> "Optional[str]":
        """As ``read_bytes``, decoded as UTF-8; a byte that is none becomes U+FFFD."""
        data = self.read_bytes(name, limit)
        return None if data is None else data.decode("utf-8", "replace")


def read_regular(path: "str", limit: "int") -> "bytes":
    """Up to ``limit`` bytes of a regular file. Raises OSError, also for anything that is no regular file."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        pieces = []
        left = limit
        while left > 0:
            piece = os.read(handle, min(left, max(1 << 16, status.st_size + 1)))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def describe(error: "BaseException") -> "str":
    """One line for an exception: the operating system's words where it has some, else type and message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return ("%s: %s" % (type(error).__name__, error)).replace("\n", " ")[:500]


def canonical(value: "Any") -> "bytes":
    """The one serial form of facts, from which digests are made: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(value: "Any") -> "str":
    """``sha256:`` and the hexadecimal digest of the canonical form."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def section(probe: "ModuleType", place: "Place") -> "Dict[str, Any]":
    """Run one probe. Whatever it meets, the result is a section: nothing escapes."""
    place.forget_problems()
    facts = {}  # type: Dict[str, Any]
    reason = None
    try:
        facts = probe.measure(place)
        status = "partial" if place.problems else "ok"
    except Absent as error:
        status, reason = "absent", str(error)
    except Unavailable as error:
        status, reason = "unavailable", str(error)
    except Exception as error:  # a probe's own fault must not cost the other sections
        status, reason = "failed", "%s (%s)" % (describe(error), _place_of(error))
    problems = place.problems
    if len(problems) > PROBLEM_LIMIT:
        reason = "%d more problems are not listed" % (len(problems) - PROBLEM_LIMIT)
    return {
        "layer": probe.LAYER,
        "status": status,
        "reason": reason,
        "problems": problems[:PROBLEM_LIMIT],
        "facts": facts,
    }


def _place_of(error: "BaseException") -> "str":
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return "%s, line %d" % (os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_lineno)


def run_alone(script: "str") -> "None":
    """Print the section of one probe script, redacted, and exit: ``python3 probes/packages.py``."""
    import importlib

    folder = os.path.dirname(os.path.abspath(script))
    # The directory of the script stands first on sys.path; it is not part of the environment.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != folder]
    package = type(sys)("probes")
    package.__path__ = [folder]
    sys.modules["probes"] = package
    name = os.path.splitext(os.path.basename(script))[0]
    probe = importlib.import_module("probes." + name)
    redaction = importlib.import_module("probes.redaction")
    # The probe's own copy of this module: it raises that one's Absent and Unavailable.
    shared = importlib.import_module("probes.common")
    place = shared.Place()
    result = redaction.Redactor.of_process(place.environ).document(shared.section(probe, place))
    result["digest"] = digest(result["facts"])
    sys.stdout.write(json.dumps({name: result}, sort_keys=True, indent=2) + "\n")
    sys.exit(0)
