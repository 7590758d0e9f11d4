"""The files to read in a folder: how each is read, and a name for its results that no other file has."""

import hashlib
import os
import re
import shlex
import stat
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, NoReturn, TypeAlias

from us43d import atomic
from us43d.errors import ImageError
from us43d.pictures.outputs import JOURNAL, PREDICTIONS, results
from us43d.rawtree import folded

__all__ = ["ENDINGS", "Input", "Kind", "check_regular", "is_dicom", "listing", "single", "stem"]

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
        return _named([single(path)])
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


def single(path: Path) -> Input:
    """Return the entry of a file on its own; an unknown ending counts as an image. Raises ImageError."""
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


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Return an identity of a folder that is independent of links; None for a missing folder."""
    if folder is None or not folder.exists():
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino
