"""FH-PS-AOP: fetal head and pubic symphysis in 4,000 frames of transperineal video; MetaImages, labels beside them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from us43d import masks
from us43d.contract import RawTree, Remarked, Sample, lazy
from us43d.facts import source

VALUES = {"pubic_symphysis": 1, "fetal_head": 2}


def read(raw: RawTree, *, in_view: bool = False) -> Iterator[Sample]:
    """in_view: clear what lies outside the field of view, as estimated by the published conversion."""
    tree = raw.at("image_mha")
    for key in tree.glob("image_mha/*.mha"):
        picture = lazy(plane, tree.path(key))
        labels = lazy(masks.mha_frame, tree.path(key.replace("image_mha/", "label_mha/", 1)), 0)
        structures = masks.by_value(labels, VALUES)
        view = lazy(field_of_view, picture)
        yield Sample(
            key=key,
            image=picture,
            masks={label: lazy(both, view, mask) for label, mask in structures.items()} if in_view else structures,
            group="all",
        )


def plane(path: Path) -> Any:
    """Return the grey image that the file holds three times, channel first."""
    shape, _ = masks.mha_shape(path)
    first, *others = (masks.mha_frame(path, n) for n in range(shape[2] if len(shape) == 3 else 1))
    same = all((other == first).all() for other in others)
    return first if same else Remarked(first, ("the three planes of the image differ: the first is read",))


def field_of_view(picture: Any) -> Any:
    """Return the convex hull of the largest lit region, less what hangs on it by under 12 pixels."""
    import cv2
    import numpy as np

    lit = masks.opened(masks.largest(picture), 12).astype(np.uint8)
    points = cv2.findNonZero(lit)
    return (lit if points is None else cv2.fillConvexPoly(lit, cv2.convexHull(points), 1)) != 0


def both(view: Any, mask: Any) -> Any:
    return view & mask if view.shape == mask.shape else mask  # of another size: an error where the image is known


RECIPE = source(__name__, read, paper=partial(read, in_view=True))
