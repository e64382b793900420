"""What a pickle refers to, read from its opcodes. Nothing is unpickled: no name is looked up, no object is made.

The stack is kept, because a name may be put together from texts that lie on it, and because joblib writes the bytes of
an array behind the object that describes it. On it are texts, small numbers, tuples and dicts as they are, and for
every other value a stand-in.

Source: the comments in CPython's Lib/pickletools.py, and joblib/numpy_pickle.py.
"""

import struct

from . import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .bounded import Reader

# An honest pickle of a model has some thousand opcodes, and ten million take half a minute to walk.
STEP_LIMIT = 4000000
STACK_LIMIT = 500000
GLOBAL_LIMIT = 2000
TEXT_LIMIT = 300
ENTRY_LIMIT = 1000
NESTING_LIMIT = 8
# No file is as long; the product of a shape of half a million huge numbers would take hours.
ARRAY_LIMIT = 1 << 62

# The number that the old format of torch.save begins with (torch/serialization.py).
TORCH_MAGIC = 0x1950A86A20F9469CFC6C

# Fields of the nodes of scikit-learn's trees (sklearn/tree/_tree.pyx, NODE_DTYPE), by which its versions differ.
TREE_FIELDS = frozenset(
    [
        "left_child",
        "right_child",
        "feature",
        "threshold",
        "impurity",
        "n_node_samples",
        "weighted_n_node_samples",
        "missing_go_to_left",
    ]
)

# What makes a random generator of NumPy, from its name or since NumPy 2 from its class (numpy/random/_pickle.py).
GENERATOR_MAKERS = frozenset(["numpy.random._pickle.__bit_generator_ctor"])


class Thing:
    """An object that would be made: of which class or function, and from what."""

    __slots__ = ("arguments", "of", "state")

    def __init__(self, of: "str", arguments: "Any" = None) -> "None":
        self.of = of
        self.arguments = arguments
        self.state = None  # type: Any


class Name:
    """A class or function, ``module`` and ``name``."""

    __slots__ = ("module", "name")

    def __init__(self, module: "str", name: "str") -> "None":
        self.module = module
        self.name = name

    def __str__(self) -> "str":
        return self.module + "." + self.name


class Scan:
    """What one pickle, or several after each other, refer to.

    ``globals``     ``{(module, name): position}``: the order in which they are met first
    ``protocol``    the highest that is stated; 0 where none is
    ``estimators``  ``{(class, version): position}`` of scikit-learn, in the order in which they would be restored
    ``generators``  random generators of NumPy that are named by their class, as NumPy 2 began to write, each with how
                    many names are met before it is made
    ``tree_fields`` fields of scikit-learn's tree nodes that are named, where a tree is; again with that number
    ``hidden``      names that are computed while unpickling, and cannot be read
    """

    def __init__(self) -> "None":
        self.globals = {}  # type: Dict[Tuple[str, str], int]
        self.protocol = 0
        self.estimators = {}  # type: Dict[Tuple[str, str], int]
        self.generators = {}  # type: Dict[str, int]
        self.texts = {}  # type: Dict[str, int]
        self.hidden = 0
        self.arrays = 0
        self.steps = 0

    @property
    def tree_fields(self) -> "Dict[str, int]":
        return self.texts if any(name == "Tree" for _, name in self.globals) else {}


def scan(reader: "Reader", found: "Scan", nesting: "int" = 0) -> "Any":
    """Walk one pickle, up to its STOP. Returns the value, as far as it is kept.

    Raises:
        Cut, Malformed, TooLong: of ``bounded``; what was found so far stands in ``found``.
    """
    if nesting > NESTING_LIMIT:
        raise bounded.Malformed("pickles nested too deeply")
    return _Machine(reader, found, nesting).run()


