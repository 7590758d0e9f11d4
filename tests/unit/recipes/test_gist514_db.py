"""GIST514-DB: polygons of COCO files, as the recipe and as the paper takes them, and files that are none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import RawDataError, UnreadableFile
from us43d.specimen import write_image

SQUARE = [2, 3, 6, 3, 6, 8, 2, 8]


def tree(
    root: Path, annotations: list[dict[str, Any]] | None = None, *, fold_of_first: tuple[int, ...] = (1,)
) -> RawTree:
    top = root / "usd514_jpeg_roi"
    write_image(top / "images/a.jpg", np.zeros((20, 30), np.uint8))
    (top / "annotations").mkdir()
    for fold in range(5):
        here = fold in fold_of_first
        content = {
            "images": [{"id": 9, "file_name": "a.jpg", "height": 1, "width": 1}] if here else [],
            "annotations": annotations if here and annotations is not None else [],
        }
        (top / f"annotations/val_anno_crop_split_{fold}.json").write_text(json.dumps(content))
    return RawTree(root)


def annotation(*polygons: list[Any], category: int = 2, **changes: Any) -> dict[str, Any]:
    return {"image_id": 9, "category_id": category, "segmentation": list(polygons)} | changes


def filled(sample: Sample) -> list[np.ndarray[Any, Any]]:
    return [mask.read({}, []) for group in sample.instances.values() for mask in group]  # type: ignore[union-attr]


def test_polygons_cover_the_pixels_between_their_corners(tmp_path: Path) -> None:
    (sample,) = registry.recipe("gist514_db").read(tree(tmp_path, [annotation(SQUARE)]))
    (mask,) = filled(sample)
    assert mask.shape == (20, 30)  # the picture's size, not the file's
    assert np.argwhere(mask).min(axis=0).tolist() == [3, 2]
    assert mask.sum() == 5 * 4
    assert sample.tags == {"fold": 1, "diagnosis": "gist"}


def test_the_paper_takes_every_polygon_for_an_instance(tmp_path: Path) -> None:
    far = [value + 12 for value in SQUARE]
    raw = tree(tmp_path, [annotation(SQUARE, far)])
    recipe = registry.recipe("gist514_db")
    (ours,), (paper,) = recipe.read(raw), recipe.reader("paper")(raw)
    assert [int(mask.sum()) for mask in filled(ours)] == [40]
    assert [int(mask.sum()) for mask in filled(paper)] == [20, 20]


def test_an_annotation_without_polygon_is_remarked(tmp_path: Path) -> None:
    (sample,) = registry.recipe("gist514_db").read(tree(tmp_path, [annotation(), annotation(SQUARE)]))
    assert sample.remarks == ("an annotation has no polygon",)
    assert len(filled(sample)) == 1


def test_an_image_in_two_test_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match=r"a\.jpg is in the test folds 1 and 3"):
        list(registry.recipe("gist514_db").read(tree(tmp_path, fold_of_first=(1, 3))))


@pytest.mark.parametrize(
    "broken",
    [
        annotation([1, 2, 3, 4]),
        annotation([1, 2, 3, 4, 5, 6, 7]),
        annotation([1, 2, 3, 4, 5, 1e9]),
        annotation([1, 2, 3, 4, 5, float("nan")]),
        annotation([1, 2, 3, 4, 5, "x"]),
        annotation([1, 2, 3, 4, 5, None]),
        annotation(SQUARE, category=3),
        annotation(SQUARE, image_id=10),
        annotation(segmentation={"counts": "x", "size": [20, 30]}),
        annotation(segmentation=None),
        {"image_id": 9},
        [],
    ],
)
def test_what_is_no_polygon_names_its_file(tmp_path: Path, broken: Any) -> None:
    with pytest.raises(UnreadableFile, match=r"val_anno_crop_split_1\.json .* is not a valid COCO file of polygons"):
        list(registry.recipe("gist514_db").read(tree(tmp_path, [broken])))
