"""us43d coco: a COCO file from images and masks of the same names, or one message that names what cannot be used."""

import importlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image
from pycocotools import mask as reference

from us43d import pictures, specimen
from us43d.coco import own
from us43d.coco.pairs import Naming
from us43d.coco.write import from_masks
from us43d.errors import ImageError, UsageError
from us43d.masks.classes import parse_key
from us43d.pictures.still import upright

SHAPE = (60, 80)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """scans/ and masks/ of three patients, the mask of p2_0 with two components."""
    rng = np.random.default_rng(0)
    for n in range(6):
        name = f"p{n // 2}/p{n // 2}_{n % 2}"
        mask = specimen.blob(SHAPE, rng, 0.3, (0, 0, 0.45, 1))
        if n == 4:
            mask |= specimen.blob(SHAPE, rng, 0.3, (0.55, 0, 1, 1))
        for kind, pixels in (("scans", specimen.speckle(SHAPE, [mask], rng)), ("masks", 255 * mask.astype(np.uint8))):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{name}.png"), pixels)
    return tmp_path


def drawn(folder: Path, name: str) -> np.ndarray:
    return cv2.imread(str(folder / "masks" / name), cv2.IMREAD_GRAYSCALE) > 127


def test_a_file_is_written_and_read_back(folder: Path) -> None:
    written = from_masks(folder / "scans", folder / "masks", category="lesion", patient=r"/(p\d+)_")
    content = written.content
    assert written.remarks == []
    assert [image["patient_id"] for image in content["images"]] == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert [image["file_name"] for image in content["images"]][:2] == ["p0/p0_0.png", "p0/p0_1.png"]
    assert len(content["annotations"]) == 7
    (folder / "data.json").write_text(json.dumps(content))
    corpus = own.read(folder / "data.json", folder / "corpus", folder / "scans")
    assert own.told(corpus) == []
    for n, image in enumerate(content["images"]):
        union = np.any([corpus.mask(row) for row in corpus.of(n)], axis=0)
        assert (union == drawn(folder, image["file_name"])).all()
    for annotation in content["annotations"]:
        assert annotation["iscrowd"] == 0
        assert annotation["area"] == int(reference.area(annotation["segmentation"]))
        assert annotation["bbox"] == reference.toBbox(annotation["segmentation"]).tolist()
    assert len(from_masks(folder / "scans", folder / "masks", united=True).content["annotations"]) == 6


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_masks_of_any_mode_mean_the_same(folder: Path) -> None:
    plain = from_masks(folder / "scans", folder / "masks", patient="p").content
    for n, path in enumerate(sorted((folder / "masks").rglob("*.png"))):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
        path.unlink()
        flat = mask.astype(np.uint8)
        if n == 0:
            Image.fromarray(flat).save(path)
        elif n == 1:
            cv2.imwrite(str(path), flat.astype(np.uint16))
        elif n == 2:
            image = Image.fromarray(flat, "P")
            image.putpalette([0, 0, 0, 128, 0, 0])
            image.save(path)
        elif n == 3:
            Image.fromarray(np.dstack([255 - 0 * flat] * 3 + [255 * flat])).save(path)
        elif n == 4:
            Image.fromarray(mask).save(path.with_suffix(".bmp"))
        else:
            Image.fromarray(flat * 38).save(path.with_suffix(".tif"))
    assert from_masks(folder / "scans", folder / "masks", patient="p").content == plain


@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_are_turned_as_viewers_show_them(folder: Path, orientation: int) -> None:
    plain = from_masks(folder / "scans", folder / "masks", patient="p").content
    path = folder / "masks" / "p0" / "p0_0.png"
    mask = Image.open(path).copy()
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright(np.asarray(mask), back)).save(path, exif=exif)
    assert from_masks(folder / "scans", folder / "masks", patient="p").content == plain
    shown = from_masks(folder / "scans", folder / "masks", patient="p", classes={255: "lesion"}).content
    assert [one["bbox"] for one in shown["annotations"]] == [one["bbox"] for one in plain["annotations"]]


def test_a_mask_is_one_image(folder: Path) -> None:
    path = folder / "masks" / "p0" / "p0_0.png"
    mask = Image.open(path).copy()
    mask.save(path, save_all=True, append_images=[mask.rotate(180)])
    with pytest.raises(ImageError, match=r"p0_0\.png has 1 frame, its mask \S*p0_0\.png 2 frames") as caught:
        from_masks(folder / "scans", folder / "masks")
    assert "--classes" not in caught.value.next


def test_masks_that_look_inverted_are_remarked(folder: Path) -> None:
    paths = sorted((folder / "masks").rglob("*.png"))[:2]
    for path in paths:
        cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    (remark,) = from_masks(folder / "scans", folder / "masks", patient="p").remarks
    names = ", ".join(path.relative_to(folder / "masks").as_posix() for path in paths)
    assert remark.startswith(
        f"2 masks cover all four corners of the image: {names}. Black is background: masks that are white outside of "
        "the structure have to be inverted first"
    )


