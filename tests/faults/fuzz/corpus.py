"""A small sound file of every format the readers know, and mutations of it that a seed decides."""

import gzip
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).parents[1] / "archives" / "hostile.py")
assert spec is not None
assert spec.loader is not None
hostile = importlib.util.module_from_spec(spec)
sys.modules["hostile"] = hostile
spec.loader.exec_module(hostile)

Make = Callable[[Path], None]
SHAPE = (24, 32)


def pixels(seed: int = 0, *shape: int) -> np.ndarray:
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).random(shape or SHAPE).astype(np.float32), (0, 0), 2)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def stack() -> np.ndarray:
    return np.stack([pixels(seed) for seed in range(3)])


def _encoded(path: Path) -> None:
    path.write_bytes(cv2.imencode(path.suffix, np.dstack([pixels(seed) for seed in range(3)]))[1].tobytes())


def _tiff(compression: str | None) -> Make:
    def make(path: Path) -> None:
        import tifffile

        tifffile.imwrite(path, stack(), photometric="minisblack", compression=compression, rowsperstrip=8)

    return make


def _gif(path: Path) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in stack())
    first.save(path, save_all=True, append_images=rest)


def _dicom(frames: int) -> Make:
    def make(path: Path) -> None:
        import pydicom
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundMultiFrameImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs=["fuzz"])
        data.Rows, data.Columns = SHAPE
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.SamplesPerPixel, data.PixelRepresentation = 15, 1, 0
        data.PhotometricInterpretation, data.NumberOfFrames = "MONOCHROME2", str(frames)
        data.PixelSpacing, data.WindowCenter, data.WindowWidth = [0.1, 0.2], 128, 256
        data.PixelData = stack()[:frames].astype("<u2").tobytes()
        pydicom.dcmwrite(path, data, enforce_file_format=True)

    return make


def _nifti(path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(stack().transpose(2, 1, 0), np.diag([0.1, 0.2, 1, 1])), path)


def _itk(compressed: bool) -> Make:
    def make(path: Path) -> None:
        import SimpleITK

        image = SimpleITK.GetImageFromArray(stack())
        image.SetSpacing((0.1, 0.2, 1))
        SimpleITK.WriteImage(image, str(path), compressed)

    return make


def _npy(path: Path) -> None:
    np.save(path, stack())


def _pickle(path: Path) -> None:
    content = {"image": pixels(), "structures": {"artery": pixels(1) > 128}, "note": "text", "order": [1, 2.5, None]}
    np.save(path, np.array(content, dtype=object), allow_pickle=True)


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=stack(), chunks=(1, *SHAPE), compression="gzip", fletcher32=True)
        file.create_dataset("name", data=np.array([b"a", b"b", b"c"]))


def _video(code: str) -> Make:
    def make(path: Path) -> None:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, (64, 48))
        for seed in range(6):
            writer.write(np.dstack([pixels(seed, 48, 64)] * 3))
        writer.release()

    return make


TABLE = "id;age;x\n" + "".join(f"p{n};{n + 30};{n}.5\n" for n in range(20))


def _csv(path: Path) -> None:
    path.write_text(TABLE.replace(";", ","))


def _xlsx(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for line in TABLE.splitlines():
        book.active.append(line.split(";"))
    book.save(path)


def _json(path: Path) -> None:
    path.write_text(json.dumps({"a": [1, 2.5, None, "é"], "b": {"points": [[1, 2], [3, 4]]}}))


def _coco(path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 24} for n in (1, 2)]
    square = {"category_id": 1, "bbox": [2, 2, 8, 8], "area": 64, "iscrowd": 0}
    annotations = [
        {"id": 1, "image_id": 1, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]], **square},
        {"id": 2, "image_id": 2, "segmentation": {"size": [24, 32], "counts": [50, 8, 710]}, **square},
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cyst"}]}
    path.write_text(json.dumps(content))


def _xml(path: Path) -> None:
    path.write_text('<?xml version="1.0"?><case><age>41</age><mark svg="[1, 2]">é</mark></case>', "utf-8")


def _archive(data: Callable[[], bytes]) -> Make:
    return lambda path: hostile.written(path.parent, path.name, data()) and None


