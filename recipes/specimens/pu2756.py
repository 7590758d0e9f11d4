"""PU2756 as published: a folder per patient with 1.png, below images and below masks; a table of folds."""

from pathlib import Path

import numpy as np
import openpyxl

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (96, 128)  # 480 × 640 as published, a fifth


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(12 * scale):
        patient = str(1001 + 7 * n)
        tumour = blob(SHAPE, rng)
        write_image(root / f"images/{patient}/1.png", np.stack([speckle(SHAPE, [tumour], rng)] * 3, axis=2))
        write_image(root / f"masks/{patient}/1.png", tumour.astype(np.uint8) * 255)
        samples[f"images/{patient}/1.png"] = Drawn({"tumour": [tumour]}, group=patient)
    book = openpyxl.Workbook()
    book.save(root / "five_fold_split.xlsx")
    return Truth(samples)
