"""Conversion of grey values to 8 bits.

A mapping declared in the file (DICOM VOI or window) has priority. Otherwise, the range of the finite values of the
whole file is scaled to 0–255. Values of 8 bits are not changed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d.errors import ImageError

__all__ = ["eight_bits", "finite_range", "full_range", "is_two_valued"]


def full_range(array: NDArray[Any], bits: int) -> NDArray[Any]:
    """Spread values of fewer than 8 bits, stored in 8, over 0–255, as decoders of PNG do; others stay."""
    if array.dtype != np.uint8 or not 0 < bits < 8 or int(array.max(initial=0)) >= 2**bits:
        return array
    return np.asarray(array.astype(np.uint16) * 255 // (2**bits - 1), np.uint8)


def finite_range(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return the smallest and the largest finite value of all arrays; (0, 0) without a finite value.

    Raises:
        ImageError: The type is neither bool, integer nor floating point.
    """
    low, high = np.inf, -np.inf
    for array in arrays:
        _check_type(array)
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def eight_bits(array: NDArray[Any], levels: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Map an image to 8 bits.

    Args:
        array: (h, w) grey or (h, w, 3) RGB, of any real type; uint8 is returned as it is, bool becomes 0 and 255.
        levels: Values that become 0 and 255; values beyond are clipped. None for the array's finite range.

    Returns:
        The same shape in uint8. NaN becomes 0.

    Raises:
        ImageError: The type is neither bool, integer nor floating point.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.view(np.uint8) * np.uint8(255)
    _check_type(array)
    low, high = levels or finite_range([array])
    spread: NDArray[Any] = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are clipped, NaN is black
        spread -= low
        spread *= 255 / (high - low) if high > low else 0
    return np.asarray(np.nan_to_num(np.rint(np.clip(spread, 0, 255)), copy=False), np.uint8)


def is_two_valued(array: NDArray[np.uint8]) -> bool:
    """Return whether an image has two values only, as masks do: folders of images and masks are easily confused."""
    low, high = int(array.min()), int(array.max())
    return low < high and np.count_nonzero(array == low) + np.count_nonzero(array == high) == array.size


def _check_type(array: NDArray[Any]) -> None:
    if array.dtype.kind not in "biuf":
        raise ImageError(f"An image of type {array.dtype} is neither of whole numbers nor of floating point.")
