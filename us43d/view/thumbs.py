"""Thumbnails of images and of their masks, made once and kept on disk within a bound."""

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d import atomic
from us43d.machine import processors
from us43d.masks import read
from us43d.pictures.levels import eight_bits

__all__ = ["PALETTE", "SIDE", "Thumbs", "colour", "overlay", "png", "small", "thumbnail"]

#: Longer side of a thumbnail, pixels.
SIDE = 288
#: Colours of structures (RGB), told apart on grey and by people who see few colours (Okabe and Ito, with two more).
PALETTE = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (160, 130, 255),
    (120, 220, 180),
)  # fmt: skip
#: Scales at which a JPEG is decoded, and how OpenCV is asked for them.
_GREY = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
_COLOUR = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
#: Files written between two looks at how much the folder holds.
_EVERY = 500


def colour(category: int) -> tuple[int, int, int]:
    """Return the colour of a structure, the same on every page."""
    return PALETTE[category % len(PALETTE)]


class Thumbs:
    """Bytes by name, in files below a folder. limit: bytes on disk; the least recently written go first."""

    def __init__(self, folder: Path, limit: int = 2 << 30) -> None:
        self.folder, self.limit = folder, limit
        self._written = 0
        self._lock = Lock()
        #: Decoding takes memory: as many images at once as there are processors.
        self.decoding = BoundedSemaphore(processors())

    def path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return self.folder / digest[:2] / digest[2:34]

    def get(self, name: str) -> bytes | None:
        """Return the bytes stored under a name, or None."""
        try:
            return self.path(name).read_bytes() or None
        except OSError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Store bytes; a full or read-only disk costs speed, not the image."""
        path = self.path(name)
        with suppress(OSError):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(path, data, durable=False)
        with self._lock:
            self._written += 1
            due = self._written % _EVERY == 1
        if due:
            self.prune()

    def prune(self) -> None:
        """Delete the oldest files until nine tenths of the limit are left, where it is exceeded."""
        files: list[tuple[float, int, str]] = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                with suppress(OSError):
                    stat = (file := Path(folder, name)).stat()
                    files.append((stat.st_mtime, stat.st_size, str(file)))
        total = sum(size for _, size, _ in files)
        if total <= self.limit:
            return
        for _, size, name in sorted(files):
            if total <= 0.9 * self.limit:
                return
            with suppress(OSError):
                Path(name).unlink()
                total -= size


def reduced(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return (width, height) with the longer side at most `side`."""
    scale = min(1.0, side / max(shape[0], shape[1]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _shrunk(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (width, height) in two steps: means of whole pixels, then linear.

    Means of parts of pixels take OpenCV 4 to 50 times as long. Up to a pixel of the result is cut off on the right and
    below.
    """
    factor = max(1, min(image.shape[1] // size[0], image.shape[0] // size[1]))
    if factor > 1:
        width, height = image.shape[1] // factor, image.shape[0] // factor
        whole = image[: height * factor, : width * factor]
        image = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def thumbnail(picture: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """Encode an image (h, w) or (h, w, 3) RGB as JPEG: lossy WebP takes 40 times as long, 8 ms for one thumbnail."""
    small = _shrunk(picture, reduced(picture.shape, side))
    return _encoded(".jpg", _bgr(small), [cv2.IMWRITE_JPEG_QUALITY, 85])


def small(file: Path, side: int = SIDE) -> NDArray[np.uint8]:
    """Read an image for a thumbnail, in 8 bits; a JPEG at the smallest of its scales that has `side` pixels.

    Raises UnreadableFile.
    """
    data = read.content(file)
    head = read.header(data, file)
    if head and head.kind == "jpeg" and head.plain:
        flags = _GREY if head.channels == 1 else _COLOUR
        scale = next((scale for scale in flags if max(head.width, head.height) >= scale * side), 1)
        if scale > 1:
            array = np.asarray(read.decode(data, file, flags[scale]), np.uint8)
            return array if array.ndim == 2 else array[:, :, ::-1]
    return eight_bits(read.picture(data, file, head))


def overlay(shape: tuple[int, int], masks: Iterable[tuple[int, NDArray[np.bool_]]], side: int = SIDE) -> bytes:
    """Transparent PNG of the thumbnail's size with (category, mask (h, w)) filled and outlined.

    It has a palette: encoding takes a tenth of the time of a lossless WebP.
    """
    from PIL import Image

    size = reduced(shape, side)
    canvas = np.zeros(size[::-1], np.uint8)
    for category, mask in masks:
        share = _shrunk(mask.view(np.uint8) * np.uint8(255), size)
        if not share.any():  # at an edge that was cut off
            share = np.asarray(
                cv2.resize(mask.view(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA), np.uint8
            )
        inside = cv2.threshold(share, 127 if share.max(initial=0) > 127 else 0, 1, cv2.THRESH_BINARY)[1]
        outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        fill = 1 + 2 * (category % len(PALETTE))
        cv2.drawContours(canvas, outlines, -1, fill, cv2.FILLED)
        cv2.drawContours(canvas, outlines, -1, fill + 1, 1)
    image = Image.fromarray(canvas)
    image.putpalette(bytes(value for one in ((0, 0, 0), *(c for c in PALETTE for _ in range(2))) for value in one))
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1, transparency=bytes([0, *[70, 255] * len(PALETTE)]))
    return stream.getvalue()


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode an image as PNG, with fast compression."""
    return _encoded(".png", _bgr(picture), [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _bgr(picture: NDArray[Any]) -> NDArray[Any]:
    return picture if picture.ndim == 2 else np.ascontiguousarray(picture[:, :, ::-1])


def _encoded(kind: str, picture: NDArray[Any], options: list[int]) -> bytes:
    _, data = cv2.imencode(kind, picture, options)
    return data.tobytes()
