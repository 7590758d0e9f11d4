"""LEG-3D-US as published: MetaImage volumes x… with masksX… beside, three values and one of no structure."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_stack

SHAPE = (70, 96)
VALUES = {"soleus": 100, "gastrocnemius_medialis": 150, "gastrocnemius_lateralis": 200}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n, split in enumerate(("train", "train", "train", "val", "val", "test")):
        folder, frames = f"{split}/case{n:02}", 4 * scale
        images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
        key = f"{folder}/x_max{n}.mha"
        for z in range(frames):
            cells = ((0, 0, 0.33, 1), (0.33, 0, 0.66, 1), (0.66, 0, 1, 1))
            shapes = {label: blob(SHAPE, rng, 0.28, cell) for label, cell in zip(VALUES, cells, strict=True)}
            if z % 4 == 1:
                del shapes["soleus"]
            if z % 4 == 3 or n == 4:
                shapes = {}
            images[z] = speckle(SHAPE, list(shapes.values()), rng)
            labels[z, :2, :2] = 50 if n == 1 else 0
            for label, mask in shapes.items():
                labels[z][mask] = VALUES[label]
            if shapes:
                masks = {label: [mask] for label, mask in shapes.items()}
                samples[f"{key}#{z:04}"] = Drawn(masks, group=folder, split=split)
        if n == 4:
            samples[f"{key}#0000"] = Drawn(dropped=True, group=folder, split=split)
        for name, volume in ((key, images), (f"{folder}/masksX_max{n}.mha", labels)):
            write_stack(root / name, volume, (0.3, 0.3, 1.0), compress=n % 2 == 0)
    return Truth(samples)
