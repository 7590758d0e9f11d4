"""Still images: right pixels, frames and remarks, or one message that names the file."""

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from us43d import pictures
from us43d.errors import ImageError, UnreadableFile
from us43d.masks import read as reading
from us43d.masks.convert import foreground
from us43d.pictures.still import upright

from .files import SHAPE, dicom, frames, only, remark, saved, video


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".pgm"])
def test_eight_bits_are_kept(tmp_path: Path, grey: np.ndarray, ending: str) -> None:
    assert (only(saved(grey, tmp_path / f"a{ending}")) == grey).all()


@pytest.mark.parametrize(("ending", "how"), [(".png", {}), (".bmp", {}), (".tif", {}), (".webp", {"lossless": True})])
def test_colours_are_kept(tmp_path: Path, colour: np.ndarray, ending: str, how: dict) -> None:
    assert (only(saved(colour, tmp_path / f"a{ending}", **how)) == colour).all()


def test_grey_stored_as_colour_is_grey(tmp_path: Path, grey: np.ndarray) -> None:
    assert (only(saved(np.dstack([grey] * 3), tmp_path / "a.bmp")) == grey).all()
    assert (only(saved(grey, tmp_path / "a.gif")) == grey).all()


def test_a_palette_is_applied(tmp_path: Path, colour: np.ndarray) -> None:
    """Its indices are in no order of brightness."""
    few = (colour // 64) * 85
    image = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    for ending in (".png", ".gif", ".bmp"):
        image.save(tmp_path / f"a{ending}")
        assert (only(tmp_path / f"a{ending}") == few).all(), ending


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_one_bit_is_black_and_white(tmp_path: Path, grey: np.ndarray, ending: str) -> None:
    mask = grey > 90
    Image.fromarray(mask).save(tmp_path / f"a{ending}")
    assert (only(tmp_path / f"a{ending}") == 255 * mask).all()


def test_alpha_is_left_out(tmp_path: Path, colour: np.ndarray, grey: np.ndarray) -> None:
    half = np.full(SHAPE, 128, np.uint8)
    assert (only(saved(np.dstack([colour, half]), tmp_path / "a.png")) == colour).all()
    assert (only(saved(np.dstack([grey, half]), tmp_path / "b.png")) == grey).all()


def test_cmyk_is_shown_in_rgb(tmp_path: Path, colour: np.ndarray) -> None:
    smooth = cv2.GaussianBlur(colour, (0, 0), 4)
    for ending, how in ((".jpg", {"quality": 98}), (".tif", {})):
        image = Image.fromarray(smooth).convert("CMYK")
        image.save(tmp_path / f"a{ending}", **how)
        assert np.abs(only(tmp_path / f"a{ending}").astype(int) - smooth).max() <= (12 if ending == ".jpg" else 1)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_inks_of_tiff(tmp_path: Path, planar: str) -> None:
    """As Pillow converts them; 16 bits and other inks are refused by name."""
    rng = np.random.default_rng(0)
    inks = rng.integers(0, 256, (4, 20, 30), np.uint8)
    path = tmp_path / "a.tif"

    def write(array: np.ndarray, **how: Any) -> None:
        stored = array if planar == "separate" else np.moveaxis(array, 0, -1)
        tifffile.imwrite(path, stored, photometric="separated", planarconfig=planar, **how)

    write(inks)
    wanted = np.asarray(Image.fromarray(np.moveaxis(inks, 0, -1).copy(), "CMYK").convert("RGB"))
    assert np.abs(only(path).astype(int) - wanted).max() <= 1
    write(inks.astype(np.uint16))
    with pytest.raises(ImageError, match=r"printing inks \(uint16"):
        frames(path)
    write(inks, extratags=[(332, "H", 1, 2, True)])
    with pytest.raises(ImageError, match="ink set 2"):
        frames(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_obeyed(tmp_path: Path, grey: np.ndarray, orientation: int) -> None:
    """As Pillow turns it, and as viewers do."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = cv2.GaussianBlur(grey, (0, 0), 3)
    saved(smooth, tmp_path / "a.jpg", exif=exif, quality=98)
    saved(grey, tmp_path / "a.png", exif=exif)
    saved(grey, tmp_path / "a.tif", exif=exif)
    for name in ("a.jpg", "a.png", "a.tif"):
        media = pictures.open(tmp_path / name)
        wanted = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)))
        if name == "a.tif":  # Pillow's own reader of TIFF turns it on loading, or not, as its version goes
            wanted = upright(grey, orientation)
        assert (media.frame().pixels == wanted).all(), name
        assert bool(media.remarks) == (orientation != 1)


@pytest.mark.parametrize("top", [65535, 4095, 255, 20])
def test_sixteen_bits_are_spread_by_their_range(tmp_path: Path, grey: np.ndarray, top: int) -> None:
    deep = np.rint(grey.astype(float) * top / 255).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    tifffile.imwrite(tmp_path / "a.tif", deep)
    tifffile.imwrite(tmp_path / "signed.tif", deep.astype(np.int32) - 1000)
    for name in ("a.png", "a.tif", "signed.tif"):
        assert np.abs(only(tmp_path / name) - deep * (255 / top)).max() <= 0.51, name
    assert "uint16 values are scaled to 0–255 by their range" in remark(tmp_path / "a.png")


def test_sixteen_bit_colours_are_spread_together(tmp_path: Path, colour: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), colour[:, :, ::-1].astype(np.uint16) * 3)
    assert (only(tmp_path / "a.png") == colour).all()


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.float64])
def test_signed_and_floating_tiff(tmp_path: Path, grey: np.ndarray, kind: type) -> None:
    values = grey.astype(kind) * 2 - 100
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert (only(tmp_path / "a.tif") == grey).all()


def test_values_that_are_not_finite_are_left_out_of_the_range(tmp_path: Path, grey: np.ndarray) -> None:
    grey = grey.copy()
    grey[1, :2] = (0, 255)
    values = grey.astype(np.float32) / 255
    values[0, :4] = (np.inf, -np.inf, np.nan, 0.5)
    tifffile.imwrite(tmp_path / "a.tif", values)
    pixels = only(tmp_path / "a.tif")
    assert pixels[0, :4].tolist() == [255, 0, 0, 128]
    assert (pixels[1:] == grey[1:]).all()


def test_white_is_zero(tmp_path: Path, grey: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", 255 - grey, photometric="miniswhite")
    assert (only(tmp_path / "a.tif") == grey).all()
    for values in (-grey.astype(np.int16), 1 - grey.astype(np.float32) / 255):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
        assert (only(tmp_path / "a.tif") == grey).all(), values.dtype


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_spans_the_whole_range(tmp_path: Path, grey: np.ndarray, bits: int) -> None:
    top = 2**bits - 1
    few = (grey.astype(np.uint16) * top // 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", few, bitspersample=bits)
    assert (only(tmp_path / "a.tif") == few * (255 // top)).all()


def test_ycbcr_of_tiff(tmp_path: Path, colour: np.ndarray) -> None:
    image = Image.fromarray(colour).convert("YCbCr")
    image.save(tmp_path / "a.tif")
    assert (only(tmp_path / "a.tif") == np.asarray(image.convert("RGB"))).all()
    tifffile.imwrite(
        tmp_path / "a.tif", np.asarray(image), photometric="ycbcr", subsampling=(1, 1),
        extratags=[(532, 5, 6, (15, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), True)],
    )  # fmt: skip
    with pytest.raises(ImageError, match="YCbCr colours"):
        frames(tmp_path / "a.tif")


def test_channels_that_are_neither_grey_nor_colour(tmp_path: Path, grey: np.ndarray) -> None:
    seven = np.stack([grey] * 7, axis=2)
    tifffile.imwrite(tmp_path / "a.tif", seven, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=r"MINISBLACK and the shape \(\d+, \d+, 7\)"):
        frames(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.complex64))
    with pytest.raises(ImageError, match="complex64"):
        frames(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_second_channel_that_is_not_alpha_is_refused(tmp_path: Path, grey: np.ndarray, planar: str) -> None:
    two = np.stack([grey, 255 - grey], axis=0 if planar == "separate" else 2)
    how: Any = {"photometric": "minisblack", "planarconfig": planar}
    tifffile.imwrite(tmp_path / "a.tif", two, **how)
    with pytest.raises(ImageError, match=r"MINISBLACK and the shape \(\d+, \d+, 2\)"):
        frames(tmp_path / "a.tif")
    with pytest.raises(UnreadableFile, match="MINISBLACK"):
        foreground(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", two, **how, extrasamples=["unassalpha"])
    assert (only(tmp_path / "a.tif") == grey).all()


@pytest.mark.parametrize("kind", [b"P1", b"P2", b"P4", b"P5", b"P6", b"P5 deep", b"P6 deep", b"Pf"])
def test_several_images_in_a_pnm_are_refused(tmp_path: Path, kind: bytes) -> None:
    text = kind in (b"P1", b"P2")
    samples = (3 if kind[:2] == b"P6" else 1) * (2 if b"deep" in kind else 1)
    pixels = b"0 1 " * 10 + b"\n" if text else bytes(4) if kind == b"P4" else b"\0P" * (10 * samples)
    highest = b"" if kind in (b"P1", b"P4") else b"900\n" if b"deep" in kind else b"255\n"
    if kind == b"Pf":  # 32 bits, of which any may look like the start of an image
        pixels, highest = b"P\0\0\0" * 20, b"-1.0\n"
    data = kind[:2] + b"\n5 4\n" + highest + pixels
    (tmp_path / "a.pnm").write_bytes(data + b"\n")
    assert only(tmp_path / "a.pnm").shape[:2] == (4, 5)
    (tmp_path / "a.pnm").write_bytes(data + data)
    with pytest.raises(ImageError, match="holds several images, of which one is read"):
        frames(tmp_path / "a.pnm")


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", None])
def test_pages_are_frames(tmp_path: Path, grey: np.ndarray, compression: str | None) -> None:
    stack = [np.full(SHAPE, 10, np.uint8), grey, grey[:50, :60]]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in stack:
            file.write(page, compression=compression)
    media = pictures.open(tmp_path / "a.tif")
    assert media.count == 3
    assert [frame.name for frame in media.frames()] == ["a_00000", "a_00001", "a_00002"]
    assert all((one == other).all() for one, other in zip(frames(tmp_path / "a.tif"), stack, strict=True))
    assert (media.frame(1).pixels == grey).all()
    with pytest.raises(ImageError, match="has 3 frames, no frame 3"):
        media.frame(3)


def test_pages_of_a_stack_share_their_range(tmp_path: Path, grey: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([grey.astype(np.uint16), grey.astype(np.uint16) // 5]))
    bright, dark = frames(tmp_path / "a.tif")
    assert (bright == grey).all()
    assert (dark == grey // 5).all()
    assert (pictures.open(tmp_path / "a.tif").frame(1).pixels == dark).all()


def test_a_window_takes_the_place_of_the_range(tmp_path: Path, grey: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([grey.astype(np.uint16) * 4, grey.astype(np.uint16)]))
    media = pictures.open(tmp_path / "stack.tif")
    assert media.levels == (grey.min(), 4 * int(grey.max()))
    assert np.array_equal(media.frame(1, (0, 255)).pixels, grey)
    assert np.array_equal(media.frame(0, (0, 255)).pixels, np.minimum(255, grey.astype(int) * 4))
    cv2.imwrite(str(tmp_path / "flat.png"), grey)
    flat = pictures.open(tmp_path / "flat.png")
    assert flat.levels is None
    assert np.array_equal(flat.frame(0, (0, 10)).pixels, grey)  # 8 bits stay as they are


def test_smaller_copies_are_not_frames(tmp_path: Path, grey: np.ndarray) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(grey)
        file.write(grey[::2, ::2], subfiletype=1)
    assert (only(tmp_path / "a.tif") == grey).all()
    assert "1 pages that are masks or smaller copies" in remark(tmp_path / "a.tif")


def test_frames_of_gif_and_webp(tmp_path: Path, grey: np.ndarray) -> None:
    stack = [np.roll(grey, 9 * n, 1) for n in range(4)]
    images = [Image.fromarray(page) for page in stack]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], lossless=True)
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    for name in ("a.gif", "a.webp", "a.png"):
        assert (np.stack(frames(tmp_path / name)) == np.stack(stack)).all(), name
        assert (pictures.open(tmp_path / name).frame(2).pixels == stack[2]).all(), name


def test_a_png_tells_of_itself_behind_long_texts(tmp_path: Path, grey: np.ndarray) -> None:
    """An animation and an orientation, in chunks that follow 9,000 bytes of text, and behind the pixels."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 9000)
    images = [Image.fromarray(np.roll(grey, n, 1)) for n in range(3)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], pnginfo=info)
    assert len(frames(tmp_path / "a.png")) == 3
    exif = Image.Exif()
    exif[0x0112] = 3
    images[0].save(tmp_path / "b.png", exif=exif)
    data = (tmp_path / "b.png").read_bytes()
    at = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[at : at + 4], "big")
    chunk, rest = data[at : at + length], data[:at] + data[at + length :]
    (tmp_path / "b.png").write_bytes(rest[:-12] + chunk + rest[-12:])
    assert (only(tmp_path / "b.png") == grey[::-1, ::-1]).all()


