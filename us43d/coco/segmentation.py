"""Convert COCO segmentations (polygons, run lengths, compressed run lengths) to compressed run lengths."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d.errors import counted
from us43d.limits import MAX_CORNER
from us43d.masks import rle

__all__ = ["REPEATS", "WITHOUT", "Encoded", "corners", "encode", "encoded", "fits_box", "specks_remark"]

#: Why an annotation is excluded whose category and mask another one of its image has.
REPEATS = "that repeat another one (same image, category and mask)"

#: Why a box is excluded.
WITHOUT = "without segmentation"

#: Longest outline of a polygon, in pixels; pycocotools needs about 100 bytes per pixel.
_LONGEST = 2_000_000
#: Pixels by which both boxes of an annotation are enlarged before they are compared, and the least IoU.
_MARGIN, _SAME_BOX = 2, 0.5


class Encoded(NamedTuple):
    """A mask. counts: compressed run lengths. area: in pixels. box: x, y, width, height in pixels."""

    counts: bytes
    area: int
    box: tuple[int, int, int, int]


def encode(mask: NDArray[np.bool_]) -> bytes:
    """Compress a mask (h, w) bool with pycocotools."""
    from pycocotools import mask as coco

    return bytes(coco.encode(np.asfortranarray(mask, np.uint8))["counts"])


def encoded(segmentation: Any, height: int, width: int) -> tuple[Encoded | None, str]:
    """Read a segmentation.

    Polygons are filled as by pycocotools; several polygons of an annotation are united.

    Args:
        segmentation: Polygons, run lengths or compressed run lengths, or None.
        height: Rows of its image.
        width: Columns of its image.

    Returns:
        (mask, ""), or (None, reason) for an empty annotation, which is excluded.

    Raises:
        ValueError: The segmentation is invalid; args are the fault and, where it helps, the value.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, Mapping) and segmentation:
        packed = {"size": [height, width], "counts": _runs(segmentation, height, width)}
    else:
        polygons = _polygons(segmentation or ())
        if not polygons:
            return None, WITHOUT
        solid = [polygon for polygon in polygons if len(polygon) >= 6]
        if not solid:
            return None, "with fewer than 3 points"
        packed = coco.merge(coco.frPyObjects(solid, height, width))
    area = int(coco.area(packed))
    if area == 0:
        return None, "that enclose no pixel"
    x, y, w, h = (int(value) for value in coco.toBbox(packed))
    return Encoded(bytes(packed["counts"]), area, (x, y, w, h)), ""


def corners(segmentation: Any) -> NDArray[np.float64] | None:
    """Return the corners (n, 2) of valid polygons, x before y; None for run lengths and without a corner."""
    if isinstance(segmentation, Mapping):
        return None
    flat = [np.ravel(polygon) for polygon in segmentation if np.size(polygon)]
    return np.concatenate(flat).astype(np.float64).reshape(-1, 2) if flat else None


def fits_box(stated: Sequence[float], box: Sequence[float], height: int, width: int) -> bool:
    """Return whether a stated x, y, width, height, cut at the border of the image, is roughly the box of a mask."""
    sides = []
    for axis, length in enumerate((width, height)):
        ends = [(one[axis], one[axis] + one[axis + 2]) for one in (stated, box)]
        cut = [(max(0.0, low) - _MARGIN, min(length, high) + _MARGIN) for low, high in ends]
        common = min(high for _, high in cut) - max(low for low, _ in cut)
        sides.append((max(0.0, common), *(max(0.0, high - low) for low, high in cut)))
    common, first, second = (x * y for x, y in zip(*sides, strict=True))
    return bool(common >= _SAME_BOX * (first + second - common))


def specks_remark(count: int) -> str:
    """Return the remark on annotations that are specks."""
    return (
        f"{counted(count, 'annotation is a speck', 'annotations are specks')}, under 16 pixels and 1/10,000 of the "
        "image; training and evaluation exclude them."
    )


def _polygons(segmentation: Sequence[Any]) -> list[list[float]]:
    """Return the non-empty polygons as flat lists of x, y. A flat list of numbers is one polygon."""
    flat = bool(segmentation) and not isinstance(segmentation[0], list | tuple | np.ndarray)
    if any(map(_is_points, (segmentation, *segmentation))):
        raise ValueError("has polygons as lists of points, where COCO has x, y, x, y, …")
    polygons = []
    for polygon in [segmentation] if flat else segmentation:
        try:
            corners = np.asarray(polygon, np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError("is not a list of numbers", polygon) from error
        checked = isinstance(polygon, np.ndarray)
        if corners.ndim != 1 or (not checked and any(isinstance(value, str | bool) for value in polygon)):
            raise ValueError("is not a list of numbers", polygon)
        if len(corners) % 2:
            raise ValueError(f"holds a polygon of {len(corners)} numbers, which are not pairs")
        if len(corners) and not np.abs(corners).max() <= MAX_CORNER:
            strange = corners[~(np.abs(corners) <= MAX_CORNER)][0]
            raise ValueError(f"has a corner at {strange:g}, outside of any image")
        if np.abs(np.diff(corners.reshape(-1, 2), axis=0)).sum() > _LONGEST:
            raise ValueError(f"has an outline of more than {_LONGEST:,} pixels")
        if len(corners):
            polygons.append(corners.tolist())
    return polygons


def _is_points(polygon: Any) -> bool:
    """Return whether a polygon is a list of at least three pairs of numbers."""
    return (
        isinstance(polygon, list | tuple | np.ndarray)
        and len(polygon) > 2
        and all(isinstance(point, list | tuple | np.ndarray) and len(point) == 2 for point in polygon)
    )


def _runs(segmentation: Mapping[str, Any], height: int, width: int) -> bytes:
    """Check and compress the run lengths of a mask; pycocotools writes out of bounds for invalid ones."""
    from pycocotools import mask as coco

    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size is None or counts is None:
        raise ValueError(f"has no {'size' if size is None else 'counts'}")
    if not isinstance(size, list | tuple) or list(size) != [height, width] or bool in map(type, size):
        raise ValueError("has a size that is not [height, width] of its image")
    if isinstance(counts, str | bytes):
        text = counts.encode() if isinstance(counts, str) else counts
        runs = rle.counts(text)
    else:
        try:
            runs = np.asarray(counts)
        except (ValueError, OverflowError) as error:
            raise ValueError("counts are not whole numbers", counts) from error
        flags = isinstance(counts, list) and bool in map(type, counts)
        if flags or runs.ndim != 1 or (len(runs) and runs.dtype.kind not in "iu"):
            raise ValueError("counts are not whole numbers", counts if isinstance(counts, list) else runs.tolist())
        text = b""
    if len(runs) and (int(runs.min()) < 0 or int(runs.max()) > height * width):
        raise ValueError(f"has runs from {runs.min()} to {runs.max()} in an image of {height} × {width} pixels")
    if int(runs.sum()) != height * width:
        raise ValueError(f"has runs of {int(runs.sum())} pixels together, but its image has {height} × {width}")
    if text:
        return text
    packed = coco.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return bytes(packed["counts"])
