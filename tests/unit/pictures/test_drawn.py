"""Masks in files of any kind: us43d measure and us43d coco read the same pixels and spacing from all of them."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pycocotools import mask as reference
from typer.testing import CliRunner

from us43d.coco import own
from us43d.coco.write import from_masks
from us43d.errors import ImageError

from .files import SHAPE, dicom, video

MASK = np.zeros(SHAPE, np.uint8)
cv2.ellipse(MASK, (40, 30), (30, 15), 20, 0, 360, 1, -1)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(importlib.import_module("us43d.cli.app").app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def volume(path: Path, pixels: np.ndarray) -> None:
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.1, 0.3, 1)[: pixels.ndim])
    sitk.WriteImage(image, str(path), True)


def bits(path: Path, pixels: np.ndarray) -> None:
    """As a DICOM segmentation of one segment has its pixels."""
    import pydicom
    from pydicom.pixels.utils import pack_bits

    data = pydicom.dcmread(dicom(path, pixels, PixelSpacing=[0.3, 0.1]))
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelData = 1, 1, 0, pack_bits(pixels)
    data.save_as(path)


FORMS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "a.nii.gz": volume, "a.nii": lambda path, pixels: volume(path, pixels.astype(np.float32)),
    "a.mha": volume, "a.mhd": volume, "a.nrrd": lambda path, pixels: volume(path, pixels.astype(np.int16)),
    "a.dcm": lambda path, pixels: dicom(path, pixels, PixelSpacing=[0.3, 0.1]),
    "b.dcm": lambda path, pixels: dicom(path, pixels * 255, PixelSpacing=[0.3, 0.1]), "c.dcm": bits,
    "e.dcm": lambda path, pixels: dicom(path, pixels, PixelSpacing=[0.3, 0.1], WindowCenter=40, WindowWidth=400,
                                        RescaleSlope=2, RescaleIntercept=-1024),
    "d": lambda path, pixels: dicom(path, pixels * np.uint16(4095), bits=12, PixelSpacing=[0.3, 0.1]),
}  # fmt: skip


def measured(out: str) -> dict[str, float]:
    return {entry["quantity"]: entry["value"] for entry in json.loads(out)["measurements"]}


@pytest.mark.parametrize("name", FORMS)
def test_a_mask_is_measured_with_the_spacing_of_its_file(tmp_path: Path, name: str) -> None:
    plain, file = tmp_path / "plain.png", tmp_path / name
    cv2.imwrite(str(plain), MASK)
    FORMS[name](file, MASK)
    code, out, err = run("measure", file, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["spacing_mm"] == pytest.approx([0.1, 0.3])
    assert measured(out) == pytest.approx(measured(run("measure", plain, "--spacing", "0.1,0.3", "--json")[1]))
    code, out, err = run("measure", file, "--spacing", "0.2", "--json")
    assert (code, err) == (0, f"{file} states 0.1 × 0.3 mm per pixel; --spacing is used.\n")
    assert measured(out) == pytest.approx(measured(run("measure", plain, "--spacing", "0.2", "--json")[1]))


def test_masks_of_several_frames_and_those_without_spacing_are_not_measured(tmp_path: Path) -> None:
    volume(tmp_path / "two.nii.gz", np.stack([MASK, MASK]))
    code, _, err = run("measure", tmp_path / "two.nii.gz")
    assert (code, "two.nii.gz has 2 frames; a mask has one." in err) == (1, True)
    cv2.imwrite(str(tmp_path / "plain.png"), MASK)
    dicom(tmp_path / "a.dcm", MASK)
    for name in ("plain.png", "a.dcm"):
        code, out, err = run("measure", tmp_path / name)
        assert (code, out) == (2, "")
        assert f"Lengths in mm need the pixel spacing, which {tmp_path / name} does not state." in err


def test_a_spacing_that_was_never_set_is_remarked(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(MASK), str(tmp_path / "a.mha"))
    code, _, err = run("measure", tmp_path / "a.mha")
    assert (code, err.startswith(f"{tmp_path}/a.mha states 1 mm per pixel")) == (0, True)
    assert run("measure", tmp_path / "a.mha", "--spacing", "1")[2] == ""


def test_files_of_different_spacing_are_measured_in_their_own(tmp_path: Path) -> None:
    volume(tmp_path / "a.mha", MASK)
    dicom(tmp_path / "b.dcm", MASK, PixelSpacing=[0.6, 0.2])
    code, out, _ = run("measure", tmp_path / "a.mha", tmp_path / "b.dcm", "--as", "ventricle", "--json")
    assert code == 0
    assert json.loads(out)["spacing_mm"] is None
    volumes = [
        entry["value"] for entry in json.loads(out)["measurements"] if entry["quantity"] == "volume, area-length"
    ]
    assert volumes[1] == pytest.approx(8 * volumes[0])


@pytest.mark.parametrize("name", FORMS)
def test_coco_reads_masks_of_these_files(tmp_path: Path, name: str) -> None:
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "scans" / f"{name[0]}.png"), MASK + 50)
    FORMS[name](tmp_path / "masks" / name, MASK)
    for options in ({}, {"classes": {1: "a", 255: "a", 4095: "a"}}, {"instances": True}):
        content, _ = from_masks(tmp_path / "scans", tmp_path / "masks", patient="[a-e]", **options)
        (annotation,) = content["annotations"]
        assert (reference.decode(annotation["segmentation"]) == MASK).all()


@pytest.mark.parametrize("image", ["a.nii.gz", "a.mha", "a.tif", "a.gif", "a.dcm", "a.avi"])
@pytest.mark.parametrize("mask", ["a.nii.gz", "a.nrrd", "a.tif", "a.dcm", "a.gif", "a.avi"])
def test_the_frames_of_a_stack_have_those_of_its_mask(tmp_path: Path, image: str, mask: str) -> None:
    stack = np.stack([MASK, MASK[::-1], MASK * 0, MASK[:, ::-1]])
    grey = np.stack([np.full(MASK.shape, 20 * n + 40, np.uint8) + MASK * 9 for n in range(4)])
    for folder, name, pixels in (("scans", image, grey), ("masks", mask, stack * 255)):
        path = tmp_path / folder / name
        path.parent.mkdir()
        if name.endswith(".tif"):
            tifffile.imwrite(path, pixels, photometric="minisblack")
        elif name.endswith(".gif"):
            frames = [Image.fromarray(frame) for frame in pixels]
            frames[0].save(path, save_all=True, append_images=frames[1:])
        elif name.endswith(".dcm"):
            dicom(path, pixels)
        elif name.endswith(".avi"):
            video(path, list(pixels), "FFV1")
        else:
            volume(path, pixels)
    content, remarks = from_masks(tmp_path / "scans", tmp_path / "masks", patient="a")
    assert remarks == ["1 mask is empty: the image has no annotation."]
    assert [entry["frame"] for entry in content["images"]] == [0, 1, 2, 3]
    assert {entry["file_name"] for entry in content["images"]} == {image}
    (tmp_path / "data.json").write_text(json.dumps(content))
    corpus = own.read(tmp_path / "data.json", tmp_path / "corpus", tmp_path / "scans")
    for n in range(4):
        union = sum((corpus.mask(row) for row in corpus.of(n)), np.zeros(MASK.shape, bool))
        assert (union == stack[n]).all()
    assert corpus.picture(3).shape == MASK.shape


def test_numbers_of_frames_that_differ_are_refused(tmp_path: Path) -> None:
    for folder, number in (("scans", 3), ("masks", 2)):
        (tmp_path / folder).mkdir()
        volume(tmp_path / folder / "a.mha", np.stack([MASK] * number))
    with pytest.raises(ImageError, match=r"scans/a\.mha has 3 frames, its mask \S*masks/a\.mha 2 frames\."):
        from_masks(tmp_path / "scans", tmp_path / "masks")
    tifffile.imwrite(tmp_path / "scans" / "a.tif", np.stack([MASK, MASK]), photometric="minisblack")
    (tmp_path / "scans" / "a.mha").unlink()
    volume(tmp_path / "masks" / "a.mha", np.stack([MASK[:50]] * 2))
    with pytest.raises(ImageError, match=r"scans/a\.tif has 120 × 90 pixels, its mask 120 × 50\."):
        from_masks(tmp_path / "scans", tmp_path / "masks")


def test_marks_of_a_frame_are_told_with_its_number(tmp_path: Path) -> None:
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
        volume(tmp_path / folder / "a.mha", np.stack([MASK, 1 - MASK]))
    _, remarks = from_masks(tmp_path / "scans", tmp_path / "masks", patient="a")
    assert remarks[0].startswith("1 mask covers all four corners of the image: a.mha (frame 1).")
    classes = np.stack([MASK, MASK])
    classes[1, 20:30, 30:40] = 2
    volume(tmp_path / "masks" / "a.mha", classes)
    with pytest.raises(ImageError, match=r"masks/a\.mha holds the values 0, 1, 2") as caught:
        from_masks(tmp_path / "scans", tmp_path / "masks")
    assert " with --classes 1=class_1,2=class_2 " in caught.value.next
