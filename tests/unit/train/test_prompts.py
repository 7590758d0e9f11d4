"""Prompts: in the mask, about the mask, and always the same for a key."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d import specimen
from us43d.errors import UsageError
from us43d.model import prompts, segment


@pytest.fixture
def mask() -> np.ndarray:
    return specimen.blob((70, 90), np.random.default_rng(3), 0.3)


def test_points_lie_in_pixels_of_the_mask_and_reach_all_of_it(mask: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    points = np.array([prompts.point(mask, rng) for _ in range(4000)])
    pixel = np.floor(points + 0.5).astype(int)
    assert mask[pixel[:, 1], pixel[:, 0]].all()
    assert np.abs(points - pixel).max() <= 0.5
    # As often as not in the left half of the mask's pixels: every place is equally likely.
    xs = np.nonzero(mask)[1]
    left = (pixel[:, 0] < np.median(xs)).mean()
    assert abs(left - (xs < np.median(xs)).mean()) < 0.04
    # The place within the pixel is spread over it.
    assert np.std(points - pixel) == pytest.approx(12**-0.5, abs=0.02)


def test_a_point_of_one_pixel() -> None:
    mask = np.zeros((5, 7), bool)
    mask[4, 6] = True
    x, y = prompts.point(mask, np.random.default_rng(1))
    assert 5.5 <= x <= 6.5
    assert 3.5 <= y <= 4.5


def test_the_exact_box(mask: np.ndarray) -> None:
    ys, xs = np.nonzero(mask)
    assert prompts.box_of(mask).tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_jitter_stays_in_its_bounds_and_uses_them(mask: np.ndarray) -> None:
    exact = prompts.box_of(mask)
    extent = np.tile(exact[2:] - exact[:2], 2)
    rng = np.random.default_rng(2)
    moved = np.array([prompts.box(mask, rng, 0.05) - exact for _ in range(1000)]) / extent
    assert np.abs(moved).max() <= 0.05
    assert (np.abs(moved).max(0) > 0.045).all()
    assert (prompts.box(mask, rng, 0.0) == exact).all()


def test_a_box_never_leaves_the_picture() -> None:
    full = np.ones((20, 30), bool)
    rng = np.random.default_rng(4)
    for _ in range(50):
        x0, y0, x1, y1 = prompts.box(full, rng, 0.4)
        assert 0 <= x0 < x1 <= 30
        assert 0 <= y0 < y1 <= 20


def test_an_empty_mask_has_neither() -> None:
    with pytest.raises(ValueError, match="no point"):
        prompts.point(np.zeros((4, 4), bool), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no box"):
        prompts.box_of(np.zeros((4, 4), bool))


def test_prompts_fixed_by_a_key(mask: np.ndarray) -> None:
    assert prompts.point(mask, prompts.fixed("17")) == prompts.point(mask, prompts.fixed("17"))
    assert prompts.point(mask, prompts.fixed("17")) != prompts.point(mask, prompts.fixed("18"))
    assert prompts.point(mask, prompts.fixed("17")) != prompts.point(mask, prompts.fixed("17", seed=1))


def test_the_inscribed_ellipse() -> None:
    ellipse = prompts.ellipse(np.array([10, 20, 50, 80]), (100, 120))
    assert prompts.box_of(ellipse).tolist() == [10, 20, 50, 80]
    assert ellipse.sum() == pytest.approx(np.pi * 20 * 30, rel=0.01)
    assert prompts.ellipse(np.array([3, 4, 4, 5]), (9, 9)).sum() == 1


def test_names_of_prompts_without_regard_to_case_and_accents() -> None:
    placed = [(None, segment.Prompt((0, 0, 5, 5)))]
    files = [unicodedata.normalize("NFD", "scans/Köpfe.PNG"), "scans/b.png", "scans/B.png"]
    matched = segment.matched({"köpfe.png": placed, "scans/b.png": placed}, files, Path("p.json"))
    assert list(matched) == files[:2]
    with pytest.raises(UsageError, match=r"ambiguous file names: SCANS/B\.PNG"):
        segment.matched({"SCANS/B.PNG": placed}, files, Path("p.json"))
    with pytest.raises(UsageError, match="not found"):
        segment.matched({"opfe.png": placed}, files, Path("p.json"))


def test_a_click_does_not_depend_on_the_memory_of_its_masks() -> None:
    """Two pixels are equally far from the boundary; OpenCV's last bit would choose, by the alignment of its arrays."""
    truth = np.zeros((60, 80), bool)
    truth[10:31, 5:26] = truth[10:31, 40:61] = truth[20, 26:40] = True
    nothing = np.zeros_like(truth)
    with pytest.MonkeyPatch.context() as patch:
        transform, places = cv2.distanceTransform, set()
        for favoured in (0, 1):
            nudge = np.zeros(2)
            nudge[favoured] = 1e-6

            def nudged(array: np.ndarray, *args: int, by: np.ndarray = nudge) -> np.ndarray:
                depth = transform(array, *args)
                depth[:, :30], depth[:, 30:] = depth[:, :30] + by[0], depth[:, 30:] + by[1]
                return depth

            patch.setattr(cv2, "distanceTransform", nudged)
            places.add(prompts.click(truth, nothing))
    assert places == {(15, 20, 1)}


def test_a_structure_prompt_names_the_category_also_in_a_region() -> None:
    mask = np.ones((4, 5), bool)
    one = segment.Segment.of(segment.Prompt(structure=30), mask, 0.9)
    assert one.category == 30
    moved = segment.whole(one, (2, 1, 7, 5), (8, 9))
    assert (moved.category, moved.prompt.structure) == (30, 30)
    assert segment.Segment.of(segment.Prompt((0, 0, 2, 2)), mask, 0.9).category == 1
