"""us43d coco: a COCO file from images and masks of the same names, or one message that names what cannot be used."""

import importlib
import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from us43d import specimen
from us43d.coco import own
from us43d.coco.write import from_masks
from us43d.errors import ImageError, UsageError

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


def test_without_patients_nothing_is_guessed(folder: Path) -> None:
    written = from_masks(folder / "scans", folder / "masks")
    assert all("patient_id" not in image for image in written.content["images"])
    assert written.remarks[-1].startswith(
        "No patients are given (--patient): every image counts as a patient of its own"
    )


def test_what_is_left_out_is_counted(folder: Path) -> None:
    (folder / "masks" / "p0" / "p0_0.png").unlink()
    cv2.imwrite(str(folder / "masks" / "stray.png"), np.zeros(SHAPE, np.uint8))
    cv2.imwrite(str(folder / "masks" / "p1" / "p1_1.png"), np.zeros(SHAPE, np.uint8))
    written = from_masks(folder / "scans", folder / "masks", patient="p.")
    assert written.remarks == [
        "1 of 6 images are left out, without a mask: p0/p0_0.png.",
        "1 of 6 masks are left out, without an image: stray.png.",
        "1 masks are empty; their images have no annotation.",
    ]
    assert len(written.content["images"]) == 5


def test_all_faults_together(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0.png"), np.zeros((9, 9), np.uint8))
    (folder / "scans" / "p0" / "p0_1.png").write_bytes(b"no image")
    classes = np.zeros(SHAPE, np.uint8)
    classes[5:20], classes[30:50] = 1, 2
    cv2.imwrite(str(folder / "masks" / "p1" / "p1_0.png"), classes)
    with pytest.raises(ImageError) as caught:
        from_masks(folder / "scans", folder / "masks", patient="p[01]_")
    for said in (
        "5 of 6 pairs of image and mask cannot be used", "'p[01]_' finds no patient: p2/p2_0.png, p2/p2_1.png",
        "p0_0.png has 80 × 60 pixels, its mask 9 × 9", "p0_1.png is not a readable image",
        "p1_0.png holds the values 0, 1, 2: nothing says which are foreground",
    ):  # fmt: skip
        assert said in caught.value.what


def test_names_that_do_not_fit(folder: Path) -> None:
    for path in sorted((folder / "masks").rglob("*.png")):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(UsageError, match=r"No mask in .* has the name of an image .* such as p0/p0_0_mask.png"):
        from_masks(folder / "scans", folder / "masks")
    assert len(from_masks(folder / "scans", folder / "masks", suffix="_mask").content["images"]) == 6
    cv2.imwrite(str(folder / "masks" / "p0" / "p0_0_mask.bmp"), np.zeros(SHAPE, np.uint8))
    with pytest.raises(ImageError, match=r"1 images share their name with another image or mask: p0/p0_0.png"):
        from_masks(folder / "scans", folder / "masks", suffix="_mask")
    with pytest.raises(UsageError, match="is not a regular expression"):
        from_masks(folder / "scans", folder / "masks", patient="(")


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
    assert "finds no patient" in said.err
    assert len(json.loads(Path("out/data.json").read_text())["images"]) == 6
