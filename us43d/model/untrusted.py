"""Read files of tensors from untrusted sources. Nothing in a file is executed.

Pickles are read by an unpickler that knows how tensors are stored and replaces every other object by an inert one.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from us43d import pickles
from us43d.errors import WeightsError
from us43d.pickles import PickleError

__all__ = ["read_pickle", "read_safetensors"]


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises WeightsError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}.") from error


_DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


def _rebuild(storage: object, offset: Any, size: Any, stride: Any, *rest: object) -> Tensor:
    """Make a tensor of its storage. Larger shapes than the storage (a stride of 0) are refused: they grow when used."""
    if not isinstance(storage, Tensor):
        raise PickleError("has a tensor without storage")
    shape, steps = pickles.whole_numbers(size), pickles.whole_numbers(stride)
    (begin,) = pickles.whole_numbers((offset,))
    pickles.length(shape, storage.numel())
    return storage.as_strided(shape, steps, begin)


def _parameter(data: object, *rest: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("has a parameter without a tensor")
    return data


#: Modules that run, open or send something; a file that names one is refused, although nothing would be run here.
_HOSTILE = frozenset({
    "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "code",
    "codeop", "commands", "webbrowser", "pickle", "_pickle", "marshal", "io", "_io", "tempfile", "urllib",
})  # fmt: skip
_HOSTILE_BUILTINS = frozenset({"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile"})
_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): lambda pairs=(): dict(pickles.pairs(pairs)),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
#: Largest number of operations of a pickle: a model needs about ten thousand, a training history more.
_MOST_OPERATIONS = 5_000_000
#: Largest size of the pickle that names the tensors, in bytes; an archive may unpack to this much more than its size.
_MOST_PICKLE = 1 << 28


def _find(path: Path) -> Callable[[str, str], Any]:
    """Return a lookup of the names in a checkpoint: tensors and their containers are known, the rest is inert."""

    def find(module: str, name: str) -> Any:
        builtin = module in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS
        if builtin or module in _HOSTILE or module.partition(".")[0] in _HOSTILE:
            raise WeightsError(
                f"{path} contains code ({module}.{name}), which a program that trusts the file would run; "
                "the file is refused."
            )
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        return _KNOWN.get((module, name), pickles.Inert)

    return find


class _Storages:
    """Read the bytes of tensors from the archive, once per storage."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive, self._root = archive, root
        self._read: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, identifier: Any) -> Tensor:
        if not isinstance(identifier, tuple) or len(identifier) < 3 or identifier[0] != "storage":
            raise PickleError("has a storage of unknown kind")
        dtype, key = identifier[1], identifier[2]
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise PickleError("has a storage of unknown kind")
        if (key, dtype) not in self._read:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._read[key, dtype] = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        return self._read[key, dtype]


def read_pickle(path: Path) -> Any:
    """Read a PyTorch zip file; objects other than tensors and plain containers become inert.

    Args:
        path: A file of PyTorch 1.6 or later.

    Raises:
        WeightsError: The file is of another kind, damaged, unsafe or unreasonably large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise WeightsError(f"{path} is a zip file without a PyTorch checkpoint.")
            pickled = archive.getinfo(f"{roots[0]}data.pkl").file_size
            unpacked = sum(member.file_size for member in archive.infolist())
            if pickled > _MOST_PICKLE or unpacked > path.stat().st_size + _MOST_PICKLE:  # PyTorch compresses nothing
                raise WeightsError(f"{path} unpacks to {unpacked:,} bytes, far more than the file has.")
            data, storages = archive.read(f"{roots[0]}data.pkl"), _Storages(archive, roots[0])
            return pickles.load(data, _find(path), most=_MOST_OPERATIONS, persistent=storages)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} is not a PyTorch checkpoint of 1.6 or later, or is truncated: {error}.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except PickleError as error:
        raise WeightsError(f"{path} does not hold tensors in a way us43d reads: it {error}.") from error
    except _DAMAGED as error:
        raise WeightsError(f"{path} does not hold tensors in a way us43d reads: {error!r}.") from error


#: Errors of zipfile and torch for an archive that is damaged, encrypted, or of an unknown compression.
_DAMAGED = (
    KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError, RuntimeError, OverflowError, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip
