"""FH-PS-AOP: what the paper profile clears, planes that differ, and labels of another set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import UnreadableFile


def one(root: Path, planes: Any, labels: Any, profile: Any = "us43d") -> Sample:
    for folder, array in (("image_mha", planes), ("label_mha", labels)):
        (root / folder).mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.uint8)), str(root / folder / "00001.mha"))
    (sample,) = registry.recipe("fh_ps_aop").reader(profile)(RawTree(root))
    return sample


def test_the_paper_clears_labels_outside_the_field_of_view(tmp_path: Path) -> None:
    picture, labels = np.zeros((64, 64)), np.zeros((64, 64))
    picture[10:50, 10:50] = 80
    picture[2:6, 54:60] = 255  # burnt-in text
    labels[20:30, 40:60] = 2
    labels[52:56, 20:30] = 1
    inside = np.zeros((64, 64), bool)
    inside[20:30, 40:50] = True
    for profile, head, symphysis in (("us43d", labels == 2, 40), ("paper", inside, 0)):
        sample = one(tmp_path, np.stack([picture] * 3), labels, profile)
        assert (sample.masks["fetal_head"].read({}, []) == head).all()  # type: ignore[union-attr]
        assert sample.masks["pubic_symphysis"].read({}, []).sum() == symphysis  # type: ignore[union-attr]


def test_a_black_picture_has_no_field_of_view(tmp_path: Path) -> None:
    sample = one(tmp_path, np.zeros((3, 64, 64)), np.ones((64, 64)), "paper")
    assert not sample.masks["pubic_symphysis"].read({}, []).any()  # type: ignore[union-attr]


def test_planes_that_differ_are_remarked(tmp_path: Path) -> None:
    planes = np.zeros((3, 64, 64))
    planes[1, 5, 5] = 9
    remarks: list[str] = []
    image: Any = one(tmp_path, planes, np.zeros((64, 64))).image
    assert (image.read({}, remarks) == planes[0]).all()
    assert remarks == ["the three planes of the image differ: the first is read"]


def test_labels_of_jnu_ifm_are_refused(tmp_path: Path) -> None:
    sample = one(tmp_path, np.zeros((3, 64, 64)), np.full((64, 64), 7))
    with pytest.raises(UnreadableFile, match="holds 7 beside 0 and 1, 2"):
        sample.masks["fetal_head"].read({}, [])  # type: ignore[union-attr]
