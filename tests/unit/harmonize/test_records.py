"""What a block writes of a sample: ids, records, and samples that cannot be written."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from us43d.contract import Sample
from us43d.errors import MaskMismatch, RawDataError
from us43d.harmonize import blocks, ids, records
from us43d.harmonize.pixels import pixel_hash
from us43d.harmonize.records import Annotation, Record, Written
from us43d.masks.read import rgb

RECORD = Record(
    id=1, key="a\n\x85é", group="g", official="test", frame=0, spacing=(1, 0.1), slice=None,
    tags={"age": 40, "weight": 40.0, "left": True, "code": "040", "tiny": 1e-300}, remarks=("one", "two"), masks=1,
    image=Written(file="f", sha256="s", bytes=9, kept=True, height=2, width=3, pixel_hash="p", phash=2**64 - 1),
    annotations=(Annotation(label="l", instance=0, counts="01", area=5, box=(0, 0, 2, 2), speck=True),),
)  # fmt: skip


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    dropped = Record(id=2, key="b", group="b", official=None, frame=None, spacing=None, slice=0.5, tags={},
                     remarks=(), drop="blurred")  # fmt: skip
    path = tmp_path / "records.jsonl"
    path.write_bytes(records.dump([RECORD, dropped]))
    found = list(records.lines(path))
    assert [records.parse(line) for _, line in found] == [RECORD, dropped]
    with path.open("rb") as file:
        file.seek(found[1][0])
        assert records.parse(file.readline()) == dropped


def test_numbers_keep_their_type_in_the_files() -> None:
    """1 and 1.0 are other bytes in a COCO file."""
    (line,) = records.dump([RECORD]).splitlines()
    after = records.parse(line)
    assert [type(value) for value in after.tags.values()] == [int, float, bool, str, float]
    assert after.spacing is not None
    assert [type(value) for value in after.spacing] == [int, float]


def test_ids_are_these_for_ever() -> None:
    """The first 53 bits of a hash: corrections, verdicts and predictions name images and annotations by them."""
    for found, text in (
        (ids.Ids("busi").image("benign/benign (1).png"), "image\0busi\0benign/benign (1).png"),
        (ids.annotation_id(7, "tumour", 2), "annotation\x007\0tumour\x002"),
    ):
        assert found == int(hashlib.sha256(text.encode()).hexdigest()[:14], 16) >> 3


def test_ids_that_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ids, "_digest", lambda kind, *parts: 7 if len(parts) == 2 else (kind == "image") * 100 + int(parts[2])
    )
    source = ids.Ids("s")
    assert [source.image(key) for key in "abc"] == [7, 101, 102]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.float32), np.zeros((0, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)]
)
def test_an_image_that_cannot_be_written_is_named(tmp_path: Path, image: Any) -> None:
    wrong = blocks.run(blocks.Block(0, tmp_path, ((1, Sample(key="k", image=image)),), blocks.Options({}, False)))
    assert len(wrong) == 1
    assert wrong[0].startswith("k: ")
    assert not records.path_of(tmp_path, 0).exists()


def test_a_mask_of_another_size_needs_a_rule(tmp_path: Path) -> None:
    image, mask = np.zeros((8, 6), np.uint8), np.ones((4, 3), bool)
    options = blocks.Options({}, False)
    with pytest.raises(MaskMismatch, match="its mask is 3 × 4 pixels, the image 6 × 8"):
        blocks._mask(mask, Sample(key="k", image=image), (8, 6), {}, [])
    fitting = Sample(key="k", image=image, masks={"l": mask}, fit="nearest")
    assert blocks.run(blocks.Block(0, tmp_path, ((1, fitting),), options)) == []
    ((_, line),) = records.lines(records.path_of(tmp_path, 0))
    assert records.parse(line).annotations[0].area == 48


def test_colours_of_an_array_stay(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    block = blocks.Block(0, tmp_path, ((1, Sample(key="k", image=image)),), blocks.Options({}, False))
    assert blocks.run(block) == []
    (path,) = tmp_path.rglob("*.png")
    assert np.array_equal(rgb(path), image)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(RawDataError, match=r"gone\.png cannot be read"):
        blocks._image(Sample(key="k", image=tmp_path / "gone.png"), {}, [])


@pytest.mark.parametrize(
    ("array", "head", "data"),
    [
        (np.array([[1, 2, 3], [4, 5, 6]], np.uint8), b"2,3,1,8", bytes([1, 2, 3, 4, 5, 6])),
        (np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8), b"1,2,3,8", bytes([1, 2, 3, 4, 5, 6])),
        (np.array([[258]], ">u2"), b"1,1,1,16", b"\x02\x01"),
    ],
)
def test_the_hash_of_pixels_is_this_for_ever(array: np.ndarray, head: bytes, data: bytes) -> None:
    """Links between images, lists of duplicates and verdicts of reviews hold it."""
    assert pixel_hash(array) == hashlib.sha256(head + data).hexdigest()
