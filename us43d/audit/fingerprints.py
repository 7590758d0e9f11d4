"""The fingerprint of an image: perceptual hashes of windows around its distinctive points.

The image is reduced to 128 pixels on its longer side. Around extrema of a difference of Gaussians, windows of 40 pixels
are described by the signs of their lowest frequencies (the perceptual hash of Zauner 2010, of a window instead of the
whole). Re-encoding, resizing and gamma leave most bits unchanged, a crop leaves most windows unchanged, and a mirrored
window differs by the signs of its odd frequencies. These signs are made canonical: an image and its mirror images have
the same hashes, and how each window was mirrored is stored with its hash.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MIRRORED", "SCALES", "SIDE", "THUMB", "Fingerprint", "fingerprint", "mirrored", "reduced"]

#: Longer side of the reduced image, pixels.
SIDE = 128
#: Longer side of the thumbnail kept of every image, pixels.
THUMB = 96
#: Sizes of the windows: an image cropped by a third of its length shows the rest one and a half times as large.
SCALES = (1.0, 0.84, 0.71, 0.6)
#: Windows of one image at most. A crop keeps some of them and replaces the rest, so more than half must be spare.
_SPOTS = 48
_HALF, _GRID = 20.0, 16
_STEPS = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _HALF

_DCT: NDArray[np.float32] = (
    np.cos(np.pi * (2 * np.arange(_GRID)[None] + 1) * np.arange(8)[:, None] / (2 * _GRID)) * np.sqrt(2 / _GRID)
).astype(np.float32)


def _bits(rows: Any, columns: Any) -> np.uint64:
    """Return the bits of the frequencies [rows, columns], the first of 8 × 8 highest, as `pixels.perceptual_hash`."""
    block = np.zeros((8, 8), np.uint8)
    block[rows, columns] = 1
    return np.uint64(int.from_bytes(np.packbits(block).tobytes(), "big"))


_ODD = slice(1, None, 2)
#: By mirroring (bit 0: left and right swapped, bit 1: top and bottom): the bits whose frequencies change their sign.
MIRRORED = np.array(
    [0, _bits(slice(None), _ODD), _bits(_ODD, slice(None)), _bits(slice(None), _ODD) ^ _bits(_ODD, slice(None))],
    np.uint64,
)


class Fingerprint(NamedTuple):
    """What an image is recognised by.

    Attributes:
        spots: (n, 2) float32, centres of the windows (x, y) in the reduced image.
        hashes: (len(SCALES), n) uint64.
        mirrorings: (len(SCALES), n) uint8, how each window was mirrored into its canonical form.
        thumb: (h, w) uint8, the thumbnail.
        size: (width, height) of the reduced image.
    """

    spots: NDArray[np.float32]
    hashes: NDArray[np.uint64]
    mirrorings: NDArray[np.uint8]
    thumb: NDArray[np.uint8]
    size: tuple[int, int]


def reduced(image: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """Resize a grey image so that its longer side has `side` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def mirrored(image: NDArray[Any], mirroring: int) -> NDArray[Any]:
    """Mirror an image. Bit 0 of `mirroring` swaps left and right, bit 1 top and bottom."""
    return np.ascontiguousarray(image[:: -1 if mirroring & 2 else 1, :: -1 if mirroring & 1 else 1])


def fingerprint(image: NDArray[np.uint8]) -> Fingerprint:
    """Compute the fingerprint of a grey image (h, w); without windows where it is too narrow or uniform."""
    small = reduced(image, SIDE)
    thumb, values = reduced(small, THUMB), small.astype(np.float32)
    height, width = values.shape
    spots = _spots(values)
    smooth = cv2.GaussianBlur(values, (0, 0), 1.5)
    scale = np.repeat(np.array(SCALES), len(spots))[:, None, None]
    x, y = (np.tile(spots[:, n], len(SCALES))[:, None, None] for n in (0, 1))
    shape = (len(scale), _GRID, _GRID)
    at_x = np.broadcast_to(x + scale * _STEPS[None, None, :], shape).astype(np.float32).reshape(-1, _GRID)
    at_y = np.broadcast_to(y + scale * _STEPS[None, :, None], shape).astype(np.float32).reshape(-1, _GRID)
    if not len(spots):
        none = np.zeros((len(SCALES), 0))
        return Fingerprint(spots, none.astype(np.uint64), none.astype(np.uint8), thumb, (width, height))
    windows = cv2.remap(smooth, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(shape)
    frequencies = _DCT @ windows @ _DCT.T
    frequencies[:, 0, 0] = 1  # brightness is not a feature
    hashes = np.packbits(frequencies.reshape(-1, 64) > 0, axis=1).view(">u8").ravel().astype(np.uint64)
    mirrorings = (frequencies[:, 0, 1] < 0).astype(np.uint8) + 2 * (frequencies[:, 1, 0] < 0).astype(np.uint8)
    hashes ^= MIRRORED[mirrorings]
    rows = len(SCALES)
    return Fingerprint(spots, hashes.reshape(rows, -1), mirrorings.reshape(rows, -1), thumb, (width, height))


def _spots(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the most distinctive extrema of the difference of Gaussians, relative to the contrast around them."""
    difference = cv2.GaussianBlur(values, (0, 0), 2.0) - cv2.GaussianBlur(values, (0, 0), 3.2)
    distinct = np.abs(difference) / (np.sqrt(cv2.GaussianBlur(difference * difference, (0, 0), 8)) + 0.7)
    peak = (distinct == cv2.dilate(distinct, np.ones((5, 5), np.uint8))) & (distinct > 0.3)
    inside = np.zeros_like(peak)
    margin = int(0.8 * _HALF)  # the windows' corners may leave the image a little
    inside[margin:-margin, margin:-margin] = True
    y, x = np.nonzero(peak & inside)
    best = np.argsort(-distinct[y, x], kind="stable")[:_SPOTS]
    return np.stack([x[best], y[best]], axis=1).astype(np.float32)