def _safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({f"image_encoder.{n}": np.ones((3, 4), np.float32) for n in range(4)}, path)


def _torch(path: Path) -> None:
    import torch

    torch.save({"state_dict": {f"backbone.{n}": torch.ones(3, 4) for n in range(4)}}, path)


#: Name of the file → how it is made.
FORMATS: dict[str, Make] = {
    "a.png": _encoded, "a.jpg": _encoded, "a.bmp": _encoded, "a.webp": _encoded, "a.ppm": _encoded, "a.gif": _gif,
    "plain.tif": _tiff(None), "deflate.tif": _tiff("zlib"), "lzw.tif": _tiff("lzw"), "jpeg.tif": _tiff("jpeg"),
    "one.dcm": _dicom(1), "many.dcm": _dicom(3), "a.nii": _nifti, "a.nii.gz": _nifti,
    "a.mha": _itk(False), "packed.mha": _itk(True), "a.mhd": _itk(False), "a.nrrd": _itk(False),
    "packed.nrrd": _itk(True), "a.npy": _npy, "pickled.npy": _pickle, "a.h5": _hdf5,
    "a.avi": _video("MJPG"), "a.mp4": _video("mp4v"), "a.csv": _csv, "a.xlsx": _xlsx, "a.json": _json,
    "coco.json": _coco, "a.xml": _xml, "a.zip": _archive(lambda: hostile.zip_bytes(hostile.members())),
    "a.tar.gz": _archive(lambda: gzip.compress(hostile.good_tar(), mtime=0)), "a.tar": _archive(hostile.good_tar),
    "four.rar": _archive(lambda: hostile.rar4_bytes(hostile.rars())),
    "five.rar": _archive(lambda: hostile.rar5_bytes(hostile.rars())),
    "a.7z": _archive(hostile.seven_bytes), "a.safetensors": _safetensors, "a.pth": _torch,
}  # fmt: skip

#: Formats whose every pixel is below a checksum: a mutation that is read must give what the sound file gives.
CHECKED = ("a.png", "a.nii.gz", "a.zip", "four.rar", "five.rar", "a.7z")

_LARGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_HEADER = 512
#: Begin of the description of a mutation that gives another sound file, which may be read: a workbook is a ZIP, too.
REPLACED = "replaced"
_HOW = ("cut", "bit", "header bit", "number", "text number", "zeroed", "doubled", "other", "noise")


