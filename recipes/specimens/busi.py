"""BUSI as published: names with spaces and parentheses, several masks for one image, black masks, masks in any mode."""

from pathlib import Path

import cv2
import numpy as np

from us43d.specimen import Drawn, Truth, blob, speckle, write_image

LEFT, MIDDLE, RIGHT = (0, 0, 0.33, 1), (0.33, 0, 0.66, 1), (0.66, 0, 1, 1)


def make(root: Path, rng: np.random.Generator, scale: int = 1) -> Truth:
    samples = {}
    for label, count in (("benign", 8), ("malignant", 5), ("normal", 3)):
        for n in range(1, count * scale + 1):
            shape = (int(rng.integers(120, 160)), int(rng.integers(150, 210)))
            cells = (LEFT, MIDDLE, RIGHT) if (label, n) == ("benign", 4) else (LEFT, RIGHT) if n == 2 else ()
            masks = [blob(shape, rng, 0.25, cell) for cell in cells] or [blob(shape, rng)]
            if label == "normal":
                masks = [np.zeros(shape, bool)]
            key = f"Dataset_BUSI_with_GT/{label}/{label} ({n})"
            write_image(root / f"{key}.png", np.stack([speckle(shape, masks, rng)] * 3, axis=2))
            for m, mask in enumerate(masks):
                grey = mask.astype(np.uint8) * 255
                path = root / (f"{key}_mask_{m}.png" if m else f"{key}_mask.png")
                if n % 3 == 0:
                    write_image(path, np.stack([grey] * 3, axis=2))
                else:
                    write_image(path, grey, cv2.IMWRITE_PNG_BILEVEL, n % 3 - 1)
            samples[f"{key}.png"] = Drawn({label: masks} if label != "normal" else {}, tags={"label": label})
    return Truth(samples)
