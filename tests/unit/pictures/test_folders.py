"""Folders: which files are images, in which order, under which names."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from us43d import pictures
from us43d.coco.write import from_masks
from us43d.errors import ImageError

from .files import dicom, saved, video


def test_a_folder(tmp_path: Path, grey: np.ndarray) -> None:
    for name in ("b.png", "a.bmp", "a.png", "p2/a.png", "p1/a.png", "out/masks/a_1.png", ".hidden/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(grey, tmp_path / name)
    for name in ("._a.png", "Thumbs.db", ".DS_Store", "notes.txt", "p1/._a.png", "__MACOSX/a.png", "p1/DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    dicom(tmp_path / "DICOMDIR", grey)  # an index of the folder, if it were real
    dicom(tmp_path / "1.2.840.1", grey)
    (tmp_path / "p1" / "again").symlink_to(tmp_path)  # in a circle
    (tmp_path / "linked").symlink_to(tmp_path / "p2" / "a.png")
    inputs = pictures.listing(tmp_path, leave_out=tmp_path / "out")
    assert [(one.relative, one.name) for one in inputs] == [
        ("1.2.840.1", "1.2.840.1"), ("a.bmp", "a.bmp"), ("a.png", "a.png"), ("b.png", "b"), ("p1/a.png", "p1/a"),
        ("p2/a.png", "p2/a"),
    ]  # fmt: skip
    assert all((pictures.open(one).frame().pixels == grey).all() for one in inputs)
    with pytest.raises(ImageError, match="does not exist"):
        pictures.listing(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"No images, videos or volumes found in .* \(files such as .png, .avi"):
        pictures.listing(tmp_path / "empty")


def test_a_name_is_that_of_no_other_file_or_frame(tmp_path: Path, grey: np.ndarray) -> None:
    """Frames that were extracted beside their video had its names: one mask replaced the other."""
    video(tmp_path / "clip.avi", [grey] * 3)
    for name in ("clip_00001.png", "s.tif", "s_00001.png", "s.tif_00000.png", "a.png", "a.jpg", "a.png.png", "b_1.png"):
        saved(grey, tmp_path / name)
    (tmp_path / "B_1.bmp").write_bytes((tmp_path / "a.jpg").read_bytes())  # one name where disks ignore case
    inputs = pictures.listing(tmp_path)
    names = [frame.name.casefold() for one in inputs for frame in pictures.open(one).frames()]
    assert len(names) == len(set(names)) == 12
    assert {"clip.avi_00001", "clip_00001", "s.tif", "s_00001", "a.png.png", "a.png", "b_1.bmp"} <= set(names)


def test_dicom_files_named_by_their_uid(tmp_path: Path, grey: np.ndarray) -> None:
    """The last number of the UID was taken for an ending, so that all images of a series had one name."""
    for n in range(3):
        (tmp_path / "scans").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        dicom(tmp_path / "scans" / f"1.2.840.{n}", grey)
        saved(255 * (grey > 127).astype(np.uint8), tmp_path / "masks" / f"1.2.840.{n}.png")
    content, _ = from_masks(tmp_path / "scans", tmp_path / "masks", united=True)
    assert [image["file_name"] for image in content["images"]] == ["1.2.840.0", "1.2.840.1", "1.2.840.2"]
    assert [annotation["image_id"] for annotation in content["annotations"]] == [1, 2, 3]


def test_results_of_predict_are_not_listed(tmp_path: Path, grey: np.ndarray) -> None:
    """With another --out, they were segmented as images. What predictions.json does not name is not a result."""
    results = ["masks/a_1.png", "overlays/a.png", "v_labels.nii.gz"]
    for name in ("a.png", "masks/own.png", "p/own.png", "p/masks/own.png", "p/masks/a_1.png", "p/overlays/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(grey, tmp_path / name)
    nibabel.save(nibabel.Nifti1Image(grey, np.eye(4)), tmp_path / "p" / "v_labels.nii.gz")
    (tmp_path / "p" / "predictions.json").write_text(json.dumps({"files": [*results, "own.png", "../a.png"]}))
    listed = [one.relative for one in pictures.listing(tmp_path)]
    assert listed == ["a.png", "masks/own.png", "p/masks/own.png", "p/own.png"]
    assert [one.relative for one in pictures.listing(tmp_path / "p" / "masks")] == ["a_1.png", "own.png"]
    (tmp_path / "p" / "predictions.json").write_text("{}")  # of another tool
    assert len(pictures.listing(tmp_path)) == 7


def test_images_that_are_not_read_are_listed_and_refused(tmp_path: Path, grey: np.ndarray) -> None:
    saved(grey, tmp_path / "a.png")
    (tmp_path / "b.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert [entry.relative for entry in pictures.listing(tmp_path)] == ["a.png", "b.HEIC"]
    with pytest.raises(ImageError, match=r"b\.HEIC is a HEIC image, which is not read here\. Save it as PNG or TIFF"):
        pictures.open(tmp_path / "b.HEIC")


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path, grey: np.ndarray) -> None:
    """They are those of archives that were made on other systems; no COCO file can hold them."""
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
        for name in (b"good.png", b"m\xfcller.png"):
            saved(255 * (grey > 127).astype(np.uint8), tmp_path / folder / os.fsdecode(name))
    good, bad = pictures.listing(tmp_path / "scans")
    pictures.open(good)
    for path in (bad, bad.path):
        with pytest.raises(ImageError, match=r"The name of b'.*m\\xfcller\.png' is not UTF-8\. Rename the file"):
            pictures.open(path)
    with pytest.raises(ImageError, match=r"1 of 2 pairs .* is not UTF-8"):
        from_masks(tmp_path / "scans", tmp_path / "masks")


def test_other_endings_of_formats_that_are_read(tmp_path: Path, grey: np.ndarray) -> None:
    """They were skipped silently."""
    saved(grey, tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").rename(tmp_path / "photo.jfif")
    saved(grey, tmp_path / "mask.ppm", "1")
    (tmp_path / "mask.ppm").rename(tmp_path / "mask.PBM")
    stack = [np.roll(grey, 5 * n, 1) for n in range(5)]
    video(tmp_path / "film.ts", stack, "MPG2")
    packets = (tmp_path / "film.ts").read_bytes()
    timed = b"".join(bytes(4) + packets[at : at + 188] for at in range(0, len(packets), 188))  # of Blu-ray, AVCHD
    (tmp_path / "film.m2ts").write_bytes(timed)
    image = nibabel.Nifti1Pair(grey, np.eye(4))
    nibabel.save(image, tmp_path / "volume.img")
    inputs = pictures.listing(tmp_path)
    assert [one.relative for one in inputs] == ["film.m2ts", "film.ts", "mask.PBM", "photo.jfif", "volume.hdr"]
    assert [len(list(pictures.open(one).frames())) for one in inputs] == [5, 5, 1, 1, 1]


def test_what_is_no_file_is_listed_and_refused(tmp_path: Path, grey: np.ndarray) -> None:
    """Links to a drive that is not there would be skipped without a word, and a pipe would be waited for."""
    saved(grey, tmp_path / "good.png")
    (tmp_path / "lost.png").symlink_to(tmp_path / "drive" / "a.png")
    (tmp_path / "circle.tif").symlink_to("circle.tif")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")  # without an ending that says what it is
    listed = pictures.listing(tmp_path)
    assert [entry.relative for entry in listed] == ["circle.tif", "good.png", "lost.png", "pipe.png"]
    pictures.open(listed[1])
    for entry, what in (
        (listed[0], "symbolic links"),
        (listed[2], "does not exist"),
        (listed[3], "not a regular file"),
    ):
        with pytest.raises(ImageError, match=what):
            pictures.open(entry)
