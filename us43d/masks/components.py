"""From a mask to annotations: connected components, their run-length encoding, area and box.

Two pixels belong together when they touch at a side or a corner (8-connectivity, as in the published conversion).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

__all__ = ["Piece", "components", "covers_corners", "whole"]


class Piece(NamedTuple):
    """counts: compressed RLE of the full image. area: pixels. box: (x, y, width, height) in pixels."""

    counts: str
    area: int
    box: tuple[int, int, int, int]


def components(mask: NDArray[Any]) -> list[Piece]:
    """Return the 8-connected components of a mask (h, w), ordered by their first pixel read column by column."""
    return [piece for _, piece in sorted(_components(_flat(mask)))]


def covers_corners(mask: NDArray[Any]) -> bool:
    """Return whether a mask (h, w) covers all four corners: it is inverted, or drawn over all of the image."""
    return bool(mask[:: max(1, len(mask) - 1), :: max(1, mask.shape[1] - 1)].all())


def whole(mask: NDArray[Any]) -> Piece | None:
    """Return all of a mask (h, w) as one piece; None if it is empty."""
    flat = _flat(mask)
    x, y, width, height = cv2.boundingRect(flat)
    if width == 0:
        return None
    crop = flat[y : y + height, x : x + width]
    return _encode(crop, flat.shape, (x, y, width, height), int(np.count_nonzero(crop)))[1]


def _flat(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """0 and 1."""
    return np.ascontiguousarray(mask if mask.dtype == bool else mask != 0).view(np.uint8)


def _components(mask: NDArray[np.uint8]) -> Iterator[tuple[int, Piece]]:
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return
    crop = mask[y : y + height, x : x + width]
    count, labels = cv2.connectedComponents(crop, connectivity=8, ltype=cv2.CV_32S)
    if count == 2:  # background and one component, by far the commonest; the statistics would cost more than the rest
        yield _encode(crop, mask.shape, (x, y, width, height), cv2.countNonZero(crop))
        return
    count, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8, ltype=cv2.CV_32S)
    for label in range(1, count):
        left, top, wide, high, area = (int(value) for value in stats[label])
        piece = (labels[top : top + high, left : left + wide] == label).view(np.uint8)
        yield _encode(piece, mask.shape, (x + left, y + top, wide, high), area)


def _encode(
    crop: NDArray[np.uint8], shape: tuple[int, ...], box: tuple[int, int, int, int], area: int
) -> tuple[int, Piece]:
    """Yield (position of the first pixel in column order, the piece) of a 0/1 crop at `box` in the image."""
    rows, cols = shape
    x, y, width, height = box
    # The columns one after the other, each followed by a background pixel, so that no run crosses columns.
    columns = np.zeros(1 + width * (height + 1), np.uint8)
    columns[1:].reshape(width, height + 1)[:, :height] = cv2.transpose(crop)
    edge = np.flatnonzero(columns[1:] != columns[:-1])
    column = edge // (height + 1)
    at = (x * rows + y) + column * (rows - height - 1) + edge
    start, end = at[::2], at[1::2]
    if height == rows:  # a run may continue from the foot of a column to the head of the next
        joined = np.flatnonzero(start[1:] == end[:-1])
        start, end = np.delete(start, joined + 1), np.delete(end, joined)
    runs = np.empty(2 * len(start) + 1, np.int64)
    runs[0], runs[1::2], runs[2:-1:2], runs[-1] = start[0], end - start, start[1:] - end[:-1], rows * cols - end[-1]
    if runs[-1] == 0:
        runs = runs[:-1]
    encoded = coco.frPyObjects({"size": [rows, cols], "counts": runs.tolist()}, rows, cols)
    return int(start[0]), Piece(encoded["counts"].decode("ascii"), area, box)
