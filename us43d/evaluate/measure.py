"""Clinical measurements of masks: head circumference, diameters, areas, ventricular volumes, wall thickness.

Masks are (h, w) bool. spacing is mm per pixel in (x, y); with (1, 1) lengths are pixels. Lengths run between the edges
of pixels, not between their centres: a mask of 10 × 10 pixels is 10 pixels wide. Formulas name their source, and
their known bias.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.masks.ellipses import Ellipse, boundary, fit_ellipse, perimeter

__all__ = [
    "DISCS", "Chambers", "Ellipse", "Head", "area", "boundary", "centre_line", "chamber", "diameters",
    "ejection_fraction", "fit_ellipse", "head", "head_of_outline", "perimeter", "thickness", "volume_area_length",
    "volume_biplane", "volume_discs",
]  # fmt: skip

Mask = NDArray[np.bool_]
Spacing = tuple[float, float]

#: Discs of Simpson's rule, as recommended by Lang et al. 2015.
DISCS = 20


# ------------------------------------------------------------------------------------------------------------ geometry


def area(mask: Mask, spacing: Spacing = (1.0, 1.0)) -> float:
    """Compute the area in mm²: number of pixels times area of a pixel."""
    return float(np.count_nonzero(mask)) * spacing[0] * spacing[1]


def diameters(mask: Mask, spacing: Spacing = (1.0, 1.0)) -> tuple[float, float]:
    """Measure the longest diameter and the extent perpendicular to it, in mm; NaN for an empty mask.

    The size of a nodule or lesion in the plane (ACR TI-RADS, Tessler et al. 2017, doi 10.1016/j.jacr.2017.01.046: the
    maximum dimension, and the one perpendicular to it). Bias: a jagged boundary adds at most one pixel.
    """
    if not mask.any():
        return np.nan, np.nan
    points = boundary(np.pad(mask, 1), spacing)
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    gaps = hull[:, None] - hull[None]
    lengths = np.hypot(gaps[..., 0], gaps[..., 1])
    one, two = np.unravel_index(int(lengths.argmax()), lengths.shape)
    along = gaps[one, two] / max(lengths[one, two], 1e-12)
    return float(lengths[one, two]), float(np.ptp(hull @ (-along[1], along[0])))


# ---------------------------------------------------------------------------------------------------------- fetal head


class Head(NamedTuple):
    """Measurements of a fetal head, in mm.

    Attributes:
        hc: Head circumference.
        bpd: Biparietal diameter, here the short axis.
        ofd: Occipitofrontal diameter, here the long axis.
    """

    hc: float
    bpd: float
    ofd: float


def head(mask: Mask, spacing: Spacing) -> Head:
    """Measure a fetal head by the ellipse fitted to the boundary of its largest component.

    The circumference of the ellipse about the outer edge of the skull (ISUOG, Salomon et al. 2011, doi
    10.1002/uog.8909). Where the head leaves the image, the ellipse is fitted to the visible boundary.

    Bias: HC18's masks are outlines 2.5 pixels wide, filled; their outer edge is 1.25 pixels outside of the line that
    was drawn. Masks therefore exceed HC18's table by 0.8 % on average over the images in the test (0.5 to 1.4 %, more
    for smaller heads). `head_of_outline` has no such bias. The biparietal diameter is from outer to outer edge here;
    guidelines also allow outer to inner, which is shorter by the thickness of the skull.
    """
    ellipse = fit_ellipse(boundary(_largest(mask), spacing))
    return Head(perimeter(ellipse), ellipse.short, ellipse.long)


def centre_line(outline: Mask, spacing: Spacing) -> Ellipse:
    """Fit an ellipse to the pixels of an outline: it runs along the middle of the stroke, whatever its width.

    An outline that is cut off by the image's border is continued by the ellipse.
    """
    y, x = np.nonzero(outline)
    return fit_ellipse(np.stack([(x + 0.5) * spacing[0], (y + 0.5) * spacing[1]], axis=1))


def head_of_outline(outline: Mask, spacing: Spacing) -> Head:
    """Measure a fetal head that is drawn as an outline, along its `centre_line`.

    Agrees with HC18's table within 0.05 % (tests/real/test_measure.py).
    """
    ellipse = centre_line(outline, spacing)
    return Head(perimeter(ellipse), ellipse.short, ellipse.long)


def _largest(mask: Mask) -> Mask:
    """Select the largest 8-connected component: a stray speck would distort an ellipse."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())) if len(stats) > 1 else mask


