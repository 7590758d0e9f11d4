"""RLE, area and box agree with pycocotools on every annotation; components with scikit-image."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from skimage.measure import label

from us43d.masks import rle
from us43d.masks.components import components, covers_corners, whole
from us43d.masks.distance import exact

masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays(np.bool_, shape))


def agrees(piece, mask: np.ndarray) -> None:
    height, width = mask.shape
    encoded = {"size": [height, width], "counts": piece.counts}
    assert piece.counts == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert (coco.decode(encoded) == mask).all()
    assert (rle.decode(piece.counts.encode(), height, width) == mask).all()
    assert piece.area == coco.area(encoded) == mask.sum()
    assert list(piece.box) == coco.toBbox(encoded).tolist()


def check(mask: np.ndarray) -> None:
    labels = label(mask, connectivity=2)
    found = components(mask)
    assert len(found) == labels.max()
    firsts = []
    for piece in found:
        own = rle.decode(piece.counts.encode(), *mask.shape)
        firsts.append(int(np.flatnonzero(own.T)[0]))
        (number,) = np.unique(labels[own])
        agrees(piece, labels == number)
    assert firsts == sorted(firsts)
    if mask.any():
        agrees(whole(mask), mask)
    else:
        assert found == []
        assert whole(mask) is None


@settings(max_examples=200, deadline=None)
@given(masks)
def test_arbitrary_masks(mask: np.ndarray) -> None:
    check(mask)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.zeros((1, 1), bool),
        np.ones((7, 5), bool),
        np.arange(35).reshape(7, 5) % 2 == 0,
        np.tile([[True], [False]], (9, 11)),
        np.tile([True, False], (11, 9)),
        np.eye(9, dtype=bool),
    ],
    ids=["one", "none", "full", "chequered", "rows", "columns", "diagonal"],
)
def test_edge_cases(mask: np.ndarray) -> None:
    check(mask)


def test_touching_at_a_corner_is_one_instance() -> None:
    assert len(components(np.eye(3, dtype=bool))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (2, 3), (5, 4)])
def test_all_four_corners(shape: tuple[int, int]) -> None:
    assert covers_corners(np.ones(shape, bool))
    for place in {(0, 0), (0, -1), (-1, 0), (-1, -1)}:
        mask = np.ones(shape, bool)
        mask[place] = False
        assert not covers_corners(mask)
    mask = np.zeros(shape, bool)
    mask[:: max(1, shape[0] - 1), [0, -1]] = True
    assert covers_corners(mask)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_whatever_is_not_0_is_foreground(dtype: str) -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = mask[4, 0] = True
    values = np.where(mask, 100, 0).astype(dtype)
    assert components(values) == components(mask)
    assert whole(values) == whole(mask)


def test_distances_do_not_depend_on_their_last_bit() -> None:
    assert exact(np.sqrt(np.array([2, 3, 25], np.float32)) * np.float32(1 + 1e-6)).tolist() == [2**0.5, 3**0.5, 5]


def test_thousands_of_specks() -> None:
    mask = np.zeros((130, 130), bool)
    mask[::2, ::2] = True
    mask[1, 1] = True  # touches four of them at their corners
    assert len(components(mask)) == 65 * 65 - 3
    check(mask)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "pieces"), [("full", 1), ("rows", 4096), ("columns", 4096), ("lesion", 1)], ids=lambda value: str(value)
)
def test_8192_pixels_square(kind: str, pieces: int) -> None:
    mask = np.zeros((8192, 8192), bool)
    if kind == "lesion":
        y, x = np.mgrid[:8192, :8192].astype(np.float32)
        mask |= np.hypot(x - 4000, y - 5000) < 2500
    else:
        mask[{"full": np.s_[:], "rows": np.s_[::2], "columns": np.s_[:, ::2]}[kind]] = True
    agrees(whole(mask), mask)
    found = components(mask)
    assert len(found) == pieces
    assert sum(piece.area for piece in found) == mask.sum()
    for piece in (found[0], found[-1]):
        x, y, width, height = piece.box
        own = np.zeros_like(mask)
        own[y : y + height, x : x + width] = mask[y : y + height, x : x + width]
        agrees(piece, own)


@pytest.mark.parametrize("text", [b"\x00", b"P", b"zzzz~", b"0PPPPPPPPPPPPPPPPPPPPP0"])
def test_text_that_is_no_rle(text: bytes) -> None:
    with pytest.raises(ValueError, match="run"):
        rle.decode(text, 4, 4)


def test_an_empty_text_has_no_runs() -> None:
    assert rle.counts(b"").tolist() == []
    assert rle.decode(b"", 0, 5).shape == (0, 5)
    with pytest.raises(ValueError, match="hold 0 pixels, not 4 × 4"):
        rle.decode(b"", 4, 4)


def test_runs_that_do_not_fill_the_picture() -> None:
    (piece,) = components(np.ones((4, 4), bool))
    with pytest.raises(ValueError, match="hold 16 pixels, not 5 × 4"):
        rle.decode(piece.counts.encode(), 5, 4)
