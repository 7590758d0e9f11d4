"""A COCO file of one's own becomes a corpus; all its faults are named together, and what is left out is counted."""

import codecs
import copy
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import time
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pycocotools import mask as reference

from us43d import limits, specimen
from us43d.coco import own as coco
from us43d.coco import schema, segmentation
from us43d.errors import TrainError, UnreadableFile, UsageError
from us43d.harmonize.corpus import SPECK, SPLITS, Corpus
from us43d.masks import read as reading

SHAPE = (40, 60)


def content(count: int = 4) -> dict[str, Any]:
    """Images of 60 × 40 pixels, each with a square of 8 × 6."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 60, "height": 40, "group": f"g{n // 2}"}
                   for n in range(count)],
        "annotations": [{"id": n, "image_id": n, "category_id": 7, "segmentation": [[3, 2, 11, 2, 11, 8, 3, 8]]}
                        for n in range(count)],
        "categories": [{"id": 7, "name": "lesion"}],
    }  # fmt: skip


SQUARE = np.zeros(SHAPE, bool)
SQUARE[2:8, 3:11] = True


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes the images and the COCO file."""

    def make(data: Any, encoding: str = "utf-8") -> Path:
        for n in range(4):
            cv2.imwrite(str(tmp_path / f"{n}.png"), np.full(SHAPE, 50 + n, np.uint8))
        (tmp_path / "data.json").write_bytes(json.dumps(data).encode(encoding))
        return tmp_path / "data.json"

    return make


def opened(file: Path) -> Corpus:
    return coco.read(file, file.parent / "corpus")


def faults(file: Path) -> str:
    with pytest.raises(TrainError) as caught:
        opened(file)
    assert not (file.parent / "corpus").exists()
    assert not (file.parent / ".corpus.tmp").exists()
    return caught.value.what


def test_boxes_of_corners_are_told_by_their_outlines(tmp_path: Path) -> None:
    """Of x0, y0, x1, y1 in place of x, y, width, height, where the polygons show it."""
    outline = [[20, 10, 50, 10, 50, 25, 20, 25]]
    boxes: list[tuple[list[float], Any]] = [([20, 10, 50, 25], outline), ([20.5, 9, 51, 24], outline)]

    def written(entries: list[tuple[list[float], Any]]) -> Path:
        data = content()
        data["annotations"] = [
            {"id": n, "image_id": 0, "category_id": 7, "bbox": box, "segmentation": outline}
            for n, (box, outline) in enumerate(entries)
        ]
        (tmp_path / "a.json").write_text(json.dumps(data))
        return tmp_path / "a.json"

    with pytest.raises(UsageError, match="bbox is x0, y0, x1, y1 in place of x, y, width, height: 2 annotations"):
        schema.load_prompts(written(boxes))
    for other in ([20, 10, 30, 15], outline), ([20, 10, 50.0, 15], outline):
        assert len(schema.load_prompts(written([*boxes, other]))) == 3
    near = [[0, 1, 30, 1, 30, 15, 0, 15]]  # both are the same
    strange = ({"size": [40, 60], "counts": "x"}, [["a", 1]], [[1, 2, 3]], "x", [])
    assert len(schema.load_prompts(written([([0, 1, 30, 15], near), *((boxes[0][0], one) for one in strange)]))) == 6


# --------------------------------------------------------------------------------------------------------------- masks


def test_encoding_is_read_back() -> None:
    mask = specimen.blob((900, 1200), np.random.default_rng(0), 0.3)
    packed = {"size": [900, 1200], "counts": segmentation.encode(mask).decode()}
    found, _ = segmentation.encoded(packed, 900, 1200)
    assert found is not None
    assert found.counts == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert found.area == mask.sum()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": [4, 5], "counts": []}, "has runs of 0 pixels together, but its image has 4 × 5"),
        ({"size": [4, 5], "counts": [21, -1]}, "has runs from -1 to 21 in an image of 4 × 5 pixels"),
        ({"size": [4, 5], "counts": [0, 21]}, "has runs from 0 to 21 in an image of 4 × 5 pixels"),
        ({"size": [4, 5], "counts": [[20]]}, "counts are not whole numbers"),
        ({"size": [4, 5], "counts": [[20], 3]}, "counts are not whole numbers"),
        ({"size": [4, 5], "counts": [1.5] * 30}, "counts are not whole numbers"),
        ({"size": [4, 5], "counts": [True, 19]}, "counts are not whole numbers"),
        ({"size": [True, 5], "counts": [5]}, "has a size that is not [height, width] of its image"),
        ({"size": "45", "counts": [20]}, "has a size that is not [height, width] of its image"),
        ({"counts": [20]}, "has no size"),
        ({"size": [4, 5]}, "has no counts"),
        ([[0, 0, 1e6, 0, 0, 1]], "has an outline of more than 2,000,000 pixels"),
        ([[1e6, 0, 5, 0, 5, -1000001]], "has a corner at -1e+06, outside of any image"),
        ([["a", 1]], "is not a list of numbers"),
        ([[1, True, 3, 3]], "is not a list of numbers"),
        ([1, 2, 3], "holds a polygon of 3 numbers, which are not pairs"),
        ([[1, 2], [3, 4], [5, 6]], "has polygons as lists of points, where COCO has x, y, x, y, …"),
        ([[[1, 2], [3, 4], [5, 6]]], "has polygons as lists of points, where COCO has x, y, x, y, …"),
    ],
)
def test_what_is_not_a_segmentation(given: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the words are compared)
        segmentation.encoded(given, 4, 5)
    assert caught.value.args[0] == said


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "without segmentation"),
        ([], "without segmentation"),
        ({}, "without segmentation"),
        ([[], []], "without segmentation"),
        ([[0, 0], [5, 0]], "with fewer than 3 points"),
        ([[1, 1, 4, 4]], "with fewer than 3 points"),
        ([[9, 9, 12, 9, 9, 12]], "that enclose no pixel"),
        ({"size": (4, 5), "counts": [20]}, "that enclose no pixel"),
    ],
)
def test_why_a_segmentation_is_empty(given: Any, reason: str) -> None:
    assert segmentation.encoded(given, 4, 5) == (None, reason)


def test_run_lengths_in_all_forms() -> None:
    with pytest.raises(ValueError, match=r"has a size that is not"):
        segmentation.encoded({"size": [True, 1], "counts": [1]}, 1, 1)
    whole = segmentation.Encoded(b"0d0", 20, (0, 0, 5, 4))
    for counts in ([0, 20], np.array([0, 20]), "0d0", b"0d0"):
        assert segmentation.encoded({"size": [4, 5], "counts": counts}, 4, 5) == (whole, "")


@pytest.mark.parametrize("form", ["polygon", "flat polygon", "two polygons", "runs", "compressed"])
@pytest.mark.parametrize("crowd", [0, 1, True, None])
def test_all_forms_of_a_mask_count_whatever_iscrowd_says(make: Callable[..., Path], form: str, crowd: Any) -> None:
    runs = reference.encode(np.asfortranarray(SQUARE.astype(np.uint8)))
    forms = {
        "polygon": [[3, 2, 11, 2, 11, 8, 3, 8]],
        "flat polygon": [3, 2, 11, 2, 11, 8, 3, 8],
        "two polygons": [[3, 2, 7, 2, 7, 8, 3, 8], [6, 2, 11, 2, 11, 8, 6, 8]],
        "runs": {"size": [40, 60], "counts": [3 * 40 + 2, *([6, 34] * 7), 6, 32 + 49 * 40]},
        "compressed": {"size": [40, 60], "counts": runs["counts"].decode()},
    }
    data = content()
    for annotation in data["annotations"]:
        annotation |= {"segmentation": forms[form], "iscrowd": crowd}
    corpus = opened(make(data))
    assert len(corpus.annotations) == 4
    assert all((corpus.mask(n) == SQUARE).all() for n in range(4))
    assert corpus.annotations[0]["bbox"].tolist() == [3, 2, 8, 6]
    assert corpus.annotations[0]["area"] == 48
    assert corpus.categories == [{"id": 1, "name": "lesion", "supercategory": ""}]
    assert coco.told(corpus) == []


def test_a_polygon_is_that_of_pycocotools(make: Callable[..., Path]) -> None:
    data = content()
    polygon = [3.2, 1.7, 37.9, 4.1, 34.4, 35.8, 18.0, 19.0, -9.6, 32.3]
    data["annotations"][1]["segmentation"] = [polygon]
    corpus = opened(make(data))
    wanted = reference.decode(reference.frPyObjects([polygon], 40, 60))[..., 0]
    assert (corpus.mask(1) == wanted).all()


