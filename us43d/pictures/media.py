"""An input file: its frames, one at a time, its pixel spacing, and remarks on how it was read."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from us43d.errors import ImageError, RawDataError, counted
from us43d.pictures import levels
from us43d.pictures.listing import Input, check_regular, is_dicom, single

if TYPE_CHECKING:
    from us43d.pictures.volume import Grid

__all__ = ["Frame", "Media", "Source", "open_media"]


class Frame(NamedTuple):
    """A frame, page or slice.

    Attributes:
        name: Unique among all frames of a listing.
        number: Number in the file, from 0.
        pixels: (h, w) grey or (h, w, 3) RGB, uint8.
    """

    name: str
    number: int
    pixels: NDArray[np.uint8]


class Source(Protocol):
    """Interface of the reader of a format.

    Attributes:
        count: Number of frames; None if unknown before decoding.
        spacing: (x, y) mm per pixel; None if unknown.
        region: Ultrasound region declared in the file, (x0, y0, x1, y1) in pixels, x1 and y1 excluded; None without
            one.
        remarks: Remarks on how the file was read.
    """

    count: int | None
    spacing: tuple[float, float] | None
    region: tuple[int, int, int, int] | None
    remarks: list[str]

    def read(self, wanted: int | None) -> Iterator[NDArray[Any]]:
        """Yield all frames, or frame `wanted` alone, in the file's own data type: (h, w) or (h, w, 3) RGB."""


