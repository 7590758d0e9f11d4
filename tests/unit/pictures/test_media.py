"""Every kind of file a person brings: right pixels, frames, spacing and remarks, or one message that names the file."""

import gzip
import struct
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

from us43d import limits, pictures
from us43d.container import stated_length
from us43d.errors import ImageError
from us43d.pictures.still import upright
from us43d.specimen import blob, speckle

SHAPE = (90, 120)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """A speckle image whose values run from 0 to 255."""
    rng = np.random.default_rng(0)
    image = speckle(SHAPE, [blob(SHAPE, rng)], rng).astype(float)
    return np.rint((image - image.min()) * 255 / np.ptp(image)).astype(np.uint8)


@pytest.fixture(scope="module")
def colour(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey, grey // 2, 255 - grey], -1)


def frames(path: Path) -> list[np.ndarray]:
    return [frame.pixels for frame in pictures.open(path).frames()]


def only(path: Path) -> np.ndarray:
    (pixels,) = frames(path)
    return pixels


def saved(array: np.ndarray, path: Path, mode: str | None = None, **how: Any) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **how)
    return path


# -------------------------------------------------------------------------------------------------------- still images


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
    assert "uint16 values are scaled to 0–255 by their range" in _remark(tmp_path / "a.png")


def _remark(path: Path) -> str:
    media = pictures.open(path)
    for _ in media.frames():
        pass
    return " ".join(media.remarks)


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
    assert "1 pages that are masks or smaller copies" in _remark(tmp_path / "a.tif")


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


def test_jpeg_2000(tmp_path: Path, grey: np.ndarray) -> None:
    Image.fromarray(grey).save(tmp_path / "a.jp2")
    assert (only(tmp_path / "a.jp2") == grey).all()
    assert [entry.name for entry in pictures.listing(tmp_path)] == ["a"]


def test_formats_that_are_not_read_are_named(tmp_path: Path, grey: np.ndarray) -> None:
    import imagecodecs

    files = {
        "a JPEG of 12 bits": imagecodecs.jpeg_encode(grey.astype(np.uint16) * 16, bitspersample=12),
        "a JPEG-LS image": imagecodecs.jpegls_encode(grey),
        "a PDF document": b"%PDF-1.7",
        "a HEIC image": b"\0\0\0\x18ftypheic",
        "a text of HTML or XML": b"<!doctype html><title>Sign in</title>",
        "a gzip file": gzip.compress(grey.tobytes()),
    }
    for name, data in files.items():
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(ImageError, match=rf"a\.png is {name}.* Save it as PNG or TIFF"):
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


# -------------------------------------------------------------------------------------------------------------- DICOM


def dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 0, **fields: Any) -> Path:
    """Write a DICOM file; pixels: (h, w), (n, h, w) or with RGB behind, of 8 or 16 bits, or encoded frames."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["one"])
    meta.TransferSyntaxUID = fields.pop("syntax", ExplicitVRLittleEndian)
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    samples = 3 if photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR") else 1
    data.SamplesPerPixel, data.PhotometricInterpretation = samples, photometric
    if samples == 3:
        data.PlanarConfiguration = 0
    stack = pixels if pixels.ndim > (2 if samples == 1 else 3) else pixels[None]
    data.NumberOfFrames, data.Rows, data.Columns = len(stack), *stack.shape[1:3]
    bits = bits or 8 * pixels.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    encoded = fields.pop("encoded", None)
    for name, value in fields.items():
        setattr(data, name, value)
    data.PixelData = encapsulate(encoded) if encoded else stack.tobytes()
    if encoded:
        data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
    return path


def test_palette_colours_of_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    """The indices are a permutation, so that they look like noise."""
    order = np.random.default_rng(1).permutation(256)
    table = np.argsort(order).astype(np.uint16) * 257
    fields = {f"{name}PaletteColorLookupTable{what}": value for name in ("Red", "Green", "Blue")
              for what, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))}  # fmt: skip
    dicom(tmp_path / "a.dcm", order[grey].astype(np.uint8), "PALETTE COLOR", **fields)
    assert (only(tmp_path / "a.dcm") == grey).all()


def test_windows_of_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    deep = grey.astype(np.uint16) * 16
    dicom(tmp_path / "w.dcm", deep, bits=12, WindowCenter=1024, WindowWidth=1024)
    wanted = np.clip((deep - 1023.5) / 1023 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(only(tmp_path / "w.dcm") - wanted).max() <= 0.51
    dicom(tmp_path / "none.dcm", deep, bits=12)
    assert (only(tmp_path / "none.dcm") == grey).all()
    dicom(tmp_path / "low.dcm", grey.astype(np.uint16), bits=16)
    assert (only(tmp_path / "low.dcm") == grey).all()
    dicom(tmp_path / "inverse.dcm", 4080 - deep, "MONOCHROME1", bits=12)
    assert (only(tmp_path / "inverse.dcm") == grey).all()
    dicom(tmp_path / "inverse8.dcm", 255 - grey, "MONOCHROME1")
    assert np.abs(only(tmp_path / "inverse8.dcm").astype(int) - grey).max() == 0
    dicom(tmp_path / "bad.dcm", deep, bits=12, WindowCenter="1024", WindowWidth="0")
    media = pictures.open(tmp_path / "bad.dcm")
    assert (media.frame().pixels == grey).all()
    assert "the window is not usable" in " ".join(media.remarks)


def test_a_voi_table_of_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], [255 - n for n in range(256)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    dicom(tmp_path / "a.dcm", grey, VOILUTSequence=Sequence([table]))
    assert (only(tmp_path / "a.dcm") == 255 - grey).all()


def test_signed_pixels_and_rescaling_of_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    dicom(tmp_path / "signed.dcm", grey.astype(np.int16) * 100 - 3000)
    assert (only(tmp_path / "signed.dcm") == grey).all()
    dicom(tmp_path / "scaled.dcm", grey, RescaleSlope="-2", RescaleIntercept="7")
    assert (only(tmp_path / "scaled.dcm") == 255 - grey).all()


def test_colour_frames_of_dicom(tmp_path: Path, colour: np.ndarray) -> None:
    dicom(tmp_path / "a.dcm", np.stack([colour, colour[:, ::-1]]), "RGB")
    media = pictures.open(tmp_path / "a.dcm")
    assert (media.count, media.kind) == (2, "dicom")
    assert (np.stack(frames(tmp_path / "a.dcm")) == np.stack([colour, colour[:, ::-1]])).all()
    assert (media.frame(1).pixels == colour[:, ::-1]).all()


def _packed(form: str, grey: np.ndarray) -> tuple[str, list[bytes], np.ndarray, int, int]:
    """(transfer syntax, frames, values, bits, tolerance)."""
    import imagecodecs
    from pydicom import uid

    deep = grey.astype(np.uint16) * 16
    smooth = cv2.GaussianBlur(deep, (0, 0), 3)
    signed = deep.astype(np.int16) - 2000
    return {
        "jpeg-ls 8": (uid.JPEGLSLossless, [imagecodecs.jpegls_encode(grey)], grey, 8, 0),
        "jpeg-ls 12": (uid.JPEGLSLossless, [imagecodecs.jpegls_encode(deep)], deep, 12, 0),
        "lossless 8": (uid.JPEGLosslessSV1, [imagecodecs.ljpeg_encode(grey)], grey, 8, 0),
        "lossless 12": (uid.JPEGLosslessSV1, [imagecodecs.ljpeg_encode(deep, bitspersample=12)], deep, 12, 0),
        "lossless 16": (uid.JPEGLossless, [imagecodecs.ljpeg_encode(deep, bitspersample=16)], deep, 16, 0),
        "lossy 12": (uid.JPEGExtended12Bit, [imagecodecs.jpeg_encode(smooth, 98, bitspersample=12)], smooth, 12, 2),
        "jpeg 2000": (uid.JPEG2000Lossless, [imagecodecs.jpeg2k_encode(deep, level=0, codecformat="j2k")], deep, 16, 0),
        "jpeg 2000 in a file": (uid.JPEG2000Lossless, [imagecodecs.jpeg2k_encode(grey, level=0)], grey, 8, 0),
        "jpeg 2000 signed": (
            uid.JPEG2000Lossless,
            [imagecodecs.jpeg2k_encode(signed, level=0, codecformat="j2k")],
            signed,
            16,
            0,
        ),
    }[form]


@pytest.mark.parametrize(
    "form", ["jpeg-ls 8", "jpeg-ls 12", "lossless 8", "lossless 12", "lossless 16", "lossy 12", "jpeg 2000",
             "jpeg 2000 in a file", "jpeg 2000 signed"]
)  # fmt: skip
def test_compressed_dicom(tmp_path: Path, grey: np.ndarray, form: str) -> None:
    syntax, encoded, values, bits, tolerance = _packed(form, grey)
    dicom(tmp_path / "a.dcm", np.stack([values] * 2), bits=bits, syntax=syntax, encoded=encoded * 2)
    low, high = int(values.min()), int(values.max())
    wanted = values if values.dtype == np.uint8 else (values.astype(float) - low) * 255 / (high - low)
    first, second = frames(tmp_path / "a.dcm")
    assert np.abs(first - wanted).max() <= tolerance + 0.51
    assert (first == second).all()


def test_jpeg_2000_of_13_bits_in_signed_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    """Values that the stream holds unsigned and the header calls signed, as some scanners write them."""
    import imagecodecs
    from pydicom import uid

    stored = grey.astype(np.uint16) * 16
    packed = imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", bitspersample=13)
    dicom(tmp_path / "a.dcm", stored.astype(np.int16), bits=13, syntax=uid.JPEG2000Lossless, encoded=[packed])
    as_signed = (stored.astype(np.int32) + 4096) % 8192 - 4096
    low, high = as_signed.min(), as_signed.max()
    assert np.abs(only(tmp_path / "a.dcm") - (as_signed - low) * 255 / (high - low)).max() <= 0.51


def test_few_bits_of_dicom_span_the_whole_range(tmp_path: Path, grey: np.ndarray) -> None:
    few = grey // 16
    dicom(tmp_path / "a.dcm", few, bits=4)
    assert (only(tmp_path / "a.dcm") == few * 17).all()
    dicom(tmp_path / "b.dcm", few, "MONOCHROME1", bits=4)
    assert (only(tmp_path / "b.dcm") == 255 - few * 17).all()
    dicom(tmp_path / "c.dcm", few, bits=4, WindowCenter=4, WindowWidth=8)
    assert only(tmp_path / "c.dcm").max() == 255
    dicom(tmp_path / "d.dcm", few, bits=4, RescaleSlope="2", RescaleIntercept="0")
    assert (only(tmp_path / "d.dcm") == few * 17).all()


def test_a_rescale_slope_of_zero_is_left_out(tmp_path: Path, grey: np.ndarray) -> None:
    dicom(tmp_path / "a.dcm", grey, RescaleSlope="0", RescaleIntercept="5")
    assert (only(tmp_path / "a.dcm") == grey).all()
    assert "the rescale slope is 0" in _remark(tmp_path / "a.dcm")


def test_lossless_colour_of_dicom(tmp_path: Path, colour: np.ndarray) -> None:
    import imagecodecs
    from pydicom import uid

    packed = imagecodecs.jpegls_encode(colour)
    dicom(tmp_path / "a.dcm", colour, "RGB", syntax=uid.JPEGLSLossless, encoded=[packed])
    assert (only(tmp_path / "a.dcm") == colour).all()


def test_frames_that_claim_another_size(tmp_path: Path, grey: np.ndarray) -> None:
    """The decoder would reserve what the frame claims, whatever the file's own header says."""
    import imagecodecs
    from pydicom import uid

    for syntax, packed in (
        (uid.JPEGLSLossless, imagecodecs.jpegls_encode(grey)), (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(grey)),
    ):  # fmt: skip
        size = struct.pack(">HH", *SHAPE)
        assert size in packed
        dicom(tmp_path / "a.dcm", grey, syntax=syntax, encoded=[packed.replace(size, b"\xff\xff\xff\xff", 1)])
        with pytest.raises(ImageError, match="a frame claims 65535 × 65535 pixels of 1 samples, the file 120 × 90"):
            frames(tmp_path / "a.dcm")


