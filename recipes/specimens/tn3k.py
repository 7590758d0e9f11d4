"""TN3K in its archive: Thyroid Dataset/tn3k with trainval and test both numbered from 0000, JPEG masks, TG3K and DDTI beside."""

import json
from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Thyroid Dataset"
    folder = top / "tn3k"
    samples = {}
    for subset, count in (("trainval", 15 * scale), ("test", 4 * scale)):
        rows = []
        for n in range(count):
            shape = (int(rng.integers(180, 240)), int(rng.integers(216, 300)))
            nodules = [blob(shape, rng)] if n % 5 else [
                blob(shape, rng, cell=(0, 0, 0.5, 1)), blob(shape, rng, cell=(0.5, 0, 1, 1))
            ]  # fmt: skip
            both = np.logical_or.reduce(nodules)
            write_image(folder / f"{subset}-image/{n:04}.jpg", np.stack([speckle(shape, [both], rng)] * 3, axis=2))
            write_image(folder / f"{subset}-mask/{n:04}.jpg", both.astype(np.uint8) * 255, cv2.IMWRITE_JPEG_QUALITY, 95)
            rows.append(f"{n:04}.jpg,{n % 2}")
            samples[f"tn3k/{subset}-image/{n:04}.jpg"] = Drawn(
                {"thyroid_nodule": [both]},
                split="test" if subset == "test" else "val" if n % 5 == 0 else "train",
                tags={"diagnosis": ("benign", "malignant")[n % 2]},
            )
        (folder / f"label4{subset}.csv").write_text("\n".join(rows) + "\n")
    numbers = range(15 * scale)
    for fold in range(5):
        split = {"train": [n for n in numbers if n % 5 != fold], "val": [n for n in numbers if n % 5 == fold]}
        (folder / f"tn3k-trainval-fold{fold}.json").write_text(json.dumps(split))
    (folder / "tn3k-trainval.json").write_text(json.dumps({"train": list(numbers), "val": []}))
    write_image(top / "tg3k/thyroid-image/0000.jpg", speckle((178, 234), [], rng))
    (top / "DDTI dataset").mkdir()
    (top / "DDTI dataset/DDTI.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    return Truth(samples, lossless=False)
