"""How much memory every export format takes, and how it grows with the number of images. Prints a Markdown table.

    PYTHONPATH=. python benchmarks/export.py [--images 2000 10000] [--folder FOLDER] [--formats coco yolo]
    PYTHONPATH=. python benchmarks/export.py --volume 256 256 256 --formats dicom-seg nnunet-3d

The corpus is that of benchmarks/corpus.py with images of 96 × 128 pixels, hard links to a few files: what grows with
the number of images does not depend on their size. One process per export, one thread. --volume SLICES HEIGHT WIDTH
exports one volume of noise instead, in which `STRUCTURES` annotations of every slice overlap; --apart moves them apart.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpus as generated
import cv2
import numpy as np

from us43d import export, registry
from us43d.export.selection import Options
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.ids import Ids
from us43d.harmonize.merge import merge
from us43d.harmonize.records import Annotation, Record, Written
from us43d.harmonize.taxonomy import mapping
from us43d.masks.components import components

generated.SIZE = (96, 128)
_, PNG = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, generated.SIZE, dtype=np.uint8))
generated.SHA256 = hashlib.sha256(PNG.tobytes()).hexdigest()
#: Names of one image file; an export with links doubles them.
LINKS = 10_000
#: Annotations of every slice of a volume.
STRUCTURES = 4


def make(home: Path, images: int) -> None:
    """Generate a corpus with its image files."""
    builds = generated.generate(home, images)
    merge(builds, home, "all")
    corpus = Corpus.open(home / "corpora" / "all")
    first = home
    for row in range(len(corpus)):
        path = corpus.file(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        if row % LINKS == 0:  # a file has at most 65,000 names on ext4
            first = path
            first.write_bytes(PNG.tobytes())
        else:
            os.link(first, path)


def make_volume(home: Path, slices: int, height: int, width: int, *, apart: bool) -> None:
    """Generate a corpus of one volume: discs beside one another, or a third of their width apart."""
    recipe = registry.recipe("segthy")
    ids, labels = Ids(recipe.slug), sorted(mapping(recipe))
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:height, :width]
    step = width / (STRUCTURES + 1)
    pieces = []
    for n in range(STRUCTURES):
        middle = step * (n + 1) if apart else width / 2 + step / 3 * (n - 1.5)
        disc = (y - height / 2) ** 2 + (x - middle) ** 2 < (step / 2 if apart else step) ** 2
        pieces.append(components(disc)[0])
    annotations = tuple(Annotation.of(piece, labels[n % len(labels)], n, speck=False) for n, piece in enumerate(pieces))
    whole = []
    for n in range(slices):
        key = f"volume.nii#{n:04}"
        number = ids.image(key)
        _, png = cv2.imencode(".png", rng.integers(0, 255, (height, width), dtype=np.uint8))
        path = home / "build" / recipe.name / "generated" / "images" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png.tobytes())
        image = Written(
            file=f"images/{number}.png", sha256=hashlib.sha256(png.tobytes()).hexdigest(), pixel_hash=f"{number:064x}",
            phash=number, height=height, width=width, bytes=len(png), kept=True,
        )  # fmt: skip
        whole.append(
            Record(
                id=number, key=key, group="volume", official=None, frame=n, spacing=(0.2, 0.2), slice=0.3, tags={},
                remarks=(), image=image, annotations=annotations,
            )
        )  # fmt: skip
    merge([generated.write(home, recipe, whole, {"train": slices})], home, "all")


def one(home: Path, form: str) -> None:
    """Export in this process; print seconds and peak memory in MB."""
    corpus = Corpus.open(home / "corpora" / "all")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=home) as folder:
        export.write(form, corpus, Path(folder) / "out", Options(link=True))
        print(time.perf_counter() - began, generated.peak())


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "one":
        one(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[2_000, 10_000])
    parser.add_argument("--volume", type=int, nargs=3, metavar=("SLICES", "HEIGHT", "WIDTH"))
    parser.add_argument("--apart", action="store_true", help="structures of the volume do not overlap")
    parser.add_argument("--folder", help="where to write; without it the system's folder for temporary files")
    parser.add_argument("--formats", nargs="+", default=[name for name in export.FORMATS if name != "nnunet-3d"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.volume:
            make_volume(Path(folder), *options.volume, apart=options.apart)
            print("| format | peak | seconds |\n|---|---|---|")
            for form in options.formats:
                seconds, peak = measured(Path(folder), form)
                print(f"| {form} | {peak:.0f} MB | {seconds:.0f} |", flush=True)
            return
        compare(Path(folder), options.images, options.formats)


def compare(folder: Path, sizes: list[int], forms: list[str]) -> None:
    """Export corpora of two sizes; print peaks and the growth between them."""
    few, many = sizes
    print(f"| format | {few:,} images | {many:,} images | seconds | growth per 100,000 images |\n|---|---|---|---|---|")
    homes = {images: folder / str(images) for images in sizes}
    for images, home in homes.items():
        make(home, images)
    for form in forms:
        (_, first), (seconds, second) = (measured(home, form) for home in homes.values())
        growth = (second - first) / (many - few) * 100_000
        print(f"| {form} | {first:.0f} MB | {second:.0f} MB | {seconds:.0f} | {growth:.0f} MB |", flush=True)


def measured(home: Path, form: str) -> tuple[float, float]:
    """Return seconds and peak memory in MB of an export in a process of its own."""
    command = [sys.executable, __file__, "one", str(home), form]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = (float(word) for word in done.stdout.split()[-2:])
    return seconds, peak


if __name__ == "__main__":
    main()