@pytest.mark.parametrize("sizes", [(20_000, 20_000, 1), (120, 90, 300)])
def test_a_box_beside_a_jpeg_2000_stream_does_not_hide_what_it_claims(
    tmp_path: Path, grey: np.ndarray, sizes: tuple[int, int, int]
) -> None:
    import imagecodecs
    from pydicom import uid

    data = imagecodecs.jpeg2k_encode(grey, level=0)
    at = data.rindex(b"\xff\x4f\xff\x51")
    columns, rows, samples = sizes
    claim = (
        struct.pack(">6I", columns, rows, 0, 0, columns, rows) + data[at + 32 : at + 40] + struct.pack(">H", samples)
    )
    large = data[: at + 8] + claim + data[at + 42 :]
    box = struct.pack(">I", 24 + 42) + b"uuid" + bytes(16) + data[at : at + 42]  # a header of the true size
    place = large.index(b"jp2h") - 4
    dicom(tmp_path / "a.dcm", grey, syntax=uid.JPEG2000Lossless, encoded=[large[:place] + box + large[place:]])
    with pytest.raises(ImageError, match=f"a frame claims {columns} × {rows} pixels of {samples} samples"):
        only(tmp_path / "a.dcm")


def test_a_tiff_without_a_page(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0\0\0\0\0" + bytes(8))
    with pytest.raises(ImageError, match=r"a.tif"):
        frames(tmp_path / "a.tif")


def region(**changes: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    values = {
        "RegionSpatialFormat": 1, "RegionDataType": 1, "RegionFlags": 0, "RegionLocationMinX0": 10,
        "RegionLocationMinY0": 20, "RegionLocationMaxX1": 99, "RegionLocationMaxY1": 79, "PhysicalUnitsXDirection": 3,
        "PhysicalUnitsYDirection": 3, "PhysicalDeltaX": 0.02, "PhysicalDeltaY": 0.03,
    }  # fmt: skip
    for name, value in (values | changes).items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("regions", "spacing", "wanted"),
    [
        ([{}], None, (0.2, 0.3)),
        ([{}], [0.5, 0.4], (0.2, 0.3)),
        ([], [0.5, 0.4], (0.4, 0.5)),  # PixelSpacing has rows first
        ([{"PhysicalUnitsXDirection": 4, "RegionSpatialFormat": 2}], None, None),  # M-mode: seconds
        ([{"PhysicalDeltaX": 0.0}], None, None),
        ([{"PhysicalDeltaY": -0.03}], None, (0.2, 0.3)),
        ([{"RegionLocationMaxX1": 20, "PhysicalDeltaX": 0.05}, {}], None, (0.2, 0.3)),  # the largest
        ([], [0, 0.4], None),
        ([], None, None),
    ],
)
def test_spacing_of_dicom(
    tmp_path: Path, grey: np.ndarray, regions: list[dict], spacing: list | None, wanted: tuple | None
) -> None:
    from pydicom.sequence import Sequence

    fields: dict[str, Any] = {"PixelSpacing": spacing} if spacing else {}
    if regions:
        fields["SequenceOfUltrasoundRegions"] = Sequence([region(**changes) for changes in regions])
    media = pictures.open(dicom(tmp_path / "a.dcm", grey, **fields))
    assert media.spacing == (pytest.approx(wanted) if wanted else None)
    flat = [changes for changes in regions if "RegionSpatialFormat" not in changes]
    assert media.region == ((10, 20, 100, 80) if flat else None)
    assert ("different spacings" in " ".join(media.remarks)) == (len(regions) == 2)


def groups(**values: Any) -> Any:
    """A functional group of an enhanced multi-frame file: window, spacing and rescaling as given."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    group = Dataset()
    for sequence, names in (
        ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth")),
        ("PixelMeasuresSequence", ("PixelSpacing",)),
        ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept", "RescaleType")),
    ):
        item = Dataset()
        for name in names:
            if name in values:
                setattr(item, name, values[name])
        if len(item):
            setattr(group, sequence, Sequence([item]))
    return group


def windowed(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1


def test_functional_groups_of_enhanced_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    """The window of each frame, else the shared one; a rescaling before it."""
    from pydicom.sequence import Sequence

    deep = np.stack([grey.astype(np.uint16) * 16] * 3)
    rescaling = {"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"}
    path = dicom(
        tmp_path / "a.dcm", deep, bits=12,
        SharedFunctionalGroupsSequence=Sequence([groups(WindowCenter=2048, WindowWidth=4096, PixelSpacing=[0.5, 0.4])]),
        PerFrameFunctionalGroupsSequence=Sequence(
            [groups(), groups(WindowCenter=1024, WindowWidth=1024),
             groups(WindowCenter=4000, WindowWidth=6000, **rescaling)]
        ),
    )  # fmt: skip
    media = pictures.open(path)
    assert media.spacing == pytest.approx((0.4, 0.5))
    wanted = [windowed(deep[0], 2048, 4096), windowed(deep[1], 1024, 1024), windowed(deep[2] * 2.0 - 100, 4000, 6000)]
    for frame, values in zip(media.frames(), wanted, strict=True):
        assert np.abs(frame.pixels - values).max() <= 0.51
        assert (media.frame(frame.number).pixels == frame.pixels).all()  # alone as among the others


@pytest.mark.parametrize(
    ("shared", "own", "wanted"),
    [
        ({"PixelSpacing": [0.5, 0.4]}, [{}, {}], (0.4, 0.5)),
        ({}, [{"PixelSpacing": [0.2, 0.1]}] * 2, (0.1, 0.2)),
        ({"PixelSpacing": [0.5, 0.4]}, [{}, {"PixelSpacing": [0.2, 0.1]}], None),
        ({}, [{}, {}], None),
    ],
)
def test_spacing_of_enhanced_dicom(
    tmp_path: Path, grey: np.ndarray, shared: dict, own: list[dict], wanted: tuple | None
) -> None:
    from pydicom.sequence import Sequence

    media = pictures.open(dicom(
        tmp_path / "a.dcm", np.stack([grey] * 2),
        SharedFunctionalGroupsSequence=Sequence([groups(**shared)]),
        PerFrameFunctionalGroupsSequence=Sequence([groups(**values) for values in own]),
    ))  # fmt: skip
    assert media.spacing == (pytest.approx(wanted) if wanted else None)
    assert ("differs between frames" in " ".join(media.remarks)) == (wanted is None and "PixelSpacing" in own[1])


def test_a_video_in_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    """MPEG-2 in one stream; a stream that lacks frames, has another size, or is not a video is an error."""
    from pydicom.uid import MPEG2MPML, MPEG4HP41

    shape = (96, 128)
    shown = [cv2.GaussianBlur(np.roll(cv2.resize(grey, shape[::-1]), 9 * n, 1), (0, 0), 2) for n in range(5)]
    film = tmp_path / "a.mpg"
    writer = cv2.VideoWriter(str(film), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mpg2"), 25, shape[::-1])
    for image in shown:
        writer.write(np.dstack([image] * 3))
    writer.release()
    stream = film.read_bytes()

    def write(data: bytes, frames: int = 5, size: tuple[int, int] = shape, syntax: str = MPEG2MPML) -> Path:
        pixels = np.zeros((frames, *size, 3), np.uint8)
        return dicom(tmp_path / "a.dcm", pixels, "YBR_PARTIAL_420", syntax=syntax, encoded=[data])

    for syntax in (MPEG2MPML, MPEG4HP41):  # the decoder sees from the stream what it is
        decoded = frames(write(stream, syntax=syntax))
        assert len(decoded) == 5
        for image, wanted in zip(decoded, shown, strict=True):
            assert np.abs(image.reshape(*shape, -1).mean(axis=2) - wanted).mean() < 6
    assert (pictures.open(tmp_path / "a.dcm").frame(3).pixels == decoded[3]).all()
    for changes, what in (
        ({"frames": 6}, "5 of its 6 frames"),
        ({"size": (90, 128)}, "128 × 96 pixels, but the file says 128 × 90"),
        ({"data": b"#EXTM3U\n/etc/passwd\n"}, "its stream is not a video"),
    ):
        with pytest.raises(ImageError, match=what):
            frames(write(**({"data": stream} | changes)))


def test_damaged_dicom(tmp_path: Path, grey: np.ndarray) -> None:
    data = dicom(tmp_path / "whole.dcm", np.stack([grey] * 3)).read_bytes()
    for length in (0, 60, 140, 300, 700, len(data) // 2):
        (tmp_path / "cut.dcm").write_bytes(data[:length])
        with pytest.raises(ImageError, match=r"cut.dcm"):
            frames(tmp_path / "cut.dcm")
    dicom(tmp_path / "none.dcm", grey)
    import pydicom

    report = pydicom.dcmread(tmp_path / "none.dcm")
    del report.PixelData, report.Rows
    report.save_as(tmp_path / "report.dcm")
    with pytest.raises(ImageError, match=r"report.dcm holds no image"):
        pictures.open(tmp_path / "report.dcm")


def test_a_deflated_bomb(tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dicom(tmp_path / "a.dcm", np.stack([grey] * 3), syntax=DeflatedExplicitVRLittleEndian)
    assert (frames(tmp_path / "a.dcm")[2] == grey).all()
    monkeypatch.setattr(limits, "MAX_BYTES", 20_000)
    monkeypatch.setattr(limits.check_bytes, "__defaults__", (20_000,))
    with pytest.raises(ImageError, match=r"a.dcm claims .* bytes"):
        pictures.open(tmp_path / "a.dcm")


# ------------------------------------------------------------------------------------------------------------ volumes


def test_nifti(tmp_path: Path, grey: np.ndarray) -> None:
    volume = np.stack([grey.T, np.roll(grey.T, 7, 0), grey.T[::-1]], -1)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.2, 0.3, 1.5, 1])), tmp_path / name)
        media = pictures.open(tmp_path / name)
        assert (media.count, media.name, media.spacing) == (3, "a", pytest.approx((0.2, 0.3)))
        assert (np.stack(frames(tmp_path / name)) == volume.transpose(2, 1, 0)).all()
        assert (media.frame(2).pixels == grey[:, ::-1]).all()
    nibabel.save(nibabel.Nifti1Image(grey.T, np.eye(4)), tmp_path / "flat.nii")
    assert (only(tmp_path / "flat.nii") == grey).all()
    assert pictures.open(tmp_path / "flat.nii").spacing is None  # neither unit nor size was ever set
    image = nibabel.Nifti1Image(
        volume[:, :, None].repeat(2, 2).astype(np.float32) * 3 - 100, np.diag([2e-4, 3e-4, 1, 1])
    )
    image.header.set_xyzt_units("meter", "sec")
    nibabel.save(image, tmp_path / "time.nii.gz")
    media = pictures.open(tmp_path / "time.nii.gz")
    assert media.spacing == pytest.approx((0.2, 0.3))
    assert media.count == 6
    assert (frames(tmp_path / "time.nii.gz")[2] == np.roll(grey, 7, 1)).all()


def test_colour_nifti(tmp_path: Path, colour: np.ndarray) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    packed = np.ascontiguousarray(colour.transpose(1, 0, 2)).view(kind)[:, :, 0]
    nibabel.save(nibabel.Nifti1Image(packed[:, :, None], np.eye(4)), tmp_path / "a.nii")
    assert (only(tmp_path / "a.nii") == colour).all()


def test_damaged_nifti(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(np.stack([grey.T] * 3, -1), np.eye(4)), tmp_path / "a.nii.gz")
    data = (tmp_path / "a.nii.gz").read_bytes()
    rng = np.random.default_rng(0)
    for n in range(30):
        broken = bytearray(data[: len(data) - 300 * (n % 3)])
        if n % 3 == 0:
            broken[int(rng.integers(30, len(broken)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.nii.gz").write_bytes(broken)
        if bytes(broken) == data:
            continue
        with pytest.raises(ImageError, match=r"b.nii.gz"):
            frames(tmp_path / "b.nii.gz")


def test_nifti_of_version_2_and_of_vectors(
    tmp_path: Path, grey: np.ndarray, colour: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    nibabel.save(nibabel.Nifti2Image(np.stack([grey.T, grey[::-1].T], 2), np.eye(4)), tmp_path / "a.nii.gz")
    assert (np.stack(frames(tmp_path / "a.nii.gz")) == np.stack([grey, grey[::-1]])).all()
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "b.nii"))
    assert (only(tmp_path / "b.nii") == colour).all()
    two = sitk.GetImageFromArray(np.dstack([grey, grey]).astype(np.float32), isVector=True)
    sitk.WriteImage(two, str(tmp_path / "c.nii"))
    with pytest.raises(ImageError, match="has 2 values per pixel"):
        frames(tmp_path / "c.nii")
    (tmp_path / "d.nii").write_bytes((tmp_path / "b.nii").read_bytes()[:40] + bytes(400))
    with pytest.raises(ImageError, match=r"d\.nii is not a readable NIfTI"):
        frames(tmp_path / "d.nii")
    assert capfd.readouterr().err == ""


def test_unknown_spacing_of_nrrd_is_unknown(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\nspacings: {}\n\n"
    for text, spacing in (("NaN 0.5", None), ("0.2 0.5", (0.2, 0.5))):
        (tmp_path / "a.nrrd").write_bytes(head.format(text).encode() + bytes(range(6)))
        assert pictures.open(tmp_path / "a.nrrd").spacing == spacing
    colours = head.replace("dimension: 2", "dimension: 3\nkinds: RGB-color domain domain").replace(": 3 2", ": 3 3 2")
    (tmp_path / "a.nrrd").write_bytes(colours.format("NaN 0.2 0.5").encode() + bytes(range(18)))
    assert pictures.open(tmp_path / "a.nrrd").spacing == (0.2, 0.5)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_metaimage_and_nrrd(
    tmp_path: Path, grey: np.ndarray, colour: np.ndarray, ending: str, compressed: bool
) -> None:
    path = tmp_path / f"a{ending}"
    volume = sitk.GetImageFromArray(np.stack([grey, grey[::-1]]))
    volume.SetSpacing((0.2, 0.3, 1.5))
    sitk.WriteImage(volume, str(path), compressed)
    media = pictures.open(path)
    assert (media.count, media.spacing) == (2, pytest.approx((0.2, 0.3)))
    assert (np.stack(frames(path)) == np.stack([grey, grey[::-1]])).all()
    assert (media.frame(1).pixels == grey[::-1]).all()
    sitk.WriteImage(sitk.GetImageFromArray(grey.astype(np.float32) / 7 - 3), str(path), compressed)
    assert (only(path) == grey).all()
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(path), compressed)
    assert (only(path) == colour).all()


def test_pixels_outside_of_the_folder_are_refused(tmp_path: Path, grey: np.ndarray) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "a.mhd"))
    text = (tmp_path / "a.mhd").read_text()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "a.raw")
    for place in ("../a.raw", str(tmp_path / "a.raw"), "LIST", "a%02d.raw 1 2 1", "link.raw", "none.raw"):
        (tmp_path / "in" / "a.mhd").write_text(text.replace("a.raw", place))
        with pytest.raises(ImageError, match="takes its pixels from"):
            pictures.open(tmp_path / "in" / "a.mhd")
    nhdr = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 120 90\nencoding: raw\ndata file: ../a.raw\n"
    (tmp_path / "in" / "a.nhdr").write_text(nhdr)
    with pytest.raises(ImageError, match="takes its pixels from"):
        pictures.open(tmp_path / "in" / "a.nhdr")


@pytest.mark.parametrize(
    ("ending", "before"),
    [
        (".mhd", "Comment = x\n" * 6000), (".mhd", "\n"), (".mhd", "elementdatafile = LOCAL\n"),
        (".mhd", "Comment = a\fElementDataFile = LOCAL\n"), (".nhdr", "# x\n" * 20_000), (".nhdr", "# a\f\f\n"),
        (".nhdr", "data file:=near.raw\n"),
    ],
)  # fmt: skip
def test_no_line_hides_that_pixels_are_outside_of_the_folder(tmp_path: Path, ending: str, before: str) -> None:
    heads = {
        ".mhd": "ObjectType = Image\nNDims = 2\n{}DimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n",
        ".nhdr": "NRRD0004\n{}type: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: {}\n",
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(b"\1\2\3\4")
    (tmp_path / "in" / "near.raw").write_bytes(b"\5\6\7\7")
    path = tmp_path / "in" / f"a{ending}"
    path.write_text(heads[ending].format("", "near.raw"))
    assert only(path).tolist() == [[5, 6], [7, 7]]
    path.write_text(heads[ending].format(before, "../secret.raw"))
    with pytest.raises(ImageError, match=r"takes its pixels from|header of more than"):
        pictures.open(path)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_damaged_volumes(tmp_path: Path, grey: np.ndarray, ending: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey] * 3)), str(tmp_path / f"a{ending}"), True)
    data = (tmp_path / f"a{ending}").read_bytes()
    for length in (10, 200, len(data) // 2, len(data) - 40):
        (tmp_path / f"b{ending}").write_bytes(data[:length])
        with pytest.raises(ImageError, match=f"b{ending}"):
            frames(tmp_path / f"b{ending}")
    sums = bytearray(data)
    sums[-6 if ending == ".nrrd" else -2] ^= 1  # CRC-32 of gzip, Adler-32 of zlib
    (tmp_path / f"b{ending}").write_bytes(sums)
    with pytest.raises(ImageError, match=f"b{ending} is damaged"):
        frames(tmp_path / f"b{ending}")


# ------------------------------------------------------------------------------------------------------------- videos


def video(path: Path, stack: list[np.ndarray], code: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, SHAPE[::-1])
    for frame in stack:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


@pytest.mark.parametrize(("ending", "code"), [(".avi", "MJPG"), (".mp4", "mp4v"), (".webm", "VP80")])
def test_videos(tmp_path: Path, grey: np.ndarray, ending: str, code: str) -> None:
    smooth = cv2.GaussianBlur(grey, (0, 0), 3)
    stack = [np.roll(smooth, 5 * n, 1) for n in range(12)]
    path = video(tmp_path / f"a{ending}", stack, code)
    seen = frames(path)
    assert len(seen) == 12
    assert all(np.corrcoef(one.reshape(*SHAPE, -1)[..., 0].ravel(), other.ravel())[0, 1] > 0.98
               for one, other in zip(seen, stack, strict=True))  # fmt: skip
    assert (pictures.open(path).frame(7).pixels == seen[7]).all()
    with pytest.raises(ImageError, match="has 12 frames, no frame 12"):
        pictures.open(path).frame(12)


def test_a_cut_video_is_an_error(tmp_path: Path, grey: np.ndarray) -> None:
    data = video(tmp_path / "a.avi", [np.roll(grey, 5 * n, 1) for n in range(20)]).read_bytes()
    for share in (0.0, 0.3, 0.6):
        (tmp_path / "b.avi").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageError, match=r"b.avi"):
            frames(tmp_path / "b.avi")


@pytest.mark.parametrize(
    ("ending", "code"),
    [(".avi", "MJPG"), (".avi", "HFYU"), (".mp4", "mp4v"), (".mov", "mp4v"), (".webm", "VP80"), (".mkv", "mp4v"),
     (".wmv", "WMV2"), (".mpg", "PIM1")],
)  # fmt: skip
def test_a_video_is_shorter_than_it_states(tmp_path: Path, grey: np.ndarray, ending: str, code: str) -> None:
    """Decoders return the last frame of a truncated video, damaged or not at all, without an error."""
    data = video(tmp_path / f"a{ending}", [np.roll(grey, 5 * n, 1) for n in range(20)], code).read_bytes()
    assert stated_length(tmp_path / f"a{ending}") in (len(data), len(data) - 16)
    for share in (0.98, 0.6, 0.2):
        (tmp_path / f"b{ending}").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ImageError, match=rf"b{ending} is truncated: it has [0-9,]+ of [0-9,]+ bytes"):
            frames(tmp_path / f"b{ending}")


def test_containers_that_do_not_state_their_length(tmp_path: Path, grey: np.ndarray) -> None:
    asf = bytearray(video(tmp_path / "a.wmv", [grey] * 5, "WMV2").read_bytes())
    asf[asf.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 88] |= 1  # a broadcast
    live = bytearray(video(tmp_path / "a.webm", [grey] * 5, "VP80").read_bytes())
    at = live.index(b"\x18S\x80g") + 4
    live[at : at + 8] = b"\x01" + b"\xff" * 7  # a segment of unknown size
    avi = bytearray(video(tmp_path / "a.avi", [grey] * 5).read_bytes())
    avi[4:8] = b"\xff" * 4
    for ending, data in ((".wmv", asf), (".webm", live), (".avi", avi), (".mpg", b"\0\0\1\xba")):
        (tmp_path / f"b{ending}").write_bytes(data)
        assert stated_length(tmp_path / f"b{ending}") is None, ending
    for data in (b"", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\0\0ftyp", b"\0\0\0\1moov"):
        (tmp_path / "c.mp4").write_bytes(data)
        assert stated_length(tmp_path / "c.mp4") in (None, 0)


def test_packets_of_mpeg_2_and_its_end_code(tmp_path: Path, grey: np.ndarray) -> None:
    data = video(tmp_path / "a.vob", [grey] * 9, "MPG2").read_bytes()
    assert stated_length(tmp_path / "a.vob") == len(data)
    end = b"\0\0\1\xb9"
    for content, stated in (
        (data + end, len(data)), (data + end + data, 2 * len(data) + 4), (data[:-5], len(data)),
        (data + b"\0\0\1\xe0\0\0", None), (data + b"\0\0\1\xb3\0\5", None),
    ):  # fmt: skip
        (tmp_path / "b.vob").write_bytes(content)
        assert stated_length(tmp_path / "b.vob") == stated


def test_a_playlist_is_not_a_video(tmp_path: Path, grey: np.ndarray) -> None:
    """FFmpeg would open what it names."""
    video(tmp_path / "secret.avi", [grey] * 3)
    (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.avi\n#EXT-X-ENDLIST\n")
    with pytest.raises(ImageError, match=r"a.mp4 is not a video"):
        frames(tmp_path / "a.mp4")


# ------------------------------------------------------------------------------------------------------------ folders


def test_a_folder(tmp_path: Path, grey: np.ndarray) -> None:
    for name in ("b.png", "a.bmp", "a.png", "p2/a.png", "p1/a.png", "out/masks/a_1.png", ".hidden/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(grey, tmp_path / name)
    for name in ("._a.png", "Thumbs.db", ".DS_Store", "notes.txt", "p1/._a.png", "__MACOSX/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"litter")
    dicom(tmp_path / "1.2.840.1", grey)
    (tmp_path / "p1" / "again").symlink_to(tmp_path)  # in a circle
    (tmp_path / "linked").symlink_to(tmp_path / "p2" / "a.png")
    inputs = pictures.listing(tmp_path, leave_out=tmp_path / "out")
    assert [(one.relative, one.name) for one in inputs] == [
        ("1.2.840.1", "1.2.840.1"), ("a.bmp", "a.bmp"), ("a.png", "a.png"), ("b.png", "b"), ("p1/a.png", "p1/a"),
        ("p2/a.png", "p2/a"),
    ]  # fmt: skip
    assert all((pictures.open(one).frame().pixels == grey).all() for one in inputs)
    with pytest.raises(ImageError, match="does not exist"):
        pictures.listing(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"No files found in .* that end in"):
        pictures.listing(tmp_path / "empty")


def test_a_later_frame_that_claims_too_much(tmp_path: Path, grey: np.ndarray) -> None:
    image = Image.fromarray(grey)
    image.save(tmp_path / "a.gif", save_all=True, append_images=[image.rotate(9)])
    data = bytearray((tmp_path / "a.gif").read_bytes())
    second = data.rindex(b"\x2c\x00\x00\x00\x00")  # the image descriptor: left, top, width, height
    data[second + 5 : second + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(ImageError, match="more than the 134,217,728"):
        frames(tmp_path / "a.gif")


def test_an_undefined_unit_of_nifti_counts_as_unknown(tmp_path: Path, grey: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(grey, np.diag([0.25, 0.5, 1, 1])), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[123] = 6  # xyzt_units
    (tmp_path / "a.nii").write_bytes(data)
    media = pictures.open(tmp_path / "a.nii")
    assert media.spacing == (0.25, 0.5)
    assert "unit of the spacing is missing" in media.remarks[0]


def test_deviations_of_dicom_are_remarks(tmp_path: Path, grey: np.ndarray) -> None:
    path = dicom(tmp_path / "a.dcm", grey)
    data = path.read_bytes()
    name = b"1.2.840.10008.1.2.1"
    path.write_bytes(data.replace(name, name.replace(b"840", b"8x0"), 1))
    media = pictures.open(path)
    assert any("Invalid value for VR UI" in remark for remark in media.remarks)
