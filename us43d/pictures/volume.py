"""Read NIfTI with nibabel, MetaImage and NRRD with SimpleITK. Frames are slices along the axes beyond the second.

In a slice, the first stored axis points right, the second down.
"""

import gzip
import logging
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from us43d import limits
from us43d.errors import ImageError, counted
from us43d.masks.read import nifti_sizes
from us43d.masks.stacks import check_length

__all__ = ["Grid", "Itk", "Nifti", "nifti"]

_NOT_NIFTI = (OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, MemoryError, zlib.error)
#: Millimetres in the units of NIfTI and NRRD.
_MILLIMETRES = {"meter": 1e3, "m": 1e3, "cm": 10.0, "mm": 1.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3}
#: Largest volume that SimpleITK loads, in bytes.
_LOADED = 1 << 31
#: Largest text header of a MetaImage or NRRD, in bytes.
_HEADER = 1 << 16
logging.getLogger("nibabel").addHandler(logging.NullHandler())  # the error says what is wrong


class Grid(NamedTuple):
    """Where the voxels of a volume lie.

    axes: directions in the patient that the axes run to, such as LPS. origin: of the first voxel, x to the right, y to
    the front, z to the head, in the file's unit.
    """

    axes: str
    origin: tuple[float, float, float]

    @classmethod
    def of(cls, affine: NDArray[Any]) -> "Grid | None":
        """Return the grid of an affine matrix (4, 4) as nibabel has it; None where it states no directions."""
        from nibabel import orientations

        if not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
            return None
        axes = "".join(orientations.aff2axcodes(affine))
        x, y, z = map(float, affine[:3, 3])
        return cls(axes, (x, y, z))

    def differs(self, other: "Grid") -> bool:
        """Return whether the axes run to other directions, or the first voxel lies elsewhere."""
        return self.axes != other.axes or not np.allclose(self.origin, other.origin, rtol=1e-4, atol=0.1)

    def __str__(self) -> str:
        return f"{self.axes} from {', '.join(f'{value:.4g}' for value in self.origin)}"


def nifti(path: Path) -> Any:
    """Open a NIfTI file of version 1 or 2, or a pair by its .hdr, with nibabel.

    Raises:
        ImageError: The file cannot be read, or the .img of a pair is missing beside it.
    """
    import nibabel
    from nibabel.imageglobals import LoggingOutputSuppressor
    from nibabel.wrapstruct import WrapStructError

    damaged = nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, WrapStructError
    try:
        with LoggingOutputSuppressor():
            first, second = nibabel.nifti1, nibabel.nifti2
            if path.suffix.lower() == ".hdr":
                pair = second.Nifti2Pair if second.Nifti2Pair.path_maybe_image(path)[0] else first.Nifti1Pair
                image = pair.from_filename(path, keep_file_open=True)
                _check_beside(path, Path(str(image.file_map["image"].filename)).name)
                return image
            kind = second.Nifti2Image if second.Nifti2Image.path_maybe_image(path)[0] else first.Nifti1Image
            return kind.from_filename(path, keep_file_open=True)
    except (*_NOT_NIFTI, *damaged) as error:
        raise ImageError(f"{path} is not a readable NIfTI file: {error}.") from error


def _check_beside(path: Path, name: str) -> None:
    """Raise ImageError unless a file with pixels, of this name, is a file in the folder of its header."""
    place = path.parent / name
    if set("/\\%") & set(name) or name in ("", "..") or place.is_symlink() or not place.is_file():
        raise ImageError(f"{path} takes its pixels from {name!r}, which is not a file in the same folder.")