def test_sixteen_bit_animations_are_refused(tmp_path: Path, grey: np.ndarray) -> None:
    images = [Image.fromarray(np.roll(grey, n, 1).astype(np.uint16) * 257) for n in range(3)]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    with pytest.raises(ImageError, match="is an animated PNG of 16 bits"):
        frames(tmp_path / "a.png")


def test_a_palette_of_8_bits_in_a_tiff(tmp_path: Path, grey: np.ndarray) -> None:
    """TIFF has palettes of 16 bits; some writers store 8, as which libtiff reads them."""
    table = np.stack([np.random.default_rng(seed).permutation(256) for seed in range(3)]).astype(np.uint16)
    wanted = np.dstack([channel[grey] for channel in table])
    for name, factor in (("low.tif", 1), ("deep.tif", 257)):
        tifffile.imwrite(tmp_path / name, grey, photometric="palette", colormap=table * np.uint16(factor))
        assert (only(tmp_path / name) == wanted).all(), name


@pytest.mark.parametrize("ending", ["jp2", "j2k"])
def test_jpeg_2000_of_16_bits(tmp_path: Path, colour: np.ndarray, ending: str) -> None:
    """Pillow reads its colours as 8 bits, and white as black."""
    deep = colour.astype(np.uint16) * 257
    deep[:2, :2], deep[2:4, :2] = 65535, 0
    wanted = np.rint(deep / 257)
    for name, pixels in (
        ("colour", deep), ("alpha", np.dstack([deep, deep[:, :, 0]])), ("grey", deep[:, :, 1]), ("two", deep[:, :, :2]),
    ):  # fmt: skip
        path = tmp_path / f"{name}.{ending}"
        data = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat=ending)
        path.write_bytes(data)
        same = {"grey": wanted[:, :, 1], "two": wanted[:, :, 0]}.get(name, wanted)
        assert (only(path) == same).all(), name
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=f"{name}.{ending}"):
            only(path)


