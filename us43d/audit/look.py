"""One look at a picture and its masks: prints to recognise it by, masks outside of what the probe saw, marks."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.prints import SIDE, Prints, prints, reduced
from us43d.harmonize import pixels
from us43d.masks import read, rle

__all__ = ["OUTSIDE", "Annotation", "Look", "field_of_view", "grey", "look", "marks", "outside", "picture"]

#: Share of a mask that must lie outside the field of view to be named.
OUTSIDE = 0.1


class Annotation(NamedTuple):
    """What the audit needs of a COCO annotation. box: x, y, width, height."""

    label: str
    category: int
    diagnosis: str | None
    area: int
    box: tuple[int, int, int, int]
    counts: str
    speck: bool


class Look(NamedTuple):
    """outside: (label, share) of masks that leave the field of view. marks: kind → share of the picture."""

    prints: Prints
    outside: list[tuple[str, float]]
    marks: dict[str, float]


def picture(path: Path) -> NDArray[np.uint8]:
    """(h, w) grey or (h, w, 3) RGB, 8 bits; grey where all channels are equal."""
    array = read.image(path)
    if array.dtype == np.uint16:
        top = max(1, int(array.max()))  # 12-bit pictures use a sixteenth of the range
        array = (array.astype(np.float32) * (255 / top)).astype(np.uint8)
    return np.asarray(pixels.canonical(array), np.uint8)


def grey(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return array if array.ndim == 2 else np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), np.uint8)


def look(path: Path, annotations: list[Annotation]) -> Look:
    """Raises UnreadableFile."""
    found = picture(path)
    flat = grey(found)
    return Look(prints(flat), outside(flat, annotations), marks(found, flat))


def field_of_view(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the probe saw, as 0 or 1 at 128 pixels: the convex hull of the largest part that is not black.

    Anechoic regions (a bladder, a cyst) lie inside the hull. A picture without black borders is all seen.
    """
    lit = (reduced(flat, SIDE) > 6).astype(np.uint8)
    lit = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(np.uint8)
    parts, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    seen = np.zeros_like(lit)
    if parts:
        cv2.drawContours(seen, [cv2.convexHull(max(parts, key=cv2.contourArea))], -1, 1, -1)
    return np.asarray(cv2.dilate(seen, np.ones((5, 5), np.uint8)), np.uint8)


def outside(flat: NDArray[np.uint8], annotations: list[Annotation]) -> list[tuple[str, float]]:
    """(label, share of the mask outside the field of view) where that is more than `OUTSIDE`."""
    if not annotations:
        return []
    seen = field_of_view(flat)
    if seen.all():
        return []
    (height, width), (rows, columns) = flat.shape, seen.shape
    found = []
    for each in annotations:
        x, y, w, h = each.box
        x0, x1 = x * columns // width, -(-(x + w) * columns // width)
        y0, y1 = y * rows // height, -(-(y + h) * rows // height)
        if seen[y0:y1, x0:x1].all():  # no need to decode the mask
            continue
        mask = rle.decode(each.counts.encode("ascii"), height, width)[y : y + h, x : x + w]
        at_y, at_x = (np.arange(y, y + h) * rows // height, np.arange(x, x + w) * columns // width)
        share = float((mask & (seen[np.ix_(at_y, at_x)] == 0)).sum() / max(1, each.area))
        if share > OUTSIDE:
            found.append((each.label, share))
    return found


def marks(found: NDArray[np.uint8], flat: NDArray[np.uint8]) -> dict[str, float]:
    """Graphics drawn into a picture, where they are cheap to see: kind → share of the pixels.

    colour: coloured pixels in a picture that is otherwise grey (callipers, letters, flow); tint: colour nearly
    everywhere. lines: thin strokes of full white.
    """
    said: dict[str, float] = {}
    if found.ndim == 3:
        spread = found.max(axis=2).astype(np.int16) - found.min(axis=2)
        share = float((spread > 60).mean())
        if share > 0.5 or float((spread > 20).mean()) > 0.6:
            said["tint"] = share
        elif (spread > 60).sum() >= 20:
            said["colour"] = share
    strokes = cv2.morphologyEx(flat, cv2.MORPH_TOPHAT, np.ones((7, 7), np.uint8))
    thin = (strokes > 150) & (flat >= 230)
    if thin.sum() >= 20:
        said["lines"] = float(thin.mean())
    return said
