"""What to type to bring a target to its baseline: one consistent set of changes, in order (``--fix``).

The fixes of the findings that fail, and of what causes them, become one list without repetitions: the operating
system first, then Python packages, then variables, then how the container is started. Where two findings ask for two
versions of one distribution, the baseline's is taken, and that is said. driftcheck applies nothing of it.

What is typed is put together from parts that were each recognised and quoted: names and versions come out of measured
environments, and a version may be ``1.0; rm -rf ~``. What is not recognised is left out, and named.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from driftcheck.findings import Finding, Fix, Impact
from driftcheck.report import phrases
from driftcheck.report.cleaning import line, prose
from driftcheck.report.model import Report, Target
from driftcheck.rules.distributions import DISTRIBUTIONS

KINDS = ("text", "dockerfile")

_CONSTRAINTS = 300
_TITLE = 160


def fixes(report: Report, kind: str) -> str:
    """The changes for every target whose findings fail, as a shell script or as lines of a Dockerfile.

    Raises:
        KeyError: when ``kind`` is neither ``text`` nor ``dockerfile``.
    """
    write = {"text": _script, "dockerfile": _dockerfile}[kind]
    _, names = phrases.names(report)
    blocks = []
    for target, name in zip(report.targets, names, strict=True):
        chosen = _chosen(report, target)
        if chosen:
            head = [f"# For {name}, by driftcheck: read it before you use it."]
            blocks.append([*head, *_about(chosen), *write(_plan(target, chosen, kind))])
        else:
            blocks.append([f"# For {name}: no finding fails, so there is nothing to mend."])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _about(findings: Sequence[Finding]) -> list[str]:
    """What is mended: causes, and how much follows from each."""
    rows = []
    for group in phrases.told(findings):
        rows.append(f"#   {line(group.finding.code, 12)} {prose(group.finding.title, _TITLE)}")
        if group.effects:
            rows.append(f"#     and {phrases.count(len(group.effects), 'finding')} that it causes")
    return rows


def _chosen(report: Report, target: Target) -> list[Finding]:
    """The findings that fail a run, and the causes which they go with."""
    limit = report.fail_on or Impact.BREAKS
    causes = {finding.caused_by for finding in target.explanation.findings if finding.fails(limit)}
    return [finding for finding in target.explanation.findings if finding.fails(limit) or finding.identity in causes]


# The plan


@dataclass
class _Install:
    """One distribution to install. ``exact``: the version that is asked for, or None where a range is."""

    specifiers: SpecifierSet
    exact: str | None = None
    again: bool = False  # its files are not what they should be, though its version is
    upgrade: bool = False


@dataclass
class _Plan:
    """What is to be done, each thing once. ``packages`` by interpreter and index."""

    base: list[str] = field(default_factory=list)
    system: dict[str, None] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    packages: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, _Install]] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)
    lines: dict[str, None] = field(default_factory=dict)  # of a Dockerfile
    variables: dict[str, str | None] = field(default_factory=dict)  # None: unset
    flags: dict[str, None] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)  # a text, and the findings that say it

    def note(self, text: str, code: str | None = None) -> None:
        codes = self.notes.setdefault(prose(text, 400), [])
        if code is not None and code not in codes:
            codes.append(line(code, 12))


def _plan(target: Target, findings: Sequence[Finding], kind: str) -> _Plan:
    plan = _Plan()
    known = _baseline_versions(target)
    for finding in findings:
        removed: dict[str, int] = {}
        for fix in _one_way(finding.fix, kind):
            if fix.kind == "pip":
                _pip(plan, finding, fix, known, removed)
            else:
                _other(plan, finding, fix)
        for name, times in removed.items():
            plan.removed[name] = max(times, plan.removed.get(name, 0))
        for path in finding.folds if finding.code == "PKG011" else ():
            # What it forced goes back with it.
            if tuple(path[:2]) == DISTRIBUTIONS and path[2] in known:
                _ask(plan, (("python", "-m", "pip"), ()), path[2], _Install(SpecifierSet()), known)
    _settle(plan, known)
    return plan


def _baseline_versions(target: Target) -> dict[str, str]:
    """The version of each distribution that the baseline has and the target has not, or has in another version."""
    found: dict[str, str] = {}
    for change in target.explanation.changes:
        if tuple(change.path[:2]) == DISTRIBUTIONS and len(change.path) > 2:
            name = change.path[2]
            whole = change.kind == "removed" and len(change.path) == 3 and isinstance(change.before, dict)
            version = change.before.get("version") if whole else change.before
            if (whole or change.path[3:] == ("version",)) and _version(version) is not None:
                found[name] = version
    return found


def _version(text: object) -> Version | None:
    try:
        return Version(text) if isinstance(text, str) else None
    except InvalidVersion:
        return None


def _one_way(given: Sequence[Fix], kind: str) -> list[Fix]:
    """The fixes of a finding, but of several ways to set the same thing one: installs are steps, settings are not."""
    steps = [fix for fix in given if fix.kind in {"pip", "apt", "advice"}]
    settings = [fix for fix in given if fix not in steps]
    order = ["variable", "docker-run", "dockerfile"]
    if kind == "dockerfile":
        order = ["dockerfile", "variable", "docker-run"]
    best = next((word for word in order if any(fix.kind == word for fix in settings)), None)
    ways = [fix for fix in settings if fix.kind == best]
    if best == "docker-run":  # variables go together, other options are alternatives
        ways = [fix for fix in ways if fix.text.startswith("-e ")] or ways[:1]
    return [*steps, *ways]


def _pip(plan: _Plan, finding: Finding, fix: Fix, known: Mapping[str, str], removed: dict[str, int]) -> None:
    """One line for pip, taken apart."""
    words = _words(fix.text)
    if words is None or words[1:3] != ["-m", "pip"] or len(words) < 5 or words[3] not in {"install", "uninstall"}:
        _leave_out(plan, finding, fix)
        return
    options, index, given = _options(words[4:])
    try:
        wanted = [Requirement(text) for text in given]
    except InvalidRequirement:
        _leave_out(plan, finding, fix)
        return
    if not options <= _PIP_OPTIONS or any(one.url or one.marker for one in wanted) or not _PROGRAM.fullmatch(words[0]):
        _leave_out(plan, finding, fix)
        return
    for one in wanted:
        name = canonicalize_name(one.name)
        if words[3] == "uninstall":
            removed[name] = removed.get(name, 0) + 1
            continue
        exact = next((entry.version for entry in one.specifier if entry.operator == "=="), None)
        exact = exact if _version(exact) is not None else None
        again = "--force-reinstall" in options and ("--no-deps" in options or exact is None)
        install = _Install(one.specifier, exact, again=again, upgrade="--upgrade" in options)
        _ask(plan, ((words[0], "-m", "pip"), index), name, install, known)


_PIP_OPTIONS = frozenset({"--force-reinstall", "--no-deps", "--upgrade", "-y", "-U"})
_PROGRAM = re.compile(r"[\w./~+-]+")


def _words(text: str) -> list[str] | None:
    try:
        return shlex.split(text)
    except ValueError:
        return None


def _options(words: Sequence[str]) -> tuple[set[str], tuple[str, ...], list[str]]:
    """Options, the index, and what is to be installed."""
    options: set[str] = set()
    index: tuple[str, ...] = ()
    given: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in {"--index-url", "--extra-index-url"} and waiting and _ADDRESS.fullmatch(waiting[0]):
            index = (word, waiting.pop(0))
        elif word.startswith("-"):
            options.add(word)
        else:
            given.append(word)
    return options, index, given


_ADDRESS = re.compile(r"https://[\w./+-]+")


def _ask(
    plan: _Plan,
    where: tuple[tuple[str, ...], tuple[str, ...]],
    name: str,
    install: _Install,
    known: Mapping[str, str],
) -> None:
    """Add to what is asked of one distribution; of two versions the baseline's, else the first."""
    there = next((key for key, entries in plan.packages.items() if name in entries), where)
    entries = plan.packages.setdefault(there, {})
    had = entries.setdefault(name, _Install(SpecifierSet()))
    had.again |= install.again
    had.upgrade |= install.upgrade
    if install.exact is not None and name not in known:
        if had.exact is not None and had.exact != install.exact:
            plan.note(f"{name}: {had.exact} is taken; another finding asks for {install.exact}.")
        else:
            had.exact = install.exact
    elif install.exact is not None and install.exact != known[name]:
        plan.note(f"{name}: {known[name]} is taken, which the baseline has, and not {install.exact}.")
    elif name in known and not install.specifiers.contains(known[name], prereleases=True):
        wanted = _sorted(install.specifiers)
        plan.note(f"{name}: {known[name]} is taken, which the baseline has, though a finding asks for {wanted}.")
    if install.exact is None:
        had.specifiers &= install.specifiers