def test_a_jpeg_2000_whose_stream_claims_more_than_its_header(tmp_path: Path, colour: np.ndarray) -> None:
    data = bytearray(imagecodecs.jpeg2k_encode(colour.astype(np.uint16), level=0, reversible=True, codecformat="jp2"))
    place = data.index(b"\xff\x4f\xff\x51") + 8
    data[place : place + 8] = (1 << 20).to_bytes(4, "big") * 2
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagecodecs, "jpeg2k_decode", None)  # not reached
        with pytest.raises(ImageError, match="claims 1048576 × 1048576 pixels"):
            only(tmp_path / "a.jp2")


def test_transparency_of_a_palette_is_silent(tmp_path: Path, colour: np.ndarray) -> None:
    few = Image.fromarray((colour // 64) * 85).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    few.save(tmp_path / "a.png", transparency=bytes(range(64)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (only(tmp_path / "a.png") == (colour // 64) * 85).all()


def test_jpeg_2000(tmp_path: Path, grey: np.ndarray) -> None:
    Image.fromarray(grey).save(tmp_path / "a.jp2")
    assert (only(tmp_path / "a.jp2") == grey).all()
    assert [entry.name for entry in pictures.listing(tmp_path)] == ["a"]


def test_formats_that_are_not_read_are_named(tmp_path: Path, grey: np.ndarray) -> None:
    files = {
        "a JPEG of 12 bits": imagecodecs.jpeg_encode(grey.astype(np.uint16) * 16, bitspersample=12),
        "a JPEG-LS image": imagecodecs.jpegls_encode(grey),
        "a PDF document": b"%PDF-1.7",
        "a HEIC image": b"\0\0\0\x18ftypheic",
        "a JPEG XL image": imagecodecs.jpegxl_encode(grey),
        "an AVIF image": imagecodecs.avif_encode(np.dstack([grey] * 3)),
        "a text of HTML or XML": b"<!doctype html><title>Sign in</title>",
        "a gzip file": gzip.compress(grey.tobytes()),
    }
    for name, data in files.items():
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(ImageError, match=rf"a\.png is {name}.* Save it as PNG or TIFF"):
            frames(tmp_path / "a.png")
    video(tmp_path / "a.mp4", [grey] * 2, "mp4v").rename(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png is an MP4 video, not an image\. Give it the ending"):
        frames(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".gif", ".webp", ".tif"])
def test_a_cut_image_is_refused(tmp_path: Path, colour: np.ndarray, ending: str) -> None:
    data = saved(colour, tmp_path / f"whole{ending}", "P" if ending == ".gif" else None).read_bytes()
    for share in (0.0, 0.01, 0.5, 0.9):
        (tmp_path / f"cut{ending}").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageError, match=f"cut{ending}"):
            frames(tmp_path / f"cut{ending}")


def test_the_content_decides_not_the_name(tmp_path: Path, grey: np.ndarray) -> None:
    saved(grey, tmp_path / "a.png").rename(tmp_path / "a.jpg")
    tifffile.imwrite(tmp_path / "b.tif", grey)
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    dicom(tmp_path / "c.png", grey)
    for name in ("a.jpg", "b.png", "c.png"):
        assert (only(tmp_path / name) == grey).all()
    (tmp_path / "page.png").write_text("<html>Log in</html>")
    with pytest.raises(ImageError, match=r"page.png is a text of HTML or XML"):
        frames(tmp_path / "page.png")


def test_huge_claims_are_refused_before_decoding(tmp_path: Path, grey: np.ndarray) -> None:
    side = struct.pack(">II", 200_000, 200_000)
    data = bytearray(saved(grey, tmp_path / "a.png").read_bytes())
    data[16:24] = side
    (tmp_path / "a.png").write_bytes(data)
    head = struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 8, 1, 4, 0, 0, 1, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 62, 0, 0, 58) + head + b"\0\0\0\0\0\1")
    data = bytearray(saved(grey, tmp_path / "a.gif").read_bytes())
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    (tmp_path / "a.gif").write_bytes(data)
    nrrd = b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 100000 100000\nencoding: gzip\n\n"
    (tmp_path / "a.nrrd").write_bytes(nrrd + gzip.compress(b"\0"))
    mha = b"ObjectType = Image\nNDims = 2\nDimSize = 100000 100000\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(mha)
    for name in ("a.png", "a.bmp", "a.gif", "a.nrrd", "a.mha"):
        with pytest.raises(ImageError, match=f"{name} claims"):
            frames(tmp_path / name)


