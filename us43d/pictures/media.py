"""An input file: its frames, one at a time, its pixel spacing, and remarks on how it was read."""

import contextlib
import hashlib
import json
import os
import re
import shlex
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from us43d import atomic
from us43d.errors import ImageError, RawDataError, counted
from us43d.pictures import levels
from us43d.rawtree import folded

__all__ = [
    "ENDINGS", "JOURNAL", "PREDICTIONS", "Frame", "Input", "Kind", "Media", "Source", "check_regular", "is_dicom",
    "journal", "listing", "no_frame", "open_media", "results", "stem",
]  # fmt: skip

Kind: TypeAlias = Literal["image", "video", "dicom", "nifti", "volume"]

#: Endings of file names by the way in which the files are read.
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "image": (
        ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm",
        ".pbm", ".pfm", ".jfif", ".jpe", ".dib", ".jpx", ".j2c",
    ),
    "video": (
        ".avi", ".mp4", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v", ".3gp", ".asf", ".vob", ".ts",
        ".m2ts", ".mts", ".flv", ".ogv",
    ),
    "dicom": (".dcm", ".dicom"),
    "nifti": (".nii", ".nii.gz"),
    "volume": (".mha", ".mhd", ".nrrd", ".nhdr"),
}  # fmt: skip
#: Endings of images that are listed to be refused by name, as they would be missed otherwise. An .hdr may be the header
#: of a NIfTI pair, which is read.
_UNREAD = (".heic", ".heif", ".avif", ".jxl", ".hdr")
#: Names of files left by desktops and archivers, and of DICOM's index of a folder; hidden files are skipped, too.
_LITTER = ("thumbs.db", "desktop.ini", "__macosx", "dicomdir")
#: What `predict` writes into a folder: a COCO file that names the other results.
PREDICTIONS = "predictions.json"
#: The results of a run that was interrupted, and those of weights without predictions.json: a name per line, as JSON.
JOURNAL = ".us43d-predict"
#: Bytes kept of a name: file systems take 255, and results add the number of a frame and an ending.
_KEPT = 200


class Input(NamedTuple):
    """A file of a listing.

    Attributes:
        path: The file.
        kind: How the file is read.
        relative: Path below the listed folder, with slashes.
        name: Path below the listed folder, without the ending unless it is needed to tell files and frames apart. A
            name of over 200 bytes is cut there and ends in 8 digits of its SHA-256.
    """

    path: Path
    kind: Kind
    relative: str
    name: str


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
            raise no_frame(self.path, self.count, wanted)
        numbered = self.kind != "image" or (self.count or 0) > 1
        try:
            for number, array in enumerate(self._source.read(wanted), wanted or 0):
                name = f"{self.name}_{number:05}" if numbered else self.name
                yield Frame(name, number, self._eight_bits(array, window))
        except RawDataError as error:
            raise ImageError(error.what) from error

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


def no_frame(path: Path, count: int, wanted: int) -> ImageError:
    """Return the error of a file with fewer frames than the number of the wanted one."""
    return ImageError(f"{path} has {counted(count, 'frame')}, no frame {wanted}.", next="the same with --frame 0")


def open_media(path: Path | str | Input) -> Media:
    """Open a file; pixels are decoded later, frame by frame.

    Args:
        path: The file, or an entry of `listing`.

    Raises:
        ImageError: The file is missing, of an unknown kind, damaged, or above the limits.
    """
    file = path if isinstance(path, Input) else _input(Path(path))
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


def listing(path: Path | str, leave_out: Path | None = None) -> list[Input]:
    """List a file, or the files of a known kind in a folder and its subfolders, by name.

    Hidden files, files of desktops (`._*`, Thumbs.db …), DICOMDIR and the results of `predict` that a predictions.json
    names are skipped. Links are followed, each folder once. A file without a known ending is listed if its content is
    DICOM.

    Args:
        path: A file or a folder.
        leave_out: A folder to skip, such as that of results.

    Raises:
        ImageError: No file found, or a folder cannot be listed.
    """
    path = Path(path)
    if not atomic.is_dir(path):
        return _named([_input(path)])
    entered = {_identity(path), _identity(leave_out)}
    inputs = []
    predicted = set[Path]()
    for place, folders, names in os.walk(path, onerror=_unlisted, followlinks=True):
        folder = Path(place)
        if PREDICTIONS in names or JOURNAL in names:
            predicted.update(folder / name for name in results(folder))
        inside = {name: _identity(folder / name) for name in sorted(folders) if not _is_litter(name)}
        folders[:] = [name for name, identity in inside.items() if identity not in entered]
        entered.update(inside.values())
        for name in names:
            file = folder / name
            if file not in predicted and not _is_litter(name) and (known := _kind(file)):
                relative = file.relative_to(path)
                inputs.append(Input(file, known[0], relative.as_posix(), relative.with_name(known[1]).as_posix()))
    if not inputs:
        such = ", ".join(endings[0] for endings in ENDINGS.values())
        raise ImageError(f"No images, videos or volumes found in {path} (files such as {such}).", next=_look(path))
    return sorted(_named(inputs), key=lambda entry: entry.relative)


