"""Plant changed copies among real images and count how many of them the audit's search finds; prints a Markdown table.

    python benchmarks/twins.py FOLDER [--copies 700] [--seeds 0 1 2]

FOLDER has train.json, val.json and images/ (docs/audit.md says which). A wrong pair is one that no planted copy and no
pair found among the originals explains.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from us43d.audit.fingerprints import fingerprint
from us43d.audit.image_checks import grey, load
from us43d.audit.near_duplicates import search
from us43d.harmonize import pixels

Image = NDArray[np.uint8]


class Changes:
    """Changes of an image, drawn from one generator."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def shape(self, image: Image) -> Image:
        """8 to 22 % narrower, or wider by the inverse."""
        across = self.rng.uniform(0.78, 0.92)
        return resized(image, 1 / across if self.rng.random() < 0.5 else across, 1)

    def crop(self, image: Image, most: float = 0.15) -> Image:
        """Up to 15 % off every side."""
        rows, columns = image.shape[:2]
        top, bottom, left, right = self.rng.uniform(0, most, 4)
        return np.ascontiguousarray(
            image[int(top * rows) : rows - int(bottom * rows), int(left * columns) : columns - int(right * columns)]
        )

    def deep(self, image: Image) -> Image:
        """Up to 25 % off every side."""
        return self.crop(image, 0.25)

    def callipers(self, image: Image) -> Image:
        """One or two measurements: crosses, dotted lines, and a length in words."""
        image, (rows, columns) = image.copy(), image.shape[:2]
        colour = 255 if image.ndim == 2 else (255, 255, 0)
        for _ in range(self.rng.integers(1, 3)):
            ends = (self.rng.uniform(0.2, 0.8, (2, 2)) * (columns, rows)).astype(int)
            for end in ends:
                cv2.drawMarker(image, end.tolist(), colour, cv2.MARKER_CROSS, int(self.rng.integers(7, 17)))
            for at in np.linspace(ends[0], ends[1], int(np.hypot(*(ends[0] - ends[1])) // 6) + 2).astype(int).tolist():
                cv2.circle(image, at, 1, colour, -1)
        text = f"D {self.rng.uniform(0.5, 4):.2f} cm"
        cv2.putText(image, text, (5, rows - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour)
        return image

    def export(self, image: Image) -> Image:
        """0.45 to 1.6 times as large, JPEG of quality 55 to 91."""
        scale = self.rng.uniform(0.45, 1.6)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(self.rng.integers(55, 92))]
        data = cv2.imencode(".jpg", resized(image, scale, scale), quality)[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)

    def gamma(self, image: Image) -> Image:
        """0.7 to 1.4."""
        return (255 * (image / 255) ** self.rng.uniform(0.7, 1.4)).astype(np.uint8)

    def mirror(self, image: Image) -> Image:
        """Left and right swapped."""
        return np.ascontiguousarray(image[:, ::-1])


KINDS = (
    "shape", "crop", "callipers", "export", "gamma", "mirror", "crop callipers", "shape export", "crop export",
    "crop shape", "callipers shape export", "callipers crop shape gamma export", "mirror callipers crop shape export",
    "deep",
)  # fmt: skip


def resized(image: Image, across: float, down: float) -> Image:
    how = cv2.INTER_AREA if across < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=across, fy=down, interpolation=how), np.uint8)


def planted(folder: Path, copies: int, seed: int, out: Path) -> tuple[Counter[str], int, float]:
    """Return copies missed by kind, wrong pairs, and seconds of the processor that the search took."""
    listed = [
        image for part in ("train", "val") for image in json.loads((folder / f"{part}.json").read_text())["images"]
    ]
    files = [folder / "images" / image["file_name"] for image in listed]
    originals, groups = len(files), [image["group"] for image in listed]
    changes, of, kinds = Changes(seed), dict[int, int](), dict[int, str]()
    for number, original in enumerate(changes.rng.choice(originals, copies, replace=False).tolist()):
        image = np.asarray(cv2.imread(str(files[original]), cv2.IMREAD_UNCHANGED), np.uint8)
        of[len(files)], kinds[len(files)] = original, KINDS[number % len(KINDS)]
        for change in KINDS[number % len(KINDS)].split():
            image = getattr(changes, change)(image)
        cv2.imwrite(str(out / f"{number}.png"), image)
        files.append(out / f"{number}.png")
        groups.append(f"copy {number}")
    images = [grey(load(file)) for file in files]
    described = [(fingerprint(image), pixels.perceptual_hash(image)) for image in images]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    start = time.process_time()
    with ThreadPoolExecutor(1) as pool:
        matches = search(
            files, [one for one, _ in described], np.array([whole for _, whole in described], np.uint64),
            np.array([numbers[group] for group in groups]), pool, lambda *_: None,
        ).matches  # fmt: skip
    seconds = time.process_time() - start
    pairs = {(match.candidate.a, match.candidate.b) for match in matches}
    known = {pair for pair in pairs if pair[1] < originals}
    missed = Counter(kinds[copy] for copy, original in of.items() if (original, copy) not in pairs)
    sources = [tuple(sorted((of.get(a, a), of.get(b, b)))) for a, b in pairs - known]
    return missed, sum(a != b and (a, b) not in known for a, b in sources), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    missed, wrong, seconds = Counter[str](), 0, 0.0
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as out:
            of_seed, wrong_of_seed, took = planted(options.folder, options.copies, seed, Path(out))
        missed, wrong, seconds = missed + of_seed, wrong + wrong_of_seed, seconds + took
    print("| change | copies | found |\n|---|--:|--:|")
    each = [len(options.seeds) * len(range(n, options.copies, len(KINDS))) for n in range(len(KINDS))]
    for kind, count in zip(KINDS, each, strict=True):
        print(f"| {kind.replace(' ', ', ')} | {count} | {count - missed[kind]} |")
    print(f"| all | {sum(each):,} | {sum(each) - missed.total():,} |")
    print(f"\n{wrong} wrong pairs; the search took {seconds:.0f} seconds of the processor.")


if __name__ == "__main__":
    main()
