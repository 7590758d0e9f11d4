"""Measure the speed and recall of the audit against comparing every image with every other; prints Markdown tables.

    python benchmarks/audit.py [--images 2000] [--jobs 2]      # against the alternatives
    python benchmarks/audit.py --growth 2000 10000 [--jobs 2]  # the audit alone, by size
    python benchmarks/audit.py --index 100000                  # its index alone (no files, no verification)

The set: sectors of speckle, 300 × 400 grey PNG, forty different frames to each anatomy (--frames), all of them in the
same place, as in a clip of a patient who holds still: the hardest case for an index. One in ten is a duplicate of
another frame: encoded as JPEG, halved, cropped, mirrored, of another gamma or shape, with callipers, or most of these
at once. Alternatives, each on decoded grey images: the 64-bit pHash of the ImageHash library's kind with every pair
compared, at its usual distances; and ORB features with every pair matched and fitted (RANSAC), of which a sample of
pairs is timed and the rest extrapolated, as it would take hours. Times are of the processor, of all threads together,
as others may use the machine.
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.candidates import candidates
from us43d.audit.fingerprints import fingerprint
from us43d.audit.hash_index import distance
from us43d.audit.inspect import inspect_builds
from us43d.harmonize import pixels, shards
from us43d.harmonize.ids import Ids
from us43d.harmonize.records import Record, Written

Picture = NDArray[np.uint8]


class Set:
    """frames: of one anatomy."""

    frames = 40


def frame(number: int, shape: tuple[int, int] = (300, 400)) -> Picture:
    """Frame `number`: an anatomy shared by `Set.frames` frames, speckle of its own."""
    tissue = np.random.default_rng(number // Set.frames).uniform(20, 180, (7, 9)).astype(np.float32)
    own = np.random.default_rng((1, number))
    smooth = cv2.resize(
        tissue + own.normal(0, 6, (7, 9)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    cv2.setRNGSeed(number)
    noise = np.zeros((2, *shape), np.float32)
    cv2.randn(noise, 0, 1)
    speckle = cv2.GaussianBlur(cv2.magnitude(*noise), (0, 0), 1.2)
    picture = np.clip(smooth * (0.3 + 0.6 * speckle), 0, 255).astype(np.uint8)
    picture[outside(shape)] = 0
    return picture


@cache
def outside(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels outside of the sector."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.asarray(abs(x - shape[1] / 2) > 0.15 * shape[1] + 0.55 * y)


def duplicate(image: Picture, how: int) -> Picture:
    height, width = image.shape
    if how == 0:
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)
    if how == 1:
        return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    if how == 2:
        return np.ascontiguousarray(image[height // 10 :, width // 20 : width - width // 20])
    if how == 3:
        return np.ascontiguousarray(image[:, ::-1])
    if how == 4:
        return (255 * (image / 255) ** 0.7).astype(np.uint8)
    if how == 5:  # another shape
        return cv2.resize(image, None, fx=0.85, fy=1, interpolation=cv2.INTER_AREA)
    if how == 6:  # callipers and a measurement
        image = image.copy()
        ends = (width // 3, height // 2), (2 * width // 3, height // 2 + height // 8)
        for end in ends:
            cv2.drawMarker(image, end, 255, cv2.MARKER_CROSS, 9)
        cv2.line(image, *ends, 255)
        cv2.putText(image, "D 2.31 cm", (5, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
        return image
    if how == 7:  # 15 % off each side of one axis, 10 % of the other
        return np.ascontiguousarray(image[height * 15 // 100 : height * 85 // 100, width // 10 : width * 9 // 10])
    for step in (2, 6, 5, 1, 0):  # re-exported: crop, callipers, shape, size, JPEG
        image = duplicate(image, step)
    return image


def image_of(number: int) -> Picture:
    """One in ten is a duplicate of the frame five before it."""
    return duplicate(frame(number - 5), number // 10 % 9) if number % 10 == 9 else frame(number)


def drawn_record(folder: Path, number: int) -> Record:
    """Write an image; return its record."""
    picture, key = image_of(number), f"{number:06}.png"
    data = cv2.imencode(".png", picture)[1].tobytes()
    (folder / "images" / key).write_bytes(data)
    image = Written(
        file=f"images/{key}", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), kept=True,
        height=picture.shape[0], width=picture.shape[1], pixel_hash=pixels.pixel_hash(picture),
        phash=pixels.perceptual_hash(picture),
    )  # fmt: skip
    return Record(
        id=Ids("made").image(key), key=key, group=key, official=None, frame=None, spacing=None, slice=None, tags={},
        remarks=(), image=image, split="train",
    )  # fmt: skip


def made(folder: Path, count: int) -> set[tuple[int, int]]:
    """Write a build of `count` images as `us43d build`; return the true pairs."""
    (folder / "images").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        records = list(pool.map(drawn_record, [folder] * count, range(count), chunksize=64))
    with tempfile.TemporaryDirectory(dir=folder) as parts:
        shards.manifest(folder / shards.MANIFEST, records, "image", Path(parts))
    (folder / "dataset.json").write_text(json.dumps({"name": "made", "slug": "made", "digest": ""}))
    return {(number - 5, number) for number in range(9, count, 10)}


def scored(name: str, count: int, seconds: float, proposed: set[tuple[int, int]], true: set[tuple[int, int]]) -> str:
    good = len(proposed & true)
    recall, precision = good / len(true), good / max(1, len(proposed))
    return f"| {name} | {count:,} | {seconds:,.1f} | {count / seconds:,.1f} | {recall:.3f} | {precision:.3f} |"


HEAD = "| | images | processor s | images per processor second | recall | precision |\n|---|---|---|---|---|---|"


def ours(folder: Path, jobs: int) -> tuple[float, float, set[tuple[int, int]]]:
    """(processor seconds, wall seconds, pairs)"""
    start, wall = time.process_time(), time.perf_counter()
    inspected = inspect_builds([folder], folder.parent, jobs=jobs)
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    return seconds, wall, {(int(n.a.key[:6]), int(n.b.key[:6])) for n in inspected.near}


def all_hashes(folder: Path, reach: tuple[int, ...]) -> list[tuple[int, float, set[tuple[int, int]]]]:
    """(distance, seconds, pairs): every hash compared with every later one."""
    results = []
    for most in reach:
        start = time.process_time()
        files = sorted((folder / "images").iterdir())
        hashes = np.array([pixels.perceptual_hash(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE)) for f in files], np.uint64)
        pairs = set()
        for n in range(len(hashes)):
            near = np.flatnonzero(distance(hashes[n + 1 :], hashes[n]) <= most)
            pairs |= {(n, n + 1 + int(m)) for m in near}
        results.append((most, time.process_time() - start, pairs))
    return results


def all_features(folder: Path, sample: int, true: set[tuple[int, int]]) -> tuple[float, float, int]:
    """(seconds for all pairs, reckoned; recall on the true pairs; wrong among `sample` other pairs)."""
    orb = cv2.ORB_create(500)
    start = time.process_time()
    features = [
        orb.detectAndCompute(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE), None)
        for f in sorted((folder / "images").iterdir())
    ]
    described = time.process_time() - start

    def same(a: int, b: int) -> bool:
        (points_a, codes_a), (points_b, codes_b) = features[a], features[b]
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes_a, codes_b)
        if len(matches) < 8:
            return False
        x = np.array([points_a[m.queryIdx].pt for m in matches])
        y = np.array([points_b[m.trainIdx].pt for m in matches])
        _, fits = cv2.estimateAffine2D(x, y)
        return fits is not None and int(fits.sum()) >= 25

    recall = sum(same(a, b) for a, b in sorted(true)) / len(true)
    rng = np.random.default_rng(0)
    others = [tuple(sorted(rng.choice(len(features), 2, replace=False))) for _ in range(sample)]
    start = time.process_time()
    wrong = sum(same(a, b) for a, b in others if (a, b) not in true)
    per_pair = (time.process_time() - start) / len(others)
    return described + per_pair * len(features) * (len(features) - 1) / 2, recall, wrong


def index_alone(count: int) -> None:
    start = time.process_time()
    descriptors, hashes = [], np.zeros(count, np.uint64)
    for number in range(count):
        small = cv2.resize(image_of(number), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        descriptors.append(fingerprint(small))
        hashes[number] = pixels.perceptual_hash(small)
    made_in = time.process_time() - start
    start = time.process_time()
    proposed = {(candidate.a, candidate.b) for candidate in candidates(descriptors, hashes, np.arange(count))}
    seconds = time.process_time() - start
    true = {(number - 5, number) for number in range(9, count, 10)}
    share = len(proposed & true) / len(true)
    print(
        f"{count:,} images: index {seconds:.1f} processor s, {len(proposed):,} pairs proposed, {share:.4f} "
        f"of the duplicates among them (images drawn and described in {made_in:.0f} s, not counted)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--growth", type=int, nargs="*")
    parser.add_argument("--index", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--frames", type=int, default=Set.frames, help="frames of one anatomy")
    options = parser.parse_args()
    Set.frames = options.frames
    if options.index:
        index_alone(options.index)
        return
    print(HEAD)
    for count in options.growth or [options.images]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "build"
            true = made(place, count)
            seconds, wall, pairs = ours(place, options.jobs)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            name = f"us43d audit, {options.jobs} threads ({wall:,.1f} s on the wall, peak memory {peak:,.0f} MB)"
            print(scored(name, count, seconds, pairs, true), flush=True)
            if options.growth:
                continue
            for most, seconds, pairs in all_hashes(place, (4, 10)):
                print(scored(f"pHash, all pairs, distance ≤ {most}", count, seconds, pairs, true), flush=True)
            sample = 1000
            seconds, recall, wrong = all_features(place, sample, true)
            print(
                f"| ORB and RANSAC, all pairs (reckoned from {sample:,}) | {count:,} | {seconds:,.0f} | "
                f"{count / seconds:,.2f} | {recall:.3f} | {wrong} of {sample:,} wrong |"
            )


if __name__ == "__main__":
    main()
