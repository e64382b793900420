"""Starts the packed payload: first thing that runs in a foreign interpreter.

Before it imports anything it narrows ``sys.path`` to the standard library, so that no file of the measured
environment (a ``json.py`` in the working directory was seen to forge the answer) stands in for a module that the
probes use. The search path as it was is what gets measured.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

# What the probes rest on. Start-up files may have imported these before us, from elsewhere or to change them, so
# they are forgotten and imported anew, from the standard library.
TRUSTED = ("argparse", "csv", "hashlib", "hmac", "json", "platform", "re", "shlex", "stat", "sysconfig", "time")


def start(
    sources: "Dict[str, str]", main: "str", options: "Dict[str, Any]", script: "bool", compiled: "bytes" = b""
) -> "None":
    """Install the packed modules as the package ``probes`` and run the one called ``main``.

    ``sources`` maps module names to their text, those that others import first. ``script`` tells that this is
    a file that was run, whose directory Python put first on the search path. ``compiled`` is the bytecode of the
    same modules, behind the magic number of the interpreter that made it; empty where there is none.
    """
    flags = sys.flags
    if script and sys.path and not flags.isolated and not getattr(flags, "safe_path", False):
        del sys.path[0]
    searched = list(sys.path)
    sys.path[:] = standard_library(searched)
    # A finder of the environment (editable installs have one each) is not needed to load the standard library.
    finders = list(sys.meta_path)
    sys.meta_path[:] = [finder for finder in finders if isinstance(finder, type)]
    for name in list(sys.modules):
        if name.split(".", 1)[0] in TRUSTED and name not in sys.builtin_module_names:
            del sys.modules[name]
    code = bytecode(compiled)
    package = type(sys)("probes")
    package.__path__ = []
    sys.modules["probes"] = package
    for name, text in sources.items():
        module = type(sys)("probes." + name)
        module.__package__ = "probes"
        module.__file__ = "probes/" + name + ".py"
        sys.modules["probes." + name] = module
        exec(code.get(name) or compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102
        setattr(package, name, module)
    sys.meta_path[:] = finders
    sys.modules["probes." + main].main(searched, options)


def bytecode(compiled: "bytes") -> "Dict[str, Any]":
    """The code of each module, where an interpreter of this very version made it; else nothing."""
    importer = sys.modules.get("_frozen_importlib_external")
    magic = getattr(importer, "MAGIC_NUMBER", None)
    if sys.implementation.name != "cpython" or not magic or compiled[: len(magic)] != magic:
        return {}
    import marshal

    code = marshal.loads(compiled[len(magic) :])  # noqa: S302 - it came with the sources, from where they came
    return dict(code)


def standard_library(path: "List[str]") -> "List[str]":
    """The entries of a search path that hold the standard library: beside ``os``, its extensions, its zip file."""
    home = library_home()
    kept = []
    for entry in path:
        name = entry.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        inside = entry == home or entry.startswith((home + "/", home + "\\"))
        if (inside and name not in ("site-packages", "dist-packages")) or name in (
            "lib-dynload",
            "DLLs",
            "python%d%d.zip" % sys.version_info[:2],
        ):
            kept.append(entry)
    return kept


def library_home() -> "str":
    """The directory of the standard library, from ``os``, which is loaded before any start-up file runs."""
    return str(sys.modules["os"].__file__).replace("\\", "/").rsplit("/", 1)[0]