def test_a_corner_at_the_limit_is_valid(make: Callable[..., Path]) -> None:
    data = content(1)
    data["annotations"][0]["segmentation"] = [[limits.MAX_CORNER, 0, 0, 0, 0, 40]]
    assert opened(make(data)).mask(0)[:39].all()
    data["annotations"][0]["segmentation"] = [[limits.MAX_CORNER, 0, 0, 0, limits.MAX_CORNER, 0]]  # 2,000,000 pixels
    with pytest.raises(TrainError, match="excluded: 1 that enclose no pixel"):
        opened(make(data))
    data["annotations"][0]["segmentation"] = [[limits.MAX_CORNER + 1, 0, 0, 0, 0, 40]]
    with pytest.raises(TrainError, match="outside of any image"):
        opened(make(data))


# ------------------------------------------------------------------------------------------------------------- prompts


def prompts(file: Path, *annotations: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    images = [{"id": 1, "file_name": "a.png"}, {"id": "2", "file_name": "b.avi", "frame": 3}]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return [(place.file_name, place.frame, shown) for place, shown in schema.load_prompts(file)]


def test_prompts_are_boxes_and_points(tmp_path: Path) -> None:
    found = prompts(
        tmp_path / "p.json",
        {"image_id": "1", "bbox": [0, -1.5, 3, 0.5], "segmentation": [[0, 0, 3, 0, 3, 3]], "area": 4.5},
        {"image_id": 2, "keypoints": [1, 2, 0, 3, 4, 2], "segmentation": {"size": [4, 5], "counts": [20]}},
        {"image_id": 2, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 0]},
        {"image_id": 1, "keypoints": [1, 2, 1]},
    )
    assert [(name, frame, shown.bbox, shown.keypoints) for name, frame, shown in found] == [
        ("a.png", None, [0, -1.5, 3, 0.5], None),
        ("b.avi", 3, None, [1, 2, 0, 3, 4, 2]),
        ("b.avi", 3, [1, 2, 3, 4], [1, 2, 0]),
        ("a.png", None, None, [1, 2, 1]),
    ]


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ({"bbox": [1, 2, 3]}, "bbox is not x, y, width and height above 0: annotations[0] has [1.0, 2.0, 3.0]"),
        ({"bbox": [1, 2, 0, 4]}, "bbox is not x, y, width and height above 0"),
        ({"bbox": [1, 2, 3, -4]}, "bbox is not x, y, width and height above 0"),
        ({"bbox": [1, 2, 3, 4, 5]}, "bbox is not x, y, width and height above 0"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox.2 should be greater than or equal to -1000000"),
        ({"bbox": [-2e6, 2, 3, 4]}, "bbox.0 should be greater than or equal to -1000000"),
        ({"bbox": [1, 2, 2e6, 4]}, "bbox.2 should be less than or equal to 1000000"),
        ({"bbox": [1, 2, 3, True]}, "bbox.3 is true or false, not a number"),
        ({"keypoints": [1, 2]}, "keypoints are not triples of x, y and visibility: annotations[0] has [1.0, 2.0]"),
        ({"keypoints": [1, 2, 0]}, "bbox and keypoints are missing or not visible: annotations[0]"),
        ({"bbox": [], "keypoints": []}, "bbox and keypoints are missing or not visible"),
        ({}, "bbox and keypoints are missing or not visible"),
        ({"bbox": [1, 2, 3, 4], "image_id": 9}, "image_id is not among the images: annotations[0] has '9'"),
        ({"bbox": [1, 2, 3, 4], "image_id": None}, "image_id is neither a whole number nor a text"),
    ],
)
def test_faults_of_prompts(tmp_path: Path, annotation: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=r"p\.json has 1 fault\.") as caught:
        prompts(tmp_path / "p.json", {"image_id": 1} | annotation)
    assert f"has 1 fault. {said}" in caught.value.what


def test_prompts_of_an_image_with_a_fault_are_not_faults_too(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}))
    with pytest.raises(UsageError, match=r"has 1 fault\. file_name is missing: images\[0\] \(id 1\)"):
        schema.load_prompts(file)
    place = {"id": 1, "file_name": "x", "frame": 0}
    file.write_text(json.dumps({"images": [place], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}))
    assert [found.model_dump(exclude_none=True) for found, _ in schema.load_prompts(file)] == [place | {"id": "1"}]
    file.write_text(json.dumps({"images": [place | {"file_name": ""}], "annotations": []}))
    with pytest.raises(UsageError, match=r"has 1 fault\. file_name string should have at least 1 character"):
        schema.load_prompts(file)
    listed = [{"id": 1, "file_name": "a.png"}, {"id": 1.0, "file_name": "b.png"}]
    file.write_text(json.dumps({"images": listed, "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}))
    with pytest.raises(UsageError, match=r"has 1 fault\. id is that of images\[0\] as well: images\[1\] \(id 1.0\)"):
        schema.load_prompts(file)
    file.write_text("[]")
    with pytest.raises(UsageError, match="not a COCO file with prompts: it is a list"):
        schema.load_prompts(file)


# -------------------------------------------------------------------------------------------------------------- faults


def change(path: str, value: Any = None) -> Callable[[dict[str, Any]], None]:
    """Set, or with `...` delete, what lies at a path such as images.1.width."""

    def apply(data: dict[str, Any]) -> None:
        *outer, last = (int(part) if part.isdigit() else part for part in path.split("."))
        place: Any = data
        for part in outer:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("images.1.file_name", ..., "file_name is missing: images[1] (id 1)"),
        ("images.1.file_name", "", "file_name"),
        ("images.1.file_name", 5, "file_name should be a valid string: images[1] (id 1) has 5"),
        ("images.1.width", ..., "width is missing: images[1] (id 1)"),
        ("images.1.width", None, "width should be a valid integer: images[1] (id 1) has null"),
        ("images.1.width", 0, "width should be greater than or equal to 1: images[1] (id 1) has 0"),
        ("images.1.height", -5, "height should be greater"),
        ("images.1.height", "tall", "height should be a valid integer"),
        ("images.1.height", 200_000_000, "height should be less than or equal to"),
        ("images.1.id", "", "id is neither a whole number nor a text: images[1] (id ) has ''"),
        ("images.1.id", ..., "id is missing: images[1]"),
        ("images.1.id", None, "id is neither a whole number nor a text: images[1] has null"),
        ("images.1.id", 0, "1 fault. id is that of images[0] as well: images[1] (id 0)"),
        ("images.1.id", "0", "id is that of images[0] as well"),
        ("images.1.id", 2**64, "id is a number of more than 64 bits (write it as a text): images[1]"),
        ("images.1", None, "1 fault. entry is not an object: images[1] has null"),
        ("categories", [{"id": 7, "name": "a"}, None], "1 fault. entry is not an object: categories[1] has null"),
        ("categories", [{"id": 7, "name": "a"}, {"name": "b"}], "1 fault. id is missing: categories[1]"),
        ("images.1.width", True, "width is true or false, not a number: images[1] (id 1) has True"),
        ("images.1.frame", False, "frame is true or false, not a number"),
        ("images.1.spacing_mm", [0.1, True], "spacing_mm.1 is true or false, not a number"),
        ("images.1.frame", -1, "frame should be greater than or equal to 0"),
        ("images.1.group", ["a"], "group is neither a whole number nor a text"),
        ("images.1.spacing_mm", [0, 0.1], "spacing_mm.0 should be greater than 0"),
        ("annotations.2.id", ..., "id is missing: annotations[2]"),
        ("annotations.2.image_id", ..., "image_id is missing: annotations[2] (id 2)"),
        ("annotations.2.category_id", ..., "category_id is missing: annotations[2] (id 2)"),
        (
            "annotations.2.category_id",
            9,
            "1 fault. category_id is not among the categories: annotations[2] (id 2) has '9'",
        ),
        ("annotations.2.segmentation", "rle", "segmentation is neither"),
        ("annotations.2.segmentation", [[1, 2, 3, 4, 5, 6, 7]], "segmentation holds a polygon of 7 numbers"),
        (
            "annotations.2.segmentation",
            [[1, 2, 9, 2, 9, "8"]],
            "segmentation is not a list of numbers: annotations[2] (id 2) has [1, 2,",
        ),
        (
            "annotations.2.segmentation",
            [[1, 2], [9, 2], [9, 8]],
            "segmentation has polygons as lists of points, where COCO has",
        ),
        ("annotations.2.segmentation", [[1.5, 2, 10**400, 2, 9, 8]], "segmentation is not a list of numbers"),
        ("annotations.2.segmentation", [[1, 2], 3], "segmentation is not a list of numbers"),
        ("annotations.2.segmentation", [[[1, 2], [3, 4], [5, 6]]], "segmentation has polygons as lists of points"),
        ("annotations.2.segmentation", [[1, 2, 9, 2, 9, float("nan")]], "has a corner at nan, outside of any image"),
        ("annotations.2.segmentation", [[1, 2, 9, 2, 9, float("inf")]], "has a corner at inf, outside of any image"),
        ("annotations.2.segmentation", [[1, 2, 9, 2, -1e300, 8]], "has a corner at -1e+300, outside of any image"),
        ("annotations.2.segmentation", [[-9e5, 0, 9e5, 0, -9e5, 1, 9e5, 5]], "outline of more than 2,000,000 pixels"),
        (
            "annotations.2.segmentation",
            {"counts": [4800]},
            "has 1 fault. segmentation has no size: annotations[2] (id 2).",
        ),
        ("annotations.2.segmentation", {"size": [40, 60]}, "segmentation has no counts"),
        (
            "annotations.2.segmentation",
            {"size": [60, 40], "counts": [2400]},
            "[height, width] of its image",
        ),
        (
            "annotations.2.segmentation",
            {"size": [40, 60], "counts": [True, 2399]},
            "segmentation counts are not whole numbers",
        ),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": [5, 5]}, "has runs of 10 pixels together"),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": [-5, 2405]}, "has runs from -5 to 2405"),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": [2**62] * 8}, "has runs from"),
        (
            "annotations.2.segmentation",
            {"size": [40, 60], "counts": [2**80]},
            "segmentation counts are not whole numbers",
        ),
        (
            "annotations.2.segmentation",
            {"size": [40, 60], "counts": [1.5, 2398.5]},
            "segmentation counts are not whole numbers",
        ),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": "!!"}, "is not a compressed run-length encoding"),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": "é"}, "segmentation"),
        ("annotations.2.segmentation", {"size": [40, 60], "counts": {"a": 1}}, "segmentation"),
        ("categories.0.name", ..., "name is missing: categories[0] (id 7)"),
        ("categories.0.name", None, "name should be a valid string"),
        ("categories.0.name", "", "name string should have at least 1 character"),
        ("categories", {}, "it has no list of categories"),
        ("annotations", ..., "it has no list of annotations"),
    ],
)
def test_every_fault_is_named(make: Callable[..., Path], path: str, value: Any, said: str) -> None:
    data = content()
    change(path, value)(data)
    what = faults(make(data))
    assert said in what
    assert "data.json" in what
    assert what.count(": images[") + what.count(": annotations[") + what.count(": categories[") <= 1  # no others


