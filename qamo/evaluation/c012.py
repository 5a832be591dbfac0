"""Reads the pickles that ASVspoof 2021's t-DCF coefficients come in, without unpickling them: nothing is called.

The published layout is a NumPy array without dimensions that holds a dictionary: row -> column -> C0, C1, C2, each a
float64. Any other opcode, name, shape or type is refused. A file is read in about a second per MB.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_BYTES = 1_000_000  # the largest published file has fewer than 100 kB
MAX_CELLS = 10_000  # a row may stand in a file once and be meant a million times
NPY = b"\x93NUMPY"
MAX_TEXT = 64  # characters of a name; and bytes of a number, which has 8


class _Name(NamedTuple):
    """What the pickle would import; here a text and nothing else."""

    module: str
    name: str


class _Kind(NamedTuple):
    """A type of NumPy's: "f8" or "O8"."""

    code: str


class _Array:
    """An array of no dimensions, and what it holds once its state was read."""

    content: Any = None


_MARK = object()
_FLOAT, _OBJECT = _Kind("f8"), _Kind("O8")
_STATES = {  # of the two types, as NumPy writes them: version, byte order, no fields, no sizes, flags
    _FLOAT: (3, "<", None, None, None, -1, -1, 0),
    _OBJECT: (3, "|", None, None, None, -1, -1, 63),
}
_NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(f"numpy.{core}.multiarray", n): n for core in ("core", "_core") for n in ("_reconstruct", "scalar")},
}


def read_coefficients(data: bytes) -> dict[str, dict[str, dict[str, float]]]:
    """The dictionary in a pickle, or in a .npy file around one: row -> column -> name -> number.

    Raises:
        ValueError, LookupError, TypeError: the bytes are anything but the published layout.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data)} bytes, the published files fewer than 100,000")
    pickled = data
    if data.startswith(NPY):
        size = 2 if data[6] == 1 else 4
        pickled = data[8 + size + int.from_bytes(data[8 : 8 + size], "little") :]
    reader = _Reader()
    for opcode, argument, _ in pickletools.genops(pickled):  # ValueError at an unknown opcode and at an early end
        if opcode.name == "STOP":
            break
        reader.step(opcode.name, argument)
    if len(reader.stack) != 1:
        raise ValueError(f"{len(reader.stack)} values stand at its end, expected one")
    content = reader.stack[0]
    return _checked(content.content if isinstance(content, _Array) else content)


def _checked(nested: Any) -> dict[str, dict[str, dict[str, float]]]:
    """`nested` if it is three levels of dictionaries with texts as keys and numbers at the end."""

    def texts(value: Any, what: str) -> dict[str, Any]:
        if type(value) is not dict or not value or not all(type(key) is str for key in value):
            raise ValueError(f"it holds no dictionary of {what}")
        return value

    if sum(len(texts(of, "columns")) for of in texts(nested, "rows").values()) > MAX_CELLS:
        raise ValueError(f"it holds more than {MAX_CELLS} cells")
    result = {row: {column: texts(cell, "coefficients") for column, cell in of.items()} for row, of in nested.items()}
    numbers = [value for of in result.values() for cell in of.values() for value in cell.values()]
    if not all(type(value) is float for value in numbers):
        raise ValueError("a coefficient is not a float64")
    return result


class _Reader:
    """A stack and a memo, as a pickle needs them, with plain values, names as texts, and two types of NumPy's."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says, if a file of coefficients can hold it."""
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            if not isinstance(argument, (int, float)) and len(argument) > MAX_TEXT:
                raise ValueError(f"a text of {len(argument)} characters stands in it")
            self.stack.append(argument)
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._pop(int(opcode[-1]))))
        elif opcode not in ("PROTO", "FRAME"):
            self._compose(opcode, argument)

    def _pop(self, n: int) -> list[Any]:
        if len(self.stack) < n or any(value is _MARK for value in self.stack[-n:]):
            raise ValueError("a value is missing in it")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

    def _since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                values = self.stack[start + 1 :]
                del self.stack[start:]
                return values
        raise ValueError("a value is missing in it")

    def _compose(self, opcode: str, argument: Any) -> None:
        if opcode == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif opcode in ("LIST", "DICT"):
            self.stack.append(_pairs(self._since_mark()) if opcode == "DICT" else self._since_mark())
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if opcode == "SETITEM" else self._since_mark()
            self._top(dict).update(_pairs(items))
        elif opcode == "APPEND":
            (item,) = self._pop(1)
            self._top(list).append(item)
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            module, name = argument.split(" ", 1) if opcode == "GLOBAL" else self._pop(2)
            if (module, name) not in _NAMES:
                raise ValueError(f"it asks for {module}.{name}, which no file of coefficients needs")
            self.stack.append(_Name(module, name))
        elif opcode == "REDUCE":
            name, arguments = self._pop(2)
            self.stack.append(_value(name, arguments))
        elif opcode == "BUILD":
            value, state = self._pop(2)
            self.stack.append(_with_state(value, state))
        else:
            raise ValueError(f"it holds {opcode}, which no file of coefficients needs")

    def _top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise ValueError(f"an item is put into something that is no {kind.__name__}")
        return self.stack[-1]


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_LITERALS = {"INT", "BININT", "BININT1", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"}
_LITERALS |= {"BINBYTES", "SHORT_BINBYTES"}


def _pairs(items: list[Any]) -> dict[str, Any]:
    if len(items) % 2 or not all(type(key) is str for key in items[::2]):
        raise ValueError("a dictionary in it has a key that is no text")
    pairs = dict(zip(items[::2], items[1::2]))
    if 2 * len(pairs) != len(items):
        raise ValueError("a dictionary in it has a key twice")
    return pairs


def _value(name: Any, arguments: Any) -> Any:
    """What the call of a name would give, for the four calls of the layout."""
    match _NAMES.get(name) if isinstance(name, _Name) else None, arguments:
        case "encode", (str() as text, "latin1"):
            return text.encode("latin1")
        case "dtype", ("f8" | "O8" as code, False, True):
            return _Kind(code)
        case "_reconstruct", (_Name("numpy", "ndarray"), (0,), b"b"):
            return _Array()
        case "scalar", (_Kind("f8"), bytes() as packed) if len(packed) == 8:
            return struct.unpack("<d", packed)[0]
    raise ValueError("it asks for a call that no file of coefficients needs")


def _with_state(value: Any, state: Any) -> Any:
    """A type or an array after its state was read, which has one shape for each."""
    if isinstance(value, _Kind) and type(state) is tuple and state == _STATES[value]:
        return value
    if isinstance(value, _Array) and type(state) is tuple and len(state) == 5 and value.content is None:
        version, shape, kind, fortran, content = state
        if (version, shape, kind, fortran) == (1, (), _OBJECT, False) and type(content) is list and len(content) == 1:
            value.content = content[0]
            return value
    raise ValueError("it holds an array of another shape or type than a file of coefficients")
