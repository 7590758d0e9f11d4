"""Identity of an image: its pixel hash and its perceptual hash."""

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.masks.read import common_channel

__all__ = ["canonical", "perceptual_hash", "pixel_hash"]


def canonical(array: NDArray[Any]) -> NDArray[Any]:
    """(h, w) where all channels are equal, else (h, w, 3) RGB, contiguous; so re-encodings of one image agree."""
    if array.ndim == 3 and (single := common_channel(array)) is not None:
        return single
    return np.ascontiguousarray(array)


def pixel_hash(array: NDArray[Any]) -> str:
    """Return the sha256 of "height,width,channels,bits" and the samples of a canonical image.

    16-bit samples are little-endian.
    """
    channels = 1 if array.ndim == 2 else array.shape[2]
    head = f"{array.shape[0]},{array.shape[1]},{channels},{array.dtype.itemsize * 8}"
    digest = hashlib.sha256(head.encode())
    digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()


def perceptual_hash(array: NDArray[Any]) -> int:
    """Return 64 bits that survive re-encoding and resizing: signs of the 8 × 8 lowest frequencies (without the mean).

    The image is reduced to 32 × 32 grey by area averaging and transformed by a DCT; bit i, from the highest, says
    whether coefficient i of the block [0:8, 0:8], row by row, exceeds the median of all but the first (Zauner 2010).
    A large image is halved first, by means of 2 × 2 pixels, which is much cheaper and changes no significant bit.
    """
    while min(rows := array.shape[0] // 2, columns := array.shape[1] // 2) >= 64:
        even = array[: 2 * rows, : 2 * columns]
        array = cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA)
    small = cv2.resize(array, (32, 32), interpolation=cv2.INTER_AREA)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    bits = low > np.sort(low[1:])[31]  # the middle of 63
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
