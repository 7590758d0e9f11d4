"""105US: other spellings of its folders, pure white in the paper profile, and its name."""

from pathlib import Path

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import MissingRawFile
from us43d.specimen import write_image


@pytest.mark.parametrize(
    ("images", "outlines", "name"),
    [
        ("Images", "Masks", "007 G man.png"),
        ("105_US_Images", "105_US_Masks", "007_G_man.png"),
        ("100 US Images and Masks/105 US Images", "100 US Images and Masks/105 US Masks", "007 G man.png"),
    ],
)
def test_each_spelling_is_read(tmp_path: Path, images: str, outlines: str, name: str) -> None:
    grey = np.zeros((40, 50), np.uint8)
    grey[10:20, 10:20], grey[12:18, 12:18] = 200, 255
    write_image(tmp_path / images / "007.png", np.zeros((40, 50, 3), np.uint8))
    recipe = registry.recipe("us105")
    with pytest.raises(MissingRawFile, match=r"007\.png in .* has no mask"):
        list(recipe.read(RawTree(tmp_path)))
    write_image(tmp_path / outlines / name, grey)
    for profile, area in (("us43d", 100), ("paper", 36)):
        (sample,) = recipe.reader(profile)(RawTree(tmp_path))  # type: ignore[arg-type]
        assert sample.key == "105 US Images/007.png"
        assert sample.masks["tumor"].read({}, []).sum() == area  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["105US", "105us", "us105"])
def test_it_is_found_by_its_name(name: str) -> None:
    assert registry.find(name).slug == "us105"