@pytest.mark.parametrize(("width", "inner", "told"), [(1, 1, True), (4, 1, True), (6, 1, False), (3, 2, False)])
def test_masks_of_closed_lines_are_remarked(folder: Path, width: int, inner: int, told: bool) -> None:
    """A ring is remarked, not one that is thick, or whose hole is filled in part."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:50, 10:60] = 255
    mask[10 + width : 50 - width, 10 + width : 60 - width] = 0
    if inner == 2:
        mask[20:40, 20:50] = 255
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0.png"), mask)
    remarks = from_masks(folder / "scans", folder / "masks", patient="p").remarks
    assert ("1 mask is of closed lines: p0/p0_0.png. The annotations are these lines" in " ".join(remarks)) == told


@pytest.mark.parametrize("lossy", [".jpg", ".webp"])
def test_empty_masks_are_remarked_and_black_lossy_ones_among_them(folder: Path, lossy: str) -> None:
    paths = sorted((folder / "masks").rglob("*.png"))
    for path in paths[:3]:
        path.unlink()
        black = np.zeros(SHAPE, np.uint8)
        if path == paths[0]:
            Image.fromarray(black).save(path.with_suffix(lossy))
        else:
            cv2.imwrite(str(path), black)
    written = from_masks(folder / "scans", folder / "masks", patient="p")
    assert written.remarks == [
        "3 masks are empty: the image has no annotation.",
        "1 empty mask is JPEG or lossy WebP, which turn a mask of 0 and 1 black. Check the originals.",
    ]
    assert len(written.content["images"]) == 6
    assert {one["image_id"] for one in written.content["annotations"]} == {4, 5, 6}


def test_grey_edges_are_remarked_and_two_corners_are_not(folder: Path) -> None:
    paths = sorted((folder / "masks").rglob("*.png"))
    for number, text in ((1, "1 mask has"), (2, "2 masks have")):
        for path, rows in zip(paths, (np.s_[:-1], np.s_[:, :-1], np.s_[1:], np.s_[:, 1:]), strict=False):
            mask = np.zeros(SHAPE, np.uint8)
            mask[rows] = 255
            mask[30, 40] = 100 if path in paths[:number] else 255
            cv2.imwrite(str(path), mask)
        assert from_masks(folder / "scans", folder / "masks", patient="p").remarks == [
            f"{text} grey edges, thresholded at half range."
        ]


def test_a_size_that_does_not_fit_is_no_question_of_classes(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0.png"), np.full((9, 9), 255, np.uint8))
    with pytest.raises(ImageError, match="its mask 9 × 9") as caught:
        from_masks(folder / "scans", folder / "masks")
    assert "--classes" not in caught.value.next


def test_names_of_masks_may_differ_in_case(folder: Path) -> None:
    plain = from_masks(folder / "scans", folder / "masks", patient="p").content
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem.upper()}_MASK.PNG"))
    assert from_masks(folder / "scans", folder / "masks", patient="p", suffix="_mask").content == plain


def test_specks_are_counted(tmp_path: Path) -> None:
    mask = np.zeros((500, 500), np.uint8)
    mask[2, 2] = mask[30:90, 30:90] = 255
    for name in ("scans", "masks"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), mask)
    written = from_masks(tmp_path / "scans", tmp_path / "masks", patient="a")
    assert len(written.content["annotations"]) == 2
    end = "under 16 pixels and 1/10,000 of the image; training and evaluation exclude them."
    assert written.remarks == [f"1 annotation is a speck, {end}"]
    mask[9, 9] = 255
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    assert from_masks(tmp_path / "scans", tmp_path / "masks", patient="a").remarks == [
        f"2 annotations are specks, {end}"
    ]


def test_ids_and_images_of_one_name(folder: Path) -> None:
    written = from_masks(folder / "scans", folder / "masks", patient="p")
    ids = [annotation["id"] for annotation in written.content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert {annotation["category_id"] for annotation in written.content["annotations"]} == {1}
    assert [image["id"] for image in written.content["images"]] == list(range(1, 7))
    shutil.copy(folder / "scans" / "p0" / "p0_0.png", folder / "scans" / "p0" / "p0_0.bmp")
    with pytest.raises(
        ImageError, match=r"^2 images share their names with another image or mask: p0/p0_0\.bmp, p0/p0_0\.png\."
    ):
        from_masks(folder / "scans", folder / "masks", patient="p")


def test_without_patients_nothing_is_guessed(folder: Path) -> None:
    written = from_masks(folder / "scans", folder / "masks")
    assert all("patient_id" not in image for image in written.content["images"])
    assert written.remarks[-1].startswith(
        "Patients are unknown (--patient was not given): every image counts as its own patient"
    )


def test_what_is_left_out_is_counted(folder: Path) -> None:
    (folder / "masks" / "p0" / "p0_0.png").unlink()
    cv2.imwrite(str(folder / "masks" / "stray.png"), np.zeros(SHAPE, np.uint8))
    cv2.imwrite(str(folder / "masks" / "p1" / "p1_1.png"), np.zeros(SHAPE, np.uint8))
    written = from_masks(folder / "scans", folder / "masks", patient="p.")
    assert written.remarks == [
        "Excluded, without a mask: 1 of 6 images: p0/p0_0.png.",
        "Excluded, without an image: 1 of 6 masks: stray.png.",
        "1 mask is empty: the image has no annotation.",
    ]
    assert len(written.content["images"]) == 5


def test_a_pattern_for_patients_that_finds_none(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Invalid --patient '\(': missing"):
        from_masks(folder / "scans", folder / "masks", patient="(")
    with pytest.raises(ImageError, match=r"No patient found by 'x\*': p0/p0_0\.png"):
        from_masks(folder / "scans", folder / "masks", patient="x*")
    with pytest.raises(ImageError, match="4 of 6 pairs"):
        from_masks(folder / "scans", folder / "masks", patient="p(1)?/")


def test_all_faults_together(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0.png"), np.zeros((9, 9), np.uint8))
    (folder / "scans" / "p0" / "p0_1.png").write_bytes(b"no image")
    classes = np.zeros(SHAPE, np.uint8)
    classes[5:20], classes[30:50] = 1, 2
    cv2.imwrite(str(folder / "masks" / "p1" / "p1_0.png"), classes)
    with pytest.raises(ImageError) as caught:
        from_masks(folder / "scans", folder / "masks", patient="p[01]_")
    for said in (
        "5 of 6 pairs of image and mask cannot be used. No patient found by 'p[01]_': p2/p2_0.png, p2/p2_1.png; /",
        "p0_0.png has 80 × 60 pixels, its mask 9 × 9", "p0_1.png is not a readable image",
        "p1_0.png holds the values 0, 1, 2: the foreground values are unknown",
    ):  # fmt: skip
        assert said in caught.value.what


def test_three_of_many_faults_are_listed(folder: Path) -> None:
    paths = sorted((folder / "masks").rglob("*.png"))
    for path in paths[:5]:
        cv2.imwrite(str(path), np.full((9, 9), 255, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", SHAPE[::-1]).save(folder / "scans" / "p0" / "p0_0.png", exif=exif)
    done: list[tuple[int, int | None]] = []
    with pytest.raises(ImageError) as caught:
        from_masks(folder / "scans", folder / "masks", progress=lambda *numbers: done.append(numbers))
    scans = [folder / "scans" / path.relative_to(folder / "masks") for path in paths]
    assert caught.value.what == (
        "5 of 6 pairs of image and mask cannot be used. "
        f"{scans[0]} has 60 × 80 pixels (rotated upright by the Exif orientation 6), its mask 9 × 9; "
        f"{scans[1]} has 80 × 60 pixels, its mask 9 × 9; {scans[2]} has 80 × 60 pixels, its mask 9 × 9; and 2 more."
    )
    assert caught.value.next.startswith("the same command again ")
    assert done == [(6, 6)]
    for number, end in ((4, "; and 1 more"), (3, "")):
        for path in paths[number:]:
            path.unlink(missing_ok=True)
        with pytest.raises(ImageError, match=rf"^{number} of {number} pairs .* its mask 9 × 9{end}\.\n"):
            from_masks(folder / "scans", folder / "masks")


@pytest.mark.parametrize(("values", "named"), [(32, True), (33, False)])
def test_an_image_of_many_values_is_no_label_map(folder: Path, values: int, named: bool) -> None:
    labels = np.repeat(np.arange(values + 1, dtype=np.uint8), 100)
    Image.fromarray(np.resize(labels, SHAPE)).save(folder / "masks" / "p0" / "p0_0.png")
    damaged = folder / "masks" / "p0" / "p0_1.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"p0_0\.png holds .*p0_1\.png is not a readable PNG") as caught:
        from_masks(folder / "scans", folder / "masks")
    classes = ",".join(f"{n}=class_{n}" for n in range(1, values + 1))
    assert (f" with --classes {classes} " in caught.value.next) == named
    assert caught.value.next.startswith("the same with --instances   (if each value of a mask is an object;") != named


def test_images_of_one_frame_with_their_spacing(folder: Path) -> None:
    scan = folder / "scans" / "p0" / "p0_0.png"
    pixels = sitk.GetImageFromArray(cv2.imread(str(scan), cv2.IMREAD_GRAYSCALE)[None])
    pixels.SetSpacing((0.25, 0.5, 1))
    scan.unlink()
    sitk.WriteImage(pixels, str(scan.with_suffix(".mha")))
    first, second, *_ = from_masks(folder / "scans", folder / "masks").content["images"]
    assert first == {"id": 1, "file_name": "p0/p0_0.mha", "width": 80, "height": 60, "spacing_mm": [0.25, 0.5]}
    assert second == {"id": 2, "file_name": "p0/p0_1.png", "width": 80, "height": 60}
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, *SHAPE), np.uint8)), str(scan.with_suffix(".mha")))
    with pytest.raises(ImageError, match=r"p0_0\.mha has 2 frames, its mask \S*p0_0\.png 1 frame\."):
        from_masks(folder / "scans", folder / "masks")


def test_masks_of_a_stack_keep_their_places(tmp_path: Path) -> None:
    planes = np.zeros((2, *SHAPE), np.uint8)
    planes[0, 5:20, 3:30], planes[1] = 255, 255
    for kind, stack in (("scans", planes // 2), ("masks", planes)):
        (tmp_path / kind).mkdir()
        tifffile.imwrite(tmp_path / kind / "a.tif", stack, photometric="minisblack")
    content, remarks = from_masks(tmp_path / "scans", tmp_path / "masks", patient="a")
    made = [reference.decode(one["segmentation"]) for one in content["annotations"]]
    assert [mask.tobytes() for mask in made] == [(plane > 0).tobytes() for plane in planes]
    assert remarks[0].startswith("1 mask covers all four corners of the image: a.tif (frame 1). ")


@pytest.mark.parametrize("ending", [".webm", ".avi"])
def test_a_clip_that_states_no_number_of_frames_or_another_one(
    folder: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in [*folder.rglob("p0_*.png"), *folder.rglob("p1_*.png"), *folder.rglob("p2_*.png")]:
        path.unlink()
    clip, masks = folder / "scans" / f"c{ending}", folder / "masks" / "c.tif"
    writer = cv2.VideoWriter(
        str(clip), cv2.VideoWriter_fourcc(*("VP80" if ending == ".webm" else "MJPG")), 10, (80, 64)
    )
    for number in range(4):
        writer.write(np.full((64, 80, 3), 40 * number, np.uint8))
    writer.release()
    truth = np.zeros((5, 64, 80), np.uint8)
    truth[:, 10:30, 10:40] = 255

    def written(count: int) -> list[dict[str, Any]]:
        tifffile.imwrite(masks, truth[:count], photometric="minisblack")
        return from_masks(folder / "scans", folder / "masks").content["images"]

    assert [entry["frame"] for entry in written(4)] == [0, 1, 2, 3]
    if ending == ".avi":
        with pytest.raises(ImageError, match=r"c\.avi has 4 frames, its mask \S*c\.tif 3 frames\."):
            written(3)
        monkeypatch.setattr(pictures.Media, "count", 3)  # a header that states another number
    for count in (3, 5) if ending == ".webm" else (3,):
        with pytest.raises(ImageError, match=r"and its mask \S*c\.tif have different numbers of frames\."):
            written(count)


def test_masks_below_the_images_are_not_images(folder: Path) -> None:
    plain = from_masks(folder / "scans", folder / "masks", patient="p")
    (folder / "masks").rename(folder / "scans" / "masks")
    assert from_masks(folder / "scans", folder / "scans" / "masks", patient="p") == plain


def test_names_that_do_not_fit(folder: Path) -> None:
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(UsageError, match=r"No mask in .* has the name of an image .* such as p0/p0_0_mask.png") as got:
        from_masks(folder / "scans", folder / "masks")
    assert got.value.next.endswith(" --suffix _mask")  # what they have behind the images' names
    with pytest.raises(UsageError, match="No mask in") as got:
        from_masks(folder / "masks", folder / "scans")
    assert got.value.next == "us43d coco --help"
    assert len(from_masks(folder / "scans", folder / "masks", suffix="_mask").content["images"]) == 6
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0_mask.bmp"), np.zeros(SHAPE, np.uint8))
    with pytest.raises(ImageError, match=r"1 image shares its name with another image or mask: p0/p0_0.png"):
        from_masks(folder / "scans", folder / "masks", suffix="_mask")


def test_masks_with_text_before_the_names_of_images(folder: Path) -> None:
    plain = from_masks(folder / "scans", folder / "masks", patient="p").content
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(f"Mask_{path.name}"))
    with pytest.raises(UsageError, match="No mask in") as got:
        from_masks(folder / "scans", folder / "masks")
    assert got.value.next.endswith(" --prefix mask_")
    shutil.copy(folder / "masks" / "p0" / "Mask_p0_1.png", folder / "masks" / "p0" / "Mask_p0_0_1.png")
    content, remarks = from_masks(folder / "scans", folder / "masks", patient="p", prefix="mask_")
    assert content["images"] == plain["images"]
    assert len(content["annotations"]) == len(plain["annotations"]) + 1
    assert remarks[0] == "1 image has several masks, such as p0/Mask_p0_0_1: p0/p0_0.png."
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}-seg.png"))
    with pytest.raises(UsageError, match="No mask in") as got:
        from_masks(folder / "scans", folder / "masks")
    assert got.value.next.endswith(" --prefix mask_ --suffix=-seg")
    assert len(from_masks(folder / "scans", folder / "masks", prefix="mask_", suffix="-seg").content["images"]) == 6


def test_a_suffix_behind_one_letter_and_an_image_in_colour(tmp_path: Path) -> None:
    for name, pixels in (("scans/a", np.arange(12).reshape(2, 2, 3)), ("masks/a_m", np.eye(2))):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels.astype(np.uint8))
    with pytest.raises(UsageError, match="No mask in") as got:
        from_masks(tmp_path / "scans", tmp_path / "masks")
    assert got.value.next == "the same with --suffix _m"
    (image,) = from_masks(tmp_path / "scans", tmp_path / "masks", suffix="_m").content["images"]
    assert image == {"id": 1, "file_name": "a.png", "width": 2, "height": 2}


def test_the_command(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(folder)
    for code, words in (
        (0, ("--patient", r"p\d")), (2, ()), (0, ("--force",)), (1, ("--force", "--patient", "q")),
    ):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["us43d", "coco", "scans", "masks", "--out", "out/data.json", *words, "--json"])
        assert main() == code
        said = capfd.readouterr()
        assert "Traceback" not in said.err
    signal.signal(signal.SIGTERM, before)
    assert "No patient found by" in said.err
    assert len(json.loads(Path("out/data.json").read_text())["images"]) == 6


# --------------------------------------------------------------------------------------------------- several classes


def test_decoders_keep_silent(folder: Path) -> None:
    """Their lines would stand before the message, in the terminal of a person who needs one message."""
    path = folder / "masks" / "p0" / "p0_0.png"
    path.write_bytes(path.read_bytes()[:-30])
    words = ["coco", str(folder / "scans"), str(folder / "masks"), "--out", str(folder / "data.json")]
    ran = subprocess.run([sys.executable, "-m", "us43d", *words], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "p0_0.png is not a readable PNG" in ran.stderr
    assert "WARN" not in ran.stderr


def label_map(folder: Path, form: str) -> np.ndarray:
    """Replace the mask of p0_0 by a label map of the classes 1, 2 and 3 and return it; 3 is in the corner alone."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:20, 5:30], labels[30:50, 40:70], labels[55:, 75:] = 1, 2, 3
    table = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 0), (255, 255, 255)], np.uint8)
    path = folder / "masks" / "p0" / "p0_0.png"
    if form == "grey":
        Image.fromarray(labels).save(path)
    elif form == "16 bits":
        cv2.imwrite(str(path), labels.astype(np.uint16) * 300)
    elif form == "palette":
        image = Image.fromarray(labels).convert("P")
        image.putpalette(table.ravel().tolist())
        image.save(path)
    elif form == "tiff":
        path.unlink()
        tifffile.imwrite(path.with_suffix(".tif"), labels)
    else:
        Image.fromarray(table[labels]).save(path)
    for other in (folder / "masks").rglob("*.png"):
        if other != path:
            other.unlink()
    return labels


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run the command; its exit code and what it printed to stderr."""
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["us43d", *map(str, words)])
        code = main()
        return code, " ".join(capfd.readouterr().err.split())

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("form", "classes"),
    [
        ("grey", "1=nodule,2=cyst,3=background"),
        ("16 bits", "300=nodule, 600=cyst, 900=background"),
        ("palette", "1=nodule,2=cyst,3=background"),
        ("palette", "#ff0000=nodule,#008000=cyst,#FFFFFF=background"),
        ("colour", "#ff0000=nodule,#008000=cyst,#ffffff=background"),
        ("tiff", "1=nodule,2=cyst,3=background"),
    ],
)
def test_classes_are_told_apart(folder: Path, form: str, classes: str, run: Callable[..., tuple[int, str]]) -> None:
    labels = label_map(folder, form)
    out = folder / "data.json"
    assert run("coco", folder / "scans", folder / "masks", "--classes", classes, "--out", out)[0] == 0
    content = json.loads(out.read_text())
    assert content["categories"] == [{"id": 1, "name": "nodule"}, {"id": 2, "name": "cyst"}]
    masks = {one["category_id"]: reference.decode(one["segmentation"]) for one in content["annotations"]}
    assert len(content["annotations"]) == 2
    assert (masks[1] == (labels == 1)).all()
    assert (masks[2] == (labels == 2)).all()


def test_a_class_may_have_several_values(folder: Path) -> None:
    labels = label_map(folder, "grey")
    content = from_masks(folder / "scans", folder / "masks", classes={1: "a", 2: "b", 3: "a"}, united=True).content
    assert [one["category_id"] for one in content["annotations"]] == [1, 2]
    assert (reference.decode(content["annotations"][0]["segmentation"]) == np.isin(labels, (1, 3))).all()


@pytest.mark.parametrize(("column", "gap"), [(20, 0), (20, 1), (0, 0)])
def test_objects_of_one_class_that_touch_are_remarked(tmp_path: Path, column: int, gap: int) -> None:
    """A map numbers its objects: those that touch become one annotation. column: 0 where only a corner touches."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:30, 20:40] = 1
    labels[30 + gap : 50 + gap, 20 + 20 * (column == 0) :][:, :20] = 2
    labels[5:55, 75:] = 3  # background, which touches nothing that is named
    for kind, pixels in (("scans", labels + 20), ("masks", labels)):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "a.png"), pixels)
    classes = {1: "cyst", 2: "cyst", 3: "background"}
    content, remarks = from_masks(tmp_path / "scans", tmp_path / "masks", classes=classes, patient="a")
    told = "1 mask has touching areas of different values with one name: a.png. They are one annotation."
    assert (len(content["annotations"]), remarks) == ((2, []) if gap else (1, [told]))
    assert from_masks(tmp_path / "scans", tmp_path / "masks", classes=classes, patient="a", united=True).remarks == []


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("grey", "1=class_1,2=class_2,3=class_3"),
        ("palette", "1=class_1,2=class_2,3=class_3"),
        ("colour", "'#008000=class_008000,#ff0000=class_ff0000,#ffffff=class_ffffff'"),
    ],
)
def test_several_classes_without_names_are_refused(folder: Path, form: str, named: str) -> None:
    label_map(folder, form)
    with pytest.raises(ImageError, match="p0_0") as caught:
        from_masks(folder / "scans", folder / "masks")
    next_, _, remark = caught.value.next.partition("   ")
    assert next_ == f"the same without --category structure with --classes {named}"
    assert remark == "(with your names; or with --instances in place of --classes, if each value is an object)"


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".webp"])
def test_classes_are_not_proposed_for_a_jpeg(folder: Path, ending: str) -> None:
    """Its values are not those that were saved."""
    path = folder / "masks" / "p0" / "p0_0.png"
    path.unlink()
    labels = np.zeros(SHAPE, np.uint8)
    labels[:30, :40], labels[30:, 40:] = 80, 160
    cv2.imwrite(str(path.with_suffix(ending)), labels, [cv2.IMWRITE_WEBP_QUALITY, 80])
    with pytest.raises(
        ImageError, match=rf"used\. /\S*p0_0\{ending} holds .* the foreground values are unknown"
    ) as caught:
        from_masks(folder / "scans", folder / "masks")
    assert "--classes" not in caught.value.next


