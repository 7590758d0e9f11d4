"""Fast-U-Net beyond its specimen: heads drawn as outlines, files fetched one by one, the lists, the paper's opening."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d import registry
from us43d.contract import RawTree, Sample
from us43d.errors import MissingRawFile, UnreadableFile
from us43d.specimen import ring, write_image

SHAPE = (160, 236)


def tree(root: Path, mask: Any, *, lists: str = "{}.txt") -> RawTree:
    """One head in a training set of its own, as the single files unpack: lists carry the half in their name."""
    write_image(root / "Dataset/HC/image2/007_2HC.png", np.full(SHAPE, 90, np.uint8))
    write_image(root / "Dataset/HC/mask/007_2HC_Annotation.png", mask)
    (root / "Dataset/HC" / lists.format("train")).write_text("resized_data/image/007_2HC.png resized_data/mask/x.png\n")
    (root / "Dataset/HC" / lists.format("val")).write_text("\n")
    return RawTree(root)


def head(sample: Sample, remarks: list[str]) -> Any:
    return sample.masks["fetal_head"].read({}, remarks)  # type: ignore[union-attr]


def test_a_head_drawn_as_an_outline_is_filled_and_said_so(tmp_path: Path) -> None:
    region, line = ring(SHAPE, (118, 80), (130, 90), 10)
    (sample,) = registry.recipe("fast_u_net").read(tree(tmp_path, line.astype(np.uint8) * 255, lists="HC_{}.txt"))
    remarks: list[str] = []
    assert (head(sample, remarks) == region).all()
    assert remarks == ["the head is drawn as an outline: filled"]
    assert (sample.key, sample.group, sample.split) == ("HC/007_2HC.png", "HC:007", "train")


@pytest.mark.parametrize("whole", [True, False])
def test_filled_and_empty_heads_stay(tmp_path: Path, whole: bool) -> None:
    region = ring(SHAPE, (118, 80), (130, 90), 10)[0] & whole
    (sample,) = registry.recipe("fast_u_net").read(tree(tmp_path, region.astype(np.uint8) * 255))
    remarks: list[str] = []
    assert (head(sample, remarks) == region).all()
    assert remarks == []


def test_the_paper_takes_pure_white_and_opens_it(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:100, 60:160] = 255
    mask[100:110, 60:160] = 254  # not white
    mask[70, 160:200] = 255  # a hair
    mask[5:30, 5:30] = 255  # a smaller component
    (sample,) = registry.recipe("fast_u_net").reader("paper")(tree(tmp_path, mask))
    wanted = np.zeros(SHAPE, bool)
    wanted[40:100, 60:160] = True
    assert (head(sample, []) == wanted).all()


def test_an_image_in_no_list_and_a_missing_mask_are_named(tmp_path: Path) -> None:
    raw = tree(tmp_path, np.zeros(SHAPE, np.uint8))
    (tmp_path / "Dataset/HC/train.txt").write_text("resized_data/image/00")
    with pytest.raises(UnreadableFile, match=r"007_2HC\.png is in neither train\.txt nor val\.txt"):
        list(registry.recipe("fast_u_net").read(raw))
    raw = tree(tmp_path, np.zeros(SHAPE, np.uint8))
    (tmp_path / "Dataset/HC/mask/007_2HC_Annotation.png").unlink()
    with pytest.raises(MissingRawFile, match=r"HC/mask/007_2HC_Annotation\.png is missing"):
        list(registry.recipe("fast_u_net").read(RawTree(tmp_path)))
