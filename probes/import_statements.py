"""Which modules a Python source imports, and what becomes of an import that fails.

The source is parsed, never run. Of each statement that imports something it is told when it runs, and who catches the
ImportError of a file that the dynamic loader refuses:

``plain``        it runs whenever the source is imported, and nothing catches
``reworded``     the same, and a handler raises an error of its own
``conditional``  it runs on a condition, or a handler may raise
``function``     it runs when a function is called, and nothing catches
``guarded``      a handler catches the error and goes on

``except ModuleNotFoundError`` and ``except OSError`` do not catch it: the import of an extension module whose library
is missing raises a plain ImportError. A module that is not found at all is told apart: see ``Statement.absent``. Part
of the probe ``libraries``.
"""

if __name__ == "__main__":
    raise SystemExit("import_statements.py is part of the probe libraries.py and measures nothing by itself")

import builtins
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from typing import Any, Dict, List, Optional, Set, Tuple  # noqa: F401

PLAIN = "plain"
REWORDED = "reworded"
CONDITIONAL = "conditional"
FUNCTION = "function"
GUARDED = "guarded"

# The one that says most of what fails comes first.
WAYS = (PLAIN, REWORDED, CONDITIONAL, FUNCTION, GUARDED)
CERTAIN = (PLAIN, REWORDED)

# Sources of people stay below these. A byte of punctuation is a node of the syntax tree, of a kilobyte; two can be one
# more level of nesting, which the parser of Python before 3.11 follows on the stack of C to its end.
SOURCE_LIMIT = 1 << 20
WEIGHT_LIMIT = 150000
_BOUNDED = sys.version_info >= (3, 11)  # type: bool
_STACK = 64 << 20

# What may be done with a caught error so that it goes nowhere.
_TELLING = frozenset(
    ["critical", "debug", "error", "exception", "format", "info", "isinstance", "log", "print", "repr", "str", "type"]
    + ["warn", "warning"]
)
_PUTS = frozenset(["append", "extend", "insert", "setdefault", "update"])
# A function of such a name presumably raises in its turn.
_ENDING = re.compile(r"raise|exit|abort|fail|fatal|die$", re.IGNORECASE)


class Statement:
    """One import. ``module`` absolute; ``attribute`` the name that ``from module import attribute`` takes out of it,
    which may be a module too; ``bound`` the name that it gets in ``scope``, which numbers the functions of the source.

    ``way``     what becomes of an ImportError, which ``from package import attribute`` raises for want of a module too
    ``absent``  what becomes of the ModuleNotFoundError where ``module`` is not found
    ``caught``  a handler is there for it, which raises on a condition, or keeps the error
    """

    __slots__ = ("absent", "attribute", "bound", "caught", "line", "module", "scope", "way")

    def __init__(
        self, module: "str", attribute: "Optional[str]", line: "int", way: "str", scope: "int", bound: "str"
    ) -> "None":
        self.module = module
        self.attribute = attribute
        self.line = line
        self.way = way
        self.absent = way
        self.caught = False
        self.scope = scope
        self.bound = bound

    def names(self) -> "List[str]":
        """The modules that it may import: ``from a.b import c`` imports ``a.b``, and ``a.b.c`` where that is one."""
        if self.attribute is None or self.attribute == "*":
            return [self.module]
        return [self.module, self.module + "." + self.attribute]


class Source:
    """What a source says: its imports in their order, and the names that it binds otherwise at its top level.

    ``stars``  it takes names from elsewhere that do not stand in it (``import *``, a ``__getattr__`` of its own)
    """

    def __init__(self) -> "None":
        self.imports = []  # type: List[Statement]
        self.names = set()  # type: Set[str]
        self.stars = False


