"""What a picture is recognised by: perceptual hashes of windows around its distinct spots.

The picture is reduced to 128 pixels on its longer side. Around extrema of a difference of Gaussians, windows of 40
pixels are described by the signs of their lowest frequencies (the perceptual hash of Zauner 2010, of a window instead
of the whole). Re-encoding, resizing and gamma leave most bits alone, a crop leaves most windows alone, and a mirrored
window differs by the signs of its odd frequencies, which are therefore made canonical: the codes of a picture and of
its mirror images are the same, and how each window was turned is kept beside its code.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MIRRORED", "SCALES", "SIDE", "THUMB", "Prints", "prints", "reduced", "turned"]

#: Longer side of the reduced picture, pixels.
SIDE = 128
#: Longer side of the thumbnail kept of every picture, pixels.
THUMB = 96
#: Windows are described at these sizes: a picture cropped by a fifth shows the rest a quarter larger.
SCALES = (1.0, 0.89, 0.8)
#: Windows of one picture at most. Twins share half of them or more, so 32 leave enough.
_SPOTS = 32
_HALF, _GRID = 20.0, 16
_STEPS = ((np.arange(_GRID) + 0.5) / _GRID * 2 - 1) * _HALF

_DCT: NDArray[np.float32] = (
    np.cos(np.pi * (2 * np.arange(_GRID)[None] + 1) * np.arange(8)[:, None] / (2 * _GRID)) * np.sqrt(2 / _GRID)
).astype(np.float32)


def _bits(rows: Any, columns: Any) -> np.uint64:
    """The bits of the frequencies [rows, columns], the first of 8 × 8 highest, as in `pixels.perceptual_hash`."""
    block = np.zeros((8, 8), np.uint8)
    block[rows, columns] = 1
    return np.uint64(int.from_bytes(np.packbits(block).tobytes(), "big"))


_ODD = slice(1, None, 2)
#: By turn (bit 0: left and right swapped, bit 1: top and bottom): the bits whose frequencies change their sign.
MIRRORED = np.array(
    [0, _bits(slice(None), _ODD), _bits(_ODD, slice(None)), _bits(slice(None), _ODD) ^ _bits(_ODD, slice(None))],
    np.uint64,
)


class Prints(NamedTuple):
    """spots: (n, 2) float32 (x, y) in the reduced picture. codes: (len(SCALES), n) uint64. turns: (len(SCALES), n)
    uint8, how each window was turned into its canonical form. thumb: (h, w) uint8. size: (width, height) of the
    reduced picture.
    """

    spots: NDArray[np.float32]
    codes: NDArray[np.uint64]
    turns: NDArray[np.uint8]
    thumb: NDArray[np.uint8]
    size: tuple[int, int]


def reduced(picture: NDArray[Any], side: int) -> NDArray[np.uint8]:
    """A grey picture whose longer side has `side` pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def turned(picture: NDArray[Any], turn: int) -> NDArray[Any]:
    """The picture mirrored. turn: bit 0 swaps left and right, bit 1 top and bottom."""
    return np.ascontiguousarray(picture[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1])


def prints(picture: NDArray[np.uint8]) -> Prints:
    """The prints of a grey picture (h, w); none where it is too narrow or shows nothing."""
    reduced_ = reduced(picture, SIDE)
    thumb, small = reduced(reduced_, THUMB), reduced_.astype(np.float32)
    height, width = small.shape
    spots = _spots(small)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.5)
    scale = np.repeat(np.array(SCALES), len(spots))[:, None, None]
    x, y = (np.tile(spots[:, n], len(SCALES))[:, None, None] for n in (0, 1))
    shape = (len(scale), _GRID, _GRID)
    at_x = np.broadcast_to(x + scale * _STEPS[None, None, :], shape).astype(np.float32).reshape(-1, _GRID)
    at_y = np.broadcast_to(y + scale * _STEPS[None, :, None], shape).astype(np.float32).reshape(-1, _GRID)
    if not len(spots):
        none = np.zeros((len(SCALES), 0))
        return Prints(spots, none.astype(np.uint64), none.astype(np.uint8), thumb, (width, height))
    windows = cv2.remap(smooth, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(shape)
    frequencies = _DCT @ windows @ _DCT.T
    frequencies[:, 0, 0] = 1  # brightness is no feature
    codes = np.packbits(frequencies.reshape(-1, 64) > 0, axis=1).view(">u8").ravel().astype(np.uint64)
    turns = (frequencies[:, 0, 1] < 0).astype(np.uint8) + 2 * (frequencies[:, 1, 0] < 0).astype(np.uint8)
    codes ^= MIRRORED[turns]
    return Prints(spots, codes.reshape(len(SCALES), -1), turns.reshape(len(SCALES), -1), thumb, (width, height))


def _spots(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """The most distinct extrema of the difference of Gaussians, judged by their own surroundings' contrast."""
    found = cv2.GaussianBlur(small, (0, 0), 2.0) - cv2.GaussianBlur(small, (0, 0), 3.2)
    distinct = np.abs(found) / (np.sqrt(cv2.GaussianBlur(found * found, (0, 0), 8)) + 0.7)
    peak = (distinct == cv2.dilate(distinct, np.ones((5, 5), np.uint8))) & (distinct > 0.3)
    inside = np.zeros_like(peak)
    margin = int(0.8 * _HALF)  # the windows' corners may leave the picture a little
    inside[margin:-margin, margin:-margin] = True
    y, x = np.nonzero(peak & inside)
    best = np.argsort(-distinct[y, x], kind="stable")[:_SPOTS]
    return np.stack([x[best], y[best]], axis=1).astype(np.float32)
