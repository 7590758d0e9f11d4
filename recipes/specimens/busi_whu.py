"""BUSI-WHU as published in version 1: BMP files in three folders, masks called <id>_anno, a table of patients beside."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

TOP = "BUSI_WHU Breast Cancer Ultrasound Image  Dataset"  # two blanks before Dataset


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for folder, split, count in (("train", "train", 6), ("valid", "val", 3), ("test", "test", 3)):
        for n in range(count * scale):
            name, shape = f"{'benign' if n % 2 else 'malignant'}_{folder}{n:04}", (96, 112 + n)
            mask = blob(shape, rng)
            image = speckle(shape, [mask], rng)
            write_image(root / TOP / folder / "img/ori" / f"{name}.bmp", np.stack([image] * 3, axis=-1))
            write_image(root / TOP / folder / "gt/ori" / f"{name}_anno.bmp", mask.astype(np.uint8) * 255)
            samples[f"{folder}/{name}.bmp"] = Drawn({"tumour": [mask]}, split=split)
    return Truth(samples)
