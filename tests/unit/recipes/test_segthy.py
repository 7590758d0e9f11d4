"""Segthy: both numberings of the vessels, and label values that nobody has described."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Lazy, RawTree
from us43d.errors import UnreadableFile


def labelled(root: Path, labels: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """(label → mask, remarks) of the one slice of a volume with this label map, as stored."""
    top = root / "ground_truth_data"
    for folder, name, array in (("US", "001_P1_1_left_US", labels), ("US_thyroid_label", "001_P1_1_left", labels)):
        (top / folder).mkdir(parents=True)
        nibabel.save(nibabel.nifti1.Nifti1Image(array[:, :, None], np.eye(4)), top / folder / f"{name}.nii")
    (sample,) = registry.recipe("segthy").read(RawTree(root))
    masks, remarks = {}, list[str]()
    for label, mask in sample.masks.items():
        assert isinstance(mask, Lazy)
        masks[label] = mask.read({}, remarks)
    return masks, remarks


def test_both_sides_are_one_structure_and_what_occurs_is_said(tmp_path: Path) -> None:
    masks, remarks = labelled(tmp_path, np.arange(6, dtype=np.uint8).reshape(3, 2))  # x, y
    as_shown = np.array([[5, 3, 1], [4, 2, 0]])  # turned by 180 degrees
    for label, values in {"thyroid": [1], "carotid": [2, 4], "jugular": [3, 5]}.items():
        assert (masks[label] == np.isin(as_shown, values)).all()
    assert list(dict.fromkeys(remarks)) == [f"label value {value} occurs" for value in range(1, 6)]


def test_an_undescribed_label_value_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="holds 6 beside 0 and 1, 2, 3, 4, 5"):
        labelled(tmp_path, np.array([[0, 1], [6, 2]], np.uint8))
