"""Claims that are checked before a decoder runs, and TIFF files whose damage is an error."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from us43d import limits, masks, tiff
from us43d.errors import UnreadableFile

PATH = Path("image")


def speckle(shape: tuple[int, ...] = (90, 120)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def tiff_bytes(array: np.ndarray, **how: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **how)
    return file.getvalue()


def tiff_bomb(side: int = 30_000, rows: int = 1000) -> bytes:
    """A few kilobytes that claim side × side × 3 pixels; every strip is the same one."""
    strip = zlib.compress(bytes(side * 3 * rows), 9)
    strips = side // rows
    head = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 3),
            (278, 4, 1, rows)]  # fmt: skip
    table = 8 + 2 + 12 * (len(head) + 2) + 4
    data = table + 8 * strips
    head = sorted([*head, (273, 4, strips, table), (279, 4, strips, table + 4 * strips)])
    return b"".join((
        b"II*\0", struct.pack("<IH", 8, len(head)), *(struct.pack("<HHII", *entry) for entry in head),
        struct.pack("<I", 0), struct.pack(f"<{strips}I", *[data] * strips),
        struct.pack(f"<{strips}I", *[len(strip)] * strips), strip,
    ))  # fmt: skip


def bmp_bomb() -> bytes:
    """A run-length encoded BMP of 60 bytes that claims 50,000 × 50,000 pixels."""
    head = struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 8, 1, 4, 0, 0, 1, 0)
    return b"BM" + struct.pack("<IHHI", 62, 0, 0, 58) + head + b"\0\0\0\0" + b"\0\1"


def jpeg_of_scans(scans: int) -> bytes:
    data = cv2.imencode(".jpg", speckle(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return data[:-2] + b"\xff\xda\0\0" * scans + b"\xff\xd9"


def peak() -> int:
    """The most memory that this process has had, in kB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


@pytest.mark.parametrize(
    ("name", "data"), [("a.png", tiff_bomb()), ("a.jpg", bmp_bomb()), ("a.bmp", jpeg_of_scans(200))]
)
@pytest.mark.parametrize("read", [masks.image, masks.grey, masks.rgb, masks.binary])
def test_a_claim_is_refused_before_anything_is_decoded(tmp_path: Path, name: str, data: bytes, read: object) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    Path("/proc/self/clear_refs").write_text("5")  # earlier tests may have needed more: their peak is forgotten
    before = peak()
    with pytest.raises(UnreadableFile, match=f"{name}.*(allowed|more than)"):
        read(path)  # type: ignore[operator]
    assert peak() - before < 200_000  # kB


def test_the_limits_let_the_largest_images_through_and_nothing_beyond() -> None:
    limits.check_size(PATH, 8192, 8192, 3)
    for width, height, channels, itemsize in ((16_384, 8_193, 1, 1), (8192, 8192, 3, 2), (0, 5, 1, 1), (-4, -4, 1, 1)):
        with pytest.raises(UnreadableFile, match="image claims"):
            limits.check_size(PATH, width, height, channels, itemsize)


@pytest.mark.parametrize(
    "how",
    [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"compression": "packbits"},
     {"compression": "lzw", "predictor": True},
     {"tile": (32, 32)}, {"byteorder": ">"}],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 3)])
def test_tiff_pixels_are_those_written(shape: tuple[int, ...], how: dict[str, object]) -> None:
    array = speckle(shape)
    assert np.array_equal(tiff.image(tiff_bytes(array, rowsperstrip=None, **how), PATH), array)


def test_tiff_modes_mean_what_a_viewer_shows(tmp_path: Path) -> None:
    array = speckle()
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    shown = tiff.image(tiff_bytes(array, photometric="palette", colormap=palette), PATH)
    assert np.array_equal(shown, (palette >> 8).T[array])
    assert np.array_equal(tiff.image(tiff_bytes(255 - array, photometric="miniswhite"), PATH), array)
    assert np.array_equal(
        tiff.image(tiff_bytes(array > 99, photometric="minisblack"), PATH), np.where(array > 99, 255, 0)
    )
    colour = speckle((90, 120, 4))
    assert np.array_equal(tiff.image(tiff_bytes(colour, photometric="rgb", extrasamples=["unassalpha"]), PATH),
                          colour[:, :, :3])  # fmt: skip
    inks = tiff.image(tiff_bytes(colour, photometric="separated"), PATH).astype(int)
    paper = (255 - colour[..., :3].astype(int)) * (255 - colour[..., 3:].astype(int)) / 255
    assert np.abs(inks - paper).max() <= 1
    with pytest.raises(UnreadableFile, match="colour model"):
        tiff.image(tiff_bytes(colour[..., :3], photometric="cielab"), PATH)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_bytes(array))
    assert np.array_equal(masks.image(path), array)
    assert np.array_equal(masks.grey(path), array)
    assert np.array_equal(masks.rgb(path), np.stack([array] * 3, axis=-1))


@pytest.mark.parametrize("compression", ["zlib", None, "lzw"])
def test_a_tiff_that_is_cut_or_has_a_short_strip_is_an_error(compression: str | None) -> None:
    data = tiff_bytes(speckle(), compression=compression, rowsperstrip=16)
    with pytest.raises(UnreadableFile, match="damaged or truncated TIFF"):
        tiff.image(data[: len(data) - 400], PATH)


def test_no_bit_of_a_deflated_tiff_changes_pixels_silently() -> None:
    array = speckle()
    data = tiff_bytes(array, compression="zlib", rowsperstrip=16)
    start = data.index(b"\x78")  # the first strip; a header's bits say what the picture is, not how it was stored
    rng = np.random.default_rng(5)
    refused = 0
    for bit in rng.integers(start * 8, len(data) * 8 - 64, 60):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << (bit % 8)
        try:
            assert np.array_equal(tiff.image(bytes(spoilt), PATH), array)
        except UnreadableFile:
            refused += 1
    assert refused > 50
