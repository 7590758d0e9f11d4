"""Recompute a build from its own output alone, and name everything that does not agree."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from us43d.errors import BuildError, CheckError, UnreadableFile
from us43d.harmonize import pixels, shards
from us43d.harmonize.built import CROISSANT, DATASET, PROVENANCE, Build
from us43d.harmonize.corpus import is_speck
from us43d.harmonize.ids import Ids, annotation_id
from us43d.masks import read, rle
from us43d.rawtree import is_litter
from us43d.splits.proof import prove

__all__ = ["Problem", "check"]


class Problem(NamedTuple):
    """kind: missing, extra, changed, unreadable, annotation, manifest, split or digest. where: file or key."""

    kind: str
    where: str
    what: str


def check(build: Path, *, jobs: int = 1, progress: Callable[[int, int | None], None] | None = None) -> list[Problem]:
    """Return the problems of a build; an empty list if it is sound. Raises CheckError if no build is there."""
    try:
        opened = Build(build)
    except BuildError as error:
        raise CheckError(error.what, next=error.next) from error
    name, slug, dataset = opened.name, opened.slug, opened.facts
    try:
        rows = opened.rows
    except CheckError as error:
        return [Problem("manifest", shards.MANIFEST, error.what)]
    problems = list(_files(build, rows))
    problems += _images(build, rows, jobs, progress)
    problems += _coco(opened, rows)
    problems += _ids(slug, rows)
    proof = prove(rows)
    problems += (Problem("split", g, f"the group lies in {' and '.join(w)}") for g, w in proof.shared_groups.items())
    problems += (Problem("split", p, f"the image lies in {' and '.join(w)}") for p, w in proof.shared_pictures.items())
    counts = Counter(row["split"] for row in rows if row["split"])
    written = {split: dataset["splits"][split]["images"] for split in proof.images if split in dataset["splits"]}
    if counts != written:
        problems.append(Problem("split", "dataset.json", f"the manifest has {dict(counts)}, dataset.json {written}"))
    digest = shards.build_digest(build, dataset, shards.rows_digest(rows))
    if digest != dataset.get("digest"):
        problems.append(
            Problem("digest", name, f"the build's digest is {digest}, dataset.json says {dataset.get('digest')}")
        )
    return problems


def _files(build: Path, rows: list[dict[str, Any]]) -> Iterator[Problem]:
    wanted = {row["file"] for row in rows if row["file"]} | {DATASET, PROVENANCE, shards.MANIFEST}
    wanted |= {f"annotations/{path.name}" for path in (build / "annotations").glob("*-*-of-*.json")}
    files = (path for path in build.rglob("*") if not path.is_dir() and not is_litter(path.name))
    present = {path.relative_to(build).as_posix() for path in files} - {CROISSANT}
    yield from (Problem("missing", name, "the file is gone") for name in sorted(wanted - present))
    yield from (
        Problem("extra", name, "the file belongs to no image of the manifest") for name in sorted(present - wanted)
    )


def _images(
    build: Path, rows: list[dict[str, Any]], jobs: int, progress: Callable[[int, int | None], None] | None
) -> list[Problem]:
    def one(row: dict[str, Any]) -> Problem | None:
        path = build / row["file"]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None  # already named as missing
        except OSError as error:
            return Problem("unreadable", row["file"], str(error.strerror))
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            return Problem("changed", row["file"], "its bytes are not those the manifest was written for")
        try:
            array = pixels.canonical(read.image(path))
        except UnreadableFile as error:
            return Problem("unreadable", row["file"], error.what)
        if array.shape[:2] != (row["height"], row["width"]) or pixels.pixel_hash(array) != row["pixel_hash"]:
            return Problem("manifest", row["key"], "size or pixel hash are not those of the image")
        if pixels.perceptual_hash(array) != row["phash"]:
            return Problem("manifest", row["key"], "the perceptual hash is not that of the image")
        return None

    todo = [row for row in rows if row["file"]]
    problems = []
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for done, problem in enumerate(pool.map(one, todo), start=1):
            if problem:
                problems.append(problem)
            if progress and (done % 50 == 0 or done == len(todo)):
                progress(done, len(todo))
    return problems


def _coco(build: Build, rows: list[dict[str, Any]]) -> Iterator[Problem]:
    by_id = {row["id"]: row for row in rows if row["file"]}
    seen: Counter[int] = Counter()
    for shard in build.shards():
        path, split = shard
        try:
            content = shard.read()
            images, annotations = content["images"], content["annotations"]
            annotated = Counter(annotation["image_id"] for annotation in annotations)
            for image in images:
                seen[image["id"]] += 1
                row = by_id.get(image["id"])
                if row is None:
                    yield Problem("manifest", image["us43d"]["key"], f"{path.name} has the image, the manifest has not")
                elif wrong := _image(image, row, split, annotated[image["id"]]):
                    yield Problem(
                        "manifest", row["key"], f"{path.name} and the manifest disagree on {', '.join(wrong)}"
                    )
            numbers: Counter[tuple[int, str]] = Counter()
            for annotation in annotations:
                label = annotation["us43d"]["label"]
                expected = annotation_id(annotation["image_id"], label, numbers[annotation["image_id"], label])
                numbers[annotation["image_id"], label] += 1
                row = by_id.get(annotation["image_id"])
                if fault := _annotation(annotation, expected, (row["height"], row["width"]) if row else None):
                    yield Problem("annotation", f"{path.name}, annotation {annotation['id']}", fault)
        except (BuildError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield Problem("unreadable", f"annotations/{path.name}", f"no COCO file of us43d: {error!r}")
    for number, row in by_id.items():
        if seen[number] != 1:
            yield Problem("manifest", row["key"], f"the image is in {seen[number]} COCO files")


def _image(image: dict[str, Any], row: dict[str, Any], split: str, annotations: int) -> list[str]:
    own = image["us43d"]
    pairs = {
        "file": (image["file_name"], row["file"]),
        "size": ((image["height"], image["width"]), (row["height"], row["width"])),
        "key": (own["key"], row["key"]),
        "group": (own["group"], row["group"]),
        "sha256": (own["sha256"], row["sha256"]),
        "tags": (own["tags"], json.loads(row["tags"])),
        "split": (split, row["split"]),
        "annotations": (annotations, row["annotations"]),
    }
    return [name for name, (coco, manifest) in pairs.items() if coco != manifest]


def _annotation(annotation: dict[str, Any], expected: int, size: tuple[int, int] | None) -> str:
    height, width = annotation["segmentation"]["size"]
    if (height, width) != size:
        return f"its mask is {width} × {height}, its image {size}"
    try:
        mask = rle.decode(annotation["segmentation"]["counts"].encode("ascii"), height, width)
    except ValueError as error:
        return f"its mask cannot be decoded: {error}"
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return "its mask is empty"
    x, y = int(columns[0]), int(rows[0])
    box = [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
    area = int(mask.sum())
    right = {"area": area, "bbox": box, "id": expected, "iscrowd": 0, "speck": is_speck(area, height, width)}
    compared = {**annotation, "speck": annotation["us43d"]["speck"]}
    return "; ".join(
        f"{name} is {compared[name]}, should be {value}" for name, value in right.items() if compared[name] != value
    )


def _ids(slug: str, rows: list[dict[str, Any]]) -> Iterator[Problem]:
    keys = [row["key"] for row in rows]
    if keys != sorted(set(keys)):
        yield Problem("manifest", shards.MANIFEST, "keys are not unique and sorted")
    ids = Ids(slug)
    expected = {key: ids.image(key) for key in sorted(set(keys))}
    for row in rows:
        if row["id"] != expected[row["key"]]:
            yield Problem("manifest", row["key"], f"its id is {row['id']}, should be {expected[row['key']]}")
