"""us43d predict: every kind of input, what is written, and what is refused."""

import hashlib
import importlib
import inspect
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco

from us43d import pictures
from us43d.errors import ImageError
from us43d.model import segment, weights
from us43d.model.network import PRESETS, UltraSam
from us43d.model.predictor import Predictor
from us43d.model.segment import everything
from us43d.pictures import video
from us43d.pictures.outputs import Outputs
from us43d.specimen import blob, speckle

SHAPE = (90, 120)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    small = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64})
    weights.save(UltraSam.random(small, 0), folder / "weights" / "small")
    return folder


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return speckle(SHAPE, [blob(SHAPE, rng)], rng)


@pytest.fixture
def us43d(home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs the command in a folder of its own: (exit code, stdout, stderr)."""
    main = importlib.import_module("us43d.cli.app").main
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["us43d", *map(str, words), "--home", str(home)])
        code = main()
        said = capfd.readouterr()
        return code, said.out, said.err

    yield run
    signal.signal(signal.SIGTERM, before)


def written(out: Path) -> dict:
    """predictions.json, after comparing each mask's PNG with its RLE."""
    content = json.loads((out / "predictions.json").read_text())
    for each in content["annotations"]:
        mask = cv2.imread(str(out / each["mask"]), cv2.IMREAD_UNCHANGED)
        assert set(np.unique(mask)) <= {0, 255}
        assert (coco.decode(each["segmentation"]) * 255 == mask).all()
        assert each["area"] == (mask > 0).sum()
    return content


def test_an_image(us43d, picture: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite("scan.png", picture)
    code, out, _ = us43d(
        "predict", "scan.png", "--weights", "small", "--box", "20,10,80,70", "--box", "5,5,50,50", "--json"
    )
    assert code == 0
    content = written(Path("predictions"))
    said = json.loads(out)
    assert [each["score"] for each in said["annotations"]] == [each["score"] for each in content["annotations"]]
    assert [each["prompt"]["box"] for each in content["annotations"]] == [[20, 10, 80, 70], [5, 5, 50, 50]]
    assert content["images"] == [{"id": 1, "file_name": "scan.png", "frame": 0, "width": 120, "height": 90}]
    overlay = cv2.imread("predictions/overlays/scan.png")
    assert max(overlay.shape) == 640


def test_the_same_as_the_library_says(us43d, home: Path, picture: np.ndarray) -> None:
    cv2.imwrite("scan.png", picture)
    options = (
        "--box",
        "20,10,80,70",
        "--point",
        "40,30",
        "--point",
        "22.5,12,0",
        "--postprocess",
        "paper",
        "--refine",
        "0",
    )
    assert us43d("predict", "scan.png", "--weights", "small", *options)[0] == 0
    predictor = Predictor.from_weights(home / "weights" / "small")
    predictor.set_image(picture)
    wanted = predictor.predict(
        box=(20, 10, 80, 70), points=[(40, 30), (22.5, 12)], labels=[1, 0], refine=0, postprocess="paper"
    )
    (found,) = written(Path("predictions"))["annotations"]
    assert found["score"] == pytest.approx(wanted.score, abs=1e-6)
    assert (coco.decode(found["segmentation"]) == wanted.mask).all()


def test_a_folder_goes_on_past_a_corrupt_image(us43d, picture: np.ndarray) -> None:
    folder = Path("scans")
    folder.mkdir()
    for name in ("a.png", "b.jpg", "a.bmp"):
        cv2.imwrite(str(folder / name), picture)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (folder / "notes.txt").write_text("nothing")
    code, _, err = us43d("predict", folder, "--weights", "small", "--point", "40,30", "--out", "found")
    assert code == 3
    assert "1 of 4 files could not be segmented: broken.png" in err
    content = written(Path("found"))
    assert [image["file_name"] for image in content["images"]] == ["a.bmp", "a.png", "b.jpg"]
    # Two inputs of one name do not overwrite each other.
    assert {p.name for p in Path("found/overlays").iterdir()} == {"a.bmp.png", "a.png.png", "b.png"}


def test_names_as_long_as_a_file_system_takes(us43d, picture: np.ndarray) -> None:
    """254 bytes of 3-byte characters that differ in the last one; frames of a stack and a volume of 250 bytes."""
    folder = Path("scans")
    folder.mkdir()
    names = [f"{'超' * 83}{n}.png" for n in (1, 2)]
    for name in names:
        assert len(os.fsencode(name)) == 254
        cv2.imwrite(str(folder / name), picture)
    cv2.imwritemulti(str(folder / f"{'s' * 251}.tif"), [picture, picture])
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.stack([picture.T] * 2, 2), np.eye(4)), folder / f"{'v' * 248}.nii.gz")
    cv2.imwrite(str(folder / f"{'k' * 200}.png"), picture)
    code, _, err = us43d("predict", folder, "--weights", "small", "--box", "20,10,80,70", "--out", "found")
    assert code == 0, err
    content = written(Path("found"))
    assert [image["file_name"] for image in content["images"]] == [
        f"{'k' * 200}.png", *[f"{'s' * 251}.tif"] * 2, *[f"{'v' * 248}.nii.gz"] * 2, *names
    ]  # fmt: skip
    masks = [entry["mask"] for entry in content["annotations"]]
    assert masks[0] == f"masks/{'k' * 200}_1.png"
    digest = hashlib.sha256(f"{'超' * 83}1".encode()).hexdigest()[:8]
    assert masks[5] == f"masks/{'超' * 66}_{digest}_1.png"
    assert len(set(masks)) == 7
    assert len(list(Path("found").glob("v*_labels.nii.gz"))) == 1
    assert us43d("predict", folder / names[0], "--weights", "small", "--box", "20,10,80,70", "--out", "one")[0] == 0
    assert written(Path("one"))["annotations"][0]["mask"] == masks[5]


