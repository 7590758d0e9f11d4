"""AUL: 735 livers, the organ and its mass drawn as polygons; a third polygon outlines the field of view."""

import math
from collections.abc import Iterator
from pathlib import PurePath

from us43d.contract import Polygon, RawTree, Sample
from us43d.errors import UnreadableFile
from us43d.facts import source

#: Their outline/ holds the polygon of the liver (UltraBench).
OUTLINE_IS_LIVER = {"Malignant/229", "Malignant/306"}


def read(raw: RawTree) -> Iterator[Sample]:
    for key in raw.glob("**/{Benign,Malignant,Normal}/image/[0-9]*.jpg"):
        *above, kind, _, name = key.split("/")
        with raw.reading(f"{kind}/image/{name}"):
            number = PurePath(name).stem
            folder = "/".join((*above, kind, "segmentation"))
            files = {label: f"{folder}/{label}/{number}.json" for label in ("liver", "mass", "outline")}
            shapes = {label: polygon(raw, file) for label, file in files.items() if raw.has(file)}
            view, remarks = shapes.pop("outline", None), []
            if f"{kind}/{number}" in OUTLINE_IS_LIVER and view:
                shapes["liver"], view = shapes.get("liver", view), None
                remarks.append("the liver was filed as the field of view")
            if view:
                remarks.append(f"field of view outlined: {len(view.points)} points, no structure")
            if "liver" not in shapes:
                remarks.append("no liver polygon")
            if "mass" in shapes:
                shapes[f"{kind.lower()}_mass"] = shapes.pop("mass")
            elif kind != "Normal":
                remarks.append("no mass polygon")
            yield Sample(
                key=f"{kind}/image/{name}",
                image=raw.path(key),
                masks=shapes,
                group=f"{kind}/{number}",
                tags={"diagnosis": kind.lower()},
                remarks=tuple(remarks),
            )


def polygon(raw: RawTree, key: str) -> Polygon:
    """Return the one polygon of a file: [[x, y], …] in pixels."""
    where = f"{raw.prefix}{key} in {raw.root}"
    try:
        points = tuple((float(x), float(y)) for x, y in raw.json(key))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UnreadableFile(f"{where} is not a valid polygon: {error}.") from error
    if len(points) < 3 or not all(math.isfinite(x) and abs(x) < 1 << 15 for point in points for x in point):
        raise UnreadableFile(f"{where} is not a polygon of three or more points inside an image.")
    return Polygon(points)


RECIPE = source(__name__, read)