def test_all_faults_are_told_together(make: Callable[..., Path]) -> None:
    data = content()
    change("images.3.width", ...)(data)
    change("images.2.height", 41)(data)
    change("annotations.0.segmentation", [[1, 2, 3]])(data)
    change("annotations.1.category_id", "x")(data)
    del data["annotations"][2]["id"], data["annotations"][3]["id"]
    file = make(data)
    (file.parent / "1.png").write_bytes(b"no image")
    what = faults(file)
    for said in (
        "has 7 faults", "width is missing: images[3] (id 3)", "(60 × 40 pixels instead of 60 × 41)",
        "holds a polygon of 3 numbers", "category_id is not among the categories: annotations[1] (id 1) has 'x'",
        "id is missing: annotations[2], annotations[3]", "1.png is not a readable image",
    ):  # fmt: skip
        assert said in what


@pytest.mark.parametrize(
    ("path", "valid", "invalid", "said"),
    [
        ("images.0.id", 2**63 - 1, 2**63, "id is a number of more than 64 bits (write it as a text)"),
        ("images.0.id", 1 - 2**63, -(2**63), "id is a number of more than 64 bits (write it as a text)"),
        ("images.0.id", 7.0, 7.5, "id is neither a whole number nor a text"),
        ("images.0.id", "x" * 99, True, "id is neither a whole number nor a text"),
        ("images.0.group", "g" * 65_535, "g" * 65_536, "group is a text of over 65,535 bytes"),
        ("images.0.patient_id", "é" * 32_767, "é" * 32_768, "patient_id is a text of over 65,535 bytes"),
        ("images.0.file_name", "x" * 16_383, "x" * 16_384, "file_name string should have at most 16383 characters"),
        ("images.0.frame", 0, 0.5, "frame should be a valid integer, got a number with a fractional part"),
        ("images.0.spacing_mm", [1e-9, 2], [2, float("inf")], "spacing_mm.1 should be a finite number"),
        ("images.0.tags", {str(n): n for n in range(64)}, {str(n): n for n in range(65)}, "tags dictionary should"),
        ("images.0.us43d", {"frame": 0, "other": 1}, {"frame": -1}, "us43d.frame should be greater than or equal to 0"),
        ("images.0.us43d", {"tags": {"a": None}}, {"spacing_mm": [0, 1]}, "us43d.spacing_mm.0 should be greater than"),
        ("images.0.us43d", {"tags": {str(n): n for n in range(64)}}, {"tags": {str(n): n for n in range(65)}},
         "us43d.tags dictionary should have at most 64 items"),
        ("images.0.width", limits.MAX_PIXELS // 64, limits.MAX_PIXELS // 64 + 1, "width × height is over 134,217,728"),
        ("categories.0.name", "x", "", "name string should have at least 1 character"),
        ("categories.0.supercategory", None, 5, "supercategory should be a valid string"),
    ],
)  # fmt: skip
def test_limits_of_fields(make: Callable[..., Path], path: str, valid: Any, invalid: Any, said: str) -> None:
    data = content(1)
    data["annotations"] = []
    data["images"][0]["height"] = 64
    change(path, valid)(data)
    schema.load(make(data))[1].raise_faults()
    change(path, invalid)(data)
    with pytest.raises(TrainError) as caught:
        schema.load(make(data))[1].raise_faults()
    assert f"has 1 fault. {said}" in caught.value.what


def test_only_some_of_many_faults_are_listed() -> None:
    def what(kinds: int, value: str) -> str:
        report = schema.Report(Path("d.json"))
        for n in range(4):
            report.fault(f"images[{n}]", "id", "is missing")
        for n in range(kinds - 1):
            report.fault("images[9]", f"f{n}", "is odd", value)
        with pytest.raises(TrainError) as caught:
            report.raise_faults()
        return caught.value.what

    first = "id is missing: images[0], images[1], images[2] … and 1 more"
    others = [f"f{n} is odd: images[9] has '{'x' * 58}'" for n in range(11)]
    assert what(12, "x" * 58) == f"d.json has 15 faults. {'; '.join([first, *others])}."
    assert what(13, "x" * 58) == f"d.json has 16 faults. {'; '.join([first, *others])}; and 1 more kind of fault."
    assert what(2, "x" * 59) == f"d.json has 5 faults. {first}; f0 is odd: images[9] has '{'x' * 59}…."
    name = "7" * 60
    assert schema.Annotation(f"{name}8", "", "", None, None, 3).where == f"annotations[3] (id {name})"


@pytest.mark.parametrize(
    ("entry", "unit", "spacing"),
    [
        ({"group": "b", "patient_id": "c", "us43d": {"group": "a", "spacing_mm": [1, 2]}}, "a", (1, 2)),
        ({"group": "b", "patient_id": "c", "us43d": {}, "spacing_mm": [3, 4]}, "b", (3, 4)),
        ({"group": "", "patient_id": 5, "us43d": {"spacing_mm": [1, 2]}, "spacing_mm": [3, 4]}, "5", (3, 4)),
        ({"group": None, "patient_id": float("nan")}, None, None),
    ],
)
def test_group_and_spacing_of_an_image(entry: dict[str, Any], unit: str | None, spacing: Any) -> None:
    image = schema.Image.model_validate({"id": 1, "file_name": "a", "width": 1, "height": 1} | entry)
    assert (image.unit, image.spacing, image.told) == (unit, spacing, {})


def test_a_compressed_file_is_named(make: Callable[..., Path]) -> None:
    file = make(content())
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert faults(file) == f"{file} is not a readable COCO file: it is compressed by gzip; unpack it first."


@pytest.mark.parametrize("data", [[1], {}, "text", {"images": 5, "annotations": [], "categories": []}])
def test_what_is_not_a_coco_file(make: Callable[..., Path], data: Any) -> None:
    assert "data.json is not a readable COCO file" in faults(make(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"image_id": 0, "category_id": 7, "score": 0.5}]', "it is a list, as files of results"),
        (b'{"id": 1}\n{"id": 2}\n', "another document begins in line 2, as in JSON Lines"),
        (b"file,x0,y0,x1,y1\na.png,1,2,30,40\n", "it is not JSON (it begins with 'file,x0,y0,x1,y1\\na.p')."),
        (b"", "it is empty."),
        (
            b'{"version": "5.4", "shapes": [], "imagePath": "a.png"}',
            "it has no list of images. It is LabelMe's labels of one",
        ),
        (
            b'{"_via_settings": {}, "_via_img_metadata": {}}',
            "it has no list of images. It is a project of VIA; us43d coco converts",
        ),
        (
            b'{"images": [], "categories": [], "annotations": [{"image_id": 1, "segments_info": []}]}',
            "it is a panoptic COCO file, whose masks are PNG images",
        ),
        (b"PK\3\4" + bytes(40), "it is a ZIP archive; unpack it first"),
        (b"\x1f\x8b" + bytes(40), "it is compressed by gzip; unpack it first"),
        ('{"name": "Läsion"}'.encode("latin-1"), "it is not text in UTF-8 (byte 0xe4 at position 11)"),
    ],
)
def test_what_was_given_by_mistake_is_named(make: Callable[..., Path], data: bytes, said: str) -> None:
    file = make(content())
    file.write_bytes(data)
    assert f"data.json is not a readable COCO file: {said}" in faults(file)


