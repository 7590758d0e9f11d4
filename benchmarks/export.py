"""How much memory every export format takes, and how it grows with the number of images. Prints a Markdown table.

    PYTHONPATH=. python benchmarks/export.py [--images 2000 10000] [--folder FOLDER] [--formats coco yolo]

The corpus is that of benchmarks/corpus.py with images of 96 × 128 pixels, hard links to a few files: what grows with
the number of images does not depend on their size. One process per export, one thread. nnunet-3d takes volumes and is
not measured.
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

from us43d import export
from us43d.export.selection import Options
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge

generated.SIZE = (96, 128)
_, PNG = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, generated.SIZE, dtype=np.uint8))
generated.SHA256 = hashlib.sha256(PNG.tobytes()).hexdigest()
#: Names of one image file; an export with links doubles them.
LINKS = 10_000


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


def one(home: Path, form: str) -> None:
    """Export in this process; print seconds and peak memory in MB."""
    corpus = Corpus.open(home / "corpora" / "all")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=home) as folder:
        export.module(form).write(corpus, Path(folder) / "out", Options(link=True))
        print(time.perf_counter() - began, generated.peak())


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "one":
        one(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs=2, default=[2_000, 10_000])
    parser.add_argument("--folder", help="where to write; without it the system's folder for temporary files")
    parser.add_argument("--formats", nargs="+", default=[name for name in export.FORMATS if name != "nnunet-3d"])
    options = parser.parse_args()
    few, many = options.images
    print(f"| format | {few:,} images | {many:,} images | seconds | growth per 100,000 images |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        homes = {images: Path(folder) / str(images) for images in options.images}
        for images, home in homes.items():
            make(home, images)
        for form in options.formats:
            peaks = []
            for home in homes.values():
                command = [sys.executable, __file__, "one", str(home), form]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, peak = (float(word) for word in done.stdout.split()[-2:])
                peaks.append(peak)
            growth = (peaks[1] - peaks[0]) / (many - few) * 100_000
            print(f"| {form} | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB | {seconds:.0f} | {growth:.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
