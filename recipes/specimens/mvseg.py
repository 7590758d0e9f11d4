"""MVSeg as published: gzipped NIfTI volumes with a label volume beside, thin leaflets on some of the slices."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, label_map, speckle, write_volume

SHAPE, SPACING = (64, 84), (0.4, 0.5, 0.7)
VALUES = {"posterior_leaflet": 1, "anterior_leaflet": 2}


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n, split in enumerate(("train", "train", "train", "train", "val", "val", "test")):
        case, frames = f"{split}_{n + 1:03}", 4 * scale
        images, labels = np.zeros((2, frames, *SHAPE), np.uint8)
        key = f"{split}/{case}-US.nii.gz"
        for z in range(frames):
            shapes = {
                "posterior_leaflet": blob(SHAPE, rng, 0.2, (0, 0, 0.5, 1)),
                "anterior_leaflet": blob(SHAPE, rng, 0.2, (0.5, 0, 1, 1)),
            }
            if z % 4 == 2:
                del shapes["posterior_leaflet"]
            if z % 4 == 0 or n == 3:
                shapes = {}
            images[z] = speckle(SHAPE, list(shapes.values()), rng)
            labels[z] = label_map(SHAPE, {VALUES[label]: mask for label, mask in shapes.items()})
            if shapes:
                masks = {label: [mask] for label, mask in shapes.items()}
                samples[f"{key}#{z:04}"] = Drawn(masks, group=case, split=split)
        if n == 3:
            samples[f"{key}#0000"] = Drawn(dropped=True, group=case, split=split)
        write_volume(root / "MVSeg" / key, (images * np.int16(3) if n % 2 else images).T, SPACING)
        write_volume(root / "MVSeg" / split / f"{case}-label.nii.gz", labels.T, SPACING)
    return Truth(samples)
