"""A COCO file of one's own becomes a corpus, and says what is wrong with it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from us43d import specimen
from us43d.coco import own as coco
from us43d.errors import TrainError
from us43d.harmonize.corpus import Corpus
from us43d.masks import rle


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_encoding_is_that_of_pycocotools(height: int, width: int, random) -> None:
    mask = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    text = coco.encode(mask)
    assert text == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert (rle.decode(text, height, width) == mask).all()


def test_encoding_of_long_runs() -> None:
    mask = specimen.blob((900, 1200), np.random.default_rng(0), 0.3)
    assert coco.encode(mask) == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_a_polygon_holds_the_pixels_whose_centre_it_holds() -> None:
    polygon = np.array([[3.2, 1.7], [17.9, 4.1], [14.4, 15.8], [8.0, 9.0], [2.6, 12.3]])
    found = coco.filled(polygon, 18, 20)
    for y in range(18):
        for x in range(20):
            inside = cv2.pointPolygonTest(polygon.astype(np.float32)[:, None], (x + 0.5, y + 0.5), False) > 0
            assert found[y, x] == inside, (x, y)


def test_a_polygon_beyond_the_picture_is_cut() -> None:
    square = np.array([[-5.0, -5.0], [4.0, -5.0], [4.0, 30.0], [-5.0, 30.0]])
    assert coco.filled(square, 10, 12).sum() == 40


def _file(folder: Path, segmentation: object, **image: object) -> Path:
    folder.mkdir(exist_ok=True)
    for n in range(2):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((10, 12), 90, np.uint8))
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 10, "width": 12} | image for n in range(2)],
        "annotations": [{"id": n, "image_id": n, "category_id": 7, "segmentation": segmentation} for n in range(2)],
        "categories": [{"id": 7, "name": "lesion"}],
    }
    (folder / "data.json").write_text(json.dumps(content))
    return folder / "data.json"


SQUARE = np.zeros((10, 12), bool)
SQUARE[2:6, 3:9] = True
#: The same square three times: polygon, run lengths, compressed run lengths.
FORMS = {
    "polygon": [[3, 2, 9, 2, 9, 6, 3, 6]],
    "runs": {"size": [10, 12], "counts": [32, *([4, 6] * 5), 4, 34]},
    "compressed": {"size": [10, 12], "counts": coco.encode(SQUARE).decode()},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_mask(tmp_path: Path, form: str) -> None:
    corpus = coco.read(_file(tmp_path / "images", FORMS[form]), tmp_path / "corpus")
    assert (corpus.mask(0) == SQUARE).all()
    assert corpus.annotations[0]["bbox"].tolist() == [3, 2, 6, 4]
    assert corpus.annotations[0]["area"] == 24
    assert corpus.file(1) == tmp_path / "images" / "1.png"
    assert corpus.categories == [{"id": 1, "name": "lesion", "supercategory": ""}]


def test_groups_stay_whole(blobs: Corpus) -> None:
    split = {}
    for n in range(len(blobs)):
        split.setdefault(blobs.group(n), set()).add(int(blobs.images["split"][n]))
    assert all(len(each) == 1 for each in split.values())
    assert blobs.facts["images"] == {"train": 20, "val": 4, "test": 0, "excluded": 0}


def test_a_corpus_is_made_anew_when_the_file_changes(tmp_path: Path) -> None:
    file = _file(tmp_path / "images", FORMS["polygon"])
    first = coco.read(file, tmp_path / "corpus")
    made = (tmp_path / "corpus" / "images.npy").stat().st_mtime_ns
    assert coco.read(file, tmp_path / "corpus").digest == first.digest
    assert (tmp_path / "corpus" / "images.npy").stat().st_mtime_ns == made
    _file(tmp_path / "images", [[0, 0, 5, 0, 5, 5]])
    assert coco.read(file, tmp_path / "corpus").digest != first.digest


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    file = _file(tmp_path / "images", FORMS["polygon"])
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(TrainError, match=r"1 of 2 images .* are not in .*: 1.png"):
        coco.read(file, tmp_path / "corpus")
    with pytest.raises(TrainError, match="no readable mask"):
        coco.read(_file(tmp_path / "images", {"size": [10, 12], "counts": [5, 5]}), tmp_path / "corpus")
    with pytest.raises(TrainError, match="no annotation with a mask"):
        coco.read(_file(tmp_path / "images", []), tmp_path / "corpus")
    file.write_text("[1]")
    with pytest.raises(TrainError, match="no readable COCO file"):
        coco.read(file, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
