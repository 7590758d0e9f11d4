"""Metrics against MONAI's, and intervals against what is known of them."""

import time

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from us43d.evaluate.metrics import NSD_MM, NSD_PIXELS, bootstrap, distances, overlap, scores

monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed: pip install 'us43d[dev]'")


def blobs(seed: int, shape: tuple[int, int] = (61, 83)) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping irregular masks that touch the picture's border now and then."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    masks = []
    for _ in range(2):
        cy, cx, radius = rng.uniform(5, 55), rng.uniform(5, 75), rng.uniform(4, 30)
        wave = 1 + 0.3 * np.cos(3 * np.arctan2(y - cy, x - cx) + rng.uniform(0, 6))
        masks.append((np.hypot(y - cy, x - cx) < radius * wave) & (rng.random(shape) > 0.02))
    return masks[0], masks[1]


def monais(truth: np.ndarray, found: np.ndarray, spacing: tuple[float, float]) -> tuple[float, ...]:
    """(Dice, IoU, HD95, NSD) of MONAI; spacing in x and y."""
    a, b = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (found, truth))
    rows = (spacing[1], spacing[0])
    tolerance = NSD_PIXELS if spacing == (1, 1) else NSD_MM
    return (
        float(monai.compute_dice(a, b)),
        float(monai.compute_iou(a, b)),
        float(monai.compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=rows)),
        float(monai.compute_surface_dice(a, b, [tolerance], include_background=True, spacing=rows)),
    )


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of its own call
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 0.3), (0.25, 0.6)])
def test_agreement_with_monai(seed: int, spacing: tuple[float, float]) -> None:
    truth, found = blobs(seed)
    ours = scores(truth, found, spacing)
    dice, iou, hd95, nsd = monais(truth, found, (1.0, 1.0))
    assert ours[:4] == pytest.approx((dice, iou, hd95, nsd), abs=2e-5)
    if spacing != (1.0, 1.0):
        assert ours[4:] == pytest.approx(monais(truth, found, spacing)[2:], abs=2e-5)


masks = st.integers(0, 2**32 - 1).map(lambda n: np.random.default_rng(n).random((9, 7)) < 0.3)


