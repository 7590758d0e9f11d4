"""CUBS: boundaries in either layout, from either side, and text that is none."""

from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import Polygon, RawTree, Sample
from us43d.errors import UnreadableFile
from us43d.specimen import write_image


def read(root: Path, inner: str, outer: str, size: str | None = "0,06\n") -> Sample:
    write_image(root / "IMAGES/clin_0001_L.tiff", np.zeros((20, 30), np.uint8))
    files = {"SEGMENTATIONS/Manual-A1/clin_0001_L-LI": inner, "SEGMENTATIONS/Manual-A1/clin_0001_L-MA": outer}
    for name, text in (files | ({"CF/clin_0001_L_CF": size} if size is not None else {})).items():
        path = root / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (sample,) = registry.recipe("cubs").read(RawTree(root))
    return sample


@pytest.mark.parametrize("inner", ["3 5 9\n4 4 5\n", "9 5 3 \n5 4 4 \n", "3 4\n5 4\n9 5\n", "3,0 5,0 9,0\n4 4 5"])
def test_the_band_lies_between_the_boundaries(tmp_path: Path, inner: str) -> None:
    sample = read(tmp_path, inner, "3 9\n8 8\n")
    assert sample.masks == {"intima_media": Polygon(((2, 3), (4, 3), (8, 4), (8, 7), (2, 7)))}
    assert (sample.group, sample.spacing_mm) == ("clin_0001", (0.06, 0.06))


def test_without_calibration_the_spacing_is_unknown(tmp_path: Path) -> None:
    assert read(tmp_path, "3 9\n4 4\n", "3 9\n8 8\n", size=None).spacing_mm is None


@pytest.mark.parametrize("broken", ["", "\n", "3 9\n", "3 5 9\n4 4\n", "3 x\n4 4\n", "3 nan\n4 4\n", "3 1e9\n4 4\n"])
def test_what_is_no_boundary_names_its_file(tmp_path: Path, broken: str) -> None:
    with pytest.raises(UnreadableFile, match=r"clin_0001_L-LI\.txt"):
        read(tmp_path, broken, "3 9\n8 8\n")
