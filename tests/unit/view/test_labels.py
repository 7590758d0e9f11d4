"""Labels on disk: complete at every moment, read by training, never overwritten by a second window."""

import errno
import gc
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from us43d import atomic
from us43d.coco import own
from us43d.coco.segmentation import encode
from us43d.errors import Busy, ImageError, StorageError, UsageError
from us43d.pictures.still import Still
from us43d.view.inputs import FileInputs
from us43d.view.labels import Changed, Labels

SHAPE = (60, 80)


def disc(x: int, y: int, radius: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def thing(mask: np.ndarray, structure: str = "thyroid_nodule", origin: str = "person") -> dict:
    return {"structure": structure, "rle": encode(mask).decode(), "origin": origin}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("P1_a.png", "P1_b.png", "P2_a.png"):
        cv2.imwrite(str(folder / name), rng.integers(0, 255, SHAPE, np.uint8))
    return folder


def opened(scans: Path, out: Path, patient: str | None = "^(P[0-9]+)_") -> Labels:
    return Labels(FileInputs(scans, patient, out), out)


def test_what_was_saved_is_there_again_and_training_reads_it(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    labels = opened(scans, out)
    first, second = disc(30, 20, 9), disc(60, 40, 5)
    assert labels.save(0, 0, [thing(first), thing(second, "my structure")]) == labels.state(0)["revision"]
    labels.save(2, 0, [thing(second)], patient="P9", reviewed=True)
    labels.save(1, 0, [], reviewed=True)  # nothing to see, on purpose
    labels.close()
    again = opened(scans, out)
    assert [item["objects"] for item in again.summary()] == [2, 0, 1]
    assert again.state(0)["objects"] == [thing(first), thing(second, "my structure")]
    assert again.state(2)["patient"] == "P9"
    assert again.state(1)["reviewed"]
    again.close()
    corpus = own.read(out / "labels.json", tmp_path / "corpus")
    assert {corpus.group(n) for n in range(len(corpus))} == {"P1", "P9"}
    place = next(n for n in range(3) if len(corpus.of(n)) == 2)
    masks = [corpus.mask(n) for n in corpus.of(place)]
    assert np.array_equal(masks[0], first)
    assert np.array_equal(masks[1], second)
    assert np.array_equal(corpus.picture(place), cv2.imread(str(scans / "P1_a.png"), cv2.IMREAD_UNCHANGED))


def test_a_second_window_cannot_overwrite_the_first(scans: Path, tmp_path: Path) -> None:
    labels = opened(scans, tmp_path / "labels")
    labels.save(0, 0, [thing(disc(30, 20, 9))])
    with pytest.raises(Changed):
        labels.save(0, 0, [thing(disc(10, 10, 3))])
    assert labels.state(0)["objects"] == [thing(disc(30, 20, 9))]
    labels.save(1, 0, [thing(disc(10, 10, 3))])  # other images are not in the way


def test_a_folder_in_which_nothing_was_saved_does_not_stay(scans: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for out in (tmp_path / "labels", own):
        opened(scans, out).close()
    labels = opened(scans, tmp_path / "saved")
    labels.save(0, 0, [thing(disc(30, 20, 9))])
    labels.close()
    assert [(tmp_path / name).exists() for name in ("labels", "own", "saved")] == [False, True, True]


def test_a_second_server_is_kept_out(scans: Path, tmp_path: Path) -> None:
    labels = opened(scans, tmp_path / "labels")
    with pytest.raises(Busy, match="open in another"):
        opened(scans, tmp_path / "labels")
    labels.close()
    opened(scans, tmp_path / "labels").close()


def test_masks_of_a_source_take_names_of_the_taxonomy_only(scans: Path, tmp_path: Path) -> None:
    class Unfixed:
        def of(self, number: int) -> None: ...

    labels = Labels(FileInputs(scans), tmp_path / "labels", fixes=cast(Any, Unfixed()))
    with pytest.raises(UsageError, match="a new thing: not in the taxonomy"):
        labels.save(0, 0, [thing(disc(30, 20, 9), "a new thing"), thing(disc(30, 20, 9))])
    assert not labels.file.exists()
    assert labels.save(0, 0, [thing(disc(30, 20, 9))]) != 0


@pytest.mark.parametrize(
    "entry",
    [{}, {"structure": "x", "rle": ""}, {"structure": "x", "rle": "0"}, {"structure": "", "rle": "P1"}, "text", None,
     {"structure": "x" * 81, "rle": encode(disc(9, 9, 3)).decode()},
     {"structure": "a\x00b", "rle": encode(disc(9, 9, 3)).decode()},
     {"structure": "x", "rle": encode(np.zeros(SHAPE, bool)).decode()},
     {"structure": "x", "rle": encode(disc(9, 9, 3)).decode(), "origin": "elsewhere"},
     {"structure": "x", "rle": encode(disc(9, 9, 3, (61, 80))).decode()}, {"structure": "x", "rle": "\u2713"}],
)  # fmt: skip
def test_an_invalid_object_is_refused_and_nothing_written(scans: Path, tmp_path: Path, entry: object) -> None:
    labels = opened(scans, tmp_path / "labels")
    with pytest.raises(UsageError, match="Invalid object"):
        labels.save(0, 0, [entry])  # type: ignore[list-item]
    assert not (tmp_path / "labels" / "labels.json").exists()


_TWICE = '{"images": [], "annotations": [], "categories": [], "images": []}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"images": [1], "annotations": [], "categories": []}', _TWICE])
def test_a_foreign_file_is_never_overwritten(scans: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.json").write_text(text)
    with pytest.raises(UsageError, match=r"labels\.json"):
        opened(scans, tmp_path / "labels")
    assert (tmp_path / "labels" / "labels.json").read_text() == text


def test_files_that_are_away_today_keep_their_labels(scans: Path, tmp_path: Path) -> None:
    labels = opened(scans, tmp_path / "labels")
    labels.save(0, 0, [thing(disc(30, 20, 9), "gone")])
    labels.save(1, 0, [thing(disc(30, 20, 9))])
    labels.close()
    (scans / "P1_a.png").rename(tmp_path / "away.png")
    labels = opened(scans, tmp_path / "labels")
    labels.save(1, labels.state(1)["revision"], [thing(disc(9, 9, 5))])  # another one of the two that are left
    labels.close()
    (tmp_path / "away.png").rename(scans / "P1_a.png")
    labels = opened(scans, tmp_path / "labels")
    assert labels.state(0)["objects"] == [thing(disc(30, 20, 9), "gone")]
    ids = [image["id"] for image in json.loads((tmp_path / "labels" / "labels.json").read_text())["images"]]
    assert len(set(ids)) == len(ids) == 3


def test_a_full_disk_loses_nothing_that_was_saved(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = opened(scans, tmp_path / "labels")
    revision = labels.save(0, 0, [thing(disc(30, 20, 9))])
    before = labels.file.read_bytes()

    def full(path: Path, data: bytes, **more: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "write_bytes", full)
        with pytest.raises(StorageError):
            labels.save(0, revision, [])
    assert labels.file.read_bytes() == before
    assert labels.state(0)["objects"] == [thing(disc(30, 20, 9))]
    assert labels.save(0, revision, []) == labels.state(0)["revision"] != revision


def test_hostile_file_names_stay_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    names = [
        "a\\..\\x.png",
        "<img src=x onerror=alert(1)>.png",
        "a b.png",
        "a_b.png",
        "\u202egnp.png",
        "x" * 200 + ".png",
    ]
    for name in names:
        cv2.imwrite(str(tmp_path / "plain.png"), np.zeros(SHAPE, np.uint8))
        os.rename(tmp_path / "plain.png", folder / name)  # noqa: PTH104
    out = tmp_path / "labels"
    labels = Labels(FileInputs(folder), out)
    for number in range(len(names)):
        labels.save(number, 0, [thing(disc(9, 9, 4))])
    kept = [image["file_name"] for image in json.loads(labels.file.read_text())["images"]]
    assert len(set(kept)) == len(names)
    for name in kept:
        assert (out / name).resolve().parent == (out / "images").resolve()
        assert "<" not in name


def test_frames_of_a_video_become_images_and_share_a_patient(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "sweep.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, SHAPE[::-1])
    for n in range(5):
        writer.write(np.full((*SHAPE, 3), 20 * n, np.uint8))
    writer.release()
    inputs = FileInputs(tmp_path / "sweep.avi")
    assert [(item.frame, item.patient, item.group) for item in inputs.items] == [(n, "sweep", 0) for n in range(5)]
    labels = Labels(inputs, tmp_path / "labels")
    labels.save(3, 0, [thing(disc(30, 20, 9))])
    image = json.loads(labels.file.read_text())["images"][0]
    assert (image["us43d"]["frame"], image["patient_id"]) == (3, "sweep")
    stored = cv2.imread(str(tmp_path / "labels" / image["file_name"]), cv2.IMREAD_UNCHANGED)
    assert abs(float(stored.mean()) - 60) < 3


def test_dicom_files_of_one_patient_share_a_pseudonym(scans: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed: pip install 'us43d[train]'")
    for name, patient in (("a.dcm", "Doe 17"), ("b.dcm", "Doe 17"), ("c.dcm", "Roe 3"), ("d.dcm", "")):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.UltrasoundImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[name])
        data.PatientID, data.Rows, data.Columns = patient, *SHAPE
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.PixelData = bytes(SHAPE[0] * SHAPE[1])
        data.save_as(scans / name, enforce_file_format=True)
    inputs = FileInputs(scans)
    patients = {item.input: item.patient for item in inputs.items}
    assert patients["a.dcm"] == patients["b.dcm"] != patients["c.dcm"]
    assert (patients["d.dcm"], patients["P1_a.png"]) == ("d", "P1_a")
    assert len(inputs.named) == 3
    assert not any("oe" in patient for patient in patients.values())
    assert {item.patient for item in FileInputs(scans, "^(.)").items} == {"P", "a", "b", "c", "d"}


def test_a_damaged_file_among_others_is_named_and_shown_as_such(scans: Path, tmp_path: Path) -> None:
    (scans / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    inputs = FileInputs(scans)
    number = next(n for n, item in enumerate(inputs.items) if item.input == "bad.png")
    with pytest.raises(ImageError, match=r"bad\.png"):
        inputs.read(number)
    with pytest.raises(ImageError):
        Labels(inputs, tmp_path / "labels").save(number, 0, [])


def test_a_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    """The page of the whole folder was an error."""
    (tmp_path / "scans").mkdir()
    cv2.imwrite(str(tmp_path / "scans" / "good.png"), np.zeros((9, 9), np.uint8))
    shutil.copy(os.fsencode(tmp_path / "scans" / "good.png"), os.fsencode(tmp_path) + b"/scans/m\xfcller.png")
    inputs = FileInputs(tmp_path / "scans")
    assert [item.name for item in inputs.items] == ["good", r"m\udcfcller"]
    assert list(inputs.faults) == [r"m\udcfcller.png"]
    json.dumps(inputs.items, ensure_ascii=False).encode()
    assert inputs.read(0).shape == (9, 9)
    with pytest.raises(ImageError, match="is not UTF-8"):
        inputs.read(1)


def test_files_are_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    for name in ("10.png", "2.png", "1.png", "b/frame9.png", "b/frame10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8), np.uint8))
    moved: list[tuple[int, int]] = []
    inputs = [item.input for item in FileInputs(tmp_path, move=lambda *counts: moved.append(counts)).items]
    assert moved == [(n, 5) for n in range(1, 6)]
    assert inputs == ["1.png", "2.png", "10.png", "b/frame9.png", "b/frame10.png"]


def test_few_files_of_a_folder_are_in_memory(tmp_path: Path) -> None:
    """All of them were: 5,000 files of a megabyte took 5 GB."""
    for n in range(30):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((8, 8), n, np.uint8))
    inputs = FileInputs(tmp_path)
    assert [int(inputs.read(n)[0, 0]) for n in range(30)] == list(range(30))
    held = [entry for entry in gc.get_objects() if type(entry) is Still and entry.path.parent == tmp_path]
    assert len(held) < 10
    (tmp_path / "3.png").unlink()
    with pytest.raises(ImageError, match=r"3\.png does not exist"):
        inputs.read(3)


def test_an_invalid_pattern(scans: Path) -> None:
    with pytest.raises(UsageError, match="--patient"):
        FileInputs(scans, "(")


def test_a_folder_that_cannot_be_listed_is_not_empty(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scans / "locked").mkdir()
    scandir = os.scandir

    def refused(folder: Any) -> Any:
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(ImageError, match="locked cannot be listed: Permission denied"):
        FileInputs(scans)


def test_what_a_killed_server_left_is_removed(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    out.mkdir()
    (out / ".labels.json.host.1.tmp").write_text('{"images"')
    labels = Labels(FileInputs(scans), out)
    assert labels.records == {}
    assert [file.name for file in out.iterdir()] == [".lock"]
    labels.close()


def test_masks_to_start_from_are_saved_once_they_are_confirmed(scans: Path, tmp_path: Path) -> None:
    """As `us43d predict` writes them: the file's path and frame 0."""
    mask, other = disc(30, 20, 9), disc(40, 30, 5)

    def written(name: str, size: tuple[int, int] = SHAPE) -> Path:
        image = {"id": 1, "file_name": name, "frame": 0, "width": size[1], "height": size[0]}
        runs = {"size": list(size), "counts": encode(disc(30, 20, 9, size)).decode()}
        content = {
            "images": [image],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "segmentation": runs}],
            "categories": [{"id": 7, "name": "thyroid_nodule"}],
        }
        file = tmp_path / "predictions.json"
        file.write_text(json.dumps(content))
        return file

    inputs = FileInputs(scans)
    assert inputs.start_from(written("P1_b.png")) == (1, "")
    labels = Labels(inputs, tmp_path / "labels")
    assert labels.state(1)["objects"] == [thing(mask, origin="propagated")]
    assert not labels.state(0)["objects"]
    assert not labels.file.exists()
    labels.save(1, 0, [thing(other)], reviewed=True)
    assert labels.state(1)["objects"] == [thing(other)]

    assert inputs.start_from(written("P2_a.png", (30, 40))) == (2, "")
    with pytest.raises(ImageError, match="80 × 60 pixels, its masks 40 × 30"):
        labels.state(2)
    with pytest.raises(UsageError, match="no mask of these images"):
        FileInputs(scans).start_from(written("elsewhere/P1_b.png"))

    content = json.loads(written("P1_b.png").read_text("utf-8"))
    content["images"] += [content["images"][0] | {"id": 2, "file_name": "elsewhere.png"}]
    empty = {"segmentation": [[1, 1, 2, 1, 1, 2]], "image_id": 1, "category_id": 7, "id": 2}
    content["annotations"] += [empty, content["annotations"][0] | {"id": 3, "image_id": 2}]
    (tmp_path / "more.json").write_text(json.dumps(content))
    excluded = "1 that enclose no pixel, 1 of other images"
    assert FileInputs(scans).start_from(tmp_path / "more.json") == (1, excluded)
