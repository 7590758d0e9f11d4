"""BraTioUS as published: images of two axes as NIfTI files, some masks with a third axis of length one."""

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from us43d.specimen import Drawn, Truth, blob, speckle


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    images, labels = "imagesBraTioUS-public-dataset", "labelsBraTioUS-public-dataset"
    samples = {}
    for n in range(10 * scale):
        shape = (60 + n % 3, 80)  # rows, columns
        tumour = blob(shape, rng)
        name = f"case_{n:04}.nii.gz"
        stored = speckle(shape, [tumour], rng).T  # x, y
        mask = tumour.astype(np.uint8).T
        save(root / images / name, stored.astype(np.float32) if n % 2 else stored)
        save(root / labels / name, mask[:, :, None] if n % 4 == 3 else mask)
        samples[f"{images}/{name}"] = Drawn({"tumour": [tumour]})
    return Truth(samples)


def save(path: Path, array: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.nifti1.Nifti1Image(array, np.eye(4)), path)
