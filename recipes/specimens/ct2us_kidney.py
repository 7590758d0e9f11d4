"""CT2US as published: serial numbers in doubled folders, colour images, grey masks that were resized."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (128, 128)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(12 * scale):
        kidney = blob(SHAPE, rng, 0.3)
        grey = np.where(kidney, 255, 0).astype(np.uint8)
        edge = np.roll(kidney, 1, axis=1) & ~kidney
        grey[edge] = 100  # below half, and so outside
        write_image(root / f"slice/slice/{n}.png", np.stack([speckle(SHAPE, [kidney], rng)] * 3, axis=2))
        write_image(root / f"mask/mask/{n}.png", grey)
        samples[f"slice/slice/{n}.png"] = Drawn({"kidney": [kidney]}, group="all")
    return Truth(samples)
