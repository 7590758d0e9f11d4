"""Every fault of a build is named by its kind, place and value, and nothing else is."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from us43d.coco.segmentation import encode
from us43d.errors import CheckError
from us43d.harmonize import check as checking
from us43d.harmonize import shards
from us43d.harmonize.check import Problem, check
from us43d.harmonize.ids import Ids
from us43d.harmonize.pixels import perceptual_hash, pixel_hash
from us43d.harmonize.records import Record

TRAIN = "train-00000-of-00001.json"


def test_a_sound_build_has_no_problem(small: Callable, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert check(small(tmp_path / "build"), jobs=2, progress=lambda *done: seen.append(done)) == []
    assert seen == [(4, 4)]


def test_progress_is_told_every_fifty_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    rows: list[dict[str, Any]] = [{"file": "gone.png"}] * 101
    assert checking._images(tmp_path, rows, 0, lambda *done: seen.append(done)) == []
    assert seen == [(50, 101), (100, 101), (101, 101)]
    del seen[:]
    assert checking._images(tmp_path, rows[:1], 1, lambda *done: seen.append(done)) == []
    assert seen == [(1, 1)]
    assert checking._images(tmp_path, [{"file": None}], 1, None) == []


def test_files_that_are_gone_or_too_many(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    rows = shards.read_manifest(path / shards.MANIFEST)
    (path / rows[1]["file"]).unlink()
    (path / "provenance.json").unlink()
    (path / "annotations" / "notes.json").write_text("{}")
    (path / "empty").mkdir()
    for left in (".DS_Store", "images/Thumbs.db", "croissant.json"):  # by desktops; of `us43d card`
        (path / left).touch()
    assert list(checking._files(path, rows)) == [
        Problem("missing", rows[1]["file"], "the file is gone"),
        Problem("missing", "provenance.json", "the file is gone"),
        Problem("extra", "annotations/notes.json", "the file belongs to no image of the manifest"),
    ]


def test_an_image_that_is_not_that_of_the_manifest(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    rows = [row for row in shards.read_manifest(path / shards.MANIFEST) if row["file"]]
    file = rows[0]["file"]

    def said(**other: object) -> list[Problem]:
        return checking._images(path, [rows[0] | other, *rows[1:]], 1, None)

    assert said() == []
    assert said(sha256="0") == [Problem("changed", file, "its bytes are not those the manifest was written for")]
    size = [Problem("manifest", "a", "size or pixel hash are not those of the image")]
    assert said(width=9) == said(height=9) == said(pixel_hash="0") == size
    assert said(phash=1) == [Problem("manifest", "a", "the perceptual hash is not that of the image")]
    (path / file).write_bytes(b"no image")
    (problem,) = said(sha256=hashlib.sha256(b"no image").hexdigest())
    assert (problem.kind, problem.where) == ("unreadable", file)
    (path / file).unlink()
    (path / file).mkdir()
    assert said() == [Problem("unreadable", file, "Is a directory")]


def test_an_image_in_colour(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", array[:, :, ::-1])[1].tobytes())
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    row = {"key": "a", "file": "a.png", "sha256": digest, "height": 2, "width": 4, "pixel_hash": pixel_hash(array),
           "phash": perceptual_hash(array)}  # fmt: skip
    assert checking._images(tmp_path, [row], 1, None) == []


def test_a_manifest_that_cannot_be_read(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    (path / shards.MANIFEST).write_bytes(b"PAR1")
    (problem,) = check(path)
    assert problem[:2] == ("manifest", shards.MANIFEST)
    assert "is not a readable manifest" in problem.what
    with pytest.raises(CheckError, match="is not a build") as caught:
        check(tmp_path)
    assert caught.value.next == "us43d build --all"


def test_splits_that_share_a_group_or_an_image(small: Callable, tmp_path: Path) -> None:
    def alter(records: dict[str, Record]) -> None:
        records["c"].group = "patient a"

    assert check(small(tmp_path / "groups", alter)) == [
        Problem("split", "patient a", "the group lies in train and val")
    ]

    def copy(records: dict[str, Record]) -> None:
        for name in ("pixel_hash", "phash", "sha256", "width"):
            setattr(records["d"].image, name, getattr(records["a"].image, name))
        records["d"].annotations = ()
        folder = tmp_path / "images"
        (folder / records["d"].image.file).write_bytes((folder / records["a"].image.file).read_bytes())

    path = small(tmp_path / "images", copy)
    picture = shards.read_manifest(path / shards.MANIFEST)[0]["pixel_hash"]
    assert check(path) == [Problem("split", picture, "the image lies in train and test")]


def test_counts_and_digest_of_dataset_json(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    dataset = json.loads((path / "dataset.json").read_text())
    dataset["splits"]["val"]["images"] = 7
    (path / "dataset.json").write_text(json.dumps(dataset))
    rows = shards.rows_digest(shards.read_manifest(path / shards.MANIFEST))
    digest = shards.build_digest(path, dataset, rows)
    found, told = {"train": 2, "val": 1, "test": 1}, {"train": 2, "val": 7, "test": 1}
    assert check(path) == [
        Problem("split", "dataset.json", f"the manifest has {found}, dataset.json {told}"),
        Problem("digest", "STU-Hospital", f"the build's digest is {digest}, dataset.json says {dataset['digest']}"),
    ]
    del dataset["splits"]["val"]
    (path / "dataset.json").write_text(json.dumps(dataset))
    assert [problem.kind for problem in check(path)] == ["split", "digest"]


def test_images_of_the_manifest_and_of_coco_files(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    table = pq.read_table(path / shards.MANIFEST)
    pq.write_table(table.slice(1), path / shards.MANIFEST)
    said = [problem for problem in check(path) if problem.kind in ("manifest", "annotation")]
    assert said[0] == Problem("manifest", "a", f"{TRAIN} has the image, the manifest has not")
    assert [problem.what for problem in said[1:]] == ["its mask is 8 × 6, its image None"] * 2
    pq.write_table(table, path / shards.MANIFEST)
    shard = path / "annotations" / TRAIN
    content = json.loads(shard.read_text())
    content["images"].append(content["images"].pop(0) | {"width": 9, "file_name": "x"})
    (path / "annotations" / "train-00001-of-00001.json").write_text(json.dumps(content))
    assert [problem for problem in check(path) if problem.kind == "manifest"] == [
        Problem("manifest", "a", "train-00001-of-00001.json and the manifest disagree on file, size"),
        Problem("manifest", "a", "the image is in 2 COCO files"),
        Problem("manifest", "b", "the image is in 2 COCO files"),
    ]
    for file in (path / "annotations").glob("train-*"):
        file.unlink()
    assert "the image is in 0 COCO files" in {problem.what for problem in check(path)}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"images": []}, "KeyError('annotations')"),
        ({"images": 1, "annotations": []}, "TypeError(\"'int' object is not iterable\")"),
        ({"images": [], "annotations": [{"image_id": 1, "us43d": []}]}, "TypeError('list indices must be"),
        ({"images": [], "annotations": [{"image_id": 1, "us43d": {"label": "a"}, "segmentation": {"size": [1]}}]},
         "ValueError('not enough values to unpack"),
    ],
)  # fmt: skip
def test_what_is_no_coco_file_of_us43d(small: Callable, tmp_path: Path, content: Any, why: str) -> None:
    path = small(tmp_path / "build")
    (path / "annotations" / TRAIN).write_text(json.dumps(content))
    (problem,) = [problem for problem in check(path) if problem.kind == "unreadable"]
    assert problem.where == f"annotations/{TRAIN}"
    assert problem.what.startswith(f"no COCO file of us43d: {why}")


def test_masks_of_annotations(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    shard = path / "annotations" / TRAIN
    content = json.loads(shard.read_text())
    first, second = content["annotations"]
    first["segmentation"]["counts"] = "`1"  # 48 pixels that are not of the mask
    second["segmentation"]["size"] = [8, 6]
    shard.write_text(json.dumps(content))
    assert [problem for problem in check(path) if problem.kind == "annotation"] == [
        Problem("annotation", f"{TRAIN}, annotation {first['id']}", "its mask is empty"),
        Problem("annotation", f"{TRAIN}, annotation {second['id']}", "its mask is 6 × 8, its image (6, 8)"),
    ]
    first["segmentation"]["counts"] = "0"
    shard.write_text(json.dumps(content))
    said = [problem.what for problem in check(path) if problem.kind == "annotation"]
    assert said[0].startswith("its mask cannot be decoded: ")


def test_annotations_are_numbered_by_image_and_label(small: Callable, tmp_path: Path) -> None:
    path = small(tmp_path / "build")
    shard = path / "annotations" / TRAIN
    content = json.loads(shard.read_text())
    content["annotations"].reverse()
    first, second = content["annotations"]
    second["us43d"]["speck"], second["iscrowd"] = True, 1
    shard.write_text(json.dumps(content))
    ids = [second["id"], first["id"]]
    assert [problem.what for problem in check(path) if problem.kind == "annotation"] == [
        f"id is {ids[1]}, should be {ids[0]}",
        f"id is {ids[0]}, should be {ids[1]}; iscrowd is 1, should be 0; speck is True, should be False",
    ]


def test_ids_and_order_of_keys() -> None:
    ids = Ids("busi")
    rows = [{"key": key, "id": ids.image(key)} for key in "abc"]
    assert list(checking._ids("busi", rows)) == []
    order = Problem("manifest", shards.MANIFEST, "keys are not unique and sorted")
    assert list(checking._ids("busi", rows[::-1])) == [order]
    assert list(checking._ids("busi", [rows[0], *rows])) == [order]
    expected = rows[1]["id"]
    rows[1] = {"key": "b", "id": 5}
    assert list(checking._ids("busi", rows)) == [Problem("manifest", "b", f"its id is 5, should be {expected}")]


def test_the_box_of_a_mask_is_of_its_own_pixels() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:5] = True
    annotation = {
        "id": 5, "area": 6, "bbox": [2, 1, 3, 2], "iscrowd": 0, "us43d": {"speck": False},
        "segmentation": {"size": [6, 8], "counts": encode(mask).decode()},
    }  # fmt: skip
    assert checking._annotation(annotation, 5, (6, 8)) == ""
    for place in range(4):
        box = [2, 1, 3, 2]
        box[place] += 1
        assert checking._annotation(annotation | {"bbox": box}, 5, (6, 8)) == f"bbox is {box}, should be [2, 1, 3, 2]"
