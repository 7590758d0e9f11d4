"""How fast and in how little memory sources are built, against a plain pipeline. Prints a Markdown table.

    python benchmarks/build.py                               # against the reference: BUSI-like and BUS-BRA-like, 1k
    python benchmarks/build.py --growth 1000 10000 --sets busi busbra video volume polygon --jobs 1 2 4

The reference is what published converters do: one process, decode each image, write it again as PNG, separate the
components of its mask with scikit-image, encode each with pycocotools, one JSON file at the end; no digests, hashes,
splits or manifest. It is given here with Pillow and with OpenCV as the library that decodes and writes. Ours writes the
full output. All take turns in one run; a row has medians, and the median of the ratios of each round.

Sets (benchmarks/sets.py): busi (600 × 500 RGB PNG, RGB masks), busbra (276 × 354 grey PNG, 1-bit masks), video (two of
40 frames, 112 × 112, Motion-JPEG, contours), volume (NIfTI of 40 slices, 320 × 240) and polygon (400 × 300 JPEG, COCO
polygons).
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from sets import SOURCES, make

from us43d import registry
from us43d.harmonize.build import build
from us43d.paths import Home

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
    build(registry.recipe(SOURCES[what]), root, Home(out), partial=True, jobs=jobs)


def timed(work: Callable[[Path], None], place: Path) -> float:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.sync()
    gc.collect()
    start_time = time.perf_counter()
    work(place)
    return time.perf_counter() - start_time


class Memory:
    """Peak of the memory (MB) of a process and all below it, summed: shared pages count in each, so it is a bound."""

    def __init__(self, process: psutil.Process) -> None:
        self.peak, self._process, self._stop = 0.0, process, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                total = sum(_rss(process) for process in family)
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
        os.sync()
        start_time = time.perf_counter()
        process = subprocess.Popen([sys.executable, __file__, "--one", what, str(root / "raw"), str(place), str(n)])
        with Memory(psutil.Process(process.pid)) as memory:
            if process.wait() != 0:
                raise SystemExit(f"the build of {what} failed")
        seconds = time.perf_counter() - start_time
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
