"""Masks as polygons that rasterize back to the same mask."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["outlines"]


def outlines(mask: NDArray[np.bool_]) -> tuple[list[NDArray[np.int64]], int]:
    """Trace a mask as one closed polygon per 8-connected component, holes joined to it.

    A hole is joined by a horizontal cut that runs inside the component and is passed twice, so `cv2.fillPoly` of the
    polygon gives exactly the component.

    Args:
        mask: (height, width) bool.

    Returns:
        Polygons (N, 2) of x, y pixel indices, ordered as OpenCV finds the components, and the number of holes joined.
    """
    # A border of background, so that a component at the edge has a contour and every ray from a hole ends.
    padded = cv2.copyMakeBorder(np.ascontiguousarray(mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    contours, hierarchy = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons, joined = [], 0
    for n, contour in enumerate(contours):
        if hierarchy[0][n][3] >= 0:  # a hole
            continue
        holes = []
        hole = int(hierarchy[0][n][2])
        while hole >= 0:
            holes.append(contours[hole][:, 0])
            hole = int(hierarchy[0][hole][0])
        joined += len(holes)
        polygons.append(_straight(_joined(contour[:, 0], holes, padded)) - 1)
    return polygons, joined


def _joined(outer: NDArray[Any], holes: list[NDArray[Any]], padded: NDArray[Any]) -> NDArray[np.int64]:
    """Return the outer contour with every hole spliced in where a ray to its left meets the joined contour."""
    polygon = outer.astype(np.int64)
    for hole in sorted(holes, key=lambda points: (points[:, 0].min(), points[:, 1].min())):
        start = int(np.lexsort((hole[:, 1], hole[:, 0]))[0])
        x, y = (int(value) for value in hole[start])
        row = padded[y, : x + 1]
        left = int(np.flatnonzero(row == 0)[-1]) + 1  # the last pixel of the component before background
        at = int(np.flatnonzero((polygon[:, 0] == left) & (polygon[:, 1] == y))[0])
        ring = np.concatenate([hole[start:], hole[: start + 1]]).astype(np.int64)
        polygon = np.concatenate([polygon[: at + 1], ring, polygon[at:]])
    return polygon


def _straight(polygon: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out points in the middle of a straight line; turning back is not straight."""
    polygon = polygon[(polygon != np.roll(polygon, 1, axis=0)).any(axis=1)] if len(polygon) > 1 else polygon
    if len(polygon) < 3:
        return polygon
    before, after = polygon - np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0) - polygon
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    dot = (before * after).sum(axis=1)
    kept = polygon[(cross != 0) | (dot < 0)]
    return kept if len(kept) else polygon[:1]
