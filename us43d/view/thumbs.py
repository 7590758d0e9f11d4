"""Thumbnails of images and of their masks, made once and kept on disk within a bound."""

import hashlib
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

__all__ = ["PALETTE", "SIDE", "Thumbs", "colour", "overlay", "png", "thumbnail"]

#: Longer side of a thumbnail, pixels.
SIDE = 288
#: Colours of structures (RGB), told apart on grey and by people who see few colours (Okabe and Ito, with two more).
PALETTE = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (160, 130, 255),
    (120, 220, 180),
)  # fmt: skip
_WEBP_LOSSLESS = 101
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


def thumbnail(picture: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """Encode an image (h, w) or (h, w, 3) RGB as JPEG: lossy WebP takes 40 times as long, 8 ms for one thumbnail."""
    small = cv2.resize(picture, reduced(picture.shape, side), interpolation=cv2.INTER_AREA)
    return _encoded(".jpg", _bgr(small), [cv2.IMWRITE_JPEG_QUALITY, 85])


def overlay(shape: tuple[int, int], masks: Iterable[tuple[int, NDArray[np.bool_]]], side: int = SIDE) -> bytes:
    """Transparent WebP of the thumbnail's size with (category, mask (h, w)) filled and outlined."""
    width, height = reduced(shape, side)
    canvas = np.zeros((height, width, 4), np.uint8)
    for category, mask in masks:
        small = cv2.resize(mask.view(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA)
        inside = small >= 128 if (small >= 128).any() else small > 0
        bgr = colour(category)[::-1]
        canvas[inside] = (*bgr, 70)
        outlines, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, (*bgr, 255), 1)
    return _encoded(".webp", canvas, [cv2.IMWRITE_WEBP_QUALITY, _WEBP_LOSSLESS])


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode an image as PNG, with fast compression."""
    return _encoded(".png", _bgr(picture), [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _bgr(picture: NDArray[Any]) -> NDArray[Any]:
    return picture if picture.ndim == 2 else np.ascontiguousarray(picture[:, :, ::-1])


def _encoded(kind: str, picture: NDArray[Any], options: list[int]) -> bytes:
    _, data = cv2.imencode(kind, picture, options)
    return data.tobytes()