def test_a_value_without_a_name_is_refused(folder: Path) -> None:
    label_map(folder, "grey")
    with pytest.raises(ImageError, match=r"p0_0\.png holds 2, 3 besides the classes 1"):
        from_masks(folder / "scans", folder / "masks", classes={1: "nodule"})
    with pytest.raises(ImageError, match="holds #010101"):
        from_masks(folder / "scans", folder / "masks", classes={parse_key("#ff0000"): "nodule"})


def test_foreground_values_that_differ_are_remarked(folder: Path) -> None:
    """One class per mask: each mask alone looks two-valued."""
    for n, path in enumerate(sorted((folder / "masks").rglob("*.png"))):
        cv2.imwrite(str(path), (cv2.imread(str(path), 0) > 127).astype(np.uint8) * (2 + n % 2 * 8))
    assert from_masks(folder / "scans", folder / "masks").remarks == [
        "The foreground value differs between masks (2 in 3, 10 in 3); all count as structure. --classes tells classes "
        "apart.",
        "Patients are unknown (--patient was not given): every image counts as its own patient, and validation is "
        "optimistically biased if a patient has several images.",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nodule", "neither a whole number nor a colour"), ("1", "not VALUE=NAME"), ("1=", "not VALUE=NAME"),
        ("1=a,1=b", "1 is named twice"), ("-1=a", "neither"), ("1=background", "no class besides"),
        ("1=a,#ff0000=b", "cannot be mixed"), ("#ff00=a", "neither"), ("", "neither"), ("99999999999=a", "neither"),
    ],
)  # fmt: skip
def test_invalid_classes(folder: Path, text: str, what: str, run: Callable[..., tuple[int, str]]) -> None:
    code, message = run("coco", folder / "scans", folder / "masks", "--classes", text, "--out", folder / "x.json")
    assert code == 2
    assert what in message
    assert not (folder / "x.json").exists()