class Nifti:
    """A NIfTI file; slices are decompressed one at a time."""

    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remarks: list[str] = []
        self.image = nifti(path)
        shape = tuple(int(n) for n in self.image.shape)
        if len(shape) < 2 or min(shape) < 1:
            raise ImageError(f"{path} has the shape {shape}, which is not that of an image or a volume.")
        size = np.dtype(self.image.get_data_dtype()).itemsize
        limits.check_size(path, shape[0], shape[1], 1, max(size, 8))
        limits.check_bytes(path, math.prod(shape) * size, limits.MAX_VOLUME)
        self.beyond, self.channels = shape[2:4], math.prod(shape[4:])
        if self.channels not in (1, 3):
            raise ImageError(f"{path} has {self.channels} values per pixel, which is neither grey nor RGB.")
        self.count: int | None = math.prod(self.beyond)
        self.spacing = self._spacing()
        stated = int(self.image.header["sform_code"]) or int(self.image.header["qform_code"])
        self.grid = Grid.of(self.image.affine) if stated and len(shape) > 2 else None
        if path.name.lower().endswith(".gz"):
            self._check_stream()

    def _spacing(self) -> tuple[float, float] | None:
        x, y = nifti_sizes(self.image)[:2]
        try:
            unit = self.image.header.get_xyzt_units()[0]
        except KeyError:  # a code that the format does not define
            unit = "unknown"
        if not (0 < x < math.inf and 0 < y < math.inf) or (unit == "unknown" and x == y == 1):
            return None
        if unit == "unknown":
            self.remarks.append("the unit of the spacing is missing; mm is assumed")
        factor = _MILLIMETRES.get(unit, 1.0)
        return x * factor, y * factor

    def _check_stream(self) -> None:
        """Read a compressed file to its end to verify the checksum."""
        count = 0
        try:
            with gzip.open(self.path) as file:
                while data := file.read(1 << 20):
                    count += len(data)
                    limits.check_bytes(self.path, count, limits.MAX_VOLUME + (1 << 20))
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"{self.path} is damaged or truncated: {error}.") from error

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        for number in range(self.count or 0) if wanted is None else (wanted,):
            place = np.unravel_index(number, self.beyond, order="F") if self.beyond else ()
            try:
                array = np.asanyarray(self.image.dataobj[(slice(None), slice(None), *(int(n) for n in place))])
                array = array.reshape(*array.shape[:2], *((3,) if self.channels == 3 else ()))
            except _NOT_NIFTI as error:
                raise ImageError(f"{self.path} is damaged or truncated: {error}.") from error
            if array.dtype.names:  # RGB24 and RGBA32
                array = np.stack([array[name] for name in array.dtype.names[:3]], axis=-1)
            yield np.ascontiguousarray(array.swapaxes(0, 1), array.dtype.newbyteorder("="))


