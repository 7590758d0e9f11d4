"""Masks with the errors a model makes, for corrective clicks to correct.

In training, a model's own masks are nearly right, as it learns these very images, and their windows are those of the
true masks. On new images it takes in the dark structure beside the object, or finds only a part of it: errors that it
would otherwise not learn to correct.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["mistaken"]

Mask = NDArray[np.bool_]

#: Largest area of a neighbouring structure, in areas of the object.
MOST = 3


def mistaken(pixels: NDArray[np.uint8], mask: Mask, rng: np.random.Generator) -> Mask:
    """Draw a mask with one error: a structure beside the object, a blob, a part alone, or a border too far out or in.

    Args:
        pixels: (h, w) or (h, w, 3) uint8.
        mask: (h, w) bool, not empty.
        rng: Decides on kind and size of the error.

    Returns:
        (h, w) bool, not empty.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = (x, y, width, height)
    kinds: tuple[Callable[[], Mask], ...] = (
        lambda: mask | _neighbour(pixels, mask, box, rng),
        lambda: mask | _blob(mask.shape, box, 1.0, rng),
        lambda: _part(mask, box, rng),
        lambda: _moved_border(mask, box, rng),
    )
    wrong = kinds[int(rng.choice(4, p=(0.35, 0.25, 0.25, 0.15)))]()
    return wrong if wrong.any() else mask


def _neighbour(pixels: NDArray[np.uint8], mask: Mask, box: tuple[int, int, int, int], rng: np.random.Generator) -> Mask:
    """Grow a region of similar brightness from the mask's border; draw a blob where it is too small or too large."""
    x, y, width, height = box
    reach = max(width, height)
    top, left = max(y - reach, 0), max(x - reach, 0)
    around = np.s_[top : y + height + reach, left : x + width + reach]
    grey = pixels[around] if pixels.ndim == 2 else cv2.cvtColor(pixels[around], cv2.COLOR_RGB2GRAY)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(1.0, 0.04 * min(width, height)))
    near = mask[around]
    ring = cv2.dilate(near.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~near
    rows, columns = np.nonzero(ring)
    if len(rows):
        # A pixel beside the mask that is most like the object: there a model takes in too much.
        unlike = np.abs(smooth[rows, columns] - float(np.median(smooth[near])))
        at = int(np.argsort(unlike, kind="stable")[int(rng.integers(1 + len(rows) // 10))])
        barrier = np.pad(near.astype(np.uint8), 1)
        tolerance = float(rng.uniform(8, 40))
        cv2.floodFill(
            smooth, barrier, (int(columns[at]), int(rows[at])), 0, tolerance, tolerance,
            8 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | 2 << 8,
        )  # fmt: skip
        grown = cv2.morphologyEx(
            (barrier[1:-1, 1:-1] == 2).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
        )
        if 0.1 * near.sum() < grown.sum() < MOST * near.sum():
            out = np.zeros(mask.shape, bool)
            out[around] = grown.astype(bool)
            return out
    return _blob(mask.shape, box, 1.0, rng)


def _blob(shape: tuple[int, ...], box: tuple[int, int, int, int], away: float, rng: np.random.Generator) -> Mask:
    """Draw an ellipse whose centre is up to `away` sides of the box from the box's centre."""
    x, y, width, height = box
    centre = np.array([x + width / 2, y + height / 2]) + rng.uniform(-away, away, 2) * (width, height)
    axes = np.maximum(np.exp(rng.uniform(-1.4, 0.1, 2)) * (width, height) / 2, 1)
    out = np.zeros(shape, np.uint8)
    cv2.ellipse(
        out, (round(float(centre[0])), round(float(centre[1]))), (round(float(axes[0])), round(float(axes[1]))),
        float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED,
    )  # fmt: skip
    return out.astype(bool)


def _part(mask: Mask, box: tuple[int, int, int, int], rng: np.random.Generator) -> Mask:
    """Keep what of the mask lies in an ellipse about one of its pixels."""
    rows, columns = np.nonzero(mask)
    at = int(rng.integers(len(rows)))
    _, _, width, height = box
    about = (int(columns[at]) - width // 2, int(rows[at]) - height // 2, width, height)
    return mask & _blob(mask.shape, about, 0.0, rng)


def _moved_border(mask: Mask, box: tuple[int, int, int, int], rng: np.random.Generator) -> Mask:
    """Move the border outwards or inwards by 4 to 20 % of the box's shorter side."""
    by = max(1, round(float(rng.uniform(0.04, 0.2)) * min(box[2:])))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by + 1, 2 * by + 1))
    change = cv2.dilate if rng.random() < 0.5 else cv2.erode
    return np.asarray(change(mask.view(np.uint8), disc), bool)