class _Machine:
    def __init__(self, reader: "Reader", found: "Scan", nesting: "int") -> "None":
        self.reader = reader
        self.found = found
        self.nesting = nesting
        self.stack = []  # type: List[Any]
        self.marks = []  # type: List[List[Any]]
        self.memo = {}  # type: Dict[int, Any]
        self.memoized = 0
        self.protocol = 0

    def run(self) -> "Any":
        read, found = self.reader.read, self.found
        actions = _ACTIONS
        while True:
            found.steps += 1
            if found.steps > STEP_LIMIT:
                raise bounded.TooLong("only the first %d of its instructions are read" % STEP_LIMIT)
            code = read(1)
            if code == b".":
                return self.pop()
            action = actions.get(code)
            if action is None:
                raise bounded.Malformed("no instruction of a pickle: %r" % code)
            action(self)
            if len(self.stack) > STACK_LIMIT or len(self.marks) > STACK_LIMIT or len(self.memo) > STACK_LIMIT:
                raise bounded.TooLong("it holds more at once than is kept")

    def pop(self) -> "Any":
        if not self.stack:
            raise bounded.Malformed("it takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> "Any":
        if not self.stack:
            raise bounded.Malformed("it asks for a value of an empty stack")
        return self.stack[-1]

    def to_mark(self) -> "List[Any]":
        if not self.marks:
            raise bounded.Malformed("it goes back to a mark that is not there")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: "Any") -> "None":
        self.stack.append(value)

    def push_text(self, data: "bytes") -> "None":
        text = bounded.printable(data.decode("utf-8", "replace"), TEXT_LIMIT)
        if text in TREE_FIELDS:
            self.found.texts.setdefault(text, len(self.found.globals))
        self.stack.append(text)

    def sized(self, form: "str", keep: "bool") -> "None":
        """A text or bytes behind its length; bytes are not kept, and neither is a text that is no name."""
        length = self.reader.number(form)
        if length < 0:
            raise bounded.Malformed("a negative length")
        if keep and length <= TEXT_LIMIT:
            self.push_text(self.reader.read(length))
        else:
            self.reader.skip(length)
            self.stack.append(None)

    def refer(self, module: "Any", name: "Any") -> "None":
        if not (isinstance(module, str) and isinstance(name, str)):
            self.found.hidden += 1
            self.stack.append(None)
            return
        if self.protocol < 3:
            module, name = _of_python_3(module, name)
        key = (module, name)
        if key not in self.found.globals:
            if len(self.found.globals) >= GLOBAL_LIMIT:
                raise bounded.TooLong("it names more than %d classes and functions" % GLOBAL_LIMIT)
            self.found.globals[key] = len(self.found.globals)
        self.stack.append(Name(module, name))

    def call(self, function: "Any", arguments: "Any") -> "None":
        """What REDUCE, NEWOBJ and their like leave on the stack."""
        if isinstance(function, Name):
            of = str(function)
            first = arguments[0] if isinstance(arguments, tuple) and arguments else None
            if of in GENERATOR_MAKERS and isinstance(first, Name):
                self.found.generators.setdefault(str(first), len(self.found.globals))
            # An object whose class is the first argument (copyreg._reconstructor, __newobj__).
            if function.module == "copyreg" and isinstance(first, Name):
                of = str(first)
            self.stack.append(Thing(of, arguments))
        else:
            self.stack.append(None)

    def put(self, index: "int") -> "None":
        value = self.top()
        if value is not None:  # what is not kept on the stack need not be kept here
            self.memo[index] = value

    def memoize(self) -> "None":
        self.put(self.memoized)
        self.memoized += 1

    def get(self, index: "int") -> "None":
        self.stack.append(self.memo.get(index))

    def build(self) -> "None":
        state = self.pop()
        thing = self.top()
        if not isinstance(thing, Thing):
            return
        thing.state = state
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
            state = state[0]
        if not isinstance(state, dict):
            return
        version = state.get("_sklearn_version")
        if isinstance(version, str) and len(self.found.estimators) < GLOBAL_LIMIT:
            key = (thing.of.rpartition(".")[2], version)
            self.found.estimators.setdefault(key, len(self.found.estimators))
        if thing.of.endswith("joblib.numpy_pickle.NumpyArrayWrapper"):
            self.array(state)

    def array(self, state: "Dict[str, Any]") -> "None":
        """Skip the bytes of the array that joblib wrote behind its description."""
        self.found.arrays += 1
        shape, dtype = state.get("shape"), state.get("dtype")
        size, objects = _item(dtype)
        if objects:
            scan(self.reader, self.found, self.nesting + 1)
            return
        if not isinstance(shape, tuple) or size is None:
            raise bounded.TooLong("an array whose size cannot be read")
        count = size
        for length in shape:
            if not isinstance(length, int) or not 0 <= length <= ARRAY_LIMIT or count > ARRAY_LIMIT:
                raise bounded.TooLong("an array whose size cannot be read")
            count *= length
        if state.get("numpy_array_alignment_bytes") is not None:
            self.reader.skip(self.reader.number("<B"))
        self.reader.skip(count)

    def set_items(self, target: "Any", items: "List[Any]") -> "None":
        if isinstance(target, dict) and len(target) < ENTRY_LIMIT:
            for key, value in zip(items[0::2], items[1::2]):
                if isinstance(key, str):
                    target[key] = value