def test_json_that_is_damaged_or_nested_deeply(make: Callable[..., Path]) -> None:
    file = make(content())
    whole = file.read_bytes()
    for data in (b"", whole[:-5], b"[" * 200_000, b"\xff\xfe\xfa", whole.replace(b"60", b"6" * 5000)):
        file.write_bytes(data)
        assert "data.json" in faults(file)
    for encoding in ("utf-8", "utf-16"):
        file.write_bytes(b'{\n"images": 6'.decode().encode(encoding) + ("6" * 5000 + "}").encode(encoding)[-10002:])
        assert faults(file).endswith("is not a readable COCO file: it holds a number of 5,001 digits in line 2.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": [{"id": 1}],\n "y": [1],\n\n "y": []}', "it has the key 'y' twice, again in line 4"),
        ('{"a": [[1], {"s": "", "b": [1], "t": {"b": 1}, "b": [2]}]}', "a[1] has the key 'b' twice, again in line 1"),
        ('[{"s": "\\"}{[,", "id": 1,\n"\\u0069d": 1}]', "[0] has the key 'id' twice, again in line 2"),
        ('{"": 1, "b": {"c": [1.5e-3, -2,\n3]}, "": 2}', "it has the key '' twice, again in line 2"),
        ('{"a": "a", "b": {"a": ["b", "b"], "b": "a"}, "c": [{"a": 1}, {"a": 1}]}', ""),
    ],
)  # fmt: skip
def test_a_key_that_an_object_has_twice_is_named(tmp_path: Path, text: str, said: str) -> None:
    """Of two values a parser keeps the last; the first would be lost silently."""
    file = tmp_path / "data.json"
    file.write_text(text)
    if not said:
        assert schema.read_json(file) == json.loads(text)
        return
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        schema.read_json(file)
    for read in (opened, schema.load_prompts):
        with pytest.raises((TrainError, UsageError), match=re.escape(f"{said}.")):
            read(file)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_accepted(make: Callable[..., Path], encoding: str) -> None:
    file = make(content(), encoding)
    assert file.read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16[:2])
    assert len(opened(file).annotations) == 4


def test_huge_claims_are_refused_at_once(make: Callable[..., Path]) -> None:
    data = content()
    data["images"][1] |= {"width": 200_000, "height": 200_000}
    start = time.perf_counter()
    assert f"width × height is over {limits.MAX_PIXELS:,} pixels: images[1] (id 1)" in faults(make(data))
    assert time.perf_counter() - start < 5


# ------------------------------------------------------------------------------------------------------- ids, left out


def test_ids_of_any_kind(make: Callable[..., Path]) -> None:
    """Texts are as good as numbers; repeated annotation ids are numbered anew, as they say nothing of the masks."""
    plain = opened(make(content()))
    for change_ids, remark in (
        (lambda kind, n: f"{kind}-{n}", "Some image ids are not whole numbers of 64 bits"),
        (lambda kind, n: 1 if kind == "annotation" else n, "3 annotation ids repeat"),
        (lambda kind, n: ("1", "01", "2", "3")[n], "1 image ids repeat"),
        (lambda kind, n: str(2**63 + n), "Some image ids are not whole numbers of 64 bits"),
        (lambda kind, n: "9" * 5000 + str(n), "Some image ids are not whole numbers of 64 bits"),
        (lambda kind, n: str(2**63 - n), "Some image ids are not whole numbers of 64 bits"),
        (lambda kind, n: str(2**63 - 1 - n), None),
        (lambda kind, n: str(n - 2**63), None),
        (lambda kind, n: float(n), None),
        (lambda kind, n: n - 1, None),
    ):
        data = content()
        for image, annotation in zip(data["images"], data["annotations"], strict=True):
            image["id"] = annotation["image_id"] = change_ids("image", image["id"])
            annotation["id"] = change_ids("annotation", annotation["id"])
        corpus = opened(make(data))
        assert (remark is None) == (coco.told(corpus) == [])
        assert remark is None or f"{remark}; all are numbered from 1 in the order of the file." in coco.told(corpus)
        assert len(set(corpus.annotations["id"].tolist())) == 4
        assert len(set(corpus.images["id"].tolist())) == 4
        assert all((corpus.mask(n) == plain.mask(n)).all() for n in range(4))
        assert corpus.annotations["image"].tolist() == [0, 1, 2, 3]
    data = content()
    for annotation in data["annotations"]:
        annotation["category_id"] = data["categories"][0]["id"] = "7" * 5000
    assert coco.told(opened(make(data))) == []
    data = content()
    data["annotations"][1]["image_id"] = "1"
    assert coco.told(opened(make(data))) == []


def test_images_may_have_no_annotation_or_several(make: Callable[..., Path]) -> None:
    data = content()
    for annotation in data["annotations"]:
        annotation["image_id"] = 2 if annotation["id"] > 1 else 0
        annotation["segmentation"] = [[3, 2, 11, 2, 11, 8 + annotation["id"], 3, 8]]
    corpus = opened(make(data))
    assert [list(corpus.of(n)) for n in range(4)] == [[0, 1], [], [2, 3], []]
    assert corpus.annotations["image"].tolist() == [0, 0, 2, 2]


def test_what_is_left_out_is_counted(make: Callable[..., Path]) -> None:
    data = content()
    shape = data["annotations"][0]
    data["annotations"] += [
        shape | {"id": 10, "image_id": 99}, shape | {"id": 11, "image_id": 98}, shape | {"id": 12, "segmentation": []},
        shape | {"id": 13, "segmentation": [[]]}, shape | {"id": 14, "segmentation": [[3, 2, 9, 9]]},
        shape | {"id": 15, "segmentation": [[200, 200, 210, 200, 210, 210]]},
        shape | {"id": 16, "segmentation": {"size": [40, 60], "counts": [2400]}},
        shape | {"id": 17, "segmentation": [[3, 2, 9, 9], [3, 2, 12, 2, 12, 8, 3, 8]]},
    ]  # fmt: skip
    corpus = opened(make(data))
    assert len(corpus.annotations) == 5
    assert coco.told(corpus) == [
        "Excluded: 7 of 12 annotations: 2 that enclose no pixel, 2 whose image_id is not listed, 1 with fewer than "
        "3 points, 2 without segmentation."
    ]
    for image in data["images"]:
        del image["group"]
    excluded, ungrouped = coco.told(opened(make(data)))
    assert (excluded[:12], ungrouped[:9]) == ("Excluded: 7 ", "data.json")
    data["annotations"] = data["annotations"][4:7]
    shutil.rmtree(corpus.path)
    file = make(data)
    nothing = f"No annotation with a mask found in {file}"
    assert faults(file) == f"{nothing}; excluded: 2 whose image_id is not listed, 1 without segmentation."
    assert faults(make(data | {"annotations": []})) == f"{nothing}."


def test_categories_are_numbered_by_their_ids(make: Callable[..., Path]) -> None:
    data = content()
    names = {"b": "cyst", 10: "nodule", "a": "node", -9: "lesion"}
    data["categories"] = [{"id": key, "name": name, "supercategory": name[0]} for key, name in names.items()]
    for annotation, key in zip(data["annotations"], names, strict=True):
        annotation["category_id"] = key
    corpus = opened(make(data))
    assert corpus.categories == [
        {"id": 1, "name": "lesion", "supercategory": "l"}, {"id": 2, "name": "nodule", "supercategory": "n"},
        {"id": 3, "name": "node", "supercategory": "n"}, {"id": 4, "name": "cyst", "supercategory": "c"},
    ]  # fmt: skip
    assert corpus.annotations["category"].tolist() == [4, 2, 3, 1]


def test_annotations_that_repeat_others_are_counted_once(make: Callable[..., Path]) -> None:
    """As exports that were merged have them: they would count twice in training and in mAP."""
    data = content()
    square = data["annotations"][0]["segmentation"]
    mask = np.zeros((40, 60), np.uint8)
    mask[2:8, 3:11] = 1
    runs = {"size": [40, 60], "counts": reference.encode(np.asfortranarray(mask))["counts"].decode()}
    data["categories"].append({"id": 8, "name": "cyst"})
    data["annotations"] += [
        {"id": 10, "image_id": 0, "category_id": 7, "segmentation": square},
        {"id": 11, "image_id": 0, "category_id": 7, "segmentation": runs, "iscrowd": 1},
        {"id": 12, "image_id": 0, "category_id": 8, "segmentation": square},
        {"id": 13, "image_id": 0, "category_id": 7, "segmentation": [[3, 2, 12, 2, 12, 8, 3, 8]]},
    ]
    corpus = opened(make(data))
    assert sorted(corpus.annotations["id"]) == [0, 1, 2, 3, 12, 13]
    assert coco.told(corpus)[0] == (
        "Excluded: 2 of 8 annotations: 2 that repeat another one (same image, category and mask)."
    )


