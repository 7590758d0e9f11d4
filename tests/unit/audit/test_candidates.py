"""Which pairs the index proposes, and where it places them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from us43d.audit.align import Candidate, align_thumbnails
from us43d.audit.candidates import _placed, candidates
from us43d.audit.fingerprints import SCALES, Fingerprint, reduced
from us43d.specimen import speckle

ROWS = len(SCALES)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def fingerprint(hashes: NDArray[np.uint64], spots: NDArray[np.float32]) -> Fingerprint:
    """One of windows whose hashes are these at their own size; at the others, hashes of nothing."""
    none = np.random.default_rng(hashes[0]).integers(0, 1 << 64, (ROWS - 1, len(hashes)), np.uint64)
    thumb = np.zeros((96, 96), np.uint8)
    return Fingerprint(spots, np.vstack([hashes, none]), np.zeros((ROWS, len(hashes)), np.uint8), thumb, (128, 128))


@pytest.mark.parametrize(
    ("equal", "near", "bits", "found"),
    [(5, 0, 0, True), (4, 0, 0, False), (2, 3, 14, True), (2, 3, 15, False), (0, 9, 14, False)],
)
def test_windows_that_are_alike_propose_a_pair_of_which_all_are_compared(
    equal: int, near: int, bits: int, found: bool, rng: np.random.Generator
) -> None:
    """Of 20 windows, some have equal hashes, and some hashes that differ by too many bits to be looked up."""
    spots = rng.uniform(20, 108, (20, 2)).round().astype(np.float32)
    first, second = rng.integers(0, 1 << 64, (2, 20), np.uint64)
    second[: equal + near] = first[: equal + near]
    second[equal : equal + near] ^= np.uint64((1 << bits) - 1)
    whole, group = np.array([0, (1 << 64) - 1], np.uint64), np.array([0, 1])
    pairs = candidates([fingerprint(first, spots), fingerprint(second, spots)], whole, group)
    assert [(pair.a, pair.b, pair.exact) for pair in pairs] == ([(0, 1, False)] if found else [])
    for pair in pairs:
        assert pair.place == pytest.approx(np.eye(2, 3), abs=1e-6)


@pytest.mark.parametrize("wider", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_windows_agree_where_an_image_has_another_shape(wider: float, rng: np.random.Generator) -> None:
    points = np.array([[x, y] for x in (10.0, 64, 118) for y in (10, 64, 118)])
    sides = np.array([wider**0.5, wider**-0.5]) / 0.84
    strays = rng.uniform(0, 128, (2, 6, 2)).round()
    witnesses, place = _placed(
        np.concatenate([points, strays[0]]), np.concatenate([points * sides + 3, strays[1]]), 1 / 0.84
    )
    assert 9 <= witnesses <= 11  # a stray may be near by chance
    assert np.diag(place) == pytest.approx(sides, rel=0.03)


def test_a_crop_placed_by_the_whole_image_is_refined(rng: np.random.Generator) -> None:
    scene = speckle((96, 96), [], rng)
    cut = reduced(scene[4:92, 3:93], 96)
    whole = align_thumbnails(scene, cut, Candidate(0, 1, 0, np.diag([1.0, 1, 0])[:2], exact=True))
    assert whole.refined is True
    assert whole.similar
    same = align_thumbnails(scene, scene, Candidate(0, 1, 0, np.eye(2, 3), exact=True))
    assert (same.refined, same.score) == (None, 1.0)
