"""Distances between the pixels of a mask, without the last bit that depends on the memory they were computed in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact"]


def exact(lengths: NDArray[Any]) -> NDArray[np.float64]:
    """Round the squares of distances to whole numbers, which they are between pixel centres.

    The last bit of OpenCV's distance transform depends on the memory alignment of its arrays, so that two runs could
    differ, or a click be placed on another of two pixels that are equally far.

    Args:
        lengths: Distances in pixels.
    """
    return np.asarray(np.sqrt(np.rint(np.square(lengths.astype(np.float64)))), np.float64)
