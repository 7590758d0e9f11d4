"""MetaImages against the files SimpleITK writes."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from us43d import masks
from us43d.errors import UnreadableFile


def write(path: Path, array: np.ndarray, compressed: bool) -> None:
    picture = sitk.GetImageFromArray(array)
    picture.SetSpacing((0.28, 0.31, 1.0)[: array.ndim])
    sitk.WriteImage(picture, str(path), compressed)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_every_frame_in_any_order(tmp_path: Path, compressed: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, (7, 40, 52)).astype(dtype)
    write(tmp_path / "a.mha", volume, compressed)
    shape, spacing = masks.mha_shape(tmp_path / "a.mha")
    assert shape == (52, 40, 7)
    assert spacing == pytest.approx((0.28, 0.31, 1.0))
    for index in (0, 1, 2, 6, 6, 3, 0):
        found = masks.mha_frame(tmp_path / "a.mha", index)
        assert found.dtype == dtype
        assert np.array_equal(found, volume[index])
    with pytest.raises(UnreadableFile, match="7 frames, no frame 7"):
        masks.mha_frame(tmp_path / "a.mha", 7)


@pytest.mark.parametrize(
    ("name", "axes"), [("TransformMatrix", "-1 0 0 1"), ("Orientation", "-1 0 0 1"), ("Comment", "")]
)
def test_the_directions_of_axes(tmp_path: Path, name: str, axes: str) -> None:
    write(tmp_path / "a.mha", np.zeros((3, 4), np.uint8), False)
    data = (tmp_path / "a.mha").read_bytes()
    assert data.count(b"TransformMatrix = 1 0 0 1") == 1
    (tmp_path / "b.mha").write_bytes(data.replace(b"TransformMatrix = 1 ", f"{name} = -1  ".encode()))
    assert masks.mha_axes(tmp_path / "b.mha") == axes


def test_a_picture_is_frame_0(tmp_path: Path) -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write(tmp_path / "a.mha", picture, False)
    assert np.array_equal(masks.mha_frame(tmp_path / "a.mha", 0), picture)


@pytest.mark.parametrize(
    ("order", "values"),
    [
        ("BinaryDataByteOrderMSB = True", [0x102, 0x304]),
        ("ElementByteOrderMSB = True", [0x102, 0x304]),
        ("BinaryDataByteOrderMSB = False\nElementByteOrderMSB = True", [0x201, 0x403]),
        ("NDims = 2", [0x201, 0x403]),
    ],
)
def test_which_byte_is_first(tmp_path: Path, order: str, values: list[int]) -> None:
    head = f"{order}\nDimSize = 2 1\nElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + b"\x01\x02\x03\x04")
    assert masks.mha_frame(tmp_path / "a.mha", 0).tolist() == [values]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("UCHAR", "u1"), ("CHAR", "i1"), ("USHORT", "u2"), ("SHORT", "i2"), ("UINT", "u4"), ("INT", "i4"),
     ("FLOAT", "f4"), ("DOUBLE", "f8")],
)  # fmt: skip
def test_every_type(tmp_path: Path, name: str, dtype: str) -> None:
    values = np.array([[1, 2, 100]], dtype)
    head = f"DimSize = 3 1\nElementType = MET_{name}\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + values.tobytes())
    assert masks.mha_frame(tmp_path / "a.mha", 0).dtype == dtype
    assert np.array_equal(masks.mha_frame(tmp_path / "a.mha", 0), values)


@pytest.mark.parametrize(
    ("lines", "spacing"),
    [
        ("", (1, 1)),
        ("ElementSize = 0.5 0.25\n", (0.5, 0.25)),
        ("ElementSize = 0.5 0.25\nElementSpacing = 2 3\n", (2, 3)),
    ],
)
def test_spacing(tmp_path: Path, lines: str, spacing: tuple[float, ...]) -> None:
    head = f"{lines}DimSize = 2 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(head.encode() + b"\x01\x02")
    assert masks.mha_shape(tmp_path / "a.mha") == ((2, 1), spacing)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_file_is_an_error_for_every_frame(tmp_path: Path, compressed: bool) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (7, 40, 52), dtype=np.uint8)
    write(tmp_path / "a.mha", volume, compressed)
    whole = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "b.mha").write_bytes(whole[: len(whole) // 2])
    for frame in (0, 6):
        with pytest.raises(UnreadableFile, match=r"b\.mha is cut short"):
            masks.mha_frame(tmp_path / "b.mha", frame)


def test_no_bit_of_compressed_pixels_changes_them_silently(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 255, (3, 20, 26), dtype=np.uint8)
    write(tmp_path / "a.mha", volume, True)
    whole = (tmp_path / "a.mha").read_bytes()
    start = whole.index(b"LOCAL\n") + 6
    for number, bit in enumerate(np.random.default_rng(1).integers(start * 8, len(whole) * 8, 60)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        path = tmp_path / f"{number}.mha"
        path.write_bytes(spoilt)
        try:
            assert np.array_equal(masks.mha_frame(path, 0), volume[0]), bit
        except UnreadableFile:
            continue
        assert np.array_equal(masks.mha_frame(path, 2), volume[2]), bit


def test_more_pixels_than_the_header_says(tmp_path: Path) -> None:
    write(tmp_path / "a.mha", np.zeros((7, 40, 52), np.uint8), True)
    data = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "b.mha").write_bytes(data.replace(b"DimSize = 52 40 7", b"DimSize = 52 40 1"))
    with pytest.raises(UnreadableFile, match="holds more pixels"):
        masks.mha_frame(tmp_path / "b.mha", 0)


def test_damaged_pixels(tmp_path: Path) -> None:
    write(tmp_path / "a.mha", np.zeros((7, 40, 52), np.uint8), True)
    data = (tmp_path / "a.mha").read_bytes()
    start = data.index(b"LOCAL\n") + 6
    (tmp_path / "b.mha").write_bytes(data[:start] + b"\0" * (len(data) - start))
    with pytest.raises(UnreadableFile, match=r"b\.mha is damaged"):
        masks.mha_frame(tmp_path / "b.mha", 0)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("", "not a MetaImage with binary pixels"),
        ("<html>", "not a MetaImage with binary pixels"),
        ("BinaryData = False\nElementDataFile = LOCAL\n", "not a MetaImage with binary pixels"),
        ("DimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = ../pixels.raw\n", "not one file beside it"),
        ("ElementDataFile = .\n", "not one file beside it"),
        ("ElementDataFile = ..\n", "not one file beside it"),
        ("ElementDataFile = sub\\a.raw\n", "not one file beside it"),
        ("ElementDataFile = LIST\n", "not one file beside it"),
        ("ElementDataFile = LIST 2D\n", "not one file beside it"),
        ("ElementDataFile = a%d.raw 1 4 1\n", "not one file beside it"),
        ("HeaderSize = -1\nElementDataFile = a.mha\n", "not one file beside it"),
        ("ElementDataFile = missing.raw\n", "which is missing beside it"),
        ("ElementType = MET_UCHAR\nElementDataFile = LOCAL\n", "no readable MetaImage header"),
        ("DimSize = 4 x 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n", "no readable MetaImage header"),
        ("DimSize = 99999 99999 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n", "claims 99999 × 99999"),
        ("DimSize = 4 4 4\nElementNumberOfChannels = 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
         "in 2 channels"),
    ],
)  # fmt: skip
def test_no_stack_of_pictures(tmp_path: Path, head: str, message: str) -> None:
    (tmp_path / "a.mha").write_text(head)
    with pytest.raises(UnreadableFile, match=rf"a\.mha .*{message}"):
        masks.mha_shape(tmp_path / "a.mha")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_in_a_file_beside_it(tmp_path: Path, compressed: bool, channels: int) -> None:
    shape = (40, 52) if channels == 1 else (40, 52, channels)
    array = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=channels == 3), str(tmp_path / "a.mhd"), compressed)
    pixels = tmp_path / ("a.zraw" if compressed else "a.raw")
    assert masks.mha_pixels(tmp_path / "a.mhd") == pixels
    assert masks.mha_shape(tmp_path / "a.mhd")[0] == (52, 40)
    assert np.array_equal(masks.mha_frame(tmp_path / "a.mhd", 0), array)
    (tmp_path / "a.mhd").write_text((tmp_path / "a.mhd").read_text().replace(pixels.name, f"X{pixels.name}"))
    pixels = pixels.rename(pixels.with_name(f"X{pixels.name}"))
    assert masks.mha_pixels(tmp_path / "a.mhd") == pixels
    upper = tmp_path / "upper"
    upper.mkdir()
    (tmp_path / "a.mhd").rename(upper / "A.MHD")
    pixels.rename(upper / pixels.name.upper())
    assert np.array_equal(masks.mha_frame(upper / "A.MHD", 0), array)
    (upper / pixels.name.upper()).write_bytes(b"\0" * 100)
    (upper / "A.MHD").rename(upper / "b.mhd")
    with pytest.raises(UnreadableFile, match=r"is cut short|is damaged"):
        masks.mha_frame(upper / "b.mhd", 0)
