"""NRRD volumes against the files SimpleITK writes."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from us43d import masks
from us43d.errors import UnreadableFile

HEAD = "NRRD0004\n# a remark\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nwriter:=any\n"
PIXELS = bytes(range(24))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_frame_in_any_order(tmp_path: Path, compressed: bool, dtype: str) -> None:
    volume = np.random.default_rng(0).integers(0, 127, (7, 40, 52)).astype(dtype)
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(path), compressed)
    assert masks.nrrd_size(path) == (52, 40, 7)
    for index in (0, 1, 6, 6, 3, 0):
        frame = masks.nrrd_frame(path, index)
        assert frame.dtype == dtype
        assert np.array_equal(frame, volume[index])
    with pytest.raises(UnreadableFile, match="7 frames, no frame 7"):
        masks.nrrd_frame(path, 7)


def test_an_image_is_frame_0(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(3, dtype=np.uint8)), str(tmp_path / "a.nrrd"))
    assert masks.nrrd_size(tmp_path / "a.nrrd") == (3, 3, 1)
    assert np.array_equal(masks.nrrd_frame(tmp_path / "a.nrrd", 0), np.eye(3))


def test_high_byte_first(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: ushort\ndimension: 2\nsizes: 2 1\nendian: big\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + b"\x01\x02\x03\x04")
    assert masks.nrrd_frame(tmp_path / "a.nrrd", 0).tolist() == [[0x102, 0x304]]


SPELLINGS = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t", "UINT8"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}


@pytest.mark.parametrize("dtype", SPELLINGS)
def test_every_spelling_of_a_type(tmp_path: Path, dtype: str) -> None:
    values = np.array([[1, 2, 100]], dtype)
    for number, name in enumerate(SPELLINGS[dtype]):
        path = tmp_path / f"{number}.nrrd"
        path.write_bytes(f"NRRD0004\ntype: {name}\nsizes: 3 1\nencoding: raw\n\n".encode() + values.tobytes())
        assert masks.nrrd_frame(path, 0).dtype == dtype
        assert np.array_equal(masks.nrrd_frame(path, 0), values)


def test_remarks_and_notes_of_the_writer_are_no_fields(tmp_path: Path) -> None:
    """A note is "name:=value", a remark begins with #; "gz" is gzip; without `endian` the low byte is first."""
    head = "NRRD0004\ntype: ushort\nsizes: 2 1\nencoding: gz\n#sizes: 1 1\nsizes:=1 1\n# type: float\ntype\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + gzip.compress(b"\x02\x01\x04\x03"))
    assert masks.nrrd_frame(tmp_path / "a.nrrd", 0).tolist() == [[0x102, 0x304]]


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_cut_file_is_an_error_for_every_frame(tmp_path: Path, encoding: str) -> None:
    pixels = PIXELS if encoding == "raw" else gzip.compress(PIXELS)
    (tmp_path / "a.nrrd").write_bytes(f"{HEAD}encoding: {encoding}\n\n".encode() + pixels[:-2])
    for frame in (0, 1):
        with pytest.raises(UnreadableFile, match=r"a\.nrrd is cut short"):
            masks.nrrd_frame(tmp_path / "a.nrrd", frame)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("encoding: bzip2\n\n", "in the encoding 'bzip2'"),
        ("encoding: raw\ndata file: /etc/passwd\n\n", "with 'data file'"),
        ("encoding: raw\ndatafile: a.raw\n\n", "with 'datafile'"),
        *(
            (f"encoding: raw\n{unit}{gap}skip: -1\n\n", f"with '{unit}{gap}skip'")
            for unit in ("byte", "line")
            for gap in ("", " ")
        ),
        ("encoding: raw\nsizes: 99999 99999 2\n\n", "claims 99999 × 99999 pixels"),
        ("\n", "in the encoding ''"),
        ("encoding: raw\nsizes: 4 3 2 2\n\n", "not that of a stack"),
        ("encoding: raw\nsizes: 4 -3 2\n\n", "not that of a stack"),
        ("encoding: raw\nsizes: four\n\n", "no readable NRRD header"),
        ("encoding: raw\ntype: block\n\n", "no readable NRRD header"),
        ("a: b\n" * 300, "more than the 200 header lines"),
    ],
)
def test_what_is_not_a_stack_of_frames(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "a.nrrd").write_bytes((HEAD + more).encode() + PIXELS)
    with pytest.raises(UnreadableFile, match=message):
        masks.nrrd_size(tmp_path / "a.nrrd")


def test_another_format(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"<html>")
    with pytest.raises(UnreadableFile, match=r"a\.nrrd is not an NRRD file"):
        masks.nrrd_size(tmp_path / "a.nrrd")
