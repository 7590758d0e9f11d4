"""TIFF images, decoded by tifffile: a strip that is damaged or ends early is an error, never grey or black rows."""

import contextlib
import io
import logging
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import UnreadableFile
from us43d.pictures.limits import check_bytes, check_size

__all__ = ["image", "is_tiff", "opened", "page"]

#: What tifffile and imagecodecs raise for damaged files; their own errors derive from these.
_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # the error says what is wrong


def is_tiff(data: bytes) -> bool:
    """Return whether the first bytes are those of a TIFF or BigTIFF file."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def image(data: bytes, path: Path) -> NDArray[Any]:
    """Decode the first page of a TIFF file, as `page` does."""
    with opened(io.BytesIO(data), path) as file:
        return page(file, 0, path)


@contextlib.contextmanager
def opened(file: io.BytesIO | Path, path: Path) -> Iterator[Any]:
    """Open a TIFF file. Raises UnreadableFile if it is damaged.

    Args:
        file: The content, or the file itself.
        path: The file, for the message.
    """
    import tifffile

    try:
        with tifffile.TiffFile(file) as inside:
            yield inside
    except UnreadableFile:
        raise
    except (*_DAMAGED, tifffile.TiffFileError) as error:
        raise UnreadableFile(f"{path} is a damaged or truncated TIFF: {_first_line(error)}.") from error


def page(file: Any, index: int, path: Path) -> NDArray[Any]:
    """Decode a page of an `opened` TIFF file.

    Palette colours are applied, white-is-zero is inverted, 1-bit pixels become 0 and 255, an alpha channel is left
    out. An orientation tag is not obeyed.

    Args:
        file: What `opened` gave.
        index: Number of the page, from 0.
        path: The file, for the message.

    Returns:
        (h, w) grey or (h, w, 3) RGB, in the file's data type.

    Raises:
        UnreadableFile: If the file is damaged, cut, above the limits, or of a colour model that is not read.
    """
    import tifffile

    chosen = file.pages.first if index == 0 else file.pages[index]
    dtype = np.dtype(chosen.dtype or np.uint8)
    check_size(path, chosen.imagewidth, chosen.imagelength, chosen.samplesperpixel, dtype.itemsize)
    check_bytes(path, math.prod(chosen.shape) * dtype.itemsize)
    if chosen.is_tiled:
        check_size(path, chosen.tilewidth, chosen.tilelength, chosen.samplesperpixel, dtype.itemsize)
    array = chosen.asarray(maxworkers=1)
    photometric, planes_apart = tifffile.PHOTOMETRIC(chosen.photometric).name, chosen.planarconfig == 2
    palette = chosen.colormap if photometric == "PALETTE" else None
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.ndim == 3 and planes_apart:
        array = np.moveaxis(array, 0, -1)
    if palette is not None and array.ndim == 2 and int(array.max(initial=0)) < palette.shape[1]:
        return np.ascontiguousarray((palette >> 8).astype(np.uint8).T[array])
    if array.ndim == 3 and photometric in ("MINISBLACK", "MINISWHITE"):
        array = array[:, :, 0]
    if photometric == "MINISWHITE" and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    grey = array.ndim == 2 and photometric in ("MINISBLACK", "MINISWHITE")
    colour = array.ndim == 3 and array.shape[2] >= 3 and photometric in ("RGB", "YCBCR")
    if not (grey or colour):
        raise UnreadableFile(f"{path} is a TIFF of the colour model {photometric} and the shape {array.shape}.")
    return np.ascontiguousarray(array[:, :, :3] if colour else array)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]