def _item(dtype: "Any") -> "Tuple[Optional[int], bool]":
    """Bytes of one item of a ``numpy.dtype``, and whether its items are objects."""
    if not isinstance(dtype, Thing) or not isinstance(dtype.arguments, tuple) or not dtype.arguments:
        return None, False
    name = dtype.arguments[0]
    if not isinstance(name, str):
        return None, False
    state = dtype.state if isinstance(dtype.state, tuple) else ()
    flags = state[7] if len(state) > 7 and isinstance(state[7], int) else 0
    if name.startswith("O") or flags & 1:  # NPY_ITEM_HASOBJECT
        return None, True
    if len(state) > 5 and isinstance(state[5], int) and state[5] >= 0:
        return state[5], False
    digits = name.lstrip("<>|=biufcmMSUVO?")
    size = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
    return (4 * size if "U" in name else size) or None, False


def _of_python_3(module: "str", name: "str") -> "Tuple[str, str]":
    """As ``pickle.load`` reads a name of Python 2 in protocols 0 to 2."""
    import _compat_pickle

    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
        return module, name
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


# One function an opcode.


def _line_text(machine: "_Machine") -> "None":
    machine.push_text(machine.reader.line().strip(b"'\""))


def _line(machine: "_Machine") -> "None":
    machine.reader.line()
    machine.push(None)


def _line_number(machine: "_Machine") -> "None":
    text = machine.reader.line().rstrip(b"L")
    digits = text[1:] if text.startswith(b"-") else text
    machine.push(int(text) if digits.isdigit() and len(digits) < 20 else None)


def _long(form: "str") -> "Callable[[_Machine], None]":
    def action(machine: "_Machine") -> "None":
        length = machine.reader.number(form)
        if 0 <= length <= 16:
            machine.push(int.from_bytes(machine.reader.read(length), "little", signed=True))
        else:
            machine.reader.skip(length)
            machine.push(None)

    return action


def _tuple(count: "int") -> "Callable[[_Machine], None]":
    def action(machine: "_Machine") -> "None":
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return action


def _pushing(value: "Any") -> "Callable[[_Machine], None]":
    return lambda machine: machine.push(value)


def _numbered(form: "str") -> "Callable[[_Machine], None]":
    return lambda machine: machine.push(machine.reader.number(form))


def _sized(form: "str", keep: "bool") -> "Callable[[_Machine], None]":
    return lambda machine: machine.sized(form, keep)


def _skipping(count: "int", pushes: "bool") -> "Callable[[_Machine], None]":
    def action(machine: "_Machine") -> "None":
        machine.reader.skip(count)
        if pushes:
            machine.push(None)

    return action


def _mark(machine: "_Machine") -> "None":
    machine.marks.append(machine.stack)
    machine.stack = []


def _protocol(machine: "_Machine") -> "None":
    machine.protocol = machine.reader.number("<B")
    machine.found.protocol = max(machine.found.protocol, machine.protocol)


def _reduce(machine: "_Machine") -> "None":
    arguments = machine.pop()
    machine.call(machine.pop(), arguments)


def _new_object(machine: "_Machine") -> "None":
    arguments = machine.pop()
    machine.call(machine.pop(), arguments)


def _new_object_with_keywords(machine: "_Machine") -> "None":
    machine.pop()
    _new_object(machine)


def _global(machine: "_Machine") -> "None":
    module = machine.reader.line(TEXT_LIMIT)
    name = machine.reader.line(TEXT_LIMIT)
    machine.refer(module.decode("utf-8", "replace"), name.decode("utf-8", "replace"))


def _stack_global(machine: "_Machine") -> "None":
    name = machine.pop()
    machine.refer(machine.pop(), name)


