"""B-mode from radio-frequency lines: levels that are known for known signals."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import UnreadableFile

FIELDS = ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")


def written(root: Path, rf: np.ndarray, roi: np.ndarray, **values: object) -> RawTree:
    entries = np.zeros((1, 1), [(field, object) for field in FIELDS])
    facts = {"id": "p1", "birads": "4a", "class": np.uint8(1)} | values
    for field, value in (facts | {"rf1": rf, "rf2": rf, "roi1": roi, "roi2": roi}).items():
        entries[0, 0][field] = value
    savemat(root / "OASBUD.mat", {"data": entries})
    return RawTree(root)


def test_levels_are_decibels_below_the_highest(tmp_path: Path) -> None:
    """Lines of one frequency, each 10 dB weaker than the one before, down to −60 dB, and silence."""
    depth = np.arange(400)[:, None]
    amplitude = np.array([10 ** (-n / 2) for n in range(7)] + [0.0])
    tree = written(tmp_path, 30_000 * amplitude * np.cos(np.pi / 2 * depth), np.zeros((400, 8), np.uint8))
    sample = next(registry.recipe("oasbud").read(tree))
    image = sample.image.read({}, [])
    assert image.shape == (100, 8)
    wanted = np.rint(255 * np.clip(1 - np.arange(8) * 10 / 50, 0, 1))  # the last two are below −50 dB
    assert np.abs(image[10:90].astype(int) - wanted).max() <= 1


def test_an_image_of_silence_is_black(tmp_path: Path) -> None:
    tree = written(tmp_path, np.zeros((40, 3), np.int16), np.ones((40, 3), np.uint8))
    assert not next(registry.recipe("oasbud").read(tree)).image.read({}, []).any()


def test_lesion_rows_are_those_of_the_image(tmp_path: Path) -> None:
    roi = np.zeros((43, 3), np.uint8)
    roi[8:20, 1] = 1
    tree = written(tmp_path, np.ones((43, 3), np.int16), roi)
    mask = next(registry.recipe("oasbud").read(tree)).masks["lesion"].read({}, [])
    assert mask.shape == (10, 3)
    assert np.flatnonzero(mask[:, 1]).tolist() == [2, 3, 4]


def test_numbers_stand_for_text(tmp_path: Path) -> None:
    tree = written(tmp_path, np.ones((40, 3), np.int16), np.ones((40, 3)), id=np.float64(7), birads=np.uint8(5))
    sample = next(registry.recipe("oasbud").read(tree))
    assert (sample.group, sample.tags["birads"]) == ("7", "5")


def test_an_unknown_class_is_an_error(tmp_path: Path) -> None:
    tree = written(tmp_path, np.ones((40, 3), np.int16), np.ones((40, 3)), **{"class": np.uint8(2)})
    with pytest.raises(UnreadableFile, match=r"class is 2, neither 0 \(benign\) nor 1 \(malignant\)"):
        next(registry.recipe("oasbud").read(tree))


def test_signals_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    tree = written(tmp_path, np.full((40, 3), np.nan), np.ones((40, 3)))
    with pytest.raises(UnreadableFile, match=r"data\[0\]\.rf1"):
        next(registry.recipe("oasbud").read(tree)).image.read({}, [])
