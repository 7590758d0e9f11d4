"""FUGC as published: numbers that restart in every folder, maps of 0, 1 and 2, and images without a label."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_image

SHAPE = (84, 136)  # 336 × 544 as published, a quarter
UPPER, LOWER = (0.1, 0, 0.9, 0.5), (0.1, 0.5, 0.9, 1)
PARTS = (("train/labeled_data", "train", 4), ("val", "val", 3), ("test", "test", 5))


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = "FUGC (Dataset)/dataset"
    samples = {}
    for folder, split, count in PARTS:
        for n in range(1, count * scale + 1):
            anterior, posterior = blob(SHAPE, rng, 0.3, UPPER), blob(SHAPE, rng, 0.3, LOWER)
            labels = label_map(SHAPE, {1: anterior, 2: posterior})
            image = np.stack([speckle(SHAPE, [anterior, posterior], rng)] * 3, axis=2)
            write_image(root / top / folder / f"images/{n:04}.png", image)
            write_image(root / top / folder / f"labels/{n:04}.png", labels)
            masks = {"anterior_lip": [anterior & ~posterior], "posterior_lip": [posterior]}
            samples[f"{folder}/images/{n:04}.png"] = Drawn(masks, split=split)
    for n in range(1, 4 * scale + 1):
        key = f"train/unlabeled_data/images/{n:04}.png"
        write_image(root / top / key, np.stack([speckle(SHAPE, [], rng)] * 3, axis=2))
        samples[key] = Drawn(split="train", dropped=True)
    return Truth(samples)
