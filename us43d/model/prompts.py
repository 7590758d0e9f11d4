"""Prompts drawn from a mask, as a person would give them: one point inside, or a box around it.

Coordinates are those of `predict`: pixels of the picture, x to the right, y down, the first pixel's centre at (0, 0); a
box is (x0, y0, x0 + width, y0 + height), as in COCO.
"""

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["box", "box_of", "click", "clicks", "ellipse", "fixed", "jittered", "outside", "point"]

Mask = NDArray[np.bool_]


def fixed(key: str, seed: int = 0) -> np.random.Generator:
    """Chance that depends on a key alone: prompts of validation are the same in every run and on every machine."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def point(mask: Mask, rng: np.random.Generator) -> tuple[float, float]:
    """A point of a mask (h, w), every place in it equally likely: a pixel, and a place within that pixel."""
    x0, y0, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    inside = np.flatnonzero(mask[y0 : y0 + height, x0 : x0 + width])
    if len(inside) == 0:
        raise ValueError("an empty mask has no point")
    y, x = divmod(int(inside[rng.integers(len(inside))]), width)
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    return x0 + x + float(dx), y0 + y + float(dy)


def outside(mask: Mask, rng: np.random.Generator, margin: float = 0.25) -> tuple[float, float] | None:
    """A point outside of a mask (h, w), within its box widened by `margin` of its sides; None if there is none."""
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
    """The exact box of a mask that is not empty."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if width == 0:
        raise ValueError("an empty mask has no box")
    return np.array([x, y, x + width, y + height], np.float64)


def jittered(
    exact: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator, jitter: float
) -> NDArray[np.float64]:
    """The box with each side moved by up to ±jitter of the box's extent, cut at the picture's border.

    shape: (rows, columns) of the picture.
    """
    x0, y0, x1, y1 = exact
    move = rng.uniform(-jitter, jitter, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
    return np.clip(exact + move, 0, (shape[1], shape[0], shape[1], shape[0]))


def box(mask: Mask, rng: np.random.Generator, jitter: float) -> NDArray[np.float64]:
    """A box about a mask, jittered."""
    return jittered(box_of(mask), mask.shape, rng, jitter)


def ellipse(exact: NDArray[Any], shape: tuple[int, ...]) -> Mask:
    """The ellipse inscribed in a box, as a mask: what one would draw knowing the box alone. The baseline of all."""
    x0, y0, x1, y1 = (float(value) for value in exact)
    y, x = np.ogrid[: shape[0], : shape[1]]
    # In COCO's boxes a pixel reaches from its index to the next.
    u = (x + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    v = (y + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    return np.asarray(u * u + v * v <= 1)


def click(truth: Mask, found: Mask) -> tuple[int, int, int] | None:
    """(x, y, 1 to add or 0 to take away) in the middle of the largest error; None where there is none.

    Errors are the connected parts missed and the connected parts too many. The middle is the pixel farthest from the
    part's outside, the picture's border being outside.
    """
    best: tuple[int, int, int, int] | None = None
    for inside, error in ((1, truth & ~found), (0, found & ~truth)):
        x, y, width, height = cv2.boundingRect(error.view(np.uint8))
        if width == 0:
            continue
        crop = error[y : y + height, x : x + width].view(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
        part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        area = int(stats[part, cv2.CC_STAT_AREA])
        if best is None or area > best[0]:
            padded = np.pad((labels == part).view(np.uint8), 1)
            depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            down, right = divmod(int(depth.argmax()), depth.shape[1])
            best = (area, x + right - 1, y + down - 1, inside)
    return best[1:] if best else None


def clicks(truth: Mask, found: Mask, count: int, reach: float = 0.12) -> list[tuple[int, int, int]]:
    """At most `count` corrective clicks on one mask, as training gives them: each where `click` puts it, after all
    before it have mended the mask within `reach` of its side. Fewer where the mask has no further error."""
    mended, places = found.copy(), []
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
