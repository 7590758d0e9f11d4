"""FALLMUD: masks that lie turned, by shape and by folder; files that come twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import Lazy, RawTree
from us43d.errors import RawDataError
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.specimen import write_image


def source(root: Path, centre: str, shape: tuple[int, int], stored: Any, bright: Any) -> tuple[Any, list[str]]:
    """The aponeurosis as read, and the remarks, of an image whose `bright` pixels are lit."""
    write_image(root / f"{centre}/images/1.tif", np.where(bright, 220, 40).astype(np.uint8).reshape(shape))
    write_image(root / f"{centre}/aponeurosis_masks/1.jpg", stored.astype(np.uint8) * 255)
    (sample,) = registry.recipe("fallmud").read(RawTree(root))
    remarks: list[str] = []
    mask = sample.masks["aponeurosis"]
    assert isinstance(mask, Lazy)
    return mask.read({}, remarks), remarks


def band(shape: tuple[int, int]) -> Any:
    mask = np.zeros(shape, bool)
    mask[8:16] = True
    return mask


@pytest.mark.parametrize("centre", ["RyanCunningham", "NeilCronin"])
def test_a_shape_that_differs_tells(tmp_path: Path, centre: str) -> None:
    mask = band((48, 64))
    found, (remark,) = source(tmp_path, centre, mask.shape, np.rot90(mask), mask)
    assert np.array_equal(found, mask)
    assert remark.endswith("as its shape shows")


def test_a_mask_of_the_images_shape_stays(tmp_path: Path) -> None:
    mask = band((48, 64))
    found, remarks = source(tmp_path, "RyanCunningham", mask.shape, mask, mask)
    assert np.array_equal(found, mask)
    assert not remarks


def test_of_squares_the_folder_tells(tmp_path: Path) -> None:
    mask = band((64, 64))
    found, remarks = source(tmp_path / "a", "RyanCunningham", mask.shape, np.rot90(mask), mask)
    assert np.array_equal(found, mask)
    assert "are the others" in remarks[0]
    found, remarks = source(tmp_path / "b", "RyanCunningham", mask.shape, np.rot90(mask), np.rot90(mask))
    assert np.array_equal(found, mask)
    assert "brighter" in remarks[0]
    found, remarks = source(tmp_path / "d", "ryancunningham", mask.shape, np.rot90(mask), mask)
    assert np.array_equal(found, mask)
    assert "are the others" in remarks[0]
    found, remarks = source(tmp_path / "c", "NeilCronin", mask.shape, mask, mask)
    assert np.array_equal(found, mask)
    assert not remarks


def test_masks_of_another_size_are_an_error(tmp_path: Path) -> None:
    source(tmp_path / "raw", "NeilCronin", (48, 64), band((40, 40)), band((48, 64)))
    with pytest.raises(RawDataError, match="its mask is 40 × 40 pixels, the image 64 × 48"):
        build(registry.recipe("fallmud"), tmp_path / "raw", Home(tmp_path), partial=True)


def test_one_image_in_two_files(tmp_path: Path) -> None:
    for ending in ("tif", "jpg"):
        write_image(tmp_path / f"NeilCronin/images/img_00001.{ending}", np.zeros((8, 8), np.uint8))
    with pytest.raises(RawDataError, match="one thing twice"):
        list(registry.recipe("fallmud").read(RawTree(tmp_path)))
