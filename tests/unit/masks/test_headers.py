"""Headers of PNG and JPEG, read without decoding: size, depth, channels, and whether decoders agree on pixels."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from us43d import masks
from us43d.errors import UnreadableFile
from us43d.masks.read import Header, check_complete, decode, header, png_chunks

PATH = Path("a")


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(colour: int, bits: int, *extra: bytes) -> bytes:
    """A PNG of 7 × 5 pixels without pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IEND")


@pytest.mark.parametrize(
    ("colour", "bits", "extra", "channels", "plain"),
    [
        (0, 8, b"tEXt", 1, True), (2, 8, b"pHYs", 3, True), (0, 8, b"tRNS", 1, False), (2, 8, b"eXIf", 3, False),
        (0, 16, b"tEXt", 1, False), (2, 16, b"tEXt", 3, False), (0, 1, b"tEXt", 1, False), (3, 8, b"tEXt", 3, False),
        (4, 8, b"tEXt", 2, False), (6, 8, b"tEXt", 4, False),
    ],
)  # fmt: skip
def test_the_header_of_a_png(colour: int, bits: int, extra: bytes, channels: int, plain: bool) -> None:
    data = png(colour, bits, chunk(extra, b"1234"))
    assert header(data, PATH) == Header("png", 7, 5, bits, channels, plain)
    assert png_chunks(data) == {b"IHDR", extra, b"IEND"}
    assert png_chunks(data[:-5]) == {b"IHDR", extra}  # the rest of a chunk without room for its name
    with pytest.raises(UnreadableFile, match="a claims 7 × 5 pixels in 0 channels"):
        header(png(5, bits), PATH)
    for damaged in (data[:32], data[:12] + b"IHDX" + data[16:]):
        with pytest.raises(UnreadableFile, match=rf"is a PNG without its header \(the file has {len(damaged)} bytes\)"):
            header(damaged, PATH)


def test_a_png_is_complete_to_its_last_byte() -> None:
    data = png(0, 8, chunk(b"IDAT", b"12345"))
    head = Header("png", 7, 5, 8, 1, True)
    check_complete(data, PATH, head)
    check_complete(data + b"more", PATH, head)
    for length in range(8, len(data)):
        with pytest.raises(UnreadableFile, match=rf"is a truncated PNG \({length} bytes\)"):
            check_complete(data[:length], PATH, head)
    for at in range(37, 50):  # from the name of the chunk to its checksum
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(UnreadableFile, match=r"is a damaged PNG: the checksum of b'.*' differs"):
            check_complete(bytes(damaged), PATH, head)


