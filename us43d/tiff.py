"""Read TIFF images with tifffile: a damaged or truncated strip is an error, never grey or black rows."""

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
from us43d.limits import check_bytes, check_size

__all__ = ["image", "images", "is_tiff", "opened", "page", "palette"]

#: Errors of tifffile and imagecodecs for damaged files; their own errors derive from these.
_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError,
    RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
#: Compressions whose decoder returns RGB instead of YCbCr: JPEG and its variants in TIFF.
_CONVERTED = (6, 7, 33003, 33004, 33005, 34712, 34892, 50001)
#: Defaults of YCbCr in TIFF 6.0: black and white of the three channels; parts of red, green and blue in Y.
_FULL_RANGE = [0, 255, 128, 255, 128, 255]
_LUMA = [0.299, 0.587, 0.114]
#: Kinds of extra samples (ExtraSamples): alpha, premultiplied or not. Others are channels of their own.
_ALPHA = (1, 2)
#: Bits of a page's type (NewSubfileType): a smaller copy of another page, a mask of another page.
_COPY_OR_MASK = 0b101
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # the error says what is wrong


def is_tiff(data: bytes) -> bool:
    """Return whether the first bytes are those of a TIFF or BigTIFF file."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def image(data: bytes, path: Path, *, alpha: bool = False) -> NDArray[Any]:
    """Decode a TIFF file of one image, as `page` does; masks and smaller copies of it on further pages are ignored.

    Raises:
        UnreadableFile: As `page` does, and for a file of several images.
    """
    with opened(io.BytesIO(data), path) as file:
        if (number := len(images(file, path))) > 1:
            raise UnreadableFile(f"{path} is a TIFF of {number} images, where one is read. Save them as files.")
        return page(file, 0, path, alpha=alpha)


def images(file: Any, path: Path) -> list[int]:
    """Return the numbers of the pages of an `opened` TIFF file that are not masks or smaller copies of others.

    Raises:
        UnreadableFile: The chain of pages is cut off or never ends. tifffile reads the pages before a cut, or circles.
    """
    form, handle, offsets = file.tiff, file.filehandle, dict[int, None]()
    offset = file.pages.first.offset
    while offset:
        number = len(offsets) + 1
        try:
            if offset in offsets:
                raise ValueError("pages form a circle")
            handle.seek(offset)
            (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
            handle.seek(tags * form.tagsize, io.SEEK_CUR)
            offsets[offset] = None
            (offset,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
        except (ValueError, struct.error) as error:
            raise UnreadableFile(f"{path} is a damaged or truncated TIFF: page {number} cannot be read.") from error
    pages = [number for number in range(len(offsets)) if not file.pages[number].subfiletype & _COPY_OR_MASK]
    return pages or [0]


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


def palette(data: bytes, path: Path) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
    """Read the indices (h, w) and colours (n, 3) of a first page with a palette; None for any other TIFF file.

    Raises:
        UnreadableFile: As `page` does.
    """
    with opened(io.BytesIO(data), path) as file:
        colours = file.pages.first.colormap
        if colours is None:
            return None
        _check(file.pages.first, path)
        return np.asarray(file.pages.first.asarray(maxworkers=1)), _colours(colours)


def _colours(table: NDArray[Any]) -> NDArray[np.uint8]:
    """The colours (n, 3) of a palette of 16 bits (3, n); of 8, as libtiff reads it, where none is above 255."""
    return np.asarray(table if int(table.max(initial=0)) < 256 else table >> 8, np.uint8).T


def _check(chosen: Any, path: Path) -> None:
    itemsize = np.dtype(chosen.dtype or np.uint8).itemsize
    check_size(path, chosen.imagewidth, chosen.imagelength, chosen.samplesperpixel, itemsize)
    check_bytes(path, math.prod(chosen.shape) * itemsize)
    if chosen.is_tiled:
        check_size(path, chosen.tilewidth, chosen.tilelength, chosen.samplesperpixel, itemsize)


def page(file: Any, index: int, path: Path, *, alpha: bool = False) -> NDArray[Any]:
    """Decode a page of an `opened` TIFF file.

    Palette colours are applied, white-is-zero is inverted, 1-bit pixels become 0 and 255. The orientation tag is not
    applied.

    Args:
        file: Result of `opened`.
        index: Number of the page, from 0.
        path: The file, for the message.
        alpha: Keep an alpha channel; the result is then (h, w, 2) or (h, w, 4).

    Returns:
        (h, w) grey or (h, w, 3) RGB, in the file's data type.

    Raises:
        UnreadableFile: The file is damaged, truncated, above the limits, or of an unsupported colour model.
    """
    import tifffile

    chosen = file.pages.first if index == 0 else file.pages[index]
    _check(chosen, path)
    array = chosen.asarray(maxworkers=1)
    photometric, planes_apart = tifffile.PHOTOMETRIC(chosen.photometric).name, chosen.planarconfig == 2
    if array.ndim == 3 and planes_apart:
        array = np.moveaxis(array, 0, -1)
    colours = chosen.colormap if photometric == "PALETTE" else None
    if photometric == "SEPARATED":
        array, photometric = _from_cmyk(array, chosen, path), "RGB"
    if photometric == "YCBCR" and chosen.compression not in _CONVERTED:
        array, photometric = _from_ycbcr(array, chosen, path), "RGB"
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if colours is not None and array.ndim == 2 and int(array.max(initial=0)) < colours.shape[1]:
        return np.ascontiguousarray(_colours(colours)[array])
    more = array[:, :, -1:] if alpha and array.ndim == 3 and array.shape[2] in (2, 4) else None
    alphas = sum(sample in _ALPHA for sample in chosen.extrasamples)
    if array.ndim == 3 and array.shape[2] == 1 + alphas and photometric in ("MINISBLACK", "MINISWHITE"):
        array = array[:, :, 0]
    if photometric == "MINISWHITE":
        array = -array if array.dtype.kind == "f" else ~array  # of n bits: 2ⁿ − 1 − value, and −1 − value with a sign
    grey = array.ndim == 2 and photometric in ("MINISBLACK", "MINISWHITE")
    colour = array.ndim == 3 and array.shape[2] >= 3 and photometric in ("RGB", "YCBCR")
    if not (grey or colour):
        raise UnreadableFile(
            f"{path} is a TIFF of the unsupported colour model {photometric} and the shape {array.shape}."
        )
    plain = np.ascontiguousarray(array[:, :, :3] if colour else array)
    return plain if more is None else np.concatenate([plain.reshape(*plain.shape[:2], -1), more], axis=2)


def _from_cmyk(array: NDArray[Any], chosen: Any, path: Path) -> NDArray[np.uint8]:
    """RGB of CMYK inks without a colour profile: (1 − ink) · (1 − black). Raises UnreadableFile for other inks."""
    inks = chosen.tags.valueof("InkSet", 1)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] < 4 or inks != 1:
        raise UnreadableFile(
            f"{path} is a TIFF of printing inks ({array.dtype}, shape {array.shape}, ink set {inks}), of which only "
            "8-bit CMYK is read. Save it as RGB or grey."
        )
    left = 255 - array[:, :, :4].astype(np.uint16)
    return np.asarray((left[:, :, :3] * left[:, :, 3:] + 127) // 255, np.uint8)


def _from_ycbcr(array: NDArray[Any], chosen: Any, path: Path) -> NDArray[np.uint8]:
    """RGB of YCbCr stored without JPEG (TIFF 6.0, section 21). Raises UnreadableFile for other than its defaults."""
    from PIL import Image

    range_ = _numbers(chosen.tags.valueof("ReferenceBlackWhite")) or _FULL_RANGE
    luma = _numbers(chosen.tags.valueof("YCbCrCoefficients")) or _LUMA
    usual = np.allclose(range_, _FULL_RANGE) and np.allclose(luma, _LUMA, atol=1e-3)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not usual:
        raise UnreadableFile(
            f"{path} is a TIFF of YCbCr colours ({array.dtype}, shape {array.shape}), of which only 8 bits in full "
            "range are read. Save it as RGB or grey."
        )
    return np.asarray(Image.fromarray(np.ascontiguousarray(array), "YCbCr").convert("RGB"))


def _numbers(rationals: Any) -> list[float]:
    """The values of a tag of rational numbers, which tifffile gives as numerator, denominator, …"""
    flat = [float(value) for value in rationals or ()]
    return [a / b if b else math.nan for a, b in zip(flat[::2], flat[1::2], strict=True)]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]
