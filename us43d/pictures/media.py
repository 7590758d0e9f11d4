"""Pictures as a user has them: image files, folders, videos, DICOM files, NIfTI volumes. Frames come one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.errors import ImageError, Us43dError
from us43d.masks import read

__all__ = ["Frame", "Media", "found", "frames", "volume_of"]

Kind: TypeAlias = Literal["image", "video", "dicom", "nifti"]

_KINDS: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
    "video": (".avi", ".mp4", ".mov", ".mkv", ".mpg", ".mpeg", ".wmv", ".m4v"),
    "dicom": (".dcm", ".dicom"),
    "nifti": (".nii", ".nii.gz"),
}


class Media(NamedTuple):
    """One input file. name: the file's name without its ending."""

    path: Path
    kind: Kind
    name: str


class Frame(NamedTuple):
    """name: unique among all frames. number: from 0 in its file. picture: (h, w) grey or (h, w, 3) RGB, uint8 or
    uint16."""

    name: str
    number: int
    picture: NDArray[Any]


def found(path: Path) -> list[Media]:
    """The input at a path: the file itself, or the files of a known kind in a folder, by name.

    A file without a known ending is DICOM if it says so, else taken for an image. Raises ImageError if there is none.
    """
    if path.is_dir():
        inside = [media for each in sorted(path.iterdir()) if each.is_file() and (media := _kind(each))]
        if not inside:
            endings = ", ".join(end for ends in _KINDS.values() for end in ends)
            raise ImageError(f"{path} holds no file that ends in {endings}.")
        names = [media.name for media in inside]
        return [each if names.count(each.name) == 1 else each._replace(name=each.path.name) for each in inside]
    if not path.is_file():
        raise ImageError(f"{path} does not exist.", next="us43d predict --help")
    return [_kind(path) or Media(path, "dicom" if _is_dicom(path) else "image", path.stem)]


def _kind(path: Path) -> Media | None:
    name = path.name.lower()
    for kind, ends in _KINDS.items():
        for end in ends:
            if name.endswith(end):
                return Media(path, kind, path.name[: -len(end)])
    return Media(path, "dicom", path.name) if not path.suffix and _is_dicom(path) else None


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def frames(media: Media, wanted: int | None = None) -> Iterator[Frame]:
    """All frames of a file, or frame `wanted` from 0. Raises ImageError or UnreadableFile for what cannot be read."""
    if media.kind == "image":
        pictures: Iterator[NDArray[Any]] = iter((read.image(media.path),))
    else:
        pictures = {"video": _video, "dicom": _dicom, "nifti": _nifti}[media.kind](media.path)
    many = media.kind != "image"
    seen = 0
    for index, picture in enumerate(pictures):
        seen += 1
        if wanted in (None, index):
            yield Frame(f"{media.name}_{index:05}" if many else media.name, index, picture)
    if seen == 0 or (wanted is not None and wanted >= seen):
        what = f"no frame {wanted}" if seen else "none that can be read"
        raise ImageError(f"{media.path} has {seen} frames, {what}.")


def _video(path: Path) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise ImageError(f"{path} is no video that OpenCV can read.")
        while True:
            ok, bgr = capture.read()
            if not ok:
                return
            yield np.ascontiguousarray(bgr[:, :, ::-1]).astype(np.uint8)
    finally:
        capture.release()


def _nifti(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Slices of the axes beyond the second, rows being y; other types than uint8 are spread over 0–255."""
    volume = np.asanyarray(volume_of(path).dataobj)
    if volume.dtype.names:  # RGB24
        volume = np.stack([volume[name] for name in volume.dtype.names[:3]], axis=-1)
        flat = volume.reshape(*volume.shape[:2], -1, 3, order="F")
    else:
        flat = volume.reshape(*volume.shape[:2], -1, order="F")
    low, high = (0.0, 255.0) if volume.dtype == np.uint8 else (float(np.nanmin(volume)), float(np.nanmax(volume)))
    for n in range(flat.shape[2]):
        piece = np.swapaxes(flat[:, :, n], 0, 1)
        if volume.dtype != np.uint8:
            piece = np.nan_to_num((piece.astype(np.float64) - low) * (255 / max(high - low, 1e-12))).round()
        yield np.ascontiguousarray(piece).astype(np.uint8)


def volume_of(path: Path) -> Any:
    """The NIfTI image at a path. Raises ImageError."""
    import nibabel

    try:
        image = nibabel.nifti1.load(path)
        if len(image.shape) < 2:
            raise ImageError(f"{path} has {len(image.shape)} axes, too few for a picture.")
        return image
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise ImageError(f"{path} is no readable NIfTI file: {error}.") from error


def _dicom(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Frames in grey or RGB; MONOCHROME1 is inverted, more than 8 bits are cut to the highest 8 that are stored."""
    import pydicom
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.utils import iter_pixels

    try:
        dataset = pydicom.dcmread(path)
        spare = max(0, int(dataset.get("BitsStored", 8)) - 8)
        inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        for picture in iter_pixels(dataset):
            small = (picture >> spare).astype(np.uint8)
            yield 255 - small if inverted else small
    except Us43dError:
        raise
    except InvalidDicomError as error:
        raise ImageError(f"{path} is no DICOM file: {error}") from error
    except (OSError, EOFError, ValueError, AttributeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ImageError(f"The pixels of {path} cannot be read: {error}.") from error
