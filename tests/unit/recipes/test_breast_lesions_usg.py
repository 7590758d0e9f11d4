"""BrEaST: masks are those that the workbook names, and its clinical columns stay with the image."""

import json
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from us43d import registry
from us43d.contract import RawTree
from us43d.errors import MissingRawFile, RawDataError
from us43d.harmonize.build import build
from us43d.paths import Home

FOLDER = "BrEaST-Lesions_USG-images_and_masks"


def test_tumours_carry_the_diagnosis_and_images_the_clinical_columns(tmp_path: Path) -> None:
    registry.specimen("breast_lesions_usg")(tmp_path / "raw", np.random.default_rng(0))
    recipe = registry.recipe("breast_lesions_usg")
    result = build(recipe, tmp_path / "raw", Home(tmp_path / "home"), receipt={"kind": "specimen"}, fixes=False)
    seen = set()
    for shard in sorted((result.path / "annotations").iterdir()):
        content = json.loads(shard.read_bytes())
        tags = {image["id"]: image["us43d"]["tags"] for image in content["images"]}
        for annotation in content["annotations"]:
            said = annotation["us43d"]
            wanted = tags[annotation["image_id"]]["diagnosis"] if said["label"] == "tumor" else None
            assert said["diagnosis"] == wanted
            seen.add(wanted)
        assert all(tag["age"] == "50" and tag["finding"] == "cyst" for tag in tags.values())
    assert seen == {"benign", "malignant", None}


@pytest.mark.parametrize("name", ["case005_other2.png", "case001_tumor.png", "case006.png"])
def test_a_file_that_the_workbook_names_must_be_there(tmp_path: Path, name: str) -> None:
    registry.specimen("breast_lesions_usg")(tmp_path / "raw", np.random.default_rng(0))
    (tmp_path / "raw" / FOLDER / name).unlink()
    with pytest.raises(MissingRawFile, match=name):
        list(registry.recipe("breast_lesions_usg").read(RawTree(tmp_path / "raw")))
    with pytest.raises(RawDataError, match=name):
        build(registry.recipe("breast_lesions_usg"), tmp_path / "raw", Home(tmp_path / "home"), partial=True)


def test_a_mask_that_the_workbook_spells_in_other_case_is_one(tmp_path: Path) -> None:
    """It was read twice, and its lesion annotated twice."""
    registry.specimen("breast_lesions_usg")(tmp_path, np.random.default_rng(0))

    def masks() -> dict[str, int]:
        samples = registry.recipe("breast_lesions_usg").read(RawTree(tmp_path))
        return {f"{sample.key} {label}": len(sample.masks[label]) for sample in samples for label in sample.masks}

    before = masks()
    path = next(tmp_path.glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    for cell in (cell for line in book.worksheets[0].iter_rows(min_row=2) for cell in line):
        cell.value = cell.value.replace("case", "Case") if isinstance(cell.value, str) else cell.value
    book.save(path)
    assert masks() == before
    assert max(before.values()) == 2
