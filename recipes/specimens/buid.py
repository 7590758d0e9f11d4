"""Benign.zip and Malignant.zip unpacked: BMP, TIFF and an image of the lesion per case, names with blanks."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for kind in ("Benign", "Malignant"):
        for n in range(1, 6 * scale + 1):
            shape = (int(rng.integers(150, 180)), int(rng.integers(180, 220)))
            lesion = blob(shape, rng)
            picture = np.stack([speckle(shape, [lesion], rng)] * 3, axis=2)
            write_image(root / kind / f"{n} {kind} Image.bmp", picture)
            write_image(root / kind / f"{n} {kind} Mask.tif", lesion.astype(np.uint8) * 255)
            write_image(root / kind / f"{n} {kind} Lesion.bmp", picture * lesion[:, :, None])
            key = f"{kind}/{n} {kind} Image.bmp"
            samples[key] = Drawn({kind.lower(): [lesion]}, tags={"diagnosis": kind.lower()})
    return Truth(samples)
