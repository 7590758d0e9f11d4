"""OpticNerveSheaths as published: patches of 256 × 256 beside the frames they were cut from, folds and code."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

SHAPE = (128, 128)  # 256 × 256 as published, half


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "Ultrasound-OpticNerveSheaths"
    samples = {}
    for n in range(10 * scale):
        name = f"US_{n:03}.png"
        nerve_and_sheath = blob(SHAPE, rng)
        labels = nerve_and_sheath.astype(np.uint8) * (255 if n % 3 == 0 else 1)
        if n % 3 == 2:  # the values are not known: one, or one for the nerve within its sheath
            labels[:, SHAPE[1] // 2 :] *= 2
        image = speckle(SHAPE, [nerve_and_sheath], rng)
        write_image(top / f"DATA/IMAGES_256/{name}", image)
        write_image(top / f"DATA/LABELS_256/{name}", labels)
        write_image(top / f"DATA/IMAGES/{name}", speckle((160, 200), [], rng))
        write_image(top / f"DATA/Paper_CV_folds/f{n % 5}/test/{name}", image)
        samples[f"IMAGES_256/{name}"] = Drawn({"nerve_and_sheath": [nerve_and_sheath]})
    for file in ("MATLAB/main.m", "PYTHON/train.py"):
        (top / file).parent.mkdir(parents=True)
        (top / file).write_text("\n")
    return Truth(samples)