def read(data: "bytes", module: "str", is_package: "bool") -> "Optional[Source]":
    """The imports of a source that is imported as ``module``; None where it cannot be parsed."""
    if len(data) > SOURCE_LIMIT or weight(data) > WEIGHT_LIMIT or b"\0" in data:
        return None
    if _BOUNDED:
        return _parsed(data, module, is_package)
    # The parser of an older Python may take any amount of stack, and its syntax tree the same again when it goes.
    import threading

    answers = []  # type: List[Optional[Source]]
    before = threading.stack_size()
    try:
        threading.stack_size(_STACK)
        thread = threading.Thread(target=lambda: answers.append(_parsed(data, module, is_package)))
        thread.start()
        thread.join()
    except (RuntimeError, ValueError):
        return None
    finally:
        threading.stack_size(before)
    return answers[0] if answers else None


def weight(data: "bytes") -> "int":
    """How much a source has to parse: lines and punctuation. A megabyte of real code weighs about 200,000."""
    return len(data) - len(data.translate(None, _PUNCTUATION)) + 2 * data.count(b"\n")


_PUNCTUATION = b"\n+-*/%@&|^~<>=.,:;()[]{}"


def _parsed(data: "bytes", module: "str", is_package: "bool") -> "Optional[Source]":
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a "\d" in somebody's source
            tree = ast.parse(data)
        reader = _Reader(ast, module, is_package, tree)
        reader.block(tree.body, PLAIN, 0)
        others = reader.source.imports
        if b"ModuleNotFoundError" in data:
            other = _Reader(ast, module, is_package, tree, ModuleNotFoundError)
            other.block(tree.body, PLAIN, 0)
            others = other.source.imports
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None
    for statement, same in zip(reader.source.imports, others):
        statement.absent = same.way
        statement.caught |= same.caught
    return reader.source


