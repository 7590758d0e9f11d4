"""BraTioUS as published: images of two axes as NIfTI files, some masks with a third axis of length one."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_volume


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    images, labels = "imagesBraTioUS-public-dataset", "labelsBraTioUS-public-dataset"
    samples = {}
    for n in range(10 * scale):
        shape = (60 + n % 3, 80)  # rows, columns
        tumour = blob(shape, rng)
        name = f"case_{n:04}.nii.gz"
        stored = speckle(shape, [tumour], rng).T  # x, y
        mask = tumour.astype(np.uint8).T
        write_volume(root / images / name, stored.astype(np.float32) if n % 2 else stored)
        write_volume(root / labels / name, mask[:, :, None] if n % 4 == 3 else mask)
        samples[f"{images}/{name}"] = Drawn({"tumour": [tumour]})
    return Truth(samples)