def test_masks_in_place_of_images_are_reported(us43d, picture: np.ndarray) -> None:
    """In a folder and alone; a black image is not a mask."""
    folder = Path("scans")
    folder.mkdir()
    for name, pixels in {"a": picture, "b": (picture > 90) * 255, "c": picture > 90, "d": picture * 0}.items():
        cv2.imwrite(str(folder / f"{name}.png"), pixels.astype(np.uint8))
    _, _, err = us43d("predict", folder, "--weights", "small", "--box", "20,10,80,70")
    assert "2 frames have two values only, as masks do: b, c." in err
    _, _, err = us43d("predict", folder / "b.png", "--weights", "small", "--box", "20,10,80,70")
    assert "1 frame has two values only, as masks do: b." in err


def test_one_prompt_for_a_clip(us43d, picture: np.ndarray) -> None:
    """The first frame has the prompt, the others have none; every frame has a mask."""
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(4):
        writer.write(cv2.cvtColor(np.roll(picture, n, 1), cv2.COLOR_GRAY2BGR))
    writer.release()
    command = ("predict", "clip.avi", "--weights", "small", "--box", "20,10,80,70")
    for words in ((), ("--propagate",)):  # the default of a video
        code, _, err = us43d(*command, *words)
        assert code == 0, err
        found = written(Path("predictions"))["annotations"]
        assert [bool(one["prompt"]) for one in found] == [True, False, False, False]
        assert all(one["area"] > 0 for one in found)
    code, _, err = us43d(*command, "--no-propagate")
    assert code == 0, err
    assert all(one["prompt"] for one in written(Path("predictions"))["annotations"])
    code, _, err = us43d(*command, "--propagate", "--frame", "2")
    assert code == 2
    assert "--propagate can only be combined with" in err


