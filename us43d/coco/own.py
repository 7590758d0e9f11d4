"""A COCO file of one's own, made into the arrays of a corpus (docs/format.md), so that training reads it as any other.

Segmentations may be polygons, run lengths or compressed run lengths. Annotations of crowds are left out. A group (an
image's "group", its "patient_id", or what is under its "us43d") is never divided; without one every image is its own.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from us43d import atomic
from us43d.errors import TrainError, listed
from us43d.harmonize.corpus import ANNOTATION, IMAGE, SPLITS, Corpus
from us43d.masks import rle

__all__ = ["encode", "filled", "made", "read"]

#: The share of images held out for validation; whole groups, at least one where there are two.
HELD_OUT = 0.15


def read(file: Path, folder: Path, images: Path | None = None) -> Corpus:
    """Make a corpus in `folder` of a COCO file; replaces one made of another version of the file.

    images: where file names begin, the file's own folder if None. Raises TrainError if the file is none, an image is
    missing, or nothing can be trained on.
    """
    file, images, digest = _identity(file, images)
    if made(file, folder, images):
        return Corpus.open(folder, images)
    try:
        content = json.loads(file.read_bytes())
        listing, found = list(content["images"]), list(content["annotations"])
        categories = sorted(content["categories"], key=lambda each: int(each["id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{file} is no readable COCO file: {error!r}.") from error
    _all_there(images, listing, file)
    with atomic.storage_errors(folder, "Nothing was changed on disk."):
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write(temporary, file, listing, found, categories, digest)
        atomic.replace_dir(temporary, folder)
    return Corpus.open(folder, images)


def made(file: Path, folder: Path, images: Path | None = None) -> bool:
    """Whether `folder` holds the corpus of this very file and folder of images. Raises TrainError as `read` does."""
    _, _, digest = _identity(file, images)
    try:
        return bool(json.loads((folder / "corpus.json").read_text("utf-8"))["digest"] == digest)
    except (OSError, ValueError, KeyError):
        return False


def _identity(file: Path, images: Path | None) -> tuple[Path, Path, str]:
    """Both paths in full, and the digest of what is read."""
    file = Path(file).expanduser().absolute()
    images = Path(images).expanduser().absolute() if images else file.parent
    try:
        data = file.read_bytes()
    except OSError as error:
        raise TrainError(f"{file} cannot be read: {error.strerror}.") from error
    return file, images, hashlib.sha256(data + str(images).encode()).hexdigest()


def _all_there(images: Path, listing: Sequence[Mapping[str, Any]], file: Path) -> None:
    missing = [each["file_name"] for each in listing if not (images / each["file_name"]).is_file()]
    if missing:
        raise TrainError(
            f"{len(missing)} of {len(listing)} images of {file} are not in {images}: {listed(missing, 5)}.",
            next=f"us43d train --data {file} --images FOLDER",
        )


def _write(
    folder: Path,
    file: Path,
    listing: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    digest: str,
) -> None:
    groups = [_group(each) for each in listing]
    held_out = _held_out(groups)
    numbers = {name: n for n, name in enumerate(dict.fromkeys(groups))}
    shared = {int(each["id"]): n for n, each in enumerate(categories, start=1)}
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for each in found:
        if not each.get("iscrowd"):
            by_image.setdefault(int(each["image_id"]), []).append(each)

    rows = np.zeros(len(listing), IMAGE)
    annotations: list[NDArray[Any]] = []
    strings, runs = bytearray(), bytearray()
    for number, (row, image, group) in enumerate(zip(rows, listing, groups, strict=True)):
        height, width = int(image["height"]), int(image["width"])
        row["id"], row["height"], row["width"], row["spacing"] = int(image["id"]), height, width, np.nan
        row["split"], row["group"] = SPLITS.index("val" if group in held_out else "train"), numbers[group]
        row["first"] = len(annotations)
        for name, text in (("file", image["file_name"]), ("key", image["file_name"]), ("group", group)):
            row[f"{name}_at"], row[f"{name}_len"] = len(strings), len(text.encode())
            strings += text.encode()
        for each in by_image.get(int(image["id"]), ()):
            mask = _mask(each, height, width, file)
            if not mask.any():
                continue
            text_of_runs, one = encode(mask), np.zeros((), ANNOTATION)
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            one["id"], one["image"], one["category"] = int(each["id"]), number, shared[int(each["category_id"])]
            one["area"], one["bbox"] = mask.sum(), (xs[0], ys[0], xs[-1] - xs[0] + 1, ys[-1] - ys[0] + 1)
            one["rle_at"], one["rle_len"] = len(runs), len(text_of_runs)
            runs += text_of_runs
            annotations.append(one)
        row["count"] = len(annotations) - row["first"]
    if not annotations:
        raise TrainError(f"{file} has no annotation with a mask.")
    np.save(folder / "images.npy", rows, allow_pickle=False)
    np.save(folder / "annotations.npy", np.array(annotations), allow_pickle=False)
    (folder / "strings.bin").write_bytes(strings)
    (folder / "rle.bin").write_bytes(runs)
    facts = _facts(file, rows, len(annotations), categories, len(numbers), digest)
    (folder / "corpus.json").write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")


def _facts(
    file: Path,
    rows: NDArray[Any],
    annotations: int,
    categories: Sequence[Mapping[str, Any]],
    groups: int,
    digest: str,
) -> dict[str, Any]:
    licence = {"id": "OWN", "title": "Your own data; its terms are not known here", "url": None, "evidence": ""}
    unknown = dict.fromkeys(("commercial", "redistribute", "derivatives", "share_alike", "attribution"))
    source = {
        "name": file.stem, "slug": "own", "version": digest[:12], "digest": digest, "organ": "", "path": ".",
        "licence": licence | unknown, "citations": [], "partial": False, "counts": {},
    }  # fmt: skip
    return {
        "release": file.stem,
        "sources": [source],
        "categories": [
            {"id": n, "name": str(each["name"]), "supercategory": str(each.get("supercategory", ""))}
            for n, each in enumerate(categories, start=1)
        ],
        "diagnoses": [""],
        "images": {name: int((rows["split"] == n).sum()) for n, name in enumerate(SPLITS)},
        "annotations": annotations,
        "groups": groups,
        "digest": digest,
    }


def _group(image: Mapping[str, Any]) -> str:
    own = image.get("us43d") or {}
    return str(own.get("group") or image.get("group") or image.get("patient_id") or image["file_name"])


def _held_out(groups: Sequence[str]) -> set[str]:
    """Whole groups, in an order that depends on their names alone, until the share is reached."""
    order = sorted(set(groups), key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: set[str] = set()
    images = 0
    for name in order[:-1]:
        if images >= HELD_OUT * len(groups):
            break
        chosen.add(name)
        images += groups.count(name)
    return chosen


# --------------------------------------------------------------------------------------------------------------- masks


def _mask(annotation: Mapping[str, Any], height: int, width: int, file: Path) -> NDArray[np.bool_]:
    found = annotation["segmentation"]
    try:
        if isinstance(found, Mapping):
            counts = found["counts"]
            if isinstance(counts, str):
                return rle.decode(counts.encode("ascii"), height, width)
            flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
            return flat.reshape(width, height).T
        mask = np.zeros((height, width), bool)
        for polygon in found:
            mask |= filled(np.asarray(polygon, np.float64).reshape(-1, 2), height, width)
        return mask
    except (ValueError, TypeError, KeyError) as error:
        raise TrainError(f"Annotation {annotation.get('id')} of {file} has no readable mask: {error}.") from error


def filled(polygon: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (height, width) whose centre lies inside a polygon (N, 2) of x, y; a pixel reaches from its index to
    the next. Where it crosses itself, inside alternates with outside."""
    flips = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        rows = np.arange(max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5)))
        if len(rows):  # every pixel right of the edge changes sides
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            flips[rows, np.clip(np.ceil(x - 0.5).astype(int), 0, width)] += 1
    return np.asarray(np.cumsum(flips[:, :width], axis=1) % 2 == 1)


def encode(mask: NDArray[np.bool_]) -> bytes:
    """Compressed run lengths of a mask, the inverse of `masks.rle.decode`."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0] if len(flat) and flat[0] else [], [0], edges, [len(flat)])).astype(np.int64))
    values = runs.copy()
    values[3:] -= runs[1:-2]
    symbols = []
    for value in values.tolist():
        more = True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            symbols.append(group + 32 * more + 48)
    return bytes(symbols)