class Itk:
    """A MetaImage (.mha, .mhd) or NRRD (.nrrd, .nhdr) file, loaded completely."""

    region: tuple[int, int, int, int] | None = None

    def __init__(self, path: Path) -> None:
        import SimpleITK as sitk

        self.path = path
        self.remarks: list[str] = []
        self.nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
        self.fields = self._header()
        self.reader = sitk.ImageFileReader()
        self.reader.SetFileName(str(path))
        self.reader.SetImageIO("NrrdImageIO" if self.nrrd else "MetaImageIO")
        try:
            self.reader.ReadImageInformation()
        except RuntimeError as error:
            raise ImageError(
                f"{path} is not a readable {'NRRD' if self.nrrd else 'MetaImage'}: {_last(error)}."
            ) from error
        size = self.reader.GetSize()
        channels = self.reader.GetNumberOfComponents()
        kind = sitk.GetPixelIDValueAsString(self.reader.GetPixelID())
        bits = re.search(r"(\d+)-bit", kind)
        # The sequences of 3D Slicer: one value per pixel and time.
        self.sequence = self.nrrd and channels > 1 and "list" in self.fields.get("kinds", "").lower().split()
        known = self.sequence or channels in (1, 3, 4)
        if "complex" in kind or not bits or not known or len(size) < 2:
            raise ImageError(f"{path} holds {kind} with {channels} values per pixel, which is neither grey nor RGB.")
        limits.check_size(path, size[0], size[1], channels, int(bits[1]) // 8)
        length = math.prod(size) * channels * int(bits[1]) // 8
        limits.check_bytes(path, length, _LOADED)
        packed = "gzip" if self.fields.get("compresseddata", "").lower() == "true" else "raw"
        encoding = self.fields.get("encoding", packed).lower()
        if self.listing:
            self._check_listing(length)
        elif encoding in ("gz", "gzip", "raw") and self.fields.get("binarydata", "true").lower() == "true":
            self._check_length(length, encoding != "raw")
        self.count: int | None = math.prod(size[2:]) * (channels if self.sequence else 1)
        self.spacing = self._spacing()
        self.grid = self._grid() if len(size) > 2 else None

    def _grid(self) -> "Grid | None":
        """Return where the voxels lie; ITK counts to the left, back and head, nibabel to the right, front and head."""
        affine = np.eye(4)
        affine[:3, :3] = np.array(self.reader.GetDirection()).reshape(self.reader.GetDimension(), -1)[:3, :3]
        affine[:3, 3] = self.reader.GetOrigin()[:3]
        return Grid.of(np.diag([-1, -1, 1, 1]) @ affine)

    def _header(self) -> dict[str, str]:
        """Read the fields of the text header, names in lower case. Raises ImageError for pixels in other folders."""
        try:
            with self.path.open("rb") as file:
                text = file.read(_HEADER).decode("latin-1")
                more = bool(file.read(1))
        except OSError as error:
            raise ImageError(f"{self.path} cannot be read: {error.strerror}.") from error
        fields: dict[str, str] = {}
        sources = []
        self.listing: list[str] = []  # files of which each holds some of the axes, or all but the last
        self.listed_axes = 0
        self.start = 0  # of the pixels, where they are in the same file
        for line in text.split("\n"):
            self.start += len(line) + 1
            name, _, value = (piece.strip() for piece in re.sub(r"[:=]=?", "\0", line, count=1).partition("\0"))
            value = _utf8(value)
            fields.setdefault(name.lower(), value)
            if name.lower() in ("ndims", "dimension") and not re.fullmatch("[1-9]", value):  # ITK crashes at some
                raise ImageError(f"{self.path} has {value[:20]!r} dimensions, not a number from 1 to 9.")
            if name.lower() in ("elementdatafile", "data file", "datafile"):
                sources.append(value)
            # Where SimpleITK stops: it takes further fields behind a blank line of a MetaImage, or another spelling.
            if not line.strip("\r") if self.nrrd else name == "ElementDataFile":
                break
        else:
            if more:
                raise ImageError(f"{self.path} has a header of more than the {_HEADER:,} bytes allowed.")
        for data in sources:
            if data.upper() == "LOCAL" and not self.nrrd:
                continue
            if data.startswith("LIST"):  # SimpleITK looks no further: LISTS.raw is a list
                self._read_listing(data, "" if more else text[self.start :])
            else:
                _check_beside(self.path, data)
        return fields

    def _read_listing(self, data: str, text: str) -> None:
        """Note the files that a MetaImage lists behind its header. Raises ImageError for files of other folders."""
        axes = re.fullmatch("LIST(?: ([1-9]))?", data)
        if axes is None or self.nrrd:
            raise ImageError(
                f"{self.path} takes its pixels from {data!r}, which is not a single file in the same folder."
            )
        self.listed_axes = int(axes[1] or 0)
        self.listing = [_utf8(line.strip()) for line in text.strip().split("\n")] if text.strip() else []
        if not self.listing:
            raise ImageError(
                f"{self.path} takes its pixels from a list of files that is empty or over {_HEADER:,} bytes."
            )
        for name in self.listing:
            _check_beside(self.path, name)

    def _check_listing(self, length: int) -> None:
        """Check number and lengths of the files of a list; SimpleITK leaves black what is missing."""
        size = self.reader.GetSize()
        count = math.prod(size[self.listed_axes or len(size) - 1 :])
        if len(self.listing) != count:
            raise ImageError(f"{self.path} lists {counted(len(self.listing), 'file')} in place of {count:,}.")
        if {"headersize", "compresseddata"} & set(self.fields):
            raise ImageError(f"{self.path} lists files that are compressed or have headers, which is not read.")
        for name in self.listing:
            place = self.path.parent / name
            check_length(place, 0, length // count, False, place.stat().st_mtime_ns)

    def _check_length(self, length: int, compressed: bool) -> None:
        """Check length and checksum, which SimpleITK ignores; not where lines or bytes are to be skipped first."""
        names = [self.fields[name] for name in ("data file", "datafile", "elementdatafile") if name in self.fields]
        here = not names or names[0].upper() == "LOCAL"
        place, start = (self.path, self.start) if here else (self.path.parent / names[0], 0)
        if not {"line skip", "lineskip", "byte skip", "byteskip", "headersize"} & set(self.fields):
            check_length(place, start, length, compressed, place.stat().st_mtime_ns)

    def _spacing(self) -> tuple[float, float] | None:
        keys = ("elementspacing", "elementsize", "spacings", "space directions")
        x, y = (float(value) for value in self.reader.GetSpacing()[:2])
        stated = re.findall(r"[0-9][^ ]*", self.fields.get("spacings", ""))  # NaN where unknown, read as 1 by SimpleITK
        unknown = "spacings" in self.fields and len(stated) < len(self.reader.GetSize())
        if unknown or not any(name in self.fields for name in keys) or not (0 < x < math.inf and 0 < y < math.inf):
            return None
        unit = next(iter(re.findall(r'"([^"]*)"', self.fields.get("space units", ""))), "mm")
        if unit not in _MILLIMETRES:
            self.remarks.append(f"the spacing is ignored: unknown unit {unit!r}")
            return None
        return x * _MILLIMETRES[unit], y * _MILLIMETRES[unit]

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        import SimpleITK as sitk

        try:
            image = self.reader.Execute()
        except (RuntimeError, MemoryError) as error:
            raise ImageError(f"{self.path} is damaged or truncated: {_last(error)}.") from error
        array = sitk.GetArrayViewFromImage(image)
        channels = array.shape[-1:] if image.GetNumberOfComponentsPerPixel() > 1 else ()
        flat = array.reshape(-1, *image.GetSize()[1::-1], *channels)
        for number in range(self.count or 0) if wanted is None else (wanted,):
            if self.sequence:
                time, place = divmod(number, len(flat))
                yield np.array(flat[place, :, :, time])
            else:
                yield np.array(flat[number][..., :3] if channels else flat[number])


def _utf8(text: str) -> str:
    """Return Latin-1 text as UTF-8 where its bytes are that, as names of files are."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        return text


def _last(error: Exception) -> str:
    """Return the last line of an ITK error that tells something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() not in ("", "Reason: Success")]
    last = lines[-1] if lines else type(error).__name__
    return re.sub(r"^ITK ERROR: \w+\(0x[0-9a-f]+\): ", "", last).rstrip(".")[:300]
