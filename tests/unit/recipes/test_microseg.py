"""MicroSeg and MUP: one archive and one reader; the paper converted it twice, in two ways."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Lazy, RawTree
from us43d.errors import MaskMismatch, MissingRawFile


def volumes(root: Path, image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> RawTree:
    for folder, name, array in (
        ("micro_ultrasound_scans", "microUS", image),
        ("expert_annotations", "expert_annotation", truth),
    ):
        (root / "test" / folder).mkdir(parents=True)
        nibabel.save(nibabel.nifti1.Nifti1Image(array, np.eye(4)), root / f"test/{folder}/{name}_test_01.nii.gz")
    return RawTree(root)


def arrays(slug: str, profile: str, tree: RawTree) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.uint8]]]:
    masks, images = [], []
    for sample in registry.recipe(slug).reader(profile)(tree):
        mask = sample.masks["prostate"]
        assert isinstance(mask, Lazy)
        assert isinstance(sample.image, Lazy)
        masks.append(mask.read({}, []))
        images.append(sample.image.read({}, []))
    return masks, images


def test_both_names_give_the_same_pixels_and_groups(tmp_path: Path) -> None:
    registry.specimen("mup")(tmp_path, np.random.default_rng(0))
    tree = RawTree(tmp_path)
    for one, other in zip(*(registry.recipe(slug).read(tree) for slug in ("microseg", "mup")), strict=True):
        assert one == other
    assert registry.find("MUP").slug == "mup"


def test_the_paper_converted_it_in_two_ways(tmp_path: Path) -> None:
    image = np.full((5, 4, 2), 9, np.uint8)  # x, y, slice
    image[0, 0, 0] = 0  # black in one slice only
    image[4, 3, :] = 0  # black in all slices: a black line
    image[:, 1, 1] = 0  # a black row of one slice
    tree = volumes(tmp_path, image, np.ones_like(image))
    (turned, _), (picture, _) = arrays("microseg", "paper", tree)
    assert sorted(zip(*np.nonzero(~turned), strict=True)) == [(0, 0), (3, 4)]
    assert (picture == 0).tolist() == (~turned).tolist()
    (first, second), (picture, _) = arrays("mup", "paper", tree)
    assert (picture == image[:, ::-1, 0].T).all()
    assert list(zip(*np.nonzero(~first), strict=True)) == [(0, 4)]
    assert (~second).sum() == 6
    assert (~second)[2].all()


def test_other_annotators_do_not_stand_in_for_the_experts(tmp_path: Path) -> None:
    registry.specimen("microseg")(tmp_path, np.random.default_rng(0))
    next(tmp_path.rglob("expert_annotation_train_02.nii.gz")).unlink()
    with pytest.raises(MissingRawFile, match=r"expert_annotation_train_02\.nii\.gz is missing"):
        list(registry.recipe("microseg").read(RawTree(tmp_path)))


def test_volumes_of_another_shape_are_refused(tmp_path: Path) -> None:
    tree = volumes(tmp_path, np.ones((5, 4, 2), np.uint8), np.ones((5, 4, 3), np.uint8))
    with pytest.raises(MaskMismatch, match=r"has the shape \(5, 4, 3\), its images \(5, 4, 2\)"):
        list(registry.recipe("mup").read(tree))
