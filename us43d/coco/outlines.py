"""Outlines drawn in LabelMe (a JSON file per image) or VIA 2 (one per project), in place of images of masks.

Polygons are filled as by pycocotools. Circles and ellipses become polygons of 72 corners, as in VIA's own COCO export.
"""

import math
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from us43d.coco import segmentation
from us43d.coco.schema import Corner, read_json
from us43d.errors import ImageError, UsageError, command, listed
from us43d.pictures import Input
from us43d.rawtree import is_litter

__all__ = ["Drawing", "listing"]

#: Pixels by which a corner may be outside of its image.
_BESIDE = 2
#: Shapes without an area, by both tools.
_LINES = ("line", "linestrip", "point", "points", "polyline")
_CORNERS = TypeAdapter(list[tuple[Corner, Corner]])


def listing(masks: Path) -> list[Input]:
    """List the images of a VIA file, one file of LabelMe, or the JSON files of a folder, as files of masks.

    Their `name` is that of the image without its ending.

    Raises:
        UsageError: A JSON file is of neither tool.
        ImageError: It cannot be read.
    """
    _content.cache_clear()  # a file may have changed
    _entries.cache_clear()
    if masks.is_file():
        entries = _entries(masks)
        if entries is None:
            return [Input(masks, "image", masks.name, masks.stem)]
        return [Input(masks, "image", name, posixpath.splitext(name)[0]) for name in entries]
    files = sorted(masks.rglob("*.[jJ][sS][oO][nN]"))
    paths = [path.relative_to(masks) for path in files if not is_litter(path.name)]
    return [Input(masks / path, "image", path.as_posix(), path.with_suffix("").as_posix()) for path in paths]


class Drawing:
    """The outlines of an image: a file of masks (`us43d.coco.drawn.MaskFile`), and its only plane.

    Attributes:
        path: The file.
        excluded: Reason → number of shapes that give no mask.
    """

    count = 1

    def __init__(self, file: Input) -> None:
        """Raises ImageError, or UsageError for a JSON file of neither tool."""
        self.path, self.excluded = file.path, Counter[str]()
        entries = _entries(file.path)
        self._content = _content(file.path) if entries is None else entries[file.relative]
        self._is_via = entries is not None

    def planes(self) -> Iterator["Drawing"]:
        yield self

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the mask: both tools show images upright."""
        return array

    def masks(self, shape: tuple[int, int], category: str | None) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield (category, mask) of each object: a shape, or the shapes of LabelMe that have one label and group.

        Args:
            shape: (rows, columns) of the image.
            category: Of all objects; None for their labels, and "structure" for those without one.

        Raises:
            ImageError: A shape is invalid or leaves the image, or LabelMe states another size of the image.
        """
        from pycocotools import mask as coco

        if not self._is_via:
            stated = self._content.get("imageHeight") or shape[0], self._content.get("imageWidth") or shape[1]
            if stated != shape:
                raise ImageError(f"{self.path} is of an image of {stated[1]} × {stated[0]} pixels.")
        objects: dict[Any, tuple[str, list[Any]]] = {}  # as run lengths: there may be thousands
        shapes = self._content["regions" if self._is_via else "shapes"]
        for number, entry in enumerate(shapes.values() if isinstance(shapes, Mapping) else shapes):
            try:
                label, group, corners = _of_via(entry, category) if self._is_via else _of_labelme(entry)
                polygon = [] if corners is None else _CORNERS.validate_python(corners)
                if beyond := [(x, y) for x, y in polygon if not (_within(x, shape[1]) and _within(y, shape[0]))]:
                    raise ValueError(f"has the corner {beyond[0]}, outside of {shape[1]} × {shape[0]} pixels")
                flat = [value for corner in polygon for value in corner]
                made, reason = (None, "points and lines") if corners is None else segmentation.encoded([flat], *shape)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
                raise ImageError(f"{self.path}: shape {number} is not valid: {what}.") from error
            if made is None:
                self.excluded[reason] += 1
                continue
            label = label.strip()
            key = number if group is None else (label, group)
            objects.setdefault(key, (category or label or "structure", []))[1].append(
                {"size": shape, "counts": made.counts}
            )
        for name, encodings in objects.values():
            yield name, coco.decode(coco.merge(encodings)).view(bool)


