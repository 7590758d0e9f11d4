"""How fast and in how little memory builds become a corpus, and a corpus opens. Prints a Markdown table.

    python benchmarks/corpus.py [--images 30000 300000] [--folder FOLDER]

The builds are generated: COCO shards, manifests and facts as `us43d build` writes them, of 20 sources, three
annotations to two images, with RLE of lesions at 600 × 500; the images are not there, as merging does not read them.
Opening is followed by what training does first: 1,000 random images with all their masks decoded.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from us43d import registry
from us43d.contract import Recipe
from us43d.harmonize import shards
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.ids import Ids
from us43d.harmonize.merge import merge
from us43d.harmonize.records import Annotation, Record, Written
from us43d.harmonize.taxonomy import mapping
from us43d.masks.components import Piece, components
from us43d.specimen import blob
from us43d.splits.assign import Assigned

SOURCES = 20
#: Height and width of the images, and the digest of their files; benchmarks/export.py has small images on disk.
SIZE, SHA256 = (500, 600), ""
SPLITS: tuple[tuple[Assigned, float], ...] = (("train", 0.85), ("val", 0.05), ("test", 0.10))


@cache
def lesions() -> list[Piece]:
    return [components(blob(SIZE, np.random.default_rng(n)))[0] for n in range(50)]


def rows(recipe: Recipe, label: str, count: int) -> Iterator[Record]:
    """What a build's blocks record, in the order of keys, without the images."""
    masks = lesions()
    ids = Ids(recipe.slug)
    for n in range(count):
        key = f"images/patient_{n // 4:06}/frame_{n:07}.png"
        number = ids.image(key)
        pieces = [masks[(n + k) % len(masks)] for k in range(1 + n % 2)]
        image = Written(
            file=f"images/{n // 256:05}/{number}.png", sha256=SHA256 or f"{number:064x}", pixel_hash=f"{number:064x}",
            phash=number, height=SIZE[0], width=SIZE[1], bytes=100_000, kept=True,
        )  # fmt: skip
        annotations = tuple(Annotation.of(piece, label, k, speck=False) for k, piece in enumerate(pieces))
        yield Record(
            id=number, key=key, group=f"patient_{n // 4:06}", official=None, frame=None, spacing=(0.1, 0.1), slice=None,
            tags={"device": "simulated"}, remarks=(), image=image, annotations=annotations,
        )  # fmt: skip


def generate(home: Path, images: int) -> list[Path]:
    """Builds of `SOURCES` sources below `home`, together `images` images."""
    made = []
    for slug in registry.slugs()[:SOURCES]:
        recipe = registry.recipe(slug)
        whole = list(rows(recipe, sorted(mapping(recipe))[0], images // SOURCES))
        sizes = {split: round(share * len(whole)) for split, share in SPLITS}
        sizes["train"] += len(whole) - sum(sizes.values())  # rounding may not add up
        made.append(write(home, recipe, whole, sizes))
    return made


def write(home: Path, recipe: Recipe, whole: list[Record], sizes: dict[Assigned, int]) -> Path:
    """Write a build of records, which are divided into splits of the given sizes in their order."""
    folder = home / "build" / recipe.name / "generated"
    parts = folder / "parts"
    parts.mkdir(parents=True)
    splits = [split for split, size in sizes.items() for _ in range(size)]
    writer = shards.Shards(folder, sizes, recipe, mapping(recipe), "generated", parts)
    for record, split in zip(whole, splits, strict=True):
        record.split = split
        writer.add(record)
    writer.finish()
    shards.manifest(folder / shards.MANIFEST, whole, recipe.group_kind, parts)
    parts.rmdir()
    facts = {
        "name": recipe.name, "slug": recipe.slug, "version": "generated", "digest": "", "organ": recipe.organ,
        "licence": asdict(recipe.licence.terms) | {"evidence": recipe.licence.evidence},
        "citations": [item.model_dump(mode="json") for item in recipe.citations],
        "profile": "us43d", "partial": False, "specimen": False, "counts": {},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def peak() -> float:
    """Return the peak of resident memory in MB: of this process, where getrusage begins with that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def one_merge(home: Path) -> None:
    start_time = time.perf_counter()
    corpus = merge([path.parent for path in home.glob("build/*/*/dataset.json")], home, "all")
    print(len(corpus), len(corpus.annotations), time.perf_counter() - start_time, peak())


def one_open(home: Path) -> None:
    start_time = time.perf_counter()
    corpus = Corpus.open(home / "corpora" / "all")
    rng = np.random.default_rng(0)
    train = corpus.split("train")
    opened = time.perf_counter() - start_time
    for image in rng.choice(train, min(1000, len(train)), replace=False):
        corpus.file(image)
        for annotation in corpus.of(image):
            corpus.mask(annotation)
    print(opened, time.perf_counter() - start_time, peak())


def run(what: str, home: Path) -> list[float]:
    done = subprocess.run([sys.executable, __file__, what, str(home)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] in ("merge", "open"):
        {"merge": one_merge, "open": one_open}[sys.argv[1]](Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--folder", help="where to write; without it the system's folder for temporary files")
    options = parser.parse_args()
    print("| images | annotations | merge | its peak memory | open | open and 1,000 images | its peak memory |")
    print("|---|---|---|---|---|---|---|")
    for images in options.images:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            generate(Path(folder), images)
            merged, opened = run("merge", Path(folder)), run("open", Path(folder))
            print(
                f"| {merged[0]:,.0f} | {merged[1]:,.0f} | {merged[2]:.1f} s | {merged[3]:.0f} MB | {opened[0]:.2f} s | "
                f"{opened[1]:.2f} s | {opened[2]:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
