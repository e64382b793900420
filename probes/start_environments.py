"""Which environment a program of a start command runs in, from files alone: pyenv's shims, conda, project tools.

``start_command`` follows a start with them.
"""

import os
import re

from . import executables, shell_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

    from .common import Place


def version_of(place: "Place", interpreter: "str") -> "Optional[Tuple[int, int]]":
    """Major and minor version of an interpreter, from the name of its file."""
    for path in (executables.real_name(place, interpreter), interpreter):
        found = re.search(r"(\d+)\.(\d+)[a-z]?$", os.path.basename(path))
        if found:
            return int(found.group(1)), int(found.group(2))
    return None


def module_folders(
    place: "Place", program: "str", environ: "Dict[str, Optional[str]]", directory: "str"
) -> "Tuple[List[str], bool]":
    """Where ``python -m`` looks, and whether nothing else can add to it (an import hook, another .pth file)."""
    folders = [directory]
    path = environ.get("PYTHONPATH", "")
    complete = path is not None and shell_script.UNKNOWN not in path
    folders.extend(executables.absolute(entry, directory) for entry in (path or "").split(":") if entry)
    prefixes = [
        os.path.dirname(os.path.dirname(program)),
        os.path.dirname(os.path.dirname(executables.real_name(place, program))),
    ]
    if prefixes[0] == "":
        prefixes[0] = "/usr"  # /bin is /usr/bin
    home = environ.get("HOME") or "/root"
    found_library = False
    for prefix in dict.fromkeys(prefixes + ["/usr", home.rstrip("/") + "/.local"]):
        for library in ("/lib", "/lib64", "/local/lib"):
            for name in place.list_dir(prefix + library) if place.is_dir(prefix + library) else ():
                if not re.match(r"^(?:python|pypy)\d", name):
                    continue
                base = "%s%s/%s" % (prefix, library, name)
                found_library = found_library or place.exists(base + "/os.py")
                for folder in (base, base + "/site-packages", base + "/dist-packages"):
                    if place.is_dir(folder):
                        folders.append(folder)
                        complete = complete and not any(
                            file.endswith((".pth", ".egg-link")) and file not in _HARMLESS
                            for file in place.list_dir(folder)
                        )
    return folders, complete and found_library


# .pth files that add no directory.
_HARMLESS = frozenset(["distutils-precedence.pth", "_virtualenv.pth", "matplotlib.pth"])


def pyenv_program(
    place: "Place", full: "str", environ: "Dict[str, Optional[str]]", directory: "str"
) -> "Optional[str]":
    """What a shim of pyenv runs: the version is that of PYENV_VERSION, ``.python-version`` or the global file."""
    folder, name = os.path.split(full)
    if os.path.basename(folder) != "shims":
        return None
    root = environ.get("PYENV_ROOT") or os.path.dirname(folder)
    chosen = environ.get("PYENV_VERSION")
    step = directory
    while not chosen:
        chosen = place.read_text(step.rstrip("/") + "/.python-version", 4096)
        if step == "/":
            break
        step = os.path.dirname(step)
    chosen = chosen or place.read_text(root + "/version", 4096) or ""
    for version in re.split(r"[\s:]+", chosen.strip()):
        if not version or "/" in version or version == "..":
            continue
        matching = [entry for entry in place.list_dir(root + "/versions") if entry == version]
        matching += sorted(
            (entry for entry in place.list_dir(root + "/versions") if entry.startswith(version + ".")), key=_numbers
        )[-1:]
        for entry in matching:
            path = "%s/versions/%s/bin/%s" % (root, entry, name)
            if executables.access(place, path) is None:
                return path
    return None


def _numbers(version: "str") -> "List[int]":
    return [int(part) for part in re.findall(r"\d+", version)]


def conda_prefix(
    place: "Place", program: "str", named: "Optional[str]", environ: "Dict[str, Optional[str]]"
) -> "Optional[str]":
    """The prefix of a conda environment, by its name or path; conda's own for none."""
    if named and "/" in named:
        return named.rstrip("/")
    roots = [environ.get("MAMBA_ROOT_PREFIX"), environ.get("CONDA_ROOT")]
    if program.startswith("/"):
        roots.append(re.sub(r"/(?:bin|condabin|_conda)/[^/]+$", "", program))
    executable = environ.get("CONDA_EXE")
    if executable:
        roots.append(os.path.dirname(os.path.dirname(executable)))
    roots += [
        "/opt/conda",
        "/opt/miniconda3",
        "/opt/miniforge3",
        "/opt/mambaforge",
        "/root/miniconda3",
        "/root/miniforge3",
    ]
    for root in roots:
        if not root or not place.is_dir(root + "/conda-meta"):
            continue
        if named in (None, "", "base"):
            return root
        if place.is_dir("%s/envs/%s" % (root, named)):
            return "%s/envs/%s" % (root, named)
    return None


def project_environment(
    place: "Place", runner: "str", environ: "Dict[str, Optional[str]]", directory: "str", named: "Optional[str]"
) -> "Optional[str]":
    """The virtual environment that a project tool runs in."""
    candidates = []  # type: List[Optional[str]]
    if runner == "uv":
        project = environ.get("UV_PROJECT_ENVIRONMENT")
        candidates.append(executables.absolute(project, directory) if project else None)
    if runner != "uv":
        candidates.append(environ.get("VIRTUAL_ENV"))
    if runner == "pixi":
        candidates.append("%s/.pixi/envs/%s" % (directory.rstrip("/"), named or "default"))
    step = directory
    while True:
        candidates.append(step.rstrip("/") + "/.venv")
        if step == "/":
            break
        step = os.path.dirname(step)
    if runner == "uv":
        candidates.append(environ.get("VIRTUAL_ENV"))
    home = (environ.get("HOME") or "/root").rstrip("/")
    caches = {
        "poetry": (environ.get("POETRY_VIRTUALENVS_PATH") or home + "/.cache/pypoetry/virtualenvs",),
        "pipenv": (environ.get("WORKON_HOME") or home + "/.local/share/virtualenvs",),
    }.get(runner, ())
    for cache in caches:
        entries = [entry for entry in place.list_dir(cache) if place.is_dir(cache + "/" + entry)]
        if len(entries) == 1:  # of several, a digest of the project's path decides
            candidates.append(cache + "/" + entries[0])
    for prefix in candidates:
        if prefix and place.exists(prefix + "/bin/python"):
            return prefix
    return None