def _within(value: float, side: int) -> bool:
    return -_BESIDE <= value <= side + _BESIDE


@lru_cache(maxsize=1)
def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise ImageError(f"{path} cannot be read: {error}.") from error


@lru_cache(maxsize=1)  # asked for by each of its images
def _entries(path: Path) -> dict[str, Any] | None:
    """Return the entries of a VIA file by the names of their images; None for a file of LabelMe."""
    content = _content(path)
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        return None
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else {}
    try:
        images = {
            entry["filename"].replace("\\", "/"): entry
            for entry in entries.values()
            if isinstance(entry["regions"], list | dict)
        }
    except (AttributeError, KeyError, TypeError):
        images = {}
    if not images or len(images) < len(entries):
        raise UsageError(
            f"{path} is neither of LabelMe (shapes) nor of VIA 2 (regions of images, each listed once).",
            next=f"{command('train', '--data', path)}   (if it is a COCO file)",
        )
    return images


def _of_labelme(shape: Mapping[str, Any]) -> tuple[str, Any, Sequence[Any] | None]:
    """Return (label, group, corners (x, y)) of a shape; None for a point or a line."""
    kind, points = shape.get("shape_type") or "polygon", list(shape["points"])
    if kind == "circle":  # its centre and a point of the circle
        (x0, y0), rim = points
        radius = math.dist((x0, y0), rim)
        points = _ellipse(x0, y0, radius, radius)
    elif kind == "rectangle":  # two corners; X-AnyLabeling writes all four
        (x0, *_, x1), (y0, *_, y1) = map(sorted, zip(*points, strict=True))
        points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    elif kind not in (*_LINES, "polygon", "oriented_rectangle"):
        raise ValueError(f"{kind!r} is not supported")
    label, group = shape["label"], shape.get("group_id")
    if not isinstance(label, str | int) or not isinstance(group, str | int | None):
        raise ValueError(f"its label {label!r} or group {group!r} is neither a text nor a number")
    return str(label), group, None if kind in _LINES else points


def _of_via(region: Mapping[str, Any], category: str | None) -> tuple[str, None, Sequence[Any] | None]:
    """As `_of_labelme`. Without a category, the label is the only text or ticked checkbox among the attributes."""
    labels = dict[str, str]()
    for key, value in region["region_attributes"].items():
        options = {option: option for option, ticked in value.items() if ticked} if isinstance(value, Mapping) else {}
        labels |= {key: value} if value and isinstance(value, str) else options
    if len(labels) > 1 and category is None:
        raise ValueError(f"it has several attributes ({listed(labels)}); --category gives one name to all shapes")
    corners: Sequence[Any] | None
    match region["shape_attributes"]:
        case {"name": "polygon", "all_points_x": xs, "all_points_y": ys}:
            corners = list(zip(xs, ys, strict=True))
        case {"name": "rect", "x": x, "y": y, "width": width, "height": height}:
            corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        case {"name": "circle", "cx": x, "cy": y, "r": radius}:
            corners = _ellipse(x, y, radius, radius)
        case {"name": "ellipse", "cx": x, "cy": y, "rx": a, "ry": b} as shape:
            corners = _ellipse(x, y, a, b, shape.get("theta", 0))
        case {"name": name} if name in _LINES:
            corners = None
        case shape:
            raise ValueError(f"{shape} is not supported")
    return next(iter(labels.values()), ""), None, corners


def _ellipse(x: float, y: float, a: float, b: float, turn: float = 0) -> list[tuple[float, float]]:
    """Return points of an ellipse with half axes a and b, turned by radians from x to y."""
    cos, sin = math.cos(turn), math.sin(turn)
    around = [(a * math.cos(n * math.pi / 36), b * math.sin(n * math.pi / 36)) for n in range(72)]
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in around]