def _settle(plan: _Plan, known: Mapping[str, str]) -> None:
    """Versions of the baseline, and what neither comes nor goes."""
    for entries in plan.packages.values():
        for name, install in entries.items():
            if name in known:
                install.exact, install.again, install.upgrade = known[name], False, False
            elif install.upgrade:
                install.exact = None  # one finding at least wants another version than the one that is here
            if name in plan.removed and plan.removed[name] == 1 and not install.again:
                # Another version takes the place of what is there by itself.
                del plan.removed[name]
    asked = {name for entries in plan.packages.values() for name in entries}
    if asked:
        plan.constraints = {
            name: version
            for name, version in sorted(known.items())[:_CONSTRAINTS]
            if name not in asked and "+" not in version and name not in plan.removed
        }
    for name in asked:
        version = next(entries[name].exact for entries in plan.packages.values() if name in entries)
        if version is not None and "+" in version:
            plan.note(f"{name}=={version} is not on the public index: pass the index of that build as --index-url.")


def _other(plan: _Plan, finding: Finding, fix: Fix) -> None:
    """A fix of any kind but pip's."""
    if fix.kind == "advice":
        plan.note(fix.text, finding.code)
        return
    understood = {"apt": _apt, "variable": _variable, "docker-run": _flag, "dockerfile": _line}.get(fix.kind)
    if understood is None or not fix.text.isprintable() or not understood(plan, fix.text):
        _leave_out(plan, finding, fix)


