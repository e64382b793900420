"""What a start command comes down to: the Python interpreter and the script that run in the end, or why nothing starts.

Pure over a ``Place``: the words of an image (ENTRYPOINT and CMD) are followed through PATH, first lines of scripts,
shells and wrapper programs, and nothing is run. Where it cannot start, ``problem`` is what the engine, the shell or
the program would say. Their words stand in ``start_errors``, where they look for Python in ``start_environments``.
"""

import os
import re

from . import executables, shell_script, start_environments, start_errors
from .executables import EACCES, EISDIR, ENOENT, ENOEXEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Optional, Sequence, Tuple

    from .common import Place
    from .shell_script import Command, Scope

# python, python3, python3.11, python3.13t, pypy3
PYTHON = re.compile(r"^(?:python|pypy)[0-9]*(?:\.[0-9]+)?[a-z]?$")
_SHELLS = frozenset(["sh", "bash", "dash", "ash", "rbash", "ksh", "mksh", "zsh", "busybox"])

# How many programs may stand between the first word and the interpreter.
STEPS_LIMIT = 24

# And how many are looked at in all, for a script may start itself, several times.
TRIALS_LIMIT = 60
SCRIPT_LIMIT = 1 << 16

# Programs that run another one: {name: (options that take a word, words before the program)}.
_WRAPPERS = {
    "tini": ("-p -e", 0), "tini-static": ("-p -e", 0), "docker-init": ("-p -e", 0), "catatonit": ("", 0),
    "dumb-init": ("-r --rewrite", 0), "nice": ("-n --adjustment", 0), "nohup": ("", 0), "setsid": ("", 0),
    "stdbuf": ("-i -o -e --input --output --error", 0), "timeout": ("-s -k --signal --kill-after", 1),
    "ionice": ("-c -n -t --class --classdata", 0), "chrt": ("", 1), "taskset": ("", 1),
    "numactl": ("-i -N -m -C -p --interleave --cpunodebind --membind --physcpubind --preferred", 0),
    "gosu": ("", 1), "su-exec": ("", 1), "sudo": ("-u -g -h -p -C -r -t --user --group", 0),
    "setpriv": ("--reuid --regid --groups --inh-caps --ambient-caps --bounding-set --securebits --pdeathsig", 0),
    "chpst": ("-u -U -b -e -/ -n -l -L -m -d -o -p -f -c", 0), "xvfb-run": ("-n -s -e -f -p", 0), "time": ("-f -o", 0),
    "catchsegv": ("", 0), "jemalloc.sh": ("", 0), "aws-lambda-rie": ("", 0), "bwrap": ("", 0),
}  # fmt: skip

# Programs that run another one in an environment that they choose.
_RUNNERS = frozenset(["poetry", "uv", "pipenv", "pdm", "hatch", "pixi", "conda", "mamba", "micromamba"])

# Options of python that take the next word.
_PYTHON_OPTIONS = frozenset(["-W", "-X", "--check-hash-based-pycs"])

# What a shell does itself and what does not matter here.
_BUILTINS = frozenset(
    """
    : [ [[ ] echo test true false printf read trap ulimit umask unset local readonly alias unalias type hash wait
    jobs kill pwd getopts let declare typeset shopt return break continue times fg bg disown bind complete compgen
    mapfile readarray eval history dirs pushd popd enable help builtin suspend logout
    """.split()  # noqa: SIM905 (a table)
)


class StartCommand:
    """What a start command comes down to.

    ``interpreter``  path of the Python in the root, its links not followed (a virtual environment is known by its
                     own link); None where none was found
    ``script``       path of the file that it runs; None for ``-c``, for a module that was not found, and for none
    ``module``       what ``-m`` names
    ``reason``       one line: how the interpreter was found, or why none was
    ``chain``        the steps, in order
    ``problem``      what would be printed instead of a start; None where nothing stands in the way
    ``exact``        ``problem`` is the very text, and nothing that only a run can tell decides whether it is reached
    """

    def __init__(self) -> "None":
        self.interpreter = None  # type: Optional[str]
        self.script = None  # type: Optional[str]
        self.module = None  # type: Optional[str]
        self.reason = ""
        self.chain = []  # type: List[str]
        self.problem = None  # type: Optional[str]
        self.exact = False