class Media:
    """An opened file.

    Attributes:
        path: The file.
        kind: How the file is read.
        relative: As in `Input`.
        name: As in `Input`.
    """

    def __init__(self, file: Input, source: Source) -> None:
        self.path, self.kind, self.relative, self.name = file
        self._source = source
        self._levels: tuple[float, float] | None = None

    @property
    def count(self) -> int | None:
        """Number of frames; None for a video without that information."""
        return self._source.count

    @property
    def spacing(self) -> tuple[float, float] | None:
        """(x, y) mm per pixel; None if unknown."""
        return self._source.spacing

    @property
    def region(self) -> tuple[int, int, int, int] | None:
        """Ultrasound region declared in a DICOM file, (x0, y0, x1, y1) in pixels, x1 and y1 excluded."""
        return self._source.region

    @property
    def patient(self) -> str:
        """Pseudonym of the patient that a DICOM file names, the same for all files of one; empty if unknown."""
        return str(getattr(self._source, "patient", ""))

    @property
    def orientation(self) -> int:
        """The tag of the first image by which `frames` turns what is stored; 1 where nothing is turned."""
        return int(getattr(self._source, "orientation", 1))

    @property
    def grid(self) -> "Grid | None":
        """Where the voxels of a volume lie; None for other files, and where the header does not state it."""
        return getattr(self._source, "grid", None)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks on how the file was read; complete once all frames were read."""
        return tuple(dict.fromkeys(self._source.remarks))

    @property
    def levels(self) -> tuple[float, float] | None:
        """The smallest and the largest value of all frames, which become 0 and 255; None for 8 bits or one bit.

        Raises:
            ImageError: The file cannot be read.
        """
        if self._levels is None:
            try:
                self._eight_bits(next(iter(self._source.read(0))))
            except RawDataError as error:
                raise ImageError(error.what) from error
        return self._levels

    def frames(self, wanted: int | None = None, window: tuple[float, float] | None = None) -> Iterator[Frame]:
        """Yield all frames, one in memory at a time.

        Args:
            wanted: Yield only this frame, from 0.
            window: Values that become 0 and 255 in place of `levels`; 8 bits stay as they are.

        Raises:
            ImageError: The file cannot be read, or does not have the frame.
        """
        if wanted is not None and self.count is not None and not 0 <= wanted < self.count:
            raise self._lacks(wanted)
        numbered = self.kind != "image" or (self.count or 0) > 1
        try:
            for number, array in enumerate(self._source.read(wanted), wanted or 0):
                name = f"{self.name}_{number:05}" if numbered else self.name
                yield Frame(name, number, self._eight_bits(array, window))
                wanted = None
        except RawDataError as error:
            raise ImageError(error.what) from error
        if wanted is not None:  # of a video that does not state its number of frames
            raise self._lacks(wanted)

    def _lacks(self, wanted: int) -> ImageError:
        return ImageError(
            f"{self.path} has {counted(self.count or 0, 'frame')}, no frame {wanted}.", next="the same with --frame 0"
        )

    def frame(self, number: int = 0, window: tuple[float, float] | None = None) -> Frame:
        """Read one frame. Raises ImageError."""
        return next(iter(self.frames(number, window)))

    def stored(self) -> Iterator[NDArray[Any]]:
        """Yield all frames in the data type of the file, for masks: (h, w) or (h, w, 3) RGB, of DICOM without window.

        Raises:
            ImageError: The file cannot be read.
        """
        source = self._source
        if self.kind == "dicom":
            from us43d.pictures import dicom

            source = dicom.Dicom(self.path)
            source.labels = True
        try:
            yield from source.read(None)
        except RawDataError as error:
            raise ImageError(error.what) from error

    def deep(self) -> NDArray[np.uint16] | None:
        """Return the pixels of a single image of 16 bits without sign as they are; None for any other file.

        Raises:
            ImageError: The file cannot be read.
        """
        if self.count != 1:
            return None
        try:
            array = next(iter(self._source.read(0)))
        except RawDataError as error:
            raise ImageError(error.what) from error
        return array if array.dtype == np.uint16 else None

    def _eight_bits(self, array: NDArray[Any], window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
        if array.dtype in (np.uint8, np.bool_):
            return levels.eight_bits(array)
        if array.dtype.kind not in "iuf":
            raise ImageError(f"{self.path} has values of the type {array.dtype}, neither whole nor real numbers.")
        if window:
            return levels.eight_bits(array, window)
        if self._levels is None:  # of all frames, so that they have equal brightness
            self._levels = levels.finite_range(self._source.read(None) if self.count != 1 else [array])
            self._source.remarks.append(f"{array.dtype.name} values are scaled to 0–255 by their range")
        return levels.eight_bits(array, self._levels)


def open_media(path: Path | str | Input) -> Media:
    """Open a file; pixels are decoded later, frame by frame.

    Args:
        path: The file, or an entry of `listing`.

    Raises:
        ImageError: The file is missing, of an unknown kind, damaged, or above the limits.
    """
    file = path if isinstance(path, Input) else single(Path(path))
    check_regular(file.path)  # links that lead nowhere and pipes are listed, so that they are reported
    try:
        file.relative.encode()
    except UnicodeEncodeError as error:  # no COCO file could hold it
        raise ImageError(f"The name of {os.fsencode(file.path)!r} is not UTF-8. Rename the file.") from error
    if file.kind == "image" and is_dicom(file.path):  # by content, not by name
        file = file._replace(kind="dicom")
    if file.path.suffix.lower() == ".hdr" and _is_pair(file.path):
        file = file._replace(kind="nifti")
    try:
        return Media(file, _source(file))
    except RawDataError as error:
        raise ImageError(error.what) from error


def _source(file: Input) -> Source:
    from us43d.pictures import dicom, still, video, volume

    if file.kind == "video":
        return video.Video(file.path)
    if file.kind == "dicom":
        return dicom.Dicom(file.path)
    if file.kind == "nifti":
        return volume.Nifti(file.path)
    return volume.Itk(file.path) if file.kind == "volume" else still.opened(file.path)


def _is_pair(path: Path) -> bool:
    """Return whether a file is the header of a NIfTI pair: of version 1 or 2 (nifti1.h, nifti2.h: magic)."""
    with path.open("rb") as file:
        start = file.read(348)
    return start[344:347] == b"ni1" or start[4:7] == b"ni2"
