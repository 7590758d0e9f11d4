"""Turning label maps, colours, outlines and polygons into masks. A mask is (h, w) bool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.contract import Remarked
from us43d.errors import UnreadableFile
from us43d.masks.read import grey

__all__ = [
    "above", "between", "binary", "colour", "eight_bit", "ellipse", "equal", "fill_holes", "fill_polygon", "label_map",
    "label_values", "largest", "nonzero", "opened", "turned",
]  # fmt: skip


def above(array: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    return np.asarray(array > threshold)


def between(array: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    """Pixels above `low` and not above `high`."""
    return np.asarray((array > low) & (array <= high))


def nonzero(array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(array != 0)


def equal(array: NDArray[Any], *values: float) -> NDArray[np.bool_]:
    """Pixels of a label map that have one of `values`."""
    return np.asarray(array == values[0] if len(values) == 1 else np.isin(array, values))


def label_map(array: NDArray[Any], values: tuple[int, ...]) -> NDArray[Any]:
    """The label map itself. Raises UnreadableFile if it holds a value that is neither 0 nor one of `values`."""
    if strange := [float(value) for value in np.unique(array) if value not in (0, *values)]:
        more = " …" if len(strange) > 5 else ""
        found = ", ".join(f"{value:g}" for value in strange[:5])
        raise UnreadableFile(f"The label map holds {found}{more} beside 0 and {', '.join(map(str, values))}.")
    return array


def eight_bit(array: NDArray[Any]) -> NDArray[np.uint8] | Remarked:
    """Grey values of any type that lie in 0–255, as uint8; others are cut off there, with a remark."""
    if array.dtype == np.uint8:
        return array
    whole = np.rint(np.clip(np.nan_to_num(array), 0, 255)).astype(np.uint8)
    beyond = int(np.count_nonzero(~((array >= 0) & (array <= 255))))
    return Remarked(whole, (f"grey values outside 0–255 cut off: {beyond} pixels",)) if beyond else whole


def turned(array: NDArray[Any]) -> NDArray[Any]:
    """Turned by 180 degrees."""
    return np.ascontiguousarray(array[::-1, ::-1])


def label_values(array: NDArray[Any], where: object) -> tuple[int, ...]:
    """The values of a label map other than 0, sorted. Raises UnreadableFile, naming `where`, if they are not whole."""
    if not array.any():
        return ()
    values = np.unique(array[array != 0])
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise UnreadableFile(f"{where} has label values that are no whole numbers, such as {values[-1]}.")
    return tuple(int(value) for value in values)


def binary(path: Path) -> NDArray[np.bool_] | Remarked:
    """A two-valued mask file in any mode (1-bit, grey, palette, RGB), cut at half range.

    Files hold 0/255, 0/1 or grey edges left by resizing or JPEG; 0/1 is recognised by nothing exceeding 1. Grey edge
    pixels are counted in a remark.
    """
    array = grey(path)
    if int(array.max(initial=0)) <= 1:
        return array > 0
    between = cv2.countNonZero(cv2.inRange(array, 1, 254))
    mask = array > 127
    return Remarked(mask, (f"grey mask edge: {between} pixels between 0 and 255",)) if between else mask


def colour(array: NDArray[np.uint8], wanted: tuple[int, int, int], tolerance: int = 127) -> NDArray[np.bool_]:
    """Pixels of an RGB picture within `tolerance` of a colour in every channel."""
    low = [max(0, channel - tolerance) for channel in wanted]
    high = [min(255, channel + tolerance) for channel in wanted]
    return np.asarray(cv2.inRange(array, np.array(low, np.uint8), np.array(high, np.uint8)) != 0)


def fill_holes(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """The mask with every background region that does not reach the border (4-connected) filled."""
    padded = cv2.copyMakeBorder((mask != 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    return np.asarray(padded[1:-1, 1:-1] != 2)


def largest(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest 8-connected component of a mask, the first of equal ones; none of an empty mask."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask != 0).astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.asarray(labels == 1 + int(areas.argmax())) if len(areas) else np.zeros(mask.shape, bool)


def opened(mask: NDArray[Any], side: int) -> NDArray[np.bool_]:
    """A mask eroded with a square of `side` pixels, its largest component dilated by the same square."""
    square = np.ones((side, side), np.uint8)
    core = largest(cv2.erode((mask != 0).astype(np.uint8), square))
    centre = ((side - 1) // 2, (side - 1) // 2)  # an even square is mirrored, or the mask would move by a pixel
    return np.asarray(cv2.dilate(core.astype(np.uint8), square, anchor=centre) != 0)


def ellipse(outline: NDArray[Any]) -> Remarked:
    """The region enclosed by a drawn ellipse, closed where the picture's border cuts it.

    A closed outline is filled as drawn. An open one is completed by the ellipse fitted to its pixels (least squares of
    algebraic distance, Fitzgibbon 1995, as in OpenCV's fitEllipseDirect), and a remark says so. Raises UnreadableFile
    with fewer than 5 pixels.
    """
    drawn = outline != 0
    filled = fill_holes(drawn)
    if np.count_nonzero(filled) > 2 * np.count_nonzero(drawn):
        return Remarked(filled, ())
    points = cv2.findNonZero(drawn.astype(np.uint8))
    if points is None or len(points) < 5:
        raise UnreadableFile("An outline has fewer than 5 pixels, too few for an ellipse.")
    centre, axes, angle = cv2.fitEllipseDirect(points)
    canvas = np.zeros(drawn.shape, np.uint8)
    cv2.ellipse(canvas, (centre, axes, angle), 1, -1, cv2.LINE_8)
    return Remarked((canvas != 0) | drawn, ("open outline completed by the fitted ellipse",))


def fill_polygon(
    points: Sequence[tuple[float, float]], shape: tuple[int, int], rule: str = "touch"
) -> NDArray[np.bool_]:
    """A filled polygon of (x, y) points on a canvas of `shape` (rows, columns); see `Polygon` for the rules.

    "inside" follows the even-odd rule on pixel centres at integer coordinates; the outline itself counts as inside.
    Raises UnreadableFile for a corner so far away that no picture reaches it and arithmetic would fail.
    """
    if far := [point for point in points if not max(map(abs, point)) <= _FAR]:
        raise UnreadableFile(f"An outline has a corner at ({far[0][0]:g}, {far[0][1]:g}), which no picture reaches.")
    if rule == "touch":
        canvas = np.zeros(shape, np.uint8)
        if points:
            cv2.fillPoly(canvas, [np.rint(np.asarray(points, np.float64)).astype(np.int32)], 1)
        return np.asarray(canvas != 0)
    inside = np.zeros(shape, bool)
    xy = np.asarray(points, np.float64)
    first, last = max(0, int(np.ceil(xy[:, 1].min()))), min(shape[0], int(np.floor(xy[:, 1].max())) + 1)
    band = max(1, _CELLS // max(len(xy), shape[1]))
    for top in range(first, last, band):
        rows = np.arange(top, min(top + band, last))
        inside[top : top + len(rows)] = _rows_inside(xy, rows, shape[1])
    return inside


_FAR = 1e6  # pixels
_CELLS = 1 << 22  # edges, or columns, times rows in memory at once


def _rows_inside(xy: NDArray[np.float64], rows: NDArray[np.int64], columns: int) -> NDArray[np.bool_]:
    """(len(rows), columns): the pixels of consecutive rows that lie in or on a closed polygon (n, 2)."""
    x0, y0 = xy.T
    x1, y1 = np.roll(xy, -1, axis=0).T
    steps = np.zeros((len(rows), columns + 1), np.int32)  # +1 where a run begins, −1 behind its end

    def fill(row: NDArray[np.int64], left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        begin = np.clip(np.ceil(left - 1e-9), 0, columns).astype(np.int64)
        end = np.clip(np.floor(right + 1e-9) + 1, 0, columns).astype(np.int64)
        some = begin < end
        np.add.at(steps, (row[some], begin[some]), 1)
        np.add.at(steps, (row[some], end[some]), -1)

    at = rows[:, None]
    # The two half-open readings of "crosses this row" differ on vertices and level edges only; together they give the
    # region with its border, but for level edges that enclose nothing.
    for crossing in ((y0 <= at) != (y1 <= at), (y0 < at) != (y1 < at)):
        row, edge = np.nonzero(crossing)
        x = x0[edge] + (rows[row] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
        order = np.lexsort((x, row))  # a row crosses a closed polygon an even number of times
        fill(row[order][::2], x[order][::2], x[order][1::2])
    row, edge = np.nonzero((y0 == at) & (y1 == at))
    fill(row, np.minimum(x0, x1)[edge], np.maximum(x0, x1)[edge])
    return np.asarray(np.cumsum(steps[:, :-1], axis=1) > 0)
