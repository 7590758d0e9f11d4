"""UBPD: the owners' tree, GBK text, and LabelMe files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import MissingRawFile, RawDataError, UnreadableFile
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.specimen import write_image

POINTS = [[1, 2], [9, 2], [5, 8.5]]
SHAPE = {"label": "shenjing", "points": POINTS}
SIZE = {"imageHeight": 12, "imageWidth": 11}


def source(root: Path, data: bytes, *, name: str = "4_141") -> RawTree:
    for folder, file, content in (("JPEGImages", "4_141.jpg", b""), ("json_train", f"{name}.json", data)):
        (root / folder).mkdir(parents=True)
        (root / folder / file).write_bytes(content)
    return RawTree(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk"])
def test_the_owners_tree_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(SIZE | {"shapes": [SHAPE, SHAPE], "imagePath": "臂丛神经.jpg"}, ensure_ascii=False)
    (sample,) = registry.recipe("ubpd").read(source(tmp_path, text.encode(encoding)))
    assert (sample.key, sample.group) == ("images/4_141.jpg", "4")
    first, second = sample.masks["shenjing"]
    mask = first.read({}, [])
    assert first == second
    assert mask.shape == (12, 11)
    assert mask[2, 1:10].all()
    assert mask.sum() == mask[2:9].sum() > 30


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "imageHeight"),
        ({"shapes": None}, "not iterable"),
        ({"shapes": [], "imageWidth": 0}, "0 × 12 pixels"),
        ({"shapes": [], "imageWidth": 1 << 40}, "pixels"),
        ([], "list indices"),
        ({"shapes": [SHAPE | {"shape_type": "circle"}]}, "circle"),
        ({"shapes": [SHAPE | {"points": POINTS[:2]}]}, "polygon has the points"),
        ({"shapes": [SHAPE | {"points": [*POINTS, [float("nan"), 1]]}]}, "nan"),
        ({"shapes": [SHAPE | {"points": [[1, 2, 3]] * 3}]}, "unpack"),
        ({"shapes": [SHAPE | {"label": "gutou"}]}, "labels {'gutou'}"),
        ({"shapes": [3]}, "no attribute"),
    ],
)
def test_no_labelme_file(tmp_path: Path, content: Any, why: str) -> None:
    content = SIZE | content if content else content
    with pytest.raises(UnreadableFile, match=rf"4_141\.json .*{why}"):
        list(registry.recipe("ubpd").read(source(tmp_path, json.dumps(content).encode())))


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", b'{"shapes": ['])
def test_damaged_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RawDataError, match=r"4_141\.json"):
        list(registry.recipe("ubpd").read(source(tmp_path, data)))


def test_an_image_of_another_size(tmp_path: Path) -> None:
    source(tmp_path / "raw", json.dumps(SIZE | {"shapes": [SHAPE]}).encode())
    write_image(tmp_path / "raw/JPEGImages/4_141.jpg", np.zeros((6, 6), np.uint8))
    with pytest.raises(RawDataError, match="its mask is 11 × 12 pixels, the image 6 × 6"):
        build(registry.recipe("ubpd"), tmp_path / "raw", Home(tmp_path), partial=True)


def test_an_image_without_outlines(tmp_path: Path) -> None:
    with pytest.raises(MissingRawFile, match=r"4_141\.json is missing"):
        list(registry.recipe("ubpd").read(source(tmp_path, b"{}", name="4_142")))


def test_outlines_of_another_image_are_left_out_by_fixes(tmp_path: Path) -> None:
    registry.specimen("ubpd")(tmp_path / "raw", np.random.default_rng(0))
    counts = [
        build(registry.recipe("ubpd"), tmp_path / "raw", Home(tmp_path), partial=True, fixes=fixes).dataset["counts"]
        for fixes in (False, True)
    ]
    assert [found["dropped"] for found in counts] == [0, 2]
    assert [found["images"] for found in counts] == [25, 25]


def test_a_polygon_that_vanishes_is_noticed(tmp_path: Path) -> None:
    """4,393 are published; those of the two images that a correction leaves out count among them."""
    registry.specimen("ubpd")(tmp_path / "raw", np.random.default_rng(0))
    recipe = registry.recipe("ubpd")
    assert recipe.expect.masks == 4393
    masks = build(recipe, tmp_path / "raw", Home(tmp_path / "all"), partial=True, fixes=False).dataset["counts"][
        "masks"
    ]
    result = build(recipe, tmp_path / "raw", Home(tmp_path / "home"), partial=True)
    assert result.dataset["counts"]["dropped"] >= 1
    assert result.dataset["counts"]["masks"] == masks
    path = next((tmp_path / "raw").rglob("44_3.json"))
    content = json.loads(path.read_bytes())
    content["shapes"].pop()
    path.write_text(json.dumps(content))
    fewer = build(recipe, tmp_path / "raw", Home(tmp_path / "less"), partial=True).dataset["counts"]["masks"]
    assert fewer == masks - 1
