"""Metrics of segmentation: Dice, IoU, HD95, NSD; and intervals by the bootstrap over groups.

Boundary pixels are mask pixels with at least one 4-connected neighbour outside the mask; pixels beyond the image count
as outside. Distances are between pixel centres. The definitions are those of MONAI's metrics; tests compare the
results.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.masks.distance import exact

__all__ = ["NSD_MM", "NSD_PIXELS", "ROUNDS", "Interval", "Scores", "bootstrap", "distances", "overlap", "scores"]

#: Tolerance of NSD: boundary pixels within this distance agree. A choice of this project, stated in every table.
NSD_PIXELS = 2.0
NSD_MM = 1.0
#: Rounds of the bootstrap.
ROUNDS = 1000

Mask = NDArray[np.bool_]


class Scores(NamedTuple):
    """Metrics of a predicted mask.

    Attributes:
        dice: Dice coefficient, 0 to 1.
        iou: Intersection over union, 0 to 1.
        hd95: 95th percentile of the Hausdorff distance, in pixels.
        nsd: Normalized surface distance with a tolerance of NSD_PIXELS, 0 to 1.
        hd95_mm: HD95 in mm; NaN for unknown spacing.
        nsd_mm: NSD with a tolerance of NSD_MM; NaN for unknown spacing.
    """

    dice: float
    iou: float
    hd95: float
    nsd: float
    hd95_mm: float
    nsd_mm: float


def overlap(truth: Mask, predicted: Mask) -> tuple[float, float]:
    """Compute (Dice, IoU) of two masks of equal shape; (1, 1) if both are empty."""
    both = int(np.count_nonzero(truth & predicted))
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted))
    return (2 * both / total, both / (total - both)) if total else (1.0, 1.0)


def scores(truth: Mask, predicted: Mask, spacing: tuple[float, float] | None = None) -> Scores:
    """Compute all metrics of a predicted mask.

    If exactly one mask is empty, HD95 is the image's diagonal and NSD is 0.

    Args:
        truth: (h, w) bool.
        predicted: (h, w) bool.
        spacing: (x, y) mm per pixel; None if unknown.
    """
    height, width = truth.shape
    known = spacing is not None and bool(np.isfinite(spacing).all())
    sx, sy = spacing if spacing is not None and known else (np.nan, np.nan)
    box = _around(truth, predicted)
    if box is None:
        return Scores(1.0, 1.0, 0.0, 1.0, 0.0 if known else np.nan, 1.0 if known else np.nan)
    truth, predicted = truth[box], predicted[box]
    dice, iou = overlap(truth, predicted)
    if not truth.any() or not predicted.any():
        far = float(np.hypot(width, height))
        return Scores(dice, iou, far, 0.0, float(np.hypot(width * sx, height * sy)), 0.0 if known else np.nan)
    outward, back = distances(truth, predicted)
    pixels = _hd95(outward, back), _nsd(outward, back, NSD_PIXELS)
    if not known:
        return Scores(dice, iou, *pixels, np.nan, np.nan)
    outward, back = (outward * sx, back * sx) if sx == sy else distances(truth, predicted, (sx, sy))
    return Scores(dice, iou, *pixels, _hd95(outward, back), _nsd(outward, back, NSD_MM))


def distances(
    truth: Mask, predicted: Mask, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compute distances between boundaries in both directions.

    Args:
        truth: (h, w) bool, not empty.
        predicted: (h, w) bool, not empty.
        spacing: (x, y), size of a pixel; the distances have its unit.

    Returns:
        From each boundary pixel of the truth to the nearest of the prediction, and from each of the prediction to the
        nearest of the truth.
    """
    one, two = _boundary(truth), _boundary(predicted)
    if spacing[0] == spacing[1]:
        to_two, to_one = (cv2.distanceTransform(1 - edge, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for edge in (two, one))
        return exact(to_two[one != 0]) * spacing[0], exact(to_one[two != 0]) * spacing[0]
    from scipy.spatial import KDTree  # OpenCV's distance transform supports square pixels only

    a, b = (np.argwhere(edge)[:, ::-1] * spacing for edge in (one, two))
    return KDTree(b).query(a)[0], KDTree(a).query(b)[0]


def _around(truth: Mask, predicted: Mask) -> tuple[slice, slice] | None:
    """Compute the smallest box around both masks; None if both are empty."""
    x, y, width, height = cv2.boundingRect((truth | predicted).view(np.uint8))
    return (slice(y, y + height), slice(x, x + width)) if width else None


def _boundary(mask: Mask) -> NDArray[np.uint8]:
    flat = np.ascontiguousarray(mask).view(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return flat - cv2.erode(flat, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(np.uint8)


def _hd95(outward: NDArray[Any], back: NDArray[Any]) -> float:
    return float(max(np.percentile(outward, 95), np.percentile(back, 95)))


def _nsd(outward: NDArray[Any], back: NDArray[Any], tolerance: float) -> float:
    near = np.count_nonzero(outward <= tolerance) + np.count_nonzero(back <= tolerance)
    return near / (len(outward) + len(back))


# ----------------------------------------------------------------------------------------------------------- intervals


class Interval(NamedTuple):
    """A mean with its 95 % interval; NaN without values.

    Attributes:
        mean: The mean.
        low: Lower bound.
        high: Upper bound.
        values: Number of values.
        groups: Number of groups.
    """

    mean: float
    low: float
    high: float
    values: int
    groups: int


def bootstrap(
    values: NDArray[Any],
    groups: NDArray[Any],
    strata: NDArray[Any] | None = None,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Interval:
    """Compute a mean with its 95 % percentile interval, by drawing whole groups with replacement.

    Values of one group (patient, video) are not independent: drawing single values would give a too narrow interval.

    Args:
        values: (N,); non-finite values are skipped.
        groups: (N,), the group of each value.
        strata: (N,). The result is then the mean over strata of their means (macro mean), and groups are drawn within
            strata.
        seed: Of the random generator.
        rounds: Number of draws.

    Returns:
        The mean with its interval; low and high are NaN for a single group.
    """
    kept = np.isfinite(values)
    values, groups = np.asarray(values, np.float64)[kept], np.asarray(groups)[kept]
    strata = np.zeros(len(values), np.int64) if strata is None else np.asarray(strata)[kept]
    if len(values) == 0:
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    rng = np.random.default_rng(seed)
    means, totals, total = [], np.zeros(rounds), 0
    for stratum in np.unique(strata):
        inside = strata == stratum
        _, number = np.unique(groups[inside], return_inverse=True)
        sums, counts = np.bincount(number, values[inside]), np.bincount(number)
        means.append(sums.sum() / counts.sum())
        step = max(1, 1_000_000 // len(sums))  # rounds × groups does not fit where there are many groups
        for at in range(0, rounds, step):
            picked = rng.integers(0, len(sums), (min(step, rounds - at), len(sums)))
            totals[at : at + step] += sums[picked].sum(1) / counts[picked].sum(1)
        total += len(sums)
    low, high = np.percentile(totals / len(means), (2.5, 97.5)) if total > len(means) else (np.nan, np.nan)
    return Interval(float(np.mean(means)), float(low), float(high), len(values), total)
