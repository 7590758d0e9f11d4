"""MVSeg as published: gzipped NIfTI volumes with a label volume beside, thin leaflets on some of the slices."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle

SHAPE = (64, 84)


def save(path: Path, slices: Any) -> None:
    """Slices (z, y, x), stored with axes x, y, z."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nibabel.nifti1.Nifti1Image(np.ascontiguousarray(slices.transpose(2, 1, 0)), np.diag([0.4, 0.5, 0.7, 1]))
    nibabel.save(volume, path)


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
            for label, mask in shapes.items():
                labels[z][mask] = 1 if label == "posterior_leaflet" else 2
            if shapes:
                masks = {label: [mask] for label, mask in shapes.items()}
                samples[f"{key}#{z:04}"] = Drawn(masks, group=case, split=split)
        if n == 3:
            samples[f"{key}#0000"] = Drawn(dropped=True, group=case, split=split)
        save(root / "MVSeg" / key, images * np.int16(3) if n % 2 else images)
        save(root / "MVSeg" / split / f"{case}-label.nii.gz", labels)
    return Truth(samples)
