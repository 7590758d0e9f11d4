"""DICOM files: palette colours, modality and VOI tables, windows, compressed frames and videos, the size of a pixel."""

import hashlib
import logging
import math
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d import limits
from us43d.errors import ImageError, Us43dError
from us43d.masks import read
from us43d.pictures import levels, video

__all__ = ["Dicom"]

_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError,
    NotImplementedError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
logging.getLogger("pydicom").addHandler(logging.NullHandler())  # the error says what is wrong
#: Beyond any value of a pixel; a window maps it to the limits of its range.
_FAR = 1e12
#: Codes of the ultrasound region macro (DICOM PS3.3 C.8.5.5): 2D image, and centimetres per pixel.
_FLAT, _CENTIMETRES = 1, 3
#: Colour models that pydicom converts to RGB, and those that the decoder of JPEG 2000 converts.
_COLOURS, _TRANSFORMED = ("RGB", "YBR_FULL", "YBR_FULL_422"), ("YBR_RCT", "YBR_ICT")
#: Functional groups of enhanced multi-frame files that decide how a frame is shown (PS3.3 C.7.6.16.2).
_SHOWING = ("FrameVOILUTSequence", "PixelValueTransformationSequence")


#: Tag of PixelData.
_PIXELS = 0x7FE00010


