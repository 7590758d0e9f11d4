"""Pages and pictures: outlines where they belong, plots of whatever numbers, text that cannot break the page."""

import math

import cv2
import numpy as np
import pytest

from us43d import report


def near(drawn: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(row, column) of pixels of a colour."""
    return np.argwhere(np.abs(drawn.astype(int) - colour).max(2) < 12)


def test_outlines_and_prompts_lie_where_the_mask_is() -> None:
    image, mask = np.zeros((60, 100), np.uint8), np.zeros((60, 100), bool)
    mask[20:40, 30:70] = True
    drawn = report.overlay(image, {"truth": mask}, (30, 20, 70, 40), [(50, 30, 1), (90, 50, 0)], side=400)
    assert drawn.shape == (240, 400, 3)
    edge = near(drawn, report.COLOURS["truth"]) / 4
    assert edge.min(0) == pytest.approx((20, 30), abs=1.5)
    assert edge.max(0) == pytest.approx((40, 70), abs=1.5)
    assert near(drawn, report.COLOURS["prompt"]).mean(0) / 4 == pytest.approx((30.25, 50.25), abs=1)
    assert near(drawn, report.COLOURS["outside"]).mean(0) / 4 == pytest.approx((50.5, 90.5), abs=1)
    assert (image == 0).all()


def test_a_crop_keeps_all_that_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape = tuple(int(n) for n in rng.integers(70, 400, 2))
        mask = np.zeros(shape, bool)
        y, x = int(rng.integers(0, shape[0] - 8)), int(rng.integers(0, shape[1] - 8))
        mask[y : y + 8, x : x + 8] = True
        x0, y0, x1, y1 = report._region(shape, {"truth": mask}, None, [])
        assert 0 <= x0 <= x < x + 8 <= x1 <= shape[1]
        assert 0 <= y0 <= y < y + 8 <= y1 <= shape[0]
        assert report.overlay(np.zeros(shape, np.uint8), {"truth": mask}, crop=True).ndim == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_thin_pictures(shape: tuple[int, int]) -> None:
    drawn = report.overlay(np.full(shape, 9, np.uint16), {"found": np.ones(shape, bool)}, crop=True)
    assert max(drawn.shape) == 320


def test_several_masks_have_several_colours() -> None:
    masks = np.zeros((3, 40, 120), bool)
    for n in range(3):
        masks[n, 10:30, 40 * n + 10 : 40 * n + 30] = True
    drawn = report.overlay(np.zeros((40, 120), np.uint8), {"found": masks}, side=480)
    seen = {tuple(np.median(part[part.max(2) > 100], 0).astype(int) // 16) for part in np.split(drawn, 3, 1)}
    assert len(seen) == 3
    none = report.overlay(np.zeros((40, 120), np.uint8), {"found": masks[:0]})
    assert none.max() == 0


def test_a_picture_carries_itself() -> None:
    import base64
    import re

    drawn = np.full((20, 30, 3), (200, 40, 40), np.uint8)
    html = report.picture(drawn, 'a "quoted" <name>')
    assert "<name>" not in html
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    again = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(again.astype(int) - drawn).max() < 12


def test_text_cannot_break_a_page() -> None:
    page = report.page(
        "<script>", [("<b>", report.table(["<i>", *"abcd"], [["<u>", 1234, 0.5, math.nan, None]]))], "<s>"
    )
    for tag in ("<script>", "<b>", "<i>", "<u>", "<s>"):
        assert tag not in page
    for text in ("1,234", "0.500", "–"):
        assert text in page
    assert report.markdown(["a|b"], [["c|d"]]).count("\\|") == 2
    assert report.markdown(["a"], [["<b>\nc \x1b"]]).splitlines()[2] == "| &lt;b> c \x1b |"


def test_a_column_with_a_word_is_one_of_text() -> None:
    """Whatever its other cells begin with; numbers with a mark stay numbers."""
    html = report.table(["slice", "size", "Dice"], [["a", "5 to 20 %", "0.5†"], ["b", "below 1 %", None]])
    assert html.count('class="text') == 4 + 2
    assert '<td class="text short">5 to 20 %' in html
    assert '<th scope="col">Dice' in html


@pytest.mark.parametrize(
    ("x", "y"),
    [([1], [0.5]), ([1, 2], [3, 3]), ([0, 1e6], [1e-9, 2e-9]), ([1, 2, 3], [math.nan, 1, math.inf]), ([5, 5], [-2, 7])],
)
def test_lines_of_whatever_numbers(x: list[float], y: list[float]) -> None:
    drawn = report.lines([report.Series("one", x, y)], "x", "y")
    assert "<polyline" in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert "nothing to draw" in report.lines([report.Series("one", [1], [math.nan])], "x", "y")


def test_ticks_are_few_round_and_cover() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        low, span = rng.normal() * 10 ** rng.uniform(-6, 6), 10 ** rng.uniform(-6, 6)
        if span < abs(low) * 1e-9:
            continue
        ticks = report._ticks(low, low + span)
        assert 2 <= len(ticks) <= 9
        step = ticks[1] - ticks[0]
        assert ticks[0] <= low + 1e-6 * step
        assert ticks[-1] >= low + span - 1e-6 * step


def test_a_forest_has_a_point_for_every_mean() -> None:
    rows = [("a", [("one", 0.5, 0.4, 0.6), ("two", 0.7, math.nan, math.nan)]), ("b", [("two", 0.9, 0.8, 1.0)])]
    drawn = report.forest(rows, "Dice")
    assert drawn.count("<circle") == 3
    assert drawn.count('stroke-width="2"') == 2
    assert "nan" not in drawn


def test_an_axis_is_extended_but_not_beyond_what_is_possible() -> None:
    drawn = report.lines([report.Series("one", [0, 1], [0.97, 0.98])], "x", "Dice", span=0.1, top=1.0)
    assert ">0.9<" in drawn
    assert ">1.02<" not in drawn
    assert ">1.02<" in report.lines([report.Series("one", [0, 1], [0.97, 0.98])], "x", "Dice", span=0.1)
