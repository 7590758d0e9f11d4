"""Thumbnails and the masks on them: what they show is what the full images show."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from us43d.errors import UnreadableFile
from us43d.view import thumbs


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)


def test_masks_are_filled_and_outlined_in_their_colours() -> None:
    shape = (500, 600)
    ring = disc(shape, 200, 250, 120) & ~disc(shape, 200, 250, 60)
    image = cv2.imdecode(
        np.frombuffer(thumbs.overlay(shape, [(2, ring), (9, disc(shape, 480, 100, 40))]), np.uint8), -1
    )
    assert image.shape == (240, 288, 4)
    alpha = image[:, :, 3]
    assert sorted(np.unique(alpha)) == [0, 70, 255]
    assert alpha[120, 96] == alpha[0, 0] == 0  # the hole, and around
    assert tuple(image[120, 96 - 43]) == (*thumbs.colour(2)[::-1], 70)
    assert tuple(image[48, 230]) == (*thumbs.colour(9)[::-1], 70)
    small = cv2.resize(ring.view(np.uint8) * np.uint8(255), (288, 240), interpolation=cv2.INTER_AREA) >= 128
    drawn = (alpha > 0) & (np.abs(image[:, :, 0].astype(int) - thumbs.colour(2)[2]) < 2)
    assert (drawn ^ small).sum() < 0.02 * small.sum()


@pytest.mark.parametrize("place", [700, 1998])
def test_a_mask_smaller_than_a_pixel_of_the_thumbnail_is_drawn(place: int) -> None:
    mask = np.zeros((1999, 1999), bool)
    mask[place, place] = True
    image = cv2.imdecode(np.frombuffer(thumbs.overlay(mask.shape, [(0, mask)]), np.uint8), -1)
    assert 1 <= (image[:, :, 3] == 255).sum() <= 4


@pytest.mark.parametrize("shape", [(500, 600), (768, 1024, 3), (331, 421, 3), (1, 5000), (90, 60)])
def test_a_thumbnail_is_the_image_in_small(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, shape, np.uint8), (0, 0), 8).reshape(shape)
    small = cv2.imdecode(np.frombuffer(thumbs.thumbnail(image), np.uint8), -1)
    size = thumbs.reduced(shape, thumbs.SIDE)
    wanted = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    assert small.shape == wanted.shape
    assert np.abs((small[:, :, ::-1] if small.ndim == 3 else small).astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(240, 300), (700, 900), (1500, 2400)])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(
    tmp_path: Path, channels: int, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (*shape, channels), np.uint8), (0, 0), 12).reshape(*shape, channels)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).reshape(*shape, channels)
    if channels == 3:
        image[:, :, 0] //= 4  # blue, in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    small = thumbs.small(tmp_path / "a.jpg")
    assert max(small.shape[:2]) == {300: 300, 900: 450, 2400: 300}[shape[1]]
    full = image[:, :, ::-1] if channels == 3 else image[:, :, 0]
    size = thumbs.reduced(shape, thumbs.SIDE)
    one, other = (cv2.resize(side, size, interpolation=cv2.INTER_AREA).astype(int) for side in (full, small))
    assert np.abs(one - other).mean() < 3


def test_a_cut_jpeg_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UnreadableFile):
        thumbs.small(tmp_path / "a.jpg")
