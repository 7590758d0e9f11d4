"""Ellipses fitted to the boundary of a mask, and their perimeter."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Ellipse", "boundary", "fit_ellipse", "perimeter"]


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