def _apt(plan: _Plan, text: str) -> bool:
    words = _words(text) or []
    packages = [word for word in words[2:] if not word.startswith("-")]
    if words[:2] != ["apt-get", "install"] or not all(_DEBIAN.fullmatch(word) for word in packages):
        return False
    plan.system.update(dict.fromkeys(packages))
    return True


_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]*(?::[a-z0-9]+)?(?:=[\w.+:~-]+)?")


def _variable(plan: _Plan, text: str) -> bool:
    unset = re.fullmatch(r"unset ([A-Za-z_]\w*)", text)
    if unset:
        plan.variables.setdefault(unset[1], None)
        return True
    found = re.fullmatch(r"([A-Za-z_]\w*)=(.*)", text)
    if found is None:
        return False
    name, value = found[1], found[2]
    if plan.variables.setdefault(name, value) not in {None, value}:
        plan.note(f"{name}: {plan.variables[name]} is taken; another finding asks for {value}.")
    return True


def _flag(plan: _Plan, text: str) -> bool:
    """Options that rules speak of, each with its value: a measured value cannot bring another one (--privileged)."""
    words = _words(text) or []
    waiting = list(words)
    while waiting:
        name, sign, _ = waiting.pop(0).partition("=")
        if name not in _FLAGS or not (sign or (waiting and waiting.pop(0))):
            return False
    plan.flags[shlex.join(words)] = None
    return bool(words)


_FLAGS = frozenset(
    {
        "-e",
        "--cpus",
        "--device",
        "--gpus",
        "--group-add",
        "--memory",
        "--pids-limit",
        "--platform",
        "--security-opt",
        "--shm-size",
    }
)


def _line(plan: _Plan, text: str) -> bool:
    word = text.partition(" ")[0]
    variable = re.fullmatch(r"ENV ([A-Za-z_]\w*)=(.*)", text)
    if variable:
        return _variable(plan, f"{variable[1]}={_unquoted(variable[2])}")
    if word == "FROM" and _IMAGE.fullmatch(text):
        plan.base.append(text)
        return True
    command = text.removeprefix("RUN ").removesuffix(_LDCONFIG)
    words = _words(command) or []
    if word == "RUN" and any(_is_shaped(words, shape) for shape in _COMMANDS):
        plan.lines[f"RUN {shlex.join(words)}{_LDCONFIG if text.endswith(_LDCONFIG) else ''}"] = None
        return True
    return False


def _is_shaped(words: Sequence[str], shape: Sequence[str]) -> bool:
    return len(words) == len(shape) and all(map(re.fullmatch, shape, words))


_LDCONFIG = " && ldconfig"
_PATH = r"(?!.*/\.\.?(?:/|$))/[\w@%+=:,./~ -]*[\w@%+=:,.~-]"
# What rules have a Dockerfile run, word by word: what was measured is one word, and no option.
_COMMANDS = (
    ("chmod", r"\+x", _PATH),
    ("rm", "-r?f", _PATH),
    ("sed", "-i", re.escape(r"s/\r$//"), _PATH),
    ("useradd", "--uid", r"\d+", "--create-home", "app"),
)
_IMAGE = re.compile(r"FROM [\w./:@-]+")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _leave_out(plan: _Plan, finding: Finding, fix: Fix) -> None:
    plan.note(f"by hand: {fix.text}", finding.code)


# Writing

_PATH_HOLDS = re.compile(r"\$(?:PATH|LD_LIBRARY_PATH|PYTHONPATH)\b")