def stem(file: Input) -> str:
    """Return the path of a file below the listed folder, without its ending."""
    known = _kind(file.path)
    return str(PurePosixPath(file.relative).with_name(known[1])) if known else file.relative


def _named(inputs: list[Input]) -> list[Input]:
    """Keep the ending in names that are those of other files or of their frames: clip.avi beside clip_00000.png."""
    while True:
        names = Counter(folded(entry.name) for entry in inputs)
        frames = {match[1] for name in names if (match := re.fullmatch(r"(.+)_[0-9]{5,}", name))}
        clashes = [
            n
            for n, entry in enumerate(inputs)
            if (names[folded(entry.name)] > 1 or folded(entry.name) in frames) and entry.name != entry.relative
        ]
        if not clashes:
            return [entry._replace(name=_shortened(entry.name)) for entry in inputs]
        for n in clashes:
            inputs[n] = inputs[n]._replace(name=inputs[n].relative)


def _shortened(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    data = os.fsencode(last)
    if len(data) <= _KEPT:
        return name
    return f"{folder}{slash}{data[:_KEPT].decode(errors='ignore')}_{hashlib.sha256(data).hexdigest()[:8]}"


def journal(folder: Path) -> set[str]:
    """Return the names in the journal of `predict` in a folder, without a last line that was cut."""
    try:
        lines = (folder / JOURNAL).read_text("utf-8").splitlines()
        names = [json.loads(line) for line in lines if line.endswith('"')]
    except (OSError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str)}


def results(folder: Path) -> set[str]:
    """Return the results of `predict` in a folder, by its predictions.json and the journal of an interrupted run."""
    file = folder / PREDICTIONS
    known: Any = []
    if file.is_file():  # not a pipe that would be waited for
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):  # a file of others
            known = json.loads(file.read_bytes())["files"]
    root = folder.resolve()
    return {
        name
        for name in (*(known if isinstance(known, list) else ()), *journal(folder))
        if isinstance(name, str)
        and re.fullmatch(r"(?:masks|overlays)/.+\.png|.+_labels\.nii\.gz", name)
        and (root / name).resolve().is_relative_to(root)
    }


def _unlisted(error: OSError) -> NoReturn:
    raise ImageError(
        f"{error.filename} cannot be listed: {error.strerror}.", next=shlex.join(["ls", "-ld", str(error.filename)])
    ) from error


def _look(path: Path) -> str:
    """Return the command that lists a folder, or the nearest one that exists."""
    return shlex.join(["ls", str(next(place for place in (path, *path.absolute().parents) if atomic.is_dir(place)))])


def check_regular(path: Path) -> None:
    """Raise ImageError for a path that is missing, cannot be examined, or is a folder, a pipe or a device."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", next=_look(path)) from error
    except (OSError, ValueError) as error:  # no permission, a name too long, an invalid one
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{str(path)[:200]} cannot be opened: {reason}.", next=_look(path)) from error
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path} is not a regular file.", next=_look(path))


def _input(path: Path) -> Input:
    check_regular(path)
    kind, stem = _kind(path) or ("image", path.stem)
    return Input(path, kind, path.name, stem)


def _kind(path: Path) -> tuple[Kind, str] | None:
    """Return (kind, name without ending) of a file; None for an unknown kind."""
    for kind, endings in (*ENDINGS.items(), ("image", _UNREAD)):
        for ending in endings:
            if path.name.lower().endswith(ending) and len(path.name) > len(ending):
                return kind, path.name[: -len(ending)]
    return ("dicom", path.name) if atomic.exists(path) and path.is_file() and is_dicom(path) else None


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM. Raises ImageError."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read: {error.strerror}.", next=shlex.join(["ls", "-l", str(path)])
        ) from error


def _is_pair(path: Path) -> bool:
    """Return whether a file is the header of a NIfTI pair: of version 1 or 2 (nifti1.h, nifti2.h: magic)."""
    with path.open("rb") as file:
        start = file.read(348)
    return start[344:347] == b"ni1" or start[4:7] == b"ni2"


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Return an identity of a folder that is independent of links; None for a missing folder."""
    if folder is None or not folder.exists():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino
