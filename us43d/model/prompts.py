"""Draw prompts from a reference mask, as a person would give them: points and boxes, then corrective clicks.

Coordinates are those of `predict`: pixels of the image, x to the right, y down, the first pixel's centre at (0, 0); a
box is (x0, y0, x0 + width, y0 + height), as in COCO.
"""

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.masks.distance import exact

__all__ = ["box", "box_of", "click", "clicks", "ellipse", "fixed", "jittered", "outside", "point"]

Mask = NDArray[np.bool_]


def fixed(key: str, seed: int = 0) -> np.random.Generator:
    """Create a random generator that depends only on key and seed, so that validation prompts are always the same."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def point(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point of a mask with uniform probability, with sub-pixel position.

    Args:
        mask: (h, w) bool, not empty.
        rng: Random generator.

    Returns:
        (x, y) in pixels of the image.

    Raises:
        ValueError: The mask is empty.
    """
    x0, y0, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    inside = np.flatnonzero(mask[y0 : y0 + height, x0 : x0 + width])
    if len(inside) == 0:
        raise ValueError("an empty mask has no point")
    y, x = divmod(int(inside[rng.integers(len(inside))]), width)
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    return x0 + x + float(dx), y0 + y + float(dy)


def outside(mask: Mask, rng: np.random.Generator, margin: float = 0.25) -> tuple[float, float] | None:
    """Draw a background pixel near a mask.

    Args:
        mask: (h, w) bool, not empty.
        rng: Random generator.
        margin: The pixel is within the mask's box, extended by this fraction of its sides and 2 pixels.

    Returns:
        (x, y) in pixels of the image; None if the mask covers all of that area.
    """
    rows, columns = mask.shape
    x0, y0, x1, y1 = box_of(mask)
    across, down = margin * (x1 - x0) + 2, margin * (y1 - y0) + 2
    left, top = max(int(x0 - across), 0), max(int(y0 - down), 0)
    free = np.flatnonzero(~mask[top : min(int(y1 + down) + 1, rows), left : min(int(x1 + across) + 1, columns)])
    if len(free) == 0:
        return None
    y, x = divmod(int(free[rng.integers(len(free))]), min(int(x1 + across) + 1, columns) - left)
    return left + x, top + y


def box_of(mask: Mask) -> NDArray[np.float64]:
    """Compute the exact box (4,) float64 of a mask. Raises ValueError for an empty mask."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if width == 0:
        raise ValueError("an empty mask has no box")
    return np.array([x, y, x + width, y + height], np.float64)


def jittered(
    exact: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator, jitter: float
) -> NDArray[np.float64]:
    """Move each side of a box at random, clipped to the image.

    Args:
        exact: (4,) box.
        shape: (rows, columns, …) of the image.
        rng: Random generator.
        jitter: Largest shift, as a fraction of the box's width or height.

    Returns:
        (4,) float64.
    """
    x0, y0, x1, y1 = exact
    move = rng.uniform(-jitter, jitter, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
    return np.clip(exact + move, 0, (shape[1], shape[0], shape[1], shape[0]))


def box(mask: Mask, rng: np.random.Generator, jitter: float) -> NDArray[np.float64]:
    """Draw a jittered box (4,) of a mask."""
    return jittered(box_of(mask), mask.shape, rng, jitter)


def ellipse(exact: NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """Draw the ellipse inscribed in a box (4,) as a mask of shape (rows, columns): the ellipse baseline."""
    x0, y0, x1, y1 = (float(value) for value in exact)
    y, x = np.ogrid[: shape[0], : shape[1]]
    # In COCO's boxes, a pixel extends from its index to the next index.
    u = (x + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    v = (y + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    return np.asarray(u * u + v * v <= 1)


def click(truth: Mask, predicted: Mask) -> tuple[int, int, int] | None:
    """Place a corrective click in the largest error region, at the pixel farthest from its boundary.

    Error regions are the 8-connected components of missed and of falsely predicted pixels; pixels beyond the image
    count as outside of a region.

    Args:
        truth: (h, w) bool.
        predicted: (h, w) bool.

    Returns:
        (x, y, label) with label 1 to add, 0 to remove; None if the masks are equal.
    """
    best: tuple[int, int, int, int] | None = None
    for inside, error in ((1, truth & ~predicted), (0, predicted & ~truth)):
        x, y, width, height = cv2.boundingRect(error.view(np.uint8))
        if width == 0:
            continue
        crop = error[y : y + height, x : x + width].view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
        component = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        area = int(stats[component, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            padded = np.pad((labels == component).view(np.uint8), 1)
            depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            down, right = divmod(int(exact(depth).argmax()), depth.shape[1])
            best = (area, x + right - 1, y + down - 1, inside)
    return best[1:] if best else None


def clicks(truth: Mask, predicted: Mask, count: int, reach: float = 0.12) -> list[tuple[int, int, int]]:
    """Place corrective clicks on one mask for training, without running the model between them.

    Each click is placed by `click`, after the clicks before it have corrected the mask around them.

    Args:
        truth: (h, w) bool.
        predicted: (h, w) bool.
        count: Largest number of clicks.
        reach: Half side of the corrected square, as a fraction of the mask's longer side.

    Returns:
        (x, y, label) of each click; fewer than `count` if no error remains.
    """
    mended, places = predicted.copy(), []
    near = max(1, round(reach * max(truth.shape)))
    for _ in range(count):
        at = click(truth, mended)
        if at is None:
            break
        places.append(at)
        x, y, _ = at
        around = np.s_[max(y - near, 0) : y + near + 1, max(x - near, 0) : x + near + 1]
        mended[around] = truth[around]
    return places
