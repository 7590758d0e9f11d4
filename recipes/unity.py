"""Unity Imaging: 5,724 echocardiograms with curves; the left ventricle as its closed endocardial curve. Derived masks."""

import math
from collections.abc import Iterator
from typing import Any

from us43d.contract import Polygon, RawTree, Sample, Split
from us43d.errors import UnreadableFile
from us43d.facts import source

PARTS: dict[str, Split] = {"labels-train.json": "train", "labels-tune.json": "val"}
CURVE, FEWEST = "curve-lv-endo", 3


def read(raw: RawTree) -> Iterator[Sample]:
    places = {key.rpartition("/")[2]: key for key in raw.glob("**/png-cache/**/*.png")}
    splits = {name: split for file, split in PARTS.items() for name in labels(raw, file)}
    for name, entry in sorted(labels(raw, "labels-all.json").items()):
        with raw.reading(name):
            curves = tuple(outlines(name, entry))
            clip, _, number = name.removesuffix(".png").rpartition("-")
            yield Sample(
                key=name,
                image=raw.path(places.get(name, f"png-cache/{name}")),
                masks={"left_ventricle": curves} if curves else {},
                group=clip or name,
                split=splits.get(name),
                frame=int(number) if number.isdecimal() else None,
                drop=None if curves else "the endocardial curve is not drawn",
            )


def labels(raw: RawTree, file: str) -> dict[str, Any]:
    content = raw.json(raw.one(f"**/{file}"))
    if not isinstance(content, dict):
        raise UnreadableFile(f"{file} in {raw.root} holds no table of images.")
    return content


def outlines(name: str, entry: Any) -> Iterator[Polygon]:
    """Yield the drawn curves of an image; each is open at the mitral valve, where a straight line closes it."""
    try:
        curves = entry["labels"].get(CURVE, [])
        for curve in curves if isinstance(curves, list) else [curves]:
            if curve["type"] != "curve":
                continue  # off, blurred, or a point
            x, y = ([float(number) for number in curve[axis].split()] for axis in "xy")
            points = tuple(zip(x, y, strict=True))
            if not all(map(math.isfinite, (*x, *y))):
                raise ValueError("non-finite coordinates")
            if len(points) >= FEWEST:
                yield Polygon(points)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableFile(f"The labels of {name} have another form than published: {error}.") from error


RECIPE = source(__name__, read)