def test_numbered_masks_and_images_in_one_folder(folder: Path) -> None:
    """As BUSI: an image beside its mask, and a further lesion in a mask of its own."""
    both = folder / "both"
    both.mkdir()
    drawings = {}
    for n, scan in enumerate(sorted((folder / "scans").rglob("*.png"))[:4]):
        shutil.copy(scan, both / f"benign ({n}).png")
    for n, name in enumerate(("benign (0)_mask", "benign (1)_mask", "benign (1)_mask_10", "benign (1)_mask_2")):
        mask = np.zeros(SHAPE, np.uint8)
        mask[10 * n : 10 * n + 8, 20:40] = 255
        cv2.imwrite(str(both / f"{name}.png"), mask)
        drawings[name] = mask > 0
    shutil.copy(both / "benign (0)_mask.png", both / "benign (3)_mask_1.png")  # without a benign (3)_mask
    with pytest.raises(UsageError, match="has images and masks") as got:
        from_masks(both, both)
    assert got.value.next == "the same with --suffix _mask"
    content, remarks = from_masks(both, both, suffix="_mask")
    assert [image["file_name"] for image in content["images"]] == [f"benign ({n}).png" for n in (0, 1, 3)]
    order = ("benign (0)_mask", "benign (1)_mask", "benign (1)_mask_2", "benign (1)_mask_10", "benign (3)_mask_1")
    drawings["benign (3)_mask_1"] = drawings["benign (0)_mask"]
    for entry, name in zip(content["annotations"], order, strict=True):
        assert entry["image_id"] == {"0": 1, "1": 2, "3": 3}[name[8]]
        assert (reference.decode(entry["segmentation"]).astype(bool) == drawings[name]).all()
    assert remarks[:2] == [
        "1 image has several masks, such as benign (1)_mask_2: benign (1).png.",
        "Excluded, without a mask: 1 of 9 images: benign (2).png.",
    ]
    cv2.imwrite(str(both / "benign (1)_mask_2.png"), np.zeros((20, 20), np.uint8))
    with pytest.raises(ImageError, match=r"benign \(1\)\.png has 80 × 60 pixels, its mask 20 × 20"):
        from_masks(both, both, suffix="_mask")