def test_a_tiff_without_a_page(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0\0\0\0\0" + bytes(8))
    with pytest.raises(ImageError, match=r"a.tif"):
        frames(tmp_path / "a.tif")


def test_a_later_frame_that_claims_too_much(tmp_path: Path, grey: np.ndarray) -> None:
    image = Image.fromarray(grey)
    image.save(tmp_path / "a.gif", save_all=True, append_images=[image.rotate(9)])
    data = bytearray((tmp_path / "a.gif").read_bytes())
    second = data.rindex(b"\x2c\x00\x00\x00\x00")  # the image descriptor: left, top, width, height
    data[second + 5 : second + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(ImageError, match="more than the 134,217,728"):
        frames(tmp_path / "a.gif")


@pytest.mark.parametrize("size", ["I", "Q"])
def test_a_tiff_that_lost_pages_is_damaged(tmp_path: Path, size: str) -> None:
    """tifffile reads the pages before a cut, and goes in circles where a page leads back."""
    path, pages = tmp_path / "a.tif", 120
    with tifffile.TiffWriter(path, bigtiff=size == "Q") as writer:
        for _ in range(pages):
            writer.write(np.ones((4, 5), np.uint8), photometric="minisblack", metadata=None)
    assert len(frames(path)) == pages
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offsets, form, tags = [page.offset for page in file.pages], file.tiff, len(file.pages[-1].tags)
    place = offsets[-1] + form.tagnosize + tags * form.tagsize  # of the next page's offset
    for changed, number in (
        (whole[: offsets[3] - 1], 4),
        (whole[: offsets[3] + 20], 4),
        (whole[:place] + struct.pack(f"<{size}", offsets[110]) + whole[place + struct.calcsize(size) :], pages + 1),
        (whole[:place] + struct.pack(f"<{size}", offsets[-1]) + whole[place + struct.calcsize(size) :], pages + 1),
    ):
        path.write_bytes(changed)
        for read in (frames, reading.image):
            with pytest.raises((ImageError, UnreadableFile), match=f"page {number} cannot be read"):
                read(path)
