"""Reads the pickled replay buffers of public versions of this homework without running them.

A pickle is a program for a stack machine, which may name any function and call it. The machine here
knows only the instructions that a buffer of arrays needs and the names of NumPy's arrays and of the
buffer's class. It calls nothing, but records what would be called. If that record describes a
buffer, the arrays are created from it, with every size checked against the number of bytes present.
"""

from __future__ import annotations

import hashlib
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cs285.infrastructure.errors import UserError

MAX_BYTES = 100_000_000
"""Size of the largest file that is read; a capacity of a million steps takes 50 MB."""
MAX_INSTRUCTIONS = 1_000
"""A buffer of five arrays takes about 250."""
MAX_TRANSITIONS = 2_000_000
"""The number that fits into such a file: a hundred times the homework's largest dataset."""

ELEMENTS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
"""Element types as NumPy pickles them."""

FIELDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "observations": ("f", (2,)),
    "actions": ("iu", ()),
    "rewards": ("iuf", ()),
    "next_observations": ("f", (2,)),
    "dones": ("iuf", ()),
}
"""The possible element kinds and the shape of one transition, by array name."""


@dataclass(frozen=True, eq=False)
class PickledBuffer:
    """N transitions in the order in which they were collected.

    Attributes:
        observations: Shape (N, 2), a float type, in [0, 1].
        actions: Shape (N,), an integer type.
        rewards: Shape (N,), a numeric type.
        next_observations: Shape (N, 2), a float type, in [0, 1].
        dones: Shape (N,), bool; in some versions they include step limits, in others not.
        sha256: Hash of the file, in hexadecimal digits.
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[Any]
    next_observations: npt.NDArray[Any]
    dones: npt.NDArray[np.bool_]
    sha256: str


def read_pickled_buffer(path: Path) -> PickledBuffer:
    """Read a pickled buffer, whose arrays may be partly filled or a full ring.

    Raises:
        UserError: The file is missing, larger than `MAX_BYTES`, damaged, or not a replay buffer.
    """
    try:
        # A pipe would never end.
        if not path.is_file():
            raise UserError(f"no file {path}; give the pickle of a replay buffer")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path} is larger than {MAX_BYTES:,} bytes, so it is not a replay buffer"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}") from error
    try:
        arrays = _arrays(_describe(data))
    except ValueError as error:
        raise UserError(f"the pickle {path} cannot be used: {error}") from error
    return PickledBuffer(**arrays, sha256=hashlib.sha256(data).hexdigest())


class _Name(StrEnum):
    """Everything that a pickle may name; `numpy._core` was `numpy.core` before NumPy 2."""

    BUFFER = "cs285.infrastructure.replay_buffer.ReplayBuffer"
    ARRAY = "numpy._core.multiarray._reconstruct"
    ARRAY_FROM_BUFFER = "numpy._core.numeric._frombuffer"
    SCALAR = "numpy._core.multiarray.scalar"
    ARRAY_TYPE = "numpy.ndarray"
    ELEMENT_TYPE = "numpy.dtype"


@dataclass(eq=False, repr=False)
class _Call:
    """A call that a pickle would make: the function, its arguments and the state of the result."""

    name: _Name
    arguments: Any = None
    state: Any = None


class _Machine:
    """The stack machine of pickles, with `_Call`s in place of calls and of named objects.

    Its values may be nested without limit and contain themselves, so they must not be printed,
    compared or hashed.
    """

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self, count: int) -> list[Any]:
        """Remove the topmost values from the stack and return them, the lowest first."""
        if count > len(self.stack):
            raise ValueError("it is damaged: a value is missing")
        start = len(self.stack) - count
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def pop_to_mark(self) -> list[Any]:
        """Remove everything above the last mark from the stack and return it."""
        if not self.marks:
            raise ValueError("it is damaged: a mark is missing")
        return self.pop(max(0, len(self.stack) - self.marks.pop()))

    def put(self, index: int | None) -> None:
        """Store the topmost value in the memo."""
        (value,) = self.pop(1)
        self.memo[len(self.memo) if index is None else index] = value
        self.stack.append(value)

    def get(self, index: int) -> None:
        """Push a value from the memo."""
        if index not in self.memo:
            raise ValueError("it is damaged: a value is missing")
        self.stack.append(self.memo[index])

    def name(self, module_and_name: list[Any]) -> None:
        """Push a named object."""
        if not all(isinstance(part, str) for part in module_and_name):
            raise ValueError("it is damaged: a name is missing")
        name = ".".join(module_and_name)
        try:
            known = _Name(name.replace("numpy.core.", "numpy._core."))
        except ValueError:
            raise ValueError(
                f"it asks for {name[:80]!r}, but a replay buffer needs only its own class and "
                "NumPy's arrays"
            ) from None
        self.stack.append(_Call(known))

    def call(self) -> None:
        """Replace a named object and its arguments with a call."""
        function, arguments = self.pop(2)
        is_name = isinstance(function, _Call) and function.arguments is None
        if not is_name or not isinstance(arguments, tuple):
            raise ValueError("it calls something that cannot be called")
        self.stack.append(_Call(function.name, arguments))

    def build(self) -> None:
        """Set the state of the result of a call."""
        target, state = self.pop(2)
        if not isinstance(target, _Call) or target.arguments is None:
            raise ValueError("it changes something that it did not create")
        target.state = state
        self.stack.append(target)

    def set_items(self, items: list[Any]) -> None:
        """Fill the dictionary on top of the stack."""
        (target,) = self.pop(1)
        keys, values = items[::2], items[1::2]
        if not isinstance(target, dict) or len(keys) != len(values):
            raise ValueError("it is damaged: a dictionary is missing")
        # Hashing a deeply nested tuple may take forever.
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("it has a dictionary whose keys are not names")
        target.update(zip(keys, values, strict=True))
        self.stack.append(target)


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1"),
    *("SHORT_BINUNICODE", "BINUNICODE"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "MEMOIZE": lambda machine, _: machine.put(None),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": lambda machine, module_and_name: machine.name(module_and_name.split(" ")),
    "STACK_GLOBAL": lambda machine, _: machine.name(machine.pop(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
_PUNCTUATION = {"PROTO", "FRAME", "STOP"}


def _describe(data: bytes) -> Any:
    """Return what a pickle would create, with a `_Call` in place of every object.

    Raises:
        ValueError: It is damaged, too long, or has an instruction or a name that no buffer needs.
    """
    try:
        instructions = list(islice(pickletools.genops(data), MAX_INSTRUCTIONS + 1))
    except ValueError as error:
        raise ValueError("it is damaged, truncated or not a pickle") from error
    if len(instructions) > MAX_INSTRUCTIONS:
        raise ValueError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
    machine = _Machine()
    for opcode, argument, _ in instructions:
        if opcode.name in _LITERALS:
            machine.stack.append(argument)
        elif opcode.name in _CONSTANTS:
            machine.stack.append(_CONSTANTS[opcode.name]())
        elif opcode.name in _OPERATIONS:
            _OPERATIONS[opcode.name](machine, argument)
        elif opcode.name not in _PUNCTUATION:
            raise ValueError(f"it has the instruction {opcode.name}, which no replay buffer needs")
    (result,) = machine.pop(1)
    return result


def _arrays(description: Any) -> dict[str, npt.NDArray[Any]]:
    """Create the arrays of the described buffer.

    Raises:
        ValueError: It is not a buffer, or its parts do not fit together.
    """
    match description:
        case _Call(_Name.BUFFER, (), dict(attributes)):
            pass
        case _:
            raise ValueError("it is not a replay buffer")
    expected = {"max_size", "size", *FIELDS}
    if unknown := sorted(attributes.keys() - expected):
        raise ValueError(f"it has an attribute {unknown[0][:80]!r}, which no replay buffer has")
    if missing := sorted(expected - attributes.keys()):
        raise ValueError(f"it lacks {', '.join(missing)}")
    size, capacity = _integer(attributes["size"]), _integer(attributes["max_size"])
    if not 1 <= (count := min(size, capacity)) <= MAX_TRANSITIONS:
        raise ValueError(f"it claims to hold no transitions, or more than {MAX_TRANSITIONS:,}")
    # `size` counts all transitions ever inserted; the oldest in a full ring is the next to replace.
    oldest = size % capacity if size > capacity else 0
    arrays = {}
    for name, (kinds, tail) in FIELDS.items():
        array = _array(attributes[name], name)
        if array.dtype.kind not in kinds or array.shape[1:] != tail or len(array) < count:
            raise ValueError(
                f"{name} is {array.dtype} of shape {array.shape}, which cannot hold {count} "
                "transitions"
            )
        arrays[name] = np.roll(array[:count], -oldest, axis=0)
    for name in ("observations", "next_observations"):
        # Written so that NaN, which compares false, fails as well.
        if not (arrays[name].min() >= 0 and arrays[name].max() <= 1):
            raise ValueError(f"{name} must be in [0, 1]")
    if not np.isin(arrays["dones"], (0, 1)).all():
        raise ValueError("dones must be true or false")
    return arrays | {"dones": arrays["dones"] == 1}


def _array(description: Any, name: str) -> npt.NDArray[Any]:
    """Create an array of numbers with one or two axes, if its shape fits its bytes."""
    match description:
        case _Call(_Name.ARRAY, _, (_, tuple(shape), dtype, bool(fortran), bytes(data))):
            by_column = fortran
        case _Call(
            _Name.ARRAY_FROM_BUFFER,
            (bytes(data) | bytearray(data), dtype, tuple(shape), "C" | "F" as order),
        ):
            by_column = order == "F"
        case _:
            raise ValueError(f"{name} is not an array of numbers")
    element = _dtype(dtype)
    if len(shape) not in {1, 2} or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"{name} does not have one or two axes")
    if math.prod(shape) * element.itemsize != len(data):
        raise ValueError(f"{name} claims a shape that does not fit its {len(data):,} bytes")
    # Bytes other than 0 and 1 would make invalid booleans.
    flat = np.frombuffer(data, np.uint8 if element.kind == "b" else element)
    array: npt.NDArray[Any] = flat.reshape(shape[::-1]).T if by_column else flat.reshape(shape)
    return array


def _dtype(description: Any) -> np.dtype[Any]:
    """Create a numeric type, in either byte order."""
    match description:
        case _Call(
            _Name.ELEMENT_TYPE,
            (str(element), *_),
            (_, "<" | ">" | "|" | "=" as order, None, None, None, *_),
        ) if element in ELEMENTS:
            return np.dtype(element).newbyteorder(order)
    raise ValueError("it has elements that are not plain numbers")


def _integer(description: Any) -> int:
    """Return an int from a Python or NumPy number."""
    match description:
        case _Call(_Name.SCALAR, (dtype, bytes(data))):
            element = _dtype(dtype)
            if element.kind not in "iu" or element.itemsize != len(data):
                raise ValueError("its size is not a whole number")
            return int(np.frombuffer(data, element)[0])
        case int() if not isinstance(description, bool):
            return description
    raise ValueError("its size is not a whole number")
