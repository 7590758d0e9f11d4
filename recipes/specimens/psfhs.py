"""PSFHS as published: MetaImages of three planes, 256 × 256, under serial numbers that do not begin at 1."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_stack

SHAPE = (256, 256)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(12 * scale):
        symphysis = blob(SHAPE, rng, 0.25, (0.05, 0.1, 0.45, 0.5))
        head = blob(SHAPE, rng, 0.28, (0.45, 0.3, 1, 1))
        masks = {"pubic_symphysis": symphysis, "fetal_head": head}
        if n == 5:  # an image in which the symphysis is not seen
            del masks["pubic_symphysis"]
        picture = np.stack([speckle(SHAPE, list(masks.values()), rng)] * 3)
        values = {"pubic_symphysis": 1, "fetal_head": 2}
        labels = label_map(SHAPE, {values[label]: mask for label, mask in masks.items()})
        name = f"{3744 + n:05}.mha"
        write_stack(root / "PSFHS/image_mha" / name, picture, compress=n % 2 == 0)
        write_stack(root / "PSFHS/label_mha" / name, labels, compress=n % 2 == 0)
        samples[f"image_mha/{name}"] = Drawn({label: [mask] for label, mask in masks.items()})
    return Truth(samples)
