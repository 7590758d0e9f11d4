"""Checks of one image and its masks: its fingerprint, and masks outside the field of view."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.fingerprints import SIDE, Fingerprint, fingerprint, reduced
from us43d.harmonize import pixels
from us43d.masks import read, rle

__all__ = ["OUTSIDE", "Annotation", "ImageCheck", "check_image", "field_of_view", "grey", "load", "masks_outside"]

#: Share of a mask that must lie outside the field of view to be reported.
OUTSIDE = 0.1


class Annotation(NamedTuple):
    """What the audit needs of a COCO annotation. box: x, y, width, height in pixels."""

    label: str
    category: int
    diagnosis: str | None
    area: int
    box: tuple[int, int, int, int]
    counts: str
    speck: bool


class ImageCheck(NamedTuple):
    """fingerprint: of the image. outside: (label, share) of masks that leave the field of view."""

    fingerprint: Fingerprint
    outside: list[tuple[str, float]]


def load(path: Path) -> NDArray[np.uint8]:
    """Read an image of a build as (h, w) grey or (h, w, 3) RGB, 8 bits; grey where all channels are equal."""
    array = read.image(path)
    if array.dtype == np.uint16:
        top = max(1, int(array.max()))  # 12-bit images use a sixteenth of the range
        array = (array.astype(np.float32) * (255 / top)).astype(np.uint8)
    return np.asarray(pixels.canonical(array), np.uint8)


def grey(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an image of `load` to grey."""
    return array if array.ndim == 2 else np.asarray(cv2.cvtColor(array, cv2.COLOR_RGB2GRAY), np.uint8)


def check_image(path: Path, annotations: list[Annotation]) -> ImageCheck:
    """Check one image. Raises UnreadableFile."""
    image = grey(load(path))
    return ImageCheck(fingerprint(image), masks_outside(image, annotations))


def field_of_view(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what the probe saw, as 0 or 1 at 128 pixels: the convex hull of the largest region that is not black.

    Anechoic regions (a bladder, a cyst) lie inside the hull. An image without black borders is all seen.
    """
    lit = (reduced(image, SIDE) > 6).astype(np.uint8)
    lit = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(np.uint8)
    outlines, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    seen = np.zeros_like(lit)
    if outlines:
        cv2.drawContours(seen, [cv2.convexHull(max(outlines, key=cv2.contourArea))], -1, 1, -1)
    return np.asarray(cv2.dilate(seen, np.ones((5, 5), np.uint8)), np.uint8)


def masks_outside(image: NDArray[np.uint8], annotations: list[Annotation]) -> list[tuple[str, float]]:
    """List (label, share of the mask outside the field of view) where that is more than `OUTSIDE`."""
    if not annotations:
        return []
    seen = field_of_view(image)
    if seen.all():
        return []
    (height, width), (rows, columns) = image.shape, seen.shape
    shares = []
    for annotation in annotations:
        x, y, w, h = annotation.box
        x0, x1 = x * columns // width, -(-(x + w) * columns // width)
        y0, y1 = y * rows // height, -(-(y + h) * rows // height)
        if seen[y0:y1, x0:x1].all():  # the mask need not be decoded
            continue
        mask = rle.decode(annotation.counts.encode("ascii"), height, width)[y : y + h, x : x + w]
        at_y, at_x = (np.arange(y, y + h) * rows // height, np.arange(x, x + w) * columns // width)
        share = float((mask & (seen[np.ix_(at_y, at_x)] == 0)).sum() / max(1, annotation.area))
        if share > OUTSIDE:
            shares.append((annotation.label, share))
    return shares