def mutations(sound: dict[str, bytes], name: str, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Yield endless (description, damaged bytes) of the file `name`."""
    data = sound[name]
    yield "emptied", b""
    others = [other for other in sound if other != name]
    while True:
        how = ("cut", "bit", "header bit", "number", "text number", "zeroed", "doubled", "other", "noise")[
            rng.integers(9)
        ]
        changed, at = bytearray(data), int(rng.integers(len(data)))
        near = int(rng.integers(min(_HEADER, len(data))))
        if how == "cut":
            yield f"cut at {at}", data[:at]
            continue
        if how == "bit":
            for place in (at, *rng.integers(0, len(data), int(rng.integers(0, 4)))):
                changed[place] ^= 1 << int(rng.integers(8))
        elif how == "header bit":
            changed[near] ^= 1 << int(rng.integers(8))
            at = near
        elif how == "number":
            width, value = (1, 2, 4, 8)[rng.integers(4)], _LARGE[rng.integers(len(_LARGE))]
            at = near if rng.random() < 0.7 else at
            order = ("little", "big")[rng.integers(2)]
            changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)
        elif how == "text number":
            digits = [n for n, byte in enumerate(data[: 4 * _HEADER]) if chr(byte).isdigit()]
            if not digits:
                continue
            at = digits[rng.integers(len(digits))]
            changed[at : at + 1] = (b"-1", b"99999999", b"1e308", b"NaN", b"0", b"x", b"")[rng.integers(7)]
        elif how == "zeroed":
            changed[at : at + int(rng.integers(1, 64))] = bytes(int(rng.integers(1, 64)))
        elif how == "doubled":
            changed[at:at] = data[at : at + int(rng.integers(1, 256))]
        elif how == "other":
            chosen = others[rng.integers(len(others))]
            other = sound[chosen]
            if rng.random() < 0.5:
                yield f"{REPLACED} by {chosen}", other
                continue
            changed = bytearray(data[:at] + other[min(at, len(other)) :])
        else:
            changed[at:] = rng.bytes(len(data) - at)
        yield f"{how} at {at}", bytes(changed)


def files(folder: Path) -> dict[str, bytes]:
    """Make one file of every format. The data file beside a .mhd is left in the folder."""
    folder.mkdir()
    for name, make in FORMATS.items():
        make(folder / name)
    return {name: (folder / name).read_bytes() for name in FORMATS}


def read(path: Path, *, strict: bool = True) -> list[Any]:
    """Read a file with every reader that takes its format, and return what they gave; raise what the first raised.

    strict: with False, None takes the place of what a reader refused.
    """
    from us43d import masks, pictures
    from us43d.coco import schema
    from us43d.errors import Us43dError
    from us43d.fetch.unpack import Limits, unpack
    from us43d.masks import hdf5, metaimage, pickled, videos
    from us43d.masks import read as mask_files
    from us43d.model import weights
    from us43d.rawtree import RawTree

    name = path.name
    gave: list[Any] = []
    errors: list[Us43dError] = []

    def attempt(reader: Callable[[], Any], *, may_refuse: bool = False) -> None:
        try:
            gave.append(reader())
        except Us43dError as error:
            gave.append(None)
            errors.extend([] if may_refuse else [error])

    still = name.endswith((".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".ppm"))
    if still or name.endswith((".dcm", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".avi", ".mp4")):
        attempt(lambda: [frame.pixels for frame in pictures.open(path).frames()])
    if still:
        several = name.endswith(".tif")  # of three images, of which the readers of one take none
        attempt(lambda: mask_files.image(path), may_refuse=several)
        attempt(lambda: masks.binary(path), may_refuse=True)  # most are grey
        attempt(lambda: mask_files.rgb(path), may_refuse=several)
    elif name.endswith((".nii", ".nii.gz")):
        attempt(lambda: [mask_files.nifti_frame(path, n) for n in range(min(4, mask_files.nifti_shape(path)[0][-1]))])
    elif name.endswith(".mha"):
        attempt(lambda: [metaimage.mha_frame(path, n) for n in range(3)])
    elif name.endswith((".avi", ".mp4")):
        attempt(lambda: [videos.video_frame(path, n) for n in range(min(6, videos.video_length(path)))])
    elif name == "a.npy":
        attempt(lambda: [mask_files.npy_frame(path, n) for n in range(min(3, mask_files.npy_shape(path)[0]))])
    elif name == "pickled.npy":
        attempt(lambda: pickled.pickled_array(path, "structures", "artery"))
    elif name == "a.h5":
        attempt(lambda: [hdf5.hdf5_row(path, "image", n) for n in range(3)])
        attempt(lambda: hdf5.hdf5_text(path, "name"))
    elif name.endswith((".csv", ".xlsx", ".xml")) or name == "a.json":
        tree = RawTree(path.parent)
        readers = {
            "csv": lambda: [row.number("x") for row in tree.rows(name, ("id", "age", "x"))],
            "xlsx": lambda: [row.whole("age") for row in tree.sheet(name, ("id", "age", "x"))],
            "xml": lambda: tree.xml(name).findtext("age"),
            "json": lambda: tree.json(name),
        }
        attempt(readers[path.suffix[1:]])
    elif name == "coco.json":
        attempt(lambda: schema.load(path))
    elif name.endswith((".zip", ".tar", ".tar.gz", ".rar", ".7z")):
        into = path.with_name("unpacked")
        into.mkdir()
        attempt(lambda: unpack([path], into, limits=Limits(free=1 << 28)))
        if not errors:
            gave.append({str(p.relative_to(into)): p.read_bytes() for p in sorted(into.rglob("*")) if p.is_file()})
    elif name.endswith((".safetensors", ".pth")):
        attempt(lambda: weights.load(path))
    if errors and strict:
        raise errors[0]
    return gave


def equal(one: Any, other: Any) -> bool:
    """Whether two results are the same, arrays and all."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