@pytest.mark.parametrize("form", ["8 bits", "16 bits", "colours", "palette"])
def test_each_value_of_an_instance_map_is_an_object(tmp_path: Path, form: str) -> None:
    """Objects that touch, one in two parts, and one in the image's corner; an image without an object."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[:9, :9], labels[20:30, 10:20], labels[20:30, 20:30] = 7, 1, 2
    labels[40:45, 10:20] = labels[50:55, 10:20] = 300 if form == "16 bits" else 9
    (tmp_path / "scans").mkdir()
    (tmp_path / "masks").mkdir()
    for name, drawn_labels in (("a", labels), ("b", np.zeros_like(labels))):
        cv2.imwrite(str(tmp_path / "scans" / f"{name}.png"), np.full(SHAPE, 40, np.uint8))
        eight = drawn_labels.astype(np.uint8)
        if form == "colours":
            eight = np.dstack([eight * 20, 255 * (eight > 1), eight]).astype(np.uint8)
        image = Image.fromarray(drawn_labels if form == "16 bits" else eight)
        if form == "palette":
            image.putpalette([n * 5 % 256 for n in range(768)])
        image.save(tmp_path / "masks" / f"{name}.png")
    content, remarks = from_masks(tmp_path / "scans", tmp_path / "masks", category="lesion", instances=True)
    made = [reference.decode(one["segmentation"]).astype(bool) for one in content["annotations"]]
    expected = [labels == value for value in np.unique(labels)[1:]]
    assert sorted(mask.tobytes() for mask in made) == sorted(mask.tobytes() for mask in expected)
    assert {one["image_id"] for one in content["annotations"]} == {1}
    assert [one["name"] for one in content["categories"]] == ["lesion"]
    assert remarks[0] == "1 mask is empty: the image has no annotation."


def test_grey_edges_are_not_taken_for_objects(folder: Path) -> None:
    for path in (folder / "masks").rglob("*.png"):
        cv2.imwrite(str(path), cv2.GaussianBlur(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (5, 5), 0))
    with pytest.raises(ImageError, match=r"too scattered for objects: those of grey edges or of an image"):
        from_masks(folder / "scans", folder / "masks", instances=True)


def test_an_image_is_not_taken_for_objects(folder: Path) -> None:
    with pytest.raises(ImageError, match="too scattered for objects"):
        from_masks(folder / "masks", folder / "scans", instances=True)


@pytest.mark.parametrize(
    ("image", "mask", "same", "options"),
    [
        ("all/p{p}/image.png", "all/p{p}/mask.png", True, "--replace image=mask --patient '([^/]+)/[^/]+$'"),
        ("all/p{p}/p{p}_{n}_US.png", "all/p{p}/p{p}_{n}_gt.png", True, "--replace us=gt"),
        ("all/p{p}/image.png", "all/p{p}/mask_{n}.png", True, "--replace image=mask --patient '([^/]+)/[^/]+$'"),
        ("all/p{p}.png", "all/p{p}_mask_{n}.png", True, "--suffix _mask"),
        ("all/p{p}_{n}.png", "masks/m_p{p}_{n}_1.png", False, "--prefix m_"),
        ("all/p{p}/img/{n}.png", "all/p{p}/seg/{n}.png", True, "--replace img=seg --patient '([^/]+)/[^/]+/[^/]+$'"),
        ("all/scans/p{p}/{p}_{n}.png", "all/masks/p{p}/{p}_{n}.png", True, "--replace scans=masks"),
        ("all/train/img{p}_{n}.png", "masks/train/label{p}_{n}.png", False, "--replace img=label"),
        ("all/train/img_{p}_{n}.png", "masks/train/label_{p}_{n}-seg.png", False, None),
        ("all/p{p}/x_{n}.png", "all/p{p}/x_{n} mask.png", True, "--suffix ' mask'"),
        ("all/p{p}/x_{n}.png", "all/p{p}/x_{n}-seg.png", True, "--suffix=-seg"),
        ("all/{p}{n}.png", "all/labels/{p}{n}.png", True, "all all/labels"),
        ("all/train/scans/{p}{n}.png", "all/train/masks/{p}{n}.png", True, "all/train/scans all/train/masks"),
        ("all/scans/p{p}_{n}.png", "masks/p{p}/p{p}_{n}.png", False, "all/scans masks/p0"),
        ("all/site/p{p}/image.png", "all/site/p{p}/mask.png", True, "--replace image=mask --patient '([^/]+)/[^/]+$'"),
        ("all/p0/image.png", "all/p0/mask.png", True, "--replace image=mask"),
        ("all/{p}.png", "all/{p}_mask.png", True, "--suffix _mask"),
        ("all/p{p}/raw_frame_{n}.png", "all/p{p}/ground_truth_{n}.png", True, "--replace raw_frame=ground_truth"),
    ],
)
def test_the_command_that_pairs_images_and_masks_is_printed(
    folder: Path,
    image: str,
    mask: str,
    same: bool,
    options: str | None,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It keeps what was given, and works as printed."""
    monkeypatch.chdir(folder)
    (folder / "masks").rename(folder / "of masks")
    for p in range(3):
        for n in range(2):
            for kind, form in (("scans", image), ("of masks", mask)):
                place = folder / form.format(p=p, n=n)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / kind / f"p{p}" / f"p{p}_{n}.png", place)
    number = len({image.format(p=p, n=n) for p in range(3) for n in range(2)})
    given = ("--category", "a lesion", "--out", "new/my data.json")
    code, message = run("coco", "all/", "all" if same else "masks", *given)
    assert code == 2
    words = shlex.split(message.partition("Next: us43d ")[2].partition(" # ")[0])
    if options is None:
        assert words == ["coco", "--help"]
        return
    expected = shlex.split(options)
    folders, added = (expected, []) if "--" not in options else (["all/", "all" if same else "masks"], expected)
    assert words == ["coco", *folders, *given, *added]
    assert ("# if the folders are patients" in message) == ("--patient" in options)
    code, message = run(*words)
    assert code == 0
    content = json.loads((folder / "new" / "my data.json").read_text())
    assert [one["name"] for one in content["categories"]] == ["a lesion"]
    assert len(content["images"]) == (2 if folders == ["all/scans", "masks/p0"] else number)
    assert len({one.get("patient_id") for one in content["images"]}) == (3 if "--patient" in options else 1)


