"""MetaImages (.mha, or .mhd with its pixels beside it) frame by frame, whether the pixels are compressed or not.

The form is that of MetaIO: lines "Name = value", the last of them ElementDataFile, which is LOCAL where the pixels
follow, or the name of the file that holds them; x fastest.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from us43d.errors import MaskMismatch, UnreadableFile
from us43d.masks.stacks import Stack

__all__ = ["mha_axes", "mha_frame", "mha_pair", "mha_pixels", "mha_shape"]

_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
#: More header lines, or longer ones, than any writer makes.
_LINES, _LINE = 200, 4096


class _MetaImage(Stack):
    def __init__(self, path: Path) -> None:
        head, start = _header(path)
        pixels = mha_pixels(path)
        try:
            size = tuple(int(n) for n in head["DimSize"].split())
            spacing = head.get("ElementSpacing") or head.get("ElementSize") or " ".join("1" for _ in size)
            self.spacing = tuple(float(z) for z in spacing.split())
            dtype = np.dtype(_TYPES[head["ElementType"]])
            channels = int(head.get("ElementNumberOfChannels", "1"))
        except (KeyError, ValueError, OverflowError) as error:
            raise UnreadableFile(f"{path} has no readable MetaImage header: {error}.") from error
        if head.get("BinaryDataByteOrderMSB", head.get("ElementByteOrderMSB", "False")) == "True":
            dtype = dtype.newbyteorder(">")
        compressed = head.get("CompressedData") == "True"
        super().__init__(
            path, pixels, start if pixels == path else 0, size, dtype, channels=channels, compressed=compressed
        )


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return (fields, where they end in bytes). Raises UnreadableFile."""
    try:
        with path.open("rb") as file:
            return _fields(file), file.tell()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def _fields(file: BinaryIO) -> dict[str, str]:
    head: dict[str, str] = {}
    for _ in range(_LINES):
        name, equals, value = file.readline(_LINE).decode("latin-1").partition("=")
        head[name.strip()] = value.strip()
        if not equals or name.strip() == "ElementDataFile":
            break
    return head


def mha_pixels(path: Path) -> Path:
    """Return the file with the pixels of a MetaImage: itself, or one beside it, whose name may differ in case.

    Raises UnreadableFile if the header names anything else, or the file is missing.
    """
    head, _ = _header(path)
    name = head.get("ElementDataFile", "")
    if head.get("BinaryData", "True") != "True" or not name:
        raise UnreadableFile(f"{path} is not a MetaImage with binary pixels.")
    if name == "LOCAL":
        return path
    elsewhere = set(name) & set("/\\%") or name in (".", "..") or name.split()[0] == "LIST"
    if elsewhere or head.get("HeaderSize", "0") != "0":
        raise UnreadableFile(f"{path} takes its pixels from {name!r}, which is not one file beside it.")
    beside = path.with_name(name)
    if beside.is_file():
        return beside
    for other in sorted(path.parent.iterdir()):
        if other.name.casefold() == name.casefold() and other.is_file():
            return other
    raise UnreadableFile(f"{path} takes its pixels from {name}, which is missing beside it.")


_mha = lru_cache(maxsize=4)(_MetaImage)


@lru_cache(maxsize=4096)
def mha_shape(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return (shape, spacing) of a MetaImage from its header: axes x, y, z/time; spacing in mm."""
    stack = _mha(path)
    return stack.size, stack.spacing


def mha_pair(image: Path, labels: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return `mha_shape` of an image, once its label map is known to have the same shape. Raises MaskMismatch."""
    shape, spacing = mha_shape(image)
    if mha_shape(labels)[0] != shape:
        raise MaskMismatch(f"{labels} has the shape {mha_shape(labels)[0]}, its images {shape}.")
    return shape, spacing


def mha_axes(path: Path) -> str:
    """Return the directions of the axes of a MetaImage as its header writes them; "" where it does not."""
    head, _ = _header(path)
    return " ".join(head.get("TransformMatrix", head.get("Orientation", "")).split())


def mha_frame(path: Path, frame: int) -> NDArray[Any]:
    """Read frame `frame` of the last axis of a MetaImage: (rows = y, columns = x), or with 3 channels; read-only.

    An image of two axes is frame 0.
    """
    return _mha(path).frame(frame)
