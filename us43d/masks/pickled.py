"""Arrays inside pickled .npy files, read without running anything the file names.

Unpickling calls whatever the file asks for. Here it can ask for the few names with which NumPy writes arrays, dtypes
and scalars, and for `set` and `frozenset`; NumPy itself never sees the file's state either (a forged dtype can make it
take bytes for pointers): plain numbers are rebuilt from their bytes by the code below.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile, listed

__all__ = ["pickled_array"]

#: A larger file is refused: those of FASS, a picture and four masks of 1024 × 768, have about 6 MB.
MAX_BYTES = 1 << 26
#: And one of more operations, whatever they are: those of FASS need fewer than a hundred.
MAX_OPERATIONS = 10_000
#: Operations that would call classes, load registered extensions or objects kept outside the file.
_REFUSED = frozenset(
    {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER"}
)
_PLAIN = re.compile(r"b1|[iu][1248]|f[248]")


class _Dtype:
    """A dtype: a plain number's, or object."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in {"O", "O8", "O4"} and not _PLAIN.fullmatch(code):
            _refuse(f"a dtype {code!r}")
        self.object = code[0] == "O"
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, order, subarray, names, fields, *_ = state
        if version not in (3, 4) or order not in ("<", ">", "=", "|") or (subarray, names, fields) != (None,) * 3:
            _refuse("a structured dtype")
        self.order = order

    def array(self, data: object) -> NDArray[Any]:
        if self.object or not isinstance(data, bytes | bytearray):
            _refuse("numbers that are not bytes")
        return np.frombuffer(data, np.dtype(self.order + self.code))


class _Array:
    """An array whose content comes with its state: `value` is an array of numbers, or the list of an object array."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] | list[Any] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.object:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                _refuse("an object array of another length than its shape")
            self.value = data
        else:
            self.value = dtype.array(data).reshape(shape, order="F" if fortran else "C")


class _Global:
    """What a name in the file stands for; it can be called, and nothing else."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: object) -> None:
        _refuse("a state for a name")


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    found = _Array()
    found.__setstate__((1, shape, dtype, order == "F", data))
    return found


def _scalar(dtype: _Dtype, data: bytes) -> Any:
    return dtype.array(data)[0]


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
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Global:
        if (make := _KNOWN.get(f"{module}.{name}")) is None:
            _refuse(f"{module}.{name}")
        return _Global(make)


def _refuse(what: str) -> NoReturn:
    raise pickle.UnpicklingError(f"it asks for {what}, and only arrays of numbers and containers are read")


def _unpickle(data: bytes) -> Any:
    """What a pickle holds. Its operations are looked through first, as some would reserve memory without limit."""
    for count, (operation, arg, _) in enumerate(pickletools.genops(data)):
        if operation.name in _REFUSED:
            _refuse(f"the operation {operation.name}")
        if count > MAX_OPERATIONS or ("PUT" in operation.name and int(arg or 0) > MAX_OPERATIONS):
            _refuse(f"more than {MAX_OPERATIONS:,} operations")
    return _Unpickler(io.BytesIO(data)).load()


@lru_cache(maxsize=2)
def _content(path: Path) -> Any:
    """The object of a .npy file that holds a single one."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UnreadableFile(f"{path} has {size:,} bytes; a pickled array of more than {MAX_BYTES:,} is not read.")
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if dtype.kind != "O" or shape != ():
                raise UnreadableFile(f"{path} holds an array of {dtype} with the shape {shape}, no pickled object.")
            return _unpickle(file.read()).value[0]
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError,
        MemoryError,
    ) as error:  # fmt: skip
        raise UnreadableFile(f"{path} is not read as a pickled array: {error}.") from error


def pickled_array(path: Path, *keys: str) -> NDArray[Any]:
    """The array under `keys` in the dictionary that a .npy file holds as a pickle.

    Raises UnreadableFile for a file that is cut, too large or of another kind, that lacks a key, or that names anything
    but arrays, dtypes, scalars and containers (which is then neither imported nor called).
    """
    found = _content(path)
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            names = sorted(name for name in found if isinstance(name, str)) if isinstance(found, dict) else []
            raise UnreadableFile(f"{path} has nothing under {'/'.join(keys)}; it has {listed(names) or 'no names'}.")
        found = found[key]
    if not isinstance(found, _Array) or not isinstance(found.value, np.ndarray):
        raise UnreadableFile(f"{path} has no array of numbers under {'/'.join(keys)}.")
    return found.value
