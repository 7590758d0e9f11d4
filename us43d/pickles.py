"""Pickles read without running anything they name: the one restricted reader, for arrays of datasets and for weights.

Python's own unpickler calls what a file asks for, and reserves memory that a file claims. Here the operations are
carried out one by one on plain containers; a name in the file is looked up by `find`, which decides what it stands
for. Bounded are the operations, the depth to which keys are hashed, and the integers.
"""

import math
import pickletools
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Inert", "PickleError", "Stateful", "as_set", "length", "load", "pairs", "whole_numbers"]

#: Integers of a file are at most so large: no shape or stride comes near.
_LARGEST = 1 << 48
_MOST_AXES = 32
_SCALARS = (str, bytes, int, float, bool, type(None))
#: What pickletools raises for a file that is cut or damaged.
_DAMAGED = (ValueError, EOFError, IndexError, TypeError, KeyError, OverflowError, UnicodeError)


class PickleError(ValueError):
    """A fault of a pickle, as a predicate of "it"."""


class Stateful:
    """Something whose content comes after it was made."""

    def restore(self, state: Any) -> None:
        raise NotImplementedError


class Inert(Stateful):
    """Placeholder for a name in a pickle that is not needed; ignores all calls and attributes."""

    def __init__(self, *args: object) -> None:
        pass

    def restore(self, state: Any) -> None:
        pass


class _Mark:
    pass


def load(
    data: bytes,
    find: Callable[[str, str], Any],
    *,
    most: int,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Read the object that a pickle holds.

    Args:
        data: The pickle.
        find: (module, name) → the object of that name: called with its arguments if the file asks for that. Raises
            PickleError for a name that is refused.
        most: Operations that are carried out at most.
        persistent: Gives the object for an identifier, for files that keep some of their content elsewhere.

    Returns:
        Scalars, bytes, lists, tuples, dictionaries, sets, and what the functions of `find` and `persistent` return.

    Raises:
        PickleError: If the file is damaged, or asks for anything else.
    """
    machine = _Machine(find, persistent)
    try:
        for count, (operation, arg, _) in enumerate(pickletools.genops(data)):
            if count > most:
                raise PickleError(f"has more than {most:,} operations")
            if operation.name == "STOP":
                return machine.stack.pop()
            step = _STEPS.get(operation.name)
            if step is None:
                raise PickleError(f"asks for the operation {operation.name}")
            step(machine, arg)
    except PickleError:
        raise
    except _DAMAGED as error:
        raise PickleError(f"is damaged ({error})") from error
    raise PickleError("is cut short")


def as_set(values: Iterable[Any] = ()) -> set[Any]:
    """Return the set for `set` and `frozenset` in a file. Raises PickleError for members of other types."""
    return set(map(_hashable, values))


def pairs(values: Iterable[Any] = ()) -> list[tuple[Any, Any]]:
    """Return keys and values with which a file fills a dictionary. Raises PickleError for anything but pairs."""
    listed = list(values)
    if any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in listed):
        raise PickleError("has a dictionary with items that are not pairs")
    return [(_hashable(key), value) for key, value in listed]


def whole_numbers(values: Any) -> tuple[int, ...]:
    """Return a shape, stride or offset of a file as integers that arithmetic can be done with. Raises PickleError."""
    if not isinstance(values, list | tuple) or len(values) > _MOST_AXES:
        raise PickleError("has an invalid shape")
    if any(not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST for value in values):
        raise PickleError(f"has a shape with a side that is not an integer below {_LARGEST:,}")
    return tuple(values)


def length(shape: Iterable[int], most: int) -> int:
    """Return the product of a shape from `whole_numbers`. Raises PickleError above `most`."""
    total = math.prod(shape)
    if total > most:
        raise PickleError(f"claims more than {most:,} values")
    return total


class _Machine:
    """The stack on which a pickle is carried out."""

    def __init__(self, find: Callable[[str, str], Any], persistent: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.find, self.persistent = find, persistent

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _Mark:
            raise PickleError("is damaged (a mark where a value is needed)")
        return value

    def to_mark(self) -> list[Any]:
        """Return the values above the last mark, taken off the stack with it."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _Mark:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise PickleError("is damaged (a mark is missing)")

    def top(self) -> Any:
        if self.stack[-1] is _Mark:
            raise PickleError("is damaged (a mark where a value is needed)")
        return self.stack[-1]

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise PickleError(f"appends to a {type(target).__name__}")

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if len(values) % 2:
            raise PickleError("is damaged (a key without value)")
        if isinstance(target, dict):
            target.update(zip(map(_hashable, values[::2]), values[1::2], strict=True))
        elif not isinstance(target, Inert):
            raise PickleError(f"sets items of a {type(target).__name__}")

    def add(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise PickleError(f"adds to a {type(target).__name__}")
        target.update(map(_hashable, values))

    def call(self, function: Any, args: Any) -> Any:
        if not callable(function) or not isinstance(args, tuple):
            raise PickleError(f"calls a {type(function).__name__}")
        return function(*args)

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        self.stack.append(self.call(function, args))

    def new_object(self, *, keywords: bool) -> None:
        if keywords:
            self.pop()
        args, kind = self.pop(), self.pop()
        if kind is not Inert:
            raise PickleError("makes an object of a class")
        self.stack.append(self.call(kind, args))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Stateful):
            target.restore(state)
        elif not isinstance(target, dict):  # attributes of a dictionary, such as the versions of a state's modules
            raise PickleError(f"gives a state to a {type(target).__name__}")

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("has a name that is not text")
        self.stack.append(self.find(module, name))

    def from_elsewhere(self, identifier: Any) -> None:
        if self.persistent is None:
            raise PickleError("asks for an object that is kept outside of it")
        self.stack.append(self.persistent(identifier))


def _hashable(key: Any) -> Any:
    """Return a key whose hash is found at once: tuples of tuples can make it take for ever."""
    plain = isinstance(key, (*_SCALARS, Inert))
    flat = isinstance(key, tuple) and len(key) <= _MOST_AXES and all(isinstance(item, _SCALARS) for item in key)
    if not (plain or flat):
        raise PickleError(f"has a {type(key).__name__} for a key")
    return key


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _made(make: Callable[[list[Any]], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make(machine.to_mark()))


def _dictionary(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise PickleError("is damaged (a key without value)")
    return dict(zip(map(_hashable, values[::2]), values[1::2], strict=True))


def _remember(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top()


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


_NOTHING = ("PROTO", "FRAME")
_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip
#: Operation → function on the stack. Others are refused: classes, extensions, buffers.
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    **dict.fromkeys(_NOTHING, lambda machine, _: None),
    **dict.fromkeys(_VALUES, _push),
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    "MARK": lambda machine, _: _push(machine, _Mark),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.to_mark(),
    "DUP": lambda machine, _: _push(machine, machine.top()),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "EMPTY_SET": lambda machine, _: _push(machine, set()),
    "LIST": _made(list),
    "TUPLE": _made(tuple),
    "DICT": _made(_dictionary),
    "FROZENSET": _made(as_set),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.to_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.to_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _remember),
    "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: _push(machine, machine.memo[index])),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new_object(keywords=False),
    "NEWOBJ_EX": lambda machine, _: machine.new_object(keywords=True),
    "BUILD": lambda machine, _: machine.build(),
    "PERSID": lambda machine, identifier: machine.from_elsewhere(identifier),
    "BINPERSID": lambda machine, _: machine.from_elsewhere(machine.pop()),
}
