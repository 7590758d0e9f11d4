"""DICOM: right pixels, frames, spacing and remarks, or one message that names the file."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest

from us43d import limits, pictures
from us43d.errors import ImageError

from .files import SHAPE, dicom, frames, only, remark


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


@pytest.mark.parametrize(("bits", "data"), [(8, "words"), (8, "bytes"), (12, "words"), (16, "words")])
def test_a_voi_table_of_dicom_for_more_values_than_it_has_bits(
    tmp_path: Path, grey: np.ndarray, bits: int, data: str
) -> None:
    """A table that begins at 100, has 3,000 entries, and whose first and last ones continue beyond it."""
    from pydicom.dataset import Dataset

    deep = grey.astype(np.uint16) * 16
    curve = np.rint(np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(np.uint16)
    table = Dataset()
    table.LUTDescriptor = [3000, 100, bits]
    table.LUTData = curve.astype(np.uint8).tobytes() if data == "bytes" else curve.tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    wanted = curve[np.clip(deep.astype(int) - 100, 0, 2999)] * (255 / (2**bits - 1))
    dicom(tmp_path / "a.dcm", deep, bits=12, VOILUTSequence=[table], WindowCenter=9, WindowWidth=2)
    assert np.abs(only(tmp_path / "a.dcm") - wanted).max() <= 0.51
    table.LUTDescriptor = [4000, 100, bits]
    dicom(tmp_path / "short.dcm", deep, bits=12, VOILUTSequence=[table])
    if data == "words":
        assert "its table has 3000 of 4000 entries" in remark(tmp_path / "short.dcm")


def test_a_window_without_width_is_left_out(tmp_path: Path, grey: np.ndarray) -> None:
    dicom(tmp_path / "a.dcm", grey, WindowCenter=100)
    assert (only(tmp_path / "a.dcm") == grey).all()
    assert remark(tmp_path / "a.dcm") == "the window is not usable and was left out (it has no width)"


def test_a_palette_of_8_bits_that_says_16(tmp_path: Path, grey: np.ndarray, colour: np.ndarray) -> None:
    tables = [np.random.default_rng(seed).permutation(256).astype(np.uint16) for seed in range(3)]

    def written(name: str, factor: int) -> Path:
        fields: dict[str, Any] = {}
        for key, table in zip(("Red", "Green", "Blue"), tables, strict=True):
            fields[f"{key}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            fields[f"{key}PaletteColorLookupTableData"] = (table * factor).astype(np.uint16).tobytes()
        return dicom(tmp_path / name, grey, "PALETTE COLOR", **fields)

    wanted = np.dstack([table[grey] for table in tables])
    assert (only(written("deep.dcm", 257)) == wanted).all()
    assert remark(tmp_path / "deep.dcm") == ""
    assert (only(written("low.dcm", 1)) == wanted).all()
    assert "no colour is above 255" in remark(tmp_path / "low.dcm")


def test_a_rescaling_that_changes_nothing_keeps_8_bits(tmp_path: Path, grey: np.ndarray) -> None:
    """As many writers add it; the values are not spread over 0 to 255 for it."""
    low = grey // 4 + 50
    same = {"RescaleSlope": "1.0", "RescaleIntercept": "0"}
    assert (only(dicom(tmp_path / "a.dcm", low, **same)) == low).all()
    assert (only(dicom(tmp_path / "b.dcm", low, "MONOCHROME1", **same)) == 255 - low).all()
    assert remark(tmp_path / "a.dcm") == ""


@pytest.mark.parametrize("model", ["HSV", "CMYK", "ARGB", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_RCT", "YBR_ICT"])
def test_colour_models_that_are_not_read_are_named(tmp_path: Path, colour: np.ndarray, model: str) -> None:
    with pytest.raises(ImageError, match=f"has colours of the model {model}, which is not read"):
        pictures.open(dicom(tmp_path / "a.dcm", colour, model))


def test_pixels_whose_bits_begin_elsewhere_are_refused(tmp_path: Path, grey: np.ndarray) -> None:
    with pytest.raises(ImageError, match="the highest of its 12 bits is bit 15"):
        pictures.open(dicom(tmp_path / "a.dcm", grey.astype(np.uint16) << 8, bits=12, HighBit=15))


def test_bits_above_the_highest_are_no_part_of_the_pixels(tmp_path: Path, grey: np.ndarray) -> None:
    """Overlays lie there, and rubbish."""
    rubbish = np.random.default_rng(0).integers(0, 16, grey.shape).astype(np.uint16) << 12
    dicom(tmp_path / "a.dcm", grey.astype(np.uint16) * 16 | rubbish, bits=12)
    assert (only(tmp_path / "a.dcm") == grey).all()
    signed = (grey.astype(np.int16) * 16 - 2040).view(np.uint16) & 0xFFF | rubbish
    dicom(tmp_path / "b.dcm", signed.view(np.int16), bits=12)
    assert (only(tmp_path / "b.dcm") == grey).all()


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
    assert "the rescale slope is 0" in remark(tmp_path / "a.dcm")


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


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (b"0.11\\0.22", ""),
        (b"1\\2\\3\\4  ", "(1, 2, 3, 4)"),
        (b"0.11     ", "(0.11)"),
        (b"0,11\\0,22", "(0,11, 0,22)"),
        (b"0.00\\0.22", "(0.00, 0.22)"),
        (b"NaN\\NaN  ", "(NaN, NaN)"),
    ],
)
def test_a_spacing_that_is_not_two_numbers_is_left_out(
    tmp_path: Path, grey: np.ndarray, stored: bytes, said: str
) -> None:
    """The pixels are as good as without it: PixelSpacing is no part of the ultrasound image modules."""
    data = dicom(tmp_path / "a.dcm", grey, PixelSpacing=[0.11, 0.22]).read_bytes()
    assert data.count(b"0.11\\0.22") == 1
    (tmp_path / "a.dcm").write_bytes(data.replace(b"0.11\\0.22", stored))
    assert (only(tmp_path / "a.dcm") == grey).all()
    assert pictures.open(tmp_path / "a.dcm").spacing == (None if said else (0.22, 0.11))
    text = f"its PixelSpacing {said} is not two numbers above 0 and is ignored"
    assert [text in line for line in pictures.open(tmp_path / "a.dcm").remarks].count(True) == bool(said)


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


def test_more_pixels_than_the_header_states(tmp_path: Path, grey: np.ndarray, colour: np.ndarray) -> None:
    """pydicom compares the length of whole files alone, not frame by frame: full colours were read as halved ones."""
    path = dicom(tmp_path / "a.dcm", np.stack([grey] * 3))
    import pydicom

    header = pydicom.dcmread(path)
    header.NumberOfFrames = 1
    header.save_as(path)
    media = pictures.open(path)
    assert (media.frame().pixels == grey).all()
    assert "1 of the frames are read, as the header states; the pixels are of 3" in media.remarks
    with pytest.raises(ImageError, match="says YBR_FULL_422, but has"):
        frames(dicom(tmp_path / "b.dcm", colour, "YBR_FULL_422"))


def test_halved_colours_of_several_frames(tmp_path: Path) -> None:
    """pydicom 3.0 takes the second frame for one with full colours."""
    import pydicom
    from pydicom.pixels.processing import convert_color_space

    stack = np.zeros((3, 8, 12, 3), np.uint8) + np.arange(30, 120, 10, np.uint8).reshape(3, 1, 1, 3)
    full = convert_color_space(stack, "RGB", "YBR_FULL")
    path = dicom(tmp_path / "a.dcm", full, "YBR_FULL_422")
    header = pydicom.dcmread(path)
    header.PixelData = np.stack(
        [full[:, :, ::2, 0], full[:, :, 1::2, 0], full[:, :, ::2, 1], full[:, :, ::2, 2]], -1
    ).tobytes()
    header.save_as(path)
    assert np.abs(np.array(frames(path)).astype(int) - stack).max() <= 2
    assert np.abs(pictures.open(path).frame(2).pixels.astype(int) - stack[2]).max() <= 2


def test_compressed_frames_that_the_header_does_not_state(tmp_path: Path, grey: np.ndarray) -> None:
    import imagecodecs
    import pydicom
    from pydicom.uid import JPEGLSLossless

    stack = np.stack([grey, 255 - grey, grey // 2])
    encoded = [imagecodecs.jpegls_encode(one) for one in stack]
    header = pydicom.dcmread(dicom(tmp_path / "a.dcm", stack, syntax=JPEGLSLossless, encoded=encoded))
    for stated in (2, 3, 4):
        header.NumberOfFrames = stated
        header.save_as(tmp_path / f"{stated}.dcm")
    assert [(one == other).all() for one, other in zip(frames(tmp_path / "2.dcm"), stack[:2], strict=True)] == [
        True
    ] * 2
    assert remark(tmp_path / "2.dcm") == "2 of the frames are read, as the header states; there are more"
    assert remark(tmp_path / "3.dcm") == ""
    with pytest.raises(ImageError, match=r"4.dcm is damaged: 3 of its 4 frames can be read"):
        frames(tmp_path / "4.dcm")


def test_a_deflated_bomb(tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dicom(tmp_path / "a.dcm", np.stack([grey] * 3), syntax=DeflatedExplicitVRLittleEndian)
    assert (frames(tmp_path / "a.dcm")[2] == grey).all()
    monkeypatch.setattr(limits, "MAX_BYTES", 20_000)
    monkeypatch.setattr(limits.check_bytes, "__defaults__", (20_000,))
    with pytest.raises(ImageError, match=r"a.dcm claims .* bytes"):
        pictures.open(tmp_path / "a.dcm")


def test_deviations_of_dicom_are_remarks(tmp_path: Path, grey: np.ndarray) -> None:
    path = dicom(tmp_path / "a.dcm", grey)
    data = path.read_bytes()
    name = b"1.2.840.10008.1.2.1"
    path.write_bytes(data.replace(name, name.replace(b"840", b"8x0"), 1))
    media = pictures.open(path)
    assert any("Invalid value for VR UI" in remark for remark in media.remarks)


def test_segments_are_not_taken_for_frames(tmp_path: Path, grey: np.ndarray) -> None:
    """A DICOM SEG has one frame for each segment and place, so that masks would go to other frames and lose names."""
    segment = pydicom.Dataset()
    segment.SegmentNumber, segment.SegmentLabel = 1, "cyst"
    path = dicom(tmp_path / "a.dcm", np.stack([grey, grey]), SegmentSequence=[segment])
    with pytest.raises(ImageError, match="is a DICOM SEG"):
        frames(path)