class Dicom:
    """Frames in grey or RGB. A window or VOI table of the file is applied; MONOCHROME1 is inverted.

    Attributes:
        labels: The values mean structures: neither a window nor a rescaling is applied.
    """

    labels = False

    def __init__(self, path: Path) -> None:
        import pydicom
        from pydicom.errors import BytesLengthException, InvalidDicomError

        from us43d.pictures import codecs

        codecs.register()
        self.path = path
        self.remarks: list[str] = []
        self._headers: dict[int, Any] = {}
        self.spacing: tuple[float, float] | None = None
        self.region: tuple[int, int, int, int] | None = None
        self.patient = ""
        with warnings.catch_warnings(record=True) as deviations:
            warnings.simplefilter("always")
            try:
                self.deflated = self._check_deflated()
                self.header = pydicom.dcmread(path, stop_before_pixels=True)
                if known := str(self.header.get("PatientID") or "").strip():
                    whose = f"{self.header.get('IssuerOfPatientID') or ''}\0{known}"
                    self.patient = f"dicom-{hashlib.sha256(whose.encode()).hexdigest()[:12]}"
                self.count: int | None = max(1, int(self.header.get("NumberOfFrames") or 1))
                rows, columns = int(self.header.get("Rows", 0)), int(self.header.get("Columns", 0))
                samples, size = (
                    int(self.header.get("SamplesPerPixel", 1)),
                    int(self.header.get("BitsAllocated", 8)) // 8,
                )
                if not rows or not columns:
                    raise ImageError(f"{path} holds no image (SOP class {self._class()}).")
                self._check_form()
                limits.check_size(path, columns, rows, samples, max(1, size))
                limits.check_bytes(path, self.count * rows * columns * samples * max(1, size), limits.MAX_VOLUME)
                self._geometry()
            except Us43dError:
                raise
            except InvalidDicomError as error:
                raise ImageError(f"{path} is not a DICOM file: DICM is missing after its first 128 bytes.") from error
            except (*_DAMAGED, BytesLengthException) as error:
                raise ImageError(f"{path} is damaged: {_said(error)}.") from error
        for text in dict.fromkeys(str(warning.message) for warning in deviations):
            self.remarks.append(f"deviates from the DICOM standard: {text.split('. Please see')[0]}")

    def _check_form(self) -> None:
        """Raise ImageError for what pydicom would read as another: segments, colour models, places of the bits."""
        from pydicom.uid import JPEG2000TransferSyntaxes, MPEGTransferSyntaxes

        if "SegmentSequence" in self.header:
            raise ImageError(
                f"{self.path} is a DICOM SEG, whose frames belong to segments in an order of their own; it is not "
                "read. Save it as a label map (NIfTI or NRRD), for example with 3D Slicer."
            )
        syntax = self.header.file_meta.get("TransferSyntaxUID")
        if syntax in MPEGTransferSyntaxes:  # says both itself
            return
        known = (*_COLOURS, *_TRANSFORMED) if syntax in JPEG2000TransferSyntaxes else _COLOURS
        model = self.header.get("PhotometricInterpretation", "RGB")
        if int(self.header.get("SamplesPerPixel", 1)) > 1 and model not in known:
            raise ImageError(
                f"{self.path} has colours of the model {model}, which is not read. Save it as RGB or grey."
            )
        stored, highest = self.header.get("BitsStored"), self.header.get("HighBit")
        if None not in (stored, highest) and highest != stored - 1:
            raise ImageError(
                f"{self.path} says that the highest of its {stored} bits is bit {highest}; only pixels whose bits "
                "begin at bit 0 are read."
            )

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        import pydicom
        from PIL import Image
        from pydicom.errors import BytesLengthException
        from pydicom.pixels.utils import iter_pixels
        from pydicom.uid import MPEGTransferSyntaxes

        from us43d.pictures import codecs

        if self.header.file_meta.get("TransferSyntaxUID") in MPEGTransferSyntaxes:
            yield from self._video(wanted)
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = pydicom.dcmread(self.path) if self.deflated else self.path  # a path is read frame by frame
            self._check_length()
            syntax = self.header.file_meta.get("TransferSyntaxUID")
            plugin = "imagecodecs" if codecs.is_available(str(syntax)) else ""
            numbers = range(self.count or 1) if wanted is None else (wanted,)
            # Of uncompressed YBR_FULL_422, pydicom reads no frame after another one.
            batches: list[Any] = [None] if wanted is None else [numbers]
            if self.header.get("PhotometricInterpretation") == "YBR_FULL_422" and not (syntax and syntax.is_compressed):
                batches = [[number] for number in numbers]
            arrays = (one for batch in batches for one in iter_pixels(source, indices=batch, decoding_plugin=plugin))
            for number in numbers:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # deviations from the standard are among the remarks
                    array = next(arrays, None)
                    if array is None:
                        raise ImageError(f"{self.path} is damaged: {number} of its {self.count} frames can be read.")
                    frame = self._shown(array, number)
                yield frame
            if wanted is None and next(arrays, None) is not None:
                self.remarks.append(f"{self.count} of the frames are read, as the header states; there are more")
        except Us43dError:
            raise
        except (*_DAMAGED, BytesLengthException, Image.DecompressionBombError) as error:
            how = self.header.file_meta.get("TransferSyntaxUID")
            name = getattr(how, "name", "unknown transfer syntax")
            raise ImageError(f"The pixels of {self.path} cannot be read ({name}): {_said(error)}.") from error

    def _check_length(self) -> None:
        """Compare the number of bytes of uncompressed pixels with the header; pydicom does not, frame by frame.

        Raises:
            ImageError: Colours are stored in full, though the header says that every other one is missing.
        """
        import pydicom
        from pydicom.pixels.utils import get_expected_length

        syntax = self.header.file_meta.get("TransferSyntaxUID")
        if syntax is None or syntax.is_compressed or "PhotometricInterpretation" not in self.header:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deviations from the standard are among the remarks
            elements = pydicom.dcmread(self.path, defer_size=1024, specific_tags=["PixelData"]).values()
            stored = max((getattr(one, "length", 0) for one in elements if one.tag == _PIXELS), default=0)
            expected = get_expected_length(self.header)
        if self.header.PhotometricInterpretation == "YBR_FULL_422" and stored >= expected // 2 * 3:
            raise ImageError(
                f"{self.path} says YBR_FULL_422, but has {stored:,} bytes of pixels in place of {expected:,}: "
                "its colours are RGB or YBR_FULL, and nothing says which."
            )
        frames = stored * (self.count or 1) // expected
        if frames > (self.count or 1):
            self.remarks.append(
                f"{self.count} of the frames are read, as the header states; the pixels are of {frames}"
            )

    def _video(self, wanted: int | None) -> Iterator[NDArray[np.uint8]]:
        """Decode MPEG-2, H.264 or HEVC, which DICOM holds as one stream for all frames."""
        import pydicom
        from pydicom.encaps import generate_frames

        rows, columns = int(self.header.Rows), int(self.header.Columns)
        with tempfile.TemporaryDirectory(prefix="us43d-") as folder:
            path = Path(folder) / "stream"
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # deviations from the standard are among the remarks
                    path.write_bytes(
                        b"".join(generate_frames(pydicom.dcmread(self.path).PixelData, number_of_frames=1))
                    )
                number = -1
                for number, frame in enumerate(video.Video(path).read(None)):
                    if frame.shape[:2] != (rows, columns):
                        size = f"{frame.shape[1]} × {frame.shape[0]}"
                        raise ImageError(f"Its frames have {size} pixels, but the file says {columns} × {rows}.")
                    if wanted is None or number == wanted:
                        yield frame
                    if number == wanted:
                        return
            except Us43dError as error:
                raise ImageError(f"The video in {self.path} cannot be read: {self._named(error.what, path)}") from error
            except _DAMAGED as error:
                raise ImageError(f"The video in {self.path} cannot be read: {_said(error)}.") from error
        if number + 1 != self.count:
            raise ImageError(f"{self.path} is damaged: {number + 1} of its {self.count} frames can be read.")

    def _named(self, message: str, path: Path) -> str:
        return message.replace(str(path), "its stream")

    def _header(self, number: int) -> Any:
        """The header of a frame: that of the file, overridden by the frame's functional groups."""
        from pydicom import Dataset

        shared, own = self._groups(number)
        if not any(name in group for group in (shared, own) for name in _SHOWING):
            return self.header
        if number not in self._headers:
            header = Dataset()
            header.update(self.header)
            for name in _SHOWING:
                for item in (own.get(name) or shared.get(name) or ())[:1]:
                    header.update(item)
            self._headers = {number: header}
        return self._headers[number]

    def _groups(self, number: int) -> tuple[Any, Any]:
        """(functional groups shared by all frames, those of one frame); empty ones where the file has none."""
        from pydicom import Dataset

        shared = self.header.get("SharedFunctionalGroupsSequence") or [Dataset()]
        own = self.header.get("PerFrameFunctionalGroupsSequence") or []
        return shared[0], own[number] if number < len(own) else Dataset()

    def _shown(self, array: NDArray[Any], number: int) -> NDArray[Any]:
        """Frame `number` as it is to be shown; values without window in their own type."""
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

        photometric = str(self.header.get("PhotometricInterpretation", ""))
        if photometric == "PALETTE COLOR":
            coloured = apply_color_lut(array, self.header)[..., :3]
            if coloured.dtype != np.uint8:
                coloured = levels.eight_bits(coloured, (0, 2 ** self._palette_bits() - 1))
            array = coloured
        if array.ndim == 3:
            single = read.common_channel(array)
            return array if single is None else single
        header = self._header(number)
        if self.labels:
            values = array
        elif header.get("RescaleSlope") == 0:  # would make all values equal
            self.remarks.append("the rescale slope is 0 and was ignored")
            values = array
        elif (header.get("RescaleSlope"), header.get("RescaleIntercept")) == (1, 0):  # would be floating point
            values = array
        else:
            values = apply_modality_lut(array, header)
        shown = values if self.labels else self._windowed(values, header)
        if shown is array:  # neither a window nor another meaning of the values
            shown = levels.full_range(array, int(header.get("BitsStored") or 8))
        if photometric == "MONOCHROME1":
            shown = 255 - shown if shown.dtype == np.uint8 else -shown.astype(np.float64)
        return shown

    def _palette_bits(self) -> int:
        """The bits of the palette's colours; 8 where a palette said to have 16 has no colour above 255."""
        header, order = self.header, "<" if self.header.original_encoding[1] else ">"
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
        tables = [header.get(f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")]
        if bits == 16 and all(table and (np.frombuffer(table, f"{order}u2") < 256).all() for table in tables):
            self.remarks.append("its palette says 16 bits, but no colour is above 255: read as 8 bits")
            return 8
        return bits

    def _windowed(self, array: NDArray[Any], header: Any) -> NDArray[Any]:
        """The values after the header's VOI table or first window, in 8 bits; unchanged where it has none."""
        from pydicom.pixels.processing import apply_windowing

        if not any(header.get(name) for name in ("VOILUTSequence", "WindowCenter")):
            return array
        try:
            if header.get("VOILUTSequence"):
                return _looked_up(array, header.VOILUTSequence[0], bool(self.header.original_encoding[1]))
            if not header.get("WindowWidth"):
                raise ValueError("it has no width")
            with np.errstate(over="ignore"):  # of a sigmoid
                low, high = apply_windowing(np.array([-_FAR, _FAR]), header)
            return levels.eight_bits(np.asarray(apply_windowing(array, header), np.float64), (float(low), float(high)))
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            self.remarks.append(f"the window is not usable and was left out ({_said(error)})")
            return array

    def _geometry(self) -> None:
        """Set spacing and region, of the largest 2D ultrasound region in cm; else the spacing from PixelSpacing."""
        regions = []
        for item in self.header.get("SequenceOfUltrasoundRegions") or ():
            units = item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")
            place = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
            if item.get("RegionSpatialFormat") != _FLAT or None in place:
                continue
            x0, y0, x1, y1 = (int(value) for value in place)
            size = _positive(item.get("PhysicalDeltaX"), 10), _positive(item.get("PhysicalDeltaY"), 10)
            known = units == (_CENTIMETRES, _CENTIMETRES) and size[0] and size[1]
            regions.append(((x1 - x0 + 1) * (y1 - y0 + 1), (x0, y0, x1 + 1, y1 + 1), size if known else None))
        if regions:
            regions.sort(key=lambda region: -region[0])
            self.region = self._inside(regions[0][1])
            spacings = {size for _, _, size in regions if size}
            if len(spacings) > 1:
                self.remarks.append("its ultrasound regions have different spacings; that of the largest is used")
            self.spacing = next((size for _, _, size in regions if size), None)  # type: ignore[assignment]
        if self.spacing is None:
            self.spacing = self._spacing(self.header)
        if self.spacing is None:
            self._frame_spacing()

    def _frame_spacing(self) -> None:
        """Set the spacing that all frames of an enhanced multi-frame file share."""
        spacings = set()
        for number in range(self.count or 1):
            shared, own = self._groups(number)
            measures = own.get("PixelMeasuresSequence") or shared.get("PixelMeasuresSequence") or ()
            spacings.add(self._spacing(measures[0]) if measures else None)
        if len(spacings) == 1:
            (self.spacing,) = spacings
        else:
            self.remarks.append("the spacing of its pixels differs between frames, so distances are given in pixels")

    def _spacing(self, header: Any) -> tuple[float, float] | None:
        """(x, y) mm of a PixelSpacing, which has rows first; None where it is missing, or invalid, with a remark."""
        element = header.get_item("PixelSpacing")
        if element is None or not element.value:
            return None
        try:
            y, x = (_positive(value, 1) for value in header.PixelSpacing)
        except (ValueError, TypeError):  # more or fewer than two values, or text
            x = y = None
        if x and y:
            return x, y
        raw = isinstance(element.value, bytes)  # not converted by pydicom, which may not read it as numbers
        values = element.value.decode("latin-1").split("\\") if raw else np.ravel(element.value)
        text = ", ".join(str(value).strip() for value in values)[:60]
        self.remarks.append(f"its PixelSpacing ({text}) is not two numbers above 0 and is ignored")
        return None

    def _inside(self, region: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
        """The region cut at the frame's border; None if it lies outside."""
        columns, rows = int(self.header.Columns), int(self.header.Rows)
        x0, y0, x1, y1 = max(0, region[0]), max(0, region[1]), min(columns, region[2]), min(rows, region[3])
        return None if x0 >= x1 or y0 >= y1 else (x0, y0, x1, y1)

    def _check_deflated(self) -> bool:
        """Whether the file is deflated. Refuses one that would fill the memory, as pydicom inflates it whole."""
        from pydicom.filereader import read_file_meta_info
        from pydicom.uid import DeflatedExplicitVRLittleEndian

        with self.path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return False
        meta = read_file_meta_info(self.path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return False
        inflater, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        with self.path.open("rb") as file:
            file.seek(144 + int(meta.FileMetaInformationGroupLength))
            while data := inflater.unconsumed_tail or file.read(1 << 16):
                count += len(inflater.decompress(data, 1 << 20))
                limits.check_bytes(self.path, count)
        return True

    def _class(self) -> str:
        known = self.header.get("SOPClassUID") or self.header.file_meta.get("MediaStorageSOPClassUID")  # of a DICOMDIR
        return str(getattr(known, "name", "unknown"))


def _looked_up(array: NDArray[Any], item: Any, little_endian: bool) -> NDArray[np.uint8]:
    """The values that a VOI table gives (PS3.3 C.11.2.1.1), in 8 bits; pydicom has no table of 8 bits for 12.

    Raises:
        ValueError: The table has fewer entries than its descriptor states.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count, data = count or 1 << 16, item.LUTData
    if isinstance(data, bytes):
        packed = bits == 8 and len(data) - count in (0, 1)  # two entries of 8 bits in a word
        data = np.frombuffer(data, np.uint8 if packed else f"{'<' if little_endian else '>'}u2")
    table = np.asarray(data, np.float64)[:count]
    if len(table) < count:
        raise ValueError(f"its table has {len(table)} of {count} entries")
    places = np.clip(np.rint(array) - float(first), 0, count - 1).astype(np.int64)
    shown: NDArray[np.uint8] = levels.eight_bits(table, (0, float(2**bits - 1)))[places]
    return shown


def _positive(value: Any, factor: float) -> float | None:
    """A finite size other than 0 in mm, without its sign; None for any other."""
    number = abs(float(value)) * factor if value is not None else 0.0
    return number if 0 < number < math.inf else None


def _said(error: Exception) -> str:
    """What an error says, in one line: pydicom lists the reasons of its decoders below the first."""
    return " ".join((str(error) or type(error).__name__).split()).rstrip(".:")[:300]
