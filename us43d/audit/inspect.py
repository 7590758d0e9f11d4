"""Inspect builds for duplicates, leaks, contradicting labels and suspicious masks.

Exact duplicates have equal pixel hashes. Near-duplicates are proposed by an index over perceptual hashes (`candidates`)
and verified on the images (`align`). One image of each set of exact duplicates represents all.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.align import DETAIL, in_pixels
from us43d.audit.findings import Conflict, Fault, Findings, Image, Near
from us43d.audit.fingerprints import mirrored
from us43d.audit.image_checks import Annotation, ImageCheck, check_image
from us43d.audit.near_duplicates import Progress, map_in_order, search
from us43d.harmonize.built import Build
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.masks import rle

__all__ = ["inspect_builds"]

#: Masks of one frame that overlap less than this (IoU) contradict each other.
_AGREE = 0.7
#: Share of the image from which a mask counts as covering it.
_WHOLE = 0.9
#: Tags that say what an image shows, whatever its mask.
_CLASSES = ("label", "diagnosis")


def inspect_builds(builds: Iterable[Path], home: Path, *, jobs: int = 1, progress: Progress | None = None) -> Findings:
    """Audit builds together.

    Args:
        builds: Folders of builds.
        home: Folder below which corpora of them may lie.
        jobs: Number of threads.
        progress: Called as the work proceeds.

    Raises:
        BuildError: A folder is not a build.
        UnreadableFile: An image was damaged (`us43d check` says more).
    """
    report = progress or (lambda what, done, total: None)
    opened = [Build(path) for path in builds]
    images = [image for number, build in enumerate(opened) for image in _images(number, build)]
    by_pixels: dict[str, list[Image]] = defaultdict(list)
    for image in images:
        by_pixels[image.picture].append(image)
    exact = [same for same in by_pixels.values() if len(same) > 1]
    first = {image.picture: n for n, image in reversed(list(enumerate(images)))}
    with _one_thread_each(), ThreadPoolExecutor(jobs) as pool:
        checks = list(map_in_order(pool, lambda i: check_image(i.file, i.annotations), images, "reading", report))
        chosen = sorted(first.values())
        distinct = [images[n] for n in chosen]
        numbers: dict[tuple[int, str], int] = {}
        group = np.array([numbers.setdefault((i.build, i.group), len(numbers)) for i in distinct], np.int64)
        whole = np.array([image.whole for image in distinct], np.uint64)
        fingerprints = [checks[n].fingerprint for n in chosen]
        result = search([image.file for image in distinct], fingerprints, whole, group, pool, report)
    near = [
        Near(distinct[match.candidate.a], distinct[match.candidate.b], match.candidate.mirroring, match.alignment)
        for match in result.matches
    ]
    conflicts, faults = list(_conflicts(exact, near)), list(_faults(images, checks))
    return Findings(opened, images, exact, near, conflicts, faults, _corpora(opened, home), result.alignments)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep OpenCV's own threads from competing with ours for the processors."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


# ------------------------------------------------------------------------------------------------------------- reading


def _images(number: int, build: Build) -> Iterator[Image]:
    annotations: dict[int, list[Annotation]] = defaultdict(list)
    for shard in build.shards():
        for annotation in shard.read()["annotations"]:
            own = annotation["us43d"]
            annotations[annotation["image_id"]].append(
                Annotation(
                    own["label"], annotation["category_id"], own["diagnosis"], annotation["area"],
                    tuple(annotation["bbox"]), annotation["segmentation"]["counts"], own["speck"],
                )
            )  # fmt: skip
    for row in build.rows:
        if row["split"] is not None:
            yield Image(
                number, row["id"], row["key"], build.path / row["file"], (row["height"], row["width"]),
                row["pixel_hash"], row["phash"], row["group"], row["split"], row["official_split"],
                json.loads(row["tags"]), annotations[row["id"]],
            )  # fmt: skip


def _corpora(builds: Sequence[Build], home: Path) -> dict[str, dict[int, str]]:
    """Return name → image id → split of the corpora on disk that hold several of these builds as they are now."""
    digests = {build.slug: build.digest for build in builds}
    splits_of = {}
    for path in sorted((home / "corpora").glob("*/corpus.json")):
        corpus = Corpus.open(path.parent, home)
        sources = [n for n, source in enumerate(corpus.sources) if digests.get(source["slug"]) == source["digest"]]
        if len(sources) > 1:
            rows = corpus.images[np.isin(corpus.images["source"], sources)]
            splits = (SPLITS[number] for number in rows["split"])
            splits_of[path.parent.name] = dict(zip(rows["id"].tolist(), splits, strict=True))
    return splits_of


# ---------------------------------------------------------------------------------------------------- labels and masks


def _conflicts(exact: list[list[Image]], near: list[Near]) -> Iterator[Conflict]:
    for same in exact:
        for a, b in pairwise(same):
            yield from _contradictions(a, b, 0, np.eye(2, 3))
    for pair in near:
        yield from _contradictions(pair.a, pair.b, pair.mirroring, pair.alignment.place)


def _contradictions(a: Image, b: Image, mirroring: int, place: NDArray[np.float64]) -> Iterator[Conflict]:
    """Compare the labels of two images of one frame; across sources, the structures both of them label."""
    if a.build == b.build:
        labels = [", ".join(sorted({annotation.label for annotation in image.annotations})) for image in (a, b)]
        tags = [(a.tags[tag], b.tags[tag]) for tag in _CLASSES if tag in a.tags and tag in b.tags]
        words = [labels] * all(labels) + tags
        if differ := [f"{one} and {other}" for one, other in words if one != other]:
            yield Conflict(a, b, "class", "; ".join(dict.fromkeys(differ)))
    structures = {x.category for x in a.annotations}, {x.category for x in b.annotations}
    shared = structures[0] | structures[1] if a.build == b.build else structures[0] & structures[1]
    if not shared:
        return
    mask, other = (_union(image, shared) for image in (a, b))
    matrix = in_pixels(place, DETAIL)
    moved = cv2.warpAffine(mirrored(mask, mirroring), matrix, other.shape[::-1], flags=cv2.INTER_NEAREST) > 0
    overlap = int((moved & (other > 0)).sum()) / max(1, int((moved | (other > 0)).sum()))
    if overlap < _AGREE:
        yield Conflict(a, b, "mask", f"the masks overlap by {overlap:.2f} (IoU)")


def _union(image: Image, categories: set[int]) -> NDArray[np.uint8]:
    """Return the masks of some categories as 0 or 1, the longer side DETAIL pixels."""
    mask = np.zeros(image.size, np.uint8)
    for annotation in image.annotations:
        if annotation.category in categories:
            mask |= rle.decode(annotation.counts.encode("ascii"), *image.size)
    scale = DETAIL / max(image.size)
    size = max(8, round(image.size[1] * scale)), max(8, round(image.size[0] * scale))
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _faults(images: list[Image], checks: list[ImageCheck]) -> Iterator[Fault]:
    for image, check in zip(images, checks, strict=True):
        area = image.size[0] * image.size[1]
        if not image.annotations:
            yield Fault(image, "", "empty", 0)
        for annotation in image.annotations:
            if annotation.speck:
                yield Fault(image, annotation.label, "speck", annotation.area)
            elif annotation.area >= _WHOLE * area:
                yield Fault(image, annotation.label, "whole", annotation.area / area)
        yield from (Fault(image, label, "outside", share) for label, share in check.outside)
