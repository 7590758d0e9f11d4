"""UBPD: brachial plexus images with LabelMe outlines of nerves, vessels and muscles, labelled in pinyin."""

import math
import re
from collections.abc import Iterator

from us43d import masks
from us43d.contract import Lazy, RawTree, Sample, lazy
from us43d.errors import UnreadableFile
from us43d.facts import source

#: In the copy on GitHub and in the owners' tree.
IMAGE = re.compile(r"(?:.*/)?(?:images|JPEGImages)/((\d+)(?:_\d+)+)\.jpg", re.IGNORECASE)

#: More than any image here has.
MAX_PIXELS = 1 << 24


def read(raw: RawTree) -> Iterator[Sample]:
    labels = raw.at("json_train")
    images = {match[1]: (key, match[2]) for key in raw if (match := IMAGE.fullmatch(key))}
    for stem, (key, patient) in sorted(images.items()):
        with raw.reading(f"images/{stem}.jpg"):
            yield Sample(
                key=f"images/{stem}.jpg",  # in both trees
                image=raw.path(key),
                masks=outlines(labels, f"json_train/{stem}.json"),
                group=str(int(patient)),
            )


def outlines(tree: RawTree, key: str) -> dict[str, list[Lazy]]:
    """Return label → its filled polygons in a LabelMe file, most of which are UTF-8, some GBK.

    They are as large as the file says of its image, so that an image of another size is an error.
    """
    by_label: dict[str, list[Lazy]] = {}
    try:
        content = tree.json(key, ("utf-8-sig", "gbk"))
        size = (int(content["imageHeight"]), int(content["imageWidth"]))
        if not 0 < size[0] * size[1] <= MAX_PIXELS:
            raise ValueError(f"its image has {size[1]} × {size[0]} pixels")
        for shape in content["shapes"]:
            if (kind := shape.get("shape_type") or "polygon") != "polygon":
                raise ValueError(f"a shape is a {kind}, not a polygon")
            points = tuple((float(x), float(y)) for x, y in shape["points"])
            if len(points) < 3 or not all(map(math.isfinite, sum(points, ()))):
                raise ValueError(f"a polygon has the points {points}")
            by_label.setdefault(str(shape["label"]), []).append(lazy(masks.fill_polygon, points, size))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{tree.path(key)} is not a valid LabelMe file of polygons: {error}.") from error
    if unknown := set(by_label) - set(RECIPE.labels):
        raise UnreadableFile(f"{tree.path(key)} has the labels {unknown}, which nobody has explained.")
    return by_label


RECIPE = source(__name__, read)
