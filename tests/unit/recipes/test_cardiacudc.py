"""CardiacUDC's paper profile, and what outlines in other codes become."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Lazy, RawTree, Sample


def tree(root: Path, site: str, *labels: NDArray[np.uint8]) -> RawTree:
    """One video of noise with these label maps (rows, columns), stored turned by 180 degrees."""
    truth = np.stack(labels)[:, ::-1, ::-1].transpose(2, 1, 0)
    image = np.random.default_rng(0).integers(0, 255, truth.shape, dtype=np.uint8)
    (root / site).mkdir(parents=True)
    for name, array in (("image", image), ("label", truth)):
        volume = nibabel.nifti1.Nifti1Image(np.ascontiguousarray(array), np.eye(4))
        nibabel.save(volume, root / site / f"patient-1-4_{name}.nii.gz")
    return RawTree(root)


def drawn(sample: Sample) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    remarks: list[str] = []
    found = {}
    for label, mask in sample.masks.items():
        assert isinstance(mask, Lazy)
        found[label] = mask.read({}, remarks)
    return found, remarks


def ring(value: int, gap: bool = False) -> NDArray[np.uint8]:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:30, 8:50] = value
    labels[6:29, 9:49] = 0
    if gap:
        labels[5, 20:24] = 0
    return labels


def test_the_paper_fills_holes_and_leaves_out_small_frames(tmp_path: Path) -> None:
    small = np.zeros((40, 60), np.uint8)
    small[0, 0] = 1
    raw = tree(tmp_path, "Site_G_20", ring(2), small)
    recipe = registry.recipe("cardiacudc")
    assert [sample.drop for sample in recipe.read(raw)] == [None, None]
    whole, _ = drawn(next(recipe.read(raw)))
    assert whole["left_atrium"].sum() == (ring(2) != 0).sum()
    first, second = recipe.reader("paper")(raw)
    assert (first.drop, second.drop) == (None, "few labelled pixels")
    assert drawn(first)[0]["left_atrium"].sum() == 25 * 42


@pytest.mark.parametrize("codes", [(1, 2, 3, 4), (3, 5, 6, 9)])
def test_four_outlines_are_numbered_by_their_order(tmp_path: Path, codes: tuple[int, ...]) -> None:
    samples = list(registry.recipe("cardiacudc").read(tree(tmp_path, "label_all_frame", *map(ring, codes))))
    names = ["left_ventricle", "left_atrium", "right_atrium", "right_ventricle"]
    assert [list(sample.masks) for sample in samples] == [[name] for name in names]
    assert all(len(sample.remarks) == (codes[0] != 1) for sample in samples)


def test_other_codes_than_four_are_dropped(tmp_path: Path) -> None:
    samples = registry.recipe("cardiacudc").read(tree(tmp_path, "label_all_frame", ring(2), ring(7)))
    assert [sample.drop for sample in samples] == [None, "a label value is not described"]


def test_an_open_outline_is_kept_and_remarked(tmp_path: Path) -> None:
    (sample,) = registry.recipe("cardiacudc").read(tree(tmp_path, "label_all_frame", ring(1, gap=True)))
    found, remarks = drawn(sample)
    assert found["left_ventricle"].sum() == (ring(1, gap=True) != 0).sum()
    assert remarks == ["outline not closed, kept as it is"]
