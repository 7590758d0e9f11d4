"""How fast and in how little memory sources are built, against a plain pipeline. Prints a Markdown table.

    python benchmarks/build.py                               # against the reference: BUSI-like and BUS-BRA-like, 1k
    python benchmarks/build.py --growth 1000 10000 --sets busi busbra video volume polygon --jobs 1 2 4

The reference is what published converters do: one process, decode each image, write it again as PNG, separate the
components of its mask with scikit-image, encode each with pycocotools, one JSON file at the end; no digests, hashes,
splits or manifest. It is given here with Pillow and with OpenCV as the library that decodes and writes. Ours writes the
full output. All take turns in one run; a row has medians, and the median of the ratios of each round.

Sets: busi (600 × 500 RGB PNG, RGB masks), busbra (276 × 354 grey PNG, 1-bit masks), video (two frames of each), volume
(NIfTI slices) and polygon (COCO polygons); the last three are the specimens of EchoNet-Dynamic, MicroSeg and GIST514-DB
at scale, where the first two grow in the length of clips and volumes, not in their number.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from numpy.typing import NDArray

from us43d import registry
from us43d.contract import RawTree
from us43d.harmonize.build import build
from us43d.paths import Home
from us43d.specimen import blob

SOURCES = {
    "busi": "busi",
    "busbra": "busbra",
    "video": "echonet_dynamic",
    "volume": "microseg",
    "polygon": "gist514_db",
}
BANK = 1200  # side of the field of speckle from which pictures are cut
PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS, cv2.IMWRITE_PNG_COMPRESSION, 6)  # as most encoders write


# ----------------------------------------------------------------------------------------------------------- the sets


def pictures(shape: tuple[int, int], numbers: range) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.bool_]]]:
    """(number, picture, mask): pieces of one field of speckle with a lesion, each different."""
    field = cv2.GaussianBlur(np.random.default_rng(0).rayleigh(1.0, (BANK, BANK)), (0, 0), 1.5) / 1.25
    depth = np.linspace(1.15, 0.8, shape[0])[:, None]
    lesions = [blob(shape, np.random.default_rng(n)) for n in range(20)]
    for number in numbers:
        rng = np.random.default_rng((1, number))
        y, x = rng.integers(BANK - shape[0]), rng.integers(BANK - shape[1])
        mask = lesions[number % len(lesions)]
        tissue = np.where(mask, 40.0, rng.uniform(70, 120)) * depth
        noise = 0.35 + 0.65 * field[y : y + shape[0], x : x + shape[1]]
        yield number, np.clip(tissue * noise, 0, 255).astype(np.uint8), mask


def write(path: Path, array: NDArray[np.uint8], *options: int) -> None:
    path.write_bytes(cv2.imencode(".png", array, options or PNG)[1].tobytes())


def make_busi(root: Path, numbers: range) -> None:
    folder = root / "Dataset_BUSI_with_GT" / "benign"
    folder.mkdir(parents=True, exist_ok=True)
    for n, picture, mask in pictures((500, 600), numbers):
        grey = mask.astype(np.uint8) * 255
        write(folder / f"benign ({n + 1}).png", cv2.merge([picture] * 3))
        write(folder / f"benign ({n + 1})_mask.png", cv2.merge([grey] * 3))


def make_busbra(root: Path, numbers: range) -> None:
    folder = root / "BUSBRA"
    for name in ("Images", "Masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n, picture, mask in pictures((354, 276), numbers):
        write(folder / f"Images/bus_{n + 1:06}-l.png", picture)
        write(folder / f"Masks/mask_{n + 1:06}-l.png", mask.astype(np.uint8) * 255, cv2.IMWRITE_PNG_BILEVEL, 1)


def busbra_tables(root: Path, count: int) -> None:
    names = [f"bus_{n + 1:06}-l" for n in range(count)]
    data = [f"{name},{n // 2},fibroadenoma,benign,3,GE,276,354,left" for n, name in enumerate(names)]
    folds = [f"{name},{n // 2 % 5 + 1}" for n, name in enumerate(names)]
    head = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side"
    (root / "BUSBRA/bus_data.csv").write_text("\n".join([head, *data]) + "\n")
    for table in ("5-fold-cv.csv", "10-fold-cv.csv"):
        (root / "BUSBRA" / table).write_text("\n".join(["ID,kFold", *folds]) + "\n")


def make(what: str, root: Path, count: int) -> int:
    """Write a raw tree of about `count` images below `root`; return how many there are."""
    root.mkdir(parents=True)
    if what in ("busi", "busbra"):
        work = {"busi": make_busi, "busbra": make_busbra}[what]
        parts = [range(at, min(at + 250, count)) for at in range(0, count, 250)]
        with ProcessPoolExecutor() as pool:
            list(pool.map(work, [root] * len(parts), parts))
        if what == "busbra":
            busbra_tables(root, count)
        return count
    specimen, recipe = registry.specimen(SOURCES[what]), registry.recipe(SOURCES[what])
    specimen(root, np.random.default_rng(0), 1)
    one = sum(1 for _ in recipe.read(RawTree(root)))
    if count > one:
        shutil.rmtree(root)
        root.mkdir()
        specimen(root, np.random.default_rng(0), -(-count // one))
    return sum(1 for _ in recipe.read(RawTree(root)))


# ------------------------------------------------------------------------------------------------------ the reference


def pairs(what: str, root: Path) -> list[tuple[Path, Path]]:
    if what == "busi":
        images = (p for p in root.rglob("*.png") if not p.stem.endswith("_mask"))
        return [(path, path.with_name(f"{path.stem}_mask.png")) for path in sorted(images)]
    return [(p, p.parents[1] / "Masks" / p.name.replace("bus", "mask")) for p in sorted(root.glob("BUSBRA/Images/*"))]


def reference(library: str, files: list[tuple[Path, Path]], out: Path) -> None:
    """Decode, write again as PNG, label, encode each component, one JSON file at the end."""
    from PIL import Image
    from pycocotools import mask as coco
    from skimage.measure import label

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, truth) in enumerate(files):
        if library == "Pillow":
            picture = Image.open(image)
            picture.save(out / f"{number}.png")
            width, height = picture.size
            mask = np.asarray(Image.open(truth).convert("L")) > 127
        else:
            array = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(out / f"{number}.png"), array)
            height, width = array.shape[:2]
            mask = cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE) > 127
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        labels = label(mask)
        for value in range(1, labels.max() + 1):
            encoded = coco.encode(np.asfortranarray((labels == value).astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                    "area": int(coco.area(encoded)),
                    "bbox": coco.toBbox(encoded).tolist(),
                    "iscrowd": 0,
                }
            )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}
    (out / "annotations.json").write_text(json.dumps(content))


# ------------------------------------------------------------------------------------------------------- measuring


def ours(what: str, root: Path, out: Path, jobs: int) -> None:
    recipe = registry.recipe(SOURCES[what])
    receipt = {"kind": "specimen"} if what not in ("busi", "busbra") else {}
    build(recipe, root, Home(out), partial=not receipt, jobs=jobs, receipt=receipt)


def timed(work: Callable[[Path], None], place: Path) -> float:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.sync()
    gc.collect()
    begun = time.perf_counter()
    work(place)
    return time.perf_counter() - begun


class Memory:
    """Peak of the memory (MB) of a process and all below it, summed: shared pages count in each, so it is a bound."""

    def __init__(self, process: psutil.Process) -> None:
        self.peak, self._process, self._stop = 0.0, process, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                total = sum(_rss(each) for each in family)
            except psutil.NoSuchProcess:
                return
            self.peak = max(self.peak, total / 1e6)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def against(what: str, count: int, rounds: int, jobs: list[int], root: Path) -> None:
    count = make(what, root / "raw", count)
    files = pairs(what, root / "raw")
    ways: dict[str, Callable[[Path], None]] = {
        "Pillow": lambda out: reference("Pillow", files, out),
        "OpenCV": lambda out: reference("OpenCV", files, out),
    } | {f"us43d, {n}": lambda out, n=n: ours(what, root / "raw", out, n) for n in jobs}  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(timed(work, root / "out"))
    for name in ways:
        rate = count / statistics.median(times[name])
        ratio = [
            f"{statistics.median(a / b for a, b in zip(times[other], times[name], strict=True)):.1f}"
            for other in ("Pillow", "OpenCV")
        ]
        print(f"| {what} | {count:,} | {name} | {rate:.0f} | {ratio[0]} | {ratio[1]} |", flush=True)


def grow(what: str, count: int, jobs: list[int], root: Path) -> None:
    count = make(what, root / "raw", count)
    for n in jobs:
        place = root / "out"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, __file__, "--one", what, str(root / "raw"), str(place), str(n)])
        with Memory(psutil.Process(process.pid)) as memory:
            if process.wait() != 0:
                raise SystemExit(f"the build of {what} failed")
        seconds = time.perf_counter() - begun
        (made,) = (path.parent for path in place.glob("build/*/*/dataset.json"))
        counts = json.loads((made / "dataset.json").read_text())["counts"]
        raw = size(root / "raw")
        # What is linked costs nothing more; an output that was moved elsewhere would be this large.
        print(
            f"| {what} | {count:,} | {n} | {seconds:.1f} s | {count / seconds:.0f} | {memory.peak:.0f} MB | "
            f"{size(made) / max(1, counts['image_bytes'] if counts['kept_byte_for_byte'] else raw):.3f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SOURCES, default=["busi", "busbra"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--growth", nargs="+", type=int, help="measure time and memory at these sizes instead")
    parser.add_argument("--folder", help="where to write; without it the system's folder for temporary files")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, raw, out, jobs = options.one
        ours(what, Path(raw), Path(out), int(jobs))
        return
    if options.growth:
        print("| set | images | workers | time | images/s | peak memory, all processes | output / images kept |")
        print("|---|---|---|---|---|---|---|")
    else:
        print("| set | images | pipeline | images/s | × Pillow | × OpenCV |")
        print("|---|---|---|---|---|---|")
    for what in options.sets:
        for count in options.growth or [options.images]:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                if options.growth:
                    grow(what, count, options.jobs, Path(folder))
                else:
                    against(what, count, options.rounds, options.jobs, Path(folder))


if __name__ == "__main__":
    main()
