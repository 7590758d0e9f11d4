"""Files in the forms that a person brings, written for the tests of this folder, and their pixels as they are read."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from us43d import pictures

SHAPE = (90, 120)


def frames(path: Path) -> list[np.ndarray]:
    return [frame.pixels for frame in pictures.open(path).frames()]


def only(path: Path) -> np.ndarray:
    (pixels,) = frames(path)
    return pixels


def saved(array: np.ndarray, path: Path, mode: str | None = None, **how: Any) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **how)
    return path


def remark(path: Path) -> str:
    media = pictures.open(path)
    for _ in media.frames():
        pass
    return " ".join(media.remarks)


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


def video(path: Path, stack: list[np.ndarray], code: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, SHAPE[::-1])
    for frame in stack:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path