@pytest.mark.parametrize(
    ("files", "step"),
    [
        # The longest of the names in a mask's name: 1x and x1, not x.
        ("all/x.png all/y.png all/1x.png all/1y.png all/x_seg.png all/y_seg.png all/1x_seg.png all/1y_seg.png",
         "coco all all --suffix _seg"),
        ("all/x.png all/y.png all/x1.png all/y1.png all/x_seg.png all/y_seg.png all/x1_seg.png all/y1_seg.png",
         "coco all all --suffix _seg"),
        # Of folders with equally many names in common, those that share most of their paths.
        ("all/a/masks/1.png all/b/scans/1.png all/b/masks/1.png", "coco all/b/scans all/b/masks"),
        # A file beside the folders of patients.
        ("all/p1/image.png all/p1/mask.png all/p2/image.png all/p2/mask.png all/old_image.png",
         "coco all all --replace image=mask --patient '([^/]+)/[^/]+$'"),
    ],
)  # fmt: skip
def test_the_best_of_several_commands_is_printed(
    folder: Path, files: str, step: str, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for file in map(Path, files.split()):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "masks" / "p0" / "p0_0.png", file)
    message = run("coco", "all", "all")[1]
    assert message.partition("Next: us43d ")[2].partition(" # ")[0] == step


def test_masks_of_one_number_are_in_the_order_of_their_names(folder: Path) -> None:
    for n, name in enumerate(("a_mask_01", "a_mask_1", "a_mask_0")):
        shutil.copy(folder / "masks" / f"p{n}" / f"p{n}_0.png", folder / f"{name}.png")
    shutil.copy(folder / "scans" / "p0" / "p0_0.png", folder / "a.png")
    naming = Naming(suffix="_mask")
    files = pictures.listing(folder)
    (pair,), _ = naming.pairs(files, files[::-1], folder, folder, has_patients=True)
    assert [mask.relative for mask in pair[1]] == ["a_mask_0.png", "a_mask_01.png", "a_mask_1.png"]


def test_folders_of_splits_are_not_proposed_as_patients(folder: Path, run: Callable[..., tuple[int, str]]) -> None:
    for name in ("train", "test"):
        for kind in ("scans", "masks"):
            (folder / "all" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / kind / "p0" / "p0_0.png", folder / "all" / name / f"{kind}.png")
    message = run("coco", folder / "all", folder / "all")[1]
    assert message.endswith(" --replace scans=masks")
    message = run("coco", folder / "all" / "train", folder / "all" / "train", "--patient", "a")[1]
    assert message.endswith(" --patient a --replace scans=masks")


