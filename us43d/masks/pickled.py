"""Arrays inside pickled .npy files, read without running anything the file names.

Here a file can ask for the few names with which NumPy writes arrays, dtypes and scalars, and for `set` and
`frozenset`; NumPy itself never sees the file's state (a forged dtype can make it take bytes for pointers): plain
numbers are rebuilt from their bytes by the code below. `us43d.pickles` carries out the rest.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d import pickles
from us43d.errors import UnreadableFile, listed
from us43d.masks.read import NOT_NPY
from us43d.pickles import PickleError

__all__ = ["pickled_array"]

#: A larger file is refused: those of FASS, an image and four masks of 1024 × 768, have about 6 MB.
MAX_BYTES = 1 << 26
#: And one of more operations, whatever they are: those of FASS need fewer than a hundred.
MAX_OPERATIONS = 10_000
_PLAIN = re.compile(r"b1|[iu][1248]|f[248]")


class _Dtype(pickles.Stateful):
    """A dtype: a plain number's, or object."""

    def __init__(self, code: Any, *_: object) -> None:
        if not isinstance(code, str) or (code not in {"O8", "O4"} and not _PLAIN.fullmatch(code)):
            raise PickleError(f"asks for a dtype {code!r}")
        self.object = code[0] == "O"
        self.code, self.order = code, "|"

    def restore(self, state: Any) -> None:
        version, order, subarray, names, fields, *_ = state
        if version not in (3, 4) or order not in ("<", ">", "=", "|") or (subarray, names, fields) != (None,) * 3:
            raise PickleError("asks for a structured dtype")
        self.order = order

    def array(self, data: object) -> NDArray[Any]:
        if self.object or not isinstance(data, bytes | bytearray):
            raise PickleError("asks for numbers that are not bytes")
        return np.frombuffer(data, np.dtype(self.order + self.code))


class _Array(pickles.Stateful):
    """An array whose content comes with its state: `value` is an array of numbers, or the list of an object array."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | list[Any] = []

    def restore(self, state: Any) -> None:
        _, sides, dtype, fortran, data = state
        shape = pickles.whole_numbers(sides)
        if not isinstance(dtype, _Dtype):
            raise PickleError("has an array without a dtype")
        if dtype.object:
            if not isinstance(data, list) or len(data) != pickles.length(shape, len(data)):
                raise PickleError("asks for an object array of another length than its shape")
            self.value = data
        else:
            array = dtype.array(data)
            pickles.length(shape, array.size)
            self.value = array.reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.restore((1, shape, dtype, order == "F", data))
    return made


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise PickleError("has a number without a dtype")
    return dtype.array(data)[0].item()


#: Name → what it makes. NumPy 2 writes numpy._core where NumPy 1 writes numpy.core.
_KNOWN: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{
        f"numpy.{core}.{name}": make
        for core in ("core", "_core")
        for name, make in (
            ("multiarray._reconstruct", _Array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
    **{f"{module}.{kind}": pickles.as_set for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
}


def _find(module: str, name: str) -> Callable[..., Any]:
    if (make := _KNOWN.get(f"{module}.{name}")) is None:
        raise PickleError(f"asks for {module}.{name}, and only arrays of numbers and containers are read")
    return make


@lru_cache(maxsize=2)
def _content(path: Path) -> Any:
    """Return the object of a .npy file that holds a single one."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UnreadableFile(f"{path} has {size:,} bytes; a pickled array of more than {MAX_BYTES:,} is not read.")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if dtype.kind != "O" or shape != ():
                raise UnreadableFile(f"{path} holds an array of {dtype} with the shape {shape}, no pickled object.")
            content = pickles.load(file.read(), _find, most=MAX_OPERATIONS)
            if not isinstance(content, _Array) or len(content.value) != 1:
                raise UnreadableFile(f"{path} holds no pickled object in an array.")
            return content.value[0]
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
    except PickleError as error:
        raise UnreadableFile(f"{path} is not read as a pickled array: it {error}.") from error
    except NOT_NPY as error:
        raise UnreadableFile(f"{path} is not read as a pickled array: {error}.") from error


def pickled_array(path: Path, *keys: str) -> NDArray[Any]:
    """Return the array under `keys` in the dictionary that a .npy file holds as a pickle.

    Raises UnreadableFile for a file that is cut, too large or of another kind, that lacks a key, or that names anything
    but arrays, dtypes, scalars and containers (which is then neither imported nor called).
    """
    value = _content(path)
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            names = sorted(name for name in value if isinstance(name, str)) if isinstance(value, dict) else []
            raise UnreadableFile(f"{path} has nothing under {'/'.join(keys)}; it has {listed(names) or 'no names'}.")
        value = value[key]
    if not isinstance(value, _Array) or not isinstance(value.value, np.ndarray):
        raise UnreadableFile(f"{path} has no array of numbers under {'/'.join(keys)}.")
    return value.value
