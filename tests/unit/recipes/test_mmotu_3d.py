"""MMOTU-3D as the figshare deposit has it."""

from pathlib import Path

import numpy as np

from us43d import registry
from us43d.contract import Lazy, RawTree
from us43d.specimen import write_image


def test_figshare_folders(tmp_path: Path) -> None:
    folder = tmp_path / "dataset/OTU_CEUS"
    mask = np.zeros((20, 30, 3), np.uint8)
    mask[4:9, 5:11] = (0, 0, 1)  # so dark that its grey is 0
    write_image(folder / "image/7.JPG", np.full((20, 30, 3), 90, np.uint8))
    write_image(folder / "label/7.PNG", mask)
    write_image(tmp_path / "dataset/OTU_2d/test/image/7.JPG", np.zeros((20, 30, 3), np.uint8))
    raw = RawTree(tmp_path)
    (sample,) = registry.recipe("mmotu_3d").read(raw)
    assert (sample.key, sample.split) == ("OTU_CEUS/image/7.JPG", None)
    drawn = sample.masks["ovarian_lesion"]
    assert isinstance(drawn, Lazy)
    assert np.array_equal(drawn.read({}, []), mask.any(axis=2))
