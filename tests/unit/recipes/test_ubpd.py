"""UBPD: the owners' tree, GBK text, and LabelMe files that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from us43d import registry
from us43d.contract import Polygon, RawTree
from us43d.errors import MissingRawFile, RawDataError, UnreadableFile

POINTS = [[1, 2], [9, 2], [5, 8.5]]
SHAPE = {"label": "shenjing", "points": POINTS}


def source(root: Path, data: bytes, *, name: str = "4_141") -> RawTree:
    for folder, file, content in (("JPEGImages", "4_141.jpg", b""), ("json_train", f"{name}.json", data)):
        (root / folder).mkdir()
        (root / folder / file).write_bytes(content)
    return RawTree(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk"])
def test_the_owners_tree_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = json.dumps({"shapes": [SHAPE, SHAPE], "imagePath": "臂丛神经.jpg"}, ensure_ascii=False)
    (sample,) = registry.recipe("ubpd").read(source(tmp_path, text.encode(encoding)))
    assert (sample.key, sample.group) == ("images/4_141.jpg", "4")
    assert sample.masks == {"shenjing": [Polygon(((1, 2), (9, 2), (5, 8.5)))] * 2}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({}, "shapes"),
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
    with pytest.raises(UnreadableFile, match=rf"4_141\.json .*{why}"):
        list(registry.recipe("ubpd").read(source(tmp_path, json.dumps(content).encode())))


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", b'{"shapes": ['])
def test_damaged_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RawDataError, match=r"4_141\.json"):
        list(registry.recipe("ubpd").read(source(tmp_path, data)))


def test_an_image_without_outlines(tmp_path: Path) -> None:
    with pytest.raises(MissingRawFile, match=r"4_141\.json is missing"):
        list(registry.recipe("ubpd").read(source(tmp_path, b"{}", name="4_142")))
