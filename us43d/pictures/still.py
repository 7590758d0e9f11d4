"""Read PNG, JPEG, JPEG 2000, BMP, GIF, WebP, PNM and TIFF as viewers show them: upright and with palettes applied."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from us43d import limits, tiff
from us43d.errors import ImageError
from us43d.masks import read
from us43d.pictures import levels
from us43d.pictures.listing import check_regular

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Pages", "Still", "opened", "upright"]

_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "DIB", "GIF", "WEBP", "PPM")
#: Errors of Pillow and imagecodecs for damaged files.
_DAMAGED = (
    OSError, EOFError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    struct.error,
)  # fmt: skip
#: Modes of Pillow of one channel that keep the values of the file.
_ONE = ("L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
#: Orientation tag of TIFF and Exif.
_ORIENTATION = 0x0112
#: Start of a JPEG 2000 stream, and its header of sizes: right, lower, left and upper edge, channels, bits − 1.
_STREAM, _SIZES = b"\xff\x4f\xff\x51", struct.Struct(">8x4I16xHB")
#: Formats whose further images are not frames of a sequence.
_SINGLE = ("JPEG", "MPO")


def opened(path: Path) -> "Pages | Still":
    """Open a still image by its first bytes, not by its name. Raises ImageError or UnreadableFile."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    return Pages(path) if tiff.is_tiff(start) else Still(path)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror an image by its orientation tag (Exif 2.3, 0x0112); unknown values are ignored.

    Args:
        array: (h, w) or (h, w, channels) as stored.
        orientation: 1 to 8; 5 to 8 exchange the axes.

    Returns:
        The upright image.
    """
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


class Still:
    """An image file read by Pillow, or a plain PNG, read by a faster decoder."""

    spacing: tuple[float, float] | None = None
    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
        self.header = read.header(self.data, path)
        self.orientation, self.frames = 1, 1
        self.plain = self.header is not None and self.header.kind == "png" and self.header.plain and not self._moves()
        if not self.plain:
            self.orientation, self.frames = self._facts()
        self.deep = self.header is not None and self.header.kind == "png" and self.header.bits == 16
        if self.deep and self.frames > 1:  # Pillow joins its frames wrongly
            raise ImageError(f"{path} is an animated PNG of 16 bits, which is not read here. Save its frames as files.")
        self.streamed = not self.plain and self._is_deep_stream()
        if self.orientation != 1:
            self.remarks.append(f"rotated upright by the Exif orientation {self.orientation}")
        self.count: int | None = self.frames

    def _moves(self) -> bool:
        """Return whether a PNG is animated."""
        return b"acTL" in read.png_chunks(self.data)

    def _is_deep_stream(self) -> bool:
        """Return whether the file is a JPEG 2000 of more than 8 bits; check the size that its stream claims."""
        at = self.data.find(_STREAM)
        if self.format != "JPEG2000" or not 0 <= at <= len(self.data) - _SIZES.size:
            return False
        right, lower, left, upper, channels, bits = _SIZES.unpack_from(self.data, at)
        limits.check_size(self.path, max(0, right - left), max(0, lower - upper), channels, 2)
        return int(bits) & 0x7F >= 8

    def _facts(self) -> tuple[int, int]:
        """Read (orientation, number of frames)."""
        with _pillow(self.data, self.path) as image:
            self.format = image.format
            frames = 1 if image.format in _SINGLE else int(getattr(image, "n_frames", 1))
            if image.format == "PPM" and _is_followed(self.data, image):
                raise ImageError(f"{self.path} holds several images, of which one is read. Save them as files.")
            orientation = image.getexif().get(_ORIENTATION, 1)
            return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1, frames

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        if self.plain or self.deep:  # Pillow truncates 16-bit colours to their highest 8 bits
            array = read.picture(self.data, self.path, self.header)
            yield upright(_simplest(array), self.orientation)
            return
        with _pillow(self.data, self.path) as image:
            if self.streamed and image.mode not in _ONE:  # Pillow makes 8 bits of them, and black of white
                yield upright(_simplest(_decoded_stream(self.data)), self.orientation)
                return
            for number in range(self.frames) if wanted is None else (wanted,):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's own limit; that of us43d is checked below
                    image.seek(number)
                    limits.check_size(self.path, *image.size, 4)  # a frame may be larger than the first
                    array = _pixels(image)
                yield upright(array, self.orientation)


class Pages:
    """A TIFF file; pages are frames, except masks and smaller copies of other pages."""

    spacing: tuple[float, float] | None = None
    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        with tiff.opened(path, path) as file:
            if not file.pages:
                raise ImageError(f"{path} is a TIFF without a page.")
            self.pages = tiff.images(file, path)
            pages = list(enumerate(file.pages))
            self.bits = {n: int(page.bitspersample) for n, page in pages if page.colormap is None}
            self.orientations = {n: int(page.tags.valueof(_ORIENTATION, 1)) for n, page in pages}
            if (
                file.is_imagej
                and len(self.pages) == 1
                and (frames := (file.imagej_metadata or {}).get("images", 1)) > 1
            ):
                raise ImageError(f"{path} is an ImageJ stack of {frames} images in one page; save it as a plain TIFF.")
        self.orientation = self.orientations[self.pages[0]]
        if skipped := len(pages) - len(self.pages):
            self.remarks.append(f"{skipped} pages that are masks or smaller copies of others are not read")
        if any(self.orientations[n] not in (0, 1) for n in self.pages):
            self.remarks.append("rotated upright by the orientation tag")
        self.count: int | None = len(self.pages)

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        with tiff.opened(self.path, self.path) as file:
            for number in self.pages if wanted is None else [self.pages[wanted]]:
                array = tiff.page(file, number, self.path)
                yield upright(_simplest(levels.full_range(array, self.bits.get(number, 8))), self.orientations[number])


@contextlib.contextmanager
def _pillow(data: bytes, path: Path) -> Iterator["Image.Image"]:
    """Open an image with Pillow; check its size, and convert errors to ImageError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits are checked below
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except _DAMAGED as error:
        raise ImageError(limits.unreadable(data, path)) from error
    with image:
        limits.check_size(path, *image.size, 4 if len(image.getbands()) > 1 else 1)
        try:
            yield image
        except Image.DecompressionBombError as error:  # claimed by a later frame
            raise _too_large(path) from error
        except _DAMAGED as error:
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ImageError(f"{path} is damaged or truncated: {reason}.") from error