def test_a_video(us43d, picture: np.ndarray) -> None:
    writer = cv2.VideoWriter("sweep.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(4):
        writer.write(cv2.cvtColor(np.roll(picture, 5 * n, 1), cv2.COLOR_GRAY2BGR))
    writer.release()
    assert us43d("predict", "sweep.avi", "--weights", "small", "--box", "20,10,80,70")[0] == 0
    content = written(Path("predictions"))
    assert [image["frame"] for image in content["images"]] == [0, 1, 2, 3]
    assert (
        us43d("predict", "sweep.avi", "--weights", "small", "--box", "20,10,80,70", "--frame", "2", "--out", "one")[0]
        == 0
    )
    (image,) = written(Path("one"))["images"]
    assert image["frame"] == 2
    code, _, err = us43d("predict", "sweep.avi", "--weights", "small", "--box", "20,10,80,70", "--frame", "9")
    assert code == 1
    assert "sweep.avi has 4 frames, no frame 9." in err
    assert err.endswith(" --frame 0\n")
    Path("scans").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(f"scans/{name}", picture)
    code, _, err = us43d("predict", "scans", "--weights", "small", "--box", "20,10,80,70", "--frame", "9")
    assert code == 3
    assert "a.png has 1 frame, no frame 9." in err
    assert err.endswith(" --frame 0\n")


def dicom(path: Path, pixels: np.ndarray, photometric: str, bits: int = 8) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["one"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SamplesPerPixel = 3 if photometric == "RGB" else 1
    if photometric == "RGB":
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    frames = pixels.reshape(-1, *SHAPE, *pixels.shape[3:]) if pixels.ndim > 2 else pixels[None]
    data.NumberOfFrames, data.Rows, data.Columns = len(frames), *SHAPE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = pixels.itemsize * 8, bits, bits - 1, 0
    data.PixelData = frames.tobytes()
    data.save_as(path, enforce_file_format=True)


def test_a_dicom_file(us43d, picture: np.ndarray) -> None:
    pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'us43d[train]'")
    colour = np.stack([picture, picture // 2, picture // 3], -1)
    dicom(Path("two.dcm"), np.stack([colour, colour[:, ::-1]]), "RGB")
    dicom(Path("IM0001"), 255 - picture, "MONOCHROME1")
    dicom(Path("deep.dcm"), picture.astype(np.uint16) << 4, "MONOCHROME2", bits=12)
    assert us43d("predict", "two.dcm", "--weights", "small", "--point", "40,30")[0] == 0
    assert [image["frame"] for image in written(Path("predictions"))["images"]] == [0, 1]

    def frames(name: str) -> list[np.ndarray]:
        media = pictures.open(name)
        assert media.kind == "dicom"
        return [frame.pixels for frame in media.frames()]

    assert (np.stack(frames("two.dcm")) == np.stack([colour, colour[:, ::-1]])).all()
    assert (frames("IM0001")[0] == picture).all()
    low, high = int(picture.min()), int(picture.max())  # without a window the range of the values is
    assert np.abs(frames("deep.dcm")[0] - (picture.astype(float) - low) * 255 / (high - low)).max() <= 0.51
    Path("cut.dcm").write_bytes(Path("two.dcm").read_bytes()[:5000])
    code, _, err = us43d("predict", "cut.dcm", "--weights", "small", "--point", "40,30")
    assert code == 1
    assert "The pixels of cut.dcm cannot be read" in err


def test_a_dicom_file_with_jpeg_inside(picture: np.ndarray, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'us43d[train]'")
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    smooth = cv2.GaussianBlur(picture, (0, 0), 3)
    dicom(tmp_path / "plain.dcm", np.stack([smooth, smooth[:, ::-1]]), "MONOCHROME2")
    data = pydicom.dcmread(tmp_path / "plain.dcm")
    packed = [cv2.imencode(".jpg", each, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes() for each in
              (smooth, smooth[:, ::-1])]  # fmt: skip
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.PixelData = encapsulate(packed)
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "jpeg.dcm", enforce_file_format=True)
    found = [frame.pixels for frame in pictures.open(tmp_path / "jpeg.dcm").frames()]
    assert len(found) == 2
    assert np.abs(found[1].astype(int) - smooth[:, ::-1]).max() <= 4


def test_a_nifti_volume(us43d, picture: np.ndarray) -> None:
    import nibabel

    volume = np.stack([picture.T, np.roll(picture.T, 7, 0), picture.T[::-1]], -1)
    affine = np.diag([0.2, 0.3, 1.5, 1])
    nibabel.save(nibabel.Nifti1Image(volume, affine), "sweep.nii.gz")
    boxes = ("--box", "20,10,80,70", "--box", "30,20,60,60")
    assert us43d("predict", "sweep.nii.gz", "--weights", "small", *boxes)[0] == 0
    labels = nibabel.load("predictions/sweep_labels.nii.gz")
    assert np.allclose(labels.affine, affine)
    assert labels.shape == volume.shape
    assert np.allclose(labels.header.get_zooms(), (0.2, 0.3, 1.5))
    content = written(Path("predictions"))
    for image in content["images"]:
        own = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        drawn = np.zeros(SHAPE, np.uint8)
        for n in sorted(range(2), key=lambda n: own[n]["score"]):
            drawn[coco.decode(own[n]["segmentation"]) > 0] = n + 1
        assert (drawn == np.asarray(labels.dataobj)[:, :, image["frame"]].T).all()
    # A volume of another type is spread over 0–255 as a whole.
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32) * 3 - 100, affine), "float.nii")
    spread = np.stack([frame.pixels for frame in pictures.open("float.nii").frames()])
    wanted = np.stack([picture, np.roll(picture, 7, 1), picture[:, ::-1]])
    low, high = int(wanted.min()), int(wanted.max())
    assert np.abs(spread - (wanted.astype(float) - low) * 255 / (high - low)).max() <= 0.51


def test_labels_of_nifti_in_other_forms(us43d, picture: np.ndarray) -> None:
    """Version 2, and colours along the fifth axis, which is no axis of the labels."""
    import nibabel

    volume = np.stack([picture.T, picture.T[::-1]], -1)
    nibabel.save(nibabel.Nifti2Image(volume, np.eye(4)), "two.nii")
    colours = nibabel.Nifti1Image(np.stack([volume, volume // 2, volume // 3], -1)[:, :, :, None, :], np.eye(4))
    colours.header.set_intent("vector")
    nibabel.save(colours, "colours.nii")
    for name, shape in (("two", volume.shape), ("colours", (*volume.shape, 1))):
        code, _, err = us43d("predict", f"{name}.nii", "--weights", "small", "--box", "20,10,80,70", "--quiet")
        assert (code, err) == (0, "")
        labels = nibabel.load(f"predictions/{name}_labels.nii.gz")
        assert labels.shape == shape
        content = written(Path("predictions"))
        for image in content["images"]:
            (own,) = [one for one in content["annotations"] if one["image_id"] == image["id"]]
            drawn = np.asarray(labels.dataobj).reshape(volume.shape)[:, :, image["frame"]].T
            assert (drawn == coco.decode(own["segmentation"])).all()


def test_a_coco_file_of_prompts(us43d, picture: np.ndarray) -> None:
    folder = Path("scans")
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        cv2.imwrite(str(folder / name), picture)
    content = {
        "images": [{"id": 7, "file_name": "images/a.png"}, {"id": 8, "file_name": "b.png", "frame": 4}],
        "annotations": [
            {"id": 1, "image_id": 7, "bbox": [20, 10, 60, 60]},
            {"id": 2, "image_id": 8, "keypoints": [40, 30, 2, 0, 0, 0, 44, 35, 1]},
            {"id": 3, "image_id": 7, "bbox": [1, 1, 30, 30], "keypoints": [5, 5, 1]},
        ],
    }
    Path("prompts.json").write_text(json.dumps(content))
    code, _, err = us43d("predict", folder, "--weights", "small", "--prompts", "prompts.json")
    assert code == 0
    assert "1 file skipped (no prompt): c.png" in err
    found = written(Path("predictions"))["annotations"]
    assert [each["prompt"] for each in found] == [
        {"box": [20, 10, 80, 70]},
        {"box": [1, 1, 31, 31], "points": [[5, 5]], "labels": [1]},
        {"points": [[40, 30], [44, 35]], "labels": [1, 1]},
    ]
    content["images"][1]["file_name"] = "z.png"
    Path("prompts.json").write_text(json.dumps(content))
    code, _, err = us43d("predict", folder, "--weights", "small", "--prompts", "prompts.json")
    assert code == 2
    assert "prompts for 1 file not found: z.png" in err


def test_prompts_of_single_frames(us43d, picture: np.ndarray) -> None:
    """As predictions.json has them, which is a file of prompts itself."""
    import nibabel

    volume = np.stack([picture.T, np.roll(picture.T, 7, 0), picture.T[::-1]], -1)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), "sweep.nii.gz")
    content = {
        "images": [{"id": n, "file_name": "sweep.nii.gz", "frame": frame} for n, frame in enumerate((0, 2, 7))],
        "annotations": [
            {"id": 1, "image_id": 0, "bbox": [20, 10, 60, 60]},
            {"id": 2, "image_id": 1, "bbox": [30, 20, 40, 50]},
            {"id": 3, "image_id": 2, "bbox": [30, 20, 40, 50]},
        ],
    }
    Path("prompts.json").write_text(json.dumps(content))
    code, _, err = us43d("predict", "sweep.nii.gz", "--weights", "small", "--prompts", "prompts.json")
    assert code == 0, err
    assert "has prompts for missing frames: sweep.nii.gz 7" in err
    found = written(Path("predictions"))
    assert [image["frame"] for image in found["images"]] == [0, 2]
    assert [each["prompt"]["box"] for each in found["annotations"]] == [[20, 10, 80, 70], [30, 20, 70, 70]]
    assert not np.asarray(nibabel.load("predictions/sweep_labels.nii.gz").dataobj)[:, :, 1].any()
    # Boxes of what was found prompt the same frames again.
    code, _, err = us43d(
        "predict", "sweep.nii.gz", "--weights", "small", "--prompts", "predictions/predictions.json", "--out", "again"
    )
    assert code == 0, err
    assert [image["frame"] for image in written(Path("again"))["images"]] == [0, 2]
    code, _, err = us43d(
        "predict", "sweep.nii.gz", "--weights", "small", "--prompts", "prompts.json", "--frame", 2, "--out", "one"
    )
    assert code == 0, err
    assert "prompts for frames other than 2 skipped: sweep.nii.gz 0, sweep.nii.gz 7" in err
    assert [image["frame"] for image in written(Path("one"))["images"]] == [2]


def test_everything_finds_each_thing_once(us43d, home: Path, picture: np.ndarray) -> None:
    predictor = Predictor.from_weights(home / "weights" / "small")
    predictor.set_image(picture)
    found = everything(predictor, grid=4, min_score=-10, min_stability=0, overlap=0.7)
    assert found
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for n, one in enumerate(found):
        for other in found[:n]:
            both = (one.mask & other.mask).sum()
            assert both / (one.mask | other.mask).sum() <= 0.7
    every = everything(predictor, grid=4, min_score=-10, min_stability=0, overlap=1.0)
    assert len(every) == 12  # 4 × 3 points, none suppressed
    assert everything(predictor, grid=4, min_score=10, min_stability=0) == []
    cv2.imwrite("scan.png", picture)
    code, out, _ = us43d("predict", "scan.png", "--weights", "small", "--everything", "--min-score", "10")
    assert code == 0
    assert "no structures found" in out
    assert written(Path("predictions"))["annotations"] == []


def test_everything_rejects_unstable_masks(us43d, home: Path, picture: np.ndarray) -> None:
    """By SAM's stability score, for which each mask is compared with itself at two thresholds."""
    logits = np.float32([[-3, -0.5, 0.5, 3], [-3, -0.5, 2, 3]])
    assert segment.stability(logits, 1.0) == 3 / 6  # above 1: three; above −1: six
    assert segment.stability(logits, 0.0) == 1
    assert segment.stability(logits - 10, 1.0) == 0
    predictor = Predictor.from_weights(home / "weights" / "small")
    predictor.set_image(picture)

    def scores(**options: float) -> list[float]:
        return [one.score for one in everything(predictor, grid=4, min_score=-10, overlap=1.0, **options)]

    every = scores(min_stability=0)
    offset = float(np.median(np.abs(predictor.predict(points=[(60, 45)]).logits)))  # of random weights
    values = []
    for j, i in np.ndindex(3, 4):
        shown = predictor.predict(points=[((i + 0.5) * 30 - 0.5, (j + 0.5) * 30 - 0.5)])
        rows = math.ceil(shown.logits.shape[0] * predictor.encoded.inner[0] / predictor.model.config.image_size)
        values.append(segment.stability(shown.logits[:rows], offset))
    middle = float(np.median(values))
    assert min(values) < middle < max(values)
    assert len(scores(min_stability=middle, stability_offset=offset)) == sum(value >= middle for value in values)
    assert len(every) == 12
    cv2.imwrite("scan.png", picture)
    for words, count in (((), 0), (("--min-stability", "0"), 1)):
        options = "--min-score", "-10", "--min-stability", "1", "--stability-offset", "9", *words
        assert us43d("predict", "scan.png", "--weights", "small", "--everything", "--grid", "4", *options)[0] == 0
        assert (len(written(Path("predictions"))["annotations"]) > 0) == bool(count)


def test_the_thresholds_of_the_command_are_those_of_the_library() -> None:
    command = inspect.signature(importlib.import_module("us43d.cli.predict").predict).parameters
    library = inspect.signature(everything).parameters
    for name in ("grid", "min_stability", "stability_offset", "overlap"):
        assert command[name].default == library[name].default
    option = typing.get_args(command["min_score"].annotation)[1]  # None: every task has a default of its own
    assert f"Default: {library['min_score'].default} with --everything" in option.help


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ((), 2, "Give one of --box and --point, --structure, --prompts, or --everything."),
        (("--box", "1,2,3,4", "--everything"), 2, "Give one of"),
        (("--box", "1,2,3"), 2, "Invalid --box '1,2,3'. Use the form 40,60,180,210"),
        (("--box", "a,b,c,d"), 2, "Use the form"),
        (("--box", "nan,1,5,5"), 2, "Use the form"),
        (("--box", "80,10,20,70"), 2, "is empty or outside the image of 120 × 90 pixels"),
        (("--box", "0.1,0.1,0.5,1"), 2, "is within the first pixel: coordinates are in pixels"),
        (("--point", "0.4,0.5"), 2, "The point 0.4,0.5 is within the first pixel"),
        (("--box", "500,500,600,600"), 2, "is empty or outside the image of 120 × 90 pixels"),
        (("--point", "200,10"), 2, "The point 200,10 is outside the image of 120 × 90 pixels"),
        (("--point", "20,10,5"), 2, "Use 1 (inside) or 0 (outside)"),
        (
            ("--box", "1,2,30,40", "--box", "5,5,9,9", "--point", "3,3"),
            2,
            "Several --box and --point cannot be combined",
        ),
        (("--prompts", "scan.png"), 2, "scan.png is not a COCO file with prompts"),
        (("--prompts", "none.json"), 2, "none.json is not a COCO file with prompts"),
        (("--box", "1,2,30,40", "--device", "gpu"), 2, "Invalid device 'gpu'"),
    ],
)
def test_prompts_that_are_refused(us43d, picture: np.ndarray, options: tuple[str, ...], code: int, why: str) -> None:
    cv2.imwrite("scan.png", picture)
    found, _, err = us43d("predict", "scan.png", "--weights", "small", *options)
    assert found == code
    assert why in err
    assert "Nothing was changed on disk." in err
    shown = re.search("Next: us43d label scan.png --home [^ ]+   # shows x and y", err)
    assert bool(shown) == ("image" in why or "first pixel" in why)
    assert "undamaged" not in err
    assert not Path("predictions").exists()


def test_a_missing_file_is_named_before_missing_prompts(us43d) -> None:
    code, _, err = us43d("predict", "nope.png", "--weights", "small")
    assert code == 1
    assert "nope.png does not exist." in err
    assert "Give one of" not in err


@pytest.mark.parametrize("name", ["cut.png", "page.jpg", "empty.png", "film.avi", "volume.nii.gz", "IM.dcm"])
def test_files_that_cannot_be_read(us43d, picture: np.ndarray, name: str) -> None:
    data = cv2.imencode(".png", picture)[1].tobytes()[:900]
    contents = {"cut.png": data, "page.jpg": b"<html>no picture</html>", "empty.png": b""}
    Path(name).write_bytes(contents.get(name, b"nothing of the kind" * 20))
    code, _, err = us43d("predict", name, "--weights", "small", "--box", "20,10,80,70")
    assert code == 1
    assert name in err
    assert "Traceback" not in err
    assert not Path("predictions").exists()


def test_inputs_and_weights_that_are_not_there(us43d, picture: np.ndarray) -> None:
    cv2.imwrite("scan.png", picture)
    Path("empty").mkdir()
    assert "none.png does not exist" in us43d("predict", "none.png", "--weights", "small", "--point", "1,1")[2]
    assert (
        "No images, videos or volumes found in empty (files such as .png, .avi, .dcm, .nii, .mha)."
        in us43d("predict", "empty", "--weights", "small", "--point", "1,1")[2]
    )
    code, _, err = us43d("predict", "scan.png", "--weights", "ultrasam", "--point", "1,1")
    assert code == 1
    assert "Next: us43d weights get ultrasam" in err
    Path("bad.pth").write_bytes(b"no weights")
    code, _, err = us43d("predict", "scan.png", "--weights", "bad.pth", "--point", "1,1")
    assert (code, "bad.pth" in err) == (1, True)


def test_what_was_written_before_a_failure_is_named(
    us43d, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        count = spacing = region = None

        def __init__(self, path: Path) -> None:
            self.path, self.remarks = path, []

        def read(self, wanted: int | None):
            yield picture
            yield picture
            raise ImageError(f"{self.path} ends too early.")

    monkeypatch.setattr(video, "Video", Failing)
    Path("film.avi").write_bytes(b"x")
    code, _, err = us43d("predict", "film.avi", "--weights", "small", "--box", "20,10,80,70")
    assert code == 1
    assert "Masks of the 2 frames before it are in predictions." in err
    assert len(list(Path("predictions/masks").iterdir())) == 2


def test_earlier_predictions_in_the_folder_are_replaced_whole(us43d, picture: np.ndarray) -> None:
    """Masks of the first run do not lie beside the predictions.json of the second; what else is there stays."""
    Path("scans").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(f"scans/{name}.png", picture)
    boxes = ("--weights", "small", "--box", "20,10,80,70")
    assert us43d("predict", "scans", *boxes, "--box", "30,20,60,60")[0] == 0
    Path("predictions/masks/mine.png").write_bytes(b"mine")
    Path("outside.png").write_bytes(b"outside")
    file = Path("predictions/predictions.json")
    content = json.loads(file.read_text())
    assert len(content["files"]) == 6
    file.write_text(
        json.dumps(content | {"files": [*content["files"], "masks/../../outside.png", "masks/nosuch.png", 7]})
    )
    code, _, err = us43d("predict", "scans/b.png", *boxes)
    assert code == 0
    assert "4 files of earlier predictions in predictions removed" in err
    left = {path.relative_to("predictions").as_posix() for path in Path("predictions").rglob("*") if path.is_file()}
    assert left == {"masks/b_1.png", "masks/mine.png", "overlays/b.png", "predictions.json"}
    assert Path("outside.png").exists()
    Path("scans/a.png").write_bytes(b"damaged")
    Path("scans/b.png").write_bytes(b"damaged")
    code, _, err = us43d("predict", "scans", *boxes)
    assert code == 3
    assert "2 of 2 files could not be segmented: a.png, b.png.\nNothing was changed on disk." in err
    assert {path.relative_to("predictions").as_posix() for path in Path("predictions").rglob("*.*")} == left


def test_half_precision_agrees(home: Path, picture: np.ndarray) -> None:
    import torch

    full, half = (
        Predictor.from_weights(home / "weights" / "small", dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    for each in (full, half):
        each.set_image(picture)
    one, two = (each.predict(box=(20, 10, 80, 70)) for each in (full, half))
    assert two.score == pytest.approx(one.score, abs=0.03)
    assert (one.mask == two.mask).mean() > 0.97


def test_a_read_only_folder(us43d, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from us43d import atomic

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "predictions/masks")

    cv2.imwrite("scan.png", picture)
    monkeypatch.setattr(atomic, "write_bytes", full)
    code, _, err = us43d("predict", "scan.png", "--weights", "small", "--box", "20,10,80,70")
    assert code == 1
    assert "the disk is full" in err


def test_the_result_of_a_run_and_its_checkpoints(us43d, home: Path, picture: np.ndarray) -> None:
    cv2.imwrite("scan.png", picture)
    run = home / "runs" / "first"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("")
    assert (
        "it has not saved a checkpoint yet" in us43d("predict", "scan.png", "--weights", "first", "--point", "9,9")[2]
    )
    shutil.copytree(home / "weights" / "small", run / "checkpoints" / "step_000010")
    assert us43d("predict", "scan.png", "--weights", "first", "--point", "9,9")[0] == 0
    assert us43d("predict", "scan.png", "--weights", run, "--point", "9,9")[0] == 0
    shutil.rmtree(run)


def test_weights_with_the_log_of_their_training_are_not_a_run(us43d, home: Path, picture: np.ndarray) -> None:
    """us43d-small ships with its log."""
    cv2.imwrite("scan.png", picture)
    shutil.copytree(home / "weights" / "small", "logged")
    Path("logged/log.jsonl").write_text("")
    code, _, err = us43d("predict", "scan.png", "--weights", "logged", "--point", "9,9")
    assert code == 0, err


def test_prompts_for_another_size_are_refused_and_boxes_beyond_the_image_reported(us43d, picture: np.ndarray) -> None:
    cv2.imwrite("scan.png", picture)

    def predicted(box: list[int], **size: Any) -> tuple[int, str]:
        images = [{"id": 1, "file_name": "scan.png", **size}]
        Path("prompts.json").write_text(json.dumps({"images": images, "annotations": [{"image_id": 1, "bbox": box}]}))
        code, _, err = us43d("predict", "scan.png", "--weights", "small", "--prompts", "prompts.json")
        return code, err

    code, err = predicted([10, 10, 40, 40], width=640, height=480)
    assert code == 2
    assert "The image has 120 × 90 pixels, but its prompts are for 640 × 480." in err
    for size in ({}, {"width": 120, "height": 90}, {"width": 0, "height": 0}, {"width": None, "height": "90"}):
        code, err = predicted([80, 10, 50, 40], **size)
        assert code == 0
        assert "quarter of a box" not in err
    code, err = predicted([80, 10, 60, 40])
    assert code == 0
    assert "Over a quarter of a box is outside of 1 frame: scan.png 0. --box is x0,y0,x1,y1" in err


def test_faults_of_prompts_are_told_together(us43d, picture: np.ndarray) -> None:
    cv2.imwrite("scan.png", picture)
    content = {
        "images": [{"id": 1, "file_name": "scan.png"}, {"id": 2}],
        "annotations": [
            {"image_id": 1, "bbox": [1, 2, 3]}, {"image_id": 1, "bbox": [1, 2, 0, 5]},
            {"image_id": 9, "bbox": [1, 2, 3, 4]}, {"image_id": 1, "keypoints": [5, 5]}, {"image_id": 1},
            {"image_id": 1, "bbox": [1, 2, float("nan"), 4]},
            {"image_id": 1, "keypoints": [5, 5, 0]}, None, {"image_id": 2, "bbox": [1, 2, 3, 4]},
        ],
    }  # fmt: skip
    Path("prompts.json").write_text(json.dumps(content))
    code, _, err = us43d("predict", "scan.png", "--weights", "small", "--prompts", "prompts.json")
    assert code == 2
    for said in (
        "prompts.json has 9 faults", "file_name is missing: images[1] (id 2)", "annotations[0] has [1.0, 2.0, 3.0]",
        "image_id is not among the images: annotations[2] has '9'", "keypoints are not triples",
        "bbox and keypoints are missing or not visible: annotations[4], annotations[6]", "annotations[7] has null",
    ):  # fmt: skip
        assert said in err
    Path("prompts.json").write_bytes(json.dumps({"images": [content["images"][0]],
                                                 "annotations": [{"image_id": "1", "bbox": [20, 10, 60, 60]}]}
                                                ).encode("utf-8-sig"))  # fmt: skip
    assert us43d("predict", "scan.png", "--weights", "small", "--prompts", "prompts.json")[0] == 0


def test_equal_names_in_different_folders_are_not_mixed_up(us43d, picture: np.ndarray) -> None:
    for n, name in enumerate(("p1/a.png", "p2/a.png", "b.png")):
        Path("scans", name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(Path("scans", name)), np.roll(picture, 9 * n, 1))

    def prompts(*names: str) -> None:
        content = {
            "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
            "annotations": [{"id": n, "image_id": n, "bbox": [20 + n, 10, 60, 60]} for n in range(len(names))],
        }
        Path("prompts.json").write_text(json.dumps(content))

    words = ("predict", "scans", "--weights", "small", "--prompts", "prompts.json")
    for names in (("p1/a.png", "p2/a.png", "b.png"), ("scans/p1/a.png", "./p2/a.png", "scans\\b.png")):
        prompts(*names)
        assert us43d(*words)[0] == 0
        found = written(Path("predictions"))
        assert [image["file_name"] for image in found["images"]] == ["b.png", "p1/a.png", "p2/a.png"]
        assert [each["bbox"] for each in found["annotations"]]
        assert [each["prompt"]["box"][0] for each in found["annotations"]] == [22, 20, 21]
        assert Path("predictions/masks/p1/a_1.png").is_file()
    prompts("a.png")
    code, _, err = us43d(*words)
    assert (code, "has ambiguous file names: a.png" in err) == (2, True)
    prompts("p1/a.png", "images/p1/a.png")
    code, _, err = us43d(*words)
    assert (code, "has ambiguous file names: p1/a.png, images/p1/a.png" in err) == (2, True)


def test_spacing_goes_into_the_predictions(us43d, picture: np.ndarray) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(picture.T, np.diag([0.2, 0.3, 1, 1])), "scan.nii")
    assert us43d("predict", "scan.nii", "--weights", "small", "--box", "20,10,80,70")[0] == 0
    (image,) = written(Path("predictions"))["images"]
    assert image["spacing_mm"] == pytest.approx([0.2, 0.3])


def test_litter_of_desktops_is_not_opened(us43d, picture: np.ndarray) -> None:
    Path("scans").mkdir()
    cv2.imwrite("scans/p00.png", picture)
    Path("scans/._p00.png").write_bytes(b"resource fork")
    Path("scans/Thumbs.db").write_bytes(b"thumbs")
    code, _, err = us43d("predict", "scans", "--weights", "small", "--box", "20,10,80,70", "--out", "out")
    assert (code, "could not be segmented" in err) == (0, False)
    # What was written below the input is not an input of the next run.
    for _ in range(2):
        assert us43d("predict", ".", "--weights", "small", "--box", "20,10,80,70", "--out", "out")[0] == 0
        assert len(written(Path("out"))["images"]) == 1


def test_the_region_that_dicom_declares_is_cropped(us43d, home: Path, picture: np.ndarray) -> None:
    """Masks and prompts are those of the whole frame; what lies outside of the region does not matter."""
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    banner = picture.copy()
    banner[:20], banner[80:], banner[:, :10] = 255, 0, 77
    for name, pixels in (("a.dcm", picture), ("b.dcm", banner)):
        dicom(Path(name), pixels, "MONOCHROME2")
        data, item = pydicom.dcmread(name), Dataset()
        for field, value in (("MinX0", 10), ("MinY0", 20), ("MaxX1", 119), ("MaxY1", 79)):
            setattr(item, f"RegionLocation{field}", value)
        item.RegionSpatialFormat, item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = 1, 3, 3
        item.PhysicalDeltaX = item.PhysicalDeltaY = 0.02
        data.SequenceOfUltrasoundRegions = Sequence([item])
        data.save_as(name)
    words = ("--weights", "small", "--crop-sector", "--box", "30,25,80,70", "--out")
    for name in "ab":
        assert us43d("predict", f"{name}.dcm", *words, name)[0] == 0
    one, two = written(Path("a")), written(Path("b"))
    for field in ("segmentation", "score", "prompt", "bbox", "area"):
        assert one["annotations"][0][field] == two["annotations"][0][field]
    assert one["annotations"][0]["prompt"]["box"] == [30, 25, 80, 70]
    assert one["images"][0]["spacing_mm"] == [0.2, 0.2]
    predictor = Predictor.from_weights(home / "weights" / "small")
    predictor.set_image(picture[20:80, 10:120])
    wanted = np.zeros(SHAPE, bool)
    wanted[20:80, 10:120] = predictor.predict(box=(20, 5, 70, 50)).mask
    assert (coco.decode(one["annotations"][0]["segmentation"]) == wanted).all()
    code, _, err = us43d("predict", "a.dcm", "--weights", "small", "--crop-sector", "--point", "5,50")
    assert (code, "outside the ultrasound region 10,20,120,80" in err) == (2, True)
    assert us43d("predict", "a.dcm", "--weights", "small", "--crop-sector", "--everything", "--grid", "3")[0] == 0
    cv2.imwrite("scan.png", picture)
    code, _, err = us43d("predict", "scan.png", *words, "c")
    assert (code, "No ultrasound region found in scan.png" in err) == (1, True)


@pytest.mark.slow
def test_memory_of_many_boxes_on_a_large_image(tmp_path: Path) -> None:
    """24 masks of 8192² pixels would take 1.6 GB, and their logits four times as much."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (512, 512)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "big.png"), cv2.resize(small, (8192, 8192)))
    boxes = [{"image_id": 1, "bbox": [200 + 300 * n, 300 + 250 * n, 900, 700]} for n in range(24)]
    prompts = {"images": [{"id": 1, "file_name": "big.png"}], "annotations": boxes}
    (tmp_path / "boxes.json").write_text(json.dumps(prompts))
    code = (
        "import sys; from us43d.cli.app import main; code = main(); "
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        "print(code, int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024, file=sys.stderr)"
    )
    words = ["predict", "big.png", "--prompts", "boxes.json", "--out", "out", "--quiet"]
    ran = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    exit_code, megabytes = map(int, ran.stderr.split()[-2:])
    assert exit_code == 0, ran.stderr
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 24
    assert megabytes < 1500


def test_files_of_the_user_are_never_replaced(us43d, picture: np.ndarray) -> None:
    """With --out . beside a folder of one's own masks, or a COCO file named predictions.json, both were overwritten."""
    Path("masks").mkdir()
    cv2.imwrite("scan.png", picture)
    command = ("predict", "scan.png", "--weights", "small", "--box", "20,10,80,70", "--out", ".")
    for name in ("masks/scan_1.png", "predictions.json"):
        Path(name).write_bytes(b"mine")
        code, _, err = us43d(*command)
        assert code == 1
        assert f"{name} exists, and was not written by us43d predict.\nNothing was changed on disk.\nNext: us43d" in err
        assert err.endswith("--out results-2\n")
        assert Path(name).read_bytes() == b"mine"
        Path(name).unlink()
    assert us43d(*command)[0] == 0
    assert us43d(*command)[0] == 0


def test_results_of_an_interrupted_run_are_replaced(us43d, picture: np.ndarray) -> None:
    for name in ("a", "b"):
        cv2.imwrite(f"{name}.png", picture)
    outputs = Outputs(Path("predictions"))
    outputs.write("masks/a_1.png", b"whole")
    outputs.write("masks/z_1.png", b"whole")
    code, _, err = us43d("predict", "a.png", "--weights", "small", "--box", "20,10,80,70")
    assert code == 1
    assert "Another us43d predict writes into predictions.\nNothing was changed on disk.\nNext: us43d" in err
    assert err.endswith(" --out predictions-2\n")
    del outputs  # the process ended
    assert [one.relative for one in pictures.listing(Path())] == ["a.png", "b.png"]
    code, _, err = us43d("predict", "a.png", "--weights", "small", "--box", "20,10,80,70")
    assert code == 0
    assert "1 file of earlier predictions in predictions removed" in err
    left = {path.relative_to("predictions").as_posix() for path in Path("predictions").rglob("*") if path.is_file()}
    assert left == {"masks/a_1.png", "overlays/a.png", "predictions.json"}