def _instance(machine: "_Machine") -> "None":
    arguments = tuple(machine.to_mark())
    _global(machine)
    machine.call(machine.pop(), arguments)


def _object(machine: "_Machine") -> "None":
    items = machine.to_mark()
    machine.call(items[0] if items else None, tuple(items[1:]))


def _extension(form: "str") -> "Callable[[_Machine], None]":
    def action(machine: "_Machine") -> "None":
        machine.reader.skip(struct.calcsize(form))
        machine.found.hidden += 1
        machine.push(None)

    return action


def _set_item(machine: "_Machine") -> "None":
    value = machine.pop()
    key = machine.pop()
    machine.set_items(machine.top(), [key, value])


def _set_items(machine: "_Machine") -> "None":
    items = machine.to_mark()
    machine.set_items(machine.top(), items)


def _dict(machine: "_Machine") -> "None":
    items = machine.to_mark()
    machine.push({})
    machine.set_items(machine.top(), items)


def _dropping(machine: "_Machine") -> "None":
    """Values join a list or a set, whose contents are not kept."""
    machine.to_mark()
    machine.top()


def _line_index(machine: "_Machine") -> "int":
    text = machine.reader.line(64)
    if not text.isdigit() or len(text) > 12:
        raise bounded.Malformed("no number of a memo")
    return int(text)


def _replaced(machine: "_Machine") -> "None":
    machine.pop()
    machine.push(None)


def _from_mark(machine: "_Machine") -> "None":
    machine.to_mark()
    machine.push(None)


_ACTIONS = {
    b"(": _mark,
    b"0": lambda machine: machine.pop() if machine.stack else machine.to_mark(),
    b"1": lambda machine: machine.to_mark(),
    b"2": lambda machine: machine.push(machine.top()),
    b"F": _line,
    b"I": _line_number,
    b"J": _numbered("<i"),
    b"K": _numbered("<B"),
    b"L": _line_number,
    b"M": _numbered("<H"),
    b"N": _pushing(None),
    b"P": _line,
    b"Q": _replaced,
    b"R": _reduce,
    b"S": _line_text,
    b"T": _sized("<i", True),
    b"U": _sized("<B", True),
    b"V": _line_text,
    b"X": _sized("<I", True),
    b"a": lambda machine: (machine.pop(), machine.top()),
    b"b": lambda machine: machine.build(),
    b"c": _global,
    b"d": _dict,
    b"}": lambda machine: machine.push({}),
    b"e": _dropping,
    b"g": lambda machine: machine.get(_line_index(machine)),
    b"h": lambda machine: machine.get(machine.reader.number("<B")),
    b"i": _instance,
    b"j": lambda machine: machine.get(machine.reader.number("<I")),
    b"l": _from_mark,
    b"]": _pushing(None),
    b"o": _object,
    b"p": lambda machine: machine.put(_line_index(machine)),
    b"q": lambda machine: machine.put(machine.reader.number("<B")),
    b"r": lambda machine: machine.put(machine.reader.number("<I")),
    b"s": _set_item,
    b"t": lambda machine: machine.push(tuple(machine.to_mark())),
    b")": _pushing(()),
    b"u": _set_items,
    b"G": _skipping(8, True),
    b"\x80": _protocol,
    b"\x81": _new_object,
    b"\x82": _extension("<B"),
    b"\x83": _extension("<H"),
    b"\x84": _extension("<i"),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"\x88": _pushing(True),
    b"\x89": _pushing(False),
    b"\x8a": _long("<B"),
    b"\x8b": _long("<i"),
    b"B": _sized("<I", False),
    b"C": _sized("<B", False),
    b"\x8c": _sized("<B", True),
    b"\x8d": _sized("<Q", True),
    b"\x8e": _sized("<Q", False),
    b"\x8f": _pushing(None),
    b"\x90": _dropping,
    b"\x91": _from_mark,
    b"\x92": _new_object_with_keywords,
    b"\x93": _stack_global,
    b"\x94": lambda machine: machine.memoize(),
    b"\x95": _skipping(8, False),
    b"\x96": _sized("<Q", False),
    b"\x97": _pushing(None),
    b"\x98": lambda machine: machine.top(),
}  # type: Dict[bytes, Callable[[_Machine], Any]]