def resolve(
    place: "Place",
    entry: "Sequence[str]",
    working_directory: "str" = "/",
    environ: "Optional[Mapping[str, str]]" = None,
) -> "StartCommand":
    """Follow the words of a start command (ENTRYPOINT and CMD together) inside the root of ``place``.

    Variables are those of ``place.environ``, if no others are given; what is mounted at the start, and what earlier
    commands of a script make, is not there.
    """
    result = StartCommand()
    words = [str(word) for word in entry]
    if not words:
        result.reason = "nothing is started by default"
        return result
    directory = executables.absolute(working_directory or "/", "/")
    follower = _Follower(place, result)
    variables = dict(place.environ if environ is None else environ)  # type: Dict[str, Optional[str]]
    follower.follow(words, variables, directory, start_errors.Engine(place))
    if not result.reason:
        result.reason = "%s is no Python" % words[0]
    return result


# --- following


class _Follower:
    """Follows one start command; the first step that cannot be made ends it."""

    def __init__(
        self, place: "Place", result: "StartCommand", steps: "int" = 0, trials: "Optional[List[str]]" = None
    ) -> "None":
        self._place = place
        self._result = result
        self._steps = steps
        self._trials = [] if trials is None else trials  # type: List[str]

    def follow(
        self, argv: "List[str]", environ: "Dict[str, Optional[str]]", directory: "str", speaker: "start_errors.Speaker"
    ) -> "None":
        """Execute ``argv`` as ``speaker`` would."""
        result, place = self._result, self._place
        self._steps += 1
        name = argv[0] if argv else ""
        self._trials.append(name)
        if self._steps > STEPS_LIMIT or len(self._trials) > TRIALS_LIMIT:
            result.reason = "more than %d programs run one another" % min(self._steps, STEPS_LIMIT)
            return
        if shell_script.UNKNOWN in name:
            result.reason = "%s starts something that only a run can tell" % _last(result.chain)
            return
        path = environ.get("PATH", executables.DEFAULT_PATH)
        if path is None or shell_script.UNKNOWN in path:
            result.reason = "PATH is not known where %s is started" % name
            return
        full, error = speaker.find(place, name, path, directory)
        if full is None or error is not None:
            if error == EACCES and full is not None and speaker.tells_directories and place.is_dir(full):
                error = EISDIR
            self._stop(
                speaker.missing(name, full, error or ENOENT),
                _why_not_found(place, name, full, error or ENOENT, result.chain),
            )
            return
        result.chain.append(full if full == name else "%s is %s" % (name, full))
        execution = executables.execute(place, full, argv, directory)
        if execution.error == ENOEXEC and not execution.scripts and speaker.by_shell and _is_text(place, full):
            self._shell(["/bin/sh", full] + argv[1:], "/bin/sh", environ, directory)
            return
        if execution.error is not None:
            self._stop(speaker.failed(name, execution, execution.error), _why(full, execution))
            return
        for script, program in zip(execution.scripts, execution.scripts[1:] + [execution.path]):
            result.chain.append("%s is a script of %s" % (script, program))
        self._dispatch(full, execution, environ, directory)

    def _stop(self, said: "Tuple[str, bool]", reason: "str") -> "None":
        self._result.problem, self._result.exact = said
        self._result.reason = reason

    def _dispatch(
        self, full: "str", execution: "executables.Execution", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        """Go on with what the program that runs now makes of its arguments."""
        called = os.path.basename(full)
        program, argv = execution.path, execution.argv
        base = os.path.basename(program)
        own = argv[len(argv) - _arguments(execution) :]
        shim = start_environments.pyenv_program(self._place, full, environ, directory)
        if shim is not None:
            self._result.chain.append("%s is a shim of pyenv" % full)
            self.follow([shim] + own, environ, directory, start_errors.Speaker())
        elif called in _RUNNERS:
            self._runner(called, full, own, environ, directory)
        elif PYTHON.match(base):
            self._python(program, argv, environ, directory)
        elif base in _SHELLS:
            if base == "busybox":
                argv = argv[1:] or ["sh"]
            self._shell(argv, program, environ, directory)
        elif base == "env":
            self._env(argv, program, environ, directory)
        elif base in _WRAPPERS:
            self._wrapper(base, program, argv, environ, directory)
        else:
            self._result.reason = "%s is no Python, and what it starts is not known" % program

    # --- Python

    def _python(
        self, program: "str", argv: "List[str]", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        result, place = self._result, self._place
        result.interpreter = program
        chain = "; ".join(result.chain)
        result.reason = "the start command runs it: %s" % chain if chain else "the start command runs it"
        words = argv[1:]
        while words:
            word = words[0]
            if word in _PYTHON_OPTIONS:
                words = words[2:]
            elif word == "--":
                words = words[1:]
                break
            elif word.startswith("-") and word != "-":
                flags = word[1:] if not word.startswith("--") else ""
                for index, flag in enumerate(flags):
                    if flag in "cm":
                        rest = flags[index + 1 :] or (words[1] if len(words) > 1 else "")
                        if flag == "m" and rest:
                            self._module(rest, program, environ, directory)
                        return
                    if flag in "WX":
                        words = words[0:1] + words[(1 if flags[index + 1 :] else 2) :]
                        break
                words = words[1:]
            else:
                break
        if not words or words[0] == "-" or shell_script.UNKNOWN in words[0]:
            return
        script = executables.absolute(words[0], directory)
        result.script = script
        if place.is_dir(script):
            if not place.exists(script + "/__main__.py"):
                result.problem = "%s: can't find '__main__' module in '%s'" % (program, words[0])
                result.exact = words[0].startswith("/")
        elif not os.path.exists(place.real(script)):
            # Since 3.9 the path is made absolute, without being tidied.
            version = start_environments.version_of(place, program)
            shown = words[0]
            if version is not None and version >= (3, 9) and not shown.startswith("/"):
                shown = directory.rstrip("/") + "/" + shown if directory != "/" else "//" + shown
            result.problem = "%s: can't open file '%s': [Errno 2] No such file or directory" % (argv[0], shown)
            result.exact = version is not None

    def _module(self, name: "str", program: "str", environ: "Dict[str, Optional[str]]", directory: "str") -> "None":
        """``python -m name``: the file of the module, where it is easily found, or that there is none."""
        result, place = self._result, self._place
        if shell_script.UNKNOWN in name:
            return
        result.module = name
        folders, complete = start_environments.module_folders(place, program, environ, directory)
        first = name.split(".")[0]
        for folder in folders:
            base = folder.rstrip("/") + "/" + name.replace(".", "/")
            for path in (base + "/__main__.py", base + ".py"):
                if place.exists(path):
                    result.script = path
                    return
            if place.exists(folder.rstrip("/") + "/" + first) or any(
                file.startswith(first + ".") for file in place.list_dir(folder)
            ):
                return
        if complete and "." not in name:
            result.problem = "%s: No module named %s" % (program, name)
            result.exact = False

    # --- shells

    def _shell(
        self, argv: "List[str]", program: "str", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        """``sh [-eu] SCRIPT ARGUMENT...`` or ``sh -c TEXT [NAME [ARGUMENT...]]``."""
        result, place = self._result, self._place
        kind = start_errors.kind_of_shell(place, program)
        words = argv[1:]
        text_follows = stops = False
        while words and words[0][:1] in ("-", "+") and words[0] not in ("-", "--"):
            option = words[0]
            words = words[1:]
            if option.startswith("--"):
                words = words[1:] if option in ("--rcfile", "--init-file") else words
                continue
            text_follows = text_follows or "c" in option
            stops = stops or "e" in option
            if "o" in option or "O" in option:
                stops = stops or words[:1] == ["errexit"]
                words = words[1:]
        if words and words[0] in ("-", "--"):
            words = words[1:]
        if not words:
            result.reason = "a shell, which starts nothing by itself"
            return
        if text_follows:
            name, arguments = (words[1] if len(words) > 1 else argv[0]), words[2:]
            self._script(words[0], kind, name, arguments, stops, environ, directory)
            return
        path = executables.absolute(words[0], directory)
        data = executables.head_of(place, path, SCRIPT_LIMIT)
        if data is None:
            dash = kind == "dash"
            text = "%s: 0: cannot open %s: No such file" if dash else "%s: %s: No such file or directory"
            exists = os.path.exists(place.real(path))
            if not exists:
                result.problem = text % (argv[0], words[0])
                result.exact = dash or kind.startswith("bash")
            result.reason = "%s cannot be read" % path
            return
        if not result.chain or not result.chain[-1].startswith(path):
            result.chain.append(path)
        text = data.decode("utf-8", "replace")
        self._script(text, kind, words[0], words[1:], stops, environ, directory)

    def _script(
        self,
        text: "str",
        kind: "str",
        name: "str",
        arguments: "List[str]",
        stops: "bool",
        environ: "Dict[str, Optional[str]]",
        directory: "str",
    ) -> "None":
        run = _ShellRun(self._place, shell_script.Scope(environ, name, arguments), directory, kind, stops)
        if "\r\n" in text:
            # The shell reads it, and each word at the end of a line has a carriage return.
            run.sure = False
            text = text.replace("\r\n", "\n")
        try:
            run.read(text)
        except RecursionError:
            self._result.reason = "%s is nested too deeply to be read" % name
            return
        best = None  # type: Optional[Tuple[int, StartCommand]]
        if run.problem is not None:
            self._stop(run.problem, "%s ends before it starts anything" % name)
            return
        for launch in run.launches:
            trial = StartCommand()
            trial.chain = list(self._result.chain)
            follower = _Follower(self._place, trial, self._steps, self._trials)
            speaker = start_errors.Shell(kind, name, launch.line, launch.replaces, launch.directory, launch.sure)
            follower.follow(launch.words, launch.environ, launch.directory, speaker)
            ends = (launch.replaces or launch.last) and launch.certain and not launch.tolerated
            if trial.problem is not None and not launch.decisive and not ends:
                trial.problem = None
            rank = _rank(launch, trial)
            if launch.decisive and trial.problem is not None:
                best = (99, trial)
                break
            if best is None or rank > best[0]:
                best = (rank, trial)
        if best is None:
            self._result.reason = "%s starts nothing that can be told without running it" % name
            return
        for attribute, value in vars(best[1]).items():
            setattr(self._result, attribute, value)

    # --- programs that run programs

    def _env(self, argv: "List[str]", program: "str", environ: "Dict[str, Optional[str]]", directory: "str") -> "None":
        words = argv[1:]
        environ = dict(environ)
        while words:
            word = words[0]
            if word in ("-u", "--unset", "-C", "--chdir"):
                value = words[1] if len(words) > 1 else ""
                if word in ("-C", "--chdir"):
                    directory = executables.absolute(value, directory)
                else:
                    environ.pop(value, None)
                words = words[2:]
            elif word in ("-i", "-", "--ignore-environment"):
                environ = {}
                words = words[1:]
            elif word in ("-S", "--split-string") and len(words) > 1:
                words = shell_script.Scope(environ, "", []).words(words[1].split()) + words[2:]
            elif word.startswith(("-S", "--split-string=")):
                text = word[2:] if word.startswith("-S") else word.partition("=")[2]
                words = shell_script.Scope(environ, "", []).words(text.split()) + words[1:]
            elif word == "--":
                words = words[1:]
            elif re.match(r"^[A-Za-z_][A-Za-z0-9_]*=", word):
                name, _, value = word.partition("=")
                environ[name] = value
                words = words[1:]
            elif re.match(r"^-[iv0]*S", word):  # -vS
                words = word[word.index("S") + 1 :].split() + words[1:]
            elif word.startswith("-") and len(word) > 1:
                words = words[1:]
            else:
                break
        if not words:
            self._result.reason = "env prints its variables and starts nothing"
            return
        self.follow(words, environ, directory, start_errors.Coreutils(self._place, program, argv[0], environ))

    def _wrapper(
        self, base: "str", program: "str", argv: "List[str]", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        taking, before = _WRAPPERS[base]
        words = argv[1:]
        with_word = taking.split()
        while words and words[0].startswith("-") and len(words[0]) > 1:
            option = words[0]
            words = words[1:]
            if option == "--":
                break
            if option in with_word:
                words = words[1:]
        words = words[before:]
        if base in ("gosu", "su-exec", "sudo", "numactl", "taskset", "chrt") and words[:1] == ["--"]:
            words = words[1:]
        while base == "sudo" and words and re.match(r"^[A-Za-z_][A-Za-z0-9_]*=", words[0]):
            words = words[1:]
        if not words:
            self._result.reason = "%s is given nothing to start" % program
            return
        speaker = start_errors.Speaker()  # type: start_errors.Speaker
        if base in ("nice", "nohup", "timeout", "stdbuf"):
            speaker = start_errors.Coreutils(self._place, program, argv[0], environ)
        elif base in ("setsid", "setpriv"):
            # setsid goes on in a child, where it has to: then the engine does not hear of the failure.
            exact = base == "setpriv" and "/" not in argv[0]
            speaker = start_errors.Plain(base + ": failed to execute %(name)s: %(error)s", exact)
        elif base in ("tini", "tini-static", "docker-init"):
            # Its process id stands behind its name: "[FATAL tini (7)]".
            speaker = start_errors.Plain("[FATAL tini (7)] exec %(name)s failed: %(error)s", False)
        elif base == "dumb-init":
            speaker = start_errors.Plain("[dumb-init] %(name)s: %(error)s", False)
        self.follow(words, environ, directory, speaker)

    def _runner(
        self, called: "str", full: "str", own: "List[str]", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        """``poetry run``, ``uv run``, ``conda run -n NAME``: the program in the environment that they choose."""
        result, place = self._result, self._place
        words = own
        conda = called in ("conda", "mamba", "micromamba")
        while words and words[0] != "run":
            words = words[1:]
        words = words[1:]
        prefix = None  # type: Optional[str]
        with_word = ("-n", "--name", "-p", "--prefix", "--cwd", "--with", "--python", "--project", "--directory",
                     "--extra", "--group", "--env-file", "-C", "-e", "--environment", "--package")  # fmt: skip
        named = None  # type: Optional[str]
        while words and words[0].startswith("-"):
            option, sign, value = words[0].partition("=")
            words = words[1:]
            if option == "--":
                break
            if option in ("-m", "--module") and called == "uv":
                words = ["python", "-m"] + words
                break
            if option in with_word and not sign:
                value = words[0] if words else ""
                words = words[1:]
            if option in ("-p", "--prefix") and conda:
                prefix = executables.absolute(value, directory)
            elif option in ("-n", "--name", "-e", "--environment"):
                named = value
            elif option in ("--cwd", "--directory", "--project", "-C"):
                directory = executables.absolute(value, directory)
        if not words:
            result.reason = "%s is given nothing to run" % full
            return
        if conda and prefix is None:
            prefix = start_environments.conda_prefix(place, full, named, environ)
        elif not conda:
            prefix = start_environments.project_environment(place, called, environ, directory, named)
        environ = dict(environ)
        if prefix is not None:
            result.chain.append("%s run uses the environment %s" % (called, prefix))
            environ["PATH"] = prefix + "/bin:" + (environ.get("PATH") or executables.DEFAULT_PATH)
        else:
            result.chain.append("%s run, in an environment that was not found" % called)
        if called == "uv" and words[0].endswith(".py"):
            words = ["python"] + words
        self.follow(words, environ, directory, start_errors.Speaker())


def _why(full: "str", execution: "executables.Execution") -> "str":
    """Why the kernel refuses a file that is there, in one line."""
    error, asked = execution.error, execution.asked
    if asked is not None and asked.endswith("\r"):
        return "%s asks for %s and a carriage return: Windows line endings" % (execution.scripts[-1], asked[:-1])
    if error == ENOENT and asked is not None and execution.scripts:
        return "%s asks for %s, which is not there or asks for something that is not" % (execution.scripts[-1], asked)
    if error == ENOENT:
        return "%s asks for a dynamic loader that is not there: it was built for another C library" % full
    if execution.foreign:
        return "%s was built for another machine" % execution.path
    if error == ENOEXEC:
        return "%s has no first line that names its interpreter, such as #!/bin/sh" % execution.path
    return "%s cannot be executed: %s" % (full, error)


def _why_not_found(place: "Place", name: "str", path: "Optional[str]", error: "str", chain: "List[str]") -> "str":
    if name.endswith("\r"):
        asking = chain[-1].split(" ", 1)[0] if chain else "the start command"
        return "%s asks for %s and a carriage return: Windows line endings" % (asking, name[:-1])
    if path is None or error == ENOENT:
        return "%s is not there" % (path or name or "nothing")
    if place.is_dir(path):
        return "%s is a directory" % path
    return "%s is not executable" % path


def _arguments(execution: "executables.Execution") -> "int":
    """How many arguments the first file was given: what stands behind its own name."""
    if not execution.scripts:
        return len(execution.argv) - 1
    first = execution.scripts[0]
    return len(execution.argv) - 1 - execution.argv.index(first) if first in execution.argv else 0


def _last(chain: "List[str]") -> "str":
    return chain[-1] if chain else "the start command"


def _is_text(place: "Place", path: "str") -> "bool":
    """What a shell takes for a script: no NUL byte in its first line (POSIX), and something in it."""
    head = executables.head_of(place, path, 128) or b""
    return b"\0" not in head and not head.startswith(b"\x7fELF")


def _rank(launch: "_Launch", trial: "StartCommand") -> "int":
    """Which of a script's commands is the service: one that leads to Python, ``exec`` first, then the last."""
    rank = 1
    if trial.interpreter is not None:
        rank += 40
    if launch.replaces:
        rank += 20 + (20 if launch.certain else 0)
    if launch.last:
        rank += 10
    if trial.problem is not None:
        rank += 30
    return rank


# --- a shell script, read


class _Launch:
    """A command of a script that starts another program.

    ``replaces``  it stands behind ``exec``
    ``certain``   it stands at the top of the script, behind no condition
    ``sure``      and nothing before it can have changed what it meets
    ``last``      nothing comes after it
    ``decisive``  the script ends where it fails (set -e)
    ``tolerated`` something else is done where it fails
    """

    def __init__(
        self, words: "List[str]", line: "int", environ: "Dict[str, Optional[str]]", directory: "str"
    ) -> "None":
        self.words = words
        self.line = line
        self.environ = environ
        self.directory = directory
        self.replaces = self.certain = self.sure = self.last = self.decisive = self.tolerated = False


class _ShellRun:
    """Goes through the commands of a script and keeps what they set.

    ``launches``  what it would start, up to the first unconditional ``exec``
    ``problem``   what ends it before
    ``sure``      nothing was met so far that only a run can tell
    """

    def __init__(self, place: "Place", scope: "Scope", directory: "str", kind: "str", stops: "bool") -> "None":
        self.launches = []  # type: List[_Launch]
        self.problem = None  # type: Optional[Tuple[str, bool]]
        self.sure = True
        self._place = place
        self._scope = scope
        self._directory = directory
        self._kind = kind
        self._stops = stops
        self._ended = False

    def read(self, text: "str") -> "None":
        """Go through a script."""
        for command in shell_script.commands(text):
            if self._ended:
                break
            self._command(command)
        if self.launches and not self._ended:
            top = [launch for launch in self.launches if launch.certain]
            if top and top[-1] is self.launches[-1]:
                self.launches[-1].last = True

    def _command(self, command: "Command") -> "None":
        certain = command.depth == 0 and command.before not in ("&&", "||", "|", "|&")
        words = self._scope.words(command.words)
        if not words:
            for name, raw in command.assignments:
                self._assign(name, raw, certain)
            return
        name, rest = words[0], words[1:]
        replaces = False
        if name in ("command", "builtin") and rest and not rest[0].startswith("-"):
            name, rest = rest[0], rest[1:]
        if name == "exec":
            while rest and rest[0] in ("-a", "-c", "-l"):
                rest = rest[2:] if rest[0] == "-a" else rest[1:]
            if rest[:1] == ["--"]:
                rest = rest[1:]
            if not rest:
                return  # redirections only
            name, rest, replaces = rest[0], rest[1:], True
        if replaces:
            self._launch([name] + rest, command, certain, True)
            self._ended = certain and command.after not in ("||",)
        elif name in ("export", "local", "declare", "typeset", "readonly"):
            for raw in command.words[1:]:
                variable, sign, value = raw.partition("=")
                if sign and not variable.startswith("-"):
                    self._assign(variable, value, certain)
        elif name == "set":
            self._set(rest, certain)
        elif name == "shift":
            if self._scope.arguments and certain:
                count = int(rest[0]) if rest and rest[0].isdecimal() and len(rest[0]) < 10 else 1
                self._scope.arguments = self._scope.arguments[count:]
            elif not certain:
                self.sure = False
        elif name == "cd" and rest:
            self._cd(rest, command, certain)
        elif name in (".", "source") and rest:
            self._source(rest[0], command, certain)
        elif name == "exit":
            self._ended = certain
        elif name in ("conda", "mamba", "micromamba") and rest[:1] == ["activate"]:
            prefix = start_environments.conda_prefix(
                self._place, name, rest[1] if len(rest) > 1 else None, self._scope.variables
            )
            self._activate(prefix)
        elif name not in _BUILTINS:
            self._launch([name] + rest, command, certain, False)
            if certain and command.after not in ("&&", "||", "|", "&"):
                self.sure = False  # it may have made or changed anything
            elif command.after != "&":
                self.sure = False

    def _launch(self, words: "List[str]", command: "Command", certain: "bool", replaces: "bool") -> "None":
        environ = dict(self._scope.variables)
        for name, raw in command.assignments:
            environ[name] = self._scope.text(raw)
        launch = _Launch(words, command.line, environ, self._directory)
        launch.replaces = replaces
        launch.certain = certain
        launch.sure = self.sure and certain and not command.spans and command.after not in ("||", "|", "&")
        launch.tolerated = command.after == "||"
        launch.decisive = certain and (
            (replaces and command.after != "||") or (self._stops and command.after in ("\n", ";"))
        )
        self.launches.append(launch)

    def _assign(self, name: "str", raw: "str", certain: "bool") -> "None":
        value = self._scope.text(raw)
        known = self._scope.variables.get(name)
        if certain or not known:
            self._scope.variables[name] = None if value == shell_script.UNKNOWN else value
        if not certain:
            self.sure = False

    def _set(self, words: "List[str]", certain: "bool") -> "None":
        while words:
            word = words[0]
            words = words[1:]
            if word == "--" or not word.startswith(("-", "+")):
                if certain:
                    self._scope.arguments = words if word == "--" else [word] + words
                else:
                    self.sure = False  # the arguments that it starts with may be put behind a default program
                return
            if word in ("-o", "+o"):
                self._stops = self._stops or (word == "-o" and words[:1] == ["errexit"])
                words = words[1:]
            elif word.startswith("-"):
                self._stops = self._stops or "e" in word
                if word.endswith("o"):  # set -euo pipefail
                    words = words[1:]
            elif "e" in word:
                self._stops = False

    def _cd(self, rest: "List[str]", command: "Command", certain: "bool") -> "None":
        target = next((word for word in rest if not word.startswith("-")), "")
        if not target or shell_script.UNKNOWN in target:
            self.sure = False
            return
        folder = executables.absolute(target, self._directory)
        if self._place.is_dir(folder):
            if command.depth == 0:
                self._directory = folder
            return
        if certain and (self._stops or command.after == "&&"):
            name = self._scope.name
            if self._kind == "dash":
                text = "%s: %d: cd: can't cd to %s" % (name, command.line, target)
            else:
                text = "%s: line %d: cd: %s: No such file or directory" % (name, command.line, target)
            self.problem = (
                text,
                self.sure and self._kind != "busybox" and not os.path.exists(self._place.real(folder)),
            )
            self._ended = True
        self.sure = False

    def _source(self, name: "str", command: "Command", certain: "bool") -> "None":
        if shell_script.UNKNOWN in name or "/" not in name:
            self.sure = False
            return
        path = executables.absolute(name, self._directory)
        data = executables.head_of(self._place, path, SCRIPT_LIMIT)
        if data is not None:
            text = data.decode("utf-8", "replace")
            if path.endswith("/bin/activate") and "VIRTUAL_ENV" in text:
                self._activate(path[: -len("/bin/activate")])
            elif path.endswith("/bin/activate"):
                self._activate(path[: -len("/bin/activate")])
                self.sure = False
            else:
                for inner in shell_script.commands(text):
                    if not inner.words or inner.words[0] in ("export", "set"):
                        self._command(inner)
                self.sure = False
            return
        if certain and not os.path.exists(self._place.real(path)) and command.after not in ("||", "|", "&"):
            if self._kind == "dash":
                text = "%s: %d: .: cannot open %s: No such file" % (self._scope.name, command.line, name)
                self.problem = (text, self.sure)
                self._ended = True
            elif self._stops:
                text = "%s: line %d: %s: No such file or directory" % (self._scope.name, command.line, name)
                self.problem = (text, self.sure and self._kind != "busybox")
                self._ended = True
        self.sure = False

    def _activate(self, prefix: "Optional[str]") -> "None":
        if prefix is None:
            self.sure = False
            return
        path = self._scope.variables.get("PATH", executables.DEFAULT_PATH)
        self._scope.variables["PATH"] = "%s/bin:%s" % (prefix, path) if path is not None else None
        self._scope.variables["VIRTUAL_ENV"] = prefix
