"""How fast one core feeds training: decoding, resizing, targets and prompts alone, without a model.

    python benchmarks/loader.py --corpus ~/.us43d/corpora/us43d --preset ultrasam-vitb
    python benchmarks/loader.py --made 64                  # on generated images: 600 × 500 grey, one to three blobs
    python benchmarks/loader.py --processes 1 4 8 16       # whole draws of so many processes together, by the clock

Prints images per second of one core, and how that divides. A GPU that trains at n images/s needs n / this many loader
processes.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from us43d import specimen
from us43d.coco import own as coco
from us43d.coco.segmentation import encode
from us43d.harmonize.corpus import Corpus
from us43d.model.geometry import fitted
from us43d.train.config import PRESETS, preset
from us43d.train.data import Draws, collate


def made(folder: Path, count: int) -> Corpus:
    """Generate images of 600 × 500 pixels with one to three blobs."""
    rng = np.random.default_rng(0)
    listing, annotations = [], []
    for n in range(count):
        cells = [(k / (1 + n % 3), 0, (k + 1) / (1 + n % 3), 1) for k in range(1 + n % 3)]
        masks = [specimen.blob((500, 600), rng, 0.3, cell) for cell in cells]
        specimen.write_image(folder / f"{n}.png", specimen.speckle((500, 600), masks, rng))
        listing.append({"id": n, "file_name": f"{n}.png", "height": 500, "width": 600})
        for mask in masks:
            counts = {"size": [500, 600], "counts": encode(mask).decode()}
            annotations.append({"id": len(annotations), "image_id": n, "category_id": 1, "segmentation": counts})
    content = {"images": listing, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    (folder / "data.json").write_text(json.dumps(content))
    return coco.read(folder / "data.json", folder / "corpus")


def rate(work: Callable[[int], object], count: int, rounds: int = 5) -> float:
    """Median images per second of processor time."""
    speeds = []
    for _ in range(rounds):
        start_time = time.process_time()
        for n in range(count):
            work(n)
        speeds.append(count / (time.process_time() - start_time))
    return statistics.median(speeds)


def together(draws: Draws, count: int, processes: int) -> float:
    """Images per second of so many processes, each with `count` whole draws; their start is not in it."""
    context = multiprocessing.get_context("fork")
    ready, done = (context.Barrier(processes + 1, timeout=600) for _ in range(2))  # no wait for one that died

    def work(first: int) -> None:
        draws.draw(first)
        ready.wait()
        for n in range(first, first + count):
            draws.draw(n)
        done.wait()

    workers = [context.Process(target=work, args=(n * count,)) for n in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    start_time = time.perf_counter()
    done.wait()
    seconds = time.perf_counter() - start_time
    for worker in workers:
        worker.join()
    return processes * count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="folder of a corpus")
    parser.add_argument(
        "--made", type=int, default=64, metavar="N", help="without a corpus: number of generated images"
    )
    parser.add_argument("--preset", choices=list(PRESETS), nargs="+", default=["tiny", "ultrasam-vitb"])
    parser.add_argument("--images", type=int, default=48, help="draws in a round")
    parser.add_argument("--processes", type=int, nargs="*", default=[], help="also so many processes together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.open(arguments.corpus) if arguments.corpus else made(Path(folder), arguments.made)
        what = arguments.corpus.name if arguments.corpus else "made here, 600 × 500 grey"
        print(f"{platform.machine()}, one core, OpenCV {cv2.__version__}, {date.today()}; corpus: {what}\n")
        print("| preset | decode alone | decode and resize | whole draw | with collation |")
        print("|---|--:|--:|--:|--:|")
        for name in arguments.preset:
            draws, count = Draws(corpus, preset(name)), arguments.images
            side = preset(name).model.image_size

            def resized(n: int, draws: Draws = draws, side: int = side) -> object:
                shown = corpus.picture(draws.order(n)[1])
                rows, columns = fitted(shown.shape[:2], side)
                return cv2.resize(shown, (columns, rows), interpolation=cv2.INTER_LINEAR)

            rates = (
                rate(lambda n, draws=draws: corpus.picture(draws.order(n)[1]), count),
                rate(resized, count),
                rate(lambda n, draws=draws: draws.draw(n), count),
                8 * rate(lambda n, draws=draws: collate([draws[8 * n + k] for k in range(8)]), max(1, count // 8)),
            )
            print(f"| {name} | {' | '.join(f'{speed:.0f} images/s' for speed in rates)} |")
        if arguments.processes:
            print("\n| preset | processes | whole draws |\n|---|--:|--:|")
        for name in arguments.preset:
            for processes in arguments.processes:
                speed = together(Draws(corpus, preset(name)), arguments.images, processes)
                print(f"| {name} | {processes} | {speed:.0f} images/s |", flush=True)


if __name__ == "__main__":
    main()
