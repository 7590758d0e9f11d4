"""regPro: the same slices whatever the stored axes, and what becomes of odd files."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import Lazy, RawTree, Sample, paths_in
from us43d.errors import MaskMismatch, UnreadableFile

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 255, (5, 6, 7), dtype=np.uint8)  # right, front, head
LABELS = (RNG.random((5, 6, 7, 6)) > 0.5).astype(np.uint8)


def save(path: Path, array: NDArray[np.generic], axes: str = "RAS", sizes: tuple[float, ...] = (0.8, 0.8, 0.8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.nifti1.Nifti1Image(array, np.diag([*sizes, 1]))
    orient = nibabel.orientations
    nibabel.save(
        volume.as_reoriented(orient.ornt_transform(orient.axcodes2ornt("RAS"), orient.axcodes2ornt(axes))), path
    )


def case(root: Path, image: NDArray[np.generic] = VOLUME, labels: NDArray[np.generic] = LABELS) -> RawTree:
    save(root / "train/us_images/case000000.nii.gz", image)
    save(root / "train/us_labels/case000000.nii.gz", labels)
    return RawTree(root)


def read(raw: RawTree) -> list[Sample]:
    return list(registry.recipe("regpro").read(raw))


@pytest.mark.parametrize(("image_axes", "label_axes"), [("RAS", "RAS"), ("LPS", "SRA"), ("PIR", "LPS")])
def test_slices_do_not_depend_on_the_stored_axes(tmp_path: Path, image_axes: str, label_axes: str) -> None:
    save(tmp_path / "val/us_images/case000065.nii.gz", VOLUME, image_axes, (0.7, 0.8, 0.9))
    save(tmp_path / "val/us_labels/case000065.nii.gz", LABELS, label_axes, (0.7, 0.8, 0.9))
    samples = read(RawTree(tmp_path))
    assert [sample.key for sample in samples] == [f"val/us_images/case000065.nii.gz#00{n}" for n in range(5)]
    for n, sample in enumerate(samples):
        assert sample.spacing_mm == pytest.approx((0.8, 0.9))
        assert isinstance(sample.image, Lazy)
        head_above = VOLUME[n].T[::-1, ::-1]
        assert np.array_equal(sample.image.read({}, []), head_above)
        mask = sample.masks["landmark_3"]
        assert isinstance(mask, Lazy)
        assert np.array_equal(mask.read({}, []), LABELS[n, ..., 3].T[::-1, ::-1])


def test_other_intensities_are_scaled_and_remarked(tmp_path: Path) -> None:
    first = read(case(tmp_path, VOLUME.astype(np.float32) / 100 - 1))[0]
    remarks: list[str] = []
    assert isinstance(first.image, Lazy)
    picture = first.image.read({}, remarks).astype(int)
    wanted = (VOLUME[0].T[::-1, ::-1].astype(float) - VOLUME.min()) * 255 / np.ptp(VOLUME)
    assert np.abs(picture - wanted).max() <= 0.51
    assert remarks[0].startswith("intensities scaled to 0–255: ")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_intensities_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    volume = VOLUME.astype(np.float32)
    volume[1, 1, 1] = value
    first = read(case(tmp_path, volume))[0]
    assert isinstance(first.image, Lazy)
    with pytest.raises(UnreadableFile, match=r"case000000\.nii\.gz has non-finite intensities"):
        first.image.read({}, [])


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="not that of 6 structures"):
        read(case(tmp_path / "a", labels=LABELS[..., :3]))
    with pytest.raises(UnreadableFile, match="not that of a volume"):
        read(case(tmp_path / "b", LABELS))
    with pytest.raises(MaskMismatch, match="its image"):
        read(case(tmp_path / "c", VOLUME[:4]))


def test_the_paper_has_one_label(tmp_path: Path) -> None:
    for sample in registry.recipe("regpro").reader("paper")(case(tmp_path)):
        (masks,) = sample.masks.values()
        assert isinstance(masks, tuple)
        assert len(masks) == 6


def test_a_folder_of_another_name_is_not_read_and_so_reported(tmp_path: Path) -> None:
    """Its cases silently had no official split."""
    save(tmp_path / "val (1)/us_images/case000065.nii.gz", VOLUME)
    save(tmp_path / "val (1)/us_labels/case000065.nii.gz", LABELS)
    raw = case(tmp_path)
    samples = read(raw)
    assert {sample.split for sample in samples} == {"train"}
    raw.use(*(path for sample in samples for path in paths_in(sample)))
    recipe = registry.recipe("regpro")
    assert raw.unread(recipe.ignore) == [f"val (1)/us_{kind}/case000065.nii.gz" for kind in ("images", "labels")]