@settings(max_examples=60, deadline=None)
@given(masks, masks)
def test_distances_by_brute_force(truth: np.ndarray, found: np.ndarray) -> None:
    def edge(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    if not truth.any() or not found.any():
        return
    for spacing in ((1.0, 1.0), (0.5, 0.5), (0.5, 2.0)):
        every = np.linalg.norm((edge(truth)[:, None] - edge(found)[None]) * spacing[::-1], axis=2)
        there, back = distances(truth, found, spacing)
        assert there == pytest.approx(every.min(1), abs=1e-4)
        assert back == pytest.approx(every.min(0), abs=1e-4)


def test_masks_that_are_equal_empty_or_the_whole_picture() -> None:
    truth, _ = blobs(0)
    empty, full = np.zeros_like(truth), np.ones_like(truth)
    assert scores(truth, truth, (0.1, 0.2)) == (1, 1, 0, 1, 0, 1)
    assert scores(full, full)[:4] == (1, 1, 0, 1)
    assert scores(empty, empty, (1, 1)) == (1, 1, 0, 1, 0, 1)
    assert overlap(empty, empty) == (1, 1)
    nothing = scores(truth, empty, (2, 2))
    diagonal = np.hypot(*truth.shape)
    assert nothing == pytest.approx((0, 0, diagonal, 0, 2 * diagonal, 0))


def test_unknown_spacing_gives_no_millimetres() -> None:
    truth, found = blobs(1)
    assert all(np.isnan(scores(truth, found)[4:]))
    assert all(np.isnan(scores(truth, found, (np.nan, np.nan))[4:]))
    empty = np.zeros_like(truth)
    assert all(np.isnan(scores(empty, empty)[4:]))
    assert all(np.isnan(scores(truth, empty, (np.inf, 1.0))[4:]))


def test_a_shift_by_known_pixels() -> None:
    truth = np.zeros((40, 40), bool)
    truth[10:20, 10:20] = True
    moved = np.roll(truth, 5, axis=1)
    assert scores(truth, moved, (0.2, 0.2)) == pytest.approx((0.5, 1 / 3, 5, 0.5, 1, 1), abs=1e-6)


def test_intervals_are_of_groups_not_of_values() -> None:
    rng = np.random.default_rng(0)
    group_means = rng.normal(0.8, 0.1, 40)
    values = np.repeat(group_means, 50)  # 2,000 values that say no more than 40
    groups = np.repeat(np.arange(40), 50)
    grouped = bootstrap(values, groups, seed=1)
    single = bootstrap(values, np.arange(2000), seed=1)
    standard_error = group_means.std() / np.sqrt(40)
    assert grouped.mean == pytest.approx(values.mean())
    assert (grouped.high - grouped.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.15)
    assert single.high - single.low < (grouped.high - grouped.low) / 4
    assert (grouped.values, grouped.groups) == (2000, 40)
    assert bootstrap(values, groups, seed=1) == grouped
    assert bootstrap(values, groups, seed=2) != grouped


def test_the_interval_holds_the_middle_95_percent() -> None:
    values = np.random.default_rng(0).normal(0, 1, 400)
    interval, error = bootstrap(values, np.arange(400), rounds=20_000), 1.96 * values.std() / np.sqrt(400)
    assert (interval.low - values.mean(), interval.high - values.mean()) == pytest.approx((-error, error), rel=0.04)
    assert bootstrap(values, np.arange(400)) == bootstrap(values, np.arange(400), seed=0)


@pytest.mark.parametrize("groups", [2, 3000])  # in one step, and in two of which the second is shorter
def test_every_round_of_the_bootstrap_is_drawn(groups: int) -> None:
    assert bootstrap(np.ones(groups), np.arange(groups), rounds=500)[:3] == (1, 1, 1)
    assert bootstrap(np.ones(groups), np.arange(groups), rounds=20).low == 1


def test_groups_are_counted_in_all_strata() -> None:
    interval = bootstrap(np.ones(5), np.arange(5), np.array([0, 0, 0, 1, 1]))
    assert (interval.values, interval.groups) == (5, 5)


def test_macro_mean_weighs_strata_equally() -> None:
    values, strata = np.array([1.0] * 90 + [0.0] * 10), np.array([0] * 90 + [1] * 10)
    assert bootstrap(values, np.arange(100)).mean == pytest.approx(0.9)
    assert bootstrap(values, np.arange(100), strata)[:3] == (0.5, 0.5, 0.5)


def test_values_that_are_unknown_are_left_out() -> None:
    found = bootstrap(np.array([1.0, np.nan, 3.0]), np.array([0, 1, 2]))
    assert (found.mean, found.values, found.groups) == (2.0, 2, 2)
    nothing = bootstrap(np.array([np.nan]), np.array([0]))
    assert np.isnan(nothing[:3]).all()
    assert nothing[3:] == (0, 0)
    assert np.isnan(bootstrap(np.array([0.5, 0.7]), np.array([3, 3])).low)


def test_unequal_spacing_costs_what_equal_spacing_does() -> None:
    """Ragged masks of a megapixel; all pairs of boundary pixels would take minutes."""
    rng = np.random.default_rng(0)
    truth, found = (
        np.kron(cv2.GaussianBlur(rng.random((256, 256)), (0, 0), 4) > 0.5, np.ones((4, 4), bool)) for _ in range(2)
    )

    def seconds(spacing: tuple[float, float]) -> float:
        start = time.process_time()
        scores(truth, found, spacing)
        return time.process_time() - start

    scores(truth, found, (0.1, 0.11))  # imports scipy
    assert seconds((0.1, 0.11)) < 10 * seconds((0.1, 0.1)) + 0.5
