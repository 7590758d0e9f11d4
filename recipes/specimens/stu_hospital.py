"""STU-Hospital as published: Hospital/Test_Image_N.png at 128 × 128, mask_N.png larger and grey-edged."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    folder = root / "STU-Hospital-ba4a898d6c42fdfb5aa2b122742fd4cf6195349b" / "Hospital"
    samples = {}
    for n in range(1, 12 * scale + 1):
        side = (512, 420, 128, 500)[n % 4]
        large = blob((side, side), rng)
        mask = cv2.resize(large.astype(np.uint8), (128, 128), interpolation=cv2.INTER_NEAREST_EXACT) != 0
        grey = large.astype(np.uint8) * 255
        if n % 4:  # some files are pure 0/255; others have grey edges that half range cuts back to the shape
            edge = cv2.morphologyEx(large.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) != 0
            grey[edge & large], grey[edge & ~large] = 180, 70
        write_image(folder / f"mask_{n}.png", grey)
        write_image(folder / f"Test_Image_{n}.png", speckle((128, 128), [mask], rng))
        samples[f"Hospital/Test_Image_{n}.png"] = Drawn({"breast_lesion": [mask]})
    return Truth(samples)
