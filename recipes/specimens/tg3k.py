"""TG3K in its archive: frames of several videos, numbered through, told apart by their size alone."""

import json
from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Thyroid Dataset"
    samples, number = {}, 0
    for run, width in enumerate((234, 240, 252, 260, 276, 288, 300, 325)):
        shape = (178 + 2 * run, width)
        gland = blob(shape, rng, size=0.28)
        for _ in range(3 * scale):
            name = f"{number:04}.jpg"
            write_image(top / "tg3k/thyroid-image" / name, np.stack([speckle(shape, [gland], rng)] * 3, axis=2))
            mask = gland.astype(np.uint8) * 255
            write_image(top / "tg3k/thyroid-mask" / name, mask, cv2.IMWRITE_JPEG_QUALITY, 95)
            samples[f"tg3k/thyroid-image/{name}"] = Drawn({"thyroid_gland": [gland]}, group=f"run{run:02}")
            number += 1
    cut = number * 9 // 10
    split = {"train": list(range(cut)), "val": list(range(cut, number))}
    (top / "tg3k/tg3k-trainval.json").write_text(json.dumps(split))
    write_image(top / "tn3k/test-image/0000.jpg", speckle((180, 216), [], rng))
    return Truth(samples, lossless=False)