def _script(plan: _Plan) -> list[str]:
    """A shell script: what it cannot do stands in comments."""
    rows: list[str] = []
    for text in (*plan.base, *plan.lines):
        rows.append(f"# In the Dockerfile: {line(text, 400)}")
    if plan.system:
        rows += ["apt-get update", f"apt-get install -y --no-install-recommends {' '.join(plan.system)}"]
    rows += _pip_commands(plan, "driftcheck-constraints.txt")
    for name, value in plan.variables.items():
        rows.append(f"unset {name}" if value is None else f"export {name}={_value(value)}")
    if plan.flags:
        rows.append(f"# Start the container with: docker run {' '.join(plan.flags)}")
    return [*rows, *_notes(plan)]


def _dockerfile(plan: _Plan) -> list[str]:
    """Lines to put into a Dockerfile."""
    rows: list[str] = []
    rows += plan.base[:1]
    rows += [f"# {line(text, 400)}" for text in plan.base[1:] if text != plan.base[0]]
    commands = _pip_commands(plan, "/tmp/constraints.txt", "--no-cache-dir ")  # noqa: S108 - inside of the image
    if plan.system or commands or plan.lines:
        rows.append(
            "# As root: where the image sets another USER, put USER root before these and that USER after them."
        )
    if plan.system:
        rows += [
            "RUN apt-get update \\",
            f" && apt-get install -y --no-install-recommends {' '.join(plan.system)} \\",
            " && rm -rf /var/lib/apt/lists/*",
        ]
    rows += [f"RUN {command}" for command in commands]
    rows += plan.lines
    for name, value in plan.variables.items():
        if value is None:
            rows.append(f"# Take {name} out: where this Dockerfile sets it there, else where the container is started.")
        else:
            rows.append(f"ENV {name}={_quoted(value)}")
    if plan.flags:
        rows.append(f"# Start the container with: docker run {' '.join(plan.flags)}")
    return [*rows, *_notes(plan)]


def _notes(plan: _Plan) -> list[str]:
    said = [f"#   {', '.join(codes)}{': ' if codes else ''}{text}" for text, codes in plan.notes.items()]
    return ["# Besides:", *said] if said else []


def _value(value: str) -> str:
    """A value for a shell; one that goes on from what a path variable holds keeps that."""
    return f'"{value.strip(chr(34))}"' if _extends(value) else shlex.quote(value)


def _quoted(value: str) -> str:
    """A value for ENV, where a dollar sign means a variable."""
    if _extends(value):
        return f'"{value.strip(chr(34))}"'
    if re.fullmatch(r"[\w@%+=:,./-]*", value):
        return value or '""'
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _extends(value: str) -> bool:
    rest = _PATH_HOLDS.sub("", value.strip('"'))
    return rest != value.strip('"') and re.fullmatch(r"[\w@%+=:,./-]*", rest) is not None


def _pip_commands(plan: _Plan, constraints: str, more: str = "") -> list[str]:
    """Away with what has to go, then one install for all versions, then what is written anew."""
    commands = []
    for name, times in plan.removed.items():
        commands += [f"python -m pip uninstall -y {name}"] * times
    for (program, index), entries in plan.packages.items():
        pip = shlex.join(program)
        where = f"{' '.join(index)} " if index else ""
        plain = {name: install for name, install in entries.items() if not install.again}
        again = {name: install for name, install in entries.items() if install.again and not install.upgrade}
        renewed = {name: install for name, install in entries.items() if install.again and install.upgrade}
        if plain:
            upgrade = "--upgrade " if any(install.upgrade for install in plain.values()) else ""
            limits = plan.constraints if not index else {}
            if limits:
                listed = _listed(f"{name}=={version}" for name, version in limits.items())
                commands.append(f"printf '%s\\n' {listed} > {constraints}")
            held = f"-c {constraints} " if limits else ""
            commands.append(f"{pip} install {more}{where}{upgrade}{held}{_requirements(plain)}")
        if renewed:
            commands.append(f"{pip} install {more}{where}--upgrade --force-reinstall {_requirements(renewed)}")
        if again:
            commands.append(f"{pip} install {more}{where}--force-reinstall --no-deps {_requirements(again)}")
    return commands


def _requirements(entries: Mapping[str, _Install]) -> str:
    return _listed(
        f"{name}=={install.exact}" if install.exact is not None else f"{name}{_sorted(install.specifiers)}"
        for name, install in sorted(entries.items())
    )


def _sorted(specifiers: SpecifierSet) -> str:
    return ",".join(sorted({str(entry) for entry in specifiers}))


def _listed(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)