def test_categories_of_one_name_are_named(make: Callable[..., Path]) -> None:
    data = content()
    data["categories"].append(data["categories"][0] | {"id": 77})
    corpus = opened(make(data))
    name = data["categories"][0]["name"]
    assert f"Several categories have one name, and stay several: {name}." in coco.told(corpus)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, False), ({"bbox": [9, 4, 20, 12]}, False), ({"bbox": [8, 2, 22, 16]}, False), ({"bbox": None}, False),
        ({"bbox": [0, 0, 0, 0]}, False), ({"bbox": [1, 2, "x", 4]}, False), ({"bbox": [-1e9, 4, 20, 12]}, False),
        ({"bbox": [10, 4, 50, 36]}, True),
        ({"segmentation": [[4, 10, 16, 10, 16, 30, 4, 30]]}, True),  # y before x
        ({"segmentation": [[20, 8, 60, 8, 60, 32, 20, 32]]}, True),  # another size
        # Cut at the border of the image.
        ({"bbox": [50, 30, 90, 90], "segmentation": [[50, 30, 140, 30, 140, 120, 50, 120]]}, False),
        ({"bbox": [100, 100, 20, 12]}, True), ({"bbox": [10, 34, 20, 12]}, True),
    ],
)  # fmt: skip
def test_a_box_that_is_not_that_of_its_outline_is_remarked(
    make: Callable[..., Path], change: dict[str, Any], told: bool
) -> None:
    """Outlines in percent, with y first or run lengths of rows instead of columns give masks in other places."""
    data = content(2)
    outline = {"segmentation": [[10, 4, 30, 4, 30, 16, 10, 16]], "bbox": [10, 4, 20, 12]}
    data["annotations"] = [dict(data["annotations"][0], image_id=data["images"][0]["id"], **(outline | change))]
    remark = "The bbox of 1 of 1 annotation is not that of the segmentation: annotations[0]"
    assert (remark in " ".join(coco.told(opened(make(data))))) == told


def test_specks_are_flagged(make: Callable[..., Path]) -> None:
    """A speck is under 16 pixels and 1/10,000 of its image."""
    file = make(content())
    cv2.imwrite(str(file.parent / "0.png"), np.zeros((500, 600), np.uint8))
    data = content()
    data["images"][0] |= {"height": 500, "width": 600}
    for n, side in enumerate((3, 4)):
        corners = [[9, 9, 9 + side, 9, 9 + side, 9 + side, 9, 9 + side]]
        data["annotations"].append({"id": 20 + n, "image_id": 0, "category_id": 7, "segmentation": corners})
        data["annotations"].append({"id": 30 + n, "image_id": 1, "category_id": 7, "segmentation": corners})
    file.write_text(json.dumps(data))
    corpus = opened(file)
    flags = dict(zip(corpus.annotations["id"].tolist(), corpus.annotations["flags"].tolist(), strict=True))
    assert [key for key, flag in flags.items() if flag & SPECK] == [20]
    remark = "1 annotation is a speck, under 16 pixels and 1/10,000 of the image; training and evaluation exclude them."
    assert remark in coco.told(corpus)


# -------------------------------------------------------------------------------------------------------------- groups


def test_groups_stay_whole(make: Callable[..., Path]) -> None:
    corpus = opened(make(content()))
    split: dict[str, set[int]] = {}
    for n in range(len(corpus)):
        split.setdefault(corpus.group(n), set()).add(int(corpus.images["split"][n]))
    assert sorted(split) == ["g0", "g1"]
    assert all(len(each) == 1 for each in split.values())
    assert corpus.facts["images"] == {"train": 2, "val": 2, "test": 0, "excluded": 0}
    data = content()
    for image in data["images"]:
        image["group"] = f"p{image['id'] // 3}"
    held_out = coco._held_out([image["group"] for image in data["images"]])
    corpus = opened(make(data))
    assert all((SPLITS[row["split"]] == "val") == (corpus.group(n) in held_out) for n, row in enumerate(corpus.images))


def test_without_groups_it_is_said_and_nothing_is_guessed(make: Callable[..., Path]) -> None:
    data = content()
    for image, value in zip(data["images"], (None, "", float("nan"), ...), strict=True):
        image["group"] = value
        if value is ...:
            del image["group"]
    corpus = opened(make(data))
    assert [corpus.group(n) for n in range(4)] == ["0.png", "1.png", "2.png", "3.png"]
    (line,) = coco.told(corpus)
    assert line.startswith("data.json does not group images by patient (group or patient_id)")
    data["images"][0]["patient_id"] = 0  # a number like any other
    data["images"][1]["us43d"] = {"group": "p1"}
    corpus = opened(make(data))
    assert [corpus.group(n) for n in range(4)] == ["0", "p1", "2.png", "3.png"]
    assert coco.told(corpus) == ["2 of 4 images have no group; each of them is its own group."]


def test_a_seventh_of_the_images_is_held_out_and_never_all() -> None:
    groups = [f"p{n}" for n in range(100)]
    held = coco._held_out(groups)
    assert held == set(sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())[:15])
    assert coco._held_out(groups[::-1]) == held
    assert len(coco._held_out(["a"])) == 0
    assert len(coco._held_out(["a", "b"])) == 1
    assert len(coco._held_out(["a"] * 15 + ["b"] * 85)) == 1


def test_outlines_take_a_quarter_of_the_memory_of_lists(make: Callable[..., Path]) -> None:
    """A file of 300 MB fits into 2 GB: its numbers are never all held as Python's."""
    data = content(1)
    angles = np.linspace(0, 6.28, 20_000)
    ring = np.round(np.stack([30 + 20 * np.cos(angles), 20 + 15 * np.sin(angles)], 1), 6).ravel()
    data["annotations"] = [dict(data["annotations"][0], id=n, segmentation=[(ring + n).tolist()]) for n in range(5)]
    file = make(data)
    numbers, size = 5 * len(ring), file.stat().st_size
    tracemalloc.start()
    schema.load(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size + 20 * numbers  # bytes and text of the file; 32 bytes a number in lists
    assert opened(file).facts["annotations"] == 5


def test_holding_groups_out_is_linear() -> None:
    def seconds(count: int) -> float:
        groups = [f"patient {n}" for n in range(count)]
        start = time.process_time()
        assert len(coco._held_out(groups)) == pytest.approx(0.15 * count, abs=1)
        return time.process_time() - start

    seconds(1000)
    assert seconds(200_000) < 5  # a count for each group took minutes


# -------------------------------------------------------------------------------------------------------------- images


def test_images_of_other_forms_are_read_once_and_kept(make: Callable[..., Path]) -> None:
    file = make(content())
    grey = specimen.speckle(SHAPE, [SQUARE], np.random.default_rng(0))
    folder = file.parent
    for n in range(4):
        (folder / f"{n}.png").unlink()
    tifffile.imwrite(folder / "a.tif", grey.astype(np.float32) / 255)
    stored = np.ascontiguousarray(np.rot90(grey))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(folder / "b.png", exif=exif)
    tifffile.imwrite(folder / "c.tif", np.stack([grey, 255 - grey, grey[::-1]]), photometric="minisblack")
    data = content()
    for image, name in zip(data["images"], ("a.tif", "b.png", "c.tif", "c.tif"), strict=True):
        image["file_name"] = name
    data["images"][2]["frame"], data["images"][3]["frame"] = 1, 2
    file.write_text(json.dumps(data))
    corpus = opened(file)
    spread = (grey.astype(float) - grey.min()) * 255 / np.ptp(grey)
    assert np.abs(corpus.picture(0) - spread).max() <= 0.51
    assert (corpus.picture(1) == grey).all()
    assert (corpus.picture(2) == 255 - grey).all()
    assert (corpus.picture(3) == grey[::-1]).all()
    assert [corpus.key(n) for n in range(4)] == ["a.tif", "b.png", "c.tif#1", "c.tif#2"]
    assert coco.told(corpus) == [
        "1 file: float32 values are scaled to 0–255 by their range.",
        "1 file: rotated upright by the Exif orientation 6.",
    ]
    del data["images"][2]["frame"]
    data["images"][1] |= {"width": 40, "height": 60}
    file.write_text(json.dumps(data))
    with pytest.raises(TrainError) as caught:
        opened(file)
    assert "has 3 frames, and the entry has no frame (from 0): images[2] (id 2) c.tif" in caught.value.what
    assert "another size than its entry says: images[1] (id 1) b.png (60 × 40 pixels instead of 40 × 60; rotated " in (
        caught.value.what
    )
    assert len(opened_again(folder)) == 4  # the corpus of the former file is untouched


def opened_again(folder: Path) -> Corpus:
    return Corpus.open(folder / "corpus", folder)


def test_spacing_comes_from_the_entry_or_the_file(make: Callable[..., Path]) -> None:
    nibabel = pytest.importorskip("nibabel")
    file = make(content())
    nibabel.save(
        nibabel.Nifti1Image(np.full(SHAPE[::-1], 7, np.uint8), np.diag([0.2, 0.3, 1, 1])), file.parent / "a.nii"
    )
    data = content()
    shutil.copy(file.parent / "a.nii", file.parent / "b.nii")
    data["images"][0]["file_name"], data["images"][1]["file_name"] = "a.nii", "b.nii"
    data["images"][1]["spacing_mm"] = [0.1, 0.15]
    data["images"][2]["us43d"] = {"spacing_mm": [0.5, 0.5]}
    file.write_text(json.dumps(data))
    spacing = opened(file).images["spacing"]
    assert spacing[:3].tolist() == [pytest.approx([0.2, 0.3]), pytest.approx([0.1, 0.15]), [0.5, 0.5]]
    assert np.isnan(spacing[3]).all()


def test_a_volume_of_one_frame_needs_no_number(make: Callable[..., Path]) -> None:
    file = make(content())
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.full((1, *SHAPE), 7, np.uint8)), str(file.parent / "a.mha"))
    data = content()
    data["images"][0]["file_name"] = "a.mha"
    file.write_text(json.dumps(data))
    assert (opened(file).picture(0) == 7).all()
    data["images"][0]["frame"] = 1
    file.write_text(json.dumps(data))
    with pytest.raises(TrainError, match=r"a\.mha has 1 frame, no frame 1: images\[0\] \(id 0\) a\.mha"):
        opened(file)


