"""Speed of evaluation with each image encoded once and its prompts decoded together. Prints a Markdown table.

    python benchmarks/evaluate.py [--model tiny|vit_b] [--images N] [--rounds N] [--device cpu] [--threads N]
    python benchmarks/evaluate.py --growth N N… [--weights PATH]     its memory with the number of images

Compared with encoding the image again for every prompt, as in a loop over (image, prompt) pairs
does. Both go through `us43d.evaluate.protocols.evaluate`, metrics included, and take turns; weights are random,
which changes no speed but that of metrics (ragged masks have longer outlines).
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from us43d import registry
from us43d.evaluate.protocols import evaluate
from us43d.harmonize.build import build
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.model.geometry import fitted
from us43d.model.network import PRESETS, Features, UltraSam
from us43d.model.predictor import Encoded, Prediction, Predictor
from us43d.paths import Home


class Reencoding(Predictor):
    """The plain way: nothing is kept from one prompt to the next."""

    def encode(self, picture: NDArray[Any]) -> Encoded:
        self.picture = picture
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(Features(torch.zeros(1)), shape, fitted(shape, self.model.config.image_size), picture)

    def segment(self, encoded: Encoded, points: Tensor, labels: Tensor, **options: Any) -> list[Prediction]:
        former = options.pop("former", None)
        results = []
        for n in range(len(points)):
            one = slice(n, n + 1)
            again = super().encode(self.picture)
            mask = None if former is None else former[one]
            results += super().segment(again, points[one], labels[one], former=mask, **options)
        return results


def corpus(folder: Path, scale: int = 4) -> Corpus:
    """BUSI's specimen (several masks on some images) and STU-Hospital's."""
    home = Home(folder / "home")
    paths = []
    for slug in ("busi", "stu_hospital"):
        raw = folder / slug
        raw.mkdir()
        registry.specimen(slug)(raw, np.random.default_rng(0), scale)
        paths.append(build(registry.recipe(slug), raw, home, partial=True).path)
    return merge(paths, home.root, "benchmark")


def measured(path: Path, weights: Path | None, images: int) -> tuple[int, int, float, float, float]:
    """(images, rows, seconds, MB at the start, peak MB) of a whole evaluation, its page and files included."""
    torch.set_num_threads(1)
    predictor = Predictor.from_weights(weights) if weights else Predictor(UltraSam.random(PRESETS["tiny"], 0))
    made = Corpus.open(path)
    evaluate(predictor, made, split="all", clicks=(0,), prompts=("box",), limit=2)
    before, start_time = _status("VmRSS"), time.perf_counter()
    results = evaluate(
        predictor, made, split="all", protocol="both", clicks=(0, 1), prompts=("box", "centre"), limit=images
    )
    results.write(path.parent / f"evaluation-{images}")
    return results.facts["images"], len(results.rows), time.perf_counter() - start_time, before, _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def growth(numbers: list[int], weights: Path | None) -> None:
    """Each number of images in a process of its own."""
    print("| images | rows of results | seconds | memory at the start | peak memory |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = corpus(Path(folder), 1 + max(numbers) // 12).path
        for number in numbers:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                images, rows, seconds, before, peak = alone.submit(measured, path, weights, number).result()
            print(f"| {images:,} | {rows:,} | {seconds:.0f} | {before:.0f} MB | {peak:.0f} MB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("tiny", "vit_b"), default="tiny")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--growth", type=int, nargs="+", metavar="N")
    parser.add_argument("--weights", type=Path, help="of --growth; default: random weights of the tiny preset")
    options = parser.parse_args()
    if options.growth:
        growth(options.growth, options.weights)
        return
    torch.set_num_threads(options.threads)
    model = UltraSam.random(PRESETS[options.model], 0)
    ways = {
        "encoded once, prompts together": Predictor(model, device=options.device),
        "encoded anew for every prompt": Reencoding(model, device=options.device),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    prompts = 0
    with tempfile.TemporaryDirectory() as folder:
        made = corpus(Path(folder))
        for turn in range(options.rounds + 1):
            for name, predictor in ways.items():
                start_time = time.perf_counter()
                if turn:
                    results = evaluate(predictor, made, split="train", clicks=(0, 1, 3), limit=options.images)
                else:  # warms up
                    evaluate(predictor, made, split="train", clicks=(0,), prompts=("box",), limit=1)
                if turn:
                    seconds[name].append(time.perf_counter() - start_time)
                    first = results.rows[(results.rows["weights"] == "model") & (results.rows["clicks"] == 0)]
                    prompts = len(first) * 4  # the first prompt and three clicks
                    images = results.facts["images"]
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {options.threads} threads"
    print(
        f"Model {options.model}, {device}; {images} images, {prompts} prompts; medians of {options.rounds} in turn.\n"
    )
    print("| way | seconds | images/s | prompts/s | ratio |\n| --- | --- | --- | --- | --- |")
    slow = statistics.median(seconds["encoded anew for every prompt"])
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"| {name} | {middle:.2f} | {images / middle:.3g} | {prompts / middle:.3g} | {slow / middle:.2f} |")


if __name__ == "__main__":
    main()
