"""BUS_UC as published: two levels of BUS_UC, class folders, All/ repeating them, equal names in both classes."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    top = root / "BUS_UC" / "BUS_UC"
    samples = {}
    for folder in ("Benign", "Malignant"):
        for n, name in enumerate(
            ("01.png", "02.png", "010.png", "0319.png", *(f"{k:03}.png" for k in range(20, 22 + 6 * scale)))
        ):
            shape = (int(rng.integers(150, 180)), int(rng.integers(180, 220)))
            tumour = blob(shape, rng)
            mask = tumour.astype(np.uint8) * 255
            if n == 3 and folder == "Malignant":  # one column more than its image
                mask = np.insert(mask, shape[1], 0, axis=1)
                tumour = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) != 0
            if n == 4:  # no pure white, which the published conversion takes for empty
                mask = np.minimum(mask, 250)
            picture = np.stack([speckle(shape, [tumour], rng)] * 3, axis=2)
            for place in (folder, "All"):
                write_image(top / place / "images" / name, picture)
                write_image(top / place / "masks" / name, mask)
            samples[f"{folder}/images/{name}"] = Drawn({folder.lower(): [tumour]}, tags={"diagnosis": folder.lower()})
    return Truth(samples)
