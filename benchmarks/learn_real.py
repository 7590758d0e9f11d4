"""Does the small model learn on real images? Trained on cuts of STU-Hospital and BUS-BRA, evaluated on other patients.

    us43d demo --folder demo                              # a tiny model that has seen drawn specimens alone
    python benchmarks/learn_real.py --init demo/home/runs/demo/weights
    python benchmarks/learn_real.py                       # from random weights

The cuts are next to the checkout (shared/real), not in it. They are built as partial, groups are patients,
and the split is redrawn over both, so that a quarter of the patients is held out: with the pinned splits only eight
images would be. It prints the box-prompt Dice on held-out test patients, the Dice of the ellipse baseline on the
same masks, and the interval of their difference by the bootstrap over patients.
"""

import argparse
import hashlib
import platform
import shutil
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from us43d import registry
from us43d.evaluate.metrics import bootstrap
from us43d.harmonize.build import build
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.harmonize.merge import merge
from us43d.model import weights
from us43d.paths import Home
from us43d.train.config import preset, read
from us43d.train.loop import train
from us43d.train.validate import COLUMNS, held_out, validate

SOURCES = {"STU-Hospital": "stu_hospital", "BUS-BRA": "busbra"}
HELD_OUT = 0.25


def corpus_of(real: Path, home: Home) -> Corpus:
    """Both cuts as one corpus, with a quarter of the patients of each as its validation split."""
    builds = [build(registry.find(name), real / folder, home, partial=True).path for name, folder in SOURCES.items()]
    corpus = merge(builds, home.root, "real")
    images = np.array(corpus.images)
    for source in range(len(SOURCES)):
        own = np.flatnonzero(images["source"] == source)
        groups = sorted(set(images["group"][own]), key=lambda g: hashlib.sha256(f"{source} {g}".encode()).digest())
        chosen = groups[: round(HELD_OUT * len(groups))]
        images["split"][own] = np.where(np.isin(images["group"][own], chosen), SPLITS.index("val"), 0)
    np.save(corpus.path / "images.npy", images)
    return Corpus.open(corpus.path, home.root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "real"
    parser.add_argument("--real", type=Path, default=beside, help="folder of the cuts")
    parser.add_argument("--init", type=Path, help="initial weights; default: random")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if not arguments.real.is_dir():
        raise SystemExit(f"{arguments.real} is not here: the real cuts are kept beside the checkout, not in it.")

    folder = Path(tempfile.mkdtemp())
    try:
        corpus = corpus_of(arguments.real, Home(folder))
        # Few images, so augmentation is stronger; exact boxes, as for the baseline.
        settings = read(
            preset("tiny"),
            seed=arguments.seed,
            validation_images=1000,
            contrast=0.2,
            zoom=0.8,
            box_share=0.85,
            box_jitter=0.01,
            weight_decay=0.05,
            ema=0.995,
        ).shortened(arguments.steps)
        start_time, used = time.perf_counter(), time.process_time()

        def tell(record: dict) -> None:
            if record["kind"] == "validation":
                box, ellipse = record["box_dice"], record["ellipse_dice"]
                print(f"step {record['step']}: box {box:.3f}, ellipse {ellipse:.3f}", flush=True)

        result = train(settings, corpus, folder / "run", init=arguments.init, device=arguments.device, report=tell)
        wall, processor = time.perf_counter() - start_time, time.process_time() - used
        model = weights.load(result.weights).model()
        table = validate(model, corpus, held_out(corpus, settings), torch.device("cpu"), "float32")
    finally:
        shutil.rmtree(folder)

    source, group, box, point, ellipse = (table[:, COLUMNS.index(name)] for name in COLUMNS)
    print(
        f"\n{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}; "
        f"{settings.steps} steps of {settings.batch} images in {wall / 60:.1f} min "
        f"({processor / 60:.1f} min of processor), from {'the given' if arguments.init else 'random'} weights, "
        f"seed {settings.seed}\n"
    )
    print("| held out | patients | masks | box Dice | point Dice | box's ellipse | box − ellipse (95 % interval) |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    parts = [("all", source >= 0), *((entry["name"], source == n) for n, entry in enumerate(corpus.sources))]
    for name, rows in parts:
        gain = bootstrap((box - ellipse)[rows], group[rows])
        print(
            f"| {name} | {len(set(group[rows]))} | {rows.sum()} | {box[rows].mean():.3f} | {point[rows].mean():.3f} | "
            f"{ellipse[rows].mean():.3f} | {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) |"
        )


if __name__ == "__main__":
    main()