@pytest.mark.parametrize(
    ("rows", "head", "told"),
    [
        (bytes(39), b"", "is not a readable PNG: its rows are cut short"),
        (bytes(32) + b"\5" + bytes(7), b"", "is not a readable PNG: its rows are cut short, or filtered"),
        (bytes(40), b"\0\0", "is a damaged PNG: Error -3 while decompressing data"),
    ],
)
@pytest.mark.parametrize("flags", [cv2.IMREAD_UNCHANGED, cv2.IMREAD_GRAYSCALE])
def test_a_damaged_png_gives_one_message(
    rows: bytes, head: bytes, told: str, flags: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its checksums are right; libpng would write lines to stderr."""
    pixels = zlib.compress(rows)
    data = png(0, 8, chunk(b"IDAT", head + pixels[len(head) :]))
    with pytest.raises(UnreadableFile, match=told):
        decode(data, PATH, flags)
    assert capfd.readouterr().err == ""


def test_checksums_of_chunks_that_tell_the_pixels_are_compared(capfd: pytest.CaptureFixture[str]) -> None:
    image = np.arange(35, dtype=np.uint8).reshape(5, 7)
    data = cv2.imencode(".png", image)[1].tobytes()
    text = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    readable = data[:33] + text + data[33:]
    assert (decode(readable, PATH) == image).all()  # as libpng, which warns
    damaged = bytearray(data)
    damaged[data.index(b"IDAT") + 9] ^= 1
    with pytest.raises(UnreadableFile, match=r"is a damaged PNG: the checksum of b'IDAT' differs"):
        decode(bytes(damaged), PATH)
    assert "libpng error" not in capfd.readouterr().err


@pytest.mark.parametrize("end", ["", "\n", " ", "\n# a note"])
@pytest.mark.parametrize(("start", "values", "last"), [("P2", (0, 9, 90, 255), 255), ("P3", (0, 1, 2) * 4, 2)])
def test_pixels_as_text_need_no_line_at_the_end(end: str, start: str, values: tuple[int, ...], last: int) -> None:
    text = f"{start}\n2 2\n255\n{' '.join(map(str, values))}{end}"
    array = decode(text.encode(), PATH)
    assert (array if start == "P2" else array[:, :, ::-1]).ravel().tolist() == list(values)
    with pytest.raises(UnreadableFile, match="is not a readable image"):
        decode(text.removesuffix(f"{last}{end}").encode(), PATH)


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(data)) + data


def frame(marker: int = 0xC0, bits: int = 8, channels: int = 3) -> bytes:
    return segment(marker, struct.pack(">BHHB", bits, 5, 7, channels))


def exif(order: str, *tags: tuple[int, int]) -> bytes:
    """An Exif segment with tags of 16 bits."""
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    first = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 12) + b"gap!"
    return segment(0xE1, b"Exif\0\0" + first + struct.pack(order + "H", len(tags)) + entries)


JPEG = b"\xff\xd8"


@pytest.mark.parametrize(
    ("data", "channels", "plain"),
    [
        (JPEG + frame(), 3, True),
        (JPEG + frame(channels=1), 1, True),
        (JPEG + frame(channels=4), 4, False),
        (JPEG + b"\xff\xff\xff" + frame()[1:], 3, True),  # fill bytes
        (JPEG + b"\xff\xff" + frame()[1:], 3, True),
        (JPEG + segment(0xE0, bytes(300)) + frame(), 3, True),
        (JPEG + segment(0xE0, b"JFIF") + segment(0xC4, b"table") + frame(), 3, True),
        (JPEG + segment(0xC8, b"\x08" * 9) + segment(0xCC, b"\x08" * 9) + frame(0xC2), 3, True),
        (JPEG + exif("<", (0x010F, 1), (0x0112, 6)) + frame(0xCF), 3, False),
        (JPEG + exif(">", (0x0112, 3)) + frame(0xC1), 3, False),
        (JPEG + exif(">", (0x010F, 6), (0x0112, 1)) + frame(), 3, True),
        (JPEG + exif("<", (0x010F, 6)) + frame(), 3, True),
        (JPEG + segment(0xE1, b"Exif\0\0II\x2a\0\x0c\0\0\0gap!\x01\0") + frame(), 3, True),  # cut
        (JPEG + segment(0xE1, b"http://ns.adobe.com") + frame(), 3, True),
        (JPEG + exif(">", (0x0112, 6)).replace(b"Exif", b"exif") + frame(), 3, True),
        (JPEG + exif(">", (0x0112, 6)).replace(b"\xff\xe1", b"\xff\xe2") + frame(), 3, True),
        (JPEG + frame() + b"\xff\xda" * 100, 3, True),
    ],
)  # fmt: skip
def test_the_header_of_a_jpeg(data: bytes, channels: int, plain: bool) -> None:
    assert header(data, PATH) == Header("jpeg", 7, 5, 8, channels, plain)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (JPEG + frame()[:-1], "is a JPEG without a frame header (the file has 11 bytes)."),
        (
            JPEG + segment(0xE0, b"x" * 20) + b"\0" + frame(),
            "is a JPEG without a frame header (the file has 37 bytes).",
        ),
        (JPEG + segment(0xD0, b"x" * 20) + segment(0xBF, b"x" * 20), "is a JPEG without a frame header"),
        (JPEG + segment(0xF7, b"x" * 20), "is a JPEG-LS image, which is not read here. Save it as PNG or TIFF."),
        (JPEG + frame(bits=12), "is a JPEG of 12 bits, where 8 are read. Save it as PNG or TIFF."),
        (JPEG + frame() + b"\xff\xda" * 101, "is a JPEG of more than 100 scans."),
    ],
)
def test_jpegs_that_are_not_read(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        header(data, PATH)
    assert caught.value.what.startswith(f"a {said}")


def test_a_jpeg_is_complete_with_its_end() -> None:
    head = Header("jpeg", 7, 5, 8, 3, True)
    check_complete(JPEG + b"\xff\xda..\xff\xd9", PATH, head)
    for data in (JPEG + b"\xff\xda..", JPEG + b"\xff\xd9\xff\xda..", JPEG + frame()):
        with pytest.raises(UnreadableFile, match=rf"is a truncated JPEG \({len(data)} bytes\)"):
            check_complete(data, PATH, head)


def test_other_formats_have_no_header_here() -> None:
    assert header(b"BM", PATH) is None
    assert header(b"\x89PNG\r\n\x1a\r" + bytes(40), PATH) is None
    with pytest.raises(UnreadableFile, match=r"a is not a readable image \(4 bytes, beginning b'what'\)"):
        decode(b"what", PATH)
    with pytest.raises(UnreadableFile, match=r"a is not a readable image \(0 bytes, beginning b''\)"):
        decode(b"", PATH)
    with pytest.raises(UnreadableFile, match=r"a is not a readable PNG \(45 bytes, beginning b'.x89PNG"):
        decode(png(0, 8), PATH)


def test_tiffs_are_given_as_opencv_gives_other_files(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    for name, array in (
        ("c8", colours),
        ("c16", colours.astype(np.uint16) * 257),
        ("g8", colours[..., 0]),
        ("g16", colours[..., 0].astype(np.uint16) << 8),
        ("f", colours[..., 0].astype(np.float32)),
    ):
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric=photometric)  # fmt: skip
    luma = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    for depth in (8, 16):
        assert (masks.rgb(tmp_path / f"c{depth}.tif") == colours).all()
        assert (masks.grey(tmp_path / f"c{depth}.tif") == luma).all()
        assert (masks.grey(tmp_path / f"g{depth}.tif") == [[255, 0, 0]]).all()
        assert (masks.rgb(tmp_path / f"g{depth}.tif") == np.array([[255, 0, 0]])[..., None]).all()
    assert (masks.image(tmp_path / "c16.tif") == colours.astype(np.uint16) * 257).all()
    for read in (masks.rgb, masks.grey):
        with pytest.raises(UnreadableFile, match=r"f\.tif has pixels of the type float32, where 8 or 16 bits are read"):
            read(tmp_path / "f.tif")
