"""FSHD-Heckmatt as published: images and masks of the same names, which tell patient, muscle, side and grade."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for n in range(12 * scale):
        patient, muscle, side, grade = f"{100 + n // 2}", ("BB", "TA", "RF")[n % 3], "LR"[n % 2], str(1 + n % 4)
        name, shape = f"{patient}_{muscle}_{side}_{grade}.png", (96, 120 + n % 5)
        mask = blob(shape, rng)
        write_image(root / "FSHD" / "images" / name, speckle(shape, [mask], rng))
        write_image(root / "FSHD" / "masks" / name, mask.astype(np.uint8) * (255 if n % 2 else 1))
        tags = {"muscle": muscle, "side": side, "heckmatt": grade}
        samples[name] = Drawn({"muscle": [mask]}, group=patient, tags=tags)
    (root / "FSHD" / "metadata.csv").write_text("patient,age\n")
    return Truth(samples)
