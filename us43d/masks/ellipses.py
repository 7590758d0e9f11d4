"""Ellipses: drawn as an outline, fitted to the boundary of a mask, and their perimeter."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.contract import Remarked
from us43d.errors import UnreadableFile
from us43d.masks.convert import fill_holes

__all__ = ["Ellipse", "boundary", "ellipse", "fit_ellipse", "perimeter"]

#: Difference from a published circumference that is remarked, as a fraction of it.
_DIFFERENCE = 0.05


class Ellipse(NamedTuple):
    """An ellipse; all values are NaN if no ellipse fits.

    Attributes:
        x: Centre, to the right, in mm.
        y: Centre, down, in mm.
        long: Full length of the long axis, in mm.
        short: Full length of the short axis, in mm.
        angle: From the x axis to the long one, clockwise on the screen, in degrees from 0 to below 180.
    """

    x: float
    y: float
    long: float
    short: float
    angle: float = 0.0


_NO_ELLIPSE = Ellipse(np.nan, np.nan, np.nan, np.nan, np.nan)


def boundary(mask: NDArray[np.bool_], spacing: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
    """Locate the boundary of a mask.

    Returns:
        (N, 2) float64, (x, y) in mm: the middle of every side that a mask pixel shares with a background pixel. The
        image's border gives no points, as the structure may continue beyond it.
    """
    sx, sy = spacing
    y, x = np.nonzero(mask[:, 1:] != mask[:, :-1])
    upright = np.stack([(x + 1.0) * sx, (y + 0.5) * sy], axis=1)
    y, x = np.nonzero(mask[1:] != mask[:-1])
    return np.concatenate([upright, np.stack([(x + 0.5) * sx, (y + 1.0) * sy], axis=1)])


def fit_ellipse(points: NDArray[np.float64]) -> Ellipse:
    """Fit an ellipse to (N, 2) points by direct least squares (Fitzgibbon, Pilu, Fisher 1999, IEEE PAMI 21(5))."""
    if len(points) < 6:
        return _NO_ELLIPSE
    centre, scale = points.mean(0), float(np.ptp(points, axis=0).max())
    if scale <= 0:
        return _NO_ELLIPSE
    (x, y), axes, angle = cv2.fitEllipseDirect(((points - centre) / scale).astype(np.float32))
    turn = angle if axes[0] >= axes[1] else angle + 90  # OpenCV's angle is that of the first axis
    short, long = sorted(float(value) * scale for value in axes)
    if not (np.isfinite([x, y, long, short]).all() and short > 0):
        return _NO_ELLIPSE
    return Ellipse(float(x * scale + centre[0]), float(y * scale + centre[1]), long, short, float(turn % 180))


def perimeter(ellipse: Ellipse) -> float:
    """Compute an ellipse's perimeter by Ramanujan's second formula (1914); error below 1e-5 for axes up to 1 : 3."""
    a, b = ellipse.long / 2, ellipse.short / 2
    h = ((a - b) / (a + b)) ** 2
    return float(np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))


def ellipse(outline: NDArray[Any], pixel: float | None = None, circumference: float | None = None) -> Remarked:
    """Return the region enclosed by a drawn ellipse, closed where the image's border cuts it.

    A closed outline is filled as drawn. An open one is completed by the ellipse fitted to its pixels (least squares of
    algebraic distance, Fitzgibbon 1995, as in OpenCV's fitEllipseDirect), with a remark. The line is brighter than
    half of the brightest pixel, which the noise of a JPEG is not.

    Args:
        outline: (h, w), the drawn line.
        pixel: Side of a pixel in mm.
        circumference: The published one in mm; one that differs by more than 5 % is remarked.

    Raises:
        UnreadableFile: If an open outline has fewer than 5 pixels.
    """
    line = outline > outline.max(initial=0) / 2
    filled = fill_holes(line)
    if np.count_nonzero(filled) > 2 * np.count_nonzero(line):
        return Remarked(filled, _differs(filled, pixel, circumference))
    points = cv2.findNonZero(line.astype(np.uint8))
    if points is None or len(points) < 5:
        raise UnreadableFile("An outline has fewer than 5 pixels, too few for an ellipse.")
    centre, axes, angle = cv2.fitEllipseDirect(points)
    canvas = np.zeros(line.shape, np.uint8)
    cv2.ellipse(canvas, (centre, axes, angle), 1, -1, cv2.LINE_8)
    region = (canvas != 0) | line
    remark = "open outline completed by the fitted ellipse"
    return Remarked(region, (remark, *_differs(region, pixel, circumference)))


def _differs(region: NDArray[np.bool_], pixel: float | None, circumference: float | None) -> tuple[str, ...]:
    if pixel is None or circumference is None:
        return ()
    around = perimeter(fit_ellipse(boundary(region, (pixel, pixel))))
    if not abs(around - circumference) > _DIFFERENCE * circumference:  # NaN where no ellipse fits
        return ()
    return (f"circumference differs from the published one: {around:.1f} mm of the mask, {circumference:.1f} mm there",)
