"""How fast evaluation is when a picture is encoded once and its prompts are decoded together. Prints a Markdown table.

    python benchmarks/evaluate.py [--model tiny|vit_b] [--images N] [--rounds N] [--device cpu] [--threads N]

Compared with the plain way, which encodes the picture anew for every prompt, as a loop over (picture, prompt) pairs
does. Both go through `us43d.train.evaluate.evaluate`, metrics included, and take turns in one run; weights are random,
which changes no speed but that of metrics (ragged masks have longer outlines).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from us43d import registry
from us43d.harmonize.build import build
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.paths import Home
from us43d.train.evaluate import evaluate
from us43d.train.model import PRESETS, UltraSam
from us43d.train.predict import Encoded, Prediction, Predictor, fitted


class Reencoding(Predictor):
    """The plain way: nothing is kept from one prompt to the next."""

    def encode(self, picture: NDArray[Any]) -> Encoded:
        self.picture = picture
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(torch.zeros(1), shape, fitted(shape, self.model.config.image_size))

    def segment(self, encoded: Encoded, points: Tensor, labels: Tensor, **options: Any) -> list[Prediction]:
        former = options.pop("former", None)
        found = []
        for n in range(len(points)):
            one = slice(n, n + 1)
            again = super().encode(self.picture)
            mask = None if former is None else former[one]
            found += super().segment(again, points[one], labels[one], former=mask, **options)
        return found


def corpus(folder: Path) -> Corpus:
    """BUSI's specimen (several masks on some pictures) and STU-Hospital's."""
    home = Home(folder / "home")
    paths = []
    for slug in ("busi", "stu_hospital"):
        raw = folder / slug
        raw.mkdir()
        registry.specimen(slug)(raw, np.random.default_rng(0), 4)
        paths.append(build(registry.recipe(slug), raw, home, partial=True).path)
    return merge(paths, home.root, "benchmark")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("tiny", "vit_b"), default="tiny")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
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
                begun = time.perf_counter()
                if turn:
                    found = evaluate(predictor, made, split="train", clicks=(0, 1, 3), limit=options.images)
                else:  # warms up
                    evaluate(predictor, made, split="train", clicks=(0,), prompts=("box",), limit=1)
                if turn:
                    seconds[name].append(time.perf_counter() - begun)
                    first = found.rows[(found.rows["weights"] == "model") & (found.rows["clicks"] == 0)]
                    prompts = len(first) * 4  # the first prompt and three clicks
                    images = found.facts["images"]
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {options.threads} threads"
    print(
        f"Model {options.model}, {device}; {images} images, {prompts} prompts; medians of {options.rounds} in turn.\n"
    )
    print("| way | seconds | images/s | prompts/s | ratio |\n| --- | --- | --- | --- | --- |")
    slow = statistics.median(seconds["encoded anew for every prompt"])
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"| {name} | {middle:.2f} | {images / middle:.3g} | {prompts / middle:.3g} | {slow / middle:.2f} |")


if __name__ == "__main__":
    main()
