"""LUMINOUS as published: TIFF, several images of a subject, one mask or one per side, grey or RGB masks."""

from pathlib import Path

import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

LEFT, RIGHT = (0, 0, 0.5, 1), (0.5, 0, 1, 1)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for subject in (1, 2, 10, 57, 100, 109):
        for n in range(1, 2 * scale + 1):
            shape, name = (90, 120 + subject % 7), f"{subject}_{n}"
            both = n % 2 == 0
            muscles = [blob(shape, rng, 0.3, cell) for cell in ((LEFT, RIGHT) if both else ((0, 0, 1, 1),))]
            write_image(root / f"LUMINOUS_Database/B-mode/{name}_Bmode.tif", speckle(shape, muscles, rng))
            for m, muscle in enumerate(muscles, 1):
                grey = muscle.astype(np.uint8) * 255
                path = root / f"LUMINOUS_Database/Masks/{name}_Mask{m if both else ''}.tif"
                write_image(path, np.stack([grey] * 3, axis=2) if subject == 10 else grey)
            samples[f"B-mode/{name}_Bmode.tif"] = Drawn({"multifidus": muscles}, group=str(subject))
    return Truth(samples)
