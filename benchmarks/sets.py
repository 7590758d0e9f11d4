"""The raw trees that the benchmarks build: as many images as asked for, in the formats and layouts of real sources.

All images differ, and are cheap to make. PNG files are put together from bands of rows that were
filtered and compressed once, as an encoder of files usually does it (filters chosen by row, zlib's level 6): to a
decoder they are PNG files like any other.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.specimen import blob

Picture = NDArray[np.uint8]
Shape = tuple[int, int]

#: Name → the recipe that reads it.
SOURCES = {
    "busi": "busi",
    "busbra": "busbra",
    "video": "echonet_dynamic",
    "volume": "microseg",
    "polygon": "gist514_db",
}
BANK = 1200  # side of the field of speckle from which images are cropped
LESIONS = 20
FRAMES, SLICES = 40, 40  # of a video, of a volume
PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS, cv2.IMWRITE_PNG_COMPRESSION, 6)


def make(what: str, root: Path, count: int) -> int:
    """Write a raw tree of at least `count` images below the new folder `root`; return how many there are."""
    root.mkdir(parents=True)
    unit, write, tables = {
        "busi": (1, _busi, None),
        "busbra": (1, _busbra, _busbra_tables),
        "video": (2, _video, _video_tables),
        "volume": (SLICES, _volume, None),
        "polygon": (1, _polygon, _polygon_tables),
    }[what]
    units = -(-count // unit)
    step = max(1, 250 // unit)
    parts = [range(at, min(at + step, units)) for at in range(0, units, step)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(write, [root] * len(parts), parts))
    if tables is not None:
        tables(root, units)
    return units * unit


# -------------------------------------------------------------------------------------------------------------- images


@cache
def _field() -> NDArray[np.float32]:
    speckle = np.random.default_rng(0).rayleigh(1.0, (BANK, BANK)).astype(np.float32)
    return cv2.GaussianBlur(speckle, (0, 0), 1.5) / 1.25


@cache
def _lesion(shape: Shape, number: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """A mask, and how bright tissue is around and in it."""
    mask = blob(shape, np.random.default_rng(number))
    depth = np.linspace(1.15, 0.8, shape[0], dtype=np.float32)[:, None]
    return mask, np.where(mask, np.float32(0.4), np.float32(1)) * depth


def _mask(shape: Shape, number: int) -> NDArray[np.bool_]:
    return _lesion(shape, number % LESIONS)[0]


def _picture(shape: Shape, number: int) -> Picture:
    """Speckle with a lesion; a piece of the field, and a brightness, of its own for each number."""
    rng = np.random.default_rng((1, number))
    y, x = rng.integers(BANK - shape[0]), rng.integers(BANK - shape[1])
    noise = 0.35 + 0.65 * _field()[y : y + shape[0], x : x + shape[1]]
    tissue = np.float32(rng.uniform(70, 120)) * _lesion(shape, number % LESIONS)[1]
    return np.clip(tissue * noise, 0, 255).astype(np.uint8)


def _encoded(array: Picture, *options: int) -> bytes:
    return cv2.imencode(".png", array, options or PNG)[1].tobytes()


# ----------------------------------------------------------------------------------------------------- PNG from bands


BANDS, KINDS = 5, 100


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _bands(shape: Shape, channels: int, kind: int) -> list[tuple[bytes, bytes]]:
    """Return (filtered rows, the same compressed for any position in a stream) of each band of an image."""
    picture = _picture(shape, kind)
    png = _encoded(picture if channels == 1 else cv2.merge([picture] * channels))
    rows = zlib.decompress(b"".join(data for name, data in _chunks(png) if name == b"IDAT"))
    stride = 1 + shape[1] * channels
    filtered = np.frombuffer(rows, np.uint8).reshape(shape[0], stride)
    bands = []
    for indices in np.array_split(np.arange(shape[0]), BANDS):
        band = filtered[indices].copy()
        first = np.repeat(picture[indices[0]], channels)  # the row above belongs to another image: filter 1, "Sub"
        band[0, 0] = 1
        band[0, 1:] = first - np.concatenate((np.zeros(channels, np.uint8), first[:-channels]))
        squeeze = zlib.compressobj(6, wbits=-15)
        raw = band.tobytes()
        bands.append((raw, squeeze.compress(raw) + squeeze.flush(zlib.Z_FULL_FLUSH)))
    return bands


def _png(shape: Shape, channels: int, number: int) -> bytes:
    """Make the PNG file of image `number` from bands of `BANDS` different images."""
    kinds = [(number // KINDS**band + band * number) % KINDS for band in range(BANDS)]  # each number has its own
    chosen = [_bands(shape, channels, kind)[band] for band, kind in enumerate(kinds)]
    check = 1
    for raw, _ in chosen:
        check = zlib.adler32(raw, check)
    stream = b"\x78\x9c" + b"".join(packed for _, packed in chosen) + b"\x03\x00" + struct.pack(">I", check)
    head = struct.pack(">IIBBBBB", shape[1], shape[0], 8, 0 if channels == 1 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


# ---------------------------------------------------------------------------------------------------------- BUSI-like


BUSI: Shape = (500, 600)


@cache
def _rgb_mask(lesion: int) -> bytes:
    return _encoded(cv2.merge([_mask(BUSI, lesion).astype(np.uint8) * 255] * 3))


def _busi(root: Path, numbers: range) -> None:
    folder = root / "Dataset_BUSI_with_GT" / "benign"
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (folder / f"benign ({n + 1}).png").write_bytes(_png(BUSI, 3, n))
        (folder / f"benign ({n + 1})_mask.png").write_bytes(_rgb_mask(n % LESIONS))


# ------------------------------------------------------------------------------------------------------- BUS-BRA-like


BUSBRA: Shape = (354, 276)


@cache
def _bilevel_mask(lesion: int) -> bytes:
    return _encoded(_mask(BUSBRA, lesion).astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1)


def _of_patient(n: int) -> str:
    """The patient of an image, who has two, and its side."""
    return f"{n // 2 + 1:04}-{'lr'[n % 2]}"


def _busbra(root: Path, numbers: range) -> None:
    images, masks = root / "BUSBRA/Images", root / "BUSBRA/Masks"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        (images / f"bus_{_of_patient(n)}.png").write_bytes(_png(BUSBRA, 1, n))
        (masks / f"mask_{_of_patient(n)}.png").write_bytes(_bilevel_mask(n % LESIONS))


def _busbra_tables(root: Path, count: int) -> None:
    names = [f"bus_{_of_patient(n)}" for n in range(count)]
    data = [f"{name},{n // 2 + 1},fibroadenoma,benign,3,GE,276,354,left" for n, name in enumerate(names)]
    folds = [f"{name},benign,{n // 2 % 5 + 1}" for n, name in enumerate(names)]
    head = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side"
    (root / "BUSBRA/bus_data.csv").write_text("\n".join([head, *data]) + "\n")
    for table in ("5-fold-cv.csv", "10-fold-cv.csv"):
        (root / "BUSBRA" / table).write_text("\n".join(["ID,Pathology,kFold", *folds]) + "\n")


# --------------------------------------------------------------------------------------- video-like (EchoNet-Dynamic)


VIDEO: Shape = (112, 112)
TRACED = (12, 30)  # frames


@cache
def _chords(lesion: int) -> list[str]:
    """The long axis and 20 chords of a contour, as rows of the published table without name and frame."""
    mask = _mask(VIDEO, lesion)
    lines = []
    rows = np.flatnonzero(mask.any(axis=1))
    for y in np.linspace(rows[0], rows[-1], 20).astype(int):
        x = np.flatnonzero(mask[y])
        lines.append(f"{x[0]:.4f},{y:.4f},{x[-1]:.4f},{y:.4f}")
    return [f"{VIDEO[1] / 2:.4f},{rows[0]:.4f},{VIDEO[1] / 2:.4f},{rows[-1]:.4f}", *lines]


def _video(root: Path, numbers: range) -> None:
    folder = root / "EchoNet-Dynamic" / "Videos"
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        video = cv2.VideoWriter(str(folder / f"0X{n:08X}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 50, VIDEO)
        for frame in range(FRAMES):
            picture = _picture(VIDEO, n * FRAMES + frame)
            video.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
        video.release()


def _video_tables(root: Path, videos: int) -> None:
    folder = root / "EchoNet-Dynamic"
    with (folder / "FileList.csv").open("w") as listed, (folder / "VolumeTracings.csv").open("w") as traced:
        listed.write("FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split\n")
        traced.write("FileName,X1,Y1,X2,Y2,Frame\n")
        for n in range(videos):
            name, split = f"0X{n:08X}", ("TRAIN", "TRAIN", "TRAIN", "VAL", "TEST")[n % 5]
            listed.write(f"{name},55.5,40.1,90.2,112,112,50,{FRAMES},{split}\n")
            for k, frame in enumerate(TRACED):
                traced.writelines(f"{name}.avi,{row},{frame}\n" for row in _chords((n + k) % LESIONS))


# ------------------------------------------------------------------------------------------- volume-like (MicroSeg)


VOLUME: Shape = (240, 320)


def _volume(root: Path, numbers: range) -> None:
    import nibabel

    for n in numbers:
        rows = "test" if n % 5 == 0 else "train"
        top = root / "Micro_Ultrasound_Prostate_Segmentation_Dataset" / rows
        frames = [_picture(VOLUME, n * SLICES + k).T for k in range(SLICES)]
        truth = [_mask(VOLUME, n * SLICES + k).T.astype(np.uint8) for k in range(SLICES)]
        for folder, name, slices in (
            ("micro_ultrasound_scans", "microUS", frames),
            ("expert_annotations", "expert_annotation", truth),
        ):
            (top / folder).mkdir(parents=True, exist_ok=True)
            volume = nibabel.nifti1.Nifti1Image(np.stack(slices, axis=2), np.diag([0.03, 0.03, 1.0, 1.0]))
            nibabel.save(volume, top / folder / f"{name}_{rows}_{n + 1:05}.nii.gz")


# --------------------------------------------------------------------------------------- polygon-like (GIST514-DB)


POLYGON: Shape = (300, 400)


@cache
def _outline(lesion: int) -> tuple[list[float], int]:
    """x, y, x, y, … of every tenth pixel of a mask's outline; its area."""
    mask = _mask(POLYGON, lesion)
    (line,), _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [float(value) for value in line[::10, 0, :].ravel()], int(mask.sum())


def _polygon(root: Path, numbers: range) -> None:
    folder = root / "usd514-db/usd514_jpeg_roi/images"
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        picture = cv2.cvtColor(_picture(POLYGON, n), cv2.COLOR_GRAY2BGR)
        (folder / f"case{n:06}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def _polygon_tables(root: Path, count: int) -> None:
    folder = root / "usd514-db/usd514_jpeg_roi/annotations"
    folder.mkdir()
    categories = [{"id": 1, "name": "lmym"}, {"id": 2, "name": "GIST"}]
    for fold in range(5):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for n in range(fold, count, 5):
            outline, area = _outline(n % LESIONS)
            size = {"height": POLYGON[0], "width": POLYGON[1]}
            images.append({"id": n, "file_name": f"case{n:06}.jpg", "anatomy_id": n % 7} | size)
            annotations.append(
                {"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": [outline], "area": area}
                | {"bbox": [0, 0, *reversed(POLYGON)], "iscrowd": 0}
            )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"val_anno_crop_split_{fold}.json").write_text(json.dumps(content))