def test_neither_a_folder_nor_an_image_is_replaced(folder: Path, run: Callable[..., tuple[int, str]]) -> None:
    before = (folder / "masks" / "p0" / "p0_0.png").read_bytes()
    for out, told, better in (
        (folder / "masks", "is a folder; --out takes a file", "masks/coco.json"),
        (folder / "masks" / "p0" / "p0_0.png", "does not end in .json", "p0_0.png.json"),
    ):
        code, message = run("coco", folder / "scans", folder / "masks", "--force", "--out", out)
        assert (code, told in message, message.endswith(better)) == (2, True, True)
        words = shlex.split(message.partition("Next: us43d ")[2])
        assert run(*words)[0] == 0
    assert (folder / "masks" / "p0" / "p0_0.png").read_bytes() == before


@pytest.mark.parametrize("options", [("--category", " "), ("--patient", "no such"), ("--patient=",)])
def test_the_step_after_an_option_that_does_not_fit_works(
    folder: Path, options: tuple[str, ...], run: Callable[..., tuple[int, str]]
) -> None:
    code, message = run("coco", folder / "scans", folder / "masks", "--out", folder / "a.json", *options)
    assert code != 0
    words = shlex.split(message.partition("Next: us43d ")[2].partition(" # ")[0])
    assert run(*words)[0] == 0
    content = json.loads((folder / "a.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "structure"}]
    assert ("patient_id" in content["images"][0]) == ("--category" not in options)


@pytest.mark.parametrize("text", ["image", "=mask", "a=b=c"])
def test_invalid_texts_to_replace(folder: Path, text: str, run: Callable[..., tuple[int, str]]) -> None:
    code, message = run("coco", folder / "scans", folder / "masks", "--replace", text)
    assert code == 2
    assert f"Invalid --replace {text!r}" in message or f"Invalid --replace '{text}'" in message
    assert message.endswith(" --replace image=mask")
    assert "--replace image=mask --replace" not in message


def test_the_mask_of_one_image_is_not_a_further_mask_of_another(folder: Path) -> None:
    """Of scan and scan_1, with masks m_scan and m_scan_1."""
    for kind, text in (("scans", ""), ("masks", "m_")):
        place = folder / "two" / kind
        place.mkdir(parents=True)
        for n, name in enumerate(("scan", "scan_1")):
            shutil.copy(folder / kind / "p0" / f"p0_{n}.png", place / f"{text}{name}.png")
    content, remarks = from_masks(folder / "two" / "scans", folder / "two" / "masks", prefix="m_", patient="s")
    assert remarks == []
    assert [one["image_id"] for one in content["annotations"]] == [1, 2]


def test_an_option_that_cannot_be_combined_leads_to_the_command_without_it(
    folder: Path, run: Callable[..., tuple[int, str]]
) -> None:
    label_map(folder, "grey")
    places = ("coco", folder / "scans", folder / "masks", "--force", "--out", folder / "a.json")
    for words in (
        ("--category", "my lesion", "--classes", "1=a,2=b,3=c"), ("--category=my lesion",),
        ("--instances", "--united", "--classes=1=a,2=b,3=c"), ("--classes", "1=a,1=b,2=c"),
    ):  # fmt: skip
        code, message = run(*places, *words)
        assert code != 0
        step = shlex.split(message.partition("Next: us43d ")[2].partition(" # ")[0])
        assert str(folder / "a.json") in step
        if "1=a,1=b,2=c" in words:
            assert step[-2:] == ["--classes", "1=nodule,2=cyst"]
            continue
        assert run(*step)[0] == 0
        assert len(json.loads((folder / "a.json").read_text())["categories"]) == 3


def test_masks_of_volumes_on_another_grid_are_named(tmp_path: Path) -> None:
    """Mirrored by their header alone, they would be paired with other voxels without a word."""
    for name in ("scans", "masks"):
        (tmp_path / name).mkdir()
    scan = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 200, (3, *SHAPE), np.uint8))
    scan.SetOrigin((10, -5, 3))
    sitk.WriteImage(scan, str(tmp_path / "scans" / "p1.nrrd"))
    drawn = np.zeros((3, *SHAPE), np.uint8)
    drawn[1, 5:20, 8:30] = 1
    mask = sitk.GetImageFromArray(drawn)
    mask.CopyInformation(scan)
    moved = sitk.Image(mask)
    moved.SetOrigin((12, -5, 3))
    for ending in (".nrrd", ".mha", ".nii.gz"):
        for changed, said in (
            (mask, None),
            (moved, f"p1{ending} (LPS from -12, 5, 3, its image LPS from -10, 5, 3)"),
            (sitk.Flip(mask, (False, False, True)), f"p1{ending} (LPI from -10, 5, 5, its image LPS from -10, 5, 3)"),
        ):
            sitk.WriteImage(changed, str(tmp_path / "masks" / f"p1{ending}"))
            written = from_masks(tmp_path / "scans", tmp_path / "masks", patient="^p1")
            remarks = [remark for remark in written.remarks if "not lie on the grid" in remark]
            assert [said is not None and said in remark for remark in remarks] == [True] * (said is not None)
        (tmp_path / "masks" / f"p1{ending}").unlink()
    plain = nibabel.Nifti1Image(drawn.T, None)  # a header that states no grid
    nibabel.save(plain, tmp_path / "masks" / "p1.nii.gz")
    written = from_masks(tmp_path / "scans", tmp_path / "masks", patient="^p1")
    assert len(written.content["annotations"]) == 1
    assert not any("grid" in remark for remark in written.remarks)
