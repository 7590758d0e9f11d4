"""Times of a promptable model on one CPU thread: encoder, further prompts, and the encoder of ViT-B in the same run.

    taskset -c 1 python benchmarks/prompt.py [--weights FOLDER] [--rounds 9] [--without-vit-b]

Processor time; all take turns; medians of the rounds. Prompts are given on an image of 606 × 856 pixels that is
encoded already. Peak memory is that of the process before ViT-B is made.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from us43d.model import weights
from us43d.model.network import PRESETS, UltraSam
from us43d.model.predictor import Predictor

#: Corners of the box and the point that are given.
BOX, POINT = (200, 200, 500, 400), (300, 300)


def encoding(model: UltraSam) -> Callable[[], object]:
    """The encoder's forward pass on one image."""
    side = model.config.image_size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def encode() -> object:
        return model.encode(image)

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=weights.shipped())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--without-vit-b", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor = Predictor.from_weights(options.weights)
    picture = np.random.default_rng(0).integers(0, 255, (606, 856), np.uint8)
    predictor.set_image(picture)
    side = predictor.model.config.image_size
    encoder = f"encoder, {side} × {side}"
    works: dict[str, Callable[[], object]] = {
        encoder: encoding(predictor.model),
        "image prepared and encoded": lambda: predictor.set_image(picture),
        "box, first mask": lambda: predictor.predict(box=BOX, refine=0),
        "box with the second look": lambda: predictor.predict(box=BOX),
        "point with the second look": lambda: predictor.predict(points=[POINT]),
    }
    for work in works.values():
        work()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    vit_b = "encoder of ViT-B, 1024 × 1024"
    if not options.without_vit_b:
        works[vit_b] = encoding(UltraSam.random(PRESETS["vit_b"], 0).eval())
        works[vit_b]()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            seconds[name].append(time.process_time() - began)
    print("| | median ms | fastest ms | of an encoding |\n|---|--:|--:|--:|")
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, seconds[encoder], strict=True))
        print(f"| {name} | {1000 * statistics.median(taken):,.1f} | {1000 * min(taken):,.1f} | {ratio:.2f} |")
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"\npeak memory before ViT-B {memory:.0f} MB; {options.rounds} rounds, one thread, load average {load}")


if __name__ == "__main__":
    main()