# ----------------------------------------------------------------------------------------------------------- ventricle


class Chambers(NamedTuple):
    """A ventricle in one view.

    Attributes:
        length: Of the long axis, in mm.
        area: In mm².
        widths: (DISCS,), of the discs, in mm.
    """

    length: float
    area: float
    widths: NDArray[np.float64]


def chamber(mask: Mask, spacing: Spacing) -> Chambers | None:
    """Cut the largest component of a ventricle's mask into discs across its long axis; None if the mask is empty.

    The long axis is the mask's principal axis. Guidelines take the line from the apex to the middle of the mitral
    annulus (Lang et al. 2015, doi 10.1016/j.echo.2014.10.003), which a mask alone does not show.
    """
    if not mask.any():
        return None
    mask = _largest(mask)
    y, x = np.nonzero(mask)
    points = np.stack([(x + 0.5) * spacing[0], (y + 0.5) * spacing[1]], axis=1)
    centred = points - points.mean(0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    edge = (boundary(np.pad(mask, 1), spacing) - np.array(spacing) - points.mean(0)) @ axis
    low, high = float(edge.min()), float(edge.max())
    # Each pixel is sampled at nine points, so that thin discs get their share of its area.
    offsets = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) / 3 * np.array(spacing)
    places = np.concatenate([(centred + offset) @ axis for offset in offsets])
    counts, _ = np.histogram(places, DISCS, (low, high))
    size = area(mask, spacing)
    return Chambers(high - low, size, counts / len(places) * size / ((high - low) / DISCS))


def volume_area_length(view: Chambers) -> float:
    """Compute a volume in ml from one view by the area-length rule, 8 A² / (3 π L) (Dodge 1960; Lang et al. 2015).

    Exact for an ellipsoid of revolution about the long axis. Bias: a foreshortened apex makes volumes too small.
    """
    return 8 * view.area**2 / (3 * np.pi * view.length) / 1000


def volume_discs(view: Chambers) -> float:
    """Compute a volume in ml from one view by Simpson's rule: 20 circular discs (Lang et al. 2015)."""
    return float(np.pi / 4 * np.square(view.widths).sum() * view.length / DISCS / 1000)


def volume_biplane(two: Chambers, four: Chambers) -> float:
    """Compute a volume in ml from two views by Simpson's biplane rule: 20 elliptical discs (Lang et al. 2015).

    Discs have the height of the longer view. They are paired along the long axes in the direction in which their widths
    agree better, as a mask does not show where the apex is.
    """
    flipped = two.widths[::-1]
    paired = max(float((two.widths * four.widths).sum()), float((flipped * four.widths).sum()))
    return float(np.pi / 4 * paired * max(two.length, four.length) / DISCS / 1000)


def ejection_fraction(diastolic: float, systolic: float) -> float:
    """Compute the ejection fraction in percent from two volumes; NaN if the first is not positive."""
    return 100 * (diastolic - systolic) / diastolic if diastolic > 0 else np.nan


# ---------------------------------------------------------------------------------------------------------------- wall


def thickness(mask: Mask, spacing: Spacing) -> float:
    """Measure the mean thickness in mm of a band that runs across the image, such as the intima-media complex.

    Area divided by the length of the centre line; the centre line is a cubic polynomial fitted to the middles of the
    mask's columns, so that steps of one pixel do not lengthen it. The complex lies between the lumen-intima and the
    media-adventitia interface (Mannheim consensus, Touboul et al. 2012, doi 10.1159/000343145). Bias: none for a
    straight band at any slope; ends cut vertically change a steep band's thickness by less than 1 %.
    """
    mask = _largest(mask)
    per_column = mask.sum(0)
    columns = np.flatnonzero(per_column)
    if len(columns) < 8:
        return np.nan
    rows = (np.arange(mask.shape[0]) + 0.5) @ mask[:, columns] / per_column[columns]
    x, y = (columns + 0.5) * spacing[0], rows * spacing[1]
    line = np.polynomial.Polynomial.fit(x, y, 3)
    at = np.linspace(columns[0] * spacing[0], (columns[-1] + 1) * spacing[0], 4 * len(columns))
    length = float(np.hypot(np.diff(at), np.diff(line(at))).sum())
    return area(mask, spacing) / length