@pytest.mark.parametrize("frames", [[0], [0, 1]])
def test_a_video_is_read_to_its_end(make: Callable[..., Path], frames: list[int]) -> None:
    """A frame that is lost on the way would move all after it, and is noticed only there."""
    data = content(len(frames))
    for image, frame in zip(data["images"], frames, strict=True):
        image |= {"file_name": "a.avi", "frame": frame}
    file = make(data)
    writer = cv2.VideoWriter(str(file.parent / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(8):
        writer.write(np.full((*SHAPE, 3), 20 * n, np.uint8))
    writer.release()
    assert len(opened(file)) == len(frames)
    shutil.rmtree(file.parent / "corpus")
    whole = bytearray((file.parent / "a.avi").read_bytes())
    sixth = [at for at in range(len(whole)) if whole[at : at + 4] == b"00dc"][5]
    whole[sixth : sixth + 4] = b"JUNK"
    (file.parent / "a.avi").write_bytes(whole)
    assert "a.avi" in faults(file)


def test_a_frame_that_a_file_does_not_have(make: Callable[..., Path]) -> None:
    data = content(3)
    for image, (name, frame) in zip(data["images"], (("c.tif", 0), ("c.tif", 9), ("a.avi", None)), strict=True):
        image |= {"file_name": name, "frame": frame}
    file = make(data)
    tifffile.imwrite(file.parent / "c.tif", np.zeros((2, *SHAPE), np.uint8), photometric="minisblack")
    writer = cv2.VideoWriter(str(file.parent / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(2):
        writer.write(np.full((*SHAPE, 3), 50 * n, np.uint8))
    writer.release()
    assert faults(file).endswith(
        "has 2 faults. image has no frame 9: images[1] (id 1) c.tif; "
        "image has 2 frames, and the entry has no frame (from 0): images[2] (id 2) a.avi."
    )


def test_the_frame_of_an_image_file_is_that_of_the_video_it_came_from(make: Callable[..., Path]) -> None:
    data = content(1)
    data["images"][0]["frame"] = 7
    file = make(data)
    Image.new("RGB", SHAPE[::-1], (200, 100, 50)).quantize().save(file.parent / "0.png")
    corpus = opened(file)
    assert (corpus.picture(0) == (200, 100, 50)).all()
    assert corpus.key(0) == "0.png#7"


def test_missing_images(make: Callable[..., Path]) -> None:
    file = make(content())
    (file.parent / "1.png").unlink()
    assert f"image is not in {file.parent}: images[1] (id 1) 1.png" in faults(file)
    (file.parent / "0.png").unlink()
    assert f"2 faults. image is not in {file.parent}: images[0] (id 0) 0.png, images[1]" in faults(file)
    (file.parent / "2.png").unlink()
    with pytest.raises(TrainError) as caught:
        opened(file)
    assert f"3 of 4 images of {file} are not in {file.parent}: 0.png, 1.png, 2.png." in caught.value.what
    assert caught.value.next.startswith("the same with --images FOLDER ")  # no folder has them
    data = content()
    for image in data["images"]:
        image["file_name"] = "x" * 5000
    file.write_text(json.dumps(data))
    assert "4 of 4 images" in faults(file)
    assert len(faults(file)) < 1000


def test_names_that_differ_in_case_or_in_accents(make: Callable[..., Path]) -> None:
    """macOS decomposes accents, and its folders, as those of Windows, do not tell cases apart."""
    file = make(content())
    (file.parent / "Été").mkdir()
    for n, name in enumerate((unicodedata.normalize("NFD", "Été/é.png"), "A.PNG")):
        (file.parent / name).parent.mkdir(exist_ok=True)
        (file.parent / f"{n}.png").rename(file.parent / name)
    data = content()
    data["images"][0]["file_name"], data["images"][1]["file_name"] = "Été/É.png", "a.png"
    file.write_text(json.dumps(data))
    corpus = opened(file)
    assert (corpus.picture(0)[0, 0], corpus.picture(1)[0, 0]) == (50, 51)
    assert "2 files: the name in the COCO file differs in case" in " ".join(coco.told(corpus))
    shutil.copy(file.parent / "A.PNG", file.parent / "a.Png")
    data["images"][1]["file_name"] = "a.pnG"
    file.write_text(json.dumps(data))
    shutil.rmtree(file.parent / "corpus")
    assert "image is not in" in faults(file)  # two files of that name


@pytest.mark.parametrize("empty", [..., None, []])
def test_boxes_without_segmentation_are_excluded(make: Callable[..., Path], tmp_path: Path, empty: Any) -> None:
    """FiftyOne and Detectron2 omit the field, Roboflow and CVAT write an empty list."""
    data = content()
    for one in data["annotations"]:
        one["bbox"] = [3, 2, 8, 6]
    change("annotations.2.segmentation", empty)(data)
    corpus = opened(make(data))
    assert coco.told(corpus)[0] == "Excluded: 1 of 4 annotations: 1 without segmentation."
    for n in range(4):
        data["annotations"][n].pop("segmentation", None)
        change(f"annotations.{n}.segmentation", None if empty is ... else empty)(data)
    with pytest.raises(TrainError, match=r"excluded: 4 without segmentation\.\n") as caught:
        coco.read(file := make(data), tmp_path / "boxes")
    assert caught.value.next == f"us43d predict {tmp_path} --prompts {file} --out found   (masks of the boxes)"


def test_outlines_in_fractions_and_in_percent(make: Callable[..., Path], tmp_path: Path) -> None:
    """A bbox in the same unit does not show it."""
    data = content()
    outlines = [[[x, 20, x + 30, 20, x + 30, 50, x, 50]] for x in (10, 20, 30, 40, 60)]
    for number, outline in enumerate(outlines):
        data["annotations"][number:] = [{"id": number, "image_id": 0, "category_id": 7, "segmentation": outline}]
    data["images"][0] |= {"width": 300, "height": 240}
    file = make(data)
    cv2.imwrite(str(tmp_path / "0.png"), np.full((240, 300), 50, np.uint8))
    said = "No outline has a coordinate above 90, in images of 240 pixels and more."
    assert any(said in line for line in coco.told(opened(file)))
    data["annotations"][4]["segmentation"] = [[60, 20, 101, 20, 101, 50, 60, 50]]
    file.write_text(json.dumps(data))
    assert not any("No outline" in line for line in coco.told(opened(file)))
    for one in data["annotations"]:
        one["segmentation"] = [[value / 300 for value in one["segmentation"][0]]]
    file.write_text(json.dumps(data))
    shutil.rmtree(tmp_path / "corpus")
    assert "segmentation is in fractions of the image, not in pixels: 5 outlines." in faults(file)


def test_equal_faults_of_segmentations_are_listed_together(make: Callable[..., Path]) -> None:
    data = content()
    for one in data["annotations"]:
        one["segmentation"] = [[str(value + one["id"]) for value in one["segmentation"][0]]]
    assert "has 4 faults. segmentation is not a list of numbers: annotations[0] (id 0) has ['3', '2'," in (
        what := faults(make(data))
    )
    assert what.endswith("… and 1 more.")


def test_the_folder_above_the_given_images_is_proposed(make: Callable[..., Path], tmp_path: Path) -> None:
    data = content()
    for image in data["images"]:
        image["file_name"] = f"scans\\{image['file_name']}"
    file = make(data)
    (tmp_path / "lab" / "scans").mkdir(parents=True)
    for n in range(4):
        (tmp_path / f"{n}.png").rename(tmp_path / "lab" / "scans" / f"{n}.png")
    (tmp_path / "downloads").mkdir()
    file = file.rename(tmp_path / "downloads" / "data.json")
    with pytest.raises(TrainError) as caught:
        coco.read(file, tmp_path / "corpus", tmp_path / "lab" / "scans")
    assert caught.value.next == f"the same with --images {tmp_path / 'lab'}"


@pytest.mark.parametrize(("outlines", "refused"), [(5, True), (4, False)])
def test_outlines_that_have_y_before_x(make: Callable[..., Path], outlines: int, refused: bool) -> None:
    """Images are 60 × 40: a corner at x = 55 is outside of the image if it is written as y."""
    data = content()
    shape = [30, 5, 55, 5, 55, 35, 30, 35]
    swapped = [5, 30, 5, 55, 35, 55, 35, 30]
    data["annotations"] = [
        {"id": n, "image_id": n % 4, "category_id": 7, "segmentation": [[v + n // 4 for v in swapped]]}
        for n in range(outlines)
    ]
    told = f"{2 * outlines} of {4 * outlines} corners are outside of their image, none with x and y exchanged"
    file = make(data)
    if refused:
        assert f"segmentation has y before x: {told}" in faults(file)
    else:
        assert f"{told}. Check that outlines have x before y." in coco.told(opened(file))
    for one in data["annotations"]:
        one["segmentation"] = [shape]
    data["annotations"] = data["annotations"][:4]
    data["annotations"][0]["segmentation"] = [[30, 5, 55, 5, 55, 45, 30, 45]]  # beyond the border, as people draw
    file.write_text(json.dumps(data))
    assert not any("x before y" in line for line in coco.told(opened(file)))


def test_the_folder_of_the_images_is_proposed(make: Callable[..., Path], tmp_path: Path) -> None:
    file = make(content())
    (tmp_path / "my scans").mkdir()
    (tmp_path / "Masks").mkdir()
    for n in range(4):
        shutil.copy(tmp_path / f"{n}.png", tmp_path / "Masks")
        (tmp_path / f"{n}.png").rename(tmp_path / "my scans" / f"{n}.png")
    with pytest.raises(TrainError) as caught:
        opened(file)
    assert caught.value.next == f"the same with --images '{tmp_path}/my scans'"
    data = content()
    for image in data["images"]:
        image["file_name"] = f"there/or here\\{image['file_name']}"
    file.write_text(json.dumps(data))
    with pytest.raises(TrainError) as caught:
        opened(file)
    wanted = (
        f"the same with --images '{tmp_path}/my scans'   (once the file names in data.json are relative to it: 0.png)"
    )
    assert caught.value.next == wanted
    (tmp_path / "others").mkdir()
    shutil.copy(tmp_path / "Masks" / "0.png", tmp_path / "others")
    with pytest.raises(TrainError) as caught:
        coco.read(file, tmp_path / "runs" / "a" / "corpus")
    assert caught.value.next.startswith("the same with --images FOLDER ")
    assert not (tmp_path / "runs").exists()  # nothing was changed on disk
    with pytest.raises(TrainError, match="scan is not a folder") as caught:
        coco.read(file, tmp_path / "corpus", tmp_path / "scan")
    assert caught.value.next.startswith("the same with --images FOLDER ")


@pytest.mark.parametrize(("written", "told"), [("{}.jpg", "0.jpg"), ("{}", "0"), ("scans/{}.png.txt", "")])
def test_images_with_another_ending_are_named(
    make: Callable[..., Path], tmp_path: Path, written: str, told: str
) -> None:
    data = content()
    for n, image in enumerate(data["images"]):
        image["file_name"] = written.format(n)
    with pytest.raises(TrainError, match="4 of 4 images") as caught:
        opened(make(data))
    if told:
        assert caught.value.next == (
            f"correct the endings of file_name in data.json (0.png is in place of {told}), then run the same command"
        )
    else:
        assert caught.value.next.startswith("the same with --images FOLDER ")


@pytest.mark.parametrize(
    "prefix", ["my scans/", "my%20scans/", "my scans\\", "{folder}/my scans/", "file://{folder}/my scans/"]
)
def test_the_folder_that_is_proposed_works(make: Callable[..., Path], tmp_path: Path, prefix: str) -> None:
    data = content()
    for image in data["images"]:
        image["file_name"] = prefix.format(folder=tmp_path) + image["file_name"]
    file = make(data)
    (tmp_path / "my scans").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for n in range(4):
        (tmp_path / f"{n}.png").rename(tmp_path / "my scans" / f"{n}.png")
    for given in ("elsewhere", "my scans"):
        try:
            coco.read(file, tmp_path / "corpus", tmp_path / given)
        except TrainError as error:
            command, _, folder = error.next.partition(" --images ")
            assert command == "the same with"
            assert len(coco.read(file, tmp_path / "corpus", Path(shlex.split(folder)[0]))) == 4
        else:
            assert given == "my scans"


def test_the_folder_that_cvat_and_datumaro_write_is_proposed(make: Callable[..., Path], tmp_path: Path) -> None:
    file = make(content())
    for name in ("images/default", "annotations", "masks/default"):
        (tmp_path / name).mkdir(parents=True)
    for n in range(4):
        shutil.copy(tmp_path / f"{n}.png", tmp_path / "masks" / "default")
        (tmp_path / f"{n}.png").rename(tmp_path / "images" / "default" / f"{n}.png")
    file = file.rename(tmp_path / "annotations" / "instances_default.json")
    with pytest.raises(TrainError) as caught:
        coco.read(file, tmp_path / "corpus")
    assert caught.value.next == f"the same with --images {tmp_path / 'images' / 'default'}"


def test_a_refused_file_removes_nothing_of_another_process(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders that reading makes may hold the run of another process by the time the file is refused."""
    other = tmp_path / "runs" / "other" / "log.jsonl"

    def refused(*_: Any) -> None:
        other.parent.mkdir()
        other.write_text("begun meanwhile")
        raise TrainError("made up")

    monkeypatch.setattr("us43d.coco.own._write", refused)
    with pytest.raises(TrainError, match="made up"):
        coco.read(make(content()), tmp_path / "runs" / "a" / "corpus")
    assert other.read_text() == "begun meanwhile"
    assert not (tmp_path / "runs" / "a").exists()


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("damage", ["cut", "cut in the last bytes", "bit"])
def test_a_damaged_image_is_named_before_training(make: Callable[..., Path], ending: str, damage: str) -> None:
    data = content()
    data["images"][1]["file_name"] = f"x{ending}"
    file = make(data)
    whole = cv2.imencode(ending, np.arange(2400, dtype=np.uint8).reshape(SHAPE))[1].tobytes()
    (file.parent / f"x{ending}").write_bytes(whole)
    opened(file)
    shutil.rmtree(file.parent / "corpus")
    bit = bytearray(whole)
    bit[len(whole) // 2] ^= 1
    (file.parent / f"x{ending}").write_bytes(
        {"cut": whole[: len(whole) * 3 // 4], "cut in the last bytes": whole[:-2], "bit": bytes(bit)}[damage]
    )
    if ending == ".jpg" and damage == "bit":
        opened(file)  # JPEG has no checksum
    else:
        kind = "damaged" if damage == "bit" else "truncated"
        what = faults(file)
        assert f"image cannot be used: {file.parent}/x{ending} is a {kind}" in what
        assert what.endswith(f": images[1] (id 1) x{ending}.")


def test_backslashes_are_folders(make: Callable[..., Path]) -> None:
    file = make(content())
    (file.parent / "sub").mkdir()
    (file.parent / "0.png").rename(file.parent / "sub" / "0.png")
    data = content()
    data["images"][0]["file_name"] = "sub\\0.png"
    file.write_text(json.dumps(data))
    assert opened(file).picture(0)[0, 0] == 50
    assert coco.told(opened(file)) == []


def test_a_corpus_is_made_anew_when_the_file_changes_or_the_folder_moves(make: Callable[..., Path]) -> None:
    file = make(content())
    first = opened(file)
    array = file.parent / "corpus" / "images.npy"
    stamp = array.stat().st_mtime_ns
    assert opened(file).digest == first.digest
    assert array.stat().st_mtime_ns == stamp
    (file.parent / "corpus").rename(file.parent / "elsewhere")
    assert not coco.made(file, file.parent / "elsewhere")
    assert coco.read(file, file.parent / "elsewhere").digest == first.digest
    data = copy.deepcopy(content())
    data["annotations"][0]["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    assert opened(make(data)).digest != first.digest


def test_reading_is_linear_in_images_and_annotations(tmp_path: Path) -> None:
    """Thousands of images of one file take milliseconds each, not each other's time."""

    def seconds(count: int) -> float:
        folder = tmp_path / str(count)
        folder.mkdir()
        data = content(count)
        _, png = cv2.imencode(".png", np.full(SHAPE, 9, np.uint8))
        for n in range(count):
            (folder / f"{n}.png").write_bytes(png.tobytes())
        (folder / "data.json").write_text(json.dumps(data))
        start = time.process_time()
        opened(folder / "data.json")
        return time.process_time() - start

    seconds(50)
    assert seconds(3200) < 16 * seconds(400) + 1  # 8 times the images


def test_a_mask_may_begin_at_the_first_pixel(make: Callable[..., Path]) -> None:
    """Uncompressed run lengths then begin with 0."""
    data = content(1)
    data["annotations"][0]["segmentation"] = {"size": list(SHAPE), "counts": [0, 40 * 30, 40 * 30]}
    corpus = opened(make(data))
    assert corpus.mask(corpus.of(0)[0])[:, :30].all()
    assert not corpus.mask(corpus.of(0)[0])[:, 30:].any()


def test_tags_and_licence_are_kept(make: Callable[..., Path]) -> None:
    data = content(2)
    data["images"][1]["tags"] = {"view": "A4C"}
    data["images"][1]["us43d"] = {"tags": {"view": "PLAX", "age": 3}}
    file = make(data)
    corpus = opened(file)
    assert (file.parent / "corpus" / "tags.json").read_text() == '{"1": {"age": 3, "view": "A4C"}}'
    assert not corpus.annotations["diagnosis"].any()
    assert [corpus.facts[name] for name in ("release", "diagnoses", "groups", "annotations")] == ["data", [""], 1, 2]
    (source,) = corpus.facts["sources"]
    assert source.pop("version") == source.pop("digest")[:12] == corpus.digest[:12]
    nothing = dict.fromkeys(("commercial", "redistribute", "derivatives", "share_alike", "attribution", "url"))
    assert source == {
        "name": "data", "slug": "own", "organ": "", "path": ".", "citations": [], "partial": False, "counts": {},
        "licence": {"id": "OWN", "title": "Your own data; its terms are not known here", "evidence": ""} | nothing,
    }  # fmt: skip


def test_images_outside_of_the_folder_are_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    file = make(content())
    images = tmp_path / "images"
    images.mkdir()
    for n in range(4):
        shutil.copy(tmp_path / f"{n}.png", images)
    for name in ("../2.png", str(tmp_path / "2.png"), "1.png/../../2.png", "..\\2.png", "%2e%2e/2.png", "..", "",
                 f"file://{tmp_path}/2.png", "../images2/2.png"):  # fmt: skip
        data = content()
        data["images"][1]["file_name"] = name or "."
        file.write_text(json.dumps(data))
        with pytest.raises(TrainError) as caught:
            coco.read(file, tmp_path / "corpus", images)
        assert f"image is outside of {images}: images[1] (id 1)" in caught.value.what
    for image in data["images"]:
        image["file_name"] = str(tmp_path / "2.png")
    file.write_text(json.dumps(data))
    with pytest.raises(TrainError, match=r"4 of 4 images of .* are outside of .*images: "):
        coco.read(file, tmp_path / "corpus", images)


def test_a_name_may_be_a_path_inside_of_the_folder_or_a_url(make: Callable[..., Path], tmp_path: Path) -> None:
    data = content()
    names = [str(tmp_path / "0.png"), f"file://{tmp_path}/my%20scan.png", "sub/../2.png", "a%20b.png"]
    for image, name in zip(data["images"], names, strict=True):
        image["file_name"] = name
    del data["images"][0]["group"]
    file = make(data)
    (tmp_path / "1.png").rename(tmp_path / "my scan.png")
    (tmp_path / "3.png").rename(tmp_path / "a%20b.png")  # the literal name comes first
    shutil.copy(tmp_path / "0.png", tmp_path / "a b.png")
    corpus = opened(file)
    assert [int(corpus.picture(n)[0, 0]) for n in range(4)] == [50, 51, 52, 53]
    assert corpus.group(0) == "0.png"
    assert "1 file: the name in the COCO file is written as in a URL (%20 for a space)." in coco.told(corpus)


@pytest.mark.parametrize("name", ["1.png", "./1.png", "sub/../1.png", "1.PNG", "1%2Epng"])
def test_an_image_is_listed_once(make: Callable[..., Path], name: str) -> None:
    """Twice, in two groups, it would be in training and validation."""
    data = content()
    data["images"][2]["file_name"] = name
    assert f"image is that of images[1] as well: images[2] (id 2) {name}" in faults(make(data))


def test_a_frame_is_listed_once(make: Callable[..., Path]) -> None:
    data = content(3)
    for image, frame in zip(data["images"], (1, 0, 1), strict=True):
        image |= {"file_name": "c.tif", "frame": frame}
    file = make(data)
    tifffile.imwrite(file.parent / "c.tif", np.zeros((2, *SHAPE), np.uint8), photometric="minisblack")
    assert "image is that of images[0] as well: images[2] (id 2) c.tif" in faults(file)


@pytest.mark.parametrize("form", ["plain", "palette"])
def test_groups_with_equal_images_are_one(make: Callable[..., Path], form: str) -> None:
    data = content()
    for image in data["images"]:
        image["group"] = f"p{image['id']}"
    file = make(data)
    for n in range(4):  # 1 = 3, 0 = 2 = nothing
        picture = Image.fromarray(np.full(SHAPE, (9, 5, 7, 5)[n], np.uint8))
        picture.convert("P" if form == "palette" else "L").save(file.parent / f"{n}.png")
    corpus = opened(file)
    assert [corpus.group(n) for n in range(4)] == ["p0", "p1", "p2", "p1"]
    assert corpus.images["split"][1] == corpus.images["split"][3]
    assert coco.told(corpus) == [
        "1 image repeats one of another group: 3.png and 1.png. Groups that share an image are kept in one split."
    ]
    data["images"][3]["group"] = "p1"
    file.write_text(json.dumps(data))
    assert coco.told(opened(file)) == []


def test_the_number_of_categories_is_limited(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    data = content(1)
    data["categories"].append({"id": 8, "name": "cyst"})
    monkeypatch.setattr(coco, "_CATEGORIES", 2)
    file = make(data)
    opened(file)
    shutil.rmtree(file.parent / "corpus")
    monkeypatch.setattr(coco, "_CATEGORIES", 1)
    assert "has 1 fault. number is 2, more than 1: categories." in faults(file)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for ever, a device has no end."""
    path = tmp_path / "data.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(
        TrainError, match="is a folder, not a COCO" if kind == "folder" else "is not a regular"
    ) as caught:
        coco.read(path, tmp_path / "corpus")
    if kind == "folder":  # as Roboflow writes one per split, with a file of its own
        assert caught.value.next == f"ls {path}"
        (path / "_annotations.coco.json").write_text("{}")
        with pytest.raises(TrainError) as caught:
            coco.read(path, tmp_path / "corpus")
        assert caught.value.next == f"the same with --data {path / '_annotations.coco.json'}"
        (path / "scan_1.json").write_text("{}")
        with pytest.raises(TrainError) as caught:
            coco.read(path, tmp_path / "corpus")
        assert caught.value.next.startswith(f"us43d coco IMAGES {path} ")
    with pytest.raises(UsageError, match="is not a regular file"):
        schema.load_prompts(path)
    with pytest.raises(UnreadableFile, match="is not a regular file"):
        reading.content(path)


def test_images_that_look_like_masks_are_remarked(make: Callable[..., Path]) -> None:
    """A large PNG of two values, a small one, and a TIFF; noise of two values in a file of many bytes is an image."""
    entry = content()
    file = make(entry)
    rng = np.random.default_rng(0)
    speckle = (rng.random(SHAPE) < 0.5).astype(np.uint8) * 255
    pixels = [np.where(SQUARE, 255, 0).astype(np.uint8), np.where(SQUARE, 3, 1).astype(np.uint8), speckle]
    for n, shown in enumerate(pixels):
        cv2.imwrite(str(file.parent / f"{n}.png"), np.kron(shown, np.ones((10, 10), np.uint8)) if n < 2 else shown)
    for image in entry["images"][:2]:
        image |= {"width": 600, "height": 400}
    cv2.imwrite(str(file.parent / "3.tif"), pixels[0])
    entry["images"][3]["file_name"] = "3.tif"
    file.write_text(json.dumps(entry))
    remarks = [line for line in coco.told(opened(file)) if "two values" in line]
    assert remarks == ["3 files: only two values, as in a mask (--images takes the folder of the ultrasound images)."]
