"""What recipes share to turn grey values, colours and volumes into masks and images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from us43d import masks
from us43d.contract import Remarked, lazy
from us43d.errors import MaskMismatch, UnreadableFile
from us43d.masks.convert import is_outline
from us43d.masks.ellipses import fit_ellipse

RED, GREEN = (255, 0, 0), (0, 255, 0)


def painted(*colours: tuple[int, int, int]) -> np.ndarray:
    """One row of pixels, one of each colour."""
    return np.array([colours], np.uint8)


def test_colour_classes_count_in_the_order_given() -> None:
    picture = painted((0, 0, 0), GREEN, RED, GREEN)
    assert masks.colour_classes(picture, (RED, GREEN)).tolist() == [[0, 2, 1, 2]]
    assert masks.colour_classes(picture, (GREEN, RED)).tolist() == [[0, 1, 2, 1]]


@pytest.mark.parametrize("strange", [(254, 0, 0), (1, 0, 0), (255, 255, 0), (255, 255, 255)])
def test_a_colour_that_is_not_described_is_named(strange: tuple[int, int, int]) -> None:
    with pytest.raises(UnreadableFile, match=f"has the colour \\({strange[0]}, {strange[1]}, {strange[2]}\\)"):
        masks.colour_classes(painted((0, 0, 0), RED, strange), (RED, GREEN))


def test_classes_of_a_label_map_by_their_values(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "a.png")
    labels = lazy(masks.label_image, tmp_path / "a.png")
    made = masks.by_value(labels, {"cyst": 2, "nodule": 1})
    assert {label: one.read({}, []).tolist() for label, one in made.items()} == {
        "cyst": [[False, False, True]], "nodule": [[False, True, False]]
    }  # fmt: skip
    with pytest.raises(UnreadableFile, match=r"The label map holds 2 beside 0 and 1\."):
        masks.by_value(labels, {"nodule": 1})["nodule"].read({}, [])


def test_a_colour_may_be_blurred_where_the_source_allows_it() -> None:
    picture = painted((200, 60, 100), (255, 128, 0), (127, 0, 0))
    assert masks.colour(picture, RED).tolist() == [[True, False, False]]
    assert masks.colour(picture, RED, 128).tolist() == [[True, True, True]]
    assert masks.colour(picture, RED, 0).tolist() == [[False, False, False]]
    limit = painted((128, 127, 127), (127, 127, 127), (128, 128, 0), (128, 0, 128))
    assert masks.colour(limit, RED).tolist() == [[True, False, False, False]]


def volume(path: Path, array: np.ndarray) -> Callable[[Path, int], Any]:
    """Write frames (n, h, w) as NIfTI or MetaImage; return the function that reads a frame of it."""
    if path.suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        return masks.mha_frame
    nibabel.save(nibabel.nifti1.Nifti1Image(array.transpose(2, 1, 0), np.eye(4)), path)
    return masks.nifti_frame


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_grey_frames_within_eight_bits_stay(tmp_path: Path, name: str, dtype: str) -> None:
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(dtype)
    read = volume(tmp_path / name, array)
    for n in range(3):
        frame = masks.grey_frame(read, tmp_path / name, n, 3)
        assert isinstance(frame, np.ndarray)
        assert frame.dtype == np.uint8
        assert np.array_equal(frame, array[n])


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_other_values_are_scaled_by_the_range_of_the_whole_volume(tmp_path: Path, name: str) -> None:
    array = np.zeros((2, 1, 3), np.float32)
    array[0], array[1] = (-100, 0, 100), (0, 300, 155)
    read = volume(tmp_path / name, array)
    frames = [masks.grey_frame(read, tmp_path / name, n, 2) for n in range(2)]
    for frame in frames:
        assert isinstance(frame, Remarked)
        assert frame.remarks == ("intensities scaled to 0–255: from -100 to 300",)
    assert [frame.array.tolist() for frame in frames] == [[[0, 64, 127]], [[64, 255, 163]]]


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [((0, 2), None), ((0, 255), None), ((7, 200), None), ((0, 1), (0, 255)), ((0, 256), (0, 255)), ((-1, 5), (0, 255))],
)
def test_values_of_an_eight_bit_range_are_not_scaled(ends: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    frames = [masks.grey_frame(lambda _, n: np.array([[ends[n]]], np.int16), Path("a"), n, 2) for n in range(2)]
    assert all(isinstance(frame, Remarked) == (wanted is not None) for frame in frames)
    assert tuple(np.asarray(getattr(frame, "array", frame)).item() for frame in frames) == (wanted or ends)


def test_a_volume_of_one_value_is_black(tmp_path: Path) -> None:
    read = volume(tmp_path / "a.mha", np.full((2, 3, 4), 700, np.int16))
    frame = masks.grey_frame(read, tmp_path / "a.mha", 1, 2)
    assert isinstance(frame, Remarked)
    assert not frame.array.any()


def test_intensities_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 0, 0] = np.nan
    read = volume(tmp_path / "a.mha", array)
    with pytest.raises(UnreadableFile, match=r"a\.mha has non-finite intensities"):
        masks.grey_frame(read, tmp_path / "a.mha", 0, 2)


def test_eight_bit_cuts_off_and_counts() -> None:
    cut = masks.eight_bit(np.array([[-1.0, 0.4, 255.0, 256.0, np.nan]]))
    assert isinstance(cut, Remarked)
    assert cut.array.tolist() == [[0, 0, 255, 255, 0]]
    assert cut.remarks == ("grey values outside 0–255 cut off: 3 pixels",)
    assert masks.eight_bit(np.array([[3.0]])).tolist() == [[3]]
    assert masks.eight_bit(cut.array) is cut.array


def test_thresholds() -> None:
    values = np.array([0, 1, 127, 128, 255])
    assert masks.above(values, 127).tolist() == [False, False, False, True, True]
    assert masks.between(values, 1, 128).tolist() == [False, False, True, True, False]
    assert masks.nonzero(values).tolist() == [False, True, True, True, True]
    assert masks.equal(values, 1, 255).tolist() == [False, True, False, False, True]
    assert masks.equal(values, 1).tolist() == [False, True, False, False, False]


def test_label_map_names_values_that_are_not_described() -> None:
    labels = np.array([[0, 1, 2]])
    assert masks.label_map(labels, (1, 2)) is labels
    with pytest.raises(UnreadableFile, match=r"holds 2 beside 0 and 1\."):
        masks.label_map(labels, (1,))
    for count, named in ((5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5 …")):
        with pytest.raises(UnreadableFile, match=rf"^The label map holds {named} beside 0 and 8, 9\."):
            masks.label_map(np.arange(count + 1), (8, 9))


def test_label_values_are_whole_and_sorted() -> None:
    assert masks.label_values(np.array([3.0, 0.0, 1.0]), "here") == (1, 3)
    assert masks.label_values(np.zeros(3), "here") == ()
    for strange in (0.5, np.nan, np.inf):
        with pytest.raises(UnreadableFile, match="here has label values"):
            masks.label_values(np.array([strange]), "here")


def test_turned_by_half_a_turn() -> None:
    assert masks.turned(np.array([[1, 2], [3, 4]])).tolist() == [[4, 3], [2, 1]]


def test_holes_are_what_does_not_reach_the_border() -> None:
    mask = np.ones((5, 6), bool)
    mask[1, 1] = mask[3, 3] = mask[0, 4] = False  # the last one is open
    assert np.argwhere(~masks.fill_holes(mask)).tolist() == [[0, 4]]
    diagonal = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)  # no way out past a corner
    assert masks.fill_holes(diagonal)[1, 1]


def test_largest_takes_the_first_of_equal_ones() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1]], bool)
    assert masks.largest(mask).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert masks.largest(mask[[0, 2, 3]])[0].tolist() == [True, True, False, False]
    assert masks.largest(mask[[3, 2, 0, 1]]).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert not masks.largest(np.zeros((2, 2), bool)).any()


@pytest.mark.parametrize("side", [2, 3, 5])
def test_opening_keeps_the_place_of_what_is_wide_enough(side: int) -> None:
    mask = np.zeros((12, 12), bool)
    mask[2:8, 3:9] = True
    square = mask.copy()
    mask[4 : 3 + side, 9:12] = True  # a line that is too thin
    mask[10, 1] = True  # a speck
    assert np.array_equal(masks.opened(mask, side), square)


def test_image_size_is_that_of_the_header(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((5, 7), np.uint8))
        assert masks.image_size(tmp_path / name) == (7, 5)
    cv2.imwrite(str(tmp_path / "a.bmp"), np.zeros((5, 7), np.uint8))
    with pytest.raises(UnreadableFile, match=r"a\.bmp is neither PNG nor JPEG"):
        masks.image_size(tmp_path / "a.bmp")


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_image_to_be_turned_is_not_plain(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "a.png"):
        Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / name, exif=exif)
        head = masks.header((tmp_path / name).read_bytes(), tmp_path / name)
        assert head is not None
        assert head.plain == (orientation == 1 and name == "a.jpg")


def test_a_channel_that_all_three_share() -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(100, 2)
    shared = masks.common_channel(np.stack([grey] * 3, axis=-1))
    assert shared is not None
    assert np.array_equal(shared, grey)
    other = np.stack([grey] * 3, axis=-1)
    other[99, 1, 2] ^= 1
    assert masks.common_channel(other) is None


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_channel_shared_beyond_eight_bits(dtype: type) -> None:
    grey = np.arange(200, dtype=dtype).reshape(100, 2)
    shared = masks.common_channel(np.stack([grey] * 3, axis=-1))
    assert shared is not None
    assert shared.dtype == dtype
    assert np.array_equal(shared, grey)
    for channel in (0, 1, 2):
        other = np.stack([grey] * 3, axis=-1)
        other[99, 1, channel] += 1
        assert masks.common_channel(other) is None


@pytest.mark.parametrize(("mode", "plain"), [("L", True), ("RGB", True), ("CMYK", False)])
def test_decoders_agree_on_grey_and_rgb_jpegs(tmp_path: Path, mode: str, plain: bool) -> None:
    Image.new(mode, (7, 5)).save(tmp_path / "a.jpg")
    head = masks.header((tmp_path / "a.jpg").read_bytes(), tmp_path / "a.jpg")
    assert head is not None
    assert head.plain == plain


def test_a_drawn_ellipse_is_filled() -> None:
    """A closed outline as it is drawn; one that the border cuts, by the ellipse fitted to it."""
    canvas = np.zeros((60, 80), np.uint8)
    cv2.ellipse(canvas, ((40, 30), (50, 30), 20), 1, 1)
    closed = masks.ellipse(canvas)
    assert closed.remarks == ()
    assert np.array_equal(closed.array, masks.fill_holes(canvas))
    noise = canvas * 200
    noise[0, 0] = 100
    assert np.array_equal(masks.ellipse(noise).array, closed.array)
    arc = canvas.copy()
    arc[:, 55:] = 0
    completed = masks.ellipse(arc)
    assert completed.remarks == ("open outline completed by the fitted ellipse",)
    both = np.count_nonzero(completed.array & closed.array) / np.count_nonzero(completed.array | closed.array)
    assert both > 0.95
    assert completed.array[arc != 0].all()
    dots = np.zeros((9, 9), np.uint8)
    for count, place in enumerate([(1, 4), (3, 1), (3, 7), (6, 2), (6, 6)], 1):
        dots[place] = 1
        if count < 5:
            with pytest.raises(UnreadableFile, match="fewer than 5 pixels"):
                masks.ellipse(dots)
    assert masks.ellipse(dots).array[4, 4]
    small = np.pad(np.zeros((5, 5), np.uint8), 1, constant_values=1)  # 24 of 49 pixels
    assert masks.ellipse(small).remarks == ()


@pytest.mark.parametrize("angle", [0, 30, 90, 150])
@pytest.mark.parametrize("count", [6, 100])
def test_points_on_an_ellipse_give_it_back(angle: float, count: int) -> None:
    turn = np.radians(angle)
    t = np.arange(count) * 5 / count  # not all around
    points = np.stack([0.4 * np.cos(t), 0.2 * np.sin(t)], axis=1) @ [
        [np.cos(turn), np.sin(turn)],
        [-np.sin(turn), np.cos(turn)],
    ] + [7, -3]
    found = fit_ellipse(points)
    assert found[:4] == pytest.approx((7, -3, 0.8, 0.4), abs=1e-4)
    assert np.sin(np.radians(found.angle - angle)) == pytest.approx(0, abs=1e-3)
    assert 0 <= found.angle < 180


@pytest.mark.parametrize("points", [np.eye(5, 2), np.ones((9, 2))])
def test_points_that_no_ellipse_fits(points: np.ndarray) -> None:
    assert np.isnan(fit_ellipse(points)).all()


@pytest.mark.parametrize(("part", "differs"), [(1.04, False), (0.96, False), (1.06, True), (0.94, True)])
def test_a_published_circumference_may_differ_by_a_twentieth(part: float, differs: bool) -> None:
    canvas = np.zeros((60, 80), np.uint8)
    cv2.ellipse(canvas, ((40, 30), (49, 29), 0), 1, 1)
    around = np.pi * 0.5 * (3 * 40 - np.sqrt((3 * 25 + 15) * (25 + 3 * 15)))  # half axes of 25 and 15 pixels of 0.5 mm
    remarks = masks.ellipse(canvas, 0.5, around / part).remarks
    assert len(remarks) == differs
    for remark in remarks:
        assert remark == (
            f"circumference differs from the published one: 63.3 mm of the mask, {around / part:.1f} mm there"
        )
    assert masks.ellipse(canvas, 0.5).remarks == masks.ellipse(canvas, None, 9).remarks == ()


def test_a_pair_of_volumes_must_have_one_shape(tmp_path: Path) -> None:
    volume(tmp_path / "image.nii.gz", np.zeros((2, 3, 4), np.uint8))
    volume(tmp_path / "labels.nii.gz", np.zeros((2, 3, 4), np.uint8))
    volume(tmp_path / "other.nii.gz", np.zeros((3, 3, 4), np.uint8))
    assert masks.nifti_pair(tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz") == (2, (1.0, 1.0))
    for name in ("image.nii", "labels.nii"):
        pixels = nibabel.nifti1.Nifti1Image(np.zeros((4, 3, 2), np.uint8), np.diag([0.5, 0.6, 0.7, 1]))
        nibabel.save(pixels, tmp_path / name)
    frames, spacing = masks.nifti_pair(tmp_path / "image.nii", tmp_path / "labels.nii")
    assert (frames, spacing) == (2, pytest.approx((0.5, 0.6)))
    assert masks.nifti_gap(tmp_path / "image.nii") == pytest.approx(0.7)
    nibabel.save(nibabel.nifti1.Nifti1Image(np.zeros((4, 3), np.uint8), np.eye(4)), tmp_path / "flat.nii")
    assert masks.nifti_gap(tmp_path / "flat.nii") is None
    with pytest.raises(UnreadableFile, match=r"flat\.nii has the shape \(4, 3\), not that of a volume"):
        masks.nifti_pair(tmp_path / "image.nii", tmp_path / "flat.nii")
    with pytest.raises(MaskMismatch, match=r"other\.nii\.gz has the shape \(4, 3, 3\), its images \(4, 3, 2\)"):
        masks.nifti_pair(tmp_path / "image.nii.gz", tmp_path / "other.nii.gz")


def test_label_images_are_read_as_stored(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 1:4], labels[4:, 5:] = 1, 2
    coloured = Image.fromarray(labels)
    coloured.putpalette([0, 0, 0, 220, 20, 60, 0, 128, 0])
    grey = Image.fromarray(labels)
    grey.putpalette([0, 0, 0, 2, 2, 2, 1, 1, 1])
    doubled = Image.fromarray(labels)
    doubled.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9])  # grey values that do not tell the classes apart
    images = {
        "grey": Image.fromarray(labels), "sixteen": Image.fromarray(labels.astype(np.uint16)), "palette": coloured,
        "doubled": doubled,
        "rgb": Image.fromarray(np.dstack([labels] * 3)), "alpha": Image.fromarray(np.dstack([labels] * 3 + [labels])),
    }  # fmt: skip
    for name, image in images.items():
        for ending in (".png", ".bmp", ".gif", ".tif") if name == "palette" else (".png",):
            image.save(tmp_path / f"{name}{ending}")
            assert (masks.label_image(tmp_path / f"{name}{ending}") == labels).all(), name + ending
    grey.save(tmp_path / "swapped.png")
    assert (masks.label_image(tmp_path / "swapped.png") == np.array([0, 2, 1])[labels]).all()
    coloured.convert("RGB").save(tmp_path / "colours.png")
    with pytest.raises(UnreadableFile, match="has colours, where"):
        masks.label_image(tmp_path / "colours.png")


@pytest.mark.parametrize(
    ("side", "thick", "outline"),
    [(60, 1, True), (60, 4, True), (40, 4, False), (100, 5, False), (24, 2, True), (16, 2, False), (12, 6, False)],
)
@pytest.mark.parametrize("margin", [0, 7])
def test_closed_lines_are_told_from_regions(side: int, thick: int, outline: bool, margin: int) -> None:
    """Lines of up to 4 pixels around more than twice their own area, at the border of the image, too."""
    ring = np.zeros((side, side), np.uint8)
    ring[:] = 255
    ring[thick : side - thick, thick : side - thick] = 0
    assert is_outline(np.pad(ring, margin)) is outline
    filled = np.pad(np.full((side, side), 255, np.uint8), margin)
    assert is_outline(filled) is False