def _is_followed(data: bytes, image: Any) -> bool:
    """Return whether another image follows that of a PNM file, as its format allows."""
    codec, _, offset, how = image.tile[0]
    if codec == "ppm_plain":  # text
        return b"P" in data[offset:]
    deep = image.mode == "I" or (codec == "ppm" and how[1] > 255)
    depth = {"1": 1, "F": 32}.get(image.mode, 16 if deep else 8)
    bits = len(image.getbands()) * depth
    rest = data[offset + (image.width * bits + 7) // 8 * image.height :]
    return rest.lstrip()[:1] == b"P"


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path} claims more than the {limits.MAX_PIXELS:,} pixels allowed.")


def _pixels(image: "Image.Image") -> NDArray[Any]:
    """Return the current frame: grey in its own type, other modes as RGB uint8, without alpha."""
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in _ONE:
        return np.asarray(image)
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel(0))
    return _simplest(np.asarray(image.convert("RGB")))


def _decoded_stream(data: bytes) -> NDArray[Any]:
    """Decode a JPEG 2000 image of several channels: (h, w) or (h, w, 3), without alpha."""
    import imagecodecs

    array = imagecodecs.jpeg2k_decode(data)
    return np.asarray(array[:, :, 0] if array.shape[2] == 2 else array[:, :, :3])


def _simplest(array: NDArray[Any]) -> NDArray[Any]:
    """Return grey if the three channels are equal."""
    if array.ndim == 2:
        return array
    single = read.common_channel(array)
    return array if single is None else single
