"""Distances between the pixels of a mask, without the last bit that depends on the memory they were computed in."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["exact", "signed"]


def exact(lengths: NDArray[Any]) -> NDArray[np.float64]:
    """Round the squares of distances to whole numbers, which they are between pixel centres.

    The last bit of OpenCV's distance transform depends on the memory alignment of its arrays, so that two runs could
    differ, or a click be placed on another of two pixels that are equally far.

    Args:
        lengths: Distances in pixels.
    """
    return np.asarray(np.sqrt(np.rint(np.square(lengths.astype(np.float64)))), np.float64)


def signed(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Compute the distance of each pixel's centre from the boundary in pixels, negative outside of the mask.

    Args:
        mask: (h, w) bool. Without a boundary in it, the distance is h + w.
    """
    inside, outside = (
        exact(cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
        for region in (mask, ~mask)
    )
    most = sum(mask.shape)  # without a boundary, distances are infinite
    return np.clip(np.where(mask, inside - 0.5, 0.5 - outside), -most, most).astype(np.float32)
