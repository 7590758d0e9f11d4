"""Filled outlines, against what the rule says of each pixel, in whole numbers."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from us43d.errors import UnreadableFile
from us43d.limits import MAX_CORNER
from us43d.masks import convert
from us43d.masks.convert import fill_polygon

outlines = arrays(np.int64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(-3, 12))


def inside(points: NDArray[np.int64], x: int, y: int) -> bool:
    """Whether the pixel lies on an edge, or a line from it to the right crosses an odd number of them."""
    odd = False
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        turn = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        if turn == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return True
        if (y0 <= y) != (y1 <= y) and (turn > 0) == (y1 < y0):
            odd = not odd
    return odd


@pytest.mark.parametrize("cells", [1, 64, convert._CELLS])
@given(points=outlines)
@settings(deadline=None)
def test_inside_is_even_odd_with_the_border(cells: int, points: NDArray[np.int64]) -> None:
    shape = (9, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_CELLS", cells)
        found = fill_polygon([(float(x), float(y)) for x, y in points], shape, "inside")
    wanted = [[inside(points, x, y) for x in range(shape[1])] for y in range(shape[0])]
    assert np.array_equal(found, wanted)


def test_fractions_decide_at_the_pixel() -> None:
    square = [(1.2, 1.2), (3.7, 1.2), (3.7, 2.9), (1.2, 2.9)]
    found = fill_polygon(square, (5, 6), "inside")
    assert sorted(zip(*(each.tolist() for each in np.nonzero(found)), strict=True)) == [(2, 2), (2, 3)]


def test_corners_are_rounded_and_what_the_outline_touches_is_filled() -> None:
    found = fill_polygon([(0.6, 0.4), (3.4, 0.4), (3.4, 2.6), (0.6, 2.6)], (5, 6))
    assert np.argwhere(found).tolist() == [[y, x] for y in range(4) for x in range(1, 4)]
    assert not fill_polygon([], (5, 6), "touch").any()
    assert fill_polygon([(MAX_CORNER, 0), (0, 0), (0, 3)], (5, 6))[:3].all()


@pytest.mark.parametrize("rule", ["inside", "touch"])
@pytest.mark.parametrize("far", [1e308, -2e9, float("nan")])
def test_corners_out_of_reach_are_refused(rule: str, far: float) -> None:
    with pytest.raises(UnreadableFile, match="far outside any image"):
        fill_polygon([(far, -1.0), (3.0, 5.0), (1.0, 2.0)], (8, 8), rule)