class _Reader:
    """``raised`` is the class of the error of which it is asked who catches it."""

    def __init__(
        self, ast: "Any", module: "str", is_package: "bool", tree: "Any", raised: "type" = ImportError
    ) -> "None":
        self.ast = ast
        self.raised = raised
        self.top = tree.body
        self.source = Source()
        self.package = module if is_package else module.rpartition(".")[0]
        self.scopes = 0
        self.tries = tuple(getattr(ast, name) for name in ("Try", "TryStar") if hasattr(ast, name))
        self.functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        self.loops = (ast.For, ast.AsyncFor, ast.While)
        self.own = {}  # type: Dict[str, List[Any]]
        for node in ast.walk(tree):
            if isinstance(node, self.functions):
                self.own.setdefault(node.name, []).append(node)
        self.followed = set()  # type: Set[str]
        self.tried = 0  # how many "try" with a handler that goes on are around
        self.lenient = False  # the handler that was read last may go on
        self.caught = 0  # how many of such a "try" are around
        self.replaces = False  # whoever put modules or finders into these decides what an import finds

    def block(self, statements: "List[Any]", way: "str", scope: "int") -> "None":
        ast = self.ast
        for node in statements:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".", 1)[0]
                    self._add(alias.name, None, node, way, scope, bound)
            elif isinstance(node, ast.ImportFrom):
                self._from(node, way, scope)
            elif isinstance(node, self.functions):
                self._bind(node.name, way)
                self.scopes += 1
                self.block(node.body, FUNCTION, self.scopes)
            elif isinstance(node, ast.ClassDef):
                self._bind(node.name, way)
                self.scopes += 1
                self.block(node.body, way, self.scopes)
            elif isinstance(node, ast.If):
                self._if(node, way, scope)
            elif isinstance(node, self.tries):
                self._try(node, way, scope)
            elif isinstance(node, (ast.With, ast.AsyncWith)):
                self.block(node.body, self._with(node, way), scope)
            elif isinstance(node, self.loops):
                self.block(node.body, perhaps(way), scope)
                self.block(node.orelse, perhaps(way), scope)
            elif type(node).__name__ == "Match":
                for case in node.cases:
                    self.block(case.body, perhaps(way), scope)
            else:
                self._simple(node, way, scope)
                if not scope and isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                    self._follow(node.value, way)

    def _follow(self, call: "Any", way: "str") -> "None":
        """A function that the source calls where it is imported, as cv2 does: what that imports."""
        name = call.func.id if isinstance(call.func, self.ast.Name) else ""
        known = self.own.get(name, [])
        if len(known) != 1 or known[0] not in self.top or name in self.followed:
            return
        function = known[0]
        if function.decorator_list or not isinstance(function, self.ast.FunctionDef):
            return
        self.followed.add(name)
        way = perhaps(way) if self.tried else way
        self.scopes += 1
        scope = self.scopes
        for node in function.body:
            self.block([node], way, scope)
            if self._contains(node, (self.ast.Return, self.ast.Yield, self.ast.YieldFrom)):
                way = perhaps(way)  # what follows may be left out

    def _contains(self, node: "Any", kinds: "Tuple[Any, ...]") -> "bool":
        waiting = [node]
        for one in waiting:
            if isinstance(one, kinds):
                return True
            if not isinstance(one, (self.ast.Lambda,) + self.functions):
                waiting.extend(self.ast.iter_child_nodes(one))
        return False

    def _add(
        self, module: "str", attribute: "Optional[str]", node: "Any", way: "str", scope: "int", bound: "str"
    ) -> "None":
        if self.replaces:
            way = perhaps(way)
        statement = Statement(module, attribute, node.lineno, way, scope, bound)
        statement.caught = self.caught > 0
        self.source.imports.append(statement)

    def _bind(self, name: "str", way: "str") -> "None":
        if way != FUNCTION:
            self.source.names.add(name)
            self.source.stars |= name == "__getattr__"

    def _from(self, node: "Any", way: "str", scope: "int") -> "None":
        module = self._absolute(node.module or "", node.level or 0)
        if not module or module == "__future__":
            return
        for alias in node.names:
            self._add(module, alias.name, node, way, scope, alias.asname or alias.name)
            self.source.stars |= alias.name == "*" and way != FUNCTION

    def _absolute(self, name: "str", level: "int") -> "str":
        if not level:
            return name
        parts = self.package.split(".")
        if not self.package or level > len(parts):
            return ""
        return ".".join(parts[: len(parts) - level + 1] + ([name] if name else []))

    def _if(self, node: "Any", way: "str", scope: "int") -> "None":
        verdict = self._known(node.test)
        if verdict is not None:
            self.block(node.body if verdict else node.orelse, way, scope)
            return
        imports = self.source.imports
        first = len(imports)
        # A chain of "elif" is a nest to the parser, and none to its writer.
        branches = [node.body]
        orelse = node.orelse
        while len(orelse) == 1 and isinstance(orelse[0], self.ast.If) and self._known(orelse[0].test) is None:
            branches.append(orelse[0].body)
            orelse = orelse[0].orelse
        branches.append(orelse)
        starts = []
        for branch in branches:
            starts.append(len(imports))
            self.block(branch, way, scope)
        ends = [*starts[1:], len(imports)]
        # What every branch imports is imported whatever the condition says.
        made = [
            {(one.module, one.attribute) for one in imports[start:end] if one.way in CERTAIN}
            for start, end in zip(starts, ends)
        ]
        always = set.intersection(*made)
        for one in imports[first:]:
            if (one.module, one.attribute) not in always:
                one.way = perhaps(one.way)

    def _known(self, test: "Any") -> "Optional[bool]":
        """Whether a condition holds when the program runs, where its text says so."""
        ast = self.ast
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._known(test.operand)
            return None if inner is None else not inner
        if _last_name(ast, test) == "TYPE_CHECKING":
            return False
        value = getattr(test, "value", None) if type(test).__name__ in ("Constant", "NameConstant") else None
        return value if isinstance(value, bool) else None

    def _with(self, node: "Any", way: "str") -> "str":
        for item in node.items:
            call = item.context_expr
            name = _last_name(self.ast, call.func) if isinstance(call, self.ast.Call) else ""
            if name == "suppress" and self._catch(call.args):
                return GUARDED
            if name != "catch_warnings":
                way = perhaps(way)  # what it does with an error is not known
        return way

    def _try(self, node: "Any", way: "str", scope: "int") -> "None":
        self.lenient = False
        inside = self._caught(node.handlers, way)
        lenient = self.lenient
        self.caught += lenient
        if all(self._raised(handler.body, handler) is not None for handler in node.handlers):
            self.block(node.body, inside, scope)
        else:
            # What comes first is reached. It may raise something else that a handler ends, and the rest is not.
            compound = bool(node.body) and hasattr(node.body[0], "body")
            self.tried += 1
            self.block(node.body[:1], perhaps(inside) if compound else inside, scope)
            self.block(node.body[1:], perhaps(inside), scope)
            self.tried -= 1
        self.caught -= lenient
        for handler in node.handlers:
            self.block(handler.body, perhaps(way), scope)
        self.block(node.orelse, perhaps(way) if node.handlers else way, scope)
        self.block(node.finalbody, way, scope)

    def _caught(self, handlers: "List[Any]", way: "str") -> "str":
        """The way of what is tried, by the first handler that the error comes to."""
        for handler in handlers:
            catches = True if handler.type is None else self._catch([handler.type])
            if catches is None:
                return perhaps(way)
            if catches:
                return self._handled(handler, way)
        return way

    def _catch(self, types: "List[Any]") -> "Optional[bool]":
        """Whether one of these classes is that of the error or above it; None where that is not known."""
        unknown = False
        for one in types:
            if isinstance(one, self.ast.Tuple):
                found = self._catch(one.elts)
            else:
                known = getattr(builtins, one.id, None) if isinstance(one, self.ast.Name) else None
                found = None
                if isinstance(known, type) and issubclass(known, BaseException):
                    found = issubclass(self.raised, known)
            if found:
                return True
            unknown |= found is None
        return None if unknown else False

    def _handled(self, handler: "Any", way: "str") -> "str":
        ast = self.ast
        raised = self._raised(handler.body, handler)
        if raised is not None:
            return _reworded(way) if raised == REWORDED else way
        waiting = list(handler.body)
        for node in waiting:
            if isinstance(node, ast.Raise) or self._ends(node):
                self.lenient = True
                return perhaps(way)
            if isinstance(node, ast.Name) and node.id == handler.name:
                self.lenient = True
                return perhaps(way)  # kept, and perhaps raised somewhere else
            if isinstance(node, ast.Call) and self._tells(node):
                continue
            if not isinstance(node, (ast.JoinedStr, ast.Lambda, ast.BinOp) + self.functions):
                waiting.extend(ast.iter_child_nodes(node))
        return GUARDED

    def _raised(self, statements: "List[Any]", handler: "Any") -> "Optional[str]":
        """Whether a handler surely raises: the error that it caught (``plain``), or one of its own."""
        ast = self.ast
        for node in statements:
            if isinstance(node, ast.Raise):
                same = node.exc is None or (isinstance(node.exc, ast.Name) and node.exc.id == handler.name)
                return PLAIN if same else REWORDED
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and self._surely_ends(node.value):
                return REWORDED
            if self._raised_later(node, handler):
                return PLAIN
            if isinstance(node, ast.If):
                both = [self._raised(branch, handler) for branch in (node.body, node.orelse)]
                if None not in both:
                    return REWORDED if REWORDED in both else PLAIN
            if self._contains(node, (ast.Return, ast.Break, ast.Continue)):
                return None
        return None

    def _ends(self, node: "Any") -> "bool":
        """A call that presumably does not come back."""
        return isinstance(node, self.ast.Call) and _ENDING.search(_last_name(self.ast, node.func)) is not None

    def _surely_ends(self, call: "Any") -> "bool":
        """``sys.exit()``, or a function of this source whose body raises without a condition, as scikit-learn's."""
        if isinstance(call.func, self.ast.Attribute):
            return call.func.attr == "exit" and _last_name(self.ast, call.func.value) == "sys"
        known = self.own.get(_last_name(self.ast, call.func), [])
        if len(known) != 1 or known[0] not in self.top or not isinstance(known[0], self.ast.FunctionDef):
            return False
        for node in known[0].body:
            if isinstance(node, self.ast.Raise):
                return not known[0].decorator_list
            if self._contains(node, (self.ast.Return, self.ast.Yield, self.ast.YieldFrom)):
                return False
        return False

    def _tells(self, call: "Any") -> "bool":
        """A call that is given the error and does not raise: one that prints it, or a function of this source."""
        name = _last_name(self.ast, call.func)
        known = self.own.get(name) if isinstance(call.func, self.ast.Name) else None
        if known:
            return not any(self._contains(node, (self.ast.Raise,)) for one in known for node in one.body)
        return name in _TELLING

    def _raised_later(self, node: "Any", handler: "Any") -> "bool":
        """Whether the error gets a name that the top level raises further down, as onnxruntime does."""
        ast = self.ast
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            return False
        name = node.targets[0].id
        if not isinstance(node.value, ast.Name) or node.value.id != handler.name:
            return False
        for one in self.top:
            if isinstance(one, ast.If) and isinstance(one.test, ast.Name) and one.test.id == name:
                first = one.body[0]
                if one.lineno > handler.lineno and isinstance(first, ast.Raise) and isinstance(first.exc, ast.Name):
                    return bool(first.exc.id == name)
        return False

    def _simple(self, node: "Any", way: "str", scope: "int") -> "None":
        """A statement without a block: the names that it binds, and imports by a call."""
        ast = self.ast
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            waiting = list(targets)
            for target in waiting:
                if isinstance(target, ast.Name):
                    self._bind(target.id, way)
                    self.replaces |= target.id == "__path__" and way != FUNCTION
                elif isinstance(target, (ast.Tuple, ast.List)):
                    waiting.extend(target.elts)
        if way != FUNCTION and any(isinstance(one, ast.Subscript) and self._is_table(one.value) for one in targets):
            self.replaces = True
        value = getattr(node, "value", None)
        if not isinstance(value, ast.AST):
            return
        if way != FUNCTION and isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            self.replaces |= value.func.attr in _PUTS and self._is_table(value.func.value)
        for call in ast.walk(value):
            if isinstance(call, ast.Call) and call.args:
                module = self._by_call(call)
                if module:
                    name = next((target.id for target in targets if isinstance(target, ast.Name)), "")
                    self._add(module, None, call, way if call is value else perhaps(way), scope, name)

    def _is_table(self, node: "Any") -> "bool":
        """``sys.modules``, ``sys.meta_path`` and the like, and the ``__path__`` of a package."""
        if isinstance(node, self.ast.Name) and node.id == "__path__":
            return True
        return isinstance(node, self.ast.Attribute) and node.attr in ("modules", "meta_path", "path_hooks")

    def _by_call(self, call: "Any") -> "str":
        """The module of ``importlib.import_module("a.b")`` and ``__import__("a.b")``."""
        ast = self.ast
        name = _last_name(ast, call.func)
        text = _text(ast, call.args[0])
        if name not in ("import_module", "__import__") or not text or len(text) > 200:
            return ""
        bare = text.lstrip(".")
        level = len(text) - len(bare) if name == "import_module" else 0
        if level:
            anchors = call.args[1:2] + [word.value for word in call.keywords if word.arg == "package"]
            own = [_last_name(ast, one) == "__package__" or _text(ast, one) == self.package for one in anchors]
            if own != [True]:
                return ""
        return self._absolute(bare, level)


def perhaps(way: "str") -> "str":
    """The way of what runs, or goes through, on a condition."""
    return CONDITIONAL if way in CERTAIN else way


def _reworded(way: "str") -> "str":
    return REWORDED if way == PLAIN else way


def _last_name(ast: "Any", node: "Any") -> "str":
    """``c`` of ``a.b.c``; empty for what is no name."""
    if isinstance(node, ast.Attribute):
        return str(node.attr)
    return str(node.id) if isinstance(node, ast.Name) else ""


def _text(ast: "Any", node: "Any") -> "str":
    """The text of a literal; ``Str`` before Python 3.8."""
    if isinstance(node, ast.Constant) or type(node).__name__ == "Str":
        value = node.value if isinstance(node, ast.Constant) else node.s
        return value if isinstance(value, str) else ""
    return ""
