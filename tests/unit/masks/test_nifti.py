"""NIfTI files frame by frame and upright."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from us43d import masks
from us43d.errors import UnreadableFile

VOLUME = np.random.default_rng(0).integers(0, 255, (30, 20, 9), dtype=np.uint8)


def save(path: Path, array: NDArray[np.generic]) -> Path:
    nibabel.save(nibabel.nifti1.Nifti1Image(array, np.diag([0.5, 0.6, 0.7, 1])), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float64"])
def test_every_frame_in_any_order(tmp_path: Path, name: str, dtype: str) -> None:
    path = save(tmp_path / name, VOLUME.astype(dtype))
    shape, spacing = masks.nifti_shape(path)
    assert shape == (30, 20, 9)
    assert spacing == pytest.approx((0.5, 0.6, 0.7))
    for frame in (0, 1, 8, 8, 3, 0):
        found = masks.nifti_frame(path, frame)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(found, VOLUME[:, :, frame].T)
    with pytest.raises(UnreadableFile, match="9 frames, no frame 9"):
        masks.nifti_frame(path, 9)


def test_axes_of_length_1_are_passed_over(tmp_path: Path) -> None:
    for number, array in enumerate((VOLUME[:, :, 4], VOLUME[:, :, 4:5, None, None])):
        path = save(tmp_path / f"{number}.nii", array)
        assert np.array_equal(masks.nifti_frame(path, 0), VOLUME[:, :, 4].T)
        with pytest.raises(UnreadableFile, match="has 1 frames, no frame 1"):
            masks.nifti_frame(path, 1)
    with pytest.raises(UnreadableFile, match="not a sequence of 2D frames"):
        masks.nifti_frame(save(tmp_path / "b.nii", VOLUME[..., None].repeat(3, 3)), 0)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_cut_file_is_an_error_for_every_frame(tmp_path: Path, name: str, dtype: str) -> None:
    data = save(tmp_path / name, VOLUME.astype(dtype)).read_bytes()
    for cut in (len(data) // 2, len(data) - 4):
        path = tmp_path / f"{cut}{name}"
        path.write_bytes(data[:cut])
        for frame in (1, 8):
            with pytest.raises(UnreadableFile, match=r"cut short|damaged gzip file"):
                masks.nifti_frame(path, frame)


def test_no_bit_of_a_compressed_volume_changes_it_silently(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 26, 3)).astype(np.uint8)
    data = save(tmp_path / "a.nii.gz", noise).read_bytes()
    refused = 0
    for bit in np.random.default_rng(1).integers(80, len(data) * 8, 60):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        path = tmp_path / f"{bit}.nii.gz"
        path.write_bytes(spoilt)
        try:
            assert np.array_equal(masks.nifti_frame(path, 1), noise[:, :, 1].T), bit
        except UnreadableFile:
            refused += 1
    assert refused > 50


def test_a_claim_beyond_the_limits_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", VOLUME)
    data = bytearray(path.read_bytes())
    for sides, said in (((30_000, 30_000, 1), "more than the"), ((2_000, 2_000, 30_000), "bytes of pixels, more than")):
        struct.pack_into("<3h", data, 42, *sides)
        path = tmp_path / f"{sides[2]}.nii"
        path.write_bytes(data)
        with pytest.raises(UnreadableFile, match=said):
            masks.nifti_frame(path, 0)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "said"),
    [
        ("uint8", 1, 0, "is cut short"), ("uint8", 2, 0, "more than"), ("uint8", 1, 5, "more than"),
        ("float64", 1, 0, "more than"),
    ],
)  # fmt: skip
def test_scaled_values_take_eight_bytes(tmp_path: Path, dtype: str, slope: float, intercept: float, said: str) -> None:
    """An image of 2 to the power of 27 pixels, the most that is read, of 1 byte or 8."""
    data = bytearray(save(tmp_path / "a.nii", VOLUME.astype(dtype)).read_bytes())
    struct.pack_into("<3h", data, 42, 8192, 16384, 1)
    struct.pack_into("<2f", data, 112, slope, intercept)
    (tmp_path / "b.nii").write_bytes(data)
    with pytest.raises(UnreadableFile, match=said):
        masks.nifti_shape(tmp_path / "b.nii")


def test_a_volume_too_large_for_memory_is_not_turned(tmp_path: Path) -> None:
    data = bytearray(save(tmp_path / "a.nii", VOLUME).read_bytes()[:352])
    struct.pack_into("<3h", data, 42, 1024, 1024, 33)
    (tmp_path / "b.nii").write_bytes(data)
    with (tmp_path / "b.nii").open("r+b") as file:
        file.truncate(352 + 33 * 1024 * 1024)
    assert not masks.nifti_frame(tmp_path / "b.nii", 32).any()
    with pytest.raises(UnreadableFile, match="more than"):
        masks.nifti_upright(tmp_path / "b.nii")


def test_a_byte_that_a_compressed_volume_lacks(tmp_path: Path) -> None:
    data = save(tmp_path / "a.nii", VOLUME).read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:-1]))
    with pytest.raises(UnreadableFile, match=rf"cut short: it has {len(data) - 1:,} of the {len(data):,} bytes"):
        masks.nifti_frame(tmp_path / "b.nii.gz", 0)


@pytest.mark.parametrize("array", [np.ones(9, np.uint8), VOLUME.astype(np.complex64)])
def test_what_is_not_grey_images(tmp_path: Path, array: NDArray[np.generic]) -> None:
    with pytest.raises(UnreadableFile, match=rf"values of the type {array.dtype} in the shape .*, not grey images"):
        masks.nifti_shape(save(tmp_path / "a.nii", array))


@pytest.mark.parametrize("size", [0, np.inf])
def test_sizes_of_pixels_that_are_unknown(tmp_path: Path, size: float) -> None:
    data = bytearray(save(tmp_path / "a.nii", VOLUME).read_bytes())
    for axis, spacing, gap in ((1, None, 0.7), (2, None, 0.7), (3, (0.5, 0.6), None)):
        changed = data.copy()
        struct.pack_into("<f", changed, 76 + 4 * axis, size)
        (path := tmp_path / f"{axis}.nii").write_bytes(changed)
        assert masks.nifti_pair(path, path) == (9, spacing and pytest.approx(spacing))
        assert masks.nifti_gap(path) == (gap and pytest.approx(gap))


@pytest.mark.parametrize(
    ("diagonal", "axes"), [((1, 1, 1), "RAS"), ((-1, -1, 2), "LPS"), ((1, 0, 1), "R?S"), ((np.nan, 1, 1), "???")]
)
def test_the_directions_of_axes(tmp_path: Path, diagonal: tuple[float, ...], axes: str) -> None:
    data = bytearray(save(tmp_path / "a.nii", VOLUME).read_bytes())
    struct.pack_into("<12f", data, 280, *np.diag([*diagonal, 1])[:3].ravel())
    (tmp_path / "b.nii").write_bytes(data)
    assert masks.nifti_axes(tmp_path / "b.nii") == axes


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x1f\x8b\x08", b"\0" * 400])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_no_nifti_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    for read in (masks.nifti_shape, masks.nifti_upright):
        with pytest.raises(UnreadableFile, match=f"{name} is not a readable NIfTI file"):
            read(tmp_path / name)


def test_upright_with_its_spacing(tmp_path: Path) -> None:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = -0.5, 0.6, 0.7, 1  # axes: to the feet, right, front
    nibabel.save(nibabel.nifti1.Nifti1Image(VOLUME, affine), tmp_path / "a.nii")
    found = masks.nifti_upright(tmp_path / "a.nii")
    assert np.array_equal(found.array, VOLUME[::-1].transpose(1, 2, 0))
    assert not found.array.flags.writeable
    assert found.spacing == pytest.approx((0.6, 0.7, 0.5))


def test_label_values() -> None:
    assert masks.label_values(np.zeros((3, 4)), "a") == ()
    assert masks.label_values(np.array([[0.0, 4.0], [2.0, 4.0]]), "a") == (2, 4)
    for value in (0.5, np.nan, np.inf):
        with pytest.raises(UnreadableFile, match="a has label values that are not integers"):
            masks.label_values(np.array([[0, value]]), "a")
