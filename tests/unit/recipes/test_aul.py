"""AUL: the outline is a remark, except where it is the liver; polygons that are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import Polygon, RawTree, Sample
from us43d.errors import UnreadableFile
from us43d.specimen import write_image

SQUARE = [[5, 5], [40, 5], [40, 40], [5, 40]]


def one(root: Path, number: int, **files: str) -> Sample:
    write_image(root / f"Malignant/image/{number}.jpg", np.zeros((60, 50), np.uint8))
    for part, text in files.items():
        path = root / f"Malignant/segmentation/{part}/{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (sample,) = registry.recipe("aul").read(RawTree(root))
    return sample


@pytest.mark.parametrize(("number", "labels"), [(228, set()), (229, {"liver"})])
def test_the_outline_is_the_liver_of_two_images_only(tmp_path: Path, number: int, labels: set[str]) -> None:
    sample = one(tmp_path, number, outline=json.dumps(SQUARE))
    assert set(sample.masks) == labels
    assert ("the liver was filed as the field of view" in sample.remarks) == bool(labels)
    assert ("field of view outlined: 4 points, no structure" in sample.remarks) == (not labels)
    assert "no mass polygon" in sample.remarks


def test_a_liver_of_its_own_is_not_replaced(tmp_path: Path) -> None:
    other = [[x + 2, y + 2] for x, y in SQUARE]
    sample = one(tmp_path, 306, outline=json.dumps(SQUARE), liver=json.dumps(other), mass=json.dumps(SQUARE))
    assert sample.masks["liver"] == Polygon(tuple((float(x), float(y)) for x, y in other))
    assert set(sample.masks) == {"liver", "malignant_mass"}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1, 2]", "[[1, 2], [3, 4]]", '[[1, 2], [3, 4], [5, "x"]]', "[[1, 2], [3, 4], [NaN, 1]]",
     "[[1, 2], [3, 4], [1e9, 1]]", "[[1, 2], [3, 4], [1, 2, 3]]", "[" * 100_000],
)  # fmt: skip
def test_what_is_no_polygon_names_its_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreadableFile, match=r"mass/7\.json in .* is (empty|not (a (valid )?polygon|readable JSON))"):
        one(tmp_path, 7, mass=text)
